//! Store parity: the engine's store against a real server, statement by statement.
//!
//! Random schedules of primitive statements from two to four sessions run against both, and every answer, error code,
//! wait, and transaction id is compared, and whom a wait is for. What it is not: a test of the engine, whose procedures
//! stand on the store. Invariant: the server is right by definition; a difference is the store's, and is shrunk to a
//! schedule from which nothing can be left out.
//!
//! Nothing is left to chance. A backend that waits is stopped, and continued when the store says who goes on; so the
//! orders that PostgreSQL leaves open are drawn with the schedule, and *imposed*, and two released backends never run at
//! once. Every session looks for deadlocks after 1 ms, and only the one that runs can: who closes a cycle is its victim.
//! A time-out is a line of the schedule, and cancels the wait. A death is a terminated backend, a crash a killed server.
//!
//! # What is left out, and why
//!
//! - Release of savepoints, keys that change, updates of several rows, serializable transactions, and table locks that
//!   the vocabulary has no word for: the engine does not use them, and the store has none.
//! - Plans that are kept (by a prepared statement, or a function): one that a truncation makes invalid while its statement
//!   waits for the table gives up the lock that it waited for, and asks again behind others. The store does not.
//! - `lock table … nowait` by a session that others wait for at that table: since PostgreSQL 17 it passes them, before it
//!   is refused. Everything else is the same on 14 to 18.
//! - `nextval` after a crash: where a sequence goes on depends on what the server had written by then. Both sides must not
//!   issue again what a transaction saw whose commit is on disk, and then the server's sequence is set to the store's.
//! - What depends on settings: under `wal_level` above `minimal` an access exclusive lock takes a transaction id; after a
//!   checkpoint the next `nextval` does. The server here runs without either.
//! - Two statements that truly run at once. That is for the target with real concurrency.
//!
//! Reading order: a [`statement`] and a [`schedule`] are data, [`draw`] makes them from seeds, [`tables`] and [`model`] are
//! the store's side, [`peer`] is the server's, [`lockstep`] runs a schedule on both, [`shrink`] makes it small.

pub mod draw;
pub mod lockstep;
pub mod model;
pub mod peer;
pub mod schedule;
pub mod shrink;
pub mod statement;
pub mod tables;

use std::ops::Range;

use crate::postgres::Error;
use crate::postgres::server::Server;

use lockstep::{Counts, Difference, Stop};
use model::Model;
use peer::Peer;
use schedule::Schedule;

/// A seed on whose schedule store and server differ.
#[derive(Clone, Debug)]
pub struct Divergence {
    pub seed: u64,
    /// From which nothing can be left out.
    pub schedule: Schedule,
    pub difference: Difference,
}

impl std::fmt::Display for Divergence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}, shrunk:\n\n{}\nas it went:\n{}", self.seed, self.schedule, self.difference)
    }
}

/// What a sweep found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub schedules: u64,
    pub counts: Counts,
    pub divergences: Vec<Divergence>,
}

/// A sweep ends with so many divergences: they tend to be one.
const ENOUGH: usize = 10;

/// Runs the schedules of these seeds; `progress` is told after each how many are done. Ends early with ten divergences.
pub fn sweep(server: &mut Server, seeds: Range<u64>, mut progress: impl FnMut(u64)) -> Result<Report, Error> {
    let (mut model, mut peer) = (Model::default(), Peer::new(server)?);
    let mut report = Report::default();
    for seed in seeds {
        examine(&mut model, &mut peer, seed, &mut report)?;
        progress(report.schedules);
        if report.divergences.len() == ENOUGH {
            break;
        }
    }
    Ok(report)
}

fn examine(model: &mut Model, peer: &mut Peer, seed: u64, report: &mut Report) -> Result<(), Error> {
    report.schedules += 1;
    let schedule = draw::draw(model, seed);
    match compare(model, peer, &schedule)? {
        Ok(counts) => report.counts.add(counts),
        Err(difference) => report.divergences.push(least(model, peer, seed, &schedule, difference)?),
    }
    Ok(())
}

/// The divergence with as little around it as possible; in full, should it not show a second time.
fn least(
    model: &mut Model,
    peer: &mut Peer,
    seed: u64,
    schedule: &Schedule,
    difference: Difference,
) -> Result<Divergence, Error> {
    let mut difference = difference;
    let schedule = shrink::shrink(schedule, |shorter| {
        let ran = compare(model, peer, shorter)?;
        let differs = ran.is_err();
        if let Err(found) = ran {
            difference = found;
        }
        Ok(differs)
    })?;
    Ok(Divergence { seed, schedule, difference })
}

/// Runs one schedule.
pub fn replay(server: &mut Server, schedule: &Schedule) -> Result<Result<Counts, Difference>, Error> {
    compare(&mut Model::default(), &mut Peer::new(server)?, schedule)
}

fn compare(model: &mut Model, peer: &mut Peer, schedule: &Schedule) -> Result<Result<Counts, Difference>, Error> {
    match lockstep::run(model, peer, schedule) {
        Ok(counts) => Ok(Ok(counts)),
        Err(Stop::Difference(difference)) => Ok(Err(*difference)),
        Err(Stop::Server(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that is wrong on purpose.
    #[test]
    fn a_difference_is_found_and_shrunk() {
        let mut server = Server::embedded().unwrap();
        let mut peer = Peer::new(&mut server).unwrap();
        peer.ask("alter table cells add constraint spoiler check (v < 2)", &[]).unwrap();
        let mut model = Model::default();
        let mut report = Report::default();
        for seed in 0..100 {
            examine(&mut model, &mut peer, seed, &mut report).unwrap();
            if !report.divergences.is_empty() {
                break;
            }
        }
        let divergence = report.divergences.first().expect("a wrong server differs");
        let update = "cells set v = v + 1 where id =";
        assert_eq!(divergence.schedule.lines.len(), 2, "{divergence}");
        assert!(divergence.schedule.lines.iter().all(|line| line.to_string().contains(update)), "{divergence}");
        assert_eq!((&*divergence.difference.store, &*divergence.difference.server), ("changed 1", "refused 23514"));
        let again = Schedule::parse(&divergence.schedule.to_string()).unwrap();
        assert_eq!(again, divergence.schedule);
    }
}
