//! What was written, what each writer knew of, and what must be left of it.
//!
//! Kept beside the cores and from the siblings they show alone: neither contexts nor `seen` are looked
//! at. So a writer may know of more than is written down here, as of removals that were forgotten;
//! the properties are those that hold all the same.

use std::collections::{BTreeMap, BTreeSet};

use tickwright_core::config_sync::{ConfigSync, Dot, Entry, Sibling};

/// Keys, each with the writes that a node has known of.
pub(crate) type Known = BTreeMap<String, BTreeSet<Dot>>;

#[derive(Debug)]
struct Written {
    key: String,
    is_removal: bool,
    /// Everything that its writer knew of, and what those knew of.
    covers: BTreeSet<Dot>,
    /// It has been on a disk.
    is_stored: bool,
    /// Its disk was lost, or the writer gave it up.
    is_doubtful: bool,
}

impl Written {
    /// It is on a disk, and stays there.
    fn is_sure(&self) -> bool {
        self.is_stored && !self.is_doubtful
    }
}

#[derive(Debug, Default)]
pub(crate) struct Judge {
    writes: BTreeMap<Dot, Written>,
}

impl Judge {
    pub(crate) fn on_write(
        &mut self,
        dot: &Dot,
        key: &str,
        is_removal: bool,
        known: &Known,
    ) -> Result<(), String> {
        let covers = known.get(key).cloned().unwrap_or_default();
        let written = Written {
            key: key.to_owned(),
            is_removal,
            covers,
            is_stored: false,
            is_doubtful: false,
        };
        match self.writes.insert(dot.clone(), written) {
            None => Ok(()),
            Some(_) => Err(format!("(2) {dot} was given twice")),
        }
    }

    /// Whoever holds these siblings knows of them, and of what their writers knew.
    pub(crate) fn learn(&self, known: &mut Known, key: &str, entry: &Entry) {
        let known = known.entry(key.to_owned()).or_default();
        for dot in entry.siblings.keys() {
            if known.insert(dot.clone())
                && let Some(written) = self.writes.get(dot)
            {
                known.extend(written.covers.iter().cloned());
            }
        }
    }

    /// `dot` is on the disk of whoever wrote it.
    pub(crate) fn on_stored(&mut self, dot: &Dot) {
        if let Some(written) = self.writes.get_mut(dot) {
            written.is_stored = true;
        }
    }

    /// `node` has crashed: what it had not stored was never said, and its dots may be given again.
    pub(crate) fn on_crash(&mut self, node: &str) {
        self.writes.retain(|dot, written| dot.replica.node.0 != node || written.is_stored);
    }

    /// `node` says this.
    pub(crate) fn on_sent(&self, node: &str, entry: &Entry) -> Result<(), String> {
        let is_early = |dot: &&Dot| {
            dot.replica.node.0 == node
                && self.writes.get(*dot).is_none_or(|written| !written.is_stored)
        };
        match entry.siblings.keys().find(is_early) {
            None => Ok(()),
            Some(dot) => Err(format!("(2) {dot} is sent and not stored")),
        }
    }

    /// A disk is lost, and with it what only it may have had.
    pub(crate) fn on_disk_lost(&mut self, node: &str) {
        for (dot, written) in &mut self.writes {
            if dot.replica.node.0 == node {
                written.is_doubtful = true;
            }
        }
    }

    /// A node has given this up and said so, and with it what it had itself replaced by it.
    pub(crate) fn on_set_aside(&mut self, key: &str, sibling: &Sibling) {
        let named = |(dot, written): &(&Dot, &Written)| {
            written.key == key && sibling.author == dot.to_string()
        };
        let Some((dot, written)) = self.writes.iter().find(named) else { return };
        let own = |covered: &&Dot| covered.replica == dot.replica;
        let given_up = written.covers.iter().filter(own).chain([dot]);
        let given_up: Vec<Dot> = given_up.cloned().collect();
        for dot in given_up {
            if let Some(written) = self.writes.get_mut(&dot) {
                written.is_doubtful = true;
            }
        }
    }

    pub(crate) fn verdict(&self, end: &ConfigSync) -> Result<(), String> {
        for (dot, written) in &self.writes {
            let stands = |dot: &Dot| {
                end.entry(&written.key).is_some_and(|entry| entry.siblings.contains_key(dot))
            };
            let others = || self.writes.iter().filter(|(other, _)| *other != dot);
            let by = |other: &(&Dot, &Written)| other.1.covers.contains(dot);
            let mut later = others().filter(by);
            let mut sure_later = others().filter(by).filter(|(_, other)| other.is_sure());
            if stands(dot)
                && let Some((other, _)) = sure_later.next()
            {
                return Err(format!("(3) {dot} of {} stands, and {other} knew it", written.key));
            }
            let must_stand = written.is_sure() && !written.is_removal && later.next().is_none();
            if must_stand && !stands(dot) {
                return Err(format!("(4) {dot} of {} is gone", written.key));
            }
        }
        for (key, entry) in end.entries() {
            if let Some(dot) = entry.siblings.keys().find(|dot| !self.writes.contains_key(dot)) {
                return Err(format!("{dot} of {key} was never written"));
            }
        }
        Ok(())
    }
}
