//! Frames that wait for a consumer which need not be woken for each of them.
//!
//! Waking an actor costs as much as the work on a small block, and an actor that can do nothing with
//! what came is woken in vain: exec can do nothing with rows before it knows the signals that answer
//! them, and these come as a message. So rows are laid down here, and exec takes them when it is at
//! work anyway. When it runs out of rows it says so, and then the next frame wakes it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::link::Delivery;

/// Frames of several streams, in the order in which they came. Bounded by the credit given out.
#[derive(Debug)]
pub struct Inbox<B> {
    shared: Arc<Mutex<Shared<B>>>,
}

#[derive(Debug)]
struct Shared<B> {
    frames: VecDeque<(usize, Delivery<B>)>,
    /// The consumer sleeps until a frame comes.
    is_awaited: bool,
}

impl<B> Inbox<B> {
    /// Lays down a frame of stream `input`. Returns true when the consumer must be woken for it.
    pub fn put(&self, input: usize, delivery: Delivery<B>) -> bool {
        let mut shared = self.lock();
        shared.frames.push_back((input, delivery));
        std::mem::take(&mut shared.is_awaited)
    }

    /// Everything that has come.
    pub fn take(&self) -> VecDeque<(usize, Delivery<B>)> {
        std::mem::take(&mut self.lock().frames)
    }

    /// From here on the consumer sleeps until the next frame. Returns false when one has come already.
    pub fn wait(&self) -> bool {
        let mut shared = self.lock();
        shared.is_awaited = shared.frames.is_empty();
        shared.is_awaited
    }

    fn lock(&self) -> MutexGuard<'_, Shared<B>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Default for Inbox<B> {
    fn default() -> Self {
        let shared = Shared { frames: VecDeque::new(), is_awaited: false };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }
}

impl<B> Clone for Inbox<B> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[cfg(test)]
mod tests {
    use tickwright_core::domain::{Key, TickBatch};
    use tickwright_core::stream::Frame;

    use super::*;

    fn frame() -> Delivery<TickBatch> {
        (1, Frame { block: Arc::default(), complete: Key::START, more: false })
    }

    #[test]
    fn only_a_frame_that_is_waited_for_wakes_the_consumer() {
        let inbox = Inbox::default();
        assert!(!inbox.put(0, frame()));
        assert!(!inbox.wait(), "a frame is there");
        assert_eq!(inbox.take().len(), 1);
        assert!(inbox.wait());
        assert!(inbox.put(1, frame()));
        assert!(!inbox.put(1, frame()), "it is awake by now");
        let inputs: Vec<usize> = inbox.take().into_iter().map(|(input, _)| input).collect();
        assert_eq!(inputs, [1, 1]);
    }
}
