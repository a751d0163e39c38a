//! Tokens, by which tools say who asks: a file of names and roles, with a hash of each token and none of the tokens.
//!
//! ```text
//! tokens new NAME ─▶ NAME.SECRET, shown once ─▶ a tool, which sends it along
//!      └─ name, role, salt, hash ─▶ the file ─▶ Tokens::holder ◀── a node, asked by that tool
//! ```
//!
//! The hash is Argon2id (RFC 9106) with the memory and passes that OWASP's sheet on storing passwords gives. A token is
//! drawn from 32 random bytes, so nobody finds it by trying, whatever the hash; the hash keeps a file that was read
//! from letting anybody in.
//!
//! # Invariants
//!
//! 1. A token is nowhere but where it was shown: neither in the file nor in an error.
//! 2. Every token takes as long to look at, whether its name is there or not, and whatever of it is wrong.

use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use tickwright_core::cluster::AccessRole;
use tickwright_core::config::{from_hex, to_hex};
use zeroize::Zeroizing;

use super::secrets::{SecretError, SecretText, lines, private_text, write_private};

/// Tokens in a file.
const TOKENS_MAX: usize = 256;

/// Letters of a name.
const NAME_LETTERS_MAX: usize = 64;

/// Random bytes of a token.
const SECRET_BYTES: usize = 32;

/// Bytes of what keeps equal tokens from having equal hashes.
const SALT_BYTES: usize = 16;

/// Bytes of a hash.
const HASH_BYTES: usize = 32;

/// Memory for a hash, in KiB.
const ARGON_KIB: u32 = 19 << 10;

/// Passes over it.
const ARGON_PASSES: u32 = 2;

/// What a line says of how its hash was made, so that another way can be told from it.
const SCHEME: &str = "argon2id-19m-2";

/// Why a token, or their file, cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file.
    #[error(transparent)]
    File(#[from] SecretError),
    /// Not a name.
    #[error(
        "{name:?} is no name of a token: give 1 to {NAME_LETTERS_MAX} letters, digits, `-` or `_`"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// There is one already.
    #[error(
        "{} holds a token of {name} already; `tickwright tokens remove {name}` takes it out",
        path.display()
    )]
    Taken {
        /// Which file.
        path: PathBuf,
        /// Whose.
        name: String,
    },
    /// There is none.
    #[error(
        "{} holds no token of {name}; `tickwright tokens list` names those it holds",
        path.display()
    )]
    NotThere {
        /// Which file.
        path: PathBuf,
        /// Whose.
        name: String,
    },
    /// Too many.
    #[error("{} holds {TOKENS_MAX} tokens already; remove those of before", path.display())]
    TooMany {
        /// Which file.
        path: PathBuf,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers to draw a token from")]
    Random,
}

/// Who has a token, and what it is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHolder {
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub role: AccessRole,
}

struct TokenLine {
    holder: TokenHolder,
    salt: [u8; SALT_BYTES],
    hash: [u8; HASH_BYTES],
}

impl TokenLine {
    fn text(&self) -> String {
        let TokenHolder { name, role } = &self.holder;
        format!("{name} {role} {SCHEME} {} {}\n", to_hex(&self.salt), to_hex(&self.hash))
    }

    /// What a line says, or what is wrong with it.
    fn parse(line: &str) -> Result<Self, &'static str> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[name, role, scheme, salt, hash] = words.as_slice() else {
            return Err("is not NAME ROLE SCHEME SALT HASH as `tickwright tokens new` writes it");
        };
        if !is_name(name) {
            return Err("names nobody: a name has letters, digits, `-` and `_`");
        }
        let role = AccessRole::parse(role);
        let role = role.ok_or("has a role that is none of viewer, operator, trader and admin")?;
        if scheme != SCHEME {
            return Err("is hashed in a way that this version does not know");
        }
        let bytes = |hex: &str| from_hex(hex).unwrap_or_default();
        let salt = <[u8; SALT_BYTES]>::try_from(bytes(salt));
        let salt = salt.map_err(|_| "has a salt that was changed, or cut")?;
        let hash = <[u8; HASH_BYTES]>::try_from(bytes(hash));
        let hash = hash.map_err(|_| "has a hash that was changed, or cut")?;
        Ok(Self { holder: TokenHolder { name: name.to_owned(), role }, salt, hash })
    }
}

/// What a file of tokens holds; each name once.
pub struct Tokens(Vec<TokenLine>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let holders: Vec<&TokenHolder> = self.0.iter().map(|line| &line.holder).collect();
        f.debug_tuple("Tokens").field(&holders).finish()
    }
}

impl Tokens {
    /// Reads the file at `path`. Blocks.
    ///
    /// # Errors
    ///
    /// [`TokenError::File`], with the line that is wrong.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text = private_text(path)?;
        let malformed =
            |line, problem| SecretError::Malformed { path: path.to_owned(), line, problem };
        let mut found: Vec<TokenLine> = Vec::new();
        for (at, line) in lines(&text) {
            let line = TokenLine::parse(line).map_err(|problem| malformed(at, problem))?;
            if found.iter().any(|other| other.holder.name == line.holder.name) {
                return Err(malformed(at, "is the second of its name").into());
            }
            if found.len() >= TOKENS_MAX {
                return Err(malformed(at, "is one too many: a file holds at most 256").into());
            }
            found.push(line);
        }
        Ok(Self(found))
    }

    /// Who has this token; nobody, if it is none of these. Takes some hundredths of a second, on purpose.
    pub fn holder(&self, token: &str) -> Option<TokenHolder> {
        let name = token.split_once('.').map(|(name, _)| name);
        let line = self.0.iter().find(|line| Some(line.holder.name.as_str()) == name);
        // Of a name that is not there a hash is made as well, or how long it takes would tell.
        let nobodys = ([0; SALT_BYTES], [0; HASH_BYTES]);
        let (salt, hash) = line.map_or(nobodys, |line| (line.salt, line.hash));
        let is_it = verify_slices_are_equal(&hashed(token, &salt), &hash).is_ok();
        line.filter(|_| is_it).map(|line| line.holder.clone())
    }

    fn write(&self, path: &Path) -> Result<(), TokenError> {
        let head =
            "# Tokens of tools: name, role, and a hash of the token, which is nowhere else.\n";
        let lines: String = self.0.iter().map(TokenLine::text).collect();
        Ok(write_private(path, format!("{head}{lines}").as_bytes())?)
    }
}

fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=NAME_LETTERS_MAX).contains(&text.len()) && text.bytes().all(is_letter)
}

fn hashed(token: &str, salt: &[u8; SALT_BYTES]) -> [u8; HASH_BYTES] {
    let params = Params::new(ARGON_KIB, ARGON_PASSES, 1, Some(HASH_BYTES));
    let argon =
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params.expect("they are within bounds"));
    let mut hash = [0; HASH_BYTES];
    argon
        .hash_password_into(token.as_bytes(), salt, &mut hash)
        .expect("a token that fits into a header, and a salt of 16 bytes");
    hash
}

/// The token that `text` is, as a tool sends it; none, if it could be none.
pub fn token_of(text: &str) -> Option<SecretText> {
    let text = text.trim();
    let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then(|| SecretText::from(text))
}

/// The token in a file that its owner alone may read.
///
/// # Errors
///
/// [`TokenError::File`], without anything that the file holds.
pub fn read_token(path: &Path) -> Result<SecretText, TokenError> {
    let text = private_text(path)?;
    let first = lines(&text).next();
    let (line, token) = first.map_or((1, None), |(at, line)| (at, token_of(line)));
    let problem = "is no token as `tickwright tokens new` shows it";
    let path = path.to_owned();
    Ok(token.ok_or(SecretError::Malformed { path, line, problem })?)
}

/// What is to be done with a file of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenTask {
    /// Make a token for a tool of this name, and put it into the file, which need not be there yet.
    New(TokenHolder),
    /// Take out the one of this name.
    Remove(String),
    /// Name them all.
    List,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokensTold {
    /// What was asked for: a new token, which is shown this once, or names and roles.
    pub shown: SecretText,
    /// What to do with it.
    pub note: String,
}

/// Does `task` with the file at `path`.
///
/// # Errors
///
/// [`TokenError`], with the remedy.
pub fn see_to_tokens(task: &TokenTask, path: &Path) -> Result<TokensTold, TokenError> {
    let at = path.display();
    match task {
        TokenTask::New(holder) => {
            let TokenHolder { name, role } = holder;
            if !is_name(name) {
                return Err(TokenError::Name { name: name.clone() });
            }
            let is_there = path.try_exists().unwrap_or(true);
            let mut tokens = if is_there { Tokens::read(path)? } else { Tokens(Vec::new()) };
            if tokens.0.iter().any(|line| line.holder.name == *name) {
                return Err(TokenError::Taken { path: path.into(), name: name.clone() });
            }
            if tokens.0.len() >= TOKENS_MAX {
                return Err(TokenError::TooMany { path: path.into() });
            }
            let (line, token) = drawn(holder)?;
            tokens.0.push(line);
            tokens.write(path)?;
            let note = format!(
                "{name} may do what a {role} may, wherever node.tokens_file is {at}\n\
                 this is shown once: keep it in a file that you alone may read (chmod 600), for \
                 `tickwright ctl --token-file FILE`\n"
            );
            let shown = Zeroizing::new(format!("{}\n", token.as_str()));
            Ok(TokensTold { shown: shown.into(), note })
        }
        TokenTask::Remove(name) => {
            let mut tokens = Tokens::read(path)?;
            let count = tokens.0.len();
            tokens.0.retain(|line| line.holder.name != *name);
            if tokens.0.len() == count {
                return Err(TokenError::NotThere { path: path.into(), name: name.clone() });
            }
            tokens.write(path)?;
            let note = format!(
                "{name} is not in {at} any more, and is let in nowhere some seconds after that file \
                 is on every node\n"
            );
            Ok(TokensTold { shown: "".into(), note })
        }
        TokenTask::List => {
            let tokens = Tokens::read(path)?;
            let of = |line: &TokenLine| format!("{} {}\n", line.holder.name, line.holder.role);
            let listed: String = tokens.0.iter().map(of).collect();
            Ok(TokensTold { shown: listed.as_str().into(), note: String::new() })
        }
    }
}

/// A new token, and its line.
fn drawn(holder: &TokenHolder) -> Result<(TokenLine, Zeroizing<String>), TokenError> {
    let mut secret = Zeroizing::new([0_u8; SECRET_BYTES]);
    aws_lc_rs::rand::fill(secret.as_mut_slice()).map_err(|_| TokenError::Random)?;
    let mut salt = [0; SALT_BYTES];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| TokenError::Random)?;
    let hex = Zeroizing::new(to_hex(secret.as_slice()));
    let token = Zeroizing::new(format!("{}.{}", holder.name, hex.as_str()));
    let hash = hashed(&token, &salt);
    Ok((TokenLine { holder: holder.clone(), salt, hash }, token))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn holder(name: &str, role: AccessRole) -> TokenHolder {
        TokenHolder { name: name.into(), role }
    }

    fn make(path: &Path, name: &str, role: AccessRole) -> String {
        let told = see_to_tokens(&TokenTask::New(holder(name, role)), path).unwrap();
        told.shown.reveal().trim().to_owned()
    }

    fn list(path: &Path) -> String {
        see_to_tokens(&TokenTask::List, path).unwrap().shown.reveal().to_owned()
    }

    #[test]
    fn a_token_is_its_holders_until_it_is_removed_and_is_not_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        let (ann, ben) =
            (make(&path, "ann", AccessRole::Viewer), make(&path, "ben", AccessRole::Admin));
        let tokens = Tokens::read(&path).unwrap();
        assert_eq!(tokens.holder(&ann), Some(holder("ann", AccessRole::Viewer)));
        assert_eq!(tokens.holder(&ben), Some(holder("ben", AccessRole::Admin)));
        assert_eq!(list(&path), "ann viewer\nben admin\n");
        let secret = |token: &str| token.split_once('.').unwrap().1.to_owned();
        let wrong = [
            format!("ann.{}", secret(&ben)),
            secret(&ann),
            format!("{ann}0"),
            "cat.x".into(),
            String::new(),
        ];
        for wrong in wrong {
            assert_eq!(tokens.holder(&wrong), None, "{wrong}");
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&secret(&ann)) && !text.contains(&secret(&ben)), "{text}");
        assert!(!format!("{tokens:?}").contains(&secret(&ann)));
        see_to_tokens(&TokenTask::Remove("ann".into()), &path).unwrap();
        let tokens = Tokens::read(&path).unwrap();
        assert_eq!(tokens.holder(&ann), None);
        assert_eq!(tokens.holder(&ben), Some(holder("ben", AccessRole::Admin)));
    }

    #[test]
    fn what_is_asked_of_the_file_and_cannot_be_is_said_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        let refused = |task: &TokenTask| see_to_tokens(task, &path).unwrap_err().to_string();
        assert!(refused(&TokenTask::List).contains("cannot be read"));
        make(&path, "ann", AccessRole::Viewer);
        let again = refused(&TokenTask::New(holder("ann", AccessRole::Admin)));
        assert!(again.contains("already") && again.contains("tokens remove ann"), "{again}");
        for name in ["", "a b", "a.b", "ünï"] {
            let told = refused(&TokenTask::New(holder(name, AccessRole::Admin)));
            assert!(told.contains("no name of a token"), "{told}");
        }
        let told = refused(&TokenTask::Remove("ben".into()));
        assert!(told.contains("no token of ben") && told.contains("tokens list"), "{told}");
    }

    #[test]
    fn a_damaged_file_is_refused_with_its_line_and_nothing_of_what_it_holds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        make(&path, "ann", AccessRole::Viewer);
        let text = fs::read_to_string(&path).unwrap();
        let line = text.lines().last().unwrap().to_owned();
        for (damaged, problem) in [
            (line[..line.len() - 3].to_owned(), "line 2: has a hash"),
            (line.replace("viewer", "root"), "line 2: has a role"),
            (line.replace(SCHEME, "md5"), "line 2: is hashed"),
            ("hunter2".to_owned(), "line 2: is not NAME ROLE"),
            (format!("{line}\n{line}"), "line 3: is the second"),
        ] {
            // What is there keeps its mode.
            fs::write(&path, format!("# a comment\n{damaged}\n")).unwrap();
            let error = Tokens::read(&path).unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains("hunter2"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn its_owner_alone_may_read_the_file_and_the_token_of_a_tool() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (path, kept) = (directory.path().join("tokens"), directory.path().join("token"));
        let token = make(&path, "ann", AccessRole::Viewer);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Tokens::read(&path).unwrap_err().to_string().contains("chmod 600"));
        fs::write(&kept, format!("{token}\n")).unwrap();
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_token(&kept).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_token(&kept).unwrap().reveal(), token);
        fs::write(&kept, "two words\n").unwrap();
        let error = read_token(&kept).unwrap_err().to_string();
        assert!(error.contains("line 1: is no token") && !error.contains("words"), "{error}");
    }
}
