//! Runs over a network: a plan becomes a history, as in [`run`](crate::run), with turmoil between the processes and the
//! server.
//!
//! One host is the server, and each of the plan's processes is one of its own, running the same actors. The server is the
//! direct target. Everything that decides comes from the plan: turmoil's seed, the times and places of faults; hosts take
//! turns in a fixed order, every `select!` is biased, and nobody reads a clock. What it is *not*: fast. A tick costs each
//! host about a microsecond, so ticks are coarse, and a call takes a tick or several.

mod client;
pub mod failing;
pub mod network;
mod records;
mod serve;
mod sessions;
mod wire;
mod world;

use crate::agenda::{Agenda, Next};
use crate::plan::{End, Plan, PlannedEffect, When};
use crate::random::Stream;
use crate::run::Summary;
use crate::run::faults::{Blow, Cause, point};
use crate::target::{Direct, Target};
use network::{Network, NetworkEffect};
use std::cell::{RefCell, RefMut};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};
use tourbillon_models::history::History;
use tourbillon_models::name::Micros;
use tourbillon_models::record::{Fault, Link, Side};
use tourbillon_models::workload::Program;
use turmoil::Sim;
use world::{Idle, World};

const SERVER: &str = "server";

/// How often one looks whether everything is done.
const LOOK_INTERVAL: Micros = Micros::from_millis(250);

/// Whoever dies of his own program comes back after so long at the earliest.
const SHORTEST_DEATH: Micros = Micros::from_millis(10);

/// What a run takes and gives back: memory that is kept between runs.
pub struct Ran {
    pub summary: Summary,
    pub target: Direct,
    pub history: History,
}

/// Runs a plan that has a network. The target must be fresh, and the history.
pub fn run(plan: &Plan, program: Option<Rc<dyn Program>>, target: Direct, history: History) -> Ran {
    let world = Rc::new(RefCell::new(World::new(plan, program.as_ref(), target, history)));
    Driver::new(plan, &world).run();
    let world = Rc::try_unwrap(world).unwrap_or_else(|_| unreachable!("the hosts are gone")).into_inner();
    Ran { summary: world.summary, target: world.target, history: world.history }
}

fn tick_of(plan: &Plan) -> Micros {
    network_of(plan).tick
}

fn network_of(plan: &Plan) -> &Network {
    plan.network.as_ref().expect("the plan has a network")
}

fn duration(time: Micros) -> Duration {
    Duration::from_micros(time.0)
}

/// By the order of the plan.
fn host(process: usize) -> String {
    format!("process-{process}")
}

/// What happens between two ticks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    Fault {
        index: u16,
    },
    /// The link works again.
    Repair {
        process: u8,
    },
    HostUp {
        process: u8,
    },
    ServerUp,
    FaultsEnd,
    /// A look whether everything is done.
    Look,
}

/// What turns the simulation, one tick after the other.
struct Driver<'a> {
    plan: &'a Plan,
    world: Rc<RefCell<World>>,
    sim: Sim<'static>,
    agenda: Agenda<Event>,
    idle: Vec<(Micros, Idle)>,
    /// How each process's link fails at present.
    links: Vec<Option<Link>>,
}

impl<'a> Driver<'a> {
    fn new(plan: &'a Plan, world: &Rc<RefCell<World>>) -> Driver<'a> {
        let network = network_of(plan);
        let mut sim = turmoil::Builder::new()
            .epoch(UNIX_EPOCH)
            .rng_seed(Stream::new(plan.seed, "turmoil", 0).bits())
            .tick_duration(duration(network.tick))
            .min_message_latency(duration(network.latency.0))
            .max_message_latency(duration(network.latency.1))
            .simulation_duration(Duration::MAX)
            .build();
        let server = Rc::clone(world);
        sim.host(SERVER, move || serve::listen(Rc::clone(&server)));
        for index in 0..plan.processes.len() {
            let world = Rc::clone(world);
            sim.host(host(index), move || {
                let world = Rc::clone(&world);
                async move {
                    serve::guarded(Rc::clone(&world), client::live(world, index)).await;
                    Ok(())
                }
            });
        }
        let mut agenda = Agenda::new(plan.seed, plan.processes.len());
        for (index, fault) in plan.faults.iter().enumerate() {
            match fault.when {
                When::Time { at, .. } => agenda.push(at, Event::Fault { index: index as u16 }),
                When::Point { process, .. } => {
                    world.borrow_mut().processes[usize::from(process.0)].points.extend(point(fault));
                }
            }
        }
        agenda.push(plan.faults_end, Event::FaultsEnd);
        let links = vec![None; plan.processes.len()];
        Driver { plan, world: Rc::clone(world), sim, agenda, idle: Vec::new(), links }
    }

    fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    fn now(&self) -> Micros {
        Micros(self.sim.elapsed().as_micros() as u64)
    }

    /// When the run ends, whatever is left.
    fn last(&self) -> Micros {
        match self.plan.end {
            // A little longer, so that the history's last record lies beyond the bound.
            End::Drained => self.plan.faults_end + self.plan.liveness_bound + Micros::from_secs(1),
            End::At(time) => time,
        }
    }

    fn run(mut self) {
        let last = self.last();
        while self.now() <= last && !self.happen() {
            let step = self.sim.step();
            if let Some(panic) = self.world().panic.take() {
                resume_unwind(panic);
            }
            step.expect("hosts end without an error");
        }
        let mut world = self.world.borrow_mut();
        world.hang_up_all();
        let Ok(state) = world.target.state();
        world.history.state = Some(state);
        world.summary.ended_at = self.now();
    }

    /// Everything that is due. True if the run is over.
    fn happen(&mut self) -> bool {
        let now = self.world().advance(self.now());
        let asked = std::mem::take(&mut self.world().asked);
        asked.into_iter().for_each(|(process, blow)| self.strike(process, blow));
        self.look_at_idle(now);
        while self.agenda.next_at().is_some_and(|at| at <= now) {
            match self.agenda.pop() {
                Some((_, Next::Event(event))) => {
                    if self.handle(event) {
                        return true;
                    }
                }
                _ => unreachable!("processes have no turns here"),
            }
        }
        false
    }

    fn look_at_idle(&mut self, now: Micros) {
        let mut added = std::mem::take(&mut self.world().idle);
        self.idle.append(&mut added);
        let (due, later): (Vec<_>, Vec<_>) = self.idle.drain(..).partition(|(at, _)| *at <= now);
        self.idle = later;
        due.into_iter().for_each(|(_, idle)| self.world().idle_timeout(idle));
    }

    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Fault { index } => {
                let fault = self.plan.faults[usize::from(index)];
                let blow = Blow { effect: fault.what, cause: Cause { kind: fault.kind, phase: None } };
                self.strike(usize::from(fault.when.process().0), blow);
            }
            Event::Repair { process } => self.repair(usize::from(process)),
            Event::HostUp { process } => self.sim.bounce(host(usize::from(process))),
            Event::ServerUp => {
                self.sim.bounce(SERVER);
                self.world().is_up = true;
                self.world().note_fault(0, Fault::ServerRestart);
            }
            Event::FaultsEnd => {
                self.world().end_faults();
                (0..self.links.len()).for_each(|process| self.repair(process));
                if self.plan.end == End::Drained {
                    self.after(LOOK_INTERVAL, Event::Look);
                }
            }
            Event::Look if self.world().is_done() => return true,
            Event::Look => self.after(LOOK_INTERVAL, Event::Look),
        }
        false
    }

    fn after(&mut self, delay: Micros, event: Event) {
        let at = self.now() + delay;
        self.agenda.push(at, event);
    }

    fn strike(&mut self, process: usize, blow: Blow) {
        let Blow { effect, cause } = blow;
        if self.world().are_faults_over {
            return;
        }
        match effect {
            PlannedEffect::ServerCrash { down_for } => {
                // The setup takes longer here, and no plan is about a server that is half installed.
                let is_installed = self.world().processes[0].finished;
                if is_installed && self.world().is_up {
                    self.world().came_about(cause);
                    self.world().server_crash(process);
                    self.sim.crash(SERVER);
                    self.after(down_for, Event::ServerUp);
                }
            }
            PlannedEffect::Flush => {
                if self.world().is_up {
                    self.world().flush(process);
                }
            }
            PlannedEffect::ServerClockStep(offset) => {
                self.world().came_about(cause);
                self.world().set_server_clock(process, offset);
            }
            PlannedEffect::Network(effect) => self.fail(process, effect, blow),
            PlannedEffect::Crash { .. }
            | PlannedEffect::Pause { .. }
            | PlannedEffect::LostReply
            | PlannedEffect::IdleTimeout { .. } => self.reach(process, blow),
        }
    }

    /// A process that lives suffers it itself.
    fn reach(&mut self, process: usize, blow: Blow) {
        let is_up = self.sim.is_host_running(host(process));
        if is_up && !self.world().processes[process].finished {
            self.world().strike(process, blow);
        }
    }

    // ---- the network

    /// A link fails in one way at a time, and so does what a process has on it.
    fn fail(&mut self, process: usize, effect: NetworkEffect, blow: Blow) {
        let is_up = self.sim.is_host_running(host(process)) && !self.world().processes[process].finished;
        if self.links[process].is_some() || !is_up {
            return;
        }
        let now = self.now();
        match effect {
            NetworkEffect::Link { link, duration } => {
                self.break_link(process, link, duration);
                self.world().note_fault(process, Fault::Link { link, until: now + duration });
            }
            NetworkEffect::HalfOpen { gone_for } => {
                let Some(connection) = self.world().connection_of(process) else { return };
                self.world().note_fault(process, Fault::HalfOpen { gone_for });
                match gone_for {
                    Side::Process => {
                        self.break_link(process, Link::CutToServer, self.moment());
                        self.world().strike(process, blow);
                    }
                    Side::Server => {
                        self.break_link(process, Link::CutToProcess, self.moment());
                        self.world().hang_up(connection);
                    }
                }
            }
            NetworkEffect::HostCrash { restart_after } => {
                // Its operating system says no more farewell than it does.
                self.break_link(process, Link::Cut, tick_of(self.plan));
                self.sim.crash(host(process));
                let mut world = self.world();
                let at = world.crash_process(process, restart_after);
                world.shells[process].blows.clear();
                world.shells[process].down_until = at;
                drop(world);
                self.after(restart_after, Event::HostUp { process: process as u8 });
            }
        }
        self.world().summary.network_faults.push(effect.kind());
    }

    /// In which something that is about to be sent is sent.
    fn moment(&self) -> Micros {
        Micros(2 * tick_of(self.plan).0)
    }

    fn break_link(&mut self, process: usize, link: Link, lasting: Micros) {
        match link {
            Link::Cut => self.sim.partition(SERVER, host(process)),
            Link::CutToServer => self.sim.partition_oneway(host(process), SERVER),
            Link::CutToProcess => self.sim.partition_oneway(SERVER, host(process)),
            Link::Held => self.sim.hold(SERVER, host(process)),
            Link::Slow => {
                let slow = Micros(10 * network_of(self.plan).latency.1.0 + tick_of(self.plan).0);
                self.sim.set_link_max_message_latency(SERVER, host(process), duration(slow));
            }
            Link::Late => self.sim.set_link_latency(SERVER, host(process), duration(lasting)),
        }
        self.links[process] = Some(link);
        let lasting = if link == Link::Late { self.moment() } else { lasting };
        self.after(lasting, Event::Repair { process: process as u8 });
    }

    fn repair(&mut self, process: usize) {
        match self.links[process].take() {
            None => {}
            Some(Link::Cut | Link::CutToServer | Link::CutToProcess) => self.sim.repair(SERVER, host(process)),
            Some(Link::Held) => self.sim.release(SERVER, host(process)),
            Some(link @ (Link::Slow | Link::Late)) => {
                let (least, most) = network_of(self.plan).latency;
                self.sim.set_link_latency(SERVER, host(process), duration(least));
                self.sim.set_link_max_message_latency(SERVER, host(process), duration(most));
                if link == Link::Late {
                    self.overtake(process);
                }
            }
        }
    }

    /// What was sent is under way, and its sender does not wait for it.
    fn overtake(&mut self, process: usize) {
        let mut world = self.world();
        if !world.are_faults_over && world.connection_of(process).is_some() {
            let gone_for = Side::Process;
            world.note_fault(process, Fault::HalfOpen { gone_for });
            let effect = PlannedEffect::Network(NetworkEffect::HalfOpen { gone_for });
            world.strike(process, Blow { effect, cause: Cause { kind: None, phase: None } });
        }
    }
}
