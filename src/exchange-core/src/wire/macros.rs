//! `message!` and `oneof!`: from a table of fields to a struct, a strict decoder, a canonical encoder and a `Spec`.
//!
//! A field is `number name: kind`, where kind is one of
//!
//! - `u64`, `u32`, `kind` (an enum of the contracts), each with `(low, high)` where LIMITS bound it; one with `low` above
//!   0 has to be there; `bool`;
//! - `string`, `bytes(low, high)` and `bytes_or_absent(low, high)`, bounds in bytes; `fixed(N)`, which has to be there;
//! - `message(M)`; `needed(M)` where an empty M breaks a rule;
//! - `list(M)`, `list(M, most)`, `filled_list(M, most)` where one has to be there; `byte_strings`.
//!
//! Fields come in ascending order, with numbers below 16, so that every key is one byte. The decoder goes through them
//! once: what is not the next field that may come is not canonical.

macro_rules! field_type {
    (u64 $($rest:tt)*) => { u64 };
    (u32 $($rest:tt)*) => { u32 };
    (kind $($rest:tt)*) => { u32 };
    (bool) => { bool };
    (string) => { &'a str };
    (bytes $($rest:tt)*) => { &'a [u8] };
    (bytes_or_absent $($rest:tt)*) => { &'a [u8] };
    (fixed($length:expr)) => { &'a [u8; $length] };
    (message($message:ty)) => { $message };
    (needed($message:ty)) => { $message };
    (list($message:ty $(, $most:expr)?)) => { Vec<$message> };
    (filled_list($message:ty, $most:expr)) => { Vec<$message> };
    (byte_strings) => { Vec<&'a [u8]> };
}

/// Kind, lowest, highest, and whether the field has to be there.
macro_rules! field_spec {
    (u64) => {
        (Kind::Number, 1, u64::MAX, false)
    };
    (u64($low:expr, $high:expr)) => {
        (Kind::Number, if $low == 0 { 1 } else { $low }, $high, $low > 0)
    };
    (u32) => {
        (Kind::Number, 1, u32::MAX as u64, false)
    };
    (u32($low:expr, $high:expr)) => {
        (Kind::Number, if $low == 0 { 1 } else { $low as u64 }, $high as u64, $low > 0)
    };
    (kind) => {
        (Kind::Number, 1, i32::MAX as u64, false)
    };
    (bool) => {
        (Kind::Number, 1, 1, false)
    };
    (string) => {
        (Kind::Text, 1, u64::MAX, false)
    };
    (bytes) => {
        (Kind::Bytes, 1, u64::MAX, false)
    };
    (bytes($low:expr, $high:expr)) => {
        (Kind::Bytes, $low as u64, $high as u64, true)
    };
    (bytes_or_absent($low:expr, $high:expr)) => {
        (Kind::Bytes, $low as u64, $high as u64, false)
    };
    (fixed($length:expr)) => {
        (Kind::Bytes, $length as u64, $length as u64, true)
    };
    (message($message:ty)) => {
        (Kind::Message(<$message as Message<'a>>::SPEC), 1, u64::MAX, false)
    };
    (needed($message:ty)) => {
        (Kind::Message(<$message as Message<'a>>::SPEC), 1, u64::MAX, true)
    };
    (list($message:ty)) => {
        (Kind::Messages(<$message as Message<'a>>::SPEC), 1, u64::MAX, false)
    };
    (list($message:ty, $most:expr)) => {
        (Kind::Messages(<$message as Message<'a>>::SPEC), 1, $most as u64, false)
    };
    (filled_list($message:ty, $most:expr)) => {
        (Kind::Messages(<$message as Message<'a>>::SPEC), 1, $most as u64, true)
    };
    (byte_strings) => {
        (Kind::ManyBytes, 1, u64::MAX, false)
    };
}

macro_rules! field_key {
    ($number:literal, u64 $($rest:tt)*) => {
        $number << 3
    };
    ($number:literal, u32 $($rest:tt)*) => {
        $number << 3
    };
    ($number:literal, kind) => {
        $number << 3
    };
    ($number:literal, bool) => {
        $number << 3
    };
    ($number:literal, $($rest:tt)*) => {
        $number << 3 | 2
    };
}

/// Read the value of a field whose key has been stepped over.
macro_rules! field_value {
    ($reader:ident, $low:expr, $high:expr, u64 $($rest:tt)*) => {
        $reader.number($low, $high)?
    };
    ($reader:ident, $low:expr, $high:expr, u32 $($rest:tt)*) => {
        $reader.small_number($low, $high)?
    };
    ($reader:ident, $low:expr, $high:expr, kind) => {
        $reader.small_number($low, $high)?
    };
    ($reader:ident, $low:expr, $high:expr, bool) => {{
        $reader.number(1, 1)?;
        true
    }};
    ($reader:ident, $low:expr, $high:expr, string) => {
        $reader.string($low, $high)?
    };
    ($reader:ident, $low:expr, $high:expr, message($message:ty)) => {
        $reader.filled_message::<$message>()?
    };
    ($reader:ident, $low:expr, $high:expr, $($bytes:tt)*) => {
        $reader.content($low, $high)?
    };
}

/// Read a field, or what its absence means, and move `key` to the next one.
macro_rules! read_field {
    ($reader:ident, $key:ident, $own:expr, $spec:expr, fixed($length:expr)) => {{
        if $key != $own {
            return None;
        }
        $reader.skip_key();
        let value = $reader.fixed::<{ $length }>()?;
        $key = $reader.key();
        value
    }};
    ($reader:ident, $key:ident, $own:expr, $spec:expr, needed($message:ty)) => {{
        if $key != $own {
            return None;
        }
        $reader.skip_key();
        let value = $reader.filled_message::<$message>()?;
        $key = $reader.key();
        value
    }};
    ($reader:ident, $key:ident, $own:expr, $spec:expr, byte_strings) => {{
        let mut values = Vec::new();
        while $key == $own {
            $reader.skip_key();
            values.push($reader.content(0, u64::MAX)?);
            $key = $reader.key();
        }
        values
    }};
    ($reader:ident, $key:ident, $own:expr, $spec:expr, list($message:ty $(, $most:expr)?)) => {
        read_field!(@list $reader, $key, $own, $spec, $message)
    };
    ($reader:ident, $key:ident, $own:expr, $spec:expr, filled_list($message:ty, $most:expr)) => {
        read_field!(@list $reader, $key, $own, $spec, $message)
    };
    (@list $reader:ident, $key:ident, $own:expr, $spec:expr, $message:ty) => {{
        let mut values = Vec::new();
        while $key == $own {
            if values.len() as u64 == $spec.2 {
                return None;
            }
            let before = $reader;
            $reader.skip_key();
            let value = $reader.message::<$message>()?;
            if values.is_empty() {
                values.reserve($reader.expected_since(&before));
            }
            values.push(value);
            $key = $reader.key();
        }
        if $spec.3 && values.is_empty() {
            return None;
        }
        values
    }};
    ($reader:ident, $key:ident, $own:expr, $spec:expr, $($kind:tt)+) => {{
        if $key == $own {
            $reader.skip_key();
            let value = field_value!($reader, $spec.1, $spec.2, $($kind)+);
            $key = $reader.key();
            value
        } else if $spec.3 {
            return None;
        } else {
            Default::default()
        }
    }};
}

macro_rules! field_len {
    ($value:expr, u64 $($rest:tt)*) => {
        number_len($value)
    };
    ($value:expr, u32 $($rest:tt)*) => {
        number_len(u64::from($value))
    };
    ($value:expr, kind) => {
        number_len(u64::from($value))
    };
    ($value:expr, bool) => {
        2 * usize::from($value)
    };
    ($value:expr, message($message:ty)) => {
        content_len($value.encoded_len())
    };
    ($value:expr, needed($message:ty)) => {
        content_len($value.encoded_len())
    };
    ($value:expr, list $($rest:tt)*) => {
        $value.iter().map(|element| element_len(element.encoded_len())).sum::<usize>()
    };
    ($value:expr, filled_list $($rest:tt)*) => {
        field_len!($value, list)
    };
    ($value:expr, byte_strings) => {
        $value.iter().map(|element| element_len(element.len())).sum::<usize>()
    };
    ($value:expr, $($bytes:tt)*) => {
        content_len($value.len())
    };
}

macro_rules! write_field {
    ($out:ident, $key:expr, $value:expr, u64 $($rest:tt)*) => {
        $out.number($key, $value)
    };
    ($out:ident, $key:expr, $value:expr, u32 $($rest:tt)*) => {
        $out.number($key, u64::from($value))
    };
    ($out:ident, $key:expr, $value:expr, kind) => {
        $out.number($key, u64::from($value))
    };
    ($out:ident, $key:expr, $value:expr, bool) => {
        $out.number($key, u64::from($value))
    };
    ($out:ident, $key:expr, $value:expr, string) => {
        $out.content($key, $value.as_bytes())
    };
    ($out:ident, $key:expr, $value:expr, message($message:ty)) => {{
        let length = $value.encoded_len();
        if length > 0 {
            $out.byte($key);
            $out.varint(length as u64);
            $value.encode($out);
        }
    }};
    ($out:ident, $key:expr, $value:expr, needed($message:ty)) => {
        write_field!($out, $key, $value, message($message))
    };
    ($out:ident, $key:expr, $value:expr, list $($rest:tt)*) => {
        for element in &$value {
            $out.element($key, element);
        }
    };
    ($out:ident, $key:expr, $value:expr, filled_list $($rest:tt)*) => {
        write_field!($out, $key, $value, list)
    };
    ($out:ident, $key:expr, $value:expr, byte_strings) => {
        for element in &$value {
            $out.byte($key);
            $out.varint(element.len() as u64);
            $out.bytes(element);
        }
    };
    ($out:ident, $key:expr, $value:expr, $($bytes:tt)*) => {
        $out.content($key, &$value[..])
    };
}

/// Declare messages: `message! { "file.proto" derive(Copy, Default) Name { fields } Name<'a> up to bytes { fields } }`.
macro_rules! message {
    ($file:literal derive $derive:tt $(
        $name:ident $(<$life:lifetime>)? $(up to $total:ident)? {
            $($number:literal $field:ident: $kind:ident $(($($bound:tt)*))?),+ $(,)?
        }
    )+) => {$(
        #[doc = concat!("`", stringify!($name), "` of proto/clob/v1/", $file, ", which says what its fields mean.")]
        #[allow(missing_docs)]
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[derive $derive]
        pub struct $name $(<$life>)? {
            $(pub $field: field_type!($kind $(($($bound)*))?)),+
        }

        impl<'a> Message<'a> for $name $(<$life>)? {
            const SPEC: &'static Spec = &Spec {
                name: stringify!($name),
                fields: &[$({
                    let (kind, low, high, is_required) = field_spec!($kind $(($($bound)*))?);
                    Field { number: $number, name: stringify!($field), kind, low, high, is_required }
                }),+],
                is_oneof: false,
                total_max: usize::MAX $(- usize::MAX + $total)?,
            };

            #[inline]
            fn read(reader: &mut Reader<'a>) -> Option<Self> {
                // A copy, which stays in registers.
                let mut local = *reader;
                let mut key = local.key();
                $(let $field = {
                    const OWN: u8 = field_key!($number, $kind $(($($bound)*))?);
                    read_field!(local, key, OWN, field_spec!($kind $(($($bound)*))?), $kind $(($($bound)*))?)
                };)+
                // Where the message ends there is no key, nor has it been read beyond.
                if key != 0 || !local.is_done() {
                    return None;
                }
                *reader = local;
                Some(Self { $($field),+ })
            }

            #[inline]
            fn encoded_len(&self) -> usize {
                0 $(+ field_len!(self.$field, $kind $(($($bound)*))?))+
            }

            #[inline]
            fn encode<S: Sink>(&self, out: &mut S) {
                $(write_field!(out, field_key!($number, $kind $(($($bound)*))?), self.$field, $kind $(($($bound)*))?);)+
            }
        }
    )+};
}

/// Declare a message that is nothing but a oneof: `oneof! { "file.proto" Name<'a> { number name: Member } }`.
macro_rules! oneof {
    ($file:literal $name:ident<'a> {
        $($number:literal $field:ident: $member:ident $(<$life:lifetime>)?),+ $(,)?
    }) => {
        #[doc = concat!("`", stringify!($name), "` of proto/clob/v1/", $file, ": one of its members.")]
        #[allow(missing_docs)]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name<'a> {
            $($member($member $(<$life>)?)),+
        }

        impl<'a> Message<'a> for $name<'a> {
            const SPEC: &'static Spec = &Spec {
                name: stringify!($name),
                fields: &[$(Field {
                    number: $number,
                    name: stringify!($field),
                    kind: Kind::Message(<$member $(<$life>)? as Message<'a>>::SPEC),
                    low: 1,
                    high: u64::MAX,
                    is_required: false,
                }),+],
                is_oneof: true,
                total_max: usize::MAX,
            };

            fn read(reader: &mut Reader<'a>) -> Option<Self> {
                let key = reader.varint()?;
                if key & 7 != 2 {
                    return None;
                }
                let member = match key >> 3 {
                    $($number => Self::$member(reader.message()?),)+
                    _ => return None,
                };
                reader.is_done().then_some(member)
            }

            fn encoded_len(&self) -> usize {
                match self {
                    $(Self::$member(member) => varint_len($number << 3) - 1 + element_len(member.encoded_len())),+
                }
            }

            fn encode<S: Sink>(&self, out: &mut S) {
                match self {
                    $(Self::$member(member) => {
                        if $number >= 16 {
                            out.byte($number << 3 & 0x7f | 0x82);
                        }
                        out.element(if $number >= 16 { $number >> 4 } else { $number << 3 | 2 }, member);
                    })+
                }
            }
        }
    };
}
