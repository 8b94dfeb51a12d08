//! What can stand in a plan instead of something less simple: plainer habits, rounder times, smaller numbers.
//!
//! Every replacement goes one way (numbers fall, habits become plain), so replacing ends.

use super::Freedom;
use super::cut::{Seen, pinned, polls_mut, rounds_mut};
use crate::clock::Clock;
use crate::plan::{Plan, PlannedEffect, Role, When};
use tourbillon_engine::actors::worker::options::{
    BurialHabit, ClaimHabit, ErrorHabit, HandoffHabit, IdentityHabit, WorkerOptions,
};
use tourbillon_engine::store::unflushed::Durability;
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{Micros, Step};
use tourbillon_models::op::{Isolation, Op};

const SECOND: u64 = 1_000_000;
const HOUR: Micros = Micros(3_600 * SECOND);

/// The plans in which one thing is different that can be.
fn changed<T>(plan: &Plan, values: impl IntoIterator<Item = T>, change: impl Fn(&mut Plan, T)) -> Vec<Plan> {
    let with = |value| {
        let mut plan = plan.clone();
        change(&mut plan, value);
        plan
    };
    values.into_iter().map(with).filter(|other| other != plan).collect()
}

/// One habit of a worker is plain, or it looks for work less often. A place is a worker's one habit.
pub fn plainer_worker(plan: &Plan, freedom: Freedom, _: &Seen, place: usize) -> Option<Vec<Plan>> {
    let (index, habit) = (place / HABITS.len(), place % HABITS.len());
    let process = plan.processes.get(index)?;
    let Role::Worker(worker) = &process.role else { return Some(Vec::new()) };
    let plainer = HABITS[habit](worker, freedom);
    Some(changed(plan, plainer, |plan, worker| plan.processes[index].role = Role::Worker(worker)))
}

type Habit = fn(&WorkerOptions, Freedom) -> Vec<WorkerOptions>;

const HABITS: [Habit; 10] = [
    |worker, _| plain(worker, |worker| worker.slowness = None),
    |worker, _| plain(worker, |worker| worker.claim = ClaimHabit::Alone),
    |worker, _| plain(worker, |worker| worker.handoff = HandoffHabit::Whole),
    |worker, _| plain(worker, |worker| worker.errors = ErrorHabit::Heeded),
    |worker, _| plain(worker, |worker| worker.burial = BurialHabit::LeftAlone),
    |worker, _| plain(worker, |worker| worker.identity = IdentityHabit::Kept),
    |worker, _| plain(worker, |worker| worker.deploy_at = None),
    |worker, _| plain(worker, |worker| worker.subscribe_to = None),
    |worker, _| plain(worker, |worker| worker.page_limit = worker.page_limit.max(100)),
    |worker, freedom| match freedom {
        Freedom::Full | Freedom::AllButBound => {
            plain(worker, |worker| worker.heartbeat_interval = worker.heartbeat_interval.max(HOUR))
        }
        Freedom::WorkAndFaults => Vec::new(),
    },
];

fn plain(worker: &WorkerOptions, change: impl Fn(&mut WorkerOptions)) -> Vec<WorkerOptions> {
    let mut plain = worker.clone();
    change(&mut plain);
    if plain == *worker { Vec::new() } else { vec![plain] }
}

/// A workflow starts at a later step of its program, nearer to its end.
pub fn later_start(plan: &Plan, _: Freedom, seen: &Seen, place: usize) -> Option<Vec<Plan>> {
    let mut later = plan.clone();
    let step = *later.starts_mut().nth(place)?.0;
    let steps = (step.0 + 1..seen.steps).rev().map(Step);
    Some(changed(plan, steps, |plan, step| plan.starts_mut().skip(place).take(1).for_each(|start| *start.0 = step)))
}

/// The faults end earlier, and everything has less time to end after them.
pub fn shorter_horizon(plan: &Plan, freedom: Freedom, _: &Seen, place: usize) -> Option<Vec<Plan>> {
    match (place, freedom) {
        (0, Freedom::Full | Freedom::AllButBound) => {
            Some(changed(plan, smaller_time(plan.faults_end), |plan, end| plan.faults_end = end))
        }
        (1, Freedom::Full) => {
            // Nobody sees in less that somebody is silent.
            let least = Micros(2 * plan.dead_interval.0);
            let shorter = smaller_time(plan.liveness_bound).into_iter().chain([least]);
            let shorter = shorter.filter(|bound| (least..plan.liveness_bound).contains(bound));
            Some(changed(plan, shorter, |plan, bound| plan.liveness_bound = bound))
        }
        (0, Freedom::WorkAndFaults) => {
            let last = last_of(plan);
            let earlier = [last].into_iter().filter(|last| *last < plan.faults_end);
            Some(changed(plan, earlier, |plan, end| plan.faults_end = end))
        }
        _ => None,
    }
}

/// The last time that a plan names for something to begin.
fn last_of(plan: &Plan) -> Micros {
    let mut plan = plan.clone();
    let rounds = rounds_mut(&mut plan).flatten().map(|round| round.at).max();
    let faults = plan.faults.iter().filter_map(|fault| match fault.when {
        When::Time { at, .. } => Some(at),
        When::Point { .. } => None,
    });
    faults.max().max(rounds).unwrap_or_default()
}

/// Calls take the same time, commits reach the disk, ties fall otherwise, clocks are right.
pub fn plainer_surroundings(plan: &Plan, _: Freedom, seen: &Seen, place: usize) -> Option<Vec<Plan>> {
    const MILLISECOND: Micros = Micros(1_000);
    match place {
        0 => {
            let other = [MILLISECOND].into_iter().filter(|latency| plan.latency != (*latency, *latency));
            Some(changed(plan, other, |plan, latency| plan.latency = (latency, latency)))
        }
        1 => Some(changed(plan, [Durability::Synchronous], |plan, durability| plan.durability = durability)),
        2 => Some(changed(plan, (0..8).filter(|seed| *seed < plan.seed), |plan, seed| plan.seed = seed)),
        _ => {
            let index = place - 3;
            plan.processes.get(index)?;
            let right = changed(plan, [Clock::Right], |plan, clock| plan.processes[index].clock = clock);
            // It looks for work when it did, whatever its clock said then.
            Some(right.iter().map(|plan| pinned(plan, seen)).chain(right.iter().cloned()).collect())
        }
    }
}

/// Whatever comes after some round's or poll's time comes as much earlier as there is nothing to do before it.
pub fn all_earlier(plan: &Plan, freedom: Freedom, _: &Seen, place: usize) -> Option<Vec<Plan>> {
    if !freedom.has_rhythm() {
        return None;
    }
    let mut sorted = plan.clone();
    let mut times: Vec<u64> = rounds_mut(&mut sorted).flatten().map(|round| round.at.0).collect();
    times.extend(polls_mut(&mut sorted).flatten().map(|at| at.0));
    times.sort_unstable();
    times.dedup();
    let from = *times.get(place)?;
    let before = place.checked_sub(1).map_or(0, |place| times[place]);
    let gap = from - before;
    let shifts = [gap, gap - gap / 4, gap / 2, gap / 4].into_iter().filter(|shift| *shift > 1_000);
    Some(changed(plan, shifts, |plan, shift| {
        let earlier = |at: &mut Micros| at.0 -= if at.0 >= from { shift.min(at.0) } else { 0 };
        rounds_mut(plan).flatten().for_each(|round| earlier(&mut round.at));
        polls_mut(plan).flatten().for_each(earlier);
        for fault in &mut plan.faults {
            let (When::Time { at, .. } | When::Point { from: at, .. }) = &mut fault.when;
            earlier(at);
        }
        earlier(&mut plan.faults_end);
    }))
}

/// What a number of a plan counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Time,
    Count,
    /// What a workflow carries: to the programs of workloads, a set of bits.
    State,
}

/// One number is smaller, or rounder and smaller. A place is a number.
pub fn smaller_numbers(plan: &Plan, _: Freedom, _: &Seen, place: usize) -> Option<Vec<Plan>> {
    let (mut index, mut there) = (0, None);
    each_number(&mut plan.clone(), &mut |number, unit| {
        if index == place {
            there = Some((number, unit));
        }
        index += 1;
        number
    });
    let (number, unit) = there?;
    let smaller = match unit {
        Unit::Time => smaller_time(Micros(number)).into_iter().map(|time| time.0).collect(),
        Unit::Count => smaller_count(number),
        Unit::State => smaller_state(number),
    };
    Some(changed(plan, smaller, |plan, smaller| {
        let mut index = 0;
        each_number(plan, &mut |number, _| {
            index += 1;
            if index == place + 1 { smaller } else { number }
        });
        rounds_mut(plan).for_each(|rounds| rounds.sort_by_key(|round| round.at));
    }))
}

/// The roundest first.
fn smaller_time(time: Micros) -> Vec<Micros> {
    let rounded = |unit: u64| time.0 / unit * unit;
    let times = [0, rounded(10 * SECOND), rounded(SECOND), time.0 / 2_000 * 1_000, rounded(SECOND / 10)];
    let times = times.into_iter().chain([time.0 / 4_000 * 3_000, rounded(SECOND / 100), rounded(1_000)]);
    let mut times: Vec<u64> = times.filter(|other| *other < time.0).collect();
    times.dedup();
    times.into_iter().map(Micros).collect()
}

fn smaller_count(count: u64) -> Vec<u64> {
    let mut counts: Vec<u64> =
        [0, 1, count / 2, count.saturating_sub(1)].into_iter().filter(|other| *other < count).collect();
    counts.dedup();
    counts
}

/// The small ones, those that differ in their higher bytes, and those with a bit less.
fn smaller_state(state: u64) -> Vec<u64> {
    let low = 0..16;
    let families = (1..64).map(|family| family << 8);
    let fewer_bits = (0..u64::BITS).rev().map(|bit| state & !(1 << bit));
    low.chain(families).chain([state / 2]).chain(fewer_bits).filter(|other| *other < state).collect()
}

/// Puts another number in the place of each that may become smaller, in a fixed order.
fn each_number(plan: &mut Plan, change: &mut impl FnMut(u64, Unit) -> u64) {
    for fault in &mut plan.faults {
        match &mut fault.when {
            When::Time { at, .. } => at.0 = change(at.0, Unit::Time),
            When::Point { nth, from, .. } => {
                *nth = change(u64::from(*nth), Unit::Count) as u32;
                from.0 = change(from.0, Unit::Time);
            }
        }
        match &mut fault.what {
            PlannedEffect::Crash { restart_after: time }
            | PlannedEffect::Pause { duration: time }
            | PlannedEffect::ServerCrash { down_for: time } => time.0 = change(time.0, Unit::Time),
            PlannedEffect::IdleTimeout { idle, duration } => {
                idle.0 = change(idle.0, Unit::Time);
                duration.0 = change(duration.0, Unit::Time);
            }
            PlannedEffect::ServerClockStep(offset) => {
                offset.ahead.0 = change(offset.ahead.0, Unit::Time);
                offset.behind.0 = change(offset.behind.0, Unit::Time);
            }
            PlannedEffect::Network(effect) => {
                effect.times_mut().into_iter().for_each(|time| time.0 = change(time.0, Unit::Time));
            }
            PlannedEffect::LostReply | PlannedEffect::Flush => {}
        }
    }
    for round in rounds_mut(plan).flatten() {
        round.at.0 = change(round.at.0, Unit::Time);
        for (pause, op) in &mut round.statements {
            pause.0 = change(pause.0, Unit::Time);
            each_number_of(op, change);
        }
    }
    for process in &mut plan.processes {
        let Role::Worker(worker) = &mut process.role else { continue };
        worker.start_at.0 = change(worker.start_at.0, Unit::Time);
        worker.work_duration.0 = change(worker.work_duration.0, Unit::Time);
        // Once at least, whatever is asked.
        worker.max_tries = change(u64::from(worker.max_tries), Unit::Count).max(1) as u16;
        if let ClaimHabit::InTransaction { open_for } = &mut worker.claim {
            open_for.0 = change(open_for.0, Unit::Time);
        }
    }
}

fn each_number_of(op: &mut PlainOp, change: &mut impl FnMut(u64, Unit) -> u64) {
    match op {
        // As a number: 1 sees what was there at its first statement.
        Op::Begin { isolation } => {
            let is_repeatable = u64::from(*isolation == Isolation::RepeatableRead);
            *isolation = match change(is_repeatable, Unit::Count) {
                0 => Isolation::ReadCommitted,
                _ => Isolation::RepeatableRead,
            };
        }
        Op::Append { payload, .. } | Op::Emit { payload, .. } => *payload = change(*payload, Unit::Count),
        Op::Start { state, .. } => *state = change(*state, Unit::State),
        Op::Schedule { payload, delay, .. } => {
            *payload = change(*payload, Unit::Count);
            delay.0 = change(delay.0, Unit::Time);
        }
        Op::Rotate { lock_timeout, .. }
        | Op::RotateTimers { lock_timeout, .. }
        | Op::RotateAudit { lock_timeout, .. } => lock_timeout.0 = change(lock_timeout.0, Unit::Time),
        _ => {}
    }
}
