//! A pipeline in this process whose source gives its first row when it is told to.
#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(clippy::unwrap_used, reason = "what fails to start is a failure")]

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tickwright::ingester::OpenSource;
use tickwright::kit::{Chaos, Store};
use tickwright::node::{self, Node, NodeArguments, NodeSource};
use tickwright::source::simulated::SimulatedSource;
use tickwright::source::{Format, Progress, Source, SourceError};
use tickwright_core::config::Config;
use tickwright_core::pipeline::ingest::{Ingester, SourcePosition};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Rows come when it is opened, so that the changes can be made before the run has passed them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        tokio::task::block_in_place(|| {
            let (is_open, opened) = &*self.0;
            let closed = is_open.lock().unwrap();
            let waited = opened.wait_timeout_while(closed, PATIENCE, |is_open| !*is_open).unwrap();
            assert!(!waited.1.timed_out(), "the gate stays closed");
        });
    }
}

#[derive(Debug)]
struct Gated(SimulatedSource, Gate);

impl Source for Gated {
    fn read(&mut self, ingester: &mut Ingester, rows_max: usize) -> Result<Progress, SourceError> {
        self.1.wait();
        self.0.read(ingester, rows_max)
    }
    fn position(&self) -> SourcePosition {
        self.0.position()
    }
    fn seek(&mut self, position: &SourcePosition) -> Result<(), SourceError> {
        self.0.seek(position)
    }
    fn bytes_read(&self) -> u64 {
        self.0.bytes_read()
    }
    fn bytes_total(&self) -> u64 {
        self.0.bytes_total()
    }
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn format(&self) -> Format {
        self.0.format()
    }
}

/// A node that reads nothing until the gate is opened.
pub(crate) async fn start(settings: &str, panics: &[(&str, u64)], store: Store) -> (Node, Gate) {
    start_over(50_000, settings, panics, store).await
}

/// The same over so many ticks.
pub(crate) async fn start_over(
    ticks: u64,
    settings: &str,
    panics: &[(&str, u64)],
    store: Store,
) -> (Node, Gate) {
    let text = format!("simulator.ticks = {ticks}\njournal.enabled = false\n{settings}");
    let config = Config::parse(&text, "test.toml").unwrap();
    let (market, seed) = (config.simulator(), config.pipeline.seed);
    let gate = Gate::default();
    let gate_of_source = gate.clone();
    let open: OpenSource = Arc::new(move || {
        let market = SimulatedSource::new(market.clone(), seed);
        Ok(Box::new(Gated(market, gate_of_source.clone())))
    });
    let panic = |&(actor, every): &(&str, u64)| (actor.to_owned(), actor.to_owned(), every);
    if !panics.is_empty() {
        Chaos::quieten_panics();
    }
    let arguments = NodeArguments {
        chaos: Chaos::new(panics.iter().map(panic).collect()),
        ..NodeArguments::alone(config, vec![NodeSource::Readable(open)], store)
    };
    (node::start(arguments).await.unwrap(), gate)
}

/// The digest, and how often something was restarted.
pub(crate) async fn finish(mut node: Node) -> (String, u64) {
    tokio::time::timeout(PATIENCE, node.finished.recv()).await.unwrap().unwrap();
    let report = node.report(PATIENCE).await.unwrap();
    let _ = node.supervisor.stop_and_wait(None, Some(PATIENCE)).await;
    (report.positions.positions.digest().to_string(), node.statistics.restarts())
}
