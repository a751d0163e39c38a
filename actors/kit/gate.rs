//! Holds sources at certain shares of their input until it is said that they may go on, so that a fault
//! of a node strikes there and not wherever the run has come to by then.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module. Clones share everything.
#[derive(Clone, Default)]
pub struct Gate(Arc<Places>);

#[derive(Default)]
struct Places {
    /// In percent of a source's bytes, ascending.
    percents: Vec<u8>,
    /// How many of them are open.
    open: AtomicUsize,
}

impl Gate {
    /// Places at which sources are held, in percent of their bytes.
    pub fn new(mut percents: Vec<u8>) -> Self {
        percents.sort_unstable();
        Self(Arc::new(Places { percents, open: AtomicUsize::new(0) }))
    }

    /// Whether a source that has read so many bytes of all is held.
    pub fn holds(&self, bytes_read: u64, bytes_total: u64) -> bool {
        let next = self.0.percents.get(self.0.open.load(Ordering::Acquire));
        next.is_some_and(|&percent| {
            u128::from(bytes_read) * 100 >= u128::from(bytes_total) * u128::from(percent)
        })
    }

    /// Lets sources pass the first `count` places.
    pub fn open(&self, count: usize) {
        self.0.open.fetch_max(count, Ordering::AcqRel);
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0.percents).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_held_at_each_place_until_it_is_opened() {
        let gate = Gate::new(vec![50, 10]);
        assert!(!gate.holds(9, 100) && gate.holds(10, 100));
        gate.open(1);
        assert!(!gate.holds(49, 100) && gate.holds(50, 100));
        gate.open(2);
        gate.open(1);
        assert!(!gate.holds(100, 100), "what is open stays open");
        assert!(!Gate::default().holds(1, 1));
    }
}
