//! The engine: columns, windows, sources, snapshots.

use proptest::prelude::*;

use super::*;
use crate::domain::{FactorLayout, FactorRow, Snapshot};

/// Every built-in factor, on ticks and on windows.
const ALL: [&str; 20] = [
    "bollinger_lower(5,2)",
    "bollinger_middle(5)",
    "bollinger_upper(5,2)",
    "z_score(5)",
    "ema(4)",
    "macd_line(2,4,3)",
    "macd_signal(2,4,3)",
    "macd_histogram(2,4,3)",
    "rsi(4)",
    "atr(4)",
    "vwap(3)",
    "realised_volatility(4)",
    "imbalance",
    "sma(3)@60s",
    "deviation(3)@60s",
    "atr(2)@60s",
    "vwap(1)@60s",
    "vwap(1)@20s",
    "ema(2)@30s",
    "imbalance@60s",
];

/// A row of a made-up stream: its kind, symbol, price and volume, and how many seconds after the one
/// before.
type Event = (u8, u32, i64, i64, u64);

fn events() -> impl proptest::strategy::Strategy<Value = Vec<Event>> {
    let seconds = prop_oneof![6 => 0u64..4, 2 => 4u64..30, 1 => 60u64..200];
    prop::collection::vec((0u8..3, 0u32..3, 900i64..1_100, 0i64..5, seconds), 1..120)
}

/// The clean stream of `events` with a boundary at each step of 10 s, at most seven over a gap.
fn clean(source: u16, events: &[Event]) -> TickBatch {
    let (mut now, mut step) = (0u64, 0u64);
    let mut rows = Vec::new();
    for &(kind, symbol, price, volume, seconds) in events {
        now += seconds * SECOND;
        let reached = now / (10 * SECOND);
        for closing in (step + 1).max(reached.saturating_sub(6))..=reached {
            rows.push((closing * 10 * SECOND, boundary()));
        }
        step = reached;
        let mut row = trade(symbol, price * ONE, volume * ONE);
        row.kind = kind;
        if kind != Kind::Trade as u8 {
            row.has |= has::BID | has::ASK | has::BID_QUANTITY | has::ASK_QUANTITY;
            (row.bid, row.ask) = ((price - 1) * ONE, (price + 1) * ONE);
            (row.bid_quantity, row.ask_quantity) = (volume * ONE, ONE);
        }
        rows.push((now, row));
    }
    stream(source, rows)
}

fn define_all(engine: &mut FactorEngine, source: u16) {
    for (id, name) in (0..).zip(["B.BINANCE_SPOT", "A.CFFEX", "C.SOMEWHERE"]) {
        engine.define(SourceId(source), &definition(id, name));
    }
}

/// Rows and the bits of their values: `NAN` equals `NAN`.
fn bits(out: &FactorBatch) -> (Vec<FactorRow>, Vec<u64>) {
    (out.rows.clone(), out.values.iter().map(|value| value.to_bits()).collect())
}

fn stored(snapshot: &FactorSnapshot) -> Vec<u8> {
    bincode::serde::encode_to_vec(snapshot, bincode::config::standard()).unwrap()
}

fn loaded(bytes: &[u8]) -> FactorSnapshot {
    bincode::serde::decode_from_slice(bytes, bincode::config::standard()).unwrap().0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Invariants 1 and 2.
    #[test]
    fn neither_batches_nor_restarts_show_in_the_values(
        events in events(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let batch = clean(0, &events);
        let mut whole = engine(&ALL);
        define_all(&mut whole, 0);
        let mut expected = FactorBatch::default();
        whole.on_rows(&batch, 0..batch.rows.len(), &mut expected);

        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(batch.rows.len())).collect();
        cuts.sort_unstable();
        cuts.push(batch.rows.len());
        let mut running = engine(&ALL);
        define_all(&mut running, 0);
        let (mut out, mut from) = (FactorBatch::default(), 0);
        for cut in cuts {
            running.on_rows(&batch, from..cut, &mut out);
            from = cut;
            let snapshot = stored(&running.snapshot());
            // The restored engine had other columns before: those of the snapshot hold.
            let mut restored = engine(&["sma(9)"]);
            restored.restore(loaded(&snapshot)).unwrap();
            prop_assert_eq!(stored(&restored.snapshot()), snapshot);
            running = restored;
        }
        prop_assert_eq!(bits(&out), bits(&expected));
        prop_assert_eq!(running.counts(), whole.counts());
    }

    /// Invariant 3, and that a row belongs to the pane in which it comes.
    #[test]
    fn a_window_is_what_came_between_its_boundaries(events in events()) {
        let batch = clean(0, &events);
        let mut engine = engine(&["vwap(1)@60s", "atr(1)@60s"]);
        define_all(&mut engine, 0);
        let mut out = FactorBatch::default();
        engine.on_rows(&batch, 0..batch.rows.len(), &mut out);

        // By text: A is 1, B is 0, C is 2.
        let mut expected: Vec<(Key, u32, f64, f64, f64)> = Vec::new();
        let mut closes = [None::<f64>; 3];
        let mut vwaps = [f64::NAN; 3];
        let rows = &batch.rows;
        let is_boundary = |row: &Tick| row.kind == Kind::Boundary as u8;
        for (place, closing) in rows.iter().enumerate().filter(|(_, row)| is_boundary(row)) {
            let step = batch.frontier(closing).as_nanos();
            for (symbol, id) in [(1, 1u32), (0, 0), (2, 2)] {
                // The first boundary after a row says which pane the row is in.
                let within = |&at: &usize| {
                    let pane = rows[at..place + 1].iter().find(|row| is_boundary(row)).unwrap();
                    batch.frontier(pane).as_nanos() + 60 * SECOND > step
                };
                let moves: Vec<(f64, f64)> = moves_of(&rows[..place], id)
                    .into_iter()
                    .filter(|(at, ..)| within(at))
                    .map(|(_, price, volume)| (price, volume))
                    .collect();
                let Some(&(last, _)) = moves.last() else { continue };
                let volume: f64 = moves.iter().map(|(_, volume)| volume).sum();
                if volume > 0.0 {
                    vwaps[symbol] = moves.iter().map(|(p, v)| p * v).sum::<f64>() / volume;
                }
                let prices = moves.iter().map(|&(price, _)| price).chain(closes[symbol]);
                let (low, high) = prices.fold((f64::MAX, 0f64), |(low, high), price| {
                    (low.min(price), high.max(price))
                });
                let range = if closes[symbol].is_some() { high - low } else { f64::NAN };
                closes[symbol] = Some(last);
                expected.push((batch.key(closing), id, last, vwaps[symbol], range));
            }
        }
        let closed: Vec<usize> =
            (0..out.rows.len()).filter(|&row| out.rows[row].is_boundary).collect();
        prop_assert_eq!(closed.len(), expected.len());
        for (row, (key, symbol, price, vwap, range)) in closed.into_iter().zip(expected) {
            let found = out.rows[row];
            prop_assert_eq!((found.key, found.symbol.0, found.price), (key, symbol, price));
            prop_assert!(is_close(out.values_of(row)[0], vwap, 1e-12, 0.0));
            prop_assert!(is_close(out.values_of(row)[1], range, 0.0, 1e-12));
        }
    }
}

/// Place, price and volume of the rows that move `symbol` of [`define_all`].
fn moves_of(rows: &[Tick], symbol: u32) -> Vec<(usize, f64, f64)> {
    let mut last = 0;
    let mut moves = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let is_quote = row.kind == Kind::Quote as u8;
        if row.kind == Kind::Boundary as u8 || row.symbol != symbol {
            continue;
        }
        let is_mid = is_quote && symbol == 2 && last == 0;
        let is_new = row.kind == Kind::Trade as u8 || row.volume > 0 || row.price != last;
        if is_mid {
            moves.push((at, (row.price / ONE) as f64, 0.0));
        } else if !is_quote && is_new {
            last = row.price;
            moves.push((at, (row.price / ONE) as f64, (row.volume / ONE) as f64));
        }
    }
    moves
}

#[test]
fn two_sources_of_one_symbol_feed_one_state_and_close_each_window_once() {
    let mut engine = engine(&["sma(2)", "vwap(1)@60s"]);
    engine.define(SourceId(0), &definition(0, "BTCUSDT.SPOT"));
    engine.define(SourceId(1), &definition(0, "ETHUSDT.SPOT"));
    engine.define(SourceId(1), &definition(1, "BTCUSDT.SPOT"));
    let step = 10 * SECOND;
    let first = stream(0, [(1, trade(0, 100 * ONE, ONE)), (step, boundary())]);
    let second = stream(1, [(2, trade(1, 102 * ONE, ONE)), (step, boundary())]);
    let mut out = FactorBatch::default();
    engine.on_rows(&first, 0..1, &mut out);
    engine.on_rows(&second, 0..1, &mut out);
    engine.on_rows(&first, 1..2, &mut out);
    engine.on_rows(&second, 1..2, &mut out);
    let rows: Vec<_> = out.rows.iter().map(|row| (row.key.source.0, row.symbol.0)).collect();
    assert_eq!(rows, [(0, 0), (1, 1), (0, 0)]);
    assert_eq!(out.values_of(1)[0], 101.0);
    assert_eq!(out.values_of(2), [101.0, 101.0]);
    assert_eq!(engine.counts(), FactorCounts { rows: 4, factors: 2 });
}

#[test]
fn a_shorter_window_forgets_earlier_than_a_longer_one() {
    let at = |seconds: u64| seconds * SECOND;
    let batch = stream(
        0,
        [
            (at(1), trade(0, 100 * ONE, ONE)),
            (at(10), boundary()),
            (at(11), trade(0, 300 * ONE, ONE)),
            (at(20), boundary()),
            (at(30), boundary()),
        ],
    );
    let out = run(&["vwap(1)@20s", "vwap(1)@60s"], &batch);
    let closed: Vec<&[f64]> = [1, 3, 4].map(|row| out.values_of(row)).into();
    assert_eq!(closed, [[100.0, 100.0], [200.0, 200.0], [300.0, 200.0]]);
}

#[test]
fn numbers_of_symbols_do_not_show_in_values_or_in_the_order_of_windows() {
    let names = ["B.SPOT", "A.SPOT", "C.SPOT"];
    let texts = |ids: [u32; 3]| {
        let mut engine = engine(&["vwap(1)@60s"]);
        for (id, name) in ids.into_iter().zip(names) {
            engine.define(SourceId(0), &definition(id, name));
        }
        let trades = (100..).zip(ids).map(|(price, id)| (1, trade(id, price * ONE, ONE)));
        let batch = stream(0, trades.chain([(10 * SECOND, boundary())]));
        let mut out = FactorBatch::default();
        engine.on_rows(&batch, 0..4, &mut out);
        let name = |row: &FactorRow| {
            names[ids.iter().position(|&id| id == row.symbol.0).unwrap()].to_owned()
        };
        let closed = out.rows.iter().filter(|row| row.is_boundary);
        closed.map(|row| (name(row), row.price)).collect::<Vec<_>>()
    };
    let expected = [("A.SPOT", 101.0), ("B.SPOT", 100.0), ("C.SPOT", 102.0)];
    let expected: Vec<_> = expected.map(|(name, price)| (name.to_owned(), price)).into();
    assert_eq!(texts([0, 1, 2]), expected);
    assert_eq!(texts([7, 3, 5]), expected);
}

#[test]
fn quotes_of_a_traded_symbol_show_in_its_imbalance_but_give_no_row() {
    let mut quote = Tick { kind: Kind::Quote as u8, ..Tick::default() };
    quote.has = has::BID | has::ASK | has::BID_QUANTITY | has::ASK_QUANTITY;
    (quote.bid, quote.ask, quote.bid_quantity, quote.ask_quantity) = (99, 101, 3, 1);
    let batch = stream(0, [(1, quote), (2, trade(0, 100, 1))]);
    let out = run(&["imbalance"], &batch);
    assert_eq!(out.rows.len(), 1);
    assert_eq!(out.rows[0].key.sequence, 2);
    assert_eq!(out.values, [0.5]);
}

#[test]
fn equal_columns_are_one_and_columns_of_one_family_share_its_state() {
    let engine = engine(&[
        "bollinger_lower(20,2)",
        "bollinger_lower",
        "bollinger_lower(width=2)",
        "bollinger_upper",
        "sma(20)",
        "z_score",
        "sma(20)@60s",
    ]);
    let columns: Vec<String> = engine.layout().columns.iter().map(ToString::to_string).collect();
    let expected =
        ["bollinger_lower(20,2)", "bollinger_upper(20,2)", "sma(20)", "z_score(20)", "sma(20)@60s"];
    assert_eq!(columns, expected);
    let registry = FactorRegistry::new();
    let plan =
        plan::Plan::new(&FactorConfig::default(), &registry, &engine.layout().columns).unwrap();
    assert_eq!(plan.families.len(), 2);
    assert_eq!(plan.tick_count, 1);
}

#[test]
fn a_factor_that_cannot_be_computed_is_refused_by_name() {
    let error = |text: &str| {
        let registry = FactorRegistry::new();
        FactorEngine::new(FactorConfig::default(), &registry, &specs(&[text]))
            .unwrap_err()
            .to_string()
    };
    assert!(error("smaa(20)").starts_with("there is no factor `smaa`; there are: atr, "));
    assert!(error("sma(0)").contains("`sma(0)`"));
    assert!(error("sma(2.5)").contains("`sma(2.5)`"));
    assert!(error("macd_line(26,12,9)").contains("`macd_line(26,12,9)`"));
    assert!(error("bollinger_lower(20,0)").contains("`bollinger_lower(20,0)`"));
    for window in ["sma@15s", "sma@70s", "sma@0s"] {
        assert!(error(window).contains("a multiple of 10000 ms, at most 60000 ms"), "{window}");
    }
}

#[test]
fn columns_change_while_running_and_those_that_stay_keep_their_state() {
    let prices: Vec<i64> = (0..40).map(|row| (100 + row * row % 17) * ONE).collect();
    let batch = trades(&prices);
    let expected = run(&["sma(5)"], &batch);
    let mut engine = engine(&["ema(9)", "sma(5)"]);
    engine.define(SourceId(0), &definition(0, "BTCUSDT.BINANCE_SPOT"));
    engine.on_rows(&batch, 0..20, &mut FactorBatch::default());
    engine.set_specs(&specs(&["sma(5)", "sma(3)"])).unwrap();
    let mut out = FactorBatch::default();
    engine.on_rows(&batch, 20..40, &mut out);
    for row in 0..20 {
        assert_eq!(out.values_of(row)[0], expected.values_of(20 + row)[0]);
        assert_eq!(out.values_of(row)[1].is_nan(), row < 2, "row {row}");
    }
    assert!(engine.set_specs(&specs(&["nonsense"])).is_err());
    let layout = FactorLayout { version: 1, columns: specs(&["sma(5)", "sma(3)"]) };
    assert_eq!((&**engine.layout(), &*out.layout), (&layout, &layout));
    let mut restored = super::engine(&["ema(9)"]);
    restored.restore(engine.snapshot()).unwrap();
    assert_eq!(**restored.layout(), layout);
}

#[test]
fn a_snapshot_of_something_else_is_refused_and_changes_nothing() {
    /// A factor that remembers nothing, and says so.
    struct Nothing;
    impl Factor for Nothing {
        fn update(&mut self, _input: &FactorInput<'_>) -> Option<f64> {
            None
        }
    }
    impl Snapshot for Nothing {
        fn snapshot(&self) -> Vec<u8> {
            vec![1]
        }
        fn restore(&mut self, _bytes: &[u8]) -> Result<(), String> {
            Err("nothing can be restored".to_owned())
        }
    }
    let mut registry = FactorRegistry::new();
    registry.register("nothing", &[], |_| Ok(Box::new(Nothing)));
    let config = FactorConfig::default();
    let mut engine = FactorEngine::new(config, &registry, &specs(&["nothing"])).unwrap();
    engine.define(SourceId(0), &definition(0, "A.SPOT"));
    let snapshot = engine.snapshot();
    let error = engine.restore(snapshot.clone()).unwrap_err().to_string();
    assert!(error.contains("A.SPOT: nothing can be restored"), "{error}");
    let mut other = super::engine(&["sma(5)"]);
    assert!(matches!(other.restore(snapshot), Err(FactorError::Unknown { .. })));
    assert_eq!(other.layout().columns, specs(&["sma(5)"]));
}
