//! Streams of accounts: who listens, by which key, and what each is told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tickwright_core::exchange::{ApiError, FaultKind, FaultSpec, News};
use tokio::sync::mpsc;

/// How long a key is good for that nobody asks for again, milliseconds.
const KEY_MS: u64 = 60 * 60 * 1_000;

/// Listeners of one account.
const LISTENERS_MAX: usize = 64;

/// Messages that a listener may be behind; then it is dropped.
pub(super) const BACKLOG: usize = 1_024;

/// What a listener's connection is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Send it, after having waited.
    Message(String, Duration),
    /// End.
    Drop,
}

#[derive(Debug)]
struct Listener {
    account: String,
    key: String,
    sender: mpsc::Sender<Told>,
}

/// All streams. Times are milliseconds that go on evenly.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Each account's key, and until when it is good.
    keys: BTreeMap<String, (String, u64)>,
    listeners: Vec<Listener>,
}

impl Streams {
    /// The account's key: the one that it has, or `fresh`.
    pub(super) fn open(&mut self, account: &str, fresh: String, now: u64) -> String {
        self.expire(now);
        let key = self.keys.entry(account.to_owned()).or_insert((fresh, 0));
        key.1 = now + KEY_MS;
        key.0.clone()
    }

    /// The key is good for another hour.
    pub(super) fn keep(&mut self, account: &str, key: &str, now: u64) -> Result<(), ApiError> {
        self.expire(now);
        match self.keys.get_mut(account).filter(|(known, _)| known == key) {
            Some((_, until)) => {
                *until = now + KEY_MS;
                Ok(())
            }
            None => Err(no_such_key()),
        }
    }

    /// The key is good no more, and its listeners are gone.
    pub(super) fn close(&mut self, account: &str, key: &str) -> Result<(), ApiError> {
        if self.keys.get(account).is_none_or(|(known, _)| known != key) {
            return Err(no_such_key());
        }
        self.keys.remove(account);
        self.listeners.retain(|listener| listener.key != key);
        Ok(())
    }

    /// A listener by its key; nothing if the key is not good, or there are too many.
    pub(super) fn listen(&mut self, key: &str, now: u64) -> Option<mpsc::Receiver<Told>> {
        self.expire(now);
        let (account, _) = self.keys.iter().find(|(_, (known, _))| known == key)?;
        self.listeners.retain(|listener| !listener.sender.is_closed());
        let own = self.listeners.iter().filter(|listener| listener.account == *account).count();
        if own >= LISTENERS_MAX {
            return None;
        }
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let (account, key) = (account.clone(), key.to_owned());
        self.listeners.push(Listener { account, key, sender });
        Some(receiver)
    }

    /// Tells an account's listeners, under the faults that strike this message.
    pub(super) fn tell(&mut self, news: &News, faults: &[FaultSpec]) {
        let has = |kind| faults.iter().any(|fault| fault.kind == kind);
        if has(FaultKind::StreamLose) {
            return;
        }
        let delays = faults.iter().filter(|fault| fault.kind == FaultKind::StreamDelay);
        let delay = Duration::from_millis(delays.map(|fault| fault.ms.unsigned_abs()).sum());
        let times = if has(FaultKind::StreamDuplicate) { 2 } else { 1 };
        let text = news.message.to_string();
        let is_dropped = has(FaultKind::StreamDrop);
        self.listeners.retain(|listener| {
            if listener.account != news.account {
                return true;
            }
            if is_dropped {
                let _ = listener.sender.try_send(Told::Drop);
                return false;
            }
            // One who is too far behind is dropped, and sees a connection that ends.
            (0..times).all(|_| listener.sender.try_send(Told::Message(text.clone(), delay)).is_ok())
        });
    }

    /// Ends the listeners of keys that are good no more, with a word.
    pub(super) fn expire(&mut self, now: u64) {
        let expired = |(account, (key, until)): (&String, &(String, u64))| {
            (*until <= now).then(|| (account.clone(), key.clone()))
        };
        let expired: Vec<(String, String)> = self.keys.iter().filter_map(expired).collect();
        for (account, key) in expired {
            let message = json!({ "e": "listenKeyExpired", "E": now, "listenKey": key });
            self.tell(&News { account: account.clone(), message }, &[]);
            self.keys.remove(&account);
            self.listeners.retain(|listener| listener.key != key);
        }
    }
}

fn no_such_key() -> ApiError {
    ApiError::new(-1125, "This listenKey does not exist.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(account: &str) -> News {
        News { account: account.to_owned(), message: json!({ "n": 1 }) }
    }

    fn fault(kind: &str) -> Vec<FaultSpec> {
        let json =
            format!(r#"{{"kind":"{kind}","ms":{}}}"#, if kind == "stream_delay" { 5 } else { 0 });
        vec![FaultSpec::parse(json.as_bytes()).unwrap()]
    }

    #[test]
    fn an_account_has_one_key_which_lives_an_hour_from_when_it_was_last_asked_for() {
        let mut streams = Streams::default();
        assert_eq!(streams.open("one", "a".into(), 0), "a");
        assert_eq!(streams.open("one", "b".into(), 5), "a");
        assert_eq!(streams.open("two", "c".into(), 5), "c");
        assert!(streams.keep("two", "a", 5).is_err(), "somebody else's");
        streams.keep("one", "a", 10).unwrap();
        let mut told = streams.listen("a", KEY_MS + 9).unwrap();
        assert!(streams.listen("a", KEY_MS + 10).is_none());
        assert!(matches!(told.try_recv(), Ok(Told::Message(text, _)) if text.contains("Expired")));
        assert_eq!(streams.open("one", "d".into(), KEY_MS + 10), "d");
        streams.close("one", "d").unwrap();
        assert!(streams.close("one", "d").is_err());
    }

    #[test]
    fn each_is_told_what_is_its_own_and_who_is_behind_is_dropped() {
        let mut streams = Streams::default();
        let keys = ["one", "two"].map(|name| streams.open(name, format!("key-{name}"), 0));
        let [mut one, mut two] = keys.map(|key| streams.listen(&key, 0).unwrap());
        streams.tell(&news("one"), &[]);
        assert!(one.try_recv().is_ok() && two.try_recv().is_err());
        for _ in 0..=BACKLOG {
            streams.tell(&news("two"), &[]);
        }
        assert_eq!(streams.listeners.len(), 1, "two is gone");
        for _ in 0..BACKLOG {
            assert!(two.try_recv().is_ok());
        }
        assert_eq!(two.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn messages_are_lost_delayed_doubled_or_end_the_connection_on_command() {
        let mut streams = Streams::default();
        let key = streams.open("one", "key".into(), 0);
        let mut told = streams.listen(&key, 0).unwrap();
        let mut next = |kind: &str| {
            streams.tell(&news("one"), &fault(kind));
            std::iter::from_fn(|| told.try_recv().ok()).collect::<Vec<_>>()
        };
        assert_eq!(next("stream_lose"), []);
        assert_eq!(next("stream_duplicate").len(), 2);
        let delayed = next("stream_delay");
        assert_eq!(delayed, [Told::Message(r#"{"n":1}"#.into(), Duration::from_millis(5))]);
        assert_eq!(next("stream_drop"), [Told::Drop]);
        assert!(streams.listeners.is_empty());
    }

    #[test]
    fn listeners_of_an_account_are_bounded_and_those_who_left_do_not_count() {
        let mut streams = Streams::default();
        let key = streams.open("one", "key".into(), 0);
        let mut there: Vec<_> =
            (0..LISTENERS_MAX).map(|_| streams.listen(&key, 0).unwrap()).collect();
        assert!(streams.listen(&key, 0).is_none());
        there.pop();
        assert!(streams.listen(&key, 0).is_some());
    }
}
