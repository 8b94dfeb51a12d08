//! The checks of a sweep, of many histories together: S1 (deterministic) and S3 (not vacuous).
//!
//! - **S1** The same plan gives the same history, by its hash, whenever it is run again.
//! - **S3** Every property had an occasion to fail, and every goal of [`Reach`] was hit, at least once in the sweep.
//!
//! A sweep adds up verdicts and keeps none of them but the first that is broken for each property. Sums of shards add up
//! to the same as one sweep over all of it.

use super::{Property, Reach};
use crate::verdict::{Judgement, Verdict};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// What a sweep has seen so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sweep {
    run_count: u64,
    record_count: u64,
    /// How many runs held, were unknown, or were violated.
    judgements: [u64; 3],
    exercised: [u64; Property::ALL.len()],
    /// In how many runs each property was broken.
    broken: [u64; Property::ALL.len()],
    reach: [u64; Reach::ALL.len()],
    first: BTreeMap<Property, First>,
    /// The hash of each plan's history, by seed, for those that are to be run again.
    hashes: BTreeMap<u64, u64>,
    different: Vec<u64>,
}

/// The first run that broke a property.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct First {
    pub seed: u64,
    pub sentence: String,
}

impl Sweep {
    pub fn new() -> Self {
        Sweep {
            run_count: 0,
            record_count: 0,
            judgements: [0; 3],
            exercised: [0; Property::ALL.len()],
            broken: [0; Property::ALL.len()],
            reach: [0; Reach::ALL.len()],
            first: BTreeMap::new(),
            hashes: BTreeMap::new(),
            different: Vec::new(),
        }
    }

    /// Adds the verdict on one run.
    pub fn add(&mut self, seed: u64, verdict: &Verdict) {
        self.run_count += 1;
        self.record_count += verdict.record_count();
        self.judgements[verdict.judgement() as usize] += 1;
        for finding in verdict.findings() {
            self.exercised[finding.property as usize] += finding.exercised;
            self.broken[finding.property as usize] += u64::from(finding.violation_count > 0);
            if let Some(violation) = finding.violations.first() {
                let first = || First { seed, sentence: violation.sentence.clone() };
                self.first.entry(finding.property).or_insert_with(first);
            }
        }
        for reach in Reach::ALL {
            self.reach[reach as usize] += verdict.reach(reach);
        }
    }

    /// S1: the hash of the history that a seed's plan gave. Given twice and different, the seed is not deterministic.
    pub fn hashed(&mut self, seed: u64, hash: u64) {
        let first = *self.hashes.entry(seed).or_insert(hash);
        if first != hash && !self.different.contains(&seed) {
            self.different.push(seed);
        }
    }

    /// Adds another shard's sums.
    pub fn merge(&mut self, other: &Sweep) {
        self.run_count += other.run_count;
        self.record_count += other.record_count;
        add_all(&mut self.judgements, &other.judgements);
        add_all(&mut self.exercised, &other.exercised);
        add_all(&mut self.broken, &other.broken);
        add_all(&mut self.reach, &other.reach);
        for (property, first) in &other.first {
            let known = self.first.entry(*property).or_insert_with(|| first.clone());
            if first.seed < known.seed {
                *known = first.clone();
            }
        }
        for (seed, hash) in &other.hashes {
            self.hashed(*seed, *hash);
        }
        for seed in &other.different {
            if !self.different.contains(seed) {
                self.different.push(*seed);
            }
        }
    }

    pub fn run_count(&self) -> u64 {
        self.run_count
    }

    pub fn record_count(&self) -> u64 {
        self.record_count
    }

    /// How many runs were judged so.
    pub fn judged(&self, judgement: Judgement) -> u64 {
        self.judgements[judgement as usize]
    }

    /// How many occasions a property had to fail.
    pub fn exercised(&self, property: Property) -> u64 {
        self.exercised[property as usize]
    }

    /// In how many runs a property was broken.
    pub fn broken(&self, property: Property) -> u64 {
        self.broken[property as usize]
    }

    /// The run with the smallest seed, among those seen first, that broke a property.
    pub fn first(&self, property: Property) -> Option<&First> {
        self.first.get(&property)
    }

    pub fn reach(&self, reach: Reach) -> u64 {
        self.reach[reach as usize]
    }

    /// S1: the seeds whose plans did not give the same history twice.
    pub fn not_deterministic(&self) -> &[u64] {
        &self.different
    }

    /// S3: properties that could not have failed in this sweep.
    pub fn never_exercised(&self) -> impl Iterator<Item = Property> + '_ {
        Property::ALL.into_iter().filter(|property| self.exercised(*property) == 0)
    }

    /// S3: goals that were never hit.
    pub fn never_reached(&self) -> impl Iterator<Item = Reach> + '_ {
        Reach::ALL.into_iter().filter(|reach| self.reach(*reach) == 0)
    }
}

impl Default for Sweep {
    fn default() -> Self {
        Sweep::new()
    }
}

fn add_all<const N: usize>(sums: &mut [u64; N], others: &[u64; N]) {
    for (sum, other) in sums.iter_mut().zip(others) {
        *sum += other;
    }
}

impl Serialize for Sweep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let property = |property: Property| property.id();
        let exercised: BTreeMap<&str, u64> =
            Property::ALL.into_iter().map(|each| (property(each), self.exercised(each))).collect();
        let broken: BTreeMap<&str, u64> =
            Property::ALL.into_iter().map(|each| (property(each), self.broken(each))).collect();
        let first: BTreeMap<&str, &First> = self.first.iter().map(|(each, first)| (property(*each), first)).collect();
        let reach: BTreeMap<&str, u64> = Reach::ALL.into_iter().map(|each| (each.name(), self.reach(each))).collect();
        let mut fields = serializer.serialize_struct("sweep", 8)?;
        fields.serialize_field("runs", &self.run_count)?;
        fields.serialize_field("records", &self.record_count)?;
        fields.serialize_field("judgements", &self.judgements)?;
        fields.serialize_field("exercised", &exercised)?;
        fields.serialize_field("broken", &broken)?;
        fields.serialize_field("first", &first)?;
        fields.serialize_field("reach", &reach)?;
        fields.serialize_field("not_deterministic", &self.different)?;
        fields.end()
    }
}
