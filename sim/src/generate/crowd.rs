//! A crowd: many families at once, whose children end in windows of many in no order, while somebody who has handed off
//! some of them stands still before the commit.
//!
//! 1. One worker has the joins of some families for itself, and stands still. 2. Others end children of these and of others
//!    in an order of their own, and wait with the joins in hand that they came to first. 3. The first one goes on. What it
//!    is not: a plan about anything else; the rest is drawn as ever.

use super::START;
use super::options::Options;
use crate::plan::{CallKind, Phase, PlannedEffect, PlannedFault, When};
use crate::random::Stream;
use tourbillon_models::name::{Micros, Process};

/// For some seeds.
pub fn gathers(seed: u64) -> bool {
    Stream::new(seed, "crowd", 0).chance(1, 2)
}

/// All come at the beginning; there are enough who work, what they are given is much, and little else goes wrong.
pub fn prepare(seed: u64, options: &mut Options) {
    let mut stream = Stream::new(seed, "crowd", 1);
    (options.workers, options.standbys) = (4, 0);
    (options.items, options.size) = (stream.between(2, 5), options.shape.crowd_size);
    options.arrivals_end = START + Micros::from_millis(50);
    options.tick_interval = stream.span(Micros::from_millis(60), Micros::from_millis(160));
    options.poll_interval = stream.span(Micros::from_millis(15), Micros::from_millis(40));
    options.drain_interval = stream.span(Micros::from_millis(15), Micros::from_millis(40));
    options.drain_limit = 100;
    options.work_duration = stream.span(Micros(0), Micros::from_millis(4));
    options.faults.retain(|_| stream.chance(1, 5));
}

/// Between the handoff and the commit, for longer than the others need to come.
pub fn standstills(seed: u64, workers: &[Process]) -> impl Iterator<Item = PlannedFault> {
    let mut stream = Stream::new(seed, "crowd", 2);
    (0..stream.between(10, 20)).map(move |_| {
        let (process, nth) = (*stream.choose(workers), stream.between(1, 8) as u32);
        let when = When::Point { process, call: CallKind::Handoff, nth, phase: Phase::After, from: Micros(0) };
        let duration = stream.span(Micros::from_millis(150), Micros::from_millis(900));
        PlannedFault { when, what: PlannedEffect::Pause { duration }, kind: None }
    })
}
