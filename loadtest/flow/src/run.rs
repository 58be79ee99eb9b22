//! Times an engine on a flow and prints what came of it as JSON, one line.

use std::env;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::file::{Flow, Total};
use crate::naive::Books;

/// Return the processor time that this process has used.
///
/// It is what all engines are measured by: on an idle machine it is the time on the clock, and on a busy one it leaves
/// out the time of others. Helper threads of a runtime, such as a garbage collector's, count.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Return the processor time used since an earlier reading.
#[must_use]
pub fn since(began: Duration) -> Duration {
    cpu_time().saturating_sub(began)
}

/// An engine with empty books.
pub trait Engine: Sized {
    /// A message as the engine wants it.
    type Command;

    /// Return the messages of a flow as the engine wants them; the clock does not run.
    fn prepare(flow: &Flow) -> Vec<Self::Command>;

    /// Return an engine with room for a flow.
    fn new(flow: &Flow) -> Self;

    /// Carry out a command and add what came of it to the total; `open` is not looked at.
    fn apply(&mut self, command: &Self::Command, total: &mut Total);

    /// Return the number of open orders.
    fn open(&self) -> u64;
}

/// What a run measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Messages while the clock ran.
    pub messages: usize,
    /// Processor time of each run, in nanoseconds.
    pub runs_ns: Vec<u64>,
    /// What all messages came to, the same in every run.
    pub total: Total,
    /// Whether that is what the flow says, except for `rejected`.
    pub agrees: bool,
}

/// Run an engine on a flow several times, each on fresh books after one run that is not counted.
///
/// Stops early when `seconds` are over, but not before one run was counted.
///
/// # Panics
/// Two runs come to different totals.
#[must_use]
pub fn measure<E: Engine>(flow: &Flow, runs: usize, seconds: u64) -> Measured {
    let messages = flow.segments.iter().filter(|segment| segment.1).map(|segment| segment.0).sum();
    let mut measured = Measured { messages, runs_ns: Vec::new(), total: Total::default(), agrees: false };
    let commands = E::prepare(flow);
    let started = Instant::now();
    for number in 0..=runs {
        let mut engine = E::new(flow);
        let (mut total, mut timed) = (Total::default(), Duration::ZERO);
        let mut rest = &commands[..];
        for (len, clock) in &flow.segments {
            let (segment, later) = rest.split_at(*len);
            rest = later;
            let began = cpu_time();
            for command in segment {
                engine.apply(command, &mut total);
            }
            if *clock {
                timed += since(began);
            }
        }
        total.open = engine.open();
        if number == 0 {
            measured.total = total;
        } else {
            assert_eq!(total, measured.total, "run {number} came to another total");
            measured.runs_ns.push(u64::try_from(timed.as_nanos()).unwrap_or(u64::MAX));
        }
        if number > 0 && started.elapsed().as_secs() >= seconds {
            break;
        }
    }
    measured.agrees = Total { rejected: flow.total.rejected, ..measured.total } == flow.total;
    measured
}

/// Return the number of the first message after which an engine's trades are others than those of `naive`.
#[must_use]
pub fn first_difference<E: Engine>(flow: &Flow) -> Option<usize> {
    let (mut engine, mut total, mut books) = (E::new(flow), Total::default(), Books::new(flow.markets));
    E::prepare(flow).iter().zip(&flow.messages).position(|(command, message)| {
        engine.apply(command, &mut total);
        books.apply(message);
        let expected = books.total();
        (total.trades, total.quantity, total.notional) != (expected.trades, expected.quantity, expected.notional)
    })
}

impl Measured {
    /// Return one line of JSON, the same for every engine.
    #[must_use]
    pub fn to_json(&self, engine: &str, flow: &str) -> String {
        let mut runs = String::new();
        for (number, ns) in self.runs_ns.iter().enumerate() {
            let _ = write!(runs, "{}{ns}", if number > 0 { "," } else { "" });
        }
        let Total { trades, quantity, notional, rejected, open } = self.total;
        let Self { messages, agrees, .. } = self;
        format!(
            "{{\"engine\":\"{engine}\",\"flow\":\"{flow}\",\"messages\":{messages},\"runs_ns\":[{runs}],\
             \"trades\":{trades},\"quantity\":{quantity},\"notional\":{notional},\"rejected\":{rejected},\
             \"open\":{open},\"agrees\":{agrees}}}"
        )
    }
}

/// Do what every adapter of an engine does: `ADAPTER FLOW-FILE RUNS SECONDS`; with 0 runs, print the first message
/// that the engine and `naive` do not agree on.
#[must_use]
pub fn main<E: Engine>(engine: &str) -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let [_, file, runs, seconds] = &arguments[..] else {
        eprintln!("usage: {} FLOW-FILE RUNS SECONDS", arguments[0]);
        return ExitCode::from(2);
    };
    let (Ok(runs), Ok(seconds)) = (runs.parse(), seconds.parse()) else {
        eprintln!("RUNS and SECONDS are numbers");
        return ExitCode::from(2);
    };
    let path = Path::new(file);
    match Flow::read(path) {
        Ok(flow) if runs == 0 => {
            match first_difference::<E>(&flow) {
                Some(number) => println!("message {number}: {:?}", flow.messages[number]),
                None => println!("no difference"),
            }
            ExitCode::SUCCESS
        }
        Ok(flow) => {
            let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
            println!("{}", measure::<E>(&flow, runs, seconds).to_json(engine, &name));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{file}: {error}");
            ExitCode::FAILURE
        }
    }
}
