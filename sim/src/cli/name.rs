//! Names on the command line: found, or refused with the nearest one and all of them.

use std::num::IntErrorKind;
use std::str::FromStr;
use tourbillon_engine::guard::{Design, Guard};
use tourbillon_models::export::Format;
use tourbillon_models::property::Property;
use tourbillon_models::workload::Workload;

use crate::chaos::blow::Kind;
use crate::faults::FaultKind;
use crate::net::network::NetworkFault;

/// A sentence for the user.
pub type Refusal = String;

pub fn workload(name: &str) -> Result<&'static str, Refusal> {
    let names = Workload::ALL.map(|workload| workload.name());
    find("workload", name, names, |name| names.into_iter().find(|known| *known == name))
}

/// Also one that no seed draws.
pub fn any_workload(name: &str) -> Result<&'static str, Refusal> {
    let names = || Workload::SMALL.into_iter().chain(Workload::ALL).map(|workload| workload.name());
    find("workload", name, names(), |name| names().find(|known| *known == name))
}

/// Either of a guard and a design that removes some.
pub fn guard_or_design(name: &str) -> Result<&'static str, Refusal> {
    let designs = Design::ALL.iter().filter(|design| !design.removed.is_empty()).map(|design| design.name);
    let names: Vec<&'static str> = Guard::ALL.into_iter().map(Guard::name).chain(designs).collect();
    let by_name = |name: &str| names.iter().copied().find(|known| *known == name);
    find("guard or design", name, names.clone(), by_name)
}

pub fn guard(name: &str) -> Result<Guard, Refusal> {
    find("guard", name, Guard::ALL.map(Guard::name), Guard::by_name)
}

pub fn property(name: &str) -> Result<Property, Refusal> {
    find("property", name, Property::ALL.map(Property::id), Property::by_name)
}

pub fn design(name: &str) -> Result<&'static Design, Refusal> {
    find("design", name, Design::ALL.map(|design| design.name), Design::by_name)
}

pub fn format(name: &str) -> Result<Format, Refusal> {
    let by_name = |name: &str| Format::ALL.into_iter().find(|format| format.name() == name);
    find("format", name, Format::ALL.map(Format::name), by_name)
}

/// Kinds of fault, or none at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultName {
    Kind(FaultKind),
    /// All that befalls a network.
    Network,
    OfNetwork(NetworkFault),
    None,
}

impl FaultName {
    /// Its name, if only a network has it.
    pub const fn of_network(self) -> Option<&'static str> {
        match self {
            FaultName::Network => Some("network"),
            FaultName::OfNetwork(fault) => Some(fault.name()),
            FaultName::Kind(_) | FaultName::None => None,
        }
    }
}

impl FromStr for FaultName {
    type Err = Refusal;

    fn from_str(name: &str) -> Result<Self, Refusal> {
        let of_network = NetworkFault::DRAWN.map(NetworkFault::name);
        let names = FaultKind::ALL.iter().map(|kind| kind.name()).chain(of_network).chain(["network", "none"]);
        find("fault", name, names, |name| match name {
            "none" => Some(FaultName::None),
            "network" => Some(FaultName::Network),
            name => {
                let kind = FaultKind::by_name(name).map(FaultName::Kind);
                kind.or_else(|| NetworkFault::by_name(name).map(FaultName::OfNetwork))
            }
        })
    }
}

/// What befalls the processes of `chaos` and their server, or nothing at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlowName {
    Kind(Kind),
    None,
}

impl FromStr for BlowName {
    type Err = Refusal;

    fn from_str(name: &str) -> Result<Self, Refusal> {
        find("fault", name, Kind::ALL.map(Kind::name).into_iter().chain(["none"]), |name| match name {
            "none" => Some(BlowName::None),
            name => Kind::by_name(name).map(BlowName::Kind),
        })
    }
}

/// The one with that name.
fn find<T>(
    noun: &str,
    name: &str,
    known: impl IntoIterator<Item = &'static str>,
    by_name: impl Fn(&str) -> Option<T>,
) -> Result<T, Refusal> {
    // `claim-lock` for `claim_lock`, and the other way round, is no reason to stop.
    let variants = [name.to_owned(), name.replace('-', "_"), name.replace('_', "-")];
    variants.iter().find_map(|name| by_name(name)).ok_or_else(|| refusal(noun, name, known))
}

/// At least one of something.
pub fn at_least_one(text: &str) -> Result<u64, Refusal> {
    match text.parse::<u64>() {
        Ok(number) if number > 0 => Ok(number),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => {
            Err(format!("{text} is larger than the largest number, {}", u64::MAX))
        }
        _ => Err(format!("{text:?} is not a number from 1 on")),
    }
}

fn refusal(noun: &str, name: &str, known: impl IntoIterator<Item = &'static str>) -> Refusal {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known.iter().copied().min_by_key(|known| distance(name, known));
    match nearest.filter(|known| distance(name, known) <= (known.len() / 3).max(2)) {
        Some(nearest) => format!("there is no {noun} {name:?}; did you mean {nearest}?"),
        None => format!("there is no {noun} {name:?}; there are {}", known.join(", ")),
    }
}

/// How many letters must be changed, added or left out to get from one to the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, theirs) in other.iter().enumerate() {
            let kept = diagonal + usize::from(letter != *theirs);
            diagonal = row[column + 1];
            row[column + 1] = kept.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// A seed: decimal, or the hash of a git commit. A whole hash is one even if all its digits are decimal.
pub fn seed(text: &str) -> Result<u64, Refusal> {
    let is_whole_hash = matches!(text.len(), 40 | 64);
    if !is_whole_hash && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| format!("{text} is larger than the largest seed, {}", u64::MAX));
    }
    let is_hash = (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = text.get(..text.len().min(16)).filter(|_| is_hash);
    let seed = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    seed.ok_or_else(|| format!("a seed is a decimal number or a git commit hash (7 to 64 hex digits), not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (one, other, expected) in
            [("", "abc", 3), ("chian", "chain", 2), ("claim_lok", "claim_lock", 1), ("a", "a", 0)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_or_the_list() {
        assert_eq!(guard("claim_lok").unwrap_err(), "there is no guard \"claim_lok\"; did you mean claim_lock?");
        let refusal = workload("x").unwrap_err();
        assert!(
            refusal.starts_with("there is no workload \"x\"; there are chain, agent-loop, messages, "),
            "{refusal}"
        );
        assert_eq!(guard("claim-lock"), Ok(Guard::ClaimLock));
        assert_eq!("none".parse(), Ok(FaultName::None));
    }

    #[test]
    fn a_number_that_is_too_large_is_not_called_too_small() {
        assert_eq!(at_least_one("18446744073709551615"), Ok(u64::MAX));
        let refusal = at_least_one("18446744073709551616").unwrap_err();
        assert_eq!(refusal, "18446744073709551616 is larger than the largest number, 18446744073709551615");
        assert_eq!(at_least_one("0").unwrap_err(), "\"0\" is not a number from 1 on");
    }

    #[test]
    fn a_seed_is_decimal_or_a_commit() {
        assert_eq!(seed("1234567"), Ok(1_234_567));
        assert_eq!(seed("6abe3af"), Ok(0x6abe3af));
        assert_eq!(seed("6abe3afc9d0e4b7a8f1122334455667788990011"), Ok(0x6abe_3afc_9d0e_4b7a));
        assert_eq!(seed("1234567890123456789012345678901234567890"), Ok(0x1234_5678_9012_3456));
        for text in ["", "-1", "abc", "0x12", "99999999999999999999", "zzzzzzz", "ééééééé"] {
            assert!(seed(text).is_err(), "{text}");
        }
    }
}
