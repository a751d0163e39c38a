//! A market made of a seed: many symbols of several classes, with books, trends, jumps and dirt.
//!
//! It is what runs when no file is given, and what tests measure the cleaner with. Every symbol
//! has its own random stream, named by its symbol, so another symbol more or less changes nothing
//! about the others' rows. The price is a random walk with changing volatility round an anchor that
//! trends and jumps; its feed speaks of it as the feeds of its class do:
//!
//! | Class               | Rows                                                                 |
//! |---------------------|----------------------------------------------------------------------|
//! | crypto              | trades and quotes with ids; spot quotes carry the receive time only  |
//! | US shares           | trades without ids; quotes of one side, by one of four exchanges     |
//! | CN shares, futures  | a snapshot every half second of a session, with the day's volume     |
//! | FX                  | quotes without sizes                                                 |
//!
//! Some rows are followed by an extra one that is wrong in one known way ([`DirtKind`]); the market
//! does not notice. What was injected is counted.
//!
//! # Invariants
//!
//! 1. Rows depend on configuration and seed alone. A simulator restored from its state after any
//!    row goes on with the same rows.
//! 2. Event times of clean rows never fall, and those of one symbol always rise.
//! 3. A clean row has prices on the grid, volume and sizes that are not negative, and a bid below
//!    its ask by far less than a tenth.
//! 4. The injected counts are exactly the rows that carry a [`DirtKind`].

mod dirt;
mod market;
mod random;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

pub use dirt::{DirtCounts, DirtKind};
use market::{Feed, Market};

use crate::domain::{Instrument, Instruments, Price, RawTick, Symbol, Timestamp, decimal};

/// Symbols of the standard market; see [`SimulatorConfig::standard`].
const STANDARD: [(&str, &str); 20] = [
    ("BTCUSDT.BINANCE_SPOT", "61800"),
    ("BTCUSDT.BINANCE_USDM", "61810"),
    ("IBM.US", "189"),
    ("IF2409.CFFEX", "3340"),
    ("EURUSD.FXCM", "1.0918"),
    ("ETHUSDT.BINANCE_SPOT", "2683"),
    ("ETHUSDT.BINANCE_USDM", "2684"),
    ("AAPL.US", "213"),
    ("rb2410.SHFE", "3280"),
    ("GBPUSD.FXCM", "1.2745"),
    ("SOLUSDT.BINANCE_SPOT", "162"),
    ("SOLUSDT.BINANCE_USDM", "162"),
    ("MSFT.US", "402"),
    ("TA409.CZCE", "5610"),
    ("AUDUSD.FXCM", "0.6589"),
    ("LTCUSDT.BINANCE_SPOT", "61"),
    ("AVAXUSDT.BINANCE_USDM", "24"),
    ("KO.US", "69"),
    ("i2409.DCE", "752"),
    ("NZDUSD.OANDA", "0.6012"),
];

/// Clean rows of a symbol before its first dirt: the cleaner has to know what is usual first.
const CLEAN_ROWS_FIRST: u64 = 512;
/// Clean rows of a symbol between two dirty ones, or after a trading day began, so that one cannot
/// lend the other its looks.
const CLEAN_ROWS_BETWEEN: u64 = 32;

/// One symbol of a simulated market.
#[derive(Clone, Debug)]
pub struct SimulatedSymbol {
    /// What it is; its class says what its rows are like.
    instrument: Instrument,
    /// Where its price starts.
    price: Price,
    feed: Feed,
}

impl SimulatedSymbol {
    /// A symbol that starts at `price`, which is brought onto the grid of the instrument's tick
    /// size, and up to a thousand ticks if it is below.
    pub fn new(instrument: Instrument, price: Price) -> Self {
        let tick_size = instrument.tick_size.0.max(1);
        let price = Price((price.0 / tick_size).max(1_000) * tick_size);
        let feed = Feed::of(instrument.class);
        Self { instrument, price, feed }
    }

    /// What it is.
    pub fn instrument(&self) -> &Instrument {
        &self.instrument
    }
}

/// What kind of market to make.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// The symbols, of different names.
    pub symbols: Vec<SimulatedSymbol>,
    /// Rows to make, injected ones included; none means for ever.
    pub rows: Option<u64>,
    /// When the first symbol starts.
    pub start: Timestamp,
    /// Injected rows per million clean ones, of all kinds together, at most. Rows that no kind of
    /// dirt suits, and those soon after another dirty row of the symbol, are left alone.
    pub dirt_per_million: u32,
    /// Rows of each symbol in a second of event time, on average, injected ones not counted, whatever
    /// its class and its sessions; none leaves each class its own. Not 0.
    pub rows_per_second: Option<u32>,
}

impl SimulatorConfig {
    /// The market that `tickwright demo` shows: `count` symbols, the first twenty by familiar names
    /// and from five classes, resolved by `instruments`; ten thousand dirty rows per million.
    pub fn standard(count: usize, instruments: &Instruments) -> Self {
        let symbol = |index: usize| {
            let (name, price) = STANDARD[index % STANDARD.len()];
            let series = index / STANDARD.len();
            let name = if series == 0 { name.to_owned() } else { format!("S{series}_{name}") };
            let name = Symbol::new(&name).expect("made of letters, digits, `_` and `.`");
            let instrument = instruments.resolve(&name);
            let price = decimal::parse(price.as_bytes(), instrument.price_decimals);
            SimulatedSymbol::new(instrument, Price(price.expect("a short decimal")))
        };
        Self {
            symbols: (0..count).map(symbol).collect(),
            rows: Some(1_000_000),
            // Thursday 2024-08-08, 01:30 UTC: exchanges of three continents could be open.
            start: Timestamp::from_nanos(1_723_080_600_000_000_000),
            dirt_per_million: 10_000,
            rows_per_second: None,
        }
    }
}

/// A row, and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulatedRow {
    /// The symbol's place in [`SimulatorConfig::symbols`].
    pub symbol: usize,
    /// The row. Its `symbol` is left 0: the ingester numbers symbols.
    pub tick: RawTick,
    /// What is wrong with it; none for a clean row.
    pub dirt: Option<DirtKind>,
}

/// Everything a simulator remembers; with its configuration, a position to go on from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimulatorState {
    markets: Vec<Market>,
    emitted: u64,
    injected: DirtCounts,
    pending: Option<Pending>,
}

impl SimulatorState {
    /// Rows made so far.
    pub const fn emitted(&self) -> u64 {
        self.emitted
    }
}

/// A dirty row that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Pending {
    symbol: u32,
    dirt: DirtKind,
    /// The bytes of the [`RawTick`].
    words: [u64; size_of::<RawTick>() / 8],
}

/// Why a simulator cannot go on from a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulatorError {
    /// The state is of another configuration.
    #[error("the position is of a market of {found} symbols, the configuration has {wanted}")]
    SymbolCount {
        /// Symbols in the state.
        found: usize,
        /// Symbols in the configuration.
        wanted: usize,
    },
}

/// Makes rows, in order of their event time.
#[derive(Clone, Debug)]
pub struct Simulator {
    config: SimulatorConfig,
    state: SimulatorState,
    /// When each symbol's next row is due, and its index, soonest first. Follows from the state.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    /// Out of 2^32 rows, so many are followed by dirt.
    dirt_threshold: u32,
}

impl Simulator {
    /// A market that starts afresh.
    pub fn new(config: SimulatorConfig, seed: u64) -> Self {
        let start = config.start.as_nanos();
        let has_sessions = config.rows_per_second.is_none();
        let market = |symbol| Market::new(symbol, start, seed, has_sessions);
        let markets = config.symbols.iter().map(market).collect();
        let injected = DirtCounts::default();
        let state = SimulatorState { markets, emitted: 0, injected, pending: None };
        Self::restore(config, state).expect("a market for each symbol")
    }

    /// A market that goes on after the row at which `state` was taken. `config` must be the one that
    /// it was taken under.
    ///
    /// # Errors
    ///
    /// [`SimulatorError`] when `config` has another number of symbols.
    pub fn restore(config: SimulatorConfig, state: SimulatorState) -> Result<Self, SimulatorError> {
        let (found, wanted) = (state.markets.len(), config.symbols.len());
        if found != wanted {
            return Err(SimulatorError::SymbolCount { found, wanted });
        }
        let due = (0..).zip(&state.markets).map(|(index, market)| Reverse((market.due, index)));
        let due = due.collect();
        let threshold = u64::from(config.dirt_per_million.min(1_000_000)) << 32;
        let dirt_threshold = u32::try_from(threshold / 1_000_000).unwrap_or(u32::MAX);
        Ok(Self { config, state, due, dirt_threshold })
    }

    /// Where the simulator stands: what [`Simulator::restore`] needs to go on after the last row.
    pub const fn state(&self) -> &SimulatorState {
        &self.state
    }

    /// The symbols; a row's `symbol` is an index into them.
    pub fn symbols(&self) -> &[SimulatedSymbol] {
        &self.config.symbols
    }

    /// Dirty rows so far.
    pub const fn injected(&self) -> &DirtCounts {
        &self.state.injected
    }

    /// The event time of the next clean row, unix nanoseconds; none without symbols.
    pub fn next_time(&self) -> Option<u64> {
        self.due.peek().map(|&Reverse((due, _))| due)
    }

    /// The injected row that is waiting to come out, if any.
    #[inline]
    fn take_pending(&mut self) -> Option<SimulatedRow> {
        let Pending { symbol, dirt, words } = self.state.pending.take()?;
        self.state.injected.add(dirt);
        Some(SimulatedRow {
            symbol: symbol as usize,
            tick: bytemuck::cast(words),
            dirt: Some(dirt),
        })
    }

    /// Decides whether a dirty row follows `row`.
    fn soil(&mut self, index: u32, row: RawTick, chance: u64) {
        let symbol = &self.config.symbols[index as usize];
        let market = &mut self.state.markets[index as usize];
        let dirt = DirtKind::ALL[(chance >> 32) as usize % DirtKind::ALL.len()];
        let rested = market.rows >= CLEAN_ROWS_FIRST.max(market.dirty_at + CLEAN_ROWS_BETWEEN);
        if !rested || !dirt.suits(symbol.feed, &row) {
            return;
        }
        market.dirty_at = market.rows;
        let fresh_id = market.fresh_id(row.kind);
        let tick_size = symbol.instrument.tick_size.0;
        let words = bytemuck::cast(dirt.spoil(row, chance >> 35, tick_size, fresh_id));
        self.state.pending = Some(Pending { symbol: index, dirt, words });
    }
}

impl Iterator for Simulator {
    type Item = SimulatedRow;

    /// The next row; none once [`SimulatorConfig::rows`] have been made.
    #[inline]
    fn next(&mut self) -> Option<SimulatedRow> {
        if self.config.rows.is_some_and(|rows| self.state.emitted >= rows) {
            return None;
        }
        if let Some(row) = self.take_pending() {
            self.state.emitted += 1;
            return Some(row);
        }
        let mut soonest = self.due.peek_mut()?;
        let Reverse((_, index)) = *soonest;
        let market = &mut self.state.markets[index as usize];
        let symbol = &self.config.symbols[index as usize];
        let (tick, chance) = market.next_row(symbol, self.config.rows_per_second);
        *soonest = Reverse((market.due, index));
        drop(soonest);
        self.state.emitted += 1;
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
        if (chance as u32) < self.dirt_threshold {
            self.soil(index, tick, chance);
        }
        Some(SimulatedRow { symbol: index as usize, tick, dirt: None })
    }
}

#[cfg(test)]
mod tests;
