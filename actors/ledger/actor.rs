//! The ledger actor: keeps this node's session, and, where it leads, lets sessions expire and decides
//! who votes.
//!
//! ```text
//! timer ──▶ LedgerActor ──▶ openraft      commands, changes of voters
//!               └─────────▶ events        who coordinates, whether there is agreement
//! ```
//!
//! Decisions are in [`tickwright_core::ledger`].
//!
//! *Failover.* None within the process: what openraft has started may outlive its end, and two of them
//! on one file would be two voters. When it cannot go on the node ends, and starts again as a whole.
//! *Delivery.* Whatever is not answered is asked again under the same number.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use openraft::{ChangeMembers, LogIdOptionExt};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use tickwright_core::domain::{NodeId, Span, Timestamp};
use tickwright_core::ledger::{
    Answer, Canvass, Command, Coordinator, Expiry, HoldExpiry, KeeperEffect, LOCK_COMMANDS_MAX,
    Opening, Operation, Outcome, Refusal, SessionId, Standing, VoterChange, is_caught_up,
    plan_voters,
};

use super::client::{LedgerClient, LedgerError};
use super::found::{found, rival};
use super::raft::Replica;
use super::{LedgerEvent, LedgerSettings, now};
use crate::kit::Outlet;

/// Commands about locks that are over, at one look; the rest is over at the next as well.
const PROPOSALS_MAX: usize = 64;

/// How long a change of voters may take before another is tried.
const CHANGE_PATIENCE: Span = Span::from_secs(10);

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub(super) enum LedgerMessage {
    /// Our own timer.
    Look,
    /// What came of a request about this node's session.
    Session(KeeperEffect, Result<Answer, LedgerError>),
    /// Our own timer, for elections.
    Canvass,
    /// A voter would vote for this node: the round in which it was asked, and whose copy it has.
    Yes(u64, u64),
    /// A change of voters has come to an end.
    Changed,
    /// Another ledger was found in the cluster.
    Rival(String),
    /// End this node's session and stop.
    Leave(RpcReplyPort<()>),
}

/// What the actor is started with.
pub(super) struct LedgerArguments {
    pub(super) client: LedgerClient,
    pub(super) settings: LedgerSettings,
    /// If this node may found it: who is remembered of an earlier cluster.
    pub(super) founds: Option<Vec<NodeId>>,
    pub(super) events: Outlet<LedgerEvent>,
}

/// The actor.
#[derive(Debug)]
pub(super) struct LedgerActor;

/// What the actor owns while it runs.
pub(super) struct LedgerState {
    myself: ActorRef<LedgerMessage>,
    client: LedgerClient,
    settings: LedgerSettings,
    events: Outlet<LedgerEvent>,
    expiry: Expiry,
    holds: HoldExpiry,
    canvass: Canvass,
    /// A change of voters, or a search for other ledgers, is under way.
    is_changing: bool,
    searched: Timestamp,
    is_leaving: bool,
    /// What was last told.
    coordinator: Coordinator,
    has_quorum: Option<bool>,
}

impl Actor for LedgerActor {
    type Msg = LedgerMessage;
    type State = LedgerState;
    type Arguments = LedgerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<LedgerMessage>,
        arguments: LedgerArguments,
    ) -> Result<LedgerState, ActorProcessingErr> {
        let LedgerArguments { client, settings, founds, events } = arguments;
        if let Some(remembered) = founds {
            tokio::spawn(found(client.clone(), settings.clone(), remembered));
        }
        let expiry = Expiry::new(settings.timings.session_ttl);
        myself.send_interval(expiry.pace(), || LedgerMessage::Look);
        let timings = &settings.timings;
        myself.send_interval(timings.ledger_heartbeat / 2, || LedgerMessage::Canvass);
        let own = client.0.mesh.own.replica;
        let canvass = Canvass::new(own, timings.election_max, timings.ledger_heartbeat);
        Ok(LedgerState {
            myself,
            client,
            settings,
            events,
            expiry,
            holds: HoldExpiry::default(),
            canvass,
            is_changing: false,
            searched: now(),
            is_leaving: false,
            coordinator: Coordinator::default(),
            has_quorum: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<LedgerMessage>,
        message: LedgerMessage,
        state: &mut LedgerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LedgerMessage::Look => state.look()?,
            LedgerMessage::Session(asked, answer) => state.on_session(asked, answer),
            LedgerMessage::Canvass => state.canvass(),
            LedgerMessage::Yes(round, from) => {
                state.client.on_yes(&mut state.canvass, round, from);
            }
            LedgerMessage::Changed => state.is_changing = false,
            LedgerMessage::Rival(reason) => {
                let _ = state.events.send(LedgerEvent::GivesWay { reason });
                state.is_leaving = true;
            }
            LedgerMessage::Leave(reply) => {
                state.leave().await;
                let _ = reply.send(());
                myself.stop(None);
            }
        }
        Ok(())
    }
}

impl LedgerState {
    fn look(&mut self) -> Result<(), ActorProcessingErr> {
        let metrics = self.client.0.raft.metrics();
        if let Err(fatal) = &metrics.borrow().running_state {
            return Err(self.fail(format!("the ledger cannot go on: {fatal}")));
        }
        if self.is_leaving {
            return Ok(());
        }
        let effects = self.client.keeper(|keeper| keeper.on_wake(now()));
        self.carry_out(effects);
        let leads = self.client.leads();
        let mut expired = self.client.local(|ledger| self.expiry.on_look(ledger, leads, now()));
        let over = self.client.local(|ledger| {
            self.client.lock_expiry(|expiry| expiry.on_look(ledger.locks(), leads, now()))
        });
        expired.extend(
            over.chunks(LOCK_COMMANDS_MAX)
                .take(PROPOSALS_MAX)
                .map(|commands| Operation::Locks(commands.to_vec())),
        );
        let held = &mut self.holds;
        let held = self.client.local(|ledger| held.on_look(ledger.changes(), leads, now()));
        expired.extend(held.map(Operation::Control));
        if !expired.is_empty() {
            let commands = expired.into_iter().map(|operation| Command { id: None, operation });
            let (client, commands) = (self.client.clone(), commands.collect());
            tokio::spawn(async move {
                // What was not agreed on is proposed again at the next look.
                let _ = client.write(commands).await;
            });
        }
        if leads && !self.is_changing {
            self.arrange();
        }
        self.tell();
        Ok(())
    }

    fn canvass(&mut self) {
        let patience = self.settings.timings.election_min;
        let myself = self.myself.clone();
        let heard = move |round, from| {
            let _ = myself.cast(LedgerMessage::Yes(round, from));
        };
        self.client.canvass(&mut self.canvass, patience, heard);
    }

    fn fail(&self, reason: String) -> ActorProcessingErr {
        let _ = self.events.send(LedgerEvent::Failed { reason: reason.clone() });
        reason.into()
    }

    fn carry_out(&self, effects: Vec<KeeperEffect>) {
        for effect in effects {
            let operation = match effect {
                KeeperEffect::Open => Operation::OpenSession(Opening {
                    node: self.settings.node.clone(),
                    incarnation: self.settings.incarnation,
                    replica: self.client.0.mesh.own.replica,
                    priority: self.settings.priority,
                    is_witness: self.settings.is_witness,
                }),
                KeeperEffect::Renew(session) => Operation::RenewSession { session },
                KeeperEffect::Lost(session) => {
                    tracing::warn!(session = session.0, "this node's session is lost");
                    let _ = self.events.send(LedgerEvent::SessionLost);
                    continue;
                }
            };
            let (client, myself) = (self.client.clone(), self.myself.clone());
            let patience = self.client.keeper(|keeper| keeper.patience());
            tokio::spawn(async move {
                let command = Command { id: None, operation };
                let asked = client.submit_command(command, patience);
                // The keeper must hear of every request what came of it, or it asks no more.
                let answer = tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| {
                    Err(LedgerError::Unknown(format!("no answer within {patience:?}")))
                });
                let _ = myself.cast(LedgerMessage::Session(effect, answer));
            });
        }
    }

    fn on_session(&mut self, asked: KeeperEffect, answer: Result<Answer, LedgerError>) {
        let trouble = match &answer {
            Ok(Ok(_)) => String::new(),
            Ok(Err(refusal)) => refusal.to_string(),
            Err(error) => error.to_string(),
        };
        *self.client.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        let renewed = match asked {
            KeeperEffect::Renew(session) => Some(session),
            KeeperEffect::Open | KeeperEffect::Lost(_) => None,
        };
        let effects = self.client.keeper(|keeper| match (answer, renewed) {
            (Ok(Ok(Outcome::Opened { session })), _) => keeper.on_confirmed(session, now()),
            (Ok(Ok(Outcome::Renewed)), Some(session)) => keeper.on_confirmed(session, now()),
            (Ok(Err(Refusal::SessionEnded { session })), _) => keeper.on_ended(session, now()),
            _ => {
                keeper.on_failed(now());
                Vec::new()
            }
        });
        self.carry_out(effects);
    }

    /// Makes the next change of voters, if one is due.
    fn arrange(&mut self) {
        let metrics = self.client.0.raft.metrics();
        let plan = {
            let metrics = metrics.borrow();
            let membership = metrics.membership_config.membership();
            let replicas: BTreeSet<u64> = membership.nodes().map(|(&replica, _)| replica).collect();
            let last = metrics.last_log_index.unwrap_or(0);
            let caught_up = metrics.replication.iter().flatten();
            let caught_up = caught_up
                .filter(|(_, matched)| is_caught_up(matched.index(), last))
                .map(|(&replica, _)| replica)
                .collect();
            self.client.local(|ledger| {
                plan_voters(&Standing {
                    members: ledger.members(),
                    voters: membership.get_joint_config(),
                    replicas: &replicas,
                    caught_up: &caught_up,
                    leader: metrics.id,
                    count: self.settings.voters,
                })
            })
        };
        let (client, myself) = (self.client.clone(), self.myself.clone());
        if let Some(change) = plan {
            self.is_changing = true;
            tokio::spawn(async move {
                let changed = tokio::time::timeout(CHANGE_PATIENCE, make(&client, &change)).await;
                match changed {
                    Ok(Ok(())) => tracing::info!(?change, "the voters of the ledger have changed"),
                    Ok(Err(error)) => tracing::warn!(?change, error, "the voters cannot change"),
                    Err(_) => tracing::warn!(?change, "the voters did not change in time"),
                }
                let _ = myself.cast(LedgerMessage::Changed);
            });
        } else if now().since(self.searched) > self.settings.timings.session_ttl {
            self.is_changing = true;
            self.searched = now();
            let patience = self.settings.timings.heartbeat;
            tokio::spawn(async move {
                if let Some(reason) = rival(&client, patience).await {
                    let _ = myself.cast(LedgerMessage::Rival(reason));
                }
                let _ = myself.cast(LedgerMessage::Changed);
            });
        }
    }

    fn tell(&mut self) {
        let view = self.client.view();
        let was = self.has_quorum.replace(view.has_quorum);
        // That there is none yet at the start is no news.
        if was.is_some_and(|was| was != view.has_quorum) || (was.is_none() && view.has_quorum) {
            let _ = self.events.send(if view.has_quorum {
                LedgerEvent::QuorumFound { voters: view.voters }
            } else {
                LedgerEvent::QuorumLost { voters: view.voters }
            });
        }
        let coordinator = self.client.local(|ledger| ledger.coordinator().clone());
        if coordinator != self.coordinator {
            self.coordinator = coordinator.clone();
            if let Some((node, _)) = coordinator.holder {
                let term = coordinator.term;
                let _ = self.events.send(LedgerEvent::Coordinator { node, term });
            }
        }
    }

    /// Says goodbye, if anyone can hear it, and stops voting.
    async fn leave(&mut self) {
        self.is_leaving = true;
        let session: Option<SessionId> = self.client.keeper(|keeper| keeper.session(now()));
        if let Some(session) = session {
            let command = Command { id: None, operation: Operation::CloseSession { session } };
            let patience = self.settings.timings.session_ttl / 2;
            let _ =
                tokio::time::timeout(patience, self.client.submit_command(command, patience)).await;
        }
        if tokio::time::timeout(Duration::from_secs(2), self.client.0.raft.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("the ledger does not stop in time");
        }
    }
}

async fn make(client: &LedgerClient, change: &VoterChange) -> Result<(), String> {
    let raft = &client.0.raft;
    let changed = match change.clone() {
        VoterChange::Add { replica, node: NodeId(node) } => {
            raft.add_learner(replica, Replica { node }, false).await
        }
        // Who does not vote any more learns on.
        VoterChange::Voters(voters) => {
            raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), true).await
        }
        VoterChange::Remove(gone) => {
            raft.change_membership(ChangeMembers::RemoveNodes(gone), true).await
        }
    };
    changed.map(|_| ()).map_err(|error| error.to_string())
}
