//! What every shard has: its position, its operators, its live nonces, and its ends of links
//! (`exchange.reference.core`).

use std::collections::{BTreeMap, VecDeque};

use crate::kinds::{OperatorRole, RejectReason};
use crate::limits::{ENTRY_WORK_MAX, HASH_BYTES, LINK_DIGESTS_MAX, LINK_TRANSFERS_MAX, PUBLIC_KEY_BYTES};
use crate::shard::errors::Stop;
use crate::shard::nonces::Nonces;
use crate::units::TIME_US_MAX;
use crate::verify::{SignedKind, signed_bytes, verify_one};
use crate::wire::entries::{ParsedBatch, ParsedLink, ParsedOperation};
use crate::wire::messages::{BatchResult, LinkResult, OperationResult, ShardSettings};

/// Newest version of the rules that this crate executes, and whose events it understands; it does from 1 on.
pub const RULES_MAX: u32 = 1;

/// The key of an operator role, and what it signed last.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub role: u32,
    pub public_key: [u8; PUBLIC_KEY_BYTES],
    pub last_sequence: u64,
    /// None: it has signed nothing yet.
    pub last_digest: Option<[u8; HASH_BYTES]>,
}

/// Links from one shard: the last sequence number and the digests of the last payloads; what came, modulo 2^64.
#[derive(Clone, Debug, Default)]
pub(crate) struct Incoming {
    pub last_sequence: u64,
    pub digests: VecDeque<[u8; HASH_BYTES]>,
    pub received: BTreeMap<u32, u64>,
}

/// Links to one shard: the last sequence number; what went, modulo 2^64.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outgoing {
    pub last_sequence: u64,
    pub sent: BTreeMap<u32, u64>,
    /// Transfers of the entry under way.
    transfers: usize,
}

impl Outgoing {
    pub fn load(last_sequence: u64, sent: BTreeMap<u32, u64>) -> Self {
        Self { last_sequence, sent, transfers: 0 }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Core {
    pub genesis: Vec<u8>,
    pub environment: String,
    pub shard: u32,
    pub n: u64,
    pub t_us: u64,
    pub chain_hash: [u8; HASH_BYTES],
    pub rules: u32,
    pub settings: ShardSettings,
    pub operators: [Operator; 3],
    pub control_floor: u64,
    pub nonces: Nonces,
    pub links_in: BTreeMap<u32, Incoming>,
    pub links_out: BTreeMap<u32, Outgoing>,
}

impl Core {
    /// Move to an entry's position and time; forget the nonces that its time has let expire; start new links.
    pub fn begin(&mut self, n: u64, t_us: u64) -> Result<(), Stop> {
        if self.n.checked_add(1) != Some(n) {
            return Err(Stop::position(format!("entry {n} comes after entry {}", self.n)));
        }
        if t_us < self.t_us {
            return Err(Stop::position(format!("entry {n} is of time {t_us}, before {}", self.t_us)));
        }
        if t_us > TIME_US_MAX {
            return Err(Stop::position(format!("entry {n} is of time {t_us}, above {TIME_US_MAX}")));
        }
        (self.n, self.t_us) = (n, t_us);
        self.nonces.forget_expired(t_us);
        for outgoing in self.links_out.values_mut() {
            outgoing.transfers = 0;
        }
        Ok(())
    }

    // --- batches ----------------------------------------------------------------------------------------------------

    /// Return whether a batch is executed, repeats one, or why it is refused.
    ///
    /// A batch that was executed is answered as a repetition as long as it is valid, whatever has changed since. One
    /// that is refused leaves no trace. One that is executed burns its nonce, whatever becomes of its commands.
    pub fn judge_batch(&mut self, control_n: u64, place: u32, parsed: &ParsedBatch<'_>, work: usize) -> BatchResult {
        let refused = |reason: RejectReason| BatchResult { batch: place, reason: reason as u32, ..Default::default() };
        let Some(head) = &parsed.head else { return refused(RejectReason::Malformed) };
        if head.shard != self.shard {
            return refused(RejectReason::WrongShard);
        }
        let key_id = parsed.signed.key_id;
        if let Some(burnt) = self.nonces.get(key_id, head.nonce) {
            if burnt.digest == parsed.digest {
                return BatchResult {
                    batch: place,
                    repeat_n: burnt.n,
                    repeat_batch: burnt.batch,
                    ..Default::default()
                };
            }
            return refused(RejectReason::NonceReused);
        }
        let valid_until_us = u128::from(head.valid_until_ms) * 1000;
        if valid_until_us <= u128::from(self.t_us) {
            return refused(RejectReason::BatchExpired);
        }
        if valid_until_us > u128::from(self.t_us) + u128::from(self.settings.max_validity_ms) * 1000 {
            return refused(RejectReason::ValidityTooLong);
        }
        if control_n < self.control_floor {
            return refused(RejectReason::StaleControl);
        }
        if work >= ENTRY_WORK_MAX {
            return refused(RejectReason::EntryWorkLimit);
        }
        if self.nonces.count(key_id) >= self.settings.live_nonces_per_key_max {
            return refused(RejectReason::TooManyNonces);
        }
        self.nonces.remember(key_id, head.nonce, self.n, place, parsed.digest, head.valid_until_ms);
        BatchResult { batch: place, ..Default::default() }
    }

    // --- operations -------------------------------------------------------------------------------------------------

    /// Return whether the actions of an operation are to be applied; its sequence number is then used.
    pub fn judge_operation(&mut self, place: u32, parsed: &ParsedOperation<'_>, work: usize) -> OperationResult {
        let refused =
            |reason: RejectReason| OperationResult { operation: place, reason: reason as u32, ..Default::default() };
        let Some(operation) = &parsed.operation else { return refused(RejectReason::Malformed) };
        if operation.shard != self.shard {
            return refused(RejectReason::WrongShard);
        }
        let Some(operator) = self.operators.iter_mut().find(|operator| operator.role == operation.role) else {
            return refused(RejectReason::UnknownRole);
        };
        // Before the signature: the operation may have replaced the key that signed it.
        if operation.sequence == operator.last_sequence && operator.last_digest == Some(parsed.digest) {
            return OperationResult { operation: place, repeated: true, ..Default::default() };
        }
        let message = signed_bytes(SignedKind::Operator, &self.environment, parsed.signed.payload);
        if !verify_one(&operator.public_key, &message, parsed.signed.signature) {
            return refused(RejectReason::BadSignature);
        }
        if operation.sequence <= operator.last_sequence {
            return refused(RejectReason::SequenceUsed);
        }
        if operation.sequence - operator.last_sequence > 1 {
            return refused(RejectReason::SequenceGap);
        }
        if work >= ENTRY_WORK_MAX {
            return refused(RejectReason::EntryWorkLimit);
        }
        operator.last_sequence = operation.sequence;
        operator.last_digest = Some(parsed.digest);
        OperationResult { operation: place, ..Default::default() }
    }

    /// Give the operator of a role, which there is, another key.
    pub fn rotate(&mut self, role: u32, public_key: &[u8; PUBLIC_KEY_BYTES]) {
        if let Some(operator) = self.operators.iter_mut().find(|operator| operator.role == role) {
            operator.public_key = *public_key;
        }
    }

    // --- links ------------------------------------------------------------------------------------------------------

    /// Return whether a link is to be applied now; it then counts as received.
    ///
    /// Of a link older than the digests that are kept, only its sequence number is known: it was applied, and nothing
    /// happens.
    pub fn judge_link(&mut self, place: u32, parsed: &ParsedLink<'_>) -> Result<LinkResult, Stop> {
        let Some(link) = &parsed.link else {
            return Ok(LinkResult { link: place, reason: RejectReason::Malformed as u32, ..Default::default() });
        };
        let answer =
            LinkResult { link: place, from_shard: link.from_shard, sequence: link.sequence, ..Default::default() };
        let refused = |reason: RejectReason| Ok(LinkResult { reason: reason as u32, ..answer });
        if link.to_shard != self.shard || link.from_shard == self.shard {
            return refused(RejectReason::WrongShard);
        }
        let treasury = &self.operators[OperatorRole::Treasury as usize - 1];
        let message = signed_bytes(SignedKind::Link, &self.environment, parsed.signed.payload);
        if !verify_one(&treasury.public_key, &message, parsed.signed.signature) {
            return refused(RejectReason::BadSignature);
        }
        let last_sequence = self.links_in.get(&link.from_shard).map_or(0, |incoming| incoming.last_sequence);
        if link.sequence <= last_sequence {
            let digests = &self.links_in[&link.from_shard].digests;
            let age = last_sequence - link.sequence;
            if age < digests.len() as u64 && digests[digests.len() - 1 - age as usize] != parsed.digest {
                return Err(Stop::link_conflict(format!(
                    "link {} from shard {} came with two bodies",
                    link.sequence, link.from_shard
                )));
            }
            return Ok(LinkResult { repeated: true, ..answer });
        }
        if link.sequence - last_sequence > 1 {
            return refused(RejectReason::LinkGap);
        }
        let incoming = self.links_in.entry(link.from_shard).or_default();
        incoming.last_sequence = link.sequence;
        incoming.digests.push_back(parsed.digest);
        if incoming.digests.len() > LINK_DIGESTS_MAX {
            incoming.digests.pop_front();
        }
        for transfer in &link.transfers {
            let received = incoming.received.entry(transfer.asset).or_insert(0);
            *received = received.wrapping_add(transfer.amount_units);
        }
        Ok(answer)
    }

    /// Count an amount as sent; return the sequence number of the link that carries it.
    ///
    /// What one entry sends to one shard travels in one link, as far as `LINK_TRANSFERS_MAX` goes.
    pub fn send(&mut self, to_shard: u32, asset: u32, amount_units: u64) -> u64 {
        let outgoing = self.links_out.entry(to_shard).or_default();
        if outgoing.transfers.is_multiple_of(LINK_TRANSFERS_MAX) {
            outgoing.last_sequence = outgoing.last_sequence.wrapping_add(1);
        }
        outgoing.transfers += 1;
        let sent = outgoing.sent.entry(asset).or_insert(0);
        *sent = sent.wrapping_add(amount_units);
        outgoing.last_sequence
    }
}
