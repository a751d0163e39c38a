//! How far the log was on the disk, told beside it.
//!
//! sled cuts a log off where it finds damage, and opens what is before it as if nothing had been there. So each
//! commit has a number, which is one of its records, and the last that was on the disk is written to a file of its
//! own. A log that ends before that has lost what was acknowledged. The file is not synced, for that would double the
//! cost of a commit: after a power cut it says what the system had written of it by then, and a log that lost no more
//! than what came after that is not found out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The tree of the one record that holds the number of the last commit.
pub(super) const COMMITS: &str = "commits";

const LAST: &[u8] = b"last";

/// The number, and a check over it: a file that was torn says nothing.
const BYTES: usize = 16;

fn file(path: &Path) -> PathBuf {
    path.join("committed")
}

fn check(number: [u8; 8]) -> [u8; 8] {
    let mut check = [0; 8];
    check.copy_from_slice(&blake3::hash(&number).as_bytes()[..8]);
    check
}

/// The number that a commit is to have next, and what it is written to.
pub(super) struct Numbers {
    tree: sled::Tree,
    last: u64,
}

impl Numbers {
    pub(super) fn open(db: &sled::Db) -> sled::Result<Self> {
        let tree = db.open_tree(COMMITS)?;
        let last = last(&tree)?;
        Ok(Self { tree, last })
    }

    /// Numbers what was inserted before.
    pub(super) fn next(&mut self) -> sled::Result<u64> {
        self.last += 1;
        self.tree.insert(LAST, &self.last.to_be_bytes())?;
        Ok(self.last)
    }
}

fn last(tree: &sled::Tree) -> sled::Result<u64> {
    let last = tree.get(LAST)?;
    Ok(last.and_then(|bytes| bytes.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes))
}

/// The commit with this number is on the disk. A mark that is too low accuses nobody.
pub(super) fn note(path: &Path, number: u64) -> io::Result<()> {
    let file = File::options().create(true).truncate(false).write(true).open(file(path))?;
    let number = number.to_be_bytes();
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&number);
    bytes[8..].copy_from_slice(&check(number));
    file.write_all_at(&bytes, 0)
}

/// The last that was noted; none, if nothing was, or it cannot be made out.
fn noted(path: &Path) -> io::Result<Option<u64>> {
    let bytes = match std::fs::read(file(path)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(bytes) = <[u8; BYTES]>::try_from(bytes) else { return Ok(None) };
    let (mut number, mut checked) = ([0; 8], [0; 8]);
    number.copy_from_slice(&bytes[..8]);
    checked.copy_from_slice(&bytes[8..]);
    Ok((check(number) == checked).then(|| u64::from_be_bytes(number)))
}

/// The log ends where it does.
pub(super) fn begin_anew(path: &Path, db: &sled::Db) -> sled::Result<()> {
    Ok(note(path, last(&db.open_tree(COMMITS)?)?)?)
}

/// What is missing at the end of the log, in words; none, if nothing is.
pub(super) fn shortened(path: &Path, db: &sled::Db) -> sled::Result<Option<String>> {
    let (noted, last) = (noted(path)?.unwrap_or(0), last(&db.open_tree(COMMITS)?)?);
    let missing = noted.saturating_sub(last);
    Ok((missing > 0).then(|| format!("the last {missing} of {noted} commits are not in the log")))
}
