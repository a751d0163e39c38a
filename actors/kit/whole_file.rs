//! Small files that are there whole or as they were before.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes the file anew, through a draft beside it, and returns once it is on the disk. Blocks.
///
/// # Errors
///
/// What the file system says; the file is as it was then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
