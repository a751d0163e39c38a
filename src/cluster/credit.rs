//! How many bytes may be on the way to a peer: nothing is sent without credit.
//!
//! The queues of the transport have no bound of their own, on either side. So the sender stops once
//! a window's worth of bytes has not been worked off, and the receiver returns credit as it does so,
//! a quarter of a window at a time.
//!
//! # Invariants
//!
//! 1. Bytes sent and not returned never exceed the window by more than one message.
//! 2. Whatever was worked off is returned in the end, up to less than a quarter of the window.

/// The sender's side.
#[derive(Clone, Debug)]
pub struct SendCredit {
    window: u64,
    /// Sent and not returned.
    outstanding: u64,
}

impl SendCredit {
    /// A link on which nothing has been sent.
    pub fn new(window: u64) -> Self {
        Self { window: window.max(1), outstanding: 0 }
    }

    /// Takes credit for `bytes`, if there is any left. The last message may go beyond the window, or
    /// one that is larger than the window could never be sent.
    pub fn take(&mut self, bytes: u64) -> bool {
        let has_room = self.outstanding < self.window;
        if has_room {
            self.outstanding = self.outstanding.saturating_add(bytes);
        }
        has_room
    }

    /// The receiver has worked off `bytes`.
    pub fn on_returned(&mut self, bytes: u64) {
        self.outstanding = self.outstanding.saturating_sub(bytes);
    }

    /// Whether at least half of the window is free.
    pub fn is_half_free(&self) -> bool {
        self.outstanding <= self.window / 2
    }

    /// Bytes sent and not returned.
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }
}

/// The receiver's side.
#[derive(Clone, Debug)]
pub struct ReceiveCredit {
    quarter: u64,
    unreturned: u64,
}

impl ReceiveCredit {
    /// A link on which nothing has come.
    pub fn new(window: u64) -> Self {
        Self { quarter: (window / 4).max(1), unreturned: 0 }
    }

    /// `bytes` have been worked off. Returns what to give back now, if anything.
    pub fn on_worked_off(&mut self, bytes: u64) -> Option<u64> {
        self.unreturned = self.unreturned.saturating_add(bytes);
        if self.unreturned < self.quarter {
            return None;
        }
        Some(std::mem::take(&mut self.unreturned))
    }

    /// What was to be given back could not be: it is due with the next, be that of no bytes.
    pub fn put_back(&mut self, bytes: u64) {
        self.unreturned = self.unreturned.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_window_is_a_window() {
        let mut credit = SendCredit::new(100);
        assert!(credit.take(60) && credit.take(60), "the last may go beyond");
        assert!(!credit.take(1));
        credit.on_returned(20);
        assert!(!credit.take(1), "exactly at the limit");
        credit.on_returned(1);
        assert!(credit.take(1_000));
    }

    #[test]
    fn credit_comes_back_by_the_quarter() {
        let mut credit = ReceiveCredit::new(100);
        assert_eq!([10, 10, 10].map(|bytes| credit.on_worked_off(bytes)), [None, None, Some(30)]);
        credit.put_back(30);
        assert_eq!(credit.on_worked_off(1), Some(31));
        credit.put_back(31);
        assert_eq!(credit.on_worked_off(0), Some(31));
        assert_eq!(credit.on_worked_off(0), None);
    }

    proptest! {
        /// Whatever the sizes, a sender is never stuck once all it sent has been worked off.
        #[test]
        fn a_sender_is_bounded_and_never_stuck(
            window in 1u64..10_000,
            sizes in proptest::collection::vec(1u64..5_000, 1..100),
        ) {
            let (mut sender, mut receiver) = (SendCredit::new(window), ReceiveCredit::new(window));
            let mut on_the_way: Vec<u64> = Vec::new();
            for size in sizes {
                while !sender.take(size) {
                    prop_assert!(!on_the_way.is_empty(), "stuck");
                    let worked_off = receiver.on_worked_off(on_the_way.remove(0));
                    sender.on_returned(worked_off.unwrap_or(0));
                }
                on_the_way.push(size);
                prop_assert!(sender.outstanding() < window + size);
            }
        }
    }
}
