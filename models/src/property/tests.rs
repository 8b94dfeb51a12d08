//! Tiny histories, told by hand: for each property one that is clean and one that breaks it, with its sentence.

mod arbitrary;
mod dead_letter;
mod deadlock;
mod durability;
mod emit;
mod end;
mod flaky;
mod isolation;
mod join;
mod lease;
mod log;
mod meeting;
mod observe;
mod place;
mod retry;
mod server_clock;
mod sound;
mod storage;
mod suffix;
mod sweep;
mod tale;
mod timer;
mod wait;
mod window;
mod workflow;
