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

/// Until when an exchange has asked to be left alone. Clones share it: it counts requests by the address that they
/// come from, whoever of this node asks.
#[derive(Clone, Debug, Default)]
pub struct Quiet(Arc<Mutex<Option<Instant>>>);

impl Quiet {
    /// Whether nothing may be asked just now. Whoever goes on after a 429 is shut out altogether.
    pub(super) fn is_now(&self) -> bool {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// The exchange has answered; if that it was asked too often, it is left alone for as long as it says. Returns
    /// for how many seconds that is.
    fn on_answer(&self, status: u16, headers: &HeaderMap) -> Option<u64> {
        let (418 | 429) = status else { return None };
        let header = headers.get(RETRY_AFTER)?;
        let seconds = header.to_str().ok()?.trim().parse().ok()?;
        let until = Instant::now() + Duration::from_secs(seconds).min(QUIET_MAX);
        let mut quiet = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *quiet = Some(quiet.map_or(until, |before| before.max(until)));
        Some(seconds)
    }
}

/// An exchange. Clones share everything.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub(super) base: Uri,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) quiet: Quiet,
}

impl Reach {
    pub(super) fn new(base: Uri, tls: Arc<ClientConfig>, quiet: Quiet) -> Self {
        Self { base, tls, quiet }
    }

    /// # Errors
    ///
    /// If the address is none, or the file of authorities cannot be used.
    pub(super) fn open(
        address: &ExchangeAddress,
        broker: &str,
        quiet: Quiet,
    ) -> Result<Self, String> {
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
        Ok(Self::new(base, tls, quiet))
    }

    /// The exchange has answered.
    pub(super) fn on_answer(&self, status: u16, headers: &HeaderMap) {
        if let Some(seconds) = self.quiet.on_answer(status, headers) {
            let exchange = &self.base;
            tracing::warn!(status, seconds, %exchange, "the exchange was asked too often, and is left alone");
        }
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
        let quiet = Quiet::default();
        for (status, headers) in [
            (200, after("60")),
            (503, after("60")),
            (429, HeaderMap::new()),
            (429, after("soon")),
            (429, after("0")),
        ] {
            quiet.on_answer(status, &headers);
            assert!(!quiet.is_now(), "{status} {headers:?}");
        }
        let shared = quiet.clone();
        assert_eq!(quiet.on_answer(418, &after("18446744073709551615")), Some(u64::MAX));
        assert!(shared.is_now(), "for all accounts");
        quiet.on_answer(429, &after("0"));
        assert!(quiet.is_now(), "a shorter word takes nothing back");
    }
}
