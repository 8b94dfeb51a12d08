//! Names, ids and time. Newtypes only, no behaviour beyond printing.
//!
//! Names ([`Queue`], [`Consumer`], [`Key`], [`Process`], [`Step`]) are chosen by a plan and mean the same in every
//! target. Ids ([`EventId`], [`Tick`], [`WorkerId`], [`WorkflowId`], [`Token`], [`Xid`]) are minted by the system
//! under test; two targets agree on them up to a one-to-one renaming that keeps the order of [`Xid`] and [`Tick`].

use core::fmt;
use serde::{Deserialize, Serialize};

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

newtype!(
    /// A queue, by the name the plan gave it.
    Queue(u8), "q");
newtype!(
    /// A subscription of a queue, by name. In SQL: one row of `subscription`.
    Consumer(u8), "c");
newtype!(
    /// The caller's key of a workflow: starting twice with one key starts one workflow.
    Key(u32), "w");
newtype!(
    /// What a workflow awaits and a client emits: an index into the program's list of names.
    Name(u16), "name");
newtype!(
    /// The caller's id of an emit: emitting twice with one id emits once, for as long as the workflow lives.
    EmitId(u32), "m");
newtype!(
    /// Who acts, as the application says; for the audit.
    ActorId(u8), "actor-");
newtype!(
    /// An actor of the plan; the history's header lists their names.
    Process(u8), "p");
newtype!(
    /// One connection to the server; never reused within a run.
    Session(u16), "s");
newtype!(
    /// A step of a workload's program, as an index into its list of step names.
    Step(u16), "step");

newtype!(
    /// An event, from a sequence: smaller does not mean committed earlier.
    EventId(u32), "e");
newtype!(
    /// The number of a tick of one queue; rises in commit order, with gaps.
    Tick(u32), "k");
newtype!(
    /// A registered worker; an identity is never reused.
    WorkerId(u32), "lease-");
newtype!(
    /// A workflow's id. 0 stands for "none" in an event of a plain queue.
    WorkflowId(u32), "f");
newtype!(
    /// A transaction that wrote something, in the order of assignment. 0 stands for "none".
    Xid(u32), "x");

/// A fencing token: random bits, compared only for equality.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{:06x}", self.0 >> 40)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an approval must show to resume a wait: random bits of the application's. 0 stands for "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaitToken(pub u64);

impl WaitToken {
    pub const NONE: WaitToken = WaitToken(0);
}

impl fmt::Display for WaitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{:06x}", self.0 >> 40)
    }
}

impl fmt::Debug for WaitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A point in virtual time, or a span of it, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub u64);

impl Micros {
    pub const fn from_millis(millis: u64) -> Self {
        Micros(millis * 1_000)
    }

    pub const fn from_secs(seconds: u64) -> Self {
        Micros(seconds * 1_000_000)
    }
}

impl core::ops::Add for Micros {
    type Output = Micros;

    fn add(self, other: Micros) -> Micros {
        Micros(self.0 + other.0)
    }
}

impl core::ops::Sub for Micros {
    type Output = Micros;

    /// Saturates at zero: "how long since" of something later is zero.
    fn sub(self, other: Micros) -> Micros {
        Micros(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s", self.0 / 1_000_000, self.0 / 1_000 % 1_000)
    }
}

impl fmt::Debug for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
