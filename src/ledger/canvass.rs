//! Whether a voter may stand for election: it asks first whether it would be voted for.
//!
//! Without that, a node that was cut off stands again and again, each time in a higher term, and when it is
//! back the leader that all others follow has to give way to an election that nobody needed (Ongaro:
//! "Consensus: Bridging Theory and Practice", 2014, section 9.6).
//!
//! ```text
//! silence ──▶ on_look ──▶ ask all voters ──▶ on_yes ──▶ may_stand, for as long as most say so
//!                              └──▶ would_vote, at each of them
//! ```
//!
//! Nothing here is needed for safety: who is elected is decided by votes. It must only never keep everyone
//! from standing while no leader is heard. One that most voters do not reach any more is heard by those that it still
//! reaches, and keeps their votes, as it does by openraft's own lease; where these are needed for a majority nobody is
//! elected until the leader is lost to them too, or reaches most again.

use std::collections::BTreeSet;

use crate::domain::{Span, Timestamp};

/// What a voter knows of the leader at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Standpoint {
    /// When the leader was last heard, or this life began.
    pub heard: Timestamp,
    /// Whether this node leads itself, and most voters have confirmed it within a lease.
    pub leads: bool,
}

impl Standpoint {
    /// Whether a leader was heard within `lease`.
    fn has_leader(self, lease: Span, now: Timestamp) -> bool {
        self.leads || now < self.heard.after(lease)
    }
}

/// Whether one that asks would be voted for: it would not while there is a leader, nor if it lacks entries of
/// the log that this node has. `theirs` and `own` say how far a log goes.
pub fn would_vote<L: Ord>(
    standpoint: Standpoint,
    lease: Span,
    now: Timestamp,
    theirs: &L,
    own: &L,
) -> bool {
    !standpoint.has_leader(lease, now) && theirs >= own
}

/// One voter's canvass.
#[derive(Clone, Debug)]
pub struct Canvass {
    own: u64,
    lease: Span,
    pace: Span,
    round: u64,
    /// When the round began; none while there is no need to ask.
    began: Option<Timestamp>,
    /// Who has said yes in this round.
    yes: BTreeSet<u64>,
    /// Most have, in this round or the one before.
    may: bool,
}

impl Canvass {
    /// For the voter `own`: a leader is missed after `lease`, and the others are asked every `pace`.
    pub fn new(own: u64, lease: Span, pace: Span) -> Self {
        Self { own, lease, pace, round: 0, began: None, yes: BTreeSet::new(), may: false }
    }

    /// Time has passed. Returns the round for which all other voters are to be asked now, if they are.
    /// `voters` are the sets of which each needs a majority.
    pub fn on_look(
        &mut self,
        standpoint: Standpoint,
        voters: &[BTreeSet<u64>],
        now: Timestamp,
    ) -> Option<u64> {
        // One voter alone needs no leave, not even that of a leader that it was before.
        let is_own = |set: &BTreeSet<u64>| set.len() == 1 && set.contains(&self.own);
        if !voters.is_empty() && voters.iter().all(is_own) {
            (self.began, self.may) = (None, true);
            self.yes.clear();
            return None;
        }
        let votes = voters.iter().any(|set| set.contains(&self.own));
        if !votes || standpoint.has_leader(self.lease, now) {
            (self.began, self.may) = (None, false);
            self.yes.clear();
            return None;
        }
        if self.began.is_some_and(|began| now < began.after(self.pace)) {
            return None;
        }
        // What was said in the round that ends counts until the end of the next.
        self.may = self.has_majority(voters);
        self.began = Some(now);
        self.round += 1;
        self.yes = BTreeSet::from([self.own]);
        self.may |= self.has_majority(voters);
        Some(self.round)
    }

    /// A voter says that it would. An answer may take longer than a round: that of the one before counts as well.
    pub fn on_yes(&mut self, round: u64, from: u64, voters: &[BTreeSet<u64>]) {
        if self.began.is_some() && round <= self.round && round + 1 >= self.round {
            self.yes.insert(from);
            self.may |= self.has_majority(voters);
        }
    }

    fn has_majority(&self, voters: &[BTreeSet<u64>]) -> bool {
        voters.iter().all(|set| 2 * set.intersection(&self.yes).count() > set.len())
    }

    /// Whether this node may stand for election.
    pub fn may_stand(&self) -> bool {
        self.may
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: Span = Span::from_millis(600);
    const PACE: Span = Span::from_millis(100);

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(milliseconds * 1_000_000)
    }

    fn heard(milliseconds: u64) -> Standpoint {
        Standpoint { heard: at(milliseconds), leads: false }
    }

    fn of(voters: &[u64]) -> Vec<BTreeSet<u64>> {
        vec![voters.iter().copied().collect()]
    }

    #[test]
    fn nobody_asks_while_the_leader_is_heard_and_stands_only_once_most_say_yes() {
        let voters = of(&[1, 2, 3]);
        let mut canvass = Canvass::new(1, LEASE, PACE);
        assert_eq!(canvass.on_look(heard(0), &voters, at(599)), None);
        assert_eq!(canvass.on_look(heard(0), &voters, at(600)), Some(1));
        assert!(!canvass.may_stand(), "its own word is one of three");
        assert_eq!(canvass.on_look(heard(0), &voters, at(650)), None, "once a round");
        canvass.on_yes(1, 3, &voters);
        assert!(canvass.may_stand());
        assert_eq!(canvass.on_look(heard(0), &voters, at(700)), Some(2));
        assert!(canvass.may_stand(), "until the next round has had its time");
        assert_eq!(canvass.on_look(heard(0), &voters, at(800)), Some(3));
        assert!(!canvass.may_stand(), "nobody answered the second round");
        canvass.on_yes(1, 3, &voters);
        assert!(!canvass.may_stand(), "that was too long ago");
        canvass.on_yes(2, 3, &voters);
        assert!(canvass.may_stand());
        assert_eq!(canvass.on_look(heard(810), &voters, at(820)), None);
        assert!(!canvass.may_stand(), "there is a leader again");
        canvass.on_yes(3, 2, &voters);
        assert!(!canvass.may_stand(), "a late word");
    }

    #[test]
    fn one_alone_needs_to_ask_nobody_and_one_that_does_not_vote_never_stands() {
        let mut alone = Canvass::new(1, LEASE, PACE);
        assert_eq!(alone.on_look(heard(0), &of(&[1]), at(1)), None);
        assert!(alone.may_stand());
        assert_eq!(alone.on_look(heard(2), &of(&[1, 2, 3]), at(3)), None);
        assert!(!alone.may_stand(), "it is not alone any more, and hears a leader");
        let mut learner = Canvass::new(4, LEASE, PACE);
        assert_eq!(learner.on_look(heard(0), &of(&[1, 2, 3]), at(600)), None);
        assert!(!learner.may_stand());
        let mut new = Canvass::new(1, LEASE, PACE);
        assert_eq!(new.on_look(heard(0), &[], at(600)), None);
        assert!(!new.may_stand(), "it knows of no voters yet");
    }

    #[test]
    fn while_voters_change_most_of_both_sets_must_say_yes() {
        let voters = [BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 4, 5])];
        let mut canvass = Canvass::new(1, LEASE, PACE);
        canvass.on_look(heard(0), &voters, at(600));
        canvass.on_yes(1, 2, &voters);
        assert!(!canvass.may_stand());
        canvass.on_yes(1, 5, &voters);
        assert!(canvass.may_stand());
    }

    #[test]
    fn one_that_leads_or_hears_a_leader_or_has_more_says_no() {
        let silent = heard(0);
        let says =
            |standpoint, theirs: u64, own| would_vote(standpoint, LEASE, at(600), &theirs, &own);
        assert!(says(silent, 7, 7));
        assert!(!says(silent, 6, 7), "it has what the other lacks");
        assert!(!says(heard(1), 7, 7), "a leader was heard");
        assert!(!says(Standpoint { leads: true, ..silent }, 7, 7));
    }

    proptest! {
        /// While most voters reach each other and none has heard a leader for a lease, whoever of them has the
        /// longest log may stand within a round; and whoever is not among them never may.
        #[test]
        fn somebody_may_always_stand_and_no_minority_ever(
            logs in proptest::collection::vec(0u64..3, 3..8),
            apart in 0usize..8,
        ) {
            let count = logs.len();
            let apart = apart.min((count - 1) / 2);
            let ids: Vec<u64> = (0..count as u64).collect();
            let voters = of(&ids);
            let side = |id: u64| usize::try_from(id).unwrap() < apart;
            let mut stood = 0;
            for &asking in &ids {
                let mut canvass = Canvass::new(asking, LEASE, PACE);
                let round = canvass.on_look(heard(0), &voters, at(700)).unwrap();
                let log = |id: u64| logs[usize::try_from(id).unwrap()];
                for &asked in &ids {
                    if side(asked) == side(asking)
                        && would_vote(heard(50), LEASE, at(700), &log(asking), &log(asked))
                    {
                        canvass.on_yes(round, asked, &voters);
                    }
                }
                stood += usize::from(canvass.may_stand());
                prop_assert!(!(side(asking) && canvass.may_stand()));
            }
            prop_assert!(stood > 0);
        }
    }
}
