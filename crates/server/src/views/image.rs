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

use super::page::{Page, PageRequest, named};
use super::run::verdict;
use super::{ViewError, Views, is_asked};
use source_state::SourceState;

impl Views {
    /// The variants of the newest release and of the newest plan, by source and name.
    pub async fn images(&self, source: Option<&SourceName>) -> Result<Vec<ImageSummary>, ViewError> {
        Ok(self.image_page(source, &PageRequest::ALL).await?.rows)
    }

    /// A page of them.
    pub async fn image_page(
        &self,
        source: Option<&SourceName>,
        page: &PageRequest,
    ) -> Result<Page<ImageSummary>, ViewError> {
        let after: Option<(SourceName, VariantName)> = page.after(named)?;
        let mut summaries = Vec::new();
        for source in self.selected(source).await? {
            if after.as_ref().is_some_and(|(first, _)| source.name < *first) {
                continue;
            }
            let missing = page.rows() - summaries.len();
            if missing == 0 {
                break;
            }
            let after = after.as_ref().filter(|(name, _)| *name == source.name).map(|(_, variant)| variant);
            let loaded = self.source_state(source).await?;
            let is_next = |variant: &&VariantName| after.is_none_or(|after| *variant > after);
            let variants: Vec<_> = loaded.variants().filter(is_next).take(missing).collect();
            let images = self.built_images(&loaded, &variants).await?;
            summaries.extend(variants.iter().map(|variant| self.image_summary(&loaded, &images, variant)));
        }
        Ok(page.cut(summaries, |last| format!("{}/{}", last.source, last.variant)))
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

    fn image_summary(
        &self,
        loaded: &SourceState,
        images: &BuiltImages,
        variant: &VariantName,
    ) -> ImageSummary {
        let entry = loaded.entries.get(variant);
        let planned = loaded.nodes.get(variant).map(Vec::as_slice).unwrap_or_default();
        let (mut size_bytes, mut verdicts, mut notes) = (0, Vec::new(), Vec::new());
        for digest in images.manifests(entry).values() {
            let newest = planned.iter().find(|node| node.digest.as_ref() == Some(digest));
            notes.extend(newest.iter().flat_map(|node| node.notes.iter().cloned()));
            size_bytes += images.sizes.get(digest).copied().unwrap_or(0);
            let asked = images.asked(newest, digest);
            let rows = self.lane_verdicts(images.verdicts.get(digest), asked);
            let counts = |row: &&VerdictRow| self.is_current(&row.verdict) && is_asked(&row.verdict, asked);
            verdicts.extend(rows.into_iter().filter(counts).map(verdict));
        }
        let (state, reason) = loaded.state(variant);
        let release = loaded.release.as_ref().filter(|_| entry.is_some()).map(|release| release.number);
        ImageSummary {
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
        }
    }

    /// Reads what is known about the images of some variants: one query for each kind of fact.
    async fn built_images(
        &self,
        loaded: &SourceState,
        variants: &[&VariantName],
    ) -> Result<BuiltImages, ViewError> {
        let entries = variants.iter().filter_map(|variant| loaded.entries.get(variant));
        let indexes = self.store.indexes(&entries.map(|entry| &entry.digest).collect()).await?;
        let manifests: BTreeSet<&Digest> = indexes.values().flat_map(BTreeMap::values).collect();
        let sizes = self.store.image_sizes(&manifests, loaded.source.id).await?;
        let verdicts = self.verdicts(loaded.source.id.domain(true), &manifests).await?;
        let lanes = self.store.lanes_of(&manifests).await?;
        Ok(BuiltImages { indexes, sizes, verdicts, lanes })
    }

    async fn image_view(&self, loaded: &SourceState, variant: &VariantName) -> Result<ImageView, ViewError> {
        let images = self.built_images(loaded, &[variant]).await?;
        let image = self.image_summary(loaded, &images, variant);
        let manifests = images.manifests(loaded.entries.get(variant));
        let planned = loaded.nodes.get(variant).map(Vec::as_slice).unwrap_or_default();
        let mut build_reason = planned.first().map(|node| node.reason.clone()).unwrap_or_default();
        let (mut builds, mut lanes, mut provenance, mut locks) = (Vec::new(), Vec::new(), None, Vec::new());
        for (platform, digest) in manifests {
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
            let asked = images.asked(newest, digest);
            let found = self.lane_verdicts(images.verdicts.get(digest), asked);
            lanes.extend(found.into_iter().map(|row| self.verdict_view(platform, row, asked)));
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

    async fn steps(&self, domain: TrustDomain, path: &[PathStep]) -> Result<Vec<StepView>, ViewError> {
        let mut views = Vec::with_capacity(path.len());
        // The size of what is below the first step: nothing, or an image of a registry, if it is known.
        let base = path.first().and_then(|step| step.base.as_ref());
        let mut below = match base {
            None => Some(0_u64),
            Some(base) => self.store.build(base, domain).await?.map(|build| build.image_size),
        };
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
                tools: build.as_ref().map(|build| build.tools.0.clone()).unwrap_or_default(),
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

    fn verdict_view(&self, platform: &Platform, row: &VerdictRow, asked: Option<&[NodeLane]>) -> VerdictView {
        let verdict = row.verdict.clone();
        VerdictView {
            is_current: self.is_current(&verdict) && is_asked(&verdict, asked),
            platform: platform.clone(),
            lane: verdict.lane,
            result: verdict.result,
            check_set: verdict.check_set,
            profile: verdict.inputs.profile,
            from: verdict.inputs.from,
            semantics: verdict.inputs.semantics,
            runner: verdict.recorded_on.runner,
            host: verdict.recorded_on.host,
            accelerator: verdict.recorded_on.accelerator,
            origin: row.origin.clone(),
            run: row.run,
            recorded: row.created_at,
            duration_ms: verdict.duration_ms,
            checks: verdict.checks,
            evidence: verdict.evidence,
        }
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

/// What is known about the images of some variants.
struct BuiltImages {
    /// The platform manifests of each index.
    indexes: BTreeMap<Digest, BTreeMap<Platform, Digest>>,
    /// The compressed size of each platform manifest in bytes.
    sizes: BTreeMap<Digest, u64>,
    /// The verdicts on each platform manifest.
    verdicts: BTreeMap<Digest, Vec<VerdictRow>>,
    /// The lanes of the newest node that has each platform manifest.
    lanes: BTreeMap<Digest, Vec<NodeLane>>,
}

impl BuiltImages {
    /// The lanes that a digest is tested in: as the newest plan asks, if it has the digest, else as the run
    /// did that it is from. Verdicts for other checks, such as those of a failed commit, are not about it.
    fn asked<'a>(&'a self, planned: Option<&'a NodeRow>, digest: &Digest) -> Option<&'a [NodeLane]> {
        match planned {
            Some(node) => node.lanes.as_deref(),
            None => self.lanes.get(digest).map(Vec::as_slice),
        }
    }

    /// The platform manifests of a release's entry.
    fn manifests(&self, entry: Option<&EntryRow>) -> &BTreeMap<Platform, Digest> {
        const NONE: &BTreeMap<Platform, Digest> = &BTreeMap::new();
        entry.and_then(|entry| self.indexes.get(&entry.digest)).unwrap_or(NONE)
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
