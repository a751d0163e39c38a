//! What a node keeps of the logs of others, and how whoever takes a log over brings it home.
//!
//! A log's records lie in its own tree, under their keys in eight bytes, big endian; who wrote them lies
//! beside, see [`Lineage`]. It is written before the records of which it tells: an owner of whom
//! nothing is there yet does no harm, a record under the name of another would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tickwright_core::cluster::{Lineage, LogState, Unit};
use tickwright_core::domain::NodeId;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Call, Shared, encode};
use crate::kit::{Store, StoreError, wire};

/// Where it is kept who wrote which part of each log.
const LINEAGES: &str = "lineage";

/// Bytes of records that are read at once, unless one alone is larger.
const READ_BYTES: usize = 1 << 20;

/// How long whoever takes a log over asks for it. Who is stopped is called down before that.
const GATHER_PATIENCE: Duration = Duration::from_secs(20);

/// How long one node may take to answer before it is asked again.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// Before a node is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// What is asked of a node that keeps logs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum LogCall {
    /// What is there of it? Answered by none, if the unit has a later owner.
    State { unit: Unit, epoch: u64, tree: String },
    /// Keep these records; with `from`, instead of what is there from that key on. What is before
    /// `oldest` is needed no more. Answered by false, if the unit has a later owner.
    Keep {
        unit: Unit,
        epoch: u64,
        tree: String,
        lineage: Lineage,
        from: Option<u64>,
        oldest: u64,
        records: Vec<(u64, Vec<u8>)>,
    },
    /// Records from that key on, as many as may travel together.
    Read { tree: String, from: u64 },
}

/// Whether other nodes may write there.
fn is_log(tree: &str) -> bool {
    tree == "arrivals" || tree.starts_with("journal/")
}

/// Who wrote the log in `tree`. One that cannot be read is as if nobody had: it then counts as older than
/// any other.
pub(super) fn lineage(store: &Store, tree: &str) -> Lineage {
    let found = store.get(LINEAGES, tree.as_bytes()).ok().flatten();
    found.and_then(|bytes| wire::decode(&bytes).ok()).unwrap_or_default()
}

/// Says who wrote the log in `tree`, before whatever is put after this.
pub(super) fn put_lineage(store: &Store, tree: &str, lineage: &Lineage) {
    // A disk that fails fails for what is put after this too, and that is waited for.
    store.put(LINEAGES, tree.as_bytes().to_vec(), wire::encode(lineage), Box::new(drop));
}

/// The first and the last key of the log in `tree`.
pub(super) fn extent(store: &Store, tree: &str) -> Result<Option<(u64, u64)>, StoreError> {
    let keys = store.keys(tree)?;
    let number = |key: &Vec<u8>| number(store, tree, key);
    let first = keys.first().map(number).transpose()?;
    let last = keys.last().map(number).transpose()?;
    Ok(first.zip(last))
}

/// Records of the log in `tree` from the key `from` on: `bytes_max` of them, and at least one.
pub(super) fn records(
    store: &Store,
    tree: &str,
    from: u64,
    bytes_max: usize,
) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let mut found = Vec::new();
    let (mut bytes, mut next) = (0, Some(from));
    while let Some(from) = next {
        let Some((key, value)) = store.next(tree, &from.to_be_bytes())? else { break };
        bytes += value.len();
        if bytes > bytes_max && !found.is_empty() {
            break;
        }
        let key = number(store, tree, &key)?;
        found.push((key, value));
        next = key.checked_add(1);
    }
    Ok(found)
}

fn number(store: &Store, tree: &str, key: &[u8]) -> Result<u64, StoreError> {
    let bytes = key.try_into().map_err(|_| store.record_error(tree, key, "not a number"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// What is here of the log in `tree`.
fn state(store: &Store, tree: &str) -> Result<LogState, StoreError> {
    Ok(LogState { lineage: lineage(store, tree), keys: extent(store, tree)? })
}

/// Removes what is there from `from` on, but for what `records` will take the place of: that is not to
/// be away meanwhile.
fn remove_from(
    store: &Store,
    tree: &str,
    from: u64,
    records: &[(u64, Vec<u8>)],
) -> Result<(), StoreError> {
    let from = from.to_be_bytes();
    let written: BTreeSet<[u8; 8]> = records.iter().map(|(key, _)| key.to_be_bytes()).collect();
    let keys = store.keys(tree)?.into_iter().filter(|key| key.as_slice() >= &from[..]);
    let keys: Vec<Vec<u8>> = keys.filter(|key| !written.contains(key.as_slice())).collect();
    if !keys.is_empty() {
        store.remove(tree, keys);
    }
    Ok(())
}

/// Removes what is there before `oldest`.
fn remove_before(store: &Store, tree: &str, oldest: u64) -> Result<(), StoreError> {
    let oldest = oldest.to_be_bytes();
    let is_before = |key: &[u8]| key < &oldest[..];
    // Looked at first: mostly there is nothing, and many are kept.
    if !store.next(tree, &[0; 8])?.is_some_and(|(key, _)| is_before(&key)) {
        return Ok(());
    }
    let keys = store.keys(tree)?.into_iter().filter(|key| is_before(key)).collect();
    store.remove(tree, keys);
    Ok(())
}

/// Writes `records`, which `lineage` tells of, and waits until they are on the disk.
fn write(
    store: &Store,
    tree: &str,
    lineage: &Lineage,
    mut records: Vec<(u64, Vec<u8>)>,
) -> Result<(), StoreError> {
    if self::lineage(store, tree) != *lineage {
        put_lineage(store, tree, lineage);
    }
    let Some((last, value)) = records.pop() else { return Ok(()) };
    for (key, value) in records {
        // They are written in order, so that the last one's end is theirs.
        store.put(tree, key.to_be_bytes().to_vec(), value, Box::new(drop));
    }
    store.put_and_wait(tree, last.to_be_bytes().to_vec(), value)
}

impl Shared {
    /// Does what another node asks. Waits for the disk.
    pub(super) fn answer_log(&self, call: LogCall) -> Result<Vec<u8>, String> {
        let fail = |error: StoreError| error.to_string();
        let (LogCall::State { tree, .. } | LogCall::Keep { tree, .. } | LogCall::Read { tree, .. }) =
            &call;
        if !is_log(tree) {
            return Err(format!("`{tree}` is no log"));
        }
        match call {
            LogCall::State { unit, epoch, tree } => {
                let is_admitted = self.admits(unit, epoch);
                let state = state(&self.store, &tree).map_err(fail)?;
                Ok(encode(&is_admitted.then_some(state)))
            }
            LogCall::Keep { unit, epoch, tree, lineage, from, oldest, records } => {
                if !self.admits(unit, epoch) {
                    return Ok(encode(&false));
                }
                if let Some(from) = from {
                    remove_from(&self.store, &tree, from, &records).map_err(fail)?;
                }
                write(&self.store, &tree, &lineage, records).map_err(fail)?;
                remove_before(&self.store, &tree, oldest).map_err(fail)?;
                Ok(encode(&true))
            }
            LogCall::Read { tree, from } => {
                Ok(encode(&records(&self.store, &tree, from, READ_BYTES).map_err(fail)?))
            }
        }
    }

    /// Brings the log in `tree` here as its latest owner left it, before `unit` begins its `epoch` here.
    /// Waits for every node that may have it: until it answers, or is called down.
    pub(super) async fn gather_log(
        self: &Arc<Self>,
        unit: Unit,
        epoch: u64,
        tree: &str,
    ) -> Result<(), String> {
        self.admits(unit, epoch);
        let deadline = Instant::now() + GATHER_PATIENCE;
        let call = LogCall::State { unit, epoch, tree: tree.to_owned() };
        let mut asked = JoinSet::new();
        for node in self.others() {
            let (shared, call) = (Arc::clone(self), encode(&Call::Log(call.clone())));
            asked.spawn(async move {
                let answer = shared.ask_until_gone(&node, &call).await;
                (node, answer)
            });
        }
        let mut found: BTreeMap<NodeId, LogState> = BTreeMap::new();
        while let Ok(Some(joined)) = timeout_at(deadline, asked.join_next()).await {
            let Ok((node, answer)) = joined else { continue };
            match answer {
                Some(Some(state)) => drop(found.insert(node, state)),
                Some(None) => return Err(format!("{node} knows a later owner of `{unit}`")),
                None => {}
            }
        }
        // Somebody who is there and does not say what it has may have what others have seen.
        if !asked.is_empty() {
            let (count, waited) = (asked.len(), GATHER_PATIENCE.as_secs());
            return Err(format!(
                "{count} nodes did not say within {waited} s what they keep of `{tree}`"
            ));
        }
        let (store, name) = (self.store.clone(), tree.to_owned());
        let own = spawn_blocking(move || state(&store, &name)).await;
        let own = own.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let best = found.into_iter().max_by_key(|(_, state)| state.rank());
        let Some((node, best)) = best.filter(|(_, best)| best.rank() > own.rank()) else {
            return Ok(());
        };
        self.fetch_log(&node, tree, &best, &own).await?;
        tracing::info!(%unit, %node, tree, keys = ?best.keys, "a log was brought here");
        Ok(())
    }

    /// What `node` says; none once it is gone.
    async fn ask_until_gone(
        self: &Arc<Self>,
        node: &NodeId,
        call: &[u8],
    ) -> Option<Option<LogState>> {
        while self.others().contains(node) {
            match self.ask(node, call, ANSWER_PATIENCE).await {
                Ok(state) => return Some(state),
                Err(error) => tracing::debug!(%node, error, "it does not say what it keeps"),
            }
            sleep(AGAIN).await;
        }
        None
    }

    /// Makes the log in `tree` here, which is as `own` says, the same as `node`'s, which is as `best` says.
    async fn fetch_log(
        self: &Arc<Self>,
        node: &NodeId,
        tree: &str,
        best: &LogState,
        own: &LogState,
    ) -> Result<(), String> {
        let from = best.differs_from(own).unwrap_or(0);
        let mut next = best.keys.map(|_| from);
        let (store, name, mut lineage) =
            (self.store.clone(), tree.to_owned(), best.lineage.clone());
        lineage.cut(from);
        let oldest = best.keys.map_or(0, |(first, _)| first);
        let cut = spawn_blocking(move || {
            remove_from(&store, &name, from, &[])?;
            remove_before(&store, &name, oldest)?;
            write(&store, &name, &lineage, Vec::new())
        });
        cut.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        while let Some(from) = next {
            let call = encode(&Call::Log(LogCall::Read { tree: tree.to_owned(), from }));
            let records: Vec<(u64, Vec<u8>)> = self.ask(node, &call, super::FETCH_PATIENCE).await?;
            next = records.last().and_then(|(key, _)| key.checked_add(1));
            let (store, name) = (self.store.clone(), tree.to_owned());
            let mut lineage = best.lineage.clone();
            if let Some(end) = next {
                lineage.cut(end);
            }
            let written = spawn_blocking(move || write(&store, &name, &lineage, records));
            written.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Nodes but this one that keep copies, whether they can be reached just now or not, unless they are
    /// down.
    fn others(&self) -> BTreeSet<NodeId> {
        let own = &self.network.own().id;
        let roles = self.network.roles().into_iter();
        let nodes = roles.filter_map(|(role, _)| {
            let node = NodeId::from(role.strip_prefix(super::ROLE_PREFIX)?);
            self.network.serving(&role).is_some().then_some(node)
        });
        nodes.filter(|node| node != own).collect()
    }

    /// How many nodes keep copies, with this one, whether they are there or not.
    pub(super) fn members(&self) -> usize {
        let own = &self.network.own().id;
        let roles = self.network.roles().into_iter();
        let nodes =
            roles.filter_map(|(role, _)| role.strip_prefix(super::ROLE_PREFIX).map(NodeId::from));
        1 + nodes.filter(|node| node != own).count()
    }
}
