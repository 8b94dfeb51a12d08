//! The order in which those go on who were released together.
//!
//! On a server of our own it is imposed: backends that wait are stopped, and go on one by one. Elsewhere the server lets
//! them run at once, and the order is found out afterwards from what they came to ([`follow`](super::follow)).

use super::connection::Connection;
use super::follow::{self, Follower, Still, Told, Wait, same_waits};
use super::renaming::Renaming;
use super::{Lockstep, Stop};
use crate::postgres::Error;
use crate::postgres::session::Session;
use crate::target::Chooser;
use std::collections::BTreeMap;
use tourbillon_engine::store::locks::Slot;
use tourbillon_models::name::{Micros, Xid};

/// Who decides what PostgreSQL leaves open.
pub(super) enum Order {
    /// We do, on a server of our own.
    Imposed(Box<Chooser>),
    /// The server does, and the model follows.
    Followed(Follower),
}

impl Lockstep<'_> {
    /// Keeps what the engine was told, and whom that released.
    pub(super) fn told(&mut self, told: impl FnOnce() -> Told) {
        if let Order::Followed(follower) = &mut self.order {
            follower.tell(told(), &self.engine.released());
        }
    }

    pub(super) fn planned(&self, released: &[Slot]) -> Option<usize> {
        match &self.order {
            Order::Followed(follower) => follower.next(released),
            Order::Imposed(_) => None,
        }
    }

    pub(super) fn ran_at_once(&self) -> bool {
        matches!(&self.order, Order::Followed(follower) if follower.ran_at_once())
    }

    /// Waits until all calls under way have returned or are blocked, and takes in what has returned.
    fn rest(&mut self) -> Result<BTreeMap<Slot, Wait>, Error> {
        let under_way = |connection: &&mut Connection| connection.op.is_some();
        let mut waiting: Vec<&mut Session> =
            self.connections.values_mut().filter(under_way).map(|connection| &mut connection.session).collect();
        let waits = self.server.wait_until_all_settled(&mut waiting)?;
        let slots: Vec<Slot> = self.connections.keys().copied().collect();
        for slot in slots {
            let connection = self.connection(slot);
            let outcome = if connection.op.is_some() { connection.session.take_outcome() } else { None };
            if let Some(outcome) = outcome {
                self.take(slot, outcome);
            }
        }
        let slot_of = |pid: i32| self.connections.iter().find(|(_, it)| it.session.pid() == pid).map(|(slot, _)| *slot);
        let mut found = BTreeMap::new();
        for wait in waits {
            let by = self.server.blocked_by(wait.pid)?.into_iter().filter_map(slot_of).collect();
            let xid = self.server.xid_of(wait.pid)?.map(Xid);
            found.insert(slot_of(wait.pid).expect("only sessions of ours are asked for"), Wait { by, xid });
        }
        Ok(found)
    }

    /// Finds out in which order those ran that were released together.
    pub(super) fn explain(&mut self) -> Result<(), Stop> {
        let waits = self.rest()?;
        let still = still(&self.connections, &self.renaming, waits, self.clock);
        let explained = match &mut self.order {
            Order::Followed(follower) => follower.explain(&still),
            Order::Imposed(_) => unreachable!("on a server of our own the order is imposed"),
        };
        match explained {
            true => Ok(()),
            false => Err(self.diverged(AT_ONCE, "no order explains what they came to".to_owned())),
        }
    }

    /// When all those that ran at once are where the model says, the server's must be, too.
    pub(super) fn stand_still(&mut self) -> Result<(), Stop> {
        if self.engine.anyone_released() {
            return Ok(());
        }
        if self.ran_at_once() {
            let waits = self.rest()?;
            let still = still(&self.connections, &self.renaming, waits, self.clock);
            if !same_waits(&self.engine, &still, &mut self.renaming.clone()) {
                return Err(self.diverged(AT_ONCE, "afterwards others wait than in the model".to_owned()));
            }
        }
        if let Order::Followed(follower) = &mut self.order {
            follower.stands_still();
        }
        Ok(())
    }
}

const AT_ONCE: &str = "calls that were released together";

fn still<'b>(
    connections: &'b BTreeMap<Slot, Connection>,
    renaming: &'b Renaming,
    mut waits: BTreeMap<Slot, Wait>,
    clock: Option<Micros>,
) -> Still<'b> {
    let calls = connections.iter().filter_map(|(slot, connection)| {
        let rest = match (&connection.ready, waits.remove(slot)) {
            (Some(ready), _) => follow::Rest::Returned(ready),
            (None, Some(wait)) => follow::Rest::Blocked(wait),
            (None, None) => return None,
        };
        Some((*slot, (&connection.asked, rest)))
    });
    Still { calls: calls.collect(), renaming, now: clock.expect("whoever released them has set the clock") }
}
