"""A market-matcher as a process of its own, and what it needs: a bus, shard 0, an environment and keys."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc

from clob.v1 import matching_service_pb2_grpc
from exchange.bus.keys import seal
from exchange.config.environment import Environment
from exchange.domain.control import ControlRequest
from exchange.domain.frames import FORMAT, OrderFrame
from exchange.domain.markets import Asset, Market
from exchange.domain.operations import DefineAsset, DefineMarket, DefineShard, OperatorRole, Transfer
from exchange.engine.reference import ControlFactory, ReferenceFactory
from exchange.local.control_venue import ControlVenue, KeyPair
from exchange.local.venue import Venue, operator_seed
from exchange.reference.signing import public_key_of
from exchange.wire.messages import encode
from tests.support.loops import RunningLoop
from tests.support.markets import BASE, QUOTE, RICH
from tests.support.servers import BusServer
from tests.support.shard_log import ENVIRONMENT, INGRESS_KEY, KEYS, ShardLog

START_S_MAX = 40


class Stage:
    """A bus, shard 0 with two shards and their markets, users with keys, and money in shard 1.

    Attributes:
        bus, folder: server and scratch folder.
        control, log: shard 0 and shard 1 on the bus.
        signer: signs for operators of shard 1.
        users: account and key pair by name.
    """

    def __init__(self, bus: BusServer, folder: Path, markets: tuple[Market, ...]) -> None:
        self.bus = bus
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        operators = {role.name.lower(): public_key_of(operator_seed(ENVIRONMENT, role)).hex() for role in OperatorRole}
        Environment(name=ENVIRONMENT, operators=operators).save(folder / "environment.json")
        (folder / "bus.keys").write_text("".join(f"{key.name} {key.secret.hex()}\n" for key in KEYS.values()))
        self.venue = ControlVenue(environment=ENVIRONMENT)
        self.control = ShardLog(bus.address, shard=0)
        self.log = ShardLog(bus.address, shard=1)
        self.second = ShardLog(bus.address, shard=2)
        self.signer = Venue(ReferenceFactory(), environment=ENVIRONMENT)
        self.signer.now_us = self.venue.now_us = time.time_ns() // 1000
        self.users: dict[str, tuple[int, KeyPair]] = {}
        self._loop = RunningLoop(self.control, self.checkpoints, maker=ControlFactory(), address=bus.address)
        self.define(DefineAsset(Asset(BASE, "BTC", 8)), DefineAsset(Asset(QUOTE, "USD", 2)))
        self.define(DefineShard(1), DefineShard(2), *(DefineMarket(market) for market in markets))
        own = [DefineMarket(market) for market in markets if market.shard == 1]
        self.log.enter(operations=[self.signer.operation(OperatorRole.MARKET, *own)], commands=0)

    def define(self, *actions: Any) -> None:
        """Enter an operation of the market role into shard 0."""
        n = self.control.enter(operations=[self.venue.operation(OperatorRole.MARKET, *actions)], commands=0).n
        self._loop.wait_for(n)

    def new_user(self, name: str, *, funds: bool = True) -> tuple[int, KeyPair]:
        """Make a user with a key, and give it money in shard 1."""
        key = self.venue.key(name)
        request = ControlRequest(self.venue.request_id(), self.venue.registration(key))
        self.control.counter += 1
        frame = encode(
            OrderFrame(FORMAT, self.control.ingress, self.control.counter, time.time_ns() // 1000, requests=(request,))
        )
        sealed = seal(INGRESS_KEY, 0, self.control.ingress, self.control.counter, frame, 1)
        self._loop.wait_for(self.control.bus.ingest(self.control.tag, sealed).n)
        with self._loop.loop.reading() as engine:
            [state] = [one for one in engine.state().keys if one.key_id == key.key_id]
            account = next(user.accounts[0] for user in engine.state().users if user.user == state.user)
        if funds:
            self.log.enter(
                links=[self.signer.link(Transfer(account, BASE, RICH), Transfer(account, QUOTE, RICH))], commands=0
            )
        self.users[name] = (account, key)
        return account, key

    def close(self) -> None:
        """End shard 0 and close the clients."""
        self._loop.end()
        for log in (self.control, self.log, self.second):
            log.close()


class MatcherProcess:
    """The command, started.

    Attributes:
        ready: what it printed when it served; empty: it has not.
        errors: its standard error so far.
    """

    def __init__(self, stage: Stage, *arguments: str) -> None:
        folder = stage.folder
        self.ready: dict[str, Any] = {}
        self._lines: list[str] = []
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "exchange.matcher.service"),
                *("--redis-addr", stage.bus.address, "--environment-file", str(folder / "environment.json")),
                *("--checkpoints", str(stage.checkpoints), "--bus-keys", str(folder / "bus.keys")),
                *("--bus-key-name", "matcher", *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("CLOB_")},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._channel: grpc.Channel | None = None

    def _read(self) -> None:
        assert self.process.stderr is not None
        self._lines.extend(self.process.stderr)

    @property
    def errors(self) -> str:
        return "".join(self._lines)

    def wait_ready(self) -> "MatcherProcess":
        """Wait until it serves."""
        assert self.process.stdout is not None
        timer = threading.Timer(START_S_MAX, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        assert line, f"the matcher does not serve: {self.errors}"
        self.ready = json.loads(line)
        return self

    def wait_end(self) -> int:
        """Wait until it has ended and return its exit code."""
        code = self.process.wait(START_S_MAX)
        self._reader.join(5)
        return code

    def stub(self) -> matching_service_pb2_grpc.MatchingServiceStub:
        """Return a client of its own port."""
        if self._channel is None:
            self._channel = grpc.insecure_channel(self.ready["address"])
        return matching_service_pb2_grpc.MatchingServiceStub(self._channel)

    def close(self) -> None:
        """Kill it if it runs."""
        if self._channel is not None:
            self._channel.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
