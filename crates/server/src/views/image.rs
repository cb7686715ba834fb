//! Variants: their image in the newest release, its steps, and its verdicts.

mod source_state;

use std::collections::{BTreeMap, BTreeSet};

use edgewright_api::{
    BuildView, ImageSummary, ImageView, LockView, Proof, Provenance, PullCommands, StepView, VerdictView,
};
use edgewright_model::Digest;
use edgewright_model::names::{ImageName, Platform, SourceName, VariantName};
use edgewright_model::order::TrustDomain;
use edgewright_store::nodes::{NodeLane, NodeRow, PathStep};
use edgewright_store::proofs::ProofResult;
use edgewright_store::releases::EntryRow;
use edgewright_store::results::VerdictRow;
use edgewright_store::runs::RunRow;

use super::run::verdict;
use super::{ViewError, Views, is_asked};
use source_state::SourceState;

impl Views {
    /// The variants of the newest release and of the newest plan, by source and name.
    pub async fn images(&self, source: Option<&SourceName>) -> Result<Vec<ImageSummary>, ViewError> {
        let mut summaries = Vec::new();
        for source in self.selected(source).await? {
            let loaded = self.source_state(source).await?;
            for variant in loaded.variants() {
                summaries.push(self.image_summary(&loaded, variant).await?);
            }
        }
        Ok(summaries)
    }

    /// One variant.
    pub async fn image(
        &self,
        variant: &VariantName,
        source: Option<&SourceName>,
    ) -> Result<ImageView, ViewError> {
        let mut matching = Vec::new();
        for source in self.selected(source).await? {
            let loaded = self.source_state(source).await?;
            if loaded.variants().any(|known| known == variant) {
                matching.push(loaded);
            }
        }
        match matching.as_slice() {
            [] => Err(ViewError::NotFound {
                what: format!("variant `{variant}` not found"),
                hint: "`edgewright images` lists them".to_owned(),
            }),
            [loaded] => self.image_view(loaded, variant).await,
            several => Err(ViewError::Ambiguous {
                variant: variant.to_string(),
                sources: several.iter().map(|loaded| loaded.source.name.to_string()).collect(),
            }),
        }
    }

    async fn image_summary(
        &self,
        loaded: &SourceState,
        variant: &VariantName,
    ) -> Result<ImageSummary, ViewError> {
        let entry = loaded.entries.get(variant);
        let planned = loaded.nodes.get(variant).map(Vec::as_slice).unwrap_or_default();
        let (mut size_bytes, mut verdicts, mut notes) = (0, Vec::new(), Vec::new());
        for digest in self.manifests(entry).await?.values() {
            let newest = planned.iter().find(|node| node.digest.as_ref() == Some(digest));
            notes.extend(newest.iter().flat_map(|node| node.notes.iter().cloned()));
            let build = self.store.build_of(digest, loaded.source.id.domain(false)).await?;
            size_bytes += build.map_or(0, |build| build.image_size);
            let asked = self.asked(newest, digest).await?;
            let rows = self.lane_verdicts(loaded.source.id.domain(true), digest, asked.as_deref()).await?;
            let counts =
                |row: &&VerdictRow| self.is_current(&row.verdict) && is_asked(&row.verdict, asked.as_deref());
            verdicts.extend(rows.iter().filter(counts).map(verdict));
        }
        let (state, reason) = loaded.state(variant);
        let release = loaded.release.as_ref().filter(|_| entry.is_some()).map(|release| release.number);
        Ok(ImageSummary {
            source: loaded.source.name.clone(),
            variant: variant.clone(),
            repository: entry.map(|entry| entry.repository.clone()),
            digest: entry.map(|entry| entry.digest.clone()),
            state,
            channels: loaded
                .channels
                .iter()
                .filter(|channel| release.is_some() && channel.completed == release)
                .map(|channel| channel.name.clone())
                .collect(),
            release,
            size_bytes,
            verdicts,
            reason,
            notes,
        })
    }

    /// The platform manifests of a release's entry.
    async fn manifests(&self, entry: Option<&EntryRow>) -> Result<BTreeMap<Platform, Digest>, ViewError> {
        match entry {
            Some(entry) => Ok(self.store.index(&entry.digest).await?.unwrap_or_default()),
            None => Ok(BTreeMap::new()),
        }
    }

    async fn image_view(&self, loaded: &SourceState, variant: &VariantName) -> Result<ImageView, ViewError> {
        let image = self.image_summary(loaded, variant).await?;
        let manifests = self.manifests(loaded.entries.get(variant)).await?;
        let planned = loaded.nodes.get(variant).map(Vec::as_slice).unwrap_or_default();
        let mut build_reason = planned.first().map(|node| node.reason.clone()).unwrap_or_default();
        let (mut builds, mut lanes, mut provenance, mut locks) = (Vec::new(), Vec::new(), None, Vec::new());
        for (platform, digest) in &manifests {
            let domain = loaded.source.id.domain(false);
            let Some(build) = self.store.build_of(digest, domain).await? else { continue };
            let run = self.run_row(build.run).await?;
            // The row of the run that built this digest contains the reason for the build and the digest's
            // steps.
            let rows = self.store.nodes(run.number).await?;
            let origin = rows
                .iter()
                .find(|node| node.key.as_ref() == Some(&build.key) || node.digest.as_ref() == Some(digest));
            let newest = planned.iter().find(|node| node.digest.as_ref() == Some(digest));
            if let Some(origin) = origin {
                build_reason.clone_from(&origin.reason);
            }
            let steps = newest.or(origin).map(|node| node.steps.as_slice()).unwrap_or_default();
            let views = self.steps(build.domain, steps).await?;
            builds.push(BuildView {
                proof: Proof::of(&views),
                platform: platform.clone(),
                manifest: build.manifest.clone(),
                key: build.key.clone(),
                size_bytes: build.image_size,
                steps: views,
            });
            let asked = self.asked(newest, digest).await?;
            let trusted = loaded.source.id.domain(true);
            lanes.extend(self.verdict_views(trusted, (platform, digest), asked.as_deref()).await?);
            locks = self.locks(&run, &line(variant, steps, &rows)).await?;
            provenance = Some(Provenance {
                url: loaded.source.url.clone(),
                commit: run.commit.to_string(),
                subject: run.subject,
                run: run.number,
                job: origin.and_then(|node| node.job),
                built: build.created_at,
            });
        }
        let pull = self
            .registry()
            .zip(image.repository.as_ref().zip(image.digest.as_ref()))
            .map(|(registry, (repository, digest))| PullCommands::new(&registry, repository, digest));
        Ok(ImageView { image, build_reason, provenance, builds, locks, lanes, pull })
    }

    /// The lanes that a digest is tested in: as the newest plan asks, if it has the digest, else as the run
    /// did that it is from. Verdicts for other checks, such as those of a failed commit, are not about it.
    async fn asked(
        &self,
        planned: Option<&NodeRow>,
        digest: &Digest,
    ) -> Result<Option<Vec<NodeLane>>, ViewError> {
        if let Some(node) = planned {
            return Ok(node.lanes.clone());
        }
        let nodes = self.store.nodes_of(digest).await?;
        Ok(nodes.into_iter().find_map(|(_, node)| node.lanes))
    }

    async fn steps(&self, domain: TrustDomain, path: &[PathStep]) -> Result<Vec<StepView>, ViewError> {
        let mut views = Vec::with_capacity(path.len());
        let mut below = Some(0_u64);
        let keys: Vec<Digest> = path.iter().map(|step| step.key.clone()).collect();
        let proofs = self.store.proofs(&keys, domain).await?;
        for step in path {
            let build = self.store.build(&step.key, domain).await?;
            let size = build.as_ref().map(|build| build.image_size);
            views.push(StepView {
                key: step.key.clone(),
                title: step.title.clone(),
                added_bytes: size.zip(below).map(|(size, below)| size.saturating_sub(below)),
                duration_ms: build.as_ref().map(|build| build.duration_ms),
                run: build.as_ref().map(|build| build.run),
                proof: match proofs.get(&step.key).map(|proof| proof.result) {
                    Some(ProofResult::Proved) => Proof::Proved,
                    Some(ProofResult::Refuted) => Proof::Refuted,
                    None => Proof::Unproved,
                },
            });
            below = size;
        }
        Ok(views)
    }

    async fn verdict_views(
        &self,
        domain: TrustDomain,
        (platform, digest): (&Platform, &Digest),
        asked: Option<&[NodeLane]>,
    ) -> Result<Vec<VerdictView>, ViewError> {
        let rows = self.lane_verdicts(domain, digest, asked).await?;
        Ok(rows
            .into_iter()
            .map(|row| VerdictView {
                is_current: self.is_current(&row.verdict) && is_asked(&row.verdict, asked),
                platform: platform.clone(),
                lane: row.verdict.lane,
                result: row.verdict.result,
                check_set: row.verdict.check_set,
                profile: row.verdict.inputs.profile,
                semantics: row.verdict.inputs.semantics,
                runner: row.verdict.recorded_on.runner,
                host: row.verdict.recorded_on.host,
                origin: row.origin,
                run: row.run,
                recorded: row.created_at,
                duration_ms: row.verdict.duration_ms,
                checks: row.verdict.checks,
                evidence: row.verdict.evidence,
            })
            .collect())
    }

    /// The locks of some images in a run.
    async fn locks(&self, run: &RunRow, images: &BTreeSet<ImageName>) -> Result<Vec<LockView>, ViewError> {
        let overlays = self.store.locks(run.domain()).await?;
        let overlay = |image, number| {
            overlays.iter().find(|row| row.image == image && Some(row.number) == number).map(|row| &row.lock)
        };
        Ok(run
            .locks
            .iter()
            .filter(|(image, _)| images.contains(*image))
            .map(|(image, number)| {
                let lock = overlay(image.clone(), *number);
                LockView {
                    image: image.clone(),
                    epoch: lock.map(|lock| lock.epoch),
                    base: lock.and_then(|lock| lock.base.clone()),
                    packages: lock
                        .map(|lock| lock.packages.values().flatten().map(|list| list.len() as u64).sum()),
                    overlay: *number,
                }
            })
            .collect())
    }
}

/// The images that a variant is built from: its own, and each one with a variant whose key is one of this
/// variant's steps.
fn line(variant: &VariantName, steps: &[PathStep], nodes: &[NodeRow]) -> BTreeSet<ImageName> {
    let keys: BTreeSet<&Digest> = steps.iter().map(|step| &step.key).collect();
    let ancestors = nodes.iter().filter(|node| node.key.as_ref().is_some_and(|key| keys.contains(key)));
    let images = ancestors.filter_map(|node| Some(node.variant.as_ref()?.image.clone()));
    images.chain([variant.image.clone()]).collect()
}
