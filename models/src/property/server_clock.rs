//! The server's wall clock, as told by the faults that set it: what it showed while a call ran.
//!
//! Records have the time that passes; leases, ticks and timers go by the server's clock, which may be set forward and
//! back. A call reads it somewhere between two records, so what it read lies between two times. Without a fault that sets
//! it, it shows the records' time. Not here: the clocks of processes, by which nothing is judged.

use crate::history::History;
use crate::name::Micros;
use crate::record::{ClockOffset, Fault, Happening};
use alloc::vec::Vec;

#[derive(Default)]
pub(super) struct ServerClock {
    /// The records that set it, and what they set it to; in order.
    steps: Vec<(u32, ClockOffset)>,
}

impl ServerClock {
    pub(super) fn clear(&mut self) {
        self.steps.clear();
    }

    /// Reads the faults ahead: a lost call may be over only later.
    pub(super) fn read(&mut self, history: &History) {
        for (record, index) in history.records.iter().zip(0u32..) {
            if let Happening::Fault(Fault::ClockStep(offset)) = record.what {
                self.steps.push((index, offset));
            }
        }
    }

    /// What it showed at a record; at one that sets it, afterwards.
    pub(super) fn at(&self, history: &History, record: u32) -> Micros {
        let step = self.steps.partition_point(|(set, _)| *set <= record).checked_sub(1);
        step.map_or(ClockOffset::NONE, |step| self.steps[step].1).at(time(history, record))
    }

    /// The least that it showed between two records.
    pub(super) fn earliest(&self, history: &History, from: u32, to: u32) -> Micros {
        if self.steps.is_empty() {
            return time(history, from);
        }
        let set = self.between(from, to).map(|(set, offset)| offset.at(time(history, set)));
        set.fold(self.at(history, from), Micros::min)
    }

    /// The most that it showed between two records; if the second is none, nobody knows.
    pub(super) fn latest(&self, history: &History, from: u32, to: u32) -> Micros {
        if time_of(history, to).is_none() {
            return Micros(u64::MAX);
        }
        if self.steps.is_empty() {
            return time(history, to);
        }
        let set = self.between(from, to).map(|(set, _)| self.offset_before(set).at(time(history, set)));
        set.fold(self.at(history, to), Micros::max)
    }

    fn offset_before(&self, set: u32) -> ClockOffset {
        let before = self.steps.partition_point(|(other, _)| *other < set).checked_sub(1);
        before.map_or(ClockOffset::NONE, |step| self.steps[step].1)
    }

    fn between(&self, from: u32, to: u32) -> impl Iterator<Item = (u32, ClockOffset)> + '_ {
        let first = self.steps.partition_point(|(set, _)| *set <= from);
        self.steps[first..].iter().copied().take_while(move |(set, _)| *set <= to)
    }
}

fn time_of(history: &History, record: u32) -> Option<Micros> {
    history.records.get(record as usize).map(|record| record.at)
}

fn time(history: &History, record: u32) -> Micros {
    time_of(history, record).unwrap_or(Micros(0))
}
