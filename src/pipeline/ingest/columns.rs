//! Columns of a text table, found by the names in its header.

use super::number::Piece;
use super::split::Fields;
use super::{HeaderError, RowError, normalised};

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
            return Err(RowError::new(number, 0, "", line, super::Problem::QuoteOpen));
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

    /// Blames a column.
    #[cold]
    pub(super) fn error(self, column: usize, problem: super::Problem) -> Box<RowError> {
        let number = self.columns.index[column].wrapping_add(1);
        let name = self.columns.names[column];
        RowError::new(self.number, number, name, self.text(column), problem)
    }
}
