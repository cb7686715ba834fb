//! What a person asks of a channel besides waiting: a release before its turn, and the way back.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::names::{ChannelName, VariantName};
use edgewright_model::role::Scope;
use edgewright_model::run::{EntryOrigin, ReleaseNumber};
use edgewright_store::channels::{ChannelMove, ChannelRow};
use edgewright_store::releases::EntryRow;
use edgewright_store::rollouts::RollBack;
use edgewright_store::sources::{SourceId, SourceRow};
use serde_json::json;

use super::channels::Channels;
use crate::ControlError;
use crate::access::Operation;
use crate::context::OperationContext;

impl Channels {
    /// Moves a channel to a release before its turn. A release that the channel is at, or on the way to,
    /// changes nothing.
    ///
    /// # Errors
    /// The caller may not, the channel is held or pinned, the release is not there, not newer, quarantined,
    /// or was not tested as an update of what the channel has.
    pub(crate) async fn promote(
        &self,
        context: &OperationContext,
        source: &SourceRow,
        name: &ChannelName,
        (release, reason): (ReleaseNumber, &str),
    ) -> Result<ChannelRow, ControlError> {
        let scope = Scope { source: Some(&source.name), channel: Some(name), ..Scope::default() };
        context.permit(Operation::Promote, scope)?;
        let channel = self.channel(source, name).await?;
        if channel.target == Some(release) {
            return Ok(channel);
        }
        let stays = |why: String| ControlError::ChannelStays { channel: name.clone(), why };
        if let Some(pin) = &channel.pin {
            return Err(stays(format!("pinned to release {}: {}", pin.release, pin.reason)));
        }
        if let Some(why) = channel.held() {
            return Err(stays(format!("held: {why}")));
        }
        if channel.removed_at.is_some() {
            return Err(stays("no commit of the default branch declares it".to_owned()));
        }
        let furthest = channel.target.max(channel.completed).max(Some(channel.floor));
        if let Some(has) = furthest.filter(|has| *has >= release) {
            return Err(ControlError::NotForward { channel: name.clone(), release, has });
        }
        self.check_release(source, &channel, release).await?;
        let decided = ChannelMove {
            channel: name.clone(),
            generation: channel.generation,
            release,
            reason: format!("promoted: {reason}"),
            is_staged: self.is_staged(source.id, &channel).await?,
        };
        let entry = context.entry(
            Operation::Promote,
            format!("{}/channels/{name}", source.name),
            Some(json!({ "target": channel.target, "release": channel.completed })),
            Some(json!({ "target": release, "reason": reason })),
        );
        self.store().promote(source.id, &decided, (&entry, self.now())).await?;
        self.moved().await?;
        self.advance(source.id).await?;
        self.channel(source, name).await
    }

    /// Moves a channel back: to `to`, or to what it had before. A new release with the former digests, what
    /// they replace is quarantined, and the channel is held.
    ///
    /// # Errors
    /// The caller may not, or there is nothing to go back to.
    pub(crate) async fn roll_back(
        &self,
        context: &OperationContext,
        source: &SourceRow,
        name: &ChannelName,
        (to, reason): (Option<ReleaseNumber>, &str),
    ) -> Result<ChannelRow, ControlError> {
        let scope = Scope { source: Some(&source.name), channel: Some(name), ..Scope::default() };
        context.permit(Operation::RollBack, scope)?;
        let channel = self.channel(source, name).await?;
        let nothing = || ControlError::NothingBefore { channel: name.clone() };
        let bad = channel.target.or(channel.completed).ok_or_else(nothing)?;
        let old = match to {
            Some(to) => to,
            None => self.release_before(source.id, &channel, bad).await?.ok_or_else(nothing)?,
        };
        let (bad_entries, old_entries) =
            (self.store().entries(source.id, bad).await?, self.store().entries(source.id, old).await?);
        if old_entries.is_empty() {
            return Err(ControlError::NoRelease { source_name: source.name.clone(), release: old });
        }
        let entries = former(&bad_entries, &old_entries, old);
        let kept: BTreeSet<&Digest> = entries.iter().map(|entry| &entry.digest).collect();
        let quarantine: Vec<Digest> = bad_entries
            .iter()
            .map(|entry| &entry.digest)
            .filter(|digest| !kept.contains(digest))
            .cloned()
            .collect();
        if quarantine.is_empty() {
            return Err(nothing());
        }
        self.check_quarantine(source.id, kept).await?;
        let why = format!("rolled back from release {bad} to {old}: {reason}");
        let entry = context.entry(
            Operation::RollBack,
            format!("{}/channels/{name}", source.name),
            Some(json!({ "target": channel.target, "release": channel.completed })),
            Some(json!({ "to": old, "reason": reason, "quarantined": quarantine })),
        );
        let wanted = RollBack {
            source: source.id,
            channel: name.clone(),
            generation: channel.generation,
            bad,
            entries,
            quarantine,
            reason: why,
            is_staged: self.is_staged(source.id, &channel).await?,
        };
        let number = self.store().roll_back(&wanted, (&entry, self.now())).await?;
        tracing::info!(
            channel.name = %name,
            release.number = number.0,
            release.bad = bad.0,
            release.former = old.0,
            "channel rolled back"
        );
        self.moved().await?;
        self.advance(source.id).await?;
        self.channel(source, name).await
    }

    /// The release that a channel had before another one.
    async fn release_before(
        &self,
        source: SourceId,
        channel: &ChannelRow,
        bad: ReleaseNumber,
    ) -> Result<Option<ReleaseNumber>, ControlError> {
        if let Some(completed) = channel.completed.filter(|completed| *completed != bad) {
            return Ok(Some(completed));
        }
        let quarantined = self.store().quarantined_releases(source).await?;
        let moves = self.store().channel_moves(source, ReleaseNumber(0)).await?;
        let before = moves.iter().rev().find(|one| {
            one.channel == channel.name && one.release < bad && !quarantined.contains(&one.release)
        });
        Ok(before.map(|one| one.release))
    }

    /// Whether a channel may move to a release: it is there, nothing in it is quarantined, and where its
    /// variants are tested as updates, they were as updates of what the channel has; else that is tested
    /// next. A release that is older than the channel's needs no such test: its digests were on devices
    /// before.
    pub(super) async fn check_release(
        &self,
        source: &SourceRow,
        channel: &ChannelRow,
        release: ReleaseNumber,
    ) -> Result<(), ControlError> {
        let entries = self.store().entries(source.id, release).await?;
        if entries.is_empty() {
            return Err(ControlError::NoRelease { source_name: source.name.clone(), release });
        }
        self.check_quarantine(source.id, entries.iter().map(|entry| &entry.digest).collect()).await?;
        let Some(completed) = channel.completed.filter(|completed| *completed < release) else {
            return Ok(());
        };
        let updates = self.untested(source.id, completed, &entries).await?;
        let Some(first) = updates.iter().find(|update| update.failed.is_some()).or(updates.first()) else {
            return Ok(());
        };
        let (update, failed) = (first.to_string(), first.failed.clone());
        if failed.is_none() {
            self.want_test(source.id, channel, (completed, release), updates);
        }
        Err(ControlError::NotTested { update, release, from: completed, failed })
    }

    async fn check_quarantine(
        &self,
        source: SourceId,
        digests: BTreeSet<&Digest>,
    ) -> Result<(), ControlError> {
        let quarantine = self.store().quarantine().await?;
        let found = quarantine.into_iter().find(|one| one.source == source && digests.contains(&one.digest));
        match found {
            Some(one) => Err(ControlError::Quarantined { digest: one.digest, why: one.reason }),
            None => Ok(()),
        }
    }

    /// Ends the quarantine of a digest; false if it was not quarantined.
    ///
    /// # Errors
    /// The caller may not; the database cannot be written.
    pub(crate) async fn clear_quarantine(
        &self,
        context: &OperationContext,
        source: &SourceRow,
        digest: &Digest,
    ) -> Result<bool, ControlError> {
        context.permit(Operation::ClearQuarantine, Some(&source.name))?;
        let object = format!("{}/quarantine/{digest}", source.name);
        let entry = context.entry(Operation::ClearQuarantine, object, Some(json!("quarantined")), None);
        let is_cleared = self.store().clear_quarantine(source.id, digest, (&entry, self.now())).await?;
        self.wake().wake("a quarantine ended");
        self.rollouts().wake("a quarantine ended");
        Ok(is_cleared)
    }
}

/// The entries of a release that takes another back: the former digest of each variant, where it has one.
fn former(bad: &[EntryRow], old: &[EntryRow], number: ReleaseNumber) -> Vec<EntryRow> {
    let before: BTreeMap<&VariantName, &EntryRow> = old.iter().map(|entry| (&entry.variant, entry)).collect();
    bad.iter()
        .map(|entry| {
            let (from, reason) = match before.get(&entry.variant) {
                Some(former) => (*former, format!("as in release {number}")),
                None => (entry, format!("release {number} does not have it")),
            };
            EntryRow { origin: EntryOrigin::Carried, reason, ..from.clone() }
        })
        .collect()
}
