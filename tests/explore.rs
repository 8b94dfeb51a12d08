//! Exploration: what it covers, what it finds, and that what it leaves out is not missed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use tourbillon::explore::{Configuration, Covered, Exploration, Limit, Pruning, Stop, explore};
use tourbillon::faults::FaultKind;
use tourbillon::generate::Limits;
use tourbillon::order::{Chosen, Order, Turn, Turns};
use tourbillon::plan::Plan;
use tourbillon::random::Stream;
use tourbillon::run::{Director, Stage};
use tourbillon::shrink::budget::Budget;
use tourbillon::shrink::subject::Subject;
use tourbillon::simulate::{Simulator, Work};
use tourbillon::sweep::work_of;
use tourbillon::target::Chooser;
use tourbillon_engine::engine::Engine;
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_engine::store::footprint::Footprint;
use tourbillon_models::property::Property;
use tourbillon_models::verdict::{Judgement, TOLD_LINES};

const SMALL: Configuration =
    Configuration { workers: 2, workflows: 1, faults: 0, kinds: Vec::new(), preemptions: Some(1), epochs: 12 };

fn explored(workload: &str, configuration: &Configuration, guards: Guards, pruning: Pruning, stop: Stop) -> Covered {
    let work = Work::named(workload).unwrap();
    let limit = Limit { states: 1_000_000, until: None };
    let exploration = Exploration { configuration, work: &work, guards, pruning, limit, stop };
    explore(&exploration, |_| ControlFlow::Continue(()))
}

fn hunted(workload: &str, configuration: Configuration, guard: Guard) -> Covered {
    explored(workload, &configuration, Guards::without(&[guard]), Pruning::States, Stop::AtViolation)
}

#[test]
fn a_small_configuration_is_covered_whole_and_clean() {
    let kinds = vec![FaultKind::WorkerCrash];
    let crash = Configuration { faults: 1, kinds, preemptions: Some(0), ..SMALL };
    for (workload, configuration) in [("single", SMALL), ("single", crash.clone()), ("pair", crash)] {
        let covered = explored(workload, &configuration, Guards::ALL, Pruning::States, Stop::AtTheEnd);
        assert!(covered.is_complete && covered.left == 0, "{covered:?}");
        assert_eq!((covered.failed, covered.unknown, covered.first.as_ref()), (0, 0, None), "{covered:?}");
        assert!(covered.pruned > 0 && covered.states > 100, "{covered:?}");
    }
}

#[test]
fn the_same_is_covered_every_time() {
    let cover = || {
        let covered = explored("single", &SMALL, Guards::ALL, Pruning::States, Stop::AtTheEnd);
        (covered.schedules, covered.states, covered.pruned, covered.deepest, covered.final_states)
    };
    assert_eq!(cover(), cover());
}

#[test]
fn what_is_cut_off_says_so() {
    let work = Work::named("pair").unwrap();
    let limit = Limit { states: 500, until: None };
    let exploration = Exploration {
        configuration: &SMALL,
        work: &work,
        guards: Guards::ALL,
        pruning: Pruning::States,
        limit,
        stop: Stop::AtViolation,
    };
    let covered = explore(&exploration, |_| ControlFlow::Continue(()));
    assert_eq!((covered.is_complete, covered.states), (false, 500));
    assert!(covered.left > 0, "{covered:?}");
}

#[test]
fn guards_are_caught_within_a_few_schedules() {
    let with = |kind| Configuration { kinds: vec![kind], ..SMALL };
    let once = |kind| Configuration { faults: 1, preemptions: Some(0), ..with(kind) };
    let two = Configuration { workflows: 2, ..SMALL };
    let hunts = [
        ("single", with(FaultKind::ClaimInTransaction), Guard::ClaimLock),
        ("single", Configuration { faults: 1, ..with(FaultKind::WorkerPause) }, Guard::HoldLock),
        ("pair", once(FaultKind::LostReply), Guard::FenceChecked),
        ("ask", SMALL, Guard::BoxUnique),
        ("apart", SMALL, Guard::JoinLock),
        ("single", two.clone(), Guard::InProgressSet),
        ("single", once(FaultKind::WorkerCrash), Guard::TakeoverClearsVictim),
        ("single", once(FaultKind::WorkerCrash), Guard::TakeoverFreshToken),
        ("single", once(FaultKind::LostReply), Guard::StartKey),
        ("single", SMALL, Guard::IdleTick),
        ("single", Configuration { kinds: vec![FaultKind::PartialHandoff], ..two }, Guard::AckWhatWasRead),
        ("pair", SMALL, Guard::ResultsUntilRead),
        ("single", with(FaultKind::ForgottenHandoff), Guard::HeldMustFinish),
    ];
    for (workload, configuration, guard) in hunts {
        let covered = hunted(workload, configuration, guard);
        let Some(failure) = covered.first else { panic!("{} is not caught: {covered:?}", guard.name()) };
        assert!(covered.schedules < 5_000, "{} takes {} schedules", guard.name(), covered.schedules);
        let (work, mut simulator) = (Work::named(workload).unwrap(), Simulator::default());
        let text = serde_json::to_string(&failure.plan).unwrap();
        let plan: Plan = serde_json::from_str(&text).unwrap();
        let chooser = Chooser::Recorded(failure.choices.clone().into_iter());
        let (_, verdict) = simulator.run_with(&plan, &work, Guards::without(&[guard]), chooser);
        let mut broken = failure.broken.clone();
        broken.sort_unstable();
        assert_eq!(
            verdict.broken().collect::<Vec<Property>>(),
            broken,
            "{}: the schedule made again from its text",
            guard.name()
        );
    }
}

#[test]
fn what_waits_for_ever_shrinks_to_what_the_guard_is_for() {
    let guard = Guard::IdleTick;
    for workload in ["single", "pair"] {
        let covered = hunted(workload, SMALL, guard);
        let Some(failure) = covered.first else { panic!("{} is not caught: {covered:?}", guard.name()) };
        let (work, property) = (Work::named(workload).unwrap(), failure.broken[0]);
        let subject = Subject { work: &work, guards: Guards::without(&[guard]), property };
        let shrunk = subject.shrink(&failure.plan, &Budget::usual()).unwrap();
        assert!(shrunk.lines() <= TOLD_LINES, "{}: {} lines", guard.name(), shrunk.lines());
        let (_, sound) = Simulator::default().run(&shrunk.plan, &work.of(&shrunk.plan), Guards::ALL);
        assert_ne!(sound.judgement(), Judgement::Violated, "{}", guard.name());
    }
}

/// With every schedule run, and with states told apart, the same comes out: sound, and with guards removed.
#[test]
fn pruning_loses_nothing() {
    let once = |kind| Configuration { faults: 1, kinds: vec![kind], preemptions: Some(0), ..SMALL };
    let wide = Configuration { preemptions: Some(3), ..SMALL };
    let alone = Configuration { workers: 1, ..wide.clone() };
    // Where nothing ever ends, two workers who look for work in turn would make too many schedules to run them all.
    let cases = [
        ("single", wide, None),
        ("single", once(FaultKind::WorkerCrash), None),
        ("single", once(FaultKind::LostReply), Some(Guard::StartKey)),
        ("single", once(FaultKind::WorkerPause), None),
        ("single", once(FaultKind::WorkerPause), Some(Guard::HoldLock)),
        ("single", once(FaultKind::ServerCrash), None),
        ("pair", SMALL, None),
        ("apart", SMALL, None),
        ("ask", alone.clone(), Some(Guard::BoxUnique)),
        ("single", alone, Some(Guard::IdleTick)),
    ];
    for (workload, configuration, guard) in cases {
        let guards = Guards::without(guard.as_slice());
        let [whole, pruned] = [Pruning::Nothing, Pruning::States]
            .map(|pruning| explored(workload, &configuration, guards, pruning, Stop::AtTheEnd));
        assert!(whole.is_complete && pruned.is_complete, "{workload} {guard:?}: {whole:?} {pruned:?}");
        assert_eq!(whole.final_states, pruned.final_states, "{guard:?}");
        assert_eq!(whole.outcomes, pruned.outcomes, "{guard:?}");
        assert!(whole.broken.keys().eq(pruned.broken.keys()), "{guard:?}");
        assert!(whole.schedules > pruned.schedules, "{guard:?}: {} {}", whole.schedules, pruned.schedules);
    }
}

/// Takes turns at random, and remembers them with their footprints.
struct Random {
    stream: Stream,
    turns: Vec<(Turn, Footprint)>,
}

impl Director for Random {
    fn next(&mut self, stage: &Stage<'_>) -> Option<Turn> {
        stage.engine.take_footprint(&mut Footprint::default());
        let ready: Vec<u8> = (0..64).filter(|process| stage.is_ready(*process)).collect();
        if ready.is_empty() || !ready.contains(&0) && self.stream.chance(1, 20) && !stage.are_faults_over {
            return Some(Turn::Pass);
        }
        let process = *self.stream.choose(&ready);
        let usual = Turn::Step(process);
        let turn = match self.stream.below(80) {
            0 => Turn::Crash(process),
            1 => Turn::LoseReply(process),
            2 => Turn::LoseCall(process),
            3 => Turn::ServerCrash,
            _ => usual,
        };
        Some(if process > 0 && stage.is_possible(turn) { turn } else { usual })
    }

    fn took(&mut self, turn: Turn, engine: &Engine, _picks: &[(u8, u8)]) {
        let mut footprint = Footprint::default();
        engine.take_footprint(&mut footprint);
        self.turns.push((turn, footprint));
    }
}

const fn process_of(turn: Turn) -> Option<u8> {
    match turn {
        Turn::Step(process) | Turn::Crash(process) | Turn::LoseCall(process) | Turn::LoseReply(process) => {
            Some(process)
        }
        Turn::Pass | Turn::ServerCrash => None,
    }
}

/// What each process saw, and what is left.
fn told(simulator: &Simulator) -> (BTreeMap<u64, Vec<String>>, String) {
    let mut lines: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for line in simulator.history().lines() {
        let mut record: serde_json::Value = serde_json::from_str(&line).unwrap();
        if let (Some(process), Some(fields)) = (record["process"].as_u64(), record.as_object_mut()) {
            // Connections are numbered as they come.
            fields.remove("session");
            lines.entry(process).or_default().push(record.to_string());
        }
    }
    let mut state = simulator.history().state.clone().unwrap();
    state.ledger.sort_unstable_by_key(|row| (row.workflow, row.sequence, row.step, row.xid));
    (lines, serde_json::to_string(&state).unwrap())
}

fn with_turns(plan: &Plan, turns: Vec<Turn>) -> Plan {
    let mut plan = plan.clone();
    let Order::Chosen(chosen) = plan.order else { panic!("it is chosen") };
    plan.order = Order::Chosen(Chosen { turns: Turns(turns), ..chosen });
    plan
}

/// Wherever two neighbours of a random schedule have footprints that do not meet, they can be exchanged, and everybody is
/// told the same, to the end.
#[test]
fn turns_whose_footprints_do_not_meet_can_be_exchanged() {
    let workloads = ["single", "pair", "apart", "ask", "messages", "flaky", "approval", "children-fail"];
    let habits = [FaultKind::ClaimInTransaction, FaultKind::PartialHandoff, FaultKind::DutyRepeatableRead];
    let (mut exchanged, mut kept, mut server_crashes) = (0, 0, 0);
    for seed in 0..20 {
        let mut stream = Stream::new(seed, "explore", 0);
        let workload: &&str = stream.choose(&workloads);
        let work = Work::named(workload).unwrap();
        let kinds = habits.iter().copied().filter(|_| stream.chance(1, 4)).collect();
        let plan = Configuration { workers: 3, workflows: 2, kinds, ..SMALL }.plan(&work);
        let mut random = Random { stream, turns: Vec::new() };
        let mut simulator = Simulator::default();
        simulator.record_footprints();
        let first = || Chooser::Recorded(Vec::new().into_iter());
        simulator.run_directed(&plan, &work, Guards::ALL, first(), &mut random);
        let expected = told(&simulator);
        let turns: Vec<Turn> = random.turns.iter().map(|(turn, _)| *turn).collect();
        let mut left = 30;
        for place in 1..turns.len() {
            let [(one, its), (other, others)] = &random.turns[place - 1..=place] else { unreachable!("they are two") };
            if *other == Turn::ServerCrash {
                server_crashes += 1;
                assert!(others.has_everything(), "what meets a crash of the server: {others:?}");
            }
            let (Some(one), Some(other)) = (process_of(*one), process_of(*other)) else { continue };
            if one == other || its.meets(others) {
                kept += 1;
                continue;
            }
            // Not all of them: each is a run.
            if left == 0 || !random.stream.chance(1, 3) {
                continue;
            }
            left -= 1;
            exchanged += 1;
            let mut turns = turns.clone();
            turns.swap(place - 1, place);
            let plan = with_turns(&plan, turns);
            simulator.run_with(&plan, &work, Guards::ALL, first());
            let found = told(&simulator);
            let what = format!("seed {seed}, {}, turns {} and {place}: {its:?} {others:?}", work.name, place - 1);
            assert_eq!(found.0, expected.0, "{what}");
            assert_eq!(found.1, expected.1, "{what}");
        }
    }
    assert!(exchanged > 150 && kept > 150, "{exchanged} exchanged, {kept} kept");
    assert!(server_crashes > 10, "{server_crashes} crashes of the server");
}

/// Priorities change the order of a plan's turns and nothing else of it.
#[test]
fn the_sound_engine_holds_under_priorities_and_a_removed_guard_is_caught() {
    let limits = Limits { faults: FaultKind::ALL.to_vec() };
    let works = ["chain", "messages", "children-fail", "emit-race"].map(|name| Work::named(name).unwrap());
    let (mut simulator, mut caught) = (Simulator::default(), 0);
    for seed in 0..80 {
        let work = work_of(&works, seed).clone();
        let (timed, work) = (work.plan(seed, &limits), work.ordered(Some(3)));
        let plan = work.plan(seed, &limits);
        assert_eq!((&plan.processes, &plan.faults), (&timed.processes, &timed.faults));
        let (_, verdict) = simulator.run(&plan, &work, Guards::ALL);
        assert_eq!(verdict.judgement(), Judgement::Holds, "seed {seed}: {:?}", verdict.first_violation());
        let hash = simulator.history().hash();
        simulator.run(&timed, &work, Guards::ALL);
        assert_ne!(simulator.history().hash(), hash, "seed {seed}: in another order");
        simulator.run(&plan, &work, Guards::ALL);
        assert_eq!(simulator.history().hash(), hash, "seed {seed}: the same again");
        let (_, verdict) = simulator.run(&plan, &work, Guards::without(&[Guard::InProgressSet]));
        caught += u64::from(verdict.judgement() == Judgement::Violated);
    }
    assert!(caught > 3, "{caught}");
}
