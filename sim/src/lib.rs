//! How we shake it: seeds become plans, plans become histories, and histories are checked.
//!
//! seed → [`plan`] → [`run`] on a [`target`] → history → check → verdict → [`capsule`]. [`simulate`] is that pipeline for
//! one seed, [`sweep`] for many, [`replay`] for one on a real server, [`hunt`] for an engine with a guard removed.
//! This is the only crate with IO. The front door, for a workflow of one's own, is [`check()`]:
//!
//! ```
//! use tourbillon::{Next, Program, Step, StepInput, StepOutcome, check};
//!
//! struct Checkout;
//!
//! impl Program for Checkout {
//!     fn name(&self) -> &str { "checkout" }
//!     fn summary(&self) -> &str { "reserve, charge, ship: each writes a row and enqueues the next" }
//!     fn steps(&self) -> &[&str] { &["reserve", "charge", "ship"] }
//!     fn start(&self, order: u32, _size: u64) -> (Step, u64) { (Step(0), order.into()) }
//!     fn decide(&self, StepInput { step, state, .. }: StepInput) -> StepOutcome {
//!         let next = match step.0 {
//!             0 | 1 => Next::Goto { step: Step(step.0 + 1), state },
//!             _ => Next::Complete { result: 0 },
//!         };
//!         StepOutcome { effect: true, next }
//!     }
//! }
//!
//! check(Checkout).seeds(100).run();
//! ```

pub mod activation;
pub mod agenda;
pub mod bench;
pub mod capsule;
pub mod chaos;
pub mod check;
pub mod cli;
pub mod clock;
pub mod difference;
pub mod explore;
pub mod faults;
pub mod fuzz;
pub mod generate;
pub mod hunt;
pub mod lockstep;
pub mod net;
pub mod order;
pub mod parity;
pub mod plan;
pub mod postgres;
pub mod random;
pub mod replay;
pub mod run;
pub mod shrink;
pub mod simulate;
#[cfg(feature = "proptest")]
pub mod strategy;
pub mod sweep;
pub mod target;

pub use check::check;
pub use tourbillon_engine::guard::Guard;
pub use tourbillon_models::name::{Micros, Name, Step, WaitToken};
pub use tourbillon_models::reply::{Arrival, ChildOutcome, ChildResult};
pub use tourbillon_models::workload::{Child, Expected, Next, Program, StepInput, StepOutcome};
