//! The rule on the cases of `tests/vectors/ed25519_rule.json`, which `tests/test_signing.py` plays to the reference.

use std::collections::BTreeSet;
use std::path::Path;

use exchange_core::verify::{
    KeyRefusal, Refusal, SMALL_ORDER_POINTS, SignatureRefusal, SignedKind, case_refusal, is_environment, key_id_of,
    key_refusal, signature_refusal, signed_bytes, verify_one,
};
use serde_json::Value;

const RULE_CASES_MIN: usize = 173;

struct Case {
    name: String,
    public_key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
    reason: Option<String>,
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn cases() -> Vec<Case> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/ed25519_rule.json");
    let document: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    document["vectors"].as_array().unwrap().iter().map(case_of).collect()
}

fn case_of(vector: &Value) -> Case {
    let field = |name: &str| bytes(vector[name].as_str().unwrap());
    let reason = vector.get("reason").map(|reason| reason.as_str().unwrap().to_owned());
    assert_eq!(reason.is_some(), vector["expected"] == "refuse", "{}", vector["name"]);
    Case {
        name: vector["name"].as_str().unwrap().to_owned(),
        public_key: field("public_key"),
        message: field("message"),
        signature: field("signature"),
        reason,
    }
}

#[test]
fn every_case_has_the_verdict_and_reason_that_its_file_states() {
    let cases = cases();
    assert!(cases.len() >= RULE_CASES_MIN, "the file has {} cases", cases.len());
    for case in &cases {
        let found = case_refusal(&case.public_key, &case.message, &case.signature).map(Refusal::name);
        assert_eq!(found, case.reason.as_deref(), "{}", case.name);
    }
}

#[test]
fn verify_one_is_true_just_where_no_signature_is_refused() {
    let mut asked = 0;
    for case in cases() {
        let (Ok(public_key), Ok(signature)) = (case.public_key.try_into(), <[u8; 64]>::try_from(case.signature)) else {
            continue;
        };
        let refusal = signature_refusal(&public_key, &case.message, &signature);
        assert_eq!(verify_one(&public_key, &case.message, &signature), refusal.is_none(), "{}", case.name);
        asked += 1;
    }
    assert!(asked >= 150, "{asked} cases have a key and a signature of the right length");
}

#[test]
fn every_reason_has_a_case_and_every_case_a_reason_of_the_rule() {
    let known = KeyRefusal::ALL.iter().map(|reason| reason.name());
    let known: BTreeSet<_> = known.chain(SignatureRefusal::ALL.iter().map(|reason| reason.name())).collect();
    let cases = cases();
    assert_eq!(cases.iter().filter_map(|case| case.reason.as_deref()).collect::<BTreeSet<_>>(), known);
}

/// RFC 8032, section 7.1: tests 1, 2, 3 and SHA(abc); test 1024 is left to the reference's suite.
const RFC_8032: [[&str; 3]; 4] = [
    [
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
    [
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ],
];

#[test]
fn rfc_8032_vectors_are_accepted_as_printed_and_refused_with_any_bit_changed() {
    for [public_key, message, signature] in RFC_8032.map(|vector| vector.map(bytes)) {
        assert_eq!(case_refusal(&public_key, &message, &signature), None);
        for bit in 0..512 {
            let mut mutated = signature.clone();
            mutated[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(case_refusal(&public_key, &message, &mutated), None, "bit {bit}");
        }
    }
}

#[test]
fn every_small_order_point_is_refused_as_a_key_and_as_r() {
    let [public_key, message, signature] = RFC_8032[1].map(bytes);
    for small in SMALL_ORDER_POINTS {
        assert_eq!(key_refusal(&small), Some(KeyRefusal::KeySmallOrder));
        let with_small_r = [&small[..], &signature[32..]].concat();
        let refusal = signature_refusal(public_key.as_slice().try_into().unwrap(), &message, &with_small_r);
        assert_eq!(refusal, Some(SignatureRefusal::RSmallOrder));
    }
}

#[test]
fn a_signature_of_any_other_length_is_refused_for_its_length() {
    let [public_key, message, signature] = RFC_8032[1].map(bytes);
    let twice = signature.repeat(2);
    for length in (0..=128).filter(|&length| length != 64) {
        let refusal = signature_refusal(public_key.as_slice().try_into().unwrap(), &message, &twice[..length]);
        assert_eq!(refusal, Some(SignatureRefusal::SignatureLength));
        assert_eq!(key_refusal(&twice[..length]).is_some_and(|r| r == KeyRefusal::KeyLength), length != 32);
    }
}

#[test]
fn signed_bytes_are_tag_environment_zero_payload() {
    let expected: [&[u8]; 5] = [
        b"clob.v1.Batch\0test-1\0payload",
        b"clob.v1.Register\0test-1\0payload",
        b"clob.v1.Session\0test-1\0payload",
        b"clob.v1.Link\0test-1\0payload",
        b"clob.v1.Operator\0test-1\0payload",
    ];
    assert_eq!(SignedKind::ALL.map(|kind| signed_bytes(kind, "test-1", b"payload")), expected.map(<[u8]>::to_vec));
}

#[test]
fn an_environment_has_1_to_32_allowed_characters() {
    for name in ["a", "0", "-", "prod", &"a".repeat(32), "eu-west-1"] {
        assert!(is_environment(name), "{name:?}");
    }
    for name in ["", &"a".repeat(33), "Prod", "a b", "a\0", "prod\n", "a_b", "é", "٣"] {
        assert!(!is_environment(name), "{name:?}");
    }
}

#[test]
fn a_key_id_is_the_start_of_a_tagged_hash() {
    let public_key = bytes("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8");
    let key_id = key_id_of(public_key.as_slice().try_into().unwrap());
    assert_eq!(key_id.to_vec(), bytes("2a3cd48f0906263e7adc593f4b0f95b2"));
}
