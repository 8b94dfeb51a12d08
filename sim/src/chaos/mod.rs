//! Real concurrency: the same actors as real processes, on a real server, under real faults.
//!
//! plan → rounds, each with a [`course`]; a round: [`cast`] → [`crew`] → faults ([`blow`], [`strike`]) → peace → journals →
//! [`merge`] → check → forgotten. The rounds' faults are drawn from a seed, what comes of them is not. Each process is this
//! program started again ([`process`]): one actor, one connection through a [`proxy`] of its own, one [`journal`]. The
//! [`conductor`] is this process. What it is not: reproducible. A verdict stands on the history that was seen, which is kept if
//! it is broken.
//!
//! Where two calls overlap, nobody knows which took effect first. The history says when each was made and answered and
//! leaves it at that: the checker, which knows calls by both ends, takes what is true of some order in between. What became of
//! a lost call is found out from the database and noted before its process goes on.

mod batch;
pub mod blow;
mod cast;
mod clock;
mod conductor;
mod connection;
mod course;
mod crew;
mod fate;
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
mod strike;

pub use crew::{COMMAND, STARTED_BY};
pub use figures::{Figures, Judged};

use crate::postgres::server::Server;
use crate::simulate::Work;
use anyhow::{Context, Result};
use blow::Kind;
use course::Course;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirEntry, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tourbillon_engine::guard::Guards;
use tourbillon_models::history::History;
use tourbillon_models::name::Micros;
use tourbillon_models::property::{Checker, Property};
use tourbillon_models::verdict::{Judgement, Verdict};

/// What to do, and for how long.
pub struct Plan {
    pub seed: u64,
    pub works: Vec<Work>,
    pub guards: Guards,
    pub kinds: Vec<Kind>,
    pub workers: u64,
    pub clients: u32,
    /// Of each workflow; none: as it suits the workload.
    pub size: Option<u64>,
    pub length: Length,
    /// Of a round's faults.
    pub round: Micros,
    /// Between two faults, on average.
    pub gap: Micros,
    /// In all; it goes on until there were so many.
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

/// The first history that is not clean, or never came to its end, and what is wrong with it.
pub struct Broken {
    pub round: u64,
    pub history: History,
    pub verdict: Verdict,
    /// Whether nothing was left to do.
    pub is_drained: bool,
    /// What else went wrong, a sentence each: an answer that no engine may give, a process that did not end.
    pub amiss: Vec<String>,
}

impl Broken {
    /// What it comes to: what was not drained, or went wrong in a way that no property is about, is not known to hold.
    pub fn judgement(&self) -> Judgement {
        match self.verdict.judgement() {
            Judgement::Holds => Judgement::Unknown,
            judgement => judgement,
        }
    }
}

/// Settings of a server of our own, for who is not in lockstep.
pub const SETTINGS: [&str; 3] = ["deadlock_timeout=100ms", "autovacuum=on", "max_connections=100"];

/// Plays rounds until the plan is done, or one is not clean. `figures` are of the rounds that came to an end, also where a
/// later one does not, for whatever reason. `read` is shown each clean history before it is forgotten.
pub fn run(
    plan: &Plan,
    server: &mut Server,
    figures: &mut Figures,
    mut watch: impl FnMut(&Status<'_>),
    mut read: impl FnMut(u64, &History) -> Result<()>,
) -> Result<Option<Broken>> {
    let directory = journals(plan, server)?;
    let mut checker = Checker::new();
    let begun = Instant::now();
    for round in 0.. {
        let Some(course) = Course::next(plan, figures, round) else { break };
        let own = directory.at.path().join(round.to_string());
        std::fs::create_dir(&own).with_context(|| format!("{} cannot be made", own.display()))?;
        if directory.is_the_servers {
            open_to_all(&own)?;
        }
        let mut tell = |progress: site::Progress, injected: &[strike::Injected]| {
            watch(&Status {
                figures,
                round,
                workload: &course.work.name,
                finished: progress.finished(),
                live: progress.live,
                faults: injected.len(),
                wall: begun.elapsed(),
            });
        };
        let program = course.work.program.as_deref();
        let mut is_broken =
            |history: &History| checker.check_program(history, program).judgement() == Judgement::Violated;
        let played = round::play(plan, &course, server, &own, &mut tell, &mut is_broken)?;
        let verdict = checker.check_program(&played.history, program);
        figures.wall = begun.elapsed();
        std::fs::remove_dir_all(&own).with_context(|| format!("{} cannot be removed", own.display()))?;
        if figures.set_aside < MOST_SET_ASIDE && is_the_calendars(&played, &verdict) {
            figures.set_aside += 1;
            continue;
        }
        figures.add(&played, &verdict);
        let is_clean = verdict.judgement() == Judgement::Holds && verdict.ill_formed().is_empty();
        // Whatever the verdict: who does not come to an end has not been shown to be sound.
        if !is_clean || played.drained_in.is_none() || !played.amiss.is_empty() {
            let round::Played { history, drained_in, amiss, .. } = played;
            return Ok(Some(Broken { round, history, verdict, is_drained: drained_in.is_some(), amiss }));
        }
        read(round, &played.history)?;
    }
    Ok(None)
}

/// What compares times that passed with times of the server's calendar.
const BY_THE_CALENDAR: [Property; 3] = [Property::T1, Property::A2, Property::Q10];
/// Calendars are kept right by less than this in the course of a round; more is an operator, or a machine that was suspended.
const KEPT_RIGHT: Micros = Micros::from_millis(1);
/// So many rounds of a run are played again for that.
const MOST_SET_ASIDE: u64 = 3;

/// Whether nothing is wrong but what would be if the server's own calendar was set in the course of a round. That is no fault
/// of ours, and in no history.
fn is_the_calendars(played: &round::Played, verdict: &Verdict) -> bool {
    let mut broken = verdict.findings().iter().filter(|finding| finding.judgement == Judgement::Violated).peekable();
    played.calendar_set > KEPT_RIGHT
        && broken.peek().is_some()
        && broken.all(|finding| BY_THE_CALENDAR.contains(&finding.property))
}

/// Where the journals of the round under way lie.
struct Journals {
    at: TempDir,
    is_the_servers: bool,
    /// Held for as long as somebody needs them.
    _lock: Flock<File>,
}

const PREFIX: &str = "tourbillon-chaos-";

/// Where they go with the server, however this process ends; or else with this process, if it ends by itself.
fn journals(plan: &Plan, server: &Server) -> Result<Journals> {
    let home = server.can_crash().then(|| server.config().get_hosts().first()).flatten();
    let (parent, is_the_servers) = match (&plan.journals, home) {
        (Some(directory), _) => (directory.clone(), false),
        (None, Some(tokio_postgres::config::Host::Unix(home))) => (home.clone(), true),
        (None, _) => (std::env::temp_dir(), false),
    };
    let why = || format!("histories cannot be kept in {}", parent.display());
    remove_abandoned(&parent);
    let at = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent).with_context(why)?;
    let lock =
        File::open(at.path()).and_then(|file| lock(file).map_err(|(_, errno)| errno.into())).with_context(why)?;
    if is_the_servers {
        open_to_all(at.path())?;
    }
    Ok(Journals { at, is_the_servers, _lock: lock })
}

/// Those of processes that are gone and could not see to it. One that nobody has locked may be about to be.
fn remove_abandoned(parent: &Path) {
    let is_old = |entry: &DirEntry| {
        let age = entry.metadata().and_then(|it| it.modified()).ok().and_then(|it| it.elapsed().ok());
        entry.file_name().to_string_lossy().starts_with(PREFIX) && age.is_some_and(|age| age > Duration::from_secs(60))
    };
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten().filter(is_old) {
        if let Some(_lock) = File::open(entry.path()).ok().and_then(|file| lock(file).ok()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn lock(file: File) -> Result<Flock<File>, (File, Errno)> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
}

/// Whoever owns the server's directory removes it with all that is in it.
fn open_to_all(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777))
        .with_context(|| format!("{} cannot be opened", directory.display()))
}
