//! A second search, for what the checker cannot say.
//!
//! Its `eventually` forgets a property on a path that runs in a circle, and in this model waiting is a
//! circle. So the whole graph is kept here, and searched backwards from where nothing is left to
//! resolve, along steps that are no faults. If every state is met, then no history of faults leads to
//! where the protocol is stuck, and whoever goes on taking every step that stays possible arrives.

use std::collections::BTreeMap;

use stateright::Model;

use super::Protocol;
use super::properties::is_settled;
use super::protocol::Action;
use super::world::World;

/// Every state that can be reached.
pub(crate) struct Graph {
    /// How each state was reached first: from which, by what.
    parents: Vec<Option<(usize, Action)>>,
    /// From which states one step that is no fault leads to this one.
    before: Vec<Vec<usize>>,
    settled: Vec<usize>,
}

/// Searches all of `protocol`.
pub(crate) fn explore(protocol: &Protocol) -> Graph {
    let mut graph = Graph { parents: Vec::new(), before: Vec::new(), settled: Vec::new() };
    let mut known: BTreeMap<World, usize> = BTreeMap::new();
    let mut frontier: Vec<(usize, World)> = Vec::new();
    for world in protocol.init_states() {
        let index = graph.add(&world, None);
        known.insert(world.clone(), index);
        frontier.push((index, world));
    }
    while !frontier.is_empty() {
        let mut next = Vec::new();
        for (from, world) in frontier {
            let mut actions = Vec::new();
            protocol.actions(&world, &mut actions);
            for action in actions {
                let Some(after) = protocol.next_state(&world, action) else { continue };
                let to = match known.get(&after) {
                    Some(to) => *to,
                    None => {
                        let to = graph.add(&after, Some((from, action)));
                        known.insert(after.clone(), to);
                        next.push((to, after));
                        to
                    }
                };
                if !action.is_fault() {
                    graph.before[to].push(from);
                }
            }
        }
        frontier = next;
    }
    graph
}

impl Graph {
    fn add(&mut self, world: &World, parent: Option<(usize, Action)>) -> usize {
        let index = self.parents.len();
        self.parents.push(parent);
        self.before.push(Vec::new());
        if is_settled(world) {
            self.settled.push(index);
        }
        index
    }

    /// How many states there are.
    pub(crate) fn states(&self) -> usize {
        self.parents.len()
    }

    /// The way to a state from which nothing but another fault leads to where all is resolved.
    pub(crate) fn never_settled(&self) -> Option<Vec<Action>> {
        let mut is_met = vec![false; self.parents.len()];
        let mut pending = self.settled.clone();
        while let Some(index) = pending.pop() {
            if !std::mem::replace(&mut is_met[index], true) {
                pending.extend(&self.before[index]);
            }
        }
        let mut index = is_met.iter().position(|is_met| !is_met)?;
        let mut path = Vec::new();
        while let Some((from, action)) = self.parents[index] {
            path.push(action);
            index = from;
        }
        path.reverse();
        Some(path)
    }
}
