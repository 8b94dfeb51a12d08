//! How tales begin: a window with something in it, in somebody's hands.

use super::tale::Tale;
use crate::name::{EventId, Token, WorkerId};

/// w1 is at its first step (event 1), in the window (1,2] that lease-1 (process a) has read.
pub(super) fn first_step() -> (Tale, (WorkerId, Token), EventId) {
    let mut tale = Tale::workflows();
    let worker = tale.register(0);
    let event = tale.start(1);
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[event]);
    (tale, (worker, token), event)
}

/// Worker-1 (process a) holds (1,2] with one event in it; lease-2 (process b) has nothing.
pub(super) fn two_workers() -> (Tale, (WorkerId, Token), WorkerId, EventId) {
    let mut tale = Tale::messages();
    let (first, second) = (tale.register(0), tale.register(1));
    let event = tale.append(2, 1);
    tale.tick();
    let token = tale.claim(0, first, 1, 2);
    tale.read(0, (first, token), &[event]);
    (tale, (first, token), second, event)
}
