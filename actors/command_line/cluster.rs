//! What a user types about clusters: `node`, `ctl`, `certs`, `secrets-key`, `tokens`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use tickwright_core::cluster::AccessRole;

use super::{ConfigCommand, ParameterCommand, RecordsCommand};

/// Options of `node`.
#[derive(Args, Clone, Debug, Default)]
pub struct NodeOptions {
    /// What this node is called [short for --set node.name=NAME]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Inject faults: panic:ACTOR@N, ... Sources are held where a fault of a node is to strike
    #[arg(long, value_name = "SPEC,...")]
    pub chaos: Vec<String>,
    /// End when standard input is closed
    #[arg(long)]
    pub attached: bool,
}

/// Options of `ctl`.
#[derive(Args, Clone, Debug)]
pub struct CtlOptions {
    /// A running node [default: http://, or https:// with certificates, and node.http_bind]
    #[arg(long, value_name = "URL", global = true)]
    pub node: Option<String>,
    /// The node that is meant, if it is another than the one that is reached
    #[arg(long, value_name = "NAME", global = true)]
    pub on: Option<String>,
    /// How long the answer may take
    #[arg(long, value_name = "MS", global = true, value_parser = milliseconds)]
    pub timeout_ms: Option<Duration>,
    /// The token by which the node knows who asks [default: what TICKWRIGHT_TOKEN holds, if it is set]
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// What to ask.
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// What to ask a running node.
#[derive(Clone, Debug, Subcommand)]
pub enum CtlCommand {
    /// How a node is
    Status,
    /// Who is in the cluster, as the node sees it
    Members,
    /// Who serves which role, as the node sees it
    Roles,
    /// Which node has which part of the pipeline, and since which epoch
    Shards,
    /// Who holds and awaits which lock
    Locks,
    /// What is set for all nodes, an environment or a node while they run
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Who supervises whom, on every node or --on one, and how often each was started again
    Tree,
    /// Where each stream stands, at both of its ends, on every node or --on one
    Streams,
    /// Which settings are tried, and what was kept and why, on every node or --on one
    Tuner,
    /// How far the search for parameters is, and the best found anywhere, on every node or --on one
    Optimise,
    /// What is adopted of what was found, what waits to be confirmed, and how earlier proposals ended
    Adoption,
    /// Have the strategy that runs take over what a node proposes
    Adopt {
        /// Which, as `ctl adoption` names it
        #[arg(value_name = "NODE")]
        name: String,
        /// Do not take it over
        #[arg(long)]
        reject: bool,
        /// Who says so
        #[arg(long, value_name = "NAME", default_value = "operator")]
        by: String,
    },
    /// What is raised and what is over of alerts, each once, as all nodes see it
    Alerts,
    /// Hand what a node has over to others, one after the other, and give it nothing new
    Drain {
        /// Which
        #[arg(value_name = "NODE")]
        name: String,
        /// Let it have work again
        #[arg(long)]
        undo: bool,
        /// Do not wait until it is empty
        #[arg(long)]
        no_wait: bool,
    },
    /// Have a node coordinate whenever it is there, and be the master of "master_standby"
    Promote {
        /// Which
        #[arg(value_name = "NODE", required_unless_present = "undo")]
        name: Option<String>,
        /// Leave it to priority and name again
        #[arg(long, conflicts_with = "name")]
        undo: bool,
    },
    /// End an actor as a crash would; its supervisor starts it again, and nothing is lost
    KillActor {
        /// Which, by its name in the tree, such as factors/0
        #[arg(value_name = "ROLE")]
        actor: String,
    },
    /// Stop orders at once, and until it is re-armed, whatever restarts; what is under way is cancelled
    Kill {
        /// all, account:NAME, strategy:NAME or symbol:SYMBOL
        #[arg(value_name = "WHAT")]
        what: String,
        /// Why, for whoever finds it stopped
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Let orders pass again that a kill switch stops
    Rearm {
        /// What was stopped, as it was said then
        #[arg(value_name = "WHAT")]
        what: String,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// How kill switches stand, and who turned them
    Switches,
    /// Parameters of strategies, while they run
    #[command(subcommand)]
    Parameters(ParameterCommand),
    /// Look through the accounts at exchanges, beside what is known here
    Reconcile {
        /// Have positions take over what was traded by orders that nobody here asked for
        #[arg(long)]
        adopt: bool,
    },
    /// Say what became of an order that nobody could find out about, once you have looked at the exchange
    Release {
        /// Its client order id, as `reconcile` shows it
        #[arg(value_name = "CLIENT_ID")]
        client_id: String,
        /// The exchange has it
        #[arg(long, required_unless_present = "not_there", conflicts_with = "not_there")]
        there: bool,
        /// The exchange has it not, and nothing of it is under way any more
        #[arg(long)]
        not_there: bool,
    },
    /// How what is recorded stands, and which rows the database has refused
    Db {
        /// Offer the rows that are set aside to the database again
        #[arg(long, conflicts_with = "discard")]
        retry: bool,
        /// Drop a row that is set aside, by its id, or `all`
        #[arg(long, value_name = "ID")]
        discard: Option<String>,
    },
    /// Look things up in the database of whichever node has one.
    #[command(flatten)]
    Records(RecordsCommand),
    /// Ask a role on any node, and print its answer
    Ask(MessageOptions),
    /// Tell a role on any node something
    Tell(MessageOptions),
}

/// A message to a role.
#[derive(Args, Clone, Debug)]
pub struct MessageOptions {
    /// Whom, such as node/calc-1
    #[arg(value_name = "ROLE")]
    pub role: String,
    /// What, as JSON
    #[arg(value_name = "JSON", value_parser = json)]
    pub body: String,
}

/// Options of `certs`.
#[derive(Args, Clone, Debug)]
pub struct CertsOptions {
    /// Where the authority and the certificates are
    #[arg(long, value_name = "DIR", default_value = "certs", global = true)]
    pub dir: PathBuf,
    /// How long a certificate of a node or tool is good for
    #[arg(long, value_name = "N", default_value_t = 365, global = true,
          value_parser = clap::value_parser!(u32).range(1..=3_650))]
    pub days: u32,
    /// What to make.
    #[command(subcommand)]
    pub command: CertsCommand,
}

/// What to make.
#[derive(Clone, Debug, Subcommand)]
pub enum CertsCommand {
    /// Make an authority, and a secret that all nodes share
    Init,
    /// Certify a node
    Node {
        /// What it is called: its node.name
        name: String,
    },
    /// Certify a tool, such as `tickwright ctl`
    Tool {
        /// What it is called
        name: String,
    },
    /// Make another authority, trusted beside the last
    Rotate,
    /// Trust the last authority no more
    Retire,
}

/// What to do with a file of keys.
#[derive(Clone, Debug, Subcommand)]
pub enum SecretsKeyCommand {
    /// Make a file with one key, which its owner alone may read
    New {
        /// Which
        file: PathBuf,
    },
    /// Put another key first, which seals from now on; the others open
    Add {
        /// Which
        file: PathBuf,
    },
    /// Take a key out that no secret needs any more
    Remove {
        /// Which
        file: PathBuf,
        /// Which key, as `list` names it
        key: String,
    },
    /// Name the keys
    List {
        /// Which
        file: PathBuf,
    },
}

/// What to do with a file of tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum TokensCommand {
    /// Make a token, show it once, and put its name, role and a hash into the file
    New {
        /// Whose, as the records name who asked
        name: String,
        /// What it is good for: viewer looks; operator sees to nodes, trader to trading, admin to everything
        #[arg(long, value_name = "ROLE", value_parser = access_role)]
        role: AccessRole,
        /// The file, which a node's node.tokens_file names; it need not be there yet
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Name the tokens, each with its role
    List {
        /// Of which file
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Take a token out: with it nobody is let in any more
    Remove {
        /// Whose
        name: String,
        /// Of which file
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
}

fn access_role(text: &str) -> Result<AccessRole, String> {
    AccessRole::parse(text).ok_or_else(|| {
        let names = AccessRole::ALL.map(AccessRole::name);
        format!("is none of {}", names.join(", "))
    })
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let number: u64 = text.parse().map_err(|_| "is not a number of milliseconds".to_owned())?;
    Ok(Duration::from_millis(number))
}

fn json(text: &str) -> Result<String, String> {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("is not JSON: {error}; a text needs its quotes: '\"Status\"'")),
    }
}
