//! One trial, written down once and for all.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::Metrics;

/// What was tried and what it came to. Everything but `number` and `node` follows from the rest: with
/// the same rows and the same configuration anybody computes it again, to the last bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The strategy's kind.
    pub strategy: String,
    /// All parameters that were searched, in the order of the space.
    pub parameters: Vec<(String, f64)>,
    /// What the brokers' chances were drawn from.
    pub seed: u64,
    /// BLAKE3 over the clean rows.
    pub data: [u8; 32],
    /// BLAKE3 over the configuration, but for the parameters searched.
    pub terms: [u8; 32],
    /// The rows it ran over: from the first to before the second.
    pub rows: (u64, u64),
    /// What was measured.
    pub metrics: Metrics,
    /// The score.
    pub score: f64,
    /// The digest of its orders and fills.
    pub digest: String,
    /// Its number in the exploration that ran it.
    pub number: u64,
    /// The node that ran it.
    pub node: String,
}

impl Trial {
    /// What it was a trial of: equal for two trials of the same thing, whoever ran them.
    pub fn id(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut text = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        text(&self.strategy);
        for (name, _) in &self.parameters {
            text(name);
        }
        for (_, value) in &self.parameters {
            hasher.update(&value.to_bits().to_le_bytes());
        }
        hasher.update(&self.seed.to_le_bytes()).update(&self.data).update(&self.terms);
        hasher.update(&self.rows.0.to_le_bytes()).update(&self.rows.1.to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    /// Whether `again`, computed here, is the trial that this one says it is.
    pub fn is_reproduced_by(&self, again: &Self) -> bool {
        let Self { metrics, score, digest, .. } = again;
        self.id() == again.id()
            && self.digest == *digest
            && self.score.to_bits() == score.to_bits()
            && bits(&self.metrics) == bits(metrics)
    }

    /// Best first: by score, then by what it is a trial of, then by everything else, so that no two
    /// different trials are equal.
    pub fn order(&self, other: &Self) -> Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then_with(|| self.id().cmp(&other.id()))
            .then_with(|| self.digest.cmp(&other.digest))
            .then_with(|| bits(&self.metrics).cmp(&bits(&other.metrics)))
            .then_with(|| self.node.cmp(&other.node))
            .then_with(|| self.number.cmp(&other.number))
    }
}

fn bits(metrics: &Metrics) -> [u64; 10] {
    let Metrics {
        profit_rate,
        sharpe,
        sharpe_per_return,
        drawdown_rate,
        win_rate,
        risk_adjusted,
        trades,
        returns,
        skewness,
        kurtosis,
    } = *metrics;
    let [a, b, c, d, e, f, g, h] = [
        profit_rate,
        sharpe,
        sharpe_per_return,
        drawdown_rate,
        win_rate,
        risk_adjusted,
        skewness,
        kurtosis,
    ]
    .map(f64::to_bits);
    [a, b, c, d, e, f, g, h, trades, returns]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A trial whose measures follow from a few numbers.
    pub(in crate::optimise) fn trial(
        node: &str,
        number: u64,
        parameter: f64,
        rates: [f64; 3],
    ) -> Trial {
        let [profit_rate, sharpe, drawdown_rate] = rates;
        let metrics =
            Metrics { profit_rate, sharpe, drawdown_rate, trades: 20, ..Metrics::default() };
        Trial {
            strategy: "ema_crossing".into(),
            parameters: vec![("fast".into(), parameter)],
            seed: 1,
            data: [7; 32],
            terms: [8; 32],
            rows: (0, 100),
            metrics,
            score: metrics.score(&super::super::Weights::default()),
            digest: "00ff".into(),
            number,
            node: node.into(),
        }
    }

    #[test]
    fn what_is_forged_is_not_reproduced() {
        let honest = trial("a", 1, 5.0, [0.1, 1.0, 0.05]);
        let again = Trial { node: "b".into(), number: 9, ..honest.clone() };
        assert!(honest.is_reproduced_by(&again));
        for forged in [
            Trial { score: honest.score + 1e-12, ..honest.clone() },
            Trial { digest: "ff00".into(), ..honest.clone() },
            Trial { parameters: vec![("fast".into(), 6.0)], ..honest.clone() },
            Trial { data: [0; 32], ..honest.clone() },
            Trial { metrics: Metrics { win_rate: 0.9, ..honest.metrics }, ..honest },
        ] {
            assert!(!forged.is_reproduced_by(&again), "{forged:?}");
        }
    }

    #[test]
    fn trials_of_the_same_thing_have_one_id() {
        let one = trial("a", 1, 5.0, [0.1, 1.0, 0.05]);
        assert_eq!(one.id(), trial("b", 2, 5.0, [0.3, 1.0, 0.05]).id());
        assert_ne!(one.id(), trial("a", 1, 5.5, [0.1, 1.0, 0.05]).id());
        let other = Trial { rows: (0, 101), ..one.clone() };
        assert_ne!(one.id(), other.id());
    }
}
