//! What there is: orders, the ledger's registers, the exchange, executors, and requests on their way.
//!
//! Everything is small and ordered, so that equal worlds are equal values.

/// The exchange that orders go to first.
pub(crate) const PRIMARY: u8 = 0;
/// The exchange of a backup broker.
pub(crate) const BACKUP: u8 = 1;
/// A second account at the exchange: what it has of each account is told apart like two exchanges with one clock.
pub(crate) const SECOND: u8 = 1;

/// A request, as it is written down in an intent and as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Order {
    pub(crate) cluster: u8,
    /// There is one slot at each exchange, or for each account, so this names the slot too.
    pub(crate) exchange: u8,
    pub(crate) generation: u8,
    pub(crate) attempt: u8,
    pub(crate) signal: u8,
    /// The last moment of the exchange's clock at which it accepts this.
    pub(crate) deadline: u8,
    /// Who sent it, or under which fencing token: 0 unless the rules in force look at it.
    pub(crate) mark: u8,
}

/// A slot in the ledger. `Closing` and `Done` of the real slot are one step here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Slot {
    Free { generation: u8 },
    Intent(Order),
    Placed(Order),
}

/// Whether a ledger may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Standing {
    Ready,
    /// Founded anew, with nothing in it.
    Refounded,
    /// Waits for the exchange's clock to pass this.
    Waiting {
        until: u8,
    },
}

/// A lock with a time to live, in the variants that have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lock {
    /// 0 is nobody; the executor's number + 1.
    pub(crate) holder: u8,
    pub(crate) until: u8,
    pub(crate) token: u8,
    /// The highest token that the gateway has let through.
    pub(crate) gateway: u8,
}

/// The ledger: a linearizable register, written by compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ledger {
    pub(crate) cluster: u8,
    pub(crate) standing: Standing,
    pub(crate) slots: [Slot; 2],
    /// Signals up to this one are spent; of each account.
    pub(crate) consumed: [u8; 2],
    /// Bit `n`: an intent for signal `n` was opened. Nobody reads it but the judge, where there are two accounts.
    pub(crate) opened: u8,
    /// The signal whose order the primary has finally refused, while no backup order has taken it.
    pub(crate) refused: Option<u8>,
    /// Bit `n`: an order for signal `n` is recorded as placed.
    pub(crate) placed: u8,
    pub(crate) lock: Lock,
}

impl Ledger {
    /// An empty ledger.
    pub(crate) fn new(cluster: u8, standing: Standing) -> Self {
        Self {
            cluster,
            standing,
            slots: [Slot::Free { generation: 0 }; 2],
            consumed: [0; 2],
            opened: 0,
            refused: None,
            placed: 0,
            lock: Lock::default(),
        }
    }

    /// The slot that `order` is for.
    pub(crate) fn slot(&mut self, order: &Order) -> &mut Slot {
        &mut self.slots[usize::from(order.exchange)]
    }
}

/// An order that the exchange has taken. It is kept for good: the exchange is the judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Accepted {
    pub(crate) order: Order,
    pub(crate) open: bool,
    /// Questions do not find it yet, and will at the latest when the clock passes this.
    pub(crate) hidden_until: Option<u8>,
}

/// An exchange, with a clock of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Exchange {
    pub(crate) clock: u8,
    /// Sorted: in which order they came is of no consequence.
    pub(crate) accepted: Vec<Accepted>,
}

/// What an executor has learned about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Outcome {
    Open,
    Terminal,
    Absent,
    Refused,
}

/// What an executor has in memory, which is where it will go on after a pause of any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Executor {
    Idle,
    Took {
        signal: u8,
        exchange: u8,
    },
    /// The request is written, its deadline with it; nobody else knows.
    Built(Order),
    /// The answer to the commit did not come. `applied` is what the ledger's memory of operation ids
    /// will answer when asked again, which the executor does not know.
    Uncertain {
        order: Order,
        applied: bool,
    },
    Committed(Order),
    Sent {
        order: Order,
        refused: bool,
    },
    /// The outcome is unknown.
    Waiting(Order),
    /// The exchange's clock was seen past the deadline.
    Past(Order),
    Found {
        order: Order,
        outcome: Outcome,
    },
}

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct World {
    pub(crate) ledger: Ledger,
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) executors: Vec<Executor>,
    /// Requests on their way to an exchange: a multiset, sorted.
    pub(crate) requests: Vec<Order>,
    /// Signals up to this one exist.
    pub(crate) issued: u8,
    /// How often the ledger may still be lost.
    pub(crate) losses: u8,
}

impl World {
    /// The exchange that `order` is for.
    pub(crate) fn exchange(&mut self, order: &Order) -> &mut Exchange {
        &mut self.exchanges[usize::from(order.exchange)]
    }

    /// Every order that any exchange has taken.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = &Accepted> {
        self.exchanges.iter().flat_map(|exchange| &exchange.accepted)
    }
}
