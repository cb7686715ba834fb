//! `kill -9` at random moments: the end is the same as that of a server that was not disturbed, and no job
//! whose success was recorded runs again.
//!
//! `EDGEWRIGHT_KILLS=50` makes it 50 rounds of files alone, which servers lay into images themselves, and 50
//! of jobs with podman and buildah; `EDGEWRIGHT_SEED` repeats what a failed test printed.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edgewright_api::RunView;
use edgewright_model::run::{NodeState, RunState};
use rustix::process::{Pid, Signal, kill_process};

use crate::server::{Server, assert_clean, marked};
use crate::systems::Upstream;
use crate::world::{Repository, edgewright};

/// Kills of servers within one round, at most.
const KILLS: u64 = 3;

/// Numbers that look random and can be had again (xorshift).
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let seed = edgewright_testkit::setting("EDGEWRIGHT_SEED")
            .map_or_else(|| RandomState::new().hash_one(0), |seed| seed.parse().unwrap());
        eprintln!("EDGEWRIGHT_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// The nodes whose success is recorded, each with its job.
async fn recorded(folder: &Path, run: &str) -> BTreeMap<String, (String, u64)> {
    // The server is dead: the command reads the database.
    let shown = edgewright(folder, &["run", "show", run, "--json"]).await;
    if shown.code == 3 {
        return BTreeMap::new();
    }
    let shown = shown.ends(0).json();
    let passed = shown["nodes"].as_array().unwrap().iter().filter(|node| node["state"] == "passed");
    passed
        .map(|node| {
            let text = |field: &str| node[field].as_str().unwrap().to_owned();
            (text("node"), (text("job"), node["attempts"].as_u64().unwrap()))
        })
        .collect()
}

/// The number of rounds, which `EDGEWRIGHT_KILLS` may set.
fn rounds(default: u32) -> u32 {
    edgewright_testkit::setting("EDGEWRIGHT_KILLS").map_or(default, |rounds| rounds.parse().unwrap())
}

fn jobs(view: &RunView) -> BTreeMap<String, (String, u64)> {
    let passed = view.nodes.iter().filter(|node| node.state == NodeState::Passed);
    passed
        .map(|node| (node.node.clone(), (node.job.unwrap().to_string(), u64::from(node.attempts))))
        .collect()
}

/// The job processes of a data folder: what runs below them is theirs to end.
fn job_processes(data: &Path) -> Vec<Pid> {
    let is_job = |pid: &Pid| {
        let words = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        words.split(|byte| *byte == 0).skip(1).take(2).eq([&b"job"[..], b"run"])
    };
    marked(data).into_iter().filter(is_job).collect()
}

/// Two servers that follow one repository: one that is disturbed, and its twin that is not.
struct Pair<'a> {
    repository: &'a Repository,
    twin: Server,
    data: PathBuf,
    server: Server,
}

impl<'a> Pair<'a> {
    async fn start(folder: &Path, repository: &'a Repository) -> Self {
        let source = ["--source", repository.url()];
        let data = folder.join("data");
        let twin = Server::start(&folder.join("twin"), &source).await;
        let server = Server::start(&data, &source).await;
        let commit = repository.git(&["rev-parse", "HEAD"]).await;
        for server in [&twin, &server] {
            assert_eq!(server.ended(&commit).await.run.state, RunState::Passed);
        }
        Self { repository, twin, data, server }
    }

    /// Commits, and disturbs one of the servers while it works on that.
    async fn round(mut self, round: u32, random: &mut Random) -> Self {
        let commit = self.repository.commit(&format!("round {round}")).await;
        let began = Instant::now();
        let calm = self.twin.builds(&commit).await;
        assert_eq!(calm.run.state, RunState::Passed, "round {round}: {calm:#?}");
        // All moments of such a round are as likely.
        let took = u64::try_from(began.elapsed().as_millis()).unwrap();

        self.server.poll().await;
        let mut done = BTreeMap::new();
        let mut is_job_killed = false;
        for _ in 0..=random.below(KILLS) {
            tokio::time::sleep(Duration::from_millis(random.below(took))).await;
            let jobs = self.server.client.status().await.unwrap().jobs;
            let phases: Vec<_> = jobs.iter().map(|job| (&job.node, job.phase)).collect();
            eprintln!("round {round}: a kill during {phases:?}");
            match random.below(5) {
                // One job: the server tries it again by itself, but not for ever.
                0 if !is_job_killed => {
                    for pid in job_processes(&self.data) {
                        let _ = kill_process(pid, Signal::KILL);
                        is_job_killed = true;
                    }
                    continue;
                }
                1 | 2 => self.server.kill_all(),
                _ => self.server.kill(),
            }
            for (node, job) in recorded(self.data.parent().unwrap(), &calm.run.number.to_string()).await {
                let before = done.insert(node.clone(), job.clone());
                assert!(before.is_none_or(|before| before == job), "round {round}: {node} ran again");
            }
            self.server = Server::start(&self.data, &["--source", self.repository.url()]).await;
        }
        let disturbed = self.server.builds(&commit).await;
        assert_eq!(disturbed.run.state, RunState::Passed, "round {round}: {disturbed:#?}");
        assert_eq!(
            disturbed.run.number, calm.run.number,
            "round {round}: a commit became another number of runs"
        );
        let ran = jobs(&disturbed);
        for (node, job) in &done {
            assert_eq!(ran.get(node), Some(job), "round {round}: {node} ran again");
        }
        let names: Vec<_> = ran.keys().cloned().collect();
        assert_eq!(names, jobs(&calm).into_keys().collect::<Vec<_>>(), "round {round}");
        assert_eq!(self.server.end_state().await, self.twin.end_state().await, "round {round}");
        assert_clean(&self.data).await;
        self
    }

    async fn stop(self) {
        assert_eq!(self.server.stop().await, Some(0));
        assert_clean(&self.data).await;
    }
}

/// A change of everything, of one role, of one site, or a new site.
fn change_files(repository: &Repository, round: u32, random: &mut Random) {
    let text = format!("round {round}\n");
    match random.below(4) {
        0 => repository.write("images/base/files/etc/base", text),
        1 => repository.write("images/hmi/files/etc/hmi", text),
        2 => repository.write("sites/a/files/etc/site", text),
        _ => repository.site(&format!("n{round}")),
    }
}

#[tokio::test]
async fn kills_at_random_moments_change_nothing() {
    let mut random = Random::seeded();
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a", "b", "c"]).await;
    let mut pair = Pair::start(folder.path(), &repository).await;
    for round in 1..=rounds(8) {
        change_files(&repository, round, &mut random);
        pair = pair.round(round, &mut random).await;
    }
    pair.stop().await;
}

/// A change of what buildah runs, of a role, of the checks, or of one site.
fn change_systems(repository: &Repository, from: &str, round: u32, random: &mut Random) {
    let text = format!("round {round}\n");
    match if round < 2 { 0 } else { random.below(4) } {
        0 => {
            let run = format!("ARG BASE\nFROM ${{BASE}}\nRUN sleep 1; echo round {round} > /etc/round\n");
            repository.write("images/os/Containerfile", run);
        }
        1 => repository.write("images/hmi/files/etc/hmi", text),
        2 => {
            let check = format!("checks:\n  - {{id: up-{round}, systemd: running, timeout: 90s}}\n");
            let os = format!("from: {from}\nsteps: [containerfile: Containerfile]\n{check}");
            repository.write("images/os/image.yaml", os);
        }
        _ => repository.write("sites/a/files/etc/site", text),
    }
}

#[tokio::test]
async fn kills_of_jobs_in_the_middle_of_builds_and_tests_change_nothing() {
    if !edgewright_testkit::has_as_root(&["podman", "buildah", "mmdebstrap"]) {
        return;
    }
    let mut random = Random::seeded();
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(folder.path()).await;
    let from = upstream.from();
    let repository = Repository::plants(folder.path().join("systems"), &["a"]).await;
    repository.git(&["rm", "-r", "--quiet", "images/base"]).await;
    let check = "checks:\n  - {id: up, systemd: running, timeout: 90s}\n";
    let os = format!("from: {from}\nsteps: [containerfile: Containerfile]\n{check}");
    repository.write("images/os/image.yaml", os);
    repository
        .write("images/hmi/image.yaml", format!("from: os\nper: site\nsteps: [files: files/]\n{check}"));
    change_systems(&repository, &from, 0, &mut random);
    // One lock for both servers: files of an image have its time.
    let cli = folder.path().join("cli");
    fs::create_dir(&cli).unwrap();
    edgewright(&cli, &["update", "os", "--dir", repository.url(), "--write"]).await.ends(0);
    repository.commit("systems").await;
    let mut pair = Pair::start(folder.path(), &repository).await;
    for round in 1..=rounds(3) {
        change_systems(&repository, &from, round, &mut random);
        pair = pair.round(round, &mut random).await;
    }
    pair.stop().await;
}
