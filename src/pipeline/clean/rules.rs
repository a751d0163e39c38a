//! What is dirt, class by class.

use serde::{Deserialize, Serialize};

use crate::domain::Class;

/// The rules of every class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanRules {
    /// In the order of [`Class::ALL`].
    pub classes: Vec<ClassRules>,
}

impl CleanRules {
    /// The rules of `class`.
    ///
    /// # Panics
    ///
    /// When there are not as many rules as classes.
    pub fn of(&self, class: Class) -> &ClassRules {
        &self.classes[class.index()]
    }

    /// The rules of `class`, to be changed.
    ///
    /// # Panics
    ///
    /// When there are not as many rules as classes.
    pub fn of_mut(&mut self, class: Class) -> &mut ClassRules {
        &mut self.classes[class.index()]
    }
}

impl Default for CleanRules {
    fn default() -> Self {
        Self { classes: Class::ALL.into_iter().map(ClassRules::of_class).collect() }
    }
}

/// What a class's feeds may and may not say. Parts per million are written `ppm`: 100,000 is 10 %.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassRules {
    /// First price that is too large, in units of the quote currency.
    pub price_max: u64,
    /// First spread that is too wide, as a share of the bid. Not judged in call auctions.
    pub spread_max_ppm: u32,
    /// Whether a quote may have one side only.
    pub one_sided: bool,
    /// What a bid above its ask is.
    pub crossed: Verdict,
    /// What a bid equal to its ask is, outside call auctions; there it is the auction price.
    pub locked: Verdict,
    /// Whether a snapshot may say 0 for "nothing has traded yet": in a call auction, or while the
    /// cumulative volume is 0. A trade may never.
    pub zero_price_is_none: bool,
    /// Whether a bid or ask of 0 says "nobody is there".
    pub zero_side_is_none: bool,
    /// What rows are that the vendor marked as suspicious.
    pub suspicious: Verdict,
    /// What trades outside the order book are.
    pub off_book: Verdict,
    /// Whether ids only grow within one symbol, kind, time basis and venue code. Then a lower id at
    /// the same time is a duplicate; else only an equal one is.
    pub ids_grow: bool,
    /// What a trade without id is that equals the one before in every field. A quote or snapshot is
    /// always a duplicate then.
    pub identical_trade: Verdict,
    /// How much older than the row before a row may be, in nanoseconds.
    pub reversal_tolerance_ns: u64,
    /// After this many reversals in a row the clock is taken to have been set back, and the next row
    /// is let through. Without it one row from the future would silence a feed for good. 0: never.
    pub reversal_run_max: u32,
    /// The sessions of the class, as far as they tell stale rows; none where it trades round the clock
    /// or where the feed's trading day is not to be relied on.
    pub session: Option<SessionRules>,
    /// What a price is that the recent ones do not explain.
    pub outlier: OutlierRules,
}

/// What becomes of a row of a certain kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is let through; where there is a [`Note`](super::Note) for it, it is counted.
    Accept,
    /// It is refused.
    Reject,
}

/// When a class's sessions are, in its venue's local time; times are seconds after local midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRules {
    /// Local time less UTC, in seconds.
    pub utc_offset_seconds: i32,
    /// From here on the day's session is over and settled. Equal to `quiet_end` if there is no such
    /// time.
    pub quiet_start: u32,
    /// First second at which the next session's rows may be dated.
    pub quiet_end: u32,
    /// First second of the evening that belongs to the next trading day. With `night_end` 0 and
    /// `night_start` 86,400 there is no night session.
    pub night_start: u32,
    /// First second of the morning that no night session reaches.
    pub night_end: u32,
    /// Most days from a night session to its trading day: 3, from Friday to Monday.
    pub night_days_max: u32,
}

/// When a price is an outlier: it is further than `move_max_ppm` from the symbol's last price, and
/// further from the median of the last `window` prices than both `move_max_ppm` of it and
/// `deviation_factor` times their median absolute deviation.
///
/// The first condition alone is looked at for nearly every row, so that the median costs nothing.
/// The deviation is scaled by 1.4826 to be comparable with a standard deviation, as usual (Hampel,
/// "The Influence Curve and its Role in Robust Estimation", 1974).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutlierRules {
    /// Smallest move that can be an outlier. 0: prices are not judged.
    pub move_max_ppm: u32,
    /// How many median absolute deviations, scaled, are too many; in thousandths.
    pub deviation_factor_milli: u32,
    /// Prices the median is taken of, at most [`OutlierRules::WINDOW_MAX`].
    pub window: u32,
    /// Prices needed before any can be an outlier.
    pub count_min: u32,
    /// This many rows in a row that agree with each other within `move_max_ppm` are a new level, not
    /// an error: the last of them is let through. 0: never.
    pub confirm_count: u32,
    /// After so long without a row, in nanoseconds, and on a new trading day, prices start afresh.
    pub gap_ns: u64,
}

impl OutlierRules {
    /// Most prices a median is taken of.
    pub const WINDOW_MAX: usize = 32;
}

const MINUTE: u32 = 60;
const HOUR: u32 = 60 * MINUTE;
const SECOND_NS: u64 = 1_000_000_000;

impl ClassRules {
    /// The built-in rules of `class`. `docs/data-quality.md` says what each was seen to do on recorded
    /// data.
    pub fn of_class(class: Class) -> Self {
        let rules = Self {
            price_max: 1_000_000_000,
            spread_max_ppm: 100_000,
            one_sided: true,
            crossed: Verdict::Reject,
            locked: Verdict::Reject,
            zero_price_is_none: false,
            zero_side_is_none: false,
            suspicious: Verdict::Reject,
            off_book: Verdict::Reject,
            ids_grow: false,
            identical_trade: Verdict::Accept,
            reversal_tolerance_ns: 0,
            reversal_run_max: 1_000,
            session: None,
            outlier: OutlierRules {
                move_max_ppm: 50_000,
                deviation_factor_milli: 10_000,
                window: 31,
                count_min: 16,
                confirm_count: 5,
                gap_ns: 1_800 * SECOND_NS,
            },
        };
        let moves = |move_max_ppm| OutlierRules { move_max_ppm, ..rules.outlier };
        match class {
            // One matching engine each: it cannot show a locked book, and it numbers its messages.
            Class::CryptoSpot | Class::CryptoLinear | Class::CryptoInverse => {
                Self { ids_grow: true, ..rules }
            }
            // Several exchanges: one bids what another asks. A side of 0 is an exchange without one.
            Class::EquityUs => Self {
                price_max: 10_000_000,
                locked: Verdict::Accept,
                zero_side_is_none: true,
                ..rules
            },
            // Before the first trade the price is 0; at a price limit, one side is.
            Class::EquityCn => Self {
                price_max: 1_000_000,
                zero_price_is_none: true,
                zero_side_is_none: true,
                outlier: moves(100_000),
                ..rules
            },
            Class::FuturesCn => Self {
                price_max: 100_000_000,
                zero_price_is_none: true,
                zero_side_is_none: true,
                session: Some(SessionRules::FUTURES_CN),
                ..rules
            },
            // A provider's bid and ask come from several banks; meeting is a price anyone can trade on,
            // crossing is not.
            Class::Fx => Self {
                price_max: 10_000_000,
                one_sided: false,
                locked: Verdict::Accept,
                outlier: moves(20_000),
                ..rules
            },
            Class::Generic => Self {
                locked: Verdict::Accept,
                zero_side_is_none: true,
                outlier: moves(100_000),
                ..rules
            },
        }
    }
}

impl SessionRules {
    /// The futures exchanges of the mainland: the last day session ends at 15:15, the night's auction
    /// begins at 20:55, the longest night ends at 02:30, China Standard Time. A minute's grace each
    /// way, for clocks.
    pub const FUTURES_CN: Self = Self {
        utc_offset_seconds: 28_800,
        quiet_start: 15 * HOUR + 16 * MINUTE,
        quiet_end: 20 * HOUR + 54 * MINUTE,
        night_start: 20 * HOUR + 54 * MINUTE,
        night_end: 2 * HOUR + 31 * MINUTE,
        night_days_max: 3,
    };
}
