//! The rules of traders' commands, and the order in which they are checked (`exchange.reference.orders`).
//!
//! Each handler checks all of its rules before it changes anything; the first rule that is broken is the reason.

use crate::kinds::{
    CancelReason, FOK, GTC, IOC, LIMIT, MARKET, ReduceReason, RejectReason, STATE_CANCEL_ONLY, STATE_HALTED,
    STATE_POST_ONLY, STP_CANCEL_TAKER, STP_NONE, Side, number_of, side_of,
};
use crate::shard::floor::{Floor, Taker, entry_hold};
use crate::units::{PRICE_TICKS_MAX, QUANTITY_LOTS_MAX};
use crate::wire::Command;
use crate::wire::messages::{CancelOrder, OrderAccepted, OrderReplaced, PlaceOrder, ReduceOrder, ReplaceOrder};

/// A rule is broken; nothing was changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    pub reason: RejectReason,
    pub required_units: u64,
    pub available_units: u64,
    pub asset: u32,
}

impl From<RejectReason> for Refused {
    fn from(reason: RejectReason) -> Self {
        Self { reason, required_units: 0, available_units: 0, asset: 0 }
    }
}

/// Refuse unless the rule holds.
#[inline]
pub(crate) fn require(rule: bool, reason: RejectReason) -> Result<(), Refused> {
    if rule { Ok(()) } else { Err(reason.into()) }
}

/// Who sent a command and where it stands: place of the account, 1-based place in the batch, most open orders allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub owner: u32,
    pub command: u32,
    pub open_orders_max: u32,
}

// --- placing --------------------------------------------------------------------------------------------------------

/// Accept an order, trade it, and let the rest of it rest if its time in force says so.
#[inline]
pub(crate) fn place(floor: &mut Floor, sender: Sender, command: &PlaceOrder) -> Result<(), Refused> {
    let place = floor.book_of(command.market).ok_or(RejectReason::UnknownMarket)?;
    check_state(floor, place, command.post_only)?;
    let (side, time_in_force, self_trade_prevention) = instructions(command)?;
    let may_rest = time_in_force == GTC;
    check_quantity(command.quantity_lots)?;
    let price_ticks = price(floor, place, side, command.order_type, command.price_ticks)?;
    if command.price_ticks > 0 {
        check_price(floor, place, price_ticks)?;
    }
    check_lots(floor, place, price_ticks, command.quantity_lots)?;
    if command.client_order_id != 0 {
        let taken = floor.slot_of_client(sender.owner, command.client_order_id).is_some();
        require(!taken, RejectReason::DuplicateClientOrderId)?;
    }
    if may_rest {
        let open_orders = floor.accounts.row(sender.owner).open_orders;
        require(open_orders < sender.open_orders_max, RejectReason::TooManyOpenOrders)?;
    }
    let market = &floor.books[place as usize].market;
    let mut order = Taker {
        order_id: 0,
        client_order_id: command.client_order_id,
        owner: sender.owner,
        book: place,
        side,
        price_ticks,
        open_lots: command.quantity_lots,
        filled_lots: 0,
        post_only: command.post_only,
        self_trade_prevention,
        maker_fee_ppm: market.maker_fee_ppm,
        taker_fee_ppm: market.taker_fee_ppm,
        maker_prepaid_ppm: 0,
        taker_prepaid_ppm: 0,
        held_units: 0,
    };
    let crosses = floor.crosses(place, side, price_ticks);
    let needed = check_funds(floor, &order, crosses, may_rest)?;
    require(!(command.post_only && crosses), RejectReason::PostOnlyWouldTrade)?;
    if time_in_force == FOK {
        require(floor.fillable(&order), RejectReason::FokNotFillable)?;
    }

    order.order_id = floor.next_order_id();
    let book = &mut floor.books[place as usize];
    floor.accounts.hold(order.owner, book.asset_given(side), 0, needed);
    order.held_units = needed;
    floor.writer.write(&OrderAccepted {
        command: sender.command,
        account: floor.accounts.row(order.owner).number,
        account_seq: floor.accounts.next_seq(order.owner),
        market: command.market,
        market_seq: book.next_seq(),
        order_id: order.order_id,
        client_order_id: order.client_order_id,
        side: number_of(side),
        order_type: command.order_type,
        time_in_force,
        post_only: order.post_only,
        price_ticks,
        quantity_lots: order.open_lots,
    });
    floor.execute(order, may_rest);
    Ok(())
}

// --- changing -------------------------------------------------------------------------------------------------------

/// End an order.
#[inline]
pub(crate) fn cancel(floor: &mut Floor, sender: Sender, command: &CancelOrder) -> Result<(), Refused> {
    let slot = order(floor, sender.owner, command.order_id, command.client_order_id)?;
    let (book, _, _) = floor.where_is(slot);
    check_not_halted(floor, book)?;
    floor.cancel(slot, CancelReason::Requested, sender.command);
    Ok(())
}

/// Take lots off an order, which keeps its place; taking all that is open, or more, ends it.
pub(crate) fn reduce(floor: &mut Floor, sender: Sender, command: &ReduceOrder) -> Result<(), Refused> {
    let slot = order(floor, sender.owner, command.order_id, command.client_order_id)?;
    let (book, _, price_ticks) = floor.where_is(slot);
    check_not_halted(floor, book)?;
    check_quantity(command.quantity_lots)?;
    if command.quantity_lots >= floor.pool.node(slot).open() {
        floor.cancel(slot, CancelReason::Requested, sender.command);
        return Ok(());
    }
    check_lots(floor, book, price_ticks, command.quantity_lots)?;
    floor.reduce(slot, command.quantity_lots, ReduceReason::Requested, sender.command);
    Ok(())
}

/// Change an order's price and total quantity. It keeps its place only at the same price and if it does not grow.
///
/// Else it comes to the book like a new order of the same name, at the fee rates of the day, with the post-only mark
/// and the self-trade prevention that it has.
pub(crate) fn replace(floor: &mut Floor, sender: Sender, command: &ReplaceOrder) -> Result<(), Refused> {
    let slot = order(floor, sender.owner, command.order_id, command.client_order_id)?;
    let (place, side, old_price_ticks) = floor.where_is(slot);
    let node = *floor.pool.node(slot);
    let (old, old_open_lots) = (node.value, node.open());
    check_state(floor, place, old.terms.post_only())?;
    let price_ticks = if command.price_ticks == 0 { old_price_ticks } else { command.price_ticks };
    let old_quantity_lots = old_open_lots + old.filled_lots;
    let quantity_lots = if command.quantity_lots == 0 { old_quantity_lots } else { command.quantity_lots };
    check_quantity(quantity_lots)?;
    require(price_ticks <= PRICE_TICKS_MAX, RejectReason::InvalidPrice)?;
    require(quantity_lots > old.filled_lots, RejectReason::QuantityNotAboveFilled)?;
    if price_ticks != old_price_ticks {
        check_price(floor, place, price_ticks)?;
    }
    if (price_ticks, quantity_lots) != (old_price_ticks, old_quantity_lots) {
        check_lots(floor, place, price_ticks, quantity_lots)?;
    }
    let open_lots = quantity_lots - old.filled_lots;
    if price_ticks == old_price_ticks && open_lots <= old_open_lots {
        if open_lots < old_open_lots {
            floor.shrink(slot, old_open_lots - open_lots);
        }
        write_replaced(floor, sender, place, old.order_id, price_ticks, open_lots, true);
        return Ok(());
    }
    let crosses = floor.crosses(place, side, price_ticks);
    let market = &floor.books[place as usize].market;
    let mut changed = Taker {
        order_id: old.order_id,
        client_order_id: old.client_order_id,
        owner: sender.owner,
        book: place,
        side,
        price_ticks,
        open_lots,
        filled_lots: old.filled_lots,
        post_only: old.terms.post_only(),
        self_trade_prevention: old.terms.self_trade_prevention(),
        maker_fee_ppm: market.maker_fee_ppm,
        taker_fee_ppm: market.taker_fee_ppm,
        maker_prepaid_ppm: old.terms.maker_prepaid_ppm(),
        taker_prepaid_ppm: old.taker_prepaid_ppm,
        held_units: floor.held_units(slot),
    };
    let needed = check_funds(floor, &changed, crosses, true)?;
    require(!(changed.post_only && crosses), RejectReason::PostOnlyWouldTrade)?;

    floor.leave(slot);
    let asset = floor.books[place as usize].asset_given(side);
    floor.accounts.hold(changed.owner, asset, changed.held_units, needed);
    changed.held_units = needed;
    write_replaced(floor, sender, place, changed.order_id, price_ticks, open_lots, false);
    floor.execute(changed, true);
    Ok(())
}

fn write_replaced(
    floor: &mut Floor,
    sender: Sender,
    place: u32,
    order_id: u64,
    price_ticks: u64,
    open_lots: u64,
    priority_kept: bool,
) {
    let book = &mut floor.books[place as usize];
    floor.writer.write(&OrderReplaced {
        command: sender.command,
        account: floor.accounts.row(sender.owner).number,
        account_seq: floor.accounts.next_seq(sender.owner),
        market: book.market.market,
        market_seq: book.next_seq(),
        order_id,
        price_ticks,
        open_lots,
        priority_kept,
    });
}

// --- rules ----------------------------------------------------------------------------------------------------------

/// Return the account's open order of that name. Another account's order does not exist for it.
#[inline]
fn order(floor: &Floor, owner: u32, order_id: u64, client_order_id: u64) -> Result<u32, Refused> {
    require((order_id != 0) != (client_order_id != 0), RejectReason::InvalidOrderReference)?;
    let slot = if order_id != 0 { floor.slot_of(order_id) } else { floor.slot_of_client(owner, client_order_id) };
    match slot {
        Some(slot) if floor.pool.node(slot).owner == owner => Ok(slot),
        _ => Err(RejectReason::UnknownOrder.into()),
    }
}

#[inline]
fn check_not_halted(floor: &Floor, book: u32) -> Result<(), Refused> {
    require(floor.books[book as usize].market.state != STATE_HALTED, RejectReason::MarketHalted)
}

/// Check that the market takes new orders and replacements.
#[inline]
fn check_state(floor: &Floor, book: u32, post_only: bool) -> Result<(), Refused> {
    match floor.books[book as usize].market.state {
        STATE_HALTED => Err(RejectReason::MarketHalted.into()),
        STATE_CANCEL_ONLY => Err(RejectReason::MarketCancelOnly.into()),
        STATE_POST_ONLY if !post_only => Err(RejectReason::MarketPostOnly.into()),
        _ => Ok(()),
    }
}

/// Return side, time in force and self-trade prevention with defaults filled in, once they are known to make sense.
#[inline]
fn instructions(command: &PlaceOrder) -> Result<(Side, u32, u32), Refused> {
    let side = side_of(command.side).ok_or(RejectReason::InvalidSide)?;
    require((LIMIT..=MARKET).contains(&command.order_type), RejectReason::InvalidOrderType)?;
    let default = if command.order_type == LIMIT { GTC } else { IOC };
    let time_in_force = if command.time_in_force == 0 { default } else { command.time_in_force };
    require((GTC..=FOK).contains(&time_in_force), RejectReason::InvalidTimeInForce)?;
    let market_rests = command.order_type == MARKET && time_in_force == GTC;
    require(!market_rests, RejectReason::InvalidTimeInForce)?;
    require(!command.post_only || time_in_force == GTC, RejectReason::InvalidPostOnly)?;
    let mode = if command.self_trade_prevention == 0 { STP_CANCEL_TAKER } else { command.self_trade_prevention };
    require((STP_CANCEL_TAKER..=STP_NONE).contains(&mode), RejectReason::InvalidSelfTradePrevention)?;
    Ok((side, time_in_force, mode))
}

#[inline]
fn check_quantity(quantity_lots: u64) -> Result<(), Refused> {
    require((1..=QUANTITY_LOTS_MAX).contains(&quantity_lots), RejectReason::InvalidQuantity)
}

/// Return the worst price at which the order may trade.
#[inline]
fn price(floor: &Floor, place: u32, side: Side, order_type: u32, price_ticks: u64) -> Result<u64, Refused> {
    require(price_ticks <= PRICE_TICKS_MAX, RejectReason::InvalidPrice)?;
    if price_ticks > 0 {
        return Ok(price_ticks);
    }
    require(order_type == MARKET, RejectReason::InvalidPrice)?;
    let book = &floor.books[place as usize];
    let (low, high) = book.market.band(book.last_price_ticks);
    let edge = if side == Side::Buy { high } else { low };
    require(edge > 0, RejectReason::NoProtectionPrice)?;
    Ok(edge)
}

#[inline]
fn check_price(floor: &Floor, place: u32, price_ticks: u64) -> Result<(), Refused> {
    let book = &floor.books[place as usize];
    let (low, high) = book.market.band(book.last_price_ticks);
    let inside = low <= price_ticks && (high == 0 || price_ticks <= high);
    require(inside, RejectReason::PriceOutsideBand)?;
    let multiple = book.market.tick_multiple(price_ticks);
    require(multiple == 1 || price_ticks.is_multiple_of(multiple), RejectReason::PriceOffTick)
}

#[inline]
fn check_lots(floor: &Floor, place: u32, price_ticks: u64, quantity_lots: u64) -> Result<(), Refused> {
    let multiple = floor.books[place as usize].market.lot_multiple(price_ticks);
    require(multiple == 1 || quantity_lots.is_multiple_of(multiple), RejectReason::QuantityOffLot)
}

/// Check that the account has free what the order needs beyond what is held for it already; return what it needs.
#[inline]
fn check_funds(floor: &Floor, order: &Taker, crosses: bool, may_rest: bool) -> Result<u64, Refused> {
    let book = &floor.books[order.book as usize];
    let needed = entry_hold(&book.market, order, crosses, may_rest).ok_or(RejectReason::AmountTooLarge)?;
    let asset = book.asset_given(order.side);
    let available = floor.accounts.free(order.owner, asset);
    if needed > order.held_units && needed - order.held_units > available {
        return Err(Refused {
            reason: RejectReason::InsufficientFunds,
            required_units: needed - order.held_units,
            available_units: available,
            asset,
        });
    }
    Ok(needed)
}

// --- what a rejection shows -----------------------------------------------------------------------------------------

/// Return market, `order_id` and `client_order_id` for the rejection of a command: what it names, zero for the rest.
///
/// The market of an order is shown to its own account only.
pub(crate) fn names_in(floor: &Floor, owner: u32, command: &Command) -> (u32, u64, u64) {
    let named = |order_id, client_order_id| {
        let market = order(floor, owner, order_id, client_order_id)
            .map_or(0, |slot| floor.books[floor.where_is(slot).0 as usize].market.market);
        (market, order_id, client_order_id)
    };
    match command {
        Command::Place(command) => (command.market, 0, command.client_order_id),
        Command::Cancel(command) => named(command.order_id, command.client_order_id),
        Command::Reduce(command) => named(command.order_id, command.client_order_id),
        Command::Replace(command) => named(command.order_id, command.client_order_id),
        Command::CancelAll(command) => (command.market, 0, 0),
        Command::Release(_) | Command::NotForTrading => (0, 0, 0),
    }
}
