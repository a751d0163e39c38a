use proptest::prelude::*;

use super::*;
use crate::backtest::performance::measure_curve;
use crate::domain::ClosedTrades;
use crate::domain::Timestamp;

fn counts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
}

fn money(text: &str) -> MoneyText {
    Money::parse(text).unwrap().into()
}

/// A small report with something in every field.
fn example() -> RunReport {
    let equity: Vec<(Timestamp, Money)> = [0, 4, -2]
        .into_iter()
        .zip(1u64..)
        .map(|(units, at)| (Timestamp::from_nanos(at * 1_000_000_000), Money::from_units(units)))
        .collect();
    let mut closed = ClosedTrades::default();
    closed.on_realised(Money::from_units(4));
    closed.on_realised(Money::from_units(-8));
    let samples = equity
        .iter()
        .map(|&(at, equity)| EquitySample { time_ns: at.as_nanos(), equity: equity.into() })
        .collect();
    let mut latencies = Histogram::new();
    [1_000, 2_000, 40_000].into_iter().for_each(|nanos| latencies.record(nanos));
    let mut report = RunReport {
        nodes: 1,
        ticks_in: 10,
        ticks_clean: 7,
        ticks_rejected: counts(&[("crossed", 1), ("malformed", 2)]),
        factors: 70,
        signals: 3,
        orders: OrderCounts {
            approved: 2,
            rejected: counts(&[("collar", 1)]),
            placed: 2,
            filled: 1,
            unknown: 0,
        },
        fills: 2,
        fees: [("USDT".to_owned(), money("0.125"))].into(),
        pnl: [(
            "USDT".to_owned(),
            ProfitAndLoss { realised: money("-4"), unrealised: money("2.5") },
        )]
        .into(),
        positions: vec![PositionReport {
            symbol: "BTCUSDT.BINANCE_SPOT".into(),
            account: "main".into(),
            quantity: "-0.5".into(),
            average_price: Some(61_837.5),
            mark: Some("61832.5".into()),
            currency: "USDT".into(),
            value: money("30916.25"),
            realised: money("-4"),
            unrealised: money("2.5"),
            fees: money("0.125"),
        }],
        peak_rss_bytes: 50_000_000,
        rss_by_node: counts(&[("node-1", 50_000_000)]),
        restarts: 1,
        chaos: vec![ChaosReport { spec: "panic:factors@5".into(), fired: true }],
        order_digest: "00ff".into(),
        version: "0.1.0".into(),
        seed: 1,
        config_fingerprint: "abcd".into(),
        data_from_ns: Some(1_000_000_000),
        data_to_ns: Some(3_000_000_000),
        sources: vec![SourceReport {
            name: "ticks.csv".into(),
            format: "csv".into(),
            rows: 10,
            malformed: 2,
            malformed_rows: vec![MalformedRow {
                line: 4,
                column: "price".into(),
                problem: "is not a number".into(),
            }],
            live: None,
        }],
        symbols: vec![SymbolReport {
            symbol: "BTCUSDT.BINANCE_SPOT".into(),
            class: "crypto_spot".into(),
            clean: 7,
            rejected: counts(&[("crossed", 1)]),
        }],
        brokers: vec![BrokerReport {
            name: "primary".into(),
            placed: 2,
            refused: counts(&[("unavailable", 1)]),
            fills: 2,
            failovers: 0,
        }],
        restarts_by_actor: counts(&[("factors", 1)]),
        equity: [(
            "USDT".to_owned(),
            EquityReport { samples, performance: measure_curve(&equity, &closed) },
        )]
        .into(),
        charts: vec![SymbolChart {
            symbol: "BTCUSDT.BINANCE_SPOT".into(),
            currency: "USDT".into(),
            orders_total: 2,
            prices: vec![PriceSample { time_ns: 1_000_000_000, price: 61_837.5 }],
            orders: vec![OrderMark {
                time_ns: 2_000_000_000,
                side: Side::Sell,
                price: 61_837.5,
                quantity: 0.5,
                filled: 0.5,
            }],
        }],
        parameter_changes: vec![ParameterChangeReport {
            from_ns: 2_000_000_000,
            strategy: "reversion".into(),
            parameters: [("width".to_owned(), 2.5)].into(),
            by: "operator".into(),
            why: "to see".into(),
        }],
        out_of_sample: Some(OutOfSampleReport {
            strategy: "reversion".into(),
            parameters: [("width".to_owned(), 2.5)].into(),
            is_adopted: true,
            adopted_from_ns: Some(2_000_000_000),
            adopted_until_ns: None,
            held_back_from_ns: Some(2_000_000_000),
            found_on: StretchReport {
                rows: (0, 4),
                chosen: ScoreReport { score: 0.5, profit_rate: 0.25 },
                configured: ScoreReport { score: 0.25, profit_rate: 0.125 },
            },
            held_back: StretchReport {
                rows: (4, 7),
                chosen: ScoreReport { score: -0.5, profit_rate: -0.25 },
                configured: ScoreReport { score: 0.0, profit_rate: 0.0 },
            },
            verdict: Verdict::Worse,
        }),
        ..RunReport::default()
    };
    report.set_duration(Span::from_millis(2), 0);
    report.set_latency(&latencies);
    report
}

#[test]
fn the_report_has_exactly_the_promised_fields() {
    // Compare the text, so that a changed name, order or form of a value is seen.
    assert_eq!(example().to_json(), include_str!("golden.json"));
}

#[test]
fn the_fields_of_the_contract_are_all_there() {
    let json: serde_json::Value = serde_json::from_str(&example().to_json()).unwrap();
    let promised = "nodes ticks_in ticks_clean ticks_rejected factors signals orders fills fees pnl \
        positions ticks_per_second latency_us peak_rss_bytes rss_by_node restarts failovers chaos \
        lost_ticks duplicate_orders order_digest";
    for name in promised.split_whitespace() {
        assert!(json.get(name).is_some(), "{name} is missing");
    }
    for name in ["approved", "rejected", "placed", "filled", "unknown"] {
        assert!(json["orders"].get(name).is_some(), "orders.{name} is missing");
    }
    for name in ["p50", "p99", "p999", "max"] {
        assert!(json["latency_us"][name].is_f64(), "latency_us.{name} is missing");
    }
    assert!(json["fees"]["USDT"].is_string() && json["pnl"]["USDT"]["unrealised"].is_string());
}

#[test]
fn a_written_report_reads_back() {
    assert_eq!(serde_json::from_str::<RunReport>(&example().to_json()).unwrap(), example());
    let options = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(example(), options).unwrap();
    let (back, _): (RunReport, _) = bincode::serde::decode_from_slice(&bytes, options).unwrap();
    assert_eq!(back, example());
}

#[test]
fn a_run_that_kept_its_promises_has_no_violations() {
    assert_eq!(example().violations(), []);
}

#[test]
fn each_broken_promise_is_named() {
    let mut report = example();
    report.ticks_in += 1;
    report.lost_ticks = -3;
    report.duplicate_orders = 2;
    report.chaos.push(ChaosReport { spec: "panic:risk@9".into(), fired: false });
    let said: Vec<String> = report.violations().iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "11 rows came in, but 7 clean and 3 rejected are 10",
            "-3 clean rows were lost on the way (a negative count was repeated)",
            "2 orders reached a broker more than once",
            "the fault `panic:risk@9` never happened",
        ]
    );
}

#[test]
fn a_run_of_no_time_has_no_speed() {
    let mut report = example();
    report.set_duration(Span::ZERO, 0);
    assert_eq!(report.ticks_per_second, 0.0);
}

#[test]
fn text_that_is_no_money_is_refused() {
    for text in ["", "-", ".5", "1.", "1e3", "1,5", "--1", "1.0000000000000000001", "+1", "NaN"] {
        let read = serde_json::from_value::<MoneyText>(text.into());
        // `1.` has no digit after its point, and none is needed.
        assert_eq!(read.is_ok(), text == "1.", "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn money_survives_as_text(shift in 0u32..127, value in any::<i128>()) {
        let money = MoneyText(Money(value >> shift));
        let text = serde_json::to_value(money).unwrap();
        prop_assert_eq!(serde_json::from_value::<MoneyText>(text).unwrap(), money);
    }
}
