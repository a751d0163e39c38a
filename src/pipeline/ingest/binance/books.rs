//! Frames that change a book: differences and snapshots.

use super::super::book::{Applied, Difference};
use super::super::{Ingester, RowError, SymbolEntry};
use super::frame::{Frame, Place};
use super::{FrameOutcome, FrameParser, SymbolState};
use crate::domain::{Kind, RawTick, SymbolId, has};

impl FrameParser {
    pub(super) fn difference(
        &mut self,
        frame: &Frame<'_>,
        place: Place<'_>,
        receive_time: u64,
        ingester: &mut Ingester,
    ) -> Result<FrameOutcome, Box<RowError>> {
        let (event_time, flags) = Self::quote_time(frame, place, receive_time)?;
        let entry = self.intern(frame, place, ingester)?;
        if self.state.symbols[entry.id.index()].has_ticker {
            ingester.skipped();
            return Ok(FrameOutcome::Read);
        }
        let difference = Difference {
            first: place.number("U", frame.update_first)?,
            last: place.number("u", frame.update_last)?,
            previous: match frame.update_previous {
                b"" => None,
                previous => Some(place.number("pu", previous)?),
            },
            bids: place.levels("b", frame.bid, entry)?,
            asks: place.levels("a", frame.ask, entry)?,
        };
        let applied = self.state.symbols[entry.id.index()].book.on_difference(difference);
        Ok(self.after_book(entry.id, applied, event_time, receive_time, flags, ingester))
    }

    pub(super) fn book_snapshot(
        &mut self,
        frame: &Frame<'_>,
        entry: Option<SymbolEntry>,
        place: Place<'_>,
        receive_time: u64,
        ingester: &mut Ingester,
    ) -> Result<FrameOutcome, Box<RowError>> {
        let (event_time, flags) = Self::quote_time(frame, place, receive_time)?;
        let entry = match (entry, self.state.last_symbol) {
            (Some(entry), _) => entry,
            (None, Some(symbol)) => ingester.entry(symbol).ok_or_else(|| place.missing("s"))?,
            (None, None) => return Err(place.missing("s")),
        };
        let index = entry.id.index();
        if self.state.symbols.len() <= index {
            self.state.symbols.resize_with(index + 1, SymbolState::default);
        }
        if self.state.symbols[index].has_ticker {
            ingester.skipped();
            return Ok(FrameOutcome::Read);
        }
        let last = place.number("lastUpdateId", frame.update_last)?;
        let bids = place.levels("bids", frame.bids, entry)?;
        let asks = place.levels("asks", frame.asks, entry)?;
        let applied = self.state.symbols[index].book.on_snapshot(last, &bids, &asks);
        Ok(self.after_book(entry.id, applied, event_time, receive_time, flags, ingester))
    }

    /// Pushes a quote if the top of the symbol's book is another one now.
    fn after_book(
        &mut self,
        symbol: SymbolId,
        applied: Applied,
        event_time: u64,
        receive_time: u64,
        flags: u16,
        ingester: &mut Ingester,
    ) -> FrameOutcome {
        let state = &mut self.state.symbols[symbol.index()];
        match applied {
            Applied::Gap => {
                ingester.gap();
                ingester.skipped();
                return FrameOutcome::SnapshotWanted(symbol);
            }
            Applied::Waiting | Applied::Stale => {
                ingester.skipped();
                return FrameOutcome::SnapshotWanted(symbol);
            }
            Applied::Old => {
                ingester.skipped();
                return FrameOutcome::Read;
            }
            Applied::Yes => {}
        }
        let top = state.book.top();
        if top == state.top {
            ingester.skipped();
            return FrameOutcome::Read;
        }
        state.top = top;
        let mut row = RawTick {
            event_time,
            receive_time,
            id: state.book.last_update(),
            symbol: symbol.0,
            kind: Kind::Quote as u8,
            flags,
            has: has::ID,
            ..RawTick::default()
        };
        if let Some((price, quantity)) = top.0 {
            (row.bid, row.bid_quantity) = (price, quantity);
            row.has |= has::BID | has::BID_QUANTITY;
        }
        if let Some((price, quantity)) = top.1 {
            (row.ask, row.ask_quantity) = (price, quantity);
            row.has |= has::ASK | has::ASK_QUANTITY;
        }
        ingester.push(row);
        FrameOutcome::Read
    }
}
