//! One round: a schema, a cast, faults, peace, and a history. Nothing of it stays but the verdict and some figures.

use super::Plan;
use super::conductor::{Conductor, Shaken};
use super::course::Course;
use super::site::Progress;
use super::strike::Injected;
use crate::postgres::server::Server;
use anyhow::Result;
use std::path::Path;
use tourbillon_models::history::History;
use tourbillon_models::name::Micros;

/// What a round came to.
pub struct Played {
    pub history: History,
    pub injected: Vec<Injected>,
    pub progress: Progress,
    pub shaken: Shaken,
    /// How long it took from then on until nothing was left to do; none if it never came to that.
    pub drained_in: Option<Micros>,
    /// What went wrong beside that, a sentence each.
    pub amiss: Vec<String>,
    /// By how much somebody has set the server's calendar meanwhile.
    pub calendar_set: Micros,
}

/// Plays a round in a directory of its own, which must be empty. `watch` is told now and then how far it is; `is_broken` is
/// asked about a round that does not come to its end.
pub fn play(
    plan: &Plan,
    course: &Course<'_>,
    server: &mut Server,
    directory: &Path,
    watch: &mut dyn FnMut(Progress, &[Injected]),
    is_broken: &mut dyn FnMut(&History) -> bool,
) -> Result<Played> {
    let mut conductor = Conductor::prepare(plan, course, server, directory)?;
    let shaken = conductor.shake(watch)?;
    let drained = conductor.wait_until_drained(shaken.at, watch, is_broken)?;
    conductor.dismiss()?;
    let injected = conductor.injected();
    let calendar_set = conductor.site.calendar_set()?;
    let (progress, amiss) = (conductor.progress, conductor.amiss.clone());
    let history = conductor.write_up(shaken.at)?;
    Ok(Played {
        history,
        injected,
        progress,
        shaken,
        drained_in: drained.map(|at| at - shaken.at),
        amiss,
        calendar_set,
    })
}
