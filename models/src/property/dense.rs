//! A table by id, made for ids that are handed out one after the other.
//!
//! Near ids lie in a deque, so that a look-up is an index and what is dead leaves at the front; an id far from all
//! others, as a file from elsewhere may hold, goes to a map. Invariant: memory is proportional to the entries that are
//! live, whatever the ids are, plus one bit for each that has left.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// How many slots the deque may have beyond four for each entry that it was given.
const GAP: usize = 1_024;

pub(super) struct Dense<T> {
    /// The id of the first slot.
    base: u32,
    near: VecDeque<Option<T>>,
    far: BTreeMap<u32, T>,
    /// The first id that `retired` speaks of.
    origin: u32,
    retired: Vec<u64>,
    inserted: usize,
}

impl<T> Dense<T> {
    pub(super) const fn new() -> Self {
        Dense { base: 0, near: VecDeque::new(), far: BTreeMap::new(), origin: 0, retired: Vec::new(), inserted: 0 }
    }

    /// Empties the table and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.base = 0;
        self.near.clear();
        self.far.clear();
        self.origin = 0;
        self.retired.clear();
        self.inserted = 0;
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> Option<&T> {
        match self.near.get(id.wrapping_sub(self.base) as usize) {
            Some(Some(value)) => Some(value),
            _ if self.far.is_empty() => None,
            _ => self.far.get(&id),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        match self.near.get_mut(id.wrapping_sub(self.base) as usize) {
            Some(Some(value)) => Some(value),
            _ if self.far.is_empty() => None,
            _ => self.far.get_mut(&id),
        }
    }

    /// Whether the id was here once and has left.
    pub(super) fn is_retired(&self, id: u32) -> bool {
        let Some(bit) = id.checked_sub(self.origin) else { return false };
        self.retired.get(bit as usize / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    pub(super) fn insert(&mut self, id: u32, value: T) {
        if self.inserted == 0 {
            self.base = id.saturating_sub(GAP as u32 / 2);
            self.origin = self.base;
        }
        self.inserted += 1;
        let index = id.wrapping_sub(self.base) as usize;
        if id < self.base || index > GAP + 4 * self.inserted {
            self.far.insert(id, value);
            return;
        }
        while self.near.len() < index {
            self.near.push_back(None);
        }
        match self.near.get_mut(index) {
            Some(slot) => *slot = Some(value),
            None => self.near.push_back(Some(value)),
        }
    }

    /// Lets go of what is dead at the front. Ids that were never here leave with their neighbours, unmarked.
    pub(super) fn retire_front(&mut self, is_dead: impl Fn(&T) -> bool) {
        self.retire_before(u32::MAX, is_dead);
    }

    /// As [`Dense::retire_front`], up to an id.
    pub(super) fn retire_before(&mut self, id: u32, is_dead: impl Fn(&T) -> bool) {
        while let Some(slot) = self.near.front().filter(|_| self.base < id) {
            match slot {
                Some(value) if !is_dead(value) => return,
                Some(_) => self.mark_retired(self.base),
                None => {}
            }
            self.near.pop_front();
            self.base = self.base.saturating_add(1);
        }
    }

    /// The first id that is not dead, of the near ones.
    pub(super) fn first(&self, is_dead: impl Fn(&T) -> bool) -> u32 {
        let live = self.near.iter().position(|slot| slot.as_ref().is_some_and(|value| !is_dead(value)));
        self.base.saturating_add(live.unwrap_or(self.near.len()) as u32)
    }

    fn mark_retired(&mut self, id: u32) {
        let bit = (id - self.origin) as usize;
        if self.retired.len() <= bit / 64 {
            self.retired.resize(bit / 64 + 1, 0);
        }
        self.retired[bit / 64] |= 1 << (bit % 64);
    }

    /// Every entry that is here, by id; the far ones last.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let id = |index: usize| self.base.wrapping_add(index as u32);
        let near = self.near.iter().enumerate().filter_map(move |(index, slot)| Some((id(index), slot.as_ref()?)));
        near.chain(self.far.iter().map(|(id, value)| (*id, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_from_elsewhere_cost_nothing() {
        let mut table = Dense::new();
        for id in [5, u32::MAX, 0, 4_000_000_000, 6] {
            table.insert(id, id);
        }
        assert_eq!(table.iter().map(|(id, _)| id).collect::<Vec<_>>(), [0, 5, 6, 4_000_000_000, u32::MAX]);
        assert!(table.near.len() < 3 * GAP);
        assert_eq!(table.get(u32::MAX), Some(&u32::MAX));
    }

    #[test]
    fn the_dead_leave_and_are_remembered() {
        let mut table = Dense::new();
        for id in [100, 101, 103, 104] {
            table.insert(id, id);
        }
        table.retire_front(|id| *id < 104);
        assert!(table.is_retired(101) && !table.is_retired(102) && !table.is_retired(104));
        table.insert(102, 102);
        assert_eq!(table.get(102), Some(&102), "one that comes late is kept all the same");
        assert_eq!(table.get(101), None);
    }
}
