//! Which trading day a moment can belong to.

use super::rules::SessionRules;

const DAY_SECONDS: i64 = 86_400;
const SECOND_NS: u64 = 1_000_000_000;

/// For `event_time` (unix nanoseconds) and `trading_day` (yyyymmdd, 0 when the source does not say):
/// whether rows of that trading day may be dated so, and the span of event times, end exclusive, in
/// which the answer is the same.
pub(super) fn judge(rules: &SessionRules, event_time: u64, trading_day: u32) -> (bool, u64, u64) {
    let utc = i64::try_from(event_time / SECOND_NS).unwrap_or(i64::MAX / 2);
    let local = utc + i64::from(rules.utc_offset_seconds);
    let (day, second) = (local.div_euclid(DAY_SECONDS), local.rem_euclid(DAY_SECONDS));
    let bounds =
        [rules.quiet_start, rules.quiet_end, rules.night_start, rules.night_end].map(i64::from);
    let from = bounds.into_iter().filter(|&bound| bound <= second).max().unwrap_or(0);
    let until = bounds.into_iter().filter(|&bound| bound > second).min();
    let until = until.unwrap_or(DAY_SECONDS).min(DAY_SECONDS);
    let to_nanos = |second: i64| {
        let utc = day * DAY_SECONDS + second - i64::from(rules.utc_offset_seconds);
        u64::try_from(utc).unwrap_or(0).saturating_mul(SECOND_NS)
    };
    (is_current(rules, day, second, trading_day), to_nanos(from), to_nanos(until))
}

fn is_current(rules: &SessionRules, day: i64, second: i64, trading_day: u32) -> bool {
    if (i64::from(rules.quiet_start)..i64::from(rules.quiet_end)).contains(&second) {
        return false;
    }
    if trading_day == 0 {
        return true;
    }
    let Some(trading_day) = day_number(trading_day) else { return false };
    let days_ahead = trading_day - day;
    if days_ahead == 0 {
        return true;
    }
    // A night session belongs to the next trading day: on Friday night, to Monday.
    let night = second >= i64::from(rules.night_start) || second < i64::from(rules.night_end);
    night && (1..=i64::from(rules.night_days_max)).contains(&days_ahead)
}

/// Days since 1970-01-01 of `date`, a yyyymmdd; none if there is no such month or day.
///
/// The algorithm is `days_from_civil` of Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", <https://howardhinnant.github.io/date_algorithms.html>, for years after 0.
fn day_number(date: u32) -> Option<i64> {
    let (year, month, day) =
        (i64::from(date / 10_000), i64::from(date / 100 % 100), i64::from(date % 100));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // The year begins in March, so that the leap day is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + day_of_year;
    Some(year / 400 * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: SessionRules = SessionRules::FUTURES_CN;

    /// China Standard Time of a yyyymmdd and hhmmss.
    fn at(date: u32, time: u64) -> u64 {
        let day = u64::try_from(day_number(date).unwrap()).unwrap();
        let second = time / 10_000 * 3_600 + time / 100 % 100 * 60 + time % 100;
        (day * 86_400 + second - 28_800) * SECOND_NS
    }

    fn current(date: u32, time: u64, trading_day: u32) -> bool {
        judge(&RULES, at(date, time), trading_day).0
    }

    #[test]
    fn days_are_numbered_from_the_epoch_across_leap_years() {
        assert_eq!(day_number(19_700_101), Some(0));
        assert_eq!(day_number(19_691_231), Some(-1));
        assert_eq!(day_number(20_000_229), Some(11_016));
        assert_eq!(day_number(20_000_301), Some(11_017));
        assert_eq!(day_number(20_200_803), Some(18_477));
        assert_eq!(day_number(20_201_301), None);
        assert_eq!(day_number(20_200_800), None);
    }

    #[test]
    fn a_night_session_belongs_to_the_next_trading_day() {
        assert!(current(20_200_803, 90_000, 20_200_803));
        assert!(current(20_200_803, 210_000, 20_200_804));
        assert!(current(20_200_804, 10_000, 20_200_804));
        // Friday night is Monday's, before and after midnight.
        assert!(current(20_200_731, 210_000, 20_200_803));
        assert!(current(20_200_801, 23_059, 20_200_803));
        assert!(!current(20_200_801, 23_100, 20_200_803));
        assert!(!current(20_200_730, 210_000, 20_200_803), "four days are too many");
    }

    #[test]
    fn the_hours_between_close_and_night_belong_to_no_session() {
        assert!(current(20_210_106, 151_559, 20_210_106));
        assert!(!current(20_210_106, 151_600, 20_210_106));
        assert!(!current(20_200_731, 192_900, 20_200_803), "a login tick");
        assert!(!current(20_200_731, 205_359, 20_200_803));
        assert!(current(20_200_731, 205_400, 20_200_803));
    }

    #[test]
    fn yesterday_is_over_today() {
        assert!(!current(20_200_804, 90_000, 20_200_803));
        assert!(!current(20_200_804, 10_000, 20_200_803));
        assert!(!current(20_200_803, 90_000, 20_200_804), "nor has tomorrow begun this morning");
        assert!(current(20_200_804, 90_000, 0), "a feed that does not say is believed");
    }

    #[test]
    fn the_span_given_is_the_span_in_which_the_answer_holds() {
        for (date, time) in [(20_200_803, 90_000), (20_200_803, 160_000), (20_200_801, 10_000)] {
            let (answer, from, until) = judge(&RULES, at(date, time), 20_200_803);
            assert!(from <= at(date, time) && at(date, time) < until);
            assert_eq!(judge(&RULES, from, 20_200_803), (answer, from, until));
            assert_eq!(judge(&RULES, until - 1, 20_200_803), (answer, from, until));
            assert_eq!(judge(&RULES, until, 20_200_803).1, until);
        }
    }
}
