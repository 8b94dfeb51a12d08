//! Targets: what a run's calls go to. The direct one is the engine in this process.
//!
//! A target answers, and decides what PostgreSQL leaves open; when anything happens is the scheduler's affair.

use crate::random::Stream;
use std::convert::Infallible;
use tourbillon_engine::engine::{Engine, Environment};
use tourbillon_engine::guard::Guards;
use tourbillon_engine::store::WalLevel;
use tourbillon_engine::store::executor::Progress;
use tourbillon_engine::store::locks::Slot;
use tourbillon_engine::store::unflushed::Durability;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{Micros, Xid};
use tourbillon_models::state::State;

/// A system under test, as the scheduler sees it.
pub trait Target {
    /// What stops a run: nothing, or a target that disagrees with itself.
    type Stop;

    fn connect(&mut self) -> Result<Slot, Self::Stop>;
    fn disconnect(&mut self, slot: Slot, now: Micros) -> Result<(), Self::Stop>;
    /// `reply` is written if the call returns, here and when it is resumed.
    fn call(
        &mut self,
        slot: Slot,
        op: &PlainOp,
        environment: Environment,
        reply: &mut PlainReply,
    ) -> Result<Progress, Self::Stop>;
    /// Which of several sessions whose wait is over goes on first: an index into them.
    fn pick(&mut self, released: &[Slot]) -> Result<usize, Self::Stop>;
    fn resume(&mut self, slot: Slot, now: Micros, reply: &mut PlainReply) -> Result<Progress, Self::Stop>;
    /// The session's present wait has taken too long.
    fn time_out(&mut self, slot: Slot, now: Micros) -> Result<(), Self::Stop>;
    /// The server's log reaches the disk.
    fn flush(&mut self) -> Result<(), Self::Stop>;
    /// The server dies; it is back before the next call. Gives back the transactions that had committed and are lost.
    fn crash(&mut self) -> Result<Vec<Xid>, Self::Stop>;
    /// The final state, once everything is still.
    fn state(&mut self) -> Result<State, Self::Stop>;

    /// The engine that answers, or that says what the answer must be.
    fn engine(&self) -> &Engine;

    fn xid(&self, slot: Slot) -> Xid {
        self.engine().xid(slot)
    }
}

/// Where choices come from.
pub enum Chooser {
    Seeded(Box<Stream>),
    /// Those of an earlier run, by index; when they run out, the first.
    Recorded(std::vec::IntoIter<u8>),
}

impl Chooser {
    pub fn seeded(seed: u64) -> Self {
        Chooser::Seeded(Box::new(Stream::new(seed, "choice", 0)))
    }

    /// An index below `among`.
    pub fn pick(&mut self, among: usize) -> usize {
        match self {
            Chooser::Seeded(stream) => stream.below(among as u64) as usize,
            Chooser::Recorded(choices) => usize::from(choices.next().unwrap_or(0)).min(among - 1),
        }
    }
}

/// The engine in this process.
pub struct Direct {
    engine: Engine,
    chooser: Chooser,
}

impl Direct {
    pub fn new(guards: Guards, chooser: Chooser) -> Self {
        Direct { engine: Engine::new(guards), chooser }
    }

    pub fn record_footprints(&mut self) {
        self.engine.record_footprints();
    }

    /// An empty database for another run, on a server that is set like this; the memory is kept.
    pub fn restart(&mut self, guards: Guards, wal_level: WalLevel, durability: Durability, chooser: Chooser) {
        self.engine.restart(guards);
        self.engine.set_wal_level(wal_level);
        self.engine.set_durability(durability);
        self.chooser = chooser;
    }
}

impl Target for Direct {
    type Stop = Infallible;

    fn connect(&mut self) -> Result<Slot, Infallible> {
        Ok(self.engine.connect().expect("a plan has fewer processes than the store has sessions"))
    }

    fn disconnect(&mut self, slot: Slot, _now: Micros) -> Result<(), Infallible> {
        self.engine.disconnect(slot);
        Ok(())
    }

    fn call(
        &mut self,
        slot: Slot,
        op: &PlainOp,
        environment: Environment,
        reply: &mut PlainReply,
    ) -> Result<Progress, Infallible> {
        Ok(self.engine.call(slot, op, environment, reply))
    }

    fn pick(&mut self, released: &[Slot]) -> Result<usize, Infallible> {
        Ok(self.chooser.pick(released.len()))
    }

    fn resume(&mut self, slot: Slot, now: Micros, reply: &mut PlainReply) -> Result<Progress, Infallible> {
        Ok(self.engine.resume(slot, now, reply))
    }

    fn time_out(&mut self, slot: Slot, _now: Micros) -> Result<(), Infallible> {
        self.engine.time_out(slot);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        self.engine.flush();
        Ok(())
    }

    fn crash(&mut self) -> Result<Vec<Xid>, Infallible> {
        Ok(self.engine.crash())
    }

    fn state(&mut self) -> Result<State, Infallible> {
        Ok(self.engine.state())
    }

    fn engine(&self) -> &Engine {
        &self.engine
    }
}
