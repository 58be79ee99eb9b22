//! `OrderBook` alone, one per market, behind the trait that all engines are measured by.

use bench_flow::file::{Flow, Force, Kind, Message, Total};
use bench_flow::run::Engine;
use exchange_core::book::{OrderBook, Reject, Side, Sink, TimeInForce};

/// The books of all markets.
pub struct Books(Vec<OrderBook>);

struct Count<'a>(&'a mut Total);

impl Sink for Count<'_> {
    fn accepted(&mut self, _id: u64, _quantity: u64) {}

    fn traded(&mut self, _maker: u64, _taker: u64, price: i64, quantity: u64, _maker_open: u64) {
        self.0.trades += 1;
        self.0.quantity += quantity;
        self.0.notional = self.0.notional.wrapping_add(price.cast_unsigned().wrapping_mul(quantity));
    }

    fn cancelled(&mut self, _id: u64, _quantity: u64) {}

    fn reduced(&mut self, _id: u64, _by: u64, _open: u64) {}

    fn replaced(&mut self, _id: u64, _price: i64, _open: u64, _kept_its_place: bool) {}

    fn rejected(&mut self, _id: u64, _reason: Reject) {
        self.0.rejected += 1;
    }
}

impl Engine for Books {
    type Command = Message;

    fn prepare(flow: &Flow) -> Vec<Message> {
        flow.messages.clone()
    }

    fn new(flow: &Flow) -> Self {
        Self((0..flow.markets).map(|_| OrderBook::new()).collect())
    }

    #[inline]
    fn apply(&mut self, message: &Message, total: &mut Total) {
        let book = &mut self.0[message.market as usize];
        let sink = &mut Count(total);
        let side = if message.buys { Side::Buy } else { Side::Sell };
        let quantity = u64::from(message.quantity);
        match message.kind {
            Kind::Place => {
                let time_in_force = match message.force {
                    Force::Gtc => TimeInForce::Gtc,
                    Force::Ioc => TimeInForce::Ioc,
                    Force::Fok => TimeInForce::Fok,
                    Force::PostOnly => TimeInForce::PostOnly,
                };
                book.place(message.id, side, message.price, quantity, time_in_force, sink);
            }
            Kind::Market => book.place_market(message.id, side, quantity, sink),
            Kind::Cancel => book.cancel(message.id, sink),
            Kind::Reduce => book.reduce(message.id, quantity, sink),
            Kind::Replace => book.replace(message.id, message.price, quantity, sink),
        }
    }

    fn open(&self) -> u64 {
        self.0.iter().map(|book| book.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Books;
    use bench_flow::generate::generate;
    use bench_flow::run::{first_difference, measure};
    use bench_flow::shapes::{SHAPES, Shape};

    #[test]
    fn the_book_trades_as_the_plain_one_on_every_flow() {
        for shape in SHAPES {
            let small = Shape { resting: shape.resting.min(2_000), markets: shape.markets.min(50), ..shape };
            let flow = generate(&small, 3, 20_000);
            assert_eq!(first_difference::<Books>(&flow), None, "{}", shape.name);
            assert!(measure::<Books>(&flow, 1, 0).agrees, "{}", shape.name);
        }
    }
}
