//! `[optimise]`: what is searched, for how long, and what counts as better.

use super::Config;
use super::settings::{Settings, Value};
use crate::domain::Span;
use crate::optimise::hub::Propagation;
use crate::optimise::{
    AdoptionConfig, AdoptionMode, Constraint, Dimension, Domain, Limits, SearchKind, Space, Weights,
};

/// `[optimise]`.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimiseConfig {
    /// The strategy that is searched for, by name; none is the first.
    pub strategy: Option<String>,
    /// How.
    pub search: SearchKind,
    /// What a node of a cluster searches over, beside its share of the pipeline; nothing, if empty.
    pub data: Vec<String>,
    /// Share of their rows, from the first on, that is looked at.
    pub data_percent: u32,
    /// Whether what is found is taken over by the strategy that runs.
    pub adoption: AdoptionConfig,
    /// Between two looks at what the run earns.
    pub look: Span,
    /// How trials get from node to node.
    pub propagation: Propagation,
    /// What is searched, as `NAME = DOMAIN` and `NAME < NAME`; empty is what is usual for the kind.
    pub space: Vec<String>,
    /// When it is enough, but for the time.
    pub limits: Limits,
    /// Longest time; none is as long as it takes.
    pub time_max: Option<Span>,
    /// Threads that evaluate; none is as many as there are cores.
    pub workers: Option<u32>,
    /// The best that are kept and judged.
    pub top_max: usize,
    /// What a score is made of.
    pub weights: Weights,
    /// Share of the rows that parameters are chosen on.
    pub in_sample_percent: u32,
    /// Stretches of the others that are judged one after the other.
    pub folds: u32,
    /// Clean rows that are kept in memory, at most.
    pub rows_max: u64,
}

pub(super) fn section(s: &Settings) -> OptimiseConfig {
    let text = |key| s.find(&["optimise", key]).and_then(Value::text).map(str::to_owned);
    let number = |key| s.count(&["optimise", key]);
    let small = |key| u32::try_from(number(key)).unwrap_or(u32::MAX);
    let optional = |key| s.find(&["optimise", key]).and_then(Value::count);
    let weight = |key| s.amount(&["optimise", key]) as f64 / 1e9;
    OptimiseConfig {
        strategy: text("strategy"),
        search: SearchKind::parse(s.text(&["optimise", "search"])).unwrap_or_default(),
        data: s.list(&["optimise", "data"]).to_vec(),
        data_percent: small("data_percent"),
        adoption: AdoptionConfig {
            mode: match s.text(&["optimise", "adopt"]) {
                "auto" => AdoptionMode::Auto,
                "confirm" => AdoptionMode::Confirm,
                _ => AdoptionMode::Off,
            },
            gain_min: weight("adopt_gain_min"),
            decline_max: weight("result_quality_decline"),
            looks: usize::try_from(number("looks")).unwrap_or(usize::MAX),
        },
        look: Span::from_millis(number("look_ms")),
        propagation: match s.text(&["optimise", "propagation"]) {
            "push" => Propagation::Push,
            "pull" => Propagation::Pull,
            _ => Propagation::Hybrid,
        },
        space: s.list(&["optimise", "space"]).to_vec(),
        limits: Limits {
            trials_max: number("max_explorations"),
            patience: number("patience"),
            gain_min: 1e-6,
        },
        time_max: optional("time_max_s").and_then(|it| u64::try_from(it).ok()).map(Span::from_secs),
        workers: optional("workers").and_then(|it| u32::try_from(it).ok()),
        top_max: usize::try_from(number("top_k")).unwrap_or(usize::MAX),
        weights: Weights {
            profit_rate: weight("weight_profit_rate"),
            sharpe: weight("weight_sharpe"),
            drawdown: weight("weight_drawdown"),
            win_rate: weight("weight_win_rate"),
            trades_min: number("trades_min"),
        },
        in_sample_percent: small("in_sample_percent"),
        folds: small("folds"),
        rows_max: number("rows_max"),
    }
}

/// What is usual for the strategies that are built in: what is not named stays as it is configured.
fn usual(kind: &str) -> &'static [&'static str] {
    match kind {
        "bollinger_reversion" => &["period = log-int 5..200", "width = real 0.5..4"],
        "ema_crossing" => &["fast = log-int 2..60", "slow = log-int 5..300", "fast < slow"],
        _ => &[],
    }
}

/// What one line of a space says.
enum Line {
    Dimension(Dimension),
    Constraint(Constraint),
}

fn line(text: &str) -> Result<Line, String> {
    if let Some((name, domain)) = text.split_once('=')
        && !name.contains('<')
    {
        let (name, domain) = (name.trim().to_owned(), Domain::parse(domain)?);
        return Ok(Line::Dimension(Dimension { name, domain }));
    }
    Constraint::parse(text).map(Line::Constraint)
}

/// Whether `text` is a line of a space.
pub(super) fn check_line(text: &str) -> Result<(), String> {
    line(text).map(|_| ())
}

impl Config {
    /// The configuration with the strategy that is searched for and no other.
    ///
    /// # Errors
    ///
    /// When there is no strategy of that name.
    pub fn searched(&self) -> Result<Self, String> {
        let wanted = match &self.optimise.strategy {
            Some(name) => self.strategies.iter().find(|strategy| strategy.name == *name),
            None => self.strategies.first(),
        };
        let Some(wanted) = wanted.cloned() else {
            let names = self.strategies.iter().map(|strategy| strategy.name.as_str());
            let names: Vec<&str> = names.collect();
            let name = self.optimise.strategy.as_deref().unwrap_or("");
            return Err(format!("no strategy is called `{name}`; there are: {}", names.join(", ")));
        };
        Ok(Self { strategies: vec![wanted], ..self.clone() })
    }

    /// The strategies besides `name`, whose results are in every live score as well: exec counts what is
    /// earned by currency, over all accounts, and a live score is of all currencies.
    pub fn strategies_beside(&self, name: &str) -> Vec<&str> {
        let names = self.strategies.iter().map(|strategy| strategy.name.as_str());
        names.filter(|&other| other != name).collect()
    }

    /// The space that is searched, for a strategy of this kind.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where to write it.
    pub fn search_space(&self, kind: &str) -> Result<Space, String> {
        let usual = || usual(kind).iter().map(|&text| text.to_owned()).collect();
        let lines: Vec<String> =
            if self.optimise.space.is_empty() { usual() } else { self.optimise.space.clone() };
        if lines.is_empty() {
            return Err(format!(
                "nothing is known of what `{kind}` takes; write it down: \
                 optimise.space = [\"NAME = real 0..1\", ...]"
            ));
        }
        let (mut dimensions, mut constraints) = (Vec::new(), Vec::new());
        for text in lines {
            match line(&text).map_err(|problem| format!("optimise.space: `{text}`: {problem}"))? {
                Line::Dimension(dimension) => dimensions.push(dimension),
                Line::Constraint(constraint) => constraints.push(constraint),
            }
        }
        Space::new(dimensions, constraints).map_err(|error| format!("optimise.space: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_cores() {
        let config = Config::default();
        let OptimiseConfig { search, limits, weights, strategy, workers, .. } = config.optimise;
        assert_eq!((search, strategy, workers), (SearchKind::Tpe, None, None));
        assert_eq!((limits, weights), (Limits::default(), Weights::default()));
    }

    #[test]
    fn both_built_in_strategies_have_a_usual_space() {
        let config = Config::default();
        for strategy in &config.strategies {
            let space = config.search_space(&strategy.kind).unwrap();
            let known: Vec<&str> = strategy.parameters.keys().map(String::as_str).collect();
            for dimension in space.dimensions() {
                assert!(known.contains(&dimension.name.as_str()), "{}", dimension.name);
            }
        }
        assert!(config.search_space("momentum").unwrap_err().contains("optimise.space"));
    }

    #[test]
    fn a_space_of_ones_own_is_read_and_checked() {
        let text = "[optimise]\nstrategy = \"crossing\"\n\
                    space = [\"fast = int 2..9\", \"slow = int 3..9\", \"fast < slow\"]\n";
        let config = Config::parse(text, "my.toml").unwrap();
        let searched = config.searched().unwrap();
        assert_eq!(
            (searched.strategies.len(), searched.strategies[0].kind.as_str()),
            (1, "ema_crossing")
        );
        assert_eq!(config.strategies_beside("crossing"), ["reversion"]);
        assert!(searched.strategies_beside("crossing").is_empty());
        let space = config.search_space("ema_crossing").unwrap();
        assert_eq!((space.dimensions().len(), space.constraints().len()), (2, 1));
        for (wrong, named) in [
            ("space = [\"fast = whole 2..9\"]", "optimise.space"),
            ("weight_sharpe = -1", "optimise.weight_sharpe"),
            ("search = \"best\"", "optimise.search"),
        ] {
            let problems = Config::parse(&format!("[optimise]\n{wrong}\n"), "my.toml").unwrap_err();
            assert!(problems.to_string().contains(named), "{problems}");
        }
        let config = Config::parse("[optimise]\nstrategy = \"none-such\"\n", "my.toml").unwrap();
        assert!(config.searched().unwrap_err().contains("there are: reversion, crossing"));
    }
}
