//! Parts of a node that it cannot do without: each is a tree of its own, and when one gives up the node ends, so that
//! others take its place and not a member that only seems to be one.

use ractor::{Actor, ActorRef, SpawnErr};
use tickwright_core::config::{Config, Subtree};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::cluster::ClusterServices;
use crate::kit::{
    ChildSpec, Clock, SupervisionStatistics, Supervisor, SupervisorArguments, SupervisorMessage,
};

/// Starts parts, and tells the node of those that ended. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Parts(UnboundedSender<&'static str>);

impl Parts {
    /// With what the node hears by: the names of parts that ended, each once.
    pub(super) fn new() -> (Self, UnboundedReceiver<&'static str>) {
        let (sender, ended) = unbounded_channel();
        (Self(sender), ended)
    }

    /// Starts `child` as the part `name`, under a supervisor of the other name: tools find each by its own.
    ///
    /// # Errors
    ///
    /// [`SpawnErr`], when it does not start.
    pub(super) async fn start(
        &self,
        (name, supervisor): (&'static str, &str),
        config: &Config,
        services: &ClusterServices,
        child: ChildSpec,
    ) -> Result<ActorRef<SupervisorMessage>, SpawnErr> {
        let statistics = SupervisionStatistics::default();
        services.show_trees(name, statistics.clone());
        let arguments = SupervisorArguments {
            name: supervisor.into(),
            policy: config.policy(Subtree::Control),
            children: vec![child],
            clock: Clock::system(),
            statistics,
        };
        let (supervisor, ended) = Supervisor::spawn(None, Supervisor, arguments).await?;
        let outlet = self.0.clone();
        tokio::spawn(async move {
            // A task that was cancelled has ended too.
            let _ = ended.await;
            // A node that stops hears no more.
            let _ = outlet.send(name);
        });
        Ok(supervisor)
    }
}
