//! Locks that Redis keeps, and what is done while it is away.
//!
//! ```text
//! there ── a request or a look fails ──▶ away ── two looks in a row succeed ──▶ there
//!   └─▶ Redis                              └─▶ refused, or decided here (WhenAway)
//! ```
//!
//! What was granted here stays here until it is given back or its time is over, also when Redis has come
//! back; meanwhile another node may have the same lock from Redis. Whoever waits for such a lock once Redis is back
//! gets it there and not here, or owners here would hand it to each other for ever.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tickwright_core::domain::{LockEvent, LockStatistics};
use tickwright_core::ledger::{KeeperHealth, WhenAway};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{
    EVENTS_MAX, LocalLocks, LockAsk, LockBackend, LockError, LockGrant, LockView, Pending,
    RedisLocks, RedisSettings,
};
use crate::kit::Clock;

/// Between two looks whether what was granted here has ended.
const LOOK: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub struct FallbackLocks {
    shared: Arc<Shared>,
    events: broadcast::Sender<LockEvent>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    redis: RedisLocks,
    local: LocalLocks,
    when_away: WhenAway,
    node: String,
    health: Mutex<KeeperHealth>,
    /// The largest token that Redis has given here.
    highest: AtomicU64,
}

impl Shared {
    fn trouble(&self) -> Option<String> {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.trouble().map(str::to_owned)
    }

    fn on_failed(&self, error: &LockError) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if health.on_failed(&error.to_string()) {
            tracing::warn!(%error, when_away = ?self.when_away, "Redis is away");
        }
    }

    fn on_answered(&self) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if health.on_answered() {
            tracing::info!("Redis is back");
        }
    }

    /// Asks Redis, unless it is known to be away.
    async fn of_redis<T>(&self, asked: Pending<'_, T>) -> Result<T, LockError> {
        if let Some(trouble) = self.trouble() {
            return Err(LockError::Away(trouble));
        }
        let told = asked.await;
        if let Err(error @ (LockError::Away(_) | LockError::Unknown(_))) = &told {
            self.on_failed(error);
        }
        told
    }

    /// Grants here what Redis cannot. Tokens go on to grow: they are microseconds there, and here as well.
    async fn of_local(&self, ask: &LockAsk) -> Result<LockGrant, LockError> {
        let micros = Clock::system().now().as_nanos() / 1_000;
        self.local.grant_after(micros.max(self.highest.load(Ordering::Relaxed)));
        self.local.acquire(ask).await
    }
}

impl Drop for FallbackLocks {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl FallbackLocks {
    /// Locks in Redis, which is looked for every `look`. Must be called within a runtime.
    pub fn new(settings: RedisSettings, when_away: WhenAway, look: Duration) -> Self {
        let node = settings.node.clone();
        let local = LocalLocks::new(&node);
        let redis = RedisLocks::new(settings);
        let (health, highest) = (Mutex::default(), AtomicU64::new(0));
        let shared = Arc::new(Shared { redis, local, when_away, node, health, highest });
        let events = broadcast::channel(EVENTS_MAX).0;
        let looking = tokio::spawn(watch(Arc::clone(&shared), look));
        let passing = [shared.redis.events(), shared.local.events()]
            .map(|heard| tokio::spawn(pass(heard, events.clone())));
        Self { shared, events, tasks: passing.into_iter().chain([looking]).collect() }
    }

    async fn acquire_somewhere(&self, ask: &LockAsk) -> Result<LockGrant, LockError> {
        let shared = &self.shared;
        let until = Instant::now() + ask.wait;
        // What was granted here while Redis was away ends here.
        while shared.local.is_held(&ask.key) {
            let is_own = shared.local.holds(&ask.key, &ask.owner);
            if is_own || ask.wait.is_zero() || shared.trouble().is_some() {
                return shared.of_local(ask).await;
            }
            if Instant::now() >= until {
                return Err(LockError::TimedOut { key: ask.key.clone(), wait: ask.wait });
            }
            tokio::time::sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
        }
        let ask = &LockAsk { wait: until.saturating_duration_since(Instant::now()), ..ask.clone() };
        match shared.of_redis(shared.redis.acquire(ask)).await {
            Err(LockError::Away(_)) if shared.when_away.is_decided_by(&shared.node) => {
                shared.of_local(ask).await
            }
            Ok(grant) => {
                shared.highest.fetch_max(grant.token, Ordering::Relaxed);
                Ok(grant)
            }
            Err(LockError::Away(reason)) => Err(LockError::Away(match &shared.when_away {
                WhenAway::StaticOwnerOnly(owner) => {
                    format!("{reason}; meanwhile only node {owner} has locks")
                }
                WhenAway::Refuse | WhenAway::LocalOnly => reason,
            })),
            refused => refused,
        }
    }
}

async fn watch(shared: Arc<Shared>, look: Duration) {
    loop {
        match shared.redis.check().await {
            Ok(()) => shared.on_answered(),
            Err(error) => shared.on_failed(&error),
        }
        shared.redis.end_over();
        tokio::time::sleep(look).await;
    }
}

async fn pass(mut heard: broadcast::Receiver<LockEvent>, told: broadcast::Sender<LockEvent>) {
    loop {
        match heard.recv().await {
            Ok(event) => drop(told.send(event)),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn sum(one: LockStatistics, other: LockStatistics) -> LockStatistics {
    LockStatistics {
        grants: one.grants + other.grants,
        reentries: one.reentries + other.reentries,
        waits: one.waits + other.waits,
        wait_grants: one.wait_grants + other.wait_grants,
        timeouts: one.timeouts + other.timeouts,
        refusals: one.refusals + other.refusals,
        deadlocks: one.deadlocks + other.deadlocks,
        releases: one.releases + other.releases,
        expiries: one.expiries + other.expiries,
        session_ends: one.session_ends + other.session_ends,
        extensions: one.extensions + other.extensions,
    }
}

impl LockBackend for FallbackLocks {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn acquire<'p>(&'p self, ask: &'p LockAsk) -> Pending<'p, LockGrant> {
        Box::pin(self.acquire_somewhere(ask))
    }

    fn unlock<'p>(&'p self, key: &'p str, owner: &'p str, token: u64) -> Pending<'p, u32> {
        let shared = &self.shared;
        if shared.local.has(key, owner, token) {
            return shared.local.unlock(key, owner, token);
        }
        Box::pin(shared.of_redis(shared.redis.unlock(key, owner, token)))
    }

    fn extend<'p>(
        &'p self,
        key: &'p str,
        owner: &'p str,
        token: u64,
        ttl: Duration,
    ) -> Pending<'p, ()> {
        let shared = &self.shared;
        if shared.local.has(key, owner, token) {
            return shared.local.extend(key, owner, token, ttl);
        }
        Box::pin(shared.of_redis(shared.redis.extend(key, owner, token, ttl)))
    }

    fn list(&self) -> Pending<'_, Vec<LockView>> {
        Box::pin(async move {
            let mut all = self.shared.local.list().await?;
            // What Redis keeps cannot be seen while it is away; `trouble` says so.
            match self.shared.of_redis(self.shared.redis.list()).await {
                Ok(locks) => all.extend(locks),
                Err(LockError::Away(_) | LockError::Busy(_) | LockError::Unknown(_)) => {}
                Err(error) => return Err(error),
            }
            Ok(all)
        })
    }

    fn statistics(&self) -> Pending<'_, LockStatistics> {
        Box::pin(async move {
            let redis = self.shared.redis.statistics().await?;
            Ok(sum(redis, self.shared.local.statistics().await?))
        })
    }

    fn events(&self) -> broadcast::Receiver<LockEvent> {
        self.events.subscribe()
    }

    fn trouble(&self) -> Option<String> {
        self.shared.trouble()
    }
}
