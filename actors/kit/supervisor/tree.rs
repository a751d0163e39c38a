//! The supervision trees of a node as they stand: for whoever looks, and for whoever ends an actor to see
//! that it comes back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ractor::ActorCell;
use serde::Serialize;
use tickwright_core::supervision::Strategy;

/// Every supervisor of one part of a node, by name. Clones share everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Trees(Arc<Mutex<BTreeMap<String, Supervised>>>);

#[derive(Debug)]
struct Supervised {
    strategy: Strategy,
    children: Vec<Member>,
}

/// One child of a supervisor.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// The actor; none while its restart is due.
    pub(super) actor: Option<ActorCell>,
}

/// A supervisor or an actor, and what is below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Branch {
    /// What it is called.
    pub name: String,
    /// Who restarts together; none, if it is no supervisor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Whether it runs; if not, its restart is due.
    pub is_running: bool,
    /// How often it was started again because it had ended.
    pub restarts: u64,
    /// In start order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Self>,
}

impl Branch {
    /// Adds the names of those below, and its own, that supervise nobody.
    pub fn actors(&self, names: &mut Vec<String>) {
        if self.strategy.is_none() {
            names.push(self.name.clone());
        }
        self.children.iter().for_each(|child| child.actors(names));
    }
}

/// Why an actor was not ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KillError {
    /// There is none of that name.
    #[error("there is no actor `{0}` here")]
    Unknown(String),
    /// It supervises others.
    #[error("`{name}` is a supervisor; end one of its actors: {}", .children.join(", "))]
    Supervisor {
        /// Its name.
        name: String,
        /// Those it supervises.
        children: Vec<String>,
    },
    /// It has ended by itself.
    #[error("`{0}` has ended already, and its restart is due")]
    Ended(String),
}

impl Trees {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Supervised>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The supervisor called `name` has these children now.
    pub(super) fn publish(&self, name: &str, strategy: Strategy, children: Vec<Member>) {
        self.lock().insert(name.to_owned(), Supervised { strategy, children });
    }

    /// There is no such supervisor any more.
    pub(super) fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Everything, from those down whom nobody supervises. `restarts` are counts by child.
    pub(super) fn branches(&self, restarts: &BTreeMap<String, u64>) -> Vec<Branch> {
        let all = self.lock();
        let is_child = |name: &String| {
            let is_it = |child: &Member| child.name == *name;
            all.iter().any(|(parent, each)| parent != name && each.children.iter().any(is_it))
        };
        let roots = all.keys().filter(|name| !is_child(name));
        roots.map(|name| branch(&all, name, true, restarts, &mut Vec::new())).collect()
    }

    /// Ends the actor called `name` as a crash would.
    pub(super) fn kill(&self, name: &str) -> Result<(), KillError> {
        let all = self.lock();
        if let Some(supervised) = all.get(name) {
            let children = supervised.children.iter().map(|child| child.name.clone()).collect();
            return Err(KillError::Supervisor { name: name.to_owned(), children });
        }
        let mut children = all.values().flat_map(|supervised| &supervised.children);
        let found = children.find(|child| child.name == name);
        let child = found.ok_or_else(|| KillError::Unknown(name.to_owned()))?;
        let actor = child.actor.as_ref().ok_or_else(|| KillError::Ended(name.to_owned()))?;
        actor.kill();
        Ok(())
    }
}

/// `above` are the supervisors on the way there, so that equal names make no circle.
fn branch(
    all: &BTreeMap<String, Supervised>,
    name: &str,
    is_running: bool,
    restarts: &BTreeMap<String, u64>,
    above: &mut Vec<String>,
) -> Branch {
    let supervised = all.get(name).filter(|_| !above.iter().any(|known| known == name));
    let mut children = Vec::new();
    if let Some(supervised) = supervised {
        above.push(name.to_owned());
        for child in &supervised.children {
            children.push(branch(all, &child.name, child.actor.is_some(), restarts, above));
        }
        above.pop();
    }
    Branch {
        name: name.to_owned(),
        strategy: supervised.map(|supervised| supervised.strategy),
        is_running,
        restarts: restarts.get(name).copied().unwrap_or(0),
        children,
    }
}
