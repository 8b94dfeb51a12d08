//! The agenda of a run: what happens next, and when.
//!
//! Ordered by (time, seeded tie, sequence), so nothing is left to the order in which things were put here. A process has
//! one appointment, and a later one replaces it; everything else waits in a heap.

use crate::random::Stream;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tourbillon_models::name::Micros;

/// Time, tie and sequence, from the high bits to the low ones: one comparison orders all three.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Order(u128);

const NEVER: Order = Order(u128::MAX);

impl Order {
    fn at(self) -> Micros {
        Micros((self.0 >> 64) as u64)
    }
}

/// What is next: some process's turn, or an event.
pub enum Next<E> {
    Turn(usize),
    Event(E),
}

pub struct Agenda<E> {
    turns: Vec<Order>,
    events: BinaryHeap<Reverse<(Order, E)>>,
    ties: Stream,
    sequence: u32,
}

impl<E: Ord> Agenda<E> {
    pub fn new(seed: u64, process_count: usize) -> Self {
        let (turns, events) = (vec![NEVER; process_count], BinaryHeap::new());
        Agenda { turns, events, ties: Stream::new(seed, "tie", 0), sequence: 0 }
    }

    fn order(&mut self, at: Micros) -> Order {
        self.sequence += 1;
        let tie = self.ties.bits() as u32;
        Order(u128::from(at.0) << 64 | u128::from(tie) << 32 | u128::from(self.sequence))
    }

    /// The process's one appointment; an earlier one lapses.
    pub fn wake(&mut self, process: usize, at: Micros) {
        self.turns[process] = self.order(at);
    }

    pub fn push(&mut self, at: Micros, event: E) {
        let order = self.order(at);
        self.events.push(Reverse((order, event)));
    }

    /// Takes what is next. Cost: a look at every process, which for the few there are is less than a heap's.
    pub fn next(&mut self) -> Option<(Micros, Next<E>)> {
        let (mut process, mut first) = (0, NEVER);
        for (index, order) in self.turns.iter().enumerate() {
            if *order < first {
                (process, first) = (index, *order);
            }
        }
        match self.events.peek() {
            Some(Reverse((order, _))) if *order < first => {
                let Reverse((order, event)) = self.events.pop()?;
                Some((order.at(), Next::Event(event)))
            }
            _ if first == NEVER => None,
            _ => {
                self.turns[process] = NEVER;
                Some((first.at(), Next::Turn(process)))
            }
        }
    }
}
