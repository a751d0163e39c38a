//! Where it is kept which kill switches are on: in the ledger that nodes agree on, or in a file of a process that is
//! in no cluster.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::cluster::{Network, Request};
use crate::kit::write_whole;
use crate::ledger::{self, LedgerClient, SwitchStanding, switches};

/// Switches that are remembered; beyond that an operator is refused.
const SWITCHES_MAX: usize = 4_096;

/// The file of a process by itself, in its data directory.
const FILE: &str = "switches.json";

/// Where switches are kept.
#[derive(Clone, Debug)]
pub enum SwitchKeeper {
    /// In what all nodes agree on.
    Ledger(LedgerClient),
    /// By this process.
    Own(OwnSwitches),
}

impl SwitchKeeper {
    /// How all stand, as far as it is known here.
    pub(super) fn known(&self) -> Vec<SwitchStanding> {
        match self {
            Self::Ledger(ledger) => ledger.local(switches),
            Self::Own(own) => own.standing(),
        }
    }

    /// How all stand for certain.
    pub(super) async fn read(&self, patience: Duration) -> Result<Vec<SwitchStanding>, String> {
        match self {
            Self::Ledger(ledger) => {
                ledger.read(patience, switches).await.map_err(|error| error.to_string())
            }
            Self::Own(own) => Ok(own.standing()),
        }
    }

    /// Turns one on, or off again.
    pub(super) async fn turn(
        &self,
        what: &str,
        is_on: bool,
        said: (&str, &str),
        patience: Duration,
    ) -> Result<(), String> {
        match self {
            Self::Ledger(ledger) => {
                let turned = ledger.turn_switch(what, is_on, said, patience).await;
                turned.map_err(|error| error.to_string())
            }
            Self::Own(own) => own.turn(what, is_on, said),
        }
    }

    /// Calls `tell` whenever any may have been turned, for as long as it says that somebody listens.
    pub(super) fn tell_turns(&self, tell: impl Fn() -> bool + Send + 'static) {
        match self {
            Self::Ledger(ledger) => {
                let mut events = ledger.events();
                tokio::spawn(async move {
                    // Events that were missed are in the ledger all the same.
                    while !matches!(events.recv().await, Err(RecvError::Closed)) {
                        while events.try_recv().is_ok() {}
                        if !tell() {
                            return;
                        }
                    }
                });
            }
            Self::Own(own) => {
                let mut turns = own.turns.subscribe();
                tokio::spawn(async move { while turns.changed().await.is_ok() && tell() {} });
            }
        }
    }
}

/// Why switches cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{}` cannot be used: {message}; it says which kill switches are on. Mend it; or delete it, and nothing is \
     stopped any more", path.display()
)]
pub struct SwitchesError {
    path: PathBuf,
    message: String,
}

/// The kill switches of a process that is in no cluster. Clones share them.
#[derive(Clone, Debug)]
pub struct OwnSwitches {
    held: Arc<Mutex<Vec<SwitchStanding>>>,
    /// None, if nothing is kept beyond the process.
    path: Option<PathBuf>,
    turns: Arc<watch::Sender<u64>>,
}

/// What a tool may ask of them: as of the ledger.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
enum Call {
    Switches,
    Turn { what: String, is_on: bool, by: String, reason: String },
}

impl OwnSwitches {
    /// As they were left in `data_dir`; without one, they are forgotten with the process. What was in a directory
    /// that had to be set aside counts on.
    ///
    /// # Errors
    ///
    /// [`SwitchesError`].
    pub fn open(data_dir: Option<&Path>, set_aside: Option<&Path>) -> Result<Self, SwitchesError> {
        let path = data_dir.map(|directory| directory.join(FILE));
        let fail = |path: &Path, error: &dyn std::fmt::Display| SwitchesError {
            path: path.to_owned(),
            message: error.to_string(),
        };
        if let (Some(path), Some(aside)) = (&path, set_aside) {
            match fs::copy(aside.join(FILE), path) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(fail(path, &error)),
            }
        }
        let held = match &path {
            None => Vec::new(),
            Some(path) => match fs::read(path) {
                Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| fail(path, &error))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(fail(path, &error)),
            },
        };
        let turns = Arc::new(watch::channel(0).0);
        Ok(Self { held: Arc::new(Mutex::new(held)), path, turns })
    }

    /// Every switch that was ever turned.
    pub fn standing(&self) -> Vec<SwitchStanding> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn turn(&self, what: &str, is_on: bool, said: (&str, &str)) -> Result<(), String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = held.clone();
        let place = all.iter().position(|standing| standing.what == what);
        if place.is_none() && all.len() >= SWITCHES_MAX {
            return Err(format!("{SWITCHES_MAX} kill switches are remembered, and no more"));
        }
        let version = place.map_or(0, |place| all[place].version) + 1;
        let turned = SwitchStanding::turned(what, is_on, version, said);
        match place {
            Some(place) => all[place] = turned,
            None => all.push(turned),
        }
        if let Some(path) = &self.path {
            // Blocks, for as long as one small file takes.
            let written = serde_json::to_vec_pretty(&all).map_err(io::Error::from);
            let written = written.and_then(|text| write_whole(path, &text));
            written.map_err(|error| format!("`{}` cannot be written: {error}", path.display()))?;
        }
        *held = all;
        drop(held);
        self.turns.send_modify(|turns| *turns += 1);
        Ok(())
    }

    /// Lets tools ask for them where they would ask the ledger.
    pub fn serve(&self, network: &Network) {
        let own = self.clone();
        let handler = move |mut request: Request| {
            let Some(reply) = request.reply.take() else {
                return Err("switches are asked for, and not told".to_owned());
            };
            let answer = match serde_json::from_slice(&request.body) {
                Ok(Call::Switches) => Ok(json!(own.standing())),
                Ok(Call::Turn { what, is_on, by, reason }) => {
                    own.turn(&what, is_on, (&by, &reason)).map(|()| json!({ "turned": what }))
                }
                Err(_) => {
                    Err("a process that is in no cluster has no ledger: only \"Switches\" and \
                               {\"Turn\": {\"what\": \"all\", \"is_on\": true, \"by\": WHO, \
                               \"reason\": WHY}} are answered"
                        .to_owned())
                }
            };
            match answer {
                Ok(answer) => reply.answer(answer.to_string().into_bytes()),
                Err(reason) => reply.refuse(reason),
            }
            Ok(())
        };
        network.register(ledger::ROLE, None, Arc::new(handler));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_outlive_the_process_and_a_directory_that_is_set_aside() {
        let scratch = tempfile::tempdir().unwrap();
        let [data, aside] = ["data", "aside"].map(|name| scratch.path().join(name));
        fs::create_dir(&data).unwrap();
        let own = OwnSwitches::open(Some(&data), None).unwrap();
        own.turn("all", true, ("ann", "too hot")).unwrap();
        own.turn("symbol:X", true, ("ann", "")).unwrap();
        own.turn("symbol:X", false, ("ben", "")).unwrap();
        let standing = own.standing();
        let brief: Vec<_> =
            standing.iter().map(|it| (it.what.as_str(), it.is_on, it.version)).collect();
        assert_eq!(brief, [("all", true, 1), ("symbol:X", false, 2)]);
        assert_eq!(OwnSwitches::open(Some(&data), None).unwrap().standing(), standing);
        fs::rename(&data, &aside).unwrap();
        fs::create_dir(&data).unwrap();
        assert_eq!(OwnSwitches::open(Some(&data), Some(&aside)).unwrap().standing(), standing);
        assert_eq!(OwnSwitches::open(Some(&data), None).unwrap().standing(), standing);
        assert_eq!(OwnSwitches::open(None, None).unwrap().standing(), []);
    }

    #[test]
    fn a_file_that_says_nothing_stops_the_start_and_one_that_cannot_be_written_is_told() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join(FILE), "[{").unwrap();
        let error = OwnSwitches::open(Some(scratch.path()), None).unwrap_err().to_string();
        assert!(error.contains(FILE) && error.contains("delete it"), "{error}");
        fs::remove_file(scratch.path().join(FILE)).unwrap();
        let own = OwnSwitches::open(Some(&scratch.path().join("away")), None).unwrap();
        let refused = own.turn("all", true, ("ann", "")).unwrap_err();
        assert!(refused.contains("cannot be written"), "{refused}");
        assert_eq!(own.standing(), []);
    }
}
