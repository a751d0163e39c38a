//! The log of the exchange as a file: a line is on the disk before anybody is told what it says.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use tickwright_core::exchange::{Entry, Judge, LINE_BYTES_MAX, LogError, LogReader, Verdict};

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JudgeLogError {
    /// The system says no.
    #[error("`{}`: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another exchange writes it.
    #[error("`{}` is written by another exchange", path.display())]
    Locked {
        /// Which file.
        path: PathBuf,
    },
    /// It cannot be gone by.
    #[error("`{}`: {error}; nothing was changed", path.display())]
    Log {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and in which line.
        error: LogError,
    },
}

/// What reading a log came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadLog {
    /// Whole lines.
    pub lines: u64,
    /// Bytes of the whole lines.
    pub bytes: u64,
    /// Bytes of a last line that was not written whole. Nobody was told what it says.
    pub torn_bytes: u64,
}

/// A log that is written.
#[derive(Debug)]
pub(super) struct JudgeLog {
    path: PathBuf,
    file: File,
}

impl JudgeLog {
    /// Opens the log at `path`, or begins it, and has `on_entry` take what it says. A last line that was
    /// not written whole is cut off.
    pub(super) fn open(
        path: &Path,
        on_entry: impl FnMut(Entry) -> Result<(), String>,
    ) -> Result<(Self, ReadLog), JudgeLogError> {
        let fail = |error| JudgeLogError::Io { path: path.into(), error };
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JudgeLogError::Locked { path: path.into() });
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let found = read(path, on_entry)?;
        if found.torn_bytes > 0 {
            file.set_len(found.bytes).map_err(fail)?;
        }
        file.sync_all().map_err(fail)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = File::open(parent.unwrap_or(Path::new("."))).map_err(fail)?;
        parent.sync_all().map_err(fail)?;
        Ok((Self { path: path.into(), file }, found))
    }

    /// Writes a line; returns when it is on the disk.
    pub(super) fn append(&mut self, entry: &Entry) -> Result<(), JudgeLogError> {
        let mut line = serde_json::to_vec(entry).expect("every key is text");
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        written.map_err(|error| JudgeLogError::Io { path: self.path.clone(), error })
    }
}

/// Reads the log at `path` line by line.
fn read(
    path: &Path,
    mut on_entry: impl FnMut(Entry) -> Result<(), String>,
) -> Result<ReadLog, JudgeLogError> {
    let fail = |error| JudgeLogError::Io { path: path.into(), error };
    let wrong = |error| JudgeLogError::Log { path: path.into(), error };
    let mut file = BufReader::new(File::open(path).map_err(fail)?);
    let (mut reader, mut found, mut line) = (LogReader::default(), ReadLog::default(), Vec::new());
    loop {
        line.clear();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        file.by_ref().take(limit).read_until(b'\n', &mut line).map_err(fail)?;
        let bytes = line.len() as u64;
        let Some(text) = line.strip_suffix(b"\n") else {
            if bytes == limit {
                let (line, message) = (reader.lines() + 1, "it has no end".to_owned());
                return Err(wrong(LogError::Damaged { line, message }));
            }
            return Ok(ReadLog { torn_bytes: bytes, ..found });
        };
        let entry = reader.read(text).map_err(wrong)?;
        let line = reader.lines();
        on_entry(entry).map_err(|message| wrong(LogError::Impossible { line, message }))?;
        found.lines = line;
        found.bytes += bytes;
    }
}

/// Reads a log and says what was accepted.
///
/// # Errors
///
/// [`JudgeLogError`] when it cannot be read, or is damaged anywhere but in its last line.
pub fn judge(path: &Path) -> Result<(Verdict, ReadLog), JudgeLogError> {
    let mut judge = Judge::default();
    let found = read(path, |entry| {
        judge.on_entry(&entry);
        Ok(())
    })?;
    Ok((judge.verdict(), found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry { number, time: 7, events: Vec::new() }
    }

    fn entries(path: &Path) -> Result<(Vec<u64>, ReadLog), JudgeLogError> {
        let mut numbers = Vec::new();
        let (_, found) = JudgeLog::open(path, |entry| {
            numbers.push(entry.number);
            Ok(())
        })?;
        Ok((numbers, found))
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_the_log_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let (mut log, found) = JudgeLog::open(&path, |_| Ok(())).unwrap();
        assert_eq!(found, ReadLog::default());
        log.append(&entry(1)).unwrap();
        log.append(&entry(2)).unwrap();
        assert!(matches!(entries(&path), Err(JudgeLogError::Locked { .. })));
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        for torn in 1..=whole.len() / 2 {
            std::fs::write(&path, &whole[..whole.len() - torn]).unwrap();
            let (_, found) = judge(&path).unwrap();
            let left = if torn == whole.len() / 2 { 0 } else { whole.len() / 2 - torn };
            assert_eq!((found.lines, found.torn_bytes), (1, left as u64));
            assert_eq!(entries(&path).unwrap().0, [1]);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), whole.len() as u64 / 2);
            let (mut log, _) = JudgeLog::open(&path, |_| Ok(())).unwrap();
            log.append(&entry(2)).unwrap();
            drop(log);
            assert_eq!(entries(&path).unwrap().0, [1, 2]);
        }
    }

    #[test]
    fn damage_in_the_middle_names_the_file_and_the_line_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let line = |number| serde_json::to_string(&entry(number)).unwrap();
        for damaged in [
            format!("{}\nnonsense\n{}\n", line(1), line(3)),
            format!("{}\n{}\n", line(1), line(3)),
            format!("{}\n\n{}\n", line(1), line(2)),
        ] {
            std::fs::write(&path, &damaged).unwrap();
            for error in [entries(&path).unwrap_err(), judge(&path).unwrap_err()] {
                let text = error.to_string();
                assert!(text.contains("log`") && text.contains("line 2"), "{text}");
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
        }
    }
}
