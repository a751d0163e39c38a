//! What must hold.

use std::collections::BTreeSet;

use tickwright_core::domain::{
    ClientOrderId, Quantity, SlotCommand, SlotDone, SlotKey, SlotRefusal, SlotRight,
};
use tickwright_core::pipeline::orders::{NewOrder, Request, Said, TradeReport};

use crate::counts::add;
use crate::executor::order;
use crate::world::World;

impl World {
    /// What must hold at every moment.
    pub(crate) fn judge(&self) -> Result<(), String> {
        let all = self.exchanges.iter().flat_map(|exchange| &exchange.taken);
        let mut generations = BTreeSet::new();
        let mut ids = all.map(|it| it.request.client_id.as_str());
        let twice = ids.find(|id| !generations.insert(ClientOrderId::slot_part_in(id)));
        if let Some(twice) = twice {
            return Err(format!("(1) the generation of {twice} has two orders that were accepted"));
        }
        for exchange in &self.exchanges {
            let mut slots = BTreeSet::new();
            let open = exchange.taken.iter().filter(|taken| taken.over_at > self.now);
            for Request { symbol, side, limit_price, client_id, .. } in open.map(|it| &it.request) {
                if !slots.insert((symbol, *side, self.scenario.levels.of(*limit_price))) {
                    return Err(format!("(7) beside {client_id} another is open in its slot"));
                }
            }
            let tag = |id: &ClientOrderId| ClientOrderId::tag_in(id.as_str());
            let signals = exchange.count(|taken| tag(&taken.request.client_id));
            if let Some((_, count)) = signals.iter().find(|(_, count)| **count > 1) {
                return Err(format!("(2) a signal has {count} orders in one account"));
            }
        }
        Ok(())
    }

    /// A signal that was used was used for its own account.
    pub(crate) fn judge_committed(
        &mut self,
        commands: &[SlotCommand],
        results: &[Result<SlotDone, SlotRefusal>],
    ) -> Result<(), String> {
        for (command, result) in commands.iter().zip(results) {
            if matches!(command, SlotCommand::Quarantine { .. }) {
                self.closed += u64::from(result.is_ok());
            }
            let SlotCommand::Open { slot, intent, right, .. } = command else { continue };
            let lane = (slot.venue.account.clone(), slot.symbol.clone());
            let last = self.opened.get(&lane).copied();
            if result.is_ok() && *right == SlotRight::NewSignal {
                self.opened.insert(lane, intent.signal.id);
            } else if *result == Err(SlotRefusal::Consumed)
                && last.is_none_or(|last| last < intent.signal.id)
            {
                return Err(format!("(6) {command:?} of a signal that the account has not used"));
            }
        }
        Ok(())
    }

    /// What must hold once faults have been over for long enough.
    pub(crate) fn judge_end(&mut self) -> Result<(), String> {
        self.judge_resolved()?;
        self.judge_all_resolved()?;
        for number in 0..self.executors.len() {
            let executor = &self.executors[number];
            let core = executor.core.as_ref().ok_or("an executor is down")?;
            if !core.is_idle() || executor.next < self.scenario.orders {
                let next = executor.next;
                return Err(format!("(4) executor {number} has orders under way, next is {next}"));
            }
            let twice = core.counters().accepted_twice;
            if twice > 0 {
                return Err(format!("(1) executor {number} counts {twice} orders beside another"));
            }
            if !core.is_reconciled() {
                return Err(format!("(5) executor {number} has not come to know the account"));
            }
            for (symbol, traded) in core.traded() {
                let all = self.of(number).taken.iter().flat_map(|taken| &taken.trades);
                let of = all.filter(|trade| trade.symbol == *symbol);
                let net: i64 = of.map(|trade| trade.side.signed(trade.quantity).0).sum();
                if traded.ours.0 + traded.others.0 != net {
                    return Err(format!("(5) {traded:?} of {symbol:?}, where {net} was traded"));
                }
                let told = executor.heard.values().flatten().filter_map(Said::trade);
                let told = told.filter(|trade| trade.symbol == *symbol);
                let held: i64 = told.map(|trade| trade.side.signed(trade.quantity).0).sum();
                if traded.ours.0 != held {
                    return Err(format!("(5) {traded:?} of {symbol:?}, of which {held} was told"));
                }
            }
            for order in (0..self.scenario.orders).map(order) {
                let said = executor.heard.get(&order.signal).map_or(&[][..], Vec::as_slice);
                let last = said.last().filter(|said| said.is_last());
                let last =
                    last.ok_or_else(|| format!("(4) nothing of {:?}: {said:?}", order.signal))?;
                self.compare(number, &order, said, last)?;
            }
        }
        for executor in &self.executors {
            if let Some(core) = &executor.core {
                add(&mut self.counters, core.counters());
            }
        }
        let (closed, counted) = (self.closed, self.counters.quarantined);
        if closed > counted {
            return Err(format!("(8) {closed} slots were closed for a person, {counted} counted"));
        }
        let left: BTreeSet<&SlotKey> = self.slots.open().map(|(key, _)| key).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("(4) slots are held: {left:?}")) }
    }

    /// What was said of an order, beside what the exchange did.
    fn compare(
        &self,
        executor: usize,
        order: &NewOrder,
        said: &[Said],
        last: &Said,
    ) -> Result<(), String> {
        let tag = order.signal.tag();
        let is_of = |id: &ClientOrderId| ClientOrderId::tag_in(id.as_str()) == Some(tag);
        let taken = self.of(executor).taken.iter().find(|taken| is_of(&taken.request.client_id));
        let is_anothers = taken.is_some_and(|taken| taken.executor != executor);
        if is_anothers && matches!(last, Said::Refused(_)) {
            // Of two at once, one may give up what the other then places.
            return Ok(());
        }
        let is_unwanted = self.executors[executor].unwanted.contains(&order.signal);
        let untouched = Said::Closed { remaining: order.quantity };
        if is_unwanted && is_anothers && *last == untouched && !said.contains(&Said::Accepted) {
            // It was given up here before it had left, and another has placed it.
            return Ok(());
        }
        let mut trades: Vec<&TradeReport> = said.iter().filter_map(Said::trade).collect();
        trades.sort_by_key(|trade| trade.trade);
        let expected: Vec<&TradeReport> =
            taken.into_iter().flat_map(|taken| &taken.trades).collect();
        let executed: i64 = expected.iter().map(|trade| trade.quantity.0).sum();
        let remaining = Quantity(order.quantity.0 - executed);
        let is_right = match last {
            Said::Closed { remaining: said } => {
                (taken.is_some() || is_unwanted) && *said == remaining
            }
            Said::Accepted | Said::Unknown | Said::Filled(_) | Said::Refused(_) => taken.is_none(),
        };
        if trades != expected || !is_right {
            return Err(format!("(3) {said:?} was said, and the exchange has {taken:?}"));
        }
        Ok(())
    }
}
