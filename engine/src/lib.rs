//! What we built: a durable workflow engine on a rotating log, as a pure-Rust core and as the same procedures in SQL.
//!
//! The engine never looks out: it does no IO, reads no clock, draws no randomness. Time and random bits are arguments.
#![no_std]
extern crate alloc;

pub mod guard;
pub mod store;
pub mod engine;
pub mod actors;
pub mod procedures;
pub mod schema;
pub mod state;
pub mod sql;
