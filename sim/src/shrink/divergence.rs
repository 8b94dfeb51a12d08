//! A plan under which a server differs from the model, made smaller. Each try is a replay.
//!
//! What it is not: certain that it is the same difference. What is left differs in a call of the same operation, or in the
//! rows at the end, as what was found: a plan that is cut off may differ in ids that no reply has shown yet.

use super::budget::Budget;
use super::{Freedom, Shown, Shrunk, shrink};
use crate::lockstep::Sides;
use crate::plan::{self, Plan};
use crate::postgres::Error;
use crate::postgres::server::Server;
use crate::replay::{End, Replay, replay};
use crate::simulate::Work;
use crate::target::Chooser;
use tourbillon_models::name::Micros;

/// With what is left replayed once more; none if the plan, replayed again, does not diverge.
pub fn shrink_divergence(
    server: &mut Server,
    plan: &Plan,
    work: &Work,
    guards: impl Into<Sides>,
    budget: &Budget,
) -> Result<Option<(Shrunk, Replay)>, Error> {
    let guards = guards.into();
    let again = |server: &mut Server, plan: &Plan| replay(server, plan, work, guards, Chooser::seeded(plan.seed));
    let Replay { end: End::Diverged(difference), history, .. } = again(server, plan)? else { return Ok(None) };
    let diverges = |server: &mut Server, plan: &Plan| -> Result<Option<Shown>, Error> {
        let Replay { end, history, .. } = again(server, plan)?;
        budget.spend(Budget::REPLAYED * history.records.len() as u64);
        let is_it = matches!(&end, End::Diverged(other) if subject(other) == subject(&difference));
        Ok(is_it.then(|| (plan.clone(), history)))
    };
    // What does not diverge any more would go on to the end, and that takes long.
    let seen = history.records.last().map_or(Micros(0), |record| record.at);
    let ended = diverges(server, &Plan { end: plan::End::At(seen), ..plan.clone() })?;
    let shown = ended.unwrap_or((plan.clone(), history));
    let shrunk = shrink(shown, Freedom::Full, budget, |plan| diverges(server, plan))?;
    let replay = again(server, &shrunk.plan)?;
    Ok(Some((shrunk, replay)))
}

/// What a difference is in: an operation by its name, or the state. (`statement 12, Claim { … }: …`.)
fn subject(difference: &str) -> &str {
    let said = difference.split_once(", ").map_or(difference, |(_, said)| said);
    said.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::subject;

    #[test]
    fn a_difference_is_in_an_operation_or_in_the_state() {
        let claim = "statement 260, Claim { worker: lease-37, dead_interval: 0.366 s }: the model answers Idle";
        assert_eq!(subject(claim), "Claim");
        assert_eq!(subject("statement 1, state: the server has k1, which no reply has shown"), "state");
        assert_eq!(subject("statement 3, Commit: the model answers Committed"), "Commit");
    }
}
