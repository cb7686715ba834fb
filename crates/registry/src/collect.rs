//! Garbage collection: unreferenced content is removed from the database, then from the disk.
//!
//! ```text
//!  roots: tags, pins, targets of reserved tags, content younger than a day ─▶ their children and referrers
//!  the rest: manifests deleted ─▶ blobs unlinked
//!            ─▶ one collection later: condemned ─▶ file removed ─▶ row removed
//! ```
//!
//! A blob that a push is about to refer to is young: its age counts from its upload, its mount, or a HEAD
//! that found it. A condemned blob is invisible to clients; a push restores it. A crash between two steps
//! leaves a condemned row, which the next collection handles.

use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::reference::{Reference, RepoName};
use tokio::task::spawn_blocking;

use crate::error::RegistryError;
use crate::metadata::{BlobRow, Change, Page, unix_millis};
use crate::ports::{Lookup, Resolution, Target};
use crate::registry::{Inner, OWNER, Registry};
use crate::types::Collected;

impl Registry {
    /// Removes unreferenced content, as of `now`. Call it hourly, after pins were removed.
    pub async fn collect(&self, now: jiff::Timestamp) -> Result<Collected, RegistryError> {
        let inner = &self.0;
        let (manifests, _) = inner.metadata.counts().await?;
        let now = now.as_millisecond();
        let (before, held) = (now - inner.collect_after(), inner.reserved().await?);
        inner.metadata.change(Change::Collect { now, before, held }).await?;
        let (left, _) = inner.metadata.counts().await?;
        let mut collected = Collected { manifests: manifests.saturating_sub(left), blobs: 0 };
        for digest in inner.metadata.condemned().await? {
            collected.blobs += u64::from(inner.remove_condemned(&digest).await?);
        }
        Ok(collected)
    }

    /// Removes manifests or blobs from a pin; the others stay pinned.
    pub async fn release(&self, name: &str, held: &[(RepoName, Digest)]) -> Result<(), RegistryError> {
        self.0.metadata.change(Change::Release { name: name.to_owned(), held: held.to_vec() }).await
    }
}

impl Inner {
    fn collect_after(&self) -> i64 {
        i64::try_from(self.settings.collect_after.as_millis()).unwrap_or(i64::MAX)
    }

    /// The targets of reserved tags. If the resolver is unavailable, collection fails rather than delete
    /// them.
    async fn reserved(&self) -> Result<Vec<(RepoName, Digest)>, RegistryError> {
        let mut held = Vec::new();
        for repository in self.metadata.repositories(&Page::all()).await? {
            for tag in self.resolver.tags(&OWNER, &repository).await {
                let reference = Reference::Tag(tag);
                match self.resolver.resolve(&OWNER, &repository, Lookup::Manifest(&reference)).await {
                    Resolution::Reserved(Some(Target { repository, digest })) => {
                        held.push((repository, digest));
                    }
                    Resolution::Reserved(None) | Resolution::Ordinary => {}
                    Resolution::Unavailable => return Err(RegistryError::ResolverUnavailable),
                }
            }
        }
        Ok(held)
    }

    /// Removes a condemned blob, unless it was pushed again meanwhile.
    async fn remove_condemned(&self, digest: &Digest) -> Result<bool, RegistryError> {
        // Pushes of this digest wait for the lock, or have ended and changed the row.
        let _publishing = self.uploads.publishing(digest).await;
        if !self.metadata.is_condemned(digest).await? {
            return Ok(false);
        }
        let (store, named) = (Arc::clone(&self.store), digest.clone());
        spawn_blocking(move || store.remove(&named)).await??;
        self.metadata.change(Change::DropBlob(digest.clone())).await?;
        Ok(true)
    }

    /// Resets the age of an old blob: a client that asks whether it exists may refer to it next.
    pub(crate) async fn renew(
        &self,
        repository: &RepoName,
        digest: &Digest,
        row: &BlobRow,
    ) -> Result<(), RegistryError> {
        if unix_millis() - row.linked_at < self.collect_after() / 2 {
            return Ok(());
        }
        let (repository, digest) = (repository.clone(), digest.clone());
        self.metadata.change(Change::RenewBlob { repository, digest }).await
    }
}
