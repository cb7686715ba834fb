//! The conformance suite on a real cluster with Tekton; `cargo xtask e2e cluster` runs it, among scenarios
//! of whole servers. `EDGEWRIGHT_TEST_CLUSTER` describes the cluster, as JSON:
//!
//! ```json
//! { "kubeconfig": "…", "registry": "ADDR:PORT", "pull": "HOST" }
//! ```
//!
//! `registry`: where this test listens, and Pods and this host reach it; `pull`: the name by which nodes
//! pull from it. The image of jobs is made of this program and its libraries.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use edgewright_cluster::{ClusterExecutor, ClusterSettings, JobTools, Machines, Place, Resources};
use edgewright_job::{
    Behaviour, BuildSecrets, JobRegistry, SimulatedExecutor, conformance, simulated_profile,
};
use edgewright_model::Digest;
use edgewright_model::order::RegistryAccess;
use edgewright_model::reference::{Reference, RepoName};
use edgewright_model::tools::ToolVersions;
use edgewright_oci::Client;
use edgewright_oci::image::{Image, LayerRef};
use edgewright_oci::media::{self, Descriptor};
use edgewright_process::{Command, Tasks};
use edgewright_registry::{NoReservedTags, Open, Registry, RegistrySettings};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use libtest_mimic::{Arguments, Trial};
use serde::Deserialize;
use serde_json::json;

/// The folder with this program in the image of jobs.
const FOLDER: &str = "/test";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, "job", behaviour, "--order", order, "--report", report, ..] =
        *words.iter().map(String::as_str).collect::<Vec<_>>()
    {
        return job(&serde_json::from_str(behaviour).unwrap(), order.as_ref(), report.as_ref());
    }
    #[expect(clippy::disallowed_methods, reason = "tests have no settings module")]
    let described = std::env::var("EDGEWRIGHT_TEST_CLUSTER").ok();
    let cluster: Option<Described> = described.map(|json| serde_json::from_str(&json).unwrap());
    let is_ignored = cluster.is_none();
    let conforms = move || {
        conforms(&World::new(&cluster.unwrap()));
        Ok(())
    };
    let trials = vec![Trial::test("conforms", conforms).with_ignored_flag(is_ignored)];
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..Arguments::from_args() }, trials).exit_code()
}

/// The process in a job's Pod.
fn job(behaviour: &Behaviour, order: &Path, report: &Path) -> ExitCode {
    if *behaviour == Behaviour::Crash {
        std::process::abort();
    }
    let worker = SimulatedExecutor::new();
    worker.set_default(behaviour.clone());
    let results = edgewright_cluster::in_pod::Results { report, digest: None };
    runtime().block_on(edgewright_cluster::in_pod::serve(order, results, &worker)).unwrap();
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
}

/// A namespace of its own in the cluster, and a registry with the images.
struct World {
    described: Described,
    runtime: tokio::runtime::Runtime,
    client: kube::Client,
    namespace: String,
    image: String,
    _folder: tempfile::TempDir,
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
            let layer = of_this_program(folder.path()).await;
            let digest = push(described, &layer).await;
            (client, namespace, format!("{}/edgewright@{digest}", described.pull), registry)
        });
        Self {
            described: described.clone(),
            runtime,
            client,
            namespace,
            image,
            _folder: folder,
            _registry: registry,
        }
    }

    /// Another server for each number: equal orders of two do not meet.
    fn server(&self, number: usize, behaviour: &Behaviour) -> Server {
        let tasks = Tasks::new();
        let small =
            Resources { cpu: "10m".into(), memory: "32Mi".into(), memory_limit: Some("512Mi".into()) };
        let behaviour = serde_json::to_string(behaviour).unwrap();
        let settings = ClusterSettings {
            server: format!("test-{number}"),
            namespace: self.namespace.clone(),
            slots: conformance::SLOTS,
            untrusted_slots: NonZeroUsize::MIN,
            image: self.image.clone(),
            command: vec![format!("{FOLDER}/real"), "job".into(), behaviour],
            // No image is tested in a Pod of its own.
            install_runner: Vec::new(),
            runner: Digest::of("runner"),
            service_account: None,
            pull_secrets: Vec::new(),
            node_cache: None,
            pull_from: self.described.pull.clone(),
            job: small.clone(),
            test: small,
            build: None,
            machines: Machines { namespace: self.namespace.clone(), cpu: "100m".into() },
            tools: JobTools::Known(ToolVersions::default()),
            secrets: BuildSecrets::default(),
            native: None,
            lanes: Arc::new(|_| Some((Place::Job, simulated_profile(1)))),
            log: Arc::new(|_, _| {}),
            tasks: tasks.clone(),
        };
        let registry = JobRegistry::anonymous(format!("http://{}", self.described.registry));
        let _entered = self.runtime.enter();
        Server { executor: ClusterExecutor::new(self.client.clone(), settings, registry), _tasks: tasks }
    }
}

struct Server {
    executor: ClusterExecutor,
    /// Its watches.
    _tasks: Tasks,
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

/// A layer with this program and its libraries.
async fn of_this_program(folder: &Path) -> PathBuf {
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
    layer.into_inner().unwrap().sync_all().unwrap();
    path
}

/// Pushes an image of one layer; gives its digest.
async fn push(described: &Described, layer: &Path) -> Digest {
    let access = RegistryAccess { url: format!("http://{}", described.registry), token: None };
    let client = Client::new(&access).unwrap();
    let repository: RepoName = "edgewright".parse().unwrap();
    let bytes = std::fs::read(layer).unwrap();
    let descriptor = Descriptor::of(media::LAYER_TAR, &bytes);
    let diff_id = descriptor.digest.clone();
    client.push_blob_bytes(&repository, bytes).await.unwrap();
    let mut image = Image::scratch(&"linux/amd64".parse().unwrap());
    image.add_layer(LayerRef { descriptor, diff_id }, "test", Timestamp::UNIX_EPOCH);
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
        let mut kept = kept.lock().unwrap();
        let server = world.server(kept.len(), &behaviour);
        let executor = Arc::new(server.executor.clone());
        kept.push(server);
        executor
    }));
}
