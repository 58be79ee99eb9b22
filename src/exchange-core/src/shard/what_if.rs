//! What-if: as much of a shard's state as some batches can reach, and their execution on it
//! (`exchange.engine.reference_what_if`).

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashSet;

use crate::hashing::input_hash;
use crate::kinds::Side;
use crate::limits::{COMMAND_EVENTS_MAX, HASH_BYTES, KEY_ID_BYTES, SIGNATURE_BYTES};
use crate::shard::state::amounts_out;
use crate::shard::{ApplyError, FORMAT, Shard};
use crate::wire::entries::{ParsedBatch, ParsedEntry};
use crate::wire::messages::{
    AccountState, Balance, BookState, Genesis, ReplaceOrder, ShardCore, ShardState, SignedBatch, Timer,
};
use crate::wire::{BatchHead, Command, Message, WireError, decode_batch};

/// Batches, and a copy of the part of a shard that they can reach.
#[derive(Clone, Debug)]
pub struct WhatIf {
    copy: Shard,
    heads: Vec<BatchHead>,
    commands: Vec<Command>,
    t_us: u64,
}

impl Shard {
    /// Return what is needed to execute encoded batches at `t_us`, or at the shard's own time where that is later.
    ///
    /// It takes as long as the batches can reach orders, not as the shard has them. Shard, nonce and time of validity
    /// of the batches do not matter.
    ///
    /// # Errors
    /// A batch is not canonical.
    pub fn what_if(&self, batches: &[&[u8]], t_us: u64) -> Result<WhatIf, WireError> {
        let mut commands = Vec::new();
        let heads = batches.iter().map(|batch| decode_batch(batch, &mut commands)).collect::<Result<Vec<_>, _>>()?;
        let part = self.part_for(&heads, &commands);
        // What a shard exports it loads; a whole copy costs time and nothing else.
        let copy = Self::load(&part).unwrap_or_else(|_| self.clone());
        Ok(WhatIf { copy, heads, commands, t_us: t_us.max(self.core.t_us) })
    }

    /// Return as much of the state as these batches can reach: they meet what they would meet in all of it.
    ///
    /// That is every order of their accounts, and of the books in which they can trade as many orders as all their
    /// commands together could end; with the funds that these orders hold. Live nonces and links that came in are left
    /// out. A shard that has a mass cancel under way is taken whole: it goes on first, through books that the batches
    /// do not name.
    fn part_for(&self, heads: &[BatchHead], commands: &[Command]) -> ShardState<'_> {
        if !self.pending.is_empty() {
            return self.export();
        }
        let accounts: BTreeSet<u64> = heads.iter().map(|head| head.account).collect();
        let senders: Vec<u32> = accounts.iter().filter_map(|account| self.floor.accounts.find(*account)).collect();
        let takers = self.takers(heads, commands);
        let reached = self.books_reached(&takers, &senders, commands);
        let mut owners = BTreeSet::new();
        let mut locked: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        let mut books = Vec::with_capacity(reached.len());
        for (market, place) in &reached {
            let ended_max = takers.get(market).copied().unwrap_or(0).saturating_mul(COMMAND_EVENTS_MAX);
            let book = &self.floor.books[*place as usize];
            let [bids, asks] = [Side::Buy, Side::Sell].map(|side| {
                let orders = self.reachable(*place, side, ended_max, &senders);
                for &slot in &orders {
                    let owner = self.floor.pool.node(slot).owner;
                    owners.insert(owner);
                    *locked.entry((owner, book.asset_given(side))).or_insert(0) += self.floor.held_units(slot);
                }
                orders.into_iter().map(|slot| self.export_order(slot)).collect()
            });
            books.push(BookState {
                market: book.market.to_message(),
                market_seq: book.market_seq,
                last_price_ticks: book.last_price_ticks,
                bids,
                asks,
            });
        }
        owners.extend(&senders);
        ShardState {
            format: FORMAT,
            core: self.core_without_what_came_in(),
            last_order: self.floor.last_order,
            last_trade: self.floor.last_trade,
            last_cancel_all: self.last_cancel_all,
            last_timer: self.last_timer,
            books,
            accounts: self.accounts_with(owners, &locked),
            fees: amounts_out(&self.floor.accounts.fees),
            timers: self
                .timers
                .iter()
                .filter(|(_, (market, _))| reached.contains_key(market))
                .map(|(&(deadline_us, timer_id), &(market, state))| Timer { deadline_us, timer_id, market, state })
                .collect(),
            pending: Vec::new(),
        }
    }

    /// Return, by market that there is, how many of the commands may trade there.
    fn takers(&self, heads: &[BatchHead], commands: &[Command]) -> BTreeMap<u32, usize> {
        let placed: BTreeSet<u32> = commands
            .iter()
            .filter_map(|command| if let Command::Place(command) = command { Some(command.market) } else { None })
            .collect();
        let mut takers = BTreeMap::new();
        for head in heads {
            for command in commands_of(head, commands) {
                match command {
                    Command::Place(command) => *takers.entry(command.market).or_insert(0) += 1,
                    Command::Replace(command) => match self.market_of(head.account, command) {
                        Some(market) => *takers.entry(market).or_insert(0) += 1,
                        // It may name an order that the batches themselves place, in a market that they then name, too.
                        None => placed.iter().for_each(|market| *takers.entry(*market).or_insert(0) += 1),
                    },
                    _ => {}
                }
            }
        }
        takers.retain(|market, _| self.floor.book_of(*market).is_some());
        takers
    }

    /// Return the market of the open order that an account's command names.
    fn market_of(&self, account: u64, command: &ReplaceOrder) -> Option<u32> {
        let owner = self.floor.accounts.find(account)?;
        let slot = if command.order_id == 0 {
            self.floor.slot_of_client(owner, command.client_order_id)?
        } else {
            self.floor.slot_of(command.order_id)?
        };
        let (book, _, _) = self.floor.where_is(slot);
        (self.floor.pool.node(slot).owner == owner).then(|| self.floor.books[book as usize].market.market)
    }

    /// Return the books that the batches name or in which their accounts have orders, by market, with their places.
    fn books_reached(
        &self,
        takers: &BTreeMap<u32, usize>,
        senders: &[u32],
        commands: &[Command],
    ) -> BTreeMap<u32, u32> {
        let floor = &self.floor;
        let named = commands.iter().filter_map(|command| match command {
            Command::Place(command) => Some(command.market),
            Command::CancelAll(command) => Some(command.market),
            _ => None,
        });
        let owned = senders
            .iter()
            .flat_map(|owner| floor.groups_of(*owner))
            .map(|(_, group)| floor.books[group.book() as usize].market.market);
        let markets = takers.keys().copied().chain(named).chain(owned);
        markets.filter_map(|market| Some((market, floor.book_of(market)?))).collect()
    }

    /// Return the orders of a side that can be met before `ended_max` others are gone, and the accounts' own.
    ///
    /// Those of the accounts can be gone without having been met, so as many more are taken.
    fn reachable(&self, book: u32, side: Side, ended_max: usize, senders: &[u32]) -> Vec<u32> {
        let floor = &self.floor;
        let own: Vec<u32> = senders
            .iter()
            .filter_map(|owner| floor.group_in(*owner, book, side))
            .flat_map(|group| floor.orders_of_group(group))
            .collect();
        if ended_max == 0 {
            return own;
        }
        let half = floor.books[book as usize].half(side);
        let mut found: Vec<u32> = floor.pool.orders(half).take(ended_max.saturating_add(own.len())).collect();
        let taken: HashSet<u32> = found.iter().copied().collect();
        found.extend(own.into_iter().filter(|slot| !taken.contains(slot)));
        found
    }

    fn core_without_what_came_in(&self) -> ShardCore<'_> {
        let core = &self.core;
        ShardCore {
            // It was decoded when it was loaded.
            genesis: Genesis::decode(&core.genesis).expect("a genesis stays canonical"),
            n: core.n,
            t_us: core.t_us,
            chain_hash: &core.chain_hash,
            rules: core.rules,
            settings: core.settings,
            operators: self.export_operators(),
            control_floor: core.control_floor,
            nonces: Vec::new(),
            links_in: Vec::new(),
            links_out: self.export_links_out(),
        }
    }

    /// Return accounts with all that they have free, and with what the orders hold that were taken.
    fn accounts_with(&self, owners: BTreeSet<u32>, locked: &BTreeMap<(u32, u32), u64>) -> Vec<AccountState> {
        let accounts = &self.floor.accounts;
        let states = owners.into_iter().map(|owner| {
            let row = accounts.row(owner);
            let balances = row.assets.iter().filter_map(|&asset| {
                let free_units = accounts.balance(owner, asset)?.free_units;
                let locked_units = locked.get(&(owner, asset)).copied().unwrap_or(0);
                Some(Balance { asset, free_units, locked_units })
            });
            AccountState { account: row.number, account_seq: row.account_seq, balances: balances.collect() }
        });
        states.collect()
    }
}

impl WhatIf {
    /// Return position, time and chain hash of the shard when the copy was taken.
    #[must_use]
    pub fn position(&self) -> (u64, u64, [u8; HASH_BYTES]) {
        let core = &self.copy.core;
        (core.n, core.t_us, core.chain_hash)
    }

    /// Execute the batches on the copy and return the encoded execution frame.
    ///
    /// # Errors
    /// The time is beyond the last that there is.
    pub fn run(self) -> Result<Vec<u8>, ApplyError> {
        let Self { mut copy, heads, commands, t_us } = self;
        let n = copy.core.n + 1;
        let signed = SignedBatch { key_id: &[0; KEY_ID_BYTES], payload: &[], signature: &[0; SIGNATURE_BYTES] };
        // Valid for as short as can be, under nonces of a key that nobody has: no rule of replay protection can refuse.
        let valid_until_ms = t_us / 1000 + 1;
        let asked = (1..).zip(heads).map(|(nonce, head)| ParsedBatch {
            signed,
            head: Some(BatchHead { shard: copy.core.shard, nonce, valid_until_ms, ..head }),
            digest: [0; HASH_BYTES],
        });
        let entry = ParsedEntry {
            well_formed: true,
            control_n: copy.core.control_floor,
            batches: asked.collect(),
            links: Vec::new(),
            operations: Vec::new(),
            requests: 0,
        };
        // There is no entry: the hash of none stands for it.
        copy.write_head(n, t_us, &input_hash(n, t_us, &[]));
        copy.execute(n, t_us, &entry, &commands).map_err(ApplyError::Stop)?;
        Ok(std::mem::take(&mut copy.floor.writer.out))
    }
}

fn commands_of<'c>(head: &BatchHead, commands: &'c [Command]) -> &'c [Command] {
    let first = head.first as usize;
    commands.get(first..first + head.len as usize).unwrap_or_default()
}
