//! Batches have the verdicts of single signatures, on every path that this machine has.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cases::{RFC_8032, bytes, rule_cases};
use ed25519_dalek::{Signer, SigningKey};
use exchange_core::verify::{LibraryError, ROWS_MAX, ShapeError, Verifier, key_refusal, verify_batch, verify_one};

type Row = ([u8; 32], Vec<u8>, [u8; 64]);

/// Return the portable path and, where its library was built and the processor has it, the fast one.
fn paths(known_keys_max: usize) -> Vec<Verifier> {
    let portable = Verifier::portable(known_keys_max);
    let Some(library) = library() else {
        eprintln!("the fast path was not tried: `make core`, or cargo build --release in ifma/, makes its library");
        return vec![portable];
    };
    match Verifier::with_library(&library, known_keys_max) {
        Ok(fast) => vec![portable, fast],
        Err(LibraryError::Processor) => vec![portable],
        Err(error) => panic!("{}: {error}", library.display()),
    }
}

fn library() -> Option<PathBuf> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["exchange_core.data/platlib/exchange_core/lib", "ifma/target/release"]
        .map(|folder| crate_folder.join(folder).join("libexchange_ifma.so"))
        .into_iter()
        .find(|path| path.is_file())
}

/// Return the cases whose key may be registered and whose signature has 64 bytes.
fn rows() -> Vec<Row> {
    let registered = rule_cases().into_iter().filter(|case| key_refusal(&case.public_key).is_none());
    let rows: Vec<Row> = registered
        .filter_map(|case| Some((case.public_key.try_into().ok()?, case.message, case.signature.try_into().ok()?)))
        .collect();
    assert!(rows.len() >= 90, "{} cases have a registered key", rows.len());
    rows
}

fn good_rows(count: usize) -> Vec<Row> {
    let row = |i: usize| {
        let signing = SigningKey::from_bytes(&[u8::try_from(i % 251).unwrap(); 32]);
        let message = vec![7; i];
        (signing.verifying_key().to_bytes(), message.clone(), signing.sign(&message).to_bytes())
    };
    (0..count).map(row).collect()
}

fn verdicts(verifier: &mut Verifier, rows: &[Row]) -> Vec<bool> {
    let messages: Vec<&[u8]> = rows.iter().map(|(_, message, _)| message.as_slice()).collect();
    let signatures: Vec<u8> = rows.iter().flat_map(|(_, _, signature)| *signature).collect();
    let keys: Vec<u8> = rows.iter().flat_map(|(key, _, _)| *key).collect();
    let verdicts = verifier.verify_batch(&messages, &signatures, &keys).unwrap();
    assert_eq!(verdicts.len(), rows.len());
    verdicts
}

fn singly(rows: &[Row]) -> Vec<bool> {
    rows.iter().map(|(key, message, signature)| verify_one(key, message, signature)).collect()
}

#[test]
fn every_case_has_its_verdict_in_every_lane_with_its_key_new_and_known() {
    let rows = rows();
    let expected = singly(&rows);
    assert!(expected.contains(&true) && expected.contains(&false));
    for mut verifier in paths(1_024) {
        for shift in 0..8 {
            let (mut rows, mut expected) = (rows.clone(), expected.clone());
            rows.rotate_left(shift);
            expected.rotate_left(shift);
            for sight in ["new", "known"] {
                assert_eq!(verdicts(&mut verifier, &rows), expected, "{}, {sight}, shift {shift}", verifier.path());
            }
        }
    }
}

#[test]
fn a_batch_of_any_size_refuses_just_its_bad_signature() {
    for mut verifier in paths(64) {
        for size in (0..=33).chain([63, 64, 65, 127, 128, 129, 200]) {
            let mut rows = good_rows(size);
            assert_eq!(verdicts(&mut verifier, &rows), vec![true; size], "{} rows, {}", size, verifier.path());
            for bad in (0..size).step_by(1 + size / 8) {
                rows[bad].2[40] ^= 1;
                let expected: Vec<bool> = (0..size).map(|row| row != bad).collect();
                assert_eq!(verdicts(&mut verifier, &rows), expected, "row {bad} of {size}, {}", verifier.path());
                rows[bad].2[40] ^= 1;
            }
        }
    }
}

#[test]
fn keys_that_do_not_fit_the_memory_change_no_verdict() {
    let mut rows = good_rows(200);
    for row in (0..200).step_by(3) {
        rows[row].1.push(0);
    }
    let expected = singly(&rows);
    for known_keys_max in [0, 1, 2, 7, 8, 9, 100] {
        for mut verifier in paths(known_keys_max) {
            for _ in 0..3 {
                assert_eq!(verdicts(&mut verifier, &rows), expected, "{known_keys_max} keys, {}", verifier.path());
                assert_eq!(verdicts(&mut verifier, &rows[..13]), expected[..13]);
            }
        }
    }
}

#[test]
fn messages_of_every_length_around_a_hash_block_have_the_verdict_of_verify_one() {
    let mut rows = good_rows(300);
    let middle = 150;
    for row in (0..300).step_by(2) {
        let half = rows[row].1.len() / 2;
        if let Some(byte) = rows[row].1.get_mut(half) {
            *byte ^= 0x80;
        }
    }
    rows[middle].1 = vec![9; 65_536];
    let expected = singly(&rows);
    assert_eq!(expected.iter().filter(|&&good| good).count(), 151);
    for mut verifier in paths(16) {
        assert_eq!(verdicts(&mut verifier, &rows), expected, "{}", verifier.path());
    }
}

#[test]
fn keys_off_the_curve_are_refused_and_do_not_disturb_their_neighbours() {
    let off_curve = bytes("0200000000000000000000000000000000000000000000000000000000000000");
    for mut verifier in paths(16) {
        let mut rows = good_rows(16);
        rows[5].0 = off_curve.clone().try_into().unwrap();
        let expected: Vec<bool> = (0..16).map(|row| row != 5).collect();
        assert_eq!(verdicts(&mut verifier, &rows), expected, "{}", verifier.path());
        assert_eq!(verdicts(&mut verifier, &rows), expected, "{}", verifier.path());
    }
}

#[test]
fn rfc_8032_vectors_are_accepted_as_one_batch() {
    let [keys, messages, signatures] = [0, 1, 2].map(|part| RFC_8032.map(|vector| bytes(vector[part])));
    let messages = messages.each_ref().map(Vec::as_slice);
    assert_eq!(verify_batch(&messages, &signatures.concat(), &keys.concat()), Ok(vec![true; 4]));
}

#[test]
fn arguments_that_do_not_fit_each_other_are_named_and_nothing_is_verified() {
    let messages = [&b"a"[..], b"b"];
    let (signatures, keys) = ([0; 128], [0; 64]);
    assert_eq!(
        verify_batch(&messages, &signatures[1..], &keys).unwrap_err().to_string(),
        "SHAPE: signatures has 127 bytes for 2 messages; it has 64 a message, 128"
    );
    assert_eq!(
        verify_batch(&messages, &signatures, &keys[..32]).unwrap_err().to_string(),
        "SHAPE: keys has 32 bytes for 2 messages; it has 32 a message, 64"
    );
    let rows = ROWS_MAX + 1;
    assert_eq!(
        verify_batch(&vec![&b""[..]; rows], &vec![0; 64 * rows], &vec![0; 32 * rows]),
        Err(ShapeError::TooManyRows { rows })
    );
    assert_eq!(verify_batch(&[], &[], &[]), Ok(Vec::new()));
}

#[test]
fn a_file_that_is_not_the_library_is_refused() {
    let no_library = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    for path in [no_library.as_path(), Path::new("/nowhere/libexchange_ifma.so")] {
        let error = Verifier::with_library(path, 16).err().expect("an error");
        assert!(matches!(error, LibraryError::Load(_) | LibraryError::Processor), "{error}");
        match Verifier::fastest(path, 16) {
            Err(error) => assert!(matches!(error, LibraryError::Load(_)), "{error}"),
            Ok(verifier) => {
                assert!(verifier.why_portable().starts_with("IFMA_PROCESSOR"), "{}", verifier.why_portable());
            }
        }
    }
}

#[test]
fn a_verifier_says_why_it_is_not_on_the_fast_path() {
    for verifier in paths(16) {
        assert_eq!(verifier.path() == "ifma", verifier.why_portable().is_empty(), "{}", verifier.why_portable());
    }
}

/// Return the fast path's library of a verifier that is none, built with the rule by which it accepts messages.
fn made_up_library(name: &str, accepts: &str) -> PathBuf {
    const SOURCE: &str = r#"
        #[repr(C)] pub struct View { start: *const u8, len: usize }
        #[unsafe(no_mangle)] pub extern "C" fn exchange_ifma_abi() -> u32 { 1 }
        #[unsafe(no_mangle)] pub extern "C" fn exchange_ifma_new(_: usize) -> *mut u8 { 8 as *mut u8 }
        #[unsafe(no_mangle)] pub extern "C" fn exchange_ifma_free(_: *mut u8) {}
        #[unsafe(no_mangle)] pub unsafe extern "C" fn exchange_ifma_verify(
            _: *mut u8, n: usize, _: *const u8, _: *const u8, messages: *const View, verdicts: *mut u8,
        ) -> i32 {
            for row in 0..n {
                let view = unsafe { &*messages.add(row) };
                let message = unsafe { std::slice::from_raw_parts(view.start, view.len) };
                if message.len() > 20 { return 1; }
                unsafe { *verdicts.add(row) = u8::from(ACCEPTS) };
            }
            0
        }
    "#;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, library) = (folder.join(format!("{name}.rs")), folder.join(format!("lib{name}.so")));
    std::fs::write(&source, SOURCE.replace("ACCEPTS", accepts)).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let arguments = ["--edition=2024", "--crate-type=cdylib", "-Awarnings", "-o"];
    let built = Command::new(rustc).args(arguments).arg(&library).arg(&source).status().unwrap();
    assert!(built.success());
    library
}

#[test]
fn a_library_that_fails_its_trial_is_not_used_and_told() {
    let library = made_up_library("accepts_all", "true");
    let verifier = Verifier::fastest(&library, 16).unwrap();
    assert_eq!(verifier.path(), "dalek");
    let why = verifier.why_portable().split(':').next().unwrap();
    assert!(["IFMA_VERDICT", "IFMA_PROCESSOR"].contains(&why), "{why}");
}

#[test]
fn a_library_that_fails_later_changes_no_verdict_and_is_told() {
    // Of the messages of the trial it accepts the right one, and it fails on the longer ones below.
    let library = made_up_library("fails_later", r#"message == b"r""#);
    let mut verifier = match Verifier::with_library(&library, 16) {
        Err(LibraryError::Processor) => return,
        made => made.unwrap(),
    };
    assert_eq!((verifier.path(), verifier.why_portable()), ("ifma", ""));
    let mut rows = good_rows(64);
    rows.drain(..32);
    rows[3].2[40] ^= 1;
    assert_eq!(verdicts(&mut verifier, &rows), singly(&rows));
    assert_eq!(verifier.path(), "dalek");
    assert!(verifier.why_portable().starts_with("IFMA_FAILED"), "{}", verifier.why_portable());
}
