//! The same engine on a PostgreSQL server, without the server: scripts to install, operations as statements, rows as
//! replies.
//!
//! No connection is made here. A driver sends [`mapping::Mapping::encode`]'s statement, and gives back the rows as
//! [`value::Value`]s. Every column is cast in the statement to one of a few plain types, so that a driver needs no
//! knowledge of snapshots, intervals or 64-bit transaction ids.

pub mod ending;
pub mod ids;
pub mod install;
pub mod mapping;
pub mod state;
pub mod value;
