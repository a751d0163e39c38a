//! One account's REST requests, signed, each sent once.
//!
//! No layer below sends anything again: what was written and not answered has an unknown outcome, and is
//! for the order protocol to resolve.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tickwright_core::config::SecretPlace;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::reach::Reach;
use crate::kit::Secrets;
use crate::source::rest::encrypt;

/// Largest answer that is read.
const BODY_BYTES_MAX: usize = 4 << 20;

/// How much of an answer that is an error is shown.
const SHOWN_BYTES: usize = 300;

/// Connections that are kept for the next request.
const IDLE_MAX: usize = 8;

/// How long one is kept: an exchange closes those that are idle, and one that it closes just as a request
/// is written makes that request's outcome unknown.
const IDLE_FOR: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// Not a byte was written.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have arrived.
    #[error("no answer: {0}")]
    Unknown(String),
}

/// What the exchange answered.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// An account's key. What it signs with is never shown.
pub(super) struct Credentials {
    name: String,
    key: hmac::Key,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// Reads a file or a secret that holds one line, `KEY:SECRET`; empty lines and those beginning with `#`
    /// are passed over.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without what it holds.
    pub(super) fn read(place: &SecretPlace, secrets: &Secrets) -> Result<Self, String> {
        let text = secrets.read(place);
        let text = text.map_err(|error| format!("the keys of the exchange: {error}"))?;
        let lines = text.reveal().lines().map(str::trim);
        let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let line = lines.next().and_then(|line| line.split_once(':'));
        match (line, lines.next()) {
            (Some((name, secret)), None) if !name.is_empty() && !secret.is_empty() => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                Ok(Self { name: name.to_owned(), key })
            }
            _ => Err(format!("{place} does not hold one line `KEY:SECRET` for the exchange")),
        }
    }

    fn sign(&self, text: &str) -> String {
        let mut hex = String::with_capacity(64);
        for byte in hmac::sign(&self.key, text.as_bytes()).as_ref() {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }
}

fn has_code(body: &Bytes, code: &[u8; 5]) -> bool {
    body.windows(code.len()).any(|part| part == code)
}

/// The beginning of an answer.
pub(super) fn shown(body: &Bytes) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)])
}

/// An account at an exchange.
#[derive(Debug)]
pub(super) struct Client {
    reach: Reach,
    /// What it is called: the exchange, and the account.
    name: String,
    /// Or why there are none; then nothing is asked that needs them.
    credentials: Result<Credentials, String>,
    /// The session that requests belong to; 0, if none.
    session: AtomicU64,
    /// At most [`IDLE_MAX`], with when each was used last.
    idle: Mutex<Vec<(SendRequest<Empty<Bytes>>, Instant)>>,
    /// Whether the exchange has said that a question's time is not its own.
    is_clock_wrong: AtomicBool,
    trouble: Mutex<Trouble>,
}

/// What went wrong last.
#[derive(Debug, Default)]
struct Trouble {
    /// So that it is said once and not with every attempt.
    text: String,
    /// Whether nothing has gone well since.
    is_now: bool,
}

impl Client {
    pub(super) fn new(
        reach: Reach,
        name: String,
        credentials: Result<Credentials, String>,
    ) -> Self {
        let (session, idle) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let is_clock_wrong = AtomicBool::new(false);
        let trouble = Mutex::default();
        Self { reach, name, credentials, session, idle, is_clock_wrong, trouble }
    }

    /// Who is believed to be the exchange.
    pub(super) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.reach.tls)
    }

    /// What it is called: the exchange, and the account.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What went wrong with the last signed request; none, if nothing did.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        trouble.is_now.then(|| trouble.text.clone())
    }

    fn credentials(&self) -> Result<&Credentials, CallError> {
        self.credentials.as_ref().map_err(|reason| CallError::NotSent(reason.clone()))
    }

    /// From now on requests are of this session.
    pub(super) fn set_session(&self, session: u64) {
        self.session.store(session, Ordering::Relaxed);
    }

    /// Asks for what anybody may.
    pub(super) async fn open(&self, path: &str, patience: Duration) -> Result<Response, CallError> {
        self.send(Method::GET, path.to_owned(), false, patience).await
    }

    /// Asks for what is the account's and needs no signature.
    pub(super) async fn keyed(
        &self,
        method: Method,
        target: &str,
        patience: Duration,
    ) -> Result<Response, CallError> {
        self.send(method, target.to_owned(), true, patience).await
    }

    /// Asks for what only the account may: `query` is text that needs no escapes.
    pub(super) async fn signed(
        &self,
        method: Method,
        path: &str,
        query: &str,
        patience: Duration,
    ) -> Result<Response, CallError> {
        let session = self.session.load(Ordering::Relaxed);
        let session = if session > 0 { format!("&session={session}") } else { String::new() };
        let query = format!("{query}{session}");
        let result = match self.credentials() {
            Ok(credentials) => {
                let signature = credentials.sign(&query);
                let target = format!("{path}?{query}&signature={signature}");
                self.send(method, target, true, patience).await
            }
            Err(error) => Err(error),
        };
        if matches!(&result, Ok(Response { status: 400, body }) if has_code(body, b"-1021")) {
            self.is_clock_wrong.store(true, Ordering::Relaxed);
        }
        self.tell_trouble(path, &result);
        result
    }

    /// Whether the exchange has said, since this was last asked, that a question's time is not its own.
    pub(super) fn take_clock_wrong(&self) -> bool {
        self.is_clock_wrong.swap(false, Ordering::Relaxed)
    }

    /// Says what is wrong with the exchange, or with what it is asked: a wrong key, a filter, no answer.
    fn tell_trouble(&self, path: &str, result: &Result<Response, CallError>) {
        let mut last = self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = match result {
            Ok(response) if response.status == 200 => {
                last.is_now = false;
                return;
            }
            // That there is no such order is an answer.
            Ok(Response { body, .. }) if has_code(body, b"-2013") => {
                last.is_now = false;
                return;
            }
            Ok(Response { status, body }) => {
                format!("answers {status}: {}", shown(body))
            }
            Err(error) => error.to_string(),
        };
        last.is_now = true;
        if last.text != text {
            tracing::warn!(account = self.name, exchange = %self.reach.base, path, "the exchange: {text}");
            last.text = text;
        }
    }

    /// Whether anything may be asked just now.
    fn check_quiet(&self) -> Result<(), CallError> {
        if self.reach.quiet.is_now() {
            let reason = "it was asked too often, and wants to be left alone";
            return Err(CallError::NotSent(reason.into()));
        }
        Ok(())
    }

    /// Sends once, and waits for the whole answer. No longer than half of the time is spent on being
    /// connected.
    async fn send(
        &self,
        method: Method,
        target: String,
        is_keyed: bool,
        patience: Duration,
    ) -> Result<Response, CallError> {
        let not_sent = |error: &dyn std::fmt::Display| CallError::NotSent(error.to_string());
        self.check_quiet()?;
        let base = &self.reach.base;
        let target = format!("{}{target}", base.path().trim_end_matches('/'));
        let authority = base.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, authority)
            .header(header::USER_AGENT, concat!("tickwright/", env!("CARGO_PKG_VERSION")));
        if is_keyed {
            request = request.header("X-MBX-APIKEY", &self.credentials()?.name);
        }
        let request = request.body(Empty::new()).map_err(|error| not_sent(&error))?;
        let until = tokio::time::Instant::now() + patience;
        let mut sender = match self.take_idle() {
            Some(sender) => sender,
            None => match timeout(patience / 2, self.connect()).await {
                Ok(connected) => connected.map_err(CallError::NotSent)?,
                Err(_) => return Err(CallError::NotSent("connecting took too long".into())),
            },
        };
        // Another account may have been told meanwhile.
        self.check_quiet()?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            self.reach.on_answer(status, response.headers());
            let is_last = response
                .headers()
                .get(header::CONNECTION)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok((Response { status, body }, is_last))
        };
        match tokio::time::timeout_at(until, answer).await {
            Ok(Ok((response, is_last))) => {
                if !is_last {
                    self.keep(sender);
                }
                Ok(response)
            }
            Ok(Err(error)) => Err(CallError::Unknown(error)),
            Err(_) => Err(CallError::Unknown(format!("none within {patience:?}"))),
        }
    }

    fn take_idle(&self) -> Option<SendRequest<Empty<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        idle.retain(|(sender, used)| sender.is_ready() && used.elapsed() < IDLE_FOR);
        idle.pop().map(|(sender, _)| sender)
    }

    fn keep(&self, sender: SendRequest<Empty<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push((sender, Instant::now()));
        }
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, String> {
        let base = &self.reach.base;
        let is_https = base.scheme_str() == Some("https");
        let host = base.host().unwrap_or_default();
        let port = base.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let text = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect((name, port)).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        if is_https {
            let encrypted = encrypt(name, stream, Arc::clone(&self.reach.tls)).await;
            let stream = encrypted.map_err(|error| error.to_string())?;
            return spawn(TokioIo::new(stream)).await;
        }
        spawn(TokioIo::new(stream)).await
    }
}

async fn spawn<T>(stream: T) -> Result<SendRequest<Empty<Bytes>>, String>
where
    T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(stream).await.map_err(|error| error.to_string())?;
    // It ends when the exchange closes it, or its sender is dropped.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_keys_holds_one_line_and_is_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let path = path.to_str().unwrap();
        let read = |path: &str| Credentials::read(&SecretPlace::of(path), &Secrets::default());
        std::fs::write(path, "# mine\n\nname:hidden\n").unwrap();
        let credentials = read(path).unwrap();
        assert_eq!(credentials.name, "name");
        assert!(!format!("{credentials:?}").contains("hidden"));
        for text in ["", "name", "name:", ":hidden", "a:hidden\nb:hidden"] {
            std::fs::write(path, text).unwrap();
            let error = read(path).unwrap_err();
            assert!(error.contains("KEY:SECRET") && !error.contains("hidden"), "{error}");
        }
    }

    /// The example of Binance's documentation.
    #[test]
    fn signatures_are_those_of_the_documentation() {
        let secret = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j";
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let text = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1\
                    &recvWindow=5000&timestamp=1499827319559";
        let credentials = Credentials { name: String::new(), key };
        let expected = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71";
        assert_eq!(credentials.sign(text), expected);
    }
}
