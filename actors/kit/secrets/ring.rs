//! The keys that seal and open secrets: from a file of keys, or made of passphrases.
//!
//! ChaCha20-Poly1305 (RFC 8439) with a nonce that is drawn for each sealing. What is sealed is bound to the name it is
//! kept under and to the key, see [`bound_to`]. A key's name is the beginning of a hash of it, so a line of a file that
//! was copied wrongly shows.
//!
//! A passphrase becomes a key by Argon2id (RFC 9106), with the memory of its second recommended setting. All nodes must
//! come to the same key without asking each other, so the salt is a hash of the cluster's name: it keeps what was worked
//! out for one cluster from being of use against another of another name, and no more.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use tickwright_core::config::{
    NONCE_BYTES, SECRET_BYTES_MAX, SealedValue, SecretsConfig, bound_to, from_hex, is_key_id,
    to_hex,
};
use zeroize::Zeroizing;

use super::{SecretError, SecretText};

/// Keys in a ring.
const KEYS_MAX: usize = 16;

/// Passphrases in a file: each takes memory and time to make a key of.
const PASSPHRASES_MAX: usize = 4;

/// Bytes of a file of keys or passphrases.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Letters of a passphrase: what is shorter is found by trying.
const PASSPHRASE_LETTERS_MIN: usize = 16;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Memory to make a key of a passphrase, in KiB.
const ARGON_KIB: u32 = 64 << 10;

/// Passes over it.
const ARGON_PASSES: u32 = 3;

struct RingKey {
    id: String,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl RingKey {
    fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let hash = blake3::derive_key("tickwright 2026 name of a key of secrets", bytes.as_slice());
        Self { id: to_hex(&hash[..8]), bytes }
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, self.bytes.as_slice());
        LessSafeKey::new(key.expect("a key of 32 bytes"))
    }

    fn line(&self) -> Zeroizing<String> {
        let hex = Zeroizing::new(to_hex(self.bytes.as_slice()));
        Zeroizing::new(format!("{}:{}\n", self.id, hex.as_str()))
    }
}

/// Keys of which the first seals and all open. Never empty.
pub struct KeyRing(Vec<RingKey>);

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KeyRing").field(&self.ids().collect::<Vec<_>>()).finish()
    }
}

impl KeyRing {
    /// Reads what `config` names: the keys of its file first, then those of its passphrases. Takes a good part of a
    /// second for each passphrase.
    ///
    /// # Errors
    ///
    /// [`SecretError`], without anything that the files hold.
    pub fn read(config: &SecretsConfig) -> Result<Self, SecretError> {
        let mut keys = Vec::new();
        if let Some(path) = &config.key_file {
            keys.extend(keys_of(Path::new(path))?);
        }
        if let Some(path) = &config.passphrase_file {
            keys.extend(passphrases_of(Path::new(path), &config.cluster)?);
        }
        let mut seen = BTreeSet::new();
        keys.retain(|key| seen.insert(key.id.clone()));
        if keys.is_empty() { Err(SecretError::NoKeys) } else { Ok(Self(keys)) }
    }

    /// The names of the keys, that of the one which seals first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.id.as_str())
    }

    /// The name of the key that seals.
    pub fn first(&self) -> &str {
        &self.0[0].id
    }

    /// Seals `secret` to be kept under `stored`.
    ///
    /// # Errors
    ///
    /// [`SecretError::Size`].
    pub fn seal(&self, stored: &str, secret: &SecretText) -> Result<SealedValue, SecretError> {
        let bytes = secret.reveal().len();
        if bytes == 0 || bytes > SECRET_BYTES_MAX {
            return Err(SecretError::Size { bytes });
        }
        let mut nonce = [0; NONCE_BYTES];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SecretError::Random)?;
        let key = &self.0[0];
        let mut ciphertext = secret.reveal().as_bytes().to_vec();
        let (bound, once) = (bound_to(stored, &key.id), Nonce::assume_unique_for_key(nonce));
        key.cipher()
            .seal_in_place_append_tag(once, Aad::from(bound), &mut ciphertext)
            .expect("a secret is far smaller than what may be sealed at once");
        Ok(SealedValue { key_id: key.id.clone(), nonce, ciphertext })
    }

    /// Opens what is kept under `stored`.
    ///
    /// # Errors
    ///
    /// [`SecretError::MissingKey`], [`SecretError::Damaged`].
    pub fn open(&self, stored: &str, sealed: &SealedValue) -> Result<SecretText, SecretError> {
        let SealedValue { key_id, nonce, ciphertext } = sealed;
        let stored_at = || stored.to_owned();
        let key =
            self.0.iter().find(|key| key.id == *key_id).ok_or_else(|| SecretError::MissingKey {
                stored: stored_at(),
                key_id: key_id.clone(),
                known: self.ids().collect::<Vec<_>>().join(", "),
            })?;
        let mut bytes = Zeroizing::new(ciphertext.clone());
        let (bound, once) = (bound_to(stored, key_id), Nonce::assume_unique_for_key(*nonce));
        let damaged = || SecretError::Damaged { stored: stored_at(), key_id: key_id.clone() };
        let plain = key.cipher().open_in_place(once, Aad::from(bound), &mut bytes);
        let plain = plain.map_err(|_| damaged())?;
        std::str::from_utf8(plain).map(SecretText::from).map_err(|_| damaged())
    }
}

/// The text of a file that only its owner may read.
pub(in crate::kit) fn private_text(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let unreadable = |message: String| SecretError::Unreadable { path: path.into(), message };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| unreadable(error.to_string()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretError::OpenToOthers { path: path.into(), mode });
        }
    }
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(unreadable(format!("it is no file of at most {FILE_BYTES_MAX} bytes")));
    }
    let mut text = Zeroizing::new(String::new());
    let read = file.take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| unreadable(error.to_string()))?;
    Ok(text)
}

/// Lines with what they are numbered, without empty ones and comments.
pub(in crate::kit) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(|line| line.trim_matches(['\r', ' ', '\t'])).zip(1..);
    lines
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, at)| (at, line))
}

fn keys_of(path: &Path) -> Result<Vec<RingKey>, SecretError> {
    let text = private_text(path)?;
    let malformed = |line, problem| SecretError::Malformed { path: path.to_owned(), line, problem };
    let mut keys = Vec::new();
    for (at, line) in lines(&text) {
        let Some((id, hex)) = line.split_once(':').filter(|(id, _)| is_key_id(id)) else {
            return Err(malformed(at, "is not ID:KEY as `tickwright secrets-key` writes it"));
        };
        let bytes = Zeroizing::new(from_hex(hex).unwrap_or_default());
        let Ok(bytes) = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map(Zeroizing::new) else {
            return Err(malformed(at, "does not hold a key of 32 bytes in hexadecimal"));
        };
        let key = RingKey::new(bytes);
        if key.id != id {
            return Err(malformed(at, "holds a key of another name: it was changed, or cut"));
        }
        if keys.len() >= KEYS_MAX {
            return Err(malformed(at, "is one too many: a file holds at most 16 keys"));
        }
        keys.push(key);
    }
    if keys.is_empty() { Err(malformed(1, "and the others hold no key")) } else { Ok(keys) }
}

fn passphrases_of(path: &Path, cluster: &str) -> Result<Vec<RingKey>, SecretError> {
    let text = private_text(path)?;
    let malformed = |line, problem| SecretError::Malformed { path: path.to_owned(), line, problem };
    let mut keys = Vec::new();
    for (at, line) in lines(&text) {
        if line.chars().count() < PASSPHRASE_LETTERS_MIN {
            return Err(malformed(at, "holds a passphrase of less than 16 letters"));
        }
        if keys.len() >= PASSPHRASES_MAX {
            return Err(malformed(at, "is one too many: a file holds at most 4 passphrases"));
        }
        keys.push(RingKey::new(stretched(line, cluster)));
    }
    if keys.is_empty() { Err(malformed(1, "and the others hold no passphrase")) } else { Ok(keys) }
}

fn stretched(passphrase: &str, cluster: &str) -> Zeroizing<[u8; KEY_BYTES]> {
    let salt = blake3::derive_key("tickwright 2026 salt of passphrases", cluster.as_bytes());
    let params = Params::new(ARGON_KIB, ARGON_PASSES, 1, Some(KEY_BYTES));
    let argon =
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params.expect("they are within bounds"));
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    argon
        .hash_password_into(passphrase.as_bytes(), &salt, key.as_mut_slice())
        .expect("a passphrase of a small file, and a salt of 32 bytes");
    key
}

/// What is to be done with a file of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFileTask {
    /// Make it, with one key.
    New,
    /// Put another key first.
    Add,
    /// Take a key out.
    Remove(String),
    /// Name its keys.
    List,
}

/// Does `task` with the file at `path`. Returns what to tell the user, without any key.
///
/// # Errors
///
/// [`SecretError`], with the remedy.
pub fn see_to_key_file(task: &KeyFileTask, path: &Path) -> Result<String, SecretError> {
    let at = path.display();
    match task {
        KeyFileTask::New if path.try_exists().unwrap_or(true) => {
            Err(SecretError::Exists { path: path.into() })
        }
        KeyFileTask::New => {
            let keys = vec![drawn()?];
            write(path, &keys)?;
            Ok(format!(
                "key {} is in {at}; give every node this file, by a way that nobody listens on\n\
                 \n[config]\nsecrets_key_file = \"{at}\"\n",
                keys[0].id
            ))
        }
        KeyFileTask::Add => {
            let mut keys = keys_of(path)?;
            if keys.len() >= KEYS_MAX {
                let problem = "and the others are 16 keys already; remove those of before";
                return Err(SecretError::Malformed { path: path.into(), line: 1, problem });
            }
            keys.insert(0, drawn()?);
            write(path, &keys)?;
            Ok(format!(
                "key {} seals from now on, the others open\n\
                 next: 1. give every node the new {at}\n      \
                 2. tickwright ctl config rotate-secrets\n      \
                 3. tickwright secrets-key remove {at} OLD, and give every node that file\n",
                keys[0].id
            ))
        }
        KeyFileTask::Remove(id) => {
            let mut keys = keys_of(path)?;
            let count = keys.len();
            keys.retain(|key| key.id != *id);
            if keys.len() == count || keys.is_empty() {
                return Err(SecretError::NotRemoved { path: path.into(), key_id: id.clone() });
            }
            write(path, &keys)?;
            Ok(format!("key {id} is not in {at} any more\n"))
        }
        KeyFileTask::List => {
            let line = |(place, key): (usize, RingKey)| match place {
                0 => format!("{} seals and opens\n", key.id),
                _ => format!("{} opens\n", key.id),
            };
            Ok(keys_of(path)?.into_iter().enumerate().map(line).collect())
        }
    }
}

fn drawn() -> Result<RingKey, SecretError> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| SecretError::Random)?;
    Ok(RingKey::new(bytes))
}

fn write(path: &Path, keys: &[RingKey]) -> Result<(), SecretError> {
    let head = "# Keys of secrets: the first seals, all open. For the owner's eyes only.\n";
    // What grows leaves copies of itself behind.
    let mut text = Zeroizing::new(String::with_capacity(4 << 10));
    text.push_str(head);
    keys.iter().for_each(|key| text.push_str(&key.line()));
    write_private(path, text.as_bytes())
}

/// Writes the file whole or not at all; its owner alone may read it, at any moment.
pub(in crate::kit) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    let draft = PathBuf::from(format!("{}.draft", path.display()));
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&draft);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let mut file = options.open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write()
        .map_err(|error| SecretError::Unwritten { path: path.into(), message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(directory: &Path, name: &str) -> (PathBuf, KeyRing) {
        let path = directory.join(name);
        see_to_key_file(&KeyFileTask::New, &path).unwrap();
        let ring = KeyRing::read(&from_file(&path)).unwrap();
        (path, ring)
    }

    fn from_file(path: &Path) -> SecretsConfig {
        let key_file = Some(path.display().to_string());
        SecretsConfig { key_file, ..with_passphrases(None, "c") }
    }

    fn with_passphrases(path: Option<&Path>, cluster: &str) -> SecretsConfig {
        SecretsConfig {
            key_file: None,
            passphrase_file: path.map(|path| path.display().to_string()),
            cluster: cluster.into(),
            wait: std::time::Duration::ZERO,
        }
    }

    fn private(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    #[test]
    fn what_was_sealed_opens_where_it_is_kept_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let (_, ring) = ring(directory.path(), "keys");
        let secret = SecretText::from("hunter2");
        let sealed = ring.seal("secret.a", &secret).unwrap();
        assert!(!sealed.to_string().contains(&to_hex(b"hunter2")));
        assert_eq!(ring.open("secret.a", &sealed).unwrap().reveal(), "hunter2");
        for elsewhere in ["secret.b", "env/live/secret.a", "node/x/secret.a"] {
            let error = ring.open(elsewhere, &sealed).unwrap_err().to_string();
            assert!(error.contains(elsewhere) && error.contains("another name"), "{error}");
        }
        let again = ring.seal("secret.a", &secret).unwrap();
        assert_ne!(again, sealed, "no two sealings show that they hold the same");
    }

    #[test]
    fn whatever_bit_is_changed_it_does_not_open() {
        let directory = tempfile::tempdir().unwrap();
        let (_, ring) = ring(directory.path(), "keys");
        let sealed = ring.seal("secret.a", &SecretText::from("hunter2")).unwrap();
        for at in 0..sealed.ciphertext.len() {
            let mut changed = sealed.clone();
            changed.ciphertext[at] ^= 1;
            assert!(matches!(ring.open("secret.a", &changed), Err(SecretError::Damaged { .. })));
        }
        let mut changed = sealed;
        changed.nonce[0] ^= 1;
        assert!(matches!(ring.open("secret.a", &changed), Err(SecretError::Damaged { .. })));
    }

    #[test]
    fn another_key_opens_nothing_and_names_the_one_that_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let ((_, one), (_, two)) = (ring(directory.path(), "one"), ring(directory.path(), "two"));
        let sealed = one.seal("secret.a", &SecretText::from("hunter2")).unwrap();
        let error = two.open("secret.a", &sealed).unwrap_err().to_string();
        assert!(error.contains(one.first()) && error.contains(two.first()), "{error}");
        // A key that calls itself the other one.
        let claimed = SealedValue { key_id: two.first().to_owned(), ..sealed };
        assert!(matches!(two.open("secret.a", &claimed), Err(SecretError::Damaged { .. })));
    }

    #[test]
    fn a_new_key_seals_and_the_last_one_opens_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) = ring(directory.path(), "keys");
        let sealed = old.seal("secret.a", &SecretText::from("hunter2")).unwrap();
        see_to_key_file(&KeyFileTask::Add, &path).unwrap();
        let both = KeyRing::read(&from_file(&path)).unwrap();
        assert_ne!(both.first(), old.first());
        assert_eq!(both.open("secret.a", &sealed).unwrap().reveal(), "hunter2");
        assert_eq!(both.seal("secret.a", &SecretText::from("x")).unwrap().key_id, both.first());
        see_to_key_file(&KeyFileTask::Remove(old.first().into()), &path).unwrap();
        let new = KeyRing::read(&from_file(&path)).unwrap();
        assert!(matches!(new.open("secret.a", &sealed), Err(SecretError::MissingKey { .. })));
        let last = see_to_key_file(&KeyFileTask::Remove(new.first().into()), &path);
        assert!(matches!(last, Err(SecretError::NotRemoved { .. })), "the last one stays");
        assert!(matches!(
            see_to_key_file(&KeyFileTask::New, &path),
            Err(SecretError::Exists { .. })
        ));
        let shown = format!("{new:?}") + &see_to_key_file(&KeyFileTask::List, &path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let key = text.lines().last().unwrap().split_once(':').unwrap().1;
        assert!(shown.contains(new.first()) && !shown.contains(key), "{shown}");
    }

    #[test]
    fn a_file_that_others_may_read_or_that_was_damaged_is_refused_without_showing_it() {
        let directory = tempfile::tempdir().unwrap();
        let (path, _) = ring(directory.path(), "keys");
        let text = fs::read_to_string(&path).unwrap();
        let refused = |text: &str| {
            private(&path, text);
            KeyRing::read(&from_file(&path)).unwrap_err().to_string()
        };
        let key = text.lines().last().unwrap().split_once(':').unwrap().1.to_owned();
        let changed = text.replace(&key, &key.chars().rev().collect::<String>());
        for (text, problem) in [
            ("", "no key"),
            ("hunter2\n", "line 1"),
            (changed.as_str(), "line 2"),
            (&text[..text.len() - 3], "32 bytes"),
        ] {
            let error = refused(text);
            assert!(error.contains(problem) && error.contains("keys"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains(&key), "{error}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            private(&path, &text);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let error = KeyRing::read(&from_file(&path)).unwrap_err().to_string();
            assert!(error.contains("640") && error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_passphrase_is_the_same_key_on_all_nodes_of_a_cluster_and_another_in_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("phrases");
        private(&path, "correct horse battery staple\n");
        let of = |cluster| KeyRing::read(&with_passphrases(Some(&path), cluster)).unwrap();
        let (one, same, other) = (of("c"), of("c"), of("d"));
        let sealed = one.seal("secret.a", &SecretText::from("hunter2")).unwrap();
        assert_eq!(same.open("secret.a", &sealed).unwrap().reveal(), "hunter2");
        assert!(matches!(other.open("secret.a", &sealed), Err(SecretError::MissingKey { .. })));
        private(&path, "too short\n");
        let error = KeyRing::read(&with_passphrases(Some(&path), "c")).unwrap_err().to_string();
        assert!(error.contains("16 letters") && !error.contains("too short"), "{error}");
        let none = KeyRing::read(&with_passphrases(None, "c"));
        assert!(matches!(none, Err(SecretError::NoKeys)));
    }
}
