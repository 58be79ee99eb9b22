"""A sentence for every reject reason, for the person who reads it: what the rule is and what to do."""

from collections.abc import Mapping
from typing import Final

from exchange.domain.rejects import RejectReason as R

EXPLANATIONS: Final[Mapping[R, str]] = {
    R.MALFORMED: (
        "The payload is not the canonical encoding of what it should be; encode it with the client library and sign "
        "it again."
    ),
    R.WRONG_SHARD: "It was signed for another shard; sign it for the shard that has the market.",
    R.BATCH_EXPIRED: (
        "Its valid_until_ms had passed when it got its time, so it will never be executed; sign a new batch and check"
        " the clock."
    ),
    R.VALIDITY_TOO_LONG: (
        "Its valid_until_ms is further away than the shard's max_validity_ms; send the same bytes later or sign a "
        "shorter one."
    ),
    R.NONCE_REUSED: "The key used this nonce for another batch that has not expired; sign with a nonce that is new.",
    R.TOO_MANY_NONCES: (
        "The key has as many unexpired batches in the shard as it may have; send the same bytes again when some have "
        "expired, or sign with shorter validity."
    ),
    R.STALE_CONTROL: "Keys changed while it was on its way; send the same bytes again.",
    R.UNKNOWN_KEY: "No such key is registered in this environment; register it, or sign with one that is.",
    R.BAD_SIGNATURE: "The signature does not verify; check key, environment and the bytes that were signed.",
    R.ACCOUNT_NOT_OF_KEY: "The key may not sign for this account; sign with a key of the account's user.",
    R.ENTRY_WORK_LIMIT: (
        "The log entry that it came in had done as much work as one entry may; send a batch that was refused as a "
        "whole again as it is, and a command again in a new batch."
    ),
    R.NOT_FOR_THIS_SHARD: (
        "Shard 0 keeps the treasury and does not trade, other shards trade and keep no treasury; send the command to "
        "the right one."
    ),
    R.UNKNOWN_MARKET: "The shard has no such market; ListMarkets tells which shard has it.",
    R.MARKET_HALTED: "The market is halted and takes nothing, not even cancels; wait until it is open again.",
    R.MARKET_CANCEL_ONLY: "The market takes cancels and reductions only, for now.",
    R.MARKET_POST_ONLY: "The market takes post-only orders, cancels and reductions only, for now.",
    R.INVALID_SIDE: "The side must be BUY or SELL.",
    R.INVALID_ORDER_TYPE: "The order type must be LIMIT or MARKET.",
    R.INVALID_TIME_IN_FORCE: (
        "The time in force must be GTC, IOC or FOK for a limit order, and IOC or FOK for a market order."
    ),
    R.INVALID_POST_ONLY: "Post-only is for limit orders that rest: type LIMIT, time in force GTC.",
    R.INVALID_SELF_TRADE_PREVENTION: "The mode of self-trade prevention is none that exists.",
    R.INVALID_QUANTITY: "The quantity must be 1 to 2^53-1 lots.",
    R.INVALID_PRICE: "The price must be 1 to 2^53-1 ticks; only a market order may leave it out.",
    R.NO_PROTECTION_PRICE: "The market has no price band on that side, so a market order needs a protection price.",
    R.PRICE_OUTSIDE_BAND: "The price is outside the band that the market allows now; choose one inside.",
    R.PRICE_OFF_TICK: "The price is not a multiple of what the market's tick table demands; round it.",
    R.QUANTITY_OFF_LOT: "The quantity is not a multiple of what the market's lot table demands; round it.",
    R.DUPLICATE_CLIENT_ORDER_ID: (
        "The account has an open order of this client_order_id in the shard; choose another, or cancel that order "
        "first."
    ),
    R.TOO_MANY_OPEN_ORDERS: "The account has as many open orders in the shard as it may have; cancel some.",
    R.AMOUNT_TOO_LARGE: (
        "Price times quantity with fees, or quantity in base units, reaches 2^63; make the order smaller."
    ),
    R.INSUFFICIENT_FUNDS: (
        "The account has less free in this shard than the command needs; cancel orders, or bring funds here with "
        "ReleaseFunds and AllocateFunds."
    ),
    R.POST_ONLY_WOULD_TRADE: "The post-only order would trade at once; choose a price that does not cross the book.",
    R.FOK_NOT_FILLABLE: "The fill-or-kill order cannot be filled in full at once; nothing was traded.",
    R.INVALID_ORDER_REFERENCE: "Give exactly one of order_id and client_order_id.",
    R.UNKNOWN_ORDER: "The account has no such open order in the shard: it was filled, cancelled or never there.",
    R.QUANTITY_NOT_ABOVE_FILLED: (
        "The new total quantity must be above what was filled already; to end the order, cancel it."
    ),
    R.INVALID_AMOUNT: "The amount must be 1 to 2^63-1 of the asset's smallest units.",
    R.UNKNOWN_ASSET: "There is no such asset; ListAssets has all.",
    R.UNKNOWN_SHARD: "The shard map has no such shard; GetExchange has all.",
    R.INVALID_DESTINATION: "The destination must have 1 to 128 bytes.",
    R.LINK_GAP: "Links before this one have not arrived; nothing was applied, and it will be sent again.",
    R.SEQUENCE_GAP: "Operations before this one have not arrived; send them first, then the same bytes again.",
    R.SEQUENCE_USED: "The role used this sequence number for another operation; sign with the next one.",
    R.UNKNOWN_ROLE: "No operator of this role has a key in this shard.",
    R.ROLE_NOT_ALLOWED: "The action is for another role than the one that signed it.",
    R.INVALID_MARKET: "The market's settings contradict themselves or exceed the bounds that market.proto gives.",
    R.MARKET_FIELD_FIXED: "A field that never changes differs from what the market has; define a new market instead.",
    R.INVALID_MARKET_STATE: "The market state is none that exists.",
    R.INVALID_SETTINGS: "The shard settings exceed the bounds that market.proto gives.",
    R.FLOOR_WOULD_FALL: "The control floor can only rise.",
    R.INVALID_SCOPE: "Give an account, a market, or both.",
    R.TOO_MANY_TIMERS: "The shard has as many timers as it may have; wait until some are due.",
    R.RULES_WOULD_NOT_RISE: "The rules can only rise.",
    R.INVALID_PUBLIC_KEY: (
        "The public key is not the canonical encoding of a point of prime order; make a new key pair."
    ),
    R.KEY_EXISTS: "The key was registered before; a key registers once, for ever. Make a new key pair.",
    R.KEY_REVOKED: "The key was revoked and never returns; sign with another key of the user.",
    R.UNKNOWN_USER: "There is no such user.",
    R.UNKNOWN_ACCOUNT: "There is no such account, or it is not one of the user's.",
    R.REQUEST_ID_REUSED: "The request_id was used for another body; nothing was changed. Choose a new one.",
    R.REQUEST_ID_MISSING: "Shard 0 demands a request_id; choose 16 bytes that are new.",
    R.ALREADY_DEFINED: "The number or the symbol is taken.",
    R.INVALID_DEFINITION: "The asset or the shard exceeds the bounds that operation.proto gives.",
    R.DEPOSITS_TOO_LARGE: "All deposits of the asset together would reach 2^63 units.",
    R.INVALID_POLICY: "The allocation policy is none that exists, or names a shard without need.",
    R.UNKNOWN_WITHDRAWAL: "There is no such open withdrawal: it was closed, or never there.",
    R.INVALID_REGISTRATION: (
        "The registration is not canonical, or names a user or an account where a new user is asked for."
    ),
    R.KEY_SCOPE_TOO_NARROW: (
        "The key may sign for one account only; keys and accounts are changed with a key that may sign for all of the"
        " user's."
    ),
    R.TOO_MANY_ACCOUNTS: "The user has as many accounts as a user may have.",
    R.TOO_MANY_KEYS: "The user has registered as many keys as a user may, revoked ones included.",
    R.TOO_MANY_WITHDRAWALS: "The account has as many open withdrawals as it may have; wait until some are closed.",
}
"""By reason, in the order of their numbers. Texts are not stable; names and numbers are."""
