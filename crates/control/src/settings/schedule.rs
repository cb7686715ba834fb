//! When updates are checked for: base images and distributions move while no commit does.

use std::collections::BTreeMap;
use std::time::Duration;

use edgewright_model::names::SourceName;
use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

/// How often updates are checked for by default.
pub const DEFAULT_EVERY: Duration = Duration::from_hours(24);

/// When updates are checked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Never by itself.
    Off,
    /// This long after the last check.
    Every(Duration),
    /// Once a day, at this time of this zone.
    Daily {
        /// The time of day.
        at: Time,
        /// Where it is that time.
        zone: TimeZone,
    },
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Every(DEFAULT_EVERY)
    }
}

impl Schedule {
    /// When the next check after one is due; none for never.
    pub fn after(&self, last: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Off => None,
            Self::Every(pause) => last.checked_add(*pause).ok(),
            Self::Daily { at, zone } => {
                let today = last.to_zoned(zone.clone()).date();
                // A time that the clocks skip on a day is taken as the time after the gap.
                let due = |day: jiff::civil::Date| {
                    day.to_datetime(*at).to_zoned(zone.clone()).ok().map(|time| time.timestamp())
                };
                due(today).filter(|due| *due > last).or_else(|| due(today.tomorrow().ok()?))
            }
        }
    }
}

/// The schedules of all sources.
#[derive(Debug, Clone, Default)]
pub struct Watching {
    /// Of sources that have none of their own.
    pub default: Schedule,
    /// Of single sources.
    pub sources: BTreeMap<SourceName, Schedule>,
}

impl Watching {
    /// The schedule of a source.
    pub fn of(&self, source: &SourceName) -> &Schedule {
        self.sources.get(source).unwrap_or(&self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_due_by_interval_or_once_a_day() {
        let hours = |count| Schedule::Every(Duration::from_hours(count));
        let at = |hour, zone: &str| Schedule::Daily {
            at: jiff::civil::time(hour, 30, 0, 0),
            zone: TimeZone::get(zone).unwrap(),
        };
        let cases = [
            (Schedule::Off, "2026-03-28T10:00:00Z", None),
            (hours(24), "2026-03-28T10:00:00Z", Some("2026-03-29T10:00:00Z")),
            (at(2, "UTC"), "2026-03-28T01:00:00Z", Some("2026-03-28T02:30:00Z")),
            (at(2, "UTC"), "2026-03-28T02:30:00Z", Some("2026-03-29T02:30:00Z")),
            // The clocks skip this time on that day.
            (at(2, "Europe/Berlin"), "2026-03-28T10:00:00Z", Some("2026-03-29T01:30:00Z")),
            (at(2, "Europe/Berlin"), "2026-03-29T10:00:00Z", Some("2026-03-30T00:30:00Z")),
        ];
        for (schedule, last, expected) in cases {
            let due = schedule.after(last.parse().unwrap()).map(|due| due.to_string());
            assert_eq!(due.as_deref(), expected, "{schedule:?} after {last}");
        }
    }
}
