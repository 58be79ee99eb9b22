//! The hot path: the commands of batches, one after the other in a vector of the caller's.

use crate::limits::BATCH_COMMANDS_MAX;
use crate::units::{SHARD_MAX, TIME_US_MAX};
use crate::wire::messages::{
    AllocateFunds, Batch, CancelAllOrders, CancelOrder, OpenAccount, PlaceOrder, ReduceOrder, RegisterKey,
    ReleaseFunds, ReplaceOrder, RequestWithdrawal, RevokeKey,
};
use crate::wire::read::Reader;
use crate::wire::{Message, WireError, spec};

/// A command as a trading shard takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Place an order.
    Place(PlaceOrder),
    /// Cancel an order.
    Cancel(CancelOrder),
    /// Take lots from an order.
    Reduce(ReduceOrder),
    /// Change an order's price or quantity.
    Replace(ReplaceOrder),
    /// Cancel what the account has open.
    CancelAll(CancelAllOrders),
    /// Send funds back to the treasury.
    Release(ReleaseFunds),
    /// A command that only shard 0 executes: its bytes were checked, and it is refused whatever they say.
    NotForTrading,
}

impl Command {
    /// Return whether it can do nothing but take orders, or lots of them, from a book.
    #[must_use]
    pub fn is_cancel(&self) -> bool {
        matches!(self, Self::Cancel(_) | Self::CancelAll(_) | Self::Reduce(_))
    }
}

/// A batch but for its commands, which are `commands[first .. first + len]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    /// Account that the commands are for; 1 or more.
    pub account: u64,
    /// Shard that is to execute them.
    pub shard: u32,
    /// Number that the key uses once while the batch is valid.
    pub nonce: u64,
    /// When it stops being valid, in milliseconds since 1970.
    pub valid_until_ms: u64,
    /// Where its commands begin.
    pub first: u32,
    /// How many there are, 1 to `BATCH_COMMANDS_MAX`.
    pub len: u32,
}

/// Append the commands of an encoded `Batch` and return the rest of it.
///
/// # Errors
/// `payload` is not canonical or exceeds LIMITS: the error of `Batch::decode`. `commands` is as before.
pub fn decode_batch(payload: &[u8], commands: &mut Vec<Command>) -> Result<BatchHead, WireError> {
    read_batch(payload, commands).ok_or_else(|| spec::explain(Batch::SPEC, payload))
}

/// Do what `decode_batch` does, and spend nothing on saying what is wrong.
#[inline]
pub(crate) fn read_batch(payload: &[u8], commands: &mut Vec<Command>) -> Option<BatchHead> {
    let first = commands.len();
    let head = read_fields(payload, commands);
    if head.is_none() {
        commands.truncate(first);
    }
    head
}

#[inline]
fn read_fields(payload: &[u8], commands: &mut Vec<Command>) -> Option<BatchHead> {
    if payload.len() > Batch::SPEC.total_max {
        return None;
    }
    let first = commands.len();
    let mut reader = Reader::new(payload);
    let mut key = reader.key();
    // The fields of `messages::Batch`, which a property compares.
    if key != 1 << 3 {
        return None;
    }
    reader.skip_key();
    let account = reader.number(1, u64::MAX)?;
    key = reader.key();
    let mut shard = 0;
    if key == 2 << 3 {
        reader.skip_key();
        shard = reader.small_number(1, u64::from(SHARD_MAX))?;
        key = reader.key();
    }
    let mut nonce = 0;
    if key == 3 << 3 {
        reader.skip_key();
        nonce = reader.number(1, u64::MAX)?;
        key = reader.key();
    }
    if key != 4 << 3 {
        return None;
    }
    reader.skip_key();
    let valid_until_ms = reader.number(1, TIME_US_MAX)?;
    key = reader.key();
    while key == (5 << 3 | 2) {
        if commands.len() - first == BATCH_COMMANDS_MAX {
            return None;
        }
        reader.skip_key();
        let outer = reader.enter()?;
        commands.push(read_command(&mut reader)?);
        reader.leave(outer);
        key = reader.key();
    }
    if commands.len() == first || !reader.is_done() {
        return None;
    }
    let (first, len) = (u32::try_from(first).ok()?, u32::try_from(commands.len() - first).ok()?);
    Some(BatchHead { account, shard, nonce, valid_until_ms, first, len })
}

#[inline]
fn read_command(reader: &mut Reader<'_>) -> Option<Command> {
    let key = reader.key();
    if key & 7 != 2 {
        return None;
    }
    reader.skip_key();
    let command = match key >> 3 {
        1 => Command::Place(reader.message()?),
        2 => Command::Cancel(reader.message()?),
        3 => Command::Reduce(reader.message()?),
        4 => Command::Replace(reader.message()?),
        5 => Command::CancelAll(reader.message()?),
        6 => Command::Release(reader.message()?),
        _ => read_other_command(reader, key >> 3)?,
    };
    reader.is_done().then_some(command)
}

#[cold]
fn read_other_command(reader: &mut Reader<'_>, member: u8) -> Option<Command> {
    match member {
        7 => drop(reader.message::<AllocateFunds>()?),
        8 => drop(reader.message::<RequestWithdrawal<'_>>()?),
        9 => drop(reader.message::<RegisterKey<'_>>()?),
        10 => drop(reader.message::<RevokeKey<'_>>()?),
        11 => drop(reader.message::<OpenAccount>()?),
        _ => return None,
    }
    Some(Command::NotForTrading)
}
