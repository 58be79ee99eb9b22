//! Makes a flow from a shape and a seed.

use crate::dice::Dice;
use crate::file::{Flow, Force, Kind, Message};
use crate::naive::Books;
use crate::shapes::Shape;

/// Price that a flow starts at, unless its depth wants more room above 0.
const START_TICKS: u64 = 1_000_000;
/// Weight of the first market; that of market r is this divided by r.
const ZIPF_SCALE: u64 = 1_000_000_000;

struct Market {
    fair: i64,
    open: Vec<u64>,
}

struct Making {
    shape: Shape,
    dice: Dice,
    books: Books,
    markets: Vec<Market>,
    market_sums: Vec<u64>,
    /// Where an order stands in the `open` of its market.
    places: Vec<usize>,
    flow: Flow,
}

/// Return a flow with so many timed messages, or up to a whole refill more. A flow with fewer messages is the beginning
/// of one with more.
///
/// # Panics
/// A shape has no markets or no weights, or there is more than memory holds.
#[must_use]
pub fn generate(shape: &Shape, seed: u64, messages: usize) -> Flow {
    let mut sum = 0;
    let market_sums = (1..=u64::from(shape.markets))
        .map(|rank| {
            sum += ZIPF_SCALE / rank;
            sum
        })
        .collect();
    let fair = START_TICKS.max(4 * shape.depth_ticks * shape.step_ticks).cast_signed();
    let mut making = Making {
        shape: *shape,
        dice: Dice::new(seed),
        books: Books::new(shape.markets),
        markets: (0..shape.markets).map(|_| Market { fair, open: Vec::new() }).collect(),
        market_sums,
        places: vec![0],
        flow: Flow { markets: shape.markets, ..Flow::default() },
    };
    let mut left = messages;
    while left > 0 {
        making.fill();
        let len = if shape.refill_every == 0 { left } else { shape.refill_every };
        for _ in 0..len {
            making.step();
        }
        making.flow.segments.push((len, true));
        left = left.saturating_sub(len);
    }
    making.flow.total = making.books.total();
    making.flow
}

impl Making {
    /// Fill the books up to what is to rest, without trades; the clock does not run.
    fn fill(&mut self) {
        let before = self.flow.messages.len();
        while self.books.total().open < self.shape.resting {
            let market = self.market();
            let (buys, quantity) = (self.dice.one_in(2), self.lots());
            let price = self.behind(market, buys);
            let price = match self.books.through(market, buys, 1) {
                Some((best, _)) if buys => price.min(best - 1),
                Some((best, _)) => price.max(best + 1),
                None => price,
            };
            self.place(market, price, quantity, buys, Force::Gtc);
        }
        self.flow.segments.push((self.flow.messages.len() - before, false));
    }

    fn step(&mut self) {
        let market = self.market();
        let shape = self.shape;
        if shape.moves_one_in > 0 && self.dice.one_in(shape.moves_one_in) {
            let by = 1 + i64::try_from(self.dice.below(3)).expect("small");
            self.markets[market as usize].fair += if self.dice.one_in(2) { by } else { -by };
        }
        let few = self.books.total().open < shape.resting * 9 / 10 && shape.refill_every == 0;
        let many = self.books.total().open > shape.resting * 11 / 10;
        let weights = [
            if many { 0 } else { shape.place },
            if few { 0 } else { shape.cancel },
            shape.take,
            shape.cross,
            if few { 0 } else { shape.sweep },
            if few { 0 } else { shape.rich },
            shape.late,
        ];
        let sums: Vec<u64> = weights
            .iter()
            .scan(0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        match self.dice.weighted(&sums) {
            1 => self.cancel(market),
            2 => self.take(market, 1, Force::Ioc),
            3 => self.take(market, 1, Force::Gtc),
            4 => {
                let levels = 5 + self.dice.place(36);
                self.take(market, levels, Force::Ioc);
            }
            5 => self.rich(market),
            6 => self.late(market),
            _ => {
                let (buys, quantity) = (self.dice.one_in(2), self.lots());
                let price = self.behind(market, buys);
                self.place(market, price, quantity, buys, Force::Gtc);
            }
        }
    }

    fn market(&mut self) -> u32 {
        if self.markets.len() == 1 {
            return 0;
        }
        u32::try_from(self.dice.weighted(&self.market_sums)).expect("few markets")
    }

    fn lots(&mut self) -> u32 {
        let lots = 1 + u32::try_from(self.dice.below(100)).expect("small");
        if self.dice.one_in(8) { lots * 10 } else { lots }
    }

    fn behind(&mut self, market: u32, buys: bool) -> i64 {
        let depth = self.shape.depth_ticks;
        let mut steps = self.dice.below(depth);
        if self.shape.near {
            // The product of two even draws: half of the orders are within a fifth of the depth.
            steps = steps * self.dice.below(depth) / depth;
        }
        let neighbour = u64::from(self.shape.pairs && self.dice.one_in(2));
        let away = ((1 + steps) * self.shape.step_ticks + neighbour).cast_signed();
        self.markets[market as usize].fair + if buys { -away } else { away }
    }

    fn place(&mut self, market: u32, price: i64, quantity: u32, buys: bool, force: Force) {
        let there = if self.shape.capped { self.books.within(market, buys, price) } else { 0 };
        let quantity = if there > 0 { quantity.min(u32::try_from(there).unwrap_or(u32::MAX)) } else { quantity };
        self.flow.orders += 1;
        self.send(Message { id: self.flow.orders, price, quantity, market, kind: Kind::Place, buys, force });
    }

    fn cancel(&mut self, market: u32) {
        if let Some(id) = self.pick(market) {
            self.change(market, id, Kind::Cancel, 0, 0);
        } else {
            let (buys, quantity) = (self.dice.one_in(2), self.lots());
            let price = self.behind(market, buys);
            self.place(market, price, quantity, buys, Force::Gtc);
        }
    }

    /// Cancel an order that has ended, or an open one where chance meets none.
    fn late(&mut self, market: u32) {
        let drawn = (0..8).map(|_| 1 + self.dice.below(self.flow.orders)).find(|id| self.books.open(*id) == 0);
        match drawn {
            Some(id) => self.change(market, id, Kind::Cancel, 0, 0),
            None => self.cancel(market),
        }
    }

    fn pick(&mut self, market: u32) -> Option<u64> {
        let open = &self.markets[market as usize].open;
        (!open.is_empty()).then(|| open[self.dice.place(open.len())])
    }

    fn change(&mut self, market: u32, id: u64, kind: Kind, price: i64, quantity: u32) {
        self.send(Message { id, price, quantity, market, kind, buys: self.books.stands(id).1, force: Force::Gtc });
    }

    /// Send an order that trades through so many levels, or a passive one where there is nothing to trade with.
    fn take(&mut self, market: u32, levels: usize, force: Force) {
        let buys = self.dice.one_in(2);
        let Some((price, there)) = self.books.through(market, buys, levels) else {
            let (price, quantity) = (self.behind(market, buys), self.lots());
            return self.place(market, price, quantity, buys, Force::Gtc);
        };
        let quantity = if levels > 1 { u32::try_from(there).unwrap_or(u32::MAX / 2) } else { self.lots() };
        self.place(market, price, quantity, buys, force);
    }

    fn rich(&mut self, market: u32) {
        let buys = self.dice.one_in(2);
        let quantity = self.lots();
        let behind = self.behind(market, buys);
        let kind = self.dice.below(5);
        match (kind, self.pick(market)) {
            (1, _) => {
                let levels = 1 + self.dice.place(3);
                let reached = self.books.through(market, buys, levels);
                self.place(market, reached.map_or(behind, |it| it.0), quantity, buys, Force::Fok);
            }
            (2, _) => {
                self.flow.orders += 1;
                let id = self.flow.orders;
                self.send(Message { id, price: 0, quantity, market, kind: Kind::Market, buys, force: Force::Ioc });
            }
            (3, Some(id)) => {
                let by = 1 + self.dice.below(self.books.open(id));
                self.change(market, id, Kind::Reduce, 0, u32::try_from(by).expect("quantities are small"));
            }
            (4, Some(id)) => {
                let (price, buys) = self.books.stands(id);
                let price = if self.dice.one_in(2) { price } else { self.behind(market, buys) };
                self.change(market, id, Kind::Replace, price, quantity);
            }
            _ => self.place(market, behind, quantity, buys, Force::PostOnly),
        }
    }

    fn send(&mut self, message: Message) {
        self.books.apply(&message);
        let id = usize::try_from(message.id).expect("ids are small");
        self.places.resize(self.places.len().max(id + 1), usize::MAX);
        for ended in self.books.ended.iter().map(|ended| usize::try_from(*ended).expect("ids are small")) {
            let place = std::mem::replace(&mut self.places[ended], usize::MAX);
            if place != usize::MAX {
                let open = &mut self.markets[message.market as usize].open;
                open.swap_remove(place);
                if let Some(moved) = open.get(place) {
                    self.places[usize::try_from(*moved).expect("ids are small")] = place;
                }
            }
        }
        if self.books.open(message.id) > 0 && self.places[id] == usize::MAX {
            let open = &mut self.markets[message.market as usize].open;
            self.places[id] = open.len();
            open.push(message.id);
        }
        self.flow.messages.push(message);
    }
}

#[cfg(test)]
mod tests {
    use super::generate;
    use crate::file::Flow;
    use crate::shapes::{SHAPES, shape};

    #[test]
    fn a_seed_gives_one_flow_and_a_shorter_one_is_its_beginning() {
        let quiet = shape("quiet").expect("a flow of that name");
        let (whole, again, part) = (generate(&quiet, 7, 500), generate(&quiet, 7, 500), generate(&quiet, 7, 100));
        assert_eq!(whole, again);
        assert_eq!(whole.messages[..part.messages.len()], part.messages);
        assert_ne!(whole.messages, generate(&quiet, 8, 500).messages);
    }

    #[test]
    fn a_flow_read_from_its_file_is_the_one_that_was_written() {
        for shape in SHAPES {
            let small =
                crate::shapes::Shape { resting: shape.resting.min(500), markets: shape.markets.min(50), ..shape };
            let flow = generate(&small, 1, 2_000);
            let path = std::env::temp_dir().join(format!("{}-{}.flow", std::process::id(), shape.name));
            flow.write(&path).expect("a file can be written");
            let read = Flow::read(&path).expect("a flow file");
            std::fs::remove_file(&path).expect("the file is there");
            assert_eq!(read, flow, "{}", shape.name);
            assert!(flow.total.trades > 0, "{} trades", shape.name);
        }
    }
}
