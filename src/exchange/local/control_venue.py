"""Shard 0 in this process, with the operators, users and shards that write to it.

Like `venue.Venue`, of which it is the other half: real signatures, real bytes, no network. Money crosses between the
two as the links that `carried_by` reads out of what either wrote.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from exchange.domain.commands import Batch, Command, SignedBatch
from exchange.domain.control import ControlRequest, RegisterKey, Registration, SignedRegistration
from exchange.domain.events import Event, FundsSent, KeyRegistered
from exchange.domain.frames import FORMAT, ExecutionFrame, OrderFrame
from exchange.domain.markets import DEFAULT_SETTINGS, ShardSettings
from exchange.domain.operations import (
    Link,
    Operation,
    OperatorAction,
    OperatorRole,
    SignedLink,
    SignedOperation,
    Transfer,
)
from exchange.domain.signing import SignedKind, key_id_of, signed_bytes
from exchange.domain.state import ControlState
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.port import RawEntry
from exchange.engine.reference import ReferenceControl, control_from_genesis
from exchange.local.venue import START_US, VALIDITY_MS, make_genesis, operator_seed, seed_of
from exchange.reference.signing import public_key_of, sign
from exchange.wire.messages import decode, encode


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key that a user may register."""

    seed: bytes
    public_key: bytes
    key_id: bytes


class ControlVenue:
    """Shard 0 and its log.

    Attributes:
        engine: the shard.
        now_us: time of the next entry; set it to let time pass, never backwards.
        operator_seeds: private key of each role; after a rotation, put the new one here.
        entries, frames: the log so far, entry by entry and answer by answer.
    """

    def __init__(self, *, environment: str = "local", settings: ShardSettings = DEFAULT_SETTINGS) -> None:
        """Make shard 0 of an environment; venues of the same name accept the links that it sends."""
        self.environment = environment
        self.now_us = START_US
        self.operator_seeds = {role: operator_seed(environment, role) for role in OperatorRole}
        self.entries: list[RawEntry] = []
        self.frames: list[bytes] = []
        self.genesis = encode(make_genesis(environment, CONTROL_SHARD, settings))
        self.engine: ReferenceControl = control_from_genesis(self.genesis)
        self._sequences = dict.fromkeys(OperatorRole, 0)
        self._nonce = 0
        self._request = 0

    @property
    def state(self) -> ControlState:
        """The state as a value."""
        return self.engine.state()

    # --- who signs --------------------------------------------------------------------------------------------------

    def key(self, name: str) -> KeyPair:
        """Return the key pair of that name, the same in every venue of the environment."""
        seed = seed_of(self.environment, f"key {name}")
        public_key = public_key_of(seed)
        return KeyPair(seed, public_key, key_id_of(public_key))

    def registration(self, key: KeyPair, user: int = 0, account: int = 0) -> RegisterKey:
        """Return the request to register a key, with its proof of possession."""
        payload = encode(Registration(key.public_key, user, account))
        proof = sign(key.seed, signed_bytes(SignedKind.REGISTER, self.environment, payload))
        return RegisterKey(SignedRegistration(payload, proof))

    def batch(self, key: KeyPair, account: int, *commands: Command, nonce: int | None = None) -> SignedBatch:
        """Return commands for an account as a key signs them, under a nonce of their own unless one is given."""
        if nonce is None:
            self._nonce += 1
            nonce = self._nonce
        payload = encode(Batch(account, CONTROL_SHARD, nonce, self.now_us // 1000 + VALIDITY_MS, commands))
        signature = sign(key.seed, signed_bytes(SignedKind.BATCH, self.environment, payload))
        return SignedBatch(key.key_id, payload, signature)

    def operation(
        self, role: OperatorRole, *actions: OperatorAction, request_id: bytes | None = None, sequence: int | None = None
    ) -> SignedOperation:
        """Return actions as the role signs them.

        Args:
            role: whose key signs.
            actions: what to do.
            request_id: 16 bytes, or none at all where empty; None: a new one.
            sequence: of the operation; None: the next one of the role.
        """
        if sequence is None:
            self._sequences[role] += 1
            sequence = self._sequences[role]
        name = self.request_id() if request_id is None else request_id
        payload = encode(Operation(CONTROL_SHARD, role, sequence, actions, name))
        covered = signed_bytes(SignedKind.OPERATOR, self.environment, payload)
        return SignedOperation(payload, sign(self.operator_seeds[role], covered))

    def request_id(self) -> bytes:
        """Return a request id that was not used before."""
        self._request += 1
        return hashlib.sha256(f"request {self._request}".encode()).digest()[:16]

    # --- what enters ------------------------------------------------------------------------------------------------

    def operate(self, role: OperatorRole, *actions: OperatorAction) -> tuple[Event, ...]:
        """Enter one operation under a new request id; return what happened."""
        return self.enter(operations=(self.operation(role, *actions),))

    def ask(self, action: RegisterKey, request_id: bytes | None = None) -> tuple[Event, ...]:
        """Enter one request, under a new id unless one is given; return what happened."""
        return self.enter(requests=(ControlRequest(self.request_id() if request_id is None else request_id, action),))

    def new_user(self, name: str) -> tuple[int, KeyPair]:
        """Register the key of that name; return the account that was made for it, and the key pair."""
        key = self.key(name)
        registered = next(event for event in self.ask(self.registration(key)) if isinstance(event, KeyRegistered))
        accounts = next(user.accounts for user in self.state.users if user.user == registered.user)
        return accounts[0], key

    def command(self, key: KeyPair, account: int, *commands: Command) -> tuple[Event, ...]:
        """Enter one batch; return what happened."""
        return self.enter(batches=(self.batch(key, account, *commands),))

    def enter(
        self,
        *,
        batches: tuple[SignedBatch, ...] = (),
        links: tuple[SignedLink, ...] = (),
        operations: tuple[SignedOperation, ...] = (),
        requests: tuple[ControlRequest, ...] = (),
    ) -> tuple[Event, ...]:
        """Frame everything into one entry at `now_us`, execute it and return what happened.

        Raises:
            EngineStop: the engine cannot answer.
        """
        n = self.engine.position + 1
        order_frame = encode(
            OrderFrame(
                format=FORMAT,
                ingress=hashlib.sha256(f"ingress {self.environment} 0".encode()).digest()[:16],
                counter=n,
                ingress_time_us=self.now_us,
                batches=batches,
                links=links,
                operations=operations,
                requests=requests,
            )
        )
        entry = RawEntry(n, self.now_us, order_frame)
        frame = self.engine.apply([entry])[0]
        self.entries.append(entry)
        self.frames.append(frame)
        return decode(ExecutionFrame, frame).events


def signed_link(environment: str, link: Link) -> SignedLink:
    """Return a link as the treasury of an environment signs it."""
    payload = encode(link)
    covered = signed_bytes(SignedKind.LINK, environment, payload)
    return SignedLink(payload, sign(operator_seed(environment, OperatorRole.TREASURY), covered))


def carried_by(events: Iterable[Event], from_shard: int, n: int) -> list[Link]:
    """Return the links that carry what entry n of a shard sent, in order."""
    transfers: dict[tuple[int, int], list[Transfer]] = {}
    for sent in events:
        if isinstance(sent, FundsSent):
            transfer = Transfer(sent.account, sent.asset, sent.amount_units)
            transfers.setdefault((sent.to_shard, sent.link_sequence), []).append(transfer)
    return [
        Link(from_shard, to_shard, sequence, n, tuple(carried)) for (to_shard, sequence), carried in transfers.items()
    ]
