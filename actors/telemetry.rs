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

/// The most memory this process has had in use, in bytes; 0 where the system does not say.
pub fn peak_rss_bytes() -> u64 {
    status_bytes("self", "VmHWM:").unwrap_or(0)
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Time on processors, of all its threads.
    pub processor: Duration,
    /// Memory in use now, in bytes.
    pub rss_bytes: u64,
    /// The most that it has had.
    pub peak_rss_bytes: u64,
}

/// What another process on this machine has used; none if it has ended, or the system does not say.
pub fn usage_of(process: u32) -> Option<ProcessUsage> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything; after it come the state and ten more numbers.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11);
    let mut next = || ticks.next()?.parse::<u64>().ok();
    let ticks = next()?.checked_add(next()?)?;
    let process = process.to_string();
    Some(ProcessUsage {
        processor: Duration::from_millis(ticks.saturating_mul(1_000 / TICKS_PER_SECOND)),
        rss_bytes: status_bytes(&process, "VmRSS:")?,
        peak_rss_bytes: status_bytes(&process, "VmHWM:")?,
    })
}

/// What Linux counts the time of processes in, whatever its own clock does.
const TICKS_PER_SECOND: u64 = 100;

/// A line of a process's status that is in kibibytes, in bytes.
fn status_bytes(process: &str, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_has_used_only_grows() {
        let before = usage_of(std::process::id()).unwrap();
        let mut sum = 0u64;
        while usage_of(std::process::id()).unwrap().processor == before.processor {
            sum = sum.wrapping_mul(31).wrapping_add(std::hint::black_box(7));
        }
        let after = usage_of(std::process::id()).unwrap();
        assert!(after.processor > before.processor, "{sum}");
        assert!(after.peak_rss_bytes >= after.rss_bytes && after.rss_bytes > 0);
        assert!(peak_rss_bytes() >= after.peak_rss_bytes);
        assert_eq!(usage_of(0), None, "the system's own");
    }
}
