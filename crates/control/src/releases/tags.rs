//! Channel tags: the registry asks here what `plant-os/hmi/plant-a:stable` is, or `:pr-12`. Answers come from
//! memory, which is read again after every release.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use edgewright_model::Digest;
use edgewright_model::names::SourceName;
use edgewright_model::principal::Principal;
use edgewright_model::reference::{Reference, RepoName, Tag};
use edgewright_registry::{Lookup, Resolution, TagResolver, Target};
use edgewright_store::{Store, StoreError};
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

use crate::reconcile::Wake;
use crate::sources::refs::pull_request_tag;

/// What all channels answer. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct ChannelTags {
    projection: Arc<RwLock<Arc<Projection>>>,
    /// Woken after each refresh: what devices are offered follows from the same rows.
    followers: Arc<Mutex<Vec<Wake>>>,
}

#[derive(Debug, Default)]
struct Projection {
    /// The channels of each source, by the first component of its repositories.
    reserved: BTreeMap<SourceName, BTreeSet<String>>,
    /// Repository → channel → index.
    answers: BTreeMap<RepoName, BTreeMap<String, Digest>>,
}

impl ChannelTags {
    /// Reads all channels.
    ///
    /// # Errors
    /// The database cannot be read; the answers stay as they were.
    pub async fn refresh(&self, store: &Store) -> Result<(), StoreError> {
        let mut projection = Projection::default();
        for source in store.sources().await? {
            let Some(name) = source.definition_name else { continue };
            let reserved = projection.reserved.entry(name).or_default();
            for image in store.pull_requests(source.id).await? {
                let Some(tag) = pull_request_tag(&image.name) else { continue };
                reserved.insert(tag.clone());
                projection.answers.entry(image.repository).or_default().insert(tag, image.digest);
            }
            for channel in store.channels(source.id).await? {
                reserved.insert(channel.name.to_string());
                let Some(release) = channel.completed else { continue };
                for entry in store.entries(source.id, release).await? {
                    projection
                        .answers
                        .entry(entry.repository)
                        .or_default()
                        .insert(channel.name.to_string(), entry.digest);
                }
            }
        }
        *self.projection.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(projection);
        for wake in self.followers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            wake.wake("channels moved");
        }
        Ok(())
    }

    /// Wakes a reconciler after each refresh.
    pub(crate) fn follow(&self, wake: &Wake) {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).push(wake.clone());
    }

    fn now(&self) -> Arc<Projection> {
        Arc::clone(&self.projection.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl TagResolver for ChannelTags {
    fn resolve<'a>(
        &'a self,
        _: &'a Principal,
        repository: &'a RepoName,
        lookup: Lookup<'a>,
    ) -> BoxFuture<'a, Resolution> {
        let Lookup::Manifest(Reference::Tag(tag)) = lookup else {
            return ready(Resolution::Ordinary).boxed();
        };
        let projection = self.now();
        let source = repository.as_str().split('/').next().and_then(|first| first.parse::<SourceName>().ok());
        let reserved = source
            .and_then(|source| projection.reserved.get(&source).map(|tags| tags.contains(tag.as_str())));
        let resolution = if reserved == Some(true) {
            let answer = projection.answers.get(repository).and_then(|tags| tags.get(tag.as_str()));
            Resolution::Reserved(
                answer.map(|digest| Target { repository: repository.clone(), digest: digest.clone() }),
            )
        } else {
            Resolution::Ordinary
        };
        ready(resolution).boxed()
    }

    fn tags<'a>(&'a self, _: &'a Principal, repository: &'a RepoName) -> BoxFuture<'a, Vec<Tag>> {
        let projection = self.now();
        let tags = projection.answers.get(repository).into_iter().flat_map(BTreeMap::keys);
        ready(tags.filter_map(|tag| tag.parse().ok()).collect()).boxed()
    }
}
