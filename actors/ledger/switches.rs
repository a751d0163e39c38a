//! What the ledger keeps of kill switches: each is a register, whose version tells its turns apart.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tickwright_core::ledger::Ledger;

use super::client::{LedgerClient, LedgerError};
use crate::kit::Clock;

/// Keys of the registers of kill switches.
const SWITCHES: &str = "kill/";

/// Longest reason that is kept, in characters.
const REASON_MAX: usize = 256;

/// How a kill switch stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchStanding {
    /// What it stops: `all`, `account:NAME`, `strategy:NAME` or `symbol:SYMBOL`.
    pub what: String,
    /// Whether it does.
    pub is_on: bool,
    /// Grows with every turn.
    pub version: u64,
    /// Who turned it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970, by the clock of the node that was asked.
    pub at_ms: u64,
}

impl SwitchStanding {
    /// One that is turned at this moment; who does it, and why.
    pub(crate) fn turned(
        what: &str,
        is_on: bool,
        version: u64,
        (by, reason): (&str, &str),
    ) -> Self {
        let short = |text: &str| text.chars().take(REASON_MAX).collect::<String>();
        let at_ms = Clock::system().now().as_nanos() / 1_000_000;
        let (what, by, reason) = (what.to_owned(), short(by), short(reason));
        Self { what, is_on, version, by, reason, at_ms }
    }
}

/// What a register holds.
#[derive(Serialize, Deserialize)]
struct Held {
    is_on: bool,
    by: String,
    reason: String,
    at_ms: u64,
}

/// Every kill switch that was ever turned, by what it stops.
pub fn switches(ledger: &Ledger) -> Vec<SwitchStanding> {
    let of = ledger.list(SWITCHES).filter_map(|(key, register)| {
        let what = key.strip_prefix(SWITCHES)?.to_owned();
        // What cannot be read stops more rather than less.
        let held = serde_json::from_slice(&register.value).unwrap_or(Held {
            is_on: true,
            by: String::new(),
            reason: "its register cannot be read".into(),
            at_ms: 0,
        });
        let Held { is_on, by, reason, at_ms } = held;
        Some(SwitchStanding { what, is_on, version: register.version, by, reason, at_ms })
    });
    of.collect()
}

impl LedgerClient {
    /// Turns a kill switch on, or off again. To turn it on twice is another turn that changes nothing.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn turn_switch(
        &self,
        what: &str,
        is_on: bool,
        said: (&str, &str),
        patience: Duration,
    ) -> Result<(), LedgerError> {
        let SwitchStanding { is_on, by, reason, at_ms, .. } =
            SwitchStanding::turned(what, is_on, 0, said);
        let held = Held { is_on, by, reason, at_ms };
        let value = serde_json::to_vec(&held).unwrap_or_default();
        let key = format!("{SWITCHES}{what}");
        self.change(&key, patience, |_| Some(Some(value.clone()))).await.map(|_| ())
    }
}
