//! O1.

use super::meeting::{ASK, HEARD, SPLIT};
use super::sound::assert_holds;
use super::tale::{Q, Tale, Who};
use crate::op::Op;
use crate::property::Property;
use crate::reply::{LiveCounts, Reply};

fn observe(tale: &mut Tale, who: Who, ready: u32, waiting: u32, joining: u32) {
    let counts = LiveCounts { ready, sleeping: 0, waiting, joining };
    tale.say(who, Op::Observe { queue: Q }, Reply::Observed(counts));
}

#[test]
fn counts_are_what_the_history_says() {
    let mut tale = Tale::meeting();
    let (_, lease, event) = tale.at(10 + ASK, 1);
    tale.handoff(0, lease, &[event]);
    observe(&mut tale, 2, 0, 1, 0);
    let (_, lease, event) = tale.at(20 + SPLIT, 2);
    tale.handoff(0, lease, &[event]);
    observe(&mut tale, 2, 2, 1, 1);
    tale.begin(3);
    tale.start(30 + HEARD);
    tale.say(
        2,
        Op::Observe { queue: Q },
        Reply::Observed(LiveCounts { ready: 2, sleeping: 0, waiting: 1, joining: 1 }),
    );
    assert_holds(&tale);
    assert!(tale.verdict().of(Property::O1).exercised >= 2);
}

#[test]
fn o1_a_view_counts_what_has_ended() {
    let mut tale = Tale::meeting();
    let (_, lease, event) = tale.at(10 + HEARD, 1);
    tale.handoff(0, lease, &[event]);
    observe(&mut tale, 2, 1, 0, 0);
    assert_eq!(tale.broken(), ["O1"]);
    let sentence = "c was told at 0.000 s that of the workflows of q0 1 are ready, 0 asleep, 0 waiting and 0 joining; \
                    and 0 are ready, 0 asleep, 0 waiting and 0 joining";
    assert_eq!(tale.sentence(Property::O1), sentence);
}
