//! Bars: open, high, low and close of a span of time, as the rows that a tick pipeline can take.
//!
//! ```text
//! ts_ns,symbol,open,high,low,close[,volume][,trading_day]       a bar of trades: two trades
//! ts_ns,symbol,{open,high,low,close}_{bid,ask}                  a bar of quotes: two quotes
//!
//!   label - width                                    label = end of the bar
//!        │ +1 s                                  -1 ns │
//!        ├──●── open ─────────────────────── close ──●─┤
//! ```
//!
//! *Why two rows.* A bar says that its high and its low were reached, not when, and not in which
//! order. Whatever order were chosen, a strategy that works row by row would trade at the extremes
//! knowing what follows, which nobody can: so high and low give no row. They are held to what they
//! promise instead, and a bar that contradicts itself is malformed.
//!
//! *Why these times.* The close comes a nanosecond before the bar's end, so it is the last row of a
//! window that ends with the bar. The open comes a second after the bar's start: what is decided on
//! one close reaches its broker in less, and trades at the next open. The width of a symbol's bars is
//! the commonest distance between two of them; after a shorter one the open is a second after the
//! bar before.
//!
//! The close carries the volume of the whole bar; what could have been traded at the open is not
//! known. A bar of no volume tells of no trade and gives no row, but is counted as skipped. Files need
//! not be in order of time, and many hold one symbol after the other: rows come in order of time.
//!
//! # Invariants
//!
//! 1. Events come in order of time, and a bar's open before its close.
//! 2. No row of a bar comes before the end of the bar before it of the same symbol.
//! 3. Every bar gives two rows, or is counted once: malformed or skipped.

use std::collections::BTreeMap;

use super::columns::{Columns, Row};
use super::{HeaderError, Ingester, Problem, RowError};
use crate::domain::{Kind, RawTick, has};

/// Every column that means something.
const COLUMNS: [&str; 16] = [
    "ts_ns",
    "symbol",
    "open",
    "high",
    "low",
    "close",
    "open_bid",
    "high_bid",
    "low_bid",
    "close_bid",
    "open_ask",
    "high_ask",
    "low_ask",
    "close_ask",
    "volume",
    "trading_day",
];
const REQUIRED: usize = 2;

const TIME: usize = 0;
const SYMBOL: usize = 1;
const TRADED: usize = 2;
const BID: usize = 6;
const ASK: usize = 10;
const VOLUME: usize = 14;
const TRADING_DAY: usize = 15;

/// From the start of a bar to its open, in nanoseconds: longer than an order takes.
const OPEN_AFTER: u64 = 1_000_000_000;

/// When a bar ended, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its end, unix nanoseconds.
    pub end: u64,
    /// A number for its symbol.
    pub symbol: u32,
}

/// What a bar tells at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BarEvent {
    /// When, unix nanoseconds.
    pub at: u64,
    /// The bar's place among the labels.
    pub bar: u32,
    /// What.
    pub what: BarMoment,
}

/// Which moment of a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BarMoment {
    /// Its first price.
    Open,
    /// Its last one.
    Close,
    /// None: there was a bar of this symbol and end before it.
    Repeated,
}

/// The events of bars with these `labels`, in order of time.
pub fn schedule(labels: &[Label]) -> Vec<BarEvent> {
    let mut by_symbol: BTreeMap<u32, Vec<(u64, u32)>> = BTreeMap::new();
    for (bar, label) in (0..).zip(labels) {
        by_symbol.entry(label.symbol).or_default().push((label.end, bar));
    }
    let mut events = Vec::with_capacity(labels.len() * 2);
    for mut bars in by_symbol.into_values() {
        bars.sort_unstable();
        let width = width(&bars);
        let mut before = None;
        for (end, bar) in bars {
            let close = end.saturating_sub(1);
            if before == Some(end) {
                events.push(BarEvent { at: close, bar, what: BarMoment::Repeated });
                continue;
            }
            let start = end.saturating_sub(width).max(before.unwrap_or(0));
            // Bars of less than a second are possible, if strange.
            let open = start.saturating_add(OPEN_AFTER).min(close.saturating_sub(1)).max(start);
            events.push(BarEvent { at: open.min(close), bar, what: BarMoment::Open });
            events.push(BarEvent { at: close, bar, what: BarMoment::Close });
            before = Some(end);
        }
    }
    events.sort_unstable();
    events
}

/// The commonest distance between two bars, the shortest of several; a minute if there is none.
fn width(bars: &[(u64, u32)]) -> u64 {
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    for pair in bars.windows(2) {
        if pair[1].0 > pair[0].0 {
            *counts.entry(pair[1].0 - pair[0].0).or_default() += 1;
        }
    }
    let commonest =
        counts.into_iter().max_by_key(|&(width, count)| (count, std::cmp::Reverse(width)));
    commonest.map_or(60_000_000_000, |(width, _)| width)
}

/// Reads bars under one header.
#[derive(Debug)]
pub struct Parser {
    columns: Columns<{ COLUMNS.len() }>,
    is_quoted: bool,
}

impl Parser {
    /// A parser for bars under `header`.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] when a column is missing or there twice.
    pub fn new(header: &[u8]) -> Result<Self, HeaderError> {
        let columns = Columns::new(header, COLUMNS, REQUIRED)?;
        let is_quoted = !has_column(header, COLUMNS[TRADED]);
        let needed = if is_quoted { BID..BID + 8 } else { TRADED..TRADED + 4 };
        let names = &COLUMNS[needed];
        if let Some(name) = names.iter().find(|name| !has_column(header, name)) {
            return Err(HeaderError::ColumnMissing { name, required: names.join(", ") });
        }
        Ok(Self { columns, is_quoted })
    }

    /// Whether `header` looks like this format's.
    pub fn recognises(header: &[u8]) -> bool {
        has_column(header, COLUMNS[TIME])
            && [TRADED, BID, ASK].iter().any(|&column| has_column(header, COLUMNS[column]))
    }

    /// When the bar in `line` ended, and whose it is.
    ///
    /// # Errors
    ///
    /// What is wrong with the row.
    pub fn label<'line>(
        &'line mut self,
        line: &'line [u8],
        number: u64,
    ) -> Result<(u64, &'line [u8]), Box<RowError>> {
        let row = self.columns.cut(line, number)?;
        let end = row.time(TIME, Some(row.number(TIME)?))?;
        if row.text(SYMBOL).is_empty() {
            return Err(row.error(SYMBOL, Problem::Empty));
        }
        Ok((end, row.text(SYMBOL)))
    }

    /// Pushes what the bar in `line` tells at `event`.
    ///
    /// # Errors
    ///
    /// What is wrong with the bar. It is said at its open, or at its only event, and not again.
    pub fn row(
        &mut self,
        line: &[u8],
        number: u64,
        event: BarEvent,
        ingester: &mut Ingester,
    ) -> Result<(), Box<RowError>> {
        if event.what == BarMoment::Repeated {
            return Err(RowError::new(number, 0, "", line, Problem::BarRepeated));
        }
        let is_close = event.what == BarMoment::Close;
        match self.read(line, number, event, ingester) {
            Ok(Some(row)) => ingester.push(row),
            Ok(None) if !is_close => ingester.skipped(),
            Err(error) if !is_close => return Err(error),
            // It has been counted at the open.
            Ok(None) | Err(_) => {}
        }
        Ok(())
    }

    fn read(
        &mut self,
        line: &[u8],
        number: u64,
        event: BarEvent,
        ingester: &mut Ingester,
    ) -> Result<Option<RawTick>, Box<RowError>> {
        let row = self.columns.cut(line, number)?;
        let name = row.text(SYMBOL);
        let entry = ingester.intern(name).map_err(|problem| row.error(SYMBOL, problem))?;
        let mut tick = RawTick { event_time: event.at, symbol: entry.id.0, ..RawTick::default() };
        if !row.piece(TRADING_DAY).is_empty() {
            tick.trading_day = u32::try_from(row.number(TRADING_DAY)?)
                .map_err(|_| row.error(TRADING_DAY, Problem::OutOfRange))?;
        }
        let is_close = event.what == BarMoment::Close;
        let at = if is_close { 3 } else { 0 };
        let prices = |first| prices(row, number, line, first, entry.price_decimals);
        if self.is_quoted {
            tick.kind = Kind::Quote as u8;
            (tick.bid, tick.ask) = (prices(BID)?[at], prices(ASK)?[at]);
            tick.has = has::BID | has::ASK;
            return Ok(Some(tick));
        }
        tick.kind = Kind::Trade as u8;
        tick.price = prices(TRADED)?[at];
        tick.has = has::PRICE;
        let mut given = 0;
        let volume = row.amount(VOLUME, entry.quantity_decimals, has::VOLUME, &mut given)?;
        if given != 0 && volume == 0 {
            return Ok(None);
        }
        if is_close {
            tick.volume = volume;
            tick.has |= given;
        }
        Ok(Some(tick))
    }
}

/// Open, high, low and close from column `first` on, if they can be those of one bar.
fn prices(
    row: Row<'_, { COLUMNS.len() }>,
    number: u64,
    line: &[u8],
    first: usize,
    decimals: u8,
) -> Result<[i64; 4], Box<RowError>> {
    let mut prices = [0; 4];
    for (column, price) in (first..).zip(&mut prices) {
        let mut given = 0;
        *price = row.amount(column, decimals, has::PRICE, &mut given)?;
        if given == 0 {
            return Err(row.error(column, Problem::Empty));
        }
    }
    let [open, high, low, close] = prices;
    if low > open.min(close) || high < open.max(close) {
        return Err(RowError::new(number, 0, "", line, Problem::BarInconsistent));
    }
    Ok(prices)
}

fn has_column(header: &[u8], name: &str) -> bool {
    header.split(|&byte| byte == b',').any(|field| match field.trim_ascii() {
        [b'"', inner @ .., b'"'] => inner == name.as_bytes(),
        plain => plain == name.as_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Instruments, SourceId};
    use crate::pipeline::ingest::IngesterConfig;

    const TRADES: &str = "ts_ns,symbol,open,high,low,close,volume,trading_day";
    const QUOTES: &str = "ts_ns,symbol,open_bid,high_bid,low_bid,close_bid,\
                          open_ask,high_ask,low_ask,close_ask";
    const MINUTE: u64 = 60_000_000_000;
    const END: u64 = 1_516_021_260_000_000_000;

    fn ingester() -> Ingester {
        Ingester::new(IngesterConfig::new(SourceId(0), Arc::new(Instruments::default())))
    }

    /// The rows of one bar, or why it gives none, and what was counted.
    fn read(header: &str, line: &str) -> (Vec<RawTick>, Vec<String>, u64) {
        let (mut ingester, mut parser) = (ingester(), Parser::new(header.as_bytes()).unwrap());
        let (end, _) = parser.label(line.as_bytes(), 2).unwrap();
        let mut refused = vec![];
        for event in schedule(&[Label { end, symbol: 0 }]) {
            if let Err(error) = parser.row(line.as_bytes(), 2, event, &mut ingester) {
                refused.push(error.to_string());
            }
        }
        let skipped = ingester.counters().skipped;
        let mut rows = ingester.take_batch().rows;
        rows.retain(|row| row.kind != Kind::Boundary as u8);
        (rows, refused, skipped)
    }

    #[test]
    fn a_bar_of_trades_is_its_open_and_its_close() {
        let line = format!("{END},ru1901.SHFE,16300.0,16650.0,16200.0,16585.0,434,20180116");
        let (rows, refused, _) = read(TRADES, &line);
        assert!(refused.is_empty(), "{refused:?}");
        let [open, close] = rows[..] else { panic!("{rows:?}") };
        assert_eq!((open.event_time, open.price), (END - MINUTE + OPEN_AFTER, 1_630_000_000_000));
        assert_eq!((close.event_time, close.price), (END - 1, 1_658_500_000_000));
        assert_eq!((open.has, close.has), (has::PRICE, has::PRICE | has::VOLUME));
        assert_eq!((close.volume, close.trading_day), (43_400_000_000, 20_180_116));
    }

    #[test]
    fn a_bar_of_quotes_is_two_quotes() {
        let line = format!("{END},GBPUSD.FXCM,1.5,1.7,1.4,1.6,1.6,1.8,1.5,1.7");
        let (rows, refused, _) = read(QUOTES, &line);
        assert!(refused.is_empty(), "{refused:?}");
        let sides: Vec<_> = rows.iter().map(|row| (row.bid, row.ask, row.has)).collect();
        let both = has::BID | has::ASK;
        assert_eq!(sides, [(150_000_000, 160_000_000, both), (160_000_000, 170_000_000, both)]);
    }

    #[test]
    fn a_bar_that_contradicts_itself_is_malformed_once() {
        for prices in ["10,9,8,10", "10,12,11,11", "10,12,9,13", "10,12,9,8"] {
            let (rows, refused, _) = read(TRADES, &format!("{END},A.US,{prices},5,"));
            assert!(rows.is_empty() && refused.len() == 1, "{prices}: {refused:?}");
            assert!(refused[0].contains("contradicts itself"), "{}", refused[0]);
        }
        let (rows, refused, _) = read(TRADES, &format!("{END},A.US,10,,9,10,5,"));
        assert!(rows.is_empty() && refused[0].contains("(high): \"\" is empty"), "{refused:?}");
        let line = format!("{END},GBPUSD.FXCM,1.5,1.7,1.4,1.6,1.6,1.8,1.5,1.9");
        assert_eq!(read(QUOTES, &line).1.len(), 1);
    }

    #[test]
    fn a_bar_without_volume_is_skipped_and_one_that_does_not_say_is_not() {
        let (rows, refused, skipped) = read(TRADES, &format!("{END},A.US,9,9,9,9,0,"));
        assert_eq!((rows.len(), refused.len(), skipped), (0, 0, 1));
        let (rows, _, skipped) = read(TRADES, &format!("{END},A.US,9,9,9,9,,"));
        assert_eq!((rows.len(), skipped), (2, 0));
    }

    #[test]
    fn headers_are_recognised_and_what_they_lack_is_named() {
        for header in [TRADES, QUOTES, "ts_ns,symbol,open,volume"] {
            assert!(Parser::recognises(header.as_bytes()), "{header}");
        }
        assert!(!Parser::recognises(b"ts_ns,symbol,kind,price,volume"));
        let refusal = |header: &str| Parser::new(header.as_bytes()).unwrap_err().to_string();
        assert!(refusal("ts_ns,symbol,open,high,low,volume").contains("lacks the column `close`"));
        assert!(refusal("ts_ns,symbol,open_bid,open_ask").contains("lacks the column `high_bid`"));
    }

    #[test]
    fn symbols_after_one_another_are_put_in_order_and_a_bar_again_is_refused() {
        let label = |minute: u64, symbol| Label { end: END + minute * MINUTE, symbol };
        let labels = [label(0, 0), label(1, 0), label(3, 0), label(1, 0), label(1, 1), label(2, 1)];
        let events = schedule(&labels);
        let repeated: Vec<u32> = events
            .iter()
            .filter(|event| event.what == BarMoment::Repeated)
            .map(|event| event.bar)
            .collect();
        assert_eq!(repeated, [3]);
        let closes: Vec<u32> = events
            .iter()
            .filter(|event| event.what == BarMoment::Close)
            .map(|event| event.bar)
            .collect();
        assert_eq!(closes, [0, 1, 4, 5, 2]);
        // A minute was missing: the open is that of the bar's own minute.
        let open = events.iter().find(|event| event.bar == 2).unwrap();
        assert_eq!(open.at, END + 2 * MINUTE + OPEN_AFTER);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Invariants 1 to 3, whatever the labels.
        #[test]
        fn events_are_in_order_and_bars_do_not_overlap(
            labels in prop::collection::vec((0u64..60, 0u32..3), 1..60),
            unit in prop::sample::select(vec![1u64, 1_000, 1_000_000_000, 60_000_000_000]),
        ) {
            let labels: Vec<Label> =
                labels.into_iter().map(|(at, symbol)| Label { end: END + at * unit, symbol }).collect();
            let events = schedule(&labels);
            prop_assert!(events.is_sorted_by_key(|event| event.at));
            let mut last = [0; 3];
            for event in &events {
                let label = labels[event.bar as usize];
                prop_assert!(event.at < label.end);
                if event.what == BarMoment::Open {
                    prop_assert!(event.at >= last[label.symbol as usize]);
                } else {
                    last[label.symbol as usize] = label.end;
                }
            }
            for bar in (0..).take(labels.len()) {
                let of: Vec<BarMoment> =
                    events.iter().filter(|event| event.bar == bar).map(|event| event.what).collect();
                let is_whole = of == [BarMoment::Open, BarMoment::Close];
                prop_assert!(is_whole || of == [BarMoment::Repeated], "{:?}", of);
            }
        }
    }
}
