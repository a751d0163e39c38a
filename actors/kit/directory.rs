//! Who does which job on this node.
//!
//! A *role* is a job's name, such as `cleaner/0`. An actor registers under its role when it is ready to
//! take messages; a restarted one takes the place of the one before. Nobody keeps an actor's address
//! beyond a stream session: an address goes stale with every restart.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ractor::{ActorCell, ActorRef, Message};

/// The roles of one node. Several may live in one process, as in tests.
#[derive(Clone, Default)]
pub struct Directory {
    roles: Arc<RwLock<BTreeMap<String, ActorCell>>>,
}

/// Nobody serves the role just now. The message is gone; what must not be lost is asked for again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody serves `{role}`")]
pub struct Undelivered {
    /// The role that was looked for.
    pub role: String,
}

impl Directory {
    /// From now on `actor` serves `role`.
    pub fn register<M>(&self, role: &str, actor: &ActorRef<M>) {
        let mut roles = self.roles.write().unwrap_or_else(PoisonError::into_inner);
        roles.insert(role.to_owned(), actor.get_cell());
    }

    /// Who serves `role`. The caller must know the actor's message type.
    pub fn serving(&self, role: &str) -> Option<ActorCell> {
        self.roles.read().unwrap_or_else(PoisonError::into_inner).get(role).cloned()
    }

    /// Queues `message` with whoever serves `role`. Delivery is at most once.
    ///
    /// # Errors
    ///
    /// [`Undelivered`] when nobody does, or the one who did has ended.
    pub fn tell<M: Message>(&self, role: &str, message: M) -> Result<(), Undelivered> {
        let undelivered = || Undelivered { role: role.to_owned() };
        let actor = self.serving(role).ok_or_else(undelivered)?;
        ActorRef::<M>::from(actor).cast(message).map_err(|_| undelivered())
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}
