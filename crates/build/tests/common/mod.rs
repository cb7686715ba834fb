//! A registry on port 0, a work folder, and orders for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edgewright_build::BuildContext;
use edgewright_model::Digest;
use edgewright_model::order::{Base, Context, ImageTask, RegistryAccess, StepAction, StepOrder};
use edgewright_model::reference::RepoName;
use edgewright_oci::Client;
use edgewright_oci::layer::{Entry, Kind};
use edgewright_process::{CancellationToken, ProcessContext};
use edgewright_registry::{NoReservedTags, Open, Registry, RegistrySettings};
use jiff::Timestamp;

pub(crate) const TOOLS: [&str; 3] = ["mmdebstrap", "buildah", "podman"];

/// Whether the tools of all builders are installed and may be used; skips the test if not.
pub(crate) fn has_tools() -> bool {
    edgewright_testkit::has_as_root(&TOOLS)
}

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ctx: BuildContext,
    _registry: Registry,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(
            RegistrySettings::new(folder.path().join("registry")),
            Arc::new(NoReservedTags),
            Arc::new(Open::new(None)),
        )
        .await
        .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = registry.router();
        #[expect(
            clippy::let_underscore_future,
            clippy::disallowed_methods,
            reason = "ends with the test's runtime"
        )]
        let _ = tokio::task::spawn(async move { axum::serve(listener, router).await });
        let work = folder.path().join("work");
        let job = work.join("jobs/test");
        std::fs::create_dir_all(&job).unwrap();
        // Works on hosts where crun does not; the lab detects this by itself.
        let conf = work.join("containers.conf");
        let text = "[engine]\nruntime = \"runc\"\n[containers]\ndefault_ulimits = [\"nofile=20000:20000\",\"nproc=1000:1000\"]\n";
        std::fs::write(&conf, text).unwrap();
        let process = ProcessContext::new(CancellationToken::new()).with_env("CONTAINERS_CONF", &conf);
        let access = RegistryAccess { url, token: None };
        let ctx = BuildContext {
            client: Client::new(&access).unwrap(),
            scratch: job,
            cache: work.join("cache"),
            indexes: edgewright_oci::index::Cache::new(work.join("cache/indexes")),
            storage: work.join("containers/storage"),
            runroot: work.join("containers/run"),
            process,
            auth: None,
            in_sandbox: false,
            host_etc: "/etc".into(),
            secrets: BTreeMap::new(),
            step_limit: Duration::from_mins(10),
        };
        Self { folder, ctx, _registry: registry }
    }

    /// The same registry and caches, another job.
    pub(crate) fn job(&self, name: &str) -> BuildContext {
        let scratch = self.folder.path().join("work/jobs").join(name);
        std::fs::create_dir_all(&scratch).unwrap();
        BuildContext { scratch, ..self.ctx.clone() }
    }

    pub(crate) async fn push_tar(&self, entries: &[(&str, Kind, &str)]) -> Context {
        self.push(tar_of(entries)).await
    }

    #[allow(dead_code, reason = "not every test binary needs it")]
    pub(crate) async fn push_entries(&self, entries: &[(Entry, &str)]) -> Context {
        self.push(tar_of_entries(entries)).await
    }

    async fn push(&self, tar: Vec<u8>) -> Context {
        Context::Blob(self.ctx.client.push_blob_bytes(&repo("t/contexts"), tar).await.unwrap())
    }
}

/// An uncompressed tar; the text is a file's content or a link's target.
pub(crate) fn tar_of(entries: &[(&str, Kind, &str)]) -> Vec<u8> {
    let mut described = Vec::new();
    for (name, kind, text) in entries {
        let mut entry = Entry::new(*name, *kind, if *kind == Kind::Directory { 0o755 } else { 0o644 });
        if *kind == Kind::File {
            entry.size = text.len() as u64;
        } else {
            entry.link = text.as_bytes().to_vec();
        }
        described.push((entry, *text));
    }
    tar_of_entries(&described)
}

/// An uncompressed tar of entries with the content of files.
pub(crate) fn tar_of_entries(entries: &[(Entry, &str)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer");
    let mut writer = edgewright_oci::layer::LayerWriter::create(&path, epoch()).unwrap();
    for (entry, text) in entries {
        writer.append(entry, &mut text.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    read_layer(&path)
}

pub(crate) fn read_layer(path: &Path) -> Vec<u8> {
    use std::io::Read as _;
    let mut tar = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    let media_type = edgewright_oci::media::LAYER_ZSTD;
    edgewright_oci::layer::decompress(file, media_type).unwrap().read_to_end(&mut tar).unwrap();
    tar
}

pub(crate) fn epoch() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

pub(crate) fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

pub(crate) fn task(base: Base, repository: &str, actions: Vec<StepAction>) -> ImageTask {
    let step = |(number, action): (usize, StepAction)| StepOrder {
        tools: edgewright_model::tools::ToolVersions::default(),
        key: Digest::of(format!("{repository}{number}")),
        title: format!("step {number}"),
        action,
    };
    ImageTask {
        base_key: None,
        node: repository.to_owned(),
        variant: None,
        platform: "linux/amd64".parse().unwrap(),
        repository: repo(repository),
        base,
        steps: actions.into_iter().enumerate().map(step).collect(),
        epoch: epoch(),
        labels: [("containers.bootc".to_owned(), "1".to_owned())].into(),
        lanes: Vec::new(),
    }
}
