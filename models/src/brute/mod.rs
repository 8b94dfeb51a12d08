//! The properties once more, as plainly as they can be said: the checker is checked against this.
//!
//! A history is first told as its [acts](self::act) (each call with its answer, and with what became of its transaction),
//! then as [facts](self::facts) (ids that were [minted](self::mint), what appeared in the log, what ended, ticks, claims,
//! deliveries). A property is then a sentence over these lists, word for word as it is defined, quadratic or worse: the
//! [log](self::log), [windows](self::window), [leases](self::lease), [dead letters](self::dead_letter),
//! [workflows](self::workflow), [timers](self::timer), [mailboxes](self::mailbox), [joins](self::join) and
//! [fates](self::fate). It shares the vocabulary with [`property`](crate::property), and no logic.
//!
//! What this is not: fast, or told in good sentences; nor a second opinion about calls that overlap (acts are taken in the
//! order in which their answers are recorded), or about replies that were lost. Where the answer
//! to something that committed is missing, or nobody knows whether it committed, a contradiction between other replies is
//! still one, and everything else is *unknown*; the same holds where a crash took back acknowledged commits. What the one
//! pass of the checker makes of such gaps (it looks for who shows what was lost) is tried by hiding answers from it that are
//! known: it must not then say that what is violated holds.
//!
//! Not defined here, and why: Q10 asks which transactions were *provably* open at a time, Q13, Q15 and L5 when a table was
//! needed, L1 to L4, L6 and L7 what counts as progress, W6 what excuses a repetition, and O1 what was certain at a time:
//! their definitions are procedures over the run, so that saying them again would be writing them again. W7 and W10 are
//! half here, by the parts of them that T5, Q11 and Q12 share; T4 is a bound like the L's.

pub(crate) mod act;
mod court;
mod dead_letter;
pub(crate) mod facts;
mod fate;
mod join;
mod lease;
mod log;
mod mailbox;
pub(crate) mod mint;
mod timer;
mod window;
mod workflow;

pub use court::Opinion;

use crate::history::History;
use crate::property::Property;
use crate::workload::{Program, Workload};
use court::Court;
use facts::Facts;

/// The properties that are defined here.
pub const COVERED: [Property; 41] = [
    Property::D1,
    Property::D2,
    Property::D3,
    Property::D4,
    Property::D5,
    Property::Q1,
    Property::Q2,
    Property::Q3,
    Property::Q4,
    Property::Q5,
    Property::Q6,
    Property::Q7,
    Property::Q8,
    Property::Q9,
    Property::Q11,
    Property::Q12,
    Property::Q14,
    Property::W1,
    Property::W2,
    Property::W3,
    Property::W4,
    Property::W5,
    Property::W8,
    Property::W9,
    Property::T1,
    Property::T2,
    Property::T3,
    Property::T5,
    Property::A1,
    Property::A2,
    Property::A3,
    Property::A4,
    Property::A5,
    Property::A6,
    Property::A7,
    Property::J1,
    Property::J2,
    Property::J3,
    Property::J4,
    Property::J5,
    Property::J6,
];

/// Judges a history by the definitions. Cost: grows with the third power of its length; made for some hundred records.
pub fn judge(history: &History) -> Opinion {
    let program = Workload::by_name(&history.header.workload).and_then(|workload| workload.program());
    judge_program(history, program.map(|program| program as &dyn Program))
}

/// Judges a history of a program of the caller's own.
pub fn judge_program(history: &History, program: Option<&dyn Program>) -> Opinion {
    let facts = Facts::of(history);
    let mut court = Court::default();
    fate::judge(&facts.account, &mut court);
    log::judge(&facts, &mut court);
    window::judge(&facts, &mut court);
    lease::judge(&facts, &mut court);
    dead_letter::judge(&facts, &mut court);
    workflow::judge(&facts, program, &mut court);
    timer::judge(&facts, &mut court);
    mailbox::judge(&facts, &mut court);
    join::judge(&facts, &mut court);
    court.close(&facts.account, &COVERED)
}
