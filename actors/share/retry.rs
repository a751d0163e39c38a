//! What becomes of a unit that was given up here: it is begun again a few times, and then another node is
//! told to have it.

use std::time::Instant;

use tickwright_core::cluster::{Owners, Retry, Unit};
use tickwright_core::domain::Timestamp;

use super::{ShareEvent, Worker};
use crate::kit::monotonic_nanos;
use crate::node::units::UnitCopies;
use crate::run::start_error;

/// A unit that was given up here.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) epoch: u64,
    pub(super) reason: String,
    /// When it is begun here again; never, if it is left to others.
    pub(super) due: Option<Instant>,
}

fn now() -> Timestamp {
    Timestamp::from_nanos(monotonic_nanos())
}

impl Worker {
    /// Begins `unit` here.
    pub(super) async fn begin(&mut self, unit: Unit, epoch: u64) {
        let log = self.units.log_tree(unit).and_then(|tree| self.copies.log(unit, epoch, tree));
        let copies = UnitCopies { checkpoints: self.copies.outlet(unit, epoch), log };
        match self.units.start(unit, epoch, copies).await {
            Ok(()) => self.retries.on_begun(unit, now()),
            Err(error) => {
                let reason = start_error(&error, &self.store).to_string();
                self.on_failed(unit, epoch, reason);
            }
        }
    }

    /// The tree of `unit` has ended.
    pub(super) async fn on_ended(&mut self, unit: Unit) {
        let epoch = self.units.here_since().find(|&(here, _)| here == unit).map(|(_, at)| at);
        let reasons = self.units.statistics().failures().join("; ");
        self.units.stop(unit).await;
        match (self.store.failure(), epoch) {
            // No other attempt makes room on a disk.
            (Some(failure), _) => self.fail(failure.to_string()),
            (None, Some(epoch)) => {
                self.on_failed(unit, epoch, format!("{unit} gave up: {reasons}"))
            }
            (None, None) => {}
        }
    }

    pub(super) fn on_failed(&mut self, unit: Unit, epoch: u64, reason: String) {
        let retry = self.retries.on_failed(unit, now());
        let due = match retry {
            Retry::Again { after, attempt } => {
                self.tell(ShareEvent::Retries { unit, attempt, reason: reason.clone() });
                Some(Instant::now() + after)
            }
            // Nobody else may have it.
            Retry::Not if self.is_fixed => {
                self.fail(reason);
                return;
            }
            Retry::Not => {
                self.tell(ShareEvent::GaveUp { unit, reason: reason.clone() });
                None
            }
        };
        self.troubles.insert(unit, Trouble { epoch, reason, due });
        self.tell_given_up();
    }

    /// Whether `unit` must not be begun at this epoch just because it is this node's.
    pub(super) fn is_in_trouble(&self, unit: Unit, epoch: u64) -> bool {
        self.troubles.get(&unit).is_some_and(|trouble| trouble.epoch == epoch)
    }

    /// Units have these owners now: what was in trouble here may be somebody else's, or nobody's, which
    /// is the end.
    pub(super) fn settle_troubles(&mut self, owners: &Owners) {
        let own = self.network.own().id.clone();
        let mut left = Vec::new();
        self.troubles.retain(|&unit, trouble| {
            let owner = owners.get(&unit);
            let stays = owner.is_some_and(|(node, epoch)| *node == own && *epoch == trouble.epoch);
            if !stays {
                left.push((unit, owner.is_none() && trouble.due.is_none(), trouble.reason.clone()));
            }
            stays
        });
        for (unit, is_nobodys, reason) in left {
            self.retries.on_lost(unit);
            if is_nobodys {
                self.fail(format!("every node has given {unit} up; here: {reason}"));
            }
        }
        self.tell_given_up();
    }

    /// Begins what is due.
    pub(super) async fn retry_due(&mut self) {
        let is_due = |trouble: &Trouble| trouble.due.is_some_and(|due| due <= Instant::now());
        let due: Vec<(Unit, u64)> = self
            .troubles
            .iter()
            .filter(|(_, trouble)| is_due(trouble))
            .map(|(&unit, trouble)| (unit, trouble.epoch))
            .collect();
        let due = self.bring(due).await;
        for (unit, epoch) in due {
            self.troubles.remove(&unit);
            self.begin(unit, epoch).await;
        }
    }

    /// Lets the allocator know what is left to others.
    fn tell_given_up(&self) {
        let left = self.troubles.iter().filter(|(_, trouble)| trouble.due.is_none());
        let left = left.map(|(&unit, trouble)| (unit, (trouble.epoch, trouble.reason.clone())));
        let left = left.collect();
        self.given_up.send_if_modified(|known| {
            let is_news = *known != left;
            *known = left;
            is_news
        });
    }
}
