//! Every factor against the plainest way to compute it: from the whole history, at every row.

use proptest::prelude::*;

use super::*;

/// From the first value on, so that the mean of equal values is that value.
fn mean(values: &[f64]) -> f64 {
    values[0] + mean_of(values, |value| value - values[0])
}

/// In two passes; from the first value on, for the mean of high prices is itself rounded.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean_of(values, |value| value - values[0]);
    let distance = |value| value - values[0] - mean;
    mean_of(values, |value| distance(value) * distance(value)).sqrt()
}

fn mean_of(values: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    values.iter().map(|&value| of(value)).sum::<f64>() / values.len() as f64
}

/// The last `count` values, if there are so many.
fn last(values: &[f64], count: usize) -> Option<&[f64]> {
    values.len().checked_sub(count).map(|start| &values[start..])
}

/// The average of the first `period` values, then `weight` of each value after.
fn average(values: &[f64], period: usize, weight: f64) -> Option<f64> {
    let (first, rest) = values.split_at_checked(period)?;
    Some(rest.iter().fold(mean(first), |average, value| (1.0 - weight) * average + weight * value))
}

fn ema(values: &[f64], period: usize) -> Option<f64> {
    average(values, period, 2.0 / (period as f64 + 1.0))
}

fn wilder(values: &[f64], period: usize) -> Option<f64> {
    average(values, period, 1.0 / period as f64)
}

fn changes(values: &[f64]) -> Vec<f64> {
    values.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

fn macd(prices: &[f64], (fast, slow, signal): (usize, usize, usize)) -> (f64, f64) {
    let lines: Vec<f64> = (1..=prices.len())
        .filter_map(|count| Some(ema(&prices[..count], fast)? - ema(&prices[..count], slow)?))
        .collect();
    (lines.last().copied().unwrap_or(f64::NAN), ema(&lines, signal).unwrap_or(f64::NAN))
}

fn rsi(prices: &[f64], period: usize) -> Option<f64> {
    let changes = changes(prices);
    let rises: Vec<f64> = changes.iter().map(|change| change.max(0.0)).collect();
    let falls: Vec<f64> = changes.iter().map(|change| (-change).max(0.0)).collect();
    let (rise, fall) = (wilder(&rises, period)?, wilder(&falls, period)?);
    Some(if rise == 0.0 && fall == 0.0 { 50.0 } else { 100.0 - 100.0 / (1.0 + rise / fall) })
}

fn volatility(prices: &[f64], period: usize) -> Option<f64> {
    let returns: Vec<f64> = prices.windows(2).map(|pair| libm::log(pair[1] / pair[0])).collect();
    last(&returns, period).map(|returns| returns.iter().map(|r| r * r).sum::<f64>().sqrt())
}

const COLUMNS: [&str; 15] = [
    "sma(7)",
    "bollinger_middle(5)",
    "bollinger_lower(5,2)",
    "bollinger_upper(5,2.5)",
    "deviation(5)",
    "z_score(5)",
    "ema(6)",
    "macd_line(3,6,4)",
    "macd_signal(3,6,4)",
    "macd_histogram(3,6,4)",
    "rsi(5)",
    "atr(5)",
    "vwap(4)",
    "realised_volatility(5)",
    "imbalance",
];

/// What the columns should be after these prices and volumes.
fn expected(prices: &[f64], volumes: &[f64]) -> [f64; COLUMNS.len()] {
    let of = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let five = last(prices, 5);
    let (middle, spread) = (of(five.map(mean)), of(five.map(deviation)));
    let newest = prices[prices.len() - 1];
    let (line, signal) = macd(prices, (3, 6, 4));
    let ranges: Vec<f64> = changes(prices).iter().map(|change| change.abs()).collect();
    let traded: Vec<usize> = (0..prices.len()).filter(|&row| volumes[row] > 0.0).collect();
    let vwap = traded.len().checked_sub(4).map(|start| {
        let sum =
            |of: &dyn Fn(usize) -> f64| traded[start..].iter().map(|&row| of(row)).sum::<f64>();
        sum(&|row| prices[row] * volumes[row]) / sum(&|row| volumes[row])
    });
    [
        of(last(prices, 7).map(mean)),
        middle,
        middle - 2.0 * spread,
        middle + 2.5 * spread,
        spread,
        if spread == 0.0 { 0.0 } else { (newest - middle) / spread },
        of(ema(prices, 6)),
        line,
        signal,
        line - signal,
        of(rsi(prices, 5)),
        of(wilder(&ranges, 5)),
        of(vwap),
        of(volatility(prices, 5)),
        f64::NAN,
    ]
}

/// Prices in cents that stand still, walk, and jump.
fn walk() -> impl Strategy<Value = Vec<(i64, i64)>> {
    let step = prop_oneof![
        4 => Just(0i64),
        8 => -5i64..=5,
        1 => -200_000i64..=200_000,
    ];
    let volume = prop_oneof![1 => Just(0i64), 5 => 1i64..1_000, 1 => Just(1_000_000_000i64)];
    (100i64..10_000_000, prop::collection::vec((step, volume), 1..90)).prop_map(|(start, steps)| {
        let mut price = start;
        let mut next = |step: i64| {
            price = (price + step).max(1);
            price
        };
        steps.into_iter().map(|(step, volume)| (next(step), volume)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_factor_is_what_the_history_says_at_every_row(rows in walk()) {
        let cents = ONE / 100;
        let batch = stream(0, (1..).zip(rows.iter().map(|&(price, volume)| {
            trade(0, price * cents, volume * ONE)
        })));
        let out = run(&COLUMNS, &batch);
        prop_assert_eq!(out.rows.len(), rows.len());
        let prices: Vec<f64> = rows.iter().map(|&(price, _)| price as f64 / 100.0).collect();
        let volumes: Vec<f64> = rows.iter().map(|&(_, volume)| volume as f64).collect();
        for row in 0..rows.len() {
            let expected = expected(&prices[..=row], &volumes[..=row]);
            // Of prices, rounding is relative to the highest price; ratios of small numbers that were
            // got by subtraction carry it on.
            let highest = prices[..=row].iter().copied().fold(0.0, f64::max);
            for (column, &found) in out.values_of(row).iter().enumerate() {
                let absolute = match COLUMNS[column] {
                    "z_score(5)" => 1e-9 * highest.max(1.0),
                    "rsi(5)" => 1e-6,
                    "realised_volatility(5)" => 1e-13,
                    _ => 1e-13 * highest,
                };
                prop_assert!(
                    is_close(found, expected[column], 1e-9, absolute),
                    "row {}: {} is {}, expected {}", row, COLUMNS[column], found, expected[column]
                );
            }
        }
    }
}

/// One side of a quote: not named, of an unknown size, or of this size.
type Side = Option<Option<i64>>;

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![
        Just(None),
        Just(Some(None)),
        Just(Some(Some(0))),
        (1i64..1_000).prop_map(|size| Some(Some(size)))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// At each trade it is of what each side was last said to be, found by looking back from there.
    #[test]
    fn imbalance_is_of_what_each_side_was_last_said_to_be(quotes in prop::collection::vec((side(), side()), 1..60)) {
        let row = |&(bid, ask): &(Side, Side)| {
            let mut quote = Tick { kind: Kind::Quote as u8, bid: 99 * ONE, ask: 101 * ONE, ..Tick::default() };
            let bit = |side: Side, price: u8, size: u8| match side {
                None => 0,
                Some(None) => price,
                Some(Some(_)) => price | size,
            };
            quote.has = bit(bid, has::BID, has::BID_QUANTITY) | bit(ask, has::ASK, has::ASK_QUANTITY);
            quote.bid_quantity = bid.flatten().unwrap_or(0) * ONE;
            quote.ask_quantity = ask.flatten().unwrap_or(0) * ONE;
            quote
        };
        let rows = quotes.iter().flat_map(|quote| [row(quote), trade(0, 100 * ONE, ONE)]);
        let out = run(&["imbalance"], &stream(0, (1..).zip(rows)));
        prop_assert_eq!(out.rows.len(), quotes.len());
        for at in 0..quotes.len() {
            let last = |of: fn(&(Side, Side)) -> Side| {
                quotes[..=at].iter().rev().find_map(of).flatten().map(|size| size as f64)
            };
            let found = out.values_of(at)[0];
            match (last(|quote| quote.0), last(|quote| quote.1)) {
                (Some(bid), Some(ask)) if bid + ask > 0.0 => {
                    prop_assert!(is_close(found, 1.0 - 2.0 * ask / (bid + ask), 1e-12, 1e-12), "row {}: {}", at, found);
                }
                _ => prop_assert!(found.is_nan(), "row {}: {}", at, found),
            }
        }
    }
}

/// A pseudo-random walk of the price, in steps; the same in every run.
fn long_walk(count: u32, mut visit: impl FnMut(u32, i64)) {
    let (mut price, mut state) = (9_876_543 * ONE, 1u64);
    for row in 0..count {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        price += ((state >> 33) % 2_001).cast_signed() - 1_000;
        visit(row, price);
    }
}

/// Errors against two passes over the window, relative to the value, after `count` updates at a price
/// a thousand million times its steps.
fn errors_after(count: u32) -> (f64, f64) {
    let mut moments = super::super::moments::Moments::new(20);
    let mut recent = std::collections::VecDeque::new();
    let (mut mean_error, mut deviation_error) = (0f64, 0f64);
    long_walk(count, |row, price| {
        let price = price as f64 / ONE as f64;
        moments.update(price);
        recent.push_back(price);
        if recent.len() > 20 {
            recent.pop_front();
        }
        // The last rows: just before and just after sums are taken anew.
        if row + 100 > count {
            let window: Vec<f64> = recent.iter().copied().collect();
            mean_error = mean_error.max((moments.mean() / mean(&window) - 1.0).abs());
            let ratio = moments.deviation() / deviation(&window);
            deviation_error = deviation_error.max((ratio - 1.0).abs());
        }
    });
    (mean_error, deviation_error)
}

#[test]
fn moments_stay_exact_over_a_million_updates_at_a_high_price() {
    let (mean, deviation) = errors_after(1_000_000);
    assert!(mean <= 1e-14 && deviation <= 1e-9, "errors {mean} and {deviation}");
}

#[test]
fn moments_stay_exact_over_ten_million_updates_at_a_high_price() {
    let (mean, deviation) = errors_after(10_000_000);
    assert!(mean <= 1e-14 && deviation <= 1e-9, "errors {mean} and {deviation}");
}

#[test]
fn a_window_of_equal_prices_has_no_deviation_even_after_a_spike() {
    let mut prices = vec![12_345 * ONE + 67; 30];
    prices[3] = 1;
    prices[4] = 99_999_999 * ONE;
    prices.extend([777 * ONE + 1; 30]);
    let out = run(&["deviation(20)", "z_score(20)", "sma(20)"], &trades(&prices));
    for row in (24..30).chain(49..60) {
        let price = prices[row] as f64 / ONE as f64;
        assert_eq!(out.values_of(row), [0.0, 0.0, price], "row {row}");
    }
}

#[test]
fn a_market_that_stands_still_does_not_sink_into_subnormal_numbers() {
    let mut prices = vec![100 * ONE, 101 * ONE];
    prices.extend([101 * ONE; 12_000]);
    let out = run(&["atr(14)", "rsi(14)"], &trades(&prices));
    assert_eq!(out.values_of(12_001), [0.0, 50.0]);
    let smallest = (20..12_001).map(|row| out.values_of(row)[0]).filter(|atr| *atr > 0.0);
    assert!(smallest.fold(f64::MAX, f64::min) > f64::MIN_POSITIVE);
}
