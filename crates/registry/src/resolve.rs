//! Lookups and writes of names, through the resolver.

use std::collections::BTreeSet;

use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::principal::Principal;
use edgewright_model::reference::{Reference, RepoName, Tag};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::error::RegistryError;
use crate::metadata::{Change, ManifestRow, NewManifest, Page};
use crate::ports::{Contents, Lookup, Resolution};
use crate::registry::Inner;

impl Inner {
    /// A manifest by tag or digest, with its digest.
    pub(crate) async fn manifest(
        &self,
        principal: &Principal,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<(Digest, ManifestRow), RegistryError> {
        let unknown = || RegistryError::ManifestUnknown {
            repository: repository.clone(),
            reference: reference.clone(),
        };
        let lookup = Lookup::Manifest(reference);
        let (home, digest) = match (self.resolver.resolve(principal, repository, lookup).await, reference) {
            (Resolution::Reserved(target), _) => {
                let target = target.ok_or_else(unknown)?;
                (target.repository, target.digest)
            }
            (Resolution::Ordinary, Reference::Digest(digest)) => (repository.clone(), digest.clone()),
            (Resolution::Ordinary, Reference::Tag(tag)) => {
                (repository.clone(), self.metadata.tag(repository, tag).await?.ok_or_else(unknown)?)
            }
            (Resolution::Unavailable, _) => return Err(RegistryError::ResolverUnavailable),
        };
        let row = self.metadata.manifest(&home, &digest).await?.ok_or_else(unknown)?;
        Ok((digest, row))
    }

    /// The repository of a digest that a client looks up: another one if the named one is virtual, none if
    /// the virtual one does not have it.
    pub(crate) async fn home(
        &self,
        principal: &Principal,
        repository: &RepoName,
        lookup: Lookup<'_>,
    ) -> Result<Option<RepoName>, RegistryError> {
        match self.resolver.resolve(principal, repository, lookup).await {
            Resolution::Ordinary => Ok(Some(repository.clone())),
            Resolution::Reserved(target) => Ok(target.map(|target| target.repository)),
            Resolution::Unavailable => Err(RegistryError::ResolverUnavailable),
        }
    }

    pub(crate) async fn store_manifest(
        &self,
        principal: &Principal,
        repository: &RepoName,
        manifest: NewManifest,
        tags: Vec<Tag>,
    ) -> Result<(), RegistryError> {
        // Also checked for digests: clients cannot write into a virtual repository.
        let by_digest = Reference::Digest(manifest.digest.clone());
        for reference in tags.iter().cloned().map(Reference::Tag).chain([by_digest]) {
            self.reject_reserved(principal, repository, &reference).await?;
        }
        self.metadata.change(Change::StoreManifest { repository: repository.clone(), manifest, tags }).await
    }

    pub(crate) async fn reject_reserved(
        &self,
        principal: &Principal,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<(), RegistryError> {
        match self.resolver.resolve(principal, repository, Lookup::Manifest(reference)).await {
            Resolution::Ordinary => Ok(()),
            Resolution::Reserved(_) => {
                Err(RegistryError::Reserved { repository: repository.clone(), reference: reference.clone() })
            }
            Resolution::Unavailable => Err(RegistryError::ResolverUnavailable),
        }
    }

    /// A page of ordinary and reserved tags. An ordinary tag that became reserved later is listed once.
    pub(crate) async fn tags(
        &self,
        principal: &Principal,
        repository: &RepoName,
        page: &Page,
    ) -> Result<Vec<Tag>, RegistryError> {
        let mut tags: BTreeSet<Tag> = self.metadata.tags(repository, page).await?.into_iter().collect();
        let reserved = self.resolver.tags(principal, repository).await;
        if tags.is_empty() && reserved.is_empty() && !self.metadata.has_repository(repository).await? {
            return Err(RegistryError::NameUnknown(repository.clone()));
        }
        tags.extend(reserved.into_iter().filter(|tag| *tag.as_str() > *page.after));
        Ok(tags.into_iter().take(page.limit).collect())
    }
}

impl Contents for Inner {
    fn refers<'a>(
        &'a self,
        repository: &'a RepoName,
        manifests: &'a [Digest],
        blob: &'a Digest,
    ) -> BoxFuture<'a, bool> {
        async move {
            for manifest in manifests {
                match self.metadata.refers(repository, manifest, blob).await {
                    Ok(true) => return true,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(error = %Chain(&error), "cannot read the references of a manifest");
                        return false;
                    }
                }
            }
            false
        }
        .boxed()
    }
}
