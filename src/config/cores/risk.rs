//! `[risk]` and `[[account]]` as [`RiskLimits`].

use std::collections::{BTreeMap, BTreeSet};

use super::ByClass;
use crate::config::Config;
use crate::config::sections::money;
use crate::config::settings::{Settings, Value};
use crate::domain::{AccountId, Class, Money, Scope, StrategyId, Symbol};
use crate::pipeline::risk::{
    AccountLimits, ClassLimits, MoneyLimits, RateLimit, RiskLimits, TradingState,
};

impl Config {
    /// What a kill switch of this name stops: `all`, `account:NAME`, `strategy:NAME` or `symbol:SYMBOL`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, with the names there are.
    pub fn scope(&self, name: &str) -> Result<Scope, String> {
        let accounts = || self.accounts.iter().map(|account| account.name.as_str());
        let strategies = || self.strategies.iter().map(|strategy| strategy.name.as_str());
        let place = |names: Vec<&str>, what: &str, name: &str| {
            let place = names.iter().position(|known| *known == name);
            place.and_then(|place| u16::try_from(place).ok()).ok_or_else(|| {
                format!("cannot stop {what} {name:?}; there are: {}", names.join(", "))
            })
        };
        match name.split_once(':') {
            None if name == "all" => Ok(Scope::All),
            Some(("account", name)) => {
                place(accounts().collect(), "account", name).map(|id| Scope::Account(AccountId(id)))
            }
            Some(("strategy", name)) => place(strategies().collect(), "strategy", name)
                .map(|id| Scope::Strategy(StrategyId(id))),
            Some(("symbol", symbol)) => Symbol::new(symbol)
                .map(Scope::Symbol)
                .map_err(|error| format!("cannot stop {symbol:?}: {error}")),
            _ => Err(format!(
                "cannot stop {name:?}: say all, account:NAME, strategy:NAME or \
                 symbol:SYMBOL"
            )),
        }
    }

    /// What [`Config::scope`] calls it.
    pub fn scope_name(&self, scope: &Scope) -> String {
        let name = |name: Option<&String>, id: u16| name.cloned().unwrap_or_else(|| id.to_string());
        match scope {
            Scope::All => "all".into(),
            Scope::Account(AccountId(id)) => {
                let account = self.accounts.get(usize::from(*id)).map(|account| &account.name);
                format!("account:{}", name(account, *id))
            }
            Scope::Strategy(StrategyId(id)) => {
                let strategy = self.strategies.get(usize::from(*id)).map(|strategy| &strategy.name);
                format!("strategy:{}", name(strategy, *id))
            }
            Scope::Symbol(symbol) => format!("symbol:{}", symbol.as_str()),
        }
    }

    /// What orders are held to. `"none"` is the core's zero: the check is off.
    pub fn risk_limits(&self) -> RiskLimits {
        let s = &self.settings;
        let count = |name: &str| s.count(&["risk", name]);
        let count_u32 = |name: &str| u32::try_from(count(name)).unwrap_or(u32::MAX);
        let rate = |per_second: &str, burst: &str| RateLimit {
            per_second: count_u32(per_second),
            burst: count_u32(burst),
        };
        let symbols = |name: &str| -> BTreeSet<Symbol> {
            s.list(&["risk", name]).iter().filter_map(|name| Symbol::new(name).ok()).collect()
        };
        let currencies = s.names_under(&["risk", "currency"]).into_iter();
        RiskLimits {
            position_max_lots: count_u32("position_max_lots"),
            position_max_lots_by_symbol: position_limits(s),
            money: money_limits(s, None),
            currencies: currencies
                .map(|currency| (currency.to_owned(), money_limits(s, Some(currency))))
                .collect(),
            concentration_max_nanos: share(s.amount(&["risk", "concentration_max_percent"])),
            concentration_gross_min: money(s.amount(&["risk", "concentration_gross_min"])),
            classes: Class::ALL.map(|class| class_limits(s, class)),
            rate_strategy: rate("rate_strategy_per_second", "rate_strategy_burst"),
            rate_account: rate("rate_account_per_second", "rate_account_burst"),
            rate_venue: rate("rate_venue_per_second", "rate_venue_burst"),
            orders_per_day_max: count_u32("orders_per_day_max"),
            cancels_per_day_max: count_u32("cancels_per_day_max"),
            live_orders_max: count_u32("live_orders_max"),
            slot_orders_max: count_u32("slot_orders_max"),
            duplicate_window_ms: count("duplicate_window_ms"),
            self_trade_prevention: s.switch(&["risk", "self_trade_prevention"]),
            symbols_denied: symbols("symbols_denied"),
            symbols_allowed: symbols("symbols_allowed"),
            clock_skew_max_ms: count("clock_skew_max_ms"),
            breach_state: match s.text(&["risk", "breach_state"]) {
                "halted" => TradingState::Halted,
                _ => TradingState::Reducing,
            },
            revaluation_ms: count("revaluation_ms"),
            accounts: self
                .accounts
                .iter()
                .map(|account| AccountLimits {
                    utc_offset_seconds: account.utc_offset_minutes * 60,
                    cash: account.cash.clone(),
                })
                .collect(),
            strategy_accounts: self.strategies.iter().map(|strategy| strategy.account).collect(),
        }
    }
}

/// A share in percent, in steps of 1e-9, as a fraction in the same steps.
fn share(percent_nanos: i64) -> i64 {
    percent_nanos / 100
}

fn position_limits(settings: &Settings) -> BTreeMap<Symbol, u32> {
    let names = settings.names_under(&["risk", "symbol"]).into_iter();
    names
        .filter_map(|name| {
            let lots = settings.count(&["risk", "symbol", name, "position_max_lots"]);
            Some((Symbol::new(name).ok()?, u32::try_from(lots).unwrap_or(u32::MAX)))
        })
        .collect()
}

/// The limits in `currency`, else those in every currency.
fn money_limits(settings: &Settings, currency: Option<&str>) -> MoneyLimits {
    let limit = |name: &str| -> Money {
        let own =
            currency.and_then(|currency| settings.find(&["risk", "currency", currency, name]));
        let value = own.or_else(|| settings.find(&["risk", name]));
        money(value.and_then(Value::amount).unwrap_or(0))
    };
    MoneyLimits {
        order_value_min: limit("order_value_min"),
        order_value_max: limit("order_value_max"),
        gross_exposure_max: limit("gross_exposure_max"),
        net_exposure_max: limit("net_exposure_max"),
        daily_loss_max: limit("daily_loss_max"),
        drawdown_max: limit("drawdown_max"),
    }
}

fn class_limits(settings: &Settings, class: Class) -> ClassLimits {
    let at = ByClass::new(settings, "risk", class);
    ClassLimits {
        collar_nanos: share(at.nanos("collar_percent")),
        price_limit_nanos: share(at.nanos("price_limit_percent")),
        slippage_nanos: share(at.nanos("slippage_percent")),
        margin_nanos: share(at.nanos("margin_percent")),
        stale_ms: at.count("stale_ms"),
        short_allowed: at.switch("short_allowed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limits_are_those_of_the_core() {
        let limits = Config::default().risk_limits();
        let accounts = limits.accounts.clone();
        assert_eq!(accounts, [AccountLimits::default()]);
        let core = RiskLimits {
            accounts,
            strategy_accounts: limits.strategy_accounts.clone(),
            ..RiskLimits::default()
        };
        assert_eq!(limits, core);
    }

    #[test]
    fn a_currency_and_a_symbol_have_limits_of_their_own() {
        let text = "[risk]\norder_value_max = 5\ncollar_percent = \"none\"\n\
                    [risk.currency.JPY]\ndaily_loss_max = 0.5\n\
                    [risk.symbol.\"IBM.US\"]\nposition_max_lots = 7\n\
                    [[account]]\nname = \"main\"\n\
                    [[account]]\nname = \"asia\"\nutc_offset_minutes = 480\ncash.CNY = 1000\n\
                    [[strategy]]\nname = \"a\"\nkind = \"ema_crossing\"\naccount = \"asia\"";
        let limits = Config::parse(text, "my.toml").unwrap().risk_limits();
        let yen = limits.money_of("JPY");
        assert_eq!(yen.daily_loss_max, Money::parse("0.5").unwrap());
        assert_eq!(yen.order_value_max, Money::from_units(5));
        assert_eq!(limits.money_of("USD").daily_loss_max, Money::from_units(50_000));
        assert_eq!(limits.position_max_lots_by_symbol[&Symbol::new("IBM.US").unwrap()], 7);
        assert_eq!(limits.classes[0].collar_nanos, 0);
        assert_eq!(limits.accounts[1].utc_offset_seconds, 28_800);
        assert_eq!(limits.accounts[1].cash["CNY"], Money::from_units(1_000));
        assert_eq!(limits.strategy_accounts[0].0, 1);
    }
}
