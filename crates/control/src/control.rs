//! Control composes the modules and is what the server and the command talk to.

mod promote;
mod work;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use edgewright_job::Executor;
use edgewright_model::names::{ChannelName, CommitId, SourceName};
use edgewright_model::run::{RunNumber, Trigger};
use edgewright_process::{Clock, Tasks};
use edgewright_source::Git;
use edgewright_store::Store;
use edgewright_store::channels::{ChannelChange, ChannelRow};
use edgewright_store::sources::SourceId;
use tokio_util::sync::CancellationToken;

use self::work::{Work, WorkParts};
use crate::ControlError;
use crate::access::Operation;
use crate::cancellations::Cancellations;
use crate::context::OperationContext;
use crate::devices::{DeviceKeeper, Devices};
use crate::events::Events;
use crate::hosting::Hosting;
use crate::inventory::Inventory;
use crate::jobs::{JobSettings, Jobs};
use crate::logs::Logs;
use crate::outbound::replicate::Copies;
use crate::outbound::{Notifier, Replicator};
use crate::polling::{PollSource, Polling, PullRequests};
use crate::reconcile::{ReconcilerStatus, Reconcilers, Wake};
use crate::releases::Releases;
use crate::releases::channels::Channels;
use crate::releases::tags::ChannelTags;
use crate::retention::Retention;
use crate::rollouts::Rollouts;
use crate::settings::{ControlSettings, SourceSettings};
use crate::sources::{Queued, SourceHandle, Sources};

/// Where contexts are packed, below the data folder.
const SCRATCH: &str = "work/packs";

/// Control. Clones share it.
#[derive(Debug, Clone)]
pub struct Control(pub(crate) Arc<Inner>);

/// What control works with.
#[derive(Debug)]
pub struct Parts {
    /// Its database.
    pub store: Store,
    /// The registry.
    pub hosting: Hosting,
    /// What the registry's `TagResolver` answers from.
    pub tags: ChannelTags,
    /// Rolls releases out.
    pub rollouts: Rollouts,
    /// What it answers devices from.
    pub devices: Devices,
    /// What devices read in external registries.
    pub copies: Copies,
    /// Admits jobs and does them.
    pub executor: Arc<dyn Executor>,
    /// Reads sources.
    pub git: Git,
    /// The time.
    pub clock: Clock,
    /// Takes the reconcilers.
    pub tasks: Tasks,
}

pub(crate) struct Inner {
    settings: ControlSettings,
    store: Store,
    shutdown: CancellationToken,
    events: Events,
    logs: Logs,
    cancellations: Cancellations,
    sources: Arc<Sources>,
    work: Work,
    reconcilers: Reconcilers,
    channels: Channels,
    rollouts: Rollouts,
    devices: Devices,
    hosting: Hosting,
    polling: Polling,
    retention: Retention,
    notifier: Notifier,
    replicator: Replicator,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Control {
    /// Puts control together. Runs that a crash interrupted wait again.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn new(settings: ControlSettings, parts: Parts) -> Result<Self, ControlError> {
        for run in parts.store.open_runs().await? {
            let reset = parts.store.reset_interrupted(run.number).await?;
            tracing::info!(run.number = run.number.0, nodes = reset, "resuming run");
        }
        parts.tags.refresh(&parts.store).await?;
        parts.devices.reload().await?;
        parts.tags.follow(parts.devices.wake());
        empty(&settings.data.join(SCRATCH))
            .await
            .map_err(|source| ControlError::File { operation: "make the folder for contexts", source })?;
        let control = Self(Arc::new(compose(settings, parts)));
        control.0.rollouts.advance().await?;
        Ok(control)
    }

    /// Starts the reconcilers: one for runs, one for each source, and one for each other task.
    pub fn start(&self) {
        let inner = &*self.0;
        let stop = || inner.shutdown.clone();
        let start = |reconciler, wake| inner.reconcilers.start(reconciler, wake, stop());
        start(Arc::new(inner.work.runs.clone()), inner.work.runs.wake().clone());
        start(Arc::new(inner.work.rebuilds.clone()), inner.work.rebuilds.wake.clone());
        start(Arc::new(inner.work.updates.clone()), Wake::default());
        start(Arc::new(inner.retention.clone()), Wake::default());
        start(Arc::new(inner.channels.clone()), inner.channels.wake().clone());
        start(Arc::new(inner.work.update_tests.clone()), inner.channels.test_runs().clone());
        start(Arc::new(inner.rollouts.clone()), inner.rollouts.wake().clone());
        let keeper = DeviceKeeper {
            devices: inner.devices.clone(),
            hosting: inner.hosting.clone(),
            passes: AtomicU32::new(0),
        };
        start(Arc::new(keeper), inner.devices.wake().clone());
        for handle in inner.sources.all() {
            self.start_polling(handle);
        }
    }

    /// Runs another reconciler beside control's own, until shutdown.
    pub fn reconcile(&self, reconciler: Arc<dyn crate::reconcile::Reconciler>) {
        self.0.reconcilers.start(reconciler, Wake::default(), self.0.shutdown.clone());
    }

    /// How every reconciler is doing, by name.
    pub fn reconcilers(&self) -> Vec<ReconcilerStatus> {
        self.0.reconcilers.statuses()
    }

    fn start_polling(&self, handle: Arc<SourceHandle>) {
        let (wake, stop) = (handle.wake.clone(), handle.stop.clone());
        let polling = self.0.polling.clone();
        self.0.reconcilers.start(Arc::new(PollSource { polling, handle }), wake, stop);
    }

    /// Fires at shutdown.
    pub fn stopping(&self) -> CancellationToken {
        self.0.shutdown.clone()
    }

    /// The devices.
    pub fn devices(&self) -> &Devices {
        &self.0.devices
    }

    /// What happens from now on.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// The job logs.
    pub fn logs(&self) -> &Logs {
        &self.0.logs
    }

    /// Notifies these sinks from now on, and no others.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub fn notify(&self, sinks: &[crate::outbound::notify::Sink]) -> Result<(), reqwest::Error> {
        self.0.notifier.notify(sinks)
    }

    /// Copies to these targets from now on, at once, and to no others.
    ///
    /// # Errors
    /// The address or the certificates of a target are not valid; then nothing changes.
    pub fn deliver(
        &self,
        targets: &[crate::outbound::replicate::Target],
    ) -> Result<(), crate::outbound::replicate::ClientError> {
        self.0.replicator.deliver(targets)
    }

    /// Removes what is beyond its bounds.
    ///
    /// # Errors
    /// The database or the registry does not answer. Files that cannot be removed are logged.
    pub async fn tidy(&self) -> Result<crate::retention::Tidied, ControlError> {
        self.0.retention.tidy().await
    }

    /// Cancels an open run: its jobs end, what was recorded stays.
    ///
    /// # Errors
    /// There is no such run, or it is over.
    pub async fn cancel(&self, context: &OperationContext, run: RunNumber) -> Result<(), ControlError> {
        self.permit_on_run(context, Operation::CancelRun, run).await?;
        self.0.cancellations.request(context, run).await
    }

    /// Whether an operation on a run is permitted, by the run's source. A run that does not exist is found
    /// out by the operation itself.
    async fn permit_on_run(
        &self,
        context: &OperationContext,
        operation: Operation,
        run: RunNumber,
    ) -> Result<(), ControlError> {
        let row = self.0.store.run(run).await?;
        let handle = row.and_then(|row| self.0.sources.get(row.source));
        Ok(context.permit(operation, handle.as_ref().map(|handle| &handle.settings.name))?)
    }

    /// Follows a source, so that its runs can be driven. It is polled once [`Control::start_source`] is
    /// called.
    ///
    /// # Errors
    /// The database or the mirror's folder cannot be written.
    pub async fn add_source(&self, settings: SourceSettings) -> Result<SourceId, ControlError> {
        Ok(self.0.sources.add(settings).await?.id)
    }

    /// Polls a source until it is removed or changed.
    pub fn start_source(&self, source: SourceId) {
        if let Some(handle) = self.0.sources.get(source) {
            self.start_polling(handle);
        }
    }

    /// Stops following a source. A run in progress continues; queued runs wait until the source is configured
    /// again.
    pub fn remove_source(&self, name: &SourceName) -> bool {
        self.0.sources.remove(name)
    }

    /// A source that is followed.
    pub fn handle(&self, source: SourceId) -> Option<Arc<SourceHandle>> {
        self.0.sources.get(source)
    }

    /// Polls a source once, now. How it went is noted.
    ///
    /// # Errors
    /// The remote does not answer, or the database cannot be written.
    pub async fn poll_once(&self, handle: &SourceHandle) -> Result<Vec<RunNumber>, ControlError> {
        self.0.polling.poll(handle).await
    }

    /// Polls a source at its next chance, without waiting for its turn; false where it is not followed.
    /// Nothing is changed by that, so it is logged and not audited.
    ///
    /// # Errors
    /// The principal may not have this source polled.
    pub fn wake_named(&self, context: &OperationContext, name: &SourceName) -> Result<bool, ControlError> {
        context.permit(Operation::PollSource, Some(name))?;
        Ok(self.0.sources.named(name).map(|handle| handle.tell("asked to poll")).is_some())
    }

    /// Queues a run of a commit, whatever was decided before. [`Trigger::Manual`] forgets failures and tries
    /// again; [`Trigger::Lock`] resolves every lock again first. What a commit of the default branch declares
    /// is applied first.
    ///
    /// # Errors
    /// The source is not configured, the commit is unknown, or the database cannot be written.
    pub async fn queue_run(
        &self,
        context: &OperationContext,
        source: SourceId,
        branch: &str,
        commit: &CommitId,
        trigger: Trigger,
    ) -> Result<RunNumber, ControlError> {
        let (branch, images) = (branch.to_owned(), &BTreeSet::new());
        let operation = Operation::QueueRun;
        self.queue_for(source, commit, Queued { branch, trigger, images, context, operation }).await
    }

    pub(crate) async fn queue_for(
        &self,
        source: SourceId,
        commit: &CommitId,
        queued: Queued<'_>,
    ) -> Result<RunNumber, ControlError> {
        let inner = &*self.0;
        let handle = inner.sources.get(source).ok_or(ControlError::UnknownSource)?;
        queued.context.permit(queued.operation, Some(&handle.settings.name))?;
        let fetched = inner.polling.fetch(&handle, &queued.branch, commit).await?;
        inner.sources.queue_fetched(&handle, fetched, queued).await
    }

    /// Queues the commit of an earlier run again: its failures are tried again.
    ///
    /// # Errors
    /// There is no such run, its branch has moved on, its source is not configured, or the database cannot be
    /// written.
    pub async fn retry(&self, context: &OperationContext, run: RunNumber) -> Result<RunNumber, ControlError> {
        self.permit_on_run(context, Operation::RetryRun, run).await?;
        let row = self.0.store.run(run).await?.ok_or(ControlError::NoRun { run })?;
        let decided = self.0.store.decided(row.source).await?;
        if decided.get(&row.branch).is_some_and(|commit| *commit != row.commit) {
            return Err(ControlError::Outdated { run, branch: row.branch });
        }
        let (images, operation) = (&BTreeSet::new(), Operation::RetryRun);
        let queued = Queued { branch: row.branch, trigger: Trigger::Manual, images, context, operation };
        self.queue_for(row.source, &row.commit, queued).await
    }

    /// Holds, resumes, pins or unpins a channel, and moves what follows from it. `source` may be left out
    /// where only one has a channel of this name.
    ///
    /// # Errors
    /// There is no such channel, more than one, or a pin names a release that is not there.
    pub async fn change_channel(
        &self,
        context: &OperationContext,
        source: Option<&SourceName>,
        channel: &ChannelName,
        change: &ChannelChange,
    ) -> Result<(SourceName, ChannelRow), ControlError> {
        let (row, channels) = (self.channel_source(source, channel).await?, &self.0.channels);
        let changed = channels.change(context, &row, channel, change).await?;
        Ok((row.name, changed))
    }

    /// Moves the channels of all sources to what they should hold now, as their reconciler does.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn advance_channels(&self) -> Result<crate::reconcile::Outcome, ControlError> {
        use crate::reconcile::Reconciler as _;
        self.0.channels.reconcile().await
    }

    /// Queues runs for the updates that channels wait for, and notes which ended, as its reconciler does.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn advance_update_tests(&self) -> Result<crate::reconcile::Outcome, ControlError> {
        use crate::reconcile::Reconciler as _;
        self.0.work.update_tests.reconcile().await
    }

    /// The test of an update that a channel waits for before it moves, or that failed, in words.
    pub fn awaited_test(&self, source: &SourceName, channel: &ChannelName) -> Option<String> {
        let handle = self.0.sources.named(source)?;
        self.0.channels.tests().words(handle.id, channel)
    }

    async fn channel_source(
        &self,
        source: Option<&SourceName>,
        channel: &ChannelName,
    ) -> Result<edgewright_store::sources::SourceRow, ControlError> {
        let mut found = Vec::new();
        for row in self.0.store.sources().await? {
            if source.is_some_and(|name| *name != row.name) {
                continue;
            }
            if self.0.store.channels(row.id).await?.iter().any(|other| other.name == *channel) {
                found.push(row);
            }
        }
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(row), None) => Ok(row),
            (Some(_), Some(_)) => Err(ControlError::ManyChannels { channel: channel.clone() }),
            (None, _) => {
                Err(ControlError::NoChannel { source_name: source.cloned(), channel: channel.clone() })
            }
        }
    }
}

/// Puts the modules together: each gets its own few dependencies.
fn compose(settings: ControlSettings, parts: Parts) -> Inner {
    let Parts { store, hosting, tags, rollouts, devices, copies, executor, git, clock, tasks } = parts;
    let (shutdown, events, runs_wake) = (tasks.token().clone(), Events::default(), Wake::default());
    let (base, git) = ((store.clone(), clock.clone()), (store.clone(), git, clock.clone()));
    let cancellations = Cancellations::new(base, shutdown.clone(), runs_wake.clone());
    let folder = settings.data.join("sources");
    let sources = Arc::new(Sources::new(folder, git, shutdown.clone(), runs_wake.clone()));
    let wakes = (rollouts.channels_wake().clone(), rollouts.wake().clone());
    let channels = Channels::new((store.clone(), clock.clone()), tags.clone(), Arc::clone(&sources), wakes);
    let named = (tags.clone(), channels.clone());
    let releases = Releases::new(store.clone(), hosting.clone(), clock.clone(), events.clone(), named);
    let reconcilers = Reconcilers::new(tasks.clone(), clock.clone());
    let logs = Logs::new(&settings.data);
    let outside = OutsideParts {
        store: store.clone(),
        hosting: hosting.clone(),
        clock: clock.clone(),
        tags,
        sources: Arc::clone(&sources),
        channels: channels.clone(),
        cancellations: cancellations.clone(),
    };
    let polling = outside.polling();
    let jobs = Jobs {
        store: store.clone(),
        hosting: hosting.clone(),
        executor,
        clock: clock.clone(),
        events: events.clone(),
        logs: logs.clone(),
        settings: job_settings(&settings),
    };
    let parts = WorkParts {
        jobs,
        sources: Arc::clone(&sources),
        inventory: polling.inventory.clone(),
        releases,
        channels: channels.clone(),
        tasks,
        cancellations: cancellations.clone(),
        runs_wake,
    };
    Inner {
        retention: outside.retention(&settings),
        notifier: Notifier::new(store.clone(), events.clone(), reconcilers.clone(), shutdown.clone()),
        replicator: outside.replicator(events.clone(), reconcilers.clone(), copies),
        work: Work::new(&settings, parts),
        logs,
        settings,
        store,
        shutdown,
        events,
        cancellations,
        sources,
        reconcilers,
        channels,
        rollouts,
        devices,
        hosting,
        polling,
    }
}

fn job_settings(settings: &ControlSettings) -> JobSettings {
    JobSettings {
        within: settings.job_within,
        lane_within: settings.lane_within,
        scratch: settings.data.join(SCRATCH),
    }
}

/// What the modules work with that deal with the world outside.
struct OutsideParts {
    store: Store,
    hosting: Hosting,
    clock: Clock,
    tags: ChannelTags,
    sources: Arc<Sources>,
    channels: Channels,
    cancellations: Cancellations,
}

impl OutsideParts {
    fn polling(&self) -> Polling {
        let pull_requests = PullRequests {
            store: self.store.clone(),
            hosting: self.hosting.clone(),
            clock: self.clock.clone(),
            tags: self.tags.clone(),
            sources: Arc::clone(&self.sources),
            cancellations: self.cancellations.clone(),
        };
        Polling {
            store: self.store.clone(),
            clock: self.clock.clone(),
            sources: Arc::clone(&self.sources),
            inventory: Inventory::new(self.store.clone(), self.clock.clone()),
            channels: self.channels.clone(),
            pull_requests,
        }
    }

    fn retention(&self, settings: &ControlSettings) -> Retention {
        Retention {
            data: settings.data.clone(),
            keep: settings.keep.clone(),
            store: self.store.clone(),
            hosting: self.hosting.clone(),
            clock: self.clock.clone(),
            sources: Arc::clone(&self.sources),
        }
    }

    fn replicator(&self, events: Events, reconcilers: Reconcilers, copies: Copies) -> Replicator {
        let (store, hosting) = (self.store.clone(), self.hosting.clone());
        let others = (Arc::clone(&self.sources), reconcilers, copies);
        Replicator::new(store, hosting, self.clock.clone(), events, others)
    }
}

/// Makes a folder, or removes what a killed process left in it.
async fn empty(folder: &Path) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    tokio::fs::create_dir_all(folder).await
}
