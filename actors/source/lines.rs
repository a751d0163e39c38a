//! Lines out of a file, plain or packed, with the place of each.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::{DeflateDecoder, MultiGzDecoder};
use memchr::memchr;

/// How text lies in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// As it is.
    Plain,
    /// Gzip, of one or more members.
    Gzip,
    /// A member of a zip archive.
    Zip {
        /// Where the member's bytes begin.
        start: u64,
        /// Bytes it takes up in the archive.
        packed_bytes: u64,
        /// Whether it is deflated; stored otherwise.
        is_deflated: bool,
        /// The checksum of what it unpacks to.
        checksum: u32,
    },
}

/// Counts the bytes that pass, where another thread can see it.
#[derive(Debug)]
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Fails at the end when what has passed does not have the checksum that was promised.
struct Checked<R> {
    inner: R,
    sum: flate2::Crc,
    expected: u32,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.sum.update(&buffer[..count]);
        if count == 0 && !buffer.is_empty() && self.sum.sum() != self.expected {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum does not match"));
        }
        Ok(count)
    }
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'buffer> {
    /// A line, without its end.
    Text(&'buffer [u8]),
    /// The start of a line too long to hold; the rest of it has been passed over.
    TooLong(&'buffer [u8]),
    /// No more lines.
    End,
}

/// Reads a file line by line. Memory is bounded by [`LineReader::LINE_BYTES_MAX`].
pub(super) struct LineReader {
    path: PathBuf,
    packing: Packing,
    stream: Box<dyn Read + Send>,
    /// Packed bytes read, shared with `stream`.
    packed_bytes: Arc<AtomicU64>,
    buffer: Vec<u8>,
    /// Where the unread part of `buffer` starts and ends.
    start: usize,
    end: usize,
    has_ended: bool,
    /// Unpacked bytes before `start`.
    offset: u64,
    /// Lines before `start`.
    line: u64,
}

impl std::fmt::Debug for LineReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineReader")
            .field("path", &self.path)
            .field("packing", &self.packing)
            .field("offset", &self.offset)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl LineReader {
    /// Longest line that is read; a depth snapshot of 5,000 levels a side has half a megabyte.
    pub(super) const LINE_BYTES_MAX: usize = 4 << 20;
    /// What is asked for at a time.
    const BUFFER_BYTES: usize = 64 << 10;

    pub(super) fn open(path: &Path, packing: Packing) -> io::Result<Self> {
        let packed_bytes = Arc::new(AtomicU64::new(0));
        let stream = open_stream(path, &packing, &packed_bytes, 0)?;
        Ok(Self {
            path: path.to_owned(),
            packing,
            stream,
            packed_bytes,
            buffer: vec![0; Self::BUFFER_BYTES],
            start: 0,
            end: 0,
            has_ended: false,
            offset: 0,
            line: 0,
        })
    }

    /// Unpacked bytes of the lines read so far.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Lines read so far.
    pub(super) const fn line(&self) -> u64 {
        self.line
    }

    /// Bytes of the file read so far, as they lie in it.
    pub(super) fn packed_bytes(&self) -> u64 {
        self.packed_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the text as it lies in the file, all of it.
    pub(super) fn packed_bytes_total(&self) -> u64 {
        match self.packing {
            Packing::Plain | Packing::Gzip => {
                std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
            }
            Packing::Zip { packed_bytes, .. } => packed_bytes,
        }
    }

    /// Goes to the line after `line`, which begins at unpacked byte `offset`. A packed file is
    /// unpacked again up to there.
    ///
    /// Returns false when the text ends before that.
    pub(super) fn seek(&mut self, offset: u64, line: u64) -> io::Result<bool> {
        self.packed_bytes.store(0, Ordering::Relaxed);
        let skip = if self.packing == Packing::Plain { offset } else { 0 };
        self.stream = open_stream(&self.path, &self.packing, &self.packed_bytes, skip)?;
        (self.start, self.end, self.has_ended) = (0, 0, false);
        (self.offset, self.line) = (offset, line);
        if self.packing == Packing::Plain {
            return Ok(std::fs::metadata(&self.path)?.len() >= offset);
        }
        let passed = io::copy(&mut (&mut self.stream).take(offset), &mut io::sink())?;
        Ok(passed == offset)
    }

    /// The next line. A carriage return before the end is taken off.
    #[inline]
    pub(super) fn next_line(&mut self) -> io::Result<Line<'_>> {
        let mut searched = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(found) = memchr(b'\n', &unread[searched..]) {
                return Ok(Line::Text(self.take(searched + found, 1)));
            }
            searched = unread.len();
            if self.has_ended {
                if searched == 0 {
                    return Ok(Line::End);
                }
                return Ok(Line::Text(self.take(searched, 0)));
            }
            if searched >= Self::LINE_BYTES_MAX {
                return self.pass_over();
            }
            self.fill()?;
        }
    }

    /// The next lines as they are in the buffer, without taking them: at least one byte unless the
    /// text has ended, up to what one read brought.
    pub(super) fn peek(&mut self) -> io::Result<&[u8]> {
        while self.start == self.end && !self.has_ended {
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Whether nothing but blank space is left.
    pub(super) fn is_blank(&mut self) -> io::Result<bool> {
        loop {
            let unread = &self.buffer[self.start..self.end];
            if unread.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Ok(false);
            }
            if self.has_ended || unread.len() >= Self::LINE_BYTES_MAX {
                return Ok(self.has_ended);
            }
            self.fill()?;
        }
    }

    /// Takes a line of `length` bytes and the `separator` bytes behind it.
    #[inline]
    fn take(&mut self, length: usize, separator: usize) -> &[u8] {
        let start = self.start;
        self.start += length + separator;
        self.offset += (length + separator) as u64;
        self.line += 1;
        let line = &self.buffer[start..start + length];
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// Makes room behind the unread bytes and reads once.
    #[cold]
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end * 2 > self.buffer.len() {
            let bytes = (self.buffer.len() * 2).min(Self::LINE_BYTES_MAX + Self::BUFFER_BYTES);
            self.buffer.resize(bytes, 0);
        }
        loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    self.has_ended = count == 0;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Passes over a line that does not fit, keeping its start.
    #[cold]
    fn pass_over(&mut self) -> io::Result<Line<'_>> {
        const KEPT: usize = 256;
        let kept = self.buffer[self.start..self.start + KEPT].to_vec();
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(found) = memchr(b'\n', unread) {
                self.take(found, 1);
                break;
            }
            self.offset += unread.len() as u64;
            (self.start, self.end) = (0, 0);
            if self.has_ended {
                self.line += 1;
                break;
            }
            self.fill()?;
        }
        // The start of the buffer is before `start` or unused; either way nobody reads it again
        // before the next fill, which leaves what is unread in place.
        if self.start < KEPT {
            self.buffer.copy_within(self.start..self.end, KEPT);
            self.end += KEPT - self.start;
            self.start = KEPT;
        }
        self.buffer[..KEPT].copy_from_slice(&kept);
        Ok(Line::TooLong(&self.buffer[..KEPT]))
    }
}

fn open_stream(
    path: &Path,
    packing: &Packing,
    packed_bytes: &Arc<AtomicU64>,
    skip: u64,
) -> io::Result<Box<dyn Read + Send>> {
    let mut file = File::open(path)?;
    packed_bytes.store(skip, Ordering::Relaxed);
    let count = packed_bytes.clone();
    Ok(match packing {
        Packing::Plain => {
            file.seek(SeekFrom::Start(skip))?;
            Box::new(Counted { inner: file, count })
        }
        Packing::Gzip => {
            let file = io::BufReader::with_capacity(64 << 10, Counted { inner: file, count });
            Box::new(MultiGzDecoder::new(file))
        }
        Packing::Zip { start, packed_bytes, is_deflated, checksum } => {
            file.seek(SeekFrom::Start(*start))?;
            let member = Counted { inner: file, count }.take(*packed_bytes);
            let inner: Box<dyn Read + Send> = if *is_deflated {
                Box::new(DeflateDecoder::new(io::BufReader::with_capacity(64 << 10, member)))
            } else {
                Box::new(member)
            };
            Box::new(Checked { inner, sum: flate2::Crc::new(), expected: *checksum })
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn reader(content: &[u8]) -> (tempfile::NamedTempFile, LineReader) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let reader = LineReader::open(file.path(), Packing::Plain).unwrap();
        (file, reader)
    }

    fn text(reader: &mut LineReader) -> Option<Vec<u8>> {
        match reader.next_line().unwrap() {
            Line::Text(text) => Some(text.to_vec()),
            Line::TooLong(start) => panic!("too long: {}", start.len()),
            Line::End => None,
        }
    }

    #[test]
    fn a_last_line_without_an_end_is_a_line() {
        let (_file, mut reader) = reader(b"a\r\n\nbc");
        assert_eq!(text(&mut reader).as_deref(), Some(&b"a"[..]));
        assert_eq!((reader.line(), reader.offset()), (1, 3));
        assert_eq!(text(&mut reader).as_deref(), Some(&b""[..]));
        assert_eq!(text(&mut reader).as_deref(), Some(&b"bc"[..]));
        assert_eq!((reader.line(), reader.offset()), (3, 6));
        assert_eq!(text(&mut reader), None);
        assert_eq!(text(&mut reader), None);
    }

    #[test]
    fn a_line_too_long_is_passed_over_and_reading_goes_on() {
        for length in [LineReader::LINE_BYTES_MAX, LineReader::LINE_BYTES_MAX * 3 + 17] {
            let mut content = b"first\n".to_vec();
            content.resize(6 + length + 1_000_000, b'x');
            content.extend_from_slice(b"\nlast\n");
            let (_file, mut reader) = reader(&content);
            assert_eq!(text(&mut reader).as_deref(), Some(&b"first"[..]));
            assert_eq!(reader.next_line().unwrap(), Line::TooLong(&[b'x'; 256]));
            assert_eq!(reader.line(), 2);
            assert_eq!(text(&mut reader).as_deref(), Some(&b"last"[..]));
            assert_eq!((reader.line(), reader.offset()), (3, content.len() as u64));
            assert!(reader.buffer.len() <= LineReader::LINE_BYTES_MAX * 2);
        }
    }

    #[test]
    fn seeking_gives_the_line_that_was_next_there() {
        let lines: Vec<String> = (0..100_000).map(|n| format!("line {n}")).collect();
        let (_file, mut reader) = reader(lines.join("\n").as_bytes());
        for _ in 0..60_000 {
            text(&mut reader);
        }
        let (offset, line) = (reader.offset(), reader.line());
        while text(&mut reader).is_some() {}
        assert!(reader.seek(offset, line).unwrap());
        assert_eq!(text(&mut reader).as_deref(), Some(&b"line 60000"[..]));
        assert!(!reader.seek(1 << 40, line).unwrap());
    }
}
