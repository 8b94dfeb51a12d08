//! The text of each statement on the engine, for one schema.
//!
//! Every column is cast to one of the plain types of [`super::value::Value`].

use super::install::in_schema;
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
    pub effect: String,
    pub register: String,
    pub heartbeat: String,
    pub claim: String,
    pub read: String,
    pub hold: String,
    pub handoff: String,
    pub tick: String,
    pub rotate: String,
    pub peek: String,
    pub lock_table: String,
    pub resolve: String,
}

impl Texts {
    pub fn new(schema: &str) -> Texts {
        let text = |select: &str, from: &str| in_schema(&format!("{select} from tourbillon.{from}"), schema);
        Texts {
            create_queue: text(and_xid!("select null"), "create_queue($1, $2)"),
            subscribe: text(and_xid!("select cursor"), "subscribe($1, $2)"),
            append: text(and_xid!("select event_id, event_table"), "append($1, $2)"),
            start: text(and_xid!("select workflow_id, event_id, event_table"), "start($1, $2, $3, $4)"),
            effect: in_schema(
                "insert into tourbillon.ledger (workflow_id, sequence, step, xid) \
                 values ($1, $2, $3, pg_current_xact_id()) returning null, xid::text::int8",
                schema,
            ),
            register: text(and_xid!("select worker_id"), "register($1)"),
            heartbeat: text(and_xid!("select null"), "heartbeat($1, $2)"),
            claim: text(
                and_xid!("select token, prev_tick, next_tick, victim"),
                "claim($1, $2::int8 * interval '1 microsecond')",
            ),
            read: text(
                "select event_id, xid::text::int8, workflow_id, sequence, step, attempt, state",
                "read($1, $2, $3, $4)",
            ),
            hold: text(and_xid!("select null"), "hold($1, $2)"),
            handoff: text(and_xid!("select appended, event_table"), "handoff($1, $2, $3, $4, $5, $6, $7, $8)"),
            tick: text(and_xid!("select tick, (extract(epoch from at) * 1000000)::int8, snapshot::text"), "tick($1)"),
            rotate: text(
                and_xid!("select rotated, event_table, horizon"),
                "rotate($1, $2::int8 * interval '1 microsecond')",
            ),
            peek: text(and_xid!("select count"), "peek($1, $2)"),
            lock_table: text(and_xid!("select null"), "lock_table($1, $2, $3)"),
            resolve: text(and_xid!("select outcome"), "resolve($1::int8::text::xid8)"),
        }
    }
}
