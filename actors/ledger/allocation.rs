//! What the allocation of units keeps in registers of the ledger, so that every coordinator knows it:
//! which nodes are to be emptied, for good or because they leave, and which life of which node has given a
//! unit up.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tickwright_core::cluster::{GivenUp, Owners, Unit};
use tickwright_core::domain::NodeId;
use tickwright_core::ledger::{Ledger, Operation, Owner, Refusal};
use tokio::time::Instant;

use super::client::{LedgerClient, LedgerError};

/// Keys of the registers of drained nodes.
const DRAINED: &str = "allocation/drained/";

/// Keys of the registers of nodes that leave; each holds the session that is about to end.
const LEAVING: &str = "allocation/leaving/";

/// Keys of the registers of units that were given up.
const GIVEN_UP: &str = "allocation/given_up/";

/// Lives of nodes that are remembered to have given one unit up; beyond it the oldest are forgotten.
const LIVES_MAX: usize = 64;

/// Longest reason that is kept, in bytes.
const REASON_MAX: usize = 256;

/// One life of a node that has given a unit up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct GaveUp {
    node: NodeId,
    session: u64,
    reason: String,
}

/// Whose each unit is, and since which epoch.
pub fn owners(ledger: &Ledger) -> Owners {
    let allocations = ledger.allocations().iter();
    let of = allocations.filter_map(|(resource, allocation)| {
        let owner = allocation.owner.as_ref()?;
        Some((Unit::parse(resource)?, (owner.node.clone(), allocation.epoch)))
    });
    of.collect()
}

/// Nodes that are to be emptied until they are let have work again.
pub fn drained(ledger: &Ledger) -> BTreeSet<NodeId> {
    let keys = ledger.list(DRAINED).map(|(key, _)| key);
    keys.filter_map(|key| Some(NodeId(key.strip_prefix(DRAINED)?.to_owned()))).collect()
}

/// Nodes that hand over what they have because they leave. Whoever comes back has another session.
pub fn leaving(ledger: &Ledger) -> BTreeSet<NodeId> {
    let of = ledger.list(LEAVING).filter_map(|(key, register)| {
        let node = NodeId(key.strip_prefix(LEAVING)?.to_owned());
        let session = ledger.members().get(&node)?.session?;
        (register.value == session.0.to_string().into_bytes()).then_some(node)
    });
    of.collect()
}

/// What is allocated and whose node is not there, or that is nobody's.
pub(super) fn waiting(ledger: &Ledger) -> Vec<String> {
    let waits = |owner: Option<&Owner>| {
        owner.is_none_or(|owner| !ledger.sessions().contains_key(&owner.session))
    };
    let all = ledger.allocations().iter();
    let waiting = all.filter(|(_, allocation)| waits(allocation.owner.as_ref()));
    waiting.map(|(resource, _)| resource.clone()).collect()
}

/// Which lives of nodes have given which units up, as far as they are there still.
pub fn given_up(ledger: &Ledger) -> GivenUp {
    let of = ledger.list(GIVEN_UP).filter_map(|(key, register)| {
        let unit = Unit::parse(key.strip_prefix(GIVEN_UP)?)?;
        let lives = present(ledger, &register.value);
        Some((unit, lives.into_iter().map(|life| (life.node, life.session)).collect()))
    });
    of.collect()
}

/// Of what a register of this kind holds, what is still of interest.
fn present(ledger: &Ledger, value: &[u8]) -> Vec<GaveUp> {
    let mut lives: Vec<GaveUp> = serde_json::from_slice(value).unwrap_or_default();
    let sessions = ledger.sessions();
    lives.retain(|life| sessions.keys().any(|session| session.0 == life.session));
    lives
}

impl LedgerClient {
    /// From now on `node` is to be emptied, or not any more. Returns whether that is new.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; [`LedgerError::NoSuchNode`] when no node of that name was ever seen.
    pub async fn set_drained(
        &self,
        node: &NodeId,
        is_drained: bool,
        patience: Duration,
    ) -> Result<bool, LedgerError> {
        let (known, is_news) = self
            .read(patience, |ledger| {
                let known: Vec<NodeId> = ledger.members().keys().cloned().collect();
                (known, drained(ledger).contains(node) != is_drained)
            })
            .await?;
        let key = format!("{DRAINED}{node}");
        // One that was forgotten may be on the list still.
        if !known.contains(node) && is_news == is_drained {
            return Err(LedgerError::NoSuchNode { node: node.clone(), known });
        }
        let value = is_drained.then(|| b"drained".to_vec());
        self.change(&key, patience, |held| (held.is_some() != is_drained).then(|| value.clone()))
            .await
    }

    /// This node, in this life, is about to leave, and others are to have what it has.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn set_leaving(&self, patience: Duration) -> Result<(), LedgerError> {
        let own = self.own();
        let change = |held: Option<&[u8]>| {
            let session = self.local(|ledger| ledger.members().get(&own)?.session)?;
            let session = session.0.to_string().into_bytes();
            (held != Some(&session)).then_some(Some(session))
        };
        self.change(&format!("{LEAVING}{own}"), patience, change).await.map(|_| ())
    }

    /// Nothing is known of `node` any more.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn forget_allocation_of(
        &self,
        node: &NodeId,
        patience: Duration,
    ) -> Result<(), LedgerError> {
        for prefix in [DRAINED, LEAVING] {
            let key = format!("{prefix}{node}");
            self.change(&key, patience, |held| held.map(|_| None)).await?;
        }
        Ok(())
    }

    /// This node, in this life, has given `unit` up.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn give_up(
        &self,
        unit: Unit,
        reason: &str,
        patience: Duration,
    ) -> Result<(), LedgerError> {
        let own = self.own();
        let key = format!("{GIVEN_UP}{unit}");
        let reason: String = reason.chars().take(REASON_MAX / 4).collect();
        let change = |held: Option<&[u8]>| {
            self.local(|ledger| {
                let session = ledger.members().get(&own)?.session?.0;
                let mut lives = present(ledger, held.unwrap_or(b"[]"));
                if lives.iter().any(|life| life.session == session) {
                    return None;
                }
                let life = GaveUp { node: own.clone(), session, reason: reason.clone() };
                lives.truncate(LIVES_MAX - 1);
                lives.insert(0, life);
                Some(Some(serde_json::to_vec(&lives).unwrap_or_default()))
            })
        };
        self.change(&key, patience, change).await.map(|_| ())
    }

    /// Writes what `next` makes of the register at `key`, again if somebody else was faster; nothing, if it
    /// makes nothing of it. Returns whether something was written.
    pub(super) async fn change(
        &self,
        key: &str,
        patience: Duration,
        next: impl Fn(Option<&[u8]>) -> Option<Option<Vec<u8>>>,
    ) -> Result<bool, LedgerError> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let found = self.read(left, |ledger| ledger.read(key).cloned()).await?;
            let (expected, held) =
                found.map_or((0, None), |register| (register.version, Some(register.value)));
            let Some(value) = next(held.as_deref()) else { return Ok(false) };
            let operation = Operation::Cas { key: key.to_owned(), expected, value };
            let left = until.saturating_duration_since(Instant::now());
            match self.submit(operation, left).await {
                Ok(_) => return Ok(true),
                Err(LedgerError::Refused(Refusal::Conflict { .. })) if Instant::now() < until => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tickwright_core::domain::Incarnation;
    use tickwright_core::ledger::{Command, Opening};

    use super::*;

    fn write(ledger: &mut Ledger, key: &str, value: &str) {
        let value = Some(value.as_bytes().to_vec());
        let operation = Operation::Cas { key: key.into(), expected: 0, value };
        ledger.apply(&Command { id: None, operation }).answer.unwrap();
    }

    #[test]
    fn only_lives_that_are_there_have_given_anything_up() {
        let mut ledger = Ledger::default();
        let opening = Opening {
            node: "calc-1".into(),
            incarnation: Incarnation(1),
            replica: 1,
            priority: 0,
            is_witness: false,
        };
        let operation = Operation::OpenSession(opening);
        ledger.apply(&Command { id: None, operation }).answer.unwrap();
        let session = ledger.members()[&NodeId::from("calc-1")].session.unwrap().0;
        let life =
            |session: u64| format!(r#"{{"node":"calc-1","session":{session},"reason":"x"}}"#);
        let both = format!("[{},{}]", life(session), life(99));
        write(&mut ledger, "allocation/given_up/shard/3", &both);
        write(&mut ledger, "allocation/given_up/nonsense", &both);
        write(&mut ledger, "allocation/given_up/exec", "not JSON");
        write(&mut ledger, "allocation/drained/calc-2", "drained");
        write(&mut ledger, "allocation/leaving/calc-1", &session.to_string());
        write(&mut ledger, "allocation/leaving/calc-2", &session.to_string());
        let found = given_up(&ledger);
        assert_eq!(found[&Unit::Shard(3)], BTreeSet::from([("calc-1".into(), session)]));
        assert_eq!(found[&Unit::Exec], BTreeSet::new());
        assert_eq!(found.len(), 2);
        assert_eq!(drained(&ledger), BTreeSet::from(["calc-2".into()]));
        assert_eq!(leaving(&ledger), BTreeSet::from(["calc-1".into()]), "in this life of its");
    }
}
