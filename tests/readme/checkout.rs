use tourbillon::{Arrival, Child, Expected, Micros, Name, Next, Program, Step, StepInput, StepOutcome, check};

pub struct Checkout;

impl Program for Checkout {
    fn name(&self) -> &str { "checkout" }
    fn summary(&self) -> &str { "wait for the money, send what was ordered in two parcels, close when both are there" }
    fn steps(&self) -> &[&str] { &["order", "paid", "parcel", "close"] }
    fn names(&self) -> &[&str] { &["payment"] }
    fn emits(&self, _order: u32, _size: u64) -> Vec<Expected> {
        vec![Expected { name: Name(0), payload: 100, token: None }]
    }
    fn start(&self, order: u32, _size: u64) -> (Step, u64) { (Step(0), order.into()) }
    fn decide(&self, StepInput { step: Step(step), state, arrival, .. }: StepInput) -> StepOutcome {
        let seconds = Micros::from_secs;
        let parcel = |content| Child { step: Step(2), state: state << 1 | content };
        let next = match (step, arrival) {
            (0, _) => Next::Await { name: Name(0), step: Step(1), state, deadline: Some(seconds(2)), token: None },
            (1, Arrival::TimedOut) => Next::Sleep { step: Step(0), state, delay: seconds(1) },
            (1, _) => Next::Spawn { step: Step(3), state, children: vec![parcel(0), parcel(1)] },
            _ => Next::Complete { result: state },
        };
        StepOutcome { effect: step > 0, next }
    }
}

#[test]
fn checkout_survives_every_crash() {
    check(Checkout).seeds(500).run();
}
