//! What a database says that was traded, judged by the exchange that it was traded at.
#![allow(dead_code, reason = "every test file uses another part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use tickwright::records::database::{Database, DatabaseSettings, DatabaseUrl};
use tickwright_core::domain::{
    ClientOrderId, Key, OrderId, SignalIdentity, SignalTag, SourceId, Symbol, Timestamp,
};
use tickwright_core::records::{Row, Table, Value};

use crate::market::Market;
use crate::processes::PATIENCE;

/// What a run is called, as signals name it.
const RUN: &str = "main";

/// Everything that exec has recorded, by table.
struct Recorded(BTreeMap<Table, Vec<Row>>);

fn text_of(row: &Row, column: &str) -> String {
    match &row.values[row.table.place(column).unwrap()] {
        Value::Text(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        other @ (Value::Null | Value::Float(_)) => panic!("{column} is {other:?}: {row:?}"),
    }
}

fn amount(row: &Row, column: &str) -> f64 {
    text_of(row, column).parse().unwrap()
}

/// The symbol as the exchange calls it.
fn symbol_of(row: &Row) -> String {
    text_of(row, "symbol").split('.').next().unwrap().to_owned()
}

/// A quantity that can be compared.
fn steps(quantity: f64) -> i64 {
    // Steps of the exchange are whole.
    format!("{quantity:.0}").parse().unwrap()
}

/// What stands for the signal of a recorded order in its names at an exchange.
fn tag_of(order: &Row) -> SignalTag {
    let id = text_of(order, "order_id");
    let numbers: Vec<u64> = id.split('/').map(|part| part.parse().unwrap()).collect();
    let [frontier, source, sequence, ordinal] = numbers[..] else { panic!("{id}") };
    let signal = SignalIdentity {
        run: RUN.to_owned(),
        strategy: text_of(order, "strategy"),
        symbol: Symbol::new(&text_of(order, "symbol")).unwrap(),
        id: OrderId {
            key: Key {
                frontier: Timestamp::from_nanos(frontier),
                source: SourceId(u16::try_from(source).unwrap()),
                sequence,
            },
            ordinal: u32::try_from(ordinal).unwrap(),
        },
    };
    signal.tag()
}

impl Recorded {
    async fn of(url: &str) -> Option<Self> {
        let settings = DatabaseSettings {
            url: DatabaseUrl::parse(url).unwrap(),
            connections_max: 1,
            timeout: Duration::from_secs(5),
            days_max: 2,
        };
        let database = Database::open(settings).await.ok()?;
        let mut found = BTreeMap::new();
        for table in [Table::Orders, Table::OrderEnds, Table::Fills, Table::Positions] {
            found.insert(table, database.page(table, None, 100_000).await.ok()?);
        }
        database.close().await;
        Some(Self(found))
    }

    /// What is not as the exchange has it; nothing, if all is.
    fn differs(&self, market: &Market) -> Option<String> {
        let rows = |table: Table| &self.0[&table];
        let by_order: BTreeMap<String, &Row> =
            rows(Table::Orders).iter().map(|row| (text_of(row, "order_id"), row)).collect();
        if by_order.len() != rows(Table::Orders).len() {
            return Some("an order is there by two runs".into());
        }
        // Everything that was accepted is an order.
        let tags: BTreeSet<SignalTag> = rows(Table::Orders).iter().map(tag_of).collect();
        let accepted = market.judge_twice();
        let is_recorded =
            |name: &&String| tags.contains(&ClientOrderId::tag_in(name).expect("a name of ours"));
        if let Some(missing) = accepted.iter().find(|name| !is_recorded(name)) {
            return Some(format!("order {missing} is not recorded"));
        }
        // Everything that was traded is a fill, once.
        let mut fills: BTreeMap<(String, String, String, i64), i64> = BTreeMap::new();
        for row in rows(Table::Fills) {
            let (side, price) = (text_of(row, "side"), format!("{:.2}", amount(row, "price")));
            let key = (symbol_of(row), side, price, steps(amount(row, "quantity")));
            *fills.entry(key).or_default() += 1;
            if !by_order.contains_key(&text_of(row, "order_id")) {
                return Some(format!("no order has this fill: {row:?}"));
            }
        }
        for fill in market.events().iter().filter(|event| event["event"] == "fill") {
            let number = |name: &str| fill[name].as_str().unwrap().parse::<f64>().unwrap();
            let side = if fill["buyer"].is_null() { "sell" } else { "buy" };
            let (symbol, price) = (fill["symbol"].as_str().unwrap(), number("price"));
            let quantity = steps(number("quantity"));
            let key = (symbol.to_owned(), side.to_owned(), format!("{price:.2}"), quantity);
            *fills.entry(key).or_default() -= 1;
        }
        fills.retain(|_, excess| *excess != 0);
        if !fills.is_empty() {
            return Some(format!("fills more than were traded, or fewer: {fills:?}"));
        }
        // Everything is over, and says how much of it did not trade.
        let mut traded: BTreeMap<String, i64> = BTreeMap::new();
        let mut held: BTreeMap<String, (i64, u64)> = BTreeMap::new();
        for row in rows(Table::Fills) {
            let quantity = steps(amount(row, "quantity"));
            *traded.entry(text_of(row, "order_id")).or_default() += quantity;
            let (held, count) = held.entry(symbol_of(row)).or_default();
            *held += if text_of(row, "side") == "buy" { quantity } else { -quantity };
            *count += 1;
        }
        let ends: BTreeMap<String, &Row> =
            rows(Table::OrderEnds).iter().map(|row| (text_of(row, "order_id"), row)).collect();
        for (id, order) in &by_order {
            let remains = steps(amount(order, "quantity")) - traded.get(id).unwrap_or(&0);
            let end = ends.get(id).map(|end| steps(amount(end, "remaining")));
            // What has traded whole is over by that.
            if end.unwrap_or(0) != remains {
                let tag = Some(tag_of(order));
                let name = accepted.iter().find(|name| ClientOrderId::tag_in(name) == tag);
                return Some(format!(
                    "of {id}, {remains} did not trade, and it ends with {end:?}; it is {name:?} at the \
                     exchange: {order:?}"
                ));
            }
        }
        // A position is what its fills come to.
        let positions: BTreeMap<String, (i64, u64)> = rows(Table::Positions)
            .iter()
            .map(|row| {
                let fills = text_of(row, "fills").parse().unwrap();
                (symbol_of(row), (steps(amount(row, "quantity")), fills))
            })
            .collect();
        (positions != held)
            .then(|| format!("positions are {positions:?}, and fills come to {held:?}"))
    }
}

/// That everything which was traded comes to be recorded at `url`, once. Returns how many orders there are.
pub(crate) async fn assert_recorded(url: &str, market: &Market) -> usize {
    let begun = Instant::now();
    loop {
        let recorded = Recorded::of(url).await;
        let differs = match &recorded {
            Some(recorded) => recorded.differs(market),
            None => Some("the database does not answer".into()),
        };
        match (differs, recorded) {
            (None, Some(recorded)) => {
                return recorded.0[&Table::Orders].len();
            }
            (differs, _) => {
                assert!(begun.elapsed() < PATIENCE, "{}", differs.unwrap_or_default());
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
}
