//! Columns of a text table, found by the names in its header.

use super::number::{Piece, amount, whole_number};
use super::split::Fields;
use super::{EVENT_TIME_END, EVENT_TIME_MIN, HeaderError, Problem, RowError, normalised};

/// Stands for a column that the header does not have.
const ABSENT: usize = usize::MAX;

/// A table's rows, cut at the columns that a format asks for.
#[derive(Debug)]
pub(super) struct Columns<const COUNT: usize> {
    names: [&'static str; COUNT],
    /// Where each column stands.
    index: [usize; COUNT],
    /// Columns of the header.
    width: usize,
    fields: Fields,
}

/// One row of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'row, const COUNT: usize> {
    columns: &'row Columns<COUNT>,
    line: &'row [u8],
    number: u64,
}

impl<const COUNT: usize> Columns<COUNT> {
    /// The columns called `names`, of which the first `required` must be there.
    pub(super) fn new(
        header: &[u8],
        names: [&'static str; COUNT],
        required: usize,
    ) -> Result<Self, HeaderError> {
        let mut fields = Fields::default();
        fields.cut_unquoted(header);
        let mut index = [ABSENT; COUNT];
        for at in 0..fields.len() {
            let name = fields.get(fields.unquoted(), at).trim_ascii();
            let Some(known) = names.iter().position(|known| known.as_bytes() == name) else {
                continue;
            };
            if index[known] != ABSENT {
                return Err(HeaderError::ColumnTwice {
                    name: names[known].to_owned(),
                    first: index[known] + 1,
                    second: at + 1,
                });
            }
            index[known] = at;
        }
        if let Some(missing) = index[..required].iter().position(|&at| at == ABSENT) {
            return Err(HeaderError::ColumnMissing {
                name: names[missing],
                required: names[..required].join(", "),
            });
        }
        Ok(Self { names, index, width: fields.len(), fields })
    }

    /// Cuts `line`, quoted or not.
    pub(super) fn cut<'row>(
        &'row mut self,
        line: &'row [u8],
        number: u64,
    ) -> Result<Row<'row, COUNT>, Box<RowError>> {
        self.fields.cut(line);
        if self.fields.len() == self.width {
            return Ok(Row { columns: self, line, number });
        }
        // Perhaps some of the commas are in quotes.
        if !self.fields.cut_unquoted(line) {
            return Err(RowError::new(number, 0, "", line, Problem::QuoteOpen));
        }
        let found = self.fields.len();
        if found != self.width {
            return Err(normalised::wrong_width(number, line, found, self.width));
        }
        Ok(Row { columns: self, line: self.fields.unquoted(), number })
    }
}

impl<'row, const COUNT: usize> Row<'row, COUNT> {
    /// The field in a column, by its place among the names; empty when the table lacks it.
    #[inline]
    pub(super) fn piece(self, column: usize) -> Piece<'row> {
        let piece = self.columns.fields.piece(self.line, self.columns.index[column]);
        match piece.text() {
            [b'"', .., b'"'] => {
                Piece { line: self.line, start: piece.start + 1, end: piece.end - 1 }
            }
            _ => piece,
        }
    }

    /// The field's text.
    #[inline]
    pub(super) fn text(self, column: usize) -> &'row [u8] {
        self.piece(column).text()
    }

    /// The field as a whole number.
    #[inline]
    pub(super) fn number(self, column: usize) -> Result<u64, Box<RowError>> {
        whole_number(self.piece(column)).map_err(|problem| self.error(column, problem))
    }

    /// The field as an amount, which `bit` then stands for in `has`; 0 when it is empty.
    #[inline]
    pub(super) fn amount(
        self,
        column: usize,
        decimals: u8,
        bit: u8,
        has: &mut u8,
    ) -> Result<i64, Box<RowError>> {
        let piece = self.piece(column);
        if piece.is_empty() {
            return Ok(0);
        }
        *has |= bit;
        amount(piece, decimals).map_err(|error| self.error(column, error.into()))
    }

    /// The time that was read from a column, in unix nanoseconds, if it can be believed.
    #[inline]
    pub(super) fn time(self, column: usize, nanos: Option<u64>) -> Result<u64, Box<RowError>> {
        nanos
            .filter(|nanos| (EVENT_TIME_MIN..EVENT_TIME_END).contains(nanos))
            .ok_or_else(|| self.error(column, Problem::TimeOutOfRange))
    }

    /// Blames a column.
    #[cold]
    pub(super) fn error(self, column: usize, problem: Problem) -> Box<RowError> {
        let number = self.columns.index[column].wrapping_add(1);
        let name = self.columns.names[column];
        RowError::new(self.number, number, name, self.text(column), problem)
    }
}
