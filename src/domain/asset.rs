//! Something that fees are paid in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 12;

/// The name of a currency, a coin or a token, such as `BNB`: 1 to 12 letters, digits and marks of ASCII. Copied
/// like a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Asset([u8; NAME_BYTES_MAX]);

impl Asset {
    /// Of this name; none, if that is no name.
    pub fn new(name: &str) -> Option<Self> {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes.get_mut(..name.len()).filter(|_| is_name)?.copy_from_slice(name.as_bytes());
        Some(Self(bytes))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES_MAX);
        // What came from elsewhere may be no text at all.
        std::str::from_utf8(&self.0[..end]).unwrap_or("?")
    }
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_and_what_is_none_is_refused() {
        for name in ["B", "BNB", "1000SATS", "TWELVE-BYTES"] {
            assert_eq!(Asset::new(name).unwrap().as_str(), name);
        }
        for name in ["", "B B", "ü", "THIRTEENBYTES"] {
            assert_eq!(Asset::new(name), None, "{name:?}");
        }
        assert_eq!(format!("{:>4}", Asset::new("BNB").unwrap()), " BNB");
    }
}
