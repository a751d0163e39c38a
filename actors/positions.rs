//! The positions actor: what is held and what it has earned, from the ledger that risk keeps.
//!
//! ```text
//! risk ── Ledger: orders, fills, samples in final order ──▶ Positions
//! ```
//!
//! *Failover.* Its state is part of exec's checkpoint. An actor that has just started is blank until
//! risk begins a new epoch.
//!
//! *Delivery.* In lockstep with risk, see [`crate::kit::exec`].

use std::fmt;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use serde::{Deserialize, Serialize};
use tickwright_core::domain::{Instrument, InstrumentIndex, Price};
use tickwright_core::pipeline::positions::{Positions, PositionsConfig};

use crate::kit::exec::{Epoch, Ledger, LedgerEntry};
use crate::kit::{Chaos, Directory, Outlet, wire};

/// The role of positions.
pub const ROLE: &str = "positions";

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum PositionsMessage {
    /// From risk: begin this epoch with this state, or with none.
    Restore(Epoch, Option<Vec<u8>>),
    /// From risk.
    Ledger(Ledger),
    /// What is held?
    Report(RpcReplyPort<PositionsReport>),
}

/// What is held and was earned.
#[derive(Clone, Debug)]
pub struct PositionsReport {
    /// The books.
    pub positions: Positions,
    /// The last price of each instrument, by exec's number.
    pub marks: Vec<Option<Price>>,
}

/// What the actor is started with.
pub struct PositionsArguments {
    /// How much is kept for charts.
    pub config: PositionsConfig,
    /// Faults on command.
    pub chaos: Chaos,
    /// Where to register.
    pub directory: Directory,
    /// Reaches risk with the state it asked for.
    pub state: Outlet<(Epoch, Vec<u8>)>,
    /// Tells risk that this actor has started.
    pub hello: Outlet<()>,
}

impl fmt::Debug for PositionsArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PositionsArguments").finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct PositionsActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct PositionsState {
    arguments: PositionsArguments,
    epoch: Epoch,
    book: Book,
}

/// What survives: this actor's part of exec's checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Book {
    positions: Positions,
    /// By exec's number.
    instruments: Vec<Option<Arc<Instrument>>>,
    marks: Vec<Option<Price>>,
}

impl Book {
    fn new(config: &PositionsConfig) -> Self {
        let positions = Positions::new(*config);
        Self { positions, instruments: Vec::new(), marks: Vec::new() }
    }

    fn instrument(&self, index: InstrumentIndex) -> Result<&Arc<Instrument>, &'static str> {
        let instrument = self.instruments.get(index.index()).and_then(Option::as_ref);
        instrument.ok_or("an instrument that was never listed")
    }
}

impl Actor for PositionsActor {
    type Msg = PositionsMessage;
    type State = PositionsState;
    type Arguments = PositionsArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<PositionsMessage>,
        arguments: PositionsArguments,
    ) -> Result<PositionsState, ActorProcessingErr> {
        let book = Book::new(&arguments.config);
        arguments.directory.register(ROLE, &myself);
        // Risk is not there yet at the first start; then it begins the epoch by itself.
        let _ = arguments.hello.send(());
        Ok(PositionsState { arguments, epoch: 0, book })
    }

    async fn handle(
        &self,
        _myself: ActorRef<PositionsMessage>,
        message: PositionsMessage,
        state: &mut PositionsState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PositionsMessage::Restore(epoch, bytes) => {
                state.epoch = epoch;
                state.book = match bytes {
                    Some(bytes) => wire::decode(&bytes)?,
                    None => Book::new(&state.arguments.config),
                };
            }
            PositionsMessage::Ledger(ledger) if ledger.epoch == state.epoch => {
                state.enter(ledger)?;
            }
            // Left over from an epoch that has ended.
            PositionsMessage::Ledger(_) => {}
            PositionsMessage::Report(reply) => {
                let (positions, marks) = (state.book.positions.clone(), state.book.marks.clone());
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(PositionsReport { positions, marks });
            }
        }
        Ok(())
    }
}

impl PositionsState {
    fn enter(&mut self, ledger: Ledger) -> Result<(), ActorProcessingErr> {
        let book = &mut self.book;
        for listing in ledger.listings {
            let index = listing.index.index();
            if book.instruments.len() <= index {
                book.instruments.resize(index + 1, None);
            }
            book.instruments[index] = Some(listing.instrument);
        }
        for entry in ledger.entries {
            match entry {
                LedgerEntry::Order(order) => {
                    let instrument = Arc::clone(book.instrument(order.instrument)?);
                    book.positions.on_order(&order, &instrument);
                }
                LedgerEntry::Fill(fill, at) => {
                    let instrument = Arc::clone(book.instrument(fill.instrument)?);
                    book.positions.on_fill(&fill, &instrument, at);
                }
                LedgerEntry::Sample(at, marks) => {
                    for (index, price) in marks {
                        if book.marks.len() <= index.index() {
                            book.marks.resize(index.index() + 1, None);
                        }
                        book.marks[index.index()] = Some(price);
                    }
                    let marks = &book.marks;
                    let mark = |index: InstrumentIndex| marks.get(index.index()).copied().flatten();
                    book.positions.sample(at, mark);
                }
            }
        }
        self.arguments.chaos.strike("positions", 0, book.positions.counters().orders);
        if ledger.want_state {
            let bytes = wire::encode(book);
            // If risk has gone, its successor begins another epoch.
            let _ = self.arguments.state.send((self.epoch, bytes));
        }
        Ok(())
    }
}
