//! Trades that closed something, won or lost.

use serde::{Deserialize, Serialize};

use super::Money;

/// What closing trades came to, counted as they happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedTrades {
    /// Closed with a profit.
    pub wins: u64,
    /// Closed with a loss.
    pub losses: u64,
    /// Closed at cost.
    pub flat: u64,
    /// What the wins earned.
    pub earned: Money,
    /// What the losses lost, as a positive amount.
    pub lost: Money,
}

impl ClosedTrades {
    /// Takes in what one trade that closed (a part of) a position realised, before fees.
    pub fn on_realised(&mut self, amount: Money) {
        match amount.0.signum() {
            1 => {
                self.wins += 1;
                self.earned += amount;
            }
            -1 => {
                self.losses += 1;
                self.lost -= amount;
            }
            _ => self.flat += 1,
        }
    }

    /// How many trades closed something.
    pub const fn count(&self) -> u64 {
        self.wins + self.losses + self.flat
    }
}
