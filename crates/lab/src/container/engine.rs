//! podman on this host, with a storage of its own and settings that are found by probing.
//!
//! ```text
//! WORK/containers/storage        image and container storage (`--root`)
//! WORK/containers/run, tmp       their run-time state (`--runroot`, `--tmpdir`), emptied after a reboot
//! WORK/containers/boot           the boot that `run` and `tmp` belong to
//! WORK/containers/containers.conf  settings found by probing, if the defaults do not work
//! WORK/containers/engine.json    the result of probing, for this podman and this boot
//! ```
//!
//! The default runtime does not work on every host (crun on hybrid cgroups, default limits above the hard
//! limit without CAP_SYS_RESOURCE), so the first use probes by running a container. A `CONTAINERS_CONF` of
//! the user is used unchanged.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_process::{Command, CommandError, ProcessContext};
use serde::{Deserialize, Serialize};

use super::candidates::CANDIDATES;
use super::runner::{PROGRAM, Runner};
use crate::error::LabError;

/// The time limit of one probe.
const PROBE: Duration = Duration::from_mins(1);
/// The time limit of a query to podman.
const QUESTION: Duration = Duration::from_secs(30);
/// Version of `engine.json`.
const FOUND_VERSION: u32 = 1;
/// The variable that names podman's and buildah's settings.
const CONTAINERS_CONF: &str = "CONTAINERS_CONF";

/// The user's settings of podman.
#[derive(Debug, Clone, Default)]
pub struct EngineSettings {
    /// The user's `CONTAINERS_CONF`: used unchanged and without probing.
    pub containers_conf: Option<PathBuf>,
}

/// A working podman, with a storage of its own.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) folder: PathBuf,
    version: String,
    containers_conf: Option<PathBuf>,
}

/// The result of an earlier probe.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    version: u32,
    podman: String,
    boot: String,
    containers_conf: Option<PathBuf>,
}

impl Engine {
    /// Finds settings with which podman starts a container; once per work folder, podman version and boot.
    pub async fn detect(
        work: &Path,
        runner: &Runner,
        settings: &EngineSettings,
        processes: &ProcessContext,
    ) -> Result<Self, LabError> {
        let work = tokio::fs::canonicalize(work).await.map_err(LabError::io("find", work))?;
        if work.to_string_lossy().contains([',', ':', '\n']) {
            return Err(LabError::InvalidFolder(work));
        }
        let folder = work.join("containers");
        tokio::fs::create_dir_all(&folder).await.map_err(LabError::io("create", &folder))?;
        let boot = forget_earlier_boots(&folder)?;
        let version =
            Command::new("podman").arg("--version").context(processes).deadline(QUESTION).run().await;
        let version = version.map_err(|error| match error {
            CommandError::NotFound { .. } => LabError::NoPodman,
            other => LabError::Podman(other),
        })?;
        let mut engine =
            Self { folder, version: version.text(), containers_conf: settings.containers_conf.clone() };
        if engine.containers_conf.is_none() {
            engine.find_settings(&boot, runner, processes).await?;
        }
        Ok(engine)
    }

    async fn find_settings(
        &mut self,
        boot: &str,
        runner: &Runner,
        processes: &ProcessContext,
    ) -> Result<(), LabError> {
        let memory = self.folder.join("engine.json");
        let found = tokio::fs::read(&memory).await.ok();
        let found = found.and_then(|json| serde_json::from_slice::<Found>(&json).ok());
        if let Some(found) = found.filter(|found| {
            (found.version, found.podman.as_str(), found.boot.as_str())
                == (FOUND_VERSION, &self.version, boot)
                && found.containers_conf.as_deref().is_none_or(Path::is_file)
        }) {
            self.containers_conf = found.containers_conf;
            return Ok(());
        }

        // Jobs may probe at the same time: each has its own folder, and moves its result into place
        // atomically.
        let trial =
            tempfile::tempdir_in(&self.folder).map_err(LabError::io("create a folder in", &self.folder))?;
        let rootfs = trial.path().join("rootfs");
        tokio::fs::create_dir(&rootfs).await.map_err(LabError::io("create", &rootfs))?;
        let copied = tokio::fs::copy(&runner.path, rootfs.join(PROGRAM)).await;
        copied.map_err(LabError::io("copy", &runner.path))?;
        let limits = tokio::fs::read_to_string("/proc/self/limits").await.unwrap_or_default();
        let mut tried = Vec::new();
        for candidate in CANDIDATES {
            let text = candidate.containers_conf(&limits);
            let conf = trial.path().join("containers.conf");
            if let Some(text) = &text {
                tokio::fs::write(&conf, text).await.map_err(LabError::io("write", &conf))?;
            }
            self.containers_conf = text.is_some().then_some(conf);
            match self.probe(&rootfs, processes).await {
                Ok(()) => {
                    tracing::info!(engine.podman = self.version, "podman works with {}", candidate.title);
                    return self.remember(&memory, boot);
                }
                Err(error @ CommandError::Cancelled { .. }) => return Err(LabError::Podman(error)),
                Err(error) => {
                    let reason = error.stderr_tail().last().cloned().unwrap_or_else(|| error.to_string());
                    tried.push(format!("{}: {reason}", candidate.title));
                }
            }
        }
        Err(LabError::NoRuntime { tried })
    }

    /// Moves working settings to their final place.
    fn remember(&mut self, memory: &Path, boot: &str) -> Result<(), LabError> {
        if let Some(trial) = self.containers_conf.take() {
            let conf = self.folder.join("containers.conf");
            fs::rename(&trial, &conf).map_err(LabError::io("write", &conf))?;
            self.containers_conf = Some(conf);
        }
        let found = Found {
            version: FOUND_VERSION,
            podman: self.version.clone(),
            boot: boot.to_owned(),
            containers_conf: self.containers_conf.clone(),
        };
        let write = || -> std::io::Result<()> {
            let file = tempfile::NamedTempFile::new_in(&self.folder)?;
            serde_json::to_writer(&file, &found)?;
            file.persist(memory)?;
            Ok(())
        };
        write().map_err(LabError::io("write", memory))
    }

    async fn probe(&self, rootfs: &Path, processes: &ProcessContext) -> Result<(), CommandError> {
        let command =
            self.podman(processes).args(["run", "--rm", "--network", "none", "--rootfs"]).arg(rootfs);
        command.args([&format!("/{PROGRAM}"), "--version"]).deadline(PROBE).run().await.map(|_| ())
    }

    /// A podman command on this storage with the found settings; the caller adds the subcommand.
    pub fn podman(&self, processes: &ProcessContext) -> Command {
        let command = Command::new("podman").args(podman_arguments(&self.folder)).context(processes);
        match self.process_environment() {
            Some((name, value)) => command.env(name, value),
            None => command,
        }
    }

    /// `--root` and `--runroot`, which podman and buildah understand.
    pub fn storage_arguments(&self) -> [OsString; 4] {
        storage_arguments(&self.folder)
    }

    /// The environment variable that passes the found settings to podman and buildah.
    pub fn process_environment(&self) -> Option<(&'static str, &Path)> {
        self.containers_conf.as_deref().map(|path| (CONTAINERS_CONF, path))
    }

    /// The output of `podman --version`.
    pub fn version(&self) -> &str {
        &self.version
    }
}

pub(crate) fn storage_arguments(containers: &Path) -> [OsString; 4] {
    [
        "--root".into(),
        containers.join("storage").into_os_string(),
        "--runroot".into(),
        runroot(containers).into_os_string(),
    ]
}

/// The longest path, in bytes, that podman accepts for its run-time state.
const LONGEST_RUNROOT: usize = 50;

/// The folder of podman's and buildah's run-time state: beside the storage if its path is short enough for
/// podman, else a short folder whose name is derived from that path, so that every process uses the same.
pub fn runroot(containers: &Path) -> PathBuf {
    let beside = containers.join("run");
    if beside.as_os_str().len() <= LONGEST_RUNROOT {
        return beside;
    }
    let name = Digest::of(beside.as_os_str().as_encoded_bytes());
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    PathBuf::from(if is_root { "/run/edgewright-" } else { "/tmp/edgewright-" }.to_owned() + name.short())
}

/// Options for podman alone, so that it shares no state with the user's podman: buildah has no such option.
pub(crate) fn podman_arguments(containers: &Path) -> Vec<OsString> {
    let mut arguments = Vec::from(storage_arguments(containers));
    arguments.extend(["--tmpdir".into(), containers.join("tmp").into_os_string()]);
    arguments
}

/// Deletes the run-time state of earlier boots, which podman expects to be gone after a reboot. Gives this
/// boot's id.
pub(crate) fn forget_earlier_boots(containers: &Path) -> Result<String, LabError> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    let note = containers.join("boot");
    if fs::read_to_string(&note).is_ok_and(|noted| noted == boot) {
        return Ok(boot);
    }
    for folder in [runroot(containers), containers.join("tmp")] {
        match fs::remove_dir_all(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(LabError::io("remove", folder)(error)),
        }
    }
    // For other programs that clear the folder.
    let place = containers.join("runroot");
    fs::write(&place, runroot(containers).as_os_str().as_encoded_bytes())
        .map_err(LabError::io("write", &place))?;
    fs::write(&note, &boot).map_err(LabError::io("write", &note))?;
    Ok(boot)
}

/// The settings that an earlier probe wrote, for reaping without a probe.
pub(crate) fn written_settings(containers: &Path, settings: &EngineSettings) -> Option<PathBuf> {
    let written = || Some(containers.join("containers.conf")).filter(|conf| conf.is_file());
    settings.containers_conf.clone().or_else(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_runtime_state_is_short_enough_for_podman() {
        assert_eq!(
            runroot(Path::new("/var/lib/edgewright/work/containers")),
            Path::new("/var/lib/edgewright/work/containers/run")
        );
        let long = Path::new("/home/engineer/projects/plants/.local/share/edgewright/work/containers");
        let short = runroot(long);
        assert!(short.as_os_str().len() <= LONGEST_RUNROOT, "{}", short.display());
        assert_eq!(runroot(long), short);
        assert_ne!(runroot(&long.join("x")), short);
    }

    #[test]
    fn a_reboot_empties_the_runtime_state_only() {
        let folder = tempfile::tempdir().unwrap();
        let containers = folder.path();
        for name in ["run", "tmp", "storage"] {
            fs::create_dir(containers.join(name)).unwrap();
        }
        fs::write(containers.join("boot"), "an earlier one").unwrap();
        let boot = forget_earlier_boots(containers).unwrap();
        assert!(!containers.join("run").exists() && !containers.join("tmp").exists());
        assert!(containers.join("storage").exists());
        fs::create_dir(containers.join("run")).unwrap();
        assert_eq!(forget_earlier_boots(containers).unwrap(), boot);
        assert!(containers.join("run").exists());
    }
}
