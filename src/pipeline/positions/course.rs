//! How equity went, in a few numbers that are kept as it goes.

use serde::{Deserialize, Serialize};

use crate::domain::{ClosedTrades, Money, Timestamp};

/// The course of one currency's, or one instrument's, equity over all samples. Unlike the curve of the
/// report it is never thinned, so what follows from it does not depend on how much is kept for charts.
///
/// Returns are counted from the first sample at which equity moved to the last: with several sources
/// the others may go on for years. Sums of floats are taken in the order of the samples, so that two
/// runs over the same samples agree to the last bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Samples since it first traded.
    pub samples: u64,
    /// Of them, those at which something was held.
    pub held: u64,
    /// Returns up to the last move.
    pub returns: u64,
    /// Samples since.
    idle: u64,
    /// Of all returns, in money.
    pub sum: f64,
    /// Of their squares.
    pub squares: f64,
    /// Of their cubes.
    pub cubes: f64,
    /// Of their fourth powers.
    pub fourths: f64,
    /// Of the squares of those below zero.
    pub downside: f64,
    /// At the last sample.
    pub equity: Money,
    /// The highest of any sample, or zero, where it started.
    pub equity_max: Money,
    /// The deepest fall from a peak before it.
    pub drawdown_max: Money,
    /// When it was deepest.
    pub drawdown_max_at: Option<Timestamp>,
    /// The sample before the first move.
    pub from: Option<Timestamp>,
    /// The last move.
    pub to: Option<Timestamp>,
    /// Sum of what was held, long and short alike, over the samples.
    pub gross_sum: Money,
    /// The most that was held at a sample, long and short alike.
    pub gross_max: Money,
    /// Value of everything that was traded.
    pub turnover: Money,
    /// Fills that closed something, before fees.
    pub closed: ClosedTrades,
}

impl Course {
    /// Equity and the value of what is held as of `at`; `before` is the time of the sample before.
    pub fn sample(
        &mut self,
        before: Option<Timestamp>,
        at: Timestamp,
        equity: Money,
        gross: Money,
    ) {
        self.samples += 1;
        self.held += u64::from(gross > Money::ZERO);
        self.gross_sum += gross;
        self.gross_max = self.gross_max.max(gross);
        let change = equity - self.equity;
        if change == Money::ZERO {
            self.idle += u64::from(self.from.is_some());
            return;
        }
        self.equity = equity;
        self.from = self.from.or(before).or(Some(at));
        self.to = Some(at);
        self.returns += 1 + std::mem::take(&mut self.idle);
        let change = change.to_f64();
        self.sum += change;
        self.squares += change * change;
        self.cubes += change * change * change;
        self.fourths += change * change * change * change;
        if change < 0.0 {
            self.downside += change * change;
        }
        self.equity_max = self.equity_max.max(equity);
        if self.equity_max - equity > self.drawdown_max {
            (self.drawdown_max, self.drawdown_max_at) = (self.equity_max - equity, Some(at));
        }
    }

    /// Something of this `value` was traded; it `realised` so much if it closed anything.
    pub(super) fn trade(&mut self, value: Money, realised: Option<Money>) {
        self.turnover += value;
        if let Some(amount) = realised {
            self.closed.on_realised(amount);
        }
    }
}
