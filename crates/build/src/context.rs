//! The context of a build besides its order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use edgewright_model::outcome::JobEvent;
use edgewright_oci::Client;
use edgewright_oci::index::Cache;
use edgewright_process::ProcessContext;

/// Receives the events of a job.
pub type Events<'a> = &'a (dyn Fn(JobEvent) + Send + Sync);

/// Folders, registry and environment of a build. Folders are created when needed.
#[derive(Clone)]
pub struct BuildContext {
    /// The order's registry.
    pub client: Client,
    /// The job's own folder, removed with the job.
    pub scratch: PathBuf,
    /// The cache of package lists and archives, kept between jobs.
    pub cache: PathBuf,
    /// The cache of layers' directory indexes, kept between jobs.
    pub indexes: Cache,
    /// The container storage that all jobs of a data folder share (bases are kept there).
    pub storage: PathBuf,
    /// Its run root.
    pub runroot: PathBuf,
    /// Environment of all commands (`CONTAINERS_CONF`, proxies, the job's id) and their cancellation.
    pub process: ProcessContext,
    /// Text of a `containers-auth.json(5)` for external registries.
    pub auth: Option<String>,
    /// Whether commands of a Containerfile share the network of this process: it is that of a sandbox.
    pub in_sandbox: bool,
    /// The folder with the host's `os-release` and apt sources.
    pub host_etc: PathBuf,
    /// Build secrets by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// The time limit of one step.
    pub step_limit: Duration,
}

impl std::fmt::Debug for BuildContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildContext").field("scratch", &self.scratch).finish_non_exhaustive()
    }
}

impl BuildContext {
    /// A folder below the job's own, created if needed.
    pub(crate) fn folder(&self, name: &str) -> std::io::Result<PathBuf> {
        let folder = self.scratch.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}
