//! The door for tools of a process that is in no cluster: what is served there can be asked, and nothing else.

use std::path::Path;
use std::time::Duration;

use tickwright_core::cluster::Peer;
use tickwright_core::config::Config;
use tickwright_core::domain::NodeId;
use tokio::sync::watch;

use super::admin::{Admin, AdminError, Guard};
use super::load::Loads;
use super::membership::View;
use super::network::{ChoiceSettings, Network};

/// How long a question may take, unless the tool says otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// An open door, and where roles are registered that can be asked for there.
#[derive(Debug)]
pub struct LoneDoor {
    network: Network,
    admin: Admin,
    /// A door whose view has no teller counts as closed.
    _view: watch::Sender<View>,
}

impl LoneDoor {
    /// Opens it on `address`, which is a loopback one.
    ///
    /// # Errors
    ///
    /// [`AdminError`] when nobody can listen there, anybody could ask, or the tokens cannot be read.
    pub async fn open(config: &Config, address: &str) -> Result<Self, AdminError> {
        let is_loopback =
            address.parse().is_ok_and(|at: std::net::SocketAddr| at.ip().is_loopback());
        if !is_loopback {
            let message = "it is not a loopback address with a port".to_owned();
            return Err(AdminError::of(address, message));
        }
        let cluster = &config.cluster;
        let choice = ChoiceSettings {
            balancing: cluster.balancing,
            slow_start: config.allocation.slow_start,
            weights: config.allocation.weights.clone(),
            loads: Loads::new(config.allocation.load_report),
        };
        let own = Peer { id: NodeId(config.node.name.clone()), incarnation: Default::default() };
        let (credit, message_max) = (cluster.credit_bytes, cluster.message_bytes_max);
        let network = Network::new(own, credit, message_max, choice);
        let (sender, view) = watch::channel(View { is_member: true, ..View::default() });
        let guard = config.node.tokens_file.as_deref().map(Path::new).map(Guard::open);
        let guard = guard.transpose()?;
        let admin = Admin::open(address, None, guard, network.clone(), view, PATIENCE).await?;
        Ok(Self { network, admin, _view: sender })
    }

    /// Where roles are registered.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where tools are let in.
    pub fn address(&self) -> std::net::SocketAddr {
        self.admin.address()
    }
}
