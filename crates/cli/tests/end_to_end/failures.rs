//! Images that go wrong in every way, one commit after the other on one server: each ends with the right kind of
//! failure and words to act on, leaves nothing behind, and the next run is as if nothing had happened.

use std::fs;
use std::path::Path;

use edgewright_api::{NodeView, RunView};
use edgewright_model::outcome::{FailureKind, JobFailure};
use edgewright_model::run::{NodeState, RunState};
use edgewright_model::verdict::LaneResult;

use crate::server::{Server, assert_clean, marked};
use crate::systems::Upstream;
use crate::world::{Repository, edgewright, has_tools, until};

/// Limit of a job: enough to fetch and test the system on a busy machine.
const JOB_LIMIT: &str = "40s";
/// A job's log is cut at 16 MiB; a line more says so.
const LOG_BYTES: u64 = 17 << 20;
/// What the server may ever have needed; in KiB.
const SERVER_KIB: u64 = 1 << 20;

const CONTAINERFILE: &str = "ARG BASE\nFROM ${BASE}\n";
/// Keeps systemd from ever having started: multi-user.target waits for it.
const SLOW_UNIT: &str = "[Unit]\nBefore=multi-user.target\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/sleep infinity\n";

struct World {
    _folder: tempfile::TempDir,
    _upstream: Upstream,
    repository: Repository,
    data: std::path::PathBuf,
    config: String,
}

impl World {
    async fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let upstream = Upstream::start(folder.path()).await;
        let repository = Repository::make(folder.path().join("systems")).await;
        repository.write("edgewright.yaml", "edgewright: 1\nname: systems\n");
        let os = format!(
            "from: {}\nsteps: [files: files/]\nchecks:\n  - {{id: up, systemd: running, within: 60s}}\n",
            upstream.from()
        );
        repository.write("images/os/image.yaml", os);
        repository.write("images/os/files/etc/motd", "hello\n");
        let config = folder.path().join("edgewright.toml");
        let text = format!("[jobs]\nwithin = \"{JOB_LIMIT}\"\n[[source]]\nurl = \"{}\"\n", repository.url());
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

    /// Commits an image `bad` besides the good one, and gives its node.
    async fn bad(&self, server: &Server, image: &str, containerfile: &str) -> NodeView {
        self.repository.write("images/bad/image.yaml", image);
        self.repository.write("images/bad/Containerfile", format!("{CONTAINERFILE}{containerfile}"));
        let commit = self.repository.commit(containerfile).await;
        let run = server.builds(&commit).await;
        assert_clean(&self.data).await;
        assert_eq!(node(&run, "os").state, NodeState::Reused, "{run:#?}");
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

#[tokio::test]
async fn what_goes_wrong_is_told_and_leaves_nothing_behind() {
    if !has_tools(&["podman", "buildah"]).await {
        return;
    }
    let world = World::make().await;
    let server = world.serve().await;

    // All is well, but everything is killed while the machine under test is up.
    let first = world.repository.commit("a good one").await;
    server.poll().await;
    until("a machine under test", async || {
        let jobs = server.client.status().await.unwrap().jobs;
        let tests = jobs.iter().any(|job| job.phase == Some(edgewright_model::outcome::Phase::Test));
        (tests && marked(&world.data).len() > 1).then_some(())
    })
    .await;
    server.kill_all();
    let server = world.serve().await;
    let run = server.ended(&first).await;
    assert_eq!(run.run.state, RunState::Passed, "{run:#?}");
    let os = node(&run, "os");
    assert!(os.verdicts.len() == 1 && os.verdicts[0].result == LaneResult::Passed, "{os:#?}");
    assert_clean(&world.data).await;

    // A command of a Containerfile that fails is the image's fault, told with its last words.
    let bad = world.bad(&server, BUILT, "RUN echo the last words >&2; exit 3\n").await;
    let told = failure(&bad);
    assert_eq!((told.kind, bad.attempts), (FailureKind::Image, 1), "{told:#?}");
    assert!(told.output.iter().any(|line| line.contains("the last words")), "{told:#?}");

    // One that prints 100 MB passes; log and memory stay bounded.
    let loud = "RUN head -c 100000000 /dev/zero | tr '\\0' x | fold -w 200\n";
    let bad = world.bad(&server, BUILT, loud).await;
    assert_eq!(bad.state, NodeState::Passed, "{bad:#?}");
    let logs = crate::world::files(&world.data.join("logs"));
    assert!(logs.values().all(|size| *size <= LOG_BYTES), "{logs:?}");
    assert!(peak_of(&world.data) < SERVER_KIB, "{} KiB", peak_of(&world.data));

    // One that never ends is ended, once: it would not end the next time either.
    let bad = world.bad(&server, BUILT, "RUN sleep infinity\n").await;
    let told = failure(&bad);
    assert_eq!((told.kind, bad.attempts), (FailureKind::Image, 1), "{told:#?}");

    // A machine that never gets to `running`, and a check that hangs: they end at the check's own limit.
    let slow = "RUN printf '%s' \"$UNIT\" > /etc/systemd/system/slow.service && systemctl add-wants multi-user.target slow.service\n";
    let slow =
        format!("ENV UNIT=\"{}\"\n{slow}", SLOW_UNIT.replace('\n', "\\n")).replace("printf '%s'", "printf");
    let image = "from: os\nsteps: [containerfile: Containerfile]\nchecks:\n  - {id: up, systemd: running, within: 3s}\n";
    let told = failure(&world.bad(&server, image, &slow).await).clone();
    assert_eq!(told.kind, FailureKind::Image, "{told:#?}");
    assert!(told.message.contains("up"), "{told:#?}");

    let image = "from: os\nsteps: [containerfile: Containerfile]\nchecks:\n  - {id: hangs, command: [sleep, infinity], within: 2s}\n";
    let told = failure(&world.bad(&server, image, "RUN echo hangs\n").await).clone();
    assert!(matches!(told.kind, FailureKind::Image | FailureKind::Check), "{told:#?}");
    assert!(told.message.contains("hangs"), "{told:#?}");

    // And the good one is as good as ever.
    world.repository.git(&["rm", "-r", "--quiet", "images/bad"]).await;
    world.repository.write("images/os/files/etc/motd", "hello again\n");
    let last = world.repository.commit("without the bad one").await;
    assert_eq!(server.builds(&last).await.run.state, RunState::Passed);
    assert_eq!(server.stop().await, Some(0));
    assert_clean(&world.data).await;
    let folder = world.data.parent().unwrap();
    let images = edgewright(folder, &["images", "--json"]).await.ends(0).json();
    assert_eq!(images["images"][0]["state"], "retired", "{images:#}");
}
