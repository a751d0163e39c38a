//! What can be asked: positions, money, open orders, counts.

use serde::{Deserialize, Serialize};

use super::RiskChecker;
use super::approved::OpenOrder;
use super::denial::DenialCode;
use super::state::CurrencyTotals;
use crate::domain::{AccountId, InstrumentIndex, Money, Position, Quantity, StrategyId};

/// Where an instrument stands, in units of the instrument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// Filled so far, signed, with its cost and what it has earned.
    pub position: Position,
    /// Position if every open buy fills and no open sell does.
    pub longest: Quantity,
    /// Position if every open sell fills and no open buy does.
    pub shortest: Quantity,
    /// Profit of what is held at the mark of the last revaluation.
    pub unrealised: Money,
}

impl RiskChecker {
    /// Where `index` stands over all accounts; all zero when nothing is known of it.
    pub fn exposure(&self, index: InstrumentIndex) -> Exposure {
        let accounts = 0..self.state.accounts.len();
        accounts.fold(Exposure::default(), |sum, account| {
            let one = self.exposure_at(account, index.index());
            Exposure {
                position: Position {
                    quantity: sum.position.quantity.saturating_add(one.position.quantity),
                    cost: sum.position.cost + one.position.cost,
                    realised: sum.position.realised + one.position.realised,
                },
                longest: sum.longest.saturating_add(one.longest),
                shortest: sum.shortest.saturating_add(one.shortest),
                unrealised: sum.unrealised + one.unrealised,
            }
        })
    }

    /// Where `index` stands in `account`; all zero when nothing is known of it.
    pub fn exposure_of(&self, account: AccountId, index: InstrumentIndex) -> Exposure {
        self.exposure_at(usize::from(account.0), index.index())
    }

    /// What each account holds or has an open order of, by account and index.
    pub fn exposures(&self) -> impl Iterator<Item = (AccountId, InstrumentIndex, Exposure)> {
        let accounts = (0u16..).map(AccountId).take(self.state.accounts.len());
        accounts.flat_map(move |account| {
            let indices = (0u32..).map(InstrumentIndex).take(self.state.instruments.len());
            indices.filter_map(move |index| {
                let exposure = self.exposure_of(account, index);
                let is_flat = exposure.position.quantity == exposure.longest
                    && exposure.longest == exposure.shortest
                    && exposure.longest == Quantity::ZERO;
                (!is_flat).then_some((account, index, exposure))
            })
        })
    }

    /// The money of `account` by currency, as of the last revaluation; in order of first appearance.
    pub fn totals(&self, account: AccountId) -> impl Iterator<Item = (&str, &CurrencyTotals)> {
        let account = self.state.accounts.get(usize::from(account.0));
        let totals = account.map_or(&[][..], |account| &account.totals);
        self.currencies.iter().map(String::as_str).zip(totals)
    }

    /// Orders approved and not yet over, by id.
    pub fn open_orders(&self) -> impl ExactSizeIterator<Item = &OpenOrder> {
        self.state.open.iter()
    }

    /// Orders approved so far.
    pub const fn approved(&self) -> u64 {
        self.state.approved
    }

    /// Denials so far, of every code.
    pub fn denied(&self) -> u64 {
        self.state.denied.iter().sum()
    }

    /// How often each code was the reason; codes that never were are left out.
    pub fn denied_by_code(&self) -> impl Iterator<Item = (DenialCode, u64)> {
        counts(&self.state.denied)
    }

    /// Orders of `strategy` approved, and how often each code was the reason that one was not.
    pub fn counts_of(
        &self,
        strategy: StrategyId,
    ) -> (u64, impl Iterator<Item = (DenialCode, u64)>) {
        let strategy = self.state.strategies.get(usize::from(strategy.0));
        let denied = strategy.map_or(&[][..], |strategy| &strategy.denied);
        (strategy.map_or(0, |strategy| strategy.approved), counts(denied))
    }

    fn exposure_at(&self, account: usize, index: usize) -> Exposure {
        let account = self.state.accounts.get(account);
        account.and_then(|account| account.holdings.get(index)).map_or_else(
            Exposure::default,
            |holding| Exposure {
                position: holding.position,
                longest: holding.longest(),
                shortest: holding.shortest(),
                unrealised: holding.value.unrealised,
            },
        )
    }
}

fn counts(denied: &[u64]) -> impl Iterator<Item = (DenialCode, u64)> {
    DenialCode::ALL.into_iter().zip(denied.iter().copied()).filter(|&(_, count)| count > 0)
}
