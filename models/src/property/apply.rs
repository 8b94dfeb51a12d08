//! What a committed call does, noun by noun; and, without its reply, what it may have done.

use super::Reach;
use super::checker::{Done, Pass};
use super::content::Content;
use super::emit::{Answered, Emission};
use super::handoff::HandedOff;
use super::isolation::HandOut;
use super::timer::Delay;
use crate::op::Op;
use crate::record::Span;
use crate::reply::Reply;

impl Pass<'_> {
    /// A committed call.
    pub(super) fn apply(&mut self, op: &Op<Span>, reply: &Reply<Span, Span, Span>, done: Done) {
        match (op, reply) {
            (
                Op::Claim { worker, .. } | Op::TakeOver { worker, .. },
                Reply::Claimed { token, prev, next, victim, isolated },
            ) => {
                if matches!(op, Op::TakeOver { .. }) {
                    self.found.sees(Reach::TakeoverDuty);
                }
                self.claimed(done, *worker, *token, (*prev, *next), *victim);
                self.given_out(done, *worker, (*prev, *next), *victim, *isolated);
            }
            (
                Op::Handoff { worker, token, decisions },
                Reply::HandedOff { appended, children, resumed, undeliverable, table, .. },
            ) => {
                let told = HandedOff {
                    appended: *appended,
                    children: *children,
                    resumed: *resumed,
                    undeliverable: *undeliverable,
                    table: *table,
                };
                self.handed_off(done, *worker, *token, *decisions, Some(told));
            }
            (Op::Tick { queue }, Reply::Ticked { tick, at, snapshot }) => {
                self.ticked(done, *queue, *tick, *at, snapshot)
            }
            (Op::Heartbeat { worker, token, .. } | Op::Hold { worker, token, .. }, _) => {
                self.alive(done, *worker, *token)
            }
            (Op::Append { queue, payload }, Reply::Appended { event, table }) => {
                self.appended(done, *queue, *payload, *event, *table);
            }
            (Op::Start { queue, key, step, state }, Reply::Started { workflow, event, table }) => {
                self.started(done, (*queue, *key), (*step, *state), (*workflow, *event, *table));
            }
            (Op::Effect { workflow, sequence, step }, _) => {
                self.effect(done, (*workflow, *sequence, *step), false, &[])
            }
            (Op::Rotate { queue, .. }, Reply::Rotated { table, horizon }) => {
                self.rotated(done, *queue, *table, *horizon)
            }
            (Op::CreateQueue { queue, kind }, _) => self.queue(*queue).kind = Some(*kind),
            (Op::Subscribe { queue, consumer }, Reply::Subscribed { cursor }) => {
                self.subscribed(done, *queue, *consumer, Some(*cursor));
            }
            (Op::Register { consumer }, Reply::Registered { worker }) => self.registered(done, *consumer, *worker),
            _ => self.apply_rare(op, reply, done),
        }
    }

    /// The part of [`Pass::apply`] about timers, waits, isolation and dead letters.
    fn apply_rare(&mut self, op: &Op<Span>, reply: &Reply<Span, Span, Span>, done: Done) {
        match (op, reply) {
            (Op::Schedule { queue, payload, delay }, Reply::Scheduled { event, due, .. }) => {
                let delay = Delay { delay: *delay, told: Some(*due) };
                self.scheduled(done, *queue, *event, Content::message(*payload), delay);
            }
            (Op::Cancel { event, .. }, Reply::Cancelled) => self.cancelled(done, *event),
            (Op::Cancel { .. }, Reply::TooLate) => self.found.sees(Reach::TimerCancelTooLate),
            (Op::Drain { queue, .. }, Reply::Drained { tick, fired, dead, resumed, undeliverable, table, is_done }) => {
                self.drained(done, *queue, *tick, (*fired, *dead), (*table, *is_done));
                if undeliverable.len > 0 {
                    self.undeliverable(done, *undeliverable);
                }
                if resumed.len > 0 {
                    self.continued(done, *resumed, *table);
                }
            }
            (Op::Emit { .. }, Reply::Emitted { answer, repeated, event, table }) => {
                let answered = Answered { answer: *answer, repeated: *repeated, event: *event, table: *table };
                Emission::of(op).into_iter().for_each(|it| self.emitted(done, &it, answered));
            }
            (Op::ExpireWaits { .. }, Reply::Expired { resumed, undeliverable, table }) => {
                self.undeliverable(done, *undeliverable);
                self.waits_expired(done, *resumed, *table);
            }
            (Op::RotateTimers { .. }, Reply::TimersRotated { moved, .. }) => {
                self.found.sees(Reach::TimerRotation);
                if *moved > 0 {
                    self.found.sees(Reach::TimerMoved);
                }
            }
            (Op::RotateTimers { .. }, Reply::TimersKept) => self.found.sees(Reach::TimerRotationKept),
            (Op::RotateAudit { .. }, Reply::AuditRotated { .. }) => self.found.sees(Reach::AuditRotated),
            (
                Op::HandOut { worker, token, max_tries },
                Reply::HandedOut { events, tries, dead, resumed, undeliverable, table },
            ) => {
                let out = HandOut { events: *events, tries: *tries, max_tries: *max_tries, dead: *dead };
                self.handed_out(done, *worker, *token, &out);
                if undeliverable.len > 0 {
                    self.undeliverable(done, *undeliverable);
                }
                if resumed.len > 0 {
                    self.continued(done, *resumed, *table);
                }
            }
            (Op::ReplayDeadLetter { consumer, event }, Reply::Replayed { workflow, event: new, table }) => {
                self.replayed(done, (*consumer, *event), (*workflow, *new, *table));
            }
            _ => {}
        }
    }

    /// A committed call (or one whose fate nobody told) without its reply: what it did follows only as far as the
    /// question says.
    pub(super) fn apply_lost(&mut self, op: &Op<Span>, done: Done, is_in_doubt: bool) {
        match op {
            Op::Handoff { worker, token, decisions } if !is_in_doubt => {
                self.handed_off(done, *worker, *token, *decisions, None);
            }
            Op::Handoff { worker, decisions, .. } => self.handoff_in_doubt(done, *worker, *decisions),
            Op::Append { queue, payload } => self.append_lost(done, *queue, *payload),
            Op::Start { queue, key, step, state } => self.start_lost(done, (*queue, *key), (*step, *state)),
            Op::Tick { queue } => self.queue(*queue).lost_ticks += 1,
            Op::Claim { worker, .. } | Op::TakeOver { worker, .. } => self.claim_lost(done, *worker),
            Op::HandOut { worker, token, .. } => {
                if !is_in_doubt {
                    self.alive(done, *worker, *token);
                }
                self.hand_out_lost(*worker, *token);
            }
            Op::Schedule { queue, payload, .. } => self.schedule_lost(done, *queue, *payload),
            Op::Cancel { event, .. } => self.cancel_lost(*event),
            Op::Drain { queue, .. } => self.drain_lost(done, *queue),
            Op::ExpireWaits { queue, .. } => self.expiry_lost(done, *queue),
            Op::Emit { .. } => Emission::of(op).into_iter().for_each(|it| self.emit_lost(done, &it)),
            Op::ReplayDeadLetter { consumer, event } => self.replay_lost(done, *consumer, *event),
            Op::Heartbeat { worker, token, .. } | Op::Hold { worker, token, .. } if !is_in_doubt => {
                self.alive(done, *worker, *token);
            }
            Op::Effect { workflow, sequence, step } if !is_in_doubt => {
                self.effect(done, (*workflow, *sequence, *step), false, &[]);
            }
            Op::CreateQueue { queue, kind } if !is_in_doubt => self.queue(*queue).kind = Some(*kind),
            Op::Subscribe { queue, consumer } => self.subscribed(done, *queue, *consumer, None),
            _ => {}
        }
    }
}
