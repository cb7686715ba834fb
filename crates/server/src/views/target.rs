//! External registries and their copies.

use std::collections::BTreeMap;

use edgewright_api::TargetView;
use edgewright_store::targets::CopyRow;

use super::{ViewError, Views};

impl Views {
    /// The copy of each channel in each target. A server shows only targets that it is configured with.
    pub async fn targets(&self) -> Result<Vec<TargetView>, ViewError> {
        let live = self.serving.as_ref().map(|serving| serving.live.now());
        let mut copies = self.store.copies().await?;
        copies.retain(|row| {
            let is_configured = |name: &str| {
                live.as_ref().is_none_or(|live| live.targets.iter().any(|target| target.name == name))
            };
            is_configured(&row.key.target)
        });
        Ok(views(copies))
    }

    /// Each target with the number of channels that are not copied yet, and the largest number of failed
    /// attempts in a row of one channel.
    pub(crate) async fn target_backlog(&self) -> Result<Vec<(String, u64, u64)>, ViewError> {
        let mut backlog: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for view in self.targets().await? {
            let (behind, failures) = backlog.entry(view.target).or_default();
            *behind += u64::from(view.state != "copied");
            *failures = (*failures).max(view.failures.into());
        }
        Ok(backlog.into_iter().map(|(target, (behind, failures))| (target, behind, failures)).collect())
    }
}

/// One document per channel, from copies that are sorted by channel, newest release first.
fn views(copies: Vec<CopyRow>) -> Vec<TargetView> {
    let mut views: Vec<TargetView> = Vec::new();
    for row in copies {
        let is_copied = row.state == "copied";
        let key = row.key;
        let same = |view: &&mut TargetView| {
            view.target == key.target && view.source == row.source_name && view.channel == key.channel
        };
        if let Some(view) = views.last_mut().filter(same) {
            if view.copied.is_none() && is_copied {
                view.copied = Some(key.release);
            }
            continue;
        }
        views.push(TargetView {
            target: key.target,
            source: row.source_name,
            channel: key.channel,
            release: key.release,
            copied: is_copied.then_some(key.release),
            state: row.state,
            changed: row.changed_at,
            failures: row.failures,
            error: row.error,
            hint: row.hint,
        });
    }
    views
}
