//! The verdict on one history: for each property whether it holds, and how often it could have failed.
//!
//! A violation is one sentence that states the contradiction, and the records that prove it; [`Violation::slice`]
//! renders those and their neighbours as text. What a verdict is not: a judgement of the engine. Of one history only.
//!
//! Invariant: unknown is never reported as true.

use crate::history::History;
use crate::property::{Goals, Property, Reach};
use alloc::string::String;
use alloc::vec::Vec;
use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

mod slice;

pub use slice::{TOLD_LINES, lines};

/// True, false, or not to be known from this history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    Holds,
    Unknown,
    Violated,
}

impl Judgement {
    pub const fn name(self) -> &'static str {
        match self {
            Judgement::Holds => "holds",
            Judgement::Unknown => "unknown",
            Judgement::Violated => "violated",
        }
    }
}

/// A contradiction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    pub property: Property,
    /// One sentence: what contradicts what.
    pub sentence: String,
    /// Indices into the history's records, in their order: the ones that the sentence speaks of.
    pub records: Vec<u32>,
}

impl Violation {
    /// The part of the history that matters, at most forty lines.
    pub fn slice(&self, history: &History) -> String {
        slice::slice(history, &self.records)
    }
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {}: {}", self.property.id(), self.property.name(), self.sentence)
    }
}

impl Serialize for Violation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("violation", 2)?;
        fields.serialize_field("sentence", &self.sentence)?;
        fields.serialize_field("records", &self.records)?;
        fields.end()
    }
}

/// What was found out about one property.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub property: Property,
    pub judgement: Judgement,
    /// How many situations there were in which the property could have failed.
    pub exercised: u64,
    /// How many contradictions there were; the first few are told.
    pub violation_count: u64,
    pub violations: Vec<Violation>,
}

/// The verdict on one history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    pub(crate) findings: Vec<Finding>,
    pub(crate) reach: [u64; Reach::ALL.len()],
    pub(crate) record_count: u64,
    /// What could not be read as a history; with any of it nothing is reported as true.
    pub(crate) ill_formed: Vec<(u32, &'static str)>,
    pub(crate) doubts: Vec<u32>,
}

impl Verdict {
    /// Violated if any property is, else unknown if any is, else holds.
    pub fn judgement(&self) -> Judgement {
        self.findings.iter().map(|finding| finding.judgement).max().unwrap_or(Judgement::Unknown)
    }

    /// One for each property, in the order of [`Property::ALL`].
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub fn of(&self, property: Property) -> &Finding {
        &self.findings[property as usize]
    }

    /// Every contradiction that is told, in the order of the properties.
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.findings.iter().flat_map(|finding| &finding.violations)
    }

    /// The properties that are broken.
    pub fn broken(&self) -> impl Iterator<Item = Property> + '_ {
        self.findings.iter().filter(|finding| finding.violation_count > 0).map(|finding| finding.property)
    }

    /// The contradiction that shows first in the history: the one to tell when only one is told.
    pub fn first_violation(&self) -> Option<&Violation> {
        self.violations().min_by_key(|violation| violation.records.last().copied().unwrap_or(u32::MAX))
    }

    /// How often a goal was hit.
    /// What this history reached at least once.
    pub fn goals(&self) -> Goals {
        let reached = Reach::ALL.into_iter().filter(|goal| self.reach(*goal) > 0);
        reached.fold(Goals::default(), Goals::with)
    }

    pub fn reach(&self, reach: Reach) -> u64 {
        self.reach[reach as usize]
    }

    pub fn record_count(&self) -> u64 {
        self.record_count
    }

    /// Records that fit no call, with what is wrong with them: index and reason.
    pub fn ill_formed(&self) -> &[(u32, &'static str)] {
        &self.ill_formed
    }

    /// Calls of which the history does not tell what became, and which make more than themselves unknown. By index.
    pub fn doubts(&self) -> &[u32] {
        &self.doubts
    }

    /// The part of the history that [`Verdict::doubts`] speaks of, at most forty lines; empty if there are none.
    pub fn doubt_slice(&self, history: &History) -> String {
        if self.doubts.is_empty() { String::new() } else { slice::slice(history, &self.doubts) }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("verdict", 6)?;
        fields.serialize_field("judgement", &self.judgement())?;
        fields.serialize_field("records", &self.record_count)?;
        fields.serialize_field("properties", &Properties(&self.findings))?;
        fields.serialize_field("reach", &Counts(&self.reach))?;
        fields.serialize_field("ill_formed", &IllFormed(&self.ill_formed))?;
        fields.serialize_field("doubts", &self.doubts)?;
        fields.end()
    }
}

struct Properties<'a>(&'a [Finding]);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for finding in self.0 {
            map.serialize_entry(finding.property.id(), finding)?;
        }
        map.end()
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("finding", 5)?;
        fields.serialize_field("name", self.property.name())?;
        fields.serialize_field("judgement", &self.judgement)?;
        fields.serialize_field("exercised", &self.exercised)?;
        fields.serialize_field("violation_count", &self.violation_count)?;
        fields.serialize_field("violations", &self.violations)?;
        fields.end()
    }
}

struct Counts<'a>(&'a [u64; Reach::ALL.len()]);

impl Serialize for Counts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Reach::ALL.iter().map(|reach| (reach.name(), self.0[*reach as usize])))
    }
}

struct IllFormed<'a>(&'a [(u32, &'static str)]);

impl Serialize for IllFormed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (record, reason) in self.0 {
            list.serialize_element(&(record, reason))?;
        }
        list.end()
    }
}
