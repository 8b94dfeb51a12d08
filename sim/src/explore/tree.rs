//! The tree of all turns taken so far: each knows the one before it, so that a run can be made again up to any of them.

use crate::order::Turn;
use std::collections::HashMap;

/// A turn after a place in the tree, with the open choices that come with it, as far as they are decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Branch {
    /// Its own place; 0 for one that is not there yet.
    pub node: u32,
    pub parent: u32,
    pub turn: Turn,
    pub picks: Box<[u8]>,
}

impl Branch {
    pub fn new(parent: u32, turn: Turn, picks: &[u8]) -> Branch {
        Branch { node: 0, parent, turn, picks: picks.into() }
    }
}

/// Place 0 is before the first turn.
pub struct Tree {
    nodes: Vec<(u32, Turn)>,
    /// Open choices, where there were any.
    picks: HashMap<u32, Box<[u8]>>,
}

impl Tree {
    pub fn new() -> Tree {
        Tree { nodes: vec![(0, Turn::Pass)], picks: HashMap::new() }
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn add(&mut self, branch: &Branch) -> u32 {
        let node = u32::try_from(self.nodes.len()).expect("the search ends before");
        self.nodes.push((branch.parent, branch.turn));
        node
    }

    pub fn parent(&self, node: u32) -> u32 {
        self.nodes[node as usize].0
    }

    /// All of them, once they are known.
    pub fn set_picks(&mut self, node: u32, picks: &[u8]) {
        self.picks.insert(node, picks.into());
    }

    /// From a place back to the beginning.
    pub fn path(&self, node: u32) -> impl Iterator<Item = Branch> {
        let places = std::iter::successors(Some(node), |node| Some(self.parent(*node)));
        places.take_while(|node| *node != 0).map(|node| {
            let (parent, turn) = self.nodes[node as usize];
            let picks = self.picks.get(&node).cloned().unwrap_or_default();
            Branch { node, parent, turn, picks }
        })
    }

    /// From the beginning to a place.
    pub fn turns(&self, node: u32) -> Vec<Turn> {
        let mut turns: Vec<Turn> = self.path(node).map(|branch| branch.turn).collect();
        turns.reverse();
        turns
    }
}
