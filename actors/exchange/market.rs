//! The market outside, as time goes by: a walk by a seed, or the quotes of a recorded file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tickwright_core::config::Speed;
use tickwright_core::domain::{Instruments, RawTick, SourceId, has};
use tickwright_core::exchange::{Amount, Level, Outside, SymbolSpec, Walk};
use tickwright_core::pipeline::ingest::{Ingester, IngesterConfig, Pace};
use tokio::time::{MissedTickBehavior, interval};

use super::engine::{Ended, Engine, Work};
use crate::kit::monotonic_nanos;
use crate::source::{Progress, Source};

/// Rows that are read at a time.
const ROWS: usize = 1_024;

/// Longest wait for a row at a time, so that the end is noticed.
const NAP_MAX: Duration = Duration::from_millis(200);

/// The prices of all symbols, each by a seed of its own.
#[derive(Debug)]
pub(super) struct Wander(BTreeMap<String, Walk>);

impl Wander {
    pub(super) fn new(symbols: &[SymbolSpec], seed: u64) -> Self {
        let walk = |spec: &SymbolSpec| (spec.name.clone(), Walk::new(spec, seed));
        Self(symbols.iter().map(walk).collect())
    }

    /// Moves all of them by one step.
    pub(super) async fn step(&mut self, engine: &Engine) -> Result<(), Ended> {
        for (name, walk) in &mut self.0 {
            let (name, outside) = (name.clone(), walk.step());
            engine.ask(|reply| Work::Market(name, outside, Some(reply))).await?;
        }
        Ok(())
    }

    /// Moves all of them every `step`, for ever.
    pub(super) async fn run(mut self, engine: Engine, step: Duration) {
        let mut ticks = interval(step);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            if self.step(&engine).await.is_err() {
                return;
            }
        }
    }
}

/// Gives the quotes of `source` as they come, each at its time; the last ones stay.
pub(super) fn replay(
    engine: &Engine,
    mut source: Box<dyn Source>,
    path: &Path,
    speed: Speed,
    symbols: &BTreeSet<String>,
) {
    let instruments = Arc::new(Instruments::default());
    let mut ingester = Ingester::new(IngesterConfig::new(SourceId(0), instruments));
    let mut pace = match speed {
        Speed::Max => None,
        Speed::Times(times) => Some(Pace::new(f64::from(times))),
    };
    let path = path.display();
    let (mut quotes, mut others) = (0_u64, 0_u64);
    loop {
        let progress = match source.read(&mut ingester, ROWS) {
            Ok(progress) => progress,
            Err(error) => {
                tracing::warn!(%path, %error, "the recorded market ends here");
                return;
            }
        };
        for row in ingester.take_batch().rows {
            let Some((name, outside)) = quote(&ingester, &row) else { continue };
            if !symbols.contains(&name) {
                others += 1;
                continue;
            }
            quotes += 1;
            if let Some(pace) = &mut pace {
                let due = pace.due(row.event_time, monotonic_nanos());
                while let Some(wait) = Pace::wait(due, monotonic_nanos()) {
                    std::thread::sleep(wait.min(NAP_MAX));
                    if engine.has_ended() {
                        return;
                    }
                }
            }
            if engine.market(name, outside).is_err() {
                return;
            }
        }
        if progress == Progress::Finished {
            tracing::info!(%path, quotes, others, "the recorded market is over; the last quotes stay");
            return;
        }
    }
}

/// The symbol's name without its venue, and its book, if the row is a quote of both sides.
fn quote(ingester: &Ingester, row: &RawTick) -> Option<(String, Outside)> {
    let needed = has::BID | has::ASK;
    if row.has & needed != needed || row.bid >= row.ask || row.bid <= 0 {
        return None;
    }
    let symbol = tickwright_core::domain::SymbolId(row.symbol);
    let entry = ingester.entry(symbol)?;
    let name = ingester.symbol(symbol)?.to_string();
    let name = name.split_once('.').map_or(name.as_str(), |(name, _)| name).to_owned();
    let amount = |steps: i64, decimals: u8| {
        let steps = i128::from(steps);
        match decimals {
            0..=8 => Amount(steps * 10_i128.pow(u32::from(8 - decimals))),
            _ => Amount(steps / 10_i128.pow(u32::from(decimals - 8))),
        }
    };
    // A side whose quantity the source does not say has plenty.
    let quantity = |bit: u8, steps: i64| {
        if row.has & bit == 0 {
            Amount::from_units(1_000_000)
        } else {
            amount(steps, entry.quantity_decimals)
        }
    };
    let level = |price: i64, quantity: Amount| Level {
        price: amount(price, entry.price_decimals),
        quantity,
    };
    let bid = level(row.bid, quantity(has::BID_QUANTITY, row.bid_quantity));
    let ask = level(row.ask, quantity(has::ASK_QUANTITY, row.ask_quantity));
    Some((name, Outside::top(bid, ask)))
}
