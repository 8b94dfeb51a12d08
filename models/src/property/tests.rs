//! Tiny histories, told by hand: for each property one that is clean and one that breaks it, with its sentence.

mod arbitrary;
mod durability;
mod end;
mod lease;
mod log;
mod sound;
mod storage;
mod sweep;
mod tale;
mod window;
mod workflow;
