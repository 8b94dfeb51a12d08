//! A process's host: its actor, in a thin shell that connects, calls, waits, and sleeps.
//!
//! A good client: what it has not heard it does not know, so a call that was under way when the connection broke is
//! answered as unknown and is the actor's to resolve; the next call has a fresh session. While the process stands still
//! its operating system still answers the server. What befalls the process comes as blows, between two frames.

use super::serve::{PORT, until};
use super::wire::{Frame, Wire};
use super::world::World;
use crate::plan::PlannedEffect;
use crate::run::faults::Blow;
use std::cell::{RefCell, RefMut};
use std::future::pending;
use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tourbillon_engine::actors::Action;
use tourbillon_engine::store::unflushed::Durability;
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{Micros, Xid};
use tourbillon_models::record::{Happening, Side};
use tourbillon_models::reply::Reply;
use turmoil::net::TcpStream;

use super::SERVER;
use super::network::NetworkEffect;

/// Runs a process until it has come to its end.
pub(super) async fn live(world: Rc<RefCell<World>>, index: usize) {
    let (wake, sleeps_until) = {
        let world = world.borrow();
        (Rc::clone(&world.shells[index].wake), world.shells[index].down_until)
    };
    let mut shell = Shell { world, index, wake, connection: None, connections: 0, sleeps_until };
    shell.wait_for_setup().await;
    while shell.turn().await.is_continue() {}
}

struct Shell {
    world: Rc<RefCell<World>>,
    index: usize,
    wake: Rc<Notify>,
    connection: Option<Connection>,
    /// How many there were.
    connections: u32,
    /// The actor has nothing to do before.
    sleeps_until: Micros,
}

struct Connection {
    wire: Wire,
    number: u32,
    /// How many calls were sent on it.
    sent: u64,
    heard_at: Micros,
}

impl Connection {
    /// Which one it is, and how many calls were sent on it.
    const fn count(&self) -> (u32, u64) {
        (self.number, self.sent)
    }
}

/// What comes next.
enum Next {
    Struck,
    Frame(io::Result<Frame>),
    Time,
}

impl Shell {
    fn world(&self) -> RefMut<'_, World> {
        let mut world = self.world.borrow_mut();
        world.now();
        world
    }

    /// Nobody uses what is not installed.
    async fn wait_for_setup(&self) {
        while self.index != 0 && !self.world().processes[0].finished {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn turn(&mut self) -> ControlFlow<()> {
        while let Some(blow) = self.next_blow() {
            self.suffer(blow);
        }
        let ready_at = self.sleeps_until.max(self.world().processes[self.index].paused_until);
        if ready_at > self.world().now() {
            self.rest(ready_at).await;
            return ControlFlow::Continue(());
        }
        let held = self.world().processes[self.index].held.take();
        if let Some(op) = held {
            self.make_call(op).await;
            return ControlFlow::Continue(());
        }
        match self.poll() {
            Action::Note(note) => self.world().record(self.index, Happening::Note(note)),
            Action::Sleep(until) => {
                let mut world = self.world();
                let now = world.now();
                let until = world.processes[self.index].clock.when(until, now);
                drop(world);
                self.sleeps_until = until;
            }
            Action::Die => {
                let mut world = self.world();
                let longest = world.plan.dead_interval;
                let restart_after = world.deaths.span(super::SHORTEST_DEATH, longest);
                drop(world);
                self.crash(restart_after);
            }
            Action::Finished => {
                self.finish();
                return ControlFlow::Break(());
            }
            Action::Call(op) => self.begin_call(op).await,
        }
        ControlFlow::Continue(())
    }

    fn poll(&self) -> Action {
        let mut world = self.world();
        let now = world.now();
        let process = &mut world.processes[self.index];
        let answered = std::mem::take(&mut process.is_answered).then_some(&mut process.answered);
        process.actor.poll(process.clock.at(now), answered)
    }

    fn finish(&mut self) {
        self.connection = None;
        let mut world = self.world();
        world.processes[self.index].finished = true;
        // No plan is about a server that loses its installation.
        if self.index == 0 && world.plan.durability == Durability::Asynchronous {
            world.flush(0);
        }
    }

    // ---- what befalls it

    fn next_blow(&self) -> Option<Blow> {
        self.world().shells[self.index].blows.pop_front()
    }

    /// A fault at a point: the network is asked to fail first, and then it befalls the process.
    fn meet(&mut self, blow: Blow) {
        match blow.effect {
            PlannedEffect::Network(_) => self.ask(blow),
            _ => self.suffer(blow),
        }
    }

    fn suffer(&mut self, blow: Blow) {
        let Blow { effect, cause } = blow;
        match effect {
            PlannedEffect::Crash { restart_after } => {
                self.world().came_about(cause);
                self.crash(restart_after);
            }
            PlannedEffect::Pause { duration } => {
                self.world().came_about(cause);
                self.world().pause(self.index, duration);
            }
            PlannedEffect::IdleTimeout { idle, duration } => {
                let mut world = self.world();
                world.pause(self.index, duration);
                world.watch_idle(self.index, idle, cause);
            }
            PlannedEffect::LostReply => {}
            PlannedEffect::Network(NetworkEffect::HalfOpen { gone_for: Side::Process }) => self.lose_connection(),
            PlannedEffect::ServerCrash { .. }
            | PlannedEffect::Flush
            | PlannedEffect::ServerClockStep(_)
            | PlannedEffect::Network(_) => self.ask(blow),
        }
    }

    /// What befalls the server or the network does so between two ticks: nothing is done before.
    fn ask(&mut self, blow: Blow) {
        let mut world = self.world();
        let next_tick = world.now() + super::tick_of(&world.plan) + Micros::from_millis(1);
        world.asked.push((self.index, blow));
        drop(world);
        self.sleeps_until = self.sleeps_until.max(next_tick);
    }

    fn crash(&mut self, restart_after: Micros) {
        self.connection = None;
        let restarts_at = self.world().crash_process(self.index, restart_after);
        self.sleeps_until = restarts_at;
    }

    /// The connection is gone; the call under way, or else the next one, is answered as unknown.
    fn lose_connection(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.world().processes[self.index].lost |= connection.sent > 0;
        }
    }

    /// The same, and with it the answer to the last call that was sent.
    fn lose_reply(&mut self) {
        let of = self.connection.as_ref().map(Connection::count);
        self.lose_connection();
        self.miss(of);
    }

    fn miss(&self, of: Option<(u32, u64)>) {
        of.into_iter().for_each(|(number, sent)| self.world().gave_up(self.index, number, sent));
    }

    // ---- calls

    /// Faults that fall before a call are met here.
    async fn begin_call(&mut self, op: PlainOp) {
        let due = self.world().due_point(self.index, &op);
        match due {
            None => self.make_call(op).await,
            Some(Blow { effect: PlannedEffect::LostReply, cause }) => {
                self.world().came_about(cause);
                self.lose_reply();
                self.answer_unknown();
            }
            Some(blow @ Blow { effect: PlannedEffect::Crash { .. }, .. }) => self.suffer(blow),
            Some(blow) => {
                self.world().processes[self.index].held = Some(op);
                self.meet(blow);
            }
        }
    }

    async fn make_call(&mut self, op: PlainOp) {
        if std::mem::take(&mut self.world().processes[self.index].lost) {
            return self.answer_unknown();
        }
        if self.connection.is_none() && !self.connect().await {
            // Struck, or not reached: it is made when the time comes.
            self.world().processes[self.index].held = Some(op);
            return;
        }
        let connection = self.connection.as_mut().expect("it has connected");
        connection.sent += 1;
        if connection.wire.send(&Frame::Call(op)).is_err() {
            self.lose_connection();
            return self.answer_unknown();
        }
        self.await_reply().await;
    }

    async fn await_reply(&mut self) {
        let of = self.connection.as_ref().map(Connection::count);
        loop {
            match self.next(None).await {
                Next::Struck => {
                    while let Some(blow) = self.next_blow() {
                        let incarnation = self.incarnation();
                        self.suffer(blow);
                        if self.incarnation() != incarnation {
                            return;
                        }
                    }
                }
                Next::Frame(Ok(Frame::Reply(reply, xid))) => {
                    let mut world = self.world();
                    let process = &mut world.processes[self.index];
                    (process.answered.reply, process.answered.xid) = (reply, xid);
                    process.is_answered = true;
                    drop(world);
                    return self.after_reply();
                }
                Next::Frame(frame) => self.attend(frame),
                Next::Time => self.lose_connection(),
            }
            if self.connection.is_none() {
                self.miss(of);
                return self.answer_unknown();
            }
        }
    }

    fn incarnation(&self) -> u8 {
        self.world.borrow().processes[self.index].incarnation
    }

    /// The fault that falls after the call, if one does.
    fn after_reply(&mut self) {
        let after = self.world().processes[self.index].after.take();
        match after {
            None => {}
            Some(Blow { effect: PlannedEffect::LostReply, cause }) => {
                self.world().came_about(cause);
                self.lose_reply();
                self.answer_unknown();
            }
            Some(blow) => self.meet(blow),
        }
        if self.connection.is_none() && self.world().processes[self.index].is_answered {
            self.answer_unknown();
        }
    }

    /// The process learns that it will not learn more.
    fn answer_unknown(&mut self) {
        let mut world = self.world();
        let process = &mut world.processes[self.index];
        process.answered.reply = Reply::Unknown;
        process.answered.xid = Xid(0);
        process.is_answered = true;
        process.after = None;
        process.lost = false;
    }

    // ---- the connection

    /// Tries to connect, once; false if it cannot, or is struck, and then it may try again after a while.
    async fn connect(&mut self) -> bool {
        self.connections += 1;
        let (patience, reconnect_after) = {
            let world = self.world.borrow();
            let network = world.plan.network.as_ref().expect("the plan has a network");
            (network.process_patience, network.reconnect_after)
        };
        let now = self.world().now();
        let stream = tokio::select! {
            biased;
            () = self.wake.notified() => None,
            stream = TcpStream::connect((SERVER, PORT)) => stream.ok(),
            () = until(&self.world, now + patience) => None,
        };
        let now = self.world().now();
        let wire = stream.and_then(|stream| {
            let (number, incarnation) = (self.connections, self.incarnation());
            let mut wire = Wire::new(stream);
            wire.send(&Frame::Hello { process: self.index as u8, incarnation, number }).ok().map(|()| wire)
        });
        match wire {
            Some(wire) => {
                self.connection = Some(Connection { wire, number: self.connections, sent: 0, heard_at: now });
                true
            }
            None => {
                self.sleeps_until = now + reconnect_after;
                false
            }
        }
    }

    /// Until then, unless something befalls it.
    async fn rest(&mut self, time: Micros) {
        match self.next(Some(time)).await {
            Next::Frame(frame) => self.attend(frame),
            Next::Time if self.is_out_of_patience() => self.lose_connection(),
            Next::Time | Next::Struck => {}
        }
    }

    /// A frame that is no answer.
    fn attend(&mut self, frame: io::Result<Frame>) {
        let is_there = match (frame, &mut self.connection) {
            (Ok(Frame::Ping), Some(connection)) => connection.wire.send(&Frame::Pong).is_ok(),
            _ => false,
        };
        if !is_there {
            self.lose_connection();
        }
    }

    fn patience_ends(&self) -> Option<Micros> {
        let world = self.world.borrow();
        let network = world.plan.network.as_ref().expect("the plan has a network");
        self.connection.as_ref().map(|connection| connection.heard_at + network.process_patience)
    }

    fn is_out_of_patience(&self) -> bool {
        let now = self.world().now();
        self.patience_ends().is_some_and(|end| end <= now)
    }

    async fn next(&mut self, time: Option<Micros>) -> Next {
        let end =
            [time, self.patience_ends()].into_iter().flatten().min().expect("who waits has a time or a connection");
        let frame = async {
            match &mut self.connection {
                Some(connection) => connection.wire.receive().await,
                None => pending().await,
            }
        };
        let next = tokio::select! {
            biased;
            () = self.wake.notified() => Next::Struck,
            frame = frame => Next::Frame(frame),
            () = until(&self.world, end) => Next::Time,
        };
        if let (Next::Frame(Ok(_)), Some(connection)) = (&next, &mut self.connection) {
            connection.heard_at = self.world.borrow_mut().now();
        }
        next
    }
}
