//! What befalls a round's processes and their server, when its time has come.

use super::blow::{Blow, Kind, millis};
use super::cast::DEAD_INTERVAL;
use super::conductor::Conductor;
use super::crew::Member;
use super::orders::Task;
use crate::random::Stream;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::sync::Arc;
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
        let is_worker = |it: &Member| matches!(it.orders.task, Task::Worker(_));
        // At least half of what befalls somebody befalls a worker.
        let only_workers = blow.kind == Kind::ProcessStop || stream.chance(1, 2);
        let there: Vec<usize> = (0..self.members.len())
            .filter(|index| {
                let member = &self.members[*index];
                let is_up = member.running.is_some() && member.stopped_until.is_none();
                is_up && member.orders.life.incarnation < MOST_LIVES && (is_worker(member) || !only_workers)
            })
            .collect();
        match blow.kind {
            Kind::ServerKill | Kind::ServerStop => {
                return self.take_server_down(blow.kind, millis(&mut stream, 0, 150));
            }
            Kind::ClockStep => return self.step_clock(draw_offset(&mut stream, self.now())),
            _ if there.is_empty() => return Ok(()),
            _ => {}
        }
        let index = *stream.choose(&there);
        let lever = Arc::clone(&self.proxies.levers[index]);
        let mut lasts = Duration::ZERO;
        let came_about = match blow.kind {
            Kind::ProcessKill => {
                self.members[index].signal(Signal::SIGKILL)?;
                true
            }
            Kind::ProcessStop => {
                lasts = millis(&mut stream, DEAD_INTERVAL.0 / 1_000, DEAD_INTERVAL.0 * 5 / 2_000);
                let until = self.now() + Micros(lasts.as_micros() as u64);
                let life = self.members[index].orders.life;
                let pause = PlainHappening::Fault(Fault::Pause { until });
                self.journal.record_of(life, 0, Xid(0), pause, None);
                self.members[index].signal(Signal::SIGSTOP)?;
                self.members[index].stopped_until = Some(until);
                true
            }
            Kind::BackendEnd => self.site.terminate(&self.members[index].orders.label())? > 0,
            Kind::Delay => {
                lasts = millis(&mut stream, 50, 400);
                lever.delay(millis(&mut stream, 1, 60), lasts);
                lever.is_connected()
            }
            Kind::HangUp => lever.hang_up(Duration::ZERO),
            Kind::HalfClose => {
                lasts = millis(&mut stream, 50, 2 * DEAD_INTERVAL.0 / 1_000);
                lever.hang_up(lasts)
            }
            Kind::LostCommit => {
                lever.lose_commit();
                // It will, perhaps: the proxy knows when.
                false
            }
            Kind::ServerKill
            | Kind::ServerStop
            | Kind::ClockStep
            | Kind::HeldSnapshot
            | Kind::MaintenanceLock
            | Kind::Timeouts
            | Kind::BadHabits => {
                unreachable!("{} befalls no process", blow.kind.name())
            }
        };
        if came_about {
            self.inject(blow.kind, Micros(lasts.as_micros() as u64));
        }
        Ok(())
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
