//! What has to be known before anything is opened: the ledger's slots, and the exchange's orders.
//!
//! ```text
//! ReadSlots ─▶ founded? ─▶ sealed? ─▶ reconciled? ── no: wait until nothing older can arrive ─▶ ready
//!                                                                   then, symbol by symbol: History
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    Accepted, AcceptedSnapshot, Adoptions, Committing, Live, NewOrder, OrderReport, Orders,
    OrdersEffect, Refused, Remedy, Resolution, Said, SlotsFound, Stage, Stray, TradeReport,
    TradedStanding,
};
use crate::domain::{
    ClientOrderId, SignalIdentity, SignalTag, SlotCommand, SlotDone, SlotRefusal, Span, Symbol,
    Timestamp,
};

/// How far ahead of the exchange's clock a request may have been made that it takes later.
const AHEAD: Span = Span::from_secs(1);

/// Orders of an account that are looked through.
const SPENT_MAX: usize = 1 << 20;

/// Orders of a symbol that were placed and have ended here, before its history is looked through again.
const ENDED_MAX: usize = 256;

/// What survives of [`Orders`] in exec's checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrdersSnapshot {
    live: BTreeMap<SignalIdentity, Live>,
    pub(super) over: BTreeMap<SignalIdentity, Vec<Said>>,
    unasked: BTreeSet<SignalIdentity>,
    pending: Vec<NewOrder>,
    unwanted: BTreeSet<SignalIdentity>,
    heard: BTreeMap<SignalIdentity, bool>,
    last_trade: BTreeMap<Symbol, u64>,
    ahead: BTreeSet<(Symbol, u64)>,
    traded: BTreeMap<Symbol, TradedStanding>,
    adoptions: Adoptions,
    accepted: AcceptedSnapshot,
    last_order: BTreeMap<Symbol, u64>,
}

/// Where the core stands before it is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// It was not started.
    #[default]
    Idle,
    /// The slots are read.
    Reading,
    /// Another session is to shut out whoever was here before.
    Sealing {
        is_reconciled: bool,
    },
    /// Nothing older may be under way when the exchange's clock shows this.
    Settling {
        until: Option<Timestamp>,
    },
    /// A person has to say that nothing older is under way.
    Stuck,
    /// There are more orders than can be looked through.
    Full,
    /// What is known is being written down.
    Reconciling,
    Ready,
}

/// How much of a symbol's history has been looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum History {
    Asked,
    /// To be asked again once the answer has come: it was asked too early to be believed.
    Outdated,
    /// There was no answer; to be asked again at this time of our own clock.
    Failed {
        at: Timestamp,
    },
    Known,
    /// Known, and asked for what has come since, which nothing waits for.
    Following,
}

#[derive(Debug, Default)]
pub(super) struct Recovery {
    phase: Phase,
    /// Orders that wait for it. Bounded by the live orders that risk allows.
    pub(super) pending: VecDeque<NewOrder>,
    /// Which of them are not wanted any more.
    pub(super) unwanted: BTreeSet<SignalIdentity>,
    /// Which of them have had their last word in an earlier life, and whether any of it had traded then. Bounded as
    /// they are.
    pub(super) heard: BTreeMap<SignalIdentity, bool>,
    /// Orders that the exchange had already, by what had asked for them; at most [`SPENT_MAX`].
    pub(super) spent: BTreeMap<SignalTag, OrderReport>,
    /// The same by the exchange's number.
    spent_orders: BTreeMap<u64, SignalTag>,
    /// Their trades. Bounded as they are.
    unclaimed: BTreeMap<u64, Vec<TradeReport>>,
    /// Those of them that were open and are in no slot. Bounded by what an account may have open.
    pub(super) strays: BTreeMap<ClientOrderId, Stray>,
    /// How many were found of each symbol whose orders are being looked through.
    found: BTreeMap<Symbol, usize>,
    /// Orders that were placed and have ended here, and were not looked at yet: they are not unknown. Of
    /// each symbol about [`ENDED_MAX`].
    ended: BTreeSet<(Symbol, u64)>,
    histories: BTreeMap<Symbol, History>,
    /// What is to be looked through besides what orders need.
    pub(super) to_look: Vec<Symbol>,
    /// The last order of each symbol that was placed from here: what comes later is not in a snapshot.
    last_order: BTreeMap<Symbol, u64>,
    /// The last order of each symbol that was looked at.
    looked_at: BTreeMap<Symbol, u64>,
    /// What is known of the refusals elsewhere of those that wait and were offered there. Bounded as they are.
    pub(super) refusals: BTreeMap<SignalIdentity, Refused>,
    pub(super) wants_seal: bool,
    /// Not before this time of our own clock.
    seal_again_at: Timestamp,
    pub(super) is_sealing: bool,
    /// Whether what is found under way is brought to an end, besides at a start.
    pub(super) adopts: bool,
    /// The same of the question that was put last.
    is_adopting: bool,
    /// Whether the slots were asked for before recovery began: they are asked for again.
    is_outdated: bool,
    /// Not before this time of our own clock.
    pub(super) ask_time_at: Timestamp,
    pub(super) read_again_at: Timestamp,
}

impl Recovery {
    /// Whether all orders of a symbol are known.
    pub(super) fn is_known(&self, symbol: &Symbol) -> bool {
        matches!(self.histories.get(symbol), Some(History::Known | History::Following))
    }

    /// All orders of a symbol are to be looked through again.
    pub(super) fn look_again(&mut self, symbol: &Symbol) {
        if let Some(history) = self.histories.remove(symbol)
            && matches!(history, History::Asked | History::Outdated | History::Following)
        {
            self.histories.insert(symbol.clone(), History::Outdated);
        }
    }

    #[cfg(test)]
    pub(super) fn ended_count(&self) -> usize {
        self.ended.len()
    }

    /// Whether an order waits to be opened.
    pub(super) fn is_pending(&self, signal: &SignalIdentity) -> bool {
        self.pending.iter().any(|order| order.signal == *signal)
    }

    /// The slots are asked for.
    pub(super) fn on_reading(&mut self) {
        self.is_adopting = std::mem::take(&mut self.adopts);
        self.is_outdated = false;
        self.strays.values_mut().for_each(Stray::on_reading);
    }

    /// When nothing older can arrive any more, by the exchange's clock.
    pub(super) fn settles_at(&self) -> Option<Timestamp> {
        let Phase::Settling { until } = self.phase else { return None };
        Some(until.unwrap_or_default())
    }
}

impl Orders {
    /// Begins.
    pub fn start(&mut self, now: Timestamp) -> Vec<OrdersEffect> {
        self.begin_recovery();
        self.go_on(now)
    }

    /// Whether orders may leave.
    pub fn is_ready(&self) -> bool {
        self.recovery.phase == Phase::Ready
    }

    /// Whether nothing older is under way is for a person to say: [`Orders::on_released`].
    pub fn is_stuck(&self) -> bool {
        self.recovery.phase == Phase::Stuck
    }

    /// What a successor needs.
    pub fn snapshot(&self) -> OrdersSnapshot {
        let mut pending: Vec<NewOrder> = Vec::new();
        let mut unwanted = self.recovery.unwanted.clone();
        let mut live = self.live.clone();
        live.retain(|signal, live| match (live.stage, &live.order) {
            (Stage::Opening, Some(order)) => {
                pending.push(order.clone());
                if live.is_unwanted {
                    unwanted.insert(signal.clone());
                }
                false
            }
            _ => true,
        });
        pending.sort_by_key(|order| order.signal.id);
        pending.extend(self.recovery.pending.iter().cloned());
        let mut last_order = self.recovery.last_order.clone();
        for stray in self.recovery.strays.values() {
            // It is to be found again.
            let last = last_order.entry(stray.symbol.clone()).or_default();
            *last = (*last).min(stray.order.saturating_sub(1));
        }
        OrdersSnapshot {
            live,
            over: self.over.clone(),
            unasked: self.unasked.clone(),
            pending,
            unwanted,
            heard: self.recovery.heard.clone(),
            last_trade: self.last_trade.clone(),
            ahead: self.ahead.clone(),
            traded: self.traded.clone(),
            adoptions: self.adoptions.clone(),
            accepted: self.accepted.snapshot(),
            last_order,
        }
    }

    pub(super) fn restore(&mut self, snapshot: OrdersSnapshot) {
        let OrdersSnapshot {
            live,
            over,
            unasked,
            pending,
            unwanted,
            heard,
            last_trade,
            ahead,
            traded,
            adoptions,
            accepted,
            last_order,
        } = snapshot;
        self.recovery.heard = heard;
        self.ahead = ahead;
        self.traded = traded;
        let again = adoptions.under_way.values().cloned().map(OrdersEffect::Adopt);
        self.effects.extend(again);
        self.adoptions = adoptions;
        self.accepted = Accepted::new(accepted);
        self.counters.accepted_twice = self.accepted.count();
        self.recovery.unwanted = unwanted;
        for (signal, mut live) in live {
            live.stage = Stage::Lost;
            live.is_asking_trades = false;
            self.by_client_id.insert(live.client_id.clone(), signal.clone());
            self.live.insert(signal, live);
        }
        self.over = over;
        self.unasked = unasked;
        self.recovery.pending = pending.into();
        self.last_trade = last_trade;
        self.recovery.looked_at = last_order.clone();
        self.recovery.last_order = last_order;
        // Whether it took effect is not known.
        let said = self.live.iter().flat_map(|(signal, live)| {
            let wanted = live.order.is_some().then_some(&live.said);
            wanted.into_iter().flatten().map(move |said| (signal, said))
        });
        let over = self.over.iter();
        let over = over.flat_map(|(signal, said)| said.iter().map(move |said| (signal, said)));
        let again = said.chain(over);
        let again = again.map(|(signal, said)| OrdersEffect::Tell(signal.clone(), said.clone()));
        self.effects.extend(again);
    }

    pub(super) fn begin_recovery(&mut self) {
        self.recovery.phase = Phase::Reading;
        let symbols: Vec<Symbol> = self.recovery.histories.keys().cloned().collect();
        symbols.iter().for_each(|symbol| self.recovery.look_again(symbol));
        if self.is_reading {
            self.recovery.is_outdated = true;
        } else {
            self.read_slots();
        }
    }

    /// What the ledger holds; none, if it did not answer.
    pub fn on_slots(&mut self, slots: Option<SlotsFound>, now: Timestamp) -> Vec<OrdersEffect> {
        self.is_reading = false;
        self.recovery.read_again_at = now.after(self.config.poll);
        let adopts = std::mem::take(&mut self.recovery.is_adopting);
        let is_outdated = std::mem::take(&mut self.recovery.is_outdated);
        let Some(SlotsFound { cluster, is_reconciled, open }) = slots.filter(|_| !is_outdated)
        else {
            self.recovery.adopts |= adopts;
            if is_outdated {
                self.recovery.read_again_at = now;
            }
            return self.go_on(now);
        };
        let is_first = self.recovery.phase == Phase::Reading;
        if let Some(cluster) = cluster {
            self.cluster = cluster;
            if is_first || adopts {
                self.adopt_orphans(&open);
                self.check_strays(now);
            }
            self.find_released(&open);
            self.find_lost(&open);
        }
        if is_first {
            self.recovery.phase = match (cluster, self.config.capabilities.resolution()) {
                // Founded first, and read again.
                (None, _) => Phase::Reading,
                (Some(_), Resolution::Seal) => Phase::Sealing { is_reconciled },
                (Some(_), _) if is_reconciled => Phase::Ready,
                (Some(_), Resolution::Deadline) => Phase::Settling { until: None },
                (Some(_), Resolution::Repeat | Resolution::Quarantine) => self.stuck(),
            };
            self.recovery.wants_seal |= matches!(self.recovery.phase, Phase::Sealing { .. });
        } else if self.is_stuck() && is_reconciled {
            // Somebody has looked, elsewhere.
            self.recovery.phase = Phase::Ready;
        }
        if cluster.is_none() && self.committing.is_none() {
            self.committing = Some(Committing::Found);
            self.effects.push(OrdersEffect::Commit(vec![SlotCommand::Found {
                cluster: self.config.new_cluster,
            }]));
        }
        self.go_on(now)
    }

    fn stuck(&mut self) -> Phase {
        self.effects.push(OrdersEffect::Alarm(format!(
            "{} was never reconciled in this ledger, and it cannot be found out whether older \
             requests are under way: make sure that nothing is, then start with assume_reconciled \
             = true for this broker",
            self.config.venue
        )));
        Phase::Stuck
    }

    /// A person says that nothing older is under way.
    pub fn on_released(&mut self, now: Timestamp) -> Vec<OrdersEffect> {
        if self.is_stuck() {
            self.reconcile();
        }
        self.go_on(now)
    }

    pub(super) fn on_recovery_committed(&mut self, result: Option<&Result<SlotDone, SlotRefusal>>) {
        match result {
            Some(Ok(SlotDone::Cluster(_))) | None => {
                if !self.is_reading {
                    self.read_slots();
                }
            }
            Some(Ok(SlotDone::Sealed(session))) => {
                self.recovery.is_sealing = true;
                self.effects.push(OrdersEffect::Session(*session));
            }
            Some(Ok(SlotDone::Done)) => self.recovery.phase = Phase::Ready,
            Some(Err(refusal)) => {
                let alarm = format!("{} cannot be used: {refusal}", self.config.venue);
                self.effects.push(OrdersEffect::Alarm(alarm));
            }
        }
    }

    /// The exchange has, or has not, begun the session: it takes nothing of earlier ones any more.
    pub fn on_session(&mut self, is_begun: bool, now: Timestamp) -> Vec<OrdersEffect> {
        self.recovery.is_sealing = false;
        if !is_begun {
            // With another number: who knows which the exchange has seen.
            self.recovery.wants_seal = true;
            self.recovery.seal_again_at = now.after(self.config.poll);
            return self.go_on(now);
        }
        if let Phase::Sealing { is_reconciled } = self.recovery.phase {
            if is_reconciled {
                self.recovery.phase = Phase::Ready;
            } else {
                self.reconcile();
            }
        }
        let waiting = self.live.iter();
        let waiting = waiting.filter(|(_, live)| matches!(live.stage, Stage::Waiting { .. }));
        let waiting: Vec<SignalIdentity> = waiting.map(|(signal, _)| signal.clone()).collect();
        for signal in waiting {
            self.ask(&signal, true);
        }
        self.go_on(now)
    }

    fn reconcile(&mut self) {
        self.recovery.phase = Phase::Reconciling;
    }

    /// Whether changes of orders' slots may be committed before what recovery commits.
    pub(super) fn may_commit(&self) -> bool {
        self.recovery.phase != Phase::Reading || self.cluster != 0
    }

    pub(super) fn on_recovery_time(&mut self, told: Timestamp) {
        match self.recovery.phase {
            Phase::Settling { until: None } => {
                let wait = AHEAD + self.config.window + self.config.settle_after_error;
                self.recovery.phase = Phase::Settling { until: Some(told.after(wait)) };
            }
            Phase::Settling { until: Some(until) } if until <= told => self.reconcile(),
            Phase::Settling { .. }
            | Phase::Idle
            | Phase::Reading
            | Phase::Sealing { .. }
            | Phase::Stuck
            | Phase::Full
            | Phase::Reconciling
            | Phase::Ready => {}
        }
    }

    /// The account's orders in a symbol, oldest first; none, if there was no answer.
    pub fn on_history(
        &mut self,
        symbol: &Symbol,
        orders: Option<(&[OrderReport], bool)>,
        now: Timestamp,
    ) -> Vec<OrdersEffect> {
        let Some((orders, is_last)) = orders else {
            let at = now.after(self.config.poll);
            let was = self.recovery.histories.insert(symbol.clone(), History::Failed { at });
            if was == Some(History::Following) {
                // The next order that ends has it asked for again.
                self.recovery.histories.insert(symbol.clone(), History::Known);
            }
            return self.go_on(now);
        };
        for report in orders {
            self.recovery.looked_at.insert(symbol.clone(), report.order);
            let has_ended_here = self.recovery.ended.remove(&(symbol.clone(), report.order));
            self.note_accepted(report);
            let name = &report.client_id;
            let named = ClientOrderId::parse(name).zip(ClientOrderId::tag_in(name));
            let Some((client_id, tag)) = named else {
                if !report.is_over {
                    self.recovered.on_foreign(report);
                }
                continue;
            };
            if has_ended_here || self.by_client_id.contains_key(&client_id) {
                continue;
            }
            if self.recovery.spent.len() >= SPENT_MAX {
                let alarm = format!(
                    "{} has more than {SPENT_MAX} orders to look through; nothing is opened",
                    self.config.venue
                );
                self.effects.push(OrdersEffect::Alarm(alarm));
                self.recovery.phase = Phase::Full;
                return self.go_on(now);
            }
            self.recovery.spent_orders.insert(report.order, tag);
            self.recovery.spent.insert(tag, report.clone());
            self.recovered.on_listed(report);
            *self.recovery.found.entry(symbol.clone()).or_default() += 1;
            if !report.is_over {
                self.on_stray_found((client_id, tag), report, now);
            }
        }
        if !is_last {
            self.ask_more_history(symbol);
            return self.go_on(now);
        }
        if self.recovery.histories.insert(symbol.clone(), History::Known) == Some(History::Outdated)
        {
            self.ask_history(symbol);
            return self.go_on(now);
        }
        if let Some(found) = self.recovery.found.remove(symbol) {
            self.effects.push(OrdersEffect::Rebuilt(symbol.clone(), found));
        }
        self.end_search(symbol, now);
        self.page(symbol);
        self.go_on(now)
    }

    /// An order of ours is over that the exchange had: its history says nothing new of it.
    pub(super) fn note_over(&mut self, symbol: &Symbol, order: u64) {
        if order <= self.recovery.looked_at.get(symbol).copied().unwrap_or(0) {
            return;
        }
        self.recovery.ended.insert((symbol.clone(), order));
        let of_symbol = (symbol.clone(), 0)..=(symbol.clone(), u64::MAX);
        let count = self.recovery.ended.range(of_symbol).count();
        if count > ENDED_MAX && self.recovery.histories.get(symbol) == Some(&History::Known) {
            self.recovery.histories.insert(symbol.clone(), History::Following);
            self.ask_more_history(symbol);
        }
    }

    pub(super) fn note_order(&mut self, symbol: &Symbol, order: u64) {
        let last = self.recovery.last_order.entry(symbol.clone()).or_default();
        *last = (*last).max(order);
    }

    fn ask_history(&mut self, symbol: &Symbol) {
        self.recovery.histories.insert(symbol.clone(), History::Asked);
        self.ask_more_history(symbol);
    }

    fn ask_more_history(&mut self, symbol: &Symbol) {
        let after = self.recovery.looked_at.get(symbol).copied().unwrap_or(0);
        self.effects.push(OrdersEffect::History { symbol: symbol.clone(), after });
    }

    /// The exchange has the order of a signal already.
    pub(super) fn attach(&mut self, order: NewOrder, report: OrderReport, now: Timestamp) {
        let Some(client_id) = ClientOrderId::parse(&report.client_id) else { return };
        self.counters.spent += 1;
        let signal = order.signal.clone();
        let stage = Stage::Asking { is_conclusive: true };
        let mut live = Live::new(order.symbol.clone(), client_id.clone(), order.quantity, stage);
        live.is_named = true;
        live.order = (!self.recovery.heard.contains_key(&signal)).then_some(order);
        self.recovered.begin(&live.symbol, &client_id, Remedy::TakenOver);
        self.by_client_id.insert(client_id, signal.clone());
        self.live.insert(signal.clone(), live);
        self.say(&signal, Said::Accepted);
        self.claim(&signal, report.order);
        self.on_seen(&signal, &report, now);
    }

    /// An order that the account had without our knowing is that of a signal: so are its trades.
    pub(super) fn claim(&mut self, signal: &SignalIdentity, order: u64) {
        self.recovery.spent_orders.remove(&order);
        self.recovery.strays.retain(|_, stray| stray.order != order);
        for trade in self.recovery.unclaimed.remove(&order).unwrap_or_default() {
            // It was another's until now.
            self.count_traded(&trade, -1, 0);
            self.on_fill(signal, &trade);
        }
    }

    /// A trade of an order that is not under way here.
    pub(super) fn on_stray(&mut self, trade: &TradeReport) {
        if self.recovery.spent_orders.contains_key(&trade.order) {
            // Whoever asked for the order has not done so again yet.
            self.count_traded(trade, 1, 0);
            self.recovery.unclaimed.entry(trade.order).or_default().push(trade.clone());
            return;
        }
        self.counters.stray_trades += 1;
        self.count_traded(trade, 1, 0);
        self.effects.push(OrdersEffect::Stray(trade.clone()));
    }

    /// Whether what the exchange has of a symbol is known; otherwise it is asked for.
    pub(super) fn knows_history(&mut self, symbol: &Symbol, now: Timestamp) -> bool {
        match self.recovery.histories.get(symbol) {
            Some(History::Known | History::Following) => true,
            Some(History::Failed { at }) if *at > now => false,
            Some(History::Asked | History::Outdated) => false,
            Some(History::Failed { .. }) | None => {
                self.ask_history(symbol);
                false
            }
        }
    }

    /// Goes on with what has to be known before orders are opened, and opens those that waited.
    pub(super) fn go_on_recovering(&mut self, now: Timestamp) {
        if self.recovery.wants_seal
            && self.committing.is_none()
            && !self.recovery.is_sealing
            && now >= self.recovery.seal_again_at
        {
            self.recovery.wants_seal = false;
            self.committing = Some(Committing::Seal);
            let venue = self.config.venue.clone();
            self.effects.push(OrdersEffect::Commit(vec![SlotCommand::Seal { venue }]));
        }
        if self.recovery.phase == Phase::Reconciling && self.committing.is_none() {
            self.committing = Some(Committing::Reconciled);
            let venue = self.config.venue.clone();
            self.effects.push(OrdersEffect::Commit(vec![SlotCommand::Reconciled { venue }]));
        }
        let is_to_read = matches!(self.recovery.phase, Phase::Reading | Phase::Stuck)
            || self.recovery.adopts && self.is_ready();
        if is_to_read
            && self.committing.is_none()
            && !self.is_reading
            && now >= self.recovery.read_again_at
        {
            self.read_slots();
        }
        if !self.is_ready() {
            return;
        }
        let searched = self.live.values().filter(|live| live.stage == Stage::Searching);
        let mut symbols: Vec<Symbol> = searched.map(|live| live.symbol.clone()).collect();
        // An order's trades may be of before this life.
        symbols.extend(self.live.values().map(|live| live.symbol.clone()));
        symbols.extend(self.recovery.to_look.iter().cloned());
        symbols.sort();
        symbols.dedup();
        for symbol in symbols {
            self.knows_history(&symbol, now);
        }
        if self.is_held {
            return;
        }
        self.cancel_strays(now);
        let mut waiting = VecDeque::new();
        while let Some(order) = self.recovery.pending.pop_front() {
            // In their order, symbol by symbol.
            let is_known = self.knows_history(&order.symbol.clone(), now);
            let may_open = !self.needs_slot(&order)
                || self.knows_right(&order, now) && !self.has_slotless(&order.symbol);
            if is_known && may_open {
                self.open(order, now);
            } else {
                waiting.push_back(order);
            }
        }
        self.recovery.pending = waiting;
    }
}
