//! A replay: one plan on a real server, in lockstep with the model, and its history judged.
//!
//! It *agrees* if the server answered, blocked and ended up as the model did, statement by statement, and if the direct
//! target, given the choices that the server made, makes the same history. What it is not: a retry. A replay that
//! stops halfway says where, and the server is fit for the next one.

use crate::difference::difference;
use crate::lockstep::{Counts, Lockstep, Sides, Stop};
use crate::plan::{Plan, PlannedEffect};
use crate::postgres::Error;
use crate::postgres::server::Server;
use crate::run::{Summary, run};
use crate::simulate::{Simulator, Work, header};
use crate::sweep::{FOUND_LIMIT, Ran, Setting, work_of};
use crate::target::Chooser;
use tourbillon_engine::guard::Guards;
use tourbillon_models::history::History;
use tourbillon_models::property::{Checker, Goals};
use tourbillon_models::verdict::{Judgement, Verdict};

/// What came of a replay.
pub struct Replay {
    pub counts: Counts,
    /// As far as it came.
    pub history: History,
    pub end: End,
}

impl Replay {
    /// A run on the direct target, told in the same way.
    pub fn direct(plan: &Plan, work: &Work, guards: Guards) -> Replay {
        Replay::directly(plan, work, guards, Chooser::seeded(plan.seed))
    }

    pub fn directly(plan: &Plan, work: &Work, guards: Guards, chooser: Chooser) -> Replay {
        let mut simulator = Simulator::default();
        let (summary, verdict) = simulator.run_with(plan, work, guards, chooser);
        let history = simulator.history().clone();
        Replay { counts: Counts::default(), history, end: End::Agreed { summary, verdict } }
    }
}

#[expect(clippy::large_enum_variant, reason = "there is one for each replay")]
pub enum End {
    Agreed {
        summary: Summary,
        verdict: Verdict,
    },
    /// One sentence with both sides.
    Diverged(String),
}

/// Whether a plan kills the server, which only one of our own allows.
pub fn crashes_server(plan: &Plan) -> bool {
    plan.faults.iter().any(|fault| matches!(fault.what, PlannedEffect::ServerCrash { .. }))
}

/// How often a replay is made that cannot be compared.
const ATTEMPTS: usize = 3;

/// Replays a plan. The chooser is asked on a server of our own; somebody else's server makes its own choices. An error is
/// the server's, and says nothing about the plan: also where, several times, calls ran into each other at once.
pub fn replay(
    server: &mut Server,
    plan: &Plan,
    work: &Work,
    guards: impl Into<Sides>,
    chooser: Chooser,
) -> Result<Replay, Error> {
    let (plan, guards) = (&for_server(server, plan), guards.into());
    let mut replay = replay_once(server, plan, work, guards, chooser);
    for _ in 1..ATTEMPTS {
        if !matches!(replay, Err(Error::NotComparable(_))) {
            break;
        }
        replay = replay_once(server, plan, work, guards, Chooser::seeded(plan.seed));
    }
    replay
}

/// The plan as it runs against this server.
pub fn for_server(server: &Server, plan: &Plan) -> Plan {
    Plan { wal_level: server.wal_level(), ..plan.clone() }
}

fn replay_once(
    server: &mut Server,
    plan: &Plan,
    work: &Work,
    guards: Sides,
    chooser: Chooser,
) -> Result<Replay, Error> {
    let version = server.version().to_owned();
    let mut history = History::new(header(plan, work, guards.model, "lockstep", Some(version)));
    let mut target = Lockstep::new(server, guards, &work.steps(), &work.names(), plan.durability, chooser)?;
    let ran = run(plan, work.program.clone(), &mut target, &mut history);
    let counts = target.counts();
    let closed = target.close();
    let end = match ran {
        Ok(summary) => {
            closed?;
            judge(plan, work, guards.model, &history, summary)
        }
        Err(Stop::NotComparable(divergence)) => {
            closed?;
            return Err(Error::NotComparable(format!("this run cannot be compared: {divergence}")));
        }
        Err(Stop::Divergence(divergence)) => End::Diverged(divergence.to_string()),
        // Neither blocked nor back, for longer than anybody waits: the model knew what it would be.
        Err(Stop::Server(Error::Unsettled(sentence))) => End::Diverged(sentence),
        Err(Stop::Server(error)) => return Err(error),
    };
    Ok(Replay { counts, history, end })
}

fn judge(plan: &Plan, work: &Work, guards: Guards, history: &History, summary: Summary) -> End {
    let mut simulator = Simulator::default();
    let choices = Chooser::Recorded(summary.choices.clone().into_iter());
    simulator.run_with(plan, work, guards, choices);
    if let Some(difference) = difference(history, simulator.history()) {
        return End::Diverged(format!("the direct target does not follow the server's choices: {difference}"));
    }
    let verdict = Checker::new().check_program(history, work.program.as_deref());
    End::Agreed { summary, verdict }
}

/// What came of the replays of several seeds.
#[derive(Default)]
pub struct Replays {
    /// Those that could be compared; the others are counted beside the statements.
    pub histories: u64,
    pub counts: Counts,
    /// What those that agreed reached.
    pub goals: Goals,
    /// Those that diverged, or broke a property, with their plans; at most [`FOUND_LIMIT`].
    pub failed: Vec<(Plan, Replay)>,
}

/// Replays these seeds one after the other; `progress` is told after each.
pub fn replay_all(
    server: &mut Server,
    seeds: &[u64],
    setting: &Setting,
    works: &[Work],
    progress: impl Fn(&Replays),
) -> Result<Replays, Error> {
    let mut replays = Replays::default();
    for seed in seeds {
        let work = work_of(works, *seed);
        let plan = for_server(server, &work.plan(*seed, &setting.limits));
        match replay(server, &plan, work, setting.guards, Chooser::seeded(*seed)) {
            Ok(replay) => {
                let counts = replay.counts;
                let goals = replay.end.goals();
                let failed = if replay.end.is_failure() { vec![(plan, replay)] } else { Vec::new() };
                replays.add(Replays { histories: 1, counts, goals, failed });
            }
            Err(Error::NotComparable(_)) => replays.counts.not_comparable += 1,
            Err(error) => return Err(error),
        }
        progress(&replays);
    }
    Ok(replays)
}

impl Replays {
    /// Adds those of other seeds.
    pub fn add(&mut self, other: Replays) {
        self.histories += other.histories;
        self.counts.add(other.counts);
        self.goals = self.goals.and(other.goals);
        self.failed.extend(other.failed);
        self.failed.truncate(FOUND_LIMIT);
    }
}

impl End {
    fn goals(&self) -> Goals {
        match self {
            End::Diverged(_) => Goals::default(),
            End::Agreed { verdict, .. } => verdict.goals(),
        }
    }

    pub fn is_failure(&self) -> bool {
        match self {
            End::Diverged(_) => true,
            End::Agreed { verdict, .. } => verdict.judgement() == Judgement::Violated,
        }
    }
}

/// Chooses among the runs of a sweep those that are replayed. Up to a half: of those that first reached a goal, the ones that
/// together reached the most. Of the rest a quarter with commits that a crash loses, a quarter with blocked statements and
/// server crashes, a quarter with blocked statements, the rest as they come. Where the server must not crash, two thirds are
/// with blocked statements. Of each kind the first ones.
pub struct Sample {
    size: usize,
    server_may_crash: bool,
    /// What those that first reached a goal reached.
    goals: Goals,
    firsts: Vec<Ran>,
    /// Commits lost, blocked and crashed, blocked, crashed, neither.
    kinds: [Vec<u64>; 5],
}

impl Sample {
    pub fn new(size: usize, server_may_crash: bool) -> Sample {
        Sample { size, server_may_crash, goals: Goals::default(), firsts: Vec::new(), kinds: Default::default() }
    }

    /// Considers one run.
    pub fn offer(&mut self, ran: &Ran) {
        let kind = match (ran.blocked > 0, ran.server_crashes > 0) {
            _ if ran.is_net => return,
            (_, true) if !self.server_may_crash => return,
            _ if ran.lost_commits > 0 => 0,
            (true, true) => 1,
            (true, false) => 2,
            (false, true) => 3,
            (false, false) => 4,
        };
        let goals = self.goals.and(ran.goals);
        if goals != self.goals {
            self.goals = goals;
            self.firsts.push(*ran);
        }
        if self.kinds[kind].len() < self.size {
            self.kinds[kind].push(ran.seed);
        }
    }

    /// Always the one that reaches the most that none before it reached, the first of several.
    fn covering(&self) -> Vec<u64> {
        let (mut covered, mut chosen) = (Goals::NONE, Vec::new());
        while chosen.len() < self.size / 2 {
            let gain = |ran: &&Ran| covered.and(ran.goals).count() - covered.count();
            let best = self.firsts.iter().rev().max_by_key(gain).filter(|best| gain(best) > 0);
            let Some(best) = best else { break };
            covered = covered.and(best.goals);
            chosen.push(best.seed);
        }
        chosen
    }

    /// In the order of the seeds, and none twice.
    pub fn seeds(&self) -> Vec<u64> {
        let firsts = self.covering();
        let size = self.size - firsts.len();
        let (third, quarter) = (size.div_ceil(3), size.div_ceil(4));
        let shares = match self.server_may_crash {
            true => [quarter, quarter, quarter, quarter / 2, quarter],
            false => [0, 0, 2 * third, 0, third],
        };
        let of_kind = |kind: usize| self.kinds[kind].iter().filter(|seed| !firsts.contains(seed));
        let share = |kind: usize| of_kind(kind).take(shares[kind]);
        let rest = |kind: usize| of_kind(kind).skip(shares[kind]);
        let of_kinds = (0..5).flat_map(share).chain((0..5).flat_map(rest));
        let mut seeds: Vec<u64> = firsts.iter().chain(of_kinds).copied().collect();
        seeds.truncate(self.size);
        seeds.sort_unstable();
        seeds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tourbillon_models::property::Reach;

    fn ran(seed: u64) -> Ran {
        let server_crashes = u64::from(seed.is_multiple_of(10));
        let lost_commits = if seed.is_multiple_of(70) { 2 } else { 0 };
        Ran { seed, is_net: false, blocked: seed % 3, server_crashes, lost_commits, goals: Goals::default() }
    }

    #[test]
    fn a_sample_has_of_every_kind() {
        let mut sample = Sample::new(60, true);
        (0..10_000).for_each(|seed| sample.offer(&ran(seed)));
        let seeds = sample.seeds();
        assert_eq!(seeds.len(), 60);
        let (lost, kept): (Vec<Ran>, Vec<Ran>) = seeds.into_iter().map(ran).partition(|ran| ran.lost_commits > 0);
        let count = |blocked, crashed| {
            kept.iter().filter(|ran| (ran.blocked > 0) == blocked && (ran.server_crashes > 0) == crashed).count()
        };
        assert_eq!([lost.len(), count(true, true), count(true, false), count(false, true)], [15, 15, 15, 7]);
    }

    #[test]
    fn who_first_reaches_a_goal_is_in_the_sample() {
        let mut sample = Sample::new(60, true);
        let rare = Ran { goals: Goals::default().with(Reach::EmitForged), ..ran(9_001) };
        (0..9_001).for_each(|seed| sample.offer(&ran(seed)));
        sample.offer(&rare);
        sample.offer(&Ran { seed: 9_002, ..rare });
        assert!(sample.seeds().contains(&9_001) && !sample.seeds().contains(&9_002));
        assert_eq!(sample.seeds().len(), 60);
    }

    #[test]
    fn a_server_that_must_not_crash_is_not_offered_a_crash() {
        let mut sample = Sample::new(60, false);
        (0..100).for_each(|seed| sample.offer(&ran(seed)));
        assert_eq!(sample.seeds().len(), 60);
        assert!(sample.seeds().into_iter().all(|seed| ran(seed).server_crashes == 0));
    }

    #[test]
    fn a_short_sweep_is_replayed_whole() {
        let mut sample = Sample::new(60, true);
        (0..12).for_each(|seed| sample.offer(&ran(seed)));
        assert_eq!(sample.seeds(), (0..12).collect::<Vec<_>>());
    }
}
