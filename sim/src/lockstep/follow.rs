//! The order in which calls ran that one call released together, found out from what came of them.
//!
//! On a server that the user runs nobody can be held back: the released run truly at once. So all are waited for until
//! each has returned or is blocked, and then the orders that the model allows are tried, one after the other, on a second
//! engine that is told all that the first was. The order sought gives the same replies, the same waits, and ids that rise
//! alike. What it is not: a guess. Where the calls ran into each other, so that none of the model's orders explains the
//! server, there is none, and the replay cannot be compared from there on.

use super::compare::{Ready, Side, same_answer};
use super::renaming::{Pairing, Renaming};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tourbillon_engine::engine::{Engine, Environment};
use tourbillon_engine::guard::Guards;
use tourbillon_engine::store::WalLevel;
use tourbillon_engine::store::executor::Progress;
use tourbillon_engine::store::locks::Slot;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{Micros, Xid};
use tourbillon_models::reply::{Refusal, Reply};

/// So many orders are tried at most; a few are the rule.
const ORDERS: usize = 1_000;

/// What an engine was told.
#[derive(Clone, Debug)]
pub enum Told {
    Connect,
    Disconnect(Slot),
    Call(Slot, PlainOp, Environment),
    Resume(Slot, Micros),
    TimeOut(Slot),
}

/// Where the server's session has come to rest.
pub enum Rest<'a> {
    Returned(&'a Ready),
    Blocked(Wait),
}

/// What the server says of a session that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// Whom it waits for.
    pub by: BTreeSet<Slot>,
    pub xid: Option<Xid>,
}

/// Everything that is under way on the server, at rest.
pub struct Still<'a> {
    pub calls: BTreeMap<Slot, (&'a PlainOp, Rest<'a>)>,
    pub renaming: &'a Renaming,
    pub now: Micros,
}

/// What was told, and who was released since everything last stood still.
pub struct Follower {
    guards: Guards,
    wal_level: WalLevel,
    told: Vec<Told>,
    moved: BTreeSet<Slot>,
    planned: VecDeque<Slot>,
}

impl Follower {
    pub fn new(guards: Guards, wal_level: WalLevel) -> Self {
        Follower { guards, wal_level, told: Vec::new(), moved: BTreeSet::new(), planned: VecDeque::new() }
    }

    /// Keeps what the engine was told, and whom that released.
    pub fn tell(&mut self, told: Told, released: &[Slot]) {
        match told {
            Told::Resume(slot, _) if self.planned.front() == Some(&slot) => drop(self.planned.pop_front()),
            // The last of those who ran may have gone instead of going on.
            Told::Disconnect(_) if released.is_empty() => self.stands_still(),
            _ => self.planned.clear(),
        }
        self.moved.extend(released);
        self.told.push(told);
    }

    /// Everybody has come to rest, and is where the model says.
    pub fn stands_still(&mut self) {
        self.moved.clear();
        self.planned.clear();
    }

    /// Several calls ran at once, so that what they came to may be due to that.
    pub fn ran_at_once(&self) -> bool {
        self.moved.len() > 1
    }

    /// Who goes on next, as far as that has been found out.
    pub fn next(&self, released: &[Slot]) -> Option<usize> {
        let next = self.planned.front()?;
        released.iter().position(|slot| slot == next)
    }

    /// Finds an order that explains what the server has come to. False if there is none.
    pub fn explain(&mut self, still: &Still<'_>) -> bool {
        let mut choices = Vec::new();
        for _ in 0..ORDERS {
            let mut attempt = Attempt::of(self, still);
            if attempt.run(&choices) {
                self.planned = attempt.order.into();
                return true;
            }
            match next_choices(&attempt.made) {
                Some(next) => choices = next,
                None => return false,
            }
        }
        false
    }

    fn engine(&self) -> Engine {
        let mut engine = Engine::new(self.guards);
        engine.set_wal_level(self.wal_level);
        let mut reply = Reply::Done;
        for told in &self.told {
            match told {
                Told::Connect => drop(engine.connect()),
                Told::Disconnect(slot) => engine.disconnect(*slot),
                Told::Call(slot, op, environment) => drop(engine.call(*slot, op, *environment, &mut reply)),
                Told::Resume(slot, now) => drop(engine.resume(*slot, *now, &mut reply)),
                Told::TimeOut(slot) => engine.time_out(*slot),
            }
        }
        engine
    }
}

/// The choices after these, each with the number that there were to choose from, depth first.
fn next_choices(made: &[(usize, usize)]) -> Option<Vec<usize>> {
    let last = made.iter().rposition(|(choice, among)| choice + 1 < *among)?;
    let kept = made[..last].iter().map(|(choice, _)| *choice);
    Some(kept.chain([made[last].0 + 1]).collect())
}

/// One order, tried on an engine of its own.
struct Attempt<'a> {
    still: &'a Still<'a>,
    engine: Engine,
    renaming: Renaming,
    order: Vec<Slot>,
    made: Vec<(usize, usize)>,
}

impl<'a> Attempt<'a> {
    fn of(follower: &Follower, still: &'a Still<'a>) -> Self {
        let (engine, renaming) = (follower.engine(), still.renaming.clone());
        Attempt { still, engine, renaming, order: Vec::new(), made: Vec::new() }
    }

    /// Whether the order that these choices lead to, and then always the first, explains what the server has come to.
    fn run(&mut self, choices: &[usize]) -> bool {
        while self.engine.anyone_released() {
            let released = self.engine.released();
            let choice = choices.get(self.made.len()).copied().unwrap_or(0);
            self.made.push((choice, released.len()));
            let slot = released[choice];
            match self.go_on(slot) {
                Some(reply) if self.is_cut_short(slot, &reply) => return true,
                Some(reply) if !self.agrees(slot, &reply) => return false,
                Some(_) | None => {}
            }
        }
        same_waits(&self.engine, self.still, &mut self.renaming)
    }

    /// None if it waits again.
    fn go_on(&mut self, slot: Slot) -> Option<PlainReply> {
        let mut reply = Reply::Done;
        loop {
            self.order.push(slot);
            match self.engine.resume(slot, self.still.now, &mut reply) {
                Progress::Returned => return Some(reply),
                Progress::Blocked if !self.engine.released().contains(&slot) => return None,
                Progress::Blocked => {}
            }
        }
    }

    /// A deadlock that the model breaks before the server does: the wait is cancelled when it is this session's turn, and
    /// what comes after that is not known yet.
    fn is_cut_short(&self, slot: Slot, reply: &PlainReply) -> bool {
        *reply == Reply::Refused(Refusal::Deadlock)
            && matches!(self.still.calls.get(&slot), Some((_, Rest::Blocked(_))))
    }

    fn agrees(&mut self, slot: Slot, reply: &PlainReply) -> bool {
        let Some((op, Rest::Returned(ready))) = self.still.calls.get(&slot) else { return false };
        let mut pairing = Pairing { renaming: &mut self.renaming, shown: &mut Vec::new() };
        same_answer(&mut pairing, op, Side { reply, xid: self.engine.xid(slot) }, ready).is_ok()
    }
}

/// Whether the server lets wait whom the model lets wait, for the same others, and with transaction ids that rise alike.
pub fn same_waits(engine: &Engine, still: &Still<'_>, renaming: &mut Renaming) -> bool {
    still.calls.iter().all(|(slot, (_, rest))| match rest {
        Rest::Returned(_) => !engine.is_blocked(*slot),
        Rest::Blocked(wait) => {
            let mut pairing = Pairing { renaming, shown: &mut Vec::new() };
            engine.is_blocked(*slot)
                && engine.waits_for(*slot) == wait.by
                && pairing.xid(engine.xid(*slot), wait.xid.unwrap_or(Xid(0))).is_ok()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_go_through_every_order_once() {
        // As if there were three to choose from, and then two.
        let made = |choices: &[usize]| [(choices[0], 3), (choices.get(1).copied().unwrap_or(0), 2)];
        let mut seen = vec![made(&[0])];
        while let Some(next) = next_choices(seen.last().unwrap()) {
            seen.push(made(&next));
        }
        let seen: Vec<_> = seen.iter().map(|[first, second]| (first.0, second.0)).collect();
        assert_eq!(seen, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
    }
}
