//! The cleaner refuses what the simulator spoiled, for the right reason, and nothing else.

use std::sync::Arc;

use tickwright_core::domain::{
    Definition, Instruments, Key, RawTick, SourceId, SymbolId, Timestamp,
};
use tickwright_core::pipeline::clean::{CleanRules, Cleaner, Reason};
use tickwright_core::pipeline::simulator::{Simulator, SimulatorConfig};

/// Every verdict on `rows` rows of `symbols` symbols is compared with what was injected, row by row.
fn compare(symbols: usize, rows: u64, dirt_per_million: u32, seed: u64) {
    let standard = SimulatorConfig::standard(symbols, &Instruments::default());
    let config = SimulatorConfig { rows: Some(rows), dirt_per_million, ..standard };
    let mut simulator = Simulator::new(config, seed);
    let mut cleaner = Cleaner::new(CleanRules::default());
    for (id, symbol) in (0..).map(SymbolId).zip(simulator.symbols()) {
        cleaner.define(&Definition { id, instrument: Arc::new(symbol.instrument().clone()) });
    }
    let (mut frontier, mut sequence) = (Timestamp::default(), 0);
    for row in simulator.by_ref() {
        frontier = frontier.max(Timestamp::from_nanos(row.tick.event_time));
        sequence += 1;
        let symbol = u32::try_from(row.symbol).expect("few symbols");
        let key = Key { frontier, source: SourceId(0), sequence };
        let verdict = cleaner.clean(key, &RawTick { symbol, ..row.tick });
        let found = verdict.err().map(Reason::code);
        assert_eq!(found, row.dirt.map(|dirt| dirt.name()), "row {sequence}: {row:?}");
    }
    let totals = cleaner.totals();
    assert_eq!(totals.rows(), rows);
    assert_eq!(totals.rejected_total(), simulator.injected().total());
    for (dirt, count) in simulator.injected().iter() {
        let reason = Reason::ALL.into_iter().find(|reason| reason.code() == dirt.name());
        let reason = reason.expect("dirt is named after a reason");
        assert_eq!(totals.rejected_for(reason), count, "{dirt:?}");
        assert_eq!(count > 0, dirt_per_million > 0, "{dirt:?}");
    }
    assert_eq!(totals.noted.iter().sum::<u64>(), 0, "nothing remarkable about clean rows");
}

#[test]
fn the_cleaners_counts_are_the_injected_counts() {
    compare(20, 300_000, 10_000, 1);
}

#[test]
fn a_market_without_dirt_passes_whole() {
    compare(20, 100_000, 0, 2);
}

#[test]
fn as_much_dirt_as_fits_is_still_told_from_the_market() {
    compare(7, 200_000, 1_000_000, 3);
}
