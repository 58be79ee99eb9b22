//! Nanoseconds per command of strict decoding and canonical encoding: `cargo run --release --example bench_wire`.
//!
//! A frame of 512 placed orders in one batch, and one of 64 batches of one placed order each. Decoding is what an entry
//! costs but for its digests: the frame, every payload, every command into one vector. Encoding writes both again.

#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use exchange_core::checkpoint::{broken_in_shard, read_shard_checkpoint, write_checkpoint};
use exchange_core::hashing::state_hash;
use exchange_core::units::name_of;
use exchange_core::wire::messages::{
    AccountState, Balance, BookState, Genesis, Market, OperatorKey, OrderFrame, PlaceOrder, RestingOrder, ShardCore,
    ShardSettings, ShardState, SignedBatch, Trade,
};
use exchange_core::wire::{BatchHead, Body, Command, Message, Sink, decode_batch};

/// Times each round is measured; the least of them counts.
const ROUNDS: usize = 60;
const REPEATS: usize = 200;

fn main() {
    println!("{:24} {:>10} {:>10} {:>12}", "frame", "decode", "encode", "ns/command");
    for (name, batches, per_batch) in [("1 batch of 512", 1, 512), ("64 batches of 1", 64, 1)] {
        let frame = frame_of(batches, per_batch);
        let mut commands = Vec::new();
        let commands_in_all = (batches * per_batch) as f64;
        let decode_ns = least_ns(|| {
            let decoded = decode(black_box(&frame), &mut commands);
            black_box(decoded.1.len());
        });
        let (decoded, heads) = decode(&frame, &mut commands);
        let mut out = Vec::with_capacity(2 * frame.len());
        let encode_ns = least_ns(|| {
            out.clear();
            encode(black_box(&decoded), &heads, &commands, &mut out);
            black_box(out.len());
        });
        assert_eq!(out, frame);
        let (decode_ns, encode_ns) = (decode_ns / commands_in_all, encode_ns / commands_in_all);
        println!("{name:24} {decode_ns:>10.1} {encode_ns:>10.1} {:>12.1}", decode_ns + encode_ns);
    }
    let place = place(7);
    let mut encoded = Vec::new();
    place.encode(&mut encoded);
    let decode = least_ns(|| drop(black_box(PlaceOrder::decode(black_box(&encoded)))));
    println!("PlaceOrder, {} bytes: decode {decode:.1} ns", encoded.len());
    let trade = trade();
    let mut length = 0;
    let event = least_ns(|| {
        let mut body = Body::new();
        black_box(&trade).encode(&mut body);
        length = black_box(body.as_slice()).len();
    });
    println!("Trade, {length} bytes: encode into a body {event:.1} ns");
    checkpoint();
}

/// Print how long a checkpoint with 1,000,000 resting orders takes to be read, and in which of its steps.
fn checkpoint() {
    let genesis = genesis();
    let state = ShardState::decode(&genesis).expect("the state is canonical");
    let state = with_orders(state, 1_000, 20_000, 1_000);
    let begin = Instant::now();
    let encoded = state.to_bytes();
    let encode_ms = begin.elapsed().as_secs_f64() * 1e3;
    let data = write_checkpoint(&encoded);
    let mut least = [f64::INFINITY; 4];
    for _ in 0..7 {
        let steps: [&mut dyn FnMut(); 4] = [
            &mut || assert_ne!(state_hash(black_box(&encoded)), [0; 32]),
            &mut || drop(black_box(ShardState::decode(black_box(&encoded)).unwrap())),
            &mut || assert_eq!(broken_in_shard(black_box(&state)), None),
            &mut || drop(black_box(read_shard_checkpoint(black_box(&data)).unwrap())),
        ];
        for (least, step) in least.iter_mut().zip(steps) {
            let begin = Instant::now();
            step();
            *least = least.min(begin.elapsed().as_secs_f64() * 1e3);
        }
    }
    let [hash, decode, check, whole] = least;
    println!(
        "checkpoint of 1,000,000 orders, {} MB: read {whole:.0} ms (hash {hash:.0}, decode {decode:.0}, check {check:.0}); \
         encode {encode_ms:.0} ms",
        data.len() / 1_000_000
    );
}

/// Return the state of a shard with no markets.
fn genesis() -> Vec<u8> {
    let operator = |role| OperatorKey { role, public_key: &[1; 32], last_sequence: 0, last_digest: &[] };
    let settings = ShardSettings {
        max_validity_ms: 60_000,
        live_nonces_per_key_max: 65_536,
        open_orders_per_account_max: 100_000,
    };
    let genesis = Genesis {
        format: 1,
        environment: "bench",
        shard: 1,
        rules: 1,
        settings,
        operators: (1..=3).map(operator).collect(),
    };
    let core = ShardCore {
        operators: genesis.operators.clone(),
        genesis,
        n: 10,
        t_us: 1,
        chain_hash: &[2; 32],
        rules: 1,
        settings,
        control_floor: 0,
        nonces: Vec::new(),
        links_in: Vec::new(),
        links_out: Vec::new(),
    };
    ShardState {
        format: 1,
        core,
        last_order: 0,
        last_trade: 0,
        last_cancel_all: 0,
        last_timer: 0,
        books: Vec::new(),
        accounts: Vec::new(),
        fees: Vec::new(),
        timers: Vec::new(),
        pending: Vec::new(),
    }
    .to_bytes()
}

/// Return the state with so many markets and accounts, and so many orders in each market.
fn with_orders(mut state: ShardState<'_>, markets: u32, accounts: u64, per_market: u64) -> ShardState<'_> {
    let mut locked = BTreeMap::new();
    let mut counts = vec![0; accounts as usize + 1];
    for market in 1..=markets {
        let mut sides = [Vec::new(), Vec::new()];
        for place in 0..per_market {
            state.last_order += 1;
            let is_ask = place >= per_market / 2;
            let account = 1 + state.last_order * 7_919 % accounts;
            let open_lots = 1 + state.last_order % 90;
            let price_ticks = if is_ask { 100_000 + place } else { 100_000 - place - 1 };
            let units = if is_ask { open_lots } else { open_lots * price_ticks };
            *locked.entry((account, 1 + u32::from(!is_ask))).or_insert(0) += units;
            counts[account as usize] += 1;
            sides[usize::from(is_ask)].push(RestingOrder {
                order_id: 1 << 52 | state.last_order,
                client_order_id: state.last_order,
                account,
                price_ticks,
                open_lots,
                self_trade_prevention: 1,
                ..Default::default()
            });
        }
        let [bids, asks] = sides;
        let market = Market {
            market,
            shard: 1,
            symbol: "BTC-USD",
            base_asset: 1,
            quote_asset: 2,
            base_units_per_lot: 1,
            quote_units_per_tick_lot: 1,
            state: 1,
            ..Default::default()
        };
        state.books.push(BookState { market, market_seq: 1 + per_market, last_price_ticks: 0, bids, asks });
    }
    for account in 1..=accounts {
        let of_account = locked.range((account, 0)..(account + 1, 0));
        let balances = of_account.map(|(&(_, asset), &locked_units)| Balance { asset, free_units: 5, locked_units });
        let account_seq = 1 + counts[account as usize];
        state.accounts.push(AccountState { account, account_seq, balances: balances.collect() });
    }
    state
}

/// Return the least nanoseconds of a call.
fn least_ns(mut call: impl FnMut()) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..REPEATS {
            call();
        }
        least = least.min(begin.elapsed().as_nanos() as f64 / REPEATS as f64);
    }
    least
}

fn decode<'a>(frame: &'a [u8], commands: &mut Vec<Command>) -> (OrderFrame<'a>, Vec<BatchHead>) {
    commands.clear();
    let frame = OrderFrame::decode(frame).expect("the frame is canonical");
    let heads = frame.batches.iter().map(|signed| decode_batch(signed.payload, commands));
    let heads = heads.collect::<Result<_, _>>().expect("the batches are canonical");
    (frame, heads)
}

fn encode(frame: &OrderFrame<'_>, heads: &[BatchHead], commands: &[Command], out: &mut Vec<u8>) {
    // The payloads that the frame borrows are written from the commands, not copied.
    let mut payloads = Vec::with_capacity(out.capacity());
    let mut ends = Vec::with_capacity(heads.len());
    for head in heads {
        write_batch(head, commands, &mut payloads);
        ends.push(payloads.len());
    }
    let mut start = 0;
    let batches = frame.batches.iter().zip(ends).map(|(signed, end)| {
        let payload = &payloads[start..end];
        start = end;
        SignedBatch { payload, ..*signed }
    });
    let batches = batches.collect();
    OrderFrame { batches, links: Vec::new(), operations: Vec::new(), requests: Vec::new(), ..*frame }.encode(out);
}

fn write_batch(head: &BatchHead, commands: &[Command], out: &mut Vec<u8>) {
    let numbers = [(1, head.account), (2, u64::from(head.shard)), (3, head.nonce), (4, head.valid_until_ms)];
    for (number, value) in numbers {
        out.byte(number << 3);
        out.varint(value);
    }
    for command in &commands[head.first as usize..][..head.len as usize] {
        let Command::Place(order) = command else { panic!("every command places an order") };
        let length = order.encoded_len();
        assert!(length < 126);
        out.bytes(&[5 << 3 | 2, length as u8 + 2, 1 << 3 | 2, length as u8]);
        order.encode(out);
    }
}

fn place(number: u64) -> PlaceOrder {
    PlaceOrder {
        market: 1 + (number % 300) as u32,
        side: 1 + (number % 2) as u32,
        order_type: 1,
        time_in_force: 1,
        post_only: number.is_multiple_of(8),
        self_trade_prevention: 1,
        price_ticks: 100_000 + number % 977,
        quantity_lots: 1 + number * number % 500,
        client_order_id: 1_000_000 + number,
    }
}

fn trade() -> Trade {
    Trade {
        market: 12,
        market_seq: 123_456,
        trade_id: name_of(1, 345_678),
        price_ticks: 101_000,
        quantity_lots: 25,
        taker_side: 1,
        maker_order_id: name_of(1, 567_890),
        taker_order_id: name_of(1, 678_901),
        maker_account: 1_234,
        maker_account_seq: 45_678,
        taker_account: 2_345,
        taker_account_seq: 56_789,
        maker_fee_quote_units: 1_234,
        taker_fee_quote_units: 4_567,
    }
}

fn frame_of(batches: usize, per_batch: usize) -> Vec<u8> {
    let mut commands = Vec::new();
    let mut payloads = Vec::new();
    for batch in 0..batches {
        let first = commands.len() as u32;
        commands.extend((0..per_batch).map(|command| Command::Place(place((batch * per_batch + command) as u64))));
        let head = BatchHead {
            account: 1 + batch as u64,
            shard: 1,
            nonce: 1_000 + batch as u64,
            valid_until_ms: 1_700_000_030_000,
            first,
            len: per_batch as u32,
        };
        let mut payload = Vec::new();
        write_batch(&head, &commands, &mut payload);
        payloads.push(payload);
    }
    let signed = payloads.iter().map(|payload| SignedBatch { key_id: &[7; 16], payload, signature: &[9; 64] });
    let frame = OrderFrame {
        format: 1,
        ingress: &[3; 16],
        counter: 77,
        ingress_time_us: 1_700_000_000_000_000,
        control_n: 5,
        batches: signed.collect(),
        links: Vec::new(),
        operations: Vec::new(),
        requests: Vec::new(),
    };
    let mut out = Vec::new();
    frame.encode(&mut out);
    out
}
