//! podman on this host. It is detected when a job first needs it, so that jobs without containers work
//! without it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use edgewright_model::Digest;
use edgewright_process::ProcessContext;
use tokio::sync::OnceCell;

use super::engine::{Engine, EngineSettings};
use super::runner::Runner;
use crate::error::LabError;
use crate::machine::LaneFault;

/// Settings of podman in the lab.
#[derive(Debug, Clone)]
pub struct PodmanSettings {
    /// The work folder; it exists.
    pub work: PathBuf,
    /// The static check runner.
    pub runner: &'static [u8],
    /// The user's settings of podman.
    pub engine: EngineSettings,
}

/// podman for one job.
#[derive(Debug)]
pub struct PodmanHost {
    settings: PodmanSettings,
    /// The digest of the runner, computed on first use: hashing it takes some milliseconds.
    runner: OnceLock<Digest>,
    opened: OnceCell<Result<Podman, LabError>>,
}

/// A working podman, and the check runner in a folder that can be mounted into containers.
#[derive(Debug)]
pub(crate) struct Podman {
    pub(crate) engine: Engine,
    pub(crate) runner: Runner,
}

impl PodmanHost {
    /// Detects nothing yet.
    pub const fn new(settings: PodmanSettings) -> Self {
        Self { settings, runner: OnceLock::new(), opened: OnceCell::const_new() }
    }

    /// A host without podman.
    #[cfg(test)]
    pub(crate) fn without_podman() -> Self {
        let engine = EngineSettings::default();
        let settings = PodmanSettings { work: PathBuf::new(), runner: b"", engine };
        Self { opened: OnceCell::from(Err(LabError::NoPodman)), ..Self::new(settings) }
    }

    /// Digest of the check runner.
    pub fn runner(&self) -> &Digest {
        self.runner.get_or_init(|| Digest::of(self.settings.runner))
    }

    /// podman, detected once: a later call gives the same result.
    ///
    /// # Errors
    /// It is not installed, or starts no container.
    pub async fn engine(&self, processes: &ProcessContext) -> Result<&Engine, &LabError> {
        self.podman(processes).await.map(|podman| &podman.engine)
    }

    /// podman, if it was detected.
    pub fn opened(&self) -> Option<&Engine> {
        self.opened.get()?.as_ref().ok().map(|podman| &podman.engine)
    }

    pub(crate) async fn podman(&self, processes: &ProcessContext) -> Result<&Podman, &LabError> {
        self.opened.get_or_init(|| self.open(processes)).await.as_ref()
    }

    /// Finds podman's settings; one job of a work folder at a time, because the first one probes.
    async fn open(&self, processes: &ProcessContext) -> Result<Podman, LabError> {
        let PodmanSettings { work, runner, engine } = &self.settings;
        let prepared = tokio::task::spawn_blocking({
            let (work, binary) = (work.clone(), *runner);
            move || Ok((lock(&work)?, Runner::install(&work, binary)?))
        });
        let panicked = |error| LabError::io("lock", work.join(LOCK))(io::Error::other(error));
        let (_locked, runner) = prepared.await.map_err(panicked)??;
        let engine = Engine::detect(work, &runner, engine, processes).await?;
        Ok(Podman { engine, runner })
    }
}

/// The file that is locked during a probe.
const LOCK: &str = "engine.lock";

fn lock(work: &Path) -> Result<fs::File, LabError> {
    let path = work.join(LOCK);
    let locked = fs::File::create(&path).and_then(|file| file.lock().map(|()| file));
    locked.map_err(LabError::io("lock", path))
}

/// A lane without podman cannot start.
impl From<&LabError> for LaneFault {
    fn from(error: &LabError) -> Self {
        let message = edgewright_model::error::Chain(error).to_string();
        Self::of_host(match error.hint() {
            Some(hint) => format!("{message} ({hint})"),
            None => message,
        })
    }
}
