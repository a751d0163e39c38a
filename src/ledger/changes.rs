//! Changes of parameters that all nodes agree on, and the hold under which the next one is made.
//!
//! ```text
//! Hold at T ─▶ who has not passed T waits there ─▶ Record, for T or later ─▶ Release
//!    └─ Renew, or it expires; and it ends with the session of whoever asked for it
//! ```
//!
//! Whoever records has asked every part of the pipeline how far it is, and names the life of each that it
//! has asked: one that is another's by now may be further.
//!
//! # Invariants
//!
//! 1. At most one hold is in force, and a change is made under that alone, at its time or later.
//! 2. Holds are numbered by the revision at which they began, so a later one has a greater number.
//! 3. Changes are only added while a run lasts, and are bounded in number and bytes.

use serde::{Deserialize, Serialize};

use super::allocation::Allocations;
use super::{Answer, Event, Outcome, Refusal, SessionId};
use crate::domain::{
    CHANGE_COUNT_MAX, Control, Hold, MadeChange, ParameterChange, Span, Timestamp,
};

/// Bytes that all changes together may have: a snapshot is kept in memory and sent whole.
const BYTES_MAX: u64 = 4 << 20;

/// Longest name of a parameter, and longest text of who made a change and why, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// Parameters in one change.
const PARAMETERS_MAX: usize = 64;

/// Longest life of a hold that is not renewed.
const LEASE_MAX: Span = Span::from_secs(3_600);

/// What to do with changes of parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlCommand {
    /// The run that goes by this number is over: nothing changes any more.
    End {
        /// Which.
        run: u64,
    },
    /// Another run begins, if the one of this number is over.
    Begin {
        /// Which is over.
        run: u64,
    },
    /// Nobody is to pass a time.
    Hold {
        /// Whose hold it is; it ends with that.
        session: SessionId,
        /// The time.
        at: Timestamp,
        /// How long it lasts without being renewed.
        lease: Span,
    },
    /// The hold is needed still.
    Renew {
        /// Which.
        number: u64,
    },
    /// The hold is not needed any more.
    Release {
        /// Which.
        number: u64,
    },
    /// The hold was not renewed for too long.
    Expire {
        /// Which.
        number: u64,
        /// How often it had been renewed when that was found: a renewal meanwhile saves it.
        renewals: u64,
    },
    /// Parameters change under the hold that is in force.
    Record {
        /// Which hold.
        number: u64,
        /// The change.
        change: AgreedChange,
        /// Every part of the pipeline that has not passed the time, and in which life, where it has lives.
        asked: Vec<(String, u64)>,
        /// Whether the hold ends with it.
        releases: bool,
    },
}

/// A change as it crosses nodes: values as their bits, for they must be equal to the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedChange {
    /// Holds from the first row whose frontier is not before this.
    pub at: Timestamp,
    /// The strategy's place in the configuration.
    pub strategy: u16,
    /// Names, and the bits of values.
    pub parameters: Vec<(String, u64)>,
    /// Who made it.
    pub by: String,
    /// Why.
    pub why: String,
}

impl AgreedChange {
    /// `change`, made by `by` because of `why`; texts are cut to what is kept of them.
    pub fn new(change: &ParameterChange, by: &str, why: &str) -> Self {
        let short = |text: &str| text.chars().take(TEXT_BYTES_MAX / 4).collect::<String>();
        let value = |(name, value): &(String, f64)| (name.clone(), value.to_bits());
        Self {
            at: change.at,
            strategy: u16::try_from(change.strategy).unwrap_or(u16::MAX),
            parameters: change.parameters.iter().map(value).collect(),
            by: short(by),
            why: short(why),
        }
    }

    /// The change.
    pub fn change(&self) -> ParameterChange {
        let value = |(name, bits): &(String, u64)| (name.clone(), f64::from_bits(*bits));
        ParameterChange {
            at: self.at,
            strategy: usize::from(self.strategy),
            parameters: self.parameters.iter().map(value).collect(),
        }
    }

    fn bytes(&self) -> u64 {
        let names = self.parameters.iter().map(|(name, _)| name.len() + size_of::<u64>());
        (names.sum::<usize>() + self.by.len() + self.why.len() + size_of::<Self>()) as u64
    }

    fn is_too_long(&self) -> bool {
        let texts = self.parameters.iter().map(|(name, _)| name).chain([&self.by, &self.why]);
        self.parameters.len() > PARAMETERS_MAX
            || texts.into_iter().any(|text| text.len() > TEXT_BYTES_MAX)
    }
}

/// A hold that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedHold {
    /// Nobody passes this.
    pub at: Timestamp,
    /// Whose it is.
    pub session: SessionId,
    /// How long it lasts without being renewed.
    pub lease: Span,
    /// How often it has been renewed.
    pub renewals: u64,
}

/// Every change of the run there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeList {
    /// Which run this is of.
    run: u64,
    is_over: bool,
    /// As they were made, each with its hold; at most [`CHANGE_COUNT_MAX`], of [`BYTES_MAX`].
    changes: Vec<(u64, AgreedChange)>,
    bytes: u64,
    /// The number of the last hold there was.
    known: u64,
    /// The hold of that number, if it has not ended.
    hold: Option<AgreedHold>,
}

impl ChangeList {
    /// Which run this is of.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Whether that is over.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The hold that is in force, and its number.
    pub fn hold(&self) -> Option<(u64, &AgreedHold)> {
        self.hold.as_ref().map(|hold| (self.known, hold))
    }

    /// What whoever derives something has to know of it.
    pub fn control(&self) -> Control {
        let made = |(hold, agreed): &(u64, AgreedChange)| MadeChange {
            change: agreed.change(),
            hold: *hold,
            by: agreed.by.clone(),
            why: agreed.why.clone(),
        };
        let hold = self.hold.as_ref().map(|hold| Hold { at: hold.at, number: self.known });
        Control::new(self.changes.iter().map(made).collect(), self.known, hold)
    }

    pub(super) fn apply(
        &mut self,
        command: &ControlCommand,
        (revision, has_session): (u64, bool),
        allocations: &Allocations,
        events: &mut Vec<Event>,
    ) -> Answer {
        let before = (self.known, self.hold.is_some(), self.changes.len(), self.run, self.is_over);
        let answer = self.carry_out(command, (revision, has_session), allocations);
        let after = (self.known, self.hold.is_some(), self.changes.len(), self.run, self.is_over);
        if before != after {
            events.push(Event::Control);
        }
        answer
    }

    fn carry_out(
        &mut self,
        command: &ControlCommand,
        (revision, has_session): (u64, bool),
        allocations: &Allocations,
    ) -> Answer {
        match command {
            ControlCommand::End { run } => {
                if *run == self.run {
                    self.is_over = true;
                    self.hold = None;
                }
            }
            ControlCommand::Begin { run } => {
                if *run == self.run && self.is_over {
                    let (run, known) = (self.run + 1, self.known);
                    *self = Self { run, known, ..Self::default() };
                }
            }
            ControlCommand::Hold { session, at, lease } => {
                return self.begin_hold((*session, has_session), *at, *lease, revision);
            }
            ControlCommand::Renew { number } => self.held(*number)?.renewals += 1,
            ControlCommand::Release { number } => {
                // It may have ended by itself.
                self.hold.take_if(|_| self.known == *number);
            }
            ControlCommand::Expire { number, renewals } => {
                self.hold.take_if(|hold| self.known == *number && hold.renewals == *renewals);
            }
            ControlCommand::Record { number, change, asked, releases } => {
                self.record(*number, change, asked, allocations)?;
                if *releases {
                    self.hold = None;
                }
            }
        }
        Ok(Outcome::Controlled { number: self.known })
    }

    fn begin_hold(
        &mut self,
        (session, has_session): (SessionId, bool),
        at: Timestamp,
        lease: Span,
        revision: u64,
    ) -> Answer {
        if !has_session {
            return Err(Refusal::SessionEnded { session });
        }
        if self.is_over {
            return Err(Refusal::RunOver);
        }
        if let Some(hold) = &self.hold {
            return Err(Refusal::Held { at: hold.at, session: hold.session });
        }
        self.known = revision;
        self.hold = Some(AgreedHold { at, session, lease: lease.min(LEASE_MAX), renewals: 0 });
        Ok(Outcome::Controlled { number: revision })
    }

    fn held(&mut self, number: u64) -> Result<&mut AgreedHold, Refusal> {
        self.hold.as_mut().filter(|_| self.known == number).ok_or(Refusal::HoldEnded { number })
    }

    fn record(
        &mut self,
        number: u64,
        change: &AgreedChange,
        asked: &[(String, u64)],
        allocations: &Allocations,
    ) -> Result<(), Refusal> {
        let held_at = self.held(number)?.at;
        if change.at < held_at {
            return Err(Refusal::NotHeld { at: change.at, held_at });
        }
        for (resource, epoch) in asked {
            let current = allocations.get(resource).map_or(*epoch, |known| known.epoch);
            if current != *epoch {
                return Err(Refusal::Moved { resource: resource.clone(), epoch: current });
            }
        }
        if change.is_too_long() {
            let (bytes, limit) = (change.bytes(), TEXT_BYTES_MAX as u64);
            return Err(Refusal::TooLarge { bytes, limit });
        }
        let full = |limit| Refusal::Full { what: "changes of parameters".into(), limit };
        if self.changes.len() >= CHANGE_COUNT_MAX {
            return Err(full(CHANGE_COUNT_MAX as u64));
        }
        let bytes = self.bytes.saturating_add(change.bytes());
        if bytes > BYTES_MAX {
            return Err(full(self.changes.len() as u64));
        }
        self.bytes = bytes;
        self.changes.push((number, change.clone()));
        Ok(())
    }

    /// A session has ended: so does its hold.
    pub(super) fn end_session(&mut self, session: SessionId, events: &mut Vec<Event>) {
        if self.hold.take_if(|hold| hold.session == session).is_some() {
            events.push(Event::Control);
        }
    }
}

/// One node's watch over the hold, by its own clock: whoever leads proposes that a hold which was not renewed
/// expires.
#[derive(Clone, Debug, Default)]
pub struct HoldExpiry {
    /// The hold, how often it had been renewed, and when that was first seen.
    seen: Option<(u64, u64, Timestamp)>,
    looked: Option<Timestamp>,
    /// Since when this node leads.
    led: Option<Timestamp>,
}

impl HoldExpiry {
    /// Looks at `list`; returns what to propose, if this node leads. Whoever was away for a good part of the
    /// lease, or begins to lead, leaves time for a renewal: there could be none, or none that was seen.
    pub fn on_look(
        &mut self,
        list: &ChangeList,
        leads: bool,
        now: Timestamp,
    ) -> Option<ControlCommand> {
        self.led = leads.then(|| self.led.unwrap_or(now));
        let away = self.looked.map_or(Span::ZERO, |looked| now.since(looked));
        self.looked = Some(now);
        let Some((number, hold)) = list.hold() else {
            self.seen = None;
            return None;
        };
        let mut seen = (number, hold.renewals, now);
        if let Some(before) = self.seen
            && (before.0, before.1) == (number, hold.renewals)
            && away <= hold.lease / 4
        {
            seen = before;
        }
        self.seen = Some(seen);
        let until = seen.2.after(hold.lease).max(self.led?.after(hold.lease / 2));
        (now >= until).then_some(ControlCommand::Expire { number, renewals: hold.renewals })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::NodeId;
    use crate::ledger::{Command, Ledger, Opening, Operation};

    const LEASE: Span = Span::from_millis(1_000);

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    fn change(nanos: u64) -> AgreedChange {
        let parameters = vec![("width".to_owned(), 2.5)];
        let change = ParameterChange { at: at(nanos), strategy: 0, parameters };
        AgreedChange::new(&change, "operator", "to see")
    }

    fn ask(ledger: &mut Ledger, operation: Operation) -> Answer {
        ledger.apply(&Command { id: None, operation }).answer
    }

    fn open(ledger: &mut Ledger, node: &str) -> SessionId {
        let opening = Opening {
            node: node.into(),
            incarnation: Default::default(),
            replica: 1,
            priority: 0,
            is_witness: false,
        };
        ask(ledger, Operation::OpenSession(opening)).unwrap();
        ledger.members()[&NodeId::from(node)].session.unwrap()
    }

    fn control(ledger: &mut Ledger, command: ControlCommand) -> Answer {
        ask(ledger, Operation::Control(command))
    }

    fn hold(ledger: &mut Ledger, session: SessionId, nanos: u64) -> Result<u64, Refusal> {
        let command = ControlCommand::Hold { session, at: at(nanos), lease: LEASE };
        let Outcome::Controlled { number } = control(ledger, command)? else {
            panic!("another answer");
        };
        Ok(number)
    }

    fn record(ledger: &mut Ledger, number: u64, nanos: u64, epoch: u64) -> Answer {
        let asked = vec![("shard/0".to_owned(), epoch), ("exec".to_owned(), 1)];
        let (change, releases) = (change(nanos), false);
        control(ledger, ControlCommand::Record { number, change, asked, releases })
    }

    #[test]
    fn a_change_is_made_under_the_hold_in_force_at_its_time_or_later() {
        let mut ledger = Ledger::default();
        let session = open(&mut ledger, "a");
        assert_eq!(record(&mut ledger, 0, 5, 1), Err(Refusal::HoldEnded { number: 0 }));
        let number = hold(&mut ledger, session, 10).unwrap();
        let held = Refusal::Held { at: at(10), session };
        assert_eq!(hold(&mut ledger, session, 20), Err(held), "one at a time");
        let early = Refusal::NotHeld { at: at(9), held_at: at(10) };
        assert_eq!(record(&mut ledger, number, 9, 1), Err(early));
        record(&mut ledger, number, 10, 1).unwrap();
        record(&mut ledger, number, 30, 1).unwrap();
        control(&mut ledger, ControlCommand::Release { number }).unwrap();
        assert_eq!(record(&mut ledger, number, 40, 1), Err(Refusal::HoldEnded { number }));
        let later = hold(&mut ledger, session, 20).unwrap();
        assert!(later > number);
        control(&mut ledger, ControlCommand::Release { number }).unwrap();
        assert_eq!(ledger.changes().hold().map(|(number, _)| number), Some(later), "not its own");
        let control = ledger.changes().control();
        assert_eq!(control.changes(), [change(10).change(), change(30).change()]);
        assert_eq!(control.known(), later);
    }

    #[test]
    fn who_was_asked_in_an_earlier_life_has_to_be_asked_again() {
        let mut ledger = Ledger::default();
        let session = open(&mut ledger, "a");
        let term = ledger.coordinator().term;
        let owner = Some(NodeId::from("a"));
        let allocate = Operation::Allocate { term, resource: "shard/0".into(), owner };
        ask(&mut ledger, allocate).unwrap();
        let number = hold(&mut ledger, session, 10).unwrap();
        let moved = Refusal::Moved { resource: "shard/0".into(), epoch: 1 };
        assert_eq!(record(&mut ledger, number, 10, 7), Err(moved));
        record(&mut ledger, number, 10, 1).unwrap();
    }

    #[test]
    fn a_hold_ends_with_the_session_of_whoever_asked_for_it() {
        let mut ledger = Ledger::default();
        let (a, b) = (open(&mut ledger, "a"), open(&mut ledger, "b"));
        hold(&mut ledger, a, 10).unwrap();
        ask(&mut ledger, Operation::CloseSession { session: b }).unwrap();
        assert!(ledger.changes().hold().is_some());
        let operation = Operation::CloseSession { session: a };
        let applied = ledger.apply(&Command { id: None, operation });
        assert!(applied.events.contains(&Event::Control) && ledger.changes().hold().is_none());
        assert_eq!(hold(&mut ledger, a, 10), Err(Refusal::SessionEnded { session: a }));
    }

    #[test]
    fn changes_of_a_run_that_is_over_stay_until_another_begins_and_holds_are_numbered_on() {
        let mut ledger = Ledger::default();
        let session = open(&mut ledger, "a");
        let number = hold(&mut ledger, session, 10).unwrap();
        record(&mut ledger, number, 10, 1).unwrap();
        control(&mut ledger, ControlCommand::Begin { run: 0 }).unwrap();
        control(&mut ledger, ControlCommand::End { run: 7 }).unwrap();
        assert!(ledger.changes().hold().is_some(), "the run goes on");
        control(&mut ledger, ControlCommand::End { run: 0 }).unwrap();
        assert_eq!(hold(&mut ledger, session, 20), Err(Refusal::RunOver));
        assert_eq!(ledger.changes().control().changes().len(), 1);
        control(&mut ledger, ControlCommand::Begin { run: 0 }).unwrap();
        control(&mut ledger, ControlCommand::Begin { run: 0 }).unwrap();
        let list = ledger.changes();
        assert_eq!((list.run(), list.is_over(), list.control().known()), (1, false, number));
        assert!(list.control().changes().is_empty());
    }

    #[test]
    fn changes_are_bounded() {
        let mut ledger = Ledger::default();
        let session = open(&mut ledger, "a");
        let number = hold(&mut ledger, session, 10).unwrap();
        let record = |ledger: &mut Ledger, change| {
            let command =
                ControlCommand::Record { number, change, asked: Vec::new(), releases: false };
            control(ledger, command)
        };
        let mut long = change(10);
        long.why = "x".repeat(TEXT_BYTES_MAX + 1);
        assert!(matches!(record(&mut ledger, long), Err(Refusal::TooLarge { .. })));
        let mut wide = change(10);
        wide.parameters = vec![("p".into(), 0); PARAMETERS_MAX + 1];
        assert!(matches!(record(&mut ledger, wide), Err(Refusal::TooLarge { .. })));
        let mut large = change(10);
        large.parameters = vec![("p".repeat(TEXT_BYTES_MAX), 0); PARAMETERS_MAX];
        let fits = usize::try_from(BYTES_MAX / large.bytes()).unwrap();
        for _ in 0..fits {
            record(&mut ledger, large.clone()).unwrap();
        }
        assert!(matches!(record(&mut ledger, large), Err(Refusal::Full { .. })));
        let next = crate::ledger::Command {
            id: None,
            operation: Operation::Control(ControlCommand::Renew { number }),
        };
        assert!(ledger.apply(&next).answer.is_ok(), "the hold is as it was");
    }

    /// Looks every 100 ms; when something was first proposed.
    fn first(expiry: &mut HoldExpiry, ledger: &Ledger, from: u64, to: u64) -> Option<u64> {
        let mut times = (from..=to).step_by(100);
        times.find(|&time| expiry.on_look(ledger.changes(), true, at(time * 1_000_000)).is_some())
    }

    #[test]
    fn a_hold_expires_exactly_when_it_was_not_renewed_for_its_lease() {
        let (mut ledger, mut expiry) = (Ledger::default(), HoldExpiry::default());
        let session = open(&mut ledger, "a");
        let number = hold(&mut ledger, session, 10).unwrap();
        assert_eq!(first(&mut expiry, &ledger, 0, 900), None);
        control(&mut ledger, ControlCommand::Renew { number }).unwrap();
        assert_eq!(first(&mut expiry, &ledger, 1_000, 5_000), Some(2_000));
        let expire = ControlCommand::Expire { number, renewals: 1 };
        let now = at(2_100_000_000);
        assert_eq!(expiry.on_look(ledger.changes(), true, now), Some(expire.clone()), "if lost");
        assert_eq!(expiry.on_look(ledger.changes(), false, now), None, "only a leader proposes");
        assert_eq!(first(&mut expiry, &ledger, 2_200, 5_000), Some(2_700), "time for a renewal");
        control(&mut ledger, ControlCommand::Renew { number }).unwrap();
        control(&mut ledger, expire).unwrap();
        assert!(ledger.changes().hold().is_some(), "it was renewed meanwhile");
        control(&mut ledger, ControlCommand::Expire { number, renewals: 2 }).unwrap();
        assert!(ledger.changes().hold().is_none());
        assert_eq!(first(&mut expiry, &ledger, 2_800, 9_000), None);
    }

    #[test]
    fn a_leader_that_was_stopped_ends_no_hold_for_the_time_it_was_away() {
        let (mut ledger, mut expiry) = (Ledger::default(), HoldExpiry::default());
        let session = open(&mut ledger, "a");
        hold(&mut ledger, session, 10).unwrap();
        assert_eq!(first(&mut expiry, &ledger, 0, 500), None);
        assert_eq!(first(&mut expiry, &ledger, 60_000, 70_000), Some(61_000));
    }
}
