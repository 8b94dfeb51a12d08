//! A process's own clock: right, or wrong until somebody sets it right.
//!
//! Virtual time is the truth. A process's clock may begin some way off, run faster or slower, and step, forward or back,
//! when it is set. What reaches the engine from there are spans; where a call names the time as well, the engine does not
//! go by it. Not here: the server's wall clock, which a fault may set ([`run`](crate::run)).

use serde::{Deserialize, Serialize};
use tourbillon_models::name::Micros;

/// What a process takes for the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    #[default]
    Right,
    Wrong(Drift),
}

/// It begins `ahead` of the truth, and shows `shown` microseconds more in each `passed`, until it is set right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Drift {
    pub ahead: Micros,
    /// At least 1, like `passed`.
    pub shown: u32,
    pub passed: u32,
    pub until: Micros,
}

impl Clock {
    pub const fn is_right(&self) -> bool {
        matches!(self, Clock::Right)
    }

    /// Whether its rate is one: a plan may come from anywhere.
    pub const fn is_possible(&self) -> bool {
        match self {
            Clock::Right => true,
            Clock::Wrong(drift) => drift.shown > 0 && drift.passed > 0,
        }
    }

    /// What it shows at a time.
    pub const fn at(self, time: Micros) -> Micros {
        match self {
            Clock::Wrong(drift) if time.0 < drift.until.0 => drift.at(time),
            Clock::Right | Clock::Wrong(_) => time,
        }
    }

    /// The first time, from `now` on, at which it shows at least so much; but whoever is asleep when it is set wakes then,
    /// rather than sleep on until a time that has moved away.
    pub fn when(self, shown: Micros, now: Micros) -> Micros {
        let drift = match self {
            Clock::Wrong(drift) if now < drift.until => drift,
            Clock::Right | Clock::Wrong(_) => return now.max(shown),
        };
        now.max(drift.when(shown)).min(drift.until)
    }
}

impl Drift {
    const fn at(self, time: Micros) -> Micros {
        Micros(self.ahead.0 + time.0 * self.shown as u64 / self.passed as u64)
    }

    fn when(self, shown: Micros) -> Micros {
        Micros(((shown - self.ahead).0 * u64::from(self.passed)).div_ceil(u64::from(self.shown)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn clocks() -> Vec<Clock> {
        let wrong = |ahead, shown, passed| {
            Clock::Wrong(Drift { ahead: Micros(ahead), shown, passed, until: Micros(3 * SECOND) })
        };
        vec![Clock::Right, wrong(0, 1, 3), wrong(0, 7, 2), wrong(SECOND, 1, 1), wrong(5 * SECOND, 2, 3)]
    }

    #[test]
    fn whoever_wakes_is_shown_what_he_waited_for_or_a_clock_that_was_set() {
        for clock in clocks() {
            for now in (0..5 * SECOND).step_by(99_991) {
                for shown in (0..7 * SECOND).step_by(333_337) {
                    let when = clock.when(Micros(shown), Micros(now));
                    assert!(when >= Micros(now), "{clock:?} {now} {shown}");
                    let is_set = when == Micros(3 * SECOND);
                    assert!(clock.at(when) >= Micros(shown) || is_set, "{clock:?} {now} {shown}: {when}");
                }
            }
        }
    }

    #[test]
    fn a_right_clock_shows_the_time() {
        for clock in clocks() {
            assert_eq!(clock.at(Micros(4 * SECOND)), Micros(4 * SECOND));
            assert_eq!(clock.when(Micros(9 * SECOND), Micros(4 * SECOND)), Micros(9 * SECOND));
        }
    }

    #[test]
    fn a_clock_that_is_set_steps() {
        let fast = clocks()[4];
        assert_eq!(fast.at(Micros(3 * SECOND - 3)), Micros(7 * SECOND - 2));
        assert_eq!(fast.at(Micros(3 * SECOND)), Micros(3 * SECOND));
        assert_eq!(fast.when(Micros(8 * SECOND), Micros(0)), Micros(3 * SECOND), "when it is set, and no later");
    }
}
