//! Who conducts a round: starts its processes, sees to those that ended, lets clients go on, and waits for peace. What it does
//! to them: [`strike`](super::strike).

use super::Plan;
use super::blow::{Blow, Kind, Limits, schedule};
use super::cast::{Casting, DEAD_INTERVAL, HOLDER, cast, take_up_a_bad_habit, timeouts, worker};
use super::course::Course;
use super::crew::{Ended, Member};
use super::journal::{Journal, Life};
use super::merge::merge;
use super::orders::{Address, Orders, Task};
use super::proxy::Proxies;
use super::site::{Progress, Site, doors};
use super::strike::Injected;
use crate::generate::{CONSUMER, QUEUE};
use crate::postgres::interrupt;
use crate::postgres::server::Server;
use crate::random::Stream;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tourbillon_models::history::{History, PlainHappening};
use tourbillon_models::name::{Micros, Process, Xid};
use tourbillon_models::op::{Op, QueueKind};
use tourbillon_models::record::{ClockOffset, Fault};

/// Who starts a round's processes, strikes them, buries them, and writes down what they cannot tell.
pub struct Conductor<'a, 's> {
    plan: &'a Plan,
    course: &'a Course<'a>,
    pub(super) site: Site<'s>,
    pub(super) members: Vec<Member>,
    pub(super) proxies: Proxies,
    pub(super) journal: Journal,
    stream: Stream,
    pub(super) injected: Vec<Injected>,
    /// What the server's wall clock is set to.
    pub(super) clock: ClockOffset,
    pub progress: Progress,
    /// What went wrong and shows in no history, a sentence each.
    pub amiss: Vec<String>,
    looked_at: Micros,
    tag: String,
    journals: Vec<PathBuf>,
}

/// How far a round was when its faults were over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shaken {
    pub at: Micros,
    pub finished: u64,
}

/// Between two looks at the processes.
const TURN: Duration = Duration::from_millis(2);
/// Between two looks at the work.
const LOOK: Micros = Micros::from_millis(50);
/// A round that is not drained by then may never be.
const LATE: Micros = Micros::from_secs(10);
/// Nobody keeps what he was told for longer without writing it down.
const SETTLED: Micros = Micros::from_secs(3);
/// For processes that were told to end.
const FAREWELL: Micros = Micros::from_secs(30);
const ITSELF: Life = Life { process: Process(0), incarnation: 0 };

impl Drop for Conductor<'_, '_> {
    /// Where a round is cut off, nobody who is still at work may be in the way when its schema goes.
    fn drop(&mut self) {
        self.members.clear();
        let _ = self.site.end_sessions(&self.tag);
    }
}

impl<'a, 's> Conductor<'a, 's> {
    pub fn prepare(plan: &'a Plan, course: &'a Course<'a>, server: &'s mut Server, directory: &Path) -> Result<Self> {
        let doors = doors(server)?;
        let mut stream = Stream::new(plan.seed, "chaos", course.round);
        let casting = Casting {
            workers: plan.workers,
            clients: plan.clients,
            workflows: course.workflows,
            size: course.size,
            kinds: &plan.kinds,
            faults_end: course.faults_end,
            program: course.work.program.as_deref(),
        };
        let roles = cast(&mut stream, &casting);
        let proxies = Proxies::start(&doors.upstream, doors.sockets.as_deref(), roles.len())?;
        let mut site = Site::open(server, course.work, plan.guards, plan.kinds.contains(&Kind::ClockStep))?;
        let epoch = site.names.epoch;
        let tag = site.schema.clone();
        let own = directory.join("0-0.jsonl");
        let mut journal = Journal::create(&own, epoch, ITSELF)
            .with_context(|| format!("the history {} cannot be written", own.display()))?;
        site.call(&Op::CreateQueue { queue: QUEUE, kind: QueueKind::Workflow }, &mut journal)?;
        site.call(&Op::Subscribe { queue: QUEUE, consumer: CONSUMER }, &mut journal)?;
        let mut members = Vec::new();
        for (index, (name, task)) in roles.into_iter().enumerate() {
            let orders = Orders {
                life: Life { process: Process(index as u8 + 1), incarnation: 0 },
                timeouts: None,
                task,
                workload: course.work.name.clone(),
                without: plan.guards.removed().map(|guard| guard.name().to_owned()).collect(),
                schema: site.schema.clone(),
                address: Address { port: proxies.ports[index], ..doors.address.clone() },
                tag: tag.clone(),
                directory: directory.to_owned(),
                epoch,
                faults_end: course.faults_end,
                patience: Micros::from_secs(2),
                hesitation: Micros(0),
            };
            members.push(Member::new(name, orders));
        }
        let progress = Progress { started: 0, live: 0, open_windows: 0 };
        let mut conductor = Conductor {
            plan,
            course,
            site,
            members,
            proxies,
            journal,
            stream,
            injected: Vec::new(),
            clock: ClockOffset::NONE,
            progress,
            amiss: Vec::new(),
            looked_at: Micros(0),
            tag,
            journals: vec![own],
        };
        (0..conductor.members.len()).try_for_each(|index| conductor.start(index))?;
        Ok(conductor)
    }

    pub(super) fn now(&self) -> Micros {
        self.site.names.epoch.now()
    }

    /// Each life has limits and habits of its own.
    fn start(&mut self, index: usize) -> Result<()> {
        // Some leave a session that they have lost to the server for longer than they are dead to the others.
        let longest = *self.stream.choose(&[DEAD_INTERVAL.0 / 2, DEAD_INTERVAL.0 * 5 / 2]);
        let hesitation = Micros(self.stream.below(longest));
        let draws = [Kind::Timeouts, Kind::BadHabits].map(|kind| (kind, self.stream.chance(1, 4), self.stream.bits()));
        let member = &mut self.members[index];
        member.orders.hesitation = hesitation;
        member.orders.timeouts = None;
        let mut has = Vec::new();
        if let Task::Worker(options) = &mut member.orders.task {
            *options = worker();
            for (kind, _, draw) in draws.into_iter().filter(|(kind, is, _)| *is && self.plan.kinds.contains(kind)) {
                let mut stream = Stream::new(draw, "habit", 0);
                match kind {
                    Kind::Timeouts => member.orders.timeouts = Some(timeouts(&mut stream)),
                    _ => take_up_a_bad_habit(&mut stream, options),
                }
                has.push(kind);
            }
        }
        member.start()?;
        self.journals.push(member.orders.journal());
        has.into_iter().for_each(|kind| self.inject(kind, Micros(0)));
        Ok(())
    }

    /// Until the faults are over.
    pub fn shake(&mut self, watch: &mut dyn FnMut(Progress, &[Injected])) -> Result<Shaken> {
        let course = self.course;
        let limits = Limits {
            kinds: &self.plan.kinds,
            gap: self.plan.gap,
            faults_end: course.faults_end,
            server_kills: course.server_kills,
        };
        let mut blows: VecDeque<Blow> = schedule(&mut self.stream, &limits).into();
        while self.now() < course.faults_end && self.amiss.is_empty() {
            self.turn()?;
            self.look(watch)?;
            if let Some(blow) = blows.front().copied().filter(|blow| blow.at <= self.now()) {
                blows.pop_front();
                self.strike(blow)?;
            }
            let all = u64::from(course.workflows) * u64::from(self.plan.clients);
            if self.progress.live == 0
                && self.progress.started >= all
                && blows.iter().all(|it| it.kind != Kind::ServerKill)
            {
                break;
            }
        }
        self.make_peace()?;
        self.progress = self.site.progress()?;
        let at = self.now();
        self.journal.record(0, Xid(0), PlainHappening::Fault(Fault::End), None);
        Ok(Shaken { at, finished: self.progress.finished() })
    }

    /// Everyone goes on, and nothing is in anybody's way.
    fn make_peace(&mut self) -> Result<()> {
        for index in 0..self.members.len() {
            self.proxies.levers[index].make_peace();
            if self.members[index].stopped_until.take().is_some() {
                self.members[index].signal(Signal::SIGCONT)?;
            }
            if self.members[index].back_at.is_some() {
                self.start(index)?;
            }
        }
        if self.clock != ClockOffset::NONE {
            self.set_clock(ClockOffset::NONE)?;
        }
        // What it holds would not be peace.
        self.members.iter_mut().filter(|it| it.name == HOLDER).for_each(Member::dismiss);
        Ok(())
    }

    /// Whoever ended is seen to, and whose time has come goes on.
    fn turn(&mut self) -> Result<()> {
        std::thread::sleep(TURN);
        interrupt::check()?;
        for index in 0..self.members.len() {
            let now = self.now();
            if let Some(ended) = self.members[index].ended()? {
                self.bury(index, ended)?;
            }
            if self.members[index].stopped_until.is_some_and(|until| until <= now) {
                self.members[index].stopped_until = None;
                self.members[index].signal(Signal::SIGCONT)?;
            }
            if self.members[index].back_at.is_some_and(|at| at <= now) {
                self.start(index)?;
            }
        }
        Ok(())
    }

    /// What became of its last transaction is found out before anything else; then it is dead.
    fn bury(&mut self, index: usize, ended: Ended) -> Result<()> {
        let label = self.members[index].orders.label();
        let (life, standing, called) = self.members[index].bury()?;
        // Whoever was killed before he wrote a word has none.
        let journal = self.members[index].orders.journal_of(life);
        self.journals.retain(|path| *path != journal || path.exists());
        let told = if standing.is_open() {
            let end = self.site.end_of(&label, &standing, called.as_ref(), &mut self.journal)?;
            end.told(standing.xid, Fault::Crash)
        } else if ended != Ended::Finished {
            vec![(Xid(0), PlainHappening::Fault(Fault::Crash))]
        } else {
            Vec::new()
        };
        for (xid, what) in told {
            self.journal.record_of(life, standing.connection, xid, what, None);
        }
        match ended {
            Ended::Died => {
                self.members[index].back_at = Some(self.now() + self.stream.span(Micros(1_000), DEAD_INTERVAL));
            }
            Ended::Finished => self.members[index].is_finished = true,
            Ended::Baffled(sentence) => self.amiss.push(sentence),
        }
        self.journal.flush().context("the history of the run cannot be written")
    }

    /// How far the work is, and how much more may be begun.
    fn look(&mut self, watch: &mut dyn FnMut(Progress, &[Injected])) -> Result<()> {
        if self.now() - self.looked_at < LOOK {
            return Ok(());
        }
        self.looked_at = self.now();
        self.progress = self.site.progress()?;
        watch(self.progress, &self.injected);
        let granted = (self.progress.finished() + self.course.live) / u64::from(self.plan.clients);
        for member in self.members.iter_mut().filter(|it| matches!(it.orders.task, Task::Batches(_))) {
            member.grant(granted);
        }
        Ok(())
    }

    /// When nothing was left to do; none if that took too long.
    pub fn wait_until_drained(
        &mut self,
        faults_end: Micros,
        watch: &mut dyn FnMut(Progress, &[Injected]),
        is_broken: &mut dyn FnMut(&History) -> bool,
    ) -> Result<Option<Micros>> {
        let mut is_late = false;
        let is_client = |it: &Member| matches!(it.orders.task, Task::Batches(_));
        self.members.iter_mut().filter(|it| is_client(it)).for_each(Member::dismiss);
        let bound = self.course.liveness_bound + Micros::from_secs(1);
        while self.now() - faults_end <= bound && self.amiss.is_empty() {
            self.turn()?;
            if self.now() - self.looked_at < LOOK {
                continue;
            }
            self.looked_at = self.now();
            self.progress = self.site.progress()?;
            watch(self.progress, &self.injected);
            let clients_done = self.members.iter().filter(|it| is_client(it)).all(|it| it.is_finished);
            if clients_done && self.progress.live == 0 && self.progress.open_windows == 0 {
                return Ok(Some(self.now()));
            }
            if !is_late && self.now() - faults_end > LATE {
                is_late = true;
                if is_broken(&self.settled_history(faults_end)?) {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Everyone ends; who does not is killed.
    pub fn dismiss(&mut self) -> Result<()> {
        self.members.iter_mut().for_each(|member| {
            member.back_at = None;
            member.dismiss();
        });
        let begun = self.now();
        let mut is_late = false;
        while self.members.iter().any(|it| it.running.is_some()) {
            if !is_late && self.now() - begun > FAREWELL {
                is_late = true;
                for member in self.members.iter().filter(|it| it.running.is_some()) {
                    self.amiss.push(format!("{}: it did not end when it was told to, and was killed", member.name));
                    member.signal(Signal::SIGKILL)?;
                }
            }
            self.turn()?;
            self.members.iter_mut().for_each(|member| member.back_at = None);
        }
        self.site.terminate(&self.tag)
    }

    /// As far as these journals go.
    fn history(&mut self, journals: &[PathBuf], faults_end: Micros) -> Result<History> {
        self.journal.flush().context("the history of the run cannot be written")?;
        let names = std::iter::once("conductor").chain(self.members.iter().map(|it| it.name.as_str()));
        let names = names.map(str::to_owned).collect();
        let header = self.course.header(self.plan, names, faults_end, self.site.server.version());
        let mut history = History::new(header);
        // The conductor's own names are those that its journal tells.
        merge(journals, &mut self.site.names.clone(), &mut history)?;
        Ok(history)
    }

    /// As far as everybody has written it down by now, for certain.
    fn settled_history(&mut self, faults_end: Micros) -> Result<History> {
        let until = self.now() - SETTLED;
        // Whoever has just been started has none yet.
        let journals: Vec<PathBuf> = self.journals.iter().filter(|path| path.exists()).cloned().collect();
        let mut history = self.history(&journals, faults_end)?;
        let end = history.records.partition_point(|record| record.at <= until);
        history.records.truncate(end);
        Ok(history)
    }

    /// The round's history with its last state, when everyone has gone.
    pub fn write_up(mut self, faults_end: Micros) -> Result<History> {
        // Only now is there a moment at which nobody writes.
        self.site.call(&Op::Observe { queue: QUEUE }, &mut self.journal)?;
        let state = self.site.state()?;
        let journals = std::mem::take(&mut self.journals);
        let mut history = self.history(&journals, faults_end)?;
        history.state = Some(state);
        self.site.close()?;
        Ok(history)
    }
}
