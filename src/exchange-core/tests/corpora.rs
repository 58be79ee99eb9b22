//! Every fuzz target over its seeds, without a fuzzer, and over each seed with bytes changed, left out and added.

#![allow(clippy::cast_possible_truncation)]

#[path = "../fuzz/targets.rs"]
mod targets;

/// Changes of each seed; the fuzzer makes millions.
const CHANGES: u64 = 12;

/// Return the seeds in a file: each its length in 4 bytes, lowest first, and its bytes.
fn seeds(mut packed: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some((length, rest)) = packed.split_first_chunk::<4>() {
        let (seed, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        found.push(seed);
        packed = rest;
    }
    found
}

/// A step of `SplitMix64` (Steele, Lea, Flood, "Fast splittable pseudorandom number generators").
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ mixed >> 31) as usize
}

fn changed(seed: &[u8], state: &mut u64) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=next(state) % 3 {
        let place = next(state) % (data.len() + 1);
        match next(state) % 5 {
            0 if place < data.len() => data[place] ^= 1 << (next(state) % 8),
            1 if place < data.len() => drop(data.remove(place)),
            2 => data.insert(place, next(state) as u8),
            3 => data.truncate(place),
            _ => data.extend_from_within(place..data.len().min(place + 8)),
        }
    }
    data
}

fn run(packed: &[u8], target: fn(&[u8])) {
    let seeds = seeds(packed);
    assert!(!seeds.is_empty());
    let mut state = 1;
    for seed in seeds {
        target(seed);
        for _ in 0..CHANGES {
            target(&changed(seed, &mut state));
        }
    }
}

macro_rules! corpora {
    ($($target:ident),*) => { $(
        #[test]
        fn $target() {
            run(include_bytes!(concat!("../fuzz/seeds/", stringify!($target), ".bin")), targets::$target);
        }
    )* };
}

corpora!(
    order_frame,
    batch,
    operation,
    link,
    genesis,
    execution_frame,
    state,
    checkpoint,
    apply_frames,
    apply_commands,
    ingress
);
