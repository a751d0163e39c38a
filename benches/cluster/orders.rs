//! From a row to its order: data, calc and exec as three processes beside one process.

use std::time::Duration;

use tickwright::local_cluster::{LocalClusterArguments, Purpose, run_nodes};
use tickwright_core::backtest::report::RunReport;
use tickwright_core::compare::{Plan, PlanOptions};
use tickwright_core::config::{Chaos, Config, Kinds};

use crate::rows::median;

/// Rows a second, over all symbols.
const RATES: [(u32, u32); 2] = [(20, 50), (20, 500)];

/// Between two looks at the nodes, each of which takes time from what is measured.
const LOOK: Duration = Duration::from_millis(500);

/// Prints how long orders take.
pub(crate) fn measure(is_quick: bool) {
    let (duration_seconds, rounds) = if is_quick { (4, 1) } else { (15, 3) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for (symbols, rate) in RATES {
        println!(
            "from row to order at {} rows/s, {duration_seconds} s, median of {rounds}",
            symbols * rate
        );
        println!(
            "  {:<36} {:>9} {:>9} {:>14} {:>8}",
            "", "p50 us", "p99 us", "times slower", "orders"
        );
        let mut figures = [[const { Vec::new() }; 2], [const { Vec::new() }; 2]];
        let mut digests = Vec::new();
        let mut orders = 0;
        for _ in 0..rounds {
            for (place, nodes) in [1, 3].into_iter().enumerate() {
                let options = PlanOptions {
                    symbols: vec![symbols],
                    strategies: vec![2],
                    rates: vec![rate],
                    duration_seconds,
                    nodes: 3,
                    bound_ms: 1,
                };
                let report = runtime.block_on(run(&Plan::new(options), nodes));
                figures[place][0].push(report.latency_us.p50);
                figures[place][1].push(report.latency_us.p99);
                orders = report.orders.placed;
                digests.push(report.order_digest);
            }
        }
        assert!(digests.iter().all(|digest| *digest == digests[0]), "they trade otherwise");
        assert!(orders > 0, "a run that trades nothing proves nothing");
        let [limit, several] =
            figures.map(|[mut p50, mut p99]| [median(&mut p50), median(&mut p99)]);
        for (name, [p50, p99]) in [("one process", limit), ("data, calc and exec", several)] {
            println!(
                "  {name:<36} {p50:>9.1} {p99:>9.1} {:>6.2}, {:>6.2} {orders:>8}",
                p50 / limit[0],
                p99 / limit[1]
            );
        }
        println!();
    }
}

async fn run(plan: &Plan, nodes: u16) -> RunReport {
    let directory = tempfile::tempdir().unwrap();
    let (scenario, _) = plan.runs().next().unwrap();
    let mut overrides = plan.settings(scenario);
    let data = directory.path().display().to_string();
    overrides.push(("node.data_dir".to_owned(), data));
    let config = Config::default().with_overrides(&overrides, &Kinds::default());
    let arguments = LocalClusterArguments {
        nodes,
        config: config.unwrap_or_else(|problems| panic!("{problems}")),
        config_file: None,
        overrides,
        data: Vec::new(),
        purpose: Purpose::Run,
        faults: Chaos::default(),
        look: LOOK,
    };
    let report = run_nodes(arguments, |_| (), tokio::time::sleep(plan.patience())).await;
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.violations(), []);
    report
}
