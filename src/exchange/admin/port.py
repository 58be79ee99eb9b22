"""The border between admin and its host: what admin needs from the process that runs shard 0 and audits the others.

All of it is called on the host's event loop. Messages of the protobuf library (`pb`) are used where what they say is
only told on; records of the domain where something is decided.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from clob.v1.account_service_pb2 import FundsInTransit, GetBalancesResponse
from clob.v1.admin_service_pb2 import GetConfigResponse, Process
from clob.v1.frame_pb2 import ExecutionFrame
from clob.v1.matching_service_pb2 import ShardStatus
from clob.v1.settlement_service_pb2 import AuditResponse, SettlementPosition
from clob.v1.withdrawal_pb2 import Withdrawal
from exchange.config.environment import Environment
from exchange.control.view import ControlView
from exchange.domain.control import ControlRequest
from exchange.domain.markets import Market
from exchange.domain.operations import SignedOperation
from exchange.domain.state import AnsweredRequest
from exchange.engine.port import ShardFacts


class NotExecutedYet(Exception):  # noqa: N818 - an outcome, not an error
    """What was entered is not known to be executed: it may be, now or later. Enter the same bytes again, or wait.

    Attributes:
        shard: that it was for.
        detail: why, and what an operator can do; for people.
        door_reason: name of the DoorReason that says it best: UNAVAILABLE, OVERLOADED, CLOCK_SKEW or DRAINING.
    """

    def __init__(self, shard: int, detail: str, door_reason: str = "UNAVAILABLE") -> None:
        super().__init__(f"{door_reason}: shard {shard}: {detail}")
        self.shard = shard
        self.detail = detail
        self.door_reason = door_reason


class NotInLogError(Exception):
    """An entry that the log ought to have can not be read, from the bus or the archive."""


class Executed(NamedTuple):
    """An execution frame that answers what was entered. It is as durable as the environment promises.

    Attributes:
        n, t_us: position and time of the entry.
        frame: the whole frame.
        operations_before, requests_before: operations and control requests that the entry has before ours, where the
        host
            puts those of several callers into one entry.
    """

    n: int
    t_us: int
    frame: ExecutionFrame
    operations_before: int = 0
    requests_before: int = 0


class LoggedEntry(NamedTuple):
    """Entry n of a shard as the streams or the archive have it: field f of `orders`, and of `executions`."""

    order_frame: bytes
    execution_frame: bytes


class BusFacts(NamedTuple):
    """What the bus says of itself and of one look at its clock.

    Attributes:
        kind, version: "redis" or "valkey", and its version.
        run_id: that it has now.
        maxmemory_policy, appendonly, appendfsync: settings as the server reports them.
        skew_us: its clock less ours, in microseconds, measured over a round trip of `round_trip_us`.
        used_memory_bytes, maxmemory_bytes: zero: not known, no limit.
    """

    kind: str
    version: str
    run_id: str
    maxmemory_policy: str
    appendonly: str
    appendfsync: str
    skew_us: int
    round_trip_us: int
    used_memory_bytes: int = 0
    maxmemory_bytes: int = 0


class HeadFacts(NamedTuple):
    """Head of a shard on the bus.

    Attributes:
        run_id: the approved one; empty: none yet.
        stopped: why its writers are stopped; empty: they are not.
        orders_n, executions_n, trimmed_n: last positions.
    """

    run_id: str
    stopped: str
    orders_n: int
    executions_n: int
    trimmed_n: int


class DiskFacts(NamedTuple):
    """A place where the host keeps things; `what` says what, for people."""

    what: str
    path: str
    free_bytes: int
    total_bytes: int


class Host(Protocol):
    """The process that admin runs in."""

    environment: Environment
    address: str
    """host:port of the host's own port."""

    # --- shard 0, as executed ---

    @property
    def view(self) -> ControlView:
        """Shard 0 folded. It covers every entry of shard 0 that `enter` has returned."""

    def answered(self, request_id: bytes, by_operator: bool) -> AnsweredRequest | None:
        """Return what shard 0 remembers of a request id (`ReferenceControl.answered`); None: it was never answered."""

    # --- every shard ---

    def facts(self, shard: int) -> ShardFacts | None:
        """Return what the state of a shard says (`engine.facts()`); None: the host does not have the shard (yet).

        By the host's own engine for shard 0, by its re-execution for others. A read of what is there. Shard 0's covers
        every entry that `enter` has returned; the others' lag behind by what re-execution has yet to do.
        """

    def markets(self, shard: int) -> Mapping[int, Market]:
        """Return the markets of a trading shard, with settings and state as it has them (`engine.markets()`).

        As of `facts(shard).position`; none where the host does not have the shard.
        """

    async def wait(self, shard: int, holds: Callable[[ShardFacts], bool], wait_s: float) -> bool:
        """Wait until what `facts(shard)` returns satisfies `holds`; return whether it does after at most wait_s."""

    async def enter(
        self,
        shard: int,
        *,
        operations: Sequence[SignedOperation] = (),
        requests: Sequence[ControlRequest] = (),
        wait_s: float,
    ) -> Executed:
        """Put all of it into one entry of a shard's orders, in this order, and return its durable execution frame.

        At most LIMITS of a frame (64 operations, 1,024 requests, 4 MiB); admin keeps to them. The host sends the frame
        again itself as long as the bus does not say whether it has it; a frame that got a position is not entered
        again.

        Raises:
            NotExecutedYet: no execution within wait_s, or the shard takes nothing at the moment.
        """

    async def entry(self, shard: int, n: int) -> LoggedEntry:
        """Return entry n, from the bus or, trimmed there, from the archive.

        Raises:
            NotInLogError: neither has it.
        """

    # --- projections, read from the database ---

    async def transfers(self, account: int) -> Sequence[FundsInTransit]:
        """Return all funds on their way, of one account or (0) of all, oldest first.

        By debited_us, from_shard, to_shard, link_sequence, and place in the link. There are as many as links under way
        carry, which settle within moments; admin makes the pages.
        """

    async def withdrawals(self, account: int, state: int, after: int, count: int) -> Sequence[Withdrawal]:
        """Return at most count withdrawals above number `after`, by number, open and closed, `payable` as of now.

        Args:
            account: only of this account; 0: of all.
            state: only in this WithdrawalState; 0: all.
            after: number of the last one of the page before; 0: the first page.
            count: 1 .. 1,001.
        """

    async def positions(self) -> Sequence[SettlementPosition]:
        """Return how far every shard is settled, by number (SettlementService.GetPositions)."""

    async def audit(self) -> AuditResponse:
        """Return what SettlementService.Audit does for all assets."""

    # --- the environment ---

    async def processes(self) -> Sequence[Process]:
        """Return the processes of the registry, SILENT ones too, in any order; the host itself is among them.

        Raises:
            NotExecutedYet: the bus cannot be reached.
        """

    async def bus(self) -> BusFacts:
        """Ask the bus how it is. Raises NotExecutedYet where it cannot be reached."""

    async def head(self, shard: int) -> HeadFacts | None:
        """Return the head of a shard; None: the bus has none. Raises NotExecutedYet where it cannot be reached."""

    async def disks(self) -> Sequence[DiskFacts]:
        """Return where the host keeps its database, archive and checkpoints."""

    async def check_database(self) -> str:
        """Return what is wrong with the database; empty: it answers and passes its own quick check."""

    def control_status(self) -> ShardStatus:
        """Return the status of shard 0, which the host itself serves (MatchingService.GetShard)."""

    def own_settings(self) -> GetConfigResponse:
        """Return the host's settings with their origins, secrets without value."""


class Peers(Protocol):
    """The other processes, asked over their own ports. Every call is bounded by `wait_s`."""

    async def shard_status(self, address: str, shard: int, wait_s: float) -> ShardStatus | None:
        """Return the status of a shard from the process that serves it; None: no answer."""

    async def settings(self, address: str, wait_s: float) -> GetConfigResponse | None:
        """Return the settings of a process; None: no answer."""

    async def balances(self, address: str, user: int, account: int, wait_s: float) -> GetBalancesResponse | None:
        """Return what an account has and where, from a market-data process; None: no answer."""
