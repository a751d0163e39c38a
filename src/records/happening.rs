//! What happens, and the row that tells of it.

use std::sync::Arc;

use super::{Day, Row, Table, Value};
use crate::domain::{
    AccountId, BrokerId, FactorBatch, Fill, Instrument, Kind, Money, Order, OrderId, Position,
    Price, Quantity, Side, StrategyId, Symbol, TickBatch, Timestamp,
};

/// Something that is to be written down.
#[derive(Clone, Debug)]
pub enum Happening {
    /// An order left risk.
    Order(Order, Arc<Instrument>),
    /// It is over; so much of it did not trade.
    OrderEnded(OrderId, Quantity, Arc<Instrument>, Timestamp),
    /// It traded.
    Fill {
        /// What traded.
        fill: Fill,
        /// In what.
        instrument: Arc<Instrument>,
        /// When it took effect.
        at: Timestamp,
        /// What it realised, before fees.
        realised: Money,
        /// What is held after it.
        position: Quantity,
    },
    /// What an account holds.
    Position {
        /// Who.
        account: AccountId,
        /// Of what.
        instrument: Arc<Instrument>,
        /// What.
        position: Position,
        /// Paid so far.
        fees: Money,
        /// How often it traded.
        fills: u64,
        /// Since when.
        at: Timestamp,
    },
}

/// Something that happened, and its place in exec's final order: the same in every run alike.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Counts from 1.
    pub number: u64,
    /// What.
    pub happening: Happening,
}

/// What numbers stand for in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Tells a run from all others.
    pub run: String,
    /// By [`StrategyId`].
    pub strategies: Vec<String>,
    /// By [`AccountId`].
    pub accounts: Vec<String>,
    /// By [`BrokerId`].
    pub brokers: Vec<String>,
}

fn named(names: &[String], place: usize) -> Value {
    let name = names.get(place).cloned();
    Value::Text(name.unwrap_or_else(|| place.to_string()))
}

fn side(side: Side) -> Value {
    Value::Text(match side {
        Side::Buy => "buy".into(),
        Side::Sell => "sell".into(),
    })
}

fn time(at: Timestamp) -> Value {
    Value::unsigned(at.as_nanos())
}

fn money(amount: Money) -> Value {
    Value::decimal(&amount.to_string())
}

/// The name of an order, the same in every run alike: its signal's key, and its place there.
fn order_id(id: OrderId) -> Value {
    Value::Text(format!("{}/{}", id.key, id.ordinal))
}

impl Names {
    fn strategy(&self, id: StrategyId) -> Value {
        named(&self.strategies, usize::from(id.0))
    }

    fn account(&self, id: AccountId) -> Value {
        named(&self.accounts, usize::from(id.0))
    }

    fn broker(&self, id: BrokerId) -> Value {
        named(&self.brokers, usize::from(id.0))
    }

    fn run(&self) -> Value {
        Value::Text(self.run.clone())
    }

    /// The row that tells of `happened`.
    pub fn row(&self, happened: &Numbered) -> Row {
        let number = Value::unsigned(happened.number);
        let symbol = |instrument: &Instrument| Value::Text(instrument.symbol.to_string());
        match &happened.happening {
            Happening::Order(order, instrument) => Row {
                table: Table::Orders,
                values: vec![
                    self.run(),
                    order_id(order.id),
                    number,
                    time(order.id.key.frontier),
                    self.strategy(order.strategy),
                    self.account(order.account),
                    symbol(instrument),
                    side(order.side),
                    Value::Text(instrument.format_quantity(order.quantity)),
                    Value::Text(instrument.format_price(order.limit_price)),
                    Value::Integer(i64::from(order.reduce_only)),
                ],
            },
            Happening::OrderEnded(id, remaining, instrument, at) => Row {
                table: Table::OrderEnds,
                values: vec![
                    self.run(),
                    order_id(*id),
                    number,
                    time(*at),
                    Value::Text(instrument.format_quantity(*remaining)),
                ],
            },
            Happening::Fill { fill, instrument, at, realised, position } => Row {
                table: Table::Fills,
                values: vec![
                    self.run(),
                    order_id(fill.order),
                    self.broker(fill.broker),
                    Value::unsigned(fill.trade_id),
                    number,
                    time(*at),
                    self.account(fill.account),
                    symbol(instrument),
                    side(fill.side),
                    Value::Text(instrument.format_quantity(fill.quantity)),
                    Value::Text(instrument.format_price(fill.price)),
                    money(fill.fee),
                    money(*realised),
                    Value::Text(instrument.format_quantity(*position)),
                ],
            },
            Happening::Position { account, instrument, position, fees, fills, at } => Row {
                table: Table::Positions,
                values: vec![
                    self.run(),
                    self.account(*account),
                    symbol(instrument),
                    number,
                    time(*at),
                    Value::Text(instrument.currency.clone()),
                    Value::Text(instrument.format_quantity(position.quantity)),
                    money(position.cost),
                    money(position.realised),
                    money(*fees),
                    Value::unsigned(*fills),
                ],
            },
        }
    }

    /// What the factors of `symbol` came to with row `index` of `batch`: those that have seen enough, by name, as
    /// an object of JSON.
    pub fn factors(&self, batch: &FactorBatch, index: usize, symbol: &Symbol) -> Option<Row> {
        let row = batch.rows.get(index)?;
        let values = batch.layout.columns.iter().zip(batch.values_of(index));
        let known = values.filter(|(_, value)| value.is_finite());
        let object: serde_json::Map<String, serde_json::Value> =
            known.map(|(factor, &value)| (factor.to_string(), value.into())).collect();
        Some(Row {
            table: Table::Factors(Day::of(row.key.frontier)),
            values: vec![
                self.run(),
                Value::Integer(i64::from(row.key.source.0)),
                Value::unsigned(row.key.sequence),
                Value::Text(symbol.to_string()),
                time(row.key.frontier),
                Value::Text(if row.is_boundary { "window" } else { "tick" }.into()),
                Value::Float(row.price),
                Value::Text(serde_json::Value::Object(object).to_string()),
            ],
        })
    }

    /// The row of a clean tick; none of a boundary, which is no event of the market.
    pub fn tick(&self, batch: &TickBatch, row: usize, instrument: &Instrument) -> Option<Row> {
        let tick = batch.rows.get(row)?;
        let kind = match tick.kind() {
            Kind::Trade => "trade",
            Kind::Quote => "quote",
            Kind::Snapshot => "snapshot",
            Kind::Boundary => return None,
        };
        let key = batch.key(tick);
        let price = |price: Option<Price>| {
            price.map_or(Value::Null, |price| Value::Text(instrument.format_price(price)))
        };
        let quantity = |quantity: Option<Quantity>| {
            quantity.map_or(Value::Null, |it| Value::Text(instrument.format_quantity(it)))
        };
        Some(Row {
            table: Table::Ticks(Day::of(key.frontier)),
            values: vec![
                self.run(),
                Value::Integer(i64::from(key.source.0)),
                Value::unsigned(key.sequence),
                time(key.frontier),
                Value::Text(instrument.symbol.to_string()),
                Value::Text(kind.into()),
                price(tick.price()),
                quantity(tick.volume()),
                price(tick.bid()),
                price(tick.ask()),
                quantity(tick.bid_quantity()),
                quantity(tick.ask_quantity()),
            ],
        })
    }
}

/// The row of a deed: something an operator, or a node, did.
pub fn audit_row(
    node: &str,
    incarnation: u64,
    number: u64,
    at: Timestamp,
    (deed, detail): (&str, &str),
) -> Row {
    Row {
        table: Table::Audit,
        values: vec![
            Value::Text(node.into()),
            Value::unsigned(incarnation),
            Value::unsigned(number),
            time(at),
            Value::Text(deed.into()),
            Value::Text(detail.into()),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{InstrumentIndex, Instruments, Key, SourceId, Symbol};

    fn instrument() -> Arc<Instrument> {
        Arc::new(Instruments::default().resolve(&Symbol::new("X.OANDA").unwrap()))
    }

    fn id() -> OrderId {
        let key = Key { frontier: Timestamp::from_nanos(7), source: SourceId(2), sequence: 9 };
        OrderId { key, ordinal: 1 }
    }

    #[test]
    fn an_order_is_named_by_its_signal_and_its_numbers_by_the_configuration() {
        let order = Order {
            id: id(),
            strategy: StrategyId(0),
            account: AccountId(3),
            instrument: InstrumentIndex(0),
            side: Side::Sell,
            quantity: Quantity(150_000_000),
            limit_price: Price(110_000_000),
            reduce_only: true,
            reduces: true,
        };
        let names = Names { run: "r".into(), strategies: vec!["s".into()], ..Names::default() };
        let happening = Happening::Order(order, instrument());
        let row = names.row(&Numbered { number: 5, happening });
        let text = |text: &str| Value::Text(text.into());
        let expected = [
            text("r"),
            text("7/2/9/1"),
            Value::Integer(5),
            Value::Integer(7),
            text("s"),
            text("3"),
            text("X.OANDA"),
            text("sell"),
            text("1.5"),
            text("1.1"),
            Value::Integer(1),
        ];
        assert_eq!(row, Row { table: Table::Orders, values: expected.to_vec() });
    }

    #[test]
    fn every_row_has_a_value_for_each_column_of_its_table() {
        let names = Names::default();
        let position = Position::default();
        let at = Timestamp::from_nanos(1);
        let happenings = [
            Happening::OrderEnded(id(), Quantity(0), instrument(), at),
            Happening::Position {
                account: AccountId(0),
                instrument: instrument(),
                position,
                fees: Money::ZERO,
                fills: 1,
                at,
            },
        ];
        for happening in happenings {
            let row = names.row(&Numbered { number: 1, happening });
            assert_eq!(row.values.len(), row.table.columns().len(), "{row:?}");
        }
        let row = audit_row("n", 1, 2, at, ("drain", "node-2"));
        assert_eq!(row.values.len(), row.table.columns().len());
    }
}
