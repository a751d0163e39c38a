//! Faults to inject, as `--chaos` spells them.

use std::fmt;

use super::problem::nearest;

/// A stage that can be made to panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChaosActor {
    /// Counts rows read.
    Ingester,
    /// Counts rows.
    Cleaner,
    /// Counts clean rows.
    Factors,
    /// Counts signals.
    Strategy,
    /// Counts signals.
    Risk,
    /// Counts orders.
    Router,
    /// Counts orders.
    Broker,
    /// Counts orders.
    Positions,
}

impl ChaosActor {
    /// Every one, in the order of the pipeline.
    pub const ALL: [Self; 8] = [
        Self::Ingester,
        Self::Cleaner,
        Self::Factors,
        Self::Strategy,
        Self::Risk,
        Self::Router,
        Self::Broker,
        Self::Positions,
    ];

    /// As `--chaos` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingester => "ingester",
            Self::Cleaner => "cleaner",
            Self::Factors => "factors",
            Self::Strategy => "strategy",
            Self::Risk => "risk",
            Self::Router => "router",
            Self::Broker => "broker",
            Self::Positions => "positions",
        }
    }

    /// What its items are called.
    pub const fn counts(self) -> &'static str {
        match self {
            Self::Ingester | Self::Cleaner | Self::Factors => "rows",
            Self::Strategy | Self::Risk => "signals",
            Self::Router | Self::Broker | Self::Positions => "orders",
        }
    }
}

/// What is to go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChaosKind {
    /// The actor panics at its n-th distinct item, after its state has changed and before anything
    /// left it; and again after as many more.
    Panic {
        /// Who.
        actor: ChaosActor,
        /// Distinct items, counted across restarts and without replays; at least 1.
        every: u64,
    },
    /// The node's process is killed, for good.
    Kill {
        /// Which node.
        node: String,
        /// When, in percent of the input's bytes.
        percent: u8,
    },
    /// The node's process is killed and started again.
    Restart {
        /// Which node.
        node: String,
        /// When, in percent of the input's bytes.
        percent: u8,
        /// For how long it is down.
        millis: u64,
    },
    /// The node's process is stopped and goes on later.
    Pause {
        /// Which node.
        node: String,
        /// When, in percent of the input's bytes.
        percent: u8,
        /// For how long it stands still.
        millis: u64,
    },
    /// The node is cut off from all others.
    Cut {
        /// Which node.
        node: String,
        /// When, in percent of the input's bytes.
        percent: u8,
        /// For how long.
        millis: u64,
    },
}

/// One fault, with the words that asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChaosSpec {
    /// As it was written; the report lists it under this name.
    pub text: String,
    /// What it means.
    pub kind: ChaosKind,
}

impl ChaosSpec {
    /// Whether it needs more than one process.
    pub const fn needs_nodes(&self) -> bool {
        !matches!(self.kind, ChaosKind::Panic { .. })
    }
}

impl fmt::Display for ChaosSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// Faults to inject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chaos {
    /// In the order they were asked for.
    pub specs: Vec<ChaosSpec>,
}

/// Every fault that could not be understood, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChaosProblem(pub Vec<String>);

impl fmt::Display for ChaosProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ChaosProblem {}

impl Chaos {
    /// Reads `SPEC,...`; empty text is no chaos.
    ///
    /// # Errors
    ///
    /// Every spec that is wrong, with what would be right.
    pub fn parse(text: &str) -> Result<Self, ChaosProblem> {
        let mut chaos = Self::default();
        let mut problems = Vec::new();
        for spec in text.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
            match parse_spec(spec) {
                Ok(_) if chaos.specs.iter().any(|other| other.text == spec) => {
                    problems.push(format!("--chaos {spec}: is there twice; say it once"));
                }
                Ok(kind) => chaos.specs.push(ChaosSpec { text: spec.to_owned(), kind }),
                Err(problem) => problems.push(format!("--chaos {spec}: {problem}")),
            }
        }
        if problems.is_empty() { Ok(chaos) } else { Err(ChaosProblem(problems)) }
    }

    /// Every panic: as it was written, who, and after how many items.
    pub fn panic_rules(&self) -> Vec<(String, ChaosActor, u64)> {
        let rule = |spec: &ChaosSpec| match spec.kind {
            ChaosKind::Panic { actor, every } => Some((spec.text.clone(), actor, every)),
            ChaosKind::Kill { .. }
            | ChaosKind::Restart { .. }
            | ChaosKind::Pause { .. }
            | ChaosKind::Cut { .. } => None,
        };
        self.specs.iter().filter_map(rule).collect()
    }

    /// The panics asked of `actor`: after how many items each, smallest first.
    pub fn panics(&self, actor: ChaosActor) -> Vec<u64> {
        let mut every: Vec<u64> = self
            .panic_rules()
            .into_iter()
            .filter_map(|(_, other, every)| (other == actor).then_some(every))
            .collect();
        every.sort_unstable();
        every
    }
}

const KINDS: [&str; 5] = ["panic", "kill", "restart", "pause", "cut"];

fn parse_spec(spec: &str) -> Result<ChaosKind, String> {
    let Some((kind, rest)) = spec.split_once(':') else {
        return Err(format!("is no fault; write one of {FORMS}"));
    };
    if !KINDS.contains(&kind) {
        let hint = nearest(kind, KINDS).map(|meant| format!("did you mean {meant}? "));
        return Err(format!(
            "{kind:?} is not a fault; {}the faults are {FORMS}",
            hint.unwrap_or_default()
        ));
    }
    let Some((target, when)) = rest.split_once('@') else {
        return Err(format!("does not say when; write it after an @, as in {}", form_of(kind)));
    };
    if kind == "panic" {
        return parse_panic(target, when);
    }
    if target.is_empty() {
        return Err(format!("names no node; write it as {}", form_of(kind)));
    }
    let (percent, span) = match when.split_once(':') {
        Some((percent, span)) => (percent, Some(span)),
        None => (when, None),
    };
    let percent = parse_percent(percent)?;
    let node = target.to_owned();
    let millis = match (kind, span) {
        ("kill", None) => return Ok(ChaosKind::Kill { node, percent }),
        ("kill", Some(_)) => {
            return Err(
                "a killed node stays down, so no time belongs there; restart has one".into()
            );
        }
        (_, None) => {
            return Err(format!("does not say for how long; write it as {}", form_of(kind)));
        }
        (_, Some(span)) => parse_span(span)?,
    };
    Ok(match kind {
        "restart" => ChaosKind::Restart { node, percent, millis },
        "pause" => ChaosKind::Pause { node, percent, millis },
        _ => ChaosKind::Cut { node, percent, millis },
    })
}

const FORMS: &str =
    "panic:ACTOR@N, kill:NODE@P%, restart:NODE@P%:5s, pause:NODE@P%:5s, cut:NODE@P%:5s";

fn form_of(kind: &str) -> &'static str {
    FORMS.split(", ").find(|form| form.starts_with(kind)).unwrap_or(FORMS)
}

fn parse_panic(target: &str, when: &str) -> Result<ChaosKind, String> {
    let Some(actor) = ChaosActor::ALL.into_iter().find(|actor| actor.name() == target) else {
        let known = ChaosActor::ALL.map(ChaosActor::name);
        let hint = nearest(target, known).map(|meant| format!("did you mean {meant}? "));
        return Err(format!(
            "there is no actor {target:?}; {}known: {}",
            hint.unwrap_or_default(),
            known.join(", ")
        ));
    };
    match when.parse() {
        Ok(every) if every > 0 => Ok(ChaosKind::Panic { actor, every }),
        Ok(_) | Err(_) => {
            Err(format!("{when:?} is not a count of {} of at least 1", actor.counts()))
        }
    }
}

fn parse_percent(text: &str) -> Result<u8, String> {
    let digits = text.strip_suffix('%');
    let percent =
        digits.and_then(|digits| digits.parse().ok()).filter(|&percent: &u8| percent <= 100);
    percent.ok_or_else(|| format!("{text:?} is not a share of the input from 0% to 100%"))
}

/// Milliseconds in `5s` or `250ms`; at least 1, at most an hour.
fn parse_span(text: &str) -> Result<u64, String> {
    let millis = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(millis), _) => millis.parse().ok(),
        (None, Some(seconds)) => seconds.parse::<u64>().ok().and_then(|s| s.checked_mul(1_000)),
        (None, None) => None,
    };
    let millis = millis.filter(|millis| (1..=3_600_000).contains(millis));
    millis.ok_or_else(|| format!("{text:?} is not a time such as 5s or 250ms, up to an hour"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(spec: &str) -> ChaosKind {
        Chaos::parse(spec).unwrap().specs.remove(0).kind
    }

    fn problem(spec: &str) -> String {
        Chaos::parse(spec).unwrap_err().to_string()
    }

    #[test]
    fn every_kind_of_fault_is_understood() {
        let node = || "calc-1".to_owned();
        let panic = ChaosKind::Panic { actor: ChaosActor::Factors, every: 5_000 };
        assert_eq!(kind("panic:factors@5000"), panic);
        assert_eq!(kind("kill:calc-1@40%"), ChaosKind::Kill { node: node(), percent: 40 });
        let restart = ChaosKind::Restart { node: node(), percent: 0, millis: 5_000 };
        assert_eq!(kind("restart:calc-1@0%:5s"), restart);
        let pause = ChaosKind::Pause { node: node(), percent: 100, millis: 250 };
        assert_eq!(kind("pause:calc-1@100%:250ms"), pause);
        let cut = ChaosKind::Cut { node: node(), percent: 7, millis: 1_000 };
        assert_eq!(kind("cut:calc-1@7%:1s"), cut);
    }

    #[test]
    fn every_actor_can_be_named() {
        for actor in ChaosActor::ALL {
            let spec = format!("panic:{}@1", actor.name());
            assert_eq!(Chaos::parse(&spec).unwrap().panics(actor), [1]);
        }
        let both = Chaos::parse("panic:risk@9, panic:risk@3,").unwrap();
        assert_eq!(both.panics(ChaosActor::Risk), [3, 9]);
        assert!(both.panics(ChaosActor::Router).is_empty());
    }

    #[test]
    fn an_unknown_actor_is_refused_with_those_that_are_known() {
        assert_eq!(
            problem("panic:factor@5"),
            "--chaos panic:factor@5: there is no actor \"factor\"; did you mean factors? known: \
             ingester, cleaner, factors, strategy, risk, router, broker, positions"
        );
    }

    #[test]
    fn each_mistake_has_its_own_words() {
        for (spec, words) in [
            ("panic", "is no fault; write one of panic:ACTOR@N"),
            ("pannic:risk@1", "did you mean panic?"),
            ("panic:risk", "does not say when"),
            ("panic:risk@0", "\"0\" is not a count of signals of at least 1"),
            ("panic:router@x", "is not a count of orders"),
            ("kill:@5%", "names no node"),
            ("kill:calc-1@5", "\"5\" is not a share of the input"),
            ("kill:calc-1@101%", "\"101%\" is not a share of the input"),
            ("kill:calc-1@5%:5s", "a killed node stays down"),
            ("restart:calc-1@5%", "does not say for how long; write it as restart:NODE@P%:5s"),
            ("pause:calc-1@5%:5m", "\"5m\" is not a time such as 5s"),
            ("cut:calc-1@5%:0s", "\"0s\" is not a time"),
            ("panic:risk@5,panic:risk@5", "is there twice"),
        ] {
            let problem = problem(spec);
            assert!(problem.contains(words), "{spec}: {problem}");
        }
    }

    #[test]
    fn every_wrong_spec_is_reported_at_once() {
        assert_eq!(problem("kill:a@5,panic:risk@7,pause:b@x%:5s").lines().count(), 2);
    }
}
