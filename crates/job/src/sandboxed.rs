//! Jobs in sandboxes: the child of the local executor starts where the host's files, loopback and root do not
//! exist.
//!
//! ```text
//! DATA/work/sandbox/DOMAIN/  the work folder of a trust domain's jobs, `/work` inside, owned by their root
//! DATA/work/sandboxes/       configuration, socket and secrets of jobs that run
//! DATA/work/killed/DOMAIN/   a folder for each killed job that may have left containers in the storage
//! ```
//!
//! A domain's jobs may put anything into its work folder, links included. The host follows none there.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::order::{JOB_ENVIRONMENT, JobOrder, StepAction, Task};
use edgewright_process::{Command, OwnedTask};
use edgewright_sandbox::launch::{FIRST_ID, Launch};
use edgewright_sandbox::{Bounds, Mount, Network, Sandbox, SandboxError, Sandboxed, kept};
use rustix::fs::{Mode, OFlags};

use crate::tools::Tools;
use crate::{forward, reach};

/// Work folders of trust domains without a job for longer are removed.
const UNUSED: Duration = Duration::from_hours(30 * 24);
/// The work folder in a sandbox.
const WORK: &str = "/work";
/// Where the folder of the registry's socket is in a sandbox.
const SOCKETS: &str = "/run/edgewright";
/// Where the host's apt sources are in a sandbox.
const HOST_ETC: &str = "/run/host-etc";
/// The files of the host's `/etc` that name its mirrors; of folders, the files in them.
const SOURCES: [&str; 3] = ["os-release", "apt/sources.list", "apt/sources.list.d"];
/// Where build secrets are in a sandbox.
const SECRETS: &str = "/run/secrets";

/// Starts jobs in sandboxes. Clones share the tool image.
#[derive(Debug, Clone)]
pub struct JobSandbox {
    /// The tool image, and where sandboxes keep their configuration.
    pub tools: Tools,
    /// The folder on the host with the work folders of all trust domains.
    pub work: PathBuf,
    /// The `nice` value of jobs.
    pub nice: u8,
    /// The container storage that stays after a job, in MiB: of all trust domains together.
    pub storage_mib: u64,
    /// Addresses of this host that jobs may reach besides registries, `HOST:PORT`.
    pub reach: Vec<String>,
    /// What one job may take.
    pub bounds: Bounds,
}

/// A job's sandbox, from before its start until after its end. Dropping it kills what is left and removes its
/// files; that blocks.
#[derive(Debug)]
pub(crate) struct JobPlace {
    sandboxed: Sandboxed,
    _forwards: Vec<OwnedTask<()>>,
    folder: tempfile::TempDir,
}

impl JobPlace {
    /// Leaves the sandbox running with the machine in it, without its sockets and secrets. An earlier one of
    /// the same repository ends. It blocks.
    pub(crate) fn keep(self, repository: &str) -> Result<(), SandboxError> {
        let sandboxes = self.folder.path().parent().unwrap_or(Path::new("/"));
        for earlier in kept::list(sandboxes)?.iter().filter(|earlier| earlier.label() == repository) {
            earlier.remove()?;
        }
        self.sandboxed.keep(repository)
    }
}

impl JobSandbox {
    /// The command that starts a job in a sandbox of its own.
    pub(crate) async fn prepare(
        &self,
        sandbox: &Sandbox,
        launch: Launch,
        order: &JobOrder,
        secrets: BTreeMap<String, PathBuf>,
    ) -> Result<(Command, JobPlace), SandboxError> {
        let mut launch = launch;
        let reached = reach::addresses(order, &self.reach).await;
        for address in &reached {
            let forward = ["--forward".to_owned(), format!("{address}={SOCKETS}/{}", socket(address))];
            launch.arguments.extend(forward);
        }
        let (this, sandbox) = (self.clone(), sandbox.clone());
        let domain = order.domain.folder();
        let prepared = tokio::task::spawn_blocking(move || {
            let folder = this.private_folder(&this.work.join(&domain))?;
            launch.arguments.extend(["--storage-mib".to_owned(), this.share_of_storage().to_string()]);
            launch.arguments.extend(this.take_killed(&domain));
            launch.arguments.extend(copy_secrets(folder.path(), &secrets)?);
            copy_sources(Path::new("/etc"), &folder.path().join("etc"))?;
            for (name, to) in [("sockets", SOCKETS), ("secrets", SECRETS), ("etc", HOST_ETC)] {
                let from = folder.path().join(name);
                launch.mounts.push(Mount { from, to: to.to_owned(), writable: false });
            }
            let (command, sandboxed) = sandbox.prepare(launch)?;
            Ok((command, sandboxed, folder))
        });
        let lost = |error| SandboxError::io("prepare", self.tools.sandboxes())(io::Error::other(error));
        let (command, sandboxed, folder) = prepared.await.map_err(lost)??;
        let mut forwards = Vec::new();
        for address in &reached {
            let path = folder.path().join("sockets").join(socket(address));
            forwards.push(forward::out_of(&path, *address).map_err(SandboxError::io("create", &path))?);
            own(&path, 0o600)?;
        }
        Ok((command, JobPlace { sandboxed, _forwards: forwards, folder }))
    }

    /// The work folder of an order's trust domain. It is the only folder of the host that its jobs write to,
    /// and no job of another domain sees it.
    pub(crate) fn domain(&self, order: &JobOrder) -> PathBuf {
        self.work.join(order.domain.folder())
    }

    /// A job's sandbox but for what has to be made for it.
    pub(crate) fn launch(
        &self,
        program: &Path,
        order: &JobOrder,
        environment: &[(OsString, OsString)],
    ) -> Launch {
        let job = order.job.to_string();
        let mut arguments: Vec<String> =
            ["job", "run", "--sandboxed", "--work", WORK, "--host-etc", HOST_ETC].map(str::to_owned).into();
        arguments.extend(["--nice".to_owned(), self.nice.to_string()]);
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
            mounts: vec![Mount { from: self.domain(order), to: WORK.to_owned(), writable: true }],
            kvm: needs_kvm(order),
            network: if needs_network(order) { Network::Others } else { Network::None },
            bounds: self.bounds,
        }
    }

    /// The container storage that one trust domain may keep, in MiB.
    fn share_of_storage(&self) -> u64 {
        let domains = std::fs::read_dir(&self.work).map_or(0, Iterator::count);
        self.storage_mib / u64::try_from(domains).unwrap_or(u64::MAX).max(1)
    }

    /// Removes what killed jobs left, and the work folders of trust domains that had no job for a long time:
    /// of sources that are not followed any more, and of their pull requests. What a later job needs of them
    /// is fetched again. It blocks; call it before the first job.
    pub fn tidy(&self) {
        for entry in std::fs::read_dir(&self.work).into_iter().flatten().flatten() {
            let (domain, jobs) = (entry.file_name(), jobs_of(&entry.path()));
            let jobs = jobs.iter().flat_map(|jobs| std::fs::read_dir(within(jobs, "."))).flatten().flatten();
            for job in jobs {
                self.remove_killed(&domain.to_string_lossy(), &job.file_name());
            }
            // Each job makes and removes a folder there.
            let used = entry.path().join("jobs").symlink_metadata().and_then(|jobs| jobs.modified());
            if used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age > UNUSED)) {
                let removed = std::fs::remove_dir_all(entry.path());
                tracing::info!(folder = %entry.path().display(), ?removed, "removed the caches of an unused trust domain");
            }
        }
    }

    /// Removes the folder of a job whose sandbox was killed, if it is there. Its containers are in the
    /// storage of its domain, which only a job of the domain may change: the next one removes them. It
    /// blocks.
    pub(crate) fn remove_killed(&self, domain: &str, job: &OsStr) {
        let Some(jobs) = jobs_of(&self.work.join(domain)) else { return };
        let folder = within(&jobs, job);
        if folder.symlink_metadata().is_err() {
            return;
        }
        let marked = std::fs::create_dir_all(self.killed(domain).join(job));
        let removed = std::fs::remove_dir_all(folder);
        tracing::info!(?job, domain, ?marked, ?removed, "removed the folder of a killed job");
    }

    /// Arguments that name the killed jobs of a domain, once.
    fn take_killed(&self, domain: &str) -> Vec<String> {
        let killed = std::fs::read_dir(self.killed(domain)).into_iter().flatten().flatten();
        let named = |entry: std::fs::DirEntry| {
            std::fs::remove_dir(entry.path()).ok()?;
            Some(["--killed".to_owned(), entry.file_name().into_string().ok()?])
        };
        killed.filter_map(named).flatten().collect()
    }

    /// Where the killed jobs of a domain are noted: no job can write there.
    fn killed(&self, domain: &str) -> PathBuf {
        self.work.with_file_name("killed").join(domain)
    }

    /// A folder that only the sandbox's root and the host's root can enter.
    fn private_folder(&self, domain: &Path) -> Result<tempfile::TempDir, SandboxError> {
        let parent = self.tools.sandboxes();
        for folder in [domain, parent] {
            std::fs::create_dir_all(folder).map_err(SandboxError::io("create", folder))?;
        }
        own(domain, 0o700)?;
        let folder = tempfile::tempdir_in(parent).map_err(SandboxError::io("create a folder in", parent))?;
        for name in ["sockets", "secrets", "etc"] {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).map_err(SandboxError::io("create", &path))?;
            own(&path, 0o700)?;
        }
        Ok(folder)
    }
}

/// The folder with the job folders of a domain; none if it is missing, or a link.
fn jobs_of(domain: &Path) -> Option<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(domain.join("jobs"), flags, Mode::empty()).ok()
}

/// A path in an open folder, whatever its name leads to by now.
fn within(folder: &OwnedFd, name: impl AsRef<Path>) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name)
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

/// Copies what names the mirrors of this host, but no credentials: those are in `apt/auth.conf`.
fn copy_sources(etc: &Path, to: &Path) -> Result<(), SandboxError> {
    for name in SOURCES {
        let from = etc.join(name);
        if from.is_dir() {
            for entry in std::fs::read_dir(&from).into_iter().flatten().flatten() {
                copy(&entry.path(), &to.join(name).join(entry.file_name()))?;
            }
        } else {
            copy(&from, &to.join(name))?;
        }
    }
    Ok(())
}

/// Copies a file for the sandbox's root; one that is not there, or not a file, is left out.
fn copy(from: &Path, to: &Path) -> Result<(), SandboxError> {
    let Ok(text) = std::fs::read(from) else { return Ok(()) };
    let mut parent = to.parent();
    let mut missing = Vec::new();
    while let Some(folder) = parent.filter(|folder| !folder.exists()) {
        missing.push(folder.to_owned());
        parent = folder.parent();
    }
    for folder in missing.iter().rev() {
        std::fs::create_dir(folder).map_err(SandboxError::io("create", folder))?;
        own(folder, 0o700)?;
    }
    std::fs::write(to, text).map_err(SandboxError::io("write", to))?;
    own(to, 0o400)
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

/// Whether a job starts virtual machines.
fn needs_kvm(order: &JobOrder) -> bool {
    match &order.task {
        Task::Lock(_) => false,
        Task::Image(task) => task.lanes.iter().any(|lane| lane.lane.has_kernel()),
    }
}

/// The name of the socket for an address.
fn socket(address: &SocketAddr) -> String {
    format!("{}-{}.sock", address.ip(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{image_order, lock_request};

    #[test]
    fn mirrors_of_the_host_are_copied_without_credentials() {
        if !edgewright_testkit::has_as_root(&[]) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (etc, to) = (folder.path().join("etc"), folder.path().join("copy"));
        for (path, text) in [
            ("os-release", "ID=debian"),
            ("apt/sources.list.d/debian.sources", "Types: deb"),
            ("apt/auth.conf", "machine mirror login me password secret"),
        ] {
            std::fs::create_dir_all(etc.join(path).parent().unwrap()).unwrap();
            std::fs::write(etc.join(path), text).unwrap();
        }
        copy_sources(&etc, &to).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("os-release")).unwrap(), "ID=debian");
        assert!(to.join("apt/sources.list.d/debian.sources").is_file());
        assert!(!to.join("apt/auth.conf").exists());
    }

    fn jobs(work: PathBuf) -> JobSandbox {
        let bounds = Bounds { memory_bytes: 1 << 30, processes: 100, cpu_weight: 100 };
        let tools = Tools::new("/nonexistent".into(), work.with_file_name("sandboxes"));
        JobSandbox { tools, work, nice: 0, storage_mib: 100, reach: Vec::new(), bounds }
    }

    #[test]
    fn what_killed_jobs_left_is_removed_and_named_to_the_next_job_once() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("sandbox");
        std::fs::create_dir_all(work.join("7/jobs/0189/scratch")).unwrap();
        let jobs = jobs(work.clone());
        jobs.tidy();
        assert!(!work.join("7/jobs/0189").exists());
        assert_eq!(jobs.take_killed("7"), ["--killed", "0189"]);
        assert!(jobs.take_killed("7").is_empty() && jobs.take_killed("8").is_empty());
    }

    #[test]
    fn links_of_a_job_lead_the_host_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let (work, host) = (folder.path().join("sandbox"), folder.path().join("host"));
        std::fs::create_dir_all(host.join("0189/secret")).unwrap();
        std::fs::create_dir_all(work.join("7")).unwrap();
        std::os::unix::fs::symlink(&host, work.join("7/jobs")).unwrap();
        std::fs::create_dir_all(work.join("8/jobs")).unwrap();
        std::os::unix::fs::symlink(&host, work.join("8/jobs/0189")).unwrap();
        let jobs = jobs(work);
        jobs.tidy();
        jobs.remove_killed("7", OsStr::new("0189"));
        assert!(host.join("0189/secret").is_dir(), "a file of the host was removed");
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
