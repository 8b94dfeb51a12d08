//! The summary of a run: as text for people, as JSON for programs, and as an exit code.

mod json;

use super::figures::{count, counted, long, rate, wall};
use super::merge::Part;
use super::replayed::Replayed;
use super::saved::Saved;
use super::{Console, Exit, scope};
use crate::capsule::Tool;
use crate::faults::FaultKind;
use crate::net::failing::Failing;
use crate::net::network::NetworkFault::{self, SessionLost};
use crate::simulate::On;
use crate::sweep::Swept;
use anyhow::Result;
use tourbillon_models::property::{Property, Reach};
use tourbillon_models::verdict::Judgement;

/// Everything that a run came to, or the runs of all its shares together.
pub struct Report<'a> {
    pub scope: &'a scope::Arguments,
    pub part: &'a Part,
    /// Those of the sweep by seed, then those of the replays.
    pub failures: &'a [Saved],
}

/// So many runs of every workload under every fault reach every goal and exercise every property.
const RUNS_FOR_EVERYTHING: u64 = 10_000;
/// And so many over a network those that are asked of it alone.
const RUNS_OVER_NETWORK: u64 = 500;

const ALL_KINDS: usize = FaultKind::ALL.len();

/// How many failures are told in full; so many others are named, and the rest are counted.
const TOLD: usize = 3;
const NAMED: usize = 7;
/// So many goals that were not reached are named in text: of a narrow sweep they are most.
const NEVER_NAMED: usize = 24;

fn named(others: &[Saved], console: &Console) -> Option<String> {
    let lines = others.iter().take(NAMED).map(|saved| format!("\nalso: {}", saved.brief(console)));
    let rest = others.len().saturating_sub(NAMED);
    let rest = (rest > 0).then(|| format!("\nand {rest} more, saved beside them"));
    (!others.is_empty()).then(|| lines.chain(rest).chain(["\n".to_owned()]).collect())
}

impl Report<'_> {
    /// Says all of it, once.
    pub fn tell(&self, as_json: bool, console: &mut Console) -> Result<Exit> {
        if let Replayed::On { histories, stopped: Some(reason), .. } = &self.part.replayed {
            let number = if *histories == 0 { "nothing was".to_owned() } else { format!("only {histories} were") };
            console.say(&format!("error: {number} replayed on a real server: {reason} (--postgres off does without)"));
        }
        if let Some(objection) = self.vacuous() {
            console.say(&format!("error: {objection}"));
        }
        match as_json {
            true => {
                let unsaved = self.failures.iter().filter_map(|saved| saved.capsule.as_ref().err());
                unsaved.for_each(|reason| console.say(&format!("error: not saved: {reason}")));
                console.print_json(&self.json(console));
            }
            false => console.print(&self.text(console)),
        }
        Ok(self.exit())
    }

    pub fn exit(&self) -> Exit {
        let sums = &self.part.swept.sums;
        match &self.part.replayed {
            _ if self.is_broken() || self.vacuous().is_some() => Exit::Broken,
            Replayed::On { stopped: Some(_), .. } => Exit::CouldNotRun,
            _ if sums.judged(Judgement::Unknown) > 0 => Exit::Unknown,
            _ => Exit::Clean,
        }
    }

    fn is_broken(&self) -> bool {
        self.part.swept.found_count > 0
            || !self.failures.is_empty()
            || !self.part.swept.sums.not_deterministic().is_empty()
    }

    /// Why a sweep that should have seen everything proves less than it should. One that is narrower only reports, and so
    /// does a share: what it missed, another may have seen.
    pub fn vacuous(&self) -> Option<String> {
        let run_count = self.part.swept.sums.run_count();
        let is_all = self.scope.is_everything(On::Both) && run_count >= RUNS_FOR_EVERYTHING
            || self.scope.is_everything(On::Net) && run_count >= RUNS_OVER_NETWORK;
        let should = is_all && self.part.of == 1;
        let runs = counted(run_count, "run");
        self.never().filter(|_| should).map(|never| format!("{runs} with every workload and fault never {never}"))
    }

    pub fn text(&self, console: &Console) -> String {
        let mut text = format!("{}\n\n", self.heading());
        let mut line = |title: &str, said: String| text += &format!("{title:<12}{said}\n");
        line("simulated", self.simulated());
        if let Some(said) = self.networked() {
            line("network", said);
        }
        line("checked", self.checked());
        line("run twice", self.repeated());
        line("replayed", self.replays());
        if let Some(never) = self.never() {
            line("never", never);
        }
        text + &self.failures(console)
    }

    fn heading(&self) -> String {
        let Tool { version, commit } = Tool::this();
        let (workloads, limits) = (self.scope.draw.workloads(), self.scope.draw.limits());
        let of_network = match self.scope.draw.network() {
            Failing::NEVER => None,
            Failing::ANYHOW => Some("what befalls a network".to_owned()),
            failing => Some(failing.faults().map(NetworkFault::name).collect::<Vec<_>>().join(", ")),
        };
        let kinds = || counted(limits.faults.len() as u64, "kind") + " of fault";
        let faults = match (limits.faults.len(), of_network) {
            (0, None) => "no faults".to_owned(),
            (0, Some(of_network)) => of_network,
            (1..ALL_KINDS, Some(of_network)) => format!("{} and {of_network}", kinds()),
            _ => kinds(),
        };
        let without = scope::without(self.scope.guards(), self.scope.design());
        format!(
            "tourbillon {version} ({commit}): seeds from {}; {}; {faults}; {without}",
            self.part.first_seed,
            workloads.join(", ")
        )
    }

    fn simulated(&self) -> String {
        let Swept { sums, calls, simulated_us, .. } = &self.part.swept;
        let speed = rate(*simulated_us as f64 / 1e6, self.part.swept_in);
        format!(
            "{}, {}, {}: {} of virtual time in {}, {} times as fast",
            counted(sums.run_count(), "run"),
            counted(*calls, "call"),
            counted(sums.record_count(), "record"),
            long(*simulated_us),
            wall(self.part.swept_in),
            count(speed as u64),
        )
    }

    /// Of the runs over a network, if there were any.
    fn networked(&self) -> Option<String> {
        let net = self.part.swept.net;
        let befell = self.part.swept.activations.of_network().filter(|(_, count)| *count > 0);
        let befell: Vec<String> = befell.map(|(fault, times)| format!("{} {}", fault.name(), count(times))).collect();
        let befell = if befell.is_empty() { "nothing befell it".to_owned() } else { befell.join(", ") };
        (net.runs > 0).then(|| {
            let (runs, time) = (counted(net.runs, "run"), long(net.simulated_us));
            format!("{runs} of {time}, histories {:016x}: {befell}", net.hash)
        })
    }

    fn checked(&self) -> String {
        let sums = &self.part.swept.sums;
        let broken = Property::ALL.into_iter().filter(|property| sums.broken(*property) > 0);
        let broken: Vec<String> = broken
            .map(|property| format!("{property} {} in {}", property.name(), count(sums.broken(property))))
            .collect();
        let properties = counted(Property::ALL.len() as u64, "property").replace("propertys", "properties");
        let unknown = sums.judged(Judgement::Unknown);
        let mut said = match broken.as_slice() {
            [] if sums.run_count() == 0 => "nothing: no run came to its end".to_owned(),
            [] => format!("{properties}, no violation"),
            broken => {
                format!(
                    "{properties}, violated in {}: {}",
                    counted(self.part.swept.found_count, "run"),
                    broken.join(", ")
                )
            }
        };
        // What was found is a violation or a panic.
        let panicked = self.part.swept.found_count - sums.judged(Judgement::Violated);
        if panicked > 0 {
            said += &format!(", {} panicked", counted(panicked, "run"));
        }
        if unknown > 0 {
            let first = self.part.swept.first_unknown.unwrap_or_default();
            said += &format!(", unknown in {} (the first is seed {first})", counted(unknown, "run"));
        }
        said
    }

    fn repeated(&self) -> String {
        let runs = counted(self.part.swept.repeated, "run");
        match self.part.swept.sums.not_deterministic() {
            [] => format!("{runs}, the same history each time"),
            seeds => format!("{runs}, and another history for seeds {seeds:?}"),
        }
    }

    fn replays(&self) -> String {
        match &self.part.replayed {
            Replayed::Off => format!("nothing ({})", self.why_not()),
            Replayed::On { server_version: None, .. } => "NOTHING: there is no server".to_owned(),
            Replayed::On { server_version: Some(server_version), histories, counts, goals, wall: time, stopped } => {
                let stopped = if stopped.is_some() { "; STOPPED EARLY" } else { "" };
                let divergences = match self.divergences().count() {
                    0 => "no divergence".to_owned(),
                    number => counted(number as u64, "divergence").to_uppercase(),
                };
                let not_comparable = match counts.not_comparable {
                    0 => String::new(),
                    number => format!(", {} more could not be compared", count(number)),
                };
                format!(
                    "{} on PostgreSQL {server_version}: {}, {} blocked, {}, {} and {} of {} goals in {}, {divergences}{not_comparable}{stopped}",
                    counted(*histories, "history").replace("historys", "histories"),
                    counted(counts.statements, "statement"),
                    count(counts.blocked),
                    counted(counts.crashes, "server crash").replace("crashs", "crashes"),
                    counted(counts.lost_commits, "lost commit"),
                    Reach::ANYWHERE.iter().filter(|goal| goals.has(**goal)).count(),
                    Reach::ANYWHERE.len(),
                    wall(*time),
                )
            }
        }
    }

    /// Why nothing was replayed.
    fn why_not(&self) -> &'static str {
        if self.is_net() { "what goes over a network cannot be on a server" } else { "not asked for" }
    }

    fn divergences(&self) -> impl Iterator<Item = &Saved> {
        self.failures.iter().filter(|saved| saved.broken.is_empty())
    }

    fn is_net(&self) -> bool {
        self.scope.draw.place_or(On::Both) == On::Net
    }

    /// How often every fault that can be drawn, and every goal, came about.
    fn reach(&self) -> Vec<(String, u64)> {
        let goals = if self.is_net() { &Reach::ALL } else { Reach::ANYWHERE };
        self.drawn_faults().chain(self.network_faults()).chain(self.goals(goals)).collect()
    }

    /// The same of what a sweep should have seen: over a network, what is asked of it alone; elsewhere what is not, for few
    /// runs are over one.
    fn asked(&self) -> Vec<(String, u64)> {
        match self.is_net() {
            true => self.network_faults().chain(self.goals(Reach::OF_NETWORK)).collect(),
            false => self.drawn_faults().chain(self.goals(Reach::ANYWHERE)).collect(),
        }
    }

    fn drawn_faults(&self) -> impl Iterator<Item = (String, u64)> {
        self.part.swept.activations.named(&self.scope.draw.limits().faults).into_iter()
    }

    fn goals(&self, goals: &'static [Reach]) -> impl Iterator<Item = (String, u64)> {
        goals.iter().map(|goal| (goal.name().to_owned(), self.part.swept.sums.reach(*goal)))
    }

    fn network_faults(&self) -> impl Iterator<Item = (String, u64)> {
        let failing = self.scope.draw.network();
        let is_possible =
            move |fault: &NetworkFault| failing.has(*fault) || (failing == Failing::ANYHOW && *fault == SessionLost);
        let counts = self.part.swept.activations.of_network().filter(|_| self.part.swept.net.runs > 0);
        counts
            .filter(move |(fault, _)| is_possible(fault))
            .map(|(fault, count)| (format!("network_{}", fault.name()), count))
    }

    /// Names that were not seen once: what a sweep proves less for.
    fn never_reached(&self) -> Vec<String> {
        self.asked().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }

    fn never_exercised(&self) -> Vec<&'static str> {
        self.part.swept.sums.never_exercised().map(Property::id).collect()
    }

    fn never(&self) -> Option<String> {
        let (reached, exercised) = (self.never_reached(), self.never_exercised());
        let named = reached.iter().take(NEVER_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let rest = match reached.len().saturating_sub(NEVER_NAMED) {
            0 => String::new(),
            rest => format!(" and {rest} more, which --json names"),
        };
        let reached = (!reached.is_empty()).then(|| format!("reached {named}{rest}"));
        let exercised = (!exercised.is_empty()).then(|| format!("exercised {}", exercised.join(", ")));
        let said: Vec<String> = reached.into_iter().chain(exercised).collect();
        (!said.is_empty()).then(|| said.join("; never "))
    }

    /// The first failure comes last, where people look, and the last line is the command that reproduces it.
    fn failures(&self, console: &Console) -> String {
        let again = |seed: u64| self.again(seed, console);
        let not_deterministic = self.part.swept.differences.first().map(|(seed, difference)| {
            let story = difference.story();
            format!("\nseed {seed} gave two histories, which first differ here:\n\n{story}\n{}\n", again(*seed))
        });
        let panicked = self.part.swept.found.iter().find(|found| found.broken.is_empty());
        let panicked =
            panicked.map(|found| format!("\nseed {}: {}\n{}\n", found.seed, found.sentence, again(found.seed)));
        let (told, others) = self.failures.split_at(self.failures.len().min(TOLD));
        let told = told.iter().rev().map(|saved| saved.text(console));
        named(others, console).into_iter().chain(not_deterministic).chain(panicked).chain(told).collect()
    }

    fn again(&self, seed: u64, console: &Console) -> String {
        console.command(&format!("replay --seed {seed}{}", self.scope.again()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::saved::{Circumstances, save_seed};
    use super::*;
    use crate::simulate::{Simulator, Work};
    use crate::sweep::Found;
    use clap::Parser;
    use serde_json::Value;
    use std::time::Duration;
    use tourbillon_engine::guard::{Guard, Guards};

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        scope: scope::Arguments,
    }

    fn scope(options: &str) -> scope::Arguments {
        Only::parse_from(std::iter::once("run").chain(options.split_whitespace())).scope
    }

    fn part(swept: Swept) -> Part {
        let (tool, replayed, second) = (Tool::this(), Replayed::Off, Duration::from_secs(1));
        let (options, seeds, replay_failures) = (String::new(), swept.sums.run_count(), Vec::new());
        let (swept_in, wall) = (second, second);
        Part {
            tool,
            options,
            first_seed: 0,
            seeds,
            shards: vec![1],
            of: 1,
            swept,
            swept_in,
            wall,
            replayed,
            replay_failures,
        }
    }

    fn report<'a>(scope: &'a scope::Arguments, part: &'a Part, failures: &'a [Saved]) -> Report<'a> {
        Report { scope, part, failures }
    }

    /// One run, counted so often.
    fn swept(doublings: u32) -> Swept {
        let work = Work::named("chain").unwrap();
        let (_, verdict) = Simulator::default().run(&work.plan(3, &scope("").draw.limits()), &work, Guards::ALL);
        let mut swept = Swept::default();
        swept.sums.add(3, &verdict);
        (0..doublings).for_each(|_| swept.sums.merge(&swept.sums.clone()));
        swept
    }

    #[test]
    fn a_large_sweep_of_everything_that_never_reached_something_is_broken() {
        let (everything, large) = (scope(""), part(swept(14)));
        let sentence = report(&everything, &large, &[]).vacuous().expect("one seed reaches few goals");
        assert!(
            sentence.starts_with("16,384 runs with every workload and fault never reached worker_crash"),
            "{sentence}"
        );
        assert_eq!(report(&everything, &large, &[]).exit(), Exit::Broken);
        assert_eq!(report(&everything, &part(swept(13)), &[]).exit(), Exit::Clean);
        let share = Part { of: 2, ..large.clone() };
        assert_eq!(report(&everything, &share, &[]).exit(), Exit::Clean);
        for narrower in ["--workload chain", "--faults lost_reply", "--without tick_lock"] {
            let narrower = scope(narrower);
            assert_eq!(report(&narrower, &large, &[]).exit(), Exit::Clean);
            assert!(report(&narrower, &large, &[]).never().is_some());
        }
    }

    #[test]
    fn a_sweep_over_a_network_is_asked_for_what_only_a_network_does() {
        let (everything, large) = (scope("--on net"), part(swept(9)));
        let sentence = report(&everything, &large, &[]).vacuous().expect("a direct run reaches none of it");
        assert!(sentence.starts_with("512 runs with every workload and fault never reached late-call"), "{sentence}");
        assert!(!sentence.contains("takeover"), "{sentence}");
        assert_eq!(report(&everything, &part(swept(8)), &[]).exit(), Exit::Clean);
        let narrower = scope("--on net --faults network");
        assert_eq!(report(&narrower, &large, &[]).exit(), Exit::Clean);
        assert!(!report(&scope(""), &large, &[]).never().expect("it is one run").contains("late-call"));
    }

    #[test]
    fn over_no_runs_nothing_is_checked() {
        let (everything, none) = (scope(""), part(Swept::default()));
        assert_eq!(report(&everything, &none, &[]).checked(), "nothing: no run came to its end");
    }

    #[test]
    fn a_catch_beyond_those_that_are_described_keeps_its_target() {
        let everything = scope("--without claim_lock");
        let directory = tempfile::tempdir().unwrap();
        let limits = everything.draw.limits();
        let again = everything.again();
        let with = Circumstances {
            limits: &limits,
            design: None,
            directory: directory.path(),
            server: String::new(),
            again,
            shrinks: None,
        };
        let (chain, broken) = (Work::named("chain").unwrap(), Guards::without(&[Guard::ClaimLock]));
        let mut saved = (0..100).map(|seed| save_seed(seed, &chain, broken, &[], &with));
        let saved = saved.find(|saved| saved.capsule.is_ok()).expect("some seed breaks it");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let console = Console::to(&mut out, &mut err);
        let none = part(Swept::default());
        let violations = report(&everything, &none, std::slice::from_ref(&saved)).violations(&console);
        assert_eq!((violations.len(), &violations[0]["target"]), (1, &Value::from("direct")));
        // What the same seed broke on a server is told beside it.
        let (workload, broken, sentence) = (saved.workload.clone(), saved.broken.clone(), saved.sentence.clone());
        let found = vec![Found { seed: saved.seed, workload, broken, sentence }];
        let mut lockstep = saved.clone();
        lockstep.target = "lockstep".to_owned();
        let some = part(Swept { found, ..Swept::default() });
        let violations = report(&everything, &some, &[saved, lockstep]).violations(&console);
        let targets: Vec<&Value> = violations.iter().map(|violation| &violation["target"]).collect();
        assert_eq!(targets, ["direct", "lockstep"]);
    }
}
