//! What must never happen, and what must be possible lest the rest be true of nothing.

use super::Protocol;
use super::world::{Executor, Order, Outcome, Slot, Standing, World};

type Condition = fn(&Protocol, &World) -> bool;

/// A property of every state, numbered as in `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    OncePerGeneration,
    OncePerSignal,
    OneOpenPerSlot,
    PlacedWasAccepted,
    ClosedWasNotAccepted,
    SpentWasOpened,
}

/// All of them.
pub(crate) const ALL: &[Check] = &[
    Check::OncePerGeneration,
    Check::OncePerSignal,
    Check::OneOpenPerSlot,
    Check::PlacedWasAccepted,
    Check::ClosedWasNotAccepted,
    Check::SpentWasOpened,
];

impl Check {
    /// The property as a sentence.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OncePerGeneration => "at most one order is accepted of each generation of a slot",
            Self::OncePerSignal => "at most one order is accepted for each signal",
            Self::OneOpenPerSlot => "at most one order is open in a slot",
            Self::PlacedWasAccepted => "what the ledger calls placed was accepted",
            Self::ClosedWasNotAccepted => "what the ledger closed as not placed was never accepted",
            Self::SpentWasOpened => {
                "with two accounts, no signal is spent that none of its own has taken"
            }
        }
    }

    /// Whether it holds.
    pub(crate) fn condition(self) -> Condition {
        match self {
            Self::OncePerGeneration => |_, world| {
                let key = |order: &Order| (order.cluster, order.exchange, order.generation);
                is_unique(world.accepted().map(|accepted| key(&accepted.order)))
            },
            Self::OncePerSignal => {
                |_, world| is_unique(world.accepted().map(|accepted| accepted.order.signal))
            }
            Self::OneOpenPerSlot => |_, world| {
                let open = world.accepted().filter(|accepted| accepted.open);
                is_unique(open.map(|accepted| accepted.order.exchange))
            },
            Self::PlacedWasAccepted => |_, world| {
                let is_accepted =
                    |signal: u8| world.accepted().any(|accepted| accepted.order.signal == signal);
                (1..=world.issued).all(|signal| !is_placed(world, signal) || is_accepted(signal))
            },
            Self::ClosedWasNotAccepted => |_, world| {
                world
                    .accepted()
                    .filter(|accepted| accepted.order.cluster == world.ledger.cluster)
                    .all(|accepted| {
                        let order = accepted.order;
                        let is_closed = match world.ledger.slots[usize::from(order.exchange)] {
                            Slot::Free { generation } => generation > order.generation,
                            Slot::Intent(now) | Slot::Placed(now) => {
                                now.generation > order.generation
                            }
                        };
                        !is_closed || is_placed(world, order.signal)
                    })
            },
            Self::SpentWasOpened => |protocol, world| {
                let was_opened = |signal: u8| world.ledger.opened & (1 << signal) != 0;
                let mut signals = 1..=world.issued;
                !protocol.setup.has_second_account
                    || signals.all(|signal| !protocol.is_spent(world, signal) || was_opened(signal))
            },
        }
    }
}

/// Something that happens in at least one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    Placed,
    PlacedAtBackup,
    AcceptedBothSignals,
    ResentAfterTakeover,
    FoundByQuery,
    LateRequest,
    Settled,
}

impl Sight {
    /// What happens, as a sentence.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Placed => "an order is placed",
            Self::PlacedAtBackup => "an order is placed at the backup",
            Self::AcceptedBothSignals => "orders for two signals are accepted",
            Self::ResentAfterTakeover => {
                "who takes over sends again while the other sleeps on its intent"
            }
            Self::FoundByQuery => "an unknown outcome turns out to be an order",
            Self::LateRequest => "a request of a first attempt is late when the second is accepted",
            Self::Settled => "all signals are spent and nothing is left to do",
        }
    }

    /// Whether it is seen.
    pub(crate) fn condition(self) -> Condition {
        match self {
            Self::Placed => |_, world| world.ledger.placed != 0,
            Self::PlacedAtBackup => |_, world| {
                let is_at_backup = |slot: &Slot| matches!(slot, Slot::Placed(_));
                world.ledger.slots.get(1).is_some_and(is_at_backup)
            },
            Self::AcceptedBothSignals => |_, world| {
                [1, 2]
                    .iter()
                    .all(|signal| world.accepted().any(|accepted| accepted.order.signal == *signal))
            },
            Self::ResentAfterTakeover => |_, world| {
                let sleeps = |executor: &Executor| matches!(executor, Executor::Committed(order) if order.attempt == 1);
                let sends = |executor: &Executor| matches!(executor, Executor::Sent { order, .. } if order.attempt == 2);
                world.executors.iter().any(sleeps) && world.executors.iter().any(sends)
            },
            Self::FoundByQuery => |_, world| {
                let is_found = |executor: &Executor| {
                    matches!(executor, Executor::Found { order, outcome: Outcome::Open }
                        if !matches!(world.ledger.slots[usize::from(order.exchange)], Slot::Placed(_))
                            && world.exchanges[usize::from(order.exchange)].clock > order.deadline)
                };
                world.executors.iter().any(is_found)
            },
            Self::LateRequest => |_, world| {
                let is_second = world.accepted().any(|accepted| accepted.order.attempt == 2);
                is_second && world.requests.iter().any(|request| request.attempt == 1)
            },
            Self::Settled => is_finished,
        }
    }
}

fn is_finished(protocol: &Protocol, world: &World) -> bool {
    let is_spent = |signal| protocol.is_spent(world, signal);
    is_settled(world) && (1..=protocol.setup.signals).all(is_spent) && world.ledger.placed != 0
}

/// Whether nothing is left to resolve: a ledger that is ready, no intent, no open order, nothing in
/// memory or on its way.
pub(crate) fn is_settled(world: &World) -> bool {
    let is_free = |slot: &Slot| matches!(slot, Slot::Free { .. });
    world.ledger.standing == Standing::Ready
        && world.ledger.slots.iter().all(is_free)
        && world.executors.iter().all(|executor| *executor == Executor::Idle)
        && world.requests.is_empty()
}

fn is_placed(world: &World, signal: u8) -> bool {
    world.ledger.placed & (1 << signal) != 0
}

fn is_unique<T: Ord>(all: impl Iterator<Item = T>) -> bool {
    let mut all: Vec<T> = all.collect();
    all.sort_unstable();
    all.windows(2).all(|pair| pair[0] != pair[1])
}
