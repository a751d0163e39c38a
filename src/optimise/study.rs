//! What a trial runs over: the same rows, the same configuration, other parameters.

use std::ops::Range;
use std::sync::Arc;

use crate::backtest::{AccountTerms, Backtest, BacktestConfig, BacktestError, Recorded};

use super::{Metrics, SharpeScale, Trial, Weights};
use crate::domain::Span;

/// Everything but the parameters. Cheap to clone where several evaluate at once: the rows are shared.
#[derive(Clone, Debug)]
pub struct Study {
    /// The cores, with the one strategy that is searched for.
    pub config: BacktestConfig,
    /// The accounts.
    pub accounts: Vec<AccountTerms>,
    /// The rows.
    pub recorded: Arc<Recorded>,
    /// What a score is made of.
    pub weights: Weights,
    /// BLAKE3 over the configuration, but for the parameters searched.
    pub terms: [u8; 32],
    /// The node that evaluates.
    pub node: String,
}

impl Study {
    /// The run with these parameters, over these rows.
    ///
    /// # Errors
    ///
    /// [`BacktestError`] when the parameters make no sense.
    pub fn run(
        &self,
        parameters: &[(String, f64)],
        rows: Range<u64>,
    ) -> Result<Backtest, BacktestError> {
        let mut config = self.config.clone();
        for strategy in &mut config.strategies {
            for (name, value) in parameters {
                match strategy.parameters.iter_mut().find(|(known, _)| known == name) {
                    Some((_, current)) => *current = *value,
                    None => strategy.parameters.push((name.clone(), *value)),
                }
            }
        }
        Backtest::over(config, &self.recorded, rows)
    }

    /// What these parameters come to over these rows, and the trial that says so.
    ///
    /// # Errors
    ///
    /// [`BacktestError`] when the parameters make no sense.
    pub fn trial(
        &self,
        parameters: &[(String, f64)],
        rows: Range<u64>,
        number: u64,
    ) -> Result<Trial, BacktestError> {
        let backtest = self.run(parameters, rows.clone())?;
        let metrics = Metrics::of(&backtest.performances(&self.accounts), self.scale());
        Ok(Trial {
            strategy: self.strategy().to_owned(),
            parameters: parameters.to_vec(),
            seed: self.config.seed,
            data: *self.recorded.hash(),
            terms: self.terms,
            rows: (rows.start, rows.end),
            metrics,
            score: metrics.score(&self.weights),
            digest: backtest.positions().digest().to_string(),
            number,
            node: self.node.clone(),
        })
    }

    /// What Sharpe ratios are of, whichever of the rows are looked at.
    fn scale(&self) -> SharpeScale {
        let time_of = |row: u64| self.recorded.time_of(row);
        let last = self.recorded.rows().checked_sub(1).and_then(time_of);
        let span = time_of(0).zip(last).map_or(Span::ZERO, |(first, last)| last.since(first));
        SharpeScale::of(span)
    }

    /// Whether `claimed` is what it says it is, computed here. Other data, terms or strategies cannot be
    /// computed here, so they are not believed.
    pub fn is_true(&self, claimed: &Trial) -> bool {
        let is_ours = claimed.data == *self.recorded.hash()
            && claimed.terms == self.terms
            && claimed.seed == self.config.seed
            && claimed.strategy == self.strategy()
            && claimed.rows.0 < claimed.rows.1
            && claimed.rows.1 <= self.recorded.rows();
        is_ours
            && self
                .trial(&claimed.parameters, claimed.rows.0..claimed.rows.1, claimed.number)
                .is_ok_and(|again| claimed.is_reproduced_by(&again))
    }

    /// The kind of the strategy that is searched for.
    pub fn strategy(&self) -> &str {
        self.config.strategies.first().map_or("", |strategy| strategy.name.as_str())
    }
}
