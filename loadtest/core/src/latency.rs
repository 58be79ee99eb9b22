//! Latency of single messages on the book alone.
//!
//! The time stamp counter is read before and after each message, each time behind a fence that lets no instruction
//! cross (`lfence; rdtsc`). What two readings with nothing between them take, the median of a million, is subtracted.
//! The fences keep one message from overlapping with the next, which the throughput has and this has not.

use std::time::{Duration, Instant};

use bench_flow::file::{Flow, Total};
use bench_flow::run::Engine;

use crate::books::Books;
use crate::json::Object;

#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    use std::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: every x86-64 processor has both instructions, and neither touches memory.
    unsafe {
        _mm_lfence();
        let ticks = _rdtsc();
        _mm_lfence();
        ticks
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    crate::shards::nanoseconds(START.get_or_init(Instant::now).elapsed())
}

/// Return percentiles of the time of a message, in nanoseconds.
#[must_use]
pub fn latency(flow: &Flow, name: &str) -> Object {
    let (began, first) = (Instant::now(), ticks());
    while began.elapsed() < Duration::from_millis(50) {}
    let ticks_per_ns = (ticks() - first) as f64 / began.elapsed().as_nanos() as f64;
    let mut empty: Vec<u64> = (0..1_000_000)
        .map(|_| {
            let began = ticks();
            ticks() - began
        })
        .collect();
    let overhead = *empty.select_nth_unstable(500_000).1;
    let mut books = Books::new(flow);
    let mut total = Total::default();
    let mut taken = Vec::with_capacity(flow.messages.len());
    let mut rest = &flow.messages[..];
    for (len, timed) in &flow.segments {
        let (segment, later) = rest.split_at(*len);
        rest = later;
        for message in segment {
            let began = ticks();
            books.apply(message, &mut total);
            let took = ticks() - began;
            if *timed {
                taken.push(took.saturating_sub(overhead));
            }
        }
    }
    taken.sort_unstable();
    let at = |per_million: usize| {
        let place = (taken.len() - 1) * per_million / 1_000_000;
        (taken[place] as f64 / ticks_per_ns).round() as u64
    };
    Object::new()
        .text("engine", "exchange_core")
        .text("latency", name)
        .integer("messages", taken.len() as u64)
        .integer("overhead_ns", (overhead as f64 / ticks_per_ns).round() as u64)
        .integer("p50_ns", at(500_000))
        .integer("p90_ns", at(900_000))
        .integer("p99_ns", at(990_000))
        .integer("p99_9_ns", at(999_000))
        .integer("p99_99_ns", at(999_900))
        .integer("max_ns", at(1_000_000))
}
