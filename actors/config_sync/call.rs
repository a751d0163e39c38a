//! What can be asked of the manager, as JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tickwright_core::config::ConfigScope;

/// Which key, and for whom: for a node, an environment, or everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigPlace {
    /// The dotted path.
    pub key: String,
    /// For this node alone.
    #[serde(default)]
    pub node: Option<String>,
    /// For the nodes of this environment.
    #[serde(default)]
    pub environment: Option<String>,
}

impl ConfigPlace {
    /// For everybody.
    pub fn base(key: &str) -> Self {
        Self { key: key.to_owned(), node: None, environment: None }
    }

    /// For whom.
    pub fn scope(&self) -> ConfigScope {
        match (&self.node, &self.environment) {
            (Some(node), _) => ConfigScope::Node(node.clone()),
            (None, Some(environment)) => ConfigScope::Environment(environment.clone()),
            (None, None) => ConfigScope::Base,
        }
    }

    /// Under which name it is kept.
    pub fn stored(&self) -> String {
        self.scope().key(&self.key)
    }
}

fn latest() -> String {
    "latest".into()
}

fn one() -> usize {
    1
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ConfigCall {
    /// How is it: are all the same, who goes by what?
    Status,
    /// What counts on this node for a key, and where does it come from?
    Get {
        /// Which.
        key: String,
    },
    /// Everything that is set under a prefix, for everybody.
    List {
        /// Beginning of the paths; empty for all.
        #[serde(default)]
        prefix: String,
    },
    /// Set a key; answers once it is on this node's disk.
    Set {
        /// Where.
        place: ConfigPlace,
        /// What, as TOML; a bare word is text.
        value: String,
        /// Higher ones win among writes that do not know of each other.
        #[serde(default)]
        priority: u8,
        /// How such writes are read as one: latest, max, min, sticky, union or mean.
        #[serde(default = "latest")]
        merge: String,
        /// Who.
        author: String,
    },
    /// Remove it.
    Unset {
        /// Where.
        place: ConfigPlace,
        /// Who.
        author: String,
    },
    /// Which values has it had, as this node saw them?
    History {
        /// Where.
        place: ConfigPlace,
    },
    /// Write an earlier value again.
    Rollback {
        /// Where.
        place: ConfigPlace,
        /// How many changes back.
        #[serde(default = "one")]
        steps: usize,
        /// Who.
        author: String,
    },
    /// What counts on this node otherwise than its own cluster.toml says?
    Diff,
    /// Which keys hold several writes that did not know of each other?
    Conflicts,
    /// Have one of them count, and the others be over.
    Resolve {
        /// Where.
        place: ConfigPlace,
        /// The write that is right, as `Conflicts` names it.
        dot: String,
        /// Who.
        author: String,
    },
    /// Who has seen whose writes up to which?
    Vectors,
    /// Which writes was this node asked for last, and is the chain of them whole?
    Audit {
        /// How many of them.
        count: usize,
    },
    /// Which keys are there to open secrets, which secrets are set, and can they be opened here?
    Secrets,
    /// Seal every secret with the first key that is not sealed with it yet.
    RotateSecrets {
        /// Who.
        author: String,
    },
    /// What has changed under a prefix since a change of that number? Waits until something has.
    Watch {
        /// Beginning of the paths; empty for all.
        #[serde(default)]
        prefix: String,
        /// The number of the last change that is known; none, from now on.
        #[serde(default)]
        since: Option<u64>,
        /// How long to wait.
        #[serde(default)]
        wait_ms: u64,
    },
}

/// What to do with what is set, as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigFileTask {
    /// Say what is set.
    Export,
    /// Write it to a file that is not there yet.
    Backup(PathBuf),
    /// Set what a file says, and leave the rest.
    Import(PathBuf),
    /// Set what a file says, and unset the rest.
    Restore(PathBuf),
}

/// What to do with secrets; the tool has to have the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretTask {
    /// Seal one, and set it.
    Set {
        /// Where.
        place: ConfigPlace,
        /// The file that holds it; `-` for standard input.
        from: PathBuf,
        /// Higher ones win among writes that do not know of each other.
        priority: u8,
        /// Who.
        author: String,
    },
    /// Open one.
    Reveal {
        /// Its key.
        key: String,
    },
    /// Which nodes have which keys, and which secrets can they open?
    List,
    /// Have a node seal everything with its first key.
    Rotate {
        /// Who.
        author: String,
        /// Whether to do so while some nodes may not have that key.
        force: bool,
    },
}

/// What a user wants of the shared configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigTask {
    /// To ask a node.
    Ask(ConfigCall),
    /// To have it in a file, or from one.
    File(ConfigFileTask),
    /// To seal or open secrets.
    Secret(SecretTask),
}
