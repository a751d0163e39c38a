//! Alerts, as people read them: each once, though every node has its own view.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::show::{plain, table};

/// What every node has said, as one: of what several say, what the node says that coordinates.
pub(super) fn gathered(answers: &Value) -> Value {
    let rows = answers.as_array().into_iter().flatten();
    let (mut telling, mut others): (Vec<&Value>, Vec<&Value>) =
        rows.partition(|row| row["answer"]["tells"] == true);
    let tells: Vec<&Value> = telling.iter().map(|row| &row["node"]).collect();
    let tells = json!(tells);
    telling.append(&mut others);
    let (mut standing, mut over, mut silent) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for row in telling {
        if row["error"].is_string() {
            silent.push(json!({ "node": row["node"], "error": row["error"] }));
        }
        for (name, all) in [("standing", &mut standing), ("over", &mut over)] {
            for alert in row["answer"][name].as_array().into_iter().flatten() {
                // One that was raised again and again is there once, as it was last.
                let key = (plain(&alert["kind"]), plain(&alert["about"]));
                let mut alert = alert.clone();
                alert["said_by"] = row["node"].clone();
                let entry: &mut Value = all.entry(key).or_insert_with(|| alert.clone());
                if entry["said_by"] == alert["said_by"] {
                    *entry = alert;
                }
            }
        }
    }
    // What the node that coordinates has on nobody's word stands; what others have as over is only that.
    over.retain(|key, _| !standing.contains_key(key));
    json!({
        "told_by": tells,
        "standing": standing.into_values().collect::<Vec<_>>(),
        "over": over.into_values().collect::<Vec<_>>(),
        "unanswered": silent,
    })
}

pub(super) fn text(answer: &Value) -> String {
    let mut text = String::new();
    let is_empty = answer["standing"].as_array().is_none_or(Vec::is_empty);
    if is_empty {
        text.push_str("nothing is raised\n");
    } else {
        text.push_str(&table(
            &["kind", "about", "raised_ms", "said_by", "text"],
            &answer["standing"],
        ));
    }
    if answer["over"].as_array().is_some_and(|over| !over.is_empty()) {
        text.push_str("\nover\n");
        text.push_str(&table(
            &["kind", "about", "raised_ms", "cleared_ms", "text"],
            &answer["over"],
        ));
    }
    for row in answer["unanswered"].as_array().into_iter().flatten() {
        text.push_str(&format!("{}: {}\n", plain(&row["node"]), plain(&row["error"])));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(kind: &str, about: &str, number: u64) -> Value {
        json!({ "kind": kind, "about": about, "number": number, "text": "so" })
    }

    #[test]
    fn what_all_see_is_told_once_as_the_coordinator_has_it() {
        let answers = json!([
            { "node": "a", "answer": { "tells": false, "standing": [alert("node_offline", "d", 1)], "over": [] } },
            { "node": "b", "answer": { "tells": true, "standing": [alert("node_offline", "d", 7)],
              "over": [alert("trial_failures", "a", 2), alert("trial_failures", "a", 3)] } },
            { "node": "d", "error": "there is no link to node d" },
        ]);
        let all = gathered(&answers);
        assert_eq!(all["told_by"], json!(["b"]));
        assert_eq!(all["standing"].as_array().unwrap().len(), 1);
        assert_eq!(
            (&all["standing"][0]["number"], &all["standing"][0]["said_by"]),
            (&7.into(), &"b".into())
        );
        assert_eq!(all["over"].as_array().unwrap().len(), 1);
        assert_eq!(all["over"][0]["number"], 3, "the last one");
        let text = text(&all);
        assert!(text.contains("node_offline") && text.contains("no link to node d"), "{text}");
        assert!(super::text(&gathered(&json!([]))).contains("nothing is raised"));
    }
}
