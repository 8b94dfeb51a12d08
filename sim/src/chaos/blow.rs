//! What befalls the processes of a round and their server: drawn from the seed, though what comes of it is not.

use crate::random::Stream;
use serde::Serialize;
use std::time::Duration;
use tourbillon_models::name::Micros;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident $name:literal $summary:literal)*) => {
        /// One kind of fault.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Kind { $($variant,)* }

        impl Kind {
            pub const ALL: [Kind; [$(Kind::$variant,)*].len()] = [$(Kind::$variant,)*];

            pub const fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }

            /// One sentence.
            pub const fn summary(self) -> &'static str {
                match self { $(Kind::$variant => $summary,)* }
            }
        }
    };
}

kinds! {
    ProcessKill "process_kill" "a worker, client or duty is killed, and comes back"
    ProcessStop "process_stop" "a worker is stopped for longer than the dead interval, and goes on"
    BackendEnd "backend_end" "the server is told to end a process's session"
    Delay "delay" "for a while whatever passes between a process and the server takes longer"
    HangUp "hang_up" "a connection breaks, and both sides notice"
    HalfClose "half_close" "a connection breaks, and one side does not notice for a while"
    LostCommit "lost_commit" "the answer to a commit is lost, and the connection with it"
    ServerKill "server_kill" "all processes of the server are killed at once, and it is started again"
    ServerStop "server_stop" "the server is shut down immediately, and started again"
    ClockStep "clock_step" "the clock that the engine reads on the server steps forward or back, and is set right in the end"
    HeldSnapshot "held_snapshot" "a transaction stays open with a snapshot"
    MaintenanceLock "maintenance_lock" "a transaction stays open with a lock on an event table"
    Timeouts "timeouts" "a worker's statements have a lock timeout and a statement timeout that they can run into"
    BadHabits "bad_habits" "a worker hands off a part, forgets to, swallows errors, or claims in a transaction that stays open"
}

impl Kind {
    pub fn by_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Only what was started here may be treated so.
    pub const fn needs_own_server(self) -> bool {
        matches!(self, Kind::ServerKill | Kind::ServerStop)
    }

    /// Drawn when a process starts, and its own for as long as it lives.
    pub const fn is_of_a_life(self) -> bool {
        matches!(self, Kind::Timeouts | Kind::BadHabits)
    }

    /// Comes at a time that the schedule draws.
    const fn is_drawn(self) -> bool {
        !matches!(self, Kind::ServerKill | Kind::HeldSnapshot | Kind::MaintenanceLock) && !self.is_of_a_life()
    }
}

/// One fault of a round's schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blow {
    pub at: Micros,
    pub kind: Kind,
    /// Draws whom, and how long, once it is known who is there.
    pub draw: u64,
}

/// What a blow is drawn from.
pub struct Limits<'a> {
    pub kinds: &'a [Kind],
    /// Between two faults, on average.
    pub gap: Micros,
    pub faults_end: Micros,
    pub server_kills: u64,
}

/// The schedule of a round, in order.
pub fn schedule(stream: &mut Stream, limits: &Limits<'_>) -> Vec<Blow> {
    let mut blows = Vec::new();
    let drawn: Vec<Kind> = limits.kinds.iter().copied().filter(|kind| kind.is_drawn()).collect();
    let mut at = stream.span(Micros(0), limits.gap);
    // There is some time left for what lasts; what is not over by then ends with the faults, but for connections that only one
    // side knows to be broken: the other one notices within two dead intervals.
    let last = Micros(limits.faults_end.0 * 4 / 5);
    while !drawn.is_empty() && at < last {
        let kind = match *stream.choose(&drawn) {
            // As rare as that is among operators.
            Kind::ServerStop if drawn.contains(&Kind::HangUp) && stream.chance(3, 4) => Kind::HangUp,
            kind => kind,
        };
        blows.push(Blow { at, kind, draw: stream.bits() });
        at = at + stream.span(Micros(limits.gap.0 / 2), Micros(limits.gap.0 * 3 / 2));
    }
    for kill in 0..limits.server_kills {
        let share = last.0 / limits.server_kills;
        let at = Micros(kill * share + stream.below(share.max(1)));
        blows.push(Blow { at, kind: Kind::ServerKill, draw: stream.bits() });
    }
    blows.sort_by_key(|blow| blow.at);
    blows
}

pub fn millis(stream: &mut Stream, low: u64, high: u64) -> Duration {
    Duration::from_millis(stream.between(low, high))
}
