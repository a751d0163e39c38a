//! The producing end of a stream: sends while it has credit, keeps what may be asked for again.
//!
//! # Invariants
//!
//! 1. Within a session every frame after the subscribed key is sent once, in order.
//! 2. Nothing is sent without credit; one frame may overdraw it.
//! 3. What is kept is bounded by `retained_max` rows plus what is not yet sent, and that is bounded by
//!    the stage asking [`Outflow::has_room`] before it takes in more.
//! 4. A subscription is either served whole from what is kept, or answered with a [`Rewind`].

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Block, OutflowStanding};
use crate::domain::Key;

/// Stable frames that are dropped in one turn: a checkpoint makes tens of thousands stable at once where they are of
/// one row each, and to free them all held up everybody for some hundredths of a second.
const FORGOTTEN_MAX: usize = 32;

/// A block of rows and how far the stream is complete with it.
#[derive(Debug)]
pub struct Frame<B> {
    /// The rows; none when the frame only says how far the stream has come.
    pub block: Arc<B>,
    /// Every row of the stream up to here is in this frame or an earlier one.
    pub complete: Key,
    /// Whether the producer has more to send at once, so that the consumer may wait for it before it
    /// sends a small block on.
    pub more: bool,
}

impl<B> Clone for Frame<B> {
    fn clone(&self) -> Self {
        Self { block: Arc::clone(&self.block), complete: self.complete, more: self.more }
    }
}

/// What was asked for is no longer kept: the stage must go back to a checkpoint not after `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewind {
    /// The consumer has everything up to here.
    pub to: Key,
}

/// The producing end of one stream with one consumer.
#[derive(Debug)]
pub struct Outflow<B> {
    /// Frames in order; they cover `(base, complete]`.
    kept: VecDeque<Frame<B>>,
    kept_rows: usize,
    retained_max: usize,
    base: Key,
    complete: Key,
    stable: Key,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    id: u64,
    /// Rows that may still be sent.
    credit: i64,
    /// The next frame to send, as an index into `kept`.
    next: usize,
    /// Everything up to here has been sent in this session, or was there before it.
    sent: Key,
}

impl<B: Block> Outflow<B> {
    /// A stream that starts after `start` and keeps about `retained_max` rows that were sent.
    pub fn new(start: Key, retained_max: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            kept_rows: 0,
            retained_max,
            base: start,
            complete: start,
            stable: Key::START,
            session: None,
        }
    }

    /// Appends a block; the stream is then complete up to `complete`.
    pub fn push(&mut self, block: Arc<B>, complete: Key, more: bool) {
        debug_assert!(complete >= self.complete, "streams only grow");
        if complete == self.complete && block.is_empty() {
            return;
        }
        self.complete = complete;
        self.kept_rows += block.len();
        let frame = Frame { block, complete, more };
        // After a rewind what is derived again may have been sent already.
        let sent = self.session.as_ref().is_some_and(|session| complete <= session.sent);
        self.kept.push_back(frame);
        if sent && let Some(session) = &mut self.session {
            session.next = self.kept.len();
        }
        self.forget();
    }

    /// How far the stream has come.
    pub fn complete(&self) -> Key {
        self.complete
    }

    /// Up to where the consumer will never ask again.
    pub fn stable(&self) -> Key {
        self.stable
    }

    /// Begins session `id`: the consumer has everything up to `after` and takes `credit` rows.
    ///
    /// # Errors
    ///
    /// [`Rewind`] when rows after `after` are no longer kept. The session stands; it is served once
    /// the stage has called [`Outflow::rewind`] and pushes again.
    pub fn subscribe(&mut self, id: u64, after: Key, credit: u32) -> Result<(), Rewind> {
        let next = self.kept.partition_point(|frame| frame.complete <= after);
        self.session = Some(Session { id, credit: i64::from(credit), next, sent: after });
        if after < self.base { Err(Rewind { to: after }) } else { Ok(()) }
    }

    /// Ends the session: the consumer is gone.
    pub fn disconnect(&mut self) {
        self.session = None;
    }

    /// The running session, if any.
    pub fn session(&self) -> Option<u64> {
        self.session.as_ref().map(|session| session.id)
    }

    /// The consumer has taken `rows` rows of session `id`.
    pub fn on_credit(&mut self, id: u64, rows: u32) {
        if let Some(session) = self.session.as_mut().filter(|session| session.id == id) {
            session.credit += i64::from(rows);
        }
    }

    /// The consumer will never ask for anything up to `key` again.
    pub fn on_stable(&mut self, key: Key) {
        self.stable = self.stable.max(key);
        self.forget();
    }

    /// The next frame to send, if there is one and credit for it.
    pub fn next_frame(&mut self) -> Option<Frame<B>> {
        let session = self.session.as_mut()?;
        let frame = self.kept.get(session.next)?;
        let rows = frame.block.len();
        // A frame without rows costs nothing: progress must be heard even without credit.
        if session.credit <= 0 && rows > 0 {
            return None;
        }
        session.next += 1;
        session.sent = frame.complete;
        session.credit -= i64::try_from(rows).unwrap_or(i64::MAX);
        let frame = frame.clone();
        self.forget();
        Some(frame)
    }

    /// Rows that may still be sent.
    pub fn credit(&self) -> u64 {
        let credit = self.session.as_ref().map_or(0, |session| session.credit);
        u64::try_from(credit).unwrap_or(0)
    }

    /// Rows that are kept, sent or not.
    pub fn kept_rows(&self) -> usize {
        self.kept_rows
    }

    /// Where the stream stands.
    pub fn standing(&self) -> OutflowStanding {
        let unsent = self.kept.iter().skip(self.session.as_ref().map_or(0, |session| session.next));
        OutflowStanding {
            complete: self.complete,
            sent: self.session.as_ref().map(|session| session.sent),
            session: self.session(),
            stable: self.stable,
            credit: self.credit(),
            kept_rows: self.kept_rows as u64,
            unsent_rows: unsent.map(|frame| frame.block.len() as u64).sum(),
        }
    }

    /// Whether the stage may take in more: little waits to be sent.
    pub fn has_room(&self) -> bool {
        match &self.session {
            Some(session) => {
                // What the consumer has already needs no credit, and is derived again for another one
                // that may be what this one waits for.
                let needs_credit = self.complete >= session.sent;
                (session.credit > 0 || !needs_credit) && session.next >= self.kept.len()
            }
            None => self.kept.is_empty(),
        }
    }

    /// The stage has gone back to `to` and derives what follows again.
    pub fn rewind(&mut self, to: Key) {
        self.kept.clear();
        self.kept_rows = 0;
        self.base = to;
        self.complete = to;
        if let Some(session) = &mut self.session {
            session.next = 0;
        }
    }

    /// Drops frames that are stable, some at a time, and sent ones beyond the bound.
    fn forget(&mut self) {
        let sent = self.session.as_ref().map_or(0, |session| session.next);
        let mut dropped = 0;
        while let Some(frame) = self.kept.front()
            && dropped < sent
            && (self.kept_rows > self.retained_max
                || frame.complete <= self.stable && dropped < FORGOTTEN_MAX)
        {
            self.base = frame.complete;
            self.kept_rows -= frame.block.len();
            self.kept.pop_front();
            dropped += 1;
        }
        if let Some(session) = &mut self.session {
            session.next -= dropped;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{SourceId, Tick, TickBatch, Timestamp};

    fn key(sequence: u64) -> Key {
        Key { frontier: Timestamp::from_nanos(sequence), source: SourceId(0), sequence }
    }

    /// The rows `first..=last`.
    fn block(first: u64, last: u64) -> Arc<TickBatch> {
        let mut batch = TickBatch::default();
        for sequence in first..=last {
            assert!(batch.push(key(sequence), Tick::default()));
        }
        Arc::new(batch)
    }

    fn sent(outflow: &mut Outflow<TickBatch>) -> Vec<u64> {
        std::iter::from_fn(|| outflow.next_frame()).map(|frame| frame.complete.sequence).collect()
    }

    #[test]
    fn nothing_leaves_without_credit_and_one_frame_may_overdraw_it() {
        let mut outflow = Outflow::new(Key::START, 100);
        for last in [10, 20, 30] {
            outflow.push(block(last - 9, last), key(last), false);
        }
        assert_eq!(sent(&mut outflow), [0; 0], "nobody has subscribed");
        outflow.subscribe(1, Key::START, 15).unwrap();
        assert_eq!(sent(&mut outflow), [10, 20]);
        assert!(!outflow.has_room());
        let standing = outflow.standing();
        assert_eq!((standing.complete, standing.sent), (key(30), Some(key(20))));
        assert_eq!(standing.session, Some(1));
        assert_eq!((standing.kept_rows, standing.unsent_rows, standing.credit), (30, 10, 0));
        outflow.on_credit(7, 100);
        assert_eq!(sent(&mut outflow), [0; 0], "credit of another session");
        outflow.on_credit(1, 20);
        assert_eq!(sent(&mut outflow), [30]);
        assert!(outflow.has_room());
    }

    #[test]
    fn a_subscriber_gets_what_follows_its_key_or_a_rewind() {
        let mut outflow = Outflow::new(Key::START, 20);
        outflow.subscribe(1, Key::START, 1_000).unwrap();
        for last in [10, 20, 30] {
            outflow.push(block(last - 9, last), key(last), false);
            sent(&mut outflow);
        }
        outflow.subscribe(2, key(15), 1_000).unwrap();
        assert_eq!(sent(&mut outflow), [20, 30], "the frame that holds row 16 on");
        assert_eq!(outflow.subscribe(3, key(5), 1_000), Err(Rewind { to: key(5) }));
        outflow.rewind(Key::START);
        outflow.push(block(1, 10), key(10), false);
        assert_eq!(sent(&mut outflow), [10]);
    }

    #[test]
    fn what_was_sent_before_a_rewind_is_not_sent_again() {
        let mut outflow = Outflow::new(Key::START, 100);
        outflow.subscribe(1, Key::START, 1_000).unwrap();
        outflow.push(block(1, 10), key(10), false);
        sent(&mut outflow);
        outflow.rewind(Key::START);
        outflow.push(block(1, 5), key(5), false);
        outflow.push(block(6, 12), key(12), false);
        assert_eq!(sent(&mut outflow), [12]);
    }

    #[test]
    fn what_was_sent_before_a_rewind_is_derived_again_without_credit() {
        let mut outflow = Outflow::new(Key::START, 100);
        outflow.subscribe(1, Key::START, 10).unwrap();
        outflow.push(block(1, 10), key(10), false);
        assert_eq!((sent(&mut outflow), outflow.has_room()), (vec![10], false));
        outflow.rewind(Key::START);
        assert!(outflow.has_room());
        outflow.push(block(1, 5), key(5), false);
        assert!(outflow.has_room());
        outflow.push(block(6, 12), key(12), false);
        assert!(!outflow.has_room(), "two rows of it wait for credit");
    }

    #[test]
    fn many_stable_frames_are_forgotten_some_at_a_time_and_none_is_left() {
        let mut outflow = Outflow::new(Key::START, 10_000);
        outflow.subscribe(1, Key::START, 10_000).unwrap();
        for last in 1..=1_000 {
            outflow.push(block(last, last), key(last), false);
        }
        sent(&mut outflow);
        outflow.on_stable(key(1_000));
        assert_eq!(outflow.kept_rows, 1_000 - FORGOTTEN_MAX);
        for last in 1_001..=1_032 {
            outflow.push(block(last, last), key(last), false);
        }
        assert_eq!(outflow.kept_rows, 32);
    }

    #[test]
    fn stable_rows_are_forgotten() {
        let mut outflow = Outflow::new(Key::START, 1_000);
        outflow.subscribe(1, Key::START, 1_000).unwrap();
        for last in [10, 20, 30] {
            outflow.push(block(last - 9, last), key(last), false);
        }
        sent(&mut outflow);
        outflow.on_stable(key(20));
        assert_eq!(outflow.kept_rows, 10);
        assert!(outflow.subscribe(2, key(19), 1_000).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Invariants 1, 3 and 4.
        #[test]
        fn a_consumer_sees_every_row_once_whatever_the_history(
            steps in proptest::collection::vec((0u8..5, 1u64..20), 1..80),
        ) {
            let mut outflow: Outflow<TickBatch> = Outflow::new(Key::START, 50);
            let (mut produced, mut seen, mut session) = (0u64, 0u64, 1u64);
            outflow.subscribe(session, Key::START, 30).unwrap();
            for (step, amount) in steps {
                match step {
                    0 | 1 if outflow.has_room() => {
                        outflow.push(block(produced + 1, produced + amount), key(produced + amount), false);
                        produced += amount;
                    }
                    2 => {
                        // The consumer lost some of what it had.
                        session += 1;
                        seen = seen.saturating_sub(amount).max(outflow.stable().sequence);
                        if outflow.subscribe(session, key(seen), 30).is_err() {
                            produced = seen.saturating_sub(amount);
                            outflow.rewind(key(produced));
                        }
                    }
                    3 => outflow.on_stable(key(seen)),
                    _ => outflow.on_credit(session, u32::try_from(amount).unwrap()),
                }
                while let Some(frame) = outflow.next_frame() {
                    for row in &frame.block.rows {
                        let sequence = frame.block.key(row).sequence;
                        if sequence > seen {
                            prop_assert_eq!(sequence, seen + 1);
                            seen = sequence;
                        }
                    }
                }
                prop_assert!(outflow.kept_rows <= 50 + 2 * 20);
            }
        }
    }
}
