//! What is open in an account, whoever has placed it and whatever its symbol: for a person to see. Nothing here
//! acts on it.

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tickwright_core::domain::AccountId;

use super::client::{CallError, Response};
use super::{Back, ExchangeBrokerState, answers};

/// At most so many are shown.
const SHOWN_MAX: usize = 500;

/// An order as the exchange tells it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenOrder {
    symbol: String,
    order_id: u64,
    client_order_id: String,
    side: String,
    price: String,
    orig_qty: String,
    executed_qty: String,
}

/// The same as it is shown.
#[derive(Serialize)]
struct Shown<'o> {
    symbol: &'o str,
    exchange_order: u64,
    client_id: &'o str,
    side: &'o str,
    price: &'o str,
    quantity: &'o str,
    executed: &'o str,
}

impl ExchangeBrokerState {
    /// Asks for all that is open in an account.
    pub(super) fn ask_open(&self, account: AccountId) {
        let Some(desk) = self.desks.get(&account) else { return };
        let (client, stamp) = (std::sync::Arc::clone(&desk.client), self.stamp(desk));
        let patience = self.arguments.address.patience;
        self.spawn(account, async move {
            let path = "/api/v3/openOrders";
            Back::Open(open(&client.signed(Method::GET, path, &stamp, patience).await))
        });
    }

    /// Those of them that are not under way here.
    pub(super) fn by_others(&self, account: AccountId, open: &[OpenOrder]) -> Vec<Value> {
        let Some(desk) = self.desks.get(&account) else { return Vec::new() };
        let standing = desk.core.standing();
        let others = open.iter().filter(|order| {
            !standing.iter().any(|ours| {
                ours.client_id == order.client_order_id
                    && ours.exchange_order.is_none_or(|number| number == order.order_id)
            })
        });
        let shown = others.take(SHOWN_MAX).map(|order| Shown {
            symbol: &order.symbol,
            exchange_order: order.order_id,
            client_id: &order.client_order_id,
            side: &order.side,
            price: &order.price,
            quantity: &order.orig_qty,
            executed: &order.executed_qty,
        });
        shown.filter_map(|order| serde_json::to_value(order).ok()).collect()
    }
}

fn open(result: &Result<Response, CallError>) -> Result<Vec<OpenOrder>, String> {
    match result {
        Ok(response) if response.status == 200 => serde_json::from_slice(&response.body)
            .map_err(|error| format!("what is open cannot be read: {error}")),
        Ok(response) => Err(match answers::problem(response) {
            Some((code, text)) => format!("what is open was not told: {code} {text}"),
            None => format!("what is open was not told: status {}", response.status),
        }),
        Err(error) => Err(format!("what is open was not told: {error}")),
    }
}
