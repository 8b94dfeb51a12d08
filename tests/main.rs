//! What the simulator caught, and what it must go on catching.
//!
//! Fixed seeds, no sleeps, nothing ignored. The commit's own seeds are swept by `.ci/run`.

mod stage;

mod designs;
mod determinism;
mod plans;
mod scenarios;

mod brute;
mod overlap;
mod planted;

mod capsules;
mod explore;
mod guards;
mod shrink;

mod check;
mod cli;
mod export;
mod fuzz;
mod history;
mod readme;
mod strategy;

mod chaos;
mod hold;
mod merge;
mod net;
mod parity;
mod postgres;
mod roles;
mod triggered;
