//! Reach: the *sometimes* side of the checks. A goal that no run of a sweep ever hits means that the sweep proved less
//! than it seems to.
//!
//! Counted from histories alone, like the properties. Not here: which faults a plan asked for (the simulator knows).

macro_rules! goals {
    ($($(#[$doc:meta])* $variant:ident $name:literal)*) => {
        /// Something that a sweep should have seen at least once.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum Reach {
            $($(#[$doc])* $variant,)*
        }

        impl Reach {
            /// In the order in which they are reported.
            pub const ALL: [Reach; [$(Reach::$variant),*].len()] = [$(Reach::$variant),*];

            pub const fn name(self) -> &'static str {
                match self { $(Reach::$variant => $name,)* }
            }
        }
    };
}

goals! {
    /// A window moved to another worker.
    Takeover "takeover"
    /// A window moved by a duty of its own, not by a claim.
    TakeoverDuty "takeover-duty"
    /// A worker came back to find its token dead.
    StaleTokenRefused "stale-token-refused"
    /// A claim whose reply was lost, so that nobody knew of the window, was taken over.
    TakeoverOfLostClaim "takeover-of-lost-claim"
    /// A transaction held its window for longer than the dead interval, and handed it off.
    HandoffAfterDeadInterval "handoff-after-dead-interval"
    BlockedCall "blocked-call"
    OpenChoice "open-choice"
    LostReplyCommitted "lost-reply-committed"
    LostReplyAborted "lost-reply-aborted"
    /// A tick's snapshot had transactions in progress.
    TickInProgress "tick-with-in-progress"
    /// An event that was in progress at one tick came with a later one.
    InProgressDelivered "in-progress-delivered"
    TickInTransaction "tick-in-transaction"
    /// An append went to a table that was not current.
    LateAppend "late-append"
    Redelivery "redelivery"
    PagedRead "paged-read"
    WindowMismatchRefused "window-mismatch-refused"
    WindowOpenRefused "window-open-refused"
    OneConsumerRefused "one-consumer-refused"
    IsolationRefused "isolation-level-refused"
    WroteBeforeRefused "wrote-before-refused"
    FailedTransactionRefused "failed-transaction-refused"
    HeldWindowRefused "held-window-refused"
    LimitRefused "limit-refused"
    UniqueViolation "unique-violation"
    Deadlock "deadlock"
    SerializationFailure "serialization-failure"
    LockTimeout "lock-timeout"
    EmptyPoll "empty-poll"
    IdleTick "idle-tick"
    RotationDone "rotation-done"
    RotationRefused "rotation-refused"
    TimerScheduled "timer-scheduled"
    TimerFired "timer-fired"
    /// Its transaction committed when it was due already.
    TimerFiredLatePath "timer-fired-late-path"
    /// A drain left some of what was due to the next one.
    TimerPageFull "timer-page-full"
    TimerCancelled "timer-cancelled"
    TimerCancelTooLate "timer-cancel-too-late"
    TimerRotation "timer-rotation"
    /// Too much would have had to be moved.
    TimerRotationKept "timer-rotation-kept"
    /// A rotation moved what was not delivered.
    TimerMoved "timer-moved"
    /// A timer could not be delivered.
    TimerDeadLetter "timer-dead-letter"
    Retry "retry"
    RetryExhausted "retry-exhausted"
    DeadLetterRejected "dead-letter-rejected"
    DeadLetterTries "dead-letter-tries"
    DeadLetterReplayed "dead-letter-replayed"
    /// A window was given out as isolated.
    Isolation "isolation"
    /// A handoff of one event of an isolated window.
    IsolatedHandoff "isolated-handoff"
    IsolationFinished "isolation-finished"
    /// A start with a key that was known.
    StartRepeated "start-repeated"
    /// An append, start or handoff that was rolled back.
    WriteRolledBack "write-rolled-back"
    /// A savepoint was rolled back to, and undid something.
    SavepointUndone "savepoint-undone"
    RepeatableReadCommit "repeatable-read-commit"
    ExternalWorkRepeated "external-work-repeated"
    ServerCrash "server-crash"
    /// A crash of the server lost an acknowledged commit.
    AsyncCommitLost "async-commit-lost"
    /// A worker came back whose claim such a crash had lost.
    LostClaimRefused "lost-claim-refused"
    /// The server's wall clock was set, forward or back.
    ServerClockStep "server-clock-step"
    Crash "crash"
    CrashInTransaction "crash-in-transaction"
    /// A process died while its transaction held its window.
    CrashWhileHolding "crash-while-holding"
    Pause "pause"
    /// The server ended a session that was idle while its transaction held a window.
    SessionEndWhileHolding "session-end-while-holding"
    LostReply "lost-reply"
    /// An await found what had been emitted before.
    EmitBeforeAwait "emit-before-await"
    /// The transaction that left a promise was open when the await came, and that waited for it.
    AwaitBlockedByEmit "await-blocked-by-emit"
    /// The transaction that registered a wait was open when the emit came, and that waited for it.
    EmitBlockedByAwait "emit-blocked-by-await"
    EmitAfterAwait "emit-after-await"
    EmitRepeated "emit-repeated"
    EmitSecond "emit-second"
    EmitForged "emit-forged"
    EmitDead "emit-dead"
    WaitTimedOut "wait-timed-out"
    /// A wait whose deadline had passed could not become an event.
    WaitUndeliverable "wait-undeliverable"
    /// The deadline had resumed the wait when the emit came, which is a promise now.
    DeadlineWonRace "deadline-won-race"
    /// The deadline had passed when the emit came, and nobody had resumed the wait.
    EmitWonRace "emit-won-race"
    /// An await threw away what had been emitted without its token.
    PromiseDiscarded "promise-discarded"
    AuditRotated "audit-rotated"
    EmitRepeatableRead "emit-repeatable-read"
    /// An emit was refused with 40001.
    EmitSerializationFailure "emit-serialization-failure"
    ChildCompleted "child-completed"
    ChildFailed "child-failed"
    ChildDeadAttempts "child-dead-attempts"
    ChildDeadTries "child-dead-tries"
    ChildRejected "child-rejected"
    ChildUndeliverable "child-undeliverable"
    /// A child that was retried ended.
    ChildRetried "child-retried"
    /// A child whose window was taken over ended.
    ChildTakenOver "child-taken-over"
    /// The transactions of a join's last two children were open at the same time.
    LastChildrenConcurrent "last-children-concurrent"
    /// A join that was open in a crash of the server completed.
    JoinAcrossCrash "join-across-crash"
    /// One call completed several joins.
    JoinsTogether "joins-together"
    /// A join whose children had ended could not become an event.
    JoinUndeliverable "join-undeliverable"
    ChildlessSpawn "childless-spawn"
    /// A child had children of its own.
    NestedSpawn "nested-spawn"
    ResultsRead "results-read"
    /// After a retry, or by who took the window over.
    ResultsReadAgain "results-read-again"
}

/// A set of goals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Goals(u128);

const _: () = assert!(Reach::ALL.len() <= u128::BITS as usize, "a goal has no bit in a set of goals");

impl Goals {
    #[must_use]
    pub const fn with(self, goal: Reach) -> Goals {
        Goals(self.0 | 1 << goal as u32)
    }

    #[must_use]
    pub const fn and(self, others: Goals) -> Goals {
        Goals(self.0 | others.0)
    }

    pub const fn has(self, goal: Reach) -> bool {
        self.0 >> goal as u32 & 1 != 0
    }

    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }
}

impl Reach {
    pub fn by_name(name: &str) -> Option<Reach> {
        Reach::ALL.into_iter().find(|reach| reach.name() == name)
    }
}
