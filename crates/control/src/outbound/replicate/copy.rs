//! One image to a target: blobs, manifests, index, then what refers to them. Every step can be done again to
//! no effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::reference::{Reference, RepoName, Tag};
use edgewright_oci::client::{Client, ClientError, ManifestBytes};
use edgewright_oci::media::Descriptor;
use edgewright_store::StoreError;
use futures::future::{BoxFuture, FutureExt as _};
use serde::Deserialize;

use super::template::TemplateError;

/// Why a copy was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// A name.
    #[error("there is no name for an image")]
    Name(#[from] TemplateError),
    /// Two images would be one.
    #[error("`{first}` and `{second}` both become {name}")]
    Clash {
        /// One image.
        first: String,
        /// The other.
        second: String,
        /// Repository and tag.
        name: String,
    },
    /// Our own registry.
    #[error("the image cannot be read here")]
    Here(#[source] ClientError),
    /// The target.
    #[error("the target did not take an image")]
    There(#[source] ClientError),
    /// Something that is no manifest.
    #[error("manifest {digest} does not read as one")]
    Manifest {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The database.
    #[error("control's database failed")]
    Store(#[from] StoreError),
}

impl CopyError {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<String> {
        let there = match self {
            Self::Name(_) => {
                return Some("use a shorter template: `repository` and `tag` of the target".to_owned());
            }
            Self::Clash { .. } => {
                let hint = "give each image a name of its own: more placeholders in `repository` or `tag` of the target";
                return Some(hint.to_owned());
            }
            Self::Here(error) => return error.hint(),
            Self::Manifest { .. } | Self::Store(_) => return None,
            Self::There(error) => error,
        };
        let hint = match there {
            ClientError::Unreachable { registry, .. } => format!(
                "is {registry} up, and its certificate known here? `ca_file` names another authority, \
                 `url = \"http://…\"` does without"
            ),
            _ => match there.class() {
                ErrorClass::Denied => {
                    "put `user` with `password_file`, or `token_file` of the target right, \
                                       and give it the right to push; SIGHUP reads them again at once"
                        .to_owned()
                }
                ErrorClass::NotFound => "make the project or namespace in the target first, \
                                         or change `repository`: not every registry makes them at a push"
                    .to_owned(),
                _ => return there.hint(),
            },
        };
        Some(hint)
    }
}

/// What a manifest or index names.
#[derive(Deserialize)]
struct Contents {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    config: Option<Descriptor>,
}

fn contents(manifest: &ManifestBytes) -> Result<Contents, CopyError> {
    serde_json::from_slice(&manifest.bytes)
        .map_err(|source| CopyError::Manifest { digest: manifest.digest.clone(), source })
}

/// Where a blob is known to be in the target; held while it is brought there, so that images that share it
/// bring it once.
type Place = Arc<tokio::sync::Mutex<BTreeSet<RepoName>>>;

/// Copies between two registries.
pub(super) struct Copier<'a> {
    here: &'a Client,
    there: &'a Client,
    places: Mutex<BTreeMap<Digest, Place>>,
    /// The fallback tag of referrers is read, changed and written: one at a time.
    referring: tokio::sync::Mutex<()>,
}

impl<'a> Copier<'a> {
    pub(super) fn new(here: &'a Client, there: &'a Client) -> Self {
        Self { here, there, places: Mutex::default(), referring: tokio::sync::Mutex::default() }
    }

    /// Makes an index, its manifests and their blobs stand in a repository of the target, and with
    /// `referrers` all that refers to them here.
    pub(super) async fn image(
        &self,
        from: &RepoName,
        digest: &Digest,
        to: &RepoName,
        referrers: bool,
    ) -> Result<(), CopyError> {
        let mut subjects = Vec::new();
        self.manifest(from, digest, to, &mut subjects).await?;
        if referrers {
            for subject in &subjects {
                self.referrers(from, subject, to).await?;
            }
        }
        Ok(())
    }

    /// Puts a tag onto an index that is there.
    pub(super) async fn tag(
        &self,
        from: &RepoName,
        digest: &Digest,
        to: &RepoName,
        tag: &Tag,
    ) -> Result<(), CopyError> {
        let index = self.pull(from, digest).await?;
        let tag = Reference::Tag(tag.clone());
        let pushed = self.there.push_manifest(to, &tag, &index.media_type, index.bytes).await;
        pushed.map(drop).map_err(CopyError::There)
    }

    /// The digest that a tag of the target gives.
    pub(super) async fn tagged(&self, to: &RepoName, tag: &Tag) -> Result<Option<Digest>, CopyError> {
        let head = self.there.head_manifest(to, &Reference::Tag(tag.clone())).await;
        Ok(head.map_err(CopyError::There)?.and_then(|head| head.digest))
    }

    async fn pull(&self, from: &RepoName, digest: &Digest) -> Result<ManifestBytes, CopyError> {
        self.here.pull_manifest(from, &Reference::Digest(digest.clone())).await.map_err(CopyError::Here)
    }

    /// Brings a manifest with all that it names, and lists it and its children as subjects.
    fn manifest<'b>(
        &'b self,
        from: &'b RepoName,
        digest: &'b Digest,
        to: &'b RepoName,
        subjects: &'b mut Vec<Digest>,
    ) -> BoxFuture<'b, Result<(), CopyError>> {
        async move {
            let manifest = self.pull(from, digest).await?;
            let contents = contents(&manifest)?;
            // Digests name what was there before them: this ends.
            for child in &contents.manifests {
                self.manifest(from, &child.digest, to, subjects).await?;
            }
            let reference = Reference::Digest(digest.clone());
            // A registry that has a manifest has what it names.
            if self.there.head_manifest(to, &reference).await.map_err(CopyError::There)?.is_none() {
                self.push(from, manifest, &contents, to).await?;
            }
            subjects.push(digest.clone());
            Ok(())
        }
        .boxed()
    }

    async fn push(
        &self,
        from: &RepoName,
        manifest: ManifestBytes,
        contents: &Contents,
        to: &RepoName,
    ) -> Result<(), CopyError> {
        for blob in contents.layers.iter().chain(&contents.config) {
            self.blob(from, blob, to).await?;
        }
        let reference = Reference::Digest(manifest.digest);
        let pushed = self.there.push_manifest(to, &reference, &manifest.media_type, manifest.bytes).await;
        pushed.map(drop).map_err(CopyError::There)
    }

    async fn referrers(&self, from: &RepoName, subject: &Digest, to: &RepoName) -> Result<(), CopyError> {
        let here = self.here.referrers(from, subject, None).await.map_err(CopyError::Here)?;
        if here.is_empty() {
            return Ok(());
        }
        let _one_at_a_time = self.referring.lock().await;
        let there = self.there.referrers(to, subject, None).await.map_err(CopyError::There)?;
        for referrer in here {
            if !there.iter().any(|known| known.digest == referrer.digest) {
                // Even where its manifest is there: a try before may have ended before its subject knew of
                // it.
                let manifest = self.pull(from, &referrer.digest).await?;
                let contents = contents(&manifest)?;
                self.push(from, manifest, &contents, to).await?;
            }
        }
        Ok(())
    }

    async fn blob(&self, from: &RepoName, blob: &Descriptor, to: &RepoName) -> Result<(), CopyError> {
        let place = Arc::clone(
            self.places
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(blob.digest.clone())
                .or_default(),
        );
        let mut known = place.lock().await;
        if known.contains(to) {
            return Ok(());
        }
        let mut done = self.there.has_blob(to, &blob.digest).await.map_err(CopyError::There)?;
        if let Some(other) = known.first().filter(|_| !done) {
            // A registry that refuses a mount wants an upload.
            done = self.there.mount_blob(to, &blob.digest, other).await.unwrap_or(false);
        }
        if !done {
            self.there
                .copy_blob(to, &blob.digest, blob.size, (self.here, from))
                .await
                .map_err(CopyError::There)?;
        }
        known.insert(to.clone());
        Ok(())
    }
}
