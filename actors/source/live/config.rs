//! Which feed to listen to, and what is wrong with what was said of it.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use tickwright_core::config::Config;
use tickwright_core::pipeline::live::{ConnectionPolicy, SnapshotPolicy};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::Uri;

use super::tls;

/// Which feed, and how to treat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveConfig {
    /// The venue's address, such as `wss://stream.binance.com:9443`.
    pub url: String,
    /// Streams to hear together, such as `btcusdt@trade`. None: `url` is used as it is.
    pub streams: Vec<String>,
    /// The venue's REST address, such as `https://api.binance.com`, for depth snapshots. None: there are
    /// none.
    pub rest_url: Option<String>,
    /// A file of certificates, in PEM, of authorities that are believed beside those that browsers
    /// believe: of a proxy, or of a venue in a test.
    pub tls_ca_file: Option<PathBuf>,
    /// The deadlines.
    pub policy: ConnectionPolicy,
    /// How snapshots are fetched.
    pub snapshots: SnapshotPolicy,
    /// Largest frame; a larger one ends the connection.
    pub frame_bytes_max: usize,
    /// Frames that wait to be taken; when they are this many, no more is read.
    pub queue_frames_max: usize,
    /// Decides how waits between connects are shortened.
    pub seed: u64,
}

impl LiveConfig {
    /// The streams of a venue, with the usual deadlines, frames up to 256 KiB and 4,096 waiting.
    pub fn new(url: &str, streams: &[&str]) -> Self {
        Self {
            url: url.to_owned(),
            streams: streams.iter().map(|&stream| stream.to_owned()).collect(),
            rest_url: None,
            tls_ca_file: None,
            policy: ConnectionPolicy::default(),
            snapshots: SnapshotPolicy::default(),
            frame_bytes_max: 256 << 10,
            queue_frames_max: 4_096,
            seed: 1,
        }
    }

    /// The venue that `[live]` names, if it names one.
    pub fn of(config: &Config) -> Option<Self> {
        let live = &config.live;
        Some(Self {
            url: live.url.clone()?,
            streams: live.streams.clone(),
            rest_url: live.rest_url.clone(),
            tls_ca_file: live.tls_ca_file.as_ref().map(PathBuf::from),
            policy: live.policy,
            snapshots: live.snapshots,
            frame_bytes_max: live.frame_bytes_max,
            queue_frames_max: live.queue_frames,
            seed: config.pipeline.seed,
        })
    }

    /// What is connected to.
    ///
    /// # Errors
    ///
    /// [`LiveError`] when `url` is no WebSocket address, or a stream's name has a character that
    /// would change the address.
    pub fn address(&self) -> Result<Uri, LiveError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"@_!.-".contains(&byte);
        let strange = |stream: &&String| stream.is_empty() || !stream.bytes().all(known);
        if let Some(stream) = self.streams.iter().find(strange) {
            return Err(LiveError::Stream { stream: stream.clone() });
        }
        let address = if self.streams.is_empty() {
            self.url.clone()
        } else {
            format!("{}/stream?streams={}", self.url.trim_end_matches('/'), self.streams.join("/"))
        };
        let wrong = |problem: String| LiveError::Url { url: self.url.clone(), problem };
        let request = address.into_client_request().map_err(|error| wrong(error.to_string()))?;
        match request.uri().scheme_str() {
            Some("ws" | "wss") => Ok(request.uri().clone()),
            Some(_) | None => Err(wrong("begins neither with ws:// nor with wss://".to_owned())),
        }
    }

    /// Where snapshots are fetched from, if they are.
    ///
    /// # Errors
    ///
    /// [`LiveError`] when `rest_url` is no HTTP address.
    pub fn rest_address(&self) -> Result<Option<Uri>, LiveError> {
        let Some(url) = &self.rest_url else { return Ok(None) };
        let wrong = |problem: String| LiveError::RestUrl { url: url.clone(), problem };
        let uri: Uri = url.parse().map_err(|error| wrong(format!("{error}")))?;
        match uri.scheme_str() {
            _ if uri.query().is_some() => Err(wrong("has a query".to_owned())),
            Some("http" | "https") => Ok(Some(uri)),
            Some(_) | None => {
                Err(wrong("begins neither with http:// nor with https://".to_owned()))
            }
        }
    }

    /// Who is believed where something is encrypted.
    ///
    /// # Errors
    ///
    /// [`LiveError::Authorities`].
    pub(crate) fn believed(&self) -> Result<Arc<ClientConfig>, LiveError> {
        let Some(path) = &self.tls_ca_file else { return Ok(tls::usual()) };
        let path = path.clone();
        tls::usual_and(&path).map_err(|problem| LiveError::Authorities { path, problem })
    }
}

/// Why a feed cannot be listened to at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// Not an address.
    #[error("`{url}` is not the address of a feed: {problem}; give one such as ws://host:port")]
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Not an address of snapshots.
    #[error(
        "`{url}` is not the address of snapshots: {problem}; give one such as https://host:port"
    )]
    RestUrl {
        /// The address.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Not a stream's name.
    #[error("`{stream}` is not the name of a stream; give one such as btcusdt@trade")]
    Stream {
        /// The name.
        stream: String,
    },
    /// The authorities that are to be believed cannot be.
    #[error(
        "live.tls_ca_file = \"{}\" cannot be used: {problem}; give a file of certificates in PEM", path.display()
    )]
    Authorities {
        /// Their file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_joined_behind_the_address() {
        let config = LiveConfig::new("ws://127.0.0.1:9/", &["btcusdt@trade", "btcusdt@bookTicker"]);
        assert_eq!(
            config.address().unwrap().to_string(),
            "ws://127.0.0.1:9/stream?streams=btcusdt@trade/btcusdt@bookTicker"
        );
    }

    #[test]
    fn what_is_no_feed_is_refused_before_anything_is_sent() {
        let refusal = |url: &str, stream: &str| {
            LiveConfig::new(url, &[stream]).address().unwrap_err().to_string()
        };
        assert!(refusal("http://x", "a@trade").contains("neither"));
        assert!(refusal("not an address", "a@trade").contains("not the address"));
        assert!(refusal("ws://x", "a&b").contains("not the name of a stream"));
        let rest = |url: &str| {
            let rest_url = Some(url.to_owned());
            let config = LiveConfig { rest_url, ..LiveConfig::new("ws://x", &["a@depth"]) };
            config.rest_address().unwrap_err().to_string()
        };
        assert!(rest("ws://x").contains("begins neither with http://"));
        assert!(rest("http://x/?a=b").contains("has a query"));
    }

    #[test]
    fn an_encrypted_feed_is_a_feed_and_who_is_believed_is_said_before_anything_is_sent() {
        let url = "wss://stream.binance.com:9443";
        let config = LiveConfig::new(url, &["btcusdt@trade"]);
        assert_eq!(config.address().unwrap().scheme_str(), Some("wss"));
        assert!(config.believed().is_ok());
        let believing = |path: PathBuf| {
            let config = LiveConfig { tls_ca_file: Some(path), ..config.clone() };
            config.believed().unwrap_err().to_string()
        };
        let directory = tempfile::tempdir().unwrap();
        assert!(believing(directory.path().join("none.pem")).contains("none.pem"));
        let empty = directory.path().join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        assert!(believing(empty).contains("holds no certificate"));
    }
}
