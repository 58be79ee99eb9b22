//! Measures `exchange_core`; every command prints JSON, one object a line.

mod books;

use std::process::ExitCode;

fn main() -> ExitCode {
    bench_flow::run::main::<books::Books>("exchange_core")
}
