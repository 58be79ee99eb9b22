//! What strict decoding is made of. Errors are made where the good path does not come.

use crate::wire::errors::{WireError, WireReason};

/// The error is boxed: on the good path it costs one word.
pub(crate) type Read<T> = Result<T, Box<WireError>>;

/// Wire type of numbers.
pub(crate) const VARINT: u64 = 0;
/// Wire type of everything else.
pub(crate) const LENGTH_DELIMITED: u64 = 2;
const VARINT_BYTES_MAX: usize = 10;

#[cold]
#[inline(never)]
pub(crate) fn error(reason: WireReason, field: &str, offset: usize, detail: String) -> Box<WireError> {
    Box::new(WireError { reason, field: field.to_owned(), offset, detail })
}

/// Return the minimal varint at `pos`, before `end`, and move behind it; errors name the field that starts at `at`.
#[inline]
pub(crate) fn varint(data: &[u8], pos: &mut usize, end: usize, name: &str, at: usize) -> Read<u64> {
    match data[..end].get(*pos) {
        Some(&byte) if byte < 0x80 => {
            *pos += 1;
            Ok(u64::from(byte))
        }
        _ => long_varint(data, pos, end, name, at),
    }
}

fn long_varint(data: &[u8], pos: &mut usize, end: usize, name: &str, at: usize) -> Read<u64> {
    let there = &data[*pos..end.min(*pos + VARINT_BYTES_MAX)];
    let mut value = 0u64;
    for (place, &byte) in there.iter().enumerate() {
        if place == VARINT_BYTES_MAX - 1 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            if byte == 0 && place > 0 {
                let what = "a number has more bytes than it needs".to_owned();
                return Err(error(WireReason::VarintNotMinimal, name, at, what));
            }
            *pos += place + 1;
            return Ok(value);
        }
    }
    if there.len() < VARINT_BYTES_MAX {
        return Err(error(WireReason::Truncated, name, at, "the bytes end inside a number".to_owned()));
    }
    Err(error(WireReason::VarintTooLong, name, at, "a number does not fit 64 bits".to_owned()))
}

#[cold]
#[inline(never)]
pub(crate) fn wrong_wire_type(name: &str, wire_type: u64, at: usize) -> Box<WireError> {
    error(WireReason::WrongWireType, name, at, format!("wire type {wire_type} is not the field's"))
}

#[cold]
#[inline(never)]
pub(crate) fn unknown_field(message: &str, tag: u64, at: usize) -> Box<WireError> {
    let (number, wire_type) = (tag >> 3, tag & 7);
    let detail = format!("{message} has no field {number} (wire type {wire_type})");
    error(WireReason::UnknownField, &number.to_string(), at, detail)
}

#[cold]
#[inline(never)]
pub(crate) fn out_of_order(name: &str, number: u64, last: u64, at: usize) -> Box<WireError> {
    if number == last {
        return error(WireReason::FieldRepeated, name, at, "the field comes twice".to_owned());
    }
    error(WireReason::FieldOrder, name, at, format!("field {number} comes after field {last}"))
}

#[cold]
#[inline(never)]
pub(crate) fn out_of_range(name: &str, found: u64, low: u64, high: u64, at: usize) -> Box<WireError> {
    error(WireReason::OutOfRange, name, at, format!("{found} is not in {low} .. {high}"))
}

#[cold]
#[inline(never)]
pub(crate) fn default_encoded(name: &str, at: usize) -> Box<WireError> {
    error(WireReason::DefaultEncoded, name, at, "the default is encoded by leaving the field out".to_owned())
}

#[cold]
#[inline(never)]
pub(crate) fn wrong_length(name: &str, found: usize, low: usize, high: usize, at: usize) -> Box<WireError> {
    error(WireReason::Length, name, at, format!("{found}, allowed are {low} .. {high}"))
}

#[cold]
#[inline(never)]
fn truncated(name: &str, announced: u64, there: usize, at: usize) -> Box<WireError> {
    error(WireReason::Truncated, name, at, format!("{announced} bytes are announced, {there} are there"))
}

/// Check that a field comes where it may, and as its type is encoded.
#[inline]
pub(crate) fn check_place(name: &str, tag: u64, wire_type: u64, last: u64, is_many: bool, at: usize) -> Read<()> {
    if tag & 7 != wire_type {
        return Err(wrong_wire_type(name, tag & 7, at));
    }
    let number = tag >> 3;
    if number <= last && !(is_many && number == last) {
        return Err(out_of_order(name, number, last, at));
    }
    Ok(())
}

/// Return a number that is there, so not zero, and within its bounds.
#[inline]
pub(crate) fn number(
    data: &[u8],
    pos: &mut usize,
    end: usize,
    name: &str,
    (low, high): (u64, u64),
    at: usize,
) -> Read<u64> {
    let value = varint(data, pos, end, name, at)?;
    if value < low.max(1) || value > high {
        return Err(if value == 0 { default_encoded(name, at) } else { out_of_range(name, value, low, high, at) });
    }
    Ok(value)
}

/// Return where the content of a field ends that begins with its length, and move to where it starts.
#[inline]
pub(crate) fn content_end(data: &[u8], pos: &mut usize, end: usize, name: &str, at: usize) -> Read<usize> {
    let length = varint(data, pos, end, name, at)?;
    let there = end - *pos;
    if length > there as u64 {
        return Err(truncated(name, length, there, at));
    }
    Ok(*pos + length as usize)
}

/// Return bytes that are there, so not none, and within the bounds of their length.
#[inline]
pub(crate) fn content<'a>(
    data: &'a [u8],
    pos: &mut usize,
    end: usize,
    name: &str,
    (low, high): (usize, usize),
    at: usize,
) -> Read<&'a [u8]> {
    let stop = content_end(data, pos, end, name, at)?;
    let bytes = &data[*pos..stop];
    if bytes.is_empty() {
        return Err(default_encoded(name, at));
    }
    if bytes.len() < low || bytes.len() > high {
        return Err(wrong_length(name, bytes.len(), low, high, at));
    }
    *pos = stop;
    Ok(bytes)
}

/// Return bytes as the string that they encode.
#[inline]
pub(crate) fn text<'a>(bytes: &'a [u8], name: &str, at: usize) -> Read<&'a str> {
    std::str::from_utf8(bytes)
        .map_err(|_| error(WireReason::InvalidUtf8, name, at, "the string is not UTF-8".to_owned()))
}

/// Return number and end of the content of a oneof's member, and move to where the content starts.
#[inline]
pub(crate) fn member_start(
    data: &[u8],
    pos: &mut usize,
    end: usize,
    message: &str,
    at: usize,
    name_of: impl Fn(u64) -> Option<&'static str>,
) -> Read<(u64, usize)> {
    let start = *pos;
    if start == end {
        return Err(error(WireReason::OneofMissing, "", at, format!("{message} has no member")));
    }
    let (number, name) = member_tag(data, pos, end, message, name_of)?;
    let stop = content_end(data, pos, end, name, start)?;
    Ok((number, stop))
}

/// Check that nothing stands behind a oneof's member.
#[inline]
pub(crate) fn member_end(
    data: &[u8],
    stop: usize,
    end: usize,
    message: &str,
    name_of: impl Fn(u64) -> Option<&'static str>,
) -> Read<()> {
    if stop == end {
        return Ok(());
    }
    let mut pos = stop;
    let (_, name) = member_tag(data, &mut pos, end, message, name_of)?;
    Err(error(WireReason::FieldRepeated, name, stop, "the oneof has a second member".to_owned()))
}

#[inline]
fn member_tag(
    data: &[u8],
    pos: &mut usize,
    end: usize,
    message: &str,
    name_of: impl Fn(u64) -> Option<&'static str>,
) -> Read<(u64, &'static str)> {
    let at = *pos;
    let tag = varint(data, pos, end, "", at)?;
    match name_of(tag >> 3) {
        None => Err(unknown_field(message, tag, at)),
        Some(name) if tag & 7 != LENGTH_DELIMITED => Err(wrong_wire_type(name, tag & 7, at)),
        Some(name) => Ok((tag >> 3, name)),
    }
}
