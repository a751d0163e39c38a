//! One symbol's market: how its price wanders and what its feed tells of it.

use serde::{Deserialize, Serialize};

use super::SimulatedSymbol;
use super::random::{Random, bell};
use crate::domain::{Class, Kind, RawTick, flag, has};

/// What the rows of a class are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feed {
    /// Trades, and quotes of both sides with update ids; quotes have no event time of their own
    /// when `quotes_are_received`.
    Book {
        /// As on Binance spot.
        quotes_are_received: bool,
    },
    /// Trades without ids, and quotes of one side by several exchanges.
    Exchanges,
    /// A picture every half second, if anything happened.
    Snapshots,
    /// Quotes of both sides without sizes.
    Provider,
}

impl Feed {
    pub(super) const fn of(class: Class) -> Self {
        match class {
            Class::CryptoSpot => Self::Book { quotes_are_received: true },
            Class::CryptoLinear | Class::CryptoInverse | Class::Generic => {
                Self::Book { quotes_are_received: false }
            }
            Class::EquityUs => Self::Exchanges,
            Class::EquityCn | Class::FuturesCn => Self::Snapshots,
            Class::Fx => Self::Provider,
        }
    }

    /// Deviation of the relative price change from row to row, before its own ups and downs.
    const fn volatility(self) -> f64 {
        match self {
            Self::Book { .. } => 30e-6,
            Self::Exchanges => 20e-6,
            Self::Snapshots => 40e-6,
            Self::Provider => 12e-6,
        }
    }

    /// Least ticks between bid and ask.
    const fn spread_ticks(self) -> i64 {
        match self {
            Self::Book { .. } | Self::Exchanges | Self::Snapshots => 1,
            Self::Provider => 8,
        }
    }

    /// Mean nanoseconds between two rows of a symbol.
    const fn gap_nanos(self) -> f64 {
        match self {
            Self::Book { .. } => 100e6,
            Self::Exchanges => 150e6,
            Self::Snapshots => SNAPSHOT_NANOS as f64,
            Self::Provider => 300e6,
        }
    }
}

const SNAPSHOT_NANOS: u64 = 500_000_000;
const HOUR_NANOS: u64 = 3_600_000_000_000;
const DAY_NANOS: u64 = 24 * HOUR_NANOS;

/// Exchanges a share is quoted by, as their venue codes.
const EXCHANGES: [u8; 4] = *b"NPQZ";

/// How strongly a calm or wild row carries over to the next one: GARCH(1, 1) of Bollerslev (1986),
/// with variance 1 in the long run.
const VARIANCE_OF_LAST: f64 = 0.05;
const VARIANCE_KEPT: f64 = 0.94;

/// What one symbol remembers from row to row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Market {
    random: Random,
    /// When the next row happens, unix nanoseconds.
    pub(super) due: u64,
    /// The middle of the book, in ticks.
    middle: f64,
    /// What the middle returns to, in ticks.
    anchor: f64,
    /// Relative change of the anchor from row to row.
    trend: f64,
    /// Variance of the next change, 1 in the long run.
    variance: f64,
    /// Relative change per row while a jump lasts.
    jump: f64,
    jump_rows: u16,
    /// The displayed book, in ticks.
    bid: i64,
    ask: i64,
    /// Rows made, injected ones not counted.
    pub(super) rows: u64,
    /// `rows` when dirt was last injected, or the trading day began.
    pub(super) dirty_at: u64,
    trade_id: u64,
    update_id: u64,
    /// Volume of the day, in lots.
    day_lots: i64,
    /// The trading day, in days since 1970.
    day: u32,
}

impl Market {
    pub(super) fn new(symbol: &SimulatedSymbol, start: u64, seed: u64, has_sessions: bool) -> Self {
        let instrument = &symbol.instrument;
        let mut random = Random::new(seed, instrument.symbol.as_str());
        let middle = (symbol.price.0 / instrument.tick_size.0) as f64;
        // Symbols do not start, and pictures are not taken, at the same moment.
        let offset = random.word() % SNAPSHOT_NANOS;
        let due = start + offset;
        Self {
            random,
            due: if has_sessions && symbol.feed == Feed::Snapshots { in_session(due) } else { due },
            middle,
            anchor: middle,
            trend: 0.0,
            variance: 1.0,
            jump: 0.0,
            jump_rows: 0,
            bid: 0,
            ask: 0,
            rows: 0,
            dirty_at: 0,
            trade_id: 1_000_000 + offset,
            update_id: 1_000_000_000 + offset,
            day_lots: 0,
            day: 0,
        }
    }

    /// The row that is due; moves the market and says when the next one is. Also gives 64 random
    /// bits that the row did not use.
    #[inline]
    pub(super) fn next_row(
        &mut self,
        symbol: &SimulatedSymbol,
        rows_per_second: Option<u32>,
    ) -> (RawTick, u64) {
        let feed = symbol.feed;
        let now = self.due;
        let word = self.random.word();
        // Half of all rows change sizes only, or trade at the price that was there.
        if word & 1 == 0 || self.rows == 0 {
            self.wander(symbol, feed);
        }
        self.rows += 1;
        self.schedule(feed, rows_per_second);
        let row = match feed {
            Feed::Book { quotes_are_received } => self.book_row(symbol, quotes_are_received, word),
            Feed::Exchanges => self.exchange_row(symbol, word),
            Feed::Snapshots => self.snapshot_row(symbol, now, word),
            Feed::Provider => {
                RawTick { kind: Kind::Quote as u8, has: has::BID | has::ASK, ..self.quoted(symbol) }
            }
        };
        let received = row.flags & flag::TIME_IS_RECEIVED != 0;
        let delay = if received { 0 } else { 200_000 + (word >> 44 & 0xfff) * 500 };
        (RawTick { event_time: now, receive_time: now + delay, ..row }, self.random.word())
    }

    /// An id that no row has had.
    pub(super) const fn fresh_id(&mut self, kind: u8) -> u64 {
        let id = if kind == Kind::Trade as u8 { &mut self.trade_id } else { &mut self.update_id };
        *id += 1;
        *id
    }

    /// Moves the middle and lays bid and ask round it.
    #[expect(clippy::cast_possible_truncation, reason = "prices are far below 2^53 ticks")]
    fn wander(&mut self, symbol: &SimulatedSymbol, feed: Feed) {
        let volatility = feed.volatility();
        let word = self.random.word();
        let chance = self.random.word();
        if chance.is_multiple_of(1_024) {
            self.turn(symbol, volatility, chance >> 10);
        }
        let shock = bell(word) * self.variance.sqrt();
        self.variance = (1.0 - VARIANCE_OF_LAST - VARIANCE_KEPT
            + VARIANCE_OF_LAST * shock * shock
            + VARIANCE_KEPT * self.variance)
            .min(9.0);
        let mut change = shock * volatility + (self.anchor / self.middle - 1.0) * 0.02;
        self.anchor *= 1.0 + self.trend;
        if self.jump_rows > 0 {
            self.jump_rows -= 1;
            self.anchor *= 1.0 + self.jump;
            change += self.jump;
        }
        self.middle *= 1.0 + change;

        let least = feed.spread_ticks();
        // A wild market is a wide one, up to a few basis points.
        let wide = (self.middle * volatility * self.variance * 0.3) as i64;
        let spread = least + (chance >> 40 & 1).cast_signed() + wide;
        self.bid = (self.middle - spread as f64 / 2.0) as i64;
        self.ask = self.bid + spread;
    }

    /// Another trend, or a jump.
    fn turn(&mut self, symbol: &SimulatedSymbol, volatility: f64, chance: u64) {
        let direction = match chance & 3 {
            0 => 1.0,
            1 => -1.0,
            _ => 0.0,
        };
        let start = (symbol.price.0 / symbol.instrument.tick_size.0) as f64;
        let ratio = self.anchor / start;
        // Far from where it began the market turns back, so that no run leaves the sound range.
        let direction = if ratio > 1.3 {
            -1.0
        } else if ratio < 0.75 {
            1.0
        } else {
            direction
        };
        // Slow enough that what leaves a band of the last prices mostly comes back: a market that ran
        // from every band would have a day of reversion end at the daily loss.
        self.trend = direction * volatility * 0.02;
        if chance >> 2 & 3 == 0 {
            // Eight to twenty-three rows, so that no single one of them stands out.
            self.jump_rows = 8 + (chance >> 4 & 15) as u16;
            self.jump = if chance >> 8 & 1 == 0 { 1.2 } else { -1.2 } * volatility;
        }
    }

    /// Draws when the next row happens.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and at most some minutes"
    )]
    fn schedule(&mut self, feed: Feed, rows_per_second: Option<u32>) {
        let gaps = self.random.exponential();
        if let Some(rows) = rows_per_second {
            self.due += 1_000 + (gaps * (1e9 / f64::from(rows.max(1)) - 1e3).max(0.0)) as u64;
        } else if feed == Feed::Snapshots {
            // Every half second in a busy market; sometimes nothing happens for a while.
            self.due = in_session(self.due + SNAPSHOT_NANOS * (1 + gaps as u64 / 3));
        } else {
            // A wild market is a busy one. No two rows of a symbol have the same time, or a quote
            // that comes back unchanged would be taken for a duplicate.
            self.due += 1_000 + (gaps * feed.gap_nanos() / self.variance.sqrt()) as u64;
        }
    }

    fn book_row(&mut self, symbol: &SimulatedSymbol, received: bool, word: u64) -> RawTick {
        if is_trade(word) {
            let trade = self.traded(symbol, word);
            let id = self.fresh_id(trade.kind);
            return RawTick { id, has: trade.has | has::ID, ..trade };
        }
        let quote = self.sized(symbol, word);
        RawTick {
            id: self.fresh_id(Kind::Quote as u8),
            kind: Kind::Quote as u8,
            has: quote.has | has::ID,
            flags: if received { flag::TIME_IS_RECEIVED } else { 0 },
            ..quote
        }
    }

    fn exchange_row(&mut self, symbol: &SimulatedSymbol, word: u64) -> RawTick {
        let venue_code = EXCHANGES[(word >> 3 & 3) as usize];
        if is_trade(word) {
            return RawTick { venue_code, ..self.traded(symbol, word) };
        }
        let quote = self.sized(symbol, word);
        let quote = RawTick { kind: Kind::Quote as u8, venue_code, ..quote };
        if word >> 5 & 1 == 0 {
            RawTick { ask: 0, ask_quantity: 0, has: has::BID | has::BID_QUANTITY, ..quote }
        } else {
            RawTick { bid: 0, bid_quantity: 0, has: has::ASK | has::ASK_QUANTITY, ..quote }
        }
    }

    fn snapshot_row(&mut self, symbol: &SimulatedSymbol, now: u64, word: u64) -> RawTick {
        let day = trading_day(now);
        if self.day != day {
            self.day = day;
            self.day_lots = 0;
            // A cleaner forgets yesterday's prices, and has to learn today's before it can object.
            self.dirty_at = self.rows;
        }
        let traded = self.traded(symbol, word);
        // In a quiet half second nothing trades.
        let lots = if word >> 1 & 3 == 0 { 0 } else { lots(word >> 8) };
        self.day_lots += lots;
        let book = self.sized(symbol, word);
        let lot = symbol.instrument.lot.0;
        RawTick {
            price: traded.price,
            volume: lots * lot,
            cumulative: self.day_lots * lot,
            trading_day: yyyymmdd(day),
            kind: Kind::Snapshot as u8,
            has: book.has | has::PRICE | has::VOLUME | has::CUMULATIVE,
            ..book
        }
    }

    /// A trade at the bid or the ask.
    fn traded(&self, symbol: &SimulatedSymbol, word: u64) -> RawTick {
        let bought = word >> 6 & 1 == 0;
        RawTick {
            price: if bought { self.ask } else { self.bid } * symbol.instrument.tick_size.0,
            volume: lots(word >> 8) * symbol.instrument.lot.0,
            kind: Kind::Trade as u8,
            has: has::PRICE | has::VOLUME,
            flags: if bought { flag::SIDE_BUY } else { flag::SIDE_SELL },
            ..RawTick::default()
        }
    }

    /// Bid and ask.
    fn quoted(&self, symbol: &SimulatedSymbol) -> RawTick {
        let tick_size = symbol.instrument.tick_size.0;
        RawTick { bid: self.bid * tick_size, ask: self.ask * tick_size, ..RawTick::default() }
    }

    /// Bid and ask with their sizes.
    fn sized(&self, symbol: &SimulatedSymbol, word: u64) -> RawTick {
        let lot = symbol.instrument.lot.0;
        RawTick {
            bid_quantity: lots(word >> 20) * 4 * lot,
            ask_quantity: lots(word >> 32) * 4 * lot,
            has: has::BID | has::ASK | has::BID_QUANTITY | has::ASK_QUANTITY,
            ..self.quoted(symbol)
        }
    }
}

/// Sessions of the mainland's exchanges in hours of the UTC day: the day's, and the night's, which
/// belongs to the next trading day.
const DAY_SESSION: (u64, u64) = (1, 7);
const NIGHT_SESSION: (u64, u64) = (13, 15);

/// `due`, or the like moment of its half second when the next session has begun.
fn in_session(due: u64) -> u64 {
    let (day, hour) = (due / DAY_NANOS, due % DAY_NANOS / HOUR_NANOS);
    let begins = |day: u64, hour: u64| day * DAY_NANOS + hour * HOUR_NANOS + due % SNAPSHOT_NANOS;
    if is_weekend(day) || hour >= NIGHT_SESSION.1 {
        let next = (day + 1..).find(|&day| !is_weekend(day)).expect("weeks have other days");
        begins(next, DAY_SESSION.0)
    } else if hour < DAY_SESSION.0 {
        begins(day, DAY_SESSION.0)
    } else if (DAY_SESSION.1..NIGHT_SESSION.0).contains(&hour) {
        begins(day, NIGHT_SESSION.0)
    } else {
        due
    }
}

/// The trading day that a moment in a session belongs to, in days since 1970.
fn trading_day(now: u64) -> u32 {
    let day = now / DAY_NANOS;
    let day = if now % DAY_NANOS / HOUR_NANOS < NIGHT_SESSION.0 {
        day
    } else {
        (day + 1..).find(|&day| !is_weekend(day)).expect("weeks have other days")
    };
    u32::try_from(day).expect("the year 2554 is 213,000 days away")
}

/// Whether a day since 1970, which began on a Thursday, is a Saturday or Sunday.
const fn is_weekend(day: u64) -> bool {
    (day + 3) % 7 >= 5
}

/// Three rows of sixteen, where trades and quotes are rows of their own.
const fn is_trade(word: u64) -> bool {
    word >> 60 < 3
}

/// 1 to 256 lots out of twelve random bits, small ones far oftener than large ones.
const fn lots(word: u64) -> i64 {
    let magnitude = word & 7;
    1 + (word >> 3 & 0xff & ((1 << (magnitude + 1)) - 1)).cast_signed()
}

/// A day since 1970 as a number whose digits are the date. The algorithm is `civil_from_days` of
/// Howard Hinnant, <https://howardhinnant.github.io/date_algorithms.html>, for days after 1970.
const fn yyyymmdd(day: u32) -> u32 {
    let shifted = day + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    year * 10_000 + month * 100 + day_of_month
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_spelled_as_its_date() {
        let dates = [0, 59, 11_016, 19_943].map(yyyymmdd);
        assert_eq!(dates, [19_700_101, 19_700_301, 20_000_229, 20_240_808]);
    }

    #[test]
    fn sessions_are_in_the_daytime_and_the_evening_of_working_days() {
        let at = |day: u64, hour: u64| day * DAY_NANOS + hour * HOUR_NANOS + 7;
        let friday = 19_944; // 2024-08-09
        assert_eq!(in_session(at(friday, 0)), at(friday, 1));
        assert_eq!(in_session(at(friday, 6)), at(friday, 6));
        assert_eq!(in_session(at(friday, 7)), at(friday, 13));
        assert_eq!(in_session(at(friday, 14)), at(friday, 14));
        assert_eq!(in_session(at(friday, 15)), at(friday + 3, 1));
        assert_eq!(in_session(at(friday + 1, 5)), at(friday + 3, 1));
        assert_eq!(u64::from(trading_day(at(friday, 5))), friday);
        assert_eq!(u64::from(trading_day(at(friday - 1, 14))), friday);
        assert_eq!(u64::from(trading_day(at(friday, 14))), friday + 3);
    }

    #[test]
    fn lots_are_at_least_one_and_at_most_256() {
        let all: Vec<i64> = (0..1 << 11).map(lots).collect();
        assert_eq!((all.iter().min(), all.iter().max()), (Some(&1), Some(&256)));
    }
}
