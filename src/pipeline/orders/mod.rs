//! The order protocol: no order twice at an exchange, whatever fails between here and there.
//!
//! ```text
//! place ─▶ Commit(Open) ─▶ Send, once ─┬─ accepted ─▶ Commit(Placed) ─ trades, over ─▶ Commit(End)
//!                                      ├─ refused ───────────────────────────────────▶ Commit(End)
//!                                      └─ no answer: unknown
//!                                           wait for the exchange's clock, then Query ─┬▶ it has it
//!                                                          Commit(Retry) ─▶ Send ◀─────┴▶ it has not
//! ```
//!
//! What makes it safe is that an intent with a deadline lies in the ledger before its request leaves,
//! and that the exchange, which alone decides, takes no request after the deadline in it, by its own
//! clock. Who runs this core does not matter: any number may, at the same time. Leases and locks decide
//! who tries, for the sake of speed.
//!
//! A core that starts reads the slots and the account's orders first. What it finds under way it brings to an
//! end, whoever began it. Signals that the exchange has orders for, under the tag in the client order
//! id, are spent, even if the ledger has lost all memory of them.
//!
//! # Invariants
//!
//! 1. A request leaves only after its intent was committed, only once, and unchanged.
//! 2. While an outcome is unknown, its slot is not ended, nor another attempt made, before the exchange
//!    was asked after its clock had passed the deadline and the time to settle.
//! 3. Of each order that was placed here, the last word is said once, after its slot has ended.
//! 4. The fills of an order are said once each, before its last word.
//! 5. Nothing is opened before the account was reconciled.
//! 6. An order that was lost is gone only if answers to what was asked after that say so: no slot holds it,
//!    and the exchange does not have it.
//! 7. Nothing more is said of an order whose last word was heard in an earlier life, nor is it sent again.
//! 8. Nothing is opened in a symbol while an order of ours may be open there that is in no slot.

mod accepted;
mod adoption;
mod cancel;
mod capability;
mod clock;
mod live;
mod lost;
mod recovered;
mod recovery;
mod refusal;
mod standing;
mod stopped;
mod strays;
#[cfg(test)]
mod tests;
mod trades;
mod unknown;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::domain::{
    ClientOrderId, Histogram, OrderIntent, Quantity, Refusal, SignalIdentity, SlotCommand,
    SlotDone, SlotKey, SlotOutcome, SlotRefusal, SlotRight, Span, Symbol, Timestamp,
};

use accepted::{Accepted, AcceptedSnapshot};
use adoption::Adoptions;
use clock::ExchangeClock;
use live::{Live, Stage};
use recovered::Recovered;
use recovery::Recovery;
use refusal::Refused;
use strays::Stray;

pub use adoption::Adoption;
pub use capability::{Capabilities, Deduplication, Resolution};
pub use recovered::{FoundAs, RecoveredOrder, Remedy};
pub use recovery::OrdersSnapshot;
pub use standing::{OrderStanding, TradedStanding};
pub use stopped::Stopped;
pub use words::{
    Answer, Found, NewOrder, OrderReport, OrdersConfig, OrdersCounters, OrdersEffect, RefusalFound,
    Request, Said, SlotsFound, TradeReport,
};

/// Changes of slots in one commit.
const COMMIT_MAX: usize = 64;

/// Slots whose next use is guessed.
const GENERATIONS_MAX: usize = 4_096;

/// Between two questions for the exchange's time while orders are under way.
const TIME_EVERY: Span = Span::from_secs(1);

/// Between two questions for the exchange's time in any case.
const TIME_PAUSE: Span = Span::from_millis(10);

/// How often an order asks for a slot that has moved on before it counts as busy.
const CONFLICTS_MAX: u32 = 8;

/// What is committed just now.
#[derive(Debug)]
enum Committing {
    Found,
    Seal,
    Reconciled,
    Orders(Vec<(SignalIdentity, Option<Request>)>),
}

/// The protocol for one account at one exchange.
#[derive(Debug)]
pub struct Orders {
    config: OrdersConfig,
    clock: ExchangeClock,
    /// Whether orders that come may have come, and ended, before: none is opened.
    is_held: bool,
    is_asking_time: bool,
    recovery: Recovery,
    recovered: Recovered,
    stopped: Stopped,
    cluster: u64,
    /// Bounded by the live orders that risk allows, and by the slots of the ledger.
    live: BTreeMap<SignalIdentity, Live>,
    by_client_id: BTreeMap<ClientOrderId, SignalIdentity>,
    /// Orders that are over and of which not everything has been heard yet; bounded as `live`.
    over: BTreeMap<SignalIdentity, Vec<Said>>,
    /// Which of them nobody here has asked for: what they have traded counts as others'.
    unasked: BTreeSet<SignalIdentity>,
    /// Changes for the next commits, with the request that each is for.
    queue: VecDeque<(SignalIdentity, SlotCommand, Option<Request>)>,
    committing: Option<Committing>,
    is_reading: bool,
    /// Orders that were lost, put aside or ended since the slots were last asked for: what comes says nothing
    /// of them. Bounded as `live`, and emptied with every question.
    changed: BTreeSet<SignalIdentity>,
    /// The last trade said, by symbol.
    last_trade: BTreeMap<Symbol, u64>,
    /// Trades beyond those that were told with their order alone. Bounded as `live`.
    ahead: BTreeSet<(Symbol, u64)>,
    /// What the account has traded.
    traded: BTreeMap<Symbol, TradedStanding>,
    adoptions: Adoptions,
    accepted: Accepted,
    /// Symbols whose trades are being asked for, and whether they must be again.
    paging: BTreeMap<Symbol, bool>,
    /// Symbols whose trades are to be asked for again, at this time of our own clock.
    paging_again: BTreeMap<Symbol, Timestamp>,
    /// Where slots are to be asked for next; a wrong guess costs a commit. At most [`GENERATIONS_MAX`].
    generations: BTreeMap<SlotKey, u64>,
    effects: Vec<OrdersEffect>,
    counters: OrdersCounters,
    /// From asking for an intent to sending its request, in nanoseconds.
    intents: Histogram,
}

impl Orders {
    /// A core that goes on from `snapshot`, or from nothing. Call [`Orders::start`] next.
    pub fn new(config: OrdersConfig, snapshot: Option<OrdersSnapshot>) -> Self {
        let mut orders = Self {
            config,
            clock: ExchangeClock::default(),
            is_held: false,
            is_asking_time: false,
            recovery: Recovery::default(),
            recovered: Recovered::default(),
            stopped: Stopped::default(),
            cluster: 0,
            live: BTreeMap::new(),
            by_client_id: BTreeMap::new(),
            over: BTreeMap::new(),
            unasked: BTreeSet::new(),
            queue: VecDeque::new(),
            committing: None,
            is_reading: false,
            changed: BTreeSet::new(),
            last_trade: BTreeMap::new(),
            ahead: BTreeSet::new(),
            traded: BTreeMap::new(),
            adoptions: Adoptions::default(),
            accepted: Accepted::default(),
            paging: BTreeMap::new(),
            paging_again: BTreeMap::new(),
            generations: BTreeMap::new(),
            effects: Vec::new(),
            counters: OrdersCounters::default(),
            intents: Histogram::default(),
        };
        if let Some(snapshot) = snapshot {
            orders.restore(snapshot);
        }
        orders
    }

    /// What has happened so far.
    pub const fn counters(&self) -> &OrdersCounters {
        &self.counters
    }

    /// How long it took, in nanoseconds of our own clock, from asking for an intent to sending its request.
    pub const fn intents(&self) -> &Histogram {
        &self.intents
    }

    /// Whether nothing is under way, nor waits.
    pub fn is_idle(&self) -> bool {
        let recovery = &self.recovery;
        self.live.is_empty() && recovery.pending.is_empty() && recovery.strays.is_empty()
    }

    /// What the exchange's clock shows, as far as is known.
    pub fn exchange_now(&self, now: Timestamp) -> Timestamp {
        self.clock.now(now).unwrap_or(now)
    }

    /// Takes an order.
    pub fn place(&mut self, order: NewOrder, now: Timestamp) -> Vec<OrdersEffect> {
        self.counters.placed += 1;
        // Opened once what the exchange has of its symbol is known.
        self.recovery.pending.push_back(order);
        self.go_on(now)
    }

    fn open(&mut self, order: NewOrder, now: Timestamp) {
        let signal = order.signal.clone();
        let is_unwanted = self.recovery.unwanted.remove(&signal);
        let refused = self.recovery.refusals.remove(&signal);
        if let Some(said) = self.over.get(&signal) {
            let again = said.iter().map(|said| OrdersEffect::Tell(signal.clone(), said.clone()));
            self.effects.extend(again);
            self.count_as_asked(&signal);
            return;
        }
        let is_heard = self.recovery.heard.contains_key(&signal);
        if let Some(live) = self.live.get_mut(&signal) {
            // Found under way by this core, and not known to be ours until now. One that exec knows to be over
            // stays as it is: it is brought to its end, and neither sent again nor spoken of.
            if !is_heard {
                let trades = live.unasked_trades();
                live.order = Some(order);
                let again = live.said.iter();
                let again = again.map(|said| OrdersEffect::Tell(signal.clone(), said.clone()));
                self.effects.extend(again);
                trades.iter().for_each(|trade| self.count_traded(trade, -1, 1));
            }
            if is_unwanted {
                self.give_up(&signal);
            }
            return;
        }
        if let Some(report) = self.recovery.spent.remove(&signal.tag()) {
            self.attach(order, report, now);
            if is_unwanted {
                self.give_up(&signal);
            }
            return;
        }
        if self.recovery.heard.remove(&signal).is_some() {
            return;
        }
        if is_unwanted {
            return self.take_back(&order);
        }
        let slot = SlotKey {
            venue: self.config.venue.clone(),
            symbol: order.symbol.clone(),
            side: order.side,
            level: self.config.levels.of(order.limit_price),
        };
        let generation = self.generations.get(&slot).copied().unwrap_or(0);
        let by = match refused {
            Some(Refused::Known(found)) => found.by,
            Some(Refused::Asked | Refused::Failed { .. }) | None => None,
        };
        let right = by.map_or(SlotRight::NewSignal, |(slot, generation)| SlotRight::RefusedBy {
            slot,
            generation,
        });
        self.open_at(order, (slot, generation), right, 0, now);
    }

    /// Asks for the slot at a generation. The first guess may be wrong: the ledger says which it is.
    fn open_at(
        &mut self,
        order: NewOrder,
        (slot, generation): (SlotKey, u64),
        right: SlotRight,
        conflicts: u32,
        now: Timestamp,
    ) {
        let signal = order.signal.clone();
        let client_id = ClientOrderId::new(self.cluster, &slot, generation, signal.tag());
        let mut live = Live::new(order.symbol.clone(), client_id, order.quantity, Stage::Opening);
        (live.slot, live.conflicts) = (Some((slot.clone(), generation)), conflicts);
        live.opened_at = now;
        let request = self.request(&live, &order, 1, now);
        live.deadline = request.deadline();
        let intent = OrderIntent {
            signal: signal.clone(),
            client_id: live.client_id.clone(),
            quantity: order.quantity,
            limit_price: order.limit_price,
            deadline: live.deadline,
            request: request.hash(),
        };
        live.right = right.clone();
        live.order = Some(order);
        self.by_client_id.insert(live.client_id.clone(), signal.clone());
        self.live.insert(signal.clone(), live);
        let command = SlotCommand::Open { slot, generation, intent: Box::new(intent), right };
        if conflicts == 0 {
            self.queue.push_back((signal, command, Some(request)));
        } else {
            // It keeps its place: whatever is opened of its symbol before it would use its signal up.
            self.queue.push_front((signal, command, Some(request)));
        }
    }

    /// The request of an attempt, made now.
    fn request(&self, live: &Live, order: &NewOrder, attempt: u32, now: Timestamp) -> Request {
        let millisecond = 1_000_000;
        let made = self.clock.now(now).unwrap_or(now).as_nanos() / millisecond * millisecond;
        Request {
            client_id: live.client_id.clone(),
            symbol: order.symbol.clone(),
            side: order.side,
            quantity: order.quantity,
            limit_price: order.limit_price,
            made: Timestamp::from_nanos(made),
            window: self.config.window,
            is_resting: self.config.rests.is_some(),
            attempt,
        }
    }

    /// What was last to be committed is; or what the ledger said to each part of it.
    pub fn on_committed(
        &mut self,
        results: &[Result<SlotDone, SlotRefusal>],
        now: Timestamp,
    ) -> Vec<OrdersEffect> {
        match self.committing.take() {
            None => {}
            Some(Committing::Orders(orders)) => {
                for ((signal, request), result) in orders.into_iter().zip(results) {
                    self.on_order_committed(&signal, request, result, now);
                }
            }
            Some(Committing::Found | Committing::Seal | Committing::Reconciled) => {
                self.on_recovery_committed(results.first());
            }
        }
        self.go_on(now)
    }

    fn on_order_committed(
        &mut self,
        signal: &SignalIdentity,
        request: Option<Request>,
        result: &Result<SlotDone, SlotRefusal>,
        now: Timestamp,
    ) {
        let Some(live) = self.live.get_mut(signal) else { return };
        match (live.stage, result, request) {
            (Stage::Opening | Stage::Retrying, Ok(_), Some(request)) => {
                if live.stage == Stage::Retrying {
                    live.attempt = request.attempt;
                    self.counters.retried += 1;
                }
                live.is_named = true;
                live.deadline = request.deadline();
                self.send(signal, request, now);
            }
            (Stage::Opening, Err(refusal), _) => self.on_not_opened(signal, refusal, now),
            (Stage::Retrying, Err(_), _) => self.lose(signal),
            (Stage::Ending { outcome, said }, Ok(_), None) => {
                let ended = live.slot.clone();
                self.note_ended(ended);
                self.finish(signal, outcome, said);
            }
            (Stage::Ending { .. }, Err(_), None) => self.lose(signal),
            // A mark that the exchange has it, or a quarantine.
            (_, Ok(_) | Err(_), _) => {}
        }
    }

    fn note_ended(&mut self, slot: Option<(SlotKey, u64)>) {
        if self.generations.len() >= GENERATIONS_MAX {
            self.generations.clear();
        }
        self.generations.extend(slot.map(|(slot, generation)| (slot, generation + 1)));
    }

    /// Its intent is committed: it leaves, unless it could not arrive in time any more.
    fn send(&mut self, signal: &SignalIdentity, request: Request, now: Timestamp) {
        let Some(live) = self.live.get_mut(signal) else { return };
        if live.exchange_order.is_some() {
            // Somebody has seen it there meanwhile.
            live.stage = Stage::Placed { poll_at: now };
            return;
        }
        if live.is_unwanted && live.attempt == 1 {
            // Nothing of it has ever left.
            return self.end(signal, SlotOutcome::NotPlaced, None);
        }
        if live.is_unwanted {
            return self.retry_or_end(signal, now);
        }
        let is_late = self.clock.at_least(now).is_some_and(|now| now > request.deadline());
        if is_late && self.config.capabilities.deadline {
            // It has not left, so there is nothing to find out.
            self.counters.too_late += 1;
            return self.retry_or_end(signal, now);
        }
        live.stage = Stage::Sent;
        if live.attempt == 1 {
            let took = now.since(live.opened_at).as_nanos();
            self.intents.record(u64::try_from(took).unwrap_or(u64::MAX));
        }
        self.counters.sent += 1;
        self.effects.push(OrdersEffect::Send(request));
    }

    fn on_not_opened(&mut self, signal: &SignalIdentity, refusal: &SlotRefusal, now: Timestamp) {
        let Some(live) = self.live.get_mut(signal) else { return };
        match refusal {
            SlotRefusal::Conflict { generation, attempt: 0 }
                if live.conflicts < CONFLICTS_MAX && live.slot.is_some() =>
            {
                let conflicts = live.conflicts + 1;
                let Some(Live { order, slot, right, .. }) = self.remove(signal) else { return };
                if let (Some(order), Some((slot, _))) = (order, slot) {
                    self.open_at(order, (slot, *generation), right, conflicts, now);
                }
            }
            SlotRefusal::Conflict { .. } => {
                self.counters.slot_busy += 1;
                let held = live.slot.clone();
                let holds = |other: &Live| other.slot == held && other.stage != Stage::Opening;
                if !self.live.values().any(holds) {
                    // By an order that was opened after the slots were read, and whose executor is no more.
                    self.recovery.adopts = true;
                    self.recovery.read_again_at = now;
                }
                self.drop_order(signal, Refusal::Order);
            }
            // By somebody else, or by an earlier life of this one: what became of it?
            SlotRefusal::Consumed => self.lose(signal),
            SlotRefusal::NotReconciled => {
                let order = self.remove(signal).and_then(|live| live.order);
                self.recovery.pending.extend(order);
                self.begin_recovery();
            }
            SlotRefusal::NotRefused => self.drop_order(signal, Refusal::Order),
            SlotRefusal::NoLock { .. } => {
                let alarm = format!("an order is not placed: {refusal}");
                self.effects.push(OrdersEffect::Alarm(alarm));
                self.drop_order(signal, Refusal::Unavailable);
            }
            SlotRefusal::Full { .. }
            | SlotRefusal::TooLong { .. }
            | SlotRefusal::LockHeld { .. } => {
                let alarm = format!("an order is not placed: {refusal}");
                self.effects.push(OrdersEffect::Alarm(alarm));
                self.drop_order(signal, Refusal::Order);
            }
        }
    }

    /// Gives up an order that has no slot.
    fn drop_order(&mut self, signal: &SignalIdentity, refusal: Refusal) {
        self.last_word(signal, Said::Refused(refusal));
    }

    /// The exchange has, or had, the order.
    fn on_seen(&mut self, signal: &SignalIdentity, report: &OrderReport, now: Timestamp) {
        self.note_accepted(report);
        self.recovered.see(report);
        let Some(live) = self.live.get_mut(signal) else { return };
        live.exchange_order = Some(report.order);
        live.is_named = true;
        live.executed = live.executed.max(report.executed);
        live.is_over |= report.is_over;
        let symbol = live.symbol.clone();
        let is_news = !matches!(live.stage, Stage::Placed { .. } | Stage::Ending { .. });
        if matches!(live.stage, Stage::Opening | Stage::Retrying | Stage::Ending { .. }) {
            // What is being committed is looked at first.
            return self.say(signal, Said::Accepted);
        }
        live.stage = Stage::Placed { poll_at: now.after(self.config.poll) };
        live.rests_until = live.rests_until.or(self.config.rests.map(|rests| now.after(rests)));
        if is_news
            && !live.is_over
            && let Some((slot, generation)) = live.slot.clone()
        {
            let command = SlotCommand::Placed { slot, generation };
            self.queue.push_back((signal.clone(), command, None));
        }
        self.say(signal, Said::Accepted);
        self.note_order(&symbol, report.order);
        if is_news {
            self.consider_cancel(signal);
        }
        self.consider_end(signal);
    }

    /// Ends an order that is over once all its trades have been said; asks for those that have not.
    fn consider_end(&mut self, signal: &SignalIdentity) {
        let Some(live) = self.live.get(signal) else { return };
        if live.filled < live.executed {
            let symbol = live.symbol.clone();
            self.page(&symbol);
        } else if live.is_over && matches!(live.stage, Stage::Placed { .. }) {
            self.end(signal, SlotOutcome::Closed, None);
        }
    }

    /// Has the slot ended, and then the last word said.
    fn end(&mut self, signal: &SignalIdentity, outcome: SlotOutcome, said: Option<Refusal>) {
        let Some(live) = self.live.get_mut(signal) else { return };
        live.stage = Stage::Ending { outcome, said };
        let is_certain = matches!(outcome, SlotOutcome::Closed | SlotOutcome::Released);
        let attempt = (!is_certain).then_some(live.attempt);
        match live.slot.clone() {
            Some((slot, generation)) => {
                let command = SlotCommand::End { slot, generation, attempt, outcome };
                self.queue.push_back((signal.clone(), command, None));
            }
            None => self.finish(signal, outcome, said),
        }
    }

    fn finish(&mut self, signal: &SignalIdentity, outcome: SlotOutcome, said: Option<Refusal>) {
        let Some(live) = self.live.get(signal) else { return };
        let remaining = Quantity(live.quantity.0 - live.filled.0);
        let said = match said {
            Some(refusal) if outcome != SlotOutcome::Closed => Said::Refused(refusal),
            _ => Said::Closed { remaining },
        };
        self.last_word(signal, said);
    }

    fn last_word(&mut self, signal: &SignalIdentity, said: Said) {
        let Some(mut live) = self.remove(signal) else { return };
        self.note_changed(signal);
        self.recovered.end(&live.client_id, live.filled);
        if let Some(order) = live.exchange_order {
            self.note_over(&live.symbol, order);
        }
        live.said.push(said.clone());
        if live.order.is_some() {
            self.effects.push(OrdersEffect::Tell(signal.clone(), said));
        }
        if self.recovery.heard.contains_key(signal) {
            // Whoever is yet to place it again is to hear nothing either.
            if !self.recovery.is_pending(signal) {
                self.recovery.heard.remove(signal);
            }
            return;
        }
        // Also one that nobody has asked for yet: whoever does so after a restart is told.
        if live.order.is_none() && live.exchange_order.is_some() {
            self.unasked.insert(signal.clone());
        }
        if live.order.is_some() || live.exchange_order.is_some() {
            self.over.insert(signal.clone(), live.said);
        }
    }

    fn remove(&mut self, signal: &SignalIdentity) -> Option<Live> {
        let live = self.live.remove(signal)?;
        self.by_client_id.remove(&live.client_id);
        Some(live)
    }

    /// Says it, unless it was said before.
    fn say(&mut self, signal: &SignalIdentity, said: Said) {
        let Some(live) = self.live.get_mut(signal) else { return };
        if !matches!(said, Said::Filled(_)) && live.said.contains(&said) {
            return;
        }
        if live.order.is_some() {
            self.effects.push(OrdersEffect::Tell(signal.clone(), said.clone()));
        }
        live.said.push(said);
    }

    /// Everything that was said of the order has taken effect, the last word too: it need not be said
    /// again. One that waits to be opened, or is under way, and whose last word an earlier life has said, is
    /// neither opened nor sent again, and nothing more is said of it: it is only looked whether the exchange
    /// has it, and what it has traded.
    ///
    /// Whether any of it `has_traded` is what whoever placed it was told. One that was given up here may be placed by
    /// another after that: then positions lack what it trades.
    pub fn on_heard(&mut self, signal: &SignalIdentity, has_traded: bool) {
        if has_traded {
            self.count_as_asked(signal);
        }
        self.over.remove(signal);
        self.unasked.remove(signal);
        let is_new = has_traded && !self.recovery.heard.contains_key(signal);
        let live = self.live.get_mut(signal);
        let trades =
            live.as_ref().filter(|_| is_new).map_or_else(Vec::new, |it| it.unasked_trades());
        if live.is_some() || self.recovery.is_pending(signal) {
            self.recovery.heard.insert(signal.clone(), has_traded);
        }
        if let Some(live) = live {
            live.order = None;
        }
        trades.iter().for_each(|trade| self.count_traded(trade, -1, 1));
    }

    /// Somebody here has asked for an order that was over: what it has traded is ours from now on.
    fn count_as_asked(&mut self, signal: &SignalIdentity) {
        if !self.unasked.remove(signal) {
            return;
        }
        let said = self.over.get(signal).map_or(&[][..], Vec::as_slice);
        let trades: Vec<TradeReport> = said.iter().filter_map(Said::trade).cloned().collect();
        trades.iter().for_each(|trade| self.count_traded(trade, -1, 1));
    }

    /// Whoever places orders does what was done before: until it says otherwise, each may have its last word.
    pub const fn hold(&mut self) {
        self.is_held = true;
    }

    /// What comes from now on is new, and whatever has had its last word was heard.
    pub fn settle(&mut self, now: Timestamp) -> Vec<OrdersEffect> {
        self.is_held = false;
        self.go_on(now)
    }

    /// The exchange told its time.
    pub fn on_time(
        &mut self,
        asked: Timestamp,
        told: Option<Timestamp>,
        now: Timestamp,
    ) -> Vec<OrdersEffect> {
        self.is_asking_time = false;
        if let Some(told) = told {
            self.clock.on_time(asked, now, told);
            // What an earlier session sent may arrive until the exchange has begun the next.
            let is_sealing = self.recovery.wants_seal
                || self.recovery.is_sealing
                || matches!(self.committing, Some(Committing::Seal));
            let due = self.live.iter().filter(|(_, live)| {
                matches!(live.stage, Stage::Waiting { until } if until <= told) && !is_sealing
            });
            let due: Vec<SignalIdentity> = due.map(|(signal, _)| signal.clone()).collect();
            for signal in due {
                self.ask(&signal, true);
            }
            self.on_recovery_time(told);
        } else {
            self.recovery.ask_time_at = now.after(self.config.poll);
        }
        self.go_on(now)
    }

    /// The exchange says that our idea of its time is wrong: somebody has set a clock.
    pub fn on_clock_wrong(&mut self, now: Timestamp) -> Vec<OrdersEffect> {
        self.clock = ExchangeClock::default();
        self.go_on(now)
    }

    /// Time has passed.
    pub fn on_wake(&mut self, now: Timestamp) -> Vec<OrdersEffect> {
        let mut due = Vec::new();
        for (signal, live) in &self.live {
            if let Stage::AskingAgain { is_conclusive, at } = live.stage
                && at <= now
            {
                due.push((signal.clone(), Some(is_conclusive)));
            }
            let has_rested =
                !live.is_unwanted && live.rests_until.is_some_and(|until| until <= now);
            if matches!(live.stage, Stage::Placed { poll_at } if poll_at <= now || has_rested) {
                due.push((signal.clone(), None));
            }
        }
        for (signal, again) in due {
            match again {
                Some(is_conclusive) => self.ask(&signal, is_conclusive),
                None => self.poll(&signal, now),
            }
        }
        let symbols = self.paging_again.iter().filter(|(_, at)| **at <= now);
        let symbols: Vec<Symbol> = symbols.map(|(symbol, _)| symbol.clone()).collect();
        for symbol in symbols {
            self.page(&symbol);
        }
        self.go_on(now)
    }

    /// Asks how an order stands that the exchange has.
    fn poll(&mut self, signal: &SignalIdentity, now: Timestamp) {
        let poll = self.config.poll;
        let Some(live) = self.live.get_mut(signal) else { return };
        live.stage = Stage::Placed { poll_at: now.after(poll) };
        live.is_unwanted |= live.rests_until.is_some_and(|until| until <= now);
        if live.is_over {
            return self.consider_end(signal);
        }
        if self.consider_cancel(signal) {
            return;
        }
        self.query(signal);
    }

    fn query(&mut self, signal: &SignalIdentity) {
        let Some(live) = self.live.get(signal) else { return };
        let (client_id, symbol) = (live.client_id.clone(), live.symbol.clone());
        self.effects.push(OrdersEffect::Query { client_id, symbol });
    }

    /// What follows from everything so far.
    fn go_on(&mut self, now: Timestamp) -> Vec<OrdersEffect> {
        self.go_on_recovering(now);
        if self.committing.is_none() && !self.queue.is_empty() && self.may_commit() {
            let count = self.commit_count();
            let mut commands = Vec::with_capacity(count);
            let mut orders = Vec::with_capacity(count);
            for (signal, command, request) in self.queue.drain(..count) {
                commands.push(command);
                orders.push((signal, request));
            }
            self.committing = Some(Committing::Orders(orders));
            self.effects.push(OrdersEffect::Commit(commands));
        }
        self.consider_time(now);
        if !self.is_reading && self.live.values().any(|live| self.is_to_read_for(live, now)) {
            self.read_slots();
        }
        std::mem::take(&mut self.effects)
    }

    /// How much of the queue is committed at once. Beside an order whose slot is a guess no later one of its
    /// symbol is opened: if the guess is wrong, that would use the signal of the first up.
    fn commit_count(&self) -> usize {
        let mut guessed = BTreeSet::new();
        let count = self.queue.iter().take(COMMIT_MAX).take_while(|(_, command, _)| {
            let SlotCommand::Open { slot, .. } = command else { return true };
            if guessed.contains(&slot.symbol) {
                return false;
            }
            if !self.generations.contains_key(slot) {
                guessed.insert(&slot.symbol);
            }
            true
        });
        count.count()
    }

    fn read_slots(&mut self) {
        self.is_reading = true;
        self.changed.clear();
        self.recovery.on_reading();
        self.effects.push(OrdersEffect::ReadSlots);
    }

    /// Asks for the time when it is not known, is needed, or was told long ago.
    fn consider_time(&mut self, now: Timestamp) {
        if self.is_asking_time || now < self.recovery.ask_time_at {
            return;
        }
        let is_old = match self.clock.asked() {
            None => true,
            Some(asked) => !self.live.is_empty() && now >= asked.after(TIME_EVERY),
        };
        let waits = self.live.values().filter_map(|live| {
            let Stage::Waiting { until } = live.stage else { return None };
            Some(until)
        });
        let first = waits.chain(self.recovery.settles_at()).min();
        let is_due = first.is_some_and(|first| {
            self.clock.until(first, now).is_none_or(|left| left.is_zero())
                && self.clock.asked().is_none_or(|asked| now >= asked.after(TIME_PAUSE))
        });
        if is_old || is_due {
            self.is_asking_time = true;
            self.effects.push(OrdersEffect::AskTime);
        }
    }
}
