//! What encrypts on this machine, with a certificate made here.
#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Vouches for what stands before exchanges; nobody knows it but those who are given its file.
pub(crate) struct Authority {
    pub(crate) ca_file: PathBuf,
    pub(crate) acceptor: TlsAcceptor,
    _directory: tempfile::TempDir,
}

/// Connections that were passed on.
#[derive(Clone, Default)]
pub(crate) struct Passed {
    /// Those whose first request was for a stream, and all others.
    pub(crate) streams: Arc<AtomicU64>,
    pub(crate) requests: Arc<AtomicU64>,
}

impl Authority {
    /// For whoever is called `name`.
    pub(crate) fn of(name: &str) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([name.to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        Self { ca_file, acceptor: TlsAcceptor::from(Arc::new(config)), _directory: directory }
    }

    /// Encrypts what goes to `exchange`, at the address that is returned.
    pub(crate) async fn stand_before(&self, exchange: SocketAddr) -> (SocketAddr, Passed) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (passed, acceptor) = (Passed::default(), self.acceptor.clone());
        let counts = passed.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (counts, acceptor) = (counts.clone(), acceptor.clone());
                tokio::spawn(async move {
                    // Who does not believe it hangs up.
                    let Ok(mut outside) = acceptor.accept(stream).await else { return };
                    let mut first = vec![0; 4_096];
                    let Ok(length) = outside.read(&mut first).await else { return };
                    let is_stream = first[..length].starts_with(b"GET /ws/");
                    let count = if is_stream { &counts.streams } else { &counts.requests };
                    count.fetch_add(1, Ordering::SeqCst);
                    let Ok(mut inside) = TcpStream::connect(exchange).await else { return };
                    if inside.write_all(&first[..length]).await.is_ok() {
                        // It ends when either side does.
                        drop(copy_bidirectional(&mut outside, &mut inside).await);
                    }
                });
            }
        });
        (address, passed)
    }
}
