//! The executor on a real cluster with Tekton. `EDGEWRIGHT_TEST_CLUSTER` describes it, as JSON:
//!
//! ```json
//! { "kubeconfig": "…", "registry": "ADDR:PORT", "pull": "HOST", "checks": "…", "rootfs": "…" }
//! ```
//!
//! `registry`: where this test listens, and Pods and this host reach it; `pull`: the name by which nodes
//! pull from it; `checks`: the static check runner; `rootfs`: a tar with systemd. The image of jobs is made
//! of this program and its libraries.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panicking, and show what they see"
)]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use edgewright_cluster::{ClusterExecutor, ClusterSettings, JobTools, Machines, Place, Resources, kubernetes_lanes};
use edgewright_job::conformance::{self, image_request};
use edgewright_job::{
    Behaviour, BuildSecrets, EVENTS, Executor as _, ExecutorError, JobRegistry, SimulatedExecutor,
    simulated_profile,
};
use edgewright_model::Digest;
use edgewright_model::order::{Base, JobRequest, ManifestRef, RegistryAccess, Task, check_set_digest};
use edgewright_model::outcome::{FailureKind, JobEvent, JobOutcome};
use edgewright_model::reference::{Reference, RepoName};
use edgewright_model::tools::ToolVersions;
use edgewright_model::verdict::{CheckOutcome, LaneResult, Verdict};
use edgewright_oci::Client;
use edgewright_oci::image::{Image, LayerRef};
use edgewright_oci::media::{self, Descriptor};
use edgewright_process::{CancellationToken, Command, Tasks};
use edgewright_registry::{NoReservedTags, Open, Registry, RegistrySettings};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota};
use kube::api::{DeleteParams, EvictParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, ResourceExt as _};
use libtest_mimic::{Arguments, Trial};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// How long a Pod may take to run.
const PATIENCE: Duration = Duration::from_mins(2);
/// The folder with this program in the image of jobs.
const FOLDER: &str = "/test";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "job", behaviour, "--order", order, "--report", report, ..] => {
            return job(&serde_json::from_str(behaviour).unwrap(), order.as_ref(), report.as_ref());
        }
        [_, "install-runner", path] => {
            std::fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
            std::fs::copy(format!("{FOLDER}/edgewright-checks"), path).unwrap();
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    #[expect(clippy::disallowed_methods, reason = "tests have no settings module")]
    let described = std::env::var("EDGEWRIGHT_TEST_CLUSTER").ok();
    let cluster: Option<Described> = described.map(|json| serde_json::from_str(&json).unwrap());
    let test = |name: &str, run: fn(&World)| {
        let described = cluster.clone();
        let run = move || {
            run(&World::new(&described.unwrap()));
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(cluster.is_none())
    };
    let trials = vec![
        test("conforms", conforms),
        test("a_restarted_server_finds_its_jobs_again", restart),
        test("a_cancelled_job_is_gone_in_seconds", cancel),
        test("an_evicted_job_is_tried_again", evict),
        test("an_image_that_cannot_be_pulled_is_reported", no_image),
        test("a_full_namespace_is_waited_for", quota),
        test("an_image_with_systemd_is_tested_in_a_pod", systemd),
        test("an_image_without_init_is_the_images_fault", no_init),
    ];
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..Arguments::from_args() }, trials).exit_code()
}

/// The process in a job's Pod.
fn job(behaviour: &Behaviour, order: &Path, report: &Path) -> ExitCode {
    if *behaviour == Behaviour::Crash {
        std::process::abort();
    }
    let worker = SimulatedExecutor::new();
    worker.set_default(behaviour.clone());
    runtime().block_on(edgewright_cluster::in_pod::serve(order, report, &worker)).unwrap();
    ExitCode::SUCCESS
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[derive(Debug, Clone, Deserialize)]
struct Described {
    kubeconfig: PathBuf,
    registry: String,
    pull: String,
    checks: PathBuf,
    rootfs: PathBuf,
}

/// A namespace of its own in the cluster, and a registry with the images.
struct World {
    described: Described,
    runtime: tokio::runtime::Runtime,
    client: kube::Client,
    namespace: String,
    image: String,
    folder: tempfile::TempDir,
    _registry: Registry,
}

impl Drop for World {
    fn drop(&mut self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        drop(
            self.runtime
                .block_on(async { namespaces.delete(&self.namespace, &DeleteParams::default()).await }),
        );
    }
}

impl World {
    fn new(described: &Described) -> Self {
        let runtime = runtime();
        let folder = tempfile::tempdir().unwrap();
        let (client, namespace, image, registry) = runtime.block_on(async {
            let registry = serve(&described.registry, folder.path()).await;
            let config = Kubeconfig::read_from(&described.kubeconfig).unwrap();
            let config =
                kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
            let client = kube::Client::try_from(config).unwrap();
            let namespace = format!("ew-{}", &uuid::Uuid::now_v7().simple().to_string()[20..]);
            let namespaces: Api<Namespace> = Api::all(client.clone());
            let object = json!({ "metadata": { "name": namespace, "labels": {
                "pod-security.kubernetes.io/enforce": "privileged" } } });
            let object: Namespace = serde_json::from_value(object).unwrap();
            namespaces.create(&PostParams::default(), &object).await.unwrap();
            let layer = of_this_program(folder.path(), &described.checks).await;
            let digest = push(described, "edgewright", &layer, &[]).await;
            (client, namespace, format!("{}/edgewright@{digest}", described.pull), registry)
        });
        Self { described: described.clone(), runtime, client, namespace, image, folder, _registry: registry }
    }

    fn server(&self, behaviour: &Behaviour, change: impl FnOnce(&mut ClusterSettings)) -> Server {
        let tasks = Tasks::new();
        let small =
            Resources { cpu: "10m".into(), memory: "32Mi".into(), memory_limit: Some("512Mi".into()) };
        let behaviour = serde_json::to_string(behaviour).unwrap();
        let program = format!("{FOLDER}/real");
        let mut settings = ClusterSettings {
            server: "test".into(),
            namespace: self.namespace.clone(),
            slots: conformance::SLOTS,
            untrusted_slots: NonZeroUsize::MIN,
            image: self.image.clone(),
            command: vec![program.clone(), "job".into(), behaviour],
            install_runner: vec![program, "install-runner".into()],
            runner: Digest::of(std::fs::read(&self.described.checks).unwrap()),
            service_account: None,
            pull_secrets: Vec::new(),
            pull_from: self.described.pull.clone(),
            job: small.clone(),
            test: small,
            machines: Machines { namespace: self.namespace.clone(), cpu: "100m".into() },
            tools: JobTools::Known(ToolVersions::default()),
            secrets: BuildSecrets::default(),
            native: None,
            lanes: Arc::new(|_| Some((Place::Job, simulated_profile(1)))),
            log: Arc::new(|_, _| {}),
            tasks: tasks.clone(),
        };
        change(&mut settings);
        let registry = JobRegistry::anonymous(format!("http://{}", self.described.registry));
        let _entered = self.runtime.enter();
        Server { executor: ClusterExecutor::new(self.client.clone(), settings, registry), tasks }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until the job's Pod runs.
    async fn running(&self) -> String {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "no Pod runs");
            let pods = self.pods().list(&ListParams::default()).await.unwrap();
            let runs = |pod: &&Pod| {
                pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
                    && pod.metadata.deletion_timestamp.is_none()
            };
            if let Some(pod) = pods.items.iter().find(runs) {
                return pod.name_any();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Tests an image made of the root file system, with this command, on these checks.
    fn verdict(&self, command: &[&str], checks: &Value) -> Verdict {
        let server = self.server(&Behaviour::Succeed, |settings| settings.lanes = kubernetes_lanes(false));
        self.runtime.block_on(async {
            let digest = push(&self.described, "systemd", &self.described.rootfs, command).await;
            let mut request = image_request(1, "hmi").unwrap();
            let Task::Image(task) = &mut request.task else { panic!("it is an image") };
            task.steps.clear();
            task.base = Base::Manifest(ManifestRef { repository: "systemd".parse().unwrap(), digest });
            task.lanes[0].checks = serde_json::from_value(checks.clone()).unwrap();
            task.lanes[0].check_set = check_set_digest(&task.lanes[0].checks);
            task.lanes[0].within = "3m".parse().unwrap();
            request.within = "5m".parse().unwrap();
            let (outcome, _) = server.run(request, CancellationToken::new()).await;
            let mut outcome = outcome.unwrap();
            assert_eq!((outcome.failure, outcome.verdicts.len()), (None, 1));
            outcome.verdicts.remove(0)
        })
    }
}

struct Server {
    executor: ClusterExecutor,
    tasks: Tasks,
}

impl Server {
    async fn run(
        &self,
        request: JobRequest,
        cancel: CancellationToken,
    ) -> (Result<JobOutcome, ExecutorError>, Vec<String>) {
        let permit = conformance::admitted(&self.executor).await;
        let (sender, mut events) = mpsc::channel(EVENTS);
        let printing = async {
            let mut lines = Vec::new();
            while let Some(event) = events.recv().await {
                if let JobEvent::Log { line } = event {
                    eprintln!("{line}");
                    lines.push(line);
                }
            }
            lines
        };
        tokio::join!(self.executor.run(request, permit, sender, cancel), printing)
    }
}

async fn serve(address: &str, folder: &Path) -> Registry {
    let settings = RegistrySettings::new(folder.join("registry"));
    let registry =
        Registry::open(settings, Arc::new(NoReservedTags), Arc::new(Open::new(None))).await.unwrap();
    let port: u16 = address.rsplit(':').next().unwrap().parse().unwrap();
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await.unwrap();
    let router = registry.router();
    #[expect(
        clippy::let_underscore_future,
        clippy::disallowed_methods,
        reason = "ends with the test's runtime"
    )]
    let _ = tokio::task::spawn(async move { axum::serve(listener, router).await });
    registry
}

/// A layer with this program, its libraries and the check runner.
async fn of_this_program(folder: &Path, checks: &Path) -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let listed = Command::new("ldd").arg(&program).run().await.unwrap().text();
    let libraries =
        listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    let path = folder.join("layer.tar");
    let mut layer = tar::Builder::new(std::fs::File::create(&path).unwrap());
    // containerd reads no sparse files.
    layer.sparse(false);
    for library in libraries {
        layer.append_path_with_name(std::fs::canonicalize(library).unwrap(), &library[1..]).unwrap();
    }
    layer.append_path_with_name(&program, format!("{}/real", &FOLDER[1..])).unwrap();
    layer.append_path_with_name(checks, format!("{}/edgewright-checks", &FOLDER[1..])).unwrap();
    layer.into_inner().unwrap().sync_all().unwrap();
    path
}

/// Pushes an image of one layer; gives its digest.
async fn push(described: &Described, repository: &str, layer: &Path, command: &[&str]) -> Digest {
    let access = RegistryAccess { url: format!("http://{}", described.registry), token: None };
    let client = Client::new(&access).unwrap();
    let repository: RepoName = repository.parse().unwrap();
    let bytes = std::fs::read(layer).unwrap();
    let descriptor = Descriptor::of(media::LAYER_TAR, &bytes);
    let diff_id = descriptor.digest.clone();
    client.push_blob_bytes(&repository, bytes).await.unwrap();
    let mut image = Image::scratch(&"linux/amd64".parse().unwrap());
    image.add_layer(LayerRef { descriptor, diff_id }, "test", Timestamp::UNIX_EPOCH);
    if !command.is_empty() {
        image.set_runtime_field("Cmd", json!(command));
    }
    let documents = image.documents(Timestamp::UNIX_EPOCH);
    client.push_blob_bytes(&repository, documents.config.clone()).await.unwrap();
    let digest = documents.manifest_descriptor.digest.clone();
    let reference = Reference::Digest(digest.clone());
    client.push_manifest(&repository, &reference, media::MANIFEST, documents.manifest.clone()).await.unwrap();
    digest
}

fn conforms(world: &World) {
    let kept = Mutex::new(Vec::new());
    world.runtime.block_on(conformance::suite(|behaviour| {
        // Each executor is another server: equal orders do not meet.
        let number = kept.lock().unwrap().len();
        let server = world.server(&behaviour, |settings| settings.server = format!("test-{number}"));
        let executor = Arc::new(server.executor.clone());
        kept.lock().unwrap().push(server);
        executor
    }));
}

fn restart(world: &World) {
    let slow = Behaviour::Slow { ms: 8000 };
    let first = world.server(&slow, |_| {});
    world.runtime.block_on(async {
        tokio::select! {
            _ = first.run(image_request(1, "hmi").unwrap(), CancellationToken::new()) => panic!("it is slow"),
            pod = world.running() => drop(pod),
        }
    });
    // Killed: what was dropped is not removed.
    first.tasks.token().cancel();
    drop(first);
    let second = world.server(&slow, |_| {});
    let (outcome, _) =
        world.runtime.block_on(second.run(image_request(2, "hmi").unwrap(), CancellationToken::new()));
    assert_eq!(outcome.unwrap().builds.len(), 2);
    let pods = world.runtime.block_on(world.pods().list(&ListParams::default())).unwrap();
    let names: Vec<String> = pods.iter().map(kube::ResourceExt::name_any).collect();
    assert!(names.len() == 1 && names[0].ends_with("-job-1-pod"), "nothing ran twice: {names:?}");
}

fn cancel(world: &World) {
    let server = world.server(&Behaviour::Hang, |_| {});
    let cancel = CancellationToken::new();
    world.runtime.block_on(async {
        let running = async {
            world.running().await;
            cancel.cancel();
            Instant::now()
        };
        let ((result, _), since) =
            tokio::join!(server.run(image_request(1, "a").unwrap(), cancel.clone()), running);
        assert!(matches!(result, Err(ExecutorError::Cancelled)), "{result:?}");
        eprintln!("gone {:?} after the cancellation", since.elapsed());
        assert!(world.pods().list(&ListParams::default()).await.unwrap().items.is_empty());
    });
}

fn evict(world: &World) {
    let server = world.server(&Behaviour::Slow { ms: 6000 }, |_| {});
    world.runtime.block_on(async {
        let evicting = async {
            let pod = world.running().await;
            world.pods().evict(&pod, &EvictParams::default()).await.unwrap();
        };
        let request = image_request(1, "a").unwrap();
        let ((outcome, lines), ()) = tokio::join!(server.run(request, CancellationToken::new()), evicting);
        assert_eq!(outcome.unwrap().builds.len(), 2);
        assert!(lines.iter().any(|line| line.starts_with("[attempt 1: ")), "{lines:?}");
    });
}

fn no_image(world: &World) {
    let server = world.server(&Behaviour::Succeed, |settings| {
        settings.image = format!("{}/edgewright@{}", world.described.pull, Digest::of("no such image"));
    });
    let request = image_request(1, "a").unwrap();
    let (result, lines) = world.runtime.block_on(server.run(request, CancellationToken::new()));
    let failure = result.unwrap_err().failure();
    assert_eq!(failure.kind, FailureKind::Infrastructure);
    assert!(failure.message.contains("cannot be pulled"), "{failure:?} {lines:?}");
}

fn quota(world: &World) {
    let server = world.server(&Behaviour::Succeed, |_| {});
    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.namespace);
    let none = json!({ "metadata": { "name": "none" }, "spec": { "hard": { "pods": "0" } } });
    world.runtime.block_on(async {
        quotas.create(&PostParams::default(), &serde_json::from_value(none).unwrap()).await.unwrap();
        // The quota is in force once its status is there.
        while quotas.get("none").await.unwrap().status.and_then(|status| status.hard).is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let lifting = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            quotas.delete("none", &DeleteParams::default()).await.unwrap();
        };
        let request = image_request(1, "a").unwrap();
        let ((outcome, lines), ()) = tokio::join!(server.run(request, CancellationToken::new()), lifting);
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(lines.iter().any(|line| line.starts_with("[waits for quota: ")), "{lines:?}");
    });
}

fn systemd(world: &World) {
    let checks = json!([
        { "id": "boots", "assert": { "kind": "systemd", "allow_failed": [] }, "within": "2m" },
        { "id": "one", "assert": { "kind": "command", "argv": ["cat", "/proc/1/comm"], "exit": 0, "stdout": "systemd" }, "within": "1m" },
        { "id": "fails", "assert": { "kind": "command", "argv": ["false"], "exit": 0 }, "within": "1s" },
    ]);
    let verdict = world.verdict(&["/sbin/init"], &checks);
    let outcome = |id: &str| &verdict.checks.iter().find(|check| check.id.as_str() == id).unwrap().outcome;
    assert_eq!(*outcome("boots"), CheckOutcome::Passed, "{verdict:?}");
    assert_eq!(*outcome("one"), CheckOutcome::Passed);
    assert!(
        matches!(&verdict.result, LaneResult::Failed { kind: FailureKind::Image, message } if message.contains("fails"))
    );
    let evidence: BTreeMap<_, _> =
        verdict.evidence.iter().map(|piece| (piece.name.as_str(), piece.blob.size)).collect();
    eprintln!("checked in {} ms, evidence {evidence:?}", verdict.duration_ms);
    assert!(evidence["journal"] > 1000 && evidence.contains_key("runner"), "{evidence:?}");
    assert!(world.folder.path().exists());
}

fn no_init(world: &World) {
    let checks =
        json!([{ "id": "boots", "assert": { "kind": "systemd", "allow_failed": [] }, "within": "1m" }]);
    let verdict = world.verdict(&["/bin/sh", "-c", "exit 3"], &checks);
    let LaneResult::Failed { kind: FailureKind::Image, message } = &verdict.result else {
        panic!("{verdict:?}")
    };
    assert!(message.contains("which is no init") && message.contains("ended with 3"), "{message}");
}
