//! What is held and what it has earned: fills in, positions, profit and loss, and the digest out.
//!
//! ```text
//! on_order, on_fill ─▶ digest
//! on_fill ─▶ position and fees per (account, instrument) ─▶ realised per currency
//! sample(marks) ─▶ unrealised ─▶ equity curve, drawdown, charts
//! ```
//!
//! Everything comes in the one order in which it took effect, at event time.
//!
//! # Invariants
//!
//! 1. A fill seen twice is one fill: trade ids ascend within (broker, account).
//! 2. Realised plus unrealised less fees is what a ledger of cash and the marks would say.
//! 3. Memory is bounded by the numbers of accounts and of instruments that traded, whatever the
//!    length of the run.

mod charts;
mod course;
mod digest;
mod sampled;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{
    AccountId, Asset, BrokerId, ClosedTrades, FeeElsewhere, Fill, Instrument, InstrumentIndex,
    Money, Order, Position, Price, Quantity, Timestamp,
};

use charts::Charts;

pub use charts::{Chart, ChartOrder};
pub use course::Course;
pub use digest::OrderDigest;
pub use sampled::Sampled;

/// Assets in which fees are counted apart. An exchange takes them in one or two.
const ASSETS_MAX: usize = 256;

/// How much is kept for the report. None of it changes a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionsConfig {
    /// Points of the equity curve.
    pub curve_points_max: usize,
    /// Instruments that are charted.
    pub charts_max: usize,
    /// Orders and prices on a chart, of each so many.
    pub chart_points_max: usize,
}

impl Default for PositionsConfig {
    fn default() -> Self {
        Self { curve_points_max: 2_000, charts_max: 8, chart_points_max: 500 }
    }
}

/// A holding of one account in one instrument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// What is held, what it cost, and what was realised before fees.
    pub position: Position,
    /// Paid so far.
    pub fees: Money,
    /// How often it traded.
    pub fills: u64,
    /// The price of the last fill: the mark where the market gives none.
    pub price: Price,
}

/// Profit and loss in one currency, over all accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfitAndLoss {
    /// Of what was closed, before fees.
    pub realised: Money,
    /// Of what is held, at the marks.
    pub unrealised: Money,
    /// Paid so far.
    pub fees: Money,
    /// The deepest fall of equity from a peak before it, over the samples taken and now.
    pub drawdown_max: Money,
    /// Fills that closed something, before fees.
    pub closed: ClosedTrades,
}

impl ProfitAndLoss {
    /// All of it: what the account has more than at the start.
    pub fn equity(&self) -> Money {
        self.realised + self.unrealised - self.fees
    }
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionsCounters {
    /// Orders seen.
    pub orders: u64,
    /// Fills, each counted once.
    pub fills: u64,
    /// Fills that had been seen before.
    pub fills_repeated: u64,
}

/// A point of the equity curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EquityPoint {
    /// When.
    pub at: Timestamp,
    /// Equity per currency, in the order of [`Positions::currencies`], for display. Currencies that
    /// first traded later are not there.
    pub equity: Vec<Money>,
}

/// A currency that something was traded in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Currency {
    name: String,
    realised: Money,
    fees: Money,
    course: Course,
}

/// An instrument that traded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Traded {
    instrument: Arc<Instrument>,
    currency: usize,
    course: Course,
}

/// What the holdings of a currency or an instrument come to at some marks.
#[derive(Clone, Copy, Debug, Default)]
struct Valued {
    /// Realised and unrealised profit less fees; of a currency only what is unrealised.
    equity: Money,
    /// What is held, long and short alike.
    gross: Money,
}

/// The books. A snapshot of them, serialised, continues as the original would.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Positions {
    /// By instrument.
    traded: Vec<Option<Traded>>,
    /// In the order in which they first traded. One per currency.
    currencies: Vec<Currency>,
    /// By account, then instrument.
    holdings: Vec<Vec<Holding>>,
    /// Paid in what is no currency of what was traded, over all accounts. At most [`ASSETS_MAX`].
    fees_elsewhere: BTreeMap<Asset, Money>,
    /// The last trade id seen. One per broker and account.
    trade_ids: BTreeMap<(BrokerId, AccountId), u64>,
    digest: OrderDigest,
    curve: Sampled<EquityPoint>,
    charts: Charts,
    counters: PositionsCounters,
}

impl Positions {
    /// Books with nothing in them.
    pub fn new(config: PositionsConfig) -> Self {
        Self {
            traded: Vec::new(),
            currencies: Vec::new(),
            holdings: Vec::new(),
            fees_elsewhere: BTreeMap::new(),
            trade_ids: BTreeMap::new(),
            digest: OrderDigest::default(),
            curve: Sampled::new(config.curve_points_max),
            charts: Charts::new(config.charts_max, config.chart_points_max),
            counters: PositionsCounters::default(),
        }
    }

    /// Takes in an approved order, at the place of its key.
    pub fn on_order(&mut self, order: &Order, instrument: &Instrument) {
        self.counters.orders += 1;
        self.digest.on_order(order, instrument);
        self.charts.on_order(order, &instrument.symbol);
    }

    /// Takes in a fill that took effect at `at`; returns whether it is new.
    pub fn on_fill(&mut self, fill: &Fill, instrument: &Arc<Instrument>, at: Timestamp) -> bool {
        let last = self.trade_ids.entry((fill.broker, fill.account)).or_default();
        if fill.trade_id <= *last {
            self.counters.fills_repeated += 1;
            return false;
        }
        *last = fill.trade_id;
        self.counters.fills += 1;
        self.digest.on_fill(fill, instrument, at);

        if let Some(FeeElsewhere { asset, amount }) = fill.fee_elsewhere
            && (self.fees_elsewhere.len() < ASSETS_MAX || self.fees_elsewhere.contains_key(&asset))
        {
            *self.fees_elsewhere.entry(asset).or_insert(Money::ZERO) += amount;
        }
        let currency = self.currency_of(fill.instrument, instrument);
        let currency = &mut self.currencies[currency];
        let holding = slot(&mut self.holdings, usize::from(fill.account.0));
        let holding = slot(holding, fill.instrument.index());
        let signed = fill.side.signed(fill.quantity);
        let closes = holding.position.quantity.0.signum() == -signed.0.signum();
        let earned = holding.position.trade(instrument, signed, fill.price);
        holding.fees += fill.fee;
        holding.fills += 1;
        holding.price = fill.price;
        currency.realised += earned;
        currency.fees += fill.fee;
        let value = instrument.notional(fill.price, fill.quantity);
        let closed = closes.then_some(earned);
        currency.course.trade(value, closed);
        if let Some(Some(traded)) = self.traded.get_mut(fill.instrument.index()) {
            traded.course.trade(value, closed);
        }
        self.charts.on_fill(fill, &instrument.symbol);
        true
    }

    /// What was paid in something whose worth is not known here. No part of any profit.
    pub const fn fees_elsewhere(&self) -> &BTreeMap<Asset, Money> {
        &self.fees_elsewhere
    }

    /// The place of the instrument's currency in `currencies`; both are noted when new.
    fn currency_of(&mut self, index: InstrumentIndex, instrument: &Arc<Instrument>) -> usize {
        if let Some(Some(traded)) = self.traded.get(index.index()) {
            return traded.currency;
        }
        let name = &instrument.currency;
        let known = self.currencies.iter().position(|currency| currency.name == *name);
        let currency = known.unwrap_or_else(|| {
            self.currencies.push(Currency {
                name: name.clone(),
                realised: Money::ZERO,
                fees: Money::ZERO,
                course: Course::default(),
            });
            self.currencies.len() - 1
        });
        let instrument = Arc::clone(instrument);
        let course = Course::default();
        *slot(&mut self.traded, index.index()) = Some(Traded { instrument, currency, course });
        currency
    }

    /// Values everything at `marks` as of `at`: one more point of the equity curve.
    ///
    /// When samples are taken is up to the caller, but must follow from event time alone.
    pub fn sample(&mut self, at: Timestamp, marks: impl Fn(InstrumentIndex) -> Option<Price>) {
        let (by_currency, by_instrument) = self.valued(&marks);
        let before = self.curve.iter().last().map(|point| point.at);
        let mut point = EquityPoint { at, equity: Vec::with_capacity(self.currencies.len()) };
        for (currency, valued) in self.currencies.iter_mut().zip(by_currency) {
            let equity = currency.realised + valued.equity - currency.fees;
            currency.course.sample(before, at, equity, valued.gross);
            point.equity.push(equity);
        }
        for (traded, valued) in self.traded.iter_mut().zip(by_instrument) {
            if let Some(traded) = traded {
                traded.course.sample(before, at, valued.equity, valued.gross);
            }
        }
        self.curve.push(point);
        self.charts.sample(at, marks);
    }

    /// What is held and unrealised per currency, and what was earned in all per instrument.
    fn valued(
        &self,
        marks: impl Fn(InstrumentIndex) -> Option<Price>,
    ) -> (Vec<Valued>, Vec<Valued>) {
        let mut by_currency = vec![Valued::default(); self.currencies.len()];
        let mut by_instrument = vec![Valued::default(); self.traded.len()];
        for (_, index, instrument, holding) in self.holdings() {
            let Some(Some(traded)) = self.traded.get(index.index()) else { continue };
            let (currency, own) =
                (&mut by_currency[traded.currency], &mut by_instrument[index.index()]);
            let position = &holding.position;
            own.equity += position.realised - holding.fees;
            if position.quantity == Quantity::ZERO {
                continue;
            }
            let mark = marks(index).unwrap_or(holding.price);
            let unrealised = position.unrealised(instrument, mark);
            let gross = instrument.notional(mark, position.quantity);
            own.equity += unrealised;
            own.gross += gross;
            currency.equity += unrealised;
            currency.gross += gross;
        }
        (by_currency, by_instrument)
    }

    /// Profit and loss by currency, at `marks`; an instrument without one is valued at its last fill.
    pub fn profit_and_loss(
        &self,
        marks: impl Fn(InstrumentIndex) -> Option<Price>,
    ) -> BTreeMap<String, ProfitAndLoss> {
        let (by_currency, _) = self.valued(marks);
        let of_currency = |(currency, valued): (&Currency, Valued)| {
            let Currency { realised, fees, course, .. } = currency;
            let Course { drawdown_max, equity_max, closed, .. } = *course;
            let (realised, unrealised, fees) = (*realised, valued.equity, *fees);
            let mut earned = ProfitAndLoss { realised, unrealised, fees, drawdown_max, closed };
            earned.drawdown_max = drawdown_max.max(equity_max - earned.equity());
            (currency.name.clone(), earned)
        };
        self.currencies.iter().zip(by_currency).map(of_currency).collect()
    }

    /// How the equity of each currency went, in the order in which they first traded.
    pub fn courses(&self) -> impl Iterator<Item = (&str, &Course)> {
        self.currencies.iter().map(|currency| (currency.name.as_str(), &currency.course))
    }

    /// How the equity of each instrument that traded went, over all accounts, and what it has earned
    /// at `marks` in all, after fees.
    pub fn courses_by_instrument(
        &self,
        marks: impl Fn(InstrumentIndex) -> Option<Price>,
    ) -> impl Iterator<Item = (&Arc<Instrument>, &Course, Money)> {
        let (_, by_instrument) = self.valued(marks);
        let traded = self.traded.iter().zip(by_instrument);
        traded.filter_map(|(traded, valued)| {
            let traded = traded.as_ref()?;
            Some((&traded.instrument, &traded.course, valued.equity))
        })
    }

    /// Everything that ever traded, by account, then instrument.
    pub fn holdings(
        &self,
    ) -> impl Iterator<Item = (AccountId, InstrumentIndex, &Arc<Instrument>, &Holding)> {
        let accounts = (0..).map(AccountId).zip(&self.holdings);
        accounts.flat_map(move |(account, holdings)| {
            let indexed = (0..).map(InstrumentIndex).zip(holdings);
            indexed.filter(|(_, holding)| holding.fills > 0).filter_map(move |(index, holding)| {
                let traded = self.traded.get(index.index())?.as_ref()?;
                Some((account, index, &traded.instrument, holding))
            })
        })
    }

    /// What `account` holds in `instrument`.
    pub fn holding(&self, account: AccountId, instrument: InstrumentIndex) -> Holding {
        let of_account = self.holdings.get(usize::from(account.0));
        of_account.and_then(|all| all.get(instrument.index())).copied().unwrap_or_default()
    }

    /// The currencies of the equity curve, in the order in which they first traded.
    pub fn currencies(&self) -> impl Iterator<Item = &str> {
        self.currencies.iter().map(|currency| currency.name.as_str())
    }

    /// The equity curve, evenly thinned.
    pub const fn curve(&self) -> &Sampled<EquityPoint> {
        &self.curve
    }

    /// Charts of the busiest instruments.
    pub fn charts(&self) -> &[Chart] {
        self.charts.charts()
    }

    /// The digest of all orders and fills so far.
    pub const fn digest(&self) -> &OrderDigest {
        &self.digest
    }

    /// What has happened so far.
    pub const fn counters(&self) -> &PositionsCounters {
        &self.counters
    }
}

/// The element at `index`, made if need be.
fn slot<T: Clone + Default>(elements: &mut Vec<T>, index: usize) -> &mut T {
    if elements.len() <= index {
        elements.resize(index + 1, T::default());
    }
    &mut elements[index]
}
