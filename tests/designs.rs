//! Published designs: the ways in which they break, each shown by a kept run, in the simulator and on a real server.
//!
//! The files in `capsules/workflows-draft/` were found by `run --design pgque-workflows-draft --workload …`: see [`WAYS`].
//!
//! The draft of delayed delivery loses timers in three ways. The files in `capsules/delayed-rotation/` were found by `run --design pgque-delayed-rotation-draft --workload messages`:
//!
//! - seed 184, *a full page*: more was due than a page holds, and the watermark went to now all the same;
//! - seed 278, *behind the watermark*: a due time had passed a drain's watermark before its timer was inserted;
//! - seed 247, *carried into what is truncated*: rotation copied a far timer into the table that it truncated.

use crate::capsules::read_all;
use crate::stage::server;
use tourbillon::capsule::Capsule;
use tourbillon::postgres::one_cpu::OneCpu;
use tourbillon::replay::{End, replay};
use tourbillon::simulate::Simulator;
use tourbillon_engine::guard::{Design, Guards};
use tourbillon_models::history::History;
use tourbillon_models::name::Micros;
use tourbillon_models::op::Op;
use tourbillon_models::property::Property;
use tourbillon_models::record::Happening;
use tourbillon_models::reply::Reply;
use tourbillon_models::verdict::Verdict;

/// How a timer was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    FullPage,
    BehindTheWatermark,
    Carried,
}

const KEPT: [(u64, Way); 3] = [(184, Way::FullPage), (278, Way::BehindTheWatermark), (247, Way::Carried)];

/// What is known of the lost timer.
struct Lost {
    /// The record that told of it.
    scheduled: usize,
    due: Micros,
}

/// The timer that T2 says is lost.
fn lost(history: &History, verdict: &Verdict) -> Lost {
    let told: Vec<String> = verdict.violations().map(ToString::to_string).collect();
    let sentence = told.iter().find(|told| told.starts_with("T2")).expect("a timer is lost");
    let name = sentence.split_once(": e").and_then(|(_, rest)| rest.split(' ').next()).expect("the sentence names it");
    let id: u32 = name.parse().expect("an event's id is a number");
    let told = history.records.iter().enumerate().find_map(|(index, record)| match record.what {
        Happening::Return(Reply::Scheduled { event, due, .. }) if event.0 == id => Some((index, due)),
        _ => None,
    });
    let (scheduled, due) = told.expect("it was scheduled");
    Lost { scheduled, due }
}

/// Drains that answered, each with its record, its time, how much it delivered and how much it may.
fn drains(history: &History) -> Vec<(usize, Micros, u32, u32)> {
    let mut limits = std::collections::BTreeMap::new();
    let mut drains = Vec::new();
    for (index, record) in history.records.iter().enumerate() {
        match record.what {
            Happening::Call(Op::Drain { limit, .. }) => {
                limits.insert(record.session, limit);
            }
            Happening::Return(Reply::Drained { fired, .. }) => {
                drains.push((index, record.at, fired.len, limits[&record.session]));
            }
            _ => {}
        }
    }
    drains
}

fn was_lost_by(way: Way, history: &History, verdict: &Verdict) -> bool {
    let Lost { scheduled, due } = lost(history, verdict);
    let drains = drains(history);
    let mut rotations = history.records.iter().enumerate().filter(|(index, record)| {
        let is_rotation = matches!(record.what, Happening::Return(Reply::TimersRotated { .. }));
        is_rotation && *index > scheduled && record.at < due
    });
    let mut since = drains.iter().filter(|(index, at, ..)| *index > scheduled && *at >= due);
    match way {
        Way::FullPage => since.next().is_some_and(|(_, _, fired, limit)| fired == limit),
        Way::BehindTheWatermark => drains.iter().any(|(index, at, ..)| *index < scheduled && *at >= due),
        Way::Carried => rotations.next().is_some() && since.all(|(_, _, fired, limit)| fired < limit),
    }
}

fn kept() -> Vec<(Capsule, Way)> {
    let capsules = read_all("capsules/delayed-rotation").into_iter().map(|(_, capsule)| capsule);
    let kept: Vec<_> = capsules
        .map(|capsule| {
            let way = KEPT.iter().find(|(seed, _)| *seed == capsule.plan.seed).expect("each is told of above").1;
            (capsule, way)
        })
        .collect();
    assert_eq!(kept.len(), KEPT.len());
    kept
}

#[test]
fn the_draft_loses_timers_in_three_ways() {
    for (capsule, way) in kept() {
        let (work, guards) = (capsule.work().expect("the workload"), capsule.guards().expect("the guards"));
        let mut simulator = Simulator::default();
        let (_, verdict) = simulator.run_with(&capsule.plan, &work, guards, capsule.chooser());
        assert!(was_lost_by(way, simulator.history(), &verdict), "{way:?}");
    }
}

#[test]
fn the_draft_loses_them_on_the_server_too() {
    let _one = OneCpu::claim();
    let Some(mut server) = server() else { return };
    for (capsule, way) in kept() {
        let (work, guards) = (capsule.work().expect("the workload"), capsule.guards().expect("the guards"));
        let replay = replay(&mut server, &capsule.plan, &work, guards, capsule.chooser()).expect("the server stays");
        match replay.end {
            End::Diverged(difference) => panic!("{way:?}: {difference}"),
            End::Agreed { verdict, .. } => {
                assert!(verdict.violations().any(|failure| failure.property == Property::T2), "{way:?}");
                assert!(was_lost_by(way, &replay.history, &verdict), "{way:?}");
            }
        }
    }
}

/// One way in which the draft of workflows breaks: where it was found, what that breaks, and why.
struct Break {
    workload: &'static str,
    seed: u64,
    property: Property,
    because: &'static str,
}

const WAYS: [Break; 7] = [
    Break {
        workload: "agent-loop",
        seed: 297,
        property: Property::Q9,
        because: "a stale finish changes no row, and nobody looks",
    },
    Break {
        workload: "outage",
        seed: 100,
        property: Property::W10,
        because: "what an outage made old is dead-lettered",
    },
    Break {
        workload: "poison",
        seed: 1,
        property: Property::L3,
        because: "tries are counted where they are lost, and a window is never isolated",
    },
    Break { workload: "approval", seed: 11, property: Property::A3, because: "a promise is dropped for its age" },
    Break { workload: "children-fail", seed: 28, property: Property::J5, because: "a dead letter reports to nobody" },
    Break { workload: "results", seed: 1, property: Property::J4, because: "results go with their join" },
    Break {
        workload: "children-fail",
        seed: 13,
        property: Property::L6,
        because: "joins are locked in the order of the decisions",
    },
];

/// Each way with its capsule.
fn ways() -> Vec<(&'static Break, Capsule)> {
    let mut capsules = read_all("capsules/workflows-draft");
    assert_eq!(capsules.len(), WAYS.len());
    let mut of = |way: &Break| {
        let is_it = |capsule: &Capsule| (capsule.plan.workload.as_str(), capsule.plan.seed) == (way.workload, way.seed);
        let place = capsules.iter().position(|(_, capsule)| is_it(capsule)).expect("each way has a capsule");
        capsules.swap_remove(place).1
    };
    WAYS.iter().map(|way| (way, of(way))).collect()
}

fn breaks(verdict: &Verdict, way: &Break) -> bool {
    verdict.violations().any(|failure| failure.property == way.property)
}

#[test]
fn the_draft_of_workflows_breaks_in_seven_ways() {
    for (way, capsule) in ways() {
        let (work, guards) = (capsule.work().expect("the workload"), capsule.guards().expect("the guards"));
        let design = Design::by_name("pgque-workflows-draft").expect("it is shipped");
        assert_eq!(guards, Guards::without(design.removed));
        let (_, verdict) = Simulator::default().run_with(&capsule.plan, &work, guards, capsule.chooser());
        assert!(breaks(&verdict, way), "{}", way.because);
    }
}

#[test]
fn the_draft_of_workflows_breaks_on_the_server_too() {
    let _one = OneCpu::claim();
    let Some(mut server) = server() else { return };
    for (way, capsule) in ways() {
        let (work, guards) = (capsule.work().expect("the workload"), capsule.guards().expect("the guards"));
        let replay = replay(&mut server, &capsule.plan, &work, guards, capsule.chooser()).expect("the server stays");
        match replay.end {
            End::Diverged(difference) => panic!("{}: {difference}", way.because),
            End::Agreed { verdict, .. } => assert!(breaks(&verdict, way), "{}", way.because),
        }
    }
}
