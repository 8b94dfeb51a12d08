//! The network of a plan: how fast it is, how patient both ends are, and how it fails. Plain data, drawn from the seed.
//!
//! Its draws come from streams of their own, so a plan with a network is the same plan otherwise; only that everyone has
//! longer to finish, since a call takes longer and the server takes a while to notice that somebody is gone. What it is
//! *not*: the faults of processes and of the server, which the plan has anyhow.

use super::failing::{Failing, draw};
use crate::plan::Plan;
use crate::random::Stream;
use serde::{Deserialize, Serialize};
use tourbillon_models::name::Micros;
use tourbillon_models::record::{Link, Side};

/// What is between the processes and the server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Network {
    /// Messages arrive at multiples of this.
    pub tick: Micros,
    /// A message takes between so much and so much, one way.
    pub latency: (Micros, Micros),
    /// How often the server asks whether a connection's other end is there.
    pub keepalive: Micros,
    /// So long after it heard last from a process, the server ends its session; not while a call of it waits for a lock.
    pub server_patience: Micros,
    /// So long after it heard last from the server, a process gives its connection up.
    pub process_patience: Micros,
    /// How long a process waits before it tries again to connect.
    pub reconnect_after: Micros,
}

/// How it fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkEffect {
    Link {
        link: Link,
        duration: Micros,
    },
    /// The connection is gone for one side, without a word to the other.
    HalfOpen {
        gone_for: Side,
    },
    /// The process's machine dies without a word, and starts again.
    HostCrash {
        restart_after: Micros,
    },
}

/// One kind of network fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum NetworkFault {
    Partition,
    OneWayPartition,
    HeldMessages,
    SlowLink,
    LateMessage,
    HalfOpenProcess,
    HalfOpenServer,
    HostCrash,
    /// The server gives up a connection that is still good for all that its process knows, or was never closed.
    SessionLost,
}

impl NetworkFault {
    pub const ALL: [NetworkFault; 9] = [
        NetworkFault::Partition,
        NetworkFault::OneWayPartition,
        NetworkFault::HeldMessages,
        NetworkFault::SlowLink,
        NetworkFault::LateMessage,
        NetworkFault::HalfOpenProcess,
        NetworkFault::HalfOpenServer,
        NetworkFault::HostCrash,
        NetworkFault::SessionLost,
    ];

    /// Those that a plan draws; the last one follows from them.
    pub const DRAWN: [NetworkFault; 8] = *NetworkFault::ALL.first_chunk().expect("there are nine");

    /// One that a plan draws.
    pub fn by_name(name: &str) -> Option<NetworkFault> {
        NetworkFault::DRAWN.into_iter().find(|fault| fault.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            NetworkFault::Partition => "partition",
            NetworkFault::OneWayPartition => "one_way_partition",
            NetworkFault::HeldMessages => "held_messages",
            NetworkFault::SlowLink => "slow_link",
            NetworkFault::LateMessage => "late_message",
            NetworkFault::HalfOpenProcess => "half_open_process",
            NetworkFault::HalfOpenServer => "half_open_server",
            NetworkFault::HostCrash => "host_crash",
            NetworkFault::SessionLost => "session_lost",
        }
    }

    /// One sentence.
    pub const fn summary(self) -> &'static str {
        match self {
            NetworkFault::Partition => "nothing passes between a process and the server for a while",
            NetworkFault::OneWayPartition => "nothing passes one way, and the other way everything",
            NetworkFault::HeldMessages => {
                "what a process and the server send each other arrives late, also after both gave up"
            }
            NetworkFault::SlowLink => "messages take long for a while",
            NetworkFault::LateMessage => {
                "a message takes long, its connection breaks, and what its sender says on another one passes it"
            }
            NetworkFault::HalfOpenProcess => {
                "a process loses its connection, and the server keeps session, transaction and locks until it notices"
            }
            NetworkFault::HalfOpenServer => "the server loses a connection, and its process does not know",
            NetworkFault::HostCrash => "a process's machine dies without a word, and starts again",
            NetworkFault::SessionLost => "the server notices that nobody is there any more",
        }
    }
}

impl NetworkEffect {
    pub const fn kind(self) -> NetworkFault {
        match self {
            NetworkEffect::Link { link: Link::Cut, .. } => NetworkFault::Partition,
            NetworkEffect::Link { link: Link::CutToServer | Link::CutToProcess, .. } => NetworkFault::OneWayPartition,
            NetworkEffect::Link { link: Link::Held, .. } => NetworkFault::HeldMessages,
            NetworkEffect::Link { link: Link::Slow, .. } => NetworkFault::SlowLink,
            NetworkEffect::Link { link: Link::Late, .. } => NetworkFault::LateMessage,
            NetworkEffect::HalfOpen { gone_for: Side::Process } => NetworkFault::HalfOpenProcess,
            NetworkEffect::HalfOpen { gone_for: Side::Server } => NetworkFault::HalfOpenServer,
            NetworkEffect::HostCrash { .. } => NetworkFault::HostCrash,
        }
    }

    pub fn times_mut(&mut self) -> Option<&mut Micros> {
        match self {
            NetworkEffect::Link { duration: time, .. } | NetworkEffect::HostCrash { restart_after: time } => Some(time),
            NetworkEffect::HalfOpen { .. } => None,
        }
    }

    pub fn in_words(self, name: &str) -> String {
        match self {
            NetworkEffect::Link { link: Link::Cut, duration } => {
                format!("nothing passes between {name} and the server for {duration}")
            }
            NetworkEffect::Link { link: Link::CutToServer, duration } => {
                format!("nothing that {name} sends arrives for {duration}")
            }
            NetworkEffect::Link { link: Link::CutToProcess, duration } => {
                format!("nothing that the server sends to {name} arrives for {duration}")
            }
            NetworkEffect::Link { link: Link::Held, duration } => {
                format!("what {name} and the server send each other is held for {duration}")
            }
            NetworkEffect::Link { link: Link::Slow, duration } => {
                format!("messages between {name} and the server are slow for {duration}")
            }
            NetworkEffect::Link { link: Link::Late, duration } => {
                format!("what {name} and the server send each other at that moment arrives {duration} late")
            }
            NetworkEffect::HalfOpen { gone_for: Side::Process } => {
                format!("{name} loses its connection, and the server does not know")
            }
            NetworkEffect::HalfOpen { gone_for: Side::Server } => {
                format!("the server loses the connection of {name}, which does not know")
            }
            NetworkEffect::HostCrash { restart_after } => {
                format!("the machine of {name} dies without a word, and starts again after {restart_after}")
            }
        }
    }
}

const TICK: Micros = Micros::from_millis(8);

impl Network {
    fn draw(stream: &mut Stream) -> Network {
        let millis = |stream: &mut Stream, low, high| stream.span(Micros::from_millis(low), Micros::from_millis(high));
        let (server_patience, process_patience) = (millis(stream, 200, 3_000), millis(stream, 200, 3_000));
        Network {
            tick: TICK,
            latency: (Micros(0), millis(stream, 1, 20)),
            keepalive: Micros(server_patience.min(process_patience).0 / 3),
            server_patience,
            process_patience,
            reconnect_after: millis(stream, 5, 100),
        }
    }

    /// Why nothing could run on it, if nothing could.
    pub fn objection(&self) -> Option<String> {
        let shortest = Micros::from_millis(1);
        let times = [self.tick, self.keepalive, self.server_patience, self.process_patience, self.reconnect_after];
        let is_odd = self.latency.0 > self.latency.1 || times.into_iter().any(|time| time < shortest);
        is_odd.then(|| "its network has a time shorter than 1 ms, or a latency between more and less".to_owned())
    }

    /// A call, there and back, at the most; what arrives waits for the next tick.
    fn round_trip(&self) -> Micros {
        Micros(2 * (self.latency.1.0 + self.tick.0))
    }

    /// How long everyone may still wait for what failed before the faults' end: the server for the dead, the processes
    /// for the server.
    fn aftermath(&self) -> Micros {
        Micros(self.server_patience.0 + self.process_patience.0 + self.reconnect_after.0 + 4 * self.keepalive.0)
    }

    fn named(&self) -> [(&'static str, String); 5] {
        [
            ("network_tick", self.tick.to_string()),
            ("network_latency", format!("{} to {}", self.latency.0, self.latency.1)),
            ("server_patience", self.server_patience.to_string()),
            ("process_patience", self.process_patience.to_string()),
            ("reconnect_after", self.reconnect_after.to_string()),
        ]
    }
}

impl Plan {
    /// Puts a network between the processes and the server, which fails in these ways.
    pub fn spread(&mut self, failing: Failing) {
        let network = Network::draw(&mut Stream::new(self.seed, "network", 0));
        if failing != Failing::NEVER {
            let mut faults = draw(self, &network, failing);
            self.options.push(("network_faults".to_owned(), faults.len().to_string()));
            self.faults.append(&mut faults);
        }
        let named = network.named().into_iter().map(|(name, value)| (name.to_owned(), value));
        self.options.extend(named);
        self.liveness_bound = self.liveness_bound + self.allowance(&network);
        self.network = Some(network);
    }

    /// So much longer may it take to finish: a handful of calls for each event that is still to be handed off, and for
    /// each time that a worker looks for one; as long again, since workers that wait for messages get less done meanwhile; and
    /// what is left of the faults, which one process may have to wait for after the other.
    fn allowance(&self, network: &Network) -> Micros {
        const CALLS: u64 = 400;
        const IN_A_ROW: u64 = 4;
        Micros(CALLS * network.round_trip().0 + self.liveness_bound.0 + IN_A_ROW * network.aftermath().0)
    }
}
