//! The state of a source's variants: its newest release and its newest plan.

use std::collections::BTreeMap;

use edgewright_api::ImageState;
use edgewright_model::names::VariantName;
use edgewright_model::outcome::JobFailure;
use edgewright_model::run::{EntryOrigin, NodeState, RunNumber};
use edgewright_store::channels::ChannelRow;
use edgewright_store::nodes::NodeRow;
use edgewright_store::releases::{EntryRow, ReleaseRow};
use edgewright_store::sources::SourceRow;
use jiff::Timestamp;

use crate::views::{ViewError, Views};

/// A source's newest release and newest plan, which decide the state of its variants.
pub(super) struct SourceState {
    pub(super) source: SourceRow,
    pub(super) release: Option<ReleaseRow>,
    pub(super) entries: BTreeMap<VariantName, EntryRow>,
    pub(super) channels: Vec<ChannelRow>,
    /// The nodes of variants in the newest plan, one per platform.
    pub(super) nodes: BTreeMap<VariantName, Vec<NodeRow>>,
    /// The variants that are retired but not collected yet, and since when.
    pub(super) retired: BTreeMap<VariantName, Timestamp>,
}

impl Views {
    /// Loads the newest release and plan of a source.
    pub(super) async fn source_state(&self, source: SourceRow) -> Result<SourceState, ViewError> {
        let release = self.store.releases(source.id, 1).await?.into_iter().next();
        let entries = match &release {
            Some(release) => self.store.entries(source.id, release.number).await?,
            None => Vec::new(),
        };
        let mut nodes: BTreeMap<VariantName, Vec<NodeRow>> = BTreeMap::new();
        let mut retired = BTreeMap::new();
        if let Some(run) = self.store.planned_before(RunNumber(u32::MAX), source.id.domain(true)).await? {
            for head in self.store.heads(run.domain(), &run.branch).await? {
                retired.extend(head.retired_at.map(|at| (head.variant, at)));
            }
            for node in self.store.nodes(run.number).await? {
                // A retired variant that was collected after that plan no longer exists.
                let is_collected =
                    |variant| node.state == NodeState::Retired && !retired.contains_key(variant);
                if let Some(variant) = node.variant.clone()
                    && !is_collected(&variant)
                {
                    nodes.entry(variant).or_default().push(node);
                }
            }
        }
        Ok(SourceState {
            retired,
            release,
            entries: entries.into_iter().map(|entry| (entry.variant.clone(), entry)).collect(),
            channels: self.store.channels(source.id).await?,
            nodes,
            source,
        })
    }
}

impl SourceState {
    /// The variants of release and plan, by name.
    pub(super) fn variants(&self) -> impl Iterator<Item = &VariantName> {
        let unreleased = self.nodes.keys().filter(|variant| !self.entries.contains_key(*variant));
        let mut all: Vec<_> = self.entries.keys().chain(unreleased).collect();
        all.sort();
        all.into_iter()
    }

    /// The state of a variant, and the reason if it is not current.
    pub(super) fn state(&self, variant: &VariantName) -> (ImageState, Option<String>) {
        let entry = self.entries.get(variant);
        let nodes = self.nodes.get(variant).map(Vec::as_slice).unwrap_or_default();
        let any = |state| nodes.iter().find(|node| node.state == state);
        if let Some(node) = any(NodeState::Retired) {
            let reason = self.retired.get(variant).map_or_else(
                || node.reason.clone(),
                |at| format!("{} (since {})", node.reason, at.strftime("%Y-%m-%d")),
            );
            return (ImageState::Retired, Some(reason));
        }
        if let Some(node) = any(NodeState::Failed).or_else(|| any(NodeState::Blocked)) {
            let message = |failure: &JobFailure| format!("{}: {}", failure.kind, failure.message);
            let reason = node.failure.as_ref().map_or_else(|| node.reason.clone(), message);
            let state = if entry.is_some() { ImageState::Carried } else { ImageState::Absent };
            return (state, Some(reason));
        }
        if let Some(node) = any(NodeState::Running).or_else(|| any(NodeState::Waiting)) {
            return (ImageState::Pending, Some(node.reason.clone()));
        }
        match entry {
            None => (ImageState::Absent, nodes.first().map(|node| node.reason.clone())),
            Some(entry) if nodes.is_empty() && entry.origin == EntryOrigin::Carried => {
                (ImageState::Carried, Some(entry.reason.clone()))
            }
            Some(_) => (ImageState::Current, None),
        }
    }
}
