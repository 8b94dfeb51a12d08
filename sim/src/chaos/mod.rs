//! Real concurrency: the same actors as real processes, on a real server, under real faults.
//!
//! plan → rounds; a round: [`cast`] → [`crew`] → faults ([`blow`]) → peace → journals → [`merge`] → check → forgotten. The
//! rounds' faults are drawn from a seed, what comes of them is not. Each process is this program started again
//! ([`process`]): one actor, one connection through a [`proxy`] of its own, one [`journal`]. What it is not: reproducible. A
//! verdict stands on the history that was seen, which is kept if it is broken.
//!
//! Where two calls overlap, nobody knows which took effect first. The history says when each was made and answered and
//! leaves it at that: the checker, which knows calls by both ends, takes what is true of some order in between. What became of
//! a lost call is found out from the database and noted before its process goes on.

pub mod blow;
mod cast;
mod clock;
mod crew;
mod figures;
mod journal;
mod link;
mod mark;
mod merge;
mod orders;
pub mod process;
mod proxy;
mod round;
mod site;

pub use crew::{COMMAND, STARTED_BY};
pub use figures::{Figures, Judged};
pub use process::DIED;

use crate::generate;
use crate::postgres::server::Server;
use crate::simulate::Work;
use anyhow::{Context, Result};
use blow::Kind;
use cast::{DEAD_INTERVAL, DRAIN_INTERVAL, LIVENESS_BOUND, ROTATION_PERIOD};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tourbillon_engine::guard::Guards;
use tourbillon_engine::schema::FORBIDDEN_STATE;
use tourbillon_models::history::{FORMAT, Header, History};
use tourbillon_models::name::Micros;
use tourbillon_models::property::{Checker, UNDELIVERABLE_STATE};
use tourbillon_models::verdict::{Judgement, Verdict};

/// What to do, and for how long.
pub struct Plan {
    pub seed: u64,
    pub works: Vec<Work>,
    pub guards: Guards,
    pub kinds: Vec<Kind>,
    pub workers: u64,
    pub clients: u32,
    pub length: Length,
    /// Of a round's faults.
    pub round: Micros,
    /// Between two faults, on average.
    pub gap: Micros,
    pub server_kills: u64,
    /// Where journals lie; none: with the server.
    pub journals: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    /// Of faults, peace not counted.
    Time(Duration),
    Workflows(u64),
}

/// One round of a plan.
pub(crate) struct Course<'w> {
    pub round: u64,
    pub work: &'w Work,
    /// Of each client, at most.
    pub workflows: u32,
    pub size: u64,
    /// So many are to be alive at a time.
    pub live: u64,
    pub faults_end: Micros,
    pub liveness_bound: Micros,
    pub server_kills: u64,
}

impl Course<'_> {
    fn header(&self, plan: &Plan, processes: Vec<String>, faults_end: Micros, server: &str) -> Header {
        let options = [
            ("workers", plan.workers.to_string()),
            ("clients", plan.clients.to_string()),
            ("live", self.live.to_string()),
            ("size", self.size.to_string()),
            ("server_kills", self.server_kills.to_string()),
            ("faults", plan.kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(",")),
            (UNDELIVERABLE_STATE, FORBIDDEN_STATE.to_string()),
        ];
        Header {
            format: FORMAT,
            seed: plan.seed,
            workload: self.work.name.clone(),
            steps: self.work.steps().into_iter().map(str::to_owned).collect(),
            names: self.work.names().into_iter().map(str::to_owned).collect(),
            target: "chaos".to_owned(),
            server: Some(server.to_owned()),
            without: plan.guards.removed().map(|guard| guard.name().to_owned()).collect(),
            processes,
            dead_interval: DEAD_INTERVAL,
            faults_end,
            liveness_bound: self.liveness_bound,
            rotation_period: ROTATION_PERIOD,
            drain_interval: DRAIN_INTERVAL,
            options: options.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        }
    }
}

/// How far a run is.
pub struct Status<'a> {
    pub figures: &'a Figures,
    pub round: u64,
    pub workload: &'a str,
    /// Of the round under way.
    pub finished: u64,
    pub live: u64,
    pub faults: usize,
    pub wall: Duration,
}

/// The first history that is not clean, and what is wrong with it.
pub struct Broken {
    pub round: u64,
    pub history: History,
    pub verdict: Verdict,
}

/// Settings of a server of our own, for who is not in lockstep.
pub const SETTINGS: [&str; 3] = ["deadlock_timeout=100ms", "autovacuum=on", "max_connections=100"];

/// Plays rounds until the plan is done, or one is not clean. `read` is shown each clean history before it is forgotten.
pub fn run(
    plan: &Plan,
    server: &mut Server,
    mut watch: impl FnMut(&Status<'_>),
    mut read: impl FnMut(u64, &History) -> Result<()>,
) -> Result<(Figures, Option<Broken>)> {
    let directory = journals(plan, server)?;
    let (mut figures, mut checker) = (Figures::default(), Checker::new());
    let begun = Instant::now();
    for round in 0.. {
        let Some(course) = next_course(plan, &figures, round) else { break };
        let own = directory.path().join(round.to_string());
        std::fs::create_dir(&own).with_context(|| format!("{} cannot be made", own.display()))?;
        open_to_all(&own)?;
        let mut tell = |progress: site::Progress, injected: &[round::Injected]| {
            watch(&Status {
                figures: &figures,
                round,
                workload: &course.work.name,
                finished: progress.started.saturating_sub(progress.live),
                live: progress.live,
                faults: injected.len(),
                wall: begun.elapsed(),
            });
        };
        let played = round::play(plan, &course, server, &own, &mut tell)?;
        let verdict = checker.check_program(&played.history, course.work.program.as_deref());
        figures.add(&played, &verdict);
        std::fs::remove_dir_all(&own).with_context(|| format!("{} cannot be removed", own.display()))?;
        if verdict.judgement() != Judgement::Holds || !verdict.ill_formed().is_empty() {
            figures.wall = begun.elapsed();
            return Ok((figures, Some(Broken { round, history: played.history, verdict })));
        }
        read(round, &played.history)?;
    }
    figures.wall = begun.elapsed();
    Ok((figures, None))
}

/// Where they go with the server, however this process ends; or else with this process, if it ends by itself.
fn journals(plan: &Plan, server: &Server) -> Result<TempDir> {
    let builder = |at: &Path| {
        let made = tempfile::Builder::new().prefix("tourbillon-chaos-").tempdir_in(at);
        made.with_context(|| format!("histories cannot be kept in {}", at.display()))
    };
    let socket = server.can_crash().then(|| server.config().get_hosts().first()).flatten();
    let made = match (&plan.journals, socket) {
        (Some(directory), _) => builder(directory)?,
        (None, Some(tokio_postgres::config::Host::Unix(home))) => builder(home)?,
        (None, _) => builder(&std::env::temp_dir())?,
    };
    open_to_all(made.path())?;
    Ok(made)
}

/// Whoever owns the server's directory removes it with all that is in it.
fn open_to_all(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777))
        .with_context(|| format!("{} cannot be opened", directory.display()))
}

/// None if the plan is done.
fn next_course<'p>(plan: &'p Plan, figures: &Figures, round: u64) -> Option<Course<'p>> {
    let work = &plan.works[(round % plan.works.len() as u64) as usize];
    let left = match plan.length {
        Length::Time(time) => (time.as_micros() as u64).saturating_sub(figures.shaken.as_micros() as u64),
        Length::Workflows(count) => count.saturating_sub(figures.workflows),
    };
    // What is left of the last round is not worth one.
    let (is_done, faults_end, share) = match plan.length {
        Length::Time(time) => {
            let faults_end = plan.round.0.min(left);
            (left < 100_000, faults_end, faults_end as f64 / time.as_micros().max(1) as f64)
        }
        Length::Workflows(count) => (left == 0, plan.round.0, left.min(5_000) as f64 / count.max(1) as f64),
    };
    if is_done {
        return None;
    }
    let kills_left = plan.server_kills.saturating_sub(figures.injected(Kind::ServerKill));
    let is_last = matches!(plan.length, Length::Time(_)) && left <= plan.round.0;
    let kills = (plan.server_kills as f64 * share).ceil() as u64;
    let most = match plan.length {
        Length::Time(_) => 200_000,
        Length::Workflows(_) => (left as u32).div_ceil(plan.clients).next_multiple_of(20),
    };
    let is_long = work.name == "agent-loop";
    let size = if is_long { 20 } else { 2 };
    let asleep = work.program.as_deref().map_or(Micros(0), |program| generate::asleep(program, size));
    Some(Course {
        round,
        work,
        workflows: most,
        size,
        // An isolated window costs the square of its events.
        live: if is_long { 800 } else { 1_500 },
        faults_end: Micros(faults_end),
        liveness_bound: LIVENESS_BOUND + asleep,
        server_kills: if is_last { kills_left } else { kills.min(kills_left) },
    })
}
