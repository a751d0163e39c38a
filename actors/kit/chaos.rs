//! Faults on command: makes an actor panic when it has handled its n-th distinct item.
//!
//! What has been counted lives outside the actors, so a successor that does an item again does not
//! count it again, and the same fault does not strike for ever.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::gate::Gate;

/// The faults of one run.
#[derive(Clone, Default)]
pub struct Chaos {
    rules: Arc<Vec<Rule>>,
    gate: Gate,
}

struct Rule {
    spec: String,
    actor: String,
    every: u64,
    /// Per instance.
    fired: Mutex<BTreeMap<usize, Fired>>,
}

/// What an injected panic carries, so that it can be told from a real one.
#[derive(Debug)]
pub struct InjectedPanic {
    /// The specification that asked for it.
    pub spec: String,
}

#[derive(Default)]
struct Fired {
    /// The last multiple of `every` that is done with. In a process that goes on from a checkpoint some
    /// are passed without having struck here.
    multiple: u64,
    strikes: u64,
}

impl Chaos {
    /// Panics for each `(specification, actor, every)`.
    pub fn new(rules: Vec<(String, String, u64)>) -> Self {
        let rule = |(spec, actor, every)| Rule { spec, actor, every, fired: Mutex::default() };
        Self { rules: Arc::new(rules.into_iter().map(rule).collect()), gate: Gate::default() }
    }

    /// The same, with sources held at `gate`.
    #[must_use]
    pub fn with_gate(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }

    /// Where sources are held.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The smallest distance between two faults of `actor`: its checkpoints must be closer.
    pub fn spacing(&self, actor: &str) -> Option<u64> {
        self.rules.iter().filter(|rule| rule.actor == actor).map(|rule| rule.every).min()
    }

    /// The smallest distance between two faults of any actor.
    pub fn spacing_of_any(&self) -> Option<u64> {
        self.rules.iter().map(|rule| rule.every).min()
    }

    /// Call when `actor`'s instance has handled `items` items in all, with its state changed and
    /// nothing of it sent.
    ///
    /// # Panics
    ///
    /// When a fault is due: that is the purpose.
    pub fn strike(&self, actor: &str, instance: usize, items: u64) {
        for rule in self.rules.iter().filter(|rule| rule.actor == actor) {
            let mut fired = rule.fired.lock().unwrap_or_else(PoisonError::into_inner);
            let fired = fired.entry(instance).or_default();
            if items / rule.every > fired.multiple {
                fired.multiple = items / rule.every;
                fired.strikes += 1;
                let spec = rule.spec.clone();
                std::panic::panic_any(InjectedPanic { spec });
            }
        }
    }

    /// Each specification, and how often it struck.
    pub fn fired(&self) -> Vec<(String, u64)> {
        let count = |rule: &Rule| {
            let fired = rule.fired.lock().unwrap_or_else(PoisonError::into_inner);
            fired.values().map(|fired| fired.strikes).sum::<u64>()
        };
        self.rules.iter().map(|rule| (rule.spec.clone(), count(rule))).collect()
    }

    /// Keeps injected panics from being printed as if they were defects.
    pub fn quieten_panics() {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            match info.payload().downcast_ref::<InjectedPanic>() {
                Some(injected) => tracing::debug!(spec = injected.spec, "injected panic"),
                None => print(info),
            }
        }));
    }
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fired()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn strikes_once_at_each_multiple_and_not_on_replayed_items() {
        let chaos = Chaos::new(vec![("panic:router@10".into(), "router".into(), 10)]);
        let strikes = |items| {
            let call = AssertUnwindSafe(|| chaos.strike("router", 0, items));
            catch_unwind(call).is_err()
        };
        assert!(!strikes(9));
        assert!(strikes(10));
        assert!(!strikes(8) && !strikes(10) && !strikes(19));
        assert!(strikes(35), "two multiples at once are one panic");
        assert!(!strikes(36));
        assert!(catch_unwind(AssertUnwindSafe(|| chaos.strike("risk", 0, 10))).is_ok());
        assert_eq!(chaos.fired(), [("panic:router@10".to_owned(), 2)]);
    }
}
