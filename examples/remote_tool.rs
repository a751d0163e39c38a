//! A program of its own that joins a cluster by its seeds, as a node that has no part in the work, and
//! asks risk what it has let through:
//!
//! ```text
//! cargo run --example remote_tool -- examples/cluster-three/calc-1.toml
//! ```

use std::time::Duration;

use tickwright::cluster::ClusterServices;
use tickwright_core::config::{Config, ConfigInput};

const PATIENCE: Duration = Duration::from_secs(10);

/// Joins the cluster that `text` configures, asks `role`, and leaves.
pub async fn ask(text: &str, role: &str, question: &str) -> anyhow::Result<String> {
    // The file of any node will do, under a name and at a port of one's own.
    let own = [("node.name", "remote-tool"), ("cluster.bind", "127.0.0.1:0")];
    let overrides = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let file = Some(("the configuration", text));
    let input = ConfigInput { file, overrides: &overrides, ..ConfigInput::default() };
    let config = Config::load(&input)?;
    let directory = std::env::temp_dir().join(format!("remote-tool-{}", std::process::id()));
    let cluster = ClusterServices::observe(&config, &directory, PATIENCE).await?;
    let answer = cluster.ask(role, question, PATIENCE).await;
    cluster.leave().await;
    std::fs::remove_dir_all(&directory)?;
    Ok(answer?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Some(file) = std::env::args().nth(1) else {
        anyhow::bail!("name the configuration of a node");
    };
    println!("{}", ask(&std::fs::read_to_string(file)?, "risk", "\"Report\"").await?);
    Ok(())
}
