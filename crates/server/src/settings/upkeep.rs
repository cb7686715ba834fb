//! Settings of what runs by itself: looking at the outside, keeping the data folder small, room for jobs.

use std::path::PathBuf;
use std::time::Duration;

use edgewright_control::Keep;
use edgewright_control::settings::{DEFAULT_EVERY, Schedule};
use edgewright_control::{CommitLocks, LockPolicy};
use edgewright_job::Floor;
use edgewright_model::duration::Span;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::SettingsError;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;
/// Container storage that stays, where the settings say nothing else: a handful of operating systems with what stands on them.
pub const DEFAULT_STORAGE_MIB: u64 = 30 * 1024;
/// Who commits locks, where the settings say nothing else.
const DEFAULT_AUTHOR: &str = "Edgewright <edgewright@localhost>";
/// What a commit of locks is called.
const DEFAULT_MESSAGE: &str = "Update locks";

/// `[watch]`, and `watch = {…}` of a source: when base images and distributions are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchOptions {
    /// This long after the last look; 24 h where neither this nor `at` is given.
    pub every: Option<Span>,
    /// Once a day, at this time of day, such as `02:00`.
    pub at: Option<Time>,
    /// The time zone of `at`, such as `Europe/Berlin`; UTC where absent.
    pub zone: Option<String>,
    /// Never by itself: `edgewright update` only.
    pub off: bool,
}

/// Where locks that moved go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// The server keeps them.
    #[default]
    Overlay,
    /// They are pushed as a commit.
    Commit,
}

/// `locks = {…}` of a source: where locks that moved go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LockOptions {
    /// `overlay` or `commit`; the former where absent.
    pub mode: LockMode,
    /// The branch that is pushed to; the followed one where absent.
    pub branch: Option<String>,
    /// By whom, `NAME <ADDRESS>`.
    pub author: Option<String>,
    /// The message's first line.
    pub message: Option<String>,
    /// The user's name for https; `edgewright` where absent.
    pub user: Option<String>,
    /// File with the password or token for https.
    pub token_file: Option<PathBuf>,
}

impl LockOptions {
    /// The policy.
    pub fn resolve(self) -> Result<LockPolicy, SettingsError> {
        let fault = |why: &'static str| Err(SettingsError::Locks { why });
        if self.mode == LockMode::Overlay {
            let plain = Self { mode: LockMode::Overlay, ..Self::default() };
            return if self == plain {
                Ok(LockPolicy::Overlay)
            } else {
                fault("the rest goes with `mode = \"commit\"`")
            };
        }
        let author = self.author.unwrap_or_else(|| DEFAULT_AUTHOR.to_owned());
        let is_address = author.split_once('<').is_some_and(|(name, address)| {
            !name.trim().is_empty()
                && address.strip_suffix('>').is_some_and(|address| !address.contains(['<', '>']))
        });
        if !is_address || author.contains(char::is_control) {
            return fault("`author` is `NAME <ADDRESS>`");
        }
        let message = self.message.unwrap_or_else(|| DEFAULT_MESSAGE.to_owned());
        if message.trim().is_empty() || message.contains('\0') {
            return fault("`message` is empty");
        }
        let user = self.user.unwrap_or_else(|| "edgewright".to_owned());
        Ok(LockPolicy::Commit(CommitLocks {
            branch: self.branch,
            author,
            message,
            user,
            token_file: self.token_file,
        }))
    }
}

/// `[keep]`: bounds of what the data folder holds besides images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepOptions {
    /// How long job logs are kept; 90 days where absent.
    pub logs: Option<Span>,
    /// How many GiB of them; 2 where absent.
    pub logs_gib: Option<u32>,
    /// How many GiB of caches; 10 where absent.
    pub cache_gib: Option<u32>,
    /// How many GiB of container storage; 30 where absent.
    pub storage_gib: Option<u32>,
    /// How long variants that are no longer declared are shown and kept; 30 days where absent.
    pub retired: Option<Span>,
    /// How long releases are kept that no channel points to; 90 days where absent.
    pub releases: Option<Span>,
    /// How long builds are kept that no release needs; 14 days where absent.
    pub builds: Option<Span>,
    /// How long evidence is kept that newer verdicts took the place of; 30 days where absent.
    pub evidence: Option<Span>,
}

/// `[disk]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskOptions {
    /// What stays free in MiB: no job starts that would take it. 2 GiB, on small disks 5 %, where absent.
    pub floor_mib: Option<u32>,
}

impl WatchOptions {
    /// This layer over a lower one; the more special one counts as a whole.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        if self == Self::default() { lower } else { self }
    }

    /// The schedule.
    pub fn resolve(&self) -> Result<Schedule, SettingsError> {
        let fault = |why: &str| SettingsError::Watch { why: why.to_owned() };
        let zone = match &self.zone {
            None => TimeZone::UTC,
            Some(_) if self.at.is_none() => return Err(fault("`zone` goes with `at`")),
            Some(name) => {
                TimeZone::get(name).map_err(|_| fault(&format!("there is no time zone `{name}`")))?
            }
        };
        match (self.off, self.every, self.at) {
            (true, None, None) => Ok(Schedule::Off),
            (true, _, _) => Err(fault("`off` stands alone")),
            (false, Some(_), Some(_)) => Err(fault("give `every` or `at`, not both")),
            (false, Some(every), None) if every.get() < Duration::from_mins(1) => {
                Err(fault("`every` is a minute at least: mirrors are other people's"))
            }
            (false, Some(every), None) => Ok(Schedule::Every(every.get())),
            (false, None, Some(at)) => Ok(Schedule::Daily { at, zone }),
            (false, None, None) => Ok(Schedule::Every(DEFAULT_EVERY)),
        }
    }
}

impl KeepOptions {
    /// This layer over a lower one.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self {
            logs: self.logs.or(lower.logs),
            logs_gib: self.logs_gib.or(lower.logs_gib),
            cache_gib: self.cache_gib.or(lower.cache_gib),
            storage_gib: self.storage_gib.or(lower.storage_gib),
            retired: self.retired.or(lower.retired),
            releases: self.releases.or(lower.releases),
            builds: self.builds.or(lower.builds),
            evidence: self.evidence.or(lower.evidence),
        }
    }

    /// How much container storage stays, which jobs see to themselves; in MiB.
    pub fn storage_mib(&self) -> u64 {
        self.storage_gib.map_or(DEFAULT_STORAGE_MIB, |gib| u64::from(gib) * 1024)
    }

    /// The bounds.
    pub fn resolve(&self) -> Keep {
        let default = Keep::default();
        let bytes = |gib: Option<u32>, default| gib.map_or(default, |gib| u64::from(gib) * GIB);
        Keep {
            logs_for: self.logs.map_or(default.logs_for, Span::get),
            logs_bytes: bytes(self.logs_gib, default.logs_bytes),
            cache_bytes: bytes(self.cache_gib, default.cache_bytes),
            retired_for: self.retired.map_or(default.retired_for, Span::get),
            releases_for: self.releases.map_or(default.releases_for, Span::get),
            builds_for: self.builds.map_or(default.builds_for, Span::get),
            evidence_for: self.evidence.map_or(default.evidence_for, Span::get),
        }
    }
}

impl DiskOptions {
    /// The floor.
    pub fn resolve(&self) -> Floor {
        self.floor_mib.map_or(Floor::Default, |mib| Floor::Bytes(u64::from(mib) * MIB))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str) -> Result<Schedule, String> {
        let options: WatchOptions = toml::from_str(text).map_err(|error| error.to_string())?;
        options.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn watching_is_by_interval_or_by_time_of_day() {
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
            ("zone = \"UTC\"", "`zone` goes with `at`"),
            ("every = \"1h\"\nat = \"02:00\"", "not both"),
            ("every = \"1s\"", "a minute at least"),
            ("off = true\nevery = \"1h\"", "stands alone"),
        ] {
            let error = schedule(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn locks_are_overlays_or_commits() {
        let policy = |text: &str| {
            let options: LockOptions = toml::from_str(text).map_err(|error| error.to_string())?;
            options.resolve().map_err(|error| error.to_string())
        };
        assert_eq!(policy(""), Ok(LockPolicy::Overlay));
        let Ok(LockPolicy::Commit(plain)) = policy("mode = \"commit\"") else { panic!("commit") };
        assert_eq!((plain.author.as_str(), plain.branch), (DEFAULT_AUTHOR, None));
        for (text, part) in [
            ("branch = \"main\"", "goes with"),
            ("mode = \"push\"", "unknown variant"),
            ("mode = \"commit\"\nauthor = \"me\"", "NAME <ADDRESS>"),
            ("mode = \"commit\"\nmessage = \" \"", "empty"),
        ] {
            let error = policy(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
