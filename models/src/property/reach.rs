//! Reach: the *sometimes* side of the checks. A goal that no run of a sweep ever hits means that the sweep proved less
//! than it seems to.
//!
//! Counted from histories alone, like the properties. The second part of the list is a matrix: what befalls a process,
//! by the place where it stands; the third part is of what only a network does, and so is the fourth, in places. What cannot be, or is so rare that a sweep of 10,000 runs could miss it, or one of 500 over a network, is left out, with
//! the reason. Not here: which faults a plan asked for (the simulator knows).

use super::place::{Blow, Place};
use alloc::format;
use alloc::string::String;

goals! {
    /// A window moved to another worker.
    Takeover "takeover"
    /// A window moved by a duty of its own, not by a claim.
    TakeoverDuty "takeover-duty"
    /// Others asked for windows while a transaction had held one for longer than the dead interval, and then handed it off.
    TakeoverTriedWhileHeld "takeover-tried-while-held"
    /// A worker held a window that had been taken over, and was refused.
    ZombieHoldRefused "zombie-hold-refused"
    /// A handoff of a window that had been taken over was refused.
    ZombieHandoffRefused "zombie-handoff-refused"
    /// A heartbeat for a window that had been taken over was refused.
    ZombieHeartbeatRefused "zombie-heartbeat-refused"
    /// A read of a window that had been taken over was refused.
    ZombieReadRefused "zombie-read-refused"
    /// A read of results for a window that had been taken over was refused.
    ZombieResultsRefused "zombie-results-refused"
    /// A hand-out of an isolated window that had been taken over was refused.
    ZombieHandOutRefused "zombie-hand-out-refused"
    /// A handoff was repeated that had committed without being heard of.
    RepetitionRefused "repetition-refused"
    /// A worker came back to find its token dead.
    StaleTokenRefused "stale-token-refused"
    /// A claim whose reply was lost, so that nobody knew of the window, was taken over.
    TakeoverOfLostClaim "takeover-of-lost-claim"
    /// A transaction held its window for longer than the dead interval, and handed it off.
    HandoffAfterDeadInterval "handoff-after-dead-interval"
    /// A call had to wait for a lock.
    BlockedCall "blocked-call"
    /// PostgreSQL left open who of several went first.
    OpenChoice "open-choice"
    /// What a lost reply would have said was committed.
    LostReplyCommitted "lost-reply-committed"
    /// What a lost request or reply was about came to nothing.
    LostReplyAborted "lost-reply-aborted"
    /// A tick's snapshot had transactions in progress.
    TickInProgress "tick-with-in-progress"
    /// An event that was in progress at one tick came with a later one.
    InProgressDelivered "in-progress-delivered"
    /// A tick was taken in a transaction of its caller's.
    TickInTransaction "tick-in-transaction"
    /// An append went to a table that was not current.
    LateAppend "late-append"
    /// An event was delivered again.
    Redelivery "redelivery"
    /// A window was read in pages.
    PagedRead "paged-read"
    /// A handoff that did not cover its window was refused.
    WindowMismatchRefused "window-mismatch-refused"
    /// A claim of who had a window already was refused.
    WindowOpenRefused "window-open-refused"
    /// A second consumer of a queue of workflows was refused.
    OneConsumerRefused "one-consumer-refused"
    /// A call at the wrong isolation level was refused.
    IsolationRefused "isolation-level-refused"
    /// A duty in a transaction that had written was refused.
    WroteBeforeRefused "wrote-before-refused"
    /// A statement of a failed transaction was refused.
    FailedTransactionRefused "failed-transaction-refused"
    /// A commit with a window held and not handed off was refused.
    HeldWindowRefused "held-window-refused"
    /// Something too large was refused.
    LimitRefused "limit-refused"
    /// A row with a key that was taken was refused.
    UniqueViolation "unique-violation"
    // One of whoever holds a window is not asked for: a worker takes its locks in one call, in their order, and is in a cycle
    // only with clients who emit several times in a transaction; a few of 10,000 runs see that.
    /// A call was the victim of a deadlock.
    Deadlock "deadlock"
    /// A call was refused because its snapshot was too old.
    SerializationFailure "serialization-failure"
    /// A call gave up waiting for a lock.
    LockTimeout "lock-timeout"
    /// A claim found nothing.
    EmptyPoll "empty-poll"
    /// A tick had nothing to do.
    IdleTick "idle-tick"
    /// The event tables were rotated.
    RotationDone "rotation-done"
    /// The event tables were rotated while another transaction kept its snapshot.
    RotationUnderSnapshot "rotation-under-snapshot"
    /// A rotation left everything as it was.
    RotationRefused "rotation-refused"
    /// A message was scheduled for later.
    TimerScheduled "timer-scheduled"
    /// A timer fired.
    TimerFired "timer-fired"
    /// A timer fired whose transaction had committed when it was due already.
    TimerFiredLatePath "timer-fired-late-path"
    /// A drain left some of what was due to the next one.
    TimerPageFull "timer-page-full"
    /// A timer was cancelled.
    TimerCancelled "timer-cancelled"
    /// A cancel came when the timer had fired.
    TimerCancelTooLate "timer-cancel-too-late"
    /// The timer tables were rotated.
    TimerRotation "timer-rotation"
    /// A rotation of timers would have had to move too much.
    TimerRotationKept "timer-rotation-kept"
    /// A rotation moved what was not delivered.
    TimerMoved "timer-moved"
    /// A timer could not be delivered.
    TimerDeadLetter "timer-dead-letter"
    /// A step was retried.
    Retry "retry"
    /// A step had used up its attempts.
    RetryExhausted "retry-exhausted"
    /// A step without code became a dead letter.
    DeadLetterRejected "dead-letter-rejected"
    /// An event that killed its handlers became a dead letter.
    DeadLetterTries "dead-letter-tries"
    /// A dead letter was replayed.
    DeadLetterReplayed "dead-letter-replayed"
    /// A window was given out as isolated.
    Isolation "isolation"
    /// An isolated window moved to another worker.
    IsolatedTakeover "isolated-takeover"
    /// A handoff of one event of an isolated window.
    IsolatedHandoff "isolated-handoff"
    /// An isolated window was finished.
    IsolationFinished "isolation-finished"
    /// A start with a key that was known.
    StartRepeated "start-repeated"
    /// An append, start or handoff that was rolled back.
    WriteRolledBack "write-rolled-back"
    /// A savepoint was rolled back to, and undid something.
    SavepointUndone "savepoint-undone"
    /// A transaction at REPEATABLE READ that had written was committed.
    RepeatableReadCommit "repeatable-read-commit"
    /// External work was done again.
    ExternalWorkRepeated "external-work-repeated"
    /// The server died.
    ServerCrash "server-crash"
    /// A crash of the server lost an acknowledged commit.
    AsyncCommitLost "async-commit-lost"
    /// A worker came back whose claim such a crash had lost.
    LostClaimRefused "lost-claim-refused"
    /// The server's wall clock was set, forward or back.
    ServerClockStep "server-clock-step"
    /// A process died.
    Crash "crash"
    /// A process died in a transaction.
    CrashInTransaction "crash-in-transaction"
    /// A process died while its transaction held its window.
    CrashWhileHolding "crash-while-holding"
    /// A process stood still.
    Pause "pause"
    /// The server ended a session that was idle while its transaction held a window.
    SessionEndWhileHolding "session-end-while-holding"
    /// A request or a reply was lost.
    LostReply "lost-reply"
    /// An await found what had been emitted before.
    EmitBeforeAwait "emit-before-await"
    /// The transaction that left a promise was open when the await came, and that waited for it.
    AwaitBlockedByEmit "await-blocked-by-emit"
    /// The transaction that registered a wait was open when the emit came, and that waited for it.
    EmitBlockedByAwait "emit-blocked-by-await"
    /// An emit resumed a wait.
    EmitAfterAwait "emit-after-await"
    /// An emit was repeated under its id.
    EmitRepeated "emit-repeated"
    /// An emit came second.
    EmitSecond "emit-second"
    /// An emit did not have the token of the wait.
    EmitForged "emit-forged"
    /// An emit came when its workflow had ended.
    EmitDead "emit-dead"
    /// A wait ended by its deadline.
    WaitTimedOut "wait-timed-out"
    /// A wait whose deadline had passed could not become an event.
    WaitUndeliverable "wait-undeliverable"
    /// The deadline had resumed the wait when the emit came, which is a promise now.
    DeadlineWonRace "deadline-won-race"
    /// The deadline had passed when the emit came, and nobody had resumed the wait.
    EmitWonRace "emit-won-race"
    /// An await threw away what had been emitted without its token.
    PromiseDiscarded "promise-discarded"
    /// The audit tables were rotated.
    AuditRotated "audit-rotated"
    /// An emit at REPEATABLE READ was committed.
    EmitRepeatableRead "emit-repeatable-read"
    /// An emit was refused with 40001.
    EmitSerializationFailure "emit-serialization-failure"
    /// A child completed.
    ChildCompleted "child-completed"
    /// A child failed.
    ChildFailed "child-failed"
    /// A child became a dead letter: its attempts were used up.
    ChildDeadAttempts "child-dead-attempts"
    /// A child became a dead letter: it had killed its handlers.
    ChildDeadTries "child-dead-tries"
    /// A child became a dead letter: nobody had code for its step.
    ChildRejected "child-rejected"
    /// A child became a dead letter: it could not be delivered.
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
    /// A spawn had no children.
    ChildlessSpawn "childless-spawn"
    /// A child had children of its own.
    NestedSpawn "nested-spawn"
    /// A parent read what its children had left.
    ResultsRead "results-read"
    /// A parent read them again, after a retry or a takeover.
    ResultsReadAgain "results-read-again"

    ;
    Crash {
        // Not here: what nobody does who dies: a duty, and a client other than who emits. A heartbeat waits only for who takes
        // the window over, and nobody aims at that; a failed transaction is rolled back with the next call.
        Idle CrashIdle "crash-idle"
        Claimed CrashClaimed "crash-claimed"
        Working CrashWorking "crash-working"
        Isolated CrashIsolated "crash-isolated"
        Begun CrashBegun "crash-begun"
        Claiming CrashClaiming "crash-claiming"
        Held CrashHeld "crash-held"
        EffectMade CrashEffectMade "crash-effect-made"
        HandedOff CrashHandedOff "crash-handed-off"
        CommitUnheard CrashCommitUnheard "crash-commit-unheard"
        ClientBegun CrashClientBegun "crash-client-begun"
        Started CrashStarted "crash-started"
        Emitted CrashEmitted "crash-emitted"
        ClientCommitUnheard CrashClientCommitUnheard "crash-client-commit-unheard"
        BlockedClaim CrashBlockedClaim "crash-blocked-claim"
        BlockedHold CrashBlockedHold "crash-blocked-hold"
        BlockedHandOut CrashBlockedHandOut "crash-blocked-hand-out"
        BlockedEmit CrashBlockedEmit "crash-blocked-emit"
        BlockedStart CrashBlockedStart "crash-blocked-start"
        BlockedHandoff CrashBlockedHandoff "crash-blocked-handoff"
        BlockedReader CrashBlockedReader "crash-blocked-reader"
        CutOff CrashCutOff "crash-cut-off"
    }
    Pause {
        // Who emits and every worker may stand still; a duty too, but never in a transaction of its own. Who waits is
        // woken all the same: what stands still is what follows.
        Idle PauseIdle "pause-idle"
        Claimed PauseClaimed "pause-claimed"
        Working PauseWorking "pause-working"
        Isolated PauseIsolated "pause-isolated"
        Begun PauseBegun "pause-begun"
        Claiming PauseClaiming "pause-claiming"
        Held PauseHeld "pause-held"
        EffectMade PauseEffectMade "pause-effect-made"
        HandedOff PauseHandedOff "pause-handed-off"
        Failed PauseFailed "pause-failed"
        CommitUnheard PauseCommitUnheard "pause-commit-unheard"
        ClientBegun PauseClientBegun "pause-client-begun"
        Started PauseStarted "pause-started"
        Emitted PauseEmitted "pause-emitted"
        ClientCommitUnheard PauseClientCommitUnheard "pause-client-commit-unheard"
        BlockedClaim PauseBlockedClaim "pause-blocked-claim"
        BlockedHandoff PauseBlockedHandoff "pause-blocked-handoff"
        BlockedTick PauseBlockedTick "pause-blocked-tick"
        BlockedRotate PauseBlockedRotate "pause-blocked-rotate"
        BlockedDrain PauseBlockedDrain "pause-blocked-drain"
        BlockedReader PauseBlockedReader "pause-blocked-reader"
        CutOff PauseCutOff "pause-cut-off"
    }
    SessionEnd {
        // Only a transaction that holds its window has a limit; one that has failed is rolled back at once.
        Held SessionEndHeld "session-end-held"
        EffectMade SessionEndEffectMade "session-end-effect-made"
        HandedOff SessionEndHandedOff "session-end-handed-off"
    }
    LostRequest {
        // A request that is lost was no wait, and what is blocked has been made. A commit that nobody heard of is behind whoever
        // makes a request; only the calls of a rollback follow a failed statement, and nobody aims at those.
        Idle LostRequestIdle "lost-request-idle"
        Claimed LostRequestClaimed "lost-request-claimed"
        Working LostRequestWorking "lost-request-working"
        Begun LostRequestBegun "lost-request-begun"
        Claiming LostRequestClaiming "lost-request-claiming"
        Held LostRequestHeld "lost-request-held"
        EffectMade LostRequestEffectMade "lost-request-effect-made"
        HandedOff LostRequestHandedOff "lost-request-handed-off"
        ClientBegun LostRequestClientBegun "lost-request-client-begun"
        Started LostRequestStarted "lost-request-started"
        Emitted LostRequestEmitted "lost-request-emitted"
    }
    LostReply {
        // As above. Claims in transactions, and appends, are not aimed at often enough to be asked for.
        Idle LostReplyIdle "lost-reply-idle"
        Claimed LostReplyClaimed "lost-reply-claimed"
        Working LostReplyWorking "lost-reply-working"
        Begun LostReplyBegun "lost-reply-begun"
        Held LostReplyHeld "lost-reply-held"
        EffectMade LostReplyEffectMade "lost-reply-effect-made"
        HandedOff LostReplyHandedOff "lost-reply-handed-off"
        CommitUnheard LostReplyCommitUnheard "lost-reply-commit-unheard"
        ClientBegun LostReplyClientBegun "lost-reply-client-begun"
        Started LostReplyStarted "lost-reply-started"
        Emitted LostReplyEmitted "lost-reply-emitted"
        ClientCommitUnheard LostReplyClientCommitUnheard "lost-reply-client-commit-unheard"
    }
    ServerCrash {
        // Everyone is struck at once, wherever he stands. A hold and a heartbeat wait only for who takes the window over, an
        // expiry only for who emits: a few of 10,000 runs see the server die then, and a rotation of the audit in a transaction.
        Idle ServerCrashIdle "server-crash-idle"
        Claimed ServerCrashClaimed "server-crash-claimed"
        Working ServerCrashWorking "server-crash-working"
        Isolated ServerCrashIsolated "server-crash-isolated"
        Begun ServerCrashBegun "server-crash-begun"
        Claiming ServerCrashClaiming "server-crash-claiming"
        Held ServerCrashHeld "server-crash-held"
        EffectMade ServerCrashEffectMade "server-crash-effect-made"
        HandedOff ServerCrashHandedOff "server-crash-handed-off"
        CommitUnheard ServerCrashCommitUnheard "server-crash-commit-unheard"
        ClientBegun ServerCrashClientBegun "server-crash-client-begun"
        Started ServerCrashStarted "server-crash-started"
        Appended ServerCrashAppended "server-crash-appended"
        Emitted ServerCrashEmitted "server-crash-emitted"
        ClientFailed ServerCrashClientFailed "server-crash-client-failed"
        ClientCommitUnheard ServerCrashClientCommitUnheard "server-crash-client-commit-unheard"
        Ticked ServerCrashTicked "server-crash-ticked"
        Rotated ServerCrashRotated "server-crash-rotated"
        Drained ServerCrashDrained "server-crash-drained"
        TimersRotated ServerCrashTimersRotated "server-crash-timers-rotated"
        BlockedClaim ServerCrashBlockedClaim "server-crash-blocked-claim"
        BlockedHandOut ServerCrashBlockedHandOut "server-crash-blocked-hand-out"
        BlockedEmit ServerCrashBlockedEmit "server-crash-blocked-emit"
        BlockedAppend ServerCrashBlockedAppend "server-crash-blocked-append"
        Expired ServerCrashExpired "server-crash-expired"
        BlockedHandoff ServerCrashBlockedHandoff "server-crash-blocked-handoff"
        BlockedStart ServerCrashBlockedStart "server-crash-blocked-start"
        BlockedTick ServerCrashBlockedTick "server-crash-blocked-tick"
        BlockedRotate ServerCrashBlockedRotate "server-crash-blocked-rotate"
        BlockedDrain ServerCrashBlockedDrain "server-crash-blocked-drain"
        BlockedReader ServerCrashBlockedReader "server-crash-blocked-reader"
        CutOff ServerCrashCutOff "server-crash-cut-off"
    }
    Takeover {
        // Who holds its window keeps it, and so does who has claimed and not committed; a window that is finished is nobody's.
        Claimed TakeoverClaimed "takeover-claimed"
        Working TakeoverWorking "takeover-working"
        Isolated TakeoverIsolated "takeover-isolated"
        Begun TakeoverBegun "takeover-begun"
        Failed TakeoverFailed "takeover-failed"
        BlockedHold TakeoverBlockedHold "takeover-blocked-hold"
        BlockedHeartbeat TakeoverBlockedHeartbeat "takeover-blocked-heartbeat"
        BlockedHandoff TakeoverBlockedHandoff "takeover-blocked-handoff"
        BlockedReader TakeoverBlockedReader "takeover-blocked-reader"
        CutOff TakeoverCutOff "takeover-cut-off"
    }
    Wait {
        // A begin, a savepoint and a commit wait for nobody.
        BlockedClaim WaitBlockedClaim "wait-claim"
        BlockedHold WaitBlockedHold "wait-hold"
        BlockedHeartbeat WaitBlockedHeartbeat "wait-heartbeat"
        BlockedHandoff WaitBlockedHandoff "wait-handoff"
        BlockedHandOut WaitBlockedHandOut "wait-hand-out"
        BlockedEmit WaitBlockedEmit "wait-emit"
        BlockedStart WaitBlockedStart "wait-start"
        BlockedAppend WaitBlockedAppend "wait-append"
        BlockedTick WaitBlockedTick "wait-tick"
        BlockedRotate WaitBlockedRotate "wait-rotate"
        BlockedDrain WaitBlockedDrain "wait-drain"
        BlockedExpire WaitBlockedExpire "wait-expire"
        BlockedReader WaitBlockedReader "wait-reader"
    }
    ;
    /// A request arrived when its sender had given it up and gone on in another session.
    LateCall "late-call"
    /// Such a request was a commit, whose transaction its sender might have asked about.
    LateCommit "late-commit"
    /// A process went on in another session while the server kept the transaction of the one before.
    BesideOwnTransaction "beside-own-transaction"
    /// A partition was over before either end had noticed.
    PartitionUnnoticed "partition-unnoticed"
    /// A partition lasted until the process had given its connection up.
    PartitionNoticed "partition-noticed"
    /// The server gave up a session whose transaction held a window.
    SessionLostHolding "session-lost-holding"
    /// A process was gone while the server let its call wait for a lock.
    GoneWhileBlocked "gone-while-blocked"
    /// A worker asked for windows while the session of a process that was gone held one.
    ClaimWhileGoneHolds "claim-while-gone-holds"
    /// A call had waited for a lock until the server noticed that its holder was gone.
    WaitedForGone "waited-for-gone"
    /// A client asked what became of a commit without an answer: it had committed.
    AskedCommitted "asked-committed"
    /// A client asked what became of a commit without an answer: it had not committed.
    AskedAborted "asked-aborted"
    /// A client asked what became of a commit without an answer: its transaction was open still.
    AskedInProgress "asked-in-progress"

    ;
    Partition {
        Idle PartitionIdle "partition-idle"
        Claimed PartitionClaimed "partition-claimed"
        Working PartitionWorking "partition-working"
        Begun PartitionBegun "partition-begun"
        Held PartitionHeld "partition-held"
        EffectMade PartitionEffectMade "partition-effect-made"
        HandedOff PartitionHandedOff "partition-handed-off"
        ClientBegun PartitionClientBegun "partition-client-begun"
    }
    Unheard {
        Idle UnheardIdle "unheard-idle"
        Claimed UnheardClaimed "unheard-claimed"
        Working UnheardWorking "unheard-working"
        Begun UnheardBegun "unheard-begun"
        Held UnheardHeld "unheard-held"
        EffectMade UnheardEffectMade "unheard-effect-made"
        HandedOff UnheardHandedOff "unheard-handed-off"
        ClientBegun UnheardClientBegun "unheard-client-begun"
    }
    Deaf {
        Idle DeafIdle "deaf-idle"
        Claimed DeafClaimed "deaf-claimed"
        Working DeafWorking "deaf-working"
        Begun DeafBegun "deaf-begun"
        Held DeafHeld "deaf-held"
        EffectMade DeafEffectMade "deaf-effect-made"
        HandedOff DeafHandedOff "deaf-handed-off"
        ClientBegun DeafClientBegun "deaf-client-begun"
    }
    HeldUp {
        Idle HeldUpIdle "held-up-idle"
        Claimed HeldUpClaimed "held-up-claimed"
        Working HeldUpWorking "held-up-working"
        Begun HeldUpBegun "held-up-begun"
        Held HeldUpHeld "held-up-held"
        EffectMade HeldUpEffectMade "held-up-effect-made"
        HandedOff HeldUpHandedOff "held-up-handed-off"
        ClientBegun HeldUpClientBegun "held-up-client-begun"
    }
    SlowLink {
        Idle SlowLinkIdle "slow-link-idle"
        Claimed SlowLinkClaimed "slow-link-claimed"
        Working SlowLinkWorking "slow-link-working"
        Begun SlowLinkBegun "slow-link-begun"
        Held SlowLinkHeld "slow-link-held"
        EffectMade SlowLinkEffectMade "slow-link-effect-made"
        HandedOff SlowLinkHandedOff "slow-link-handed-off"
        ClientBegun SlowLinkClientBegun "slow-link-client-begun"
    }
    Late {
        Idle LateIdle "late-idle"
        Claimed LateClaimed "late-claimed"
        Working LateWorking "late-working"
        Begun LateBegun "late-begun"
        Held LateHeld "late-held"
        EffectMade LateEffectMade "late-effect-made"
        HandedOff LateHandedOff "late-handed-off"
        ClientBegun LateClientBegun "late-client-begun"
    }
    LostToProcess {
        Idle LostToProcessIdle "lost-to-process-idle"
        Claimed LostToProcessClaimed "lost-to-process-claimed"
        Working LostToProcessWorking "lost-to-process-working"
        Begun LostToProcessBegun "lost-to-process-begun"
        Held LostToProcessHeld "lost-to-process-held"
        EffectMade LostToProcessEffectMade "lost-to-process-effect-made"
        HandedOff LostToProcessHandedOff "lost-to-process-handed-off"
        ClientBegun LostToProcessClientBegun "lost-to-process-client-begun"
    }
    LostToServer {
        Idle LostToServerIdle "lost-to-server-idle"
        Claimed LostToServerClaimed "lost-to-server-claimed"
        Working LostToServerWorking "lost-to-server-working"
        Begun LostToServerBegun "lost-to-server-begun"
        Held LostToServerHeld "lost-to-server-held"
        EffectMade LostToServerEffectMade "lost-to-server-effect-made"
        HandedOff LostToServerHandedOff "lost-to-server-handed-off"
        ClientBegun LostToServerClientBegun "lost-to-server-client-begun"
    }
    GivenUp {
        Idle GivenUpIdle "given-up-idle"
        Claimed GivenUpClaimed "given-up-claimed"
        Working GivenUpWorking "given-up-working"
        Begun GivenUpBegun "given-up-begun"
        Held GivenUpHeld "given-up-held"
        EffectMade GivenUpEffectMade "given-up-effect-made"
        HandedOff GivenUpHandedOff "given-up-handed-off"
        ClientBegun GivenUpClientBegun "given-up-client-begun"
    }
}

impl Reach {
    pub fn by_name(name: &str) -> Option<Reach> {
        Reach::ALL.into_iter().find(|reach| reach.name() == name)
    }
}
