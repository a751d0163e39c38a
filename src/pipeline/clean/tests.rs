use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::domain::{Instruments, SourceId, SymbolId, Timestamp};

const ONE: i64 = 100_000_000;
const SECOND: u64 = 1_000_000_000;
/// 2020-08-03 09:00:00 China Standard Time, a Monday.
const MONDAY_NINE: u64 = 1_596_416_400 * SECOND;

/// A cleaner with one symbol, and the time its next row has by default.
struct Feed {
    cleaner: Cleaner,
    frontier: u64,
    sequence: u64,
}

impl Feed {
    fn new(symbol: &str) -> Self {
        Self::with(symbol, |_| {})
    }

    /// A feed whose class's rules are changed first.
    fn with(symbol: &str, change: impl FnOnce(&mut ClassRules)) -> Self {
        let symbol = Symbol::new(symbol).unwrap();
        let mut rules = CleanRules::default();
        change(rules.of_mut(Instruments::default().class_of(&symbol)));
        let mut cleaner = Cleaner::new(rules);
        let instrument = Arc::new(Instruments::default().resolve(&symbol));
        cleaner.define(&Definition { id: SymbolId(0), instrument });
        Self { cleaner, frontier: 0, sequence: 0 }
    }

    fn clean(&mut self, row: RawTick) -> Result<Tick, Reason> {
        self.frontier = self.frontier.max(row.event_time);
        self.sequence += 1;
        let frontier = Timestamp::from_nanos(self.frontier);
        self.cleaner.clean(Key { frontier, source: SourceId(0), sequence: self.sequence }, &row)
    }

    fn reason(&mut self, row: RawTick) -> Option<Reason> {
        self.clean(row).err()
    }

    fn noted(&self, note: Note) -> u64 {
        self.cleaner.totals().noted_with(note)
    }
}

/// A row of `kind`, `seconds` after Monday nine o'clock.
fn row(kind: Kind, seconds: u64) -> RawTick {
    let event_time = MONDAY_NINE + seconds * SECOND;
    RawTick { event_time, kind: kind as u8, ..RawTick::default() }
}

/// A trade of one unit; the price is in hundredths.
fn trade(seconds: u64, cents: i64) -> RawTick {
    RawTick {
        price: cents * ONE / 100,
        volume: ONE,
        has: has::PRICE | has::VOLUME,
        ..row(Kind::Trade, seconds)
    }
}

/// A quote of both sides, ten units each; prices are in hundredths.
fn quote(seconds: u64, bid: i64, ask: i64) -> RawTick {
    RawTick {
        bid: bid * ONE / 100,
        ask: ask * ONE / 100,
        bid_quantity: 10 * ONE,
        ask_quantity: 10 * ONE,
        has: has::BID | has::ASK | has::BID_QUANTITY | has::ASK_QUANTITY,
        ..row(Kind::Quote, seconds)
    }
}

/// A bid alone, of the exchange `venue_code`.
fn bid(seconds: u64, cents: i64, venue_code: u8) -> RawTick {
    let one_sided = has::BID | has::BID_QUANTITY;
    RawTick { has: one_sided, venue_code, ask: 0, ask_quantity: 0, ..quote(seconds, cents, 0) }
}

/// An ask alone, of the exchange `venue_code`.
fn ask(seconds: u64, cents: i64, venue_code: u8) -> RawTick {
    let one_sided = has::ASK | has::ASK_QUANTITY;
    RawTick { has: one_sided, venue_code, bid: 0, bid_quantity: 0, ..quote(seconds, 0, cents) }
}

/// Last price, and a book one hundredth wide round it; `cumulative` units traded so far.
fn snapshot(seconds: u64, cents: i64, cumulative: i64) -> RawTick {
    RawTick {
        price: cents * ONE / 100,
        cumulative: cumulative * ONE,
        has: quote(0, 1, 2).has | has::PRICE | has::CUMULATIVE,
        kind: Kind::Snapshot as u8,
        ..quote(seconds, cents - 1, cents + 1)
    }
}

const FUTURE: &str = "AP010.CZCE";
const SHARE: &str = "600103.SH";
const COIN: &str = "BTCUSDT.BINANCE_SPOT";
const NYSE: &str = "IBM.US";
const PAIR: &str = "EURUSD.FXCM";
const OTHER: &str = "X.Y";

#[test]
fn a_sound_row_comes_through_with_its_fields_and_no_others() {
    let mut feed = Feed::new(COIN);
    let mut raw = quote(1, 10_000, 10_001);
    raw.has = has::BID | has::ASK | has::ID;
    (raw.id, raw.price) = (7, 5);
    let tick = feed.clean(raw).unwrap();
    assert_eq!((tick.bid, tick.ask, tick.price), (100 * ONE, raw.ask, 0));
    assert_eq!((tick.has, tick.bid_quantity), (has::BID | has::ASK, 0));
    assert_eq!((tick.kind(), tick.symbol()), (Kind::Quote, SymbolId(0)));
}

#[test]
fn boundary_rows_pass_uncounted() {
    let mut feed = Feed::new(COIN);
    let tick = feed.clean(row(Kind::Boundary, 0)).unwrap();
    assert_eq!(tick.kind(), Kind::Boundary);
    assert_eq!(feed.cleaner.totals(), CleanCounts::default());
}

#[test]
fn a_row_of_no_known_symbol_or_kind_is_counted_as_unknown() {
    let mut feed = Feed::new(COIN);
    assert_eq!(feed.reason(RawTick { symbol: 1, ..trade(0, 100) }), Some(Reason::Unknown));
    assert_eq!(feed.reason(RawTick { kind: 4, ..trade(0, 100) }), Some(Reason::Unknown));
    assert_eq!(feed.cleaner.totals().rejected_for(Reason::Unknown), 2);
}

#[test]
fn a_price_is_above_zero_and_below_the_limit() {
    let mut feed = Feed::with(COIN, |rules| rules.price_max = 100);
    assert_eq!(feed.reason(trade(0, 0)), Some(Reason::PriceNotPositive));
    assert_eq!(feed.reason(trade(0, -1)), Some(Reason::PriceNotPositive));
    assert_eq!(feed.reason(trade(0, 1)), None);
    assert_eq!(feed.reason(trade(0, 9_999)), None);
    assert_eq!(feed.reason(trade(0, 10_000)), Some(Reason::PriceTooLarge));
    assert_eq!(feed.reason(quote(0, 9_999, 10_000)), Some(Reason::PriceTooLarge));
    assert_eq!(feed.reason(quote(0, 0, 1)), Some(Reason::PriceNotPositive));
    assert_eq!(feed.reason(quote(0, -1, 1)), Some(Reason::PriceNotPositive));
}

#[test]
fn no_quantity_is_below_zero_but_zero_is_one() {
    let mut feed = Feed::new(FUTURE);
    assert_eq!(feed.reason(RawTick { volume: 0, ..trade(0, 100) }), None);
    assert_eq!(feed.reason(RawTick { volume: -1, ..trade(0, 100) }), Some(Reason::VolumeNegative));
    let spoiled = |spoil: fn(&mut RawTick)| {
        let mut row = snapshot(1, 100, 5);
        spoil(&mut row);
        row
    };
    for row in [
        spoiled(|row| row.bid_quantity = -1),
        spoiled(|row| row.ask_quantity = -1),
        spoiled(|row| row.cumulative = -1),
    ] {
        assert_eq!(feed.reason(row), Some(Reason::VolumeNegative));
    }
    // A field the source did not give is not looked at.
    assert_eq!(feed.reason(RawTick { bid_quantity: -1, ..trade(0, 100) }), None);
}

#[test]
fn a_row_that_says_nothing_is_empty() {
    let mut feed = Feed::new(SHARE);
    let volume = RawTick { has: has::VOLUME, ..trade(0, 100) };
    assert_eq!(feed.reason(volume), Some(Reason::Empty));
    let price = RawTick { has: has::PRICE, price: 1, ..row(Kind::Quote, 0) };
    assert_eq!(feed.reason(price), Some(Reason::Empty));
    let nothing = RawTick { has: has::CUMULATIVE, ..row(Kind::Snapshot, 0) };
    assert_eq!(feed.reason(nothing), Some(Reason::Empty));
}

#[test]
fn a_spread_is_below_a_tenth_of_the_bid() {
    let mut feed = Feed::new(COIN);
    assert_eq!(feed.reason(quote(0, 1_000, 1_099)), None);
    assert_eq!(feed.reason(quote(1, 1_000, 1_100)), Some(Reason::SpreadTooWide));
    let mut narrow = Feed::with(COIN, |rules| rules.spread_max_ppm = 1_000);
    assert_eq!(narrow.reason(quote(0, 100_000, 100_099)), None);
    assert_eq!(narrow.reason(quote(1, 100_000, 100_100)), Some(Reason::SpreadTooWide));
    let mut none = Feed::with(COIN, |rules| rules.spread_max_ppm = 0);
    assert_eq!(none.reason(quote(0, 100_000, 100_001)), Some(Reason::SpreadTooWide));
}

#[test]
fn a_crossed_book_is_dirt_everywhere() {
    for symbol in [COIN, NYSE, SHARE, FUTURE, PAIR, OTHER] {
        assert_eq!(Feed::new(symbol).reason(quote(0, 101, 100)), Some(Reason::Crossed), "{symbol}");
    }
    let mut feed = Feed::with(PAIR, |rules| rules.crossed = Verdict::Accept);
    assert_eq!(feed.reason(quote(0, 101, 100)), None);
}

#[test]
fn a_locked_book_is_dirt_where_one_engine_matches() {
    for symbol in [COIN, SHARE, FUTURE] {
        assert_eq!(Feed::new(symbol).reason(quote(0, 100, 100)), Some(Reason::Locked), "{symbol}");
    }
    for symbol in [NYSE, PAIR, OTHER] {
        let mut feed = Feed::new(symbol);
        assert_eq!(feed.reason(quote(0, 100, 100)), None, "{symbol}");
        assert_eq!(feed.noted(Note::Locked), 1);
    }
}

#[test]
fn a_quote_of_one_side_is_sound_unless_the_class_has_two() {
    for symbol in [COIN, NYSE, SHARE, FUTURE, OTHER] {
        let mut feed = Feed::new(symbol);
        assert_eq!(feed.reason(bid(0, 100, 0)), None, "{symbol}");
        assert_eq!(feed.reason(ask(0, 101, 0)), None, "{symbol}");
    }
    assert_eq!(Feed::new(PAIR).reason(bid(0, 100, 0)), Some(Reason::OneSided));
}

#[test]
fn a_side_of_zero_is_a_side_that_is_not_there() {
    // At its price limit a future has nobody on one side.
    let mut feed = Feed::new(FUTURE);
    let raw = RawTick { ask: 0, ask_quantity: 0, ..snapshot(0, 7_000, 5) };
    let tick = feed.clean(raw).unwrap();
    assert_eq!((tick.bid().is_some(), tick.ask(), tick.ask_quantity()), (true, None, None));
    assert_eq!(feed.noted(Note::NoSide), 1);
    let raw = RawTick { ask: 0, ..quote(0, 100, 0) };
    assert_eq!(Feed::new(COIN).reason(raw), Some(Reason::PriceNotPositive));
}

#[test]
fn a_last_price_of_zero_is_sound_until_the_first_trade() {
    let mut feed = Feed::new(SHARE);
    let raw = RawTick { price: 0, ..snapshot(0, 1_500, 0) };
    let tick = feed.clean(raw).unwrap();
    assert_eq!((tick.price(), tick.bid().is_some()), (None, true));
    assert_eq!(feed.noted(Note::NoPriceYet), 1);
    let raw = RawTick { price: 0, ..snapshot(1, 1_500, 1) };
    assert_eq!(feed.reason(raw), Some(Reason::PriceNotPositive));
    let raw = RawTick { price: 0, ..snapshot(0, 1_500, 0) };
    assert_eq!(Feed::new(OTHER).reason(raw), Some(Reason::PriceNotPositive));
    assert_eq!(feed.reason(trade(2, 0)), Some(Reason::PriceNotPositive), "never of a trade");
}

#[test]
fn a_call_auction_shows_one_price_twice_and_nobody_can_trade_on_it() {
    let mut feed = Feed::new(SHARE);
    let auction = |seconds, cents| RawTick {
        price: 0,
        bid: cents * ONE / 100,
        flags: flag::AUCTION,
        ask: cents * ONE / 100,
        ..snapshot(seconds, 1_500, 0)
    };
    let tick = feed.clean(auction(0, 1_500)).unwrap();
    assert!(tick.is_indicative() && tick.bid == tick.ask);
    // Nobody has ordered yet.
    let tick = feed.clean(auction(1, 0)).unwrap();
    assert_eq!(tick.has & (has::PRICE | has::BID | has::ASK), 0);
    assert_eq!((feed.noted(Note::Indicative), feed.noted(Note::Locked)), (2, 1));
    assert!(!feed.clean(snapshot(2, 1_500, 1)).unwrap().is_indicative());
    // A break shows a book that nobody can trade on either.
    let closed = RawTick { flags: flag::CLOSED, ..snapshot(3, 1_500, 1) };
    assert!(feed.clean(closed).unwrap().is_indicative());
}

#[test]
fn what_the_vendor_suspects_and_what_bypassed_the_book_is_refused() {
    let suspicious = RawTick { flags: flag::SUSPICIOUS, ..trade(0, 100) };
    assert_eq!(Feed::new(NYSE).reason(suspicious), Some(Reason::Suspicious));
    let off_book = RawTick { flags: flag::OFF_BOOK, ..trade(0, 100) };
    assert_eq!(Feed::new(COIN).reason(off_book), Some(Reason::OffBook));
    let mut trusting = Feed::with(NYSE, |rules| rules.suspicious = Verdict::Accept);
    assert_eq!(trusting.reason(suspicious), None);
}

#[test]
fn a_login_tick_of_another_day_is_stale() {
    let mut feed = Feed::new(FUTURE);
    // Friday, 19:29, with Monday's trading day.
    let friday = MONDAY_NINE - (3 * 86_400 - 37_740) * SECOND;
    let login = RawTick { event_time: friday, trading_day: 20_200_803, ..snapshot(0, 7_185, 0) };
    assert_eq!(feed.reason(login), Some(Reason::StaleSession));
    let today = RawTick { trading_day: 20_200_803, ..snapshot(0, 7_169, 419) };
    assert_eq!(feed.reason(today), None);
    // A night session is dated before its trading day, and is sound.
    let night = 12 * 3_600 + 60;
    let tomorrow = RawTick { trading_day: 20_200_804, ..snapshot(night, 7_150, 5) };
    assert_eq!(feed.reason(tomorrow), None);
    let yesterday = RawTick { trading_day: 20_200_803, ..snapshot(night + 1, 7_150, 5) };
    assert_eq!(feed.reason(yesterday), Some(Reason::StaleSession));
}

#[test]
fn a_settlement_row_after_the_close_is_stale() {
    let mut feed = Feed::new("IF2101.CFFEX");
    let close = 6 * 3_600;
    assert_eq!(feed.reason(snapshot(close, 5_260, 9)), None);
    assert_eq!(feed.reason(snapshot(close + 15 * 60, 5_260, 9)), None, "bonds trade until 15:15");
    assert_eq!(feed.reason(snapshot(close + 16 * 60, 5_260, 9)), Some(Reason::StaleSession));
    assert_eq!(Feed::new(COIN).reason(trade(close + 16 * 60, 100)), None);
}

#[test]
fn a_row_that_repeats_the_one_before_is_a_duplicate() {
    let mut feed = Feed::new(FUTURE);
    assert_eq!(feed.reason(snapshot(0, 7_000, 5)), None);
    let again = RawTick { receive_time: 9, ..snapshot(0, 7_000, 5) };
    assert_eq!(feed.reason(again), Some(Reason::Duplicate), "whenever it was received");
    assert_eq!(feed.reason(snapshot(1, 7_000, 5)), None, "at another time it is news");
    assert_eq!(feed.reason(snapshot(1, 7_000, 6)), None, "and so is another volume");
    let other_condition = RawTick { condition: 1, ..snapshot(1, 7_000, 6) };
    assert_eq!(feed.reason(other_condition), None);
}

#[test]
fn a_closing_snapshot_sent_again_is_a_duplicate_though_its_volume_was_counted() {
    let mut feed = Feed::new(FUTURE);
    let volume = |volume| RawTick {
        has: snapshot(0, 1, 1).has | has::VOLUME,
        volume,
        ..snapshot(0, 7_000, 220_577)
    };
    assert_eq!(feed.reason(volume(24 * ONE)), None);
    assert_eq!(feed.reason(volume(0)), Some(Reason::Duplicate));
}

#[test]
fn an_id_seen_before_is_a_duplicate() {
    let with_id =
        |seconds, id| RawTick { id, has: trade(0, 1).has | has::ID, ..trade(seconds, 10_000) };
    for symbol in [COIN, OTHER] {
        let mut feed = Feed::new(symbol);
        assert_eq!(feed.reason(with_id(0, 0)), None);
        assert_eq!(feed.reason(with_id(0, 0)), Some(Reason::Duplicate));
        assert_eq!(feed.reason(with_id(0, 5)), None, "equal but for the id: two trades");
        assert_eq!(feed.reason(with_id(1, 5)), Some(Reason::Duplicate));
        let lower = feed.reason(with_id(0, 4));
        // Only some venues number their trades upward.
        assert_eq!(lower, (symbol == COIN).then_some(Reason::Duplicate));
        assert_eq!(feed.reason(with_id(2, 1)), None, "a venue that starts its numbers over");
    }
}

#[test]
fn identical_trades_without_an_id_are_counted_and_kept() {
    let mut feed = Feed::new(NYSE);
    for _ in 0..3 {
        assert_eq!(feed.reason(trade(0, 18_167)), None);
    }
    assert_eq!((feed.noted(Note::IdenticalTrade), feed.cleaner.totals().accepted), (2, 3));
    let mut strict = Feed::with(NYSE, |rules| rules.identical_trade = Verdict::Reject);
    assert_eq!(strict.reason(trade(0, 18_167)), None);
    assert_eq!(strict.reason(trade(0, 18_167)), Some(Reason::Duplicate));
}

#[test]
fn a_side_that_did_not_change_is_a_duplicate_and_one_that_changed_back_is_not() {
    let mut feed = Feed::new(NYSE);
    assert_eq!(feed.reason(bid(0, 100, b'P')), None);
    assert_eq!(feed.reason(ask(0, 102, b'P')), None);
    assert_eq!(feed.reason(bid(0, 101, b'P')), None);
    assert_eq!(feed.reason(ask(0, 102, b'P')), Some(Reason::Duplicate));
    assert_eq!(feed.reason(ask(0, 102, b'Q')), None, "another exchange's");
    assert_eq!(feed.reason(bid(0, 100, b'P')), None, "back where it was");
    assert_eq!(feed.reason(bid(1, 100, b'P')), None, "still there a second later");
    // The ask said so long ago is no repetition of now.
    assert_eq!(feed.reason(ask(1, 102, b'P')), None);
}

#[test]
fn a_whole_quote_between_two_halves_parts_them() {
    let mut feed = Feed::new(NYSE);
    assert_eq!(feed.reason(bid(0, 100, 0)), None);
    assert_eq!(feed.reason(quote(0, 101, 102)), None);
    assert_eq!(feed.reason(bid(0, 100, 0)), None);
    assert_eq!(feed.reason(quote(0, 101, 102)), None);
    assert_eq!(feed.reason(quote(0, 101, 102)), Some(Reason::Duplicate));
}

#[test]
fn a_row_older_than_its_like_is_a_reversal_and_older_than_others_is_not() {
    let mut feed = Feed::new(NYSE);
    assert_eq!(feed.reason(trade(10, 18_000)), None);
    assert_eq!(feed.reason(trade(10, 18_001)), None, "equally old is in order");
    let before = RawTick { event_time: trade(10, 0).event_time - 1, ..trade(0, 18_000) };
    assert_eq!(feed.reason(before), Some(Reason::TimeReversal));
    // Of another kind, time basis or exchange it is not late.
    assert_eq!(feed.reason(bid(5, 18_000, 0)), None);
    assert_eq!(feed.reason(bid(4, 18_000, b'P')), None);
    let received = RawTick { flags: flag::TIME_IS_RECEIVED, ..bid(3, 18_000, b'P') };
    assert_eq!(feed.reason(received), None);
    assert_eq!(feed.reason(bid(3, 18_000, b'P')), Some(Reason::TimeReversal));
    let mut tolerant = Feed::with(NYSE, |rules| rules.reversal_tolerance_ns = 2 * SECOND);
    assert_eq!(tolerant.reason(trade(10, 18_000)), None);
    assert_eq!(tolerant.reason(trade(8, 18_000)), None);
    assert_eq!(tolerant.reason(trade(9, 18_000)), None, "the newest stays the measure");
    assert_eq!(tolerant.reason(trade(7, 18_000)), Some(Reason::TimeReversal));
}

#[test]
fn one_row_from_the_future_does_not_silence_a_feed_for_good() {
    let mut feed = Feed::with(NYSE, |rules| rules.reversal_run_max = 3);
    assert_eq!(feed.reason(trade(1_000_000, 18_000)), None);
    for seconds in 0..3 {
        assert_eq!(feed.reason(trade(seconds, 18_000)), Some(Reason::TimeReversal));
    }
    assert_eq!(feed.reason(trade(3, 18_000)), None);
    assert_eq!(feed.reason(trade(4, 18_000)), None);
    assert_eq!(feed.noted(Note::ClockReset), 1);
    assert_eq!(
        feed.reason(trade(3, 18_000)),
        Some(Reason::TimeReversal),
        "and it is on guard again"
    );
    let mut stubborn = Feed::with(NYSE, |rules| rules.reversal_run_max = 0);
    assert_eq!(stubborn.reason(trade(1_000_000, 18_000)), None);
    assert!((0..5_000).all(|at| stubborn.reason(trade(at, 18_000)).is_some()));
}

/// A feed that has seen a quiet price of 100 long enough.
fn quiet(symbol: &str) -> Feed {
    let mut feed = Feed::new(symbol);
    for seconds in 0..40 {
        assert_eq!(feed.reason(trade(seconds, 10_000)), None);
    }
    feed
}

#[test]
fn a_price_far_from_a_quiet_market_is_an_outlier() {
    for (symbol, percent) in
        [(COIN, 5), (NYSE, 5), (FUTURE, 5), (SHARE, 10), (OTHER, 10), (PAIR, 2)]
    {
        let far = 10_000 + percent * 100;
        assert_eq!(quiet(symbol).reason(trade(40, far)), None, "{symbol} at the limit");
        assert_eq!(quiet(symbol).reason(trade(40, far + 1)), Some(Reason::Outlier), "{symbol}");
        assert_eq!(
            quiet(symbol).reason(trade(40, 19_999 - far)),
            Some(Reason::Outlier),
            "{symbol}"
        );
    }
    let mut feed = quiet(COIN);
    assert_eq!(feed.reason(trade(40, 15_000)), Some(Reason::Outlier));
    assert_eq!(feed.reason(trade(41, 10_000)), None, "and does not become the measure");
    assert_eq!(
        feed.reason(quote(41, 10_000, 10_600)),
        Some(Reason::Outlier),
        "nor may one side be"
    );
}

#[test]
fn a_wild_market_explains_a_wild_price() {
    // Four prices in turn, two apart: the median deviation is 2, ten of them scaled are 29.65.
    let mut feed = Feed::new(COIN);
    for seconds in 0..40 {
        let cents = [10_000, 10_200, 10_400, 10_600][usize::try_from(seconds % 4).unwrap()];
        assert_eq!(feed.reason(trade(seconds, cents)), None);
    }
    let median = 10_400;
    assert_eq!(feed.clone_reason(trade(40, median + 2_965)), None);
    assert_eq!(feed.clone_reason(trade(40, median + 2_966)), Some(Reason::Outlier));
}

#[test]
fn a_few_prices_are_too_few_to_tell() {
    let mut feed = Feed::new(COIN);
    for seconds in 0..15 {
        assert_eq!(feed.reason(trade(seconds, 10_000)), None);
    }
    assert_eq!(feed.clone_reason(trade(15, 15_000)), None);
    assert_eq!(feed.reason(trade(15, 10_000)), None);
    assert_eq!(feed.reason(trade(16, 15_000)), Some(Reason::Outlier));
}

impl Feed {
    /// What `row` would be, had it come now.
    fn clone_reason(&self, row: RawTick) -> Option<Reason> {
        let Self { cleaner, frontier, sequence } = self;
        Self { cleaner: cleaner.clone(), frontier: *frontier, sequence: *sequence }.reason(row)
    }
}

#[test]
fn a_price_that_stays_is_a_new_level() {
    let mut feed = quiet(COIN);
    for seconds in 40..44 {
        assert_eq!(feed.reason(trade(seconds, 12_000)), Some(Reason::Outlier));
    }
    assert_eq!(feed.reason(trade(44, 12_100)), None);
    assert_eq!(feed.noted(Note::LevelConfirmed), 1);
    assert_eq!(feed.reason(trade(45, 12_000)), None);
    // Errors that do not agree with each other, or that sound prices part, confirm nothing.
    let mut feed = quiet(COIN);
    for (seconds, cents) in (40..60).zip([12_000, 15_000].into_iter().cycle()) {
        assert_eq!(feed.reason(trade(seconds, cents)), Some(Reason::Outlier));
    }
    assert_eq!(feed.noted(Note::LevelConfirmed), 0);
    for seconds in 60..80 {
        assert_eq!(feed.reason(trade(seconds, 12_000)), Some(Reason::Outlier));
        assert_eq!(feed.reason(trade(seconds, 10_000)), None);
    }
    assert_eq!(feed.noted(Note::LevelConfirmed), 0);
}

#[test]
fn a_new_day_or_a_long_silence_may_open_anywhere() {
    let mut feed = quiet(COIN);
    assert_eq!(feed.clone_reason(trade(39 + 1_800, 12_000)), Some(Reason::Outlier));
    assert_eq!(feed.reason(trade(39 + 1_801, 12_000)), None);
    let mut feed = Feed::new(FUTURE);
    for seconds in 0..40 {
        let monday = RawTick { trading_day: 20_200_803, ..snapshot(seconds, 10_000, 5) };
        assert_eq!(feed.reason(monday), None);
    }
    let gap = 86_400;
    let tuesday = RawTick { trading_day: 20_200_804, ..snapshot(gap, 11_000, 5) };
    assert_eq!(feed.reason(tuesday), None);
}

#[test]
fn one_exchange_may_stand_far_from_the_market_but_a_stub_is_no_quote() {
    let mut feed = quiet(NYSE);
    assert_eq!(feed.reason(bid(40, 9_000, b'M')), None);
    assert_eq!(feed.reason(ask(40, 14_900, b'M')), None);
    assert_eq!(feed.reason(trade(41, 10_000)), None, "what it quotes is nobody's measure");
    assert_eq!(feed.reason(bid(41, 1, b'M')), Some(Reason::Outlier));
    assert_eq!(feed.reason(ask(41, 19_999_999, b'M')), Some(Reason::Outlier));
}

#[test]
fn the_traded_quantity_is_taken_from_the_cumulative_one_where_it_is_missing() {
    let mut feed = Feed::new(SHARE);
    let volume = |feed: &mut Feed, seconds, cumulative| {
        feed.clean(snapshot(seconds, 1_500, cumulative))
            .unwrap()
            .volume()
            .map(|volume| volume.0 / ONE)
    };
    assert_eq!(volume(&mut feed, 0, 900), None, "the morning was not seen");
    assert_eq!(volume(&mut feed, 1, 1_000), Some(100));
    // A row that was refused keeps its volume for the next.
    let crossed = RawTick { bid: 16 * ONE, ..snapshot(2, 1_500, 1_200) };
    assert_eq!(feed.reason(crossed), Some(Reason::Crossed));
    assert_eq!(volume(&mut feed, 3, 1_250), Some(250));
    assert_eq!(volume(&mut feed, 4, 100), None, "a day that began unsaid");
    assert_eq!(volume(&mut feed, 5, 0), Some(0));
    assert_eq!(volume(&mut feed, 6, 40), Some(40));
    let given = RawTick {
        has: snapshot(0, 1, 1).has | has::VOLUME,
        volume: 7 * ONE,
        ..snapshot(7, 1_500, 50)
    };
    assert_eq!(feed.clean(given).unwrap().volume, 7 * ONE, "what the source says stands");
}

#[test]
fn a_symbol_defined_again_keeps_its_counts_and_one_renumbered_does_not() {
    let mut feed = Feed::new(NYSE);
    assert_eq!(feed.reason(trade(9, 18_000)), None);
    let definition = |symbol: &str| Definition {
        id: SymbolId(0),
        instrument: Arc::new(Instruments::default().resolve(&Symbol::new(symbol).unwrap())),
    };
    feed.cleaner.define(&definition(NYSE));
    assert_eq!(feed.reason(trade(8, 18_000)), Some(Reason::TimeReversal));
    feed.cleaner.define(&definition("BAC.US"));
    assert_eq!(feed.reason(trade(8, 18_000)), None);
    assert_eq!(feed.cleaner.totals().rows(), 1);
}

#[test]
fn other_rules_hold_from_the_next_row_on() {
    let mut feed = quiet(COIN);
    let mut rules = CleanRules::default();
    rules.of_mut(Class::CryptoSpot).outlier.move_max_ppm = 1_000;
    rules.of_mut(Class::CryptoSpot).price_max = 101;
    feed.cleaner.set_rules(rules);
    assert_eq!(feed.reason(trade(40, 10_011)), Some(Reason::Outlier));
    assert_eq!(feed.reason(trade(40, 10_100)), Some(Reason::PriceTooLarge));
    assert_eq!(feed.reason(trade(40, 10_010)), None);
}

/// Rows near enough to each other to provoke every rule.
fn any_row() -> impl Strategy<Value = RawTick> {
    let shape = (0..4u8, any::<u8>(), 0..6u64, -1..9i64, prop::bool::weighted(0.1));
    let detail = (0..3u8, 0..8u16, 0..4u64, -1..4i64, 0..3u32);
    (shape, detail).prop_map(|(shape, detail)| {
        let (kind, has, seconds, step, far) = shape;
        let (venue_code, flags, id, volume, day) = detail;
        let price = if far { step * 40 * ONE } else { 100 * ONE + step * ONE / 10 };
        let trading_day = if day == 0 { 0 } else { 20_200_802 + day };
        RawTick {
            kind,
            has,
            venue_code: venue_code * 40,
            price,
            bid: price,
            ask: price + (step - 1) * ONE / 50,
            volume,
            bid_quantity: volume + 1,
            ask_quantity: volume + 1,
            cumulative: volume * 3,
            id,
            symbol: u32::from(kind == 2 && step == 3),
            trading_day,
            flags: if flags < 6 { flags & 1 } else { 1 << flags },
            ..row(Kind::Trade, seconds + if far { 25_000 } else { 0 })
        }
    })
}

fn two_symbols() -> Feed {
    let mut feed = Feed::with(FUTURE, |rules| {
        rules.reversal_run_max = 5;
        rules.outlier.count_min = 3;
    });
    let instrument = Arc::new(Instruments::default().resolve(&Symbol::new(NYSE).unwrap()));
    feed.cleaner.define(&Definition { id: SymbolId(1), instrument });
    feed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Invariant 1, and what a clean row promises its readers.
    #[test]
    fn every_row_is_counted_once_and_a_clean_row_is_plausible(
        rows in prop::collection::vec(any_row(), 0..200),
    ) {
        let mut feed = two_symbols();
        let mut passed = 0;
        let mut boundaries = 0;
        for raw in &rows {
            boundaries += u64::from(raw.kind == Kind::Boundary as u8);
            let Ok(tick) = feed.clean(*raw) else { continue };
            passed += 1;
            for (given, value) in [
                (tick.price().is_some(), tick.price),
                (tick.bid().is_some(), tick.bid),
                (tick.ask().is_some(), tick.ask),
            ] {
                prop_assert_eq!(given, value > 0);
                prop_assert!(value >= 0);
            }
            if tick.given(BOTH_SIDES) {
                prop_assert!(tick.bid <= tick.ask);
                prop_assert!((tick.ask - tick.bid) * 10 < tick.bid || tick.is_indicative());
            }
            prop_assert!(tick.volume >= 0 && tick.bid_quantity >= 0 && tick.ask_quantity >= 0);
        }
        let totals = feed.cleaner.totals();
        prop_assert_eq!(totals.accepted + boundaries, passed);
        prop_assert_eq!(totals.rows() + boundaries, rows.len() as u64);
        let by_symbol: u64 = feed.cleaner.counts().map(|(_, counts)| counts.rows()).sum();
        prop_assert_eq!(by_symbol, totals.rows());
    }

    /// Invariant 4.
    #[test]
    fn a_cleaner_read_back_continues_as_if_nothing_had_happened(
        rows in prop::collection::vec(any_row(), 1..200),
        at in any::<prop::sample::Index>(),
    ) {
        let mut feed = two_symbols();
        let cut = at.index(rows.len());
        for raw in &rows[..cut] {
            let _ = feed.clean(*raw);
        }
        let config = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(&feed.cleaner, config).unwrap();
        let cleaner = bincode::serde::decode_from_slice(&bytes, config).unwrap().0;
        let mut restored = Feed { cleaner, ..feed };
        let mut feed = two_symbols();
        for raw in &rows[..cut] {
            let _ = feed.clean(*raw);
        }
        for raw in &rows[cut..] {
            prop_assert_eq!(feed.clean(*raw), restored.clean(*raw));
        }
        prop_assert_eq!(&feed.cleaner, &restored.cleaner);
    }

    /// Invariants 2, but for the counts that let a feed recover, and 3.
    #[test]
    fn what_was_refused_and_what_others_did_leaves_no_trace(
        rows in prop::collection::vec(any_row(), 0..200),
    ) {
        let lasting = || {
            let mut feed = two_symbols();
            let mut rules = feed.cleaner.rules().clone();
            for class in &mut rules.classes {
                (class.reversal_run_max, class.outlier.confirm_count) = (0, 0);
                // What a silence is depends on the frontier, which all rows of the source share.
                class.outlier.gap_ns = u64::MAX;
                class.session = None;
            }
            feed.cleaner.set_rules(rules);
            feed
        };
        let (mut all, mut only, mut renumbered) = (lasting(), lasting(), lasting());
        let instrument = Arc::new(Instruments::default().resolve(&Symbol::new(FUTURE).unwrap()));
        renumbered.cleaner.define(&Definition { id: SymbolId(9), instrument });
        for raw in &rows {
            let verdict = all.clean(*raw);
            if verdict.is_ok() {
                prop_assert_eq!(only.clean(*raw), verdict);
            }
            if raw.symbol == 0 {
                let moved = renumbered.clean(RawTick { symbol: 9, ..*raw });
                prop_assert_eq!(moved.map(|tick| Tick { symbol: 0, ..tick }), verdict);
            }
        }
    }

    /// The band in which prices are not judged may not let through what the rule forbids.
    #[test]
    fn a_calm_price_is_within_the_allowed_move_of_the_last(
        steps in prop::collection::vec(-300..300i64, 1..100),
    ) {
        let mut feed = Feed::with(COIN, |rules| {
            rules.outlier.deviation_factor_milli = 0;
            rules.outlier.count_min = 1;
            rules.outlier.window = 1;
            rules.outlier.confirm_count = 0;
        });
        let mut last = 0;
        for (seconds, step) in (0..).zip(steps) {
            let cents = 4_000 + step;
            let price = cents * ONE / 100;
            // With a window of one the median is the last price, and its deviation 0.
            let far = last != 0 && (price - last).abs() * 20 > last;
            prop_assert_eq!(feed.reason(trade(seconds, cents)), far.then_some(Reason::Outlier));
            if !far {
                last = price;
            }
        }
    }
}
