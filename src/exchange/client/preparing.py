"""Making prepared load: which orders, what they need, and their signing, for a folder that `prepared` describes."""

import secrets
from collections import Counter
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from clob.v1 import account_service_pb2, market_data_service_pb2, order_service_pb2, verification_service_pb2
from exchange.client.aio import AsyncClient
from exchange.client.batches import request_head, sign_commands
from exchange.client.keys import PrivateKey, Signer
from exchange.client.prepared import FORMAT, Plan, PreparedError, PreparedFolder, Stock, User, now_ms
from exchange.client.probing import Probe, meeting_price, probe_at, resting_probe
from exchange.domain.commands import Command, OrderType, PlaceOrder, SelfTradePrevention, Side, TimeInForce
from exchange.domain.limits import BATCH_COMMANDS_MAX, REQUEST_COMMANDS_MAX
from exchange.domain.markets import DEFAULT_SETTINGS, Market
from exchange.domain.units import AMOUNT_UNITS_MAX

SINGLE: Final = "submit-single"
BATCH: Final = "submit-batch"
MANY: Final = "submit-many"
VERIFY: Final = "verify"
BOOK: Final = "book"
BALANCES: Final = "balances"
EXCHANGE: Final = "exchange"
SUBMIT_CALL: Final = "clob.v1.OrderService.Submit"
SESSION_MS: Final = 3_600_000
BOOK_LEVELS: Final = 20
WAIT_MS_MAX: Final = 30_000
MARGIN_MS: Final = 60_000
"""Validity that is left unused, so that a clock that is off, or a slow start, makes no payload too long."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much load to prepare.

    Attributes:
        users: with an account, a key and funds each; batches take turns.
        single: messages of one batch of one command.
        batch: messages of one batch of `size` commands under one signature.
        many: messages of `size` batches of one command.
        verify: messages of one batch that is to be verified and not sent.
        valid_for_ms: how long the payloads are valid; 0: as long as the environment allows, less a minute.
    """

    users: int
    single: int
    batch: int
    many: int
    verify: int
    size: int
    valid_for_ms: int = 0

    @property
    def batches(self) -> int:
        """Batches to be signed."""
        return self.single + self.batch + self.many * self.size + self.verify

    def check(self) -> None:
        """Check what ranges of single options do not say.

        Raises:
            PreparedError: LOADTEST_SIZE.
        """
        most = min(BATCH_COMMANDS_MAX, REQUEST_COMMANDS_MAX)
        if not 0 < self.size <= most:
            raise PreparedError(f"LOADTEST_SIZE: {self.size} commands a message; it is 1 .. {most}")
        if not self.batches:
            raise PreparedError("LOADTEST_SIZE: no payloads are wanted; give --single, --batch, --many or --verify")
        # What a shard allows by default; it is not published what this one does.
        nonces_max = DEFAULT_SETTINGS.live_nonces_per_key_max
        if self.batches > self.users * nonces_max:
            raise PreparedError(
                f"LOADTEST_SIZE: {self.batches:,} batches of {self.users:,} users; each takes a nonce of a key, "
                f"which may have {nonces_max:,} at a time: ask for at least {-(-self.batches // nonces_max):,} --users"
            )


@dataclass(frozen=True, slots=True)
class Orders:
    """The two orders that all load is made of: they meet, so that the book stays small and about half of them trade."""

    buy: Probe
    sell: Probe

    @property
    def market(self) -> Market:
        """Where they are placed."""
        return self.buy.market

    def command(self, number: int) -> PlaceOrder:
        """Return the order of a number: even ones buy, odd ones sell."""
        probe = self.sell if number % 2 else self.buy
        return PlaceOrder(
            market=self.market.market,
            side=probe.side,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.GTC,
            self_trade_prevention=SelfTradePrevention.NONE,
            price_ticks=probe.price_ticks,
            quantity_lots=probe.quantity_lots,
        )

    def needs(self, wanted: Wanted) -> dict[int, int]:
        """Return units by asset that each user needs for its own part of the orders, or a little more."""
        # Shares differ by one batch a kind; a batch has half of its commands on each side, one more on either.
        commands = wanted.single + (wanted.batch + wanted.many) * wanted.size
        share = -(-commands // wanted.users) + 3 * wanted.size
        needs: Counter[int] = Counter()
        for probe in (self.buy, self.sell):
            needs[probe.asset] += probe.needs_units * share
        return dict(needs)


async def check_environment(client: AsyncClient, market: str, wanted: Wanted) -> tuple[Orders, int]:
    """Return the orders for a market and how long their batches are to be valid, in milliseconds.

    Raises:
        PreparedError: LOADTEST_IN_PRODUCTION, LOADTEST_VALIDITY, LOADTEST_NO_PRICE.
        ClientError: UNKNOWN_MARKET, or the exchange does not answer.
    """
    if client.exchange.production:
        raise PreparedError(
            f"LOADTEST_IN_PRODUCTION: {client.environment} is a production environment, and load tests make users, "
            "money and trades that nobody wants there; start another with `clob up --load-test --data-dir DIR`"
        )
    found = await client.market(market)
    default_ms = DEFAULT_SETTINGS.max_validity_ms
    most_ms = client.exchange.max_validity_ms.get(found.shard, default_ms)
    valid_for_ms = wanted.valid_for_ms
    if not valid_for_ms and most_ms <= default_ms:
        raise PreparedError(
            f"LOADTEST_VALIDITY: shard {found.shard} of {client.environment} takes batches that are valid for at most "
            f"{most_ms:,} ms, too short to sign ahead; start an environment for load tests with "
            "`clob up --load-test --data-dir DIR`, or say --valid-for and send at once"
        )
    valid_for_ms = valid_for_ms or max(most_ms - MARGIN_MS, most_ms // 2)
    if valid_for_ms > most_ms:
        raise PreparedError(
            f"LOADTEST_VALIDITY: --valid-for {valid_for_ms} is more than the {most_ms:,} ms that shard {found.shard} "
            f"of {client.environment} takes; ask for less, or start one with `clob up --load-test --data-dir DIR`"
        )
    book = await client.book(market, 1)
    resting = resting_probe(found, book, lambda asset: AMOUNT_UNITS_MAX)
    price_ticks = meeting_price(resting, book) if resting else 0
    if not price_ticks:
        raise PreparedError(
            f"LOADTEST_NO_PRICE: between bid and ask of {found.symbol} there is no price to trade at; name a --market "
            "with a gap in its book"
        )
    return Orders(probe_at(found, Side.BUY, price_ticks), probe_at(found, Side.SELL, price_ticks)), valid_for_ms


async def open_session(client: AsyncClient) -> tuple[str, int]:
    """Return the token of a session of the client's key, and until when it lasts, in ms since 1970-01-01 UTC."""
    transport = client.another_transport()
    try:
        challenge: Any = await transport.once(
            transport.accounts.CreateChallenge, account_service_pb2.CreateChallengeRequest()
        )
        client.directory.check_environment(challenge.environment)
        signed = client.signer.sign_session(challenge.challenge, client.directory.now_ms() + SESSION_MS)
        opened: Any = await transport.once(
            transport.accounts.OpenSession, account_service_pb2.OpenSessionRequest(session=signed)
        )
    finally:
        await transport.close()
    return str(opened.token), int(opened.valid_until_ms)


class Signing:
    """Signs the payloads of one folder. No nonce is used twice: they count on from a random number."""

    def __init__(
        self, environment: str, users: list[User], orders: Orders, wanted: Wanted, valid_until_ms: int
    ) -> None:
        self._environment = environment
        self._signers: list[tuple[User, Signer]] = [
            (user, PrivateKey.from_text(user.private_key).signer(environment)) for user in users
        ]
        self._orders = orders
        self._wanted = wanted
        self._valid_until_ms = valid_until_ms
        self._nonces = count(secrets.randbits(62) + 1)
        self._turn = count()

    def write(self, folder: PreparedFolder) -> dict[str, Stock]:
        """Write all stocks; return what the plan says of them, by name."""
        wanted, market = self._wanted, self._orders.market.market
        head = request_head(self._environment, sequenced_only=False, with_stages=False, wait_ms_max=WAIT_MS_MAX)
        book = market_data_service_pb2.GetBookRequest(market=market, levels_max=BOOK_LEVELS)
        balances = account_service_pb2.GetBalancesRequest(account=self._signers[0][0].account)
        exchange = market_data_service_pb2.GetExchangeRequest()
        stocks = {
            name: folder.write_stock(
                name,
                SUBMIT_CALL,
                (head + self._batches(batches, commands) for _ in range(messages)),
                batches_per_message=batches,
                commands_per_batch=commands,
            )
            for name, messages, batches, commands in (
                (SINGLE, wanted.single, 1, 1),
                (BATCH, wanted.batch, 1, wanted.size),
                (MANY, wanted.many, wanted.size, 1),
            )
            if messages
        }
        if wanted.verify:
            stocks[VERIFY] = folder.write_stock(
                VERIFY,
                "clob.v1.VerificationService.Verify",
                (self._verification() for _ in range(wanted.verify)),
                batches_per_message=1,
                commands_per_batch=1,
                session=True,
            )
        for name, call, read, session in (
            (BOOK, "clob.v1.MarketDataService.GetBook", book, False),
            (BALANCES, "clob.v1.AccountService.GetBalances", balances, True),
            (EXCHANGE, "clob.v1.MarketDataService.GetExchange", exchange, False),
        ):
            stocks[name] = folder.write_stock(name, call, iter([read.SerializeToString()]), session=session)
        return stocks

    def _batches(self, batches: int, commands: int) -> bytes:
        """Return signed batches as field `batches` of a SubmitRequest."""
        return b"".join(self._signed(commands) for _ in range(batches))

    def _signed(self, commands: int) -> bytes:
        turn = next(self._turn)
        user, signer = self._signers[turn % len(self._signers)]
        # Whose turn comes again takes the other side, also where the number of users is even.
        side = turn + turn // len(self._signers)
        placed: tuple[Command, ...] = tuple(self._orders.command(side + place) for place in range(commands))
        shard = self._orders.market.shard
        return sign_commands(signer, user.account, shard, self._valid_until_ms, placed, next(self._nonces)).wire

    def _verification(self) -> bytes:
        request = verification_service_pb2.VerifyRequest(environment=self._environment)
        request.batches.extend(order_service_pb2.SubmitRequest.FromString(self._signed(1)).batches)
        return request.SerializeToString()


async def write_folder(
    folder: PreparedFolder, client: AsyncClient, users: list[User], orders: Orders, wanted: Wanted, valid_for_ms: int
) -> Plan:
    """Open a session, sign everything, write the plan last; return it.

    Args:
        folder: made, with its users written.
        client: connected with the first user's key.
        users: that have their funds.
        orders: of `check_environment`, as `valid_for_ms`.
        wanted: how much.
        valid_for_ms: of all payloads, from now on.

    Raises:
        ClientError: no session could be opened.
    """
    token, session_until_ms = await open_session(client)
    folder.write_session(token)
    valid_until_ms = client.directory.now_ms() + valid_for_ms
    signing = Signing(client.environment, users, orders, wanted, valid_until_ms)
    plan = Plan(
        format=FORMAT,
        environment=client.environment,
        market=orders.market.market,
        symbol=orders.market.symbol,
        shard=orders.market.shard,
        valid_until_ms=valid_until_ms,
        session_until_ms=session_until_ms,
        stocks=signing.write(folder),
    )
    if now_ms() >= plan.valid_until_ms:
        raise PreparedError(
            f"LOADTEST_VALIDITY: signing took longer than the {valid_for_ms:,} ms that the payloads are valid; ask for "
            "fewer of them, or for a longer --valid-for"
        )
    folder.write_plan(plan)
    return plan
