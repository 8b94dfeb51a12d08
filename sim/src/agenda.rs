//! The agenda of a run: what happens next, and when.
//!
//! Ordered by (time, seeded tie, sequence), so nothing is left to the order in which things were put here. A process has
//! one appointment, and a later one replaces it; everything else waits in a heap.

use crate::random::Stream;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tourbillon_models::name::Micros;

/// When, and before whom of those at the same time: the seeded tie, then the sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    at: Micros,
    tie: u64,
}

const NEVER: Order = Order { at: Micros(u64::MAX), tie: u64::MAX };

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
        let tie = self.ties.half();
        Order { at, tie: u64::from(tie) << 32 | u64::from(self.sequence) }
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
    pub fn pop(&mut self) -> Option<(Micros, Next<E>)> {
        let (process, first) = self.first_turn();
        match self.events.peek() {
            Some(Reverse((order, _))) if *order < first => {
                let Reverse((order, event)) = self.events.pop()?;
                Some((order.at, Next::Event(event)))
            }
            _ if first == NEVER => None,
            _ => {
                self.turns[process] = NEVER;
                Some((first.at, Next::Turn(process)))
            }
        }
    }

    fn first_turn(&self) -> (usize, Order) {
        // First the least time alone: that loop has no branch to mispredict.
        let at = self.turns.iter().fold(u64::MAX, |least, turn| least.min(turn.at.0));
        let (mut process, mut first) = (0, NEVER);
        for (index, turn) in self.turns.iter().enumerate() {
            if turn.at.0 == at && turn.tie < first.tie {
                (process, first) = (index, *turn);
            }
        }
        (process, first)
    }
}
