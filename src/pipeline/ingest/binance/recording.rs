//! Recordings of frames, a line each.

use super::super::number::{Piece, whole_number};
use super::super::{
    EVENT_TIME_END, EVENT_TIME_MIN, Ingester, LineParser, ParserState, Problem, RowError,
};
use super::{FrameParser, Market};
use crate::domain::decimal;

/// Reads recordings of frames: `<receive time in unix ns> {...}` or `{...}` a line, or cryptofeed's
/// `<receive time in seconds>: {...}` with lines of addresses between.
#[derive(Debug)]
pub struct RecordingParser {
    frames: FrameParser,
}

impl RecordingParser {
    /// A parser before its first line. Without `market` each frame is asked for its own.
    pub fn new(market: Option<Market>) -> Self {
        Self { frames: FrameParser::new(market) }
    }

    /// Whether `line` could be one of a recording.
    pub fn recognises(line: &[u8]) -> bool {
        if line.starts_with(b"wss://") || line.starts_with(b"{") {
            return true;
        }
        let time = line.iter().position(|byte| !(byte.is_ascii_digit() || *byte == b'.'));
        let Some(time) = time.filter(|&time| time >= 10) else { return false };
        line[time..]
            .strip_prefix(b":")
            .unwrap_or(&line[time..])
            .trim_ascii_start()
            .starts_with(b"{")
    }
}

impl LineParser for RecordingParser {
    fn row(
        &mut self,
        line: &[u8],
        number: u64,
        ingester: &mut Ingester,
    ) -> Result<(), Box<RowError>> {
        let Some(start) = memchr::memchr(b'{', line) else {
            if [&b"wss://"[..], b"ws://", b"https://", b"http://"]
                .iter()
                .any(|scheme| line.starts_with(scheme))
            {
                ingester.skipped();
                return Ok(());
            }
            let reason = "a frame should begin with {".to_owned();
            return Err(RowError::new(number, 1, "frame", line, Problem::Json { reason }));
        };
        let fail = |problem| RowError::new(number, 1, "receive time", &line[..start], problem);
        let time = line[..start].trim_ascii_end();
        let receive_time = match time.strip_suffix(b":") {
            _ if time.is_empty() => 0,
            Some(seconds) => {
                let nanos = decimal::parse(seconds, 9).map_err(|error| fail(error.into()))?;
                u64::try_from(nanos).map_err(|_| fail(Problem::OutOfRange))?
            }
            None => whole_number(Piece::whole(time)).map_err(fail)?,
        };
        if !time.is_empty() && !(EVENT_TIME_MIN..EVENT_TIME_END).contains(&receive_time) {
            return Err(fail(Problem::TimeOutOfRange));
        }
        self.frames.frame(&line[start..], receive_time, number, ingester).map_err(
            |mut error| {
                if let Some(column) = &mut error.column {
                    column.number += u32::try_from(start).unwrap_or(0);
                }
                error
            },
        )?;
        Ok(())
    }

    fn state(&self) -> ParserState {
        ParserState::Frames(self.frames.state().clone())
    }

    fn restore(&mut self, state: &ParserState) {
        if let ParserState::Frames(state) = state {
            self.frames.restore(state.clone());
        }
    }
}
