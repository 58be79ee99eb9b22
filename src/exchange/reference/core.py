"""What every shard has, shard 0 included: its position, its operators, its live nonces, and its ends of links."""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from sortedcontainers import SortedDict, SortedSet

from exchange.domain.commands import Batch
from exchange.domain.events import (
    ActionRejected,
    BatchResult,
    Event,
    LinkResult,
    OperationResult,
    OperatorKeyRotated,
    RulesRaised,
    ShardSettingsChanged,
)
from exchange.domain.frames import Entry, ParsedBatch, ParsedLink, ParsedOperation
from exchange.domain.limits import ENTRY_WORK_MAX, LINK_DIGESTS_MAX, LINK_TRANSFERS_MAX
from exchange.domain.markets import settings_are_valid
from exchange.domain.operations import (
    ROLE_OF_ACTION,
    Operation,
    OperatorAction,
    OperatorRole,
    RaiseRules,
    RotateOperatorKey,
    SetShardSettings,
)
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import SignedKind, check_environment, signed_bytes
from exchange.domain.state import AssetAmount, Genesis, LinkIn, LinkOut, LiveNonce, OperatorKey, ShardCore
from exchange.domain.stops import EngineStop, StopReason
from exchange.domain.units import TIME_US_MAX
from exchange.reference.refusal import Refused, require
from exchange.reference.signing import key_refusal, verify_one

RULES_MAX = 1
"""Newest version of the rules that this specification describes; it describes them from 1 on."""
UINT64 = 2**64


@dataclass(slots=True)
class Incoming:
    """Links from one shard: the last sequence number and the digests of the last payloads; what came, modulo 2^64."""

    last_sequence: int = 0
    digests: list[bytes] = field(default_factory=list)
    received: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Outgoing:
    """Links to one shard: the last sequence number; what went, modulo 2^64."""

    last_sequence: int = 0
    sent: dict[int, int] = field(default_factory=dict)


class Nonces:
    """The nonces that keys have used in batches that have not expired. Nothing is forgotten early."""

    def __init__(self) -> None:
        self._live: dict[tuple[bytes, int], LiveNonce] = {}
        self._by_expiry: SortedSet[tuple[int, bytes, int]] = SortedSet()
        self._of_key: dict[bytes, int] = {}

    def get(self, key_id: bytes, nonce: int) -> LiveNonce | None:
        """Return what is remembered of a nonce."""
        return self._live.get((key_id, nonce))

    def count(self, key_id: bytes) -> int:
        """Return how many live nonces the key has."""
        return self._of_key.get(key_id, 0)

    def remember(self, live: LiveNonce) -> None:
        """Burn a nonce until its batch has expired."""
        self._live[live.key_id, live.nonce] = live
        self._by_expiry.add((live.valid_until_ms, live.key_id, live.nonce))
        self._of_key[live.key_id] = self.count(live.key_id) + 1

    def forget_expired(self, t_us: int) -> None:
        """Forget the nonces of batches that can no longer be executed at t_us."""
        while self._by_expiry and self._by_expiry[0][0] * 1000 <= t_us:
            _, key_id, nonce = self._by_expiry.pop(0)
            del self._live[key_id, nonce]
            self._of_key[key_id] -= 1
            if not self._of_key[key_id]:
                del self._of_key[key_id]

    def __len__(self) -> int:
        return len(self._live)

    def export(self) -> tuple[LiveNonce, ...]:
        """Return all live nonces, by key and nonce."""
        return tuple(self._live[name] for name in sorted(self._live))


class Core:
    """Position, time, rules, settings, operators, nonces and links of a shard."""

    def __init__(self, state: ShardCore) -> None:
        if not 1 <= state.rules <= RULES_MAX:
            raise EngineStop(StopReason.UNKNOWN_RULES, f"rules {state.rules}; this program knows 1 .. {RULES_MAX}")
        self.genesis = state.genesis
        self.shard = state.genesis.shard
        self.environment = state.genesis.environment
        self.n = state.n
        self.t_us = state.t_us
        self.chain_hash = state.chain_hash
        self.rules = state.rules
        self.settings = state.settings
        self.operators = {OperatorRole(key.role): key for key in state.operators}
        self.control_floor = state.control_floor
        self.nonces = Nonces()
        for live in state.nonces:
            self.nonces.remember(live)
        self.links_in: SortedDict[int, Incoming] = SortedDict()
        for link in state.links_in:
            self.links_in[link.from_shard] = Incoming(link.last_sequence, list(link.digests), amounts_in(link.received))
        self._transfers_of_open_link: dict[int, int] = {}
        self.links_out: SortedDict[int, Outgoing] = SortedDict()
        for out in state.links_out:
            self.links_out[out.to_shard] = Outgoing(out.last_sequence, amounts_in(out.sent))

    def export(self) -> ShardCore:
        """Return the state as a value."""
        return ShardCore(
            genesis=self.genesis,
            n=self.n,
            t_us=self.t_us,
            chain_hash=self.chain_hash,
            rules=self.rules,
            settings=self.settings,
            operators=tuple(self.operators[role] for role in sorted(self.operators)),
            control_floor=self.control_floor,
            nonces=self.nonces.export(),
            links_in=tuple(
                LinkIn(shard, link.last_sequence, tuple(link.digests), amounts_out(link.received))
                for shard, link in self.links_in.items()
            ),
            links_out=tuple(
                LinkOut(shard, link.last_sequence, amounts_out(link.sent)) for shard, link in self.links_out.items()
            ),
        )

    def begin(self, entry: Entry) -> None:
        """Move to the entry's position and time; forget the nonces that its time has let expire; start new links."""
        if entry.n != self.n + 1:
            raise EngineStop(StopReason.POSITION, f"entry {entry.n} comes after entry {self.n}")
        if entry.t_us < self.t_us:
            raise EngineStop(StopReason.POSITION, f"entry {entry.n} is of time {entry.t_us}, before {self.t_us}")
        if entry.t_us > TIME_US_MAX:
            raise EngineStop(StopReason.POSITION, f"entry {entry.n} is of time {entry.t_us}, above {TIME_US_MAX}")
        self.n, self.t_us = entry.n, entry.t_us
        self.nonces.forget_expired(entry.t_us)
        self._transfers_of_open_link.clear()

    # --- batches ----------------------------------------------------------------------------------------------------

    def judge_batch(
        self,
        entry: Entry,
        place: int,
        parsed: ParsedBatch,
        work: int,
        authenticate: Callable[[ParsedBatch], RejectReason | None] = lambda _: None,
        authorize: Callable[[ParsedBatch], RejectReason | None] = lambda _: None,
    ) -> BatchResult:
        """Return whether a batch is executed, repeats one, or why it is refused (ARCHITECTURE.md, replay protection).

        A batch that was executed is answered as a repetition as long as it is valid, whatever has changed since. One
        that is refused leaves no trace: it is malformed, for another shard, or of no known key; or expired; or it may
        be sent again, when time has passed or the ingress has caught up with shard 0. One that is executed burns its
        nonce until it has expired, whatever becomes of its commands.

        Args:
            entry: that the batch is in.
            place: of the batch in it, from 1.
            parsed: the batch.
            work: that the entry has done.
            authenticate: says whether it is from its key; for shards that have keys.
            authorize: says whether the key may still sign for the account.
        """
        batch = parsed.batch
        if batch is None:
            return BatchResult(place, RejectReason.MALFORMED)
        if batch.shard != self.shard:
            return BatchResult(place, RejectReason.WRONG_SHARD)
        if reason := authenticate(parsed):
            return BatchResult(place, reason)
        key_id = parsed.signed.key_id
        burnt = self.nonces.get(key_id, batch.nonce)
        if burnt is not None:
            if burnt.digest == parsed.digest:
                return BatchResult(place, repeat_n=burnt.n, repeat_batch=burnt.batch)
            return BatchResult(place, RejectReason.NONCE_REUSED)
        if reason := authorize(parsed) or self._refusal_for_now(entry, key_id, batch, work):
            return BatchResult(place, reason)
        self.nonces.remember(LiveNonce(key_id, batch.nonce, self.n, place, parsed.digest, batch.valid_until_ms))
        return BatchResult(place)

    def _refusal_for_now(self, entry: Entry, key_id: bytes, batch: Batch, work: int) -> RejectReason | None:
        """Return why a new batch is not executed at this time, in this frame, or with so many others."""
        valid_until_us = batch.valid_until_ms * 1000
        if valid_until_us <= self.t_us:
            return RejectReason.BATCH_EXPIRED
        if valid_until_us > self.t_us + self.settings.max_validity_ms * 1000:
            return RejectReason.VALIDITY_TOO_LONG
        if entry.control_n < self.control_floor:
            return RejectReason.STALE_CONTROL
        if work >= ENTRY_WORK_MAX:
            return RejectReason.ENTRY_WORK_LIMIT
        if self.nonces.count(key_id) >= self.settings.live_nonces_per_key_max:
            return RejectReason.TOO_MANY_NONCES
        return None

    # --- operations -------------------------------------------------------------------------------------------------

    def judge_operation(
        self,
        place: int,
        parsed: ParsedOperation,
        work: int,
        answered: Callable[[], OperationResult | None] = lambda: None,
    ) -> OperationResult:
        """Return whether the actions of an operation are to be applied; its sequence number is then used.

        Args:
            place: of the operation in its entry, from 1.
            parsed: the operation.
            work: that the entry has done.
            answered: gives the answer that its request id already has; for shards that keep them.
        """
        operation = parsed.operation
        if operation is None:
            return OperationResult(place, RejectReason.MALFORMED)
        if operation.shard != self.shard:
            return OperationResult(place, RejectReason.WRONG_SHARD)
        if operation.role not in self.operators:
            return OperationResult(place, RejectReason.UNKNOWN_ROLE)
        operator = self.operators[OperatorRole(operation.role)]
        # Before the signature: the operation may have replaced the key that signed it.
        if operation.sequence == operator.last_sequence and parsed.digest == operator.last_digest:
            return OperationResult(place, repeated=True)
        if not self._is_signed(SignedKind.OPERATOR, operator, parsed.signed.payload, parsed.signed.signature):
            return OperationResult(place, RejectReason.BAD_SIGNATURE)
        if (answer := answered()) is not None:
            return answer
        if operation.sequence <= operator.last_sequence:
            return OperationResult(place, RejectReason.SEQUENCE_USED)
        if operation.sequence > operator.last_sequence + 1:
            return OperationResult(place, RejectReason.SEQUENCE_GAP)
        if work >= ENTRY_WORK_MAX:
            return OperationResult(place, RejectReason.ENTRY_WORK_LIMIT)
        self.operators[OperatorRole(operation.role)] = msgspec.structs.replace(
            operator, last_sequence=operation.sequence, last_digest=parsed.digest
        )
        return OperationResult(place)

    def apply_actions(
        self,
        operation: Operation,
        work: Callable[[], int],
        apply: Callable[[OperatorRole, OperatorAction], None],
        write: Callable[[Event], None],
    ) -> None:
        """Apply the actions of an operation in order, each or not, as its rules say.

        Args:
            operation: that was judged.
            work: says what the entry has done so far.
            apply: does an action of the role and writes what happened, or raises Refused and changes nothing.
            write: takes the refusals.
        """
        role = OperatorRole(operation.role)
        for number, action in enumerate(operation.actions, 1):
            try:
                require(work() < ENTRY_WORK_MAX, RejectReason.ENTRY_WORK_LIMIT)
                require(ROLE_OF_ACTION[type(action)] in (None, role), RejectReason.ROLE_NOT_ALLOWED)
                apply(role, action)
            except Refused as refused:
                write(ActionRejected(number, refused.reason))

    def change(self, role: OperatorRole, action: SetShardSettings | RaiseRules | RotateOperatorKey) -> Event:
        """Apply an action that every shard has; return what happened.

        Raises:
            Refused: a rule is broken; nothing was changed.
            EngineStop: the rules were raised beyond what this program knows.
        """
        match action:
            case SetShardSettings(settings):
                require(settings_are_valid(settings), RejectReason.INVALID_SETTINGS)
                self.settings = settings
                return ShardSettingsChanged(settings)
            case RaiseRules(rules):
                require(rules > self.rules, RejectReason.RULES_WOULD_NOT_RISE)
                if rules > RULES_MAX:
                    raise EngineStop(StopReason.UNKNOWN_RULES, f"rules {rules} were raised; known are 1 .. {RULES_MAX}")
                self.rules = rules
                return RulesRaised(rules)
            case RotateOperatorKey(public_key):
                require(key_refusal(public_key) is None, RejectReason.INVALID_PUBLIC_KEY)
                self.operators[role] = msgspec.structs.replace(self.operators[role], public_key=public_key)
                return OperatorKeyRotated(role, public_key)

    # --- links ------------------------------------------------------------------------------------------------------

    def judge_link(self, place: int, parsed: ParsedLink) -> LinkResult:
        """Return whether a link is to be applied now; it then counts as received (ARCHITECTURE.md, funds).

        Of a link older than the digests that are kept, only its sequence number is known: it was applied, and nothing
        happens. A sender has at most that many links unanswered, so it never sends one.
        """
        link = parsed.link
        if link is None:
            return LinkResult(place, reason=RejectReason.MALFORMED)

        def refused(reason: RejectReason) -> LinkResult:
            return LinkResult(place, link.from_shard, link.sequence, reason)

        if link.to_shard != self.shard or link.from_shard == self.shard:
            return refused(RejectReason.WRONG_SHARD)
        treasury = self.operators[OperatorRole.TREASURY]
        if not self._is_signed(SignedKind.LINK, treasury, parsed.signed.payload, parsed.signed.signature):
            return refused(RejectReason.BAD_SIGNATURE)
        incoming = self.links_in.get(link.from_shard) or Incoming()
        if link.sequence <= incoming.last_sequence:
            age = incoming.last_sequence - link.sequence
            if age < len(incoming.digests) and incoming.digests[-1 - age] != parsed.digest:
                raise EngineStop(
                    StopReason.LINK_CONFLICT, f"link {link.sequence} from shard {link.from_shard} came with two bodies"
                )
            return LinkResult(place, link.from_shard, link.sequence, repeated=True)
        if link.sequence > incoming.last_sequence + 1:
            return refused(RejectReason.LINK_GAP)
        self.links_in[link.from_shard] = incoming
        incoming.last_sequence = link.sequence
        incoming.digests = [*incoming.digests, parsed.digest][-LINK_DIGESTS_MAX:]
        for transfer in link.transfers:
            total = incoming.received.get(transfer.asset, 0) + transfer.amount_units
            incoming.received[transfer.asset] = total % UINT64
        return LinkResult(place, link.from_shard, link.sequence)

    def send(self, to_shard: int, asset: int, amount_units: int) -> int:
        """Count an amount as sent; return the sequence number of the link that carries it.

        What one entry sends to one shard travels in one link, as far as LINK_TRANSFERS_MAX goes.
        """
        outgoing = self.links_out.setdefault(to_shard, Outgoing())
        transfers = self._transfers_of_open_link.get(to_shard, 0)
        if transfers % LINK_TRANSFERS_MAX == 0:
            outgoing.last_sequence += 1
        self._transfers_of_open_link[to_shard] = transfers + 1
        outgoing.sent[asset] = (outgoing.sent.get(asset, 0) + amount_units) % UINT64
        return outgoing.last_sequence

    def _is_signed(self, kind: SignedKind, operator: OperatorKey, payload: bytes, signature: bytes) -> bool:
        return verify_one(operator.public_key, signed_bytes(kind, self.environment, payload), signature)


def genesis_core(genesis: Genesis, genesis_hash: bytes) -> ShardCore:
    """Return the core of a shard before its first entry.

    Raises:
        ValueError: a name, number or setting exceeds its bounds, or the operators are not the three roles with keys
            that may be registered.
    """
    check_environment(genesis.environment)
    if not settings_are_valid(genesis.settings):
        raise ValueError(f"GENESIS_SETTINGS: {genesis.settings} exceed the bounds of ShardSettings")
    if any(operator.last_sequence or operator.last_digest for operator in genesis.operators):
        raise ValueError("GENESIS_OPERATORS: at genesis no operator has signed anything yet")
    if [operator.role for operator in genesis.operators] != sorted(OperatorRole):
        raise ValueError(
            "GENESIS_OPERATORS: a genesis names the keys of the roles treasury, market, recovery, in order"
        )
    if refusal := genesis_key_refusal(genesis):
        raise ValueError(f"GENESIS_OPERATORS: {refusal}")
    return ShardCore(
        genesis=genesis,
        chain_hash=genesis_hash,
        rules=genesis.rules,
        settings=genesis.settings,
        operators=genesis.operators,
    )


def genesis_key_refusal(genesis: Genesis) -> str | None:
    """Return why an operator's key in a genesis may not be registered; None: they all may."""
    for operator in genesis.operators:
        if refusal := key_refusal(operator.public_key):
            return f"the key of role {operator.role} is refused: {refusal}"
    return None


def amounts_in(amounts: tuple[AssetAmount, ...]) -> dict[int, int]:
    """Return units by asset."""
    return {amount.asset: amount.amount_units for amount in amounts}


def amounts_out(amounts: dict[int, int]) -> tuple[AssetAmount, ...]:
    """Return the amounts by asset; assets with nothing are left out."""
    return tuple(AssetAmount(asset, units) for asset, units in sorted(amounts.items()) if units)
