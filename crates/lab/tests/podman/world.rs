//! Shared by the cases: a bootstrapped system, a registry with it, podman with its own storage.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgewright_lab::{
    Engine, EngineSettings, LabContext, PodmanHost, PodmanSettings, Runner, WORK_ENVIRONMENT, reap, run_lane,
};
use edgewright_model::order::{JobId, LaneOrder, ManifestRef, RegistryAccess};
use edgewright_model::outcome::JobEvent;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::Verdict;
use edgewright_oci::Client;
use edgewright_process::{CancellationToken, Command, ProcessContext};

pub(crate) use crate::shared::ImageFile;
use crate::shared::registry::{self, Contents};
use crate::shared::{build_static, order_of, target};

/// The packages of the system under test; the name of the cached tar contains them.
const SUITE: &str = "trixie";
const PACKAGES: &str = "systemd,systemd-sysv,dbus";

pub(crate) struct World {
    pub(crate) work: PathBuf,
    pub(crate) engine: Engine,
    pub(crate) runner: Runner,
    binary: &'static [u8],
    pub(crate) contents: Contents,
    url: String,
    base: Vec<(String, usize)>,
}

impl World {
    pub(crate) async fn make(work: &Path) -> Self {
        let processes = processes(work);
        // As in the program that embeds it, which keeps it as long as it runs.
        let binary: &'static [u8] = {
            let folder = build_static(&["edgewright-checks"]).await;
            fs::read(folder.join("edgewright-checks")).expect("it was built").leak()
        };
        let runner = Runner::install(work, binary).expect("runner");
        let engine = Engine::detect(work, &runner, &EngineSettings::default(), &processes)
            .await
            .expect("podman works");
        fs::create_dir(work.join("jobs")).expect("the work folder is new");
        let contents = Contents::default();
        let system = fs::read(bootstrap().await).expect("the system's tar");
        let (digest, size) = contents.blob(system);
        let url = registry::serve(contents.clone()).await;
        let base = vec![(digest.to_string(), size)];
        Self { work: work.to_owned(), engine, runner, binary, contents, url, base }
    }

    /// An image of the system with files over it.
    pub(crate) fn image(&self, command: &[&str], files: &[ImageFile<'_>]) -> ManifestRef {
        let mut layers = self.base.clone();
        layers.push(self.contents.layer(files, (0, 0)));
        self.contents.image(command, &layers)
    }

    pub(crate) fn context(&self, cancel: CancellationToken) -> LabContext {
        let access = RegistryAccess { url: self.url.clone(), token: None };
        let settings = PodmanSettings {
            work: self.work.clone(),
            runner: self.binary,
            engine: EngineSettings::default(),
        };
        LabContext {
            podman: Arc::new(PodmanHost::new(settings)),
            vm: edgewright_lab::VmHost::new(
                &self.work,
                edgewright_vm::Tools::here(),
                edgewright_vm::Programs { guest: b"", checks: b"" },
            ),
            client: Client::new(&access).expect("a loopback address"),
            job: JobId(uuid::Uuid::now_v7()),
            scratch: self.work.join("jobs"),
            processes: ProcessContext::new(cancel),
        }
    }

    /// Runs the container lane.
    pub(crate) async fn run(&self, manifest: &ManifestRef, checks: &str) -> Verdict {
        self.run_order(manifest, &order(checks)).await
    }

    /// Runs a lane.
    #[expect(clippy::print_stderr, reason = "shown where a case fails")]
    pub(crate) async fn run_order(&self, manifest: &ManifestRef, order: &LaneOrder) -> Verdict {
        let context = self.context(CancellationToken::new());
        let log = Arc::new(Mutex::new(Vec::new()));
        let verdict = run_lane(order, manifest, &context, &|event| {
            if let JobEvent::Log { line } = event {
                log.lock().expect("no case panics while it logs").push(line);
            }
        })
        .await;
        for line in log.lock().expect("no case panics while it logs").iter() {
            eprintln!("  {line}");
        }
        assert_eq!(self.containers(&context.job).await, "", "a container is left behind");
        verdict
    }

    /// The containers of a job.
    pub(crate) async fn containers(&self, job: &JobId) -> String {
        let filter = format!("label=edgewright.job={job}");
        let processes = processes(&self.work);
        let command = self.engine.podman(&processes).args(["ps", "--all", "--quiet", "--filter", &filter]);
        command.run().await.expect("podman lists containers").text()
    }

    /// A stored piece of evidence as text.
    pub(crate) fn evidence(&self, verdict: &Verdict, name: &str) -> String {
        self.contents.evidence(verdict, name)
    }

    /// Checks that nothing is left behind.
    pub(crate) async fn end(&self) {
        let context = ProcessContext::new(CancellationToken::new());
        // All lanes have ended, so that no image is in use.
        let count = || fs::read_dir(self.work.join("containers/used")).into_iter().flatten().count();
        let used = count();
        let pruned = self
            .engine
            .prune(edgewright_lab::StorageBounds { images: 1, bytes: u64::MAX }, &context)
            .await
            .expect("images go");
        assert_eq!(pruned, used.saturating_sub(1));
        let images =
            self.engine.podman(&context).args(["images", "--quiet"]).run().await.expect("podman lists");
        assert_eq!(images.text().lines().count(), used.min(1), "{}", images.text());
        let reaped = reap(&self.work, &EngineSettings::default(), &context).await;
        assert!(reaped.problems.is_empty(), "{reaped:?}");
    }
}

/// A lane order with these checks, given as JSON without the brackets.
pub(crate) fn order(checks: &str) -> LaneOrder {
    order_of(Lane::Container, checks)
}

pub(crate) fn processes(work: &Path) -> ProcessContext {
    ProcessContext::new(CancellationToken::new()).with_env(WORK_ENVIRONMENT, work)
}

/// The bootstrapped system as a tar, kept between test runs.
async fn bootstrap() -> PathBuf {
    let folder = target().join("cache");
    fs::create_dir_all(&folder).expect("target/cache");
    let tar = folder.join(format!("{SUITE}-{}.tar", PACKAGES.replace(',', "+")));
    // Tests run in processes of their own: only the first one makes it.
    let lock = fs::File::create(tar.with_extension("lock")).expect("target/cache is writable");
    lock.lock().expect("target/cache is writable");
    if !tar.is_file() {
        let made =
            tempfile::Builder::new().suffix(".tar").tempfile_in(&folder).expect("a file in target/cache");
        let include = format!("--include={PACKAGES}");
        let command =
            Command::new("mmdebstrap").args(["--variant=minbase", &include, SUITE]).arg(made.path());
        command.deadline(Duration::from_mins(10)).run().await.expect("mmdebstrap works");
        made.persist(&tar).expect("target/cache is writable");
    }
    tar
}
