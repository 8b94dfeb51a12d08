//! The properties: what must hold of every history, whoever made it.
//!
//! A [`Checker`] reads a history once, front to back, and dispatches each record to the nouns that it concerns:
//! [transactions](self::transactions) (what is pending) and their [fate], the [log] and its [delivery],
//! [windows](self::window), [leases](self::lease) and [takeovers](self::takeover), [isolation](self::isolation), [starts](self::start), [workflows](self::workflow)
//! and their [work], [retries](self::retry), [timers](self::timer), [waits](self::wait) and [emits](self::emit), [joins](self::join), [dead letters](self::dead_letter),
//! [deadlocks](self::deadlock), [storage], and, at the end, [liveness] and the [rows] of the state record. Each file opens with the exact definitions that it judges and what breaks them.
//!
//! Three rules make a verdict hold on every target:
//!
//! - *A call takes effect somewhere between its call record and its return record*; a commit likewise; a lost one
//!   between its call and the note that says what became of it. "Before" means: this one's end lies before that one's
//!   start. Where two overlap, nothing is concluded from their order. In a run that puts each return right after its
//!   call this is exact, and in one with late replies it accuses nobody of what the network did.
//! - *What is seen has happened.* If somebody is handed an event whose commit has no reply yet, the reply is looked up
//!   ahead and the transaction counts from there on.
//! - *What nobody answered and nobody resolved is unknown*, and what depends on it is judged unknown, never true.
//!
//! What this is not: an engine. There is no lock, no store and no schedule here.

mod acknowledgement;
mod apply;
mod arrival;
mod checker;
mod clue;
mod connection;
mod content;
mod dead_letter;
mod deadlock;
mod delivery;
mod dense;
mod drain;
mod emit;
mod encounter;
mod end;
mod fate;
mod faults;
mod goals;
mod handoff;
mod isolation;
mod join;
mod judge;
mod lease;
mod liveness;
mod log;
mod lost;
mod observe;
#[macro_use]
mod matrix;
mod place;
mod reach;
mod results;
mod retry;
mod rows;
mod server_clock;
mod start;
mod storage;
mod successor;
mod suffix;
pub mod sweep;
mod takeover;
mod timer;
mod tokens;
mod transactions;
mod undeliverable;
mod wait;
mod window;
mod work;
mod workflow;

pub use checker::Checker;
pub(crate) use clue::Clue;
pub use dead_letter::UNDELIVERABLE_STATE;
pub use goals::Goals;
pub use reach::Reach;
pub use suffix::ASYNCHRONOUS_COMMIT;

use alloc::format;
use alloc::string::String;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whether a property can be judged on a history that was cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Broken by a finite prefix: judged on every history.
    Safety,
    /// Speaks about the end of a run: unknown without the state record.
    End,
}

macro_rules! properties {
    ($($variant:ident $name:literal $kind:ident $summary:literal)*) => {
        /// One thing that must hold. The numbers are those of the project's list of properties.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Property {
            $(#[doc = $summary] $variant,)*
        }

        impl Property {
            /// In the order in which they are listed and reported.
            pub const ALL: [Property; [$(Property::$variant),*].len()] = [$(Property::$variant),*];

            /// Short and stable: `Q1`.
            pub const fn id(self) -> &'static str {
                match self { $(Property::$variant => stringify!($variant),)* }
            }

            /// In words: `no-loss`.
            pub const fn name(self) -> &'static str {
                match self { $(Property::$variant => $name,)* }
            }

            /// One sentence.
            pub const fn summary(self) -> &'static str {
                match self { $(Property::$variant => $summary,)* }
            }

            pub const fn kind(self) -> Kind {
                match self { $(Property::$variant => Kind::$kind,)* }
            }
        }
    };
}

properties! {
    D1 "acked-durable" Safety "what was acknowledged as committed is there at the end"
    D2 "no-aborted-read" Safety "nothing delivered or kept comes from a transaction that did not commit"
    D3 "resolved" Safety "each lost reply turns out committed or aborted, and stays so"
    D4 "suffix-loss" Safety "where commits are asynchronous, what a crash loses is the end of what was acknowledged"
    D5 "token-unique" Safety "a token or event id that a committed transaction saw is never issued again"
    Q1 "no-loss" Safety "no window is finished or skipped without an end for each of its events"
    Q2 "no-phantom" Safety "only events that somebody appended are delivered, as they were appended"
    Q3 "ack-once" Safety "an event is acknowledged at most once per subscription"
    Q4 "window-partition" Safety "the windows of a subscription are disjoint and contiguous"
    Q5 "window-membership" Safety "an event is in a window if and only if it is visible at its end and not at its start"
    Q6 "stable-redelivery" Safety "the same window gives the same events every time"
    Q7 "causal-order" Safety "an event committed before another's transaction began becomes visible no later"
    Q8 "lease-exclusion" Safety "a window has at most one live token"
    Q9 "fenced-write" Safety "a handoff commits only under a token that is current at that time"
    Q10 "takeover-not-early" Safety "no window is taken over before its dead interval, nor while a transaction holds it"
    Q11 "retry-count" Safety "attempts, and tries in isolation, rise by one, up to the maximum and not beyond"
    Q12 "dead-letter-conserved" Safety "a dead letter is written once, is final, and is replayed at most once"
    Q13 "rotation-safe" Safety "a truncated table holds no event that anyone still needs"
    Q14 "tick-monotone" Safety "tick numbers, clocks and snapshots of a queue never go back"
    Q15 "bounded-storage" End "event rows do not outlive their use by more than a few rotation periods"
    W1 "one-continuation" Safety "a live workflow has exactly one continuation, an ended one none"
    W2 "atomic-handoff" Safety "effect, successor and acknowledgement of a step carry the same transaction"
    W3 "single-successor" Safety "each step of a workflow is followed by exactly one committed continuation"
    W4 "sequence-monotone" Safety "the step sequences of a workflow strictly rise"
    W5 "effect-once" Safety "a step's effect in the database is committed exactly once, with its successor"
    W6 "justified-duplicate" Safety "each repetition of external work has an abort, a crash or a takeover that explains it"
    W7 "state-intact" Safety "a step receives what its predecessor passed on, and that is what the program says"
    W8 "terminal-stable" Safety "nothing of a workflow is committed after its end"
    W9 "start-idempotent" Safety "one key, one workflow"
    W10 "no-false-dead-letter" Safety "each dead letter has run out of attempts or of tries of its own, was rejected, or cannot be delivered"
    T1 "not-early" Safety "no timer fires before it is due"
    T2 "not-lost" End "no round of drains leaves a timer behind that was due, and no row of one that waits is gone"
    T3 "fire-once" Safety "a timer fires at most once, and not if it was cancelled"
    T4 "bounded-late" End "after the faults, a timer that is due fires within the bound"
    T5 "intact" Safety "a timer becomes the event that was scheduled"
    A1 "resume-once" Safety "a wait is resumed at most once"
    A2 "justified" Safety "what resumes a wait is one accepted emit, once however often it was repeated, or a deadline that had passed"
    A3 "no-lost-wakeup" Safety "no emit that was kept for a workflow lies beside a wait for it, or is dropped"
    A4 "no-orphan-wait" End "each wait that is kept belongs to a live workflow that waits, and each such workflow's wait is kept"
    A5 "first-write-wins" Safety "of several emits that nobody has waited for, the first is kept"
    A6 "dead-emit-refused" Safety "an emit to a workflow that has ended is refused and leaves nothing, and one to a live workflow is not"
    A7 "token-required" Safety "a wait that asks for a token is resumed by nobody who does not show it, and nobody else is called a forger"
    J1 "join-resume-once" Safety "a join is resumed at most once"
    J2 "join-not-early" Safety "no join is resumed before all its children have ended"
    J3 "no-lost-resume" Safety "the end of the last child resumes the join"
    J4 "results-readable" Safety "whoever works on the step after a join reads exactly what each child left"
    J5 "child-closure" End "each end of a child is recorded with its join"
    J6 "total-immutable" End "a join keeps its number of children, and where its workflow goes on"
    L1 "drain" End "after the faults, every event is acknowledged, every timer fires and every workflow ends"
    L2 "takeover-happens" End "after the faults, no window stays with a worker that is silent"
    L3 "poison-isolated" End "a window that was taken over twice is isolated, and gets finished"
    L4 "retry-not-starved" End "after the faults, a retry that is due gets its next attempt within the bound"
    L5 "rotation-progresses" End "after the faults, rotation succeeds wherever nobody needs the oldest table"
    L6 "no-livelock" End "no call that takes its locks in order is a deadlock's victim, and whoever is one and repeats gets through"
    L7 "fairness" End "after the faults, no step waits for longer than the bound while later ones are handed off"
    O1 "views-agree" Safety "counts of live workflows are what the history says"
}

impl Property {
    /// By id or by name, in either case.
    pub fn by_name(name: &str) -> Option<Property> {
        Property::ALL
            .into_iter()
            .find(|property| property.id().eq_ignore_ascii_case(name) || property.name().eq_ignore_ascii_case(name))
    }
}

impl Serialize for Property {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl<'de> Deserialize<'de> for Property {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Property::by_name(&name).ok_or_else(|| D::Error::custom(format!("there is no property {name}")))
    }
}

impl core::fmt::Display for Property {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.id())
    }
}

#[cfg(test)]
mod tests;
