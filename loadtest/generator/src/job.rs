//! What Python asks for and gets: one JSON object a line, on stdin and stdout.
//!
//! The first line is the job. It holds private keys, so that it comes on stdin, nothing of it is ever printed, and its
//! types have no `Debug`. Every later line asks for a phase; the answer is what was prepared; a line `"go"` starts it;
//! the answer is its result. The end of stdin is the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whom to send what to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// host:port of the traders' port.
    pub address: String,
    /// Name of the environment, part of what is signed.
    pub environment: String,
    /// `SubmitStream` instead of `Submit`.
    pub stream: bool,
    /// Connections; each has a lane to every shard, and users are divided among connections.
    pub connections: usize,
    /// Messages of a lane that are not answered, at most, in a closed loop.
    pub in_flight: usize,
    /// Commands in a batch, 1 to 1,024.
    pub per_signature: usize,
    /// Commands in a message, 1 to 4,096, or one batch where that has more.
    pub per_message: usize,
    /// Longest wait for an answer, in milliseconds; 1 to 30,000.
    pub wait_ms_max: u32,
    /// How long after the planned time of its message a batch is valid, in milliseconds.
    pub validity_ms: u64,
    /// First nonce, in every shard.
    pub nonce: u64,
    /// Of the flow.
    pub seed: u64,
    /// Addresses of this machine that connections come from, taking turns; none: the system chooses.
    #[serde(default)]
    pub sources: Vec<std::net::IpAddr>,
    /// Every signature is wrong in one bit that only the equation can tell.
    #[serde(default)]
    pub forges: bool,
    /// Orders that rest in each shard.
    pub resting: u64,
    /// Who trades.
    pub users: Vec<User>,
    /// Where.
    pub shards: Vec<Shard>,
}

impl Job {
    /// Return the number of commands of each message.
    #[must_use]
    pub fn commands_per_message(&self) -> usize {
        self.per_message.max(self.per_signature)
    }
}

/// An account and the key that signs for it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Number of the account.
    pub account: u64,
    /// Private key, 64 hex digits.
    pub seed: String,
}

/// A shard and its markets, the busiest first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Number of the shard.
    pub shard: u32,
    /// Its markets.
    pub markets: Vec<Market>,
}

/// A market.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Market {
    /// Number of the market.
    pub market: u32,
    /// Price that its flow starts around.
    pub fair_ticks: u32,
    /// Prices are multiples of this.
    pub multiple_ticks: u32,
    /// Quantities are multiples of this.
    pub multiple_lots: u32,
    /// Who trades in it: places in the job's users.
    pub users: Vec<u32>,
}

/// What to do next.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Commands that are to stand signed, at least, in equal parts for all lanes; what the phase before left counts, and
    /// is sent first.
    pub commands: usize,
    /// How long to send.
    pub seconds: f64,
    /// Commands a second (open loop); zero: as fast as answers come (closed loop).
    pub rate: f64,
    /// An open loop sends nothing that the server's flow control has no room for when the time is over: the server was
    /// offered it, and did not take it. Latency counts from the sending: that of the planned time grows without end.
    #[serde(default)]
    pub holds: bool,
    /// Orders that rest alone, up to what is to rest; `commands` is not looked at.
    pub fill: bool,
}

/// What stands ready.
#[derive(Serialize)]
pub struct Prepared {
    /// Signed commands, those left from the phase before included.
    pub commands: u64,
    /// Seconds of the clock and of the processor that making and signing took.
    pub seconds: f64,
    /// See above.
    pub cpu_s: f64,
}

/// A latency, in microseconds.
#[derive(Serialize)]
pub struct Latency {
    /// Commands.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// Of 90 in 100.
    pub p90: u64,
    /// Of 99 in 100.
    pub p99: u64,
    /// Of 999 in 1,000.
    pub p99_9: u64,
    /// Largest.
    pub max: u64,
}

/// What became of a phase. Counts are of commands unless they say otherwise.
#[derive(Serialize)]
pub struct Outcome {
    /// Sent.
    pub sent: u64,
    /// Messages sent.
    pub messages: u64,
    /// Batches sent.
    pub batches: u64,
    /// What the answers say.
    pub counts: crate::count::Counts,
    /// Whose time came, and which were not sent because the server's flow control had no room for them (`Phase.holds`).
    pub held_back: u64,
    /// Of which no answer tells what became of them.
    pub lost: u64,
    /// Signed and not sent, because the time was over: they come first in the next phase.
    pub left: u64,
    /// Seconds from the first message sent (closed loop) or planned (open loop) to the last answer.
    pub seconds: f64,
    /// Seconds in which messages were sent.
    pub sending_s: f64,
    /// Processor time of this process meanwhile, and its share in the kernel.
    pub cpu_s: f64,
    /// Largest resident memory of this process so far, in bytes.
    pub memory_bytes_max: u64,
    /// Commands answered in each second.
    pub answered_by_second: Vec<u64>,
    /// By stage, as `STAGES` of `loadtest/generator_process.py` names them; None: nothing passed it.
    pub latency: Vec<Option<Latency>>,
    /// Stages that ended before they began, by the clocks of different processes; recorded as 1.
    pub backwards: u64,
    /// What went wrong, in sentences, each once, with how often.
    pub errors: BTreeMap<String, u64>,
}
