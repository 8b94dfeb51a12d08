//! Timers in the simulator's store.

use super::{Delay, NOW, QUEUE, Site};
use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};
use tourbillon_engine::engine::{Engine, Environment};
use tourbillon_engine::guard::Guards;
use tourbillon_engine::store::executor::Progress;
use tourbillon_engine::store::locks::Slot;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::Micros;
use tourbillon_models::op::{Isolation, Op, QueueKind};
use tourbillon_models::reply::Reply;

pub struct InStore {
    engine: Engine,
    session: Slot,
    holder: Slot,
    now: Micros,
    scheduled: u64,
}

impl InStore {
    pub fn new() -> Result<InStore> {
        let mut engine = Engine::new(Guards::ALL);
        let mut connect = || engine.connect().context("a store has room for two sessions");
        let (session, holder) = (connect()?, connect()?);
        let mut store = InStore { engine, session, holder, now: Micros::from_secs(1), scheduled: 0 };
        store.call(session, &Op::CreateQueue { queue: QUEUE, kind: QueueKind::Plain })?;
        Ok(store)
    }

    fn call(&mut self, slot: Slot, op: &PlainOp) -> Result<PlainReply> {
        self.now = self.now + Micros(1);
        let mut reply = Reply::Done;
        match self.engine.call(slot, op, Environment { now: self.now, random: 0 }, &mut reply) {
            Progress::Returned => Ok(reply),
            Progress::Blocked => bail!("{op:?} waits"),
        }
    }
}

impl Site for InStore {
    fn hold_snapshot(&mut self) -> Result<()> {
        self.call(self.holder, &Op::Begin { isolation: Isolation::RepeatableRead })?;
        self.call(self.holder, &Op::Peek { queue: QUEUE, table: 0 })?;
        Ok(())
    }

    fn let_go(&mut self) -> Result<()> {
        self.call(self.holder, &Op::Commit)?;
        Ok(())
    }

    fn schedule(&mut self, count: u32, delay: Delay) -> Result<Duration> {
        let begun = Instant::now();
        for _ in 0..count {
            self.scheduled += 1;
            let delay = match delay {
                Delay::None => NOW,
                Delay::Days => Micros::from_secs(864_000 + self.scheduled * 7_919 % 1_000_003),
            };
            self.call(self.session, &Op::Schedule { queue: QUEUE, payload: 0, delay })?;
        }
        Ok(begun.elapsed())
    }

    fn timed(&mut self, op: &PlainOp) -> Result<(PlainReply, Duration)> {
        let begun = Instant::now();
        let reply = self.call(self.session, op)?;
        Ok((reply, begun.elapsed()))
    }

    fn timer_rows(&mut self) -> Result<u64> {
        Ok(self.engine.storage().iter().filter(|it| it.table == "timer").map(|it| it.row_count as u64).sum())
    }
}
