//! What the fuzz targets do with their bytes, so that `cargo test` can do it with those that are kept.
//!
//! Each function takes any bytes, and panics if something is wrong: a plan that the sound engine does not survive
//! ([`plan`]), a text that is read otherwise than it was written ([`history`]), a history about which the checker and the
//! definitions differ ([`checker`]), a statement or a row that is not understood ([`mapping`]). Not here: libFuzzer.

pub mod checker;
pub mod edit;
pub mod history;
pub mod mapping;
pub mod plan;

/// Bytes, taken from the front; zeros when they are used up.
#[derive(Clone, Copy)]
pub struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    pub const fn new(bytes: &'b [u8]) -> Self {
        Bytes(bytes)
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn pair(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn word(&mut self) -> u32 {
        u32::from(self.pair()) | u32::from(self.pair()) << 16
    }

    pub fn long(&mut self) -> u64 {
        u64::from(self.word()) | u64::from(self.word()) << 32
    }

    /// One of so many; 0 of none.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.pair()) % count.max(1)
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Small as a rule, and any at times.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..240 => u64::from(byte) % 24,
            240..248 => self.pair().into(),
            248..252 => self.word().into(),
            _ => self.long(),
        }
    }
}
