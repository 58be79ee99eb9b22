//! The committed documents of tests/vectors, as far as they concern bytes and hashes.

use std::collections::BTreeSet;
use std::path::Path;

use exchange_core::hashing::{chain_hash, digest_of, genesis_hash, input_hash, state_hash};
use exchange_core::limits;
use exchange_core::units::name_of;
use exchange_core::wire::entries::parse_entry;
use exchange_core::wire::messages::{Checkpoint, ExecutionFrame, Genesis, OrderFrame, ShardState};
use exchange_core::wire::spec::{Field, Kind, Spec};
use exchange_core::wire::{Message, UnknownFormat, WireError, WireReason, check_format, decode_batch};
use serde_json::{Map, Value};

use crate::messages::codec_of;

type Case = Map<String, Value>;

/// Return a document, which has these members and no others.
fn document(name: &str, members: &[&str]) -> Case {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let Ok(Value::Object(document)) = serde_json::from_str(&text) else { panic!("{name} is no object") };
    let head = ["format", "what", "rule", "encoding"];
    let expected: BTreeSet<&str> = head.iter().chain(members).copied().collect();
    assert_eq!(document.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected, "{name}");
    assert_eq!(document["format"], 1, "{name}");
    document
}

/// Return the cases of a document, each of which has these members and no others.
fn cases(document: &Case, list: &str, members: &[&str]) -> Vec<Case> {
    let expected: BTreeSet<&str> = members.iter().copied().collect();
    let cases: Vec<Case> =
        document[list].as_array().unwrap().iter().map(|case| case.as_object().unwrap().clone()).collect();
    for case in &cases {
        assert_eq!(case.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected, "{list}");
    }
    cases
}

fn text<'a>(case: &'a Case, member: &str) -> &'a str {
    case[member].as_str().unwrap_or_else(|| panic!("{member} of {case:?}"))
}

fn number(case: &Case, member: &str) -> u64 {
    text(case, member).parse().unwrap()
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn content(case: &Case, member: &str) -> Vec<u8> {
    bytes(text(case, member))
}

/// Return the bytes that are written as runs: hex, and how often.
fn runs(case: &Case) -> Vec<u8> {
    case["runs"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|run| bytes(run[0].as_str().unwrap()).repeat(usize::try_from(run[1].as_u64().unwrap()).unwrap()))
        .collect()
}

/// Return the bytes of a value that is written as JSON, put together from the table of its message alone.
fn written(spec: &Spec, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let members = value.as_object().unwrap();
    let known = |name: &String| spec.fields.iter().any(|field| field.name == name);
    assert!(members.keys().all(known), "{members:?} has what {} has not", spec.name);
    for field in spec.fields {
        match members.get(field.name) {
            None => {}
            Some(Value::Array(elements)) => elements.iter().for_each(|element| put(&mut out, field, element)),
            Some(item) => put(&mut out, field, item),
        }
    }
    out
}

fn put(out: &mut Vec<u8>, field: &Field, item: &Value) {
    let content = match (field.kind, item) {
        (Kind::Number, item) => {
            let number = match item {
                Value::Bool(flag) => u64::from(*flag),
                Value::String(digits) => digits.parse().unwrap(),
                other => other.as_u64().unwrap(),
            };
            put_varint(out, u64::from(field.number << 3));
            return put_varint(out, number);
        }
        (Kind::Text, Value::String(text)) => text.as_bytes().to_vec(),
        (Kind::Bytes | Kind::ManyBytes, Value::String(hex)) => bytes(hex),
        (Kind::Message(spec) | Kind::Messages(spec), item) => written(spec, item),
        _ => panic!("{} is not written as {item}", field.name),
    };
    put_varint(out, u64::from(field.number << 3 | 2));
    put_varint(out, content.len() as u64);
    out.extend(content);
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
}

/// Check that bytes are refused for this reason, at this field and offset, and by `decode_batch` alike.
fn check_refused(name: &str, message: &str, data: &[u8], reason: &str, case: &Case) -> bool {
    let Some(codec) = codec_of(message) else { return false };
    let check = |error: WireError| {
        let found = (error.reason.name(), error.field.as_str(), error.offset as u64);
        assert_eq!(found, (reason, text(case, "field"), case["offset"].as_u64().unwrap()), "{name}: {error}");
    };
    check((codec.recode)(data).expect_err(name));
    if message == "Batch" {
        check(decode_batch(data, &mut Vec::new()).expect_err(name));
    }
    true
}

fn check_good(name: &str, message: &str, data: &[u8]) -> bool {
    let Some(codec) = codec_of(message) else { return false };
    assert_eq!((codec.recode)(data).as_deref(), Ok(data), "{name}");
    if message == "Batch" {
        decode_batch(data, &mut Vec::new()).expect(name);
    }
    true
}

#[test]
fn good_bytes_are_those_of_their_value_and_encode_to_themselves() {
    let document = document("strict_bytes.json", &["good", "bad", "unknown_format"]);
    let mut checked = 0;
    for case in cases(&document, "good", &["name", "message", "hex", "value"]) {
        let (name, data) = (text(&case, "name"), content(&case, "hex"));
        if check_good(name, text(&case, "message"), &data) {
            let spec = codec_of(text(&case, "message")).unwrap().spec;
            assert_eq!(written(spec, &case["value"]), data, "{name}");
            checked += 1;
        }
    }
    assert!(checked >= 15, "{checked} cases are of a trading shard");
}

#[test]
fn bad_bytes_are_refused_with_reason_field_and_offset() {
    let document = document("strict_bytes.json", &["good", "bad", "unknown_format"]);
    let mut reasons = BTreeSet::new();
    let mut checked = 0;
    for case in cases(&document, "bad", &["name", "message", "hex", "reason", "field", "offset"]) {
        let (name, message, reason) = (text(&case, "name"), text(&case, "message"), text(&case, "reason"));
        if check_refused(name, message, &content(&case, "hex"), reason, &case) {
            reasons.insert(reason.to_owned());
            checked += 1;
        }
    }
    assert!(checked >= 755, "{checked} cases are of a trading shard");
    assert_eq!(reasons, WireReason::ALL.iter().map(|reason| reason.name().to_owned()).collect());
}

#[test]
fn another_version_is_told_from_bytes_of_no_version() {
    let document = document("strict_bytes.json", &["good", "bad", "unknown_format"]);
    let cases = cases(&document, "unknown_format", &["name", "hex", "found"]);
    for case in &cases {
        let (name, data) = (text(case, "name"), content(case, "hex"));
        let mut commands = Vec::new();
        match case["found"].as_u64() {
            None => {
                assert_eq!(check_format("order frame", &data), Ok(()), "{name}");
                assert!(!parse_entry(&data, &mut commands).unwrap().well_formed, "{name}");
            }
            Some(found) => {
                let expected = UnknownFormat { what: "order frame", found: u32::try_from(found).unwrap() };
                assert_eq!(parse_entry(&data, &mut commands).err(), Some(expected), "{name}");
            }
        }
    }
    assert!(cases.len() >= 16);
}

#[test]
fn limits_are_those_of_every_implementation() {
    let document = document("limits.json", &["limits", "cases", "frame_commands"]);
    let known = [
        ("KEY_ID_BYTES", limits::KEY_ID_BYTES),
        ("REQUEST_ID_BYTES", limits::REQUEST_ID_BYTES),
        ("HASH_BYTES", limits::HASH_BYTES),
        ("PUBLIC_KEY_BYTES", limits::PUBLIC_KEY_BYTES),
        ("SIGNATURE_BYTES", limits::SIGNATURE_BYTES),
        ("INGRESS_BYTES", limits::INGRESS_BYTES),
        ("BATCH_COMMANDS_MAX", limits::BATCH_COMMANDS_MAX),
        ("BATCH_BYTES_MAX", limits::BATCH_BYTES_MAX),
        ("FRAME_BATCHES_MAX", limits::FRAME_BATCHES_MAX),
        ("FRAME_COMMANDS_MAX", limits::FRAME_COMMANDS_MAX),
        ("FRAME_LINKS_MAX", limits::FRAME_LINKS_MAX),
        ("FRAME_OPERATIONS_MAX", limits::FRAME_OPERATIONS_MAX),
        ("FRAME_REQUESTS_MAX", limits::FRAME_REQUESTS_MAX),
        ("FRAME_BYTES_MAX", limits::FRAME_BYTES_MAX),
        ("OPERATION_ACTIONS_MAX", limits::OPERATION_ACTIONS_MAX),
        ("OPERATION_BYTES_MAX", limits::OPERATION_BYTES_MAX),
        ("LINK_TRANSFERS_MAX", limits::LINK_TRANSFERS_MAX),
        ("LINK_BYTES_MAX", limits::LINK_BYTES_MAX),
        ("REGISTRATION_BYTES_MAX", limits::REGISTRATION_BYTES_MAX),
        ("DESTINATION_BYTES_MAX", limits::DESTINATION_BYTES_MAX),
        ("TABLE_ROWS_MAX", limits::TABLE_ROWS_MAX),
        ("COMMAND_EVENTS_MAX", limits::COMMAND_EVENTS_MAX),
        ("ENTRY_WORK_MAX", limits::ENTRY_WORK_MAX),
        ("PENDING_EVENTS_MAX", limits::PENDING_EVENTS_MAX),
        ("TIMERS_MAX", limits::TIMERS_MAX),
        ("LINK_DIGESTS_MAX", limits::LINK_DIGESTS_MAX),
        ("EXECUTION_FRAME_BYTES_MAX", limits::EXECUTION_FRAME_BYTES_MAX),
    ];
    for (name, value) in known {
        assert_eq!(document["limits"][name], value, "{name}");
    }
}

#[test]
fn bytes_at_a_limit_are_good_and_one_beyond_it_are_refused() {
    let document = document("limits.json", &["limits", "cases", "frame_commands"]);
    let mut checked = 0;
    for case in document["cases"].as_array().unwrap() {
        let case = case.as_object().unwrap();
        let (name, message, verdict) = (text(case, "name"), text(case, "message"), text(case, "verdict"));
        let data = runs(case);
        checked += usize::from(match verdict {
            "good" => check_good(name, message, &data),
            reason => check_refused(name, message, &data, reason, case),
        });
    }
    assert!(checked >= 29, "{checked} cases");
}

#[test]
fn a_frame_with_more_commands_than_it_may_have_is_malformed_as_a_whole() {
    let document = document("limits.json", &["limits", "cases", "frame_commands"]);
    let mut verdicts = BTreeSet::new();
    for case in document["frame_commands"].as_array().unwrap() {
        let case = case.as_object().unwrap();
        let (data, mut commands) = (runs(case), Vec::new());
        assert_eq!(OrderFrame::decode(&data).unwrap().to_bytes(), data);
        let entry = parse_entry(&data, &mut commands).unwrap();
        let well_formed = case["well_formed"].as_bool().unwrap();
        assert_eq!(entry.well_formed, well_formed, "{}", text(case, "name"));
        assert_eq!(commands.is_empty(), !well_formed);
        assert_eq!(entry.batches.is_empty(), !well_formed);
        verdicts.insert(well_formed);
    }
    assert_eq!(verdicts.len(), 2);
}

#[test]
fn hashes_are_those_of_the_logs() {
    let document = document("hashes.json", &["digest", "input", "chain", "genesis", "state", "mac"]);
    let mut checked = 0;
    let mut check = |case: &Case, hash: [u8; 32]| {
        assert_eq!(hash.to_vec(), content(case, "hash"), "{case:?}");
        checked += 1;
    };
    for case in cases(&document, "digest", &["payload", "hash"]) {
        check(&case, digest_of(&content(&case, "payload")));
    }
    for case in cases(&document, "input", &["n", "t_us", "order_frame", "hashed", "hash"]) {
        check(&case, input_hash(number(&case, "n"), number(&case, "t_us"), &content(&case, "order_frame")));
    }
    for case in cases(&document, "chain", &["execution_frame", "hashed", "hash"]) {
        check(&case, chain_hash(&content(&case, "execution_frame")));
    }
    for case in cases(&document, "genesis", &["environment", "shard", "genesis", "hashed", "hash"]) {
        let shard = u32::try_from(number(&case, "shard")).unwrap();
        check(&case, genesis_hash(text(&case, "environment"), shard, &content(&case, "genesis")));
    }
    for case in cases(&document, "state", &["state", "hashed", "hash"]) {
        check(&case, state_hash(&content(&case, "state")));
    }
    assert!(checked >= 12, "{checked} hashes");
}

#[test]
fn names_are_those_of_their_counters() {
    let document = document("numbers.json", &["names", "notional", "holds", "fees", "bands"]);
    let cases = cases(&document, "names", &["shard", "counter", "name"]);
    for case in &cases {
        let shard = u32::try_from(number(case, "shard")).unwrap();
        assert_eq!(name_of(shard, number(case, "counter")), number(case, "name"));
    }
    assert!(cases.len() >= 6);
}

#[test]
fn signed_messages_are_canonical_with_their_payloads() {
    let document = document(
        "signed_bytes.json",
        &["tags", "key_tag", "keys", "signatures", "bad_environments", "bad_private_keys", "messages"],
    );
    let mut checked = 0;
    for case in document["messages"].as_array().unwrap() {
        let case = case.as_object().unwrap();
        for (message, hex) in [("payload_message", "payload_hex"), ("message", "message_hex")] {
            let (Some(message), Some(hex)) = (case.get(message), case.get(hex)) else { continue };
            let (message, data) = (message.as_str().unwrap(), bytes(hex.as_str().unwrap()));
            if exchange_core_has(message) && check_good(message, message, &data) {
                checked += 1;
            }
        }
        if let (Some(payload), Some(message)) = (case.get("payload"), case.get("payload_message"))
            && payload.is_object()
            && exchange_core_has(message.as_str().unwrap())
        {
            let spec = codec_of(message.as_str().unwrap()).unwrap().spec;
            check_good("payload", spec.name, &written(spec, payload));
            checked += 1;
        }
    }
    assert!(checked >= 4, "{checked} messages");
}

/// The login of a session is signed too, and is no message of a shard.
fn exchange_core_has(message: &str) -> bool {
    crate::messages::CODECS.iter().any(|codec| codec.spec.name == message)
}

/// Everything that the logs of whole executions hold, as bytes of messages.
pub(crate) fn bytes_of_executions() -> Vec<(&'static str, Vec<u8>)> {
    let document = document("executions.json", &["logs"]);
    let mut found = Vec::new();
    let members = ["name", "what", "genesis", "entries", "chain_hash", "state_hash", "checkpoint"];
    for log in cases(&document, "logs", &members) {
        found.push(("Genesis", content(&log, "genesis")));
        let genesis = content(&log, "genesis");
        let genesis = Genesis::decode(&genesis).unwrap();
        if genesis.shard != 0 {
            let checkpoint = content(&log, "checkpoint");
            let state = Checkpoint::decode(&checkpoint).unwrap().state;
            assert_eq!(state_hash(state).to_vec(), content(&log, "state_hash"));
            found.push(("ShardState", state.to_vec()));
        }
        found.push(("Checkpoint", content(&log, "checkpoint")));
        for entry in log["entries"].as_array().unwrap() {
            let entry = entry.as_object().unwrap();
            found.push(("ExecutionFrame", content(entry, "execution_frame")));
            let order_frame = content(entry, "order_frame");
            if let Ok(frame) = OrderFrame::decode(&order_frame) {
                found.extend(frame.batches.iter().map(|signed| ("Batch", signed.payload.to_vec())));
                found.extend(frame.links.iter().map(|signed| ("Link", signed.payload.to_vec())));
                found.extend(frame.operations.iter().map(|signed| ("Operation", signed.payload.to_vec())));
                found.push(("OrderFrame", order_frame));
            }
        }
    }
    found
}

#[test]
fn logs_of_whole_executions_are_canonical() {
    let found = bytes_of_executions();
    let (mut good, mut refused) = (0, 0);
    for (message, data) in &found {
        if let Ok(recoded) = (codec_of(message).unwrap().recode)(data) {
            assert_eq!(&recoded, data, "{message}");
            good += 1;
        } else {
            // Payloads that no client would write are in the logs too.
            assert!(["Batch", "Link", "Operation"].contains(message), "{message}");
            refused += 1;
        }
    }
    assert!(good >= 500 && refused > 0, "{good} good, {refused} refused");
    let of = |name| found.iter().filter(|(message, _)| *message == name).count();
    assert!(of(ShardState::NAME) >= 10 && of(ExecutionFrame::NAME) >= 100);
}
