//! The course of adoptions, by example and after any history.

use proptest::prelude::*;

use super::*;
use crate::optimise::trial::tests::trial;

fn adoption(mode: AdoptionMode) -> Adoption {
    Adoption::new(AdoptionConfig { mode, gain_min: 0.01, decline_max: 0.1, looks: 3 })
}

fn candidate(parameter: f64, score: f64, after: f64) -> Candidate {
    let trial = Trial { score, ..trial("b", 17, parameter, [0.1, 1.0, 0.05]) };
    Candidate {
        trial,
        after: Some(after),
        current: vec![("fast".into(), 12.0), ("slow".into(), 26.0)],
        current_score: 0.2,
        current_after: Some(0.1),
    }
}

fn why_of(effects: &[AdoptionEffect]) -> &str {
    match effects {
        [AdoptionEffect::Ended(end)] => &end.why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_better_is_refused_with_the_reason_and_not_looked_at_again() {
    let mut it = adoption(AdoptionMode::Auto);
    assert!(why_of(&it.on_found(candidate(5.0, 0.205, 0.5))).contains("no better"));
    assert!(why_of(&it.on_found(candidate(6.0, 0.5, 0.05))).contains("worse"));
    assert!(why_of(&it.on_found(candidate(12.0, 0.5, 0.5))).contains("in force already"));
    assert!(it.on_found(candidate(5.0, 0.205, 0.5)).is_empty());
    assert_eq!(it.counts(), [3, 0, 0]);
    assert!(adoption(AdoptionMode::Off).on_found(candidate(5.0, 0.9, 0.9)).is_empty());
}

#[test]
fn a_person_confirms_or_rejects() {
    let mut it = adoption(AdoptionMode::Confirm);
    let effects = it.on_found(candidate(5.0, 0.5, 0.5));
    assert!(matches!(effects[..], [AdoptionEffect::Ask(_)]), "{effects:?}");
    assert!(it.proposal().is_some());
    let applied = it.on_confirmed().unwrap();
    let AdoptionEffect::Apply { parameters, why } = applied else { panic!("{applied:?}") };
    assert_eq!(parameters, [("fast".to_owned(), 5.0)]);
    assert_eq!(why, "adopted: trial 17 of b, score 0.5000; instead of fast=12");
    assert_eq!(it.on_confirmed(), None, "once");
    assert!(it.on_applied(Ok(())).is_empty());
    assert_eq!((it.stage(), it.counts()), ("watched", [1, 1, 0]));
    let mut it = adoption(AdoptionMode::Confirm);
    it.on_found(candidate(5.0, 0.5, 0.5));
    assert!(matches!(it.on_rejected("alice"), Some(AdoptionEffect::Ended(_))));
    assert_eq!((it.stage(), it.on_rejected("alice")), ("idle", None));
}

#[test]
fn what_does_worse_live_is_taken_back_to_what_was_in_force() {
    let mut it = adoption(AdoptionMode::Auto);
    it.on_live_score(0.3);
    it.on_found(candidate(5.0, 0.5, 0.5));
    it.on_applied(Ok(()));
    let effects = it.on_live_score(0.1);
    let [AdoptionEffect::Apply { parameters, why }] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(parameters, &[("fast".to_owned(), 12.0)]);
    assert!(why.contains("taken back: live score 0.1000, before 0.3000"), "{why}");
    it.on_applied(Ok(()));
    assert_eq!((it.stage(), it.counts()), ("idle", [1, 1, 1]));
    assert!(it.on_found(candidate(5.0, 0.5, 0.5)).is_empty(), "not the same again");
}

#[test]
fn what_another_adopted_is_watched_by_whoever_takes_over() {
    let mut first = adoption(AdoptionMode::Auto);
    first.on_live_score(0.3);
    let effects = first.on_found(candidate(5.0, 0.5, 0.5));
    let [AdoptionEffect::Apply { parameters, why }] = &effects[..] else {
        panic!("{effects:?}");
    };
    let record = AdoptedRecord::parse(why).unwrap();
    let mut it = adoption(AdoptionMode::Auto);
    it.on_taken_over(parameters.clone(), record.clone());
    assert_eq!((it.stage(), it.counts()), ("watched", [1, 1, 0]));
    assert!(it.on_found(candidate(5.0, 0.5, 0.5)).is_empty(), "it is in force");
    let effects = it.on_live_score(0.1);
    let [AdoptionEffect::Apply { parameters: back, .. }] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(back, &[("fast".to_owned(), 12.0)]);
    it.on_applied(Ok(()));
    assert_eq!((it.stage(), it.counts()), ("idle", [1, 1, 1]));
    it.on_taken_over(parameters.clone(), record.clone());
    assert_eq!(it.stage(), "idle", "once");
    // Without anything to compare with it is compared with itself; and where nobody adopts, not at all.
    let mut it = adoption(AdoptionMode::Auto);
    it.on_taken_over(parameters.clone(), AdoptedRecord { live: None, ..record.clone() });
    assert!(why_of(&it.on_live_score(0.4)).contains("none before"));
    assert_eq!(it.stage(), "watched");
    let mut it = adoption(AdoptionMode::Off);
    it.on_taken_over(parameters.clone(), record);
    assert_eq!(it.stage(), "idle");
}

#[test]
fn what_does_as_well_stays() {
    let mut it = adoption(AdoptionMode::Auto);
    it.on_live_score(0.3);
    it.on_found(candidate(5.0, 0.5, 0.5));
    it.on_applied(Ok(()));
    assert!(why_of(&it.on_live_score(0.21)).contains("live score 0.2100, before 0.3000"));
    assert!(it.history().last().unwrap().is_adopted);
    // And what cannot be applied is said, and what is in force is watched on.
    it.on_found(candidate(6.0, 0.6, 0.5));
    let effects = it.on_applied(Err("the run is over".into()));
    assert!(why_of(&effects).contains("the run is over"));
    assert_eq!(it.watched(), Some(&[("fast".to_owned(), 5.0)][..]));
}

#[test]
fn what_did_well_at_first_and_does_worse_later_is_taken_back() {
    let mut it = adoption(AdoptionMode::Auto);
    it.on_live_score(0.3);
    it.on_found(candidate(5.0, 0.5, 0.5));
    it.on_applied(Ok(()));
    assert!(why_of(&it.on_live_score(0.4)).contains("live score 0.4000, before 0.3000"));
    // Stretches of three looks are judged that have no look in common.
    for score in [0.35, 0.1, 0.25, 0.1, 0.1] {
        assert!(it.on_live_score(score).is_empty(), "{score}");
    }
    let effects = it.on_live_score(0.1);
    let [AdoptionEffect::Apply { parameters, why }] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(parameters, &[("fast".to_owned(), 12.0)]);
    assert!(why.contains("taken back: live score 0.1000, before 0.3000"), "{why}");
    // What cannot be put back is tried again after another stretch.
    assert!(why_of(&it.on_applied(Err("too slow".into()))).contains("could not be put back"));
    assert!(it.on_live_score(0.1).is_empty() && it.on_live_score(0.1).is_empty());
    assert_eq!(it.on_live_score(0.1).len(), 1);
    it.on_applied(Ok(()));
    assert_eq!((it.stage(), it.counts()), ("idle", [1, 1, 1]));
}

#[test]
fn where_nothing_was_known_before_the_first_stretch_is_what_is_compared_with() {
    let mut it = adoption(AdoptionMode::Auto);
    it.on_found(candidate(5.0, 0.5, 0.5));
    it.on_applied(Ok(()));
    assert!(why_of(&it.on_live_score(0.4)).contains("none before"));
    assert!(it.on_live_score(0.0).is_empty() && it.on_live_score(0.0).is_empty());
    let effects = it.on_live_score(0.2);
    assert!(
        matches!(&effects[..], [AdoptionEffect::Apply { why, .. }] if why.contains("before 0.4000")),
        "{effects:?}"
    );
}

#[test]
fn what_is_found_meanwhile_is_looked_at_once_what_is_watched_has_been_judged() {
    let judged = |effects: &[AdoptionEffect]| match effects {
        [AdoptionEffect::Ended(_), AdoptionEffect::Judge(trial)] => trial.parameters[0].1,
        other => panic!("{other:?}"),
    };
    let mut it = adoption(AdoptionMode::Auto);
    it.on_live_score(0.3);
    it.on_found(candidate(5.0, 0.5, 0.5));
    assert!(it.on_found(candidate(6.0, 0.8, 0.8)).is_empty(), "one at a time");
    it.on_applied(Ok(()));
    assert!(it.on_found(candidate(5.0, 0.5, 0.5)).is_empty(), "it is in force");
    assert!(it.on_found(candidate(7.0, 0.9, 0.9)).is_empty(), "one at a time");
    assert_eq!(judged(&it.on_live_score(0.3)), 7.0, "the last one");
    let effects = it.on_found(candidate(7.0, 0.9, 0.9));
    assert!(matches!(&effects[..], [AdoptionEffect::Apply { .. }]), "{effects:?}");
    // The same when what is watched is taken back.
    it.on_applied(Ok(()));
    it.on_found(candidate(8.0, 0.95, 0.95));
    assert!(matches!(&it.on_live_score(-0.5)[..], [AdoptionEffect::Apply { .. }]));
    assert_eq!(judged(&it.on_applied(Ok(()))), 8.0);
    assert_eq!(it.stage(), "idle");
}

#[test]
fn what_is_proposed_waits_while_what_is_in_force_is_taken_back() {
    let mut it = adoption(AdoptionMode::Confirm);
    it.on_live_score(0.3);
    it.on_found(candidate(5.0, 0.5, 0.5));
    it.on_confirmed().unwrap();
    it.on_applied(Ok(()));
    it.on_live_score(0.3);
    it.on_found(candidate(6.0, 0.8, 0.8));
    assert_eq!(it.stage(), "proposed");
    for score in [0.0, 0.0] {
        it.on_live_score(score);
    }
    assert!(matches!(&it.on_live_score(0.0)[..], [AdoptionEffect::Apply { .. }]));
    assert_eq!(it.on_confirmed(), None);
    assert!(matches!(&it.on_applied(Ok(()))[..], [_, AdoptionEffect::Judge(_)]));
}

#[test]
fn what_somebody_else_has_changed_is_watched_no_more() {
    let mut it = adoption(AdoptionMode::Auto);
    it.on_live_score(0.3);
    it.on_found(candidate(5.0, 0.5, 0.5));
    assert!(it.on_changed().is_empty(), "it is not in force yet");
    it.on_applied(Ok(()));
    assert!(why_of(&it.on_changed()).contains("somebody else"));
    assert_eq!((it.stage(), it.on_changed()), ("idle", vec![]));
    assert!(it.on_live_score(-0.9).is_empty());
    // What another took back is not tried again.
    it.on_known(vec![("fast".into(), 6.0)], "taken back: by b".into());
    assert!(it.on_found(candidate(6.0, 0.8, 0.8)).is_empty());
}

proptest! {
    /// Invariants 1 to 4, each where its number is.
    #[test]
    fn one_change_at_a_time_and_each_of_them_has_an_end(
        steps in prop::collection::vec((0u8..5, 0.0..1.0f64, any::<bool>()), 1..80),
        is_auto in any::<bool>(),
    ) {
        let mode = if is_auto { AdoptionMode::Auto } else { AdoptionMode::Confirm };
        let mut it = adoption(mode);
        let mut in_force = 12.0;
        // What is being applied, and whether that takes back; and what was in force before what is.
        let (mut wanted, mut is_back, mut before) = (None, false, None);
        let (mut found, mut asked, mut applied, mut ends) = (vec![], None, vec![], vec![]);
        // In the end whatever was applied has been judged.
        let last = [(3, 1.0, true), (4, 1.0, true)];
        for (at, (step, score, is_well)) in steps.into_iter().chain(last).enumerate() {
            let effects = match step {
                0 | 1 => {
                    let after = if is_well { score } else { 0.05 };
                    let mut better = candidate(20.0 + at as f64, score, after);
                    better.current[0].1 = in_force;
                    let is_valid = score > 0.2 + 0.01 && after >= 0.1;
                    found.push((better.trial.parameters[0].1, is_valid));
                    it.on_found(better)
                }
                2 => it.on_confirmed().into_iter().collect(),
                3 => {
                    let outcome = if is_well { Ok(()) } else { Err("no".to_owned()) };
                    if let Some(value) = wanted.take().filter(|_| is_well) {
                        before = if is_back { None } else { Some(in_force) };
                        in_force = value;
                    }
                    it.on_applied(outcome)
                }
                _ => it.on_live_score(score),
            };
            for effect in effects {
                match effect {
                    AdoptionEffect::Ask(asks) => asked = Some(asks.trial.parameters[0].1),
                    AdoptionEffect::Judge(trial) => {
                        let is_free = it.stage() == "idle" || it.stage() == "watched";
                        prop_assert!(is_free && trial.parameters[0].1 != in_force);
                    }
                    AdoptionEffect::Apply { parameters, why } => {
                        prop_assert!(wanted.is_none(), "1: two at once");
                        let value = parameters[0].1;
                        is_back = step == 4;
                        prop_assert_eq!(why.starts_with("taken back"), is_back);
                        if is_back {
                            prop_assert_eq!(Some(value), before, "3: not what was before");
                        } else {
                            let is_confirmed = step == 2 && asked == Some(value);
                            prop_assert!(found.contains(&(value, true)), "2: not validated");
                            prop_assert!(is_auto || is_confirmed, "2: not confirmed");
                            applied.push(value);
                        }
                        wanted = Some(value);
                    }
                    AdoptionEffect::Ended(end) => {
                        prop_assert!(!end.why.is_empty(), "4: without a reason");
                        ends.push(end);
                    }
                }
            }
            prop_assert_eq!(wanted.is_some(), it.stage() == "applying");
            let kept = &ends[ends.len().saturating_sub(HISTORY_MAX)..];
            prop_assert!(it.history().eq(kept), "4: {:?} is not {:?}", it.history, ends);
            let [proposed, adopted, taken_back] = it.counts();
            prop_assert!(taken_back <= adopted && adopted <= proposed);
        }
        for value in applied {
            let has_ended = ends.iter().any(|end| end.parameters[0].1 == value);
            prop_assert!(has_ended, "4: {value} was applied and has no end");
        }
    }
}
