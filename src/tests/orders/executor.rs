//! One that has orders to place: the real core, and what its actor would keep.

use std::collections::{BTreeMap, BTreeSet};

use tickwright_core::domain::{
    Key, OrderId, Price, Quantity, Side, SignalIdentity, SourceId, Symbol, Timestamp,
};
use tickwright_core::pipeline::orders::{NewOrder, Orders, OrdersSnapshot, Said, Stopped};

/// What was said of each order, as whoever placed it has it: what is said again is known already.
pub(crate) type Heard = BTreeMap<SignalIdentity, Vec<Said>>;

#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) core: Option<Orders>,
    /// For which of the accounts it trades.
    pub(crate) account: usize,
    /// Counts its lives: what was meant for an earlier one is not for this.
    pub(crate) life: u64,
    /// It stands still until then.
    pub(crate) paused_until: u64,
    /// By how much its clock is ahead.
    pub(crate) offset: u64,
    /// The next order to place.
    pub(crate) next: usize,
    pub(crate) heard: Heard,
    /// Whether it has come back knowing everything that it had heard, also after its checkpoint.
    pub(crate) recalls: bool,
    /// Orders that it did not want any more in some life.
    pub(crate) unwanted: BTreeSet<SignalIdentity>,
    /// What kill switches stop.
    pub(crate) stopped: Stopped,
    pub(crate) session: u64,
    pub(crate) checkpoint: Checkpoint,
}

/// What survives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoint {
    pub(crate) orders: Option<OrdersSnapshot>,
    pub(crate) next: usize,
    pub(crate) heard: Heard,
}

impl Executor {
    pub(crate) fn new(account: usize, offset: u64) -> Self {
        Self {
            core: None,
            account,
            life: 0,
            paused_until: 0,
            offset,
            next: 0,
            heard: Heard::new(),
            recalls: false,
            unwanted: BTreeSet::new(),
            stopped: Stopped::default(),
            session: 0,
            checkpoint: Checkpoint::default(),
        }
    }

    pub(crate) fn clock(&self, now: u64) -> Timestamp {
        Timestamp::from_nanos(now + self.offset)
    }

    /// Takes in what is said of an order.
    pub(crate) fn hear(&mut self, signal: &SignalIdentity, said: Said) -> Result<(), String> {
        let heard = self.heard.entry(signal.clone()).or_default();
        if heard.contains(&said) {
            return Ok(());
        }
        if heard.iter().any(Said::is_last) && self.recalls {
            // Nothing is taken of an order after its end.
            return Ok(());
        }
        if heard.iter().any(Said::is_last) {
            return Err(format!("(3) of {:?} is said {said:?} after {heard:?}", signal.id));
        }
        heard.push(said);
        Ok(())
    }

    pub(crate) fn save(&mut self) {
        let Some(core) = &self.core else { return };
        let orders = Some(core.snapshot());
        self.checkpoint = Checkpoint { orders, next: self.next, heard: self.heard.clone() };
    }
}

/// The orders that everybody wants to place, in order.
pub(crate) fn order(number: usize) -> NewOrder {
    let name = ["A.X", "B.X"][number % 2];
    let symbol = Symbol::new(name).unwrap();
    let sequence = number as u64 + 1;
    let key = Key { frontier: Timestamp::from_nanos(sequence), source: SourceId(0), sequence };
    let signal = SignalIdentity {
        run: "r".into(),
        strategy: "s".into(),
        symbol: symbol.clone(),
        id: OrderId { key, ordinal: 0 },
    };
    NewOrder {
        signal,
        symbol,
        side: if number.is_multiple_of(3) { Side::Sell } else { Side::Buy },
        quantity: Quantity(10),
        limit_price: Price(100 + i64::try_from(number % 5).unwrap()),
        was_refused: false,
    }
}
