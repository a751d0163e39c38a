//! Time, messages and faults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tickwright_core::domain::{OrderId, PriceLevels, SlotState, Symbol, Timestamp, VenueAccount};
use tickwright_core::ledger::Slots;
use tickwright_core::pipeline::orders::{
    Answer, Capabilities, Deduplication, Found, OrderReport, Orders, OrdersConfig, OrdersCounters,
    OrdersEffect, Resolution, Said, SlotsFound, Stopped,
};

use crate::counts::{Counts, add};
use crate::events::Event;
use crate::executor::{Checkpoint, Executor, order};
use crate::market::{Exchange, Letter};
use crate::random::Random;
use crate::resolved::Intents;

pub(crate) const MILLISECOND: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MILLISECOND;

/// How long a message is under way at most that is neither late nor lost, in milliseconds.
pub(crate) const WAY_MS: u64 = 80;

/// How long after a deadline the exchange may show an order for the first time, after it has said that it does not
/// know.
pub(crate) const SETTLE_AFTER_ERROR: u64 = 15 * SECOND;

/// How long a request waits for its answer before nobody knows.
const PATIENCE: u64 = 3 * SECOND;

/// What a seed stands for.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Of each account.
    executors: usize,
    /// At the one exchange. Each has the same signals.
    accounts: usize,
    pub(crate) orders: usize,
    capabilities: Capabilities,
    pub(crate) levels: PriceLevels,
    /// How long the exchange may take to take a request, in seconds.
    window: u64,
    /// When faults end.
    calm_at: u64,
    /// In percent: of requests that are late by up to a minute, and of messages that are lost.
    late: u64,
    lost: u64,
    /// In percent, of answers that are an error after the request was taken, and before.
    errors: u64,
    loses_ledger: bool,
    /// How long orders rest at the exchange, in seconds, unless they are cancelled before.
    rests: Option<u64>,
    /// In percent, of orders that somebody does not want any more.
    unwanted: u64,
}

impl Scenario {
    fn of(random: &mut Random) -> Self {
        let base = Capabilities::BINANCE;
        let capabilities = match random.range(0, 8) {
            0..4 => base,
            4 => Capabilities { deduplication: Deduplication::None, ..base },
            5 => Capabilities { deduplication: Deduplication::All, ..base },
            6 => Capabilities { deadline: false, exclusive_session: true, ..base },
            _ => {
                let once =
                    Capabilities { deadline: false, deduplication: Deduplication::All, ..base };
                let deduplication = [Deduplication::Open, Deduplication::None][random.index(2)];
                let less = Capabilities { deduplication, server_time: random.percent(50), ..once };
                if random.percent(50) { once } else { less }
            }
        };
        let levels = [PriceLevels::One, PriceLevels::Interval(2), PriceLevels::Exact];
        Self {
            executors: 1 + random.index(3),
            accounts: 1 + usize::from(random.percent(30)),
            orders: 4 + random.index(12),
            capabilities,
            levels: levels[random.index(3)],
            window: [1, 5, 30][random.index(3)],
            calm_at: SECOND * random.range(20, 120),
            late: random.range(0, 30),
            lost: random.range(0, 20),
            errors: random.range(0, 20),
            // Without a deadline or sessions a person has to say that nothing is under way.
            loses_ledger: (capabilities.deadline || capabilities.exclusive_session)
                && random.percent(30),
            rests: random.percent(40).then(|| random.range(1, 60)),
            unwanted: [0, random.range(0, 40)][random.index(2)],
        }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) log: Vec<String>,
    is_told: bool,
    random: Random,
    pub(crate) now: u64,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    handled: u64,
    /// What the exchange has of each account.
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) executors: Vec<Executor>,
    pub(crate) slots: Slots,
    ledger: u64,
    /// The last signal for which an intent was opened in this ledger, by account and symbol.
    pub(crate) opened: BTreeMap<(String, Symbol), OrderId>,
    /// Of which it may not be known what became of them.
    pub(crate) intents: Intents,
    /// Every name under which a request has left.
    sent: BTreeSet<String>,
    /// How often the ledger has closed a slot for a person.
    pub(crate) closed: u64,
    wanted: usize,
    lives: u64,
    pub(crate) counters: OrdersCounters,
}

impl World {
    pub(crate) fn new(seed: u64, is_told: bool) -> Self {
        let mut random = Random::new(seed);
        let scenario = Scenario::of(&mut random);
        let offset = random.range(0, 60) * SECOND;
        let exchange = |_| Exchange::new(scenario.capabilities, offset);
        let exchanges = (0..scenario.accounts).map(exchange).collect();
        let executors = (0..scenario.accounts).cycle().take(scenario.accounts * scenario.executors);
        let executors =
            executors.map(|account| Executor::new(account, random.range(0, 60) * SECOND));
        let executors = executors.collect();
        Self {
            scenario,
            log: Vec::new(),
            is_told,
            random,
            now: 1_000 * SECOND,
            events: BTreeMap::new(),
            count: 0,
            handled: 0,
            exchanges,
            executors,
            slots: Slots::default(),
            ledger: 0,
            opened: BTreeMap::new(),
            intents: Intents::default(),
            sent: BTreeSet::new(),
            closed: 0,
            wanted: 0,
            lives: 0,
            counters: OrdersCounters::default(),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            accepted: self.exchanges.iter().map(|exchange| exchange.taken.len() as u64).sum(),
            beside: u64::from(self.exchanges.iter().filter(|it| !it.taken.is_empty()).count() > 1),
            events: self.handled,
            lives: self.lives,
            ledgers: self.ledger + 1,
            timed: self.intents.timed,
            core: self.counters,
        }
    }

    fn say(&mut self, text: impl FnOnce() -> String) {
        if self.is_told {
            let (seconds, rest) = (self.now / SECOND - 1_000, self.now % SECOND / 1_000);
            self.log.push(format!("{seconds:4}.{rest:06} {}", text()));
        }
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.count += 1;
        self.events.insert((self.now + delay, self.count), event);
    }

    /// What the exchange has of an executor's account.
    pub(crate) fn of(&self, executor: usize) -> &Exchange {
        &self.exchanges[self.executors[executor].account]
    }

    fn at(&mut self, executor: usize) -> &mut Exchange {
        &mut self.exchanges[self.executors[executor].account]
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.now >= self.calm()
    }

    /// When faults end, by the time of the world.
    pub(crate) fn calm(&self) -> u64 {
        1_000 * SECOND + self.scenario.calm_at
    }

    /// How what nobody knows of is found out about.
    pub(crate) fn resolution(&self) -> Resolution {
        self.scenario.capabilities.resolution()
    }

    /// How long a message takes; none, if it is lost.
    fn delay(&mut self) -> Option<u64> {
        let usual = self.random.range(1, WAY_MS) * MILLISECOND;
        if self.is_calm() {
            return Some(usual);
        }
        if self.random.percent(self.scenario.lost) {
            return None;
        }
        let is_late = self.random.percent(self.scenario.late);
        Some(if is_late { self.random.range(0, 60_000) * MILLISECOND } else { usual })
    }

    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.plan();
        let end = 1_000 * SECOND + self.end();
        while let Some(((at, _), event)) = self.events.pop_first() {
            if at > end {
                break;
            }
            self.now = at;
            self.handled += 1;
            if let Some((executor, _)) = event.to()
                && self.executors[executor].paused_until > self.now
            {
                // It lies in its mailbox.
                let wait = self.executors[executor].paused_until - self.now;
                self.after(wait, event);
                continue;
            }
            self.handle(event)?;
            self.judge()?;
        }
        self.now = end;
        self.judge_end()
    }

    /// When everything is to be over.
    fn end(&self) -> u64 {
        // Each attempt: its deadline, the time to settle, two round trips and a second; after the last
        // fault a message may be under way for a minute, and a lost ledger be settled.
        let attempt = self.scenario.window + 15 + 2;
        let rests = self.scenario.rests.unwrap_or(0);
        self.scenario.calm_at + (62 + 3 * attempt + rests) * SECOND
    }

    fn plan(&mut self) {
        for executor in 0..self.executors.len() {
            let at = self.random.range(0, 2_000) * MILLISECOND;
            self.after(at, Event::Start { executor });
        }
        let calm = self.scenario.calm_at;
        for _ in 0..self.scenario.orders {
            let at = self.random.range(0, calm * 5 / 4);
            self.after(at, Event::Wanted);
        }
        for number in 0..self.scenario.orders {
            for executor in 0..self.executors.len() {
                if self.random.percent(self.scenario.unwanted) {
                    let at = self.random.range(0, calm * 5 / 4);
                    self.after(at, Event::Unwanted { executor, number });
                }
            }
        }
        for executor in 0..self.executors.len() {
            if self.random.percent(self.scenario.unwanted) {
                let symbol = Some(order(self.random.index(2)).symbol);
                let at = self.random.range(0, calm);
                let lasts = self.random.range(0, calm - at);
                self.after(at, Event::Stopped { executor, symbol });
                self.after(at + lasts, Event::Stopped { executor, symbol: None });
            }
        }
        for _ in 0..self.random.range(0, 12) {
            let at = self.random.range(0, calm);
            let executor = self.random.index(self.executors.len());
            let lasts = self.random.range(1, 40_000) * MILLISECOND;
            let lasts = lasts.min(calm - at);
            let fault = match self.random.range(0, 7) {
                6 => Event::Reconcile { executor },
                0 | 1 => Event::Pause { executor, lasts },
                2 => Event::Crash { executor, forgets: true, recalls: false, down: lasts / 8 },
                3 => {
                    let recalls = self.random.percent(70);
                    Event::Crash { executor, forgets: false, recalls, down: lasts / 8 }
                }
                _ => Event::Checkpoint { executor },
            };
            self.after(at, fault);
        }
        if self.scenario.loses_ledger {
            let at = self.random.range(0, calm);
            self.after(at, Event::LoseLedger);
        }
        let looks = match self.resolution() {
            // Nobody is needed there.
            Resolution::Deadline | Resolution::Seal => None,
            Resolution::Repeat => Some(62),
            // When everybody has learnt which slots are closed.
            Resolution::Quarantine => Some(75),
        };
        for executor in 0..self.executors.len() {
            // The last letter may be under way for a minute, and the last intent of who is no more.
            self.after(calm + 61 * SECOND, Event::Reconcile { executor });
            if let Some(seconds) = looks {
                self.after(calm + (seconds + executor as u64) * SECOND, Event::Look { executor });
            }
            self.after(self.end() - 10 * SECOND, Event::Reconcile { executor });
            if self.resolution() == Resolution::Quarantine {
                self.after(self.end() - 8 * SECOND, Event::Look { executor });
            }
        }
        self.after(0, Event::Wake);
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Wanted => {
                self.wanted += 1;
                (0..self.executors.len()).try_for_each(|executor| self.place_wanted(executor))
            }
            Event::Wake => {
                self.after(20 * MILLISECOND, Event::Wake);
                for executor in 0..self.executors.len() {
                    self.place_wanted(executor)?;
                    self.with(executor, |core, now| core.on_wake(now))?;
                }
                self.judge_resolved()
            }
            Event::Commit { from, ledger, commands } => {
                if ledger == self.ledger {
                    let slots = &mut self.slots;
                    let results: Vec<_> =
                        commands.iter().map(|command| slots.apply(command)).collect();
                    self.judge_committed(&commands, &results)?;
                    self.note_intents(from, &commands, &results);
                    self.say(|| format!("ledger: {commands:?} of {from:?}: {results:?}"));
                    // Whoever does not hear is answered again.
                    let delay = self.delay().unwrap_or(5 * SECOND);
                    self.after(delay, Event::Committed { to: from, results });
                }
                Ok(())
            }
            Event::Read { from, ledger } => {
                let delay = self.delay();
                if ledger == self.ledger {
                    let venue = venue(self.executors[from.0].account);
                    let open = self.slots.open_of(&venue);
                    let open = open.map(|(key, slot)| (key.clone(), slot.clone())).collect();
                    let is_reconciled = self.slots.venue(&venue).is_reconciled;
                    let cluster = self.slots.cluster();
                    let slots = Some(SlotsFound { cluster, is_reconciled, open });
                    let (delay, slots) = delay.map_or((PATIENCE, None), |delay| (delay, slots));
                    self.after(delay, Event::Slots { to: from, slots });
                }
                Ok(())
            }
            Event::Letter { from, letter } => {
                self.on_letter(from, &letter);
                Ok(())
            }
            Event::Query { from, client_id } => {
                let found = self.of(from.0).find(client_id.as_str(), self.now);
                self.reply(found, Found::Failed, |found| Event::Found {
                    to: from,
                    client_id,
                    found,
                });
                Ok(())
            }
            Event::Cancel { from, client_id } => {
                let found = {
                    let now = self.now;
                    self.at(from.0).cancel(client_id.as_str(), now)
                };
                self.say(|| format!("exchange: cancels {client_id}: {found:?}"));
                if let Found::Order(report) = &found {
                    self.push(from.0, report);
                }
                let to = from;
                self.reply(found, Found::Failed, |found| Event::Cancelled { to, client_id, found });
                Ok(())
            }
            Event::Time { from, asked } => {
                let can_tell = self.scenario.capabilities.server_time;
                let told = can_tell.then(|| self.of(from.0).clock(self.now));
                self.reply(told, None, |told| Event::Told { to: from, asked, told });
                Ok(())
            }
            Event::Trades { from, symbol, after } => {
                let trades = Some(self.of(from.0).trades(&symbol, after));
                self.reply(trades, None, |trades| Event::Traded { to: from, symbol, trades });
                Ok(())
            }
            Event::TradesOf { from, client_id, order, after } => {
                let trades = Some(self.of(from.0).trades_of(order, after));
                self.reply(trades, None, |trades| Event::TradedOf { to: from, client_id, trades });
                Ok(())
            }
            Event::TradedOf { to, client_id, trades } => self.deliver(to, |core, now| {
                let trades = trades.as_ref().map(|(trades, is_last)| (&trades[..], *is_last));
                core.on_trades_of(&client_id, trades, now)
            }),
            Event::History { from, symbol, after } => {
                let orders = Some(self.of(from.0).history(&symbol, after, self.now));
                self.reply(orders, None, |orders| Event::Past { to: from, symbol, orders });
                Ok(())
            }
            Event::Session { from, session } => {
                let begun = self.at(from.0).begin(session).then_some(session);
                self.reply(begun, None, |session| Event::Begun { to: from, session });
                Ok(())
            }
            Event::Committed { to, results } => {
                self.deliver(to, |core, now| core.on_committed(&results, now))
            }
            Event::Slots { to, slots } => self.deliver(to, |core, now| core.on_slots(slots, now)),
            Event::Answer { to, client_id, attempt, answer } => {
                self.deliver(to, |core, now| core.on_answer(&client_id, attempt, answer, now))
            }
            Event::Found { to, client_id, found } => {
                self.deliver(to, |core, now| core.on_found(&client_id, &found, now))
            }
            Event::Cancelled { to, client_id, found } => {
                self.deliver(to, |core, now| core.on_cancelled(&client_id, &found, now))
            }
            Event::Pushed { executor, report } => {
                self.with(executor, |core, now| core.on_told(&report, now))
            }
            Event::Unwanted { executor: number, number: order } => self.cancel(number, order),
            Event::Stopped { executor, symbol } => {
                let symbols = symbol.into_iter().collect();
                self.executors[executor].stopped = Stopped { symbols, ..Stopped::default() };
                self.stop(executor)
            }
            Event::Told { to, asked, told } => {
                self.deliver(to, |core, now| core.on_time(asked, told, now))
            }
            Event::Traded { to, symbol, trades } => self.deliver(to, |core, now| {
                let trades = trades.as_ref().map(|(trades, is_last)| (&trades[..], *is_last));
                core.on_trades(&symbol, trades, now)
            }),
            Event::Past { to, symbol, orders } => self.deliver(to, |core, now| {
                let orders = orders.as_ref().map(|(orders, is_last)| (&orders[..], *is_last));
                core.on_history(&symbol, orders, now)
            }),
            Event::Begun { to, session } => {
                if let Some(session) = session
                    && self.executors[to.0].life == to.1
                {
                    self.executors[to.0].session = session;
                }
                self.deliver(to, |core, now| core.on_session(session.is_some(), now))
            }
            Event::Settle { to } => {
                self.deliver(to, Orders::settle)?;
                if self.executors[to.0].life == to.1 { self.stop(to.0) } else { Ok(()) }
            }
            Event::Crash { executor, forgets, recalls, down } => {
                self.crash(executor, forgets);
                self.executors[executor].recalls = recalls;
                self.after(down, Event::Start { executor });
                Ok(())
            }
            Event::Start { executor } => self.start(executor),
            Event::Pause { executor, lasts } => {
                self.say(|| {
                    format!("executor {executor} stands still for {} ms", lasts / MILLISECOND)
                });
                let until = self.now + lasts;
                let paused = &mut self.executors[executor].paused_until;
                *paused = until.max(*paused);
                Ok(())
            }
            Event::LoseLedger => {
                self.say(|| "the ledger is lost".into());
                self.slots = Slots::default();
                self.opened.clear();
                self.intents.forget();
                self.ledger += 1;
                for executor in 0..self.executors.len() {
                    let forgets = self.random.percent(30);
                    self.crash(executor, forgets);
                    self.executors[executor].recalls = false;
                    let down = self.random.range(0, 3_000) * MILLISECOND;
                    self.after(down, Event::Start { executor });
                }
                Ok(())
            }
            Event::Release { executor } if self.executors[executor].paused_until > self.now => {
                self.after(SECOND, Event::Release { executor });
                Ok(())
            }
            Event::Release { executor } => self.with(executor, |core, now| core.on_released(now)),
            Event::Look { executor } => self.look(executor),
            Event::Reconcile { executor } => {
                let symbols = [order(0).symbol, order(1).symbol].into();
                self.with(executor, |core, now| core.reconcile_again(symbols, now))
            }
            Event::Checkpoint { executor } => {
                if self.executors[executor].paused_until <= self.now {
                    self.executors[executor].save();
                }
                Ok(())
            }
        }
    }

    fn crash(&mut self, executor: usize, forgets: bool) {
        self.say(|| format!("executor {executor} is lost, forgets: {forgets}"));
        let executor = &mut self.executors[executor];
        if let Some(core) = executor.core.take() {
            add(&mut self.counters, core.counters());
        }
        executor.life += 1;
        executor.paused_until = 0;
        if forgets {
            executor.checkpoint = Checkpoint::default();
        }
    }

    fn start(&mut self, number: usize) -> Result<(), String> {
        if self.executors[number].core.is_some() {
            return Ok(());
        }
        self.lives += 1;
        self.say(|| format!("executor {number} starts"));
        let new_cluster = self.random.draw();
        let config = OrdersConfig {
            levels: self.scenario.levels,
            capabilities: self.scenario.capabilities,
            window: Duration::from_secs(self.scenario.window),
            settle: Duration::from_secs(2),
            settle_after_error: Duration::from_nanos(SETTLE_AFTER_ERROR),
            rests: self.scenario.rests.map(Duration::from_secs),
            ..OrdersConfig::new(venue(self.executors[number].account), new_cluster)
        };
        let executor = &mut self.executors[number];
        executor.life += 1;
        executor.paused_until = 0;
        let checkpoint = executor.checkpoint.clone();
        let reached = executor.next;
        executor.next = checkpoint.next;
        if !executor.recalls {
            executor.heard = checkpoint.heard;
        }
        executor.session = 0;
        let recalls = executor.recalls;
        let mut core = Orders::new(config, checkpoint.orders);
        if recalls {
            core.hold();
        }
        executor.core = Some(core);
        self.with(number, |core, now| core.start(now))?;
        if recalls {
            // It does again what it did.
            for place in checkpoint.next..reached {
                self.executors[number].next += 1;
                self.with(number, |core, now| core.place(order(place), now))?;
            }
            let executor = &mut self.executors[number];
            let ended = executor.heard.iter();
            let ended: Vec<_> = ended.filter(|(_, said)| said.iter().any(Said::is_last)).collect();
            if let Some(core) = &mut executor.core {
                for (signal, said) in ended {
                    core.on_heard(signal, said.iter().any(|said| said.trade().is_some()));
                }
            }
            let to = (number, self.executors[number].life);
            let delay = self.random.range(0, 500) * MILLISECOND;
            self.after(delay, Event::Settle { to });
        } else {
            self.stop(number)?;
        }
        self.place_wanted(number)
    }

    /// Somebody does not want an order any more, if it has placed it.
    fn cancel(&mut self, number: usize, wanted: usize) -> Result<(), String> {
        let executor = &mut self.executors[number];
        let is_there = executor.core.is_some() && executor.paused_until <= self.now;
        if !is_there || executor.next <= wanted {
            return Ok(());
        }
        let signal = order(wanted).signal;
        executor.unwanted.insert(signal.clone());
        self.say(|| format!("executor {number} does not want order {wanted} any more"));
        self.with(number, |core, now| core.cancel(&signal, now))
    }

    /// Tells an executor again what is stopped: what it finds under way of that, and has not placed, it does not want.
    fn stop(&mut self, number: usize) -> Result<(), String> {
        let stopped = self.executors[number].stopped.clone();
        let signals = (0..self.scenario.orders).map(|number| order(number).signal);
        let signals = signals.filter(|signal| stopped.has(signal));
        self.executors[number].unwanted.extend(signals);
        self.say(|| format!("of executor {number} is stopped {stopped:?}"));
        self.with(number, |core, now| core.stop(stopped, now))
    }

    /// Somebody looks at the exchange for what nobody could find out, once nothing can be under way.
    fn look(&mut self, number: usize) -> Result<(), String> {
        let account = self.executors[number].account;
        let venue = venue(account);
        let open = self.slots.open_of(&venue).filter_map(|(_, slot)| match &slot.state {
            SlotState::Quarantine { intent, .. } => Some((intent.client_id.clone(), true)),
            SlotState::Intent { intent, .. } => Some((intent.client_id.clone(), false)),
            _ => None,
        });
        for (client_id, is_closed) in open.collect::<Vec<_>>() {
            let is_to_show = is_closed && self.resolution() == Resolution::Quarantine;
            if is_to_show && !self.is_known(account, client_id.as_str()) {
                return Err(format!("(8) {client_id} waits for a person, and nobody shows it"));
            }
            let is_there = self.of(number).find(client_id.as_str(), self.now) != Found::Nothing;
            self.with(number, |core, now| {
                core.release(&client_id, is_there, now).unwrap_or_default()
            })?;
        }
        Ok(())
    }

    /// What the exchange tells everybody who has the account by itself. It may be lost, or come late.
    fn push(&mut self, from: usize, report: &OrderReport) {
        for executor in 0..self.executors.len() {
            if self.executors[executor].account != self.executors[from].account {
                continue;
            }
            if let Some(delay) = self.delay() {
                self.after(delay, Event::Pushed { executor, report: report.clone() });
            }
        }
    }

    fn place_wanted(&mut self, number: usize) -> Result<(), String> {
        loop {
            let wanted = self.wanted;
            let executor = &mut self.executors[number];
            if executor.paused_until > self.now || executor.core.is_none() {
                return Ok(());
            }
            let next = executor.next;
            if next >= wanted {
                return Ok(());
            }
            executor.next += 1;
            self.with(number, |core, now| core.place(order(next), now))?;
        }
    }

    fn deliver(
        &mut self,
        (executor, life): (usize, u64),
        input: impl FnOnce(&mut Orders, Timestamp) -> Vec<OrdersEffect>,
    ) -> Result<(), String> {
        if self.executors[executor].life == life {
            self.with(executor, input)?;
        }
        Ok(())
    }

    fn with(
        &mut self,
        number: usize,
        input: impl FnOnce(&mut Orders, Timestamp) -> Vec<OrdersEffect>,
    ) -> Result<(), String> {
        let executor = &mut self.executors[number];
        let clock = executor.clock(self.now);
        if executor.paused_until > self.now {
            return Ok(());
        }
        let Some(core) = &mut executor.core else { return Ok(()) };
        let from = (number, executor.life);
        let effects = input(core, clock);
        for effect in effects {
            self.act(from, clock, effect)?;
        }
        Ok(())
    }

    fn act(
        &mut self,
        from: (usize, u64),
        clock: Timestamp,
        effect: OrdersEffect,
    ) -> Result<(), String> {
        if !matches!(effect, OrdersEffect::AskTime | OrdersEffect::Commit(_)) {
            self.say(|| format!("executor {}: {effect:?}", from.0));
        }
        let ledger = self.ledger;
        match effect {
            OrdersEffect::Commit(commands) => {
                // Sent until it is taken.
                let delay = self.delay().unwrap_or(5 * SECOND);
                self.after(delay, Event::Commit { from, ledger, commands });
            }
            OrdersEffect::ReadSlots => {
                let delay = self.delay().unwrap_or(5 * SECOND);
                self.after(delay, Event::Read { from, ledger });
            }
            OrdersEffect::Send(request) => {
                let (client_id, attempt) = (request.client_id.clone(), request.attempt);
                let is_first = self.sent.insert(client_id.as_str().to_owned());
                if !is_first && self.resolution() == Resolution::Quarantine {
                    return Err(format!("(8) {client_id} has left a second time"));
                }
                let unknown = Answer::Unknown { is_servers: false };
                let timeout = Event::Answer { to: from, client_id, attempt, answer: unknown };
                self.after(PATIENCE, timeout);
                let session = self.executors[from.0].session;
                if let Some(delay) = self.delay() {
                    let letter = Letter { request, session };
                    self.after(delay, Event::Letter { from, letter });
                }
            }
            OrdersEffect::Query { client_id, .. } => {
                let (to, id) = (from, client_id.clone());
                let failed = Event::Found { to, client_id: id, found: Found::Failed };
                self.ask(Event::Query { from, client_id }, failed);
            }
            OrdersEffect::Cancel { client_id, .. } => {
                let (to, id) = (from, client_id.clone());
                let failed = Event::Cancelled { to, client_id: id, found: Found::Failed };
                self.ask(Event::Cancel { from, client_id }, failed);
            }
            OrdersEffect::AskTime => {
                let failed = Event::Told { to: from, asked: clock, told: None };
                self.ask(Event::Time { from, asked: clock }, failed);
            }
            OrdersEffect::Trades { symbol, after } => {
                let failed = Event::Traded { to: from, symbol: symbol.clone(), trades: None };
                self.ask(Event::Trades { from, symbol, after }, failed);
            }
            OrdersEffect::TradesOf { client_id, order, after, .. } => {
                let (to, id) = (from, client_id.clone());
                let failed = Event::TradedOf { to, client_id: id, trades: None };
                self.ask(Event::TradesOf { from, client_id, order, after }, failed);
            }
            OrdersEffect::History { symbol, after } => {
                let failed = Event::Past { to: from, symbol: symbol.clone(), orders: None };
                self.ask(Event::History { from, symbol, after }, failed);
            }
            OrdersEffect::Session(session) => {
                let failed = Event::Begun { to: from, session: None };
                self.ask(Event::Session { from, session }, failed);
            }
            OrdersEffect::Tell(signal, said) => {
                let is_last = said.is_last();
                let executor = &mut self.executors[from.0];
                executor.hear(&signal, said)?;
                let heard = executor.heard.get(&signal).into_iter().flatten();
                let has_traded = heard.into_iter().any(|said| said.trade().is_some());
                if is_last && let Some(core) = &mut executor.core {
                    core.on_heard(&signal, has_traded);
                }
            }
            OrdersEffect::Alarm(_) => {
                // Only where nothing older can be under way: see `loses_ledger`.
                self.after(5 * SECOND, Event::Release { executor: from.0 });
            }
            // There is no other exchange here.
            OrdersEffect::ReadRefusal(_)
            | OrdersEffect::Stray(_)
            | OrdersEffect::Rebuilt(..)
            | OrdersEffect::Adopt(_) => {}
        }
        Ok(())
    }

    /// Sends a question; if it is lost, it has failed when patience is at its end.
    fn ask(&mut self, question: Event, failed: Event) {
        match self.delay() {
            // Nobody waits any longer.
            Some(delay) if delay < PATIENCE => self.after(delay, question),
            _ => self.after(PATIENCE, failed),
        }
    }

    fn reply<T>(&mut self, answer: T, failed: T, event: impl FnOnce(T) -> Event) {
        match self.delay() {
            Some(delay) if delay < PATIENCE => self.after(delay, event(answer)),
            _ => self.after(PATIENCE, event(failed)),
        }
    }

    fn on_letter(&mut self, from: (usize, u64), letter: &Letter) {
        let is_error = !self.is_calm() && self.random.percent(self.scenario.errors);
        let is_taken = !is_error || self.random.percent(50);
        let unknown = Answer::Unknown { is_servers: true };
        let mut answer = unknown.clone();
        if is_taken {
            let exchange = &mut self.exchanges[self.executors[from.0].account];
            answer = exchange.take(letter, from.0, self.now, &mut self.random);
        }
        self.say(|| format!("exchange: {letter:?}: {answer:?}, error: {is_error}"));
        if let Answer::Accepted(report) = &answer {
            self.push(from.0, &report.clone());
        }
        if is_error {
            answer = unknown;
        }
        let (client_id, attempt) = (letter.request.client_id.clone(), letter.request.attempt);
        if let Some(delay) = self.delay() {
            self.after(delay, Event::Answer { to: from, client_id, attempt, answer });
        }
    }
}

fn venue(account: usize) -> VenueAccount {
    VenueAccount { exchange: "x".into(), account: ["a", "b"][account].into() }
}
