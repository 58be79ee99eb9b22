//! The nonces that keys have used in batches that have not expired. Nothing is forgotten early.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::ladder::NONE;
use crate::limits::{HASH_BYTES, KEY_ID_BYTES};

/// A burnt nonce: where its batch was executed, and what was signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    pub nonce: u64,
    pub n: u64,
    pub valid_until_ms: u64,
    pub batch: u32,
    key: u32,
    /// Of those that expire in the same millisecond, or of those that are free.
    next: u32,
    pub digest: [u8; HASH_BYTES],
}

#[derive(Clone, Debug)]
struct Key {
    key_id: [u8; KEY_ID_BYTES],
    live: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Nonces {
    slots: Vec<Live>,
    free: u32,
    index: HashTable<u32>,
    by_expiry: BTreeMap<u64, u32>,
    keys: Vec<Key>,
    free_keys: Vec<u32>,
    key_of: HashMap<[u8; KEY_ID_BYTES], u32>,
    hasher: DefaultHashBuilder,
}

impl Default for Nonces {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: NONE,
            index: HashTable::new(),
            by_expiry: BTreeMap::new(),
            keys: Vec::new(),
            free_keys: Vec::new(),
            key_of: HashMap::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl Nonces {
    /// Return what is remembered of a nonce.
    pub fn get(&self, key_id: &[u8; KEY_ID_BYTES], nonce: u64) -> Option<&Live> {
        let key = *self.key_of.get(key_id)?;
        let slot = self.index.find(self.hasher.hash_one((key, nonce)), |&slot| {
            let live = &self.slots[slot as usize];
            live.key == key && live.nonce == nonce
        })?;
        Some(&self.slots[*slot as usize])
    }

    /// Return how many live nonces the key has.
    pub fn count(&self, key_id: &[u8; KEY_ID_BYTES]) -> u32 {
        self.key_of.get(key_id).map_or(0, |&key| self.keys[key as usize].live)
    }

    /// Return how many live nonces there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Burn a nonce, which is not live, until its batch has expired.
    pub fn remember(
        &mut self,
        key_id: &[u8; KEY_ID_BYTES],
        nonce: u64,
        n: u64,
        batch: u32,
        digest: [u8; HASH_BYTES],
        valid_until_ms: u64,
    ) {
        let key = self.key_named(key_id);
        self.keys[key as usize].live += 1;
        let next = self.by_expiry.get(&valid_until_ms).copied().unwrap_or(NONE);
        let live = Live { nonce, n, valid_until_ms, batch, key, next, digest };
        let slot = if self.free == NONE {
            self.slots.push(live);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 live nonces")
        } else {
            let slot = self.free;
            self.free = self.slots[slot as usize].next;
            self.slots[slot as usize] = live;
            slot
        };
        self.by_expiry.insert(valid_until_ms, slot);
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hasher.hash_one((key, nonce)), slot, |&slot| {
            let live = &slots[slot as usize];
            hasher.hash_one((live.key, live.nonce))
        });
    }

    /// Forget the nonces of batches that can no longer be executed at `t_us`.
    pub fn forget_expired(&mut self, t_us: u64) {
        while let Some(first) = self.by_expiry.first_entry() {
            if first.key().saturating_mul(1000) > t_us {
                return;
            }
            let mut slot = first.remove();
            while slot != NONE {
                let live = self.slots[slot as usize];
                if let Ok(entry) =
                    self.index.find_entry(self.hasher.hash_one((live.key, live.nonce)), |&other| other == slot)
                {
                    entry.remove();
                }
                let key = &mut self.keys[live.key as usize];
                key.live -= 1;
                if key.live == 0 {
                    self.key_of.remove(&key.key_id);
                    self.free_keys.push(live.key);
                }
                self.slots[slot as usize].next = self.free;
                self.free = slot;
                slot = live.next;
            }
        }
    }

    /// Return all live nonces with their keys, by key and nonce.
    pub fn sorted(&self) -> Vec<(&[u8; KEY_ID_BYTES], &Live)> {
        let mut all: Vec<_> = self
            .index
            .iter()
            .map(|&slot| {
                let live = &self.slots[slot as usize];
                (&self.keys[live.key as usize].key_id, live)
            })
            .collect();
        all.sort_unstable_by_key(|(key_id, live)| (*key_id, live.nonce));
        all
    }

    fn key_named(&mut self, key_id: &[u8; KEY_ID_BYTES]) -> u32 {
        if let Some(&key) = self.key_of.get(key_id) {
            return key;
        }
        let made = Key { key_id: *key_id, live: 0 };
        let key = if let Some(key) = self.free_keys.pop() {
            self.keys[key as usize] = made;
            key
        } else {
            self.keys.push(made);
            u32::try_from(self.keys.len() - 1).expect("fewer than 2^32 keys")
        };
        self.key_of.insert(*key_id, key);
        key
    }
}
