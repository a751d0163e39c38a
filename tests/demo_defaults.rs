//! The demo as it comes still trades at its end, and with ten times its rows.

mod common;

use common::Case;

#[test]
fn no_loss_ends_the_trading_of_the_demo_or_of_one_ten_times_as_long() {
    for rows in [1_000_000, 10_000_000] {
        let report = Case::simulated(rows).run();
        for code in ["daily_loss", "drawdown", "state_reducing", "state_halted"] {
            assert!(!report.orders.rejected.contains_key(code), "{rows}: {:?}", report.orders);
        }
        let end = report.data_to_ns.expect("rows have times");
        let last =
            report.charts.iter().flat_map(|chart| &chart.orders).map(|order| order.time_ns).max();
        let last = last.expect("the busiest symbols trade");
        assert!(
            end - last.min(end) < 600_000_000_000,
            "{rows}: the last order is at {last} of {end}"
        );
    }
}
