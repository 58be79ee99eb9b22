//! The flow file: what every engine reads, in whatever language it is written.
//!
//! All numbers are little-endian. Header: the 8 bytes `CLOBFLW1`; u32 markets; u32 segments; u64 messages; u64 orders
//! (ids are 1 to this number, each placed once); what all messages come to, as five u64: trades, traded quantity, sum of
//! price times quantity (modulo 2^64), rejected messages, orders open at the end. Then one u64 per segment: its number
//! of messages, with bit 63 set where the clock runs. Then the messages, 32 bytes each: u64 id, i64 price, u32 quantity,
//! u32 market, u8 kind, u8 side (0 buy, 1 sell), u8 time in force, 5 bytes of nothing. A segment whose clock does not
//! run prepares the books for the next one.

use std::fs;
use std::io;
use std::path::Path;

const MAGIC: &[u8; 8] = b"CLOBFLW1";
const MESSAGE_LEN: usize = 32;
const TIMED: u64 = 1 << 63;

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A limit order.
    Place = 0,
    /// The end of an order.
    Cancel = 1,
    /// Fewer lots of an order, which keeps its place.
    Reduce = 2,
    /// Another price and open quantity of an order.
    Replace = 3,
    /// A market order.
    Market = 4,
}

/// What becomes of what is left of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Force {
    /// It rests.
    Gtc = 0,
    /// It is cancelled.
    Ioc = 1,
    /// The order trades in full or not at all.
    Fok = 2,
    /// The order rests or is rejected.
    PostOnly = 3,
}

/// One message. Fields that a kind has no use for are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Order, from 1.
    pub id: u64,
    /// Price in ticks, above 0.
    pub price: i64,
    /// Quantity in lots.
    pub quantity: u32,
    /// Market, from 0.
    pub market: u32,
    /// What it asks for.
    pub kind: Kind,
    /// Whether the order buys.
    pub buys: bool,
    /// What becomes of the rest.
    pub force: Force,
}

/// What came of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Trades, one per maker.
    pub trades: u64,
    /// Lots that traded.
    pub quantity: u64,
    /// Sum of price times lots, modulo 2^64.
    pub notional: u64,
    /// Messages that were refused.
    pub rejected: u64,
    /// Orders that rest at the end.
    pub open: u64,
}

/// A flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Number of markets.
    pub markets: u32,
    /// Number of orders; the largest id.
    pub orders: u64,
    /// What all messages come to.
    pub total: Total,
    /// Segments: number of messages, whether they are timed.
    pub segments: Vec<(usize, bool)>,
    /// All messages.
    pub messages: Vec<Message>,
}

impl Flow {
    /// Write the flow to a file.
    ///
    /// # Errors
    /// As the file system has them.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(256 + self.messages.len() * MESSAGE_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.markets.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.segments.len()).expect("few segments").to_le_bytes());
        let total = |total: &Total| [total.trades, total.quantity, total.notional, total.rejected, total.open];
        let numbers = [self.messages.len() as u64, self.orders]
            .into_iter()
            .chain(total(&self.total))
            .chain(self.segments.iter().map(|(len, timed)| *len as u64 | if *timed { TIMED } else { 0 }));
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for message in &self.messages {
            bytes.extend_from_slice(&message.id.to_le_bytes());
            bytes.extend_from_slice(&message.price.to_le_bytes());
            bytes.extend_from_slice(&message.quantity.to_le_bytes());
            bytes.extend_from_slice(&message.market.to_le_bytes());
            bytes.extend_from_slice(&[message.kind as u8, u8::from(!message.buys), message.force as u8, 0, 0, 0, 0, 0]);
        }
        fs::write(path, bytes)
    }

    /// Read a flow that `write` wrote.
    ///
    /// # Errors
    /// As the file system has them; `InvalidData` where the file is no flow.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        Self::parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no flow file"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (magic, mut rest) = bytes.split_at_checked(8)?;
        if magic != MAGIC {
            return None;
        }
        let markets = u32::from_le_bytes(take(&mut rest)?);
        let segments = u32::from_le_bytes(take(&mut rest)?);
        let len = usize::try_from(number(&mut rest)?).ok()?;
        let orders = number(&mut rest)?;
        let total = read_total(&mut rest)?;
        let segments = (0..segments)
            .map(|_| number(&mut rest).map(|it| (usize::try_from(it & !TIMED).unwrap_or(usize::MAX), it & TIMED != 0)))
            .collect::<Option<Vec<_>>>()?;
        if rest.len() != len.checked_mul(MESSAGE_LEN)? || segments.iter().map(|it| it.0).sum::<usize>() != len {
            return None;
        }
        let messages = rest.chunks_exact(MESSAGE_LEN).map(read_message).collect::<Option<Vec<_>>>()?;
        Some(Self { markets, orders, total, segments, messages })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}

fn read_total(rest: &mut &[u8]) -> Option<Total> {
    Some(Total {
        trades: number(rest)?,
        quantity: number(rest)?,
        notional: number(rest)?,
        rejected: number(rest)?,
        open: number(rest)?,
    })
}

fn read_message(mut bytes: &[u8]) -> Option<Message> {
    let rest = &mut bytes;
    let (id, price) = (number(rest)?, i64::from_le_bytes(take(rest)?));
    let (quantity, market) = (u32::from_le_bytes(take(rest)?), u32::from_le_bytes(take(rest)?));
    let [kind, side, force] = take(rest)?;
    let kind =
        [Kind::Place, Kind::Cancel, Kind::Reduce, Kind::Replace, Kind::Market].get(usize::from(kind)).copied()?;
    let force = [Force::Gtc, Force::Ioc, Force::Fok, Force::PostOnly].get(usize::from(force)).copied()?;
    Some(Message { id, price, quantity, market, kind, buys: side == 0, force })
}
