//! Locks of orders: an executor tries an order only where no other one is at work.
//!
//! ```text
//! Commit{Open, …} ─▶ take the locks ─▶ the ledger ─▶ give back what was not opened, and what has ended
//!                         ╰─ live on while the order is open ─╯
//! ```
//!
//! *The lock of an order.* An executor is one owner, so its own orders do not wait for each other. What another
//! has for longer than `locks.wait_ms` is tried all the same: that no order is placed twice is the slots' business.
//!
//! *The lock of a strategy*, where it names one. The strategy is the owner, and what another has is not opened.
//!
//! If nobody keeps the locks nothing is opened. Neither holds up what brings a position nearer to zero.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tickwright_core::config::{LockKeeping, LocksConfig};
use tickwright_core::domain::{
    LockMode, OrderId, OrderIntent, SlotCommand, SlotDone, SlotKey, SlotRefusal,
};

use super::Back;
use crate::locks::{LockAsk, LockBackend, LockError};

/// Orders whose locks are remembered. Those of others end when their time is over.
const HELD_MAX: usize = 4_096;

/// Parts of the time to live after which a lock is extended.
const EXTENDED_AFTER: u32 = 3;

/// A lock that an order has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hold {
    key: String,
    owner: String,
    token: u64,
}

/// Of each order by its slot and generation.
type Held = BTreeMap<(SlotKey, u64), Vec<Hold>>;

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The locks of one executor's orders. Clones share them.
#[derive(Clone, Debug)]
pub struct OrderLocks {
    backend: Arc<dyn LockBackend>,
    owner: String,
    config: LocksConfig,
    /// The lock of each strategy that names one.
    strategies: Arc<BTreeMap<String, String>>,
    held: Arc<Mutex<Held>>,
}

impl OrderLocks {
    /// Those of `owner`, which no other executor is called; `strategies` names the lock of each that has one. Must
    /// be called within a runtime: what is held is extended until the last clone is gone.
    pub fn new(
        backend: Arc<dyn LockBackend>,
        owner: String,
        config: LocksConfig,
        strategies: BTreeMap<String, String>,
    ) -> Self {
        let held = Arc::<Mutex<Held>>::default();
        tokio::spawn(extend(Arc::downgrade(&held), Arc::clone(&backend), config.ttl));
        Self { backend, owner, config, strategies: Arc::new(strategies), held }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
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
        let place = (slot.clone(), *generation);
        let refused = match self.take_of_strategy(&place, intent).await {
            Some(refused) => Some(refused),
            None if self.config.keeping == LockKeeping::None => None,
            None => self.take_of_order(&place, intent).await,
        };
        refused.filter(|_| !urgent.contains(&intent.signal.id))
    }

    /// The lock that the strategy names, if it names one.
    async fn take_of_strategy(
        &self,
        place: &(SlotKey, u64),
        intent: &OrderIntent,
    ) -> Option<SlotRefusal> {
        let strategy = &intent.signal.strategy;
        let key = self.strategies.get(strategy)?;
        let owner = format!("strategy/{}/{strategy}", intent.signal.run);
        // It is given back by a commit of this executor, which would wait for this one.
        let is_another = |hold: &Hold| hold.key == *key && hold.owner != owner;
        let is_held = self.held().values().flatten().any(is_another);
        let taken = if is_held { Ok(false) } else { self.acquire(place, key.clone(), owner).await };
        match taken {
            Ok(true) => None,
            Ok(false) => Some(SlotRefusal::LockHeld { key: key.clone() }),
            Err(refusal) => Some(refusal),
        }
    }

    /// The lock of what the order is about, see [`LocksConfig::granularity`].
    async fn take_of_order(
        &self,
        place: &(SlotKey, u64),
        intent: &OrderIntent,
    ) -> Option<SlotRefusal> {
        let key = self.key(&place.0, intent);
        let taken = self.acquire(place, key.clone(), self.owner.clone()).await;
        if taken == Ok(false) {
            tracing::debug!(slot = %place.0, key, "another is at work there; tried all the same");
        }
        taken.err()
    }

    /// Whether the order at `place` has this lock now, and not another owner.
    async fn acquire(
        &self,
        place: &(SlotKey, u64),
        key: String,
        owner: String,
    ) -> Result<bool, SlotRefusal> {
        let LocksConfig { ttl, wait, .. } = self.config;
        let ask = LockAsk { key, owner, mode: LockMode::Write, ttl, wait };
        match self.backend.acquire(&ask).await {
            Ok(grant) => {
                let LockAsk { key, owner, .. } = ask;
                let hold = Hold { key, owner, token: grant.token };
                let mut held = self.held();
                if held.len() < HELD_MAX || held.contains_key(place) {
                    held.entry(place.clone()).or_default().push(hold);
                }
                Ok(true)
            }
            Err(LockError::Refused(_) | LockError::TimedOut { .. }) => Ok(false),
            Err(error @ (LockError::Away(_) | LockError::Busy(_) | LockError::Unknown(_))) => {
                Err(SlotRefusal::NoLock { reason: error.to_string() })
            }
        }
    }

    fn key(&self, slot: &SlotKey, intent: &OrderIntent) -> String {
        let key = self.config.granularity.key(&slot.symbol, intent.limit_price);
        format!("order/{}/{key}", slot.venue)
    }

    /// Gives back the locks of what is over, or never began. Nobody waits for that.
    fn give_back(&self, command: &SlotCommand, result: &Result<SlotDone, SlotRefusal>) {
        let place = match (command, result) {
            (SlotCommand::Open { slot, generation, .. }, Err(_))
            | (SlotCommand::End { slot, generation, .. }, Ok(_)) => (slot.clone(), *generation),
            _ => return,
        };
        let Some(holds) = self.held().remove(&place) else { return };
        let backend = Arc::clone(&self.backend);
        tokio::spawn(async move {
            for Hold { key, owner, token } in holds {
                if let Err(error) = backend.unlock(&key, &owner, token).await {
                    tracing::debug!(key, %error, "the lock of an order ends by itself");
                }
            }
        });
    }
}

/// Lets what orders have live for as long as they do, while anybody keeps `held`.
async fn extend(held: Weak<Mutex<Held>>, backend: Arc<dyn LockBackend>, ttl: Duration) {
    loop {
        tokio::time::sleep(ttl / EXTENDED_AFTER).await;
        let Some(held) = held.upgrade() else { return };
        // Orders of one owner share a lock.
        let holds: BTreeSet<Hold> = lock(&held).values().flatten().cloned().collect();
        drop(held);
        for Hold { key, owner, token } in holds {
            match backend.extend(&key, &owner, token, ttl).await {
                Ok(()) => {}
                // It was given back meanwhile; or it is lost, which endangers nothing.
                Err(error @ (LockError::Refused(_) | LockError::TimedOut { .. })) => {
                    tracing::debug!(key, %error, "the lock of an order does not live on");
                }
                // The others would be asked for in vain as well.
                Err(LockError::Away(_) | LockError::Busy(_) | LockError::Unknown(_)) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tickwright_core::config::Config;
    use tickwright_core::domain::{
        ClientOrderId, Key, LockEvent, LockGranularity, LockStatistics, Price, Quantity, Side,
        SignalIdentity, SlotOutcome, SlotRight, Symbol, Timestamp, VenueAccount,
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
        let (keeping, wait) = (LockKeeping::Ledger, Duration::from_millis(20));
        LocksConfig { keeping, wait, ..Config::default().locks }
    }

    fn order_locks(backend: Arc<dyn LockBackend>, owner: &str) -> OrderLocks {
        order_locks_of(backend, owner, config().granularity)
    }

    fn order_locks_of(
        backend: Arc<dyn LockBackend>,
        owner: &str,
        granularity: LockGranularity,
    ) -> OrderLocks {
        let config = LocksConfig { granularity, ..config() };
        OrderLocks::new(backend, owner.into(), config, BTreeMap::new())
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
        let locks = order_locks(backend.clone(), "exec");
        assert_eq!(commit(&locks, vec![open(1), open(2)]).await, [true, true]);
        let held = backend.list().await.unwrap();
        assert_eq!((held.len(), held[0].holders[0].holds), (1, 2), "one symbol, two orders");
        assert_eq!(held[0].key, "order/x/main/A.X");
        assert_eq!(commit(&locks, vec![end(1)]).await, [true]);
        assert_eq!(commit(&locks, vec![end(2)]).await, [true]);
        is_free(&*backend).await;
    }

    /// [`open`] at a price.
    fn open_at(price: i64, level: i64) -> SlotCommand {
        let mut command = open(level);
        if let SlotCommand::Open { intent, .. } = &mut command {
            intent.limit_price = Price(price);
        }
        command
    }

    #[tokio::test]
    async fn a_lock_is_of_a_symbol_of_an_interval_of_prices_or_of_one_price() {
        // The keys of orders at these prices, in the order of keys, and how many orders share each.
        let cases: [(LockGranularity, &[(&str, u32)]); 3] = [
            (LockGranularity::Symbol, &[("order/x/main/A.X", 4)]),
            (
                LockGranularity::PriceInterval(10),
                &[("order/x/main/A.X/1", 3), ("order/x/main/A.X/2", 1)],
            ),
            (
                LockGranularity::Price,
                &[
                    ("order/x/main/A.X/10", 2),
                    ("order/x/main/A.X/19", 1),
                    ("order/x/main/A.X/20", 1),
                ],
            ),
        ];
        for (granularity, expected) in cases {
            let backend = Arc::new(LocalLocks::new("a"));
            let locks = order_locks_of(backend.clone(), "exec", granularity);
            let orders = vec![open_at(10, 1), open_at(10, 2), open_at(19, 3), open_at(20, 4)];
            assert_eq!(commit(&locks, orders).await, [true; 4]);
            let held = backend.list().await.unwrap();
            let held: BTreeMap<&str, u32> =
                held.iter().map(|lock| (lock.key.as_str(), lock.holders[0].holds)).collect();
            let expected: BTreeMap<&str, u32> = expected.iter().copied().collect();
            assert_eq!(held, expected, "{granularity:?}");

            // Another executor waits for what it shares, and for nothing else.
            let other = order_locks_of(backend.clone(), "other", granularity);
            assert_eq!(commit(&other, vec![open_at(21, 5)]).await, [true]);
            let waited = backend.statistics().await.unwrap().timeouts;
            let is_shared = granularity != LockGranularity::Price;
            assert_eq!(waited, u64::from(is_shared), "{granularity:?}");
        }
    }

    #[tokio::test]
    async fn what_was_not_opened_needs_no_lock_and_what_another_has_is_tried_all_the_same() {
        let backend = Arc::new(LocalLocks::new("a"));
        let locks = order_locks(backend.clone(), "exec");
        let refuse = |_| async { Back::Committed(vec![Err(SlotRefusal::Consumed)]) };
        locks.around(vec![open(1)], BTreeSet::new(), refuse).await;
        is_free(&*backend).await;
        let other = order_locks(backend.clone(), "other");
        assert_eq!(commit(&other, vec![open(1)]).await, [true]);
        assert_eq!(commit(&locks, vec![open(2)]).await, [true]);
        assert_eq!(backend.statistics().await.unwrap().timeouts, 1, "it has waited");
    }

    #[tokio::test]
    async fn nothing_is_opened_while_nobody_keeps_locks_but_what_reduces_and_what_ends() {
        let locks = order_locks(Arc::new(Gone), "exec");
        let urgent = BTreeSet::from([signal(2).id]);
        let done = around(&locks, vec![open(1), end(3), open(2)], urgent).await;
        assert_eq!(done, [false, true, true]);
    }

    /// [`open`] by another strategy.
    fn open_of(strategy: &str, level: i64) -> SlotCommand {
        let mut command = open(level);
        if let SlotCommand::Open { intent, .. } = &mut command {
            intent.signal.strategy = strategy.into();
        }
        command
    }

    #[tokio::test]
    async fn strategies_that_name_one_lock_have_no_orders_open_at_once_and_it_lives_as_long_as_they()
     {
        let backend = Arc::new(LocalLocks::new("a"));
        let ttl = Duration::from_millis(60);
        let config = LocksConfig { keeping: LockKeeping::None, ttl, ..config() };
        let named = ["s", "t"].map(|strategy| (strategy.to_owned(), "pair".to_owned()));
        let locks = OrderLocks::new(backend.clone(), "exec".into(), config, named.into());
        assert_eq!(commit(&locks, vec![open(1), open(2)]).await, [true, true], "of one strategy");
        let held = backend.list().await.unwrap();
        assert_eq!(held.len(), 1, "that of the order is not taken if nobody keeps locks");
        let holder = &held[0].holders[0];
        let seen = (held[0].key.as_str(), holder.owner.as_str(), holder.holds);
        assert_eq!(seen, ("pair", "strategy/r/s", 2));
        let of = |strategy: &str, level: i64| vec![open_of(strategy, level)];
        assert_eq!(commit(&locks, of("t", 3)).await, [false]);
        assert_eq!(commit(&locks, of("u", 4)).await, [true], "it names none");
        let urgent = BTreeSet::from([signal(5).id]);
        assert_eq!(around(&locks, of("t", 5), urgent).await, [true], "it reduces");

        let extensions = || async { backend.statistics().await.unwrap().extensions };
        let since = Instant::now();
        while extensions().await < 6 {
            assert!(since.elapsed() < Duration::from_secs(10), "it is extended");
            tokio::time::sleep(ttl / 6).await;
        }
        assert_eq!(commit(&locks, of("t", 6)).await, [false], "it has outlived its time");
        assert_eq!(commit(&locks, vec![end(1), end(2)]).await, [true, true]);
        is_free(&*backend).await;
        assert_eq!(commit(&locks, of("t", 7)).await, [true]);
        assert_eq!(commit(&locks, vec![open(8)]).await, [false]);
        // A program of one's own holds both off.
        commit(&locks, vec![end(7)]).await;
        is_free(&*backend).await;
        let ask = LockAsk {
            key: "pair".into(),
            owner: "a person".into(),
            mode: LockMode::Write,
            ttl: Duration::from_secs(60),
            wait: Duration::ZERO,
        };
        backend.acquire(&ask).await.unwrap();
        assert_eq!(commit(&locks, vec![open(9)]).await, [false]);
    }
}
