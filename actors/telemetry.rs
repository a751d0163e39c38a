//! The telemetry actor: shows how far a run has come while it runs.
//!
//! It asks; nobody tells it anything. So a stage that is busy or restarting costs a figure, not time.

use std::fmt;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;

use crate::kit::Outlet;

/// How long one figure may take.
pub const PATIENCE: Duration = Duration::from_millis(250);

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Bytes read of all sources, packed as they are.
    pub bytes: u64,
    /// Rows read.
    pub rows: u64,
    /// Orders let through.
    pub orders: u64,
    /// Sources that are held until a fault has struck.
    pub held: usize,
}

/// A question to be answered soon.
pub type Probe =
    Box<dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = Sample> + Send>> + Send + Sync>;

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum TelemetryMessage {
    /// Our own timer.
    SampleDue,
}

/// What the actor is started with.
pub struct TelemetryArguments {
    /// How often to look.
    pub interval: Duration,
    /// Answers how far the run has come.
    pub probe: Probe,
    /// Where samples go.
    pub samples: Outlet<Sample>,
}

impl fmt::Debug for TelemetryArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryArguments").finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct TelemetryActor;

impl Actor for TelemetryActor {
    type Msg = TelemetryMessage;
    type State = TelemetryArguments;
    type Arguments = TelemetryArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<TelemetryMessage>,
        arguments: TelemetryArguments,
    ) -> Result<TelemetryArguments, ActorProcessingErr> {
        myself.send_interval(arguments.interval, || TelemetryMessage::SampleDue);
        Ok(arguments)
    }

    async fn handle(
        &self,
        _myself: ActorRef<TelemetryMessage>,
        message: TelemetryMessage,
        state: &mut TelemetryArguments,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TelemetryMessage::SampleDue => {
                // Whoever looked at the samples may have gone; the run goes on.
                let _ = state.samples.send((state.probe)().await);
            }
        }
        Ok(())
    }
}
