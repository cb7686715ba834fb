//! Updates that are tested before a channel moves: from what it holds to what it would take. The lane
//! `upgrade` of a run starts from what its branch released last. A channel that passes releases over, or
//! whose rollout is under way, takes another step than that: it waits until that step is tested, too.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::names::{Platform, VariantName};
use edgewright_model::order::TrustDomain;
use edgewright_model::outcome::FailureKind;
use edgewright_model::run::ReleaseNumber;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{LaneResult, Verdict};
use edgewright_store::channels::ChannelRow;
use edgewright_store::releases::EntryRow;
use edgewright_store::sources::SourceId;

use super::awaited::{Awaited, TestState};
use super::channels::Channels;
use super::decide::Update;
use crate::ControlError;

/// An update that is to be tested and has not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Untested {
    pub(crate) variant: VariantName,
    pub(crate) platform: Platform,
    /// The platform manifest that devices would get.
    pub(crate) digest: Digest,
    /// How its test failed; none where it was not tested.
    pub(super) failed: Option<String>,
}

impl std::fmt::Display for Untested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.variant, self.platform)
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
        let mut steps = self.steps(source, from, entries).await?;
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let asked = self.store().lanes_of(&steps.iter().map(|step| &step.after).collect()).await?;
        steps.retain(|step| {
            asked.get(&step.after).is_some_and(|lanes| lanes.iter().any(|lane| lane.lane == Lane::Upgrade))
        });
        let domain = TrustDomain { source: source.0.unsigned_abs(), trusted: true };
        let digests = steps.iter().map(|step| &step.after).collect();
        let verdicts = self.store().newest_verdicts(&digests, domain).await?;
        let mut untested = Vec::new();
        for step in steps {
            let mut failed = None;
            let mut is_tested = false;
            for row in verdicts.iter().filter(|row| step.is_tested_by(&row.verdict)) {
                match &row.verdict.result {
                    LaneResult::Passed => is_tested = true,
                    LaneResult::Failed { kind, message } => {
                        // An exception may cover it.
                        is_tested |= self.store().has_passed_in(row.run, &step.after).await?;
                        failed = (*kind != FailureKind::Infrastructure).then(|| message.clone()).or(failed);
                    }
                }
            }
            if !is_tested {
                untested.push(Untested {
                    variant: step.variant,
                    platform: step.platform,
                    digest: step.after,
                    failed,
                });
            }
        }
        Ok(untested)
    }

    /// The platform manifests that change from a release to these entries, but for those that are
    /// quarantined.
    async fn steps(
        &self,
        source: SourceId,
        from: ReleaseNumber,
        entries: &[EntryRow],
    ) -> Result<Vec<Step>, ControlError> {
        let quarantine = self.store().quarantine().await?.into_iter();
        let quarantine: BTreeSet<Digest> =
            quarantine.filter(|one| one.source == source).map(|one| one.digest).collect();
        let before = self.store().entries(source, from).await?.into_iter();
        let before: BTreeMap<VariantName, Digest> =
            before.map(|entry| (entry.variant, entry.digest)).collect();
        let changed: Vec<(&EntryRow, &Digest)> = entries
            .iter()
            .filter_map(|entry| Some((entry, before.get(&entry.variant)?)))
            .filter(|(entry, before)| entry.digest != **before && !quarantine.contains(*before))
            .collect();
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        let digests = changed.iter().flat_map(|(entry, before)| [&entry.digest, *before]).collect();
        let indexes = self.store().indexes(&digests).await?;
        let mut steps = Vec::new();
        for (entry, before) in changed {
            let (Some(after), Some(before)) = (indexes.get(&entry.digest), indexes.get(before)) else {
                continue;
            };
            steps.extend(after.iter().filter_map(|(platform, after)| {
                let before = before.get(platform).filter(|before| *before != after)?;
                Some(Step {
                    variant: entry.variant.clone(),
                    platform: platform.clone(),
                    before: before.clone(),
                    after: after.clone(),
                })
            }));
        }
        Ok(steps)
    }
}

/// What changes for devices of a variant.
#[derive(Debug)]
struct Step {
    variant: VariantName,
    platform: Platform,
    before: Digest,
    after: Digest,
}

impl Step {
    fn is_tested_by(&self, verdict: &Verdict) -> bool {
        verdict.lane == Lane::Upgrade
            && verdict.manifest.digest == self.after
            && verdict.inputs.from.as_ref() == Some(&self.before)
    }
}
