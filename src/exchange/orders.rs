//! Orders: placed, matched, cancelled.

use serde_json::Value;

use super::amount::Amount;
use super::answer;
use super::entry::{Accepted, Event, Fill, FillSide, OrderType, Side, Status, TimeInForce};
use super::error::ApiError;
use super::outside::Outside;
use super::parameters::Parameters;
use super::state::Order;
use super::{CLIENT_IDS_MAX, Dedup, Exchange, FEE, Outcome, RECV_WINDOW_DEFAULT, Step};

/// Somebody to trade with.
#[derive(Clone, Copy, Debug)]
struct Counter {
    /// The order that waits; none is the outside market.
    maker: Option<u64>,
    price: Amount,
    quantity: Amount,
}

/// How much an order's answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseType {
    Ack,
    Result,
    Full,
}

/// What `POST /api/v3/order` reads.
const KNOWN: [&str; 8] = [
    "symbol",
    "side",
    "type",
    "timeInForce",
    "quantity",
    "price",
    "newClientOrderId",
    "newOrderRespType",
];

impl Exchange {
    pub(super) fn place(
        &mut self,
        name: &str,
        parameters: &Parameters,
        step: &mut Step,
    ) -> Result<Value, ApiError> {
        let (accepted, wanted) = self.read_order(name, parameters)?;
        self.check_identity(&accepted)?;
        let open = self.state.accounts.get(name).map_or(0, |account| account.open.len());
        if open >= self.state.bounds().open_orders_max {
            return Err(ApiError::filter("MAX_NUM_ORDERS"));
        }
        let is_market = accepted.order_type == OrderType::Market;
        let limit = (!is_market).then_some(accepted.price);
        let counters = self.counters(&accepted.symbol, accepted.side, limit, accepted.quantity);
        self.check_balance(&accepted, &counters)?;

        let (id, symbol) = (accepted.order_id, accepted.symbol.clone());
        let (side, time_in_force) = (accepted.side, accepted.time_in_force);
        let quantity = accepted.quantity;
        self.emit(step, Event::Order(accepted));
        let there = counters.iter().fold(Amount::ZERO, |sum, counter| sum + counter.quantity);
        if time_in_force != TimeInForce::Fok || there == quantity {
            for counter in counters {
                self.trade(&symbol, side, id, counter, step);
            }
        }
        let is_open = self.state.orders.get(&id).is_some_and(|order| order.status.is_open());
        if is_open && time_in_force != TimeInForce::Gtc {
            let event = Event::Closed { order_id: id, status: Status::Expired, cancel_id: None };
            self.emit(step, event);
        }
        self.updates += 1;
        let order = self.state.orders.get(&id).ok_or_else(|| ApiError::of_code(-1000, 500))?;
        let spec = &self.state.markets[&symbol].spec;
        Ok(match wanted {
            ResponseType::Ack => answer::acknowledged(order, step.now),
            ResponseType::Result => answer::placed(order, step.now),
            ResponseType::Full => answer::placed_with_fills(order, spec, &step.events, step.now),
        })
    }

    /// What the request says, with everything checked that is of the request alone.
    fn read_order(
        &self,
        name: &str,
        parameters: &Parameters,
    ) -> Result<(Accepted, ResponseType), ApiError> {
        let symbol = parameters.required("symbol")?;
        let spec = &self.state.markets.get(symbol).ok_or_else(no_such_symbol)?.spec;
        let side = match parameters.required("side")? {
            "BUY" => Side::Buy,
            "SELL" => Side::Sell,
            _ => return Err(ApiError::new(-1117, "Invalid side.")),
        };
        let order_type = match parameters.required("type")? {
            "LIMIT" => OrderType::Limit,
            "MARKET" => OrderType::Market,
            _ => return Err(ApiError::new(-1116, "Invalid orderType.")),
        };
        if parameters.text("quoteOrderQty")?.is_some() {
            let message = "Quote order qty market orders are not support for this symbol.";
            return Err(ApiError::rejected(message));
        }
        let (time_in_force, price) = match order_type {
            OrderType::Market => {
                parameters.without(&["price", "timeInForce"])?;
                (TimeInForce::Ioc, Amount::ZERO)
            }
            OrderType::Limit => {
                let time_in_force = match parameters.required("timeInForce")? {
                    "GTC" => TimeInForce::Gtc,
                    "IOC" => TimeInForce::Ioc,
                    "FOK" => TimeInForce::Fok,
                    _ => return Err(ApiError::new(-1115, "Invalid timeInForce.")),
                };
                (time_in_force, parameters.amount("price")?)
            }
        };
        let wanted = match parameters.text("newOrderRespType")? {
            None | Some("FULL") => ResponseType::Full,
            Some("ACK") => ResponseType::Ack,
            Some("RESULT") => ResponseType::Result,
            Some(_) => {
                let message = "Data sent for parameter 'newOrderRespType' is not valid.";
                return Err(ApiError::new(-1130, message));
            }
        };
        let quantity = parameters.amount("quantity")?;
        let client_id = parameters.client_id("newClientOrderId")?;
        parameters.only(&KNOWN)?;
        let is_priced = order_type == OrderType::Limit;
        if is_priced && (price == Amount::ZERO || !price.is_multiple_of(spec.tick)) {
            return Err(ApiError::filter("PRICE_FILTER"));
        }
        if quantity == Amount::ZERO || !quantity.is_multiple_of(spec.step) {
            return Err(ApiError::filter("LOT_SIZE"));
        }
        if is_priced && price.times(quantity) < spec.notional_min {
            return Err(ApiError::filter("NOTIONAL"));
        }
        let order_id = self.state.last_order_id + 1;
        let accepted = Accepted {
            account: name.to_owned(),
            symbol: symbol.to_owned(),
            side,
            order_type,
            time_in_force,
            price,
            quantity,
            client_id: client_id.map_or_else(|| format!("exchange-{order_id}"), str::to_owned),
            order_id,
            timestamp: parameters.number("timestamp")?.unwrap_or_default(),
            recv_window: parameters.number("recvWindow")?.unwrap_or(RECV_WINDOW_DEFAULT),
            session: parameters.number("session")?,
            extra: parameters.extra(),
        };
        Ok((accepted, wanted))
    }

    /// That the client's id may be used, as far as this exchange cares.
    fn check_identity(&self, accepted: &Accepted) -> Result<(), ApiError> {
        let (name, id) = (&accepted.account, &accepted.client_id);
        let is_known = match self.capabilities.dedup {
            Dedup::All => self.state.judge.accepted(name, id) > 0,
            Dedup::Open => {
                let last = self.state.by_client_id(name, id);
                last.is_some_and(|order| order.status.is_open())
            }
            Dedup::None => false,
        };
        if is_known {
            return Err(ApiError::rejected("Duplicate order sent."));
        }
        if self.state.judge.id_count() >= CLIENT_IDS_MAX {
            return Err(ApiError::of_code(-1015, 429));
        }
        Ok(())
    }

    fn check_balance(&self, accepted: &Accepted, counters: &[Counter]) -> Result<(), ApiError> {
        let spec = &self.state.markets[&accepted.symbol].spec;
        let (asset, needed) = match (accepted.side, accepted.order_type) {
            (Side::Sell, _) => (&spec.base, accepted.quantity),
            (Side::Buy, OrderType::Limit) => (&spec.quote, accepted.price.times(accepted.quantity)),
            (Side::Buy, OrderType::Market) => {
                let cost = |counter: &Counter| counter.price.times(counter.quantity);
                let cost = counters.iter().map(cost).fold(Amount::ZERO, |sum, part| sum + part);
                (&spec.quote, cost)
            }
        };
        let account = self.state.accounts.get(&accepted.account);
        let balance = account.and_then(|account| account.balances.get(asset));
        if balance.is_none_or(|balance| balance.free < needed) {
            return Err(ApiError::of_code(-2010, 400));
        }
        Ok(())
    }

    /// Whom an order would trade with, in order, and how much with each.
    fn counters(
        &self,
        symbol: &str,
        side: Side,
        limit: Option<Amount>,
        quantity: Amount,
    ) -> Vec<Counter> {
        let is_within = |price: Amount| match (limit, side) {
            (None, _) => true,
            (Some(limit), Side::Buy) => price <= limit,
            (Some(limit), Side::Sell) => price >= limit,
        };
        let is_better = |a: Amount, b: Amount| match side {
            Side::Buy => a <= b,
            Side::Sell => a >= b,
        };
        let other = side.other();
        let orders = self.state.markets[symbol].waiting(other);
        let mut orders = orders.filter_map(|(price, id)| {
            let quantity = self.state.orders.get(&id)?.remaining();
            Some(Counter { maker: Some(id), price, quantity })
        });
        let outside = self.outside.get(symbol).map_or(&[][..], |outside| outside.side(other));
        let mut levels = outside.iter().map(|level| Counter {
            maker: None,
            price: level.price,
            quantity: level.quantity,
        });
        let (mut order, mut level) = (orders.next(), levels.next());
        let (mut left, mut counters) = (quantity, Vec::new());
        while left > Amount::ZERO {
            let next = match (&order, &level) {
                // At one price, accounts come first.
                (Some(order), Some(level)) if is_better(order.price, level.price) => Some(*order),
                (Some(order), None) => Some(*order),
                (_, level) => *level,
            };
            let Some(mut next) = next.filter(|next| is_within(next.price)) else { break };
            if next.maker.is_some() {
                order = orders.next();
            } else {
                level = levels.next();
            }
            next.quantity = next.quantity.min(left);
            left -= next.quantity;
            counters.push(next);
        }
        counters
    }

    /// Lets an order that has just come trade with one that waits, at the price of the latter.
    fn trade(&mut self, symbol: &str, side: Side, taker: u64, counter: Counter, step: &mut Step) {
        let Counter { maker, price, quantity } = counter;
        let part = |order_id: u64, side: Side| {
            let got = match side {
                Side::Buy => quantity,
                Side::Sell => price.times(quantity),
            };
            Some(FillSide { order_id, fee: got.times(FEE) })
        };
        let taken = part(taker, side);
        let made = maker.and_then(|maker| part(maker, side.other()));
        if maker.is_none()
            && let Some(outside) = self.outside.get_mut(symbol)
        {
            outside.take(side.other(), price, quantity);
        }
        let (buyer, seller) = match side {
            Side::Buy => (taken, made),
            Side::Sell => (made, taken),
        };
        self.fill(symbol, price, quantity, (buyer, seller), side == Side::Sell, step);
    }

    fn fill(
        &mut self,
        symbol: &str,
        price: Amount,
        quantity: Amount,
        (buyer, seller): (Option<FillSide>, Option<FillSide>),
        is_buyer_maker: bool,
        step: &mut Step,
    ) {
        let trade_id = self.state.markets[symbol].last_trade_id + 1;
        let symbol = symbol.to_owned();
        let fill = Fill { symbol, trade_id, price, quantity, buyer, seller, is_buyer_maker };
        self.emit(step, Event::Fill(fill));
    }

    /// The market outside is now like this: orders that wait are filled at their limits, as far as it
    /// goes.
    pub fn on_market(&mut self, symbol: &str, outside: Outside, now: u64) -> Outcome {
        let mut step = Step::new(now);
        self.updates += 1;
        self.outside.insert(symbol.to_owned(), outside);
        for side in [Side::Buy, Side::Sell] {
            while let Some((id, price, quantity)) = self.reached(symbol, side) {
                let got = match side {
                    Side::Buy => quantity,
                    Side::Sell => price.times(quantity),
                };
                let part = Some(FillSide { order_id: id, fee: got.times(FEE) });
                let parts = match side {
                    Side::Buy => (part, None),
                    Side::Sell => (None, part),
                };
                self.fill(symbol, price, quantity, parts, side == Side::Buy, &mut step);
            }
        }
        self.finish(step, Ok(Value::Null))
    }

    /// The first waiting order that the outside market has reached, with how much of it; that is taken
    /// from the market.
    fn reached(&mut self, symbol: &str, side: Side) -> Option<(u64, Amount, Amount)> {
        let (price, id) = self.state.markets.get(symbol)?.waiting(side).next()?;
        let outside = self.outside.get_mut(symbol)?;
        let level = *outside.side(side.other()).first()?;
        let is_reached = match side {
            Side::Buy => level.price <= price,
            Side::Sell => level.price >= price,
        };
        if !is_reached {
            return None;
        }
        let quantity = self.state.orders.get(&id)?.remaining().min(level.quantity);
        outside.take(side.other(), level.price, quantity);
        Some((id, price, quantity))
    }

    pub(super) fn cancel(
        &mut self,
        name: &str,
        parameters: &Parameters,
        step: &mut Step,
    ) -> Result<Value, ApiError> {
        parameters.only(&["symbol", "orderId", "origClientOrderId", "newClientOrderId"])?;
        let cancel_id = parameters.client_id("newClientOrderId")?.map(str::to_owned);
        let order = self.find_order(name, parameters)?.filter(|order| order.status.is_open());
        let order = order.ok_or_else(|| ApiError::of_code(-2011, 400))?;
        Ok(self.close(order.accepted.order_id, cancel_id, step))
    }

    pub(super) fn cancel_all(
        &mut self,
        name: &str,
        parameters: &Parameters,
        step: &mut Step,
    ) -> Result<Value, ApiError> {
        parameters.only(&["symbol"])?;
        let symbol = self.symbol(parameters)?;
        let account = self.state.accounts.get(name);
        let open = account.into_iter().flat_map(|account| &account.open).copied();
        let is_of = |id: &u64| self.state.orders[id].accepted.symbol == symbol;
        let open: Vec<u64> = open.filter(is_of).collect();
        if open.is_empty() {
            return Err(ApiError::of_code(-2011, 400));
        }
        Ok(open.into_iter().map(|id| self.close(id, None, step)).collect())
    }

    fn close(&mut self, id: u64, cancel_id: Option<String>, step: &mut Step) -> Value {
        let cancel_id = cancel_id.unwrap_or_else(|| format!("exchange-cancel-{id}"));
        let status = Status::Canceled;
        let event = Event::Closed { order_id: id, status, cancel_id: Some(cancel_id.clone()) };
        let mut order = self.state.orders.get(&id).cloned();
        self.emit(step, event);
        self.updates += 1;
        // It may be forgotten already where little is kept.
        if let Some(order) = &mut order {
            (order.status, order.updated) = (status, step.now);
        }
        order.map(|order| answer::cancelled(&order, &cancel_id, step.now)).unwrap_or_default()
    }

    /// The account's order that `orderId` or `origClientOrderId` names, if there is one.
    pub(super) fn find_order(
        &self,
        name: &str,
        parameters: &Parameters,
    ) -> Result<Option<&Order>, ApiError> {
        let symbol = self.symbol(parameters)?;
        let found = match (parameters.number("orderId")?, parameters.text("origClientOrderId")?) {
            (Some(id), _) => self.state.orders.get(&id),
            (None, Some(client_id)) => self.state.by_client_id(name, client_id),
            (None, None) => {
                let message = "Param 'origClientOrderId' or 'orderId' must be sent, but both were \
                               empty/null!";
                return Err(ApiError::new(-1102, message));
            }
        };
        let is_own =
            |order: &&Order| order.accepted.account == name && order.accepted.symbol == symbol;
        Ok(found.filter(is_own))
    }

    /// The symbol that is named; it must be one.
    pub(super) fn symbol<'request>(
        &self,
        parameters: &'request Parameters,
    ) -> Result<&'request str, ApiError> {
        let symbol = parameters.required("symbol")?;
        if self.state.markets.contains_key(symbol) { Ok(symbol) } else { Err(no_such_symbol()) }
    }
}

pub(super) fn no_such_symbol() -> ApiError {
    ApiError::new(-1121, "Invalid symbol.")
}
