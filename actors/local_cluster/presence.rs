//! Which nodes answer, for whoever watches: told when one does not any more, and when it does again.

use std::time::{Duration, Instant};

/// How long a node may leave questions unanswered; one that is busy does. It bounds how many lines there are.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Every node, by its place.
pub(super) struct Presence(Vec<NodePresence>);

#[derive(Clone, Default)]
struct NodePresence {
    /// When it last answered; never, while it is starting.
    heard_at: Option<Instant>,
    is_down: bool,
}

impl Presence {
    pub(super) fn new(nodes: usize) -> Self {
        Self(vec![NodePresence::default(); nodes])
    }

    /// A node was looked for, and has answered or not; `is_harmed` if it cannot, as ordered. Returns what there is to
    /// say of it.
    pub(super) fn on_look(
        &mut self,
        node: usize,
        has_answered: bool,
        is_harmed: bool,
        now: Instant,
    ) -> Option<&'static str> {
        let node = &mut self.0[node];
        let was_down = node.is_down;
        if has_answered {
            *node = NodePresence { heard_at: Some(now), is_down: false };
            return was_down.then_some("back");
        }
        let is_silent = node.heard_at.is_some_and(|at| now.duration_since(at) >= SILENCE_MAX);
        node.is_down |= is_silent || is_harmed;
        (node.is_down && !was_down).then_some("down")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_told_of_once_when_it_falls_silent_and_once_when_it_is_back() {
        let begun = Instant::now();
        let (mut presence, mut seconds) = (Presence::new(2), 0);
        let mut look = |node, has_answered, is_harmed| {
            seconds += 1;
            let now = begun + Duration::from_secs(seconds);
            presence.on_look(node, has_answered, is_harmed, now)
        };
        for _ in 0..9 {
            assert_eq!(look(0, false, false), None, "it is starting");
        }
        assert_eq!(look(0, true, false), None);
        let silent: Vec<_> = (0..9).map(|_| look(0, false, false)).collect();
        assert_eq!(silent.iter().position(Option::is_some), Some(4), "after five seconds");
        assert_eq!(silent.into_iter().flatten().collect::<Vec<_>>(), ["down"]);
        assert_eq!(look(0, true, false), Some("back"));
        assert_eq!(look(0, true, false), None);
        // Of one that was harmed it is certain.
        assert_eq!([look(1, false, true), look(1, false, true)], [Some("down"), None]);
        assert_eq!([look(1, false, false), look(1, true, false)], [None, Some("back")]);
    }
}
