//! What we built: a durable workflow engine on a rotating log, as a pure-Rust core and as the same procedures in SQL.
//!
//! The engine never looks out: it does no IO, reads no clock, draws no randomness. Time and random bits are arguments.
//! A call returns or waits, as a statement does on a server:
//!
//! ```
//! use tourbillon_engine::engine::{Engine, Environment};
//! use tourbillon_engine::store::executor::Progress;
//! use tourbillon_engine::guard::Guards;
//! use tourbillon_models::name::{Micros, Queue};
//! use tourbillon_models::op::{Isolation, Op, QueueKind};
//! use tourbillon_models::reply::Reply;
//!
//! let mut engine = Engine::new(Guards::ALL);
//! let one = engine.connect().expect("a new engine has no sessions");
//! let other = engine.connect().expect("nor many");
//! let (queue, kind, isolation) = (Queue(0), QueueKind::Plain, Isolation::ReadCommitted);
//! let at = |millis| Environment { now: Micros::from_millis(millis), random: 0 };
//!
//! let mut reply = Reply::Done;
//!
//! engine.call(one, &Op::CreateQueue { queue, kind }, at(0), &mut reply);
//! engine.call(one, &Op::Begin { isolation }, at(1), &mut reply);
//! engine.call(one, &Op::Tick { queue }, at(2), &mut reply);
//! // The ticks of a queue are taken one after the other.
//! assert_eq!(engine.call(other, &Op::Tick { queue }, at(3), &mut reply), Progress::Blocked);
//! engine.call(one, &Op::Commit, at(4), &mut reply);
//! assert_eq!(reply, Reply::Committed);
//! assert_eq!(engine.released(), [other]);
//! ```
#![no_std]
extern crate alloc;

pub mod actors;
pub mod designs;
pub mod engine;
pub mod guard;
pub mod procedures;
pub mod schema;
pub mod sql;
pub mod state;
pub mod storage;
pub mod store;
pub mod wait_token;
