"""The methods of port 9090: who serves each, which role it needs, and where HTTP finds it.

The comments of the contracts say roles and paths; a test compares this table with them.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from clob.v1 import (
    admin_service_pb2,
    market_data_service_pb2,
    matching_service_pb2,
    settlement_service_pb2,
    verification_service_pb2,
)


class Role(StrEnum):
    """What a caller of the operators' port may do. None contains another: a token names all that it has."""

    READ = "read"
    """See everything, accounts of users included."""
    TRADE_OPS = "trade-ops"
    """Users, assets, markets and their states, operator's entries."""
    MONEY = "money"
    """Whatever moves money, and keys, because who has a key has the money."""


class Destination(StrEnum):
    """Which kind of process answers."""

    SETTLEMENT = "settlement-plane"
    MARKET_DATA = "market-data"
    SHARD = "market-matcher"
    """The process that serves the shard or market of the request; for shard 0 the settlement plane."""
    HERE = "ingress-verifier"
    """This process."""


class Http(NamedTuple):
    """Where HTTP finds a method; names in braces are fields of the request. `says` is what it does, for people."""

    verb: str
    path: str
    says: str


class Method(NamedTuple):
    """A method of the port.

    Attributes:
        descriptor: of the contracts.
        destination: who answers.
        role: what a caller needs; None: it is for everybody.
        http: where HTTP finds it; None: gRPC only.
        seconds_default: how long an HTTP call may take that does not say.
    """

    descriptor: MethodDescriptor
    destination: Destination
    role: Role | None
    http: Http | None
    seconds_default: int

    @property
    def name(self) -> str:
        """`/clob.v1.AdminService/CreateUser`: the path of the gRPC call."""
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @property
    def request(self) -> type[Message]:
        """Class of its requests."""
        return GetMessageClass(self.descriptor.input_type)

    @property
    def response(self) -> type[Message]:
        """Class of its responses."""
        return GetMessageClass(self.descriptor.output_type)

    @property
    def streams(self) -> bool:
        """Whether it answers with a stream."""
        return bool(self.descriptor.server_streaming)

    @property
    def takes_request_id(self) -> bool:
        """Whether its request names itself, so that it may be repeated."""
        input_type: Descriptor = self.descriptor.input_type
        return "request_id" in input_type.fields_by_name


_SECONDS: Final = 30
_SECONDS_OF: Final = {"CreateMarkets": 600, "SetMarketState": 600, "Settle": 120, "Deposit": 60}
"""Calls that work through 32,768 markets, or wait."""

_READ, _TRADE_OPS, _MONEY = Role.READ, Role.TRADE_OPS, Role.MONEY


def _methods(
    service: ServiceDescriptor,
    destination: Destination,
    rows: Iterable[tuple[str, Role | None, Http | None]],
) -> Iterable[Method]:
    named = {name: (role, http) for name, role, http in rows}
    assert set(named) == set(service.methods_by_name), f"{service.name}: every method has one row"
    for name, (role, http) in named.items():
        seconds_default = _SECONDS_OF.get(name, _SECONDS)
        yield Method(service.methods_by_name[name], destination, role, http, seconds_default)


def _get(path: str, says: str) -> Http:
    return Http("GET", path, says)


def _post(path: str, says: str) -> Http:
    return Http("POST", path, says)


def _service(module: Any, name: str) -> ServiceDescriptor:
    service: ServiceDescriptor = module.DESCRIPTOR.services_by_name[name]
    return service


_ALL: Final = (
    *_methods(
        _service(admin_service_pb2, "AdminService"),
        Destination.SETTLEMENT,
        (
            ("CreateUser", _TRADE_OPS, _post("/users", "Makes a user with its first account and first key.")),
            ("GetUser", _READ, _get("/users/{user}", "Returns a user.")),
            ("ListUsers", _READ, _get("/users", "Lists users, by number.")),
            ("OpenAccount", _TRADE_OPS, _post("/accounts", "Opens another account of a user.")),
            ("RegisterKey", _MONEY, _post("/keys", "Gives a user another key.")),
            ("RevokeKey", _TRADE_OPS, _post("/keys/{key_id}/revoke", "Revokes a key for ever.")),
            ("ListKeys", _READ, _get("/keys", "Lists keys, by key_id.")),
            (
                "GetAccount",
                _READ,
                _get("/accounts/{account}", "Returns what one account has and where, as its owner sees it."),
            ),
            ("DefineAssets", _TRADE_OPS, _post("/assets", "Defines assets.")),
            (
                "CreateMarkets",
                _TRADE_OPS,
                _post("/markets", "Makes markets and opens their books, and returns when they take orders."),
            ),
            ("SetMarketState", _TRADE_OPS, _post("/markets/state", "Changes the state of markets.")),
            ("Deposit", _MONEY, _post("/deposits", "Credits accounts with money that arrived.")),
            ("ListTransfers", _READ, _get("/transfers", "Lists funds on their way between shards, oldest first.")),
            ("ListWithdrawals", _READ, _get("/withdrawals", "Lists withdrawals, oldest first.")),
            (
                "CloseWithdrawal",
                _MONEY,
                _post("/withdrawals/{withdrawal}/close", "Says that a withdrawal was paid, or gives its money back."),
            ),
            ("ListShards", _READ, _get("/shards", "Lists the shard map and how each shard is doing, by number.")),
            (
                "ListProcesses",
                _READ,
                _get("/processes", "Lists the processes of the environment, by kind and address."),
            ),
            ("Diagnose", _READ, _get("/doctor", "Examines the environment and says what is wrong and what to do.")),
            (
                "GetConfig",
                _READ,
                _get("/config", "Returns the settings of a process and where each comes from, secrets hidden."),
            ),
        ),
    ),
    *_methods(
        _service(settlement_service_pb2, "SettlementService"),
        Destination.SETTLEMENT,
        (
            ("Settle", _READ, _post("/settle", "Returns when everything so far is settled, audited and durable.")),
            ("GetPositions", _READ, _get("/positions", "Returns how far every shard is settled.")),
            ("Audit", _READ, _get("/audit", "Adds up all money there is, per asset, as last settled.")),
        ),
    ),
    *_methods(
        _service(matching_service_pb2, "MatchingService"),
        Destination.SHARD,
        (
            ("Match", _TRADE_OPS, None),
            ("WhatIf", _READ, None),
            ("GetBook", _READ, None),
            ("GetShard", _READ, None),
        ),
    ),
    *_methods(
        _service(market_data_service_pb2, "MarketDataService"),
        Destination.MARKET_DATA,
        (
            ("GetExchange", None, _get("/exchange", "Returns what a client needs to know before it signs.")),
            ("ListAssets", None, _get("/assets", "Lists assets, by number.")),
            ("ListMarkets", None, _get("/markets", "Lists markets, by number.")),
            ("GetBook", None, _get("/markets/{market}/book", "Returns the levels of a book.")),
            ("StreamBook", None, None),
            (
                "ListTrades",
                None,
                _get("/markets/{market}/trades", "Returns the last trades of a market, newest first."),
            ),
            ("StreamTrades", None, None),
        ),
    ),
    *_methods(
        _service(verification_service_pb2, "VerificationService"),
        Destination.HERE,
        (("Verify", _READ, None),),
    ),
)

METHODS: Final = {method.name: method for method in _ALL}
"""Every method of the port, by name of its gRPC call."""
SERVICES: Final = tuple(dict.fromkeys(method.descriptor.containing_service.full_name for method in _ALL))
"""Full names of the services of the port."""
