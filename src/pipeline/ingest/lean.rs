//! Tick files of QuantConnect's LEAN: a zip with one member a day and instrument, rows without
//! header, times in milliseconds after midnight.
//!
//! | Member                         | Columns                                                          |
//! |--------------------------------|------------------------------------------------------------------|
//! | `20131007_ibm_Trade_Tick.csv`  | ms, price, size, exchange, condition, suspicious                 |
//! | `20131007_ibm_Quote_Tick.csv`  | ms, bid, size, ask, size, exchange, condition, suspicious        |
//! | `20140502_eurusd_tick_quote.csv` | ms, bid, ask                                                   |
//! | `..._trade.csv` of coins       | ms, price, size                                                  |
//! | `..._quote.csv` of coins       | ms, bid, size, ask, size                                         |
//!
//! Rows with an exchange are of shares: prices in ten-thousandths of a dollar, midnight of New York,
//! and zero for a side that was not quoted. The others have plain prices and midnight UTC; FXCM's
//! have midnight of New York's standard time (UTC-5), in summer too. That is what LEAN's
//! market-hours database says (`dataTimeZone`), and what the jump at the jobs report of 2014-05-02,
//! 12:30 UTC, confirms.

use super::calendar::{Date, digits};
use super::normalised::{hash32, wrong_width};
use super::number::{Piece, amount, whole_number};
use super::split::Fields;
use super::{EVENT_TIME_END, EVENT_TIME_MIN, Ingester, LineParser, Problem, RowError, SymbolEntry};
use crate::domain::{Kind, RawTick, decimal, flag, has};

/// Reads rows of one member.
#[derive(Debug)]
pub struct Parser {
    date: Date,
    year: i64,
    kind: Kind,
    /// The instrument in capitals.
    ticker: String,
    /// Who gave the prices, where the path tells; shares are `US`.
    provider: Option<String>,
    /// The instrument with its venue, once the first row has told which it is.
    symbol: Vec<u8>,
    fields: Fields,
}

/// Columns of a row, from the first.
struct Layout {
    names: &'static [&'static str],
    is_share: bool,
}

const SHARE_TRADE: &[&str] = &["ms", "price", "size", "exchange", "condition", "suspicious"];
const SHARE_QUOTE: &[&str] =
    &["ms", "bid", "bid size", "ask", "ask size", "exchange", "condition", "suspicious"];
const PLAIN_TRADE: &[&str] = &["ms", "price", "size"];
const PLAIN_QUOTE: &[&str] = &["ms", "bid", "ask"];
const SIZED_QUOTE: &[&str] = &["ms", "bid", "bid size", "ask", "ask size"];

impl Parser {
    /// A parser for the member called `member`, of an archive that somebody called `provider` gave.
    ///
    /// None when the name is not one of LEAN's tick files.
    pub fn new(member: &str, provider: Option<&str>) -> Option<Self> {
        let stem = member.rsplit('/').next()?.strip_suffix(".csv")?.to_ascii_lowercase();
        let mut words = stem.split('_');
        let (date, ticker) = (words.next()?, words.next()?);
        let rest: Vec<&str> = words.collect();
        let kind = if rest.contains(&"trade") {
            Kind::Trade
        } else if rest.contains(&"quote") {
            Kind::Quote
        } else {
            return None;
        };
        if !rest.contains(&"tick") {
            return None;
        }
        Some(Self {
            date: Date::parse(date.as_bytes())?,
            year: digits(&date.as_bytes()[..4])?,
            kind,
            ticker: ticker.to_ascii_uppercase(),
            provider: provider.map(str::to_ascii_uppercase),
            symbol: Vec::new(),
            fields: Fields::default(),
        })
    }

    fn layout(&self, line: &[u8], number: u64) -> Result<Layout, Box<RowError>> {
        let width = self.fields.len();
        let layout = |names, is_share| Ok(Layout { names, is_share });
        match (self.kind, width) {
            (Kind::Trade, 6) => layout(SHARE_TRADE, true),
            (Kind::Trade, 3) => layout(PLAIN_TRADE, false),
            (Kind::Quote, 8) => layout(SHARE_QUOTE, true),
            (Kind::Quote, 3) => layout(PLAIN_QUOTE, false),
            (Kind::Quote, 5) => layout(SIZED_QUOTE, false),
            (Kind::Trade, _) => Err(wrong_width(number, line, width, 6)),
            (Kind::Quote | Kind::Snapshot | Kind::Boundary, _) => {
                Err(wrong_width(number, line, width, 8))
            }
        }
    }

    /// Names the symbol by its first row: shares are of one market, others of their provider.
    fn intern(&mut self, is_share: bool, ingester: &mut Ingester) -> Result<SymbolEntry, Problem> {
        if self.symbol.is_empty() {
            let provider = if is_share { "US" } else { self.provider.as_deref().unwrap_or("LEAN") };
            self.symbol = format!("{}.{provider}", self.ticker).into_bytes();
        }
        ingester.intern(&self.symbol)
    }
}

/// A price in ten-thousandths, in steps of 10^-`decimals`.
fn share_price(piece: Piece<'_>, decimals: u8) -> Result<i64, Problem> {
    if let Some(decimals) = decimals.checked_sub(4) {
        return Ok(amount(piece, decimals)?);
    }
    let ten_thousandths = i128::from(amount(piece, 0)?);
    let steps = decimal::divide_rounded(ten_thousandths, 10i128.pow(u32::from(4 - decimals)));
    i64::try_from(steps).map_err(|_| Problem::OutOfRange)
}

impl LineParser for Parser {
    fn row(
        &mut self,
        line: &[u8],
        number: u64,
        ingester: &mut Ingester,
    ) -> Result<(), Box<RowError>> {
        self.fields.cut(line);
        let Layout { names, is_share } = self.layout(line, number)?;
        let entry = self
            .intern(is_share, ingester)
            .map_err(|problem| RowError::new(number, 0, "", self.symbol.as_slice(), problem))?;
        let piece = |column: usize| self.fields.piece(line, column);
        let fail = |column: usize, problem| {
            RowError::new(number, column + 1, names[column], piece(column).text(), problem)
        };
        let offset = match self.provider.as_deref() {
            _ if is_share => self.date.new_york_offset_seconds(self.year),
            Some("FXCM") => -5 * 3_600,
            _ => 0,
        };
        let millis = whole_number(piece(0)).map_err(|problem| fail(0, problem))?;
        // A day of summer time's end has 25 hours.
        let nanos =
            if millis < 25 * 3_600_000 { self.date.at(millis * 1_000_000, offset) } else { None };
        let event_time = nanos
            .filter(|nanos| (EVENT_TIME_MIN..EVENT_TIME_END).contains(nanos))
            .ok_or_else(|| fail(0, Problem::OutOfRange))?;

        let mut tick =
            RawTick { event_time, symbol: entry.id.0, kind: self.kind as u8, ..RawTick::default() };
        let mut bits = 0;
        let mut read = |name: &str, bit: u8, is_price: bool| -> Result<i64, Box<RowError>> {
            let Some(column) = names.iter().position(|known| *known == name) else { return Ok(0) };
            let piece = piece(column);
            let value = match is_price {
                _ if piece.is_empty() => return Ok(0),
                true if is_share => share_price(piece, entry.price_decimals),
                true => amount(piece, entry.price_decimals).map_err(Problem::from),
                false => amount(piece, entry.quantity_decimals).map_err(Problem::from),
            };
            let value = value.map_err(|problem| fail(column, problem))?;
            bits |= bit;
            Ok(value)
        };
        tick.price = read("price", has::PRICE, true)?;
        tick.volume = read("size", has::VOLUME, false)?;
        tick.bid = read("bid", has::BID, true)?;
        tick.bid_quantity = read("bid size", has::BID_QUANTITY, false)?;
        tick.ask = read("ask", has::ASK, true)?;
        tick.ask_quantity = read("ask size", has::ASK_QUANTITY, false)?;
        if is_share {
            // A row tells one side; the other is zero.
            if tick.bid == 0 && tick.bid_quantity == 0 {
                bits &= !(has::BID | has::BID_QUANTITY);
            }
            if tick.ask == 0 && tick.ask_quantity == 0 {
                bits &= !(has::ASK | has::ASK_QUANTITY);
            }
            let first = names.len() - 3;
            tick.venue_code = piece(first).text().first().copied().unwrap_or(0);
            tick.condition = hash32(piece(first + 1).text());
            if piece(first + 2).text() == b"1" {
                tick.flags |= flag::SUSPICIOUS;
            }
        }
        tick.has = bits;
        ingester.push(tick);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{Instruments, SourceId};
    use crate::pipeline::ingest::IngesterConfig;

    fn read(member: &str, line: &str) -> Result<(RawTick, String), String> {
        read_of("fxcm", member, line)
    }

    fn read_of(provider: &str, member: &str, line: &str) -> Result<(RawTick, String), String> {
        let config = IngesterConfig::new(SourceId(0), Arc::new(Instruments::default()));
        let mut ingester = Ingester::new(config);
        let mut parser = Parser::new(member, Some(provider)).unwrap();
        parser.row(line.as_bytes(), 1, &mut ingester).map_err(|error| error.to_string())?;
        let batch = ingester.take_batch();
        Ok((batch.rows[0], batch.definitions[0].instrument.symbol.to_string()))
    }

    #[test]
    fn shares_are_in_ten_thousandths_and_new_york_time_and_one_sided() {
        let (row, symbol) =
            read("20131007_ibm_Quote_Tick.csv", "14400054,0,0,1836300,100,Q,1,0").unwrap();
        assert_eq!((symbol.as_str(), row.event_time), ("IBM.US", 1_381_132_800_054_000_000));
        assert_eq!((row.ask, row.ask_quantity), (18_363_000_000, 10_000_000_000));
        assert_eq!((row.has, row.venue_code), (has::ASK | has::ASK_QUANTITY, b'Q'));
        assert_eq!(row.condition, hash32(b"1"));
        let (row, _) =
            read("20131007_ibm_Trade_Tick.csv", "14430270,1815200,283,P,20002020,1").unwrap();
        assert_eq!((row.price, row.volume), (18_152_000_000, 28_300_000_000));
        assert_eq!(row.flags, flag::SUSPICIOUS);
    }

    #[test]
    fn currencies_have_plain_prices_and_the_midnight_of_their_provider() {
        let (member, line) = ("20140502_eurusd_tick_quote.csv", "611,1.38626,1.38627");
        let (row, symbol) = read_of("oanda", member, line).unwrap();
        assert_eq!((symbol.as_str(), row.event_time), ("EURUSD.OANDA", 1_398_988_800_611_000_000));
        let (row, symbol) = read(member, line).unwrap();
        assert_eq!((symbol.as_str(), row.event_time), ("EURUSD.FXCM", 1_399_006_800_611_000_000));
        assert_eq!((row.bid, row.ask, row.has), (138_626_000, 138_627_000, has::BID | has::ASK));
    }

    #[test]
    fn a_price_keeps_its_value_with_few_decimals() {
        let price = |decimals| share_price(Piece::whole(b"1836350"), decimals).unwrap();
        assert_eq!((price(8), price(4), price(2)), (18_363_500_000, 1_836_350, 18_364));
    }

    #[test]
    fn a_bad_field_is_named_and_other_members_are_not_taken() {
        let refusal = |line| read("20131007_ibm_Trade_Tick.csv", line).unwrap_err();
        assert!(refusal("14430270,x,283,P,1,0").contains("line 1, column 2 (price): \"x\""));
        assert!(refusal("99999999999,1,283,P,1,0").contains("column 1 (ms)"));
        assert!(refusal("1,2").contains("has 2 columns"));
        assert!(Parser::new("20131007_ibm_minute_trade.csv", None).is_none());
        assert!(Parser::new("readme.txt", None).is_none());
        assert!(Parser::new("20131307_ibm_trade_tick.csv", None).is_none());
    }
}
