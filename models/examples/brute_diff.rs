use std::collections::BTreeMap;
use tourbillon_models::brute::{COVERED, judge};
use tourbillon_models::history::History;
use tourbillon_models::property::Checker;
use tourbillon_models::verdict::Judgement;
fn main() {
    let mut counts: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let (mut judged, mut known, mut broken) = (0u64, 0u64, 0u64);
    let begun = std::time::Instant::now();
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap();
    let only = args.next();
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let history = History::read(&std::fs::read_to_string(&path).unwrap()).unwrap();
        judged += 1;
        let verdict = Checker::new().check(&history);
        let opinion = judge(&history);
        for property in COVERED {
            let (checker, brute) = (verdict.of(property).judgement, opinion.of(property).unwrap());
            known += u64::from(brute == Judgement::Holds);
            broken += u64::from(brute == Judgement::Violated);
            if brute != Judgement::Unknown && brute != checker {
                let says = verdict.of(property).violations.first().map(|it| it.sentence.clone()).unwrap_or_default();
                let key = format!("{property} checker {checker:?} brute {brute:?}");
                if only.as_ref().is_some_and(|only| !key.contains(only)) { continue; }
                let entry = counts.entry(key).or_default();
                entry.0 += 1;
                if entry.0 <= 3 {
                    entry.1.push_str(&format!("\n    {} [{says}] [{:?}]", path.file_name().unwrap().display(), opinion.evidence(property).take(2).collect::<Vec<_>>()));
                }
            }
        }
    }
    println!("{judged} judged, {known} hold, {broken} broken, {:?}", begun.elapsed());
    for (key, (count, first)) in counts {
        println!("{count} {key} {first}");
    }
}
