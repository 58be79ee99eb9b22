//! A trading shard: what becomes of an entry, part by part (`exchange.reference.shard`).
//!
//! An entry is taken in this order: timers that are due, by deadline and number; mass cancels under way, by number;
//! operations; links; batches. Timers and mass cancels cause at most `PENDING_EVENTS_MAX` events together; what is left
//! goes on at the start of the next entry.

mod accounts;
mod core;
mod errors;
mod floor;
mod market;
mod money;
mod nonces;
mod orders;
mod queries;
mod state;
mod what_if;
mod writer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use self::core::RULES_MAX;
pub use self::errors::{ApplyError, LoadError, Stop};
pub use self::market::{market_is_valid, settings_are_valid};
pub use self::money::resting_hold_of;
pub use self::queries::{BookCut, Facts, OpenOrder, Summary};
pub use self::what_if::WhatIf;

use self::core::Core;
use self::floor::Floor;
use self::market::MarketSettings;
use self::orders::{Refused, Sender, require};
use crate::hashing::{chain_hash, input_hash};
use crate::kinds::{CancelReason, OperatorRole, RejectReason, STATE_HALTED, Side, side_of};
use crate::limits::{COMMAND_EVENTS_MAX, ENTRY_WORK_MAX, PENDING_EVENTS_MAX, TIMERS_MAX};
use crate::units::{AMOUNT_UNITS_MAX, CONTROL_SHARD, name_of};
use crate::verify::key_refusal;
use crate::wire::entries::{ParsedBatch, ParsedEntry, ParsedLink, ParsedOperation, parse_entry};
use crate::wire::messages::{
    ActionRejected, CancelAllAccepted, CancelAllDone, CancelAllOrders, CancelOrders, CancelOrdersAccepted,
    CommandRejected, ControlFloorRaised, FrameRefused, FundsCredited, FundsSent, Market, MarketDefined,
    MarketStateChanged, MarketStateScheduled, Operation, OperatorAction, OperatorKeyRotated, PendingCancelAll,
    ReleaseFunds, RequestResult, RulesRaised, SetMarketState, ShardSettingsChanged,
};
use crate::wire::{Command, Sink};

pub use crate::wire::messages::FORMAT;

/// Spread the bits of a number that nobody can choose.
#[inline]
pub(crate) fn mix(value: u64) -> u64 {
    let product = u128::from(value ^ 0x9e37_79b9_7f4a_7c15) * 0xda94_2042_e4dd_58b5;
    (product >> 64) as u64 ^ product as u64
}

/// The state of a trading shard, and what it does with entries, one after another.
///
/// A pure function of its first state and the entries: no clock, randomness, floats, I/O or threads inside, and what it
/// writes does not depend on the order of any hash table.
#[derive(Clone, Debug)]
pub struct Shard {
    core: Core,
    floor: Floor,
    last_cancel_all: u64,
    last_timer: u64,
    /// State that a market is to take, by deadline and number.
    timers: BTreeMap<(u64, u64), (u32, u32)>,
    /// The same by market.
    timers_of: BTreeSet<(u32, u64, u64)>,
    pending: VecDeque<PendingCancelAll>,
    commands: Vec<Command>,
    /// Of the last entry that was answered; after a stop it is not the core's.
    position: u64,
    events_written: u64,
    stopped: Option<ApplyError>,
}

impl Shard {
    /// Execute the next entry and append its encoded execution frame to `out`.
    ///
    /// # Errors
    /// The order frame is of another version, or the entry cannot be answered; `out` is as before. The shard then
    /// answers every later entry with the same error.
    pub fn apply(&mut self, n: u64, t_us: u64, order_frame: &[u8], out: &mut Vec<u8>) -> Result<(), ApplyError> {
        self.check_running()?;
        let begin = out.len();
        let before = (self.core.n, self.core.t_us);
        let mut commands = std::mem::take(&mut self.commands);
        std::mem::swap(&mut self.floor.writer.out, out);
        let done = self.apply_one(n, t_us, order_frame, &mut commands);
        std::mem::swap(&mut self.floor.writer.out, out);
        self.commands = commands;
        match done {
            Ok(()) => (self.position, self.core.chain_hash) = (n, chain_hash(&out[begin..])),
            Err(error) => {
                (self.core.n, self.core.t_us) = before;
                out.truncate(begin);
                self.stopped = Some(error.clone());
                return Err(error);
            }
        }
        self.events_written += self.floor.writer.events() as u64;
        Ok(())
    }

    fn apply_one(
        &mut self,
        n: u64,
        t_us: u64,
        order_frame: &[u8],
        commands: &mut Vec<Command>,
    ) -> Result<(), ApplyError> {
        let entry = parse_entry(order_frame, commands).map_err(ApplyError::Format)?;
        // The rules that answer an entry are those before it: raised rules hold from the next entry on.
        self.write_head(n, t_us, &input_hash(n, t_us, order_frame));
        self.execute(n, t_us, &entry, commands).map_err(ApplyError::Stop)
    }

    /// Write what an execution frame says before its events.
    fn write_head(&mut self, n: u64, t_us: u64, input: &[u8; 32]) {
        let (rules, previous) = (self.core.rules, self.core.chain_hash);
        let out = &mut self.floor.writer.out;
        out.number(1 << 3, u64::from(FORMAT));
        out.number(2 << 3, n);
        out.number(3 << 3, t_us);
        out.number(4 << 3, u64::from(rules));
        for (number, hash) in [(5, &previous), (6, input)] {
            out.byte(number << 3 | 2);
            out.byte(32);
            out.bytes(hash);
        }
    }

    fn execute(&mut self, n: u64, t_us: u64, entry: &ParsedEntry<'_>, commands: &[Command]) -> Result<(), Stop> {
        self.core.begin(n, t_us)?;
        self.floor.begin();
        self.go_on();
        if !entry.well_formed {
            self.floor.writer.write(&FrameRefused { reason: RejectReason::Malformed as u32 });
        }
        for (place, operation) in (1..).zip(&entry.operations) {
            self.apply_operation(place, operation)?;
        }
        for (place, link) in (1..).zip(&entry.links) {
            self.apply_link(place, link)?;
        }
        for (request, _) in (1..).zip(0..entry.requests) {
            let reason = RejectReason::NotForThisShard as u32;
            self.floor.writer.write(&RequestResult { request, reason, ..Default::default() });
        }
        for (place, batch) in (1..).zip(&entry.batches) {
            self.apply_batch(entry.control_n, place, batch, commands);
            self.check_unbroken()?;
        }
        self.check_unbroken()
    }

    /// Stop where a rule was broken that can never be.
    #[inline]
    fn check_unbroken(&mut self) -> Result<(), Stop> {
        match self.floor.accounts.broken.take() {
            None => Ok(()),
            Some(stop) => Err(stop),
        }
    }

    /// Return the error that ended the shard, if one did.
    fn check_running(&self) -> Result<(), ApplyError> {
        self.stopped.clone().map_or(Ok(()), Err)
    }

    // --- timers and pending work ------------------------------------------------------------------------------------

    fn go_on(&mut self) {
        while self.floor.writer.events() < PENDING_EVENTS_MAX {
            let Some((&(deadline_us, timer_id), &(market, state))) = self.timers.first_key_value() else { break };
            if deadline_us > self.core.t_us {
                break;
            }
            self.timers.pop_first();
            self.timers_of.remove(&(market, deadline_us, timer_id));
            if let Some(book) = self.floor.book_of(market) {
                self.set_state(book, state);
            }
        }
        while self.floor.writer.events() < PENDING_EVENTS_MAX {
            let Some(pending) = self.pending.pop_front() else { break };
            if let Some(rest) = self.cancel_some(pending, PENDING_EVENTS_MAX) {
                self.pending.push_front(rest);
                return;
            }
        }
    }

    fn start_cancel_all(&mut self, pending: PendingCancelAll, events_max: usize) {
        if let Some(rest) = self.cancel_some(pending, events_max) {
            self.pending.push_back(rest);
        }
    }

    /// Cancel orders until the entry has `events_max` events; return what is left to do.
    fn cancel_some(&mut self, pending: PendingCancelAll, events_max: usize) -> Option<PendingCancelAll> {
        let reason = if pending.by_operator { CancelReason::Operator } else { CancelReason::CancelAll };
        let room = events_max.saturating_sub(1).saturating_sub(self.floor.writer.events());
        let concerned = self.concerned(&pending, room + 1);
        let ended = concerned.len().min(room);
        for &slot in &concerned[..ended] {
            self.floor.cancel(slot, reason, 0);
        }
        let cancelled_orders = pending.cancelled_orders + ended as u64;
        if concerned.len() > room {
            return Some(PendingCancelAll { cancelled_orders, ..pending });
        }
        let account_seq = if pending.account == 0 {
            0
        } else {
            let owner = self.floor.accounts.owner_of(pending.account);
            self.floor.accounts.next_seq(owner)
        };
        self.floor.writer.write(&CancelAllDone {
            cancel_all_id: pending.cancel_all_id,
            cancelled_orders,
            account: pending.account,
            account_seq,
        });
        None
    }

    /// Return at most so many of the orders that a mass cancel has yet to end, in the order in which they end.
    ///
    /// A trader's go by market, buys first, then oldest first, and halted markets are left alone; those of the exchange
    /// that are for all accounts go by market, bids first, in the order in which they would trade.
    fn concerned(&mut self, pending: &PendingCancelAll, most: usize) -> Vec<u32> {
        let side = side_of(pending.side);
        if pending.account == 0 {
            let Some(book) = self.floor.book_of(pending.market) else { return Vec::new() };
            let sides = [Side::Buy, Side::Sell].into_iter().filter(|one| side.is_none_or(|side| side == *one));
            let (pool, book) = (&self.floor.pool, &self.floor.books[book as usize]);
            return sides
                .flat_map(|side| pool.orders(book.half(side)))
                .filter(|&slot| pool.node(slot).value.order_id <= pending.last_order_id)
                .take(most)
                .collect();
        }
        let Some(owner) = self.floor.accounts.find(pending.account) else { return Vec::new() };
        let mut found = Vec::new();
        for group in self.groups_concerned(pending, owner, side) {
            self.floor.sort_group(group);
            let room = most - found.len();
            let pool = &self.floor.pool;
            found.extend(
                self.floor
                    .orders_of_group(group)
                    .take_while(|&slot| pool.node(slot).value.order_id <= pending.last_order_id)
                    .take(room),
            );
            if found.len() == most {
                break;
            }
        }
        found
    }

    /// Return the groups of an account's orders that a mass cancel is for, by market, buys first.
    fn groups_concerned(&mut self, pending: &PendingCancelAll, owner: u32, side: Option<Side>) -> Vec<u32> {
        let floor = &mut self.floor;
        let may_end = |book: u32| pending.by_operator || floor.books[book as usize].market.state != STATE_HALTED;
        if pending.market != 0 {
            let Some(book) = floor.book_of(pending.market).filter(|&book| may_end(book)) else { return Vec::new() };
            return [Side::Buy, Side::Sell]
                .into_iter()
                .filter(|one| side.is_none_or(|side| side == *one))
                .filter_map(|one| floor.group_in(owner, book, one))
                .collect();
        }
        let mut groups: Vec<u32> = if pending.by_operator {
            floor.groups_of(owner, side, true).map(|(place, _)| place).collect()
        } else {
            floor.groups_not_halted(owner, side)
        };
        groups.sort_unstable_by_key(|&place| {
            let group = floor.group(place);
            (floor.books[group.book() as usize].market.market, group.side() == Side::Sell)
        });
        groups
    }

    fn new_cancel_all(&mut self, account: u64, market: u32, side: u32, by_operator: bool) -> PendingCancelAll {
        self.last_cancel_all += 1;
        let newest = if self.floor.last_order == 0 { 0 } else { name_of(self.core.shard, self.floor.last_order) };
        PendingCancelAll {
            cancel_all_id: self.last_cancel_all,
            account,
            market,
            side,
            last_order_id: newest,
            cancelled_orders: 0,
            by_operator,
        }
    }

    // --- batches ----------------------------------------------------------------------------------------------------

    #[inline]
    fn apply_batch(&mut self, control_n: u64, place: u32, parsed: &ParsedBatch<'_>, commands: &[Command]) {
        let result = self.core.judge_batch(control_n, place, parsed, self.floor.work());
        self.floor.writer.write(&result);
        if result.reason != 0 || result.repeat_n != 0 {
            return;
        }
        let Some(head) = &parsed.head else { return };
        let owner = self.floor.accounts.owner_of(head.account);
        let open_orders_max = self.core.settings.open_orders_per_account_max;
        let commands = &commands[head.first as usize..][..head.len as usize];
        for (number, command) in (1..).zip(commands) {
            let sender = Sender { owner, command: number, open_orders_max };
            if let Err(refused) = self.apply_command(sender, head.account, command) {
                self.write_rejected(sender, head.account, command, refused);
            }
        }
    }

    #[inline]
    fn apply_command(&mut self, sender: Sender, account: u64, command: &Command) -> Result<(), Refused> {
        require(self.floor.work() < ENTRY_WORK_MAX, RejectReason::EntryWorkLimit)?;
        match command {
            Command::Place(command) => orders::place(&mut self.floor, sender, command),
            Command::Cancel(command) => orders::cancel(&mut self.floor, sender, command),
            Command::Reduce(command) => orders::reduce(&mut self.floor, sender, command),
            Command::Replace(command) => orders::replace(&mut self.floor, sender, command),
            Command::CancelAll(command) => self.cancel_all(sender, account, command),
            Command::Release(command) => self.release(sender, account, command),
            Command::NotForTrading => Err(RejectReason::NotForThisShard.into()),
        }
    }

    fn write_rejected(&mut self, sender: Sender, account: u64, command: &Command, refused: Refused) {
        let (market, order_id, client_order_id) = orders::names_in(&self.floor, sender.owner, command);
        self.floor.writer.write(&CommandRejected {
            command: sender.command,
            account,
            account_seq: self.floor.accounts.next_seq(sender.owner),
            reason: refused.reason as u32,
            market,
            order_id,
            client_order_id,
            required_units: refused.required_units,
            available_units: refused.available_units,
            asset: refused.asset,
        });
    }

    /// Cancel what the account has open now; what does not fit one command goes on in the following entries.
    fn cancel_all(&mut self, sender: Sender, account: u64, command: &CancelAllOrders) -> Result<(), Refused> {
        if command.market != 0 {
            let book = self.floor.book_of(command.market).ok_or(RejectReason::UnknownMarket)?;
            let halted = self.floor.books[book as usize].market.state == STATE_HALTED;
            require(!halted, RejectReason::MarketHalted)?;
        }
        require(command.side == 0 || side_of(command.side).is_some(), RejectReason::InvalidSide)?;
        let pending = self.new_cancel_all(account, command.market, command.side, false);
        let first_event = self.floor.writer.events();
        self.floor.writer.write(&CancelAllAccepted {
            command: sender.command,
            account,
            account_seq: self.floor.accounts.next_seq(sender.owner),
            cancel_all_id: pending.cancel_all_id,
            market: command.market,
            side: command.side,
        });
        self.start_cancel_all(pending, first_event + COMMAND_EVENTS_MAX);
        Ok(())
    }

    /// Send free funds to the treasury.
    fn release(&mut self, sender: Sender, account: u64, command: &ReleaseFunds) -> Result<(), Refused> {
        let (asset, amount_units) = (command.asset, command.amount_units);
        require((1..=AMOUNT_UNITS_MAX).contains(&amount_units), RejectReason::InvalidAmount)?;
        let available_units = self.floor.accounts.free(sender.owner, asset);
        if amount_units > available_units {
            let reason = RejectReason::InsufficientFunds;
            return Err(Refused { reason, required_units: amount_units, available_units, asset });
        }
        self.floor.accounts.debit(sender.owner, asset, amount_units);
        self.floor.writer.write(&FundsSent {
            command: sender.command,
            account,
            account_seq: self.floor.accounts.next_seq(sender.owner),
            asset,
            amount_units,
            to_shard: CONTROL_SHARD,
            link_sequence: self.core.send(CONTROL_SHARD, asset, amount_units),
        });
        Ok(())
    }

    // --- links ------------------------------------------------------------------------------------------------------

    /// Credit what a link carries. It is refused for no state of any market or account.
    fn apply_link(&mut self, place: u32, parsed: &ParsedLink<'_>) -> Result<(), Stop> {
        let result = self.core.judge_link(place, parsed)?;
        self.floor.writer.write(&result);
        if result.reason != 0 || result.repeated {
            return Ok(());
        }
        let Some(link) = &parsed.link else { return Ok(()) };
        for transfer in &link.transfers {
            let accounts = &mut self.floor.accounts;
            let account_seq = if transfer.account == 0 {
                accounts.collect(transfer.asset, transfer.amount_units);
                0
            } else {
                let owner = accounts.owner_of(transfer.account);
                accounts.credit(owner, transfer.asset, transfer.amount_units);
                accounts.next_seq(owner)
            };
            self.check_unbroken()?;
            self.floor.writer.write(&FundsCredited {
                account: transfer.account,
                account_seq,
                asset: transfer.asset,
                amount_units: transfer.amount_units,
                from_shard: link.from_shard,
            });
        }
        Ok(())
    }

    // --- operations -------------------------------------------------------------------------------------------------

    fn apply_operation(&mut self, place: u32, parsed: &ParsedOperation<'_>) -> Result<(), Stop> {
        let result = self.core.judge_operation(place, parsed, self.floor.work());
        self.floor.writer.write(&result);
        if result.reason != 0 || result.repeated {
            return Ok(());
        }
        let Some(operation) = &parsed.operation else { return Ok(()) };
        for (number, action) in (1..).zip(&operation.actions) {
            if let Err(refused) = self.apply_action(operation, action)? {
                self.floor.writer.write(&ActionRejected { action: number, reason: refused.reason as u32 });
            }
        }
        Ok(())
    }

    fn apply_action(
        &mut self,
        operation: &Operation<'_>,
        action: &OperatorAction<'_>,
    ) -> Result<Result<(), Refused>, Stop> {
        if self.floor.work() >= ENTRY_WORK_MAX {
            return Ok(Err(RejectReason::EntryWorkLimit.into()));
        }
        if role_of(action).is_some_and(|role| role as u32 != operation.role) {
            return Ok(Err(RejectReason::RoleNotAllowed.into()));
        }
        let done = match action {
            OperatorAction::DefineMarket(action) => self.define_market(&action.market),
            OperatorAction::SetMarketState(action) => self.set_market_state(action),
            OperatorAction::CancelOrders(action) => self.cancel_orders(action),
            OperatorAction::SetShardSettings(action) => self.set_settings(action.settings),
            OperatorAction::RaiseControlFloor(action) => self.raise_control_floor(action.control_n),
            OperatorAction::RaiseRules(action) => return self.raise_rules(action.rules),
            OperatorAction::RotateOperatorKey(action) => self.rotate(operation.role, action.public_key),
            OperatorAction::SweepFees(action) => self.sweep_fees(action.asset),
            _ => Err(RejectReason::NotForThisShard.into()),
        };
        Ok(done)
    }

    /// Open a book, or change the settings of one; open orders stay as they are, with the fees they came with.
    fn define_market(&mut self, market: &Market<'_>) -> Result<(), Refused> {
        require(market_is_valid(market), RejectReason::InvalidMarket)?;
        require(market.shard == self.core.shard, RejectReason::WrongShard)?;
        let mut settings = MarketSettings::from_message(market);
        let place = match self.floor.book_of(market.market) {
            None => self.floor.add_book(settings, 0, 0),
            Some(place) => {
                let there = &mut self.floor.books[place as usize].market;
                require(settings.has_fixed_fields_of(there), RejectReason::MarketFieldFixed)?;
                settings.state = there.state;
                *there = settings;
                place
            }
        };
        let book = &mut self.floor.books[place as usize];
        let market_seq = book.next_seq();
        self.floor.writer.write_long(&MarketDefined { market: book.market.to_message(), market_seq });
        Ok(())
    }

    fn set_market_state(&mut self, action: &SetMarketState) -> Result<(), Refused> {
        let book = self.floor.book_of(action.market).ok_or(RejectReason::UnknownMarket)?;
        require((1..=4).contains(&action.state), RejectReason::InvalidMarketState)?;
        if action.effective_us <= self.core.t_us {
            // A halt in an emergency must not be undone by what was planned before.
            let planned: Vec<_> =
                self.timers_of.range((action.market, 0, 0)..=(action.market, u64::MAX, u64::MAX)).copied().collect();
            for timer in planned {
                self.timers_of.remove(&timer);
                self.timers.remove(&(timer.1, timer.2));
            }
            self.set_state(book, action.state);
            return Ok(());
        }
        require(self.timers.len() < TIMERS_MAX, RejectReason::TooManyTimers)?;
        self.last_timer += 1;
        self.add_timer(action.effective_us, self.last_timer, action.market, action.state);
        self.floor.writer.write(&MarketStateScheduled {
            market: action.market,
            timer_id: self.last_timer,
            effective_us: action.effective_us,
            state: action.state,
        });
        Ok(())
    }

    fn add_timer(&mut self, deadline_us: u64, timer_id: u64, market: u32, state: u32) {
        self.timers.insert((deadline_us, timer_id), (market, state));
        self.timers_of.insert((market, deadline_us, timer_id));
    }

    fn set_state(&mut self, book: u32, state: u32) {
        let market_seq = self.floor.set_state(book, state);
        let market = self.floor.books[book as usize].market.market;
        self.floor.writer.write(&MarketStateChanged { market, market_seq, state });
    }

    fn cancel_orders(&mut self, action: &CancelOrders) -> Result<(), Refused> {
        require(action.account != 0 || action.market != 0, RejectReason::InvalidScope)?;
        require(action.market == 0 || self.floor.book_of(action.market).is_some(), RejectReason::UnknownMarket)?;
        require(action.side == 0 || side_of(action.side).is_some(), RejectReason::InvalidSide)?;
        let pending = self.new_cancel_all(action.account, action.market, action.side, true);
        let first_event = self.floor.writer.events();
        self.floor.writer.write(&CancelOrdersAccepted {
            cancel_all_id: pending.cancel_all_id,
            account: action.account,
            market: action.market,
            side: action.side,
        });
        // An operation holds many actions: what exceeds the entry waits, so that no operator can burst a frame.
        self.start_cancel_all(pending, (first_event + COMMAND_EVENTS_MAX).min(ENTRY_WORK_MAX));
        Ok(())
    }

    fn set_settings(&mut self, settings: crate::wire::messages::ShardSettings) -> Result<(), Refused> {
        require(settings_are_valid(&settings), RejectReason::InvalidSettings)?;
        self.core.settings = settings;
        self.floor.writer.write(&ShardSettingsChanged { settings });
        Ok(())
    }

    fn raise_control_floor(&mut self, control_n: u64) -> Result<(), Refused> {
        require(control_n >= self.core.control_floor, RejectReason::FloorWouldFall)?;
        self.core.control_floor = control_n;
        self.floor.writer.write(&ControlFloorRaised { control_n });
        Ok(())
    }

    fn raise_rules(&mut self, rules: u32) -> Result<Result<(), Refused>, Stop> {
        if rules <= self.core.rules {
            return Ok(Err(RejectReason::RulesWouldNotRise.into()));
        }
        if rules > RULES_MAX {
            return Err(Stop::unknown_rules(format!("rules {rules} were raised; known are 1 .. {RULES_MAX}")));
        }
        self.core.rules = rules;
        self.floor.writer.write(&RulesRaised { rules });
        Ok(Ok(()))
    }

    fn rotate(&mut self, role: u32, public_key: &[u8; 32]) -> Result<(), Refused> {
        require(key_refusal(public_key).is_none(), RejectReason::InvalidPublicKey)?;
        self.core.rotate(role, public_key);
        self.floor.writer.write(&OperatorKeyRotated { role, public_key });
        Ok(())
    }

    fn sweep_fees(&mut self, asset: u32) -> Result<(), Refused> {
        let amount_units = self.floor.accounts.fees.remove(&asset).unwrap_or(0);
        require(amount_units > 0, RejectReason::InvalidAmount)?;
        let link_sequence = self.core.send(CONTROL_SHARD, asset, amount_units);
        self.floor.writer.write(&FundsSent {
            asset,
            amount_units,
            to_shard: CONTROL_SHARD,
            link_sequence,
            ..Default::default()
        });
        Ok(())
    }
}

/// Return the role that may sign an action; None: every role, for itself.
fn role_of(action: &OperatorAction<'_>) -> Option<OperatorRole> {
    match action {
        OperatorAction::DefineMarket(_)
        | OperatorAction::SetMarketState(_)
        | OperatorAction::CancelOrders(_)
        | OperatorAction::SetShardSettings(_)
        | OperatorAction::DefineAsset(_)
        | OperatorAction::DefineShard(_) => Some(OperatorRole::Market),
        OperatorAction::RaiseRules(_) => Some(OperatorRole::Recovery),
        OperatorAction::RotateOperatorKey(_) => None,
        OperatorAction::RaiseControlFloor(_)
        | OperatorAction::SweepFees(_)
        | OperatorAction::Deposit(_)
        | OperatorAction::CloseWithdrawal(_)
        | OperatorAction::RegisterKey(_)
        | OperatorAction::RevokeKey(_)
        | OperatorAction::OpenAccount(_)
        | OperatorAction::PayOutFees(_) => Some(OperatorRole::Treasury),
    }
}
