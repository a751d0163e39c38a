//! A toy exec over random rows and signals, told in whatever pieces, must see one sequence.

use proptest::prelude::*;

use super::*;
use crate::domain::{BrokerId, OrderId, Quantity, Scope, Side, StrategyId, SymbolId, Tick};

const LATENCY: u64 = 7;

/// What came out, as text.
fn label(next: &Next) -> String {
    match next {
        Next::Rows(block, rows) => {
            let keys = rows.clone().map(|row| block.key(&block.rows[row]).to_string());
            keys.collect::<Vec<_>>().join(" ")
        }
        Next::Event(event) => format!("e{}+{}", event.due.as_nanos(), event.ordinal),
        Next::Switch(switch) => format!("k{}:{}", switch.due.as_nanos(), switch.is_on),
        Next::Records { is_full } => format!("r{is_full}"),
        Next::Signal(signal, _) => format!("s{}", signal.id.key),
        Next::Advance { .. } | Next::Expire | Next::Finished | Next::Starved => String::new(),
    }
}

/// Brokers that close every order `LATENCY` after it left, and have seen some rows.
#[derive(Clone, Default)]
struct Brokers(Vec<(OrderId, Key)>, Vec<Key>);

impl Brokers {
    fn take(&mut self, runs: Vec<Run<TickBatch>>) {
        for run in runs {
            let keys = run.rows.map(|row| run.block.key(&run.block.rows[row]));
            self.1.extend(keys);
        }
    }

    fn due(&mut self, to: u64) -> Vec<BrokerEvent> {
        let mut due = Vec::new();
        self.0.retain(|(order, placed_at)| {
            let at = placed_at.frontier.as_nanos() + LATENCY;
            if at <= to {
                // A trace of every row the order could have traded against.
                let seen = |key: &&Key| *key > placed_at && key.frontier.as_nanos() < at;
                let seen = self.1.iter().filter(seen).count();
                due.push(BrokerEvent {
                    due: Timestamp::from_nanos(at),
                    order: *order,
                    ordinal: u32::try_from(seen).unwrap(),
                    broker: BrokerId(0),
                    kind: BrokerEventKind::Closed { remaining: Quantity::ZERO },
                });
            }
            at > to
        });
        due.sort_by_key(BrokerEvent::sort_key);
        due
    }
}

/// Runs until starved, as exec does.
fn run(lockstep: &mut Lockstep, brokers: &mut Brokers, seen: &mut Vec<String>) -> bool {
    loop {
        let next = lockstep.next_step();
        let text = label(&next);
        seen.extend(text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned));
        match next {
            Next::Signal(signal, at) => {
                brokers.0.push((signal.id, at));
                lockstep.on_order(at);
            }
            Next::Advance { at, to } => {
                assert!(to >= at);
                brokers.take(lockstep.ship(to));
                let events = brokers.due(to.as_nanos());
                lockstep.on_advanced(to, &events);
            }
            Next::Expire => {
                brokers.take(lockstep.ship(Timestamp::from_nanos(u64::MAX)));
                let events = brokers.due(u64::MAX);
                lockstep.on_advanced(Timestamp::from_nanos(u64::MAX), &events);
            }
            Next::Finished => return true,
            Next::Starved => return false,
            Next::Rows(..) | Next::Event(_) | Next::Switch(_) | Next::Records { .. } => {}
        }
    }
}

fn ticks(keys: &[Key], complete: Key) -> Frame<TickBatch> {
    let mut block = TickBatch::default();
    for &key in keys {
        block.source = key.source;
        assert!(block.push(key, Tick::default()));
    }
    Frame { block: Arc::new(block), complete, more: false }
}

fn signals(keys: &[Key], complete: Key) -> Frame<SignalBatch> {
    let signal = |&key: &Key| Signal {
        id: OrderId { key, ordinal: 0 },
        strategy: StrategyId(0),
        symbol: SymbolId(0),
        side: Side::Buy,
        lots: 1,
        reduce_only: false,
        origin_nanos: 0,
    };
    let block = SignalBatch { signals: keys.iter().map(signal).collect(), known: 0 };
    Frame { block: Arc::new(block), complete, more: false }
}

/// Two sources of rows; every third row is answered by a signal.
fn rows(steps: &[Vec<u64>]) -> (Vec<Vec<Key>>, Vec<Key>) {
    let sources: Vec<Vec<Key>> = (0u16..)
        .zip(steps)
        .map(|(source, steps)| {
            let mut frontier = 1u64;
            let numbered = (1u64..).zip(steps);
            numbered
                .map(|(sequence, step)| {
                    frontier += step;
                    Key::of(frontier, source, sequence)
                })
                .collect()
        })
        .collect();
    let mut answered: Vec<Key> =
        sources.concat().into_iter().filter(|key| key.sequence % 3 == 0).collect();
    answered.sort();
    (sources, answered)
}

fn cut(keys: &[Key], from: usize, to: usize) -> (&[Key], Key) {
    let complete = match to {
        _ if to == keys.len() => Key::END,
        0 => Key::START,
        _ => keys[to - 1],
    };
    (&keys[from..to], complete)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Invariants 1 and 3: pieces of any size, and a restart at any place, change nothing.
    #[test]
    fn the_sequence_is_the_same_in_any_pieces_and_after_any_restart(
        steps in proptest::collection::vec(proptest::collection::vec(0u64..9, 1..40), 2),
        pieces in proptest::collection::vec((0usize..3, 1usize..9, 0u8..8), 0..80),
    ) {
        let (sources, answered) = rows(&steps);
        let streams = [sources[0].clone(), sources[1].clone(), answered];

        let mut whole = Lockstep::new(Merging::Key, LATENCY, 2, 1);
        let mut expected = Vec::new();
        for (input, keys) in sources.iter().enumerate() {
            whole.on_ticks(input, 0, ticks(keys, Key::END));
        }
        whole.on_signals(0, 0, signals(&streams[2], Key::END));
        prop_assert!(run(&mut whole, &mut Brokers::default(), &mut expected));

        let mut lockstep = Lockstep::new(Merging::Key, LATENCY, 2, 1);
        let (mut brokers, mut seen) = (Brokers::default(), Vec::new());
        let mut rows_seen;
        let mut next = [0usize; 3];
        let mut finished = false;
        let rest = (0..3).map(|stream| (stream, usize::MAX, 0));
        for (stream, count, restart) in pieces.into_iter().chain(rest) {
            let keys = &streams[stream];
            let to = next[stream].saturating_add(count).min(keys.len());
            let (piece, complete) = cut(keys, next[stream], to);
            if stream < 2 {
                lockstep.on_ticks(stream, 0, ticks(piece, complete));
            } else {
                lockstep.on_signals(0, 0, signals(piece, complete));
            }
            next[stream] = to;
            finished = run(&mut lockstep, &mut brokers, &mut seen);
            if restart == 7 && lockstep.is_between_keys() {
                brokers.take(lockstep.ship_processed());
                let snapshot = lockstep.snapshot();
                let position = snapshot.position;
                lockstep.restore(snapshot);
                // Rows shipped ahead come again; brokers drop what they have.
                rows_seen = std::mem::take(&mut brokers.1);
                rows_seen.retain(|&key| key <= position);
                brokers.1 = rows_seen;
                for (stream, keys) in streams.iter().enumerate() {
                    next[stream] = keys.partition_point(|&key| key <= position);
                    if stream < 2 {
                        lockstep.ticks().resume(stream, 0, position);
                    } else {
                        lockstep.signals().resume(0, 0, position);
                    }
                }
            }
        }
        for stream in 0..3 {
            let (piece, complete) = cut(&streams[stream], next[stream], streams[stream].len());
            if stream < 2 {
                lockstep.on_ticks(stream, 0, ticks(piece, complete));
            } else {
                lockstep.on_signals(0, 0, signals(piece, complete));
            }
            finished = run(&mut lockstep, &mut brokers, &mut seen) || finished;
        }
        prop_assert!(finished);
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn an_event_takes_effect_before_the_first_row_that_is_not_earlier() {
    let keys = [Key::of(10, 0, 1), Key::of(17, 0, 2), Key::of(18, 0, 3)];
    let mut lockstep = Lockstep::new(Merging::Key, LATENCY, 1, 1);
    lockstep.on_ticks(0, 0, ticks(&keys, Key::END));
    lockstep.on_signals(0, 0, signals(&keys[..1], Key::END));
    let mut seen = Vec::new();
    assert!(run(&mut lockstep, &mut Brokers::default(), &mut seen));
    assert_eq!(seen, ["10/0/1", "s10/0/1", "e17+0", "17/0/2", "18/0/3"]);
}

/// Inputs of an exec that takes them as they arrive, and what survives it.
struct Exec {
    streams: [Vec<Key>; 3],
    lockstep: Lockstep,
    brokers: Brokers,
    seen: Vec<String>,
    /// Everything that was written down.
    steps: Vec<Taken>,
    /// The last checkpoint: the state, that of the brokers, and how much had come out.
    stored: (LockstepSnapshot, Brokers, usize),
}

impl Exec {
    fn new(streams: [Vec<Key>; 3]) -> Self {
        Self {
            streams,
            lockstep: Lockstep::new(Merging::Arrival, LATENCY, 2, 1),
            brokers: Brokers::default(),
            seen: Vec::new(),
            steps: Vec::new(),
            stored: (LockstepSnapshot::default(), Brokers::default(), 0),
        }
    }

    /// Gives `count` more of a stream. Returns whether everything has come out.
    fn give(&mut self, stream: usize, count: usize) -> bool {
        let keys = &self.streams[stream];
        let received = match stream {
            2 => self.lockstep.signals().received(0),
            input => self.lockstep.ticks().received(input),
        };
        let from = keys.partition_point(|&key| key <= received);
        let (piece, complete) = cut(keys, from, from.saturating_add(count).min(keys.len()));
        match stream {
            2 => self.lockstep.on_signals(0, 0, signals(piece, complete)),
            input => self.lockstep.on_ticks(input, 0, ticks(piece, complete)),
        };
        let taken = self.lockstep.take_steps();
        let is_finished = run(&mut self.lockstep, &mut self.brokers, &mut self.seen);
        self.steps.extend(taken);
        assert_eq!(self.lockstep.mismatch(), None);
        is_finished
    }

    fn store(&mut self) {
        if self.lockstep.is_between_keys() {
            self.brokers.take(self.lockstep.ship_processed());
            self.stored = (self.lockstep.snapshot(), self.brokers.clone(), self.seen.len());
        }
    }

    fn crash(&mut self) {
        let (snapshot, brokers, length) = self.stored.clone();
        let position = snapshot.position;
        self.lockstep.restore(snapshot);
        self.lockstep.replay(self.steps.iter().copied(), []);
        self.brokers = brokers;
        // Rows shipped ahead come again; brokers drop what they have.
        self.brokers.1.retain(|&key| key <= position);
        self.seen.truncate(length);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// However it was interrupted, what came out is what comes out of the order written down.
    #[test]
    fn the_order_of_arrival_can_be_followed_to_the_same_sequence(
        steps in proptest::collection::vec(proptest::collection::vec(0u64..9, 1..40), 2),
        pieces in proptest::collection::vec((0usize..3, 1usize..9, 0u8..8), 0..80),
    ) {
        let (sources, answered) = rows(&steps);
        let streams = [sources[0].clone(), sources[1].clone(), answered];
        let mut exec = Exec::new(streams.clone());
        for (stream, count, event) in pieces {
            exec.give(stream, count);
            match event {
                5 | 6 => exec.store(),
                7 => exec.crash(),
                _ => {}
            }
        }
        let finished = (0..3).fold(false, |_, stream| exec.give(stream, usize::MAX));
        prop_assert!(finished);

        let mut follower = Exec::new(streams);
        follower.lockstep.replay(exec.steps.iter().copied(), []);
        let finished = (0..3).rev().fold(false, |_, stream| follower.give(stream, usize::MAX));
        prop_assert!(finished);
        prop_assert_eq!(follower.steps, [], "nothing was left to be taken otherwise");
        prop_assert_eq!(&follower.seen, &exec.seen);
        // Every row and signal is there once.
        let signals = exec.seen.iter().filter(|label| label.starts_with('s')).count();
        prop_assert_eq!(signals, exec.streams[2].len());
        let events = exec.seen.iter().filter(|label| label.starts_with(['e', 'k', 'r'])).count();
        prop_assert_eq!(events, signals);
        let total: usize = exec.streams.iter().map(Vec::len).sum();
        prop_assert_eq!(exec.seen.len(), total + events);
    }
}

#[test]
fn other_data_than_then_is_noticed() {
    let keys = [Key::of(10, 0, 1), Key::of(20, 0, 2), Key::of(30, 0, 3)];
    let mut exec = Lockstep::new(Merging::Arrival, LATENCY, 1, 0);
    exec.on_ticks(0, 0, ticks(&keys, Key::END));
    let steps = exec.take_steps();
    for other in [&keys[..2], &[keys[0], keys[1], Key::of(31, 0, 3)]] {
        let mut follower = Lockstep::new(Merging::Arrival, LATENCY, 1, 0);
        follower.replay(steps.clone(), []);
        follower.on_ticks(0, 0, ticks(other, Key::END));
        assert_eq!(follower.mismatch().map(|mismatch| mismatch.step), Some(steps[0]), "{other:?}");
    }
}

#[test]
fn a_signal_is_not_taken_before_its_row_nor_a_late_row_before_its_time() {
    let rows = [Key::of(10, 0, 1), Key::of(30, 0, 2)];
    let mut exec = Lockstep::new(Merging::Arrival, LATENCY, 2, 1);
    let mut seen = Vec::new();
    exec.on_signals(0, 0, signals(&rows[1..], Key::END));
    exec.on_ticks(0, 0, ticks(&rows[..1], rows[0]));
    run(&mut exec, &mut Brokers::default(), &mut seen);
    assert_eq!(seen, ["10/0/1"]);
    exec.on_ticks(0, 0, ticks(&rows[1..], Key::END));
    run(&mut exec, &mut Brokers::default(), &mut seen);
    assert_eq!(seen[1..], ["30/0/2", "s30/0/2"]);
    let late = [Key::of(5, 1, 1), Key::of(30, 1, 2), Key::of(35, 1, 3)];
    exec.on_ticks(1, 0, ticks(&late, late[2]));
    run(&mut exec, &mut Brokers::default(), &mut seen);
    assert_eq!(seen[3..], ["30/1/1", "30/1/2", "35/1/3"]);
    assert_eq!(exec.snapshot().inputs.ticks, [Key::END, late[2]]);
}

#[test]
fn arrival_order_is_another_order() {
    let late = [Key::of(10, 1, 1)];
    let early = [Key::of(20, 0, 1)];
    let mut by_arrival = Lockstep::new(Merging::Arrival, LATENCY, 2, 0);
    by_arrival.on_ticks(0, 0, ticks(&early, Key::END));
    let mut seen = Vec::new();
    run(&mut by_arrival, &mut Brokers::default(), &mut seen);
    by_arrival.on_ticks(1, 0, ticks(&late, Key::END));
    run(&mut by_arrival, &mut Brokers::default(), &mut seen);
    assert_eq!(seen, ["20/0/1", "20/1/1"]);
}

/// Inputs of an exec whose brokers are all outside: they say something when the test does.
struct Spoken {
    lockstep: Lockstep,
    seen: Vec<String>,
    steps: Vec<Taken>,
    events: Vec<(u64, External)>,
    stored: (LockstepSnapshot, usize),
}

impl Spoken {
    fn new() -> Self {
        Self {
            lockstep: Lockstep::new(Merging::Arrival, u64::MAX, 2, 1),
            seen: Vec::new(),
            steps: Vec::new(),
            events: Vec::new(),
            stored: (LockstepSnapshot::default(), 0),
        }
    }

    fn give(&mut self, streams: &[Vec<Key>; 3], stream: usize, count: usize) -> bool {
        let keys = &streams[stream];
        let received = match stream {
            2 => self.lockstep.signals().received(0),
            input => self.lockstep.ticks().received(input),
        };
        let from = keys.partition_point(|&key| key <= received);
        let (piece, complete) = cut(keys, from, from.saturating_add(count).min(keys.len()));
        match stream {
            2 => self.lockstep.on_signals(0, 0, signals(piece, complete)),
            input => self.lockstep.on_ticks(input, 0, ticks(piece, complete)),
        };
        self.go_on()
    }

    /// Everything that was ever said is said again, and then `number`.
    fn speak(&mut self, number: u64) {
        let heard = self.events.len() as u64;
        for number in (heard.saturating_sub(2)..heard).chain([number]) {
            self.lockstep.on_outside(said(number));
        }
        self.go_on();
    }

    fn go_on(&mut self) -> bool {
        self.steps.extend(self.lockstep.take_steps());
        self.events.extend(self.lockstep.take_events());
        assert_eq!(self.lockstep.mismatch(), None);
        loop {
            let next = self.lockstep.next_step();
            let text = label(&next);
            self.seen.extend(text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned));
            match next {
                Next::Rows(..)
                | Next::Event(_)
                | Next::Signal(..)
                | Next::Switch(_)
                | Next::Records { .. } => {}
                Next::Finished => return true,
                Next::Starved => return false,
                Next::Advance { .. } | Next::Expire => panic!("no broker is inside"),
            }
        }
    }

    fn crash(&mut self) {
        let (snapshot, length) = self.stored.clone();
        self.lockstep.restore(snapshot);
        self.lockstep.replay(self.steps.iter().copied(), self.events.iter().cloned());
        self.seen.truncate(length);
        self.go_on();
    }
}

/// The `number`th thing that is said: of each order, that it is there, and later that it is over; and now
/// and then a kill switch is turned, or the records are full, or no longer.
fn said(number: u64) -> External {
    if number % 7 == 5 {
        let is_full = number % 14 == 5;
        return External::Records { is_full, due: Timestamp::default() };
    }
    if number % 5 == 4 {
        let is_on = number % 10 == 4;
        let (scope, version) = (Scope::All, number);
        return External::Switch(KillSwitch { scope, is_on, version, due: Timestamp::default() });
    }
    let order = OrderId { key: Key::of(number / 2, 0, number / 2), ordinal: 0 };
    let closed = BrokerEventKind::Closed { remaining: Quantity::ZERO };
    External::Broker(BrokerEvent {
        due: Timestamp::default(),
        order,
        ordinal: 0,
        broker: BrokerId(0),
        kind: if number.is_multiple_of(2) { BrokerEventKind::Accepted } else { closed },
    })
}

#[test]
fn a_turn_of_a_kill_switch_takes_effect_once_and_only_an_agreed_one_turns_it_off() {
    let turn = |is_on, version| {
        let due = Timestamp::default();
        External::Switch(KillSwitch { scope: Scope::All, is_on, version, due })
    };
    for merging in [Merging::Key, Merging::Arrival] {
        let mut lockstep = Lockstep::new(merging, 0, 1, 1);
        let mut turned = Vec::new();
        for word in [
            turn(false, 0),
            turn(true, 0),
            turn(true, 0),
            // What was done already is agreed on.
            turn(true, 7),
            turn(false, 6),
            turn(false, 9),
            // An account that is not stopped, but has lost more than it may.
            turn(false, 10),
            turn(false, 10),
            turn(true, 8),
            turn(true, 0),
            turn(false, 9),
        ] {
            lockstep.on_outside(word);
            while let Next::Switch(switch) = lockstep.next_step() {
                turned.push((switch.is_on, switch.version));
            }
            // A restart hears no turn again.
            let snapshot = lockstep.snapshot();
            lockstep.restore(snapshot);
        }
        assert_eq!(turned, [(true, 0), (false, 9), (false, 10), (true, 0)], "{merging:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// What brokers outside say comes out once, and at the same place after any restart.
    #[test]
    fn what_brokers_outside_say_is_taken_once_and_at_the_same_place_again(
        steps in proptest::collection::vec(proptest::collection::vec(0u64..9, 1..40), 2),
        pieces in proptest::collection::vec((0usize..4, 1usize..9, 0u8..8), 0..80),
    ) {
        let (sources, answered) = rows(&steps);
        let streams = [sources[0].clone(), sources[1].clone(), answered];
        let mut exec = Spoken::new();
        for (stream, count, event) in pieces {
            match stream {
                3 => exec.speak(exec.events.len() as u64),
                _ => drop(exec.give(&streams, stream, count)),
            }
            match event {
                5 | 6 if exec.lockstep.is_between_keys() => {
                    exec.stored = (exec.lockstep.snapshot(), exec.seen.len());
                }
                7 => exec.crash(),
                _ => {}
            }
        }
        let finished = (0..3).fold(false, |_, stream| exec.give(&streams, stream, usize::MAX));
        prop_assert!(finished);

        let mut follower = Spoken::new();
        follower.lockstep.replay(exec.steps.iter().copied(), exec.events.iter().cloned());
        let finished =
            (0..3).rev().fold(false, |_, stream| follower.give(&streams, stream, usize::MAX));
        prop_assert!(finished);
        prop_assert_eq!(&follower.seen, &exec.seen);
        let events = exec.seen.iter().filter(|label| label.starts_with(['e', 'k', 'r'])).count();
        prop_assert_eq!(events, exec.events.len());
        let total: usize = streams.iter().map(Vec::len).sum();
        prop_assert_eq!(exec.seen.len(), total + events);
    }
}
