//! What an operator has looked at and done: reconciling the account, releasing an order.

use std::sync::Arc;
use std::time::Duration;

use ractor::RpcReplyPort;
use serde_json::{Value, json};
use tickwright_core::domain::{
    BrokerEvent, BrokerEventKind, ClientOrderId, Fill, Key, Money, OrderId, Price, Quantity, Side,
    Symbol, Timestamp, decimal,
};
use tokio::time::Instant;

use super::ExchangeBrokerState;

/// How long a reconciliation may take before what is known by then is shown.
pub const RECONCILE_PATIENCE: Duration = Duration::from_secs(20);

/// Somebody waits for the account to be looked through.
#[derive(Debug)]
pub(super) struct Reconciling {
    until: Instant,
    adopts: bool,
    reply: RpcReplyPort<Result<Value, String>>,
}

impl ExchangeBrokerState {
    pub(super) fn reconcile(&mut self, adopts: bool, reply: RpcReplyPort<Result<Value, String>>) {
        if self.reconciling.is_some() {
            // A caller that stopped waiting is its own affair, here and below.
            let _ = reply.send(Err("the account is being reconciled already".into()));
            return;
        }
        let until = Instant::now() + RECONCILE_PATIENCE;
        self.reconciling = Some(Reconciling { until, adopts, reply });
        let symbols = self.by_symbol.keys().cloned().collect();
        let effects = self.core.reconcile_again(symbols, self.now());
        self.act(effects);
    }

    /// Answers once everything is known, or has taken too long.
    pub(super) fn consider_reconciled(&mut self) {
        let is_complete = self.core.is_reconciled();
        let is_due = |waiting: &mut Reconciling| is_complete || Instant::now() >= waiting.until;
        let Some(Reconciling { adopts, reply, .. }) = self.reconciling.take_if(is_due) else {
            return;
        };
        let symbols: Vec<Symbol> = self.core.traded().map(|(symbol, _)| symbol.clone()).collect();
        let adopted = symbols.iter().filter(|_| adopts && is_complete);
        let adopted: Vec<&Symbol> = adopted.filter(|symbol| self.adopt(symbol)).collect();
        let amount = |symbol: &Symbol, amount: Quantity| {
            let decimals = self.by_symbol.get(symbol).map_or(0, |(_, of)| of.quantity_decimals);
            decimal::format(amount.0.into(), decimals)
        };
        let orders: Vec<Value> = (self.core.standing().iter())
            .map(|order| {
                json!({
                    "symbol": order.symbol,
                    "client_id": order.client_id,
                    "slot": order.slot,
                    "exchange_order": order.exchange_order,
                    "asked_for": order.is_ours,
                    "executed": amount(&order.symbol, order.executed),
                    "told": amount(&order.symbol, order.told),
                    "doing": order.doing,
                })
            })
            .collect();
        let traded: Vec<Value> = (self.core.traded())
            .map(|(symbol, traded)| {
                json!({
                    "symbol": symbol,
                    "ours": amount(symbol, traded.ours),
                    "others": amount(symbol, traded.others),
                    "adopted": amount(symbol, traded.adopted),
                    "missing": amount(symbol, traded.missing()),
                    "done": if adopted.contains(&symbol) { "taken over" } else { "" },
                })
            })
            .collect();
        let _ = reply.send(Ok(json!({
            "account": self.arguments.orders.venue.to_string(),
            "is_complete": is_complete,
            "counters": self.core.counters(),
            "intent_us": {
                "count": self.core.intents().count(),
                "p50": self.core.intents().quantile(500_000) / 1_000,
                "p99": self.core.intents().quantile(990_000) / 1_000,
            },
            "orders": orders,
            "traded": traded,
        })));
    }

    /// Has exec take over what others' orders have traded of a symbol. Returns whether that is anything.
    fn adopt(&mut self, symbol: &Symbol) -> bool {
        let Some((index, instrument)) = self.by_symbol.get(symbol) else { return false };
        let (index, instrument) = (*index, Arc::clone(instrument));
        let Some((quantity, price)) = self.core.adopt(symbol) else { return false };
        self.adoptions += 1;
        tracing::warn!(
            "the position in {symbol} takes over {} at {}, which others have traded",
            instrument.format_quantity(quantity),
            instrument.format_price(price)
        );
        let fill = self.adopted_fill(index, quantity, price);
        let (due, broker) = (Timestamp::default(), self.arguments.broker);
        let (order, kind) = (fill.order, BrokerEventKind::Filled(fill));
        // If risk has gone, another epoch begins.
        self.arguments.said.send(BrokerEvent { due, order, ordinal: 0, broker, kind }).is_ok()
    }

    /// Of no order. Each has a number of its own, or exec would take the second for the first.
    fn adopted_fill(
        &self,
        instrument: tickwright_core::domain::InstrumentIndex,
        quantity: Quantity,
        price: Price,
    ) -> Fill {
        let ordinal = u32::MAX;
        Fill {
            order: OrderId { key: Key::START, ordinal },
            instrument,
            account: tickwright_core::domain::AccountId(0),
            trade_id: self.adoptions,
            broker: self.arguments.broker,
            side: if quantity.0 < 0 { Side::Sell } else { Side::Buy },
            quantity: Quantity(quantity.0.abs()),
            price,
            fee: Money::ZERO,
        }
    }

    /// A person has looked at the exchange for an order that nobody could find out about.
    pub(super) fn release(&mut self, client_id: &str, is_there: bool) -> Result<Value, String> {
        let name = ClientOrderId::parse(client_id);
        let name = name.ok_or_else(|| format!("{client_id:?} is no name of an order from here"))?;
        let effects = self.core.release(&name, is_there, self.now());
        let effects = effects.ok_or_else(|| {
            format!(
                "no order {client_id} waits for a person; `tickwright ctl reconcile` shows which do"
            )
        })?;
        self.act(effects);
        Ok(json!({ "released": client_id, "is_there": is_there }))
    }
}
