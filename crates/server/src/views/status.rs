//! The state of a server, or of a data folder without one.

use std::sync::Arc;

use edgewright_api::{
    DataFolder, InventoryView, ReconcilerView, RunningJob, ServerStatus, SinkView, SourceView,
};
use edgewright_control::outbound::notify::Sink;
use edgewright_control::reconcile::{LastResult, ReconcilerStatus};
use edgewright_model::run::{NodeState, RunState};
use edgewright_store::outbox::SinkRow;
use edgewright_store::sources::SourceRow;
use jiff::SignedDuration;

use super::{Serving, ViewError, Views};
use crate::live::Live;
use crate::metrics::Snapshot;
use crate::settings::DEFAULT_POLL;

impl Views {
    /// An overview of everything.
    pub async fn status(&self) -> Result<ServerStatus, ViewError> {
        let (mut queue, mut active, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
        for run in self.store.open_runs().await? {
            let nodes = self.store.own_nodes(run.number).await?;
            for node in nodes.iter().filter(|node| node.state == NodeState::Running) {
                if let (Some(job), Some(started)) = (node.job, node.started_at) {
                    let (run, phase) = (run.number, node.phase);
                    jobs.push(RunningJob { run, node: node.node.clone(), job, phase, started });
                }
            }
            let list = if run.state == RunState::Queued { &mut queue } else { &mut active };
            list.push(self.summary(run).await?);
        }
        Ok(ServerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now: self.clock.now(),
            server_pid: match self.serving {
                Some(_) => Some(std::process::id()),
                None => self.folder.holder().map(|holder| holder.pid),
            },
            registry: self.registry().map(|registry| registry.host),
            data: self.disk().await?,
            sources: self.sources().await?,
            sinks: self.sinks().await?,
            targets: self.targets().await?,
            reconcilers: Vec::new(),
            queue,
            active,
            jobs,
            kept: Vec::new(),
        })
    }

    async fn disk(&self) -> Result<DataFolder, ViewError> {
        let root = self.folder.root().to_owned();
        let disk = tokio::task::spawn_blocking(move || rustix::fs::statvfs(root)).await;
        let (free_bytes, disk_bytes) = disk
            .ok()
            .and_then(Result::ok)
            .map_or((0, 0), |disk| (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize));
        // An upper bound: a build counts once for each repository that contains it, and shared layers are
        // stored once.
        let built_bytes = self.store.built_bytes().await?;
        Ok(DataFolder { path: self.folder.root().display().to_string(), free_bytes, disk_bytes, built_bytes })
    }

    /// The state of the sinks. A server shows only those that it is configured with.
    async fn sinks(&self) -> Result<Vec<SinkView>, ViewError> {
        let live = self.serving.as_ref().map(|serving| serving.live.now());
        let mut views = Vec::new();
        for row in self.store.sinks().await? {
            let is_own = |live: &Arc<Live>| live.sinks.iter().any(|sink| sink.name == row.name);
            if live.as_ref().is_none_or(is_own) {
                let undelivered = self.store.undelivered(&row.name).await?;
                let SinkRow { name, failures, error, .. } = row;
                views.push(SinkView { name, undelivered, failures, error });
            }
        }
        Ok(views)
    }

    /// The metrics of the database and the disk.
    pub async fn snapshot(&self, sinks: &[Sink]) -> Result<Snapshot, ViewError> {
        let runs = self.store.run_counts().await?;
        let now = self.clock.now();
        let mut snapshot = Snapshot {
            queued: runs.iter().find(|(state, _)| *state == RunState::Queued).map_or(0, |(_, count)| *count),
            runs: runs.into_iter().map(|(state, count)| (state.to_string(), count)).collect(),
            database: self.store.writer_stats(),
            free_bytes: self.disk().await?.free_bytes,
            ..Snapshot::default()
        };
        for run in self.store.open_runs().await? {
            let running = self.store.tally(run.number).await?.into_iter();
            snapshot.jobs += running
                .filter(|(_, state, _)| *state == NodeState::Running)
                .map(|(_, _, nodes)| u64::from(nodes))
                .sum::<u64>();
        }
        let live = self.serving.as_ref().map(|serving| serving.live.now());
        for row in self.store.sources().await? {
            let is_followed = |live: &Arc<Live>| live.sources.iter().any(|source| source.name == row.name);
            if let (true, Some(polled)) = (live.as_ref().is_none_or(is_followed), row.polled_at) {
                let age = now.duration_since(polled).as_secs_f64().max(0.0);
                snapshot.sources.push((row.name.to_string(), age, row.poll_failures.into()));
            }
        }
        for row in self.store.sinks().await? {
            if sinks.iter().any(|sink| sink.name == row.name) {
                let undelivered = self.store.undelivered(&row.name).await?;
                snapshot.sinks.push((row.name, undelivered, row.failures.into()));
            }
        }
        snapshot.targets = self.target_backlog().await?;
        Ok(snapshot)
    }

    /// The sources, by name.
    pub async fn sources(&self) -> Result<Vec<SourceView>, ViewError> {
        let mut views = Vec::new();
        for row in self.store.sources().await? {
            let id = row.id;
            let inventory = self.inventory(id).await?;
            let mut view = source(row, self.serving.as_ref());
            view.inventory = inventory;
            if let Some(run) = self.store.newest_run(id, view.branch.as_deref()).await? {
                view.commit = Some(run.commit.to_string());
                view.subject = Some(run.subject);
            }
            views.push(view);
        }
        Ok(views)
    }
}

/// A reconciler as a document.
pub(crate) fn reconciler(status: ReconcilerStatus) -> ReconcilerView {
    let (done, error) = match status.result {
        Some(LastResult::Succeeded { done }) => (done, None),
        Some(LastResult::Failed { error }) => (None, Some(error)),
        None => (None, None),
    };
    ReconcilerView {
        name: status.name,
        started: status.started,
        cause: status.cause.to_owned(),
        running: status.is_running,
        done,
        error,
        succeeded: status.succeeded,
        duration_ms: u64::try_from(status.took.as_millis()).unwrap_or(u64::MAX),
        failures: status.failures,
        next: status.next,
    }
}

fn source(row: SourceRow, serving: Option<&Serving>) -> SourceView {
    let live = serving.map(|serving| serving.live.now());
    let settings = live.as_ref().and_then(|live| live.sources.iter().find(|source| source.name == row.name));
    let poll = settings.map_or(DEFAULT_POLL.get(), |settings| settings.poll);
    let next_poll = settings.and(row.polled_at).and_then(|polled| {
        let pause = edgewright_control::polling::pause_after(poll, row.poll_failures);
        SignedDuration::try_from(pause).ok().and_then(|pause| polled.checked_add(pause).ok())
    });
    SourceView {
        followed: live.is_some().then(|| settings.is_some()),
        name: row.name,
        url: row.url,
        branch: settings.and_then(|settings| settings.branch.clone()).or(row.default_branch),
        poll_ms: u64::try_from(poll.as_millis()).unwrap_or(u64::MAX),
        last_poll: row.polled_at,
        next_poll,
        commit: None,
        subject: None,
        error: row.poll_error,
        failures: row.poll_failures,
        inventory: InventoryView::default(),
    }
}
