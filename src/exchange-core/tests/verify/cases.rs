//! Cases that more than one test file plays.

use std::path::Path;

use serde_json::Value;

/// How many cases the file has at least, so that no test passes on nothing.
pub const RULE_CASES_MIN: usize = 173;

/// A raw case and the reason why it is refused, where it is.
pub struct Case {
    pub name: String,
    pub public_key: Vec<u8>,
    pub message: Vec<u8>,
    pub signature: Vec<u8>,
    pub reason: Option<String>,
}

/// Return the bytes of hex.
pub fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

/// Return the cases of `tests/vectors/ed25519_rule.json`, which `tests/test_signing.py` plays to the reference.
pub fn rule_cases() -> Vec<Case> {
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

/// RFC 8032, section 7.1: tests 1, 2, 3 and SHA(abc); test 1024 is left to the reference's suite.
pub const RFC_8032: [[&str; 3]; 4] = [
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
