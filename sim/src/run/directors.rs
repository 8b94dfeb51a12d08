//! The directors that a plan may ask for: one who reads turns off a list, one who goes by priorities.

use super::directed::{Director, Stage};
use crate::order::{Priorities, Turn};
use crate::random::Stream;
use tourbillon_models::name::Micros;

/// Reads turns off a list; when that has run out, things take their usual course.
pub(super) struct Listed<'a> {
    pub(super) turns: std::slice::Iter<'a, Turn>,
}

impl Director for Listed<'_> {
    fn next(&mut self, stage: &Stage<'_>) -> Option<Turn> {
        let possible = self.turns.by_ref().copied().find(|turn| stage.is_possible(*turn));
        Some(possible.unwrap_or_else(|| stage.usual()))
    }
}

/// The first of a plan sets the stage, and the others count on that.
const SETUP: u8 = 0;

/// A plan may come from anywhere.
const MOST_CHANGES: u32 = 1_000;

pub(super) struct Ranked {
    options: Priorities,
    stream: Stream,
    /// By process: the higher goes first.
    priorities: Vec<u32>,
    /// By process: until then it comes behind the clock.
    delayed_until: Vec<Micros>,
    turn: u32,
    /// The turns after which whoever has made a call comes last.
    changes: Vec<u32>,
    /// Below all that were drawn.
    lowest: u32,
}

impl Ranked {
    pub(super) fn new(options: Priorities, seed: u64, process_count: usize) -> Ranked {
        let mut ranked = Ranked {
            options,
            stream: Stream::new(seed, "priority", 0),
            priorities: vec![0; process_count],
            delayed_until: vec![Micros(0); process_count],
            turn: 0,
            changes: Vec::new(),
            lowest: 0,
        };
        ranked.draw();
        ranked
    }

    fn draw(&mut self) {
        let count = self.priorities.len();
        self.lowest = u32::MAX / 2;
        let mut order: Vec<u32> = (1..=count as u32).map(|rank| self.lowest + rank).collect();
        for index in (1..count).rev() {
            order.swap(index, self.stream.below(index as u64 + 1) as usize);
        }
        self.priorities = order;
        self.turn = 0;
        let turns = u64::from(self.options.turns.max(1));
        self.changes = (1..self.options.depth.min(MOST_CHANGES)).map(|_| self.stream.below(turns) as u32).collect();
    }

    /// The best of those that are ready; behind the clock only if that stands still.
    fn best(&self, stage: &Stage<'_>) -> Option<u8> {
        let ready = (0..self.priorities.len() as u8).filter(|process| stage.is_ready(*process));
        let (mut eligible, mut delayed): (Vec<u8>, Vec<u8>) =
            ready.partition(|process| self.delayed_until[usize::from(*process)] <= stage.now);
        let next_at = stage.next_at.unwrap_or(Micros(u64::MAX));
        if eligible.is_empty() {
            delayed.retain(|process| self.delayed_until[usize::from(*process)] < next_at);
            eligible = delayed;
        }
        eligible.into_iter().max_by_key(|process| self.priorities[usize::from(*process)])
    }
}

impl Director for Ranked {
    fn next(&mut self, stage: &Stage<'_>) -> Option<Turn> {
        if stage.ready == 0 {
            return Some(Turn::Pass);
        }
        if self.turn >= self.options.turns {
            self.draw();
        }
        if stage.are_faults_over {
            self.delayed_until.fill(Micros(0));
        }
        if stage.is_ready(SETUP) {
            return Some(Turn::Step(SETUP));
        }
        let Some(process) = self.best(stage) else { return Some(Turn::Pass) };
        if self.changes.contains(&self.turn) && !stage.are_faults_over {
            self.lowest -= 1;
            self.priorities[usize::from(process)] = self.lowest;
            // As many short ones as long ones.
            let bits = u64::from(u64::BITS - self.options.longest_delay.0.leading_zeros());
            let span = self.options.longest_delay.0.checked_shr(self.stream.below(bits + 1) as u32).unwrap_or(0);
            self.delayed_until[usize::from(process)] = stage.now + Micros(self.stream.between(0, span));
        }
        self.turn += 1;
        Some(Turn::Step(process))
    }
}
