//! The lifecycle of one container: pull, start, run checks, inspect, remove.
//!
//! Every call is a podman command with a deadline. A fault is either the host's ([`LaneFault`] of kind
//! infrastructure) or the image's: an init that cannot be started, or that ends.

use std::time::{Duration, Instant};

use edgewright_model::error::Chain;
use edgewright_model::order::ManifestRef;
use edgewright_model::reference::RepoName;
use edgewright_process::{Command, CommandError, Finished, ProcessContext};
use serde::Deserialize;

use super::engine::Engine;
use super::host::Podman;
use super::kept;
use super::runner::PROGRAM;
use crate::JOB_LABEL;
use crate::lane::LabContext;
use crate::machine::{LaneFault, MachineState, OnLine, Start, StartCommand};

/// Where the runner's folder is mounted. podman mounts a tmpfs on `/run` before systemd starts, which then
/// does not change it, so the image is not modified.
const MOUNTED: &str = "/run/edgewright";
/// The init of images that name no command.
const DEFAULT_INIT: &str = "/sbin/init";
/// The limit of processes in a machine under test, so that a fork bomb does not take down the host.
const PROCESSES: &str = "16384";
/// The time limit of a query to podman.
const QUESTION: Duration = Duration::from_secs(30);
/// podman's own exit codes: the command cannot be invoked, was not found.
const NOT_INVOKED: i32 = 126;
const NOT_THERE: i32 = 127;

/// A container of a job.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    engine: &'a Engine,
    name: String,
    /// The command of PID 1, for messages.
    init: StartCommand,
}

/// Pulls a digest and starts it.
pub(super) async fn start<'a>(
    context: &'a LabContext,
    podman: &'a Podman,
    start: Start<'_>,
) -> Result<Container<'a>, LaneFault> {
    let deadline = Instant::now() + start.within;
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let image = pull(context, &podman.engine, start.manifest, left()).await?;
    let kept = start.keep.then_some(&start.manifest.repository);
    Container::start(context, podman, &image, (kept, left())).await
}

/// Pulls a platform manifest by digest; gives the image's name in the storage.
pub(crate) async fn pull(
    context: &LabContext,
    engine: &Engine,
    manifest: &ManifestRef,
    within: Duration,
) -> Result<String, LaneFault> {
    let image = format!("{}/{}@{}", context.client.host(), manifest.repository, manifest.digest);
    let auth = context.client.write_auth_file(&context.scratch).await;
    let auth = auth.map_err(|error| {
        LaneFault::of_host(format!("cannot write the job's registry credentials: {error}"))
    })?;
    let mut command = engine.podman(&context.processes).args(["pull", "--quiet", "--authfile"]).arg(auth);
    if context.client.is_plain_http() {
        command = command.arg("--tls-verify=false");
    }
    let pulled = command.arg(&image).deadline(within).run().await;
    pulled.map_err(|error| LaneFault::infrastructure("cannot pull the image", &error))?;
    if let Err(error) = engine.note_use(&image) {
        tracing::warn!(image, %error, "cannot note that an image is in use; it will not be pruned");
    }
    Ok(image)
}

/// The part of an image's config that determines its command.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartConfig {
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    user: Option<String>,
}

impl StartConfig {
    /// The command of PID 1; none if the image names none.
    fn command(&self) -> Option<String> {
        let words: Vec<&str> = [&self.entrypoint, &self.cmd]
            .into_iter()
            .flat_map(|argv| argv.as_deref().unwrap_or_default())
            .map(String::as_str)
            .collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// The user of PID 1, as the image names it; none for root.
    fn user(&self) -> Option<String> {
        let user = self.user.as_deref().unwrap_or_default();
        let name = user.split(':').next().unwrap_or_default();
        (!matches!(name, "" | "root" | "0")).then(|| user.to_owned())
    }
}

/// Whether cgroups of containers can limit processes. In a sandbox on a hybrid host they cannot: the limit is
/// that of the sandbox.
async fn limits_processes() -> bool {
    let controllers = tokio::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").await;
    controllers.map_or(true, |list| list.split_whitespace().any(|name| name == "pids"))
}

impl<'a> Container<'a> {
    /// Starts the image with its own init. A container of the same name, left by an earlier attempt, is
    /// replaced. A `kept` one is labelled with its repository instead of the job, so that it outlives both
    /// the job and [`crate::reap()`].
    async fn start(
        context: &'a LabContext,
        podman: &'a Podman,
        image: &str,
        (kept, within): (Option<&RepoName>, Duration),
    ) -> Result<Container<'a>, LaneFault> {
        let engine = &podman.engine;
        let inspect = ["image", "inspect", "--format", "{{json .Config}}", image];
        let config =
            engine.podman(&context.processes).args(inspect).deadline(QUESTION.min(within)).run().await;
        let config = config.map_err(|error| LaneFault::infrastructure("cannot inspect the image", &error))?;
        let config: StartConfig = serde_json::from_slice(&config.stdout).unwrap_or_default();

        let (name, label) = match kept {
            Some(repository) => (kept::name(repository), format!("{}={repository}", kept::LABEL)),
            None => (format!("edgewright-{}-container", context.job), format!("{JOB_LABEL}={}", context.job)),
        };
        let processes =
            if kept.is_some() { kept::unmarked(&context.processes) } else { context.processes.clone() };
        let mount = format!("type=bind,src={},dst={MOUNTED},ro=true", podman.runner.folder().display());
        let mut command = engine.podman(&processes).args(["run", "--detach", "--replace", "--pull=never"]);
        command = command.args(["--name", &name, "--label", &label]);
        command = command.args(["--systemd=always", "--network", "none", "--http-proxy=false"]);
        if limits_processes().await {
            command = command.args(["--pids-limit", PROCESSES]);
        }
        command = command.args(["--security-opt", "label=disable"]);
        command =
            command.args(["--log-driver", "k8s-file", "--log-opt", "max-size=4mb", "--mount", &mount, image]);
        let of_image = config.command();
        if of_image.is_none() {
            command = command.arg(DEFAULT_INIT);
        }
        let started = command.deadline(within).run_status().await;
        let finished =
            started.map_err(|error| LaneFault::infrastructure("cannot start the container", &error));
        let command = of_image.unwrap_or_else(|| DEFAULT_INIT.to_owned());
        let init = StartCommand { command, user: config.user() };
        let container = Self { engine, name, init };
        match finished {
            Ok(finished) if finished.success() => Ok(container),
            outcome => {
                // Otherwise a container that was created but not started would be left behind.
                container.remove(context).await;
                Err(outcome.map_or_else(|fault| fault, |finished| not_started(&finished)))
            }
        }
    }

    /// What PID 1 was started as.
    pub(super) const fn starts(&self) -> &StartCommand {
        &self.init
    }

    /// A command inside the container; it ends with the container or at the deadline.
    pub(super) fn exec(&self, argv: &[&str], processes: &ProcessContext, within: Duration) -> Command {
        self.engine.podman(processes).args(["exec", &self.name]).args(argv).deadline(within)
    }

    /// Runs the check runner inside with an order on its standard input.
    pub(super) async fn run_checks(
        &self,
        order: Vec<u8>,
        processes: &ProcessContext,
        within: Duration,
        on_line: OnLine<'_>,
    ) -> Result<Finished, CommandError> {
        /// The line of a result includes the last lines of output.
        const LINE: usize = 256 * 1024;
        let command = self.engine.podman(processes).args(["exec", "--interactive", &self.name]);
        let command = command.arg(format!("{MOUNTED}/{PROGRAM}")).stdin_bytes(order);
        command.line_limit(LINE).deadline(within).run_lines_status(on_line).await
    }

    /// The state of PID 1.
    pub(super) async fn state(&self, processes: &ProcessContext) -> Result<MachineState, LaneFault> {
        let format = "{{.State.Running}} {{.State.ExitCode}} {{.State.OOMKilled}}";
        let inspect = ["container", "inspect", "--format", format, &self.name];
        let asked = self.engine.podman(processes).args(inspect).deadline(QUESTION).run().await;
        let asked =
            asked.map_err(|error| LaneFault::infrastructure("cannot inspect the container", &error))?;
        parse_state(&asked.text(), &self.init).ok_or_else(|| {
            LaneFault::of_host(format!("unexpected state of the container: {:?}", asked.text()))
        })
    }

    /// What PID 1 wrote to its standard output and error.
    pub(super) fn console(&self, processes: &ProcessContext) -> Command {
        self.engine.podman(processes).args(["logs", &self.name]).deadline(QUESTION)
    }

    /// Removes it, running or not, even if the job was cancelled.
    pub(super) async fn remove(&self, context: &LabContext) {
        discard(context, self.engine, &self.name).await;
    }
}

/// Removes a container if there is one, running or not, even if the job was cancelled.
pub(crate) async fn discard(context: &LabContext, engine: &Engine, name: &str) {
    let command = engine.podman(&context.uncancelled());
    let command = command.args(["rm", "--force", "--ignore", "--volumes", "--time", "0", name]);
    if let Err(error) = command.deadline(QUESTION * 2).run().await {
        tracing::warn!(container = name, error = %Chain(&error), "cannot remove a container; it is reaped at the next start");
    }
}

/// Why podman could not start a container: the fault of the image or of the host.
fn not_started(finished: &Finished) -> LaneFault {
    let reason = finished.output.stderr_tail.iter().rev().find(|line| !line.trim().is_empty());
    let reason = reason.map_or("podman gave no reason", |line| line.trim());
    match finished.code() {
        Some(NOT_THERE) => {
            LaneFault::of_image(format!("cannot start the image's init: not found in the image: {reason}"))
        }
        Some(NOT_INVOKED) => LaneFault::of_image(format!("cannot start the image's init: {reason}")),
        _ => LaneFault::of_host(format!("cannot start the container ({}): {reason}", finished.ended)),
    }
}

fn parse_state(text: &str, init: &StartCommand) -> Option<MachineState> {
    let mut words = text.split_whitespace();
    match words.next()? {
        "true" => Some(MachineState::Runs),
        "false" => Some(MachineState::Ended {
            init: init.clone(),
            code: words.next()?.parse().ok()?,
            out_of_memory: words.next()? == "true",
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_init_is_parsed() {
        let init = StartCommand { command: "/sbin/init".to_owned(), user: None };
        let ended =
            |code, out_of_memory| Some(MachineState::Ended { init: init.clone(), code, out_of_memory });
        for (text, want) in [
            ("true 0 false", Some(MachineState::Runs)),
            ("false 137 true", ended(137, true)),
            ("false 0 false", ended(0, false)),
            ("", None),
            ("false", None),
            ("<no value>", None),
        ] {
            assert_eq!(parse_state(text, &init), want, "{text}");
        }
    }

    #[test]
    fn only_another_user_than_root_is_named() {
        for (json, want) in [
            ("{}", None),
            (r#"{"User":""}"#, None),
            (r#"{"User":"0:0"}"#, None),
            (r#"{"User":"root"}"#, None),
            (r#"{"User":"daemon"}"#, Some("daemon")),
            (r#"{"User":"1000:1000"}"#, Some("1000:1000")),
        ] {
            assert_eq!(serde_json::from_str::<StartConfig>(json).unwrap().user().as_deref(), want, "{json}");
        }
    }

    #[test]
    fn an_image_without_a_command_gets_an_init() {
        for (json, want) in [
            (r#"{"Cmd":["/sbin/init"]}"#, Some("/sbin/init")),
            (r#"{"Entrypoint":["/x"],"Cmd":["-y"],"Env":["A=b"]}"#, Some("/x -y")),
            (r#"{"Cmd":null}"#, None),
            (r#"{"Cmd":[]}"#, None),
            ("{}", None),
        ] {
            assert_eq!(
                serde_json::from_str::<StartConfig>(json).unwrap().command().as_deref(),
                want,
                "{json}"
            );
        }
    }
}
