//! What *correct* means for durable execution on PostgreSQL.
//!
//! The vocabulary ([`name`], [`op`], [`reply`]), the [`record`]s and the [`history`] that they form, the
//! [`workload`]s, the [`property`] checks and the [`verdict`]. Nothing here knows an engine: a property reads a
//! history and nothing else, so a checker cannot bless the engine's own bug.
//!
//! ```
//! use tourbillon_models::history::History;
//! use tourbillon_models::property::{Checker, Property};
//! use tourbillon_models::verdict::Judgement;
//!
//! let text = r#"{"header":{"format":1,"seed":7,"workload":"messages","steps":[],"target":"elsewhere","server":null,
//!     "without":[],"processes":["client"],"dead_interval":1000000,"faults_end":0,"liveness_bound":5000000,
//!     "rotation_period":1000000,"options":[]}}"#.replace('\n', "");
//! let verdict = Checker::new().check(&History::read(&text)?);
//! // Nothing is wrong so far, and as the history stops before its state, nobody knows how it ended.
//! assert_eq!(verdict.of(Property::Q1).judgement, Judgement::Holds);
//! assert_eq!(verdict.of(Property::L1).judgement, Judgement::Unknown);
//! # Ok::<(), tourbillon_models::history::ReadError>(())
//! ```
#![no_std]
extern crate alloc;

pub mod brute;
pub mod export;
pub mod history;
pub mod name;
pub mod op;
pub mod outcome;
pub mod property;
pub mod record;
pub mod reply;
pub mod serial;
pub mod state;
pub mod verdict;
pub mod workload;
