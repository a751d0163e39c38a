//! The normalised tick CSV: one row per source message, in order of arrival.
//!
//! | Column                     | Meaning                                                              |
//! |----------------------------|----------------------------------------------------------------------|
//! | `ts_ns`                    | event time, unix nanoseconds UTC                                     |
//! | `symbol`                   | `NAME.VENUE`                                                         |
//! | `kind`                     | `trade`, `quote` or `snapshot`                                       |
//! | `price`, `volume`          | of the trade; last price, and volume since the snapshot before       |
//! | `bid1`, `ask1`             | top of the book                                                      |
//! | `bid_vol1`, `ask_vol1`     | quantities there                                                     |
//! | `recv_ns`                  | local receive time, unix nanoseconds UTC                             |
//! | `cum_volume`               | volume since the start of the day                                    |
//! | `flags`                    | see [`read_flags`]                                                   |
//!
//! Columns are found by name, in any order; unknown ones are ignored. `ts_ns`, `symbol`, `kind` and
//! one of the prices must be there. An empty field means that the source does not say.

use memchr::{memchr, memchr_iter};

use super::number::{Piece, amount, whole_number};
use super::split::Fields;
use super::{EVENT_TIME_END, EVENT_TIME_MIN, HeaderError, Ingester, LineParser, Problem, RowError};
use crate::domain::{Kind, RawTick, flag, has};

/// Every column that means something, in the order of [`RawTick`]'s documentation.
pub const COLUMNS: [&str; 12] = [
    "ts_ns",
    "symbol",
    "kind",
    "price",
    "volume",
    "bid1",
    "ask1",
    "bid_vol1",
    "ask_vol1",
    "recv_ns",
    "cum_volume",
    "flags",
];

const TIME: usize = 0;
const SYMBOL: usize = 1;
const KIND: usize = 2;
const PRICE: usize = 3;
const VOLUME: usize = 4;
const BID: usize = 5;
const ASK: usize = 6;
const BID_QUANTITY: usize = 7;
const ASK_QUANTITY: usize = 8;
const RECEIVE_TIME: usize = 9;
const CUMULATIVE: usize = 10;
const FLAGS: usize = 11;

/// Stands for a column that the header does not have.
const ABSENT: usize = usize::MAX;

/// Reads rows under one header.
#[derive(Debug)]
pub struct Parser {
    layout: Layout,
    fields: Fields,
}

/// Which column stands where.
#[derive(Debug)]
struct Layout {
    /// By meaning, in the order of [`COLUMNS`].
    index: [usize; COLUMNS.len()],
    /// Columns of the header.
    width: usize,
}

impl Parser {
    /// A parser for rows under `header`, the file's first line.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] when a column is missing or there twice.
    pub fn new(header: &[u8]) -> Result<Self, HeaderError> {
        let mut fields = Fields::default();
        fields.cut_unquoted(header);
        let names: Vec<String> = (0..fields.len())
            .map(|at| String::from_utf8_lossy(fields.get(fields.unquoted(), at)).trim().to_owned())
            .collect();
        let layout = Layout::new(&names)?;
        Ok(Self { layout, fields })
    }

    /// Whether `header` looks like this format's, if perhaps a bad one.
    pub fn recognises(header: &[u8]) -> bool {
        let has_column = |name: &str| {
            header
                .split(|&byte| byte == b',')
                .any(|field| field.trim_ascii().trim_ascii_start() == name.as_bytes())
        };
        COLUMNS.iter().filter(|name| has_column(name)).count() >= 3
    }
}

impl Layout {
    fn new(names: &[String]) -> Result<Self, HeaderError> {
        let mut index = [ABSENT; COLUMNS.len()];
        for (at, name) in names.iter().enumerate() {
            let Some(meaning) = COLUMNS.iter().position(|known| known == name) else { continue };
            if index[meaning] != ABSENT {
                return Err(HeaderError::ColumnTwice {
                    name: name.clone(),
                    first: index[meaning] + 1,
                    second: at + 1,
                });
            }
            index[meaning] = at;
        }
        for required in [TIME, SYMBOL, KIND] {
            if index[required] == ABSENT {
                return Err(HeaderError::ColumnMissing {
                    name: COLUMNS[required],
                    required: "ts_ns, symbol, kind and price or bid1 or ask1".to_owned(),
                });
            }
        }
        if [PRICE, BID, ASK].iter().all(|&price| index[price] == ABSENT) {
            return Err(HeaderError::NoPrices);
        }
        Ok(Self { index, width: names.len() })
    }

    /// An error that blames the column with `meaning`.
    #[cold]
    fn error(&self, number: u64, meaning: usize, text: &[u8], problem: Problem) -> Box<RowError> {
        RowError::new(number, self.index[meaning] + 1, COLUMNS[meaning], text, problem)
    }

    #[inline]
    fn read(
        &self,
        line: &[u8],
        fields: &Fields,
        number: u64,
        ingester: &mut Ingester,
    ) -> Result<(), Box<RowError>> {
        if fields.len() != self.width {
            return Err(wrong_width(number, line, fields.len(), self.width));
        }
        let piece = |meaning: usize| fields.piece(line, self.index[meaning]);
        let text = |meaning: usize| piece(meaning).text();
        let fail = |meaning, problem| self.error(number, meaning, text(meaning), problem);

        let event_time = time(piece(TIME)).map_err(|problem| fail(TIME, problem))?;
        let kind = match text(KIND) {
            b"trade" => Kind::Trade,
            b"quote" => Kind::Quote,
            b"snapshot" => Kind::Snapshot,
            _ => return Err(fail(KIND, unknown_kind())),
        };
        let entry = ingester.intern(text(SYMBOL)).map_err(|problem| fail(SYMBOL, problem))?;
        let mut row =
            RawTick { event_time, symbol: entry.id.0, kind: kind as u8, ..RawTick::default() };
        let mut given = 0;
        let mut read = |meaning: usize, bit: u8, decimals: u8| {
            let piece = piece(meaning);
            if piece.is_empty() {
                return Ok(0);
            }
            given |= bit;
            amount(piece, decimals).map_err(|error| fail(meaning, error.into()))
        };
        let (price, quantity) = (entry.price_decimals, entry.quantity_decimals);
        row.price = read(PRICE, has::PRICE, price)?;
        row.volume = read(VOLUME, has::VOLUME, quantity)?;
        row.bid = read(BID, has::BID, price)?;
        row.ask = read(ASK, has::ASK, price)?;
        row.bid_quantity = read(BID_QUANTITY, has::BID_QUANTITY, quantity)?;
        row.ask_quantity = read(ASK_QUANTITY, has::ASK_QUANTITY, quantity)?;
        row.cumulative = read(CUMULATIVE, has::CUMULATIVE, quantity)?;
        row.has = given;
        let receive_time = piece(RECEIVE_TIME);
        if !receive_time.is_empty() {
            row.receive_time = time(receive_time).map_err(|problem| fail(RECEIVE_TIME, problem))?;
        }
        let flags = text(FLAGS);
        if !flags.is_empty() {
            read_flags(flags, &mut row).map_err(|problem| fail(FLAGS, problem))?;
        }
        ingester.push(row);
        Ok(())
    }
}

impl LineParser for Parser {
    #[inline]
    fn row(
        &mut self,
        line: &[u8],
        number: u64,
        ingester: &mut Ingester,
    ) -> Result<(), Box<RowError>> {
        let Self { layout, fields } = self;
        if memchr(b'"', line).is_some() {
            if !fields.cut_unquoted(line) {
                return Err(RowError::new(number, 0, "", line, Problem::QuoteOpen));
            }
            return layout.read(fields.unquoted(), fields, number, ingester);
        }
        fields.cut(line);
        layout.read(line, fields, number, ingester)
    }
}

/// An error about a row with too few or too many columns.
#[cold]
pub(super) fn wrong_width(
    number: u64,
    line: &[u8],
    found: usize,
    expected: usize,
) -> Box<RowError> {
    let count = |columns: usize| u32::try_from(columns).unwrap_or(u32::MAX);
    let problem = if found < expected {
        Problem::ColumnsTooFew { found: count(found), expected: count(expected) }
    } else {
        Problem::ColumnsTooMany { found: count(found), expected: count(expected) }
    };
    // The column that is missing, or the first one too many.
    RowError::new(number, found.min(expected) + 1, "the row", line, problem)
}

#[cold]
fn unknown_kind() -> Problem {
    Problem::UnknownWord { known: "trade, quote, snapshot".to_owned() }
}

/// A time in unix nanoseconds.
#[inline]
fn time(piece: Piece<'_>) -> Result<u64, Problem> {
    let nanos = whole_number(piece)?;
    if (EVENT_TIME_MIN..EVENT_TIME_END).contains(&nanos) {
        Ok(nanos)
    } else {
        Err(Problem::TimeOutOfRange)
    }
}

/// Reads the `flags` column into `row`: `;`-separated `name=value` pairs, unknown ones ignored.
///
/// | Name     | Value                                                                                |
/// |----------|--------------------------------------------------------------------------------------|
/// | `t`, `u` | trade or book-update id; one that is no number is hashed                             |
/// | `m`      | 1: the buyer was the maker, so the aggressor sold; 0: the aggressor bought           |
/// | `side`   | `buy` or `sell`: the aggressor                                                       |
/// | `ts`     | `recv`: the event time is the receive time                                           |
/// | `td`     | trading day, yyyymmdd                                                                |
/// | `ex`     | the venue's code, its first byte                                                     |
/// | `cond`   | sale conditions, hashed                                                              |
/// | `susp`   | 1: marked as suspicious by the vendor                                                |
/// | `st`     | trading phase: `OCALL`, `CCALL` are auctions; `CLOSE`, `ENDTR`, `SUSP`... are closed |
/// | `X`      | anything but `MARKET`: traded outside the order book                                 |
///
/// # Errors
///
/// A trading day that is no number.
#[inline]
pub fn read_flags(text: &[u8], row: &mut RawTick) -> Result<(), Problem> {
    let mut start = 0;
    for end in memchr_iter(b';', text) {
        read_flag(&text[start..end], row)?;
        start = end + 1;
    }
    read_flag(&text[start..], row)
}

#[inline]
fn read_flag(pair: &[u8], row: &mut RawTick) -> Result<(), Problem> {
    match pair {
        [b't' | b'u', b'=', id @ ..] => {
            row.id = whole_number(Piece::whole(id)).unwrap_or_else(|_| hash64(id));
            row.has |= has::ID;
        }
        b"m=1" | b"side=sell" => row.flags |= flag::SIDE_SELL,
        b"m=0" | b"side=buy" => row.flags |= flag::SIDE_BUY,
        b"ts=recv" => row.flags |= flag::TIME_IS_RECEIVED,
        [b't', b'd', b'=', day @ ..] => {
            let day = whole_number(Piece::whole(day))?;
            row.trading_day = u32::try_from(day).map_err(|_| Problem::OutOfRange)?;
        }
        [b'e', b'x', b'=', code, ..] => row.venue_code = *code,
        [b'c', b'o', b'n', b'd', b'=', condition @ ..] => row.condition = hash32(condition),
        b"susp=1" => row.flags |= flag::SUSPICIOUS,
        [b's', b't', b'=', phase @ ..] => row.flags |= phase_flags(phase),
        [b'X', b'=', class @ ..] if class != b"MARKET" => row.flags |= flag::OFF_BOOK,
        _ => {}
    }
    Ok(())
}

/// What a trading phase of the mainland stock exchanges means, as their level-2 feeds spell it.
pub(super) fn phase_flags(phase: &[u8]) -> u16 {
    match phase {
        b"OCALL" | b"CCALL" | b"ICALL" | b"FCALL" => flag::AUCTION,
        b"START" | b"CLOSE" | b"ENDTR" | b"SUSP" | b"BREAK" | b"HALT" | b"PRETR" => flag::CLOSED,
        _ => 0,
    }
}

/// FNV-1a, 32 bits.
pub(super) fn hash32(text: &[u8]) -> u32 {
    let mut hash: u32 = 0x811c_9dc5;
    for &byte in text {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash
}

/// FNV-1a, 64 bits.
pub(super) fn hash64(text: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for &byte in text {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{Instruments, SourceId};
    use crate::pipeline::ingest::IngesterConfig;

    const HEADER: &[u8] =
        b"ts_ns,symbol,kind,price,volume,bid1,ask1,bid_vol1,ask_vol1,recv_ns,cum_volume,flags";

    fn ingester() -> Ingester {
        Ingester::new(IngesterConfig::new(SourceId(0), Arc::new(Instruments::default())))
    }

    fn read(line: &str) -> Result<RawTick, Box<RowError>> {
        let mut ingester = ingester();
        Parser::new(HEADER).unwrap().row(line.as_bytes(), 2, &mut ingester)?;
        Ok(ingester.take_batch().rows[0])
    }

    fn refusal(line: &str) -> String {
        read(line).unwrap_err().to_string()
    }

    #[test]
    fn a_trade_is_read_whole() {
        let row = read(
            "1723161255342000000,BTCUSDT.BINANCE_SPOT,trade,61837.63000000,0.02000000,,,,,\
             1723161254087896568,,m=1;t=3735683259",
        );
        let expected = RawTick {
            event_time: 1_723_161_255_342_000_000,
            receive_time: 1_723_161_254_087_896_568,
            price: 6_183_763_000_000,
            volume: 2_000_000,
            id: 3_735_683_259,
            flags: flag::SIDE_SELL,
            has: has::PRICE | has::VOLUME | has::ID,
            ..RawTick::default()
        };
        assert_eq!(row.unwrap(), expected);
    }

    #[test]
    fn an_empty_field_is_absent_and_a_zero_is_given() {
        let row = read("1381132800054000000,IBM.US,quote,,,,183.63,,100,,,ex=Q;cond=1;susp=1");
        let row = row.unwrap();
        assert_eq!(row.has, has::ASK | has::ASK_QUANTITY);
        assert_eq!((row.venue_code, row.flags), (b'Q', flag::SUSPICIOUS));
        assert_eq!(row.condition, hash32(b"1"));
        let row = read("1638321301000000000,600332.SH,snapshot,0.0,,29.69,29.69,2,2,,0,st=OCALL");
        let row = row.unwrap();
        assert_eq!((row.price, row.has & has::PRICE), (0, has::PRICE));
        assert_eq!((row.flags, row.has & has::CUMULATIVE), (flag::AUCTION, has::CUMULATIVE));
    }

    #[test]
    fn each_flag_means_what_the_documentation_says() {
        let flags = |text: &str| {
            let mut row = RawTick::default();
            read_flags(text.as_bytes(), &mut row).unwrap();
            row
        };
        assert_eq!(flags("side=buy;t=7").id, 7);
        assert_eq!(flags("m=0").flags, flag::SIDE_BUY);
        assert_eq!(flags("ts=recv;u=9").flags, flag::TIME_IS_RECEIVED);
        assert_eq!(flags("X=INSURANCE_FUND").flags, flag::OFF_BOOK);
        assert_eq!(flags("X=MARKET;oi=5;new=1").flags, 0);
        assert_eq!(flags("td=20200803;oi=148408.00").trading_day, 20_200_803);
        assert_eq!(flags("st=TRADE").flags, 0);
        assert_eq!(flags("st=ENDTR").flags, flag::CLOSED);
        assert_ne!(flags("t=abc").id, flags("t=abd").id);
        assert_eq!(read_flags(b"td=x", &mut RawTick::default()), Err(Problem::NotANumber));
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let header = b"ask1,extra,kind,\"symbol\",ts_ns,bid1";
        let mut parser = Parser::new(header).unwrap();
        let mut ingester = ingester();
        let line = b"1.38705,\"x,y\",quote,EURUSD.OANDA,1398988800277000000,1.38694";
        parser.row(line, 2, &mut ingester).unwrap();
        let row = ingester.take_batch().rows[0];
        assert_eq!((row.bid, row.ask, row.has), (138_694_000, 138_705_000, has::BID | has::ASK));
    }

    #[test]
    fn a_header_without_a_needed_column_is_refused() {
        let refusal = |header: &str| Parser::new(header.as_bytes()).unwrap_err().to_string();
        assert!(refusal("symbol,kind,price").contains("lacks the column `ts_ns`"));
        assert!(refusal("ts_ns,symbol,kind,volume").contains("neither `price`"));
        assert!(refusal("ts_ns,symbol,kind,price,kind").contains("columns 3 and 5"));
    }

    #[test]
    fn every_bad_field_is_named_with_its_column_and_a_remedy() {
        let row = |fields: [&str; 4]| {
            let [time, symbol, kind, price] = fields;
            refusal(&format!("{time},{symbol},{kind},{price},,,,,,,,"))
        };
        let (time, symbol) = ("1381132800054000000", "IBM.US");
        assert_eq!(
            row([time, symbol, "trade", "abc"]),
            "line 2, column 4 (price): \"abc\" is not a number; \
             write a decimal number such as 61837.63"
        );
        assert!(row([time, symbol, "trade", "NaN"]).contains("is not a finite number"));
        assert!(row([time, symbol, "trade", "inf"]).contains("is not a finite number"));
        assert!(row([time, symbol, "trade", "1e30"]).contains("is out of range"));
        assert!(row([time, symbol, "swap", "1"]).contains("not one of trade, quote, snapshot"));
        assert!(row(["x", symbol, "trade", "1"]).contains("column 1 (ts_ns): \"x\" is not a num"));
        assert!(row(["", symbol, "trade", "1"]).contains("is empty"));
        assert!(row(["1381132800", symbol, "trade", "1"]).contains("between the years 1990"));
        assert!(row([time, "", "trade", "1"]).contains("column 2 (symbol): \"\" is empty"));
        let long = "A".repeat(10_000);
        let message = row([time, &long, "trade", "1"]);
        assert!(message.contains("10000 bytes long, the limit is 64") && message.len() < 250);
        let message = refusal("1381132800054000000,IBM.US,trade,1");
        assert!(message.contains("has 4 columns where the header has 12"), "{message}");
        let message = refusal("1381132800054000000,IBM.US,trade,1,,,,,,,,,");
        assert!(message.contains("has 13 columns where the header has 12"), "{message}");
        assert!(refusal("1381132800054000000,\"IBM.US,trade,1").contains("opening quote"));
    }
}
