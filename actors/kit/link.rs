//! A stream between two actors of this node: [`tickwright_core::stream`] with mailboxes as transport.
//!
//! Whichever end starts later opens the session. A consumer that starts subscribes; a producer that
//! starts says hello, and its consumer subscribes again from where it stands. Each registers its role
//! before it sends, so that one of the two messages always arrives.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tickwright_core::domain::Key;
use tickwright_core::stream::{Block, Frame, Merge, Outflow, Rewind};

use super::clock::monotonic_nanos;
use super::live::LiveNumber;
use super::outlet::Outlet;

/// What a consumer tells its producer.
#[derive(Debug)]
pub enum Demand<B> {
    /// Send me what follows `after`.
    Subscribe {
        /// Names the session; frames and credit of another are ignored.
        session: u64,
        /// Everything up to here is there already.
        after: Key,
        /// Rows that may be sent.
        credit: u32,
        /// Where to.
        sink: Sink<B>,
    },
    /// Rows of this session have been taken; as many more may be sent.
    Credit {
        /// Which session.
        session: u64,
        /// How many rows.
        rows: u32,
    },
    /// Nothing up to here will be asked for again.
    Stable(Key),
}

/// A frame, and the session it belongs to.
pub type Delivery<B> = (u64, Frame<B>);

/// Where frames go.
pub type Sink<B> = Outlet<Delivery<B>>;

/// Numbers sessions: no two of a consumer's lives may have the same, or frames that were meant for one
/// would be taken for the other's. So each process begins somewhere else.
static SESSIONS: LazyLock<AtomicU64> = LazyLock::new(|| {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&std::process::id().to_le_bytes());
    hasher.update(&monotonic_nanos().to_le_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    AtomicU64::new(u64::from_le_bytes(first))
});

/// The producing end.
#[derive(Debug)]
pub struct Producer<B> {
    flow: Outflow<B>,
    sink: Option<Sink<B>>,
    hello: Outlet<()>,
}

impl<B: Block + Send + Sync + 'static> Producer<B> {
    /// A stream that starts after `start`. `hello` reaches the consumer, if it is there.
    pub fn new(start: Key, retained_max: usize, hello: Outlet<()>) -> Self {
        Self { flow: Outflow::new(start, retained_max), sink: None, hello }
    }

    /// Tells the consumer that this end has started.
    pub fn say_hello(&self) {
        // A consumer that is not there yet will subscribe when it is.
        let _ = self.hello.send(());
    }

    /// Takes in what the consumer says. A [`Rewind`] means that the stage must go back.
    ///
    /// # Errors
    ///
    /// [`Rewind`], see [`Outflow::subscribe`].
    pub fn on_demand(&mut self, demand: Demand<B>) -> Result<(), Rewind> {
        match demand {
            Demand::Subscribe { session, after, credit, sink } => {
                self.sink = Some(sink);
                self.flow.subscribe(session, after, credit)?;
            }
            Demand::Credit { session, rows } => self.flow.on_credit(session, rows),
            Demand::Stable(key) => self.flow.on_stable(key),
        }
        self.send();
        Ok(())
    }

    /// Appends a block and sends what credit allows.
    pub fn push(&mut self, block: std::sync::Arc<B>, complete: Key, more: bool) {
        self.flow.push(block, complete, more);
        self.send();
    }

    /// Sends what credit allows.
    pub fn send(&mut self) {
        let Some(session) = self.flow.session() else { return };
        while let Some(frame) = self.flow.next_frame() {
            let sink = self.sink.as_ref().expect("a session has a sink");
            if sink.send((session, frame)).is_err() {
                // The consumer is gone; its successor subscribes.
                self.flow.disconnect();
                return;
            }
        }
    }

    /// The stream's state.
    pub fn flow(&self) -> &Outflow<B> {
        &self.flow
    }

    /// See [`Outflow::rewind`].
    pub fn rewind(&mut self, to: Key) {
        self.flow.rewind(to);
    }
}

/// The consuming ends of one stage, beside the [`Merge`] that orders their rows.
#[derive(Debug)]
pub struct Consumer<B> {
    producers: Vec<Outlet<Demand<B>>>,
    credit: u32,
    /// What each producer may have on the way, as far as it has been told.
    windows: Vec<u32>,
    /// Where `credit` changes while this runs.
    live: Option<LiveNumber>,
}

impl<B: Block + Send + Sync + 'static> Consumer<B> {
    /// Streams from `producers`, each of which may have `credit` rows on the way.
    pub fn new(producers: Vec<Outlet<Demand<B>>>, credit: u32) -> Self {
        let windows = vec![credit; producers.len()];
        Self { producers, credit, windows, live: None }
    }

    /// The same, with as much credit as `number` says from time to time.
    #[must_use]
    pub fn with_live_credit(self, number: LiveNumber) -> Self {
        let mut live = Self { live: Some(number), ..self };
        live.refresh();
        live
    }

    /// Rows that each producer may have on the way, as far as it was told.
    pub const fn credit(&self) -> u32 {
        self.credit
    }

    fn refresh(&mut self) {
        if let Some(live) = &mut self.live {
            self.credit = u32::try_from(live.get()).unwrap_or(u32::MAX);
        }
    }

    /// How many streams.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether there are no streams.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Opens a session on `input` for what follows `after`.
    pub fn subscribe(&mut self, merge: &mut Merge<B>, input: usize, after: Key, sink: Sink<B>) {
        self.refresh();
        self.windows[input] = self.credit;
        let session = SESSIONS.fetch_add(1, Ordering::Relaxed);
        merge.resume(input, session, after);
        let demand = Demand::Subscribe { session, after, credit: self.credit, sink };
        // A producer that is not there yet says hello when it is.
        let _ = self.producers[input].send(demand);
    }

    /// Opens a session on `input` for what follows the rows in hand, which are kept, and `held` rows
    /// that have come out of `merge` and are not done with.
    pub fn reconnect(&mut self, merge: &mut Merge<B>, input: usize, held: u32, sink: Sink<B>) {
        self.refresh();
        self.windows[input] = self.credit;
        let session = SESSIONS.fetch_add(1, Ordering::Relaxed);
        let waiting = merge.reconnect(input, session, held);
        let (after, credit) = (merge.received(input), self.credit.saturating_sub(waiting));
        // A producer that is not there yet says hello when it is.
        let _ = self.producers[input].send(Demand::Subscribe { session, after, credit, sink });
    }

    /// Returns credit for the rows taken, once they are worth a message. When the credit has changed,
    /// more is returned than was taken, or less until the producer has no more than it may.
    pub fn return_credit(&mut self, merge: &mut Merge<B>) {
        self.refresh();
        for input in 0..self.producers.len() {
            let window = self.windows[input];
            let at_least = if window == self.credit { self.credit / 4 } else { 1 };
            if let Some((session, taken)) = merge.credit(input, at_least) {
                let more = self.credit.saturating_sub(window);
                let less = window.saturating_sub(self.credit).min(taken);
                self.windows[input] = window + more - less;
                let rows = taken + more - less;
                if rows > 0 {
                    let _ = self.producers[input].send(Demand::Credit { session, rows });
                }
            }
        }
    }

    /// Tells each producer that nothing up to its key will be asked for again.
    pub fn stable_each(&self, keys: &[Key]) {
        for (producer, &key) in self.producers.iter().zip(keys) {
            let _ = producer.send(Demand::Stable(key));
        }
    }

    /// Tells every producer that nothing up to `key` will be asked for again.
    pub fn stable(&self, key: Key) {
        for producer in &self.producers {
            let _ = producer.send(Demand::Stable(key));
        }
    }
}
