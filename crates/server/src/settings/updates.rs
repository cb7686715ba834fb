//! `[updates]`: when newer base images and packages are looked for.

use std::time::Duration;

use edgewright_control::settings::{DEFAULT_EVERY, Schedule};
use edgewright_model::duration::Span;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::SettingsError;
use super::described::{Kind, Layer, described};

/// The shortest interval between update checks: mirrors are shared with other users.
const SHORTEST_INTERVAL: Duration = Duration::from_mins(1);

described! {
    /// `[updates]`, and `updates = {…}` of a source.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
    #[serde(default)]
    pub struct UpdateOptions: "updates" {
        /// Time from one update check to the next.
        pub every: Option<Span> {
            Restart,
            default: "24h, unless `at` is set",
            range: "1m or more; not with `at`",
            example: "\"24h\""
        }
        /// Time of day of a daily update check.
        pub at: Option<Time> { Restart, default: "none", range: "00:00 to 23:59; not with `every`" }
        /// Time zone of `at`.
        pub zone: Option<String> {
            Restart,
            default: "UTC",
            range: "a name of the IANA time zone database; only with `at`",
            example: "\"Europe/Berlin\""
        }
        /// No automatic update checks: locks change by `edgewright update` only.
        pub off: Option<bool> { Restart, default: "false", range: "not with other keys" }
    }
}

impl Kind for UpdateOptions {
    const NAME: &'static str = "table with the keys of `[updates]`";
    const EXAMPLE: &'static str = "{at = \"04:30\"}";
}

/// The keys depend on each other, so the higher layer replaces the lower one as a whole.
impl Layer for UpdateOptions {
    fn over(self, lower: Self) -> Self {
        if self == Self::default() { lower } else { self }
    }
}

impl UpdateOptions {
    /// The schedule.
    pub fn resolve(&self) -> Result<Schedule, SettingsError> {
        let fault = |reason: &str| SettingsError::Updates { reason: reason.to_owned() };
        let zone = match &self.zone {
            None => TimeZone::UTC,
            Some(_) if self.at.is_none() => return Err(fault("`zone` needs `at`")),
            Some(name) => TimeZone::get(name).map_err(|_| fault(&format!("unknown time zone `{name}`")))?,
        };
        match (self.off.unwrap_or_default(), self.every, self.at) {
            (true, None, None) => Ok(Schedule::Off),
            (true, _, _) => Err(fault("`off` excludes `every` and `at`")),
            (false, Some(_), Some(_)) => Err(fault("`every` excludes `at`")),
            (false, Some(every), None) if every.get() < SHORTEST_INTERVAL => {
                Err(fault(&format!("`every` is {every}: the minimum is 1m")))
            }
            (false, Some(every), None) => Ok(Schedule::Every(every.get())),
            (false, None, Some(at)) => Ok(Schedule::Daily { at, zone }),
            (false, None, None) => Ok(Schedule::Every(DEFAULT_EVERY)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_checks_run_at_an_interval_or_at_a_time_of_day() {
        let schedule = |text: &str| {
            let options: UpdateOptions = toml::from_str(text).map_err(|error| error.to_string())?;
            options.resolve().map_err(|error| error.to_string())
        };
        assert_eq!(schedule(""), Ok(Schedule::Every(DEFAULT_EVERY)));
        assert_eq!(schedule("every = \"6h\""), Ok(Schedule::Every(Duration::from_hours(6))));
        assert_eq!(schedule("off = true"), Ok(Schedule::Off));
        let at = jiff::civil::time(2, 0, 0, 0);
        assert_eq!(schedule("at = \"02:00\""), Ok(Schedule::Daily { at, zone: TimeZone::UTC }));
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(schedule("at = \"02:00\"\nzone = \"Europe/Berlin\""), Ok(Schedule::Daily { at, zone }));
        for (text, part) in [
            ("at = \"25:00\"", "25"),
            ("at = \"02:00\"\nzone = \"Mars/Olympus\"", "Mars/Olympus"),
            ("zone = \"UTC\"", "`zone` needs `at`"),
            ("every = \"1h\"\nat = \"02:00\"", "excludes `at`"),
            ("every = \"1s\"", "the minimum is 1m"),
            ("off = true\nevery = \"1h\"", "`off` excludes"),
        ] {
            let error = schedule(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
