//! Hashes of the logs, as `exchange.wire.hashing` has them: SHA-256; integers are 8 bytes, big-endian.

use sha2::{Digest, Sha256};

const IN_TAG: &[u8] = b"clob.v1.in\0";
const CHAIN_TAG: &[u8] = b"clob.v1.chain\0";
const GENESIS_TAG: &[u8] = b"clob.v1.genesis\0";
const STATE_TAG: &[u8] = b"clob.v1.state\0";

/// Return H(payload): what a nonce, a link or a request id remembers of the bytes that came with it.
#[must_use]
pub fn digest_of(payload: &[u8]) -> [u8; 32] {
    Sha256::digest(payload).into()
}

/// Return H("clob.v1.in\0" n t f), which ties an execution frame to the entry that it answers.
#[must_use]
pub fn input_hash(n: u64, t_us: u64, order_frame: &[u8]) -> [u8; 32] {
    hash_of(&[IN_TAG, &n.to_be_bytes(), &t_us.to_be_bytes(), order_frame])
}

/// Return `h_n` = H("clob.v1.chain\0" ExecutionFrame_n); the frame has `h_(n-1)` inside.
#[must_use]
pub fn chain_hash(execution_frame: &[u8]) -> [u8; 32] {
    hash_of(&[CHAIN_TAG, execution_frame])
}

/// Return `h_0` = H("clob.v1.genesis\0" environment "\0" shard genesis), `genesis` being the encoded Genesis.
#[must_use]
pub fn genesis_hash(environment: &str, shard: u32, genesis: &[u8]) -> [u8; 32] {
    hash_of(&[GENESIS_TAG, environment.as_bytes(), b"\0", &u64::from(shard).to_be_bytes(), genesis])
}

/// Return H("clob.v1.state\0" state), `state` being the encoded `ShardState` or `ControlState`.
#[must_use]
pub fn state_hash(state: &[u8]) -> [u8; 32] {
    hash_of(&[STATE_TAG, state])
}

fn hash_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}
