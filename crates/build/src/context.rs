//! What a build is given besides its order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use edgewright_model::outcome::JobEvent;
use edgewright_oci::Client;
use edgewright_oci::index::Cache;
use edgewright_process::ProcessContext;

/// Takes the events of a job.
pub type Events<'a> = &'a (dyn Fn(JobEvent) + Send + Sync);

/// Where a build works, and with what. Folders are made when needed.
#[derive(Clone)]
pub struct BuildContext {
    /// The order's registry.
    pub client: Client,
    /// The job's own folder: everything in it is removed with the job.
    pub scratch: PathBuf,
    /// Kept between jobs: package archives.
    pub cache: PathBuf,
    /// Kept between jobs: what layers hold.
    pub indexes: Cache,
    /// The container storage that all jobs of a data folder share (bases are kept there).
    pub storage: PathBuf,
    /// Its run root.
    pub runroot: PathBuf,
    /// Environment of all commands (`CONTAINERS_CONF`, proxies, the job's marks) and their cancellation.
    pub process: ProcessContext,
    /// Text of a `containers-auth.json(5)` for external registries.
    pub auth: Option<String>,
    /// Build secrets by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// How long one step may take.
    pub step_limit: Duration,
}

impl std::fmt::Debug for BuildContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildContext").field("scratch", &self.scratch).finish_non_exhaustive()
    }
}

impl BuildContext {
    /// A folder below the job's own, made if needed.
    pub(crate) fn folder(&self, name: &str) -> std::io::Result<PathBuf> {
        let folder = self.scratch.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}
