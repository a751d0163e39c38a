//! Lines of comma-separated values, cut into fields.

use super::number::Piece;

/// Where the fields of a line end; reused from line to line.
#[derive(Debug, Default)]
pub struct Fields {
    /// One past each field's last byte.
    ends: Vec<u32>,
    /// The line with its quotes taken out, when it had any; separators are kept in place.
    unquoted: Vec<u8>,
}

/// Each byte of a word is a comma.
const COMMAS: u64 = u64::from_ne_bytes([b','; 8]);
const LOW_BITS: u64 = u64::from_ne_bytes([0x7f; 8]);

impl Fields {
    /// Longest line that can be cut.
    pub const LINE_BYTES_MAX: usize = 1 << 30;

    /// Cuts `line` at every comma, whatever the quotes, eight bytes at a time.
    ///
    /// # Panics
    ///
    /// When the line is longer than [`Fields::LINE_BYTES_MAX`].
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the line is checked to be short enough")]
    pub fn cut(&mut self, line: &[u8]) {
        assert!(line.len() <= Self::LINE_BYTES_MAX);
        self.ends.clear();
        let (words, rest) = line.as_chunks::<8>();
        let mut base: u32 = 0;
        for word in words {
            // A byte of `different` is zero where the comma is; the sum carries into the top bit of
            // every other byte, and never into the next byte.
            let different = u64::from_le_bytes(*word) ^ COMMAS;
            let mut commas = !(((different & LOW_BITS) + LOW_BITS) | different | LOW_BITS);
            while commas != 0 {
                self.ends.push(base + commas.trailing_zeros() / 8);
                commas &= commas - 1;
            }
            base += 8;
        }
        for (at, &byte) in rest.iter().enumerate() {
            if byte == b',' {
                self.ends.push(base + at as u32);
            }
        }
        self.ends.push(line.len() as u32);
    }

    /// Fields of the line cut last.
    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no line has been cut yet.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The field at `index` of `line`; empty when there is none.
    #[inline]
    pub fn get<'line>(&self, line: &'line [u8], index: usize) -> &'line [u8] {
        self.piece(line, index).text()
    }

    /// Where the field at `index` of `line` lies; empty when there is none.
    #[inline]
    pub fn piece<'line>(&self, line: &'line [u8], index: usize) -> Piece<'line> {
        let Some(&end) = self.ends.get(index) else { return Piece { line, start: 0, end: 0 } };
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize + 1 };
        Piece { line, start, end: end as usize }
    }

    /// Takes the quotes out of `line`: what [`Fields::cut_unquoted`] cut can then be read with
    /// [`Fields::get`] from [`Fields::unquoted`]. A comma inside quotes stays in its field; a doubled
    /// quote is one quote.
    ///
    /// Returns false when a quote is not closed.
    #[cold]
    #[expect(clippy::cast_possible_truncation, reason = "the line is checked to be short enough")]
    pub fn cut_unquoted(&mut self, line: &[u8]) -> bool {
        assert!(line.len() <= Self::LINE_BYTES_MAX);
        self.ends.clear();
        self.unquoted.clear();
        let mut is_quoted = false;
        let mut at = 0;
        while at < line.len() {
            match line[at] {
                b'"' if is_quoted && line.get(at + 1) == Some(&b'"') => {
                    self.unquoted.push(b'"');
                    at += 1;
                }
                b'"' => is_quoted = !is_quoted,
                b',' if !is_quoted => {
                    self.ends.push(self.unquoted.len() as u32);
                    self.unquoted.push(b',');
                }
                byte => self.unquoted.push(byte),
            }
            at += 1;
        }
        self.ends.push(self.unquoted.len() as u32);
        !is_quoted
    }

    /// The line that [`Fields::cut_unquoted`] cut.
    pub fn unquoted(&self) -> &[u8] {
        &self.unquoted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(line: &[u8]) -> Vec<Vec<u8>> {
        let mut fields = Fields::default();
        fields.cut(line);
        (0..fields.len()).map(|index| fields.get(line, index).to_vec()).collect()
    }

    #[test]
    fn quotes_protect_commas_and_must_close() {
        let mut fields = Fields::default();
        assert!(fields.cut_unquoted(br#""a,b",c,"d""e","#));
        let texts: Vec<&[u8]> =
            (0..fields.len()).map(|index| fields.get(fields.unquoted(), index)).collect();
        assert_eq!(texts, [&b"a,b"[..], b"c", b"d\"e", b""]);
        assert!(!fields.cut_unquoted(br#"a,"b"#));
    }

    proptest! {
        #[test]
        fn fields_are_what_lies_between_commas(line in "[,a-z\u{e9}-]{0,40}") {
            let expected: Vec<Vec<u8>> =
                line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::to_vec).collect();
            prop_assert_eq!(cut(line.as_bytes()), expected);
        }

        #[test]
        fn without_quotes_both_ways_of_cutting_agree(line in "[,a-z]{0,40}") {
            let mut fields = Fields::default();
            prop_assert!(fields.cut_unquoted(line.as_bytes()));
            let texts: Vec<Vec<u8>> = (0..fields.len())
                .map(|index| fields.get(fields.unquoted(), index).to_vec())
                .collect();
            prop_assert_eq!(cut(line.as_bytes()), texts);
        }
    }
}
