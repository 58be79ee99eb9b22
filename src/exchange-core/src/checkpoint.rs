//! Checkpoints as bytes: a state, its hash, and nothing else; and the invariants that a state must keep.
//!
//! `exchange.domain.invariants.broken_in_shard` says the same of the same state, in the same order.

use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::iter::once;

use hashbrown::{HashMap, HashSet};

use crate::frames::hex;
use crate::hashing::state_hash;
use crate::kinds::Side;
use crate::limits::{LINK_DIGESTS_MAX, TIMERS_MAX};
use crate::shard::{FORMAT, LoadError, market_is_valid, mix, resting_hold_of, settings_are_valid};
use crate::units::{AMOUNT_UNITS_MAX, CONTROL_SHARD, COUNTER_BITS, PPM, PRICE_TICKS_MAX, QUANTITY_LOTS_MAX};
use crate::verify::is_environment;
use crate::wire::messages::{
    AccountState, AssetAmount, BookState, Checkpoint, Genesis, Market, RestingOrder, ShardCore, ShardState,
};
use crate::wire::{Message, check_format};

/// Most live nonces of a key under any settings.
const LIVE_NONCES_PER_KEY_BOUND: usize = 1_048_576;

/// No counter of a state comes this far: half of what a name has room for.
const COUNTER_BOUND: u64 = 1 << (COUNTER_BITS - 1);

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
    broken_counters(state)
        .or_else(|| broken_core(&state.core))
        .or_else(|| broken_books(state))
        .or_else(|| if orders_are_sound(state) { None } else { first_broken_order(state) })
        .or_else(|| broken_work(state))
}

/// Return the first breach among orders, accounts and holds, in the order in which the reference looks for them.
#[cold]
fn first_broken_order(state: &ShardState<'_>) -> Option<String> {
    broken_orders(state).or_else(|| broken_accounts(state)).or_else(|| broken_holds(state))
}

/// Return whether orders, accounts and holds break nothing; false may be a false alarm.
///
/// One pass over the orders and two sorts, where looking for the first breach takes three hash tables of as many rows as
/// there are orders: a fifth of the time at 1,000,000.
fn orders_are_sound(state: &ShardState<'_>) -> bool {
    let orders = state.books.iter().map(|book| book.bids.len() + book.asks.len()).sum();
    let mut names = Vec::with_capacity(orders);
    let mut client_names = Vec::with_capacity(orders);
    let Some(mut needs) = Needs::of(&state.accounts) else { return false };
    for (market, side, order) in resting(state) {
        if broken_in_order(state, order).is_some() {
            return false;
        }
        names.push(order.order_id);
        if order.client_order_id != 0 {
            client_names.push(mix(mix(order.account ^ needs.seed) ^ order.client_order_id));
        }
        let (asset, units) = resting_hold_of(market, side, order);
        if !needs.add(order.account, asset, units) {
            return false;
        }
    }
    // Names of clients are told apart by a hash: two alike are looked at again, one by one. The seed keeps a client from
    // choosing names that are alike, which would make every restore as slow.
    all_differ(names)
        && all_differ(client_names)
        && needs.are_met_by(&state.accounts)
        && broken_amounts("fees", &state.fees, AMOUNT_UNITS_MAX).is_none()
}

fn all_differ(mut names: Vec<u64>) -> bool {
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

/// What open orders need of what an account has of an asset.
struct Need {
    account: u64,
    asset: u32,
    open_orders: u64,
    units: u128,
}

/// What open orders need of the accounts of a state: one short row for each balance, found by a table of their places.
///
/// Orders name accounts at random. Going by account and its balances would wait for memory four times an order.
struct Needs {
    /// In the order of the accounts and their balances.
    rows: Vec<Need>,
    /// Place of a row, plus 1, where the hash of its account and asset says or after it; 0: none.
    places: Vec<u32>,
    /// What hashes start from, so that nobody can choose accounts or client names that share one. No answer depends on it.
    seed: u64,
}

impl Needs {
    /// Return rows that need nothing yet; None where accounts or their assets are not ascending.
    fn of(accounts: &[AccountState]) -> Option<Self> {
        let is_ascending = not_ascending("", once(0).chain(accounts.iter().map(|owner| owner.account))).is_none()
            && accounts.iter().all(|owner| owner.balances.is_sorted_by(|one, other| one.asset < other.asset));
        if !is_ascending {
            return None;
        }
        let balances = accounts.iter().flat_map(|owner| owner.balances.iter().map(|balance| (owner.account, balance)));
        let rows: Vec<Need> = balances
            .map(|(account, balance)| Need { account, asset: balance.asset, open_orders: 0, units: 0 })
            .collect();
        let places = vec![0; 2 * (rows.len() + 1).next_power_of_two()];
        let mut needs = Self { places, rows: Vec::new(), seed: RandomState::new().hash_one(0) };
        for (row, place) in rows.iter().zip(1..) {
            let slot = needs.slot_of(row.account, row.asset, |_| false);
            needs.places[slot] = place;
        }
        needs.rows = rows;
        Some(needs)
    }

    /// Return the slot where the row is that `is_it` knows, or else the free one where it would be.
    #[inline]
    fn slot_of(&self, account: u64, asset: u32, is_it: impl Fn(&Need) -> bool) -> usize {
        let mask = self.places.len() - 1;
        let mut slot = usize::try_from(mix(mix(account ^ self.seed) ^ u64::from(asset))).unwrap_or_default() & mask;
        while let Some(place) = (self.places[slot] as usize).checked_sub(1) {
            if self.rows.get(place).is_some_and(&is_it) {
                break;
            }
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Count an open order, which needs some of an asset; return whether its account lists that.
    #[inline]
    fn add(&mut self, account: u64, asset: u32, units: u128) -> bool {
        let slot = self.slot_of(account, asset, |row| row.account == account && row.asset == asset);
        let Some(place) = (self.places[slot] as usize).checked_sub(1) else { return false };
        let row = &mut self.rows[place];
        row.open_orders += 1;
        row.units = row.units.saturating_add(units);
        true
    }

    /// Return whether the accounts have what the orders need, and no amount breaks a rule.
    fn are_met_by(&self, accounts: &[AccountState]) -> bool {
        let mut rows = self.rows.iter();
        accounts.iter().all(|owner| {
            let mut open_orders = 0;
            owner.balances.iter().zip(&mut rows).all(|(balance, row)| {
                open_orders += row.open_orders;
                let total = u128::from(balance.free_units) + u128::from(balance.locked_units);
                (1..=u128::from(AMOUNT_UNITS_MAX)).contains(&total) && u128::from(balance.locked_units) == row.units
            }) && owner.account_seq > open_orders
        })
    }
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

fn broken_counters(state: &ShardState<'_>) -> Option<String> {
    let core = &state.core;
    let operators =
        core.operators.iter().map(|operator| ("last_sequence of operator", operator.role, operator.last_sequence));
    let links_in = core.links_in.iter().map(|link| ("last_sequence of links_in", link.from_shard, link.last_sequence));
    let links_out = core.links_out.iter().map(|out| ("last_sequence of links_out", out.to_shard, out.last_sequence));
    let books = state.books.iter().map(|book| ("market_seq of market", book.market.market, book.market_seq));
    let accounts = state.accounts.iter().map(|owner| ("account_seq of account", owner.account, owner.account_seq));
    let pending =
        state.pending.iter().map(|one| ("cancelled_orders of cancel_all", one.cancel_all_id, one.cancelled_orders));
    let own = [
        ("last_order", state.last_order),
        ("last_trade", state.last_trade),
        ("last_cancel_all", state.last_cancel_all),
        ("last_timer", state.last_timer),
    ];
    let too_far = |counter: u64| counter >= COUNTER_BOUND;
    let named =
        |(name, of, counter): (&str, u64, u64)| too_far(counter).then(|| format!("I-20 {name} {of} is {counter}"));
    let short = |(name, of, counter): (&'static str, u32, u64)| (name, u64::from(of), counter);
    let alone = |(name, counter): (&str, u64)| too_far(counter).then(|| format!("I-20 {name} is {counter}"));
    alone(("n", core.n))
        .or_else(|| operators.chain(links_in).chain(links_out).map(short).find_map(named))
        .or_else(|| own.into_iter().find_map(alone))
        .or_else(|| books.map(short).chain(accounts).chain(pending).find_map(named))
}

fn broken_core(core: &ShardCore<'_>) -> Option<String> {
    let shard = core.genesis.shard;
    if let Some(broken) = broken_genesis(&core.genesis) {
        return Some(broken);
    }
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

/// Check what no shard can have started from; operators' keys are checked where an engine loads the state.
fn broken_genesis(genesis: &Genesis<'_>) -> Option<String> {
    if !is_environment(genesis.environment) {
        return Some(format!("I-13 genesis: environment '{}' is no name", genesis.environment));
    }
    if !settings_are_valid(&genesis.settings) {
        return Some("I-13 genesis: settings are out of bounds".to_owned());
    }
    if genesis.operators.iter().any(|operator| operator.last_sequence > 0 || !operator.last_digest.is_empty()) {
        return Some("I-13 genesis: an operator had signed something".to_owned());
    }
    let in_order = genesis.operators.iter().map(|operator| operator.role).eq(1..=3);
    (!in_order).then(|| "I-13 genesis: operators: not each role once, in order".to_owned())
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
        if let Some(broken) = broken_name(state, order) {
            return Some(broken);
        }
        if !names.insert(order.order_id) {
            return Some(format!("I-08 {} stands twice", name_in(order)));
        }
        if order.client_order_id != 0 && !client_names.insert((order.account, order.client_order_id)) {
            return Some(format!("I-08 account {} has two open orders {}", order.account, order.client_order_id));
        }
        if let Some(broken) = broken_in_order(state, order) {
            return Some(broken);
        }
    }
    None
}

fn name_in(order: &RestingOrder) -> String {
    format!("order {:x}", order.order_id)
}

/// Return why no engine can have given an order its name.
fn broken_name(state: &ShardState<'_>, order: &RestingOrder) -> Option<String> {
    let counter = order.order_id & ((1 << COUNTER_BITS) - 1);
    let born_here = order.order_id >> COUNTER_BITS == u64::from(state.core.genesis.shard);
    let was_given = born_here && 1 <= counter && counter <= state.last_order;
    if was_given { None } else { Some(format!("I-08 {} was never given", name_in(order))) }
}

/// Return what is wrong with an order whatever others there are.
fn broken_in_order(state: &ShardState<'_>, order: &RestingOrder) -> Option<String> {
    if let Some(broken) = broken_name(state, order) {
        return Some(broken);
    }
    let quantity = u128::from(order.open_lots) + u128::from(order.filled_lots);
    if order.open_lots < 1 || quantity > u128::from(QUANTITY_LOTS_MAX) {
        let what = format!("{} lots open and {} filled", order.open_lots, order.filled_lots);
        return Some(format!("I-07 {} has {what}", name_in(order)));
    }
    if !(1..=PRICE_TICKS_MAX).contains(&order.price_ticks) || !(1..=5).contains(&order.self_trade_prevention) {
        return Some(format!("I-13 {} has fields out of bounds", name_in(order)));
    }
    if u64::from(order.maker_fee_ppm.max(order.taker_fee_ppm)) > PPM {
        return Some(format!("I-18 {} pays more than everything", name_in(order)));
    }
    if u64::from(order.maker_prepaid_ppm.max(order.taker_prepaid_ppm)) >= PPM {
        return Some(format!("I-18 {} has paid a whole unit ahead", name_in(order)));
    }
    None
}

fn broken_accounts(state: &ShardState<'_>) -> Option<String> {
    if let Some(broken) = not_ascending("accounts", once(0).chain(state.accounts.iter().map(|a| a.account))) {
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
    let ids = once(0).chain(state.pending.iter().map(|pending| pending.cancel_all_id));
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

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    /// Return the states at the end of every log of tests/vectors/executions.json that is of a trading shard.
    fn checkpoints() -> Vec<Vec<u8>> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/executions.json");
        let document: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let logs = document["logs"].as_array().unwrap().iter();
        let hex = logs.map(|log| log["checkpoint"].as_str().unwrap());
        let bytes = |hex: &str| {
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect::<Vec<u8>>()
        };
        hex.map(bytes)
            .filter(|data| !matches!(read_shard_checkpoint(data), Err(LoadError::Wire(_) | LoadError::Checkpoint(_))))
            .collect()
    }

    /// Every way in which the tests alter one number of an order, an account or a balance.
    fn alter(state: &mut ShardState<'_>, turn: u64) {
        let value = [0, 1, 5, 1 << 40, (1 << 53) - 1, 1 << 53, (1 << 63) - 1, u64::MAX][(turn / 16 % 8) as usize];
        let pick = (turn / 128) as usize;
        let accounts = state.accounts.len().max(1);
        let books = state.books.len().max(1);
        if let Some(book) = state.books.get_mut(pick % books) {
            let orders: Vec<&mut RestingOrder> = book.bids.iter_mut().chain(&mut book.asks).collect();
            let count = orders.len().max(1);
            if let Some(order) = orders.into_iter().nth(pick / books % count) {
                match turn % 16 {
                    0 => order.order_id = value,
                    1 => order.client_order_id = value,
                    2 => order.account = value,
                    3 => order.price_ticks = value,
                    4 => order.open_lots = value,
                    5 => order.filled_lots = value,
                    6 => order.self_trade_prevention = (value % 9) as u32,
                    7 => order.maker_fee_ppm = (value % 2_000_000) as u32,
                    8 => order.taker_prepaid_ppm = (value % 2_000_000) as u32,
                    9 => order.order_id = (1 << 52) | (value % 6),
                    _ => {}
                }
            }
        }
        if let Some(owner) = state.accounts.get_mut(pick % accounts) {
            match turn % 16 {
                10 => owner.account = value,
                11 => owner.account_seq = value,
                12 => owner.balances.reverse(),
                _ => {}
            }
            let count = owner.balances.len().max(1);
            if let Some(balance) = owner.balances.get_mut(pick / accounts % count) {
                match turn % 16 {
                    13 => balance.asset = value as u32,
                    14 => balance.free_units = value,
                    15 => balance.locked_units = value,
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn the_fast_look_at_orders_agrees_with_the_search_for_the_first_breach() {
        let (mut sound, mut broken) = (0, 0);
        for data in checkpoints() {
            let state = read_shard_checkpoint(&data).unwrap();
            assert!(orders_are_sound(&state));
            for turn in 0..1_024 {
                let mut altered = state.clone();
                alter(&mut altered, turn);
                let first = first_broken_order(&altered);
                assert_eq!(orders_are_sound(&altered), first.is_none(), "turn {turn}: {first:?}");
                *if first.is_none() { &mut sound } else { &mut broken } += 1;
            }
        }
        assert!(sound > 1_000 && broken > 1_000, "{sound} sound, {broken} broken");
    }
}
