//! Answers as people read them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tickwright_core::domain::Key;

use super::CtlTask;

/// An answer as a person reads it.
pub fn text(task: &CtlTask, answer: &Value) -> String {
    match task {
        CtlTask::Members => {
            let columns = [
                "id",
                "status",
                "address",
                "http",
                "silent_ms",
                "duties",
                "load",
                "is_drained",
                "linked",
            ];
            table(&columns, answer)
        }
        CtlTask::Roles => table(&["role", "nodes"], answer),
        CtlTask::Config(call) => super::config::text(call, answer),
        CtlTask::ConfigFile(..) => answer["told"].as_str().unwrap_or_default().to_owned(),
        CtlTask::Secret(task, _) => super::secrets::text(task, answer),
        CtlTask::Locks => locks(answer),
        CtlTask::Shards => table(&["resource", "owner", "is_there", "epoch"], answer),
        CtlTask::Status => {
            let mut text = String::new();
            for (name, value) in answer.as_object().into_iter().flatten() {
                text.push_str(&format!("{name:<12} {}\n", plain(value)));
            }
            text
        }
        CtlTask::Tree => tree(answer),
        CtlTask::Alerts => super::alerts::text(answer),
        CtlTask::Tuner => super::tuner::text(answer),
        CtlTask::Optimise => super::optimise::text(answer),
        CtlTask::Adoption => super::optimise::adoption_text(answer),
        CtlTask::Parameters => super::parameters::text(answer),
        CtlTask::SetParameters(_) => super::parameters::set_text(answer),
        CtlTask::Streams => {
            let columns = [
                "from",
                "on",
                "to",
                "at",
                "complete",
                "sent",
                "received",
                "stable",
                "credit",
                "kept_rows",
                "unsent_rows",
                "waiting_rows",
                "session",
                "epochs",
            ];
            table(&columns, answer)
        }
        CtlTask::Switches => {
            let columns = ["what", "is_on", "in_effect", "by", "reason", "seconds_ago"];
            table(&columns, answer)
        }
        CtlTask::Reconcile { .. } => reconciled(answer),
        CtlTask::Release { .. }
        | CtlTask::Drain { .. }
        | CtlTask::Promote { .. }
        | CtlTask::KillActor { .. }
        | CtlTask::Kill { .. }
        | CtlTask::Rearm { .. } => {
            format!("{}\n", plain(answer.get("told").unwrap_or(&Value::Null)))
        }
        CtlTask::Records(_) => records(answer) + &origin(answer),
        CtlTask::Database { .. } => database(answer),
        CtlTask::Ask { .. } | CtlTask::Tell { .. } => {
            format!("{}\n", serde_json::to_string_pretty(answer).unwrap_or_default())
        }
    }
}

/// Rows of a database, which come as lists.
fn records(answer: &Value) -> String {
    let names = answer["columns"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    let rows = answer["rows"].as_array().into_iter().flatten();
    let object = |row: &Value| -> Value {
        let cells = row.as_array().cloned().unwrap_or_default();
        let named = names.iter().map(|&name| name.to_owned()).zip(cells);
        Value::Object(named.collect::<Map<String, Value>>())
    };
    table(&names, &rows.map(object).collect())
}

/// Whose database has answered, and who else has one.
fn origin(answer: &Value) -> String {
    let Some(node) = answer["node"].as_str() else { return String::new() };
    let place = plain(&answer["database"]);
    if answer["is_own"] != true {
        return format!("\nfrom {place}, by way of node {node}\n");
    }
    let others: Vec<String> = items(&answer["others"]).map(plain).collect();
    let hint = match others.len() {
        0 => String::new(),
        1 => format!(
            "; another node has a database of its own: `--on {}` asks there",
            others.join(", ")
        ),
        count => format!(
            "; {count} other nodes have databases of their own: `--on NODE` asks one of them ({})",
            others.join(", ")
        ),
    };
    format!("\nfrom the database of node {node}, {place}{hint}\n")
}

/// How the records stand, and what the database has refused.
fn database(answer: &Value) -> String {
    let mut text = String::new();
    for (name, value) in answer["status"].as_object().into_iter().flatten() {
        text.push_str(&format!("{name:<15} {}\n", plain(value)));
    }
    if let Some(told) = answer["told"].as_str() {
        text.push_str(&format!("\n{told}\n"));
    }
    if answer["aside"]["rows"].as_array().is_some_and(|rows| !rows.is_empty()) {
        text.push_str("\nrefused by the database, and set aside\n");
        text.push_str(&records(&answer["aside"]));
        text.push_str(
            "\n`tickwright ctl db --retry` offers them again once the reason is gone, `--discard ID` drops one\n",
        );
    }
    text
}

pub(super) fn table(columns: &[&str], rows: &Value) -> String {
    let mut lines = vec![columns.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()];
    for row in rows.as_array().into_iter().flatten() {
        lines.push(
            columns.iter().map(|&name| plain(row.get(name).unwrap_or(&Value::Null))).collect(),
        );
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// What was found of each account, and done.
fn reconciled(answer: &Value) -> String {
    let mut text = String::new();
    for account in items(answer.get("accounts").unwrap_or(&Value::Null)) {
        let is_complete = account.get("is_complete") == Some(&Value::Bool(true));
        let name = plain(account.get("account").unwrap_or(&Value::Null));
        if !text.is_empty() {
            text.push('\n');
        }
        if let Some(problem) = account.get("problem").and_then(Value::as_str) {
            text.push_str(&format!("{name}: {problem}\n"));
            continue;
        }
        let doubt = if is_complete { "" } else { "; not everything was answered in time" };
        if let Some(guarantee) = account.get("guarantee").and_then(Value::as_str) {
            text.push_str(&format!("{name}: {guarantee}\n"));
        }
        text.push_str(&format!("{name}: orders under way{doubt}\n"));
        if let Some(trouble) = account.get("trouble").and_then(Value::as_str) {
            text.push_str(&format!("the exchange: {trouble}\n"));
        }
        let columns = [
            "symbol",
            "client_id",
            "slot",
            "exchange_order",
            "asked_for",
            "executed",
            "told",
            "doing",
        ];
        text.push_str(&table(&columns, account.get("orders").unwrap_or(&Value::Null)));
        let recovered = account.get("recovered").unwrap_or(&Value::Null);
        if items(recovered).next().is_some() {
            text.push_str(
                "\nwhat was found of orders that were begun before, and done about them\n",
            );
            let columns =
                ["symbol", "client_id", "exchange_order", "found", "done", "executed", "outcome"];
            text.push_str(&table(&columns, recovered));
        }
        let by_others = account.get("by_others").unwrap_or(&Value::Null);
        if let Some(unknown) = account.get("by_others_unknown").and_then(Value::as_str) {
            text.push_str(&format!("\n{unknown}\n"));
        } else if items(by_others).next().is_some() {
            text.push_str("\nopen at the exchange, and not placed from here: left as it is\n");
            let columns =
                ["symbol", "exchange_order", "client_id", "side", "price", "quantity", "executed"];
            text.push_str(&table(&columns, by_others));
        }
        text.push_str("\nwhat the account has traded, bought less sold\n");
        let mut rows = account.get("traded").cloned().unwrap_or_default();
        let held = account.get("held").cloned().unwrap_or_default();
        for row in rows.as_array_mut().into_iter().flatten() {
            let symbol = plain(row.get("symbol").unwrap_or(&Value::Null));
            row["held"] = held.get(&symbol).cloned().unwrap_or_else(|| "0".into());
        }
        let columns = ["symbol", "ours", "others", "adopted", "missing", "held", "done"];
        text.push_str(&table(&columns, &rows));
        let lacks = |row: &&Value| !matches!(row["missing"].as_str(), Some(text) if text.trim_matches(['0', '.']).is_empty());
        if items(&rows).any(|row| lacks(&row)) {
            text.push_str(
                "\npositions lack what others' orders have traded; `tickwright ctl reconcile --adopt` \
                 takes it over\n",
            );
        }
        if let Some(counters) = account.get("counters").filter(|counters| counters.is_object()) {
            text.push_str(&format!("\ncounted since exec is here: {}\n", plain(counters)));
        }
    }
    text
}

/// A row for each owner that has a lock.
fn locks(answer: &Value) -> String {
    let mut rows = Vec::new();
    for lock in items(&answer["locks"]) {
        let waiters: Vec<String> =
            items(&lock["waiters"]).map(|waiter| plain(&waiter["owner"])).collect();
        for holder in items(&lock["holders"]) {
            let mut row = holder.clone();
            row["key"] = lock["key"].clone();
            row["kind"] = lock["mode"].clone();
            row["holder"] = holder["owner"].clone();
            row["waiters"] = waiters.clone().into();
            rows.push(row);
        }
    }
    let columns =
        ["key", "kind", "holder", "node", "token", "holds", "age_ms", "left_ms", "waiters"];
    let trouble = answer["trouble"].as_str().map(|reason| format!("{reason}\n"));
    trouble.unwrap_or_default() + &table(&columns, &rows.into())
}

/// A value in one cell.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Object(fields) if fields.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Object(fields) => {
            let cell = |(name, value): (&String, &Value)| format!("{name}={}", plain(value));
            fields.iter().map(cell).collect::<Vec<_>>().join(" ")
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Every supervisor and actor on a line, below whoever supervises it.
fn tree(answers: &Value) -> String {
    let mut text = String::new();
    for answer in items(answers) {
        let node = plain(answer.get("node").unwrap_or(&Value::Null));
        if let Some(error) = answer.get("error") {
            text.push_str(&format!("{node}: {}\n", plain(error)));
            continue;
        }
        text.push_str(&format!("{node}\n"));
        for branch in items(&answer["answer"]["trees"]) {
            write_branch(branch, 1, &mut text);
        }
    }
    text
}

fn write_branch(branch: &Value, depth: usize, text: &mut String) {
    let name = format!("{}{}", "  ".repeat(depth), plain(&branch["name"]));
    let strategy = branch.get("strategy").map_or_else(|| "actor".to_owned(), plain);
    let state = if branch["is_running"] == true { "runs" } else { "restart is due" };
    let restarts = branch["restarts"].as_u64().unwrap_or(0);
    let restarts = if restarts == 1 { "1 restart".into() } else { format!("{restarts} restarts") };
    text.push_str(&format!("{name:<28} {strategy:<12} {state}, {restarts}\n"));
    for child in items(&branch["children"]) {
        write_branch(child, depth + 1, text);
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A row for each stream, made of what its two ends say, wherever they are; and one for each node that
/// says nothing.
pub(super) fn edges(answers: &Value) -> Value {
    let mut edges: BTreeMap<(String, String), Map<String, Value>> = BTreeMap::new();
    let mut silent = Vec::new();
    for answer in items(answers) {
        let node = &answer["node"];
        if let Some(error) = answer.get("error") {
            silent.push(serde_json::json!({ "on": node, "error": error }));
            continue;
        }
        for end in items(&answer["answer"]) {
            let name = |field: &str| plain(&end[field]);
            let edge = edges.entry((name("from"), name("to"))).or_default();
            for field in ["from", "to"] {
                edge.insert(field.into(), end[field].clone());
            }
            add_end(edge, node, end);
        }
    }
    for edge in edges.values_mut() {
        let session = both(edge, "session");
        let epochs = format!("{}/{}", side(edge, "epoch", "on"), side(edge, "epoch", "at"));
        edge.extend([("session".to_owned(), session.into()), ("epochs".to_owned(), epochs.into())]);
    }
    edges.into_values().map(Value::Object).chain(silent).collect()
}

/// What one end says of a stream, on `node`. An older life of it, which is about to end, has no say.
fn add_end(edge: &mut Map<String, Value>, node: &Value, end: &Value) {
    let (own, other, standing) = match end.get("producer") {
        Some(standing) => ("on", "at", standing),
        None => ("at", "on", &end["consumer"]),
    };
    let (epoch, session) = (format!("epoch_{own}"), format!("session_{own}"));
    if edge.get(&epoch).and_then(Value::as_u64) > end["epoch"].as_u64() {
        return;
    }
    edge.insert(epoch, end["epoch"].clone());
    edge.insert(own.into(), node.clone());
    // Until the other end has its say.
    edge.entry(other).or_insert_with(|| end["other_node"].clone());
    for (field, value) in standing.as_object().into_iter().flatten() {
        if field == "session" {
            // More digits than a number has in most programs that read JSON.
            let number = value.as_u64().map(|number| format!("{number:016x}"));
            edge.insert(session.clone(), number.into());
        } else {
            edge.insert(field.clone(), readable(value));
        }
    }
}

/// What is known of one end.
fn side(edge: &Map<String, Value>, what: &str, side: &str) -> String {
    edge.get(&format!("{what}_{side}")).map_or_else(|| "-".into(), plain)
}

/// The end of a number that both ends are to have; of both, if they do not agree, or have not found each
/// other yet.
fn both(edge: &Map<String, Value>, what: &str) -> String {
    let short = |text: String| text[text.len().saturating_sub(6)..].to_owned();
    let (on, at) = (short(side(edge, what, "on")), short(side(edge, what, "at")));
    if on == at { on } else { format!("{on}/{at}") }
}

/// A key as people read it; anything else as it is.
fn readable(value: &Value) -> Value {
    let Ok(key) = serde_json::from_value::<Key>(value.clone()) else { return value.clone() };
    match key {
        Key::START => "start".into(),
        Key::END => "end".into(),
        key => key.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_a_table() {
        let members =
            json!([{ "id": "calc-1", "status": "up", "linked": ["a", "b"], "load": 0.25 }]);
        let text = text(&CtlTask::Members, &members);
        assert!(text.starts_with("id      status  address"), "{text}");
        assert!(text.contains("calc-1  up      -        -     -          -       0.25"), "{text}");
        assert!(text.contains("a,b"), "{text}");
    }

    #[test]
    fn of_each_account_it_is_shown_what_is_guaranteed_there() {
        let account = |name: &str, guarantee: &str| json!({ "account": name, "guarantee": guarantee, "is_complete": true, "orders": [], "traded": [] });
        let answer =
            json!({ "accounts": [account("x/a", "by deadline"), account("y/b", "by a person")] });
        let text = text(&CtlTask::Reconcile { adopt: false }, &answer);
        assert!(
            text.contains("x/a: by deadline\n") && text.contains("y/b: by a person\n"),
            "{text}"
        );
    }

    #[test]
    fn what_was_found_of_earlier_orders_is_a_table_and_so_is_what_was_done() {
        let recovered = json!([{
            "symbol": "A.X", "client_id": "tw-1", "exchange_order": 7, "found": "ended there",
            "done": "finished with its fills", "executed": "4", "outcome": "traded",
        }]);
        let account = json!({
            "account": "x/a", "is_complete": true, "orders": [], "traded": [],
            "recovered": recovered, "counters": { "orphans": 1, "accepted_twice": 0 },
        });
        let told = text(&CtlTask::Reconcile { adopt: false }, &json!({ "accounts": [account] }));
        let rows = "what was found of orders that were begun before, and done about them\n\
                    symbol client_id exchange_order found done executed outcome\n\
                    A.X tw-1 7 ended there finished with its fills 4 traded\n";
        let squeezed = |text: &str| text.replace(' ', "");
        assert!(squeezed(&told).contains(&squeezed(rows)), "{told}");
        let counted = told.lines().last().unwrap_or_default();
        assert!(counted.starts_with("counted since exec is here: "), "{told}");
        assert!(counted.contains("orphans=1") && counted.contains("accepted_twice=0"), "{told}");
        let none = json!({ "account": "x/a", "is_complete": true, "orders": [], "traded": [] });
        let told = text(&CtlTask::Reconcile { adopt: false }, &json!({ "accounts": [none] }));
        assert!(!told.contains("begun before") && !told.contains("counted"), "{told}");
    }

    #[test]
    fn what_a_database_has_says_whose_it_is_and_who_else_has_one() {
        use tickwright_core::records::{Filter, Question, Topic};
        let last_line = |is_own: bool, others: &[&str]| {
            let answer = json!({
                "columns": ["symbol"], "rows": [["A.X"]], "node": "exec-1", "database": "sqlite:r",
                "is_own": is_own, "others": others,
            });
            let question = Question { topic: Topic::Orders, filter: Filter::default() };
            let text = text(&CtlTask::Records(question), &answer);
            assert!(text.starts_with("symbol\nA.X\n"), "{text}");
            text.lines().last().unwrap_or_default().to_owned()
        };
        assert_eq!(last_line(true, &[]), "from the database of node exec-1, sqlite:r");
        let one = last_line(true, &["exec-2"]);
        assert!(one.ends_with("another node has a database of its own: `--on exec-2` asks there"));
        let two = last_line(true, &["exec-2", "exec-3"]);
        let hint = "2 other nodes have databases of their own: `--on NODE` asks one of them (exec-2, exec-3)";
        assert!(two.ends_with(hint), "{two}");
        assert_eq!(last_line(false, &["exec-2"]), "from sqlite:r, by way of node exec-1");
    }

    #[test]
    fn a_tree_is_indented_and_says_who_gives_no_answer() {
        let strategies = json!({ "name": "strategy/0", "is_running": false, "restarts": 1 });
        let shard = json!({
            "name": "shard/0", "strategy": "one_for_one", "is_running": true, "restarts": 0,
            "children": [strategies],
        });
        let answers = json!([
            { "node": "calc-1", "answer": { "node": "calc-1", "trees": [shard] } },
            { "node": "calc-2", "error": "there is no link to node calc-2" },
        ]);
        let text = text(&CtlTask::Tree, &answers);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "calc-1");
        assert_eq!(lines[1], "  shard/0                    one_for_one  runs, 0 restarts");
        assert_eq!(lines[2], "    strategy/0               actor        restart is due, 1 restart");
        assert_eq!(lines[3], "calc-2: there is no link to node calc-2");
    }

    #[test]
    fn the_two_ends_of_a_stream_are_one_row() {
        let end = |side: &str, other: &str, epoch: u64, standing: Value| {
            json!({
                "from": "strategy/0", "to": "risk", "other": "x", "other_node": other,
                "epoch": epoch, side: standing,
            })
        };
        let session = 0xabc_0000_0000_1234_u64;
        let produced =
            json!({ "complete": Key::END, "stable": Key::START, "credit": 7, "session": session });
        let consumed = json!({
            "received": Key::of(2_000_000_000, 1, 3), "waiting_rows": 2, "session": session,
        });
        let answers = json!([
            { "node": "calc-1", "answer": [end("producer", "exec-1", 3, produced.clone())] },
            { "node": "calc-9", "answer": [end("producer", "exec-1", 2, produced)] },
            { "node": "exec-1", "answer": [end("consumer", "calc-1", 1, consumed)] },
            { "node": "data-1", "error": "silent" },
        ]);
        let rows = edges(&answers);
        assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
        let row = &rows[0];
        assert_eq!((&row["on"], &row["at"]), (&json!("calc-1"), &json!("exec-1")));
        assert_eq!((&row["complete"], &row["stable"]), (&json!("end"), &json!("start")));
        assert_eq!(row["received"], Key::of(2_000_000_000, 1, 3).to_string());
        assert_eq!((&row["credit"], &row["waiting_rows"]), (&json!(7), &json!(2)));
        assert_eq!((&row["session"], &row["epochs"]), (&json!("001234"), &json!("3/1")));
        assert_eq!(row["session_at"], "0abc000000001234");
        assert_eq!(rows[1], json!({ "on": "data-1", "error": "silent" }));
    }
}
