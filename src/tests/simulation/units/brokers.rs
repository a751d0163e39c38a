//! Brokers that answer every order in the same way.

use tickwright_core::domain::{
    BrokerEvent, BrokerEventKind, BrokerId, Key, OrderId, Quantity, TickBatch, Timestamp,
};
use tickwright_core::stream::Run;

use super::LATENCY;

/// Brokers that close every order some time after it has left, and have seen some rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Brokers(pub(super) Vec<(OrderId, Key)>, Vec<Key>);

impl Brokers {
    pub(super) fn take(&mut self, runs: Vec<Run<TickBatch>>) {
        for run in runs {
            // Rows that were shipped ahead of a checkpoint come again.
            let last = self.1.last().copied().unwrap_or(Key::START);
            let keys = run.rows.map(|row| run.block.key(&run.block.rows[row]));
            self.1.extend(keys.filter(|&key| key > last));
        }
    }

    pub(super) fn due(&mut self, to: u64) -> Vec<BrokerEvent> {
        let mut due = Vec::new();
        let rows = &self.1;
        self.0.retain(|(order, placed_at)| {
            let at = placed_at.frontier.as_nanos() + LATENCY;
            if at <= to {
                // A trace of every row the order could have traded against.
                let seen = |key: &&Key| *key > placed_at && key.frontier.as_nanos() < at;
                due.push(BrokerEvent {
                    due: Timestamp::from_nanos(at),
                    order: *order,
                    ordinal: u32::try_from(rows.iter().filter(seen).count()).unwrap(),
                    broker: BrokerId(0),
                    kind: BrokerEventKind::Closed { remaining: Quantity::ZERO },
                });
            }
            at > to
        });
        // No order that may still come can have been placed before these.
        let last = self.1.last().map_or(0, |key| key.frontier.as_nanos());
        self.1.retain(|key| key.frontier.as_nanos() + 4 * LATENCY >= last);
        due.sort_by_key(BrokerEvent::sort_key);
        due
    }
}
