//! The options of a plan: every drawn size, interval and kind of fault.

use super::course::Course;
use super::shape::{Arrivals, Interruption, Pace, Shape};
use super::{Limits, crowd, resurrection};
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
    /// When the last client has come.
    pub arrivals_end: Micros,
    pub faults: Vec<FaultKind>,
    /// A zombie comes back whose claim is lost.
    pub is_resurrection: bool,
    /// Many families come at once.
    pub is_crowd: bool,
    /// What workflows have before them.
    pub course: Course,
    /// Of a program whose workflows await something.
    pub waits: Option<WaitOptions>,
    /// Who counts live workflows, and how often.
    pub observers: u64,
    pub observe_interval: Micros,
}

/// What comes with waits.
pub struct WaitOptions {
    pub emitters: u64,
    pub expire_interval: Micros,
    /// So many waits a call.
    pub expire_limit: u32,
    pub audit_keep: Micros,
    pub audit_rotation_period: Micros,
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
    pub fn draw(seed: u64, workload: &str, program: Option<&dyn Program>, limits: &Limits) -> Self {
        let has_program = program.is_some();
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
            arrivals_end: Micros(0),
            faults: limits.faults.iter().copied().filter(|kind| stream.chance(1, rarity(*kind))).collect(),
            is_resurrection: false,
            is_crowd: false,
            course: Course::default(),
            waits: None,
            observers: 0,
            observe_interval: Micros(0),
        };
        options.force();
        let has_waits = program.is_some_and(|program| !program.names().is_empty());
        if has_waits {
            // What a replay begins has an id that nobody knows who could tell it anything.
            options.faults.retain(|kind| *kind != FaultKind::ReplayTwice);
        }
        if options.has(FaultKind::AsyncCommitLoss) {
            options.is_resurrection = resurrection::befalls(seed, &shape);
        }
        if options.is_resurrection {
            resurrection::prepare(seed, &mut options);
        }
        if shape.interruption == Interruption::Outage {
            options.interrupt(&mut Stream::new(seed, "outage", 0));
        }
        options.arrivals_end = options.faults_end;
        let course = |options: &Options| {
            program.map_or_else(|| options.of_messages(), |it| Course::of(it, options.items, options.size))
        };
        options.course = course(&options);
        options.is_crowd = shape.crowd_size > 0 && !options.is_resurrection && crowd::gathers(seed);
        if options.is_crowd {
            crowd::prepare(seed, &mut options);
            options.course = course(&options);
        }
        options.draw_waits(&mut Stream::new(seed, "wait", 0), &mut Stream::new(seed, "audit", 0), has_waits);
        options
    }

    const fn of_messages(&self) -> Course {
        Course { steps: 6, asleep: Micros::from_secs(2), deaths: 0, workflows: self.items }
    }

    fn draw_waits(&mut self, stream: &mut Stream, audit: &mut Stream, has_waits: bool) {
        let millis = |stream: &mut Stream, low, high| stream.span(Micros::from_millis(low), Micros::from_millis(high));
        if has_waits {
            self.waits = Some(WaitOptions {
                emitters: stream.between(1, 3),
                expire_interval: millis(stream, 15, 300),
                expire_limit: *stream.choose(&[1, 2, 3, 100]),
                audit_keep: millis(audit, 100, 2000),
                audit_rotation_period: millis(audit, 150, 1500),
            });
        }
        self.observers = self.shape.observers.max(u64::from(has_waits || self.has_joins()));
        let is_busy = self.shape.observers > 1;
        self.observe_interval = if is_busy { millis(stream, 50, 300) } else { millis(stream, 500, 2_500) };
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
    /// behind all the others, a tick, a poll, a claim that lingers, and as many pages of timers and deadlines as there may be;
    /// for its sleep; and for what kills its process to do so, twice with its window and then alone. All of it twice, since
    /// what is dead may be replayed.
    pub fn liveness_bound(&self) -> Micros {
        let course = self.course;
        let pages = course.workflows / u64::from(self.drain_limit) + 3;
        let expiry = self
            .waits
            .as_ref()
            .map_or(0, |waits| (course.workflows / u64::from(waits.expire_limit) + 3) * waits.expire_interval.0);
        let step = self.tick_interval.0
            + 2 * self.poll_interval.0
            + course.workflows * self.work_duration.0
            + pages * self.drain_interval.0
            + expiry
            + 300_000;
        let death = 2 * self.dead_interval.0 + 2 * self.poll_interval.0 + self.tick_interval.0 + 500_000;
        let deaths = course.deaths * (2 + u64::from(self.max_tries)) * death;
        Micros(10_000_000 + 10 * self.dead_interval.0 + 2 * (course.steps * step + course.asleep.0 + deaths))
    }

    /// Whether workflows have children.
    pub const fn has_joins(&self) -> bool {
        self.course.workflows > self.items
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
        let crowd = self.is_crowd.then(|| ("crowd", "at once".to_owned()));
        let waits = self.waits.iter().flat_map(|waits| {
            [
                ("emitters", waits.emitters.to_string()),
                ("expire_interval", waits.expire_interval.to_string()),
                ("expire_limit", waits.expire_limit.to_string()),
                ("audit_keep", waits.audit_keep.to_string()),
                ("audit_rotation_period", waits.audit_rotation_period.to_string()),
            ]
        });
        let observed =
            [("observers", self.observers.to_string()), ("observe_interval", self.observe_interval.to_string())];
        let observed = observed.into_iter().filter(|_| self.observers > 0);
        named
            .into_iter()
            .chain(resurrection)
            .chain(crowd)
            .chain(waits)
            .chain(observed)
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}
