//! Nanoseconds per command of strict decoding and canonical encoding: `cargo run --release --example bench_wire`.
//!
//! A frame of 512 placed orders in one batch, and one of 64 batches of one placed order each. Decoding is what an entry
//! costs but for its digests: the frame, every payload, every command into one vector. Encoding writes both again.

use std::hint::black_box;
use std::time::Instant;

use exchange_core::wire::messages::{OrderFrame, PlaceOrder, SignedBatch, Trade};
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
        SignedBatch { payload, ..signed.clone() }
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
        trade_id: 1 << 52 | 345_678,
        price_ticks: 101_000,
        quantity_lots: 25,
        taker_side: 1,
        maker_order_id: 1 << 52 | 567_890,
        taker_order_id: 1 << 52 | 678_901,
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
