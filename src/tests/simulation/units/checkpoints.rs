//! Which checkpoints a unit keeps, and what it calls stable.

use tickwright_core::domain::Key;

/// The rules of `actors/kit/checkpoints.rs`.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    pub(super) kept: Vec<Key>,
    pub(super) spacing: u64,
    pub(super) rows: u64,
    pub(super) in_flight: Vec<Key>,
    pub(super) abandoned: Vec<Key>,
    pub(super) announced: Key,
    /// The last one was put: another node goes on from there.
    pub(super) is_closed: bool,
}

impl Checkpoints {
    pub(super) fn newest(&mut self, key: Key) -> Option<Key> {
        self.abandoned.append(&mut self.in_flight);
        let index = self.kept.partition_point(|&kept| kept <= key);
        index.checked_sub(1).map(|index| self.kept[index])
    }

    pub(super) fn is_due(&mut self, rows: u64) -> bool {
        self.rows += rows;
        let is_idle = self.in_flight.is_empty() && self.abandoned.is_empty();
        self.rows >= self.spacing && is_idle && !self.is_closed
    }

    /// Whether there is something to write.
    pub(super) fn put(&mut self, key: Key) -> bool {
        self.rows = 0;
        let is_new = self.kept.last() != Some(&key) && !self.is_closed;
        self.in_flight.extend(is_new.then_some(key));
        is_new
    }

    pub(super) fn on_stored(&mut self, key: Key) -> bool {
        if let Some(place) = self.abandoned.iter().position(|&abandoned| abandoned == key) {
            self.abandoned.remove(place);
            return false;
        }
        let Some(place) = self.in_flight.iter().position(|&written| written == key) else {
            return false;
        };
        self.in_flight.remove(place);
        let index = self.kept.partition_point(|&kept| kept < key);
        if self.kept.get(index) != Some(&key) {
            self.kept.insert(index, key);
        }
        true
    }

    /// What is stable upstream, if that is news, and which checkpoints are not needed any more.
    pub(super) fn trim(&mut self, stable: Key) -> (Option<Key>, Vec<Key>) {
        let index = self.kept.partition_point(|&kept| kept <= stable);
        let Some(oldest) = index.checked_sub(1) else { return (None, Vec::new()) };
        let dropped: Vec<Key> = self.kept.drain(..oldest).collect();
        let key = self.kept[0];
        let is_news = key > self.announced;
        if is_news {
            self.announced = key;
        }
        (is_news.then_some(key), dropped)
    }

    pub(super) fn last(&self) -> Key {
        self.kept.last().copied().unwrap_or(Key::START)
    }
}
