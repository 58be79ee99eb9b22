//! Batches: the hot path. Commands are appended to a caller's vector, one allocation for many.

use crate::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX};
use crate::units::{SHARD_MAX, TIME_US_MAX};
use crate::wire::messages::{
    AllocateFunds, CancelAllOrders, CancelOrder, OpenAccount, PlaceOrder, ReduceOrder, RegisterKey, ReleaseFunds,
    ReplaceOrder, RequestWithdrawal, RevokeKey,
};
use crate::wire::read::{
    LENGTH_DELIMITED, Read, VARINT, check_place, content_end, member_end, member_start, number, out_of_range,
    unknown_field, varint, wrong_length,
};
use crate::wire::{Message, WireError, WireReason};

/// A command as a trading shard takes it.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Place(PlaceOrder),
    Cancel(CancelOrder),
    Reduce(ReduceOrder),
    Replace(ReplaceOrder),
    CancelAll(CancelAllOrders),
    Release(ReleaseFunds),
    /// One for shard 0: its bytes are canonical, what they say is not kept.
    NotForTrading,
}

/// A batch; its commands are `commands[first .. first + len]` of the vector that it was decoded into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    /// Account that the commands are for; 1 or more.
    pub account: u64,
    /// Shard that the batch was signed for.
    pub shard: u32,
    /// Number that the key uses once while the batch is valid.
    pub nonce: u64,
    /// Time from which it is not executed any more, in milliseconds.
    pub valid_until_ms: u64,
    /// Place of its first command.
    pub first: u32,
    /// Number of its commands; 1 or more.
    pub len: u32,
}

/// Return the batch of which `payload` is the canonical encoding, and append its commands.
///
/// # Errors
/// `payload` is the canonical encoding of none, or exceeds LIMITS; `commands` is as before.
#[inline]
pub fn decode_batch(payload: &[u8], commands: &mut Vec<Command>) -> Result<BatchHead, WireError> {
    if payload.len() > BATCH_BYTES_MAX {
        let detail = format!("{} bytes, allowed are {BATCH_BYTES_MAX}", payload.len());
        return Err(WireError { reason: WireReason::Length, field: "Batch".to_owned(), offset: 0, detail });
    }
    let before = commands.len();
    read_batch(payload, commands).map_err(|error| {
        commands.truncate(before);
        error.of("Batch")
    })
}

#[inline]
fn read_batch(data: &[u8], commands: &mut Vec<Command>) -> Read<BatchHead> {
    let first = commands.len();
    let (mut account, mut shard, mut nonce, mut valid_until_ms) = (0, 0, 0, 0);
    let (mut pos, mut last, end) = (0, 0, data.len());
    while pos < end {
        let at = pos;
        let tag = varint(data, &mut pos, end, "", at)?;
        match tag >> 3 {
            1 => {
                check_place("account", tag, VARINT, last, false, at)?;
                account = number(data, &mut pos, end, "account", (1, u64::MAX), at)?;
            }
            2 => {
                check_place("shard", tag, VARINT, last, false, at)?;
                shard = number(data, &mut pos, end, "shard", (0, u64::from(SHARD_MAX)), at)? as u32;
            }
            3 => {
                check_place("nonce", tag, VARINT, last, false, at)?;
                nonce = number(data, &mut pos, end, "nonce", (0, u64::MAX), at)?;
            }
            4 => {
                check_place("valid_until_ms", tag, VARINT, last, false, at)?;
                valid_until_ms = number(data, &mut pos, end, "valid_until_ms", (1, TIME_US_MAX), at)?;
            }
            5 => {
                check_place("commands", tag, LENGTH_DELIMITED, last, true, at)?;
                let stop = content_end(data, &mut pos, end, "commands", at)?;
                let place = commands.len() - first;
                if place == BATCH_COMMANDS_MAX {
                    return Err(wrong_length("commands", place + 1, 1, BATCH_COMMANDS_MAX, at));
                }
                let command =
                    read_command(data, pos, stop, at).map_err(|error| error.within_element("commands", place))?;
                commands.push(command);
                pos = stop;
            }
            _ => return Err(unknown_field("Batch", tag, at)),
        }
        last = tag >> 3;
    }
    if account == 0 {
        return Err(out_of_range("account", 0, 1, u64::MAX, 0));
    }
    if valid_until_ms == 0 {
        return Err(out_of_range("valid_until_ms", 0, 1, TIME_US_MAX, 0));
    }
    let len = commands.len() - first;
    if len == 0 {
        return Err(wrong_length("commands", 0, 1, BATCH_COMMANDS_MAX, 0));
    }
    Ok(BatchHead { account, shard, nonce, valid_until_ms, first: first as u32, len: len as u32 })
}

#[inline]
fn name_of(number: u64) -> Option<&'static str> {
    Some(match number {
        1 => "place",
        2 => "cancel",
        3 => "reduce",
        4 => "replace",
        5 => "cancel_all",
        6 => "release",
        7 => "allocate",
        8 => "withdraw",
        9 => "register_key",
        10 => "revoke_key",
        11 => "open_account",
        _ => return None,
    })
}

#[inline]
fn read_command(data: &[u8], start: usize, end: usize, at: usize) -> Read<Command> {
    let mut pos = start;
    let (number, stop) = member_start(data, &mut pos, end, "Command", at, name_of)?;
    let read = match number {
        1 => PlaceOrder::read(data, pos, stop, start).map(Command::Place),
        2 => CancelOrder::read(data, pos, stop, start).map(Command::Cancel),
        3 => ReduceOrder::read(data, pos, stop, start).map(Command::Reduce),
        4 => ReplaceOrder::read(data, pos, stop, start).map(Command::Replace),
        5 => CancelAllOrders::read(data, pos, stop, start).map(Command::CancelAll),
        6 => ReleaseFunds::read(data, pos, stop, start).map(Command::Release),
        7 => AllocateFunds::read(data, pos, stop, start).map(|_| Command::NotForTrading),
        8 => RequestWithdrawal::read(data, pos, stop, start).map(|_| Command::NotForTrading),
        9 => RegisterKey::read(data, pos, stop, start).map(|_| Command::NotForTrading),
        10 => RevokeKey::read(data, pos, stop, start).map(|_| Command::NotForTrading),
        _ => OpenAccount::read(data, pos, stop, start).map(|_| Command::NotForTrading),
    };
    let command = read.map_err(|error| error.within(name_of(number).unwrap_or_default()))?;
    member_end(data, stop, end, "Command", name_of)?;
    Ok(command)
}
