//! A source that cannot be read again, as something that outlives the actor that reads it.
//!
//! ```text
//! live client, or a FeedSender ──bounded queue──▶ Feed ──▶ live ingester ──▶ journal
//!                                                  └── what is not journaled yet
//! ```
//!
//! Items are handed out in order and kept until they are [released](Feed::release), which is when
//! what was made of them is on the disk. An ingester that starts again begins with the first item that
//! is not.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tickwright_core::domain::{RawTick, Symbol};
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};

use super::live::{
    LiveClient, LiveConfig, LiveCounts, LiveError, LiveFrame, LiveHandle, LiveStatus, LiveStatuses,
};
use crate::kit::Clock;

/// Items taken from the queue at once.
const FILL_MAX: usize = 1_024;

/// Something that was heard.
#[derive(Debug)]
pub enum FeedItem {
    /// A message of a venue, still to be parsed.
    Frame(LiveFrame),
    /// Rows that somebody else has decoded.
    Rows(FeedRows),
}

/// Rows that somebody else has decoded. They are numbered, and boundary rows put in, as for any
/// other source.
#[derive(Clone, Debug, Default)]
pub struct FeedRows {
    /// Symbols that no earlier block named; they are numbered on from those.
    pub symbols: Vec<Symbol>,
    /// Trades, quotes and snapshots. Their `symbol` counts the symbols named so far, from 0; their
    /// event times lie between the years 1990 and 2100.
    pub rows: Vec<RawTick>,
}

/// Puts decoded rows into a feed. Dropping it ends the feed.
#[derive(Clone, Debug)]
pub struct FeedSender(mpsc::Sender<FeedRows>);

impl FeedSender {
    /// Hands over `rows`, and waits while the queue is full. False when nobody reads any more.
    pub async fn send(&self, rows: FeedRows) -> bool {
        self.0.send(rows).await.is_ok()
    }

    /// As [`FeedSender::send`], for a thread that is not the runtime's.
    pub fn blocking_send(&self, rows: FeedRows) -> bool {
        self.0.blocking_send(rows).is_ok()
    }
}

/// A feed, whoever reads it just now.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    /// Tells this feed from those of earlier processes.
    id: u64,
    name: String,
    incoming: AsyncMutex<Incoming>,
    taken: Mutex<Taken>,
    finish: watch::Sender<bool>,
    client: Option<LiveHandle>,
    bytes: AtomicU64,
}

enum Incoming {
    Frames(mpsc::Receiver<LiveFrame>),
    Rows(mpsc::Receiver<FeedRows>),
}

impl Incoming {
    /// Waits for items; 0 when there will be none.
    async fn receive(&mut self, items: &mut Vec<FeedItem>) -> usize {
        match self {
            Self::Frames(frames) => {
                let mut received = Vec::new();
                let count = frames.recv_many(&mut received, FILL_MAX).await;
                items.extend(received.into_iter().map(FeedItem::Frame));
                count
            }
            Self::Rows(rows) => {
                let mut received = Vec::new();
                let count = rows.recv_many(&mut received, FILL_MAX).await;
                items.extend(received.into_iter().map(FeedItem::Rows));
                count
            }
        }
    }

    fn close(&mut self) {
        match self {
            Self::Frames(frames) => frames.close(),
            Self::Rows(rows) => rows.close(),
        }
    }
}

#[derive(Default)]
struct Taken {
    /// The number of the first item kept, from 0.
    first: u64,
    items: VecDeque<Arc<FeedItem>>,
    /// The number of the next item to hand out.
    next: u64,
    /// No item will follow those kept.
    ended: bool,
}

impl Feed {
    /// A feed of rows that somebody else decodes, of which `blocks_max` may wait in the queue.
    pub fn channel(name: &str, blocks_max: usize) -> (FeedSender, Self) {
        let (sender, receiver) = mpsc::channel(blocks_max.max(1));
        (FeedSender(sender), Self::new(name.to_owned(), Incoming::Rows(receiver), None))
    }

    /// Connects to a venue, on the runtime this is called in. `clock` dates the frames.
    ///
    /// # Errors
    ///
    /// [`LiveError`] when `config` names no feed.
    pub fn live(config: LiveConfig, clock: Clock) -> Result<Self, LiveError> {
        let name = match config.streams.as_slice() {
            [] => config.url.clone(),
            streams => format!("{} {}", config.url, streams.join(",")),
        };
        let LiveClient { frames, statuses, handle } =
            LiveClient::start(config, move || clock.now())?;
        tokio::spawn(log(statuses));
        Ok(Self::new(name, Incoming::Frames(frames), Some(handle)))
    }

    fn new(name: String, incoming: Incoming, client: Option<LiveHandle>) -> Self {
        let shared = Shared {
            id: RandomState::new().build_hasher().finish(),
            name,
            incoming: AsyncMutex::new(incoming),
            taken: Mutex::default(),
            finish: watch::Sender::new(false),
            client,
            bytes: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Declares the feed finished: what has been heard is still handed out, and then it has ended.
    pub fn finish(&self) {
        self.shared.finish.send_replace(true);
    }

    /// Whether somebody declared the feed finished, or its sender is gone.
    pub fn is_finished(&self) -> bool {
        *self.shared.finish.borrow() || self.shared.client.is_none()
    }

    /// A name for people.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Tells this feed from those of earlier processes.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Whether frames of a venue come here.
    pub fn is_live(&self) -> bool {
        self.shared.client.is_some()
    }

    /// What the live client has counted.
    pub fn counts(&self) -> LiveCounts {
        self.shared.client.as_ref().map(LiveHandle::counts).unwrap_or_default()
    }

    /// Asks the venue for the depth snapshot of `symbol`, which then comes as a frame. False when it has
    /// to be said again, or will never come.
    pub fn want_snapshot(&self, symbol: &Symbol) -> bool {
        self.shared.client.as_ref().is_some_and(|client| client.want_snapshot(symbol))
    }

    /// Waits until there is more to hand out, or never will be. Only one may wait at a time.
    pub async fn fill(&self) {
        let mut incoming = self.shared.incoming.lock().await;
        let mut finish = self.shared.finish.subscribe();
        let mut items = Vec::new();
        if !*finish.borrow_and_update() {
            tokio::select! {
                count = incoming.receive(&mut items) => return self.take_in(items, count == 0),
                _ = finish.changed() => {}
            }
        }
        incoming.close();
        let count = incoming.receive(&mut items).await;
        self.take_in(items, count == 0);
    }

    fn take_in(&self, items: Vec<FeedItem>, ended: bool) {
        let bytes: usize = items.iter().map(FeedItem::bytes).sum();
        self.shared.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut taken = self.taken();
        taken.items.extend(items.into_iter().map(Arc::new));
        taken.ended |= ended;
    }

    /// The next item, and the count of those handed out with it.
    pub fn next(&self) -> Option<(u64, Arc<FeedItem>)> {
        let mut taken = self.taken();
        let at = usize::try_from(taken.next - taken.first).ok()?;
        let item = Arc::clone(taken.items.get(at)?);
        taken.next += 1;
        Some((taken.next, item))
    }

    /// Whether nothing will follow what waits to be handed out.
    pub fn has_ended(&self) -> bool {
        self.taken().ended
    }

    /// Whether everything has been handed out and nothing will follow.
    pub fn is_exhausted(&self) -> bool {
        let taken = self.taken();
        taken.ended && taken.next == taken.first + taken.items.len() as u64
    }

    /// What was made of the first `count` items is on the disk.
    pub fn release(&self, count: u64) {
        let mut taken = self.taken();
        while taken.first < count && taken.items.pop_front().is_some() {
            taken.first += 1;
        }
        taken.next = taken.next.max(taken.first);
    }

    /// Hands out again what was not released.
    pub fn rewind(&self) {
        let mut taken = self.taken();
        taken.next = taken.first;
    }

    /// Bytes heard so far.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl FeedItem {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.bytes.len(),
            Self::Rows(rows) => size_of_val(rows.rows.as_slice()),
        }
    }
}

/// Tells people what happens to a connection.
async fn log(mut statuses: LiveStatuses) {
    while let Some(status) = statuses.recv().await {
        match status {
            LiveStatus::Connected { connection } => tracing::info!(connection, "connected"),
            LiveStatus::Disconnected { reason, detail, retry_in } => {
                tracing::warn!(%reason, detail, ?retry_in, "disconnected");
            }
            LiveStatus::Gap(gap) => {
                tracing::warn!(gap.stream, gap.missing, gap.last, gap.next, "messages are missing");
            }
            LiveStatus::Garbage { excerpt } => tracing::warn!(excerpt, "a frame is not known"),
            LiveStatus::Refusal { excerpt } => tracing::error!(excerpt, "the venue refuses"),
            LiveStatus::SnapshotFailed { symbol, failure, retry_in } => {
                tracing::warn!(%symbol, %failure, ?retry_in, "no depth snapshot");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn block(id: u64) -> FeedRows {
        FeedRows { rows: vec![RawTick { id, ..RawTick::default() }], ..FeedRows::default() }
    }

    fn ids(feed: &Feed) -> Vec<u64> {
        let id = |(_, item): (u64, Arc<FeedItem>)| match &*item {
            FeedItem::Rows(block) => block.rows[0].id,
            FeedItem::Frame(_) => panic!("no frames here"),
        };
        std::iter::from_fn(|| feed.next()).map(id).collect()
    }

    async fn fill(feed: &Feed) {
        timeout(Duration::from_secs(10), feed.fill()).await.expect("something comes");
    }

    #[tokio::test]
    async fn what_was_not_released_is_handed_out_again() {
        let (sender, feed) = Feed::channel("test", 16);
        for id in 0..5 {
            assert!(sender.send(block(id)).await);
        }
        fill(&feed).await;
        assert_eq!(ids(&feed), [0, 1, 2, 3, 4]);
        feed.release(2);
        feed.rewind();
        assert_eq!(ids(&feed), [2, 3, 4]);
        feed.release(5);
        feed.rewind();
        assert_eq!(ids(&feed), [0; 0]);
        assert!(!feed.is_exhausted());
        drop(sender);
        fill(&feed).await;
        assert!(feed.is_exhausted());
    }

    #[tokio::test]
    async fn what_was_heard_before_the_end_is_handed_out_after_it() {
        let (sender, feed) = Feed::channel("test", 16);
        assert!(sender.send(block(1)).await);
        feed.finish();
        fill(&feed).await;
        assert!(!sender.send(block(2)).await, "nobody listens");
        assert_eq!(ids(&feed), [1]);
        fill(&feed).await;
        assert!(feed.is_exhausted());
    }
}
