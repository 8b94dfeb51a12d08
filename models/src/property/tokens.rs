//! The tokens that committed claims were given: a set of random numbers that only grows.
//!
//! Open addressing; the numbers are random already, so one multiplication spreads them. Not a map: who holds a token is
//! the lease's business.

use alloc::vec;
use alloc::vec::Vec;

#[derive(Default)]
pub(super) struct Tokens {
    /// 0 stands for an empty slot; the length is a power of two, at most half full.
    slots: Vec<u64>,
    len: usize,
    has_zero: bool,
}

impl Tokens {
    pub(super) fn clear(&mut self) {
        if self.len > 0 {
            self.slots.fill(0);
        }
        self.len = 0;
        self.has_zero = false;
    }

    pub(super) fn contains(&self, token: u64) -> bool {
        match token {
            0 => self.has_zero,
            _ => !self.slots.is_empty() && self.slots[self.slot(token)] == token,
        }
    }

    pub(super) fn insert(&mut self, token: u64) {
        if token == 0 {
            self.has_zero = true;
            return;
        }
        if self.slots.len() < 2 * (self.len + 1) {
            self.grow();
        }
        let slot = self.slot(token);
        self.len += usize::from(self.slots[slot] == 0);
        self.slots[slot] = token;
    }

    /// Where the token is, or where it would go.
    fn slot(&self, token: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (token.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        while self.slots[slot] != 0 && self.slots[slot] != token {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        let len = (2 * self.slots.len()).max(64);
        let old = core::mem::replace(&mut self.slots, vec![0; len]);
        for token in old.into_iter().filter(|token| *token != 0) {
            let slot = self.slot(token);
            self.slots[slot] = token;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_inserted_and_nothing_else() {
        let mut tokens = Tokens::default();
        assert!(!tokens.contains(7));
        for token in 0..1_000 {
            tokens.insert(token << 3);
        }
        assert!((0..1_000).all(|token| tokens.contains(token << 3)));
        assert!(!tokens.contains(9));
        tokens.clear();
        assert!(!tokens.contains(8) && !tokens.contains(0));
    }
}
