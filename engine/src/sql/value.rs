//! Values as they go to a server and come back: the few plain types that the statements use.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A parameter or a column. What has another type on the server is cast in the statement: snapshots to `text`;
/// transaction ids, and timestamps in microseconds since the Unix epoch, to `int8`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Text(String),
    Uuid(u128),
    Int4Array(Vec<Option<i32>>),
    Int8Array(Vec<Option<i64>>),
    TextArray(Vec<Option<String>>),
    UuidArray(Vec<Option<u128>>),
}

/// A reply that is not of the form that its statement has: the server runs another version of the scripts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecodeError {
    pub reason: String,
}

impl DecodeError {
    pub(super) fn new(reason: String) -> Self {
        DecodeError { reason }
    }
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl core::error::Error for DecodeError {}

/// Reads a row from left to right.
pub(super) struct Columns<'a> {
    values: core::slice::Iter<'a, Value>,
    position: usize,
}

impl<'a> Columns<'a> {
    pub fn of(row: &'a [Value]) -> Self {
        Columns { values: row.iter(), position: 0 }
    }

    /// Columns that say nothing here.
    pub fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        (0..count).try_for_each(|_| self.value().map(|_| ()))
    }

    pub fn integer(&mut self) -> Result<Option<i64>, DecodeError> {
        match self.value()? {
            Value::Null => Ok(None),
            Value::Int2(value) => Ok(Some((*value).into())),
            Value::Int4(value) => Ok(Some((*value).into())),
            Value::Int8(value) => Ok(Some(*value)),
            other => Err(self.unexpected("an integer", other)),
        }
    }

    pub fn text(&mut self) -> Result<Option<&'a str>, DecodeError> {
        match self.value()? {
            Value::Null => Ok(None),
            Value::Text(value) => Ok(Some(value)),
            other => Err(self.unexpected("text", other)),
        }
    }

    pub fn uuid(&mut self) -> Result<Option<u128>, DecodeError> {
        match self.value()? {
            Value::Null => Ok(None),
            Value::Uuid(value) => Ok(Some(*value)),
            other => Err(self.unexpected("a uuid", other)),
        }
    }

    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.value()? {
            Value::Bool(value) => Ok(*value),
            other => Err(self.unexpected("a truth value", other)),
        }
    }

    /// An id or a count that may be missing.
    pub fn id_or_null(&mut self) -> Result<Option<u32>, DecodeError> {
        let value = self.integer()?;
        value.map(|value| u32::try_from(value).map_err(|_| self.out_of_range(value))).transpose()
    }

    pub fn id(&mut self) -> Result<u32, DecodeError> {
        self.id_or_null()?.ok_or_else(|| self.unexpected("an id", &Value::Null))
    }

    /// A small number; a missing one is 0.
    pub fn small(&mut self) -> Result<u16, DecodeError> {
        let value = self.integer()?.unwrap_or(0);
        u16::try_from(value).map_err(|_| self.out_of_range(value))
    }

    /// The number of an event table; a missing one is 0.
    pub fn table(&mut self) -> Result<u8, DecodeError> {
        let value = self.integer()?.unwrap_or(0);
        u8::try_from(value).map_err(|_| self.out_of_range(value))
    }

    pub fn micros_or_null(&mut self) -> Result<Option<u64>, DecodeError> {
        let value = self.integer()?;
        value.map(|value| u64::try_from(value).map_err(|_| self.out_of_range(value))).transpose()
    }

    pub fn micros(&mut self) -> Result<u64, DecodeError> {
        self.micros_or_null()?.ok_or_else(|| self.unexpected("a time", &Value::Null))
    }

    pub fn ids(&mut self) -> Result<Vec<u32>, DecodeError> {
        match self.value()? {
            Value::Null => Ok(Vec::new()),
            Value::Int8Array(values) => values
                .iter()
                .map(|value| {
                    let value = value.unwrap_or(-1);
                    u32::try_from(value).map_err(|_| self.out_of_range(value))
                })
                .collect(),
            other => Err(self.unexpected("an array of ids", other)),
        }
    }

    pub fn uuids(&mut self) -> Result<Vec<u128>, DecodeError> {
        match self.value()? {
            Value::Null => Ok(Vec::new()),
            Value::UuidArray(values) => Ok(values.iter().map(|value| value.unwrap_or(0)).collect()),
            other => Err(self.unexpected("an array of uuids", other)),
        }
    }

    /// What so many columns hold, unless the first of them is null: then they are passed over.
    pub fn if_not_null<T>(
        &mut self,
        count: usize,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.values.as_slice().first() != Some(&Value::Null) {
            return read(self).map(Some);
        }
        for _ in 0..count {
            self.value()?;
        }
        Ok(None)
    }

    /// A name such as `q3`: its letter, then a number.
    pub fn name<N>(&mut self, letter: char) -> Result<N, DecodeError>
    where
        N: core::str::FromStr,
    {
        let text = self.text()?.unwrap_or("");
        let number = text.strip_prefix(letter).and_then(|number| number.parse().ok());
        number.ok_or_else(|| DecodeError::new(format!("{text:?} is not {letter} and a number")))
    }

    fn value(&mut self) -> Result<&'a Value, DecodeError> {
        self.position += 1;
        self.values.next().ok_or_else(|| DecodeError::new(format!("the row has no column {}", self.position)))
    }

    fn unexpected(&self, wanted: &str, found: &Value) -> DecodeError {
        DecodeError::new(format!("column {} should hold {wanted}, and holds {found:?}", self.position))
    }

    fn out_of_range(&self, value: i64) -> DecodeError {
        DecodeError::new(format!("column {} holds {value}, which is out of range", self.position))
    }
}
