//! Where a database is: an address that may hold a password, and so is never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use tickwright_core::config::{DatabaseConfig, DatabaseKind};

use super::DatabaseError;

/// An address of a database.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The address that `text` is.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Url`], which does not repeat it.
    pub fn parse(text: &str) -> Result<Self, DatabaseError> {
        let url = Self(text.trim().to_owned());
        url.kind().map(|_| url).ok_or(DatabaseError::Url)
    }

    /// The address that `config` names; none, if there is to be no database.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Source`] when it cannot be read from where it is said to be, and
    /// [`DatabaseError::Url`].
    pub fn of(config: &DatabaseConfig, data_dir: &str) -> Result<Option<Self>, DatabaseError> {
        if config.kind == DatabaseKind::None {
            return Ok(None);
        }
        let fail = |from: String, message: String| DatabaseError::Source { from, message };
        let text = if let Some(path) = &config.url_file {
            let read = std::fs::read_to_string(path);
            read.map_err(|error| fail(format!("file `{path}`"), error.to_string()))?
        } else if let Some(name) = &config.url_env {
            let read = std::env::var(name);
            read.map_err(|error| fail(format!("environment variable {name}"), error.to_string()))?
        } else {
            let path = Path::new(data_dir).join("records.sqlite");
            config.url.clone().unwrap_or_else(|| format!("sqlite:{}", path.display()))
        };
        let url = Self::parse(&text)?;
        if url.kind() == Some(config.kind) { Ok(Some(url)) } else { Err(DatabaseError::Kind) }
    }

    pub(super) fn kind(&self) -> Option<DatabaseKind> {
        let (scheme, rest) = self.0.split_once(':')?;
        match scheme {
            "sqlite" if !rest.is_empty() => Some(DatabaseKind::Sqlite),
            "postgres" | "postgresql" => Some(DatabaseKind::Postgres),
            "mysql" | "mariadb" => Some(DatabaseKind::Mysql),
            _ => None,
        }
    }

    /// What to look at when the server's certificate is not believed, or it speaks no TLS.
    pub(super) fn tls_remedy(&self) -> &'static str {
        match self.kind() {
            Some(DatabaseKind::Postgres) => {
                "`sslrootcert=FILE` in its address names the authority that the server's certificate is of, and \
                 the certificate must name the host there (`sslmode=verify-full`)"
            }
            Some(DatabaseKind::Mysql) => {
                "`ssl-ca=FILE` in its address names the authority that the server's certificate is of, and the \
                 certificate must name the host there (`ssl-mode=VERIFY_IDENTITY`)"
            }
            Some(DatabaseKind::Sqlite | DatabaseKind::None) | None => "it is a file",
        }
    }

    /// Whether it is a server's, which any node may share, and not a file of one node.
    pub fn is_of_a_server(&self) -> bool {
        matches!(self.kind(), Some(DatabaseKind::Postgres | DatabaseKind::Mysql))
    }

    /// The file, for SQLite.
    pub(super) fn path(&self) -> PathBuf {
        let path = self.0.strip_prefix("sqlite:").unwrap_or(&self.0);
        PathBuf::from(path.strip_prefix("//").unwrap_or(path))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` without what is secret of this address, should a library have repeated it.
    pub(super) fn redacted(&self, text: &str) -> String {
        let mut text = text.replace(&self.0, "(its address)");
        let secret = self.0.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        let secret = secret.and_then(|(user, _)| user.split_once(':')).map(|(_, secret)| secret);
        if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
            text = text.replace(secret, "***");
        }
        text
    }
}

/// Shows which kind of database, and which host or file; never who asks, nor by which password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind() == Some(DatabaseKind::Sqlite) {
            return write!(f, "sqlite:{}", self.path().display());
        }
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("database", ""));
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let place = place.split(['?', '#']).next().unwrap_or_default();
        write!(f, "{scheme}://{place}")
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_by_nothing() {
        let url = DatabaseUrl::parse("postgres://me:s3cret@host:5432/db?password=s3cret").unwrap();
        assert_eq!(url.to_string(), "postgres://host:5432/db");
        assert!(!format!("{url:?}").contains("s3cret"));
        assert_eq!(url.redacted("no s3cret here"), "no *** here");
        let error = DatabaseUrl::parse("oracle://me:s3cret@host/db").unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn sqlite_is_a_path_with_or_without_slashes() {
        let path = |text: &str| DatabaseUrl::parse(text).unwrap().path();
        assert_eq!(path("sqlite:a/b.sqlite"), Path::new("a/b.sqlite"));
        assert_eq!(path("sqlite:///a/b"), Path::new("/a/b"));
        assert!(DatabaseUrl::parse("sqlite:").is_err());
    }
}
