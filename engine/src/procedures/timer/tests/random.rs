//! Random schedules: every committed timer comes to one end.

use super::*;

/// Random numbers that are always the same.
struct Bits(u64);

impl Bits {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What a random schedule knows of its timers.
#[derive(Default)]
struct Known {
    due: BTreeMap<u32, Micros>,
    pending: BTreeMap<Slot, Vec<u32>>,
    committed: Vec<u32>,
    cancelled: Vec<u32>,
    fired: Vec<u32>,
    dead: Vec<u32>,
}

impl Known {
    fn note_fired(&mut self, stage: &Stage, reply: PlainReply) {
        if let Reply::Drained { fired, dead, .. } = reply {
            for id in fired.iter().chain(&dead) {
                assert!(self.due[id] <= stage.now, "e{id} is early");
            }
            self.fired.extend(fired);
            self.dead.extend(dead);
        }
    }

    /// Whether each timer fired once, or became a dead letter, or was cancelled, or was never committed.
    fn is_sound(&self) -> bool {
        let mut ends: Vec<u32> = self.fired.iter().chain(&self.dead).chain(&self.cancelled).copied().collect();
        ends.sort_unstable();
        let mut committed = self.committed.clone();
        committed.sort_unstable();
        ends == committed
    }
}

/// Sessions 0 and 1 schedule in transactions of any length, the last one does all else; the clock goes on, or back.
fn random_schedule(seed: u64, removed: &[Guard]) -> bool {
    let (mut stage, mut bits, mut known) = (Stage::new(removed), Bits(seed), Known::default());
    let (clients, duty) = ([stage.session(), stage.session()], stage.session());
    for _ in 0..150 {
        let client = clients[bits.below(2) as usize];
        match bits.below(16) {
            0..5 => {
                if !stage.engine.is_in_transaction(client) {
                    stage.call(client, BEGIN);
                }
                let (delay, payload) = (bits.below(6), if bits.below(12) == 0 { FORBIDDEN_STATE } else { 1 });
                let id = stage.schedule_state(client, delay, payload);
                known.due.insert(id, stage.now + Micros::from_secs(delay));
                known.pending.entry(client).or_default().push(id);
            }
            5 | 6 if stage.engine.is_in_transaction(client) => {
                let ids = known.pending.remove(&client).unwrap_or_default();
                if bits.below(5) == 0 {
                    stage.call(client, Op::Rollback);
                } else {
                    stage.call(client, Op::Commit);
                    known.committed.extend(ids);
                }
            }
            7 | 8 => stage.pass(bits.below(3)),
            9 => stage.now = stage.now - Micros::from_secs(bits.below(2)),
            10 | 11 => drop(stage.call(duty, TICK)),
            12 | 13 => {
                let reply = stage.call(duty, drain(1 + bits.below(3) as u32));
                known.note_fired(&stage, reply);
            }
            14 => match stage.try_call(duty, rotate()) {
                Some(_) => {}
                // A client has the table: it may not wait for ever.
                None => {
                    stage.engine.time_out(duty);
                    stage.resume(duty);
                }
            },
            15 if !known.committed.is_empty() => {
                let id = known.committed[bits.below(known.committed.len() as u64) as usize];
                if stage.call(duty, cancel(id, known.due[&id])) == Reply::Cancelled {
                    known.cancelled.push(id);
                }
            }
            _ => {}
        }
    }
    for client in clients {
        if stage.engine.is_in_transaction(client) {
            stage.call(client, Op::Commit);
            known.committed.extend(known.pending.remove(&client).unwrap_or_default());
        }
    }
    for _ in 0..20 {
        stage.pass(1);
        stage.call(duty, TICK);
        let reply = stage.call(duty, drain(100));
        known.note_fired(&stage, reply);
    }
    let mut events: Vec<u32> = stage.state().events.iter().map(|row| row.event.id.0).collect();
    events.sort_unstable();
    known.fired.sort_unstable();
    known.is_sound() && stage.engine.is_drained() && events == known.fired
}

#[test]
fn every_committed_timer_comes_to_one_end() {
    for seed in 0..400 {
        assert!(random_schedule(seed, &[]), "seed {seed}");
    }
}

#[test]
fn without_a_guard_some_timer_does_not() {
    for guard in
        [Guard::DrainPosition, Guard::DrainLatePath, Guard::TimerMoveWhole, Guard::IdleTimer, Guard::DrainPoison]
    {
        let seed = (0..400).find(|seed| !random_schedule(*seed, &[guard]));
        assert!(seed.is_some(), "{} is not missed", guard.name());
    }
}
