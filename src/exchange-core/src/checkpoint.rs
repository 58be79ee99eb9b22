//! Checkpoints as bytes: a state, its hash, and nothing else; and the invariants that a state must keep.
//!
//! `exchange.domain.invariants.broken_in_shard` says the same of the same state, in the same order.

use std::fmt::{Display, Write};

use hashbrown::{HashMap, HashSet};

use crate::hashing::state_hash;
use crate::kinds::Side;
use crate::limits::{LINK_DIGESTS_MAX, TIMERS_MAX};
use crate::shard::{FORMAT, LoadError, market_is_valid, resting_hold_of, settings_are_valid};
use crate::units::{AMOUNT_UNITS_MAX, CONTROL_SHARD, COUNTER_BITS, PPM, PRICE_TICKS_MAX, QUANTITY_LOTS_MAX};
use crate::wire::messages::{AssetAmount, BookState, Checkpoint, Market, RestingOrder, ShardCore, ShardState};
use crate::wire::{Message, check_format};

/// Most live nonces of a key under any settings.
const LIVE_NONCES_PER_KEY_BOUND: usize = 1_048_576;

/// Return the checkpoint of an encoded state. Equal states give equal bytes, whatever engine they come from.
#[must_use]
pub fn write_checkpoint(state: &[u8]) -> Vec<u8> {
    let hash = state_hash(state);
    let checkpoint = Checkpoint { format: FORMAT, state_hash: &hash, state };
    let mut out = Vec::with_capacity(state.len() + 64);
    checkpoint.encode(&mut out);
    out
}

/// Return the state in a checkpoint of a trading shard.
///
/// # Errors
/// The checkpoint, or the state in it, is of another version, not canonical, damaged, of shard 0, or breaks an
/// invariant, so that no engine can have written it.
pub fn read_shard_checkpoint(data: &[u8]) -> Result<ShardState<'_>, LoadError> {
    check_format("checkpoint", data)?;
    let checkpoint = Checkpoint::decode(data)?;
    let found = state_hash(checkpoint.state);
    if found != *checkpoint.state_hash {
        return Err(LoadError::Checkpoint(format!(
            "STATE_HASH: the checkpoint's state has hash {}, not {} as it says: it was damaged; take an older one",
            hex(&found),
            hex(checkpoint.state_hash)
        )));
    }
    check_format("shard state", checkpoint.state)?;
    let state = ShardState::decode(checkpoint.state)?;
    if state.core.genesis.shard == CONTROL_SHARD {
        return Err(LoadError::Checkpoint(
            "CHECKPOINT_SHARD: the checkpoint is of shard 0, which does not trade; load it as control".to_owned(),
        ));
    }
    match broken_in_shard(&state) {
        None => Ok(state),
        Some(broken) => {
            Err(LoadError::Checkpoint(format!("CHECKPOINT_INVARIANT: {broken}; take an older checkpoint and replay")))
        }
    }
}

/// Return a line for the first breach of an invariant in a trading shard, starting with its number; None: it has none.
#[must_use]
pub fn broken_in_shard(state: &ShardState<'_>) -> Option<String> {
    broken_core(&state.core)
        .or_else(|| broken_books(state))
        .or_else(|| broken_orders(state))
        .or_else(|| broken_accounts(state))
        .or_else(|| broken_holds(state))
        .or_else(|| broken_work(state))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn not_ascending<K: PartialOrd>(name: impl Display, keys: impl Iterator<Item = K>) -> Option<String> {
    let mut last = None;
    for key in keys {
        if last.is_some_and(|last| last >= key) {
            return Some(format!("I-13 {name}: not ascending, or something twice"));
        }
        last = Some(key);
    }
    None
}

fn broken_amounts(name: &str, amounts: &[AssetAmount], units_max: u64) -> Option<String> {
    not_ascending(name, amounts.iter().map(|amount| amount.asset)).or_else(|| {
        amounts.iter().find_map(|amount| match amount.amount_units {
            0 => Some(format!("I-13 {name} lists asset {} with nothing", amount.asset)),
            units if units > units_max => Some(format!("I-02 {name} has {units} of asset {}", amount.asset)),
            _ => None,
        })
    })
}

// --- every shard ----------------------------------------------------------------------------------------------------

fn broken_core(core: &ShardCore<'_>) -> Option<String> {
    let shard = core.genesis.shard;
    if !core.operators.iter().map(|operator| operator.role).eq(1..=3) {
        return Some("I-13 operators: not each role once, in order".to_owned());
    }
    if !settings_are_valid(&core.settings) || core.genesis.rules < 1 || core.genesis.rules > core.rules {
        return Some("I-13 settings or rules are out of bounds".to_owned());
    }
    not_ascending("nonces", core.nonces.iter().map(|live| (live.key_id, live.nonce)))
        .or_else(|| broken_nonces(core))
        .or_else(|| not_ascending("links_in", core.links_in.iter().map(|link| link.from_shard)))
        .or_else(|| not_ascending("links_out", core.links_out.iter().map(|link| link.to_shard)))
        .or_else(|| {
            core.links_in.iter().find_map(|link| {
                let kept = (LINK_DIGESTS_MAX as u64).min(link.last_sequence);
                broken_amounts(&format!("links_in {}", link.from_shard), &link.received, u64::MAX).or_else(|| {
                    let wrong = link.digests.len() as u64 != kept || link.from_shard == shard;
                    wrong.then(|| {
                        format!(
                            "I-11 {} digests of {} links from shard {}",
                            link.digests.len(),
                            link.last_sequence,
                            link.from_shard
                        )
                    })
                })
            })
        })
        .or_else(|| {
            core.links_out.iter().find_map(|out| {
                broken_amounts(&format!("links_out {}", out.to_shard), &out.sent, u64::MAX).or_else(|| {
                    let wrong = out.last_sequence < 1 || out.to_shard == shard;
                    wrong.then(|| format!("I-11 {} links go to shard {}", out.last_sequence, out.to_shard))
                })
            })
        })
}

fn broken_nonces(core: &ShardCore<'_>) -> Option<String> {
    // Nonces are sorted by key: those of one key stand together.
    for of_key in core.nonces.chunk_by(|one, other| one.key_id == other.key_id) {
        if of_key.len() > LIVE_NONCES_PER_KEY_BOUND {
            return Some(format!("I-10 key {} has {} live nonces", hex(of_key[0].key_id), of_key.len()));
        }
    }
    for live in &core.nonces {
        let name = || format!("nonce {} of key {}", live.nonce, hex(live.key_id));
        if u128::from(live.valid_until_ms) * 1000 <= u128::from(core.t_us) {
            return Some(format!("I-10 {} is kept although its batch expired", name()));
        }
        if live.n < 1 || live.n > core.n || live.batch < 1 {
            return Some(format!("I-10 {} points to no outcome", name()));
        }
    }
    None
}

// --- trading shards -------------------------------------------------------------------------------------------------

fn resting<'s, 'a>(state: &'s ShardState<'a>) -> impl Iterator<Item = (&'s Market<'a>, Side, &'s RestingOrder)> {
    state.books.iter().flat_map(|book| {
        let bids = book.bids.iter().map(move |order| (&book.market, Side::Buy, order));
        bids.chain(book.asks.iter().map(move |order| (&book.market, Side::Sell, order)))
    })
}

fn broken_books(state: &ShardState<'_>) -> Option<String> {
    not_ascending("books", state.books.iter().map(|book| book.market.market)).or_else(|| {
        state.books.iter().find_map(|book| {
            let market = book.market.market;
            if !market_is_valid(&book.market) || book.market.shard != state.core.genesis.shard {
                return Some(format!("I-13 market {market} is not one of this shard"));
            }
            if book.last_price_ticks > PRICE_TICKS_MAX {
                return Some(format!("I-06 market {market} traded at {}", book.last_price_ticks));
            }
            if book.market_seq < 1 + (book.bids.len() + book.asks.len()) as u64 {
                return Some(format!("I-09 market {market} has had fewer events than it has open orders"));
            }
            broken_priority(book)
        })
    })
}

fn broken_priority(book: &BookState<'_>) -> Option<String> {
    let market = book.market.market;
    if book.bids.windows(2).any(|pair| pair[0].price_ticks < pair[1].price_ticks) {
        return Some(format!("I-05 market {market}: a bid stands before a higher one"));
    }
    if book.asks.windows(2).any(|pair| pair[0].price_ticks > pair[1].price_ticks) {
        return Some(format!("I-05 market {market}: an ask stands before a lower one"));
    }
    match (book.bids.first(), book.asks.first()) {
        (Some(bid), Some(ask)) if bid.price_ticks >= ask.price_ticks => {
            Some(format!("I-04 market {market} is crossed: bid {}, ask {}", bid.price_ticks, ask.price_ticks))
        }
        _ => None,
    }
}

fn broken_orders(state: &ShardState<'_>) -> Option<String> {
    let orders = state.books.iter().map(|book| book.bids.len() + book.asks.len()).sum();
    let mut names = HashSet::with_capacity(orders);
    let mut client_names = HashSet::new();
    for (_, _, order) in resting(state) {
        let name = || format!("order {:x}", order.order_id);
        let counter = order.order_id & ((1 << COUNTER_BITS) - 1);
        let born_here = order.order_id >> COUNTER_BITS == u64::from(state.core.genesis.shard);
        if !born_here || counter < 1 || counter > state.last_order {
            return Some(format!("I-08 {} was never given", name()));
        }
        if !names.insert(order.order_id) {
            return Some(format!("I-08 {} stands twice", name()));
        }
        if order.client_order_id != 0 && !client_names.insert((order.account, order.client_order_id)) {
            return Some(format!("I-08 account {} has two open orders {}", order.account, order.client_order_id));
        }
        let quantity = u128::from(order.open_lots) + u128::from(order.filled_lots);
        if order.open_lots < 1 || quantity > u128::from(QUANTITY_LOTS_MAX) {
            return Some(format!("I-07 {} has {} lots open and {} filled", name(), order.open_lots, order.filled_lots));
        }
        if !(1..=PRICE_TICKS_MAX).contains(&order.price_ticks) || !(1..=5).contains(&order.self_trade_prevention) {
            return Some(format!("I-13 {} has fields out of bounds", name()));
        }
        if u64::from(order.maker_fee_ppm.max(order.taker_fee_ppm)) > PPM {
            return Some(format!("I-18 {} pays more than everything", name()));
        }
        if u64::from(order.maker_prepaid_ppm.max(order.taker_prepaid_ppm)) >= PPM {
            return Some(format!("I-18 {} has paid a whole unit ahead", name()));
        }
    }
    None
}

fn broken_accounts(state: &ShardState<'_>) -> Option<String> {
    if let Some(broken) = not_ascending("accounts", std::iter::once(0).chain(state.accounts.iter().map(|a| a.account)))
    {
        return Some(broken);
    }
    let mut open_orders: HashMap<u64, u64> = HashMap::new();
    for (_, _, order) in resting(state) {
        *open_orders.entry(order.account).or_default() += 1;
    }
    for owner in &state.accounts {
        let account = owner.account;
        if owner.account_seq < 1 + open_orders.remove(&account).unwrap_or_default() {
            return Some(format!("I-09 account {account} has had fewer events than it needs for what it has"));
        }
        let name = format_args!("account {account}").to_string();
        if let Some(broken) = not_ascending(name, owner.balances.iter().map(|balance| balance.asset)) {
            return Some(broken);
        }
        for balance in &owner.balances {
            let total = u128::from(balance.free_units) + u128::from(balance.locked_units);
            if total > u128::from(AMOUNT_UNITS_MAX) {
                return Some(format!("I-02 account {account}, asset {}: {total} units", balance.asset));
            }
            if total == 0 {
                return Some(format!("I-13 account {account} lists asset {} with nothing", balance.asset));
            }
        }
    }
    // Any of them: a message names one.
    if let Some(account) = resting(state).map(|(_, _, order)| order.account).find(|one| open_orders.contains_key(one)) {
        return Some(format!("I-09 account {account} has open orders but no events"));
    }
    broken_amounts("fees", &state.fees, AMOUNT_UNITS_MAX)
}

/// Check that locked funds are what the open orders hold, for every account and asset.
fn broken_holds(state: &ShardState<'_>) -> Option<String> {
    // What is needed, less what is locked.
    let mut missing: HashMap<(u64, u32), (u128, u64)> = HashMap::new();
    for (market, side, order) in resting(state) {
        let (asset, units) = resting_hold_of(market, side, order);
        let there = missing.entry((order.account, asset)).or_default();
        there.0 = there.0.saturating_add(units);
    }
    for owner in &state.accounts {
        for balance in owner.balances.iter().filter(|balance| balance.locked_units > 0) {
            missing.entry((owner.account, balance.asset)).or_default().1 = balance.locked_units;
        }
    }
    let broken = missing.iter().filter(|(_, (needed, locked))| *needed != u128::from(*locked));
    broken.min_by_key(|(name, _)| **name).map(|((account, asset), (needed, locked))| {
        format!("I-03 account {account}, asset {asset}: {locked} units locked, its open orders need {needed}")
    })
}

/// Check timers and mass cancels: what the shard goes on with in later entries.
fn broken_work(state: &ShardState<'_>) -> Option<String> {
    let markets: HashSet<u32> = state.books.iter().map(|book| book.market.market).collect();
    if let Some(broken) = not_ascending("timers", state.timers.iter().map(|timer| (timer.deadline_us, timer.timer_id)))
    {
        return Some(broken);
    }
    let mut timer_ids = HashSet::with_capacity(state.timers.len());
    let twice = !state.timers.iter().all(|timer| timer_ids.insert(timer.timer_id));
    if twice || state.timers.len() > TIMERS_MAX {
        return Some("I-13 timers: one stands twice, or there are too many".to_owned());
    }
    for timer in &state.timers {
        let given = (1..=state.last_timer).contains(&timer.timer_id);
        if !given || !markets.contains(&timer.market) || !(1..=4).contains(&timer.state) {
            return Some(format!("I-13 timer {} cannot be set off", timer.timer_id));
        }
    }
    let ids = std::iter::once(0).chain(state.pending.iter().map(|pending| pending.cancel_all_id));
    not_ascending("pending", ids).or_else(|| {
        state.pending.iter().find_map(|pending| {
            let given = pending.cancel_all_id <= state.last_cancel_all;
            let in_scope = pending.market == 0 || markets.contains(&pending.market);
            let by_somebody = pending.account != 0 || (pending.by_operator && pending.market != 0);
            let fits = given && in_scope && by_somebody && pending.side <= 2;
            let what = "has no scope that could have been accepted";
            (!fits).then(|| format!("I-13 mass cancel {} {what}", pending.cancel_all_id))
        })
    })
}
