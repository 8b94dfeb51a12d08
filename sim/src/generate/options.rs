//! The options of a plan: every drawn size, interval and kind of fault.

use super::course::Course;
use super::shape::{Arrivals, Interruption, Pace, Shape};
use super::{Limits, resurrection};
use crate::faults::FaultKind;
use crate::random::Stream;
use tourbillon_models::name::Micros;
use tourbillon_models::workload::Program;

/// Every drawn option of one plan.
pub struct Options {
    pub shape: Shape,
    pub workers: u64,
    pub consumers: u64,
    pub items: u64,
    pub size: u64,
    pub clients: u64,
    pub poll_interval: Micros,
    pub tick_interval: Micros,
    pub rotation_period: Micros,
    pub lock_timeout: Micros,
    pub drain_interval: Micros,
    /// So many timers a call.
    pub drain_limit: u32,
    pub timer_rotation_period: Micros,
    pub dead_interval: Micros,
    pub work_duration: Micros,
    pub page_limit: u32,
    pub max_tries: u16,
    /// Workers that only take over.
    pub standbys: u64,
    /// When everyone stands still, and for how long.
    pub outage: Option<(Micros, Micros)>,
    pub faults_end: Micros,
    pub faults: Vec<FaultKind>,
    /// A zombie comes back whose claim is lost.
    pub is_resurrection: bool,
}

/// One seed in so many draws this kind of fault.
const fn rarity(kind: FaultKind) -> u64 {
    match kind {
        // What it loses is not judged: it hides other bugs.
        FaultKind::AsyncCommitLoss => 4,
        _ => 2,
    }
}

impl Options {
    pub fn draw(seed: u64, workload: &str, has_program: bool, limits: &Limits) -> Self {
        let mut stream = Stream::new(seed, "option", 0);
        let shape = Shape::of(workload);
        let millis = |stream: &mut Stream, low, high| stream.span(Micros::from_millis(low), Micros::from_millis(high));
        let between = |stream: &mut Stream, (low, high)| stream.between(low, high);
        let is_brisk = shape.pace == Pace::Brisk;
        let is_burst = shape.arrivals == Arrivals::AtOnce;
        let clients = if is_burst { *stream.choose(&[1, 8]) } else { stream.between(1, 3) };
        let mut options = Options {
            shape,
            workers: stream.between(1, 4),
            consumers: if has_program { 1 } else { between(&mut stream, shape.consumers) },
            items: if is_burst { 160 + 40 / clients } else { between(&mut stream, shape.items) },
            size: between(&mut stream, shape.size),
            clients,
            poll_interval: if is_brisk { millis(&mut stream, 15, 200) } else { millis(&mut stream, 300, 1200) },
            tick_interval: if is_brisk { millis(&mut stream, 15, 150) } else { millis(&mut stream, 150, 600) },
            rotation_period: millis(&mut stream, 150, 1500),
            lock_timeout: millis(&mut stream, 10, 600),
            drain_interval: if is_brisk { millis(&mut stream, 15, 300) } else { millis(&mut stream, 200, 900) },
            drain_limit: *stream.choose(&[1, 2, 3, 100]),
            timer_rotation_period: millis(&mut stream, 150, 1500),
            dead_interval: millis(&mut stream, 250, 1500),
            work_duration: if is_burst { millis(&mut stream, 0, 2) } else { millis(&mut stream, 0, 60) },
            page_limit: *stream.choose(&[1, 2, 3, 100]),
            max_tries: stream.between(1, 3) as u16,
            standbys: stream.below(3) / 2,
            outage: None,
            faults_end: if is_brisk { millis(&mut stream, 2500, 9000) } else { millis(&mut stream, 10_000, 90_000) },
            faults: limits.faults.iter().copied().filter(|kind| stream.chance(1, rarity(*kind))).collect(),
            is_resurrection: false,
        };
        options.force();
        if options.has(FaultKind::AsyncCommitLoss) {
            options.is_resurrection = resurrection::befalls(seed, &shape);
        }
        if options.is_resurrection {
            resurrection::prepare(seed, &mut options);
        }
        if shape.interruption == Interruption::Outage {
            options.interrupt(&mut Stream::new(seed, "outage", 0));
        }
        options
    }

    /// What the workload is about, in the order in which kinds are listed.
    fn force(&mut self) {
        let forced = self.shape.forced;
        let drawn = core::mem::take(&mut self.faults);
        let is_on = |kind: &FaultKind| drawn.contains(kind) || forced.contains(kind);
        self.faults = FaultKind::ALL.into_iter().filter(is_on).collect();
    }

    /// Longer than it takes to rotate all tables, to find everyone dead, and for every short sleep to be over.
    fn interrupt(&mut self, stream: &mut Stream) {
        let at = stream.span(Micros::from_millis(300), Micros::from_millis(2000));
        let horizon = 3 * self.rotation_period.0 + 2 * self.timer_rotation_period.0 + 4 * self.dead_interval.0;
        let duration = Micros(horizon + stream.between(2_000_000, 6_000_000));
        self.outage = Some((at, duration));
        self.faults_end = at + duration + self.faults_end;
    }

    /// Time for everyone to be found dead and taken over; for the longest workflow to take its steps one by one, each
    /// behind all the others, a tick, a poll, a claim that lingers, and as many pages of timers as there may be; for its
    /// sleep; and for what kills its process to do so, twice with its window and then alone. All of it twice, since
    /// what is dead may be replayed.
    pub fn liveness_bound(&self, program: Option<&dyn Program>) -> Micros {
        let course = program.map_or(Course { steps: 6, asleep: Micros::from_secs(2), deaths: 0 }, |program| {
            Course::of(program, self.items, self.size)
        });
        let pages = self.items / u64::from(self.drain_limit) + 3;
        let step = self.tick_interval.0
            + 2 * self.poll_interval.0
            + self.items * self.work_duration.0
            + pages * self.drain_interval.0
            + 300_000;
        let death = 2 * self.dead_interval.0 + 2 * self.poll_interval.0 + self.tick_interval.0 + 500_000;
        let deaths = course.deaths * (2 + u64::from(self.max_tries)) * death;
        Micros(10_000_000 + 10 * self.dead_interval.0 + 2 * (course.steps * step + course.asleep.0 + deaths))
    }

    pub fn has(&self, kind: FaultKind) -> bool {
        self.faults.contains(&kind)
    }

    /// For people.
    pub fn named(&self) -> Vec<(String, String)> {
        let faults: Vec<&str> = self.faults.iter().map(|kind| kind.name()).collect();
        let outage = self.outage.map_or("none".to_owned(), |(at, duration)| format!("{duration} from {at} on"));
        let named = [
            ("workers", self.workers.to_string()),
            ("standbys", self.standbys.to_string()),
            ("consumers", self.consumers.to_string()),
            ("items", self.items.to_string()),
            ("size", self.size.to_string()),
            ("clients", self.clients.to_string()),
            ("poll_interval", self.poll_interval.to_string()),
            ("tick_interval", self.tick_interval.to_string()),
            ("rotation_period", self.rotation_period.to_string()),
            ("lock_timeout", self.lock_timeout.to_string()),
            ("drain_interval", self.drain_interval.to_string()),
            ("drain_limit", self.drain_limit.to_string()),
            ("timer_rotation_period", self.timer_rotation_period.to_string()),
            ("dead_interval", self.dead_interval.to_string()),
            ("work_duration", self.work_duration.to_string()),
            ("page_limit", self.page_limit.to_string()),
            ("max_tries", self.max_tries.to_string()),
            ("outage", outage),
            ("faults_end", self.faults_end.to_string()),
            ("faults", faults.join(",")),
        ];
        let resurrection = self.is_resurrection.then(|| ("resurrection", "of worker-0".to_owned()));
        named.into_iter().chain(resurrection).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
