//! `message!` and `oneof!`: from a table of fields to a struct, its strict decoder and its canonical encoder.
//!
//! A field is `number name: (kind bounds)`. Kinds: `(u64)`, `(u32)`, `(enum)` and `(flag)` are numbers; `(num T low high)`
//! is a number of type T that must be there if low is 1; `(text)` is a string; `(bytes low high)` are bytes that must be
//! there if low is not 0, `(maybe n)` are n bytes or none, `(fixed n)` n bytes; `(one T)` is a submessage; `(many T low
//! high)` is a list of messages, of at least low elements; `(blobs)` is a list of bytes.

/// Longest list of a field without a bound of its own.
pub(crate) const ELEMENTS_MAX: usize = usize::MAX - 1;

macro_rules! field_type {
    ((u64), $life:lifetime) => { u64 };
    ((u32), $life:lifetime) => { u32 };
    ((enum), $life:lifetime) => { u32 };
    ((flag), $life:lifetime) => { bool };
    ((num $t:ident $low:expr, $high:expr), $life:lifetime) => { $t };
    ((text), $life:lifetime) => { &$life str };
    ((bytes $low:expr, $high:expr), $life:lifetime) => { &$life [u8] };
    ((maybe $n:expr), $life:lifetime) => { &$life [u8] };
    ((fixed $n:expr), $life:lifetime) => { &$life [u8; $n] };
    ((one $t:ty), $life:lifetime) => { $t };
    ((many $t:ty, $low:expr, $high:expr), $life:lifetime) => { Vec<$t> };
    ((blobs), $life:lifetime) => { Vec<&$life [u8]> };
}

/// What a field starts as while its message is read.
macro_rules! field_start {
    ((fixed $n:expr)) => {
        None
    };
    ((one $t:ty)) => {
        None
    };
    ((text)) => {
        ""
    };
    ((bytes $low:expr, $high:expr)) => {
        &[][..]
    };
    ((maybe $n:expr)) => {
        &[][..]
    };
    ((many $t:ty, $low:expr, $high:expr)) => {
        Vec::new()
    };
    ((blobs)) => {
        Vec::new()
    };
    ((flag)) => {
        false
    };
    ($number:tt) => {
        0
    };
}

macro_rules! field_place {
    // (kind) => (wire type, is a list with a field for each element)
    ((text)) => {
        (LENGTH_DELIMITED, false)
    };
    ((bytes $low:expr, $high:expr)) => {
        (LENGTH_DELIMITED, false)
    };
    ((maybe $n:expr)) => {
        (LENGTH_DELIMITED, false)
    };
    ((fixed $n:expr)) => {
        (LENGTH_DELIMITED, false)
    };
    ((one $t:ty)) => {
        (LENGTH_DELIMITED, false)
    };
    ((many $t:ty, $low:expr, $high:expr)) => {
        (LENGTH_DELIMITED, true)
    };
    ((blobs)) => {
        (LENGTH_DELIMITED, true)
    };
    ($number:tt) => {
        (VARINT, false)
    };
}

macro_rules! field_read {
    ((u64), $r:tt, $into:ident) => { $into = read_field!(number $r, 1, u64::MAX) };
    ((u32), $r:tt, $into:ident) => { $into = read_field!(number $r, 1, u64::from(u32::MAX)) as u32 };
    ((enum), $r:tt, $into:ident) => { $into = read_field!(number $r, 1, i32::MAX as u64) as u32 };
    ((flag), $r:tt, $into:ident) => { $into = read_field!(number $r, 1, 1) == 1 };
    ((num $t:ident $low:expr, $high:expr), $r:tt, $into:ident) => {
        $into = read_field!(number $r, $low as u64, $high as u64) as $t
    };
    ((text), ($data:ident, $pos:ident, $end:ident, $name:expr, $at:ident), $into:ident) => {
        $into = text(content($data, &mut $pos, $end, $name, (1, usize::MAX), $at)?, $name, $at)?
    };
    ((bytes $low:expr, $high:expr), ($data:ident, $pos:ident, $end:ident, $name:expr, $at:ident), $into:ident) => {
        $into = content($data, &mut $pos, $end, $name, ($low, $high), $at)?
    };
    ((maybe $n:expr), ($data:ident, $pos:ident, $end:ident, $name:expr, $at:ident), $into:ident) => {
        $into = content($data, &mut $pos, $end, $name, ($n, $n), $at)?
    };
    ((fixed $n:expr), ($data:ident, $pos:ident, $end:ident, $name:expr, $at:ident), $into:ident) => {
        $into = content($data, &mut $pos, $end, $name, ($n, $n), $at)?.first_chunk()
    };
    ((one $t:ty), ($data:ident, $pos:ident, $end:ident, $name:expr, $at:ident), $into:ident) => {{
        let stop = content_end($data, &mut $pos, $end, $name, $at)?;
        if stop == $pos {
            return Err(default_encoded($name, $at));
        }
        $into = Some(<$t>::read($data, $pos, stop, $at).map_err(|error| error.within($name))?);
        $pos = stop;
    }};
    ((many $t:ty, $low:expr, $high:expr), ($data:ident, $pos:ident, $end:ident, $name:expr, $at:ident), $into:ident) => {{
        let stop = content_end($data, &mut $pos, $end, $name, $at)?;
        if $into.len() == $high {
            return Err(wrong_length($name, $into.len() + 1, $low, $high, $at));
        }
        let place = $into.len();
        $into.push(<$t>::read($data, $pos, stop, $at).map_err(|error| error.within_element($name, place))?);
        $pos = stop;
    }};
    ((blobs), ($data:ident, $pos:ident, $end:ident, $name:expr, $at:ident), $into:ident) => {{
        let stop = content_end($data, &mut $pos, $end, $name, $at)?;
        $into.push(&$data[$pos..stop]);
        $pos = stop;
    }};
}

macro_rules! read_field {
    (number ($data:ident, $pos:ident, $end:ident, $name:expr, $at:ident), $low:expr, $high:expr) => {
        number($data, &mut $pos, $end, $name, ($low, $high), $at)?
    };
}

/// The field's value once its message has been read, or what is missing.
macro_rules! field_end {
    ((num $t:ident $low:expr, $high:expr), $value:ident, $name:expr, $holder:ident, $life:lifetime) => {{
        if $low > 0 && $value == 0 {
            return Err(out_of_range($name, 0, $low as u64, $high as u64, $holder));
        }
        $value
    }};
    ((bytes $low:expr, $high:expr), $value:ident, $name:expr, $holder:ident, $life:lifetime) => {{
        if $low > 0 && $value.is_empty() {
            return Err(wrong_length($name, 0, $low, $high, $holder));
        }
        $value
    }};
    ((fixed $n:expr), $value:ident, $name:expr, $holder:ident, $life:lifetime) => {{
        let value: Option<&$life [u8; $n]> = $value;
        match value {
            Some(value) => value,
            None => return Err(wrong_length($name, 0, $n, $n, $holder)),
        }
    }};
    ((one $t:ty), $value:ident, $name:expr, $holder:ident, $life:lifetime) => {
        match $value {
            Some(value) => value,
            None => <$t>::read(&[], 0, 0, $holder).map_err(|error| error.within($name))?,
        }
    };
    ((many $t:ty, $low:expr, $high:expr), $value:ident, $name:expr, $holder:ident, $life:lifetime) => {{
        if $low > 0 && $value.is_empty() {
            return Err(wrong_length($name, 0, $low, $high, $holder));
        }
        $value
    }};
    ($kind:tt, $value:ident, $name:expr, $holder:ident, $life:lifetime) => { $value };
}

macro_rules! field_len {
    ((flag), $number:expr, $value:expr) => {
        if $value { key_len($number) + 1 } else { 0 }
    };
    ((text), $number:expr, $value:expr) => {
        content_len($number, $value.len())
    };
    ((bytes $low:expr, $high:expr), $number:expr, $value:expr) => {
        content_len($number, $value.len())
    };
    ((maybe $n:expr), $number:expr, $value:expr) => {
        content_len($number, $value.len())
    };
    ((fixed $n:expr), $number:expr, $value:expr) => {
        content_len($number, $n)
    };
    ((one $t:ty), $number:expr, $value:expr) => {
        content_len($number, $value.encoded_len())
    };
    ((many $t:ty, $low:expr, $high:expr), $number:expr, $value:expr) => {
        $value.iter().map(|element| element_len($number, element.encoded_len())).sum::<usize>()
    };
    ((blobs), $number:expr, $value:expr) => {
        $value.iter().map(|element| element_len($number, element.len())).sum::<usize>()
    };
    ($kind:tt, $number:expr, $value:expr) => {
        if $value == 0 { 0 } else { key_len($number) + varint_len(u64::from($value)) }
    };
}

macro_rules! field_write {
    ((flag), $number:expr, $value:expr, $out:ident) => {
        if $value {
            $out.varint($number << 3 | VARINT);
            $out.byte(1);
        }
    };
    ((text), $number:expr, $value:expr, $out:ident) => {
        write_content($out, $number, $value.as_bytes())
    };
    ((bytes $low:expr, $high:expr), $number:expr, $value:expr, $out:ident) => {
        write_content($out, $number, $value)
    };
    ((maybe $n:expr), $number:expr, $value:expr, $out:ident) => {
        write_content($out, $number, $value)
    };
    ((fixed $n:expr), $number:expr, $value:expr, $out:ident) => {
        write_content($out, $number, &$value[..])
    };
    ((one $t:ty), $number:expr, $value:expr, $out:ident) => {{
        let len = $value.encoded_len();
        if len > 0 {
            $out.varint($number << 3 | LENGTH_DELIMITED);
            $out.varint(len as u64);
            $value.encode($out);
        }
    }};
    ((many $t:ty, $low:expr, $high:expr), $number:expr, $value:expr, $out:ident) => {
        for element in &$value {
            $out.varint($number << 3 | LENGTH_DELIMITED);
            $out.varint(element.encoded_len() as u64);
            element.encode($out);
        }
    };
    ((blobs), $number:expr, $value:expr, $out:ident) => {
        for element in &$value {
            $out.varint($number << 3 | LENGTH_DELIMITED);
            $out.varint(element.len() as u64);
            $out.bytes(element);
        }
    };
    ($kind:tt, $number:expr, $value:expr, $out:ident) => {
        if $value != 0 {
            $out.varint($number << 3 | VARINT);
            $out.varint(u64::from($value));
        }
    };
}

macro_rules! message_impl {
    ($life:lifetime, $name:ident, $type:ty, $bytes_max:expr, { $($number:literal $field:ident : $kind:tt),* $(,)? }) => {
        impl<$life> Message<$life> for $type {
            const NAME: &'static str = stringify!($name);
            const BYTES_MAX: usize = $bytes_max;

            #[inline]
            fn read(data: &$life [u8], start: usize, end: usize, holder: usize) -> Read<Self> {
                let _ = holder;
                $(let mut $field = field_start!($kind);)*
                let (mut pos, mut last) = (start, 0u64);
                while pos < end {
                    let at = pos;
                    let tag = varint(data, &mut pos, end, "", at)?;
                    match tag >> 3 {
                        $($number => {
                            const PLACE: (u64, bool) = field_place!($kind);
                            check_place(stringify!($field), tag, PLACE.0, last, PLACE.1, at)?;
                            field_read!($kind, (data, pos, end, stringify!($field), at), $field);
                        })*
                        _ => return Err(unknown_field(stringify!($name), tag, at)),
                    }
                    last = tag >> 3;
                }
                Ok(Self { $($field: field_end!($kind, $field, stringify!($field), holder, $life)),* })
            }

            #[inline]
            fn encoded_len(&self) -> usize {
                0 $(+ field_len!($kind, $number, self.$field))*
            }

            #[inline]
            fn encode<S: Sink>(&self, out: &mut S) {
                $(field_write!($kind, $number, self.$field, out);)*
            }
        }
    };
}

macro_rules! message {
    // Without borrowed fields: a plain value.
    ($name:ident { $($number:literal $field:ident : $kind:tt),* $(,)? }) => {
        message!(@plain $name, usize::MAX, { $($number $field: $kind),* });
    };
    (@plain $name:ident, $bytes_max:expr, { $($number:literal $field:ident : $kind:tt),* }) => {
        #[allow(missing_docs)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $(pub $field: field_type!($kind, 'static)),* }
        message_impl!('a, $name, $name, $bytes_max, { $($number $field: $kind),* });
    };
    // With lists, but nothing borrowed.
    ($name:ident owned, $bytes_max:expr, { $($number:literal $field:ident : $kind:tt),* $(,)? }) => {
        #[allow(missing_docs)]
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name { $(pub $field: field_type!($kind, 'static)),* }
        message_impl!('a, $name, $name, $bytes_max, { $($number $field: $kind),* });
    };
    // With borrowed fields.
    ($name:ident<$life:lifetime>, $bytes_max:expr, { $($number:literal $field:ident : $kind:tt),* $(,)? }) => {
        #[allow(missing_docs)]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name<$life> { $(pub $field: field_type!($kind, $life)),* }
        message_impl!($life, $name, $name<$life>, $bytes_max, { $($number $field: $kind),* });
    };
}

/// A message that is nothing but a oneof: the member stands for it.
macro_rules! oneof {
    ($name:ident<$life:lifetime> { $($number:literal $field:ident $member:ident : $type:ty),* $(,)? }) => {
        #[allow(missing_docs)]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name<$life> { $($member($type)),* }

        impl<$life> Message<$life> for $name<$life> {
            const NAME: &'static str = stringify!($name);

            fn read(data: &$life [u8], start: usize, end: usize, at: usize) -> Read<Self> {
                let mut pos = start;
                let (number, stop) = member_start(data, &mut pos, end, stringify!($name), at, |number| match number {
                    $($number => Some(stringify!($field)),)*
                    _ => None,
                })?;
                match number {
                    $($number => {
                        let member = <$type>::read(data, pos, stop, start)
                            .map_err(|error| error.within(stringify!($field)))?;
                        Ok(Self::$member(member))
                    })*
                    _ => Err(unknown_field(stringify!($name), number << 3 | LENGTH_DELIMITED, start)),
                }
                .and_then(|member| {
                    member_end(data, stop, end, stringify!($name), |number| match number {
                        $($number => Some(stringify!($field)),)*
                        _ => None,
                    })?;
                    Ok(member)
                })
            }

            fn encoded_len(&self) -> usize {
                match self { $(Self::$member(member) => element_len($number, member.encoded_len())),* }
            }

            fn encode<S: Sink>(&self, out: &mut S) {
                match self {
                    $(Self::$member(member) => {
                        out.varint($number << 3 | LENGTH_DELIMITED);
                        out.varint(member.encoded_len() as u64);
                        member.encode(out);
                    })*
                }
            }
        }
    };
}
