//! Marks: what a transaction leaves behind, after everything else that it does, so that its fate is known for certain.
//!
//! A mark is a row that is there if and only if its transaction committed, and holds what the call was answered. That tells
//! more than the transaction's number: after a crash of the server that may be given to another, and of a transaction of one
//! call nobody knows it whose only reply was lost.

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;
use tourbillon_engine::sql::value::Value;
use tourbillon_models::history::PlainOp;
use tourbillon_models::op::Op;

/// The table, in a round's schema.
pub fn table(schema: &str) -> String {
    format!("create table {schema}.chaos_mark (mark int8 not null, reply text not null)")
}

/// Whether a call has a mark if it is the first of its transaction that could have one.
pub const fn leaves_one(op: &PlainOp) -> bool {
    match op {
        Op::Effect { .. } | Op::Read { .. } | Op::ReadResults { .. } | Op::Observe { .. } | Op::Peek { .. } => false,
        Op::LockTable { .. } | Op::Resolve { .. } => false,
        op => !op.is_transaction_control(),
    }
}

/// A statement that does the same, and leaves a mark, which is its parameter of that number. A query that changes data
/// below another is run after it, so that the call begins in a transaction that has written nothing.
pub fn leave(text: &str, schema: &str, parameter: usize) -> String {
    // Its name is that of no column.
    format!(
        "with chaos_answer as materialized ({text}), chaos_marked as (insert into {schema}.chaos_mark (mark, reply) \
         select ${parameter}::int8, to_json(chaos_answer)::text from chaos_answer) \
         select * from chaos_answer"
    )
}

/// What asks for the reply of a mark.
pub fn find(schema: &str) -> String {
    format!("select reply from {schema}.chaos_mark where mark = $1")
}

/// A reply as the driver would have read it. The form of a value tells its type: no text of a reply looks like a uuid.
pub fn values(reply: &str) -> serde_json::Result<Vec<Value>> {
    let columns: Columns = serde_json::from_str(reply)?;
    Ok(columns.0.iter().map(value).collect())
}

/// In their order, and some of the same name.
struct Columns(Vec<Json>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Columns;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while map.next_key::<IgnoredAny>()?.is_some() {
                    columns.push(map.next_value()?);
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

fn value(json: &Json) -> Value {
    match json {
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number.as_i64().map_or(Value::Null, Value::Int8),
        Json::String(text) => uuid(text).map_or_else(|| Value::Text(text.clone()), Value::Uuid),
        Json::Array(items) if items.iter().any(Json::is_string) => {
            Value::UuidArray(items.iter().map(|item| item.as_str().and_then(uuid)).collect())
        }
        // Of no type that would show; nobody asks for more than how many there are.
        Json::Array(items) if items.is_empty() => Value::Null,
        Json::Array(items) => Value::Int8Array(items.iter().map(Json::as_i64).collect()),
        Json::Null | Json::Object(_) => Value::Null,
    }
}

fn uuid(text: &str) -> Option<u128> {
    let is_one = text.len() == 36 && text.bytes().filter(|byte| *byte == b'-').count() == 4;
    is_one.then(|| u128::from_str_radix(&text.replace('-', ""), 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart_by_their_form() {
        let reply = r#"{"b":[1,null],"a":"01234567-89ab-4def-8123-456789abcdef","c":[],"d":"7:9:","e":true,"a":3}"#;
        let uuid = 0x0123_4567_89ab_4def_8123_4567_89ab_cdef;
        let expected = [
            Value::Int8Array(vec![Some(1), None]),
            Value::Uuid(uuid),
            Value::Null,
            Value::Text("7:9:".to_owned()),
            Value::Bool(true),
            Value::Int8(3),
        ];
        assert_eq!(values(reply).unwrap(), expected);
    }
}
