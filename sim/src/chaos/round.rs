//! One round: a schema, a cast, faults, peace, and a history. Nothing of it stays but the verdict and some figures.

use super::blow::{Blow, Kind, Limits, millis, schedule};
use super::cast::{Casting, DEAD_INTERVAL, cast, take_up_a_bad_habit, timeouts, worker};
use super::crew::{Ended, Member};
use super::journal::{Journal, Life};
use super::merge::merge;
use super::orders::{Address, Orders, Task};
use super::proxy::Proxies;
use super::site::{Doors, Progress, Site, doors};
use super::{Course, Plan};
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
use tourbillon_models::record::Fault;

/// One fault that was injected, and when its effect was over as far as it lies with us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Injected {
    pub kind: Kind,
    pub at: Micros,
    pub over: Micros,
}

/// What a round came to.
pub struct Played {
    pub history: History,
    pub injected: Vec<Injected>,
    pub progress: Progress,
    pub faults_end: Micros,
    /// How long it took from then on until nothing was left to do; none if it never came to that.
    pub drained_in: Option<Micros>,
}

struct Conductor<'a, 's> {
    plan: &'a Plan,
    site: Site<'s>,
    members: Vec<Member>,
    proxies: Proxies,
    journal: Journal,
    stream: Stream,
    injected: Vec<Injected>,
    progress: Progress,
    looked_at: Micros,
    tag: String,
    journals: Vec<PathBuf>,
}

/// Between two looks at the processes.
const TURN: Duration = Duration::from_millis(2);
/// Between two looks at the work.
const LOOK: Micros = Micros::from_millis(50);
/// For processes that were told to end.
const FAREWELL: Micros = Micros::from_secs(10);
const ITSELF: Life = Life { process: Process(0), incarnation: 0 };

/// Plays a round in a directory of its own, which must be empty. `watch` is told now and then how far it is.
pub fn play(
    plan: &Plan,
    course: &Course<'_>,
    server: &mut Server,
    directory: &Path,
    watch: &mut dyn FnMut(Progress, &[Injected]),
) -> Result<Played> {
    let doors = doors(server)?;
    let mut conductor = Conductor::prepare(plan, course, server, &doors, directory)?;
    let faults_end = conductor.shake(course, watch)?;
    let drained = conductor.wait_until_drained(faults_end, course.liveness_bound, watch)?;
    conductor.dismiss()?;
    let drained_in = drained.map(|at| at - faults_end);
    let Conductor { mut site, mut injected, journals, proxies, mut journal, progress, members, .. } = conductor;
    journal.flush().context("the history of the run cannot be written")?;
    let lost = proxies.levers.iter().map(|lever| lever.lost_commits.load(std::sync::atomic::Ordering::Relaxed)).sum();
    keep_lost_commits(&mut injected, lost);
    let state = site.state()?;
    let names: Vec<String> =
        std::iter::once("conductor".to_owned()).chain(members.into_iter().map(|it| it.name)).collect();
    let mut history = History::new(course.header(plan, names, faults_end, site.server.version()));
    // Whoever was killed before he wrote a word has none.
    let journals: Vec<PathBuf> = journals.into_iter().filter(|path| path.exists()).collect();
    merge(&journals, &mut site.names, &mut history)?;
    history.state = Some(state);
    drop(proxies);
    site.close()?;
    Ok(Played { history, injected, progress, faults_end, drained_in })
}

/// Armed is not lost: not every process commits before peace.
fn keep_lost_commits(injected: &mut Vec<Injected>, lost: u64) {
    let mut left = lost;
    injected.retain(|it| {
        let stays = it.kind != Kind::LostCommit || left > 0;
        left -= u64::from(stays && it.kind == Kind::LostCommit);
        stays
    });
}

impl<'a, 's> Conductor<'a, 's> {
    fn prepare(
        plan: &'a Plan,
        course: &Course<'_>,
        server: &'s mut Server,
        doors: &Doors,
        directory: &Path,
    ) -> Result<Self> {
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
        let mut site = Site::open(server, course.work, plan.guards)?;
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
            site,
            members,
            proxies,
            journal,
            stream,
            injected: Vec::new(),
            progress,
            looked_at: Micros(0),
            tag,
            journals: vec![own],
        };
        (0..conductor.members.len()).try_for_each(|index| conductor.start(index))?;
        Ok(conductor)
    }

    fn now(&self) -> Micros {
        self.site.names.epoch.now()
    }

    /// Each life has limits and habits of its own.
    fn start(&mut self, index: usize) -> Result<()> {
        let hesitation = Micros(self.stream.below(300_000));
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

    fn inject(&mut self, kind: Kind, lasts: Micros) {
        let at = self.now();
        self.injected.push(Injected { kind, at, over: at + lasts });
    }

    /// Until the faults are over: the time at which they are.
    fn shake(&mut self, course: &Course<'_>, watch: &mut dyn FnMut(Progress, &[Injected])) -> Result<Micros> {
        let limits = Limits {
            kinds: &self.plan.kinds,
            gap: self.plan.gap,
            faults_end: course.faults_end,
            server_kills: course.server_kills,
        };
        let mut blows: VecDeque<Blow> = schedule(&mut self.stream, &limits).into();
        while self.now() < course.faults_end {
            self.turn()?;
            self.look(course, watch)?;
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
        for index in 0..self.members.len() {
            self.proxies.levers[index].make_peace();
            if self.members[index].stopped_until.take().is_some() {
                self.members[index].signal(Signal::SIGCONT)?;
            }
            if self.members[index].back_at.is_some() {
                self.start(index)?;
            }
        }
        let at = self.now();
        self.journal.record(0, Xid(0), PlainHappening::Fault(Fault::End), None);
        Ok(at)
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
        let told = if standing.is_open() {
            let end = self.site.end_of(&label, &standing, called.as_ref(), &mut self.journal)?;
            end.told(standing.xid, Fault::Crash)
        } else if ended == Ended::Died {
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
        }
        self.journal.flush().context("the history of the run cannot be written")
    }

    /// How far the work is, and how much more may be begun.
    fn look(&mut self, course: &Course<'_>, watch: &mut dyn FnMut(Progress, &[Injected])) -> Result<()> {
        if self.now() - self.looked_at < LOOK {
            return Ok(());
        }
        self.looked_at = self.now();
        self.progress = self.site.progress()?;
        watch(self.progress, &self.injected);
        let finished = self.progress.started.saturating_sub(self.progress.live);
        let granted = (finished + course.live) / u64::from(self.plan.clients);
        for member in self.members.iter_mut().filter(|it| matches!(it.orders.task, Task::Starts(_))) {
            member.grant(granted);
        }
        Ok(())
    }

    fn strike(&mut self, blow: Blow) -> Result<()> {
        let mut stream = Stream::new(blow.draw, "blow", 0);
        let is_worker = |it: &Member| matches!(it.orders.task, Task::Worker(_));
        // Half of what befalls somebody befalls a worker.
        let only_workers = blow.kind == Kind::ProcessStop || stream.chance(1, 2);
        let there: Vec<usize> = (0..self.members.len())
            .filter(|index| {
                let member = &self.members[*index];
                let is_up = member.running.is_some() && member.stopped_until.is_none();
                is_up && member.orders.life.incarnation < 200 && (is_worker(member) || !only_workers)
            })
            .collect();
        match blow.kind {
            Kind::ServerKill | Kind::ServerStop => {
                return self.take_server_down(blow.kind, millis(&mut stream, 0, 150));
            }
            _ if there.is_empty() => return Ok(()),
            _ => {}
        }
        let index = *stream.choose(&there);
        let lever = std::sync::Arc::clone(&self.proxies.levers[index]);
        let mut lasts = Duration::ZERO;
        match blow.kind {
            Kind::ProcessKill => self.members[index].signal(Signal::SIGKILL)?,
            Kind::ProcessStop => {
                lasts = millis(&mut stream, DEAD_INTERVAL.0 / 1_000, DEAD_INTERVAL.0 * 5 / 2_000);
                let until = self.now() + Micros(lasts.as_micros() as u64);
                let life = self.members[index].orders.life;
                let pause = PlainHappening::Fault(Fault::Pause { until });
                self.journal.record_of(life, 0, Xid(0), pause, None);
                self.members[index].signal(Signal::SIGSTOP)?;
                self.members[index].stopped_until = Some(until);
            }
            Kind::BackendEnd => _ = self.site.terminate(&self.members[index].orders.label())?,
            Kind::Delay => {
                lasts = millis(&mut stream, 50, 400);
                lever.delay(millis(&mut stream, 1, 60), lasts);
            }
            Kind::HangUp => lever.hang_up(Duration::ZERO),
            Kind::HalfClose => {
                lasts = millis(&mut stream, 50, 2 * DEAD_INTERVAL.0 / 1_000);
                lever.hang_up(lasts);
            }
            Kind::LostCommit => lever.lose_commit(),
            Kind::ServerKill
            | Kind::ServerStop
            | Kind::HeldSnapshot
            | Kind::MaintenanceLock
            | Kind::Timeouts
            | Kind::BadHabits => {
                unreachable!("{} befalls no process", blow.kind.name())
            }
        }
        self.inject(blow.kind, Micros(lasts.as_micros() as u64));
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
        let over = self.now();
        self.injected.push(Injected { kind, at, over });
        Ok(())
    }

    /// When nothing was left to do; none if that took too long.
    fn wait_until_drained(
        &mut self,
        faults_end: Micros,
        bound: Micros,
        watch: &mut dyn FnMut(Progress, &[Injected]),
    ) -> Result<Option<Micros>> {
        let is_client = |it: &Member| matches!(it.orders.task, Task::Starts(_));
        self.members.iter_mut().filter(|it| is_client(it)).for_each(Member::dismiss);
        while self.now() - faults_end <= bound + Micros::from_secs(1) {
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
        }
        Ok(None)
    }

    /// Everyone ends; who does not is killed.
    fn dismiss(&mut self) -> Result<()> {
        self.members.iter_mut().for_each(|member| {
            member.back_at = None;
            member.dismiss();
        });
        let begun = self.now();
        while self.members.iter().any(|it| it.running.is_some()) {
            if self.now() - begun > FAREWELL {
                self.members.iter().try_for_each(|member| member.signal(Signal::SIGKILL))?;
            }
            self.turn()?;
            self.members.iter_mut().for_each(|member| member.back_at = None);
        }
        while self.site.terminate(&self.tag)? > 0 {
            std::thread::sleep(TURN);
        }
        Ok(())
    }
}
