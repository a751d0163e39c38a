//! Risk, router, brokers and positions in one loop, fed with rows and the signals that answer them.

use std::ops::Range;

use crate::domain::{
    BrokerEvent, BrokerEventKind, BrokerId, InstrumentIndex, Kind, Placement, Price, Signal, Span,
    TickBatch, Timestamp, TopOfBook,
};
use crate::pipeline::positions::{Positions, PositionsConfig};
use crate::pipeline::risk::{RiskChecker, RiskLimits};
use crate::pipeline::router::{Router, RouterConfig, RouterEffect};
use crate::pipeline::venue::{PaperBroker, PaperBrokerConfig};

/// The primary and the backup.
pub(super) const BROKERS: usize = 2;

/// Risk, router, brokers and positions.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) checker: RiskChecker,
    pub(super) router: Router,
    pub(super) has_backup: bool,
    pub(super) brokers: [PaperBroker; BROKERS],
    /// How far past an order's arrival the brokers may go before what became of it was routed.
    pub(super) lookahead: Span,
    pub(super) positions: Positions,
    /// By instrument: the price at the last boundary that had one.
    pub(super) marks: Vec<Option<Price>>,
    pub(super) open_orders: u64,
    /// While an order is open: the first row of the block in hand that the brokers have not been fed.
    pub(super) fed: usize,
    pub(super) sampled_at: Timestamp,
    pub(super) rows: u64,
    pub(super) signals: u64,
    pub(super) events: Vec<BrokerEvent>,
    pub(super) effects: Vec<RouterEffect>,
}

impl Exec {
    pub(super) fn new(
        limits: RiskLimits,
        router: RouterConfig,
        brokers: [PaperBrokerConfig; BROKERS],
        positions: PositionsConfig,
        seed: u64,
    ) -> Self {
        let [primary, backup] = brokers;
        let latency_min = primary.latency_min().min(backup.latency_min());
        Self {
            checker: RiskChecker::new(limits),
            router: Router::new(router),
            has_backup: router.has_backup,
            brokers: [
                PaperBroker::new(primary, BrokerId(0), seed),
                PaperBroker::new(backup, BrokerId(1), seed),
            ],
            lookahead: latency_min.saturating_sub(Span::from_nanos(1)),
            positions: Positions::new(positions),
            marks: Vec::new(),
            open_orders: 0,
            fed: 0,
            sampled_at: Timestamp::default(),
            rows: 0,
            signals: 0,
            events: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// `rows` of `block`, and the `signals` that answer them, in order.
    pub(super) fn on_rows(&mut self, block: &TickBatch, rows: Range<usize>, signals: &[Signal]) {
        let mut signals = signals.iter();
        let mut signal = signals.next();
        self.fed = rows.start;
        for index in rows.clone() {
            let row = &block.rows[index];
            if self.open_orders > 0 {
                self.let_time_pass(block, index);
            }
            self.checker.on_tick(block, row);
            if row.kind == Kind::Boundary as u8 {
                self.on_boundary(block.frontier(row));
            } else {
                self.rows += 1;
            }
            let sequence = block.base_sequence + u64::from(row.sequence);
            while let Some(answer) = signal
                && answer.id.key.sequence == sequence
            {
                self.on_signal(answer, index);
                signal = signals.next();
            }
        }
        debug_assert!(signal.is_none(), "a signal answers a row");
        if self.open_orders > 0 {
            self.feed(block, rows.end);
        }
    }

    /// What is due by the frontier of row `index` takes effect.
    #[inline]
    fn let_time_pass(&mut self, block: &TickBatch, index: usize) {
        let frontier = block.frontier(&block.rows[index]);
        let [primary, backup] = &self.brokers;
        let is_due = primary.next_due().min(backup.next_due()) <= frontier;
        // An order that waits for a trade makes news of any row.
        if is_due || primary.is_waiting() || backup.is_waiting() {
            self.feed(block, index);
            self.advance(frontier);
        }
    }

    /// Gives the brokers the rows up to, and not including, `end`.
    fn feed(&mut self, block: &TickBatch, end: usize) {
        let rows = std::mem::replace(&mut self.fed, end)..end;
        for broker in &mut self.brokers {
            let resolve = |symbol| self.checker.index_of(block.source, symbol);
            broker.feed(block, rows.clone(), resolve, &mut self.events);
        }
        debug_assert!(self.events.is_empty(), "what was due by these rows has come out");
    }

    /// Lets the brokers' time reach `to`. An order that is refused on the way may be offered to the
    /// other broker, so neither goes further past an arrival than the next arrival can be.
    fn advance(&mut self, to: Timestamp) {
        loop {
            let mut until = to;
            if self.has_backup {
                for arrival in self.brokers.iter().filter_map(PaperBroker::next_arrival) {
                    until = until.min(arrival.after(self.lookahead));
                }
            }
            let mut events = std::mem::take(&mut self.events);
            for broker in &mut self.brokers {
                broker.advance(until, &mut events);
            }
            self.take_effect(&mut events);
            self.events = events;
            if until >= to {
                return;
            }
        }
    }

    fn take_effect(&mut self, events: &mut Vec<BrokerEvent>) {
        events.sort_unstable_by_key(BrokerEvent::sort_key);
        for event in events.drain(..) {
            self.on_event(&event);
        }
    }

    fn on_event(&mut self, event: &BrokerEvent) {
        let is_refusal = matches!(event.kind, BrokerEventKind::Refused(_));
        if !is_refusal {
            self.record(event);
        }
        let mut effects = std::mem::take(&mut self.effects);
        let checker = &self.checker;
        let top = |_| match is_refusal {
            true => top_of(checker, event),
            false => TopOfBook::default(),
        };
        self.router.on_event(event, top, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                // Whether a refusal is final is for the router to say; the rest was known.
                RouterEffect::Forward(verdict) if is_refusal => self.record(&verdict),
                RouterEffect::Forward(_) => {}
                RouterEffect::Place { broker, placement } => self.place(broker, &placement),
            }
        }
        self.effects = effects;
    }

    fn record(&mut self, event: &BrokerEvent) {
        self.checker.on_event(event);
        match event.kind {
            BrokerEventKind::Filled(fill) => {
                let instrument = self.checker.instrument(fill.instrument);
                self.positions.on_fill(&fill, instrument, event.due);
            }
            BrokerEventKind::Closed { .. } => {
                self.open_orders = self.open_orders.saturating_sub(1);
            }
            BrokerEventKind::Accepted | BrokerEventKind::Refused(_) | BrokerEventKind::Unknown => {}
        }
    }

    /// `signal` answers row `index` of the block in hand.
    fn on_signal(&mut self, signal: &Signal, index: usize) {
        self.signals += 1;
        let at = signal.id.key;
        let Ok(approved) = self.checker.check(signal, at.frontier) else { return };
        let order = approved.order();
        self.positions.on_order(order, self.checker.instrument(order.instrument));
        if self.open_orders == 0 {
            // The order brings its book along; only what follows matters to its broker.
            self.fed = index + 1;
        }
        self.open_orders += 1;
        if let Some((broker, placement)) = self.router.route(&approved, at) {
            self.place(broker, &placement);
        }
    }

    fn place(&mut self, broker: BrokerId, placement: &Placement) {
        let instrument = self.checker.instrument(placement.order.instrument);
        let broker = usize::from(broker.0).min(BROKERS - 1);
        self.brokers[broker].place(placement, instrument);
    }

    /// A window step has passed in event time: everything is valued, once for all sources.
    fn on_boundary(&mut self, at: Timestamp) {
        if at <= self.sampled_at {
            return;
        }
        self.sampled_at = at;
        self.marks.resize(self.checker.instruments().len(), None);
        for (index, mark) in (0..).map(InstrumentIndex).zip(&mut self.marks) {
            // A symbol that has no price just now keeps the one it had.
            *mark = self.checker.top(index).mark().or(*mark);
        }
        let marks = &self.marks;
        self.positions.sample(at, |index| marks.get(index.index()).copied().flatten());
    }

    /// The data has ended: what is open ends too.
    pub(super) fn expire(&mut self) {
        while self.open_orders > 0 {
            let mut events = std::mem::take(&mut self.events);
            for broker in &mut self.brokers {
                broker.finish(&mut events);
            }
            let is_over = events.is_empty();
            self.take_effect(&mut events);
            self.events = events;
            if is_over {
                debug_assert!(false, "an order is open that no broker has");
                return;
            }
        }
    }
}

/// The book of the instrument that `event` is about.
fn top_of(checker: &RiskChecker, event: &BrokerEvent) -> TopOfBook {
    let open = checker.open_orders().find(|open| open.approved().order().id == event.order);
    open.map(|open| checker.top(open.approved().order().instrument)).unwrap_or_default()
}
