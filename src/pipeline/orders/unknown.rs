//! What came of a request, and how that is found out when nobody knows.

use super::{Answer, Found, Live, Orders, OrdersEffect, Remedy, Resolution, Said, Stage};
use crate::domain::{ClientOrderId, Refusal, SignalIdentity, SlotCommand, SlotOutcome, Timestamp};

use super::clock::ExchangeClock;

impl Orders {
    /// What came of a request.
    pub fn on_answer(
        &mut self,
        client_id: &ClientOrderId,
        attempt: u32,
        answer: Answer,
        now: Timestamp,
    ) -> Vec<OrdersEffect> {
        let Some(signal) = self.by_client_id.get(client_id).cloned() else {
            return self.go_on(now);
        };
        let (is_repeating, poll) = (self.is_repeating(), self.config.poll);
        let Some(live) = self.live.get_mut(&signal) else { return self.go_on(now) };
        if let Answer::Accepted(report) = answer {
            // However late it comes.
            self.on_seen(&signal, &report, now);
            return self.go_on(now);
        }
        if live.stage != Stage::Sent || live.attempt != attempt {
            return self.go_on(now);
        }
        match answer {
            Answer::Accepted(_) => {}
            // Of this attempt not a byte was sent: no more is known of an earlier one, and no less.
            Answer::Refused(Refusal::NotConnected) if is_repeating && attempt > 1 => {
                live.stage = Stage::AskingAgain { is_conclusive: true, at: now.after(poll) };
            }
            // An earlier attempt may still arrive, and be taken.
            Answer::Refused(_) if is_repeating && attempt > 1 => self.quarantine(&signal),
            Answer::Refused(refusal) => self.end(&signal, SlotOutcome::Refused, Some(refusal)),
            Answer::Expired => {
                self.clock = ExchangeClock::default();
                self.counters.too_late += 1;
                self.retry_or_end(&signal, now);
            }
            Answer::Duplicate => self.ask(&signal, false),
            Answer::Unknown { is_servers } => {
                self.counters.unknown += 1;
                self.on_unknown(&signal, is_servers);
            }
        }
        self.go_on(now)
    }

    pub(super) fn on_unknown(&mut self, signal: &SignalIdentity, is_servers: bool) {
        let settle = if is_servers { self.config.settle_after_error } else { self.config.settle };
        self.say(signal, Said::Unknown);
        let Some(live) = self.live.get_mut(signal) else { return };
        match self.config.capabilities.resolution() {
            Resolution::Deadline => {
                live.stage = Stage::Waiting { until: live.deadline.after(settle) };
            }
            Resolution::Seal => {
                live.stage = Stage::Waiting { until: Timestamp::default() };
                self.recovery.wants_seal = true;
            }
            Resolution::Repeat => self.ask(signal, true),
            Resolution::Quarantine => self.quarantine(signal),
        }
    }

    pub(super) fn quarantine(&mut self, signal: &SignalIdentity) {
        let Some(live) = self.live.get_mut(signal) else { return };
        live.stage = Stage::Quarantined;
        self.counters.quarantined += 1;
        self.note_changed(signal);
        let Some(live) = self.live.get(signal) else { return };
        self.recovered.treat(&live.client_id, Remedy::Left);
        let Some((slot, generation)) = live.slot.clone() else { return };
        self.effects.push(OrdersEffect::Alarm(format!(
            "slot {slot} stays closed: it cannot be found out whether the exchange has order {}; \
             look there",
            live.client_id
        )));
        let command = SlotCommand::Quarantine { slot, generation };
        self.queue.push_back((signal.clone(), command, None));
    }

    /// A person has looked at the exchange for an order that nobody can find out about, or that nobody here
    /// asks for where only sending it again would tell, and makes sure that nothing of it is under way: the
    /// exchange has it, or never will. Returns none if there is no such order.
    pub fn release(
        &mut self,
        client_id: &ClientOrderId,
        is_there: bool,
        now: Timestamp,
    ) -> Option<Vec<OrdersEffect>> {
        let signal = self.by_client_id.get(client_id)?.clone();
        let waits = |live: &&Live| match live.stage {
            Stage::Quarantined => true,
            Stage::Asking { .. } | Stage::AskingAgain { .. } => live.order.is_none(),
            Stage::Opening
            | Stage::Retrying
            | Stage::Sent
            | Stage::Waiting { .. }
            | Stage::Placed { .. }
            | Stage::Ending { .. }
            | Stage::Lost
            | Stage::Searching => false,
        };
        let live = self.live.get(&signal).filter(waits)?;
        if is_there {
            self.ask(&signal, false);
        } else {
            let said = (!live.is_unwanted).then_some(Refusal::Unavailable);
            self.end(&signal, SlotOutcome::Released, said);
        }
        Some(self.go_on(now))
    }

    pub(super) fn ask(&mut self, signal: &SignalIdentity, is_conclusive: bool) {
        let Some(live) = self.live.get_mut(signal) else { return };
        live.stage = Stage::Asking { is_conclusive };
        let (client_id, symbol) = (live.client_id.clone(), live.symbol.clone());
        self.effects.push(OrdersEffect::Query { client_id, symbol });
    }

    /// What the exchange says to a question about an order.
    pub fn on_found(
        &mut self,
        client_id: &ClientOrderId,
        found: &Found,
        now: Timestamp,
    ) -> Vec<OrdersEffect> {
        let Some(signal) = self.by_client_id.get(client_id).cloned() else {
            self.on_stray_asked(client_id, found);
            return self.go_on(now);
        };
        let Some(live) = self.live.get_mut(&signal) else { return self.go_on(now) };
        match (found, live.stage) {
            (Found::Order(report), stage) => {
                self.counters.found += u64::from(matches!(stage, Stage::Asking { .. }));
                self.on_seen(&signal, report, now);
            }
            (Found::Nothing, Stage::Asking { is_conclusive: true }) => {
                self.counters.not_found += 1;
                self.retry_or_end(&signal, now);
            }
            (Found::Nothing, Stage::Asking { is_conclusive: false }) => {
                self.on_unknown(&signal, false);
            }
            (Found::Failed, Stage::Asking { is_conclusive }) => {
                let at = now.after(self.config.poll);
                live.stage = Stage::AskingAgain { is_conclusive, at };
            }
            // Whoever has it and does not know it just now is asked again.
            (Found::Nothing | Found::Failed, _) => {}
        }
        self.go_on(now)
    }

    pub(super) fn is_repeating(&self) -> bool {
        self.config.capabilities.resolution() == Resolution::Repeat
    }

    /// An order's last attempt did not get there, and cannot any more.
    pub(super) fn retry_or_end(&mut self, signal: &SignalIdentity, now: Timestamp) {
        let Some(live) = self.live.get(signal) else { return };
        let is_repeat = self.is_repeating();
        let is_wanted = live.order.is_some() && live.slot.is_some() && !live.is_unwanted;
        if is_wanted && (live.attempt < self.config.attempts_max || is_repeat) {
            let (Some(order), Some((slot, generation))) = (&live.order, live.slot.clone()) else {
                return;
            };
            let attempt = live.attempt;
            let request = self.request(live, order, attempt + 1, now);
            self.recovered.miss(&live.client_id, Remedy::SentAgain);
            let (deadline, hash) = (request.deadline(), request.hash());
            let command = SlotCommand::Retry { slot, generation, attempt, deadline, request: hash };
            self.queue.push_back((signal.clone(), command, Some(request)));
            if let Some(live) = self.live.get_mut(signal) {
                live.stage = Stage::Retrying;
            }
            return;
        }
        if is_repeat && live.is_unwanted && live.slot.is_some() {
            // To send it again, which would settle it, is what nobody wants.
            return self.quarantine(signal);
        }
        // One whose slot has ended was resolved by somebody else.
        let is_repeat = is_repeat && live.slot.is_some();
        if is_repeat {
            // Whoever asked for it may do so again, and then it can be sent.
            let at = now.after(self.config.poll);
            if let Some(live) = self.live.get_mut(signal) {
                live.stage = Stage::AskingAgain { is_conclusive: true, at };
            }
            return;
        }
        let said = (!live.is_unwanted).then_some(Refusal::Unavailable);
        self.recovered.miss(&live.client_id, Remedy::GivenUp);
        self.end(signal, SlotOutcome::NotPlaced, said);
    }
}
