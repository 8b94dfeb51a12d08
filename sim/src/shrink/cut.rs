//! What can be left out of a plan: faults, processes, rounds, statements, and the endlessness of duties.

use super::Freedom;
use crate::order::Order;
use crate::plan::{End, Plan, Role, When};
use std::ops::Range;
use tourbillon_engine::actors::script::{Round, ScriptOptions};
use tourbillon_engine::actors::worker::options::WorkerOptions;
use tourbillon_models::history::{History, PlainOp};
use tourbillon_models::name::{Micros, Process};
use tourbillon_models::op::Op;
use tourbillon_models::record::{Happening, Span};

/// What is known of how the accepted plan ran: who made which call when.
#[derive(Default)]
pub struct Seen {
    processes: Vec<Vec<(Micros, Op<Span>)>>,
    pub steps: u16,
}

impl Seen {
    pub fn of(history: &History) -> Seen {
        let mut processes = vec![Vec::new(); history.header.processes.len()];
        for record in &history.records {
            if let (Happening::Call(op), Some(calls)) = (record.what, processes.get_mut(usize::from(record.process.0)))
            {
                calls.push((record.at, op));
            }
        }
        Seen { processes, steps: history.header.steps.len() as u16 }
    }

    fn calls(&self, process: usize) -> &[(Micros, Op<Span>)] {
        self.processes.get(process).map_or(&[], Vec::as_slice)
    }

    fn times(&self, process: usize, is_one: impl Fn(&Op<Span>) -> bool) -> Vec<Micros> {
        self.calls(process).iter().filter(|(_, op)| is_one(op)).map(|(at, _)| *at).collect()
    }

    /// When a worker asked for a window, or began the transaction in which it did, or looked once more into an empty one.
    fn polls(&self, process: usize) -> Vec<Micros> {
        let calls = self.calls(process);
        let is_poll = |index: usize| match calls[index].1 {
            Op::Claim { .. } | Op::TakeOver { .. } => true,
            again @ Op::Read { .. } => index.checked_sub(1).is_some_and(|before| calls[before].1 == again),
            _ => false,
        };
        let begun = |index: usize| match index.checked_sub(1).map(|before| calls[before]) {
            Some((at, Op::Begin { .. })) => at,
            _ => calls[index].0,
        };
        (0..calls.len()).filter(|index| is_poll(*index)).map(begun).collect()
    }
}

/// The plan in which workers look for work at the very times at which they did; those that they did not come to stay. Its run
/// is the same: so over a network the plan stays as it is, since there a history has the times at which calls arrived.
pub fn pinned(plan: &Plan, seen: &Seen) -> Plan {
    let mut plan = plan.clone();
    if plan.network.is_some() {
        return plan;
    }
    for (index, process) in plan.processes.iter_mut().enumerate() {
        let clock = process.clock;
        let Role::Worker(worker) = &mut process.role else { continue };
        let polls = worker.polls.iter_mut().flatten();
        polls.zip(seen.polls(index)).for_each(|(poll, at)| *poll = clock.at(at));
    }
    plan
}

/// A fault that falls at the first call of its kind from some time on, instead of at the so-and-so-manieth of all.
pub fn recounted(plan: &Plan, _: Freedom, seen: &Seen, place: usize) -> Option<Vec<Plan>> {
    let When::Point { process, call, nth, phase, from } = plan.faults.get(place)?.when else {
        return Some(Vec::new());
    };
    let calls = seen.times(usize::from(process.0), |op| call.matches(op)).into_iter();
    let Some(from) = calls.filter(|at| *at >= from).nth(nth as usize).filter(|_| nth > 0) else {
        return Some(Vec::new());
    };
    let mut plan = plan.clone();
    plan.faults[place].when = When::Point { process, call, nth: 0, phase, from };
    Some(vec![plan])
}

const FEW: usize = 64;

/// The run ends earlier, at the time of one of its calls: a contradiction needs nothing of what comes after it.
pub fn ended_earlier(plan: &Plan, _: Freedom, seen: &Seen, place: usize) -> Option<Vec<Plan>> {
    if place > 0 {
        return None;
    }
    let mut times: Vec<Micros> = seen.processes.iter().flatten().map(|(at, _)| *at).collect();
    times.sort_unstable();
    times.dedup();
    if let End::At(end) = plan.end {
        times.retain(|time| *time < end);
    }
    let count = times.len();
    // One by one only where few are left.
    let last = (0..FEW).contains(&count).then(|| count.saturating_sub(1));
    let mut places: Vec<usize> = (0..16).map(|part| count * part / 16).chain(last).collect();
    places.dedup();
    let at = |place| times.get(place).map(|time| Plan { end: End::At(*time), ..plan.clone() });
    Some(places.into_iter().filter_map(at).collect())
}

pub fn fault_count(plan: &Plan, _: Freedom) -> usize {
    plan.faults.len()
}

pub fn without_faults(plan: &Plan, _: Freedom, range: Range<usize>) -> Plan {
    let mut plan = plan.clone();
    plan.faults.drain(range);
    plan
}

/// The processes that may go, by index. The first one sets everything up.
fn removable(plan: &Plan, freedom: Freedom) -> Vec<usize> {
    let first_worker = plan.processes.iter().position(|process| matches!(process.role, Role::Worker(_)));
    let may_go = |index: &usize| match (&plan.processes[*index].role, freedom) {
        (_, Freedom::Full | Freedom::AllButBound) => true,
        (Role::Script(script), Freedom::WorkAndFaults) => script.is_once(),
        (Role::Worker(_), Freedom::WorkAndFaults) => Some(*index) != first_worker,
    };
    (1..plan.processes.len()).filter(may_go).collect()
}

pub fn process_count(plan: &Plan, freedom: Freedom) -> usize {
    removable(plan, freedom).len()
}

/// What befalls them goes with them.
pub fn without_processes(plan: &Plan, freedom: Freedom, range: Range<usize>) -> Plan {
    let gone = &removable(plan, freedom)[range];
    let mut plan = plan.clone();
    let place = |process: Process| usize::from(process.0);
    plan.faults.retain(|fault| !gone.contains(&place(fault.when.process())));
    for fault in &mut plan.faults {
        let (When::Time { process, .. } | When::Point { process, .. }) = &mut fault.when;
        process.0 -= gone.iter().filter(|index| **index < place(*process)).count() as u8;
    }
    let mut index = 0..;
    plan.processes.retain(|_| !index.next().is_some_and(|index| gone.contains(&index)));
    if let Order::Chosen(chosen) = &mut plan.order {
        chosen.turns = chosen.turns.without_processes(gone);
    }
    plan
}

pub fn turn_count(plan: &Plan, _: Freedom) -> usize {
    match &plan.order {
        Order::Chosen(chosen) => chosen.turns.0.len(),
        Order::Timed | Order::Priorities(_) => 0,
    }
}

/// What comes after them is passed over where it is not possible any more.
pub fn without_turns(plan: &Plan, _: Freedom, range: Range<usize>) -> Plan {
    let mut plan = plan.clone();
    if let Order::Chosen(chosen) = &mut plan.order {
        chosen.turns.0.drain(range);
    }
    plan
}

/// The rounds of those who run each once; the setup's are not among them.
fn rounds(plan: &Plan) -> impl Iterator<Item = &Round> {
    plan.processes.iter().skip(1).flat_map(|process| match &process.role {
        Role::Script(ScriptOptions::Once { rounds }) => rounds.as_slice(),
        Role::Script(ScriptOptions::Periodic { .. }) | Role::Worker(_) => &[],
    })
}

pub fn rounds_mut(plan: &mut Plan) -> impl Iterator<Item = &mut Vec<Round>> {
    plan.processes.iter_mut().skip(1).filter_map(|process| match &mut process.role {
        Role::Script(ScriptOptions::Once { rounds }) => Some(rounds),
        Role::Script(ScriptOptions::Periodic { .. }) | Role::Worker(_) => None,
    })
}

pub fn round_count(plan: &Plan, _: Freedom) -> usize {
    rounds(plan).count()
}

pub fn without_rounds(plan: &Plan, _: Freedom, range: Range<usize>) -> Plan {
    let mut plan = plan.clone();
    let mut index = 0..;
    rounds_mut(&mut plan)
        .for_each(|rounds| rounds.retain(|_| !index.next().is_some_and(|index| range.contains(&index))));
    plan
}

pub fn statement_count(plan: &Plan, _: Freedom) -> usize {
    rounds(plan).map(|round| round.statements.len()).sum()
}

/// Nobody ends a transaction that was not begun, or begins one that is not ended: PostgreSQL only warns, and no client that
/// is modelled does so.
fn leave_no_loose_end(round: &mut Round) {
    let is_end = |op: &PlainOp| matches!(op, Op::Commit | Op::Rollback);
    let is_ended = round.statements.iter().any(|(_, op)| is_end(op));
    let mut is_open = false;
    round.statements.retain(|(_, op)| match op {
        Op::Begin { .. } => {
            let is_first = !is_open && is_ended;
            is_open |= is_first;
            is_first
        }
        Op::Savepoint { .. } | Op::RollbackTo { .. } => is_open,
        op if is_end(op) => std::mem::take(&mut is_open),
        _ => true,
    });
}

/// A round without statements goes with them.
pub fn without_statements(plan: &Plan, _: Freedom, range: Range<usize>) -> Plan {
    let mut plan = plan.clone();
    let mut index = 0..;
    for rounds in rounds_mut(&mut plan) {
        for round in rounds.iter_mut() {
            round.statements.retain(|_| !index.next().is_some_and(|index| range.contains(&index)));
            leave_no_loose_end(round);
        }
        rounds.retain(|round| !round.statements.is_empty());
    }
    plan
}

/// A round that is one transaction, as calls each in a transaction of its own.
pub fn without_transaction(plan: &Plan, _: Freedom, _: &Seen, place: usize) -> Option<Vec<Plan>> {
    let round = rounds(plan).nth(place)?;
    let is_bracketed = round.statements.len() > 2
        && matches!(round.statements.first(), Some((_, Op::Begin { .. })))
        && matches!(round.statements.last(), Some((_, Op::Commit | Op::Rollback)));
    if !is_bracketed {
        return Some(Vec::new());
    }
    let mut plan = plan.clone();
    let round = rounds_mut(&mut plan).flatten().nth(place)?;
    round.statements.pop();
    round.statements.remove(0);
    Some(vec![plan])
}

/// A duty that is called at the times at which it was, instead of over and over, and a worker that looks for work when it
/// did: then each time can go.
pub fn unrolled(plan: &Plan, freedom: Freedom, seen: &Seen, place: usize) -> Option<Vec<Plan>> {
    let process = plan.processes.get(place)?;
    if !freedom.has_rhythm() || seen.calls(place).is_empty() {
        return Some(Vec::new());
    }
    let role = match &process.role {
        Role::Script(ScriptOptions::Periodic { round, .. }) => {
            let times = match round.statements.as_slice() {
                [_] => seen.times(place, |_| true),
                [(_, Op::Begin { .. }), ..] => seen.times(place, |op| matches!(op, Op::Begin { .. })),
                _ => return Some(Vec::new()),
            };
            let rounds = times.into_iter().map(|at| Round { at, ..round.clone() }).collect();
            Role::Script(ScriptOptions::Once { rounds })
        }
        Role::Worker(worker) if worker.polls.is_none() => {
            let polls = seen.polls(place).into_iter().map(|at| process.clock.at(at)).collect();
            Role::Worker(WorkerOptions { polls: Some(polls), ..worker.clone() })
        }
        Role::Script(ScriptOptions::Once { .. }) | Role::Worker(_) => return Some(Vec::new()),
    };
    let mut plan = plan.clone();
    plan.processes[place].role = role;
    Some(vec![plan])
}

pub fn polls_mut(plan: &mut Plan) -> impl Iterator<Item = &mut Vec<Micros>> {
    plan.processes.iter_mut().filter_map(|process| match &mut process.role {
        Role::Worker(worker) => worker.polls.as_mut(),
        Role::Script(_) => None,
    })
}

pub fn poll_count(plan: &Plan, _: Freedom) -> usize {
    let polls = plan.processes.iter().filter_map(|process| match &process.role {
        Role::Worker(worker) => worker.polls.as_ref(),
        Role::Script(_) => None,
    });
    polls.map(Vec::len).sum()
}

pub fn without_polls(plan: &Plan, _: Freedom, range: Range<usize>) -> Plan {
    let mut plan = plan.clone();
    let mut index = 0..;
    polls_mut(&mut plan).for_each(|polls| polls.retain(|_| !index.next().is_some_and(|index| range.contains(&index))));
    plan
}
