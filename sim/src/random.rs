//! Random streams: one for each purpose, addressed by (seed, name, index).
//!
//! A stream is not shared, so removing one draw of a plan moves no other. Ranges and shuffles are our own, so that a
//! seed means the same after a dependency's upgrade. Probabilities are ratios.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tourbillon_models::name::Micros;

pub struct Stream {
    rng: ChaCha8Rng,
}

impl Stream {
    /// Names are at most 16 bytes.
    pub fn new(seed: u64, name: &str, index: u64) -> Self {
        assert!(name.len() <= 16, "stream name {name:?} is longer than 16 bytes");
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&index.to_le_bytes());
        key[16..16 + name.len()].copy_from_slice(name.as_bytes());
        Stream { rng: ChaCha8Rng::from_seed(key) }
    }

    pub fn bits(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Half as many, at half the cost.
    pub fn half(&mut self) -> u32 {
        self.rng.next_u32()
    }

    /// Uniform in 0..n, up to a bias of n in 2⁶⁴.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// Uniform in low..=high.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Uniform in low..=high, in microseconds.
    pub fn span(&mut self, low: Micros, high: Micros) -> Micros {
        Micros(self.between(low.0, high.0))
    }

    /// As [`Stream::span`], of half as many random bits where these are enough: for what is drawn at every call.
    pub fn moment(&mut self, low: Micros, high: Micros) -> Micros {
        match u32::try_from(high.0 - low.0) {
            Ok(length) => low + Micros((u64::from(self.half()) * (u64::from(length) + 1)) >> 32),
            Err(_) => self.span(low, high),
        }
    }

    /// True `numerator` times out of `denominator`.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}
