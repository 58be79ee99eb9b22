//! The tables of the codec are those of proto/clob/v1.

use std::collections::BTreeMap;
use std::path::Path;

use exchange_core::wire::spec::{Kind, Spec};

use crate::messages::{CODECS, OF_SHARD_0, codec_of};

const FILES: [&str; 7] = ["market", "batch", "operation", "control", "event", "frame", "state"];

#[derive(Debug, Default)]
struct Declared {
    is_oneof: bool,
    /// Whether it is a list, type, name, number.
    fields: Vec<(bool, String, String, u32)>,
}

/// Return the messages that the contracts declare, by name.
fn declared() -> BTreeMap<String, Declared> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/clob/v1");
    let mut messages = BTreeMap::new();
    for file in FILES {
        let text = std::fs::read_to_string(folder.join(file).with_extension("proto")).unwrap();
        let mut message: Option<(String, Declared)> = None;
        for line in text.lines() {
            let words: Vec<&str> = line.split("//").next().unwrap().split_whitespace().collect();
            match (words.as_slice(), &mut message) {
                (["message", name, "{"], _) => message = Some(((*name).to_owned(), Declared::default())),
                (["oneof", _, "{"], Some((_, declared))) => declared.is_oneof = true,
                (["repeated", kind, name, "=", number], Some((_, declared))) => {
                    declared.fields.push((true, (*kind).to_owned(), (*name).to_owned(), number_of(number)));
                }
                ([kind, name, "=", number], Some((_, declared))) => {
                    declared.fields.push((false, (*kind).to_owned(), (*name).to_owned(), number_of(number)));
                }
                (["}"], _) if line.starts_with('}') => messages.extend(message.take()),
                _ => {}
            }
        }
    }
    messages
}

fn number_of(word: &str) -> u32 {
    word.strip_suffix(';').unwrap().parse().unwrap()
}

fn kind_of(kind: Kind, high: u64) -> (bool, &'static str) {
    match kind {
        Kind::Number if high == 1 => (false, "bool"),
        Kind::Number => (false, "number"),
        Kind::Bytes => (false, "bytes"),
        Kind::Text => (false, "string"),
        Kind::ManyBytes => (true, "bytes"),
        Kind::Message(spec) => (false, spec.name),
        Kind::Messages(spec) => (true, spec.name),
    }
}

#[test]
fn messages_have_the_fields_of_the_contracts() {
    let declared = declared();
    assert_eq!(declared.len(), CODECS.len() + OF_SHARD_0.len(), "{:?}", declared.keys());
    for (name, message) in &declared {
        let Some(codec) = codec_of(name) else { continue };
        assert_eq!(codec.spec.is_oneof, message.is_oneof, "{name}");
        assert_eq!(codec.spec.fields.len(), message.fields.len(), "{name}");
        for (field, (is_list, kind, field_name, number)) in codec.spec.fields.iter().zip(&message.fields) {
            assert_eq!((field.name, field.number), (field_name.as_str(), *number), "{name}");
            let is_version = field.name == "format";
            let expected = match kind.as_str() {
                "string" | "bytes" | "bool" => kind,
                other if declared.contains_key(other) => other,
                _ => "number",
            };
            if !is_version {
                assert_eq!(kind_of(field.kind, field.high), (*is_list, expected), "{name}.{field_name}");
            }
            let type_max = match kind.as_str() {
                "uint32" => u64::from(u32::MAX),
                other if expected == "number" && other != "uint64" => i32::MAX as u64,
                _ => u64::MAX,
            };
            assert!(1 <= field.low && field.low <= field.high && field.high <= type_max, "{name}.{field_name}");
        }
    }
}

#[test]
fn a_message_that_needs_something_has_to_be_there() {
    fn check(spec: &Spec) {
        for field in spec.fields {
            if let Kind::Message(inner) = field.kind
                && !spec.is_oneof
            {
                assert_eq!(field.is_required, inner.needs_something(), "{}.{}", spec.name, field.name);
            }
        }
    }
    for codec in CODECS {
        check(codec.spec);
    }
}
