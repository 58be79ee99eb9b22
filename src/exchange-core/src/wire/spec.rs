//! What messages look like on the wire, as tables, and the reader that follows them to name the first broken rule.
//!
//! It reads as `exchange.wire.codec` does, field by field. It is for bytes that the fast reader has refused.

use crate::wire::errors::{WireError, WireReason};

/// A message: its name, its fields in ascending order, and how long its encoding may be where it stands alone.
#[derive(Debug)]
pub struct Spec {
    /// Name of the message in the contracts.
    pub name: &'static str,
    /// Fields or members, ascending.
    pub fields: &'static [Field],
    /// Whether it is nothing but a oneof.
    pub is_oneof: bool,
    /// Most bytes of it as a whole input.
    pub total_max: usize,
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    /// Number in the contracts.
    pub number: u32,
    /// Name in the contracts.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Lowest number, or least bytes, when the field is there. At least 1.
    pub low: u64,
    /// Highest number, most bytes, or most elements.
    pub high: u64,
    /// Whether leaving it out breaks a rule.
    pub is_required: bool,
}

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A number, an enum or a bool: one varint.
    Number,
    /// Bytes.
    Bytes,
    /// A string.
    Text,
    /// A message.
    Message(&'static Spec),
    /// A list of messages.
    Messages(&'static Spec),
    /// A list of bytes.
    ManyBytes,
}

impl Kind {
    fn is_list(self) -> bool {
        matches!(self, Self::Messages(_) | Self::ManyBytes)
    }

    fn wire_type(self) -> u64 {
        if matches!(self, Self::Number) { 0 } else { 2 }
    }
}

impl Spec {
    /// Return whether the message is nothing but numbers, so that it has less than 256 bytes.
    #[must_use]
    pub const fn is_numbers(&self) -> bool {
        let mut place = 0;
        while place < self.fields.len() {
            if !matches!(self.fields[place].kind, Kind::Number) {
                return false;
            }
            place += 1;
        }
        true
    }

    /// Return whether an empty message breaks a rule.
    #[must_use]
    pub fn needs_something(&self) -> bool {
        self.is_oneof || self.fields.iter().any(|field| field.is_required)
    }

    /// Return the error of an empty message that needs something.
    fn empty_error(&self, at: usize) -> WireError {
        match self.fields.iter().find(|field| field.is_required) {
            Some(field) => field.missing(at),
            None => error(WireReason::OneofMissing, "", at, format!("{} has no member", self.name)),
        }
    }

    fn field(&self, key: u64, at: usize) -> Result<(usize, &'static Field), WireError> {
        let (number, wire_type) = (key >> 3, key & 7);
        let found = self.fields.iter().enumerate().find(|(_, field)| u64::from(field.number) == number);
        let Some((place, field)) = found else {
            let what = format!("{} has no field {number} (wire type {wire_type})", self.name);
            return Err(error(WireReason::UnknownField, &number.to_string(), at, what));
        };
        if field.kind.wire_type() != wire_type {
            let what = format!("wire type {wire_type}, the field's is {}", field.kind.wire_type());
            return Err(error(WireReason::WrongWireType, field.name, at, what));
        }
        Ok((place, field))
    }
}

impl Field {
    fn missing(&self, at: usize) -> WireError {
        match self.kind {
            Kind::Message(spec) => spec.empty_error(at).within(self.name),
            _ => self.out_of_bounds(0, at),
        }
    }

    fn out_of_bounds(&self, found: u64, at: usize) -> WireError {
        let low = if self.low == 1 && !self.is_required { 0 } else { self.low };
        let (reason, unit) = match self.kind {
            Kind::Number => (WireReason::OutOfRange, ""),
            _ if self.kind.is_list() => (WireReason::Length, " elements"),
            _ => (WireReason::Length, " bytes"),
        };
        error(reason, self.name, at, format!("{found}{unit}, allowed are {low} .. {}", self.high))
    }

    fn default_encoded(&self, at: usize) -> WireError {
        let what = "the default is encoded by leaving the field out".to_owned();
        error(WireReason::DefaultEncoded, self.name, at, what)
    }
}

fn error(reason: WireReason, field: &str, offset: usize, detail: String) -> WireError {
    WireError { reason, field: field.to_owned(), offset, detail }
}

/// Return which rule of the wire a whole input breaks, as a message that the fast reader has refused.
#[cold]
#[inline(never)]
#[must_use]
pub fn explain(spec: &Spec, data: &[u8]) -> WireError {
    match check(spec, data) {
        Err(error) => error,
        // The two readers agree: a property that the tests of this module keep.
        Ok(()) => error(WireReason::Length, spec.name, 0, "the decoder refuses what its check accepts".to_owned()),
    }
}

/// Check that an input is the canonical encoding of a message, reading as the reference does.
///
/// # Errors
/// It is not; the first broken rule.
pub fn check(spec: &Spec, data: &[u8]) -> Result<(), WireError> {
    if data.len() > spec.total_max {
        let what = format!("{} bytes, allowed are {}", data.len(), spec.total_max);
        return Err(error(WireReason::Length, spec.name, 0, what));
    }
    let end = data.len();
    check_any(spec, data, 0, end, 0)
        .map_err(|error| if error.field.is_empty() { error.within(spec.name) } else { error })
}

fn check_any(spec: &Spec, data: &[u8], start: usize, end: usize, at: usize) -> Result<(), WireError> {
    if spec.is_oneof { check_oneof(spec, data, start, end, at) } else { check_message(spec, data, start, end, at) }
}

fn check_message(spec: &Spec, data: &[u8], start: usize, end: usize, holder: usize) -> Result<(), WireError> {
    let (mut pos, mut last, mut elements) = (start, 0, 0);
    let mut present = vec![false; spec.fields.len()];
    while pos < end {
        let at = pos;
        let (key, after) = varint(data, pos, end, "", at)?;
        let (place, field) = spec.field(key, at)?;
        if field.number <= last && !(field.kind.is_list() && field.number == last) {
            return Err(order_error(field, last, at));
        }
        if field.number != last {
            elements = 0;
        }
        last = field.number;
        present[place] = true;
        let (number, after) = varint(data, after, end, field.name, at)?;
        if matches!(field.kind, Kind::Number) {
            if number < field.low || number > field.high {
                return Err(if number == 0 { field.default_encoded(at) } else { field.out_of_bounds(number, at) });
            }
            pos = after;
            continue;
        }
        let stop = stop_of(field, number, after, end, at)?;
        if field.kind.is_list() {
            if elements == field.high {
                return Err(field.out_of_bounds(elements + 1, at));
            }
            if let Kind::Messages(sub) = field.kind {
                check_any(sub, data, after, stop, at)
                    .map_err(|error| error.within(&format!("{}[{elements}]", field.name)))?;
            }
            elements += 1;
        } else if number == 0 {
            return Err(field.default_encoded(at));
        } else if let Kind::Message(sub) = field.kind {
            check_any(sub, data, after, stop, at).map_err(|error| error.within(field.name))?;
        } else {
            if number < field.low || number > field.high {
                return Err(field.out_of_bounds(number, at));
            }
            if matches!(field.kind, Kind::Text) && std::str::from_utf8(&data[after..stop]).is_err() {
                return Err(error(WireReason::InvalidUtf8, field.name, at, "the string is not UTF-8".to_owned()));
            }
        }
        pos = stop;
    }
    match spec.fields.iter().zip(present).find(|(field, present)| field.is_required && !present) {
        Some((field, _)) => Err(field.missing(holder)),
        None => Ok(()),
    }
}

fn check_oneof(spec: &Spec, data: &[u8], start: usize, end: usize, at: usize) -> Result<(), WireError> {
    if start == end {
        return Err(spec.empty_error(at));
    }
    let (key, after) = varint(data, start, end, "", start)?;
    let (_, field) = spec.field(key, start)?;
    let (length, after) = varint(data, after, end, field.name, start)?;
    let stop = stop_of(field, length, after, end, start)?;
    if let Kind::Message(sub) = field.kind {
        check_any(sub, data, after, stop, start).map_err(|error| error.within(field.name))?;
    }
    if stop == end {
        return Ok(());
    }
    let (key, _) = varint(data, stop, end, "", stop)?;
    let (_, second) = spec.field(key, stop)?;
    Err(error(WireReason::FieldRepeated, second.name, stop, "the oneof has a second member".to_owned()))
}

fn order_error(field: &Field, last: u32, at: usize) -> WireError {
    if field.number == last {
        return error(WireReason::FieldRepeated, field.name, at, "the field comes twice".to_owned());
    }
    error(WireReason::FieldOrder, field.name, at, format!("field {} comes after field {last}", field.number))
}

fn stop_of(field: &Field, announced: u64, pos: usize, end: usize, at: usize) -> Result<usize, WireError> {
    let there = end - pos;
    match usize::try_from(announced) {
        Ok(length) if length <= there => Ok(pos + length),
        _ => {
            let what = format!("{announced} bytes are announced, {there} are there");
            Err(error(WireReason::Truncated, field.name, at, what))
        }
    }
}

/// Return the minimal varint at `pos` and the position after it; errors name the field that starts at `at`.
fn varint(data: &[u8], pos: usize, end: usize, name: &str, at: usize) -> Result<(u64, usize), WireError> {
    let too_long = || error(WireReason::VarintTooLong, name, at, "a number does not fit 64 bits".to_owned());
    let mut value = 0;
    for (place, &byte) in data[pos..end].iter().take(10).enumerate() {
        if place == 9 && byte > 1 {
            return Err(too_long());
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            if byte == 0 && place > 0 {
                let what = "a number has more bytes than it needs".to_owned();
                return Err(error(WireReason::VarintNotMinimal, name, at, what));
            }
            return Ok((value, pos + place + 1));
        }
    }
    if end - pos >= 10 {
        return Err(too_long());
    }
    Err(error(WireReason::Truncated, name, at, "the bytes end inside a number".to_owned()))
}

/// Return the value of field `number`, which is below 16 and a uint32, if canonical bytes start with it.
#[must_use]
pub fn leading_number(number: u32, data: &[u8]) -> Option<u32> {
    let (key, pos) = varint(data, 0, data.len(), "", 0).ok()?;
    let (value, _) = varint(data, pos, data.len(), "", 0).ok()?;
    if key != u64::from(number << 3) || value == 0 {
        return None;
    }
    u32::try_from(value).ok()
}
