//! Updates that are tested before a channel moves: from what it holds to what it would take. The lane
//! `upgrade` of a run starts from what its branch released last. A channel that passes releases over, or whose
//! rollout is under way, takes another step than that: it waits until that step is tested, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::names::{ChannelName, Platform, VariantName};
use edgewright_model::order::TrustDomain;
use edgewright_model::outcome::FailureKind;
use edgewright_model::run::{ReleaseNumber, RunNumber};
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{LaneResult, Verdict};
use edgewright_store::channels::ChannelRow;
use edgewright_store::releases::EntryRow;
use edgewright_store::sources::SourceId;
use jiff::Timestamp;

use super::channels::Channels;
use super::decide::Update;
use crate::ControlError;

/// How long a channel waits after a test that had no result, before the update is tested again.
const PAUSE: Duration = Duration::from_mins(10);

/// An update that is to be tested and has not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Untested {
    pub(crate) variant: VariantName,
    pub(crate) platform: Platform,
    /// The platform manifest that devices would get.
    pub(crate) digest: Digest,
    /// How its test failed; none where it was not tested.
    failed: Option<String>,
}

impl Untested {
    /// How its test failed.
    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }
}

impl std::fmt::Display for Untested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.variant, self.platform)
    }
}

/// What a channel waits for.
#[derive(Debug, Clone)]
pub(crate) struct Awaited {
    /// What the channel holds.
    pub(crate) from: ReleaseNumber,
    /// What it would take.
    pub(crate) release: ReleaseNumber,
    pub(crate) updates: Vec<Untested>,
    pub(crate) state: TestState,
}

/// How far a test is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TestState {
    /// A run is to be queued.
    Wanted,
    /// A run tests it.
    Queued(RunNumber),
    /// Its run ended then.
    Ended(RunNumber, Timestamp),
    /// The update failed.
    Failed(String),
}

impl std::fmt::Display for Awaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, release, updates, state } = self;
        let step = format!("the update from release {from} to {release}");
        match state {
            TestState::Wanted => write!(f, "waits for a run that tests {step}"),
            TestState::Queued(run) => write!(f, "waits for run {run}, which tests {step}"),
            TestState::Ended(run, _) => {
                let first = updates.first().map(ToString::to_string).unwrap_or_default();
                write!(f, "run {run} has no result about {step} of {first}: it is tested again")
            }
            TestState::Failed(why) => write!(f, "{step} failed: {why}"),
        }
    }
}

/// What the channels of all sources wait for. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct AwaitedTests(Arc<Mutex<BTreeMap<(SourceId, ChannelName), Awaited>>>);

impl AwaitedTests {
    /// All that is awaited.
    pub(crate) fn all(&self) -> BTreeMap<(SourceId, ChannelName), Awaited> {
        self.lock().clone()
    }

    /// Notes how far the test is that a channel waits for.
    pub(crate) fn note(&self, key: &(SourceId, ChannelName), state: TestState) {
        if let Some(awaited) = self.lock().get_mut(key) {
            awaited.state = state;
        }
    }

    /// What follows for a channel from what is not tested of a release. The first time, it waits; after a
    /// test without a result it looks at earlier releases for a while.
    fn consider(&self, key: (SourceId, ChannelName), new: Awaited, now: Timestamp) -> Update {
        let mut all = self.lock();
        let known = all.get(&key).filter(|known| known.from == new.from);
        if new.updates.is_empty() {
            return Update::Tested;
        }
        let failed =
            new.updates.iter().find_map(|update| Some(format!("{update}: {}", update.failed.as_ref()?)));
        if let Some(failed) = failed {
            if known.is_none() {
                all.insert(key, Awaited { state: TestState::Failed(failed), ..new });
            }
            return Update::Skipped;
        }
        match known.map(|known| &known.state) {
            Some(TestState::Wanted | TestState::Queued(_)) => return Update::Waits,
            Some(TestState::Ended(_, at)) => {
                // Some of its images were built by another run: they are tested next.
                let has_come_on = known.is_some_and(|known| {
                    known.release == new.release && new.updates.len() < known.updates.len()
                });
                let is_over = at.checked_add(PAUSE).is_ok_and(|end| end <= now);
                if !has_come_on && !is_over {
                    return Update::Skipped;
                }
            }
            Some(TestState::Failed(_)) | None => {}
        }
        all.insert(key, new);
        Update::Waits
    }

    /// Has an update tested, unless another one is.
    fn want(&self, key: (SourceId, ChannelName), new: Awaited) {
        let mut all = self.lock();
        let is_busy = |known: &Awaited| matches!(known.state, TestState::Wanted | TestState::Queued(_));
        if !all.get(&key).is_some_and(is_busy) {
            all.insert(key, new);
        }
    }

    /// Forgets channels of a source that have nothing to wait for.
    pub(super) fn keep(&self, source: SourceId, waiting: &BTreeSet<ChannelName>) {
        self.lock().retain(|(of, channel), awaited| {
            *of != source
                || waiting.contains(channel)
                || matches!(awaited.state, TestState::Wanted | TestState::Queued(_))
        });
    }

    /// A channel moved.
    pub(super) fn forget(&self, source: SourceId, channel: &ChannelName) {
        self.lock().remove(&(source, channel.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(SourceId, ChannelName), Awaited>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channels {
    /// Whether a channel may take a release, as far as tests of updates decide. What is not tested is tested
    /// next, by a run. A release that is older than what the channel holds needs no test: its digests were on
    /// devices before.
    pub(super) async fn update(
        &self,
        source: SourceId,
        channel: &ChannelRow,
        release: ReleaseNumber,
    ) -> Result<Update, ControlError> {
        let Some(from) = channel.completed.filter(|from| *from < release) else { return Ok(Update::Tested) };
        let entries = self.store().entries(source, release).await?;
        let updates = self.untested(source, from, &entries).await?;
        let awaited = Awaited { from, release, updates, state: TestState::Wanted };
        let update = self.tests().consider((source, channel.name.clone()), awaited, self.now());
        if update == Update::Waits {
            self.test_runs().wake("a channel waits for the test of an update");
        }
        Ok(update)
    }

    /// Has an update tested that a person asks for.
    pub(super) fn want_test(
        &self,
        source: SourceId,
        channel: &ChannelRow,
        (from, release): (ReleaseNumber, ReleaseNumber),
        updates: Vec<Untested>,
    ) {
        self.tests().want(
            (source, channel.name.clone()),
            Awaited { from, release, updates, state: TestState::Wanted },
        );
        self.test_runs().wake("a person asks for the test of an update");
    }

    /// The updates from a release to these entries that are to be tested and have not passed. What leaves a
    /// quarantined digest is not held up by a test.
    pub(super) async fn untested(
        &self,
        source: SourceId,
        from: ReleaseNumber,
        entries: &[EntryRow],
    ) -> Result<Vec<Untested>, ControlError> {
        let store = self.store();
        let quarantine = store.quarantine().await?;
        let is_quarantined =
            |digest: &Digest| quarantine.iter().any(|one| one.source == source && one.digest == *digest);
        let before = store.entries(source, from).await?.into_iter();
        let before: BTreeMap<VariantName, Digest> = before
            .map(|entry| (entry.variant, entry.digest))
            .filter(|(_, digest)| !is_quarantined(digest))
            .collect();
        let changed = entries.iter().filter_map(|entry| Some((entry, before.get(&entry.variant)?)));
        let changed: Vec<_> = changed.filter(|(entry, before)| entry.digest != **before).collect();
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        let indexes =
            store.indexes(&changed.iter().flat_map(|(entry, old)| [&entry.digest, *old]).collect()).await?;
        let mut updates = Vec::new();
        for (entry, old) in changed {
            let (Some(new), Some(old)) = (indexes.get(&entry.digest), indexes.get(old)) else { continue };
            let both =
                new.iter().filter_map(|(platform, digest)| Some((platform, digest, old.get(platform)?)));
            updates.extend(
                both.filter(|(_, digest, old)| digest != old)
                    .map(|(platform, digest, old)| ((&entry.variant, platform, digest), old)),
            );
        }
        let digests: BTreeSet<&Digest> = updates.iter().map(|((_, _, digest), _)| *digest).collect();
        let asked = store.lanes_of(&digests).await?;
        let is_asked = |digest: &Digest| {
            asked.get(digest).is_some_and(|lanes| lanes.iter().any(|lane| lane.lane == Lane::Upgrade))
        };
        updates.retain(|((_, _, digest), _)| is_asked(digest));
        if updates.is_empty() {
            return Ok(Vec::new());
        }
        let domain = TrustDomain { source: source.0.unsigned_abs(), trusted: true };
        let verdicts = store.newest_verdicts(&digests, domain).await?;
        let mut untested = Vec::new();
        for ((variant, platform, digest), old) in updates {
            let is_of = |verdict: &&Verdict| {
                verdict.lane == Lane::Upgrade
                    && verdict.manifest.digest == *digest
                    && verdict.inputs.from.as_ref() == Some(old)
            };
            let mut failed = None;
            let mut is_tested = false;
            for row in verdicts.iter().filter(|row| is_of(&&row.verdict)) {
                match &row.verdict.result {
                    LaneResult::Passed => is_tested = true,
                    // An exception may cover it.
                    LaneResult::Failed { .. } if store.has_passed_in(row.run, digest).await? => {
                        is_tested = true
                    }
                    LaneResult::Failed { kind: FailureKind::Infrastructure, .. } => {}
                    LaneResult::Failed { message, .. } => failed = Some(message.clone()),
                }
            }
            if !is_tested {
                let (variant, platform, digest) = (variant.clone(), platform.clone(), digest.clone());
                untested.push(Untested { variant, platform, digest, failed });
            }
        }
        Ok(untested)
    }
}
