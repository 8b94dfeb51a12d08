//! Shrinks a schedule on which store and server differ to one from which nothing can be left out.
//!
//! Any part of a schedule is a schedule, so lines are dropped, in runs first and one by one last, as long as there is
//! still a difference, whichever. Then the remaining lines are simplified.

use super::schedule::{Line, Schedule};

/// The least that is left; `differs` runs a schedule afresh. It costs some hundred runs.
pub fn shrink<E>(schedule: &Schedule, mut differs: impl FnMut(&Schedule) -> Result<bool, E>) -> Result<Schedule, E> {
    let mut lines = schedule.lines.clone();
    let mut run = lines.len().next_power_of_two() / 2;
    while run > 0 {
        let dropped = drop_runs(&mut lines, run, &mut differs)?;
        // What was needed before may have been needed only by what is gone now.
        if !(dropped && run == 1) {
            run /= 2;
        }
    }
    for index in 0..lines.len() {
        for simpler in simpler(lines[index]) {
            let before = std::mem::replace(&mut lines[index], simpler);
            if !differs(&Schedule { lines: lines.clone() })? {
                lines[index] = before;
            }
        }
    }
    Ok(Schedule { lines })
}

fn drop_runs<E>(
    lines: &mut Vec<Line>,
    run: usize,
    differs: &mut impl FnMut(&Schedule) -> Result<bool, E>,
) -> Result<bool, E> {
    let mut dropped = false;
    let mut end = lines.len();
    while end > 0 {
        let start = end.saturating_sub(run);
        let rest: Vec<Line> = lines[..start].iter().chain(&lines[end..]).copied().collect();
        if differs(&Schedule { lines: rest.clone() })? {
            *lines = rest;
            dropped = true;
        }
        end = start;
    }
    Ok(dropped)
}

fn simpler(line: Line) -> impl Iterator<Item = Line> {
    [0, 1].into_iter().filter(move |then| *then < line.then).map(move |then| Line { then, ..line }).take(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_left() {
        let text = "s1: begin\ns2: begin -- then 3\ns1: commit -- then 2\ns2: commit\nxids\ns3: begin\n";
        let schedule = Schedule::parse(text).unwrap();
        let differs = |it: &Schedule| -> Result<bool, ()> {
            let text = it.to_string();
            Ok(text.contains("s2: begin") && text.contains("s2: commit"))
        };
        assert_eq!(shrink(&schedule, differs).unwrap().to_string(), "s2: begin\ns2: commit\n");
    }
}
