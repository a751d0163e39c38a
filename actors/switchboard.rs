//! The switchboard: brings exec the kill switches that operators turn.
//!
//! ```text
//! ledger: turns that were agreed on ─┐
//! an operator, before that ──────────┴─▶ Switchboard ─▶ risk
//!                                             └──────▶ ledger, until it is agreed on
//! ```
//!
//! Where a process is in no cluster, a file takes the place of the ledger, and it agrees with itself.
//!
//! To stop must not wait for an agreement: whoever reaches exec's node stops it, and the node has it agreed
//! on as soon as it can. To go on again is agreed on first.
//!
//! *Failover.* What was agreed on is in the ledger, and is told again each second: risk knows which turns it
//! has taken. One that was not agreed on yet is in exec's checkpoint, or in its log of arrivals.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use tickwright_core::config::Config;
use tickwright_core::domain::{KillSwitch, Timestamp};

mod keeper;

pub use keeper::{OwnSwitches, SwitchKeeper, SwitchesError};

use crate::kit::{Directory, Outlet};
use crate::ledger::SwitchStanding;

/// The role of the switchboard.
pub const ROLE: &str = "switchboard";

/// Between two looks at the ledger, whatever it says.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long an attempt to have a turn agreed on may take.
const AGREE_PATIENCE: Duration = Duration::from_millis(800);

/// Attempts, one each second, before exec goes by what is known here.
const FRESH_TRIES: u32 = 5;

/// Turns that wait to be agreed on; beyond that an operator is refused.
const PENDING_MAX: usize = 256;

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum SwitchboardMessage {
    /// Time has passed, or the ledger has changed.
    Look,
    /// Risk has begun, and takes nothing before it knows how all switches stand.
    RiskIsBack,
    /// Stop this at once; what was not understood of it is answered.
    Kill(Order, RpcReplyPort<Result<(), String>>),
}

/// What an operator wants stopped.
#[derive(Clone, Debug)]
pub struct Order {
    /// What.
    pub what: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What the actor is started with.
#[derive(Clone)]
pub struct SwitchboardArguments {
    /// Knows accounts and strategies by name.
    pub config: Arc<Config>,
    /// Where turns are agreed on.
    pub keeper: SwitchKeeper,
    /// Where to register.
    pub directory: Directory,
    /// Reaches risk.
    pub risk: Outlet<KillSwitch>,
    /// Tells risk that it was told of all.
    pub told: Outlet<()>,
    /// Whether exec waits however long it takes to find out what is stopped. Where all brokers are paper it
    /// goes by what is known here after a few attempts.
    pub is_strict: bool,
}

impl fmt::Debug for SwitchboardArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwitchboardArguments").finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct SwitchboardActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct SwitchboardState {
    arguments: SwitchboardArguments,
    /// Turned on here, and not agreed on yet; with the version of the switch before. At most
    /// [`PENDING_MAX`].
    pending: BTreeMap<String, (Order, u64)>,
    /// Attempts to find out what was agreed on since risk has begun; none once it is known.
    unread: Option<u32>,
    /// Names in the ledger that mean nothing here, so that it is said once.
    unknown: Vec<String>,
}

impl Actor for SwitchboardActor {
    type Msg = SwitchboardMessage;
    type State = SwitchboardState;
    type Arguments = SwitchboardArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<SwitchboardMessage>,
        arguments: SwitchboardArguments,
    ) -> Result<SwitchboardState, ActorProcessingErr> {
        arguments.directory.register(ROLE, &myself);
        myself.send_interval(LOOK_EVERY, || SwitchboardMessage::Look);
        let actor = myself.clone();
        arguments.keeper.tell_turns(move || actor.cast(SwitchboardMessage::Look).is_ok());
        myself.cast(SwitchboardMessage::Look)?;
        Ok(SwitchboardState {
            arguments,
            pending: BTreeMap::new(),
            unread: Some(0),
            unknown: Vec::new(),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<SwitchboardMessage>,
        message: SwitchboardMessage,
        state: &mut SwitchboardState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SwitchboardMessage::Look => {
                state.agree().await;
                state.tell().await;
            }
            SwitchboardMessage::RiskIsBack => {
                state.unread = Some(0);
                state.tell().await;
            }
            SwitchboardMessage::Kill(order, reply) => {
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(state.kill(order));
            }
        }
        Ok(())
    }
}

impl SwitchboardState {
    /// Tells risk how all switches stand. What is known here may be old, so risk is told that these are all only
    /// if most voters say so.
    async fn tell(&mut self) {
        let keeper = &self.arguments.keeper;
        let mut standings = keeper.known();
        if let Some(tries) = self.unread {
            match keeper.read(AGREE_PATIENCE).await {
                Ok(read) => (standings, self.unread) = (read, None),
                Err(error) if tries >= FRESH_TRIES && !self.arguments.is_strict => {
                    tracing::warn!(%error, "exec goes by the kill switches that are known here");
                    self.unread = None;
                }
                Err(error) => {
                    if tries.is_multiple_of(FRESH_TRIES) {
                        tracing::warn!(%error, "exec waits to know which kill switches are on");
                    }
                    self.unread = Some(tries.saturating_add(1));
                }
            }
        }
        self.tell_of(standings);
        if self.unread.is_none() {
            // If risk is not there, it asks when it is.
            let _ = self.arguments.told.send(());
        }
    }

    fn tell_of(&mut self, standings: Vec<SwitchStanding>) {
        for standing in standings {
            match self.arguments.config.scope(&standing.what) {
                Ok(scope) => {
                    let (is_on, version) = (standing.is_on, standing.version);
                    let switch = KillSwitch { scope, is_on, version, due: Timestamp::default() };
                    // If risk is not there, it is told with the next look.
                    let _ = self.arguments.risk.send(switch);
                }
                Err(reason) if !self.unknown.contains(&standing.what) => {
                    tracing::error!("a kill switch stops nothing here: {reason}");
                    self.unknown.push(standing.what);
                }
                Err(_) => {}
            }
        }
    }

    fn kill(&mut self, order: Order) -> Result<(), String> {
        let scope = self.arguments.config.scope(&order.what)?;
        if self.pending.len() >= PENDING_MAX {
            return Err(format!("{PENDING_MAX} kill switches wait to be agreed on"));
        }
        let (is_on, version, due) = (true, 0, Timestamp::default());
        let switch = KillSwitch { scope, is_on, version, due };
        self.arguments.risk.send(switch).map_err(|error| format!("risk: {error}"))?;
        let before = self.version(&order.what);
        self.pending.insert(order.what.clone(), (order, before));
        Ok(())
    }

    fn version(&self, what: &str) -> u64 {
        let all = self.arguments.keeper.known();
        all.iter().find(|standing| standing.what == what).map_or(0, |standing| standing.version)
    }

    /// Has agreed on what was turned on here. Whoever turned it may have done so already.
    async fn agree(&mut self) {
        for (order, before) in std::mem::take(&mut self.pending).into_values() {
            if self.version(&order.what) > before {
                continue;
            }
            let said = (order.by.as_str(), order.reason.as_str());
            let keeper = &self.arguments.keeper;
            if let Err(error) = keeper.turn(&order.what, true, said, AGREE_PATIENCE).await {
                tracing::warn!(what = order.what, %error, "a kill switch is on, and not agreed on yet");
                self.pending.insert(order.what.clone(), (order, before));
            }
        }
    }
}
