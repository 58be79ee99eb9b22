"""A host for admin in this process: real engines, signatures, frames and chains; no bus, no database, no network.

Shard 0 and trading shards each have their engine and their log. Money that one sends is carried to the other as a
signed link, at once or, while `links_held` is set, not yet. What goes wrong on the way to a shard is told to the host
beforehand.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from clob.v1.account_service_pb2 import FundsInTransit, GetBalancesResponse
from clob.v1.admin_service_pb2 import PROCESS_STATE_SERVING, GetConfigResponse, Process
from clob.v1.frame_pb2 import ExecutionFrame as WireFrame
from clob.v1.matching_service_pb2 import ShardStatus
from clob.v1.settlement_service_pb2 import AuditResponse, SettlementPosition
from clob.v1.withdrawal_pb2 import Withdrawal, WithdrawalState
from exchange.admin.port import BusFacts, DiskFacts, Executed, HeadFacts, LoggedEntry, NotExecutedYet, NotInLogError
from exchange.config.environment import Environment
from exchange.control.view import ControlView
from exchange.domain.commands import SignedBatch
from exchange.domain.control import ControlRequest
from exchange.domain.events import FundsSent, LinkResult, WithdrawalClosed, WithdrawalRequested
from exchange.domain.frames import FORMAT, ExecutionFrame, OrderFrame
from exchange.domain.markets import Market
from exchange.domain.operations import DefineShard, Operation, OperatorRole, SignedLink, SignedOperation
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.domain.state import AnsweredRequest, OpenWithdrawal
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.choice import ENGINES
from exchange.engine.port import RawEntry, ShardFacts
from exchange.engine.reference import ReferenceControl, ReferenceShard, control_from_genesis
from exchange.local.control_venue import carried_by, signed_link
from exchange.local.venue import START_US, operator_seed
from exchange.reference.signing import public_key_of, sign
from exchange.wire.messages import decode, encode

NAME = "admin-test"
ADDRESS = "127.0.0.1:7000"
KEYS = {role: operator_seed(NAME, role) for role in (OperatorRole.TREASURY, OperatorRole.MARKET)}
"""The keys that a settlement-plane holds."""


def environment(*, starting_funds: dict[str, int] | None = None, production: bool = False) -> Environment:
    """Return an environment whose operators have the keys of `KEYS`, and a recovery key."""
    operators = {role.name.lower(): public_key_of(operator_seed(NAME, role)).hex() for role in OperatorRole}
    return Environment(NAME, operators, production, starting_funds=starting_funds or {})


class MemoryHost:
    """The host.

    Attributes:
        now_us: time of the next entry; goes on by itself.
        logs: entries of each shard, from the first.
        down: shards that take nothing.
        lose_answers: how many more executions the host does not hear of, though they happen.
        links_held: money stays in transit.
        facts_held: shards whose facts stay as they are.
        unaudited: withdrawals are not payable.
        entered: how often `enter` was called, by shard.
    """

    def __init__(self, environment_: Environment, shards: int = 2) -> None:
        self.environment = environment_
        self.address = ADDRESS
        self.now_us = START_US
        self.control: ReferenceControl = control_from_genesis(environment_.genesis(CONTROL_SHARD))
        self.trading: dict[int, ReferenceShard] = {}
        self.logs: dict[int, list[LoggedEntry]] = {CONTROL_SHARD: []}
        self.down: set[int] = set()
        self.lose_answers = 0
        self.links_held = False
        self.facts_held: dict[int, tuple[ShardFacts, Mapping[int, Market]]] = {}
        self.unaudited = False
        self.entered: dict[int, int] = {}
        self.bus_facts = BusFacts("valkey", "9.0.1", "f" * 40, "noeviction", "yes", "always", 1_000, 400)
        self.heads: dict[int, HeadFacts] = {}
        self.registry: list[Process] = []
        self.frames_seen: list[Callable[[ExecutionFrame], None]] = []
        self.database_trouble = ""
        self._view = ControlView.from_genesis(environment_.genesis(CONTROL_SHARD))
        self._moved = asyncio.Condition()
        self._held: list[tuple[int, SignedLink]] = []
        self._sent: dict[tuple[int, int, int], list[FundsInTransit]] = {}
        self._withdrawals: dict[int, Withdrawal] = {}
        if shards:
            self.operate(OperatorRole.MARKET, *(DefineShard(shard) for shard in range(1, shards + 1)))
        for shard in range(1, shards + 1):
            engine = ENGINES["reference"].from_genesis(environment_.genesis(shard))
            assert isinstance(engine, ReferenceShard)
            self.trading[shard] = engine
            self.logs[shard] = []

    # --- what tests do besides --------------------------------------------------------------------------------------

    def operate(self, role: OperatorRole, *actions: object, shard: int = CONTROL_SHARD) -> ExecutionFrame:
        """Enter an operation as somebody else who has the role's key does."""
        sequence = self._engine(shard).facts().sequences[role] + 1
        name = hashlib.sha256(b"%d %d %d" % (shard, role, sequence)).digest()[:16]
        operation = Operation(shard, role, sequence, actions, name)  # type: ignore[arg-type]
        payload = encode(operation)
        signature = sign(operator_seed(NAME, role), signed_bytes(SignedKind.OPERATOR, NAME, payload))
        return self._apply(shard, operations=(SignedOperation(payload, signature),))

    def trade(self, *batches: SignedBatch) -> ExecutionFrame:
        """Enter batches of traders into shard 0."""
        return self._apply(CONTROL_SHARD, batches=batches)

    def tick(self, shard: int, until_us: int) -> None:
        """Let an empty entry of that time into a shard, as a clock does."""
        self.now_us = max(self.now_us, until_us)
        self._apply(shard)

    async def release_links(self) -> None:
        """Let everything in transit arrive."""
        self.links_held = False
        held, self._held = self._held, []
        for shard, link in held:
            self._apply(shard, links=(link,))
        await self._notify()

    async def changed(self) -> None:
        """Tell whoever waits that a test changed something."""
        await self._notify()

    # --- the port ---------------------------------------------------------------------------------------------------

    @property
    def view(self) -> ControlView:
        return self._view

    def answered(self, request_id: bytes, by_operator: bool) -> AnsweredRequest | None:
        return self.control.answered(request_id, by_operator)

    def facts(self, shard: int) -> ShardFacts | None:
        if shard in self.facts_held:
            return self.facts_held[shard][0]
        return self._engine(shard).facts() if shard in self.logs else None

    def markets(self, shard: int) -> Mapping[int, Market]:
        if shard in self.facts_held:
            return self.facts_held[shard][1]
        return self._engine(shard).markets() if shard in self.logs else MappingProxyType({})

    def hold_facts(self, shard: int) -> None:
        """Keep the facts of a shard as they are, as a re-execution does that is behind."""
        self.facts_held[shard] = (self._engine(shard).facts(), self._engine(shard).markets())

    async def wait(self, shard: int, holds: Callable[[ShardFacts], bool], wait_s: float) -> bool:
        def is_so() -> bool:
            facts = self.facts(shard)
            return facts is not None and holds(facts)

        try:
            async with asyncio.timeout(wait_s), self._moved:
                return await self._moved.wait_for(is_so)
        except TimeoutError:
            return is_so()

    async def enter(
        self,
        shard: int,
        *,
        operations: Sequence[SignedOperation] = (),
        requests: Sequence[ControlRequest] = (),
        wait_s: float,
    ) -> Executed:
        self.entered[shard] = self.entered.get(shard, 0) + 1
        await asyncio.sleep(0)
        if shard in self.down or shard not in self.logs:
            raise NotExecutedYet(shard, "it takes nothing")
        frame = self._apply(shard, operations=tuple(operations), requests=tuple(requests))
        await self._notify()
        if self.lose_answers:
            self.lose_answers -= 1
            raise NotExecutedYet(shard, "the answer was lost")
        wire = WireFrame.FromString(self.logs[shard][frame.n - 1].execution_frame)
        return Executed(frame.n, frame.t_us, wire)

    async def entry(self, shard: int, n: int) -> LoggedEntry:
        if not 1 <= n <= len(self.logs[shard]):
            raise NotInLogError(f"NOT_IN_LOG: shard {shard} has no entry {n}")
        return self.logs[shard][n - 1]

    async def transfers(self, account: int) -> Sequence[FundsInTransit]:
        found = [transfer for link in self._sent.values() for transfer in link]
        found.sort(key=lambda t: (t.debited_us, t.from_shard, t.to_shard, t.link_sequence))
        return [transfer for transfer in found if account in (0, transfer.account)]

    async def withdrawals(self, account: int, state: int, after: int, count: int) -> Sequence[Withdrawal]:
        found = []
        for number, withdrawal in sorted(self._withdrawals.items()):
            wanted = account in (0, withdrawal.request.account) and state in (0, withdrawal.state)
            if number > after and wanted:
                told = Withdrawal()
                told.CopyFrom(withdrawal)
                told.payable = withdrawal.state == WithdrawalState.WITHDRAWAL_STATE_OPEN and not self.unaudited
                found.append(told)
        return found[:count]

    async def positions(self) -> Sequence[SettlementPosition]:
        positions = []
        for shard, log in sorted(self.logs.items()):
            n = len(log)
            position = SettlementPosition(orders_n=n, executions_n=n, audited_n=n)
            position.settled.shard, position.settled.n = shard, n
            positions.append(position)
        return positions

    async def audit(self) -> AuditResponse:
        state = self.control.state()
        response = AuditResponse(passed=True)
        for totals in state.totals:
            asset = totals.asset
            treasury = sum(
                balance.amount_units for owner in state.treasury for balance in owner.balances if balance.asset == asset
            )
            set_aside = sum(open_.amount_units for open_ in state.withdrawals if open_.asset == asset)
            transit = sum(t.amount_units for link in self._sent.values() for t in link if t.asset == asset)
            shards = sum(
                balance.free_units + balance.locked_units
                for engine in self.trading.values()
                for owner in engine.state().accounts
                for balance in owner.balances
                if balance.asset == asset
            )
            there = treasury + set_aside + transit + shards
            response.lines.add(
                asset=asset,
                symbol=self._view.assets[asset].symbol,
                treasury_units=treasury + set_aside,
                transit_units=transit,
                shards_units=shards,
                deposited_units=totals.deposited_units,
                withdrawn_units=totals.withdrawn_units,
                difference_units=there - totals.deposited_units + totals.withdrawn_units,
            )
        return response

    async def processes(self) -> Sequence[Process]:
        own = Process(kind="settlement-plane", address=ADDRESS, state=PROCESS_STATE_SERVING, shards=[0])
        return [*self.registry, own]

    async def bus(self) -> BusFacts:
        return self.bus_facts

    async def head(self, shard: int) -> HeadFacts | None:
        n = len(self.logs.get(shard, ()))
        return self.heads.get(shard) or HeadFacts(self.bus_facts.run_id, "", n, n, 0)

    async def disks(self) -> Sequence[DiskFacts]:
        return [DiskFacts("database", "settlement.db", 50, 100)]

    async def check_database(self) -> str:
        return self.database_trouble

    def control_status(self) -> ShardStatus:
        status = ShardStatus(engine="reference", orders_n=len(self.logs[0]))
        status.executed.n = len(self.logs[0])
        return status

    def own_settings(self) -> GetConfigResponse:
        response = GetConfigResponse()
        response.settings.add(name="log_level", value="info", origin="default")
        return response

    # --- inside -----------------------------------------------------------------------------------------------------

    def _engine(self, shard: int) -> ReferenceControl | ReferenceShard:
        return self.trading[shard] if shard else self.control

    async def _notify(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    def _apply(
        self,
        shard: int,
        *,
        operations: tuple[SignedOperation, ...] = (),
        links: tuple[SignedLink, ...] = (),
        requests: tuple[ControlRequest, ...] = (),
        batches: tuple[SignedBatch, ...] = (),
    ) -> ExecutionFrame:
        """Execute one entry, let the view follow, and carry what it sends."""
        self.now_us += 1_000
        n = len(self.logs[shard]) + 1
        order_frame = encode(
            OrderFrame(
                format=FORMAT,
                ingress=bytes(16),
                counter=n,
                ingress_time_us=self.now_us,
                control_n=self._view.position,
                operations=operations,
                links=links,
                requests=requests,
                batches=batches,
            )
        )
        data = self._engine(shard).apply([RawEntry(n, self.now_us, order_frame)])[0]
        self.logs[shard].append(LoggedEntry(order_frame, data))
        frame = decode(ExecutionFrame, data)
        if shard == CONTROL_SHARD:
            self._view.apply(data)
            self._project(frame)
        for event in frame.events:
            if isinstance(event, LinkResult) and not event.reason:
                self._sent.pop((event.from_shard, shard, event.sequence), None)
            if isinstance(event, FundsSent):
                self._sent.setdefault((shard, event.to_shard, event.link_sequence), []).append(
                    FundsInTransit(
                        from_shard=shard,
                        to_shard=event.to_shard,
                        link_sequence=event.link_sequence,
                        account=event.account,
                        asset=event.asset,
                        amount_units=event.amount_units,
                        debited_us=frame.t_us,
                    )
                )
        for callback in self.frames_seen if shard == CONTROL_SHARD else ():
            callback(frame)
        for link in carried_by(frame.events, shard, n):
            signed = signed_link(NAME, link)
            if self.links_held:
                self._held.append((link.to_shard, signed))
            else:
                self._apply(link.to_shard, links=(signed,))
        return frame

    def _project(self, frame: ExecutionFrame) -> None:
        for event in frame.events:
            if isinstance(event, WithdrawalRequested):
                withdrawal = Withdrawal(
                    state=WithdrawalState.WITHDRAWAL_STATE_OPEN, requested_n=frame.n, requested_us=frame.t_us
                )
                request = OpenWithdrawal(
                    event.withdrawal, event.account, event.asset, event.amount_units, event.destination
                )
                withdrawal.request.ParseFromString(encode(request))
                self._withdrawals[event.withdrawal] = withdrawal
            if isinstance(event, WithdrawalClosed):
                closed = self._withdrawals[event.withdrawal]
                paid, back = WithdrawalState.WITHDRAWAL_STATE_PAID, WithdrawalState.WITHDRAWAL_STATE_GIVEN_BACK
                closed.state, closed.closed_us = paid if event.paid else back, frame.t_us


class MemoryPeers:
    """Processes that answer with what a test gives them; an address without an answer is silent."""

    def __init__(self) -> None:
        self.statuses: dict[str, ShardStatus] = {}
        self.configs: dict[str, GetConfigResponse] = {}
        self.accounts: dict[str, GetBalancesResponse] = {}

    async def shard_status(self, address: str, shard: int, wait_s: float) -> ShardStatus | None:
        return self.statuses.get(address)

    async def settings(self, address: str, wait_s: float) -> GetConfigResponse | None:
        return self.configs.get(address)

    async def balances(self, address: str, user: int, account: int, wait_s: float) -> GetBalancesResponse | None:
        return self.accounts.get(address)
