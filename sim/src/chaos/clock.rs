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
