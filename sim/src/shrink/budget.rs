//! How much shrinking may cost. Counted in the records of the runs that are tried: so a failure shrinks to the same thing on
//! every machine, and in every build.
//!
//! What it is not: a promise of how long it takes. The clock is looked at as well, far behind, for whoever waits; what it
//! cuts off says so.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A share of what may be spent. Its parts, and its clones, spend of the same.
#[derive(Clone, Debug)]
pub struct Budget {
    spent: Rc<Cell<u64>>,
    /// It is over when so much is spent.
    until: u64,
    /// And at that time, whatever is left.
    clock: Instant,
}

/// Why shrinking stopped before there was nothing left to try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped {
    Spent,
    /// On a faster machine it would not have.
    ByTheClock,
}

impl Budget {
    /// Enough for nearly all that the project's workloads can draw, but for what needs a network: some twenty seconds of a
    /// processor.
    pub const USUAL: u64 = 40_000_000;
    /// As long as anybody waits.
    pub const LONGEST: Duration = Duration::from_secs(600);
    /// What a record costs that a server makes, in those that the simulator makes.
    pub const REPLAYED: u64 = 600;

    pub fn usual() -> Budget {
        Budget::of(Budget::USUAL, Budget::LONGEST)
    }

    /// So many records, and so much time from now on.
    pub fn of(records: u64, longest: Duration) -> Budget {
        Budget { spent: Rc::default(), until: records, clock: Instant::now() + longest }
    }

    pub fn spend(&self, records: u64) {
        self.spent.set(self.spent.get().saturating_add(records));
    }

    pub fn stopped(&self) -> Option<Stopped> {
        match self.spent.get() >= self.until {
            true => Some(Stopped::Spent),
            false => (Instant::now() >= self.clock).then_some(Stopped::ByTheClock),
        }
    }

    pub fn is_over(&self) -> bool {
        self.stopped().is_some()
    }

    /// Of what is left one part out of so many.
    pub(super) fn part(&self, of: u64) -> Budget {
        let spent = self.spent.get();
        Budget { until: spent + self.until.saturating_sub(spent) / of, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Stopped};
    use std::time::Duration;

    #[test]
    fn parts_spend_of_the_same() {
        let whole = Budget::of(90, Duration::from_secs(60));
        let third = whole.part(3);
        third.spend(29);
        assert_eq!((third.stopped(), whole.stopped()), (None, None));
        third.spend(1);
        assert_eq!((third.stopped(), whole.stopped()), (Some(Stopped::Spent), None));
        let half = whole.part(2);
        half.spend(30);
        assert!(half.is_over() && !whole.is_over());
        whole.spend(30);
        assert_eq!(whole.stopped(), Some(Stopped::Spent));
        assert_eq!(Budget::of(1, Duration::ZERO).stopped(), Some(Stopped::ByTheClock));
    }
}
