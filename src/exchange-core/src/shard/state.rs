//! The state of a shard as a value: how it is loaded and exported, independent of how it is kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::checkpoint::{read_shard_checkpoint, write_checkpoint};
use crate::hashing::{genesis_hash, state_hash};
use crate::kinds::Side;
use crate::shard::core::{Core, Incoming, Operator, Outgoing, RULES_MAX};
use crate::shard::errors::{LoadError, Stop};
use crate::shard::floor::{Floor, Taker};
use crate::shard::market::{MarketSettings, settings_are_valid};
use crate::shard::nonces::Nonces;
use crate::shard::{FORMAT, Shard};
use crate::units::{CONTROL_SHARD, SHARD_MAX};
use crate::verify::{is_environment, key_refusal};
use crate::wire::Message;
use crate::wire::entries::check_format;
use crate::wire::messages::{
    AccountState, AssetAmount, Balance, BookState, Genesis, LinkIn, LinkOut, LiveNonce, OperatorKey, RestingOrder,
    ShardCore, ShardState, Timer,
};

impl Shard {
    /// Return a shard before its first entry; `genesis` is an encoded Genesis.
    ///
    /// # Errors
    /// The bytes are of another version, not canonical, or no genesis that a trading shard can start from.
    pub fn from_genesis(genesis: &[u8]) -> Result<Self, LoadError> {
        check_format("genesis", genesis)?;
        let parsed = Genesis::decode(genesis)?;
        if let Some(refusal) = genesis_refusal(&parsed) {
            return Err(LoadError::Genesis(refusal));
        }
        let chain_hash = genesis_hash(parsed.environment, parsed.shard, genesis);
        let core = ShardCore {
            chain_hash: &chain_hash,
            rules: parsed.rules,
            settings: parsed.settings,
            operators: parsed.operators.clone(),
            genesis: parsed,
            n: 0,
            t_us: 0,
            control_floor: 0,
            nonces: Vec::new(),
            links_in: Vec::new(),
            links_out: Vec::new(),
        };
        Self::load(&ShardState {
            format: FORMAT,
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
        })
    }

    /// Return a shard in the state of a checkpoint.
    ///
    /// # Errors
    /// The bytes are of another version, not canonical, damaged, or break an invariant.
    pub fn from_checkpoint(data: &[u8]) -> Result<Self, LoadError> {
        let state = read_shard_checkpoint(data)?;
        if let Some(refusal) = genesis_key_refusal(&state.core.genesis) {
            let what = "CHECKPOINT_INVARIANT: I-13 genesis";
            return Err(LoadError::Checkpoint(format!("{what}: {refusal}; take an older checkpoint and replay")));
        }
        Self::load(&state)
    }

    /// Return the state, encoded; equal states give equal bytes.
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.export().encode(&mut out);
        out
    }

    /// Return the hash of the state, which does not depend on how it is stored.
    #[must_use]
    pub fn state_hash(&self) -> [u8; 32] {
        state_hash(&self.state())
    }

    /// Return the state as bytes that every engine loads.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        write_checkpoint(&self.state())
    }

    /// Load a state that breaks no invariant.
    pub(crate) fn load(state: &ShardState<'_>) -> Result<Self, LoadError> {
        let core = load_core(&state.core)?;
        let mut floor = Floor::default();
        floor.shard = core.shard;
        floor.last_order = state.last_order;
        floor.last_trade = state.last_trade;
        floor.accounts.fees = amounts_in(&state.fees);
        for account in &state.accounts {
            let owner = floor.accounts.owner_of(account.account);
            floor.accounts.row_mut(owner).account_seq = account.account_seq;
            for balance in &account.balances {
                floor.accounts.load(owner, balance.asset, balance.free_units, balance.locked_units);
            }
        }
        for book in &state.books {
            let settings = MarketSettings::from_message(&book.market);
            let place = floor.add_book(settings, book.market_seq, book.last_price_ticks);
            for (side, orders) in [(Side::Buy, &book.bids), (Side::Sell, &book.asks)] {
                for order in orders {
                    let owner = floor.accounts.owner_of(order.account);
                    floor.add(&load_order(order, owner, place, side));
                }
            }
        }
        let mut shard = Self {
            core,
            floor,
            last_cancel_all: state.last_cancel_all,
            last_timer: state.last_timer,
            timers: BTreeMap::new(),
            timers_of: BTreeSet::new(),
            pending: state.pending.iter().copied().collect(),
            commands: Vec::new(),
            position: state.core.n,
            events_written: 0,
            stopped: None,
        };
        for timer in &state.timers {
            shard.add_timer(timer.deadline_us, timer.timer_id, timer.market, timer.state);
        }
        Ok(shard)
    }

    /// Return the state as a value.
    pub(crate) fn export(&self) -> ShardState<'_> {
        ShardState {
            format: FORMAT,
            core: self.export_core(),
            last_order: self.floor.last_order,
            last_trade: self.floor.last_trade,
            last_cancel_all: self.last_cancel_all,
            last_timer: self.last_timer,
            books: self.export_books(),
            accounts: self.export_accounts(),
            fees: amounts_out(&self.floor.accounts.fees),
            timers: self
                .timers
                .iter()
                .map(|(&(deadline_us, timer_id), &(market, state))| Timer { deadline_us, timer_id, market, state })
                .collect(),
            pending: self.pending.iter().copied().collect(),
        }
    }

    /// Return position, settings, operators, nonces and links as a value.
    fn export_core(&self) -> ShardCore<'_> {
        let core = &self.core;
        ShardCore {
            nonces: core
                .nonces
                .sorted()
                .into_iter()
                .map(|(key_id, live)| LiveNonce {
                    key_id,
                    nonce: live.nonce,
                    n: live.n,
                    batch: live.batch,
                    digest: &live.digest,
                    valid_until_ms: live.valid_until_ms,
                })
                .collect(),
            links_in: core
                .links_in
                .iter()
                .map(|(&from_shard, link)| LinkIn {
                    from_shard,
                    last_sequence: link.last_sequence,
                    digests: link.digests.iter().map(|digest| &digest[..]).collect(),
                    received: amounts_out(&link.received),
                })
                .collect(),
            ..self.export_small_core()
        }
    }

    /// Return what `export_core` does, without nonces and links that came in.
    pub(crate) fn export_small_core(&self) -> ShardCore<'_> {
        let core = &self.core;
        ShardCore {
            // It was decoded when it was loaded.
            genesis: Genesis::decode(&core.genesis).expect("a genesis stays canonical"),
            n: core.n,
            t_us: core.t_us,
            chain_hash: &core.chain_hash,
            rules: core.rules,
            settings: core.settings,
            operators: self.export_operators(),
            control_floor: core.control_floor,
            nonces: Vec::new(),
            links_in: Vec::new(),
            links_out: self.export_links_out(),
        }
    }

    /// Return the operators' keys as values, by role.
    fn export_operators(&self) -> Vec<OperatorKey<'_>> {
        self.core
            .operators
            .iter()
            .map(|operator| OperatorKey {
                role: operator.role,
                public_key: &operator.public_key,
                last_sequence: operator.last_sequence,
                last_digest: operator.last_digest.as_ref().map_or(&[][..], |digest| &digest[..]),
            })
            .collect()
    }

    /// Return what went to other shards as values, by shard.
    fn export_links_out(&self) -> Vec<LinkOut> {
        self.core
            .links_out
            .iter()
            .map(|(&to_shard, link)| LinkOut {
                to_shard,
                last_sequence: link.last_sequence,
                sent: amounts_out(&link.sent),
            })
            .collect()
    }

    fn export_books(&self) -> Vec<BookState<'_>> {
        self.books_by_market()
            .into_iter()
            .map(|place| {
                let book = &self.floor.books[place as usize];
                let side = |side| {
                    self.floor.pool.orders(book.half(side)).map(|slot| self.export_order(slot)).collect::<Vec<_>>()
                };
                BookState {
                    market: book.market.to_message(),
                    market_seq: book.market_seq,
                    last_price_ticks: book.last_price_ticks,
                    bids: side(Side::Buy),
                    asks: side(Side::Sell),
                }
            })
            .collect()
    }

    /// Return the places of the books by number of their market.
    pub(crate) fn books_by_market(&self) -> Vec<u32> {
        let books = &self.floor.books;
        let mut places: Vec<u32> = (0..books.len() as u32).collect();
        places.sort_unstable_by_key(|&place| books[place as usize].market.market);
        places
    }

    /// Return an open order as it stands in the state.
    pub(crate) fn export_order(&self, slot: u32) -> RestingOrder {
        let node = self.floor.pool.node(slot);
        let (_, _, price_ticks) = self.floor.where_is(slot);
        let value = &node.value;
        RestingOrder {
            order_id: value.order_id,
            client_order_id: value.client_order_id,
            account: self.floor.accounts.row(node.owner).number,
            price_ticks,
            open_lots: node.open(),
            filled_lots: value.filled_lots,
            post_only: value.terms.post_only(),
            self_trade_prevention: value.terms.self_trade_prevention(),
            maker_fee_ppm: value.terms.maker_fee_ppm(),
            taker_fee_ppm: value.terms.taker_fee_ppm(),
            maker_prepaid_ppm: value.terms.maker_prepaid_ppm(),
            taker_prepaid_ppm: value.taker_prepaid_ppm,
        }
    }

    fn export_accounts(&self) -> Vec<AccountState> {
        let accounts = &self.floor.accounts;
        let mut owners: Vec<u32> = (0..accounts.rows().len() as u32).collect();
        owners.sort_unstable_by_key(|&owner| accounts.row(owner).number);
        owners
            .into_iter()
            .filter(|&owner| accounts.row(owner).account_seq > 0)
            .map(|owner| AccountState {
                account: accounts.row(owner).number,
                account_seq: accounts.row(owner).account_seq,
                balances: self
                    .balances_of(owner)
                    .into_iter()
                    .map(|(asset, free_units, locked_units)| Balance { asset, free_units, locked_units })
                    .collect(),
            })
            .collect()
    }

    /// Return asset, free and locked units of what an account has, by asset.
    pub(crate) fn balances_of(&self, owner: u32) -> Vec<(u32, u64, u64)> {
        let accounts = &self.floor.accounts;
        let mut balances: Vec<_> = accounts
            .row(owner)
            .assets
            .iter()
            .filter_map(|&asset| accounts.balance(owner, asset))
            .filter(|balance| balance.free_units > 0 || balance.locked_units > 0)
            .map(|balance| (balance.asset, balance.free_units, balance.locked_units))
            .collect();
        balances.sort_unstable();
        balances
    }
}

fn load_order(order: &RestingOrder, owner: u32, book: u32, side: Side) -> Taker {
    Taker {
        order_id: order.order_id,
        client_order_id: order.client_order_id,
        owner,
        book,
        side,
        price_ticks: order.price_ticks,
        open_lots: order.open_lots,
        filled_lots: order.filled_lots,
        post_only: order.post_only,
        self_trade_prevention: order.self_trade_prevention,
        maker_fee_ppm: order.maker_fee_ppm,
        taker_fee_ppm: order.taker_fee_ppm,
        maker_prepaid_ppm: order.maker_prepaid_ppm,
        taker_prepaid_ppm: order.taker_prepaid_ppm,
        held_units: 0,
    }
}

fn load_core(state: &ShardCore<'_>) -> Result<Core, LoadError> {
    if !(1..=RULES_MAX).contains(&state.rules) {
        let detail = format!("rules {}; this program knows 1 .. {RULES_MAX}", state.rules);
        return Err(LoadError::Stop(Stop::unknown_rules(detail)));
    }
    let operators: Vec<Operator> = state.operators.iter().map(load_operator).collect();
    let operators = operators
        .try_into()
        .map_err(|_| LoadError::Checkpoint("CHECKPOINT_INVARIANT: I-13 operators: not each role once".to_owned()))?;
    let mut nonces = Nonces::default();
    for live in &state.nonces {
        nonces.remember(live.key_id, live.nonce, live.n, live.batch, *live.digest, live.valid_until_ms);
    }
    let mut links_in = BTreeMap::new();
    for link in &state.links_in {
        let digests: Option<VecDeque<[u8; 32]>> = link.digests.iter().map(|digest| (*digest).try_into().ok()).collect();
        let Some(digests) = digests else {
            let what = "CHECKPOINT_INVARIANT: I-11 a digest of a link does not have 32 bytes";
            return Err(LoadError::Checkpoint(what.to_owned()));
        };
        let received = amounts_in(&link.received);
        links_in.insert(link.from_shard, Incoming { last_sequence: link.last_sequence, digests, received });
    }
    let mut links_out = BTreeMap::new();
    for link in &state.links_out {
        links_out.insert(link.to_shard, Outgoing::load(link.last_sequence, amounts_in(&link.sent)));
    }
    let mut genesis = Vec::new();
    state.genesis.encode(&mut genesis);
    Ok(Core {
        genesis,
        environment: state.genesis.environment.to_owned(),
        shard: state.genesis.shard,
        n: state.n,
        t_us: state.t_us,
        chain_hash: *state.chain_hash,
        rules: state.rules,
        settings: state.settings,
        operators,
        control_floor: state.control_floor,
        nonces,
        links_in,
        links_out,
    })
}

fn load_operator(key: &OperatorKey<'_>) -> Operator {
    Operator {
        role: key.role,
        public_key: *key.public_key,
        last_sequence: key.last_sequence,
        last_digest: key.last_digest.try_into().ok(),
    }
}

/// Return why a shard cannot start from a genesis; a sentence that starts with a stable reason.
fn genesis_refusal(genesis: &Genesis<'_>) -> Option<String> {
    if !is_environment(genesis.environment) {
        return Some(format!(
            "INVALID_ENVIRONMENT: environment {:?}: a name has 1 to 32 of the characters a-z, 0-9 and '-', such as \
             'test-1'",
            genesis.environment
        ));
    }
    if !settings_are_valid(&genesis.settings) {
        return Some(format!("GENESIS_SETTINGS: {:?} exceed the bounds of ShardSettings", genesis.settings));
    }
    if genesis.operators.iter().any(|operator| operator.last_sequence > 0 || !operator.last_digest.is_empty()) {
        return Some("GENESIS_OPERATORS: at genesis no operator has signed anything yet".to_owned());
    }
    if !genesis.operators.iter().map(|operator| operator.role).eq(1..=3) {
        return Some(
            "GENESIS_OPERATORS: a genesis names the keys of the roles treasury, market, recovery, in order".to_owned(),
        );
    }
    if let Some(refusal) = genesis_key_refusal(genesis) {
        return Some(format!("GENESIS_OPERATORS: {refusal}"));
    }
    if genesis.shard == CONTROL_SHARD || genesis.shard > SHARD_MAX {
        return Some(format!(
            "GENESIS_SHARD: shard {} does not trade; those that do are 1 .. {SHARD_MAX}",
            genesis.shard
        ));
    }
    None
}

/// Return why an operator's key in a genesis may not be registered.
fn genesis_key_refusal(genesis: &Genesis<'_>) -> Option<String> {
    let refused = |key: &OperatorKey<'_>| Some((key.role, key_refusal(key.public_key)?));
    let (role, refusal) = genesis.operators.iter().find_map(refused)?;
    Some(format!("the key of role {role} is refused: {refusal}"))
}

fn amounts_in(amounts: &[AssetAmount]) -> BTreeMap<u32, u64> {
    amounts.iter().map(|amount| (amount.asset, amount.amount_units)).collect()
}

/// Return the amounts by asset; assets with nothing are left out.
pub(crate) fn amounts_out(amounts: &BTreeMap<u32, u64>) -> Vec<AssetAmount> {
    amounts
        .iter()
        .filter(|&(_, &amount_units)| amount_units > 0)
        .map(|(&asset, &amount_units)| AssetAmount { asset, amount_units })
        .collect()
}
