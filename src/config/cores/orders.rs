//! `[broker]` as what the order protocol is told of an exchange.

use crate::config::schema::BROKERS;
use crate::config::settings::Value;
use crate::config::{Config, SecretPlace};
use crate::domain::{BrokerId, PriceLevels, Span, VenueAccount};
use crate::pipeline::orders::{Capabilities, Deduplication, OrdersConfig};

/// An exchange that a broker stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeConfig {
    /// The base of its REST addresses.
    pub base_url: String,
    /// The base of the addresses of its streams; none, if orders are only asked about.
    pub stream_url: Option<String>,
    /// One line, `KEY:SECRET`.
    pub keys: SecretPlace,
    /// How long an answer is waited for.
    pub answer: Span,
    /// Whether a person says that nothing older is under way.
    pub assume_reconciled: bool,
    /// The protocol, for an account of this name.
    pub orders: OrdersConfig,
}

impl Config {
    /// The exchange that a broker stands for; none, if it is a paper broker. `new_cluster` is what a
    /// ledger without slots gets as their number.
    pub fn exchange(&self, broker: BrokerId, new_cluster: u64) -> Option<ExchangeConfig> {
        let s = &self.settings;
        let name = BROKERS[usize::from(broker.0).min(BROKERS.len() - 1)];
        let at = |key| ["broker", name, key];
        if s.text(&at("kind")) != "exchange" {
            return None;
        }
        let text = |key| s.find(&at(key)).and_then(Value::text).unwrap_or_default().to_owned();
        let capabilities = Capabilities {
            deduplication: match s.text(&at("deduplication")) {
                "all" => Deduplication::All,
                "open" => Deduplication::Open,
                _ => Deduplication::None,
            },
            deadline: s.switch(&at("has_deadline")),
            query: s.switch(&at("has_query")),
            server_time: s.switch(&at("has_server_time")),
            exclusive_session: s.switch(&at("has_exclusive_session")),
        };
        let steps = s.count_or_none(&at("slot_price_steps"));
        let steps = steps.map(|steps| i64::try_from(steps).unwrap_or(i64::MAX));
        let account = self.accounts.first().map_or("main", |account| account.name.as_str());
        let venue = VenueAccount { exchange: text("exchange"), account: account.to_owned() };
        let orders = OrdersConfig {
            venue,
            levels: steps.map_or(PriceLevels::One, PriceLevels::Interval),
            capabilities,
            window: s.span_ms(&at("window_ms")),
            settle: s.span_ms(&at("settle_ms")),
            settle_after_error: s.span_ms(&at("settle_after_error_ms")),
            attempts_max: u32::try_from(s.count(&at("sends_max"))).unwrap_or(u32::MAX),
            new_cluster,
            poll: s.span_ms(&at("poll_ms")),
            rests: s.count_or_none(&at("rest_ms")).map(Span::from_millis),
        };
        Some(ExchangeConfig {
            base_url: text("base_url"),
            stream_url: s.find(&at("stream_url")).and_then(Value::text).map(str::to_owned),
            keys: SecretPlace::of(&text("keys_file")),
            answer: s.span_ms(&at("answer_ms")),
            assume_reconciled: s.switch(&at("assume_reconciled")),
            orders,
        })
    }

    /// Whether orders leave this program.
    pub fn has_exchange(&self) -> bool {
        self.exchange(BrokerId(0), 0).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCHANGE: &str = "[pipeline]\nmerge = \"arrival\"\n[router]\nhas_backup = false\n\
                            [broker.primary]\nkind = \"exchange\"\nexchange = \"x\"\n\
                            base_url = \"http://127.0.0.1:1\"\nkeys_file = \"keys\"\n";

    #[test]
    fn a_paper_broker_is_no_exchange_and_an_exchange_has_the_defaults_of_the_protocol() {
        let paper = Config::default();
        assert!(paper.exchange(BrokerId(0), 1).is_none() && !paper.has_exchange());
        let config = Config::parse(EXCHANGE, "my.toml").unwrap();
        let exchange = config.exchange(BrokerId(0), 7).unwrap();
        let account = config.accounts[0].name.clone();
        let venue = VenueAccount { exchange: "x".into(), account };
        assert_eq!(exchange.orders, OrdersConfig::new(venue, 7));
        assert_eq!(exchange.keys, SecretPlace::File("keys".into()));
        assert!(config.exchange(BrokerId(1), 7).is_none());
    }

    #[test]
    fn only_the_account_whose_keys_there_are_may_order_at_an_exchange() {
        let accounts = "[[account]]\nname = \"a\"\n[[account]]\nname = \"b\"\n";
        let strategy = |account: &str| {
            format!(
                "[[strategy]]\nname = \"s\"\nkind = \"bollinger_reversion\"\naccount = \"{account}\"\n"
            )
        };
        let parse = |broker: &str, account: &str| {
            Config::parse(&format!("{broker}{accounts}{}", strategy(account)), "my.toml")
        };
        assert!(parse(EXCHANGE, "a").is_ok());
        assert!(parse("", "b").is_ok(), "a paper broker has as many accounts as there are");
        let problems = parse(EXCHANGE, "b").unwrap_err().to_string();
        assert!(problems.contains("strategy") && problems.contains("\"b\""), "{problems}");
    }

    #[test]
    fn what_an_exchange_needs_is_asked_for() {
        for (what, named) in [
            ("merge = \"arrival\"", "pipeline.merge"),
            ("has_backup = false", "has_backup"),
            ("keys_file = \"keys\"", "keys_file"),
            ("base_url = \"http://127.0.0.1:1\"", "base_url"),
        ] {
            let text = EXCHANGE.replace(what, "");
            let problems = Config::parse(&text, "my.toml").unwrap_err().to_string();
            assert!(problems.contains(named), "{problems}");
        }
    }
}
