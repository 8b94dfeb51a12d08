//! Over a simulated network: sound, the same twice, every fault comes about, and the server keeps what it has not noticed
//! to be lost.

use crate::cli::tourbillon;
use crate::stage::{all_faults, clean_sweep, server, works};
use serde_json::Value;
use tempfile::tempdir;
use tourbillon::bench::{Load, loaded};
use tourbillon::cli::Exit;
use tourbillon::clock::Clock;
use tourbillon::generate::{Limits, QUEUE, setup};
use tourbillon::net::failing::Failing;
use tourbillon::net::network::{Network, NetworkEffect, NetworkFault};
use tourbillon::plan::{CallKind, Phase, Plan, PlannedEffect, PlannedFault, ProcessPlan, Role, When};
use tourbillon::postgres::one_cpu::OneCpu;
use tourbillon::replay::{End, for_server, replay};
use tourbillon::shrink::budget::Budget;
use tourbillon::shrink::subject::Subject;
use tourbillon::simulate::{On, Simulator, Work};
use tourbillon::target::Chooser;
use tourbillon_engine::actors::script::{OnLostReply, OnRefusal, Round, ScriptOptions};
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{Micros, Process};
use tourbillon_models::op::{Isolation, Op, QueueKind, TableLock};
use tourbillon_models::outcome::Outcomes;
use tourbillon_models::record::{Fault, Happening, Link, Note, Side};
use tourbillon_models::reply::{Outcome, Reply};
use tourbillon_models::verdict::Judgement;

const NO_FAULTS: Limits = Limits { faults: Vec::new() };

fn on_net() -> Vec<Work> {
    works().into_iter().map(|work| work.on(On::Net)).collect()
}

fn named(name: &str) -> Work {
    Work::named(name).expect("it is one of the project's")
}

#[test]
fn the_engine_is_sound_over_a_network_and_everything_befalls_it() {
    let swept = clean_sweep(0..46, all_faults(), on_net);
    assert_eq!(swept.net.runs, 46);
    for (fault, count) in swept.activations.of_network() {
        assert!(count > 0, "{} never came about", fault.name());
    }
}

#[test]
fn a_plan_gives_the_same_history_on_fresh_and_on_reused_memory() {
    let mut reused = Simulator::default();
    for work in on_net().into_iter().step_by(4) {
        let plan = work.plan(3, &all_faults());
        let mut fresh = Simulator::default();
        fresh.run(&plan, &work, Guards::ALL);
        reused.run(&plan, &work, Guards::ALL);
        assert_eq!(fresh.history(), reused.history(), "{}", work.name);
    }
}

#[test]
fn a_network_moves_no_other_draw() {
    for work in works() {
        let direct = work.plan(11, &all_faults());
        let net = work.clone().on(On::Net).network(Failing::NEVER).plan(11, &all_faults());
        assert_eq!((&direct.processes, &direct.faults), (&net.processes, &net.faults), "{}", work.name);
        assert!(net.liveness_bound > direct.liveness_bound, "calls take longer");
        assert!(net.options.iter().any(|(name, _)| name == "server_patience"));
    }
}

#[test]
fn each_fault_of_a_network_alone_comes_about_and_moves_no_other() {
    for kind in NetworkFault::DRAWN {
        let alone = || works().into_iter().map(|work| work.on(On::Net).network(Failing::NEVER.and(kind))).collect();
        let swept = clean_sweep(0..8, NO_FAULTS, alone);
        for (fault, count) in swept.activations.of_network().filter(|(fault, _)| *fault != NetworkFault::SessionLost) {
            assert_eq!(count > 0, fault == kind, "{} with {} alone", fault.name(), kind.name());
        }
        for work in on_net().into_iter().step_by(5) {
            let all = work.plan(5, &NO_FAULTS).faults;
            let is_it = |fault: &&PlannedFault| matches!(fault.what, PlannedEffect::Network(it) if it.kind() == kind);
            let it_alone = work.network(Failing::NEVER.and(kind)).plan(5, &NO_FAULTS).faults;
            assert!(all.iter().filter(is_it).eq(it_alone.iter().filter(is_it)), "{}", kind.name());
        }
    }
}

/// Whose outcomes do not hang on the time, or on who was faster.
const TIMELESS: [&str; 5] = ["chain", "agent-loop", "results", "fan-out", "dispatch"];

/// What every workflow came to, directly and elsewhere; and that each came to its end.
#[track_caller]
fn assert_same(directly: &Outcomes, elsewhere: &Outcomes, what: &str) -> usize {
    assert_eq!(directly, elsewhere, "{what}");
    assert_eq!(directly.ended(), directly.workflows.len(), "{what}");
    directly.ended()
}

fn directly(simulator: &mut Simulator, plan: &Plan, work: &Work) -> Outcomes {
    let (_, verdict) = simulator.run(plan, work, Guards::ALL);
    assert_eq!(verdict.judgement(), Judgement::Holds, "{} {}", work.name, plan.seed);
    Outcomes::of(simulator.history())
}

#[test]
fn outcomes_are_those_of_the_direct_target() {
    let (mut simulator, mut ended) = (Simulator::default(), 0);
    for name in TIMELESS {
        for seed in 0..2 {
            let (work, mut plan) = (named(name), named(name).plan(seed, &NO_FAULTS));
            let direct = directly(&mut simulator, &plan, &work);
            plan.spread(Failing::ANYHOW);
            let over_network = directly(&mut simulator, &plan, &work);
            ended += assert_same(&direct, &over_network, &format!("{name} {seed}"));
        }
    }
    assert!(ended > 50, "{ended} workflows");
}

/// A replay compares each reply with the server's, and its history with that of a direct run with the server's choices; the
/// outcome is that of a direct run with its own.
#[test]
fn outcomes_on_a_real_server_are_those_of_the_direct_target() {
    let _one = OneCpu::claim();
    let Some(mut server) = server() else { return };
    let mut simulator = Simulator::default();
    for (name, seed) in TIMELESS.into_iter().zip(0..) {
        let work = named(name);
        let plan = for_server(&server, &work.plan(seed, &NO_FAULTS));
        let direct = directly(&mut simulator, &plan, &work);
        let replay = replay(&mut server, &plan, &work, Guards::ALL, Chooser::seeded(seed + 1)).expect("it is replayed");
        assert!(matches!(&replay.end, End::Agreed { .. }), "{name}");
        assert_eq!(replay.history.header.target, "lockstep");
        assert_same(&direct, &Outcomes::of(&replay.history), &format!("{name} {seed}"));
    }
}

/// What `bench net` says of its speed, it says of this.
#[test]
fn six_hosts_are_measured() {
    let load = Load::Network;
    let plan = loaded(0, load, load.scale());
    let names: Vec<&str> = plan.processes.iter().map(|process| process.name.as_str()).collect();
    assert_eq!(names, ["setup", "ticker", "rotation", "client", "worker-0", "worker-1"], "beside the server");
    assert!(plan.network.is_some());
}

fn once(name: &str, at: Micros, statements: Vec<PlainOp>) -> ProcessPlan {
    let statements = statements.into_iter().map(|op| (Micros(0), op)).collect();
    let round = Round { at, on_lost_reply: OnLostReply::GiveUp, on_refusal: OnRefusal::RollBack, statements };
    let role = Role::Script(ScriptOptions::Once { rounds: vec![round] });
    ProcessPlan { name: name.to_owned(), role, clock: Clock::Right, hears_of: None }
}

const fn millis(millis: u64) -> Micros {
    Micros::from_millis(millis)
}

/// Somebody takes a lock and loses his connection; another wants that lock.
fn two_and_a_lock(effect: NetworkEffect, server_patience: Micros) -> (Simulator, Plan) {
    let work = named("messages");
    let mut plan = work.plan(0, &NO_FAULTS);
    let begin = || Op::Begin { isolation: Isolation::ReadCommitted };
    let lock = || Op::LockTable { queue: QUEUE, table: 0, mode: TableLock::AccessExclusive };
    let installation = Role::Script(setup(QueueKind::Plain, 1));
    plan.processes = vec![
        ProcessPlan { name: "setup".to_owned(), role: installation, clock: Clock::Right, hears_of: None },
        once("holder", millis(500), vec![begin(), lock(), Op::Tick { queue: QUEUE }, Op::Commit]),
        once("other", millis(1_000), vec![begin(), lock(), Op::Commit]),
    ];
    let when = When::Point { process: Process(1), call: CallKind::Any, nth: 1, phase: Phase::After, from: Micros(0) };
    plan.faults = vec![PlannedFault { when, what: PlannedEffect::Network(effect), kind: None }];
    plan.faults_end = Micros::from_secs(20);
    plan.spread(Failing::NEVER);
    let network = plan.network.take().expect("it was drawn");
    let keepalive = millis(100);
    plan.network = Some(Network {
        server_patience,
        process_patience: millis(400),
        keepalive,
        latency: (Micros(0), Micros(1)),
        ..network
    });
    let mut simulator = Simulator::default();
    simulator.run(&plan, &work, Guards::ALL);
    (simulator, plan)
}

#[test]
fn a_server_that_has_not_noticed_keeps_the_locks() {
    let cuts = [
        NetworkEffect::HalfOpen { gone_for: Side::Process },
        NetworkEffect::HostCrash { restart_after: Micros::from_secs(10) },
        NetworkEffect::Link { link: Link::Cut, duration: Micros::from_secs(10) },
    ];
    for effect in cuts {
        for patience in [millis(2_000), millis(5_000)] {
            let (simulator, _) = two_and_a_lock(effect, patience);
            let records = &simulator.history().records;
            let at = |is_it: &dyn Fn(&Happening<_, _, _, _>) -> bool| {
                let record = records.iter().find(|record| is_it(&record.what));
                record.unwrap_or_else(|| panic!("{effect:?}: it does not happen")).at
            };
            let waits = at(&|what| *what == Happening::Blocked);
            let noticed = at(&|what| *what == Happening::Fault(Fault::SessionLost));
            let aborted = at(&|what| *what == Happening::Note(Note::Resolved { outcome: Outcome::Aborted }));
            assert!(noticed >= millis(500) + patience && noticed < millis(1_500) + patience, "{effect:?} {noticed}");
            assert!(waits < noticed && aborted == noticed, "{effect:?}");
            let other = records.iter().filter(|record| record.process == Process(2) && record.at >= noticed);
            assert!(other.clone().any(|record| record.what == Happening::Return(Reply::Committed)), "{effect:?}");
        }
    }
}

/// A message that is held is not lost: what it asks for happens after its sender has given up.
#[test]
fn a_request_that_was_held_is_made_when_nobody_waits_for_it() {
    let held = NetworkEffect::Link { link: Link::Held, duration: Micros::from_secs(1) };
    let (simulator, _) = two_and_a_lock(held, Micros::from_secs(5));
    let mut records = simulator.history().records.iter().filter(|record| record.process == Process(1));
    let ticked = records.find(|record| matches!(record.what, Happening::Call(Op::Tick { .. }))).expect("it arrives");
    assert!(ticked.at > millis(1_400), "it was held until {}", ticked.at);
}

/// With a little effort: a run over a network costs thousands of records.
#[test]
fn what_goes_wrong_over_a_network_shrinks_to_what_still_does() {
    let guards = Guards::without(&[Guard::TakeoverClearsVictim]);
    let work = named("chain").on(On::Net);
    let mut simulator = Simulator::default();
    let mut run = |plan: &Plan| simulator.run(plan, &work.of(plan), guards).1.broken().next();
    let plans = (0..30).map(|seed| work.plan(seed, &NO_FAULTS));
    let (plan, property) =
        plans.into_iter().find_map(|plan| run(&plan).map(|property| (plan, property))).expect("some seed catches it");
    let subject = Subject { work: &work, guards, property };
    let shrunk = subject.shrink(&plan, &Budget::of(6_000_000, Budget::LONGEST)).expect("what was found is there");
    assert!(shrunk.lines() < shrunk.lines_before / 2, "{} of {} lines", shrunk.lines(), shrunk.lines_before);
    assert!(shrunk.plan.network.is_some());
    let broken: Vec<_> = simulator.run(&shrunk.plan, &work.of(&shrunk.plan), guards).1.broken().collect();
    assert!(broken.contains(&property), "{property:?}, and what is left breaks {broken:?}");
    assert_eq!(simulator.history().hash(), shrunk.history.hash());
}

#[test]
fn what_a_network_alone_can_do_is_caught() {
    let directory = tempdir().expect("there is a temporary directory");
    let run = |more: &str| {
        let options = "run --on net --faults network --workload chain --seeds 30 --postgres off --no-shrink";
        tourbillon(&format!("{options} --capsules {} {more}", directory.path().display()))
    };
    assert_eq!(run("").exit, Exit::Clean);
    let said = run(&format!("--json --without {}", Guard::TakeoverClearsVictim.name()));
    assert_eq!(said.exit, Exit::Broken);
    let said: Value = serde_json::from_str(&said.out).expect("it is one JSON value");
    assert_eq!(said["violations"][0]["target"], "net");
    assert!(said["violations"].as_array().expect("a list").iter().any(|found| found["capsule"].is_string()), "{said}");

    let mut saved =
        directory.path().read_dir().expect("it was written to").map(|entry| entry.expect("it is read").path());
    let capsule = saved.next().expect("a failure is saved");
    let said = tourbillon(&format!("replay {}", capsule.display()));
    assert_eq!(said.exit, Exit::Broken, "{}", said.err);
    assert!(said.out.contains("ran over a network"), "{}", said.out);
    assert!(said.out.contains("the same verdict as in the capsule, and the same history"), "{}", said.out);
    let said = tourbillon(&format!("replay {} --on lockstep", capsule.display()));
    assert_eq!(said.exit, Exit::CouldNotRun);
}
