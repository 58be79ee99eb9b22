//! What is asked of every input: nothing panics, what was decoded encodes to the same bytes, states break no invariant.
//!
//! The fuzzer calls these with what it makes up; `tests/corpora.rs` calls them with the seeds, without a fuzzer.

#![allow(clippy::cast_possible_truncation, clippy::decimal_bitwise_operands)]

use std::sync::OnceLock;

use exchange_core::checkpoint::broken_in_shard;
use exchange_core::fold::{Applied, ShardFold, Watch};
use exchange_core::frames::{is_canonical, is_readable};
use exchange_core::hashing::{chain_hash, input_hash};
use exchange_core::ingress::{outcome_of, read_stream_request, read_submit_request};
use exchange_core::ledger::{Ledger, Rows};
use exchange_core::shard::Shard;
use exchange_core::wire::messages::{
    AllocateFunds, CancelAllOrders, CancelOrder, Checkpoint, ExecutionFrame, Genesis, Link, Operation, OrderFrame,
    PlaceOrder, ReduceOrder, ReleaseFunds, ReplaceOrder, ShardState, SignedBatch,
};
use exchange_core::wire::{Message, decode_batch};

/// Genesis of the shard that the seeds of `apply_frames` were written for.
pub const GENESIS: &[u8] = include_bytes!("base/genesis");
/// The same shard with markets, funds and a few open orders.
pub const BASE: &[u8] = include_bytes!("base/checkpoint");

const ENTRIES_MAX: usize = 64;
const COMMANDS_MAX: usize = 192;

fn recoded<'a, M: Message<'a>>(data: &'a [u8]) {
    if let Ok(message) = M::decode(data) {
        let mut out = Vec::new();
        message.encode(&mut out);
        assert!(out == data, "{} is not encoded as it was decoded", M::NAME);
        assert_eq!(message.encoded_len(), data.len());
    }
}

pub fn order_frame(data: &[u8]) {
    recoded::<OrderFrame>(data);
    let mut commands = Vec::new();
    let _ = exchange_core::wire::entries::parse_entry(data, &mut commands);
}

pub fn batch(data: &[u8]) {
    let mut commands = Vec::new();
    match decode_batch(data, &mut commands) {
        Ok(head) => assert_eq!((head.first, head.len as usize), (0, commands.len())),
        Err(_) => assert!(commands.is_empty()),
    }
    let there = commands.len();
    if decode_batch(data, &mut commands).is_err() {
        assert_eq!(commands.len(), there);
    }
}

/// What a trader sends, and what an ingress cuts out of a frame for one.
pub fn ingress(data: &[u8]) {
    let streamed = read_stream_request(data).map(|(_, message)| message);
    for mut message in [read_submit_request(data), streamed].into_iter().flatten() {
        let (commands, _) = message.read_batches(&mut Vec::new());
        let heads = (0..message.len()).filter_map(|index| message.head(index));
        assert_eq!(heads.map(|head| head.len as usize).sum::<usize>(), commands);
        let whole: usize = (0..message.len())
            .map(|index| {
                let (key_id, payload, signature) = message.fields(index);
                key_id.len() + payload.len() + signature.len()
            })
            .sum();
        assert!(whole <= data.len());
        for index in 0..message.len() {
            assert_eq!(message.unanswered(index), index + 1 == message.len());
        }
        assert!(message.answer().outcomes.len() <= 64 * message.len());
    }
    for place in 0..3 {
        if let Ok(Some(outcome)) = outcome_of(data, place, 7) {
            assert!(outcome.len() <= data.len() + 32);
        }
    }
}

pub fn operation(data: &[u8]) {
    recoded::<Operation>(data);
}

pub fn link(data: &[u8]) {
    recoded::<Link>(data);
}

/// A genesis that a shard starts from is one that fold and ledger start from, and its checkpoint loads again.
pub fn genesis(data: &[u8]) {
    recoded::<Genesis>(data);
    let (fold, ledger) = (ShardFold::from_genesis(data), Ledger::open(data, &Rows::default()));
    let Ok(mut shard) = Shard::from_genesis(data) else { return };
    let (fold, ledger) = (fold.expect("a shard starts from it"), ledger.expect("a shard starts from it"));
    assert_eq!((fold.shard(), fold.chain_hash()), (shard.shard(), shard.chain_hash()));
    assert_eq!((ledger.shard(), ledger.chain_hash()), (shard.shard(), shard.chain_hash()));
    checkpoint(&shard.checkpoint());
    let mut out = Vec::new();
    shard.apply(1, 1, b"", &mut out).expect("an empty entry is answered");
    check(&shard, &out);
}

/// A frame, and the same events as the next frame of the base and as the first one of the genesis.
pub fn execution_frame(data: &[u8]) {
    recoded::<ExecutionFrame>(data);
    assert_eq!(is_canonical(data), ExecutionFrame::decode(data).is_ok());
    let Ok(frame) = ExecutionFrame::decode(data) else { return };
    assert!(is_readable(data));
    let next = |n, previous_hash, t_us| {
        let mut out = Vec::new();
        ExecutionFrame { n, previous_hash, t_us, rules: 1, ..frame.clone() }.encode(&mut out);
        out
    };
    let mut fold = fold_of_base();
    let hash = fold.chain_hash();
    let _ = fold.apply(&[&next(fold.n() + 1, &hash, fold.t_us())], &mut Applied::default());
    let ledger = Ledger::open(GENESIS, &Rows::default()).expect("the genesis is sound");
    let first = next(1, &ledger.chain_hash(), 1);
    if let Ok(strict) = ledger.fold(&[&first], None) {
        assert_eq!(ledger.fold_proven(&[&first], chain_hash(&first)).expect("it was folded before"), strict);
    }
}

pub fn state(data: &[u8]) {
    recoded::<ShardState>(data);
    recoded::<Checkpoint>(data);
    if ShardState::decode(data).is_ok_and(|state| broken_in_shard(&state).is_none()) {
        checkpoint(&exchange_core::checkpoint::write_checkpoint(data));
    }
}

/// A checkpoint that loads is written again as it was, and what it holds goes on.
pub fn checkpoint(data: &[u8]) {
    let Ok(mut shard) = Shard::from_checkpoint(data) else { return };
    assert!(shard.checkpoint() == data, "a checkpoint is not written as it was read");
    let (n, t_us) = (shard.position(), shard.t_us());
    let mut out = Vec::new();
    if n < u64::MAX && shard.apply(n + 1, t_us, b"", &mut out).is_ok() {
        check(&shard, &out);
    }
}

/// Bytes as entries: how much later, in microseconds, in 4 bytes; how long the frame is, in 2; the frame.
///
/// An even first byte: from the genesis on; an odd one: from the base.
pub fn apply_frames(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let (mut shard, mut fold) =
        if first % 2 == 0 { (from_genesis(), fold_of_genesis()) } else { (from_base(), fold_of_base()) };
    let mut t_us = shard.t_us().max(1_700_000_000_000_000);
    for _ in 0..ENTRIES_MAX {
        let Some((head, tail)) = rest.split_first_chunk::<6>() else { break };
        t_us += u64::from(u32::from_le_bytes([head[0], head[1], head[2], head[3]]));
        let length = usize::from(u16::from_le_bytes([head[4], head[5]])).min(tail.len());
        let (frame, tail) = tail.split_at(length);
        rest = tail;
        if !enter(&mut shard, &mut fold, t_us, frame) {
            return;
        }
    }
    check_state(&shard);
    check_fold(&fold, &shard);
}

/// Bytes as commands: each a few numbers, most of them small, all of them possible.
pub fn apply_commands(data: &[u8]) {
    let (mut shard, mut fold) = (from_base(), fold_of_base());
    let mut t_us = shard.t_us();
    let mut bytes = Bytes(data);
    let mut nonce = 1 << 32;
    let mut left = COMMANDS_MAX;
    while !bytes.0.is_empty() && left > 0 {
        t_us += u64::from(bytes.byte()) * 1_000;
        let mut frame = Vec::new();
        OrderFrame {
            format: 1,
            ingress: &[7; 16],
            counter: shard.position() + 1,
            ingress_time_us: t_us,
            control_n: shard.facts().control_floor,
            batches: Vec::new(),
            links: Vec::new(),
            operations: Vec::new(),
            requests: Vec::new(),
        }
        .encode(&mut frame);
        for _ in 0..=bytes.byte() % 3 {
            let account = bytes.account();
            let mut payload = Vec::new();
            put(&mut payload, 1, account);
            put(&mut payload, 2, u64::from(shard.shard()));
            nonce += 1;
            put(&mut payload, 3, nonce);
            put(&mut payload, 4, t_us / 1_000 + 5_000);
            for _ in 0..=bytes.byte() % 6 {
                left = left.saturating_sub(1);
                put_content(&mut payload, 5, &bytes.command(&shard));
            }
            let mut signed = Vec::new();
            SignedBatch { key_id: &[account as u8; 16], payload: &payload, signature: &[0; 64] }.encode(&mut signed);
            put_content(&mut frame, 6, &signed);
        }
        if !enter(&mut shard, &mut fold, t_us, &frame) {
            return;
        }
    }
    check_state(&shard);
    check_fold(&fold, &shard);
}

/// Apply an entry, and fold its answer; return whether the shard goes on.
fn enter(shard: &mut Shard, fold: &mut ShardFold, t_us: u64, frame: &[u8]) -> bool {
    let (n, before, mut out) = (shard.position() + 1, shard.chain_hash(), Vec::new());
    if shard.apply(n, t_us, frame, &mut out).is_err() {
        assert!(out.is_empty() && shard.stopped().is_some());
        return false;
    }
    let answer = check(shard, &out);
    assert!(answer.n == n && answer.t_us == t_us);
    assert!(*answer.previous_hash == before && *answer.input_hash == input_hash(n, t_us, frame));
    fold.apply(&[&out], &mut Applied::default()).expect("an answer follows");
    true
}

/// Check that a frame is canonical and chained.
fn check<'a>(shard: &Shard, frame: &'a [u8]) -> ExecutionFrame<'a> {
    let decoded = ExecutionFrame::decode(frame).expect("an execution frame is canonical");
    let mut out = Vec::new();
    decoded.encode(&mut out);
    assert!(out == frame, "an execution frame is not encoded as it is decoded");
    assert_eq!(chain_hash(frame), shard.chain_hash());
    decoded
}

/// Check that a state breaks no invariant and is the same once it was loaded.
fn check_state(shard: &Shard) {
    let state = shard.state();
    let decoded = ShardState::decode(&state).expect("a state is canonical");
    assert_eq!(broken_in_shard(&decoded), None);
    let again = Shard::from_checkpoint(&shard.checkpoint()).expect("a checkpoint loads");
    assert!(again.state() == state, "a state is not the same once it was loaded");
}

/// Check that a fold says what its shard says.
fn check_fold(fold: &ShardFold, shard: &Shard) {
    assert_eq!((fold.n(), fold.chain_hash()), (shard.position(), shard.chain_hash()));
    for market in fold.markets() {
        let (bids, asks) = fold.depth(market, usize::MAX).expect("a market");
        let [bids, asks] = [bids, asks]
            .map(|side| side.iter().map(|level| (level.price_ticks, level.quantity_lots as u64)).collect::<Vec<_>>());
        assert_eq!(shard.depth(market, usize::MAX), Some((bids, asks)));
    }
    for account in fold.accounts() {
        let wide = |(asset, free, locked)| (asset, i128::from(free), i128::from(locked));
        let units: Vec<(u32, i128, i128)> = shard.balances(account).into_iter().map(wide).collect();
        assert_eq!(fold.balances(account), units, "account {account}");
        let open: Vec<_> = fold.open_orders(account).map(|order| order.order_id).collect();
        assert_eq!(shard.open_orders(account).iter().map(|order| order.order_id).collect::<Vec<_>>(), open);
    }
}

fn fold_of_genesis() -> ShardFold {
    ShardFold::from_genesis(GENESIS).expect("the genesis is sound")
}

fn fold_of_base() -> ShardFold {
    let mut fold = ShardFold::from_checkpoint(BASE).expect("the base is sound");
    for (market, watch) in [(1, Watch::EveryCommand), (2, Watch::EveryFrame)] {
        assert!(fold.watch(market, watch));
    }
    fold
}

fn from_genesis() -> Shard {
    Shard::from_genesis(GENESIS).expect("the genesis is sound")
}

fn from_base() -> Shard {
    static LOADED: OnceLock<Shard> = OnceLock::new();
    LOADED.get_or_init(|| Shard::from_checkpoint(BASE).expect("the base is sound")).clone()
}

fn put(out: &mut Vec<u8>, number: u8, mut value: u64) {
    if value == 0 {
        return;
    }
    out.push(number << 3);
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_content(out: &mut Vec<u8>, number: u8, content: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = content.len();
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
}

/// Bytes to read choices from; zeroes once there are none left.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }

    /// A number: mostly the small one that a byte says, now and then one from the edges, or any.
    fn number(&mut self, middle: u64) -> u64 {
        match self.byte() {
            byte @ 0..=199 => middle + u64::from(byte % 16),
            byte @ 200..=239 => u64::from(byte - 200),
            240 => (1 << 53) - 1,
            241 => 1 << 53,
            242 => (1 << 63) - 1,
            243 => 1 << 63,
            244 => u64::MAX,
            245..=250 => 1 << (self.byte() % 64),
            _ => self.word(),
        }
    }

    fn account(&mut self) -> u64 {
        match self.byte() {
            255 => self.word().max(1),
            byte => 7 + u64::from(byte % 4),
        }
    }

    fn market(&mut self) -> u32 {
        match self.byte() {
            255 => self.word() as u32,
            byte => 1 + u32::from(byte % 3),
        }
    }

    /// An open order of the shard, by its name or its account's name for it, or one that is not there.
    fn named(&mut self, shard: &Shard) -> (u64, u64) {
        let account = self.account();
        let open = shard.open_orders(account);
        match self.byte() {
            byte @ 0..=229 if !open.is_empty() => {
                let order = &open[usize::from(byte) % open.len()];
                if byte % 2 == 0 || order.client_order_id == 0 {
                    (order.order_id, 0)
                } else {
                    (0, order.client_order_id)
                }
            }
            230..=250 => (0, u64::from(self.byte() % 8)),
            _ => (self.number(1 << 52), self.number(0)),
        }
    }

    fn command(&mut self, shard: &Shard) -> Vec<u8> {
        let mut body = Vec::new();
        let number = match self.byte() % 16 {
            0..=8 => {
                let choice = self.byte();
                PlaceOrder {
                    market: self.market(),
                    side: 1 + u32::from(choice & 1),
                    order_type: 1 + u32::from(choice & 14 == 14),
                    time_in_force: u32::from(self.byte() % 16).min(4),
                    post_only: choice & 112 == 112,
                    self_trade_prevention: u32::from(self.byte() % 7),
                    price_ticks: self.number(92),
                    quantity_lots: self.number(1),
                    client_order_id: u64::from(self.byte() % 8),
                }
                .encode(&mut body);
                1
            }
            9 | 10 => {
                let (order_id, client_order_id) = self.named(shard);
                CancelOrder { order_id, client_order_id }.encode(&mut body);
                2
            }
            11 => {
                let (order_id, client_order_id) = self.named(shard);
                ReduceOrder { order_id, client_order_id, quantity_lots: self.number(1) }.encode(&mut body);
                3
            }
            12 | 13 => {
                let (order_id, client_order_id) = self.named(shard);
                let (price_ticks, quantity_lots) = (self.number(92), self.number(1));
                ReplaceOrder { order_id, client_order_id, price_ticks, quantity_lots }.encode(&mut body);
                4
            }
            14 => {
                CancelAllOrders { market: self.market() & 3, side: u32::from(self.byte() % 4) }.encode(&mut body);
                5
            }
            _ if !self.byte().is_multiple_of(4) => {
                ReleaseFunds { asset: self.market(), amount_units: self.number(1) }.encode(&mut body);
                6
            }
            _ => {
                AllocateFunds { asset: 1, amount_units: self.number(1), to_shard: 2 }.encode(&mut body);
                7
            }
        };
        let mut command = Vec::new();
        put_content(&mut command, number, &body);
        command
    }
}
