//! How an exchange is reached by all accounts that orders are placed for: where it is, who vouches for it, and
//! whether it has asked for quiet.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::Uri;
use hyper::header::{HeaderMap, RETRY_AFTER};
use rustls::ClientConfig;

use super::ExchangeAddress;
use crate::source::live::tls;

/// The longest quiet that is kept: Binance bans for three days at most.
const QUIET_MAX: Duration = Duration::from_secs(3 * 24 * 3_600);

/// An exchange. Clones share everything: it counts requests by the address that they come from.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub(super) base: Uri,
    pub(super) tls: Arc<ClientConfig>,
    quiet: Arc<Mutex<Option<Instant>>>,
}

impl Reach {
    pub(super) fn new(base: Uri, tls: Arc<ClientConfig>) -> Self {
        Self { base, tls, quiet: Arc::default() }
    }

    /// # Errors
    ///
    /// If the address is none, or the file of authorities cannot be used.
    pub(super) fn open(address: &ExchangeAddress, broker: &str) -> Result<Self, String> {
        let base = address.base_url.parse::<Uri>();
        let base = base.map_err(|error| format!("{}: {error}", address.base_url))?;
        let tls = match &address.tls_ca_file {
            None => tls::usual(),
            Some(path) => tls::usual_and(path).map_err(|problem| {
                format!(
                    "broker.{broker}.tls_ca_file = \"{}\" cannot be used: {problem}; give a file of certificates in PEM",
                    path.display()
                )
            })?,
        };
        Ok(Self::new(base, tls))
    }

    /// Whether nothing may be asked just now. Whoever goes on after a 429 is shut out altogether.
    pub(super) fn is_quiet(&self) -> bool {
        let until = *self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// The exchange has answered; if that it was asked too often, how long it wants to be left alone is kept to.
    pub(super) fn on_answer(&self, status: u16, headers: &HeaderMap) {
        let (418 | 429) = status else { return };
        let header = headers.get(RETRY_AFTER);
        let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let Some(seconds) = seconds else { return };
        let until = Instant::now() + Duration::from_secs(seconds).min(QUIET_MAX);
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        *quiet = Some(quiet.map_or(until, |before| before.max(until)));
        tracing::warn!(status, seconds, exchange = %self.base, "the exchange was asked too often, and is left alone");
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn an_exchange_is_left_alone_for_as_long_as_it_says() {
        let after = |seconds: &'static str| {
            HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(seconds))])
        };
        let reach = Reach::new(Uri::from_static("http://x"), tls::usual());
        for (status, headers) in [
            (200, after("60")),
            (503, after("60")),
            (429, HeaderMap::new()),
            (429, after("soon")),
            (429, after("0")),
        ] {
            reach.on_answer(status, &headers);
            assert!(!reach.is_quiet(), "{status} {headers:?}");
        }
        let shared = reach.clone();
        reach.on_answer(418, &after("18446744073709551615"));
        assert!(shared.is_quiet(), "for all accounts");
        reach.on_answer(429, &after("0"));
        assert!(reach.is_quiet(), "a shorter word takes nothing back");
    }
}
