//! One line of EDN: a map with the keys that Jepsen's and Elle's readers ask for.

use crate::name::{Micros, Session};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    Invoke,
    Ok,
    Fail,
    Info,
}

pub(super) struct Line {
    /// Where it stands: its record, its place among those of that record, and whether it is the call or the answer.
    pub(super) place: (u32, u32, u32),
    pub(super) time: Micros,
    pub(super) process: Session,
    pub(super) answer: Type,
    pub(super) name: &'static str,
    pub(super) value: String,
}

impl Line {
    pub(super) fn text(&self, index: usize) -> String {
        let Line { time, process, answer, name, value, .. } = self;
        let answer = match answer {
            Type::Invoke => "invoke",
            Type::Ok => "ok",
            Type::Fail => "fail",
            Type::Info => "info",
        };
        let (process, nanoseconds) = (process.0, u128::from(time.0) * 1_000);
        format!(
            "{{:index {index}, :time {nanoseconds}, :process {process}, :type :{answer}, :f :{name}, :value {value}}}"
        )
    }
}

pub(super) fn vector<T>(items: impl IntoIterator<Item = T>) -> String
where
    T: Display,
{
    let items: Vec<String> = items.into_iter().map(|item| format!("{item}")).collect();
    format!("[{}]", items.join(" "))
}
