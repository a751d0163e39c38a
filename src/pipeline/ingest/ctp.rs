//! Market data of the Chinese futures exchanges as CTP's `DepthMarketData` writes it: 44 columns,
//! quoted, one snapshot a row.
//!
//! Time is `ActionDay`, `UpdateTime` and `UpdateMillisec` by the clock of Shanghai (UTC+8, no summer
//! time). Dalian writes the trading day into `ActionDay` at night; the weekday before is meant. What
//! CTP has no value for is the largest double there is, or `N/A`; both read as absent.
//!
//! Volume is the difference of the day's cumulative one from row to row, and the whole of it in a
//! symbol's first row of a trading day.

use serde::{Deserialize, Serialize};

use super::calendar::{Date, digits, time_of_day};
use super::columns::{self, Columns};
use super::{HeaderError, Ingester, LineParser, ParserState, Problem, RowError};
use crate::domain::{Kind, RawTick, has};

const COLUMNS: [&str; 12] = [
    "TradingDay",
    "InstrumentID",
    "LastPrice",
    "Volume",
    "UpdateTime",
    "BidPrice1",
    "BidVolume1",
    "AskPrice1",
    "AskVolume1",
    // Those below may be missing.
    "UpdateMillisec",
    "ActionDay",
    "ExchangeID",
];
const REQUIRED: usize = 9;

const TRADING_DAY: usize = 0;
const INSTRUMENT: usize = 1;
const PRICE: usize = 2;
const VOLUME: usize = 3;
const TIME: usize = 4;
const BID: usize = 5;
const BID_QUANTITY: usize = 6;
const ASK: usize = 7;
const ASK_QUANTITY: usize = 8;
const MILLISECOND: usize = 9;
const ACTION_DAY: usize = 10;
const EXCHANGE: usize = 11;

/// Shanghai's clock is ahead of UTC by this.
const OFFSET_SECONDS: i64 = 8 * 3_600;

/// The cumulative volumes that differences are taken from, by symbol: trading day and volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeState(Vec<(u32, i64)>);

type Row<'row> = columns::Row<'row, { COLUMNS.len() }>;

/// Reads rows under one header.
#[derive(Debug)]
pub struct Parser {
    columns: Columns<{ COLUMNS.len() }>,
    volumes: VolumeState,
    /// A symbol under construction, kept to save its allocation.
    name: Vec<u8>,
}

impl Parser {
    /// A parser for rows under `header`.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] when a column is missing or there twice.
    pub fn new(header: &[u8]) -> Result<Self, HeaderError> {
        let columns = Columns::new(header, COLUMNS, REQUIRED)?;
        Ok(Self { columns, volumes: VolumeState::default(), name: Vec::new() })
    }

    /// Whether `header` looks like this format's.
    pub fn recognises(header: &[u8]) -> bool {
        let has_name = |name: &[u8]| memchr::memmem::find(header, name).is_some();
        has_name(b"InstrumentID") && (has_name(b"TradingDay") || has_name(b"LastPrice"))
    }
}

/// CTP's ways to say that there is no amount, beside an empty field.
fn is_absent(text: &[u8]) -> bool {
    text == b"N/A" || text.starts_with(b"1.797693") || text.starts_with(b"179769313486231")
}

impl LineParser for Parser {
    fn row(
        &mut self,
        line: &[u8],
        number: u64,
        ingester: &mut Ingester,
    ) -> Result<(), Box<RowError>> {
        let Self { columns, volumes, name } = self;
        let row = columns.cut(line, number)?;

        let instrument = row.text(INSTRUMENT);
        let exchange = match row.text(EXCHANGE) {
            b"" => exchange_of(instrument),
            exchange => exchange,
        };
        name.clear();
        name.extend_from_slice(instrument);
        name.push(b'.');
        name.extend_from_slice(exchange);
        if instrument.is_empty() {
            return Err(row.error(INSTRUMENT, Problem::Empty));
        }
        let entry = ingester.intern(name).map_err(|problem| row.error(INSTRUMENT, problem))?;

        let trading_day = row.text(TRADING_DAY);
        if Date::parse(trading_day).is_none() {
            return Err(row.error(TRADING_DAY, Problem::NotATime));
        }
        let trading_day = digits(trading_day).and_then(|day| u32::try_from(day).ok());
        let trading_day = trading_day.ok_or_else(|| row.error(TRADING_DAY, Problem::NotATime))?;
        let event_time = event_time(row, exchange)?;

        let mut tick = RawTick {
            event_time,
            trading_day,
            symbol: entry.id.0,
            kind: Kind::Snapshot as u8,
            ..RawTick::default()
        };
        let (price, quantity) = (entry.price_decimals, entry.quantity_decimals);
        let mut bits = 0;
        let mut read = |column, bit, decimals| match is_absent(row.text(column)) {
            true => Ok(0),
            false => row.amount(column, decimals, bit, &mut bits),
        };
        tick.price = read(PRICE, has::PRICE, price)?;
        tick.bid = read(BID, has::BID, price)?;
        tick.ask = read(ASK, has::ASK, price)?;
        tick.bid_quantity = read(BID_QUANTITY, has::BID_QUANTITY, quantity)?;
        tick.ask_quantity = read(ASK_QUANTITY, has::ASK_QUANTITY, quantity)?;
        tick.cumulative = read(VOLUME, has::CUMULATIVE | has::VOLUME, quantity)?;
        tick.has = bits;
        if bits & has::VOLUME != 0 {
            tick.volume = volumes.advance(entry.id.index(), trading_day, tick.cumulative);
        }
        ingester.push(tick);
        Ok(())
    }

    fn state(&self) -> ParserState {
        ParserState::Volumes(self.volumes.clone())
    }

    fn restore(&mut self, state: &ParserState) {
        if let ParserState::Volumes(volumes) = state {
            self.volumes = volumes.clone();
        }
    }
}

impl VolumeState {
    /// What has been traded since the symbol's last row.
    fn advance(&mut self, symbol: usize, trading_day: u32, cumulative: i64) -> i64 {
        if self.0.len() <= symbol {
            self.0.resize(symbol + 1, (0, 0));
        }
        let (day, before) = std::mem::replace(&mut self.0[symbol], (trading_day, cumulative));
        if day == trading_day { cumulative.saturating_sub(before) } else { cumulative }
    }
}

fn event_time(row: Row<'_>, exchange: &[u8]) -> Result<u64, Box<RowError>> {
    let (day_column, day) = match row.text(ACTION_DAY) {
        b"" => (TRADING_DAY, row.text(TRADING_DAY)),
        day => (ACTION_DAY, day),
    };
    let date = Date::parse(day).ok_or_else(|| row.error(day_column, Problem::NotATime))?;
    let time = time_of_day(row.text(TIME)).ok_or_else(|| row.error(TIME, Problem::NotATime))?;
    let is_night = row.text(TIME) >= &b"20:00:00"[..];
    let date = if is_night && exchange == b"DCE" && day == row.text(TRADING_DAY) {
        date.weekday_before()
    } else {
        date
    };
    let is_whole_second = row.text(MILLISECOND).is_empty();
    let milliseconds = if is_whole_second { 0 } else { row.number(MILLISECOND)? };
    if milliseconds > 999 {
        return Err(row.error(MILLISECOND, Problem::OutOfRange));
    }
    row.time(day_column, date.at(time + milliseconds * 1_000_000, OFFSET_SECONDS))
}

/// The exchange that lists a contract, by its code, for recordings that leave the column empty:
/// Zhengzhou writes three digits, CFFEX capitals and four, the others small letters.
fn exchange_of(instrument: &[u8]) -> &'static [u8] {
    let letters = instrument.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (product, month) = instrument.split_at(letters);
    let digits = month.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match product {
        _ if digits == 3 => b"CZCE",
        [b'A'..=b'Z', ..] => b"CFFEX",
        b"cu" | b"al" | b"zn" | b"pb" | b"ni" | b"sn" | b"au" | b"ag" | b"rb" | b"wr" | b"hc"
        | b"ss" | b"fu" | b"bu" | b"ru" | b"sp" | b"ao" | b"br" => b"SHFE",
        b"sc" | b"lu" | b"nr" | b"bc" | b"ec" => b"INE",
        b"si" | b"lc" | b"ps" => b"GFEX",
        _ => b"DCE",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{Instruments, SourceId};
    use crate::pipeline::ingest::IngesterConfig;

    const HEADER: &[u8] = br#""TradingDay","InstrumentID","ExchangeID","LastPrice","Volume","UpdateTime","UpdateMillisec","BidPrice1","BidVolume1","AskPrice1","AskVolume1","ActionDay""#;

    fn ingester() -> Ingester {
        Ingester::new(IngesterConfig::new(SourceId(0), Arc::new(Instruments::default())))
    }

    fn read(lines: &[&str]) -> Result<Vec<RawTick>, Box<RowError>> {
        let mut ingester = ingester();
        let mut parser = Parser::new(HEADER).unwrap();
        for (number, line) in (2..).zip(lines) {
            parser.row(line.as_bytes(), number, &mut ingester)?;
        }
        let mut rows = ingester.take_batch().rows;
        rows.retain(|row| row.kind != Kind::Boundary as u8);
        Ok(rows)
    }

    const ROW: &str = r#""20200803","AP010","","7169.00","419","08:59:00","500","7168.00","1","7169.00","63","20200803""#;

    #[test]
    fn a_snapshot_is_read_with_shanghai_time() {
        let row = read(&[ROW]).unwrap()[0];
        assert_eq!(row.event_time, 1_596_416_340_500_000_000);
        assert_eq!((row.price, row.bid), (716_900_000_000, 716_800_000_000));
        assert_eq!((row.volume, row.cumulative), (41_900_000_000, 41_900_000_000));
        assert_eq!(row.trading_day, 20_200_803);
        assert_eq!(row.has, !has::ID);
    }

    #[test]
    fn what_ctp_has_no_value_for_is_absent() {
        let absent = ROW
            .replace("7168.00", "N/A")
            .replace("\"63\"", "\"\"")
            .replace("\"7169.00\",\"419", "\"1.7976931348623157e+308\",\"419");
        let row = read(&[&absent]).unwrap()[0];
        assert_eq!(row.has, has::VOLUME | has::CUMULATIVE | has::BID_QUANTITY | has::ASK);
    }

    #[test]
    fn volume_is_a_difference_that_starts_anew_each_trading_day() {
        let second = ROW.replace("\"419\"", "\"500\"");
        let third = ROW.replace("\"419\"", "\"7\"").replace("20200803", "20200804");
        let rows = read(&[ROW, &second, &second, &third]).unwrap();
        let volumes: Vec<i64> = rows.iter().map(|row| row.volume / 100_000_000).collect();
        assert_eq!(volumes, [419, 81, 0, 7]);
    }

    #[test]
    fn the_night_of_dalian_belongs_to_the_weekday_before() {
        let night = ROW.replace("08:59:00", "21:00:00");
        let hours = |line: &str| read(&[line]).unwrap()[0].event_time / 3_600_000_000_000;
        let dalian = night.replace("AP010", "i2101");
        assert_eq!(hours(&night) - hours(&dalian), 72, "from Monday to Friday");
        let shanghai = night.replace("AP010", "rb2101");
        assert_eq!(hours(&night), hours(&shanghai));
    }

    #[test]
    fn an_exchange_that_is_left_out_is_found_by_the_contract() {
        for (instrument, exchange) in [
            ("AP010", "CZCE"),
            ("IF2101", "CFFEX"),
            ("rb2101", "SHFE"),
            ("sc2101", "INE"),
            ("si2401", "GFEX"),
            ("i2101", "DCE"),
        ] {
            assert_eq!(exchange_of(instrument.as_bytes()), exchange.as_bytes());
        }
    }

    #[test]
    fn a_bad_field_is_named() {
        let refusal = |line: &str| read(&[line]).unwrap_err().to_string();
        let message = refusal(&ROW.replace("08:59:00", "8:59"));
        assert!(message.contains("column 6 (UpdateTime): \"8:59\" is not a date"), "{message}");
        assert!(refusal(&ROW.replace("419", "x")).contains("column 5 (Volume): \"x\" is not a n"));
        assert!(refusal(&ROW.replace("20200803", "20200832")).contains("is not a date or time"));
        assert!(refusal(&ROW.replace("AP010", "")).contains("(InstrumentID): \"\" is empty"));
        assert!(refusal(ROW.rsplit_once(',').unwrap().0).contains("the header has 12"));
    }
}
