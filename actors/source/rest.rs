//! One GET at a time from a venue's REST address: what its feed does not say.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tickwright_core::pipeline::live::SnapshotFailure;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Largest answer that is read: some thousand levels are a tenth of it.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Fetches `path` from `base`, on a connection of its own.
///
/// # Errors
///
/// [`SnapshotFailure`]; [`SnapshotFailure::Late`] when the whole of it takes longer than `deadline`.
pub(super) async fn get(
    base: Uri,
    path: String,
    tls: Arc<ClientConfig>,
    deadline: Duration,
) -> Result<Box<[u8]>, SnapshotFailure> {
    timeout(deadline, exchange(&base, &path, tls)).await.unwrap_or(Err(SnapshotFailure::Late))
}

async fn exchange(
    base: &Uri,
    path: &str,
    tls: Arc<ClientConfig>,
) -> Result<Box<[u8]>, SnapshotFailure> {
    let is_https = base.scheme_str() == Some("https");
    let host = base.host().unwrap_or_default();
    let port = base.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    // An address of IP version 6 stands in brackets in a URL, and without in a name to look up.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((name, port)).await.map_err(unreachable)?;
    let authority = base.authority().map_or(host, |authority| authority.as_str());
    let target = format!("{}{path}", base.path().trim_end_matches('/'));
    let request = Request::get(target)
        .header(header::HOST, authority)
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, concat!("tickwright/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(unreachable)?;
    if is_https {
        let stream = encrypt(name, stream, tls).await?;
        ask(stream, request).await
    } else {
        ask(stream, request).await
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Box<[u8]>, SnapshotFailure> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(unreachable)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(unreachable)?;
        let status = response.status().as_u16();
        if let 418 | 429 = status {
            let header = response.headers().get(header::RETRY_AFTER);
            let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            let retry_after = seconds.map(Duration::from_secs);
            return Err(SnapshotFailure::Throttled { status, retry_after });
        }
        if status != 200 {
            return Err(SnapshotFailure::Refused { status });
        }
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        match body {
            Ok(body) => Ok(Box::from(&body.to_bytes()[..])),
            Err(error) if error.is::<LengthLimitError>() => Err(SnapshotFailure::Garbage),
            Err(error) => Err(unreachable(error)),
        }
    };
    // Both in one task, so that whoever drops this drops the connection.
    tokio::pin!(answer);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

/// Encrypts `stream` to the server called `name`; `tls` says who is believed.
pub(crate) async fn encrypt(
    name: &str,
    stream: TcpStream,
    tls: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, SnapshotFailure> {
    let server = ServerName::try_from(name.to_owned()).map_err(unreachable)?;
    TlsConnector::from(tls).connect(server, stream).await.map_err(unreachable)
}

fn unreachable(error: impl ToString) -> SnapshotFailure {
    SnapshotFailure::Unreachable { detail: error.to_string() }
}
