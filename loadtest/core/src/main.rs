//! Measures `exchange_core`; every command prints JSON, one object a line.
//!
//! `bench-core FLOW-FILE RUNS SECONDS` runs the book, as every adapter does; `bench-core PART ...` something else.

mod books;
mod json;
mod latency;
mod memory;
mod shards;
mod venue;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use bench_flow::file::Flow;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["shard", file, runs] => with_flow(file, |flow, name| {
            let runs = runs.parse().unwrap_or(1);
            println!("{}", shards::shard(flow, name, venue::SINGLE, runs).line());
            println!("{}", shards::shard(flow, name, venue::BATCHED, runs).line());
        }),
        ["nonces", file] => with_flow(file, |flow, name| {
            for validity_ms in [100, 1_000, 5_000] {
                let packing = venue::Packing { validity_ms, ..venue::SINGLE };
                println!("{}", shards::shard(flow, name, packing, 2).line());
            }
        }),
        ["latency", file] => with_flow(file, |flow, name| println!("{}", latency::latency(flow, name).line())),
        ["memory-book", most] => memory::book(most.parse().unwrap_or(1_000_000)),
        ["memory-shard", most] => memory::shard(most.parse().unwrap_or(1_000_000)),
        ["restore", orders] => memory::restore(orders.parse().unwrap_or(1_000_000)),
        _ => bench_flow::run::main::<books::Books>("exchange_core"),
    }
}

fn with_flow(file: &str, work: impl FnOnce(&Flow, &str)) -> ExitCode {
    let path = Path::new(file);
    match Flow::read(path) {
        Ok(flow) => {
            work(&flow, &path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{file}: {error}");
            ExitCode::FAILURE
        }
    }
}
