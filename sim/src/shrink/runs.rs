//! Runs that are tried, one after the other, and paid for.

use super::budget::Budget;
use crate::plan::Plan;
use crate::simulate::{Simulator, Work};
use crate::sweep::catch;
use tourbillon_engine::guard::Guards;
use tourbillon_models::history::History;
use tourbillon_models::verdict::Verdict;

pub(super) struct Runs {
    simulator: Simulator,
    budget: Budget,
}

/// What a run costs beside its records: it is drawn up, and begun.
const RUN: u64 = 100;
/// And over a network a host in a tick of it, idle or not.
const HOST: u64 = 6;

impl Runs {
    pub(super) fn of(budget: &Budget) -> Runs {
        Runs { simulator: Simulator::default(), budget: budget.clone() }
    }

    /// None if the plan cannot be run.
    pub(super) fn run(&mut self, plan: &Plan, work: &Work, guards: Guards) -> Option<Verdict> {
        let ran = catch(|| self.simulator.run(plan, work, guards));
        let records = &self.simulator.history().records;
        let hosts = plan.processes.len() as u64 + 1;
        let time = records.last().map_or(0, |record| record.at.0);
        let ticks = plan.network.as_ref().map_or(0, |network| time.div_ceil(network.tick.0));
        self.budget.spend(RUN + records.len() as u64 + HOST * hosts * ticks);
        match ran {
            Ok((_, verdict)) => Some(verdict),
            Err(_) => {
                self.simulator = Simulator::default();
                None
            }
        }
    }

    /// Of the last run.
    pub(super) fn history(&self) -> &History {
        self.simulator.history()
    }
}
