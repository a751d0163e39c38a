//! How a stage that another node is to go on with comes to its last checkpoint.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use ractor::RpcReplyPort;
use tickwright_core::domain::Key;

use super::Checkpoints;

/// Which stages have put their last checkpoints: one that starts anew puts none either. Clones share
/// everything.
#[derive(Clone, Debug, Default)]
pub struct Closed(Arc<Mutex<BTreeMap<String, Arc<AtomicBool>>>>);

impl Closed {
    /// Whether that is so of `stage`.
    pub fn of(&self, stage: &str) -> Arc<AtomicBool> {
        let mut stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(stages.entry(stage.to_owned()).or_default())
    }
}

/// What was asked of a stage, and how far that has come.
#[derive(Debug, Default)]
pub struct Handover {
    /// The last checkpoint is to be at this key or after it.
    wanted: Option<Key>,
    /// Where it is, and who waits for it to be stored.
    put: Option<Key>,
    reply: Option<RpcReplyPort<Key>>,
}

impl Handover {
    /// The last checkpoint is asked for, at `after` or later. Whoever asked before waits no longer.
    pub fn begin(&mut self, after: Key, reply: RpcReplyPort<Key>) {
        *self = Self { wanted: Some(after), put: None, reply: Some(reply) };
    }

    /// Whether the last checkpoint was asked for and is still to be put.
    pub fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// Whether the last checkpoint is to be put now, by a stage at `position`.
    pub fn is_due(&mut self, position: Key) -> bool {
        let is_due = self.wanted.is_some_and(|after| position >= after);
        if is_due {
            self.wanted = None;
            self.put = Some(position);
        }
        is_due
    }

    /// Says so, once everything that was put is stored.
    pub fn answer(&mut self, checkpoints: &Checkpoints) {
        if let Some(key) = self.put.filter(|_| !checkpoints.is_in_flight())
            && let Some(reply) = self.reply.take()
        {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(key);
        }
    }
}
