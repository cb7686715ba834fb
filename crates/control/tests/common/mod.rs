//! A world of its own for each test: a git repository, a real registry, control with a simulated executor.

#![allow(dead_code, reason = "no test file needs all of the world")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edgewright_control::context::OperationContext;
use edgewright_control::devices::Devices;
use edgewright_control::hosting::Hosting;
use edgewright_control::outbound::replicate::Copies;
use edgewright_control::releases::tags::ChannelTags;
use edgewright_control::rollouts::Rollouts;
use edgewright_control::{Control, ControlSettings, Parts, SourceSettings};
use edgewright_job::{JobRegistry, SimulatedExecutor};
use edgewright_model::order::{JobOrder, RegistryAccess, Task};
use edgewright_model::run::{RunNumber, RunState};
use edgewright_process::{Clock, Command, ProcessContext, Tasks};
use edgewright_registry::{AccessToken, Open, Registry, RegistrySettings};
use edgewright_source::{Git, Remote};
use edgewright_store::Store;
use edgewright_store::releases::EntryRow;
use edgewright_store::sources::SourceId;

const TOKEN: &str = "a token of control's own";
const SOURCE: &str = "edgewright: 1\nname: plant-os\nplatforms: [linux/amd64]\n";
const BASE: &str = "from: scratch
steps:
  - files: files/
checks:
  - {id: up, systemd: running, timeout: 60s}
";
const ROLE: &str = "from: base
per: site
steps:
  - files: files/
checks:
  - {id: unit, unit: x.service, timeout: 60s}
";

/// Who asks in tests.
pub(crate) static OPERATOR: OperationContext = OperationContext::operator_here();

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) executor: SimulatedExecutor,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) control: Control,
    pub(crate) source: SourceId,
    tasks: Tasks,
    url: String,
}

impl World {
    /// The 2 × 2 sample, committed, with control looking at it but not started.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("repository");
        std::fs::create_dir(&repository).unwrap();
        git(&repository, &["init", "--quiet", "--initial-branch=main"]).await;
        write(&repository, "edgewright.yaml", SOURCE);
        write(&repository, "images/base/image.yaml", BASE);
        write(&repository, "images/base/files/etc/os", "base");
        for role in ["hmi", "gateway"] {
            write(&repository, &format!("images/{role}/image.yaml"), ROLE);
            write(&repository, &format!("images/{role}/files/etc/role"), role);
        }
        for site in ["plant-a", "plant-b"] {
            let slots = "slots:\n  - {id: one, image: hmi}\n  - {id: two, image: gateway}\n";
            write(&repository, &format!("sites/{site}/site.yaml"), &format!("id: {site}\n{slots}"));
            write(&repository, &format!("sites/{site}/files/etc/site"), site);
        }
        commit(&repository, "first").await;

        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let tags = ChannelTags::default();
        let settings = RegistrySettings::new(data.join("registry"));
        let registry = Registry::open(
            settings,
            Arc::new(tags.clone()),
            Arc::new(Open::new(Some(AccessToken::new(TOKEN)))),
        )
        .await
        .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = registry.router();
        #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of its test")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        // Jobs have no token: only control publishes verdicts.
        let executor = SimulatedExecutor::new().pushing(JobRegistry::anonymous(&url));
        let store = Store::open(&data.join("control.db")).await.unwrap();
        let clock = Clock::system();
        let (control, source, tasks) =
            open(folder.path(), &executor, &store, &registry, &tags, &url, clock).await;
        Self { folder, executor, store, registry, control, source, tasks, url }
    }

    /// As after `kill -9`: jobs and reconcilers are gone without a word, a new control opens the same data
    /// folder.
    pub(crate) async fn crash(&mut self) {
        self.reopen(Clock::system()).await;
    }

    /// As after `kill -9`, and a start some hours later: time that passed, and not only a clock that jumped.
    pub(crate) async fn later(&mut self, hours: i64) {
        let now = Clock::system().now() + jiff::SignedDuration::from_hours(hours);
        self.store.confirm_time(now).await.unwrap();
        self.reopen(Clock::fixed(now)).await;
    }

    /// As after `kill -9`, and a start with a clock that is some hours ahead or behind.
    pub(crate) async fn jump(&mut self, hours: i64) {
        let now = Clock::system().now() + jiff::SignedDuration::from_hours(hours);
        self.reopen(Clock::fixed(now)).await;
    }

    /// As after `kill -9`, and a start with this clock.
    pub(crate) async fn reopen(&mut self, clock: Clock) {
        drop(self.tasks.shutdown(Duration::ZERO).await);
        let tags = ChannelTags::default();
        let folder = self.folder.path();
        (self.control, self.source, self.tasks) =
            open(folder, &self.executor, &self.store, &self.registry, &tags, &self.url, clock).await;
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        write(&self.folder.path().join("repository"), path, text);
    }

    /// A git command in the source's repository.
    /// Gives the source another name.
    pub(crate) fn rename(&self, name: &str) {
        self.write("edgewright.yaml", &SOURCE.replace("plant-os", name));
    }

    pub(crate) async fn git(&self, arguments: &[&str]) {
        git(&self.folder.path().join("repository"), arguments).await;
    }

    pub(crate) async fn commit(&self, message: &str) {
        commit(&self.folder.path().join("repository"), message).await;
    }

    /// Polls, and gives the run that came of it.
    pub(crate) async fn poll(&self) -> Option<RunNumber> {
        let handle = self.control.handle(self.source).unwrap();
        self.control.poll_once(&handle).await.unwrap().pop()
    }

    /// Polls and drives what came of it to its end.
    pub(crate) async fn run(&self) -> (RunNumber, RunState) {
        let run = self.poll().await.unwrap();
        let state = self.control.drive(run).await.unwrap();
        let row = self.store.run(run).await.unwrap().unwrap();
        // Shown only when the test fails.
        println!("run {run} {state}: {:?} {:?}", row.failure, row.diagnostics);
        for node in self.store.nodes(run).await.unwrap() {
            println!("  {} {} {}: {:?}", node.node, node.action, node.state, node.failure);
        }
        (run, state)
    }

    /// Orders since `from`, as `build NODE: STEPS` or `test NODE`.
    pub(crate) fn orders(&self, from: usize) -> Vec<String> {
        let mut orders: Vec<String> = self.executor.ran()[from..].iter().map(describe).collect();
        orders.sort();
        orders
    }

    pub(crate) async fn entries(&self) -> Vec<EntryRow> {
        match self.store.newest_release(self.source, "main").await.unwrap() {
            Some(number) => self.store.entries(self.source, number).await.unwrap(),
            None => Vec::new(),
        }
    }

    /// The newest release as `VARIANT ORIGIN: REASON`.
    pub(crate) async fn release(&self) -> Vec<String> {
        let entries = self.entries().await;
        entries.iter().map(|entry| format!("{} {}: {}", entry.variant, entry.origin, entry.reason)).collect()
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of a world, which tests open again and again")]
async fn open(
    folder: &Path,
    executor: &SimulatedExecutor,
    store: &Store,
    registry: &Registry,
    tags: &ChannelTags,
    url: &str,
    clock: Clock,
) -> (Control, SourceId, Tasks) {
    let tasks = Tasks::new();
    let access = RegistryAccess { url: url.to_owned(), token: Some(TOKEN.to_owned()) };
    let data = folder.join("data");
    let git = Git::open(&data.join("git"), ProcessContext::new(tasks.token().clone())).unwrap();
    let rollouts = Rollouts::new(store.clone(), clock.clone(), tags.clone());
    let parts = Parts {
        store: store.clone(),
        hosting: Hosting::new(&access, Some(registry.clone())).unwrap(),
        tags: tags.clone(),
        devices: Devices::new(store.clone(), clock.clone(), Arc::new(rollouts.clone())),
        rollouts,
        copies: Copies::default(),
        executor: Arc::new(executor.clone()),
        git,
        clock,
        tasks: tasks.clone(),
    };
    let mut settings = ControlSettings::new(data);
    settings.retry_after = Duration::from_millis(1);
    let control = Control::new(settings, parts).await.unwrap();
    let remote = Remote::from_path(&folder.join("repository")).unwrap();
    let source = SourceSettings::new("plants".parse().unwrap(), remote, Duration::from_hours(1));
    let source = control.add_source(source).await.unwrap();
    (control, source, tasks)
}

fn describe(order: &JobOrder) -> String {
    match &order.task {
        Task::Lock(task) => format!("lock {}", task.image),
        Task::Image(task) if task.steps.is_empty() => format!("test {}", task.node),
        Task::Image(task) => {
            let node = task.node.split('~').next().unwrap_or_default();
            let node = if task.variant.is_some() { task.node.clone() } else { format!("{node}~") };
            let steps: Vec<&str> = task.steps.iter().map(|step| step.title.as_str()).collect();
            format!("build {node}: {}", steps.join(", "))
        }
    }
}

fn write(repository: &Path, path: &str, text: &str) {
    let path = repository.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

async fn commit(repository: &Path, message: &str) {
    git(repository, &["add", "--all"]).await;
    let identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost"];
    git(repository, &[&identity[..], &["commit", "--quiet", "--allow-empty", "-m", message]].concat()).await;
}

async fn git(repository: &Path, arguments: &[&str]) {
    Command::new("git").arg("-C").arg(repository).args(arguments.iter().copied()).run().await.unwrap();
}
