//! What kill switches do to orders that nobody here has asked for.
//!
//! Exec takes back what it knows of by itself ([`Orders::cancel`]). An order that a slot holds, and that nobody asks for
//! any more since journals or parameters are other ones, is known to nobody but this core.

use std::collections::BTreeSet;

use super::{Orders, OrdersEffect};
use crate::domain::{SignalIdentity, Symbol, Timestamp};

/// What of an account is stopped by kill switches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Everything.
    pub all: bool,
    /// Strategies, by name.
    pub strategies: BTreeSet<String>,
    /// Symbols.
    pub symbols: BTreeSet<Symbol>,
}

impl Stopped {
    /// Whether an order for `signal` is stopped.
    pub fn has(&self, signal: &SignalIdentity) -> bool {
        self.all
            || self.strategies.contains(&signal.strategy)
            || self.symbols.contains(&signal.symbol)
    }
}

impl Orders {
    /// What is stopped from now on, in place of what was. An order of that scope that nobody here has asked for is not
    /// wanted any more, whether it is known already or found later.
    pub fn stop(&mut self, stopped: Stopped, now: Timestamp) -> Vec<OrdersEffect> {
        self.stopped = stopped;
        let unasked = self.live.iter().filter(|(_, live)| live.order.is_none());
        let unasked = unasked.filter(|(signal, _)| self.stopped.has(signal));
        let unasked: Vec<SignalIdentity> = unasked.map(|(signal, _)| signal.clone()).collect();
        unasked.iter().for_each(|signal| self.give_up(signal));
        self.go_on(now)
    }
}
