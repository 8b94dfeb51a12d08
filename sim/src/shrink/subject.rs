//! What is shrunk: a plan under which an engine, with some guards removed or with none, breaks a property.

use super::{Freedom, Limit, Shrunk, shrink};
use crate::plan::Plan;
use crate::simulate::{Simulator, Work};
use crate::sweep::catch;
use std::convert::Infallible;
use tourbillon_engine::guard::Guards;
use tourbillon_models::history::History;
use tourbillon_models::property::{Kind, Property};
use tourbillon_models::verdict::Judgement;

/// What must stay as it is while a plan gets smaller.
pub struct Subject<'a> {
    pub work: &'a Work,
    pub guards: Guards,
    pub property: Property,
}

impl Subject<'_> {
    /// Shrinks a plan; none if it does not break the property at all.
    pub fn shrink(&self, plan: &Plan, limit: Limit) -> Option<Shrunk> {
        let (mut simulator, mut control) = (Simulator::default(), Simulator::default());
        let history = self.history(&mut simulator, plan)?;
        // A plan that the sound engine fails as well tells nothing of what the guards are for.
        let freedom = match self.guards != Guards::ALL && self.is_sound(&mut control, plan) {
            true => Freedom::Full,
            false => Freedom::WorkAndFaults,
        };
        let run = |plan: &Plan| -> Result<Option<History>, Infallible> {
            let history = self.history(&mut simulator, plan);
            Ok(history.filter(|_| freedom == Freedom::WorkAndFaults || self.is_sound(&mut control, plan)))
        };
        let Ok(shrunk) = shrink(plan, history, freedom, limit, run);
        Some(shrunk)
    }

    /// Of a run that breaks the property.
    fn history(&self, simulator: &mut Simulator, plan: &Plan) -> Option<History> {
        let Ok((_, verdict)) = catch(|| simulator.run(plan, self.work, self.guards)) else {
            *simulator = Simulator::default();
            return None;
        };
        verdict.broken().any(|broken| broken == self.property).then(|| simulator.history().clone())
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
