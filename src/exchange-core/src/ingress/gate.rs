//! Who may send what: keys, accounts, shards and times, in the order of the rules of `exchange.ingress.door.Door.judge`.

use hashbrown::HashMap;

use super::message::Message;
use super::rates::Rates;
use crate::limits::{KEY_ID_BYTES, PUBLIC_KEY_BYTES};
use crate::verify::{ShapeError, Verifier};

type KeyId = [u8; KEY_ID_BYTES];
type PublicKey = [u8; PUBLIC_KEY_BYTES];

/// How far the clocks of ingress and bus may be apart.
const SKEW_MS_MAX: u64 = 500;
/// Longest validity that a shard can allow: what is allowed where its own is not known.
const VALIDITY_MS_MAX: u64 = 86_400_000;

/// A registered key; `account` is the one account that it may sign for, 0: all of its user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// What signatures are verified with.
    pub public_key: PublicKey,
    /// Whose it is.
    pub user: u64,
    /// The account that it may sign for; 0: every one of the user's.
    pub account: u64,
    /// It signs nothing any more.
    pub revoked: bool,
}

/// Why a batch is not let in, with what its sentence names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refused {
    /// Its bytes are not in order.
    Unreadable,
    /// The key is not registered, as far as shard 0 is known here.
    UnknownKey,
    /// The key was revoked.
    RevokedKey,
    /// The key sends too much: how long to wait.
    TooFast {
        /// Seconds.
        wait_s: f64,
    },
    /// The signature is not one of the payload under the key.
    BadSignature,
    /// The key may not sign for the account, or there is no such account.
    NotOfKey,
    /// There is no such shard, as far as shard 0 is known here.
    UnknownShard,
    /// It can never be executed: latest time of the shard that is certain.
    Expired {
        /// Microseconds since 1970-01-01 UTC.
        shard_us: u64,
    },
    /// It is valid for longer than its shard allows.
    TooLong {
        /// Milliseconds until it is not.
        too_early_ms: u64,
        /// Milliseconds that the shard allows.
        allowed_ms: u64,
    },
    /// There is nobody to hand it to.
    Lost,
    /// Nothing new is taken.
    Draining,
    /// Too much is under way.
    Overloaded,
}

impl Refused {
    /// Return whether the view of shard 0 may be behind: whoever knows more may judge otherwise.
    #[must_use]
    pub fn may_change(self) -> bool {
        matches!(self, Self::UnknownKey | Self::NotOfKey | Self::UnknownShard)
    }

    /// Return whether the same is said of every batch that is refused so.
    #[must_use]
    pub fn is_for_many(self) -> bool {
        use Refused::{BadSignature, Draining, Lost, Overloaded, RevokedKey, TooFast, UnknownKey};
        matches!(self, BadSignature | Draining | Lost | Overloaded | RevokedKey | TooFast { .. } | UnknownKey)
    }
}

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Clock of the ingress: microseconds since 1970-01-01 UTC.
    pub us: u64,
    /// A clock that never goes back, for the rates: seconds.
    pub s: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    is_known: bool,
    allowed_ms: Option<u64>,
    t_us: u64,
}

/// Shard 0 as it is known, and the rules that need it.
#[derive(Debug)]
pub struct Gate {
    prefix: Vec<u8>,
    keys: HashMap<KeyId, Key>,
    user_of: HashMap<u64, u64>,
    shards: HashMap<u32, Times>,
    signed: Vec<u8>,
    rows: Vec<Row>,
    asked: HashMap<KeyId, u32>,
}

/// A row of the batches that are verified together: place in the message, key, and the end of what was signed.
#[derive(Debug)]
struct Row {
    index: usize,
    public_key: PublicKey,
    signed: std::ops::Range<usize>,
}

impl Gate {
    /// Return a gate that knows nobody yet; `prefix` stands before every payload that was signed.
    #[must_use]
    pub fn new(prefix: Vec<u8>) -> Self {
        Self {
            prefix,
            keys: HashMap::new(),
            user_of: HashMap::new(),
            shards: HashMap::new(),
            signed: Vec::new(),
            rows: Vec::new(),
            asked: HashMap::new(),
        }
    }

    /// Forget keys, accounts and shards, but not what is known of the shards' times.
    pub fn forget(&mut self) {
        self.keys.clear();
        self.user_of.clear();
        self.shards.values_mut().for_each(|shard| shard.is_known = false);
    }

    /// Know a key.
    pub fn set_key(&mut self, key_id: KeyId, key: Key) {
        self.keys.insert(key_id, key);
    }

    /// Know an account.
    pub fn set_account(&mut self, account: u64, user: u64) {
        self.user_of.insert(account, user);
    }

    /// Know that a shard is in the map.
    pub fn set_shard(&mut self, shard: u32) {
        self.shards.entry(shard).or_default().is_known = true;
    }

    /// Know what validities shards allow, of no others.
    pub fn set_validity(&mut self, allowed_ms: &[(u32, u64)]) {
        self.shards.values_mut().for_each(|shard| shard.allowed_ms = None);
        for &(shard, allowed_ms) in allowed_ms {
            self.shards.entry(shard).or_default().allowed_ms = Some(allowed_ms);
        }
    }

    /// Know the time of a shard's entry.
    pub fn set_time(&mut self, shard: u32, t_us: u64) {
        self.shards.entry(shard).or_default().t_us = t_us;
    }

    /// Verify some batches of a message together; `judge` finds the verdicts.
    ///
    /// What cannot be read or has no key is passed over, and what exceeds its key's rate: that costs no verification.
    ///
    /// # Errors
    /// There are more batches than a verifier takes.
    pub fn verify(
        &mut self,
        message: &mut Message,
        batches: impl IntoIterator<Item = usize>,
        verifier: &mut Verifier,
        rates: &Rates,
        now_s: f64,
    ) -> Result<(), ShapeError> {
        self.asked.clear();
        self.rows.clear();
        self.signed.clear();
        for index in batches {
            if !message.is_readable(index) {
                continue;
            }
            let key_id = message.key_id(index);
            let Some(key) = self.keys.get(key_id).filter(|key| !key.revoked) else { continue };
            let asked = self.asked.entry(*key_id).or_default();
            if rates.has_more_than(f64::from(*asked), key_id, now_s) {
                *asked += 1;
                if message.verdict(index, &key.public_key).is_some() {
                    continue;
                }
                let start = self.signed.len();
                self.signed.extend_from_slice(&self.prefix);
                self.signed.extend_from_slice(message.payload(index));
                self.rows.push(Row { index, public_key: key.public_key, signed: start..self.signed.len() });
            }
        }
        let messages: Vec<&[u8]> = self.rows.iter().map(|row| &self.signed[row.signed.clone()]).collect();
        let signatures: Vec<u8> = self.rows.iter().flat_map(|row| *message.signature(row.index)).collect();
        let keys: Vec<u8> = self.rows.iter().flat_map(|row| row.public_key).collect();
        let verdicts = verifier.verify_batch(&messages, &signatures, &keys)?;
        for (row, is_valid) in self.rows.iter().zip(verdicts) {
            message.set_verdict(row.index, row.public_key, is_valid);
        }
        Ok(())
    }

    /// Return why a batch is not let in; None: it is.
    ///
    /// # Errors
    /// Never: one row is no more than a verifier takes.
    pub fn judge(
        &mut self,
        message: &mut Message,
        index: usize,
        verifier: &mut Verifier,
        rates: &mut Rates,
        now: Now,
    ) -> Result<Option<Refused>, ShapeError> {
        let Some(head) = message.head(index) else { return Ok(Some(Refused::Unreadable)) };
        let key_id = *message.key_id(index);
        let Some(key) = self.keys.get(&key_id).copied() else { return Ok(Some(Refused::UnknownKey)) };
        if key.revoked {
            return Ok(Some(Refused::RevokedKey));
        }
        let wait_s = rates.take(&key_id, 1.0, now.s);
        if wait_s > 0.0 {
            return Ok(Some(Refused::TooFast { wait_s }));
        }
        if message.verdict(index, &key.public_key).is_none() {
            self.verify(message, [index], verifier, &Rates::new(0.0, 1.0, 0), now.s)?;
        }
        if message.verdict(index, &key.public_key) != Some(true) {
            // Whoever names a key without having it must not use up what its owner may send.
            rates.give_back(&key_id, 1.0);
            return Ok(Some(Refused::BadSignature));
        }
        if self.user_of.get(&head.account) != Some(&key.user) || (key.account != 0 && key.account != head.account) {
            return Ok(Some(Refused::NotOfKey));
        }
        let Some(shard) = self.shards.get(&head.shard).filter(|shard| shard.is_known) else {
            return Ok(Some(Refused::UnknownShard));
        };
        Ok(judge_time(shard, head.valid_until_ms, now.us))
    }
}

fn judge_time(shard: &Times, until_ms: u64, now_us: u64) -> Option<Refused> {
    let shard_us = now_us.saturating_sub(SKEW_MS_MAX * 1000).max(shard.t_us);
    if u128::from(until_ms) * 1000 <= u128::from(shard_us) {
        return Some(Refused::Expired { shard_us });
    }
    let allowed_ms = shard.allowed_ms.unwrap_or(VALIDITY_MS_MAX);
    let too_early_ms = until_ms.saturating_sub(allowed_ms).saturating_sub(now_us / 1000);
    (too_early_ms > SKEW_MS_MAX).then_some(Refused::TooLong { too_early_ms, allowed_ms })
}
