//! Actors: those who call the engine, as sans-IO state machines.
//!
//! An actor is asked what it does next, and told what came of the last thing it did. It has one session at a time and
//! knows no connection, thread or clock but the time it is told, which is its own process's. The same actors run in
//! the simulator, over a network, and against a server.

pub mod script;
pub mod worker;

use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{Micros, Xid};
use tourbillon_models::record::Note;

/// What an actor does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// A statement; the reply comes with a later poll.
    Call(PlainOp),
    /// Something worth a record; polled again at once.
    Note(Note),
    /// The process dies of its own program; it is started again like one that was killed.
    Die,
    /// Nothing before this time.
    Sleep(Micros),
    /// Nothing ever again.
    Finished,
}

/// What came of an actor's last call. [`Reply::Unknown`](tourbillon_models::reply::Reply::Unknown) means that the
/// connection is gone, and the transaction with it; the next call has a fresh one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    pub reply: PlainReply,
    /// The transaction in which the call ran, if it has written.
    pub xid: Xid,
}

/// A process that makes calls.
pub trait Actor {
    /// `answered` is there exactly once after each call; the actor may take out of it what it wants to keep.
    fn poll(&mut self, now: Micros, answered: Option<&mut Answered>) -> Action;

    /// The process died and starts again, remembering nothing but what it was told to do.
    fn restart(&mut self, now: Micros);
}
