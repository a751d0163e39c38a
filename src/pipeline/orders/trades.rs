//! What the account's orders have traded: asked for symbol by symbol, and for one order alone where that
//! does not do.

use std::collections::BTreeSet;

use super::{Live, Orders, OrdersEffect, Said, Stage, TradeReport};
use crate::domain::{ClientOrderId, SignalIdentity, Symbol, Timestamp};

impl Orders {
    /// Asks for the trades of a symbol.
    pub(super) fn page(&mut self, symbol: &Symbol) {
        if !self.is_ready() || !self.recovery.is_known(symbol) {
            // They are asked for once the symbol's orders are known.
            return;
        }
        if let Some(again) = self.paging.get_mut(symbol) {
            *again = true;
            return;
        }
        self.paging.insert(symbol.clone(), false);
        self.paging_again.remove(symbol);
        let after = self.last_trade.get(symbol).copied().unwrap_or(0);
        self.effects.push(OrdersEffect::Trades { symbol: symbol.clone(), after });
    }

    /// The account's trades in a symbol, oldest first; none, if there was no answer.
    pub fn on_trades(
        &mut self,
        symbol: &Symbol,
        trades: Option<(&[TradeReport], bool)>,
        now: Timestamp,
    ) -> Vec<OrdersEffect> {
        let wants_more = self.paging.remove(symbol).unwrap_or(false);
        let Some((trades, is_last)) = trades else {
            self.paging_again.insert(symbol.clone(), now.after(self.config.poll));
            return self.go_on(now);
        };
        let mut told = BTreeSet::new();
        for trade in trades {
            let last = self.last_trade.get(symbol).copied().unwrap_or(0);
            if trade.trade <= last {
                continue;
            }
            if self.ahead.remove(&(symbol.clone(), trade.trade)) {
                self.last_trade.insert(symbol.clone(), trade.trade);
                continue;
            }
            match self.live_of(trade.order) {
                Some(signal) => {
                    self.on_fill(&signal, trade);
                    told.insert(signal);
                }
                // Of an order whose number is not known yet: its turn comes, and trades keep theirs.
                None if self.has_unnumbered(symbol) => {
                    self.paging_again.insert(symbol.clone(), now.after(self.config.poll));
                    break;
                }
                None => self.on_stray(trade),
            }
            self.last_trade.insert(symbol.clone(), trade.trade);
        }
        for signal in told {
            self.consider_end(&signal);
        }
        // What was held up is asked for again in its time.
        if !self.paging_again.contains_key(symbol) {
            if wants_more || !is_last {
                self.page(symbol);
            } else {
                self.ask_passed_over(symbol);
            }
        }
        self.go_on(now)
    }

    /// Returns whether the trade is new.
    pub(super) fn on_fill(&mut self, signal: &SignalIdentity, trade: &TradeReport) -> bool {
        let is_held = self.recovery.heard.get(signal).copied();
        let Some(live) = self.live.get_mut(signal) else { return false };
        let is_said = |said: &Said| matches!(said, Said::Filled(of) if of.trade == trade.trade);
        if live.said.iter().any(is_said) {
            return false;
        }
        live.filled.0 += trade.quantity.0;
        live.executed = live.executed.max(live.filled);
        // Positions lack what nobody here has asked for, until somebody does.
        let is_ours = is_held.unwrap_or(live.order.is_some());
        self.say(signal, Said::Filled(trade.clone()));
        self.count_traded(trade, i64::from(!is_ours), i64::from(is_ours));
        true
    }

    /// Asks for trades that were looked at before their order was known here: somebody else had placed
    /// it.
    fn ask_passed_over(&mut self, symbol: &Symbol) {
        for live in self.live.values_mut() {
            let is_missing = live.is_over && live.filled < live.executed && !live.is_asking_trades;
            if let Some(order) = live.exchange_order.filter(|_| is_missing)
                && live.symbol == *symbol
            {
                live.is_asking_trades = true;
                let (client_id, symbol) = (live.client_id.clone(), symbol.clone());
                self.effects.push(OrdersEffect::TradesOf { client_id, symbol, order, after: 0 });
            }
        }
    }

    /// The trades of one order, oldest first, and whether there are no more; none, if there was no answer.
    pub fn on_trades_of(
        &mut self,
        client_id: &ClientOrderId,
        trades: Option<(&[TradeReport], bool)>,
        now: Timestamp,
    ) -> Vec<OrdersEffect> {
        if let Some(signal) = self.by_client_id.get(client_id).cloned() {
            let (all, is_last) = trades.unwrap_or((&[], true));
            if let Some(live) = self.live.get_mut(&signal) {
                let more = all.last().map(|last| last.trade).filter(|_| !is_last);
                live.is_asking_trades = more.is_some();
                if let (Some(after), Some(order)) = (more, live.exchange_order) {
                    let (client_id, symbol) = (client_id.clone(), live.symbol.clone());
                    self.effects.push(OrdersEffect::TradesOf { client_id, symbol, order, after });
                }
            }
            for trade in all {
                let symbol = &trade.symbol;
                let last = self.last_trade.get(symbol).copied().unwrap_or(0);
                if !self.on_fill(&signal, trade) {
                    continue;
                }
                if trade.trade <= last {
                    // It was looked at when nobody knew whose it was.
                    self.count_traded(trade, -1, 0);
                } else {
                    self.ahead.insert((symbol.clone(), trade.trade));
                }
            }
            if trades.is_some() {
                self.consider_end(&signal);
            }
        }
        self.go_on(now)
    }

    fn live_of(&self, order: u64) -> Option<SignalIdentity> {
        let known = |live: &&Live| live.exchange_order == Some(order);
        let (signal, _) = self.live.iter().find(|(_, live)| known(live))?;
        Some(signal.clone())
    }

    /// Whether a request of the symbol may have been taken without our knowing.
    fn has_unnumbered(&self, symbol: &Symbol) -> bool {
        self.live.values().any(|live| {
            live.symbol == *symbol
                && live.exchange_order.is_none()
                && !matches!(live.stage, Stage::Opening | Stage::Quarantined)
        })
    }
}
