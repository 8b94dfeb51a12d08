//! What was found: for each property a contradiction, a doubt, or neither.

use super::act::Account;
use crate::property::{Kind, Property};
use crate::verdict::Judgement;
use alloc::string::String;
use alloc::vec::Vec;

/// The judgement on one history, by the definitions.
pub struct Opinion {
    judgements: [Option<Judgement>; Property::ALL.len()],
    evidence: Vec<(Property, String)>,
}

impl Opinion {
    /// None for a property that is not defined here.
    pub fn of(&self, property: Property) -> Option<Judgement> {
        self.judgements[property as usize]
    }

    /// What contradicts what, one for each time that it was met.
    pub fn evidence(&self, property: Property) -> impl Iterator<Item = &str> {
        self.evidence.iter().filter(move |(other, _)| *other == property).map(|(_, sentence)| sentence.as_str())
    }
}

#[derive(Default)]
pub(super) struct Court {
    broken: Vec<(Property, String)>,
    unclear: Vec<Property>,
}

impl Court {
    /// Whatever else happened, this cannot be.
    pub(super) fn broken(&mut self, property: Property, sentence: String) {
        self.broken.push((property, sentence));
    }

    /// Something is not there; it may be in what nobody told.
    pub(super) fn missing(&mut self, account: &Account<'_>, property: Property, sentence: String) {
        match account.is_vague {
            true => self.unclear.push(property),
            false => self.broken.push((property, sentence)),
        }
    }

    pub(super) fn unclear(&mut self, property: Property) {
        self.unclear.push(property);
    }

    pub(super) fn close(self, account: &Account<'_>, covered: &[Property]) -> Opinion {
        let mut judgements = [None; Property::ALL.len()];
        for property in covered {
            let is_cut = property.kind() == Kind::End && account.history.state.is_none();
            let is_broken = self.broken.iter().any(|(other, _)| other == property);
            let is_of_crashes = matches!(property, Property::D1 | Property::D3 | Property::D4);
            judgements[*property as usize] = Some(match () {
                // What others were shown before the crash, it took back with the rest.
                () if account.has_lost && !is_of_crashes => Judgement::Unknown,
                () if is_broken => Judgement::Violated,
                () if is_cut || account.is_vague => Judgement::Unknown,
                () if self.unclear.contains(property) => Judgement::Unknown,
                () => Judgement::Holds,
            });
        }
        Opinion { judgements, evidence: self.broken }
    }
}
