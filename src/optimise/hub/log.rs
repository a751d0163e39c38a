//! What was tried anywhere: each node writes its own log, and every node keeps a copy of all.
//!
//! A log is named by node and life, and only that life of the node writes it. So a copy is known by its
//! length, and two copies are joined by taking the longer one: what every node holds is a join
//! semilattice, and what somebody lacks is what lies beyond the length that he names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::optimise::Trial;

/// Logs there may be: each life of a node begins one.
pub const AUTHORS_MAX: usize = 1_024;

/// Who writes a log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Author {
    /// The node.
    pub node: String,
    /// Which life of it: later ones are greater.
    pub life: u64,
}

/// What became of a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// The number.
    pub number: u64,
    /// What was tried.
    pub parameters: Vec<(String, f64)>,
    /// What that came to; none: it was given up, and counts as the worst.
    pub trial: Option<Trial>,
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose log.
    pub author: Author,
    /// Lines before it.
    pub place: u64,
    /// What it says.
    pub finished: Finished,
}

/// How long each log is.
pub type Lengths = BTreeMap<Author, u64>;

/// Copies of all logs. Memory grows with trials.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logs(BTreeMap<Author, Vec<Finished>>);

impl Logs {
    /// Takes in an entry if it is the next of its log; returns whether it is.
    pub fn add(&mut self, entry: &Entry) -> bool {
        let is_full = self.0.len() >= AUTHORS_MAX && !self.0.contains_key(&entry.author);
        if is_full || self.length(&entry.author) != entry.place {
            return false;
        }
        self.0.entry(entry.author.clone()).or_default().push(entry.finished.clone());
        true
    }

    /// How long a log is.
    pub fn length(&self, author: &Author) -> u64 {
        self.0.get(author).map_or(0, |log| log.len() as u64)
    }

    /// How long all are.
    pub fn lengths(&self) -> Lengths {
        self.0.iter().map(|(author, log)| (author.clone(), log.len() as u64)).collect()
    }

    /// At most `most` entries that whoever has so much lacks, each log in its order.
    pub fn beyond(&self, has: &Lengths, most: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (author, log) in &self.0 {
            let from = usize::try_from(has.get(author).copied().unwrap_or(0)).unwrap_or(usize::MAX);
            for (place, finished) in log.iter().enumerate().skip(from) {
                if entries.len() >= most {
                    return entries;
                }
                let (author, finished) = (author.clone(), finished.clone());
                entries.push(Entry { author, place: place as u64, finished });
            }
        }
        entries
    }

    /// Whether whoever has so much has something that is not here, and for which there is room.
    pub fn lacks(&self, theirs: &Lengths) -> bool {
        let is_full = self.0.len() >= AUTHORS_MAX;
        let has_room = |author: &Author| !is_full || self.0.contains_key(author);
        theirs.iter().any(|(author, length)| *length > self.length(author) && has_room(author))
    }

    /// Everything, each log in its order.
    pub fn iter(&self) -> impl Iterator<Item = (&Author, &Finished)> {
        self.0.iter().flat_map(|(author, log)| log.iter().map(move |finished| (author, finished)))
    }
}
