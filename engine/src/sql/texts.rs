//! The text of each statement on the engine, for one schema.
//!
//! Every column is cast to one of the plain types of [`super::value::Value`].

use super::install::in_schema;
use crate::guard::{Guard, Guards};
use alloc::format;
use alloc::string::String;

/// Evaluated after the function in the `from` clause has returned.
macro_rules! and_xid {
    ($select:literal) => {
        concat!($select, ", pg_current_xact_id_if_assigned()::text::int8 as transaction")
    };
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Texts {
    pub create_queue: String,
    pub subscribe: String,
    pub append: String,
    pub start: String,
    pub emit: String,
    pub effect: String,
    pub register: String,
    pub heartbeat: String,
    pub claim: String,
    pub take_over: String,
    pub read: String,
    pub read_results: String,
    pub hand_out: String,
    pub hold: String,
    pub handoff: String,
    pub replay_dead_letter: String,
    pub tick: String,
    pub rotate: String,
    pub schedule: String,
    pub cancel: String,
    pub drain: String,
    pub rotate_timers: String,
    pub expire_waits: String,
    pub rotate_audit: String,
    pub observe: String,
    pub peek: String,
    pub lock_table: String,
    pub resolve: String,
}

impl Texts {
    pub fn new(schema: &str, guards: Guards) -> Texts {
        // The sound functions have no such parameter.
        let clock = match guards.on(Guard::ServerClock) {
            true => "",
            false => ", timestamptz 'epoch' + $3::int8 * interval '1 microsecond'",
        };
        let text = |select: &str, from: &str| in_schema(&format!("{select} from tourbillon.{from}"), schema);
        Texts {
            create_queue: text(and_xid!("select null"), "create_queue($1, $2)"),
            subscribe: text(and_xid!("select cursor"), "subscribe($1, $2)"),
            append: text(and_xid!("select event_id, event_table"), "append($1, $2)"),
            start: text(and_xid!("select workflow_id, event_id, event_table"), "start($1, $2, $3, $4)"),
            emit: text(and_xid!("select answer, is_repeated, event_id, event_table"), "emit($1, $2, $3, $4, $5, $6)"),
            effect: in_schema(
                "insert into tourbillon.ledger (workflow_id, sequence, step, xid) \
                 values ($1, $2, $3, pg_current_xact_id()) returning null, xid::text::int8",
                schema,
            ),
            register: text(and_xid!("select worker_id"), "register($1)"),
            heartbeat: text(and_xid!("select null"), &format!("heartbeat($1, $2{clock})")),
            claim: text(
                and_xid!("select token, prev_tick, next_tick, victim, isolated"),
                &format!("claim($1, $2::int8 * interval '1 microsecond'{clock})"),
            ),
            take_over: text(
                and_xid!("select token, prev_tick, next_tick, victim, isolated"),
                &format!("take_over($1, $2::int8 * interval '1 microsecond'{clock})"),
            ),
            read: text(
                "select event_id, xid::text::int8, workflow_id, sequence, step, attempt, state, arrival, payload",
                "read($1, $2, $3, $4)",
            ),
            read_results: text("select join_id, child_index, outcome, result", "read_results($1, $2)"),
            hand_out: text(
                and_xid!(
                    "select tries, dead, resumed, undeliverable, event_table, event_id, xid::text::int8, workflow_id, sequence, step, \
                     attempt, state, arrival, payload"
                ),
                "hand_out($1, $2, $3)",
            ),
            hold: text(and_xid!("select null"), &format!("hold($1, $2{clock})")),
            handoff: text(
                and_xid!("select appended, children, resumed, undeliverable, event_table, timer_table"),
                "handoff($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
            ),
            replay_dead_letter: text(
                and_xid!("select workflow_id, event_id, event_table"),
                "replay_dead_letter($1, $2)",
            ),
            tick: text(and_xid!("select tick, (extract(epoch from at) * 1000000)::int8, snapshot::text"), "tick($1)"),
            rotate: text(
                and_xid!("select rotated, event_table, horizon"),
                "rotate($1, $2::int8 * interval '1 microsecond')",
            ),
            schedule: text(
                and_xid!("select event_id, (extract(epoch from due) * 1000000)::int8, timer_table"),
                "schedule($1, $2, $3::int8 * interval '1 microsecond')",
            ),
            cancel: text(
                and_xid!("select cancelled"),
                "cancel($1, $2, timestamptz 'epoch' + $3::int8 * interval '1 microsecond')",
            ),
            drain: text(
                and_xid!("select tick, fired, dead, resumed, undeliverable, event_table, is_done"),
                "drain($1, $2)",
            ),
            rotate_timers: text(
                and_xid!("select rotated, timer_table, moved"),
                "rotate_timers($1, $2::int8 * interval '1 microsecond')",
            ),
            expire_waits: text(and_xid!("select resumed, undeliverable, event_table"), "expire_waits($1, $2)"),
            rotate_audit: text(
                and_xid!("select rotated, audit_table"),
                "rotate_audit($1::int8 * interval '1 microsecond', $2::int8 * interval '1 microsecond')",
            ),
            observe: text(and_xid!("select ready, sleeping, waiting, joining"), "observe($1)"),
            peek: text(and_xid!("select count"), "peek($1, $2)"),
            lock_table: text(and_xid!("select null"), "lock_table($1, $2, $3)"),
            resolve: text(and_xid!("select outcome"), "resolve($1::int8::text::xid8)"),
        }
    }
}
