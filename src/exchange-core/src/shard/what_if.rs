//! What-if: as much of a shard's state as some batches can reach, and their execution on it
//! (`exchange.engine.reference_what_if`).

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashSet;

use crate::hashing::input_hash;
use crate::kinds::Side;
use crate::limits::{COMMAND_EVENTS_MAX, ENTRY_WORK_MAX, KEY_ID_BYTES, SIGNATURE_BYTES};
use crate::shard::{ApplyError, FORMAT, Shard};
use crate::wire::entries::{ParsedBatch, ParsedEntry};
use crate::wire::messages::{AccountState, Balance, BookState, ReplaceOrder, ShardState, SignedBatch, Timer};
use crate::wire::{BatchHead, Command, WireError, decode_batch};

/// Batches, and the part of a shard that they can reach. It may go to another thread.
#[derive(Clone, Debug)]
pub struct WhatIf {
    part: Shard,
    heads: Vec<BatchHead>,
    commands: Vec<Command>,
    t_us: u64,
}

impl WhatIf {
    /// Return position, time in microseconds and chain hash of the shard when the copy was taken.
    #[must_use]
    pub fn position(&self) -> (u64, u64, [u8; 32]) {
        (self.part.position(), self.part.t_us(), self.part.chain_hash())
    }

    /// Execute the batches on the copy, once, and return the encoded execution frame.
    ///
    /// # Errors
    /// The shard would stop.
    pub fn run(mut self) -> Result<Vec<u8>, ApplyError> {
        let part = &mut self.part;
        // Valid for as short as can be, under nonces of a key that nobody has: no rule of replay protection can refuse.
        let (shard, valid_until_ms) = (part.shard(), self.t_us / 1000 + 1);
        let signed = SignedBatch { key_id: &[0; KEY_ID_BYTES], payload: &[], signature: &[0; SIGNATURE_BYTES] };
        let batches = (1..).zip(&self.heads).map(|(nonce, head)| ParsedBatch {
            signed,
            head: Some(BatchHead { shard, nonce, valid_until_ms, ..*head }),
            digest: [0; 32],
        });
        let entry = ParsedEntry {
            well_formed: true,
            control_n: part.core.control_floor,
            batches: batches.collect(),
            ..ParsedEntry::default()
        };
        let n = part.position() + 1;
        // There is no entry: the hash of none stands for it.
        part.write_head(n, self.t_us, &input_hash(n, self.t_us, b""));
        part.execute(n, self.t_us, &entry, &self.commands).map_err(ApplyError::Stop)?;
        Ok(std::mem::take(&mut part.floor.writer.out))
    }
}

impl Shard {
    /// Return a copy on which batches can be executed as the next entry, of time `t_us` or of the last one's.
    ///
    /// `batches` are encoded; their shard, nonce and `valid_until_ms` are not looked at.
    ///
    /// # Errors
    /// A batch is not canonical.
    ///
    /// # Panics
    /// Never: a part of a state that was loaded can be loaded.
    pub fn what_if(&self, batches: &[&[u8]], t_us: u64) -> Result<WhatIf, WireError> {
        let mut commands = Vec::new();
        let heads: Vec<BatchHead> =
            batches.iter().map(|batch| decode_batch(batch, &mut commands)).collect::<Result<_, _>>()?;
        let state = if self.pending.is_empty() {
            self.part_for(&heads, &commands)
        } else {
            // A mass cancel goes on first, through books that the batches do not name.
            self.export()
        };
        let part = Self::load(&state).expect("what was loaded once can be loaded again");
        Ok(WhatIf { part, heads, commands, t_us: t_us.max(self.core.t_us) })
    }

    /// Return as much of the state as these batches can reach: they meet what they would meet in all of it.
    ///
    /// That is every order of their accounts, and of the books in which they can trade as many orders as all their
    /// commands together could end; with the funds that these orders hold. Live nonces and links that came in are left
    /// out.
    fn part_for(&self, heads: &[BatchHead], commands: &[Command]) -> ShardState<'_> {
        let floor = &self.floor;
        let accounts: BTreeSet<u64> = heads.iter().map(|head| head.account).collect();
        let owners: Vec<u32> = accounts.iter().filter_map(|&account| floor.accounts.find(account)).collect();
        let takers = self.takers(heads, commands);
        let own = owners.iter().flat_map(|&owner| floor.groups_of(owner, None, true).map(|(_, group)| group.book()));
        let named = commands.iter().filter_map(|command| match command {
            Command::Place(command) => floor.book_of(command.market),
            Command::CancelAll(command) => floor.book_of(command.market),
            _ => None,
        });
        let reached: BTreeSet<u32> = takers.keys().copied().chain(own).chain(named).collect();
        let mut places: Vec<u32> = reached.into_iter().collect();
        places.sort_unstable_by_key(|&place| floor.books[place as usize].market.market);

        let mut locked: BTreeMap<(u64, u32), u64> = BTreeMap::new();
        let mut known = accounts;
        let mut books = Vec::with_capacity(places.len());
        for &place in &places {
            let book = &floor.books[place as usize];
            let mut side = |side: Side| {
                // No entry ends more orders than it has work, and those of its last command.
                let ended_max = takers
                    .get(&place)
                    .map_or(0, |&commands| (commands * COMMAND_EVENTS_MAX).min(ENTRY_WORK_MAX + COMMAND_EVENTS_MAX));
                let slots = self.reachable(place, side, ended_max, &owners);
                for &slot in &slots {
                    let account = floor.accounts.row(floor.pool.node(slot).owner).number;
                    known.insert(account);
                    *locked.entry((account, book.asset_given(side))).or_default() += floor.held_units(slot);
                }
                slots.into_iter().map(|slot| self.export_order(slot)).collect::<Vec<_>>()
            };
            let (bids, asks) = (side(Side::Buy), side(Side::Sell));
            books.push(BookState {
                market: book.market.to_message(),
                market_seq: book.market_seq,
                last_price_ticks: book.last_price_ticks,
                bids,
                asks,
            });
        }
        let markets: BTreeSet<u32> = books.iter().map(|book| book.market.market).collect();
        ShardState {
            format: FORMAT,
            core: self.export_small_core(),
            last_order: floor.last_order,
            last_trade: floor.last_trade,
            last_cancel_all: self.last_cancel_all,
            last_timer: self.last_timer,
            books,
            accounts: known.iter().filter_map(|&account| self.part_of_account(account, &locked)).collect(),
            fees: super::state::amounts_out(&floor.accounts.fees),
            timers: self
                .timers
                .iter()
                .filter(|(_, (market, _))| markets.contains(market))
                .map(|(&(deadline_us, timer_id), &(market, state))| Timer { deadline_us, timer_id, market, state })
                .collect(),
            pending: Vec::new(),
        }
    }

    /// Return, by place of book, how many of the commands may trade there.
    fn takers(&self, heads: &[BatchHead], commands: &[Command]) -> BTreeMap<u32, usize> {
        let floor = &self.floor;
        let placed: BTreeSet<u32> = commands
            .iter()
            .filter_map(|command| match command {
                Command::Place(command) => floor.book_of(command.market),
                _ => None,
            })
            .collect();
        let mut takers = BTreeMap::new();
        let mut of_any = 0;
        for head in heads {
            for command in &commands[head.first as usize..][..head.len as usize] {
                match command {
                    Command::Place(command) => {
                        if let Some(place) = floor.book_of(command.market) {
                            *takers.entry(place).or_default() += 1;
                        }
                    }
                    Command::Replace(command) => match self.slot_of_replaced(head.account, command) {
                        Some(slot) => *takers.entry(floor.where_is(slot).0).or_default() += 1,
                        // It may name an order that the batches themselves place, in a market that they then name, too.
                        None => of_any += 1,
                    },
                    _ => {}
                }
            }
        }
        for place in placed {
            *takers.entry(place).or_default() += of_any;
        }
        takers
    }

    fn slot_of_replaced(&self, account: u64, command: &ReplaceOrder) -> Option<u32> {
        let owner = self.floor.accounts.find(account)?;
        let slot = if command.order_id != 0 {
            self.floor.slot_of(command.order_id)
        } else {
            self.floor.slot_of_client(owner, command.client_order_id)
        };
        slot.filter(|&slot| self.floor.pool.node(slot).owner == owner)
    }

    /// Return the orders of a side that can be met before `ended_max` others are gone, and the accounts' own.
    ///
    /// Those of the accounts can be gone without having been met, so as many more are taken.
    fn reachable(&self, place: u32, side: Side, ended_max: usize, owners: &[u32]) -> Vec<u32> {
        let floor = &self.floor;
        let groups = owners.iter().filter_map(|&owner| floor.group_in(owner, place, side));
        let own: Vec<u32> = groups.flat_map(|group| floor.orders_of_group(group)).collect();
        if ended_max == 0 {
            return own;
        }
        let half = floor.books[place as usize].half(side);
        let mut found: Vec<u32> = floor.pool.orders(half).take(ended_max + own.len()).collect();
        let first: HashSet<u32> = found.iter().copied().collect();
        found.extend(own.into_iter().filter(|slot| !first.contains(slot)));
        found
    }

    /// Return what an account has, of its locked units those that the orders taken hold.
    fn part_of_account(&self, account: u64, locked: &BTreeMap<(u64, u32), u64>) -> Option<AccountState> {
        let accounts = &self.floor.accounts;
        let owner = accounts.find(account)?;
        let balances = self.balances_of(owner).into_iter().map(|(asset, free_units, _)| Balance {
            asset,
            free_units,
            locked_units: locked.get(&(account, asset)).copied().unwrap_or(0),
        });
        let account_seq = accounts.row(owner).account_seq;
        Some(AccountState { account, account_seq, balances: balances.collect() })
    }
}
