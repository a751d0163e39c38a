//! Searching for better parameters: what to try next, how good it was, and what is best anywhere.
//!
//! ```text
//! Space ─▶ Search::ask ─▶ Exploration: leases ─▶ a backtest of the point ─▶ Metrics ─▶ score
//!              ▲                  │                                             │
//!              └── tell ──────────┴──────────── Trial: immutable, recomputable ◀┘
//!                                                  │
//!                              BestSet ◀─ join ─▶ BestSet of every other node
//! ```
//!
//! The searching itself knows points and scores and nothing of trading, so it can be tested on
//! functions whose best is known.
//!
//! # Invariants
//!
//! 1. Every point asked for lies in its space and keeps its constraints.
//! 2. What is asked for follows from the space, the seed, and the order of what was asked and told.
//! 3. A trial is counted once, whatever is leased, lost, and finished twice.
//! 4. The join of best sets is associative, commutative and idempotent: nodes that have heard of the
//!    same trials have the same best, in whatever order and however often they heard.
//! 5. A trial follows from its strategy, parameters, seed, rows and configuration: whoever has the
//!    data computes the same score, to the last bit.

pub mod adopted;
pub mod adoption;
pub mod best;
pub mod exploration;
pub mod hub;
pub mod importance;
pub mod live_score;
pub mod overfitting;
pub mod random;
pub mod report;
pub mod score;
pub mod search;
pub mod space;
pub mod study;
pub mod trial;
pub mod walk_forward;

pub use adoption::{Adoption, AdoptionConfig, AdoptionMode};
pub use best::BestSet;
pub use exploration::{Exploration, Lease, Limits, SLOTS, StopReason};
pub use hub::{Hub, HubConfig, HubEffect, HubMessage};
pub use live_score::LiveScore;
pub use random::Random;
pub use score::{Metrics, SharpeScale, Weights};
pub use search::{Search, SearchKind};
pub use space::{Constraint, Dimension, Domain, Point, Space, SpaceError};
pub use study::Study;
pub use trial::Trial;
pub use walk_forward::Fold;
