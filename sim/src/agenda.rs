//! The agenda of a run: what happens next, and when.
//!
//! Ordered by (time, seeded tie, sequence), so nothing is left to the order in which things were put here. A process has
//! one appointment, and a later one replaces it; everything else waits in a heap.

use crate::random::Stream;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tourbillon_models::name::Micros;

/// When, and before whom of those at the same time: the seeded tie, then the sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Order {
    at: Micros,
    tie: u64,
}

/// What is next: some process's turn, or an event.
pub enum Next<E> {
    Turn(usize),
    Event(E),
}

pub struct Agenda<E> {
    turns: Turns,
    events: BinaryHeap<Reverse<(Order, E)>>,
    ties: Stream,
    sequence: u32,
}

impl<E: Ord> Agenda<E> {
    pub fn new(seed: u64, process_count: usize) -> Self {
        let (turns, events) = (Turns::new(process_count), BinaryHeap::new());
        Agenda { turns, events, ties: Stream::new(seed, "tie", 0), sequence: 0 }
    }

    fn order(&mut self, at: Micros) -> Order {
        self.sequence += 1;
        let tie = self.ties.half();
        Order { at, tie: u64::from(tie) << 32 | u64::from(self.sequence) }
    }

    /// The process's one appointment; an earlier one lapses.
    pub fn wake(&mut self, process: usize, at: Micros) {
        let order = self.order(at);
        self.turns.set(process, order);
    }

    pub fn push(&mut self, at: Micros, event: E) {
        let order = self.order(at);
        self.events.push(Reverse((order, event)));
    }

    /// When the next thing is.
    pub fn next_at(&self) -> Option<Micros> {
        let event = self.events.peek().map(|Reverse((order, _))| order.at);
        let turn = self.turns.first().map(|order| order.at);
        event.into_iter().chain(turn).min()
    }

    /// Takes what is next.
    pub fn pop(&mut self) -> Option<(Micros, Next<E>)> {
        let turn = self.turns.first();
        match self.events.peek() {
            Some(Reverse((order, _))) if turn.is_none_or(|turn| *order < turn) => {
                let Reverse((order, event)) = self.events.pop()?;
                Some((order.at, Next::Event(event)))
            }
            _ => self.turns.pop().map(|(order, process)| (order.at, Next::Turn(process))),
        }
    }
}

/// The processes' appointments, the next one last. They are few, and most are made for soon: a new one passes those before
/// it one by one, which costs less than a heap or a look at all of them.
struct Turns {
    queue: Vec<(Order, usize)>,
    /// Whether a process has one.
    has: Vec<bool>,
}

impl Turns {
    fn new(process_count: usize) -> Self {
        Turns { queue: Vec::with_capacity(process_count), has: vec![false; process_count] }
    }

    fn first(&self) -> Option<Order> {
        self.queue.last().map(|(order, _)| *order)
    }

    fn pop(&mut self) -> Option<(Order, usize)> {
        let next = self.queue.pop()?;
        self.has[next.1] = false;
        Some(next)
    }

    fn set(&mut self, process: usize, order: Order) {
        if std::mem::replace(&mut self.has[process], true) {
            self.queue.retain(|(_, other)| *other != process);
        }
        let mut place = self.queue.len();
        self.queue.push((order, process));
        while place > 0 && self.queue[place - 1].0 < order {
            self.queue[place] = self.queue[place - 1];
            place -= 1;
        }
        self.queue[place] = (order, process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Against what a look at every appointment would find.
    #[test]
    fn the_next_appointment_comes_first_and_a_later_one_replaces_it() {
        for process_count in [1, 2, 7, 64] {
            let (mut turns, mut all) = (Turns::new(process_count as usize), BTreeMap::new());
            let mut stream = Stream::new(process_count, "turns", 0);
            for tie in 0..500 {
                if stream.below(3) == 0 {
                    let least = all.iter().map(|(process, order)| (*order, *process)).min();
                    assert_eq!(turns.first(), least.map(|(order, _)| order));
                    assert_eq!(turns.pop(), least);
                    all.retain(|process, _| least.is_none_or(|(_, popped)| popped != *process));
                } else {
                    let process = stream.below(process_count) as usize;
                    let order = Order { at: Micros(stream.below(10)), tie };
                    turns.set(process, order);
                    all.insert(process, order);
                }
            }
        }
    }
}
