//! Who may ask what at the door for tools, and which questions change something.
//!
//! ```text
//! a question, and whom it is for ─┬▶ needed ─▶ AccessRole::may   whether it is asked at all
//!                                 ├▶ signed                      who says that it was asked
//!                                 └▶ deed_of                     whether it is written down
//! ```
//!
//! # Invariants
//!
//! 1. One table, [`QUESTIONS`], says all of it: what is written down as a deed, no viewer may do.
//! 2. A question that is not in it is an administrator's: what a role of somebody's own does with it is not known.
//! 3. A role that may not do something does not come to by asking in other words: escapes, other node, other key.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::Timestamp;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessRole {
    /// Look at everything.
    Viewer,
    /// That, and see to nodes: drain, promote, the shared configuration, the database, locks.
    Operator,
    /// Look, and see to trading: kill switches, parameters, accounts, what a search has found.
    Trader,
    /// Everything.
    Admin,
}

impl AccessRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Trader, Self::Admin];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Trader => "trader",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether it may do what needs that role. Operators and traders look, and neither does what the other does.
    pub fn may(self, needed: Self) -> bool {
        self == Self::Admin || self == needed || needed == Self::Viewer
    }
}

impl fmt::Display for AccessRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a question comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It changes nothing.
    Looks,
    /// It changes something, and is written down.
    Deed(AccessRole),
    /// It changes something, and is not written down here: programs ask it all the time, or the role that is asked
    /// keeps a record of its own.
    Change(AccessRole),
}

impl Effect {
    /// Who may ask it.
    pub fn needed(self) -> AccessRole {
        match self {
            Self::Looks => AccessRole::Viewer,
            Self::Deed(role) | Self::Change(role) => role,
        }
    }
}

/// A question that a role answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The role, without the node: `config` of `config/calc-1`.
    pub service: &'static str,
    /// The question, by name.
    pub name: &'static str,
    /// What it comes to.
    pub effect: Effect,
}

const fn looks(service: &'static str, name: &'static str) -> Question {
    Question { service, name, effect: Effect::Looks }
}

const fn deed(service: &'static str, name: &'static str, role: AccessRole) -> Question {
    Question { service, name, effect: Effect::Deed(role) }
}

const fn change(service: &'static str, name: &'static str, role: AccessRole) -> Question {
    Question { service, name, effect: Effect::Change(role) }
}

use AccessRole::{Admin, Operator, Trader};

/// Every question that this program's own roles answer.
pub const QUESTIONS: &[Question] = &[
    looks("adoption", "Status"),
    deed("adoption", "Confirm", Trader),
    deed("adoption", "Reject", Trader),
    //
    looks("alerts", "Report"),
    //
    looks("config", "Audit"),
    looks("config", "Conflicts"),
    looks("config", "Diff"),
    looks("config", "Get"),
    looks("config", "History"),
    looks("config", "List"),
    looks("config", "Secrets"),
    looks("config", "Status"),
    looks("config", "Vectors"),
    looks("config", "Watch"),
    // The manager has an audit of its own, and what is refused in the clear must be written down nowhere.
    change("config", "Resolve", Operator),
    change("config", "Rollback", Operator),
    change("config", "RotateSecrets", Admin),
    change("config", "Set", Operator),
    change("config", "Unset", Operator),
    //
    looks("ledger", "Allocations"),
    looks("ledger", "List"),
    looks("ledger", "Read"),
    looks("ledger", "Status"),
    looks("ledger", "Switches"),
    deed("ledger", "Allocate", Admin),
    deed("ledger", "Cas", Admin),
    deed("ledger", "Drain", Operator),
    deed("ledger", "Forget", Admin),
    deed("ledger", "Promote", Operator),
    deed("ledger", "Turn", Trader),
    //
    looks("locks", "Events"),
    looks("locks", "List"),
    looks("locks", "Statistics"),
    // Programs take them all the time.
    change("locks", "Acquire", Operator),
    change("locks", "Extend", Operator),
    change("locks", "Unlock", Operator),
    //
    looks("node", "Members"),
    looks("node", "Roles"),
    looks("node", "Status"),
    looks("node", "Tree"),
    deed("node", "KillActor", Operator),
    //
    looks("optimise", "Report"),
    looks("optimise", "Status"),
    //
    looks("parameters", "Parameters"),
    deed("parameters", "AdoptParameters", Trader),
    deed("parameters", "HoldPipeline", Trader),
    deed("parameters", "ReleaseHold", Trader),
    deed("parameters", "SetParameters", Trader),
    change("parameters", "RenewHold", Trader),
    //
    looks("records", "Aside"),
    looks("records", "Ask"),
    looks("records", "Status"),
    deed("records", "DiscardAside", Operator),
    deed("records", "RetryAside", Operator),
    // It is how deeds are written down: whoever may ask it may make them up.
    change("records", "Note", Admin),
    //
    looks("risk", "Earned"),
    looks("risk", "Measured"),
    looks("risk", "Report"),
    looks("risk", "Restricted"),
    looks("risk", "Stopped"),
    deed("risk", "Kill", Trader),
    deed("risk", "Reconcile", Trader),
    deed("risk", "Release", Trader),
    //
    looks("run", "Counts"),
    looks("run", "Progress"),
    looks("run", "Report"),
    looks("run", "Streams"),
    deed("run", "CutOff", Admin),
    deed("run", "Finish", Operator),
    deed("run", "Open", Admin),
    //
    looks("tuner", "Report"),
];

/// The name of what `body` asks, and what it says beside.
fn question(body: &[u8]) -> Option<(String, Value)> {
    match serde_json::from_slice::<Value>(body).ok()? {
        Value::String(name) => Some((name, Value::Null)),
        Value::Object(fields) if fields.len() == 1 => fields.into_iter().next(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
}

fn known(service: &str, name: &str) -> Option<&'static Question> {
    QUESTIONS.iter().find(|it| it.service == service && it.name == name)
}

/// The role that may ask `service`, a role without its node, what `body` asks.
pub fn needed(service: &str, body: &[u8]) -> AccessRole {
    let Some((name, argument)) = question(body) else { return AccessRole::Admin };
    let needed = known(service, &name).map_or(AccessRole::Admin, |it| it.effect.needed());
    if needed != AccessRole::Viewer && service == "config" && is_of_secret(&argument) {
        return AccessRole::Admin;
    }
    needed
}

/// Whether a key of the shared configuration is a secret, for whomever it is set.
fn is_of_secret(argument: &Value) -> bool {
    let key = argument["place"]["key"].as_str().unwrap_or_default();
    key.split('/').any(|part| part.trim_start().starts_with("secret."))
}

/// The name of what `body` asks, if that is written down, whoever is asked.
pub fn deed_of(body: &[u8]) -> Option<String> {
    let (name, _) = question(body)?;
    let is_deed = |it: &Question| it.name == name && matches!(it.effect, Effect::Deed(_));
    QUESTIONS.iter().any(is_deed).then_some(name)
}

/// `body` with `author` in the place of whoever it says asks; none, if it does not say, or is of a role of somebody's
/// own.
pub fn signed(service: &str, body: &[u8], author: &str) -> Option<Vec<u8>> {
    let (name, mut argument) = question(body)?;
    known(service, &name)?;
    let fields = argument.as_object_mut()?;
    let mut is_signed = false;
    for field in ["author", "by"] {
        if let Some(said) = fields.get_mut(field) {
            *said = author.into();
            is_signed = true;
        }
    }
    is_signed.then(|| json!({ name: argument }).to_string().into_bytes())
}

/// Wrong tokens in a second; beyond, nobody is let try. Each costs a hash that is slow on purpose.
const FAILURES_MAX: u32 = 10;

/// What they are counted over.
const FAILURES_WINDOW: Duration = Duration::from_secs(1);

/// How often a token was wrong of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureLimit {
    begun: Timestamp,
    count: u32,
}

impl FailureLimit {
    /// Whether nobody may try just now.
    pub fn is_reached(&self, now: Timestamp) -> bool {
        self.count >= FAILURES_MAX && now.since(self.begun) < FAILURES_WINDOW
    }

    /// A token was wrong.
    pub fn on_failure(&mut self, now: Timestamp) {
        if now.since(self.begun) >= FAILURES_WINDOW {
            *self = Self { begun: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const VIEWER: AccessRole = AccessRole::Viewer;

    fn of(service: &str, body: &Value) -> AccessRole {
        needed(service, body.to_string().as_bytes())
    }

    #[test]
    fn what_changes_something_is_told_from_what_asks() {
        let drain = json!({ "Drain": { "node": "calc-1", "undo": false } }).to_string();
        assert_eq!(deed_of(drain.as_bytes()).as_deref(), Some("Drain"));
        assert_eq!(deed_of(b"\"Finish\"").as_deref(), Some("Finish"));
        for asks in
            ["\"Report\"", "{\"Read\":{\"key\":\"x\"}}", "{\"Kill\":1,\"more\":2}", "{", "7"]
        {
            assert_eq!(deed_of(asks.as_bytes()), None, "{asks}");
        }
    }

    #[test]
    fn what_is_written_down_no_viewer_may_do_and_each_question_is_there_once() {
        let mut seen = BTreeSet::new();
        for it in QUESTIONS {
            assert!(seen.insert((it.service, it.name)), "{it:?} is there twice");
            let body = Value::from(it.name);
            assert_eq!(of(it.service, &body), it.effect.needed(), "{it:?}");
            let is_deed = deed_of(body.to_string().as_bytes()).is_some();
            assert!(!is_deed || !VIEWER.may(it.effect.needed()), "{it:?}");
            assert_eq!(it.effect == Effect::Looks, VIEWER.may(it.effect.needed()), "{it:?}");
        }
    }

    #[test]
    fn what_nobody_knows_is_an_administrators() {
        for (service, body) in [
            ("desk", json!("Status")),
            ("risk", json!("Explode")),
            ("risk", json!({ "Report": 1, "Kill": 2 })),
            ("locks", json!("Status")),
            ("%72isk", json!("Report")),
            ("", json!("Report")),
        ] {
            assert_eq!(of(service, &body), AccessRole::Admin, "{service} {body}");
        }
        assert_eq!(needed("risk", b"\xff\x00"), AccessRole::Admin);
        assert_eq!(needed("risk", b"\"Rep\\u006frt\""), VIEWER, "it is read as it will be");
    }

    #[test]
    fn operators_see_to_nodes_traders_to_trading_and_administrators_to_secrets() {
        let may = |role: AccessRole, service: &str, body: Value| role.may(of(service, &body));
        let drain = || json!({ "Drain": { "node": "a" } });
        let kill = || json!({ "Kill": { "what": "all", "by": "x", "reason": "" } });
        assert!(may(Operator, "ledger", drain()) && !may(Trader, "ledger", drain()));
        assert!(may(Trader, "risk", kill()) && !may(Operator, "risk", kill()));
        assert!(may(Operator, "risk", json!("Report")) && may(Trader, "node", json!("Tree")));
        let set = |key: &str| json!({ "Set": { "place": { "key": key }, "value": "1" } });
        assert!(may(Operator, "config", set("user.x")) && !may(VIEWER, "config", set("user.x")));
        for key in ["secret.desk", " secret.desk", "env/live/secret.desk", "node/a/secret.desk"] {
            assert!(!may(Operator, "config", set(key)), "{key}");
            assert!(may(Admin, "config", set(key)), "{key}");
        }
        assert!(may(Operator, "config", set("user.secret.desk")), "that is no secret");
        for it in QUESTIONS {
            assert!(Admin.may(it.effect.needed()), "{it:?}");
        }
    }

    #[test]
    fn roles_are_called_what_they_are_read_by() {
        for role in AccessRole::ALL {
            assert_eq!(AccessRole::parse(role.name()), Some(role));
        }
        assert_eq!(AccessRole::parse("root"), None);
    }

    #[test]
    fn who_asks_is_who_is_known_to_ask_and_not_who_it_says() {
        let kill = json!({ "Kill": { "what": "all", "by": "somebody", "reason": "r" } });
        let signed_by = |service, body: &Value| signed(service, body.to_string().as_bytes(), "ann");
        let told: Value =
            serde_json::from_slice(&signed_by("risk", &kill).unwrap_or_default()).unwrap();
        assert_eq!(told, json!({ "Kill": { "what": "all", "by": "ann", "reason": "r" } }));
        assert_eq!(signed_by("own", &kill), None, "of somebody's own");
        assert_eq!(signed_by("ledger", &json!({ "Drain": { "node": "a" } })), None);
        assert_eq!(signed_by("risk", &json!("Report")), None);
    }

    #[test]
    fn so_many_wrong_tokens_in_a_second_and_no_more() {
        let (mut limit, start) = (FailureLimit::default(), Timestamp::from_nanos(5_000_000_000));
        for _ in 0..FAILURES_MAX {
            assert!(!limit.is_reached(start));
            limit.on_failure(start);
        }
        assert!(limit.is_reached(start));
        let end = start.after(FAILURES_WINDOW);
        assert!(limit.is_reached(Timestamp::from_nanos(end.as_nanos() - 1)));
        assert!(!limit.is_reached(end));
        limit.on_failure(end);
        assert!(!limit.is_reached(end), "they are counted anew");
    }
}
