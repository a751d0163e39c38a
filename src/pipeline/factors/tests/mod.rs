mod against_naive;
mod against_ta;
mod engine;

use std::sync::Arc;

use super::*;
use crate::domain::{
    Definition, FactorBatch, FactorSpec, Instruments, Key, Kind, SourceId, Symbol, SymbolId, Tick,
    TickBatch, Timestamp, has,
};

/// One of the built-in instruments' price and quantity steps: eight decimals.
const ONE: i64 = 100_000_000;

const SECOND: u64 = 1_000_000_000;

fn specs(texts: &[&str]) -> Vec<FactorSpec> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn engine(texts: &[&str]) -> FactorEngine {
    let registry = FactorRegistry::new();
    FactorEngine::new(FactorConfig::default(), &registry, &specs(texts)).unwrap()
}

fn definition(id: u32, name: &str) -> Definition {
    let instrument = Instruments::default().resolve(&Symbol::new(name).unwrap());
    Definition { id: SymbolId(id), instrument: Arc::new(instrument) }
}

fn trade(symbol: u32, price: i64, volume: i64) -> Tick {
    Tick {
        symbol,
        price,
        volume,
        has: has::PRICE | has::VOLUME,
        kind: Kind::Trade as u8,
        ..Tick::default()
    }
}

fn boundary() -> Tick {
    Tick { kind: Kind::Boundary as u8, ..Tick::default() }
}

/// A stream of one source. Rows are given with their frontier in nanoseconds.
fn stream(source: u16, rows: impl IntoIterator<Item = (u64, Tick)>) -> TickBatch {
    let source = SourceId(source);
    let mut batch = TickBatch { source, ..TickBatch::default() };
    for (sequence, (frontier, tick)) in (1..).zip(rows) {
        let key = Key { frontier: Timestamp::from_nanos(frontier), source, sequence };
        assert!(batch.push(key, tick));
    }
    batch
}

/// One trade of one unit a second at each of `prices`, in steps.
fn trades(prices: &[i64]) -> TickBatch {
    stream(0, (1..).map(|second| second * SECOND).zip(prices.iter().map(|&p| trade(0, p, ONE))))
}

/// The values of each column, row by row, of an engine that saw all of `batch`.
fn run(texts: &[&str], batch: &TickBatch) -> FactorBatch {
    let mut engine = engine(texts);
    engine.define(batch.source, &definition(0, "BTCUSDT.BINANCE_SPOT"));
    let mut out = FactorBatch::default();
    engine.on_rows(batch, 0..batch.rows.len(), &mut out);
    out
}

fn is_close(found: f64, expected: f64, relative: f64, absolute: f64) -> bool {
    (found.is_nan() && expected.is_nan())
        || (found - expected).abs() <= relative * expected.abs() + absolute
}
