//! The worker in a job's process: each job has a folder of its own.

mod job;
mod place;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgewright_lab::{EngineSettings, PodmanHost, PodmanSettings, Reaped};
use edgewright_model::error::Chain;
use edgewright_model::order::{JobId, JobOrder, ManifestRef, RegistryAccess};
use edgewright_model::outcome::{FailureKind, JobEvent, JobFailure, JobOutcome, Phase};
use edgewright_model::reference::Reference;
use edgewright_oci::index::Cache;
use edgewright_oci::{Client, ClientError, image};
use edgewright_process::{CancellationToken, ProcessContext};
use tokio::sync::mpsc;

use self::job::Job;
use self::place::Place;
use crate::error::ExecutorError;
use crate::executor::BoxFuture;
use crate::process::with_failure;
use crate::report::Reporter;
use crate::worker::Worker;

/// Time limit for reading the index of an image in advance.
const INDEX_TIMEOUT: Duration = Duration::from_mins(1);

/// Settings of jobs besides their orders.
#[derive(Clone)]
pub struct WorkSettings {
    /// The work folder: scratch, container storage, caches. Created if missing.
    pub work: PathBuf,
    /// The static check runner.
    pub runner: &'static [u8],
    /// The static program that is brought into virtual machines.
    pub guest: &'static [u8],
    /// The tool image, whose QEMU is used on a host that has none; in a sandbox there is one.
    pub tools: Option<PathBuf>,
    /// The user's settings of podman.
    pub engine: EngineSettings,
    /// The size limit of the container storage, in bytes; the least recently used images are removed first.
    pub storage_bytes: u64,
    /// Further environment of all commands: proxies.
    pub environment: Vec<(OsString, OsString)>,
    /// Text of a `containers-auth.json(5)` for external registries.
    pub auth: Option<String>,
    /// Whether the job runs in a sandbox, whose network and processes are its own already.
    pub in_sandbox: bool,
    /// The folder with the host's `os-release` and apt sources, which give mirrors that no step names.
    pub host_etc: PathBuf,
    /// Jobs of the same trust domain whose sandboxes were killed: their containers are removed first.
    pub killed: Vec<JobId>,
    /// Build secrets by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Whether images are not built and tested, but become machines for KubeVirt: that of the order's base is
    /// pushed, and is the only build of the outcome.
    pub publishes_machines: bool,
    /// Where bases of builds stay, if that is not the container storage of the work folder.
    pub bases: Option<PathBuf>,
}

impl std::fmt::Debug for WorkSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkSettings").field("work", &self.work).finish_non_exhaustive()
    }
}

/// Runs jobs in this process: the implementation of `edgewright job run`. Clones share connections and
/// indexes.
#[derive(Debug, Clone)]
pub struct JobWorker {
    settings: WorkSettings,
    indexes: Cache,
    /// The client of the last job's registry, with its address.
    client: Arc<Mutex<Option<(String, Client)>>>,
    /// Held while an index is read in advance.
    learning: Arc<tokio::sync::Mutex<()>>,
}

impl JobWorker {
    /// A worker in a work folder.
    pub fn new(settings: WorkSettings) -> Self {
        let indexes = Cache::new(settings.work.join("cache/indexes"));
        Self { settings, indexes, client: Arc::default(), learning: Arc::default() }
    }

    /// Reads the index of an image in advance, so that the next job that adds files to it need not. An index
    /// that a job made is not believed: it decides what this process writes into layers. One image at a time.
    pub(crate) async fn learn(
        &self,
        access: &RegistryAccess,
        manifest: &ManifestRef,
        cancel: &CancellationToken,
    ) {
        let _alone = self.learning.lock().await;
        let client = tokio::task::spawn_blocking({
            let (worker, access) = (self.clone(), access.clone());
            move || worker.client(&access)
        });
        let Ok(Ok(client)) = client.await else { return };
        let reference = Reference::Digest(manifest.digest.clone());
        let Ok(pulled) = client.pull_manifest(&manifest.repository, &reference).await else { return };
        let Ok(layers) = image::layers(&pulled.bytes) else { return };
        let of = (&client, &manifest.repository);
        let read = edgewright_build::index_image(of, &layers, &self.indexes, cancel);
        // A failure here is left to the job that needs the index.
        if !matches!(tokio::time::timeout(INDEX_TIMEOUT, read).await, Ok(Ok(_))) {
            tracing::debug!(digest = %manifest.digest, "cannot read an image's index in advance");
        }
    }

    /// A client of a registry. A new one reads the system's certificates and has no connection yet, so it is
    /// reused; each job has its own token.
    fn client(&self, access: &RegistryAccess) -> Result<Client, ClientError> {
        let mut last = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((url, client)) = &*last
            && *url == access.url
        {
            return Ok(client.with_token(access.token.as_deref()));
        }
        let client = Client::new(access)?;
        *last = Some((access.url.clone(), client.clone()));
        Ok(client)
    }
}

impl Worker for JobWorker {
    fn work(
        &self,
        order: JobOrder,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<JobOutcome, ExecutorError>> {
        Box::pin(async move {
            let reporter = Reporter::new(events);
            let outcome = work(&order, self, &reporter, &cancel).await;
            reporter.finish();
            if cancel.is_cancelled() && outcome.failure.is_some() && outcome.builds.is_empty() {
                return Err(ExecutorError::Cancelled);
            }
            Ok(outcome)
        })
    }
}

/// Removes what killed jobs left in a work folder: processes, containers, mounts, folders. Call it with the
/// data folder's lock held and before the first job.
pub async fn reap(work: &Path, engine: &EngineSettings) -> Reaped {
    edgewright_lab::reap(work, engine, &ProcessContext::default()).await
}

async fn work(
    order: &JobOrder,
    worker: &JobWorker,
    reporter: &Reporter,
    cancel: &CancellationToken,
) -> JobOutcome {
    let settings = &worker.settings;
    // Creating folders and reading the system's certificates for a new client block.
    let prepared = tokio::task::spawn_blocking({
        let (worker, order) = (worker.clone(), order.clone());
        move || (Place::make(&worker.settings.work, &order), worker.client(&order.registry))
    });
    let (place, client) = match prepared.await {
        Ok(prepared) => prepared,
        Err(error) => return with_failure(infrastructure(Chain(&error).to_string(), None)),
    };
    let place = match place {
        Ok(place) => place,
        Err(error) => {
            let message = format!("cannot create the job's folder in {}: {error}", settings.work.display());
            return with_failure(infrastructure(message, Some("check permissions and free space")));
        }
    };
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            place.remove().await;
            return with_failure(infrastructure(Chain(&error).to_string(), error.hint().as_deref()));
        }
    };
    for job in &settings.killed {
        let reaped =
            edgewright_lab::reap_job(&place.work, job, &settings.engine, &ProcessContext::default()).await;
        tracing::info!(job.id = %job, ?reaped, "cleaned up after a killed job");
    }
    let indexes = worker.indexes.clone();
    let podman = Arc::new(PodmanHost::new(PodmanSettings {
        work: place.work.clone(),
        runner: settings.runner,
        engine: settings.engine.clone(),
    }));
    let outcome =
        Job { order, settings, place: &place, client, indexes, podman, reporter, cancel }.run().await;
    place.remove().await;
    outcome
}

fn infrastructure(message: String, hint: Option<&str>) -> JobFailure {
    JobFailure {
        kind: FailureKind::Infrastructure,
        phase: Phase::Fetch,
        message,
        hint: hint.map(str::to_owned),
        output: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::conformance::{image_order, work as done};

    fn worker(work: PathBuf) -> JobWorker {
        JobWorker::new(WorkSettings {
            work,
            runner: b"#!/bin/true",
            guest: b"#!/bin/true",
            tools: None,
            engine: EngineSettings::default(),
            storage_bytes: u64::MAX,
            environment: Vec::new(),
            auth: None,
            in_sandbox: false,
            host_etc: "/etc".into(),
            killed: Vec::new(),
            secrets: BTreeMap::new(),
            publishes_machines: false,
            bases: None,
        })
    }

    #[tokio::test]
    async fn faults_of_the_host_are_infrastructure_and_leave_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        // A work folder that is a file; a registry that does not run.
        for (work, phrase) in
            [(file, "cannot create the job's folder"), (folder.path().join("work"), "127.0.0.1")]
        {
            let order = image_order(1, "hmi").unwrap();
            let (outcome, _) = done(&worker(work.clone()), order, CancellationToken::new()).await;
            let failure = outcome.unwrap().failure.unwrap();
            assert_eq!(failure.kind, FailureKind::Infrastructure);
            assert!(failure.message.contains(phrase), "{failure:?}");
            assert!(fs::read_dir(work.join("jobs")).map_or(0, Iterator::count) == 0);
        }
    }
}
