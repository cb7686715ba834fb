//! Releases.

use edgewright_api::{ReleaseEntry, ReleaseView};
use edgewright_model::names::SourceName;

use super::{ViewError, Views};

impl Views {
    /// The newest releases of each source, newest first.
    pub async fn releases(
        &self,
        source: Option<&SourceName>,
        limit: u32,
    ) -> Result<Vec<ReleaseView>, ViewError> {
        let mut views = Vec::new();
        for source in self.selected(source).await? {
            let channels = self.store.channels(source.id).await?;
            for row in self.store.releases(source.id, limit).await? {
                let entries = self.store.entries(source.id, row.number).await?;
                views.push(ReleaseView {
                    number: row.number,
                    source: source.name.clone(),
                    branch: row.branch,
                    commit: row.commit.to_string(),
                    run: row.run,
                    created: row.created_at,
                    channels: channels
                        .iter()
                        .filter(|channel| channel.completed == Some(row.number))
                        .map(|channel| channel.name.clone())
                        .collect(),
                    entries: entries
                        .into_iter()
                        .map(|entry| ReleaseEntry {
                            variant: entry.variant,
                            repository: entry.repository,
                            digest: entry.digest,
                            origin: entry.origin,
                            reason: entry.reason,
                        })
                        .collect(),
                });
            }
        }
        views.sort_by_key(|view| std::cmp::Reverse(view.created));
        views.truncate(limit as usize);
        Ok(views)
    }
}
