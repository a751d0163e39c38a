//! Exchanges, and whose keys they have.

use std::collections::BTreeSet;

use super::Found;
use crate::config::cores::keys_of;
use crate::config::settings::Value;

impl Found<'_> {
    /// An exchange has an address and keys, speaks when it likes, and shares exec with no paper broker.
    pub(super) fn exchanges(&mut self) {
        let kind = |broker| self.settings.text(&["broker", broker, "kind"]);
        let has_backup = self.settings.switch(&["router", "has_backup"]);
        let (primary, backup) = (kind("primary"), kind("backup"));
        if primary != "exchange" && (backup != "exchange" || !has_backup) {
            return;
        }
        if has_backup && primary != backup {
            let paths: [&[&str]; 3] = [
                &["router", "has_backup"],
                &["broker", "primary", "kind"],
                &["broker", "backup", "kind"],
            ];
            let fix = "let both be exchanges, or do without a backup: has_backup = false";
            self.add(&paths, "a paper broker and an exchange cannot back each other up", fix);
        }
        let used: &[&str] = if has_backup { &["primary", "backup"] } else { &["primary"] };
        for broker in used {
            let path = ["broker", broker, "base_url"];
            if self.settings.find(&path).and_then(Value::text).is_none() {
                let fix = format!("set broker.{broker}.base_url");
                self.add(&[&path], "an exchange needs it", fix);
            }
            self.keys(broker);
        }
        let names = |broker| self.settings.text(&["broker", broker, "exchange"]);
        if has_backup && names("primary") == names("backup") {
            let paths: [&[&str]; 2] =
                [&["broker", "primary", "exchange"], &["broker", "backup", "exchange"]];
            self.add(&paths, "two exchanges have one name", "give each a name of its own");
        }
        let merge = ["pipeline", "merge"];
        let is_live = self.settings.text(&["pipeline", "input"]) == "live";
        match self.settings.text(&merge) {
            "arrival" => {}
            "auto" if is_live => {}
            _ => self.add(
                &[&merge],
                "an exchange answers when it likes, so inputs have to be taken as they arrive",
                "set pipeline.merge to \"arrival\"",
            ),
        }
    }

    /// An exchange has the keys of every account that trades there, once, and of no account that there is not.
    fn keys(&mut self, broker: &str) {
        let settings = self.settings;
        let text = |list, at, name| settings.find(&[list, at, name]).and_then(Value::text);
        let indices = settings.names_under(&["account"]);
        let names: Vec<&str> =
            indices.iter().filter_map(|at| text("account", at, "name")).collect();
        let Some(&first) = names.first() else { return };
        let has_keys = |name: &str| keys_of(settings, broker, name, name == first).is_some();
        for name in settings.names_under(&["broker", broker, "accounts"]) {
            let path = ["broker", broker, "accounts", name, "keys_file"];
            if settings.find(&path).and_then(Value::text).is_none() {
                continue;
            }
            if !names.contains(&name) {
                let what = format!("there is no account {name:?}");
                let fix = "add an [[account]] of that name, or take its keys out";
                self.add(&[&path], what, fix);
            }
            let short = ["broker", broker, "keys_file"];
            if name == first && settings.find(&short).and_then(Value::text).is_some() {
                let what = format!("the keys of the first account, {first:?}, are named twice");
                self.add(
                    &[&path, &short],
                    what,
                    format!("set broker.{broker}.keys_file to \"none\""),
                );
            }
        }
        let mut traders = Vec::new();
        for index in settings.names_under(&["strategy"]) {
            let account = text("strategy", index, "account").unwrap_or(first);
            if names.contains(&account) {
                traders.push((account, Some(["strategy", index, "account"])));
            }
        }
        if traders.is_empty() {
            traders.push((first, None));
        }
        let mut said = BTreeSet::new();
        for (account, at) in traders {
            if has_keys(account) || !said.insert(account) {
                continue;
            }
            let mine = ["broker", broker, "accounts", account, "keys_file"];
            if account == first {
                let what = format!("an exchange needs the keys of account {first:?}");
                let fix = format!("set broker.{broker}.keys_file to a file with KEY:SECRET");
                self.add(&[&["broker", broker, "keys_file"]], what, fix);
                continue;
            }
            let what = format!(
                "orders of account {account:?} cannot leave: broker.{broker} has no keys of it"
            );
            let fix = format!(
                "set broker.{broker}.accounts.{account}.keys_file to a file with KEY:SECRET, or let it trade for \
                 an account whose keys there are"
            );
            let at: Vec<&[&str]> = at.iter().map(<[&str; 3]>::as_slice).collect();
            self.add(&[at.as_slice(), &[&mine]].concat(), what, fix);
        }
    }
}
