//! What operators do: kill switches, states.

use super::RiskChecker;
use super::limits::TradingState;
use super::state::Account;
use crate::domain::{AccountId, Order, Scope, StrategyId};

impl RiskChecker {
    /// Turns a kill switch on; returns the open orders of its scope, which are to be cancelled.
    /// Turning it on twice is turning it on once.
    pub fn trip(&mut self, scope: &Scope) -> Vec<Order> {
        self.switch(scope, true);
        self.orders_of(scope)
    }

    /// Turns off the kill switch of exactly this scope: an account stays stopped while all are. An
    /// account is also given back what losses or an operator took from it: it is ACTIVE again in
    /// every currency, and its losses are measured from here.
    pub fn rearm(&mut self, scope: &Scope) {
        self.switch(scope, false);
        if let Scope::Account(account) = scope {
            self.state.accounts[usize::from(account.0)].forgive();
        }
    }

    /// Sets whether orders that open or enlarge a position are denied, for as long as what happens cannot be
    /// recorded.
    pub const fn deny_opening(&mut self, is_denied: bool) {
        self.state.opening_denied = is_denied;
    }

    /// Sets what `account` may do, until it is set again or re-armed. Losses in a currency can only
    /// lower it, there.
    pub fn set_state(&mut self, account: AccountId, state: TradingState) {
        self.ensure_account(usize::from(account.0));
        self.state.accounts[usize::from(account.0)].state = state;
    }

    /// What `account` may do in `currency`: the strictest of what the operator set and what losses in
    /// that currency caused.
    pub fn trading_state(&self, account: AccountId, currency: &str) -> TradingState {
        let account = self.state.accounts.get(usize::from(account.0));
        let place = self.currencies.iter().position(|known| known == currency);
        account.map_or(TradingState::Active, |account| {
            let state = place.map(|it| account.effective_state(it, self.limits.breach_state));
            state.unwrap_or(account.state)
        })
    }

    /// Accounts that may do less than others, in some currency at least: because of their losses, or because an
    /// operator has said so. To re-arm them ends that.
    pub fn restricted(&self) -> Vec<(AccountId, TradingState)> {
        let strictest = |account: &Account| {
            let states = (0..account.totals.len())
                .map(|currency| account.effective_state(currency, self.limits.breach_state));
            states.max().unwrap_or_default().max(account.state)
        };
        let of = |(id, account): (usize, &Account)| {
            let state = strictest(account);
            let id = u16::try_from(id).ok()?;
            (state != TradingState::Active).then_some((AccountId(id), state))
        };
        self.state.accounts.iter().enumerate().filter_map(of).collect()
    }

    /// The kill switches that are on.
    pub fn tripped(&self) -> Vec<Scope> {
        let ids = |killed: &dyn Fn(usize) -> bool, count: usize| -> Vec<u16> {
            (0..count).filter(|&id| killed(id)).filter_map(|id| u16::try_from(id).ok()).collect()
        };
        let (accounts, strategies) = (&self.state.accounts, &self.state.strategies);
        let all = self.state.killed.then_some(Scope::All);
        let accounts = ids(&|id| accounts[id].killed, accounts.len());
        let strategies = ids(&|id| strategies[id].killed, strategies.len());
        all.into_iter()
            .chain(accounts.into_iter().map(|id| Scope::Account(AccountId(id))))
            .chain(strategies.into_iter().map(|id| Scope::Strategy(StrategyId(id))))
            .chain(self.state.killed_symbols.iter().cloned().map(Scope::Symbol))
            .collect()
    }

    fn switch(&mut self, scope: &Scope, is_on: bool) {
        match scope {
            Scope::All => self.state.killed = is_on,
            Scope::Account(account) => {
                self.ensure_account(usize::from(account.0));
                self.state.accounts[usize::from(account.0)].killed = is_on;
            }
            Scope::Strategy(strategy) => {
                self.ensure_strategy(*strategy);
                self.state.strategies[usize::from(strategy.0)].killed = is_on;
            }
            Scope::Symbol(symbol) => {
                if is_on {
                    self.state.killed_symbols.insert(symbol.clone());
                } else {
                    self.state.killed_symbols.remove(symbol);
                }
                if let Some(index) = self.find(symbol) {
                    self.terms[index.index()].is_killed = is_on;
                }
            }
        }
    }

    fn orders_of(&self, scope: &Scope) -> Vec<Order> {
        let orders = self.state.open.iter().map(|open| *open.approved.order());
        let is_meant = |order: &Order| match scope {
            Scope::All => true,
            Scope::Account(account) => order.account == *account,
            Scope::Strategy(strategy) => order.strategy == *strategy,
            Scope::Symbol(symbol) => self.instrument(order.instrument).symbol == *symbol,
        };
        orders.filter(is_meant).collect()
    }
}
