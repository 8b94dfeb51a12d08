//! The server's clock is set while things happen, and sessions stand idle.

use crate::clock::Clock;
use crate::faults::FaultKind;
use crate::generate::{Limits, QUEUE, setup};
use crate::plan::{CallKind, Phase, Plan, PlannedEffect, PlannedFault, ProcessPlan, Role, When};
use crate::simulate::{Simulator, Work};
use tourbillon_engine::actors::script::{OnLostReply, OnRefusal, Round, ScriptOptions};
use tourbillon_engine::actors::worker::options::ClaimHabit;
use tourbillon_engine::guard::Guards;
use tourbillon_models::history::{History, PlainOp};
use tourbillon_models::name::{Micros, Process};
use tourbillon_models::op::{Isolation, Op, QueueKind, TableLock};
use tourbillon_models::record::{ClockOffset, Fault, Happening};
use tourbillon_models::reply::{Refusal, Reply};

const fn millis(millis: u64) -> Micros {
    Micros::from_millis(millis)
}

fn once(name: &str, at: Micros, statements: Vec<(Micros, PlainOp)>) -> ProcessPlan {
    let round = Round { at, on_lost_reply: OnLostReply::GiveUp, on_refusal: OnRefusal::RollBack, statements };
    let role = Role::Script(ScriptOptions::Once { rounds: vec![round] });
    ProcessPlan { name: name.to_owned(), role, clock: Clock::Right, hears_of: None }
}

fn messages() -> Work {
    Work::named("messages").expect("it is one of the project's")
}

/// For how long a rotation waits that may wait for a second, while somebody has the tables and the clock is set.
fn waited(offset: ClockOffset) -> Micros {
    let work = messages();
    let mut plan = work.plan(0, &Limits { faults: Vec::new() });
    let lock = |table| (Micros(0), Op::LockTable { queue: QUEUE, table, mode: TableLock::AccessExclusive });
    let begin = (Micros(0), Op::Begin { isolation: Isolation::ReadCommitted });
    let held = vec![begin, lock(0), lock(1), lock(2), (Micros::from_secs(5), Op::Commit)];
    let rotate = Op::Rotate { queue: QUEUE, lock_timeout: Micros::from_secs(1) };
    plan.processes = vec![
        ProcessPlan {
            name: "setup".to_owned(),
            role: Role::Script(setup(QueueKind::Plain, 1)),
            clock: Clock::Right,
            hears_of: None,
        },
        once("holder", millis(2_000), held),
        once("rotation", millis(3_000), vec![(Micros(0), rotate)]),
    ];
    let when = When::Time { at: millis(3_300), process: Process(0) };
    plan.faults = vec![PlannedFault { when, what: PlannedEffect::ServerClockStep(offset), kind: None }];
    plan.faults_end = Micros::from_secs(8);

    let mut simulator = Simulator::default();
    simulator.run(&plan, &work, Guards::ALL);
    let time = |is_it: &dyn Fn(&Happening<_, _, _, _>) -> bool| {
        let mut records = simulator.history().records.iter();
        records.find(|record| is_it(&record.what)).expect("it happens").at
    };
    let called = time(&|what| matches!(what, Happening::Call(Op::Rotate { .. })));
    time(&|what| matches!(what, Happening::Return(Reply::Refused(Refusal::LockNotAvailable)))) - called
}

#[test]
fn a_clock_that_is_set_moves_no_lock_timeout() {
    assert_eq!(waited(ClockOffset::NONE), millis(1_000));
    assert_eq!(waited(ClockOffset { ahead: millis(1_900), ..ClockOffset::NONE }), millis(1_000));
    assert_eq!(waited(ClockOffset { behind: millis(1_900), ..ClockOffset::NONE }), millis(1_000));
}

/// What the server's clock is off by, as its ticks tell it, and as the faults do.
fn told_and_set(history: &History) -> Vec<(Micros, Micros, ClockOffset)> {
    let mut offset = ClockOffset::NONE;
    let mut told = Vec::new();
    for record in &history.records {
        match record.what {
            Happening::Fault(Fault::ClockStep(set)) => offset = set,
            Happening::Return(Reply::Ticked { at, .. }) => told.push((record.at, at, offset)),
            _ => {}
        }
    }
    told
}

#[test]
fn the_server_goes_by_its_clock_which_is_right_when_faults_end() {
    let (work, mut simulator) = (messages(), Simulator::default());
    let (mut ahead, mut behind) = (0, 0);
    for seed in 0..20 {
        let plan = work.plan(seed, &Limits { faults: vec![FaultKind::ServerClockStep] });
        simulator.run(&plan, &work, Guards::ALL);
        let told = told_and_set(simulator.history());
        let is_told = |(at, told, offset): &(Micros, Micros, ClockOffset)| *told == offset.at(*at);
        // A tick's clock never falls, so one that was taken after the clock was set back says more.
        assert!(told.iter().all(|tick| is_told(tick) || tick.1 > tick.2.at(tick.0)), "{seed}: {told:?}");
        ahead += told.iter().filter(|tick| is_told(tick) && tick.2.ahead > Micros(0)).count();
        behind += told.iter().filter(|tick| is_told(tick) && tick.2.behind > Micros(0)).count();
        let last = told.iter().rfind(|(at, ..)| *at > plan.faults_end);
        assert!(last.is_none_or(|(.., offset)| *offset == ClockOffset::NONE), "{seed}");
    }
    assert!(ahead > 0 && behind > 0, "{ahead} ahead, {behind} behind");
}

/// A chain of steps and one worker, who stands still for a second where it is told to: its session may be idle for 100 ms.
fn idle_worker(call: CallKind, phase: Phase) -> Plan {
    let mut plan = Work::named("chain").expect("it is one of the project's").plan(0, &Limits { faults: Vec::new() });
    let is_other = |process: &ProcessPlan| !process.name.starts_with("worker-") || process.name == "worker-0";
    plan.processes.retain(is_other);
    let worker = plan.processes.iter().position(|process| process.name == "worker-0").expect("there is one");
    let when = When::Point { process: Process(worker as u8), call, nth: 0, phase, from: Micros(0) };
    let what = PlannedEffect::IdleTimeout { idle: millis(100), duration: millis(1_000) };
    plan.faults = vec![PlannedFault { when, what, kind: None }];
    plan
}

/// When the worker begins to stand still, and when its session ends.
fn stands_and_ends(plan: &Plan) -> (Micros, Option<Micros>) {
    let mut simulator = Simulator::default();
    simulator.run(plan, &Work::named("chain").expect("it is one of the project's"), Guards::ALL);
    let records = &simulator.history().records;
    let at = |is_it: fn(&Fault) -> bool| {
        let is_it = |what: &Happening<_, _, _, _>| matches!(what, Happening::Fault(fault) if is_it(fault));
        records.iter().find(|record| is_it(&record.what)).map(|record| record.at)
    };
    let stands = at(|fault| matches!(fault, Fault::Pause { .. })).expect("it stands still");
    (stands, at(|fault| *fault == Fault::SessionEnd))
}

#[test]
fn who_falls_silent_while_holding_a_window_loses_the_session() {
    for (call, phase) in
        [(CallKind::Hold, Phase::After), (CallKind::Handoff, Phase::After), (CallKind::Commit, Phase::Before)]
    {
        let (stands, ends) = stands_and_ends(&idle_worker(call, phase));
        assert_eq!(ends, Some(stands + millis(100)), "{call:?} {phase:?}");
    }
}

#[test]
fn a_transaction_that_holds_no_window_may_be_idle() {
    assert_eq!(stands_and_ends(&idle_worker(CallKind::Begin, Phase::After)).1, None, "nothing is held yet");
    assert_eq!(stands_and_ends(&idle_worker(CallKind::Commit, Phase::After)).1, None, "nothing is held any more");
    let mut plan = idle_worker(CallKind::Claim, Phase::After);
    for process in &mut plan.processes {
        if let Role::Worker(worker) = &mut process.role {
            worker.claim = ClaimHabit::InTransaction { open_for: millis(200) };
        }
    }
    assert_eq!(stands_and_ends(&plan).1, None, "a claim sets no timeout");
}

#[test]
fn no_session_ends_for_being_idle_once_faults_are_over() {
    let mut plan = idle_worker(CallKind::Hold, Phase::After);
    let (stands, _) = stands_and_ends(&plan);
    plan.faults_end = stands + millis(101);
    assert_eq!(stands_and_ends(&plan).1, Some(stands + millis(100)));
    plan.faults_end = stands + millis(100);
    assert_eq!(stands_and_ends(&plan).1, None);
}

/// Who dies of his own program does so whenever he runs it; here nobody does.
#[test]
fn no_fault_begins_once_faults_are_over() {
    let mut simulator = Simulator::default();
    for (work, seed) in
        ["chain", "messages", "slow-consumer"].into_iter().flat_map(|work| (0..150).map(move |seed| (work, seed)))
    {
        let work = Work::named(work).expect("it is one of the project's");
        simulator.run(&work.plan(seed, &Limits { faults: FaultKind::ALL.to_vec() }), &work, Guards::ALL);
        let records = simulator.history().records.iter();
        let after = records.skip_while(|record| record.what != Happening::Fault(Fault::End)).skip(1);
        let began = after
            .map(|record| record.what)
            .find(|what| matches!(what, Happening::Fault(fault) if *fault != Fault::ServerRestart));
        assert_eq!(began, None, "{} {seed}", work.name);
    }
}

/// It falls when the call is answered that waits when faults end.
#[test]
fn a_fault_after_a_blocked_call_does_not_outlive_the_faults() {
    let work = messages();
    let mut plan = work.plan(0, &Limits { faults: Vec::new() });
    let lock = |mode| (Micros(0), Op::LockTable { queue: QUEUE, table: 0, mode });
    let begin = (Micros(0), Op::Begin { isolation: Isolation::ReadCommitted });
    let held = vec![begin.clone(), lock(TableLock::AccessExclusive), (Micros::from_secs(2), Op::Commit)];
    plan.processes = vec![
        ProcessPlan {
            name: "setup".to_owned(),
            role: Role::Script(setup(QueueKind::Plain, 1)),
            clock: Clock::Right,
            hears_of: None,
        },
        once("holder", millis(1_000), held),
        once("client", millis(2_000), vec![begin, (Micros(0), Op::Append { queue: QUEUE, payload: 0 })]),
    ];
    let when =
        When::Point { process: Process(2), call: CallKind::Append, nth: 0, phase: Phase::After, from: Micros(0) };
    plan.faults = vec![PlannedFault { when, what: PlannedEffect::LostReply, kind: None }];
    let lost_replies = |faults_end| {
        let (plan, mut simulator) = (Plan { faults_end, ..plan.clone() }, Simulator::default());
        simulator.run(&plan, &work, Guards::ALL);
        let records = &simulator.history().records;
        assert!(records.iter().any(|record| record.what == Happening::Blocked), "nobody waits");
        records.iter().filter(|record| record.what == Happening::Fault(Fault::LostReply)).count()
    };
    assert_eq!([lost_replies(millis(4_000)), lost_replies(millis(2_500))], [1, 0]);

    // A fault that is aimed at the wait falls as it begins.
    let when =
        When::Point { process: Process(2), call: CallKind::Append, nth: 0, phase: Phase::Waiting, from: Micros(0) };
    let what = PlannedEffect::Crash { restart_after: millis(100) };
    plan.faults = vec![PlannedFault { when, what, kind: None }];
    let mut simulator = Simulator::default();
    simulator.run(&plan, &work, Guards::ALL);
    let records = &simulator.history().records;
    let waits = records.iter().position(|record| record.what == Happening::Blocked).expect("somebody waits");
    assert_eq!((records[waits + 1].what, records[waits + 1].at), (Happening::Fault(Fault::Crash), records[waits].at));
}
