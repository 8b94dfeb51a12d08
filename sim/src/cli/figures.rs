//! How figures read.

use std::time::Duration;

/// 1234567 as 1,234,567.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let (head, tail) = digits.split_at(first);
    let groups = tail.as_bytes().chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let head = (!head.is_empty()).then(|| head.to_owned());
    head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}

/// `1 run`, `2 runs`.
pub fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// Virtual time, which can be long.
pub fn long(microseconds: u64) -> String {
    let seconds = microseconds / 1_000_000;
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, _) if microseconds < 59_950_000 => format!("{:.1} s", microseconds as f64 / 1e6),
        (0, 0, 0, _) => "1 min 0 s".to_owned(),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{} {hours} h", counted(days, "day")),
    }
}

/// Wall time.
pub fn wall(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 119.95 => format!("{seconds:.1} s"),
        seconds => format!("{} min {} s", seconds.round() as u64 / 60, seconds.round() as u64 % 60),
    }
}

/// How many in a second; a time of zero counts as one microsecond.
pub fn rate(number: f64, time: Duration) -> f64 {
    number / time.as_secs_f64().max(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([1, 2].map(|number| counted(number, "run")), ["1 run", "2 runs"]);
        let times = [1_500_000, 61_000_000, 7_260_000_000, 90_000_000_000, 200_000_000_000];
        assert_eq!(times.map(long), ["1.5 s", "1 min 1 s", "2 h 1 min", "1 day 1 h", "2 days 7 h"]);
        assert_eq!(wall(Duration::from_millis(121_400)), "2 min 1 s");
    }

    #[test]
    fn no_minute_has_sixty_seconds() {
        assert_eq!([59_940_000, 59_960_000, 119_990_000].map(long), ["59.9 s", "1 min 0 s", "1 min 59 s"]);
        let times = [119_940, 119_960, 179_400, 179_600, 3_599_500].map(Duration::from_millis);
        assert_eq!(times.map(wall), ["119.9 s", "2 min 0 s", "2 min 59 s", "3 min 0 s", "60 min 0 s"]);
    }
}
