//! Random draws that depend on what is drawn for, and never on when: two runs that place the same
//! order see the same latency and the same fault, whatever else they did before.

use crate::domain::{BrokerId, OrderId, Span};

use super::config::PaperBrokerConfig;

/// What a draw is for, so that draws for one order do not repeat each other.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Fate = 1,
    Arrival = 2,
    Report = 3,
    Loss = 4,
}

/// The draws of one order at one broker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws(u64);

/// What the configured faults do to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Refused,
    Disconnected,
    /// No answer comes, and the order has arrived.
    TimedOut,
    /// No answer comes, and the order has not arrived either.
    Lost,
}

impl Draws {
    pub(super) const fn new(seed: u64, broker: BrokerId, order: OrderId) -> Self {
        let key = order.key;
        let place = (key.source.0 as u64) << 40 | (order.ordinal as u64) << 8 | broker.0 as u64;
        let state = mix(seed ^ 0x7469_636b_7772_6967);
        let state = mix(state ^ key.frontier.as_nanos());
        let state = mix(state ^ key.sequence);
        Self(mix(state ^ place))
    }

    /// Evenly from `0..below`; zero when `below` is.
    fn below(self, purpose: Purpose, below: u64) -> u64 {
        let bits = mix(self.0 ^ (purpose as u64).wrapping_mul(0xd6e8_feb8_6659_fd93));
        // The high half of the product: no division, and a bias below 2^-40 for our ranges.
        ((u128::from(bits) * u128::from(below)) >> 64) as u64
    }

    /// From the order's key to its effect.
    pub(super) fn arrival_latency(self, config: &PaperBrokerConfig) -> Span {
        self.latency(config, Purpose::Arrival)
    }

    /// From a trade that an order waited for to its report.
    pub(super) fn report_latency(self, config: &PaperBrokerConfig) -> Span {
        self.latency(config, Purpose::Report)
    }

    fn latency(self, config: &PaperBrokerConfig, purpose: Purpose) -> Span {
        let jitter_nanos = config.latency_jitter_us.saturating_mul(1_000);
        let jitter = self.below(purpose, jitter_nanos.saturating_add(1));
        config.latency_min().saturating_add(Span::from_nanos(jitter))
    }

    /// What goes wrong with the order, leaving outages aside.
    pub(super) fn fault(self, config: &PaperBrokerConfig) -> Fault {
        let faults = &config.faults;
        let refused = u64::from(faults.refuse_per_million);
        let disconnected = refused + u64::from(faults.disconnect_per_million);
        let timed_out = disconnected + u64::from(faults.timeout_per_million);
        if timed_out == 0 {
            return Fault::None;
        }
        let drawn = self.below(Purpose::Fate, 1_000_000);
        if drawn < refused {
            Fault::Refused
        } else if drawn < disconnected {
            Fault::Disconnected
        } else if drawn >= timed_out {
            Fault::None
        } else if self.below(Purpose::Loss, 2) == 0 {
            Fault::Lost
        } else {
            Fault::TimedOut
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: _Fast Splittable Pseudorandom Number
/// Generators_, OOPSLA 2014), after the step of its generator.
const fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Key, SourceId, Timestamp};
    use crate::pipeline::venue::Faults;

    fn draws(seed: u64, broker: u8, sequence: u64, ordinal: u32) -> Draws {
        let frontier = Timestamp::from_nanos(1_000 * sequence);
        let key = Key { frontier, source: SourceId(0), sequence };
        Draws::new(seed, BrokerId(broker), OrderId { key, ordinal })
    }

    #[test]
    fn every_part_of_an_orders_name_changes_its_draws() {
        let base = draws(1, 0, 1, 0).0;
        for other in [draws(2, 0, 1, 0), draws(1, 1, 1, 0), draws(1, 0, 2, 0), draws(1, 0, 1, 1)] {
            assert_ne!(other.0, base);
        }
    }

    #[test]
    fn latencies_stay_between_base_and_base_plus_jitter_and_use_the_range() {
        let config = PaperBrokerConfig {
            latency_us: 500,
            latency_jitter_us: 200,
            ..PaperBrokerConfig::default()
        };
        let latencies: Vec<Span> =
            (1..2_000).map(|n| draws(7, 0, n, 0).arrival_latency(&config)).collect();
        let (low, high) = (Span::from_micros(500), Span::from_micros(700));
        assert!(latencies.iter().all(|latency| (low..=high).contains(latency)));
        assert!(latencies.iter().any(|&latency| latency < Span::from_micros(510)));
        assert!(latencies.iter().any(|&latency| latency > Span::from_micros(690)));
    }

    #[test]
    fn a_latency_of_zero_becomes_the_shortest_there_is() {
        let config = PaperBrokerConfig {
            latency_us: 0,
            latency_jitter_us: 0,
            ..PaperBrokerConfig::default()
        };
        assert_eq!(draws(7, 0, 1, 0).arrival_latency(&config), Span::from_micros(1));
    }

    #[test]
    fn faults_come_as_often_as_configured() {
        let faults = Faults {
            refuse_per_million: 100_000,
            disconnect_per_million: 200_000,
            timeout_per_million: 300_000,
            ..Faults::NONE
        };
        let config = PaperBrokerConfig { faults, ..PaperBrokerConfig::default() };
        let drawn: Vec<Fault> = (0..20_000).map(|n| draws(3, 0, n, 0).fault(&config)).collect();
        let share = |fault| drawn.iter().filter(|&&drawn| drawn == fault).count();
        assert!((1_800..2_200).contains(&share(Fault::Refused)));
        assert!((3_700..4_300).contains(&share(Fault::Disconnected)));
        assert!((2_700..3_300).contains(&share(Fault::TimedOut)));
        assert!((2_700..3_300).contains(&share(Fault::Lost)));
    }
}
