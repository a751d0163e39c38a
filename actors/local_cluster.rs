//! A cluster of processes on this machine, for `demo` and `run --nodes N`: starts them, shows what
//! happens to them, harms them as ordered, and collects the report.
//!
//! ```text
//! LocalCluster ─ starts ─▶ tickwright node …   (one process a node, on loopback)
//!       ├──────── asks ──▶ run/NODE: Progress, Report   (HTTP, as any tool)
//!       └─ kill, stop, continue, start again, cut off ─▶ the processes, at given shares of the input
//! ```
//!
//! The nodes end with this process however it ends: each watches its standard input.

mod directory;
mod faults;
mod looped;
mod presence;
mod process;
mod search;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tickwright_core::backtest::report::RunReport;
use tickwright_core::config::{Chaos as Faults, ChaosKind, Config};
use tickwright_core::ledger::voters_of;
use tickwright_core::optimise::report::OptimiseReport;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use crate::backtest::SIMULATOR;
use crate::ctl::{CtlTarget, CtlTask, ask};
use crate::run::{finish_directory, node_faults};
use crate::share::ShareProgress;
use crate::telemetry::Sample;
use faults::{Fault, node_of};
use presence::Presence;
use process::NodeProcess;

pub use looped::Middle;
pub use search::{SearchNodesEvent, search_nodes};

/// Between two looks at the nodes, unless somebody wants to disturb them less.
pub const LOOK: Duration = Duration::from_millis(50);

/// How long a node may take to say how far it is.
const ASK_PATIENCE: Duration = Duration::from_secs(2);

/// How long all nodes may take to find each other.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);

/// Shards for each node that computes, so that several can share the work evenly.
const SHARDS_PER_NODE: usize = 2;

/// Shards that there may be.
const SHARDS_MAX: usize = 64;

/// How often it is tried to get the report.
const REPORT_ATTEMPTS: usize = 5;

/// What a run over several processes is made of.
#[derive(Clone, Debug)]
pub struct LocalClusterArguments {
    /// How many nodes.
    pub nodes: u16,
    /// `cluster.toml`.
    pub config: Config,
    /// The file of it, and what was laid over it, as given.
    pub config_file: Option<PathBuf>,
    /// Keys and values.
    pub overrides: Vec<(String, String)>,
    /// The files; none are the simulated market, or the venue.
    pub data: Vec<PathBuf>,
    /// What the nodes are there for.
    pub purpose: Purpose,
    /// Faults to inject.
    pub faults: Faults,
    /// Between two looks at the nodes.
    pub look: Duration,
}

/// What nodes are there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To run the pipeline over files, or over the simulated market if there are none.
    Run,
    /// The same; and to search on the rows before the middle, and adopt there what was found.
    Loop(Middle),
    /// To run it on what the venue of `[live]` says, until that is stopped.
    Live,
    /// To search for parameters over files.
    Search,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum LocalClusterError {
    /// A process cannot be started, stopped or reached.
    #[error("{what}: {error}")]
    Process {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// A node has ended by itself.
    #[error("{node} has ended ({status}); what it said last:\n{log}")]
    Ended {
        /// Which.
        node: String,
        /// How.
        status: String,
        /// Its last lines.
        log: String,
    },
    /// Its own nodes would not answer it.
    #[error(
        "node.tokens_file is set, and the nodes that this command starts are asked by itself, without tokens: add \
         --set node.tokens_file=none, or start nodes by `tickwright node`"
    )]
    Tokens,
    /// The nodes do not find each other.
    #[error("the nodes have not found each other within {JOIN_PATIENCE:?}: {0}")]
    Apart(String),
    /// The directory is of a cluster of other nodes, for whom these would wait.
    #[error(
        "{} was used by other nodes too ({}), and these would wait for them: give --data-dir another directory, or \
         delete this one", directory.display(), nodes.join(", ")
    )]
    OtherNodes {
        /// Which directory.
        directory: PathBuf,
        /// Who is missing.
        nodes: Vec<String>,
    },
    /// A node cannot go on with its share.
    #[error("{node}: {reason}")]
    Failed {
        /// Which.
        node: String,
        /// Why.
        reason: String,
    },
    /// A fault names a node that there is not.
    #[error("--chaos {spec}: there is no node {node:?}; there are {}", known.join(", "))]
    UnknownNode {
        /// The fault.
        spec: String,
        /// The name.
        node: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A fault would end the run for good.
    #[error(
        "--chaos {spec}: {node} alone has what all have agreed on, and nobody can take over from it; \
         restart:{node} or pause:{node} it, or have three nodes or more"
    )]
    OnlyVoter {
        /// The fault.
        spec: String,
        /// The node.
        node: String,
    },
    /// The report cannot be read.
    #[error("the report of {node} cannot be read: {reason}")]
    Report {
        /// Who has it.
        node: String,
        /// Why.
        reason: String,
    },
    /// The run was stopped before the end of its sources.
    #[error("stopped before the end; the same command goes on from here")]
    Stopped,
}

/// What happens, for whoever watches.
#[derive(Clone, Debug)]
pub enum LocalClusterEvent {
    /// A node runs as this process.
    Started {
        /// Its name.
        node: String,
        /// The process's number.
        process: u32,
    },
    /// How far the run has come.
    Progress(Sample),
    /// A line about the nodes.
    Line(String),
    /// What was found meanwhile.
    Found(Box<OptimiseReport>),
}

/// The names of `count` nodes, each with what it is there for in the first place.
pub fn layout(count: u16) -> Vec<(String, &'static str)> {
    let named = |names: &[(&str, &'static str)]| {
        names.iter().map(|&(name, duty)| (name.to_owned(), duty)).collect()
    };
    match count {
        0 | 1 => named(&[("node-1", "data,calc,exec,control")]),
        2 => named(&[("data-1", "data,exec,control"), ("calc-1", "calc,control")]),
        3 | 4 => {
            let mut nodes: Vec<_> =
                named(&[("data-1", "data,control"), ("calc-1", "calc,control")]);
            nodes.extend((2..count - 1).map(|number| (format!("calc-{number}"), "calc,control")));
            nodes.push(("exec-1".to_owned(), "exec,control"));
            nodes
        }
        _ => {
            let mut nodes = vec![("data-1".to_owned(), "data,control")];
            nodes.extend((1..count - 2).map(|number| (format!("calc-{number}"), "calc,control")));
            nodes.push(("exec-1".to_owned(), "exec,control"));
            nodes.push(("control-1".to_owned(), "control"));
            nodes
        }
    }
}

/// Runs the pipeline over several processes to its end. `show` is told what happens.
///
/// # Errors
///
/// [`LocalClusterError`]. What was stored by then is kept, and the same run can be resumed.
pub async fn run_nodes(
    arguments: LocalClusterArguments,
    mut show: impl FnMut(LocalClusterEvent),
    stop: impl Future<Output = ()>,
) -> Result<RunReport, LocalClusterError> {
    let is_live = arguments.purpose == Purpose::Live;
    let config = arguments.config.clone();
    let mut cluster = LocalCluster::new(arguments)?;
    let (is_over, over) = watch::channel(false);
    tokio::pin!(stop);
    let ended = {
        let run = cluster.run(&mut show, over);
        tokio::pin!(run);
        tokio::select! {
            ended = &mut run => ended,
            // What has been said is worked through, as in one process.
            () = &mut stop => if is_live {
                is_over.send_replace(true);
                run.await
            } else {
                Err(LocalClusterError::Stopped)
            },
        }
    };
    cluster.end(&mut show).await;
    if ended.is_ok() {
        cluster.finish_directories(&config, &mut show);
    }
    ended
}

struct LocalCluster {
    nodes: Vec<NodeProcess>,
    /// Keep the ports of nodes that are down for these.
    _claims: Vec<UdpSocket>,
    /// Voters that the ledger is to have.
    voters: usize,
    faults: Vec<Fault>,
    all_faults: Faults,
    /// Sources may pass so many of the places at which faults strike.
    opened: usize,
    /// Bytes read, and for how many looks there were no more.
    still: (u64, u32),
    /// At which epoch and where each unit was last seen, and how often that was another node than before.
    homes: BTreeMap<String, (u64, usize)>,
    failovers: u64,
    presence: Presence,
    /// Nodes that have not been told that the run is over.
    untold: Vec<usize>,
    look: Duration,
    looped: Option<looped::Loop>,
}

impl LocalCluster {
    fn new(arguments: LocalClusterArguments) -> Result<Self, LocalClusterError> {
        let layout = match arguments.purpose {
            Purpose::Run | Purpose::Loop(_) | Purpose::Live => layout(arguments.nodes),
            Purpose::Search => search::layout(arguments.nodes),
        };
        let names: Vec<String> = layout.iter().map(|(name, _)| name.clone()).collect();
        let voters = voters_of(layout.len(), arguments.config.cluster.voters);
        let mut faults: Vec<(u8, Fault)> = Vec::new();
        for (spec, percent) in node_faults(&arguments.faults) {
            let wanted = node_of(&spec.kind);
            let node = names.iter().position(|name| name == wanted);
            let node = node.ok_or_else(|| LocalClusterError::UnknownNode {
                spec: spec.text.clone(),
                node: wanted.to_owned(),
                known: names.clone(),
            })?;
            // The first founds the cluster.
            if matches!(spec.kind, ChaosKind::Kill { .. }) && voters == 1 && node == 0 {
                let (spec, node) = (spec.text.clone(), wanted.to_owned());
                return Err(LocalClusterError::OnlyVoter { spec, node });
            }
            let fault =
                Fault { spec: spec.clone(), node, struck: false, is_away: false, mend_at: None };
            faults.push((percent, fault));
        }
        // Stable, as the gates of the nodes are.
        faults.sort_by_key(|&(percent, _)| percent);
        directory::check(Path::new(&arguments.config.node.data_dir), &names)?;
        let (nodes, claims) = processes(&arguments, &layout)?;
        let faults = faults.into_iter().map(|(_, fault)| fault).collect();
        let (all_faults, look) = (arguments.faults, arguments.look);
        let looped = match arguments.purpose {
            Purpose::Loop(middle) => Some(looped::Loop::new(middle)),
            Purpose::Run | Purpose::Live | Purpose::Search => None,
        };
        let (homes, still, presence) = (BTreeMap::new(), (0, 0), Presence::new(nodes.len()));
        Ok(Self {
            nodes,
            _claims: claims,
            voters,
            faults,
            all_faults,
            opened: 0,
            still,
            homes,
            failovers: 0,
            presence,
            untold: Vec::new(),
            look,
            looped,
        })
    }

    async fn run(
        &mut self,
        show: &mut impl FnMut(LocalClusterEvent),
        over: watch::Receiver<bool>,
    ) -> Result<RunReport, LocalClusterError> {
        let last = self.nodes.len() - 1;
        for place in 0..=last {
            if place == last {
                // The pipeline begins when all are there.
                self.hold().await?;
            }
            let (node, process) = (self.nodes[place].name.clone(), self.nodes[place].start()?);
            show(LocalClusterEvent::Started { node, process });
        }
        self.wait_joined().await?;
        self.wait_voters().await?;
        let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        show(LocalClusterEvent::Line(format!("up: {}", names.join(", "))));
        let begun = Instant::now();
        let mut look = interval(self.look);
        let mut told: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        loop {
            look.tick().await;
            self.mend(show)?;
            self.check_running()?;
            let progress = self.progress().await;
            let mut sample = Sample::default();
            for (place, progress) in progress.iter().enumerate() {
                let (name, is_harmed) = (&self.nodes[place].name, self.is_harmed(place));
                let has_answered = progress.is_some();
                let change = self.presence.on_look(place, has_answered, is_harmed, Instant::now());
                if let Some(change) = change {
                    show(LocalClusterEvent::Line(format!("{change}: {name}")));
                }
                let Some(progress) = progress else { continue };
                if let Some(reason) = &progress.failure {
                    let (node, reason) = (name.clone(), reason.clone());
                    return Err(LocalClusterError::Failed { node, reason });
                }
                if told.insert(place, progress.units.clone()).as_ref() != Some(&progress.units) {
                    let units = match progress.units.as_slice() {
                        [] => "nothing, and stands by".to_owned(),
                        units => units.join(" "),
                    };
                    show(LocalClusterEvent::Line(format!("{name} has {units}")));
                }
                let mut moved: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
                for unit in &progress.units {
                    let home = (progress.epochs.get(unit).copied().unwrap_or(0), place);
                    let before = *self.homes.entry(unit.clone()).or_insert(home);
                    // Who slept may not know yet that its unit is another's.
                    if home.0 > before.0 {
                        self.homes.insert(unit.clone(), home);
                        if home.1 != before.1 {
                            self.failovers += 1;
                            moved.entry(before.1).or_default().push(unit);
                        }
                    }
                }
                for (from, units) in moved {
                    let (from, units) = (&self.nodes[from].name, units.join(" "));
                    let line = format!("{name} has {units} now, which {from} had");
                    show(LocalClusterEvent::Line(line));
                }
                sample.bytes += progress.bytes_read;
                sample.rows += progress.rows;
                sample.orders += progress.orders;
                sample.held += progress.held;
            }
            show(LocalClusterEvent::Progress(sample));
            self.go_on(show).await?;
            let reporter = progress
                .iter()
                .position(|progress| progress.as_ref().is_some_and(|progress| progress.has_report));
            if let Some(node) = reporter {
                let mut report = self.report(node).await?;
                report.nodes = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
                report.restarts += self.nodes.iter().map(NodeProcess::restarts).sum::<u64>();
                report.failovers += self.failovers;
                report.set_duration(begun.elapsed(), 0);
                self.add_faults(&mut report);
                if let Some(found) = self.found().await? {
                    report.out_of_sample = found.out_of_sample(&report.parameter_changes);
                    show(LocalClusterEvent::Found(Box::new(found)));
                }
                self.look_who_is_untold().await;
                return Ok(report);
            }
            if *over.borrow() {
                self.finish_feeds().await;
            }
            self.harm(&sample, show).await?;
        }
    }

    /// Whoever listens just now hears that the feed is finished; said again, for it may be another then.
    async fn finish_feeds(&self) {
        for node in &self.nodes {
            let role = format!("run/{}", node.name);
            // Who does not answer, or has no feed, is no matter.
            let _ = node.ask(CtlTask::Ask { role, body: "\"Finish\"".into() }).await;
        }
    }

    /// Every node, at once; none from one that does not answer.
    async fn progress(&self) -> Vec<Option<ShareProgress>> {
        let mut asked = JoinSet::new();
        for (place, node) in self.nodes.iter().enumerate() {
            if self.is_harmed(place) {
                continue;
            }
            let role = format!("run/{}", node.name);
            let asking = node.ask(CtlTask::Ask { role, body: "\"Progress\"".into() });
            asked.spawn(async move { (place, asking.await) });
        }
        let mut all = vec![None; self.nodes.len()];
        while let Some(Ok((place, answer))) = asked.join_next().await {
            all[place] = answer.ok().and_then(|answer| serde_json::from_value(answer).ok());
        }
        all
    }

    /// Who was there at the end has been told that the run is over.
    async fn look_who_is_untold(&mut self) {
        let progress = self.progress().await.into_iter().enumerate();
        let untold = progress.filter(|(_, progress)| !progress.as_ref().is_some_and(|p| p.is_over));
        self.untold = untold.map(|(place, _)| place).collect();
    }

    /// Nodes that were lost, or slept, when the run ended would refuse the next one in this directory.
    fn finish_directories(&self, config: &Config, show: &mut impl FnMut(LocalClusterEvent)) {
        for &place in &self.untold {
            let name = &self.nodes[place].name;
            let directory = PathBuf::from(&config.node.data_dir).join(name);
            if let Err(error) = finish_directory(config, &directory) {
                show(LocalClusterEvent::Line(format!("{name}: {error}")));
            }
        }
    }

    async fn report(&self, node: usize) -> Result<RunReport, LocalClusterError> {
        let node = &self.nodes[node];
        let role = format!("run/{}", node.name);
        let mut answer = Err(String::new());
        for _ in 0..REPORT_ATTEMPTS {
            answer = node.ask(CtlTask::Ask { role: role.clone(), body: "\"Report\"".into() }).await;
            if answer.is_ok() {
                break;
            }
        }
        let report = answer.and_then(|answer: Value| {
            serde_json::from_value::<RunReport>(answer).map_err(|error| error.to_string())
        });
        report.map_err(|reason| LocalClusterError::Report { node: node.name.clone(), reason })
    }

    /// Waits until every node sees every other one.
    async fn wait_joined(&mut self) -> Result<(), LocalClusterError> {
        let deadline = Instant::now() + JOIN_PATIENCE;
        let mut missing: BTreeSet<usize> = (0..self.nodes.len()).collect();
        let mut last = String::new();
        while !missing.is_empty() {
            self.check_running()?;
            if Instant::now() >= deadline {
                return Err(LocalClusterError::Apart(last));
            }
            for place in missing.clone() {
                let seen = self.nodes[place].ask(CtlTask::Members).await;
                let up = |members: &Value| {
                    let members = members.as_array().map(Vec::as_slice).unwrap_or_default();
                    members.iter().filter(|member| member["status"] == "up").count()
                };
                match seen {
                    Ok(members) if up(&members) == self.nodes.len() => {
                        missing.remove(&place);
                    }
                    Ok(members) => {
                        let name = &self.nodes[place].name;
                        last = format!("{name} sees {} of {}", up(&members), self.nodes.len());
                    }
                    Err(reason) => last = reason,
                }
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until the ledger has as many voters as it is to have: it grows by one at a time, and while one
    /// node alone votes, its loss is the loss of what all agreed on.
    async fn wait_voters(&mut self) -> Result<(), LocalClusterError> {
        let deadline = Instant::now() + JOIN_PATIENCE;
        loop {
            self.check_running()?;
            let status = self.nodes[0].ask(CtlTask::Status).await.unwrap_or_default();
            let voters = status["ledger"]["voters"].as_array().map_or(0, Vec::len);
            if voters >= self.voters {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let told = format!("{voters} of {} voters of the ledger are there", self.voters);
                return Err(LocalClusterError::Apart(told));
            }
            sleep(LOOK).await;
        }
    }

    /// A node that has ended without an order to is the end of the run.
    fn check_running(&mut self) -> Result<(), LocalClusterError> {
        for node in &mut self.nodes {
            if let Some(status) = node.has_ended()? {
                let (node, log) = (node.name.clone(), node.last_lines());
                return Err(LocalClusterError::Ended { node, status, log });
            }
        }
        Ok(())
    }

    /// Ends every node, in order as far as it will.
    async fn end(&mut self, show: &mut impl FnMut(LocalClusterEvent)) {
        for node in &mut self.nodes {
            // One that is stopped hears nothing.
            let _ = node.signal("CONT");
            let _ = node.signal("INT");
        }
        for node in &mut self.nodes {
            if let Err(error) = node.wait_end().await {
                show(LocalClusterEvent::Line(format!("{}: {error}", node.name)));
            }
        }
    }
}

/// The processes, not started yet, and claims to their ports.
fn processes(
    arguments: &LocalClusterArguments,
    layout: &[(String, &'static str)],
) -> Result<(Vec<NodeProcess>, Vec<UdpSocket>), LocalClusterError> {
    let config = &arguments.config;
    if config.node.tokens_file.is_some() {
        return Err(LocalClusterError::Tokens);
    }
    let what = |what: &str| {
        let what = what.to_owned();
        move |error| LocalClusterError::Process { what, error }
    };
    let program = std::env::current_exe().map_err(what("this program cannot be found"))?;
    let (ports, claims) = free_ports(layout.len() * 2).map_err(what("there are no free ports"))?;
    let (ports, http_ports) = ports.split_at(layout.len());
    let calc = layout.iter().filter(|(_, duties)| duties.contains("calc")).count();
    let shards = config.pipeline.shards.max((calc * SHARDS_PER_NODE).min(SHARDS_MAX));
    let seeds: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    // A search names the simulated market as if it were a file.
    let is_market =
        |path: &Path| matches!(arguments.purpose, Purpose::Search) && path == Path::new(SIMULATOR);
    let found = |path: &PathBuf| match is_market(path) {
        true => Ok(path.clone()),
        false => std::path::absolute(path),
    };
    let paths: Result<Vec<PathBuf>, _> = arguments.data.iter().map(found).collect();
    let paths = paths.map_err(what("the data files cannot be found"))?;
    let list = |items: &[String]| Value::from(items.to_vec()).to_string();
    let input = match (paths.is_empty(), arguments.purpose) {
        (_, Purpose::Search) => "none",
        (false, _) => "files",
        (true, Purpose::Live) => "live",
        (true, Purpose::Run | Purpose::Loop(_)) => "simulator",
    };
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let mut common = vec![
        ("cluster.seeds".to_owned(), list(&seeds)),
        ("pipeline.input".to_owned(), input.to_owned()),
        ("allocation.nodes_min".to_owned(), layout.len().to_string()),
    ];
    match arguments.purpose {
        Purpose::Search => common.extend(search::settings(config, layout.len(), list(&paths))),
        Purpose::Run | Purpose::Loop(_) | Purpose::Live => common.extend([
            ("pipeline.data".to_owned(), list(&paths)),
            ("pipeline.shards".to_owned(), shards.to_string()),
        ]),
    }
    if let Purpose::Loop(middle) = arguments.purpose {
        let data = if paths.is_empty() { vec![SIMULATOR.to_owned()] } else { paths };
        common.extend(looped::settings(config, layout.len(), middle, list(&data)));
    }
    let mut processes = Vec::new();
    for (place, (name, duties)) in layout.iter().enumerate() {
        let directory = PathBuf::from(&config.node.data_dir).join(name);
        let log = PathBuf::from(&config.node.data_dir).join("logs").join(format!("{name}.log"));
        let own = [
            ("node.name".to_owned(), name.clone()),
            ("node.roles".to_owned(), (*duties).to_owned()),
            ("node.data_dir".to_owned(), directory.display().to_string()),
            ("node.http_bind".to_owned(), format!("127.0.0.1:{}", http_ports[place])),
            ("cluster.bind".to_owned(), seeds[place].clone()),
        ];
        let mut options = vec!["node".to_owned(), "--attached".to_owned()];
        if let Some(file) = &arguments.config_file {
            options.extend(["--config".to_owned(), file.display().to_string()]);
        }
        for (key, value) in arguments.overrides.iter().chain(&common).chain(&own) {
            options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        for spec in &arguments.faults.specs {
            options.extend(["--chaos".to_owned(), spec.text.clone()]);
        }
        let target = CtlTarget {
            url: format!("http://127.0.0.1:{}", http_ports[place]),
            on: None,
            patience: Some(ASK_PATIENCE),
            tls: None,
            token: None,
        };
        processes.push(NodeProcess::new(name.clone(), program.clone(), options, target, log));
    }
    Ok((processes, claims))
}

/// Ports that nobody uses just now, and claims to them. They are below those that the system takes for
/// connections: a node that is started again must find its own free.
///
/// # Errors
///
/// There are not so many.
pub fn free_ports(count: usize) -> io::Result<(Vec<u16>, Vec<UdpSocket>)> {
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    let place = std::process::id() % u32::from(PORTS.end - PORTS.start);
    let first = PORTS.start + u16::try_from(place).unwrap_or(0);
    let ports = (first..PORTS.end).chain(PORTS.start..first);
    let claimed: Vec<(u16, UdpSocket)> =
        ports.filter_map(|port| Some((port, claim(port).ok()?))).take(count).collect();
    if claimed.len() < count {
        let told = format!("{count} are wanted of those from {} to {}", PORTS.start, PORTS.end);
        return Err(io::Error::new(io::ErrorKind::AddrInUse, told));
    }
    Ok(claimed.into_iter().unzip())
}

/// Claims a port of TCP that nobody listens at. While its node is down the port is free, so other
/// clusters that look for ports just then must be told by other means: all who look hold the same port
/// of UDP, which nodes have no use for, and the system lets go of it whatever becomes of the holder.
///
/// # Errors
///
/// Somebody has the port, or has claimed it.
pub fn claim(port: u16) -> io::Result<UdpSocket> {
    let claim = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    Ok(claim)
}

impl NodeProcess {
    /// Asks this node.
    fn ask(&self, task: CtlTask) -> impl Future<Output = Result<Value, String>> + use<> {
        let target = self.target.clone();
        async move {
            let asked = tokio::task::spawn_blocking(move || ask(&task, &target)).await;
            asked.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_has_every_duty_and_as_many_nodes_as_it_says() {
        for count in 1..=12 {
            let layout = layout(count);
            assert_eq!(layout.len(), usize::from(count));
            for duty in ["data", "calc", "exec", "control"] {
                assert!(layout.iter().any(|(_, duties)| duties.contains(duty)), "{count}: {duty}");
            }
            let names: BTreeSet<&String> = layout.iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), layout.len());
        }
        let names = |count| layout(count).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(3), ["data-1", "calc-1", "exec-1"]);
        assert_eq!(names(5), ["data-1", "calc-1", "calc-2", "exec-1", "control-1"]);
    }
}
