//! What tells the inputs of a run from others, so that nothing goes on with rows it was not begun with.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use tickwright_core::config::Config;

use super::{Input, RunError};
use crate::source::SourceError;

/// What a source is called, and a hash that tells it from another.
pub(super) type InputId = (String, [u8; 32]);

/// Files up to this size are compared whole: that takes a tenth of a second.
const WHOLE_MAX: u64 = 64 << 20;

/// Of larger ones so much is compared at either end.
const END: u64 = 1 << 20;

/// And so many places in between, evenly spread.
const PLACES: u64 = 256;

/// Bytes of each.
const PLACE: u64 = 16 << 10;

/// What tells this run from others: its inputs, and whatever of the configuration can change an answer. Not
/// what files are called: every node may have its own copy.
///
/// # Errors
///
/// A file cannot be read.
pub(crate) fn run_id(config: &Config, input: &Input) -> Result<[u8; 32], RunError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&config.fingerprint());
    hasher.update(&(config.pipeline.shards as u64).to_le_bytes());
    for (_, hash) in identify(config, input)? {
        hasher.update(&hash);
    }
    Ok(*hasher.finalize().as_bytes())
}

/// What tells this run's inputs from others.
pub(super) fn identify(config: &Config, input: &Input) -> Result<Vec<InputId>, RunError> {
    match input {
        Input::Files(paths) => paths.iter().map(|path| Ok(identify_file(path)?)).collect(),
        Input::Simulated => {
            let text = format!("{:?}", config.simulator());
            Ok(vec![("simulated market".to_owned(), *blake3::hash(text.as_bytes()).as_bytes())])
        }
        Input::Live(live) => {
            let text = format!("{} {}", live.url, live.streams.join(" "));
            Ok(vec![("live feed".to_owned(), *blake3::hash(text.as_bytes()).as_bytes())])
        }
    }
}

/// A file's name, and a hash of its size and of what is in it. Not when it was changed: that is another time for
/// every copy, and nodes have copies.
fn identify_file(path: &Path) -> Result<InputId, SourceError> {
    let fail = |error| SourceError::of_io(path, 0, false, error);
    let mut file = File::open(path).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    let hash = hash_of(&mut file, length).map_err(fail)?;
    let name = path
        .file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    Ok((name, hash))
}

/// Whole, or at both ends and in places in between.
fn hash_of(file: &mut (impl Read + Seek), length: u64) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&length.to_le_bytes());
    let mut part = Vec::new();
    for (start, bytes) in parts(length) {
        file.seek(SeekFrom::Start(start))?;
        part.clear();
        file.by_ref().take(bytes).read_to_end(&mut part)?;
        hasher.update(&part);
    }
    Ok(*hasher.finalize().as_bytes())
}

/// What is compared of a file: where each part begins, and its bytes.
fn parts(length: u64) -> Vec<(u64, u64)> {
    if length <= WHOLE_MAX {
        return (0..length.div_ceil(END)).map(|part| (part * END, END)).collect();
    }
    let apart = (length - 2 * END - PLACE) / (PLACES - 1);
    let places = (0..PLACES).map(|place| (END + place * apart, PLACE));
    let ends = [(0, END), (length - END, END)];
    ends.into_iter().chain(places).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    fn hash(bytes: &[u8]) -> [u8; 32] {
        hash_of(&mut Cursor::new(bytes), bytes.len() as u64).unwrap()
    }

    #[test]
    fn every_byte_of_a_file_that_is_not_huge_counts_and_so_does_its_length() {
        let mut bytes = vec![7; 5 << 20];
        let before = hash(&bytes);
        assert_eq!(hash(&bytes), before);
        for place in [0, 1, 2 << 20, (5 << 20) / 2, (5 << 20) - 1] {
            bytes[place] = 8;
            assert_ne!(hash(&bytes), before, "byte {place}");
            bytes[place] = 7;
        }
        bytes.pop();
        assert_ne!(hash(&bytes), before);
        assert_ne!(hash(&[]), hash(&[0]));
    }

    #[test]
    fn of_a_huge_file_both_ends_count_and_places_spread_over_all_of_it() {
        for length in [WHOLE_MAX + 1, 3 * WHOLE_MAX + 12_345, 1 << 40] {
            let parts = parts(length);
            let bytes: u64 = parts.iter().map(|&(_, bytes)| bytes).sum();
            assert_eq!(bytes, 2 * END + PLACES * PLACE, "a bounded part of it");
            let mut ranges: Vec<(u64, u64)> =
                parts.iter().map(|&(start, bytes)| (start, start + bytes)).collect();
            ranges.sort_unstable();
            assert_eq!((ranges[0].0, ranges[ranges.len() - 1].1), (0, length));
            for pair in ranges.windows(2) {
                let gap = pair[1].0.checked_sub(pair[0].1).expect("no byte is read twice");
                assert!(gap <= length / (PLACES - 1), "{length}: {pair:?}");
            }
        }
    }

    #[test]
    fn a_copy_of_a_file_is_the_same_input_and_one_that_was_changed_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = |place: &str| directory.path().join(place).join("ticks.csv");
        let mut bytes = vec![b'1'; 3 << 20];
        for place in ["a", "b"] {
            std::fs::create_dir(directory.path().join(place)).unwrap();
            std::fs::write(path(place), &bytes).unwrap();
        }
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        File::options().write(true).open(path("b")).unwrap().set_modified(long_ago).unwrap();
        let of = |place| identify_file(&path(place)).unwrap();
        assert_eq!(of("a"), of("b"));
        bytes[3 << 19] = b'2';
        File::create(path("b")).unwrap().write_all(&bytes).unwrap();
        assert_ne!(of("a"), of("b"), "in the middle, at the same length");
    }
}
