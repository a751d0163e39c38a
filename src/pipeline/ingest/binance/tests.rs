use std::sync::Arc;

use super::*;
use crate::domain::{Instruments, SourceId};
use crate::pipeline::ingest::{IngesterConfig, LineParser};

const RECEIVED: u64 = 1_723_161_254_087_891_268;

fn ingester() -> Ingester {
    Ingester::new(IngesterConfig::new(SourceId(0), Arc::new(Instruments::default())))
}

/// The rows of some frames, and the symbols behind them.
fn rows(frames: &[&str]) -> (Vec<RawTick>, Vec<String>) {
    let mut ingester = ingester();
    let mut parser = FrameParser::new(None);
    for (number, frame) in (1..).zip(frames) {
        parser.frame(frame.as_bytes(), RECEIVED, number, &mut ingester).unwrap();
    }
    let batch = ingester.take_batch();
    let symbols = batch.definitions.iter().map(|new| new.instrument.symbol.to_string()).collect();
    let rows = batch.rows.into_iter().filter(|row| row.kind != Kind::Boundary as u8).collect();
    (rows, symbols)
}

fn refusal(frame: &str) -> String {
    let outcome = FrameParser::new(None).frame(frame.as_bytes(), RECEIVED, 7, &mut ingester());
    outcome.unwrap_err().to_string()
}

const SPOT_TRADE: &str = r#"{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,
    "s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,
    "m":true,"M":true}}"#;
const SPOT_TICKER: &str = r#"{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000",
    "B":"3.78826000","a":"61837.64000000","A":"1.54698000"}"#;

#[test]
fn a_trade_happens_at_its_trade_time_and_tells_who_aggressed() {
    let (rows, symbols) = rows(&[SPOT_TRADE]);
    let expected = RawTick {
        event_time: 1_723_161_255_342_000_000,
        receive_time: RECEIVED,
        price: 6_183_763_000_000,
        volume: 2_000_000,
        id: 3_735_683_259,
        flags: flag::SIDE_SELL,
        has: has::PRICE | has::VOLUME | has::ID,
        ..RawTick::default()
    };
    assert_eq!((rows, symbols), (vec![expected], vec!["BTCUSDT.BINANCE_SPOT".to_owned()]));
}

#[test]
fn a_spot_quote_gets_the_receive_time_and_says_so() {
    let (rows, _) = rows(&[SPOT_TICKER]);
    assert_eq!((rows[0].event_time, rows[0].flags), (RECEIVED, flag::TIME_IS_RECEIVED));
    assert_eq!((rows[0].bid, rows[0].ask), (6_183_763_000_000, 6_183_764_000_000));
    assert_eq!((rows[0].bid_quantity, rows[0].ask_quantity), (378_826_000, 154_698_000));
    assert_eq!(rows[0].id, 50_093_239_212);
}

#[test]
fn the_market_is_told_from_the_frame() {
    let (rows, symbols) = rows(&[
        SPOT_TRADE,
        r#"{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":5266583935,"p":"61800.30","q":"0.006","X":"INSURANCE_FUND","m":false}"#,
        r#"{"e":"aggTrade","E":1626992742291,"a":14888302,"s":"AKROUSDT","p":"0.01731","q":"312","f":27931348,"l":27931348,"T":1626992742134,"m":true}"#,
        r#"{"u":1007198631825,"e":"bookTicker","s":"ETHUSD_PERP","ps":"ETHUSD","b":"2682.17","B":"159","a":"2682.18","A":"3794","T":1723161257450,"E":1723161257457}"#,
        r#"{"e":"bookTicker","u":1,"s":"BTCUSDT_240927","b":"1","B":"1","a":"2","A":"1","T":1723161257450,"E":1723161257457}"#,
    ]);
    assert_eq!(
        symbols,
        [
            "BTCUSDT.BINANCE_SPOT",
            "BTCUSDT.BINANCE_USDM",
            "AKROUSDT.BINANCE_USDM",
            "ETHUSD_PERP.BINANCE_COINM",
            "BTCUSDT_240927.BINANCE_USDM",
        ]
    );
    assert_eq!(rows[1].flags, flag::SIDE_BUY | flag::OFF_BOOK);
    assert_eq!(rows[2].id, 14_888_302);
    assert_eq!(rows[3].event_time, 1_723_161_257_450_000_000);
}

fn spot_difference(first: u64, last: u64, bids: &str, asks: &str) -> String {
    format!(
        r#"{{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":{first},"u":{last},"b":[{bids}],"a":[{asks}]}}"#
    )
}

#[test]
fn depth_alone_gives_a_quote_whenever_the_top_changes() {
    let frames = [
        spot_difference(1, 5, r#"["9","1"]"#, ""),
        r#"{"lastUpdateId":4,"bids":[["9","2"],["8","1"]],"asks":[["11","3"]]}"#.to_owned(),
        spot_difference(6, 7, r#"["7","1"]"#, ""),
        spot_difference(8, 9, r#"["9","0"]"#, r#"["10.5","4"]"#),
    ];
    let (rows, _) = rows(&frames.each_ref().map(String::as_str));
    let tops: Vec<_> = rows.iter().map(|row| (row.bid, row.bid_quantity, row.ask)).collect();
    const ONE: i64 = 100_000_000;
    assert_eq!(tops, [(9 * ONE, ONE, 11 * ONE), (8 * ONE, ONE, 10 * ONE + ONE / 2)]);
    assert_eq!(rows[1].event_time, 1_723_161_255_208_000_000);
}

#[test]
fn missing_differences_are_counted_and_ask_for_a_snapshot() {
    let mut ingester = ingester();
    let mut parser = FrameParser::new(Some(Market::Spot));
    let mut send = |parser: &mut FrameParser, frame: &str| {
        parser.frame(frame.as_bytes(), RECEIVED, 1, &mut ingester).unwrap()
    };
    let wanted = FrameOutcome::SnapshotWanted(SymbolId(0));
    assert_eq!(send(&mut parser, &spot_difference(1, 5, "", "")), wanted);
    let snapshot = r#"{"lastUpdateId":5,"bids":[["9","2"]],"asks":[["11","3"]]}"#;
    assert_eq!(send(&mut parser, snapshot), FrameOutcome::Read);
    assert_eq!(send(&mut parser, &spot_difference(9, 9, "", "")), wanted);
    let snapshot = r#"{"lastUpdateId":10,"bids":[["9","4"]],"asks":[["11","3"]]}"#;
    assert_eq!(send(&mut parser, snapshot), FrameOutcome::Read);
    assert_eq!((ingester.counters().gaps, ingester.counters().rows), (1, 2));
}

#[test]
fn with_a_ticker_depth_is_not_told_twice() {
    let (rows, _) = rows(&[
        SPOT_TICKER,
        &spot_difference(1, 5, "", ""),
        r#"{"lastUpdateId":5,"bids":[["9","2"]],"asks":[["11","3"]]}"#,
    ]);
    assert_eq!(rows.len(), 1);
}

#[test]
fn of_single_and_aggregated_trades_one_stream_counts() {
    let aggregated = SPOT_TRADE.replace(r#""e":"trade""#, r#""e":"aggTrade","a":1"#);
    let (rows, _) = rows(&[SPOT_TRADE, &aggregated, &SPOT_TRADE.replace("683259", "683260")]);
    assert_eq!(rows.len(), 2);
}

#[test]
fn other_frames_are_skipped_and_bad_ones_refused() {
    let (rows, _) = rows(&[
        r#"{"result":null,"id":1}"#,
        r#"{"stream":"a@kline_1m","data":{"e":"kline","E":1,"s":"A","k":{"t":1}}}"#,
    ]);
    assert!(rows.is_empty());
    assert!(refusal(&SPOT_TRADE[..90]).contains("line 7, column 34 (frame)"));
    assert!(refusal(&SPOT_TRADE[..90]).contains("it ends in the middle"));
    assert!(refusal("hello").contains("an object should begin here"));
    assert!(refusal(r#"{"x":1}"#).contains("lacks the field `e`"));
    assert!(
        refusal(&SPOT_TRADE.replace("61837.63000000", "NaN")).contains("(p): \"NaN\" is not a f")
    );
    assert!(
        refusal(&SPOT_TRADE.replace("1723161255342", "5")).contains("(T): \"5\" is not between")
    );
    assert!(refusal(&SPOT_TRADE.replace(r#""p""#, r#""z""#)).contains("(p): \"\" is empty"));
    let nameless = SPOT_TRADE.replace(r#""s""#, r#""z""#).replace("btcusdt@", "@");
    assert!(refusal(&nameless).contains("lacks the field `s`"));
}

#[test]
fn recordings_of_three_shapes_are_read() {
    let mut ingester = ingester();
    let mut parser = RecordingParser::new(None);
    let ticker = SPOT_TICKER.replace('\n', "");
    for (number, line) in (1..).zip([
        "wss://fstream.binance.com/stream?streams=a <-> 1626992740.179554".to_owned(),
        format!("1626992741.06217: {ticker}"),
        format!("{RECEIVED} {ticker}"),
        SPOT_TRADE.replace('\n', ""),
    ]) {
        assert!(RecordingParser::recognises(line.as_bytes()), "{line}");
        parser.row(line.as_bytes(), number, &mut ingester).unwrap();
    }
    let times: Vec<u64> = ingester
        .take_batch()
        .rows
        .iter()
        .filter(|row| row.kind != Kind::Boundary as u8)
        .map(|row| row.receive_time)
        .collect();
    assert_eq!(times, [1_626_992_741_062_170_000, RECEIVED, 0]);
    assert!(!RecordingParser::recognises(b"ts_ns,symbol"));
    assert!(!RecordingParser::recognises(b"1381132800054000000,IBM.US,trade"));
    let error = parser.row(b"17 {}", 9, &mut ingester).unwrap_err().to_string();
    assert!(error.contains("line 9, column 1 (receive time)"), "{error}");
    let line = format!("{RECEIVED} {{\"e\":\"trade\",\"T\":\"x\"}}");
    let error = parser.row(line.as_bytes(), 9, &mut ingester).unwrap_err().to_string();
    assert!(error.contains("column 39 (T): \"x\" is not a number"), "{error}");
}
