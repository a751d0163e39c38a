//! Event-time windows of one symbol, put together from the panes between boundaries.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::input::Move;

/// What happened between two boundaries, or in a whole window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Pane {
    /// The boundary that closed it; nanoseconds.
    pub(super) end: u64,
    /// The last price.
    pub(super) price: f64,
    pub(super) high: f64,
    pub(super) low: f64,
    pub(super) volume: f64,
    pub(super) turnover: f64,
    /// Rows that moved the symbol's factors.
    pub(super) count: u64,
}

impl Pane {
    const EMPTY: Self = Self {
        end: 0,
        price: f64::NAN,
        high: f64::NEG_INFINITY,
        low: f64::INFINITY,
        volume: 0.0,
        turnover: 0.0,
        count: 0,
    };

    /// Adds what came after.
    #[inline]
    fn add(&mut self, later: &Self) {
        self.price = later.price;
        self.high = self.high.max(later.high);
        self.low = self.low.min(later.low);
        self.volume += later.volume;
        self.turnover += later.turnover;
        self.count += later.count;
    }
}

/// The panes of one symbol.
///
/// A row belongs to the pane in which it comes between boundaries. Empty panes are not kept: panes
/// know which step closed them, so a gap in the boundaries ages them all the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Windows {
    open: Pane,
    /// Closed panes with something in them, oldest first; at most one per step of the longest window.
    closed: VecDeque<Pane>,
    /// The last step that closed a pane; nanoseconds.
    step: u64,
}

impl Windows {
    pub(super) const fn new() -> Self {
        Self { open: Pane::EMPTY, closed: VecDeque::new(), step: 0 }
    }

    #[inline]
    pub(super) fn on_move(&mut self, moved: Move) {
        self.open.add(&Pane {
            end: 0,
            price: moved.price,
            high: moved.price,
            low: moved.price,
            volume: moved.volume,
            turnover: moved.price * moved.volume,
            count: 1,
        });
    }

    /// Closes the open pane at `step` and forgets what `length_max`, in nanoseconds, no longer
    /// covers. False, and nothing done, when that step was closed before: a symbol of two sources
    /// sees each step twice.
    pub(super) fn on_boundary(&mut self, step: u64, length_max: u64) -> bool {
        if step <= self.step {
            return false;
        }
        self.step = step;
        while self.closed.front().is_some_and(|pane| pane.end <= step.saturating_sub(length_max)) {
            self.closed.pop_front();
        }
        if self.open.count > 0 {
            let mut pane = std::mem::replace(&mut self.open, Pane::EMPTY);
            pane.end = step;
            self.closed.push_back(pane);
        }
        true
    }

    /// The window of `length` nanoseconds that the last step closed, if anything is in it. Soon after
    /// a symbol's first row it covers less than its length.
    pub(super) fn window(&self, length: u64) -> Option<Pane> {
        let start = self.step.saturating_sub(length);
        let mut window = Pane { end: self.step, ..Pane::EMPTY };
        for pane in self.closed.iter().filter(|pane| pane.end > start) {
            window.add(pane);
        }
        (window.count > 0).then_some(window)
    }
}
