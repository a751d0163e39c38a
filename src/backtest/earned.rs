//! From the books of a run to the report of it: the same for the pipeline and for a [`Backtest`].

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::domain::{Instrument, InstrumentIndex, Money, Price, Quantity, Timestamp};
use crate::pipeline::clean::{CleanCounts, Reason};
use crate::pipeline::positions::{Chart, ChartOrder, EquityPoint, Positions};

use super::Backtest;
use super::performance::{Performance, SymbolPerformance, measure};
use super::report::{
    BrokerReport, EquityReport, EquitySample, OrderCounts, OrderMark, PositionReport, PriceSample,
    ProfitAndLoss, RunReport, SymbolChart, SymbolReport,
};

/// How many instruments get a chart.
const CHARTS_MAX: usize = 8;

/// An account, as far as a report needs to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountTerms {
    /// Its name.
    pub name: String,
    /// What it was given, by currency.
    pub cash: BTreeMap<String, Money>,
}

/// How well `positions` did in each currency, by `mark`.
pub fn performances(
    positions: &Positions,
    mark: impl Fn(InstrumentIndex) -> Option<Price>,
    accounts: &[AccountTerms],
) -> BTreeMap<String, Performance> {
    let earned = positions.profit_and_loss(mark);
    let measured = positions.courses().map(|(currency, course)| {
        let given = accounts.iter().filter_map(|account| account.cash.get(currency)).copied();
        let given = given.reduce(|sum, cash| sum + cash);
        let net = earned.get(currency).map_or(Money::ZERO, |earned| earned.equity());
        (currency.to_owned(), measure(course, net, given))
    });
    measured.collect()
}

impl RunReport {
    /// Fills in all that `positions` tell: what was earned and held, by currency and by symbol, the
    /// curves and the charts. `mark` gives the last price of an instrument.
    pub fn set_positions(
        &mut self,
        positions: &Positions,
        mark: impl Fn(InstrumentIndex) -> Option<Price> + Copy,
        accounts: &[AccountTerms],
    ) {
        self.order_digest = positions.digest().to_string();
        self.fills = positions.counters().fills;
        for (currency, earned) in positions.profit_and_loss(mark) {
            let pnl = ProfitAndLoss {
                realised: earned.realised.into(),
                unrealised: earned.unrealised.into(),
            };
            self.fees.insert(currency.clone(), earned.fees.into());
            self.pnl.insert(currency, pnl);
        }
        for (asset, paid) in positions.fees_elsewhere() {
            self.fees_elsewhere.insert(asset.to_string(), (*paid).into());
        }
        let mut performances = performances(positions, mark, accounts);
        for (place, currency) in positions.currencies().enumerate() {
            let Some(performance) = performances.remove(currency) else { continue };
            let sample = |(at, equity): (Timestamp, Money)| EquitySample {
                time_ns: at.as_nanos(),
                equity: equity.into(),
            };
            let samples = curve(positions, place).into_iter().map(sample).collect();
            self.equity.insert(currency.to_owned(), EquityReport { samples, performance });
        }
        let times = || positions.curve().iter().map(|point| point.at.as_nanos());
        (self.data_from_ns, self.data_to_ns) = (times().next(), times().last());
        self.set_holdings(positions, mark, accounts);
        let of_symbol = |(instrument, course, net): (&std::sync::Arc<Instrument>, &_, Money)| {
            SymbolPerformance {
                symbol: instrument.symbol.to_string(),
                currency: instrument.currency.clone(),
                performance: measure(course, net, None),
            }
        };
        self.performance = positions.courses_by_instrument(mark).map(of_symbol).collect();
        self.performance.sort_by(|a, b| a.symbol.cmp(&b.symbol));
        self.charts = charts(positions);
    }

    fn set_holdings(
        &mut self,
        positions: &Positions,
        mark: impl Fn(InstrumentIndex) -> Option<Price>,
        accounts: &[AccountTerms],
    ) {
        for (account, index, instrument, holding) in positions.holdings() {
            let position = &holding.position;
            let price = mark(index).unwrap_or(holding.price);
            let account = accounts.get(usize::from(account.0));
            self.positions.push(PositionReport {
                symbol: instrument.symbol.to_string(),
                account: account.map(|account| account.name.clone()).unwrap_or_default(),
                quantity: instrument.format_quantity(position.quantity),
                average_price: position.average_price(instrument),
                mark: mark(index).map(|price| instrument.format_price(price)),
                currency: instrument.currency.clone(),
                value: instrument.value(price, position.quantity).abs().into(),
                realised: position.realised.into(),
                unrealised: if position.quantity == Quantity::ZERO {
                    Money::ZERO.into()
                } else {
                    position.unrealised(instrument, price).into()
                },
                fees: holding.fees.into(),
            });
        }
        // Exec numbers instruments as it meets them, and that depends on timing.
        self.positions.sort_by(|a, b| (&a.account, &a.symbol).cmp(&(&b.account, &b.symbol)));
    }
}

impl Backtest {
    /// All that this run can tell of itself. Whoever read the rows adds where they came from, how many
    /// could not be read, and how long it took.
    pub fn report(&self, accounts: &[AccountTerms]) -> RunReport {
        let mut report = RunReport { nodes: 1, ..RunReport::default() };
        let mut symbols: BTreeMap<String, CleanCounts> = BTreeMap::new();
        for (symbol, counts) in self.clean_counts_by_symbol() {
            symbols.entry(symbol.to_string()).or_default().add(counts);
        }
        for counts in self.clean_counts() {
            report.ticks_clean += counts.accepted;
            for (reason, count) in reasons(&counts) {
                *report.ticks_rejected.entry(reason).or_default() += count;
            }
        }
        report.ticks_in = report.ticks_clean + report.rejected_total();
        let symbol = |(symbol, counts): (String, CleanCounts)| SymbolReport {
            symbol,
            class: String::new(),
            clean: counts.accepted,
            rejected: reasons(&counts).collect(),
        };
        report.symbols = symbols.into_iter().map(symbol).collect();
        report.lost_ticks = i64::try_from(report.ticks_clean).unwrap_or(i64::MAX)
            - i64::try_from(self.rows()).unwrap_or(i64::MAX);
        report.factors = self.factor_counts().factors;
        report.signals = self.strategy_counts().map(|strategy| strategy.signals).sum();
        let brokers = || self.brokers().iter().map(|broker| broker.counters());
        let denied = self.checker().denied_by_code();
        report.orders = OrderCounts {
            approved: self.checker().approved(),
            rejected: denied.map(|(code, count)| (code.name().to_owned(), count)).collect(),
            placed: brokers().map(|counters| counters.accepted).sum(),
            filled: brokers().map(|counters| counters.filled_whole).sum(),
            unknown: brokers().map(|counters| counters.unknown).sum(),
        };
        report.failovers = self.router().counters().failovers;
        report.duplicate_orders = brokers().map(|counters| counters.accepted_twice).sum();
        for (name, counters) in ["primary", "backup"].into_iter().zip(brokers()) {
            let failovers = if name == "primary" { report.failovers } else { 0 };
            report.brokers.push(BrokerReport::of(name, counters, failovers));
        }
        report.set_positions(self.positions(), |index| self.mark(index), accounts);
        report
    }

    /// How well it did in each currency.
    pub fn performances(&self, accounts: &[AccountTerms]) -> BTreeMap<String, Performance> {
        performances(self.positions(), |index| self.mark(index), accounts)
    }
}

/// What was rejected, by reason.
pub fn reasons(counts: &CleanCounts) -> impl Iterator<Item = (String, u64)> {
    let counts = *counts;
    let of = move |reason: Reason| (reason.code().to_owned(), counts.rejected_for(reason));
    Reason::ALL.into_iter().map(of).filter(|(_, count)| *count > 0)
}

/// The equity curve of one currency, from nothing, for as long as it moves: with several files the
/// others may go on for years.
fn curve(positions: &Positions, place: usize) -> Vec<(Timestamp, Money)> {
    let point =
        |point: &EquityPoint| (point.at, point.equity.get(place).copied().unwrap_or(Money::ZERO));
    let samples: Vec<(Timestamp, Money)> = positions.curve().iter().map(point).collect();
    let is_move = |pair: &[(Timestamp, Money)]| pair[0].1 != pair[1].1;
    let Some(first) = samples.windows(2).position(is_move) else {
        // It never moved: one point says as much.
        return samples.into_iter().take(1).collect();
    };
    let last = samples.windows(2).rposition(is_move).map_or(first, |last| last + 1);
    samples[first..=last].to_vec()
}

fn charts(positions: &Positions) -> Vec<SymbolChart> {
    let instruments: BTreeMap<InstrumentIndex, &Instrument> =
        positions.holdings().map(|(_, index, instrument, _)| (index, &**instrument)).collect();
    let mut charts: Vec<&Chart> = positions.charts().iter().collect();
    charts.sort_by_key(|chart| (Reverse(chart.order_count), chart.symbol.clone()));
    let chart = |chart: &Chart| {
        let instrument = *instruments.get(&chart.instrument)?;
        let price = |&(at, price): &(Timestamp, Price)| PriceSample {
            time_ns: at.as_nanos(),
            price: instrument.price_to_f64(price),
        };
        let mark = |order: &ChartOrder| OrderMark {
            time_ns: order.id.key.frontier.as_nanos(),
            side: order.side,
            price: instrument.price_to_f64(order.price),
            quantity: instrument.quantity_to_f64(order.quantity),
            filled: instrument.quantity_to_f64(order.filled),
        };
        Some(SymbolChart {
            symbol: chart.symbol.to_string(),
            currency: instrument.currency.clone(),
            orders_total: chart.order_count,
            prices: chart.prices.iter().map(price).collect(),
            orders: chart.orders.iter().map(mark).collect(),
        })
    };
    charts.into_iter().filter_map(chart).take(CHARTS_MAX).collect()
}
