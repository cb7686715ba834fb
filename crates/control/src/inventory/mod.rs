//! Inventory: what the default branch of a source declares apart from images: its name, channels, sites with
//! their slots, and rollout policies. It is applied at every poll, whatever runs do: a red or a running build
//! delays none of it.
//!
//! A source owns its name: the first one that declares it on its default branch. Other refs have to declare
//! the same, and do not decide about channels. A new source with the name of one that is no longer followed
//! is the same source under another address (`run` in a clone, then `serve` of its remote): it adopts that
//! history. A commit whose `edgewright.yaml` has errors changes nothing; a site that has errors stays as it
//! is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use edgewright_model::names::{ChannelName, CommitId, RolloutName, SiteName, SourceName};
use edgewright_model::resolve::variant_at;
use edgewright_model::spec::{ChannelSpec, Definition, RolloutSpec, SiteSpec};
use edgewright_process::Clock;
use edgewright_store::Store;
use edgewright_store::inventory::{Declaration, SiteRow, SlotRow};
use edgewright_store::sources::SourceId;

use crate::ControlError;

/// Applies what default branches declare. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Inventory {
    store: Store,
    clock: Clock,
    /// What was applied last, so that a commit that declares the same costs one small write.
    last: Arc<Mutex<BTreeMap<SourceId, Arc<Declared>>>>,
    /// The commit that could not be read last, so that it is not read again at every poll.
    broken: Arc<Mutex<BTreeMap<SourceId, CommitId>>>,
}

/// What a definition declares apart from images.
#[derive(Debug, Clone, PartialEq)]
struct Declared {
    name: SourceName,
    channels: BTreeMap<ChannelName, ChannelSpec>,
    policies: BTreeMap<RolloutName, RolloutSpec>,
    sites: Vec<SiteRow>,
    broken: BTreeSet<SiteName>,
}

/// What became of a commit's declarations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// They are what the inventory holds already.
    Unchanged,
    /// The inventory holds them now.
    Changed,
    /// They are not valid; the earlier ones stay in effect.
    Refused,
}

impl Inventory {
    pub(crate) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock, last: Arc::default(), broken: Arc::default() }
    }

    /// Whether the inventory of a source is of this commit already, or the commit has errors that make it
    /// useless.
    pub(crate) async fn is_of(&self, source: SourceId, commit: &CommitId) -> Result<bool, ControlError> {
        let is_broken = self.broken().get(&source) == Some(commit);
        Ok(is_broken || self.store.inventory_state(source).await?.commit.as_ref() == Some(commit))
    }

    /// Applies what a commit of the default branch declares. `followed` are the sources that are configured.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub(crate) async fn take(
        &self,
        source: SourceId,
        commit: &CommitId,
        definition: Option<&Definition>,
        followed: &BTreeSet<SourceId>,
    ) -> Result<Taken, ControlError> {
        let Some(definition) = definition else {
            self.store
                .note_inventory_error(
                    source,
                    "edgewright.yaml is missing or has errors, or the commit exceeds a limit",
                )
                .await?;
            self.broken().insert(source, commit.clone());
            return Ok(Taken::Refused);
        };
        let (definition, _) = definition.with_site_names(&self.store.site_names(source).await?);
        let declared = declared(&definition);
        if let Some(other) = self.owner(source, &declared.name, followed).await? {
            self.store.note_inventory_error(source, &taken_name(&declared.name, &other)).await?;
            return Ok(Taken::Refused);
        }
        let now = self.clock.now();
        if self.last().get(&source).is_some_and(|last| **last == declared) {
            self.store.note_inventory_commit(source, commit, now).await?;
            return Ok(Taken::Unchanged);
        }
        if let Some(adopted) = self.store.adopt_source(source, &declared.name, followed).await? {
            tracing::info!(
                definition.name = %declared.name,
                adopted.source = %adopted,
                "history of the same source under another address adopted"
            );
        }
        let declaration = Declaration {
            commit,
            name: &declared.name,
            channels: &declared.channels,
            policies: &declared.policies,
            sites: &declared.sites,
            broken: &declared.broken,
        };
        self.store.declare_inventory(source, &declaration, now).await?;
        self.last().insert(source, Arc::new(declared));
        Ok(Taken::Changed)
    }

    /// Why a run of a source must not write under the name that its commit declares; none where it may.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) async fn name_fault(
        &self,
        source: SourceId,
        name: &SourceName,
        followed: &BTreeSet<SourceId>,
    ) -> Result<Option<String>, ControlError> {
        if let Some(other) = self.owner(source, name, followed).await? {
            return Ok(Some(taken_name(name, &other)));
        }
        let owned = self.store.source(source).await?.definition_name;
        Ok(match owned {
            Some(owned) if owned == *name => None,
            Some(owned) => Some(format!(
                "edgewright.yaml declares `name: {name}`, but the default branch declares `name: {owned}`: only the default branch can rename a source"
            )),
            None => Some(format!(
                "edgewright.yaml declares `name: {name}`, but the default branch has not declared a name yet"
            )),
        })
    }

    /// Another source that is followed and owns a name.
    async fn owner(
        &self,
        source: SourceId,
        name: &SourceName,
        followed: &BTreeSet<SourceId>,
    ) -> Result<Option<SourceName>, ControlError> {
        let sources = self.store.sources().await?;
        let other = sources.into_iter().find(|other| {
            other.definition_name.as_ref() == Some(name) && other.id != source && followed.contains(&other.id)
        });
        Ok(other.map(|other| other.name))
    }

    fn broken(&self) -> std::sync::MutexGuard<'_, BTreeMap<SourceId, CommitId>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> std::sync::MutexGuard<'_, BTreeMap<SourceId, Arc<Declared>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn taken_name(name: &SourceName, other: &SourceName) -> String {
    format!(
        "`name: {name}` in edgewright.yaml is the name of source `{other}` already: both would write to the repositories {name}/…; rename one"
    )
}

fn declared(definition: &Definition) -> Declared {
    Declared {
        name: definition.source.name.clone(),
        channels: definition.source.channels.clone(),
        policies: definition.source.rollouts.clone(),
        sites: definition.sites.values().map(|site| site_row(definition, site)).collect(),
        broken: definition.broken_sites.clone(),
    }
}

fn site_row(definition: &Definition, site: &SiteSpec) -> SiteRow {
    let mut slots: Vec<SlotRow> = site
        .slots
        .iter()
        .map(|slot| SlotRow {
            id: slot.id.clone(),
            name: slot.name.clone(),
            image: slot.image.clone(),
            variant: definition.images.get(&slot.image).map(|image| variant_at(image, site, slot)),
            channel: slot.channel.clone(),
            labels: slot.labels.clone(),
            removed_at: None,
        })
        .collect();
    // As the database gives them.
    slots.sort_by(|a, b| a.id.cmp(&b.id));
    SiteRow {
        id: site.id.clone(),
        name: site.name.clone(),
        labels: site.labels.clone(),
        slots,
        removed_at: None,
    }
}
