//! Guards: lines that each prevent one known bug, named so that they can be removed on purpose.
//!
//! A guard stands in the Rust procedure as `if guards.on(Guard::X)` and in the SQL as `-- guard: x`. Removed in both,
//! the same schedule must break the same property in the simulator and on a server. This is not a feature switch:
//! an engine in use has all of them.

/// One bug that one line prevents. The doc of each says what happens without it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Guard {
    /// 1. A producer's transaction is open when tick k is taken. 2. It commits. 3. The window (k, k+1] is read by its
    ///    range of xids alone: the producer's xid lies below the range, and its events in no window ever.
    ///    Seen as id order taken for commit order: Obelisk pull request 731.
    InProgressSet,
    /// 1. A ticker takes its snapshot and number, and stays open. 2. Another does the same and commits. 3. The first
    ///    commits: an older snapshot under a number that readers had passed already.
    TickLock,
    /// 1. A duty's transaction runs at REPEATABLE READ and looked at something. 2. Others tick, windows are read.
    ///    3. It ticks: an old snapshot under a fresh number, so the next window repeats what was delivered.
    IsolationCheck,
    /// 1. An event's id is drawn, its transaction stays open. 2. A tick is taken. 3. The transaction commits. 4. No id was
    ///    drawn since the tick, so the queue counts as idle, and the event waits until somebody appends another.
    IdleTick,
    /// An empty window is handed out; a worker finds nothing to decide, hands nothing off, and the window stays open
    /// for ever. Seen in PgQue 103, pull request 208.
    EmptyWindow,
    /// 1. A producer's snapshot says that table 0 is current. 2. The log rotates twice. 3. It appends to table 0, which
    ///    is neither the current nor the previous one, and windows read only those.
    ReadAllTables,
    /// 1. Rotation looks: the oldest table is free. 2. It waits for the table's lock behind a producer that believed
    ///    the table current. 3. The producer commits; rotation truncates what nobody has read.
    RotationLookAfterLock,
    /// A worker's window is open, the consumer's cursor has moved past it; rotation looks at cursors only and truncates
    /// what the worker, or whoever takes its window over, is going to read.
    RotationMinCursor,
    /// Two consumers of one queue of workflows hand off each step twice.
    OneConsumer,
    /// A worker reads one page of its window, decides that, and the whole window is finished. Seen in PgQue 134.
    AckWhatWasRead,
    /// Two workers read the same cursor and are given the same window. Seen in PgQue 97.
    ClaimLock,
    /// The thief of a stale window works under the victim's token. Where a token is looked for anywhere but in its worker's
    /// own row, the victim's handoff then passes as well (seen in absurd 16). Here it would be refused all the same; but a
    /// service outside the database that is given the token, to refuse whoever is late, could not tell the two apart.
    TakeoverFreshToken,
    /// A takeover leaves the victim's lease as it was: both tokens are valid. Seen in pg-boss 555.
    TakeoverClearsVictim,
    /// A stale finish changes no row, nobody looks, and the zombie's successors and effects commit. Seen in DBOS
    /// (Python) 742, PgQue pull request 259.
    FenceChecked,
    /// The reply to `start` is lost, the client repeats it, and the workflow runs twice.
    StartKey,
}

impl Guard {
    /// In the order in which they are listed and removed.
    pub const ALL: [Guard; 15] = [
        Guard::InProgressSet,
        Guard::TickLock,
        Guard::IsolationCheck,
        Guard::IdleTick,
        Guard::EmptyWindow,
        Guard::ReadAllTables,
        Guard::RotationLookAfterLock,
        Guard::RotationMinCursor,
        Guard::OneConsumer,
        Guard::AckWhatWasRead,
        Guard::ClaimLock,
        Guard::TakeoverFreshToken,
        Guard::TakeoverClearsVictim,
        Guard::FenceChecked,
        Guard::StartKey,
    ];

    /// The name in SQL, on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Guard::InProgressSet => "in_progress_set",
            Guard::TickLock => "tick_lock",
            Guard::IsolationCheck => "isolation_check",
            Guard::IdleTick => "idle_tick",
            Guard::EmptyWindow => "empty_window",
            Guard::ReadAllTables => "read_all_tables",
            Guard::RotationLookAfterLock => "rotation_look_after_lock",
            Guard::RotationMinCursor => "rotation_min_cursor",
            Guard::OneConsumer => "one_consumer",
            Guard::AckWhatWasRead => "ack_what_was_read",
            Guard::ClaimLock => "claim_lock",
            Guard::TakeoverFreshToken => "takeover_fresh_token",
            Guard::TakeoverClearsVictim => "takeover_clears_victim",
            Guard::FenceChecked => "fence_checked",
            Guard::StartKey => "start_key",
        }
    }

    /// One sentence: what goes wrong without it.
    pub const fn summary(self) -> &'static str {
        match self {
            Guard::InProgressSet => "events of transactions open at tick time fall between two windows",
            Guard::TickLock => "two tickers store snapshots out of order",
            Guard::IsolationCheck => "a duty at REPEATABLE READ stores an old snapshot under a new number",
            Guard::IdleTick => "an event that commits after the last tick waits for the next event",
            Guard::EmptyWindow => "an empty window is handed out and never closed",
            Guard::ReadAllTables => "a producer with an old snapshot writes where no window looks",
            Guard::RotationLookAfterLock => "rows that arrived while rotation waited for its lock are truncated unread",
            Guard::RotationMinCursor => "rotation truncates what an open window still needs",
            Guard::OneConsumer => "a second consumer hands off each step of a workflow again",
            Guard::AckWhatWasRead => "a handoff for a part of the window finishes all of it",
            Guard::ClaimLock => "two workers are given one window",
            Guard::TakeoverFreshToken => "a thief works under its victim's token",
            Guard::TakeoverClearsVictim => "victim and thief both hold a valid token",
            Guard::FenceChecked => "a zombie's handoff commits",
            Guard::StartKey => "a repeated start starts a second workflow",
        }
    }

    pub fn by_name(name: &str) -> Option<Guard> {
        Guard::ALL.into_iter().find(|guard| guard.name() == name)
    }
}

/// The guards that stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guards {
    removed: u64,
}

impl Guards {
    /// The sound engine.
    pub const ALL: Guards = Guards { removed: 0 };

    pub fn without(removed: &[Guard]) -> Guards {
        Guards { removed: removed.iter().fold(0, |bits, guard| bits | 1 << *guard as u8) }
    }

    pub const fn on(self, guard: Guard) -> bool {
        self.removed & (1 << guard as u8) == 0
    }

    pub fn removed(self) -> impl Iterator<Item = Guard> {
        Guard::ALL.into_iter().filter(move |guard| !self.on(*guard))
    }
}

/// A named set of removed guards: what a published system does differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Design {
    pub name: &'static str,
    pub summary: &'static str,
    pub removed: &'static [Guard],
}

impl Design {
    pub const ALL: [Design; 2] = [
        Design { name: "sound", summary: "every guard stands", removed: &[] },
        Design {
            name: "pgq-rotation",
            summary: "windows read the current and the previous event table only, as PgQ 3.5 and PgQue 0.2 do",
            removed: &[Guard::ReadAllTables],
        },
    ];

    pub fn by_name(name: &str) -> Option<&'static Design> {
        const DESIGNS: &[Design] = &Design::ALL;
        DESIGNS.iter().find(|design| design.name == name)
    }
}
