//! What an operator is to hear of: nodes that are not heard of, trials that fail, a strategy that does worse than it did.
//!
//! ```text
//! how long a node has been silent ─┐
//! how many of the last trials failed ─▶ Alerts ─▶ Raised, once ─▶ ... ─▶ Cleared, once it has been well for a while
//! live scores, one after the other ─┘
//! ```
//!
//! # Invariants
//!
//! 1. Between two raisings of an alert about the same thing it was cleared.
//! 2. What wavers about its limit is raised once: it is cleared only when its value has been below a share of the limit
//!    for all of [`AlertsConfig::hold`].
//! 3. Live scores are compared over stretches that have no look in common.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::{Span, Timestamp};

/// Things that are watched; beyond it, nothing new is.
const WATCHED_MAX: usize = 1_024;

/// Alerts that are kept once they are over.
const HISTORY_MAX: usize = 64;

/// Live scores that are kept to compare with.
const SCORES_MAX: usize = 4_096;

/// What an alert is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A node has not been heard of; in milliseconds.
    NodeOffline,
    /// Trials of a search fail; as a share of the last ones.
    TrialFailures,
    /// What runs does worse than it did; by how much its live score fell.
    QualityDecline,
}

impl AlertKind {
    /// As users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NodeOffline => "node_offline",
            Self::TrialFailures => "trial_failures",
            Self::QualityDecline => "quality_decline",
        }
    }
}

/// From when on what is an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertsConfig {
    /// How long a node may be silent; none: for ever.
    pub offline: Option<Span>,
    /// Share of the last trials that may fail, from 0 to 1; none: all.
    pub failure_share: Option<f64>,
    /// How many trials those are.
    pub failure_trials: u32,
    /// By how much a live score may fall; none: by anything.
    pub decline: Option<f64>,
    /// Looks that a live score is of: so far apart are those that are compared.
    pub looks: usize,
    /// How long it has to be well before an alert is over.
    pub hold: Span,
    /// What is well: below this share of the limit, from 0 to 1.
    pub clear_share: f64,
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its place among those of the node that has raised it, from 1.
    pub number: u64,
    /// Of what.
    pub kind: AlertKind,
    /// About which node or strategy.
    pub about: String,
    /// What was seen last, in the unit of the kind.
    pub value: f64,
    /// From when on it is an alert, in the same.
    pub limit: f64,
    /// When it was raised, in milliseconds since 1970.
    pub raised_ms: u64,
    /// When it was over; none while it is not.
    pub cleared_ms: Option<u64>,
}

/// For people.
impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { about, value, limit, .. } = self;
        match (self.kind, self.cleared_ms) {
            (AlertKind::NodeOffline, None) => {
                write!(
                    f,
                    "node {about} has not been heard of for {value:.0} ms, and {limit:.0} may be"
                )
            }
            (AlertKind::NodeOffline, Some(_)) => {
                write!(f, "node {about} is heard of again, or has left")
            }
            (AlertKind::TrialFailures, None) => write!(
                f,
                "{:.0} % of the last trials on {about} have failed, and {:.0} % may",
                value * 100.0,
                limit * 100.0
            ),
            (AlertKind::TrialFailures, Some(_)) => {
                write!(f, "trials on {about} do not fail so often any more")
            }
            (AlertKind::QualityDecline, None) => {
                write!(
                    f,
                    "the live score of {about} has fallen by {value:.3}, and {limit:.3} may be"
                )
            }
            (AlertKind::QualityDecline, Some(_)) => {
                write!(f, "{about} does as well again as it did")
            }
        }
    }
}

/// When something is seen, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertTime {
    /// By one that only goes on.
    pub now: Timestamp,
    /// By the one on the wall.
    pub wall: Timestamp,
}

impl AlertTime {
    fn wall_ms(self) -> u64 {
        self.wall.as_nanos() / 1_000_000
    }
}

#[derive(Clone, Debug)]
struct Standing {
    alert: Alert,
    /// Since when it has been well.
    well_since: Option<Timestamp>,
}

/// Live scores of one strategy.
#[derive(Clone, Debug, Default)]
struct Scores {
    /// At most [`SCORES_MAX`].
    last: VecDeque<f64>,
    /// What it is compared with while it does worse.
    reference: Option<f64>,
}

/// All alerts of one node.
#[derive(Clone, Debug)]
pub struct Alerts {
    config: AlertsConfig,
    next: u64,
    /// At most [`WATCHED_MAX`].
    standing: BTreeMap<(AlertKind, String), Standing>,
    /// At most [`HISTORY_MAX`].
    history: VecDeque<Alert>,
    /// At most [`WATCHED_MAX`].
    scores: BTreeMap<String, Scores>,
}

impl Alerts {
    /// None so far.
    pub const fn new(config: AlertsConfig) -> Self {
        Self {
            config,
            next: 1,
            standing: BTreeMap::new(),
            history: VecDeque::new(),
            scores: BTreeMap::new(),
        }
    }

    /// Goes by other limits from now on. Returns what is over with that: what has none any more.
    pub fn go_by(&mut self, config: AlertsConfig, at: AlertTime) -> Vec<Alert> {
        self.config = config;
        let (offline, failures) = (self.config.offline, self.config.failure_share);
        let decline = self.config.decline;
        self.clear_all(
            |kind, _| match kind {
                AlertKind::NodeOffline => offline.is_none(),
                AlertKind::TrialFailures => failures.is_none(),
                AlertKind::QualityDecline => decline.is_none(),
            },
            at,
        )
    }

    /// `node` was last heard of so long ago. Returns what was raised or is over.
    pub fn on_silence(&mut self, node: &str, silence: Span, at: AlertTime) -> Option<Alert> {
        let limit = milliseconds(self.config.offline?);
        self.on_value(AlertKind::NodeOffline, node, milliseconds(silence), limit, at)
    }

    /// Only these nodes are part of the cluster: the others have left. Returns what is over with that.
    pub fn on_members(&mut self, is_member: impl Fn(&str) -> bool, at: AlertTime) -> Vec<Alert> {
        self.clear_all(
            |kind, about| match kind {
                AlertKind::NodeOffline | AlertKind::TrialFailures => !is_member(about),
                AlertKind::QualityDecline => false,
            },
            at,
        )
    }

    /// Another node looks at trials and scores from now on. Returns what is over with that.
    pub fn on_resigned(&mut self, at: AlertTime) -> Vec<Alert> {
        self.scores.clear();
        self.clear_all(
            |kind, _| match kind {
                AlertKind::NodeOffline => false,
                AlertKind::TrialFailures | AlertKind::QualityDecline => true,
            },
            at,
        )
    }

    fn clear_all(
        &mut self,
        is_over: impl Fn(AlertKind, &str) -> bool,
        at: AlertTime,
    ) -> Vec<Alert> {
        let over = self.standing.keys().filter(|(kind, about)| is_over(*kind, about));
        let over: Vec<(AlertKind, String)> = over.cloned().collect();
        over.into_iter().filter_map(|key| self.clear(&key, at)).collect()
    }

    /// Of the last `trials` on `node` so many have failed. As long as there are fewer than
    /// [`AlertsConfig::failure_trials`], nothing follows from it. Returns what was raised or is over.
    pub fn on_trials(
        &mut self,
        node: &str,
        failed: u32,
        trials: u32,
        at: AlertTime,
    ) -> Option<Alert> {
        let limit = self.config.failure_share?;
        if trials == 0 || trials < self.config.failure_trials {
            return None;
        }
        let share = f64::from(failed) / f64::from(trials);
        self.on_value(AlertKind::TrialFailures, node, share, limit, at)
    }

    /// The live score of `strategy` after another look. It is compared with that of as many looks before; while it is
    /// below by too much, with that which it fell from. Returns what was raised or is over.
    pub fn on_live_score(&mut self, strategy: &str, score: f64, at: AlertTime) -> Option<Alert> {
        let limit = self.config.decline?;
        if !score.is_finite()
            || (self.scores.len() >= WATCHED_MAX && !self.scores.contains_key(strategy))
        {
            return None;
        }
        let apart = self.config.looks;
        let scores = self.scores.entry(strategy.to_owned()).or_default();
        let before = scores.last.len().checked_sub(apart).and_then(|at| scores.last.get(at));
        let reference = scores.reference.or(before.copied());
        if scores.last.len() == SCORES_MAX {
            scores.last.pop_front();
        }
        scores.last.push_back(score);
        let reference = reference?;
        let effect =
            self.on_value(AlertKind::QualityDecline, strategy, reference - score, limit, at);
        let is_standing =
            self.standing.contains_key(&(AlertKind::QualityDecline, strategy.to_owned()));
        if let Some(scores) = self.scores.get_mut(strategy) {
            scores.reference = is_standing.then_some(reference);
        }
        effect
    }

    /// Other parameters are in force for `strategy`: what was seen before was seen of others.
    pub fn on_changed(&mut self, strategy: &str, at: AlertTime) -> Option<Alert> {
        self.scores.remove(strategy);
        self.clear(&(AlertKind::QualityDecline, strategy.to_owned()), at)
    }

    /// Alerts that stand.
    pub fn standing(&self) -> impl Iterator<Item = &Alert> {
        self.standing.values().map(|standing| &standing.alert)
    }

    /// Alerts that are over, the last one last.
    pub fn history(&self) -> impl Iterator<Item = &Alert> {
        self.history.iter()
    }

    fn on_value(
        &mut self,
        kind: AlertKind,
        about: &str,
        value: f64,
        limit: f64,
        at: AlertTime,
    ) -> Option<Alert> {
        let key = (kind, about.to_owned());
        let Some(standing) = self.standing.get_mut(&key) else {
            if value < limit || self.standing.len() >= WATCHED_MAX {
                return None;
            }
            let raised_ms = at.wall_ms();
            let (number, about) = (self.next, about.to_owned());
            let alert = Alert { number, kind, about, value, limit, raised_ms, cleared_ms: None };
            self.next += 1;
            self.standing.insert(key, Standing { alert: alert.clone(), well_since: None });
            return Some(alert);
        };
        (standing.alert.value, standing.alert.limit) = (value, limit);
        if value >= limit * self.config.clear_share {
            standing.well_since = None;
            return None;
        }
        let since = *standing.well_since.get_or_insert(at.now);
        if at.now.since(since) < self.config.hold {
            return None;
        }
        self.clear(&key, at)
    }

    fn clear(&mut self, key: &(AlertKind, String), at: AlertTime) -> Option<Alert> {
        let Standing { mut alert, .. } = self.standing.remove(key)?;
        alert.cleared_ms = Some(at.wall_ms());
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(alert.clone());
        Some(alert)
    }
}

/// Whether node `own` is to tell, which hears `nodes` and has not heard of each for so long: if it coordinates; if nobody is
/// known to, or that one has been silent for `limit`, the first by name of those that have not. So something is told also when
/// there are too few nodes to agree on who coordinates.
pub fn tells(own: &str, coordinator: Option<&str>, nodes: &[(String, Span)], limit: Span) -> bool {
    let mut heard = nodes.iter().filter(|(_, silence)| *silence < limit).map(|(node, _)| node);
    match coordinator {
        Some(coordinator) if coordinator == own => true,
        Some(coordinator) if heard.clone().any(|node| node == coordinator) => false,
        Some(_) | None => heard.all(|node| own <= node.as_str()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact for 285 years")]
fn milliseconds(span: Span) -> f64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alerts() -> Alerts {
        Alerts::new(AlertsConfig {
            offline: Some(Span::from_millis(1_000)),
            failure_share: Some(0.5),
            failure_trials: 10,
            decline: Some(0.2),
            looks: 2,
            hold: Span::from_millis(500),
            clear_share: 0.8,
        })
    }

    fn at(ms: u64) -> AlertTime {
        let now = Timestamp::from_nanos(ms * 1_000_000);
        AlertTime { now, wall: now }
    }

    fn silent(alerts: &mut Alerts, silence_ms: u64, now_ms: u64) -> Option<bool> {
        let told = alerts.on_silence("b", Span::from_millis(silence_ms), at(now_ms));
        told.map(|alert| alert.cleared_ms.is_none())
    }

    #[test]
    fn a_node_is_offline_at_the_limit_and_that_is_said_once() {
        let mut alerts = alerts();
        assert_eq!(silent(&mut alerts, 999, 0), None);
        assert_eq!(silent(&mut alerts, 1_000, 1), Some(true));
        assert_eq!(silent(&mut alerts, 5_000, 2), None);
        assert_eq!(alerts.standing().next().unwrap().value, 5_000.0);
    }

    #[test]
    fn it_is_over_once_it_has_been_well_for_a_while_and_wavering_is_not_well() {
        let mut alerts = alerts();
        assert_eq!(silent(&mut alerts, 1_000, 0), Some(true));
        assert_eq!(silent(&mut alerts, 900, 100), None, "below the limit, and not well below");
        assert_eq!(silent(&mut alerts, 900, 2_000), None);
        assert_eq!(silent(&mut alerts, 10, 2_100), None);
        assert_eq!(silent(&mut alerts, 850, 2_200), None, "begins again");
        assert_eq!(silent(&mut alerts, 10, 2_300), None);
        assert_eq!(silent(&mut alerts, 10, 2_799), None);
        assert_eq!(silent(&mut alerts, 10, 2_800), Some(false));
        assert_eq!((alerts.standing().count(), alerts.history().count()), (0, 1));
        assert_eq!(silent(&mut alerts, 1_000, 3_000), Some(true), "another one");
        assert_eq!(alerts.standing().next().unwrap().number, 2);
    }

    #[test]
    fn a_node_that_has_left_is_not_offline() {
        let mut alerts = alerts();
        silent(&mut alerts, 1_000, 0);
        assert!(alerts.on_members(|node| node == "b", at(1)).is_empty());
        assert_eq!(alerts.on_members(|node| node == "a", at(2)).len(), 1);
        assert_eq!(alerts.standing().count(), 0);
    }

    #[test]
    fn trials_count_once_there_are_enough_of_them() {
        let mut alerts = alerts();
        assert_eq!(alerts.on_trials("a", 9, 9, at(0)), None);
        assert_eq!(alerts.on_trials("a", 4, 10, at(0)), None);
        let raised = alerts.on_trials("a", 5, 10, at(0)).unwrap();
        assert_eq!((raised.value, raised.limit), (0.5, 0.5));
        assert!(raised.to_string().contains("50 % of the last trials on a"), "{raised}");
        assert_eq!(alerts.on_trials("a", 3, 10, at(1)), None);
        assert!(alerts.on_trials("a", 3, 10, at(501)).unwrap().cleared_ms.is_some());
    }

    #[test]
    fn a_score_is_compared_with_one_that_has_no_look_in_common_and_with_what_it_fell_from() {
        let mut alerts = alerts();
        let mut score = |score, ms| {
            let told = alerts.on_live_score("s", score, at(ms));
            told.map(|alert| alert.cleared_ms.is_none())
        };
        assert_eq!(score(1.0, 0), None);
        assert_eq!(score(0.5, 1), None, "the stretches overlap");
        assert_eq!(score(0.7, 2), Some(true), "0.3 below the first");
        assert_eq!(score(0.7, 3), None);
        assert_eq!(score(0.7, 1_000), None, "it stays low, which is not as well as it was");
        assert_eq!(score(0.7, 2_000), None);
        assert_eq!(score(0.9, 3_000), None);
        assert_eq!(score(0.9, 3_500), Some(false));
        assert_eq!(score(f64::NAN, 3_501), None);
    }

    #[test]
    fn other_parameters_begin_anew() {
        let mut alerts = alerts();
        for (score, ms) in [(1.0, 0), (1.0, 1), (0.1, 2)] {
            alerts.on_live_score("s", score, at(ms));
        }
        assert_eq!(alerts.standing().count(), 1);
        assert!(alerts.on_changed("s", at(3)).is_some());
        assert_eq!(alerts.on_live_score("s", 0.1, at(4)), None);
        assert_eq!(alerts.standing().count(), 0);
    }

    #[test]
    fn the_coordinator_tells_and_if_it_is_lost_the_first_that_is_there() {
        let limit = Span::from_secs(2);
        let nodes = [("a", 0), ("b", 1), ("c", 0)];
        let nodes = nodes.map(|(name, silence)| (name.to_owned(), Span::from_secs(silence)));
        let telling = |coordinator, nodes: &[(String, Span)]| -> Vec<&str> {
            let all = ["a", "b", "c"].into_iter();
            all.filter(|own| tells(own, coordinator, nodes, limit)).collect()
        };
        assert_eq!(telling(Some("b"), &nodes), ["b"]);
        assert_eq!(telling(None, &nodes), ["a"]);
        let mut lost = nodes;
        lost[0].1 = limit;
        assert_eq!(telling(Some("b"), &lost), ["b"]);
        assert!(!tells("c", Some("a"), &lost, limit), "b is before it");
        assert!(tells("b", Some("a"), &lost, limit));
        assert!(tells("b", Some("z"), &lost, limit), "a coordinator that nobody knows");
    }

    #[test]
    fn what_is_not_configured_is_never_an_alert_and_everything_has_a_bound() {
        let none =
            AlertsConfig { offline: None, failure_share: None, decline: None, ..alerts().config };
        let mut nothing = Alerts::new(none);
        assert_eq!(silent(&mut nothing, u64::from(u32::MAX), 0), None);
        assert_eq!(nothing.on_trials("a", 10, 10, at(0)), None);
        assert_eq!(nothing.on_live_score("s", 1.0, at(0)), None);
        let mut alerts = alerts();
        for number in 0..WATCHED_MAX + 5 {
            alerts.on_silence(&number.to_string(), Span::from_secs(9), at(0));
        }
        assert_eq!(alerts.standing().count(), WATCHED_MAX);
        assert_eq!(alerts.on_members(|_| false, at(1)).len(), WATCHED_MAX);
        assert_eq!(alerts.history().count(), HISTORY_MAX);
    }
}
