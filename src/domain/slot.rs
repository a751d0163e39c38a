//! Order slots: what must be agreed on before an order may leave for an exchange.
//!
//! ```text
//! Free{generation} ── Open ──▶ Intent{attempt, deadline} ── Placed ──▶ Placed ── End ──▶ Free{next}
//!                                  │  ▲ Retry: attempt + 1             │  Close ▼ ▲ End
//!                                  └──┴── Quarantine, for a person     └─ Closing ┘
//! ```
//!
//! A slot is a place for one order at a time: an exchange, an account, a symbol, a side, a price level.
//! Whoever wants to send an order first has the intent to do so written down, with everything that
//! makes it one particular request; and whoever finds such an intent knows that a request may be on
//! its way, until the exchange's own clock has passed the deadline in it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{OrderId, Price, Quantity, Side, Symbol, Timestamp};

/// An account at an exchange, by the names that configuration gives them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VenueAccount {
    /// The exchange.
    pub exchange: String,
    /// The account.
    pub account: String,
}

impl fmt::Display for VenueAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.exchange, self.account)
    }
}

/// A place for one order at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotKey {
    /// Where.
    pub venue: VenueAccount,
    /// What.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// Which prices, see [`PriceLevels`].
    pub level: i64,
}

impl fmt::Display for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Buy => "buy",
            Side::Sell => "sell",
        };
        write!(f, "{}/{}/{side}/{}", self.venue, self.symbol.as_str(), self.level)
    }
}

/// Which prices share a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PriceLevels {
    /// All of them.
    One,
    /// Those of an interval so wide, in steps of the instrument's price; at least 1.
    Interval(i64),
    /// Each has its own.
    Exact,
}

impl PriceLevels {
    /// The level of `price`.
    pub const fn of(self, price: Price) -> i64 {
        match self {
            Self::One => 0,
            Self::Interval(width) => price.0.div_euclid(if width < 1 { 1 } else { width }),
            Self::Exact => price.0,
        }
    }
}

/// What asked for an order: it may lead to one accepted order, ever, at whatever exchange.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SignalIdentity {
    /// Which pipeline: the same data may be traded on again by another.
    pub run: String,
    /// Whose wish it is.
    pub strategy: String,
    /// Of which symbol.
    pub symbol: Symbol,
    /// The row that was answered, and which of several answers it is.
    pub id: OrderId,
}

impl SignalIdentity {
    /// What stands for it in client order ids.
    pub fn tag(&self) -> SignalTag {
        let mut hasher = blake3::Hasher::new();
        put_text(&mut hasher, "signal");
        for text in [&self.run, &self.strategy, self.symbol.as_str()] {
            put_text(&mut hasher, text);
        }
        let OrderId { key, ordinal } = self.id;
        hasher.update(&key.frontier.as_nanos().to_le_bytes());
        hasher.update(&key.source.0.to_le_bytes());
        hasher.update(&key.sequence.to_le_bytes());
        hasher.update(&ordinal.to_le_bytes());
        SignalTag(first_bytes(&hasher.finalize()) & SignalTag::MASK)
    }
}

/// A signal as 60 bits, for exchanges to remember it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SignalTag(u64);

impl SignalTag {
    const DIGITS: usize = 12;
    const MASK: u64 = (1 << (5 * Self::DIGITS)) - 1;
}

/// The name under which an exchange is given an order: 36 characters, `tw-` first.
///
/// Twenty digits of base 32 are a hash of (cluster, slot, generation), so that whoever sends what a
/// generation asks for sends it under one name. Twelve are the signal's tag: an exchange can then be
/// asked which signals are spent when nobody else remembers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientOrderId(String);

impl ClientOrderId {
    const PREFIX: &str = "tw-";
    const HASH_DIGITS: usize = 20;
    const LEN: usize = Self::PREFIX.len() + Self::HASH_DIGITS + 1 + SignalTag::DIGITS;

    /// The name for what `slot` holds in `generation`, in the ledger numbered `cluster`.
    pub fn new(cluster: u64, slot: &SlotKey, generation: u64, tag: SignalTag) -> Self {
        let mut hasher = blake3::Hasher::new();
        put_text(&mut hasher, "slot");
        hasher.update(&cluster.to_le_bytes());
        let SlotKey { venue, symbol, side, level } = slot;
        for text in [&venue.exchange, &venue.account, symbol.as_str()] {
            put_text(&mut hasher, text);
        }
        hasher.update(&[u8::from(*side == Side::Sell)]);
        hasher.update(&level.to_le_bytes());
        hasher.update(&generation.to_le_bytes());
        let hash = hasher.finalize();
        let mut text = Self::PREFIX.to_owned();
        for byte in &hash.as_bytes()[..Self::HASH_DIGITS] {
            text.push(digit(u64::from(*byte)));
        }
        text.push('-');
        for place in (0..SignalTag::DIGITS).rev() {
            text.push(digit(tag.0 >> (5 * place)));
        }
        Self(text)
    }

    /// A name that an exchange gave out; none, if it is not one of ours.
    pub fn parse(name: &str) -> Option<Self> {
        Self::tag_in(name).map(|_| Self(name.to_owned()))
    }

    /// The signal in a name that an exchange gave out; none, if it is not one of ours.
    pub fn tag_in(name: &str) -> Option<SignalTag> {
        if name.len() != Self::LEN || !name.starts_with(Self::PREFIX) {
            return None;
        }
        let digits = name.as_bytes().get(Self::LEN - SignalTag::DIGITS..)?;
        let mut tag = 0;
        for byte in digits {
            let value = DIGITS.iter().position(|digit| digit == byte)?;
            tag = tag << 5 | value as u64;
        }
        Some(SignalTag(tag))
    }

    /// What stands for the slot and its generation in a name that an exchange gave out: whatever was sent for one
    /// generation has the same. None, if it is not one of ours.
    pub fn slot_part_in(name: &str) -> Option<&str> {
        Self::tag_in(name)?;
        name.get(..Self::PREFIX.len() + Self::HASH_DIGITS)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientOrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Of base 32, without letters that are taken for digits.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn digit(value: u64) -> char {
    char::from(DIGITS[(value & 31) as usize])
}

/// With its length first, so that no two lists of texts hash alike.
fn put_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

fn first_bytes(hash: &blake3::Hash) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// What is meant to be sent, written down before it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderIntent {
    /// What asked for it.
    pub signal: SignalIdentity,
    /// Its name at the exchange.
    pub client_id: ClientOrderId,
    /// How much.
    pub quantity: Quantity,
    /// The worst price acceptable.
    pub limit_price: Price,
    /// Until when the exchange may take it, by the exchange's own clock.
    pub deadline: Timestamp,
    /// BLAKE3 of the request, to the letter.
    pub request: [u8; 32],
}

/// What became of a generation of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotOutcome {
    /// The exchange had the order, and it is over there.
    Closed,
    /// The exchange refused it, and may never accept it any more.
    Refused,
    /// It never got there, and cannot any more.
    NotPlaced,
    /// A person said so.
    Released,
}

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotState {
    /// Nothing.
    Free,
    /// A request that may be on its way.
    Intent {
        /// What.
        intent: OrderIntent,
        /// How often it may have been sent; from 1.
        attempt: u32,
    },
    /// An order that the exchange has.
    Placed {
        /// What.
        intent: OrderIntent,
    },
    /// Nobody can find out whether the exchange has it.
    Quarantine {
        /// What.
        intent: OrderIntent,
        /// How often it may have been sent.
        attempt: u32,
    },
    /// An order that the exchange has, and that is to be cancelled.
    Closing {
        /// What.
        intent: OrderIntent,
    },
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Which use of it this is, or the next one will be. Only grows, but not by ones.
    pub generation: u64,
    /// What it holds.
    pub state: SlotState,
    /// What became of the generation before.
    pub last: Option<EndedIntent>,
}

impl Slot {
    /// The intent of an order that is not over.
    pub const fn intent(&self) -> Option<&OrderIntent> {
        match &self.state {
            SlotState::Free => None,
            SlotState::Intent { intent, .. }
            | SlotState::Placed { intent }
            | SlotState::Closing { intent }
            | SlotState::Quarantine { intent, .. } => Some(intent),
        }
    }
}

/// An intent that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedIntent {
    /// Of which generation.
    pub generation: u64,
    /// What had asked for it.
    pub signal: SignalIdentity,
    /// What became of it.
    pub outcome: SlotOutcome,
    /// Whether another exchange was given it since.
    pub is_passed_on: bool,
}

/// By what right an intent may be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotRight {
    /// Its signal was never used: signals of a symbol are used in their order.
    NewSignal,
    /// Its signal was used, and this generation of this slot was refused for good.
    RefusedBy {
        /// Which slot.
        slot: SlotKey,
        /// Which use of it.
        generation: u64,
    },
}

/// A change of slots. The order of the variants is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotCommand {
    /// Gives the slots of a ledger that has none a number, so that names at exchanges are of it alone.
    Found {
        /// Drawn at random.
        cluster: u64,
    },
    /// What the exchange has of this account is known, and nothing older is under way: it may be used.
    Reconciled {
        /// Which.
        venue: VenueAccount,
    },
    /// Takes the next number of a session at the exchange, see [`Slot`].
    Seal {
        /// Of which account.
        venue: VenueAccount,
    },
    /// Writes an intent down.
    Open {
        /// Where.
        slot: SlotKey,
        /// The slot's generation.
        generation: u64,
        /// What.
        intent: Box<OrderIntent>,
        /// Why it may be.
        right: SlotRight,
    },
    /// The request was not and will not be taken: another is to be sent.
    Retry {
        /// Where.
        slot: SlotKey,
        /// The slot's generation.
        generation: u64,
        /// Which attempt failed.
        attempt: u32,
        /// Of the next one.
        deadline: Timestamp,
        /// Of the next one.
        request: [u8; 32],
    },
    /// The exchange has it.
    Placed {
        /// Where.
        slot: SlotKey,
        /// The slot's generation.
        generation: u64,
    },
    /// It is over.
    End {
        /// Where.
        slot: SlotKey,
        /// The slot's generation.
        generation: u64,
        /// Only if this is still the last attempt; none, whichever it is.
        attempt: Option<u32>,
        /// What became of it.
        outcome: SlotOutcome,
    },
    /// Nobody can find out what became of it.
    Quarantine {
        /// Where.
        slot: SlotKey,
        /// The slot's generation.
        generation: u64,
    },
    /// The exchange has it, and it is to be cancelled.
    Close {
        /// Where.
        slot: SlotKey,
        /// The slot's generation.
        generation: u64,
    },
}

/// A change was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotDone {
    /// That is all.
    Done,
    /// The number of the ledger's slots.
    Cluster(u64),
    /// The number of the session.
    Sealed(u64),
}

/// A change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SlotRefusal {
    /// The slot is at another generation, or holds something else.
    #[error("the slot is at generation {generation}, attempt {attempt}")]
    Conflict {
        /// Which it is at.
        generation: u64,
        /// The attempt of the intent it holds; 0, if it is free, and `u32::MAX` once the order is placed.
        attempt: u32,
    },
    /// The signal was used before.
    #[error("the signal has been used")]
    Consumed,
    /// The other exchange may have the order, or its refusal was passed on before.
    #[error("no refusal of the other exchange is on record")]
    NotRefused,
    /// The account was not reconciled since this ledger began.
    #[error("the account has to be reconciled with its exchange first")]
    NotReconciled,
    /// There is no room.
    #[error("the ledger holds as many {what} as it can: {limit}")]
    Full {
        /// Of what.
        what: String,
        /// How many there may be.
        limit: u64,
    },
    /// A name is too long.
    #[error("a name is longer than {limit} bytes")]
    TooLong {
        /// How long it may be.
        limit: u64,
    },
    /// It was not asked for: nobody keeps the lock of the order. See [`super::LockCommand`].
    #[error("{reason}")]
    NoLock {
        /// Why.
        reason: String,
    },
    /// It was not asked for: another has the lock without which the strategy opens nothing.
    #[error("another has lock {key} of its strategy")]
    LockHeld {
        /// Which.
        key: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Key, SourceId};

    fn slot() -> SlotKey {
        SlotKey {
            venue: VenueAccount { exchange: "sim".into(), account: "main".into() },
            symbol: Symbol::new("BTCUSDT.SIM").unwrap(),
            side: Side::Buy,
            level: 7,
        }
    }

    fn signal() -> SignalIdentity {
        let frontier = Timestamp::from_nanos(5);
        let key = Key { frontier, source: SourceId(1), sequence: 9 };
        SignalIdentity {
            run: "live".into(),
            strategy: "bollinger".into(),
            symbol: Symbol::new("BTCUSDT.SIM").unwrap(),
            id: OrderId { key, ordinal: 2 },
        }
    }

    #[test]
    fn a_client_order_id_is_of_36_safe_characters_and_gives_its_signal_back() {
        let tag = signal().tag();
        let id = ClientOrderId::new(1, &slot(), 0, tag);
        assert_eq!(id.as_str().len(), 36);
        assert!(id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        assert_eq!(ClientOrderId::tag_in(id.as_str()), Some(tag));
        for other in ["", "web_1", "tw-", &"x".repeat(36), &format!("tw-{}!", "0".repeat(32))] {
            assert_eq!(ClientOrderId::tag_in(other), None, "{other}");
        }
    }

    #[test]
    fn all_of_cluster_slot_generation_and_signal_make_the_client_order_id() {
        let base = ClientOrderId::new(1, &slot(), 0, signal().tag());
        assert_eq!(base, ClientOrderId::new(1, &slot(), 0, signal().tag()));
        let mut others = vec![
            ClientOrderId::new(2, &slot(), 0, signal().tag()),
            ClientOrderId::new(1, &slot(), 1, signal().tag()),
            ClientOrderId::new(1, &SlotKey { side: Side::Sell, ..slot() }, 0, signal().tag()),
            ClientOrderId::new(1, &SlotKey { level: 8, ..slot() }, 0, signal().tag()),
        ];
        for venue in [("sim", "second"), ("other", "main")] {
            let (exchange, account) = (venue.0.into(), venue.1.into());
            let at = SlotKey { venue: VenueAccount { exchange, account }, ..slot() };
            others.push(ClientOrderId::new(1, &at, 0, signal().tag()));
        }
        let mut other = signal();
        other.id.ordinal += 1;
        others.push(ClientOrderId::new(1, &slot(), 0, other.tag()));
        others.push(base);
        let count = others.len();
        others.sort();
        others.dedup();
        assert_eq!(others.len(), count);
    }

    #[test]
    fn a_generation_of_a_slot_has_one_part_of_the_name_whatever_the_signal() {
        let name = |generation, ordinal| {
            let id = OrderId { ordinal, ..signal().id };
            let tag = SignalIdentity { id, strategy: format!("s{ordinal}"), ..signal() }.tag();
            ClientOrderId::new(1, &slot(), generation, tag)
        };
        let part =
            |name: &ClientOrderId| ClientOrderId::slot_part_in(name.as_str()).unwrap().to_owned();
        let first = name(0, 0);
        for ordinal in 1..100 {
            let other = name(0, ordinal);
            assert_ne!(first, other);
            assert_eq!(part(&first), part(&other));
            assert_ne!(part(&first), part(&name(u64::from(ordinal), 0)));
        }
        let (before, tag) = first.as_str().rsplit_once('-').unwrap();
        assert_eq!((part(&first).as_str(), tag.len()), (before, SignalTag::DIGITS));
        assert_eq!(ClientOrderId::slot_part_in("web_1"), None);
    }

    #[test]
    fn prices_fall_into_levels() {
        assert_eq!(PriceLevels::One.of(Price(123)), 0);
        assert_eq!(PriceLevels::Exact.of(Price(123)), 123);
        let tens = PriceLevels::Interval(10);
        assert_eq!([-1, 0, 9, 10].map(|price| tens.of(Price(price))), [-1, 0, 0, 1]);
        assert_eq!(PriceLevels::Interval(0).of(Price(3)), 3, "no width is a width of one");
    }
}
