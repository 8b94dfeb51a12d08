//! Children and their parents by hand: unequal fates, concurrent ends, what is read and when it goes.

use crate::guard::Guard;
use crate::procedures::flows::{BEGIN, Flows, QUEUE, TICK, Window, doomed, ends, goes_to, handed_off, refused, spawns};
use crate::procedures::join::MAX_CHILDREN;
use alloc::vec;
use alloc::vec::Vec;
use tourbillon_models::name::{Consumer, EventId, Micros, WorkerId};
use tourbillon_models::op::{Decision, Op, Verb};
use tourbillon_models::reply::{Arrival, ChildOutcome, Event, LiveCounts, Refusal, Reply};
use tourbillon_models::state::DeadReason;

/// A parent that has so many children, whose first events are in this window; and the join's id.
#[track_caller]
fn family(flows: &mut Flows, slot: u8, children: u32) -> (u32, Window) {
    flows.start(slot);
    let window = flows.claim(slot, 1);
    let told = flows.hand_off(&window, spawns(&window.events[0], children));
    assert_eq!((told.children.len(), told.appended.len()), (children as usize, children as usize + 1));
    (told.appended[0], flows.claim(slot, 1))
}

fn results(flows: &mut Flows, window: &Window) -> Vec<(u16, ChildOutcome, u64)> {
    let read = Op::ReadResults { worker: window.worker, token: window.token };
    match flows.call(window.slot, read) {
        Reply::Results(found) => found.iter().map(|it| (it.index, it.outcome, it.result)).collect(),
        other => panic!("{other:?}"),
    }
}

fn completes(events: &[Event]) -> Vec<Decision> {
    events.iter().map(|event| ends(event, Verb::Complete, event.state)).collect()
}

#[test]
fn a_parent_goes_on_when_all_its_children_have_ended_and_is_told_how() {
    let mut flows = Flows::new(&[]);
    let slot = flows.session();
    let (join, window) = family(&mut flows, slot, 3);
    let [one, two, three] = window.events[..] else { panic!("three children") };
    let count = flows.call(slot, Op::Observe { queue: QUEUE });
    assert_eq!(count, Reply::Observed(LiveCounts { ready: 3, joining: 1, ..LiveCounts::default() }));
    let decisions = vec![ends(&one, Verb::Complete, 11), ends(&two, Verb::Fail, 12), ends(&three, Verb::Reject, 0)];
    assert_eq!(flows.hand_off(&window, decisions).resumed, [join]);

    let window = flows.claim(slot, 1);
    let parent = window.events[0];
    assert_eq!((parent.id.0, parent.arrival), (join, Arrival::Joined { join: EventId(join) }));
    let expected = [(0, ChildOutcome::Completed, 11), (1, ChildOutcome::Failed, 12), (2, ChildOutcome::Dead, 0)];
    assert_eq!(results(&mut flows, &window), expected);

    // Not by a retry, which reads them again.
    let mut again = goes_to(&parent, 2);
    (again.verb, again.attempt, again.max_attempts, again.arrival) = (Verb::Retry, 2, 3, parent.arrival);
    flows.hand_off(&window, vec![again]);
    let window = flows.claim(slot, 1);
    assert_eq!(results(&mut flows, &window), expected);
    flows.hand_off(&window, completes(&window.events));
    let state = flows.state();
    assert!(state.results.is_empty() && state.joins.is_empty() && state.workflows.is_empty());
}

#[test]
fn no_children_have_all_ended() {
    let mut flows = Flows::new(&[]);
    let slot = flows.session();
    flows.start(slot);
    let window = flows.claim(slot, 1);
    let told = flows.hand_off(&window, spawns(&window.events[0], 0));
    assert_eq!((told.resumed, told.children), (told.appended, vec![]));
    let window = flows.claim(slot, 1);
    assert_eq!(results(&mut flows, &window), []);
    assert!(flows.state().joins.is_empty());
}

#[test]
fn a_child_may_have_children() {
    let mut flows = Flows::new(&[]);
    let slot = flows.session();
    let (outer, window) = family(&mut flows, slot, 1);
    let inner = flows.hand_off(&window, spawns(&window.events[0], 2)).appended[0];
    let window = flows.claim(slot, 1);
    assert_eq!(flows.hand_off(&window, completes(&window.events)).resumed, [inner]);
    let window = flows.claim(slot, 1);
    assert_eq!(flows.hand_off(&window, completes(&window.events)).resumed, [outer]);
}

#[test]
fn the_last_children_of_two_batches_do_not_miss_each_other() {
    for removed in [&[][..], &[Guard::JoinLock]] {
        let mut flows = Flows::new(removed);
        let (one, two) = (flows.session(), flows.session());
        flows.start(one);
        let window = flows.claim(one, 1);
        let join = flows.hand_off(&window, spawns(&window.events[0], 2)).appended[0];
        let both = flows.claim(one, 1);
        flows.hand_off(&both, vec![goes_to(&both.events[0], 1), sleeps(&both.events[1], 1)]);
        let left = flows.claim(one, 1);
        let right = woken(&mut flows, two, 2);
        flows.call(one, BEGIN);
        assert_eq!(flows.hand_off(&left, completes(&left.events)).resumed, [0; 0]);
        let other = flows.try_hand_off(&right, completes(&right.events));
        flows.call(one, Op::Commit);
        let resumed = handed_off(other.unwrap_or_else(|| flows.resume(two))).resumed;
        assert_eq!(resumed == [join], removed.is_empty(), "{resumed:?}");
    }
}

fn sleeps(event: &Event, seconds: u64) -> Decision {
    Decision { verb: Verb::Sleep, delay: Micros::from_secs(seconds), ..goes_to(event, 1) }
}

/// A second later, the window of those who have slept until now.
fn woken(flows: &mut Flows, slot: u8, worker: u32) -> Window {
    flows.pass(1);
    flows.call(slot, TICK);
    flows.call(slot, Op::Drain { queue: QUEUE, limit: 10 });
    flows.claim(slot, worker)
}

/// 1. Somebody has ended a child of B, and is open.
/// 2. A second ends one of B and one of A, and waits for B; in one order he has A by then.
/// 3. A third ends one of A and one of B: in one order he waits for A. Else he has A and waits for B; the second is let in,
///    and each waits for the other.
#[test]
fn two_joins_are_locked_in_one_order() {
    for removed in [&[][..], &[Guard::SortedLocks]] {
        let mut flows = Flows::new(removed);
        let slots = [flows.session(), flows.session(), flows.session()];
        flows.call(slots[0], Op::Register { consumer: Consumer(0) });
        flows.start(slots[0]);
        flows.start(slots[0]);
        let window = flows.claim(slots[0], 1);
        flows.hand_off(&window, window.events.iter().flat_map(|event| spawns(event, 3)).collect());
        let window = flows.claim(slots[0], 1);
        let [a1, a2, a3, b1, b2, b3] = window.events[..] else { panic!("six children") };
        let apart = [(a1, 1), (b1, 1), (a2, 2), (b2, 2), (a3, 3), (b3, 3)];
        flows.hand_off(&window, apart.iter().map(|(event, seconds)| sleeps(event, *seconds)).collect());
        let windows = [1, 2, 3].map(|worker| woken(&mut flows, slots[worker as usize - 1], worker));
        let of = |window: &Window, order: [usize; 2]| completes(&order.map(|place| window.events[place]));

        flows.call(slots[0], BEGIN);
        let first = vec![goes_to(&windows[0].events[0], 1), of(&windows[0], [1, 0])[0]];
        flows.hand_off(&windows[0], first);
        assert_eq!(flows.try_hand_off(&windows[1], of(&windows[1], [1, 0])), None);
        assert_eq!(flows.try_hand_off(&windows[2], of(&windows[2], [0, 1])), None);
        flows.call(slots[0], Op::Commit);
        let mut replies = Vec::new();
        while let Some(slot) = flows.released().pop() {
            replies.extend(flows.try_resume(slot));
        }
        let deadlocks = replies.iter().filter(|reply| **reply == Reply::Refused(Refusal::Deadlock)).count();
        assert_eq!((replies.len(), deadlocks), (2, removed.len()), "{replies:?}");
    }
}

#[test]
fn what_a_dead_child_becomes_counts_for_nothing_more() {
    for removed in [&[][..], &[Guard::JoinDistinct]] {
        let mut flows = Flows::new(removed);
        let slot = flows.session();
        let (join, window) = family(&mut flows, slot, 2);
        let [dead, alive] = window.events[..] else { panic!("two children") };
        flows.hand_off(&window, vec![ends(&dead, Verb::Reject, 0), sleeps(&alive, 1)]);
        let replay = Op::ReplayDeadLetter { consumer: Consumer(0), event: dead.id };
        assert!(matches!(flows.call(slot, replay), Reply::Replayed { .. }));
        let window = flows.claim(slot, 1);
        let resumed = flows.hand_off(&window, completes(&window.events)).resumed;
        assert_eq!(resumed == [join], !removed.is_empty(), "the other child is still asleep");
    }
}

#[test]
fn a_dead_letter_reports() {
    for removed in [&[][..], &[Guard::DeadLetterReports]] {
        let mut flows = Flows::new(removed);
        let slot = flows.session();
        let (join, window) = family(&mut flows, slot, 1);
        let resumed = flows.hand_off(&window, vec![ends(&window.events[0], Verb::Reject, 0)]).resumed;
        assert_eq!(resumed == [join], removed.is_empty());
    }
}

#[test]
fn results_stay_until_they_are_read() {
    for removed in [&[][..], &[Guard::ResultsUntilRead]] {
        let mut flows = Flows::new(removed);
        let slot = flows.session();
        let (_, window) = family(&mut flows, slot, 2);
        flows.hand_off(&window, completes(&window.events));
        let window = flows.claim(slot, 1);
        assert_eq!(results(&mut flows, &window).len(), if removed.is_empty() { 2 } else { 0 });
    }
}

#[test]
fn there_is_an_end_to_how_many_children_one_may_have() {
    let mut flows = Flows::new(&[]);
    let slot = flows.session();
    flows.start(slot);
    let window = flows.claim(slot, 1);
    let many = |count: usize| spawns(&window.events[0], count as u32);
    let refusal = flows.try_hand_off(&window, many(MAX_CHILDREN + 1)).and_then(refused);
    assert_eq!(refusal, Some(Refusal::LimitExceeded));
    assert_eq!(flows.state().workflows.len(), 1, "nothing is kept");
    assert_eq!(flows.hand_off(&window, many(MAX_CHILDREN)).children.len(), MAX_CHILDREN);
    let window = flows.claim(slot, 1);
    assert_eq!(flows.hand_off(&window, completes(&window.events)).resumed.len(), 1);
}

#[test]
fn results_are_for_who_has_the_window() {
    let mut flows = Flows::new(&[]);
    let slot = flows.session();
    let (_, window) = family(&mut flows, slot, 1);
    let read = Op::ReadResults { worker: WorkerId(2), token: window.token };
    assert_eq!(refused(flows.call(slot, read)), Some(Refusal::StaleToken));
}

/// A parent that cannot go on has one child, and one that can has another; both are in the window.
fn two_families(removed: &[Guard]) -> (Flows, u8, [u32; 2], Window) {
    let mut flows = Flows::new(removed);
    let slot = flows.session();
    flows.start(slot);
    flows.start(slot);
    let window = flows.claim(slot, 1);
    let [bad, good] = window.events[..] else { panic!("two have begun") };
    let mut decisions = spawns(&bad, 1);
    decisions[0] = doomed(decisions[0]);
    decisions.extend(spawns(&good, 1));
    let appended = flows.hand_off(&window, decisions).appended;
    let window = flows.claim(slot, 1);
    (flows, slot, [appended[0], appended[2]], window)
}

#[test]
fn a_parent_that_cannot_go_on_is_a_dead_letter_and_keeps_no_child() {
    let (mut flows, _, [bad, good], window) = two_families(&[]);
    let told = flows.hand_off(&window, completes(&window.events));
    assert_eq!((told.resumed, told.undeliverable), (vec![good], vec![bad]));
    let state = flows.state();
    let letter = state.dead_letters[0];
    assert_eq!((letter.event.0, letter.reason), (bad, DeadReason::Undeliverable));
    assert_eq!(letter.arrival, Arrival::Joined { join: EventId(bad) });
    assert_eq!((state.workflows.len(), state.joins.len()), (1, 0));
    assert_eq!(state.results.len(), 2, "whoever replays it reads what its child left");

    let (mut flows, _, _, window) = two_families(&[Guard::DrainPoison]);
    let reply = flows.try_hand_off(&window, completes(&window.events)).expect("it does not wait");
    assert_eq!(refused(reply), Some(Refusal::CheckViolation), "of an innocent child");
}

/// The children are asleep, and cannot be woken.
#[test]
fn a_drain_does_not_fail_for_parents_that_cannot_go_on() {
    for removed in [&[][..], &[Guard::DeadLetterReports]] {
        let (mut flows, slot, [bad, good], window) = two_families(removed);
        let asleep =
            |event: &Event| Decision { verb: Verb::Sleep, delay: Micros::from_secs(1), ..doomed(goes_to(event, 1)) };
        let timers = flows.hand_off(&window, window.events.iter().map(asleep).collect()).appended;
        flows.pass(2);
        flows.call(slot, TICK);
        let reply = flows.call(slot, Op::Drain { queue: QUEUE, limit: 10 });
        let Reply::Drained { dead, resumed, undeliverable, .. } = reply else { panic!("{reply:?}") };
        assert_eq!(dead, timers);
        let told = (vec![good], vec![bad]);
        assert_eq!((resumed, undeliverable), if removed.is_empty() { told } else { (vec![], vec![]) });
    }
}

/// The children's window has killed two processes.
#[test]
fn a_hand_out_does_not_fail_for_a_parent_that_cannot_go_on() {
    let (mut flows, slot, [bad, good], window) = two_families(&[]);
    let mut token = window.token;
    let mut worker = window.worker;
    for next in [2, 1] {
        flows.pass(60);
        let claim = Op::Claim { worker: WorkerId(next), dead_interval: Micros::from_secs(9), at: Micros(0) };
        let reply = flows.call(slot, claim);
        let Reply::Claimed { token: taken, .. } = reply else { panic!("{reply:?}") };
        (token, worker) = (taken, WorkerId(next));
    }
    let reply = flows.call(slot, Op::HandOut { worker, token, max_tries: 0 });
    let Reply::HandedOut { dead, resumed, undeliverable, .. } = reply else { panic!("{reply:?}") };
    assert_eq!((dead.len(), resumed, undeliverable), (2, vec![good], vec![bad]));
}

/// A parent, its child and its grandchild: neither of the two can go on.
#[test]
fn what_cannot_go_on_is_reported_upwards() {
    let mut flows = Flows::new(&[]);
    let slot = flows.session();
    flows.start(slot);
    let mut joins = Vec::new();
    for last in [1, 2] {
        let window = flows.claim(slot, 1);
        let mut decisions = spawns(&window.events[0], last);
        decisions[0] = doomed(decisions[0]);
        joins.insert(0, flows.hand_off(&window, decisions).appended[0]);
    }
    let window = flows.claim(slot, 1);
    let told = flows.hand_off(&window, completes(&window.events));
    assert_eq!((told.resumed, told.undeliverable), (vec![], joins.clone()));
    let state = flows.state();
    assert!(state.workflows.is_empty() && state.joins.is_empty());
    let parents: Vec<_> = state.dead_letters.iter().map(|row| row.parent.map(|parent| parent.join.0)).collect();
    assert_eq!(parents, [None, Some(joins[1])], "by id: the grandparent's letter first");
}

/// Somebody has the grandparent's join: who would wait for it has locks of his own, so he begins anew.
#[test]
fn a_report_that_goes_on_up_does_not_wait() {
    let mut flows = Flows::new(&[]);
    let (one, two) = (flows.session(), flows.session());
    let (outer, window) = family(&mut flows, one, 2);
    let [parent, other] = window.events[..] else { panic!("two children") };
    let mut decisions = spawns(&parent, 1);
    decisions[0] = doomed(decisions[0]);
    decisions.push(goes_to(&other, 1));
    flows.hand_off(&window, decisions);
    let window = flows.claim(one, 1);
    let (ours, theirs): (Vec<Event>, Vec<Event>) =
        window.events.iter().copied().partition(|event| event.workflow != other.workflow);
    assert_eq!((ours.len(), theirs.len()), (1, 1));
    let sleeps = Decision { verb: Verb::Sleep, delay: Micros::from_secs(1), ..doomed(goes_to(&theirs[0], 1)) };
    flows.hand_off(&window, vec![goes_to(&ours[0], 1), sleeps]);
    let window = flows.claim(one, 1);
    flows.pass(2);
    flows.call(two, TICK);
    flows.call(two, BEGIN);
    let reply = flows.call(two, Op::Drain { queue: QUEUE, limit: 10 });
    assert!(matches!(&reply, Reply::Drained { dead, .. } if dead.len() == 1), "{reply:?}");
    let reply = flows.try_hand_off(&window, completes(&window.events)).expect("it does not wait");
    assert_eq!(refused(reply), Some(Refusal::LockNotAvailable));
    flows.call(two, Op::Commit);
    let told = flows.hand_off(&window, completes(&window.events));
    assert_eq!((told.undeliverable.len(), told.resumed), (1, vec![outer]));
}
