//! What is shrunk: a plan under which an engine, with some guards removed or with none, breaks a property.

use super::{Freedom, Limit, Shown, Shrunk, shrink};
use crate::plan::{End, Plan};
use crate::simulate::{Simulator, Work};
use crate::sweep::catch;
use std::convert::Infallible;
use tourbillon_engine::guard::Guards;
use tourbillon_models::history::History;
use tourbillon_models::name::Micros;
use tourbillon_models::property::{Kind, Property};
use tourbillon_models::verdict::Judgement;

/// So much longer than asked a run may go on until it shows what it is about.
const GRACE: Micros = Micros::from_millis(500);

/// What must stay as it is while a plan gets smaller.
pub struct Subject<'a> {
    pub work: &'a Work,
    pub guards: Guards,
    pub property: Property,
}

impl Subject<'_> {
    /// Shrinks a plan; none if it does not break the property at all. Which way leads further shows only at its end: of the two
    /// results the lighter one is given back.
    pub fn shrink(&self, plan: &Plan, limit: Limit) -> Option<Shrunk> {
        let half = Limit { tries: limit.tries / 2, time: limit.time / 2 };
        let ways = [Micros(0), GRACE].map(|grace| self.shrink_one_way(plan, half, grace));
        let (lightest, tries) = ways.into_iter().flatten().fold((None, 0), |(best, tries), other| {
            let tries = tries + other.tries;
            let lighter = best.filter(|best: &Shrunk| best.weight() <= other.weight()).unwrap_or(other);
            (Some(lighter), tries)
        });
        lightest.map(|lightest| Shrunk { tries, ..lightest })
    }

    fn shrink_one_way(&self, plan: &Plan, limit: Limit, grace: Micros) -> Option<Shrunk> {
        let (mut simulator, mut control) = (Simulator::default(), Simulator::default());
        let history = self.broken(&mut simulator, plan)?.1;
        // A plan that the sound engine fails as well tells nothing of what the guards are for.
        let freedom = match self.guards != Guards::ALL && self.is_sound(&mut control, plan) {
            true => Freedom::Full,
            false => Freedom::WorkAndFaults,
        };
        let run = |plan: &Plan| -> Result<Option<Shown>, Infallible> {
            let shown = self.ended_in_time(&mut simulator, plan, grace);
            Ok(shown.filter(|(plan, _)| freedom == Freedom::WorkAndFaults || self.is_sound(&mut control, plan)))
        };
        let Ok(shrunk) = shrink((plan.clone(), history), freedom, limit, run);
        Some(shrunk)
    }

    /// A run that breaks the property, ended where that can be seen. What was changed before may have put it off a little.
    fn ended_in_time(&self, simulator: &mut Simulator, plan: &Plan, grace: Micros) -> Option<Shown> {
        let longer = match plan.end {
            End::Drained => plan.clone(),
            End::At(end) => Plan { end: End::At(end + grace), ..plan.clone() },
        };
        if self.property.kind() == Kind::End {
            let as_asked = self.broken(simulator, plan).map(|(_, history)| (plan.clone(), history));
            return as_asked.or_else(|| self.broken(simulator, &longer).map(|(_, history)| (longer, history)));
        }
        let (seen, history) = self.broken(simulator, &longer)?;
        let ended = Plan { end: End::At(seen), ..plan.clone() };
        match self.broken(simulator, &ended) {
            Some((_, history)) => Some((ended, history)),
            None => Some((longer, history)),
        }
    }

    /// The history of a run that breaks the property, and when that was first to be seen.
    fn broken(&self, simulator: &mut Simulator, plan: &Plan) -> Option<(Micros, History)> {
        let Ok((_, verdict)) = catch(|| simulator.run(plan, self.work, self.guards)) else {
            *simulator = Simulator::default();
            return None;
        };
        let violations = verdict.violations().filter(|violation| violation.property == self.property);
        let first = violations.min_by_key(|violation| violation.records.last().copied())?;
        let history = simulator.history();
        let last = first.records.last().and_then(|record| history.records.get(*record as usize));
        Some((last.or(history.records.last()).map_or(Micros(0), |record| record.at), history.clone()))
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
