//! One run of an exploration: the turns that led to a branch, the branch, and then on until the end or a state that is
//! known.
//!
//! Where it has a choice it goes on with one turn and leaves the others as branches. What it does not do: decide which
//! branch is next.

use super::configuration::Configuration;
use super::search::Search;
use super::trace::Trace;
use super::tree::Branch;
use crate::faults::FaultKind;
use crate::order::Turn;
use crate::run::{Director, Stage};
use tourbillon_engine::engine::Engine;
use tourbillon_engine::store::footprint::Footprint;
use tourbillon_models::name::Micros;
use xxhash_rust::xxh3::xxh3_64;

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By itself.
    Whole,
    /// In a state that had been reached before.
    Known,
    /// There was no more room, or time.
    CutOff,
}

pub struct Walk<'a> {
    search: &'a mut Search,
    configuration: &'a Configuration,
    /// Whom faults befall, as bits.
    mortal: u64,
    trace: &'a mut Trace,
    footprint: Footprint,
    /// What is to be done again, the last first.
    script: Vec<Branch>,
    /// Who made the last call, unless time has passed since.
    last: Option<u8>,
    /// Over whom time has passed since he was ready, as bits.
    paused: u64,
    /// By process: since when, if it was.
    paused_since: Vec<Micros>,
    preemptions: u8,
    faults: u8,
    /// The place in the tree of the turn before this one.
    node: u32,
    /// Of the turn under way: how many of its open choices were decided beforehand.
    given_picks: usize,
    is_fresh: bool,
    pub depth: u32,
    pub ended: Ended,
}

/// Comes first, and undisturbed.
const SETUP: u8 = 0;
fn processes_of(bits: u64) -> impl Iterator<Item = u8> {
    (0..u64::BITS as u8).filter(move |process| bits >> process & 1 != 0)
}

impl<'a> Walk<'a> {
    pub fn new(
        search: &'a mut Search,
        configuration: &'a Configuration,
        trace: &'a mut Trace,
        mortal: u64,
        branch: Option<&Branch>,
    ) -> Walk<'a> {
        let mut script: Vec<Branch> = Vec::new();
        if let Some(branch) = branch {
            script.push(branch.clone());
            script.extend(search.tree.path(branch.parent));
        }
        trace.clear();
        Walk {
            search,
            configuration,
            mortal,
            trace,
            footprint: Footprint::default(),
            script,
            last: None,
            paused: 0,
            paused_since: vec![Micros(0); u64::BITS as usize],
            preemptions: 0,
            faults: 0,
            node: 0,
            given_picks: 0,
            is_fresh: false,
            depth: 0,
            ended: Ended::Whole,
        }
    }

    /// The open choices of the script, in their order.
    pub fn picks(&self) -> Vec<u8> {
        self.script.iter().rev().flat_map(|branch| branch.picks.iter().copied()).collect()
    }

    /// The place in the tree where the run ended.
    pub fn end(&self) -> u32 {
        self.node
    }

    /// Whether this turn puts somebody aside who made the last call and could make the next.
    fn preempts(&self, stage: &Stage<'_>, turn: Turn) -> bool {
        let goes_on = |process| Some(process) == self.last;
        let is_ready = self.last.is_some_and(|last| stage.is_ready(last));
        is_ready && caller(turn).is_some_and(|process| !goes_on(process))
    }

    /// How many faults this turn is. Time that passes over somebody who is ready is one for each, when it begins to.
    fn faults_of(&self, stage: &Stage<'_>, turn: Turn) -> u8 {
        match turn {
            Turn::Step(_) => 0,
            Turn::Pass => (stage.ready & !self.paused).count_ones() as u8,
            Turn::Crash(_) | Turn::LoseCall(_) | Turn::LoseReply(_) | Turn::ServerCrash => 1,
        }
    }

    fn options(&self, stage: &Stage<'_>) -> Vec<Turn> {
        if stage.is_ready(SETUP) {
            return vec![Turn::Step(SETUP)];
        }
        let mut turns: Vec<Turn> = Vec::new();
        let last = self.last.filter(|last| stage.is_ready(*last));
        turns.extend(last.map(Turn::Step));
        turns.extend(processes_of(stage.ready).filter(|it| Some(*it) != last).map(Turn::Step));
        if stage.ready == 0 || self.may_pause(stage) {
            turns.push(Turn::Pass);
        }
        if self.faults < self.configuration.faults && !stage.are_faults_over {
            // Who sleeps has nothing to lose: that he dies is the same as that he dies when he wakes, but for when he comes
            // back.
            let mortal = stage.alive & self.mortal & (stage.ready | stage.blocked | stage.inside);
            if self.configuration.can(FaultKind::WorkerCrash) {
                turns.extend(processes_of(mortal).map(Turn::Crash));
            }
            if self.configuration.can(FaultKind::LostReply) {
                turns.extend(processes_of(mortal & stage.ready).map(Turn::LoseReply));
                turns.extend(processes_of(mortal & stage.ready).map(Turn::LoseCall));
            }
            if self.configuration.can(FaultKind::ServerCrash) && stage.is_server_up {
                turns.push(Turn::ServerCrash);
            }
        }
        let bound = self.configuration.preemptions.unwrap_or(u8::MAX);
        turns.retain(|turn| {
            let preemptions = u8::from(self.preempts(stage, *turn));
            let is_cheap = self.preemptions.saturating_add(preemptions) <= bound;
            is_cheap && self.faults + self.faults_of(stage, *turn) <= self.configuration.faults
        });
        turns
    }

    /// Over those who are ready, but for no longer than the bound, and not once faults are over.
    fn may_pause(&self, stage: &Stage<'_>) -> bool {
        let is_patient = |process: u8| {
            let is_paused = self.paused >> process & 1 != 0;
            let since = if is_paused { self.paused_since[usize::from(process)] } else { stage.now };
            stage.next_at.is_some_and(|next| next <= since + self.configuration.longest_pause())
        };
        let is_on = self.configuration.can(FaultKind::WorkerPause) && !stage.are_faults_over;
        is_on && processes_of(stage.ready).all(is_patient)
    }

    /// What tells this state from others: the turns so far, and whom it costs to leave. Faults follow from the turns.
    fn key(&self, stage: &Stage<'_>) -> u64 {
        let last = self.last.filter(|last| stage.is_ready(*last)).map_or(0, |last| self.trace.of_process(last));
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.trace.sum().to_le_bytes());
        bytes[16..].copy_from_slice(&last.to_le_bytes());
        xxh3_64(&bytes)
    }

    /// The turn begins: what it costs, and who goes on.
    fn begin(&mut self, stage: &Stage<'_>, branch: &Branch) {
        self.preemptions += u8::from(self.preempts(stage, branch.turn));
        self.faults += self.faults_of(stage, branch.turn);
        self.given_picks = branch.picks.len();
        match branch.turn {
            Turn::Pass => {
                self.last = None;
                let fresh = stage.ready & !self.paused;
                processes_of(fresh).for_each(|process| self.paused_since[usize::from(process)] = stage.now);
                self.paused |= fresh;
            }
            Turn::Step(process) | Turn::LoseCall(process) | Turn::LoseReply(process) => {
                self.last = Some(process);
                self.paused &= !(1 << process);
            }
            Turn::Crash(process) => self.paused &= !(1 << process),
            Turn::ServerCrash => {}
        }
        self.depth += 1;
    }
}

/// Who makes a call.
const fn caller(turn: Turn) -> Option<u8> {
    match turn {
        Turn::Step(process) | Turn::LoseCall(process) | Turn::LoseReply(process) => Some(process),
        Turn::Pass | Turn::Crash(_) | Turn::ServerCrash => None,
    }
}

impl Director for Walk<'_> {
    fn next(&mut self, stage: &Stage<'_>) -> Option<Turn> {
        // What was read to see whether everything is done.
        stage.engine.take_footprint(&mut self.footprint);
        if let Some(branch) = self.script.pop() {
            assert!(stage.is_possible(branch.turn), "a run made again comes to the same places");
            self.begin(stage, &branch);
            self.is_fresh = self.script.is_empty();
            self.node = if self.is_fresh { self.search.tree.add(&branch) } else { branch.node };
            return Some(branch.turn);
        }
        self.is_fresh = true;
        let key = self.key(stage);
        if self.search.is_full() {
            self.ended = Ended::CutOff;
            return None;
        }
        if !self.search.is_new(key) {
            self.ended = Ended::Known;
            return None;
        }
        let mut options = self.options(stage).into_iter();
        let Some(first) = options.next() else { unreachable!("somebody goes on, or time passes") };
        for turn in options {
            let preemptions = self.preemptions + u8::from(self.preempts(stage, turn));
            self.search.leave(preemptions, Branch::new(self.node, turn, &[]));
        }
        let branch = Branch::new(self.node, first, &[]);
        self.begin(stage, &branch);
        self.node = self.search.tree.add(&branch);
        Some(branch.turn)
    }

    fn took(&mut self, turn: Turn, engine: &Engine, picks: &[(u8, u8)]) {
        engine.take_footprint(&mut self.footprint);
        if self.is_fresh && !picks.is_empty() {
            let made: Vec<u8> = picks.iter().map(|(pick, _)| *pick).collect();
            for place in self.given_picks..picks.len() {
                for other in 1..picks[place].1 {
                    let other = [&made[..place], &[other]].concat();
                    let parent = self.search.tree.parent(self.node);
                    self.search.leave(self.preemptions, Branch::new(parent, turn, &other));
                }
            }
            self.search.tree.set_picks(self.node, &made);
        }
        let kind = match turn {
            Turn::Step(_) => 1,
            Turn::Crash(_) => 2,
            Turn::LoseCall(_) => 3,
            Turn::LoseReply(_) => 4,
            Turn::Pass => 5,
            Turn::ServerCrash => 6,
        };
        let label =
            picks.iter().fold(kind, |label: u64, (pick, _)| label.wrapping_mul(67).wrapping_add(u64::from(*pick) + 1));
        match turn {
            Turn::Pass | Turn::ServerCrash => self.trace.barrier(None, label),
            Turn::Step(process) | Turn::Crash(process) | Turn::LoseCall(process) | Turn::LoseReply(process) => {
                self.trace.turn(process, label, &self.footprint);
            }
        }
    }
}
