//! The door for whoever runs the exchange: capabilities, faults, the judge, the market by hand.
//!
//! ```text
//! GET    /exchange/capabilities    what the exchange can do (for everybody)
//! POST   /exchange/capabilities    {"dedup":"none"}: what of it changes
//! GET    /exchange/faults          which faults there are, and what they have struck
//! POST   /exchange/faults          a fault, or an array of them; their ids come back
//! DELETE /exchange/faults?id=N     takes one away; all, without an id
//! GET    /exchange/judge           what was accepted
//! POST   /exchange/market          {"symbol","bid","bid_quantity","ask","ask_quantity"}: the market outside
//! ```
//!
//! From this machine only. `POST /exchange/session` is not among them: it is signed by a client.

use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::{Value, json};
use tickwright_core::exchange::{Amount, FaultSpec, Level, Outside};

use super::engine::{Ended, Work};
use super::server::{Reply, Server, nothing_there};

/// A market as it is set by hand.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MarketByHand {
    symbol: String,
    bid: Amount,
    bid_quantity: Amount,
    ask: Amount,
    ask_quantity: Amount,
}

fn wrong(problem: impl std::fmt::Display) -> Reply {
    let body = json!({ "error": problem.to_string() });
    Reply::Answer { status: 400, body, retry_after: None }
}

pub(super) async fn answer(
    server: &Server,
    method: &str,
    path: &str,
    query: &str,
    body: &str,
    from: SocketAddr,
) -> Reply {
    let is_open = (method, path) == ("GET", "/exchange/capabilities");
    if path.starts_with("/exchange/") && !is_open && !from.ip().to_canonical().is_loopback() {
        let body = json!({ "error": "from this machine only" });
        return Reply::Answer { status: 403, body, retry_after: None };
    }
    let answered = match (method, path) {
        ("GET", "/exchange/capabilities") => server
            .engine
            .ask(Work::Capabilities)
            .await
            .map(|capabilities| Reply::ok(json!(capabilities))),
        ("POST", "/exchange/capabilities") => change(server, body).await,
        ("GET", "/exchange/faults") => Ok(Reply::ok(json!(server.shared.faults().active()))),
        ("POST", "/exchange/faults") => Ok(add(server, body)),
        ("DELETE", "/exchange/faults") => Ok(clear(server, query)),
        ("GET", "/exchange/judge") => {
            server.engine.ask(Work::Verdict).await.map(|verdict| Reply::ok(json!(verdict)))
        }
        ("POST", "/exchange/market") => set_market(server, body).await,
        _ => Ok(nothing_there(method, path)),
    };
    answered.unwrap_or(Reply::Drop)
}

async fn change(server: &Server, body: &str) -> Result<Reply, Ended> {
    let changes: Value = match serde_json::from_str(body) {
        Ok(changes) => changes,
        Err(error) => return Ok(wrong(error)),
    };
    let changed = server.engine.ask(|reply| Work::Change(changes, reply)).await?;
    Ok(changed.map_or_else(wrong, |capabilities| Reply::ok(json!(capabilities))))
}

fn add(server: &Server, body: &str) -> Reply {
    let rows: Vec<Value> = match serde_json::from_str(body) {
        Ok(Value::Array(rows)) => rows,
        Ok(row) => vec![row],
        Err(error) => return wrong(error),
    };
    let specs: Result<Vec<FaultSpec>, _> =
        rows.iter().map(|row| FaultSpec::parse(row.to_string().as_bytes())).collect();
    let specs = match specs {
        Ok(specs) => specs,
        Err(error) => return wrong(error),
    };
    let mut faults = server.shared.faults();
    let ids: Result<Vec<u64>, _> = specs.into_iter().map(|spec| faults.add(spec)).collect();
    ids.map_or_else(wrong, |ids| Reply::ok(json!({ "ids": ids })))
}

fn clear(server: &Server, query: &str) -> Reply {
    let id = match query.strip_prefix("id=").map(str::parse) {
        None if query.is_empty() => None,
        Some(Ok(id)) => Some(id),
        None | Some(Err(_)) => return wrong("write id=N, or nothing for all"),
    };
    Reply::ok(json!({ "cleared": server.shared.faults().clear(id) }))
}

async fn set_market(server: &Server, body: &str) -> Result<Reply, Ended> {
    let MarketByHand { symbol, bid, bid_quantity, ask, ask_quantity } =
        match serde_json::from_str(body) {
            Ok(market) => market,
            Err(error) => return Ok(wrong(error)),
        };
    if !server.shared.symbols.contains(&symbol) {
        return Ok(wrong(format!("there is no symbol {symbol}")));
    }
    if bid >= ask && bid_quantity > Amount::ZERO && ask_quantity > Amount::ZERO {
        return Ok(wrong("the bid is below the ask"));
    }
    let (bid, ask) = (
        Level { price: bid, quantity: bid_quantity },
        Level { price: ask, quantity: ask_quantity },
    );
    let outside = Outside::top(bid, ask);
    server.engine.ask(|reply| Work::Market(symbol, outside, Some(reply))).await?;
    Ok(Reply::ok(json!({})))
}
