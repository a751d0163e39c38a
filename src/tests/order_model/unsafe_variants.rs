//! Each rule left out by itself. The checker must find what goes wrong, or the rule would not be needed
//! or the model would not see.

use super::Protocol;
use super::explore::explore;
use super::properties::{Check, Sight};
use super::rules::{Capability, Deduplication, Guard, Identity, PLAIN, PROTOCOL, Rules, Setup};

/// One signal, which is enough for most of them.
const SHORT: Setup = Setup { signals: 1, issued: 1, ..PLAIN };

/// An exchange that knows no deadlines, as locks assume.
const UNTIMED: Setup = Setup { capability: Capability::Neither, ..SHORT };

/// The ledger may be lost; the second signal comes when it likes.
const LOSING: Setup = Setup { issued: 1, losses: 1, ..PLAIN };

fn breaks(name: &str, rules: Rules, setup: Setup, check: &'static [Check; 1]) {
    let protocol = Protocol { rules, setup, checks: check, sights: Vec::new() };
    let (steps, told) = protocol
        .counter_example()
        .unwrap_or_else(|| panic!("{name}: no counter-example, though it is unsafe"));
    println!("{name}: {steps} steps to what should not be\n  ({})\n{told}", check[0].name());
}

const PER_GENERATION: &[Check; 1] = &[Check::OncePerGeneration];
const PER_SIGNAL: &[Check; 1] = &[Check::OncePerSignal];

#[test]
fn a_lock_with_a_time_to_live() {
    let rules = Rules { guard: Guard::Lock, ..PROTOCOL };
    breaks("lock", rules, UNTIMED, PER_GENERATION);
}

#[test]
fn a_fencing_token_at_the_gateway() {
    let rules = Rules { guard: Guard::FencedLock, ..PROTOCOL };
    breaks("fencing token", rules, UNTIMED, PER_GENERATION);
}

#[test]
fn a_deadline_stamped_when_sending() {
    let rules = Rules { is_stamped_at_commit: false, ..PROTOCOL };
    breaks("stamped when sending", rules, SHORT, PER_GENERATION);
}

#[test]
fn a_takeover_that_does_not_wait() {
    let rules = Rules { waits: false, ..PROTOCOL };
    breaks("no wait", rules, SHORT, PER_GENERATION);
}

#[test]
fn a_takeover_that_waits_too_short() {
    let setup = Setup { lag: 1, ..SHORT };
    breaks("no margin", PROTOCOL, setup, PER_GENERATION);
}

#[test]
fn a_journal_that_forgets() {
    let rules = Rules { guard: Guard::ForgottenIntent, ..PROTOCOL };
    breaks("forgetful journal", rules, SHORT, PER_GENERATION);
}

#[test]
fn a_retry_below() {
    let setup = Setup { duplicates: true, ..SHORT };
    breaks("retry below", PROTOCOL, setup, PER_GENERATION);
}

/// Without waiting, on an exchange that refuses an id it has seen.
const RELIES_ON_ID: Rules = Rules { waits: false, abandons: false, ..PROTOCOL };
const COMPARES_IDS: Setup = Setup { deduplication: Deduplication::All, ..SHORT };

#[test]
fn the_attempt_in_an_id_that_is_relied_upon() {
    let rules = Rules { identity: Identity::SlotAndAttempt, ..RELIES_ON_ID };
    breaks("attempt in the id", rules, COMPARES_IDS, PER_GENERATION);
}

#[test]
fn the_instance_in_an_id_that_is_relied_upon() {
    let rules = Rules { identity: Identity::SlotAndInstance, ..RELIES_ON_ID };
    breaks("instance in the id", rules, COMPARES_IDS, PER_GENERATION);
}

/// Also where nobody relies on the exchange to compare ids: whoever takes over asks for another id.
#[test]
fn the_instance_in_an_id_that_is_asked_for() {
    let rules = Rules { identity: Identity::SlotAndInstance, ..PROTOCOL };
    breaks("instance in the id, asked for", rules, SHORT, PER_GENERATION);
}

/// What Binance does: an id is free again once its order is filled.
#[test]
fn an_id_compared_among_open_orders_only() {
    let setup = Setup { deduplication: Deduplication::AmongOpen, ..SHORT };
    breaks("compared among open orders", RELIES_ON_ID, setup, PER_GENERATION);
}

/// So the two tests above fail by the id, and not for want of waiting.
#[test]
fn an_id_of_the_slot_may_be_relied_upon() {
    let checks = &[Check::OncePerGeneration, Check::OncePerSignal];
    let sights = vec![Sight::Placed, Sight::LateRequest, Sight::ResentAfterTakeover];
    Protocol { rules: RELIES_ON_ID, setup: COMPARES_IDS, checks, sights }
        .check_states("id of slot");
}

/// So the search for what cannot be resolved does find it.
#[test]
fn an_intent_that_may_be_neither_sent_again_nor_closed() {
    let rules = Rules { abandons: false, ..PROTOCOL };
    let protocol = Protocol { rules, setup: SHORT, checks: &[], sights: Vec::new() };
    let path = explore(&protocol).never_settled().expect("there is no time for another attempt");
    println!("stuck:\n{}", protocol.tell_actions(&path));
}

#[test]
fn a_slot_that_is_free_before_its_order_is_closed() {
    let rules = Rules { awaits_terminal: false, ..PROTOCOL };
    breaks("free too early", rules, PLAIN, &[Check::OneOpenPerSlot]);
}

#[test]
fn signals_that_are_not_spent() {
    let rules = Rules { refuses_spent: false, ..PROTOCOL };
    breaks("signal not spent", rules, SHORT, PER_SIGNAL);
}

/// Each account has a signal.
const TWO_ACCOUNTS: Setup = Setup { has_second_account: true, horizon: 4, ..PLAIN };

/// Whoever is first with a later signal, for another account, spends the earlier one that nobody has taken.
#[test]
fn signals_that_are_spent_for_all_accounts() {
    let rules = Rules { spends_by_account: false, ..PROTOCOL };
    breaks("spent for all accounts", rules, TWO_ACCOUNTS, &[Check::SpentWasOpened]);
}

/// Where ids of all accounts are one space, another account's order answers to the id.
#[test]
fn an_id_without_the_account() {
    let rules = Rules { identity: Identity::SlotOfAnyAccount, ..PROTOCOL };
    breaks("id without the account", rules, TWO_ACCOUNTS, &[Check::PlacedWasAccepted]);
}

#[test]
fn a_backup_order_after_an_unknown_outcome() {
    let rules = Rules { awaits_refusal: false, ..PROTOCOL };
    let setup = Setup { has_backup: true, ..SHORT };
    breaks("backup after unknown", rules, setup, PER_SIGNAL);
}

#[test]
fn an_exchange_without_deadlines() {
    breaks("no deadlines", PROTOCOL, UNTIMED, PER_GENERATION);
}

#[test]
fn a_session_that_is_not_sealed() {
    let rules = Rules { waits: false, ..PROTOCOL };
    let setup = Setup { capability: Capability::Session, window: 0, ..SHORT };
    breaks("not sealed", rules, setup, PER_GENERATION);
}

/// A request of this month is never sent, because last month's order answers to its id.
#[test]
fn a_ledger_founded_again_under_its_old_id() {
    let rules = Rules { draws_cluster: false, ..PROTOCOL };
    let setup = Setup { has_history: true, ..SHORT };
    breaks("same cluster id", rules, setup, &[Check::PlacedWasAccepted]);
}

#[test]
fn a_ledger_founded_again_that_does_not_wait() {
    let rules = Rules { waits_out: false, ..PROTOCOL };
    breaks("founded without waiting", rules, LOSING, &[Check::OneOpenPerSlot]);
}

#[test]
fn a_ledger_founded_again_amid_open_orders() {
    let rules = Rules { awaits_closed: false, ..PROTOCOL };
    breaks("founded amid open orders", rules, LOSING, &[Check::OneOpenPerSlot]);
}

/// That it is not ready is seen by whoever begins, but not by the commit of who began before.
#[test]
fn a_ledger_founded_again_that_is_used_unready() {
    let rules = Rules { refuses_unready: false, ..PROTOCOL };
    let setup = Setup { losses: 1, ..SHORT };
    breaks("used unready", rules, setup, PER_SIGNAL);
}

#[test]
fn a_ledger_founded_again_that_takes_old_signals() {
    let rules = Rules { spends_older: false, ..PROTOCOL };
    let setup = Setup { losses: 1, ..SHORT };
    breaks("old signals", rules, setup, PER_SIGNAL);
}
