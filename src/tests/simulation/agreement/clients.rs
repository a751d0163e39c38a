//! Programs that use the registers and the order slots, and write down what they see.
//!
//! A slot is a register whose versions are known beforehand: free at generation `g` is 2g, with an order
//! 2g + 1. To open it and to end its order are then writes that expect a version.

use tickwright_core::domain::{
    ClientOrderId, Key, OrderId, OrderIntent, Price, Quantity, Side, SignalIdentity, SlotCommand,
    SlotDone, SlotKey, SlotOutcome, SlotRefusal, SlotRight, Span, Symbol, Timestamp, VenueAccount,
};
use tickwright_core::ledger::{Command, Operation, OperationId, Outcome, Refusal};

use super::{Asking, Why};
use crate::history::{Entry, SLOTS, Saw};
use crate::world::{Broken, What, World};

/// Opens a slot that is expected to be free, or ends the order that it is expected to hold.
fn change(register: u64, expected: u64, serial: u64) -> Operation {
    let venue = VenueAccount { exchange: "x".into(), account: "a".into() };
    let symbol = Symbol::new("A.X").unwrap();
    let level = i64::try_from(register).unwrap();
    let slot = SlotKey { venue: venue.clone(), symbol: symbol.clone(), side: Side::Buy, level };
    let generation = expected / 2;
    let command = if expected.is_multiple_of(2) {
        // Each of a run of its own, so that its signal is new.
        let (run, id) = (serial.to_string(), OrderId { key: Key::START, ordinal: 1 });
        let signal = SignalIdentity { run, strategy: "s".into(), symbol, id };
        let intent = OrderIntent {
            client_id: ClientOrderId::new(1, &slot, generation, signal.tag()),
            signal,
            quantity: Quantity(1),
            limit_price: Price(1),
            deadline: Timestamp::default(),
            request: [0; 32],
        };
        let right = SlotRight::NewSignal;
        SlotCommand::Open { slot, generation, intent: Box::new(intent), right }
    } else {
        SlotCommand::End { slot, generation, attempt: None, outcome: SlotOutcome::Closed }
    };
    Operation::Slots(vec![SlotCommand::Reconciled { venue }, command])
}

impl World {
    /// A program on this node reads a register, or writes it.
    pub(crate) fn client_due(&mut self, node: usize) {
        let wait = self.random.range(200, 1_500);
        self.after(node, Span::from_millis(wait), What::ClientDue);
        let is_slot = self.random.percent(30);
        let register =
            if is_slot { SLOTS + self.random.range(0, 2) } else { self.random.range(0, 3) };
        let is_write = is_slot || self.random.percent(60);
        let serial = self.random.draw();
        if !self.run_of(node).join.is_done() || self.run_of(node).agreement.is_busy {
            return;
        }
        let name = format!("register/{register}");
        let now = self.now;
        let agreement = &mut self.run_of(node).agreement;
        agreement.is_busy = true;
        let expected = agreement.known.get(&register).copied().unwrap_or(0);
        agreement.number += 1;
        let id = OperationId {
            client: agreement.client,
            number: agreement.number,
            since: agreement.copy.revision(),
        };
        let value = is_write.then(|| serial.to_le_bytes().to_vec());
        let command = value.clone().map(|value| Command {
            id: Some(id),
            operation: match is_slot {
                true => change(register, expected, serial),
                false => Operation::Cas { key: name, expected, value: Some(value) },
            },
        });
        let entry = self.service.history.len();
        let saw = Saw::Nothing;
        self.service.history.push(Entry {
            register,
            expected,
            value,
            asked: now,
            answered: None,
            saw,
        });
        self.submit(node, command, Span::from_secs(3), Why::Client(entry));
    }

    pub(super) fn on_client(
        &mut self,
        node: usize,
        entry: usize,
        outcome: Asking,
    ) -> Result<(), Broken> {
        if let Asking::Index(index) = outcome {
            let agreement = &mut self.run_of(node).agreement;
            if agreement.applied < index {
                agreement.reads.push((index, entry));
            } else {
                self.finish_read(node, entry);
            }
            return Ok(());
        }
        let saw = match outcome {
            Asking::Answered(Ok(Outcome::Written { version })) => Saw::Written(version),
            Asking::Answered(Err(Refusal::Conflict { version, .. })) => Saw::Version(version),
            Asking::Answered(Ok(Outcome::Slots(results))) => match results.last() {
                Some(Ok(SlotDone::Done)) => Saw::Written(self.service.history[entry].expected + 1),
                Some(Err(SlotRefusal::Conflict { generation, attempt })) => {
                    Saw::Version(2 * generation + u64::from(*attempt > 0))
                }
                other => return Err(format!("(6) a slot said {other:?}")),
            },
            Asking::Answered(other) => return Err(format!("(6) a register said {other:?}")),
            Asking::NotDone | Asking::Unknown | Asking::Index(_) => Saw::Nothing,
        };
        self.finish(node, entry, saw);
        Ok(())
    }

    pub(super) fn finish_read(&mut self, node: usize, entry: usize) {
        let register = self.service.history[entry].register;
        let copy = &self.run_of(node).agreement.copy;
        let found = copy.read(&format!("register/{register}"));
        let saw =
            found.map_or(Saw::Version(0), |found| Saw::Value(found.version, found.value.clone()));
        self.finish(node, entry, saw);
    }

    fn finish(&mut self, node: usize, entry: usize, saw: Saw) {
        let now = self.now;
        let agreement = &mut self.run_of(node).agreement;
        agreement.is_busy = false;
        let register = self.service.history[entry].register;
        if let Saw::Written(version) | Saw::Version(version) | Saw::Value(version, _) = &saw {
            let version = *version;
            self.run_of(node).agreement.known.insert(register, version);
            self.service.history[entry].answered = Some(now);
        }
        self.service.history[entry].saw = saw;
    }
}
