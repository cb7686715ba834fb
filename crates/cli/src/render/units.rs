//! Times and sizes for people.

use jiff::Timestamp;

/// How long ago a time was: `now`, `40 s ago`, `5 min ago`, `3 h ago`, `12 d ago`.
pub(crate) fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs();
    match seconds {
        5.. => format!("{} ago", coarse(seconds)),
        ..=-5 => format!("in {}", coarse(-seconds)),
        _ => "now".to_owned(),
    }
}

/// A time to the second, with how long ago it was: `2 min ago (2026-11-22T22:44:06Z)`.
pub(crate) fn moment(at: Timestamp, now: Timestamp) -> String {
    let whole = Timestamp::from_second(at.as_second()).unwrap_or(at);
    format!("{} ({whole})", age(at, now))
}

fn coarse(seconds: i64) -> String {
    match seconds {
        172_800.. => format!("{} d", seconds / 86_400),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

/// A duration: `340 ms`, `12.3 s`, `2 min 05 s`, `1 h 02 min`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{seconds}.{} s", ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// A length: `512 B`, `4.2 kB`, `151.0 MB`, `1.5 GB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.into_iter().find(|(length, _)| bytes >= *length) {
        Some((length, unit)) => format!("{}.{} {unit}", bytes / length, bytes % length * 10 / length),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_the_largest_possible() {
        let now = Timestamp::constant(1_000_000, 0);
        let ages = [
            (0, "now"),
            (40, "40 s ago"),
            (300, "5 min ago"),
            (3 * 3_600, "3 h ago"),
            (12 * 86_400, "12 d ago"),
            (-30, "in 30 s"),
        ];
        for (seconds, text) in ages {
            assert_eq!(age(Timestamp::constant(1_000_000 - seconds, 0), now), text);
        }
        let half = Timestamp::constant(1_000_000, 500_000_000);
        assert_eq!(moment(half, now), "now (1970-01-12T13:46:40Z)");
        let durations =
            [(340, "340 ms"), (12_340, "12.3 s"), (125_000, "2 min 05 s"), (3_725_000, "1 h 02 min")];
        for (ms, text) in durations {
            assert_eq!(duration(ms), text);
        }
        let lengths =
            [(512, "512 B"), (4_250, "4.2 kB"), (151_000_000, "151.0 MB"), (1_500_000_000, "1.5 GB")];
        for (length, text) in lengths {
            assert_eq!(bytes(length), text);
        }
    }
}
