//! Locks of orders: an executor tries an order only where no other one is at work.
//!
//! ```text
//! Commit{Open, …} ─▶ take the locks ─▶ the ledger ─▶ give back what was not opened, and what has ended
//! ```
//!
//! An executor is one owner, so its own orders do not wait for each other. What another has for longer than
//! `locks.wait_ms` is tried all the same: that no order is placed twice is the slots' business. Only if
//! nobody keeps the locks nothing is opened, except to bring a position nearer to zero.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tickwright_core::config::LocksConfig;
use tickwright_core::domain::{
    LockMode, OrderId, OrderIntent, SlotCommand, SlotDone, SlotKey, SlotRefusal,
};

use super::Back;
use crate::locks::{LockAsk, LockBackend, LockError};

/// Orders whose locks are remembered. Those of others end when their time is over.
const HELD_MAX: usize = 4_096;

/// Of each order by its slot and generation: the lock, and the token.
type Held = BTreeMap<(SlotKey, u64), (String, u64)>;

/// The locks of one executor's orders. Clones share them.
#[derive(Clone, Debug)]
pub struct OrderLocks {
    backend: Arc<dyn LockBackend>,
    owner: String,
    config: LocksConfig,
    held: Arc<Mutex<Held>>,
}

impl OrderLocks {
    /// Those of `owner`, which no other executor is called.
    pub fn new(backend: Arc<dyn LockBackend>, owner: String, config: LocksConfig) -> Self {
        Self { backend, owner, config, held: Arc::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `commit` carry out `commands` under the locks that they need. Orders in `urgent` do without.
    pub(super) async fn around<F>(
        &self,
        commands: Vec<SlotCommand>,
        urgent: BTreeSet<OrderId>,
        commit: impl FnOnce(Vec<SlotCommand>) -> F,
    ) -> Back
    where
        F: Future<Output = Back>,
    {
        let taken = join_all(commands.iter().map(|command| self.take(command, &urgent))).await;
        let may = |(command, refused): (&SlotCommand, &Option<SlotRefusal>)| {
            refused.is_none().then(|| command.clone())
        };
        let sent: Vec<SlotCommand> = commands.iter().zip(&taken).filter_map(may).collect();
        let back = if sent.is_empty() { Back::Committed(Vec::new()) } else { commit(sent).await };
        let Back::Committed(answers) = back else { return back };
        let mut answers = answers.into_iter();
        let mut results = Vec::with_capacity(commands.len());
        for (command, refused) in commands.iter().zip(taken) {
            let result = match refused {
                Some(refusal) => Err(refusal),
                None => match answers.next() {
                    Some(result) => result,
                    None => return Back::Confused("the ledger gave too few answers".into()),
                },
            };
            self.give_back(command, &result);
            results.push(result);
        }
        Back::Committed(results)
    }

    async fn take(&self, command: &SlotCommand, urgent: &BTreeSet<OrderId>) -> Option<SlotRefusal> {
        let SlotCommand::Open { slot, generation, intent, .. } = command else { return None };
        let LocksConfig { ttl, wait, .. } = self.config;
        let (owner, mode) = (self.owner.clone(), LockMode::Write);
        let ask = LockAsk { key: self.key(slot, intent), owner, mode, ttl, wait };
        match self.backend.acquire(&ask).await {
            Ok(grant) => {
                let mut held = self.held();
                if held.len() < HELD_MAX {
                    held.insert((slot.clone(), *generation), (ask.key, grant.token));
                }
                None
            }
            Err(LockError::Refused(_) | LockError::TimedOut { .. }) => {
                tracing::debug!(%slot, key = ask.key, "another is at work there; tried all the same");
                None
            }
            Err(LockError::Away(_) | LockError::Busy(_) | LockError::Unknown(_))
                if urgent.contains(&intent.signal.id) =>
            {
                None
            }
            Err(error @ (LockError::Away(_) | LockError::Busy(_) | LockError::Unknown(_))) => {
                Some(SlotRefusal::NoLock { reason: error.to_string() })
            }
        }
    }

    fn key(&self, slot: &SlotKey, intent: &OrderIntent) -> String {
        let key = self.config.granularity.key(&slot.symbol, intent.limit_price);
        format!("order/{}/{key}", slot.venue)
    }

    /// Gives back the lock of what is over, or never began. Nobody waits for that.
    fn give_back(&self, command: &SlotCommand, result: &Result<SlotDone, SlotRefusal>) {
        let place = match (command, result) {
            (SlotCommand::Open { slot, generation, .. }, Err(_))
            | (SlotCommand::End { slot, generation, .. }, Ok(_)) => (slot.clone(), *generation),
            _ => return,
        };
        let Some((key, token)) = self.held().remove(&place) else { return };
        let (backend, owner) = (Arc::clone(&self.backend), self.owner.clone());
        tokio::spawn(async move {
            if let Err(error) = backend.unlock(&key, &owner, token).await {
                tracing::debug!(key, %error, "the lock of an order ends by itself");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tickwright_core::config::Config;
    use tickwright_core::domain::{
        ClientOrderId, Key, LockEvent, LockStatistics, Price, Quantity, Side, SignalIdentity,
        SlotOutcome, SlotRight, Symbol, Timestamp, VenueAccount,
    };
    use tokio::sync::broadcast;

    use super::*;
    use crate::locks::{LocalLocks, LockGrant, LockView, Pending};

    /// Nobody keeps the locks.
    #[derive(Debug)]
    struct Gone;

    fn gone<T>() -> Pending<'static, T> {
        Box::pin(async { Err(LockError::Away("gone".into())) })
    }

    impl LockBackend for Gone {
        fn name(&self) -> &'static str {
            "gone"
        }

        fn acquire<'p>(&'p self, _: &'p LockAsk) -> Pending<'p, LockGrant> {
            gone()
        }

        fn unlock<'p>(&'p self, _: &'p str, _: &'p str, _: u64) -> Pending<'p, u32> {
            gone()
        }

        fn extend<'p>(&'p self, _: &'p str, _: &'p str, _: u64, _: Duration) -> Pending<'p, ()> {
            gone()
        }

        fn list(&self) -> Pending<'_, Vec<LockView>> {
            gone()
        }

        fn statistics(&self) -> Pending<'_, LockStatistics> {
            gone()
        }

        fn events(&self) -> broadcast::Receiver<LockEvent> {
            broadcast::channel(1).1
        }
    }

    fn slot(level: i64) -> SlotKey {
        let venue = VenueAccount { exchange: "x".into(), account: "main".into() };
        SlotKey { venue, symbol: Symbol::new("A.X").unwrap(), side: Side::Buy, level }
    }

    fn signal(number: u64) -> SignalIdentity {
        let symbol = Symbol::new("A.X").unwrap();
        let id = OrderId { key: Key::of(number, 0, number), ordinal: 0 };
        SignalIdentity { run: "r".into(), strategy: "s".into(), symbol, id }
    }

    fn open(level: i64) -> SlotCommand {
        let (slot, signal) = (slot(level), signal(level.unsigned_abs()));
        let intent = OrderIntent {
            client_id: ClientOrderId::new(1, &slot, 0, signal.tag()),
            signal,
            quantity: Quantity(1),
            limit_price: Price(1),
            deadline: Timestamp::from_nanos(1),
            request: [0; 32],
        };
        let right = SlotRight::NewSignal;
        SlotCommand::Open { slot, generation: 0, intent: Box::new(intent), right }
    }

    fn end(level: i64) -> SlotCommand {
        let outcome = SlotOutcome::Refused;
        SlotCommand::End { slot: slot(level), generation: 0, attempt: None, outcome }
    }

    fn config() -> LocksConfig {
        LocksConfig { wait: Duration::from_millis(20), ..Config::default().locks }
    }

    async fn commit(locks: &OrderLocks, commands: Vec<SlotCommand>) -> Vec<bool> {
        around(locks, commands, BTreeSet::new()).await
    }

    /// Which commands were carried out, by a ledger that carries out all it is given.
    async fn around(
        locks: &OrderLocks,
        commands: Vec<SlotCommand>,
        urgent: BTreeSet<OrderId>,
    ) -> Vec<bool> {
        let all = |sent: Vec<SlotCommand>| async move {
            Back::Committed(sent.iter().map(|_| Ok(SlotDone::Done)).collect())
        };
        let back = locks.around(commands, urgent, all).await;
        let Back::Committed(results) = back else { panic!("{back:?}") };
        results.iter().map(Result::is_ok).collect()
    }

    async fn is_free(backend: &dyn LockBackend) {
        let since = Instant::now();
        while !backend.list().await.unwrap().is_empty() {
            assert!(since.elapsed() < Duration::from_secs(10), "it is given back");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_order_holds_its_lock_until_it_is_over_and_orders_of_one_executor_share_it() {
        let backend = Arc::new(LocalLocks::new("a"));
        let locks = OrderLocks::new(backend.clone(), "exec".into(), config());
        assert_eq!(commit(&locks, vec![open(1), open(2)]).await, [true, true]);
        let held = backend.list().await.unwrap();
        assert_eq!((held.len(), held[0].holders[0].holds), (1, 2), "one symbol, two orders");
        assert_eq!(held[0].key, "order/x/main/A.X");
        assert_eq!(commit(&locks, vec![end(1)]).await, [true]);
        assert_eq!(commit(&locks, vec![end(2)]).await, [true]);
        is_free(&*backend).await;
    }

    #[tokio::test]
    async fn what_was_not_opened_needs_no_lock_and_what_another_has_is_tried_all_the_same() {
        let backend = Arc::new(LocalLocks::new("a"));
        let locks = OrderLocks::new(backend.clone(), "exec".into(), config());
        let refuse = |_| async { Back::Committed(vec![Err(SlotRefusal::Consumed)]) };
        locks.around(vec![open(1)], BTreeSet::new(), refuse).await;
        is_free(&*backend).await;
        let other = OrderLocks::new(backend.clone(), "other".into(), config());
        assert_eq!(commit(&other, vec![open(1)]).await, [true]);
        assert_eq!(commit(&locks, vec![open(2)]).await, [true]);
        assert_eq!(backend.statistics().await.unwrap().timeouts, 1, "it has waited");
    }

    #[tokio::test]
    async fn nothing_is_opened_while_nobody_keeps_locks_but_what_reduces_and_what_ends() {
        let locks = OrderLocks::new(Arc::new(Gone), "exec".into(), config());
        let urgent = BTreeSet::from([signal(2).id]);
        let done = around(&locks, vec![open(1), end(3), open(2)], urgent).await;
        assert_eq!(done, [false, true, true]);
    }
}
