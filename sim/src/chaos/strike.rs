//! What befalls a round's processes and their server, when its time has come.

use super::blow::{Blow, Kind, millis};
use super::cast::DEAD_INTERVAL;
use super::conductor::Conductor;
use super::crew::Member;
use super::orders::Task;
use super::proxy::Notices;
use crate::random::Stream;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::time::Duration;
use tourbillon_models::history::PlainHappening;
use tourbillon_models::name::{Micros, Xid};
use tourbillon_models::record::{ClockOffset, Fault};

/// One fault that was injected, and when its effect was over as far as it lies with us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Injected {
    pub kind: Kind,
    pub at: Micros,
    pub over: Micros,
}

/// A process that has had so many is left alone: they are counted in a byte, and programs that die with their process, as
/// `poison` does, have lives of it, too.
const MOST_LIVES: u8 = 200;

/// Off by less than the dead interval, or by more; never to before the round.
fn draw_offset(stream: &mut Stream, now: Micros) -> ClockOffset {
    let most = *stream.choose(&[DEAD_INTERVAL.0 / 2, 3 * DEAD_INTERVAL.0]);
    let off = stream.span(Micros(1_000), Micros(most));
    match stream.chance(1, 2) {
        true => ClockOffset { ahead: off, ..ClockOffset::NONE },
        false => ClockOffset { behind: off.min(Micros(now.0 / 2)), ..ClockOffset::NONE },
    }
}

impl Conductor<'_, '_> {
    pub(super) fn inject(&mut self, kind: Kind, lasts: Micros) {
        let at = self.now();
        self.injected.push(Injected { kind, at, over: at + lasts });
    }

    pub(super) fn strike(&mut self, blow: Blow) -> Result<()> {
        let mut stream = Stream::new(blow.draw, "blow", 0);
        match blow.kind {
            Kind::ServerKill | Kind::ServerStop => self.take_server_down(blow.kind, millis(&mut stream, 0, 150)),
            Kind::ClockStep => self.step_clock(draw_offset(&mut stream, self.now())),
            kind => {
                let Some(victim) = self.draw_victim(kind, &mut stream) else { return Ok(()) };
                if let Some(lasts) = self.strike_process(kind, victim, &mut stream)? {
                    self.inject(kind, Micros(lasts.as_micros() as u64));
                }
                Ok(())
            }
        }
    }

    /// At least half of what befalls somebody befalls a worker.
    fn draw_victim(&self, kind: Kind, stream: &mut Stream) -> Option<usize> {
        let only_workers = kind == Kind::ProcessStop || stream.chance(1, 2);
        let may_be = |member: &Member| {
            let is_up = member.running.is_some() && member.stopped_until.is_none();
            let is_worker = matches!(member.orders.task, Task::Worker(_));
            is_up && member.orders.life.incarnation < MOST_LIVES && (is_worker || !only_workers)
        };
        let there: Vec<usize> = (0..self.members.len()).filter(|index| may_be(&self.members[*index])).collect();
        (!there.is_empty()).then(|| *stream.choose(&there))
    }

    /// How long it lasts; none if it befell nobody, or not yet.
    fn strike_process(&mut self, kind: Kind, victim: usize, stream: &mut Stream) -> Result<Option<Duration>> {
        let (member, lever) = (&mut self.members[victim], &self.proxies.levers[victim]);
        let (lasts, came_about) = match kind {
            Kind::ProcessKill => {
                member.signal(Signal::SIGKILL)?;
                (Duration::ZERO, true)
            }
            Kind::ProcessStop => {
                let lasts = millis(stream, DEAD_INTERVAL.0 / 1_000, DEAD_INTERVAL.0 * 5 / 2_000);
                let until = self.site.names.epoch.now() + Micros(lasts.as_micros() as u64);
                let pause = PlainHappening::Fault(Fault::Pause { until });
                self.journal.record_of(member.orders.life, 0, Xid(0), pause, None);
                member.signal(Signal::SIGSTOP)?;
                member.stopped_until = Some(until);
                (lasts, true)
            }
            Kind::BackendEnd => (Duration::ZERO, self.site.end_sessions(&member.orders.label())? > 0),
            Kind::Delay => {
                let lasts = millis(stream, 50, 400);
                lever.delay(millis(stream, 1, 60), lasts);
                (lasts, lever.is_connected())
            }
            Kind::HangUp => (Duration::ZERO, lever.hang_up(Notices::Both)),
            Kind::HalfClose => {
                let lasts = millis(stream, 50, 2 * DEAD_INTERVAL.0 / 1_000);
                let notices = *stream.choose(&[Notices::ServerAfter(lasts), Notices::ClientAfter(lasts)]);
                (lasts, lever.hang_up(notices))
            }
            Kind::LostCommit => {
                lever.lose_commit();
                // It will, perhaps: the proxy knows when.
                (Duration::ZERO, false)
            }
            Kind::ServerKill
            | Kind::ServerStop
            | Kind::ClockStep
            | Kind::HeldSnapshot
            | Kind::MaintenanceLock
            | Kind::Timeouts
            | Kind::BadHabits => unreachable!("{} befalls no process", kind.name()),
        };
        Ok(came_about.then_some(lasts))
    }

    fn take_server_down(&mut self, kind: Kind, down_for: Duration) -> Result<()> {
        let at = self.now();
        match kind {
            Kind::ServerKill => self.site.server.crash()?,
            _ => self.site.server.stop_immediately()?,
        }
        std::thread::sleep(down_for);
        // Before anybody is let in: from here on numbers of transactions are given again.
        self.journal.record(0, Xid(0), PlainHappening::Fault(Fault::ServerRestart), None);
        self.site.server.restart().context("the server does not come back")?;
        self.injected.push(Injected { kind, at, over: self.now() });
        Ok(())
    }

    fn step_clock(&mut self, offset: ClockOffset) -> Result<()> {
        self.set_clock(offset)?;
        self.inject(Kind::ClockStep, Micros(0));
        Ok(())
    }

    /// Everyone stands still while it steps: a call is over before, begins after, or was under way. When it stepped is known
    /// only as far as it showed the one time or the other from before until after, so it is told to have done both.
    pub(super) fn set_clock(&mut self, offset: ClockOffset) -> Result<()> {
        let goes = |it: &&Member| it.running.is_some() && it.stopped_until.is_none();
        self.members.iter().filter(goes).try_for_each(|member| member.signal(Signal::SIGSTOP))?;
        let before = std::mem::replace(&mut self.clock, offset);
        self.tell_clock(offset);
        self.site.step_clock(offset)?;
        self.tell_clock(before);
        self.tell_clock(offset);
        self.members.iter().filter(goes).try_for_each(|member| member.signal(Signal::SIGCONT))
    }

    fn tell_clock(&mut self, shows: ClockOffset) {
        self.journal.record(0, Xid(0), PlainHappening::Fault(Fault::ClockStep(shows)), None);
    }

    /// What came about, the answers to commits that were lost among it.
    pub fn injected(&self) -> Vec<Injected> {
        let lost = self.proxies.levers.iter().flat_map(|lever| lever.lost_commits());
        let lost = lost.map(|ns| self.site.names.epoch.time_of(ns)).map(|at| Injected {
            kind: Kind::LostCommit,
            at,
            over: at,
        });
        self.injected.iter().copied().chain(lost).collect()
    }
}
