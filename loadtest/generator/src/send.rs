//! Sends what was prepared, in a closed or an open loop, and counts the answers as they come.
//!
//! Open loop: every message has a planned time, a thread of its own lets it go then, and latency counts from that time,
//! whatever the wait was for (no coordinated omission). Closed loop: a lane sends on when one of so many messages in
//! flight is answered; latency counts from the sending.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{JoinSet, LocalSet};

use crate::count::{Counts, PASSING_NAMES, Row};
use crate::grpc::{Connection, Failure, room, send};
use crate::job::{Job, Latency, Outcome, Phase};
use crate::prepare::{Lane, Message, now_us};
use crate::wire::{Field, Fields, Malformed};

const LATENCY_US_MAX: u64 = 600_000_000;
const DIGITS: u8 = 3;
/// What an answer may take beyond the longest wait that was asked for.
const LATE_ANSWER: Duration = Duration::from_secs(10);
/// Before a stream that the server refused is opened again.
const REOPEN_AFTER: Duration = Duration::from_millis(10);
const UNARY_IN_FLIGHT_MAX: usize = 4_096;
/// Of a lane that holds: calls that the server has no room for wait there, and are not begun when the time is over.
const UNARY_IN_FLIGHT_HELD_MAX: usize = 64;
const STREAMED_IN_FLIGHT_MAX: usize = 1 << 20;

/// What lies between two moments that follow one another: planned, sent, the eight of `EntryStages`, got.
const STAGES: usize = 10;
/// Place, behind the stages, of the latency from the planned time, in an open loop, or from the sending, to the answer:
/// of commands that were executed, and of the others.
const EXECUTED: usize = STAGES;
const NOT_EXECUTED: usize = STAGES + 1;

/// Return the processor seconds that this process has used.
#[must_use]
pub fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A message on its way. `since_us`: from when its latency counts; `left_us`: when it was sent; both by `Clock`.
struct Sent {
    since_us: u64,
    left_us: u64,
    message: Message,
}

/// What all lanes write.
struct Tally {
    counts: Counts,
    rows: Vec<Row>,
    sent: u64,
    messages: u64,
    batches: u64,
    answered: u64,
    failed: u64,
    histograms: Vec<Histogram<u64>>,
    backwards: u64,
    answered_by_second: Vec<u64>,
    errors: BTreeMap<String, u64>,
    start_us: u64,
    first_us: u64,
    last_sent_us: u64,
    last_us: u64,
}

impl Tally {
    fn new(start_us: u64) -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).expect("bounds are sound");
        Self {
            counts: Counts::default(),
            rows: Vec::new(),
            sent: 0,
            messages: 0,
            batches: 0,
            answered: 0,
            failed: 0,
            histograms: (0..=NOT_EXECUTED).map(|_| histogram()).collect(),
            backwards: 0,
            answered_by_second: Vec::new(),
            errors: BTreeMap::new(),
            start_us,
            first_us: 0,
            last_sent_us: 0,
            last_us: 0,
        }
    }

    fn send(&mut self, sent: &Sent) {
        let message = &sent.message;
        if self.messages == 0 {
            self.first_us = sent.since_us;
        }
        self.last_sent_us = sent.left_us;
        self.sent += u64::from(message.commands);
        self.messages += 1;
        self.batches += u64::from(message.batches);
    }

    fn error(&mut self, text: impl Into<String>) {
        *self.errors.entry(text.into()).or_default() += 1;
    }

    /// Take in an answer: a `SubmitResponse`.
    fn answer(&mut self, shard: u32, sent: &Sent, got_us: u64, answer: &[u8]) -> Result<(), Malformed> {
        let commands = u64::from(sent.message.commands);
        self.last_us = self.last_us.max(got_us);
        let mut rows = std::mem::take(&mut self.rows);
        let unknown = self.counts.unknown;
        self.counts.retry_after_ms = 0;
        let counted = self.counts.add_answer(shard, answer, sent.message.batch_commands(), &mut rows);
        self.answered += commands;
        if self.counts.unknown > unknown {
            self.error("an answer does not tell what became of every command");
        }
        let second = (got_us.saturating_sub(self.start_us) / 1_000_000) as usize;
        if second >= self.answered_by_second.len() {
            self.answered_by_second.resize(second + 1, 0);
        }
        self.answered_by_second[second] += commands;
        let executed: u64 = rows.iter().map(|row| row.commands).sum();
        self.record(EXECUTED, sent.since_us, got_us, executed);
        self.record(NOT_EXECUTED, sent.since_us, got_us, commands.saturating_sub(executed));
        for row in &rows {
            let [received, .., answered] = row.moments;
            self.record(0, sent.since_us, sent.left_us, row.commands);
            self.record(1, sent.left_us, received, row.commands);
            for (place, pair) in row.moments.windows(2).enumerate() {
                self.record(2 + place, pair[0], pair[1], row.commands);
            }
            self.record(STAGES - 1, answered, got_us, row.commands);
        }
        self.rows = rows;
        counted
    }

    fn record(&mut self, place: usize, from_us: u64, to_us: u64, commands: u64) {
        if from_us == 0 || to_us == 0 {
            return;
        }
        if to_us < from_us {
            self.backwards += commands;
        }
        let value = to_us.saturating_sub(from_us).clamp(1, LATENCY_US_MAX);
        self.histograms[place].record_n(value, commands).expect("within the bounds");
    }

    /// Take in that a call failed on which these were not answered.
    fn failure(&mut self, failure: &Failure, not_answered: u64) {
        if failure.says_nothing_was_sent() {
            *self.counts.refused.entry(failure.reason.clone()).or_default() += not_answered;
            if failure.retry_after_ms == 0 && PASSING_NAMES.contains(&failure.reason.as_str()) {
                self.counts.refused_without_wait += not_answered;
            }
            self.failed += not_answered;
        } else {
            self.error(failure.text.clone());
        }
    }
}

/// What time it is, and when messages may be sent.
///
/// Times are microseconds since 1970, so that they compare with those in answers. The system's clock is read once, when
/// a phase begins; from then on a monotonic clock goes on, so that no step of the other is in a latency.
struct Clock {
    begun: Instant,
    begun_us: u64,
    start_us: u64,
    ends: Instant,
    /// Microseconds between two messages of the whole run, lanes taking turns; None: a closed loop.
    gap_us: Option<f64>,
    lanes: usize,
    holds: bool,
}

impl Clock {
    fn now_us(&self) -> u64 {
        self.begun_us + self.begun.elapsed().as_micros() as u64
    }

    fn planned_us(&self, lane: usize, number: usize) -> Option<u64> {
        self.gap_us.map(|gap_us| self.start_us + ((number * self.lanes + lane) as f64 * gap_us) as u64)
    }
}

/// One lane while it sends.
struct Sending {
    place: usize,
    shard: u32,
    messages: RefCell<VecDeque<Message>>,
    taken: RefCell<usize>,
    /// A closed loop: messages that may be sent now. An open loop: messages whose time has come.
    due: Arc<Semaphore>,
    clock: Rc<Clock>,
    tally: Rc<RefCell<Tally>>,
}

impl Sending {
    /// Return the next message when it may be sent; None: the time is over, or there is no more.
    async fn next(&self) -> Option<Sent> {
        if self.messages.borrow().is_empty() {
            return None;
        }
        let until = tokio::time::Instant::from_std(self.clock.ends);
        match tokio::time::timeout_at(until, self.due.acquire()).await {
            Ok(Ok(permit)) => permit.forget(),
            // In an open loop everything whose time came before the end is sent, however late.
            _ if self.clock.gap_us.is_some()
                && !self.clock.holds
                && self.due.try_acquire().map(SemaphorePermit::forget).is_ok() => {}
            _ => return None,
        }
        if (self.clock.gap_us.is_none() || self.clock.holds) && Instant::now() >= self.clock.ends {
            return None;
        }
        let message = self.messages.borrow_mut().pop_front()?;
        let number = self.taken.replace_with(|number| *number + 1);
        let left_us = self.clock.now_us();
        let since_us = self.clock.planned_us(self.place, number).filter(|_| !self.clock.holds).unwrap_or(left_us);
        let sent = Sent { since_us, left_us, message };
        self.tally.borrow_mut().send(&sent);
        Some(sent)
    }

    /// Wait until a stream takes more where a phase holds; return whether it does before the time is over.
    async fn has_room(&self, body: &mut h2::SendStream<bytes::Bytes>) -> bool {
        let until = tokio::time::Instant::from_std(self.clock.ends);
        !self.clock.holds || matches!(tokio::time::timeout_at(until, room(body)).await, Ok(Ok(())))
    }

    fn answered(&self, sent: &Sent, answer: &[u8]) {
        let counted = self.tally.borrow_mut().answer(self.shard, sent, self.clock.now_us(), answer);
        if counted.is_err() {
            self.tally.borrow_mut().error("an answer is no SubmitResponse, or not about what was sent");
        }
        let retry_after_ms = self.tally.borrow().counts.retry_after_ms;
        self.may_send_again(retry_after_ms);
    }

    /// Let a closed loop send another message, after the wait that a refusal asks for.
    fn may_send_again(&self, after_ms: u64) {
        if self.clock.gap_us.is_some() {
            return;
        }
        let due = self.due.clone();
        if after_ms == 0 {
            return due.add_permits(1);
        }
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            due.add_permits(1);
        });
    }
}

async fn stream(lane: Rc<Sending>, connection: Connection, wait: Duration) {
    let (mut receiver, mut body) = match connection.call("SubmitStream").await {
        Ok(call) => call,
        Err(failure) => return lane.tally.borrow_mut().error(format!("no stream: {}", failure.text)),
    };
    let in_flight: Rc<RefCell<HashMap<u64, Sent>>> = Rc::default();
    let (sender, flying) = (lane.clone(), in_flight.clone());
    let sending = tokio::task::spawn_local(async move {
        while sender.has_room(&mut body).await
            && let Some(sent) = sender.next().await
        {
            let bytes = sent.message.bytes.clone();
            flying.borrow_mut().insert(sent.message.tag, sent);
            if let Err(failure) = send(&mut body, bytes, false) {
                return sender.tally.borrow_mut().error(format!("a stream takes no more: {}", failure.text));
            }
        }
        if let Err(failure) = send(&mut body, bytes::Bytes::new(), true) {
            sender.tally.borrow_mut().error(format!("a stream cannot be ended: {}", failure.text));
        }
    });
    loop {
        match tokio::time::timeout(wait, receiver.next()).await {
            Ok(Ok(Some(answer))) => match streamed(&answer) {
                Ok((tag, submit)) => match in_flight.borrow_mut().remove(&tag) {
                    Some(sent) => lane.answered(&sent, submit),
                    None => lane.tally.borrow_mut().error("an answer has a tag that no message waits for"),
                },
                Err(Malformed) => lane.tally.borrow_mut().error("an answer is no SubmitStreamResponse"),
            },
            Ok(Ok(None)) => break,
            Ok(Err(failure)) => {
                // A stream that ends says nothing about what was not answered: that is lost.
                lane.tally.borrow_mut().error(format!("a stream ended: {}", failure.text));
                break;
            }
            // Every message is answered within the wait that it asks for.
            Err(_) if in_flight.borrow().is_empty() => {}
            Err(_) => {
                lane.tally.borrow_mut().error("answers did not come in time");
                break;
            }
        }
    }
    sending.abort();
}

/// Return tag and `SubmitResponse` of a `SubmitStreamResponse`.
fn streamed(answer: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let (mut tag, mut submit): (u64, &[u8]) = (0, &[]);
    for field in Fields::new(answer) {
        match field? {
            Field::Number(1, value) => tag = value,
            Field::Bytes(2, value) => submit = value,
            _ => {}
        }
    }
    Ok((tag, submit))
}

async fn unary(lane: Rc<Sending>, connection: Connection, wait: Duration) {
    let most = if lane.clock.holds { UNARY_IN_FLIGHT_HELD_MAX } else { UNARY_IN_FLIGHT_MAX };
    let mut calls = JoinSet::new();
    loop {
        while calls.try_join_next().is_some() {}
        if calls.len() >= most {
            calls.join_next().await;
        }
        let Some(sent) = lane.next().await else { break };
        let (lane, connection) = (lane.clone(), connection.clone());
        calls.spawn_local(async move {
            match tokio::time::timeout(wait, call(&connection, sent.message.bytes.clone())).await {
                Ok(Ok(answer)) => lane.answered(&sent, &answer),
                Ok(Err(failure)) => {
                    let commands = u64::from(sent.message.commands);
                    let mut tally = lane.tally.borrow_mut();
                    tally.failure(&failure, commands);
                    if failure.says_nothing_was_sent() {
                        tally.record(NOT_EXECUTED, sent.since_us, lane.clock.now_us(), commands);
                    }
                    drop(tally);
                    lane.may_send_again(failure.retry_after_ms);
                }
                Err(_) => lane.tally.borrow_mut().error("answers did not come in time"),
            }
        });
    }
    while calls.join_next().await.is_some() {}
}

/// Call; a server that refuses the stream has not looked at it, so that it is opened again, as clients of gRPC do.
async fn call(connection: &Connection, bytes: bytes::Bytes) -> Result<bytes::Bytes, Failure> {
    loop {
        match call_once(connection, bytes.clone()).await {
            Err(failure) if failure.is_refused_stream => tokio::time::sleep(REOPEN_AFTER).await,
            done => return done,
        }
    }
}

async fn call_once(connection: &Connection, bytes: bytes::Bytes) -> Result<bytes::Bytes, Failure> {
    let (mut receiver, mut body) = connection.call("Submit").await?;
    send(&mut body, bytes, true)?;
    let nothing = || Failure::saying("a call ended well without an answer");
    let answer = receiver.next().await?.ok_or_else(nothing)?;
    match receiver.next().await? {
        None => Ok(answer),
        Some(_) => Err(Failure::saying("a call has two answers")),
    }
}

/// Connections to the traders' port, and the runtime that drives them.
pub struct Sender {
    runtime: tokio::runtime::Runtime,
    local: LocalSet,
    connections: Vec<Connection>,
}

impl Sender {
    /// Connect.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(job: &Job) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let local = LocalSet::new();
        let opened = local.block_on(&runtime, async {
            let mut opened = Vec::new();
            for place in 0..job.connections {
                let source = job.sources.get(place % job.sources.len().max(1)).copied();
                opened.push(Connection::open(&job.address, source).await.map_err(|failure| failure.text)?);
            }
            Ok::<_, String>(opened)
        });
        let connections = opened?;
        Ok(Self { runtime, local, connections })
    }

    /// Send what the lanes have for as long as a phase says, and wait for the answers. What is not sent stays in the
    /// lanes.
    pub fn run(&mut self, job: &Job, phase: &Phase, lanes: &mut [Lane]) -> Outcome {
        let longest = if phase.fill { 3_600.0 } else { phase.seconds };
        let cpu_before_s = cpu_s();
        let (begun, begun_us) = (Instant::now(), now_us());
        let open = phase.rate > 0.0 && !phase.fill;
        // An open loop begins a little later, so that all streams stand when its first message is due.
        let head = Duration::from_millis(if open { 20 } else { 0 });
        let start_us = begun_us + head.as_micros() as u64;
        let clock = Rc::new(Clock {
            begun,
            begun_us,
            start_us,
            ends: begun + head + Duration::from_secs_f64(longest),
            gap_us: open.then(|| job.commands_per_message() as f64 * 1e6 / phase.rate),
            lanes: lanes.len(),
            holds: phase.holds && open,
        });
        let tally = Rc::new(RefCell::new(Tally::new(start_us)));
        let in_flight = if open { 0 } else { job.in_flight.min(STREAMED_IN_FLIGHT_MAX) };
        let sendings: Vec<Rc<Sending>> = lanes
            .iter_mut()
            .enumerate()
            .map(|(place, lane)| {
                Rc::new(Sending {
                    place,
                    shard: lane.shard,
                    messages: RefCell::new(std::mem::take(&mut lane.messages)),
                    taken: RefCell::new(0),
                    due: Arc::new(Semaphore::new(in_flight)),
                    clock: clock.clone(),
                    tally: tally.clone(),
                })
            })
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let timekeeper = clock.gap_us.map(|gap_us| {
            let due: Vec<_> = sendings.iter().map(|sending| sending.due.clone()).collect();
            let (stop, ends) = (stop.clone(), clock.ends);
            std::thread::spawn(move || keep_time(begun + head, ends, gap_us, &due, &stop))
        });
        let wait = Duration::from_millis(u64::from(job.wait_ms_max)) + LATE_ANSWER;
        self.local.block_on(&self.runtime, async {
            let tasks: Vec<_> = sendings
                .iter()
                .zip(lanes.iter())
                .map(|(sending, lane)| {
                    let (sending, connection) = (sending.clone(), self.connections[lane.connection].clone());
                    let streams = job.stream;
                    tokio::task::spawn_local(async move {
                        if streams {
                            stream(sending, connection, wait).await;
                        } else {
                            unary(sending, connection, wait).await;
                        }
                    })
                })
                .collect();
            for task in tasks {
                if let Err(error) = task.await {
                    tally.borrow_mut().error(format!("a lane of the generator failed: {error}"));
                }
            }
        });
        stop.store(true, Ordering::Relaxed);
        if let Some(timekeeper) = timekeeper {
            timekeeper.join().expect("the time keeper does not panic");
        }
        for (sending, lane) in sendings.iter().zip(lanes.iter_mut()) {
            lane.messages = sending.messages.take();
        }
        let left = lanes.iter().flat_map(|lane| &lane.messages).map(|message| u64::from(message.commands)).sum();
        let due: usize = if phase.holds { sendings.iter().map(|lane| lane.due.available_permits()).sum() } else { 0 };
        let held_back = (due * job.per_message.max(job.per_signature)) as u64;
        Outcome { held_back, ..outcome(&tally.borrow(), left, cpu_s() - cpu_before_s) }
    }
}

/// Let one message after the other go at its time, the lanes taking turns, until the time is over.
fn keep_time(start: Instant, ends: Instant, gap_us: f64, due: &[Arc<Semaphore>], stop: &AtomicBool) {
    for number in 0_u64.. {
        let at = start + Duration::from_secs_f64(number as f64 * gap_us / 1e6);
        if at >= ends {
            return;
        }
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            return;
        }
        due[(number % due.len() as u64) as usize].add_permits(1);
    }
}

fn outcome(tally: &Tally, left: u64, cpu_s: f64) -> Outcome {
    let seconds = |until_us: u64| until_us.saturating_sub(tally.first_us) as f64 / 1e6;
    Outcome {
        sent: tally.sent,
        held_back: 0,
        messages: tally.messages,
        batches: tally.batches,
        lost: tally.sent - tally.answered - tally.failed + tally.counts.unknown,
        counts: tally.counts.clone(),
        left,
        seconds: seconds(tally.last_us),
        sending_s: seconds(tally.last_sent_us),
        cpu_s,
        memory_bytes_max: memory_bytes_max(),
        answered_by_second: tally.answered_by_second.clone(),
        latency: tally.histograms.iter().map(latency_of).collect(),
        backwards: tally.backwards,
        errors: tally.errors.clone(),
    }
}

fn latency_of(histogram: &Histogram<u64>) -> Option<Latency> {
    let quantile = |part| histogram.value_at_quantile(part);
    (!histogram.is_empty()).then(|| Latency {
        count: histogram.len(),
        mean: histogram.mean(),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        p99_9: quantile(0.999),
        max: histogram.max(),
    })
}

/// Return the largest resident memory of this process so far; zero where there is no /proc.
fn memory_bytes_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::prepare::Preparing;

    /// Accept a connection and end it when the first bytes of a call have come; returns the address.
    fn server_that_breaks_off() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (socket, _) = listener.accept().expect("a client");
                socket.set_nonblocking(true).expect("a socket");
                let socket = tokio::net::TcpStream::from_std(socket).expect("a socket");
                let mut connection = h2::server::handshake(socket).await.expect("HTTP/2");
                let (mut request, _answer) = connection.accept().await.expect("a call").expect("a call");
                let body = request.body_mut();
                tokio::select! {
                    data = body.data() => drop(data),
                    more = connection.accept() => drop(more),
                }
            });
        });
        address
    }

    #[test]
    fn what_is_not_answered_is_lost_and_said() {
        for stream in [true, false] {
            let seed = "11".repeat(32);
            let text = format!(
                r#"{{"address": "{}", "environment": "demo", "stream": {stream}, "connections": 1, "in_flight": 2,
                    "per_signature": 4, "per_message": 8, "wait_ms_max": 1000, "validity_ms": 60000, "nonce": 1,
                    "seed": 1, "resting": 50, "users": [{{"account": 1, "seed": "{seed}"}}], "shards": [{{"shard": 1,
                    "markets": [{{"market": 1, "fair_ticks": 5000, "multiple_ticks": 1, "multiple_lots": 1,
                    "users": [0]}}]}}]}}"#,
                server_that_breaks_off()
            );
            let (mut preparing, mut lanes) =
                Preparing::new(serde_json::from_str(&text).expect("a job")).expect("a job");
            let phase = Phase { commands: 80, seconds: 2.0, rate: 0.0, holds: false, fill: false };
            preparing.prepare(&phase, &mut lanes);
            let mut sender = Sender::connect(preparing.job()).expect("a connection");
            let outcome = sender.run(preparing.job(), &phase, &mut lanes);
            assert!(outcome.sent > 0);
            assert_eq!((outcome.lost, outcome.counts), (outcome.sent, Counts::default()));
            assert!(!outcome.errors.is_empty());
            assert_eq!(outcome.sent + outcome.left, 80);
        }
    }
}
