//! Ids between the vocabulary and a server.
//!
//! Events, ticks, workers and transactions have numbers on both sides. Workflows are uuids on the server, and are
//! numbered here in the order in which they first appear. A token is the low half of its uuid, which holds 62 of its
//! random bits.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
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

    /// None for workflow 0. One that never appeared gets a uuid that no server gives.
    pub fn workflow_uuid(&self, workflow: WorkflowId) -> Option<u128> {
        let index = workflow.0.checked_sub(1)?;
        Some(self.workflows.get(index as usize).copied().unwrap_or(workflow.0.into()))
    }

    /// A token that never appeared gets a uuid that no server gives.
    pub fn token_uuid(&self, token: Token) -> u128 {
        self.tokens.get(&token).copied().unwrap_or(token.0.into())
    }
}
