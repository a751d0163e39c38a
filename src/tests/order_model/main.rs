//! The protocol by which an order is placed at most once, checked exhaustively within bounds.
//!
//! ```text
//!   executors ── compare-and-set ──▶ ledger: slots, consumed signals
//!       │  ▲ └── clock, query ─────▶ exchange: a clock of its own, what it has accepted
//!       └──┴──── request ── network ──▶ │
//! ```
//!
//! This is a model, written by hand and apart from the code that trades: what it shows is that the rules
//! are enough, and which of them are needed. Executors crash, and stand still between any two steps;
//! commits are lost or their answers are; requests are late, lost and overtake each other. Questions
//! are one step each, for an answer that is late is one after which the executor stood still.
//!
//! # Properties
//!
//! 1. At most one order is accepted of each generation of a slot.
//! 2. At most one order is accepted for each signal, at all exchanges together.
//! 3. At most one order is open in a slot.
//! 4. What the ledger calls placed was accepted.
//! 5. What the ledger has closed without calling it placed was never accepted.
//! 6. Of two accounts at one exchange, neither spends a signal of the other.
//! 7. From wherever faults have led, steps that are no faults lead to where nothing is left to resolve.
//!
//! Each rule is then left out by itself, and the checker must find what goes wrong.

#![allow(clippy::disallowed_macros, reason = "a test tells what it has found")]

mod executor;
mod explore;
mod properties;
mod protocol;
mod rules;
mod tell;
mod unsafe_variants;
mod world;

use rules::{Capability, Deduplication, Identity, PLAIN, PROTOCOL, Rules, Setup};

pub(crate) use protocol::Protocol;

/// Every property holds, everything that should be possible is, and all ends resolved.
fn holds(name: &'static str, rules: Rules, setup: Setup, possible: &[properties::Sight]) {
    let setup = Setup { is_symmetric: true, ..setup };
    let (states, depth) =
        Protocol { rules, setup, checks: properties::ALL, sights: possible.to_vec() }.check(name);
    println!("{name}: {states} states, at most {depth} steps deep");
}

use properties::Sight::{
    AcceptedBothSignals, FoundByQuery, LateRequest, Placed, PlacedAtBackup, ResentAfterTakeover,
    Settled,
};

#[test]
fn two_executors_and_two_signals() {
    let possible =
        [Placed, AcceptedBothSignals, FoundByQuery, LateRequest, ResentAfterTakeover, Settled];
    holds("two executors", PROTOCOL, PLAIN, &possible);
}

#[test]
fn three_executors() {
    let setup = Setup { executors: 3, signals: 1, issued: 1, horizon: 5, ..PLAIN };
    let possible = [Placed, FoundByQuery, LateRequest, ResentAfterTakeover, Settled];
    holds("three executors", PROTOCOL, setup, &possible);
}

#[test]
fn a_backup_exchange() {
    let setup = Setup { signals: 1, issued: 1, horizon: 4, has_backup: true, ..PLAIN };
    let possible =
        [Placed, PlacedAtBackup, FoundByQuery, LateRequest, ResentAfterTakeover, Settled];
    holds("backup", PROTOCOL, setup, &possible);
}

#[test]
fn two_accounts_at_one_exchange() {
    let setup = Setup { horizon: 4, attempts: 1, has_second_account: true, ..PLAIN };
    let possible = [Placed, AcceptedBothSignals, FoundByQuery, Settled];
    holds("two accounts", PROTOCOL, setup, &possible);
}

#[test]
fn an_order_that_shows_late() {
    let rules = Rules { margin: 1, ..PROTOCOL };
    let setup = Setup { signals: 1, issued: 1, lag: 1, ..PLAIN };
    let possible = [Placed, FoundByQuery, LateRequest, ResentAfterTakeover, Settled];
    holds("late to show", rules, setup, &possible);
}

#[test]
fn requests_that_come_twice() {
    let setup = Setup { horizon: 5, duplicates: true, deduplication: Deduplication::All, ..PLAIN };
    let possible = [Placed, AcceptedBothSignals, FoundByQuery, ResentAfterTakeover, Settled];
    holds("duplicates", PROTOCOL, setup, &possible);
}

#[test]
fn an_exchange_with_sessions_in_place_of_deadlines() {
    let setup = Setup { capability: Capability::Session, window: 0, ..PLAIN };
    let possible = [Placed, FoundByQuery, LateRequest, ResentAfterTakeover, Settled];
    holds("sessions", PROTOCOL, setup, &possible);
}

#[test]
fn a_ledger_that_is_lost() {
    let setup = Setup { issued: 1, attempts: 1, horizon: 5, losses: 1, ..PLAIN };
    let possible = [Placed, AcceptedBothSignals, FoundByQuery, Settled];
    holds("ledger lost between signals", PROTOCOL, setup, &possible);
    let setup = Setup { signals: 1, issued: 1, horizon: 5, losses: 1, ..PLAIN };
    let possible = [Placed, FoundByQuery, LateRequest, ResentAfterTakeover, Settled];
    holds("ledger lost amid attempts", PROTOCOL, setup, &possible);
}

#[test]
fn a_ledger_after_another_of_last_month() {
    let setup = Setup { signals: 1, issued: 1, has_history: true, ..PLAIN };
    let possible = [Placed, FoundByQuery, LateRequest, ResentAfterTakeover, Settled];
    holds("last month", PROTOCOL, setup, &possible);
}

#[test]
fn the_attempt_in_the_id_does_no_harm_where_nobody_relies_on_the_id() {
    let rules = Rules { identity: Identity::SlotAndAttempt, ..PROTOCOL };
    let setup = Setup { signals: 1, issued: 1, ..PLAIN };
    holds("attempt in the id", rules, setup, &[Placed, ResentAfterTakeover, Settled]);
}
