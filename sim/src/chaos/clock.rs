//! The clock that all processes of this machine share, and how far the server's calendar is from it. And the server's wall
//! clock as one that can be set, for the engine of a round alone.

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tourbillon_models::name::Micros;
use tourbillon_models::record::ClockOffset;

/// Nanoseconds on the monotonic clock.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("every system has these clocks");
    time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
}

/// Where a round's time begins, on the monotonic clock and in the server's calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Epoch {
    pub monotonic_ns: u64,
    /// Since 1970.
    pub server_us: u64,
}

impl Epoch {
    /// The server shows `server_us` now, or has within the time that it took to ask.
    pub fn at(server_us: u64) -> Epoch {
        Epoch { monotonic_ns: monotonic_ns(), server_us }
    }

    pub fn now(self) -> Micros {
        Micros(self.elapsed_ns() / 1_000)
    }

    pub fn elapsed_ns(self) -> u64 {
        monotonic_ns().saturating_sub(self.monotonic_ns)
    }

    /// What the monotonic clock showed, in the round's time.
    pub const fn time_of(self, monotonic_ns: u64) -> Micros {
        Micros(monotonic_ns.saturating_sub(self.monotonic_ns) / 1_000)
    }

    /// A time that the server told, in the round's time.
    pub const fn round_time(self, time: Micros) -> Micros {
        Micros(time.0.saturating_sub(self.server_us))
    }

    pub const fn server_time(self, time: Micros) -> Micros {
        Micros(time.0 + self.server_us)
    }
}

/// One look at the server's calendar: what it showed at some time between two of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub from_ns: u64,
    pub to_ns: u64,
    pub server_us: u64,
}

impl Reading {
    /// By how much, at least, somebody has set the calendar since an earlier look.
    pub fn set_since(self, earlier: Reading) -> Micros {
        let ((least, most), (least_before, most_before)) = (self.ahead(), earlier.ahead());
        Micros((least - most_before).max(least_before - most).max(0).cast_unsigned())
    }

    /// Of the monotonic clock, in microseconds: the least and the most.
    const fn ahead(self) -> (i64, i64) {
        let server_us = self.server_us.cast_signed();
        (server_us - (self.to_ns / 1_000).cast_signed(), server_us - (self.from_ns / 1_000).cast_signed())
    }
}

/// Replaces the engine's clock by one that [`step`] sets. A sequence is seen at once, whatever snapshot the caller has.
pub fn steppable(schema: &str) -> String {
    format!(
        "create sequence {schema}.chaos_clock_step minvalue {}; \
         create or replace function {schema}.clock() returns timestamptz language sql volatile as $$ \
         select clock_timestamp() \
         + coalesce(pg_sequence_last_value('{schema}.chaos_clock_step'), 0) * interval '1 microsecond' $$",
        i64::MIN
    )
}

/// A query that sets it, and outlives a crash of the server: what has no number of its own is not flushed.
pub fn step(schema: &str, offset: ClockOffset) -> String {
    let ClockOffset { ahead, behind } = offset;
    let micros = ahead.0.cast_signed() - behind.0.cast_signed();
    format!("select setval('{schema}.chaos_clock_step', {micros}), pg_current_xact_id()")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calendar_that_was_set_is_told_from_a_slow_answer() {
        let reading = |from_us: u64, to_us: u64, server_us: u64| Reading {
            from_ns: from_us * 1_000,
            to_ns: to_us * 1_000,
            server_us: server_us + 1_000_000_000,
        };
        let begin = reading(100, 400, 200);
        assert_eq!(reading(5_000, 9_000, 6_000).set_since(begin), Micros(0));
        assert_eq!(reading(5_000, 5_300, 5_400).set_since(begin), Micros(0));
        assert_eq!(reading(5_000, 5_300, 15_100).set_since(begin), Micros(9_700));
        assert_eq!(reading(5_000, 5_300, 1_000).set_since(begin), Micros(3_800));
    }
}
