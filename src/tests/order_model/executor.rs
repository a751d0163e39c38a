//! What an executor does, one step at a time. Between any two of them it may stand still for as long as
//! it likes, or crash.

use super::Protocol;
use super::rules::{Capability, Guard, Identity};
use super::world::{
    BACKUP, Executor, Lock, Order, Outcome, PRIMARY, SECOND, Slot, Standing, World,
};

/// The deadline of a request that has none.
const NEVER: u8 = u8::MAX;

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Arrives,
    /// It took effect, or was refused, and the executor is not told.
    Lost,
    /// It did not come to the ledger, which looks the same to the executor.
    NotAsked,
}

/// One step of one executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Crash,
    /// Reads the next signal of an account that is not spent.
    Take {
        account: u8,
    },
    /// Reads that the primary has refused a signal.
    TakeRefused,
    /// Reads the slot and the exchange's clock, and writes the request.
    Build,
    Commit(Reply),
    /// Asks the ledger again, under the same operation id.
    CommitAgain,
    /// Takes the lock and asks the exchange, where a lock is the guard.
    Lock,
    Send,
    HearAcceptance,
    HearRefusal,
    TimeOut,
    /// Reads an intent that somebody, perhaps itself, has left behind.
    TakeOver {
        exchange: u8,
    },
    AskClock,
    /// Logs in, which ends every other session.
    Seal,
    Query,
    /// Writes down what it has found.
    Record,
    /// Closes an order that was not found.
    Abandon,
    /// Asks after an order that is placed, and finds it terminal.
    Watch {
        exchange: u8,
    },
    /// Turns to the backup for an order of which it has not heard.
    TurnToBackup,
    /// Has read the exchange's clock after the founding of a ledger.
    BeginReconciliation,
    /// Has read the account after that, and allows the slots to be used.
    Reconcile,
}

/// The steps that an executor with this in its memory may think of.
pub(crate) fn steps(memory: &Executor) -> &'static [Step] {
    match memory {
        Executor::Idle => &[
            Step::Take { account: PRIMARY },
            Step::Take { account: SECOND },
            Step::TakeRefused,
            Step::TakeOver { exchange: PRIMARY },
            Step::TakeOver { exchange: BACKUP },
            Step::Watch { exchange: PRIMARY },
            Step::Watch { exchange: BACKUP },
            Step::BeginReconciliation,
            Step::Reconcile,
        ],
        Executor::Took { .. } => &[Step::Build, Step::Crash],
        Executor::Built(_) => &[
            Step::Commit(Reply::Arrives),
            Step::Commit(Reply::Lost),
            Step::Commit(Reply::NotAsked),
            Step::Lock,
            Step::Crash,
        ],
        Executor::Uncertain { .. } => &[Step::CommitAgain, Step::Crash],
        Executor::Committed(_) => &[Step::Send, Step::Crash],
        Executor::Sent { .. } => {
            &[Step::HearAcceptance, Step::HearRefusal, Step::TimeOut, Step::Crash]
        }
        Executor::Waiting(_) => &[Step::AskClock, Step::Seal, Step::TurnToBackup, Step::Crash],
        Executor::Past(_) => &[Step::Query, Step::Crash],
        Executor::Found { .. } => &[Step::Record, Step::Abandon, Step::Build, Step::Crash],
    }
}

impl Step {
    /// Whether this only happens when something fails.
    pub(crate) fn is_fault(self) -> bool {
        matches!(self, Self::Crash | Self::Commit(Reply::Lost | Reply::NotAsked))
    }
}

impl Protocol {
    /// The world after a step, or none if the step is impossible.
    pub(crate) fn executor_step(&self, before: &World, own: usize, step: Step) -> Option<World> {
        let mut world = before.clone();
        let memory = before.executors[own];
        world.executors[own] = match (step, memory) {
            (Step::Crash, memory) if memory != Executor::Idle => Executor::Idle,
            (Step::Take { account }, Executor::Idle) => {
                let mut issued = 1..=world.issued;
                let is_it = |signal| self.account_of(signal) == account;
                let signal =
                    issued.find(|&signal| is_it(signal) && !self.is_spent(&world, signal))?;
                self.is_usable(&world).then_some(Executor::Took { signal, exchange: account })?
            }
            (Step::TakeRefused, Executor::Idle) => {
                Executor::Took { signal: world.ledger.refused?, exchange: BACKUP }
            }
            (Step::Build, Executor::Took { signal, exchange }) => {
                self.build(&mut world, own, signal, exchange)
            }
            (Step::Build, Executor::Found { order, outcome: Outcome::Absent }) => {
                self.stamp(&mut world, Order { attempt: order.attempt + 1, ..order }, own)?
            }
            (Step::Commit(reply), Executor::Built(order)) => {
                self.commit(&mut world, order, reply)?
            }
            (Step::CommitAgain, Executor::Uncertain { order, applied }) => {
                if applied || self.open(&mut world, &order) {
                    Executor::Committed(order)
                } else {
                    Executor::Idle
                }
            }
            (Step::Lock, Executor::Built(order)) => self.lock(&mut world, own, order)?,
            (Step::Send, Executor::Committed(order)) => self.send(&mut world, order)?,
            (Step::HearAcceptance, Executor::Sent { order, .. }) => {
                let is_this =
                    |accepted: &Order| Order { deadline: order.deadline, ..*accepted } == order;
                before.accepted().any(|accepted| is_this(&accepted.order)).then_some(())?;
                Executor::Found { order, outcome: Outcome::Open }
            }
            (Step::HearRefusal, Executor::Sent { order, refused: true }) => {
                Executor::Found { order, outcome: Outcome::Refused }
            }
            (Step::TimeOut, Executor::Sent { order, .. }) => match self.rules.guard {
                Guard::Intent | Guard::ForgottenIntent => Executor::Waiting(order),
                Guard::Lock | Guard::FencedLock => Executor::Idle,
            },
            (Step::TakeOver { exchange }, Executor::Idle) => {
                match world.ledger.slots[usize::from(exchange)] {
                    Slot::Intent(order) => Executor::Waiting(order),
                    Slot::Free { .. } | Slot::Placed(_) => return None,
                }
            }
            (Step::AskClock, Executor::Waiting(order)) => {
                let last = order.deadline.saturating_add(self.rules.margin);
                let is_past = world.exchange(&order).clock > last;
                // Without deadlines and sessions there is nothing that could be waited for.
                let is_vain = self.setup.capability == Capability::Neither;
                if is_past || is_vain || !self.rules.waits {
                    Executor::Past(order)
                } else if order.cluster != world.ledger.cluster {
                    // Its ledger is gone; what became of the order is for the new one to find out.
                    Executor::Idle
                } else {
                    return None;
                }
            }
            (Step::Seal, Executor::Waiting(order)) => {
                let is_needed = world.exchange(&order).clock <= order.deadline;
                let has_sessions = self.setup.capability == Capability::Session;
                (has_sessions && is_needed && self.rules.waits).then_some(())?;
                world.exchange(&order).clock += 1;
                Executor::Past(order)
            }
            (Step::Query, Executor::Past(order)) => {
                let order = Order { mark: self.mark(own, order.mark), ..order };
                Executor::Found { order, outcome: self.query(&world, &order) }
            }
            (Step::Record, Executor::Found { order, outcome }) if outcome != Outcome::Absent => {
                self.record(&mut world, order, outcome);
                Executor::Idle
            }
            (Step::Abandon, Executor::Found { order, outcome: Outcome::Absent }) => {
                self.rules.abandons.then_some(())?;
                self.record(&mut world, order, Outcome::Absent);
                Executor::Idle
            }
            (Step::Watch { exchange }, Executor::Idle) => {
                match world.ledger.slots[usize::from(exchange)] {
                    Slot::Placed(order) if self.query(&world, &order) == Outcome::Terminal => {
                        Executor::Found { order, outcome: Outcome::Terminal }
                    }
                    Slot::Placed(_) | Slot::Free { .. } | Slot::Intent(_) => return None,
                }
            }
            (Step::TurnToBackup, Executor::Waiting(order)) => {
                let turns = self.setup.has_backup && !self.rules.awaits_refusal;
                let is_primary = order.exchange == PRIMARY;
                (turns && is_primary)
                    .then_some(Executor::Took { signal: order.signal, exchange: BACKUP })?
            }
            (Step::BeginReconciliation, Executor::Idle) => {
                (world.ledger.standing == Standing::Refounded).then_some(())?;
                let until = world.exchanges[0].clock + self.setup.window + self.rules.margin;
                world.ledger.standing = Standing::Waiting { until };
                Executor::Idle
            }
            (Step::Reconcile, Executor::Idle) => {
                let Standing::Waiting { until } = world.ledger.standing else { return None };
                let is_past = world.exchanges[0].clock > until || !self.rules.waits_out;
                let is_open = world.accepted().any(|accepted| accepted.open);
                (is_past && (!is_open || !self.rules.awaits_closed)).then_some(())?;
                world.ledger.standing = Standing::Ready;
                if self.rules.spends_older {
                    world.ledger.consumed = [world.issued; 2];
                }
                Executor::Idle
            }
            _ => return None,
        };
        Some(world)
    }

    /// The account that a signal is for.
    fn account_of(&self, signal: u8) -> u8 {
        if self.setup.has_second_account && signal.is_multiple_of(2) { SECOND } else { PRIMARY }
    }

    /// Which signals are spent together with this one.
    fn lane(&self, signal: u8) -> usize {
        if self.rules.spends_by_account { usize::from(self.account_of(signal)) } else { 0 }
    }

    /// Whether the ledger counts a signal as spent.
    pub(crate) fn is_spent(&self, world: &World, signal: u8) -> bool {
        signal <= world.ledger.consumed[self.lane(signal)]
    }

    fn is_usable(&self, world: &World) -> bool {
        world.ledger.standing == Standing::Ready
    }

    /// The first attempt of a slot's next order. Whoever finds the slot in use begins anew.
    fn build(&self, world: &mut World, own: usize, signal: u8, exchange: u8) -> Executor {
        let Slot::Free { generation } = world.ledger.slots[usize::from(exchange)] else {
            return Executor::Idle;
        };
        let cluster = world.ledger.cluster;
        let order =
            Order { cluster, exchange, generation, attempt: 1, signal, deadline: 0, mark: 0 };
        self.stamp(world, order, own).unwrap_or(Executor::Idle)
    }

    /// Writes deadline and sender, unless bounds forbid another attempt.
    fn stamp(&self, world: &mut World, mut order: Order, own: usize) -> Option<Executor> {
        order.mark = self.mark(own, 0);
        order.deadline = self.deadline(world, &order)?;
        (order.attempt <= self.setup.attempts).then_some(Executor::Built(order))
    }

    fn deadline(&self, world: &mut World, order: &Order) -> Option<u8> {
        let (window, margin, horizon) = (self.setup.window, self.rules.margin, self.setup.horizon);
        let exchange = world.exchange(order);
        let last = match self.setup.capability {
            Capability::Neither => return Some(NEVER),
            Capability::Deadline => exchange.clock + window,
            Capability::Session => {
                (exchange.clock + 1 < horizon).then_some(())?;
                exchange.clock += 1;
                exchange.clock
            }
        };
        (last + margin < horizon).then_some(last)
    }

    fn mark(&self, own: usize, otherwise: u8) -> u8 {
        match self.rules.identity {
            Identity::SlotAndInstance => u8::try_from(own + 1).expect("a handful of executors"),
            Identity::Slot | Identity::SlotAndAttempt | Identity::SlotOfAnyAccount => otherwise,
        }
    }

    fn commit(&self, world: &mut World, order: Order, reply: Reply) -> Option<Executor> {
        let has_intents = matches!(self.rules.guard, Guard::Intent | Guard::ForgottenIntent);
        has_intents.then_some(match reply {
            Reply::Arrives if self.open(world, &order) => Executor::Committed(order),
            Reply::Arrives => Executor::Idle,
            Reply::Lost => Executor::Uncertain { order, applied: self.open(world, &order) },
            Reply::NotAsked => Executor::Uncertain { order, applied: false },
        })
    }

    /// The compare-and-set that opens an attempt, and whether it took effect.
    fn open(&self, world: &mut World, order: &Order) -> bool {
        let ledger = &mut world.ledger;
        let is_expected = match *ledger.slot(order) {
            Slot::Free { generation } => order.attempt == 1 && generation == order.generation,
            Slot::Intent(earlier) => {
                (earlier.generation, earlier.attempt + 1) == (order.generation, order.attempt)
            }
            Slot::Placed(_) => false,
        };
        let is_first = order.attempt == 1;
        let is_backup = self.setup.has_backup && order.exchange == BACKUP;
        let lane = self.lane(order.signal);
        let is_spent = match is_backup {
            true => self.rules.awaits_refusal && ledger.refused != Some(order.signal),
            false => self.rules.refuses_spent && order.signal <= ledger.consumed[lane],
        };
        let is_unready = self.rules.refuses_unready && ledger.standing != Standing::Ready;
        if order.cluster != ledger.cluster || is_unready || !is_expected || (is_first && is_spent) {
            return false;
        }
        *ledger.slot(order) = Slot::Intent(*order);
        ledger.consumed[lane] = ledger.consumed[lane].max(order.signal);
        if self.setup.has_second_account {
            ledger.opened |= 1 << order.signal;
        }
        if is_backup {
            ledger.refused = None;
        }
        true
    }

    /// Takes the lock if it is free or has run out, and asks the exchange once more before sending.
    fn lock(&self, world: &mut World, own: usize, order: Order) -> Option<Executor> {
        matches!(self.rules.guard, Guard::Lock | Guard::FencedLock).then_some(())?;
        let clock = world.exchange(&order).clock;
        let holder = u8::try_from(own + 1).expect("a handful of executors");
        let lock = world.ledger.lock;
        (lock.holder == 0 || clock > lock.until).then_some(())?;
        let token = lock.token + 1;
        world.ledger.lock = Lock { holder, until: clock + 1, token, ..lock };
        Some(match self.query(world, &order) {
            Outcome::Absent => Executor::Committed(Order { mark: token, ..order }),
            outcome @ (Outcome::Open | Outcome::Terminal | Outcome::Refused) => {
                Executor::Found { order, outcome }
            }
        })
    }

    fn send(&self, world: &mut World, order: Order) -> Option<Executor> {
        let mut request = order;
        if !self.rules.is_stamped_at_commit {
            request.deadline = self.deadline(world, &order)?;
        }
        if self.rules.guard == Guard::FencedLock {
            (order.mark >= world.ledger.lock.gateway).then_some(())?;
            world.ledger.lock.gateway = order.mark;
        }
        world.requests.push(request);
        world.requests.sort_unstable();
        Some(Executor::Sent { order, refused: false })
    }

    /// What the exchange answers to the order's client id.
    fn query(&self, world: &World, order: &Order) -> Outcome {
        let is_it = |other: &Order| self.client_id(other) == self.client_id(order);
        let mut seen = world.accepted().filter(|accepted| accepted.hidden_until.is_none());
        match seen.find(|accepted| is_it(&accepted.order)) {
            Some(accepted) if accepted.open => Outcome::Open,
            Some(_) => Outcome::Terminal,
            None => Outcome::Absent,
        }
    }

    /// Writes an outcome down, if the slot is still what it was when the order was sent or placed.
    fn record(&self, world: &mut World, order: Order, outcome: Outcome) {
        let has_intents = matches!(self.rules.guard, Guard::Intent | Guard::ForgottenIntent);
        let ledger = &mut world.ledger;
        let key = |order: &Order| (order.cluster, order.generation, order.attempt);
        let is_expected = match *ledger.slot(&order) {
            Slot::Intent(intent) => key(&intent) == key(&order),
            Slot::Placed(placed) => key(&placed) == key(&order) && outcome == Outcome::Terminal,
            Slot::Free { generation } => !has_intents && generation == order.generation,
        };
        if !is_expected {
            return;
        }
        let next = Slot::Free { generation: order.generation + 1 };
        *ledger.slot(&order) = match outcome {
            Outcome::Open if self.rules.awaits_terminal => {
                Slot::Placed(Order { deadline: 0, ..order })
            }
            Outcome::Open | Outcome::Terminal | Outcome::Absent | Outcome::Refused => next,
        };
        match outcome {
            Outcome::Open | Outcome::Terminal => ledger.placed |= 1 << order.signal,
            Outcome::Refused if order.exchange == PRIMARY => ledger.refused = Some(order.signal),
            Outcome::Absent | Outcome::Refused => {}
        }
        if !has_intents {
            let lane = self.lane(order.signal);
            ledger.consumed[lane] = ledger.consumed[lane].max(order.signal);
            ledger.lock.holder = 0;
        }
    }
}
