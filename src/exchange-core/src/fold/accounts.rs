//! Accounts: what they have, and the events that are theirs.

use super::errors::{Failure, Reason, fail};
use super::{NONE, ShardFold, slot_of};

/// Part of a link: units of an asset that were debited from an account at a time; account 0: the exchange's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Sent {
    pub account: u64,
    pub asset: u32,
    pub amount_units: u64,
    pub debited_us: u64,
}

#[allow(clippy::struct_field_names)]
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) account: u64,
    pub(super) account_seq: u64,
    /// Units by asset, ascending.
    pub(super) units: Vec<(u32, i128)>,
    pub(super) first_order: u32,
    pub(super) last_order: u32,
    /// Frame in which it was touched last, its row among the accounts of that frame, and the event.
    pub(super) touched_n: u64,
    pub(super) row: u32,
    pub(super) touched_place: u32,
}

impl Account {
    pub(super) fn new(account: u64, account_seq: u64) -> Self {
        Self {
            account,
            account_seq,
            units: Vec::new(),
            first_order: NONE,
            last_order: NONE,
            touched_n: 0,
            row: 0,
            touched_place: 0,
        }
    }

    #[inline]
    pub(super) fn add(&mut self, asset: u32, change: i128) -> i128 {
        let place = match self.units.binary_search_by_key(&asset, |row| row.0) {
            Ok(place) => place,
            Err(place) => {
                self.units.insert(place, (asset, 0));
                place
            }
        };
        let units = &mut self.units[place].1;
        *units = units.saturating_add(change);
        *units
    }
}

impl ShardFold {
    /// Write down that the event is the account's, and return the account.
    #[inline]
    pub(super) fn touch(&mut self, account: u64, account_seq: u64) -> Result<u32, Failure> {
        let accounts = &mut self.accounts;
        let slot = *self.account_of.entry(account).or_insert_with(|| {
            accounts.push(Account::new(account, 0));
            slot_of(accounts.len() - 1)
        });
        let owner = &mut accounts[slot as usize];
        if owner.account_seq.checked_add(1) != Some(account_seq) {
            let detail = format!("account {account}: {account_seq} after {}", owner.account_seq);
            return fail(Reason::SequenceGap, detail);
        }
        owner.account_seq = account_seq;
        if owner.touched_n != self.n {
            owner.touched_n = self.n;
            owner.touched_place = 0;
            owner.row = slot_of(self.rows.len());
            self.touches_of_row.push(0);
            self.rows.push(account);
        }
        if owner.touched_place != self.place {
            owner.touched_place = self.place;
            self.touches.push((owner.row, self.place));
            self.touches_of_row[owner.row as usize] += 1;
        }
        Ok(slot)
    }

    #[inline]
    pub(super) fn credit(&mut self, owner: u32, asset: u32, units: i128) {
        self.accounts[owner as usize].add(asset, units);
    }

    #[inline]
    pub(super) fn debit(&mut self, owner: u32, asset: u32, units: i128) -> Result<(), Failure> {
        let left = self.accounts[owner as usize].add(asset, -units);
        if left < 0 {
            return fail(Reason::Overdrawn, format!("an account has {left} of asset {asset}"));
        }
        Ok(())
    }
}
