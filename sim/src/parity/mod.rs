//! Store parity: the engine's store against a real server, statement by statement.

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

/// Runs the schedules of these seeds; `progress` is told after each how many are done. Stops at the tenth divergence.
pub fn sweep(server: &mut Server, seeds: Range<u64>, mut progress: impl FnMut(u64)) -> Result<Report, Error> {
    let (mut model, mut peer) = (Model::default(), Peer::new(server)?);
    let mut report = Report::default();
    for seed in seeds {
        let schedule = draw::draw(&mut model, seed);
        match compare(&mut model, &mut peer, &schedule)? {
            Ok(counts) => report.counts.add(counts),
            Err(_) => {
                let differs = |it: &Schedule| compare(&mut model, &mut peer, it).map(|it| it.is_err());
                let schedule = shrink::shrink(&schedule, differs)?;
                if let Err(difference) = compare(&mut model, &mut peer, &schedule)? {
                    report.divergences.push(Divergence { seed, schedule, difference });
                }
            }
        }
        report.schedules += 1;
        progress(report.schedules);
        if report.divergences.len() == 10 {
            break;
        }
    }
    Ok(report)
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

    #[test]
    fn files() {
        let mut server = Server::embedded().unwrap();
        let only = std::env::var("PARITY_FILE").unwrap_or_default();
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity")).unwrap() {
            let path = entry.unwrap().path();
            if !path.to_string_lossy().contains(&only) {
                continue;
            }
            let schedule = Schedule::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let mut model = Model::default();
            let mut peer = Peer::new(&mut server).unwrap();
            match compare(&mut model, &mut peer, &schedule).unwrap() {
                Ok(counts) => println!("{} {counts:?}", path.display()),
                Err(difference) => println!("{} {difference}", path.display()),
            }
        }
    }

    #[test]
    fn sweep_of_seeds() {
        let range = std::env::var("PARITY").unwrap_or("0..200".into());
        let (low, high) = range.split_once("..").unwrap();
        let _one = crate::postgres::one_cpu::OneCpu::claim();
        let mut server = Server::embedded().unwrap();
        let begin = std::time::Instant::now();
        let report = sweep(&mut server, low.parse().unwrap()..high.parse().unwrap(), |_| ()).unwrap();
        for divergence in &report.divergences {
            println!("{divergence}\n");
        }
        println!("{:?} schedules, {:?} in {:?}", report.schedules, report.counts, begin.elapsed());
        assert!(report.divergences.is_empty());
    }
}
