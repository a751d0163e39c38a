//! What the protocol asks of the ledger and of the exchange, each in a task of its own.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use tickwright_core::domain::{
    AccountId, Instrument, Order, OrderId, Side, SlotCommand, Symbol, Timestamp, VenueAccount,
    decimal,
};
use tickwright_core::ledger::{Operation, Outcome, Refusal};
use tickwright_core::pipeline::orders::{Found, OrdersEffect, RefusalFound, Request, SlotsFound};

use super::{Back, Desk, ExchangeBrokerMessage, ExchangeBrokerState, answers};
use crate::ledger::LedgerClient;

/// How many orders or trades are asked for at once.
const PAGE: usize = 500;

/// How long most voters may take to answer a read.
const READ_PATIENCE: Duration = Duration::from_secs(2);

impl ExchangeBrokerState {
    /// Begins what an effect of an account asks for; what comes of it comes back as a message.
    pub(super) fn ask(&self, account: AccountId, effect: OrdersEffect) {
        let Some(desk) = self.desks.get(&account) else { return };
        let client = Arc::clone(&desk.client);
        let ledger = self.arguments.ledger.clone();
        let patience = self.arguments.address.patience;
        match effect {
            OrdersEffect::Commit(commands) => {
                let (locks, reducing) = (self.arguments.locks.clone(), self.reducing(account));
                self.spawn(account, async move {
                    let commit = |commands| commit(ledger, commands);
                    match locks {
                        Some(locks) => locks.around(commands, reducing, commit).await,
                        None => commit(commands).await,
                    }
                });
            }
            OrdersEffect::ReadSlots => {
                let venue = desk.config.venue.clone();
                self.spawn(account, async move {
                    let slots = ledger.read(READ_PATIENCE, |ledger| {
                        let slots = ledger.slots();
                        let open = slots.open_of(&venue);
                        SlotsFound {
                            cluster: slots.cluster(),
                            is_reconciled: slots.venue(&venue).is_reconciled,
                            open: open.map(|(key, slot)| (key.clone(), slot.clone())).collect(),
                        }
                    });
                    Back::Slots(slots.await.ok())
                });
            }
            OrdersEffect::ReadRefusal(signal) => {
                let exchange = self.arguments.other.clone().unwrap_or_default();
                let venue = VenueAccount { exchange, ..desk.config.venue.clone() };
                let of = signal.clone();
                self.spawn(account, async move {
                    // A node's own view may lack what was agreed on by way of another.
                    let found = ledger.read(READ_PATIENCE, |ledger| RefusalFound {
                        by: ledger.slots().refused(&venue, &of),
                    });
                    Back::Refusal(signal, found.await.ok())
                });
            }
            OrdersEffect::Send(request) => {
                let Some(instrument) = self.instrument(&request.symbol) else { return };
                let query = query_of(&request, &instrument);
                let (client_id, attempt) = (request.client_id, request.attempt);
                self.spawn(account, async move {
                    let path = "/api/v3/order";
                    let result = client.signed(Method::POST, path, &query, patience).await;
                    Back::Answer(client_id, attempt, answers::answer(&result, &instrument))
                });
            }
            OrdersEffect::Query { client_id, symbol } => {
                let Some(instrument) = self.instrument(&symbol) else {
                    return self.later(account, Back::Found(client_id, Found::Failed));
                };
                let query = format!("origClientOrderId={client_id}");
                let query = self.stamped(desk, &instrument, &query);
                self.spawn(account, async move {
                    let path = "/api/v3/order";
                    let result = client.signed(Method::GET, path, &query, patience).await;
                    Back::Found(client_id, answers::found(&result, &instrument))
                });
            }
            OrdersEffect::Cancel { client_id, symbol } => {
                let Some(instrument) = self.instrument(&symbol) else {
                    return self.later(account, Back::Cancelled(client_id, Found::Failed));
                };
                let query = format!("origClientOrderId={client_id}");
                let query = self.stamped(desk, &instrument, &query);
                self.spawn(account, async move {
                    let path = "/api/v3/order";
                    let result = client.signed(Method::DELETE, path, &query, patience).await;
                    Back::Cancelled(client_id, answers::cancelled(&result, &instrument))
                });
            }
            OrdersEffect::AskTime => {
                let asked = self.now();
                self.spawn(account, async move {
                    let told = answers::time(&client.open("/api/v3/time", patience).await);
                    let told =
                        told.map(|told| Timestamp::from_nanos(told.saturating_mul(1_000_000)));
                    Back::Time(asked, told)
                });
            }
            OrdersEffect::Trades { symbol, after } => {
                let Some(instrument) = self.instrument(&symbol) else {
                    return self.later(account, Back::Trades(symbol, None));
                };
                let query = format!("fromId={}&limit={PAGE}", after + 1);
                let query = self.stamped(desk, &instrument, &query);
                self.spawn(account, async move {
                    let path = "/api/v3/myTrades";
                    let result = client.signed(Method::GET, path, &query, patience).await;
                    let trades = answers::trades(&result, &instrument);
                    let trades = trades.map(|trades| (trades.len() < PAGE, trades));
                    Back::Trades(symbol, trades.map(|(is_last, trades)| (trades, is_last)))
                });
            }
            OrdersEffect::TradesOf { client_id, symbol, order, after } => {
                let Some(instrument) = self.instrument(&symbol) else {
                    return self.later(account, Back::TradesOf(client_id, None));
                };
                let query = format!("orderId={order}&fromId={}&limit={PAGE}", after + 1);
                let query = self.stamped(desk, &instrument, &query);
                self.spawn(account, async move {
                    let path = "/api/v3/myTrades";
                    let result = client.signed(Method::GET, path, &query, patience).await;
                    let trades = answers::trades(&result, &instrument);
                    let trades = trades.map(|trades| (trades.len() < PAGE, trades));
                    Back::TradesOf(client_id, trades.map(|(is_last, trades)| (trades, is_last)))
                });
            }
            OrdersEffect::History { symbol, after } => {
                let Some(instrument) = self.instrument(&symbol) else {
                    return self.later(account, Back::History(symbol, None));
                };
                let query = format!("orderId={}&limit={PAGE}", after + 1);
                let query = self.stamped(desk, &instrument, &query);
                self.spawn(account, async move {
                    let path = "/api/v3/allOrders";
                    let result = client.signed(Method::GET, path, &query, patience).await;
                    let orders = answers::orders(&result, &instrument);
                    let orders = orders.map(|orders| (orders.len() < PAGE, orders));
                    Back::History(symbol, orders.map(|(is_last, orders)| (orders, is_last)))
                });
            }
            OrdersEffect::Session(session) => {
                let stamp = self.stamp(desk);
                self.spawn(account, async move {
                    client.set_session(session);
                    let path = "/exchange/session";
                    let result = client.signed(Method::POST, path, &stamp, patience).await;
                    Back::Session(result.is_ok_and(|response| response.status == 200))
                });
            }
            OrdersEffect::Tell(..)
            | OrdersEffect::Stray(_)
            | OrdersEffect::Rebuilt(..)
            | OrdersEffect::Adopt(_)
            | OrdersEffect::Alarm(_) => {}
        }
    }

    /// Orders of an account that bring a position nearer to zero, as risk had it when it let them pass.
    fn reducing(&self, account: AccountId) -> BTreeSet<OrderId> {
        reducing(self.orders.values(), account)
    }

    pub(super) fn spawn(
        &self,
        account: AccountId,
        work: impl Future<Output = Back> + Send + 'static,
    ) {
        let (myself, life) = (self.myself.clone(), self.life);
        tokio::spawn(async move {
            let back = Box::new(work.await);
            // Whoever asked may have ended.
            let _ = myself.cast(ExchangeBrokerMessage::Back(life, account, back));
        });
    }

    /// What is asked of a symbol that is not listed yet, as of an order that was found under way, has no
    /// answer for now.
    fn later(&self, account: AccountId, back: Back) {
        let Some(pause) = self.desks.get(&account).map(|desk| desk.config.poll) else { return };
        self.spawn(account, async move {
            tokio::time::sleep(pause).await;
            back
        });
    }

    fn instrument(&self, symbol: &Symbol) -> Option<Arc<Instrument>> {
        self.by_symbol.get(symbol).map(|(_, instrument)| Arc::clone(instrument))
    }

    fn stamped(&self, desk: &Desk, instrument: &Instrument, query: &str) -> String {
        format!("symbol={}&{query}&{}", answers::name_of(instrument), self.stamp(desk))
    }

    /// Of a question, which may be answered late.
    pub(super) fn stamp(&self, desk: &Desk) -> String {
        let now = desk.core.exchange_now(self.now()).as_nanos() / 1_000_000;
        format!("timestamp={now}&recvWindow=10000")
    }
}

fn reducing<'o>(orders: impl Iterator<Item = &'o Order>, account: AccountId) -> BTreeSet<OrderId> {
    let of = orders.filter(|order| order.account == account && order.reduces);
    of.map(|order| order.id).collect()
}

async fn commit(ledger: LedgerClient, commands: Vec<SlotCommand>) -> Back {
    match ledger.submit_until_answered(Operation::Slots(commands)).await {
        Ok(Outcome::Slots(results)) => Back::Committed(results),
        Ok(_) => Back::Confused("the ledger gave a confused answer".into()),
        Err(refusal @ Refusal::TooOld) => Back::Confused(refusal.to_string()),
        Err(refusal) => Back::Confused(format!("the ledger refuses: {refusal}")),
    }
}

/// The request, to the letter.
fn query_of(request: &Request, instrument: &Instrument) -> String {
    let side = match request.side {
        Side::Buy => "BUY",
        Side::Sell => "SELL",
    };
    let lasts = if request.is_resting { "GTC" } else { "IOC" };
    let quantity = decimal::format(request.quantity.0.into(), instrument.quantity_decimals);
    let price = decimal::format(request.limit_price.0.into(), instrument.price_decimals);
    format!(
        "symbol={}&side={side}&type=LIMIT&timeInForce={lasts}&quantity={quantity}&price={price}\
         &newClientOrderId={}&newOrderRespType=RESULT&timestamp={}&recvWindow={}",
        answers::name_of(instrument),
        request.client_id,
        request.made.as_nanos() / 1_000_000,
        request.window.as_millis(),
    )
}

#[cfg(test)]
mod tests {
    use tickwright_core::domain::{InstrumentIndex, Key, Price, Quantity, StrategyId};

    use super::*;

    #[test]
    fn an_order_that_can_only_reduce_does_without_locks_though_nobody_asked_for_that() {
        let order = |number, account, reduces| Order {
            id: OrderId { key: Key::of(number, 0, number), ordinal: 0 },
            strategy: StrategyId(0),
            account: AccountId(account),
            instrument: InstrumentIndex(0),
            side: Side::Sell,
            quantity: Quantity(1),
            limit_price: Price(1),
            reduce_only: false,
            reduces,
        };
        let orders = [order(1, 0, true), order(2, 0, false), order(3, 1, true)];
        let reducing = reducing(orders.iter(), AccountId(0));
        assert_eq!(reducing, BTreeSet::from([orders[0].id]));
    }
}
