//! What accounts have in a shard: free and locked units per asset, and the fees that the exchange collected.
//!
//! Accounts are named by their place here (`owner`); whoever debits one credits another with the same units. A rule
//! that can never be broken and was, is remembered in `broken`: the entry under way then ends in a stop.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashTable};

use crate::ladder::NONE;
use crate::shard::errors::Stop;
use crate::shard::mix;
use crate::units::AMOUNT_UNITS_MAX;

#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub number: u64,
    pub account_seq: u64,
    pub open_orders: u32,
    /// First of the account's groups of open orders, by side, and by whether they are parked.
    pub groups: [u32; 4],
    /// How often a halt of some market had ended when the account's groups were parked.
    pub parked_at: u64,
    /// Assets that it has or had something of.
    pub assets: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Balance {
    owner: u32,
    pub asset: u32,
    pub free_units: u64,
    pub locked_units: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    rows: Vec<Account>,
    by_number: HashMap<u64, u32>,
    balances: HashTable<Balance>,
    pub fees: BTreeMap<u32, u64>,
    pub broken: Option<Stop>,
}

#[inline]
fn hash_of(owner: u32, asset: u32) -> u64 {
    mix(u64::from(owner) << 32 | u64::from(asset))
}

impl Accounts {
    /// Return the place of an account, which is made where there is none.
    #[inline]
    pub fn owner_of(&mut self, number: u64) -> u32 {
        if let Some(&owner) = self.by_number.get(&number) {
            return owner;
        }
        let owner = u32::try_from(self.rows.len()).expect("fewer than 2^32 accounts");
        self.rows.push(Account {
            number,
            account_seq: 0,
            open_orders: 0,
            groups: [NONE; 4],
            parked_at: 0,
            assets: Vec::new(),
        });
        self.by_number.insert(number, owner);
        owner
    }

    /// Return the place of an account that there is.
    pub fn find(&self, number: u64) -> Option<u32> {
        self.by_number.get(&number).copied()
    }

    #[inline]
    pub fn row(&self, owner: u32) -> &Account {
        &self.rows[owner as usize]
    }

    #[inline]
    pub fn row_mut(&mut self, owner: u32) -> &mut Account {
        &mut self.rows[owner as usize]
    }

    pub fn rows(&self) -> &[Account] {
        &self.rows
    }

    /// Return the next sequence number of the account's events.
    #[inline]
    pub fn next_seq(&mut self, owner: u32) -> u64 {
        let row = &mut self.rows[owner as usize];
        row.account_seq = row.account_seq.wrapping_add(1);
        row.account_seq
    }

    /// Return the units that no order holds.
    #[inline]
    pub fn free(&self, owner: u32, asset: u32) -> u64 {
        self.balance(owner, asset).map_or(0, |balance| balance.free_units)
    }

    #[inline]
    pub fn balance(&self, owner: u32, asset: u32) -> Option<&Balance> {
        self.balances.find(hash_of(owner, asset), |balance| balance.owner == owner && balance.asset == asset)
    }

    /// Add free units.
    #[inline]
    pub fn credit(&mut self, owner: u32, asset: u32, units: u64) {
        let balance = self.balance_mut(owner, asset);
        balance.free_units = balance.free_units.wrapping_add(units);
        // Each part and what is added is below 2^63; a sum that wraps is not below the bound either.
        let whole = u128::from(balance.free_units) + u128::from(balance.locked_units);
        if whole > u128::from(AMOUNT_UNITS_MAX) {
            self.stop("I-02 a balance reached 2^63");
        }
    }

    /// Take free units, to be credited elsewhere; the caller has checked that they are there.
    #[inline]
    pub fn debit(&mut self, owner: u32, asset: u32, units: u64) {
        let balance = self.balance_mut(owner, asset);
        match balance.free_units.checked_sub(units) {
            Some(left) => balance.free_units = left,
            None => self.stop("I-02 free funds fell below zero"),
        }
    }

    /// Hold `needed` units instead of `held`.
    #[inline]
    pub fn hold(&mut self, owner: u32, asset: u32, held: u64, needed: u64) {
        if held == needed {
            return;
        }
        let balance = self.balance_mut(owner, asset);
        let free = balance.free_units.wrapping_add(held).checked_sub(needed);
        let locked = balance.locked_units.wrapping_add(needed).checked_sub(held);
        match (free, locked) {
            (Some(free), Some(locked)) => (balance.free_units, balance.locked_units) = (free, locked),
            _ => self.stop("I-02 a hold exceeds what there is"),
        }
    }

    /// Take locked units away, to be credited elsewhere.
    #[inline]
    pub fn spend(&mut self, owner: u32, asset: u32, units: u64) {
        let balance = self.balance_mut(owner, asset);
        match balance.locked_units.checked_sub(units) {
            Some(left) => balance.locked_units = left,
            None => self.stop("I-02 more was spent than was held"),
        }
    }

    /// Credit the exchange with a fee.
    #[inline]
    pub fn collect(&mut self, asset: u32, units: u64) {
        if units > 0 {
            let fees = self.fees.entry(asset).or_insert(0);
            *fees = fees.wrapping_add(units);
            if *fees > AMOUNT_UNITS_MAX {
                self.stop("I-02 collected fees reached 2^63");
            }
        }
    }

    /// Set what an account has, when a state is loaded.
    pub fn load(&mut self, owner: u32, asset: u32, free_units: u64, locked_units: u64) {
        let balance = self.balance_mut(owner, asset);
        (balance.free_units, balance.locked_units) = (free_units, locked_units);
    }

    /// Remember that a rule was broken that can never be.
    #[cold]
    pub fn stop(&mut self, detail: &str) {
        if self.broken.is_none() {
            self.broken = Some(Stop::invariant(detail.to_owned()));
        }
    }

    #[inline]
    fn balance_mut(&mut self, owner: u32, asset: u32) -> &mut Balance {
        let hash = hash_of(owner, asset);
        let rows = &mut self.rows;
        self.balances
            .entry(
                hash,
                |balance| balance.owner == owner && balance.asset == asset,
                |balance| hash_of(balance.owner, balance.asset),
            )
            .or_insert_with(|| {
                rows[owner as usize].assets.push(asset);
                Balance { owner, asset, free_units: 0, locked_units: 0 }
            })
            .into_mut()
    }
}
