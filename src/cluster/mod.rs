//! The decisions of a cluster: who is in it, who is alive, who is linked to whom.
//!
//! Each core is fed what happened and returns what to do; sockets, timers and certificates are the
//! business of the actors of the same names.
//!
//! | Core             | Decides                                                        |
//! |------------------|----------------------------------------------------------------|
//! | [`Timings`]      | every time-out, from `cluster.heartbeat_ms`                    |
//! | [`Join`]         | which seed to ask next, and who may found a cluster            |
//! | [`Links`]        | whom to dial, which of two connections stays                   |
//! | [`Admission`]    | which unproven connection has to go when there are too many    |
//! | [`Membership`]   | what is known of every member, and how two views are merged    |
//! | [`Arrivals`]     | whether a silence means anything                               |
//! | [`Directory`]    | which node serves a role                                       |
//! | [`Allocator`]    | which node has which [`Unit`] of the pipeline, and who is next |
//! | [`Retries`]      | whether a unit that was given up here is begun here again      |
//! | [`Balancer`]     | which of several nodes is chosen, for anything                 |
//! | [`LoadWeights`]  | how loaded a node is                                           |
//! | [`EpochFence`] | which life of a unit may still speak                          |
//! | [`CopySet`]    | who keeps copies of a log, and what may be seen of it          |
//! | [`SendCredit`], [`ReceiveCredit`] | how much may be on the way to a peer          |
//! | [`Assembly`]     | how a large message is put together again                      |
//! | [`AccessRole`]   | who may ask what at the door for tools                         |

pub mod access;
mod admission;
mod allocation;
mod balance;
mod chunks;
mod credit;
mod detector;
mod directory;
mod epochs;
mod join;
mod links;
mod load;
mod log_copies;
mod membership;
mod timings;

pub use access::AccessRole;
pub use admission::Admission;
pub use allocation::{
    Allocator, AllocatorConfig, Assignment, Candidate, GivenUp, Holding, Move, Owners, Placing,
    Retries, Retry, Situation, Unit, fixed, highest, ranked,
};
pub use balance::{Balancer, Balancing, Choice};
pub use chunks::{Assembly, ChunkError, Part, parts};
pub use credit::{ReceiveCredit, SendCredit};
pub use detector::{Arrivals, LocalHealth, SUSPICION_PHI};
pub use directory::{Directory, Service};
pub use epochs::{EpochFence, StaleEpoch};
pub use join::{Answer, Join, JoinConfig, JoinEffect};
pub use links::{HelloVerdict, LinkNumber, Links, LinksConfig, LinksEffect, Peer, Ticket};
pub use load::{LoadSample, LoadWeights, queue_share};
pub use log_copies::{CopySet, Lineage, LogState, Stretch};
pub use membership::{
    Beat, BeatBody, Claim, MemberView, Membership, MembershipEffect, Profile, Record, Status,
};
pub use timings::Timings;
