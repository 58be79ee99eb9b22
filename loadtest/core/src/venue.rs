//! A trading shard with everything that a flow needs: markets that operators opened, accounts that links funded, and
//! commands in signed batches in order frames. Signatures of batches are not made: a shard does not look at them.

use bench_flow::file::{Flow, Force, Kind, Message};
use ed25519_dalek::{Signer, SigningKey};
use exchange_core::kinds::OperatorRole;
use exchange_core::limits::{BATCH_COMMANDS_MAX, LINK_TRANSFERS_MAX, OPERATION_ACTIONS_MAX};
use exchange_core::shard::Shard;
use exchange_core::verify::{SignedKind, signed_bytes};
use exchange_core::wire::messages::{
    CancelOrder, DefineMarket, Genesis, Link, Market, Operation, OperatorAction, OperatorKey, OrderFrame, PlaceOrder,
    ShardSettings, SignedBatch, SignedLink, SignedOperation, Transfer,
};
use exchange_core::wire::{Message as _, Sink};

const ENVIRONMENT: &str = "bench";
const SHARD: u32 = 1;
const START_US: u64 = 1_700_000_000_000_000;
/// A market is traded by so many accounts, by all of them where there are few markets.
const ACCOUNTS_PER_MARKET: u64 = 16;
const FEW_MARKETS: u32 = 16;
const QUOTE_ASSET: u32 = 1;
const BASE_UNITS: u64 = 100_000_000_000_000;
const QUOTE_UNITS: u64 = 1_000_000_000_000_000;
/// Time of the exchange per command: 200 ns, 5 million commands a second.
const COMMANDS_PER_US: u64 = 5;
const SELF_TRADE_PREVENTION_NONE: u32 = 5;

/// How commands are put into batches.
#[derive(Clone, Copy, Debug)]
pub struct Packing {
    /// Accounts that trade, each with a key.
    pub accounts: u64,
    /// Commands of a frame.
    pub frame_commands: usize,
    /// Batches are valid for so long, and so long their nonces are remembered.
    pub validity_ms: u64,
    /// Whether every command is a batch of its own; else all commands that an account has in a frame are one.
    pub single: bool,
}

/// 1,000 accounts, 512 batches of one command in a frame; at 5 million a second, 5 million nonces are remembered.
pub const SINGLE: Packing = Packing { accounts: 1_000, frame_commands: 512, validity_ms: 1_000, single: true };
/// 32 accounts, 16,384 commands in a frame, so that a batch has 512; about 49,000 nonces are remembered.
pub const BATCHED: Packing = Packing { accounts: 32, frame_commands: 16_384, validity_ms: 5_000, single: false };

impl Packing {
    /// Return the commands that a batch has on average.
    fn batch_commands(self) -> u64 {
        if self.single { 1 } else { self.frame_commands as u64 / self.accounts }
    }

    /// Return the nonces that are remembered when commands have come for longer than batches are valid.
    #[must_use]
    pub fn live_nonces(self) -> u64 {
        self.validity_ms * 1_000 * COMMANDS_PER_US / self.batch_commands()
    }
}

/// An entry of the log.
pub struct Entry {
    /// Position.
    pub n: u64,
    /// Time in microseconds.
    pub t_us: u64,
    /// Encoded order frame.
    pub frame: Vec<u8>,
}

/// Writes entries.
pub struct Writer {
    packing: Packing,
    n: u64,
    t_us: u64,
    nonce: u64,
    accounts_per_market: u64,
    keys: [SigningKey; 3],
}

/// Return a shard with open markets and funded accounts, and what writes its further entries.
///
/// # Panics
/// The shard refuses what it is given.
#[must_use]
pub fn open(markets: u32, packing: Packing) -> (Shard, Writer) {
    let keys = [1, 2, 3].map(|role| SigningKey::from_bytes(&[role; 32]));
    let public_keys = [0, 1, 2].map(|role: usize| keys[role].verifying_key().to_bytes());
    let operators = (1..)
        .zip(&public_keys)
        .map(|(role, public_key)| OperatorKey { role, public_key, last_sequence: 0, last_digest: &[] })
        .collect();
    let settings = ShardSettings {
        max_validity_ms: 60_000,
        live_nonces_per_key_max: 65_536,
        open_orders_per_account_max: 10_000_000,
    };
    let genesis = Genesis { format: 1, environment: ENVIRONMENT, shard: SHARD, rules: 1, settings, operators };
    let mut shard = Shard::from_genesis(&encoded(&genesis)).expect("a good genesis");
    let accounts_per_market =
        if markets <= FEW_MARKETS { packing.accounts } else { ACCOUNTS_PER_MARKET.min(packing.accounts) };
    let mut writer = Writer { packing, n: 0, t_us: START_US, nonce: 0, accounts_per_market, keys };
    let mut out = Vec::new();
    let symbols: Vec<String> = (1..=markets).map(|market| format!("C{market:05}-USD")).collect();
    let numbers: Vec<u32> = (1..=markets).collect();
    for (sequence, part) in (1..).zip(numbers.chunks(OPERATION_ACTIONS_MAX)) {
        let actions = part.iter().map(|number| define(*number, &symbols[*number as usize - 1])).collect();
        let frame = writer.operation(sequence, actions);
        shard.apply(frame.n, frame.t_us, &frame.frame, &mut out).expect("an operation");
    }
    let mut transfers: Vec<Transfer> = (1..=packing.accounts)
        .map(|account| Transfer { account, asset: QUOTE_ASSET, amount_units: QUOTE_UNITS })
        .collect();
    for market in 0..markets {
        transfers.extend((0..accounts_per_market).map(|place| Transfer {
            account: account_of(market, place, packing),
            asset: base_asset(market),
            amount_units: BASE_UNITS,
        }));
    }
    for (sequence, part) in (1..).zip(transfers.chunks(LINK_TRANSFERS_MAX)) {
        let frame = writer.link(sequence, part.to_vec());
        shard.apply(frame.n, frame.t_us, &frame.frame, &mut out).expect("a link");
    }
    assert_eq!(shard.markets().len(), markets as usize, "every market is open");
    assert_eq!(shard.balances(1).first().map(|it| it.1), Some(QUOTE_UNITS), "every account has money");
    (shard, writer)
}

fn define(market: u32, symbol: &str) -> OperatorAction<'_> {
    OperatorAction::DefineMarket(DefineMarket {
        market: Market {
            market,
            shard: SHARD,
            symbol,
            base_asset: base_asset(market - 1),
            quote_asset: QUOTE_ASSET,
            base_units_per_lot: 1_000,
            quote_units_per_tick_lot: 1,
            tick_table: Vec::new(),
            lot_table: Vec::new(),
            band_low_ticks: 500_000,
            band_high_ticks: 2_000_000,
            band_ppm: 500_000,
            maker_fee_ppm: 100,
            taker_fee_ppm: 250,
            state: 1,
        },
    })
}

fn base_asset(market: u32) -> u32 {
    market + 2
}

/// Return the account that stands at a place among those of a market, from 0.
fn account_of(market: u32, place: u64, packing: Packing) -> u64 {
    1 + (u64::from(market) * 7 + place) % packing.accounts
}

fn encoded<'a>(message: &impl exchange_core::wire::Message<'a>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

impl Writer {
    fn frame(
        &mut self,
        batches: Vec<SignedBatch<'_>>,
        links: Vec<SignedLink<'_>>,
        operations: Vec<SignedOperation<'_>>,
    ) -> Entry {
        self.n += 1;
        let frame = OrderFrame {
            format: 1,
            ingress: &[7; 16],
            counter: self.n,
            ingress_time_us: self.t_us,
            control_n: 0,
            batches,
            links,
            operations,
            requests: Vec::new(),
        };
        Entry { n: self.n, t_us: self.t_us, frame: encoded(&frame) }
    }

    fn operation(&mut self, sequence: u64, actions: Vec<OperatorAction<'_>>) -> Entry {
        let role = OperatorRole::Market as u32;
        let payload = encoded(&Operation { shard: SHARD, role, sequence, actions, request_id: &[] });
        let signature = self.sign(OperatorRole::Market, SignedKind::Operator, &payload);
        self.frame(Vec::new(), Vec::new(), vec![SignedOperation { payload: &payload, signature: &signature }])
    }

    fn link(&mut self, sequence: u64, transfers: Vec<Transfer>) -> Entry {
        let payload = encoded(&Link { from_shard: 0, to_shard: SHARD, sequence, source_n: sequence, transfers });
        let signature = self.sign(OperatorRole::Treasury, SignedKind::Link, &payload);
        self.frame(Vec::new(), vec![SignedLink { payload: &payload, signature: &signature }], Vec::new())
    }

    fn sign(&self, role: OperatorRole, kind: SignedKind, payload: &[u8]) -> [u8; 64] {
        self.keys[role as usize - 1].sign(&signed_bytes(kind, ENVIRONMENT, payload)).to_bytes()
    }

    /// Return messages of a flow as one entry, in as many batches as the packing says.
    #[must_use]
    pub fn entry(&mut self, messages: &[Message]) -> Entry {
        self.t_us += messages.len() as u64 / COMMANDS_PER_US;
        let mut batches: Vec<(u64, usize, Vec<u8>)> = Vec::new();
        let mut place_of = vec![usize::MAX; usize::try_from(self.packing.accounts).expect("few accounts") + 1];
        let mut body = Vec::new();
        for message in messages {
            let account = self.account(message);
            let slot = usize::try_from(account).expect("few accounts");
            let full = batches.get(place_of[slot]).is_none_or(|batch| batch.1 == BATCH_COMMANDS_MAX);
            if self.packing.single || full {
                place_of[slot] = batches.len();
                self.nonce += 1;
                let mut payload = Vec::new();
                let until_ms = self.t_us / 1000 + self.packing.validity_ms;
                for (number, value) in [(1, account), (2, u64::from(SHARD)), (3, self.nonce), (4, until_ms)] {
                    payload.push(number << 3);
                    put_varint(&mut payload, value);
                }
                batches.push((account, 0, payload));
            }
            let batch = &mut batches[place_of[slot]];
            batch.1 += 1;
            put_command(&mut batch.2, message, &mut body);
        }
        let key_ids: Vec<[u8; 16]> =
            batches.iter().map(|batch| (0x6b_0000 | u128::from(batch.0)).to_be_bytes()).collect();
        let signed = batches
            .iter()
            .zip(&key_ids)
            .map(|((_, _, payload), key_id)| SignedBatch { key_id, payload, signature: &[0; 64] })
            .collect();
        self.frame(signed, Vec::new(), Vec::new())
    }

    /// Let so much time go by with batches of one cancel of nothing that as many nonces are remembered as will be.
    pub fn fill_nonces(&mut self, shard: &mut Shard) {
        const PART: u64 = 512;
        let packing = self.packing;
        let mut out = Vec::new();
        for part in 0..packing.live_nonces() / PART {
            let messages: Vec<Message> = (0..PART)
                .map(|place| Message {
                    id: u64::MAX - part * PART - place,
                    price: 0,
                    quantity: 0,
                    // Only says whose batch it is: every account has as many.
                    market: u32::try_from((part * PART + place) % packing.accounts).expect("few accounts"),
                    kind: Kind::Cancel,
                    buys: true,
                    force: Force::Gtc,
                })
                .collect();
            self.packing.single = true;
            let entry = self.entry(&messages);
            self.packing = packing;
            self.t_us += PART * (packing.batch_commands() - 1) / COMMANDS_PER_US;
            out.clear();
            shard.apply(entry.n, entry.t_us, &entry.frame, &mut out).expect("a good entry");
        }
    }

    fn account(&self, message: &Message) -> u64 {
        let spread = message.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        account_of(message.market, spread % self.accounts_per_market, self.packing)
    }

    /// Return the entries of each segment of a flow.
    #[must_use]
    pub fn entries(&mut self, flow: &Flow) -> Vec<(bool, usize, Vec<Entry>)> {
        let mut rest = &flow.messages[..];
        let mut segments = Vec::new();
        for (len, timed) in &flow.segments {
            let (segment, later) = rest.split_at(*len);
            rest = later;
            let entries = segment.chunks(self.packing.frame_commands).map(|part| self.entry(part)).collect();
            segments.push((*timed, *len, entries));
        }
        segments
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Append an element of `commands`; orders are named by the number that their owner gave them.
fn put_command(payload: &mut Vec<u8>, message: &Message, body: &mut Vec<u8>) {
    body.clear();
    let client_order_id = message.id;
    let number = match message.kind {
        Kind::Place => {
            let order = PlaceOrder {
                market: message.market + 1,
                side: if message.buys { 1 } else { 2 },
                order_type: 1,
                time_in_force: match message.force {
                    Force::Gtc | Force::PostOnly => 1,
                    Force::Ioc => 2,
                    Force::Fok => 3,
                },
                post_only: message.force == Force::PostOnly,
                self_trade_prevention: SELF_TRADE_PREVENTION_NONE,
                price_ticks: message.price.cast_unsigned(),
                quantity_lots: u64::from(message.quantity),
                client_order_id,
            };
            order.encode(body);
            1
        }
        Kind::Cancel => {
            CancelOrder { order_id: 0, client_order_id }.encode(body);
            2
        }
        _ => unreachable!("shared flows have limit orders and cancels"),
    };
    payload.push(5 << 3 | 2);
    put_varint(payload, body.len() as u64 + 2);
    payload.push(number << 3 | 2);
    put_varint(payload, body.len() as u64);
    payload.bytes(body);
}

/// Append the canonical encoding of a batch.
pub fn put_batch(
    payload: &mut Vec<u8>,
    head: &exchange_core::wire::BatchHead,
    commands: &[exchange_core::wire::Command],
    body: &mut Vec<u8>,
) {
    use exchange_core::wire::Command;
    for (number, value) in [(1, head.account), (2, u64::from(head.shard)), (3, head.nonce), (4, head.valid_until_ms)] {
        if value > 0 {
            payload.push(number << 3);
            put_varint(payload, value);
        }
    }
    for command in commands {
        body.clear();
        let number = match command {
            Command::Place(place) => {
                place.encode(body);
                1
            }
            Command::Cancel(cancel) => {
                cancel.encode(body);
                2
            }
            _ => unreachable!("shared flows have limit orders and cancels"),
        };
        payload.push(5 << 3 | 2);
        put_varint(payload, body.len() as u64 + 2);
        payload.push(number << 3 | 2);
        put_varint(payload, body.len() as u64);
        payload.bytes(body);
    }
}
