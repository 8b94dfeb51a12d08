//! What is shrunk: a plan under which an engine, with some guards removed or with none, breaks a property.

use super::prolong::prolonged;
use super::{Deadline, Freedom, Shown, Shrunk, shrink};
use crate::plan::{End, LatencyDraw, Plan};
use crate::simulate::{Simulator, Work};
use crate::sweep::catch;
use std::convert::Infallible;
use tourbillon_engine::guard::Guards;
use tourbillon_models::name::{Micros, Step};
use tourbillon_models::op::Op;
use tourbillon_models::property::{Kind, Property};
use tourbillon_models::verdict::{Judgement, TOLD_LINES};
use tourbillon_models::workload::{Brief, Program};

/// So much longer than asked a run may go on until it shows what it is about.
const GRACE: Micros = Micros::from_millis(500);

/// They change who comes first, and how long calls take.
fn seeds(plan: &Plan) -> impl Iterator<Item = u64> {
    (0..OTHER_SEEDS).map(|index| plan.seed.wrapping_add(index))
}

const OTHER_SEEDS: u64 = 64;
const RETIMED: usize = 4;

/// What must stay as it is while a plan gets smaller.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub work: &'a Work,
    pub guards: Guards,
    pub property: Property,
}

impl Subject<'_> {
    /// Shrinks a plan; none if it does not break the property at all. Several ways are gone to the end, and the lightest result
    /// is given back. Where all of them leave more than one can take in, the workload's steps are too many, or too much hangs
    /// on how long calls take: then the same is tried with briefer programs, and with other latencies.
    pub fn shrink(&self, plan: &Plan, deadline: Deadline) -> Option<Shrunk> {
        let both_ways = |subject: &Subject, plan: &Plan, deadline: Deadline| {
            let ways = [(Micros(0), 2), (GRACE, 1)];
            let ways = ways.map(|(grace, part)| subject.shrink_one_way(plan, deadline.part(part), grace));
            ways.into_iter().flatten().reduce(Shrunk::lighter)
        };
        let shrunk = both_ways(self, plan, deadline.part(3))?;
        if shrunk.lines() <= TOLD_LINES || self.guards == Guards::ALL {
            return Some(shrunk);
        }
        let lines_before = shrunk.lines_before;
        let others = self.briefly(plan, deadline.part(4)).into_iter().chain(self.retimed(plan, deadline.part(4)));
        let lightest = others.fold(shrunk, |best, (work, plan)| {
            if best.lines() <= TOLD_LINES || deadline.is_over() {
                return best;
            }
            let other = both_ways(&Subject { work: &work, ..*self }, &plan, deadline.part(2));
            other.into_iter().fold(best, Shrunk::lighter)
        });
        Some(Shrunk { lines_before, ..lightest })
    }

    /// The plan with brief programs that break the property as well, if some do.
    fn briefly(&self, plan: &Plan, deadline: Deadline) -> Vec<(Work, Plan)> {
        // Somebody's own program is what it is about.
        if self.work.is_own() {
            return Vec::new();
        }
        let Some(work) = Work::named(Brief.name()) else { return Vec::new() };
        let programs = seeds(plan).flat_map(|seed| Brief::samples().iter().map(move |state| (seed, *state)));
        let plans = programs.map(|(seed, program)| with_brief_programs(plan, seed, program));
        Subject { work: &work, ..*self }.broken_by(plans, 1, deadline)
    }

    /// The plan with latencies that no call more or less can move: where everything hangs on who comes first.
    fn retimed(&self, plan: &Plan, deadline: Deadline) -> Vec<(Work, Plan)> {
        let retimed = |seed| Plan { seed, latency_draw: LatencyDraw::ByTime, ..plan.clone() };
        self.broken_by(seeds(plan).map(retimed), RETIMED, deadline)
    }

    /// The first few of these plans that break the property, and are sound with every guard.
    fn broken_by(&self, plans: impl Iterator<Item = Plan>, most: usize, deadline: Deadline) -> Vec<(Work, Plan)> {
        let (mut simulator, mut control) = (Simulator::default(), Simulator::default());
        let in_time = plans.take_while(|_| !deadline.is_over());
        let broken =
            in_time.filter(|plan| self.broken(&mut simulator, plan).is_some() && self.is_sound(&mut control, plan));
        broken.take(most).map(|plan| (self.work.clone(), plan)).collect()
    }

    fn shrink_one_way(&self, original: &Plan, deadline: Deadline, grace: Micros) -> Option<Shrunk> {
        let [mut simulator, mut control, mut longer] = [(); 3].map(|()| Simulator::default());
        let seen = self.broken(&mut simulator, original)?;
        let history = simulator.history().clone();
        let is_of_end = self.broken(&mut simulator, &ended_at(original, seen)).is_none();
        // A plan that the sound engine fails as well tells nothing of what the guards are for.
        let freedom = match self.guards != Guards::ALL && self.is_sound(&mut control, original) {
            true if is_of_end && self.is_of_bounds() => Freedom::Full,
            true => Freedom::AllButBound,
            false => Freedom::WorkAndFaults,
        };
        if freedom == Freedom::Full && original.found_under.is_some() {
            // Who would go on without end is not in it any more, so nobody could tell a bound that is too short.
            return Some(Shrunk::as_it_is(original.clone(), history));
        }
        let run = |plan: &Plan| -> Result<Option<Shown>, Infallible> {
            let Some(ended) = self.ended_in_time(&mut simulator, plan, grace, is_of_end) else { return Ok(None) };
            let is_fair = match freedom {
                Freedom::WorkAndFaults => true,
                Freedom::AllButBound => self.is_sound(&mut control, &ended),
                Freedom::Full => {
                    let prolonged = prolonged(&ended, original);
                    self.is_sound(&mut control, &ended)
                        && self.is_sound(&mut control, &prolonged)
                        && self.broken(&mut longer, &prolonged).is_some()
                }
            };
            Ok(is_fair.then(|| (ended, simulator.history().clone())))
        };
        let Ok(shrunk) = shrink((original.clone(), history), freedom, deadline, run);
        Some(shrunk)
    }

    /// Whether it speaks of what must have happened within the liveness bound.
    fn is_of_bounds(&self) -> bool {
        self.property == Property::T4 || self.property.id().starts_with('L')
    }

    /// A run that breaks the property, ended where that can be seen: its plan. What was changed before may have put it off a little.
    fn ended_in_time(&self, simulator: &mut Simulator, plan: &Plan, grace: Micros, is_of_end: bool) -> Option<Plan> {
        let longer = match plan.end {
            End::Drained => plan.clone(),
            End::At(end) => ended_at(plan, end + grace),
        };
        if is_of_end {
            let mut as_asked_or_longer = [plan.clone(), longer].into_iter();
            return as_asked_or_longer.find(|plan| self.broken(simulator, plan).is_some());
        }
        let seen = self.broken(simulator, &longer)?;
        [ended_at(plan, seen), longer].into_iter().find(|plan| self.broken(simulator, plan).is_some())
    }

    /// When it is first to be seen in a run, which the simulator keeps, that the property is broken.
    fn broken(&self, simulator: &mut Simulator, plan: &Plan) -> Option<Micros> {
        let Ok((_, verdict)) = catch(|| simulator.run(plan, self.work, self.guards)) else {
            *simulator = Simulator::default();
            return None;
        };
        let violations = verdict.violations().filter(|violation| violation.property == self.property);
        let first = violations.min_by_key(|violation| violation.records.last().copied())?;
        let history = simulator.history();
        let last = first.records.last().and_then(|record| history.records.get(*record as usize));
        Some(last.or(history.records.last()).map_or(Micros(0), |record| record.at))
    }

    /// Whether the sound engine keeps every property under this plan. What speaks of the end of a run must be known to hold there;
    /// the others are broken, if at all, whenever it ends.
    fn is_sound(&self, control: &mut Simulator, plan: &Plan) -> bool {
        let Ok((_, verdict)) = catch(|| control.run(plan, self.work, Guards::ALL)) else {
            *control = Simulator::default();
            return false;
        };
        let is_known = verdict.of(self.property).judgement == Judgement::Holds;
        verdict.judgement() != Judgement::Violated && (is_known || self.property.kind() == Kind::Safety)
    }
}

fn ended_at(plan: &Plan, end: Micros) -> Plan {
    Plan { end: End::At(end), ..plan.clone() }
}

/// They await nothing, so nobody emits.
fn with_brief_programs(plan: &Plan, seed: u64, program: u64) -> Plan {
    let mut plan = Plan { seed, workload: Brief.name().to_owned(), end: End::Drained, ..plan.clone() };
    for (step, state) in plan.starts_mut() {
        (*step, *state) = (Step(0), program);
    }
    for round in plan.rounds_mut() {
        round.statements.retain(|(_, op)| !matches!(op, Op::Emit { .. }));
    }
    plan
}
