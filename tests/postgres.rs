//! The same schedules on a real server, statement by statement.
//!
//! Where there is no server these tests say so loudly and pass, unless `CI` is set.

use crate::stage::{all_faults, seeds, server, users_server, works};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};
use tourbillon::cli::{self, Console};
use tourbillon::generate::Limits;
use tourbillon::hunt::{Confirmation, TRIES, confirm, hunt};
use tourbillon::lockstep::{Counts, Sides};
use tourbillon::postgres::interrupt;
use tourbillon::postgres::one_cpu::OneCpu;
use tourbillon::postgres::server::Server;
use tourbillon::replay::{End, Replay, Replays, Sample, replay, replay_all};
use tourbillon::shrink::budget::Budget;
use tourbillon::shrink::divergence::shrink_divergence;
use tourbillon::simulate::Simulator;
use tourbillon::sweep::{Setting, processors, sweep, work_of};
use tourbillon::target::Chooser;
use tourbillon_engine::guard::{Guard, Guards};

/// Seeds with blocked statements, server crashes and lost commits among them; always the same.
fn sample(size: usize) -> Vec<u64> {
    sample_for(Sample::new(size, true))
}

fn sample_for(mut sample: Sample) -> Vec<u64> {
    let setting = Setting { limits: all_faults(), guards: Guards::ALL };
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
    assert_none_failed(&replays);
    assert_eq!(replays.histories, 15);
    assert!(replays.counts.blocked > 0, "no statement was blocked");
    assert!(replays.counts.crashes > 0, "the server never crashed");
    assert!(replays.counts.lost_commits > 0, "no commit was lost");
}

#[track_caller]
fn assert_none_failed(replays: &Replays) {
    let failed: Vec<String> = replays
        .failed
        .iter()
        .map(|(plan, replay)| match &replay.end {
            End::Diverged(difference) => format!("seed {}: {difference}", plan.seed),
            End::Agreed { verdict, .. } => format!("seed {}: {:?}", plan.seed, verdict.first_violation()),
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// There released calls run truly at once, and the model finds out in which order.
#[test]
fn replays_agree_on_a_server_of_the_users() {
    let Some((_host, url)) = users_server() else { return };
    let seeds = sample_for(Sample::new(20, false));
    let mut replays = Replays::default();
    std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| seeds.iter().copied().skip(half).step_by(2).collect::<Vec<_>>());
        let halves = halves.map(|seeds| scope.spawn(|| replay_for_guest(&url, seeds)));
        halves.into_iter().for_each(|half| replays.add(half.join().expect("a replay does not panic")));
    });
    assert_none_failed(&replays);
    let Counts { blocked, choices, not_comparable, .. } = replays.counts;
    assert_eq!(replays.histories + not_comparable, 20);
    assert!(not_comparable <= 6, "{not_comparable} replays could not be compared");
    assert!(blocked > 0 && choices > 0, "{blocked} blocked, {choices} choices");
}

fn replay_for_guest(url: &str, seeds: Vec<u64>) -> Replays {
    let mut guest = Server::connect_url(url).expect("the server can be reached");
    assert!(!guest.is_superuser() && !guest.can_crash());
    let setting = Setting { limits: all_faults(), guards: Guards::ALL };
    replay_all(&mut guest, &seeds, &setting, &works(), |_| {}).expect("the server stays")
}

/// Not all is explained away where the order is found out.
#[test]
fn a_guard_removed_on_one_side_shows_on_a_server_of_the_users() {
    let Some((_host, url)) = users_server() else { return };
    let mut guest = Server::connect_url(&url).expect("the server can be reached");
    let works = works();
    for guard in [Guard::ClaimLock, Guard::EmptyWindow] {
        let without = Guards::without(&[guard]);
        for sides in [Sides { model: Guards::ALL, sql: without }, Sides { model: without, sql: Guards::ALL }] {
            let diverges = |seed: &u64| {
                let work = work_of(&works, *seed);
                let plan = work.plan(*seed, &all_faults());
                let replay = replay(&mut guest, &plan, work, sides, Chooser::seeded(*seed));
                matches!(replay, Ok(Replay { end: End::Diverged(_), .. }))
            };
            let seeds = sample_for(Sample::new(10, false));
            assert!(seeds.iter().any(diverges), "nobody noticed: {sides:?}");
        }
    }
}

/// What differs on the way there still differs in what is left.
#[test]
fn a_divergence_is_shrunk() {
    let _one = OneCpu::claim();
    let Some(mut server) = server() else { return };
    let sides = Sides { model: Guards::without(&[Guard::ClaimLock]), sql: Guards::ALL };
    let works = works();
    let shrunk = (0..40).into_iter().find_map(|seed| {
        let work = work_of(&works, seed);
        let plan = work.plan(seed, &Limits { faults: Vec::new() });
        shrink_divergence(&mut server, &plan, work, sides, &Budget::usual()).expect("the server stays")
    });
    let (shrunk, replay) = shrunk.expect("nobody noticed");
    assert!(matches!(replay.end, End::Diverged(_)));
    assert!(
        shrunk.lines() < shrunk.lines_before,
        "{} lines of {} in {} tries",
        shrunk.lines(),
        shrunk.lines_before,
        shrunk.tries
    );
}

#[test]
fn a_removed_guard_is_confirmed_on_a_server_of_the_users() {
    let Some((_host, url)) = users_server() else { return };
    let mut guest = Server::connect_url(&url).expect("the server can be reached");
    let removed = Guards::without(&[Guard::InProgressSet]);
    let hunt = hunt(seeds(0..160), 1, &all_faults(), removed, works, TRIES);
    match confirm(&mut guest, &hunt, &all_faults(), removed, &works()).expect("the server stays") {
        Confirmation::Confirmed { replay, .. } => assert!(replay.end.is_failure()),
        Confirmation::NotShown(reason) => panic!("{reason}"),
    }
}

const RUN_ON: &str = "TOURBILLON_TEST_RUN_ON";

/// Not a test of its own: what the next one interrupts.
#[test]
fn a_run_on_a_server_of_the_users() {
    let Ok(url) = std::env::var(RUN_ON) else { return };
    interrupt::watch();
    let arguments = ["tourbillon", "run", "--seeds", "100", "--replays", "100", "--postgres", &url];
    cli::main(arguments, &mut Console::standard());
    interrupt::finish();
}

#[test]
fn an_interrupted_run_leaves_nothing_on_a_server_of_the_users() {
    let Some((host, url)) = users_server() else { return };
    let schemas = || {
        let sql = "select count(*) from pg_namespace where nspname ~ '^tourbillon_'";
        let reply = host.execute(host.control().session(), sql, &[]).expect("the server stays");
        reply.done().expect("it is a query").rows[0].get::<_, i64>(0)
    };
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = Command::new(std::env::current_exe().expect("this is a program"));
        command.args(["postgres::a_run_on_a_server_of_the_users", "--exact", "--nocapture"]).env(RUN_ON, &url);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut run = command.spawn().expect("this program can be run");
        while schemas() == 0 {
            assert!(run.try_wait().expect("it is a child").is_none(), "it ended before it replayed anything");
            std::thread::yield_now();
        }
        let pid = run.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().expect("there is kill").success());
        assert_eq!(run.wait().expect("it ends").code(), Some(code));
        assert_eq!(schemas(), 0, "after {signal}");
    }
}

/// The seed's choices are imposed on a server of ours, so that even they are the same.
#[test]
fn a_replay_is_the_direct_targets_history() {
    let _one = OneCpu::claim();
    let Some(mut server) = server() else { return };
    let mut lost_commits = 0;
    for seed in sample(3) {
        let works = works();
        let work = work_of(&works, seed);
        let plan = work.plan(seed, &all_faults());
        let chooser = Chooser::seeded(seed);
        let replayed = replay(&mut server, &plan, work, Guards::ALL, chooser).expect("the server stays");
        let mut simulator = Simulator::default();
        simulator.run(&plan, work, Guards::ALL);
        assert_eq!(simulator.history().hash(), replayed.history.hash(), "seed {seed}");
        assert_eq!(replayed.history.header.server.as_deref(), Some(server.version()));
        lost_commits += replayed.counts.lost_commits;
    }
    assert!(lost_commits > 0, "no crash lost an asynchronous commit");
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
    let checked = tourbillon::check(crate::readme::Checkout).seeds(16).on_postgres().run();
    assert!(checked.replayed.is_some_and(|counts| counts.statements > 1_000));
}

/// This test binary, once more, where there is no server.
#[test]
fn a_missing_server_is_said_loudly_and_fails_in_ci() {
    const NAME: &str = "postgres::a_replay_is_the_direct_targets_history";
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
