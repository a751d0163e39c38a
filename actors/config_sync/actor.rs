//! The actor.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use serde_json::{Value as Json, json};
use tickwright_core::config::{
    ConfigScope, SECRET_PREFIX, effective, is_secret, live_keys, live_number,
};
use tickwright_core::config_sync::{
    AuditEntry, AuditRecord, ConfigSync, ConfigSyncConfig, ConfigSyncEffect,
    Message as SyncMessage, Moment, StoredRecord, Value, Write,
};
use tickwright_core::domain::{Incarnation, NodeId, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::audit;
use super::{ConfigCall, json_of, role, shown, wire};
use crate::cluster::{Network, PeerQueues, Receipt, Reply, Request};
use crate::kit::wire as records;
use crate::kit::{Clock, KeyRing, LiveValues, Secrets, Store, StoreError, monotonic_nanos};

/// Records of keys.
const ENTRIES: &str = "entries";
/// The record of the node itself, and marks that follow records.
const OWN: &str = "own";

/// The kind of what managers tell each other.
const SYNC: &str = "sync";

/// Changes that are kept for whoever watches.
const CHANGES_MAX: usize = 1_024;

/// Who may watch at once.
const WATCHERS_MAX: usize = 256;

/// Checks of the chain of writes that may go on at once.
const AUDITS_MAX: usize = 4;

/// Calls that may wait until keys are read; each takes the memory that a passphrase does.
const KEY_READS_MAX: usize = 4;

/// Writes that may wait for the disk.
const AWAITED_MAX: usize = 1_024;

/// Members that were named, there or not.
pub type KnownMembers = Arc<dyn Fn() -> (BTreeSet<NodeId>, BTreeSet<NodeId>) + Send + Sync>;

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum ConfigSyncMessage {
    /// From whoever asks.
    Call(ConfigCall, Option<Reply>),
    /// From the manager of another node.
    Peer(NodeId, Box<SyncMessage>, Option<Receipt>),
    /// A batch of records is on the disk, or could not be.
    Persisted(u64, Result<(), StoreError>),
    /// Who is there may be others than before.
    Members,
    /// The keys that a call needed were read, or could not be.
    Keys(Result<KeyRing, String>, ConfigCall, Reply),
    /// Our own timer.
    Wake,
    /// Somebody may have watched for long enough.
    WatchDue,
}

/// What the actor is started with.
#[derive(Clone)]
pub struct ConfigSyncArguments {
    /// This node.
    pub node: NodeId,
    /// Which life of it.
    pub life: Incarnation,
    /// Its environment, if it is in one.
    pub environment: Option<String>,
    /// Between two signs of life.
    pub heartbeat: Duration,
    /// Where entries are kept.
    pub store: Store,
    /// Who belongs to the cluster, and who of them is reached.
    pub members: KnownMembers,
    /// Where to register, and how others are reached.
    pub network: Network,
    /// What running actors go by.
    pub live: LiveValues,
    /// The secrets that count on this node, for whoever needs one.
    pub secrets: Secrets,
    /// The time of day.
    pub clock: Clock,
}

impl fmt::Debug for ConfigSyncArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigSyncArguments").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct ConfigSyncActor;

#[derive(Debug)]
struct Watcher {
    prefix: String,
    since: u64,
    until: Instant,
    reply: Reply,
}

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct ConfigSyncState {
    pub(super) arguments: ConfigSyncArguments,
    pub(super) sync: ConfigSync,
    myself: ActorRef<ConfigSyncMessage>,
    /// Who belongs to the cluster, and who of them is reached.
    members: (BTreeSet<NodeId>, BTreeSet<NodeId>),
    /// To nodes that are reached.
    pub(super) peers: PeerQueues,
    /// Answers that are given once their batch is stored. At most [`AWAITED_MAX`].
    awaited: VecDeque<(u64, Reply, Json)>,
    /// With the number of each. At most [`CHANGES_MAX`].
    changes: VecDeque<(u64, String, Json)>,
    next_change: u64,
    watchers: Vec<Watcher>,
    wakes_at: Option<Timestamp>,
    /// The last write that was asked for here.
    audited: Option<AuditRecord>,
    /// Calls that wait until keys are read. At most [`KEY_READS_MAX`].
    key_reads: usize,
    /// [`AUDITS_MAX`] of them.
    audits: Arc<Semaphore>,
}

impl Actor for ConfigSyncActor {
    type Msg = ConfigSyncMessage;
    type State = ConfigSyncState;
    type Arguments = ConfigSyncArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ConfigSyncMessage>,
        arguments: ConfigSyncArguments,
    ) -> Result<ConfigSyncState, ActorProcessingErr> {
        // What a predecessor has put is read, and does not come later: no dot and no number is given twice.
        let settled = arguments.store.clone();
        tokio::task::spawn_blocking(move || settled.settle()).await??;
        let stored = read(&arguments.store)?;
        let audited = audit::last(&arguments.store)?;
        let config =
            ConfigSyncConfig { heartbeat: arguments.heartbeat, tombstone_min: Duration::ZERO };
        let (node, life) = (arguments.node.clone(), arguments.life);
        let at = moment(&arguments.clock);
        let (sync, effects) = ConfigSync::begin(config, &node, life, stored, at)?;
        let peers = PeerQueues::new(arguments.network.clone(), role, SYNC);
        let mut state = ConfigSyncState {
            arguments,
            sync,
            myself: myself.clone(),
            members: (BTreeSet::new(), BTreeSet::new()),
            peers,
            awaited: VecDeque::new(),
            changes: VecDeque::new(),
            next_change: 1,
            watchers: Vec::new(),
            wakes_at: None,
            audited,
            key_reads: 0,
            audits: Arc::new(Semaphore::new(AUDITS_MAX)),
        };
        for spec in live_keys() {
            state.apply(spec.path);
        }
        let paths = state.sync.entries().map(|(key, _)| ConfigScope::of(key).1.to_owned());
        for path in paths.filter(|path| is_secret(path)).collect::<BTreeSet<String>>() {
            state.apply(&path);
        }
        state.carry_out(effects);
        state.on_members();
        let name = role(&node.0);
        let network = state.arguments.network.clone();
        let mut routes = network.routes();
        let watching = myself.clone();
        tokio::spawn(async move {
            while routes.changed().await.is_ok()
                && watching.cast(ConfigSyncMessage::Members).is_ok()
            {}
        });
        network.register_actor(&name, None, &myself, decode);
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<ConfigSyncMessage>,
        message: ConfigSyncMessage,
        state: &mut ConfigSyncState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ConfigSyncMessage::Call(call, Some(reply)) => state.on_call(call, reply),
            // Whoever tells a question awaits nothing.
            ConfigSyncMessage::Call(_, None) => {}
            ConfigSyncMessage::Peer(from, message, receipt) => {
                let effects = state.sync.on_message(&from, *message, state.now());
                state.carry_out(effects);
                drop(receipt);
            }
            ConfigSyncMessage::Persisted(number, stored) => {
                stored?;
                state.on_persisted(number);
            }
            ConfigSyncMessage::Keys(ring, call, reply) => {
                state.key_reads = state.key_reads.saturating_sub(1);
                state.on_keys(ring, call, reply);
            }
            ConfigSyncMessage::Members => state.on_members(),
            ConfigSyncMessage::Wake => {
                state.wakes_at = None;
                // The view of who is there may be later than the word that it has changed.
                state.on_members();
                let effects = state.sync.on_wake(state.now());
                state.carry_out(effects);
            }
            ConfigSyncMessage::WatchDue => state.answer_watchers(),
        }
        state.wake_again();
        Ok(())
    }
}

fn moment(clock: &Clock) -> Moment {
    Moment { now: Timestamp::from_nanos(monotonic_nanos()), wall: clock.now() }
}

/// What was stored, each record once.
fn read(store: &Store) -> Result<Vec<StoredRecord>, StoreError> {
    let mut stored = Vec::new();
    for (tree, keys) in [(OWN, vec![OWN.as_bytes().to_vec()]), (ENTRIES, store.keys(ENTRIES)?)] {
        for key in keys {
            let Some(bytes) = store.get(tree, &key)? else { continue };
            let record = records::decode(&bytes);
            stored
                .push(record.map_err(|error| store.record_error(tree, &key, &error.to_string()))?);
        }
    }
    Ok(stored)
}

fn decode(request: &mut Request) -> Result<ConfigSyncMessage, String> {
    match request.kind.as_str() {
        SYNC => {
            let message = wire::decode(&request.body)?;
            let from = request.from.id.clone();
            Ok(ConfigSyncMessage::Peer(from, Box::new(message), request.receipt.take()))
        }
        "json" => {
            let call = serde_json::from_slice(&request.body).map_err(|error| {
                format!("{error}; `tickwright ctl config` asks everything that can be asked here")
            })?;
            Ok(ConfigSyncMessage::Call(call, request.reply.take()))
        }
        other => Err(format!("messages of kind {other} are not understood here")),
    }
}

/// The batch in which effects of a write go to the disk.
fn number_of(effects: &[ConfigSyncEffect]) -> u64 {
    let number = effects.iter().find_map(|effect| match effect {
        ConfigSyncEffect::Persist { number, .. } => Some(*number),
        ConfigSyncEffect::Send { .. }
        | ConfigSyncEffect::Changed { .. }
        | ConfigSyncEffect::SetAside { .. } => None,
    });
    number.unwrap_or(0)
}

impl ConfigSyncState {
    pub(super) fn now(&self) -> Moment {
        moment(&self.arguments.clock)
    }

    /// Writes, and answers once that is on the disk.
    pub(super) fn write(&mut self, write: Write, reply: Reply, told: impl FnOnce(Json) -> Json) {
        if self.awaited.len() >= AWAITED_MAX {
            return reply.refuse(format!("{AWAITED_MAX} writes wait for the disk already"));
        }
        let at = self.now();
        let asked = (write.author.clone(), write.key.clone());
        let value = write.value.as_ref().map(ToString::to_string);
        let (dot, effects) = match self.sync.write(write, at) {
            Ok(written) => written,
            Err(refusal) => return reply.refuse(refusal.to_string()),
        };
        let number = number_of(&effects);
        let answer = told(json!({ "dot": dot.to_string() }));
        let (author, key) = asked;
        let at_ms = at.wall.as_nanos() / 1_000_000;
        self.note(AuditEntry { at_ms, author, key, value, dot: dot.to_string() });
        self.awaited.push_back((number, reply, answer));
        self.carry_out(effects);
    }

    /// Has `value` stand for the one that `key` holds, as the same in another form; says after which batch it is on
    /// the disk. None, if several stand there.
    pub(super) fn rewrite(&mut self, key: &str, value: Value, author: &str) -> Option<u64> {
        let at = self.now();
        let text = value.to_string();
        let (dot, effects) = self.sync.rewrite(key, value, at)?;
        let number = number_of(&effects);
        let at_ms = at.wall.as_nanos() / 1_000_000;
        let (author, key, value) = (author.to_owned(), key.to_owned(), Some(text));
        self.note(AuditEntry { at_ms, author, key, value, dot: dot.to_string() });
        self.carry_out(effects);
        Some(number)
    }

    /// Answers once batch `number` is on the disk; at once, if there was none.
    pub(super) fn answer_after(&mut self, number: Option<u64>, reply: Reply, answer: Json) {
        match number {
            Some(number) => self.awaited.push_back((number, reply, answer)),
            None => reply.answer(answer.to_string().into_bytes()),
        }
    }

    /// Goes on with `call` once the keys that it needs are read: they may have changed.
    pub(super) fn with_keys(&mut self, call: ConfigCall, reply: Reply) {
        if self.key_reads >= KEY_READS_MAX {
            return reply
                .refuse(format!("{KEY_READS_MAX} others wait for keys already; ask again"));
        }
        self.key_reads += 1;
        let (secrets, myself) = (self.arguments.secrets.clone(), self.myself.clone());
        tokio::task::spawn_blocking(move || {
            let ring = secrets.ring().map_err(|error| error.to_string());
            // Whoever asked hears of it if the actor has ended.
            let _ = myself.cast(ConfigSyncMessage::Keys(ring, call, reply));
        });
    }

    /// Keeps who asked for a write; it is on the disk before the write is answered.
    fn note(&mut self, entry: AuditEntry) {
        let record = AuditRecord::after(self.audited.as_ref(), entry);
        audit::put(&self.arguments.store, &record);
        self.audited = Some(record);
    }

    /// Answers with the last writes that were asked for here, and whether the chain of all that are kept is whole.
    pub(super) fn audit(&self, count: usize, reply: Reply) {
        let Ok(permit) = Arc::clone(&self.audits).try_acquire_owned() else {
            return reply.refuse(format!("{AUDITS_MAX} others have the chain checked already"));
        };
        let store = self.arguments.store.clone();
        // It reads tens of thousands of records.
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            match audit::check(&store, count) {
                Ok(answer) => reply.answer(answer.to_string().into_bytes()),
                Err(error) => reply.refuse(error.to_string()),
            }
        });
    }

    fn on_persisted(&mut self, number: u64) {
        while let Some((awaited, _, _)) = self.awaited.front()
            && *awaited <= number
        {
            if let Some((_, reply, answer)) = self.awaited.pop_front() {
                reply.answer(answer.to_string().into_bytes());
            }
        }
        let effects = self.sync.on_persisted(number);
        self.carry_out(effects);
    }

    fn on_members(&mut self) {
        let members = (self.arguments.members)();
        if members == self.members {
            return;
        }
        self.members.clone_from(&members);
        let (known, up) = members;
        self.peers.retain(|node| up.contains(node));
        let effects = self.sync.on_members(known, up, self.now());
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<ConfigSyncEffect>) {
        let mut is_changed = false;
        for effect in effects {
            match effect {
                ConfigSyncEffect::Send { to, message } => {
                    self.peers.send(to, wire::encode(&message))
                }
                ConfigSyncEffect::Changed { key } => {
                    is_changed = true;
                    self.on_changed(&key);
                }
                ConfigSyncEffect::Persist { number, records } => self.store(number, records),
                ConfigSyncEffect::SetAside { key, sibling } => {
                    let value = sibling.value.as_ref().map(shown);
                    tracing::warn!(
                        key,
                        value,
                        author = sibling.author,
                        "this was set here while the cluster went on without this node, and counts no \
                         more; set it again if it is still wanted"
                    );
                }
            }
        }
        if is_changed {
            self.answer_watchers();
        }
    }

    fn store(&self, number: u64, stored: Vec<StoredRecord>) {
        let store = &self.arguments.store;
        for record in stored {
            let (tree, key) = match &record {
                StoredRecord::Own { .. } => (OWN, OWN.as_bytes().to_vec()),
                StoredRecord::Entry { key, .. } => (ENTRIES, key.clone().into_bytes()),
                StoredRecord::Removed { key } => {
                    store.remove(ENTRIES, vec![key.clone().into_bytes()]);
                    continue;
                }
            };
            // Whoever cannot write hears of it by the mark behind.
            store.put(tree, key, records::encode(&record), Box::new(|_| {}));
        }
        let myself = self.myself.clone();
        let done = move |result| {
            // A successor reads what is stored.
            let _ = myself.cast(ConfigSyncMessage::Persisted(number, result));
        };
        store.put(OWN, b"mark".to_vec(), number.to_be_bytes().to_vec(), Box::new(done));
        store.hurry();
    }

    fn on_changed(&mut self, key: &str) {
        let (_, path) = ConfigScope::of(key);
        self.apply(path);
        let reading = self.sync.read(key);
        let value = reading.as_ref().map(|reading| shown(&reading.value));
        tracing::info!(key, value, "configuration changed");
        let value = reading.map_or(Json::Null, |reading| json_of(&reading.value));
        self.changes.push_back((self.next_change, key.to_owned(), value));
        self.next_change += 1;
        if self.changes.len() > CHANGES_MAX {
            self.changes.pop_front();
        }
    }

    /// Lets running actors know what counts for `path` here.
    fn apply(&self, path: &str) {
        let ConfigSyncArguments { node, environment, live, secrets, .. } = &self.arguments;
        let found = effective(&self.sync, &node.0, environment.as_deref(), path);
        if let Some(name) = path.strip_prefix(SECRET_PREFIX) {
            let sealed = found.and_then(|(whose, reading)| match reading.value {
                Value::Text(text) => Some((whose.key(path), text)),
                Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::List(_) => None,
            });
            return secrets.set(name, sealed);
        }
        let number = found.as_ref().and_then(|(_, reading)| live_number(path, &reading.value));
        if let (Some((_, reading)), None) = (&found, number)
            && live_keys().any(|spec| spec.path == path)
        {
            let value = reading.value.to_string();
            tracing::warn!(
                path,
                value,
                "is no value for this key in this version, and is not taken"
            );
        }
        let is_particular = found.is_some_and(|(whose, _)| whose != ConfigScope::Base);
        live.set_particular(path, is_particular && number.is_some());
        live.set(path, number);
    }

    pub(super) fn watch(
        &mut self,
        prefix: String,
        since: Option<u64>,
        wait: Duration,
        reply: Reply,
    ) {
        if self.watchers.len() >= WATCHERS_MAX {
            return reply.refuse(format!("{WATCHERS_MAX} are watching already"));
        }
        let since = since.unwrap_or(self.next_change - 1);
        self.watchers.push(Watcher { prefix, since, until: Instant::now() + wait, reply });
        self.answer_watchers();
        self.myself.send_after(wait, || ConfigSyncMessage::WatchDue);
    }

    fn answer_watchers(&mut self) {
        let now = Instant::now();
        for watcher in std::mem::take(&mut self.watchers) {
            let is_meant = |(number, key, _): &&(u64, String, Json)| {
                *number > watcher.since && ConfigScope::of(key).1.starts_with(&watcher.prefix)
            };
            let changes: Vec<Json> = self
                .changes
                .iter()
                .filter(is_meant)
                .map(|(number, key, value)| {
                    let (scope, path) = ConfigScope::of(key);
                    json!({
                        "number": number, "key": path, "scope": super::answers::scope(&scope),
                        "value": value,
                    })
                })
                .collect();
            if changes.is_empty() && now < watcher.until && watcher.since < self.next_change {
                self.watchers.push(watcher);
                continue;
            }
            // Numbers begin anew with each life of this node: one that was not given yet is of an earlier one.
            let is_of_before = watcher.since >= self.next_change;
            let missed = is_of_before
                || self.changes.front().is_some_and(|first| first.0 > watcher.since + 1);
            let answer = json!({
                "since": self.next_change - 1, "changes": changes, "missed": missed,
            });
            watcher.reply.answer(answer.to_string().into_bytes());
        }
    }

    fn wake_again(&mut self) {
        let at = self.sync.next_wake();
        if self.wakes_at.is_some_and(|pending| pending <= at) {
            return;
        }
        self.wakes_at = Some(at);
        let wait = at.since(self.now().now);
        self.myself.send_after(wait, || ConfigSyncMessage::Wake);
    }
}

#[cfg(test)]
mod tests;
