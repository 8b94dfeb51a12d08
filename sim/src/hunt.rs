//! A hunt: with guards removed, which seed breaks which property, and does the server break the same one there?
//!
//! A *catch* is a run that breaks a property which the same plan keeps with every guard in its place. It is *confirmed*
//! if the plan, replayed in lockstep with the guard's line removed from the SQL as well, breaks that property there,
//! without a divergence. What it is not: a proof that the guard is enough.

use crate::generate::Limits;
use crate::postgres::Error;
use crate::postgres::server::Server;
use crate::replay::{End, Replay, crashes_server, replay};
use crate::simulate::{Simulator, Work};
use crate::sweep::{FOUND_LIMIT, Found, Seeds, Setting, Swept, catch, sweep, work_of};
use crate::target::Chooser;
use std::ops::ControlFlow;
use tourbillon_engine::guard::Guards;
use tourbillon_models::property::Property;

/// How many catches are tried on the server before one gives up.
pub const TRIES: usize = 10;

/// What a hunt found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hunt {
    /// How many seeds were run, up to and with the first catch.
    pub seeds: u64,
    /// In the order of the seeds; the first is what is reported.
    pub catches: Vec<Found>,
}

impl Hunt {
    /// Which of the properties that a catch breaks: one that the first catch breaks, too, as that is the one reported.
    fn property_of(&self, found: &Found) -> Property {
        let reported = self.catches.first().map_or(&[][..], |first| &first.broken);
        let shared = reported.iter().find(|property| found.broken.contains(property));
        *shared.unwrap_or(&found.broken[0])
    }
}

/// Sweeps until so many seeds are caught.
pub fn hunt(
    seeds: Seeds,
    threads: usize,
    limits: &Limits,
    removed: Guards,
    works: impl Fn() -> Vec<Work> + Sync,
    enough: usize,
) -> Hunt {
    let setting = Setting { limits: limits.clone(), guards: removed };
    let enough = enough.min(FOUND_LIMIT);
    let swept = sweep(seeds, threads, &setting, &works, |swept, _| match swept.found.len() {
        found if found >= enough => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let works = works();
    let mut simulator = Simulator::default();
    let mut catches = swept.found.clone();
    catches.retain_mut(|found| keep_what_guards_prevent(&mut simulator, &works, limits, found));
    Hunt { seeds: seeds_until(seeds, &swept, catches.first()), catches }
}

fn seeds_until(seeds: Seeds, swept: &Swept, first: Option<&Found>) -> u64 {
    first.map_or(swept.sums.run_count(), |found| found.seed.wrapping_sub(seeds.first) / seeds.shard.of + 1)
}

/// Strikes out what breaks in the sound engine, too: no guard is to blame for that.
fn keep_what_guards_prevent(simulator: &mut Simulator, works: &[Work], limits: &Limits, found: &mut Found) -> bool {
    let work = work_of(works, found.seed);
    let sound = catch(|| simulator.run(&work.plan(found.seed, limits), work, Guards::ALL));
    let Ok((_, sound)) = sound else {
        *simulator = Simulator::default();
        return false;
    };
    found.broken.retain(|property| sound.of(*property).violation_count == 0);
    !found.broken.is_empty()
}

/// What the server says to a hunt's catches.
pub enum Confirmation {
    Confirmed {
        seed: u64,
        replay: Box<Replay>,
    },
    /// One sentence why not.
    NotShown(String),
}

/// Replays catches, one after the other, until one breaks the first catch's property on the server, too.
pub fn confirm(
    server: &mut Server,
    hunt: &Hunt,
    limits: &Limits,
    removed: Guards,
    works: &[Work],
) -> Result<Confirmation, Error> {
    let mut reasons = Vec::new();
    for found in hunt.catches.iter().take(TRIES) {
        let work = work_of(works, found.seed);
        let plan = work.plan(found.seed, limits);
        if crashes_server(&plan) && !server.can_crash() {
            reasons.push(format!("seed {} crashes the server", found.seed));
            continue;
        }
        let replay = match replay(server, &plan, work, removed, Chooser::seeded(found.seed)) {
            Err(Error::NotComparable(sentence)) => {
                reasons.push(format!("seed {}: {sentence}", found.seed));
                continue;
            }
            replay => replay?,
        };
        match objection(&replay, hunt.property_of(found)) {
            None => return Ok(Confirmation::Confirmed { seed: found.seed, replay: Box::new(replay) }),
            Some(objection) => reasons.push(format!("seed {}: {objection}", found.seed)),
        }
    }
    let count = reasons.len();
    let last = reasons.pop().unwrap_or_else(|| "nothing was caught".to_owned());
    Ok(Confirmation::NotShown(format!("not shown in {count} replays; the last: {last}")))
}

fn objection(replay: &Replay, property: Property) -> Option<String> {
    match &replay.end {
        End::Diverged(difference) => Some(format!("the server differs from the model at {difference}")),
        End::Agreed { verdict, .. } if verdict.of(property).violation_count == 0 => {
            Some(format!("with the choices that the server made, {property} holds"))
        }
        End::Agreed { .. } => None,
    }
}
