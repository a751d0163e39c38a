//! Who votes: an odd number, as many as there may be, of those that are there.
//!
//! A voter that is not there is replaced by a node that is, once that one has caught up; without one it
//! stays a voter, for fewer voters would survive less. So the number shrinks only when members are
//! forgotten or fewer are asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::Member;
use crate::domain::NodeId;

/// Voters there may be.
const VOTERS_MAX: usize = 5;

/// Entries that a copy may lack and still be let vote.
const LAG_MAX: u64 = 64;

/// Whether a copy lacks next to nothing, whose log agrees with the leader's up to `matched` (none while
/// it has not answered), where that one goes up to `last`.
///
/// A copy that has answered nothing is not one, however short the log is: its node may not know yet
/// that it is in this ledger, and hears so only from what the ledger agrees on. Were it let vote, most
/// could be such, and nothing would be agreed on any more.
pub fn is_caught_up(matched: Option<u64>, last: u64) -> bool {
    matched.is_some_and(|matched| last.saturating_sub(matched) < LAG_MAX)
}

/// How things stand, as the leader sees it. Copies of the ledger go by their number.
#[derive(Clone, Debug)]
pub struct Standing<'l> {
    /// Every node that has a copy.
    pub members: &'l BTreeMap<NodeId, Member>,
    /// The voters; two sets while they are being changed.
    pub voters: &'l [BTreeSet<u64>],
    /// Every copy that is kept up to date.
    pub replicas: &'l BTreeSet<u64>,
    /// Those that lack next to nothing; see [`is_caught_up`].
    pub caught_up: &'l BTreeSet<u64>,
    /// The leader's own.
    pub leader: u64,
    /// How many voters are asked for; none for as many as there may be.
    pub count: Option<usize>,
}

/// What the leader is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoterChange {
    /// Keep this copy up to date.
    Add {
        /// Which.
        replica: u64,
        /// Whose it is.
        node: NodeId,
    },
    /// Let these vote.
    Voters(BTreeSet<u64>),
    /// Keep these copies no more.
    Remove(BTreeSet<u64>),
}

/// The next change; none, if all is well or nothing can be done.
pub fn plan_voters(standing: &Standing<'_>) -> Option<VoterChange> {
    let Standing { members, voters, replicas, .. } = *standing;
    if let [_, wanted] = voters {
        // A leader before this one did not get to the end of it.
        return Some(VoterChange::Voters(wanted.clone()));
    }
    let current = voters.first()?;
    let missing = |(_, member): &(&NodeId, &Member)| {
        member.session.is_some() && !replicas.contains(&member.replica)
    };
    if let Some((node, member)) = members.iter().find(missing) {
        return Some(VoterChange::Add { replica: member.replica, node: node.clone() });
    }
    if let Some(wanted) = choose(standing, current) {
        return Some(VoterChange::Voters(wanted));
    }
    let known: BTreeSet<u64> = members.values().map(|member| member.replica).collect();
    let is_gone = |replica: &&u64| !known.contains(replica) && !current.contains(replica);
    let gone: BTreeSet<u64> = replicas.iter().filter(is_gone).copied().collect();
    (!gone.is_empty()).then_some(VoterChange::Remove(gone))
}

fn choose(standing: &Standing<'_>, current: &BTreeSet<u64>) -> Option<BTreeSet<u64>> {
    let Standing { members, caught_up, leader, count, .. } = *standing;
    let target = voters_of(members.len(), count);
    // Who is there: the leader, voters, then others that could be; witnesses before others.
    let mut there: Vec<(bool, bool, bool, u64)> = members
        .values()
        .filter(|member| member.session.is_some())
        .filter(|&Member { replica, .. }| current.contains(replica) || caught_up.contains(replica))
        .map(|&Member { replica, is_witness, .. }| {
            (replica != leader, !current.contains(&replica), !is_witness, replica)
        })
        .collect();
    there.sort_unstable();
    let mut chosen: Vec<u64> = there.into_iter().map(|(.., replica)| replica).collect();
    // Those that are not hold their place, first of all those that may come back. So there are never
    // fewer to choose from than vote now.
    let known = |replica: u64| members.values().any(|member| member.replica == replica);
    let mut away: Vec<u64> =
        current.iter().filter(|replica| !chosen.contains(replica)).copied().collect();
    away.sort_unstable_by_key(|&replica| (!known(replica), replica));
    chosen.extend(away);
    let size = largest_odd(target.min(chosen.len()));
    let wanted: BTreeSet<u64> = chosen.into_iter().take(size).collect();
    (!wanted.is_empty() && wanted != *current).then_some(wanted)
}

/// How many of `members` vote, if `count` are asked for; none for as many as there may be.
pub fn voters_of(members: usize, count: Option<usize>) -> usize {
    largest_odd(count.unwrap_or(VOTERS_MAX).min(members).min(VOTERS_MAX))
}

fn largest_odd(count: usize) -> usize {
    if count.is_multiple_of(2) { count.saturating_sub(1) } else { count }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::SessionId;

    /// Nodes by name and the number of their copy; a name in capitals is not there.
    fn members(names: &str) -> BTreeMap<NodeId, Member> {
        let of = |(at, name): (usize, char)| {
            let member = Member {
                incarnation: Default::default(),
                replica: u64::try_from(at).unwrap() + 1,
                is_witness: name.eq_ignore_ascii_case(&'w'),
                session: name.is_lowercase().then_some(SessionId(1)),
            };
            (NodeId(name.to_ascii_lowercase().to_string()), member)
        };
        names.chars().enumerate().map(of).collect()
    }

    fn plan(
        members: &BTreeMap<NodeId, Member>,
        voters: &[u64],
        replicas: &[u64],
        count: Option<usize>,
    ) -> Option<VoterChange> {
        let replicas: BTreeSet<u64> = replicas.iter().copied().collect();
        plan_voters(&Standing {
            members,
            voters: &[voters.iter().copied().collect()],
            replicas: &replicas,
            caught_up: &replicas,
            leader: 1,
            count,
        })
    }

    fn votes(replicas: &[u64]) -> Option<VoterChange> {
        Some(VoterChange::Voters(replicas.iter().copied().collect()))
    }

    #[test]
    fn voters_are_the_largest_odd_number_up_to_five() {
        let add = Some(VoterChange::Add { replica: 2, node: "b".into() });
        assert_eq!(plan(&members("ab"), &[1], &[1], None), add);
        assert_eq!(plan(&members("ab"), &[1], &[1, 2], None), None, "two are no more than one");
        assert_eq!(plan(&members("abc"), &[1], &[1, 2, 3], None), votes(&[1, 2, 3]));
        assert_eq!(plan(&members("abcd"), &[1, 2, 3], &[1, 2, 3, 4], None), None);
        let seven = [1, 2, 3, 4, 5, 6, 7];
        assert_eq!(plan(&members("abcdefg"), &[1], &seven, None), votes(&[1, 2, 3, 4, 5]));
        assert_eq!(plan(&members("abcdefg"), &[1], &seven, Some(3)), votes(&[1, 2, 3]));
        assert_eq!(plan(&members("abcde"), &[1, 2, 3, 4, 5], &seven[..5], Some(1)), votes(&[1]));
    }

    #[test]
    fn a_copy_that_has_answered_nothing_does_not_vote_however_short_the_log_is() {
        assert!(!is_caught_up(None, 0));
        assert!(is_caught_up(Some(0), 0));
        assert!(is_caught_up(Some(0), LAG_MAX - 1));
        assert!(!is_caught_up(Some(0), LAG_MAX));
        let (members, replicas) = (members("abcde"), BTreeSet::from([1, 2, 3, 4, 5]));
        let plan = |caught_up: &[u64]| {
            plan_voters(&Standing {
                members: &members,
                voters: &[BTreeSet::from([1])],
                replicas: &replicas,
                caught_up: &caught_up.iter().copied().collect(),
                leader: 1,
                count: None,
            })
        };
        assert_eq!(plan(&[1, 4]), None);
        assert_eq!(plan(&[1, 4, 5]), votes(&[1, 4, 5]));
    }

    #[test]
    fn two_nodes_and_a_witness_are_three_voters_and_a_witness_votes_before_others() {
        assert_eq!(plan(&members("abw"), &[1], &[1, 2, 3], None), votes(&[1, 2, 3]));
        assert_eq!(plan(&members("abcw"), &[1], &[1, 2, 3, 4], None), votes(&[1, 2, 4]));
    }

    #[test]
    fn a_voter_that_is_away_is_replaced_only_by_one_that_is_there() {
        assert_eq!(plan(&members("abC"), &[1, 2, 3], &[1, 2, 3], None), None);
        assert_eq!(plan(&members("abCd"), &[1, 2, 3], &[1, 2, 3, 4], None), votes(&[1, 2, 4]));
        assert_eq!(plan(&members("aBC"), &[1], &[1, 2, 3], None), None, "one of three is there");
    }

    #[test]
    fn a_copy_that_was_lost_with_its_disk_is_replaced_by_the_new_one_and_then_removed() {
        let mut members = members("abc");
        members.get_mut(&NodeId::from("c")).unwrap().replica = 9;
        let add = Some(VoterChange::Add { replica: 9, node: "c".into() });
        assert_eq!(plan(&members, &[1, 2, 3], &[1, 2, 3], None), add);
        assert_eq!(plan(&members, &[1, 2, 3], &[1, 2, 3, 9], None), votes(&[1, 2, 9]));
        let remove = Some(VoterChange::Remove(BTreeSet::from([3])));
        assert_eq!(plan(&members, &[1, 2, 9], &[1, 2, 3, 9], None), remove);
        assert_eq!(plan(&members, &[1, 2, 9], &[1, 2, 9], None), None);
    }

    #[test]
    fn forgotten_members_make_fewer_voters() {
        assert_eq!(plan(&members("ab"), &[1, 2, 3], &[1, 2, 3], None), votes(&[1]));
    }

    #[test]
    fn a_change_that_was_begun_is_brought_to_its_end() {
        let (members, replicas) = (members("abc"), BTreeSet::from([1, 2, 3]));
        let voters = [BTreeSet::from([1]), BTreeSet::from([1, 2, 3])];
        let standing = Standing {
            members: &members,
            voters: &voters,
            replicas: &replicas,
            caught_up: &replicas,
            leader: 1,
            count: None,
        };
        assert_eq!(plan_voters(&standing), votes(&[1, 2, 3]));
    }

    proptest! {
        /// Step by step from anywhere, it comes to rest at an odd number of voters, and never lets a
        /// copy vote that lacks anything.
        #[test]
        fn any_standing_comes_to_rest_with_an_odd_number_of_voters(
            names in "[abcdwABCDW]{1,7}",
            voters in proptest::collection::btree_set(1u64..12, 1..6),
            more in proptest::collection::btree_set(1u64..12, 0..6),
            count in proptest::option::of(0usize..3),
        ) {
            let members = members(&names);
            let count = count.map(|count| 2 * count + 1);
            let mut current = voters.clone();
            let mut replicas: BTreeSet<u64> = voters.union(&more).copied().collect();
            for step in 0.. {
                prop_assert!(step < 40, "no rest");
                let standing = Standing {
                    members: &members,
                    voters: &[current.clone()],
                    replicas: &replicas,
                    caught_up: &replicas,
                    leader: 1,
                    count,
                };
                match plan_voters(&standing) {
                    None => break,
                    Some(VoterChange::Add { replica, .. }) => {
                        prop_assert!(replicas.insert(replica));
                    }
                    Some(VoterChange::Remove(gone)) => {
                        prop_assert!(gone.is_disjoint(&current));
                        replicas.retain(|replica| !gone.contains(replica));
                    }
                    Some(VoterChange::Voters(wanted)) => {
                        prop_assert!(wanted.len() % 2 == 1 && wanted.len() <= 5);
                        prop_assert!(wanted.is_subset(&replicas));
                        current = wanted;
                    }
                }
            }
        }
    }
}
