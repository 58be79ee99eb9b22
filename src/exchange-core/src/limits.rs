//! LIMITS of v1, as `exchange.domain.limits` has them; a test compares the two.

/// Bytes of a key's name.
pub const KEY_ID_BYTES: usize = 16;
/// Bytes of a request id.
pub const REQUEST_ID_BYTES: usize = 16;
/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;
/// Bytes of a public key.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Bytes of the name of an ingress' start.
pub const INGRESS_BYTES: usize = 16;
/// Most commands of a batch.
pub const BATCH_COMMANDS_MAX: usize = 1_024;
/// Longest payload of a batch.
pub const BATCH_BYTES_MAX: usize = 65_536;
/// Most batches of a frame.
pub const FRAME_BATCHES_MAX: usize = 16_384;
/// Most commands of a frame, all batches together.
pub const FRAME_COMMANDS_MAX: usize = 16_384;
/// Most links of a frame.
pub const FRAME_LINKS_MAX: usize = 64;
/// Most operations of a frame.
pub const FRAME_OPERATIONS_MAX: usize = 64;
/// Most control requests of a frame.
pub const FRAME_REQUESTS_MAX: usize = 1_024;
/// Longest order frame.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most actions of an operation.
pub const OPERATION_ACTIONS_MAX: usize = 1_024;
/// Longest payload of an operation.
pub const OPERATION_BYTES_MAX: usize = 262_144;
/// Most transfers of a link.
pub const LINK_TRANSFERS_MAX: usize = 1_024;
/// Longest payload of a link.
pub const LINK_BYTES_MAX: usize = 65_536;
/// Longest payload of a registration.
pub const REGISTRATION_BYTES_MAX: usize = 256;
/// Longest destination of a withdrawal.
pub const DESTINATION_BYTES_MAX: usize = 128;
/// Most rows of a tick or lot table.
pub const TABLE_ROWS_MAX: usize = 32;
/// Most events that one command may cause.
pub const COMMAND_EVENTS_MAX: usize = 1_024;
/// Work of an entry, in events written and makers that a fill-or-kill order looked at, after which more is refused.
pub const ENTRY_WORK_MAX: usize = 65_536;
/// Most events of timers and mass cancels at the start of an entry.
pub const PENDING_EVENTS_MAX: usize = 1_024;
/// Most timers of a shard.
pub const TIMERS_MAX: usize = 65_536;
/// Links whose digests a receiver keeps.
pub const LINK_DIGESTS_MAX: usize = 1_024;
/// Longest execution frame.
pub const EXECUTION_FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;
