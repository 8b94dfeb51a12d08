//! What meets what: in the recorder alone, and in calls.

use super::{Footprint, Recorder, Resource};
use crate::procedures::flows::{BEGIN, Flows, QUEUE, TICK};
use crate::store::locks::{LockKey, Mode};
use crate::store::transaction::Undo;
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{Key, Micros, Step, WorkerId};
use tourbillon_models::op::Op;

fn recorder() -> Recorder {
    let mut recorder = Recorder::default();
    recorder.start();
    recorder
}

/// What was noted while this happened.
fn noted(recorder: &Recorder, happens: impl FnOnce(&Recorder)) -> Footprint {
    let mut footprint = Footprint::default();
    recorder.take(&mut footprint);
    happens(recorder);
    recorder.take(&mut footprint);
    footprint
}

const ROW: Resource = Resource::Row(1, 7);
const ADVISORY: LockKey = LockKey::Advisory { class: 0, object: 0 };

#[test]
fn only_a_write_meets_anything_and_everything_meets_all() {
    let recorder = recorder();
    let read = noted(&recorder, |it| it.reads(ROW));
    let write = noted(&recorder, |it| it.writes(ROW));
    let other = noted(&recorder, |it| it.writes(Resource::Row(1, 8)));
    let everything = noted(&recorder, |it| it.writes(Resource::Everything));
    let nothing = Footprint::default();
    assert!(!read.meets(&read) && !nothing.meets(&write));
    assert!(read.meets(&write) && write.meets(&read) && write.meets(&write));
    assert!(!other.meets(&write) && !other.meets(&read));
    assert!(everything.meets(&nothing) && nothing.meets(&everything));
}

#[test]
fn what_was_taken_is_not_told_again_and_who_was_not_asked_notes_nothing() {
    let recorder = recorder();
    assert_eq!(noted(&recorder, |it| it.reads(ROW)).reads, [ROW]);
    assert_eq!(noted(&recorder, |_| ()), Footprint::default());
    let silent = noted(&Recorder::default(), |it| {
        it.holds(0, ROW);
        it.ends(0);
    });
    assert_eq!(silent, Footprint::default());
}

#[test]
fn who_ends_gives_back_what_only_he_holds() {
    let recorder = recorder();
    noted(&recorder, |it| {
        it.holds(3, ROW);
        it.holds(3, ROW);
        it.holds(4, Resource::Keys(2));
    });
    let in_part = noted(&recorder, |it| it.gives_back(3));
    let whole = noted(&recorder, |it| it.ends(3));
    let again = noted(&recorder, |it| it.ends(3));
    assert_eq!([&in_part.writes[..], &whole.writes, &again.writes], [&[ROW][..], &[ROW], &[]]);
    assert_eq!(noted(&recorder, |it| it.ends(4)).writes, [Resource::Keys(2)]);
}

#[test]
fn a_lock_for_many_meets_those_that_are_for_one_until_it_is_given_back() {
    let recorder = recorder();
    let asks = |slot, key, mode| noted(&recorder, |it| it.asks_for(slot, key, mode));
    let table = LockKey::Table(5);
    let (one, other) = (asks(0, table, Mode::AccessShare), asks(1, table, Mode::RowExclusive));
    let alone = asks(2, table, Mode::AccessExclusive);
    assert!(!one.meets(&other));
    assert!(alone.meets(&one) && alone.meets(&alone) && !alone.meets(&asks(2, LockKey::Table(6), Mode::Share)));
    let end = noted(&recorder, |it| it.ends(0));
    assert!(end.meets(&alone) && !end.meets(&other));
    assert!(asks(3, ADVISORY, Mode::AccessShare).meets(&asks(4, ADVISORY, Mode::AccessShare)));
}

#[test]
fn a_change_is_in_the_way_of_those_who_look_for_the_key_only_where_it_takes_or_frees_one() {
    let recorder = recorder();
    let shows = |change| noted(&recorder, |it| it.publishes(change)).writes;
    let (table, row) = (Resource::Table(1), Resource::Keys(1));
    for change in [Undo::Insert { table: 1, row: 7 }, Undo::Delete { table: 1, row: 7 }] {
        assert_eq!(shows(change), [table, ROW, row]);
    }
    assert_eq!(shows(Undo::Update { table: 1, row: 7 }), [table, ROW]);
    assert_eq!(shows(Undo::Append { table: 1, position: 7 }), [table]);
    assert_eq!(shows(Undo::Truncate { table: 1 }), [table]);
    assert_eq!(shows(Undo::Lock { key: ADVISORY, mode: Mode::Exclusive }), []);
}

const START: PlainOp = Op::Start { queue: QUEUE, key: Key(9), step: Step(0), state: 1 };

/// Until it commits, a change is in nobody's way who only reads.
#[test]
fn a_reader_meets_the_commit_and_not_the_change() {
    let mut flows = Flows::recording();
    let (writer, reader) = (flows.session(), flows.session());
    flows.call(writer, BEGIN);
    let read = flows.footprint(reader, Op::Peek { queue: QUEUE, table: 0 });
    let change = flows.footprint(writer, START);
    let commit = flows.footprint(writer, Op::Commit);
    assert!(!change.meets(&read), "{change:?} {read:?}");
    assert!(commit.meets(&read), "{commit:?} {read:?}");
}

/// Its extents do not say so, its snapshot does.
#[test]
fn a_tick_meets_the_end_of_whoever_appended() {
    for end in [Op::Commit, Op::Rollback] {
        let mut flows = Flows::recording();
        let (writer, ticker) = (flows.session(), flows.session());
        flows.call(writer, BEGIN);
        flows.call(writer, START);
        let tick = flows.footprint(ticker, TICK);
        assert!(flows.footprint(writer, end).meets(&tick), "{tick:?}");
    }
}

/// Workers who look for work in turn are in nobody's way, nor is he who lets them know that he lives.
#[test]
fn an_idle_claim_meets_neither_another_nor_a_heartbeat() {
    let mut flows = Flows::recording();
    let (one, other) = (flows.session(), flows.session());
    flows.start(one);
    let window = flows.claim(one, 1);
    let claim = Op::Claim { worker: WorkerId(2), dead_interval: Micros::from_secs(9), at: Micros(0) };
    let idle = flows.footprint(other, claim.clone());
    let again = flows.footprint(other, claim);
    let beats = Op::Heartbeat { worker: window.worker, token: window.token, at: Micros(0) };
    let beats = flows.footprint(one, beats);
    assert!(!idle.meets(&again) && !idle.meets(&beats), "{idle:?} {beats:?}");
    flows.start(one);
    let tick = flows.footprint(one, TICK);
    assert!(idle.meets(&tick), "{idle:?} {tick:?}");
}

/// Who waits, and who lets somebody in, meets everybody.
#[test]
fn waiting_and_waking_meet_everything() {
    let mut flows = Flows::recording();
    let (holder, waiter) = (flows.session(), flows.session());
    flows.call(holder, BEGIN);
    flows.call(holder, TICK);
    let waits = flows.footprint(waiter, TICK);
    let wakes = flows.footprint(holder, Op::Commit);
    assert!(waits.has_everything() && wakes.has_everything(), "{waits:?} {wakes:?}");
}
