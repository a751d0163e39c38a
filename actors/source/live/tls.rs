//! Whom a venue must be vouched for by, to be believed.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// With the authorities that browsers believe, as they were when this program was built: a list of its own is
/// the same on every machine.
pub(crate) fn usual() -> Arc<ClientConfig> {
    static USUAL: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| with(usual_roots()));
    Arc::clone(&USUAL)
}

/// With those in `file` as well.
///
/// # Errors
///
/// What is wrong with the file.
pub(crate) fn usual_and(file: &Path) -> Result<Arc<ClientConfig>, String> {
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())?;
    let mut roots = usual_roots();
    let usual = roots.len();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.len() == usual {
        return Err("it holds no certificate".to_owned());
    }
    Ok(with(roots))
}

fn usual_roots() -> RootCertStore {
    RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned())
}

/// With rustls on aws-lc-rs and nothing else: a second provider would be a panic.
fn with(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(tls)
}
