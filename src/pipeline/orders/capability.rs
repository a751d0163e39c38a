//! What an exchange can do, and what guarantee that yields.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which client order ids an exchange refuses because it has them already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deduplication {
    /// Every one it ever accepted.
    All,
    /// Those of orders that are open.
    Open,
    /// None.
    None,
}

/// What an exchange can do: its capability record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Which repeated client order ids it refuses.
    pub deduplication: Deduplication,
    /// Whether it takes no request after the deadline in it, by its own clock.
    pub deadline: bool,
    /// Whether it can be asked for an order by its client order id, open or not.
    pub query: bool,
    /// Whether it tells its time.
    pub server_time: bool,
    /// Whether a session with a higher number shuts out all requests of lower ones.
    pub exclusive_session: bool,
}

impl Capabilities {
    /// Those of Binance's spot exchange: ids are told apart among open orders alone.
    pub const BINANCE: Self = Self {
        deduplication: Deduplication::Open,
        deadline: true,
        query: true,
        server_time: true,
        exclusive_session: false,
    };

    /// How an order of unknown outcome is resolved.
    pub const fn resolution(&self) -> Resolution {
        if !self.query {
            Resolution::Quarantine
        } else if self.deadline && self.server_time {
            Resolution::Deadline
        } else if self.exclusive_session {
            Resolution::Seal
        } else if matches!(self.deduplication, Deduplication::All) {
            Resolution::Repeat
        } else {
            Resolution::Quarantine
        }
    }
}

/// How an order of unknown outcome is resolved, and so what is guaranteed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The exchange is asked once its own clock is past the deadline: what it does not have then, it
    /// never will.
    Deadline,
    /// Earlier requests are shut out by a new session; then the exchange is asked.
    Seal,
    /// The same request is sent under the same id until there is an answer: the exchange takes it once.
    Repeat,
    /// Not at all: the slot is closed until a person has looked.
    Quarantine,
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Deadline => {
                "no order twice; one of unknown outcome is resolved after its deadline, by the \
                 exchange's clock"
            }
            Self::Seal => {
                "no order twice; one of unknown outcome is resolved after a new session has shut \
                 out the requests of the one before"
            }
            Self::Repeat => {
                "no order twice; one of unknown outcome is sent again under its id until there is \
                 an answer"
            }
            Self::Quarantine => {
                "no order twice; one of unknown outcome closes its slot until a person releases it"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guarantee_follows_from_what_the_exchange_can_do() {
        let all = Capabilities { exclusive_session: true, ..Capabilities::BINANCE };
        let of = |capabilities: Capabilities| capabilities.resolution();
        assert_eq!(of(Capabilities::BINANCE), Resolution::Deadline);
        assert_eq!(of(all), Resolution::Deadline);
        assert_eq!(of(Capabilities { deadline: false, ..all }), Resolution::Seal);
        let unsealed = Capabilities { exclusive_session: false, server_time: false, ..all };
        assert_eq!(of(unsealed), Resolution::Quarantine);
        let once = Capabilities { deduplication: Deduplication::All, ..unsealed };
        assert_eq!(of(once), Resolution::Repeat);
        assert_eq!(of(Capabilities { query: false, ..all }), Resolution::Quarantine);
    }
}
