//! Ids between the vocabulary and a server.
//!
//! Events, ticks, workers and transactions have numbers on both sides. Workflows are uuids on the server, and are
//! numbered here in the order in which they first appear. A token is the low half of its uuid, which holds 62 of its
//! random bits.

use super::mapping::hexadecimal;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use sha2::{Digest, Sha256};
use tourbillon_models::name::{Token, WorkflowId};

/// What one server's ids stand for. One for all sessions of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ids {
    workflows: Vec<u128>,
    workflow_of: BTreeMap<u128, WorkflowId>,
    tokens: BTreeMap<Token, u128>,
}

impl Ids {
    pub fn new() -> Self {
        Ids::default()
    }

    /// The number of a workflow, a new one at its first appearance.
    pub fn workflow(&mut self, uuid: u128) -> WorkflowId {
        *self.workflow_of.entry(uuid).or_insert_with(|| {
            self.workflows.push(uuid);
            WorkflowId(self.workflows.len() as u32)
        })
    }

    pub fn token(&mut self, uuid: u128) -> Token {
        let token = Token(uuid as u64);
        self.tokens.insert(token, uuid);
        token
    }

    /// How many workflows have a number: those from 1 on.
    pub fn workflow_count(&self) -> u32 {
        self.workflows.len() as u32
    }

    /// None for workflow 0. One that never appeared gets a uuid that no server gives, nor a replay.
    pub fn workflow_uuid(&self, workflow: WorkflowId) -> Option<u128> {
        let index = workflow.0.checked_sub(1)?;
        Some(self.workflows.get(index as usize).copied().unwrap_or(u128::MAX - u128::from(workflow.0)))
    }

    /// All workflows by the hashes under which the server keeps them for long.
    pub(super) fn workflow_of_hash(&self) -> BTreeMap<String, WorkflowId> {
        let hash = |uuid: u128| hexadecimal(Sha256::digest(uuid_text(uuid)));
        self.workflow_of.iter().map(|(uuid, workflow)| (hash(*uuid), *workflow)).collect()
    }

    /// A token that never appeared gets a uuid that no server gives.
    pub fn token_uuid(&self, token: Token) -> u128 {
        self.tokens.get(&token).copied().unwrap_or(token.0.into())
    }
}

/// As the server writes it.
fn uuid_text(uuid: u128) -> String {
    let digits = format!("{uuid:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workflows_are_found_by_the_hash_of_their_uuid_in_its_usual_form() {
        let mut ids = Ids::new();
        let workflow = ids.workflow(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);
        let hashes = ids.workflow_of_hash();
        let (hash, found) = hashes.first_key_value().expect("there is one");
        assert_eq!(
            (hash.as_str(), *found),
            ("6225bd190d6ccf87766a49c9986d174def3391fe175a61525e49a1d2334d6a43", workflow)
        );
    }
}
