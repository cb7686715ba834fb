//! What targets serve devices with: the blobs of images that were copied there.
//!
//! ```text
//!  image copied ─▶ held: index → repositories there ─┬─▶ redirect: a stranger reads the blob there
//!                                                    └─▶ proxy: parts, with the target's credentials
//! ```
//!
//! A device is redirected only to what a client without credentials could read a moment ago. What is read for
//! it is verified by the registry.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::reference::RepoName;
use edgewright_oci::client::{Client, ClientError};
use edgewright_registry::{CopyBytes, CopyError, External, ExternalCopy, Redirection};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::Target;

/// How devices get the blobs of images that a target has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceReads {
    /// They are sent to the target, which they read without credentials.
    Redirect,
    /// The server reads for them what it does not have itself.
    Proxy,
}

/// How long a target may take to show that it gives a blob to strangers; then devices get the server's copy.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a target is left alone that did not respond.
const AWAY: Duration = Duration::from_secs(10);
/// How long a target counts as present after a response.
const PRESENT: Duration = Duration::from_secs(10);
/// How long it is known of a blob that strangers can read it.
const KNOWN: Duration = Duration::from_mins(10);
/// How long it is known of a blob that they cannot.
const DENIED: Duration = Duration::from_mins(1);
/// The limit of concurrent probes of a target.
const PROBES_LIMIT: usize = 8;
/// The limit of blobs whose probes are remembered.
const MEMORY_LIMIT: usize = 20_000;
/// The limit of repositories of a target that are tried for a blob: names may contain the release.
const REPOSITORIES_LIMIT: usize = 3;

/// What the targets serve devices with. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Copies(Arc<RwLock<Vec<Arc<Serving>>>>);

/// The images of a target, and the repositories there that have them.
type Held = Arc<RwLock<BTreeMap<Digest, BTreeSet<RepoName>>>>;

/// A target that serves devices.
pub(super) struct Serving {
    target: String,
    place: String,
    reads: DeviceReads,
    passing: Client,
    probing: Client,
    held: Held,
    permits: Semaphore,
    probes: Mutex<Probes>,
}

/// What a target gave to strangers.
#[derive(Default)]
struct Probes {
    known: HashMap<(RepoName, Digest), (bool, Instant)>,
    present_until: Option<Instant>,
    away_until: Option<Instant>,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("target", &self.target)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

impl Copies {
    /// Serves devices with these targets from now on. What is known of a target that was one of them before
    /// remains.
    ///
    /// # Errors
    /// The address or the certificates of a target are not valid; then nothing changes.
    pub(super) fn replace(&self, targets: &[Target]) -> Result<(), ClientError> {
        let before = self.now();
        let mut serving = Vec::new();
        for target in targets {
            let Some(reads) = target.devices else { continue };
            let place = target.place();
            let known = before.iter().find(|known| known.target == target.name && known.place == place);
            let authority = target.authority.as_deref();
            serving.push(Arc::new(Serving {
                target: target.name.clone(),
                place,
                reads,
                passing: Client::for_passing(&target.url, target.credentials.clone(), authority)?,
                probing: Client::for_probing(&target.url, authority)?,
                held: known.map(|known| Arc::clone(&known.held)).unwrap_or_default(),
                permits: Semaphore::new(PROBES_LIMIT),
                probes: Mutex::default(),
            }));
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = serving;
        Ok(())
    }

    /// Notes images that a target has.
    pub(super) fn add(&self, target: &Target, images: impl IntoIterator<Item = (RepoName, Digest)>) {
        let place = target.place();
        let now = self.now();
        let Some(serving) = now.iter().find(|known| known.target == target.name && known.place == place)
        else {
            return;
        };
        let mut held = serving.held.write().unwrap_or_else(PoisonError::into_inner);
        for (repository, image) in images {
            held.entry(image).or_default().insert(repository);
        }
    }

    fn now(&self) -> Vec<Arc<Serving>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl External for Copies {
    fn is_used(&self) -> bool {
        !self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn redirect<'a>(&'a self, images: &'a [Digest], blob: &'a Digest) -> BoxFuture<'a, Redirection> {
        async move {
            let mut redirection = Redirection::None;
            let all = self.now();
            let targets = all.iter().filter(|it| it.reads == DeviceReads::Redirect);
            let places = targets.flat_map(|it| it.repositories(images).into_iter().map(move |at| (it, at)));
            for (serving, repository) in places.collect::<Vec<_>>() {
                redirection = Redirection::Unavailable;
                if serving.is_public(&repository, blob).await
                    && let Ok(url) = serving.probing.blob_url(&repository, blob)
                {
                    return Redirection::To(url);
                }
            }
            redirection
        }
        .boxed()
    }

    fn copies(&self, images: &[Digest]) -> Vec<Arc<dyn ExternalCopy>> {
        let mut copies: Vec<Arc<dyn ExternalCopy>> = Vec::new();
        for serving in self.now().iter().filter(|it| it.reads == DeviceReads::Proxy) {
            for repository in serving.repositories(images) {
                copies.push(Arc::new(Passage { client: serving.passing.clone(), repository }));
            }
        }
        copies
    }
}

impl Serving {
    /// The repositories that have one of these images.
    fn repositories(&self, images: &[Digest]) -> BTreeSet<RepoName> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let found: BTreeSet<_> = images.iter().filter_map(|image| held.get(image)).flatten().collect();
        found.into_iter().take(REPOSITORIES_LIMIT).cloned().collect()
    }

    /// Whether a client without credentials can read a blob there.
    async fn is_public(&self, repository: &RepoName, blob: &Digest) -> bool {
        let key = (repository.clone(), blob.clone());
        if let Some(known) = self.remembered(&key) {
            return known;
        }
        let Ok(Ok(_permit)) = timeout(PROBE_TIMEOUT, self.permits.acquire()).await else { return false };
        // Another request may have found out meanwhile.
        if let Some(known) = self.remembered(&key) {
            return known;
        }
        let probe = timeout(PROBE_TIMEOUT, self.probing.is_blob_public(repository, blob)).await;
        let problem = match probe {
            Ok(Ok(is_public)) => {
                self.remember(key, is_public);
                if !is_public {
                    tracing::warn!(
                        target.name = self.target,
                        repository = %repository,
                        blob.digest = %blob,
                        "devices are not redirected: the target does not give the blob without credentials"
                    );
                }
                return is_public;
            }
            Ok(Err(error)) => Chain(&error).to_string(),
            Err(_) => "it does not respond in time".to_owned(),
        };
        self.locked().away_until = Some(Instant::now() + AWAY);
        tracing::warn!(target.name = self.target, error = problem, "devices are not redirected to a target");
        false
    }

    /// What is known of a blob. Of a target that is away, that devices cannot read it.
    fn remembered(&self, key: &(RepoName, Digest)) -> Option<bool> {
        let (now, probes) = (Instant::now(), self.locked());
        if probes.away_until.is_some_and(|until| until > now) {
            return Some(false);
        }
        let (is_public, until) = *probes.known.get(key)?;
        let is_present = probes.present_until.is_some_and(|until| until > now);
        (until > now && (is_present || !is_public)).then_some(is_public)
    }

    fn remember(&self, key: (RepoName, Digest), is_public: bool) {
        let (now, mut probes) = (Instant::now(), self.locked());
        if probes.known.len() >= MEMORY_LIMIT {
            probes.known.clear();
        }
        probes.known.insert(key, (is_public, now + if is_public { KNOWN } else { DENIED }));
        probes.present_until = Some(now + PRESENT);
        probes.away_until = None;
    }

    fn locked(&self) -> MutexGuard<'_, Probes> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A repository of a target, with the target's credentials.
#[derive(Debug)]
struct Passage {
    client: Client,
    repository: RepoName,
}

impl ExternalCopy for Passage {
    fn host(&self) -> &str {
        self.client.host()
    }

    fn open<'a>(&'a self, blob: &'a Digest, part: Range<u64>) -> BoxFuture<'a, Result<CopyBytes, CopyError>> {
        async move {
            let part = self
                .client
                .pull_part(&self.repository, blob, part)
                .await
                .map_err(|error| copy_error(&error))?;
            let chunks = stream::try_unfold(part, |mut part| async move {
                Ok(part.chunk().await.map_err(|error| copy_error(&error))?.map(|bytes| (bytes, part)))
            });
            Ok(chunks.boxed())
        }
        .boxed()
    }
}

fn copy_error(error: &ClientError) -> CopyError {
    if error.is_not_found() {
        return CopyError::Missing;
    }
    CopyError::Unavailable(Chain(error).to_string())
}

#[cfg(test)]
mod tests;
