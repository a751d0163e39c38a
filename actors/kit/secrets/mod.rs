//! Secrets of the shared configuration, for whoever on this node needs one.
//!
//! ```text
//! ConfigSyncManager ── sealed values ──▶ Secrets ◀── read("secret:NAME") ── a broker, locks
//!                                          └─ KeyRing, from config.secrets_key_file, opens it there and then
//! ```
//!
//! What is kept, sent and logged is sealed. A secret is open only in the memory of whoever reads it, in a
//! [`SecretText`], and of the tool that seals it.

mod ring;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tickwright_core::config::{SECRET_BYTES_MAX, SealedValue, SecretPlace, SecretsConfig};
use tokio::sync::watch;
use tokio::time::timeout;
use zeroize::Zeroizing;

pub use ring::{KeyFileTask, KeyRing, see_to_key_file};
pub(in crate::kit) use ring::{lines, private_text, write_private};

/// Something that is not to be seen: it is never shown by accident, and its memory is cleared.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// What it is. Do not log it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}

impl From<Zeroizing<String>> for SecretText {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// Why a secret cannot be had. It never says what one is.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A file that cannot be read.
    #[error("{} cannot be read: {message}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// A file that cannot be written.
    #[error("{} cannot be written: {message}", path.display())]
    Unwritten {
        /// Which.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// Others than its owner may read or write it.
    #[error(
        "{} may be read or written by others than its owner (mode {mode:o}); `chmod 600` it, and take \
         what it holds for known if others had a reason to look",
        path.display()
    )]
    OpenToOthers {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not as it is to be written.
    #[error("{}, line {line}: {problem}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// There is one already.
    #[error(
        "{} exists; `tickwright secrets-key add` puts another key into it", path.display()
    )]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// It is not there, or the last one.
    #[error(
        "{} holds no key {key_id} beside another; `tickwright secrets-key list` names those it holds",
        path.display()
    )]
    NotRemoved {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key_id: String,
    },
    /// Nothing is configured.
    #[error(
        "there are no keys here to seal or open secrets with; set config.secrets_key_file (`tickwright \
         secrets-key new FILE` makes one), or config.secrets_passphrase_file"
    )]
    NoKeys,
    /// Sealed by a key that is not there.
    #[error(
        "{stored} is sealed by key {key_id}, and here are {known}; add that key to \
         config.secrets_key_file, or set the secret again"
    )]
    MissingKey {
        /// Under which name it is kept.
        stored: String,
        /// Which key.
        key_id: String,
        /// Which there are.
        known: String,
    },
    /// It does not open.
    #[error(
        "{stored} does not open with its key {key_id}: it was changed, or sealed for another name; set \
         it again"
    )]
    Damaged {
        /// Under which name it is kept.
        stored: String,
        /// Which key.
        key_id: String,
    },
    /// Something else is kept in its place.
    #[error("{stored} holds something that is not sealed; set it again")]
    NotSealed {
        /// Under which name it is kept.
        stored: String,
    },
    /// Nothing, or too much.
    #[error("a secret has 1 to {SECRET_BYTES_MAX} bytes, and this has {bytes}")]
    Size {
        /// How many it has.
        bytes: usize,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers to seal with")]
    Random,
    /// Nobody has set it.
    #[error(
        "secret.{name} is not set; `tickwright ctl config set secret.{name} --value-file FILE` (or `-` \
         for standard input) sets it"
    )]
    NotSet {
        /// Which.
        name: String,
    },
    /// There is no shared configuration here.
    #[error(
        "secret.{name} is of the configuration that the nodes of a cluster share, and this is a run \
         without one; name a file instead, or use `tickwright node`"
    )]
    NotShared {
        /// Which.
        name: String,
    },
}

/// Sealed values by name: under which key each is kept, and what is there.
type Sealed = BTreeMap<String, (String, String)>;

/// The secrets that count on a node. Clones share them. The default knows none, where nothing is shared.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    config: SecretsConfig,
    /// As many as keys of the shared configuration, at most.
    sealed: watch::Sender<Sealed>,
}

impl Secrets {
    /// Those of a node that opens them by what `config` says.
    pub fn new(config: SecretsConfig) -> Self {
        Self(Some(Arc::new(Shared { config, sealed: watch::channel(Sealed::new()).0 })))
    }

    /// From now on `secret.NAME` is this on this node: kept under which key, and sealed how; none, if it is
    /// not set.
    pub fn set(&self, name: &str, value: Option<(String, String)>) {
        let Some(shared) = &self.0 else { return };
        shared.sealed.send_if_modified(|sealed| {
            let before = match value {
                Some(value) => sealed.insert(name.to_owned(), value),
                None => sealed.remove(name),
            };
            before.as_ref() != sealed.get(name)
        });
    }

    /// Which of `names` is not set.
    pub fn missing<'n>(&self, names: &'n [(String, String)]) -> Vec<&'n (String, String)> {
        let Some(shared) = &self.0 else { return names.iter().collect() };
        let sealed = shared.sealed.borrow();
        names.iter().filter(|(_, name)| !sealed.contains_key(name)).collect()
    }

    /// Waits until each of `names`, with the key that needs it, is set; no longer than the configuration says.
    ///
    /// # Errors
    ///
    /// [`SecretError::NotSet`], [`SecretError::NotShared`] of the first that is not.
    pub async fn wait_for(&self, names: &[(String, String)]) -> Result<(), SecretError> {
        let Some((_, first)) = names.first() else { return Ok(()) };
        let Some(shared) = &self.0 else {
            return Err(SecretError::NotShared { name: first.clone() });
        };
        let mut changes = shared.sealed.subscribe();
        let is_there = |sealed: &Sealed| names.iter().all(|(_, name)| sealed.contains_key(name));
        // The sender lives as long as `shared`.
        let _ = timeout(shared.config.wait, changes.wait_for(is_there)).await;
        match self.missing(names).first() {
            None => Ok(()),
            Some((_, name)) => Err(SecretError::NotSet { name: name.clone() }),
        }
    }

    /// What is at `place`: the text of a file, or of a secret, opened with the keys that are there now.
    /// Reads files, and takes a good part of a second for each passphrase.
    ///
    /// # Errors
    ///
    /// [`SecretError`].
    pub fn read(&self, place: &SecretPlace) -> Result<SecretText, SecretError> {
        let name = match place {
            SecretPlace::File(path) => {
                let text = std::fs::read_to_string(path).map(Zeroizing::new);
                return text.map(SecretText::from).map_err(|error| SecretError::Unreadable {
                    path: path.into(),
                    message: error.to_string(),
                });
            }
            SecretPlace::Shared(name) => name,
        };
        let Some(shared) = &self.0 else {
            return Err(SecretError::NotShared { name: name.clone() });
        };
        let found = shared.sealed.borrow().get(name).cloned();
        let (stored, text) = found.ok_or_else(|| SecretError::NotSet { name: name.clone() })?;
        let sealed = SealedValue::parse(&text)
            .ok_or_else(|| SecretError::NotSealed { stored: stored.clone() })?;
        KeyRing::read(&shared.config)?.open(&stored, &sealed)
    }

    /// The keys that are there now, if any are to be.
    ///
    /// # Errors
    ///
    /// [`SecretError`].
    pub fn ring(&self) -> Result<KeyRing, SecretError> {
        match &self.0 {
            Some(shared) => KeyRing::read(&shared.config),
            None => Err(SecretError::NoKeys),
        }
    }

    /// Whether this node is to have keys.
    pub fn has_keys(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.config.has_keys())
    }
}
