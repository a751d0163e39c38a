//! Numbers in text, without a branch per digit: lengths differ from row to row, and each guess that
//! the processor gets wrong costs more than the digits.

use super::Problem;
use crate::domain::decimal::{self, DecimalError, POW10};

/// A piece of a line. What lies before it in the line is looked at and ignored, which is cheaper
/// than copying.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'line> {
    /// The line.
    pub line: &'line [u8],
    /// The piece's first byte.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
}

impl<'line> Piece<'line> {
    /// A line that is all piece.
    pub const fn whole(line: &'line [u8]) -> Self {
        Self { line, start: 0, end: line.len() }
    }

    /// Its bytes.
    #[inline]
    pub fn text(self) -> &'line [u8] {
        &self.line[self.start..self.end]
    }

    /// Whether it has none.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// Sixteen zeros in ASCII.
const ZEROS: u128 = each(b'0');

const fn each(byte: u8) -> u128 {
    u128::from_ne_bytes([byte; 16])
}

/// The last sixteen bytes up to `end`, the first of them lowest; those before `start` read as `0`.
#[inline]
fn window(line: &[u8], start: usize, end: usize) -> u128 {
    debug_assert!(start < end && end - start <= 16);
    let word = match end.checked_sub(16) {
        Some(from) => {
            u128::from_le_bytes(line[from..end].try_into().expect("sixteen bytes were cut"))
        }
        None => {
            let mut bytes = [b'0'; 16];
            bytes[16 - end..].copy_from_slice(&line[..end]);
            u128::from_le_bytes(bytes)
        }
    };
    let kept = u128::MAX << (8 * (16 - (end - start)));
    (word & kept) | (ZEROS & !kept)
}

/// The number that sixteen ASCII digits spell, the first of them lowest in `word`.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the halves are wanted")]
fn sixteen_digits(word: u128) -> Option<u64> {
    let digits = word ^ ZEROS;
    // Adding 0x76 lifts every byte from 10 to 127 over 0x80; the ones above are there already.
    if (digits.wrapping_add(each(0x76)) | digits) & each(0x80) != 0 {
        return None;
    }
    Some(eight_digits(digits as u64) * 100_000_000 + eight_digits((digits >> 64) as u64))
}

/// Eight values from 0 to 9, the first lowest, as one number: neighbours are joined three times.
#[inline]
const fn eight_digits(digits: u64) -> u64 {
    const ONES: u64 = 0x00ff_00ff_00ff_00ff;
    const TWOS: u64 = 0x0000_ffff_0000_ffff;
    const FOURS: u64 = 0xffff_ffff;
    let pairs = (digits & ONES) * 10 + ((digits >> 8) & ONES);
    let quads = (pairs & TWOS) * 100 + ((pairs >> 16) & TWOS);
    (quads & FOURS) * 10_000 + (quads >> 32)
}

/// An amount in steps of 10^-`decimals`, exactly as [`decimal::parse`] reads it.
///
/// # Errors
///
/// [`DecimalError`].
#[inline]
pub fn amount(piece: Piece<'_>, decimals: u8) -> Result<i64, DecimalError> {
    let Piece { line, start, end } = piece;
    if start < end
        && end - start <= 16
        && let Some(value) = short_amount(line, start, end, decimals)
    {
        return Ok(value);
    }
    decimal::parse(piece.text(), decimals)
}

/// The common shape: digits with at most one point, no sign, no more decimals than there are.
#[inline]
fn short_amount(line: &[u8], start: usize, end: usize, decimals: u8) -> Option<i64> {
    let word = window(line, start, end);
    let different = word ^ each(b'.');
    let low_bits = each(0x7f);
    let points = !(((different & low_bits) + low_bits) | different | low_bits);
    let (word, fraction) = if points == 0 {
        (word, 0)
    } else {
        // The digits before the point move up by one place; a zero comes in at the bottom.
        let below = points.trailing_zeros() & !7;
        let before = word & !(u128::MAX << below);
        let after = word >> below >> 8 << 8 << below;
        (after | before << 8 | u128::from(b'0'), 15 - below / 8)
    };
    if end - start == 1 && points != 0 {
        return None;
    }
    let value = i64::try_from(sixteen_digits(word)?).ok()?;
    let scale = u32::from(decimals).checked_sub(fraction)?;
    value.checked_mul(POW10[scale as usize])
}

/// A whole number that is not negative, of at most nineteen digits.
///
/// # Errors
///
/// [`Problem`]: empty, no number, or out of range.
#[inline]
pub fn whole_number(piece: Piece<'_>) -> Result<u64, Problem> {
    let Piece { line, start, end } = piece;
    let length = end - start;
    if length == 0 || length > 19 {
        return Err(not_whole(piece.text()));
    }
    let middle = if length > 16 { end - 16 } else { start };
    let mut leading = 0;
    for &byte in &line[start..middle] {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(not_whole(piece.text()));
        }
        leading = leading * 10 + u64::from(digit);
    }
    match sixteen_digits(window(line, middle, end)) {
        Some(rest) => Ok(leading * 10_000_000_000_000_000 + rest),
        None => Err(not_whole(piece.text())),
    }
}

#[cold]
fn not_whole(text: &[u8]) -> Problem {
    match decimal::parse(text, 0) {
        Err(error) => error.into(),
        Ok(_) => Problem::OutOfRange,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `text` somewhere in the middle of a line of digits, which must not matter.
    fn framed(before: usize, text: &str) -> (Vec<u8>, usize) {
        let line = [&vec![b'7'; before], text.as_bytes(), b",9"].concat();
        (line, before + text.len())
    }

    #[test]
    fn amounts_at_the_edges_of_the_fast_shape_are_read_exactly() {
        let read = |text: &str, decimals| amount(Piece::whole(text.as_bytes()), decimals);
        assert_eq!(read("61837.63000000", 8), Ok(6_183_763_000_000));
        assert_eq!(read("123456789012345.", 0), Ok(123_456_789_012_345));
        assert_eq!(read(".123456789", 9), Ok(123_456_789));
        assert_eq!(read(".", 8), Err(DecimalError::NotANumber));
        assert_eq!(read("1.2.3", 8), Err(DecimalError::NotANumber));
        assert_eq!(read("-1.5", 8), Ok(-150_000_000));
        assert_eq!(read("9999999999999999", 9), Err(DecimalError::OutOfRange));
        assert_eq!(read("1.7976931348623157e+308", 8), Err(DecimalError::OutOfRange));
    }

    #[test]
    fn whole_numbers_have_at_most_nineteen_digits_and_nothing_else() {
        let read = |text: &str| whole_number(Piece::whole(text.as_bytes()));
        assert_eq!(read("1723161254024619568"), Ok(1_723_161_254_024_619_568));
        assert_eq!(read("9999999999999999999"), Ok(9_999_999_999_999_999_999));
        assert_eq!(read("0"), Ok(0));
        assert_eq!(read(""), Err(Problem::Empty));
        assert_eq!(read("-1"), Err(Problem::OutOfRange));
        assert_eq!(read("1.5"), Err(Problem::OutOfRange));
        assert_eq!(read("17231612540246x9568"), Err(Problem::NotANumber));
        assert_eq!(read("x723161254024609568"), Err(Problem::NotANumber));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn an_amount_is_what_the_plain_parser_says(
            text in prop_oneof![
                "[0-9]{0,17}(\\.[0-9]{0,10})?",
                "[0-9+.eE-]{0,18}",
                "\\PC{0,6}",
            ],
            before in 0usize..20,
            decimals in 0u8..=9,
        ) {
            let (line, end) = framed(before, &text);
            let piece = Piece { line: &line, start: before, end };
            prop_assert_eq!(amount(piece, decimals), decimal::parse(text.as_bytes(), decimals));
        }

        #[test]
        fn a_whole_number_is_what_the_library_says(value in any::<u64>(), before in 0usize..20) {
            let value = value >> 1;
            let text = value.to_string();
            let (line, end) = framed(before, &text);
            prop_assert_eq!(whole_number(Piece { line: &line, start: before, end }), Ok(value));
        }
    }
}
