//! Programs that use the registers, and write down what they see.

use tickwright_core::domain::Span;
use tickwright_core::ledger::{Command, Operation, OperationId, Outcome, Refusal};

use super::{Asking, Why};
use crate::history::{Entry, Saw};
use crate::world::{Broken, What, World};

impl World {
    /// A program on this node reads a register, or writes it.
    pub(crate) fn client_due(&mut self, node: usize) {
        let wait = self.random.range(200, 1_500);
        self.after(node, Span::from_millis(wait), What::ClientDue);
        let register = self.random.range(0, 3);
        let is_write = self.random.percent(60);
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
            operation: Operation::Cas { key: name, expected, value: Some(value) },
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
