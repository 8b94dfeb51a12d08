use std::time::Instant;
use tourbillon::{faults::FaultKind, generate::Limits, simulate::*};
use tourbillon_engine::guard::*;
use tourbillon_models::property::{sweep::Sweep, *};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let n: u64 = args[1].parse().unwrap();
    let only: Option<u64> = args.get(2).and_then(|a| a.parse().ok());
    let without: Vec<Guard> = args.get(2).and_then(|a| Guard::by_name(a)).into_iter().collect();
    let limits = Limits { faults: FaultKind::ALL.to_vec() };
    let works: Vec<Work> = ["chain", "agent-loop", "messages"].iter().map(|w| Work::named(w).unwrap()).collect();
    let mut sim = Simulator::default();
    let mut sweep = Sweep::new();
    let t = Instant::now();
    let (mut calls, mut records, mut shown) = (0, 0, 0);
    for seed in 0..n {
        if only.is_some_and(|o| o != seed) {
            continue;
        }
        let work = &works[(seed % 3) as usize];
        let plan = work.plan(seed, &limits);
        let (s, verdict) = sim.run(&plan, work, Guards::without(&without));
        calls += s.calls;
        records += sim.history().records.len();
        sweep.add(seed, &verdict);
        if only.is_some() {
            for l in sim.history().lines() {
                println!("{l}");
            }
        }
        for f in verdict.findings() {
            if f.violation_count > 0
                || (only.is_none() && f.judgement == tourbillon_models::verdict::Judgement::Unknown)
            {
                shown += 1;
                if shown < 12 {
                    println!(
                        "seed {seed} {} {:?} {:?}",
                        f.property,
                        f.judgement,
                        f.violations.first().map(|v| v.sentence.clone())
                    );
                }
            }
        }
        if !verdict.ill_formed().is_empty() {
            shown += 1;
            if shown < 12 {
                println!("seed {seed} ill {:?}", verdict.ill_formed().first());
            }
        }
        if !without.is_empty() && shown > 0 {
            println!("caught at seed {seed}");
            break;
        }
    }
    let d = t.elapsed().as_secs_f64();
    for p in Property::ALL {
        if sweep.broken(p) > 0 {
            print!("{p} x{}; ", sweep.broken(p));
        }
    }
    if without.is_empty() {
        for r in sweep.never_reached() {
            print!("never {}; ", r.name());
        }
        for p in sweep.never_exercised() {
            print!("unexercised {p}; ");
        }
    }
    println!(
        "\n{n} runs {d:.2}s {:.0} runs/s calls {calls} {:.0} ns/call records {records}",
        n as f64 / d,
        d * 1e9 / calls as f64
    );
}
