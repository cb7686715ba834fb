//! Images that fail in different ways, each on a server of its own: a run ends with the right kind of failure
//! and a message to act on, leaves nothing behind, and the next run succeeds.

use std::fs;
use std::path::Path;

use edgewright_api::{NodeView, RunView};
use edgewright_model::outcome::{FailureKind, JobFailure};
use edgewright_model::run::{NodeState, RunState};
use edgewright_model::verdict::LaneResult;

use crate::server::{Server, assert_clean, marked};
use crate::systems::Upstream;
use crate::world::{Repository, edgewright, until};
use edgewright_testkit::has_as_root;

/// The time limit of a job: enough to build and test the system on a busy machine.
const LIMIT: &str = "10m";
/// The limit of a job that does not end: enough to fetch the system.
const SHORT_LIMIT: &str = "60s";
/// A job's log is cut at 16 MiB; one more line reports it.
const LOG_BYTES: u64 = 17 << 20;
/// What the server may ever have needed; in KiB.
const SERVER_KIB: u64 = 1 << 20;

const CONTAINERFILE: &str = "ARG BASE\nFROM ${BASE}\n";
/// Keeps systemd from ever having started: multi-user.target waits for it.
const SLOW_UNIT: &str = "[Unit]\nBefore=multi-user.target\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/sleep infinity\n";

/// The check of an operating system that has to start.
const CHECKED: &str = "checks:\n  - {id: up, systemd: running, timeout: 60s}\n";
const UNCHECKED: &str = "test: none\n";

struct World {
    _folder: tempfile::TempDir,
    _upstream: Upstream,
    repository: Repository,
    data: std::path::PathBuf,
    config: String,
}

impl World {
    /// A source with one image, `os`, which is tested as given, and a server with a time limit of jobs.
    async fn make(tests: &str, limit: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let upstream = Upstream::start(folder.path()).await;
        let repository = Repository::make(folder.path().join("systems")).await;
        repository.write("edgewright.yaml", "edgewright: 1\nname: systems\n");
        let os = format!("from: {}\nsteps: [files: files/]\n{tests}", upstream.from());
        repository.write("images/os/image.yaml", os);
        repository.write("images/os/files/etc/motd", "hello\n");
        let config = folder.path().join("edgewright.toml");
        let text = format!("[jobs]\nwithin = \"{limit}\"\n[[source]]\nurl = \"{}\"\n", repository.url());
        fs::write(&config, text).unwrap();
        let data = folder.path().join("data");
        Self {
            data,
            config: config.to_str().unwrap().to_owned(),
            _folder: folder,
            _upstream: upstream,
            repository,
        }
    }

    async fn serve(&self) -> Server {
        Server::start(&self.data, &["--config", &self.config]).await
    }

    /// Runs a good commit, then one with an image `bad`, then one without it. Gives the node of `bad`.
    async fn run_bad(&self, image: &str, containerfile: &str) -> NodeView {
        let server = self.serve().await;
        let good = self.repository.commit("good").await;
        let run = server.builds(&good).await;
        assert_eq!(run.run.state, RunState::Passed, "{run:#?}");

        self.repository.write("images/bad/image.yaml", image);
        self.repository.write("images/bad/Containerfile", format!("{CONTAINERFILE}{containerfile}"));
        let commit = self.repository.commit(containerfile).await;
        let run = server.builds(&commit).await;
        assert_clean(&self.data).await;
        assert_eq!(node(&run, "os").state, NodeState::Reused, "{run:#?}");
        let logs = crate::world::files(&self.data.join("logs"));
        assert!(logs.values().all(|size| *size <= LOG_BYTES), "{logs:?}");
        let peak = peak_of(&self.data);
        assert!(peak < SERVER_KIB, "{peak} KiB");

        self.repository.git(&["rm", "-r", "--quiet", "images/bad"]).await;
        self.repository.write("images/os/files/etc/motd", "hello again\n");
        let last = self.repository.commit("without the bad image").await;
        let last = server.builds(&last).await;
        assert_eq!(last.run.state, RunState::Passed, "{last:#?}");
        assert_eq!(server.stop().await, Some(0));
        assert_clean(&self.data).await;
        node(&run, "bad").clone()
    }
}

fn node<'a>(run: &'a RunView, name: &str) -> &'a NodeView {
    run.nodes.iter().find(|node| node.node == name).unwrap_or_else(|| panic!("no {name}: {run:#?}"))
}

fn failure(node: &NodeView) -> &JobFailure {
    assert_eq!(node.state, NodeState::Failed, "{node:#?}");
    node.failure.as_ref().unwrap()
}

/// The most memory that a process ever had, in KiB.
fn peak_of(data: &Path) -> u64 {
    let lock: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(data.join("lock")).unwrap()).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", lock["pid"])).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const BUILT: &str = "from: os\nsteps: [containerfile: Containerfile]\ntest: none\n";

/// The same with a check of the image.
fn checked(check: &str) -> String {
    format!("from: os\nsteps: [containerfile: Containerfile]\nchecks:\n  - {{{check}}}\n")
}

#[tokio::test]
async fn a_run_resumes_after_all_processes_were_killed_during_a_test() {
    if !has_as_root(&["podman", "buildah", "mmdebstrap"]) {
        return;
    }
    let world = World::make(CHECKED, LIMIT).await;
    let server = world.serve().await;
    let commit = world.repository.commit("good").await;
    server.poll().await;
    until("a machine under test", async || {
        let jobs = server.client.status().await.unwrap().jobs;
        let tests = jobs.iter().any(|job| job.phase == Some(edgewright_model::outcome::Phase::Test));
        (tests && marked(&world.data).len() > 1).then_some(())
    })
    .await;
    server.kill_all();

    let server = world.serve().await;
    let run = server.ended(&commit).await;
    assert_eq!(run.run.state, RunState::Passed, "{run:#?}");
    let os = node(&run, "os");
    assert!(os.verdicts.len() == 1 && os.verdicts[0].result == LaneResult::Passed, "{os:#?}");
    assert_eq!(server.stop().await, Some(0));
    assert_clean(&world.data).await;
}

#[tokio::test]
async fn a_failing_command_of_a_containerfile_fails_the_image_with_its_output() {
    if !has_as_root(&["podman", "buildah", "mmdebstrap"]) {
        return;
    }
    let bad =
        World::make(UNCHECKED, LIMIT).await.run_bad(BUILT, "RUN echo the last words >&2; exit 3\n").await;
    let failure = failure(&bad);
    assert_eq!((failure.kind, bad.attempts), (FailureKind::Image, 1), "{failure:#?}");
    assert!(failure.output.iter().any(|line| line.contains("the last words")), "{failure:#?}");
}

#[tokio::test]
async fn log_and_memory_are_bounded_when_a_build_prints_100_mb() {
    if !has_as_root(&["podman", "buildah", "mmdebstrap"]) {
        return;
    }
    let loud = "RUN head -c 100000000 /dev/zero | tr '\\0' x | fold -w 200\n";
    let world = World::make(UNCHECKED, LIMIT).await;
    let bad = world.run_bad(BUILT, loud).await;
    assert_eq!(bad.state, NodeState::Passed, "{bad:#?}");
    let folder = world.data.parent().unwrap();
    let images = edgewright(folder, &["images", "--json"]).await.ends(0).json();
    assert_eq!(images["images"][0]["state"], "retired", "{images:#}");
}

#[tokio::test]
async fn a_build_that_never_ends_is_cancelled_and_not_retried() {
    if !has_as_root(&["podman", "buildah", "mmdebstrap"]) {
        return;
    }
    let bad = World::make(UNCHECKED, SHORT_LIMIT).await.run_bad(BUILT, "RUN sleep infinity\n").await;
    let failure = failure(&bad);
    assert_eq!((failure.kind, bad.attempts), (FailureKind::Image, 1), "{failure:#?}");
}

#[tokio::test]
async fn a_system_that_never_starts_fails_at_the_limit_of_its_check() {
    if !has_as_root(&["podman", "buildah", "mmdebstrap"]) {
        return;
    }
    let unit = SLOW_UNIT.replace('\n', "\\n");
    let slow = format!(
        "ENV UNIT=\"{unit}\"\nRUN printf \"$UNIT\" > /etc/systemd/system/slow.service && systemctl add-wants multi-user.target slow.service\n"
    );
    let image = checked("id: up, systemd: running, timeout: 3s");
    let bad = World::make(UNCHECKED, LIMIT).await.run_bad(&image, &slow).await;
    let failure = failure(&bad);
    assert_eq!(failure.kind, FailureKind::Image, "{failure:#?}");
    assert!(failure.message.contains("up"), "{failure:#?}");
}

#[tokio::test]
async fn a_check_that_hangs_fails_at_its_own_limit() {
    if !has_as_root(&["podman", "buildah", "mmdebstrap"]) {
        return;
    }
    let image = checked("id: hangs, command: [sleep, infinity], timeout: 2s");
    let bad = World::make(UNCHECKED, LIMIT).await.run_bad(&image, "RUN echo hangs\n").await;
    let failure = failure(&bad);
    assert!(matches!(failure.kind, FailureKind::Image | FailureKind::Check), "{failure:#?}");
    assert!(failure.message.contains("hangs"), "{failure:#?}");
}
