//! Every time-out of the cluster, derived from one number: the time between two signs of life.

use crate::domain::Span;

/// All time-outs, so that they keep their proportions whatever `cluster.heartbeat_ms` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Between two signs of life.
    pub heartbeat: Span,
    /// How often silences are judged; a fraction of a heartbeat, so that judging adds little delay.
    pub judge: Span,
    /// Least deviation of arrivals that is believed in: a quiet network is no reason to be hasty.
    pub deviation_min: Span,
    /// How long a suspect may stay silent before it counts as down.
    pub suspicion: Span,
    /// How long the owner of a name is given to answer when another claims that name.
    pub name_probe: Span,
    /// How long a session of the ledger lives without being renewed.
    pub session_ttl: Span,
    /// Between two signs of life of the ledger's leader.
    pub ledger_heartbeat: Span,
    /// Shortest silence of the leader after which a voter stands for election.
    pub election_min: Span,
    /// Longest.
    pub election_max: Span,
    /// How long bytes may stay unacknowledged before the system gives a connection up.
    pub unacknowledged: Span,
}

impl Timings {
    /// The time-outs that belong to `heartbeat`.
    pub fn from_heartbeat(heartbeat: Span) -> Self {
        let ledger_heartbeat = (heartbeat / 5).max(Span::from_millis(10));
        Self {
            heartbeat,
            judge: (heartbeat / 5).max(Span::from_millis(5)),
            deviation_min: heartbeat / 5,
            suspicion: heartbeat * 2,
            name_probe: heartbeat * 5 / 2,
            session_ttl: heartbeat * 4,
            ledger_heartbeat,
            election_min: ledger_heartbeat * 3,
            election_max: ledger_heartbeat * 6,
            unacknowledged: (heartbeat * 10).max(Span::from_secs(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_out_keeps_its_place_whatever_the_heartbeat() {
        for milliseconds in [10, 100, 500, 60_000] {
            let timings = Timings::from_heartbeat(Span::from_millis(milliseconds));
            assert!(timings.judge <= timings.heartbeat);
            assert!(timings.heartbeat < timings.suspicion);
            assert!(timings.suspicion < timings.session_ttl);
            assert!(timings.ledger_heartbeat < timings.election_min);
            assert!(timings.election_min < timings.election_max);
            assert!(timings.session_ttl < timings.unacknowledged);
        }
    }

    #[test]
    fn at_the_default_a_leader_is_missed_after_three_to_six_tenths_of_a_second() {
        let timings = Timings::from_heartbeat(Span::from_millis(500));
        let election = (timings.election_min.as_millis(), timings.election_max.as_millis());
        assert_eq!(election, (300, 600));
        assert_eq!(timings.suspicion, Span::from_secs(1));
    }
}
