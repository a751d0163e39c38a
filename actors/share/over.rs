//! The word that a run is over: told to every node that has a share of it until each has taken it in.
//!
//! ```text
//! exec's node ─ over, which run, how long ago ─▶ run/NODE ─ taken in ─▶ its directory is finished
//!      └─ again: to whoever did not answer, and by each new way to a node
//! ```
//!
//! A node that was cut off or asleep at the end would else keep an unfinished run, and refuse the next.
//! What is said late may reach a node that begins another run by then, or the same once more: so the word says
//! which run is over, and since when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tickwright_core::domain::NodeId;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::{OVER, ROLE_PREFIX, role};
use crate::cluster::{Message, Network, Route};

/// How long one node may take to take the word in; others hear it meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks at who has not heard it.
const AGAIN: Duration = Duration::from_secs(1);

/// What tells a run from others.
pub(super) type RunId = [u8; 32];

/// The word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Over {
    run: RunId,
    /// For how long it has been over.
    ago: Duration,
}

impl Over {
    /// What was sent; none, if it cannot be read.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Whether it concerns a share of `run` that was started so long ago, and went on with an unfinished run if
    /// `resumed`. One that began anew after the end is of the next run.
    pub(super) fn concerns(&self, run: RunId, age: Duration, resumed: bool) -> bool {
        self.run == run && (resumed || age >= self.ago)
    }
}

/// Tells those who have not heard it, until it is dropped.
#[derive(Debug)]
pub(super) struct Telling(JoinHandle<()>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Telling {
    /// Tells every node that `run` is over. Returns once each has heard it, or has not answered in time: then
    /// it is told again.
    pub(super) async fn start(network: Network, run: RunId) -> Self {
        let ended = Instant::now();
        let mut told = BTreeMap::new();
        tell_all(&network, (run, ended), &mut told).await;
        Self(tokio::spawn(async move {
            let mut look = interval(AGAIN);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                look.tick().await;
                tell_all(&network, (run, ended), &mut told).await;
            }
        }))
    }
}

/// Nodes but this one that have a share.
pub(super) fn partners(network: &Network) -> impl Iterator<Item = NodeId> {
    let own = network.own().id.clone();
    let roles = network.roles().into_iter();
    let named = roles.filter_map(|(role, _)| Some(role.strip_prefix(ROLE_PREFIX)?.into()));
    named.filter(move |node| *node != own)
}

/// Tells each node once by each way to it: a node that was started again comes by another. `told` has one entry
/// per node.
async fn tell_all(
    network: &Network,
    (run, ended): (RunId, Instant),
    told: &mut BTreeMap<NodeId, Route>,
) {
    let mut asked = JoinSet::new();
    for node in partners(network) {
        let role = role(&node);
        let Some(route) = network.route(&role) else { continue };
        if told.get(&node) == Some(&route) {
            continue;
        }
        let network = network.clone();
        asked.spawn(async move {
            let word = Over { run, ago: ended.elapsed() };
            let body = serde_json::json!(word).to_string().into_bytes();
            let message =
                Message { role: &role, kind: OVER, epoch: 0, body: &body, is_urgent: true };
            match network.ask(Some(&node), message, PATIENCE).await {
                Ok(_) => Some((node, route)),
                Err(error) => {
                    tracing::debug!(%node, %error, "it has not heard that the run is over");
                    None
                }
            }
        });
    }
    while let Some(heard) = asked.join_next().await {
        told.extend(heard.ok().flatten());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::cluster::Request;
    use crate::cluster::network_tests::{End, link_anew, pair};

    const RUN: RunId = [7; 32];

    /// What `b` hears as a node that has a share: the first `refusals` words are not taken in.
    fn listen(b: &End, refusals: usize) -> Arc<AtomicUsize> {
        let heard = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&heard);
        let take = move |mut request: Request| {
            let word = Over::decode(&request.body).ok_or("not the word")?;
            assert!(request.kind == OVER && word.concerns(RUN, Duration::MAX, false));
            if counter.fetch_add(1, Ordering::SeqCst) < refusals {
                return Err("too many questions wait".to_owned());
            }
            request.reply.take().ok_or("nobody awaits an answer")?.answer(Vec::new());
            Ok(())
        };
        b.network.register(&role(&"b".into()), None, Arc::new(take));
        heard
    }

    async fn comes_to(heard: &AtomicUsize, count: usize) {
        tokio::time::timeout(Duration::from_secs(10), async {
            while heard.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn whoever_does_not_take_the_word_in_is_told_again_and_whoever_does_is_not() {
        let (mut a, mut b) = pair().await;
        let heard = listen(&b, 2);
        a.finds(&b);
        let _telling = Telling::start(a.network.clone(), RUN).await;
        assert_eq!(heard.load(Ordering::SeqCst), 1, "the first word is out by then");
        comes_to(&heard, 3).await;
        tokio::time::sleep(2 * AGAIN).await;
        assert_eq!(heard.load(Ordering::SeqCst), 3);
        // It may be another life of the node that comes by another link.
        link_anew(&mut a, &mut b);
        comes_to(&heard, 4).await;
    }

    #[tokio::test]
    async fn a_node_that_is_found_after_the_end_hears_it_too() {
        let (a, b) = pair().await;
        let _telling = Telling::start(a.network.clone(), RUN).await;
        let heard = listen(&b, 0);
        a.finds(&b);
        comes_to(&heard, 1).await;
    }

    #[test]
    fn the_word_concerns_who_had_a_share_of_that_run() {
        let [long, short] = [5, 1].map(Duration::from_secs);
        let over = Over { run: RUN, ago: short };
        assert!(over.concerns(RUN, long, false) && over.concerns(RUN, short, false));
        let late = Over { run: RUN, ago: long };
        assert!(!late.concerns(RUN, short, false), "it begins the run once more");
        assert!(late.concerns(RUN, short, true), "it was away at the end");
        assert!(!late.concerns([8; 32], long, true), "that is another run");
        let body = serde_json::json!(late).to_string();
        assert_eq!(Over::decode(body.as_bytes()), Some(late));
        assert_eq!(Over::decode(b""), None);
    }
}
