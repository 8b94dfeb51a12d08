//! A set of goals: what a run reached, in four words.

use super::Reach;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of goals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Goals([u64; WORDS]);

const WORDS: usize = Reach::ALL.len().div_ceil(u64::BITS as usize);

impl Goals {
    pub const NONE: Goals = Goals([0; WORDS]);

    #[must_use]
    pub const fn with(mut self, goal: Reach) -> Goals {
        let index = goal as usize;
        self.0[index / 64] |= 1 << (index % 64);
        self
    }

    #[must_use]
    pub const fn and(mut self, others: Goals) -> Goals {
        let mut word = 0;
        while word < WORDS {
            self.0[word] |= others.0[word];
            word += 1;
        }
        self
    }

    pub const fn has(self, goal: Reach) -> bool {
        let index = goal as usize;
        self.0[index / 64] >> (index % 64) & 1 != 0
    }

    pub fn count(self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// By name.
impl Serialize for Goals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(Reach::ALL.iter().filter(|goal| self.has(**goal)).map(|goal| goal.name()))
    }
}

impl<'de> Deserialize<'de> for Goals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let goal =
            |name: &String| Reach::by_name(name).ok_or_else(|| D::Error::custom(format!("there is no goal {name}")));
        Vec::<String>::deserialize(deserializer)?
            .iter()
            .try_fold(Goals::NONE, |goals, name| Ok(goals.with(goal(name)?)))
    }
}

impl Default for Goals {
    fn default() -> Goals {
        Goals::NONE
    }
}
