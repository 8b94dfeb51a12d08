//! D1, D3, and D2 at the end: what became of transactions.

use super::sound::two_chains;
use super::tale::{Q, Tale};
use crate::name::Xid;
use crate::op::Op;
use crate::property::Property;
use crate::reply::{Outcome, Reply};
use crate::verdict::Judgement;

#[test]
fn d1_an_acknowledged_commit_is_gone() {
    let mut tale = Tale::messages();
    let event = tale.append(1, 1);
    let xid = tale.event(event).xid;
    tale.wait(1_000);
    tale.say(2, Op::Resolve { xid }, Reply::Resolved(Outcome::Aborted));
    assert_eq!(tale.broken(), ["D1"]);
    let sentence = "b was told at 0.000 s that x12 had committed; at 1.000 s it is Aborted";
    assert_eq!(tale.sentence(Property::D1), sentence);
}

#[test]
fn d1_a_row_of_the_ledger_is_gone() {
    let mut tale = two_chains();
    tale.history.state.as_mut().expect("an end").ledger.remove(3);
    assert_eq!(tale.broken(), ["D1"]);
    assert_eq!(
        tale.sentence(Property::D1),
        "the effect of w2 step 2 was committed by x20, and is not in the ledger at the end"
    );
}

#[test]
fn d2_a_row_of_the_ledger_that_nobody_committed() {
    let mut tale = two_chains();
    let ledger = &mut tale.history.state.as_mut().expect("an end").ledger;
    let mut row = ledger[0];
    row.xid = Xid(99);
    ledger.push(row);
    assert_eq!(tale.broken(), ["D2"]);
    assert_eq!(
        tale.sentence(Property::D2),
        "the ledger has an effect of w1 step 1 by x99 at the end, which no committed transaction wrote"
    );
}

#[test]
fn d3_a_lost_reply_has_two_fates() {
    let mut tale = Tale::messages();
    let xid = Xid(12);
    tale.lose(1, Op::Append { queue: Q, payload: 1 }, Some(Outcome::Committed));
    tale.wait(1_000);
    tale.say(1, Op::Resolve { xid }, Reply::Resolved(Outcome::Aborted));
    assert_eq!(tale.broken(), ["D3"]);
    assert_eq!(tale.sentence(Property::D3), "x12 was found Committed at 0.000 s, and Aborted at 1.000 s");
}

#[test]
fn d3_nobody_asked_for_the_commit() {
    let mut tale = Tale::messages();
    tale.begin(1);
    tale.lose(1, Op::Append { queue: Q, payload: 1 }, Some(Outcome::Committed));
    assert_eq!(tale.broken(), ["D3"]);
    assert_eq!(
        tale.sentence(Property::D3),
        "the transaction of b in session s1 is said to have Committed, but nobody had asked for its commit"
    );
}

#[test]
fn d3_still_in_progress_is_no_answer() {
    let mut tale = Tale::messages();
    tale.lose(1, Op::Append { queue: Q, payload: 1 }, Some(Outcome::InProgress));
    assert_eq!(tale.broken(), [""; 0]);
    assert_eq!(tale.judged(Property::D3), Judgement::Unknown);
}
