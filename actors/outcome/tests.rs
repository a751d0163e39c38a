use std::time::Duration;

use tickwright_core::backtest::performance::Performance;
use tickwright_core::backtest::report::{EquityReport, PositionReport};
use tickwright_core::config::{Chaos, Kinds};
use tickwright_core::domain::Money;

use super::*;
use crate::kit::DiskFaults;
use crate::run::{Input, RunArguments, run};

const CONFIGURATION: &str = "journal.enabled = false\nsimulator.ticks = 60000\n";

/// A small run over the simulated market, with faults.
async fn ran(faults: &str) -> RunReport {
    let config = Config::parse(CONFIGURATION, "test.toml").unwrap();
    let arguments = RunArguments {
        config: config.clone(),
        kinds: Kinds::default(),
        input: Input::Simulated,
        faults: Chaos::parse(faults).unwrap(),
        disk: DiskFaults::default(),
        tools: None,
    };
    let run = Box::pin(run(arguments, |_| {}));
    let outcome = tokio::time::timeout(Duration::from_secs(120), run).await;
    report(&outcome.expect("it ends in time").unwrap(), &config)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_number_of_a_report_agrees_with_the_others() {
    let report = ran("panic:factors@20000,panic:risk@300").await;
    assert_eq!(report.violations(), []);
    assert!(report.ticks_in >= 60_000 && report.ticks_clean > 0 && report.factors > 0);
    assert_eq!(report.sources.iter().map(|source| source.rows).sum::<u64>(), report.ticks_in);
    assert_eq!(report.symbols.iter().map(|symbol| symbol.clean).sum::<u64>(), report.ticks_clean);

    let orders = &report.orders;
    assert_eq!(orders.approved + orders.rejected.values().sum::<u64>(), report.signals);
    assert!(orders.filled > 0 && orders.filled <= orders.placed, "{orders:?}");
    assert!(orders.placed <= orders.approved, "{orders:?}");
    assert_eq!(report.brokers.iter().map(|broker| broker.placed).sum::<u64>(), orders.placed);
    assert_eq!(report.brokers.iter().map(|broker| broker.fills).sum::<u64>(), report.fills);

    assert!(report.restarts_by_actor["factors"] >= 1, "{:?}", report.restarts_by_actor);
    assert!(report.restarts_by_actor["risk"] >= 1, "{:?}", report.restarts_by_actor);
    assert_eq!(report.restarts_by_actor.values().sum::<u64>(), report.restarts);
    assert!(!report.resumed && report.latency_us.max > 0.0 && report.ticks_per_second > 0.0);
    assert!(report.data_from_ns < report.data_to_ns);
}

#[tokio::test(flavor = "multi_thread")]
async fn money_is_the_sum_over_the_positions_of_its_own_currency() {
    let report = ran("").await;
    assert!(report.pnl.len() >= 2, "{:?}", report.pnl.keys());
    for (currency, earned) in &report.pnl {
        let held = || report.positions.iter().filter(|held| held.currency == *currency);
        let sum = |field: fn(&PositionReport) -> Money| {
            held().map(field).fold(Money::ZERO, |sum, amount| sum + amount)
        };
        assert_eq!(sum(|held| held.realised.0), earned.realised.0, "{currency}");
        assert_eq!(sum(|held| held.unrealised.0), earned.unrealised.0, "{currency}");
        let fees = report.fees[currency].0;
        assert_eq!(sum(|held| held.fees.0), fees, "{currency}");

        let EquityReport { samples, performance } = &report.equity[currency];
        assert_eq!(performance.net.0, earned.realised.0 + earned.unrealised.0 - fees);
        assert!(samples.windows(2).all(|pair| pair[0].time_ns < pair[1].time_ns));
        assert!(performance.win_rate.is_none_or(|rate| (0.0..=1.0).contains(&rate)));
    }
    let closed = report.equity.values().map(|equity| equity.performance.trades_closed);
    let closed: Vec<u64> = closed.collect();
    assert!(closed.iter().sum::<u64>() < report.fills, "{closed:?} of {} fills", report.fills);
    for chart in &report.charts {
        assert!(!chart.prices.is_empty() && chart.orders.len() as u64 <= chart.orders_total);
        assert!(chart.orders.iter().all(|order| order.filled <= order.quantity));
        assert!(chart.prices.windows(2).all(|pair| pair[0].time_ns < pair[1].time_ns));
    }
    assert!(report.charts.iter().flat_map(|chart| &chart.orders).any(|order| order.filled > 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_symbols_earned_is_what_their_currency_earned() {
    let report = ran("").await;
    assert!(report.performance.is_sorted_by_key(|measured| measured.symbol.clone()));
    for (currency, equity) in &report.equity {
        let of: Vec<_> =
            report.performance.iter().filter(|measured| measured.currency == *currency).collect();
        let sum = |field: fn(&Performance) -> Money| -> Money {
            of.iter().map(|measured| field(&measured.performance)).sum()
        };
        let whole = &equity.performance;
        assert_eq!(sum(|it| it.net.0), whole.net.0, "{currency}");
        assert_eq!(sum(|it| it.turnover.0), whole.turnover.0, "{currency}");
        assert!(whole.exposure_max.0 <= sum(|it| it.exposure_max.0), "{currency}");
        assert!(whole.exposure_mean.0 <= whole.exposure_max.0, "{currency}");
        let closed: u64 = of.iter().map(|measured| measured.performance.trades_closed).sum();
        assert_eq!(closed, whole.trades_closed, "{currency}");
    }
}
