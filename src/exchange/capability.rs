//! What the exchange can do for somebody who must not place an order twice, and what it cannot.

use serde::{Deserialize, Serialize};

/// Among which orders a client's id is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dedup {
    /// Among all orders of the account that there ever were.
    All,
    /// Among its open orders.
    Open,
    /// Among none.
    None,
}

/// The capability record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Among which orders a client's id is used once.
    pub dedup: Dedup,
    /// Whether a request is refused that is taken after its `recvWindow`.
    pub deadline: bool,
    /// Whether orders and trades can be asked for.
    pub query: bool,
    /// Whether the time can be asked for.
    pub server_time: bool,
    /// Whether an account can be sealed to a new owner.
    pub exclusive_session: bool,
}

impl Default for Capabilities {
    /// As the real exchange does it.
    fn default() -> Self {
        Self {
            dedup: Dedup::Open,
            deadline: true,
            query: true,
            server_time: true,
            exclusive_session: false,
        }
    }
}

/// Why a capability cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no capability; there are dedup=all|open|none and, true or false, deadline, query, \
     server_time, exclusive_session"
)]
pub struct CapabilityError(String);

impl Capabilities {
    /// Sets one of them by `KEY=VALUE`.
    ///
    /// # Errors
    ///
    /// [`CapabilityError`], and nothing has changed.
    pub fn set(&mut self, text: &str) -> Result<(), CapabilityError> {
        let wrong = || CapabilityError(text.to_owned());
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        if key == "dedup" {
            self.dedup = match value {
                "all" => Dedup::All,
                "open" => Dedup::Open,
                "none" => Dedup::None,
                _ => return Err(wrong()),
            };
            return Ok(());
        }
        let place = match key {
            "deadline" => &mut self.deadline,
            "query" => &mut self.query,
            "server_time" => &mut self.server_time,
            "exclusive_session" => &mut self.exclusive_session,
            _ => return Err(wrong()),
        };
        *place = value.parse().map_err(|_| wrong())?;
        Ok(())
    }

    /// These with what `json`, an object of some of the keys, says of them.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn with(self, json: &serde_json::Value) -> Result<Self, String> {
        let changes = json.as_object().ok_or("is not an object of capabilities")?;
        let mut all = serde_json::to_value(self).map_err(|error| error.to_string())?;
        for (key, value) in changes {
            all[key] = value.clone();
        }
        serde_json::from_value(all).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_set_one_by_one_and_what_is_none_is_refused() {
        let mut capabilities = Capabilities::default();
        for text in ["dedup=all", "deadline=false", "exclusive_session=true"] {
            capabilities.set(text).unwrap();
        }
        assert_eq!(capabilities.dedup, Dedup::All);
        assert!(!capabilities.deadline && capabilities.exclusive_session && capabilities.query);
        for text in ["dedup", "dedup=some", "query=yes", "speed=true"] {
            assert!(capabilities.set(text).unwrap_err().to_string().contains(text));
        }
        let changed = capabilities.with(&serde_json::json!({ "dedup": "none", "query": false }));
        assert_eq!(changed.as_ref().unwrap().dedup, Dedup::None);
        assert!(!changed.unwrap().query);
        for wrong in [serde_json::json!({ "speed": 1 }), serde_json::json!([])] {
            assert!(capabilities.with(&wrong).is_err());
        }
    }
}
