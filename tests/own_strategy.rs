//! The example of a factor and a strategy of one's own trades, and remembers what it knew through
//! crashes without a line of code for that.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../examples/own_strategy.rs"]
#[expect(dead_code, reason = "its `main` is called by cargo only")]
#[expect(unreachable_pub, reason = "in an example, as in a program, `pub` costs nothing")]
mod own_strategy;

use tickwright::{kit::DiskFaults, outcome, run};
use tickwright_core::backtest::report::RunReport;
use tickwright_core::config::{Chaos, Config, ConfigInput};

fn run_with(chaos: &str) -> RunReport {
    let overrides = [("journal.enabled", "false"), ("simulator.ticks", "50000")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let input = ConfigInput {
        file: Some(("own_strategy.toml", include_str!("../examples/own_strategy.toml"))),
        overrides: &overrides,
        kinds: own_strategy::kinds(),
    };
    let config = Config::load(&input).unwrap();
    let arguments = run::RunArguments {
        config: config.clone(),
        kinds: own_strategy::kinds(),
        input: run::Input::Simulated,
        faults: Chaos::parse(chaos).unwrap(),
        disk: DiskFaults::default(),
        tools: None,
    };
    let ended = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let patience = std::time::Duration::from_secs(120);
        tokio::time::timeout(patience, run::run(arguments, |_| {})).await
    });
    outcome::report(&ended.expect("a run of this size ends in time").unwrap(), &config)
}

#[test]
fn a_strategy_of_the_users_own_trades_on_a_factor_of_the_users_own() {
    let report = run_with("");
    assert_eq!(report.violations(), []);
    assert!(report.signals > 100 && report.fills > 10, "{}", report.to_json());

    let crashed = run_with("panic:factors@9000,panic:strategy@60");
    assert!(crashed.chaos.iter().all(|fault| fault.fired), "{:?}", crashed.chaos);
    assert_eq!(crashed.order_digest, report.order_digest);
}
