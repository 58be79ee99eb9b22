//! Makes and signs messages ahead of their time.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

use crate::flow::Flow;
use crate::job::{Job, Phase};
use crate::wire::{put_batch_head, put_bytes, put_command, put_number, put_varint};

const KEY_TAG: &[u8] = b"clob.v1.Key\0";
const BATCH_TAG: &[u8] = b"clob.v1.Batch\0";
const COMMANDS_PER_SIGNATURE_MAX: usize = 1_024;
const COMMANDS_PER_MESSAGE_MAX: usize = 4_096;

/// Return the time in microseconds since 1970.
#[must_use]
pub fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// A message that is ready to be sent.
pub struct Message {
    /// Length and bytes of a `SubmitRequest` or `SubmitStreamRequest`, as gRPC has them.
    pub bytes: Bytes,
    /// Its number in its lane, and the tag of a streamed one.
    pub tag: u64,
    /// Batches.
    pub batches: u32,
    /// Commands of each batch, the last one excepted.
    pub per_signature: u32,
    /// Commands in all.
    pub commands: u32,
}

impl Message {
    /// Return the number of commands of each batch.
    pub fn batch_commands(&self) -> impl Iterator<Item = usize> + use<> {
        let (whole, commands) = (self.per_signature as usize, self.commands as usize);
        (0..self.batches as usize).map(move |batch| whole.min(commands - batch * whole))
    }
}

/// Messages of one connection to one shard, in the order in which they are sent.
pub struct Lane {
    /// Number of the shard.
    pub shard: u32,
    /// Place of the connection.
    pub connection: usize,
    /// What is to be sent.
    pub messages: VecDeque<Message>,
    tags: u64,
}

/// An account and its key.
pub struct Trader {
    account: u64,
    key: SigningKey,
    key_id: [u8; 16],
}

impl Trader {
    /// Return an account and its key.
    #[must_use]
    pub fn new(account: u64, seed: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&seed);
        let digest = Sha256::new().chain_update(KEY_TAG).chain_update(key.verifying_key().as_bytes()).finalize();
        Self { account, key, key_id: std::array::from_fn(|place| digest[place]) }
    }

    /// Append a `SignedBatch`, as `SubmitRequest.batches` has it. `signed` starts with tag and environment; what comes
    /// after them is the payload.
    fn put_signed(&self, out: &mut Vec<u8>, signed: &[u8], payload_at: usize) {
        let signature = self.key.sign(signed);
        let mut batch = Vec::with_capacity(signed.len() + 96);
        put_bytes(&mut batch, 1, &self.key_id);
        put_bytes(&mut batch, 2, &signed[payload_at..]);
        put_bytes(&mut batch, 3, &signature.to_bytes());
        put_bytes(out, 6, &batch);
    }
}

/// Flows of all shards, and who signs them.
pub struct Preparing {
    job: Job,
    traders: Vec<Trader>,
    flows: Vec<Flow>,
    nonces: Vec<u64>,
    head: Vec<u8>,
    signed_head: Vec<u8>,
}

impl Preparing {
    /// Return what a job asks for, before its first message.
    ///
    /// # Errors
    /// The job asks for something that cannot be.
    pub fn new(job: Job) -> Result<(Self, Vec<Lane>), String> {
        let bounds = [
            ("connections", job.connections, 1_024),
            ("in_flight", job.in_flight, 1_000_000),
            ("per_signature", job.per_signature, COMMANDS_PER_SIGNATURE_MAX),
            ("per_message", job.per_message, COMMANDS_PER_MESSAGE_MAX),
            ("shards", job.shards.len(), 4_095),
        ];
        for (name, value, most) in bounds {
            if !(1..=most).contains(&value) {
                return Err(format!("{name} is {value} and must be 1 to {most}"));
            }
        }
        let seed = |user: &crate::job::User| {
            // What is wrong with a key is said without the key.
            let seed: Option<Vec<u8>> = (0..user.seed.len() / 2)
                .map(|at| user.seed.get(2 * at..2 * at + 2).and_then(|two| u8::from_str_radix(two, 16).ok()))
                .collect();
            let seed = seed.and_then(|seed| <[u8; 32]>::try_from(seed).ok());
            seed.ok_or_else(|| format!("the seed of account {} is not 64 hex digits", user.account))
        };
        let traders: Result<_, String> =
            job.users.iter().map(|user| Ok(Trader::new(user.account, seed(user)?))).collect();
        let flows: Result<_, String> = job
            .shards
            .iter()
            .map(|shard| {
                let seed = job.seed.wrapping_add(u64::from(shard.shard));
                Flow::new(shard, job.users.len(), job.connections, seed, job.resting)
            })
            .collect();
        let lanes = job
            .shards
            .iter()
            .flat_map(|shard| (0..job.connections).map(|connection| (shard.shard, connection)))
            .map(|(shard, connection)| Lane { shard, connection, messages: VecDeque::new(), tags: 0 })
            .collect();
        let mut head = Vec::new();
        put_bytes(&mut head, 1, job.environment.as_bytes());
        put_number(&mut head, 3, u64::from(job.wait_ms_max));
        put_number(&mut head, 4, 1);
        let signed_head = [BATCH_TAG, job.environment.as_bytes(), b"\0"].concat();
        let nonces = vec![job.nonce; job.shards.len()];
        Ok((Self { traders: traders?, flows: flows?, nonces, head, signed_head, job }, lanes))
    }

    /// Return the job.
    #[must_use]
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// Make and sign what a phase sends, behind what its lanes still have, until no lane has less than its part; one
    /// thread for each shard.
    ///
    /// Batches are valid from now on until so long after the planned time of their message, counted from now: they are
    /// sent later, so that this is never longer than the environment allows. What a phase before left stays valid as
    /// long as it was.
    pub fn prepare(&mut self, phase: &Phase, lanes: &mut [Lane]) {
        let start_ms = now_us() / 1_000;
        let turn = lanes.len() * self.job.commands_per_message();
        let wanted = phase.commands.div_ceil(turn);
        let parts = lanes.chunks_mut(self.job.connections);
        let (job, traders, head, signed_head) = (&self.job, &self.traders, &self.head, &self.signed_head);
        std::thread::scope(|scope| {
            for ((flow, nonce), lanes) in self.flows.iter_mut().zip(&mut self.nonces).zip(parts) {
                let mut making = Making { job, traders, head, signed_head, flow, nonce };
                scope.spawn(move || {
                    while let Some((place, lane)) =
                        lanes.iter_mut().enumerate().min_by_key(|(_, lane)| lane.messages.len())
                    {
                        let number = lane.messages.len();
                        let enough = if phase.fill { making.flow.missing() == 0 } else { number >= wanted };
                        if enough {
                            break;
                        }
                        let planned_s = if phase.rate > 0.0 { (number * turn) as f64 / phase.rate } else { 0.0 };
                        let valid_until_ms = start_ms + (planned_s * 1_000.0) as u64 + job.validity_ms;
                        let message = making.message(place, lane, phase.fill, valid_until_ms);
                        lane.messages.push_back(message);
                    }
                });
            }
        });
    }
}

struct Making<'a> {
    job: &'a Job,
    traders: &'a [Trader],
    head: &'a [u8],
    signed_head: &'a [u8],
    flow: &'a mut Flow,
    nonce: &'a mut u64,
}

impl Making<'_> {
    fn message(&mut self, place: usize, lane: &mut Lane, fill: bool, valid_until_ms: u64) -> Message {
        let Job { per_signature, stream, .. } = *self.job;
        let per_signature = if fill { per_signature.min(64) } else { per_signature };
        let commands = self.job.commands_per_message();
        let mut request = self.head.to_vec();
        let (mut signed, mut scratch) = (Vec::new(), Vec::new());
        let mut left = commands;
        while left > 0 {
            let (trader, user) = self.flow.next_trader(place);
            signed.clear();
            signed.extend_from_slice(self.signed_head);
            *self.nonce += 1;
            put_batch_head(&mut signed, self.traders[user].account, lane.shard, *self.nonce, valid_until_ms);
            let taken = left.min(per_signature);
            for _ in 0..taken {
                let message = if fill { self.flow.fill(trader) } else { self.flow.next(trader) };
                let market = self.flow.numbers[message.market as usize];
                put_command(&mut signed, market, &message, &mut scratch);
            }
            left -= taken;
            self.traders[user].put_signed(&mut request, &signed, self.signed_head.len());
            if self.job.forges {
                // A bit of the scalar: it stays below the group's order, so that no other rule tells.
                let at = request.len() - 32;
                request[at] ^= 1;
            }
        }
        lane.tags += 1;
        Message {
            bytes: framed(stream.then_some(lane.tags), &request),
            tag: lane.tags,
            batches: commands.div_ceil(per_signature) as u32,
            per_signature: per_signature as u32,
            commands: commands as u32,
        }
    }
}

/// Return a `SubmitRequest`, or the `SubmitStreamRequest` of a tag around it, as gRPC sends it: not compressed, its
/// length in four bytes, big-endian.
fn framed(tag: Option<u64>, request: &[u8]) -> Bytes {
    let mut around = Vec::new();
    if let Some(tag) = tag {
        put_number(&mut around, 1, tag);
        around.push(2 << 3 | 2);
        put_varint(&mut around, request.len() as u64);
    }
    let len = around.len() + request.len();
    let mut framed = BytesMut::with_capacity(len + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(len).expect("a message is smaller than 4 GiB"));
    framed.extend_from_slice(&around);
    framed.extend_from_slice(request);
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use bench_flow::file::{Force, Kind, Message as Wanted};

    use super::*;
    use crate::wire::{Field, Fields, number_of};

    /// What `exchange.wire.messages.encode`, `exchange.reference.signing.sign` and the generated classes make of the
    /// batch in the test: a `SubmitStreamRequest` of tag 9.
    const REQUEST: &str = "080912c0010a0464656d6f18b0ea01200132b1010a102a3cd48f0906263e7adc593f4b0f95b2125b08071003188580\
                           80808080808080012080d095ffbc312a160a1408ac021001180120012801300538b9604078484d2a140a1208ac0210\
                           0218012002300538b4604001484e2a041202104d2a061a04104d183c2a072205104d18e05d1a401f8a6e5c9e3b1f21\
                           4caa4357613632534a744b9673da1a398735482e07ec0edaed8cbd81a5725ae389b2fde6ce84ec01ec81ba6c44aa8f\
                           71b404615ea1b60d07";

    #[test]
    fn a_request_has_the_bytes_of_the_client_in_python() {
        let place = Wanted {
            id: 77,
            price: 12_345,
            quantity: 120,
            market: 0,
            kind: Kind::Place,
            buys: true,
            force: Force::PostOnly,
        };
        let commands = [
            place,
            Wanted { id: 78, price: 12_340, quantity: 1, buys: false, force: Force::Ioc, ..place },
            Wanted { kind: Kind::Cancel, ..place },
            Wanted { kind: Kind::Reduce, quantity: 60, ..place },
            Wanted { kind: Kind::Replace, price: 12_000, ..place },
        ];
        let mut signed = b"clob.v1.Batch\0demo\0".to_vec();
        let payload_at = signed.len();
        put_batch_head(&mut signed, 7, 3, (1 << 63) + 5, 1_700_000_000_000);
        for command in &commands {
            put_command(&mut signed, 300, command, &mut Vec::new());
        }
        let mut request = Vec::new();
        put_bytes(&mut request, 1, b"demo");
        put_number(&mut request, 3, 30_000);
        put_number(&mut request, 4, 1);
        Trader::new(7, std::array::from_fn(|place| place as u8)).put_signed(&mut request, &signed, payload_at);
        let bytes = framed(Some(9), &request);
        let wanted =
            (0..REQUEST.len() / 2).map(|at| u8::from_str_radix(&REQUEST[2 * at..2 * at + 2], 16).expect("hex"));
        assert_eq!(bytes[5..], wanted.collect::<Vec<_>>());
        assert_eq!(bytes[..5], [0, 0, 0, 0, 197]);
        assert_eq!(framed(None, &request)[5..], request);
    }

    #[test]
    fn messages_have_the_commands_that_were_asked_for_and_the_last_batch_the_rest() {
        let job: Job = serde_json::from_str(
            r#"{"address": "", "environment": "demo", "stream": true, "connections": 2, "in_flight": 1,
                "per_signature": 64, "per_message": 100, "wait_ms_max": 1000, "validity_ms": 1000, "nonce": 1, "seed": 1,
                "resting": 50, "users": [{"account": 1, "seed": "00"}, {"account": 2, "seed": "00"}],
                "shards": [{"shard": 1, "markets": [{"market": 1, "fair_ticks": 5000, "multiple_ticks": 1,
                "multiple_lots": 1, "users": [0, 1]}]}]}"#,
        )
        .expect("a job");
        assert_eq!(Preparing::new(job).err().as_deref(), Some("the seed of account 1 is not 64 hex digits"));
        let message = Message { bytes: Bytes::new(), tag: 1, batches: 2, per_signature: 64, commands: 100 };
        assert_eq!(message.batch_commands().collect::<Vec<_>>(), [64, 36]);
    }

    /// Return until when the first batch of a message is valid.
    fn valid_until_ms(message: &Message) -> u64 {
        let part = |bytes, wanted| {
            Fields::new(bytes).find_map(|field| match field {
                Ok(Field::Bytes(number, part)) if number == wanted => Some(part),
                _ => None,
            })
        };
        let payload = part(&message.bytes[5..], 6).and_then(|batch| part(batch, 2)).expect("a batch");
        number_of(payload, 4).expect("a batch")
    }

    #[test]
    fn what_a_phase_left_is_sent_first_and_lanes_have_equal_parts() {
        let seed = "11".repeat(32);
        let users = (1..=4).map(|account| format!(r#"{{"account": {account}, "seed": "{seed}"}}"#)).collect::<Vec<_>>();
        let shard = |shard: u32| {
            format!(
                r#"{{"shard": {shard}, "markets": [{{"market": {shard}, "fair_ticks": 5000, "multiple_ticks": 1,
                    "multiple_lots": 1, "users": [0, 1, 2, 3]}}]}}"#
            )
        };
        let text = format!(
            r#"{{"address": "", "environment": "demo", "stream": false, "connections": 2, "in_flight": 1,
                "per_signature": 4, "per_message": 8, "wait_ms_max": 1000, "validity_ms": 60000, "nonce": 1, "seed": 1,
                "resting": 50, "users": [{}], "shards": [{}, {}]}}"#,
            users.join(","),
            shard(1),
            shard(2)
        );
        let (mut preparing, mut lanes) = Preparing::new(serde_json::from_str(&text).expect("a job")).expect("a job");
        preparing.prepare(&Phase { commands: 160, seconds: 1.0, rate: 0.0, holds: false, fill: false }, &mut lanes);
        let sent = [4, 2, 0, 5];
        for (lane, sent) in lanes.iter_mut().zip(sent) {
            assert_eq!(lane.messages.drain(..sent).count(), sent);
        }
        let before_ms = now_us() / 1_000;
        preparing.prepare(&Phase { commands: 250, seconds: 8.0, rate: 32.0, holds: false, fill: false }, &mut lanes);
        let after_ms = now_us() / 1_000;
        for (lane, sent) in lanes.iter().zip(sent) {
            let tags = lane.messages.iter().map(|message| message.tag as usize);
            assert_eq!(tags.collect::<Vec<_>>(), (sent + 1..=sent + 8).collect::<Vec<_>>());
            for (place, message) in lane.messages.iter().enumerate().skip(5 - sent) {
                // A message of every lane, each of 8 commands, takes a second.
                let planned_ms = place as u64 * 1_000;
                let signed_ms = valid_until_ms(message) - planned_ms - 60_000;
                assert!((before_ms..=after_ms).contains(&signed_ms), "{signed_ms}");
            }
        }
    }
}
