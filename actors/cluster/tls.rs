//! Who is at the other end: certificates of the cluster's own authority, on both sides.
//!
//! Every node's certificate carries two names: [`NODE`], which makes it a node's and is what a dialler
//! asks for (it does not know who answers at a seed's address), and `NAME.` before it, which
//! says whose it is. A tool's certificate carries [`TOOL`] instead and opens only the door for tools.
//!
//! The files are looked at again when they change, so certificates and authorities can be replaced
//! while nodes run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tickwright_core::config::TlsFiles;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::kit::certificate::{NODE, TOOL};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("`{}` cannot be read: {message}; `tickwright certs` makes certificates", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A private key that others can read is not private.
    #[error("`{}` can be read by others (mode {mode:03o}); say: chmod 600 {}", path.display(), path.display())]
    Readable {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The files do not fit together.
    #[error("`{}` cannot be used: {message}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The certificate is another node's.
    #[error("the certificate in `{}` is for {found}, and this node is called {expected}", path.display())]
    Name {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who this is.
        expected: String,
    },
}

/// Whose a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The node of this name.
    Node(String),
    /// A tool.
    Tool,
    /// Of this authority, but neither.
    Other,
}

/// Whose `certificate` is. It has been verified already.
pub(super) fn identity(certificate: &CertificateDer<'_>) -> Identity {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return Identity::Other };
    let names: Vec<&str> = parsed.valid_dns_names().collect();
    if names.contains(&TOOL) {
        return Identity::Tool;
    }
    let suffix = format!(".{NODE}");
    let own = names.iter().find_map(|name| name.strip_suffix(suffix.as_str()));
    match own {
        Some(own) if names.contains(&NODE) => Identity::Node(own.to_owned()),
        Some(_) | None => Identity::Other,
    }
}

/// One side's certificate, key and trusted authorities.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    loaded: Arc<Mutex<Loaded>>,
}

struct Loaded {
    stamps: [Option<SystemTime>; 3],
    acceptor: TlsAcceptor,
    client: Arc<ClientConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`], with the file at fault.
    pub fn open(files: &TlsFiles) -> Result<Self, TlsError> {
        let loaded = Arc::new(Mutex::new(Loaded::read(files)?));
        Ok(Self { files: files.clone(), loaded })
    }

    /// The same, for the node called `name`.
    ///
    /// # Errors
    ///
    /// [`TlsError`], also when the certificate is another node's.
    pub fn open_for_node(files: &TlsFiles, name: &str) -> Result<Self, TlsError> {
        let path = PathBuf::from(&files.cert);
        let first = certificates(&path)?.swap_remove(0);
        let found = match identity(&first) {
            Identity::Node(found) if found == name => return Self::open(files),
            Identity::Node(found) => format!("node {found}"),
            Identity::Tool => "a tool".into(),
            Identity::Other => "something else".into(),
        };
        Err(TlsError::Name { path, found, expected: name.into() })
    }

    /// Accepts connections of those whom the authorities have certified.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.fresh(|loaded| loaded.acceptor.clone())
    }

    /// Connects to nodes whom the authorities have certified.
    pub fn connector(&self) -> TlsConnector {
        TlsConnector::from(self.client())
    }

    /// The same, for code that does not wait asynchronously.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.fresh(|loaded| Arc::clone(&loaded.client))
    }

    fn fresh<T>(&self, take: impl Fn(&Loaded) -> T) -> T {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.stamps != stamps(&self.files) {
            match Loaded::read(&self.files) {
                Ok(read) => {
                    tracing::info!("certificates were read anew");
                    *loaded = read;
                }
                // Half-written files: what was read before still holds.
                Err(error) => tracing::warn!(%error, "new certificates cannot be used"),
            }
        }
        take(&loaded)
    }
}

/// The name a dialler asks for.
pub fn node_name() -> ServerName<'static> {
    ServerName::try_from(NODE).expect("it is a sound name")
}

fn stamps(files: &TlsFiles) -> [Option<SystemTime>; 3] {
    [&files.ca, &files.cert, &files.key]
        .map(|path| fs::metadata(path).and_then(|found| found.modified()).ok())
}

impl Loaded {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let stamps = stamps(files);
        let (ca, cert, key) = (Path::new(&files.ca), Path::new(&files.cert), Path::new(&files.key));
        let unusable = |path: &Path, error: &dyn std::fmt::Display| TlsError::Unusable {
            path: path.into(),
            message: error.to_string(),
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|error| unusable(ca, &error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(cert)?;
        let private = private_key(key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| unusable(ca, &error))?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(cert, &error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), private.clone_key())
            .map_err(|error| unusable(cert, &error))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(cert, &error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private)
            .map_err(|error| unusable(cert, &error))?;
        let acceptor = TlsAcceptor::from(Arc::new(server));
        Ok(Self { stamps, acceptor, client: Arc::new(client) })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |message: String| TlsError::File { path: path.into(), message };
    let bytes = fs::read(path).map_err(|error| file(error.to_string()))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| file(error.to_string()))?;
    if found.is_empty() { Err(file("it holds no certificate".into())) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let file = |message: String| TlsError::File { path: path.into(), message };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let found = fs::metadata(path).map_err(|error| file(error.to_string()))?;
        let mode = found.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(TlsError::Readable { path: path.into(), mode });
        }
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| file(error.to_string()))
}
