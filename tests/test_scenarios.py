"""What an exchange does, drawn: a line for each step, and after the arrow what must come of it."""

import pytest

from exchange.engine.port import EngineFactory
from exchange.local.player import play_scenario
from exchange.local.reading import scenario_of
from exchange.local.table import play

# --- time in force ----------------------------------------------------------------------------------------------------


def test_gtc_remainder_rests_at_its_own_price(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A sell 4 @ 100      -> accepted
        place B buy  6 @ 101 gtc  -> traded 4 @ 100
        book                      -> bid 2 @ 101
        """,
    )


def test_ioc_remainder_is_cancelled_and_never_rests(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A sell 4 @ 100 gtc  -> accepted
        place B buy  6 @ 101 ioc  -> traded 4 @ 100, cancelled 2 immediate_or_cancel
        book                      -> empty
        """,
    )


def test_ioc_that_meets_nothing_is_accepted_and_cancelled(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A sell 4 @ 100      -> accepted
        place B buy  6 @ 99 ioc   -> accepted, cancelled 6
        book                      -> ask 4 @ 100
        """,
    )


def test_fok_that_cannot_be_filled_is_refused_and_touches_nothing(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A sell 4 @ 100      -> accepted
        place A sell 2 @ 102      -> accepted
        place B buy  6 @ 101 fok  -> rejected FOK_NOT_FILLABLE
        book                      -> ask 4 @ 100, ask 2 @ 102
        place B buy  6 @ 102 fok  -> traded 4 @ 100, traded 2 @ 102
        book                      -> empty
        """,
    )


def test_fok_does_not_count_lots_of_its_own_account(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A sell 4 @ 100
        place B sell 4 @ 100
        place B buy  5 @ 100 fok                   -> rejected FOK_NOT_FILLABLE
        place B buy  4 @ 100 fok                   -> traded 4 @ 100 with a1
        place B buy  4 @ 100 fok stp cancel_maker  -> rejected FOK_NOT_FILLABLE
        place A sell 4 @ 100 as a2
        place B buy  4 @ 100 fok stp cancel_maker  -> cancelled 4 of b1 self_trade, traded 4 @ 100 with a2
        """,
    )


def test_market_order_takes_up_to_the_edge_of_the_band_and_never_rests(engine: EngineFactory) -> None:
    play(
        engine,
        """
        market band_low_ticks=90 band_high_ticks=110
        place A sell 2 @ 100
        place A sell 2 @ 110
        place B buy 5 market       -> accepted protected @ 110, traded 2 @ 100, traded 2 @ 110, cancelled 1
        book                       -> empty
        """,
    )


def test_market_order_stops_at_its_protection_price(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A sell 2 @ 100
        place A sell 2 @ 110
        place B buy 4 market @ 105  -> traded 2 @ 100, cancelled 2
        place B buy 4 market        -> rejected NO_PROTECTION_PRICE
        place B buy 4 market @ 110 fok  -> rejected FOK_NOT_FILLABLE
        place B buy 4 market @ 110 gtc  -> rejected INVALID_TIME_IN_FORCE
        book                        -> ask 2 @ 110
        """,
    )


def test_post_only_is_refused_rather_than_take(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A sell 4 @ 100
        place B buy  4 @ 100 post_only      -> rejected POST_ONLY_WOULD_TRADE
        place B buy  4 @ 99 post_only       -> accepted
        place B buy  4 @ 99 ioc post_only   -> rejected INVALID_POST_ONLY
        book                                -> bid 4 @ 99, ask 4 @ 100
        """,
    )


def test_post_only_stays_post_only_when_it_is_replaced(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A sell 4 @ 100
        place B buy  4 @ 99 post_only
        replace b1 @ 100              -> rejected POST_ONLY_WOULD_TRADE
        book                          -> bid 4 @ 99 = b1 4, ask 4 @ 100
        """,
    )


# --- priority ---------------------------------------------------------------------------------------------------------


def test_better_price_trades_first_then_the_older_order_at_the_makers_price(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A sell 1 @ 102
        place B sell 2 @ 101
        place C sell 3 @ 101
        place D buy  5 @ 102  -> traded 2 @ 101 with b1, traded 3 @ 101 with c1
        place D buy  1 @ 105  -> traded 1 @ 102 with a1
        book                  -> empty
        """,
    )


def test_partly_filled_order_keeps_its_place(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A buy 5 @ 100
        place B buy 5 @ 100
        place C sell 2 @ 100  -> traded 2 @ 100 with a1
        book                  -> bid 8 @ 100 = a1 3 + b1 5
        place C sell 4 @ 100  -> traded 3 @ 100 with a1, traded 1 @ 100 with b1
        """,
    )


# --- cancel, reduce, replace ------------------------------------------------------------------------------------------


def test_cancel_by_order_id_and_by_client_order_id(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A buy 5 @ 100 client 77
        place A buy 5 @ 99
        cancel client 77 of A  -> cancelled 5 of a1 requested
        cancel client 77 of A  -> rejected UNKNOWN_ORDER
        cancel a2              -> cancelled 5 of a2 requested
        cancel a2              -> rejected UNKNOWN_ORDER
        book                   -> empty
        """,
    )


def test_client_order_id_is_unique_among_open_orders_and_free_again_after(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A buy 5 @ 100 client 77
        place A buy 5 @ 99 client 77   -> rejected DUPLICATE_CLIENT_ORDER_ID
        place B buy 5 @ 99 client 77   -> accepted
        cancel a1                      -> cancelled 5
        place A buy 5 @ 98 client 77   -> accepted
        """,
    )


def test_orders_of_others_do_not_exist_for_an_account(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A buy 5 @ 100
        cancel a1 of B         -> rejected UNKNOWN_ORDER
        reduce a1 of B by 1    -> rejected UNKNOWN_ORDER
        replace a1 of B 9      -> rejected UNKNOWN_ORDER
        book                   -> bid 5 @ 100
        """,
    )


def test_reduce_keeps_the_place_and_taking_all_ends_the_order(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A buy 5 @ 100
        place B buy 5 @ 100
        reduce a1 by 2           -> reduced 2 of a1 to 3 requested
        book                     -> bid 8 @ 100 = a1 3 + b1 5
        reduce a1 by 0           -> rejected INVALID_QUANTITY
        reduce a1 by 9           -> cancelled 3 of a1 requested
        book                     -> bid 5 @ 100 = b1 5
        """,
    )


def test_replace_keeps_the_place_only_at_the_same_price_and_without_growing(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A buy 5 @ 100
        place B buy 5 @ 100
        replace a1 4           -> replaced to 4 @ 100 priority kept
        book                   -> bid 9 @ 100 = a1 4 + b1 5
        replace a1 6           -> replaced to 6 @ 100 priority lost
        book                   -> bid 11 @ 100 = b1 5 + a1 6
        replace b1 @ 99        -> replaced to 5 @ 99 priority lost
        replace b1 @ 100       -> replaced to 5 @ 100 priority lost
        book                   -> bid 11 @ 100 = a1 6 + b1 5
        """,
    )


def test_replace_by_client_order_id_trades_at_once_when_its_price_crosses(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A sell 3 @ 101
        place B buy  5 @ 100 client 9
        replace client 9 of B @ 101   -> replaced to 5 @ 101, traded 3 @ 101 with a1
        orders B                      -> b1 buy 2 @ 101 filled 3
        """,
    )


def test_replaced_quantity_is_the_total_with_what_was_filled(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A buy  5 @ 100
        place B sell 3 @ 100
        replace a1 3           -> rejected QUANTITY_NOT_ABOVE_FILLED
        replace a1 4           -> replaced to 1 @ 100 priority kept
        orders A               -> a1 buy 1 @ 100 filled 3
        """,
    )


def test_an_order_is_named_by_exactly_one_of_its_names(engine: EngineFactory) -> None:
    both = {"op": "cancel", "account": "A", "order_id": 1, "client_order_id": 1}
    scenario = scenario_of(
        {
            "markets": [{"symbol": "BTC-USD", "base": "BTC", "quote": "USD"}],
            "accounts": [{"name": "A", "funds": {}}],
            "commands": [
                {**both, "expect": "rejected INVALID_ORDER_REFERENCE"},
                {**both, "order_id": 0, "client_order_id": 0, "expect": {"rejected": "INVALID_ORDER_REFERENCE"}},
            ],
        }
    )
    assert play_scenario(scenario, engine).failures == []


# --- self-trade prevention --------------------------------------------------------------------------------------------

SELF_TRADES = {
    "cancel_taker": (
        "traded 2 @ 100 with b1, cancelled 6 of taker self_trade",
        "ask 4 @ 101 = a1 4, ask 9 @ 102",
    ),
    "cancel_maker": (
        "traded 2 @ 100 with b1, cancelled 4 of a1 self_trade, traded 6 @ 102 with b2",
        "ask 3 @ 102",
    ),
    "cancel_both": (
        "traded 2 @ 100 with b1, cancelled 4 of a1 self_trade, cancelled 6 of taker self_trade",
        "ask 9 @ 102",
    ),
    "decrement": (
        "traded 2 @ 100 with b1, cancelled 4 of a1 self_trade, reduced 4 of taker to 2, traded 2 @ 102 with b2",
        "ask 7 @ 102",
    ),
    "none": (
        "traded 2 @ 100 with b1, traded 4 @ 101 with a1, traded 2 @ 102 with b2",
        "ask 7 @ 102",
    ),
}


@pytest.mark.parametrize("mode", SELF_TRADES)
def test_takers_mode_decides_what_a_self_trade_becomes(engine: EngineFactory, mode: str) -> None:
    outcome, book = SELF_TRADES[mode]
    play(
        engine,
        f"""
        place B sell 2 @ 100
        place A sell 4 @ 101 stp none
        place B sell 9 @ 102
        place A buy  8 @ 102 stp {mode} as taker  -> {outcome}
        book                                      -> {book}
        orders A                                  -> {"a1 sell 4 @ 101" if mode == "cancel_taker" else "empty"}
        """,
    )


def test_decrement_leaves_the_rest_of_a_larger_maker_in_its_place(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A sell 9 @ 100
        place B sell 1 @ 100
        place A buy  4 @ 100 stp decrement  -> reduced 4 of a1 to 5 self_trade, cancelled 4 of a2 self_trade
        book                                -> ask 6 @ 100 = a1 5 + b1 1
        """,
    )


# --- what a market allows ---------------------------------------------------------------------------------------------


def test_static_band_refuses_prices_outside_it(engine: EngineFactory) -> None:
    play(
        engine,
        """
        market band_low_ticks=90 band_high_ticks=110
        place A buy  1 @ 89   -> rejected PRICE_OUTSIDE_BAND
        place A buy  1 @ 90   -> accepted
        place A sell 1 @ 110  -> accepted
        place A sell 1 @ 111  -> rejected PRICE_OUTSIDE_BAND
        replace a2 @ 111      -> rejected PRICE_OUTSIDE_BAND
        """,
    )


def test_dynamic_band_follows_the_last_trade(engine: EngineFactory) -> None:
    play(
        engine,
        """
        market band_ppm=50000
        place A sell 1 @ 1000        -> accepted
        place A buy  1 @ 10          -> accepted
        place B buy  1 @ 1000        -> traded 1 @ 1000
        place B buy  1 @ 949         -> rejected PRICE_OUTSIDE_BAND
        place B buy  1 @ 950         -> accepted
        place B sell 1 @ 1050        -> accepted
        place B sell 1 @ 1051        -> rejected PRICE_OUTSIDE_BAND
        place A buy  1 @ 1050        -> traded 1 @ 1050
        place A sell 1 @ 1102        -> accepted
        place A sell 1 @ 1103        -> rejected PRICE_OUTSIDE_BAND
        """,
    )


def test_narrower_of_both_bands_counts_and_open_orders_outside_it_stay(engine: EngineFactory) -> None:
    play(
        engine,
        """
        market band_low_ticks=900 band_high_ticks=1020 band_ppm=50000
        place A sell 1 @ 1000
        place A buy  1 @ 900
        place B buy  1 @ 1000  -> traded 1 @ 1000
        place B sell 1 @ 1021  -> rejected PRICE_OUTSIDE_BAND
        place B buy  1 @ 949   -> rejected PRICE_OUTSIDE_BAND
        replace a2 2           -> replaced to 2 @ 900 priority lost
        book                   -> bid 2 @ 900
        """,
    )


def test_tick_table_rows_hold_from_their_price_on(engine: EngineFactory) -> None:
    play(
        engine,
        """
        market tick_table=1:1/100:5/1000:25
        place A buy 1 @ 99        -> accepted
        place A buy 1 @ 101       -> rejected PRICE_OFF_TICK
        place A buy 1 @ 105       -> accepted
        place A buy 1 @ 1010      -> rejected PRICE_OFF_TICK
        place A buy 1 @ 1025      -> accepted
        replace a3 @ 106          -> rejected PRICE_OFF_TICK
        """,
    )


def test_lot_table_rows_hold_from_the_orders_price_on(engine: EngineFactory) -> None:
    play(
        engine,
        """
        market lot_table=1:10/100:3
        place A buy 15 @ 99       -> rejected QUANTITY_OFF_LOT
        place A buy 20 @ 99       -> accepted
        place A buy 20 @ 100      -> rejected QUANTITY_OFF_LOT
        place A buy 21 @ 100      -> accepted
        reduce a2 by 5            -> rejected QUANTITY_OFF_LOT
        reduce a2 by 10           -> reduced 10
        """,
    )


def test_changed_tables_leave_open_orders_alone(engine: EngineFactory) -> None:
    play(
        engine,
        """
        place A buy 7 @ 101
        define_market BTC-USD tick_table=1:5  -> defined
        place B sell 7 @ 101                  -> rejected PRICE_OFF_TICK
        place B sell 7 @ 100                  -> traded 7 @ 101
        define_market BTC-USD base_units_per_lot=2  -> rejected MARKET_FIELD_FIXED
        """,
    )


@pytest.mark.parametrize(
    ("state", "place", "post_only", "cancel", "cancel_all"),
    [
        ("open", "accepted", "accepted", "cancelled 1", "done 2"),
        ("post_only", "rejected MARKET_POST_ONLY", "accepted", "cancelled 1", "done 1"),
        ("cancel_only", "rejected MARKET_CANCEL_ONLY", "rejected MARKET_CANCEL_ONLY", "cancelled 1", "done 0"),
        ("halted", *["rejected MARKET_HALTED"] * 4),
    ],
)
def test_state_of_a_market_decides_what_is_executed(
    engine: EngineFactory, state: str, place: str, post_only: str, cancel: str, cancel_all: str
) -> None:
    done = f"{'cancelled 2, ' * int(cancel_all[-1])}{cancel_all}" if cancel_all.startswith("done") else cancel_all
    play(
        engine,
        f"""
        place A buy 3 @ 100
        set_state {state}           -> state {state}
        place B buy 2 @ 99          -> {place}
        place B buy 2 @ 98 post_only  -> {post_only}
        replace a1 @ 99             -> {place.replace("accepted", "replaced")}
        reduce a1 by 2              -> {cancel.replace("cancelled 1", "reduced 2 of a1 to 1")}
        cancel a1                   -> {cancel}
        cancel_all B in BTC-USD     -> {done}
        """,
    )


def test_scheduled_state_takes_effect_at_its_time_and_before_the_entrys_commands(engine: EngineFactory) -> None:
    play(
        engine,
        """
        halt from 500 ms                       -> scheduled halted
        open from 900 ms                       -> scheduled open
        place A buy 1 @ 100 at 499 ms          -> accepted
        place A buy 1 @ 100 at 500 ms          -> state halted, rejected MARKET_HALTED
        advance 399 ms                         -> nothing
        cancel a1                              -> rejected MARKET_HALTED
        advance 1 ms                           -> state open
        cancel a1                              -> cancelled 1
        """,
    )


# --- funds and fees ---------------------------------------------------------------------------------------------------


def test_hold_covers_the_notional_and_the_fee_and_is_released_at_the_cancel(engine: EngineFactory) -> None:
    play(
        engine,
        """
        market maker_fee_ppm=1000 taker_fee_ppm=2000
        funds A 1002 USD
        place A buy 10 @ 101     -> rejected INSUFFICIENT_FUNDS needs 1012 has 1002 USD
        place A buy 10 @ 100     -> accepted
        balances A               -> USD 1 free 1001 locked
        cancel a2                -> cancelled 10
        balances A               -> USD 1002 free
        """,
    )


def test_price_improvement_is_released_at_the_fill(engine: EngineFactory) -> None:
    play(
        engine,
        """
        funds A 10 BTC
        funds B 1100 USD
        place A sell 4 @ 90
        place B buy 10 @ 110    -> traded 4 @ 90
        balances B              -> BTC 4 free, USD 80 free 660 locked
        balances A              -> BTC 6 free, USD 360 free
        """,
    )


def test_fees_of_an_order_add_up_to_the_ceiling_of_their_sum(engine: EngineFactory) -> None:
    play(
        engine,
        """
        market maker_fee_ppm=1000 taker_fee_ppm=0
        funds A 4 BTC
        place A sell 4 @ 333
        place B buy 1 @ 333     -> traded 1 @ 333 with a1 fees 1 + 0
        place B buy 1 @ 333     -> traded 1 @ 333 with a1
        place B buy 1 @ 333     -> traded 1 @ 333 with a1
        place B buy 1 @ 333     -> traded 1 @ 333 with a1 fees 1 + 0
        balances A              -> USD 1330 free
        """,
    )


def test_taker_pays_the_ceiling_once_over_several_makers(engine: EngineFactory) -> None:
    played = play(
        engine,
        """
        market maker_fee_ppm=0 taker_fee_ppm=1500
        funds B 1002 USD
        place A sell 1 @ 333
        place A sell 1 @ 333
        place A sell 1 @ 333
        place B buy 3 @ 333     -> traded 1 @ 333 fees 0 + 1, traded 1 @ 333, traded 1 @ 333 fees 0 + 1
        balances B              -> BTC 3 free, USD 1 free
        """,
    )
    assert played.fees == {"USD": 2}


def test_an_order_keeps_the_fees_that_it_was_accepted_with(engine: EngineFactory) -> None:
    play(
        engine,
        """
        market maker_fee_ppm=10000
        place A sell 2 @ 100
        define_market BTC-USD maker_fee_ppm=0
        place A sell 2 @ 100
        place B buy 4 @ 100     -> traded 2 @ 100 with a1 fees 2 + 0, traded 2 @ 100 with a2
        """,
    )


def test_fully_held_maker_can_be_filled(engine: EngineFactory) -> None:
    play(
        engine,
        """
        market maker_fee_ppm=777 taker_fee_ppm=777
        funds A 1001 USD
        place A buy 10 @ 100
        balances A               -> USD 0 free 1001 locked
        place B sell 10 @ 100    -> traded 10 @ 100 fees 1 + 1
        balances A               -> BTC 10 free
        """,
    )


def test_sell_holds_base_in_units_of_the_lot(engine: EngineFactory) -> None:
    play(
        engine,
        """
        market ETH-XBT base_units_per_lot=100000 quote_units_per_tick_lot=10
        funds A 699999 ETH
        funds B 2100000 XBT
        place A sell 7 @ 30000   -> rejected INSUFFICIENT_FUNDS needs 700000 has 699999 ETH
        deposit A 1 ETH          -> credited 1 ETH
        place A sell 7 @ 30000   -> accepted
        place B buy  7 @ 30000   -> traded 7 @ 30000
        balances A               -> XBT 2100000 free
        balances B               -> ETH 700000 free
        """,
    )


def test_released_funds_leave_the_shard(engine: EngineFactory) -> None:
    play(
        engine,
        """
        funds A 100 USD
        place A buy 4 @ 10       -> accepted
        release A 61 USD         -> rejected INSUFFICIENT_FUNDS needs 61 has 60 USD
        release A 60 USD         -> sent 60 USD
        release A 0 USD          -> rejected INVALID_AMOUNT
        balances A               -> USD 0 free 40 locked
        """,
    )


def test_swept_fees_are_gone_from_the_shard(engine: EngineFactory) -> None:
    played = play(
        engine,
        """
        market taker_fee_ppm=10000
        place A sell 1 @ 100
        place B buy 1 @ 100      -> traded 1 @ 100 fees 0 + 1
        sweep_fees USD           -> sent 1 USD
        sweep_fees USD           -> rejected INVALID_AMOUNT
        """,
    )
    assert played.fees == {}


# --- replay protection ------------------------------------------------------------------------------------------------


def test_the_same_batch_again_is_a_repeat_and_executes_nothing(engine: EngineFactory) -> None:
    play(
        engine,
        """
        batch A nonce 7 as once : place A buy 1 @ 100 ; place A buy 2 @ 99  -> accepted, accepted
        resend once at 29999 ms                                             -> repeat
        book                                                                -> bid 1 @ 100, bid 2 @ 99
        resend once at 30000 ms                                             -> refused BATCH_EXPIRED
        """,
    )


def test_a_nonce_is_used_for_one_body_only_until_the_batch_has_expired(engine: EngineFactory) -> None:
    play(
        engine,
        """
        batch A nonce 7 valid 1000 : place A buy 1 @ 100   -> accepted
        batch A nonce 7 valid 1000 : place A buy 2 @ 100   -> refused NONCE_REUSED
        batch B nonce 7 valid 1000 : place B buy 2 @ 100   -> accepted
        advance 1000 ms
        batch A nonce 7 valid 1000 : place A buy 2 @ 100   -> accepted
        """,
    )


def test_a_batch_has_expired_at_its_last_moment_and_may_not_live_too_long(engine: EngineFactory) -> None:
    play(
        engine,
        """
        batch A valid 0 : place A buy 1 @ 100      -> refused BATCH_EXPIRED
        batch A valid 1 : place A buy 1 @ 100      -> accepted
        batch A valid 60001 : place A buy 1 @ 100  -> refused VALIDITY_TOO_LONG
        batch A valid 60000 : place A buy 1 @ 100  -> accepted
        settings max_validity_ms=100000            -> changed
        batch A valid 60001 : place A buy 1 @ 100  -> accepted
        """,
    )


def test_a_batch_refused_for_living_too_long_may_be_sent_again_later(engine: EngineFactory) -> None:
    play(
        engine,
        """
        batch A nonce 1 valid 60500 as early : place A buy 1 @ 100 as late  -> refused VALIDITY_TOO_LONG
        resend early at 500 ms                                              -> accepted
        cancel late                                                         -> cancelled 1 of late
        """,
    )


def test_a_key_with_too_many_live_nonces_is_refused_until_one_expires(engine: EngineFactory) -> None:
    play(
        engine,
        """
        settings live_nonces_per_key_max=2           -> changed
        batch A valid 1000 : place A buy 1 @ 100     -> accepted
        batch A valid 2000 : place A buy 1 @ 100     -> accepted
        batch A valid 2000 : place A buy 1 @ 100     -> refused TOO_MANY_NONCES
        batch B valid 2000 : place B buy 1 @ 100     -> accepted
        advance 1000 ms
        batch A valid 2000 : place A buy 1 @ 100     -> accepted
        """,
    )


def test_commands_of_a_batch_have_outcomes_of_their_own(engine: EngineFactory) -> None:
    play(
        engine,
        """
        funds A 10 USD
        batch A : place A buy 9 @ 1 client 5 as x ; place A buy 2 @ 1 ; reduce x by 8
                  -> accepted, rejected INSUFFICIENT_FUNDS, reduced 8 of x to 1
        orders A  -> x buy 1 @ 1
        """,
    )


def test_an_account_has_only_so_many_open_orders(engine: EngineFactory) -> None:
    play(
        engine,
        """
        settings open_orders_per_account_max=1   -> changed
        place A buy 1 @ 100                      -> accepted
        place A buy 1 @ 100                      -> rejected TOO_MANY_OPEN_ORDERS
        place A buy 1 @ 100 ioc                  -> accepted, cancelled 1
        place B buy 1 @ 100                      -> accepted
        settings max_validity_ms=0               -> rejected INVALID_SETTINGS
        """,
    )


# --- links ------------------------------------------------------------------------------------------------------------


def test_a_link_is_applied_once_and_in_its_order(engine: EngineFactory) -> None:
    play(
        engine,
        """
        funds A
        deposit A 100 USD           -> credited 100 USD to A
        deposit A 100 USD link 1    -> repeat
        deposit A 5 USD link 3      -> refused LINK_GAP
        balances A                  -> USD 100 free
        deposit A 7 USD             -> credited 7 USD
        deposit A 5 USD link 3      -> credited 5 USD
        balances A                  -> USD 112 free
        """,
    )


def test_two_bodies_of_one_link_stop_the_engine(engine: EngineFactory) -> None:
    played = play(
        engine,
        """
        funds A
        deposit A 100 USD           -> credited 100 USD
        deposit A 101 USD link 1    -> stopped LINK_CONFLICT
        """,
    )
    assert played.stopped is not None
    assert played.stopped.startswith("LINK_CONFLICT")


def test_a_link_is_refused_for_no_state_of_a_market(engine: EngineFactory) -> None:
    play(
        engine,
        """
        funds A
        halt              -> state halted
        deposit A 1 USD   -> credited 1 USD
        """,
    )


# --- mass cancel ------------------------------------------------------------------------------------------------------


def test_mass_cancel_ends_the_accounts_orders_of_its_scope_oldest_first(engine: EngineFactory) -> None:
    play(
        engine,
        """
        market BTC-USD
        market ETH-USD
        place A buy  1 @ 100 in BTC-USD
        place A sell 2 @ 200 in BTC-USD
        place A buy  3 @ 100 in ETH-USD
        place B buy  4 @ 100 in BTC-USD
        cancel_all A sell               -> accepted, cancelled 2 of a2 cancel_all, done 1
        cancel_all A in ETH-USD         -> cancelled 3 of a3, done 1
        cancel_all A buy in ETH-USD     -> done 0
        cancel_all A                    -> cancelled 1 of a1, done 1
        book BTC-USD                    -> bid 4 @ 100 = b1 4
        """,
    )


def test_a_traders_mass_cancel_leaves_halted_markets_alone_and_the_operators_does_not(engine: EngineFactory) -> None:
    play(
        engine,
        """
        market BTC-USD
        market ETH-USD
        place A buy 1 @ 100 in BTC-USD
        place A buy 2 @ 100 in ETH-USD
        halt in BTC-USD                 -> state halted
        cancel_all A in BTC-USD         -> rejected MARKET_HALTED
        cancel_all A                    -> cancelled 2, done 1
        cancel_orders                   -> rejected INVALID_SCOPE
        cancel_orders of A in BTC-USD   -> accepted, cancelled 1 of a1 operator, done 1
        orders A                        -> empty
        """,
    )


def test_a_mass_cancel_too_large_for_one_command_goes_on_when_time_passes(engine: EngineFactory) -> None:
    orders = " ; ".join(f"place A buy 1 @ {price}" for price in range(1, 601))
    played = play(
        engine,
        f"""
        batch A : {orders}
        batch A : {orders}
        place B buy 1 @ 1
        cancel_all A
        advance 10 ms
        orders A       -> empty
        book           -> bid 1 @ 1 = b1 1
        """,
    )
    started, went_on = played.steps[3].outcome, played.steps[4].outcome
    assert "done" not in started
    assert started.count("cancelled 1 ") + went_on.count("cancelled 1 ") == 1200
    assert went_on.endswith("done 1200")
