//! The manager beside a disk that is slow.

use tickwright_core::config::Config;

use super::*;
use crate::cluster::{LoneDoor, Message};
use crate::kit::{CommitPolicy, StoreOptions};

const PATIENCE: Duration = Duration::from_secs(20);

struct Desk {
    door: LoneDoor,
    store: Store,
    _directory: tempfile::TempDir,
}

impl Desk {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // A record that is not through holds up all behind it.
        let commit = CommitPolicy { records_max: 1, wait: Duration::ZERO };
        let options = StoreOptions { commit, ..StoreOptions::default() };
        let store = Store::open(directory.path(), options).unwrap().0;
        let door = LoneDoor::open(&Config::default(), "127.0.0.1:0").await.unwrap();
        Self { door, store, _directory: directory }
    }

    async fn manager(&self) -> ActorRef<ConfigSyncMessage> {
        let config = Config::default();
        let arguments = ConfigSyncArguments {
            node: "a".into(),
            life: Incarnation(1),
            environment: None,
            heartbeat: Duration::from_secs(1),
            store: self.store.clone(),
            members: Arc::new(|| (BTreeSet::new(), BTreeSet::new())),
            network: self.door.network().clone(),
            live: LiveValues::new(&config),
            secrets: Secrets::new(config.secrets),
            clock: Clock::system(),
        };
        Actor::spawn(None, ConfigSyncActor, arguments).await.unwrap().0
    }

    async fn ask(&self, call: &ConfigCall, patience: Duration) -> Result<Json, String> {
        let body = json!(call).to_string();
        let message = Message::json("config/a", &body);
        let answer = self.door.network().ask(None, message, patience).await;
        let answer = answer.map_err(|error| error.to_string())?;
        serde_json::from_slice(&answer).map_err(|error| error.to_string())
    }

    /// The disk takes nothing until what is returned is dropped.
    fn block(&self) -> crossbeam::channel::Sender<()> {
        let (release, released) = crossbeam::channel::bounded::<()>(0);
        let wait = move |_| {
            // It ends with the other side.
            let _ = released.recv_timeout(PATIENCE);
        };
        self.store.put("block", b"block".to_vec(), Vec::new(), Box::new(wait));
        self.store.hurry();
        release
    }
}

fn set(key: &str, value: &str) -> ConfigCall {
    ConfigCall::Set {
        place: super::super::ConfigPlace::base(key),
        value: value.into(),
        priority: 0,
        merge: "latest".into(),
        author: "test".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_manager_had_put_when_it_ended_is_known_to_its_successor() {
    let desk = Desk::new().await;
    let first = desk.manager().await;
    desk.ask(&set("user.one", "1"), PATIENCE).await.unwrap();
    let release = desk.block();
    let unanswered = desk.ask(&set("user.two", "2"), Duration::from_millis(300)).await;
    assert!(unanswered.is_err(), "it is not on the disk");
    first.stop_and_wait(None, Some(PATIENCE)).await.unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(release);
    });

    let _second = desk.manager().await;
    desk.ask(&set("user.three", "3"), PATIENCE).await.unwrap();
    let audit = desk.ask(&ConfigCall::Audit { count: 10 }, PATIENCE).await.unwrap();
    assert_eq!((&audit["first_broken"], &audit["verified"]), (&Json::Null, &3.into()), "{audit:#}");
    let writes = audit["writes"].as_array().unwrap();
    let dots: BTreeSet<&str> = writes.iter().filter_map(|write| write["dot"].as_str()).collect();
    assert_eq!(dots.len(), 3, "no dot is given twice: {audit:#}");
    let two = desk.ask(&ConfigCall::Get { key: "user.two".into() }, PATIENCE).await.unwrap();
    assert_eq!(two["value"], 2);
}
