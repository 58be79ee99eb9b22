"""Trading from Python: `AsyncClient` and `Client` sign, send, follow and read; docs/client.md shows how."""

from exchange.client.aio import AsyncClient, Balance, Balances, OpenOrder, OpenOrders, Transit, Verdict, Withdrawal
from exchange.client.batches import SignedCommands, sign_many
from exchange.client.books import Level, LocalBook
from exchange.client.errors import ClientError
from exchange.client.feeds import Cursor, Executions, PublicTrade
from exchange.client.instructions import Instruction
from exchange.client.keys import PrivateKey
from exchange.client.results import Fill, Result, Stages, Status
from exchange.client.streaming import Answer, SubmitStream
from exchange.client.sync import Client
from exchange.client.transport import Tls
from exchange.domain.commands import OrderType, SelfTradePrevention, Side, TimeInForce

__all__ = [
    "Answer",
    "AsyncClient",
    "Balance",
    "Balances",
    "Client",
    "ClientError",
    "Cursor",
    "Executions",
    "Fill",
    "Instruction",
    "Level",
    "LocalBook",
    "OpenOrder",
    "OpenOrders",
    "OrderType",
    "PrivateKey",
    "PublicTrade",
    "Result",
    "SelfTradePrevention",
    "Side",
    "SignedCommands",
    "Stages",
    "Status",
    "SubmitStream",
    "TimeInForce",
    "Tls",
    "Transit",
    "Verdict",
    "Withdrawal",
    "sign_many",
]
