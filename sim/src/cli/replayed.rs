//! What a run's replays on a real server came to; of several runs, all together.

use crate::lockstep::Counts;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tourbillon_models::property::Goals;

/// What became of the second half.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replayed {
    /// Nobody asked for it.
    Off,
    On {
        /// None if there was no server to be had.
        server_version: Option<String>,
        histories: u64,
        counts: Counts,
        goals: Goals,
        wall: Duration,
        /// Why there were not more.
        stopped: Option<String>,
    },
}

impl Replayed {
    /// Both together.
    pub fn and(self, other: Replayed) -> Replayed {
        match (self, other) {
            (Replayed::Off, other) => other,
            (one, Replayed::Off) => one,
            (
                Replayed::On { server_version, histories, mut counts, goals, wall, stopped },
                Replayed::On {
                    server_version: version,
                    histories: more,
                    counts: others,
                    goals: reached,
                    wall: time,
                    stopped: end,
                },
            ) => {
                counts.add(others);
                let server_version = match (server_version, version) {
                    (Some(one), Some(other)) if !one.split(" and ").any(|one| one == other) => {
                        Some(format!("{one} and {other}"))
                    }
                    (one, other) => one.or(other),
                };
                let (histories, goals, wall) = (histories + more, goals.and(reached), wall.max(time));
                Replayed::On { server_version, histories, counts, goals, wall, stopped: stopped.or(end) }
            }
        }
    }
}
