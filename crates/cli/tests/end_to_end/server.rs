//! `edgewright serve` as a process that can be killed, and what it leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use edgewright_api::{Client, ReleaseView, RunView};
use edgewright_model::order::RegistryAccess;
use edgewright_model::reference::Reference;
use edgewright_model::run::RunNumber;
use edgewright_process::Command;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::world::{EDGEWRIGHT, PATIENCE, until};

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) data: PathBuf,
    pub(crate) address: String,
    pub(crate) client: Client,
}

/// The state of a source as clients see it: it must be the same whatever happened on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndState {
    /// Number and entries of the newest release.
    release: (u32, BTreeMap<String, String>),
    /// Each channel's release.
    channels: BTreeMap<String, Option<u32>>,
    /// What the tag `stable` of each repository gives.
    tags: BTreeMap<String, Option<String>>,
}

impl EndState {
    pub(crate) fn digests(&self) -> &BTreeMap<String, String> {
        &self.release.1
    }
}

impl Server {
    /// Starts a server on a data folder, on any free port, and waits until it answers.
    pub(crate) async fn start(data: &Path, arguments: &[&str]) -> Self {
        let child = spawn(data, arguments);
        let deadline = Instant::now() + PATIENCE;
        let mut server = Self {
            child,
            data: data.to_owned(),
            address: String::new(),
            client: Client::new("http://x").unwrap(),
        };
        loop {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", server.log());
            }
            if let Some((address, token)) = announced(data, server.child.id()) {
                server.client = Client::new(&format!("http://{address}")).unwrap().with_token(Some(token));
                server.address = address;
                if server.client.status().await.is_ok() {
                    return server;
                }
            }
            assert!(Instant::now() < deadline, "the server does not answer: {}", server.log());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// The token that it made at its first start.
    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.data.join("operator-token")).unwrap().trim().to_owned()
    }

    /// The registry with the operator's token.
    pub(crate) fn registry(&self) -> RegistryAccess {
        RegistryAccess { url: format!("http://{}", self.address), token: Some(self.token()) }
    }

    /// What it and its predecessors logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(log_path(&self.data)).unwrap_or_default()
    }

    /// SIGKILL for the process alone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGKILL for everything at once, as when the power goes: the server's process group and all its jobs.
    pub(crate) fn kill_all(mut self) {
        let group = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        let _ = kill_process_group(group, Signal::KILL);
        for pid in marked(&self.data) {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.child.wait().unwrap();
    }

    /// SIGHUP.
    pub(crate) fn reload(&self) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
    }

    /// The text of an address.
    pub(crate) async fn get(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.address);
        Command::new("curl").args(["--silent", "--show-error", "--fail", &url]).run().await.unwrap().text()
    }

    /// Waits until it has ended without a signal; gives the exit code.
    pub(crate) async fn ends_by_itself(mut self) -> Option<i32> {
        until("the server's end", async || self.child.try_wait().unwrap()).await.code()
    }

    /// SIGTERM; gives the exit code.
    pub(crate) async fn stop(mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        until("the server's end", async || self.child.try_wait().unwrap()).await.code()
    }

    /// Polls the only source now.
    pub(crate) async fn poll(&self) {
        for source in self.client.sources().await.unwrap() {
            self.client.poll(&source.name).await.unwrap();
        }
    }

    /// Waits for the end of the newest run of a commit.
    pub(crate) async fn ended(&self, commit: &str) -> RunView {
        let run = until("a run's end", async || {
            let runs = self.client.runs(None, 100).await.unwrap();
            runs.into_iter().find(|run| run.commit == commit && run.state.is_terminal())
        });
        self.client.run(run.await.number).await.unwrap()
    }

    /// Polls, and waits for the end of a commit's run.
    pub(crate) async fn builds(&self, commit: &str) -> RunView {
        self.poll().await;
        self.ended(commit).await
    }

    /// The newest release.
    pub(crate) async fn release(&self) -> ReleaseView {
        self.client.releases(None, 1).await.unwrap().remove(0)
    }

    /// The state of the only source.
    pub(crate) async fn end_state(&self) -> EndState {
        let release = self.release().await;
        let channels = self.client.channels(None).await.unwrap();
        let access = RegistryAccess { url: format!("http://{}", self.address), token: None };
        let registry = edgewright_oci::Client::new(&access).unwrap();
        let stable: Reference = "stable".parse().unwrap();
        let mut tags = BTreeMap::new();
        for entry in &release.entries {
            let tag = registry.head_manifest(&entry.repository, &stable).await.unwrap();
            tags.insert(entry.repository.to_string(), tag.map(|tag| tag.digest.unwrap().to_string()));
        }
        let entries =
            release.entries.iter().map(|entry| (entry.variant.to_string(), entry.digest.to_string()));
        EndState {
            release: (release.number.0, entries.collect()),
            channels: channels.into_iter().map(|c| (c.name.to_string(), c.release.map(|r| r.0))).collect(),
            tags,
        }
    }

    /// A run.
    pub(crate) async fn run(&self, number: RunNumber) -> RunView {
        self.client.run(number).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_path(data: &Path) -> PathBuf {
    data.with_extension("log")
}

#[expect(clippy::disallowed_methods, reason = "a server that is to be killed, not awaited")]
fn spawn(data: &Path, arguments: &[&str]) -> Child {
    let log = fs::File::options().create(true).append(true).open(log_path(data)).unwrap();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    std::process::Command::new(EDGEWRIGHT)
        .args(["serve", "--listen", "127.0.0.1:0", "--poll", "1h", "--data"])
        .arg(data)
        .args(arguments)
        .env_clear()
        .envs([("PATH", path), ("HOME", "/nonexistent"), ("LANG", "C.UTF-8")])
        .envs([edgewright_testkit::tools()])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// The address that a server wrote into its lock file, and the token from the path in that file.
fn announced(data: &Path, pid: u32) -> Option<(String, String)> {
    let text = fs::read_to_string(data.join("lock")).ok()?;
    let holder: serde_json::Value = serde_json::from_str(&text).ok()?;
    if holder["pid"] != pid {
        return None;
    }
    let token = fs::read_to_string(holder["token_file"].as_str()?).ok()?;
    Some((holder["address"].as_str()?.to_owned(), token.trim().to_owned()))
}

/// The processes that jobs of a data folder started: in a sandbox, or with the host's tools.
pub(crate) fn marked(data: &Path) -> Vec<Pid> {
    let Ok(work) = data.join("work").canonicalize() else { return Vec::new() };
    let mark = format!("EDGEWRIGHT_WORK={}", work.display());
    let cgroup = edgewright_sandbox::launch::prefix(&work.join("sandboxes"));
    let is_marked = |pid: &Pid| {
        let read =
            |name: &str| fs::read(format!("/proc/{}/{name}", pid.as_raw_nonzero())).unwrap_or_default();
        String::from_utf8_lossy(&read("cgroup")).contains(&cgroup)
            || read("environ").split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(is_marked)
        .collect()
}

/// Asserts that nothing of any job is left: processes, containers, mounts, folders, files that were being
/// packed.
pub(crate) async fn assert_clean(data: &Path) {
    // A job's last process may still be going when its result is known.
    until("the end of all processes of jobs", async || marked(data).is_empty().then_some(())).await;
    let work = data.join("work").canonicalize().unwrap();
    until("the removal of all folders of jobs", async || folder(&work.join("jobs")).is_empty().then_some(()))
        .await;
    until("the removal of all sandboxes", async || folder(&work.join("sandboxes")).is_empty().then_some(()))
        .await;
    for domain in folder(&work.join("sandbox")) {
        assert_eq!(folder(&domain.join("jobs")), Vec::<PathBuf>::new(), "folders of jobs are left");
    }
    assert_eq!(folder(&work.join("packs")), Vec::<PathBuf>::new(), "packed files are left");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    // Podman keeps one bind mount of its own storage as long as it lives there.
    let left: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| Path::new(point).starts_with(&work) && !point.ends_with("/storage/overlay"))
        .collect();
    assert_eq!(left, Vec::<&str>::new(), "mounts are left");
    let containers = work.join("containers");
    if containers.join("storage").is_dir() {
        let path = |name: &str| containers.join(name).into_os_string();
        let runroot = fs::read_to_string(containers.join("runroot"))
            .map_or_else(|_| path("run"), std::ffi::OsString::from);
        let podman =
            Command::new("podman").args(["--root".into(), path("storage"), "--runroot".into(), runroot]);
        let podman =
            podman.args(["--tmpdir".into(), path("tmp")]).args(["ps", "--all", "--quiet", "--external"]);
        assert_eq!(podman.run().await.unwrap().text(), "", "containers are left");
    }
}

fn folder(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
