//! What is signed and how keys are named, as `exchange.domain.signing` has it.

use sha2::{Digest, Sha256};

use crate::limits::{KEY_ID_BYTES, PUBLIC_KEY_BYTES};

const KEY_TAG: &[u8] = b"clob.v1.Key\0";
const ENVIRONMENT_BYTES_MAX: usize = 32;

/// What a signature says. Each kind's signed bytes start with a tag of its own, so that a signature of one kind never
/// passes for another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignedKind {
    /// A trader's commands.
    Batch,
    /// A new public key, signed with its own private key: the proof of possession.
    Register,
    /// A login.
    Session,
    /// Money that the treasury sends to a shard.
    Link,
    /// An operator's actions on a shard.
    Operator,
}

impl SignedKind {
    /// Every kind, in the reference's order.
    pub const ALL: [Self; 5] = [Self::Batch, Self::Register, Self::Session, Self::Link, Self::Operator];

    /// Return the bytes that the signed bytes start with. Their only zero byte is the last, so no tag is a prefix of
    /// another.
    #[must_use]
    pub const fn tag(self) -> &'static [u8] {
        match self {
            Self::Batch => b"clob.v1.Batch\0",
            Self::Register => b"clob.v1.Register\0",
            Self::Session => b"clob.v1.Session\0",
            Self::Link => b"clob.v1.Link\0",
            Self::Operator => b"clob.v1.Operator\0",
        }
    }
}

/// Return whether the name of an environment matches [a-z0-9-]{1,32}.
#[must_use]
pub fn is_environment(name: &str) -> bool {
    (1..=ENVIRONMENT_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Return what Ed25519 signs: tag, environment, one zero byte, payload.
///
/// `environment` is a name that `is_environment` takes: genesis is checked when it is read. Then different
/// (kind, environment, payload) give different bytes, since neither a tag's body nor an environment holds a zero byte.
#[must_use]
pub fn signed_bytes(kind: SignedKind, environment: &str, payload: &[u8]) -> Vec<u8> {
    debug_assert!(is_environment(environment), "environment {environment:?} does not match [a-z0-9-]{{1,32}}");
    let mut signed = Vec::with_capacity(kind.tag().len() + environment.len() + 1 + payload.len());
    signed.extend_from_slice(kind.tag());
    signed.extend_from_slice(environment.as_bytes());
    signed.push(0);
    signed.extend_from_slice(payload);
    signed
}

/// Return the 16 bytes that name a public key: the start of SHA-256 over `"clob.v1.Key\0"` and the key.
#[must_use]
pub fn key_id_of(public_key: &[u8; PUBLIC_KEY_BYTES]) -> [u8; KEY_ID_BYTES] {
    let digest: [u8; 32] = Sha256::new().chain_update(KEY_TAG).chain_update(public_key).finalize().into();
    let mut key_id = [0; KEY_ID_BYTES];
    key_id.copy_from_slice(&digest[..KEY_ID_BYTES]);
    key_id
}
