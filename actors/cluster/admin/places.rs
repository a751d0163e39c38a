//! What there is at the door for tools: one table, of which the router, the guard and the OpenAPI document are made.

use serde_json::{Map, Value, json};
use tickwright_core::cluster::access::{Effect, QUESTIONS};

use super::super::metrics;

/// What is done at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Whether the node is in a cluster.
    Health,
    /// The page that shows the cluster.
    Dashboard,
    /// This table, as an OpenAPI document.
    Document,
    /// A part of one node is asked a question.
    About(&'static str, &'static str),
    /// A part of each node that has it is asked a question.
    Each(&'static str, &'static str),
    /// Numbers, for Prometheus.
    Metrics,
    /// The body is asked of the shared configuration.
    Config,
    /// The body is asked of a role.
    Ask,
    /// The same without an answer.
    Tell,
}

/// A place at the door.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// As the router has it.
    pub(super) path: &'static str,
    pub(super) way: Way,
    about: &'static str,
}

const fn place(path: &'static str, way: Way, about: &'static str) -> Place {
    Place { path, way, about }
}

/// The end of a path that names a role, with slashes.
const ROLE: &str = "{*role}";

const NODE: &str = "node";

/// Every place.
pub(super) const PLACES: &[Place] = &[
    place(
        "/",
        Way::Dashboard,
        "A page that shows the cluster; it asks for a token if it needs one",
    ),
    place("/openapi.json", Way::Document, "This document"),
    place("/health", Way::Health, "200 in a cluster, 503 outside; nobody has to say who asks"),
    place("/status", Way::About(NODE, "\"Status\""), "How a node is; this one, without a name"),
    place(
        "/members",
        Way::About(NODE, "\"Members\""),
        "Who is in the cluster, as the node sees it",
    ),
    place("/roles", Way::About(NODE, "\"Roles\""), "Who serves which role, as the node sees it"),
    place(
        "/locks",
        Way::About("locks", "\"List\""),
        "Who holds and awaits locks, as the node sees it",
    ),
    place("/tree", Way::Each(NODE, "\"Tree\""), "Who supervises whom, on each node"),
    place("/tuner", Way::Each("tuner", "\"Report\""), "What is tried, and what was kept"),
    place("/optimise", Way::Each("optimise", "\"Status\""), "How far the search is, and the best"),
    place("/adoption", Way::Each("adoption", "\"Status\""), "What is adopted of what was found"),
    place("/alerts", Way::Each("alerts", "\"Report\""), "What an operator is to hear of"),
    place("/streams", Way::Each("run", "\"Streams\""), "Where the ends of streams stand"),
    place(
        "/secrets",
        Way::Each("config", "\"Secrets\""),
        "Which keys there are, and what they open",
    ),
    place(
        "/metrics",
        Way::Metrics,
        "Numbers of a node and of the shared configuration, for Prometheus",
    ),
    place("/config", Way::Config, "Asks the shared configuration as the node has it"),
    place("/ask/{*role}", Way::Ask, "Asks a role on any node, and answers what it answers"),
    place("/tell/{*role}", Way::Tell, "Tells a role on any node something"),
];

/// The place that `path` names.
pub(super) fn at(path: &str) -> Option<&'static Place> {
    PLACES.iter().find(|place| match place.path.strip_suffix(ROLE) {
        Some(before) => path.strip_prefix(before).is_some_and(|role| !role.is_empty()),
        None => path == place.path,
    })
}

impl Place {
    /// Whether nobody has to say who asks. A browser that opens a page sends no token along, and the page says nothing.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.way, Way::Health | Way::Dashboard)
    }

    /// The role, without its node, that is asked what the body of a request to `path` says; none, if it is not the body
    /// that says so. A name with escapes is left as it is, and nobody's.
    pub(super) fn asks<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.way {
            Way::Ask | Way::Tell => {
                let role = path.strip_prefix(self.path.trim_end_matches(ROLE))?;
                role.split('/').next()
            }
            Way::Config => Some("config"),
            Way::Health
            | Way::Dashboard
            | Way::Document
            | Way::About(..)
            | Way::Each(..)
            | Way::Metrics => None,
        }
    }
}

/// The table as an OpenAPI document.
pub(super) fn document() -> Value {
    let paths: Map<String, Value> =
        PLACES.iter().map(|place| (place.path.replace(ROLE, "{role}"), operation(place))).collect();
    let questions: Vec<Value> = QUESTIONS
        .iter()
        .map(|it| {
            json!({
                "role": it.service,
                "question": it.name,
                "needs": it.effect.needed().name(),
                "is_recorded": matches!(it.effect, Effect::Deed(_)),
            })
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "tickwright",
            "version": env!("CARGO_PKG_VERSION"),
            "description":
                "The door for tools of a node. Any node answers for any other. With node.tokens_file a \
                 request says by a token who asks; places that only look need a viewer's, and a question \
                 needs what x-questions says of it, or an admin's.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": {
                "Refusal": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": { "type": "string", "description": "What is wrong, and what to do" },
                        "is_outcome_unknown": { "type": "boolean" },
                    },
                },
            },
        },
        "security": [{ "token": [] }, {}],
        "x-questions": questions,
    })
}

fn operation(place: &Place) -> Value {
    let text = |name: &str, place: &str, about: &str| {
        json!({
            "name": name, "in": place, "required": place == "path", "description": about,
            "schema": { "type": "string" },
        })
    };
    let node =
        text("node", "query", "The node that is meant, if it is not the one that is reached");
    let timeout = json!({
        "name": "timeout_ms", "in": "query", "required": false,
        "description": "How long the answer may take", "schema": { "type": "integer", "minimum": 0 },
    });
    let (method, media, mut parameters) = match place.way {
        Way::Health | Way::Document => ("get", "application/json", Vec::new()),
        Way::Dashboard => ("get", "text/html", Vec::new()),
        Way::About(..) | Way::Each(..) => ("get", "application/json", vec![node, timeout]),
        Way::Metrics => ("get", metrics::CONTENT_TYPE, vec![node, timeout]),
        Way::Config | Way::Ask | Way::Tell => ("post", "application/json", vec![node, timeout]),
    };
    if place.path.ends_with(ROLE) {
        parameters.push(text("role", "path", "Whom, such as risk or node/calc-1; slashes stay"));
    }
    let refusal = json!({
        "description": "What is wrong, and what to do: 401 without a token that is known, 403 with one that \
                        may not, 429 after too many wrong ones",
        "content": {
            "application/json": { "schema": { "$ref": "#/components/schemas/Refusal" } },
        },
    });
    let mut content = Map::new();
    content.insert(media.to_owned(), json!({}));
    let mut operation = json!({
        "summary": place.about,
        "parameters": parameters,
        "responses": {
            "200": { "description": "The answer", "content": content },
            "default": refusal,
        },
    });
    if method == "post" {
        let body = json!({ "required": true, "content": { "application/json": {} } });
        operation["requestBody"] = body;
    }
    if place.is_open() {
        operation["security"] = json!([]);
    }
    let mut item = Map::new();
    item.insert(method.to_owned(), operation);
    Value::Object(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_place_or_none_and_says_who_is_asked() {
        let asks = |path: &'static str| at(path).map(|place| place.asks(path));
        assert_eq!(asks("/ask/run/exec-1"), Some(Some("run")));
        assert_eq!(asks("/tell/risk"), Some(Some("risk")));
        assert_eq!(asks("/ask/%72isk"), Some(Some("%72isk")), "nobody's name");
        assert_eq!(asks("/config"), Some(Some("config")));
        assert_eq!(asks("/status"), Some(None));
        for path in ["/ask/", "/ask", "/Status", "/status/", "//status", "/x", ""] {
            assert_eq!(asks(path), None, "{path}");
        }
    }

    #[test]
    fn the_document_has_every_place_and_every_question() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), PLACES.len(), "no path is there twice");
        for place in PLACES {
            let item = &paths[&place.path.replace(ROLE, "{role}")];
            let method = if place.asks("/ask/x").is_some() || place.asks("/tell/x").is_some() {
                "post"
            } else {
                "get"
            };
            assert_eq!(item[method]["summary"], place.about, "{item}");
            assert_eq!(item[method]["security"] == json!([]), place.is_open(), "{item}");
        }
        assert_eq!(document["x-questions"].as_array().unwrap().len(), QUESTIONS.len());
        assert_eq!(document["openapi"], "3.1.0");
    }
}
