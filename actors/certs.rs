//! Certificates for a cluster: a private authority, and what it certifies.
//!
//! ```text
//! DIR/ca.key       the authority's private key; stays here
//! DIR/issuer.pem   the authority's certificate
//! DIR/ca.pem       the authorities that nodes trust: this one and, while it is being replaced, the last
//! DIR/cookie       the secret that all nodes share
//! DIR/NAME.pem     certificate of a node or tool
//! DIR/NAME.key     its private key
//! ```
//!
//! To replace the authority: `rotate`, give every node the new `ca.pem`, certify every node anew, and
//! `retire` once all have theirs. Nodes read their files anew when these change.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs;

use crate::kit::Clock;
use crate::kit::certificate::{NODE, TOOL};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How long an authority is good for.
const AUTHORITY_DAYS: u32 = 3_650;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertsTask {
    /// Make an authority and a secret.
    Init,
    /// Certify a node.
    Node(String),
    /// Certify a tool.
    Tool(String),
    /// Make another authority, trusted beside the last.
    Rotate,
    /// Trust the last authority no more.
    Retire,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// There is one already.
    #[error(
        "`{}` exists; an authority is made once (`tickwright certs rotate` makes another)",
        .0.display()
    )]
    Exists(PathBuf),
    /// There is no authority yet.
    #[error("`{}` cannot be read: {message}; `tickwright certs init` makes an authority", path.display())]
    NoAuthority {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// A file cannot be written.
    #[error("`{}` cannot be written: {message}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// A name that cannot stand in a certificate, or would overwrite the authority.
    #[error(
        "{0:?} cannot be certified: a name has at most 63 letters, digits, `-` and `_`, begins and \
         ends with a letter or digit, and is not ca, issuer or cookie"
    )]
    Name(String),
    /// What the library said.
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// Does `task` in `directory`; certificates hold for `days`. Returns what to tell the user.
///
/// # Errors
///
/// [`CertsError`], with the remedy.
pub fn certify(
    task: &CertsTask,
    directory: &Path,
    days: u32,
    clock: &Clock,
) -> Result<String, CertsError> {
    let authority = Authority { directory, clock };
    match task {
        CertsTask::Init => authority.init(),
        CertsTask::Node(name) => authority.issue(name, true, days),
        CertsTask::Tool(name) => authority.issue(name, false, days),
        CertsTask::Rotate => authority.rotate(),
        CertsTask::Retire => authority.retire(),
    }
}

struct Authority<'d> {
    directory: &'d Path,
    clock: &'d Clock,
}

impl Authority<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn init(&self) -> Result<String, CertsError> {
        let key = self.path("ca.key");
        if key.try_exists().unwrap_or(true) {
            return Err(CertsError::Exists(key));
        }
        fs::create_dir_all(self.directory).map_err(|error| unwritten(self.directory, &error))?;
        let issuer = self.make_authority()?;
        write(&self.path("ca.pem"), issuer.as_bytes(), false)?;
        let mut secret = [0; 32];
        aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut secret)
            .expect("the system gives random numbers");
        let secret = format!("{}\n", blake3::hash(&secret).to_hex());
        write(&self.path("cookie"), secret.as_bytes(), true)?;
        let directory = self.directory.display();
        Ok(format!(
            "an authority and a secret in {directory}; keep {directory}/ca.key to yourself\n\
             next: tickwright certs --dir {directory} node NAME, for every node\n"
        ))
    }

    /// Makes a key and a certificate of an authority; returns the latter.
    fn make_authority(&self) -> Result<String, CertsError> {
        let key = KeyPair::generate()?;
        let mut params = self.params(Vec::new(), AUTHORITY_DAYS)?;
        // Two authorities that are trusted at once must have different names.
        let name = format!("tickwright authority {}", self.clock.now().as_nanos());
        params.distinguished_name = distinguished(&name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        write(&self.path("ca.key"), key.serialize_pem().as_bytes(), true)?;
        write(&self.path("issuer.pem"), certificate.as_bytes(), false)?;
        Ok(certificate)
    }

    fn issue(&self, name: &str, is_node: bool, days: u32) -> Result<String, CertsError> {
        let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let is_sound = name.len() <= 63
            && is_edge(name.chars().next())
            && is_edge(name.chars().last())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !["ca", "issuer", "cookie"].contains(&name);
        if !is_sound {
            return Err(CertsError::Name(name.into()));
        }
        let (issuer, key) = (self.read("issuer.pem")?, self.read("ca.key")?);
        let issuer = Issuer::from_ca_cert_pem(&issuer, KeyPair::from_pem(&key)?)?;
        let names = if is_node {
            vec![NODE.to_owned(), format!("{name}.{NODE}")]
        } else {
            vec![TOOL.to_owned()]
        };
        let mut params = self.params(names, days)?;
        params.distinguished_name = distinguished(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if is_node {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let own_key = KeyPair::generate()?;
        let certificate = params.signed_by(&own_key, &issuer)?.pem();
        let (pem, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        write(&key, own_key.serialize_pem().as_bytes(), true)?;
        write(&pem, certificate.as_bytes(), false)?;
        let directory = self.directory.display();
        let what = if is_node { "node" } else { "tool" };
        Ok(format!(
            "a certificate for {what} {name}, good for {days} days\n\
             \n\
             [cluster]\n\
             tls_ca_file = \"{directory}/ca.pem\"\n\
             tls_cert_file = \"{}\"\n\
             tls_key_file = \"{}\"\n\
             cookie_file = \"{directory}/cookie\"\n",
            pem.display(),
            key.display()
        ))
    }

    fn rotate(&self) -> Result<String, CertsError> {
        let last = self.read("issuer.pem")?;
        let issuer = self.make_authority()?;
        write(&self.path("ca.pem"), format!("{issuer}{last}").as_bytes(), false)?;
        let directory = self.directory.display();
        Ok(format!(
            "another authority, trusted beside the last\n\
             next: 1. give every node and tool the new {directory}/ca.pem\n      \
             2. certify each anew: tickwright certs --dir {directory} node NAME\n      \
             3. tickwright certs --dir {directory} retire, and give every one that ca.pem\n"
        ))
    }

    fn retire(&self) -> Result<String, CertsError> {
        let issuer = self.read("issuer.pem")?;
        write(&self.path("ca.pem"), issuer.as_bytes(), false)?;
        let path = self.path("ca.pem");
        Ok(format!("{} trusts the newest authority only\n", path.display()))
    }

    fn read(&self, name: &str) -> Result<String, CertsError> {
        let path = self.path(name);
        fs::read_to_string(&path)
            .map_err(|error| CertsError::NoAuthority { path, message: error.to_string() })
    }

    fn params(&self, names: Vec<String>, days: u32) -> Result<CertificateParams, CertsError> {
        let mut params = CertificateParams::new(names)?;
        let now = UNIX_EPOCH + Duration::from_nanos(self.clock.now().as_nanos());
        // A day back: clocks of nodes may differ.
        params.not_before = (now - DAY).into();
        params.not_after = (now + DAY * days).into();
        Ok(params)
    }
}

fn distinguished(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished.push(DnType::OrganizationName, "tickwright");
    distinguished
}

fn unwritten(path: &Path, error: &io::Error) -> CertsError {
    CertsError::Write { path: path.into(), message: error.to_string() }
}

/// Writes a file, whole or not at all; a private one can be read by its owner only, at any moment.
fn write(path: &Path, bytes: &[u8], is_private: bool) -> Result<(), CertsError> {
    let draft = path.with_extension("draft");
    let write = || -> io::Result<()> {
        let _ = fs::remove_file(&draft);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(if is_private { 0o600 } else { 0o644 });
        }
        let mut file = options.open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|error| unwritten(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certs(directory: &Path, task: CertsTask) -> Result<String, CertsError> {
        certify(&task, directory, 30, &Clock::system())
    }

    #[test]
    fn an_authority_is_made_once_and_its_secrets_are_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let early = certs(path, CertsTask::Node("a".into())).unwrap_err().to_string();
        assert!(early.contains("`tickwright certs init` makes an authority"), "{early}");
        certs(path, CertsTask::Init).unwrap();
        assert!(matches!(certs(path, CertsTask::Init), Err(CertsError::Exists(_))));
        let text = certs(path, CertsTask::Node("calc-1".into())).unwrap();
        assert!(text.contains("calc-1.key"), "{text}");
        #[cfg(unix)]
        for (name, expected) in
            [("ca.key", 0o600), ("cookie", 0o600), ("calc-1.key", 0o600), ("ca.pem", 0o644)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & 0o077, expected & 0o077 & mode, "{name}: {mode:o}");
            assert!(expected != 0o600 || mode == 0o600, "{name}: {mode:o}");
        }
    }

    #[test]
    fn names_that_would_overwrite_the_authority_or_leave_the_directory_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        certs(directory.path(), CertsTask::Init).unwrap();
        for name in ["", "ca", "cookie", "../x", "-a", "a_", "ä", &"x".repeat(64)] {
            let refused = certs(directory.path(), CertsTask::Node(name.into()));
            assert!(matches!(refused, Err(CertsError::Name(_))), "{name}");
        }
    }

    #[test]
    fn both_authorities_are_trusted_between_rotation_and_retirement() {
        let directory = tempfile::tempdir().unwrap();
        let count = || {
            let text = fs::read_to_string(directory.path().join("ca.pem")).unwrap();
            text.matches("BEGIN CERTIFICATE").count()
        };
        certs(directory.path(), CertsTask::Init).unwrap();
        assert_eq!(count(), 1);
        certs(directory.path(), CertsTask::Rotate).unwrap();
        assert_eq!(count(), 2);
        certs(directory.path(), CertsTask::Node("a".into())).unwrap();
        certs(directory.path(), CertsTask::Retire).unwrap();
        assert_eq!(count(), 1);
    }
}
