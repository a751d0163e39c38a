//! Copies of checkpoints on other nodes, so that whoever takes a unit over goes on from where it was,
//! and not from the beginning.
//!
//! ```text
//! stage ─ CheckpointCopy ─▶ Copies ─ Put ─▶ copies/NODE ─▶ its store ─▶ done
//! whoever takes a unit over: Copies ─ List, Fetch ─▶ every copies/NODE ─▶ own store ─▶ its stages
//! ```
//!
//! A checkpoint is a function of the inputs, the configuration and its key, so it does not matter who
//! wrote it: what is found anywhere can be gone on from, and what is found nowhere is derived again.
//!
//! *Where.* On the first `stream.replicas` - 1 nodes in the unit's own order, see [`ranked`], of those
//! that are linked just now. With fewer nodes than replicas, on as many as there are.
//!
//! *Logs.* Journals of live sources and the order in which exec took its inputs cannot be derived again:
//! what is appended to them is seen by nobody before it is on those nodes too, see [`log`], and whoever
//! takes one over needs all of it, see [`kept`].
//!
//! *Fencing.* Whoever keeps copies of a unit, or takes it over, takes nothing in from an earlier epoch of
//! it: a node that slept must not remove what its successor has to go on from.
//!
//! *Bounds.* A stage has one checkpoint under way at a time, and removes what nobody will ask for.

mod kept;
mod log;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tickwright_core::cluster::{EpochFence, Unit, ranked};
use tickwright_core::domain::{Key, NodeId};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use kept::LogCall;
pub use log::LogStatus;

use super::network::{DeliveryError, Message, Network, Request, Route, lock};
use crate::kit::{
    CheckpointCopy, CopyOutlet, Done, LogOutlet, Outlet, Store, StoreError, checkpoint_tree, key_of,
};

/// The kind of every message here.
const KIND: &str = "copy";

const ROLE_PREFIX: &str = "copies/";

/// How long a node may take to keep one copy. One that stands still loses its link long before.
const PUT_PATIENCE: Duration = Duration::from_secs(10);

/// How long whoever takes a unit over looks for checkpoints of it. What is not found by then is derived
/// again.
const GATHER_PATIENCE: Duration = Duration::from_millis(1_000);

/// How long it may take to bring here what was found: deriving it again may take far longer.
const FETCH_PATIENCE: Duration = Duration::from_secs(10);

/// Where the latest epoch of each unit is kept.
const EPOCHS: &str = "copies";

/// What is asked of a node that keeps copies.
#[derive(Debug, Serialize, Deserialize)]
enum Call {
    /// Keep this, and nothing of its tree before `oldest`. Answered by false, if the unit has a later owner.
    Put { unit: Unit, tree: String, oldest: Vec<u8>, key: Vec<u8>, value: Vec<u8> },
    /// What is there of these trees? The units have begun these epochs.
    List { epochs: Vec<(Unit, u64)>, trees: Vec<String> },
    /// One of them, whole.
    Fetch { tree: String, key: Vec<u8> },
    /// Something of a log.
    Log(LogCall),
}

/// The answer to [`Call::List`].
type Listed = Vec<(String, Vec<u8>)>;

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Copies(Arc<Shared>);

struct Shared {
    network: Network,
    store: Store,
    /// Nodes but this one that are to keep each checkpoint.
    others: usize,
    /// Refuses what is of an older epoch of a unit than was heard of.
    epochs: Mutex<EpochFence>,
    /// What was sent to whom, by which way.
    sent: Mutex<BTreeMap<(String, NodeId), Sent>>,
    /// Checkpoints that fewer nodes keep than are to.
    short: AtomicU64,
    /// How each log of a unit here is kept.
    logs: Mutex<BTreeMap<String, LogStatus>>,
}

/// What became of a checkpoint that others are to keep.
enum Copied {
    /// It is kept by as many as are to, or as there are.
    Enough,
    /// It is kept by too few, and most members are out of reach.
    TooFew,
    /// The unit has a later owner.
    Fenced,
}

struct Sent {
    route: Route,
    keys: BTreeSet<Vec<u8>>,
}

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copies").field("others", &self.0.others).finish_non_exhaustive()
    }
}

impl Copies {
    /// From now on this node keeps copies for others in `store`; of its own checkpoints, `replicas` are
    /// to be kept in all.
    pub fn start(network: Network, store: Store, replicas: usize) -> Self {
        let epochs = Mutex::new(heard_before(&store));
        let copies = Self(Arc::new(Shared {
            network,
            store,
            others: replicas.saturating_sub(1),
            epochs,
            sent: Mutex::default(),
            short: AtomicU64::new(0),
            logs: Mutex::default(),
        }));
        let shared = Arc::downgrade(&copies.0);
        let handler = move |request: Request| {
            let shared = shared.upgrade().ok_or("this node is about to stop")?;
            take_in(&shared, request)
        };
        let role = role(&copies.0.network.own().id);
        copies.0.network.register(&role, None, Arc::new(handler));
        copies
    }

    /// Keeps nothing for others any more.
    pub fn stop(&self) {
        self.0.network.unregister(&role(&self.0.network.own().id));
    }

    /// Checkpoints of units here that fewer nodes keep than are to, for want of nodes.
    pub fn short(&self) -> u64 {
        self.0.short.load(Ordering::Relaxed)
    }

    /// Where stages of `unit`, which began its `epoch` here, send copies of their checkpoints; none, if
    /// there are to be none.
    pub fn outlet(&self, unit: Unit, epoch: u64) -> Option<CopyOutlet> {
        if self.0.others == 0 {
            return None;
        }
        let (shared, network) = (Arc::downgrade(&self.0), self.0.network.clone());
        Some(Outlet::to_function("copies", move |(copy, done): (CheckpointCopy, Done)| {
            let (shared, mut routes) = (shared.clone(), network.routes());
            tokio::spawn(async move {
                // What a later owner may not find must not be called stable.
                loop {
                    routes.borrow_and_update();
                    // Without it this node stops, and nobody waits.
                    let Some(shared) = shared.upgrade() else { return };
                    match shared.copy(unit, epoch, &copy).await {
                        Copied::Enough => return done(Ok(())),
                        Copied::Fenced => return,
                        Copied::TooFew => {}
                    }
                    drop(shared);
                    if routes.changed().await.is_err() {
                        return;
                    }
                }
            });
            Ok(())
        }))
    }

    /// Where whoever appends to the log in `tree` has it kept elsewhere too; none, if there is to be no
    /// copy. To be had once for each epoch of `unit`.
    pub fn log(&self, unit: Unit, epoch: u64, tree: String) -> Option<LogOutlet> {
        (self.0.others > 0).then(|| log::outlet(&self.0, unit, epoch, tree))
    }

    /// How each log of a unit here is kept.
    pub fn logs(&self) -> BTreeMap<String, LogStatus> {
        lock(&self.0.logs).clone()
    }

    /// Brings the log in `tree` here as its latest owner left it, before `unit` begins its `epoch` here.
    ///
    /// # Errors
    ///
    /// Why it cannot be had whole; then the unit must not begin.
    pub async fn gather_log(&self, unit: Unit, epoch: u64, tree: &str) -> Result<(), String> {
        if self.0.others == 0 {
            return Ok(());
        }
        self.0.gather_log(unit, epoch, tree).await
    }

    /// Brings what other nodes keep of `trees` into the store here, before `units` begin their epochs
    /// here. What cannot be had soon is left where it is.
    pub async fn gather(&self, epochs: Vec<(Unit, u64)>, trees: Vec<String>) {
        let deadline = Instant::now() + GATHER_PATIENCE;
        for &(unit, epoch) in &epochs {
            self.0.admits(unit, epoch);
        }
        let call = encode(&Call::List { epochs, trees: trees.clone() });
        let mut asked = JoinSet::new();
        let mut waiting = 0;
        for node in self.0.keepers() {
            let (shared, call) = (Arc::clone(&self.0), call.clone());
            let is_up = self.0.network.is_up(&role(&node));
            waiting += usize::from(is_up);
            asked.spawn(async move {
                let listed = shared.ask::<Listed>(&node, &call, GATHER_PATIENCE).await;
                (node, is_up, listed)
            });
        }
        let mut found = match self.0.have(trees.clone()).await {
            Ok(have) => have,
            Err(error) => {
                tracing::warn!(%error, "the checkpoints here cannot be listed");
                return;
            }
        };
        let mut fetched = JoinSet::new();
        // Those that are suspect are waited for only while something is missing: a node that is stopped
        // must not hold up whoever takes its place.
        while waiting > 0 || !has_each(&found, &trees) {
            let next = timeout_at(deadline, asked.join_next()).await;
            let Ok(Some(Ok((node, is_up, listed)))) = next else { break };
            waiting -= usize::from(is_up);
            match listed {
                Ok(listed) => {
                    for (tree, key) in listed {
                        if found.insert((tree.clone(), key.clone())) {
                            fetched.spawn(Arc::clone(&self.0).fetch(node.clone(), tree, key));
                        }
                    }
                }
                Err(error) => tracing::debug!(%node, %error, "it does not say what it keeps"),
            }
        }
        // Each has a deadline of its own.
        while fetched.join_next().await.is_some() {}
    }

    /// From where whoever starts now can go on: the earliest of the newest checkpoints here of `trees`;
    /// none, if one of them has none.
    pub async fn newest(&self, trees: Vec<String>) -> Option<Key> {
        let count = trees.len();
        let have = self.0.have(trees).await.unwrap_or_default();
        // In order, so that the last of each tree stays.
        let newest: BTreeMap<String, Vec<u8>> = have.into_iter().collect();
        let keys = newest.values().map(|bytes| key_of(bytes));
        let keys: Option<Vec<Key>> = keys.collect();
        keys.filter(|keys| keys.len() == count)?.into_iter().min()
    }
}

impl Shared {
    /// Nodes but this one that keep copies and are linked.
    fn keepers(&self) -> Vec<NodeId> {
        let own = &self.network.own().id;
        let roles = self.network.roles().into_iter();
        let nodes = roles.filter_map(|(role, _)| role.strip_prefix(ROLE_PREFIX).map(NodeId::from));
        nodes.filter(|node| node != own && self.network.route(&role(node)).is_some()).collect()
    }

    /// Whether nobody has a later epoch of `unit`; this one is known from now on.
    fn admits(&self, unit: Unit, epoch: u64) -> bool {
        let mut epochs = lock(&self.epochs);
        let is_news = epochs.latest(unit).is_none_or(|latest| latest < epoch);
        if epochs.admit(unit, epoch).is_err() {
            return false;
        }
        if is_news {
            let (key, value) = (unit.to_string().into_bytes(), epoch.to_le_bytes().to_vec());
            // What is not known after a crash costs rows that are derived again, and no more.
            self.store.put(EPOCHS, key, value, Box::new(drop));
        }
        true
    }

    /// Every key of `trees` here, in order.
    async fn have(
        self: &Arc<Self>,
        trees: Vec<String>,
    ) -> Result<BTreeSet<(String, Vec<u8>)>, StoreError> {
        let shared = Arc::clone(self);
        spawn_blocking(move || shared.list(&trees)).await.unwrap_or_else(|_| Ok(BTreeSet::new()))
    }

    fn list(&self, trees: &[String]) -> Result<BTreeSet<(String, Vec<u8>)>, StoreError> {
        let mut listed = BTreeSet::new();
        for tree in trees {
            listed.extend(self.store.keys(tree)?.into_iter().map(|key| (tree.clone(), key)));
        }
        Ok(listed)
    }

    /// Has a checkpoint kept by as many other nodes as are to.
    async fn copy(self: &Arc<Self>, unit: Unit, epoch: u64, copy: &CheckpointCopy) -> Copied {
        if !self.admits(unit, epoch) {
            return Copied::Fenced;
        }
        let keepers = self.keepers();
        let mut kept = 0;
        for node in ranked(unit, keepers.iter().map(|node| (node, 1.0))) {
            if kept == self.others {
                break;
            }
            match self.send(unit, epoch, copy, node).await {
                Ok(true) => kept += 1,
                Ok(false) => {
                    tracing::warn!(%unit, epoch, %node, "it has a later owner; no checkpoint is kept");
                    return Copied::Fenced;
                }
                Err(error) => {
                    tracing::debug!(%unit, %node, %error, "a checkpoint is not kept there");
                }
            }
        }
        if kept == self.others {
            return Copied::Enough;
        }
        // Whoever is cut off with few may have a successor among the rest; of two, nobody is with most.
        let members = self.members();
        if members > 2 && (keepers.len() + 1) * 2 <= members {
            return Copied::TooFew;
        }
        if self.short.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                %unit,
                "fewer nodes than stream.replicas keep checkpoints: no more are there that take them"
            );
        }
        Copied::Enough
    }

    /// Sends `node` a checkpoint, and those before it that are needed still and not there yet. Returns
    /// false if the unit has a later owner.
    async fn send(
        self: &Arc<Self>,
        unit: Unit,
        epoch: u64,
        copy: &CheckpointCopy,
        node: &NodeId,
    ) -> Result<bool, DeliveryError> {
        let route = self.network.route(&role(node));
        let route = route.ok_or_else(|| DeliveryError::Unlinked(node.clone()))?;
        let name = (copy.tree.clone(), node.clone());
        let known = {
            let mut sent = lock(&self.sent);
            let fresh = || Sent { route: route.clone(), keys: BTreeSet::new() };
            let entry = sent.entry(name.clone()).or_insert_with(fresh);
            if entry.route != route {
                *entry = fresh();
            }
            entry.keys.clone()
        };
        let oldest = copy.kept.first().unwrap_or(&copy.key).min(&copy.key).clone();
        let missing = copy.kept.iter().filter(|key| **key != copy.key && !known.contains(*key));
        let missing: Vec<Vec<u8>> = missing.cloned().collect();
        for key in missing {
            let (store, tree, wanted) = (self.store.clone(), copy.tree.clone(), key.clone());
            let read = spawn_blocking(move || store.get(&tree, &wanted)).await;
            // One that is on its way to the disk itself has a message of its own.
            if let Ok(Ok(Some(value))) = read {
                let put = self.put(unit, epoch, node, (&name, &oldest), key, value);
                if !put.await? {
                    return Ok(false);
                }
            }
        }
        self.put(unit, epoch, node, (&name, &oldest), copy.key.clone(), copy.value.clone()).await
    }

    async fn put(
        &self,
        unit: Unit,
        epoch: u64,
        node: &NodeId,
        (name, oldest): (&(String, NodeId), &[u8]),
        key: Vec<u8>,
        value: Vec<u8>,
    ) -> Result<bool, DeliveryError> {
        let (tree, oldest, known) = (name.0.clone(), oldest.to_vec(), key.clone());
        let body = encode(&Call::Put { unit, tree, oldest: oldest.clone(), key, value });
        let role = role(node);
        let message = Message { role: &role, kind: KIND, epoch, body: &body, is_urgent: false };
        let answer = self.network.ask(Some(node), message, PUT_PATIENCE).await?;
        if decode::<bool>(&answer) == Ok(false) {
            return Ok(false);
        }
        if let Some(sent) = lock(&self.sent).get_mut(name) {
            sent.keys.insert(known);
            sent.keys.retain(|key| *key >= oldest);
        }
        Ok(true)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        node: &NodeId,
        call: &[u8],
        patience: Duration,
    ) -> Result<T, String> {
        let role = role(node);
        let message = Message { role: &role, kind: KIND, epoch: 0, body: call, is_urgent: false };
        let answer = self.network.ask(Some(node), message, patience).await;
        decode(&answer.map_err(|error| error.to_string())?)
    }

    /// Brings one checkpoint from `node` into the store here.
    async fn fetch(self: Arc<Self>, node: NodeId, tree: String, key: Vec<u8>) {
        let call = encode(&Call::Fetch { tree: tree.clone(), key: key.clone() });
        let value = match self.ask::<Option<Vec<u8>>>(&node, &call, FETCH_PATIENCE).await {
            Ok(Some(value)) => value,
            // It is needed no more.
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%node, tree, error, "a checkpoint cannot be had");
                return;
            }
        };
        let (sender, stored) = oneshot::channel();
        self.store.put(&tree, key, value, Box::new(move |result| drop(sender.send(result))));
        self.store.hurry();
        if !matches!(stored.await, Ok(Ok(()))) {
            tracing::warn!(%node, tree, "a checkpoint that was fetched cannot be stored");
        }
    }

    /// Does what another node asks.
    fn answer(&self, call: Call, epoch: u64) -> Result<Vec<u8>, String> {
        let fail = |error: StoreError| error.to_string();
        match call {
            Call::Put { unit, tree, oldest, key, value } => {
                if !tree.starts_with(&checkpoint_tree("")) {
                    return Err(format!("`{tree}` is no tree of checkpoints"));
                }
                if !self.admits(unit, epoch) {
                    return Ok(encode(&false));
                }
                self.store.put_and_wait(&tree, key, value).map_err(fail)?;
                let all = self.store.keys(&tree).map_err(fail)?;
                let needless: Vec<Vec<u8>> = all.into_iter().filter(|key| *key < oldest).collect();
                if !needless.is_empty() {
                    self.store.remove(&tree, needless);
                }
                Ok(encode(&true))
            }
            Call::List { epochs, trees } => {
                for (unit, epoch) in epochs {
                    self.admits(unit, epoch);
                }
                let listed: Listed = self.list(&trees).map_err(fail)?.into_iter().collect();
                Ok(encode(&listed))
            }
            Call::Log(call) => self.answer_log(call),
            Call::Fetch { tree, key } => Ok(encode(&self.store.get(&tree, &key).map_err(fail)?)),
        }
    }
}

/// The epochs that earlier lives of this node have heard of. One that cannot be read is as if it had not
/// been heard.
fn heard_before(store: &Store) -> EpochFence {
    let mut epochs = EpochFence::default();
    for key in store.keys(EPOCHS).unwrap_or_default() {
        let unit = str::from_utf8(&key).ok().and_then(Unit::parse);
        let epoch = store.get(EPOCHS, &key).ok().flatten().and_then(|bytes| bytes.try_into().ok());
        if let (Some(unit), Some(epoch)) = (unit, epoch.map(u64::from_le_bytes)) {
            // The first of each unit is always let in.
            let _ = epochs.admit(unit, epoch);
        }
    }
    epochs
}

/// Whether there is something of each of `trees`.
fn has_each(found: &BTreeSet<(String, Vec<u8>)>, trees: &[String]) -> bool {
    trees.iter().all(|tree| {
        let first = found.range((tree.clone(), Vec::new())..).next();
        first.is_some_and(|(name, _)| name == tree)
    })
}

/// The role under which `node` keeps copies.
fn role(node: &NodeId) -> String {
    format!("{ROLE_PREFIX}{node}")
}

/// A message of another node. The disk is not waited for here.
fn take_in(shared: &Arc<Shared>, mut request: Request) -> Result<(), String> {
    let Some(reply) = request.reply.take() else { return Err("nobody awaits an answer".into()) };
    if request.kind != KIND {
        let refusal = format!("messages of kind {} are not understood", request.kind);
        reply.refuse(refusal.clone());
        return Err(refusal);
    }
    let call = match decode::<Call>(&request.body) {
        Ok(call) => call,
        Err(reason) => {
            reply.refuse(reason.clone());
            return Err(reason);
        }
    };
    let (shared, epoch) = (Arc::clone(shared), request.epoch);
    spawn_blocking(move || {
        let answer = shared.answer(call, epoch);
        // The sender's credit comes back with it: what was sent takes room until here.
        drop(request);
        match answer {
            Ok(body) => reply.answer(body),
            Err(reason) => reply.refuse(reason),
        }
    });
    Ok(())
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard())
        .expect("derived `Serialize`s write to memory without error")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let config = bincode::config::standard().with_limit::<{ 1 << 30 }>();
    let decoded = bincode::serde::decode_from_slice(bytes, config);
    decoded.map(|(value, _)| value).map_err(|error| error.to_string())
}
