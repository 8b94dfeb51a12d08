use tourbillon::{Next, Program, Step, StepInput, StepOutcome, check};

pub struct Checkout;

impl Program for Checkout {
    fn name(&self) -> &str { "checkout" }
    fn summary(&self) -> &str { "reserve, charge, ship: each writes a row and enqueues the next" }
    fn steps(&self) -> &[&str] { &["reserve", "charge", "ship"] }
    fn start(&self, order: u32, _size: u64) -> (Step, u64) { (Step(0), order.into()) }
    fn decide(&self, StepInput { step, state, .. }: StepInput) -> StepOutcome {
        let next = if step.0 < 2 { Next::Goto { step: Step(step.0 + 1), state } } else { Next::Complete };
        StepOutcome { effect: true, next }
    }
}

#[test]
fn checkout_survives_every_crash() {
    check(Checkout).seeds(500).run();
}
