//! Watching the outside: base images and distributions move while no commit does.
//!
//! When a source's locks were looked at last is what its runs say, so there is no state to lose. A look that is due is a
//! run of its own; what it finds becomes an overlay, and its images are built, tested and released as any commit's are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use edgewright_model::error::Chain;
use edgewright_model::format;
use edgewright_model::lock::Lock;
use edgewright_model::names::{CommitId, ImageName, SourceName};
use edgewright_model::run::{RunNumber, RunState, Trigger};
use edgewright_oci::COMPRESSOR_VERSION;
use edgewright_plan::{LockOrigin, Locks};
use edgewright_store::sources::SourceId;
use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use crate::{Control, ControlError};

/// How often the schedules are compared with the clock at least.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);
/// How often the outside is looked at unless told otherwise.
pub const DEFAULT_EVERY: Duration = Duration::from_hours(24);

/// When the outside is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Never by itself.
    Off,
    /// This long after the last look.
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
    /// When the next look after one is due; none for never.
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

impl Control {
    /// Queues a run that resolves the locks of a source anew, of some images only or (none given) of all, and builds,
    /// tests and releases what moved. The commit is the one that the source's default branch was last decided at.
    ///
    /// # Errors
    /// The source is not configured or nothing of it was run yet; the database cannot be written.
    pub async fn update(
        &self,
        source: SourceId,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, ControlError> {
        let watched = self.watched(source).ok_or(ControlError::UnknownSource)?;
        let store = &self.0.store;
        let branch = watched.default_branch(store).await?.ok_or(ControlError::NothingRun)?;
        let commit = store.decided(source).await?.remove(&branch).ok_or(ControlError::NothingRun)?;
        self.queue(&watched, branch, &commit, Trigger::Lock, images).await
    }

    /// As [`Control::update`], of the source of this name.
    ///
    /// # Errors
    /// As there.
    pub async fn update_named(
        &self,
        source: &SourceName,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, ControlError> {
        let watched = self.source_named(source).ok_or(ControlError::UnknownSource)?;
        self.update(watched.id, images).await
    }

    /// Queues a run of a commit for [`Control::look_at_locks`].
    ///
    /// # Errors
    /// The source is not configured, the commit is unknown, or the database cannot be written.
    pub async fn queue_look(
        &self,
        source: SourceId,
        branch: &str,
        commit: &CommitId,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, ControlError> {
        let watched = self.watched(source).ok_or(ControlError::UnknownSource)?;
        watched.mirror.ensure(commit).await?;
        self.queue(&watched, branch.to_owned(), commit, Trigger::Lock, images).await
    }

    /// The locks that a run's commit is built with by now and does not hold itself: the overlays in effect.
    ///
    /// # Errors
    /// There is no such run, its source is not configured, or the database cannot be read.
    pub async fn overlays(&self, number: RunNumber) -> Result<BTreeMap<ImageName, Lock>, ControlError> {
        let run = self.0.store.run(number).await?.ok_or(ControlError::NoRun { run: number })?;
        let driver = self.driver(run, self.0.shutdown.clone())?;
        let tree = driver.watched.mirror.read_tree(&driver.run.commit).await?;
        let Some(definition) = format::parse(&tree).definition else { return Ok(BTreeMap::new()) };
        let locks = Locks::choose(&definition, &driver.overlays().await?, COMPRESSOR_VERSION);
        let overlays =
            locks.images.into_iter().filter(|(_, lock)| matches!(lock.origin, LockOrigin::Overlay(_)));
        Ok(overlays.map(|(image, lock)| (image, lock.lock)).collect())
    }

    /// Resolves the locks of a queued run's images anew, keeps what moved as overlays and ends the run: nothing is built.
    ///
    /// # Errors
    /// There is no such run, its source is not configured, or the database cannot be written.
    pub async fn look_at_locks(&self, number: RunNumber) -> Result<RunState, ControlError> {
        let inner = &*self.0;
        let now = inner.clock.now();
        inner.store.move_run(number, RunState::Queued, RunState::Preparing, now).await?;
        let run = inner.store.run(number).await?.ok_or(ControlError::NoRun { run: number })?;
        let driver = self.driver(run, self.token_of(number))?;
        let looked = driver.look().await;
        if driver.cancel.is_cancelled() {
            driver.cancelled().await?;
        } else if let Err(error) = &looked {
            driver.failed(error).await?;
        }
        self.forget_token(number);
        looked
    }

    /// Queues a look at every source whose schedule says so, until shutdown.
    pub(crate) async fn reconcile_watching(&self) {
        let inner = &*self.0;
        loop {
            for source in self.sources() {
                if let Err(error) = self.look_if_due(source).await {
                    tracing::warn!(source.id = source.0, error = %Chain(&error), "a look at the outside was not queued");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LONGEST_SLEEP) => {}
                () = inner.shutdown.cancelled() => return,
            }
        }
    }

    /// Queues a run that looks at a source's outside inputs, if one is due.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn look_if_due(&self, source: SourceId) -> Result<Option<RunNumber>, ControlError> {
        let inner = &*self.0;
        let Some(watched) = self.watched(source) else { return Ok(None) };
        let Some(branch) = watched.default_branch(&inner.store).await? else { return Ok(None) };
        let Some(last) = inner.store.last_look(source, &branch).await? else { return Ok(None) };
        let due = inner.settings.watching.of(&watched.settings.name).after(last);
        if due.is_none_or(|due| due > inner.clock.now()) {
            return Ok(None);
        }
        let run = self.update(source, &BTreeSet::new()).await?;
        tracing::info!(source.name = %watched.settings.name, run.number = run.0, "a look at the outside is due");
        Ok(Some(run))
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
