//! Unique indexes: from a row's key to its place.
//!
//! Two kinds, by how keys come and go. What an index does *not* know is who sees the row.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::{Bound, RangeBounds};

/// An index on keys of one type.
pub trait Index<K>: Default {
    fn clear(&mut self);
    fn get(&self, key: K) -> Option<u32>;
    /// Replaces the place of a key that is there already.
    fn insert(&mut self, key: K, place: u32);
    fn remove(&mut self, key: K);
    /// The places of a range of keys, in their order.
    fn range(&self, keys: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = u32>;
}

/// For keys in any order. Cost: logarithmic.
pub type Any<K> = BTreeMap<K, u32>;

impl<K: Ord> Index<K> for Any<K> {
    fn clear(&mut self) {
        self.clear();
    }

    fn get(&self, key: K) -> Option<u32> {
        self.get(&key).copied()
    }

    fn insert(&mut self, key: K, place: u32) {
        self.insert(key, place);
    }

    fn remove(&mut self, key: K) {
        self.remove(&key);
    }

    fn range(&self, keys: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = u32> {
        self.range(keys).map(|(_, place)| *place)
    }
}

/// A key that is a number, in the order of the keys.
pub trait Ordinal: Copy {
    fn ordinal(self) -> u64;
}

/// For numbered keys that come at the upper end and go at the lower one, which is cheap; anywhere else it costs a move of
/// the rest. Where few numbers are missing, a key is looked for where it would be if none were.
pub struct Ascending<K> {
    /// Sorted from `first` on; what lies before is gone.
    entries: Vec<(u64, u32)>,
    first: usize,
    keys: PhantomData<K>,
}

impl<K> Default for Ascending<K> {
    fn default() -> Self {
        Ascending { entries: Vec::new(), first: 0, keys: PhantomData }
    }
}

impl<K: Ordinal> Ascending<K> {
    fn entries(&self) -> &[(u64, u32)] {
        &self.entries[self.first..]
    }

    /// Where the key is, or belongs.
    fn find(&self, key: K) -> Result<usize, usize> {
        let (key, entries) = (key.ordinal(), self.entries());
        let Some((last, _)) = entries.last() else { return Err(0) };
        if key > *last {
            return Err(entries.len());
        }
        match entries.len().checked_sub(1 + (last - key) as usize) {
            Some(guess) if entries[guess].0 == key => Ok(guess),
            _ => entries.binary_search_by_key(&key, |(other, _)| *other),
        }
    }
}

impl<K: Ordinal> Index<K> for Ascending<K> {
    fn clear(&mut self) {
        self.entries.clear();
        self.first = 0;
    }

    fn get(&self, key: K) -> Option<u32> {
        Some(self.entries()[self.find(key).ok()?].1)
    }

    fn insert(&mut self, key: K, place: u32) {
        match self.find(key) {
            Ok(index) => self.entries[self.first + index].1 = place,
            Err(index) => self.entries.insert(self.first + index, (key.ordinal(), place)),
        }
    }

    fn remove(&mut self, key: K) {
        match self.find(key) {
            Ok(0) => self.first += 1,
            Ok(index) => _ = self.entries.remove(self.first + index),
            Err(_) => {}
        }
        // What is gone is cleared away once it is half of all, so that a removal costs little on average.
        if self.first > self.entries.len() / 2 {
            self.entries.drain(..self.first);
            self.first = 0;
        }
    }

    fn range(&self, keys: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = u32> {
        let place = |key: &K| self.find(*key);
        let start = match keys.start_bound() {
            Bound::Unbounded => 0,
            Bound::Included(key) => place(key).unwrap_or_else(|above| above),
            Bound::Excluded(key) => place(key).map_or_else(|above| above, |at| at + 1),
        };
        let end = match keys.end_bound() {
            Bound::Unbounded => self.entries().len(),
            Bound::Included(key) => place(key).map_or_else(|above| above, |at| at + 1),
            Bound::Excluded(key) => place(key).unwrap_or_else(|above| above),
        };
        self.entries()[start..end.max(start)].iter().map(|(_, place)| *place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Ordinal for u32 {
        fn ordinal(self) -> u64 {
            self.into()
        }
    }

    /// The two kinds agree, whatever comes and goes.
    #[test]
    fn both_kinds_hold_the_same() {
        let (mut any, mut ascending) = (Any::<u32>::default(), Ascending::<u32>::default());
        let mut bits = 1u32;
        for place in 0..2_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (key, from, to) = (bits >> 26, bits >> 20 & 63, bits >> 14 & 63);
            if bits & 0x100 == 0 {
                Index::insert(&mut any, key, place);
                ascending.insert(key, place);
            } else {
                Index::remove(&mut any, key);
                ascending.remove(key);
            }
            assert_eq!(Index::get(&any, from), ascending.get(from));
            let (low, high) = (from.min(to), from.max(to));
            let places = |index: &mut dyn Iterator<Item = u32>| index.collect::<Vec<u32>>();
            assert_eq!(places(&mut Index::range(&any, low..high)), places(&mut ascending.range(low..high)));
            assert_eq!(places(&mut Index::range(&any, low..=high)), places(&mut ascending.range(low..=high)));
            assert_eq!(places(&mut Index::range(&any, ..).rev()), places(&mut ascending.range(..).rev()));
        }
    }
}
