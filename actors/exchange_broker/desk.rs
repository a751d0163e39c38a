//! One account at the exchange: its keys, its orders, its state of the protocol.
//!
//! Accounts share what this actor is to exec: steps, answers, checkpoints. Nothing that one of them waits for
//! holds up another: each has questions, intents and a stream of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::{ActorProcessingErr, ActorRef};
use tickwright_core::config::BROKERS;
use tickwright_core::domain::{
    AccountId, BrokerEvent, BrokerEventKind, BrokerId, Fill, SignalIdentity, Timestamp,
};
use tickwright_core::pipeline::orders::{Orders, OrdersConfig, OrdersEffect, OrdersSnapshot, Said};
use tokio::task::JoinSet;

use super::answers::ToldOrder;
use super::client::{Client, Credentials};
use super::reach::Reach;
use super::reconcile::Reconciling;
use super::{
    Back, ExchangeAccount, ExchangeBrokerArguments, ExchangeBrokerMessage, ExchangeBrokerState,
    answers, stream,
};
use crate::kit::ResumedFrom;

/// An account, as this actor has it.
#[derive(Debug)]
pub(super) struct Desk {
    /// The protocol.
    pub(super) config: OrdersConfig,
    pub(super) client: Arc<Client>,
    pub(super) core: Orders,
    pub(super) reconciling: Option<Reconciling>,
}

/// Opens a desk for each account, and begins to listen to what the exchange tells of each.
///
/// An account whose keys cannot be read gets one too: its orders wait, and the others trade.
///
/// # Errors
///
/// If the address is none, the file of authorities cannot be used, or the keys of no account can be read.
pub(super) async fn open(
    arguments: &ExchangeBrokerArguments,
    myself: &ActorRef<ExchangeBrokerMessage>,
) -> Result<(BTreeMap<AccountId, Desk>, JoinSet<()>), ActorProcessingErr> {
    let address = &arguments.address;
    let broker = BROKERS.get(usize::from(arguments.broker.0)).copied().unwrap_or_default();
    let reach = Reach::open(address, broker, arguments.quiet.clone())?;
    let mut desks = BTreeMap::new();
    let mut listening = JoinSet::new();
    let mut unreadable = Vec::new();
    for ExchangeAccount { account, keys, orders } in &arguments.accounts {
        let venue = &orders.venue;
        let (keys, secrets) = (keys.clone(), arguments.secrets.clone());
        let read = tokio::task::spawn_blocking(move || Credentials::read(&keys, &secrets));
        let credentials = read.await?;
        let is_readable = credentials.is_ok();
        if let Err(reason) = &credentials {
            tracing::error!(
                "{venue}: {reason}; its orders wait until this node is started again with the right ones"
            );
            unreadable.push(format!("{venue}: {reason}"));
        }
        // What whoever runs this relies on.
        tracing::info!("{venue}: {}", orders.capabilities.resolution());
        if !orders.capabilities.query {
            tracing::error!(
                "{venue}: its orders and trades cannot be asked for (has_query = false), so what the account has and what \
                 orders trade can never be known for certain: nothing is opened there"
            );
        }
        let client = Arc::new(Client::new(reach.clone(), venue.to_string(), credentials));
        if let Some(url) = address.stream_url.clone().filter(|_| is_readable) {
            let (client, actor, account) = (Arc::clone(&client), myself.clone(), *account);
            let hear = move |told| actor.cast(ExchangeBrokerMessage::Told(account, told)).is_ok();
            listening.spawn(stream::listen(client, url, address.patience, hear));
        }
        let core = Orders::new(orders.clone(), None);
        let desk = Desk { config: orders.clone(), client, core, reconciling: None };
        desks.insert(*account, desk);
    }
    if unreadable.len() == desks.len() {
        return Err(unreadable.join("; ").into());
    }
    Ok((desks, listening))
}

/// Has every desk go on from what a checkpoint has of its account, by name, or from nothing.
///
/// # Errors
///
/// If it has orders of an account that has no desk: nobody would bring them to their end.
pub(super) fn restore(
    desks: &mut BTreeMap<AccountId, Desk>,
    mut snapshots: BTreeMap<String, OrdersSnapshot>,
    broker: BrokerId,
) -> Result<(), String> {
    for desk in desks.values_mut() {
        let snapshot = snapshots.remove(&desk.config.venue.account);
        desk.core = Orders::new(desk.config.clone(), snapshot);
        desk.core.hold();
    }
    snapshots.retain(|_, snapshot| *snapshot != OrdersSnapshot::default());
    let Some(account) = snapshots.into_keys().next() else { return Ok(()) };
    let broker = BROKERS.get(usize::from(broker.0)).copied().unwrap_or_default();
    Err(format!(
        "the checkpoint has orders of account {account:?}, whose keys are not named any more: set \
         broker.{broker}.accounts.{account}.keys_file again, or begin another run"
    ))
}

impl ExchangeBrokerState {
    /// Has the core of an account take something in, and does what follows.
    pub(super) fn with(
        &mut self,
        account: AccountId,
        input: impl FnOnce(&mut Orders, Timestamp) -> Vec<OrdersEffect>,
    ) {
        let now = self.now();
        let Some(desk) = self.desks.get_mut(&account) else { return };
        let effects = input(&mut desk.core, now);
        self.act(account, effects);
    }

    /// The same with every account, in their order.
    pub(super) fn with_all(
        &mut self,
        mut input: impl FnMut(&mut Orders, Timestamp) -> Vec<OrdersEffect>,
    ) {
        let accounts: Vec<AccountId> = self.desks.keys().copied().collect();
        accounts.into_iter().for_each(|account| self.with(account, &mut input));
    }

    pub(super) fn on_back(
        &mut self,
        account: AccountId,
        back: Back,
    ) -> Result<(), ActorProcessingErr> {
        tracing::debug!(account = account.0, ?back, "order protocol");
        match back {
            Back::Committed(results) => {
                self.with(account, |core, now| core.on_committed(&results, now));
            }
            Back::Slots(slots) => self.with(account, |core, now| core.on_slots(slots, now)),
            // It is read anew by whoever comes next.
            Back::Confused(reason) => return Err(reason.into()),
            Back::Answer(client_id, attempt, answer) => {
                self.with(account, |core, now| core.on_answer(&client_id, attempt, answer, now));
            }
            Back::Found(client_id, found) => {
                self.with(account, |core, now| core.on_found(&client_id, &found, now));
            }
            Back::Cancelled(client_id, found) => {
                self.with(account, |core, now| core.on_cancelled(&client_id, &found, now));
            }
            Back::Time(asked, told) => {
                self.with(account, |core, now| core.on_time(asked, told, now));
            }
            Back::Trades(symbol, trades) => self.with(account, |core, now| {
                let trades = trades.as_ref().map(|(trades, is_last)| (&trades[..], *is_last));
                core.on_trades(&symbol, trades, now)
            }),
            Back::Refusal(signal, refused) => {
                self.with(account, |core, now| core.on_refusal(&signal, refused, now));
            }
            Back::TradesOf(client_id, trades) => self.with(account, |core, now| {
                let trades = trades.as_ref().map(|(trades, is_last)| (&trades[..], *is_last));
                core.on_trades_of(&client_id, trades, now)
            }),
            Back::History(symbol, orders) => self.with(account, |core, now| {
                let orders = orders.as_ref().map(|(orders, is_last)| (&orders[..], *is_last));
                core.on_history(&symbol, orders, now)
            }),
            Back::Session(is_begun) => {
                self.with(account, |core, now| core.on_session(is_begun, now));
            }
            Back::Open(open) => self.on_open(account, open),
        }
        let Some(desk) = self.desks.get(&account) else { return Ok(()) };
        let is_stuck = desk.core.is_stuck() && self.arguments.assume_reconciled;
        if desk.client.take_clock_wrong() {
            self.with(account, Orders::on_clock_wrong);
        }
        if is_stuck {
            self.with(account, Orders::on_released);
        }
        Ok(())
    }

    pub(super) fn on_told(&mut self, account: AccountId, told: &ToldOrder) {
        let mut listed = self.instruments.values();
        let instrument = listed.find(|instrument| answers::name_of(instrument) == told.name);
        if let Some(report) = instrument.and_then(|instrument| told.report(instrument)) {
            self.with(account, |core, now| core.on_told(&report, now));
        }
    }

    pub(super) fn act(&mut self, account: AccountId, effects: Vec<OrdersEffect>) {
        for effect in effects {
            tracing::debug!(account = account.0, ?effect, "order protocol");
            match effect {
                OrdersEffect::Tell(signal, said) => self.tell(account, &signal, said),
                OrdersEffect::Stray(trade) => {
                    let (venue, symbol) = (self.venue(account), &trade.symbol);
                    tracing::warn!(
                        "{venue} traded {symbol} (trade {}, order {}), and nobody here asked for it; see \
                         `tickwright ctl reconcile`",
                        trade.trade,
                        trade.order
                    );
                }
                OrdersEffect::Rebuilt(symbol, orders) => {
                    let venue = self.venue(account);
                    tracing::warn!(
                        "{venue} has {orders} more orders of ours in {symbol} that exec does not know, being newer than \
                         its checkpoint: rebuilt from the exchange, their signals are used up and what they traded \
                         is held"
                    );
                    // From a checkpoint whoever records hears of that itself. One that has gone has a successor.
                    let resumed = self.arguments.resumed.as_ref().filter(|_| !self.is_resumed);
                    let _ = resumed.map(|resumed| resumed.send(ResumedFrom::Account(venue)));
                }
                OrdersEffect::Adopt(adoption) => self.tell_adoption(account, &adoption),
                OrdersEffect::Alarm(text) => {
                    let account = self.venue(account);
                    tracing::error!(account, "{text}");
                }
                asked @ (OrdersEffect::Commit(_)
                | OrdersEffect::ReadSlots
                | OrdersEffect::ReadRefusal(_)
                | OrdersEffect::Send(_)
                | OrdersEffect::Query { .. }
                | OrdersEffect::Cancel { .. }
                | OrdersEffect::AskTime
                | OrdersEffect::Trades { .. }
                | OrdersEffect::TradesOf { .. }
                | OrdersEffect::History { .. }
                | OrdersEffect::Session(_)) => self.ask(account, asked),
            }
        }
    }

    /// What the account is called where the exchange is meant too.
    fn venue(&self, account: AccountId) -> String {
        let desk = self.desks.get(&account);
        desk.map_or_else(|| account.0.to_string(), |desk| desk.config.venue.to_string())
    }

    /// Tells risk.
    fn tell(&self, account: AccountId, signal: &SignalIdentity, said: Said) {
        let order = self.orders.get(&signal.id).copied();
        let Some(order) = order.filter(|order| order.account == account) else { return };
        let kind = match said {
            Said::Accepted => BrokerEventKind::Accepted,
            Said::Unknown => BrokerEventKind::Unknown,
            Said::Refused(refusal) => BrokerEventKind::Refused(refusal),
            Said::Closed { remaining } => BrokerEventKind::Closed { remaining },
            Said::Filled(trade) => BrokerEventKind::Filled(Fill {
                order: order.id,
                instrument: order.instrument,
                account,
                trade_id: trade.trade,
                broker: self.arguments.broker,
                side: trade.side,
                quantity: trade.quantity,
                price: trade.price,
                fee: trade.fee,
                fee_elsewhere: trade.fee_elsewhere,
            }),
        };
        let (due, ordinal, broker) = (Timestamp::default(), 0, self.arguments.broker);
        let event = BrokerEvent { due, order: order.id, ordinal, broker, kind };
        // If risk has gone, another epoch begins.
        let _ = self.arguments.said.send(event);
    }
}

#[cfg(test)]
mod tests {
    use hyper::Uri;
    use tickwright_core::domain::{Key, OrderId, Price, Quantity, Side, Symbol, VenueAccount};
    use tickwright_core::pipeline::orders::NewOrder;

    use super::super::reach::Quiet;
    use super::*;

    fn desks(accounts: &[(u16, &str)]) -> BTreeMap<AccountId, Desk> {
        let desk = |&(number, name): &(u16, &str)| {
            let venue = VenueAccount { exchange: "x".into(), account: name.into() };
            let (config, uri) = (OrdersConfig::new(venue, 1), Uri::from_static("http://x"));
            let tls = crate::source::live::tls::usual();
            let reach = Reach::new(uri, tls, Quiet::default());
            let client = Client::new(reach, name.into(), Err("no keys".into()));
            let core = Orders::new(config.clone(), None);
            let desk = Desk { config, client: Arc::new(client), core, reconciling: None };
            (AccountId(number), desk)
        };
        accounts.iter().map(desk).collect()
    }

    /// An order of `number` waits.
    fn snapshot(number: u64) -> OrdersSnapshot {
        let mut desks = desks(&[(0, "any")]);
        let core = &mut desks.get_mut(&AccountId(0)).unwrap().core;
        let symbol = Symbol::new("A.X").unwrap();
        let id = OrderId { key: Key::of(number, 0, number), ordinal: 0 };
        let (run, strategy) = ("r".into(), "s".into());
        core.place(
            NewOrder {
                signal: SignalIdentity { run, strategy, symbol: symbol.clone(), id },
                symbol,
                side: Side::Buy,
                quantity: Quantity(1),
                limit_price: Price(1),
                was_refused: false,
            },
            Timestamp::default(),
        );
        core.snapshot()
    }

    #[test]
    fn each_account_goes_on_from_its_own_part_of_a_checkpoint() {
        // Another account has come in between.
        let mut desks = desks(&[(0, "new"), (1, "b"), (2, "a")]);
        let parts = BTreeMap::from([("a".into(), snapshot(1)), ("b".into(), snapshot(2))]);
        restore(&mut desks, parts, BrokerId(0)).unwrap();
        let parts: Vec<OrdersSnapshot> = desks.values().map(|desk| desk.core.snapshot()).collect();
        assert_eq!(parts, [OrdersSnapshot::default(), snapshot(2), snapshot(1)]);
    }

    #[test]
    fn orders_of_an_account_without_keys_are_not_forgotten() {
        let parts = |part| BTreeMap::from([("gone".to_owned(), part)]);
        let mut desks = desks(&[(0, "a")]);
        assert_eq!(restore(&mut desks, parts(OrdersSnapshot::default()), BrokerId(1)), Ok(()));
        let refused = restore(&mut desks, parts(snapshot(1)), BrokerId(1)).unwrap_err();
        assert!(refused.contains("broker.backup.accounts.gone.keys_file"), "{refused}");
    }
}
