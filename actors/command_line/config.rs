//! What a user types about the configuration that all nodes share: `ctl config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use tickwright_core::config::is_secret;

use crate::config_sync::{ConfigCall, ConfigFileTask, ConfigPlace, ConfigTask, SecretTask};

/// For whom a key is set.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct PlaceOptions {
    /// The key, such as pipeline.batch_ticks, or user.ANYTHING, or secret.NAME
    #[arg(value_name = "KEY")]
    pub key: String,
    /// For this node alone, and not for all
    #[arg(long, value_name = "NODE", conflicts_with = "environment")]
    pub only: Option<String>,
    /// For the nodes of this environment (their config.environment), and not for all
    #[arg(long, value_name = "NAME")]
    pub environment: Option<String>,
}

impl PlaceOptions {
    fn place(self) -> ConfigPlace {
        ConfigPlace { key: self.key, node: self.only, environment: self.environment }
    }
}

/// What to ask of the configuration.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Whether all nodes have the same, how long writes take to be everywhere, who goes by which value
    Status,
    /// What counts on a node for a key, and where that comes from
    Get {
        /// Which
        #[arg(value_name = "KEY")]
        key: String,
        /// Open a secret, with the keys of config.secrets_key_file or secrets_passphrase_file
        #[arg(long)]
        reveal: bool,
    },
    /// Which nodes have which keys of secrets, and which secrets they open
    Secrets,
    /// Seal every secret with the first key of the node that is asked
    RotateSecrets {
        /// Also while some nodes are not known to have that key
        #[arg(long)]
        force: bool,
    },
    /// Set a key while nodes run
    Set {
        /// Where.
        #[command(flatten)]
        place: PlaceOptions,
        /// What, as TOML; a bare word is text
        #[arg(value_name = "VALUE", required_unless_present = "value_file")]
        value: Option<String>,
        /// For secret.NAME: the file that holds it, or `-` for standard input; it is sealed before it goes anywhere
        #[arg(long, value_name = "FILE", conflicts_with = "value")]
        value_file: Option<PathBuf>,
        /// Beats lower ones among writes that do not know of each other
        #[arg(long, value_name = "0-255", default_value_t = 0)]
        priority: u8,
        /// How such writes are read as one: latest, max, min, sticky, union or mean
        #[arg(long, value_name = "RULE", default_value = "latest")]
        merge: String,
    },
    /// Have a key be what cluster.toml says again
    Unset {
        /// Where.
        #[command(flatten)]
        place: PlaceOptions,
    },
    /// Everything that is set
    List {
        /// Beginning of the keys
        #[arg(value_name = "PREFIX", default_value = "")]
        prefix: String,
    },
    /// Which values a key has had, as the node saw them
    History {
        /// Where.
        #[command(flatten)]
        place: PlaceOptions,
    },
    /// What counts on a node otherwise than its own cluster.toml says
    Diff,
    /// Set a key to what it was before
    Rollback {
        /// Where.
        #[command(flatten)]
        place: PlaceOptions,
        /// How many changes back
        #[arg(long, value_name = "N", default_value_t = 1)]
        steps: usize,
    },
    /// Wait for the next change, and show it
    Watch {
        /// Beginning of the keys
        #[arg(value_name = "PREFIX", default_value = "")]
        prefix: String,
        /// Changes after this one, as the last `watch` has named it
        #[arg(long, value_name = "NUMBER")]
        since: Option<u64>,
        /// How long to wait
        #[arg(long, value_name = "MS", default_value_t = 30_000)]
        wait_ms: u64,
    },
    /// Keys that were written by several who did not know of each other
    Conflicts,
    /// Have one of such writes count
    Resolve {
        /// Where.
        #[command(flatten)]
        place: PlaceOptions,
        /// Which, as `conflicts` names it
        #[arg(value_name = "WRITE")]
        dot: String,
    },
    /// Print what is set, as TOML
    Export,
    /// Write what is set to a new file
    Backup {
        /// Which
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Set what a file of `export` or `backup` says, and leave the rest
    Import {
        /// Which
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Set what such a file says, and unset the rest
    Restore {
        /// Which
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Who has seen whose writes
    Vectors,
    /// Which writes the node was asked for, by whom, and whether that record is whole
    Audit {
        /// How many, the last ones
        #[arg(long, value_name = "N", default_value_t = 100)]
        count: usize,
    },
}

impl ConfigCommand {
    /// What is to be done, for `author`.
    ///
    /// # Errors
    ///
    /// What cannot be asked for so, without what was given.
    pub fn task(self, author: String) -> Result<ConfigTask, String> {
        let file = |task| Ok(ConfigTask::File(task));
        let secret = |task| Ok(ConfigTask::Secret(task));
        Ok(ConfigTask::Ask(match self {
            Self::Secrets => return secret(SecretTask::List),
            Self::RotateSecrets { force } => return secret(SecretTask::Rotate { author, force }),
            Self::Get { key, reveal: true } => {
                if !is_secret(&key) {
                    return Err(format!("{key} is no secret; leave --reveal out"));
                }
                return secret(SecretTask::Reveal { key });
            }
            Self::Set { place, value, value_file, merge, .. }
                if is_secret(&place.key)
                    && (value.is_some() || value_file.is_none() || merge != "latest") =>
            {
                let key = place.key;
                return Err(match merge == "latest" {
                    true => format!(
                        "{key} is not taken from the command line, where others on this machine can read \
                         it; give --value-file FILE, or `--value-file -` for standard input"
                    ),
                    false => format!("{key}: secrets are read by the rule `latest` alone"),
                });
            }
            Self::Set { place, value_file: Some(from), priority, .. } => {
                if !is_secret(&place.key) {
                    return Err(format!("{} is no secret; give its value itself", place.key));
                }
                let place = place.place();
                return secret(SecretTask::Set { place, from, priority, author });
            }
            Self::Export => return file(ConfigFileTask::Export),
            Self::Backup { file: path } => return file(ConfigFileTask::Backup(path)),
            Self::Import { file: path } => return file(ConfigFileTask::Import(path)),
            Self::Restore { file: path } => return file(ConfigFileTask::Restore(path)),
            Self::Status => ConfigCall::Status,
            Self::Get { key, reveal: false } => ConfigCall::Get { key },
            Self::Set { place, value, value_file: None, priority, merge } => {
                let value = value.unwrap_or_default();
                ConfigCall::Set { place: place.place(), value, priority, merge, author }
            }
            Self::Unset { place } => ConfigCall::Unset { place: place.place(), author },
            Self::List { prefix } => ConfigCall::List { prefix },
            Self::History { place } => ConfigCall::History { place: place.place() },
            Self::Diff => ConfigCall::Diff,
            Self::Rollback { place, steps } => {
                ConfigCall::Rollback { place: place.place(), steps, author }
            }
            Self::Watch { prefix, since, wait_ms } => ConfigCall::Watch { prefix, since, wait_ms },
            Self::Conflicts => ConfigCall::Conflicts,
            Self::Resolve { place, dot } => {
                ConfigCall::Resolve { place: place.place(), dot, author }
            }
            Self::Vectors => ConfigCall::Vectors,
            Self::Audit { count } => ConfigCall::Audit { count },
        }))
    }
}
