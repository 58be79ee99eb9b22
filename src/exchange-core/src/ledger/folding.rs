//! A draft while frames are read.

use hashbrown::HashMap;

use super::columns::{Draft, LinkEndColumns, MarketColumns, UnitColumns};
use super::errors::{FrameStop, Reason, stop};
use super::owners::{HolderKind, KIND_NAMES, Owner};
use super::wide::Wide;
use super::{EXCHANGE_ACCOUNT, Ledger, MarketUnits, RULES_MAX, RawEntry};
use crate::frames::{Head, RawEvent, hex, split};
use crate::hashing::{chain_hash, input_hash};
use crate::kinds::SELL;
use crate::units::AMOUNT_UNITS_MAX;
use crate::wire::messages::{
    Deposited, FeesPaidOut, FundsCredited, FundsSent, LinkResult, MarketDefined, MarketStateChanged, Trade,
    WithdrawalClosed, WithdrawalRequested,
};
use crate::wire::{EventMember, Message};

/// What an owner has in a draft, and what the frame under way changes of it.
struct Slot {
    owner: Owner,
    units: i128,
    change: Wide,
    is_touched: bool,
}

/// A link that is being gathered.
struct SentLink {
    to_shard: u32,
    sequence: u64,
    source_n: u64,
    debited_us: u64,
    transfers: Vec<(u64, u32, u64)>,
}

/// A draft while frames are read.
pub(super) struct Folding<'l> {
    ledger: &'l Ledger,
    pub(super) draft: Draft,
    place_of: HashMap<Owner, u32>,
    slots: Vec<Slot>,
    /// Places of what the frame under way touches, in the order in which units are judged.
    touched: Vec<u32>,
    markets: HashMap<u32, MarketUnits>,
    links_in: HashMap<u32, u64>,
    links_out: HashMap<u32, u64>,
    sent: Vec<SentLink>,
    sent_at: HashMap<(u32, u64), usize>,
    /// Shard whose link was applied last in the frame under way.
    link_from: Option<u32>,
}

impl<'l> Folding<'l> {
    pub(super) fn new(ledger: &'l Ledger) -> Self {
        let draft = Draft {
            after_n: ledger.n,
            after_hash: ledger.chain_hash,
            n: ledger.n,
            t_us: ledger.t_us,
            chain_hash: ledger.chain_hash,
            ..Draft::default()
        };
        Self {
            ledger,
            draft,
            place_of: HashMap::new(),
            slots: Vec::new(),
            touched: Vec::new(),
            markets: HashMap::new(),
            links_in: HashMap::new(),
            links_out: HashMap::new(),
            sent: Vec::new(),
            sent_at: HashMap::new(),
            link_from: None,
        }
    }

    pub(super) fn end(mut self) -> Draft {
        let mut units: Vec<_> = self.slots.iter().map(|slot| (slot.owner, slot.units)).collect();
        units.sort_unstable();
        self.draft.units = UnitColumns::from_rows(units);
        self.draft.markets = MarketColumns::from_map(self.markets);
        self.draft.links_in = LinkEndColumns::from_map(self.links_in);
        self.draft.links_out = LinkEndColumns::from_map(self.links_out);
        let columns = &mut self.draft.sent;
        for link in self.sent {
            columns.to_shard.push(link.to_shard);
            columns.sequence.push(link.sequence);
            columns.source_n.push(link.source_n);
            columns.debited_us.push(link.debited_us);
            for (account, asset, amount_units) in link.transfers {
                columns.account.push(account);
                columns.asset.push(asset);
                columns.amount_units.push(amount_units);
            }
            columns.transfers_end.push(columns.account.len());
        }
        self.draft
    }

    // --- frames -----------------------------------------------------------------------------------------------------

    pub(super) fn read_next(&mut self, n: u64, frame: &[u8], entry: Option<&RawEntry>) -> Result<(), FrameStop> {
        let (head, events) = split(frame)?;
        self.check_head(n, &head, entry)?;
        self.begin(&head);
        for event in events {
            let event = event?;
            if !self.fold_event(&event)? && event.judge() != Some(true) {
                return Err(FrameStop::Malformed);
            }
        }
        self.judge()?;
        self.draft.chain_hash = chain_hash(frame);
        Ok(())
    }

    pub(super) fn read_proven(&mut self, n: u64, frame: &[u8]) -> Result<(), FrameStop> {
        let (head, events) = split(frame)?;
        if head.n != n {
            return stop(Reason::FrameGap, n, format!("the frame has position {}", head.n));
        }
        self.begin(&head);
        for event in events {
            self.fold_event(&event?)?;
        }
        self.judge()
    }

    fn check_head(&self, n: u64, head: &Head, entry: Option<&RawEntry>) -> Result<(), FrameStop> {
        let draft = &self.draft;
        if head.n != n {
            return stop(Reason::FrameGap, n, format!("the frame has position {}", head.n));
        }
        if *head.previous_hash != draft.chain_hash {
            let detail =
                format!("it follows {}, the last frame has {}", hex(head.previous_hash), hex(&draft.chain_hash));
            return stop(Reason::ChainBroken, n, detail);
        }
        if entry.is_some_and(|entry| *head.input_hash != input_hash(entry.n, entry.t_us, entry.order_frame)) {
            let detail = format!("it answers an entry of hash {}", hex(head.input_hash));
            return stop(Reason::InputMismatch, n, detail);
        }
        if head.t_us < draft.t_us {
            return stop(Reason::TimeBackwards, n, format!("time {} comes after {}", head.t_us, draft.t_us));
        }
        if !(1..=RULES_MAX).contains(&head.rules) {
            let detail = format!("rules {}; this program knows 1 .. {RULES_MAX}", head.rules);
            return stop(Reason::UnknownRules, n, detail);
        }
        Ok(())
    }

    fn begin(&mut self, head: &Head) {
        (self.draft.n, self.draft.t_us, self.link_from) = (head.n, head.t_us, None);
        let frames = &mut self.draft.frames;
        frames.n.push(head.n);
        frames.t_us.push(head.t_us);
        frames.events.push(0);
        frames.changes_markets.push(false);
    }

    /// Take in an event; return whether it is of a kind that is read here.
    #[inline]
    fn fold_event(&mut self, event: &RawEvent) -> Result<bool, FrameStop> {
        const TRADE: u32 = Trade::NUMBER as u32;
        const CREDITED: u32 = FundsCredited::NUMBER as u32;
        const SENT: u32 = FundsSent::NUMBER as u32;
        const LINK: u32 = LinkResult::NUMBER as u32;
        const MARKET: u32 = MarketDefined::NUMBER as u32;
        const MARKET_STATE: u32 = MarketStateChanged::NUMBER as u32;
        const DEPOSITED: u32 = Deposited::NUMBER as u32;
        const REQUESTED: u32 = WithdrawalRequested::NUMBER as u32;
        const CLOSED: u32 = WithdrawalClosed::NUMBER as u32;
        const PAID_OUT: u32 = FeesPaidOut::NUMBER as u32;
        let data = event.content;
        if let Some(events) = self.draft.frames.events.last_mut() {
            *events += 1;
        }
        match event.member {
            TRADE => self.fold_trade(&Trade::decode(data)?)?,
            CREDITED => self.fold_credited(&FundsCredited::decode(data)?)?,
            SENT => self.fold_sent(&FundsSent::decode(data)?)?,
            LINK => self.fold_link(&LinkResult::decode(data)?)?,
            MARKET => self.fold_market(&MarketDefined::decode(data)?),
            MARKET_STATE => {
                MarketStateChanged::decode(data)?;
                self.note_changed_markets();
            }
            DEPOSITED => {
                let event = Deposited::decode(data)?;
                self.transfer(event.asset, event.amount_units, (HolderKind::Deposits, 0), account(event.account));
            }
            REQUESTED => self.fold_requested(&WithdrawalRequested::decode(data)?),
            CLOSED => self.fold_closed(&WithdrawalClosed::decode(data)?),
            PAID_OUT => {
                let event = FeesPaidOut::decode(data)?;
                self.transfer(event.asset, event.amount_units, account(EXCHANGE_ACCOUNT), account(event.account));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Add what the frame changes to what its owners have, and stop where somebody then stands where nobody may.
    fn judge(&mut self) -> Result<(), FrameStop> {
        for place in self.touched.drain(..) {
            let slot = &mut self.slots[place as usize];
            let mut units = Wide::of(slot.units);
            units.add(slot.change);
            (slot.change, slot.is_touched) = (Wide::default(), false);
            let owner = slot.owner;
            match units.narrow() {
                Some(units) if !owner.is_bounded() || (0..=i128::from(AMOUNT_UNITS_MAX)).contains(&units) => {
                    slot.units = units;
                }
                _ => {
                    let kind = KIND_NAMES[usize::from(owner.kind())];
                    let whose = format!("{kind} {} has {units} of asset {}", owner.holder(), owner.asset());
                    return if units.high < 0 {
                        stop(Reason::Overdrawn, self.draft.n, whose)
                    } else {
                        stop(Reason::AmountTooLarge, self.draft.n, format!("{whose}, 2^63 or more"))
                    };
                }
            }
        }
        Ok(())
    }

    // --- events -----------------------------------------------------------------------------------------------------

    #[inline]
    fn post(&mut self, owner: Owner, change: Wide) {
        let (slots, ledger) = (&mut self.slots, self.ledger);
        let place = *self.place_of.entry(owner).or_insert_with(|| {
            slots.push(Slot { owner, units: ledger.units(owner), change: Wide::default(), is_touched: false });
            u32::try_from(slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut slots[place as usize];
        slot.change.add(change);
        if !slot.is_touched {
            slot.is_touched = true;
            self.touched.push(place);
        }
    }

    fn transfer(&mut self, asset: u32, units: u64, from: (HolderKind, u64), to: (HolderKind, u64)) {
        let units = i128::from(units);
        self.post(Owner::of(from.0, from.1, asset), Wide::of(-units));
        self.post(Owner::of(to.0, to.1, asset), Wide::of(units));
    }

    /// Base from seller to buyer, the notional from buyer to seller, and a fee from each to the exchange.
    #[inline]
    fn fold_trade(&mut self, trade: &Trade) -> Result<(), FrameStop> {
        let number = trade.market;
        let Some(market) = self.ledger.markets.get(&number).or_else(|| self.markets.get(&number)).copied() else {
            let detail = format!("trade {} in market {number}", trade.trade_id);
            return stop(Reason::UnknownMarket, self.draft.n, detail);
        };
        let (base_asset, quote_asset) = (market.base_asset, market.quote_asset);
        let lots = trade.quantity_lots;
        let mut base = Wide::product(u128::from(lots), market.base_units_per_lot);
        let cost = u128::from(trade.price_ticks) * u128::from(lots);
        let mut notional = Wide::product(cost, market.quote_units_per_tick_lot);
        if trade.taker_side == SELL {
            (base, notional) = (base.negated(), notional.negated());
        }
        let (maker_fee, taker_fee) = (trade.maker_fee_quote_units, trade.taker_fee_quote_units);
        let mut makers_quote = notional;
        makers_quote.add(Wide::of(-i128::from(maker_fee)));
        let mut takers_quote = notional.negated();
        takers_quote.add(Wide::of(-i128::from(taker_fee)));
        let (maker, taker) = (trade.maker_account, trade.taker_account);
        self.post(Owner::of(HolderKind::Account, maker, base_asset), base.negated());
        self.post(Owner::of(HolderKind::Account, maker, quote_asset), makers_quote);
        self.post(Owner::of(HolderKind::Account, taker, base_asset), base);
        self.post(Owner::of(HolderKind::Account, taker, quote_asset), takers_quote);
        if maker_fee != 0 || taker_fee != 0 {
            let fees = Wide::of(i128::from(maker_fee) + i128::from(taker_fee));
            self.post(Owner::of(HolderKind::Account, EXCHANGE_ACCOUNT, quote_asset), fees);
        }
        Ok(())
    }

    fn fold_credited(&mut self, event: &FundsCredited) -> Result<(), FrameStop> {
        if Some(event.from_shard) != self.link_from {
            return stop(Reason::CreditWithoutLink, self.draft.n, format!("from shard {}", event.from_shard));
        }
        let payer = (HolderKind::OtherShardIn, u64::from(event.from_shard));
        self.transfer(event.asset, event.amount_units, payer, account(event.account));
        Ok(())
    }

    /// Put a transfer into its link: a new one, or the one that this entry has begun.
    fn fold_sent(&mut self, event: &FundsSent) -> Result<(), FrameStop> {
        let (to_shard, sequence, n) = (event.to_shard, event.link_sequence, self.draft.n);
        let last = *self.links_out.get(&to_shard).unwrap_or(&self.ledger.last_link_to(to_shard));
        let begun = self.sent_at.get(&(to_shard, sequence)).copied().filter(|place| self.sent[*place].source_n == n);
        let transfer = (event.account, event.asset, event.amount_units);
        match begun {
            Some(place) if sequence == last => self.sent[place].transfers.push(transfer),
            _ if last.checked_add(1) == Some(sequence) => {
                self.sent_at.insert((to_shard, sequence), self.sent.len());
                let (source_n, debited_us) = (n, self.draft.t_us);
                self.sent.push(SentLink { to_shard, sequence, source_n, debited_us, transfers: vec![transfer] });
            }
            _ => return stop(Reason::LinkGap, n, format!("link {sequence} to shard {to_shard} after {last}")),
        }
        self.links_out.insert(to_shard, sequence);
        let payee = (HolderKind::OtherShardOut, u64::from(to_shard));
        self.transfer(event.asset, event.amount_units, account(event.account), payee);
        Ok(())
    }

    /// Count a link that was applied; credits follow it.
    fn fold_link(&mut self, event: &LinkResult) -> Result<(), FrameStop> {
        let (shard, sequence) = (event.from_shard, event.sequence);
        self.link_from = None;
        if sequence != 0 {
            let answers = &mut self.draft.answers;
            answers.from_shard.push(shard);
            answers.sequence.push(sequence);
            answers.reason.push(event.reason);
        }
        if event.reason != 0 || event.repeated {
            return Ok(());
        }
        let last = *self.links_in.get(&shard).unwrap_or(&self.ledger.last_link_from(shard));
        if last.checked_add(1) != Some(sequence) {
            return stop(Reason::LinkGap, self.draft.n, format!("link {sequence} from shard {shard} after {last}"));
        }
        self.links_in.insert(shard, sequence);
        self.link_from = Some(shard);
        Ok(())
    }

    fn fold_market(&mut self, event: &MarketDefined) {
        let market = &event.market;
        let units = MarketUnits {
            base_asset: market.base_asset,
            quote_asset: market.quote_asset,
            base_units_per_lot: market.base_units_per_lot,
            quote_units_per_tick_lot: market.quote_units_per_tick_lot,
        };
        self.markets.insert(market.market, units);
        self.note_changed_markets();
    }

    fn note_changed_markets(&mut self) {
        if let Some(changes) = self.draft.frames.changes_markets.last_mut() {
            *changes = true;
        }
    }

    fn fold_requested(&mut self, event: &WithdrawalRequested) {
        let set_aside = (HolderKind::OpenWithdrawals, 0);
        self.transfer(event.asset, event.amount_units, account(event.account), set_aside);
        let units = (event.asset, event.amount_units);
        self.note_withdrawal(event.withdrawal, event.account, units, Some(event.destination), false);
    }

    fn fold_closed(&mut self, event: &WithdrawalClosed) {
        let payee = if event.paid { (HolderKind::Payments, 0) } else { account(event.account) };
        self.transfer(event.asset, event.amount_units, (HolderKind::OpenWithdrawals, 0), payee);
        let units = (event.asset, event.amount_units);
        self.note_withdrawal(event.withdrawal, event.account, units, None, event.paid);
    }

    /// Note what became of a withdrawal; it is closed where there is no destination.
    fn note_withdrawal(
        &mut self,
        withdrawal: u64,
        account: u64,
        (asset, amount_units): (u32, u64),
        destination: Option<&str>,
        paid: bool,
    ) {
        let columns = &mut self.draft.withdrawals;
        columns.withdrawal.push(withdrawal);
        columns.account.push(account);
        columns.asset.push(asset);
        columns.amount_units.push(amount_units);
        columns.is_open.push(destination.is_some());
        columns.destination.push(destination.unwrap_or_default().to_owned());
        columns.paid.push(paid);
        columns.n.push(self.draft.n);
        columns.t_us.push(self.draft.t_us);
    }
}

fn account(number: u64) -> (HolderKind, u64) {
    (HolderKind::Account, number)
}
