//! `tickwright ctl`: asks a running node, and through it any other, over HTTP and JSON.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use tickwright_core::config::SecretsConfig;
use tickwright_core::domain::Timestamp;
use tickwright_core::records::Question;

use crate::config_sync::{ConfigCall, ConfigFileTask, SecretTask};
use crate::kit::SecretText;

mod alerts;
mod config;
mod config_file;
mod deeds;
mod optimise;
mod parameters;
mod secrets;
mod show;
mod switches;
mod tuner;

pub use show::text;

/// How long reaching a node may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Longer than a node lets any question take.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// How much longer an answer may take than the node was given.
const READ_MARGIN: Duration = Duration::from_secs(1);

/// Largest answer that is read, in bytes.
const ANSWER_MAX: u64 = 256 << 20;

/// What is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CtlTask {
    /// How is a node?
    Status,
    /// Who is in the cluster?
    Members,
    /// Who serves which role?
    Roles,
    /// Which node has which part of the pipeline?
    Shards,
    /// Who holds and awaits which lock?
    Locks,
    /// Something about the configuration that all nodes share.
    Config(ConfigCall),
    /// The same as a file, by whom.
    ConfigFile(ConfigFileTask, String),
    /// Secrets of it, by the keys that this says where to find.
    Secret(SecretTask, SecretsConfig),
    /// Who supervises whom?
    Tree,
    /// Where does each stream stand?
    Streams,
    /// Which settings are being tried, and what was kept, and why?
    Tuner,
    /// How far is the search for parameters?
    Optimise,
    /// What is adopted of what was found?
    Adoption,
    /// What is an operator to hear of?
    Alerts,
    /// Empty a node, and give it nothing new.
    Drain {
        /// Which.
        node: String,
        /// Whether it is to get work again instead.
        undo: bool,
        /// Whether to wait until it is empty.
        waits: bool,
    },
    /// Have a node coordinate, and be master, whenever it is there.
    Promote {
        /// Which; none, whoever would by itself.
        node: Option<String>,
    },
    /// End an actor as a crash would.
    KillActor {
        /// Which, by the name it has in the tree.
        actor: String,
    },
    /// Turn a kill switch on.
    Kill {
        /// What it stops.
        what: String,
        /// Why.
        reason: String,
    },
    /// Turn a kill switch off again.
    Rearm {
        /// What it stops.
        what: String,
        /// Why.
        reason: String,
    },
    /// What are the parameters of strategies, and how were they changed?
    Parameters,
    /// Change parameters of a strategy that runs.
    SetParameters(ParameterSetting),
    /// How do kill switches stand?
    Switches,
    /// Look through the accounts at exchanges.
    Reconcile {
        /// Whether positions are to take over what others' orders have traded.
        adopt: bool,
    },
    /// A person has looked for an order that nobody could find out about.
    Release {
        /// Its name.
        client_id: String,
        /// Whether the exchange has it.
        is_there: bool,
    },
    /// How do the records stand, and which rows were set aside?
    Database {
        /// Whether those are to be offered to the database again.
        retry: bool,
        /// Which of them is to be dropped.
        discard: Option<String>,
    },
    /// Something to look up in the database.
    Records(Question),
    /// A question to a role.
    Ask {
        /// Whom.
        role: String,
        /// What, as JSON.
        body: String,
    },
    /// A message to a role.
    Tell {
        /// Whom.
        role: String,
        /// What, as JSON.
        body: String,
    },
}

/// Other parameters for a strategy that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSetting {
    /// Which strategy.
    pub strategy: String,
    /// Names and values; others stay.
    pub parameters: BTreeMap<String, f64>,
    /// From which event time on; as soon as may be, without one.
    pub at: Option<Timestamp>,
    /// Why.
    pub why: String,
}

impl Eq for ParameterSetting {}

/// How to reach a node, and which one is meant.
#[derive(Clone, Debug)]
pub struct CtlTarget {
    /// `http://HOST:PORT` or `https://HOST:PORT`; `HOST:PORT` is the one of them for which there are certificates.
    pub url: String,
    /// The node that is meant, if it is another than the one that is reached.
    pub on: Option<String>,
    /// How long the node may take.
    pub patience: Option<Duration>,
    /// Who we are, for HTTPS, and the name to expect there.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// By which the node knows who asks, if it wants to.
    pub token: Option<SecretText>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// Not an address.
    #[error("{0:?} is no address of a node; write it as HOST:PORT or http://HOST:PORT")]
    Url(String),
    /// HTTPS without certificates.
    #[error(
        "{0} wants a certificate: give cluster.tls_ca_file, tls_cert_file and tls_key_file by \
         --config or --set; `tickwright certs tool NAME` makes one"
    )]
    Certificate(String),
    /// Nobody there.
    #[error(
        "no node answers at {url}: {message}\n\
         is one running? `tickwright node` starts one; node.http_bind says where it answers, and \
         --node URL asks there"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// What the system said.
        message: String,
    },
    /// The node says no.
    #[error("{0}")]
    Refused(String),
    /// What came is no answer of a node.
    #[error("what answers at {0} is not a node of this version")]
    Garbage(String),
}

/// Asks, and returns the answer as JSON.
///
/// # Errors
///
/// [`CtlError`], with the remedy.
pub fn ask(task: &CtlTask, target: &CtlTarget) -> Result<Value, CtlError> {
    let (method, path, body) = match task {
        CtlTask::Drain { node, undo: true, .. } => return deeds::undrain(node, target),
        CtlTask::Drain { node, waits, .. } => return deeds::drain(node, *waits, target),
        CtlTask::Promote { node } => return deeds::promote(node.as_deref(), target),
        CtlTask::KillActor { actor } => return deeds::kill_actor(actor, target),
        CtlTask::Kill { what, reason } => return switches::kill(what, reason, target),
        CtlTask::Rearm { what, reason } => return switches::rearm(what, reason, target),
        CtlTask::Config(call) => return config::ask(call, target),
        CtlTask::ConfigFile(task, author) => return config_file::carry_out(task, author, target),
        CtlTask::Secret(task, keys) => return secrets::carry_out(task, keys, target),
        CtlTask::Switches => return switches::list(target),
        CtlTask::SetParameters(setting) => return parameters::set(setting, target),
        CtlTask::Parameters => return parameters::get(target),
        CtlTask::Reconcile { adopt } => return deeds::reconcile(*adopt, target),
        CtlTask::Release { client_id, is_there } => {
            return deeds::release(client_id, *is_there, target);
        }
        CtlTask::Records(question) => return deeds::look_up(question, target),
        CtlTask::Database { retry, discard } => {
            return deeds::database(*retry, discard.as_deref(), target);
        }
        CtlTask::Tree => ("GET", "/tree".to_owned(), ""),
        CtlTask::Streams => ("GET", "/streams".to_owned(), ""),
        CtlTask::Tuner => ("GET", "/tuner".to_owned(), ""),
        CtlTask::Optimise => ("GET", "/optimise".to_owned(), ""),
        CtlTask::Adoption => ("GET", "/adoption".to_owned(), ""),
        CtlTask::Alerts => ("GET", "/alerts".to_owned(), ""),
        CtlTask::Status => ("GET", "/status".to_owned(), ""),
        CtlTask::Members => ("GET", "/members".to_owned(), ""),
        CtlTask::Roles => ("GET", "/roles".to_owned(), ""),
        CtlTask::Locks => ("GET", "/locks".to_owned(), ""),
        CtlTask::Shards => ("POST", "/ask/ledger".to_owned(), "\"Allocations\""),
        CtlTask::Ask { role, body } => ("POST", format!("/ask/{}", escape(role)), body.as_str()),
        CtlTask::Tell { role, body } => ("POST", format!("/tell/{}", escape(role)), body.as_str()),
    };
    let answer = exchange_json(target, method, path, body)?;
    Ok(if *task == CtlTask::Streams {
        show::edges(&answer)
    } else if *task == CtlTask::Alerts {
        alerts::gathered(&answer)
    } else {
        answer
    })
}

/// Who is at the keyboard.
pub fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| "unknown".into())
}

/// One question and its answer.
fn exchange_json(
    target: &CtlTarget,
    method: &str,
    path: String,
    body: &str,
) -> Result<Value, CtlError> {
    let node = target.on.as_ref().map(|node| format!("node={}", escape(node)));
    let patience = target.patience.map(|patience| format!("timeout_ms={}", patience.as_millis()));
    let query: Vec<String> = node.into_iter().chain(patience).collect();
    let path = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
    let (code, answer) = request(target, method, &path, body)?;
    let garbage = || CtlError::Garbage(target.url.clone());
    let answer: Value = serde_json::from_slice(&answer).map_err(|_| garbage())?;
    if code == 200 {
        return Ok(answer);
    }
    let reason = answer.get("error").and_then(Value::as_str).ok_or_else(garbage)?;
    let is_unknown = answer.get("is_outcome_unknown") == Some(&Value::Bool(true));
    let doubt = if is_unknown { "; whether it was done is not known" } else { "" };
    Err(CtlError::Refused(format!("{reason}{doubt}")))
}

/// One request on a connection of its own.
fn request(
    target: &CtlTarget,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, Vec<u8>), CtlError> {
    let url = &target.url;
    let whole = url.trim_end_matches('/');
    let (is_https, host) = match whole.split_once("://") {
        Some(("http", host)) => (false, host),
        Some(("https", host)) => (true, host),
        // As a node says where it is. Who has certificates has nodes that want them.
        None if whole.contains(':') => (target.tls.is_some(), whole),
        _ => return Err(CtlError::Url(url.clone())),
    };
    let unreachable =
        |error: io::Error| CtlError::Unreachable { url: url.clone(), message: error.to_string() };
    let token = target.token.as_ref().map(SecretText::reveal);
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n"));
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        token.unwrap_or_default(),
        body.len()
    );
    let stream = connect(host).map_err(unreachable)?;
    // The node answers in time or says that it cannot; one that stands still does neither.
    let timeout = target.patience.map_or(READ_TIMEOUT, |patience| patience + READ_MARGIN);
    stream.set_read_timeout(Some(timeout)).map_err(unreachable)?;
    let answer = if is_https {
        let (config, name) =
            target.tls.clone().ok_or_else(|| CtlError::Certificate(url.clone()))?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other);
        exchange(StreamOwned::new(connection.map_err(unreachable)?, stream), &text)
    } else {
        exchange(stream, &text)
    };
    parse(&answer.map_err(unreachable)?).ok_or_else(|| CtlError::Garbage(url.clone()))
}

fn connect(host: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name means no address");
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(ANSWER_MAX).read_to_end(&mut answer) {
        // An end without TLS's goodbye; the length in the answer tells whether it is whole.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => {}
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    Ok(answer)
}

/// Code and body of an answer that says how long it is, as the node's do.
fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let code = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())?.ok()
    })?;
    let body = answer.get(end + 4..end + 4 + length)?;
    Some((code, body.to_vec()))
}

/// `text` as part of a path or query; slashes stay.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_by_the_length_it_says() {
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nx: y\r\n\r\n{}rest";
        assert_eq!(parse(answer), Some((404, b"{}".to_vec())));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"), None, "cut short");
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
    }

    #[test]
    fn roles_with_slashes_are_paths_and_anything_else_is_escaped() {
        assert_eq!(escape("risk/3"), "risk/3");
        assert_eq!(escape("a b&c?d"), "a%20b%26c%3Fd");
    }

    #[test]
    fn nobody_there_says_what_to_do() {
        let target = CtlTarget {
            url: "http://127.0.0.1:1".into(),
            on: None,
            patience: None,
            tls: None,
            token: None,
        };
        let error = ask(&CtlTask::Status, &target).unwrap_err().to_string();
        assert!(error.contains("no node answers at http://127.0.0.1:1"), "{error}");
        assert!(error.contains("`tickwright node` starts one"), "{error}");
        let asked = |url: &str| {
            let target = CtlTarget { url: url.into(), ..target.clone() };
            ask(&CtlTask::Status, &target).unwrap_err().to_string()
        };
        assert!(asked("127.0.0.1:1").contains("no node answers at 127.0.0.1:1"));
        for url in ["localhost", "ftp://127.0.0.1:1"] {
            assert!(asked(url).contains("is no address of a node"), "{url}");
        }
    }
}
