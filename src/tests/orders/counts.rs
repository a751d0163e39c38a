//! What the seeds have seen.

use tickwright_core::pipeline::orders::OrdersCounters;

use crate::resolved::Timed;

/// What all seeds together have seen.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    /// Runs in which two accounts had orders at the exchange.
    pub(crate) beside: u64,
    pub(crate) events: u64,
    pub(crate) lives: u64,
    pub(crate) ledgers: u64,
    pub(crate) timed: Timed,
    pub(crate) core: OrdersCounters,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.beside += other.beside;
        self.events += other.events;
        self.lives += other.lives;
        self.ledgers += other.ledgers;
        self.timed.add(other.timed);
        let (a, b) = (&mut self.core, &other.core);
        a.sent += b.sent;
        a.too_late += b.too_late;
        a.unknown += b.unknown;
        a.found += b.found;
        a.not_found += b.not_found;
        a.retried += b.retried;
        a.spent += b.spent;
        a.slot_busy += b.slot_busy;
        a.orphans += b.orphans;
        a.quarantined += b.quarantined;
        a.cancelled += b.cancelled;
        a.told += b.told;
        a.strays += b.strays;
    }

    /// That everything there is to be seen was.
    pub(crate) fn check(&self) {
        let core = &self.core;
        let seen = [
            core.unknown,
            core.found,
            core.not_found,
            core.retried,
            core.spent,
            core.too_late,
            core.slot_busy,
            core.quarantined,
            core.orphans,
            core.cancelled,
            core.told,
            core.strays,
            self.timed.intents,
        ];
        assert!(
            self.accepted > 0 && self.beside > 0 && seen.iter().all(|&seen| seen > 0),
            "{self:?}"
        );
    }
}

pub(crate) fn add(to: &mut OrdersCounters, of: &OrdersCounters) {
    let mut counts = Counts { core: *to, ..Counts::default() };
    counts.add(&Counts { core: *of, ..Counts::default() });
    *to = counts.core;
}
