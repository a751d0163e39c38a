//! The gateway: the one actor of this node that other nodes can reach.
//!
//! ```text
//! peers ──frames──▶ Gateway ──▶ roles of this node, through their handlers
//!                      └──────▶ membership (signs of life)
//! ```
//!
//! `ractor_cluster` mirrors every remotable actor on every peer and lets every peer reach each of
//! them; so there is one, it has no name (a peer's death unregisters the local actor of a name), and
//! it takes nothing but bytes, which it decodes itself to be able to count what it cannot decode.
//!
//! *Failover.* It keeps nothing. *Delivery.* See [`super::network`].

use ractor::{Actor, ActorProcessingErr, ActorRef, pg};
use tickwright_core::cluster::{Beat, Peer};

use crate::kit::{Directory, Outlet};

use super::network::Network;

/// The role of the gateway among the services of its own node.
pub(super) const ROLE: &str = "cluster/gateway";

/// The group by which `ractor_cluster` shows the gateways of peers.
pub(super) const GROUP: &str = "tickwright/gateway";

/// What the actor is started with.
#[derive(Clone, Debug)]
pub(super) struct GatewayArguments {
    pub(super) network: Network,
    pub(super) beats: Outlet<(Peer, Beat)>,
    pub(super) directory: Directory,
}

/// The actor.
#[derive(Debug)]
pub(super) struct GatewayActor;

impl Actor for GatewayActor {
    type Msg = Vec<u8>;
    type State = GatewayArguments;
    type Arguments = GatewayArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Vec<u8>>,
        arguments: GatewayArguments,
    ) -> Result<GatewayArguments, ActorProcessingErr> {
        pg::join(GROUP.to_owned(), vec![myself.get_cell()]);
        arguments.directory.register(ROLE, &myself);
        Ok(arguments)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Vec<u8>>,
        frame: Vec<u8>,
        state: &mut GatewayArguments,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(beat) = state.network.on_frame(&frame) {
            // A membership that starts anew hears the next one.
            let _ = state.beats.send(beat);
        }
        Ok(())
    }
}
