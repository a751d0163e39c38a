//! Changing parameters of a running node.

use std::time::Duration;

use tickwright_core::domain::{Key, ParameterChange, Timestamp};
use tickwright_core::pipeline::factors::FactorError;
use tickwright_core::pipeline::strategy::StrategyError;

use super::report::ask;
use super::{Node, Wiring, factor_engine, factors, risk, strategy};
use crate::factors::FactorsMessage;
use crate::kit::{CHANGE_COUNT_MAX, StoreError};
use crate::risk::RiskMessage;
use crate::strategy::StrategyMessage;

/// Why parameters were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// They make no sense.
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    /// They need a factor that cannot be computed.
    #[error(transparent)]
    Factor(#[from] FactorError),
    /// There were too many changes in this run.
    #[error("{CHANGE_COUNT_MAX} changes of parameters are the most that a run can take")]
    TooMany,
    /// Event time is there already.
    #[error("event time has reached {} ns; name a later time than {} ns", reached.as_nanos(), at.as_nanos())]
    Late {
        /// When they were to hold.
        at: Timestamp,
        /// How far a shard has come.
        reached: Timestamp,
    },
    /// Everything has been decided.
    #[error("the run is over")]
    Over,
    /// A shard does not answer.
    #[error("{0}")]
    Unanswered(String),
    /// The change cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps every shard before a time, until it is dropped.
struct Hold<'a>(&'a Node);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.wiring.control.release();
        for shard in 0..self.0.shards {
            // One that is being restarted looks by itself.
            let _ = self.0.directory.tell(&factors::role(shard), FactorsMessage::Control);
            let _ = self.0.directory.tell(&strategy::role(shard), StrategyMessage::Control);
        }
    }
}

impl Node {
    /// Changes parameters of a strategy while it runs; returns the event time from which they hold:
    /// `at`, or as soon as may be. They hold from the same row after a restart, and in every run that
    /// is given the same change at the same time. Those not given stay as they are.
    ///
    /// Factors that are needed from then on begin at the first row that the change holds for, and are
    /// unknown until they have seen enough; those that nobody needs any longer end there, and the
    /// others go on.
    ///
    /// # Errors
    ///
    /// [`ChangeError`], and nothing has changed.
    pub async fn set_parameters(
        &self,
        strategy: usize,
        parameters: &[(String, f64)],
        at: Option<Timestamp>,
        patience: Duration,
    ) -> Result<Timestamp, ChangeError> {
        let control = &self.wiring.control;
        let _turn = control.turn().await;
        let mut reached = self.decided(patience).await?;
        let mut lead = Duration::from_secs(1);
        loop {
            let at_or_soon = at.unwrap_or_else(|| reached.after(lead));
            let change =
                ParameterChange { at: at_or_soon, strategy, parameters: parameters.to_vec() };
            self.try_change(&change)?;
            control.hold(change.at);
            let hold = Hold(self);
            reached = self.decided(patience).await?;
            if reached < change.at {
                // Blocks for one write: were this to be waited for, and the waiting given up, the
                // hold would be lifted before it is known whether the change was stored.
                control.record(change)?;
                return Ok(at_or_soon);
            }
            drop(hold);
            if reached == Key::END.frontier {
                return Err(ChangeError::Over);
            }
            if let Some(at) = at {
                return Err(ChangeError::Late { at, reached });
            }
            lead *= 4;
        }
    }

    /// The furthest that a shard, or exec by what it got from one, has come, ever.
    async fn decided(&self, patience: Duration) -> Result<Timestamp, ChangeError> {
        // Whoever answers has seen a hold that was set before, and says in the log how far it was.
        for shard in 0..self.shards {
            let role = factors::role(shard);
            let report = ask(&self.directory, &role, FactorsMessage::Report, patience).await;
            report.map_err(ChangeError::Unanswered)?;
            let role = strategy::role(shard);
            let report = ask(&self.directory, &role, StrategyMessage::Report, patience).await;
            report.map_err(ChangeError::Unanswered)?;
        }
        // Its checkpoint may be ahead of those of the shards.
        let risk = ask(&self.directory, risk::ROLE, RiskMessage::Report, patience).await;
        let reached = risk.map_err(ChangeError::Unanswered)?.complete.frontier;
        Ok(reached.max(self.wiring.control.passed()))
    }

    /// Finds out, away from the shards, whether `change` can be taken over.
    fn try_change(&self, change: &ParameterChange) -> Result<(), ChangeError> {
        let Wiring { config, kinds, needs, control, .. } = &self.wiring;
        let known = control.current();
        if known.changes.len() >= CHANGE_COUNT_MAX {
            return Err(ChangeError::TooMany);
        }
        let mut needs = needs.clone();
        let (before, after) = known.changes.split_at(known.count_at(change.at));
        before.iter().try_for_each(|change| needs.change(change))?;
        for change in [change].into_iter().chain(after) {
            needs.change(change)?;
            factor_engine(config, kinds, &needs)?;
        }
        Ok(())
    }
}
