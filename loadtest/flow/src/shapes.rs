//! The flows that are measured.

/// What a flow is made of. Weights are relative to each other.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Name in tables and files.
    pub name: &'static str,
    /// One line for the reader of a table.
    pub about: &'static str,
    /// Number of markets, weighted by Zipf: market r has 1/r of the flow of the first.
    pub markets: u32,
    /// Orders that rest, over all markets, when the clock starts; the flow keeps about as many.
    pub resting: u64,
    /// How many steps behind the touch orders are placed, at most.
    pub depth_ticks: u64,
    /// Distance of neighbouring prices.
    pub step_ticks: u64,
    /// Whether every price has a neighbour one tick further, so that levels stand in pairs.
    pub pairs: bool,
    /// Whether places near the touch are more frequent; else all are as likely.
    pub near: bool,
    /// The price moves once in so many messages; 0: never.
    pub moves_one_in: u64,
    /// Limit orders behind the touch.
    pub place: u64,
    /// Cancels of a random open order.
    pub cancel: u64,
    /// Cancels of an order that has ended, which are refused.
    pub late: u64,
    /// Immediate-or-cancel orders of a few lots at the touch.
    pub take: u64,
    /// Limit orders through the touch whose rest rests.
    pub cross: u64,
    /// Immediate-or-cancel orders through 5 to 40 levels.
    pub sweep: u64,
    /// What only our engine is asked for: post-only, fill-or-kill, market, reduce, replace, one fifth each.
    pub rich: u64,
    /// No order asks for more lots than its limit price can give it at once, unless it is passive. The crate matchcore
    /// (0.4.0) trades through the limit of an order that does, so that without this it cannot be compared.
    pub capped: bool,
    /// The clock stops after so many messages while the books are filled up again; 0: never.
    pub refill_every: usize,
}

const PLAIN: Shape = Shape {
    name: "",
    about: "",
    markets: 1,
    resting: 1_000,
    depth_ticks: 100,
    step_ticks: 1,
    pairs: false,
    near: true,
    moves_one_in: 0,
    place: 48,
    cancel: 48,
    late: 0,
    take: 4,
    cross: 0,
    sweep: 0,
    rich: 0,
    capped: true,
    refill_every: 0,
};

/// All flows with a name.
pub const SHAPES: [Shape; 12] = [
    Shape { name: "quiet", about: "adds and cancels near the touch, 4 % take; 1,000 resting", ..PLAIN },
    Shape {
        name: "volatile",
        about: "the price moves at every 4th message, 30 % cross or take; 1,000 resting",
        depth_ticks: 50,
        moves_one_in: 4,
        place: 40,
        cancel: 30,
        take: 15,
        cross: 15,
        capped: false,
        ..PLAIN
    },
    Shape {
        name: "deep",
        about: "100,000 resting over 100,000 prices, most alone at theirs",
        resting: 100_000,
        depth_ticks: 50_000,
        near: false,
        ..PLAIN
    },
    Shape {
        name: "sparse",
        about: "as deep, neighbouring prices 64 ticks apart",
        resting: 100_000,
        depth_ticks: 50_000,
        step_ticks: 64,
        near: false,
        ..PLAIN
    },
    Shape {
        name: "pairs",
        about: "as sparse, every price with a neighbour a tick further",
        resting: 100_000,
        depth_ticks: 25_000,
        step_ticks: 64,
        pairs: true,
        near: false,
        ..PLAIN
    },
    Shape {
        name: "late",
        about: "as quiet with 10,000 resting, and one message in 5 cancels an order that has ended",
        resting: 10_000,
        place: 39,
        cancel: 37,
        late: 20,
        ..PLAIN
    },
    Shape {
        name: "cancels",
        about: "95 % of messages cancel a random order of 100,000 to 14,000 resting",
        resting: 100_000,
        depth_ticks: 1_000,
        place: 4,
        cancel: 95,
        take: 1,
        refill_every: 95_000,
        ..PLAIN
    },
    Shape {
        name: "sweeps",
        about: "immediate-or-cancel orders through 5 to 40 levels; 20,000 resting on 10,000 prices",
        resting: 20_000,
        depth_ticks: 5_000,
        near: false,
        place: 85,
        cancel: 12,
        take: 0,
        sweep: 3,
        ..PLAIN
    },
    Shape {
        name: "static",
        about: "two-sided book, 100,000 resting on 1,000 prices, adds and cancels anywhere in it",
        resting: 100_000,
        depth_ticks: 500,
        near: false,
        place: 49,
        cancel: 49,
        take: 2,
        ..PLAIN
    },
    MARKETS,
    Shape { name: "markets-21000", markets: 21_000, about: "as markets-1 over 21,000 books, Zipf", ..MARKETS },
    Shape {
        name: "rich",
        about: "ours only: all of the above and post-only, fill-or-kill, market, reduce, replace",
        resting: 20_000,
        depth_ticks: 200,
        moves_one_in: 64,
        place: 25,
        cancel: 25,
        take: 5,
        cross: 4,
        sweep: 1,
        rich: 40,
        late: 3,
        capped: false,
        ..PLAIN
    },
];

const MARKETS: Shape = Shape {
    name: "markets-1",
    about: "one book, 100,000 resting, 12 % cross or take",
    resting: 100_000,
    depth_ticks: 100,
    place: 46,
    cancel: 42,
    take: 6,
    cross: 6,
    ..PLAIN
};

/// Return the flow of a point of the curve: `resting` orders on a hundredth as many prices.
#[must_use]
pub fn curve(resting: u64) -> Shape {
    Shape {
        name: "curve",
        about: "adds and cancels anywhere in a two-sided book, 2 % take",
        resting,
        depth_ticks: (resting / 200).max(25),
        near: false,
        place: 49,
        cancel: 49,
        take: 2,
        ..PLAIN
    }
}

/// Return a shape by its name; `curve-N` is a point of the curve.
#[must_use]
pub fn shape(name: &str) -> Option<Shape> {
    match name.strip_prefix("curve-") {
        Some(resting) => resting.parse().ok().map(curve),
        None => SHAPES.iter().find(|shape| shape.name == name).copied(),
    }
}
