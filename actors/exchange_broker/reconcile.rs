//! What an operator has looked at and done: reconciling the account, releasing an order.

use std::collections::BTreeSet;
use std::time::Duration;

use ractor::RpcReplyPort;
use serde_json::{Value, json};
use tickwright_core::domain::{
    AccountId, BrokerEvent, BrokerEventKind, ClientOrderId, Fill, Key, Money, OrderId, Quantity,
    Side, SourceId, Symbol, Timestamp, decimal,
};
use tickwright_core::pipeline::orders::{Adoption, RecoveredOrder};
use tokio::time::Instant;

use super::open::OpenOrder;
use super::{Desk, ExchangeBrokerState};

/// How long a reconciliation may take before what is known by then is shown.
pub const RECONCILE_PATIENCE: Duration = Duration::from_secs(20);

/// How long exec may take, after that, to take over what positions lack.
pub const ADOPT_PATIENCE: Duration = Duration::from_secs(5);

/// What stands for an order that is none: exec takes a fill of it as it takes any other, once, and knows it by its
/// order, for trades get numbers of exec's own.
///
/// Each account numbers its own, so the account is part of it.
const fn adopted(account: AccountId, number: u64) -> OrderId {
    let key = Key { source: SourceId(account.0), sequence: number, ..Key::START };
    OrderId { key, ordinal: u32::MAX }
}

/// The account and number of the adoption that an order stands for.
fn adoption_of(order: OrderId) -> Option<(AccountId, u64)> {
    let (account, number) = (AccountId(order.key.source.0), order.key.sequence);
    (order == adopted(account, number)).then_some((account, number))
}

/// Somebody waits for the account to be looked through.
#[derive(Debug)]
pub(super) struct Reconciling {
    until: Instant,
    adopting: Adopting,
    /// All that is open there, or why that is not known; none, while it is being asked for.
    open: Option<Result<Vec<OpenOrder>, String>>,
    reply: RpcReplyPort<Result<Value, String>>,
}

/// What positions take over.
#[derive(Debug)]
enum Adopting {
    /// Nothing.
    Unwanted,
    /// What is missing, once the account is known.
    Wanted,
    /// These: exec was told, and has taken those that do not wait any more.
    Told { all: Vec<Adoption>, waiting: BTreeSet<u64> },
}

impl ExchangeBrokerState {
    pub(super) fn reconcile(
        &mut self,
        account: AccountId,
        adopts: bool,
        reply: RpcReplyPort<Result<Value, String>>,
    ) {
        // A caller that stopped waiting is its own affair, here and below.
        let Some(desk) = self.desks.get_mut(&account) else {
            let _ = reply.send(Err("the keys of the account are not here".into()));
            return;
        };
        if desk.reconciling.is_some() {
            let _ = reply.send(Err("the account is being reconciled already".into()));
            return;
        }
        let until = Instant::now() + RECONCILE_PATIENCE;
        let adopting = if adopts { Adopting::Wanted } else { Adopting::Unwanted };
        desk.reconciling = Some(Reconciling { until, adopting, open: None, reply });
        self.ask_open(account);
        let symbols = self.by_symbol.keys().cloned().collect();
        self.with(account, |core, now| core.reconcile_again(symbols, now));
    }

    pub(super) fn on_open(&mut self, account: AccountId, open: Result<Vec<OpenOrder>, String>) {
        let desk = self.desks.get_mut(&account);
        if let Some(waiting) = desk.and_then(|desk| desk.reconciling.as_mut()) {
            waiting.open = Some(open);
        }
    }

    /// Answers once everything is known, and taken over if that is wanted; or when it has taken too long.
    pub(super) fn consider_reconciled(&mut self) {
        let waiting = self.desks.iter().filter(|(_, desk)| desk.reconciling.is_some());
        let waiting: Vec<AccountId> = waiting.map(|(account, _)| *account).collect();
        waiting.into_iter().for_each(|account| self.consider_reconciled_of(account));
    }

    fn consider_reconciled_of(&mut self, account: AccountId) {
        let Some(desk) = self.desks.get_mut(&account) else { return };
        let Some(mut waiting) = desk.reconciling.take() else { return };
        // What exec does again after a restart has adoptions of an earlier life among it, whose numbers are used.
        let is_complete = desk.core.is_reconciled();
        if is_complete && self.is_settled && matches!(waiting.adopting, Adopting::Wanted) {
            waiting.adopting = self.begin_adopting(account);
            waiting.until = Instant::now() + ADOPT_PATIENCE;
        }
        let is_late = Instant::now() >= waiting.until;
        let answer = match &waiting.adopting {
            Adopting::Unwanted if (is_complete && waiting.open.is_some()) || is_late => {
                Ok(self.reconciled(account, (is_complete, &waiting.open), &[]))
            }
            Adopting::Wanted if is_late && is_complete => Err(format!(
                "nothing is taken over: exec is not done within {RECONCILE_PATIENCE:?} with what it did before \
                 it started anew; ask again later"
            )),
            Adopting::Wanted if is_late => {
                let trouble = self.desks.get(&account).and_then(|desk| desk.client.trouble());
                let trouble = trouble.map_or_else(String::new, |text| format!(" ({text})"));
                Err(format!(
                    "nothing is taken over: what the account has done was not known within \
                     {RECONCILE_PATIENCE:?}{trouble}; `tickwright ctl reconcile` shows what is"
                ))
            }
            Adopting::Told { all, waiting: lacking } if lacking.is_empty() => {
                Ok(self.reconciled(account, (is_complete, &waiting.open), all))
            }
            Adopting::Told { all, waiting: lacking } if is_late => {
                let lacking = all.iter().filter(|each| lacking.contains(&each.number));
                let symbols: Vec<&str> = lacking.map(|each| each.symbol.as_str()).collect();
                Err(format!(
                    "exec was told to take over what others have traded of {}, and has not done so within \
                     {ADOPT_PATIENCE:?}: it does once it goes on; `tickwright ctl reconcile` shows whether it \
                     has, and to ask again takes nothing over twice",
                    symbols.join(", ")
                ))
            }
            Adopting::Unwanted | Adopting::Wanted | Adopting::Told { .. } => {
                if let Some(desk) = self.desks.get_mut(&account) {
                    desk.reconciling = Some(waiting);
                }
                return;
            }
        };
        let _ = waiting.reply.send(answer);
    }

    /// Tells exec what to take over: what positions lack of each symbol.
    fn begin_adopting(&mut self, account: AccountId) -> Adopting {
        let Some(desk) = self.desks.get_mut(&account) else { return Adopting::Unwanted };
        let symbols: Vec<Symbol> = desk.core.traded().map(|(symbol, _)| symbol.clone()).collect();
        let listed = symbols.iter().filter(|symbol| self.by_symbol.contains_key(symbol));
        let all: Vec<Adoption> = listed.filter_map(|symbol| desk.core.adopt(symbol)).collect();
        all.iter().for_each(|adoption| self.tell_adoption(account, adoption));
        let waiting = all.iter().map(|adoption| adoption.number).collect();
        Adopting::Told { all, waiting }
    }

    /// Exec goes back to its checkpoint: whether it has taken what it was told is not known any more.
    pub(super) fn give_up_adopting(&mut self) {
        let is_told = |it: &mut Reconciling| matches!(it.adopting, Adopting::Told { .. });
        let told = self.desks.values_mut().filter_map(|desk| desk.reconciling.take_if(is_told));
        for Reconciling { reply, .. } in told {
            let _ = reply.send(Err(
                "exec has started anew while it was to take over what others have traded; \
                 `tickwright ctl reconcile` shows whether it has, and to ask again takes nothing over twice"
                    .into(),
            ));
        }
    }

    /// Tells exec what to take over. It knows by the number whether it has done so before.
    pub(super) fn tell_adoption(&self, account: AccountId, adoption: &Adoption) {
        let Adoption { number, symbol, quantity, price, .. } = adoption;
        let Some((index, instrument)) = self.by_symbol.get(symbol) else { return };
        tracing::warn!(
            "the position in {symbol} takes over {} at {}, which others have traded",
            instrument.format_quantity(*quantity),
            instrument.format_price(*price)
        );
        let (broker, order) = (self.arguments.broker, adopted(account, *number));
        let kind = BrokerEventKind::Filled(Fill {
            order,
            instrument: *index,
            account,
            trade_id: *number,
            broker,
            side: if quantity.0 < 0 { Side::Sell } else { Side::Buy },
            quantity: Quantity(quantity.0.abs()),
            price: *price,
            fee: Money::ZERO,
            fee_elsewhere: None,
        });
        let event = BrokerEvent { due: Timestamp::default(), order, ordinal: 0, broker, kind };
        // If risk has gone, another epoch begins.
        let _ = self.arguments.said.send(event);
    }

    /// Exec has taken an event. Returns whether that was an adoption.
    pub(super) fn on_adopted(&mut self, event: &BrokerEvent) -> bool {
        let BrokerEventKind::Filled(fill) = &event.kind else { return false };
        let Some((account, number)) = adoption_of(event.order) else { return false };
        let Some(desk) = self.desks.get_mut(&account) else { return true };
        if let Some(instrument) = self.instruments.get(&fill.instrument) {
            let symbol = instrument.symbol.clone();
            desk.core.on_adopted(number, &symbol, fill.side.signed(fill.quantity));
        }
        if let Some(Reconciling { adopting: Adopting::Told { waiting, .. }, .. }) =
            &mut desk.reconciling
        {
            waiting.remove(&number);
        }
        true
    }

    /// Says what was found of orders that were begun before, and what was done about each, as that becomes known.
    pub(super) fn tell_recovered(&mut self) {
        for Desk { config, core, .. } in self.desks.values_mut() {
            for order in core.recovered_news() {
                let RecoveredOrder { symbol, client_id, found, done, executed, .. } = &order;
                let decimals = self.by_symbol.get(symbol).map_or(0, |(_, of)| of.quantity_decimals);
                tracing::info!(
                    "{}: order {client_id} in {symbol}, found {found}, was {done}: {}, {} executed",
                    config.venue,
                    order.outcome(),
                    decimal::format(executed.0.into(), decimals)
                );
            }
        }
    }

    /// What is known of the account, and what was taken over.
    fn reconciled(
        &self,
        account: AccountId,
        (is_complete, open): (bool, &Option<Result<Vec<OpenOrder>, String>>),
        adopted: &[Adoption],
    ) -> Value {
        let Some(Desk { config, client, core, .. }) = self.desks.get(&account) else {
            return Value::Null;
        };
        let amount = |symbol: &Symbol, amount: Quantity| {
            let decimals = self.by_symbol.get(symbol).map_or(0, |(_, of)| of.quantity_decimals);
            decimal::format(amount.0.into(), decimals)
        };
        let done = |symbol: &Symbol| {
            let adoption = adopted.iter().find(|adoption| adoption.symbol == *symbol);
            let instrument = self.by_symbol.get(symbol).map(|(_, instrument)| instrument);
            let (adoption, instrument) = adoption.zip(instrument)?;
            let quantity = instrument.format_quantity(adoption.quantity);
            let price = instrument.format_price(adoption.price);
            Some(match adoption.is_average {
                true => format!("{quantity} taken over at {price}, what those trades came to"),
                false => format!(
                    "{quantity} taken over at {price}, the last price: what those trades came to is not known"
                ),
            })
        };
        let orders: Vec<Value> = (core.standing().iter())
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
        let traded: Vec<Value> = core
            .traded()
            .map(|(symbol, traded)| {
                json!({
                    "symbol": symbol,
                    "ours": amount(symbol, traded.ours),
                    "others": amount(symbol, traded.others),
                    "adopted": amount(symbol, traded.adopted),
                    "missing": amount(symbol, traded.missing()),
                    "done": done(symbol),
                })
            })
            .collect();
        let recovered: Vec<Value> = core
            .recovered()
            .map(|order| {
                json!({
                    "symbol": order.symbol,
                    "client_id": order.client_id,
                    "exchange_order": order.exchange_order,
                    "found": order.found.to_string(),
                    "done": order.done.to_string(),
                    "executed": amount(&order.symbol, order.executed),
                    "outcome": order.outcome(),
                })
            })
            .collect();
        let (by_others, unknown) = match open {
            Some(Ok(open)) => (self.by_others(account, open), None),
            Some(Err(reason)) => (Vec::new(), Some(reason.as_str())),
            None => (Vec::new(), Some("what is open was not told in time")),
        };
        json!({
            "account": config.venue.to_string(),
            "guarantee": config.capabilities.resolution().to_string(),
            "is_complete": is_complete,
            "trouble": client.trouble(),
            "counters": core.counters(),
            "intent_us": {
                "count": core.intents().count(),
                "p50": core.intents().quantile(500_000) / 1_000,
                "p99": core.intents().quantile(990_000) / 1_000,
            },
            "orders": orders,
            "recovered": recovered,
            "traded": traded,
            "by_others": by_others,
            "by_others_unknown": unknown,
        })
    }

    /// A person has looked at the exchange for an order that nobody could find out about.
    pub(super) fn release(&mut self, client_id: &str, is_there: bool) -> Result<Value, String> {
        let name = ClientOrderId::parse(client_id);
        let name = name.ok_or_else(|| format!("{client_id:?} is no name of an order from here"))?;
        let now = self.now();
        let mut desks = self.desks.iter_mut();
        let released = desks
            .find_map(|(account, desk)| Some((*account, desk.core.release(&name, is_there, now)?)));
        let (account, effects) = released.ok_or_else(|| {
            format!(
                "no order {client_id} waits for a person; `tickwright ctl reconcile` shows which do"
            )
        })?;
        self.act(account, effects);
        Ok(json!({ "released": client_id, "is_there": is_there }))
    }
}
