//! What a user meets: messages, overrides, fingerprints.

use super::listing::documented;
use super::*;
use crate::domain::{
    Class, FactorSpec, Instrument, Instruments, ParameterError, Price, Quantity, Span, Symbol,
};
use crate::pipeline::strategy::{StrategyFactory, StrategyRegistry, StrategySpec};
use crate::supervision;

/// The problems of `text` as lines.
fn problems(text: &str) -> Vec<String> {
    let problems = Config::parse(text, "my.toml").unwrap_err();
    problems.0.iter().map(ToString::to_string).collect()
}

/// The only problem of `text`.
fn problem(text: &str) -> String {
    let mut all = problems(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn set(overrides: &[(&str, &str)]) -> Result<Config, ConfigProblems> {
    let owned: Vec<(String, String)> =
        overrides.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    Config::load(&ConfigInput { overrides: &owned, ..ConfigInput::default() })
}

#[test]
fn the_embedded_file_is_the_default() {
    let problems = Config::load(&ConfigInput::default()).err().map(|problems| problems.to_string());
    assert_eq!(problems, None);
    assert_eq!(Config::parse(DEFAULT_TEXT, "cluster.toml").unwrap(), Config::default());
    assert_eq!(Config::parse("", "empty.toml").unwrap(), Config::default());
    let config = Config::default();
    assert_eq!((config.pipeline.batch_ticks, config.pipeline.shards), (256, 1));
    assert_eq!(config.cluster.heartbeat, Span::from_millis(500));
}

#[test]
fn every_key_stands_in_the_embedded_file_with_its_explanation() {
    for key in keys() {
        assert!(!key.example.is_empty(), "{} is not in cluster.toml", key.path);
        let is_first = !key.path.contains("<class>.") && !key.path.contains("<subtree>");
        let is_first =
            is_first && !key.path.contains(".<symbol>.") && !key.path.contains("currency");
        assert!(!is_first || key.about.len() > 10, "{} is not explained", key.path);
        let is_marked = key.about.contains("_operational_");
        assert!(!is_first || is_marked != key.changes_answer, "{} is marked wrongly", key.path);
        let is_live = live_keys().any(|spec| spec.path == key.path);
        assert_eq!(key.about.contains("_live_"), is_live, "{} is marked wrongly", key.path);
    }
}

#[test]
fn the_embedded_file_has_no_key_that_does_not_exist_even_commented_out() {
    let uncommented: String = DEFAULT_TEXT
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let read = Config::parse(&uncommented, "cluster.toml");
    assert_eq!(read.err().map(|problems| problems.to_string()), None);
    assert!(documented(DEFAULT_TEXT).len() > 100);
}

#[test]
fn every_problem_is_reported_at_once_with_its_place() {
    let text = "[pipeline]\nbatch_tick = 1\nshards = 65\n\n[journal]\nenabled = \"yes\"\n";
    assert_eq!(
        problems(text),
        [
            "my.toml:2:1: pipeline.batch_tick: is not a known key; did you mean \
             pipeline.batch_ticks?",
            "my.toml:3:10: pipeline.shards: 65 is above 64; give a whole number (factor engines) \
             from 1 to 64 (the default is 1)",
            "my.toml:6:11: journal.enabled: the text \"yes\" is of the wrong type; give true or \
             false (the default is true)",
        ]
    );
}

#[test]
fn an_unknown_key_names_the_nearest_right_one() {
    let hint = |text: &str| {
        let problem = problem(text);
        problem.split_once("did you mean ").map(|(_, hint)| hint.to_owned()).unwrap_or(problem)
    };
    assert_eq!(hint("[pipelin]\nshards = 1"), "pipeline?");
    assert_eq!(hint("batch_ticks = 1"), "pipeline.batch_ticks?");
    assert_eq!(hint("[stream]\nheartbeat_ms = 1"), "cluster.heartbeat_ms?");
    assert_eq!(hint("[risk]\nposition_max = 1"), "risk.position_max_lots?");
    assert_eq!(hint("[supervision.exce]\njitter = 0"), "supervision.exec?");
    assert_eq!(hint("[instruments.class.cypto_spot]\nlot = 1"), "instruments.class.crypto_spot?");
    assert!(problem("[node]\nzzzzzzz = 1").ends_with(
        "known here: name, roles, data_dir, http_bind, tokens_file, memory_limit_bytes, worker_threads, clock_offset_ms"
    ));
}

#[test]
fn depth_streams_without_an_address_of_snapshots_are_refused() {
    let with = |rest: &str, streams: &str| {
        Config::parse(&format!("[live]\nstreams = [{streams}]\n{rest}"), "my.toml")
    };
    let depth = "\"btcusdt@trade\", \"btcusdt@depth@100ms\"";
    let refusal = with("", depth).unwrap_err().to_string();
    assert!(refusal.contains("my.toml:2:11: live.streams"), "{refusal}");
    assert!(
        refusal.contains("live.rest_url") && refusal.contains("btcusdt@bookTicker"),
        "{refusal}"
    );
    assert!(with("", &format!("{depth}, \"btcusdt@bookTicker\"")).is_ok());
    let config = with("rest_url = \"http://127.0.0.1:9\"", depth).unwrap();
    assert_eq!(config.live.rest_url.as_deref(), Some("http://127.0.0.1:9"));
    assert!(problem("[live]\nrest_url = \"ws://x\"").contains("neither with http:// nor"));
    assert!(problem("[live]\nrest_url = \"http://x/?a\"").contains("more, or less"));
}

#[test]
fn limits_are_never_negative_or_zero() {
    let message = problem("[risk]\nposition_max_lots = -3");
    assert_eq!(
        message,
        "my.toml:2:21: risk.position_max_lots: -3 is below 1; give a whole number (lots) from 1 to \
         2147483648, or \"none\" (the default is 100)"
    );
    assert!(problem("[risk]\ndaily_loss_max = -0.01").contains("-0.01 is not above 0"));
    assert!(problem("[risk]\ndaily_loss_max = 0").contains("0 is not above 0"));
    assert!(problem("[risk]\ncollar_percent = 100.5").contains("100.5 is above 100"));
}

#[test]
fn a_value_of_the_wrong_type_says_what_it_is() {
    for (text, words) in [
        ("[pipeline]\nbatch_ticks = 1.5", "the number 1.5 is of the wrong type"),
        ("[pipeline]\nbatch_ticks = \"many\"", "the text \"many\" is of the wrong type"),
        ("[pipeline]\nbatch_ticks = [1]", "a list is of the wrong type"),
        ("[pipeline]\nbatch_ticks = 1979-05-27", "the date 1979-05-27 is of the wrong type"),
        ("[pipeline]\nbatch_ticks = 99999999999999999999", "is out of range"),
        ("[pipeline.batch_ticks]\na = 1", "a table is of the wrong type"),
        ("pipeline = 3", "is a table of keys, not the number 3; write [pipeline]"),
        ("[strategy]\nname = \"a\"", "is a list of tables, not a table; write [[strategy]]"),
        ("[risk]\ncollar_percent = nan", "nan is not a finite number"),
        ("[risk]\ncollar_percent = 0.00000001", "0.00000001 is finer than 0.0000001"),
        ("[risk]\ncollar_percent = \"5 %\"", "5 % is not a number"),
        ("[node]\nroles = [1]", "holds something that is not text"),
        ("[node]\nroles = [\"date\"]", "\"date\" is not a role"),
        ("[node]\nroles = [\"data\", \"data\"]", "\"data\" is there twice"),
        ("[node]\nname = \"a b\"", "holds ' '"),
        ("[pipeline]\nspeed = \"fast\"", "\"fast\" is not a speed"),
        ("[pipeline]\nmerge = \"keys\"", "\"keys\" is not known, did you mean \"key\"?"),
        ("[cluster]\nseeds = [\"nowhere\"]", "\"nowhere\" is not HOST:PORT"),
        ("[telemetry]\nlog = \"loud\"", "\"loud\" is not TARGET=LEVEL"),
        ("[instruments.class.fx]\nsession = [\"9-5\"]", "\"9-5\" is not a span of the day"),
        ("[instruments.class.fx]\nsession = [\"22:00-02:00\"]", "crosses midnight"),
    ] {
        let message = problem(text);
        assert!(message.contains(words), "{text}\n{message}");
    }
}

#[test]
fn values_that_contradict_each_other_are_refused_where_the_user_wrote_one() {
    for (text, words) in [
        (
            "[pipeline]\nbatch_ticks = 10000",
            "my.toml:2:15: pipeline.batch_ticks: pipeline.batch_ticks = 10000 is above \
             stream.credit_ticks = 8192; lower the first or raise the second",
        ),
        (
            "[stream]\ncredit_ticks = 100",
            "stream.credit_ticks: pipeline.batch_ticks = 256 is above",
        ),
        ("[pipeline]\nwindow_step_ms = 7000", "60000 ms is not a whole number of steps of 7000 ms"),
        (
            "[supervision.exec]\nbackoff_first_ms = 6000",
            "is above supervision.backoff_max_ms = 5000",
        ),
        (
            "[journal]\nsegment_bytes = 1000000",
            "my.toml:2:17: journal.segment_bytes: 1000000 bytes is not a power of two; write 524288 \
             or 1048576",
        ),
        ("[node]\nroles = []", "a node without roles does nothing"),
        ("[risk]\norder_value_min = 2000000", "is above risk.order_value_max = 1000000"),
        (
            "[risk]\nsymbols_denied = [\"A.B\"]\nsymbols_allowed = [\"A.B\"]",
            "\"A.B\" is both denied and allowed",
        ),
        ("[instruments.class.fx]\ntick_size = 0.000000001", "has more than 8 decimals"),
        ("[instruments.class.fx]\nprice_decimals = 2", "0.00001 has more than 2 decimals"),
        ("[instruments.class.fx]\nlot = 3", "the smallest order is not a whole number of lots"),
        (
            "[instruments.class.fx]\nsession = [\"05:00-07:00\", \"01:00-02:00\"]",
            "spans overlap or are out of order",
        ),
        (
            "[instruments.symbol.\"IF2101.CFFEX\"]\nlot = 3",
            "instruments.symbol.\"IF2101.CFFEX\".lot",
        ),
        ("[[strategy]]\nname = \"a\"", "my.toml:1:1: strategy.0: has no kind"),
        ("[[strategy]]\nkind = \"ema_crossing\"", "has no name"),
        (
            "[[strategy]]\nname = \"a\"\nkind = \"ema_crosing\"",
            "\"ema_crosing\" is not a kind of strategy; did you mean \"ema_crossing\"?",
        ),
        (
            "[[strategy]]\nname = \"a\"\nkind = \"ema_crossing\"\naccount = \"x\"",
            "there is no account \"x\"",
        ),
        ("[[account]]\nname = \"main\"\n[[account]]\nname = \"main\"", "is called \"main\" too"),
    ] {
        let message = problem(text);
        assert!(message.contains(words), "{text}\n{message}");
    }
}

#[test]
fn text_that_is_not_toml_is_refused_line_by_line() {
    let all = problems("[pipeline]\nbatch_ticks 5\nshards = 99\nseed =\n");
    assert!(all.iter().any(|line| line.starts_with("my.toml:2:")), "{all:#?}");
    assert!(all.iter().any(|line| line.contains("99 is above 64")), "{all:#?}");
    assert!(all.iter().any(|line| line.starts_with("my.toml:4:")), "{all:#?}");
    assert!(problem("[node]\nname = \"a\"\nname = \"b\"").contains("duplicate key"));
}

#[test]
fn set_lays_single_values_over_the_file() {
    let config = set(&[
        ("pipeline.batch_ticks", "16"),
        ("pipeline.batch_ticks", "32"),
        ("pipeline.speed", "10x"),
        ("journal.enabled", "false"),
        ("node.name", "7"),
        ("cluster.seeds", "a:1, b:2"),
        ("risk.symbols_denied", "[\"IBM.US\"]"),
        ("risk.daily_loss_max", "none"),
        ("instruments.symbol.\"IF2101.CFFEX\".multiplier", "300"),
        ("strategy.reversion.parameters.width", "2.5"),
        ("strategy.1.parameters.fast", "5"),
    ])
    .unwrap();
    assert_eq!((config.pipeline.batch_ticks, config.pipeline.speed), (32, Speed::Times(10)));
    assert!(!config.journal.enabled);
    assert_eq!(config.node.name, "7");
    assert_eq!(config.cluster.seeds, ["a:1", "b:2"]);
    assert_eq!(config.strategies[0].parameters["width"], 2.5);
    assert_eq!(config.strategies[1].parameters["fast"], 5.0);
    let future = config.instruments().resolve(&Symbol::new("IF2101.CFFEX").unwrap());
    assert_eq!((future.multiplier, future.class), (300, Class::FuturesCn));
}

#[test]
fn set_problems_name_the_option_and_come_with_those_of_the_file() {
    let overrides = [("pipeline.batch_tick", "1"), ("strategy.revers.name", "x"), ("a.", "1")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let input = ConfigInput {
        file: Some(("my.toml", "[pipeline]\nshards = 0")),
        overrides: &overrides,
        ..ConfigInput::default()
    };
    let lines: Vec<String> =
        Config::load(&input).unwrap_err().0.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "my.toml:2:10: pipeline.shards: 0 is below 1; give a whole number (factor engines) from \
             1 to 64 (the default is 1)",
            "--set pipeline.batch_tick: is not a known key; did you mean pipeline.batch_ticks?",
            "--set strategy.revers.name: there is no strategy \"revers\"; known: reversion, crossing",
            "--set a.: is not a key; write it as in section.key=value",
        ]
    );
}

#[test]
fn overrides_of_a_configuration_keep_the_rest_of_it() {
    let config = Config::parse("[pipeline]\nshards = 4", "my.toml").unwrap();
    let overrides = [("pipeline.batch_ticks".to_owned(), "1".to_owned())];
    let both = config.with_overrides(&overrides, &Kinds::default()).unwrap();
    assert_eq!((both.pipeline.shards, both.pipeline.batch_ticks), (4, 1));
    let overrides = [("stream.credit_ticks".to_owned(), "1".to_owned())];
    let problems = config.with_overrides(&overrides, &Kinds::default()).unwrap_err().to_string();
    assert!(problems.starts_with("--set stream.credit_ticks: pipeline.batch_ticks = 256 is above"));
}

#[test]
fn a_users_own_kind_of_strategy_is_known_once_it_is_registered() {
    let text = "[[strategy]]\nname = \"mine\"\nkind = \"momentum\"\nparameters = { days = 3 }";
    assert!(problem(text).contains("\"momentum\" is not a kind of strategy"));
    let mut input = ConfigInput { file: Some(("my.toml", text)), ..ConfigInput::default() };
    input.kinds.strategies.register("momentum", Momentum);
    let config = Config::load(&input).unwrap();
    assert_eq!(config.strategies.len(), 1);
    assert_eq!(config.strategies[0].parameters["days"], 3.0);
    assert_eq!(config.strategies[0].symbols, ["*"]);
}

/// A strategy of a user's own, as far as configuration sees it.
struct Momentum;

impl StrategyFactory for Momentum {
    fn parameters(&self) -> &[(&'static str, f64)] {
        &[("days", 5.0)]
    }

    fn needs(&self, _: &[f64]) -> Result<Vec<FactorSpec>, ParameterError> {
        Ok(Vec::new())
    }

    fn make(
        &self,
        _: &Instrument,
        _: &[f64],
    ) -> Result<Box<dyn crate::pipeline::strategy::Strategy>, ParameterError> {
        unreachable!("configuration makes no strategies")
    }
}

#[test]
fn parameters_of_strategies_are_judged_by_the_strategies_themselves() {
    let with = |kind: &str, parameters: &str| {
        problems(&format!(
            "[[strategy]]\nname = \"a\"\nkind = \"{kind}\"\n[strategy.parameters]\n{parameters}"
        ))
    };
    let unknown = with("bollinger_reversion", "widht = 1\nperiods = 5");
    assert_eq!(unknown.len(), 2, "{unknown:#?}");
    assert!(
        unknown[0].starts_with("my.toml:5:9: strategy.0.parameters.widht: has no parameter"),
        "{unknown:#?}"
    );
    let crossed = with("ema_crossing", "fast = 30\nslow = 20");
    assert_eq!(crossed.len(), 1, "{crossed:#?}");
    assert!(crossed[0].starts_with("my.toml:"), "{crossed:#?}");
    let window = with("ema_crossing", "window_s = 15");
    assert!(window[0].starts_with("my.toml:5:12: strategy.0.parameters.window_s"), "{window:#?}");
    let period = with("bollinger_reversion", "period = -20");
    assert!(period[0].contains("parameter `period` is -20"), "{period:#?}");
}

#[test]
fn the_default_strategies_are_as_their_kinds_declare_them() {
    for strategy in Config::default().strategies {
        // On which windows it works is the file's own choice.
        let window = ("window_s".to_owned(), strategy.parameters["window_s"]);
        let declared = StrategySpec::new(&strategy.kind, vec![window]);
        let registry = StrategyRegistry::new();
        assert_eq!(registry.needs(&strategy.spec()), registry.needs(&declared));
    }
}

#[test]
fn the_fingerprint_follows_what_can_change_an_answer_and_nothing_else() {
    let of = |key: &str, value: &str| set(&[(key, value)]).unwrap().fingerprint();
    let default = Config::default().fingerprint();
    for (key, value) in [
        ("pipeline.batch_ticks", "1"),
        ("pipeline.shards", "64"),
        ("pipeline.speed", "real"),
        ("journal.enabled", "false"),
        ("stream.credit_ticks", "512"),
        ("supervision.exec.strategy", "one_for_one"),
        ("telemetry.log", "debug"),
        ("node.data_dir", "elsewhere"),
        ("cluster.heartbeat_ms", "100"),
        // Said again, in other words.
        ("risk.daily_loss_max", "50000.00"),
        ("risk.class.fx.collar_percent", "5.0"),
    ] {
        assert_eq!(of(key, value), default, "{key}");
    }
    for (key, value) in [
        ("pipeline.seed", "2"),
        ("pipeline.window_ms", "120000"),
        ("pipeline.merge", "arrival"),
        ("risk.daily_loss_max", "49999.999999999"),
        ("risk.class.fx.collar_percent", "4"),
        ("risk.position_max_lots", "none"),
        ("strategy.reversion.parameters.width", "2.0000000000000004"),
        ("instruments.class.fx.lot", "2"),
    ] {
        let mut overrides = vec![(key, value)];
        if key.ends_with("fx.lot") {
            overrides.push(("instruments.class.fx.quantity_min", "2"));
        }
        assert_ne!(set(&overrides).unwrap().fingerprint(), default, "{key}");
    }
}

#[test]
fn a_subtree_has_its_own_policy_or_that_of_the_section() {
    let config = Config::default();
    assert_eq!(config.policy(Subtree::Control), supervision::PolicyConfig::default());
    assert_eq!(config.policy(Subtree::Node).strategy, supervision::Strategy::RestForOne);
    assert_eq!(config.policy(Subtree::Exec).strategy, supervision::Strategy::OneForAll);
    let text =
        "[supervision]\nrestarts_max = 9\n[supervision.calc]\nrestarts_max = 2\njitter = 0.5";
    let config = Config::parse(text, "my.toml").unwrap();
    assert_eq!(config.policy(Subtree::Data).restart_max, 9);
    let calc = config.policy(Subtree::Calc);
    assert_eq!((calc.restart_max, calc.jitter_thousandths), (2, 500));
    assert_eq!(calc.backoff.first, Span::from_millis(10));
}

#[test]
fn instruments_are_the_built_in_ones_unless_the_file_says_otherwise() {
    assert_eq!(Config::default().instruments(), Instruments::default());
    let text = "[instruments.venues]\nHOME = \"equity_cn\"\n\
                [instruments.class.equity_cn]\nlot = 10\nquantity_min = 10\n\
                [instruments.symbol.\"X.HOME\"]\ntick_size = 0.005\nprice_decimals = 3\n\
                session = [\"01:30-03:30\", \"05:00-07:00\"]";
    let instruments = Config::parse(text, "my.toml").unwrap().instruments();
    let plain = instruments.resolve(&Symbol::new("Y.HOME").unwrap());
    assert_eq!((plain.class, plain.lot), (Class::EquityCn, Quantity(10 * 100_000_000)));
    let own = instruments.resolve(&Symbol::new("X.HOME").unwrap());
    assert_eq!((own.tick_size, own.price_decimals, own.lot), (Price(5), 3, plain.lot));
    assert_eq!(own.session.spans, [(5_400, 12_600), (18_000, 25_200)]);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Invariant 1. The embedded file, damaged in a few places.
        #[test]
        fn damaged_text_never_panics(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..8usize), 1..8),
        ) {
            let mut bytes = DEFAULT_TEXT.as_bytes().to_vec();
            for (at, byte, cut) in damage {
                let at = at.index(bytes.len());
                let end = (at + cut).min(bytes.len());
                bytes.splice(at..end, [byte]);
            }
            let text = String::from_utf8_lossy(&bytes);
            if let Err(problems) = Config::parse(&text, "damaged.toml") {
                prop_assert!(!problems.0.is_empty() && !problems.to_string().is_empty());
            }
        }

        /// Invariant 1 for `--set`.
        #[test]
        fn any_override_is_taken_or_refused(
            key in prop_oneof![
                "[a-z_.\"]{0,20}",
                proptest::sample::select(KEYS).prop_map(|spec| spec.path.replace("<strategy>", "0")),
            ],
            value in prop_oneof!["\\PC{0,12}", "-?[0-9]{1,20}(\\.[0-9]{0,12})?"],
        ) {
            let _ = set(&[(&key, &value)]);
        }
    }
}

#[test]
fn a_node_that_can_be_reached_from_elsewhere_needs_certificates() {
    let message = problem("[cluster]\nbind = \"10.0.0.1:7400\"");
    assert!(message.starts_with("my.toml:2:8: cluster.bind: is not a loopback address"));
    assert!(message.contains("tickwright certs"), "{message}");
    let with = "tls_ca_file = \"ca\"\ntls_cert_file = \"cert\"\ntls_key_file = \"key\"\n";
    let sound = |cluster: &str| Config::parse(&format!("[cluster]\n{cluster}"), "my.toml");
    assert!(sound(&format!("bind = \"10.0.0.1:7400\"\n{with}")).is_ok());
    for loopback in ["localhost:1", "127.8.8.8:1", "[::1]:1"] {
        assert!(sound(&format!("bind = \"{loopback}\"")).is_ok(), "{loopback}");
    }
    assert!(problem("[node]\nhttp_bind = \"[::2]:80\"").contains("is not a loopback address"));
    let partly = problem("[cluster]\ntls_key_file = \"key\"");
    assert!(partly.contains("tls_ca_file, tls_cert_file is missing"), "{partly}");
    let everywhere = format!("[cluster]\nbind = \"0.0.0.0:7400\"\n{with}");
    assert!(problem(&everywhere).contains("others cannot dial 0.0.0.0:7400"));
}
