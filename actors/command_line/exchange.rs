//! What a user types about the simulated exchange.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use tickwright_core::config::Speed;
use tickwright_core::exchange::Bounds;

/// Options of `exchange`.
#[derive(Args, Clone, Debug)]
pub struct ExchangeOptions {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Listen also where other machines can reach it
    #[arg(long)]
    pub allow_remote: bool,
    /// Who may trade; whoever can list processes sees what is given here
    #[arg(long, value_name = "NAME=APIKEY:SECRET")]
    pub account: Vec<HiddenText>,
    /// A file of such lines
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// What is traded: BTCUSDT, or BTC/USDT:price=60000:tick=0.01:step=0.00001:notional_min=5
    #[arg(long, value_name = "SYMBOL,...", value_delimiter = ',',
          default_values = ["BTCUSDT", "ETHUSDT"])]
    pub symbols: Vec<String>,
    /// What each account begins with
    #[arg(long, value_name = "ASSET=AMOUNT")]
    pub balance: Vec<String>,
    /// Where to write down what is accepted; what is there already is gone by
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How often the simulated market moves; with 0 there is no market but what is set by hand
    #[arg(long, value_name = "MS", default_value = "100", value_parser = milliseconds)]
    pub step_ms: Duration,
    /// Recorded quotes, instead of the simulated market
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// How fast they are played: max, real, or a multiple such as 10x
    #[arg(long, value_name = "SPEED", default_value = "real", value_parser = speed)]
    pub speed: Speed,
    /// What it can do: dedup=all|open|none; true or false: deadline, query, server_time,
    /// exclusive_session
    #[arg(long, value_name = "KEY=VALUE")]
    pub capability: Vec<String>,
    /// A fault from the start, as for POST /exchange/faults
    #[arg(long, value_name = "JSON")]
    pub fault: Vec<String>,
    /// How much is kept.
    #[command(flatten)]
    pub bounds: BoundOptions,
    /// Say what was accepted in a log, and whether any client id was accepted more than once
    #[arg(long, value_name = "FILE", conflicts_with_all = ["log", "account", "keys", "data"])]
    pub judge: Option<PathBuf>,
}

/// How much an exchange keeps.
#[derive(Args, Clone, Copy, Debug)]
pub struct BoundOptions {
    /// Open orders of an account
    #[arg(long, value_name = "N", default_value_t = Bounds::default().open_orders_max)]
    pub open_orders_max: usize,
    /// Orders that are over, for each symbol
    #[arg(long, value_name = "N", default_value_t = Bounds::default().orders_kept)]
    pub orders_kept: usize,
    /// Trades, for each symbol
    #[arg(long, value_name = "N", default_value_t = Bounds::default().trades_kept)]
    pub trades_kept: usize,
}

impl From<BoundOptions> for Bounds {
    fn from(options: BoundOptions) -> Self {
        let BoundOptions { open_orders_max, orders_kept, trades_kept } = options;
        Self { orders_kept, trades_kept, open_orders_max }
    }
}

/// Text that holds a secret: taken as it is, so that no message repeats it, and never shown.
#[derive(Clone)]
pub struct HiddenText(String);

impl HiddenText {
    /// What it is.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for HiddenText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for HiddenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HiddenText(..)")
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let number: u64 = text.parse().map_err(|_| "is not a number of milliseconds".to_owned())?;
    Ok(Duration::from_millis(number))
}

fn speed(text: &str) -> Result<Speed, String> {
    Speed::parse(text).ok_or_else(|| "is not max, real, or a multiple such as 10x".to_owned())
}
