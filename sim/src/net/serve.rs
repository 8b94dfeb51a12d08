//! The server's host: a listener, and a task for each connection.
//!
//! A task reads a frame, lets the engine answer, and sends what it answers as soon as it does. It asks whether the other
//! end is still there, and notices what an operating system's keepalive would; but not while a call waits for a lock: then
//! nobody looks at the socket, as in PostgreSQL.

use super::wire::{Frame, Wire};
use super::world::World;
use std::cell::RefCell;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;
use tourbillon_models::name::Micros;
use turmoil::net::TcpListener;

pub(super) const PORT: u16 = 5432;

/// Listens until the host goes down.
pub(super) async fn listen(world: Rc<RefCell<World>>) -> turmoil::Result {
    let listener = TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::task::spawn_local(guarded(Rc::clone(&world), serve(Rc::clone(&world), Wire::new(stream))));
    }
}

/// A panic in a task is nobody's unless somebody keeps it.
pub(super) async fn guarded<T: Default>(world: Rc<RefCell<World>>, task: impl Future<Output = T>) -> T {
    let mut task = Box::pin(task);
    poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))).unwrap_or_else(|payload| {
            world.borrow_mut().panic.get_or_insert(payload);
            Poll::Ready(T::default())
        })
    })
    .await
}

/// Until then; at once if that has passed.
pub(super) async fn until(world: &RefCell<World>, time: Micros) {
    let left = time - world.borrow_mut().now();
    tokio::time::sleep(Duration::from_micros(left.0)).await;
}

async fn serve(world: Rc<RefCell<World>>, mut wire: Wire) {
    let Ok(Frame::Hello { process, incarnation, number }) = wire.receive().await else { return };
    let accepted = world.borrow_mut().accept(process, incarnation, number);
    let Some((id, wake)) = accepted else { return };
    Serving { world, wire, wake, id, heard_at: Micros(0), asked_at: Micros(0), is_gone: false }.run().await;
}

struct Serving {
    world: Rc<RefCell<World>>,
    wire: Wire,
    wake: Rc<Notify>,
    id: usize,
    /// When the process was heard last.
    heard_at: Micros,
    /// When it was asked last.
    asked_at: Micros,
    /// The process has closed the connection.
    is_gone: bool,
}

impl Serving {
    async fn run(mut self) {
        self.heard_at = self.world.borrow_mut().now();
        self.asked_at = self.heard_at;
        loop {
            let next = self.next_look();
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                frame = self.wire.receive(), if !self.is_gone => self.take(frame.ok()),
                () = until(&self.world, next) => self.look(),
            }
            let answer = self.world.borrow_mut().take_reply(self.id);
            if let Some((reply, xid)) = answer {
                self.is_gone |= self.wire.send(&Frame::Reply(reply, xid)).is_err();
            }
            let mut world = self.world.borrow_mut();
            world.now();
            if self.is_gone && !world.is_blocked(self.id) {
                world.hang_up(self.id);
            }
            if !world.is_open(self.id) {
                return;
            }
        }
    }

    fn take(&mut self, frame: Option<Frame>) {
        let mut world = self.world.borrow_mut();
        self.heard_at = world.now();
        match frame {
            Some(Frame::Call(op)) if world.is_open(self.id) && !world.is_blocked(self.id) => world.call(self.id, &op),
            Some(Frame::Pong) => {}
            _ => self.is_gone = true,
        }
    }

    /// When there is something to do if nothing happens.
    fn next_look(&self) -> Micros {
        let world = self.world.borrow();
        let network = world.plan.network.as_ref().expect("the plan has a network");
        let ask = self.asked_at + network.keepalive;
        let patience = self.heard_at + network.server_patience;
        let patience = (!world.is_blocked(self.id)).then_some(patience);
        [Some(ask), patience, world.lock_deadline(self.id)].into_iter().flatten().min().unwrap_or(ask)
    }

    fn look(&mut self) {
        let mut world = self.world.borrow_mut();
        let now = world.now();
        let network = world.plan.network.as_ref().expect("the plan has a network");
        let (keepalive, patience) = (network.keepalive, network.server_patience);
        world.lock_timeout(self.id);
        if now >= self.heard_at + patience && world.is_open(self.id) && !world.is_blocked(self.id) {
            world.lose(self.id);
        }
        if now >= self.asked_at + keepalive {
            self.asked_at = now;
            self.is_gone |= self.wire.send(&Frame::Ping).is_err();
        }
    }
}
