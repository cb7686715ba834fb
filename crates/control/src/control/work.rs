//! Runs, locks and rebuilds, as the server and the command ask for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::lock::Lock;
use edgewright_model::names::{CommitId, DeviceId, ImageName, SourceName};
use edgewright_model::run::{RebuildNumber, RunNumber, RunState, Trigger};
use edgewright_process::Tasks;
use edgewright_store::devices::NewDeviceReport;
use edgewright_store::sources::SourceId;

use crate::access::Operation;
use crate::cancellations::Cancellations;
use crate::context::OperationContext;
use crate::devices::DeviceEvent;
use crate::inventory::Inventory;
use crate::jobs::Jobs;
use crate::locks::Locks;
use crate::locks::updates::UpdateChecks;
use crate::posting::{PostError, PostedVerdict, Posting, VerdictPost};
use crate::rebuilds::{Export, Rebuilds, Rebuilt};
use crate::reconcile::Wake;
use crate::releases::Releases;
use crate::releases::channels::Channels;
use crate::runs::selection::Selection;
use crate::runs::update_tests::UpdateTests;
use crate::runs::{self, Runs};
use crate::settings::ControlSettings;
use crate::sources::{Queued, Sources};
use crate::{Control, ControlError};

/// The modules that have jobs done.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) runs: Runs,
    pub(super) rebuilds: Rebuilds,
    pub(super) updates: UpdateChecks,
    pub(super) update_tests: UpdateTests,
    locks: Locks,
    posting: Posting,
}

/// What they are made of.
pub(super) struct WorkParts {
    pub(super) jobs: Jobs,
    pub(super) sources: Arc<Sources>,
    pub(super) inventory: Inventory,
    pub(super) releases: Releases,
    pub(super) channels: Channels,
    pub(super) tasks: Tasks,
    pub(super) cancellations: Cancellations,
    pub(super) runs_wake: Wake,
}

impl Work {
    pub(super) fn new(settings: &ControlSettings, parts: WorkParts) -> Self {
        let WorkParts { jobs, sources, inventory, releases, channels, tasks, cancellations, runs_wake } =
            parts;
        let (store, clock) = (jobs.store.clone(), jobs.clock.clone());
        let locks = Locks { jobs: jobs.clone(), attempts: settings.attempts, retry: settings.retry() };
        let updates = UpdateChecks {
            store: store.clone(),
            clock: clock.clone(),
            sources: Arc::clone(&sources),
            schedules: settings.watching.clone(),
        };
        let rebuilds = Rebuilds {
            jobs: jobs.clone(),
            sources: Arc::clone(&sources),
            locks: locks.clone(),
            wake: Wake::default(),
            shutdown: tasks.token().clone(),
            tasks: tasks.clone(),
        };
        let posting = Posting { store: store.clone(), hosting: jobs.hosting.clone(), clock: clock.clone() };
        let parts = runs::Parts {
            jobs,
            sources: Arc::clone(&sources),
            inventory,
            releases,
            locks: locks.clone(),
            tasks,
            cancellations,
            wake: runs_wake,
        };
        let runs = Runs::new(settings, parts);
        let update_tests = UpdateTests { runs: runs.clone(), channels, sources, store, clock };
        Self { runs, rebuilds, updates, update_tests, locks, posting }
    }
}

impl Control {
    /// Drives a run to its end, or until shutdown.
    ///
    /// # Errors
    /// The run does not exist or its source is not configured; control stops; the database cannot even take
    /// the failure.
    pub async fn drive(&self, run: RunNumber) -> Result<RunState, ControlError> {
        self.0.work.runs.drive(run).await
    }

    /// Narrows a run before it is driven. A selection ends with this process, so it is logged and not
    /// audited.
    ///
    /// # Errors
    /// The principal may not do this.
    pub fn select(
        &self,
        context: &OperationContext,
        run: RunNumber,
        selection: Selection,
    ) -> Result<(), ControlError> {
        context.permit(Operation::SelectRun, None)?;
        self.0.work.runs.select(run, selection);
        Ok(())
    }

    /// Takes a verdict in the lane `external`. A run that waits for it resumes within seconds.
    ///
    /// # Errors
    /// The principal may not; the digest is not known, or it is not clear for which checks the verdict
    /// counts.
    pub async fn post_verdict(
        &self,
        context: &OperationContext,
        post: VerdictPost,
    ) -> Result<PostedVerdict, PostError> {
        self.0.work.posting.post(context, post).await
    }

    /// Records reports of a device, and returns how many are new. They are not audited: they change nothing
    /// else. `events` are those of the reports.
    ///
    /// # Errors
    /// The principal may not; the database cannot be written.
    pub async fn add_device_reports(
        &self,
        context: &OperationContext,
        device: &DeviceId,
        reports: Vec<NewDeviceReport>,
        events: Vec<DeviceEvent>,
    ) -> Result<u64, ControlError> {
        context.permit(Operation::ReportDevice, self.0.devices.whereabouts(device).scope())?;
        self.0.devices.permit_reports(context, device)?;
        let Posting { store, clock, .. } = &self.0.work.posting;
        let added = store.add_device_reports(device, reports, clock.now()).await?;
        for event in &events {
            self.0.devices.reported(device, event);
        }
        Ok(added)
    }

    /// Queues a run that resolves the locks of a source again, of some images only or (none given) of all,
    /// and builds, tests and releases what moved.
    ///
    /// # Errors
    /// The source is not configured or nothing of it was run yet; the database cannot be written.
    pub async fn update(
        &self,
        context: &OperationContext,
        source: SourceId,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, ControlError> {
        let handle = self.0.sources.get(source).ok_or(ControlError::UnknownSource)?;
        context.permit(Operation::UpdateLocks, Some(&handle.settings.name))?;
        self.0.work.updates.queue(context, &handle, images).await
    }

    /// As [`Control::update`], of the source of this name.
    ///
    /// # Errors
    /// As there.
    pub async fn update_named(
        &self,
        context: &OperationContext,
        source: &SourceName,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, ControlError> {
        let handle = self.0.sources.named(source).ok_or(ControlError::UnknownSource)?;
        self.update(context, handle.id, images).await
    }

    /// Queues a run of a commit for [`Control::check_updates`].
    ///
    /// # Errors
    /// The source is not configured, the commit is unknown, or the database cannot be written.
    pub async fn queue_update_check(
        &self,
        context: &OperationContext,
        source: SourceId,
        branch: &str,
        commit: &CommitId,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, ControlError> {
        let (branch, operation) = (branch.to_owned(), Operation::UpdateLocks);
        let queued = Queued { branch, trigger: Trigger::Lock, images, context, operation };
        self.queue_for(source, commit, queued).await
    }

    /// Resolves the locks of a queued run's images, keeps what moved as overlays and ends the run: nothing is
    /// built.
    ///
    /// # Errors
    /// There is no such run, its source is not configured, or the database cannot be written.
    pub async fn check_updates(&self, run: RunNumber) -> Result<RunState, ControlError> {
        self.0.work.runs.check_updates(run).await
    }

    /// Queues an update check of a source, if one is due.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn check_updates_if_due(&self, source: SourceId) -> Result<Option<RunNumber>, ControlError> {
        match self.0.sources.get(source) {
            Some(handle) => self.0.work.updates.queue_if_due(&handle).await,
            None => Ok(None),
        }
    }

    /// The locks that a run's commit is built with by now and does not hold itself: the overlays in effect.
    ///
    /// # Errors
    /// There is no such run, its source is not configured, or the database cannot be read.
    pub async fn overlays(&self, number: RunNumber) -> Result<BTreeMap<ImageName, Lock>, ControlError> {
        let run = self.0.store.run(number).await?.ok_or(ControlError::NoRun { run: number })?;
        let handle = self.0.sources.get(run.source).ok_or(ControlError::NoSource { run: number })?;
        self.0.work.locks.overlays_in_effect(&run, &handle.mirror).await
    }

    /// Builds a digest again, of an index all its platforms, from the first step on.
    ///
    /// # Errors
    /// No run made the digest, its source is not configured, or its commit is gone; the database or the
    /// registry fails.
    pub async fn rebuild(&self, digest: &Digest) -> Result<Vec<Rebuilt>, ControlError> {
        self.0.work.rebuilds.rebuild(digest).await
    }

    /// Builds again what a run built, each step once.
    ///
    /// # Errors
    /// As for [`Control::rebuild`].
    pub async fn verify(&self, run: RunNumber) -> Result<Vec<Rebuilt>, ControlError> {
        self.0.work.rebuilds.verify(run).await
    }

    /// Queues the rebuild of a digest. One that is open already is the same.
    ///
    /// # Errors
    /// The principal may not; no run made the digest, or the database cannot be written.
    pub async fn queue_rebuild(
        &self,
        context: &OperationContext,
        digest: &Digest,
    ) -> Result<RebuildNumber, ControlError> {
        self.0.work.rebuilds.queue(context, digest).await
    }

    /// The objects that build a digest again and test it, for people who create them by hand.
    ///
    /// # Errors
    /// No run made the digest, its commit is gone, or the executor's jobs are no objects.
    pub async fn export(
        &self,
        context: &OperationContext,
        digest: &Digest,
        with_token: bool,
    ) -> Result<Export, ControlError> {
        self.0.work.rebuilds.export(context, digest, with_token).await
    }

    /// Does a queued rebuild and keeps what came of it, also why it could not be done.
    ///
    /// # Errors
    /// Control shuts down (the rebuild waits for the next start), or the database cannot be written.
    pub async fn drive_rebuild(&self, number: RebuildNumber) -> Result<(), ControlError> {
        self.0.work.rebuilds.drive(number).await
    }
}
