//! `[broker]` as what the order protocol is told of an exchange.

use crate::config::schema::BROKERS;
use crate::config::settings::{Settings, Value};
use crate::config::{Config, SecretPlace};
use crate::domain::{AccountId, BrokerId, PriceLevels, Span, VenueAccount};
use crate::pipeline::orders::{Capabilities, Deduplication, OrdersConfig};

/// An exchange that a broker stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeConfig {
    /// The base of its REST addresses.
    pub base_url: String,
    /// The base of the addresses of its streams; none, if orders are only asked about.
    pub stream_url: Option<String>,
    /// Certificates of those who vouch for it beside those that browsers believe: a file in PEM.
    pub tls_ca_file: Option<String>,
    /// How long an answer is waited for.
    pub answer: Span,
    /// Whether a person says that nothing older is under way.
    pub assume_reconciled: bool,
    /// The accounts whose keys there are, in the order of `[[account]]`. One at least.
    pub accounts: Vec<ExchangeAccount>,
}

/// An account at an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeAccount {
    /// Which.
    pub account: AccountId,
    /// One line, `KEY:SECRET`.
    pub keys: SecretPlace,
    /// The key of the configuration that says so.
    pub named_by: String,
    /// The protocol.
    pub orders: OrdersConfig,
}

/// Where the keys of an account are, and the key that says so; none, if there are none. The first account's may
/// be named without it.
pub(in crate::config) fn keys_of(
    settings: &Settings,
    broker: &str,
    account: &str,
    is_first: bool,
) -> Option<(SecretPlace, String)> {
    let own: &[&str] = &["broker", broker, "accounts", account, "keys_file"];
    let short: &[&str] = &["broker", broker, "keys_file"];
    let paths = if is_first { vec![own, short] } else { vec![own] };
    paths.into_iter().find_map(|path| {
        let place = settings.find(path).and_then(Value::text)?;
        Some((SecretPlace::of(place), path.join(".")))
    })
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
        let orders = |account: &str| OrdersConfig {
            venue: VenueAccount { exchange: text("exchange"), account: account.to_owned() },
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
        let accounts = (0..).zip(&self.accounts).filter_map(|(place, account)| {
            let (keys, named_by) = keys_of(s, name, &account.name, place == 0)?;
            let orders = orders(&account.name);
            Some(ExchangeAccount { account: AccountId(place), keys, named_by, orders })
        });
        Some(ExchangeConfig {
            base_url: text("base_url"),
            stream_url: s.find(&at("stream_url")).and_then(Value::text).map(str::to_owned),
            tls_ca_file: s.find(&at("tls_ca_file")).and_then(Value::text).map(str::to_owned),
            answer: s.span_ms(&at("answer_ms")),
            assume_reconciled: s.switch(&at("assume_reconciled")),
            accounts: accounts.collect(),
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
    use crate::config::DatabaseKind;
    use crate::domain::Price;

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
        let orders = OrdersConfig::new(venue, 7);
        let keys = SecretPlace::File("keys".into());
        let named_by = "broker.primary.keys_file".into();
        let first = ExchangeAccount { account: AccountId(0), keys, named_by, orders };
        assert_eq!(exchange.accounts, [first]);
        assert!(config.exchange(BrokerId(1), 7).is_none());
    }

    const ACCOUNTS: &str = "[[account]]\nname = \"a\"\n[[account]]\nname = \"b\"\n\
                            [[account]]\nname = \"c\"\n";

    fn trading_for(broker: &str, account: &str) -> Result<Config, String> {
        let text = format!(
            "{broker}{ACCOUNTS}[[strategy]]\nname = \"s\"\nkind = \"bollinger_reversion\"\n\
             account = \"{account}\"\n"
        );
        Config::parse(&text, "my.toml").map_err(|problems| problems.to_string())
    }

    #[test]
    fn only_an_account_whose_keys_there_are_may_order_at_an_exchange() {
        let with_b = format!("{EXCHANGE}accounts.b.keys_file = \"of b\"\n");
        let without_a = with_b.replace("\nkeys_file = \"keys\"", "");
        assert!(trading_for("", "b").is_ok(), "a paper broker has as many accounts as there are");
        for (broker, account) in
            [(EXCHANGE, "a"), (&with_b, "a"), (&with_b, "b"), (&without_a, "b")]
        {
            assert!(trading_for(broker, account).is_ok(), "{broker} {account}");
        }
        for (broker, account) in [(EXCHANGE, "b"), (&with_b, "c"), (&without_a, "a")] {
            let problems = trading_for(broker, account).unwrap_err();
            let named = ["keys_file", &format!("account \"{account}\"")];
            assert!(named.iter().all(|name| problems.contains(name)), "{problems}");
        }
    }

    #[test]
    fn each_account_leaves_under_its_own_keys_and_name() {
        let broker = format!("{EXCHANGE}accounts.c.keys_file = \"of c\"\n");
        let exchange = trading_for(&broker, "c").unwrap().exchange(BrokerId(0), 7).unwrap();
        let accounts = exchange.accounts.iter();
        let accounts: Vec<(u16, &str, String, &str)> = accounts
            .map(|of| {
                let account = of.orders.venue.account.as_str();
                (of.account.0, account, of.keys.to_string(), of.named_by.as_str())
            })
            .collect();
        let first = (0, "a", "the file keys".to_owned(), "broker.primary.keys_file");
        let other = (2, "c", "the file of c".to_owned(), "broker.primary.accounts.c.keys_file");
        assert_eq!(accounts, [first, other]);
    }

    #[test]
    fn keys_of_nobody_and_keys_that_are_named_twice_are_refused() {
        for (account, said) in [("d", "no account \"d\""), ("a", "named twice")] {
            let broker = format!("{EXCHANGE}accounts.{account}.keys_file = \"more\"\n");
            let problems = trading_for(&broker, "a").unwrap_err();
            assert!(problems.contains(said), "{problems}");
        }
    }

    #[test]
    fn what_trades_at_an_exchange_is_recorded_unless_it_is_said_otherwise() {
        let read = |more: &str| Config::parse(&format!("{EXCHANGE}{more}"), "my.toml");
        let kind = |more: &str| read(more).unwrap().database.kind;
        assert_eq!(Config::default().database.kind, DatabaseKind::None);
        assert_eq!(kind(""), DatabaseKind::Sqlite);
        assert_eq!(kind("[node]\nroles = [\"data\", \"calc\"]\n"), DatabaseKind::None);
        assert_eq!(kind("[database]\nkind = \"none\"\n"), DatabaseKind::None);
        let problems = read("[database]\nurl = \"postgres://u@h/d\"\n").unwrap_err().to_string();
        assert!(problems.contains("set database.kind"), "{problems}");
    }

    #[test]
    fn as_many_steps_of_price_share_a_slot_as_are_configured() {
        let levels = |written: &str| {
            let config = Config::parse(&format!("{EXCHANGE}{written}"), "my.toml").unwrap();
            let exchange = config.exchange(BrokerId(0), 7).unwrap();
            let levels = exchange.accounts[0].orders.levels;
            [-1, 0, 9, 10, 19].map(|price| levels.of(Price(price)))
        };
        assert_eq!(levels(""), [0; 5], "each side of a symbol is one");
        assert_eq!(levels("slot_price_steps = \"none\"\n"), [0; 5]);
        assert_eq!(levels("slot_price_steps = 10\n"), [-1, 0, 0, 1, 1]);
        assert_eq!(levels("slot_price_steps = 1\n"), [-1, 0, 9, 10, 19]);
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
