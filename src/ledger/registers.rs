//! Values by key, each with the version it was written at.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::{Answer, Event, NAME_BYTES_MAX, Outcome, Refusal, VALUE_BYTES_MAX};

/// Registers there may be.
const REGISTERS_MAX: usize = 65_536;

/// Bytes that all keys and values together may have: a snapshot is kept in memory and sent whole.
const BYTES_MAX: u64 = 32 << 20;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The revision at which it was written: grows with every write, and is never used again, even if
    /// the register is removed and comes back.
    pub version: u64,
    /// What it holds.
    pub value: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registers {
    /// At most [`REGISTERS_MAX`].
    all: BTreeMap<String, Register>,
    /// Of keys and values; at most [`BYTES_MAX`].
    bytes: u64,
}

impl Registers {
    pub(super) fn read(&self, key: &str) -> Option<&Register> {
        self.all.get(key)
    }

    pub(super) fn list<'l>(
        &'l self,
        prefix: &'l str,
    ) -> impl Iterator<Item = (&'l str, &'l Register)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.all
            .range::<str, _>(from)
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, register)| (key.as_str(), register))
    }

    pub(super) fn cas(
        &mut self,
        key: &str,
        expected: u64,
        value: Option<&[u8]>,
        revision: u64,
        events: &mut Vec<Event>,
    ) -> Answer {
        check_length(key.len(), NAME_BYTES_MAX)?;
        check_length(value.map_or(0, <[u8]>::len), VALUE_BYTES_MAX)?;
        let current = self.all.get(key);
        let version = current.map_or(0, |register| register.version);
        if version != expected {
            return Err(Refusal::Conflict { expected, version });
        }
        let before = current.map_or(0, |register| size(key, &register.value));
        let after = value.map_or(0, |value| size(key, value));
        let bytes = self.bytes.saturating_sub(before).saturating_add(after);
        if current.is_none() && value.is_some() && self.all.len() >= REGISTERS_MAX {
            let limit = REGISTERS_MAX as u64;
            return Err(Refusal::Full { what: "registers".into(), limit });
        }
        if after > before && bytes > BYTES_MAX {
            return Err(Refusal::Full { what: "bytes of registers".into(), limit: BYTES_MAX });
        }
        self.bytes = bytes;
        match value {
            Some(value) => {
                let register = Register { version: revision, value: value.to_vec() };
                self.all.insert(key.to_owned(), register);
            }
            None => {
                self.all.remove(key);
            }
        }
        if current_differs(version, value) {
            let value = value.map(<[u8]>::to_vec);
            events.push(Event::Register { key: key.to_owned(), version: revision, value });
        }
        Ok(Outcome::Written { version: revision })
    }
}

/// Removing what is not there is no news.
fn current_differs(version: u64, value: Option<&[u8]>) -> bool {
    version != 0 || value.is_some()
}

fn size(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

pub(super) fn check_length(bytes: usize, limit: usize) -> Result<(), Refusal> {
    if bytes > limit {
        return Err(Refusal::TooLarge { bytes: bytes as u64, limit: limit as u64 });
    }
    Ok(())
}
