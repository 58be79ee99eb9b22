"""LIMITS of v1: how much may be in one of anything. They are part of the contracts and never change within v1.

Larger input is refused at the door; the engine refuses it again, so that a hostile ingress cannot get around them.
"""

from typing import Final

KEY_ID_BYTES: Final = 16
REQUEST_ID_BYTES: Final = 16
HASH_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
INGRESS_BYTES: Final = 16

BATCH_COMMANDS_MAX: Final = 1_024
BATCH_BYTES_MAX: Final = 65_536
REQUEST_COMMANDS_MAX: Final = 4_096
REQUEST_BYTES_MAX: Final = 2 * 1024 * 1024

FRAME_BATCHES_MAX: Final = 16_384
FRAME_COMMANDS_MAX: Final = 16_384
FRAME_LINKS_MAX: Final = 64
FRAME_OPERATIONS_MAX: Final = 64
FRAME_REQUESTS_MAX: Final = 1_024
FRAME_BYTES_MAX: Final = 4 * 1024 * 1024

OPERATION_ACTIONS_MAX: Final = 1_024
OPERATION_BYTES_MAX: Final = 262_144
LINK_TRANSFERS_MAX: Final = 1_024
LINK_BYTES_MAX: Final = 65_536
REGISTRATION_BYTES_MAX: Final = 256
DESTINATION_BYTES_MAX: Final = 128
TABLE_ROWS_MAX: Final = 32

COMMAND_EVENTS_MAX: Final = 1_024
"""Most events that one command may cause. A taker that reaches it has its rest cancelled (MATCH_LIMIT)."""
ENTRY_WORK_MAX: Final = 65_536
"""Work of an entry, in events written and makers that a refused fill-or-kill order looked at. Batches, commands,
operations and actions that come after so much of it are refused (ENTRY_WORK_LIMIT)."""
ACCOUNTS_PER_USER_MAX: Final = 1_024
KEYS_PER_USER_MAX: Final = 1_024
"""Keys of a user, revoked ones included: a key is registered for ever."""
OPEN_WITHDRAWALS_PER_ACCOUNT_MAX: Final = 128
PENDING_EVENTS_MAX: Final = 1_024
"""Most events of timers and mass cancels at the start of an entry; what is left goes on in the next."""
TIMERS_MAX: Final = 65_536
"""Most timers of a shard."""
LINK_DIGESTS_MAX: Final = 1_024
"""Links whose digests a receiver keeps. A sender has no more than this many links unanswered."""
EXECUTION_FRAME_BYTES_MAX: Final = 32 * 1024 * 1024
"""No frame is larger: ENTRY_WORK_MAX events of 160 bytes at most, those of one more command or action, the credits of
links, a refusal for each part that is left, and what repeats its input, no more than FRAME_BYTES_MAX in all."""
