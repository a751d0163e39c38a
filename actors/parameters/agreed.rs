//! Holds and changes of a pipeline over nodes: agreed on in the ledger, every unit asked where it is.

use std::time::Duration;

use tickwright_core::cluster::Unit;
use tickwright_core::domain::{Control, MadeChange, Timestamp};
use tickwright_core::ledger::{AgreedChange, ControlCommand, Refusal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Agreement, Answer, ChangeError, PAUSE, Reached};
use crate::cluster::{Message, Network};
use crate::ledger::{LedgerClient, LedgerError};

/// The kind of question that is answered with how far a unit is, once its node knows a hold.
pub const REACHED: &str = "reached";

/// How long one question to a unit may take: it may be another node's by then.
const ASK_PATIENCE: Duration = Duration::from_secs(2);

/// How long it is tried to end a hold; it ends by itself after its lease.
const RELEASE_PATIENCE: Duration = Duration::from_secs(10);

/// The hold that a question is about, and the answer to it: numbers in eight bytes.
///
/// # Errors
///
/// What is wrong with the bytes.
pub fn reached_of(bytes: &[u8]) -> Result<u64, String> {
    let bytes = bytes.try_into().map_err(|_| "a number takes eight bytes".to_owned())?;
    Ok(u64::from_le_bytes(bytes))
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// Reaches the units.
    pub network: Network,
    /// Where it is agreed.
    pub ledger: LedgerClient,
    /// How many shards there are.
    pub shards: usize,
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

impl Agreed {
    /// What the ledger refused, in the words of whoever changes parameters.
    fn error(error: LedgerError) -> ChangeError {
        let LedgerError::Refused(refusal) = &error else { return ChangeError::Ledger(error) };
        if *refusal == Refusal::RunOver {
            ChangeError::Over
        } else if matches!(refusal, Refusal::HoldEnded { .. }) {
            ChangeError::Ended
        } else if matches!(refusal, Refusal::Full { .. }) {
            ChangeError::TooMany
        } else {
            ChangeError::Ledger(error)
        }
    }

    /// Asks one unit until it answers, or the time is over.
    async fn ask(&self, unit: Unit, number: u64, until: Instant) -> Result<(u64, u64), String> {
        let role = unit.to_string();
        let body = number.to_le_bytes();
        let mut last = "nobody has it".to_owned();
        while Instant::now() < until {
            if let Some(route) = self.network.route(&role) {
                let epoch = route.epoch;
                let message =
                    Message { role: &role, kind: REACHED, epoch, body: &body, is_urgent: false };
                let patience = left(until).min(ASK_PATIENCE);
                let answer = self.network.ask(Some(&route.node), message, patience).await;
                match answer.map_err(|error| error.to_string()).and_then(|it| reached_of(&it)) {
                    Ok(reached) => return Ok((epoch, reached)),
                    Err(error) => last = error,
                }
            }
            sleep(PAUSE).await;
        }
        Err(format!("`{role}` does not say how far it is ({last})"))
    }
}

impl Agreement for Agreed {
    fn control(&self, until: Instant) -> Answer<'_, Control> {
        Box::pin(async move {
            let control = self.ledger.read(left(until), |ledger| ledger.changes().control());
            control.await.map_err(Self::error)
        })
    }

    fn hold(&self, at: Timestamp, lease: Duration, until: Instant) -> Answer<'_, Option<u64>> {
        Box::pin(async move {
            let Some(session) = self.ledger.session() else {
                let reason = "this node has no session; ask again, or another node".to_owned();
                return Err(ChangeError::Unanswered(reason));
            };
            let command = ControlCommand::Hold { session, at, lease };
            match self.ledger.control(command, left(until)).await {
                Ok(number) => Ok(Some(number)),
                Err(LedgerError::Refused(Refusal::Held { .. })) => Ok(None),
                Err(error) => Err(Self::error(error)),
            }
        })
    }

    fn renew(&self, number: u64, until: Instant) -> Answer<'_, ()> {
        Box::pin(async move {
            let command = ControlCommand::Renew { number };
            self.ledger.control(command, left(until)).await.map(drop).map_err(Self::error)
        })
    }

    fn release(&self, number: u64) {
        let ledger = self.ledger.clone();
        let release = async move {
            let command = ControlCommand::Release { number };
            if let Err(error) = ledger.control(command, RELEASE_PATIENCE).await {
                tracing::warn!(%error, "the pipeline is held until the lease is over");
            }
        };
        // Without a runtime the process is at its end, and its session ends the hold.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(release);
        }
    }

    fn reached(&self, number: u64, until: Instant) -> Answer<'_, Reached> {
        Box::pin(async move {
            let mut asked = JoinSet::new();
            let shards = (0..self.shards).filter_map(|shard| u16::try_from(shard).ok());
            for unit in shards.map(Unit::Shard).chain([Unit::Exec]) {
                let own = self.clone();
                asked.spawn(async move { (unit, own.ask(unit, number, until).await) });
            }
            let mut reached = Reached::default();
            while let Some(answered) = asked.join_next().await {
                let failed = |error: &dyn std::fmt::Display| error.to_string();
                let answered = answered.map_err(|error| failed(&error));
                let (unit, answer) = answered.map_err(ChangeError::Unanswered)?;
                let (epoch, at) = answer.map_err(ChangeError::Unanswered)?;
                reached.at = reached.at.max(Timestamp::from_nanos(at));
                reached.lives.push((unit.to_string(), epoch));
            }
            Ok(reached)
        })
    }

    fn record(
        &self,
        made: MadeChange,
        reached: Reached,
        releases: bool,
        until: Instant,
    ) -> Answer<'_, bool> {
        Box::pin(async move {
            let MadeChange { change, hold: number, by, why } = made;
            let change = AgreedChange::new(&change, &by, &why);
            let command = ControlCommand::Record { number, change, asked: reached.lives, releases };
            match self.ledger.control(command, left(until)).await {
                Ok(_) => Ok(true),
                Err(LedgerError::Refused(Refusal::Moved { .. })) => Ok(false),
                Err(error) => Err(Self::error(error)),
            }
        })
    }
}
