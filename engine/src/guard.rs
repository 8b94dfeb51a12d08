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
    /// 1. A process registers, claims, and stands still. 2. The server dies, and with asynchronous commit that is lost.
    ///    3. Another registers and claims: sequences that start again give it the same identity and the same token.
    ///    4. The zombie hands off what it has read, which may not be what is there now. Tried: 72 came back as 37.
    TokenRandom,
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
    /// Rotation asks for the table's lock without waiting: readers that overlap hold it always, and nothing is ever
    /// truncated (tried: 0 of 400).
    RotationLockTimeout,
    /// The window of a worker that is alive, and only late by half of what it is allowed, is taken over.
    TakeoverNotEarly,
    /// 1. A worker begins a transaction. 2. Much later it claims in it, or says that it is alive. 3. Its heartbeat is that
    ///    of the transaction's start: the window is taken over as soon as it commits. Read in PgQue 0.2.
    WallClockHeartbeat,
    /// 1. A worker's clock is ahead of the others'. 2. It says when it was alive, and decides by that clock who is dead: it takes
    ///    the windows of live workers over, and its own are not taken over when it is dead. Seen in Temporal pull request
    ///    7030.
    ServerClock,
    /// 1. A worker's transaction holds its window and writes its effects. 2. It takes long, the lease grows stale, and
    ///    another takes the window over while the transaction is open: both run the steps.
    HoldLock,
    /// A worker's transaction holds its window, writes its effects and commits without the handoff (an error was
    /// swallowed, a call forgotten): the effects are there, the steps run again.
    HeldMustFinish,
    /// Takeovers are not counted: a window whose handler kills its process is handed to the next one for ever, whole.
    /// Read in PgQue pull request 259.
    CrashCounted,
    /// A window that has killed processes is still handed out whole: one poisonous event takes all others of its window
    /// with it, for ever. Read in PgQue pull request 259.
    IsolateWindow,
    /// 1. An event is handed out alone, and its try is to be counted by the handoff. 2. Its handler kills the process.
    ///    3. No handoff, no count: it is tried for ever. Read in PgQue pull request 259.
    TryBeforeRun,
    /// 1. An event of an isolated window is handed off, and the reply is lost. 2. The window is still open under the same
    ///    token. 3. The handoff is repeated: two successors.
    IsolatedOnce,
    /// A retry keeps the sequence of the step that it repeats: two events of one workflow cannot be told apart.
    RetryFreshSequence,
    /// What has waited for long is taken for stale, and after an outage the whole backlog is dead-lettered undelivered.
    /// Read in PgQue pull request 259. The guard is that there is no such gate.
    NoStalenessGate,
    /// A dead letter that has been replayed is replayed again: its step runs twice. Seen in PgQue pull request 287.
    ReplayMoves,
    /// Delayed delivery is that of a published draft, two tables and a watermark, which loses timers in three ways: see
    /// [`crate::designs::delayed_rotation`]. The engine's way as a whole stands against it.
    TimersRideTicks,
    /// 1. An idle queue has a timer. 2. Its time comes, or its transaction commits when its time has come already. 3. Nobody
    ///    appends anything, so no tick is taken, and it is due in none.
    IdleTimer,
    /// A timer has its due time and its payload, but not the workflow and the sequence of the step that sleeps: the event
    /// that it becomes is nobody's. Tried: PgQue's experimental `send_at`.
    TimerKeepsFields,
    /// 1. More timers are due than a drain's limit. 2. It delivers a page and moves the cursor to the tick. 3. What was behind
    ///    the page counts as delivered. Read in PgQue pull request 237; tried: 317 of 1,498 lost.
    DrainPosition,
    /// 1. A timer's transaction is open when its time comes, and when a tick is taken. 2. The tick's round is drained. 3. The
    ///    transaction commits: by its due time the timer lies behind the cursor. Seen in Temporal pull request 2498; read in
    ///    PgQue pull request 237; tried: 398 of 1,485 lost.
    DrainLatePath,
    /// 1. A round is drained up to a position, or a timer's transaction commits after its time has come. 2. Rotation moves
    ///    what is due later than the round's tick, as though all else were delivered. 3. It truncates the rest of the round,
    ///    and the late one. Read in PgQue pull request 237.
    ///
    /// A moved timer must also keep its xid, but that alone loses nothing here: under its mover's, it is only late.
    TimerMoveWhole,
    /// 1. A drain has read a timer, and is open. 2. A cancel deletes it, and answers that it will not fire. 3. The drain
    ///    commits its event. Tried: 15 of 123 were both cancelled and fired.
    CancelLock,
    /// One timer cannot become an event, as a rule of the application's forbids it: every drain reads it in its page, and
    /// fails. Tried: PgQue's experimental `send_at`.
    DrainPoison,
    /// A child is a dead letter, and its parent's join is not told: the parent waits for ever. Read in PgQue pull request 259.
    DeadLetterReports,
    /// 1. A handoff looks for what was emitted: nothing. 2. An emit looks for who waits: nobody. 3. Both register, and nobody
    ///    wakes. Seen in absurd pull request 61 and tensorzero/durable pull request 37. An advisory lock before the look does not
    ///    help at REPEATABLE READ. The guard is that wait and promise are one row, with one unique key.
    BoxUnique,
    /// An emit is accepted while the workflow still sleeps before its await, and is dropped for its age. Read in PgQue pull
    /// request 259.
    PromiseUntilEnd,
    /// 1. An emit is accepted, and nobody waits yet. 2. Another overwrites it: what was accepted first is never told to anybody.
    ///    Seen in absurd 7b63b7a.
    FirstWriteWins,
    /// 1. An emit has seen the wait. 2. The deadline's duty deletes it, and appends its continuation. 3. The emit deletes nothing,
    ///    nobody looks, and it appends another.
    WaitDeleteReturning,
    /// The reply to an emit is lost, it is repeated, and wakes the next wait of that name, or is promised to it.
    EmitId,
    /// What is emitted to a workflow that has ended is kept for ever, and accepted, as though somebody might still await it.
    EmitLive,
    /// 1. A transaction at REPEATABLE READ takes its snapshot. 2. A workflow is started, and waits. 3. The transaction emits to it,
    ///    cannot see it, and is told that it is dead.
    EmitUnseen,
    /// A wait asks for a token; an emit shows none, and null compares as a match.
    EmitToken,
    /// 1. Two transactions hand off the last two children of a join. 2. Each counts one that is missing. 3. Both commit, and nobody
    ///    resumes the parent. Read in the research note of PgQue pull request 259.
    JoinLock,
    /// 1. A child is a dead letter, and reports. 2. The letter is replayed, and what it became ends: it reports for the same child.
    ///    3. The join counts two, and the parent goes on before its other children have ended.
    JoinDistinct,
    /// A join completes, and what the children left goes with its row: the parent goes on with nothing. Read in PgQue pull
    /// request 259.
    ResultsUntilRead,
    /// 1. Two transactions hand off children of joins A and B, in opposite order. 2. Each locks one and waits for the other's.
    ///    3. One is aborted, and both batches' work may repeat for ever. Read in duroxide-pg's note on deadlocks.
    SortedLocks,
}

impl Guard {
    /// In the order in which they are listed and removed.
    pub const ALL: [Guard; 50] = [
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
        Guard::TokenRandom,
        Guard::TakeoverFreshToken,
        Guard::TakeoverClearsVictim,
        Guard::FenceChecked,
        Guard::StartKey,
        Guard::RotationLockTimeout,
        Guard::TakeoverNotEarly,
        Guard::WallClockHeartbeat,
        Guard::ServerClock,
        Guard::HoldLock,
        Guard::HeldMustFinish,
        Guard::CrashCounted,
        Guard::IsolateWindow,
        Guard::TryBeforeRun,
        Guard::IsolatedOnce,
        Guard::RetryFreshSequence,
        Guard::NoStalenessGate,
        Guard::ReplayMoves,
        Guard::TimersRideTicks,
        Guard::IdleTimer,
        Guard::TimerKeepsFields,
        Guard::DrainPosition,
        Guard::DrainLatePath,
        Guard::TimerMoveWhole,
        Guard::CancelLock,
        Guard::DrainPoison,
        Guard::DeadLetterReports,
        Guard::BoxUnique,
        Guard::PromiseUntilEnd,
        Guard::FirstWriteWins,
        Guard::WaitDeleteReturning,
        Guard::EmitId,
        Guard::EmitLive,
        Guard::EmitUnseen,
        Guard::EmitToken,
        Guard::JoinLock,
        Guard::JoinDistinct,
        Guard::ResultsUntilRead,
        Guard::SortedLocks,
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
            Guard::TokenRandom => "token_random",
            Guard::TakeoverFreshToken => "takeover_fresh_token",
            Guard::TakeoverClearsVictim => "takeover_clears_victim",
            Guard::FenceChecked => "fence_checked",
            Guard::StartKey => "start_key",
            Guard::RotationLockTimeout => "rotation_lock_timeout",
            Guard::TakeoverNotEarly => "takeover_not_early",
            Guard::WallClockHeartbeat => "wall_clock_heartbeat",
            Guard::ServerClock => "server_clock",
            Guard::HoldLock => "hold_lock",
            Guard::HeldMustFinish => "held_must_finish",
            Guard::CrashCounted => "crash_counted",
            Guard::IsolateWindow => "isolate_window",
            Guard::TryBeforeRun => "try_before_run",
            Guard::IsolatedOnce => "isolated_once",
            Guard::RetryFreshSequence => "retry_fresh_sequence",
            Guard::NoStalenessGate => "no_staleness_gate",
            Guard::ReplayMoves => "replay_moves",
            Guard::TimersRideTicks => "timers_ride_ticks",
            Guard::IdleTimer => "idle_timer",
            Guard::TimerKeepsFields => "timer_keeps_fields",
            Guard::DrainPosition => "drain_position",
            Guard::DrainLatePath => "drain_late_path",
            Guard::TimerMoveWhole => "timer_move_whole",
            Guard::CancelLock => "cancel_lock",
            Guard::DrainPoison => "drain_poison",
            Guard::DeadLetterReports => "dead_letter_reports",
            Guard::BoxUnique => "box_unique",
            Guard::PromiseUntilEnd => "promise_until_end",
            Guard::FirstWriteWins => "first_write_wins",
            Guard::WaitDeleteReturning => "wait_delete_returning",
            Guard::EmitId => "emit_id",
            Guard::EmitLive => "emit_live",
            Guard::EmitUnseen => "emit_unseen",
            Guard::EmitToken => "emit_token",
            Guard::JoinLock => "join_lock",
            Guard::JoinDistinct => "join_distinct",
            Guard::ResultsUntilRead => "results_until_read",
            Guard::SortedLocks => "sorted_locks",
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
            Guard::TokenRandom => "after a crash that lost commits, a zombie's token is issued again",
            Guard::TakeoverFreshToken => "a thief works under its victim's token",
            Guard::TakeoverClearsVictim => "victim and thief both hold a valid token",
            Guard::FenceChecked => "a zombie's handoff commits",
            Guard::StartKey => "a repeated start starts a second workflow",
            Guard::RotationLockTimeout => {
                "rotation gives up at once under overlapping readers, and space grows for ever"
            }
            Guard::TakeoverNotEarly => "the window of a live worker is taken over after half its time",
            Guard::WallClockHeartbeat => "a heartbeat in a long transaction is as old as the transaction's start",
            Guard::ServerClock => "leases go by the clocks of workers, which are wrong",
            Guard::HoldLock => "a window is taken over while its worker's transaction is open",
            Guard::HeldMustFinish => "effects of a held window commit without its handoff",
            Guard::CrashCounted => "a window that kills its workers is never found out",
            Guard::IsolateWindow => "a poisonous event takes its whole window with it, for ever",
            Guard::TryBeforeRun => "tries are counted in the transaction that dies with the handler",
            Guard::IsolatedOnce => "a repeated handoff of an isolated event goes through twice",
            Guard::RetryFreshSequence => "a retry has the same sequence as what it repeats",
            Guard::NoStalenessGate => "after an outage the backlog is dead-lettered undelivered",
            Guard::ReplayMoves => "a dead letter is replayed twice",
            Guard::TimersRideTicks => "messages are delayed by two tables and a watermark, as in PgQue's draft",
            Guard::IdleTimer => "nobody ticks for the timers of an idle queue",
            Guard::TimerKeepsFields => "a fired timer has lost its workflow",
            Guard::DrainPosition => "what is due beyond the first page never fires",
            Guard::DrainLatePath => "a timer that commits after its time never fires",
            Guard::TimerMoveWhole => "rotation truncates timers that are due and not delivered",
            Guard::CancelLock => "a timer is both cancelled and fired",
            Guard::DrainPoison => "one timer, wait or join that cannot be delivered blocks all",
            Guard::DeadLetterReports => "a parent waits for ever for a child that is a dead letter",
            Guard::BoxUnique => "an emit falls between a wait's look and its registration",
            Guard::PromiseUntilEnd => "an accepted emit is dropped by time before its workflow awaits it",
            Guard::FirstWriteWins => "a second emit overwrites what was promised",
            Guard::WaitDeleteReturning => "an emit and the deadline both resume a wait",
            Guard::EmitId => "a repeated emit wakes the next wait of that name",
            Guard::EmitLive => "emits for workflows that have ended pile up",
            Guard::EmitUnseen => "an emit with an old snapshot is told that a live workflow is dead",
            Guard::EmitToken => "an approval without a token passes for one with it",
            Guard::JoinLock => "the last children of two batches miss each other",
            Guard::JoinDistinct => "a child that reports twice counts for two",
            Guard::ResultsUntilRead => "results are dropped with their join, before the parent has read them",
            Guard::SortedLocks => "two batches lock joins in opposite order, and one of them has to begin anew",
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
    pub const ALL: [Design; 4] = [
        Design { name: "sound", summary: "every guard stands", removed: &[] },
        Design {
            name: "pgq-rotation",
            summary: "windows read the current and the previous event table only, as PgQ 3.5 and PgQue 0.2 do",
            removed: &[Guard::ReadAllTables],
        },
        Design {
            name: "pgque-delayed-rotation-draft",
            summary: "messages are delayed by two tables, a watermark and carrying forward, as in PgQue pull request 237",
            removed: &[Guard::TimersRideTicks],
        },
        Design {
            name: "pgque-workflows-draft",
            summary: "workflows as PgQue pull request 259 specifies them: no fence, no isolation, promises and backlogs that age",
            removed: &[
                Guard::FenceChecked,
                Guard::NoStalenessGate,
                Guard::TryBeforeRun,
                Guard::CrashCounted,
                Guard::IsolateWindow,
                Guard::PromiseUntilEnd,
                Guard::DeadLetterReports,
                Guard::ResultsUntilRead,
                Guard::SortedLocks,
            ],
        },
    ];

    pub fn by_name(name: &str) -> Option<&'static Design> {
        const DESIGNS: &[Design] = &Design::ALL;
        DESIGNS.iter().find(|design| design.name == name)
    }
}
