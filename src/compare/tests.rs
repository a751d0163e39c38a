use super::*;
use crate::domain::Span;

fn options() -> PlanOptions {
    PlanOptions {
        symbols: vec![50, 10, 50],
        strategies: vec![2, 5],
        rates: vec![200, 100],
        duration_seconds: 300,
        nodes: 3,
        bound_ms: 50,
    }
}

fn scenario(symbols: u32) -> Scenario {
    Scenario { strategies: 2, rate: 100, symbols }
}

fn measured(p99_ms: Option<f64>) -> Measurement {
    Measurement {
        is_complete: true,
        rows: 300_000,
        rows_per_second: 1_000.4,
        orders: 9,
        latency_p50_ms: p99_ms.map(|p99| p99 / 2.0),
        latency_p99_ms: p99_ms,
        memory_bytes: 60_000_000,
        memory_node_bytes: 25_000_000,
        processors: 0.25,
        broken: Vec::new(),
    }
}

fn run(symbols: u32, nodes: u16, measured: Result<Measurement, String>) -> RunResult {
    RunResult::new(scenario(symbols), nodes, 50, measured)
}

fn plan_of(symbols: &[u32]) -> Plan {
    let options = PlanOptions {
        symbols: symbols.to_vec(),
        strategies: vec![2],
        rates: vec![100],
        ..options()
    };
    Plan::new(options)
}

#[test]
fn every_scenario_runs_once_on_one_node_and_once_on_several() {
    let plan = Plan::new(options());
    let runs: Vec<(Scenario, u16)> = plan.runs().collect();
    assert_eq!((runs.len(), plan.len()), (16, 16), "50 symbols are named twice");
    assert_eq!(runs[..2], [(scenario(10), 1), (scenario(10), 3)]);
    assert_eq!(runs[2], (scenario(50), 1), "more symbols before more rows of each");
    assert_eq!(plan.options().rates, [100, 200]);
}

#[test]
fn the_time_of_all_runs_is_known_before_the_first() {
    let plan = Plan::new(options());
    let (at_least, at_most) = plan.time();
    assert_eq!(at_least, Span::from_secs(16 * 304));
    assert_eq!(at_most, Span::from_secs(16 * 634));
    assert!(plan.patience() > plan.duration());
}

#[test]
fn a_scenario_sets_its_load_and_lifts_what_would_stop_the_trading() {
    let settings = plan_of(&[50]).settings(scenario(50));
    let value = |wanted: &str| {
        let found = settings.iter().find(|(key, _)| key == wanted);
        found.map(|(_, value)| value.as_str()).unwrap()
    };
    assert_eq!(value("simulator.symbols"), "50");
    assert_eq!(value("simulator.ticks"), "1500000", "50 symbols, 100 a second, 300 s");
    assert_eq!(value("simulator.ticks_per_second"), "100");
    assert_eq!(value("pipeline.speed"), "real");
    assert_eq!(value("risk.daily_loss_max"), "none");
}

#[test]
fn sustained_needs_the_end_an_order_and_the_bound() {
    let verdict = |measured| run(10, 1, measured).verdict;
    assert_eq!(verdict(Ok(measured(Some(50.0)))), Verdict::Sustained, "exactly at the bound");
    assert_eq!(verdict(Ok(measured(Some(50.1)))), Verdict::Late);
    assert_eq!(verdict(Ok(measured(None))), Verdict::NoOrders);
    let behind = Measurement { is_complete: false, ..measured(Some(1.0)) };
    assert_eq!(verdict(Ok(behind)), Verdict::Behind);
    assert_eq!(verdict(Err("it ended".into())), Verdict::Failed);
}

#[test]
fn the_factor_is_of_the_most_symbols_sustained() {
    let plan = plan_of(&[10, 50, 100]);
    let results = |one: u32, several: u32| {
        let of = |symbols: u32, nodes: u16, most: u32| {
            run(symbols, nodes, Ok(measured(Some(if symbols <= most { 1.0 } else { 60.0 }))))
        };
        let both = |symbols| [of(symbols, 1, one), of(symbols, 3, several)];
        let runs = [10, 50, 100].into_iter().flat_map(both).collect();
        Comparison::new(&plan, 2, runs).factors[0].clone()
    };
    let factor = results(10, 50);
    assert_eq!((factor.symbols_one, factor.symbols_several), (Some(10), Some(50)));
    assert_eq!((factor.factor, factor.is_bounded_by_plan), (Some(5.0), false));
    assert_eq!(results(50, 10).factor, Some(0.2));
    assert_eq!(results(50, 0).factor, Some(0.0), "several sustain nothing");
    let none = results(0, 10);
    assert_eq!(
        (none.symbols_one, none.factor),
        (None, None),
        "nothing can be a multiple of nothing"
    );
    assert!(results(100, 50).is_bounded_by_plan, "one node might bear more than was tried");
}

#[test]
fn the_table_tells_each_run_the_factors_and_what_they_cannot_show() {
    let runs = vec![
        run(10, 1, Ok(measured(Some(3.0)))),
        run(10, 3, Ok(Measurement { is_complete: false, ..measured(None) })),
        run(50, 1, Err("data-1 has ended".into())),
        run(50, 3, Ok(measured(Some(1_234.5)))),
    ];
    let comparison = Comparison::new(&plan_of(&[10, 50]), 2, runs);
    let text = comparison.to_string();
    let expected = "\
symbols strategies  rate/s nodes     due/s    rows/s   p50 ms   p99 ms       MB  MB/node cores  sustained
     10          2     100     1      1000      1000     1.50     3.00     60.0     25.0  0.25  yes
     10          2     100     3      1000      1000        -        -     60.0     25.0  0.25  no: behind
     50          2     100     1      5000                                                      failed
     50          2     100     3      5000      1000    617.2     1234     60.0     25.0  0.25  no: late
50 symbols on 1 node failed: data-1 has ended

Scalability: the most symbols sustained (99 of 100 orders within 50 ms), 3 nodes by one
strategies  rate/s   1 node  3 nodes  factor
         2     100       10     none    0.00

What this cannot show
";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains(" it cannot tell what more machines give."), "{text}");
    assert!(text.lines().skip(1).all(|line| line.len() <= 106), "{text}");
    assert_eq!(comparison.failures().collect::<Vec<_>>(), ["data-1 has ended"]);
    let json = serde_json::to_value(&comparison).unwrap();
    assert_eq!(json["factors"][0]["symbols_one"], 10);
    assert_eq!(json["runs"][0]["measured"]["latency_p99_ms"], 3.0);
    assert_eq!(
        (&json["runs"][1]["verdict"], &json["runs"][1]["symbols"]),
        (&"behind".into(), &10.into())
    );
}

#[test]
fn what_was_broken_in_any_run_is_told_once() {
    let broken = |what: &str| Measurement { broken: vec![what.into()], ..measured(Some(1.0)) };
    let runs = vec![run(10, 1, Ok(broken("lost"))), run(10, 3, Ok(broken("lost")))];
    let comparison = Comparison::new(&plan_of(&[10]), 2, runs);
    assert_eq!(comparison.broken().into_iter().collect::<Vec<_>>(), ["lost"]);
}

fn table(name: &str, parameters: &[(&str, f64)]) -> StrategyTable {
    StrategyTable {
        name: name.into(),
        kind: "kind".into(),
        account: "main".into(),
        symbols: vec!["*".into()],
        parameters: parameters.iter().map(|&(name, value)| (name.to_owned(), value)).collect(),
    }
}

#[test]
fn strategies_are_those_configured_and_then_again_with_other_parameters() {
    let configured =
        [table("a", &[("lots", 1.0), ("period", 20.0), ("width", 2.5)]), table("b", &[])];
    let varied = vary(&configured, 5);
    let names: Vec<&str> = varied.iter().map(|strategy| strategy.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "a-2", "b-2", "a-3"]);
    let periods = [0, 2, 4].map(|place| varied[place].parameters["period"]);
    assert_eq!(periods, [20.0, 21.0, 22.0]);
    assert_eq!((varied[4].parameters["lots"], varied[4].parameters["width"]), (1.0, 2.5));
    assert_eq!(vary(&configured, 1), configured[..1], "fewer than are configured");
    assert_eq!(vary(&[], 3), []);
}

#[test]
fn a_configuration_loses_its_strategies_and_nothing_else() {
    let text = "a = 1\n[[strategy]]\nname = \"x\"\n[strategy.parameters]\nn = 2\n[risk]\nb = 2\n\
                [ strategy.more ]\nc = 3\n[supervision.exec]\nstrategy = \"one_for_all\"\n";
    let kept = "a = 1\n[risk]\nb = 2\n[supervision.exec]\nstrategy = \"one_for_all\"\n";
    assert_eq!(without_strategies(text), kept);
}
