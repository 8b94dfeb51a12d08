//! What we built: a durable workflow engine on a rotating log, as a pure-Rust core and as the same procedures in SQL.
//!
//! The engine never looks out: it does no IO, reads no clock, draws no randomness. Time and random bits are arguments.
#![no_std]
extern crate alloc;

pub mod actors;
pub mod engine;
pub mod guard;
pub mod procedures;
pub mod schema;
pub mod sql;
pub mod state;
pub mod store;
