//! Changing parameters of a running node: what is agreed on is what its control log holds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tickwright_core::domain::{Control, MadeChange, Timestamp};
use tokio::time::{Instant, sleep_until};

use super::report::ask;
use super::{Node, Wiring, factor_engine, factors, risk, strategy};
use crate::factors::FactorsMessage;
use crate::kit::{ControlLog, Directory};
use crate::parameters::{Agreement, Answer, ChangeError, Parameters, Plan, Reached, Reason};
use crate::risk::RiskMessage;
use crate::strategy::StrategyMessage;

/// The parts of a pipeline, or those of them that are here, that have to know of changes.
#[derive(Clone, Debug)]
pub(crate) struct Controlled {
    log: ControlLog,
    directory: Directory,
    shards: usize,
}

impl Controlled {
    /// Shows what was agreed on by `revision`.
    pub(crate) fn show(&self, revision: u64, control: Control) {
        if self.log.show(revision, control) {
            self.tell();
        }
    }

    /// Whoever waits may go on, or has something new to wait for.
    fn tell(&self) {
        for shard in 0..self.shards {
            // One that is being restarted looks by itself, and others are elsewhere.
            let _ = self.directory.tell(&factors::role(shard), FactorsMessage::Control);
            let _ = self.directory.tell(&strategy::role(shard), StrategyMessage::Control);
        }
        let _ = self.directory.tell(risk::ROLE, RiskMessage::Control);
    }
}

/// How far a shard is. Whoever answers sees a hold that was set before, and goes no further than that.
pub(super) async fn reached_by_shard(
    directory: &Directory,
    shard: usize,
    patience: Duration,
) -> Result<Timestamp, String> {
    let role = factors::role(shard);
    let factors = ask(directory, &role, FactorsMessage::Reached, patience).await?;
    let role = strategy::role(shard);
    let strategies = ask(directory, &role, StrategyMessage::Reached, patience).await?;
    Ok(factors.max(strategies))
}

/// How far exec is, by what it got from any shard: that may be further than the shard is now.
pub(super) async fn reached_by_exec(
    directory: &Directory,
    patience: Duration,
) -> Result<Timestamp, String> {
    ask(directory, risk::ROLE, RiskMessage::Reached, patience).await
}

/// Agreement within one process.
struct Here {
    parts: Controlled,
    /// The hold, and until when it lasts.
    lease: Arc<Mutex<(u64, Instant, Duration)>>,
}

impl Here {
    fn lease(&self) -> std::sync::MutexGuard<'_, (u64, Instant, Duration)> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_held(&self, number: u64) -> bool {
        self.parts.log.current().hold().is_some_and(|hold| hold.number == number)
    }

    /// Ends hold `number` once its lease is over. One such task for each hold, until that.
    async fn watch(parts: Controlled, lease: Arc<Mutex<(u64, Instant, Duration)>>, number: u64) {
        loop {
            let (held, until, _) = *lease.lock().unwrap_or_else(PoisonError::into_inner);
            if held != number {
                return;
            }
            if Instant::now() >= until {
                parts.log.release(number);
                parts.tell();
                return;
            }
            sleep_until(until).await;
        }
    }
}

impl Agreement for Here {
    fn control(&self, _until: Instant) -> Answer<'_, Control> {
        Box::pin(async { Ok(self.parts.log.current()) })
    }

    fn hold(&self, at: Timestamp, lease: Duration, _until: Instant) -> Answer<'_, Option<u64>> {
        Box::pin(async move {
            let number = self.parts.log.hold(at)?;
            if let Some(number) = number {
                *self.lease() = (number, Instant::now() + lease, lease);
                tokio::spawn(Self::watch(self.parts.clone(), Arc::clone(&self.lease), number));
            }
            Ok(number)
        })
    }

    fn renew(&self, number: u64, _until: Instant) -> Answer<'_, ()> {
        Box::pin(async move {
            if !self.is_held(number) {
                return Err(ChangeError::Ended);
            }
            let mut lease = self.lease();
            lease.1 = Instant::now() + lease.2;
            Ok(())
        })
    }

    fn release(&self, number: u64) {
        let mut lease = self.lease();
        if lease.0 == number {
            lease.0 = 0;
        }
        drop(lease);
        self.parts.log.release(number);
        self.parts.tell();
    }

    fn reached(&self, _number: u64, until: Instant) -> Answer<'_, Reached> {
        Box::pin(async move {
            let directory = &self.parts.directory;
            let left = || until.saturating_duration_since(Instant::now());
            let mut at = Timestamp::default();
            for shard in 0..self.parts.shards {
                let reached = reached_by_shard(directory, shard, left()).await;
                at = at.max(reached.map_err(ChangeError::Unanswered)?);
            }
            let exec = reached_by_exec(directory, left()).await;
            let at = at.max(exec.map_err(ChangeError::Unanswered)?);
            Ok(Reached { at, lives: Vec::new() })
        })
    }

    fn record(
        &self,
        made: MadeChange,
        _reached: Reached,
        releases: bool,
        _until: Instant,
    ) -> Answer<'_, bool> {
        Box::pin(async move {
            let number = made.hold;
            if !self.is_held(number) {
                return Err(ChangeError::Ended);
            }
            // Blocks for one write: were this to be waited for, and the waiting given up, the hold would
            // be lifted before it is known whether the change was stored.
            self.parts.log.record(made)?;
            if releases {
                self.release(number);
            }
            Ok(true)
        })
    }
}

impl Wiring {
    /// What has to know of changes.
    pub(super) fn controlled(&self) -> Controlled {
        let (log, directory) = (self.control.clone(), self.directory.clone());
        Controlled { log, directory, shards: self.shards }
    }

    /// What the strategies are before any change.
    pub(super) fn plan(&self) -> Plan {
        let (config, kinds) = (Arc::clone(&self.config), self.kinds.clone());
        let check = move |needs: &_| factor_engine(&config, &kinds, needs).map(drop);
        let names = self.config.strategies.iter().map(|strategy| strategy.name.clone());
        Plan { names: names.collect(), needs: self.needs.clone(), check: Arc::new(check) }
    }
}

impl Node {
    /// The parameters of its strategies, to be seen and changed.
    pub fn parameters(&self) -> Parameters {
        self.parameters.clone()
    }

    /// Changes parameters of a strategy while it runs, see [`Parameters::change`].
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
        let reason = Reason { by: "the program", why: "" };
        self.parameters.change(strategy, parameters, at, reason, patience).await
    }
}

/// The parameters of the strategies of one process.
pub(super) fn here(wiring: &Wiring) -> Parameters {
    let nobody = (0, Instant::now(), Duration::ZERO);
    let here = Here { parts: wiring.controlled(), lease: Arc::new(Mutex::new(nobody)) };
    Parameters::new(wiring.plan(), Arc::new(here))
}
