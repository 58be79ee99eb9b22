//! Memory per resting order, and the restore of a checkpoint.
//!
//! Resident memory is read after the books have come to each size; what is reported is its growth per order from the
//! first size to each later one. The same flow that a point of the curve starts from is made as it is needed, so that
//! nothing but the engine grows.

use std::fs;
use std::process::ExitCode;

use bench_flow::dice::Dice;
use bench_flow::file::{Force, Kind, Message, Total};
use bench_flow::run::{Engine, cpu_time, since};
use exchange_core::shard::Shard;

use crate::books::Books;
use crate::json::Object;
use crate::shards::nanoseconds;
use crate::venue::{BATCHED, Writer, open};

const START_TICKS: i64 = 1_000_000;
/// Orders are put in by so many at a time.
const PART: u64 = 16_384;

/// Passive orders on a hundredth as many prices, half of them on each side.
struct Orders {
    dice: Dice,
    depth_ticks: u64,
    placed: u64,
}

impl Orders {
    fn new(most: u64) -> Self {
        Self { dice: Dice::new(1), depth_ticks: (most / 200).clamp(25, 400_000), placed: 0 }
    }

    fn next(&mut self) -> Message {
        self.placed += 1;
        let buys = self.dice.one_in(2);
        let away = 1 + i64::try_from(self.dice.below(self.depth_ticks)).expect("small");
        Message {
            id: self.placed,
            price: START_TICKS + if buys { -away } else { away },
            quantity: 1 + u32::try_from(self.dice.below(100)).expect("small"),
            market: 0,
            kind: Kind::Place,
            buys,
            force: Force::Gtc,
        }
    }
}

fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Grow something by orders and print how memory grew.
fn grow(what: &str, most: u64, mut place: impl FnMut(&[Message])) -> ExitCode {
    let mut orders = Orders::new(most);
    let first = (most / 100).max(1);
    let mut first_bytes = 0;
    for size in [1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100].map(|percent| most * percent / 100) {
        while orders.placed < size {
            let part: Vec<Message> = (0..PART.min(size - orders.placed)).map(|_| orders.next()).collect();
            place(&part);
        }
        let bytes = resident_bytes();
        if size == first {
            first_bytes = bytes;
        }
        let grown = (bytes - first_bytes.min(bytes)) as f64;
        let per_order = if size > first { grown / (size - first) as f64 } else { 0.0 };
        let line = Object::new()
            .text("memory", what)
            .integer("resting", size)
            .integer("resident_bytes", bytes)
            .number("bytes_per_order", per_order);
        println!("{}", line.line());
    }
    ExitCode::SUCCESS
}

/// Print the memory of `OrderBook` from a hundredth of `most` orders to all of them.
pub fn book(most: u64) -> ExitCode {
    let flow = bench_flow::file::Flow { markets: 1, ..Default::default() };
    let (mut books, mut total) = (Books::new(&flow), Total::default());
    grow("book", most, |part| part.iter().for_each(|message| books.apply(message, &mut total)))
}

/// Print the memory of `Shard` from a hundredth of `most` orders to all of them.
pub fn shard(most: u64) -> ExitCode {
    let (mut shard, mut writer) = open(1, BATCHED);
    // As many nonces as there will be: they grow with time, not with resting orders.
    writer.fill_nonces(&mut shard);
    let mut out = Vec::new();
    grow("shard", most, |part| place(&mut shard, &mut writer, part, &mut out))
}

fn place(shard: &mut Shard, writer: &mut Writer, part: &[Message], out: &mut Vec<u8>) {
    let entry = writer.entry(part);
    out.clear();
    shard.apply(entry.n, entry.t_us, &entry.frame, out).expect("a good entry");
}

/// Print how long a checkpoint with so many resting orders takes to write and to restore.
pub fn restore(orders: u64) -> ExitCode {
    for markets in [1, 1_000] {
        let (mut shard, mut writer) = open(markets, BATCHED);
        let mut making = Orders::new(orders / u64::from(markets));
        let mut out = Vec::new();
        while making.placed < orders {
            let part: Vec<Message> = (0..PART.min(orders - making.placed))
                .map(|_| {
                    let message = making.next();
                    Message { market: u32::try_from(message.id % u64::from(markets)).expect("few"), ..message }
                })
                .collect();
            place(&mut shard, &mut writer, &part, &mut out);
        }
        let began = cpu_time();
        let checkpoint = shard.checkpoint();
        let written_ns = nanoseconds(since(began));
        let mut runs_ns = Vec::new();
        for _ in 0..3 {
            let began = cpu_time();
            let restored = Shard::from_checkpoint(&checkpoint).expect("its own checkpoint");
            runs_ns.push(nanoseconds(since(began)));
            assert_eq!(restored.chain_hash(), shard.chain_hash());
        }
        let began = cpu_time();
        let hash = shard.state_hash();
        let hash_ns = nanoseconds(since(began));
        assert_ne!(hash, [0; 32]);
        let line = Object::new()
            .text("restore", "shard")
            .integer("markets", u64::from(markets))
            .integer("resting", shard.summary().open_orders as u64)
            .integer("checkpoint_bytes", checkpoint.len() as u64)
            .integer("write_ns", written_ns)
            .integer("state_hash_ns", hash_ns)
            .list("runs_ns", &runs_ns);
        println!("{}", line.line());
    }
    ExitCode::SUCCESS
}
