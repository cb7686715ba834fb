//! What a run's jobs made and found gets its names: indexes, referrers, the release, and with it the channels.
//!
//! Order matters for a crash at any point: manifests and referrers first, then pins, then one transaction with release,
//! channels and the run's end. What was pushed before a crash is pushed again to no effect.

use std::collections::BTreeMap;

use edgewright_model::Digest;
use edgewright_model::names::{ChannelName, Platform, VariantName};
use edgewright_model::order::ManifestRef;
use edgewright_model::reference::RepoName;
use edgewright_model::run::{EntryOrigin, NodeState, RunState};
use edgewright_model::spec::{Definition, Follows};
use edgewright_oci::image;
use edgewright_oci::media::{self, Descriptor};
use edgewright_store::nodes::NodeRow;
use edgewright_store::releases::{EntryRow, NewRelease};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;

use super::Driver;
use super::prepare::Prepared;
use super::released::Released;
use crate::ControlError;
use crate::events::RunEventKind;
use crate::{pull_requests, referrers};

/// How many variants get their names at once: each is some requests to the registry.
const NAMED_AT_ONCE: usize = 8;

impl Driver<'_> {
    /// Names the results and ends the run.
    pub(crate) async fn publish(&self, prepared: &Prepared) -> Result<(), ControlError> {
        let run = &self.run;
        referrers::publish_verdicts(self.store, self.hosting, run.number).await?;
        let nodes = self.nodes(prepared).await?;
        let before = self.released(&self.compared_branch().await?).await?;
        let entries = self.entries(prepared, &nodes, &before).await?;
        let clean = self.store.run(run.number).await?.is_some_and(|row| row.diagnostics.is_empty());
        let all_good = nodes.iter().all(|node| node.state.is_good() || node.state == NodeState::Retired);
        let state = if clean && all_good { RunState::Passed } else { RunState::Failed };

        let unchanged = places(&entries) == places(&before.entries);
        if pull_requests::tag(&run.branch).is_some() && self.selection.is_none() {
            let changed = |entry: &EntryRow| entry.origin == EntryOrigin::New;
            let changed: Vec<EntryRow> = entries.into_iter().filter(changed).collect();
            self.tag_pull_request(&changed).await?;
            self.store.end_run(run.number, RunState::Releasing, state, None, self.clock.now()).await?;
            return self.over(state).await;
        }
        let channels =
            if self.selection.is_some() { Vec::new() } else { self.following(&prepared.definition).await? };
        if (unchanged && !self.answers_other(&channels, &before).await?) || channels.is_empty() {
            let why = match &self.selection {
                Some(_) => Some("a run of some variants only: no release".to_owned()),
                None if !self.watched.settings.publish => {
                    (!unchanged).then(|| "`publish` is off for this source: no release".to_owned())
                }
                None => {
                    (!unchanged).then(|| format!("no channel follows branch `{}`: no release", run.branch))
                }
            };
            self.store
                .end_run(run.number, RunState::Releasing, state, why.as_deref(), self.clock.now())
                .await?;
        } else {
            let held: Vec<(RepoName, Digest)> =
                entries.iter().map(|entry| (entry.repository.clone(), entry.digest.clone())).collect();
            self.hosting.pin(&self.release_pin(prepared), &held).await?;
            let new = NewRelease {
                source: run.source,
                run: run.number,
                state,
                branch: &run.branch,
                commit: &run.commit,
                entries: &entries,
                channels: &channels,
            };
            let number = self.store.release(&new, self.clock.now()).await?;
            self.tags.refresh(self.store).await?;
            self.events.send(run.number, RunEventKind::Released(number));
        }
        self.over(state).await
    }

    /// The run is recorded as ended.
    async fn over(&self, state: RunState) -> Result<(), ControlError> {
        self.events.send(self.run.number, RunEventKind::State(state));
        Ok(self.hosting.unpin(&self.contexts_pin()).await?)
    }

    /// The branch whose newest release is what this run's results are compared with: its own, or for a pull request the
    /// default one.
    async fn compared_branch(&self) -> Result<String, ControlError> {
        let default = match pull_requests::tag(&self.run.branch) {
            Some(_) => self.watched.default_branch(self.store).await?,
            None => None,
        };
        Ok(default.unwrap_or_else(|| self.run.branch.clone()))
    }

    /// The complete map of the release: passed is new, all else is carried with its reason, none before is absent. Variants
    /// that the commit cannot even name, because their site or image has errors, are blocked nodes of the plan.
    async fn entries(
        &self,
        prepared: &Prepared,
        nodes: &[NodeRow],
        before: &Released,
    ) -> Result<Vec<EntryRow>, ControlError> {
        let mut variants: BTreeMap<&VariantName, Vec<&NodeRow>> = BTreeMap::new();
        for node in nodes.iter().filter(|node| node.state != NodeState::Retired) {
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
                        && Self::stands_in(prepared, entry, &manifests) =>
                {
                    entries.push(carried(entry, "unchanged".to_owned()));
                }
                _ => {
                    naming.push(self.entry(prepared, variant, manifests, &nodes[0].reason, previous).boxed());
                }
            }
        }
        let named: Vec<EntryRow> = stream::iter(naming).buffer_unordered(NAMED_AT_ONCE).try_collect().await?;
        entries.extend(named);
        entries.sort_by(|a, b| a.variant.cmp(&b.variant));
        Ok(entries)
    }

    /// The entry of a variant that is good, and not known to stand as it stood.
    async fn entry(
        &self,
        prepared: &Prepared,
        variant: &VariantName,
        manifests: BTreeMap<Platform, Digest>,
        reason: &str,
        previous: Option<&EntryRow>,
    ) -> Result<EntryRow, ControlError> {
        let entry = self.name(prepared, variant, &manifests, reason).await?;
        Ok(match previous {
            Some(previous) if place(previous) == place(&entry) => carried(previous, "unchanged".to_owned()),
            _ => entry,
        })
    }

    /// Whether an entry is in the repository that the source's name asks for now.
    fn stands_in(prepared: &Prepared, entry: &EntryRow, manifests: &BTreeMap<Platform, Digest>) -> bool {
        let mut nodes =
            manifests.keys().filter_map(|platform| prepared.graph.variant(&entry.variant, platform));
        nodes.all(|node| node.repository == entry.repository)
    }

    /// Makes the index of a variant, with its provenance.
    async fn name(
        &self,
        prepared: &Prepared,
        variant: &VariantName,
        manifests: &BTreeMap<Platform, Digest>,
        reason: &str,
    ) -> Result<EntryRow, ControlError> {
        let mut repository = None;
        let mut listed = Vec::new();
        let mut keys = BTreeMap::new();
        for (platform, digest) in manifests {
            let Some(node) = prepared.graph.variant(variant, platform) else { continue };
            let from = self
                .store
                .build(&node.key)
                .await?
                .map_or(node.repository.clone(), |build| build.manifest.repository);
            let manifest = ManifestRef { repository: from, digest: digest.clone() };
            let manifest = self.hosting.stand_in(&manifest, &node.repository).await?;
            let size = self.hosting.manifest_size(&manifest).await?;
            listed.push((platform.clone(), Descriptor::new(media::MANIFEST, digest.clone(), size)));
            keys.insert(platform.clone(), node.key.clone());
            repository = Some(node.repository.clone());
        }
        let repository = repository.ok_or(ControlError::Stopped)?;
        let index = image::index(&listed);
        let size = index.len() as u64;
        let digest = Digest::of(&index);
        let provenance = json!({
            "version": 1,
            "source": self.watched.settings.remote.to_string(),
            "branch": self.run.branch,
            "commit": self.run.commit,
            "run": self.run.number,
            "variant": variant,
            "keys": keys,
            "reason": reason,
            "builder": concat!("edgewright ", env!("CARGO_PKG_VERSION")),
        });
        let subject = Descriptor::new(media::INDEX, digest.clone(), size);
        let kind = referrers::PROVENANCE;
        // A referrer may be there before its subject.
        tokio::try_join!(
            async { Ok(self.hosting.push_manifest(&repository, media::INDEX, index).await?) },
            async { Ok(self.store.note_index(&digest, &repository, manifests).await?) },
            referrers::push(self.hosting, &repository, kind, &subject, &provenance, &[]),
        )?;
        Ok(EntryRow {
            variant: variant.clone(),
            repository,
            digest,
            origin: EntryOrigin::New,
            reason: reason.to_owned(),
        })
    }

    /// Whether a following channel answers something else than this branch holds: it is new, was restored from a backup, or
    /// stands on the release of another branch (a default branch renamed back, a folder that was run as it stood). Then a
    /// release is due though no digest of this branch changed.
    async fn answers_other(
        &self,
        channels: &[(ChannelName, u32)],
        released: &Released,
    ) -> Result<bool, ControlError> {
        for row in self.store.channels(self.run.source).await? {
            if channels.iter().any(|(name, _)| *name == row.name) && row.release != released.number {
                let held = match row.release {
                    Some(number) => self.store.entries(self.run.source, number).await?,
                    None => Vec::new(),
                };
                if places(&held) != places(&released.entries) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The channels that take what this branch releases, each with the generation it is at.
    async fn following(&self, definition: &Definition) -> Result<Vec<(ChannelName, u32)>, ControlError> {
        if !self.watched.settings.publish {
            return Ok(Vec::new());
        }
        let default = self.watched.default_branch(self.store).await?;
        let follows = |name: &ChannelName| follows(definition, name, &self.run.branch, default.as_deref());
        let channels = self.store.channels(self.run.source).await?;
        Ok(channels
            .into_iter()
            .filter(|channel| channel.hold.is_none() && follows(&channel.name))
            .map(|channel| (channel.name, channel.generation))
            .collect())
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

/// Whether a channel takes what a branch releases at once: it follows the branch, or a channel that does, without delay.
fn follows(definition: &Definition, name: &ChannelName, branch: &str, default: Option<&str>) -> bool {
    let mut name = name;
    // Channels are declared acyclic; the bound keeps a mistake from looping.
    for _ in 0..=definition.source.channels.len() {
        let Some(channel) = definition.source.channels.get(name) else { return false };
        match &channel.follows {
            Follows::DefaultBranch => return default == Some(branch),
            Follows::Branch(followed) => return followed == branch,
            Follows::Channel(_) if channel.after.is_some() => return false,
            Follows::Channel(other) => name = other,
        }
    }
    false
}
