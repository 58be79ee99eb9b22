//! What accounts may see of a frame: their own events, with the other side of their trades left out, as encoded
//! `StreamExecutionsResponse`.

use hashbrown::HashMap;

use crate::frames::{Malformed, RawEvent, split};
use crate::wire::messages::{
    CancelAllAccepted, CancelAllDone, CommandRejected, Deposited, FeesPaidOut, FundsCredited, FundsSent, OrderAccepted,
    OrderCancelled, OrderReduced, OrderReplaced, Trade, WithdrawalClosed, WithdrawalRequested,
};
use crate::wire::{EventMember, Message, Sink, varint_len};

/// Most events of one message: below a mebibyte, whatever they are.
pub const MESSAGE_EVENTS_MAX: usize = 4_096;

const CURSOR_KEY: u8 = 1 << 3 | 2;
const T_US_KEY: u8 = 2 << 3;
const EVENTS_KEY: u8 = 7 << 3 | 2;

/// The messages of an account so far.
#[derive(Default)]
struct Feed {
    messages: Vec<Vec<u8>>,
    /// Events of the message under way, encoded, how many, and the place of the last one.
    events: Vec<u8>,
    len: usize,
    last: u32,
}

/// Return the messages of a frame for each of some accounts, in their order; an account without events has none.
///
/// `shard` is the frame's; events up to `after_place`, 1-based, are left out. The cursor of a message is behind its last
/// event, and behind the whole frame in the last message.
///
/// # Errors
///
/// The bytes are no execution frame.
pub fn messages(shard: u32, frame: &[u8], accounts: &[u64], after_place: u32) -> Result<Vec<Vec<Vec<u8>>>, Malformed> {
    let (head, events) = split(frame)?;
    let mut feeds: Vec<Feed> = accounts.iter().map(|_| Feed::default()).collect();
    let at: HashMap<u64, usize> = accounts.iter().copied().zip(0..).collect();
    let mut put = |account: u64, place: u32, write: &dyn Fn(&mut Vec<u8>)| {
        let Some(feed) = at.get(&account).map(|&one| &mut feeds[one]) else { return };
        if feed.len == MESSAGE_EVENTS_MAX {
            feed.end(shard, head.n, head.t_us, feed.last);
        }
        write(&mut feed.events);
        (feed.len, feed.last) = (feed.len + 1, place);
    };
    for (place, event) in (1..).zip(events) {
        let event = event?;
        if place <= after_place {
            continue;
        }
        if event.member == u32::from(Trade::NUMBER) {
            let trade = Trade::decode_or_none(event.content).ok_or(Malformed)?;
            let (maker, taker) = (trade.maker_account, trade.taker_account);
            put(maker, place, &|out| append_seen(out, &trade, maker));
            if taker != maker {
                put(taker, place, &|out| append_seen(out, &trade, taker));
            }
        } else if let Some(account) = account_of(&event)? {
            put(account, place, &|out| append_event(out, event.member, event.content));
        }
    }
    for feed in &mut feeds {
        if feed.len > 0 {
            feed.end(shard, head.n, head.t_us, 0);
        }
    }
    Ok(feeds.into_iter().map(|feed| feed.messages).collect())
}

impl Feed {
    /// End the message under way, its cursor behind an event; 0: behind the whole frame.
    fn end(&mut self, shard: u32, n: u64, t_us: u64, event: u32) {
        let mut cursor = Vec::new();
        cursor.number(1 << 3, u64::from(shard));
        cursor.number(2 << 3, n);
        cursor.number(3 << 3, u64::from(event));
        let mut message = Vec::with_capacity(cursor.len() + 16 + self.events.len());
        message.content(CURSOR_KEY, &cursor);
        message.number(T_US_KEY, t_us);
        message.append(&mut self.events);
        self.messages.push(message);
        self.len = 0;
    }
}

macro_rules! account_of {
    ($($member:ident),* $(,)?) => {
        /// Return the account that an event is numbered for; None: none, or two, as of a trade.
        fn account_of(event: &RawEvent<'_>) -> Result<Option<u64>, Malformed> {
            $(
                if event.member == u32::from($member::NUMBER) {
                    return Ok(Some($member::decode_or_none(event.content).ok_or(Malformed)?.account));
                }
            )*
            Ok(None)
        }
    };
}

account_of! {
    OrderAccepted,
    OrderCancelled,
    CommandRejected,
    OrderReplaced,
    OrderReduced,
    CancelAllAccepted,
    CancelAllDone,
    FundsCredited,
    FundsSent,
    Deposited,
    WithdrawalRequested,
    WithdrawalClosed,
    FeesPaidOut,
}

/// Append an event with its key and length, as element of a field of the number that `ExecutionFrame.events` has.
pub(crate) fn append_event(out: &mut Vec<u8>, member: u32, content: &[u8]) {
    let key = u64::from(member) << 3 | 2;
    let inner = varint_len(key) + varint_len(content.len() as u64) + content.len();
    out.byte(EVENTS_KEY);
    out.varint(inner as u64);
    out.varint(key);
    out.varint(content.len() as u64);
    out.extend_from_slice(content);
}

/// Append a trade as an account may see it: without account, order, sequence number and fee of a side that is another's.
pub(crate) fn append_seen(out: &mut Vec<u8>, trade: &Trade, account: u64) {
    let mut seen = *trade;
    if trade.maker_account != account {
        (seen.maker_account, seen.maker_account_seq, seen.maker_order_id, seen.maker_fee_quote_units) = (0, 0, 0, 0);
    }
    if trade.taker_account != account {
        (seen.taker_account, seen.taker_account_seq, seen.taker_order_id, seen.taker_fee_quote_units) = (0, 0, 0, 0);
    }
    let mut content = Vec::with_capacity(128);
    seen.encode(&mut content);
    append_event(out, u32::from(Trade::NUMBER), &content);
}
