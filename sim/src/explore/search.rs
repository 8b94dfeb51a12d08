//! What a search knows: the states that were reached, and the branches that were left.
//!
//! Branches with fewer preemptions come first, so a state is reached first by the way that leaves the largest budget, and
//! never has to be entered again.

use super::mixed::Mixed;
use super::tree::{Branch, Tree};
use std::collections::HashSet;
use std::time::Instant;

/// Whether states are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pruning {
    /// A state that was reached is not entered again.
    States,
    /// Every schedule is run.
    Nothing,
}

/// When to stop before the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    pub states: u64,
    pub until: Option<Instant>,
}

pub struct Search {
    pub tree: Tree,
    pruning: Pruning,
    limit: Limit,
    /// By hash: of fifty million states two are taken for one with a probability of one in ten thousand.
    reached: HashSet<u64, Mixed>,
    pub states: u64,
    /// By preemptions.
    left: Vec<Vec<Branch>>,
    is_cut: bool,
}

impl Search {
    pub fn new(pruning: Pruning, limit: Limit) -> Search {
        Search {
            tree: Tree::new(),
            pruning,
            limit,
            reached: HashSet::default(),
            states: 0,
            left: Vec::new(),
            is_cut: false,
        }
    }

    /// Looks at the clock now and then.
    pub fn is_full(&mut self) -> bool {
        let is_late = || self.limit.until.is_some_and(|until| Instant::now() >= until);
        let is_large = self.states >= self.limit.states || self.tree.len() >= u32::MAX as usize - 1;
        self.is_cut = self.is_cut || is_large || self.states.is_multiple_of(256) && is_late();
        self.is_cut
    }

    pub fn is_new(&mut self, key: u64) -> bool {
        let is_new = self.pruning == Pruning::Nothing || self.reached.insert(key);
        self.states += u64::from(is_new);
        is_new
    }

    pub fn leave(&mut self, preemptions: u8, branch: Branch) {
        let place = usize::from(preemptions);
        if self.left.len() <= place {
            self.left.resize_with(place + 1, Vec::new);
        }
        self.left[place].push(branch);
    }

    /// The newest of those with the fewest preemptions.
    pub fn next(&mut self) -> Option<Branch> {
        self.left.iter_mut().find_map(Vec::pop)
    }

    pub fn left_count(&self) -> usize {
        self.left.iter().map(Vec::len).sum()
    }
}
