"""The doctor: examines the environment and says what is wrong and what to do."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from clob.v1 import admin_service_pb2 as api
from clob.v1.settlement_service_pb2 import SettlementPosition
from exchange.admin.calls import Time
from exchange.admin.overview import MARKET_DATA, MATCHER, PEER_WAIT_S, SERVING, OverviewCalls, address_of_shard
from exchange.admin.port import BusFacts, HeadFacts, Host, NotExecutedYet, Peers
from exchange.config.environment import Durability
from exchange.engine.choice import describe
from exchange.engine.verifying import describe_path, is_amiss, make_verifier

INGRESS: Final = "ingress-verifier"
SETTLEMENT: Final = "settlement-plane"
SKEW_US_WARNING: Final = 100_000
SKEW_US_FAILED: Final = 500_000
"""The bus refuses frames whose time is further away than this."""
LAG_WARNING: Final = 1_000
"""Entries that may wait for execution, settlement or the audit without anybody worrying."""
MEMORY_USED_WARNING: Final = 0.8
DISK_FREE_WARNING: Final = 0.10
DISK_FREE_FAILED: Final = 0.02
SHARDS_NAMED_MAX: Final = 20
VERSIONS: Final = {"redis": (7, 0), "valkey": (7, 2)}
"""Oldest versions that the scripts run on."""

_OK, _WARNING, _FAILED = api.CHECK_STATE_OK, api.CHECK_STATE_WARNING, api.CHECK_STATE_FAILED


class Found(NamedTuple):
    """What a check found."""

    name: str
    state: api.CheckState
    found: str
    remedy: str = ""


class Doctor:
    """Diagnose."""

    def __init__(self, host: Host, peers: Peers, overview: OverviewCalls) -> None:
        self._host = host
        self._peers = peers
        self._overview = overview

    async def diagnose(self, time_: Time) -> api.DiagnoseResponse:
        """Return the checks, those that failed first, then warnings, then what is as it should be."""
        wait_s = min(PEER_WAIT_S, time_.left_s)
        bus = await self._bus()
        processes = await self._processes()
        positions = await self._positions()
        heads = await self._heads() if isinstance(bus, BusFacts) else {}
        found = [
            *self._check_bus(bus),
            *self._check_heads(bus, heads),
            *self._check_processes(processes),
            *await self._check_matchers(processes, wait_s),
            _check_verifier(),
            *self._check_settlement(positions),
            *self._check_markets(),
            await self._check_audit(),
            await self._check_database(),
            *await self._check_disks(),
        ]
        rank = {_FAILED: 0, _WARNING: 1, _OK: 2}
        found.sort(key=lambda check: rank[check.state])
        return api.DiagnoseResponse(checks=[api.Check(**check._asdict()) for check in found])

    # --- the bus ----------------------------------------------------------------------------------------------------

    async def _bus(self) -> BusFacts | str:
        try:
            return await self._host.bus()
        except NotExecutedYet as trouble:
            return trouble.detail

    async def _heads(self) -> dict[int, HeadFacts | None]:
        heads: dict[int, HeadFacts | None] = {}
        for shard in sorted(self._host.view.shards):
            try:
                heads[shard] = await self._host.head(shard)
            except NotExecutedYet:
                break
        return heads

    def _check_bus(self, bus: BusFacts | str) -> Iterable[Found]:
        if not isinstance(bus, BusFacts):
            yield Found(
                "bus-reachable", _FAILED, bus, "start the bus server, or correct REDIS_ADDR; nothing works without"
            )
            return
        yield Found("bus-reachable", _OK, f"answers in {bus.round_trip_us / 1000:.1f} ms")
        yield self._check_version(bus)
        evicts = bus.maxmemory_policy != "noeviction"
        yield Found(
            "bus-maxmemory-policy",
            _FAILED if evicts else _OK,
            f"maxmemory-policy is {bus.maxmemory_policy or 'not told'}",
            "CONFIG SET maxmemory-policy noeviction, and put it into the server's file: any other one loses entries"
            if evicts
            else "",
        )
        yield self._check_durability(bus)
        yield self._check_memory(bus)
        skew_us = abs(bus.skew_us)
        state = _FAILED if skew_us > SKEW_US_FAILED else _WARNING if skew_us > SKEW_US_WARNING else _OK
        yield Found(
            "clock-skew",
            state,
            f"the bus' clock is {bus.skew_us / 1000:+.1f} ms from ours (+/- {bus.round_trip_us / 2000:.1f} ms)",
            "" if state == _OK else "synchronise the clocks of all machines (chrony, systemd-timesyncd)",
        )

    def _check_version(self, bus: BusFacts) -> Found:
        oldest = VERSIONS.get(bus.kind)
        try:
            version = tuple(int(part) for part in bus.version.split(".")[:2])
        except ValueError:
            version = (0, 0)
        if oldest is None or version < oldest:
            known = " or ".join(f"{kind} {major}.{minor}" for kind, (major, minor) in VERSIONS.items())
            return Found("bus-version", _FAILED, f"{bus.kind} {bus.version}", f"use {known}, or later")
        return Found("bus-version", _OK, f"{bus.kind} {bus.version}")

    def _check_durability(self, bus: BusFacts) -> Found:
        durability = self._host.environment.durability
        has = f"durability {durability.value}; appendonly {bus.appendonly}, appendfsync {bus.appendfsync}"
        if durability is Durability.FSYNC and (bus.appendonly, bus.appendfsync) != ("yes", "always"):
            return Found(
                "bus-durability",
                _FAILED,
                has,
                "run the bus with appendonly yes and appendfsync always, or answers promise more than the bus keeps",
            )
        return Found("bus-durability", _OK, has)

    def _check_memory(self, bus: BusFacts) -> Found:
        if not bus.maxmemory_bytes:
            return Found("bus-memory", _OK, f"{bus.used_memory_bytes / 1e6:.0f} MB used, no limit set")
        used = bus.used_memory_bytes / bus.maxmemory_bytes
        return Found(
            "bus-memory",
            _WARNING if used > MEMORY_USED_WARNING else _OK,
            f"{bus.used_memory_bytes / 1e6:.0f} of {bus.maxmemory_bytes / 1e6:.0f} MB used ({used:.0%})",
            "raise maxmemory, or see whether settlement is behind: what it has settled is trimmed"
            if used > MEMORY_USED_WARNING
            else "",
        )

    def _check_heads(self, bus: BusFacts | str, heads: dict[int, HeadFacts | None]) -> Iterable[Found]:
        if not isinstance(bus, BusFacts):
            return
        missing = [shard for shard in self._host.view.shards if heads.get(shard) is None]
        yield Found(
            "shards-on-bus",
            _FAILED if missing else _OK,
            f"no head on the bus: shards {_named(missing)}" if missing else f"{len(heads)} shards have their heads",
            "is settlement-plane running? It makes them. If they were there before, the bus has lost its data"
            if missing
            else "",
        )
        stopped = {shard: head.stopped for shard, head in heads.items() if head is not None and head.stopped}
        yield Found(
            "shards-stopped",
            _FAILED if stopped else _OK,
            "; ".join(f"shard {shard}: {why}" for shard, why in list(stopped.items())[:SHARDS_NAMED_MAX])
            or "no shard's writers are stopped",
            "the messages say what is missing; nothing goes on there until it is mended" if stopped else "",
        )
        unapproved = [shard for shard, head in heads.items() if head is not None and head.run_id != bus.run_id]
        yield Found(
            "bus-approved",
            _FAILED if unapproved else _OK,
            f"the bus was restarted and is not approved for shards {_named(unapproved)}"
            if unapproved
            else f"run id {bus.run_id[:8]} is approved for all shards",
            "settlement-plane approves it when it has proved that nothing is missing; see its log and shards-stopped"
            if unapproved
            else "",
        )
        behind = {
            shard: head.orders_n - head.executions_n
            for shard, head in heads.items()
            if head is not None and head.orders_n - head.executions_n > LAG_WARNING
        }
        yield Found(
            "lag-executions",
            _WARNING if behind else _OK,
            "; ".join(
                f"shard {shard}: {entries} entries wait" for shard, entries in list(behind.items())[:SHARDS_NAMED_MAX]
            )
            or f"no shard has more than {LAG_WARNING:,} entries waiting",
            "is the shard's matcher running and does it have a core of its own?" if behind else "",
        )

    # --- processes --------------------------------------------------------------------------------------------------

    async def _processes(self) -> Sequence[api.Process] | None:
        try:
            return await self._host.processes()
        except NotExecutedYet:
            return None

    def _check_processes(self, processes: Sequence[api.Process] | None) -> Iterable[Found]:
        if processes is None:
            yield Found("processes", _FAILED, "the registry cannot be read", "see bus-reachable")
            return
        for name, kind, remedy in (
            ("ingress", INGRESS, "start ingress-verifier: without it no order comes in"),
            (
                "market-data",
                MARKET_DATA,
                "start market-data: without it there are no books, trades and balances to read",
            ),
        ):
            serving = [process.address for process in processes if process.kind == kind and process.state == SERVING]
            yield Found(
                name,
                _OK if serving else _FAILED,
                f"{kind} serves at {', '.join(sorted(serving)[:SHARDS_NAMED_MAX])}" if serving else f"no {kind} serves",
                "" if serving else remedy,
            )
        troubled = [
            process for process in processes if process.state in (api.PROCESS_STATE_STOPPED, api.PROCESS_STATE_SILENT)
        ]
        yield Found(
            "processes",
            _WARNING if troubled else _OK,
            "; ".join(
                f"{process.kind} at {process.address} is "
                f"{api.ProcessState.Name(process.state).removeprefix('PROCESS_STATE_').lower()}"
                f"{': ' + process.message if process.message else ''}"
                for process in troubled[:SHARDS_NAMED_MAX]
            )
            or f"{len(processes)} processes, none stopped or silent",
            "see its log; a process that stopped rather than guess waits for you" if troubled else "",
        )
        versions = sorted({process.version for process in processes})
        yield Found(
            "versions",
            _OK if len(versions) < 2 else _WARNING,
            f"software versions: {', '.join(versions)}",
            "" if len(versions) < 2 else "finish the update: processes of several versions run",
        )

    async def _check_matchers(self, processes: Sequence[api.Process] | None, wait_s: float) -> Iterable[Found]:
        shards = self._host.view.trading_shards()
        if processes is None:
            return ()
        if not shards:
            return (
                Found("matchers", _WARNING, "the shard map has no trading shard", "define shards: clob up does so"),
            )
        unserved = [shard for shard in shards if not address_of_shard(shard, processes)]
        asked = await asyncio.gather(
            *(self._overview.status_of(shard, processes, wait_s) for shard in shards if shard not in unserved)
        )
        mute = [address for address, status in asked if status is None]
        stopped = [
            f"shard {status.executed.shard}: {status.stopped}"
            for _, status in asked
            if status is not None and status.stopped
        ]
        problem = "; ".join(
            [
                *([f"no {MATCHER} serves shards {_named(unserved)}"] if unserved else []),
                *([f"no answer from {', '.join(mute[:SHARDS_NAMED_MAX])}"] if mute else []),
                *stopped[:SHARDS_NAMED_MAX],
            ]
        )
        engines = sorted({status.engine for _, status in asked if status is not None})
        return (
            Found("engines", _OK, f"the shards run on: {'; '.join(map(describe, engines)) or 'none that answers'}"),
            Found(
                "matchers",
                _FAILED if problem else _OK,
                problem or f"every one of {len(shards)} shards has a {MATCHER} that answers",
                f"start {MATCHER} --shard for each of them; one that stopped says why in its log" if problem else "",
            ),
        )

    # --- settlement -------------------------------------------------------------------------------------------------

    async def _positions(self) -> Sequence[SettlementPosition]:
        return await self._host.positions()

    def _check_settlement(self, positions: Sequence[SettlementPosition]) -> Iterable[Found]:
        stopped = [f"shard {position.settled.shard}: {position.stopped}" for position in positions if position.stopped]
        there = {position.settled.shard for position in positions}
        missing = [shard for shard in self._host.view.shards if shard not in there]
        yield Found(
            "settlement",
            _FAILED if stopped else _WARNING if missing else _OK,
            "; ".join(
                [*stopped[:SHARDS_NAMED_MAX], *([f"not settled here: shards {_named(missing)}"] if missing else [])]
            )
            or f"{len(positions)} shards are being settled",
            "settlement stops rather than guess: keep the evidence and read the message" if stopped else "",
        )
        behind = [
            f"shard {position.settled.shard}: settled {position.settled.n}, audited {position.audited_n} of "
            f"{position.executions_n}"
            for position in positions
            if position.executions_n - min(position.settled.n, position.audited_n) > LAG_WARNING
        ]
        yield Found(
            "lag-settlement",
            _WARNING if behind else _OK,
            "; ".join(behind[:SHARDS_NAMED_MAX]) or f"no shard is more than {LAG_WARNING:,} entries behind",
            f"{SETTLEMENT} re-executes every entry: give it a core, or divide the shards among several"
            if behind
            else "",
        )

    def _check_markets(self) -> Iterable[Found]:
        listed: dict[int, set[int]] = {}
        for market in self._host.view.markets.values():
            listed.setdefault(market.shard, set()).add(market.market)
        missing = {
            shard: len(lacking)
            for shard, markets in sorted(listed.items())
            if (lacking := markets - self._host.markets(shard).keys())
        }
        yield Found(
            "markets",
            _WARNING if missing else _OK,
            "; ".join(f"shard {shard} has yet to open {count} markets" for shard, count in missing.items())
            or f"{len(self._host.view.markets):,} markets are listed and open in their shards",
            "they are opened as soon as the shard takes entries; see matchers and lag-settlement" if missing else "",
        )

    async def _check_audit(self) -> Found:
        audit = await self._host.audit()
        wrong = [line for line in audit.lines if line.difference_units]
        if wrong:
            return Found(
                "audit",
                _FAILED,
                "; ".join(f"{line.symbol}: {line.difference_units:+,} units" for line in wrong[:SHARDS_NAMED_MAX]),
                "money was made or lost: pay nothing out, keep logs and checkpoints, find the entry with clob audit",
            )
        return Found(
            "audit",
            _OK if audit.passed else _WARNING,
            f"{len(audit.lines)} assets balance"
            + ("" if audit.passed else ", but not every shard is audited to its end"),
            "" if audit.passed else "see settlement and lag-settlement",
        )

    async def _check_database(self) -> Found:
        trouble = await self._host.check_database()
        return Found(
            "database",
            _FAILED if trouble else _OK,
            trouble or "answers and passes its own check",
            "restore it, or remove it and let settlement rebuild it from archive and checkpoints" if trouble else "",
        )

    async def _check_disks(self) -> Iterable[Found]:
        found = []
        for disk in await self._host.disks():
            free = disk.free_bytes / disk.total_bytes if disk.total_bytes else 0.0
            state = _FAILED if free < DISK_FREE_FAILED else _WARNING if free < DISK_FREE_WARNING else _OK
            found.append(
                Found(
                    f"disk-{disk.what}",
                    state,
                    f"{disk.path}: {disk.free_bytes / 1e9:.1f} GB free ({free:.0%})",
                    "" if state == _OK else "make room: settlement stops when it cannot write",
                )
            )
        return found


def _check_verifier() -> Found:
    """Say what a door that is made here and now verifies by; the metrics of workers say what theirs do."""
    try:
        verifier = make_verifier(1)
    except ValueError as error:
        return Found("signatures", _FAILED, str(error), "no worker of ingress-verifier can start here")
    return Found(
        "signatures",
        _WARNING if is_amiss(verifier) else _OK,
        f"a worker that starts here verifies by {describe_path(verifier)}",
        "install the core again (`make core`) and look for a fault of the processor" if is_amiss(verifier) else "",
    )


def _named(shards: Sequence[int]) -> str:
    """Return shards for people, not all of many."""
    shown = ", ".join(str(shard) for shard in sorted(shards)[:SHARDS_NAMED_MAX])
    return shown if len(shards) <= SHARDS_NAMED_MAX else f"{shown} and {len(shards) - SHARDS_NAMED_MAX} more"
