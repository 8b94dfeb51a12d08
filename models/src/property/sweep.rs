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
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a sweep has seen so far.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "Form", try_from = "Form")]
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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
        self.different.sort_unstable();
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

    /// S3: those of these goals that were never hit.
    pub fn never_reached<'a>(&'a self, goals: &'a [Reach]) -> impl Iterator<Item = Reach> + 'a {
        goals.iter().copied().filter(|reach| self.reach(*reach) == 0)
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

/// A sweep as text: counts by name, so that it can be read and added up elsewhere.
#[derive(Serialize, Deserialize)]
struct Form {
    runs: u64,
    records: u64,
    judgements: [u64; 3],
    exercised: BTreeMap<String, u64>,
    broken: BTreeMap<String, u64>,
    first: BTreeMap<String, First>,
    reach: BTreeMap<String, u64>,
    /// Of each seed that was run twice: the hash of its history.
    hashes: BTreeMap<u64, String>,
    not_deterministic: Vec<u64>,
}

impl From<Sweep> for Form {
    fn from(sweep: Sweep) -> Form {
        let of_properties = |count: fn(&Sweep, Property) -> u64| {
            Property::ALL.into_iter().map(|each| (String::from(each.id()), count(&sweep, each))).collect()
        };
        Form {
            runs: sweep.run_count,
            records: sweep.record_count,
            judgements: sweep.judgements,
            exercised: of_properties(Sweep::exercised),
            broken: of_properties(Sweep::broken),
            first: sweep.first.iter().map(|(each, first)| (String::from(each.id()), first.clone())).collect(),
            reach: Reach::ALL.into_iter().map(|each| (String::from(each.name()), sweep.reach(each))).collect(),
            hashes: sweep.hashes.iter().map(|(seed, hash)| (*seed, format!("{hash:016x}"))).collect(),
            not_deterministic: sweep.different,
        }
    }
}

impl TryFrom<Form> for Sweep {
    type Error = String;

    /// Of the same properties and goals as this build has: sums of anything else mean something else.
    fn try_from(form: Form) -> Result<Sweep, String> {
        let mut sweep = Sweep {
            run_count: form.runs,
            record_count: form.records,
            judgements: form.judgements,
            different: form.not_deterministic,
            ..Sweep::new()
        };
        let property = |id: &String| Property::by_name(id).ok_or_else(|| format!("there is no property {id}"));
        for (id, count) in &form.exercised {
            sweep.exercised[property(id)? as usize] = *count;
        }
        for (id, count) in &form.broken {
            sweep.broken[property(id)? as usize] = *count;
        }
        for (id, first) in form.first {
            sweep.first.insert(property(&id)?, first);
        }
        for (name, count) in &form.reach {
            let goal = Reach::by_name(name).ok_or_else(|| format!("there is no goal {name}"))?;
            sweep.reach[goal as usize] = *count;
        }
        for (seed, hash) in form.hashes {
            let number =
                u64::from_str_radix(&hash, 16).map_err(|_| format!("{hash:?} is not the hash of a history"))?;
            sweep.hashes.insert(seed, number);
        }
        Ok(sweep)
    }
}
