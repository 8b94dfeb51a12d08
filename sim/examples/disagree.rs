use std::collections::BTreeMap;
use tourbillon::fuzz::{Bytes, checker::{disagreement, small}, edit::Draft};
use tourbillon::generate::Limits;
use tourbillon::faults::FaultKind;
use tourbillon_engine::guard::Guards;
use tourbillon_models::workload::Workload;
fn main() {
    let n: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let edits: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let faults: Vec<FaultKind> = FaultKind::ALL.into_iter().filter(|k| !matches!(k, FaultKind::LostReply | FaultKind::ServerCrash | FaultKind::AsyncCommitLoss)).collect();
    let mut x = 0x9e3779b97f4a7c15u64;
    let mut next = move || { x ^= x << 13; x ^= x >> 7; x ^= x << 17; x };
    let (mut judged, mut wrong, mut broken, mut ill, mut changed) = (0, 0, 0, 0, 0);
    let mut kinds: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for seed in 0..n {
        let workload = Workload::ALL[(seed % 23) as usize];
        let Some(history) = small(seed, workload, &Limits { faults: faults.clone() }, Guards::ALL) else { continue };
        for _ in 0..12 {
            let bytes: Vec<u8> = (0..edits * 16).map(|_| (next() >> 24) as u8).collect();
            let mut draft = Draft::of(&history);
            let mut b = Bytes::new(&bytes);
            for _ in 0..edits { draft.edit(&mut b); }
            let edited = draft.history();
            judged += 1;
            let verdict = tourbillon_models::property::Checker::new().check(&edited);
            if verdict.broken().next().is_some() { broken += 1; }
            if !verdict.ill_formed().is_empty() { ill += 1; }
            if edited != history { changed += 1; }
            let told = std::panic::catch_unwind(|| disagreement(&edited)).unwrap_or(Some("PANIC".into()));
            if let Some(told) = told {
                wrong += 1;
                let mut key = told.lines().next().unwrap().to_string();
                let rest: String = told.lines().skip(1).collect::<Vec<_>>().join(" || ");
                // first property
                let p: Vec<&str> = rest.split('"').filter(|s| s.len() > 3).map(|s| s.split([':', ' ']).next().unwrap()).filter(|s| s.len() == 2 || s.len()==3).collect();
                key += &format!(" {:?}", p.first());
                let e = kinds.entry(key).or_default();
                e.0 += 1;
                if e.0 <= 2 {
                    let f = format!("/tmp/trust/d-{seed}-{judged}.jsonl");
                    std::fs::write(&f, edited.lines().collect::<Vec<_>>().join("\n")).unwrap();
                    std::fs::write(format!("/tmp/trust/o-{seed}-{judged}.jsonl"), history.lines().collect::<Vec<_>>().join("\n")).unwrap();
                    e.1 += &format!("\n   {f} {}", &rest.chars().take(500).collect::<String>());
                }
            }
        }
    }
    println!("{judged} judged, {changed} changed, {broken} broken, {ill} ill, {wrong} differ");
    for (k, (c, f)) in kinds { println!("{c} {k}{f}"); }
}
