//! Hashes of the logs (ARCHITECTURE.md). H is SHA-256; integers are 8 bytes, big-endian.

use sha2::{Digest, Sha256};

/// Return H(payload): what a nonce or a link remembers of the bytes that came with it.
#[inline]
#[must_use]
pub fn digest_of(payload: &[u8]) -> [u8; 32] {
    Sha256::digest(payload).into()
}

/// Return H("clob.v1.in\0" n t f), which ties an execution frame to the entry that it answers.
#[must_use]
pub fn input_hash(n: u64, t_us: u64, order_frame: &[u8]) -> [u8; 32] {
    tagged(b"clob.v1.in\0", &[&n.to_be_bytes(), &t_us.to_be_bytes(), order_frame])
}

/// Return `h_n` = H("clob.v1.chain\0" `ExecutionFrame_n`); the frame has `h_(n-1)` inside.
#[must_use]
pub fn chain_hash(execution_frame: &[u8]) -> [u8; 32] {
    tagged(b"clob.v1.chain\0", &[execution_frame])
}

/// Return `h_0` = H("clob.v1.genesis\0" environment "\0" shard genesis), `genesis` being the encoded Genesis.
#[must_use]
pub fn genesis_hash(environment: &str, shard: u32, genesis: &[u8]) -> [u8; 32] {
    tagged(b"clob.v1.genesis\0", &[environment.as_bytes(), b"\0", &u64::from(shard).to_be_bytes(), genesis])
}

/// Return H("clob.v1.state\0" state), `state` being the encoded `ShardState`.
#[must_use]
pub fn state_hash(state: &[u8]) -> [u8; 32] {
    tagged(b"clob.v1.state\0", &[state])
}

fn tagged(tag: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(tag);
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}
