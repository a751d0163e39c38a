//! Exact decimals: text to scaled integers and back, without a float in between.

/// Powers of ten that fit in an `i64`.
pub const POW10: [i64; 19] = {
    let mut table = [1i64; 19];
    let mut at = 1;
    while at < 19 {
        table[at] = table[at - 1] * 10;
        at += 1;
    }
    table
};

/// Most decimals an amount may have.
pub const DECIMALS_MAX: u8 = 9;

/// Why text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Not digits with at most one point and sign.
    #[error("is not a number")]
    NotANumber,
    /// `NaN`, `inf` and their kin.
    #[error("is not a finite number")]
    NotFinite,
    /// Too large for 64 bits at this many decimals.
    #[error("is out of range")]
    OutOfRange,
}

/// Reads `text` as an integer count of 10^-`decimals`. Digits beyond are rounded half to even, so
/// that what a float printed as `7.410000000000001` comes back as 7.41. An exponent is accepted.
///
/// # Errors
///
/// [`DecimalError`], and nothing is guessed.
pub fn parse(text: &[u8], decimals: u8) -> Result<i64, DecimalError> {
    debug_assert!(decimals <= DECIMALS_MAX);
    let (negative, digits) = match text {
        [] => return Err(DecimalError::Empty),
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    // The common shape first: digits, a point, no more digits than there are decimals.
    let mut value: u64 = 0;
    let mut at = 0;
    while at < digits.len() && at < 18 && digits[at].is_ascii_digit() {
        value = value * 10 + u64::from(digits[at] - b'0');
        at += 1;
    }
    let whole = at;
    let mut fraction = 0;
    if at < digits.len() && digits[at] == b'.' {
        at += 1;
        while at < digits.len()
            && fraction < usize::from(decimals)
            && whole + fraction < 18
            && digits[at].is_ascii_digit()
        {
            value = value * 10 + u64::from(digits[at] - b'0');
            at += 1;
            fraction += 1;
        }
    }
    if at == digits.len() && whole + fraction > 0 {
        let scale = POW10[usize::from(decimals) - fraction];
        let scaled = i64::try_from(value).ok().and_then(|value| value.checked_mul(scale));
        let scaled = scaled.ok_or(DecimalError::OutOfRange)?;
        return Ok(if negative { -scaled } else { scaled });
    }
    parse_slowly(negative, digits, decimals)
}

/// Every other shape: more digits than decimals, an exponent, or no number at all.
fn parse_slowly(negative: bool, digits: &[u8], decimals: u8) -> Result<i64, DecimalError> {
    let lower = digits.to_ascii_lowercase();
    if [&b"nan"[..], b"inf", b"infinity"].contains(&lower.as_slice()) {
        return Err(DecimalError::NotFinite);
    }
    let (mantissa, exponent) = match lower.iter().position(|&byte| byte == b'e') {
        Some(at) => (&lower[..at], parse_exponent(&lower[at + 1..])?),
        None => (lower.as_slice(), 0),
    };
    // Mantissa digits with the point taken out, and how many of them stand before it.
    let point = mantissa.iter().position(|&byte| byte == b'.').unwrap_or(mantissa.len());
    let mut figures = Vec::with_capacity(mantissa.len());
    for (at, &byte) in mantissa.iter().enumerate() {
        if byte.is_ascii_digit() {
            figures.push(byte - b'0');
        } else if !(byte == b'.' && at == point) {
            return Err(DecimalError::NotANumber);
        }
    }
    if figures.is_empty() {
        return Err(DecimalError::NotANumber);
    }
    let point = i64::try_from(point).map_err(|_| DecimalError::OutOfRange)?;
    // Figures that are kept; a negative count means that even the first is far below one step.
    let kept = point + i64::from(exponent) + i64::from(decimals);
    let mut value: i128 = 0;
    for at in 0..kept.max(0) {
        let figure = usize::try_from(at).ok().and_then(|at| figures.get(at)).copied();
        value = value * 10 + i128::from(figure.unwrap_or(0));
        if value > i128::from(i64::MAX) {
            return Err(DecimalError::OutOfRange);
        }
    }
    if let Ok(first_dropped) = usize::try_from(kept)
        && let Some(&figure) = figures.get(first_dropped)
    {
        let rest = figures[first_dropped + 1..].iter().any(|&figure| figure != 0);
        if figure > 5 || (figure == 5 && (rest || value % 2 == 1)) {
            value += 1;
        }
    }
    let value = i64::try_from(value).map_err(|_| DecimalError::OutOfRange)?;
    Ok(if negative { -value } else { value })
}

fn parse_exponent(text: &[u8]) -> Result<i32, DecimalError> {
    let text = std::str::from_utf8(text).map_err(|_| DecimalError::NotANumber)?;
    let exponent: i32 = text.parse().map_err(|_| DecimalError::NotANumber)?;
    if exponent.abs() > 40 { Err(DecimalError::OutOfRange) } else { Ok(exponent) }
}

/// Writes `value`, a count of 10^-`decimals`, without trailing zeros: `61837.63`, `-0.5`, `0`.
pub fn format(value: i128, decimals: u8) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let magnitude = value.unsigned_abs();
    let scale = 10u128.pow(u32::from(decimals));
    let (whole, fraction) = (magnitude / scale, magnitude % scale);
    if fraction == 0 {
        return format!("{sign}{whole}");
    }
    let digits = format!("{fraction:0width$}", width = usize::from(decimals));
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

/// Divides and rounds half away from zero.
///
/// # Panics
///
/// When `divisor` is zero.
pub fn divide_rounded(dividend: i128, divisor: i128) -> i128 {
    let (quotient, remainder) = (dividend / divisor, dividend % divisor);
    if remainder.unsigned_abs() * 2 >= divisor.unsigned_abs() {
        quotient + if (dividend < 0) == (divisor < 0) { 1 } else { -1 }
    } else {
        quotient
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_of_real_feeds_are_read_exactly() {
        assert_eq!(parse(b"61837.63000000", 8), Ok(6_183_763_000_000));
        assert_eq!(parse(b"7.410000000000001", 8), Ok(741_000_000));
        assert_eq!(parse(b"9682", 8), Ok(968_200_000_000));
        assert_eq!(parse(b"-0.5", 1), Ok(-5));
        assert_eq!(parse(b".5", 2), Ok(50));
        assert_eq!(parse(b"5.", 0), Ok(5));
        assert_eq!(parse(b"1e-3", 4), Ok(10));
        assert_eq!(parse(b"1.5E2", 0), Ok(150));
    }

    #[test]
    fn digits_beyond_the_scale_round_half_to_even() {
        assert_eq!(parse(b"0.125", 2), Ok(12));
        assert_eq!(parse(b"0.135", 2), Ok(14));
        assert_eq!(parse(b"0.1250001", 2), Ok(13));
        assert_eq!(parse(b"1e-30", 2), Ok(0));
    }

    #[test]
    fn what_is_no_number_is_named() {
        assert_eq!(parse(b"", 8), Err(DecimalError::Empty));
        assert_eq!(parse(b"-", 8), Err(DecimalError::NotANumber));
        assert_eq!(parse(b".", 8), Err(DecimalError::NotANumber));
        assert_eq!(parse(b"1.2.3", 8), Err(DecimalError::NotANumber));
        assert_eq!(parse(b"abc", 8), Err(DecimalError::NotANumber));
        assert_eq!(parse(b"NaN", 8), Err(DecimalError::NotFinite));
        assert_eq!(parse(b"-inf", 8), Err(DecimalError::NotFinite));
        assert_eq!(parse(b"99999999999999999999", 0), Err(DecimalError::OutOfRange));
        assert_eq!(parse(b"100000000000", 9), Err(DecimalError::OutOfRange));
        assert_eq!(parse(b"1e99", 0), Err(DecimalError::OutOfRange));
    }

    #[test]
    fn formatting_drops_trailing_zeros_and_keeps_the_sign() {
        assert_eq!(format(6_183_763_000_000, 8), "61837.63");
        assert_eq!(format(-5, 1), "-0.5");
        assert_eq!(format(0, 8), "0");
        assert_eq!(format(100, 2), "1");
    }

    #[test]
    fn division_rounds_half_away_from_zero() {
        assert_eq!(divide_rounded(5, 2), 3);
        assert_eq!(divide_rounded(-5, 2), -3);
        assert_eq!(divide_rounded(5, -2), -3);
        assert_eq!(divide_rounded(4, 3), 1);
    }
}
