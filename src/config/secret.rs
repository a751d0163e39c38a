//! Secrets of the shared configuration as everybody may see them: sealed.
//!
//! ```text
//! secret.NAME = "sealed:1:KEYID:NONCE:CIPHERTEXT"      numbers in hexadecimal
//! ```
//!
//! What seals and opens them is outside of this crate; here is what a sealed value looks like, what it is
//! bound to, and how a key of `cluster.toml` that else names a file names a secret instead.
//!
//! # Invariants
//!
//! 1. A key that begins with [`SECRET_PREFIX`] holds a sealed value or none, whoever writes it.
//! 2. A sealed value is bound to the name it is kept under: it opens under no other.

use std::fmt;

use super::check::Contradiction;
use super::live::LiveRefusal;
use super::settings::{Settings, Value as Setting, path};
use super::{Config, LockKeeping};
use crate::config_sync::Value;
use crate::domain::{BrokerId, Span};

/// What keys of secrets begin with.
pub const SECRET_PREFIX: &str = "secret.";

/// Bytes of a secret before it is sealed.
pub const SECRET_BYTES_MAX: usize = 16 << 10;

/// Bytes of the number that is used once, see RFC 8439.
pub const NONCE_BYTES: usize = 12;

/// Bytes that sealing adds, see RFC 8439.
pub const TAG_BYTES: usize = 16;

/// Letters of the name of a key.
pub const KEY_ID_LETTERS: usize = 16;

/// What a key that else names a file begins with if it names a secret.
const REFERENCE: &str = "secret:";

/// How a sealed value begins: what it is, and in which manner it is sealed.
const SEALED: &str = "sealed:1:";

/// A sealed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedValue {
    /// Which key opens it.
    pub key_id: String,
    /// The number that was used once.
    pub nonce: [u8; NONCE_BYTES],
    /// What was sealed, with its tag behind.
    pub ciphertext: Vec<u8>,
}

impl SealedValue {
    /// What `value` holds; none, if that is no sealed value.
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Self::parse(text),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::List(_) => None,
        }
    }

    /// What `text` says; none, if it is no sealed value.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(SEALED)?.split(':');
        let (key_id, nonce, ciphertext) = (parts.next()?, parts.next()?, parts.next()?);
        let is_whole = parts.next().is_none() && is_key_id(key_id);
        let nonce = from_hex(nonce)?.try_into().ok()?;
        let ciphertext = from_hex(ciphertext)?;
        let sizes = TAG_BYTES..=TAG_BYTES + SECRET_BYTES_MAX;
        (is_whole && sizes.contains(&ciphertext.len())).then(|| Self {
            key_id: key_id.to_owned(),
            nonce,
            ciphertext,
        })
    }
}

/// As it is kept.
impl fmt::Display for SealedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key_id, nonce, ciphertext } = self;
        write!(f, "{SEALED}{key_id}:{}:{}", to_hex(nonce), to_hex(ciphertext))
    }
}

/// Whether `text` is the name of a key.
pub fn is_key_id(text: &str) -> bool {
    text.len() == KEY_ID_LETTERS
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// `bytes` in hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// What `text` in hexadecimal says; none, if it is none.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some((digit(pair[0])? << 4) | digit(*pair.get(1)?)?)).collect()
}

/// What a value that is kept under `stored` and sealed by `key_id` is bound to.
pub fn bound_to(stored: &str, key_id: &str) -> Vec<u8> {
    // A NUL is in no key, so no two pairs read alike.
    format!("tickwright secret 1\0{key_id}\0{stored}").into_bytes()
}

/// Whether `path` is the key of a secret.
pub fn is_secret(path: &str) -> bool {
    path.starts_with(SECRET_PREFIX)
}

/// Whether `name` may follow [`SECRET_PREFIX`].
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(is_letter)
}

/// Whether `path`, which begins with [`SECRET_PREFIX`], may be the key of a secret.
pub(super) fn check_secret_key(path: &str) -> Result<(), LiveRefusal> {
    if path.strip_prefix(SECRET_PREFIX).is_some_and(is_name) {
        return Ok(());
    }
    Err(LiveRefusal::Problem {
        key: path.to_owned(),
        what: "is no name of a secret".into(),
        fix: "write secret.NAME, with 1 to 64 letters, digits and `. _ -`".into(),
    })
}

/// Whether `value` may be kept at `path`.
pub(super) fn check_sealed(path: &str, value: &Value) -> Result<(), LiveRefusal> {
    if SealedValue::of(value).is_some() {
        return Ok(());
    }
    // Without what was given: it may be the secret.
    Err(LiveRefusal::Problem {
        key: path.to_owned(),
        what: "what is to be set is not sealed, and secrets are kept sealed only".into(),
        fix: format!(
            "`tickwright ctl config set {path} --value-file FILE` (or `-` for standard input) seals it"
        ),
    })
}

/// Where a program finds something that is not to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// In this file.
    File(String),
    /// In the shared configuration, under `secret.` and this name.
    Shared(String),
}

impl SecretPlace {
    /// What a key of `cluster.toml` says: `secret:NAME`, or else the path of a file.
    pub fn of(text: &str) -> Self {
        match text.strip_prefix(REFERENCE) {
            Some(name) => Self::Shared(name.to_owned()),
            None => Self::File(text.to_owned()),
        }
    }
}

/// For people.
impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {path}"),
            Self::Shared(name) => write!(f, "{SECRET_PREFIX}{name}"),
        }
    }
}

/// What may stand in a key that names a file or a secret.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn check_place(text: &str) -> Result<(), String> {
    match SecretPlace::of(text) {
        SecretPlace::File(path) if path.is_empty() => Err("is empty".into()),
        SecretPlace::File(path) if path.contains('\0') => Err("holds a zero byte".into()),
        SecretPlace::Shared(name) if !is_name(&name) => Err(format!(
            "{text} names no secret; write secret:NAME, with 1 to 64 letters, digits and `. _ -`"
        )),
        SecretPlace::Shared(_) | SecretPlace::File(_) => Ok(()),
    }
}

/// What this node opens secrets with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretsConfig {
    /// A file of keys.
    pub key_file: Option<String>,
    /// A file of passphrases.
    pub passphrase_file: Option<String>,
    /// What the cluster is called: keys made of passphrases are other ones in another cluster.
    pub cluster: String,
    /// How long a node waits for secrets that its configuration names.
    pub wait: Span,
}

pub(super) fn section(s: &Settings) -> SecretsConfig {
    let text = |key| s.find(&["config", key]).and_then(Setting::text).map(str::to_owned);
    SecretsConfig {
        key_file: text("secrets_key_file"),
        passphrase_file: text("secrets_passphrase_file"),
        cluster: s.text(&["cluster", "name"]).to_owned(),
        wait: s.span_ms(&["config", "secrets_wait_ms"]),
    }
}

/// Keys that name a secret where nothing could open it.
pub(super) fn contradictions(settings: &Settings) -> Vec<Contradiction> {
    if section(settings).has_keys() {
        return Vec::new();
    }
    let mut keys = vec![vec!["locks", "redis_password_file"]];
    for broker in ["primary", "backup"] {
        keys.push(vec!["broker", broker, "keys_file"]);
        for account in settings.names_under(&["broker", broker, "accounts"]) {
            keys.push(vec!["broker", broker, "accounts", account, "keys_file"]);
        }
    }
    let names_secret = |key: &&Vec<&str>| {
        let text = settings.find(key).and_then(Setting::text).unwrap_or_default();
        matches!(SecretPlace::of(text), SecretPlace::Shared(_))
    };
    let without = |key: &Vec<&str>| Contradiction {
        paths: vec![path(key)],
        what: "names a secret, and nothing here opens secrets".into(),
        fix: "set config.secrets_key_file (`tickwright secrets-key new FILE` makes one), or \
              config.secrets_passphrase_file"
            .into(),
    };
    keys.iter().filter(names_secret).map(without).collect()
}

impl SecretsConfig {
    /// Whether there is anything to open secrets with.
    pub const fn has_keys(&self) -> bool {
        self.key_file.is_some() || self.passphrase_file.is_some()
    }
}

impl Config {
    /// Secrets that this configuration names, each with the key that does so.
    pub fn secrets_needed(&self) -> Vec<(String, String)> {
        let exchanges = (0..2).filter_map(|index| self.exchange(BrokerId(index), 0));
        let accounts = exchanges.flat_map(|exchange| exchange.accounts);
        let brokers = accounts.map(|account| (account.named_by, account.keys));
        let redis = match &self.locks.keeping {
            LockKeeping::Redis(redis) => redis.password.clone(),
            LockKeeping::None | LockKeeping::Ledger => None,
        };
        let redis = redis.map(|place| ("locks.redis_password_file".to_owned(), place));
        let all = brokers.chain(redis).filter_map(|(key, place)| match place {
            SecretPlace::Shared(name) => Some((key, name)),
            SecretPlace::File(_) => None,
        });
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::live_value;

    fn problems(text: &str) -> String {
        Config::parse(text, "my.toml").unwrap_err().to_string()
    }

    fn sealed() -> SealedValue {
        SealedValue {
            key_id: "0123456789abcdef".into(),
            nonce: [7; NONCE_BYTES],
            ciphertext: (0..40).collect(),
        }
    }

    #[test]
    fn a_sealed_value_is_read_as_it_was_written_and_nothing_else_is_one() {
        let text = sealed().to_string();
        assert_eq!(SealedValue::parse(&text), Some(sealed()));
        let short = SealedValue { ciphertext: vec![0; TAG_BYTES - 1], ..sealed() }.to_string();
        let long = vec![0; TAG_BYTES + SECRET_BYTES_MAX + 1];
        let long = SealedValue { ciphertext: long, ..sealed() }.to_string();
        let named = SealedValue { key_id: "x".into(), ..sealed() }.to_string();
        for wrong in [
            "hunter2".to_owned(),
            String::new(),
            text.replace("sealed:1", "sealed:2"),
            format!("{text}:00"),
            text[..text.len() - 1].to_owned(),
            text.to_uppercase(),
            short,
            long,
            named,
        ] {
            assert_eq!(SealedValue::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_written_sealed_or_not_at_all_and_a_refusal_does_not_show_it() {
        let text = sealed().to_string();
        assert_eq!(live_value("secret.exchange", &text), Ok(Value::Text(text.clone())));
        let quoted = live_value("secret.exchange", &format!("{text:?}"));
        assert_eq!(quoted, Ok(Value::Text(text.clone())), "as TOML has it");
        let refused = live_value("secret.exchange", "hunter2").unwrap_err().to_string();
        assert!(refused.contains("not sealed") && refused.contains("--value-file"), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
        for wrong in ["secret.", "secret.a/b", "secret.a b"] {
            assert!(live_value(wrong, &text).unwrap_err().to_string().contains("no name"));
        }
    }

    #[test]
    fn what_a_value_is_bound_to_differs_by_key_and_by_place() {
        let here = bound_to("secret.a", "0123456789abcdef");
        assert_ne!(here, bound_to("secret.b", "0123456789abcdef"));
        assert_ne!(here, bound_to("env/live/secret.a", "0123456789abcdef"));
        assert_ne!(here, bound_to("secret.a", "fedcba9876543210"));
    }

    #[test]
    fn a_configuration_names_the_secrets_it_needs_and_what_opens_them() {
        let exchange = "[pipeline]\nmerge = \"arrival\"\n[router]\nhas_backup = false\n\
                        [broker.primary]\nkind = \"exchange\"\nexchange = \"x\"\n\
                        base_url = \"http://127.0.0.1:1\"\nkeys_file = \"secret:desk\"\n\
                        [locks]\nbackend = \"redis\"\nredis_password_file = \"secret:redis\"\n";
        let without = problems(exchange);
        assert!(without.contains("config.secrets_key_file"), "{without}");
        let with_keys = format!("{exchange}[config]\nsecrets_key_file = \"k\"\n");
        let config = Config::parse(&with_keys, "my.toml").unwrap();
        let needed = [
            ("broker.primary.keys_file".to_owned(), "desk".to_owned()),
            ("locks.redis_password_file".to_owned(), "redis".to_owned()),
        ];
        assert_eq!(config.secrets_needed(), needed);
        let misnamed = with_keys.replace("secret:desk", "secret:de/sk");
        assert!(problems(&misnamed).contains("secret:NAME"));
    }
}
