//! What the benches of the pipeline share: rows in memory, and a configuration that trades on them.

#![allow(unreachable_pub, reason = "a module of each bench, not of a crate")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(dead_code, reason = "each bench uses its own part")]

pub mod source;

use std::time::{Duration, Instant};

use tickwright::node::{self, NodeArguments, NodeReport};
use tickwright_core::config::Config;
use tickwright_core::domain::{Kind, RawTick, Symbol, Tick, TickBatch, has};
use tickwright_core::pipeline::simulator::{Simulator, SimulatorConfig};

pub const SYMBOLS: usize = 100;
const SEED: u64 = 7;

/// No run takes so long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A share of rows that signal, and the width of the Bollinger bands that leads to it.
pub struct Rate {
    pub name: &'static str,
    pub width: f64,
}

pub const RATES: [Rate; 2] =
    [Rate { name: "0.1 %", width: 3.02 }, Rate { name: "2 %", width: 1.9 }];

pub fn config_of(rate: &Rate, batch: usize) -> Config {
    let text = format!(
        "[[strategy]]\nname = \"reversion\"\nkind = \"bollinger_reversion\"\n\
         [strategy.parameters]\nwidth = {width:?}\n\
         [pipeline]\nbatch_ticks = {batch}\n\
         [risk]\nrate_strategy_per_second = \"none\"\nrate_account_per_second = \"none\"\n\
         rate_venue_per_second = \"none\"\norders_per_day_max = \"none\"\n\
         gross_exposure_max = \"none\"\nnet_exposure_max = \"none\"\n\
         daily_loss_max = \"none\"\ndrawdown_max = \"none\"\norder_value_max = \"none\"\n",
        width = rate.width,
    );
    match Config::parse(&text, "bench.toml") {
        Ok(config) => config,
        Err(problems) => panic!("{problems}"),
    }
}

pub async fn run_node(arguments: NodeArguments) -> (f64, NodeReport) {
    let begun = Instant::now();
    let mut node = node::start(arguments).await.unwrap();
    tokio::time::timeout(PATIENCE, node.finished.recv()).await.unwrap().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let report = node.report(PATIENCE).await.unwrap();
    node.supervisor.stop_and_wait(None, Some(PATIENCE)).await.unwrap();
    (seconds, report)
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Rows in memory, decoded.
pub struct Ticks {
    pub symbols: Vec<Symbol>,
    pub base: u64,
    pub rows: Vec<Tick>,
}

impl Ticks {
    /// A simulated market without dirt.
    pub fn make(rows: u64) -> Self {
        let instruments = Config::default().instruments();
        let config = SimulatorConfig {
            rows: Some(rows),
            dirt_per_million: 0,
            ..SimulatorConfig::standard(SYMBOLS, &instruments)
        };
        let symbols = config.symbols.iter().map(|symbol| symbol.instrument().symbol.clone());
        let symbols = symbols.collect();
        let base = config.start.as_nanos();
        let mut batch = TickBatch::default();
        let mut cumulative = vec![0; SYMBOLS];
        for (sequence, row) in (0..).zip(Simulator::new(config, SEED)) {
            let raw = row.tick;
            let mut tick = Tick {
                price: raw.price,
                volume: raw.volume,
                bid: raw.bid,
                ask: raw.ask,
                bid_quantity: raw.bid_quantity,
                ask_quantity: raw.ask_quantity,
                kind: raw.kind,
                has: raw.has & !(has::CUMULATIVE | has::ID),
                symbol: u32::try_from(row.symbol).unwrap(),
                ..Tick::default()
            };
            if raw.kind == Kind::Snapshot as u8 && raw.has & has::CUMULATIVE != 0 {
                tick.volume = raw.cumulative - cumulative[row.symbol];
                tick.has |= has::VOLUME;
                cumulative[row.symbol] = raw.cumulative;
            }
            let key = tickwright_core::domain::Key::of(raw.event_time.max(base), 0, sequence);
            if sequence == 0 {
                batch.base_frontier = key.frontier;
            }
            assert!(batch.push(key, tick), "three days hold a million rows");
        }
        Self { symbols, base: batch.base_frontier.as_nanos(), rows: batch.rows }
    }

    /// From the first row until after the last, in nanoseconds.
    pub fn span(&self) -> u64 {
        self.rows.last().map_or(0, Tick::frontier_offset) + 1_000_000
    }

    /// A row as a source would have given it, under the source's own number of its symbol.
    pub fn raw(&self, tick: &Tick, symbol: u32) -> RawTick {
        RawTick {
            event_time: self.base + tick.frontier_offset(),
            price: tick.price,
            volume: tick.volume,
            bid: tick.bid,
            ask: tick.ask,
            bid_quantity: tick.bid_quantity,
            ask_quantity: tick.ask_quantity,
            symbol,
            kind: tick.kind,
            has: tick.has,
            ..RawTick::default()
        }
    }
}
