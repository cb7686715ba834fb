//! The files of an installation, and what the test asks of the cluster.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::ROLLOUT;
use super::volumes::own;
use crate::command::Run;
use crate::demo::server::text;
use crate::demo::source::Source;
use crate::e2e::cluster::base;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::{World, copy, source_folder};
use crate::workspace;

/// The namespace of the server.
pub(in crate::e2e::cluster::scenarios) const SERVER: &str = "edgewright";
/// The namespace of jobs.
pub(in crate::e2e::cluster::scenarios) const JOBS: &str = "edgewright-jobs";
/// The host of the installation, for nodes.
const HOST: &str = "install.edgewright.internal";
/// The image of `restore.yaml`, and of the example.
const EXAMPLE_IMAGE: &str = "registry.example.org/edgewright";
/// Its digest there.
const EXAMPLE_DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
/// The source, on the server's volume: it has no network to this host's files.
pub(in crate::e2e::cluster::scenarios) const SOURCE: &str = "e2e-source.git";
/// A copy of it: a server follows no repository twice.
const SECOND: &str = "e2e-second.git";

/// What the test's volume, image and small node differ in.
const TEST: &str = r#"
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../examples/kustomize, volume.yaml]
patches:
  - target: {kind: PersistentVolumeClaim, name: edgewright}
    patch: |
      - {op: add, path: /spec/storageClassName, value: ""}
      - {op: add, path: /spec/volumeName, value: VOLUME}
  - target: {kind: Deployment, name: edgewright}
    patch: |
      - {op: replace, path: /spec/template/spec/containers/0/resources, value: {requests: {cpu: 50m, memory: 64Mi}}}
"#;

/// An installation.
pub(in crate::e2e::cluster::scenarios) struct Place<'w> {
    pub(in crate::e2e::cluster::scenarios) world: &'w World,
    /// All files of the test.
    pub(in crate::e2e::cluster::scenarios) folder: PathBuf,
    /// The server's image, by digest.
    pub(in crate::e2e::cluster::scenarios) image: String,
    /// The server's settings.
    pub(in crate::e2e::cluster::scenarios) settings: String,
    /// The volume of the server's data.
    pub(in crate::e2e::cluster::scenarios) volume: &'static str,
}

impl<'w> Place<'w> {
    /// Lays out the files: `deploy/` as it is, and what the test changes.
    pub(in crate::e2e::cluster::scenarios) fn new(stage: &Stage<'w>) -> anyhow::Result<Self> {
        let world = stage.world;
        let folder = world.place.root.join(stage.name);
        copy(&workspace::root().join("deploy"), &folder.join("deploy"))?;
        copy(&source_folder(), &folder.join("source"))?;
        Run::new("git")
            .args(["init", "--quiet", "--initial-branch=main"])
            .arg(folder.join("source"))
            .run()?;
        let settings = std::fs::read_to_string(folder.join("deploy/kustomize/base/edgewright.toml"))?;
        let settings = settings.replace("https://images.example.org", &format!("http://{HOST}"));
        let settings = settings.replace("images.example.org", HOST);
        let url = format!("/var/lib/edgewright/{SOURCE}");
        // Two processors are a whole node here.
        let small =
            "job_cpu = \"100m\"\njob_memory = \"256Mi\"\ntest_cpu = \"50m\"\ntest_memory = \"64Mi\"\n";
        let source = format!("[[source]]\nname = \"plant\"\nurl = \"{url}\"\npoll = \"1s\"\n");
        let settings = format!("{settings}{small}\n{source}");
        let place = Self { world, folder, image: world.image.clone(), settings, volume: "install-data" };
        Ok(place)
    }

    /// Removes what an earlier test left, and prepares the volume.
    pub(in crate::e2e::cluster::scenarios) fn remove(&self) -> anyhow::Result<()> {
        self.kubectl(&["delete", "namespace", SERVER, JOBS, "--ignore-not-found", ROLLOUT])?;
        self.clear()?;
        let data = self.make_volume(self.volume)?;
        base::kept(self.world)?.restore(&data)?;
        Run::new("git")
            .args(["init", "--quiet", "--bare", "--initial-branch=main"])
            .arg(data.join(SOURCE))
            .run()?;
        own(&data)
    }

    /// The files of the installation as they are now.
    pub(in crate::e2e::cluster::scenarios) fn write(&self) -> anyhow::Result<PathBuf> {
        let example = self.folder.join("deploy/examples/kustomize");
        let original = workspace::root().join("deploy/examples/kustomize/kustomization.yaml");
        let text = std::fs::read_to_string(original)?;
        let (name, digest) = self.image.split_once('@').context("the image has a digest")?;
        let text = text.replace(EXAMPLE_IMAGE, name).replace(EXAMPLE_DIGEST, digest);
        std::fs::write(example.join("kustomization.yaml"), text.replace("images.example.org", HOST))?;
        std::fs::write(example.join("edgewright.toml"), &self.settings)?;
        self.write_files("test", TEST, self.volume)
    }

    /// Applies them. The Service's address is that of the host for nodes.
    pub(in crate::e2e::cluster::scenarios) fn apply(&self) -> anyhow::Result<()> {
        let folder = self.write()?;
        self.apply_folder(&folder, &[])?;
        let service = ["service", "edgewright", "--namespace", SERVER];
        let address = self.world.cluster.value(&service, "{.spec.clusterIP}")?;
        self.world.cluster.pull_from(HOST, &format!("http://{address}:5080"))?;
        // The kubelet looks at a Pod that changed at once, and at others each minute.
        let now = format!("edgewright.dev/test={}", self.settings.len());
        let annotate = ["annotate", "pods", "--all", "--overwrite", &now];
        self.server(&annotate).map(drop)
    }

    pub(in crate::e2e::cluster::scenarios) fn apply_folder(
        &self,
        folder: &Path,
        more: &[&str],
    ) -> anyhow::Result<()> {
        let apply = ["apply", "--server-side", "--force-conflicts", "--kustomize"];
        self.world.cluster.command().args(apply).arg(folder).args(more).output().map(drop)
    }

    /// Removes them.
    pub(in crate::e2e::cluster::scenarios) fn delete(&self) -> anyhow::Result<()> {
        let delete = ["delete", "--ignore-not-found", ROLLOUT, "--kustomize"];
        self.world.cluster.command().args(delete).arg(self.write()?).output().map(drop)
    }

    /// Waits for the rollout.
    pub(in crate::e2e::cluster::scenarios) fn rollout(&self) -> anyhow::Result<()> {
        let status = self.server(&["rollout", "status", "deployment/edgewright", ROLLOUT]);
        status.map(drop).with_context(|| self.situation())
    }

    /// `kubectl` as administrator.
    pub(in crate::e2e::cluster::scenarios) fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.world.cluster.kubectl(arguments)
    }

    /// The same, in the server's namespace.
    pub(in crate::e2e::cluster::scenarios) fn server(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl(&[&["--namespace", SERVER], arguments].concat())
    }

    /// The same, in the namespace of jobs.
    pub(in crate::e2e::cluster::scenarios) fn jobs(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl(&[&["--namespace", JOBS], arguments].concat())
    }

    /// A command in the server's Pod.
    pub(in crate::e2e::cluster::scenarios) fn in_server(&self, command: &[&str]) -> anyhow::Result<String> {
        self.server(&[&["exec", "deployment/edgewright", "--"], command].concat())
    }

    /// What the server answers, through its Service.
    pub(in crate::e2e::cluster::scenarios) fn ask(&self, path: &str) -> anyhow::Result<String> {
        let proxy = format!("/api/v1/namespaces/{SERVER}/services/edgewright:http/proxy/{path}");
        self.world.api.get(&proxy)
    }

    /// A document of the server; null while it does not answer.
    pub(in crate::e2e::cluster::scenarios) fn document(&self, path: &str) -> anyhow::Result<Value> {
        let Ok(text) = self.ask(path) else { return Ok(Value::Null) };
        serde_json::from_str(&text).with_context(|| format!("{path} is no JSON: {text}"))
    }

    /// Whether the server's account may do this.
    pub(in crate::e2e::cluster::scenarios) fn may(
        &self,
        verb: &str,
        resource: &str,
        namespace: &str,
    ) -> anyhow::Result<bool> {
        self.world.api.may(&format!("{SERVER}:edgewright"), (verb, resource), namespace)
    }

    /// The server's Pod: its identity, and how often its container was restarted.
    pub(in crate::e2e::cluster::scenarios) fn pod(&self) -> anyhow::Result<(String, String)> {
        let pods = self.world.api.list(SERVER, "pods", "")?;
        let pod = pods.first().context("the server has a Pod")?;
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].to_string();
        Ok((text(&pod["metadata"]["uid"]).to_owned(), restarts))
    }

    /// Writes a file of the source.
    pub(in crate::e2e::cluster::scenarios) fn write_source(
        &self,
        file: &str,
        content: &str,
    ) -> anyhow::Result<()> {
        Ok(std::fs::write(self.folder.join("source").join(file), content)?)
    }

    /// Makes another source of the first one. Where the server finds it.
    pub(in crate::e2e::cluster::scenarios) fn copy_source(&self) -> anyhow::Result<String> {
        let (data, _) = self.world.cluster.volume(self.volume);
        Run::as_root("cp")?.arg("-a").arg(data.join(SOURCE)).arg(data.join(SECOND)).run()?;
        Ok(format!("/var/lib/edgewright/{SECOND}"))
    }

    /// Commits the source, and pushes it. Gives the commit.
    pub(in crate::e2e::cluster::scenarios) fn commit(&self, message: &str) -> anyhow::Result<String> {
        let source = self.folder.join("source");
        let commit = Source::open(&source).commit(message)?;
        let (data, _) = self.world.cluster.volume(self.volume);
        // The repository is the server's own.
        let config = self.folder.join("gitconfig");
        std::fs::write(&config, "[safe]\n\tdirectory = *\n")?;
        let push = Run::new("git").env("GIT_CONFIG_GLOBAL", config).arg("-C").arg(&source);
        push.args(["push", "--quiet"]).arg(data.join(SOURCE)).arg("main").run()?;
        own(&data.join(SOURCE))?;
        Ok(commit)
    }

    /// The digest of the newest release's application.
    pub(in crate::e2e::cluster::scenarios) fn digest(&self) -> anyhow::Result<String> {
        let releases = self.document("api/v1/releases")?;
        let entries = releases[0]["entries"].as_array().into_iter().flatten();
        let app = entries.into_iter().find(|entry| entry["variant"] == "app");
        let digest = app.and_then(|entry| entry["digest"].as_str());
        digest.map(str::to_owned).with_context(|| format!("no release of the application: {releases}"))
    }

    /// What is there, for errors.
    pub(in crate::e2e::cluster::scenarios) fn situation(&self) -> String {
        let all = |namespace| {
            self.kubectl(&["--namespace", namespace, "get", "all,taskruns,pvc", "--output", "wide"])
                .unwrap_or_default()
        };
        let events = self
            .kubectl(&["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"])
            .unwrap_or_default();
        let events: Vec<&str> = events.lines().collect();
        let log = self.server(&["logs", "deployment/edgewright", "--tail=30"]).unwrap_or_default();
        format!(
            "{}\n{}\n{}\n{log}",
            all(SERVER),
            all(JOBS),
            events[events.len().saturating_sub(15)..].join("\n")
        )
    }
}
