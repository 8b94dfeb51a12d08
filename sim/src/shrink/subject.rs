//! What is shrunk: a plan under which an engine, with some guards removed or with none, breaks a property.

use super::budget::Budget;
use super::prolong::prolonged;
use super::runs::Runs;
use super::{Freedom, Shown, Shrunk, shrink};
use crate::order::Order;
use crate::plan::{End, LatencyDraw, Plan};
use crate::simulate::Work;
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
/// So many lengths of a chosen order are tried.
const ORDER_PARTS: usize = 16;

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
    pub fn shrink(&self, plan: &Plan, budget: &Budget) -> Option<Shrunk> {
        let both_ways = |subject: &Subject, plan: &Plan, budget: &Budget| {
            let ways = [(Micros(0), 2), (GRACE, 1)];
            let ways = ways.map(|(grace, part)| subject.shrink_one_way(plan, &budget.part(part), grace));
            ways.into_iter().flatten().reduce(Shrunk::lighter)
        };
        let fair = self.with_fair_order(plan, budget);
        let plan = fair.as_ref().unwrap_or(plan);
        let shrunk = both_ways(self, plan, &budget.part(3))?;
        if shrunk.lines() <= TOLD_LINES || self.guards == Guards::ALL {
            return Some(shrunk);
        }
        let (lines_before, found) = (shrunk.lines_before, shrunk.plan.clone());
        let others = self.briefly(plan, &budget.part(4)).into_iter().chain(self.retimed(plan, &budget.part(4)));
        let lightest = others.fold(shrunk, |best, (work, plan)| {
            if best.lines() <= TOLD_LINES || budget.is_over() {
                return best;
            }
            let other = both_ways(&Subject { work: &work, ..*self }, &plan, &budget.part(2));
            other.into_iter().fold(best, Shrunk::lighter)
        });
        // Whatever seed the variant has, it is of this one's making.
        let of_found = Plan { found_under: found.found_under, options: found.options, ..lightest.plan.clone() };
        Some(Shrunk { lines_before, plan: of_found, ..lightest })
    }

    /// Whether too little is left of the plan to shrink it once more: of what speaks of bounds, all that went on without
    /// end went when it was shrunk first, so nobody could tell a bound that is too short.
    pub fn is_spent(&self, plan: &Plan) -> bool {
        let budget = Budget::usual();
        let (mut simulator, mut control) = (Runs::of(&budget), Runs::of(&budget));
        plan.found_under.is_some() && self.freedom(&mut simulator, &mut control, plan) == Some(Freedom::Full)
    }

    /// An order that was chosen to the end, call by call, for an engine without a guard may starve the sound one: the plan with
    /// the fewest of its turns that break the property, if the sound engine keeps all then, and otherwise did not.
    fn with_fair_order(&self, plan: &Plan, budget: &Budget) -> Option<Plan> {
        let Order::Chosen(chosen) = &plan.order else { return None };
        let (mut simulator, mut control) = (Runs::of(budget), Runs::of(budget));
        if self.guards == Guards::ALL || self.is_sound(&mut control, plan) {
            return None;
        }
        let shorter = (0..ORDER_PARTS).map(|part| {
            let mut shorter = chosen.clone();
            shorter.turns.0.truncate(shorter.turns.0.len() * part / ORDER_PARTS);
            Plan { order: Order::Chosen(shorter), ..plan.clone() }
        });
        let mut fair =
            shorter.filter(|plan| self.broken(&mut simulator, plan).is_some() && self.is_sound(&mut control, plan));
        fair.next()
    }

    /// What may be left out of a plan; none if it does not break the property.
    fn freedom(&self, simulator: &mut Runs, control: &mut Runs, plan: &Plan) -> Option<Freedom> {
        self.broken(simulator, plan)?;
        // A plan that the sound engine fails as well tells nothing of what the guards are for.
        Some(match self.guards != Guards::ALL && self.is_sound(control, plan) {
            true if self.is_of_bounds(simulator, plan) => Freedom::Full,
            true => Freedom::AllButBound,
            false => Freedom::WorkAndFaults,
        })
    }

    /// The plan with brief programs that break the property as well, if some do.
    fn briefly(&self, plan: &Plan, budget: &Budget) -> Vec<(Work, Plan)> {
        // Somebody's own program is what it is about.
        if self.work.is_own() {
            return Vec::new();
        }
        let Some(work) = Work::named(Brief.name()) else { return Vec::new() };
        let programs = seeds(plan).flat_map(|seed| Brief::samples().iter().map(move |state| (seed, *state)));
        let plans = programs.map(|(seed, program)| with_brief_programs(plan, seed, program));
        Subject { work: &work, ..*self }.broken_by(plans, 1, budget)
    }

    /// The plan with latencies that no call more or less can move: where everything hangs on who comes first.
    fn retimed(&self, plan: &Plan, budget: &Budget) -> Vec<(Work, Plan)> {
        let retimed = |seed| Plan { seed, latency_draw: LatencyDraw::ByTime, ..plan.clone() };
        self.broken_by(seeds(plan).map(retimed), RETIMED, budget)
    }

    /// The first few of these plans that break the property, and are sound with every guard.
    fn broken_by(&self, plans: impl Iterator<Item = Plan>, most: usize, budget: &Budget) -> Vec<(Work, Plan)> {
        let (mut simulator, mut control) = (Runs::of(budget), Runs::of(budget));
        let in_time = plans.take_while(|_| !budget.is_over());
        let broken =
            in_time.filter(|plan| self.broken(&mut simulator, plan).is_some() && self.is_sound(&mut control, plan));
        broken.take(most).map(|plan| (self.work.clone(), plan)).collect()
    }

    fn shrink_one_way(&self, original: &Plan, budget: &Budget, grace: Micros) -> Option<Shrunk> {
        let [mut simulator, mut control, mut longer] = [(); 3].map(|()| Runs::of(budget));
        let freedom = self.freedom(&mut simulator, &mut control, original)?;
        let seen = self.broken(&mut simulator, original)?;
        let history = simulator.history().clone();
        let is_of_end = self.broken(&mut simulator, &ended_at(original, seen)).is_none();
        let was_the_guards = self.guards != Guards::ALL && !self.is_broken_anyway(&mut control, original);
        let run = |plan: &Plan| -> Result<Option<Shown>, Infallible> {
            let Some(ended) = self.ended_in_time(&mut simulator, plan, grace, is_of_end) else { return Ok(None) };
            let is_fair = match freedom {
                Freedom::WorkAndFaults => !(was_the_guards && self.is_broken_anyway(&mut control, &ended)),
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
        let Ok(shrunk) = shrink((original.clone(), history), freedom, budget, run);
        Some(shrunk)
    }

    /// Whether it speaks of what must have happened within the liveness bound: then it is not to be seen before much of that
    /// is over.
    fn is_of_bounds(&self, simulator: &mut Runs, plan: &Plan) -> bool {
        let early = ended_at(plan, plan.faults_end + Micros(plan.liveness_bound.0 / 2));
        let may_be = self.property == Property::T4 || self.property.id().starts_with('L');
        may_be && self.broken(simulator, &early).is_none()
    }

    /// Whether the sound engine breaks the property under this plan as well.
    fn is_broken_anyway(&self, control: &mut Runs, plan: &Plan) -> bool {
        Subject { guards: Guards::ALL, ..*self }.broken(control, plan).is_some()
    }

    /// A run that breaks the property, ended where that can be seen: its plan. What was changed before may have put it off a little.
    fn ended_in_time(&self, simulator: &mut Runs, plan: &Plan, grace: Micros, is_of_end: bool) -> Option<Plan> {
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
    fn broken(&self, simulator: &mut Runs, plan: &Plan) -> Option<Micros> {
        let verdict = simulator.run(plan, self.work, self.guards)?;
        let violations = verdict.violations().filter(|violation| violation.property == self.property);
        let first = violations.min_by_key(|violation| violation.records.last().copied())?;
        let history = simulator.history();
        let last = first.records.last().and_then(|record| history.records.get(*record as usize));
        Some(last.or(history.records.last()).map_or(Micros(0), |record| record.at))
    }

    /// Whether the sound engine keeps every property under this plan. What speaks of the end of a run must be known to hold there;
    /// the others are broken, if at all, whenever it ends.
    fn is_sound(&self, control: &mut Runs, plan: &Plan) -> bool {
        let Some(verdict) = control.run(plan, self.work, Guards::ALL) else { return false };
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
