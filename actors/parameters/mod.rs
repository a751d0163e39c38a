//! The door to the parameters of strategies that run: to see them, and to change them at an event time.
//!
//! ```text
//! operator, optimiser ─▶ Parameters ─▶ hold ─▶ how far is everybody? ─▶ record, release
//!                                      └────── Agreement: this process, or the ledger ──────┘
//! ```
//!
//! A change holds from a time that nothing has reached whose results count. To know that, the pipeline is
//! held before that time, every part of it is asked how far it is, and only then the change is recorded. A
//! hold ends with whoever asked for it, and lasts no longer than its lease without being renewed, so
//! nobody stops the pipeline by dying.
//!
//! Whoever has yet to find out what to adopt holds the pipeline until it has:
//!
//! ```text
//! let hold = parameters.hold(at, lease, patience).await?;    as soon as the run begins
//! hold.renew(patience).await?;                               several times a lease
//! hold.adopt(strategy, &found, reason, patience).await?;     once, or for several strategies
//! hold.release();
//! ```
//!
//! A time that was named is refused when it is too late. Where none is, one a little ahead is tried, and
//! one further ahead after that.

mod agreed;
mod tool;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tickwright_core::domain::{
    CHANGE_COUNT_MAX, Control, Key, MadeChange, ParameterChange, Timestamp,
};
use tickwright_core::pipeline::factors::FactorError;
use tickwright_core::pipeline::strategy::{StrategyError, StrategyNeeds};
use tokio::time::{Instant, sleep};

pub use agreed::{Agreed, REACHED, reached_of};
pub use tool::serve;

use crate::kit::StoreError;
use crate::ledger::LedgerError;

/// The role under which every node of a pipeline answers for its parameters.
pub const ROLE: &str = "parameters";

/// How far ahead a change is tried first, in event time, where no time is named.
const LEAD: Duration = Duration::from_secs(1);

/// How much longer a hold lasts than the change that it is for may take.
const MARGIN: Duration = Duration::from_secs(5);

/// Between two attempts while somebody else holds the pipeline, or a part of it moves.
const PAUSE: Duration = Duration::from_millis(20);

/// Why parameters were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// They make no sense.
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    /// They need a factor that cannot be computed.
    #[error(transparent)]
    Factor(#[from] FactorError),
    /// No strategy has this name.
    #[error("there is no strategy `{name}`; there are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Those there are.
        known: String,
    },
    /// Nothing is to be changed.
    #[error("no parameter is named that is to change")]
    Nothing,
    /// There were too many changes in this run.
    #[error("{CHANGE_COUNT_MAX} changes of parameters are the most that a run can take")]
    TooMany,
    /// Event time is there already.
    #[error("event time has reached {} ns; name a later time than {} ns", reached.as_nanos(), at.as_nanos())]
    Late {
        /// When they were to hold.
        at: Timestamp,
        /// How far the pipeline has come.
        reached: Timestamp,
    },
    /// Everything has been decided.
    #[error("the run is over")]
    Over,
    /// Somebody else is at it.
    #[error(
        "somebody else holds the pipeline to change parameters, and did not let go within {0:?}"
    )]
    Held(Duration),
    /// The hold has ended, by its lease, or with the node that had it.
    #[error("the pipeline is not held any more: the hold was not renewed in time")]
    Ended,
    /// A part of the pipeline does not answer.
    #[error("{0}")]
    Unanswered(String),
    /// The change cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be agreed on.
    #[error(transparent)]
    Ledger(LedgerError),
}

/// An answer that is waited for.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ChangeError>> + Send + 'a>>;

/// How far the pipeline has come, and in which lives its parts were when they said so.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// The furthest of them.
    pub at: Timestamp,
    /// Each part and its epoch, where they move.
    pub lives: Vec<(String, u64)>,
}

/// Where holds and changes are agreed on. Each may take until a time.
pub trait Agreement: Send + Sync {
    /// What was agreed on by now.
    fn control(&self, until: Instant) -> Answer<'_, Control>;

    /// Nobody who has not passed `at` will, for as long as `lease` unless it is renewed. Returns the
    /// number of the hold; none while there is another.
    fn hold(&self, at: Timestamp, lease: Duration, until: Instant) -> Answer<'_, Option<u64>>;

    /// The hold's lease begins anew.
    fn renew(&self, number: u64, until: Instant) -> Answer<'_, ()>;

    /// The hold ends. Tried for a while, whoever asks.
    fn release(&self, number: u64);

    /// How far everybody is who knows hold `number`, or any, if it is 0.
    fn reached(&self, number: u64, until: Instant) -> Answer<'_, Reached>;

    /// Records `made` under its hold, which ends with that if it `releases`, given what everybody has said.
    /// False: some part has moved since, and has to be asked again.
    fn record(
        &self,
        made: MadeChange,
        reached: Reached,
        releases: bool,
        until: Instant,
    ) -> Answer<'_, bool>;
}

/// Whether the factors can be computed that strategies with these needs look at.
pub type FactorCheck = Arc<dyn Fn(&StrategyNeeds) -> Result<(), FactorError> + Send + Sync>;

/// What the strategies are before any change, and which factors can be computed for them.
#[derive(Clone)]
pub struct Plan {
    /// What each is called.
    pub names: Vec<String>,
    /// Before any change.
    pub needs: StrategyNeeds,
    /// Whether their factors can be computed.
    pub check: FactorCheck,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// Who changes parameters, and why.
#[derive(Clone, Copy, Debug)]
pub struct Reason<'a> {
    /// Who.
    pub by: &'a str,
    /// Why, for people to read: `"adopted: trial 17 of opt-2, score 0.52"`.
    pub why: &'a str,
}

/// The parameters of one strategy.
pub type Named = (String, Vec<(String, f64)>);

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Parameters {
    plan: Arc<Plan>,
    agreement: Arc<dyn Agreement>,
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters").finish_non_exhaustive()
    }
}

impl Parameters {
    /// Those of the strategies of `plan`, changed by `agreement`.
    pub fn new(plan: Plan, agreement: Arc<dyn Agreement>) -> Self {
        Self { plan: Arc::new(plan), agreement }
    }

    /// Every strategy's parameters after all changes that were made by now, and the changes.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] when they are not known within `patience`.
    pub async fn get(&self, patience: Duration) -> Result<(Vec<Named>, Control), ChangeError> {
        let control = self.agreement.control(Instant::now() + patience).await?;
        let mut needs = self.plan.needs.clone();
        control.changes().iter().try_for_each(|change| needs.change(change))?;
        let named = |(name, values): (&String, Vec<(&str, f64)>)| {
            let values = values.into_iter().map(|(name, value)| (name.to_owned(), value));
            (name.clone(), values.collect())
        };
        let all = self.plan.names.iter().zip(needs.parameters());
        Ok((all.map(named).collect(), control))
    }

    /// Which strategy has this name.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Unknown`].
    pub fn strategy(&self, name: &str) -> Result<usize, ChangeError> {
        let names = &self.plan.names;
        names
            .iter()
            .position(|known| known == name)
            .ok_or_else(|| ChangeError::Unknown { name: name.to_owned(), known: names.join(", ") })
    }

    /// Changes parameters of a strategy while it runs; returns the event time from which they hold:
    /// `at`, or as soon as may be. They hold from the same row after a restart, on every node, and in
    /// every run that is given the same change at the same time. Those not given stay as they are.
    ///
    /// Factors that are needed from then on begin at the first row that the change holds for, and are
    /// unknown until they have seen enough; those that nobody needs any longer end there, and the
    /// others go on.
    ///
    /// # Errors
    ///
    /// [`ChangeError`], and nothing has changed, unless it says that this is not known.
    pub async fn change(
        &self,
        strategy: usize,
        parameters: &[(String, f64)],
        at: Option<Timestamp>,
        reason: Reason<'_>,
        patience: Duration,
    ) -> Result<Timestamp, ChangeError> {
        let until = Instant::now() + patience;
        let wanted = |at| ParameterChange { at, strategy, parameters: parameters.to_vec() };
        // What can never be is said before anybody has to wait.
        self.check(&wanted(at.unwrap_or_default()), until).await?;
        let mut lead = LEAD;
        let mut reached = match at {
            Some(at) => at,
            None => self.agreement.reached(0, until).await?.at,
        };
        loop {
            if reached == Key::END.frontier {
                return Err(ChangeError::Over);
            }
            let change = wanted(at.unwrap_or_else(|| reached.after(lead)));
            let from = change.at;
            let hold = self.begin_hold(from, patience + MARGIN, until, patience).await?;
            match hold.record(change, reason, true, until).await {
                Ok(()) => {
                    // It has ended with that.
                    hold.leave();
                    return Ok(from);
                }
                Err(ChangeError::Late { reached: now, .. }) if at.is_none() => reached = now,
                Err(error) => return Err(error),
            }
            // Nobody has to wait for the next attempt to begin.
            drop(hold);
            lead *= 4;
        }
    }

    /// Nobody passes `at` until the hold is dropped, released or not renewed for `lease`.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; [`ChangeError::Late`] when somebody has passed it.
    pub async fn hold(
        &self,
        at: Timestamp,
        lease: Duration,
        patience: Duration,
    ) -> Result<PipelineHold, ChangeError> {
        let until = Instant::now() + patience;
        let hold = self.begin_hold(at, lease, until, patience).await?;
        let reached = self.agreement.reached(hold.number, until).await?.at;
        hold.judge(at, reached)?;
        Ok(hold)
    }

    /// The same before anything has begun, when nobody can say yet how far it is. Should somebody have
    /// passed `at` nevertheless, that is said when something is to be adopted.
    ///
    /// # Errors
    ///
    /// [`ChangeError`].
    pub async fn hold_unbegun(
        &self,
        at: Timestamp,
        lease: Duration,
        patience: Duration,
    ) -> Result<PipelineHold, ChangeError> {
        self.begin_hold(at, lease, Instant::now() + patience, patience).await
    }

    async fn begin_hold(
        &self,
        at: Timestamp,
        lease: Duration,
        until: Instant,
        patience: Duration,
    ) -> Result<PipelineHold, ChangeError> {
        loop {
            if let Some(number) = self.agreement.hold(at, lease, until).await? {
                return Ok(PipelineHold::again(self, number, at));
            }
            if Instant::now() + PAUSE >= until {
                return Err(ChangeError::Held(patience));
            }
            sleep(PAUSE).await;
        }
    }

    /// Finds out, away from the pipeline, whether `change` can be made.
    async fn check(&self, change: &ParameterChange, until: Instant) -> Result<(), ChangeError> {
        if change.parameters.is_empty() {
            return Err(ChangeError::Nothing);
        }
        let known = self.agreement.control(until).await?;
        if known.changes().len() >= CHANGE_COUNT_MAX {
            return Err(ChangeError::TooMany);
        }
        let mut needs = self.plan.needs.clone();
        let (before, after) = known.changes().split_at(known.count_at(change.at));
        before.iter().try_for_each(|change| needs.change(change))?;
        for change in [change].into_iter().chain(after) {
            needs.change(change)?;
            (self.plan.check)(&needs)?;
        }
        Ok(())
    }
}

/// Keeps everybody before a time, until it is dropped.
#[derive(Debug)]
pub struct PipelineHold {
    parameters: Parameters,
    number: u64,
    at: Timestamp,
    /// Whether it ends otherwise than by being dropped.
    is_left: bool,
}

impl PipelineHold {
    /// The time that nobody passes.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Which hold this is.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its lease begins anew. To be called several times a lease.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Ended`] when it has ended; others when that is not known within `patience`.
    pub async fn renew(&self, patience: Duration) -> Result<(), ChangeError> {
        self.parameters.agreement.renew(self.number, Instant::now() + patience).await
    }

    /// Parameters of a strategy change where the pipeline is held. It stays held, and more may change.
    ///
    /// # Errors
    ///
    /// [`ChangeError`], and nothing has changed, unless it says that this is not known.
    pub async fn adopt(
        &self,
        strategy: usize,
        parameters: &[(String, f64)],
        reason: Reason<'_>,
        patience: Duration,
    ) -> Result<Timestamp, ChangeError> {
        let until = Instant::now() + patience;
        let change = ParameterChange { at: self.at, strategy, parameters: parameters.to_vec() };
        self.record(change, reason, false, until).await?;
        Ok(self.at)
    }

    /// Everybody may go on. So it is when this is dropped.
    pub fn release(self) {}

    /// The hold with this number and time, of which a tool was told.
    fn again(parameters: &Parameters, number: u64, at: Timestamp) -> Self {
        Self { parameters: parameters.clone(), number, at, is_left: false }
    }

    /// It is another's to release it, or the lease's.
    fn leave(mut self) {
        self.is_left = true;
    }

    fn judge(&self, at: Timestamp, reached: Timestamp) -> Result<(), ChangeError> {
        match reached {
            reached if reached < at => Ok(()),
            reached if reached == Key::END.frontier => Err(ChangeError::Over),
            reached => Err(ChangeError::Late { at, reached }),
        }
    }

    async fn record(
        &self,
        change: ParameterChange,
        Reason { by, why }: Reason<'_>,
        releases: bool,
        until: Instant,
    ) -> Result<(), ChangeError> {
        let Parameters { agreement, .. } = &self.parameters;
        self.parameters.check(&change, until).await?;
        let (by, why) = (by.to_owned(), why.to_owned());
        let made = MadeChange { change, hold: self.number, by, why };
        loop {
            let reached = agreement.reached(self.number, until).await?;
            self.judge(made.change.at, reached.at)?;
            if agreement.record(made.clone(), reached, releases, until).await? {
                return Ok(());
            }
            if Instant::now() + PAUSE >= until {
                let reason =
                    "parts of the pipeline move, and could not be asked in time".to_owned();
                return Err(ChangeError::Unanswered(reason));
            }
            sleep(PAUSE).await;
        }
    }
}

impl Drop for PipelineHold {
    fn drop(&mut self) {
        if !self.is_left {
            self.parameters.agreement.release(self.number);
        }
    }
}
