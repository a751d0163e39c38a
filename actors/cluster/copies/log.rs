//! Has a log that is appended to here kept on other nodes too.
//!
//! ```text
//! journal, arrivals ─ Append, Written ─▶ LogWorker ─ CopySet: stored ─▶ done
//!                                          └─ a feeder a node: State ─▶ what is missing ─▶ what comes
//! ```
//!
//! A feeder first gives its node what that lacks, out of the store, and then what is appended, as much
//! at a time as came while the last message was under way: so one commit there serves many records.
//!
//! *Bounds.* What is appended is kept in memory until it is stored everywhere; whoever appends has a
//! bounded number of records on the way.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tickwright_core::cluster::{CopySet, Lineage, LogState, Stretch, Unit, ranked};
use tickwright_core::domain::NodeId;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};
use tokio::time::{interval, sleep};

use super::kept::LogCall;
use super::{KIND, Shared, decode, encode, role};
use crate::cluster::network::{DeliveryError, Message, Route, lock};
use crate::kit::{Done, LogCopy, LogOutlet, Outlet, StoreError, Undelivered};

/// Bytes of records that travel together, unless one alone is larger.
const MESSAGE_BYTES: usize = 1 << 20;

/// How long a node may take to keep what it is given. One that stands still loses its link before.
const KEEP_PATIENCE: Duration = Duration::from_secs(5);

/// When a node that could not keep copies is asked again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// Before a node is asked again that was reached and lost.
const AGAIN: Duration = Duration::from_millis(50);

/// A record that is not stored everywhere yet.
struct Recent {
    key: u64,
    value: Vec<u8>,
    done: Done,
}

/// What the feeders of one log share.
struct Log {
    shared: Arc<Shared>,
    unit: Unit,
    epoch: u64,
    tree: String,
    inner: Mutex<Inner>,
    /// How many records were appended.
    appended: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    lineage: Lineage,
    /// Appended and not stored everywhere, in order.
    recent: VecDeque<Recent>,
    /// How many came before the first of these.
    before: u64,
    /// What is before this key is needed no more.
    oldest: u64,
}

enum Told {
    /// It has everything before, and so many records.
    Kept(NodeId, u64),
    /// There is a later owner.
    Fenced,
    /// It cannot be kept there.
    Refused(NodeId, String),
    /// It cannot be reached just now.
    Lost(NodeId),
}

/// How a log is kept, for people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LogStatus {
    /// The nodes that have all of it, beside the owner.
    pub copies: Vec<NodeId>,
    /// How many there are to be.
    pub wanted: usize,
    /// Why nothing passes, if nothing does.
    pub waits_for: Option<&'static str>,
}

/// An outlet for the log in `tree` of `unit`, which began its `epoch` here. What it has done ends when
/// the last of its clones is dropped.
pub(super) fn outlet(shared: &Arc<Shared>, unit: Unit, epoch: u64, tree: String) -> LogOutlet {
    let (sender, commands) = mpsc::unbounded_channel();
    let log = Arc::new(Log {
        shared: Arc::clone(shared),
        unit,
        epoch,
        tree,
        inner: Mutex::default(),
        appended: watch::channel(0).0,
    });
    let (told, tellings) = mpsc::unbounded_channel();
    let worker = LogWorker {
        set: CopySet::new(shared.others),
        log,
        feeders: BTreeMap::new(),
        tasks: JoinSet::new(),
        told,
        serial: 0,
        begun: Vec::new(),
        obstacle: None,
    };
    tokio::spawn(worker.run(commands, tellings));
    let gone = Undelivered { role: "copies".into() };
    Outlet::to_function("copies", move |command| sender.send(command).map_err(|_| gone.clone()))
}

/// A node that is given the log.
struct Feeding {
    serial: u64,
    /// The way to it.
    route: Route,
    task: AbortHandle,
}

struct LogWorker {
    log: Arc<Log>,
    set: CopySet,
    /// Who is given the log, by which way.
    feeders: BTreeMap<NodeId, Feeding>,
    tasks: JoinSet<()>,
    told: mpsc::UnboundedSender<(u64, Told)>,
    /// Feeders so far: what an earlier one of a node says does not count.
    serial: u64,
    /// Who waits until all before this many records is stored.
    begun: Vec<(u64, Done)>,
    obstacle: Option<&'static str>,
}

impl LogWorker {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<LogCopy>,
        mut tellings: mpsc::UnboundedReceiver<(u64, Told)>,
    ) {
        let (store, tree) = (self.log.shared.store.clone(), self.log.tree.clone());
        let found = spawn_blocking(move || super::kept::lineage(&store, &tree)).await;
        lock(&self.log.inner).lineage = found.unwrap_or_default();
        let mut routes = self.log.shared.network.routes();
        let mut forgiven = interval(FORGIVEN_AFTER);
        self.choose();
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                Some((serial, told)) = tellings.recv() => {
                    if self.feeders.values().any(|feeding| feeding.serial == serial) {
                        self.on_told(told);
                    }
                }
                Ok(()) = routes.changed() => {
                    routes.borrow_and_update();
                    self.choose();
                }
                _ = forgiven.tick() => {
                    self.set.forgive();
                    self.choose();
                }
                Some(_) = self.tasks.join_next() => {}
            }
            self.release();
        }
        lock(&self.log.shared.logs).remove(&self.log.tree);
    }

    fn on_command(&mut self, command: LogCopy) {
        let appended = *self.log.appended.borrow();
        match command {
            LogCopy::Begin(done) => self.begun.push((appended, done)),
            LogCopy::Append { key, value, done } => {
                let mut inner = lock(&self.log.inner);
                self.log.begin_stretch(&mut inner, key);
                inner.recent.push_back(Recent { key, value, done });
                drop(inner);
                self.log.appended.send_replace(appended + 1);
            }
            LogCopy::Written(Ok(())) => self.set.on_local(),
            // The disk has failed for good: nothing after this is written either.
            LogCopy::Written(Err(error)) => {
                let failed: Vec<Recent> = lock(&self.log.inner).recent.drain(..).collect();
                failed.into_iter().for_each(|recent| (recent.done)(Err(error.clone())));
                self.fence();
            }
            LogCopy::Trim(oldest) => {
                let mut inner = lock(&self.log.inner);
                inner.oldest = inner.oldest.max(oldest);
                inner.lineage.forget(oldest);
            }
        }
    }

    fn on_told(&mut self, told: Told) {
        match told {
            Told::Kept(node, count) => self.set.on_kept(&node, count),
            Told::Fenced => {
                tracing::warn!(unit = %self.log.unit, "it has a later owner; nothing more passes here");
                self.fence();
            }
            Told::Refused(node, reason) => {
                let (unit, tree) = (self.log.unit, &self.log.tree);
                tracing::error!(%unit, tree, %node, reason, "a log cannot be kept there");
                self.set.on_refused(&node);
                self.drop_feeder(&node);
                self.choose();
            }
            Told::Lost(node) => {
                self.set.on_lost(&node);
                self.drop_feeder(&node);
                self.choose();
            }
        }
    }

    /// Nothing passes any more, and whoever waits to begin need not.
    fn fence(&mut self) {
        self.set.on_fenced();
        self.begun.clear();
    }

    fn drop_feeder(&mut self, node: &NodeId) {
        if let Some(feeding) = self.feeders.remove(node) {
            feeding.task.abort();
        }
    }

    /// Looks who is there.
    fn choose(&mut self) {
        let shared = Arc::clone(&self.log.shared);
        let keepers = shared.keepers();
        let routes: BTreeMap<NodeId, Route> = keepers
            .iter()
            .filter_map(|node| Some((node.clone(), shared.network.route(&role(node))?)))
            .collect();
        let lost: Vec<NodeId> = self
            .feeders
            .iter()
            .filter(|(node, feeding)| routes.get(*node) != Some(&feeding.route))
            .map(|(node, _)| node.clone())
            .collect();
        for node in lost {
            self.set.on_lost(&node);
            self.drop_feeder(&node);
        }
        let members = shared.members();
        let order = ranked(self.log.unit, routes.keys().map(|node| (node, 1.0)));
        let order: Vec<NodeId> = order.into_iter().cloned().collect();
        for node in self.set.on_nodes(&order, members) {
            let Some(route) = routes.get(&node) else { continue };
            self.serial += 1;
            let serial = self.serial;
            let feeder = Feeder { log: Arc::clone(&self.log), node: node.clone(), serial };
            let task = self.tasks.spawn(feeder.run(self.told.clone()));
            self.feeders.insert(node, Feeding { serial, route: route.clone(), task });
        }
        // Those that are there no more are given nothing.
        let gone = |node: &NodeId| !routes.contains_key(node);
        let gone: Vec<NodeId> = self.feeders.keys().filter(|node| gone(node)).cloned().collect();
        gone.iter().for_each(|node| self.drop_feeder(node));
    }

    /// Tells whoever waits for what is stored now.
    fn release(&mut self) {
        // Before it says what is here, this node has heard of whoever takes over; from then on nobody
        // may see more.
        let latest = lock(&self.log.shared.epochs).latest(self.log.unit);
        if latest.is_some_and(|latest| latest > self.log.epoch) {
            self.fence();
        }
        let stored = self.set.stored();
        let mut ready = Vec::new();
        {
            let mut inner = lock(&self.log.inner);
            while inner.before < stored {
                let Some(recent) = inner.recent.pop_front() else { break };
                inner.before += 1;
                ready.push(recent.done);
            }
        }
        ready.into_iter().for_each(|done| done(Ok(())));
        if self.set.is_settled() {
            let (ready, begun) =
                std::mem::take(&mut self.begun).into_iter().partition(|(at, _)| *at <= stored);
            self.begun = begun;
            let ready: Vec<(u64, Done)> = ready;
            ready.into_iter().for_each(|(_, done)| done(Ok(())));
        }
        let obstacle = self.set.obstacle();
        if obstacle != self.obstacle {
            self.obstacle = obstacle;
            if let Some(obstacle) = obstacle {
                tracing::info!(unit = %self.log.unit, tree = self.log.tree, obstacle, "nothing passes");
            }
        }
        let status = LogStatus {
            copies: self.set.whole().cloned().collect(),
            wanted: self.log.shared.others,
            waits_for: obstacle,
        };
        let is_short = status.copies.len() < status.wanted;
        let before = lock(&self.log.shared.logs).insert(self.log.tree.clone(), status);
        let was_short = before.is_none_or(|before| before.copies.len() < before.wanted);
        if is_short && !was_short {
            let (unit, tree) = (self.log.unit, &self.log.tree);
            tracing::warn!(%unit, tree, "fewer nodes than stream.replicas have all of a log");
        }
    }
}

impl Log {
    /// From `key` on, this owner writes.
    fn begin_stretch(&self, inner: &mut Inner, key: u64) {
        let life = self.shared.network.own().incarnation;
        if inner.lineage.is_of(self.epoch, life) {
            return;
        }
        inner.lineage.begin(Stretch { epoch: self.epoch, life, start: key });
        // Before the record itself: a stretch of which nothing is there yet does no harm.
        super::kept::put_lineage(&self.shared.store, &self.tree, &inner.lineage);
    }
}

/// Gives one node the log.
struct Feeder {
    log: Arc<Log>,
    node: NodeId,
    serial: u64,
}

impl Feeder {
    async fn run(self, told: mpsc::UnboundedSender<(u64, Told)>) {
        let Err(error) = self.feed(&told).await else { return };
        let node = self.node.clone();
        let news = match error {
            FeedError::Fenced => Told::Fenced,
            FeedError::Here(error) => Told::Refused(node, error.to_string()),
            FeedError::There(error) => {
                let is_gone = matches!(
                    error,
                    DeliveryError::Unlinked(_) | DeliveryError::Ended(_) | DeliveryError::Nobody(_)
                );
                if is_gone {
                    sleep(AGAIN).await;
                    Told::Lost(node)
                } else {
                    Told::Refused(node, error.to_string())
                }
            }
            FeedError::Garbled(reason) => Told::Refused(node, reason),
        };
        // Whoever listened is gone with the unit.
        let _ = told.send((self.serial, news));
    }

    async fn feed(&self, told: &mpsc::UnboundedSender<(u64, Told)>) -> Result<(), FeedError> {
        let log = &self.log;
        let (unit, tree) = (log.unit, log.tree.clone());
        let answer = self.ask(LogCall::State { unit, epoch: log.epoch, tree }).await?;
        let theirs: Option<LogState> = decode(&answer).map_err(FeedError::Garbled)?;
        let theirs = theirs.ok_or(FeedError::Fenced)?;
        let mut count = self.give_what_was(&theirs).await?;
        let _ = told.send((self.serial, Told::Kept(self.node.clone(), count)));
        let mut appended = log.appended.subscribe();
        loop {
            if appended.wait_for(|&appended| appended > count).await.is_err() {
                return Ok(());
            }
            let records = self.next_records(count);
            let given = records.len() as u64;
            self.keep(None, records).await?;
            count += given;
            let _ = told.send((self.serial, Told::Kept(self.node.clone(), count)));
        }
    }

    /// Gives the node everything that is stored here. Returns how many appended records were before
    /// that: they are among it.
    async fn give_what_was(&self, theirs: &LogState) -> Result<u64, FeedError> {
        let (lineage, before, until) = {
            let inner = lock(&self.log.inner);
            let until = inner.recent.front().map_or(u64::MAX, |recent| recent.key);
            (inner.lineage.clone(), inner.before, until)
        };
        let (store, tree) = (self.log.shared.store.clone(), self.log.tree.clone());
        let keys = spawn_blocking(move || super::kept::extent(&store, &tree)).await;
        let keys = keys.unwrap_or(Ok(None)).map_err(FeedError::Here)?;
        if let Some((first, _)) = keys {
            // What the node kept before that, long ago, would leave a hole.
            let mut inner = lock(&self.log.inner);
            inner.oldest = inner.oldest.max(first);
        }
        let own = LogState { lineage, keys };
        let Some(mut from) = own.differs_from(theirs) else {
            // Nothing is here, so nothing of theirs is of this log.
            self.keep(Some(0), Vec::new()).await?;
            return Ok(before);
        };
        let mut is_first = true;
        loop {
            let (store, tree) = (self.log.shared.store.clone(), self.log.tree.clone());
            let read = move || super::kept::records(&store, &tree, from, MESSAGE_BYTES);
            let read = spawn_blocking(read).await.unwrap_or_else(|_| Ok(Vec::new()));
            let mut records = read.map_err(FeedError::Here)?;
            // What is appended has a message of its own.
            records.retain(|(key, _)| *key < until);
            let Some(last) = records.last().map(|(key, _)| *key) else {
                if is_first {
                    self.keep(Some(from), records).await?;
                }
                return Ok(before);
            };
            self.keep(is_first.then_some(from), records).await?;
            is_first = false;
            from = last + 1;
        }
    }

    /// What was appended after the first `count` records, as much as may travel together.
    fn next_records(&self, count: u64) -> Vec<(u64, Vec<u8>)> {
        let inner = lock(&self.log.inner);
        let skipped = usize::try_from(count.saturating_sub(inner.before)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut records = Vec::new();
        for recent in inner.recent.iter().skip(skipped) {
            bytes += recent.value.len();
            if bytes > MESSAGE_BYTES && !records.is_empty() {
                break;
            }
            records.push((recent.key, recent.value.clone()));
        }
        records
    }

    /// Has the node keep `records`; with `from`, instead of whatever it has from there on.
    async fn keep(&self, from: Option<u64>, records: Vec<(u64, Vec<u8>)>) -> Result<(), FeedError> {
        let log = &self.log;
        let (mut lineage, oldest) = {
            let inner = lock(&log.inner);
            (inner.lineage.clone(), inner.oldest)
        };
        let end = records.last().map(|(key, _)| key + 1).or(from);
        if let Some(end) = end {
            lineage.cut(end);
        }
        let (unit, epoch, tree) = (log.unit, log.epoch, log.tree.clone());
        let call = LogCall::Keep { unit, epoch, tree, lineage, from, oldest, records };
        let answer = self.ask(call).await?;
        let is_kept: bool = decode(&answer).map_err(FeedError::Garbled)?;
        if is_kept { Ok(()) } else { Err(FeedError::Fenced) }
    }

    async fn ask(&self, call: LogCall) -> Result<Vec<u8>, FeedError> {
        let (role, body) = (role(&self.node), encode(&super::Call::Log(call)));
        let epoch = self.log.epoch;
        let message = Message { role: &role, kind: KIND, epoch, body: &body, is_urgent: false };
        let asked = self.log.shared.network.ask(Some(&self.node), message, KEEP_PATIENCE).await;
        asked.map_err(FeedError::There)
    }
}

enum FeedError {
    /// There is a later owner.
    Fenced,
    /// The store here cannot be read.
    Here(StoreError),
    /// The node does not keep it.
    There(DeliveryError),
    /// It gives an answer that is none.
    Garbled(String),
}
