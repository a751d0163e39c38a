//! Whether the exchange has accepted two orders where there may be one: for one signal, or in one generation of a
//! slot.
//!
//! Everything else here is there so that this does not happen. It is noticed all the same, whatever tells of the
//! second order: a copy of which only the exchange knows is one that nobody here asks for. The same order told again is
//! no second one, and what the exchange has refused it does not tell of.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{OrderReport, Orders, OrdersEffect};
use crate::domain::{ClientOrderId, SignalTag, Symbol};

/// Orders that are remembered, to tell a second one by. A history is looked through in the exchange's order, in which
/// the two of a signal are near each other.
const FIRST_MAX: usize = 256;

/// Second ones that are remembered, so that each counts once.
const SECOND_MAX: usize = 64;

/// An order that the exchange has accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct First {
    client_id: ClientOrderId,
    /// The exchange's number of it.
    order: u64,
}

/// What survives of [`Accepted`] in exec's checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AcceptedSnapshot {
    /// The first order of each signal and generation, the oldest first. At most [`FIRST_MAX`].
    first: VecDeque<First>,
    /// Those that were found beside one of them, the oldest first. At most [`SECOND_MAX`].
    second: VecDeque<(Symbol, u64)>,
    /// How many that were.
    count: u64,
}

/// What the exchange has accepted.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    kept: AcceptedSnapshot,
    /// The first orders by what asked for them. As many.
    by_signal: BTreeMap<SignalTag, First>,
    /// The same by what stands for a slot and its generation in their names.
    by_generation: BTreeMap<String, First>,
}

impl Accepted {
    pub(super) fn new(kept: AcceptedSnapshot) -> Self {
        let mut accepted = Self::default();
        kept.first.iter().for_each(|first| accepted.list(first));
        accepted.kept = kept;
        accepted
    }

    pub(super) fn snapshot(&self) -> AcceptedSnapshot {
        self.kept.clone()
    }

    /// How many orders were accepted beside another.
    pub(super) const fn count(&self) -> u64 {
        self.kept.count
    }

    /// The exchange has this order. Returns another one that it has for the same signal or generation, once.
    fn note(&mut self, client_id: &ClientOrderId, symbol: &Symbol, order: u64) -> Option<First> {
        self.remember(client_id, order);
        let other = self.of_the_same(client_id).find(|first| first.order != order)?.clone();
        let second = (symbol.clone(), order);
        if self.kept.second.contains(&second) {
            return None;
        }
        if self.kept.second.len() >= SECOND_MAX {
            self.kept.second.pop_front();
        }
        self.kept.second.push_back(second);
        self.kept.count += 1;
        Some(other)
    }

    /// Keeps an order, if it is the first of its signal and generation.
    fn remember(&mut self, client_id: &ClientOrderId, order: u64) {
        if self.of_the_same(client_id).next().is_some() {
            return;
        }
        if self.kept.first.len() >= FIRST_MAX
            && let Some(oldest) = self.kept.first.pop_front()
            && let Some((signal, generation)) = parts(&oldest.client_id)
        {
            self.by_signal.remove(&signal);
            self.by_generation.remove(generation);
        }
        let first = First { client_id: client_id.clone(), order };
        self.list(&first);
        self.kept.first.push_back(first);
    }

    fn list(&mut self, first: &First) {
        if let Some((signal, generation)) = parts(&first.client_id) {
            self.by_signal.insert(signal, first.clone());
            self.by_generation.insert(generation.to_owned(), first.clone());
        }
    }

    /// What is remembered of the signal and the generation of an order.
    fn of_the_same(&self, client_id: &ClientOrderId) -> impl Iterator<Item = &First> {
        let parts = parts(client_id);
        let of_signal = parts.and_then(|(signal, _)| self.by_signal.get(&signal));
        let of_generation = parts.and_then(|(_, generation)| self.by_generation.get(generation));
        of_signal.into_iter().chain(of_generation)
    }
}

/// The signal in a name, and what stands there for the slot and its generation.
fn parts(client_id: &ClientOrderId) -> Option<(SignalTag, &str)> {
    let name = client_id.as_str();
    ClientOrderId::tag_in(name).zip(ClientOrderId::slot_part_in(name))
}

impl Orders {
    /// The exchange tells of an order: if it is one of ours, it was accepted.
    pub(super) fn note_accepted(&mut self, report: &OrderReport) {
        let named = ClientOrderId::parse(&report.client_id);
        let Some((client_id, tag)) = named.zip(ClientOrderId::tag_in(&report.client_id)) else {
            return;
        };
        // What was found long ago may not be remembered otherwise.
        if let Some(spent) = self.recovery.spent.get(&tag)
            && let Some(name) = ClientOrderId::parse(&spent.client_id)
        {
            self.accepted.remember(&name, spent.order);
        }
        let Some(other) = self.accepted.note(&client_id, &report.symbol, report.order) else {
            return;
        };
        self.counters.accepted_twice = self.accepted.count();
        self.effects.push(OrdersEffect::Alarm(format!(
            "{} has accepted two orders in {} where there may be one: {} (order {}) and {client_id} (order {}); look \
             there, and undo what is too much",
            self.config.venue, report.symbol, other.client_id, other.order, report.order
        )));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Key, OrderId, Side, SignalIdentity, SlotKey, VenueAccount};

    /// What is asked for by this signal in this generation of the one slot.
    fn name(signal: u64, generation: u64) -> ClientOrderId {
        let symbol = Symbol::new("A.X").unwrap();
        let venue = VenueAccount { exchange: "x".into(), account: "a".into() };
        let slot = SlotKey { venue, symbol: symbol.clone(), side: Side::Buy, level: 0 };
        let id = OrderId { key: Key { sequence: signal, ..Key::START }, ordinal: 0 };
        let signal = SignalIdentity { run: "r".into(), strategy: "s".into(), symbol, id };
        ClientOrderId::new(1, &slot, generation, signal.tag())
    }

    /// Which order it is found beside.
    fn note(accepted: &mut Accepted, signal: u64, generation: u64, order: u64) -> Option<u64> {
        let symbol = Symbol::new("A.X").unwrap();
        let other = accepted.note(&name(signal, generation), &symbol, order);
        other.map(|first| first.order)
    }

    #[test]
    fn a_signal_and_a_generation_have_one_order_each() {
        let mut accepted = Accepted::default();
        assert_eq!(note(&mut accepted, 1, 1, 10), None);
        assert_eq!(note(&mut accepted, 2, 2, 11), None);
        assert_eq!(note(&mut accepted, 1, 1, 10), None, "the same again");
        assert_eq!(note(&mut accepted, 1, 1, 12), Some(10), "under the same name");
        assert_eq!(note(&mut accepted, 2, 3, 13), Some(11), "the same signal");
        assert_eq!(note(&mut accepted, 3, 2, 14), Some(11), "the same generation");
        let mut again = Accepted::new(accepted.snapshot());
        for (signal, generation, order) in [(1, 1, 10), (1, 1, 12), (2, 3, 13), (3, 2, 14)] {
            assert_eq!(note(&mut again, signal, generation, order), None, "said before");
        }
        assert_eq!(again.count(), 3);
        assert_eq!(again.snapshot(), accepted.snapshot());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_is_forgotten() {
        let mut accepted = Accepted::default();
        for number in 0..300 {
            assert_eq!(note(&mut accepted, number, number, number), None);
        }
        assert_eq!(accepted.kept.first.len(), FIRST_MAX);
        let lens = (accepted.by_signal.len(), accepted.by_generation.len());
        assert_eq!(lens, (FIRST_MAX, FIRST_MAX));
        assert_eq!(note(&mut accepted, 0, 0, 400), None, "forgotten");
        assert_eq!(note(&mut accepted, 299, 299, 401), Some(299));
        for order in 500..600 {
            note(&mut accepted, 299, 299, order);
        }
        assert_eq!((accepted.kept.second.len(), accepted.count()), (SECOND_MAX, 101));
    }
}
