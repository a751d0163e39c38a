use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    Definition, FactorBatch, FactorLayout, FactorRow, FactorSpec, Instruments, Key,
    ParameterChange, Side, Signal, SourceId, Symbol, SymbolId, Timestamp,
};

fn spec(name: &str, parameters: &[(&str, f64)]) -> StrategySpec {
    let parameters = parameters.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    StrategySpec::new(name, parameters)
}

fn columns(texts: &[&str]) -> Vec<FactorSpec> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The layout of `texts` after so many changes.
fn layout(version: u64, texts: &[&str]) -> Arc<FactorLayout> {
    Arc::new(FactorLayout { version, columns: columns(texts) })
}

fn change(strategy: usize, name: &str, value: f64) -> ParameterChange {
    let parameters = vec![(name.to_owned(), value)];
    ParameterChange { at: Timestamp::default(), strategy, parameters }
}

fn definition(id: u32, name: &str) -> Definition {
    let instrument = Instruments::default().resolve(&Symbol::new(name).unwrap());
    Definition { id: SymbolId(id), instrument: Arc::new(instrument) }
}

/// Strategies that see rows of `texts`, with symbols 0 and 7 of source 0 defined.
fn engine(specs: &[StrategySpec], texts: &[&str]) -> StrategyEngine {
    let mut engine =
        StrategyEngine::new(&StrategyRegistry::new(), specs, &layout(0, texts)).unwrap();
    engine.define(SourceId(0), &definition(0, "B.SPOT")).unwrap();
    engine.define(SourceId(0), &definition(7, "A.SPOT")).unwrap();
    engine
}

const BANDS: [&str; 2] = ["bollinger_middle(20)", "deviation(20)"];

/// Ticks of symbol 0, one by one: price and values of `texts`.
fn rows<const N: usize>(texts: &[&str; N], steps: &[(f64, [f64; N])]) -> FactorBatch {
    let mut batch = FactorBatch { layout: layout(0, texts), ..FactorBatch::default() };
    for (sequence, &(price, values)) in (1..).zip(steps) {
        let key = Key { frontier: Timestamp::from_nanos(9), source: SourceId(0), sequence };
        batch.rows.push(FactorRow { key, symbol: SymbolId(0), is_boundary: false, price });
        batch.values.extend(values);
    }
    batch
}

fn signals(engine: &mut StrategyEngine, batch: &FactorBatch) -> Vec<Signal> {
    let mut signals = Vec::new();
    engine.on_batch(batch, 0..batch.rows.len(), &mut signals);
    signals
}

/// Row numbers and sides.
fn sides(engine: &mut StrategyEngine, batch: &FactorBatch) -> Vec<(u64, Side)> {
    signals(engine, batch).iter().map(|signal| (signal.id.key.sequence, signal.side)).collect()
}

/// Prices against a mean of 100 and a deviation of 1.
fn prices(prices: &[f64]) -> FactorBatch {
    let steps: Vec<_> = prices.iter().map(|&price| (price, [100.0, 1.0])).collect();
    rows(&BANDS, &steps)
}

/// The same after so many changes.
fn prices_after(version: u64, list: &[f64]) -> FactorBatch {
    FactorBatch { layout: layout(version, &BANDS), ..prices(list) }
}

#[test]
fn a_price_that_crosses_a_band_signals_once() {
    let mut engine = engine(&[spec("bollinger_reversion", &[("lots", 3.0)])], &BANDS);
    let batch = prices(&[100.0, 97.9, 97.0, 98.5, 97.5, 102.1, 103.0, 97.0, 101.0]);
    let found = signals(&mut engine, &batch);
    let rows: Vec<_> = found.iter().map(|it| (it.id.key.sequence, it.side)).collect();
    let (buy, sell) = (Side::Buy, Side::Sell);
    assert_eq!(rows, [(2, buy), (5, buy), (6, sell), (8, buy)]);
    assert!(found.iter().all(|signal| signal.lots == 3 && !signal.reduce_only));
    let counts: Vec<_> = engine.counts().collect();
    assert_eq!(counts, [StrategyCounts { rows: 9, signals: 4 }]);
}

#[test]
fn a_price_on_the_band_is_inside_whichever_way_it_was_rounded() {
    let mut engine = engine(&[spec("bollinger_reversion", &[])], &BANDS);
    let steps = [
        (100.0, [100.0, 1.0]),
        (98.0, [100.0, 1.0]),
        (98.0, [100.000_000_000_000_03, 1.0]),
        (98.0, [100.0, 1.0 - 1e-12]),
        (102.0, [100.0, 1.0 - 1e-12]),
        // A market that stands still has no band to cross.
        (100.0, [100.0, 0.0]),
        (100.0, [100.000_000_000_000_03, 0.0]),
    ];
    assert_eq!(sides(&mut engine, &rows(&BANDS, &steps)), []);
}

#[test]
fn the_first_known_row_is_no_crossing() {
    let mut engine = engine(&[spec("bollinger_reversion", &[])], &BANDS);
    let unknown = [f64::NAN; 2];
    let steps = [(100.0, unknown), (97.0, unknown), (97.0, [100.0, 1.0]), (96.0, [100.0, 1.0])];
    assert_eq!(sides(&mut engine, &rows(&BANDS, &steps)), []);
}

#[test]
fn a_fast_average_that_overtakes_the_slow_one_buys_and_sells_when_it_falls_behind() {
    let mut engine = engine(&[spec("ema_crossing", &[])], &["ema(12)", "ema(26)"]);
    let steps = [
        (100.0, [f64::NAN, f64::NAN]),
        (100.0, [100.0, f64::NAN]),
        (100.0, [100.0, 100.0]), // equal from the start: no side yet
        (100.0, [99.0, 100.0]),  // the first side is no crossing
        (100.0, [100.0, 100.0]),
        (100.0, [100.000_000_000_01, 100.0]), // equal but for rounding
        (100.0, [101.0, 100.0]),
        (100.0, [102.0, 100.0]),
        (100.0, [99.0, 100.0]),
    ];
    assert_eq!(
        sides(&mut engine, &rows(&["ema(12)", "ema(26)"], &steps)),
        [(7, Side::Buy), (9, Side::Sell)]
    );
}

#[test]
fn a_strategy_on_windows_looks_at_closing_windows_only() {
    let windows = spec("bollinger_reversion", &[("window_s", 60.0)]);
    let texts = ["bollinger_middle(20)@60s", "deviation(20)@60s"];
    let mut engine = engine(&[windows], &texts);
    let mut batch = prices(&[100.0, 100.0, 97.0, 97.0]);
    batch.layout = layout(0, &texts);
    batch.rows[1].is_boundary = true;
    batch.rows[3].is_boundary = true;
    assert_eq!(sides(&mut engine, &batch), [(4, Side::Buy)]);
}

#[test]
fn signals_of_one_row_are_told_apart_by_symbol_and_strategy() {
    let both = [spec("bollinger_reversion", &[]), spec("bollinger_reversion", &[("width", 1.0)])];
    let mut engine = engine(&both, &BANDS);
    let mut batch = prices(&[100.0, 100.0, 97.0, 97.0]);
    for (row, symbol) in batch.rows.iter_mut().zip([7, 0, 7, 0]) {
        (row.symbol, row.key.sequence) = (SymbolId(symbol), 1);
    }
    let found = signals(&mut engine, &batch);
    let ordinals: Vec<_> = found.iter().map(|it| (it.id.ordinal, it.strategy.0)).collect();
    assert_eq!(ordinals, [(7 << 8, 0), (7 << 8 | 1, 1), (0, 0), (1, 1)]);
}

#[test]
fn two_sources_of_one_symbol_feed_one_strategy() {
    let mut engine = engine(&[spec("bollinger_reversion", &[])], &BANDS);
    engine.define(SourceId(3), &definition(5, "B.SPOT")).unwrap();
    let mut batch = prices(&[100.0, 97.0, 96.0]);
    (batch.rows[1].key.source, batch.rows[1].symbol) = (SourceId(3), SymbolId(5));
    let found = signals(&mut engine, &batch);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id.key.source, found[0].symbol), (SourceId(3), SymbolId(5)));
    assert_eq!(found[0].id.ordinal, 5 << 8);
}

#[test]
fn a_strategy_limited_to_some_symbols_never_sees_the_others() {
    let free = spec("bollinger_reversion", &[]);
    let limited = StrategySpec { symbols: vec!["A.*".into(), "C".into()], ..free.clone() };
    let mut engine = engine(&[limited, free], &BANDS);
    let mut batch = prices(&[100.0, 100.0, 97.0, 97.0]);
    for (row, symbol) in batch.rows.iter_mut().zip([0, 7, 0, 7]) {
        row.symbol = SymbolId(symbol);
    }
    let who = |signals: &[Signal]| -> Vec<(u32, u16)> {
        signals.iter().map(|signal| (signal.id.ordinal, signal.strategy.0)).collect()
    };
    // A.SPOT is number 7; the second strategy keeps its number though the first does not trade B.SPOT.
    assert_eq!(who(&signals(&mut engine, &batch)), [(1, 1), (7 << 8, 0), (7 << 8 | 1, 1)]);
    assert_eq!(engine.counts().map(|counts| counts.rows).collect::<Vec<_>>(), [2, 4]);
    engine.change(&[change(0, "lots", 3.0)], &layout(1, &BANDS)).unwrap();
    let snapshot = engine.snapshot();
    engine.restore(snapshot.clone()).unwrap();
    assert_eq!(engine.snapshot(), snapshot);
}

#[test]
fn a_change_of_width_holds_from_the_next_row_and_gives_no_signal_by_itself() {
    let mut engine = engine(&[spec("bollinger_reversion", &[("lots", 2.0)])], &BANDS);
    assert_eq!(sides(&mut engine, &prices(&[100.0, 98.5])), []);
    engine.change(&[change(0, "width", 1.0)], &layout(1, &BANDS)).unwrap();
    let found = signals(&mut engine, &prices_after(1, &[98.5, 100.0, 98.5]));
    let rows: Vec<_> = found.iter().map(|it| (it.id.key.sequence, it.lots)).collect();
    assert_eq!(rows, [(3, 2)]);
    let (_, parameters) = engine.parameters().next().unwrap();
    assert_eq!(parameters, [("period", 20.0), ("width", 1.0), ("lots", 2.0), ("window_s", 0.0)]);
}

#[test]
fn a_change_of_lots_does_not_forget_where_the_price_was() {
    let mut engine = engine(&[spec("bollinger_reversion", &[])], &BANDS);
    assert_eq!(sides(&mut engine, &prices(&[100.0])), []);
    engine.change(&[change(0, "lots", 9.0)], &layout(1, &BANDS)).unwrap();
    assert_eq!(signals(&mut engine, &prices_after(1, &[97.0]))[0].lots, 9);
}

#[test]
fn changes_that_need_other_factors_hold_with_a_layout_that_has_them() {
    let both = [spec("bollinger_reversion", &[]), spec("ema_crossing", &[])];
    let before = ["bollinger_middle(20)", "deviation(20)", "ema(12)", "ema(26)"];
    let mut engine = engine(&both, &before);
    let changes = [change(0, "period", 25.0), change(1, "fast", 9.0), change(0, "period", 30.0)];
    let mut needs = StrategyNeeds::new(&StrategyRegistry::new(), &both).unwrap();
    changes.iter().for_each(|change| needs.change(change).unwrap());
    let after = ["bollinger_middle(30)", "deviation(30)", "ema(9)", "ema(26)"];
    assert_eq!(needs.factors().cloned().collect::<Vec<_>>(), columns(&after));

    let error = |engine: &mut StrategyEngine, version, texts: &[&str]| {
        engine.change(&changes, &layout(version, texts)).unwrap_err().to_string()
    };
    assert_eq!(
        error(&mut engine, 3, &before),
        "strategy `bollinger_reversion` needs factor `bollinger_middle(30)`, which is not computed"
    );
    assert_eq!(
        error(&mut engine, 2, &after),
        "rows have layout 2, after the changes it should be 3"
    );
    assert_eq!(engine.layout_version(), 0);
    engine.change(&changes, &layout(3, &after)).unwrap();
    assert_eq!(engine.parameters().next().unwrap().1[0], ("period", 30.0));
    let steps = [(100.0, [100.0, 1.0, 99.0, 100.0]), (97.0, [100.0, 1.0, 101.0, 100.0])];
    let batch = FactorBatch { layout: layout(3, &after), ..rows(&after, &steps) };
    let who: Vec<_> = signals(&mut engine, &batch).iter().map(|it| it.strategy.0).collect();
    assert_eq!(who, [0, 1]);
}

#[test]
#[should_panic(expected = "rows have the layout strategies know")]
fn rows_of_another_layout_are_not_taken_for_known_ones() {
    let mut engine = engine(&[spec("bollinger_reversion", &[])], &BANDS);
    signals(&mut engine, &prices_after(1, &[100.0]));
}

#[test]
fn a_period_that_was_away_for_no_row_at_all_begins_anew() {
    // Another shard may have had rows between the two changes; this symbol must not notice.
    let mut engine = engine(&[spec("bollinger_reversion", &[])], &BANDS);
    assert_eq!(sides(&mut engine, &prices(&[100.0])), []);
    let there_and_back = [change(0, "period", 30.0), change(0, "period", 20.0)];
    engine.change(&there_and_back, &layout(2, &BANDS)).unwrap();
    assert_eq!(sides(&mut engine, &prices_after(2, &[97.0])), []);
}

#[test]
fn a_strategy_that_cannot_run_is_refused_by_name() {
    let error = |spec: StrategySpec| {
        let layout = layout(0, &BANDS);
        StrategyEngine::new(&StrategyRegistry::new(), &[spec], &layout).unwrap_err().to_string()
    };
    assert_eq!(
        error(spec("bolinger", &[])),
        "there is no strategy `bolinger`; there are: bollinger_reversion, ema_crossing"
    );
    for (name, value) in
        [("width", 0.0), ("width", -1.0), ("period", 1.0), ("lots", 0.0), ("lots", 1.5), ("x", 1.0)]
    {
        let message = error(spec("bollinger_reversion", &[(name, value)]));
        assert!(message.starts_with("strategy `bollinger_reversion`"), "{message}");
    }
    assert!(error(spec("ema_crossing", &[("fast", 26.0)])).starts_with("strategy `ema_crossing`"));
    let many = vec![spec("bollinger_reversion", &[]); 257];
    let registry = StrategyRegistry::new();
    let found = StrategyEngine::new(&registry, &many, &layout(0, &BANDS)).unwrap_err();
    assert_eq!(found, StrategyError::TooMany { count: 257 });
    assert!(StrategyEngine::new(&registry, &many[..256], &layout(0, &BANDS)).is_ok());
}

#[test]
fn a_snapshot_of_other_strategies_is_refused_and_changes_nothing() {
    let crossing = engine(&[spec("ema_crossing", &[])], &["ema(12)", "ema(26)"]);
    let mut reversion = engine(&[spec("bollinger_reversion", &[])], &BANDS);
    let before = reversion.snapshot();
    let error = reversion.restore(crossing.snapshot()).unwrap_err();
    assert!(matches!(error, StrategyError::Snapshot { .. }));
    assert_eq!(reversion.snapshot(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Invariants 1 and 2.
    #[test]
    fn neither_batches_nor_restarts_show_in_the_signals(
        steps in prop::collection::vec((-4i32..=4, -2i32..=2, any::<bool>()), 1..80),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let texts = ["ema(12)", "bollinger_middle(20)", "ema(26)", "deviation(20)"];
        let specs = [spec("ema_crossing", &[]), spec("bollinger_reversion", &[])];
        let values: Vec<_> = steps
            .iter()
            .map(|&(price, lead, _)| {
                (100.0 + f64::from(price), [100.0 + f64::from(lead), 100.0, 100.0, 1.0])
            })
            .collect();
        let mut batch = rows(&texts, &values);
        batch.layout = layout(1, &texts);
        for (row, &(_, _, is_other)) in batch.rows.iter_mut().zip(&steps) {
            row.symbol = SymbolId(if is_other { 7 } else { 0 });
        }
        let mut whole = engine(&specs, &texts);
        let width = [change(1, "width", 3.0)];
        whole.change(&width, &layout(1, &texts)).unwrap();
        let expected = signals(&mut whole, &batch);

        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(steps.len())).collect();
        cuts.sort_unstable();
        cuts.push(steps.len());
        let mut running = engine(&specs, &texts);
        running.change(&width, &layout(1, &texts)).unwrap();
        let (mut found, mut from) = (Vec::new(), 0);
        for cut in cuts {
            running.on_batch(&batch, from..cut, &mut found);
            from = cut;
            let config = bincode::config::standard();
            let bytes = bincode::serde::encode_to_vec(running.snapshot(), config).unwrap();
            let snapshot = bincode::serde::decode_from_slice(&bytes, config).unwrap().0;
            // Configured as at the start: the parameters of the snapshot hold.
            let registry = StrategyRegistry::new();
            running = StrategyEngine::new(&registry, &specs, &layout(0, &texts)).unwrap();
            running.restore(snapshot).unwrap();
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(running.counts().collect::<Vec<_>>(), whole.counts().collect::<Vec<_>>());
    }
}
