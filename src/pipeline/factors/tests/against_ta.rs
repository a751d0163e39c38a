//! Against the crate `ta` 0.5, where definitions agree.
//!
//! SMA and Bollinger bands (population deviation) agree. `ta` starts an EMA from the first value, we,
//! as TA-Lib, from the mean of the first `period`: so its EMA is fed that mean first, and MACD is
//! compared where the start has died out. Its RSI and ATR smooth with an EMA of weight
//! `2 / (period + 1)`; Wilder's weight `1 / period` is that of an EMA of `2 period - 1`.

use ta::Next;
use ta::indicators::{
    AverageTrueRange, BollingerBands, ExponentialMovingAverage, MovingAverageConvergenceDivergence,
    RelativeStrengthIndex, SimpleMovingAverage,
};

use super::*;

fn prices() -> Vec<i64> {
    let mut state = 7u64;
    let mut price = 60_000 * ONE;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        price += ((state >> 33) % 201).cast_signed() * (ONE / 100) - ONE;
        price
    };
    (0..3_000).map(|_| next()).collect()
}

fn assert_column(out: &FactorBatch, column: usize, from: usize, mut of: impl FnMut(f64) -> f64) {
    for row in 0..out.rows.len() {
        let expected = of(out.rows[row].price);
        let found = out.values_of(row)[column];
        assert!(
            row < from || is_close(found, expected, 1e-9, 0.0),
            "row {row}, column {column}: {found}, ta says {expected}"
        );
    }
}

#[test]
fn simple_averages_and_bands_are_those_of_ta() {
    let columns = ["sma(20)", "bollinger_middle", "bollinger_upper", "bollinger_lower"];
    let out = run(&columns, &trades(&prices()));
    assert_eq!(out.layout.columns.len(), 4);
    let mut average = SimpleMovingAverage::new(20).unwrap();
    assert_column(&out, 0, 19, |price| average.next(price));
    let bands = || BollingerBands::new(20, 2.0).unwrap();
    let (mut middle, mut upper, mut lower) = (bands(), bands(), bands());
    assert_column(&out, 1, 19, |price| middle.next(price).average);
    assert_column(&out, 2, 19, |price| upper.next(price).upper);
    assert_column(&out, 3, 19, |price| lower.next(price).lower);
}

#[test]
fn an_exponential_average_is_that_of_ta_from_the_same_start() {
    let out = run(&["ema(12)", "sma(12)"], &trades(&prices()));
    let mut average = ExponentialMovingAverage::new(12).unwrap();
    average.next(out.values_of(11)[1]);
    for row in 12..out.rows.len() {
        let expected = average.next(out.rows[row].price);
        assert!(is_close(out.values_of(row)[0], expected, 1e-12, 0.0), "row {row}");
    }
}

#[test]
fn macd_is_that_of_ta_once_the_start_has_died_out() {
    let out = run(&["macd_line", "macd_signal", "macd_histogram"], &trades(&prices()));
    let macd = || MovingAverageConvergenceDivergence::new(12, 26, 9).unwrap();
    let (mut line, mut signal, mut histogram) = (macd(), macd(), macd());
    // A line near zero is the difference of two large numbers: compare with 1 added.
    for row in 0..out.rows.len() {
        let price = out.rows[row].price;
        let expected =
            [line.next(price).macd, signal.next(price).signal, histogram.next(price).histogram];
        for (found, expected) in out.values_of(row).iter().zip(expected) {
            assert!(row < 1_000 || is_close(*found, expected, 0.0, 1e-9), "row {row}");
        }
    }
}

#[test]
fn wilders_indices_are_those_of_ta_with_twice_the_period_less_one() {
    let out = run(&["rsi(14)", "atr(14)"], &trades(&prices()));
    let mut rsi = RelativeStrengthIndex::new(27).unwrap();
    assert_column(&out, 0, 1_000, |price| rsi.next(price));
    let mut atr = AverageTrueRange::new(27).unwrap();
    assert_column(&out, 1, 1_000, |price| atr.next(price));
}
