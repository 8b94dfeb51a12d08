use super::*;
use crate::name::{Micros, WaitToken};
use crate::workload::{StepOutcome, Workload};
use alloc::string::ToString;

/// Two steps and two names; what each step does is a test's to say.
struct Drawn(fn(StepInput) -> Next);

const ONE: Step = Step(0);
const TWO: Step = Step(1);

impl Program for Drawn {
    fn name(&self) -> &str {
        "drawn"
    }

    fn summary(&self) -> &str {
        "whatever a test draws"
    }

    fn steps(&self) -> &[&str] {
        &["one", "two"]
    }

    fn names(&self) -> &[&str] {
        &["here", "there"]
    }

    fn emits(&self, index: u32, _size: u64) -> Vec<Expected> {
        Vec::from([Expected { name: Name(1), payload: u64::from(index), token: None }])
    }

    fn start(&self, index: u32, _size: u64) -> (Step, u64) {
        (ONE, u64::from(index))
    }

    fn decide(&self, input: StepInput) -> StepOutcome {
        StepOutcome { effect: input.step == TWO, next: (self.0)(input) }
    }
}

const DONE: Next = Next::Complete { result: 0 };

fn refused(decide: fn(StepInput) -> Next) -> String {
    explore(&Drawn(decide)).expect_err("it is malformed").to_string()
}

fn text(decide: fn(StepInput) -> Next) -> String {
    explore(&Drawn(decide)).expect("it is well formed").to_string()
}

fn wait(name: Name, deadline: Option<Micros>, token: Option<WaitToken>) -> Next {
    Next::Await { name, step: TWO, state: 0, deadline, token }
}

fn spawn(count: usize, step: Step) -> Next {
    Next::Spawn { step: TWO, state: 0, children: (0..count as u64).map(|state| Child { step, state }).collect() }
}

#[test]
fn every_workload_has_a_shape() {
    for workload in Workload::ALL {
        if let Some(program) = workload.program() {
            let shape = explore(program).unwrap_or_else(|error| panic!("{}: {error}", workload.name()));
            assert!(!shape.is_cut, "{}", workload.name());
            let seen: BTreeSet<Step> = shape.edges.iter().map(|edge| edge.from).collect();
            assert_eq!(seen.len(), program.steps().len(), "{shape}");
            assert_eq!(explore(program).map(|shape| shape.to_string()), Ok(shape.to_string()));
        }
    }
}

#[test]
fn a_shape_has_a_line_for_each_way_to_go_on() {
    let approval = Workload::by_name("approval").and_then(|workload| workload.program()).unwrap();
    let expected = "\
approval, starts with load or ask
  load: a row, goto ask
  ask: await approval with a token or a deadline, then decide
  decide, emitted: goto order
  decide, emitted: goto refuse
  decide, timed out: goto escalate
  escalate: a row, await escalation with a token, then decide
  order: a row, complete
  refuse: a row, fail
";
    assert_eq!(explore(approval).unwrap().to_string(), expected);
}

#[test]
fn a_parent_is_told_of_each_way_in_which_a_child_may_end() {
    let decide = |input: StepInput| match (input.step, input.state, input.results) {
        (ONE, 0..100, _) => Next::Spawn {
            step: ONE,
            state: 100,
            children: [TWO, TWO].map(|step| Child { step, state: input.state % 2 }).into(),
        },
        (ONE, _, [one, two]) if one.outcome == two.outcome => Next::Goto { step: TWO, state: 3 },
        (ONE, ..) => Next::Fail { result: 0 },
        (_, 0, _) => DONE,
        (_, 1, _) if input.attempt < 3 => Next::Retry { delay: Micros(0), max_attempts: 3 },
        _ => DONE,
    };
    let expected = "\
drawn, starts with one
  one: spawn two, then one
  one, joined: fail
  one, joined: goto two
  two: a row, complete
  two: a row, retry, 3 attempts in all
";
    assert_eq!(text(decide), expected);
}

#[test]
fn what_nobody_has_is_refused() {
    assert_eq!(
        refused(|input| Next::Goto { step: Step(2), state: input.state }),
        "one goes on to step 2, and the program has 2, counted from 0"
    );
    assert_eq!(refused(|_| wait(Name(2), None, None)), "one awaits name 2, and the program has 2, counted from 0");
    assert_eq!(refused(|_| spawn(1, Step(7))), "one goes on to step 7, and the program has 2, counted from 0");
    let after_the_odd = |input: StepInput| match input.arrival {
        Arrival::Emitted { payload: ODD_PAYLOAD } => Next::Goto { step: Step(9), state: 0 },
        _ if input.step == ONE => wait(Name(1), None, None),
        _ => DONE,
    };
    assert_eq!(refused(after_the_odd), "two goes on to step 9, and the program has 2, counted from 0");
}

#[test]
fn who_comes_round_without_a_wait_is_refused() {
    let round = |input: StepInput| Next::Goto { step: Step(1 - input.step.0), state: input.state };
    assert_eq!(refused(round), "one with state 0 comes round to itself without a wait, a sleep or a join in between");
    let with_a_sleep = |input: StepInput| match input.step {
        ONE => Next::Goto { step: TWO, state: input.state },
        _ => Next::Sleep { step: ONE, state: input.state, delay: Micros(0) },
    };
    assert_eq!(text(with_a_sleep).lines().count(), 3);
    let with_a_wait = |input: StepInput| match input.step {
        ONE => wait(Name(0), Some(Micros(5)), Some(WaitToken(1))),
        _ => Next::Goto { step: ONE, state: input.state },
    };
    let lines = "  one: await here with a token or a deadline, then two\n  two, emitted: a row, goto one";
    assert!(text(with_a_wait).contains(lines), "{}", text(with_a_wait));
}

#[test]
fn a_join_has_children_at_least_now_and_then_and_not_too_many() {
    assert_eq!(
        refused(|input| if input.step == ONE { spawn(0, TWO) } else { DONE }),
        "one waits for children, and never has any"
    );
    assert_eq!(
        refused(|input| if input.step == ONE { spawn(1025, TWO) } else { DONE }),
        "one spawns 1025 children, and 1024 are the most"
    );
    let now_and_then = text(|input| match input.step {
        ONE => spawn((input.state % 2) as usize, TWO),
        _ => DONE,
    });
    assert!(now_and_then.contains("  one: spawn nobody, then two\n  one: spawn two, then two\n"), "{now_and_then}");
}

#[test]
fn what_has_too_many_states_is_cut() {
    let counts = text(|input| Next::Goto { step: ONE, state: input.state + 1 });
    assert_eq!(
        counts,
        "drawn, starts with one\n  one: goto one\n  and perhaps more: it has more states than are looked at\n"
    );
    let spawns = text(|input| match input.step {
        ONE => Next::Spawn { step: TWO, state: 0, children: Vec::from([Child { step: ONE, state: input.state + 1 }]) },
        _ => DONE,
    });
    assert!(spawns.contains("  one: spawn one, then two\n"));
}
