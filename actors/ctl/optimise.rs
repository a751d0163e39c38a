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
        let (finished, all) = (&told["finished"], &told["trials_max"]);
        text.push_str(&format!(
            "{name} {state}: {finished} of {all} trials, beside {beside} others\n"
        ));
        for (liar, count) in told["flagged"].as_object().into_iter().flatten() {
            text.push_str(&format!("  {liar} said what does not come out again, {count} times\n"));
        }
        let top = told["top"].as_array().cloned().unwrap_or_default();
        let rows: Value = top
            .iter()
            .take(SHOWN)
            .map(|trial| {
                json!({
                    "score": format!("{:.4}", trial["score"].as_f64().unwrap_or(0.0)),
                    "parameters": parameters(&trial["parameters"]),
                    "found by": trial["node"],
                })
            })
            .collect();
        if !top.is_empty() {
            text.push_str(&table(&["score", "parameters", "found by"], &rows));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_shown_with_who_found_them_and_who_lied() {
        let trial = json!({ "score": 0.5123, "parameters": [["fast", 5.0]], "node": "b" });
        let answer = json!([
            { "node": "a", "answer": {
                "finished": 7, "trials_max": 9, "ended": null, "beside": ["b"],
                "flagged": { "liar": 2 }, "top": [trial],
            } },
            { "node": "c", "error": "it is reading its data" },
        ]);
        let text = text(&answer);
        for words in
            ["a searching: 7 of 9 trials, beside 1 others", "liar said", "0.5123", "fast 5.0"]
        {
            assert!(text.contains(words), "{words}\n{text}");
        }
        assert!(text.contains("c: it is reading its data"));
        assert!(super::text(&json!([])).contains("optimise.data"));
    }
}
