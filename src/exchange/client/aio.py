"""The client for asyncio programs; `sync.Client` is the same for others."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Self

import grpc

from clob.v1 import account_service_pb2 as account_pb2
from clob.v1 import market_data_service_pb2 as data_pb2
from clob.v1 import order_service_pb2, verification_service_pb2
from exchange.client import instructions as instruct
from exchange.client.batches import SignedCommands, packed, request_head, requests_of, sign_commands
from exchange.client.books import LocalBook, book_of
from exchange.client.directory import Directory, ExchangeInfo
from exchange.client.errors import ClientError, error_of
from exchange.client.feeds import BooksFeed, Cursor, ExecutionsFeed, PublicTrade, TradesFeed, trade_of
from exchange.client.instructions import Instruction, MarketName, instruction_of, with_market
from exchange.client.keys import PrivateKey, Signer, key_of
from exchange.client.pursuit import Next, Pursuit
from exchange.client.results import Result, door_name, results_of, told_by
from exchange.client.sessions import Sessions
from exchange.client.streaming import SubmitStream
from exchange.client.transport import Backoff, Tls, Transport
from exchange.domain.commands import Command, OrderType, SelfTradePrevention, Side, TimeInForce
from exchange.domain.events import AccountOpened
from exchange.domain.limits import BATCH_COMMANDS_MAX
from exchange.domain.markets import Asset, Market

DEFAULT_ADDRESS: Final = "127.0.0.1:8080"
VALID_FOR_MS: Final = 10_000
PATIENCE_S: Final = 10.0
PAGE: Final = 1_000


class Balance(NamedTuple):
    """What an account has of an asset in a shard; shard 0: the treasury."""

    shard: int
    asset: int
    free_units: int
    locked_units: int


class Transit(NamedTuple):
    """Funds on their way between shards."""

    from_shard: int
    to_shard: int
    asset: int
    amount_units: int
    debited_us: int


class Withdrawal(NamedTuple):
    """A withdrawal; state is OPEN, PAID or GIVEN_BACK; times are zero where they are not known or not yet."""

    withdrawal: int
    asset: int
    amount_units: int
    destination: str
    state: str
    requested_us: int = 0
    closed_us: int = 0
    payable: bool = False


class Balances(NamedTuple):
    """All funds of an account.

    Attributes:
        cursors, seqs: by shard, where `executions` goes on from, and the number of the account's last event.
    """

    account: int
    funds: tuple[Balance, ...]
    transit: tuple[Transit, ...]
    withdrawals: tuple[Withdrawal, ...]
    cursors: dict[int, Cursor]
    seqs: dict[int, int]

    def free_units(self, shard: int, asset: int) -> int:
        """Return what is free of an asset in a shard."""
        return sum(one.free_units for one in self.funds if one.shard == shard and one.asset == asset)


class OpenOrder(NamedTuple):
    """An open order."""

    shard: int
    market: int
    side: Side
    order_id: int
    client_order_id: int
    price_ticks: int
    open_lots: int
    filled_lots: int
    post_only: bool


class OpenOrders(NamedTuple):
    """All open orders of an account, with the cursors from which `executions` goes on."""

    orders: tuple[OpenOrder, ...]
    cursors: dict[int, Cursor]


class Verdict(NamedTuple):
    """Whether a batch would be let in; reason is empty when it would be."""

    reason: str
    detail: str
    account: int
    shard: int
    commands: int


class AsyncClient:
    """A connection to an exchange, with a key or, for what everybody may see, without. Made by `connect`.

    Attributes:
        account: that commands are for unless told otherwise; 0: the key's only one, asked for when first needed.
    """

    def __init__(
        self,
        transport: Transport,
        directory: Directory,
        signer: Signer | None,
        *,
        account: int,
        valid_for_ms: int,
    ) -> None:
        self._transport = transport
        self._directory = directory
        self._signer = signer
        self._sessions = Sessions(transport, directory, signer)
        self._valid_for_ms = valid_for_ms
        self._submit: Any = transport.channel.unary_unary(
            "/clob.v1.OrderService/Submit",
            request_serializer=None,
            response_deserializer=order_service_pb2.SubmitResponse.FromString,
        )
        self.account = account

    @classmethod
    async def connect(
        cls,
        address: str = DEFAULT_ADDRESS,
        key: PrivateKey | str | None = None,
        *,
        environment: str | None = None,
        account: int = 0,
        tls: Tls | bool | None = None,
        valid_for_ms: int = VALID_FOR_MS,
        timeout_s: float = 10.0,
        patience_s: float = PATIENCE_S,
    ) -> Self:
        """Return a client that has spoken with the exchange.

        Args:
            address: host:port of the traders' port.
            key: private key, or its text; None: only what everybody may see.
            environment: name of the environment that the caller means. Nothing is ever signed for another one. None:
                the name that the server tells now is taken and kept: whoever answers at the address decides it, so name
                it wherever a key is good for money.
            account: that commands are for; 0: the key's only one.
            tls: True or a Tls; False: plaintext; None: plaintext on loopback, and elsewhere it has to be said.
            valid_for_ms: how long a signed batch may be executed, and so how long it is sent again.
            timeout_s: of one call.
            patience_s: how long reads are asked again, and outcomes after a batch can no longer be executed.

        Raises:
            ClientError: UNREACHABLE, WRONG_ENVIRONMENT, CLOCK_OFF, TLS_NOT_SAID.
            PrivateKeyError: the text is no private key.
            EnvironmentNameError: the environment's name is no name.
        """
        private_key = key_of(key)
        transport = Transport(address, tls, timeout_s=timeout_s, patience_s=patience_s)
        try:
            directory = Directory(transport, environment)
            await directory.ask_exchange()
            signer = private_key.signer(directory.environment) if private_key else None
        except BaseException:
            await transport.close()
            raise
        return cls(transport, directory, signer, account=account, valid_for_ms=valid_for_ms)

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- who and where ----------------------------------------------------------------------------------------------

    @property
    def environment(self) -> str:
        """The environment that everything is signed for."""
        return self._directory.environment

    @property
    def address(self) -> str:
        """Where the exchange is, as given."""
        return self._transport.address

    @property
    def exchange(self) -> ExchangeInfo:
        """The exchange as it described itself."""
        return self._directory.info

    @property
    def key_id(self) -> bytes:
        """Name of the key; empty without one."""
        return self._signer.key.key_id if self._signer else b""

    @property
    def directory(self) -> Directory:
        """Markets, shards and the exchange's clock, as known here."""
        return self._directory

    async def market(self, name: MarketName) -> Market:
        """Return a market by symbol or number; its state is as of when it was looked up first.

        Raises:
            ClientError: UNKNOWN_MARKET.
        """
        return await self._directory.market(name)

    async def list_markets(self, shard: int = 0) -> list[Market]:
        """Return all markets, or a shard's, by number, as they are now."""
        return await self._directory.markets(shard)

    async def list_assets(self) -> list[Asset]:
        """Return all assets, by number."""
        return await self._directory.assets()

    async def user(self) -> int:
        """Return the number of the key's user."""
        await self._sessions.token()
        return self._sessions.user

    async def accounts(self) -> tuple[int, ...]:
        """Return the accounts that the key may sign for, ascending."""
        await self._sessions.token()
        return self._sessions.accounts

    async def own_account(self, account: int = 0) -> int:
        """Return the account to act for: the given one, the client's, or the key's only one.

        Raises:
            ClientError: ACCOUNT_NEEDED, the key has several and none was named.
        """
        if account or self.account:
            return account or self.account
        found = await self.accounts()
        if len(found) != 1:
            raise ClientError(
                "ACCOUNT_NEEDED", f"the key may act for accounts {list(found)}; name one: connect(..., account=...)"
            )
        self.account = found[0]
        return self.account

    # --- orders -----------------------------------------------------------------------------------------------------

    async def place(
        self,
        market: MarketName,
        side: Side | str,
        quantity_lots: int,
        price_ticks: int = 0,
        *,
        order_type: OrderType | str | None = None,
        time_in_force: TimeInForce | str | None = None,
        post_only: bool = False,
        self_trade_prevention: SelfTradePrevention | str | None = None,
        client_order_id: int = 0,
    ) -> Result:
        """Place an order and return what became of it; arguments as in `instructions.place`."""
        return await self._one(
            instruct.place(
                market,
                side,
                quantity_lots,
                price_ticks,
                order_type=order_type,
                time_in_force=time_in_force,
                post_only=post_only,
                self_trade_prevention=self_trade_prevention,
                client_order_id=client_order_id,
            )
        )

    async def cancel(self, order_id: int = 0, *, client_order_id: int = 0, market: MarketName | None = None) -> Result:
        """Cancel an order, named by order_id, or by client_order_id and its market."""
        return await self._one(instruct.cancel(order_id, client_order_id=client_order_id, market=market))

    async def reduce(
        self, order_id: int = 0, *, quantity_lots: int, client_order_id: int = 0, market: MarketName | None = None
    ) -> Result:
        """Take lots off an open order, which keeps its place."""
        return await self._one(
            instruct.reduce(order_id, quantity_lots=quantity_lots, client_order_id=client_order_id, market=market)
        )

    async def replace(
        self,
        order_id: int = 0,
        *,
        price_ticks: int = 0,
        quantity_lots: int = 0,
        client_order_id: int = 0,
        market: MarketName | None = None,
    ) -> Result:
        """Change price, total quantity (what was filled included) or both of an open order; 0: as it is."""
        return await self._one(
            instruct.replace(
                order_id,
                price_ticks=price_ticks,
                quantity_lots=quantity_lots,
                client_order_id=client_order_id,
                market=market,
            )
        )

    async def cancel_all(
        self, market: MarketName | None = None, side: Side | str | None = None, *, shard: int | None = None
    ) -> Result:
        """Cancel all open orders in a market, or in all markets of a shard. UNDER_WAY: the rest follows by itself."""
        return await self._one(instruct.cancel_all(market, side, shard=shard))

    async def release(self, shard: int, asset: int, amount_units: int) -> Result:
        """Move free funds from a shard to the treasury; they arrive a moment after they left."""
        return await self._one(instruct.release(shard, asset, amount_units))

    async def allocate(self, asset: int, amount_units: int, to_shard: int) -> Result:
        """Move funds from the treasury to a shard; they arrive a moment after they left."""
        return await self._one(instruct.allocate(asset, amount_units, to_shard))

    async def withdraw(self, asset: int, amount_units: int, destination: str) -> Result:
        """Ask for funds in the treasury to be paid out."""
        return await self._one(instruct.withdraw(asset, amount_units, destination))

    async def register_key(self, key: PrivateKey, account: int = 0) -> Result:
        """Register another key of the user's own, for one account or for all (0)."""
        return await self._one(instruct.register_key(key, self.environment, await self.user(), account))

    async def revoke_key(self, key_id: bytes) -> Result:
        """Revoke a key of the user's own, for ever."""
        return await self._one(instruct.revoke_key(key_id))

    async def open_account(self) -> Result:
        """Open another account; its number is in the result's AccountOpened event."""
        result = await self._one(instruct.open_account(await self.user()))
        # The session that is open was told the accounts of before.
        self._sessions.opened(event.account for event in result.events if isinstance(event, AccountOpened))
        return result

    async def submit(
        self,
        commands: Sequence[Instruction | Command],
        *,
        account: int = 0,
        commands_per_signature: int = BATCH_COMMANDS_MAX,
        sequenced_only: bool = False,
        with_stages: bool = False,
        resend: bool = True,
    ) -> list[Result]:
        """Sign commands, send them and return what became of each, in the order given.

        Args:
            commands: any number, for any markets and shards. Those of one shard are executed in the order given, as
                long as no batch of them is refused and sent again; those of one batch always are, next to each other.
            account: that they are for; 0: the client's.
            commands_per_signature: most commands in one signed batch; 1: each is signed on its own.
            sequenced_only: return when all have a position in the log; what they come to is then not known yet.
            with_stages: tell the times of the stages.
            resend: False: send once; what is in doubt then is asked for with GetOutcome.

        Returns:
            A result for each command. Refused ones are results, too.

        Raises:
            ClientError: nothing was executed: MALFORMED, UNKNOWN_MARKET, KEY_NEEDED, UNREACHABLE before anything was
                signed, and what the exchange refuses a whole call for. When several calls are needed and it refuses
                a later one, the commands of that one are REFUSED for its reason.
        """
        batches, places = await self._sign(commands, account, commands_per_signature)
        results = await self.send(
            batches, sent_before=False, sequenced_only=sequenced_only, with_stages=with_stages, resend=resend
        )
        ordered: list[Result | None] = [None] * len(commands)
        for index, result in zip(places, results, strict=True):
            ordered[index] = result
        return [result for result in ordered if result is not None]

    async def sign(
        self,
        commands: Sequence[Instruction | Command],
        *,
        account: int = 0,
        commands_per_signature: int = BATCH_COMMANDS_MAX,
    ) -> list[SignedCommands]:
        """Return commands as signed batches, by shard, unsent. `send` takes them, now or after a restart."""
        return (await self._sign(commands, account, commands_per_signature))[0]

    async def send(
        self,
        batches: Sequence[SignedCommands],
        *,
        sent_before: bool = True,
        sequenced_only: bool = False,
        with_stages: bool = False,
        resend: bool = True,
    ) -> list[Result]:
        """Send signed batches, again where need be, and return what became of each command, batch by batch.

        Sending a batch that was sent before is safe: it is executed once, and its first outcome is returned.

        Args:
            batches: as `sign` returned them, in this process or in an earlier one.
            sent_before: they may have been sent before, so that a refusal does not say that they were not executed;
                then GetOutcome is asked, too. False where they certainly were not.
            sequenced_only: as for `submit`.
            with_stages: as for `submit`.
            resend: as for `submit`.
        """
        now_ms = self._directory.now_ms()
        pursuits = [Pursuit.begun(batch, Backoff(), now_ms, sent_before=sent_before) for batch in batches]
        head = request_head(self.environment, sequenced_only=sequenced_only, with_stages=with_stages)
        await self._pursue(pursuits, head, sequenced_only=sequenced_only, resend=resend)
        results: list[Result] = []
        for pursuit in pursuits:
            assert pursuit.told is not None, "a pursuit ends with something told"
            results += results_of(pursuit.batch, pursuit.told)
        for result in results:
            if result.reason == "UNKNOWN_MARKET":
                self._directory.forget(result.market)
        return results

    async def outcome(self, batch: SignedCommands) -> list[Result]:
        """Ask what became of a batch, without sending it: SEQUENCED and UNKNOWN mean that it is not decided yet."""
        pursuit = Pursuit(batch, Backoff())
        pursuit.found(await self._get_outcome(batch))
        if pursuit.next is not Next.NOTHING:
            pursuit.give_up("no outcome yet, and there can still be one")
        assert pursuit.told is not None
        return results_of(batch, pursuit.told)

    async def verify(self, batches: Sequence[SignedCommands]) -> list[Verdict]:
        """Ask whether the door would let batches in, without sending them. Markets and funds are not looked at."""
        verdicts: list[Verdict] = []
        for part in requests_of(batches):
            request = verification_service_pb2.VerifyRequest(environment=self.environment)
            for batch in part:
                request.batches.extend(order_service_pb2.SubmitRequest.FromString(batch.wire).batches)
            answer = await self._sessions.call(self._transport.verification.Verify, request)
            verdicts += [
                Verdict(
                    door_name(one.door_reason) if one.door_reason else "",
                    one.detail,
                    one.account,
                    one.shard,
                    one.commands,
                )
                for one in answer.verdicts
            ]
        return verdicts

    def open_stream(
        self, *, in_flight_max: int = 64, sequenced_only: bool = False, with_stages: bool = False
    ) -> SubmitStream:
        """Return a stream for many signed batches: `sign` or `sign_many` first, then `SubmitStream.send`."""
        head = request_head(self.environment, sequenced_only=sequenced_only, with_stages=with_stages)
        return SubmitStream(self._transport, head, in_flight_max)

    def another_transport(self) -> Transport:
        """Return another connection to the same address, for load; the caller closes it."""
        return self._transport.again()

    @property
    def signer(self) -> Signer:
        """What signs with the client's key, for the client's environment, for `batches.sign_many`.

        Raises:
            ClientError: KEY_NEEDED.
        """
        if self._signer is None:
            raise ClientError("KEY_NEEDED", "this needs a key; connect(address, key=...)")
        return self._signer

    # --- what is one's own ------------------------------------------------------------------------------------------

    async def balances(self, account: int = 0) -> Balances:
        """Return all funds of an account and where they lie."""
        request = account_pb2.GetBalancesRequest(account=await self.own_account(account))
        answer = await self._sessions.call(self._transport.accounts.GetBalances, request)
        return Balances(
            account=answer.account,
            funds=tuple(
                Balance(part.cursor.shard, one.asset, one.free_units, one.locked_units)
                for part in answer.shards
                for one in part.balances
            ),
            transit=tuple(
                Transit(one.from_shard, one.to_shard, one.asset, one.amount_units, one.debited_us)
                for one in answer.transit
            ),
            withdrawals=tuple(
                Withdrawal(one.withdrawal, one.asset, one.amount_units, one.destination, "OPEN")
                for one in answer.withdrawals
            ),
            cursors={part.cursor.shard: Cursor(part.cursor.n, part.cursor.event) for part in answer.shards},
            seqs={part.cursor.shard: part.account_seq for part in answer.shards},
        )

    async def open_orders(self, market: MarketName | None = None, *, account: int = 0) -> OpenOrders:
        """Return all open orders of an account, by shard and order_id."""
        number = (await self.market(market)).market if market is not None else 0
        owner = await self.own_account(account)
        found: list[OpenOrder] = []
        cursors: dict[int, Cursor] = {}
        token = ""
        while True:
            request = account_pb2.ListOpenOrdersRequest(account=owner, market=number, page_size=PAGE, page_token=token)
            page = await self._sessions.call(self._transport.accounts.ListOpenOrders, request)
            found += [_open_order(one) for one in page.orders]
            for cursor in page.cursors:
                cursors.setdefault(cursor.shard, Cursor(cursor.n, cursor.event))
            token = page.next_page_token
            if not token:
                return OpenOrders(tuple(found), cursors)

    async def withdrawals(self, *, account: int = 0) -> list[Withdrawal]:
        """Return the withdrawals of an account, newest first."""
        owner = await self.own_account(account)
        found: list[Withdrawal] = []
        token = ""
        while True:
            request = account_pb2.ListAccountWithdrawalsRequest(account=owner, page_size=PAGE, page_token=token)
            page = await self._sessions.call(self._transport.accounts.ListAccountWithdrawals, request)
            found += [_withdrawal(one) for one in page.withdrawals]
            token = page.next_page_token
            if not token:
                return found

    async def executions(self, cursors: Mapping[int, Cursor] | None = None, *, account: int = 0) -> ExecutionsFeed:
        """Return a feed of everything that happens to an account, from cursors on, or from now on.

        It goes on by itself after reconnects, restarts of the exchange and ended sessions, without gap or repeat.
        """
        owner = await self.own_account(account)
        if cursors is not None:
            return ExecutionsFeed(self._transport, self._sessions, owner, cursors, {})
        now = await self.balances(owner)
        return ExecutionsFeed(self._transport, self._sessions, owner, now.cursors, now.seqs)

    # --- what everybody may see -------------------------------------------------------------------------------------

    async def book(self, market: MarketName, levels_max: int = 20) -> LocalBook:
        """Return the best levels of a book, at most 1,000 on each side."""
        request = data_pb2.GetBookRequest(market=(await self.market(market)).market, levels_max=levels_max)
        return book_of((await self._transport.read(self._transport.market_data.GetBook, request)).book)

    async def books(self, markets: Iterable[MarketName], *, every_command: bool = False) -> BooksFeed:
        """Return a feed that keeps whole books up to date; at most 1,000 of them."""
        numbers = [(await self.market(name)).market for name in markets]
        return BooksFeed(self._transport, numbers, every_command=every_command)

    async def last_trades(self, market: MarketName, trades_max: int = 100) -> list[PublicTrade]:
        """Return the last trades of a market, newest first."""
        request = data_pb2.ListTradesRequest(market=(await self.market(market)).market, trades_max=trades_max)
        answer = await self._transport.read(self._transport.market_data.ListTrades, request)
        return [trade_of(trade) for trade in answer.trades]

    async def trades(self, markets: Iterable[MarketName], cursors: Mapping[int, int] | None = None) -> TradesFeed:
        """Return a feed of trades, from sequence numbers (by market number) on, or from now on."""
        numbers = [(await self.market(name)).market for name in markets]
        return TradesFeed(self._transport, {number: (cursors or {}).get(number, 0) for number in numbers})

    # --- sending ----------------------------------------------------------------------------------------------------

    async def _one(self, instruction: Instruction) -> Result:
        return (await self.submit([instruction]))[0]

    async def _sign(
        self, commands: Sequence[Instruction | Command], account: int, commands_per_signature: int
    ) -> tuple[list[SignedCommands], list[int]]:
        """Return signed batches by shard, and for each of their commands its index among those given."""
        signer = self.signer
        owner = await self.own_account(account)
        by_shard: dict[int, list[tuple[int, Command]]] = {}
        for index, given in enumerate(commands):
            shard, command = await self._routed(instruction_of(given))
            by_shard.setdefault(shard, []).append((index, command))
        batches: list[SignedCommands] = []
        places: list[int] = []
        for shard, numbered in by_shard.items():
            valid_for_ms = await self._directory.validity_ms(shard, self._valid_for_ms)
            for part in packed([command for _, command in numbered], commands_per_signature):
                valid_until_ms = self._directory.now_ms() + valid_for_ms
                batches.append(sign_commands(signer, owner, shard, valid_until_ms, part))
            places += [index for index, _ in numbered]
        return batches, places

    async def _routed(self, instruction: Instruction) -> tuple[int, Command]:
        """Return shard and command, markets looked up."""
        if instruction.shard is not None:
            return instruction.shard, instruction.command
        assert instruction.market is not None
        market = await self._directory.market(instruction.market)
        return market.shard, with_market(instruction.command, market.market)

    async def _pursue(self, pursuits: Sequence[Pursuit], head: bytes, *, sequenced_only: bool, resend: bool) -> None:
        """Send and ask until every pursuit has ended, or there is no use in it any more."""
        give_up_ms = max(self._directory.now_ms(), *(one.batch.valid_until_ms for one in pursuits), 0)
        give_up_ms += int(self._transport.patience_s * 1000)
        while waiting := [one for one in pursuits if one.next is not Next.NOTHING]:
            if self._directory.now_ms() > give_up_ms:
                for one in waiting:
                    one.give_up(
                        "the exchange gave no outcome in time; send the same batch again or ask for its outcome"
                    )
                return
            await asyncio.sleep(min(one.wait_s for one in waiting))
            due_s = min(one.wait_s for one in waiting)
            for one in waiting:
                one.wait_s = max(0.0, one.wait_s - due_s)
            due = [one for one in waiting if one.wait_s == 0.0]
            await self._send_all(pursuits, [one for one in due if one.next is Next.SEND], head, sequenced_only, resend)
            for one in due:
                if one.next is Next.ASK and one.wait_s == 0.0:
                    await self._ask(one)

    async def _send_all(
        self, pursuits: Sequence[Pursuit], due: Sequence[Pursuit], head: bytes, sequenced_only: bool, resend: bool
    ) -> None:
        """Send what is due of the pursuits, in as many calls as it needs.

        Raises:
            ClientError: a call failed for good, and of no pursuit anything else is known or in doubt.
        """
        following = iter(due)
        for part in requests_of(one.batch for one in due):
            sent = list(islice(following, len(part)))
            sent_us = time.time_ns() // 1000
            try:
                response = await self._submit(
                    b"".join((head, *(batch.wire for batch in part))), timeout=self._transport.timeout_s
                )
            except grpc.aio.AioRpcError as failed:
                error = error_of(failed, self._transport.address)
                now_ms = self._directory.now_ms()
                at_fault = [one for one in sent if not one.failed(error, now_ms, resend=resend)]
                if at_fault and not any(one.told is not None or one.in_doubt for one in pursuits):
                    raise error from failed
                # An error would hide what became of the others, and their commands would be signed again.
                for one in at_fault:
                    one.refused(error)
                continue
            got_us = time.time_ns() // 1000
            now_ms = self._directory.now_ms()
            for one, told in zip(sent, told_by(response, part, sent_us, got_us), strict=True):
                one.answered(told, now_ms, sequenced_only=sequenced_only, resend=resend)

    async def _ask(self, pursuit: Pursuit) -> None:
        """Ask for the outcome of a batch that is in doubt; without an answer it stays so, and is asked for again."""
        try:
            answer = await self._get_outcome(pursuit.batch)
        except ClientError as error:
            if not error.may_help_to_retry:
                pursuit.give_up(f"it is not known whether it was executed, and asking failed: {error}")
            else:
                pursuit.wait_s = pursuit.backoff.next_s(error.retry_after_ms)
            return
        pursuit.found(answer)

    async def _get_outcome(self, batch: SignedCommands) -> Any:
        request = order_service_pb2.GetOutcomeRequest(
            key_id=batch.key_id, shard=batch.shard, nonce=batch.nonce, valid_until_ms=batch.valid_until_ms
        )
        return await self._sessions.call(self._transport.orders.GetOutcome, request)


def _open_order(one: Any) -> OpenOrder:
    order = one.order
    return OpenOrder(
        one.shard,
        one.market,
        Side(one.side),
        order.order_id,
        order.client_order_id,
        order.price_ticks,
        order.open_lots,
        order.filled_lots,
        order.post_only,
    )


_WITHDRAWAL_STATES: Final = {1: "OPEN", 2: "PAID", 3: "GIVEN_BACK"}


def _withdrawal(one: Any) -> Withdrawal:
    asked = one.request
    return Withdrawal(
        asked.withdrawal,
        asked.asset,
        asked.amount_units,
        asked.destination,
        _WITHDRAWAL_STATES.get(one.state, str(one.state)),
        one.requested_us,
        one.closed_us,
        one.payable,
    )
