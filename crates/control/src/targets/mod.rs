//! Targets: registries of others (Harbor, Quay, Artifactory, GHCR, Docker Hub) that get what channels hold.
//!
//! ```text
//!  channel ──▶ release ──one task for each target──▶ every image (copy.rs), then every tag
//!   (store)                 └─ target_copies: (target, channel, release) with its state
//! ```
//!
//! Nobody waits for a target: a run's end is its release. What is to be copied follows from the store alone, so a killed
//! server goes on where the target stands. All images of a channel are there before the first of its tags moves, and a
//! channel whose copy fails is tried again with growing pauses, without holding up the others. Nothing is ever deleted in
//! a target.

mod copy;
mod names;
mod template;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::names::{ChannelName, SourceName};
use edgewright_model::run::ReleaseNumber;
use edgewright_oci::client::Client;
pub use edgewright_oci::client::{ClientError, Credentials};
use edgewright_store::sources::SourceId;
use edgewright_store::targets::CopyRow;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use jiff::SignedDuration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::copy::{Copier, CopyError};
use self::names::{Held, Named};
pub use self::template::{Names, TemplateError};
use crate::events::RunEventKind;
use crate::{Control, ControlError};

/// Images that are copied to one target at the same time.
const AT_ONCE: usize = 4;
/// Looks for releases and verdicts that nobody announced.
const LOOK: Duration = Duration::from_secs(5);
/// The pause after a copy's first failed try; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// A copy that is as old is looked at again: somebody may have changed or deleted something there.
const LOOKED_AT_AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// A registry that gets what channels hold.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, unique and lasting.
    pub name: String,
    /// Its address.
    pub url: String,
    /// How images are named there.
    pub names: Names,
    /// Only these sources, by their configured names; empty: all.
    pub sources: Vec<SourceName>,
    /// Only these channels; empty: all.
    pub channels: Vec<ChannelName>,
    /// Whether verdicts, check sets, provenance and whatever else refers to an image is copied, too.
    pub referrers: bool,
    /// Who we are there; never printed.
    pub credentials: Credentials,
    /// Certificates (PEM) of its authority, where that is not one of this machine's.
    pub authority: Option<Vec<u8>>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Target");
        shown
            .field("name", &self.name)
            .field("url", &self.url)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// A client of it.
    ///
    /// # Errors
    /// The address or the certificates are none.
    pub fn client(&self) -> Result<Client, ClientError> {
        Client::with_authority(&self.url, self.credentials.clone(), self.authority.as_deref())
    }

    /// Other than this, and everything has to be copied again.
    fn place(&self) -> String {
        Digest::of(format!("{} {} {}", self.url, self.names, self.referrers)).to_string()
    }

    fn takes(&self, source: &SourceName, channel: &ChannelName) -> bool {
        (self.sources.is_empty() || self.sources.contains(source))
            && (self.channels.is_empty() || self.channels.contains(channel))
    }
}

/// When the copy of a channel's release that failed is due again.
struct Failed {
    release: ReleaseNumber,
    due: Instant,
}

fn pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1).min(16))).min(LONGEST_PAUSE)
}

impl Control {
    /// Copies to these targets from now on, at once, and to no others: tasks of earlier ones end.
    ///
    /// # Errors
    /// The address or the certificates of a target are none; then nothing changes.
    pub fn deliver(&self, targets: &[Target]) -> Result<(), ClientError> {
        let clients = targets.iter().map(Target::client).collect::<Result<Vec<_>, _>>()?;
        let stop = self.0.shutdown.child_token();
        let mut current = self.0.delivering.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut *current, stop.clone()).cancel();
        drop(current);
        for (target, client) in targets.iter().zip(clients) {
            let (control, target, stop) = (self.clone(), target.clone(), stop.clone());
            self.0.tasks.spawn(format!("target {}", target.name), async move {
                control.deliver_to(&target, &client, &stop).await;
            });
        }
        Ok(())
    }

    async fn deliver_to(&self, target: &Target, client: &Client, stop: &CancellationToken) {
        let mut news = self.0.events.subscribe();
        let mut failed = BTreeMap::new();
        loop {
            let looked = tokio::select! {
                looked = self.look_after(target, client, &mut failed) => looked,
                () = stop.cancelled() => return,
            };
            if let Err(error) = looked {
                tracing::error!(target.name = target.name, error = %Chain(&error), "targets cannot be looked after");
            }
            let release = async {
                while let Ok(event) = news.recv().await {
                    if matches!(event.kind, RunEventKind::Released(_)) {
                        break;
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = release => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Copies what is due, one channel after the other.
    async fn look_after(
        &self,
        target: &Target,
        client: &Client,
        failed: &mut BTreeMap<(SourceId, ChannelName), Failed>,
    ) -> Result<(), ControlError> {
        let inner = &*self.0;
        let held = self.held(target).await?;
        let copies = inner.store.copies().await?;
        for channel in &held {
            let key = channel.key(&target.name);
            let marks = inner.store.verdict_marks(key.source, key.release).await?;
            let newest = marks.values().copied().max().unwrap_or(0);
            let known = copies.iter().find(|row| row.key == key);
            if known.is_some_and(|row| self.is_done(target, row, newest)) {
                continue;
            }
            let id = (key.source, key.channel.clone());
            let before = failed.remove(&id).filter(|before| before.release == key.release);
            if let Some(before) = before.filter(|before| before.due > Instant::now()) {
                failed.insert(id, before);
                continue;
            }
            let tries = known.filter(|row| row.place == target.place()).map_or(0, |row| row.failures);
            inner.store.want_copy(&key, &target.place(), inner.clock.now()).await?;
            inner.store.note_copying(&key, inner.clock.now()).await?;
            match self.copy(target, client, &held, channel, &marks).await {
                Ok(()) => {
                    inner.store.note_copied(&key, newest, inner.clock.now()).await?;
                    tracing::info!(
                        target.name = target.name,
                        channel.name = %key.channel,
                        release.number = key.release.0,
                        source.name = %channel.configured,
                        "a channel was copied"
                    );
                }
                Err(error) => {
                    let (why, hint) = (Chain(&error).to_string(), error.hint());
                    tracing::warn!(
                        target.name = target.name,
                        channel.name = %key.channel,
                        source.name = %channel.configured,
                        failures = tries + 1,
                        error = why,
                        hint,
                        "a channel was not copied"
                    );
                    inner.store.note_not_copied(&key, &why, hint.as_deref(), inner.clock.now()).await?;
                    let due = Instant::now() + pause(tries + 1);
                    failed.insert(id, Failed { release: key.release, due });
                }
            }
        }
        Ok(())
    }

    fn is_done(&self, target: &Target, row: &CopyRow, newest: i64) -> bool {
        let age = self.0.clock.now().duration_since(row.changed_at);
        row.state == "copied"
            && row.place == target.place()
            && row.verdicts >= newest
            && age < LOOKED_AT_AGAIN
    }

    /// What the target is to have: the release of each channel.
    async fn held(&self, target: &Target) -> Result<Vec<Held>, ControlError> {
        let store = &self.0.store;
        let followed = self.followed();
        let mut held = Vec::new();
        for source in store.sources().await? {
            let (true, Some(name)) = (followed.contains(&source.id), source.definition_name) else {
                continue;
            };
            for channel in store.channels(source.id).await? {
                if let (true, Some(release)) = (target.takes(&source.name, &channel.name), channel.release) {
                    held.push(Held {
                        source: source.id,
                        configured: source.name.clone(),
                        name: name.clone(),
                        channel: channel.name,
                        release,
                        entries: store.entries(source.id, release).await?,
                    });
                }
            }
        }
        Ok(held)
    }

    /// Every image of a channel, then every tag.
    async fn copy(
        &self,
        target: &Target,
        client: &Client,
        held: &[Held],
        channel: &Held,
        marks: &BTreeMap<Digest, i64>,
    ) -> Result<(), CopyError> {
        let inner = &*self.0;
        let named = names::named(&target.names, held, channel)?;
        let (copier, place) = (Copier::new(inner.hosting.client(), client), target.place());
        let known = inner.store.copied_images(&target.name, &place).await?;
        let images = named.iter().map(|named| {
            let mark = marks.get(&named.entry.digest).copied().unwrap_or(0);
            let is_known = known
                .get(&(named.repository.clone(), named.entry.digest.clone()))
                .is_some_and(|known| *known >= mark);
            self.bring(target, &copier, named, mark, is_known).boxed()
        });
        // Boxed and collected, because of <https://github.com/rust-lang/rust/issues/102211>.
        let images: Vec<BoxFuture<'_, _>> = images.collect();
        let images: Vec<_> = futures::stream::iter(images).buffer_unordered(AT_ONCE).try_collect().await?;
        for (named, stands) in images {
            if !stands {
                let Named { entry, repository, tag } = named;
                copier.tag(&entry.repository, &entry.digest, repository, tag).await?;
            }
        }
        Ok(())
    }

    /// Makes an image stand in a target; gives whether its tag stands on it, too.
    async fn bring<'a>(
        &self,
        target: &Target,
        copier: &Copier<'_>,
        named: &'a Named<'a>,
        mark: i64,
        is_known: bool,
    ) -> Result<(&'a Named<'a>, bool), CopyError> {
        let Named { entry, repository, tag } = named;
        let digest = &entry.digest;
        let stands = copier.tagged(repository, tag).await?.as_ref() == Some(digest);
        // What the registry has under the tag was whole when the tag was put there.
        if !(is_known && stands) {
            copier.image(&entry.repository, digest, repository, target.referrers).await?;
            let (place, now) = (target.place(), self.0.clock.now());
            self.0.store.note_image_copied((&target.name, &place), repository, digest, mark, now).await?;
        }
        Ok((named, stands))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        assert_eq!([1, 2, 3, 40].map(|tries| pause(tries).as_secs()), [5, 10, 20, 600]);
    }
}
