//! The course of a plan's workflows, walked without an engine: how many steps, how long asleep, how many deaths.
//!
//! A plan gives its workflows time in proportion to that. What it is not: a prediction; faults come on top of it, and of
//! two ways to go on each is taken as far as it goes.

use crate::sweep::catch;
use tourbillon_engine::schema::FORBIDDEN_STATE;
use tourbillon_models::name::{EventId, Micros, Name};
use tourbillon_models::reply::{Arrival, ChildOutcome, ChildResult};
use tourbillon_models::workload::{Child, Expected, Next, Program, StepInput};

/// The longest of all workflows, and the deaths of all together. Children count as their parent's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Course {
    /// One after the other: of children, those of the longest.
    pub steps: u64,
    pub asleep: Micros,
    /// Steps that take their process down.
    pub deaths: u64,
    /// All of them, children included.
    pub workflows: u64,
}

/// Who has not ended after so many steps never will, as far as a plan is concerned,
const ENDLESS: u64 = 10_000;
/// and is given time for so many, none of them asleep: enough to see that it does not end.
const ENOUGH: Course = Course { steps: 64, asleep: Micros(0), deaths: 0, workflows: 1 };
/// Both ways are taken at so many waits of one workflow; after that, the longer one.
const FORKS: u32 = 6;
/// Children of children, so deep.
const DEPTH: u32 = 64;
/// How long it takes until somebody has been heard, once nothing goes wrong any more.
const HEARD: Micros = Micros::from_millis(400);

impl Course {
    /// Of both versions of the code. A program that panics is met when it runs.
    pub fn of(program: &dyn Program, items: u64, size: u64) -> Course {
        let of_item =
            |index: u32| [0, 1].map(|version| catch(|| of_one(program, index, size, version)).unwrap_or(ENOUGH));
        (0..items as u32).map(of_item).fold(Course::default(), |sum, [one, other]| Course {
            workflows: sum.workflows + one.workflows.max(other.workflows),
            deaths: sum.deaths + one.deaths + other.deaths,
            ..sum.longer(one).longer(other)
        })
    }

    /// Of two ways, each as far as it goes.
    fn longer(self, other: Course) -> Course {
        Course {
            steps: self.steps.max(other.steps),
            asleep: self.asleep.max(other.asleep),
            deaths: self.deaths.max(other.deaths),
            workflows: self.workflows.max(other.workflows),
        }
    }

    /// One after the other.
    fn then(self, next: Course) -> Course {
        Course {
            steps: self.steps + next.steps,
            asleep: self.asleep + next.asleep,
            deaths: self.deaths + next.deaths,
            workflows: self.workflows + next.workflows,
        }
    }

    /// Side by side.
    fn beside(self, other: Course) -> Course {
        let deaths = self.deaths + other.deaths;
        Course { deaths, workflows: self.workflows + other.workflows, ..self.longer(other) }
    }

    const fn asleep(asleep: Micros) -> Course {
        Course { steps: 0, asleep, deaths: 0, workflows: 0 }
    }
}

fn of_one(program: &dyn Program, index: u32, size: u64, version: u16) -> Course {
    let (step, state) = program.start(index, size);
    let mut walker = Walker { program, told: program.emits(index, size), version, left: ENDLESS };
    walker.workflow(Child { step, state }, DEPTH).map_or(ENOUGH, |(course, _)| course)
}

type End = (ChildOutcome, u64);
const DEAD: End = (ChildOutcome::Dead, 0);

/// Where a workflow stands.
#[derive(Clone)]
struct Place {
    at: Child,
    arrival: Arrival,
    results: Vec<ChildResult>,
    attempt: u16,
}

impl Place {
    const fn at(at: Child) -> Place {
        Place { at, arrival: Arrival::Direct, results: Vec::new(), attempt: 1 }
    }
}

struct Walker<'a> {
    program: &'a dyn Program,
    told: Vec<Expected>,
    version: u16,
    /// Steps that may still be asked.
    left: u64,
}

impl Walker<'_> {
    fn workflow(&mut self, from: Child, depth: u32) -> Option<(Course, End)> {
        let (course, end) = self.walk(Place::at(from), FORKS, depth)?;
        Some((Course { workflows: course.workflows + 1, ..course }, end))
    }

    /// None if it does not end.
    fn walk(&mut self, from: Place, forks: u32, depth: u32) -> Option<(Course, End)> {
        let (mut place, mut course) = (from, Course::default());
        loop {
            self.left = self.left.checked_sub(1)?;
            course.steps += 1;
            let Place { at: Child { step, state }, arrival, ref results, attempt } = place;
            let input = StepInput { step, state, arrival, results, attempt, version: self.version };
            match self.program.decide(input).next {
                Next::Goto { step, state } => place = Place::at(Child { step, state }),
                Next::Sleep { step, state, delay } => {
                    course.asleep = course.asleep + delay;
                    if state == FORBIDDEN_STATE {
                        return Some((course, DEAD));
                    }
                    place = Place::at(Child { step, state });
                }
                Next::Retry { delay, max_attempts } if attempt < max_attempts => {
                    place.attempt += 1;
                    course.asleep = course.asleep + delay;
                }
                Next::Await { state: FORBIDDEN_STATE, deadline, .. } => {
                    course.asleep = course.asleep + deadline?;
                    return Some((course, DEAD));
                }
                Next::Await { name, step, state, deadline, .. } => {
                    let at = Child { step, state };
                    let heard = self.heard(name, at).map(|place| (place, HEARD));
                    let late = deadline.map(|after| (Place { arrival: Arrival::TimedOut, ..Place::at(at) }, after));
                    let (next, asleep) = match (heard, late) {
                        (Some((heard, soon)), Some((late, after))) if forks > 0 => {
                            let (one, _) = self.walk(heard, forks - 1, depth)?;
                            let (other, end) = self.walk(late, forks - 1, depth)?;
                            let ways = Course::asleep(soon).then(one).longer(Course::asleep(after).then(other));
                            return Some((course.then(ways), end));
                        }
                        (heard, late) => late.or(heard)?,
                    };
                    course.asleep = course.asleep + asleep;
                    place = next;
                }
                Next::Spawn { step, state, children } => {
                    let (beside, results) = self.children(&children, depth.checked_sub(1)?)?;
                    course = course.then(beside);
                    if state == FORBIDDEN_STATE {
                        return Some((course, DEAD));
                    }
                    let arrival = Arrival::Joined { join: EventId(0) };
                    place = Place { arrival, results, ..Place::at(Child { step, state }) };
                }
                Next::Die => return Some((Course { deaths: course.deaths + 1, ..course }, DEAD)),
                Next::Retry { .. } | Next::Reject => return Some((course, DEAD)),
                Next::Complete { result } => return Some((course, (ChildOutcome::Completed, result))),
                Next::Fail { result } => return Some((course, (ChildOutcome::Failed, result))),
            }
        }
    }

    /// The first that somebody tells of this name.
    fn heard(&self, name: Name, at: Child) -> Option<Place> {
        let told = self.told.iter().find(|told| told.name == name)?;
        Some(Place { arrival: Arrival::Emitted { payload: told.payload }, ..Place::at(at) })
    }

    fn children(&mut self, children: &[Child], depth: u32) -> Option<(Course, Vec<ChildResult>)> {
        let (mut all, mut results) = (Course::default(), Vec::with_capacity(children.len()));
        for (index, child) in children.iter().enumerate() {
            let (course, (outcome, result)) = self.workflow(*child, depth)?;
            all = all.beside(course);
            results.push(ChildResult { join: EventId(0), index: index as u16, outcome, result });
        }
        Some((all, results))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tourbillon_models::workload::Workload;

    fn course(workload: &str, items: u64, size: u64) -> Course {
        let program = Workload::by_name(workload).and_then(|workload| workload.program()).expect("it has a program");
        Course::of(program, items, size)
    }

    #[test]
    fn a_workflow_is_walked_to_its_end() {
        assert_eq!(course("chain", 5, 1), Course { steps: 4, workflows: 5, ..Course::default() });
        assert_eq!(course("agent-loop", 2, 12).steps, 25);
        assert_eq!(course("poison", 6, 1).deaths, 4, "two workflows, at two versions");
        assert!(course("long-sleep", 3, 1).asleep >= Micros::from_secs(30));
    }

    #[test]
    fn who_does_not_end_is_given_time_for_a_few_steps() {
        assert_eq!(course("agent-loop", 1, 1_000_000), ENOUGH);
    }

    #[test]
    fn children_are_walked_side_by_side() {
        let fan_out = course("fan-out", 2, 1);
        assert_eq!((fan_out.steps, fan_out.workflows), (1 + 3 + 1, 8));
        let family = course("children-fail", 12, 1);
        assert!(family.workflows > 24 && family.steps < 12, "{family:?}");
        assert_eq!(family.deaths, 4, "two children, at two versions");
    }

    /// Approvals escalate: the way that takes longer has both waits in it.
    #[test]
    fn of_two_ways_each_is_walked() {
        let approval = course("approval", 2, 1);
        assert_eq!(approval.steps, 6, "load, ask, decide, escalate, decide, order");
        assert!(approval.asleep > HEARD + Micros::from_millis(100));
        assert_eq!(course("emit-race", 3, 40).workflows, 3, "waits are many, and the walk ends");
    }
}
