//! What the exchange says, as words of the order protocol.

use serde::Deserialize;
use serde_json::Value;
use tickwright_core::domain::{
    Asset, FeeElsewhere, Instrument, Money, Price, Quantity, Refusal, Side, decimal,
};
use tickwright_core::pipeline::orders::{Answer, Found, OrderReport, TradeReport};

use super::client::{CallError, Response};

#[derive(Deserialize)]
struct Problem {
    code: i64,
    #[serde(default)]
    msg: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderAnswer {
    order_id: u64,
    client_order_id: String,
    #[serde(default)]
    executed_qty: String,
    status: String,
}

/// Here the order's own name is the original one; the other is the cancellation's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CancelAnswer {
    orig_client_order_id: String,
    #[serde(flatten)]
    order: OrderAnswer,
}

impl CancelAnswer {
    fn named(self) -> OrderAnswer {
        OrderAnswer { client_order_id: self.orig_client_order_id, ..self.order }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TradeAnswer {
    id: u64,
    order_id: u64,
    price: String,
    qty: String,
    commission: String,
    commission_asset: String,
    is_buyer: bool,
}

/// The code of an error, and what is said of it.
pub(super) fn problem(response: &Response) -> Option<(i64, String)> {
    let problem: Problem = serde_json::from_slice(&response.body).ok()?;
    Some((problem.code, problem.msg))
}

/// What came of sending an order.
pub(super) fn answer(result: &Result<Response, CallError>, instrument: &Instrument) -> Answer {
    let response = match result {
        Ok(response) => response,
        Err(CallError::NotSent(_)) => return Answer::Refused(Refusal::NotConnected),
        Err(CallError::Unknown(_)) => return Answer::Unknown { is_servers: false },
    };
    match response.status {
        200 => order(&response.body, instrument)
            .map_or(Answer::Unknown { is_servers: false }, Answer::Accepted),
        // It says that it has taken nothing.
        418 | 429 => Answer::Refused(Refusal::Unavailable),
        400..500 => match problem(response) {
            Some((-1021, _)) => Answer::Expired,
            Some((-2010, text)) if text.contains("Duplicate") => Answer::Duplicate,
            // Whether it was done is not known, whatever the status says.
            Some((-1000 | -1001 | -1006 | -1007, _)) | None => Answer::Unknown { is_servers: true },
            Some((-1002 | -1003 | -1008 | -1015, _)) => Answer::Refused(Refusal::Unavailable),
            Some(_) => Answer::Refused(Refusal::Order),
        },
        _ => Answer::Unknown { is_servers: true },
    }
}

/// What came of asking for an order.
pub(super) fn found(result: &Result<Response, CallError>, instrument: &Instrument) -> Found {
    let Ok(response) = result else { return Found::Failed };
    match response.status {
        200 => order(&response.body, instrument).map_or(Found::Failed, Found::Order),
        400 if problem(response).is_some_and(|(code, _)| code == -2013) => Found::Nothing,
        _ => Found::Failed,
    }
}

/// What came of a cancellation: the order as it is now, or that none is open.
pub(super) fn cancelled(result: &Result<Response, CallError>, instrument: &Instrument) -> Found {
    let Ok(response) = result else { return Found::Failed };
    match response.status {
        200 => serde_json::from_slice::<CancelAnswer>(&response.body)
            .ok()
            .and_then(|answer| report(&answer.named(), instrument))
            .map_or(Found::Failed, Found::Order),
        400 if problem(response).is_some_and(|(code, _)| code == -2011) => Found::Nothing,
        _ => Found::Failed,
    }
}

fn order(body: &[u8], instrument: &Instrument) -> Option<OrderReport> {
    report(&serde_json::from_slice(body).ok()?, instrument)
}

fn report(answer: &OrderAnswer, instrument: &Instrument) -> Option<OrderReport> {
    let executed = match answer.executed_qty.as_str() {
        "" => 0,
        text => decimal::parse(text.as_bytes(), instrument.quantity_decimals).ok()?,
    };
    let is_over = !matches!(
        answer.status.as_str(),
        "NEW" | "PARTIALLY_FILLED" | "PENDING_NEW" | "PENDING_CANCEL"
    );
    Some(OrderReport {
        client_id: answer.client_order_id.clone(),
        order: answer.order_id,
        symbol: instrument.symbol.clone(),
        executed: Quantity(executed),
        is_over,
    })
}

/// How an order stands, as the exchange tells it by itself.
#[derive(Debug)]
pub struct ToldOrder {
    /// What the exchange calls the instrument.
    pub(super) name: String,
    order: OrderAnswer,
}

impl ToldOrder {
    /// The same as the order protocol knows it; none, if it is not understood.
    pub(super) fn report(&self, instrument: &Instrument) -> Option<OrderReport> {
        report(&self.order, instrument)
    }
}

/// What of a message on an account's stream is about an order.
pub(super) fn told(message: &[u8]) -> Option<ToldOrder> {
    let value: Value = serde_json::from_slice(message).ok()?;
    if value["e"] != "executionReport" {
        return None;
    }
    let text = |name: &str| Some(value[name].as_str()?.to_owned());
    // Of a cancellation `c` is its own name, and `C` the order's.
    let original = text("C").filter(|name| !name.is_empty());
    let client_order_id = match original {
        Some(original) => original,
        None => text("c")?,
    };
    let order = OrderAnswer {
        order_id: value["i"].as_u64()?,
        client_order_id,
        executed_qty: text("z")?,
        status: text("X")?,
    };
    Some(ToldOrder { name: text("s")?, order })
}

/// Orders, oldest first; none, if that is not what was said.
pub(super) fn orders(
    result: &Result<Response, CallError>,
    instrument: &Instrument,
) -> Option<Vec<OrderReport>> {
    let response = result.as_ref().ok().filter(|response| response.status == 200)?;
    let answers: Vec<OrderAnswer> = serde_json::from_slice(&response.body).ok()?;
    answers.iter().map(|answer| report(answer, instrument)).collect()
}

/// Trades, oldest first; none, if that is not what was said.
pub(super) fn trades(
    result: &Result<Response, CallError>,
    instrument: &Instrument,
) -> Option<Vec<TradeReport>> {
    let response = result.as_ref().ok().filter(|response| response.status == 200)?;
    let answers: Vec<TradeAnswer> = serde_json::from_slice(&response.body).ok()?;
    let mut trades: Vec<TradeReport> =
        answers.iter().map(|answer| trade(answer, instrument)).collect::<Option<_>>()?;
    trades.sort_by_key(|trade| trade.trade);
    Some(trades)
}

fn trade(answer: &TradeAnswer, instrument: &Instrument) -> Option<TradeReport> {
    let price = Price(decimal::parse(answer.price.as_bytes(), instrument.price_decimals).ok()?);
    let quantity = decimal::parse(answer.qty.as_bytes(), instrument.quantity_decimals).ok()?;
    let (fee, fee_elsewhere) = fee(answer, price, instrument)?;
    Some(TradeReport {
        trade: answer.id,
        order: answer.order_id,
        symbol: instrument.symbol.clone(),
        side: if answer.is_buyer { Side::Buy } else { Side::Sell },
        quantity: Quantity(quantity),
        price,
        fee,
        fee_elsewhere,
    })
}

/// What a trade cost, in the instrument's currency. What was taken in the thing that was bought is worth
/// what was paid for it; what a third one is worth is not known here, so that is told by itself.
fn fee(
    answer: &TradeAnswer,
    price: Price,
    instrument: &Instrument,
) -> Option<(Money, Option<FeeElsewhere>)> {
    let paid = Money::parse(&answer.commission).ok()?;
    if answer.commission_asset == instrument.currency {
        return Some((paid, None));
    }
    let name = name_of(instrument);
    if name.strip_suffix(&instrument.currency) != Some(&answer.commission_asset) {
        let asset = Asset::new(&answer.commission_asset).filter(|_| paid != Money::ZERO);
        let elsewhere = asset.map(|asset| FeeElsewhere { asset, amount: paid });
        return Some((Money::ZERO, elsewhere));
    }
    let scale = 10i128.pow(u32::from(instrument.price_decimals));
    Some((Money(paid.0.checked_mul(i128::from(price.0))? / scale), None))
}

/// What the exchange calls an instrument: its name without the venue.
pub(super) fn name_of(instrument: &Instrument) -> &str {
    let name = instrument.symbol.as_str();
    name.split_once('.').map_or(name, |(name, _)| name)
}

/// The time that the exchange tells, in milliseconds; none, if that is not what was said.
pub(super) fn time(result: &Result<Response, CallError>) -> Option<u64> {
    let response = result.as_ref().ok().filter(|response| response.status == 200)?;
    let value: Value = serde_json::from_slice(&response.body).ok()?;
    value.get("serverTime")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickwright_core::domain::{Instruments, Symbol};

    /// What a trade of two at 100 cost, when so much of `asset` was taken.
    fn fee_in(asset: &str, commission: &str) -> (Money, Option<FeeElsewhere>) {
        let instrument =
            Instruments::default().resolve(&Symbol::new("ABCUSDT.BINANCE_SPOT").unwrap());
        let trade = serde_json::json!([{
            "id": 1, "orderId": 2, "price": "100", "qty": "2", "commission": commission,
            "commissionAsset": asset, "isBuyer": true,
        }]);
        let response = Response { status: 200, body: trade.to_string().into_bytes().into() };
        let trades = trades(&Ok(response), &instrument).unwrap();
        (trades[0].fee, trades[0].fee_elsewhere)
    }

    #[test]
    fn a_fee_in_a_third_asset_is_told_by_itself() {
        let money = |text: &str| Money::parse(text).unwrap();
        assert_eq!(fee_in("USDT", "0.2"), (money("0.2"), None));
        assert_eq!(fee_in("ABC", "0.002"), (money("0.2"), None), "at the price of the trade");
        let asset = Asset::new("BNB").unwrap();
        let elsewhere = FeeElsewhere { asset, amount: money("0.0004") };
        assert_eq!(fee_in("BNB", "0.0004"), (Money::ZERO, Some(elsewhere)));
        assert_eq!(fee_in("BNB", "0"), (Money::ZERO, None));
    }
}
