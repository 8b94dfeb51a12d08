//! What a round is to be: its workload, and how much of everything. It follows from the plan and from what was done so far.

use super::blow::Kind;
use super::cast::{DEAD_INTERVAL, DRAIN_INTERVAL, LIVENESS_BOUND, ROTATION_PERIOD};
use super::{Figures, Length, Plan};
use crate::generate;
use crate::simulate::Work;
use tourbillon_engine::schema::FORBIDDEN_STATE;
use tourbillon_models::history::{FORMAT, Header};
use tourbillon_models::name::Micros;
use tourbillon_models::property::UNDELIVERABLE_STATE;

/// One round of a plan.
pub struct Course<'w> {
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

/// A round of less is none.
const SHORTEST: Micros = Micros::from_millis(100);
/// So long it takes to kill the server and to start it again, or so.
const KILL: Micros = Micros::from_millis(300);
/// Of one client in one round: more than it comes to.
const UNBOUNDED: u64 = 200_000;
/// About as many finish in one round: of the kills to come, a round that leads to a number of workflows has its share by this.
const OF_ROUND: u64 = 5_000;
/// In one batch, at most.
pub const OF_BATCH: u32 = 20;
/// Of one round: what kills its process does so several times, and each time it takes a dead interval to find out.
const MOST_DEATHS: u64 = 20;
/// So many workflows tell how the others are.
const SAMPLE: u64 = 200;

impl<'p> Course<'p> {
    /// None if the plan is done: the time is over, or the workflows have ended, and the server was killed as often as it was
    /// to be.
    pub fn next(plan: &'p Plan, figures: &Figures, round: u64) -> Option<Self> {
        let (done, all) = match plan.length {
            Length::Time(time) => (figures.shaken.as_micros() as u64, time.as_micros() as u64),
            Length::Workflows(count) => (figures.workflows, count),
        };
        let left = all.saturating_sub(done);
        let kills_left = plan.server_kills.saturating_sub(figures.injected(Kind::ServerKill));
        let is_over = match plan.length {
            Length::Time(_) => left < SHORTEST.0,
            Length::Workflows(_) => left == 0,
        };
        if is_over && kills_left == 0 {
            return None;
        }
        let clients = u64::from(plan.clients);
        // Of what is left, so much is done in this round.
        let (faults_end, workflows, share) = match plan.length {
            _ if is_over => (plan.round.0, UNBOUNDED, left),
            Length::Time(_) => (plan.round.0.min(left), UNBOUNDED, plan.round.0.min(left)),
            Length::Workflows(_) => (plan.round.0, left.div_ceil(clients), left.min(OF_ROUND)),
        };
        let kills = if left == share { kills_left } else { (kills_left * share).div_ceil(left) };
        let work = &plan.works[(round % plan.works.len() as u64) as usize];
        // It is for throughput: one workflow, very many cheap steps.
        let is_long = work.name == "agent-loop";
        let size = plan.size.unwrap_or(if is_long { 20 } else { 2 });
        let walked = work.program.as_deref().map(|program| generate::course(program, SAMPLE, size)).unwrap_or_default();
        // Both versions of the code were walked.
        let survived = (2 * MOST_DEATHS * SAMPLE).checked_div(walked.deaths * clients).unwrap_or(UNBOUNDED);
        let workflows = workflows.min(survived).max(1) as u32;
        let live = if !work.names().is_empty() {
            // As many are left to be told something when the faults are over.
            200
        } else if is_long {
            // As many as keep the workers busy.
            800
        } else {
            // As many as may be in one window: an isolated one costs the square of its events.
            1_500
        };
        Some(Course {
            round,
            work,
            workflows: workflows.next_multiple_of(OF_BATCH.min(workflows)),
            size,
            live,
            faults_end: Micros(faults_end),
            liveness_bound: LIVENESS_BOUND + walked.asleep,
            server_kills: kills.min(faults_end / KILL.0),
        })
    }

    pub fn header(&self, plan: &Plan, processes: Vec<String>, faults_end: Micros, server: &str) -> Header {
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
