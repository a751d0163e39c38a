//! The one member of a zip archive.

use std::fs::File;
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::SourceError;
use super::lines::Packing;

/// Where the archive's only file lies, and its name.
pub(super) fn only_member(path: &Path) -> Result<(Packing, String), SourceError> {
    let fail = |problem: String| SourceError::Archive { path: path.to_owned(), problem };
    let damaged = |error: zip::result::ZipError| {
        fail(format!("cannot be read as a zip archive ({error}); copy or download it again"))
    };
    let file = File::open(path).map_err(|error| SourceError::of_io(path, 0, false, error))?;
    let mut archive = ZipArchive::new(file).map_err(damaged)?;
    let mut members = Vec::new();
    for (index, name) in archive.file_names().enumerate() {
        let name = name.map_err(damaged)?.into_owned();
        if !name.ends_with('/') {
            members.push((index, name));
        }
    }
    let [(index, name)] = members.as_slice() else {
        let count = members.len();
        let remedy = "unpack it and name the files, or pack each on its own";
        return Err(fail(format!("holds {count} files where one is expected; {remedy}")));
    };
    let member = archive.by_index_raw(*index).map_err(damaged)?;
    let method = member.compression();
    if ![CompressionMethod::Stored, CompressionMethod::Deflated].contains(&method) {
        return Err(fail(format!("is packed by {method}; pack it by deflate, as zip does")));
    }
    let is_deflated = method == CompressionMethod::Deflated;
    let start = member
        .data_start()
        .ok_or_else(|| fail("does not say where its member begins; pack it again".to_owned()))?;
    let packing = Packing::Zip {
        start,
        packed_bytes: member.compressed_size(),
        is_deflated,
        checksum: member.crc32(),
    };
    Ok((packing, name.clone()))
}

/// Who gave the prices, as LEAN's folders tell (`forex/oanda/tick/eurusd/...`), else the first word
/// of a file name such as `oanda_eurusd_20140502_quote.zip`.
pub(super) fn provider(path: &Path) -> Option<String> {
    let folders: Vec<&str> = path.iter().filter_map(|folder| folder.to_str()).collect();
    let kinds = ["forex", "crypto", "cfd", "cryptofuture"];
    let below = folders.windows(2).rev().find(|pair| kinds.contains(&pair[0]));
    if let Some(pair) = below {
        return Some(pair[1].to_owned());
    }
    let stem = path.file_stem()?.to_str()?;
    let (first, rest) = stem.split_once('_')?;
    // `20140502_quote.zip` names nobody.
    let is_name = !rest.is_empty() && first.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_name.then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_is_read_off_the_path() {
        let provider = |path: &str| provider(Path::new(path));
        assert_eq!(provider("d/forex/oanda/tick/eurusd/20140502_quote.zip"), Some("oanda".into()));
        assert_eq!(provider("fxcm_eurusd_20140502_quote.zip"), Some("fxcm".into()));
        assert_eq!(provider("20140502_quote.zip"), None);
    }
}
