//! The source of a run without files: a market made of a seed.
//!
//! It can go on from any position it has reported, so it is its own journal.

use std::sync::Arc;

use bincode::config;
use tickwright_core::domain::{Instruments, RawTick};
use tickwright_core::pipeline::ingest::{Ingester, ParserState, SourcePosition};
use tickwright_core::pipeline::simulator::{
    DirtCounts, Simulator, SimulatorConfig, SimulatorState,
};

use super::{Format, Progress, Source, SourceError};

/// Largest position that is read back, in bytes: about 200 a symbol.
const POSITION_BYTES_MAX: usize = 64 << 20;

/// A [`Simulator`] as a source.
#[derive(Debug)]
pub struct SimulatedSource {
    config: SimulatorConfig,
    seed: u64,
    simulator: Simulator,
    /// The ingester's number of each symbol, once it had a row.
    ids: Vec<Option<u32>>,
}

impl SimulatedSource {
    /// The market that `config` and `seed` make. The ingester must resolve symbols as `config` did.
    pub fn new(config: SimulatorConfig, seed: u64) -> Self {
        let simulator = Simulator::new(config.clone(), seed);
        let ids = vec![None; config.symbols.len()];
        Self { config, seed, simulator, ids }
    }

    /// The market that `tickwright demo` shows: `symbols` symbols and `rows` rows.
    pub fn standard(symbols: usize, rows: u64, instruments: &Arc<Instruments>, seed: u64) -> Self {
        let config = SimulatorConfig::standard(symbols, instruments);
        Self::new(SimulatorConfig { rows: Some(rows), ..config }, seed)
    }

    /// Dirty rows so far, by kind.
    pub const fn injected(&self) -> &DirtCounts {
        self.simulator.injected()
    }
}

impl Source for SimulatedSource {
    fn read(&mut self, ingester: &mut Ingester, rows_max: usize) -> Result<Progress, SourceError> {
        let full = ingester.batch_len() + rows_max;
        while ingester.batch_len() < full {
            let Some(row) = self.simulator.next() else { return Ok(Progress::Finished) };
            let symbol = match self.ids[row.symbol] {
                Some(id) => id,
                None => {
                    let name = &self.config.symbols[row.symbol].instrument().symbol;
                    let entry = ingester.intern(name.as_str().as_bytes()).map_err(|problem| {
                        SourceError::Simulated { problem: problem.to_string() }
                    })?;
                    *self.ids[row.symbol].insert(entry.id.0)
                }
            };
            ingester.push(RawTick { symbol, ..row.tick });
        }
        Ok(Progress::More)
    }

    fn position(&self) -> SourcePosition {
        let state = self.simulator.state();
        let bytes = bincode::serde::encode_to_vec(state, config::standard())
            .expect("numbers can always be written to memory");
        let emitted = state.emitted();
        SourcePosition { offset: emitted, line: emitted, parser: ParserState::Opaque(bytes) }
    }

    fn seek(&mut self, position: &SourcePosition) -> Result<(), SourceError> {
        // Another ingester may number symbols anew.
        self.ids.fill(None);
        // The position before the first row: no source reports it, but a fresh run has it.
        if *position == SourcePosition::default() {
            self.simulator = Simulator::new(self.config.clone(), self.seed);
            return Ok(());
        }
        let refuse = |problem: String| SourceError::Simulated { problem };
        let ParserState::Opaque(bytes) = &position.parser else {
            return Err(refuse("its position is another source's".to_owned()));
        };
        let layout = config::standard().with_limit::<POSITION_BYTES_MAX>();
        let decoded = bincode::serde::decode_from_slice::<SimulatorState, _>(bytes, layout);
        let state = match decoded {
            Ok((state, read)) if read == bytes.len() => state,
            Ok(_) | Err(_) => return Err(refuse("its position is damaged".to_owned())),
        };
        self.simulator = Simulator::restore(self.config.clone(), state)
            .map_err(|error| refuse(error.to_string()))?;
        Ok(())
    }

    fn next_time(&self) -> Option<u64> {
        self.simulator.next_time()
    }

    fn bytes_read(&self) -> u64 {
        self.simulator.state().emitted() * size_of::<RawTick>() as u64
    }

    fn bytes_total(&self) -> u64 {
        self.config.rows.unwrap_or(0).saturating_mul(size_of::<RawTick>() as u64)
    }

    fn describe(&self) -> String {
        format!("{} ({} symbols, seed {})", self.format(), self.config.symbols.len(), self.seed)
    }

    fn format(&self) -> Format {
        Format::Simulated
    }
}

#[cfg(test)]
mod tests {
    use tickwright_core::domain::SourceId;
    use tickwright_core::pipeline::ingest::IngesterConfig;

    use super::*;

    fn source() -> SimulatedSource {
        SimulatedSource::standard(7, 20_000, &Arc::new(Instruments::default()), 3)
    }

    fn ingester_config() -> IngesterConfig {
        IngesterConfig::new(SourceId(0), Arc::new(Instruments::default()))
    }

    /// All rows, read `rows_max` at a time, and a restart after every `restart_after` reads.
    fn rows(rows_max: usize, restart_after: usize) -> Vec<RawTick> {
        let (mut source, mut ingester) = (source(), Ingester::new(ingester_config()));
        let mut rows = vec![];
        for reads in 1.. {
            let progress = source.read(&mut ingester, rows_max).unwrap();
            rows.extend(ingester.take_batch().rows);
            if progress == Progress::Finished {
                break;
            }
            if reads % restart_after == 0 {
                let snapshot = ingester.snapshot(source.position());
                source = self::source();
                source.seek(&snapshot.position).unwrap();
                ingester = Ingester::restore(ingester_config(), &snapshot);
            }
        }
        rows
    }

    #[test]
    fn rows_do_not_depend_on_the_size_of_a_read_or_on_restarts() {
        let straight = rows(1_000_000, usize::MAX);
        assert!(straight.len() > 20_000, "{} rows, boundary rows among them", straight.len());
        assert!(rows(256, 7) == straight);
        assert!(rows(1, 5_000) == straight);
    }

    #[test]
    fn a_position_that_does_not_fit_is_refused() {
        let position = |parser| SourcePosition { offset: 9, line: 9, parser };
        let refusal = |parser| source().seek(&position(parser)).unwrap_err().to_string();
        assert!(refusal(ParserState::Stateless).contains("another source's"));
        assert!(refusal(ParserState::Opaque(vec![255; 9])).contains("damaged"));
        let other = SimulatedSource::standard(8, 1, &Arc::new(Instruments::default()), 3);
        assert!(refusal(other.position().parser).contains("8 symbols"));
    }

    #[test]
    fn progress_reaches_the_total() {
        let (mut source, mut ingester) = (source(), Ingester::new(ingester_config()));
        while source.read(&mut ingester, 1_000).unwrap() == Progress::More {}
        assert_eq!(source.bytes_read(), source.bytes_total());
        assert_eq!(ingester.counters().rows, 20_000);
    }
}
