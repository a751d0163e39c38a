//! Records over TLS: the server must have a certificate of the authority that the address names, for the host that
//! it names, and a server that lets in nothing else is reached by it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod databases;

use std::path::Path;
use std::time::Duration;

use databases::{Kind, Server};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tickwright::records::database::{Database, DatabaseError, DatabaseSettings, DatabaseUrl};
use tickwright_core::domain::Timestamp;
use tickwright_core::records::{Table, audit_row};

/// An authority of this test's own.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a server at `host`, and its key.
    fn certify(&self, host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn write(&self, path: &Path) {
        std::fs::write(path, &self.certificate).unwrap();
    }
}

async fn open(url: &str) -> Result<Database, DatabaseError> {
    let settings = DatabaseSettings {
        url: DatabaseUrl::parse(url).unwrap(),
        connections_max: 2,
        timeout: Duration::from_secs(20),
        days_max: 2,
    };
    Database::open(settings).await
}

async fn holds(kind: Kind) {
    let (own, other) = (Authority::new("of the server"), Authority::new("of somebody else"));
    let (certificate, key) = own.certify("127.0.0.1");
    let Some(mut server) = Server::start_with_tls(kind, (&certificate, &key)) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (ca, other_ca) = (directory.path().join("ca.pem"), directory.path().join("other.pem"));
    own.write(&ca);
    other.write(&other_ca);
    let url = server.database();
    let with = |url: &str, authority: &Path| {
        let authority = authority.display();
        match kind {
            Kind::Postgres => format!("{url}?sslmode=verify-full&sslrootcert={authority}"),
            Kind::Mariadb => format!("{url}?ssl-mode=VERIFY_IDENTITY&ssl-ca={authority}"),
        }
    };

    let database = open(&with(&url, &ca)).await.unwrap_or_else(|error| panic!("{error}"));
    let row = audit_row("node", 1, 1, Timestamp::from_nanos(5), ("deed", "over TLS"));
    database.write(std::slice::from_ref(&row)).await.unwrap();
    assert_eq!(database.page(Table::Audit, None, 10).await.unwrap(), [row]);
    database.close().await;

    // It is refused, and why is said, with the remedy and without the password.
    let elsewhere = url.replace("127.0.0.1", "localhost");
    for (url, reason) in [
        (with(&url, &other_ca), "UnknownIssuer"),
        (with(&elsewhere, &ca), "not valid for name"),
        (with(&url, &directory.path().join("nowhere.pem")), "No such file"),
    ] {
        let error = open(&url).await.unwrap_err();
        assert!(matches!(error, DatabaseError::Failed { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(reason), "{reason}: {text}");
        let remedy = match kind {
            Kind::Postgres => "`sslrootcert=FILE`",
            Kind::Mariadb => "`ssl-ca=FILE`",
        };
        assert!(text.contains(remedy) && !text.contains("s3cret"), "{text}");
    }
    // And nothing but TLS gets in.
    let open_door = match kind {
        Kind::Postgres => format!("{url}?sslmode=disable"),
        Kind::Mariadb => format!("{url}?ssl-mode=DISABLED"),
    };
    let error = open(&open_door).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Failed { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_reached_by_tls_alone_and_must_be_who_it_says() {
    holds(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_reached_by_tls_alone_and_must_be_who_it_says() {
    holds(Kind::Mariadb).await;
}
