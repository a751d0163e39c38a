//! The part of the architecture that Cargo cannot check.
//!
//! That cores cannot act is Cargo's business: they are a package of their own, which names no crate
//! that could. But modules of one package see each other, so scans over the source text, in the
//! manner of TigerBeetle's `tidy`, keep siblings strangers.

#![allow(clippy::unwrap_used, reason = "a file that cannot be read is a failure")]

use std::fs;
use std::path::{Path, PathBuf};

/// The floors of `src/`, ground floor first. A module may use floors below its own.
const FLOORS: &[&[&str]] = &[
    &["domain"],
    &[
        "cluster",
        "config_sync",
        "exchange",
        "ledger",
        "pipeline",
        "records",
        "stream",
        "supervision",
        "tuner",
    ],
    &["alerts", "backtest", "compare"],
    &["optimise"],
    &["config"],
];

/// What every actor is built with, and what none of them is.
const KIT: &[&str] = &["backtest", "kit", "source"];

/// The modules that may name actors, because joining them, or asking them at the end, is their
/// purpose. Not one of them is an actor.
const JOINERS: &[&str] =
    &["node", "cluster_node", "run", "outcome", "program", "share", "local_cluster", "compare"];

/// The services of a cluster, and who may hold a handle on them; tools name the questions they ask.
const SERVICES: (&[&str], &[&str]) = (
    &["cluster", "config_sync", "ledger", "locks", "parameters"],
    &[
        "allocator",
        "command_line",
        "config_sync",
        "ctl",
        "exchange_broker",
        "locks",
        "optimise",
        "parameters",
        "switchboard",
        "tuner",
    ],
);

/// What the simulated exchange may name beside itself; of some paths these names alone. It judges the order protocol:
/// by the rules of the judged it would find nothing.
const JUDGE: &[(&str, &[&str])] = &[
    ("crate::domain::decimal", &[]),
    ("crate::exchange", &[]),
    ("crate::kit", &["Clock", "monotonic_nanos"]),
    ("crate::source", &[]),
    ("tickwright_core::config", &["Speed"]),
    ("tickwright_core::domain", &["Instruments", "RawTick", "SourceId", "SymbolId", "has"]),
    ("tickwright_core::exchange", &[]),
    ("tickwright_core::pipeline::ingest", &["Ingester", "IngesterConfig", "Pace"]),
];

#[test]
fn cores_only_look_down() {
    let floor_of = |module: &str| {
        let floor = FLOORS.iter().position(|floor| floor.contains(&module));
        floor.unwrap_or_else(|| panic!("`{module}` is on no floor"))
    };
    let violations = violations("src", |own, used| floor_of(used) < floor_of(own));
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn actors_know_the_kit_and_not_each_other() {
    // It plays the ingester's part for a venue that cannot be read again, so it has the same mailbox.
    let is_twin = |own: &str, used: &str| own == "live_ingester" && used == "ingester";
    let violations = violations("actors", |own, used| {
        let is_client = SERVICES.0.contains(&used) && SERVICES.1.contains(&own);
        KIT.contains(&used) || JOINERS.contains(&own) || is_client || is_twin(own, used)
    });
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// Cores of one floor do not know each other either: below `pipeline` and `stream` each folder or file
/// is a core of its own.
#[test]
fn cores_of_the_pipeline_do_not_know_each_other() {
    let files = rust_files(Path::new("src/pipeline"));
    let module = |path: &Path| -> Vec<String> {
        let inner = path.strip_prefix("src/pipeline").unwrap().with_extension("");
        let names = inner.iter().map(|name| name.to_str().unwrap().to_owned());
        names.filter(|name| name != "mod").collect()
    };
    let cores: Vec<String> =
        files.iter().filter_map(|path| module(path).into_iter().next()).collect();
    let mut violations = Vec::new();
    for path in &files {
        // The folder itself only lists them.
        let module = module(path);
        let Some(own) = module.first() else { continue };
        for (at, line) in fs::read_to_string(path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let by_path = code.match_indices("pipeline::").any(|(found, _)| {
                let rest = &code[found + "pipeline::".len()..];
                rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next() != Some(own)
            });
            let is_other = |used: &&str| used != own && cores.iter().any(|core| core == used);
            if by_path || named(module.len(), code).iter().any(is_other) {
                violations.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn the_exchange_shares_no_code_with_the_order_protocol() {
    let mut violations = Vec::new();
    for path in ["src/exchange", "actors/exchange"].iter().flat_map(|it| rust_files(Path::new(it)))
    {
        let inner = path.with_extension("");
        // Below `src` or `actors`.
        let depth = inner.iter().skip(1).filter(|name| *name != "mod").count();
        for (at, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !may_judge_name(depth, code) {
                violations.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn every_way_to_name_what_a_judge_may_not_is_seen() {
    for code in [
        "use tickwright_core::exchange::{Entry, Judge};",
        "let symbol = tickwright_core::domain::SymbolId(row.symbol);",
        "use tickwright_core::domain::{RawTick, has};",
        "use super::Engine;",
    ] {
        assert!(may_judge_name(2, code), "{code}");
    }
    for code in [
        "use tickwright_core::pipeline::orders::Orders;",
        "use tickwright_core::domain::{has, ClientOrderId};",
        "use tickwright_core::domain::ClientOrderId;",
        "use tickwright_core::domain::{",
        "use tickwright_core::{domain, exchange};",
        "fn f(slots: &tickwright_core::ledger::Slots)",
        "use crate::exchange_broker::Client;",
        "use crate::domain::SlotKey;",
        "use super::super::ledger::Ledger;",
    ] {
        assert!(!may_judge_name(2, code), "{code}");
    }
}

#[test]
fn every_way_to_name_a_sibling_is_seen() {
    let root = "cluster";
    assert_eq!(named(1, "use crate::cluster::Join;"), [root]);
    assert_eq!(named(1, "use super::cluster;"), [root]);
    assert_eq!(named(2, "use super::super::cluster::Join;"), [root]);
    assert_eq!(named(2, "fn f(j: &crate::cluster::Join)"), [root]);
    assert_eq!(named(2, "use super::cluster;"), [""; 0], "its own submodule");
    assert_eq!(named(1, "use crate::{cluster, domain};"), ["{"], "too hard to read: refused");
}

/// Every use, in a module of `folder`, of another top-level module that `allowed(own, used)` denies.
fn violations(folder: &str, allowed: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let files = rust_files(Path::new(folder));
    let module = |path: &Path| -> Vec<String> {
        let inner = path.strip_prefix(folder).unwrap().with_extension("");
        let names = inner.iter().map(|name| name.to_str().unwrap().to_owned());
        names.filter(|name| name != "mod").collect()
    };
    let tops: Vec<String> = files.iter().map(|path| module(path).swap_remove(0)).collect();

    let mut violations = Vec::new();
    for path in &files {
        let module = module(path);
        let own = module[0].as_str();
        if ["lib", "main"].contains(&own) {
            continue;
        }
        for (at, line) in fs::read_to_string(path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for used in named(module.len(), code) {
                let known = used == "{" || tops.iter().any(|top| top == used);
                if known && used != own && (used == "{" || !allowed(own, used)) {
                    violations.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
                }
            }
        }
    }
    violations
}

/// Whether `code`, in a module of the exchange `depth` levels below the root, names nothing but what that may.
fn may_judge_name(depth: usize, code: &str) -> bool {
    let up = "super::".repeat(depth);
    for root in ["crate::", "tickwright_core::", up.as_str()] {
        for (at, _) in code.match_indices(root) {
            let used = &code[at..];
            // Tests in a file have all that it has.
            let is_own = used[root.len()..].starts_with('*');
            if !is_own && !JUDGE.iter().any(|(path, names)| is_of(used, path, names)) {
                return false;
            }
        }
    }
    true
}

/// Whether what is `used` is below `path`, and one of `names`, if there are any.
fn is_of(used: &str, path: &str, names: &[&str]) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let Some(rest) = used.strip_prefix(path) else { return false };
    if names.is_empty() {
        return !rest.starts_with(is_name);
    }
    let Some(rest) = rest.strip_prefix("::") else { return false };
    let listed = match rest.strip_prefix('{') {
        Some(group) => group.split('}').next().unwrap_or_default(),
        None => rest.split(|c: char| !is_name(c)).next().unwrap_or_default(),
    };
    listed.split(',').all(|name| names.contains(&name.trim()))
}

/// The top-level names that `code`, in a module `depth` levels below the root, reaches through
/// `crate::` or `super::`. A group in braces is given as `{`.
fn named(depth: usize, code: &str) -> Vec<&str> {
    let up = "super::".repeat(depth);
    let mut names = Vec::new();
    for root in ["crate::", up.as_str()] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let name = if rest.starts_with('{') { "{" } else { &rest[..end] };
            names.extend((!name.is_empty()).then_some(name));
        }
    }
    names
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
