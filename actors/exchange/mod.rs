//! `tickwright exchange`: a simulated exchange as a process of its own, which judges whoever trades there.
//!
//! ```text
//! clients ──HTTP──▶ server ──▶ engine (one thread: the core, the log) ──▶ streams ──WebSocket──▶ clients
//!                     ▲           ▲
//!       admin: faults, capabilities   market: a walk, or recorded quotes
//! ```
//!
//! The decisions are in [`tickwright_core::exchange`]. Nothing here knows the order protocol or the broker
//! adapter that it judges, and they do not know it.
//!
//! # Invariants
//!
//! 1. What is accepted is in the log, on the disk, before anybody is told.
//! 2. An exchange that is started again from its log is the one that was, but for who listens and the
//!    market outside.
//! 3. Secrets of accounts are in no log, message or answer.

mod admin;
mod engine;
mod keys;
mod log;
mod market;
mod server;
mod socket;
mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tickwright_core::config::Speed;
use tickwright_core::exchange::{
    Amount, ApiError, Bounds, Capabilities, CapabilityError, Endpoint, Exchange, FaultError,
    FaultSpec, Faults, News, RateLimit, Request, State, SymbolError, SymbolSpec,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::kit::{Clock, monotonic_nanos};
use crate::source::{self, SourceError, SourceOptions};
use engine::{Engine, Work};
use keys::Keys;
use log::JudgeLog;
use market::Wander;
use server::Server;
use streams::{Streams, Told};

pub use keys::{AccountText, KeysError};
pub use log::{JudgeLogError, ReadLog, judge};

/// How an exchange is set up.
#[derive(Clone, Debug)]
pub struct ExchangeSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whether that may be another address than a loopback one.
    pub allow_remote: bool,
    /// Who may trade.
    pub accounts: Vec<AccountText>,
    /// A file that says the same, a line for each.
    pub keys: Option<PathBuf>,
    /// What is traded; see [`SymbolSpec::parse`].
    pub symbols: Vec<String>,
    /// What an account begins with: `ASSET=AMOUNT`; the rest has a default.
    pub balances: Vec<String>,
    /// Where what is accepted is written down.
    pub log: Option<PathBuf>,
    /// What the simulated market is drawn from.
    pub seed: u64,
    /// How often the simulated market moves; if that is nothing, there is none but what is set by hand.
    pub step: Duration,
    /// Recorded quotes, instead of the simulated market.
    pub data: Option<PathBuf>,
    /// How fast they are played.
    pub speed: Speed,
    /// What it can do: `KEY=VALUE`.
    pub capabilities: Vec<String>,
    /// Faults from the start, as JSON.
    pub faults: Vec<String>,
    /// How much is kept.
    pub bounds: Bounds,
}

/// Why an exchange cannot be, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// It would be open to other machines.
    #[error("{0} can be reached from other machines; add --allow-remote if that is meant")]
    Remote(SocketAddr),
    /// Nobody can listen there.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The accounts are wrong.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A symbol is wrong.
    #[error(transparent)]
    Symbol(#[from] SymbolError),
    /// A symbol is there twice.
    #[error("symbol {0} is there twice")]
    SymbolTwice(String),
    /// A balance is wrong.
    #[error("balance `{0}`; write ASSET=AMOUNT")]
    Balance(String),
    /// A capability is wrong.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    /// A fault is wrong.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// The log is wrong, or the disk.
    #[error(transparent)]
    Log(#[from] JudgeLogError),
    /// The recorded market cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A thread cannot be started, or has ended.
    #[error("the matching engine: {0}")]
    Engine(String),
}

/// What engine and server share.
#[derive(Debug)]
struct Shared {
    clock: Clock,
    keys: Keys,
    symbols: BTreeSet<String>,
    faults: Mutex<Faults>,
    streams: Mutex<Streams>,
    rate: Mutex<RateLimit>,
}

/// Milliseconds that go on evenly.
fn even_ms() -> u64 {
    monotonic_nanos() / 1_000_000
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The exchange's clock, as it is set apart just now; unix milliseconds.
    fn now(&self) -> u64 {
        self.faults().clock(self.clock.now().as_nanos() / 1_000_000)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        locked(&self.faults)
    }

    fn strike(&self, method: &str, path: &str) -> Vec<FaultSpec> {
        self.faults().strike(method, path)
    }

    fn count(&self, address: IpAddr) -> Result<(), (u16, u64)> {
        locked(&self.rate).take(address, even_ms())
    }

    fn listen(&self, key: &str) -> Option<mpsc::Receiver<Told>> {
        locked(&self.streams).listen(key, even_ms())
    }

    fn tell(&self, news: &[News]) {
        for news in news {
            let faults = self.faults().strike_stream();
            locked(&self.streams).tell(news, &faults);
        }
    }

    /// Opens, keeps or closes an account's stream.
    fn stream_key(&self, request: &Request) -> Result<Value, ApiError> {
        let account = request.account.as_deref().unwrap_or_default();
        let mut streams = locked(&self.streams);
        if request.endpoint == Endpoint::PostUserDataStream {
            let mut bytes = [0; 32];
            aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ApiError::of_code(-1000, 500))?;
            let fresh = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            return Ok(json!({ "listenKey": streams.open(account, fresh, even_ms()) }));
        }
        let key = request.parameters.required("listenKey")?;
        if request.endpoint == Endpoint::PutUserDataStream {
            streams.keep(account, key, even_ms())?;
        } else {
            streams.close(account, key)?;
        }
        Ok(json!({}))
    }
}

/// Runs an exchange until `stop` is over. `ready` is told where it is, and what it has found in its log.
///
/// # Errors
///
/// [`ExchangeError`] when it cannot begin, or its log cannot be written any more.
pub async fn run_exchange(
    settings: ExchangeSettings,
    ready: impl FnOnce(Value),
    stop: impl Future<Output = ()>,
) -> Result<(), ExchangeError> {
    let ExchangeSettings { listen, allow_remote, log, data, seed, step, speed, .. } = &settings;
    if !listen.ip().is_loopback() && !allow_remote {
        return Err(ExchangeError::Remote(*listen));
    }
    let keys = Keys::new(&settings.accounts, settings.keys.as_deref())?;
    let symbols = symbols(&settings.symbols)?;
    let balances = balances(&settings.balances, &symbols)?;
    let accounts: BTreeMap<String, BTreeMap<String, Amount>> =
        keys.accounts().map(|name| (name.to_owned(), balances.clone())).collect();
    let mut capabilities = Capabilities::default();
    settings.capabilities.iter().try_for_each(|text| capabilities.set(text))?;
    let mut faults = Faults::default();
    for text in &settings.faults {
        faults.add(FaultSpec::parse(text.as_bytes())?)?;
    }
    let source = data.as_ref().map(|path| source::open(path, &SourceOptions::default()));
    let source = source.transpose()?;
    let fail = |error| ExchangeError::Listen { address: *listen, error };
    let listener = TcpListener::bind(listen).await.map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;

    let shared = Arc::new(Shared {
        clock: Clock::system(),
        keys,
        symbols: symbols.iter().map(|spec| spec.name.clone()).collect(),
        faults: Mutex::new(faults),
        streams: Mutex::default(),
        rate: Mutex::default(),
    });
    let mut state = State::new(&symbols, settings.bounds);
    let opened = log.as_ref().map(|path| JudgeLog::open(path, |entry| state.replay(&entry)));
    let (mut log, found) = opened.transpose()?.unzip();
    let mut exchange = Exchange::new(state, capabilities);
    let started = exchange.start(&accounts, shared.now());
    if let Some(log) = &mut log {
        log.append(&started)?;
    }
    let engine = Engine::start(exchange, log, Arc::clone(&shared));
    let (engine, thread) = engine.map_err(|error| ExchangeError::Engine(error.to_string()))?;

    match (source, data.clone()) {
        (Some(source), Some(path)) => {
            let (engine, speed, symbols) = (engine.clone(), *speed, shared.symbols.clone());
            let play = move || market::replay(&engine, source, &path, speed, &symbols);
            let thread = std::thread::Builder::new().name("market".to_owned()).spawn(play);
            thread.map_err(|error| ExchangeError::Engine(error.to_string()))?;
        }
        (None, _) | (_, None) if step.is_zero() => {}
        (None, _) | (_, None) => {
            let mut wander = Wander::new(&symbols, *seed);
            // Whoever comes first finds a market already.
            let stepped = wander.step(&engine).await;
            stepped.map_err(|_| ExchangeError::Engine("it has ended".to_owned()))?;
            tokio::spawn(wander.run(engine.clone(), *step));
        }
    }
    ready(json!({
        "address": address,
        "accounts": accounts.keys().collect::<Vec<_>>(),
        "symbols": shared.symbols,
        "capabilities": capabilities,
        "log_lines": found.map(|found| found.lines),
        "log_torn_bytes": found.map(|found| found.torn_bytes),
    }));
    let ended = engine.clone();
    tokio::select! {
        () = Server::new(engine, shared).serve(listener) => {}
        () = ended.ended() => {}
        () = stop => {}
    }
    // What it has begun to write is written whole.
    let _ = ended.ask(Work::Stop).await;
    match thread.join() {
        Ok(outcome) => outcome.map_err(ExchangeError::Log),
        Err(_) => Err(ExchangeError::Engine("it has panicked".to_owned())),
    }
}

fn symbols(texts: &[String]) -> Result<Vec<SymbolSpec>, ExchangeError> {
    let mut symbols: Vec<SymbolSpec> = Vec::new();
    for text in texts {
        let spec = SymbolSpec::parse(text)?;
        if symbols.iter().any(|known| known.name == spec.name) {
            return Err(ExchangeError::SymbolTwice(spec.name));
        }
        symbols.push(spec);
    }
    Ok(symbols)
}

/// What every account begins with: a thousand of what is traded and a million of what it is paid in, where
/// `texts` do not say otherwise.
fn balances(
    texts: &[String],
    symbols: &[SymbolSpec],
) -> Result<BTreeMap<String, Amount>, ExchangeError> {
    let mut balances = BTreeMap::new();
    for spec in symbols {
        balances.entry(spec.base.clone()).or_insert(Amount::from_units(1_000));
    }
    for spec in symbols {
        balances.insert(spec.quote.clone(), Amount::from_units(1_000_000));
    }
    for text in texts {
        let wrong = || ExchangeError::Balance(text.clone());
        let (asset, amount) = text.split_once('=').ok_or_else(wrong)?;
        balances.insert(asset.to_owned(), Amount::parse(amount).map_err(|_| wrong())?);
    }
    Ok(balances)
}
