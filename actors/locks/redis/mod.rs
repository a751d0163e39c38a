//! Locks that Redis keeps.
//!
//! Each step is one script, which Redis carries out in one go (`locks.lua`, beside this file). Whoever waits
//! has a place in a queue there, asks again every few milliseconds, and loses the place when it stops.
//! Redis may lose everything, and a replica that lacks the last steps may take over: then two may have a
//! lock at once, the later one with the greater token.
//!
//! What happens elsewhere is not heard of here: events and counts are those of this node. That the time of a lock is
//! over is told by the clock here, when it is looked for.

mod connection;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Script};
use tickwright_core::domain::{
    LockEnd, LockEvent, LockMode, LockOwner, LockRefusal, LockStatistics,
};
use tickwright_core::ledger::{LOCK_KEY_BYTES_MAX, LOCK_OWNER_BYTES_MAX};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep};

pub use connection::RedisAddress;
use connection::{Connection, Role, Say};

use super::{
    EVENTS_MAX, HolderView, LockAsk, LockBackend, LockError, LockGrant, LockView, Pending,
    WaiterView, milliseconds,
};

/// Between two questions of somebody who waits, at first and at most; each is drawn anew up to half longer.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// How long a place in a queue is kept for somebody who does not ask again.
const LEASE: Duration = Duration::from_secs(3);

/// Locks that are looked at in one go.
const SHOWN_MAX: usize = 256;

/// Locks that are listed.
const LISTED_MAX: usize = 16_384;

/// Locks of owners here of which the end is told if nobody gives them back.
const OWN_MAX: usize = 16_384;

/// How this node takes part.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where.
    pub address: RedisAddress,
    /// What all keys begin with.
    pub prefix: String,
    /// What this node is called.
    pub node: String,
    /// Which life of it: what an earlier one had is not its own.
    pub life: u64,
}

/// See the module.
#[derive(Debug)]
pub struct RedisLocks {
    connection: Connection,
    settings: RedisSettings,
    script: Arc<Script>,
    events: broadcast::Sender<LockEvent>,
    statistics: Mutex<LockStatistics>,
    /// What owners here have, by lock and owner. At most [`OWN_MAX`].
    own: Mutex<BTreeMap<(String, String), Own>>,
    /// Makes those who wait ask at different times.
    turn: AtomicU64,
}

/// A lock of an owner here.
#[derive(Clone, Copy, Debug)]
struct Own {
    token: u64,
    /// When its time is over, by the clock here: not before it is by Redis's.
    ends: Instant,
}

/// One step.
struct Step<'s> {
    script: &'s Script,
    prefix: &'s str,
    words: Vec<String>,
}

impl Say<Vec<String>> for Step<'_> {
    async fn say(&self, mut connection: MultiplexedConnection) -> Result<Vec<String>, RedisError> {
        let mut call = self.script.key(self.prefix);
        call.arg(&self.words);
        call.invoke_async(&mut connection).await
    }
}

impl Say<Vec<Vec<String>>> for Step<'_> {
    async fn say(
        &self,
        mut connection: MultiplexedConnection,
    ) -> Result<Vec<Vec<String>>, RedisError> {
        let mut call = self.script.key(self.prefix);
        call.arg(&self.words);
        call.invoke_async(&mut connection).await
    }
}

/// The keys of locks, some at a time.
struct Scan {
    cursor: u64,
    pattern: String,
}

impl Say<(u64, Vec<String>)> for Scan {
    async fn say(
        &self,
        mut connection: MultiplexedConnection,
    ) -> Result<(u64, Vec<String>), RedisError> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(self.cursor).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(1_000);
        scan.query_async(&mut connection).await
    }
}

/// What a step came to.
enum Told {
    Granted(LockGrant),
    Waiting(u64),
    Released(u32),
    Extended,
    Cancelled,
    /// Redis knows nothing of that wait.
    Lost,
    Refused(LockRefusal),
}

fn letter(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Read => "r",
        LockMode::Write => "w",
    }
}

fn mode_of(letter: &str) -> LockMode {
    if letter == "w" { LockMode::Write } else { LockMode::Read }
}

fn garbage() -> LockError {
    LockError::Unknown("Redis gave a confused answer".into())
}

impl RedisLocks {
    /// Locks of a node. Connects when it is first asked.
    pub fn new(settings: RedisSettings) -> Self {
        Self {
            connection: Connection::new(settings.address.clone()),
            settings,
            script: Arc::new(Script::new(include_str!("locks.lua"))),
            events: broadcast::channel(EVENTS_MAX).0,
            statistics: Mutex::default(),
            own: Mutex::default(),
            turn: AtomicU64::new(0),
        }
    }

    /// Whether a master answers.
    ///
    /// # Errors
    ///
    /// Why none does.
    pub async fn check(&self) -> Result<(), LockError> {
        match self.connection.say(&Role).await?.as_str() {
            "master" => Ok(()),
            role => {
                self.connection.forget();
                Err(LockError::Away(format!("the Redis server is a {role} now")))
            }
        }
    }

    fn count(&self, count: impl FnOnce(&mut LockStatistics)) {
        count(&mut self.statistics.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn tell(&self, event: LockEvent) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    fn own(&self) -> MutexGuard<'_, BTreeMap<(String, String), Own>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `owner` has `key` by this grant, and for `ttl` from now on at the least.
    fn lives(&self, (key, owner): (&str, &str), token: u64, ttl: Duration) {
        let ends = Instant::now() + ttl;
        let mut before = None;
        {
            let mut own = self.own();
            let has_room = own.len() < OWN_MAX;
            match own.entry((key.to_owned(), owner.to_owned())) {
                Entry::Occupied(mut of) if of.get().token == token => {
                    of.get_mut().ends = of.get().ends.max(ends);
                }
                Entry::Occupied(mut of) => before = Some(of.insert(Own { token, ends })),
                Entry::Vacant(place) if has_room => drop(place.insert(Own { token, ends })),
                Entry::Vacant(_) => {}
            }
        }
        if let Some(before) = before {
            self.expired((key, owner), before.token);
        }
    }

    /// Forgets a grant; says whether it was known.
    fn forget(&self, (key, owner): (&str, &str), token: u64) -> bool {
        let mut own = self.own();
        let place = (key.to_owned(), owner.to_owned());
        let is_known = own.get(&place).is_some_and(|of| of.token == token);
        if is_known {
            own.remove(&place);
        }
        is_known
    }

    /// Tells that a grant is over, which nobody gave back.
    fn expired(&self, (key, owner): (&str, &str), token: u64) {
        self.count(|counts| counts.expiries += 1);
        let (key, owner) = (key.to_owned(), self.owner(owner));
        self.tell(LockEvent::Released { key, owner, token, end: LockEnd::Expired });
    }

    /// Tells of the locks of owners here whose time is over.
    pub fn end_over(&self) {
        let now = Instant::now();
        let over: Vec<((String, String), Own)> =
            self.own().extract_if(.., |_, own| own.ends <= now).collect();
        for ((key, owner), Own { token, .. }) in over {
            self.expired((&key, &owner), token);
        }
    }

    /// As it is called in Redis.
    fn name(&self, owner: &str) -> String {
        format!("{}/{:x}/{owner}", self.settings.node, self.settings.life)
    }

    fn owner(&self, name: &str) -> LockOwner {
        LockOwner { session: self.settings.life, name: name.to_owned() }
    }

    async fn step(&self, words: &[&str]) -> Result<Told, LockError> {
        let words = words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let key = words.get(1).cloned().unwrap_or_default();
        let (token, prefix) = (words.get(3).cloned(), &self.settings.prefix);
        let step = Step { script: &self.script, prefix, words };
        let told: Vec<String> = self.connection.say(&step).await?;
        read(&told, key, token.as_deref()).ok_or_else(garbage)
    }

    async fn acquire_in_turn(&self, ask: &LockAsk) -> Result<LockGrant, LockError> {
        check(ask)?;
        let until = Instant::now() + ask.wait;
        let (owner, ttl) = (self.name(&ask.owner), milliseconds(ask.ttl).to_string());
        let waits = if ask.wait > Duration::ZERO { "1" } else { "0" };
        let lease = milliseconds(LEASE).to_string();
        let (key, mode) = (ask.key.as_str(), letter(ask.mode));
        let mut ticket: Option<u64> = None;
        let mut pause = POLL.0;
        loop {
            let told = match ticket {
                None => self.step(&["acquire", key, &owner, mode, &ttl, waits, &lease]).await?,
                Some(ticket) => {
                    self.step(&["poll", key, &owner, &ticket.to_string(), &lease]).await?
                }
            };
            match told {
                Told::Granted(grant) => return Ok(self.granted(ask, grant, ticket)),
                Told::Waiting(place) => {
                    if ticket.replace(place).is_none() {
                        self.count(|counts| counts.waits += 1);
                        let (key, owner) = (ask.key.clone(), self.owner(&ask.owner));
                        self.tell(LockEvent::Waiting { key, owner, ticket: place });
                    }
                }
                // Redis has lost it, or this node was away: it stands at the end again.
                Told::Lost => {
                    ticket = None;
                    if Instant::now() < until {
                        continue;
                    }
                }
                Told::Refused(refusal) => return Err(self.refused(ask, refusal, ticket)),
                Told::Released(_) | Told::Extended | Told::Cancelled => return Err(garbage()),
            }
            if Instant::now() >= until {
                return self.give_up(ask, &owner, ticket).await;
            }
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % 8;
            let drawn = pause + pause * u32::try_from(turn).unwrap_or(0) / 16;
            sleep(drawn.min(until.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 2).min(POLL.1);
        }
    }

    fn granted(&self, ask: &LockAsk, grant: LockGrant, ticket: Option<u64>) -> LockGrant {
        self.lives((&ask.key, &ask.owner), grant.token, ask.ttl);
        if grant.holds > 1 {
            self.count(|counts| counts.reentries += 1);
            return grant;
        }
        self.count(|counts| {
            counts.grants += 1;
            counts.wait_grants += u64::from(ticket.is_some());
        });
        let (key, owner, mode) = (ask.key.clone(), self.owner(&ask.owner), ask.mode);
        self.tell(LockEvent::Granted { key, owner, mode, token: grant.token, ticket });
        grant
    }

    fn refused(&self, ask: &LockAsk, refusal: LockRefusal, ticket: Option<u64>) -> LockError {
        if let LockRefusal::Deadlock { cycle, .. } = &refusal {
            self.count(|counts| counts.deadlocks += 1);
            let (key, owner, cycle) = (ask.key.clone(), self.owner(&ask.owner), cycle.clone());
            self.tell(LockEvent::Aborted { key, owner, ticket: ticket.unwrap_or(0), cycle });
        } else if matches!(refusal, LockRefusal::Held { .. }) {
            self.count(|counts| counts.refusals += 1);
        }
        refusal.into()
    }

    async fn give_up(
        &self,
        ask: &LockAsk,
        owner: &str,
        ticket: Option<u64>,
    ) -> Result<LockGrant, LockError> {
        if let Some(ticket) = ticket {
            let told = self.step(&["cancel", &ask.key, owner, &ticket.to_string()]).await?;
            if let Told::Granted(grant) = told {
                return Ok(self.granted(ask, grant, Some(ticket)));
            }
            let (key, owner) = (ask.key.clone(), self.owner(&ask.owner));
            self.tell(LockEvent::Cancelled { key, owner, ticket });
        }
        self.count(|counts| counts.timeouts += 1);
        Err(LockError::TimedOut { key: ask.key.clone(), wait: ask.wait })
    }

    async fn list_all(&self) -> Result<Vec<LockView>, LockError> {
        let prefix = &self.settings.prefix;
        let head = format!("{prefix}lock:");
        let mut scan = Scan { cursor: 0, pattern: format!("{}*", glob(&head)) };
        let mut keys = std::collections::BTreeSet::new();
        loop {
            let (cursor, found) = self.connection.say(&scan).await?;
            keys.extend(
                found.into_iter().filter_map(|key| Some(key.strip_prefix(&head)?.to_owned())),
            );
            scan.cursor = cursor;
            if cursor == 0 || keys.len() >= LISTED_MAX {
                break;
            }
        }
        let mut views: Vec<LockView> = Vec::new();
        let keys: Vec<String> = keys.into_iter().take(LISTED_MAX).collect();
        for keys in keys.chunks(SHOWN_MAX) {
            let words = std::iter::once("show".to_owned()).chain(keys.iter().cloned()).collect();
            let step = Step { script: &self.script, prefix, words };
            let rows: Vec<Vec<String>> = self.connection.say(&step).await?;
            for row in &rows {
                add(&mut views, row).ok_or_else(garbage)?;
            }
        }
        Ok(views)
    }
}

/// What is refused for its form alone.
fn check(ask: &LockAsk) -> Result<(), LockError> {
    let fits = |name: &str, limit| (1..=limit).contains(&name.len());
    if !fits(&ask.key, LOCK_KEY_BYTES_MAX) || !fits(&ask.owner, LOCK_OWNER_BYTES_MAX) {
        let (key_max, name_max) = (LOCK_KEY_BYTES_MAX as u64, LOCK_OWNER_BYTES_MAX as u64);
        return Err(LockRefusal::Length { key_max, name_max }.into());
    }
    if milliseconds(ask.ttl) == 0 {
        return Err(LockRefusal::TimeToLive.into());
    }
    Ok(())
}

/// `text` as a pattern that only it fits.
fn glob(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// Node, life and name of an owner, as it is called in Redis.
fn parts(owner: &str) -> (String, LockOwner) {
    let mut parts = owner.splitn(3, '/');
    let node = parts.next().unwrap_or_default().to_owned();
    let session = parts.next().and_then(|life| u64::from_str_radix(life, 16).ok()).unwrap_or(0);
    let name = parts.next().unwrap_or_default().to_owned();
    (node, LockOwner { session, name })
}

fn read(told: &[String], key: String, token: Option<&str>) -> Option<Told> {
    let (first, rest) = told.split_first()?;
    let number = |at: usize| rest.get(at)?.parse::<u64>().ok();
    let holds = |at: usize| rest.get(at)?.parse::<u32>().ok();
    Some(match first.as_str() {
        "granted" => Told::Granted(LockGrant { token: number(0)?, holds: holds(1)? }),
        "waiting" => Told::Waiting(number(0)?),
        "released" => Told::Released(holds(0)?),
        "extended" => Told::Extended,
        "cancelled" => Told::Cancelled,
        "lost" => Told::Lost,
        "held" => Told::Refused(LockRefusal::Held { key, by: parts(rest.first()?).1 }),
        "upgrade" => Told::Refused(LockRefusal::Upgrade { key }),
        "waits" => Told::Refused(LockRefusal::WaitsAlready { key: rest.first()?.clone() }),
        "not_held" => Told::Refused(LockRefusal::NotHeld { key, token: token?.parse().ok()? }),
        "full" => {
            Told::Refused(LockRefusal::Full { what: rest.first()?.clone(), limit: number(1)? })
        }
        "deadlock" => {
            let cycle = rest.iter().map(|owner| parts(owner).1).collect();
            Told::Refused(LockRefusal::Deadlock { key, cycle })
        }
        _ => return None,
    })
}

/// Adds a row of what Redis shows; rows of one lock come together.
fn add(views: &mut Vec<LockView>, row: &[String]) -> Option<()> {
    let [key, what, owner, letter, number, holds, age, left] = row else { return None };
    let mode = mode_of(letter);
    if views.last().is_none_or(|view| view.key != *key) {
        let (holders, waiters) = (Vec::new(), Vec::new());
        views.push(LockView { key: key.clone(), mode, holders, waiters });
    }
    let view = views.last_mut()?;
    let (node, owner) = parts(owner);
    let (owner, age_ms) = (owner.name, Some(age.parse().ok()?));
    if what == "h" {
        view.holders.push(HolderView {
            owner,
            node,
            token: number.parse().ok()?,
            holds: holds.parse().ok()?,
            age_ms,
            left_ms: Some(left.parse().ok()?),
        });
    } else {
        view.waiters.push(WaiterView { owner, node, mode, age_ms });
    }
    Some(())
}

impl LockBackend for RedisLocks {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn acquire<'p>(&'p self, ask: &'p LockAsk) -> Pending<'p, LockGrant> {
        Box::pin(self.acquire_in_turn(ask))
    }

    fn unlock<'p>(&'p self, key: &'p str, owner: &'p str, token: u64) -> Pending<'p, u32> {
        Box::pin(async move {
            let told = self.step(&["unlock", key, &self.name(owner), &token.to_string()]).await?;
            match told {
                Told::Released(holds) => {
                    if holds == 0 {
                        self.forget((key, owner), token);
                        self.count(|counts| counts.releases += 1);
                        let (key, owner) = (key.to_owned(), self.owner(owner));
                        let end = LockEnd::Unlocked;
                        self.tell(LockEvent::Released { key, owner, token, end });
                    }
                    Ok(holds)
                }
                Told::Refused(refusal) => {
                    if self.forget((key, owner), token) {
                        self.expired((key, owner), token);
                    }
                    Err(refusal.into())
                }
                Told::Granted(_)
                | Told::Waiting(_)
                | Told::Extended
                | Told::Cancelled
                | Told::Lost => Err(garbage()),
            }
        })
    }

    fn extend<'p>(
        &'p self,
        key: &'p str,
        owner: &'p str,
        token: u64,
        ttl: Duration,
    ) -> Pending<'p, ()> {
        Box::pin(async move {
            let life = milliseconds(ttl);
            if life == 0 {
                return Err(LockRefusal::TimeToLive.into());
            }
            let (name, number, life) = (self.name(owner), token.to_string(), life.to_string());
            match self.step(&["extend", key, &name, &number, &life]).await? {
                Told::Extended => {
                    self.forget((key, owner), token);
                    self.lives((key, owner), token, ttl);
                    self.count(|counts| counts.extensions += 1);
                    Ok(())
                }
                Told::Refused(refusal) => {
                    if self.forget((key, owner), token) {
                        self.expired((key, owner), token);
                    }
                    Err(refusal.into())
                }
                Told::Granted(_)
                | Told::Waiting(_)
                | Told::Released(_)
                | Told::Cancelled
                | Told::Lost => Err(garbage()),
            }
        })
    }

    fn list(&self) -> Pending<'_, Vec<LockView>> {
        self.end_over();
        Box::pin(self.list_all())
    }

    fn statistics(&self) -> Pending<'_, LockStatistics> {
        self.end_over();
        Box::pin(async move { Ok(*self.statistics.lock().unwrap_or_else(PoisonError::into_inner)) })
    }

    fn events(&self) -> broadcast::Receiver<LockEvent> {
        self.events.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_told_from_its_node_and_life_whatever_it_is_called() {
        let owner = LockOwner { session: 0xaf, name: "a/b c".into() };
        assert_eq!(parts("node-1/af/a/b c"), ("node-1".into(), owner));
    }

    #[test]
    fn a_pattern_fits_what_it_was_made_of_and_nothing_else() {
        assert_eq!(glob("t*:[x]\\"), "t\\*:\\[x\\]\\\\");
    }

    #[test]
    fn an_answer_that_is_not_one_is_no_answer() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        for told in [&[][..], &["granted"], &["granted", "x", "1"], &["what"]] {
            assert!(read(&words(told), "k".into(), None).is_none(), "{told:?}");
        }
    }

    #[test]
    fn no_password_is_ever_shown() {
        let password = Some("hunter2".to_owned());
        let urls = vec!["redis://127.0.0.1:1".to_owned()];
        let address = RedisAddress { urls, password, patience: Duration::from_secs(1) };
        let (prefix, node) = ("t:".to_owned(), "a".to_owned());
        let locks = RedisLocks::new(RedisSettings { address, prefix, node, life: 1 });
        assert!(!format!("{locks:?}").contains("hunter2"));
    }
}
