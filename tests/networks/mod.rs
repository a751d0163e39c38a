//! Networks that a test can cut and slow down: namespaces of the kernel, each with one node, where there
//! is the right and the tool to make them; else relays on loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]
#![allow(dead_code, reason = "each test file uses its own part")]

mod namespaces;
mod relays;

use crate::processes::Node;
use namespaces::Namespaces;
use relays::Relays;

/// A network between nodes that are known by their places.
pub(crate) enum Network {
    Namespaces(Namespaces),
    Relays(Relays),
}

impl Network {
    /// A network for nodes of these names, none of which may be part of another. Says which kind it is,
    /// loudly, if it is not the real one. `TICKWRIGHT_NO_NAMESPACES` asks for relays.
    pub(crate) fn new(names: &[&'static str]) -> Self {
        let refused = match std::env::var_os("TICKWRIGHT_NO_NAMESPACES") {
            Some(_) => "TICKWRIGHT_NO_NAMESPACES is set".to_owned(),
            None => match Namespaces::new(names) {
                Ok(namespaces) => {
                    println!("NETWORK: a namespace for each node");
                    return Self::Namespaces(namespaces);
                }
                Err(reason) => reason,
            },
        };
        println!("NETWORK: NO NAMESPACES, RELAYS ON LOOPBACK INSTEAD: {refused}");
        eprintln!("NO NAMESPACES, RELAYS ON LOOPBACK INSTEAD: {refused}");
        Self::Relays(Relays::new(names))
    }

    /// The node at `place`, as it is to be started here.
    pub(crate) fn attach(&mut self, place: usize, node: Node) -> Node {
        match self {
            Self::Namespaces(namespaces) => namespaces.attach(place, node),
            Self::Relays(relays) => relays.attach(place, node),
        }
    }

    /// Where others reach the node at `place`.
    pub(crate) fn address(&self, place: usize) -> String {
        match self {
            Self::Namespaces(namespaces) => namespaces.address(place),
            Self::Relays(relays) => relays.address(place),
        }
    }

    /// Whether what `from` sends reaches `to`.
    pub(crate) fn pass(&self, from: usize, to: usize, passes: bool) {
        match self {
            Self::Namespaces(namespaces) => namespaces.pass(from, to, passes),
            Self::Relays(relays) => relays.pass(from, to, passes),
        }
    }

    /// Whether anything passes between those of `side` and all others of `count`.
    pub(crate) fn part(&self, side: &[usize], count: usize, passes: bool) {
        for other in (0..count).filter(|place| !side.contains(place)) {
            for &place in side {
                self.pass(place, other, passes);
                self.pass(other, place, passes);
            }
        }
    }

    /// From now on the node at `place` sends no more than so many bytes a second; none is no bound.
    pub(crate) fn slow(&self, place: usize, bytes_per_second: Option<u64>) {
        match self {
            Self::Namespaces(namespaces) => namespaces.slow(place, bytes_per_second),
            Self::Relays(relays) => relays.slow(place, bytes_per_second),
        }
    }
}
