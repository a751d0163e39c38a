//! Whether nodes of these names can begin in a directory.

use std::collections::BTreeSet;
use std::path::Path;

use tickwright_core::domain::NodeId;

use super::LocalClusterError;
use crate::cluster::remembered;

/// That no node remembers so many others, from another layout, that it would wait for them and found nothing.
pub(super) fn check(directory: &Path, names: &[String]) -> Result<(), LocalClusterError> {
    let is_here = |node: &&NodeId| names.contains(&node.0);
    let mut missing = BTreeSet::new();
    for name in names {
        let others = remembered(&directory.join(name));
        let here = others.iter().filter(is_here).count();
        // It waits for more than half of them.
        if !others.is_empty() && here * 2 <= others.len() {
            missing.extend(others.into_iter().filter(|node| !names.contains(&node.0)));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(LocalClusterError::OtherNodes {
        directory: directory.to_owned(),
        nodes: missing.into_iter().map(|node| node.0).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_other_nodes_is_refused_and_one_of_these_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let remember = |name: &str, others: &[&str]| {
            let of = directory.path().join(name).join("cluster");
            std::fs::create_dir_all(&of).unwrap();
            let members: Vec<String> =
                others.iter().map(|node| format!("\"{node}\": \"127.0.0.1:1\"")).collect();
            let text = format!(
                "{{\"cluster\": \"c\", \"incarnation\": 1, \"members\": {{{}}}}}",
                members.join(", ")
            );
            std::fs::write(of.join("known.json"), text).unwrap();
        };
        let names = ["a", "b", "c"].map(str::to_owned);
        assert!(check(directory.path(), &names).is_ok());
        remember("a", &["b", "c", "watcher"]);
        remember("b", &["a", "c"]);
        remember("c", &[]);
        assert!(check(directory.path(), &names).is_ok());
        remember("b", &["a", "d", "e"]);
        let error = check(directory.path(), &names).unwrap_err().to_string();
        assert!(
            error.contains("other nodes too (d, e)") && error.contains("--data-dir"),
            "{error}"
        );
    }
}
