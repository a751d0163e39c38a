//! Faults of whole nodes: each strikes where the input is held for it, and is mended when its time is
//! over.

use std::time::{Duration, Instant};

use tickwright_core::backtest::report::{ChaosReport, RunReport};
use tickwright_core::config::{ChaosKind, ChaosSpec};
use tokio::task::JoinSet;

use super::{LocalCluster, LocalClusterError, LocalClusterEvent};
use crate::ctl::CtlTask;
use crate::telemetry::Sample;

/// Looks without a byte read after which sources that are not held wait for one that is.
const STILL_LOOKS: u32 = 3;

/// How often a node is told to cut itself off.
const CUT_ATTEMPTS: usize = 5;

/// A fault of a node, in the order of the input.
pub(super) struct Fault {
    pub(super) spec: ChaosSpec,
    pub(super) node: usize,
    pub(super) struck: bool,
    /// Whether the node does not answer just now.
    pub(super) is_away: bool,
    /// When it is to be as before; never, if it was killed.
    pub(super) mend_at: Option<Instant>,
}

impl LocalCluster {
    /// Whether the node cannot answer just now, as ordered.
    pub(super) fn is_harmed(&self, node: usize) -> bool {
        self.faults.iter().any(|fault| fault.node == node && fault.is_away)
    }

    /// Lets the next fault strike when the input has come to its place.
    pub(super) async fn harm(
        &mut self,
        sample: &Sample,
        show: &mut impl FnMut(LocalClusterEvent),
    ) -> Result<(), LocalClusterError> {
        self.still = match self.still {
            (bytes, looks) if bytes == sample.bytes => (bytes, looks + 1),
            _ => (sample.bytes, 0),
        };
        if sample.held == 0 {
            return Ok(());
        }
        // A node that was away when the places were opened hears of them now.
        if self.opened > 0 {
            self.open().await;
        }
        // Others may have to wait for the source that is held: they come no further.
        if self.still.1 < STILL_LOOKS || self.opened >= self.faults.len() {
            return Ok(());
        }
        let node = self.faults[self.opened].node;
        if self.is_harmed(node) {
            // One at a time; and what was killed cannot be harmed any more.
            let is_for_good = |fault: &Fault| fault.is_away && fault.mend_at.is_none();
            if self.faults.iter().any(|fault| fault.node == node && is_for_good(fault)) {
                self.opened += 1;
                self.open().await;
            }
            return Ok(());
        }
        self.still.1 = 0;
        if let ChaosKind::Cut { millis, .. } = self.faults[self.opened].spec.kind {
            self.cut_off(node, millis).await?;
        }
        let fault = &mut self.faults[self.opened];
        let node = &mut self.nodes[node];
        let back = |millis: u64| Some(Instant::now() + Duration::from_millis(millis));
        match fault.spec.kind {
            ChaosKind::Kill { .. } => node.kill()?,
            ChaosKind::Restart { millis, .. } => {
                node.kill()?;
                fault.mend_at = back(millis);
            }
            ChaosKind::Pause { millis, .. } => {
                node.signal("STOP")?;
                fault.mend_at = back(millis);
            }
            ChaosKind::Cut { millis, .. } => fault.mend_at = back(millis),
            ChaosKind::Panic { .. } => {}
        }
        fault.struck = true;
        fault.is_away = true;
        show(LocalClusterEvent::Line(format!("struck: {}", fault.spec)));
        self.opened += 1;
        self.open().await;
        Ok(())
    }

    /// Tells a node to let nothing pass between it and the others.
    async fn cut_off(&self, node: usize, millis: u64) -> Result<(), LocalClusterError> {
        let node = &self.nodes[node];
        let role = format!("run/{}", node.name);
        let body = format!("{{\"CutOff\":{millis}}}");
        let mut answer = Err(String::new());
        for _ in 0..CUT_ATTEMPTS {
            answer = node.ask(CtlTask::Ask { role: role.clone(), body: body.clone() }).await;
            if answer.is_ok() {
                break;
            }
        }
        let failed = |reason| LocalClusterError::Failed { node: node.name.clone(), reason };
        answer.map(drop).map_err(failed)
    }

    /// Lets the sources pass.
    async fn open(&self) {
        let mut asked = JoinSet::new();
        for (place, node) in self.nodes.iter().enumerate() {
            if self.is_harmed(place) {
                continue;
            }
            let role = format!("run/{}", node.name);
            let body = format!("{{\"Open\":{}}}", self.opened);
            asked.spawn(node.ask(CtlTask::Ask { role, body }));
        }
        // Whoever did not hear it is told again.
        while asked.join_next().await.is_some() {}
    }

    /// Ends the faults whose time is over.
    pub(super) fn mend(
        &mut self,
        show: &mut impl FnMut(LocalClusterEvent),
    ) -> Result<(), LocalClusterError> {
        for fault in &mut self.faults {
            if fault.mend_at.is_none_or(|at| Instant::now() < at) {
                continue;
            }
            (fault.mend_at, fault.is_away) = (None, false);
            let node = &mut self.nodes[fault.node];
            match fault.spec.kind {
                ChaosKind::Restart { .. } => {
                    let (node, process) = (node.name.clone(), node.start()?);
                    show(LocalClusterEvent::Started { node, process });
                }
                ChaosKind::Pause { .. } => node.signal("CONT")?,
                // A node that was cut off ends that itself.
                ChaosKind::Panic { .. } | ChaosKind::Kill { .. } | ChaosKind::Cut { .. } => {}
            }
            show(LocalClusterEvent::Line(format!("over: {}", fault.spec)));
        }
        Ok(())
    }

    pub(super) fn add_faults(&self, report: &mut RunReport) {
        let fired = |spec: &ChaosSpec| {
            let struck = self.faults.iter().any(|fault| fault.spec == *spec && fault.struck);
            let told = report.chaos.iter().any(|told| told.spec == spec.text && told.fired);
            struck || told
        };
        let all = self.all_faults.specs.iter();
        report.chaos =
            all.map(|spec| ChaosReport { spec: spec.text.clone(), fired: fired(spec) }).collect();
    }
}

pub(super) fn node_of(kind: &ChaosKind) -> &str {
    match kind {
        ChaosKind::Panic { .. } => "",
        ChaosKind::Kill { node, .. }
        | ChaosKind::Restart { node, .. }
        | ChaosKind::Pause { node, .. }
        | ChaosKind::Cut { node, .. } => node,
    }
}
