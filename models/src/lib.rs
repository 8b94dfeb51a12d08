//! What *correct* means for durable execution on PostgreSQL.
//!
//! The vocabulary ([`name`], [`op`], [`reply`]), the [`record`]s and the [`history`] that they form, the
//! [`workload`]s, the [`property`] checks and the [`verdict`]. Nothing here knows an engine: a property reads a
//! history and nothing else, so a checker cannot bless the engine's own bug.
#![no_std]
extern crate alloc;

pub mod history;
pub mod name;
pub mod op;
pub mod property;
pub mod record;
pub mod reply;
pub mod verdict;
pub mod workload;
