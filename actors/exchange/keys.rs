//! Who may trade: accounts with their keys, and whether a request is signed by one of them.
//!
//! Secrets are in memory and nowhere else: nothing here shows one, not even when asked for debugging.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use tickwright_core::exchange::{ApiError, signed};

/// Most accounts.
const ACCOUNTS_MAX: usize = 256;

/// Largest file of keys, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What one account shows and signs with: `NAME=APIKEY:SECRET`, which is never shown whole.
#[derive(Clone)]
pub struct AccountText(String);

impl From<&str> for AccountText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for AccountText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountText(..)")
    }
}

/// Why the accounts cannot be gone by. It never says what was written there.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Not as it is to be written.
    #[error("{place}: {problem}; write NAME=APIKEY:SECRET")]
    Malformed {
        /// Where.
        place: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// No accounts at all.
    #[error("nobody could trade; name an account by --account NAME=APIKEY:SECRET, or --keys FILE")]
    Nobody,
    /// The file cannot be read.
    #[error("cannot read the keys in `{}`: {message}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
}

/// Accounts by their keys.
#[derive(Default)]
pub(super) struct Keys(BTreeMap<String, (String, hmac::Key)>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.accounts().collect::<Vec<_>>()).finish()
    }
}

impl Keys {
    /// The accounts that options and a file name.
    pub(super) fn new(options: &[AccountText], file: Option<&Path>) -> Result<Self, KeysError> {
        let mut keys = Self::default();
        for (at, option) in options.iter().enumerate() {
            keys.add(&option.0, format!("--account, number {}", at + 1))?;
        }
        if let Some(path) = file {
            let unreadable = |message: String| KeysError::Unreadable { path: path.into(), message };
            let metadata = std::fs::metadata(path);
            let bytes = metadata.map_err(|error| unreadable(error.to_string()))?.len();
            if bytes > FILE_BYTES_MAX {
                return Err(unreadable("it is too large".to_owned()));
            }
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| unreadable(error.to_string()))?;
            for (at, line) in text.lines().enumerate() {
                let line = line.trim();
                if !line.is_empty() && !line.starts_with('#') {
                    keys.add(line, format!("{}, line {}", path.display(), at + 1))?;
                }
            }
        }
        if keys.0.is_empty() { Err(KeysError::Nobody) } else { Ok(keys) }
    }

    fn add(&mut self, text: &str, place: String) -> Result<(), KeysError> {
        let is_word = |text: &str, max: usize| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            (1..=max).contains(&text.len()) && text.bytes().all(is_plain)
        };
        let problem = match text
            .split_once('=')
            .and_then(|(name, rest)| rest.split_once(':').map(|(key, secret)| (name, key, secret)))
        {
            None => "has no name, key and secret",
            Some((name, ..)) if !is_word(name, 32) => "its name is no word of at most 32 letters",
            Some((_, key, _)) if !is_word(key, 128) => "its key is no word of at most 128 letters",
            Some((.., "")) => "its secret is empty",
            Some((name, ..)) if self.accounts().any(|known| known == name) => {
                "its name is there already"
            }
            Some((_, key, _)) if self.0.contains_key(key) => "its key is there already",
            Some(_) if self.0.len() >= ACCOUNTS_MAX => "is one too many",
            Some((name, key, secret)) => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                self.0.insert(key.to_owned(), (name.to_owned(), secret));
                return Ok(());
            }
        };
        Err(KeysError::Malformed { place, problem })
    }

    /// The names of all accounts.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(|(name, _)| name.as_str())
    }

    /// Whose the key is.
    pub(super) fn account(&self, key: Option<&str>) -> Result<&str, ApiError> {
        self.of(key).map(|(name, _)| name.as_str())
    }

    fn of(&self, key: Option<&str>) -> Result<&(String, hmac::Key), ApiError> {
        let key = key.filter(|key| (1..=128).contains(&key.len()));
        let key = key.filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic()));
        let key =
            key.ok_or_else(|| ApiError::new(-2014, "API-key format invalid.").with_status(401))?;
        self.0.get(key).ok_or_else(|| ApiError::of_code(-2015, 401))
    }

    /// Whose the request is, if it is signed as it should be.
    pub(super) fn signer(
        &self,
        key: Option<&str>,
        query: &str,
        body: &str,
    ) -> Result<&str, ApiError> {
        let (name, secret) = self.of(key)?;
        let (text, signature) = signed(query, body);
        let signature = signature.ok_or_else(|| ApiError::missing("signature"))?;
        let wrong = || ApiError::new(-1022, "Signature for this request is not valid.");
        let signature = bytes(&signature).ok_or_else(wrong)?;
        hmac::verify(secret, text.as_bytes(), &signature).map_err(|_| wrong())?;
        Ok(name)
    }
}

/// The bytes that pairs of hexadecimal digits stand for.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Keys, KeysError> {
        Keys::new(&[text.into()], None)
    }

    #[test]
    fn a_request_is_signed_as_the_documentation_of_the_real_exchange_says() {
        // The example of its documentation.
        let key = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A";
        let secret = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j";
        let keys = keys(&format!("one={key}:{secret}")).unwrap();
        let query = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC";
        let body = "quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559";
        let mixed = "0fd168b8ddb4876a0358a8d14d0c9f3da0e9b20c5d52b2a00fcf7d1c602f9a77";
        let signer = |query: &str, signature: &str| {
            keys.signer(Some(key), query, &format!("{body}&signature={signature}"))
                .map(str::to_owned)
                .map_err(|error| error.code)
        };
        assert_eq!(signer(query, mixed), Ok("one".to_owned()));
        assert_eq!(signer(query, &mixed.to_uppercase()), Ok("one".to_owned()));
        for wrong in ["", "0f", "x", &mixed[1..], &mixed.replace('0', "1")] {
            assert_eq!(signer(query, wrong), Err(-1022), "{wrong}");
        }
        assert_eq!(signer("symbol=LTCBTC", mixed), Err(-1022));
        let code = |key: Option<&str>| keys.signer(key, query, body).unwrap_err().code;
        assert_eq!(code(Some(key)), -1102, "no signature at all");
        assert_eq!((code(None), code(Some("")), code(Some("a b"))), (-2014, -2014, -2014));
        assert_eq!(code(Some("unknown")), -2015);
    }

    #[test]
    fn what_is_wrong_is_told_and_what_was_written_is_not() {
        for text in ["", "a", "a=k", "a b=k:s3cr3t", "a=k/:s3cr3t", "=k:s3cr3t", "a=k:"] {
            let error = format!("{:?} {}", keys(text).unwrap_err(), keys(text).unwrap_err());
            assert!(error.contains("NAME=APIKEY:SECRET") && !error.contains("s3cr3t"), "{error}");
        }
        let twice = ["a=k:s3cr3t".into(), "a=l:s3cr3t".into()];
        assert!(matches!(Keys::new(&twice, None), Err(KeysError::Malformed { .. })));
        let shared = ["a=k:s3cr3t".into(), "b=k:s3cr3t".into()];
        assert!(matches!(Keys::new(&shared, None), Err(KeysError::Malformed { .. })));
        assert!(matches!(Keys::new(&[], None), Err(KeysError::Nobody)));
        let shown = format!("{:?} {:?}", AccountText::from("a=k:s3cr3t"), keys("a=k:s3cr3t"));
        assert!(
            !shown.contains("s3cr3t") && !shown.contains('k') | shown.contains("Keys"),
            "{shown}"
        );
    }

    #[test]
    fn a_file_of_keys_has_comments_and_names_its_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "# ours\none=k1:s1\n\ntwo=k2:s2\n").unwrap();
        let keys = Keys::new(&["three=k3:s3".into()], Some(file.path())).unwrap();
        assert_eq!(keys.accounts().collect::<Vec<_>>(), ["one", "two", "three"]);
        std::fs::write(&file, "one=k1:s1\ntwo=s3cr3t\n").unwrap();
        let error = Keys::new(&[], Some(file.path())).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("s3cr3t"), "{error}");
    }
}
