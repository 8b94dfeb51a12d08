//! A sweep: many seeds, each from plan to verdict, on all processors.
//!
//! Threads take the seeds in chunks, a [`Simulator`] each; what the chunks give is added up in the order of the seeds.
//! So what a sweep finds depends neither on the number of threads nor on their luck, also when it is stopped early.
//! What it is not: it prints nothing, saves nothing and knows no server.

use crate::activation::Activations;
use crate::difference::{Difference, difference};
use crate::generate::Limits;
use crate::run::Summary;
use crate::simulate::{Simulator, Work};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use tourbillon_engine::guard::Guards;
use tourbillon_models::history::History;
use tourbillon_models::name::Micros;
use tourbillon_models::property::sweep::Sweep;
use tourbillon_models::property::{Goals, Property};
use tourbillon_models::verdict::{Judgement, Verdict};
use xxhash_rust::xxh3::xxh3_64;

/// Which seeds: `count` from `first` on (past the largest it goes on with 0), or one share of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seeds {
    pub first: u64,
    pub count: u64,
    pub shard: Shard,
}

/// One of `of` equal shares, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    pub index: u64,
    pub of: u64,
}

impl Shard {
    pub const WHOLE: Shard = Shard { index: 0, of: 1 };
}

impl Seeds {
    /// How many there are in this share.
    pub fn len(&self) -> u64 {
        self.count / self.shard.of + u64::from(self.shard.index < self.count % self.shard.of)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn seed(&self, index: u64) -> u64 {
        self.first.wrapping_add(self.place(index))
    }

    /// Where a seed of this share stands among all.
    fn place(&self, index: u64) -> u64 {
        index * self.shard.of + self.shard.index
    }
}

/// What all runs of a sweep have in common. The seed chooses among the workloads, so that it alone names a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    pub limits: Limits,
    pub guards: Guards,
}

/// The workload of a seed.
pub fn work_of(works: &[Work], seed: u64) -> &Work {
    &works[(seed % works.len() as u64) as usize]
}

/// How many processors there are.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// A run that something is wrong with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Found {
    pub seed: u64,
    pub workload: String,
    /// The one that its history shows first, then the others; none if the run panicked.
    pub broken: Vec<Property>,
    /// What contradicts what.
    pub sentence: String,
}

/// What one run did, for those who choose among runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ran {
    pub seed: u64,
    /// Over a network, so not as on any server.
    pub is_net: bool,
    pub blocked: u64,
    pub server_crashes: u64,
    /// Acknowledged commits that they lost.
    pub lost_commits: u64,
    pub goals: Goals,
}

/// The sums of a sweep.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Swept {
    pub sums: Sweep,
    pub calls: u64,
    pub simulated_us: u64,
    /// How often each kind of fault came about.
    pub activations: Activations,
    /// Of those over a network.
    #[serde(default)]
    pub net: SweptNet,
    /// How many runs were made a second time, to compare.
    pub repeated: u64,
    /// Of the first seeds whose histories were not the same, at most [`DIFFERENCES`]: where they part.
    pub differences: Vec<(u64, Difference)>,
    /// The first [`FOUND_LIMIT`], by seed.
    pub found: Vec<Found>,
    pub found_count: u64,
    /// The first run whose verdict is unknown.
    pub first_unknown: Option<u64>,
}

/// The sums of the runs over a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SweptNet {
    pub runs: u64,
    pub simulated_us: u64,
    /// Of all their histories, whatever the order.
    pub hash: u64,
}

impl SweptNet {
    fn of(seed: u64, ended_at: Micros, history: &History) -> SweptNet {
        let hash = xxh3_64(&[seed, history.hash()].map(u64::to_le_bytes).concat());
        SweptNet { runs: 1, simulated_us: ended_at.0, hash }
    }

    const fn add(&mut self, other: SweptNet) {
        self.runs += other.runs;
        self.simulated_us += other.simulated_us;
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

/// How many runs with violations a sweep describes; it counts all.
pub const FOUND_LIMIT: usize = 100;

/// How many seeds that are not deterministic a sweep describes; it names all.
pub const DIFFERENCES: usize = 3;

impl Swept {
    /// The first run that broke each property: for each such run, the properties that it was the first to break.
    pub fn firsts(&self) -> BTreeMap<u64, Vec<Property>> {
        let mut firsts: BTreeMap<u64, Vec<Property>> = BTreeMap::new();
        for property in Property::ALL {
            if let Some(first) = self.sums.first(property) {
                firsts.entry(first.seed).or_default().push(property);
            }
        }
        firsts
    }

    /// What shards have swept, as one sweep over all their seeds would have it.
    pub fn merge(parts: impl IntoIterator<Item = Swept>, first_seed: u64) -> Swept {
        let place = |seed: u64| seed.wrapping_sub(first_seed);
        let mut whole = Swept::default();
        let (mut found, mut differences, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for mut part in parts {
            found.append(&mut part.found);
            differences.append(&mut part.differences);
            unknown.extend(part.first_unknown.take());
            whole.add(part);
        }
        found.sort_by_key(|found| place(found.seed));
        differences.sort_by_key(|(seed, _)| place(*seed));
        found.truncate(FOUND_LIMIT);
        differences.truncate(DIFFERENCES);
        let first_unknown = unknown.into_iter().min_by_key(|seed| place(*seed));
        Swept { found, differences, first_unknown, ..whole }
    }

    fn add(&mut self, other: Swept) {
        self.sums.merge(&other.sums);
        self.calls += other.calls;
        self.simulated_us += other.simulated_us;
        self.activations.add(&other.activations);
        self.net.add(other.net);
        self.repeated += other.repeated;
        self.differences.extend(other.differences);
        self.differences.truncate(DIFFERENCES);
        self.found_count += other.found_count;
        self.found.extend(other.found);
        self.found.truncate(FOUND_LIMIT);
        self.first_unknown = self.first_unknown.or(other.first_unknown);
    }
}

/// What a chunk of seeds gave.
struct Chunk {
    index: u64,
    swept: Swept,
    ran: Vec<Ran>,
}

/// So many seeds are a chunk: some ten milliseconds' work.
const CHUNK: u64 = 16;

/// One run in so many is made a second time. A prime, so that no rotation of workloads keeps in step with it.
const REPEAT_EVERY: u64 = 61;

/// Sweeps. `works` makes the workloads, once a thread; `each` is told the sums so far and the runs that were added,
/// in the order of the seeds, and may end it.
pub fn sweep(
    seeds: Seeds,
    threads: usize,
    setting: &Setting,
    works: impl Fn() -> Vec<Work> + Sync,
    mut each: impl FnMut(&Swept, &[Ran]) -> ControlFlow<()>,
) -> Swept {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (sender, works, next, stop) = (sender.clone(), &works, &next, &stop);
            scope.spawn(move || sweep_chunks(seeds, setting, &works(), next, stop, &sender));
        }
        drop(sender);
        let swept = collect(&receiver, &mut each);
        stop.store(true, Ordering::Relaxed);
        swept
    })
}

/// Adds the chunks up in their order, whatever order they come in.
fn collect(chunks: &Receiver<Chunk>, each: &mut impl FnMut(&Swept, &[Ran]) -> ControlFlow<()>) -> Swept {
    let (mut swept, mut next, mut waiting) = (Swept::default(), 0, BTreeMap::new());
    for chunk in chunks {
        waiting.insert(chunk.index, chunk);
        while let Some(chunk) = waiting.remove(&next) {
            next += 1;
            swept.add(chunk.swept);
            if each(&swept, &chunk.ran).is_break() {
                return swept;
            }
        }
    }
    swept
}

fn sweep_chunks(
    seeds: Seeds,
    setting: &Setting,
    works: &[Work],
    next: &AtomicU64,
    stop: &AtomicBool,
    chunks: &Sender<Chunk>,
) {
    let mut simulator = Simulator::default();
    while !stop.load(Ordering::Relaxed) {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let (low, high) = (index * CHUNK, ((index + 1) * CHUNK).min(seeds.len()));
        if low >= high {
            return;
        }
        let mut chunk = Chunk { index, swept: Swept::default(), ran: Vec::new() };
        for index in low..high {
            chunk.run(
                &mut simulator,
                works,
                setting,
                seeds.seed(index),
                seeds.place(index).is_multiple_of(REPEAT_EVERY),
            );
        }
        if chunks.send(chunk).is_err() {
            return;
        }
    }
}

impl Chunk {
    fn run(&mut self, simulator: &mut Simulator, works: &[Work], setting: &Setting, seed: u64, repeat: bool) {
        let work = work_of(works, seed);
        match catch(|| run_one(simulator, work, setting, seed)) {
            Ok((one, ran)) => {
                self.swept.add(one);
                self.ran.push(ran);
            }
            Err(sentence) => {
                *simulator = Simulator::default();
                let workload = work.name.clone();
                self.swept.found.push(Found { seed, workload, broken: Vec::new(), sentence });
                self.swept.found_count += 1;
                return;
            }
        }
        if repeat {
            self.swept.repeated += 1;
            self.swept.sums.hashed(seed, simulator.history().hash());
            // With fresh memory, so that nothing that one run leaves behind for the next goes unnoticed.
            let mut again = Simulator::default();
            again.run(&work.plan(seed, &setting.limits), work, setting.guards);
            self.swept.sums.hashed(seed, again.history().hash());
            // Both are in memory: made once more, they might differ elsewhere, or not at all.
            let difference = difference(simulator.history(), again.history());
            self.swept.differences.extend(difference.map(|difference| (seed, difference)));
        }
    }
}

fn run_one(simulator: &mut Simulator, work: &Work, setting: &Setting, seed: u64) -> (Swept, Ran) {
    let plan = work.plan(seed, &setting.limits);
    let (summary, verdict) = simulator.run(&plan, work, setting.guards);
    let activations = Activations::of(&plan, &summary, simulator.history());
    let Summary { blocked, server_crashes, lost_commits, .. } = summary;
    let is_net = plan.network.is_some();
    let ran = Ran { seed, is_net, blocked, server_crashes, lost_commits, goals: verdict.goals() };
    let mut one = Swept { calls: summary.calls, simulated_us: summary.ended_at.0, activations, ..Swept::default() };
    if is_net {
        one.net = SweptNet::of(seed, summary.ended_at, simulator.history());
    }
    one.sums.add(seed, &verdict);
    one.found.extend(found(seed, work, &verdict));
    one.found_count = one.found.len() as u64;
    one.first_unknown = (verdict.judgement() == Judgement::Unknown).then_some(seed);
    (one, ran)
}

/// What is wrong with a run, if anything is.
pub fn found(seed: u64, work: &Work, verdict: &Verdict) -> Option<Found> {
    let first = verdict.first_violation()?;
    let others = verdict.broken().filter(|property| *property != first.property);
    Some(Found {
        seed,
        workload: work.name.clone(),
        broken: std::iter::once(first.property).chain(others).collect(),
        sentence: first.sentence.clone(),
    })
}

/// An assertion of the engine's, or of a user's program, that fails under one seed is a finding like any other.
pub fn catch<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| format!("the run panicked: {}", message(payload.as_ref())))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::FaultKind;
    use tourbillon_engine::guard::Guard;

    fn works() -> Vec<Work> {
        ["chain", "agent-loop", "messages"].iter().map(|name| Work::named(name).unwrap()).collect()
    }

    fn sweep_with(threads: usize, guards: Guards, seeds: Seeds) -> Swept {
        let setting = Setting { limits: Limits { faults: FaultKind::ALL.to_vec() }, guards };
        sweep(seeds, threads, &setting, works, |_, _| ControlFlow::Continue(()))
    }

    #[test]
    fn a_sweep_is_the_same_on_any_number_of_threads() {
        let guards = Guards::without(&[Guard::ClaimLock]);
        let seeds = Seeds { first: 7, count: 150, shard: Shard::WHOLE };
        let one = sweep_with(1, guards, seeds);
        assert_eq!(one, sweep_with(3, guards, seeds));
        assert_eq!(one.sums.run_count(), 150);
        assert_eq!(one.repeated, 3);
        assert!(one.sums.not_deterministic().is_empty());
    }

    #[test]
    fn shards_are_the_whole() {
        let seeds = |index| Seeds { first: u64::MAX - 2, count: 7, shard: Shard { index, of: 3 } };
        let of = |index| (0..seeds(index).len()).map(|at| seeds(index).seed(at)).collect::<Vec<_>>();
        let mut all: Vec<u64> = (0..3).flat_map(of).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, u64::MAX - 2, u64::MAX - 1, u64::MAX]);
    }

    #[test]
    fn shares_differ_by_one_at_most_and_may_be_empty() {
        let len = |count, index, of| Seeds { first: 0, count, shard: Shard { index, of } }.len();
        assert_eq!([0, 1, 2].map(|index| len(2, index, 3)), [1, 1, 0]);
        assert_eq!([0, 1].map(|index| len(u64::MAX, index, 2)), [1 << 63, (1 << 63) - 1]);
        assert_eq!(len(u64::MAX, u64::MAX - 1, u64::MAX), 1);
    }

    #[test]
    fn a_sweep_can_be_ended() {
        let setting = Setting { limits: Limits { faults: Vec::new() }, guards: Guards::ALL };
        let seeds = Seeds { first: 0, count: 1_000_000, shard: Shard::WHOLE };
        let swept = sweep(seeds, 2, &setting, works, |swept, _| match swept.sums.run_count() {
            0..40 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        });
        assert_eq!(swept.sums.run_count(), 48);
    }

    #[test]
    fn a_panic_is_told_in_a_sentence() {
        assert_eq!(catch(|| panic!("at {}", 3)), Err::<(), _>("the run panicked: at 3".to_owned()));
    }
}
