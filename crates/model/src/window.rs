//! Maintenance windows: days of the week and times, in a time zone. Pure.

use std::time::Duration;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};
use serde::{Deserialize, Serialize};

/// Days that are searched for the next window: every weekday comes within eight, and a time zone may skip
/// one.
const MAX_DAYS: i64 = 10;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    #[serde(alias = "mon")]
    Monday,
    /// Tuesday.
    #[serde(alias = "tue")]
    Tuesday,
    /// Wednesday.
    #[serde(alias = "wed")]
    Wednesday,
    /// Thursday.
    #[serde(alias = "thu")]
    Thursday,
    /// Friday.
    #[serde(alias = "fri")]
    Friday,
    /// Saturday.
    #[serde(alias = "sat")]
    Saturday,
    /// Sunday.
    #[serde(alias = "sun")]
    Sunday,
}

impl Day {
    const fn weekday(self) -> Weekday {
        match self {
            Self::Monday => Weekday::Monday,
            Self::Tuesday => Weekday::Tuesday,
            Self::Wednesday => Weekday::Wednesday,
            Self::Thursday => Weekday::Thursday,
            Self::Friday => Weekday::Friday,
            Self::Saturday => Weekday::Saturday,
            Self::Sunday => Weekday::Sunday,
        }
    }
}

/// One maintenance window: some days of the week, from one time to another. If it ends before it begins, it
/// ends on the next day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The days on which it begins; empty: every day.
    #[serde(default)]
    pub days: Vec<Day>,
    /// Its first moment.
    pub from: Time,
    /// The moment after its last.
    pub to: Time,
}

impl Window {
    fn begins_on(&self, day: Weekday) -> bool {
        self.days.is_empty() || self.days.iter().any(|own| own.weekday() == day)
    }
}

/// Maintenance windows.
#[derive(Debug, Clone)]
pub struct Windows {
    /// The zone of their times.
    pub zone: TimeZone,
    /// All of them.
    pub windows: Vec<Window>,
}

impl Windows {
    /// No window: none is ever open.
    pub const fn none() -> Self {
        Self { zone: TimeZone::UTC, windows: Vec::new() }
    }

    /// Whether a window is open.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.openings(now).any(|(from, to)| (from..to).contains(&now))
    }

    /// Whether two moments are in the same opening.
    pub fn holds(&self, one: Timestamp, other: Timestamp) -> bool {
        self.openings(other).any(|(from, to)| (from..to).contains(&one) && (from..to).contains(&other))
    }

    /// When the next window opens, delayed by at most half of its length; none without windows.
    pub fn next(&self, now: Timestamp, delay: Duration) -> Option<Timestamp> {
        let (from, to) = self.openings(now).filter(|(from, _)| *from > now).min()?;
        let half = from.duration_until(to).as_secs() / 2;
        let delay = i64::try_from(delay.as_secs()).unwrap_or(i64::MAX).min(half.max(0));
        from.checked_add(SignedDuration::from_secs(delay)).ok()
    }

    /// The openings around a moment, from the day before it.
    fn openings(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        let today = Zoned::new(now, self.zone.clone()).date();
        let days = (-1..MAX_DAYS).filter_map(move |offset| today.checked_add(offset.days()).ok());
        days.flat_map(move |day| {
            let on_day = self.windows.iter().filter(move |window| window.begins_on(day.weekday()));
            on_day.filter_map(move |window| {
                let last = if window.to <= window.from { day.tomorrow().ok()? } else { day };
                let from = day.to_datetime(window.from).to_zoned(self.zone.clone()).ok()?;
                let to = last.to_datetime(window.to).to_zoned(self.zone.clone()).ok()?;
                Some((from.timestamp(), to.timestamp()))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(zone: TimeZone, days: &[Day], from: &str, to: &str) -> Windows {
        let window = Window { days: days.to_vec(), from: from.parse().unwrap(), to: to.parse().unwrap() };
        Windows { zone, windows: vec![window] }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_open_from_its_first_moment_to_before_its_last() {
        let sunday = windows(TimeZone::UTC, &[Day::Sunday], "02:00", "04:00");
        // 2026-11-29 is a Sunday.
        for (now, open) in [
            ("2026-11-29T01:59:59Z", false),
            ("2026-11-29T02:00:00Z", true),
            ("2026-11-29T03:59:59Z", true),
            ("2026-11-29T04:00:00Z", false),
            ("2026-11-28T03:00:00Z", false),
        ] {
            assert_eq!(sunday.is_open(at(now)), open, "{now}");
        }
        let next = |now, delay| sunday.next(at(now), Duration::from_secs(delay)).unwrap().to_string();
        assert_eq!(next("2026-11-28T00:00:00Z", 0), "2026-11-29T02:00:00Z");
        assert_eq!(next("2026-11-29T02:00:00Z", 0), "2026-12-06T02:00:00Z");
        assert_eq!(next("2026-11-28T00:00:00Z", 600), "2026-11-29T02:10:00Z");
        assert_eq!(next("2026-11-28T00:00:00Z", 99_999), "2026-11-29T03:00:00Z");
        assert_eq!(Windows::none().next(at("2026-11-28T00:00:00Z"), Duration::ZERO), None);
    }

    #[test]
    fn a_window_may_cross_midnight_and_a_change_of_the_clock() {
        let night = windows(TimeZone::UTC, &[Day::Saturday], "23:00", "01:00");
        assert!(night.is_open(at("2026-11-29T00:30:00Z")));
        assert!(!night.is_open(at("2026-11-29T23:30:00Z")));
        let all_day = windows(TimeZone::UTC, &[Day::Saturday], "00:00", "00:00");
        assert!(all_day.is_open(at("2026-11-28T23:59:59Z")) && !all_day.is_open(at("2026-11-29T00:00:00Z")));
        let Ok(berlin) = TimeZone::get("Europe/Berlin") else { return };
        // The clock moves from 02:00 to 03:00 on 2026-03-29: the window is an hour shorter.
        let spring = windows(berlin, &[Day::Sunday], "01:30", "03:30");
        assert!(spring.is_open(at("2026-03-29T00:30:00Z")) && spring.is_open(at("2026-03-29T01:29:00Z")));
        assert!(!spring.is_open(at("2026-03-29T01:30:00Z")));
        assert!(spring.holds(at("2026-03-29T00:31:00Z"), at("2026-03-29T01:29:00Z")));
    }
}
