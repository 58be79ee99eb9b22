//! Order flow of one shard that one account after the other sends: each command is chosen against plain books in which
//! all commands before it were carried out.
//!
//! A few markets get most of it (weights 1/r), and so do the accounts that trade there. Orders come near the touch or
//! deeper, most end by a cancel, some are reduced or moved; a tenth take, and a few cancels come too late. An account
//! names its orders itself and acts on its own alone, so that it needs no answers to go on.

use bench_flow::dice::Dice;
use bench_flow::file::{Force, Kind, Message};
use bench_flow::naive::Books;

use crate::job;

const ZIPF_SCALE: u64 = 1_000_000_000;
/// Steps behind the touch that an order is placed at, at most.
const DEPTH_STEPS: u64 = 100;
const MOVES_ONE_IN: u64 = 64;
/// Place, post-only, cancel, reduce, move, take, cross, sweep, cancel what has ended; of 1,000.
const WEIGHTS: [u64; 9] = [370, 80, 360, 30, 40, 60, 50, 4, 6];
const SWEEP_LEVELS: usize = 8;

struct Market {
    fair: i64,
    step: i64,
    lowest: i64,
    highest: i64,
    multiple_ticks: i64,
    multiple_lots: u32,
}

struct Trader {
    user: u32,
    markets: Vec<u32>,
    market_sums: Vec<u64>,
    open: Vec<u64>,
    /// The order of its own that ended last; zero: none.
    ended: u64,
}

/// Whose an order is, its market, and where it stands in its trader's `open`; `NOWHERE`: it is not open.
#[derive(Clone, Copy)]
struct Place {
    trader: u32,
    market: u32,
    open: u32,
}

const NOWHERE: u32 = u32::MAX;

/// A flow, and the books that it leads to.
pub struct Flow {
    dice: Dice,
    books: Books,
    /// Numbers of the markets, by their place.
    pub numbers: Vec<u32>,
    markets: Vec<Market>,
    traders: Vec<Trader>,
    /// Traders of each lane, and the running sums of their weights.
    lanes: Vec<(Vec<usize>, Vec<u64>)>,
    /// By order.
    places: Vec<Place>,
    resting: u64,
    ids: u64,
}

impl Flow {
    /// Return a flow with empty books.
    ///
    /// # Errors
    /// A lane would have no user that trades here.
    pub fn new(shard: &job::Shard, users: usize, lanes: usize, seed: u64, resting: u64) -> Result<Self, String> {
        let mut traders: Vec<Trader> = (0..users)
            .map(|user| Trader {
                user: user as u32,
                markets: Vec::new(),
                market_sums: Vec::new(),
                open: Vec::new(),
                ended: 0,
            })
            .collect();
        for (place, market) in shard.markets.iter().enumerate() {
            let weight = ZIPF_SCALE / (place as u64 + 1);
            for user in &market.users {
                let trader = traders.get_mut(*user as usize).ok_or("a market names a user that is not there")?;
                trader.markets.push(place as u32);
                trader.market_sums.push(trader.market_sums.last().unwrap_or(&0) + weight);
            }
        }
        let mut divided = vec![(Vec::new(), Vec::new()); lanes];
        for (place, trader) in traders.iter().enumerate() {
            if let Some(weight) = trader.market_sums.last() {
                let (members, sums): &mut (Vec<usize>, Vec<u64>) = &mut divided[place % lanes];
                members.push(place);
                sums.push(sums.last().unwrap_or(&0) + weight);
            }
        }
        if divided.iter().any(|(members, _)| members.is_empty()) {
            return Err(format!("fewer users trade in shard {} than there are connections", shard.shard));
        }
        let markets = shard.markets.iter().map(|market| {
            let (fair, multiple) = (i64::from(market.fair_ticks), i64::from(market.multiple_ticks));
            Market {
                fair,
                step: multiple * (fair / 5_000 / multiple).max(1),
                lowest: fair * 3 / 4,
                highest: fair * 5 / 4,
                multiple_ticks: multiple,
                multiple_lots: market.multiple_lots,
            }
        });
        Ok(Self {
            dice: Dice::new(seed),
            books: Books::new(shard.markets.len() as u32),
            numbers: shard.markets.iter().map(|market| market.market).collect(),
            markets: markets.collect(),
            traders,
            lanes: divided,
            places: vec![Place { trader: 0, market: 0, open: NOWHERE }],
            resting,
            ids: 0,
        })
    }

    /// Return how many orders are still to come to rest before as many rest as should.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.resting.saturating_sub(self.books.total().open)
    }

    /// Return the trader, as this flow numbers them, of the next batch of a lane, and the user that it is.
    pub fn next_trader(&mut self, lane: usize) -> (usize, usize) {
        let (members, sums) = &self.lanes[lane];
        let trader = members[self.dice.weighted(sums)];
        (trader, self.traders[trader].user as usize)
    }

    /// Return an order of a trader that rests.
    pub fn fill(&mut self, trader: usize) -> Message {
        let market = self.market(trader);
        let (buys, quantity) = (self.dice.one_in(2), self.lots(market));
        let price = self.passive(market, buys);
        self.place(trader, market, price, quantity, buys, Force::Gtc)
    }

    /// Return the next command of a trader.
    pub fn next(&mut self, trader: usize) -> Message {
        let market = self.market(trader);
        if self.dice.one_in(MOVES_ONE_IN) {
            let up = self.dice.one_in(2);
            let market = &mut self.markets[market as usize];
            let moved = market.fair + if up { market.step } else { -market.step };
            if (market.lowest..=market.highest).contains(&moved) {
                market.fair = moved;
            }
        }
        let open = self.books.total().open;
        let mut weights = WEIGHTS;
        if open > self.resting + self.resting / 10 {
            weights[0] = 0;
            weights[1] = 0;
        }
        if open < self.resting - self.resting / 10 {
            weights[2] = 0;
        }
        let mut sum = 0;
        let sums = weights.map(|weight| {
            sum += weight;
            sum
        });
        match self.dice.weighted(&sums) {
            1 => {
                let (buys, quantity) = (self.dice.one_in(2), self.lots(market));
                let price = self.passive(market, buys);
                self.place(trader, market, price, quantity, buys, Force::PostOnly)
            }
            2 => self.cancel(trader, market),
            3 => self.reduce(trader, market),
            4 => self.reprice(trader, market),
            5 => self.take(trader, market, 1, Force::Ioc),
            6 => self.take(trader, market, 1, Force::Gtc),
            7 => {
                let levels = 2 + self.dice.place(SWEEP_LEVELS);
                self.take(trader, market, levels, Force::Ioc)
            }
            8 if self.traders[trader].ended > 0 => {
                let id = self.traders[trader].ended;
                self.change(trader, id, Kind::Cancel, 0, 0)
            }
            _ => {
                let (buys, quantity) = (self.dice.one_in(2), self.lots(market));
                let price = self.behind(market, buys);
                self.place(trader, market, price, quantity, buys, Force::Gtc)
            }
        }
    }

    fn market(&mut self, trader: usize) -> u32 {
        let trader = &self.traders[trader];
        trader.markets[self.dice.weighted(&trader.market_sums)]
    }

    fn lots(&mut self, market: u32) -> u32 {
        let lots = (1 + self.dice.below(12) as u32) * self.markets[market as usize].multiple_lots;
        if self.dice.one_in(8) { lots * 10 } else { lots }
    }

    fn behind(&mut self, market: u32, buys: bool) -> i64 {
        // The product of two even draws: half of the orders are within a fifth of the depth.
        let steps = self.dice.below(DEPTH_STEPS) * self.dice.below(DEPTH_STEPS) / DEPTH_STEPS;
        let market = &self.markets[market as usize];
        let away = market.step * (1 + steps.cast_signed());
        let price = market.fair + if buys { -away } else { away };
        price / market.multiple_ticks * market.multiple_ticks
    }

    /// Return a price behind the touch, or the best that does not trade.
    fn passive(&mut self, market: u32, buys: bool) -> i64 {
        let price = self.behind(market, buys);
        let multiple = self.markets[market as usize].multiple_ticks;
        match self.books.through(market, buys, 1) {
            Some((best, _)) if buys => price.min(best - multiple),
            Some((best, _)) => price.max(best + multiple),
            None => price,
        }
    }

    fn place(&mut self, trader: usize, market: u32, price: i64, quantity: u32, buys: bool, force: Force) -> Message {
        self.ids += 1;
        self.places.push(Place { trader: trader as u32, market, open: NOWHERE });
        self.send(trader, Message { id: self.ids, price, quantity, market, kind: Kind::Place, buys, force })
    }

    fn change(&mut self, trader: usize, id: u64, kind: Kind, price: i64, quantity: u32) -> Message {
        let buys = self.books.stands(id).1;
        self.send(trader, Message { id, price, quantity, market: 0, kind, buys, force: Force::Gtc })
    }

    /// Return an open order of a trader; None: it has none.
    fn pick(&mut self, trader: usize) -> Option<u64> {
        let open = &self.traders[trader].open;
        (!open.is_empty()).then(|| open[self.dice.place(open.len())])
    }

    fn cancel(&mut self, trader: usize, market: u32) -> Message {
        match self.pick(trader) {
            Some(id) => self.change(trader, id, Kind::Cancel, 0, 0),
            None => self.another(trader, market),
        }
    }

    /// Return an order behind the touch, for want of one that could be changed.
    fn another(&mut self, trader: usize, market: u32) -> Message {
        let (buys, quantity) = (self.dice.one_in(2), self.lots(market));
        let price = self.passive(market, buys);
        self.place(trader, market, price, quantity, buys, Force::Gtc)
    }

    fn reduce(&mut self, trader: usize, market: u32) -> Message {
        let Some(id) = self.pick(trader) else { return self.another(trader, market) };
        let multiple = u64::from(self.markets[self.places[id as usize].market as usize].multiple_lots);
        let half = (self.books.open(id) / 2 / multiple).max(1) * multiple;
        let half = half.min(self.books.open(id));
        self.change(trader, id, Kind::Reduce, 0, u32::try_from(half).unwrap_or(u32::MAX))
    }

    fn reprice(&mut self, trader: usize, market: u32) -> Message {
        let Some(id) = self.pick(trader) else { return self.another(trader, market) };
        let (price, buys) = self.books.stands(id);
        let moved = self.passive(self.places[id as usize].market, buys);
        if moved == price {
            return self.cancel(trader, market);
        }
        let open = u32::try_from(self.books.open(id)).unwrap_or(u32::MAX);
        self.change(trader, id, Kind::Replace, moved, open)
    }

    /// Return an order that trades through so many levels, or a passive one where there is nothing to trade with.
    fn take(&mut self, trader: usize, market: u32, levels: usize, force: Force) -> Message {
        let buys = self.dice.one_in(2);
        let Some((price, there)) = self.books.through(market, buys, levels) else {
            return self.another(trader, market);
        };
        let multiple = u64::from(self.markets[market as usize].multiple_lots);
        let all = u32::try_from((there / multiple).max(1) * multiple).unwrap_or(u32::MAX);
        let quantity = if levels > 1 { all } else { self.lots(market) };
        self.place(trader, market, price, quantity, buys, force)
    }

    fn send(&mut self, trader: usize, message: Message) -> Message {
        self.books.apply(&message);
        for id in std::mem::take(&mut self.books.ended) {
            let Place { trader: owner, open: place, .. } = self.places[id as usize];
            let owner = &mut self.traders[owner as usize];
            if place != NOWHERE {
                owner.open.swap_remove(place as usize);
                if let Some(moved) = owner.open.get(place as usize) {
                    self.places[*moved as usize].open = place;
                }
                self.places[id as usize].open = NOWHERE;
            }
            // An order that moved has left its place and may have another.
            if self.books.open(id) == 0 {
                owner.ended = id;
            }
        }
        if self.books.open(message.id) > 0 && self.places[message.id as usize].open == NOWHERE {
            let open = &mut self.traders[trader].open;
            self.places[message.id as usize].open = open.len() as u32;
            open.push(message.id);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn shard() -> job::Shard {
        let market = |place: u32| job::Market {
            market: 10 + place,
            fair_ticks: 5_000 + 500 * place,
            multiple_ticks: 5,
            multiple_lots: 10,
            users: (0..8).map(|user| (place + user) % 16).collect(),
        };
        job::Shard { shard: 1, markets: (0..20).map(market).collect() }
    }

    #[test]
    fn a_flow_is_realistic_and_its_traders_act_on_their_own_orders() {
        let mut flow = Flow::new(&shard(), 16, 4, 1, 1_000).expect("a flow");
        let mut owners = HashMap::new();
        while flow.missing() > 0 {
            let (trader, _) = flow.next_trader(0);
            let message = flow.fill(trader);
            owners.insert(message.id, trader);
        }
        assert_eq!(flow.books.total().trades, 0);
        let mut kinds = HashMap::new();
        for number in 0..20_000 {
            let lane = number / 64 % 4;
            let (trader, user) = flow.next_trader(lane);
            assert_eq!(user % 4, lane);
            let message = flow.next(trader);
            if message.kind == Kind::Place {
                assert_eq!((message.price % 5, message.quantity % 10), (0, 0));
                assert!(flow.traders[trader].markets.contains(&message.market));
                owners.insert(message.id, trader);
            }
            assert_eq!(owners[&message.id], trader);
            *kinds.entry(message.kind as u8).or_insert(0) += 1;
        }
        let total = flow.books.total();
        assert!((900..=1_150).contains(&total.open), "{total:?}");
        assert!(total.trades > 2_000, "{total:?}");
        assert!(total.rejected < 400, "{total:?}");
        assert!(kinds[&0] > 8_000 && kinds[&1] > 5_000 && kinds[&2] > 300 && kinds[&3] > 300, "{kinds:?}");
        assert_eq!(flow.traders.iter().map(|trader| trader.open.len() as u64).sum::<u64>(), total.open);
    }

    #[test]
    fn a_lane_without_users_is_an_error() {
        assert!(Flow::new(&shard(), 16, 17, 1, 1_000).is_err());
    }
}
