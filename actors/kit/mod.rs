//! What every actor is built with.
//!
//! | Piece           | For                                                                 |
//! |-----------------|---------------------------------------------------------------------|
//! | [`Clock`]       | the only place the time of day is read                              |
//! | [`Store`]       | what must survive the process                                       |
//! | [`Checkpoints`] | a stage's state at some keys                                        |
//! | [`ArrivalLog`]  | the order in which exec took its inputs as they arrived             |
//! | [`Journal`]     | what a source that cannot be read again has said                    |
//! | [`Producer`], [`Consumer`] | the two ends of a stream                                 |
//! | [`StageActor`], [`Work`] | a stage from streams to streams, and what is one's own in it |
//! | [`Inbox`]       | what an actor need not be woken for                                 |
//! | [`Directory`]   | who does which job                                                  |
//! | [`Outlet`]      | one kind of output, wired by the node                               |
//! | [`LiveValues`] | values that may change while actors run                            |
//! | [`Secrets`]     | secrets of the shared configuration, opened where they are needed   |
//! | [`Tokens`]      | by which tools say who asks                                         |
//! | [`Recording`]   | what people are to find in the database                             |
//! | [`Supervisor`]  | starting children in order and restarting them by policy            |
//! | [`Chaos`]       | faults on command                                                   |
//! | [`Gate`]        | holds sources where a node is to be harmed                          |

mod arrivals;
pub mod certificate;
mod chaos;
mod checkpoints;
mod clock;
mod control;
mod directory;
pub mod exec;
mod gate;
mod handover;
mod inbox;
mod journal;
mod link;
mod live;
mod log_copy;
mod outlet;
pub mod process;
mod recording;
mod secrets;
mod stage;
mod store;
mod streams;
mod supervisor;
mod tokens;
mod whole_file;
pub mod wire;

pub use arrivals::{ARRIVALS_TREE, ArrivalLog, ArrivalsMissing, ArrivalsStored, Arrived};
pub use chaos::{Chaos, InjectedPanic};
pub use checkpoints::{
    CheckpointCopy, Checkpoints, CopyOutlet, Stored, Verdict, checkpoint_tree, key_of,
};
pub use clock::{Clock, monotonic_nanos};
pub use control::{ControlLog, ControlView};
pub use directory::{Directory, Undelivered};
pub use gate::Gate;
pub use handover::{Closed, Handover};
pub use inbox::Inbox;
pub use journal::{Entry, Journal, JournalError, journal_tree};
pub use link::{Consumer, Delivery, Demand, Producer, Sink};
pub use live::{LiveNumber, LiveStanding, LiveValues};
pub use log_copy::{LogCopy, LogOutlet, append_to_log};
pub use outlet::Outlet;
pub use recording::{
    Barrier, Carried, FactorRecording, RecordedFactors, RecordedTicks, Recording, ResumedFrom,
};
pub use secrets::{KeyFileTask, KeyRing, SecretError, SecretText, Secrets, see_to_key_file};
pub use stage::{
    MessageOf, Rows, Stage, StageActor, StageLinks, StageMessage, StageReport, StageSettings, Work,
};
pub use store::{CommitPolicy, DiskFaults, Done, Opened, Record, Store, StoreError, StoreOptions};
pub use streams::StageStreams;
pub use supervisor::{
    Branch, ChildSpec, KillError, SupervisionStatistics, Supervisor, SupervisorArguments,
    SupervisorMessage,
};
pub use tokens::{
    TokenError, TokenHolder, TokenTask, Tokens, TokensTold, read_token, see_to_tokens, token_of,
};
pub use whole_file::write_whole;
