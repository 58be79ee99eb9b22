"""Shard 0: users, accounts, keys, definitions, the treasury, links, request ids and operator keys."""

import msgspec
import pytest

from exchange.domain.commands import AllocateFunds, Command, RequestWithdrawal
from exchange.domain.control import OpenAccount, RevokeKey
from exchange.domain.events import (
    AccountOpened,
    AssetDefined,
    BatchResult,
    CommandRejected,
    Deposited,
    Event,
    FeesPaidOut,
    FrameRefused,
    FundsCredited,
    FundsSent,
    KeyRegistered,
    KeyRevoked,
    LinkResult,
    MarketDefined,
    MarketStateChanged,
    OperationResult,
    OperatorKeyRotated,
    RequestResult,
    ShardDefined,
    UserCreated,
    WithdrawalClosed,
    WithdrawalRequested,
)
from exchange.domain.frames import ExecutionFrame
from exchange.domain.invariants import broken_in_control
from exchange.domain.limits import LINK_DIGESTS_MAX
from exchange.domain.markets import Asset, MarketState
from exchange.domain.operations import (
    AllocationPolicy,
    CloseWithdrawal,
    DefineAsset,
    DefineMarket,
    DefineShard,
    Deposit,
    Link,
    Operation,
    OperatorAction,
    OperatorRole,
    PayOutFees,
    RotateOperatorKey,
    SetMarketState,
    Transfer,
)
from exchange.domain.rejects import RejectReason
from exchange.domain.state import AssetAmount, AssetTotals
from exchange.domain.stops import EngineStop, StopReason
from exchange.engine.port import RawEntry
from exchange.engine.reference import control_from_checkpoint, control_from_genesis
from exchange.local.control_venue import ControlVenue, KeyPair, carried_by, signed_link
from exchange.local.venue import VALIDITY_MS
from exchange.wire.messages import decode
from tests.support.exchange import opened_control
from tests.support.markets import BOOK, QUOTE, refusals

MARKET, TREASURY, RECOVERY = OperatorRole.MARKET, OperatorRole.TREASURY, OperatorRole.RECOVERY


@pytest.fixture
def control() -> ControlVenue:
    return ControlVenue()


class Alice:
    """Shard 0 with Alice, who has user 1, account 1 and 1,000 units of QUOTE in the treasury."""

    def __init__(self) -> None:
        self.control, self.account, self.key = opened_control()

    def commands(self, *commands: Command) -> tuple[Event, ...]:
        return self.control.command(self.key, self.account, *commands)

    def gets(self, units: int, allocate: AllocationPolicy, to_shard: int = 0) -> tuple[Event, ...]:
        return self.control.operate(TREASURY, Deposit(self.account, QUOTE, units, allocate, to_shard))

    @property
    def treasury_units(self) -> int:
        balances = {owner.account: owner.balances for owner in self.control.state.treasury}
        return sum(balance.amount_units for balance in balances[self.account] if balance.asset == QUOTE)


@pytest.fixture
def alice() -> Alice:
    return Alice()


# --- users, accounts and keys -----------------------------------------------------------------------------------------


def test_a_new_user_comes_with_an_account_and_a_key(control: ControlVenue) -> None:
    key = control.key("alice")
    assert control.ask(control.registration(key)) == (
        RequestResult(request=1),
        UserCreated(user=1),
        AccountOpened(user=1, account=1),
        KeyRegistered(key.key_id, key.public_key, user=1),
    )


def test_users_and_accounts_are_numbered_one_after_another(alice: Alice) -> None:
    alice.commands(OpenAccount(user=1))
    assert alice.control.new_user("bob")[0] == 3
    assert [(user.user, user.accounts) for user in alice.control.state.users] == [(1, (1, 2)), (2, (3,))]


def test_a_key_registers_once_for_ever(alice: Alice) -> None:
    again = alice.control.registration(alice.key)
    assert refusals(alice.control.ask(again)) == [RejectReason.KEY_EXISTS]
    alice.commands(RevokeKey(alice.key.key_id))
    assert refusals(alice.control.ask(again)) == [RejectReason.KEY_EXISTS]
    for_the_user = alice.control.registration(alice.key, user=1)
    assert refusals(alice.control.operate(TREASURY, for_the_user)) == [RejectReason.KEY_EXISTS]


def test_a_revoked_key_signs_nothing_any_more_and_cannot_be_revoked_again(alice: Alice) -> None:
    assert alice.commands(RevokeKey(alice.key.key_id))[1:] == (KeyRevoked(alice.key.key_id, command=1),)
    assert refusals(alice.commands(OpenAccount(1))) == [RejectReason.KEY_REVOKED]
    assert refusals(alice.control.operate(TREASURY, RevokeKey(alice.key.key_id))) == [RejectReason.KEY_REVOKED]


def test_a_registration_without_proof_of_possession_is_refused(control: ControlVenue) -> None:
    alice, mallory = control.key("alice"), control.key("mallory")
    stolen = control.registration(KeyPair(mallory.seed, alice.public_key, alice.key_id))
    assert refusals(control.ask(stolen)) == [RejectReason.BAD_SIGNATURE]
    assert control.state.keys == ()


def test_a_proof_of_possession_is_for_its_environment(control: ControlVenue) -> None:
    elsewhere = ControlVenue(environment="elsewhere")
    assert refusals(control.ask(elsewhere.registration(control.key("alice")))) == [RejectReason.BAD_SIGNATURE]


def test_a_second_key_may_sign_for_all_accounts_or_for_one(alice: Alice) -> None:
    wide, narrow = alice.control.key("wide"), alice.control.key("narrow")
    events = alice.commands(
        OpenAccount(1),
        alice.control.registration(wide, user=1),
        alice.control.registration(narrow, user=1, account=2),
    )
    assert refusals(events) == []
    for key, account, allowed in [(wide, 1, True), (wide, 2, True), (narrow, 1, False), (narrow, 2, True)]:
        first = alice.control.command(key, account, AllocateFunds(QUOTE, 1, 1))[0]
        assert first == BatchResult(batch=1, reason=0 if allowed else RejectReason.ACCOUNT_NOT_OF_KEY)


def test_a_request_cannot_add_a_key_to_a_user_that_exists(alice: Alice) -> None:
    mallory = alice.control.key("mallory")
    for registration in (alice.control.registration(mallory, user=1), alice.control.registration(mallory, account=1)):
        assert refusals(alice.control.ask(registration)) == [RejectReason.INVALID_REGISTRATION]


def test_a_user_sees_no_other_user(alice: Alice) -> None:
    bobs_account, bobs_key = alice.control.new_user("bob")
    new = alice.control.key("new")
    events = alice.commands(
        OpenAccount(2),
        RevokeKey(bobs_key.key_id),
        alice.control.registration(new, user=2),
        alice.control.registration(new, user=1, account=bobs_account),
    )
    assert refusals(events) == [
        RejectReason.UNKNOWN_USER,
        RejectReason.UNKNOWN_KEY,
        RejectReason.UNKNOWN_USER,
        RejectReason.UNKNOWN_ACCOUNT,
    ]


def test_the_treasury_gives_a_user_who_lost_all_keys_another(alice: Alice) -> None:
    new = alice.control.key("new")
    alice.control.operate(TREASURY, RevokeKey(alice.key.key_id), alice.control.registration(new, user=1))
    assert refusals(alice.control.command(new, alice.account, AllocateFunds(QUOTE, 1, 1))) == []


# --- assets, shards and markets ---------------------------------------------------------------------------------------


def test_assets_shards_and_markets_are_listed(control: ControlVenue) -> None:
    events = control.operate(
        MARKET,
        DefineAsset(Asset(1, "BTC", 8)),
        DefineAsset(Asset(2, "USD", 2)),
        DefineShard(1),
        DefineShard(2, "west"),
        DefineMarket(BOOK),
    )
    assert events == (
        OperationResult(operation=1),
        AssetDefined(Asset(1, "BTC", 8)),
        AssetDefined(Asset(2, "USD", 2)),
        ShardDefined(1, "s1"),
        ShardDefined(2, "west"),
        MarketDefined(BOOK),
    )
    assert control.state.markets == (BOOK,)


@pytest.mark.parametrize(
    "action",
    [
        DefineAsset(Asset(QUOTE, "EUR", 2)),
        DefineAsset(Asset(3, "USD", 2)),
        DefineShard(1, "other"),
        DefineShard(3, "s1"),
        DefineMarket(msgspec.structs.replace(BOOK, market=2)),
    ],
    ids=["number of an asset", "symbol of an asset", "number of a shard", "tag of a shard", "symbol of a market"],
)
def test_what_is_taken_cannot_be_defined_again(alice: Alice, action: OperatorAction) -> None:
    assert refusals(alice.control.operate(MARKET, action)) == [RejectReason.ALREADY_DEFINED]


@pytest.mark.parametrize(
    "action",
    [
        DefineAsset(Asset(0, "EUR", 2)),
        DefineAsset(Asset(3, "eur", 2)),
        DefineAsset(Asset(3, "", 2)),
        DefineAsset(Asset(3, "EUR", 19)),
        DefineShard(0),
        DefineShard(4096),
        DefineShard(3, "No_Tag"),
    ],
)
def test_a_definition_out_of_bounds_is_refused(alice: Alice, action: OperatorAction) -> None:
    assert refusals(alice.control.operate(MARKET, action)) == [RejectReason.INVALID_DEFINITION]


def test_a_market_changes_its_settings_and_state_but_not_what_it_is(alice: Alice) -> None:
    dearer = msgspec.structs.replace(BOOK, taker_fee_ppm=500)
    halted = msgspec.structs.replace(dearer, state=MarketState.HALTED)
    events = alice.control.operate(
        MARKET,
        DefineMarket(dearer),
        SetMarketState(1, MarketState.HALTED),
        DefineMarket(dearer),
        DefineMarket(msgspec.structs.replace(BOOK, symbol="BTC-EUR")),
    )
    assert events[1:4] == (
        MarketDefined(dearer),
        MarketStateChanged(market=1, state=MarketState.HALTED),
        MarketDefined(halted),
    )
    assert refusals(events) == [RejectReason.MARKET_FIELD_FIXED]
    assert alice.control.state.markets == (halted,)


def test_a_listing_changes_its_state_at_once_only(alice: Alice) -> None:
    later = SetMarketState(1, MarketState.HALTED, alice.control.now_us + 1)
    assert refusals(alice.control.operate(MARKET, later)) == [RejectReason.NOT_FOR_THIS_SHARD]


# --- deposits, allocation and withdrawals -----------------------------------------------------------------------------


def _sent(events: tuple[Event, ...]) -> list[tuple[int, int, int]]:
    """Return (shard, units, link sequence) of everything that was sent."""
    return [(sent.to_shard, sent.amount_units, sent.link_sequence) for sent in events if isinstance(sent, FundsSent)]


def test_a_deposit_that_goes_nowhere_stays_in_the_treasury(alice: Alice) -> None:
    events = alice.gets(7, AllocationPolicy.NONE)
    assert events[1:] == (Deposited(alice.account, 2, QUOTE, 7),)
    assert alice.treasury_units == 1_007


def test_an_even_deposit_gives_what_is_left_over_to_the_first_shards(alice: Alice) -> None:
    alice.control.operate(MARKET, DefineShard(9))
    assert _sent(alice.gets(11, AllocationPolicy.EVEN)) == [(1, 4, 1), (2, 4, 1), (9, 3, 1)]
    assert _sent(alice.gets(1, AllocationPolicy.EVEN)) == [(1, 1, 2)]
    assert alice.treasury_units == 1_000


def test_a_deposit_to_one_shard_goes_there_whole(alice: Alice) -> None:
    assert _sent(alice.gets(11, AllocationPolicy.ONE_SHARD, to_shard=2)) == [(2, 11, 1)]


def test_all_deposits_of_an_asset_stay_below_2_63_though_money_left_again(alice: Alice) -> None:
    rest = 2**63 - 1 - 1_000
    alice.commands(RequestWithdrawal(QUOTE, 1_000, "bank"))
    alice.control.operate(TREASURY, CloseWithdrawal(1, paid=True))
    assert refusals(alice.gets(rest + 1, AllocationPolicy.NONE)) == [RejectReason.DEPOSITS_TOO_LARGE]
    assert refusals(alice.gets(rest, AllocationPolicy.NONE)) == []
    assert alice.control.state.totals == (AssetTotals(QUOTE, 2**63 - 1, 1_000),)


def test_what_one_entry_sends_to_one_shard_travels_in_one_link(alice: Alice) -> None:
    events = alice.commands(AllocateFunds(QUOTE, 300, 1), AllocateFunds(QUOTE, 300, 1))
    assert _sent(events) == [(1, 300, 1), (1, 300, 1)]
    n = alice.control.engine.position
    carried = (Transfer(alice.account, QUOTE, 300), Transfer(alice.account, QUOTE, 300))
    assert carried_by(events, 0, n) == [Link(0, 1, 1, n, carried)]
    assert _sent(alice.commands(AllocateFunds(QUOTE, 100, 1))) == [(1, 100, 2)]


def test_an_allocation_beyond_what_is_there_says_what_is_there(alice: Alice) -> None:
    events = alice.commands(AllocateFunds(QUOTE, 600, 1), AllocateFunds(QUOTE, 500, 2))
    assert events[-1] == CommandRejected(
        command=2,
        account=alice.account,
        account_seq=3,
        reason=RejectReason.INSUFFICIENT_FUNDS,
        required_units=500,
        available_units=400,
        asset=QUOTE,
    )


def test_a_withdrawal_that_is_paid_has_left(alice: Alice) -> None:
    requested = alice.commands(RequestWithdrawal(QUOTE, 400, "bank"))
    assert requested[1:] == (WithdrawalRequested(1, 1, alice.account, 2, QUOTE, 400, "bank"),)
    assert alice.treasury_units == 600
    closed = alice.control.operate(TREASURY, CloseWithdrawal(1, paid=True))
    assert closed[1:] == (WithdrawalClosed(1, True, alice.account, 3, QUOTE, 400),)
    assert (alice.treasury_units, alice.control.state.withdrawals) == (600, ())
    assert alice.control.state.totals == (AssetTotals(QUOTE, 1_000, 400),)


def test_a_withdrawal_that_is_not_paid_is_given_back_once(alice: Alice) -> None:
    alice.commands(RequestWithdrawal(QUOTE, 400, "bank"))
    events = alice.control.operate(TREASURY, CloseWithdrawal(1), CloseWithdrawal(1), CloseWithdrawal(1, paid=True))
    assert refusals(events) == [RejectReason.UNKNOWN_WITHDRAWAL] * 2
    assert alice.treasury_units == 1_000
    assert alice.control.state.totals == (AssetTotals(QUOTE, 1_000, 0),)


def test_swept_fees_are_paid_out_to_an_account_as_far_as_they_go(alice: Alice) -> None:
    _link(alice.control, 1, Transfer(0, QUOTE, 30))
    events = alice.control.operate(
        TREASURY, PayOutFees(alice.account, QUOTE, 20), PayOutFees(alice.account, QUOTE, 20), PayOutFees(99, QUOTE, 1)
    )
    assert events[1] == FeesPaidOut(alice.account, 2, QUOTE, 20)
    assert refusals(events) == [RejectReason.INSUFFICIENT_FUNDS, RejectReason.UNKNOWN_ACCOUNT]
    assert alice.treasury_units == 1_020
    assert alice.control.state.treasury[0].balances == (AssetAmount(QUOTE, 10),)


# --- links ------------------------------------------------------------------------------------------------------------


def _link(control: ControlVenue, sequence: int, *transfers: Transfer, shard: int = 1) -> tuple[Event, ...]:
    link = Link(shard, 0, sequence, source_n=1, transfers=transfers)
    return control.enter(links=(signed_link(control.environment, link),))


def test_what_a_shard_released_comes_back_to_the_treasury(alice: Alice) -> None:
    events = _link(alice.control, 1, Transfer(alice.account, QUOTE, 5), Transfer(0, QUOTE, 3))
    assert events == (
        LinkResult(link=1, from_shard=1, sequence=1),
        FundsCredited(alice.account, 2, QUOTE, 5, from_shard=1),
        FundsCredited(0, 0, QUOTE, 3, from_shard=1),
    )
    assert alice.treasury_units == 1_005
    assert alice.control.state.treasury[0].balances == (AssetAmount(QUOTE, 3),)


def test_a_link_that_comes_again_changes_nothing(alice: Alice) -> None:
    for sequence in (1, 2, 3):
        _link(alice.control, sequence, Transfer(alice.account, QUOTE, 5))
    for sequence in (2, 3, 1):
        events = _link(alice.control, sequence, Transfer(alice.account, QUOTE, 5))
        assert events == (LinkResult(link=1, from_shard=1, sequence=sequence, repeated=True),)
    assert alice.treasury_units == 1_015


def test_a_link_beyond_the_next_waits_for_those_before_it(alice: Alice) -> None:
    before = alice.control.state
    events = _link(alice.control, 2, Transfer(alice.account, QUOTE, 5))
    assert events == (LinkResult(link=1, from_shard=1, sequence=2, reason=RejectReason.LINK_GAP),)
    assert alice.control.state.core.links_in == before.core.links_in
    assert alice.treasury_units == 1_000


def test_links_of_different_shards_are_counted_apart(alice: Alice) -> None:
    for shard in (1, 2):
        assert refusals(_link(alice.control, 1, Transfer(alice.account, QUOTE, 5), shard=shard)) == []
    assert alice.treasury_units == 1_010


def test_two_links_of_one_number_stop_the_shard_for_good(alice: Alice) -> None:
    _link(alice.control, 1, Transfer(alice.account, QUOTE, 5))
    with pytest.raises(EngineStop) as stop:
        _link(alice.control, 1, Transfer(alice.account, QUOTE, 6))
    assert stop.value.reason is StopReason.LINK_CONFLICT
    with pytest.raises(EngineStop):
        alice.control.enter()
    with pytest.raises(EngineStop):
        alice.control.engine.checkpoint()


def test_digests_of_the_last_links_are_kept_and_older_links_count_as_repeated(alice: Alice) -> None:
    transfer = Transfer(alice.account, QUOTE, 1)
    links = [Link(1, 0, sequence, 1, (transfer,)) for sequence in range(1, LINK_DIGESTS_MAX + 2)]
    signed = [signed_link("local", link) for link in links]
    for start in range(0, len(signed), 64):
        alice.control.enter(links=tuple(signed[start : start + 64]))
    assert len(alice.control.state.core.links_in[0].digests) == LINK_DIGESTS_MAX
    forgotten = _link(alice.control, 1, Transfer(alice.account, QUOTE, 99))
    assert forgotten == (LinkResult(link=1, from_shard=1, sequence=1, repeated=True),)
    with pytest.raises(EngineStop):
        _link(alice.control, 2, Transfer(alice.account, QUOTE, 99))


def test_no_balance_of_the_treasury_reaches_2_63(alice: Alice) -> None:
    _link(alice.control, 1, Transfer(alice.account, QUOTE, 2**63 - 1 - 1_000))
    with pytest.raises(EngineStop) as stop:
        _link(alice.control, 2, Transfer(alice.account, QUOTE, 1))
    assert stop.value.reason is StopReason.INVARIANT


# --- request ids ------------------------------------------------------------------------------------------------------


def test_a_request_that_comes_again_gets_the_position_of_its_answer(control: ControlVenue) -> None:
    request_id, registration = control.request_id(), control.registration(control.key("alice"))
    control.enter()
    control.ask(registration, request_id)
    control.enter()
    assert control.ask(registration, request_id) == (RequestResult(request=1, repeat_n=2),)


def test_a_request_id_is_not_used_up_by_a_refusal(alice: Alice) -> None:
    request_id = alice.control.request_id()
    taken = alice.control.registration(alice.key)
    assert refusals(alice.control.ask(taken, request_id)) == [RejectReason.KEY_EXISTS]
    assert refusals(alice.control.ask(alice.control.registration(alice.control.key("bob")), request_id)) == []


def test_an_operation_that_comes_again_under_a_new_sequence_number_is_not_applied_again(alice: Alice) -> None:
    request_id = alice.control.request_id()
    deposit = Deposit(alice.account, QUOTE, 5, AllocationPolicy.NONE)
    first = alice.control.operation(TREASURY, deposit, request_id=request_id)
    again = alice.control.operation(TREASURY, deposit, request_id=request_id)
    other = alice.control.operation(TREASURY, msgspec.structs.replace(deposit, amount_units=6), request_id=request_id)
    alice.control.enter(operations=(first,))
    n = alice.control.engine.position
    assert alice.control.enter(operations=(again, other)) == (
        OperationResult(operation=1, repeat_n=n),
        OperationResult(operation=2, reason=RejectReason.REQUEST_ID_REUSED),
    )
    assert alice.treasury_units == 1_005


def test_a_request_cannot_take_the_id_of_an_operation(control: ControlVenue) -> None:
    request_id = control.request_id()
    control.ask(control.registration(control.key("mallory")), request_id)
    operation = control.operation(MARKET, DefineShard(1), request_id=request_id)
    assert control.enter(operations=(operation,))[1:] == (ShardDefined(1, "s1"),)
    assert control.ask(control.registration(control.key("mallory")), request_id) == (RequestResult(1, repeat_n=1),)
    assert broken_in_control(control.state) == []


# --- operations -------------------------------------------------------------------------------------------------------


def test_the_last_operation_of_a_role_again_changes_nothing(alice: Alice) -> None:
    operation = alice.control.operation(TREASURY, Deposit(alice.account, QUOTE, 5, AllocationPolicy.NONE))
    alice.control.enter(operations=(operation,))
    assert alice.control.enter(operations=(operation,)) == (OperationResult(operation=1, repeated=True),)
    assert alice.treasury_units == 1_005


def test_another_operation_under_a_used_number_and_one_that_leaves_a_gap_are_refused(alice: Alice) -> None:
    for shard in (3, 4):
        alice.control.operate(RECOVERY, DefineShard(shard))
    older, other, gap = (alice.control.operation(RECOVERY, DefineShard(5), sequence=number) for number in (1, 2, 4))
    used = RejectReason.SEQUENCE_USED
    assert refusals(alice.control.enter(operations=(older, other, gap))) == [used, used, RejectReason.SEQUENCE_GAP]


def test_a_request_id_survives_an_operation_that_was_refused_as_a_whole(alice: Alice) -> None:
    request_id = alice.control.request_id()
    alice.control.enter(
        operations=(alice.control.operation(MARKET, DefineShard(3), request_id=request_id, sequence=9),)
    )
    again = alice.control.operation(MARKET, DefineShard(3), request_id=request_id)
    assert alice.control.enter(operations=(again,))[1:] == (ShardDefined(3, "s3"),)


def test_each_action_is_applied_or_refused_on_its_own(alice: Alice) -> None:
    events = alice.control.operate(MARKET, DefineShard(1), DefineShard(3))
    assert refusals(events) == [RejectReason.ALREADY_DEFINED]
    assert [entry.shard for entry in alice.control.state.shards] == [1, 2, 3]


def test_the_key_of_a_role_is_replaced_by_an_operation_that_the_previous_key_signs(alice: Alice) -> None:
    control, new = alice.control, alice.control.key("next market key")
    rotated = control.operate(MARKET, RotateOperatorKey(new.public_key))
    assert rotated[1:] == (OperatorKeyRotated(MARKET, new.public_key),)

    by_the_old_key = control.operation(MARKET, DefineShard(3))
    assert refusals(control.enter(operations=(by_the_old_key,))) == [RejectReason.BAD_SIGNATURE]

    sequence = decode(Operation, by_the_old_key.payload).sequence
    control.operator_seeds[MARKET] = new.seed
    by_the_new_key = control.operation(MARKET, DefineShard(3), sequence=sequence)
    assert control.enter(operations=(by_the_new_key,))[1:] == (ShardDefined(3, "s3"),)


def test_a_rotation_that_comes_again_is_a_repetition_though_its_key_is_gone(alice: Alice) -> None:
    new = alice.control.key("next market key")
    rotation = alice.control.operation(MARKET, RotateOperatorKey(new.public_key))
    alice.control.enter(operations=(rotation,))
    assert alice.control.enter(operations=(rotation,)) == (OperationResult(operation=1, repeated=True),)


def test_a_role_replaces_no_key_but_its_own(alice: Alice) -> None:
    before = {operator.role: operator.public_key for operator in alice.control.state.core.operators}
    new = alice.control.key("next treasury key")
    alice.control.operate(TREASURY, RotateOperatorKey(new.public_key))
    after = {operator.role: operator.public_key for operator in alice.control.state.core.operators}
    assert after == before | {TREASURY: new.public_key}


# --- the log ----------------------------------------------------------------------------------------------------------


def _busy() -> ControlVenue:
    """Return shard 0 with something of everything in its state."""
    alice = Alice()
    alice.gets(11, AllocationPolicy.EVEN)
    alice.commands(RequestWithdrawal(QUOTE, 400, "bank"), OpenAccount(1), AllocateFunds(QUOTE, 10**6, 1))
    alice.control.new_user("bob")
    _link(alice.control, 1, Transfer(alice.account, QUOTE, 5), Transfer(0, QUOTE, 3))
    return alice.control


def test_a_malformed_frame_is_answered_and_changes_nothing(control: ControlVenue) -> None:
    genesis = control.state
    answer = decode(ExecutionFrame, control.engine.apply([RawEntry(1, control.now_us, b"\xff")])[0])
    assert answer.events == (FrameRefused(RejectReason.MALFORMED),)
    assert msgspec.structs.replace(control.state, core=genesis.core) == genesis


def test_a_checkpoint_gives_the_state_back_and_the_log_goes_on_in_equal_bytes() -> None:
    original, restored = _busy(), _busy()
    restored.engine = control_from_checkpoint(original.engine.checkpoint())
    assert restored.state == original.state
    assert restored.engine.state_hash() == original.engine.state_hash()
    for venue in (original, restored):
        venue.now_us += VALIDITY_MS * 1000
        venue.operate(TREASURY, CloseWithdrawal(1), Deposit(2, QUOTE, 5, AllocationPolicy.EVEN))
        venue.new_user("carol")
    assert restored.frames == original.frames
    assert restored.engine.checkpoint() == original.engine.checkpoint()


def test_the_log_replayed_from_genesis_gives_the_same_bytes() -> None:
    control = _busy()
    replayed = control_from_genesis(control.genesis)
    assert replayed.apply(control.entries) == control.frames
    assert replayed.chain_hash == control.engine.chain_hash
    assert replayed.checkpoint() == control.engine.checkpoint()
    assert broken_in_control(replayed.state()) == []


def test_events_of_an_account_are_numbered_densely() -> None:
    control = _busy()
    events = [
        msgspec.structs.asdict(event) for frame in control.frames for event in decode(ExecutionFrame, frame).events
    ]
    numbers = [event["account_seq"] for event in events if "account_seq" in event and event["account"] == 1]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == 7


def test_every_link_that_carries_money_away_can_be_read_from_the_log(alice: Alice) -> None:
    events = alice.gets(11, AllocationPolicy.EVEN)
    n = alice.control.engine.position
    assert carried_by(events, 0, n) == [
        Link(0, 1, 1, n, (Transfer(alice.account, QUOTE, 6),)),
        Link(0, 2, 1, n, (Transfer(alice.account, QUOTE, 5),)),
    ]
