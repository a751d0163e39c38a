//! Which rows of a feed are market events, and which are dirt.
//!
//! ```text
//!   RawTick ──▶ clean ──▶ Tick                 counts per (symbol, reason) and (symbol, note)
//!                 └─────▶ Reason
//! ```
//!
//! A source has one [`Cleaner`]. What is dirt differs by class ([`rules`]); `docs/data-quality.md`
//! says what the rules do to eight recorded feeds, and why that is right.
//!
//! # Invariants
//!
//! 1. Every row but a boundary row is counted once: accepted, or rejected under one reason.
//! 2. A row that was refused leaves no trace in what later rows are compared with, except in the
//!    counts of consecutive reversals and outliers, which let a feed recover.
//! 3. A verdict depends on the rules and on the rows of the same symbol before it; not on batches,
//!    symbol numbers or other symbols.
//! 4. A cleaner that was stored and read back continues as if nothing had happened.
//! 5. Reversals and duplicates are judged within one (symbol, kind, time basis, venue code), never
//!    across.

use serde::{Deserialize, Serialize};

use crate::domain::{Class, Definition, Key, Kind, RawTick, Symbol, Tick, decimal, flag, has};

mod lane;
mod prices;
mod reason;
mod row;
pub mod rules;
mod session;

use lane::{LANES_PER_VENUE, Lane, lane_of};
use prices::{Judgement, Prices};
pub use reason::{CleanCounts, Note, Reason};
use row::{
    BOTH_SIDES, Fields, NEEDED, Notes, RARE_FLAGS, judge_book, judge_emptiness, judge_flags,
    judge_repetition, judge_zeros,
};
pub use rules::{ClassRules, CleanRules, OutlierRules, SessionRules, Verdict};

/// Judges the rows of one source, and remembers what it needs to judge the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaner {
    rules: CleanRules,
    /// By symbol number. As many as the source has symbols.
    symbols: Vec<Option<SymbolState>>,
    /// Rows of symbols that were never defined.
    undefined: u64,
}

/// A quote of one side comes from one exchange of several and may be far from the market; beyond half
/// the price it is a stub that only fills a market maker's obligation.
const ONE_SIDED_MOVE_MAX_PPM: u32 = 500_000;

/// What is known of one symbol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SymbolState {
    symbol: Symbol,
    class: Class,
    price_decimals: u8,
    /// [`ClassRules::price_max`] in steps of the instrument.
    price_max: i64,
    /// A spread below the bid shifted so far right is narrow enough by [`ClassRules::spread_max_ppm`].
    spread_shift: u8,
    prices: Prices,
    /// The trading day of the newest row; 0 while no row said.
    trading_day: u32,
    /// The trading day, and the event times, for which a row was found to be of a current session.
    session: (u32, u64, u64),
    /// Cumulative volume of the last snapshot; negative before the first.
    cumulative: i64,
    /// For each venue code its place among `lanes`; empty while all codes were 0.
    venues: Vec<u8>,
    /// [`LANES_PER_VENUE`] for each venue code met, code 0 first: at most 256 times.
    lanes: Vec<Lane>,
    counts: CleanCounts,
}

impl Cleaner {
    /// A cleaner that has seen nothing.
    ///
    /// # Panics
    ///
    /// When there are not as many rules as classes.
    pub fn new(rules: CleanRules) -> Self {
        assert_eq!(rules.classes.len(), Class::ALL.len(), "one set of rules for each class");
        Self { rules, symbols: Vec::new(), undefined: 0 }
    }

    /// The rules in force.
    pub fn rules(&self) -> &CleanRules {
        &self.rules
    }

    /// Puts other rules in force from the next row on.
    ///
    /// # Panics
    ///
    /// When there are not as many rules as classes.
    pub fn set_rules(&mut self, rules: CleanRules) {
        assert_eq!(rules.classes.len(), Class::ALL.len(), "one set of rules for each class");
        self.rules = rules;
        for state in self.symbols.iter_mut().flatten() {
            let rules = self.rules.of(state.class);
            state.follow(rules);
        }
    }

    /// Learns what a symbol number stands for. Told again, it keeps what it knows of the symbol.
    pub fn define(&mut self, definition: &Definition) {
        let index = definition.id.index();
        if index >= self.symbols.len() {
            self.symbols.resize_with(index + 1, || None);
        }
        let instrument = &definition.instrument;
        let rules = self.rules.of(instrument.class);
        let place = &mut self.symbols[index];
        let state = match place {
            Some(state) if state.symbol == instrument.symbol => state,
            _ => place.insert(SymbolState::new(instrument.symbol.clone())),
        };
        state.class = instrument.class;
        state.price_decimals = instrument.price_decimals;
        state.follow(rules);
    }

    /// The clean row that `row` is, or why it is none. Boundary rows pass, uncounted.
    ///
    /// # Errors
    ///
    /// The first [`Reason`] that applies.
    #[inline]
    pub fn clean(&mut self, key: Key, row: &RawTick) -> Result<Tick, Reason> {
        if row.kind == Kind::Boundary as u8 {
            return Ok(Tick { kind: row.kind, symbol: row.symbol, ..Tick::default() });
        }
        let Some(Some(state)) = self.symbols.get_mut(row.symbol as usize) else {
            self.undefined += 1;
            return Err(Reason::Unknown);
        };
        let rules = &self.rules.classes[state.class.index()];
        match state.judge(rules, key, row) {
            Ok(tick) => {
                state.counts.accepted += 1;
                Ok(tick)
            }
            Err(reason) => {
                state.counts.rejected[reason.index()] += 1;
                Err(reason)
            }
        }
    }

    /// Every symbol with its counts, in order of definition.
    pub fn counts(&self) -> impl Iterator<Item = (&Symbol, &CleanCounts)> {
        self.symbols.iter().flatten().map(|state| (&state.symbol, &state.counts))
    }

    /// The counts of all symbols together, and of rows whose symbol was never defined.
    pub fn totals(&self) -> CleanCounts {
        let mut totals = CleanCounts::default();
        totals.rejected[Reason::Unknown.index()] = self.undefined;
        for (_, counts) in self.counts() {
            totals.add(counts);
        }
        totals
    }
}

impl SymbolState {
    fn new(symbol: Symbol) -> Self {
        Self {
            symbol,
            class: Class::Generic,
            price_decimals: 0,
            price_max: 0,
            spread_shift: 0,
            prices: Prices::default(),
            trading_day: 0,
            session: (0, 0, 0),
            cumulative: -1,
            venues: Vec::new(),
            lanes: vec![Lane::default(); LANES_PER_VENUE],
            counts: CleanCounts::default(),
        }
    }

    /// Works out what follows from the rules for this symbol.
    fn follow(&mut self, rules: &ClassRules) {
        let units = i64::try_from(rules.price_max).unwrap_or(i64::MAX);
        let scale = decimal::POW10[usize::from(self.price_decimals)];
        self.price_max = units.saturating_mul(scale);
        // The least shift that is at least as strict; by 63 every price is shifted to 0.
        let is_strict = |shift: &u8| 1_000_000_u64 <= u64::from(rules.spread_max_ppm) << shift;
        self.spread_shift = (0..32).find(is_strict).unwrap_or(63);
        // Spans of current sessions, and prices that need no judging, were found under other rules.
        self.session = (0, 0, 0);
        self.prices.follow();
    }

    #[inline]
    fn judge(&mut self, rules: &ClassRules, key: Key, row: &RawTick) -> Result<Tick, Reason> {
        let Some(&needed) = NEEDED.get(usize::from(row.kind)) else {
            return Err(Reason::Unknown);
        };
        let mut notes = Notes::default();
        let mut fields = Fields::of(row);
        let mut range = fields.range();
        if row.flags & RARE_FLAGS != 0 {
            judge_flags(rules, row.flags, &mut notes)?;
        }
        if range.0 <= 0 {
            judge_zeros(rules, row, &mut fields, &mut notes)?;
            range = fields.range();
        }
        if fields.has & needed == 0 {
            judge_emptiness(row)?;
        }
        if range.1 >= self.price_max {
            return Err(Reason::PriceTooLarge);
        }
        if fields.has_negative_quantity() {
            return Err(Reason::VolumeNegative);
        }
        let has_book = fields.has & BOTH_SIDES == BOTH_SIDES;
        let is_quote = row.kind == Kind::Quote as u8;
        if has_book {
            // Nearly every spread is far below what is allowed, which a shift can tell.
            if fields.ask - fields.bid >= fields.bid >> self.spread_shift
                || fields.ask <= fields.bid
            {
                judge_book(rules, &fields, row.flags & flag::AUCTION != 0, &mut notes)?;
            }
        } else if is_quote && !rules.one_sided {
            return Err(Reason::OneSided);
        }
        let (day, from, until) = self.session;
        if row.trading_day != day || row.event_time < from || row.event_time >= until {
            self.judge_session(rules, row)?;
        }
        let lane = self.lane(row);
        let lane = &mut self.lanes[lane];
        if lane.repeats(row, rules.ids_grow) {
            judge_repetition(rules, row, &mut notes)?;
        }
        if row.event_time < lane.time {
            judge_reversal(rules, lane, row.event_time, &mut notes)?;
        }
        // In a call auction the indicative price wanders through the whole range of the day.
        let is_indicative = row.flags & (flag::AUCTION | flag::CLOSED) != 0;
        if !is_indicative && rules.outlier.move_max_ppm != 0 {
            let is_one_sided_quote = is_quote && !has_book;
            let move_max_ppm = move_max_ppm(&rules.outlier, is_one_sided_quote);
            let frontier = key.frontier.as_nanos();
            match self.prices.judge(&rules.outlier, move_max_ppm, range, frontier) {
                Judgement::Usual => {}
                Judgement::NewLevel => notes.add(Note::LevelConfirmed),
                Judgement::Outlier => return Err(Reason::Outlier),
            }
            // One exchange's side says too little of the market for others to be measured by it.
            if !is_one_sided_quote {
                self.prices.push(&rules.outlier, fields.main(), frontier);
            }
        }
        // From here on the row is let through.
        if row.has & has::CUMULATIVE != 0 {
            count_volume(&mut self.cumulative, row, &mut fields, &mut notes);
        }
        if !notes.is_empty() {
            take_notes(notes, &mut self.counts, lane, &mut fields);
        }
        lane.advance(row);
        Ok(fields.tick(row))
    }

    /// The place of the row's lane in `lanes`.
    #[inline]
    fn lane(&mut self, row: &RawTick) -> usize {
        let slot = if row.venue_code == 0 {
            0
        } else {
            match self.venues.get(usize::from(row.venue_code)) {
                Some(&slot) if slot != 0 => usize::from(slot),
                _ => self.meet_venue(row.venue_code),
            }
        };
        slot * LANES_PER_VENUE + lane_of(row)
    }

    /// Makes the lanes of a venue code that was not met before.
    #[cold]
    fn meet_venue(&mut self, venue_code: u8) -> usize {
        self.venues.resize(256, 0);
        let slot = self.lanes.len() / LANES_PER_VENUE;
        self.lanes.resize(self.lanes.len() + LANES_PER_VENUE, Lane::default());
        self.venues[usize::from(venue_code)] =
            u8::try_from(slot).expect("255 codes beside 0, each met once");
        slot
    }

    /// Judges the row's session, and remembers for which rows the answer holds.
    #[cold]
    fn judge_session(&mut self, rules: &ClassRules, row: &RawTick) -> Result<(), Reason> {
        let Some(session_rules) = &rules.session else {
            self.session = (row.trading_day, 0, u64::MAX);
            return Ok(());
        };
        let (is_current, from, until) =
            session::judge(session_rules, row.event_time, row.trading_day);
        let is_past = row.trading_day != 0 && row.trading_day < self.trading_day;
        if !is_current || is_past {
            return Err(Reason::StaleSession);
        }
        if row.trading_day > self.trading_day {
            // Yesterday's prices explain nothing, and today's volume counts from 0.
            self.prices.start_afresh();
            self.cumulative = if self.trading_day == 0 { -1 } else { 0 };
            self.trading_day = row.trading_day;
        }
        self.session = (row.trading_day, from, until);
        Ok(())
    }
}

#[cold]
fn judge_reversal(
    rules: &ClassRules,
    lane: &mut Lane,
    event_time: u64,
    notes: &mut Notes,
) -> Result<(), Reason> {
    if event_time.saturating_add(rules.reversal_tolerance_ns) >= lane.time {
        return Ok(());
    }
    if rules.reversal_run_max > 0 && lane.reversals >= rules.reversal_run_max {
        notes.add(Note::ClockReset);
        return Ok(());
    }
    lane.reversals += 1;
    Err(Reason::TimeReversal)
}

const fn move_max_ppm(rules: &OutlierRules, is_one_sided_quote: bool) -> u32 {
    if is_one_sided_quote && rules.move_max_ppm < ONE_SIDED_MOVE_MAX_PPM {
        ONE_SIDED_MOVE_MAX_PPM
    } else {
        rules.move_max_ppm
    }
}

/// Follows the cumulative volume, and takes the traded quantity from it where the source gave none.
#[inline]
fn count_volume(followed: &mut i64, row: &RawTick, fields: &mut Fields, notes: &mut Notes) {
    let before = if row.cumulative == 0 { 0 } else { *followed };
    if fields.has & has::VOLUME == 0 && (0..=row.cumulative).contains(&before) {
        fields.has |= has::VOLUME;
        fields.volume = row.cumulative - before;
        notes.add(Note::VolumeDerived);
    }
    *followed = row.cumulative;
}

#[inline(never)]
fn take_notes(notes: Notes, counts: &mut CleanCounts, lane: &mut Lane, fields: &mut Fields) {
    for note in Note::ALL {
        counts.noted[note.index()] += u64::from(notes.holds(note));
    }
    if notes.holds(Note::Indicative) {
        fields.has |= has::INDICATIVE;
    }
    if notes.holds(Note::ClockReset) {
        lane.time = 0;
    }
}

#[cfg(test)]
mod tests;
