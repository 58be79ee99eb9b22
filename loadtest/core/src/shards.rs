//! `Shard` with funds, fees, nonces, events and hashes, and its parts alone.

use std::hint::black_box;
use std::time::Duration;

use bench_flow::file::Flow;
use bench_flow::run::{cpu_time, since};
use exchange_core::hashing::{chain_hash, input_hash};
use exchange_core::shard::Shard;
use exchange_core::wire::entries::parse_entry;
use exchange_core::wire::messages::{Event, ExecutionFrame, OrderFrame, SignedBatch};
use exchange_core::wire::{Message as _, decode_batch};

use crate::json::Object;
use crate::venue::{Entry, Packing, open, put_batch};

/// Run a flow on a shard several times and return what came of it.
///
/// # Panics
/// The shard refuses an entry, or two runs end in two states.
#[must_use]
pub fn shard(flow: &Flow, name: &str, packing: Packing, runs: usize) -> Object {
    let (mut fresh, mut writer) = open(flow.markets, packing);
    writer.fill_nonces(&mut fresh);
    let segments = writer.entries(flow);
    let commands: usize = segments.iter().filter(|it| it.0).map(|it| it.1).sum();
    let mut runs_ns = Vec::new();
    let mut chain = [0; 32];
    let mut last = None;
    for number in 0..=runs {
        let mut shard = fresh.clone();
        let mut out = Vec::new();
        let mut timed = Duration::ZERO;
        for (clock, _, entries) in &segments {
            let began = cpu_time();
            for entry in entries {
                out.clear();
                shard.apply(entry.n, entry.t_us, &entry.frame, &mut out).expect("a good entry");
            }
            if *clock {
                timed += since(began);
            }
        }
        if number == 0 {
            chain = shard.chain_hash();
        } else {
            assert_eq!(shard.chain_hash(), chain, "run {number} came to another chain");
            runs_ns.push(nanoseconds(timed));
        }
        last = Some(shard);
    }
    let log: Vec<&Entry> = segments.iter().flat_map(|it| &it.2).collect();
    let (answers, counts) = answers(&fresh, &log);
    let every: usize = segments.iter().map(|it| it.1).sum();
    let bytes: usize = log.iter().map(|entry| entry.frame.len()).sum();
    let answer_bytes: usize = answers.iter().map(Vec::len).sum();
    let mut parts = Object::new();
    for (part, ns) in parts_ns(&log, &answers) {
        parts = parts.number(part, ns as f64 / every as f64);
    }
    let agrees = counts.trades == flow.total.trades && counts.quantity == flow.total.quantity;
    let summary = last.expect("at least one run").summary();
    Object::new()
        .text("engine", "exchange_core shard")
        .text("flow", name)
        .text("packing", if packing.single { "512 batches of 1" } else { "32 batches of 512" })
        .integer("messages", commands as u64)
        .integer("live_nonces", summary.live_nonces as u64)
        .list("runs_ns", &runs_ns)
        .integer("trades", counts.trades)
        .integer("quantity", counts.quantity)
        .integer("rejected", counts.rejected)
        .integer("events", counts.events)
        .flag("agrees", agrees)
        .integer("replay_ns", replay_ns(&fresh, &log, &answers))
        .integer("replay_messages", every as u64)
        .number("frame_bytes_per_command", bytes as f64 / every as f64)
        .number("answer_bytes_per_command", answer_bytes as f64 / every as f64)
        .text("state", &format!("{summary:?}"))
        .object("parts_ns_per_command", parts)
}

#[derive(Default)]
struct Counts {
    trades: u64,
    quantity: u64,
    rejected: u64,
    events: u64,
}

/// Return the answers to a log and what is in them.
fn answers(fresh: &Shard, log: &[&Entry]) -> (Vec<Vec<u8>>, Counts) {
    let mut shard = fresh.clone();
    let mut counts = Counts::default();
    let answers = log
        .iter()
        .map(|entry| {
            let mut out = Vec::new();
            shard.apply(entry.n, entry.t_us, &entry.frame, &mut out).expect("a good entry");
            for event in ExecutionFrame::decode(&out).expect("an execution frame").events {
                counts.events += 1;
                match event {
                    Event::Trade(trade) => {
                        counts.trades += 1;
                        counts.quantity += trade.quantity_lots;
                    }
                    Event::CommandRejected(_) => counts.rejected += 1,
                    Event::BatchResult(result) if result.reason != 0 => counts.rejected += 1,
                    _ => {}
                }
            }
            out
        })
        .collect();
    (answers, counts)
}

/// Return the time of a replay after a restore: every entry executed and its answer compared with the log's.
fn replay_ns(fresh: &Shard, log: &[&Entry], answers: &[Vec<u8>]) -> u64 {
    let checkpoint = fresh.checkpoint();
    let mut shard = Shard::from_checkpoint(&checkpoint).expect("its own checkpoint");
    let mut out = Vec::new();
    let began = cpu_time();
    for (entry, answer) in log.iter().zip(answers) {
        out.clear();
        shard.apply(entry.n, entry.t_us, &entry.frame, &mut out).expect("a good entry");
        assert!(out == *answer, "a replay gives the same bytes");
    }
    nanoseconds(since(began))
}

/// Return what parts of the work take on their own.
fn parts_ns(log: &[&Entry], answers: &[Vec<u8>]) -> [(&'static str, u64); 5] {
    let mut commands = Vec::new();
    let parse = best_of(3, || {
        for entry in log {
            let parsed = parse_entry(&entry.frame, &mut commands).expect("a good frame");
            black_box((&parsed, &commands));
        }
    });
    let input = best_of(3, || {
        for entry in log {
            black_box(input_hash(entry.n, entry.t_us, &entry.frame));
        }
    });
    let chain = best_of(3, || {
        for answer in answers {
            black_box(chain_hash(answer));
        }
    });
    let decode = best_of(3, || {
        for entry in log {
            commands.clear();
            let frame = OrderFrame::decode(&entry.frame).expect("a good frame");
            for batch in &frame.batches {
                black_box(decode_batch(batch.payload, &mut commands).expect("a good batch"));
            }
            black_box((&frame, &commands));
        }
    });
    let both = best_of(3, || {
        let (mut again, mut bytes, mut body) = (Vec::new(), Vec::new(), Vec::new());
        for entry in log {
            commands.clear();
            again.clear();
            bytes.clear();
            let frame = OrderFrame::decode(&entry.frame).expect("a good frame");
            let mut ends = Vec::with_capacity(frame.batches.len());
            for batch in &frame.batches {
                let head = decode_batch(batch.payload, &mut commands).expect("a good batch");
                let (first, len) = (head.first as usize, head.len as usize);
                put_batch(&mut bytes, &head, &commands[first..first + len], &mut body);
                ends.push(bytes.len());
            }
            let starts = std::iter::once(&0).chain(&ends);
            let batches = starts.zip(&ends).zip(&frame.batches);
            let batches = batches.map(|((start, end), batch)| SignedBatch { payload: &bytes[*start..*end], ..*batch });
            OrderFrame { batches: batches.collect(), ..frame.clone() }.encode(&mut again);
            assert!(again == entry.frame, "canonical encoding is one");
        }
    });
    [
        ("parse and digests", parse),
        ("input hash", input),
        ("chain hash", chain),
        ("decode", decode),
        ("decode, encode", both),
    ]
}

fn best_of(times: usize, mut work: impl FnMut()) -> u64 {
    (0..times)
        .map(|_| {
            let began = cpu_time();
            work();
            nanoseconds(since(began))
        })
        .min()
        .unwrap_or(0)
}

/// Return whole nanoseconds.
#[must_use]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
