//! The mapping's values as the driver's parameters, and the driver's rows as values.

use crate::postgres::session::Parameter;
use std::error::Error;
use tokio_postgres::Row;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tourbillon_engine::sql::value::Value;

/// A uuid's 128 bits.
#[derive(Clone, Copy, Debug)]
struct Uuid(u128);

impl ToSql for Uuid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::UUID
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Uuid {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Uuid(u128::from_be_bytes(bytes.try_into()?)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::UUID
    }
}

/// A null of whatever type the statement asks for.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(&self, _: &Type, _: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

pub fn parameter(value: Value) -> Parameter {
    match value {
        Value::Null => Box::new(Null),
        Value::Bool(value) => Box::new(value),
        Value::Int2(value) => Box::new(value),
        Value::Int4(value) => Box::new(value),
        Value::Int8(value) => Box::new(value),
        Value::Text(value) => Box::new(value),
        Value::Uuid(value) => Box::new(Uuid(value)),
        Value::Int4Array(values) => Box::new(values),
        Value::Int8Array(values) => Box::new(values),
        Value::TextArray(values) => Box::new(values),
        Value::UuidArray(values) => Box::new(values.into_iter().map(|value| value.map(Uuid)).collect::<Vec<_>>()),
    }
}

/// The columns of a row. A type that no statement of the mapping returns is a mistake in the mapping.
pub fn values(row: &Row) -> Vec<Value> {
    (0..row.len()).map(|index| value(row, index)).collect()
}

fn value(row: &Row, index: usize) -> Value {
    match *row.columns()[index].type_() {
        Type::BOOL => row.get::<_, Option<_>>(index).map_or(Value::Null, Value::Bool),
        Type::INT2 => row.get::<_, Option<_>>(index).map_or(Value::Null, Value::Int2),
        Type::INT4 => row.get::<_, Option<_>>(index).map_or(Value::Null, Value::Int4),
        Type::INT8 => row.get::<_, Option<_>>(index).map_or(Value::Null, Value::Int8),
        Type::TEXT => row.get::<_, Option<_>>(index).map_or(Value::Null, Value::Text),
        Type::UUID => row.get::<_, Option<Uuid>>(index).map_or(Value::Null, |uuid| Value::Uuid(uuid.0)),
        Type::INT8_ARRAY => row.get::<_, Option<_>>(index).map_or(Value::Null, Value::Int8Array),
        Type::UUID_ARRAY => row.get::<_, Option<Vec<Option<Uuid>>>>(index).map_or(Value::Null, |uuids| {
            Value::UuidArray(uuids.into_iter().map(|uuid| uuid.map(|uuid| uuid.0)).collect())
        }),
        Type::VOID => Value::Null,
        ref other => panic!("column {index} has the type {other}, which the mapping does not use"),
    }
}
