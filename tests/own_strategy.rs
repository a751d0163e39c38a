//! The example of a strategy of one's own does what it says.

#[path = "../examples/own_strategy.rs"]
#[expect(dead_code, reason = "its `main` is called by cargo only")]
#[expect(unreachable_pub, reason = "in an example, as in a program, `pub` costs nothing")]
mod own_strategy;

#[test]
fn a_strategy_of_the_users_own_trades_on_a_factor_of_the_users_own() {
    let summary = own_strategy::run_once().unwrap();
    let count = |name: &str| -> u64 {
        let line = summary.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        let number = line.trim_start()[name.len()..].split_whitespace().next().unwrap();
        number.replace(',', "").parse().unwrap()
    };
    assert!(count("signals") > 100 && count("fills") > 10, "{summary}");
    assert!(summary.contains("no row lost, no order twice"), "{summary}");
}
