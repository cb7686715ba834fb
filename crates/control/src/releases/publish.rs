//! What a run's jobs made and found gets its names: indexes, referrers, the release, and with it the
//! channels.
//!
//! Order matters for a crash at any point: manifests and referrers first, then pins, then one transaction
//! with release, channels and the run's end. What was pushed before a crash is pushed again to no effect.

use std::collections::BTreeMap;

use edgewright_model::Digest;
use edgewright_model::names::{Platform, VariantName};
use edgewright_model::order::ManifestRef;
use edgewright_model::reference::RepoName;
use edgewright_model::run::{EntryOrigin, NodeState, RunState, Trigger};
use edgewright_model::tools::ToolVersions;
use edgewright_oci::image;
use edgewright_oci::media::{self, Descriptor};
use edgewright_plan::Graph;
use edgewright_store::nodes::NodeRow;
use edgewright_store::releases::{EntryRow, NewRelease, Taking};
use edgewright_store::runs::RunRow;
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;

use super::newest::Released;
use super::{Releases, referrers};
use crate::ControlError;
use crate::events::RunEventKind;
use crate::pins;
use crate::sources::SourceHandle;
use crate::sources::refs::pull_request_tag;

/// How many variants get their names at once: each is some requests to the registry.
const NAMED_AT_ONCE: usize = 8;

/// What a run made, ready for its names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Results<'a> {
    /// The run, in state `releasing`.
    pub(crate) run: &'a RunRow,
    /// Its source.
    pub(crate) handle: &'a SourceHandle,
    /// What was planned.
    pub(crate) graph: &'a Graph,
    /// Its nodes as they ended.
    pub(crate) nodes: &'a [NodeRow],
    /// Why nothing is released; absent where the run is for a release.
    pub(crate) no_release: Option<&'a str>,
}

impl Releases {
    /// Names the results and ends the run.
    pub(crate) async fn publish(&self, results: &Results<'_>) -> Result<(), ControlError> {
        let run = results.run;
        referrers::publish_verdicts(&self.store, &self.hosting, run.number).await?;
        if run.trigger == Trigger::Update {
            return self.end_test(results).await;
        }
        let compared = self.compared_branch(results).await?;
        let before = self.newest(run.source, &compared).await?;
        let entries = self.entries(results, &before).await?;
        let clean = self.store.run(run.number).await?.is_some_and(|row| row.diagnostics.is_empty());
        let is_good = |node: &NodeRow| node.state.is_good() || node.state == NodeState::Retired;
        let is_passed = clean && results.nodes.iter().all(is_good);
        let state = if is_passed { RunState::Passed } else { RunState::Failed };
        if pull_request_tag(&run.branch).is_some() && results.no_release.is_none() {
            self.tag_pull_request(results, entries).await?;
            self.end(results, state, None).await?;
        } else {
            self.release(results, state, &entries, &before).await?;
        }
        self.events.send(run.number, RunEventKind::State(state));
        Ok(self.hosting.unpin(&pins::contexts(run.number)).await?)
    }

    /// Ends a run that tested an update: what it worked on has its names.
    async fn end_test(&self, results: &Results<'_>) -> Result<(), ControlError> {
        let run = results.run;
        let is_passed = results.nodes.iter().all(|node| node.state.is_good());
        let state = if is_passed { RunState::Passed } else { RunState::Failed };
        self.end(results, state, results.no_release).await?;
        self.events.send(run.number, RunEventKind::State(state));
        self.channels.test_runs().wake("an update was tested");
        Ok(self.hosting.unpin(&pins::contexts(run.number)).await?)
    }

    /// Releases the entries where that changes what a branch holds; ends the run in any case.
    async fn release(
        &self,
        results: &Results<'_>,
        state: RunState,
        entries: &[EntryRow],
        before: &Released,
    ) -> Result<(), ControlError> {
        let run = results.run;
        let is_unchanged = places(entries) == places(&before.entries);
        if let Some(why) = self.no_release(results, is_unchanged).await? {
            let is_worth_it = !is_unchanged || results.no_release.is_some();
            return self.end(results, state, is_worth_it.then_some(&why)).await;
        }
        let channels = self.channels.taking(run.source, &run.branch, entries).await?;
        if is_unchanged && !self.answers_other(results, &channels, before).await? {
            return self.end(results, state, None).await;
        }
        let held: Vec<(RepoName, Digest)> =
            entries.iter().map(|entry| (entry.repository.clone(), entry.digest.clone())).collect();
        self.hosting.pin(&self.release_pin(results).await?, &held).await?;
        let new = NewRelease {
            source: run.source,
            run: run.number,
            state,
            branch: &run.branch,
            commit: &run.commit,
            entries,
            channels: &channels,
        };
        let number = self.store.release(&new, self.clock.now()).await?;
        self.tags.refresh(&self.store).await?;
        self.events.send(run.number, RunEventKind::Released(number));
        // Channels that changed while this was decided, and those that follow after a while.
        self.channels.wake().wake("a release was made");
        self.channels.rollouts().wake("a release was made");
        Ok(())
    }

    /// Why this run makes no release, whatever it built.
    async fn no_release(
        &self,
        results: &Results<'_>,
        is_unchanged: bool,
    ) -> Result<Option<String>, ControlError> {
        let run = results.run;
        if let Some(why) = results.no_release {
            return Ok(Some(why.to_owned()));
        }
        if !run.trusted {
            return Ok(Some(format!("`{}` is not a trusted ref: no release", run.branch)));
        }
        if !results.handle.settings.publish {
            return Ok(Some("`publish` is off for this source: no release".to_owned()));
        }
        let is_followed = is_unchanged || self.channels.is_followed(run.source, &run.branch).await?;
        Ok((!is_followed).then(|| format!("no channel follows branch `{}`: no release", run.branch)))
    }

    async fn end(
        &self,
        results: &Results<'_>,
        state: RunState,
        why: Option<&str>,
    ) -> Result<(), ControlError> {
        let (run, now) = (results.run.number, self.clock.now());
        Ok(self.store.end_run(run, RunState::Releasing, state, why, now).await?)
    }

    async fn release_pin(&self, results: &Results<'_>) -> Result<String, ControlError> {
        let source = self.store.source(results.run.source).await?;
        let name = source.definition_name.unwrap_or(source.name);
        Ok(format!("release/{name}/run-{}", results.run.number))
    }

    /// Puts the tags of a pull request onto what it changes.
    async fn tag_pull_request(
        &self,
        results: &Results<'_>,
        entries: Vec<EntryRow>,
    ) -> Result<(), ControlError> {
        let is_changed = |entry: &EntryRow| entry.origin == EntryOrigin::New;
        let changed: Vec<EntryRow> = entries.into_iter().filter(is_changed).collect();
        let held: Vec<_> =
            changed.iter().map(|entry| (entry.repository.clone(), entry.digest.clone())).collect();
        self.hosting.pin(&pins::results(results.run.number), &held).await?;
        let run = results.run;
        self.store.note_pull_request(run.source, &run.branch, run.number, &changed).await?;
        Ok(self.tags.refresh(&self.store).await?)
    }

    /// The branch whose newest release is what this run's results are compared with: its own, or for a pull
    /// request the default one.
    async fn compared_branch(&self, results: &Results<'_>) -> Result<String, ControlError> {
        let default = match pull_request_tag(&results.run.branch) {
            Some(_) => results.handle.default_branch(&self.store).await?,
            None => None,
        };
        Ok(default.unwrap_or_else(|| results.run.branch.clone()))
    }

    /// The complete map of the release: passed is new, all else is carried with its reason, none before is
    /// absent. Variants that the commit cannot even name, because their site or image has errors, are blocked
    /// nodes of the plan.
    async fn entries(&self, results: &Results<'_>, before: &Released) -> Result<Vec<EntryRow>, ControlError> {
        let mut variants: BTreeMap<&VariantName, Vec<&NodeRow>> = BTreeMap::new();
        for node in results.nodes.iter().filter(|node| node.state != NodeState::Retired) {
            if let Some(variant) = &node.variant {
                variants.entry(variant).or_default().push(node);
            }
        }
        let (mut entries, mut naming) = (Vec::with_capacity(variants.len()), Vec::new());
        for (variant, nodes) in variants {
            let previous = before.entry(variant);
            if let Some(bad) = nodes.iter().find(|node| !node.state.is_good()) {
                let why =
                    bad.failure.as_ref().map_or(bad.reason.as_str(), |failure| failure.message.as_str());
                entries.extend(previous.map(|entry| carried(entry, format!("{}: {why}", bad.state))));
                continue;
            }
            let manifests: BTreeMap<Platform, Digest> =
                nodes.iter().filter_map(|node| Some((node.platform.clone(), node.digest.clone()?))).collect();
            match previous {
                Some(entry)
                    if before.indexes.get(&entry.digest) == Some(&manifests)
                        && is_unchanged_in(results.graph, entry, &manifests) =>
                {
                    entries.push(carried(entry, "unchanged".to_owned()));
                }
                _ => {
                    naming.push(self.entry(results, variant, manifests, &nodes[0].reason, previous).boxed());
                }
            }
        }
        let named: Vec<EntryRow> = stream::iter(naming).buffer_unordered(NAMED_AT_ONCE).try_collect().await?;
        entries.extend(named);
        entries.sort_by(|a, b| a.variant.cmp(&b.variant));
        Ok(entries)
    }

    /// The entry of a variant that is good and not known to be unchanged.
    async fn entry(
        &self,
        results: &Results<'_>,
        variant: &VariantName,
        manifests: BTreeMap<Platform, Digest>,
        reason: &str,
        previous: Option<&EntryRow>,
    ) -> Result<EntryRow, ControlError> {
        let entry = self.name(results, variant, &manifests, reason).await?;
        Ok(match previous {
            Some(previous) if place(previous) == place(&entry) => carried(previous, "unchanged".to_owned()),
            _ => entry,
        })
    }

    /// Makes the index of a variant, with its provenance.
    async fn name(
        &self,
        results: &Results<'_>,
        variant: &VariantName,
        manifests: &BTreeMap<Platform, Digest>,
        reason: &str,
    ) -> Result<EntryRow, ControlError> {
        let run = results.run;
        let mut repository = None;
        let mut listed = Vec::new();
        let mut keys = BTreeMap::new();
        let mut tools = BTreeMap::new();
        for (platform, digest) in manifests {
            let Some(node) = results.graph.variant(variant, platform) else { continue };
            let build = self.store.build_of(digest, run.domain()).await?;
            let from = build.map_or(node.repository.clone(), |build| build.manifest.repository);
            let manifest = ManifestRef { repository: from, digest: digest.clone() };
            let manifest = self.hosting.stand_in(&manifest, &node.repository).await?;
            let size = self.hosting.manifest_size(&manifest).await?;
            listed.push((platform.clone(), Descriptor::new(media::MANIFEST, digest.clone(), size)));
            keys.insert(platform.clone(), node.key.clone());
            let used = node.path.iter().flat_map(|step| step.tools.0.clone());
            tools.insert(platform.clone(), used.collect::<ToolVersions>());
            repository = Some(node.repository.clone());
        }
        let repository =
            repository.ok_or(ControlError::Broken { what: "a variant has no manifest to name" })?;
        let index = image::index(&listed);
        let size = index.len() as u64;
        let digest = Digest::of(&index);
        let provenance = json!({
            "version": 1,
            "source": results.handle.settings.remote.to_string(),
            "branch": run.branch,
            "commit": run.commit,
            "run": run.number,
            "variant": variant,
            "keys": keys,
            "reason": reason,
            "tools": tools,
            "builder": concat!("edgewright ", env!("CARGO_PKG_VERSION")),
        });
        let subject = Descriptor::new(media::INDEX, digest.clone(), size);
        let kind = referrers::PROVENANCE;
        // A referrer may be there before its subject.
        tokio::try_join!(
            async { Ok(self.hosting.push_manifest(&repository, media::INDEX, index).await?) },
            async { Ok(self.store.note_index(&digest, &repository, manifests).await?) },
            referrers::push(&self.hosting, &repository, kind, &subject, &provenance, &[]),
        )?;
        Ok(EntryRow {
            variant: variant.clone(),
            repository,
            digest,
            origin: EntryOrigin::New,
            reason: reason.to_owned(),
        })
    }

    /// Whether a following channel answers something else than this branch holds: it is new, was restored
    /// from a backup, or holds the release of another branch (a default branch renamed back, a run of an
    /// uncommitted folder). Then a release is due though no digest of this branch changed.
    async fn answers_other(
        &self,
        results: &Results<'_>,
        channels: &[Taking],
        released: &Released,
    ) -> Result<bool, ControlError> {
        let source = results.run.source;
        for row in self.store.channels(source).await? {
            if channels.iter().any(|one| one.channel == row.name) && row.target != released.number {
                let held = match row.target {
                    Some(number) => self.store.entries(source, number).await?,
                    None => Vec::new(),
                };
                if places(&held) != places(&released.entries) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// An entry of the release before, as it goes into the next one.
fn carried(entry: &EntryRow, reason: String) -> EntryRow {
    EntryRow { origin: EntryOrigin::Carried, reason, ..entry.clone() }
}

/// Where an entry is pulled from.
const fn place(entry: &EntryRow) -> (&RepoName, &Digest) {
    (&entry.repository, &entry.digest)
}

fn places(entries: &[EntryRow]) -> BTreeMap<&VariantName, (&RepoName, &Digest)> {
    entries.iter().map(|entry| (&entry.variant, place(entry))).collect()
}

/// Whether an entry is in the repository that the source's name asks for now.
fn is_unchanged_in(graph: &Graph, entry: &EntryRow, manifests: &BTreeMap<Platform, Digest>) -> bool {
    let mut nodes = manifests.keys().filter_map(|platform| graph.variant(&entry.variant, platform));
    nodes.all(|node| node.repository == entry.repository)
}
