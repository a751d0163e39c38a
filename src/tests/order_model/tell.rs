//! What happened, in words.

use super::Protocol;
use super::executor::{Reply, Step};
use super::protocol::Action;
use super::world::{Executor, Order, Slot, World};

const NAMES: [&str; 4] = ["A", "B", "C", "D"];
const EXCHANGES: [&str; 2] = ["the exchange", "the backup"];

fn order(order: &Order) -> String {
    let Order { generation, attempt, signal, deadline, .. } = *order;
    let end = if deadline == u8::MAX { String::new() } else { format!(", until {deadline}") };
    format!("signal {signal} (generation {generation}, attempt {attempt}{end})")
}

impl Protocol {
    fn exchange_name(&self, exchange: usize) -> &'static str {
        let name = if self.setup.has_second_account {
            ["the first account", "the second"]
        } else {
            EXCHANGES
        };
        name[exchange]
    }

    /// One step, as it is about to happen.
    pub(crate) fn say(&self, world: &World, action: Action) -> String {
        match action {
            Action::Executor { own, step } => self.say_step(world, own, step),
            Action::Deliver { request, stays } => {
                let request = &world.requests[request];
                let mut after = world.clone();
                if let Some(next) = stateright::Model::next_state(self, world, action) {
                    after = next;
                }
                let is_taken = after.accepted().count() > world.accepted().count();
                let verb = if is_taken { "accepts" } else { "does not accept" };
                let again = if stays { ", which will come again" } else { "" };
                format!(
                    "{} {verb} {}{again}",
                    self.exchange_name(usize::from(request.exchange)),
                    order(request)
                )
            }
            Action::Refuse { request, is_heard } => {
                let end = if is_heard { "" } else { "; the answer is lost" };
                format!("the exchange refuses {}{end}", order(&world.requests[request]))
            }
            Action::Lose { request } => {
                format!("lost on its way: {}", order(&world.requests[request]))
            }
            Action::Tick { exchange } => {
                format!(
                    "the clock of {} is {}",
                    self.exchange_name(exchange),
                    world.exchanges[exchange].clock + 1
                )
            }
            Action::Close { exchange, order: at } => {
                format!("filled: {}", order(&world.exchanges[exchange].accepted[at].order))
            }
            Action::Show { exchange, order: at } => {
                format!("shown: {}", order(&world.exchanges[exchange].accepted[at].order))
            }
            Action::Issue => format!("signal {} is issued", world.issued + 1),
            Action::LoseLedger => "the ledger is lost, and a new one founded".to_owned(),
            Action::Forget { .. } => "the ledger forgets the intent".to_owned(),
        }
    }

    fn say_step(&self, world: &World, own: usize, step: Step) -> String {
        let name = NAMES[own];
        let about = match world.executors[own] {
            Executor::Idle => String::new(),
            Executor::Took { signal, .. } => format!("signal {signal}"),
            Executor::Built(at)
            | Executor::Uncertain { order: at, .. }
            | Executor::Committed(at)
            | Executor::Sent { order: at, .. }
            | Executor::Waiting(at)
            | Executor::Past(at)
            | Executor::Found { order: at, .. } => order(&at),
        };
        let after = self.executor_step(world, own, step);
        let memory = after.as_ref().map(|after| after.executors[own]);
        match step {
            Step::Crash => format!("{name} crashes"),
            Step::Take { .. } | Step::TakeRefused => match memory {
                Some(Executor::Took { signal, .. }) => format!("{name} takes signal {signal}"),
                _ => format!("{name} takes nothing"),
            },
            Step::Build => match memory {
                Some(Executor::Built(built)) => {
                    format!("{name} writes the request for {}", order(&built))
                }
                _ => format!("{name} cannot begin with {about}"),
            },
            Step::Commit(reply) => {
                let end = match (reply, memory) {
                    (Reply::Arrives, Some(Executor::Committed(_))) => "commits",
                    (Reply::Arrives, _) => "may not commit",
                    (Reply::Lost | Reply::NotAsked, _) => "does not hear whether it has committed",
                };
                format!("{name} {end} {about}")
            }
            Step::CommitAgain => format!("{name} asks again whether it has committed {about}"),
            Step::Lock => match memory {
                Some(Executor::Committed(_)) => {
                    format!("{name} has the lock, and finds no order for {about}")
                }
                _ => format!("{name} has the lock, and finds an order for {about}"),
            },
            Step::Send => match after.as_ref().map(|after| after.requests.as_slice()) {
                Some(sent) if !self.rules.is_stamped_at_commit => {
                    let new = sent.iter().find(|request| !world.requests.contains(request));
                    format!("{name} sends {}", new.map_or(about, order))
                }
                _ => format!("{name} sends {about}"),
            },
            Step::HearAcceptance => format!("{name} hears that it was accepted: {about}"),
            Step::HearRefusal => format!("{name} hears that it was refused: {about}"),
            Step::TimeOut => format!("{name} hears nothing of {about}"),
            Step::TakeOver { exchange } => match world.ledger.slots[usize::from(exchange)] {
                Slot::Intent(intent) | Slot::Placed(intent) => {
                    format!("{name} takes over the intent for {}", order(&intent))
                }
                Slot::Free { .. } => format!("{name} takes over nothing"),
            },
            Step::AskClock => format!("{name} goes on to ask for {about}"),
            Step::Seal => format!("{name} ends the other sessions"),
            Step::Query => match memory {
                Some(Executor::Found { outcome, .. }) => {
                    format!("{name} asks for {about}: {outcome:?}")
                }
                _ => format!("{name} asks for {about}"),
            },
            Step::Record => format!("{name} records what became of {about}"),
            Step::Abandon => format!("{name} records that there is no order for {about}"),
            Step::Watch { .. } => format!("{name} sees that the order is filled"),
            Step::TurnToBackup => format!("{name} turns to the backup with {about}"),
            Step::BeginReconciliation => format!("{name} reads the clock for the new ledger"),
            Step::Reconcile => format!("{name} declares the new ledger ready"),
        }
    }
}
