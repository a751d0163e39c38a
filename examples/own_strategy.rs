//! A factor and a strategy of one's own, in a crate that depends on `tickwright`, `tickwright-core` and
//! `serde`. It is the whole program, with strategies more. `own_strategy.toml` says that this one trades:
//!
//!     cargo run --release --example own_strategy -- demo --config examples/own_strategy.toml

use serde::{Deserialize, Serialize};
use tickwright_core::config::Kinds;
use tickwright_core::domain::{Cadence, FactorSpec};
use tickwright_core::pipeline::factors::{Factor, FactorInput};
use tickwright_core::pipeline::strategy::{FactorView, Intent, Strategy};

/// How many steps in a row the price rose.
#[derive(Default, Serialize, Deserialize)]
struct Streak {
    last: Option<f64>,
    count: u32,
}

impl Factor for Streak {
    fn update(&mut self, input: &FactorInput<'_>) -> Option<f64> {
        let last = self.last.replace(input.price)?;
        self.count = if input.price > last { self.count + 1 } else { 0 };
        Some(f64::from(self.count))
    }
}

/// Buys when the price has risen so many steps in a row, sells at the first step that does not rise.
#[derive(Default, Serialize, Deserialize)]
struct Momentum {
    is_long: bool,
}

impl Strategy for Momentum {
    fn on_row(&mut self, view: &FactorView<'_>) -> Option<Intent> {
        let (streak, steps) = (view.value(0), view.parameter(0));
        let is_long = streak >= steps || self.is_long && streak > 0.0;
        let was_long = std::mem::replace(&mut self.is_long, is_long);
        let intent = if is_long { Intent::buy(1) } else { Intent::sell(1).reducing() };
        (is_long != was_long).then_some(intent)
    }
}

/// The built-in kinds, and these.
pub fn kinds() -> Kinds {
    let mut kinds = Kinds::default();
    kinds.factors.register("streak", &[], |_| Ok(Box::new(Streak::default())));
    let needs = |_: &[f64]| Ok(vec![FactorSpec::new("streak", &[], Cadence::Ticks)]);
    kinds.strategies.add::<Momentum>("momentum", &[("steps", 3.0)], needs);
    kinds
}

fn main() -> std::process::ExitCode {
    tickwright::program::main_with(kinds())
}
