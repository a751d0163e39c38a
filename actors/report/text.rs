//! Numbers, times and names as people read them.

use tickwright_core::domain::{Money, decimal};

/// A count with its thousands apart: `262,416`.
pub(super) fn count(value: impl Into<i128>) -> String {
    thousands(&value.into().to_string())
}

/// Puts commas between the thousands of a decimal's whole part.
fn thousands(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let (whole, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut text = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

/// Money with `decimals` decimals, rounded half away from zero: `-1,234.50`.
pub(super) fn money(amount: Money, decimals: u8) -> String {
    let step = 10i128.pow(u32::from(Money::DECIMALS - decimals));
    let rounded = decimal::divide_rounded(amount.0, step);
    let text = decimal::format(rounded, decimals);
    let given = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let point = if given == 0 && decimals > 0 { "." } else { "" };
    thousands(&format!("{text}{point}{:0<width$}", "", width = usize::from(decimals) - given))
}

/// Decimals that show amounts up to `largest` well: cents for money, more for coins.
pub(super) fn decimals_for(largest: Money) -> u8 {
    match largest.abs().0 {
        0 => 2,
        size if size >= 10 * 10i128.pow(18) => 2,
        size if size >= 10i128.pow(16) => 6,
        _ => 8,
    }
}

/// A decimal string with its thousands apart; `text` comes from a report file and may be anything.
pub(super) fn number(text: &str) -> String {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_decimal =
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_decimal { thousands(text) } else { plain(text) }
}

/// A float with about seven significant digits and its thousands apart.
pub(super) fn float(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 10_000.0 => 2,
        size if size >= 100.0 => 4,
        size if size >= 1.0 => 5,
        _ => 8,
    };
    let text = format!("{value:.decimals$}");
    thousands(text.trim_end_matches('0').trim_end_matches('.'))
}

/// A float as a whole number with its thousands apart.
pub(super) fn whole(value: f64) -> String {
    thousands(&format!("{value:.0}"))
}

/// A share of a whole: `2.5 %`; nothing of nothing is empty.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return String::new();
    }
    // In tenths of a percent; what is there at all shows as something.
    let tenths = (u128::from(part) * 2_000 + u128::from(whole)) / (2 * u128::from(whole));
    if tenths == 0 && part > 0 {
        return "< 0.1 %".to_owned();
    }
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Microseconds with a fitting unit: `18.2 us`, `1.30 ms`, `2.41 s`.
pub(super) fn micros(value: f64) -> String {
    if value < 1e3 {
        format!("{value:.1} us")
    } else if value < 1e6 {
        format!("{:.2} ms", value / 1e3)
    } else {
        format!("{:.2} s", value / 1e6)
    }
}

/// A size in bytes with a fitting unit, by 1,024.
pub(super) fn bytes(value: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let size = value as f64;
    let steps = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match steps.iter().zip([30, 20, 10]).find(|((step, _), _)| value >= *step) {
        Some(((_, unit), shift)) => format!("{:.1} {unit}", size / f64::from(1u32 << shift)),
        None => format!("{value} B"),
    }
}

/// A time as `2024-08-08 23:54:14`, in UTC.
pub(super) fn time(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a count of days since 1970, in the Gregorian calendar. Counted from a
/// 1 March, so that the leap day comes last and each month's start follows from its number: H.
/// Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// `text` in at most `width` characters, cut in the middle: venue and start of a name both tell.
pub(super) fn shorten(text: &str, width: usize) -> String {
    let characters: Vec<char> = plain(text).chars().collect();
    if characters.len() <= width {
        return characters.into_iter().collect();
    }
    let tail = (width - 1) / 2;
    let head = width - 1 - tail;
    let mut short: String = characters[..head].iter().collect();
    short.push('…');
    short.extend(&characters[characters.len() - tail..]);
    short
}

/// `text` without control characters: a file's content must not steer the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_thousands_apart() {
        let counts = [0, 999, 1_000, -1_234_567].map(|value: i64| count(value));
        assert_eq!(counts, ["0", "999", "1,000", "-1,234,567"]);
    }

    #[test]
    fn money_is_rounded_to_the_decimals_shown() {
        let text = |text: &str, decimals| money(Money::parse(text).unwrap(), decimals);
        assert_eq!(text("-1234.5", 2), "-1,234.50");
        assert_eq!(text("0.005", 2), "0.01");
        assert_eq!(text("7", 2), "7.00");
        assert_eq!(text("7", 0), "7");
    }

    #[test]
    fn times_know_leap_days_and_year_ends() {
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(951_782_400_000_000_000), "2000-02-29 00:00:00");
        assert_eq!(time(1_723_161_254_000_000_000), "2024-08-08 23:54:14");
        assert_eq!(time(1_735_689_599_999_999_999), "2024-12-31 23:59:59");
    }

    #[test]
    fn a_small_share_is_not_shown_as_none() {
        let shares = [percent(1, 100_000), percent(0, 5), percent(1, 8), percent(5, 5)];
        assert_eq!(shares, ["< 0.1 %", "0.0 %", "12.5 %", "100.0 %"]);
        assert_eq!(percent(0, 0), "");
    }

    #[test]
    fn long_names_keep_both_ends_and_steer_no_terminal() {
        assert_eq!(shorten("BTCUSDT.BINANCE_SPOT", 11), "BTCUS…_SPOT");
        assert_eq!(shorten("IBM.US", 11), "IBM.US");
        assert_eq!(shorten("a\u{1b}[31m", 9), "a?[31m");
    }

    #[test]
    fn sizes_and_spans_have_fitting_units() {
        assert_eq!([bytes(512), bytes(1 << 20), bytes(3 << 29)], ["512 B", "1.0 MiB", "1.5 GiB"]);
        assert_eq!(
            [micros(18.24), micros(1_300.0), micros(2.41e6)],
            ["18.2 us", "1.30 ms", "2.41 s"]
        );
    }
}
