//! Brokers outside, and what reaches them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tickwright_core::config::{ExchangeConfig, LockKeeping};
use tickwright_core::domain::{BrokerEvent, BrokerId};

use super::Wiring;
use crate::broker::{self, BrokerMessage};
use crate::exchange_broker::{
    self, ExchangeAccount, ExchangeAddress, ExchangeBrokerActor, ExchangeBrokerArguments,
    ExchangeBrokerMessage, OrderLocks, Quiet,
};
use crate::kit::exec::{BrokerStep, Epoch};
use crate::kit::{ChildSpec, Outlet};
use crate::ledger::LedgerClient;
use crate::risk::{self, RiskMessage};
use crate::router::{self, RouterMessage};

impl Wiring {
    /// The exchange that a broker stands for, with what it needs; none, if it is a paper broker.
    pub(super) fn exchange(&self, broker: u8) -> Option<(ExchangeConfig, LedgerClient)> {
        let ledger = self.ledger.clone()?;
        // Drawn once for each start: it counts only where a ledger has no slots yet.
        let drawn = ledger.draw_number();
        Some((self.config.exchange(BrokerId(broker), drawn)?, ledger))
    }

    /// Whether any broker stands for an exchange.
    pub(super) fn has_exchange(&self) -> bool {
        [0, 1].into_iter().any(|broker| self.exchange(broker).is_some())
    }

    pub(super) fn exchange_broker(
        &self,
        broker: u8,
        (exchange, ledger): (ExchangeConfig, LedgerClient),
        progress: &Arc<AtomicU64>,
    ) -> ChildSpec {
        let wiring = self.clone();
        let role = exchange_broker::role(usize::from(broker));
        let progress = Arc::clone(progress);
        let other = self.exchange(1 - broker.min(1));
        let other = other
            .and_then(|(other, _)| Some(other.accounts.first()?.orders.venue.exchange.clone()));
        let accounts = exchange.accounts.iter().map(|of| ExchangeAccount {
            account: of.account,
            keys: of.keys.clone(),
            orders: of.orders.clone(),
        });
        let accounts: Vec<ExchangeAccount> = accounts.collect();
        let named = self.config.strategies.iter();
        let named = named.filter_map(|of| Some((of.name.clone(), of.lock.clone()?)));
        let named: BTreeMap<String, String> = named.collect();
        let is_used = self.config.locks.keeping != LockKeeping::None || !named.is_empty();
        let locks = self.locks.clone().filter(|_| is_used);
        let owner = format!("exec/{}/{broker}", self.config.pipeline.run);
        let locks =
            locks.map(|backend| OrderLocks::new(backend, owner, self.config.locks.clone(), named));
        let strategies: Vec<String> =
            self.config.strategies.iter().map(|strategy| strategy.name.clone()).collect();
        let quiet = Quiet::default();
        self.stage(
            role,
            || ExchangeBrokerActor,
            progress,
            move |_| ExchangeBrokerArguments {
                broker: BrokerId(broker),
                address: ExchangeAddress {
                    base_url: exchange.base_url.clone(),
                    stream_url: exchange.stream_url.clone(),
                    tls_ca_file: exchange.tls_ca_file.clone().map(PathBuf::from),
                    patience: exchange.answer,
                },
                quiet: quiet.clone(),
                secrets: wiring.secrets.clone(),
                assume_reconciled: exchange.assume_reconciled,
                accounts: accounts.clone(),
                other: other.clone(),
                run: wiring.config.pipeline.run.clone(),
                strategies: strategies.clone(),
                ledger: ledger.clone(),
                locks: locks.clone(),
                clock: wiring.clock.clone(),
                directory: wiring.directory.clone(),
                done: wiring.to(router::ROLE, RouterMessage::Done),
                said: wiring.to(risk::ROLE, RiskMessage::Said),
                hello: wiring.member_is_back(),
                resumed: wiring.records.as_ref().map(|records| records.recording().resumed),
            },
        )
    }

    /// Reaches a broker of either kind.
    pub(super) fn to_broker(&self, broker: u8) -> Outlet<BrokerStep> {
        let place = usize::from(broker);
        match self.exchange(broker) {
            Some(_) => self.to(&exchange_broker::role(place), ExchangeBrokerMessage::Step),
            None => self.to(&broker::role(place), BrokerMessage::Step),
        }
    }

    /// Begins an epoch at a broker of either kind.
    pub(super) fn to_restore(&self, broker: u8) -> Outlet<(Epoch, Option<Vec<u8>>)> {
        let place = usize::from(broker);
        match self.exchange(broker) {
            Some(_) => self.to(&exchange_broker::role(place), |(epoch, state)| {
                ExchangeBrokerMessage::Restore(epoch, state)
            }),
            None => {
                self.to(&broker::role(place), |(epoch, state)| BrokerMessage::Restore(epoch, state))
            }
        }
    }

    /// Tells a broker outside that what it said has taken effect.
    pub(super) fn to_heard(&self, broker: u8) -> Option<Outlet<BrokerEvent>> {
        self.exchange(broker)?;
        let role = exchange_broker::role(usize::from(broker));
        Some(self.to(&role, ExchangeBrokerMessage::Heard))
    }
}
