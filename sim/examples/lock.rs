use std::time::Instant;
use tourbillon::{faults::FaultKind, generate::Limits, simulate::*, lockstep::*, postgres::{one_cpu::OneCpu, server::Server}};
use tourbillon_engine::guard::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let from: u64 = args[1].parse().unwrap();
    let to: u64 = args[2].parse().unwrap();
    let without: Vec<Guard> = args.get(3).and_then(|a| Guard::by_name(a)).into_iter().collect();
    let guards = Guards::without(&without);
    let limits = Limits { faults: FaultKind::ALL.to_vec() };
    let works: Vec<Work> = ["chain", "agent-loop", "messages"].iter().map(|w| Work::named(w).unwrap()).collect();
    let _cpu = OneCpu::claim();
    let mut server = Server::embedded().unwrap();
    let t = Instant::now();
    let (mut total, mut bad) = (Counts::default(), 0);
    let mut checker = tourbillon_models::property::Checker::new();
    for seed in from..to {
        let work = &works[(seed % 3) as usize];
        let plan = work.plan(seed, &limits);
        let t1 = Instant::now();
        let mut target = Lockstep::new(&mut server, guards, &work.steps(), tourbillon::target::Chooser::seeded(seed)).unwrap();
        match run_on(&plan, work, header(&plan, work, guards, "lockstep", None), &mut target) {
            Ok((_, history)) => { let v = checker.check_program(&history, work.program.as_deref()); if !without.is_empty() { println!("{seed} {:?}", v.broken().map(|p| p.id()).collect::<Vec<_>>()); } }
            Err(Stop::Divergence(d)) => {
            Err(Stop::Server(e)) => { bad += 1; println!("seed {seed} {} SERVER {e}", work.name); }
        }
        let c = target.counts();
        match target.close() { Ok(_) => {}, Err(e) => { println!("close {e}"); server = Server::embedded().unwrap(); } }
        if std::env::var("V").is_ok() { println!("seed {seed} {c:?} {:.2}s", t1.elapsed().as_secs_f64()); }
        total.statements += c.statements; total.blocked += c.blocked; total.crashes += c.crashes; total.choices += c.choices;
    }
    let d = t.elapsed().as_secs_f64();
    println!("{total:?} bad {bad} {d:.1}s {:.0}/s", total.statements as f64 / d);
}
