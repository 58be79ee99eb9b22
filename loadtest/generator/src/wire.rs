//! Bytes of `proto/clob/v1`: what is sent is written canonically, what comes back is read field by field.

use bench_flow::file::{Force, Kind, Message};

/// Largest message that this reads; an answer to 4,096 commands is far smaller.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;
const SELF_TRADE_PREVENTION_NONE: u64 = 5;

/// Append a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Append a number under a field below 16; zero is left out.
pub fn put_number(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(field << 3 | VARINT);
        put_varint(out, value);
    }
}

/// Append bytes under a field below 16, also where there are none.
pub fn put_bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | BYTES);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Append a command to a `Batch`.
///
/// Args: the market as the exchange numbers it, and the message of a flow, whose id is the trader's own name for the
/// order. Orders may trade with others of their account, as in the plain book that made the flow. A replacement
/// changes the price alone.
pub fn put_command(out: &mut Vec<u8>, market: u32, message: &Message, scratch: &mut Vec<u8>) {
    scratch.clear();
    let kind = match message.kind {
        Kind::Place | Kind::Market => {
            let takes = message.kind == Kind::Market;
            put_number(scratch, 1, u64::from(market));
            put_number(scratch, 2, if message.buys { 1 } else { 2 });
            put_number(scratch, 3, if takes { 2 } else { 1 });
            let time_in_force = match message.force {
                Force::Gtc | Force::PostOnly => 1,
                Force::Ioc => 2,
                Force::Fok => 3,
            };
            put_number(scratch, 4, time_in_force);
            put_number(scratch, 5, u64::from(message.force == Force::PostOnly));
            put_number(scratch, 6, SELF_TRADE_PREVENTION_NONE);
            put_number(scratch, 7, message.price.cast_unsigned());
            put_number(scratch, 8, u64::from(message.quantity));
            put_number(scratch, 9, message.id);
            1
        }
        Kind::Cancel => {
            put_number(scratch, 2, message.id);
            2
        }
        Kind::Reduce => {
            put_number(scratch, 2, message.id);
            put_number(scratch, 3, u64::from(message.quantity));
            3
        }
        Kind::Replace => {
            put_number(scratch, 2, message.id);
            put_number(scratch, 3, message.price.cast_unsigned());
            4
        }
    };
    // Batch.commands, Command.kind: all lengths are below 128, so that each takes one byte.
    assert!(scratch.len() < 126, "a command is short");
    out.push(5 << 3 | BYTES);
    out.push(scratch.len() as u8 + 2);
    put_bytes(out, kind, scratch);
}

/// Write the head of a `Batch`; its commands follow.
pub fn put_batch_head(out: &mut Vec<u8>, account: u64, shard: u32, nonce: u64, valid_until_ms: u64) {
    put_number(out, 1, account);
    put_number(out, 2, u64::from(shard));
    put_number(out, 3, nonce);
    put_number(out, 4, valid_until_ms);
}

/// What is wrong with bytes that should be a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A field: its number, and a number or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// A varint.
    Number(u32, u64),
    /// A string, bytes or a message.
    Bytes(u32, &'a [u8]),
    /// A fixed-width number, which none of our messages has.
    Other(u32),
}

/// Reads the fields of a message.
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Return the fields of a message.
    #[must_use]
    pub fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for place in 0..10 {
            let (&byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let number = tag >> 3;
        match (tag & 7) as u8 {
            VARINT => Ok(Field::Number(number, self.varint()?)),
            BYTES => {
                let len = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Ok(Field::Bytes(number, self.take(len)?))
            }
            FIXED64 => self.take(8).map(|_| Field::Other(number)),
            FIXED32 => self.take(4).map(|_| Field::Other(number)),
            _ => Err(Malformed),
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Return the first field of a message that has this number and is a number; zero: there is none.
///
/// # Errors
/// It is no message.
pub fn number_of(message: &[u8], wanted: u32) -> Result<u64, Malformed> {
    for field in Fields::new(message) {
        if let Field::Number(number, value) = field?
            && number == wanted
        {
            return Ok(value);
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut out = Vec::new();
        put_number(&mut out, 1, 0);
        put_number(&mut out, 2, u64::MAX);
        put_bytes(&mut out, 3, b"abc");
        let fields: Vec<_> = Fields::new(&out).collect();
        assert_eq!(fields, [Ok(Field::Number(2, u64::MAX)), Ok(Field::Bytes(3, b"abc"))]);
        assert_eq!(number_of(&out, 2), Ok(u64::MAX));
        assert_eq!(number_of(&out, 1), Ok(0));
    }

    #[test]
    fn what_is_cut_off_is_malformed() {
        let mut out = Vec::new();
        put_bytes(&mut out, 3, &[7; 200]);
        for len in 1..out.len() {
            assert!(Fields::new(&out[..len]).any(|field| field.is_err()), "{len} bytes");
        }
        assert!(Fields::new(&[0x80; 11]).any(|field| field.is_err()));
    }
}
