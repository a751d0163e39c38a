use std::collections::BTreeMap;
use std::path::Path;

use tickwright_core::backtest::performance::measure_curve;
use tickwright_core::backtest::report::*;
use tickwright_core::domain::ClosedTrades;
use tickwright_core::domain::{Histogram, Money, Side, Span, Timestamp};

use super::*;

const SECOND: u64 = 1_000_000_000;
/// 2024-08-08 23:54:14 UTC.
const START: u64 = 1_723_161_254 * SECOND;

/// Numbers that look random and are the same in every run: Knuth's MMIX generator, high bits.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// About normal, deviation 1.
    fn normal(&mut self) -> f64 {
        let sum: u64 = (0..12).map(|_| self.below(1_000_000)).sum();
        f64::from(u32::try_from(sum).unwrap()) / 1e6 - 6.0
    }
}

fn counts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
}

fn money(text: &str) -> MoneyText {
    Money::parse(text).unwrap().into()
}

#[expect(clippy::cast_possible_truncation, reason = "small amounts")]
fn from_float(units: f64) -> Money {
    Money(i128::from((units * 1e8) as i64) * 10_000_000_000)
}

fn equity(noise: &mut Noise, step: f64, drift: f64) -> EquityReport {
    let (mut value, mut samples, mut closed) = (0.0, Vec::new(), ClosedTrades::default());
    for at in 0..1_000 {
        samples.push((Timestamp::from_nanos(START + at * SECOND * 345 / 1_000), from_float(value)));
        let change = step * (noise.normal() + drift);
        value += change;
        if at % 4 == 0 {
            closed.on_realised(from_float(change));
        }
    }
    EquityReport {
        performance: measure_curve(&samples, &closed),
        samples: samples
            .into_iter()
            .map(|(at, equity)| EquitySample { time_ns: at.as_nanos(), equity: equity.into() })
            .collect(),
    }
}

fn chart(
    noise: &mut Noise,
    symbol: &str,
    currency: &str,
    mut price: f64,
    total: u64,
) -> SymbolChart {
    let (step, mut prices, mut orders) = (price * 1e-4, Vec::new(), Vec::new());
    for at in 0..1_000 {
        price = (price + step * noise.normal()).max(step);
        let time_ns = START + at * SECOND * 345 / 1_000;
        prices.push(PriceSample { time_ns, price });
        if noise.below(1_000) < 120 {
            let side = if noise.below(2) == 0 { Side::Buy } else { Side::Sell };
            let filled = [0.0, 0.25, 0.5, 0.5, 0.5][usize::try_from(noise.below(5)).unwrap()];
            orders.push(OrderMark { time_ns, side, price, quantity: 0.5, filled });
        }
    }
    SymbolChart {
        symbol: symbol.into(),
        currency: currency.into(),
        orders_total: total,
        prices,
        orders,
    }
}

/// A report as a run over the Binance and IBM files might leave it.
fn example() -> RunReport {
    let mut noise = Noise(7);
    let mut latencies = Histogram::new();
    for _ in 0..3_000 {
        let tail = if noise.below(100) < 2 { 12.0 } else { 1.0 };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, small"
        )]
        latencies.record((18_000.0 * (0.35 * noise.normal()).exp() * tail) as u64);
    }
    let position =
        |symbol: &str, quantity: &str, average, currency: &str, value: &str, unrealised: &str| {
            PositionReport {
                symbol: symbol.into(),
                account: "main".into(),
                quantity: quantity.into(),
                average_price: average,
                mark: average.map(|price: f64| (price - 5.5).to_string()),
                currency: currency.into(),
                value: money(value),
                realised: money("-12.25"),
                unrealised: money(unrealised),
                fees: money("3.5"),
            }
        };
    let symbol = |symbol: &str, class: &str, clean, rejected: &[(&str, u64)]| SymbolReport {
        symbol: symbol.into(),
        class: class.into(),
        clean,
        rejected: counts(rejected),
    };
    let mut report = RunReport {
        nodes: 1,
        ticks_in: 960_803,
        ticks_clean: 805_501,
        ticks_rejected: counts(&[
            ("duplicate", 148_796),
            ("time_reversal", 6_305),
            ("crossed", 198),
            ("malformed", 2),
            ("outlier", 1),
        ]),
        factors: 8_055_010,
        signals: 3_412,
        orders: OrderCounts {
            approved: 3_000,
            rejected: counts(&[("position_limit", 311), ("order_rate", 88), ("stale_data", 13)]),
            placed: 2_988,
            filled: 2_720,
            unknown: 0,
        },
        fills: 3_104,
        fees: [("USDT", "412.807"), ("USD", "88.1"), ("BTC", "0.00012")]
            .map(|(currency, fee)| (currency.to_owned(), money(fee)))
            .into(),
        pnl: [
            ("BTC", "0.00345678", "-0.0001"),
            ("USD", "-1204.5", "312.25"),
            ("USDT", "10480.125", "-230.5"),
        ]
        .map(|(currency, realised, unrealised)| {
            let pnl = ProfitAndLoss { realised: money(realised), unrealised: money(unrealised) };
            (currency.to_owned(), pnl)
        })
        .into(),
        positions: vec![
            position(
                "BTCUSDT.BINANCE_SPOT",
                "-0.5",
                Some(61_837.512_345),
                "USDT",
                "30916.25",
                "-230.5",
            ),
            position("IBM.US", "1200", Some(182.0125), "USD", "218400", "312.25"),
            position(
                "BTCUSD_PERP.BINANCE_COINM",
                "30",
                Some(61_790.1),
                "BTC",
                "0.0485123",
                "-0.0001",
            ),
            position("ETHUSDT.BINANCE_USDM", "0", None, "USDT", "0", "0"),
        ],
        peak_rss_bytes: 93_500_000,
        rss_by_node: counts(&[("node-1", 93_500_000)]),
        restarts: 4,
        chaos: vec![
            ChaosReport { spec: "panic:factors@5000".into(), fired: true },
            ChaosReport { spec: "panic:router@700".into(), fired: true },
        ],
        order_digest: "5d3f0a".repeat(10) + "77aa",
        version: "0.1.0".into(),
        seed: 1,
        config_fingerprint: "c0ffee".repeat(10) + "0123",
        data_from_ns: Some(START),
        data_to_ns: Some(START + 345 * SECOND),
        sources: vec![
            SourceReport {
                name: "ticks/binance_6sym_20240808T2354Z.csv.gz".into(),
                format: "csv.gz".into(),
                rows: 262_416,
                malformed: 2,
                malformed_rows: vec![
                    MalformedRow {
                        line: 17,
                        column: "price".into(),
                        problem: "`abc` is not a number".into(),
                    },
                    MalformedRow {
                        line: 99,
                        column: String::new(),
                        problem: "has 4 columns, 12 are needed".into(),
                    },
                ],
                live: None,
            },
            SourceReport {
                name: "ticks/us_IBM_BAC_20131007.csv.gz".into(),
                format: "csv.gz".into(),
                rows: 698_387,
                ..SourceReport::default()
            },
        ],
        symbols: vec![
            symbol("IBM.US", "equity_us", 340_123, &[("duplicate", 99_000), ("outlier", 1)]),
            symbol("BAC.US", "equity_us", 209_467, &[("duplicate", 49_796)]),
            symbol("BTCUSDT.BINANCE_SPOT", "crypto_spot", 120_300, &[("time_reversal", 2_100)]),
            symbol(
                "BTCUSDT.BINANCE_USDM",
                "crypto_linear",
                80_011,
                &[("time_reversal", 4_205), ("crossed", 98)],
            ),
            symbol("BTCUSD_PERP.BINANCE_COINM", "crypto_inverse", 55_600, &[("crossed", 100)]),
        ],
        brokers: vec![
            BrokerReport {
                name: "primary".into(),
                placed: 2_100,
                refused: counts(&[("unavailable", 3), ("order", 12)]),
                fills: 2_200,
                failovers: 1,
            },
            BrokerReport {
                name: "backup".into(),
                placed: 888,
                fills: 904,
                ..BrokerReport::default()
            },
        ],
        restarts_by_actor: counts(&[("factors", 3), ("router", 1)]),
        equity: [
            ("BTC", equity(&mut noise, 1e-5, 0.3)),
            ("USD", equity(&mut noise, 30.0, -0.03)),
            ("USDT", equity(&mut noise, 200.0, 0.05)),
        ]
        .map(|(currency, equity)| (currency.to_owned(), equity))
        .into(),
        charts: vec![
            chart(&mut noise, "BTCUSDT.BINANCE_SPOT", "USDT", 61_837.5, 1_204),
            chart(&mut noise, "IBM.US", "USD", 182.01, 118),
            chart(&mut noise, "EURUSD.FXCM", "USD", 1.387_25, 90),
        ],
        parameter_changes: vec![ParameterChangeReport {
            from_ns: START + 120 * SECOND,
            strategy: "crossing".into(),
            parameters: [("fast".to_owned(), 5.0), ("slow".to_owned(), 30.0)].into(),
            by: "optimiser".into(),
            why: "adopted: trial 17 of opt-2, score 0.52".into(),
        }],
        ..RunReport::default()
    };
    report.set_duration(Span::from_millis(811), 0);
    report.set_latency(&latencies);
    report
}

#[test]
fn the_summary_reads_as_it_should() {
    let files = [("report", Path::new("r.json")), ("charts", Path::new("r.html"))];
    let text = summary(&example(), &files, Style::PLAIN);
    // Read the file when this fails: it is what a user sees.
    assert_eq!(text, include_str!("summary.txt"), "now:\n{text}");
}

#[test]
fn the_summary_fits_80_columns_whatever_the_names() {
    let mut report = example();
    let long = "X".repeat(60) + ".VENUE";
    report.positions[0].symbol.clone_from(&long);
    report.positions[0].quantity = "-123456789012.12345678".into();
    report.positions[0].value = money("1234567890.5");
    report.positions[0].unrealised = money("-123456789.5");
    report.orders.rejected.insert(long.clone(), 1_000_000_000);
    report.restarts_by_actor.insert(long.clone(), 3);
    report.chaos.push(ChaosReport { spec: long, fired: false });
    report.pnl.insert("ABCDEFGHIJ".into(), ProfitAndLoss::default());
    report.parameter_changes[0].strategy = "X".repeat(40);
    report.parameter_changes[0].parameters.insert("y".repeat(60), -123_456.789);
    report.parameter_changes[0].why = "z".repeat(200);
    for line in summary(&report, &[], Style::PLAIN).lines() {
        let exempt = line.contains("BROKEN") || line.contains("csv.gz:");
        assert!(exempt || line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn colour_is_only_used_where_it_is_welcome() {
    assert!(!summary(&example(), &[], Style::PLAIN).contains('\u{1b}'));
    assert!(summary(&example(), &[], Style { colour: true }).contains("\u{1b}["));
}

#[test]
fn a_broken_promise_is_in_the_summary() {
    let report = RunReport { lost_ticks: 3, ..example() };
    let text = summary(&report, &[], Style::PLAIN);
    assert!(text.contains("BROKEN: 3 clean rows were lost on the way"), "{text}");
    assert!(!text.contains("no row lost"));
}

#[test]
fn an_empty_run_has_a_summary_and_a_page() {
    let empty = RunReport::default();
    assert!(summary(&empty, &[], Style::PLAIN).contains("rows in"));
    assert!(page(&empty).contains("<main"));
}

#[test]
fn the_page_fetches_nothing() {
    let page = page(&example());
    for way_out in ["http:", "https:", "src=", "href=", "url(", "@import", "fetch(", "//cdn"] {
        assert!(!page.contains(way_out), "the page holds `{way_out}`");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn names_from_files_never_become_markup() {
    let evil = "</script><script>alert(1)</script><!--<img onerror=alert(2)>&'\"\u{2028}{{title}}";
    let mut report = example();
    report.charts[0].symbol = evil.into();
    report.symbols[0].symbol = evil.into();
    report.positions[0].symbol = evil.into();
    report.sources[0].name = evil.into();
    report.sources[0].malformed_rows[0].problem = evil.into();
    report.ticks_rejected.insert(evil.into(), 0);
    report.chaos[0].spec = evil.into();
    report.version = evil.into();
    let page = page(&report);
    assert!(!page.contains("<script>alert") && !page.contains("<img") && !page.contains("<!--"));
    assert_eq!(page.matches("</script>").count(), 2);
    // The report is still all there for the scripts.
    let data = page.split_once(r#"id="report">"#).unwrap().1.split_once("</script>").unwrap().0;
    assert_eq!(serde_json::from_str::<RunReport>(data).unwrap().charts[0].symbol, evil);
}

#[test]
fn files_are_written_and_a_refusal_names_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = (folder.path().join("r.json"), folder.path().join("r.html"));
    write_json(&example(), &json).unwrap();
    write_html(&example(), &html).unwrap();
    let read: RunReport = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(read.order_digest, example().order_digest);
    assert_eq!(fs::read_to_string(html).unwrap(), page(&example()));
    let refused = write_json(&example(), &folder.path().join("absent/r.json")).unwrap_err();
    assert!(refused.to_string().contains("absent/r.json"), "{refused}");
}

/// To look at the page: `TICKWRIGHT_PAGE=page.html cargo test the_page_can_be_looked_at`.
#[test]
fn the_page_can_be_looked_at() {
    if let Some(path) = std::env::var_os("TICKWRIGHT_PAGE") {
        write_html(&example(), Path::new(&path)).unwrap();
    }
}
