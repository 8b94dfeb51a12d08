//! A cheap hash for what is small, or a hash already.

use std::hash::{BuildHasherDefault, Hasher};

pub type Mixed = BuildHasherDefault<Mix>;

#[derive(Clone, Copy, Default)]
pub struct Mix(u64);

/// An odd number with its bits all over.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(FACTOR);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
}
