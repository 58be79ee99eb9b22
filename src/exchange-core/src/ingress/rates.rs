//! Token buckets of keys, as `exchange.ingress.rates` has them.

use hashbrown::HashMap;

use crate::limits::KEY_ID_BYTES;

type KeyId = [u8; KEY_ID_BYTES];

/// Less than this is not waited for: seconds that a sum of rounded numbers may be off.
const ROUNDED_S: f64 = 1e-9;
const SWEEP_EVERY_S: f64 = 0.1;

/// One bucket per key, full at first, kept as the moment at which it will be full again.
///
/// A full bucket needs no memory. While more than `senders_max` keys are busy, new ones share one.
#[derive(Clone, Debug)]
pub struct Rates {
    seconds_per_token: f64,
    burst_s: f64,
    full_at_s: HashMap<KeyId, f64>,
    crowd_full_at_s: Option<f64>,
    senders_max: usize,
    next_sweep_s: f64,
}

impl Rates {
    /// Return buckets that hold `burst` tokens and gain `per_second`; a rate of 0 means no limit at all.
    #[must_use]
    pub fn new(per_second: f64, burst: f64, senders_max: usize) -> Self {
        let seconds_per_token = if per_second > 0.0 { 1.0 / per_second } else { 0.0 };
        Self {
            seconds_per_token,
            burst_s: burst * seconds_per_token,
            full_at_s: HashMap::new(),
            crowd_full_at_s: None,
            senders_max,
            next_sweep_s: f64::NEG_INFINITY,
        }
    }

    /// Return how many buckets are kept: that of the crowd counts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full_at_s.len() + usize::from(self.crowd_full_at_s.is_some())
    }

    /// Return whether no bucket is kept: every one is full.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Take tokens and return 0; or take none and return the seconds after which they will be there.
    #[inline]
    pub fn take(&mut self, key: &KeyId, tokens: f64, now_s: f64) -> f64 {
        if self.seconds_per_token == 0.0 {
            return 0.0;
        }
        let has_none = !self.full_at_s.contains_key(key);
        let in_crowd = has_none && self.len() >= self.senders_max && !self.make_room(now_s);
        let full_at_s = self.full_at(key, in_crowd, now_s);
        let wait_s = self.wait_s(full_at_s, tokens, now_s, 0.0);
        if wait_s == 0.0 {
            let full_at_s = full_at_s.max(now_s) + tokens * self.seconds_per_token;
            if in_crowd {
                self.crowd_full_at_s = Some(full_at_s);
            } else {
                self.full_at_s.insert(*key, full_at_s);
            }
        }
        wait_s
    }

    /// Return whether one more token could be taken after so many, one by one; takes none.
    #[inline]
    #[must_use]
    pub fn has_more_than(&self, tokens: f64, key: &KeyId, now_s: f64) -> bool {
        let in_crowd = self.len() >= self.senders_max && !self.full_at_s.contains_key(key);
        self.seconds_per_token == 0.0 || self.wait_s(self.full_at(key, in_crowd, now_s), 1.0, now_s, tokens) == 0.0
    }

    /// Undo a take: what it was for turned out not to be the key's doing.
    pub fn give_back(&mut self, key: &KeyId, tokens: f64) {
        if let Some(full_at_s) = self.full_at_s.get_mut(key) {
            *full_at_s -= tokens * self.seconds_per_token;
        }
    }

    fn full_at(&self, key: &KeyId, in_crowd: bool, now_s: f64) -> f64 {
        let kept = if in_crowd { self.crowd_full_at_s } else { self.full_at_s.get(key).copied() };
        kept.unwrap_or(now_s)
    }

    /// Return how long these tokens have to be waited for when `before` others are taken first.
    fn wait_s(&self, full_at_s: f64, tokens: f64, now_s: f64, before: f64) -> f64 {
        let missing_s = (full_at_s - now_s).max(0.0) + before * self.seconds_per_token;
        let wait_s = missing_s + (tokens * self.seconds_per_token).min(self.burst_s) - self.burst_s;
        if wait_s > ROUNDED_S { wait_s } else { 0.0 }
    }

    /// Forget the buckets that are full; return whether there is room now. Looks at most ten times a second.
    #[cold]
    fn make_room(&mut self, now_s: f64) -> bool {
        if now_s >= self.next_sweep_s {
            self.next_sweep_s = now_s + SWEEP_EVERY_S;
            self.full_at_s.retain(|_, full_at_s| *full_at_s > now_s);
            self.crowd_full_at_s = self.crowd_full_at_s.filter(|&full_at_s| full_at_s > now_s);
        }
        self.len() < self.senders_max
    }
}
