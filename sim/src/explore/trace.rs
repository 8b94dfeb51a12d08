//! A schedule up to the order of turns that do not depend on each other.
//!
//! Each turn has a hash of who took it, of what it was, and of the turns that it depends on: its process's last, and those
//! whose footprints meet its own. The sum of these is the same for two schedules if one becomes the other by exchanging
//! neighbours that are independent (they are one Mazurkiewicz trace), and then they lead to the same state (Musuvathi and
//! Qadeer, "Partial-order reduction for context-bounded state exploration"). A process is told by its history, and at first
//! by what it is to do, not by its place: so schedules that differ in which of two alike workers did what are one as well.
//! Two traces that differ are taken for one with a probability of one in 2¹²⁸ a pair.

use super::mixed::Mixed;
use crate::plan::Plan;
use std::collections::HashMap;
use tourbillon_engine::store::footprint::{Footprint, Resource};
use xxhash_rust::xxh3::xxh3_128;

#[derive(Clone, Default)]
struct Uses {
    last_write: u128,
    reads_since: Vec<u128>,
}

/// The turns so far.
pub struct Trace {
    sum: u128,
    barrier: u128,
    uses: HashMap<Resource, Uses, Mixed>,
    /// By process: the hash of its last turn; at first that of what it is.
    processes: Vec<u128>,
    origins: Vec<u128>,
    dependences: Vec<u128>,
    bytes: Vec<u8>,
}

impl Trace {
    pub fn new(plan: &Plan) -> Trace {
        let text = |process: &crate::plan::ProcessPlan| serde_json::to_string(&(&process.role, &process.hears_of));
        let hash = |process| xxh3_128(text(process).expect("a role has a text form").as_bytes());
        let origins: Vec<u128> = plan.processes.iter().map(hash).collect();
        Trace {
            sum: 0,
            barrier: 0,
            uses: HashMap::default(),
            processes: origins.clone(),
            origins,
            dependences: Vec::new(),
            bytes: Vec::new(),
        }
    }

    pub fn clear(&mut self) {
        (self.sum, self.barrier) = (0, 0);
        self.uses.clear();
        self.processes.clone_from(&self.origins);
    }

    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// What a process is known by.
    pub fn of_process(&self, process: u8) -> u128 {
        self.processes[usize::from(process)]
    }

    /// A turn that depends on all before, and on which all after it depend.
    pub fn barrier(&mut self, process: Option<u8>, label: u64) {
        self.dependences.clear();
        self.dependences.push(self.sum);
        let hash = self.finish(process, label);
        self.uses.clear();
        self.barrier = hash;
    }

    pub fn turn(&mut self, process: u8, label: u64, footprint: &Footprint) {
        if footprint.has_everything() {
            return self.barrier(Some(process), label);
        }
        self.dependences.clear();
        for resource in &footprint.reads {
            if let Some(uses) = self.uses.get(resource) {
                self.dependences.push(uses.last_write);
            }
        }
        for resource in &footprint.writes {
            if let Some(uses) = self.uses.get(resource) {
                self.dependences.push(uses.last_write);
                self.dependences.extend_from_slice(&uses.reads_since);
            }
        }
        self.dependences.sort_unstable();
        self.dependences.dedup();
        let hash = self.finish(Some(process), label);
        for resource in &footprint.reads {
            let uses = self.uses.entry(*resource).or_default();
            if uses.reads_since.last() != Some(&hash) {
                uses.reads_since.push(hash);
            }
        }
        for resource in &footprint.writes {
            let uses = self.uses.entry(*resource).or_default();
            uses.last_write = hash;
            uses.reads_since.clear();
        }
    }

    fn finish(&mut self, process: Option<u8>, label: u64) -> u128 {
        let before = process.map_or(0, |process| self.of_process(process));
        self.bytes.clear();
        self.bytes.extend_from_slice(&label.to_le_bytes());
        self.bytes.extend_from_slice(&before.to_le_bytes());
        self.bytes.extend_from_slice(&self.barrier.to_le_bytes());
        self.dependences.iter().for_each(|hash| self.bytes.extend_from_slice(&hash.to_le_bytes()));
        let hash = xxh3_128(&self.bytes);
        self.sum = self.sum.wrapping_add(hash);
        if let Some(process) = process {
            self.processes[usize::from(process)] = hash;
        }
        hash
    }
}
