//! The crate `matchcore`: one `OrderBook` per market, commands made before the clock starts.
//!
//! It names an order by the number of the command that placed it, so the numbers of a flow are translated ahead. Its
//! outcome is a value with a vector of trades; what the benchmark wants to know is summed from it.

use std::process::ExitCode;

use bench_flow::file::{Flow, Force, Kind, Message, Total};
use bench_flow::run::{self, Engine};
use matchcore::{
    CancelCmd, Command, CommandKind, CommandMeta, CommandOutcome, CommandReport, LimitOrder, NewOrder, OrderBook,
    OrderFlags, OrderId, OrderKind, Price, Quantity, QuantityPolicy, SequenceNumber, Side, SubmitCmd, TimeInForce,
    Timestamp,
};

struct Peer(Vec<OrderBook>);

impl Engine for Peer {
    type Command = (u32, Command);

    fn prepare(flow: &Flow) -> Vec<Self::Command> {
        let mut sent = vec![0; flow.markets as usize];
        let mut placed = vec![0; usize::try_from(flow.orders).expect("fits") + 1];
        let mut prepare = |message: &Message| {
            let number = sent[message.market as usize];
            sent[message.market as usize] += 1;
            let id = usize::try_from(message.id).expect("fits");
            let kind = match message.kind {
                Kind::Place => {
                    placed[id] = number;
                    let quantity = Quantity(u64::from(message.quantity));
                    let force = if message.force == Force::Ioc { TimeInForce::Ioc } else { TimeInForce::Gtc };
                    let side = if message.buys { Side::Buy } else { Side::Sell };
                    CommandKind::Submit(SubmitCmd {
                        order: NewOrder::Limit(LimitOrder::new(
                            Price(message.price.cast_unsigned()),
                            QuantityPolicy::Standard { quantity },
                            OrderFlags::new(side, false, force),
                        )),
                    })
                }
                Kind::Cancel => {
                    CommandKind::Cancel(CancelCmd { order_id: OrderId(placed[id]), order_kind: OrderKind::Limit })
                }
                _ => unreachable!("shared flows have limit orders and cancels"),
            };
            let meta = CommandMeta { sequence_number: SequenceNumber(number), timestamp: Timestamp(number) };
            (message.market, Command { meta, kind })
        };
        flow.messages.iter().map(&mut prepare).collect()
    }

    fn new(flow: &Flow) -> Self {
        Self((0..flow.markets).map(|market| OrderBook::new(&format!("M{market}"))).collect())
    }

    fn apply(&mut self, (market, command): &Self::Command, total: &mut Total) {
        match self.0[*market as usize].execute(command) {
            CommandOutcome::Applied(CommandReport::Submit(effects)) => {
                for trade in effects.target_order().match_result().map_or(&[][..], |it| it.trades()) {
                    total.trades += 1;
                    total.quantity += trade.quantity().0;
                    total.notional = total.notional.wrapping_add(trade.price().0.wrapping_mul(trade.quantity().0));
                }
            }
            CommandOutcome::Applied(_) => {}
            CommandOutcome::Rejected(_) => total.rejected += 1,
        }
    }

    fn open(&self) -> u64 {
        self.0.iter().map(|book| book.limit().orders().len() as u64).sum()
    }
}

fn main() -> ExitCode {
    run::main::<Peer>("matchcore")
}
