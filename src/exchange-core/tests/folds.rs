//! The ledger and the market-data fold over the logs of `tests/vectors/executions.json`: they end where the shard ends,
//! however the frames are handed over, and no bytes make them panic.

use std::collections::BTreeMap;
use std::path::Path;

use exchange_core::fold::{Applied, LevelView, ShardFold, Watch};
use exchange_core::frames::{self, RawEvent, is_canonical, is_readable};
use exchange_core::hashing::chain_hash;
use exchange_core::ledger::{Draft, Ledger, LedgerError, RawEntry, Reason, Rows};
use exchange_core::shard::Shard;
use exchange_core::wire::Message;
use exchange_core::wire::messages::{Checkpoint, Event, ExecutionFrame};
use serde_json::Value;

struct Log {
    name: String,
    genesis: Vec<u8>,
    entries: Vec<(u64, u64, Vec<u8>)>,
    frames: Vec<Vec<u8>>,
    checkpoint: Vec<u8>,
}

impl Log {
    fn frames(&self) -> Vec<&[u8]> {
        self.frames.iter().map(Vec::as_slice).collect()
    }

    fn entries(&self) -> Vec<RawEntry<'_>> {
        let entries = self.entries.iter();
        entries.map(|(n, t_us, order_frame)| RawEntry { n: *n, t_us: *t_us, order_frame }).collect()
    }

    fn is_of_shard_0(&self) -> bool {
        Ledger::open(&self.genesis, &Rows::default()).expect("a genesis").shard() == 0
    }
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hex");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn number(value: &Value) -> u64 {
    value.as_str().expect("a decimal string").parse().expect("a number")
}

fn logs() -> Vec<Log> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/executions.json");
    let document: Value = serde_json::from_slice(&std::fs::read(path).expect("vectors")).expect("json");
    let logs = document["logs"].as_array().expect("logs").iter().map(|log| {
        let entries = log["entries"].as_array().expect("entries");
        let entry = |entry: &Value| (number(&entry["n"]), number(&entry["t_us"]), hex(&entry["order_frame"]));
        Log {
            name: log["name"].as_str().expect("name").to_owned(),
            genesis: hex(&log["genesis"]),
            entries: entries.iter().map(entry).collect(),
            frames: entries.iter().map(|entry| hex(&entry["execution_frame"])).collect(),
            checkpoint: hex(&log["checkpoint"]),
        }
    });
    logs.collect()
}

// --- ledger ---------------------------------------------------------------------------------------------------------

#[test]
fn units_of_every_asset_add_up_to_zero_after_every_frame() {
    for log in logs() {
        let mut ledger = Ledger::open(&log.genesis, &Rows::default()).expect("a genesis");
        for frame in log.frames() {
            let draft = ledger.fold(&[frame], None).expect("the next frame");
            assert!(ledger.adopt(&draft));
            let mut totals: BTreeMap<u32, i128> = BTreeMap::new();
            for (owner, units) in ledger.holdings().rows() {
                *totals.entry(owner.asset()).or_default() += units;
            }
            assert!(totals.values().all(|total| *total == 0), "{}: {totals:?}", log.name);
        }
    }
}

#[test]
fn drafts_of_one_frame_and_of_all_and_of_proven_frames_end_alike() {
    for log in logs() {
        let frames = log.frames();
        let mut one_by_one = Ledger::open(&log.genesis, &Rows::default()).expect("a genesis");
        for (frame, entry) in frames.iter().zip(log.entries()) {
            let draft = one_by_one.fold(&[frame], Some(&[entry])).expect("the next frame");
            assert!(one_by_one.adopt(&draft));
        }
        let mut at_once = Ledger::open(&log.genesis, &Rows::default()).expect("a genesis");
        let strict = at_once.fold(&frames, Some(&log.entries())).expect("all frames");
        let proven = at_once.fold_proven(&frames, one_by_one.chain_hash()).expect("all frames");
        assert_eq!(strict, proven, "{}", log.name);
        assert!(at_once.adopt(&strict));
        assert!(!at_once.adopt(&strict), "a draft was adopted twice");
        assert_eq!(at_once.holdings(), one_by_one.holdings(), "{}", log.name);
        assert_eq!(at_once.chain_hash(), chain_hash(frames[frames.len() - 1]));
    }
}

#[test]
fn ledger_opened_from_rows_goes_on_as_the_one_that_wrote_them() {
    for log in logs() {
        let frames = log.frames();
        let (first, rest) = frames.split_at(frames.len() / 2);
        let mut whole = Ledger::open(&log.genesis, &Rows::default()).expect("a genesis");
        let draft = whole.fold(first, None).expect("the first half");
        assert!(whole.adopt(&draft));
        let Draft { n, t_us, chain_hash, units, markets, links_in, links_out, .. } = draft;
        let rows = Rows { n, t_us, chain_hash, units, markets, links_in, links_out };
        let reopened = Ledger::open(&log.genesis, &rows).expect("a genesis");
        assert_eq!(whole.fold(rest, None).expect("the rest"), reopened.fold(rest, None).expect("the rest"));
    }
}

#[test]
fn frame_that_does_not_fit_is_refused_and_names_its_reason() {
    let log = &logs()[0];
    let ledger = Ledger::open(&log.genesis, &Rows::default()).expect("a genesis");
    let frames = log.frames();
    let reason = |frames: &[&[u8]], entries: Option<&[RawEntry]>| match ledger.fold(frames, entries) {
        Err(LedgerError::Stop(stop)) => (stop.reason, stop.n),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(&[frames[1]], None), (Reason::FrameGap, 1));
    assert_eq!(reason(&[frames[0], frames[0]], None), (Reason::FrameGap, 2));
    assert_eq!(reason(&[&frames[0][..frames[0].len() - 1]], None), (Reason::MalformedFrame, 1));
    let mut entries = log.entries();
    entries[1].t_us += 1;
    assert_eq!(reason(&frames[..2], Some(&entries[..2])), (Reason::InputMismatch, 2));
}

// --- market data ----------------------------------------------------------------------------------------------------

/// Return price and lots of levels, as `Shard::depth` gives them.
fn lots(levels: &[LevelView]) -> Vec<(u64, u64)> {
    levels.iter().map(|level| (level.price_ticks, u64::try_from(level.quantity_lots).expect("lots"))).collect()
}

/// Compare what a fold says with what the shard says.
fn assert_fold_is_at(fold: &ShardFold, shard: &Shard, name: &str) {
    assert_eq!((fold.n(), fold.chain_hash()), (shard.position(), shard.chain_hash()), "{name}");
    for market in fold.markets() {
        let (bids, asks) = fold.depth(market, usize::MAX).expect("a market");
        assert_eq!(Some((lots(&bids), lots(&asks))), shard.depth(market, usize::MAX), "{name}");
    }
    for account in fold.accounts() {
        let balances: Vec<(u32, i128, i128)> = shard
            .balances(account)
            .into_iter()
            .map(|(asset, free, locked)| (asset, i128::from(free), i128::from(locked)))
            .collect();
        assert_eq!(fold.balances(account), balances, "{name}: account {account}");
        let open: Vec<_> = shard.open_orders(account).iter().map(|order| (order.order_id, order.open_lots)).collect();
        let folded: Vec<_> = fold.open_orders(account).map(|order| (order.order_id, order.open_lots)).collect();
        assert_eq!(folded, open, "{name}: account {account}");
    }
}

#[test]
fn fold_is_where_the_shard_is_after_every_entry() {
    for log in logs().iter().filter(|log| !log.is_of_shard_0()) {
        let mut shard = Shard::from_genesis(&log.genesis).expect("a genesis");
        let mut fold = ShardFold::from_genesis(&log.genesis).expect("a genesis");
        for ((n, t_us, order_frame), frame) in log.entries.iter().zip(&log.frames) {
            let mut out = Vec::new();
            shard.apply(*n, *t_us, order_frame, &mut out).expect("an entry");
            assert_eq!(&out, frame, "{}", log.name);
            fold.apply(&[frame], &mut Applied::default()).expect("the next frame");
            assert_fold_is_at(&fold, &shard, &log.name);
        }
    }
}

#[test]
fn fold_from_a_checkpoint_is_where_the_fold_of_all_frames_is() {
    for log in logs().iter().filter(|log| !log.is_of_shard_0()) {
        let shard = Shard::from_checkpoint(&log.checkpoint).expect("a checkpoint");
        let checkpoint = Checkpoint::decode(&log.checkpoint).expect("a checkpoint");
        let restarted = ShardFold::from_state(checkpoint.state).expect("a state");
        assert_fold_is_at(&restarted, &shard, &log.name);
        let mut fold = ShardFold::from_genesis(&log.genesis).expect("a genesis");
        fold.apply(&log.frames(), &mut Applied::default()).expect("all frames");
        assert_fold_is_at(&fold, &shard, &log.name);
    }
}

#[test]
fn changes_carry_a_reader_from_the_empty_book_to_the_last_one() {
    for watch in [Watch::EveryFrame, Watch::EveryCommand] {
        for log in logs().iter().filter(|log| !log.is_of_shard_0()) {
            let mut fold = ShardFold::from_genesis(&log.genesis).expect("a genesis");
            let mut books: BTreeMap<u32, [BTreeMap<u64, LevelView>; 2]> = BTreeMap::new();
            let mut seqs: BTreeMap<u32, u64> = BTreeMap::new();
            for frame in log.frames() {
                let mut out = Applied::default();
                fold.apply(&[frame], &mut out).expect("the next frame");
                let (changes, mut start) = (&out.changes, 0);
                for row in 0..changes.market.len() {
                    let market = changes.market[row];
                    assert_eq!(changes.previous_market_seq[row], seqs[&market], "{}", log.name);
                    seqs.insert(market, changes.market_seq[row]);
                    let sides = books.entry(market).or_default();
                    let (bids_end, asks_end) = (changes.bids_end[row], changes.asks_end[row]);
                    for (side, span) in sides.iter_mut().zip([start..bids_end, bids_end..asks_end]) {
                        for level in &changes.level[span] {
                            side.insert(level.price_ticks, *level);
                        }
                        side.retain(|_, level| level.orders > 0);
                    }
                    start = asks_end;
                }
                for market in fold.markets() {
                    assert!(fold.watch(market, watch));
                    seqs.entry(market).or_insert(fold.last_of(market).expect("a market").0);
                }
            }
            for (market, [bids, asks]) in books {
                let (found_bids, found_asks) = fold.depth(market, usize::MAX).expect("a market");
                assert!(bids.values().rev().eq(&found_bids) && asks.values().eq(&found_asks), "{}", log.name);
            }
        }
    }
}

#[test]
fn fold_that_stopped_refuses_every_frame() {
    let log = &logs()[0];
    let frames = log.frames();
    let mut fold = ShardFold::from_genesis(&log.genesis).expect("a genesis");
    let mut out = Applied::default();
    assert!(fold.apply(&[frames[0], frames[2]], &mut out).is_err());
    assert_eq!(out.frames.n, [1]);
    assert!(fold.apply(&[frames[1]], &mut out).is_err());
}

// --- bytes ----------------------------------------------------------------------------------------------------------

#[test]
fn no_frame_makes_them_panic() {
    for log in logs() {
        let mut ledger = Ledger::open(&log.genesis, &Rows::default()).expect("a genesis");
        let mut fold = (!log.is_of_shard_0()).then(|| ShardFold::from_genesis(&log.genesis).expect("a genesis"));
        for frame in log.frames().into_iter().take_while(|frame| frame.len() < 4_000) {
            for at in 0..frame.len() {
                let mut changed = frame.to_vec();
                changed[at] ^= 1 << (at % 8);
                for data in [&changed[..], &frame[..at]] {
                    let _ = ledger.fold(&[data], None);
                    if let Some(fold) = &fold {
                        let stop = fold.clone().apply(&[data], &mut Applied::default());
                        assert!(stop.is_err() || is_readable(data));
                    }
                }
            }
            let draft = ledger.fold(&[frame], None).expect("the next frame");
            assert!(ledger.adopt(&draft));
            if let Some(fold) = &mut fold {
                fold.apply(&[frame], &mut Applied::default()).expect("the next frame");
            }
        }
    }
}

#[test]
fn frame_is_canonical_where_the_decoder_says_so() {
    for log in logs() {
        for frame in log.frames().into_iter().filter(|frame| frame.len() < 2_000) {
            assert!(is_canonical(frame) && is_readable(frame));
            for at in 0..frame.len() {
                let mut changed = frame.to_vec();
                changed[at] ^= 1 << (at % 7);
                assert_eq!(is_canonical(&changed), ExecutionFrame::decode(&changed).is_ok(), "{changed:02x?}");
            }
        }
    }
}

#[test]
fn every_kind_of_event_is_judged_and_no_other() {
    let known = |member| RawEvent { member, content: &[] }.judge().is_some();
    let decoded = |member: u8| {
        let tag = (member & 0xF) << 3 | 2;
        let event = if member < 16 { vec![tag, 0] } else { vec![tag | 0x80, member >> 4, 0] };
        Event::decode(&event).map_or_else(|error| error.reason.name() != "UNKNOWN_FIELD", |_| true)
    };
    for member in 0..=255 {
        assert_eq!(known(u32::from(member)), member != 0 && decoded(member), "member {member}");
    }
    assert!(frames::split(b"").is_err());
}
