//! The verdict while it grows: counts, contradictions, and what cannot be known.
//!
//! Sentences are built only for what is told: a broken engine contradicts itself thousands of times in one run, and
//! the first few say as much as all of them.

use super::{Kind, Property, Reach};
use crate::verdict::{Finding, Judgement, Verdict, Violation};
use alloc::string::String;
use alloc::vec::Vec;

/// So many violations of one property are told; the others are counted.
const TOLD: u64 = 4;

const PROPERTIES: usize = Property::ALL.len();

pub(super) struct Findings {
    exercised: [u64; PROPERTIES],
    violation_count: [u64; PROPERTIES],
    unknown: [bool; PROPERTIES],
    violations: Vec<Violation>,
    reach: [u64; Reach::ALL.len()],
    ill_formed: Vec<(u32, &'static str)>,
    /// Calls of which nobody knows what became.
    pub(super) doubts: Vec<u32>,
}

impl Findings {
    pub(super) fn new() -> Self {
        Findings {
            exercised: [0; PROPERTIES],
            violation_count: [0; PROPERTIES],
            unknown: [false; PROPERTIES],
            violations: Vec::new(),
            reach: [0; Reach::ALL.len()],
            ill_formed: Vec::new(),
            doubts: Vec::new(),
        }
    }

    /// There was an occasion to break this property.
    #[inline]
    pub(super) fn exercised(&mut self, property: Property) {
        self.exercised[property as usize] += 1;
    }

    #[inline]
    pub(super) fn sees(&mut self, reach: Reach) {
        self.reach[reach as usize] += 1;
    }

    /// Whether another violation of this property would be told, and so is worth the search for its evidence.
    pub(super) fn tells(&self, property: Property) -> bool {
        self.violation_count[property as usize] < TOLD
    }

    pub(super) fn is_broken(&self, property: Property) -> bool {
        self.violation_count[property as usize] > 0
    }

    #[cold]
    pub(super) fn violated(&mut self, property: Property, records: &[u32], sentence: impl FnOnce() -> String) {
        let count = &mut self.violation_count[property as usize];
        *count += 1;
        if *count > TOLD {
            return;
        }
        let mut records: Vec<u32> = records.iter().copied().filter(|record| *record != u32::MAX).collect();
        records.sort_unstable();
        records.dedup();
        self.violations.push(Violation { property, sentence: sentence(), records });
    }

    /// This property is not reported as true.
    pub(super) fn unknown(&mut self, property: Property) {
        self.unknown[property as usize] = true;
    }

    #[cold]
    pub(super) fn ill_formed(&mut self, record: u32, reason: &'static str) {
        if self.ill_formed.len() < TOLD as usize {
            self.ill_formed.push((record, reason));
        }
    }

    pub(super) fn verdict(self, record_count: u64, has_state: bool) -> Verdict {
        let mut findings: Vec<Finding> = Property::ALL
            .into_iter()
            .map(|property| Finding {
                property,
                judgement: self.judgement(property, has_state),
                exercised: self.exercised[property as usize],
                violation_count: self.violation_count[property as usize],
                violations: Vec::new(),
            })
            .collect();
        for violation in self.violations {
            findings[violation.property as usize].violations.push(violation);
        }
        Verdict { findings, reach: self.reach, record_count, ill_formed: self.ill_formed, doubts: self.doubts }
    }

    fn judgement(&self, property: Property, has_state: bool) -> Judgement {
        let cut_off = property.kind() == Kind::End && !has_state;
        match () {
            () if self.violation_count[property as usize] > 0 => Judgement::Violated,
            () if self.unknown[property as usize] || cut_off || !self.ill_formed.is_empty() => Judgement::Unknown,
            () => Judgement::Holds,
        }
    }
}
