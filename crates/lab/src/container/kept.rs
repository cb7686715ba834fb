//! Machines of the container lane that were started with `--keep`, for inspection. They belong to no job:
//! reaping leaves them alone, and they stay until they are removed or the host restarts. There is at most one
//! for each repository.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::order::JOB_ENVIRONMENT;
use edgewright_model::reference::RepoName;
use edgewright_process::{CancellationToken, Command, CommandError, ProcessContext};
use serde::Deserialize;

use super::engine::{self, EngineSettings};
use crate::{LabError, WORK_ENVIRONMENT};

/// The label of a kept machine; its value is the repository.
pub(crate) const LABEL: &str = "edgewright.kept";
/// The time limit of one command.
const COMMAND: Duration = Duration::from_mins(1);
/// Prefers bash, as a login shell.
const SHELL: &str = "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi";

/// A kept machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The repository of its image, such as `plant-os/hmi/plant-a`.
    pub repository: String,
    pub container: String,
    /// podman's name of its state: `running`, `exited`.
    pub state: String,
    /// podman's text about its age: `Up 2 minutes`.
    pub status: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    names: Vec<String>,
    state: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

/// A command that replaces this process: program, arguments, and further environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The program to start.
    pub program: &'static str,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// podman's settings, if the defaults do not work.
    pub containers_conf: Option<PathBuf>,
}

/// Lists the kept machines of a work folder, by repository.
///
/// # Errors
/// podman is missing or fails.
pub async fn list(work: &Path, settings: &EngineSettings) -> Result<Vec<Kept>, LabError> {
    let containers = work.join("containers");
    if !tokio::fs::try_exists(containers.join("storage")).await.unwrap_or(false) {
        return Ok(Vec::new());
    }
    let filter = format!("label={LABEL}");
    let listed = podman(&containers, settings).args(["ps", "--all", "--format", "json", "--filter", &filter]);
    let output = listed.run().await.map_err(fault)?;
    let listed: Vec<Listed> = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let mut kept: Vec<Kept> = listed
        .into_iter()
        .filter_map(|mut listed| {
            let repository = listed.labels.remove(LABEL)?;
            let container = listed.names.into_iter().next()?;
            Some(Kept { repository, container, state: listed.state, status: listed.status })
        })
        .collect();
    kept.sort_by(|a, b| a.repository.cmp(&b.repository));
    Ok(kept)
}

/// Removes kept machines.
///
/// # Errors
/// podman is missing or cannot remove one.
pub async fn remove(work: &Path, settings: &EngineSettings, machines: &[Kept]) -> Result<(), LabError> {
    let command = podman(&work.join("containers"), settings);
    let command = command.args(["rm", "--force", "--ignore", "--volumes", "--time", "0"]);
    command.args(machines.iter().map(|kept| &kept.container)).run().await.map_err(fault)?;
    Ok(())
}

/// The command to enter a kept machine: a shell by default.
pub fn enter(
    work: &Path,
    settings: &EngineSettings,
    machine: &Kept,
    command: &[OsString],
    is_terminal: bool,
) -> Entry {
    let containers = work.join("containers");
    let mut arguments = engine::podman_arguments(&containers);
    arguments.extend(["exec".into(), "--interactive".into()]);
    if is_terminal {
        arguments.push("--tty".into());
    }
    arguments.push(machine.container.clone().into());
    if command.is_empty() {
        arguments.extend(["/bin/sh", "-c", SHELL].map(OsString::from));
    } else {
        arguments.extend(command.iter().cloned());
    }
    let containers_conf = engine::written_settings(&containers, settings);
    Entry { program: "podman", arguments, containers_conf }
}

/// The name of a kept machine's container: podman does not accept slashes.
pub(crate) fn name(repository: &RepoName) -> String {
    format!("edgewright-kept-{}", repository.to_string().replace('/', "."))
}

/// The context without a job's environment variables: processes that have them are killed when jobs are
/// reaped.
pub(crate) fn unmarked(context: &ProcessContext) -> ProcessContext {
    let fresh = ProcessContext::new(context.cancel().clone());
    let marks = [JOB_ENVIRONMENT, WORK_ENVIRONMENT];
    let kept = context.env().iter().filter(|(name, _)| !marks.iter().any(|mark| name == mark));
    kept.fold(fresh, |context, (name, value)| context.with_env(name, value))
}

fn podman(containers: &Path, settings: &EngineSettings) -> Command {
    let processes = ProcessContext::new(CancellationToken::new());
    let command = Command::new("podman").args(engine::podman_arguments(containers));
    let command = command.context(&processes).deadline(COMMAND);
    let conf = engine::written_settings(containers, settings);
    conf.iter().fold(command, |command, conf| command.env("CONTAINERS_CONF", conf))
}

fn fault(error: CommandError) -> LabError {
    match error {
        CommandError::NotFound { .. } => LabError::NoPodman,
        other => LabError::Podman(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_machine_has_no_environment_of_its_job() {
        let context = ProcessContext::new(CancellationToken::new())
            .with_env(JOB_ENVIRONMENT, "1")
            .with_env(WORK_ENVIRONMENT, "/w")
            .with_env("HTTPS_PROXY", "http://proxy");
        let names: Vec<_> = unmarked(&context).env().keys().cloned().collect();
        assert_eq!(names, ["HTTPS_PROXY"]);
        assert_eq!(name(&"plant-os/hmi/plant-a".parse().unwrap()), "edgewright-kept-plant-os.hmi.plant-a");
    }
}
