//! What clients read: the JSON of answers, and of what streams tell.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::amount::Amount;
use super::entry::{Event, Fill, FillSide, Side, Status};
use super::state::{Account, Order, Trade};
use super::symbol::SymbolSpec;
use super::{Exchange, FEE, News, Step};

const ZERO: Amount = Amount::ZERO;

/// The row of `GET /api/v3/order`.
pub(super) fn order(order: &Order) -> Value {
    let mut row = described(order);
    row["clientOrderId"] = json!(order.accepted.client_id);
    row["stopPrice"] = json!(ZERO);
    row["icebergQty"] = json!(ZERO);
    row["time"] = json!(order.time);
    row["updateTime"] = json!(order.updated);
    row["isWorking"] = json!(true);
    row["workingTime"] = json!(order.time);
    row
}

fn described(order: &Order) -> Value {
    let accepted = &order.accepted;
    json!({
        "symbol": accepted.symbol,
        "orderId": accepted.order_id,
        "orderListId": -1,
        "price": accepted.price,
        "origQty": accepted.quantity,
        "executedQty": order.executed,
        "origQuoteOrderQty": ZERO,
        "cummulativeQuoteQty": order.spent,
        "status": order.status,
        "timeInForce": accepted.time_in_force,
        "type": accepted.order_type,
        "side": accepted.side,
        "selfTradePreventionMode": "NONE",
    })
}

/// `ACK`.
pub(super) fn acknowledged(order: &Order, now: u64) -> Value {
    json!({
        "symbol": order.accepted.symbol,
        "orderId": order.accepted.order_id,
        "orderListId": -1,
        "clientOrderId": order.accepted.client_id,
        "transactTime": now,
    })
}

/// `RESULT`.
pub(super) fn placed(order: &Order, now: u64) -> Value {
    let mut row = described(order);
    row["clientOrderId"] = json!(order.accepted.client_id);
    row["transactTime"] = json!(now);
    row["workingTime"] = json!(order.time);
    row
}

/// `FULL`: with the fills among `events`.
pub(super) fn placed_with_fills(
    order: &Order,
    spec: &SymbolSpec,
    events: &[Event],
    now: u64,
) -> Value {
    let mut row = placed(order, now);
    let side = order.accepted.side;
    let fills = events.iter().filter_map(|event| {
        let Event::Fill(fill) = event else { return None };
        let part = match side {
            Side::Buy => fill.buyer.as_ref(),
            Side::Sell => fill.seller.as_ref(),
        };
        let part = part.filter(|part| part.order_id == order.accepted.order_id)?;
        Some(json!({
            "price": fill.price,
            "qty": fill.quantity,
            "commission": part.fee,
            "commissionAsset": got(spec, side),
            "tradeId": fill.trade_id,
        }))
    });
    row["fills"] = fills.collect();
    row
}

/// What a cancellation is answered with.
pub(super) fn cancelled(order: &Order, cancel_id: &str, now: u64) -> Value {
    let mut row = described(order);
    row["origClientOrderId"] = json!(order.accepted.client_id);
    row["clientOrderId"] = json!(cancel_id);
    row["transactTime"] = json!(now);
    row
}

/// What somebody on this side gets.
fn got(spec: &SymbolSpec, side: Side) -> &str {
    match side {
        Side::Buy => &spec.base,
        Side::Sell => &spec.quote,
    }
}

/// The rows of `GET /api/v3/myTrades` that a trade has for an account: two where it traded with itself.
pub(super) fn trades(trade: &Trade, account: &str, spec: &SymbolSpec) -> Vec<Value> {
    let fill = &trade.fill;
    let row = |side: Side, owner: &Option<String>, part: &Option<FillSide>| {
        let part = part.as_ref().filter(|_| owner.as_deref() == Some(account))?;
        let is_buyer = side == Side::Buy;
        Some(json!({
            "symbol": fill.symbol,
            "id": fill.trade_id,
            "orderId": part.order_id,
            "orderListId": -1,
            "price": fill.price,
            "qty": fill.quantity,
            "quoteQty": fill.price.times(fill.quantity),
            "commission": part.fee,
            "commissionAsset": got(spec, side),
            "time": trade.time,
            "isBuyer": is_buyer,
            "isMaker": is_buyer == fill.is_buyer_maker,
            "isBestMatch": true,
        }))
    };
    let buyer = row(Side::Buy, &trade.buyer, &fill.buyer);
    buyer.into_iter().chain(row(Side::Sell, &trade.seller, &fill.seller)).collect()
}

/// `GET /api/v3/account`.
pub(super) fn account(account: &Account, omits_nothing: bool) -> Value {
    let balances = account.balances.iter();
    let balances = balances
        .filter(|(_, balance)| !omits_nothing || balance.free > ZERO || balance.locked > ZERO);
    let balances: Value = balances
        .map(|(asset, balance)| {
            json!({ "asset": asset, "free": balance.free, "locked": balance.locked })
        })
        .collect();
    json!({
        "makerCommission": 10,
        "takerCommission": 10,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": { "maker": FEE, "taker": FEE, "buyer": ZERO, "seller": ZERO },
        "canTrade": true,
        "canWithdraw": false,
        "canDeposit": false,
        "brokered": false,
        "requireSelfTradePrevention": false,
        "updateTime": account.updated,
        "accountType": "SPOT",
        "balances": balances,
        "permissions": ["SPOT"],
    })
}

/// A row of `GET /api/v3/exchangeInfo`.
pub(super) fn symbol(spec: &SymbolSpec, open_orders_max: usize) -> Value {
    let max = super::amount::AMOUNT_MAX;
    json!({
        "symbol": spec.name,
        "status": "TRADING",
        "baseAsset": spec.base,
        "baseAssetPrecision": 8,
        "quoteAsset": spec.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "icebergAllowed": false,
        "ocoAllowed": false,
        "quoteOrderQtyMarketAllowed": false,
        "allowTrailingStop": false,
        "cancelReplaceAllowed": false,
        "isSpotTradingAllowed": true,
        "isMarginTradingAllowed": false,
        "filters": [
            { "filterType": "PRICE_FILTER", "minPrice": spec.tick, "maxPrice": max,
              "tickSize": spec.tick },
            { "filterType": "LOT_SIZE", "minQty": spec.step, "maxQty": max,
              "stepSize": spec.step },
            { "filterType": "NOTIONAL", "minNotional": spec.notional_min,
              "applyMinToMarket": false, "maxNotional": max, "applyMaxToMarket": false,
              "avgPriceMins": 0 },
            { "filterType": "MAX_NUM_ORDERS", "maxNumOrders": open_orders_max },
        ],
        "permissions": ["SPOT"],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": ["NONE"],
    })
}

impl Exchange {
    /// Tells the streams of those whom `event`, which has been applied, concerns.
    pub(super) fn tell(&self, step: &mut Step, event: &Event) {
        match event {
            Event::Order(accepted) => self.report(step, accepted.order_id, "NEW", None),
            Event::Closed { order_id, status, cancel_id } => {
                let kind = if *status == Status::Canceled { "CANCELED" } else { "EXPIRED" };
                self.report(step, *order_id, kind, cancel_id.as_deref().map(Told::CancelId));
            }
            Event::Fill(fill) => {
                for (part, side) in [(&fill.buyer, Side::Buy), (&fill.seller, Side::Sell)] {
                    let Some(part) = part else { continue };
                    let is_maker = (side == Side::Buy) == fill.is_buyer_maker;
                    self.report(
                        step,
                        part.order_id,
                        "TRADE",
                        Some(Told::Fill(fill, part, is_maker)),
                    );
                }
            }
            Event::Started { .. }
            | Event::Capabilities { .. }
            | Event::Account { .. }
            | Event::Rejected { .. }
            | Event::Session { .. } => {}
        }
    }

    fn report(&self, step: &mut Step, order_id: u64, kind: &str, told: Option<Told<'_>>) {
        // One that was filled or cancelled may be forgotten already where little is kept.
        let Some(order) = self.state.orders.get(&order_id) else { return };
        let accepted = &order.accepted;
        let spec = &self.state.markets[&accepted.symbol].spec;
        let mut message = json!({
            "e": "executionReport",
            "E": step.now,
            "s": accepted.symbol,
            "c": accepted.client_id,
            "S": accepted.side,
            "o": accepted.order_type,
            "f": accepted.time_in_force,
            "q": accepted.quantity,
            "p": accepted.price,
            "P": ZERO,
            "F": ZERO,
            "g": -1,
            "C": "",
            "x": kind,
            "X": order.status,
            "r": "NONE",
            "i": accepted.order_id,
            "l": ZERO,
            "z": order.executed,
            "L": ZERO,
            "n": ZERO,
            "N": null,
            "T": step.now,
            "t": -1,
            "I": self.state.last_entry + 1,
            "w": order.status.is_open(),
            "m": false,
            "M": false,
            "O": order.time,
            "Z": order.spent,
            "Y": ZERO,
            "Q": ZERO,
            "W": order.time,
            "V": "NONE",
        });
        match told {
            Some(Told::CancelId(id)) => {
                message["c"] = json!(id);
                message["C"] = json!(accepted.client_id);
            }
            Some(Told::Fill(fill, part, is_maker)) => {
                message["l"] = json!(fill.quantity);
                message["L"] = json!(fill.price);
                message["Y"] = json!(fill.price.times(fill.quantity));
                message["t"] = json!(fill.trade_id);
                message["n"] = json!(part.fee);
                message["N"] = json!(got(spec, accepted.side));
                message["m"] = json!(is_maker);
            }
            None => {}
        }
        step.news.push(News { account: accepted.account.clone(), message });
    }

    /// Tells those whose orders moved what they have of the symbol's assets now.
    pub(super) fn tell_balances(&self, step: &mut Step) {
        let mut touched: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for news in &step.news {
            let symbol = news.message["s"].as_str().unwrap_or_default();
            let Some(market) = self.state.markets.get(symbol) else { continue };
            let assets = touched.entry(news.account.clone()).or_default();
            assets.extend([market.spec.base.clone(), market.spec.quote.clone()]);
        }
        for (name, assets) in touched {
            let Some(account) = self.state.accounts.get(&name) else { continue };
            let balance = |asset: &String| {
                let balance = account.balances.get(asset).copied().unwrap_or_default();
                json!({ "a": asset, "f": balance.free, "l": balance.locked })
            };
            let balances: Value = assets.iter().map(balance).collect();
            let message = json!({
                "e": "outboundAccountPosition",
                "E": step.now,
                "u": account.updated,
                "B": balances,
            });
            step.news.push(News { account: name, message });
        }
    }
}

/// What more there is to tell of an order.
enum Told<'event> {
    CancelId(&'event str),
    Fill(&'event Fill, &'event FillSide, bool),
}
