//! The same engine on a PostgreSQL server, without the server: scripts to install, operations as statements, rows as
//! replies.
//!
//! No connection is made here. A driver sends [`mapping::Mapping::encode`]'s statement, and gives back the rows as
//! [`value::Value`]s. Every column is cast in the statement to one of a few plain types, so that a driver needs no
//! knowledge of snapshots, intervals or 64-bit transaction ids.
//!
//! Reading order: [`install`] makes the scripts; [`value`] and [`ids`] say what goes over the wire; [`mapping`] turns
//! operations into statements and rows into replies, [`ending`] errors into refusals, `words` the words of the vocabulary
//! into those of the server and back; [`state`] asks for all rows.

pub mod ending;
pub mod ids;
pub mod install;
pub mod mapping;
pub mod state;
mod texts;
pub mod value;
mod words;
