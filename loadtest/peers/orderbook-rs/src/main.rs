//! The crate `orderbook-rs`: one `OrderBook` per market.
//!
//! Trades are taken from the trade listener: what an immediate-or-cancel order traded before its rest was cancelled is
//! told to nobody else. The listener must be `Sync`; on the one thread here, its counters are plain loads and stores.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bench_flow::file::{Flow, Force, Kind, Message, Total};
use bench_flow::run::{self, Engine};
use orderbook_rs::OrderBook;
use orderbook_rs::orderbook::trade::TradeListener;
use pricelevel::{Id, Side, TimeInForce};

#[derive(Default)]
struct Traded {
    trades: AtomicU64,
    quantity: AtomicU64,
    notional: AtomicU64,
}

struct Peer {
    books: Vec<OrderBook<()>>,
    traded: Arc<Traded>,
}

impl Engine for Peer {
    type Command = Message;

    fn prepare(flow: &Flow) -> Vec<Message> {
        flow.messages.clone()
    }

    fn new(flow: &Flow) -> Self {
        let traded = Arc::new(Traded::default());
        let counters = Arc::clone(&traded);
        let listener: TradeListener = Arc::new(move |result| {
            let add = |counter: &AtomicU64, more: u64| counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
            for trade in result.match_result.trades().as_vec() {
                let quantity = trade.quantity().as_u64();
                let price = u64::try_from(trade.price().as_u128()).unwrap_or(u64::MAX);
                add(&counters.trades, 1);
                add(&counters.quantity, quantity);
                add(&counters.notional, price.wrapping_mul(quantity));
            }
        });
        let books = (0..flow.markets)
            .map(|market| OrderBook::with_trade_listener(&format!("M{market}"), Arc::clone(&listener)))
            .collect();
        Self { books, traded }
    }

    fn apply(&mut self, message: &Message, total: &mut Total) {
        let book = &self.books[message.market as usize];
        let id = Id::from_u64(message.id);
        match message.kind {
            Kind::Place => {
                let price = u128::try_from(message.price).expect("prices are above 0");
                let side = if message.buys { Side::Buy } else { Side::Sell };
                let ioc = message.force == Force::Ioc;
                let force = if ioc { TimeInForce::Ioc } else { TimeInForce::Gtc };
                // The rest of an immediate-or-cancel order is told as an error; that is no refusal.
                let refused = book.add_limit_order(id, price, u64::from(message.quantity), side, force, None).is_err();
                total.rejected += u64::from(refused && !ioc);
            }
            Kind::Cancel => total.rejected += u64::from(!matches!(book.cancel_order(id), Ok(Some(_)))),
            _ => unreachable!("shared flows have limit orders and cancels"),
        }
        total.trades = self.traded.trades.load(Relaxed);
        total.quantity = self.traded.quantity.load(Relaxed);
        total.notional = self.traded.notional.load(Relaxed);
    }

    fn open(&self) -> u64 {
        self.books.iter().map(|book| book.get_all_orders().len() as u64).sum()
    }
}

fn main() -> ExitCode {
    run::main::<Peer>("orderbook-rs")
}
