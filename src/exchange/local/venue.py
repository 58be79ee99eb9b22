"""One trading shard with everybody who talks to it: operators who sign, traders who sign, an ingress that verifies.

Nothing is left out but the network: batches are signed and verified, frames are encoded, chained and decoded again. All
keys come from the environment's name, so two venues of one name make the same bytes.
"""

import hashlib
from dataclasses import dataclass

from exchange.domain.commands import Batch, Command, SignedBatch
from exchange.domain.events import Event
from exchange.domain.frames import FORMAT, ExecutionFrame, OrderFrame
from exchange.domain.markets import DEFAULT_SETTINGS, Market, ShardSettings
from exchange.domain.operations import (
    DefineMarket,
    Link,
    Operation,
    OperatorAction,
    OperatorRole,
    SignedLink,
    SignedOperation,
    Transfer,
)
from exchange.domain.signing import SignedKind, key_id_of, signed_bytes
from exchange.domain.state import Genesis, OperatorKey
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.port import Engine, EngineFactory, RawEntry
from exchange.reference.signing import public_key_of, sign, verify_one
from exchange.wire.messages import decode, encode

START_US = 1_700_000_000_000_000
"""Time of a venue's first entry unless told otherwise: 2023-11-14 22:13:20 UTC."""
VALIDITY_MS = 30_000
UNSIGNED = bytes(64)


class BadSignatureError(ValueError):
    """A batch does not carry the signature of its key: the door is shut, nothing was framed."""


@dataclass(frozen=True, slots=True)
class Trader:
    """An account with its key pair."""

    account: int
    seed: bytes
    public_key: bytes
    key_id: bytes


class Venue:
    """A shard, its log, and the keys of all who may write to it.

    Attributes:
        engine: the shard.
        now_us: time of the next entry; set it to let time pass, never backwards.
        entries, frames: the log so far, entry by entry and answer by answer, where `keep_log` is set.
    """

    def __init__(
        self,
        factory: EngineFactory,
        *,
        environment: str = "local",
        shard: int = 1,
        settings: ShardSettings = DEFAULT_SETTINGS,
        signed: bool = True,
        keep_log: bool = True,
    ) -> None:
        """Make a shard from its genesis.

        Args:
            factory: the engine to run.
            environment: name of the environment, part of everything that is signed.
            shard: number of the shard, 1 .. 4095.
            settings: of the shard.
            signed: False leaves out signing and verifying batches, which an engine does not look at.
            keep_log: False forgets entries and frames, for runs that are longer than memory.
        """
        self.environment = environment
        self.shard = shard
        self.signed = signed
        self.keep_log = keep_log
        self.now_us = START_US
        self.entries: list[RawEntry] = []
        self.frames: list[bytes] = []
        self.genesis = encode(make_genesis(environment, shard, settings))
        self.engine: Engine = factory.from_genesis(self.genesis)
        self._traders: dict[int, Trader] = {}
        self._sequences = dict.fromkeys(OperatorRole, 0)
        self._link_sequence = 0
        self._nonce = 0
        self._ingress = hashlib.sha256(f"ingress {environment} {shard}".encode()).digest()[:16]

    # --- who signs --------------------------------------------------------------------------------------------------

    def trader(self, account: int) -> Trader:
        """Return the account's key pair, the same in every venue of this environment."""
        if account not in self._traders:
            seed = seed_of(self.environment, f"account {account}")
            public_key = public_key_of(seed)
            self._traders[account] = Trader(account, seed, public_key, key_id_of(public_key))
        return self._traders[account]

    def batch(
        self, account: int, *commands: Command, nonce: int | None = None, valid_for_ms: int = VALIDITY_MS
    ) -> SignedBatch:
        """Return commands as the account signs them, valid for so long from now, under a nonce of their own."""
        if nonce is None:
            self._nonce += 1
            nonce = self._nonce
        trader = self.trader(account)
        payload = encode(Batch(account, self.shard, nonce, self.now_us // 1000 + valid_for_ms, commands))
        covered = signed_bytes(SignedKind.BATCH, self.environment, payload)
        return SignedBatch(trader.key_id, payload, sign(trader.seed, covered) if self.signed else UNSIGNED)

    def operation(self, role: OperatorRole, *actions: OperatorAction) -> SignedOperation:
        """Return actions as the role signs them, under its next sequence number."""
        self._sequences[role] += 1
        payload = encode(Operation(self.shard, role, self._sequences[role], actions))
        seed = operator_seed(self.environment, role)
        return SignedOperation(payload, sign(seed, signed_bytes(SignedKind.OPERATOR, self.environment, payload)))

    def link(self, *transfers: Transfer, sequence: int | None = None) -> SignedLink:
        """Return money from the treasury as the treasury signs it, under the next sequence number or the given one."""
        if sequence is None:
            self._link_sequence += 1
            sequence = self._link_sequence
        payload = encode(Link(CONTROL_SHARD, self.shard, sequence, sequence, transfers))
        seed = operator_seed(self.environment, OperatorRole.TREASURY)
        return SignedLink(payload, sign(seed, signed_bytes(SignedKind.LINK, self.environment, payload)))

    # --- what enters ------------------------------------------------------------------------------------------------

    def define_markets(self, *markets: Market) -> tuple[Event, ...]:
        """Open books."""
        return self.operate(OperatorRole.MARKET, *(DefineMarket(market) for market in markets))

    def operate(self, role: OperatorRole, *actions: OperatorAction) -> tuple[Event, ...]:
        """Enter one operation; return what happened."""
        return self.enter(operations=(self.operation(role, *actions),))

    def credit(self, *transfers: Transfer) -> tuple[Event, ...]:
        """Enter one link from the treasury; return what happened."""
        return self.enter(links=(self.link(*transfers),))

    def trade(self, account: int, *commands: Command) -> tuple[Event, ...]:
        """Enter one batch of an account; return what happened."""
        return self.enter(self.batch(account, *commands))

    def enter(
        self,
        *batches: SignedBatch,
        links: tuple[SignedLink, ...] = (),
        operations: tuple[SignedOperation, ...] = (),
    ) -> tuple[Event, ...]:
        """Verify the batches, frame everything into one entry at `now_us`, execute it and return what happened.

        Raises:
            BadSignatureError: a batch is not signed by the key that it names; nothing was entered.
            EngineStop: the engine cannot answer.
        """
        if self.signed:
            for batch in batches:
                self._verify(batch)
        n = self.engine.position + 1
        order_frame = encode(
            OrderFrame(
                format=FORMAT,
                ingress=self._ingress,
                counter=n,
                ingress_time_us=self.now_us,
                batches=batches,
                links=links,
                operations=operations,
            )
        )
        return self.enter_raw(order_frame).events

    def enter_raw(self, order_frame: bytes) -> ExecutionFrame:
        """Execute an encoded order frame, whatever it holds, and return the decoded answer."""
        entry = RawEntry(self.engine.position + 1, self.now_us, order_frame)
        frame = self.engine.apply([entry])[0]
        if self.keep_log:
            self.entries.append(entry)
            self.frames.append(frame)
        return decode(ExecutionFrame, frame)

    def _verify(self, batch: SignedBatch) -> None:
        account = decode(Batch, batch.payload).account
        trader = self.trader(account)
        covered = signed_bytes(SignedKind.BATCH, self.environment, batch.payload)
        if batch.key_id != trader.key_id or not verify_one(trader.public_key, covered, batch.signature):
            raise BadSignatureError(f"BAD_SIGNATURE: the batch of account {account} is not signed by its key")


def make_genesis(environment: str, shard: int, settings: ShardSettings = DEFAULT_SETTINGS) -> Genesis:
    """Return the genesis of a shard whose operators have the keys of `operator_seed`."""
    return Genesis(
        format=FORMAT,
        environment=environment,
        shard=shard,
        rules=1,
        settings=settings,
        operators=tuple(OperatorKey(role, public_key_of(operator_seed(environment, role))) for role in OperatorRole),
    )


def operator_seed(environment: str, role: OperatorRole) -> bytes:
    """Return the private key of a role. It can be guessed from the name: for venues in one process only."""
    return seed_of(environment, f"operator {role.name}")


def seed_of(environment: str, name: str) -> bytes:
    """Return the private key of that name, the same in every venue of the environment."""
    return hashlib.sha256(f"local venue {environment} {name}".encode()).digest()
