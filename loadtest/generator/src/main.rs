//! `bench-generator run` sends load as stdin asks (`job.rs`); `bench-generator count` counts what stands in a log.
//!
//! `count` reads execution frames from stdin, each behind the number of its shard and its length in four bytes,
//! little-endian, and prints what all of them come to, as `run` does for answers.

use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;
use std::time::Instant;

use bench_generator::count::Counts;
use bench_generator::job::{Job, Phase, Prepared};
use bench_generator::prepare::Preparing;
use bench_generator::send::{Sender, cpu_s};
use bench_generator::wire::MESSAGE_BYTES_MAX;

fn main() -> ExitCode {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let done = match mode.as_str() {
        "run" => run(),
        "count" => count(),
        _ => Err("usage: bench-generator run|count".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-generator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut input = io::stdin().lines();
    let mut line = move || input.next().transpose().map_err(|error| error.to_string());
    // Where a job is no JSON, serde tells line and column and what was expected, and no value: not a word of a key.
    let job: Job = serde_json::from_str(&line()?.unwrap_or_default())
        .map_err(|error| format!("the job, column {}: it is not as job.rs has it", error.column()))?;
    let (mut preparing, mut lanes) = Preparing::new(job)?;
    let mut sender = Sender::connect(preparing.job())?;
    while let Some(asked) = line()? {
        let phase: Phase = serde_json::from_str(&asked).map_err(|error| format!("a phase: {error}"))?;
        let (begun, cpu_before_s) = (Instant::now(), cpu_s());
        preparing.prepare(&phase, &mut lanes);
        let commands = lanes.iter().flat_map(|lane| &lane.messages).map(|message| u64::from(message.commands)).sum();
        let (seconds, cpu_s) = (begun.elapsed().as_secs_f64(), cpu_s() - cpu_before_s);
        say(&Prepared { commands, seconds, cpu_s })?;
        match line()? {
            None => return Ok(()),
            Some(word) if word == "\"go\"" => {}
            Some(word) => return Err(format!("{word}: expected \"go\"")),
        }
        say(&sender.run(preparing.job(), &phase, &mut lanes))?;
    }
    Ok(())
}

fn say(what: &impl serde::Serialize) -> Result<(), String> {
    let text = serde_json::to_string(what).map_err(|error| error.to_string())?;
    writeln!(io::stdout(), "{text}").and_then(|()| io::stdout().flush()).map_err(|error| error.to_string())
}

fn count() -> Result<(), String> {
    let (mut input, mut counts, mut frame) = (io::stdin().lock(), Counts::default(), Vec::new());
    let failed = |error: io::Error| error.to_string();
    while !input.fill_buf().map_err(failed)?.is_empty() {
        let mut head = [0; 8];
        input.read_exact(&mut head).map_err(failed)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let len = number(4) as usize;
        if len > MESSAGE_BYTES_MAX {
            return Err(format!("a frame of {len} bytes"));
        }
        frame.resize(len, 0);
        input.read_exact(&mut frame).map_err(failed)?;
        counts.add_frame(number(0), &frame).map_err(|_| format!("a frame of shard {} is malformed", number(0)))?;
    }
    say(&counts)
}
