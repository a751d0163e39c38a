//! Lets in at the door whoever has a token, and lets nobody ask what its role may not.
//!
//! ```text
//! a request ─▶ who has this token? ─▶ may that role ask this? ─▶ the door, with who asks
//!                  │ 401, 429, 503         │ 403
//! tokens_file ─▶ looked at each second: what it does not hold any more counts no more
//! ```
//!
//! # Invariants
//!
//! 1. While the file cannot be read nobody is let in: what was removed must not count again.
//! 2. Nobody makes a node hash more than one token at a time, nor more wrong ones than a few in a second.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tickwright_core::cluster::AccessRole;
use tickwright_core::cluster::access::{FailureLimit, needed, signed};
use tickwright_core::domain::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};
use zeroize::Zeroizing;

use super::super::now;
use super::places::{self, Place};
use super::{BODY_MAX, Desk, json_body};
use crate::kit::{TokenError, TokenHolder, Tokens};

/// Between two looks at the file.
const LOOK: Duration = Duration::from_secs(1);

/// For how long a token that was right is not hashed again.
const VERIFIED_FOR: Duration = Duration::from_secs(60);

/// Tokens that are known to be right.
const VERIFIED_MAX: usize = 256;

/// Why a request goes no further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denial {
    #[error(
        "this node wants to know who asks: give a token by --token-file FILE, TICKWRIGHT_TOKEN or the header \
         `Authorization: Bearer TOKEN`; `tickwright tokens new NAME --role ROLE --file FILE` makes one, where \
         FILE is its node.tokens_file"
    )]
    NoToken,
    #[error(
        "this node does not know that token, or not any more; `tickwright tokens list --file FILE` names those of \
         its node.tokens_file, and `tokens new` makes another"
    )]
    Unknown,
    #[error("too many wrong tokens have come just now; ask again in a second")]
    TooMany,
    #[error("this node cannot read its node.tokens_file, and lets nobody in; its log says why")]
    NoTokens,
    #[error("the token of {name} has the role {has}, and this needs the role {needed}")]
    Forbidden { name: String, has: AccessRole, needed: AccessRole },
    #[error("there is nothing at {0}; GET /openapi.json says what there is")]
    NoPlace(String),
    #[error("a question has at most {BODY_MAX} bytes")]
    TooLarge,
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let code = match &self {
            Self::NoToken | Self::Unknown => StatusCode::UNAUTHORIZED,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::NoTokens => StatusCode::SERVICE_UNAVAILABLE,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::NoPlace(_) => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        };
        let body = json!({ "error": self.to_string() }).to_string();
        let mut response = json_body(code, body.into_bytes());
        let headers = response.headers_mut();
        if code == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if code == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Knows who has which token. Clones share it.
#[derive(Clone)]
pub(in crate::cluster) struct Guard(Arc<Shared>);

struct Shared {
    path: PathBuf,
    standing: Mutex<Standing>,
    /// One token at a time is hashed.
    turn: Semaphore,
}

struct Standing {
    /// None, while the file cannot be read.
    tokens: Option<Arc<Tokens>>,
    /// The file as it was read.
    stamp: Option<Stamp>,
    /// By a hash of the token: who has it, and when it was looked at. At most [`VERIFIED_MAX`].
    verified: BTreeMap<[u8; 32], (TokenHolder, Timestamp)>,
    failures: FailureLimit,
}

/// By what a file is told from the one that was there before: when it was written, which it is, and how long.
type Stamp = (i64, i64, u64, u64);

fn stamp_of(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.mtime(), file.mtime_nsec(), file.ino(), file.size()))
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Guard {
    /// One that goes by the file at `path`. Reads it.
    ///
    /// # Errors
    ///
    /// [`TokenError`], with what is wrong.
    pub(in crate::cluster) fn open(path: &Path) -> Result<Self, TokenError> {
        // Before it is read: what changes meanwhile is read again.
        let stamp = stamp_of(path);
        let standing = Standing {
            tokens: Some(Arc::new(Tokens::read(path)?)),
            stamp,
            verified: BTreeMap::new(),
            failures: FailureLimit::default(),
        };
        let (path, standing) = (path.to_owned(), Mutex::new(standing));
        Ok(Self(Arc::new(Shared { path, standing, turn: Semaphore::new(1) })))
    }

    /// Looks after the file until it is dropped.
    pub(super) async fn keep_up(self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let guard = self.clone();
            // One that failed is done again.
            let _ = tokio::task::spawn_blocking(move || guard.look()).await;
        }
    }

    /// Reads the file if it is another than the one that was read. Blocks.
    fn look(&self) {
        let stamp = stamp_of(&self.0.path);
        {
            let standing = self.standing();
            if stamp.is_some() && stamp == standing.stamp && standing.tokens.is_some() {
                return;
            }
        }
        let read = Tokens::read(&self.0.path);
        let mut standing = self.standing();
        standing.verified.clear();
        standing.stamp = stamp;
        standing.tokens = match read {
            Ok(tokens) => {
                tracing::info!(path = %self.0.path.display(), "other tokens count now");
                Some(Arc::new(tokens))
            }
            Err(error) => {
                // Once, and not each second.
                if standing.tokens.is_some() {
                    tracing::error!(%error, "no tool is let in until its token can be looked up");
                }
                None
            }
        };
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.0.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who has `token`, as far as that is known without hashing it.
    fn verified(&self, digest: &[u8; 32]) -> Result<Option<TokenHolder>, Denial> {
        let standing = self.standing();
        if standing.tokens.is_none() {
            return Err(Denial::NoTokens);
        }
        let found = standing.verified.get(digest);
        let found = found.filter(|(_, at)| now().since(*at) < VERIFIED_FOR);
        Ok(found.map(|(holder, _)| holder.clone()))
    }

    /// What to look a token up in that is not known to be right.
    fn tokens(&self) -> Result<Arc<Tokens>, Denial> {
        let standing = self.standing();
        if standing.failures.is_reached(now()) {
            return Err(Denial::TooMany);
        }
        standing.tokens.clone().ok_or(Denial::NoTokens)
    }

    /// Keeps what was found out by `tokens`, unless others count by now.
    fn note(
        &self,
        digest: [u8; 32],
        tokens: &Arc<Tokens>,
        found: Option<TokenHolder>,
    ) -> Result<TokenHolder, Denial> {
        let mut standing = self.standing();
        let Some(holder) = found else {
            standing.failures.on_failure(now());
            return Err(Denial::Unknown);
        };
        if standing.tokens.as_ref().is_some_and(|current| Arc::ptr_eq(current, tokens)) {
            if standing.verified.len() >= VERIFIED_MAX {
                standing.verified.clear();
            }
            standing.verified.insert(digest, (holder.clone(), now()));
        }
        Ok(holder)
    }

    /// Who has `token`.
    async fn holder(&self, token: &str) -> Result<TokenHolder, Denial> {
        let digest = *blake3::hash(token.as_bytes()).as_bytes();
        if let Some(holder) = self.verified(&digest)? {
            return Ok(holder);
        }
        let Ok(_turn) = self.0.turn.acquire().await else { return Err(Denial::TooMany) };
        // It may have been looked up while this one waited.
        if let Some(holder) = self.verified(&digest)? {
            return Ok(holder);
        }
        let tokens = self.tokens()?;
        let (of, token) = (Arc::clone(&tokens), Zeroizing::new(token.to_owned()));
        let found = tokio::task::spawn_blocking(move || of.holder(&token)).await;
        self.note(digest, &tokens, found.unwrap_or_default())
    }

    /// The request, with who asks, if that may ask it.
    async fn admit(&self, place: &Place, request: Request) -> Result<Request, Denial> {
        let (mut parts, body) = request.into_parts();
        let token = bearer(&parts.headers).ok_or(Denial::NoToken)?;
        let holder = self.holder(token).await?;
        let body = match place.asks(parts.uri.path()) {
            None => {
                allow(&holder, AccessRole::Viewer)?;
                body
            }
            Some(service) => {
                let bytes = to_bytes(body, BODY_MAX).await.map_err(|_| Denial::TooLarge)?;
                allow(&holder, needed(service, &bytes))?;
                let signed = signed(service, &bytes, &holder.name);
                let bytes = signed.map_or(bytes, Bytes::from);
                // What it says of its length is of what came.
                parts.headers.remove(header::CONTENT_LENGTH);
                Body::from(bytes)
            }
        };
        parts.extensions.insert(holder);
        Ok(Request::from_parts(parts, body))
    }
}

fn allow(holder: &TokenHolder, needed: AccessRole) -> Result<(), Denial> {
    if holder.role.may(needed) {
        return Ok(());
    }
    Err(Denial::Forbidden { name: holder.name.clone(), has: holder.role, needed })
}

/// The token that a request carries.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Lets a request pass to the door, or answers that it does not. Without a file of tokens all pass.
pub(super) async fn check(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let Some(guard) = &desk.guard else { return next.run(request).await };
    let path = request.uri().path();
    let Some(place) = places::at(path) else {
        return Denial::NoPlace(path.to_owned()).into_response();
    };
    if place.is_open() {
        return next.run(request).await;
    }
    match guard.admit(place, request).await {
        Ok(request) => next.run(request).await,
        Err(denial) => denial.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;
    use tickwright_core::config::Config;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::super::places::{PLACES, Way};
    use super::*;
    use crate::cluster::{LoneDoor, Request as Asked};
    use crate::kit::{TokenTask, see_to_tokens};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A door that goes by tokens, and the tokens of a tool of each role, which is called as its role.
    struct Guarded {
        door: LoneDoor,
        path: PathBuf,
        _directory: tempfile::TempDir,
        tokens: BTreeMap<AccessRole, String>,
    }

    impl Guarded {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("tokens");
            let make = |role: AccessRole| {
                let task = TokenTask::New(TokenHolder { name: role.name().into(), role });
                let told = see_to_tokens(&task, &path).unwrap();
                (role, told.shown.reveal().trim().to_owned())
            };
            let tokens = AccessRole::ALL.into_iter().map(make).collect();
            let mut config = Config::default();
            config.node.tokens_file = Some(path.display().to_string());
            let door = LoneDoor::open(&config, "127.0.0.1:0").await.unwrap();
            // Whoever is asked says what it was asked.
            let echo = |mut request: Asked| -> Result<(), String> {
                let reply = request.reply.take().ok_or("it is asked")?;
                reply.answer(std::mem::take(&mut request.body));
                Ok(())
            };
            for role in ["risk", "ledger", "own"] {
                door.network().register(role, None, Arc::new(echo));
            }
            Self { door, path, _directory: directory, tokens }
        }

        /// The code of the answer, and its body.
        async fn http(&self, what: &str, token: Option<&str>, body: &str) -> (u16, String) {
            let token = token.map(|token| format!("authorization: Bearer {token}\r\n"));
            let (token, length) = (token.unwrap_or_default(), body.len());
            let request = format!(
                "{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{token}content-length: {length}\r\n\r\n{body}"
            );
            let mut stream = TcpStream::connect(self.door.address()).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
            let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
            (code, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
        }

        async fn code(&self, role: AccessRole, what: &str, body: &str) -> u16 {
            self.http(what, Some(&self.tokens[&role]), body).await.0
        }

        /// Waits until a question of `role` is answered with `code`.
        async fn comes_to(&self, role: AccessRole, code: u16) {
            let comes = async {
                while self.code(role, "POST /ask/risk", "\"Report\"").await != code {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(PATIENCE, comes).await.unwrap();
        }
    }

    /// How `path` of `place` is asked, and what.
    fn asked(place: &Place, path: &str) -> (String, &'static str) {
        match place.asks(path) {
            Some(_) => (format!("POST {path}"), "\"Report\""),
            None => (format!("GET {path}"), ""),
        }
    }

    #[tokio::test]
    async fn nobody_is_let_in_without_a_token_but_to_what_says_nothing() {
        let guarded = Guarded::new().await;
        for place in PLACES {
            let path = place.path.replace("{*role}", "risk");
            let (what, asks) = asked(place, &path);
            let (code, body) = guarded.http(&what, None, asks).await;
            assert_eq!(code == 401, !place.is_open(), "{what}: {code} {body}");
            let (code, body) = guarded.http(&what, Some("x.y"), asks).await;
            assert!(place.is_open() || matches!(code, 401 | 429), "{what}: {code} {body}");
        }
        let (_, body) = guarded.http("GET /status", None, "").await;
        assert!(body.contains("--token-file") && body.contains("tokens new"), "{body}");
        let (code, body) = guarded.http("GET /nothing", None, "").await;
        assert!(code == 404 && body.contains("/openapi.json"), "{body}");
    }

    #[tokio::test]
    async fn every_place_of_the_table_is_served_by_the_router() {
        let guarded = Guarded::new().await;
        for place in PLACES {
            let path = place.path.replace("{*role}", "risk");
            let (what, asks) = asked(place, &path);
            let admin = Some(guarded.tokens[&AccessRole::Admin].as_str());
            let (code, body) = guarded.http(&what, admin, asks).await;
            // Nobody serves some of it here, which the door says itself.
            let is_known = !body.is_empty() && code != 405 && !body.contains("there is nothing at");
            assert!(is_known, "{what}: {code} {body}");
            if matches!(place.way, Way::Document | Way::Dashboard | Way::Health) {
                assert_eq!(code, 200, "{what}: {body}");
            }
        }
        let viewer = Some(guarded.tokens[&AccessRole::Viewer].as_str());
        let (_, body) = guarded.http("GET /openapi.json", viewer, "").await;
        let document: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(document["paths"].as_object().unwrap().len(), PLACES.len());
    }

    #[tokio::test]
    async fn each_role_asks_what_it_may_and_says_who_it_is() {
        use AccessRole::{Admin, Operator, Trader, Viewer};
        let guarded = Guarded::new().await;
        let kill = "{\"Kill\":{\"by\":\"somebody\",\"reason\":\"r\",\"what\":\"all\"}}";
        let drain = "{\"Drain\":{\"node\":\"a\"}}";
        for (what, body, may) in [
            ("POST /ask/risk", "\"Report\"", &[Viewer, Operator, Trader, Admin][..]),
            ("POST /ask/risk", kill, &[Trader, Admin][..]),
            ("POST /ask/ledger", drain, &[Operator, Admin][..]),
            ("POST /ask/own", "\"Report\"", &[Admin][..]),
        ] {
            for role in AccessRole::ALL {
                let code = guarded.code(role, what, body).await;
                assert_eq!(code, if may.contains(&role) { 200 } else { 403 }, "{role}: {body}");
            }
        }
        let trader = Some(guarded.tokens[&Trader].as_str());
        let (_, body) = guarded.http("POST /ask/risk", trader, kill).await;
        assert_eq!(body, kill.replace("somebody", "trader"));
        let (_, body) = guarded.http("POST /ask/ledger", trader, drain).await;
        assert!(body.contains("operator") && body.contains("trader"), "{body}");
    }

    #[tokio::test]
    async fn what_is_removed_counts_no_more_and_a_file_that_cannot_be_read_lets_nobody_in() {
        let guarded = Guarded::new().await;
        assert_eq!(guarded.code(AccessRole::Viewer, "POST /ask/risk", "\"Report\"").await, 200);
        see_to_tokens(&TokenTask::Remove("viewer".into()), &guarded.path).unwrap();
        guarded.comes_to(AccessRole::Viewer, 401).await;
        guarded.comes_to(AccessRole::Admin, 200).await;
        let text = fs::read_to_string(&guarded.path).unwrap();
        fs::write(&guarded.path, "hunter2\n").unwrap();
        guarded.comes_to(AccessRole::Admin, 503).await;
        fs::write(&guarded.path, text).unwrap();
        guarded.comes_to(AccessRole::Admin, 200).await;
    }

    #[tokio::test]
    async fn wrong_tokens_are_counted_and_who_is_known_is_let_in_meanwhile() {
        let Guarded { path, tokens, _directory, .. } = Guarded::new().await;
        let guard = Guard::open(&path).unwrap();
        let known = guard.holder(&tokens[&AccessRole::Admin]).await;
        assert_eq!(known.unwrap().role, AccessRole::Admin);
        assert_eq!(guard.holder("admin.0").await, Err(Denial::Unknown));
        // The second does not end before the test does.
        let late = now().after(PATIENCE);
        (0..100).for_each(|_| guard.standing().failures.on_failure(late));
        assert_eq!(guard.holder("admin.1").await, Err(Denial::TooMany));
        assert_eq!(guard.holder(&tokens[&AccessRole::Viewer]).await, Err(Denial::TooMany));
        assert!(guard.holder(&tokens[&AccessRole::Admin]).await.is_ok());
    }
}
