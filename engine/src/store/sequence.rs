//! Sequences: not transactional, logged ahead, and set back by a crash to what the log has on disk.

/// PostgreSQL writes a log record for so many values beyond the one asked for (`SEQ_LOG_VALS`).
const LOGGED_AHEAD: u32 = 32;

/// One sequence that starts at 1.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    last: u32,
    /// Values that may be handed out before the next log record.
    logged_ahead: u32,
    /// What the newest log record says, and where in the log it stands.
    record: (u32, u64),
    /// What the newest record before that says that is on disk for certain.
    flushed_record: u32,
}

impl Sequence {
    pub const fn last(&self) -> u32 {
        self.last
    }

    /// The next value, and whether it wrote a log record (which needs a transaction id).
    pub fn next(&mut self, log: &mut LogPosition) -> (u32, bool) {
        self.last += 1;
        let logs = self.logged_ahead == 0;
        if logs {
            if self.record.1 <= log.flushed {
                self.flushed_record = self.record.0;
            }
            log.written += 1;
            self.record = (self.last + LOGGED_AHEAD, log.written);
            self.logged_ahead = LOGGED_AHEAD;
        } else {
            self.logged_ahead -= 1;
        }
        (self.last, logs)
    }

    /// After a crash values start behind the newest record on disk: values that only lost transactions had seen may
    /// be issued again, values that a committed one had seen may not.
    pub fn crash(&mut self, log: &LogPosition) {
        self.last = if self.record.1 <= log.flushed { self.record.0 } else { self.flushed_record };
        self.logged_ahead = 0;
        self.record = (self.last, log.flushed);
        self.flushed_record = self.last;
    }
}

/// How far the write-ahead log was written and flushed, counted in sequence records: nothing else is asked of it.
#[derive(Clone, Debug, Default)]
pub struct LogPosition {
    pub written: u64,
    pub flushed: u64,
}

impl LogPosition {
    pub fn flush(&mut self) {
        self.flushed = self.written;
    }
}
