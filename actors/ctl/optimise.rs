//! How far the search for parameters is, as people read it.

use serde_json::{Value, json};

use super::show::table;

/// Best ones shown of each node.
const SHOWN: usize = 5;

fn parameters(of: &Value) -> String {
    let pairs = of.as_array().into_iter().flatten();
    let of = |pair: &Value| format!("{} {}", pair[0].as_str().unwrap_or("-"), pair[1]);
    pairs.map(of).collect::<Vec<_>>().join(", ")
}

/// Of each node.
pub(super) fn text(answer: &Value) -> String {
    let nodes = answer.as_array().cloned().unwrap_or_default();
    if nodes.is_empty() {
        return "no node searches for anything; see optimise.data\n".into();
    }
    let mut text = String::new();
    for node in &nodes {
        let (name, told) = (node["node"].as_str().unwrap_or("-"), &node["answer"]);
        let problem = node["error"].as_str().or_else(|| told["failed"].as_str());
        if let Some(problem) = problem {
            text.push_str(&format!("{name}: {problem}\n"));
            continue;
        }
        let state = match told["ended"].as_str() {
            Some(reason) => format!("ended by {reason}"),
            None => "searching".to_owned(),
        };
        let beside = told["beside"].as_array().map_or(0, Vec::len);
        let (finished, all, own) = (&told["finished"], &told["trials_max"], &told["own"]);
        text.push_str(&format!(
            "{name} {state}: {finished} of {all} trials, {own} run here, beside {beside} others\n"
        ));
        for (liar, count) in told["flagged"].as_object().into_iter().flatten() {
            text.push_str(&format!("  {liar} said what does not come out again, {count} times\n"));
        }
        let top = told["top"].as_array().cloned().unwrap_or_default();
        let rows: Value = top
            .iter()
            .take(SHOWN)
            .map(|trial| {
                // A node of an earlier version does not say it.
                let risk_adjusted = trial["risk_adjusted"].as_f64();
                json!({
                    "score": format!("{:.4}", trial["score"].as_f64().unwrap_or(0.0)),
                    "risk-adjusted": risk_adjusted.map(|it| format!("{it:.2}")),
                    "parameters": parameters(&trial["parameters"]),
                    "found by": trial["node"],
                })
            })
            .collect();
        if !top.is_empty() {
            text.push_str(&table(&["score", "risk-adjusted", "parameters", "found by"], &rows));
        }
    }
    text
}

/// Of each node: what is under way, and how earlier proposals ended.
pub(super) fn adoption_text(answer: &Value) -> String {
    let nodes = answer.as_array().cloned().unwrap_or_default();
    if nodes.is_empty() {
        return "no node searches for anything; see optimise.data\n".into();
    }
    let mut text = String::new();
    for node in &nodes {
        let (name, told) = (node["node"].as_str().unwrap_or("-"), &node["answer"]);
        if let Some(problem) = node["error"].as_str() {
            text.push_str(&format!("{name}: {problem}\n"));
            continue;
        }
        let count = |key: &str| told[key].as_u64().unwrap_or(0);
        // Of nothing proposed there is none.
        let rate = told["adoption_rate"].as_f64();
        let rate =
            rate.map_or_else(String::new, |rate| format!(", adoption rate {:.0} %", rate * 100.0));
        text.push_str(&format!(
            "{name} {}: {} proposed, {} adopted, {} taken back{rate} (optimise.adopt = {})\n",
            told["stage"].as_str().unwrap_or("-"),
            count("proposed"),
            count("adopted"),
            count("taken_back"),
            told["mode"].as_str().unwrap_or("-").to_lowercase(),
        ));
        let proposal = &told["proposal"];
        if !proposal.is_null() {
            let score = |of: &Value| format!("{:.4}", of.as_f64().unwrap_or(0.0));
            text.push_str(&format!(
                "  proposed: {}, score {} (in force {}); `tickwright ctl adopt {name}` takes it over\n",
                parameters(&proposal["trial"]["parameters"]),
                score(&proposal["trial"]["score"]),
                score(&proposal["current_score"]),
            ));
        }
        let ends = told["history"].as_array().cloned().unwrap_or_default();
        let shown = &ends[ends.len().saturating_sub(SHOWN)..];
        let rows: Value = shown
            .iter()
            .map(|end| {
                json!({
                    "parameters": parameters(&end["parameters"]),
                    "adopted": end["is_adopted"],
                    "why": end["why"],
                })
            })
            .collect();
        if !shown.is_empty() {
            text.push_str(&table(&["parameters", "adopted", "why"], &rows));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_shown_with_who_found_them_and_who_lied() {
        let trial = json!({
            "score": 0.5123, "risk_adjusted": 2.345, "parameters": [["fast", 5.0]], "node": "b",
        });
        let silent = json!({ "score": 0.25, "parameters": [["fast", 6.0]], "node": "b" });
        let answer = json!([
            { "node": "a", "answer": {
                "finished": 7, "own": 4, "trials_max": 9, "ended": null, "beside": ["b"],
                "flagged": { "liar": 2 }, "top": [trial, silent],
            } },
            { "node": "c", "error": "it is reading its data" },
        ]);
        let text = text(&answer);
        let first = "a searching: 7 of 9 trials, 4 run here, beside 1 others";
        let table = [
            "score   risk-adjusted  parameters  found by",
            "0.5123  2.35           fast 5.0    b",
            "0.2500  -              fast 6.0    b",
        ];
        for words in [first, "liar said"].into_iter().chain(table) {
            assert!(text.contains(words), "{words}\n{text}");
        }
        assert!(text.contains("c: it is reading its data"));
        assert!(super::text(&json!([])).contains("optimise.data"));
    }

    #[test]
    fn what_waits_for_a_person_is_shown_with_what_to_do() {
        let trial = json!({ "score": 0.5, "parameters": [["fast", 5.0]] });
        let end = json!({ "parameters": [["fast", 9.0]], "is_adopted": false, "why": "no better" });
        let mut answer = json!([{ "node": "a", "answer": {
            "mode": "Confirm", "stage": "proposed", "proposed": 2, "adopted": 1, "taken_back": 0,
            "adoption_rate": 0.5, "proposal": { "trial": trial, "current_score": 0.25 },
            "history": [end],
        } }]);
        let text = adoption_text(&answer);
        let first = "a proposed: 2 proposed, 1 adopted, 0 taken back, adoption rate 50 % (";
        for words in [first, "fast 5.0, score 0.5000", "ctl adopt a", "no better"] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        answer[0]["answer"]["adoption_rate"] = Value::Null;
        assert!(adoption_text(&answer).contains("0 taken back (optimise.adopt = confirm)"));
        assert!(adoption_text(&json!([])).contains("optimise.data"));
    }
}
