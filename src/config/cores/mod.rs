//! What the cores are made from: one file per core, each from its sections to its own types.

mod backtest;
mod clean;
mod compare;
mod exec;
mod factors;
mod orders;
mod risk;
mod simulator;

pub(in crate::config) use orders::keys_of;
pub use orders::{ExchangeAccount, ExchangeConfig};

use super::settings::{Settings, Value};
use crate::domain::Class;

/// A section with defaults and a table per class.
struct ByClass<'s> {
    settings: &'s Settings,
    section: &'static str,
    class: Class,
}

impl<'s> ByClass<'s> {
    fn new(settings: &'s Settings, section: &'static str, class: Class) -> Self {
        Self { settings, section, class }
    }

    /// The class's own value, else the section's.
    fn value(&self, name: &str) -> &'s Value {
        let own = self.settings.find(&[self.section, "class", self.class.name(), name]);
        let value = own.or_else(|| self.settings.find(&[self.section, name]));
        value.unwrap_or_else(|| panic!("cluster.toml gives no default for {}.{name}", self.section))
    }

    fn switch(&self, name: &str) -> bool {
        *self.value(name) == Value::Switch(true)
    }

    /// The number, or 0 for "none".
    fn count(&self, name: &str) -> u64 {
        self.value(name).count().and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
    }

    /// The number, or 0 for "none".
    fn count_u32(&self, name: &str) -> u32 {
        u32::try_from(self.count(name)).unwrap_or(u32::MAX)
    }

    /// The decimal in steps of 1e-9, or 0 for "none".
    fn nanos(&self, name: &str) -> i64 {
        self.value(name).amount().unwrap_or(0)
    }

    fn text(&self, name: &str) -> &'s str {
        self.value(name).text().unwrap_or_default()
    }
}

/// A whole share of a decimal that is not negative, as `u32`: `nanos / per`.
fn parts(nanos: i64, per: i64) -> u32 {
    u32::try_from(nanos / per).unwrap_or(u32::MAX)
}
