//! Trades and quotes as tardis.dev packs them: comma-separated, times in microseconds.
//!
//! Trades have the columns `id`, `side`, `price`, `amount`; quotes `bid_price`, `bid_amount`,
//! `ask_price`, `ask_amount`; both `exchange`, `symbol`, `timestamp` and `local_timestamp`.

use super::columns::{Columns, Row};
use super::normalised::hash64;
use super::number::whole_number;
use super::{HeaderError, Ingester, LineParser, Problem, RowError};
use crate::domain::{Kind, RawTick, flag, has};

const COLUMNS: [&str; 12] = [
    "exchange",
    "symbol",
    "timestamp",
    // Those below depend on the kind.
    "local_timestamp",
    "id",
    "side",
    "price",
    "amount",
    "bid_price",
    "bid_amount",
    "ask_price",
    "ask_amount",
];
const REQUIRED: usize = 3;

const EXCHANGE: usize = 0;
const SYMBOL: usize = 1;
const TIME: usize = 2;
const RECEIVE_TIME: usize = 3;
const ID: usize = 4;
const SIDE: usize = 5;
const PRICE: usize = 6;
const VOLUME: usize = 7;
const BID: usize = 8;
const BID_QUANTITY: usize = 9;
const ASK: usize = 10;
const ASK_QUANTITY: usize = 11;

/// Reads rows under one header.
#[derive(Debug)]
pub struct Parser {
    columns: Columns<{ COLUMNS.len() }>,
    kind: Kind,
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
        let has_column = |name: &[u8]| header.split(|&byte| byte == b',').any(|text| text == name);
        let kind = if has_column(b"price") && has_column(b"amount") {
            Kind::Trade
        } else if has_column(b"bid_price") || has_column(b"ask_price") {
            Kind::Quote
        } else {
            return Err(HeaderError::NoPrices);
        };
        Ok(Self { columns, kind, name: Vec::new() })
    }

    /// Whether `header` looks like this format's.
    pub fn recognises(header: &[u8]) -> bool {
        header.starts_with(b"exchange,symbol,")
    }
}

/// A time in microseconds as nanoseconds.
fn time<const COUNT: usize>(row: Row<'_, COUNT>, column: usize) -> Result<u64, Box<RowError>> {
    row.time(column, row.number(column)?.checked_mul(1_000))
}

impl LineParser for Parser {
    fn row(
        &mut self,
        line: &[u8],
        number: u64,
        ingester: &mut Ingester,
    ) -> Result<(), Box<RowError>> {
        let Self { columns, kind, name } = self;
        let row = columns.cut(line, number)?;
        let event_time = time(row, TIME)?;
        if row.text(SYMBOL).is_empty() {
            return Err(row.error(SYMBOL, Problem::Empty));
        }
        name.clear();
        name.extend_from_slice(row.text(SYMBOL));
        name.push(b'.');
        push_venue(name, row.text(EXCHANGE));
        let entry = ingester.intern(name).map_err(|problem| row.error(SYMBOL, problem))?;
        let mut tick =
            RawTick { event_time, symbol: entry.id.0, kind: *kind as u8, ..RawTick::default() };
        if !row.piece(RECEIVE_TIME).is_empty() {
            tick.receive_time = time(row, RECEIVE_TIME)?;
        }
        let (price, quantity) = (entry.price_decimals, entry.quantity_decimals);
        let mut bits = 0;
        let mut read = |column, bit, decimals| row.amount(column, decimals, bit, &mut bits);
        if *kind == Kind::Trade {
            tick.price = read(PRICE, has::PRICE, price)?;
            tick.volume = read(VOLUME, has::VOLUME, quantity)?;
            tick.flags = match row.text(SIDE) {
                b"buy" => flag::SIDE_BUY,
                b"sell" => flag::SIDE_SELL,
                _ => 0,
            };
            let id = row.text(ID);
            if !id.is_empty() {
                tick.id = whole_number(row.piece(ID)).unwrap_or_else(|_| hash64(id));
                bits |= has::ID;
            }
        } else {
            tick.bid = read(BID, has::BID, price)?;
            tick.ask = read(ASK, has::ASK, price)?;
            tick.bid_quantity = read(BID_QUANTITY, has::BID_QUANTITY, quantity)?;
            tick.ask_quantity = read(ASK_QUANTITY, has::ASK_QUANTITY, quantity)?;
        }
        tick.has = bits;
        ingester.push(tick);
        Ok(())
    }
}

/// Appends our name for one of tardis's exchanges: Binance's markets as elsewhere, the others in
/// capitals with underscores.
fn push_venue(name: &mut Vec<u8>, exchange: &[u8]) {
    match exchange {
        b"binance" => name.extend_from_slice(b"BINANCE_SPOT"),
        b"binance-futures" => name.extend_from_slice(b"BINANCE_USDM"),
        b"binance-delivery" => name.extend_from_slice(b"BINANCE_COINM"),
        _ => name.extend(
            exchange
                .iter()
                .map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{Instruments, SourceId};
    use crate::pipeline::ingest::IngesterConfig;

    const TRADES: &str = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount";
    const QUOTES: &str =
        "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount";

    fn read(header: &str, line: &str) -> Result<(RawTick, String), String> {
        let config = IngesterConfig::new(SourceId(0), Arc::new(Instruments::default()));
        let mut ingester = Ingester::new(config);
        let mut parser = Parser::new(header.as_bytes()).map_err(|error| error.to_string())?;
        parser.row(line.as_bytes(), 2, &mut ingester).map_err(|error| error.to_string())?;
        let batch = ingester.take_batch();
        Ok((batch.rows[0], batch.definitions[0].instrument.symbol.to_string()))
    }

    #[test]
    fn trades_and_quotes_are_told_by_their_columns() {
        let line =
            "binance-futures,BTCUSDT,1582329602111000,1582329602418379,42377944,buy,9682,0.132";
        let (row, symbol) = read(TRADES, line).unwrap();
        assert_eq!(symbol, "BTCUSDT.BINANCE_USDM");
        assert_eq!((row.event_time, row.id), (1_582_329_602_111_000_000, 42_377_944));
        assert_eq!((row.price, row.volume, row.flags), (968_200_000_000, 13_200_000, 2));
        let line = "deribit,BTC-PERPETUAL,1582329601096000,1582329603502092,0.84,9682,9681.92,";
        let (row, symbol) = read(QUOTES, line).unwrap();
        assert_eq!(symbol, "BTC-PERPETUAL.DERIBIT");
        assert_eq!((row.bid, row.ask), (968_192_000_000, 968_200_000_000));
        assert_eq!(row.has, has::BID | has::ASK | has::ASK_QUANTITY);
    }

    #[test]
    fn a_bad_field_or_header_is_named() {
        let line = "binance,BTCUSDT,1582329602111,1582329602418379,1,buy,9682,0.132";
        let message = read(TRADES, line).unwrap_err();
        assert!(message.contains("column 3 (timestamp)") && message.contains("1990"), "{message}");
        let message = read("exchange,symbol,time,price", "").unwrap_err();
        assert!(message.contains("lacks the column `timestamp`"), "{message}");
        assert!(read("exchange,symbol,timestamp,type", "").unwrap_err().contains("neither"));
    }
}
