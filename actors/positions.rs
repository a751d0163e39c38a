//! The positions actor: what is held and what it has earned, from the ledger that risk keeps.
//!
//! ```text
//! risk ── Ledger: orders, fills, samples in final order ──▶ Positions ── Numbered ──▶ records
//! ```
//!
//! *Failover.* Its state is part of exec's checkpoint. An actor that has just started is blank until
//! risk begins a new epoch.
//!
//! *Delivery.* In lockstep with risk, see [`crate::kit::exec`]. Where all of it is recorded, its part of a
//! checkpoint is given only once everything before it is certain not to be lost, and with those rows that the
//! database has not got: whoever goes on from it records them too.

use std::fmt;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use serde::{Deserialize, Serialize};
use tickwright_core::domain::{
    AccountId, Fill, Instrument, InstrumentIndex, Money, Order, OrderId, Price, Quantity, Timestamp,
};
use tickwright_core::pipeline::positions::{Positions, PositionsConfig};
use tickwright_core::records::{Happening, Numbered};

use crate::kit::exec::{Epoch, Ledger, LedgerEntry};
use crate::kit::{Barrier, Carried, Chaos, Directory, Outlet, Recording, ResumedFrom, wire};

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
    /// Takes what is to be recorded, if anything is.
    pub recording: Option<Recording>,
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
    /// What came with the checkpoint, for whoever goes on after this: nothing is recorded here.
    carried: Carried,
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
        Ok(PositionsState { arguments, epoch: 0, book, carried: Carried::default() })
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
                state.restore(bytes)?;
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
        let mut recorded = Recorded::new(self.arguments.recording.is_some());
        for entry in ledger.entries {
            match entry {
                LedgerEntry::Order(order) => {
                    let instrument = Arc::clone(book.instrument(order.instrument)?);
                    book.positions.on_order(&order, &instrument);
                    recorded.order(&book.positions, order, instrument);
                }
                LedgerEntry::Fill(fill, at) => {
                    let instrument = Arc::clone(book.instrument(fill.instrument)?);
                    let before = recorded.realised(&book.positions, &fill);
                    if book.positions.on_fill(&fill, &instrument, at) {
                        recorded.fill(&book.positions, (fill, before), instrument, at);
                    }
                }
                LedgerEntry::Closed(order, index, remaining, at) => {
                    let instrument = Arc::clone(book.instrument(index)?);
                    recorded.ended(&book.positions, (order, remaining), instrument, at);
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
        if let Some(recording) = &self.arguments.recording
            && !recorded.happened.is_empty()
        {
            // As below.
            let _ = recording.happened.send(recorded.happened);
        }
        self.arguments.chaos.strike("positions", 0, book.positions.counters().orders);
        if ledger.want_state {
            let (epoch, book) = (self.epoch, wire::encode(&self.book));
            let state = self.arguments.state.clone();
            // If risk has gone, its successor begins another epoch.
            let give = move |carried| drop(state.send((epoch, joined(&book, &carried))));
            match &self.arguments.recording {
                // Whoever records and has gone has a successor, with which another epoch begins.
                Some(recording) => drop(recording.barrier.send(Barrier::Carrying(Box::new(give)))),
                None => give(self.carried.clone()),
            }
        }
        Ok(())
    }

    /// Begins with this actor's part of a checkpoint, or with nothing.
    fn restore(&mut self, bytes: Option<Vec<u8>>) -> Result<(), ActorProcessingErr> {
        let is_resumed = bytes.is_some();
        (self.book, self.carried) = match bytes {
            Some(bytes) => {
                let (book, carried) =
                    parted(&bytes).ok_or("a checkpoint of positions is cut off")?;
                (wire::decode(book)?, wire::decode(carried)?)
            }
            None => (Book::new(&self.arguments.config), Carried::default()),
        };
        if let Some(recording) = &self.arguments.recording {
            let carried = std::mem::take(&mut self.carried);
            if !carried.is_empty() {
                // Whoever records and has gone has a successor, with which another epoch begins.
                let _ = recording.carried.send(carried);
            }
            if is_resumed {
                // As above.
                let _ = recording.resumed.send(ResumedFrom::Checkpoint);
            }
        }
        self.record_all();
        Ok(())
    }

    /// Records what is held at the beginning of an epoch: the database may be new.
    fn record_all(&self) {
        let Some(recording) = &self.arguments.recording else { return };
        let positions = &self.book.positions;
        let held = positions.holdings().map(|(account, index, _, _)| (account, index));
        let held: Vec<Numbered> = held
            .filter_map(|(account, index)| {
                let instrument = Arc::clone(self.book.instrument(index).ok()?);
                // Since when is not known any more; a row that knows it is later, and stays.
                Some(position(positions, account, index, (instrument, Timestamp::default())))
            })
            .collect();
        if !held.is_empty() {
            let _ = recording.happened.send(held);
        }
    }
}

/// What happened, on its way to the database; nothing, where nothing is recorded.
struct Recorded {
    is_wanted: bool,
    happened: Vec<Numbered>,
}

impl Recorded {
    fn new(is_wanted: bool) -> Self {
        Self { is_wanted, happened: Vec::new() }
    }

    fn order(&mut self, positions: &Positions, order: Order, instrument: Arc<Instrument>) {
        if self.is_wanted {
            let happening = Happening::Order(order, instrument);
            self.happened.push(Numbered { number: number(positions), happening });
        }
    }

    /// What was realised before a fill.
    fn realised(&self, positions: &Positions, fill: &Fill) -> Money {
        positions.holding(fill.account, fill.instrument).position.realised
    }

    fn fill(
        &mut self,
        positions: &Positions,
        (fill, realised_before): (Fill, Money),
        instrument: Arc<Instrument>,
        at: Timestamp,
    ) {
        if !self.is_wanted {
            return;
        }
        let held = positions.holding(fill.account, fill.instrument).position;
        let (account, index) = (fill.account, fill.instrument);
        let happening = Happening::Fill {
            fill,
            instrument: Arc::clone(&instrument),
            at,
            realised: held.realised - realised_before,
            position: held.quantity,
        };
        self.happened.push(Numbered { number: number(positions), happening });
        self.happened.push(position(positions, account, index, (instrument, at)));
    }

    fn ended(
        &mut self,
        positions: &Positions,
        (order, remaining): (OrderId, Quantity),
        instrument: Arc<Instrument>,
        at: Timestamp,
    ) {
        if self.is_wanted {
            let happening = Happening::OrderEnded(order, remaining, instrument, at);
            self.happened.push(Numbered { number: number(positions), happening });
        }
    }
}

/// The place in exec's final order of what was entered last.
fn number(positions: &Positions) -> u64 {
    let counters = positions.counters();
    counters.orders + counters.fills
}

/// What `account` holds now.
fn position(
    positions: &Positions,
    account: AccountId,
    index: InstrumentIndex,
    (instrument, at): (Arc<Instrument>, Timestamp),
) -> Numbered {
    let holding = positions.holding(account, index);
    let (position, fees, fills) = (holding.position, holding.fees, holding.fills);
    let happening = Happening::Position { account, instrument, position, fees, fills, at };
    Numbered { number: number(positions), happening }
}

/// This actor's part of a checkpoint: the length of what is carried in eight bytes, what is carried, and the book,
/// which may be large, as it was encoded.
fn joined(book: &[u8], carried: &Carried) -> Vec<u8> {
    let carried = wire::encode(carried);
    [&(carried.len() as u64).to_le_bytes()[..], &carried, book].concat()
}

/// The book and what is carried; none, if that is not all there.
fn parted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (carried, book) = rest.split_at_checked(length)?;
    Some((book, carried))
}
