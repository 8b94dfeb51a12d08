//! Real PostgreSQL servers: finding, starting, killing and driving them.
//!
//! What it is: the ground that the lockstep replay and the real-concurrency target stand on. What it is not: it knows
//! no engine, no plan and no history, and reads no reply's meaning. Invariant: it ends no process, and removes no
//! directory and no schema, that it did not make itself, and leaves none behind, however this process ends.
//!
//! Reading order: [`binaries`] finds the programs, [`cluster`] runs a throw-away server from them, a [`session`] is one
//! connection, [`control`] watches sessions from outside, and [`server`] puts them together behind a synchronous face.
//! [`one_cpu`] makes all of it several times faster where one thing happens at a time.

mod account;
pub mod binaries;
pub mod cluster;
pub mod control;
pub mod freeze;
mod home;
pub mod interrupt;
mod log_writer;
pub mod one_cpu;
mod postmaster;
pub mod server;
pub mod session;
mod template;

use std::fmt;

use session::Refusal;

/// Why a server cannot be had, or can no longer be used. Each reads as one sentence.
#[derive(Debug)]
pub enum Error {
    /// No server can be found, started or reached; the sentence says what would help.
    Unavailable(String),
    /// A statement neither returned nor waited for a lock before the deadline.
    Unsettled(String),
    /// What ran at once ran into each other, on a server where nothing can be held back: what it came to proves nothing.
    NotComparable(String),
    /// The server refused a statement of this layer's own.
    Refused(Refusal),
    /// The connection to the server broke.
    Lost(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unavailable(sentence) | Error::Unsettled(sentence) | Error::NotComparable(sentence) => {
                f.write_str(sentence)
            }
            Error::Refused(refusal) => write!(f, "the server refused a statement: {refusal}"),
            Error::Lost(reason) => write!(f, "the connection to the server is lost: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

/// An error and its sources in one line, as tokio-postgres keeps the useful half in the source.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
