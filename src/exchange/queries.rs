//! What can be asked for and changes nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::amount::Amount;
use super::answer;
use super::entry::Side;
use super::error::ApiError;
use super::parameters::Parameters;
use super::state::{Market, Order};
use super::{Exchange, orders};

impl Exchange {
    pub(super) fn order(&self, name: &str, parameters: &Parameters) -> Result<Value, ApiError> {
        parameters.only(&["symbol", "orderId", "origClientOrderId"])?;
        let order = self.find_order(name, parameters)?;
        order.map(answer::order).ok_or_else(|| ApiError::of_code(-2013, 400))
    }

    pub(super) fn open_orders(
        &self,
        name: &str,
        parameters: &Parameters,
    ) -> Result<Value, ApiError> {
        parameters.only(&["symbol"])?;
        let symbol = match parameters.text("symbol")? {
            None => None,
            Some(_) => Some(self.symbol(parameters)?),
        };
        let account = self.state.accounts.get(name);
        let open = account.into_iter().flat_map(|account| &account.open);
        let open = open.filter_map(|id| self.state.orders.get(id));
        let open = open.filter(|order| symbol.is_none_or(|symbol| order.accepted.symbol == symbol));
        Ok(open.map(answer::order).collect())
    }

    pub(super) fn all_orders(
        &self,
        name: &str,
        parameters: &Parameters,
    ) -> Result<Value, ApiError> {
        parameters.only(&["symbol", "orderId", "startTime", "endTime", "limit"])?;
        let symbol = self.symbol(parameters)?;
        let limit = parameters.limit(500, 1_000)?;
        let (from, to) = times(parameters)?;
        let is_own = |order: &&Order| {
            let accepted = &order.accepted;
            accepted.account == name
                && accepted.symbol == symbol
                && (from..=to).contains(&order.time)
        };
        if let Some(first) = parameters.number("orderId")? {
            let orders = self.state.orders.range(first..).map(|(_, order)| order);
            return Ok(orders.filter(is_own).take(limit).map(answer::order).collect());
        }
        // Without a first one, the newest; in either case oldest first.
        let orders = self.state.orders.values().rev().filter(is_own).take(limit);
        let mut orders: Vec<Value> = orders.map(answer::order).collect();
        orders.reverse();
        Ok(orders.into())
    }

    pub(super) fn my_trades(&self, name: &str, parameters: &Parameters) -> Result<Value, ApiError> {
        parameters.only(&["symbol", "orderId", "startTime", "endTime", "fromId", "limit"])?;
        let market = &self.state.markets[self.symbol(parameters)?];
        let limit = parameters.limit(500, 1_000)?;
        let (from, to) = times(parameters)?;
        let order = parameters.number("orderId")?;
        let trades = market.trades.iter().filter(|trade| (from..=to).contains(&trade.time));
        let mut rows = trades.flat_map(|trade| answer::trades(trade, name, &market.spec));
        let is_wanted = |row: &Value| order.is_none_or(|order| row["orderId"] == order);
        if let Some(first) = parameters.number("fromId")? {
            let rows = rows.filter(|row| row["id"].as_u64().is_some_and(|id| id >= first));
            return Ok(rows.filter(is_wanted).take(limit).collect());
        }
        let mut newest: Vec<Value> = rows.by_ref().filter(is_wanted).collect();
        Ok(newest.split_off(newest.len().saturating_sub(limit)).into())
    }

    pub(super) fn account(&self, name: &str, parameters: &Parameters) -> Result<Value, ApiError> {
        parameters.only(&["omitZeroBalances"])?;
        let omits = parameters.text("omitZeroBalances")? == Some("true");
        let account = self.state.accounts.get(name);
        account
            .map(|account| answer::account(account, omits))
            .ok_or_else(|| ApiError::of_code(-2015, 401))
    }

    pub(super) fn exchange_info(
        &self,
        parameters: &Parameters,
        now: u64,
    ) -> Result<Value, ApiError> {
        parameters.only(&["symbol"])?;
        let symbol = match parameters.text("symbol")? {
            None => None,
            Some(_) => Some(self.symbol(parameters)?),
        };
        let markets = self.state.markets.values();
        let markets =
            markets.filter(|market| symbol.is_none_or(|symbol| market.spec.name == symbol));
        let symbols: Value = markets
            .map(|market| answer::symbol(&market.spec, self.state.bounds().open_orders_max))
            .collect();
        Ok(json!({
            "timezone": "UTC",
            "serverTime": now,
            "rateLimits": [{
                "rateLimitType": "REQUEST_WEIGHT",
                "interval": "MINUTE",
                "intervalNum": 1,
                "limit": super::WEIGHT_MAX,
            }],
            "exchangeFilters": [],
            "symbols": symbols,
        }))
    }

    pub(super) fn depth(&self, parameters: &Parameters) -> Result<Value, ApiError> {
        parameters.only(&["symbol", "limit"])?;
        let market = &self.state.markets[self.symbol(parameters)?];
        let limit = parameters.limit(100, 5_000)?;
        let side = |side| -> Value {
            let levels = self.levels(market, side);
            let rows = levels.into_iter().take(limit);
            rows.map(|(price, quantity)| json!([price, quantity])).collect()
        };
        Ok(json!({
            "lastUpdateId": self.updates,
            "bids": side(Side::Buy),
            "asks": side(Side::Sell),
        }))
    }

    pub(super) fn book_ticker(&self, parameters: &Parameters) -> Result<Value, ApiError> {
        parameters.only(&["symbol"])?;
        let ticker = |market: &Market| {
            let best = |side| self.levels(market, side).into_iter().next().unwrap_or_default();
            let (bid, ask) = (best(Side::Buy), best(Side::Sell));
            json!({
                "symbol": market.spec.name,
                "bidPrice": bid.0,
                "bidQty": bid.1,
                "askPrice": ask.0,
                "askQty": ask.1,
            })
        };
        match parameters.text("symbol")? {
            None => Ok(self.state.markets.values().map(ticker).collect()),
            Some(name) => {
                self.state.markets.get(name).map(ticker).ok_or_else(orders::no_such_symbol)
            }
        }
    }

    /// Prices and what there is at each, of accounts and of the outside market together, best first.
    fn levels(&self, market: &Market, side: Side) -> Vec<(Amount, Amount)> {
        let orders = market
            .waiting(side)
            .filter_map(|(price, id)| Some((price, self.state.orders.get(&id)?.remaining())));
        let outside = self.outside.get(&market.spec.name);
        let outside = outside.map_or(&[][..], |outside| outside.side(side)).iter();
        let outside = outside.map(|level| (level.price, level.quantity));
        let mut levels: BTreeMap<Amount, Amount> = BTreeMap::new();
        for (price, quantity) in orders.chain(outside) {
            *levels.entry(price).or_default() += quantity;
        }
        match side {
            Side::Buy => levels.into_iter().rev().collect(),
            Side::Sell => levels.into_iter().collect(),
        }
    }
}

/// The span of time that is asked for.
fn times(parameters: &Parameters) -> Result<(u64, u64), ApiError> {
    let from = parameters.number("startTime")?.unwrap_or(0);
    Ok((from, parameters.number("endTime")?.unwrap_or(u64::MAX)))
}
