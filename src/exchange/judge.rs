//! The judge: counts what was accepted, whatever anybody was told.
//!
//! # Invariants
//!
//! 1. Every accepted order counts, once for each time that it was accepted.

use std::collections::BTreeMap;

use serde::Serialize;

use super::entry::{Entry, Event};

/// Ids that are shown of those that were accepted more than once.
const SHOWN_MAX: usize = 100;

/// Counts entries of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judge {
    entries: u64,
    accepted: u64,
    fills: u64,
    canceled: u64,
    expired: u64,
    rejected: u64,
    /// Times that each client id was accepted, by account. Bounded by the exchange, which accepts no more
    /// than [`super::CLIENT_IDS_MAX`].
    ids: BTreeMap<(String, String), u32>,
}

/// What the judge has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Lines of the log.
    pub entries: u64,
    /// Orders accepted.
    pub accepted: u64,
    /// Client ids among them, each account's own.
    pub distinct_client_ids: u64,
    /// Client ids that were accepted more than once.
    pub accepted_more_than_once: u64,
    /// The first hundred of them.
    pub more_than_once: Vec<Repeated>,
    /// Trades.
    pub fills: u64,
    /// Orders cancelled.
    pub canceled: u64,
    /// Orders expired.
    pub expired: u64,
    /// Requests refused.
    pub rejected: u64,
}

/// A client id that was accepted more than once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repeated {
    /// Whose.
    pub account: String,
    /// Which.
    pub client_id: String,
    /// How often.
    pub accepted: u32,
}

impl Judge {
    /// Takes one more line.
    pub fn on_entry(&mut self, entry: &Entry) {
        self.entries += 1;
        for event in &entry.events {
            match event {
                Event::Order(order) => {
                    self.accepted += 1;
                    let key = (order.account.clone(), order.client_id.clone());
                    *self.ids.entry(key).or_default() += 1;
                }
                Event::Fill(_) => self.fills += 1,
                Event::Closed { status, .. } => {
                    if *status == super::entry::Status::Canceled {
                        self.canceled += 1;
                    } else {
                        self.expired += 1;
                    }
                }
                Event::Rejected { .. } => self.rejected += 1,
                Event::Started { .. }
                | Event::Capabilities { .. }
                | Event::Account { .. }
                | Event::Session { .. } => {}
            }
        }
    }

    /// Times that an account's client id was accepted.
    pub fn accepted(&self, account: &str, client_id: &str) -> u32 {
        let key = (account.to_owned(), client_id.to_owned());
        self.ids.get(&key).copied().unwrap_or_default()
    }

    /// Client ids that are remembered.
    pub fn id_count(&self) -> usize {
        self.ids.len()
    }

    /// What was found.
    pub fn verdict(&self) -> Verdict {
        let repeated = self.ids.iter().filter(|(_, count)| **count > 1);
        let shown = repeated.clone().take(SHOWN_MAX).map(|((account, id), &accepted)| Repeated {
            account: account.clone(),
            client_id: id.clone(),
            accepted,
        });
        Verdict {
            entries: self.entries,
            accepted: self.accepted,
            distinct_client_ids: self.ids.len() as u64,
            accepted_more_than_once: repeated.clone().count() as u64,
            more_than_once: shown.collect(),
            fills: self.fills,
            canceled: self.canceled,
            expired: self.expired,
            rejected: self.rejected,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "accepted                {:>10}", self.accepted)?;
        writeln!(f, "distinct client ids     {:>10}", self.distinct_client_ids)?;
        writeln!(f, "accepted more than once {:>10}", self.accepted_more_than_once)?;
        writeln!(f, "fills                   {:>10}", self.fills)?;
        writeln!(f, "cancelled               {:>10}", self.canceled)?;
        writeln!(f, "expired                 {:>10}", self.expired)?;
        writeln!(f, "rejected                {:>10}", self.rejected)?;
        for repeated in &self.more_than_once {
            let Repeated { account, client_id, accepted } = repeated;
            writeln!(f, "broken: {account}: {client_id} was accepted {accepted} times")?;
        }
        Ok(())
    }
}
