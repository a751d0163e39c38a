//! The model as stateright takes it: what may happen next, and what the world is like then.

use stateright::{Checker, Model, Path, Property};

use super::executor::{Step, steps};
use super::explore;
use super::properties::{Check, Sight};
use super::rules::{Capability, Deduplication, Guard, Identity, Rules, Setup};
use super::world::{
    Accepted, Exchange, Executor, Ledger, Order, PRIMARY, SECOND, Slot, Standing, World,
};

/// The protocol under some rules, in some surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    pub(crate) rules: Rules,
    pub(crate) setup: Setup,
    /// What must never happen.
    pub(crate) checks: &'static [Check],
    /// What must be possible.
    pub(crate) sights: Vec<Sight>,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Executor {
        own: usize,
        step: Step,
    },
    /// A request comes to the exchange, which takes it or finds it too late. With `stays`, it will come
    /// again.
    Deliver {
        request: usize,
        stays: bool,
    },
    /// The exchange refuses a request for good. The answer may be lost.
    Refuse {
        request: usize,
        is_heard: bool,
    },
    Lose {
        request: usize,
    },
    Tick {
        exchange: usize,
    },
    /// An open order is filled or cancelled.
    Close {
        exchange: usize,
        order: usize,
    },
    /// An order is found by questions from here on.
    Show {
        exchange: usize,
        order: usize,
    },
    /// Another signal comes.
    Issue,
    /// The ledger of every node is lost, and a new one is founded.
    LoseLedger,
    /// The ledger comes back without the last intent that it has acknowledged.
    Forget {
        slot: usize,
    },
}

impl Action {
    /// Whether this only happens when something fails.
    pub(crate) fn is_fault(self) -> bool {
        match self {
            Self::Executor { step, .. } => step.is_fault(),
            Self::Deliver { stays, .. } => stays,
            Self::Refuse { is_heard, .. } => !is_heard,
            Self::Lose { .. } | Self::LoseLedger | Self::Forget { .. } => true,
            Self::Tick { .. } | Self::Close { .. } | Self::Show { .. } | Self::Issue => false,
        }
    }
}

impl Protocol {
    /// Fails if a property does not hold, something cannot be reached, or something cannot be resolved.
    /// Returns how many states there are, and how deep the deepest of them lies.
    pub(crate) fn check(self, name: &str) -> (usize, usize) {
        let graph = explore::explore(&self);
        if let Some(path) = graph.never_settled() {
            panic!("{name}: cannot be resolved:\n{}", self.tell_actions(&path));
        }
        let (states, depth) = self.check_states(name);
        // It tells states apart by 64 bits of hash; the other search compares them.
        assert_eq!(states, graph.states(), "{name}: states that look the same");
        (states, depth)
    }

    /// The same, but for what can be resolved.
    pub(crate) fn check_states(self, name: &str) -> (usize, usize) {
        let checker = self.checker().threads(1).spawn_bfs().join();
        let model = checker.model();
        for property in model.properties() {
            let discovery = checker.discovery(property.name);
            let is_wanted = !property.expectation.discovery_is_failure();
            match discovery {
                Some(path) if !is_wanted => {
                    panic!("{name}: not so: {}\n{}", property.name, model.tell(&path))
                }
                None if is_wanted => panic!("{name}: never seen: {}", property.name),
                Some(_) | None => {}
            }
        }
        (checker.unique_state_count(), checker.max_depth())
    }

    /// The shortest way to where the first of the checks, or else another, does not hold.
    pub(crate) fn counter_example(self) -> Option<(usize, String)> {
        let checker = self.checker().threads(1).spawn_bfs().join();
        let mut checks = checker.model().checks.iter();
        let path = checks.find_map(|check| checker.discovery(check.name()))?;
        let told = checker.model().tell(&path);
        Some((path.into_actions().len(), told))
    }

    /// The names by which the exchange knows orders apart.
    pub(crate) fn client_id(&self, order: &Order) -> (u8, u8, u8, u8) {
        let more = match self.rules.identity {
            Identity::Slot | Identity::SlotOfAnyAccount => 0,
            Identity::SlotAndAttempt => order.attempt,
            Identity::SlotAndInstance => order.mark,
        };
        let exchange = match self.rules.identity {
            Identity::SlotOfAnyAccount => PRIMARY,
            Identity::Slot | Identity::SlotAndAttempt | Identity::SlotAndInstance => order.exchange,
        };
        (order.cluster, exchange, order.generation, more)
    }

    fn deliver(&self, before: &World, request: usize, stays: bool) -> Option<World> {
        let order = *before.requests.get(request)?;
        let mut world = before.clone();
        if !stays {
            world.requests.remove(request);
        }
        let clock = world.exchange(&order).clock;
        let is_timely = match self.setup.capability {
            Capability::Deadline => clock <= order.deadline,
            Capability::Session => clock == order.deadline,
            Capability::Neither => true,
        };
        let is_known = before.accepted().any(|accepted| {
            let is_compared = match self.setup.deduplication {
                Deduplication::No => false,
                Deduplication::AmongOpen => accepted.open,
                Deduplication::All => true,
            };
            is_compared && self.client_id(&accepted.order) == self.client_id(&order)
        });
        if is_timely && !is_known {
            let hidden_until =
                (self.setup.lag > 0).then_some(order.deadline.saturating_add(self.setup.lag));
            let order = Order { deadline: 0, ..order };
            let exchange = world.exchange(&order);
            exchange.accepted.push(Accepted { order, open: true, hidden_until });
            exchange.accepted.sort_unstable();
        }
        Some(world)
    }

    fn refuse(&self, before: &World, request: usize, is_heard: bool) -> Option<World> {
        let order = *before.requests.get(request)?;
        (order.exchange == PRIMARY).then_some(())?;
        let mut world = before.clone();
        world.requests.remove(request);
        let waiting = world.executors.iter_mut().find_map(|executor| match executor {
            Executor::Sent { order: sent, refused } if *sent == order => Some(refused),
            Executor::Idle
            | Executor::Took { .. }
            | Executor::Built(_)
            | Executor::Uncertain { .. }
            | Executor::Committed(_)
            | Executor::Sent { .. }
            | Executor::Waiting(_)
            | Executor::Past(_)
            | Executor::Found { .. } => None,
        });
        match (waiting, is_heard) {
            (Some(refused), true) => *refused = true,
            (None, true) => return None,
            (_, false) => {}
        }
        Some(world)
    }

    fn tick(&self, before: &World, exchange: usize) -> Option<World> {
        let mut world = before.clone();
        let ticking = world.exchanges.get_mut(exchange)?;
        // A new ledger reads the clock while there is time enough to wait.
        let last = match before.ledger.standing {
            Standing::Refounded => self.last_founding(),
            Standing::Waiting { .. } | Standing::Ready => self.setup.horizon,
        };
        (self.setup.capability != Capability::Session && ticking.clock < last).then_some(())?;
        // Accounts of one exchange go by one clock, and it ticks once.
        (!self.setup.has_second_account || exchange == usize::from(PRIMARY)).then_some(())?;
        ticking.clock += 1;
        let clock = ticking.clock;
        let has_to_show =
            |accepted: &Accepted| accepted.hidden_until.is_some_and(|until| clock > until);
        (!ticking.accepted.iter().any(has_to_show)).then_some(())?;
        if self.setup.has_second_account {
            let second = world.exchanges.get_mut(usize::from(SECOND))?;
            second.clock = clock;
            (!second.accepted.iter().any(has_to_show)).then_some(())?;
        }
        Some(world)
    }

    fn amend(
        before: &World,
        exchange: usize,
        order: usize,
        amend: impl Fn(&mut Accepted) -> bool,
    ) -> Option<World> {
        let mut world = before.clone();
        let accepted = &mut world.exchanges.get_mut(exchange)?.accepted;
        amend(accepted.get_mut(order)?).then_some(())?;
        accepted.sort_unstable();
        Some(world)
    }

    /// The last moment at which a ledger founded then can be ready before clocks stop.
    fn last_founding(&self) -> u8 {
        self.setup.horizon - self.setup.window - self.rules.margin - 1
    }

    fn lose_ledger(&self, before: &World) -> Option<World> {
        let mut world = before.clone();
        (world.exchanges[0].clock <= self.last_founding()).then_some(())?;
        world.losses = world.losses.checked_sub(1)?;
        let cluster = world.ledger.cluster + u8::from(self.rules.draws_cluster);
        world.ledger = Ledger::new(cluster, Standing::Refounded);
        Some(world)
    }

    fn forget(before: &World, slot: usize) -> Option<World> {
        let mut world = before.clone();
        match world.ledger.slots[slot] {
            Slot::Intent(order) if order.attempt == 1 => {
                world.ledger.slots[slot] = Slot::Free { generation: order.generation };
                world.ledger.consumed[usize::from(PRIMARY)] = order.signal - 1;
                Some(world)
            }
            Slot::Intent(_) | Slot::Free { .. } | Slot::Placed(_) => None,
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let has_two = self.setup.has_backup || self.setup.has_second_account;
        let exchanges = 1 + usize::from(has_two);
        let mut world = World {
            ledger: Ledger::new(0, Standing::Ready),
            exchanges: vec![Exchange::default(); exchanges],
            executors: vec![Executor::Idle; usize::from(self.setup.executors)],
            requests: Vec::new(),
            issued: self.setup.issued,
            losses: self.setup.losses,
        };
        if self.setup.has_history {
            let order = Order {
                cluster: 0,
                exchange: PRIMARY,
                generation: 0,
                attempt: 1,
                signal: 0,
                deadline: 0,
                mark: 0,
            };
            world.exchanges[0].accepted.push(Accepted { order, open: false, hidden_until: None });
            world.ledger.cluster = u8::from(self.rules.draws_cluster);
        }
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (own, memory) in world.executors.iter().enumerate() {
            actions.extend(steps(memory).iter().map(|&step| Action::Executor { own, step }));
        }
        for request in 0..world.requests.len() {
            actions.push(Action::Deliver { request, stays: false });
            if self.setup.duplicates {
                actions.push(Action::Deliver { request, stays: true });
            }
            if self.setup.has_backup {
                actions.extend([true, false].map(|is_heard| Action::Refuse { request, is_heard }));
            }
            actions.push(Action::Lose { request });
        }
        for (exchange, at) in world.exchanges.iter().enumerate() {
            for order in 0..at.accepted.len() {
                actions.push(Action::Close { exchange, order });
                if self.setup.lag > 0 {
                    actions.push(Action::Show { exchange, order });
                }
            }
            actions.push(Action::Tick { exchange });
        }
        if world.issued < self.setup.signals {
            actions.push(Action::Issue);
        }
        if world.losses > 0 {
            actions.push(Action::LoseLedger);
        }
        if self.rules.guard == Guard::ForgottenIntent {
            actions.push(Action::Forget { slot: usize::from(PRIMARY) });
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let next = match action {
            Action::Executor { own, step } => self.executor_step(before, own, step),
            Action::Deliver { request, stays } => self.deliver(before, request, stays),
            Action::Refuse { request, is_heard } => self.refuse(before, request, is_heard),
            Action::Lose { request } => {
                let mut world = before.clone();
                world.requests.remove(request);
                Some(world)
            }
            Action::Tick { exchange } => self.tick(before, exchange),
            Action::Close { exchange, order } => {
                Self::amend(before, exchange, order, |accepted| std::mem::take(&mut accepted.open))
            }
            Action::Show { exchange, order } => Self::amend(before, exchange, order, |accepted| {
                accepted.hidden_until.take().is_some()
            }),
            Action::Issue => Some(World { issued: before.issued + 1, ..before.clone() }),
            Action::LoseLedger => self.lose_ledger(before),
            Action::Forget { slot } => Self::forget(before, slot),
        };
        let mut next = next.filter(|next| next != before)?;
        if self.setup.is_symmetric {
            next.executors.sort_unstable();
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let checks =
            self.checks.iter().map(|check| Property::always(check.name(), check.condition()));
        let sights =
            self.sights.iter().map(|sight| Property::sometimes(sight.name(), sight.condition()));
        checks.chain(sights).collect()
    }
}

impl Protocol {
    /// A path in words, one line a step.
    pub(crate) fn tell(&self, path: &Path<World, Action>) -> String {
        self.tell_actions(&path.clone().into_actions())
    }

    /// The same, of what happened since the beginning.
    pub(crate) fn tell_actions(&self, actions: &[Action]) -> String {
        let mut world = self.init_states().remove(0);
        let mut lines = Vec::new();
        for (at, action) in actions.iter().enumerate() {
            lines.push(format!("  {:2}. {}", at + 1, self.say(&world, *action)));
            world = self.next_state(&world, *action).expect("a path of this model");
        }
        lines.join("\n")
    }
}
