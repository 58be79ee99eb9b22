//! Properties of any bytes: those that are accepted encode to themselves, and the two readers agree on all.

use exchange_core::wire::spec::{Field, Kind, Spec, check};
use exchange_core::wire::{Command, decode_batch};

use crate::messages::{CODECS, Codec, codec_of};
use crate::vectors::bytes_of_executions;

/// `SplitMix64`: every run tries the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// Return a number in bounds, often at one of them, of any length.
    fn number(&mut self, low: u64, high: u64) -> u64 {
        match self.below(6) {
            0 => low,
            1 => high,
            _ => (self.next() >> self.below(64)).clamp(low, high),
        }
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn put_content(out: &mut Vec<u8>, field: &Field, content: &[u8]) {
    put_varint(out, u64::from(field.number << 3 | 2));
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Return canonical bytes of a message, put together from its table alone.
fn canonical(spec: &Spec, random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    if spec.is_oneof {
        let field = &spec.fields[random.below(spec.fields.len())];
        let Kind::Message(member) = field.kind else { panic!("{} has a member that is no message", spec.name) };
        let content = canonical(member, random);
        put_content(&mut out, field, &content);
        return out;
    }
    for field in spec.fields {
        if !field.is_required && random.below(3) == 0 {
            continue;
        }
        match field.kind {
            Kind::Number => {
                put_varint(&mut out, u64::from(field.number << 3));
                put_varint(&mut out, random.number(field.low, field.high));
            }
            Kind::Bytes | Kind::Text => {
                let length = random.number(field.low, field.high.min(field.low.max(40)));
                let letters = ["a", "Z", "0", "\u{e9}", "\0"];
                let content: Vec<u8> = match field.kind {
                    Kind::Text => (0..length).flat_map(|_| letters[random.below(5)].bytes()).collect(),
                    _ => (0..length).map(|_| random.byte()).collect(),
                };
                put_content(&mut out, field, &content);
            }
            Kind::Message(inner) => {
                let content = canonical(inner, random);
                if !content.is_empty() {
                    put_content(&mut out, field, &content);
                }
            }
            Kind::Messages(inner) => {
                for _ in 0..=random.below(3) {
                    let content = canonical(inner, random);
                    put_content(&mut out, field, &content);
                }
            }
            Kind::ManyBytes => {
                for _ in 0..=random.below(3) {
                    let content: Vec<u8> = (0..random.below(34)).map(|_| random.byte()).collect();
                    put_content(&mut out, field, &content);
                }
            }
        }
    }
    out
}

/// Change bytes a little, as damage, a careless client and an attacker would.
fn mutate(data: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(data.len() + 1);
    if data.is_empty() || random.below(8) == 0 {
        return data.insert(at, random.byte());
    }
    let at = at.min(data.len() - 1);
    match random.below(9) {
        0 => data[at] ^= 1 << random.below(8),
        1 => data[at] = random.byte(),
        2 => drop(data.remove(at)),
        3 => data.truncate(at),
        4 => data[at] = data[at].wrapping_add(1),
        5 => data[at] = data[at].wrapping_sub(1),
        6 => {
            // A varint with a digit that it does not need, where a last byte was.
            data[at] |= 0x80;
            data.insert(at + 1, 0);
        }
        7 => {
            let stop = at + random.below(data.len() - at + 1);
            let copied = data[at..stop].to_vec();
            let to = random.below(data.len() + 1);
            data.splice(to..to, copied);
        }
        _ => {
            let stop = at + random.below((data.len() - at).min(12) + 1);
            data.drain(at..stop);
        }
    }
}

/// Check the properties; return whether the bytes are canonical.
fn check_properties(codec: &Codec, data: &[u8]) -> bool {
    let recoded = (codec.recode)(data);
    let by_table = check(codec.spec, data);
    match (&recoded, &by_table) {
        (Ok(recoded), Ok(())) => assert_eq!(recoded, data, "{}", codec.spec.name),
        (Err(error), Err(expected)) => {
            assert_eq!(error, expected, "{}: {data:02x?}", codec.spec.name);
            assert!(error.offset <= data.len() && !error.field.is_empty(), "{error}");
        }
        _ => panic!("{}: the readers disagree on {data:02x?}: {recoded:?}, {by_table:?}", codec.spec.name),
    }
    if codec.spec.name == "Batch" {
        let mut commands = vec![Command::NotForTrading];
        let head = decode_batch(data, &mut commands);
        assert_eq!(head.as_ref().err(), recoded.as_ref().err(), "{data:02x?}");
        match head {
            Ok(head) => assert_eq!((head.first, head.len as usize + 1), (1, commands.len())),
            Err(_) => assert_eq!(commands, [Command::NotForTrading]),
        }
    }
    recoded.is_ok()
}

#[test]
fn canonical_bytes_of_every_message_are_accepted_and_encode_to_themselves() {
    let mut random = Random(1);
    for codec in CODECS {
        for _ in 0..300 {
            let data = canonical(codec.spec, &mut random);
            assert!(check_properties(codec, &data), "{}: {:?}", codec.spec.name, check(codec.spec, &data));
        }
    }
}

#[test]
fn the_readers_agree_on_mutated_bytes_and_what_they_accept_encodes_to_itself() {
    let mut random = Random(2);
    let (mut accepted, mut refused) = (0, 0);
    for codec in CODECS {
        for _ in 0..400 {
            let mut data = canonical(codec.spec, &mut random);
            for _ in 0..4 {
                mutate(&mut data, &mut random);
                if check_properties(codec, &data) {
                    accepted += 1;
                } else {
                    refused += 1;
                }
            }
        }
    }
    assert!(accepted > 5_000 && refused > 50_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn the_readers_agree_on_mutated_logs() {
    let mut random = Random(3);
    for (message, data) in bytes_of_executions() {
        let codec = codec_of(message).unwrap();
        for _ in 0..10 {
            let mut data = data.clone();
            mutate(&mut data, &mut random);
            check_properties(codec, &data);
        }
    }
}

#[test]
fn the_readers_agree_on_every_short_input() {
    for codec in CODECS {
        check_properties(codec, &[]);
        for first in 0..=255 {
            check_properties(codec, &[first]);
            for second in [0, 1, 2, 3, 0x7f, 0x80, 0x81, 0xff] {
                check_properties(codec, &[first, second]);
                check_properties(codec, &[first, second, 0]);
                check_properties(codec, &[first, second, 0x0a, 0]);
            }
        }
    }
}

#[test]
fn numbers_of_every_length_are_read_wherever_the_input_ends() {
    let codec = codec_of("OpenAccount").unwrap();
    for bit in 0..64 {
        for value in [1_u64 << bit, (1 << bit) - 1, u64::MAX >> bit] {
            let mut data = vec![8];
            put_varint(&mut data, value);
            assert_eq!(check_properties(codec, &data), value > 0);
            for stop in 0..data.len() {
                check_properties(codec, &data[..stop]);
            }
            let last = data.len() - 1;
            data[last] |= 0x80;
            data.push(0);
            check_properties(codec, &data);
            data.extend([0x80; 10]);
            check_properties(codec, &data);
        }
    }
}

#[test]
fn an_inner_message_ends_where_its_length_says() {
    // A reader may look beyond the end of an inner message; that must never be accepted.
    let codec = codec_of("Command").unwrap();
    let place = [0x0a, 4, 8, 1, 0x38, 1];
    assert!(check_properties(codec, &place));
    for length in 0..10 {
        let mut data = place.to_vec();
        data[1] = length;
        for tail in 0..6 {
            data.truncate(place.len());
            data.extend((0..tail).map(|_| 0x42));
            check_properties(codec, &data);
        }
    }
}
