//! Cleanup after killed jobs: processes, containers, mounts, folders.
//!
//! [`reap`] is called at start, with the lock of the data folder held, before the first job; [`reap_job`]
//! after one job was killed, while others run. Nothing outside of the work folder is touched: processes are
//! identified by [`crate::WORK_ENVIRONMENT`] and the job's id, containers by their storage and label, mounts
//! by their path.

mod folders;
mod orphans;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use edgewright_model::error::Chain;
use edgewright_model::order::{JOB_ENVIRONMENT, JobId};
use edgewright_process::{Command, CommandError, ProcessContext, kill_inside};
use rustix::process::{Pid, Signal, getpid, kill_process};

use crate::container::engine::{self, EngineSettings};
use crate::{JOB_LABEL, WORK_ENVIRONMENT};
use folders::{mounts_below, remove_folder, remove_folders};

/// How long to wait for killed processes to disappear.
const VANISH: Duration = Duration::from_secs(10);
/// The runtimes that podman and buildah may have used.
const RUNTIMES: [&str; 2] = ["runc", "crun"];
/// The time between two checks.
const GLANCE: Duration = Duration::from_millis(50);
/// The time limit of one command.
const COMMAND: Duration = Duration::from_mins(1);

/// What was cleaned up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reaped {
    /// Killed processes.
    pub processes: usize,
    /// Removed containers.
    pub containers: usize,
    /// Unmounted file systems.
    pub mounts: usize,
    /// Removed scratch folders.
    pub folders: usize,
    /// What could not be removed, as messages.
    pub problems: Vec<String>,
}

/// Cleans up after killed jobs in a work folder. Never fails: problems are reported in the result.
pub async fn reap(work: &Path, settings: &EngineSettings, processes: &ProcessContext) -> Reaped {
    let mut reaped = Reaped::default();
    let Ok(work) = tokio::fs::canonicalize(work).await else { return reaped };
    kill_marked(&[work_mark(&work)], &mut reaped).await;
    kill_builds(&work.join("jobs"), &mut reaped).await;
    remove_containers(&work, None, settings, processes, &mut reaped).await;
    unmount_below(&work, processes, &mut reaped).await;
    let jobs = work.join("jobs");
    remove(move || remove_folders(&jobs), &mut reaped).await;
    reaped
}

/// Cleans up after one killed job, while other jobs run: its processes, containers, mounts and folder. The
/// storage of its builds is in that folder. Never fails: problems are reported in the result.
pub async fn reap_job(
    work: &Path,
    job: &JobId,
    settings: &EngineSettings,
    processes: &ProcessContext,
) -> Reaped {
    let mut reaped = Reaped::default();
    let Ok(work) = tokio::fs::canonicalize(work).await else { return reaped };
    let job_entry = format!("{JOB_ENVIRONMENT}={job}").into_bytes();
    kill_marked(&[work_mark(&work), job_entry], &mut reaped).await;
    remove_containers(&work, Some(job), settings, processes, &mut reaped).await;
    let folder = work.join("jobs").join(job.to_string());
    kill_builds(&folder, &mut reaped).await;
    unmount_below(&folder, processes, &mut reaped).await;
    remove(move || remove_folder(&folder), &mut reaped).await;
    reaped
}

async fn remove(work: impl FnOnce() -> (usize, Vec<String>) + Send + 'static, reaped: &mut Reaped) {
    let removed = tokio::task::spawn_blocking(work).await;
    let (folders, problems) = removed.unwrap_or_else(|error| (0, vec![error.to_string()]));
    reaped.folders = folders;
    reaped.problems.extend(problems);
}

/// Kills processes inside builds: their containers have no label, but their root is below the job's folder.
async fn kill_builds(folder: &Path, reaped: &mut Reaped) {
    let folder = folder.to_owned();
    reaped.processes += tokio::task::spawn_blocking(move || kill_inside(&folder)).await.unwrap_or_default();
}

fn work_mark(work: &Path) -> Vec<u8> {
    let mut mark = format!("{WORK_ENVIRONMENT}=").into_bytes();
    mark.extend_from_slice(work.as_os_str().as_bytes());
    mark
}

async fn kill_marked(marks: &[Vec<u8>], reaped: &mut Reaped) {
    let mut seen = BTreeSet::new();
    let deadline = Instant::now() + VANISH;
    loop {
        let found = marked(marks);
        if found.is_empty() {
            break;
        }
        if Instant::now() >= deadline {
            reaped.problems.push(format!("cannot kill {} processes of killed jobs", found.len()));
            break;
        }
        for pid in found {
            // It may be gone already; the next round shows.
            let _ = kill_process(pid, Signal::KILL);
            seen.insert(pid.as_raw_nonzero());
        }
        tokio::time::sleep(GLANCE).await;
    }
    reaped.processes = seen.len();
}

/// The processes whose environment has all of these entries, except this one.
fn marked(marks: &[Vec<u8>]) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| *pid != getpid())
        .filter(|pid| {
            // A zombie's environment is empty.
            let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()));
            let has = |bytes: &[u8], mark: &[u8]| bytes.split(|&byte| byte == 0).any(|entry| entry == mark);
            environment.is_ok_and(|bytes| marks.iter().all(|mark| has(&bytes, mark)))
        })
        .collect()
}

async fn remove_containers(
    work: &Path,
    job: Option<&JobId>,
    settings: &EngineSettings,
    processes: &ProcessContext,
    reaped: &mut Reaped,
) {
    let containers = work.join("containers");
    if !tokio::fs::try_exists(containers.join("storage")).await.unwrap_or(false) {
        return;
    }
    if job.is_none()
        && let Err(error) = engine::forget_earlier_boots(&containers)
    {
        reaped.problems.push(Chain(&error).to_string());
    }
    let conf = engine::written_settings(&containers, settings);
    let tools = Tools { containers: &containers, conf: conf.as_deref(), processes };
    let Some(ids) = labelled_containers(&tools, job, reaped).await else { return };
    if !ids.is_empty() {
        let remove = tools.podman().args(["rm", "--force", "--ignore", "--volumes", "--time", "0"]);
        match remove.args(&ids).run().await {
            Ok(_) => reaped.containers += ids.len(),
            Err(error) => reaped.problems.push(format!("cannot remove containers: {}", Chain(&error))),
        }
    }
    if let Some(job) = job {
        remove_orphans(&work.join("jobs").join(job.to_string()), &BTreeSet::new(), processes, reaped).await;
        return;
    }
    let known = tools.podman().args(["ps", "--all", "--quiet", "--no-trunc"]).run().await;
    if let Ok(known) = known {
        let known = known.text().lines().map(str::to_owned).collect();
        remove_orphans(work, &known, processes, reaped).await;
    }
    remove_working_containers(&tools, reaped).await;
}

/// The programs that use a container storage.
struct Tools<'a> {
    containers: &'a Path,
    conf: Option<&'a Path>,
    processes: &'a ProcessContext,
}

impl Tools<'_> {
    fn podman(&self) -> Command {
        self.command(Command::new("podman").args(engine::podman_arguments(self.containers)))
    }

    fn buildah(&self) -> Command {
        self.command(Command::new("buildah").args(engine::storage_arguments(self.containers)))
    }

    fn command(&self, command: Command) -> Command {
        let command = command.context(self.processes).deadline(COMMAND);
        self.conf.iter().fold(command, |command, conf| command.env("CONTAINERS_CONF", conf))
    }
}

/// The containers of a job, or of all; none if podman is missing or fails.
async fn labelled_containers(
    tools: &Tools<'_>,
    job: Option<&JobId>,
    reaped: &mut Reaped,
) -> Option<Vec<String>> {
    let filter = match job {
        Some(job) => format!("label={JOB_LABEL}={job}"),
        None => format!("label={JOB_LABEL}"),
    };
    let listed =
        tools.podman().args(["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]).run().await;
    let mut ids: Vec<String> = match listed {
        Ok(output) => output.text().lines().map(str::to_owned).collect(),
        Err(CommandError::NotFound { .. }) => return None,
        Err(error) => {
            reaped.problems.push(format!("cannot list containers: {}", Chain(&error)));
            return None;
        }
    };
    let external = ["ps", "--all", "--external", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Status}}"];
    if let Ok(output) = tools.podman().args(external).run().await {
        ids.extend(orphans::unrecorded(&output.text(), job));
    }
    Some(ids)
}

/// Removes working containers of builds, which have no labels; no build can be running now.
async fn remove_working_containers(tools: &Tools<'_>, reaped: &mut Reaped) {
    match tools.buildah().args(["containers", "--quiet"]).run().await {
        Ok(output) if output.stdout.is_empty() => {}
        Ok(output) => match tools.buildah().args(["rm", "--all"]).run().await {
            Ok(_) => reaped.containers += output.text().lines().count(),
            Err(error) => {
                reaped.problems.push(format!("cannot remove working containers: {}", Chain(&error)));
            }
        },
        Err(CommandError::NotFound { .. }) => {}
        Err(error) => {
            reaped.problems.push(format!("cannot list working containers: {}", Chain(&error)));
        }
    }
}

/// Removes a runtime's containers below a folder that podman does not know.
async fn remove_orphans(
    folder: &Path,
    known: &BTreeSet<String>,
    processes: &ProcessContext,
    reaped: &mut Reaped,
) {
    for runtime in RUNTIMES {
        let call = |arguments: &[&str]| {
            Command::new(runtime).args(arguments.iter().copied()).context(processes).deadline(COMMAND).run()
        };
        // A runtime that is not installed, or does not work here, has no containers.
        let Ok(listing) = call(&["list", "--format", "json"]).await else { continue };
        for id in orphans::orphans(&listing.stdout, folder, known) {
            match call(&["delete", "--force", &id]).await {
                Ok(_) => reaped.containers += 1,
                Err(error) => {
                    reaped.problems.push(format!("cannot remove container {id}: {}", Chain(&error)));
                }
            }
        }
    }
}

async fn unmount_below(work: &Path, processes: &ProcessContext, reaped: &mut Reaped) {
    let table = tokio::fs::read("/proc/self/mountinfo").await.unwrap_or_default();
    for point in mounts_below(&table, work) {
        let unmount = Command::new("umount").arg("--lazy").arg(&point).context(processes).deadline(COMMAND);
        match unmount.run().await {
            Ok(_) => reaped.mounts += 1,
            Err(error) => {
                reaped.problems.push(format!("cannot unmount {}: {}", point.display(), Chain(&error)));
            }
        }
    }
}
