//! Targets: external registries (Harbor, Quay, Artifactory, GHCR, Docker Hub) that receive what channels
//! hold.
//!
//! ```text
//!  channel ──▶ release ──one task for each target──▶ every image (copy.rs), then every tag
//!   (store)                 └─ target_copies: (target, channel, release) with its state
//! ```
//!
//! No run waits for a target: a run ends with its release. What is to be copied follows from the store alone,
//! so a killed server resumes where it stopped. All images of a channel are there before the first of its
//! tags moves, and a channel whose copy fails is tried again with growing pauses, without holding up the
//! others. Nothing is ever deleted in a target. Devices may read there what it has (serving.rs).

mod copy;
mod names;
mod serving;
mod template;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::names::{ChannelName, SourceName};
use edgewright_model::run::ReleaseNumber;
use edgewright_oci::client::Client;
pub use edgewright_oci::client::{ClientError, Credentials};
use edgewright_process::{Backoff, Clock};
use edgewright_store::Store;
use edgewright_store::sources::SourceId;
use edgewright_store::targets::CopyRow;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use jiff::SignedDuration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::copy::{Copier, CopyError};
use self::names::{Held, Named};
pub use self::serving::{Copies, DeviceReads};
pub use self::template::{Names, TemplateError};
use crate::ControlError;
use crate::events::{Events, RunEventKind};
use crate::hosting::Hosting;
use crate::reconcile::{Outcome, Reconciler, Reconcilers, Wake};
use crate::sources::Sources;

/// Images that are copied to one target at the same time.
const AT_ONCE: usize = 4;
/// The longest time between two searches for releases and verdicts to copy.
const PERIOD: Duration = Duration::from_secs(5);
/// The pause after a copy's first failed try; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// A copy of this age is verified again: something may have been changed or deleted in the target.
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
    /// How devices read its images there; none: they do not.
    pub devices: Option<DeviceReads>,
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

const BACKOFF: Backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);

/// Copies what channels hold to the configured targets. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Replicator {
    store: Store,
    hosting: Hosting,
    clock: Clock,
    events: Events,
    sources: Arc<Sources>,
    reconcilers: Reconcilers,
    copies: Copies,
    /// Ends the reconcilers of the targets of now.
    current: Arc<Mutex<CancellationToken>>,
}

impl Replicator {
    pub(crate) fn new(
        store: Store,
        hosting: Hosting,
        clock: Clock,
        events: Events,
        (sources, reconcilers, copies): (Arc<Sources>, Reconcilers, Copies),
    ) -> Self {
        Self { store, hosting, clock, events, sources, reconcilers, copies, current: Arc::default() }
    }

    /// Copies to these targets from now on, at once, and to no others: reconcilers of earlier ones end.
    ///
    /// # Errors
    /// The address or the certificates of a target are not valid; then nothing changes.
    pub(crate) fn deliver(&self, targets: &[Target]) -> Result<(), ClientError> {
        let clients = targets.iter().map(Target::client).collect::<Result<Vec<_>, _>>()?;
        self.copies.replace(targets)?;
        let stop = CancellationToken::new();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, stop.clone()).cancel();
        drop(current);
        for (target, client) in targets.iter().zip(clients) {
            let wake = Wake::default();
            let is_release = |kind: &RunEventKind| matches!(kind, RunEventKind::Released(_));
            self.events.wake(is_release, wake.clone(), stop.clone());
            let delivery = Delivery {
                replicator: self.clone(),
                target: target.clone(),
                client,
                failed: tokio::sync::Mutex::default(),
                is_known: AtomicBool::default(),
            };
            self.reconcilers.start(Arc::new(delivery), wake, stop.clone());
        }
        Ok(())
    }
}

/// Copies to one target.
struct Delivery {
    replicator: Replicator,
    target: Target,
    client: Client,
    /// When the channels are due again whose copy failed; only its reconciler takes it.
    failed: tokio::sync::Mutex<BTreeMap<(SourceId, ChannelName), Failed>>,
    /// Whether it is in memory what the target has for devices.
    is_known: AtomicBool,
}

impl Reconciler for Delivery {
    fn name(&self) -> String {
        format!("target {}", self.target.name)
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn is_interruptible(&self) -> bool {
        true
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            if !self.is_known.load(Ordering::Relaxed) {
                self.replicator.recall(&self.target).await?;
                self.is_known.store(true, Ordering::Relaxed);
            }
            let mut failed = self.failed.lock().await;
            let copied = self.replicator.look_after(&self.target, &self.client, &mut failed).await?;
            Ok(Outcome::counted(copied, "copied", "channel"))
        }
        .boxed()
    }
}

impl Replicator {
    /// Reads which images a target has, for devices.
    async fn recall(&self, target: &Target) -> Result<(), ControlError> {
        if target.devices.is_some() {
            let images = self.store.copied_images(&target.name, &target.place()).await?;
            self.copies.add(target, images.into_keys());
        }
        Ok(())
    }

    /// Copies what is due, one channel after the other.
    async fn look_after(
        &self,
        target: &Target,
        client: &Client,
        failed: &mut BTreeMap<(SourceId, ChannelName), Failed>,
    ) -> Result<usize, ControlError> {
        let mut done = 0;
        let held = self.held(target).await?;
        let copies = self.store.copies().await?;
        for channel in &held {
            let key = channel.key(&target.name);
            let marks = self.store.verdict_marks(key.source, key.release).await?;
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
            self.store.want_copy(&key, &target.place(), self.clock.now()).await?;
            self.store.note_copying(&key, self.clock.now()).await?;
            match self.copy(target, client, &held, channel, &marks).await {
                Ok(()) => {
                    self.store.note_copied(&key, newest, self.clock.now()).await?;
                    done += 1;
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
                    self.store.note_not_copied(&key, &why, hint.as_deref(), self.clock.now()).await?;
                    let due = Instant::now() + BACKOFF.pause(tries + 1);
                    failed.insert(id, Failed { release: key.release, due });
                }
            }
        }
        Ok(done)
    }

    fn is_done(&self, target: &Target, row: &CopyRow, newest: i64) -> bool {
        let age = self.clock.now().duration_since(row.changed_at);
        row.state == "copied"
            && row.place == target.place()
            && row.verdicts >= newest
            && age < LOOKED_AT_AGAIN
    }

    /// What the target is to have: the release of each channel.
    async fn held(&self, target: &Target) -> Result<Vec<Held>, ControlError> {
        let store = &self.store;
        let followed = self.sources.ids();
        let mut held = Vec::new();
        for source in store.sources().await? {
            let (true, Some(name)) = (followed.contains(&source.id), source.definition_name) else {
                continue;
            };
            for channel in store.channels(source.id).await? {
                if let (true, Some(release)) = (target.takes(&source.name, &channel.name), channel.completed)
                {
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
        let named = names::named(&target.names, held, channel)?;
        let (copier, place) = (Copier::new(self.hosting.client(), client), target.place());
        let known = self.store.copied_images(&target.name, &place).await?;
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
        for (named, is_tagged) in images {
            if !is_tagged {
                let Named { entry, repository, tag } = named;
                copier.tag(&entry.repository, &entry.digest, repository, tag).await?;
            }
        }
        Ok(())
    }

    /// Copies an image to a target; returns whether its tag points to it already.
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
        let is_tagged = copier.tagged(repository, tag).await?.as_ref() == Some(digest);
        // What the registry has under the tag was whole when the tag was put there.
        if !(is_known && is_tagged) {
            copier.image(&entry.repository, digest, repository, target.referrers).await?;
            let (place, now) = (target.place(), self.clock.now());
            self.store.note_image_copied((&target.name, &place), repository, digest, mark, now).await?;
            self.copies.add(target, [(repository.clone(), digest.clone())]);
        }
        Ok((named, is_tagged))
    }
}
