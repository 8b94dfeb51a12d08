//! The same schedules on a real server, statement by statement.
//!
//! Where there is no server these tests say so loudly and pass, unless `CI` is set.

use crate::stage::{all_faults, seeds, server, works};
use std::ops::ControlFlow;
use std::process::Command;
use tourbillon::hunt::{Confirmation, TRIES, confirm, hunt};
use tourbillon::postgres::one_cpu::OneCpu;
use tourbillon::replay::{End, Sample, replay, replay_all};
use tourbillon::simulate::Simulator;
use tourbillon::sweep::{Setting, processors, sweep, work_of};
use tourbillon::target::Chooser;
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_models::verdict::Judgement;

/// Seeds with blocked statements and server crashes among them; always the same.
fn sample(size: usize) -> Vec<u64> {
    let setting = Setting { limits: all_faults(), guards: Guards::ALL };
    let mut sample = Sample::new(size, true);
    sweep(seeds(0..240), processors(), &setting, works, |_, ran| {
        ran.iter().for_each(|ran| sample.offer(ran));
        ControlFlow::Continue(())
    });
    sample.seeds()
}

#[test]
fn replays_agree_with_the_model_through_blocks_and_crashes() {
    let _one = OneCpu::claim();
    let Some(mut server) = server() else { return };
    let setting = Setting { limits: all_faults(), guards: Guards::ALL };
    let replays = replay_all(&mut server, &sample(15), &setting, &works(), |_| {}).expect("the server stays");
    let failed: Vec<String> = replays
        .failed
        .iter()
        .map(|(plan, replay)| match &replay.end {
            End::Diverged(difference) => format!("seed {}: {difference}", plan.seed),
            End::Agreed { verdict, .. } => format!("seed {}: {:?}", plan.seed, verdict.first_violation()),
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(replays.histories, 15);
    assert!(replays.counts.blocked > 0, "no statement was blocked");
    assert!(replays.counts.crashes > 0, "the server never crashed");
}

#[test]
fn a_replay_with_its_choices_recorded_is_the_direct_targets_history() {
    let _one = OneCpu::claim();
    let Some(mut server) = server() else { return };
    for seed in sample(3) {
        let works = works();
        let work = work_of(&works, seed);
        let plan = work.plan(seed, &all_faults());
        let replayed = replay(&mut server, &plan, work, Guards::ALL, Chooser::seeded(seed)).expect("the server stays");
        let End::Agreed { summary, verdict } = replayed.end else { panic!("seed {seed} diverged") };
        assert_eq!(verdict.judgement(), Judgement::Holds, "seed {seed}");
        let mut simulator = Simulator::default();
        let choices = Chooser::Recorded(summary.choices.into_iter());
        simulator.run_with(&plan, work, Guards::ALL, choices);
        assert_eq!(simulator.history().hash(), replayed.history.hash(), "seed {seed}");
        assert_eq!(replayed.history.header.server.as_deref(), Some(server.version()));
    }
}

#[test]
fn a_removed_guard_breaks_the_same_property_on_the_server() {
    let _one = OneCpu::claim();
    let Some(mut server) = server() else { return };
    let removed = Guards::without(&[Guard::ClaimLock]);
    let hunt = hunt(seeds(0..160), 1, &all_faults(), removed, works, TRIES);
    match confirm(&mut server, &hunt, &all_faults(), removed, &works()).expect("the server stays") {
        Confirmation::Confirmed { replay, .. } => assert!(replay.end.is_failure()),
        Confirmation::NotShown(reason) => panic!("{reason}"),
    }
}

#[test]
fn check_replays_ones_own_workflow() {
    if server().is_none() {
        return;
    }
    let checked = tourbillon::check(crate::readme::Checkout).seeds(40).on_postgres().run();
    assert!(checked.replayed.is_some_and(|counts| counts.statements > 1_000));
}

/// This test binary, once more, where there is no server.
#[test]
fn a_missing_server_is_said_loudly_and_fails_in_ci() {
    const NAME: &str = "postgres::a_replay_with_its_choices_recorded_is_the_direct_targets_history";
    let run = |ci: bool| {
        let mut command = Command::new(std::env::current_exe().expect("this is a program"));
        command.args([NAME, "--exact"]).env("TOURBILLON_PG_BIN", "/nonexistent").env_remove("CI");
        if ci {
            command.env("CI", "true");
        }
        let output = command.output().expect("this program can be run");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (passed, said) = run(false);
    assert!(passed && said.contains("NOT TESTED ON A REAL SERVER: postgres::a_replay"), "{said}");
    assert!(!run(true).0);
}
