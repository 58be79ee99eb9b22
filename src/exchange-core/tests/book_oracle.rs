//! The book against a slow one that is obviously right, over random messages with a printed seed.

use exchange_core::book::{OPEN_MAX, OrderBook, QUANTITY_MAX, Reject, Side, Sink, TimeInForce};

/// xorshift64*: a fixed sequence for a seed, on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[derive(Debug, PartialEq, Clone)]
enum Report {
    Accepted(u64, u64),
    Traded(u64, u64, i64, u64, u64),
    Cancelled(u64, u64),
    Reduced(u64, u64, u64),
    Replaced(u64, i64, u64, bool),
    Rejected(u64, Reject),
}

#[derive(Default)]
struct Reports(Vec<Report>);

impl Sink for Reports {
    fn accepted(&mut self, id: u64, quantity: u64) {
        self.0.push(Report::Accepted(id, quantity));
    }
    fn traded(&mut self, maker: u64, taker: u64, price: i64, quantity: u64, maker_open: u64) {
        self.0.push(Report::Traded(maker, taker, price, quantity, maker_open));
    }
    fn cancelled(&mut self, id: u64, quantity: u64) {
        self.0.push(Report::Cancelled(id, quantity));
    }
    fn reduced(&mut self, id: u64, by: u64, open: u64) {
        self.0.push(Report::Reduced(id, by, open));
    }
    fn replaced(&mut self, id: u64, price: i64, open: u64, kept_its_place: bool) {
        self.0.push(Report::Replaced(id, price, open, kept_its_place));
    }
    fn rejected(&mut self, id: u64, reason: Reject) {
        self.0.push(Report::Rejected(id, reason));
    }
}

#[derive(Clone, Debug)]
struct Open {
    id: u64,
    side: Side,
    price: i64,
    quantity: u64,
    post_only: bool,
}

/// All open orders in the order in which they came to the book.
#[derive(Default)]
struct Naive {
    orders: Vec<Open>,
    reports: Vec<Report>,
}

impl Naive {
    fn better(side: Side, a: i64, b: i64) -> bool {
        if side == Side::Buy { a > b } else { a < b }
    }

    fn best(&self, side: Side) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (place, order) in self.orders.iter().enumerate().filter(|(_, order)| order.side == side) {
            if best.is_none_or(|best| Self::better(side, order.price, self.orders[best].price)) {
                best = Some(place);
            }
        }
        best
    }

    fn meets(side: Side, price: i64, other: i64) -> bool {
        if side == Side::Buy { price >= other } else { price <= other }
    }

    fn fillable(&self, side: Side, price: i64, quantity: u64) -> bool {
        let there = |order: &&Open| order.side != side && Self::meets(side, price, order.price);
        self.orders.iter().filter(there).map(|order| order.quantity).sum::<u64>() >= quantity
    }

    fn open(&self) -> u64 {
        self.orders.iter().map(|order| order.quantity).sum()
    }

    fn place(&mut self, id: u64, side: Side, price: i64, quantity: u64, time_in_force: TimeInForce) {
        if quantity == 0 || quantity > QUANTITY_MAX {
            return self.reports.push(Report::Rejected(id, Reject::InvalidQuantity));
        }
        let rests = matches!(time_in_force, TimeInForce::Gtc | TimeInForce::PostOnly);
        if rests && self.open() + quantity > OPEN_MAX {
            return self.reports.push(Report::Rejected(id, Reject::TooMuchOpen));
        }
        if self.orders.iter().any(|order| order.id == id) {
            return self.reports.push(Report::Rejected(id, Reject::DuplicateId));
        }
        if time_in_force == TimeInForce::PostOnly && self.fillable(side, price, 1) {
            return self.reports.push(Report::Rejected(id, Reject::PostOnlyWouldTrade));
        }
        if time_in_force == TimeInForce::Fok && !self.fillable(side, price, quantity) {
            return self.reports.push(Report::Rejected(id, Reject::FokNotFillable));
        }
        self.reports.push(Report::Accepted(id, quantity));
        self.trade(id, side, price, quantity, rests, time_in_force == TimeInForce::PostOnly);
    }

    fn trade(&mut self, id: u64, side: Side, price: i64, mut quantity: u64, rests: bool, post_only: bool) {
        while quantity > 0 {
            let Some(place) = self.best(side.opposite()) else { break };
            let maker = &mut self.orders[place];
            if !Self::meets(side, price, maker.price) {
                break;
            }
            let traded = quantity.min(maker.quantity);
            maker.quantity -= traded;
            quantity -= traded;
            self.reports.push(Report::Traded(maker.id, id, maker.price, traded, maker.quantity));
            if maker.quantity == 0 {
                self.orders.remove(place);
            }
        }
        if quantity > 0 && rests {
            self.orders.push(Open { id, side, price, quantity, post_only });
        } else if quantity > 0 {
            self.reports.push(Report::Cancelled(id, quantity));
        }
    }

    fn find(&mut self, id: u64) -> Option<usize> {
        let place = self.orders.iter().position(|order| order.id == id);
        if place.is_none() {
            self.reports.push(Report::Rejected(id, Reject::UnknownOrder));
        }
        place
    }

    fn cancel(&mut self, id: u64) {
        if let Some(place) = self.find(id) {
            let order = self.orders.remove(place);
            self.reports.push(Report::Cancelled(id, order.quantity));
        }
    }

    fn reduce(&mut self, id: u64, by: u64) {
        let Some(place) = self.find(id) else { return };
        if by == 0 {
            self.reports.push(Report::Rejected(id, Reject::InvalidQuantity));
        } else if by >= self.orders[place].quantity {
            self.cancel(id);
        } else {
            self.orders[place].quantity -= by;
            self.reports.push(Report::Reduced(id, by, self.orders[place].quantity));
        }
    }

    fn replace(&mut self, id: u64, price: i64, quantity: u64) {
        if quantity == 0 || quantity > QUANTITY_MAX {
            return self.reports.push(Report::Rejected(id, Reject::InvalidQuantity));
        }
        let Some(place) = self.find(id) else { return };
        let keeps = self.orders[place].price == price && quantity <= self.orders[place].quantity;
        let Open { side, post_only, .. } = self.orders[place];
        if !keeps && self.open() - self.orders[place].quantity + quantity > OPEN_MAX {
            return self.reports.push(Report::Rejected(id, Reject::TooMuchOpen));
        }
        if !keeps && post_only && self.fillable(side, price, 1) {
            return self.reports.push(Report::Rejected(id, Reject::PostOnlyWouldTrade));
        }
        self.reports.push(Report::Replaced(id, price, quantity, keeps));
        if keeps {
            self.orders[place].quantity = quantity;
        } else {
            let order = self.orders.remove(place);
            self.trade(id, order.side, price, quantity, true, post_only);
        }
    }

    fn levels(&self, side: Side) -> Vec<(i64, u64)> {
        let mut levels: Vec<(i64, u64)> = Vec::new();
        for order in self.orders.iter().filter(|order| order.side == side) {
            match levels.iter_mut().find(|level| level.0 == order.price) {
                Some(level) => level.1 += order.quantity,
                None => levels.push((order.price, order.quantity)),
            }
        }
        levels.sort_by_key(|level| if side == Side::Buy { -i128::from(level.0) } else { i128::from(level.0) });
        levels
    }
}

/// Play random messages; `spread` is the number of prices that orders use, `step` their distance, `lot` what quantities
/// are multiples of. Return how often too much was open.
fn play(seed: u64, messages: u64, spread: u64, step: i64, lot: u64, open_max: usize) -> usize {
    let mut random = Random(seed);
    let (mut book, mut naive, mut reports) = (OrderBook::new(), Naive::default(), Reports::default());
    let (mut most_open, mut too_much) = (0, 0);
    for id in 1..=messages {
        most_open = most_open.max(book.len());
        let any = naive.orders.get(random.below(naive.orders.len().max(1) as u64) as usize).map_or(0, |order| order.id);
        let side = if random.below(2) == 0 { Side::Buy } else { Side::Sell };
        let offset = random.below(spread).cast_signed() - spread.cast_signed() / 2;
        // Most orders come to wait: bids below, asks above.
        let away = if side == Side::Buy { -offset.abs() } else { offset.abs() };
        let price = if random.below(24) == 0 { offset } else { away }.saturating_mul(step);
        let quantity = random.below(20) * lot;
        let full = naive.orders.len() >= open_max;
        match random.below(if full { 28 } else { 12 }) {
            0..=6 => {
                let kinds =
                    [TimeInForce::Gtc, TimeInForce::Gtc, TimeInForce::Ioc, TimeInForce::Fok, TimeInForce::PostOnly];
                let kind = kinds[random.below(5) as usize];
                book.place(id, side, price, quantity, kind, &mut reports);
                naive.place(id, side, price, quantity, kind);
            }
            7 if random.below(3) == 0 => {
                let worst = if side == Side::Buy { i64::MAX } else { i64::MIN };
                book.place_market(id, side, quantity, &mut reports);
                naive.place(id, side, worst, quantity, TimeInForce::Ioc);
            }
            8 => {
                book.place(any, side, price, quantity, TimeInForce::Gtc, &mut reports);
                naive.place(any, side, price, quantity, TimeInForce::Gtc);
            }
            9 => {
                book.reduce(any, quantity, &mut reports);
                naive.reduce(any, quantity);
            }
            10 => {
                book.replace(any, price, quantity, &mut reports);
                naive.replace(any, price, quantity);
            }
            _ => {
                book.cancel(any, &mut reports);
                naive.cancel(any);
            }
        }
        assert_eq!(reports.0, naive.reports, "seed {seed}, message {id}");
        too_much += reports.0.iter().filter(|one| matches!(one, Report::Rejected(_, Reject::TooMuchOpen))).count();
        reports.0.clear();
        naive.reports.clear();
        assert_eq!(book.len(), naive.orders.len(), "seed {seed}, message {id}");
        if id % 16 == 0 {
            for side in [Side::Buy, Side::Sell] {
                let levels = naive.levels(side);
                assert_eq!(book.levels(side).collect::<Vec<_>>(), levels, "seed {seed}, message {id}");
                let best = if side == Side::Buy { book.best_bid() } else { book.best_ask() };
                assert_eq!(best, levels.first().copied());
                for &(price, quantity) in &levels {
                    assert_eq!(book.depth_at(side, price), quantity);
                }
                assert_eq!(
                    book.depth_at(side, price ^ 1),
                    levels.iter().find(|one| one.0 == price ^ 1).map_or(0, |one| one.1)
                );
            }
        }
    }
    assert!(most_open * 2 >= open_max, "only {most_open} orders were open together");
    too_much
}

#[test]
fn a_narrow_book_equals_the_naive_one() {
    for seed in 1..=40 {
        play(seed * 7919, 4_000, 8, 1, 1, 40);
    }
}

#[test]
fn a_deep_book_of_many_levels_equals_the_naive_one() {
    for seed in 1..=4 {
        play(seed * 104_729, 20_000, 4_000, 3, 1, 1_000);
    }
}

#[test]
fn prices_at_the_ends_of_their_range_equal_the_naive_ones() {
    for seed in 1..=10 {
        play(seed * 15_485_863, 2_000, 5, i64::MAX, 1, 50);
    }
}

#[test]
fn a_book_as_full_as_sums_allow_equals_the_naive_one() {
    let lot = QUANTITY_MAX / 18;
    let too_much = play(32_452_843, 60_000, 4_000, 3, lot, 2_000);
    assert!(too_much > 100, "only {too_much} orders were too much");
}

#[test]
fn a_full_book_takes_the_orders_that_only_take_lots_away() {
    let (mut book, mut reports) = (OrderBook::new(), Reports::default());
    let (whole, rest) = (OPEN_MAX / QUANTITY_MAX, OPEN_MAX % QUANTITY_MAX);
    for id in 1..=whole {
        book.place(id, Side::Sell, 10, QUANTITY_MAX, TimeInForce::Gtc, &mut reports);
    }
    book.place(whole + 1, Side::Sell, 10, rest, TimeInForce::PostOnly, &mut reports);
    assert_eq!(book.depth_at(Side::Sell, 10), OPEN_MAX);
    reports.0.clear();
    let next = whole + 2;
    for kind in [TimeInForce::Gtc, TimeInForce::PostOnly] {
        book.place(next, Side::Buy, 9, 1, kind, &mut reports);
    }
    let refused = Report::Rejected(next, Reject::TooMuchOpen);
    assert_eq!(reports.0, [refused.clone(), refused]);
    reports.0.clear();
    book.place(next, Side::Buy, 10, 3, TimeInForce::Ioc, &mut reports);
    book.place(next, Side::Buy, 10, 2, TimeInForce::Fok, &mut reports);
    book.place_market(next, Side::Buy, 1, &mut reports);
    let traded = |lots, open| [Report::Accepted(next, lots), Report::Traded(1, next, 10, lots, QUANTITY_MAX - open)];
    assert_eq!(reports.0, [traded(3, 3), traded(2, 5), traded(1, 6)].concat());
}
