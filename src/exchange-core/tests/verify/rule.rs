//! The rule on the cases of `tests/vectors/ed25519_rule.json`, which `tests/test_signing.py` plays to the reference.

use std::collections::BTreeSet;

use exchange_core::verify::{
    KeyRefusal, Refusal, SMALL_ORDER_POINTS, SignatureRefusal, SignedKind, case_refusal, is_environment, key_id_of,
    key_refusal, signature_refusal, signed_bytes, verify_one,
};

use crate::cases::{RFC_8032, RULE_CASES_MIN, bytes, rule_cases};

#[test]
fn every_case_has_the_verdict_and_reason_that_its_file_states() {
    let cases = rule_cases();
    assert!(cases.len() >= RULE_CASES_MIN, "the file has {} cases", cases.len());
    for case in &cases {
        let found = case_refusal(&case.public_key, &case.message, &case.signature).map(Refusal::name);
        assert_eq!(found, case.reason.as_deref(), "{}", case.name);
    }
}

#[test]
fn verify_one_is_true_just_where_no_signature_is_refused() {
    let mut asked = 0;
    for case in rule_cases() {
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
    let cases = rule_cases();
    assert_eq!(cases.iter().filter_map(|case| case.reason.as_deref()).collect::<BTreeSet<_>>(), known);
}

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
