//! What to try next: each candidate is simpler than the plan that was accepted last.
//!
//! A pass drops parts, in runs first and one by one last, or puts simpler things in the place of what is there. The passes come
//! round again until none of them has found anything. What it is not: a judge. It never runs a plan, so it serves whoever has
//! a way to tell good ones from bad.

use super::Freedom;
use super::cut::{self, Seen};
use super::simplify;
use crate::plan::Plan;
use std::collections::BTreeSet;
use std::ops::Range;
use tourbillon_models::history::History;
use xxhash_rust::xxh3::xxh3_64;

/// One way to make a plan simpler.
#[derive(Clone, Copy)]
enum Pass {
    /// Parts in a row that can go: how many there are, and the plan without some of them.
    Drop(fn(&Plan, Freedom) -> usize, fn(&Plan, Freedom, Range<usize>) -> Plan),
    /// Places where something simpler can stand: what could, the simplest first; none if there is no such place.
    Replace(fn(&Plan, Freedom, &Seen, usize) -> Option<Vec<Plan>>),
}

const PASSES: [Pass; 16] = [
    Pass::Replace(simplify::shorter_horizon),
    Pass::Replace(cut::ended_earlier),
    Pass::Drop(cut::fault_count, cut::without_faults),
    Pass::Drop(cut::process_count, cut::without_processes),
    Pass::Drop(cut::turn_count, cut::without_turns),
    Pass::Replace(cut::unrolled),
    Pass::Replace(cut::recounted),
    Pass::Drop(cut::poll_count, cut::without_polls),
    Pass::Drop(cut::round_count, cut::without_rounds),
    Pass::Drop(cut::statement_count, cut::without_statements),
    Pass::Replace(cut::without_transaction),
    Pass::Replace(simplify::later_start),
    Pass::Replace(simplify::plainer_worker),
    Pass::Replace(simplify::plainer_surroundings),
    Pass::Replace(simplify::all_earlier),
    Pass::Replace(simplify::smaller_numbers),
];

/// Where a pass stands.
#[derive(Clone, Copy)]
enum Cursor {
    /// Runs of `run` parts are tried from the end on; the next one ends at `end`.
    Drop { run: usize, end: usize },
    /// The next one is the `choice`th at `place`.
    Replace { place: usize, choice: usize },
}

/// A plan on its way to a smaller one.
pub struct Candidates {
    plan: Plan,
    freedom: Freedom,
    seen: Seen,
    candidate: Option<Plan>,
    pass: usize,
    cursor: Cursor,
    /// So many passes in a row have found nothing.
    idle: usize,
    found: bool,
    /// Hashes of all plans that were: what was given up does not come back.
    accepted: BTreeSet<u64>,
}

impl Candidates {
    /// `history` as for [`accept`](Candidates::accept).
    pub fn new(plan: Plan, freedom: Freedom, history: Option<&History>) -> Candidates {
        let mut candidates = Candidates {
            accepted: BTreeSet::from([hash(&plan)]),
            plan,
            freedom,
            seen: history.map_or_else(Seen::default, Seen::of),
            candidate: None,
            pass: 0,
            cursor: Cursor::Replace { place: 0, choice: 0 },
            idle: 0,
            found: false,
        };
        candidates.enter(0);
        candidates
    }

    /// The last that was accepted.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn into_plan(self) -> Plan {
        self.plan
    }

    /// To be answered with [`accept`](Candidates::accept) or [`reject`](Candidates::reject). None if nothing is left to try.
    #[expect(clippy::should_implement_trait, reason = "what it gives is lent")]
    pub fn next(&mut self) -> Option<&Plan> {
        while self.idle < PASSES.len() {
            match self.at_cursor() {
                Some(candidate) if candidate.objection().is_some() => {
                    self.reject();
                    continue;
                }
                Some(candidate) => {
                    self.candidate = Some(candidate);
                    return self.candidate.as_ref();
                }
                None => {}
            }
            self.idle = if self.found { 0 } else { self.idle + 1 };
            self.enter((self.pass + 1) % PASSES.len());
        }
        None
    }

    /// `accepted` is the candidate, or one that was made of it. Without its history, duties stay without end, and polls where
    /// they are.
    pub fn accept(&mut self, accepted: Plan, history: Option<&History>) {
        let accepted = match history {
            Some(history) => {
                self.seen = Seen::of(history);
                cut::pinned(&accepted, &self.seen)
            }
            None => accepted,
        };
        if !self.accepted.insert(hash(&accepted)) {
            return self.reject();
        }
        self.plan = accepted;
        self.found = true;
        match &mut self.cursor {
            Cursor::Drop { run, end } => *end = end.saturating_sub(*run),
            // What stands there now may have something simpler still.
            Cursor::Replace { choice, .. } => *choice = 0,
        }
    }

    pub fn reject(&mut self) {
        self.candidate = None;
        match &mut self.cursor {
            Cursor::Drop { run, end } => *end = end.saturating_sub(*run),
            Cursor::Replace { choice, .. } => *choice += 1,
        }
    }

    fn enter(&mut self, pass: usize) {
        self.pass = pass;
        self.found = false;
        self.cursor = match PASSES[pass] {
            Pass::Drop(count, _) => {
                let count = count(&self.plan, self.freedom);
                Cursor::Drop { run: count, end: count }
            }
            Pass::Replace(_) => Cursor::Replace { place: 0, choice: 0 },
        };
    }

    /// None at the end of the pass.
    fn at_cursor(&mut self) -> Option<Plan> {
        match (PASSES[self.pass], &mut self.cursor) {
            (Pass::Drop(count, without), Cursor::Drop { run, end }) => loop {
                let count = count(&self.plan, self.freedom);
                if *run == 0 {
                    return None;
                }
                *end = (*end).min(count);
                if *end > 0 {
                    return Some(without(&self.plan, self.freedom, end.saturating_sub(*run)..*end));
                }
                *run /= 2;
                *end = count;
            },
            (Pass::Replace(choices), Cursor::Replace { place, choice }) => loop {
                let plans = choices(&self.plan, self.freedom, &self.seen, *place)?;
                if let Some(plan) = plans.into_iter().nth(*choice) {
                    return Some(plan);
                }
                (*place, *choice) = (*place + 1, 0);
            },
            _ => unreachable!("a pass's cursor is its own"),
        }
    }
}

fn hash(plan: &Plan) -> u64 {
    xxh3_64(serde_json::to_string(plan).expect("a plan has no maps with keys that are not strings").as_bytes())
}
