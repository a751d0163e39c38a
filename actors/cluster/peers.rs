//! A bounded queue for each node that an actor tells things: whoever is slow costs room and no time. What is in
//! it is in no hurry: where a link is busy, rows and questions go first.

use std::collections::BTreeMap;
use std::time::Duration;

use tickwright_core::domain::NodeId;
use tokio::sync::mpsc;

use super::{Message, Network};

/// Messages that wait to be sent to one node.
const QUEUE_MAX: usize = 64;

/// How long a message may wait for credit.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a message lets others go first where half of a link's credit is out. Not for ever: a link may always be
/// busy, and what all nodes go by has to arrive within a few heartbeats all the same.
const YIELD: Duration = Duration::from_millis(50);

/// Queues to one role of every node: at most once, and what finds no room is dropped and counted.
#[derive(Debug)]
pub struct PeerQueues {
    network: Network,
    role: fn(&str) -> String,
    kind: &'static str,
    queues: BTreeMap<NodeId, mpsc::Sender<Vec<u8>>>,
    unsent: u64,
}

impl PeerQueues {
    /// No queues yet; `role` is who is told on a node of this name, `kind` what the messages are.
    pub const fn new(network: Network, role: fn(&str) -> String, kind: &'static str) -> Self {
        Self { network, role, kind, queues: BTreeMap::new(), unsent: 0 }
    }

    /// Forgets what waits for nodes that are not among those to keep.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&NodeId) -> bool) {
        self.queues.retain(|node, _| is_kept(node));
    }

    /// Tells a node some time soon, unless its queue is full.
    pub fn send(&mut self, to: NodeId, body: Vec<u8>) {
        let Self { network, role, kind, .. } = self;
        let (name, kind) = (role(&to.0), *kind);
        let queue = self.queues.entry(to.clone()).or_insert_with(|| {
            let (sender, mut queue) = mpsc::channel::<Vec<u8>>(QUEUE_MAX);
            let network = network.clone();
            tokio::spawn(async move {
                while let Some(body) = queue.recv().await {
                    let (role, body) = (name.as_str(), body.as_slice());
                    let message = Message { role, kind, epoch: 0, body, is_urgent: false };
                    network.yields(&to, YIELD).await;
                    if let Err(error) = network.tell(Some(&to), message, PATIENCE).await {
                        tracing::debug!(node = %to, role, %error, "it has not heard this");
                    }
                }
            });
            sender
        });
        if queue.try_send(body).is_err() {
            self.unsent += 1;
        }
    }

    /// Messages that found no room.
    pub const fn unsent(&self) -> u64 {
        self.unsent
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::cluster::Request;
    use crate::cluster::network::tests::pair;

    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn what_is_in_no_hurry_lets_others_go_first_where_a_link_is_busy() {
        let (a, b) = pair().await;
        let (kept, mut received) = mpsc::unbounded_channel();
        let keep = move |request: Request| kept.send(request).map_err(|_| "gone".to_owned());
        b.network.register("slow", None, Arc::new(keep));
        let to: NodeId = "b".into();
        // None of them is worked off: more than half of the credit is out, and there is some left.
        let mut held = Vec::new();
        for _ in 0..40 {
            let (role, kind, body) = ("slow", "test", &[7; 1_000]);
            let message = Message { role, kind, epoch: 0, body, is_urgent: false };
            a.network.tell(Some(&to), message, LONG).await.unwrap();
            held.push(tokio::time::timeout(LONG, received.recv()).await.unwrap());
        }
        let mut queues = PeerQueues::new(a.network.clone(), |_| "slow".to_owned(), "test");
        let since = Instant::now();
        queues.send(to, b"later".to_vec());
        let later = tokio::time::timeout(LONG, received.recv()).await.unwrap().unwrap();
        assert_eq!(later.body, b"later");
        assert!(since.elapsed() >= YIELD, "{:?}", since.elapsed());
        drop(held);
    }
}
