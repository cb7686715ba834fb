//! Jobs in sandboxes: the child of the local executor starts where the host's files, loopback and root do not
//! exist.
//!
//! ```text
//! DATA/work/sandbox/     the work folder of all sandboxed jobs, `/work` inside, owned by the sandbox's root
//! DATA/work/sandboxes/   configuration, socket and secrets of jobs that run
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use edgewright_model::order::{JOB_ENVIRONMENT, JobOrder, StepAction, Task};
use edgewright_process::{Command, OwnedTask};
use edgewright_sandbox::launch::{FIRST_ID, Launch};
use edgewright_sandbox::{Bounds, Mount, Network, Sandbox, SandboxError, Sandboxed};

use crate::forward;

/// The work folder in a sandbox.
const WORK: &str = "/work";
/// Where the folder of the registry's socket is in a sandbox.
const SOCKETS: &str = "/run/edgewright";
/// Where build secrets are in a sandbox.
const SECRETS: &str = "/run/secrets";
/// The name of the registry's socket.
const SOCKET: &str = "registry.sock";

/// Starts jobs in sandboxes. Clones share the tool image.
#[derive(Debug, Clone)]
pub struct JobSandbox {
    /// Makes the sandboxes.
    pub sandbox: Sandbox,
    /// The work folder on the host.
    pub work: PathBuf,
    /// Further arguments of `job run`.
    pub arguments: Vec<String>,
    /// What one job may take.
    pub bounds: Bounds,
}

/// A job's sandbox, from before its start until after its end. Dropping it kills what is left and removes its
/// files; that blocks.
#[derive(Debug)]
pub(crate) struct JobPlace {
    _sandboxed: Sandboxed,
    _forward: Option<OwnedTask<()>>,
    _folder: tempfile::TempDir,
}

impl JobSandbox {
    /// The command that starts a job in a sandbox of its own.
    pub(crate) async fn prepare(
        &self,
        program: &Path,
        order: &JobOrder,
        environment: &[(OsString, OsString)],
        secrets: BTreeMap<String, PathBuf>,
    ) -> Result<(Command, JobPlace), SandboxError> {
        let registry = loopback(&order.registry.url);
        let mut launch = self.launch(program, order, environment);
        if let Some(registry) = &registry {
            let forward = ["--forward".to_owned(), format!("{registry}={SOCKETS}/{SOCKET}")];
            launch.arguments.extend(forward);
        }
        let this = self.clone();
        let prepared = tokio::task::spawn_blocking(move || {
            let folder = this.private_folder()?;
            launch.arguments.extend(copy_secrets(folder.path(), &secrets)?);
            for (name, to) in [("sockets", SOCKETS), ("secrets", SECRETS)] {
                let from = folder.path().join(name);
                launch.mounts.push(Mount { from, to: to.to_owned(), writable: false });
            }
            let (command, sandboxed) = this.sandbox.prepare(launch)?;
            Ok((command, sandboxed, folder))
        });
        let lost = |error| SandboxError::io("prepare", self.sandbox.folder())(io::Error::other(error));
        let (command, sandboxed, folder) = prepared.await.map_err(lost)??;
        let forward = match registry {
            None => None,
            Some(registry) => {
                let socket = folder.path().join("sockets").join(SOCKET);
                let task = forward::out_of(&socket, registry).map_err(SandboxError::io("create", &socket))?;
                own(&socket, 0o600)?;
                Some(task)
            }
        };
        Ok((command, JobPlace { _sandboxed: sandboxed, _forward: forward, _folder: folder }))
    }

    /// A job's sandbox but for what has to be made for it.
    fn launch(&self, program: &Path, order: &JobOrder, environment: &[(OsString, OsString)]) -> Launch {
        let job = order.job.to_string();
        let mut arguments: Vec<String> =
            ["job", "run", "--sandboxed", "--work", WORK].map(str::to_owned).into();
        arguments.extend(self.arguments.iter().cloned());
        let mut variables =
            vec![format!("{JOB_ENVIRONMENT}={job}"), format!("{}={WORK}", edgewright_lab::WORK_ENVIRONMENT)];
        // Settings of the host's container engine name files of the host.
        let of_sandbox = environment.iter().filter(|(name, _)| name != "CONTAINERS_CONF");
        variables.extend(
            of_sandbox.map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy())),
        );
        Launch {
            name: job,
            program: program.to_owned(),
            arguments,
            environment: variables,
            mounts: vec![Mount { from: self.work.clone(), to: WORK.to_owned(), writable: true }],
            network: if needs_network(order) { Network::Others } else { Network::None },
            bounds: self.bounds,
        }
    }

    /// A folder that only the sandbox's root and the host's root can enter.
    fn private_folder(&self) -> Result<tempfile::TempDir, SandboxError> {
        let parent = self.sandbox.folder();
        for folder in [&self.work, parent] {
            std::fs::create_dir_all(folder).map_err(SandboxError::io("create", folder))?;
        }
        own(&self.work, 0o700)?;
        let folder = tempfile::tempdir_in(parent).map_err(SandboxError::io("create a folder in", parent))?;
        for name in ["sockets", "secrets"] {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).map_err(SandboxError::io("create", &path))?;
            own(&path, 0o700)?;
        }
        Ok(folder)
    }
}

/// Copies of secrets that the sandbox's root can read, as arguments of `job run`. One that cannot be read is
/// left out: only a step that needs it fails.
fn copy_secrets(folder: &Path, secrets: &BTreeMap<String, PathBuf>) -> Result<Vec<String>, SandboxError> {
    let mut arguments = Vec::new();
    for (number, (id, file)) in secrets.iter().enumerate() {
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(secret = id, file = %file.display(), %error, "cannot read a build secret");
                continue;
            }
        };
        let copy = folder.join("secrets").join(number.to_string());
        std::fs::write(&copy, bytes).map_err(SandboxError::io("write", &copy))?;
        own(&copy, 0o400)?;
        arguments.extend(["--secret".to_owned(), format!("{id}={SECRETS}/{number}")]);
    }
    Ok(arguments)
}

/// Gives a file to the sandbox's root.
fn own(path: &Path, mode: u32) -> Result<(), SandboxError> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(SandboxError::io("restrict", path))?;
    chown(path, Some(FIRST_ID), Some(FIRST_ID)).map_err(SandboxError::io("hand over", path))
}

/// Whether a job reaches other machines: locks and packages come from mirrors, and a Containerfile may run
/// anything.
fn needs_network(order: &JobOrder) -> bool {
    match &order.task {
        Task::Lock(_) => true,
        Task::Image(task) => task.steps.iter().any(|step| !matches!(step.action, StepAction::Files { .. })),
    }
}

/// `HOST:PORT` of a registry on the host's loopback, which does not exist in a sandbox.
fn loopback(url: &str) -> Option<String> {
    let address = url.strip_prefix("http://")?.trim_end_matches('/');
    let socket: std::net::SocketAddr = address.parse().ok()?;
    socket.ip().is_loopback().then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{image_order, lock_request};

    #[test]
    fn only_a_registry_on_loopback_is_forwarded() {
        assert_eq!(loopback("http://127.0.0.1:5080").as_deref(), Some("127.0.0.1:5080"));
        assert_eq!(loopback("http://[::1]:5080/").as_deref(), Some("[::1]:5080"));
        for url in ["https://hub.example:5443", "http://192.0.2.1:80", "http://hub.example"] {
            assert_eq!(loopback(url), None, "{url}");
        }
    }

    #[test]
    fn files_and_lanes_alone_have_no_network() {
        let mut order = image_order(1, "hmi/plant-a").unwrap();
        let Task::Image(task) = &mut order.task else { panic!("it is an image's order") };
        task.steps.retain(|step| matches!(step.action, StepAction::Files { .. }));
        assert!(!needs_network(&order));
        let request = lock_request(1, "base").unwrap();
        assert!(needs_network(&JobOrder::new(request, order.registry)));
    }
}
