//! podman on this host. It is looked for when a job first needs it, so that jobs without containers work without it.

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
use crate::machine::Trouble;

/// What podman is used with.
#[derive(Debug, Clone)]
pub struct PodmanSettings {
    /// The work folder; it exists.
    pub work: PathBuf,
    /// The static check runner.
    pub runner: &'static [u8],
    /// What the user says about podman.
    pub engine: EngineSettings,
}

/// podman as one job sees it.
#[derive(Debug)]
pub struct PodmanHost {
    settings: PodmanSettings,
    /// Of the runner's bytes, where somebody wanted to know: hashing them costs some milliseconds.
    runner: OnceLock<Digest>,
    opened: OnceCell<Result<Podman, LabError>>,
}

/// A podman that works, and the check runner where containers can be given it.
#[derive(Debug)]
pub(crate) struct Podman {
    pub(crate) engine: Engine,
    pub(crate) runner: Runner,
}

impl PodmanHost {
    /// Nothing is looked for yet.
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

    /// podman, looked for once: a later call has the same result.
    ///
    /// # Errors
    /// It is not installed, or starts no container.
    pub async fn engine(&self, processes: &ProcessContext) -> Result<&Engine, &LabError> {
        self.podman(processes).await.map(|podman| &podman.engine)
    }

    /// podman, where it was looked for and found.
    pub fn opened(&self) -> Option<&Engine> {
        self.opened.get()?.as_ref().ok().map(|podman| &podman.engine)
    }

    pub(crate) async fn podman(&self, processes: &ProcessContext) -> Result<&Podman, &LabError> {
        self.opened.get_or_init(|| self.open(processes)).await.as_ref()
    }

    /// Finds podman's settings; one job of a work folder at a time, because the first one tries them out.
    async fn open(&self, processes: &ProcessContext) -> Result<Podman, LabError> {
        let PodmanSettings { work, runner, engine } = &self.settings;
        let prepared = tokio::task::spawn_blocking({
            let (work, binary) = (work.clone(), *runner);
            move || Ok((lock(&work)?, Runner::install(&work, binary)?))
        });
        let broke_off = |error| LabError::io("lock", work.join(LOCK))(io::Error::other(error));
        let (_locked, runner) = prepared.await.map_err(broke_off)??;
        let engine = Engine::detect(work, &runner, engine, processes).await?;
        Ok(Podman { engine, runner })
    }
}

/// Held while podman's settings are tried out.
const LOCK: &str = "engine.lock";

fn lock(work: &Path) -> Result<fs::File, LabError> {
    let path = work.join(LOCK);
    let locked = fs::File::create(&path).and_then(|file| file.lock().map(|()| file));
    locked.map_err(LabError::io("lock", path))
}

/// A lane without podman cannot start.
impl From<&LabError> for Trouble {
    fn from(error: &LabError) -> Self {
        let message = edgewright_model::error::Chain(error).to_string();
        Self::of_host(match error.hint() {
            Some(hint) => format!("{message} ({hint})"),
            None => message,
        })
    }
}
