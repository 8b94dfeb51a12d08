//! The shape of a program: which steps follow which, found without running it.
//!
//! From some of the states in which its workflows begin, every step is asked what comes next, with whatever may have come
//! of what the workflow waited for: each payload that is expected and one that is not, a deadline that passed, children
//! that ended as they would or otherwise; at every attempt; in the first two versions. What it is not: a proof, since
//! states that no such start leads to are not seen. Invariant: one program has one shape, and one text.

use super::{Child, Expected, Next, Program, StepInput};
use crate::name::{EventId, Name, Step};
use crate::reply::{Arrival, ChildOutcome, ChildResult};
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// More children of one spawn are refused by the engine.
pub const MOST_CHILDREN: usize = 1024;

/// Starts that are looked at.
const INDEXES: u32 = 24;
const SIZES: [u64; 2] = [1, 3];
const VERSIONS: [u16; 2] = [0, 1];
/// After so many questions no more are asked.
const QUESTIONS: u32 = 50_000;
/// Children of children, so deep.
const DEPTH: u32 = 32;
/// So many of the ways in which a child can end are told to its parent.
const ENDS: usize = 8;
/// Nobody expects it.
const ODD_PAYLOAD: u64 = 1_000_003;

/// A graph of steps. Its text has a line for each that follows from another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    program: String,
    steps: Vec<String>,
    starts: BTreeSet<Step>,
    edges: BTreeSet<Edge>,
    /// Whether there was more to ask than is ever asked.
    is_cut: bool,
}

/// What may follow a step, given what came of what was awaited before it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Edge {
    from: Step,
    given: Given,
    has_effect: bool,
    what: String,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Given {
    Nothing,
    Emitted,
    TimedOut,
    Joined,
}

impl Shape {
    /// Whether some step goes on in this way, by the first word of what its line says.
    pub fn has(&self, word: &str) -> bool {
        self.edges.iter().any(|edge| edge.what.starts_with(word))
    }
}

/// Why a program cannot be run as it is. Printed, it is one sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Malformed {
    UnknownStart { index: u32, step: Step, count: usize },
    UnknownStep { from: String, step: Step, count: usize },
    UnknownName { from: String, name: Name, count: usize },
    Endless { step: String, state: u64 },
    Childless { from: String },
    TooManyChildren { from: String, children: usize },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::UnknownStart { index, step, count } => {
                write!(f, "workflow {index} starts at step {}, and the program has {count}, counted from 0", step.0)
            }
            Malformed::UnknownStep { from, step, count } => {
                write!(f, "{from} goes on to step {}, and the program has {count}, counted from 0", step.0)
            }
            Malformed::UnknownName { from, name, count } => {
                write!(f, "{from} awaits name {}, and the program has {count}, counted from 0", name.0)
            }
            Malformed::Endless { step, state } => {
                write!(
                    f,
                    "{step} with state {state} comes round to itself without a wait, a sleep or a join in between"
                )
            }
            Malformed::Childless { from } => {
                write!(f, "{from} waits for children, and never has any")
            }
            Malformed::TooManyChildren { from, children } => {
                write!(f, "{from} spawns {children} children, and {MOST_CHILDREN} are the most")
            }
        }
    }
}

impl core::error::Error for Malformed {}

/// Explores a program. Cost: a decision for each place that a workflow comes to, at most fifty thousand.
pub fn explore(program: &dyn Program) -> Result<Shape, Malformed> {
    let mut explorer = Explorer {
        program,
        told: Vec::new(),
        starts: BTreeSet::new(),
        edges: BTreeSet::new(),
        spawns: BTreeMap::new(),
        ends: BTreeMap::new(),
        questions: 0,
    };
    for size in SIZES {
        for index in 0..INDEXES {
            explorer.explore(index, size)?;
        }
    }
    explorer.shape()
}

/// How a workflow may end, as its parent is told.
type End = (ChildOutcome, u64);

/// Where a workflow stands: its next step, and what that is given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    step: Step,
    state: u64,
    given: Given,
    payload: u64,
    results: Vec<End>,
}

impl Place {
    const fn of(step: Step, state: u64) -> Self {
        Place { step, state, given: Given::Nothing, payload: 0, results: Vec::new() }
    }
}

struct Explorer<'a> {
    program: &'a dyn Program,
    /// What the workflow that is looked at is told.
    told: Vec<Expected>,
    starts: BTreeSet<Step>,
    edges: BTreeSet<Edge>,
    /// The most children that a spawn was seen with, by the step that spawns and the one that follows.
    spawns: BTreeMap<(Step, Step), usize>,
    /// How those end that begin there; nothing as long as that is being found out.
    ends: BTreeMap<(Step, u64), Vec<End>>,
    questions: u32,
}

impl Explorer<'_> {
    fn explore(&mut self, index: u32, size: u64) -> Result<(), Malformed> {
        let (step, state) = self.program.start(index, size);
        let count = self.program.steps().len();
        if usize::from(step.0) >= count {
            return Err(Malformed::UnknownStart { index, step, count });
        }
        self.starts.insert(step);
        self.told = self.program.emits(index, size);
        self.ends.clear();
        self.ends_of(Child { step, state }, 0)?;
        Ok(())
    }

    /// Goes everywhere that a workflow may come to, and says how it may end.
    fn ends_of(&mut self, from: Child, depth: u32) -> Result<Vec<End>, Malformed> {
        if let Some(ends) = self.ends.get(&(from.step, from.state)) {
            return Ok(ends.clone());
        }
        self.ends.insert((from.step, from.state), Vec::new());
        let (mut ends, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut gotos = VERSIONS.map(|_| BTreeMap::new());
        let mut places = Vec::from([Place::of(from.step, from.state)]);
        while let Some(place) = places.pop().filter(|_| self.questions < QUESTIONS) {
            if !seen.insert(place.clone()) {
                continue;
            }
            for (version, gotos) in VERSIONS.into_iter().zip(&mut gotos) {
                match self.ask(&place, version)? {
                    Next::Goto { step, state } => {
                        gotos.insert(place.clone(), Place::of(step, state));
                        places.push(Place::of(step, state));
                    }
                    Next::Sleep { step, state, .. } => places.push(Place::of(step, state)),
                    Next::Await { name, step, state, deadline, .. } => {
                        let told = self.told.iter().filter(|told| told.name == name).map(|told| told.payload);
                        let emitted = told.chain([ODD_PAYLOAD]).map(|payload| (Given::Emitted, payload));
                        let ways = emitted.chain(deadline.map(|_| (Given::TimedOut, 0)));
                        places.extend(ways.map(|(given, payload)| Place { given, payload, ..Place::of(step, state) }));
                    }
                    Next::Spawn { step, state, children } => {
                        let joined = |results| Place { given: Given::Joined, results, ..Place::of(step, state) };
                        places.extend(self.results(&children, depth)?.into_iter().map(joined));
                    }
                    end => drop(ends.insert(ended(&end))),
                }
            }
        }
        gotos.iter().try_for_each(|gotos| self.look_for_rounds(gotos))?;
        let ends: Vec<End> = ends.into_iter().take(ENDS).collect();
        self.ends.insert((from.step, from.state), ends.clone());
        Ok(ends)
    }

    /// What comes next in the end, if the step is retried as often as it asks.
    fn ask(&mut self, place: &Place, version: u16) -> Result<Next, Malformed> {
        let Place { step, state, given, payload, ref results } = *place;
        let join = EventId(1);
        let arrival = match given {
            Given::Nothing => Arrival::Direct,
            Given::Emitted => Arrival::Emitted { payload },
            Given::TimedOut => Arrival::TimedOut,
            Given::Joined => Arrival::Joined { join },
        };
        let results = results.iter().enumerate();
        let results: Vec<ChildResult> = results
            .map(|(index, (outcome, result))| ChildResult {
                join,
                index: index as u16,
                outcome: *outcome,
                result: *result,
            })
            .collect();
        let mut attempt = 1;
        loop {
            self.questions += 1;
            let input = StepInput { step, state, arrival, results: &results, attempt, version };
            let outcome = self.program.decide(input);
            let what = self.name_next(step, &outcome.next)?;
            self.edges.insert(Edge { from: step, given, has_effect: outcome.effect, what });
            match outcome.next {
                Next::Retry { max_attempts, .. } if attempt < max_attempts && self.questions < QUESTIONS => {
                    attempt += 1
                }
                next => return Ok(next),
            }
        }
    }

    /// What children may leave: as they end if all goes well, then each of them another way, and all of them dead.
    fn results(&mut self, children: &[Child], depth: u32) -> Result<Vec<Vec<End>>, Malformed> {
        let mut ends = Vec::with_capacity(children.len());
        for child in children {
            ends.push(if depth < DEPTH { self.ends_of(*child, depth + 1)? } else { Vec::new() });
        }
        const DEAD: End = (ChildOutcome::Dead, 0);
        let usual: Vec<End> = ends.iter().map(|ends| ends.first().copied().unwrap_or(DEAD)).collect();
        let mut results = Vec::from([usual.clone()]);
        for (place, ends) in ends.iter().enumerate() {
            for end in ends.iter().copied().skip(1).chain([(ChildOutcome::Failed, 0), DEAD]) {
                let mut other = usual.clone();
                other[place] = end;
                results.push(other);
            }
        }
        results.push(usual.iter().map(|_| DEAD).collect());
        Ok(results)
    }

    /// From each place one goes on to one other: whoever comes to where he has been goes round for ever.
    fn look_for_rounds(&self, gotos: &BTreeMap<Place, Place>) -> Result<(), Malformed> {
        let mut over = BTreeSet::new();
        for from in gotos.keys() {
            let (mut path, mut place) = (BTreeSet::new(), from);
            while let Some(next) = gotos.get(place).filter(|_| !over.contains(place)) {
                if !path.insert(place) {
                    return Err(Malformed::Endless { step: self.name_of(place.step), state: place.state });
                }
                place = next;
            }
            over.append(&mut path);
        }
        Ok(())
    }

    /// What follows, in words; refused if there is no such thing.
    fn name_next(&mut self, from: Step, next: &Next) -> Result<String, Malformed> {
        Ok(match next {
            Next::Goto { step, .. } => format!("goto {}", self.known(from, *step)?),
            Next::Sleep { step, .. } => format!("sleep, then {}", self.known(from, *step)?),
            Next::Retry { max_attempts, .. } => format!("retry, {max_attempts} attempts in all"),
            Next::Await { name, step, deadline, token, .. } => {
                let names = self.program.names();
                let Some(awaited) = names.get(usize::from(name.0)) else {
                    return Err(Malformed::UnknownName { from: self.name_of(from), name: *name, count: names.len() });
                };
                let with = token.map_or("", |_| " with a token");
                let within = deadline.map_or("", |_| " or a deadline");
                format!("await {awaited}{with}{within}, then {}", self.known(from, *step)?)
            }
            Next::Spawn { step, children, .. } => {
                let most = self.spawns.entry((from, *step)).or_default();
                *most = children.len().max(*most);
                if children.len() > MOST_CHILDREN {
                    let (from, children) = (self.name_of(from), children.len());
                    return Err(Malformed::TooManyChildren { from, children });
                }
                let begin: BTreeSet<Step> = children.iter().map(|child| child.step).collect();
                let begin = begin.into_iter().map(|step| self.known(from, step));
                let begin = begin.collect::<Result<Vec<_>, _>>()?.join(" and ");
                let begin = if begin.is_empty() { "nobody" } else { &begin };
                format!("spawn {begin}, then {}", self.known(from, *step)?)
            }
            Next::Complete { .. } => "complete".to_owned(),
            Next::Fail { .. } => "fail".to_owned(),
            Next::Reject => "reject".to_owned(),
            Next::Die => "die".to_owned(),
        })
    }

    fn known(&self, from: Step, step: Step) -> Result<String, Malformed> {
        let count = self.program.steps().len();
        let is_known = usize::from(step.0) < count;
        let unknown = || Malformed::UnknownStep { from: self.name_of(from), step, count };
        is_known.then(|| self.name_of(step)).ok_or_else(unknown)
    }

    fn name_of(&self, step: Step) -> String {
        self.program.steps()[usize::from(step.0)].to_owned()
    }

    fn shape(self) -> Result<Shape, Malformed> {
        let is_cut = self.questions >= QUESTIONS;
        if let Some(((from, _), _)) = self.spawns.iter().find(|(_, most)| **most == 0 && !is_cut) {
            return Err(Malformed::Childless { from: self.name_of(*from) });
        }
        let steps = self.program.steps().iter().map(|step| (*step).to_owned()).collect();
        let Explorer { program, starts, edges, .. } = self;
        Ok(Shape { program: program.name().to_owned(), steps, starts, edges, is_cut })
    }
}

fn ended(end: &Next) -> End {
    match *end {
        Next::Complete { result } => (ChildOutcome::Completed, result),
        Next::Fail { result } => (ChildOutcome::Failed, result),
        _ => (ChildOutcome::Dead, 0),
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |step: &Step| self.steps[usize::from(step.0)].as_str();
        let starts: Vec<&str> = self.starts.iter().map(name).collect();
        writeln!(f, "{}, starts with {}", self.program, starts.join(" or "))?;
        for Edge { from, given, has_effect, what } in &self.edges {
            let given = match given {
                Given::Nothing => "",
                Given::Emitted => ", emitted",
                Given::TimedOut => ", timed out",
                Given::Joined => ", joined",
            };
            let effect = if *has_effect { "a row, " } else { "" };
            writeln!(f, "  {}{given}: {effect}{what}", name(from))?;
        }
        if self.is_cut {
            writeln!(f, "  and perhaps more: it has more states than are looked at")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
