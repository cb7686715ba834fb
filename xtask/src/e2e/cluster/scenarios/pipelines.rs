//! Edgewright in Pipelines of other projects, and their Pipelines in runs of Edgewright.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::ended::{BEGUN, slow_step};
use super::release::RUN_LIMIT;
use super::view::{ensure_contains, node};
use crate::command::Run;
use crate::demo::server::text;
use crate::e2e::cluster::listener::Triggers;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;
use crate::workspace;

/// How long a Pipeline without a build may take on a machine with much else to do.
const LIMIT: Duration = Duration::from_mins(4);
/// The page whose YAML blocks are used.
const HOW_TO: &str = "docs/how-to/use-in-tekton-pipelines.md";
/// The image of the Tasks as the repository names it, and its name alone.
const IMAGES: [&str; 2] = ["localhost/edgewright:0.1.0", "image: edgewright\n"];
/// A namespace of another project, with the strictest level of Pod Security, and a clone in a volume.
const TEAM: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: TEAM, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: TEAM}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {storage: 1Gi}
  claimRef: {namespace: TEAM, name: clone}
  hostPath: {path: /var/tmp/TEAM, type: DirectoryOrCreate}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: clone, namespace: TEAM}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: \"\"
  volumeName: TEAM
  resources: {requests: {storage: 1Gi}}
";
/// Fills the volume, as a task that clones does: the owner is the user of our Tasks.
const CLONE: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: clone}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  containers:
    - name: clone
      image: IMAGE
      command: [sh, -ec, \"rm -rf /clone/*; tar -C /clone -xf /source/source.tar; chown -R 65532:65532 /clone\"]
      securityContext: {runAsUser: 0}
      volumeMounts: [{name: clone, mountPath: /clone}, {name: source, mountPath: /source}]
  volumes:
    - {name: clone, hostPath: {path: /var/tmp/TEAM, type: DirectoryOrCreate}}
    - {name: source, configMap: {name: source}}
";

/// The namespace of another project beside a site.
struct Team<'a> {
    site: &'a Site<'a>,
    name: String,
    image: &'a str,
}

impl<'a> Team<'a> {
    /// Makes the namespace with our Tasks, the examples, and the Secret that names the server.
    fn new(stage: &'a Stage<'_>, site: &'a Site<'a>) -> anyhow::Result<Self> {
        let team = Self { site, name: format!("{}-team", site.namespace), image: &stage.world.image };
        // As OpenShift Pipelines has it: otherwise Tekton's own containers are refused in such a namespace.
        let patch = r#"{"data": {"set-security-context": "true"}}"#;
        let flags =
            ["configmap", "feature-flags", "--namespace", "tekton-pipelines", "--type", "merge", "--patch"];
        site.cluster_command().arg("patch").args(flags).arg(patch).output()?;
        site.apply("team.yaml", &TEAM.replace("TEAM", &team.name))?;
        let account = ["serviceaccount", "default", "--namespace", &team.name];
        until("the namespace has its default service account", LIMIT, || {
            stage.world.cluster.shows(&account, "{.metadata.name}", "default")
        })?;
        let folder = workspace::root().join("deploy/tekton");
        let tasks = site.cluster_command().arg("kustomize").arg(&folder).output()?;
        team.apply("tasks.yaml", &tasks)?;
        for example in ["product", "external-test"] {
            let file = folder.join(format!("examples/{example}.yaml"));
            team.apply(&format!("{example}.yaml"), &std::fs::read_to_string(file)?)?;
        }
        let token = site.data().join("operator-token");
        // A cluster that is kept has those of the last test.
        let old = ["secrets/edgewright", "taskruns/cancelled"];
        team.kubectl(&[&["delete", "--ignore-not-found"], &old[..]].concat())?;
        team.kubectl(&["delete", "pipelineruns", "--all"])?;
        let url = format!("--from-literal=url={}", site.url());
        let token = format!("--from-file=token={}", token.display());
        team.kubectl(&["create", "secret", "generic", "edgewright", &url, &token])?;
        Ok(team)
    }

    /// Creates objects in the namespace, with our image.
    fn apply(&self, file: &str, yaml: &str) -> anyhow::Result<()> {
        ensure!(
            IMAGES.iter().any(|image| yaml.contains(image)) || !yaml.contains("image:"),
            "{file} has our image"
        );
        let path = self.site.folder.join(file);
        std::fs::write(&path, with_image(yaml, self.image))?;
        self.kubectl(&["apply", "--server-side", "--filename", &path.display().to_string()]).map(drop)
    }

    fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.site.cluster_command().args(["--namespace", &self.name]).args(arguments).output()
    }

    /// Puts a clone of the source into the volume.
    fn clone_source(&self) -> anyhow::Result<()> {
        let tar = self.site.folder.join("source.tar");
        Run::new("tar").args(["-C"]).arg(self.site.source()).arg("-cf").arg(&tar).arg(".").run()?;
        let file = format!("--from-file=source.tar={}", tar.display());
        for kind in ["pod/clone", "configmap/source"] {
            self.site.kubectl(&["delete", kind, "--ignore-not-found"])?;
        }
        self.site.kubectl(&["create", "configmap", "source", &file])?;
        let pod = CLONE.replace("TEAM", &self.name).replace("IMAGE", self.image);
        let path = self.site.folder.join("clone.yaml");
        std::fs::write(&path, pod)?;
        self.site.kubectl(&["apply", "--filename", &path.display().to_string()])?;
        until("the clone is in the volume", LIMIT, || {
            let phase =
                self.site.kubectl(&["get", "pod", "clone", "--output", "jsonpath={.status.phase}"])?;
            if phase == "Failed" {
                bail!("cannot fill the volume: {}", self.site.kubectl(&["logs", "clone"])?);
            }
            Ok(phase == "Succeeded")
        })
    }

    /// Starts a PipelineRun, and waits for its end. Gives its document.
    fn run(&self, name: &str, spec: &Value) -> anyhow::Result<Value> {
        let run = serde_json::json!({
            "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": { "name": name }, "spec": spec,
        });
        self.apply(&format!("{name}.json"), &run.to_string())?;
        self.ended("pipelinerun", name, RUN_LIMIT)
    }

    fn ended(&self, kind: &str, name: &str, limit: Duration) -> anyhow::Result<Value> {
        let mut run = Value::Null;
        let waited = until(&format!("{kind} {name} has ended"), limit, || {
            run = serde_json::from_str(&self.kubectl(&["get", kind, name, "--output", "json"])?)?;
            Ok(run["status"]["completionTime"].is_string())
        });
        waited.with_context(|| format!("{run:#}\n{}", self.logs()))?;
        Ok(run)
    }

    /// What all steps of all Pipelines have printed.
    fn logs(&self) -> String {
        let selector = ["--selector", "tekton.dev/memberOf", "--all-containers", "--prefix", "--tail", "60"];
        let pods = self.kubectl(&["get", "pods,taskruns,pipelineruns"]).unwrap_or_default();
        let logs = self.kubectl(&[&["logs"][..], &selector].concat());
        format!("{pods}\n{}", logs.unwrap_or_else(|error| format!("{error:#}")))
    }

    /// An error with all logs, if the run did not succeed.
    fn succeeded(&self, run: &Value) -> anyhow::Result<()> {
        let condition = &run["status"]["conditions"][0];
        ensure!(condition["status"] == "True", "{condition:#}\n{}", self.logs());
        Ok(())
    }
}

fn with_image(yaml: &str, image: &str) -> String {
    let [tagged, bare] = IMAGES;
    yaml.replace(tagged, image).replace(bare, &format!("image: {image}\n"))
}

/// A result of a TaskRun or PipelineRun.
fn result<'v>(run: &'v Value, name: &str) -> &'v str {
    let results = run["status"]["results"].as_array();
    results.into_iter().flatten().find(|result| result["name"] == name).map_or("", |it| text(&it["value"]))
}

/// A Pipeline of another project that checks, runs and promotes; one whose run fails; and its results.
pub(super) fn product(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    let commit = site.commit("version 1")?;
    {
        let team = Team::new(stage, &site)?;
        team.clone_source()?;
        let run = team.run("product-1", &product_spec(&commit))?;
        team.succeeded(&run)?;
        let (release, digests) = (result(&run, "release"), result(&run, "digests"));
        let entries = &site.server()?.get(&format!("/api/v1/releases?number={release}"))?;
        let entries = entries.as_array().unwrap_or(&Vec::new()).clone();
        let expected: &Value = &entries.first().context("the release is there")?["entries"];
        let digests: Value = serde_json::from_str(digests).context("`digests` is JSON")?;
        for entry in expected.as_array().into_iter().flatten() {
            ensure!(digests[text(&entry["variant"])] == entry["digest"], "{digests} has all of {expected}");
        }
        ensure!(digests["app"].is_string(), "the release has the image: {digests}");
        let channels = site.server()?.get("/api/v1/channels")?;
        ensure!(channels[0]["pin"].to_string() == release, "the channel is pinned to {release}: {channels}");
        ensure!(channels[0]["pin_reason"] == "product-1", "the reason names the PipelineRun: {channels}");
    }
    stage.progress("a commit whose check fails");
    site.write("images/app/files/etc/plant/version", "version=2\n")?;
    let commit = site.commit("a version that no one expects")?;
    {
        let team = Team { site: &site, name: format!("{}-team", site.namespace), image: &stage.world.image };
        let run = team.run("product-2", &product_spec(&commit))?;
        ensure!(
            run["status"]["conditions"][0]["status"] == "False",
            "the Pipeline fails as the run does: {run:#}"
        );
        let task: Value =
            serde_json::from_str(&team.kubectl(&["get", "taskrun", "product-2-run", "--output", "json"])?)?;
        let step = &task["status"]["steps"][0]["terminated"];
        ensure!(step["exitCode"] == 1, "the step has the exit code of the run: {step}");
        ensure!(
            result(&task, "state") == "failed",
            "a failed run has results: {}",
            task["status"]["results"]
        );
        let skipped = run["status"]["skippedTasks"].to_string();
        ensure_contains("the skipped tasks", &skipped, "promote")?;
    }
    site.ended(&commit, RUN_LIMIT)?;
    stage.progress("a TaskRun that is cancelled");
    slow_step(&site, 600)?;
    let commit = site.commit("a step that takes long")?;
    {
        let team = Team { site: &site, name: format!("{}-team", site.namespace), image: &stage.world.image };
        let run = serde_json::json!({
            "apiVersion": "tekton.dev/v1", "kind": "TaskRun", "metadata": { "name": "cancelled" },
            "spec": {
                "taskRef": { "name": "edgewright-run" },
                "params": [
                    { "name": "source", "value": "plant" }, { "name": "commit", "value": commit },
                    { "name": "cancel", "value": "true" },
                ],
                "workspaces": [{ "name": "server", "secret": { "secretName": "edgewright" } }],
            },
        });
        team.apply("cancelled.json", &run.to_string())?;
        until("the Task follows the run", RUN_LIMIT, || {
            let log = team.kubectl(&["logs", "cancelled-pod", "--container", "step-run"]).unwrap_or_default();
            Ok(log.contains(BEGUN))
        })?;
        let patch = r#"{"spec": {"status": "TaskRunCancelled"}}"#;
        team.kubectl(&["patch", "taskrun", "cancelled", "--type", "merge", "--patch", patch])?;
    }
    let run = site.ended(&commit, LIMIT)?;
    ensure!(text(&run["state"]) == "cancelled", "the run is cancelled with its TaskRun: {run}");
    site.end()
}

fn product_spec(commit: &str) -> Value {
    serde_json::json!({
        "pipelineRef": { "name": "product" },
        "params": [{ "name": "source", "value": "plant" }, { "name": "commit", "value": commit }],
        "workspaces": [
            { "name": "clone", "persistentVolumeClaim": { "claimName": "clone" } },
            { "name": "server", "secret": { "secretName": "edgewright" } },
        ],
        "taskRunTemplate": { "podTemplate": { "automountServiceAccountToken": false } },
    })
}

/// A commit whose image another system tests, too.
fn tested_elsewhere(site: &Site<'_>) -> anyhow::Result<String> {
    let image = std::fs::read_to_string(site.source().join("images/app/image.yaml"))?;
    let image = image.replace("  - containerfile: service/Containerfile\n", "");
    let (kept, _) = image.split_once("  - {id: boots").context("the image has checks")?;
    site.write("images/app/image.yaml", &format!("{kept}test: {{lanes: [static, external]}}\n"))?;
    site.commit("tested elsewhere")
}

/// A run that waits for the verdict of another project's Pipeline.
pub(super) fn external(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    let commit = tested_elsewhere(&site)?;
    let mut digest = String::new();
    until("the node waits for a verdict", RUN_LIMIT, || {
        let Some(run) = site.run_of(&commit)? else { return Ok(false) };
        let Ok(app) = node(&run, "app") else { return Ok(false) };
        ensure!(app["state"] != "failed", "{app:#}");
        text(&app["digest"]).clone_into(&mut digest);
        Ok(app["notes"].to_string().contains("awaiting"))
    })?;
    {
        let team = Team::new(stage, &site)?;
        let spec = serde_json::json!({
            "pipelineRef": { "name": "external-test" },
            "params": [
                { "name": "digest", "value": digest },
                { "name": "evidence", "value": "https://ci.example.org/runs/7" },
            ],
            "workspaces": [{ "name": "server", "secret": { "secretName": "edgewright" } }],
        });
        team.succeeded(&team.run("external-1", &spec)?)?;
    }
    let run = site.passed(&commit, RUN_LIMIT)?;
    let verdicts = node(&run, "app")?["verdicts"].to_string();
    ensure_contains("the verdicts", &verdicts, "external")?;
    site.end()
}

/// The same, with a Pipeline that our event starts through an EventListener.
pub(super) fn trigger(stage: &Stage<'_>) -> anyhow::Result<()> {
    let cluster = &stage.world.cluster;
    let triggers = Triggers::ensure()?;
    triggers.install(cluster)?;
    let namespace = format!("ew-{}-team", stage.name);
    let page = std::fs::read_to_string(workspace::root().join(HOW_TO))?;
    let listener = yaml_block(&page, "kind: EventListener")?.replace("press-line", &namespace);
    cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}"))?;
    cluster.apply(&listener)?;
    let log = stage.world.place.root.join("event-listener.log");
    let listener = triggers.start(cluster, (&namespace, "edgewright"), &log)?;
    let sink = format!(
        "[[sink]]\nname = \"tests\"\nkind = \"cloud-events\"\nurl = \"{}\"\ntypes = \
         [\"dev.edgewright.verdict.awaited\"]\n",
        listener.url
    );
    let mut site = stage.site(|settings| settings.append(&sink))?;
    Team::new(stage, &site)?;
    let commit = tested_elsewhere(&site)?;
    let run =
        site.passed(&commit, RUN_LIMIT).with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
    let verdicts = node(&run, "app")?["verdicts"].to_string();
    ensure_contains("the verdicts", &verdicts, "external")?;
    let started =
        site.cluster_command().args(["--namespace", &namespace, "get", "pipelineruns", "--output", "name"]);
    let started = started.output()?;
    ensure!(started.lines().count() == 1, "one event starts one Pipeline: {started}");
    site.end()
}

/// The YAML block of a page that has a text.
fn yaml_block(page: &str, wanted: &str) -> anyhow::Result<String> {
    let mut blocks = page.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
    let block = blocks.find(|block| block.contains(wanted));
    block.map(str::to_owned).with_context(|| format!("{HOW_TO} has no block with `{wanted}`"))
}

/// The objects of a variant, created by hand, build the same digest and test it.
pub(super) fn export(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    let commit = site.commit("version 1")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    let digest = text(&node(&run, "app")?["digest"]).to_owned();
    let command = |more: &[&str]| {
        let command =
            Run::new(&stage.world.place.program).args(["export", "tekton", "app", "--server", &site.url()]);
        command.arg("--token-file").arg(site.data().join("operator-token")).args(more).output()
    };
    let without = command(&[])?;
    ensure_contains("the export", &without, "no token")?;
    site.apply("export.yaml", &command(&["--token"])?)?;
    let selector = "edgewright.dev/server=export";
    let names = site.kubectl(&["get", "taskruns", "--selector", selector, "--output", "name"])?;
    let name = names.trim().rsplit('/').next().unwrap_or_default().to_owned();
    let mut made = Value::Null;
    until("the exported TaskRun has ended", RUN_LIMIT, || {
        made = serde_json::from_str(&site.kubectl(&["get", "taskrun", &name, "--output", "json"])?)?;
        Ok(made["status"]["completionTime"].is_string())
    })?;
    let logs = || site.kubectl(&["logs", "--tail=20", &format!("{name}-pod")]).unwrap_or_default();
    ensure!(result(&made, "digest") == digest, "the same digest {digest}: {:#}\n{}", made["status"], logs());
    let pods = site.kubectl(&["get", "pods", "--selector", selector, "--output", "name"])?;
    let pod =
        pods.lines().find(|pod| pod.ends_with("-container-1")).context("the lane has a Pod")?.to_owned();
    until("the exported Pod has ended well", LIMIT, || {
        let phase = site.kubectl(&["get", &pod, "--output", "jsonpath={.status.phase}"])?;
        ensure!(phase != "Failed", "{}", site.kubectl(&["logs", &pod, "--tail=40"])?);
        Ok(phase == "Succeeded")
    })?;
    site.kubectl(&["delete", "taskruns,pods,secrets", "--selector", selector])?;
    site.end()
}

/// A Pipeline of the platform builds a step: order in, digest out.
pub(super) fn platform_build(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|settings| {
        settings.text("cluster", "build_pipeline", "platform-build");
        settings.text("cluster", "build_revision", "7");
    })?;
    let pipeline =
        std::fs::read_to_string(workspace::root().join("deploy/tekton/examples/platform-build.yaml"))?;
    let path = site.folder.join("platform-build.yaml");
    std::fs::write(&path, with_image(&pipeline, &stage.world.image))?;
    site.kubectl(&["apply", "--server-side", "--filename", &path.display().to_string()])?;
    let page = std::fs::read_to_string(workspace::root().join(HOW_TO))?;
    let role = yaml_block(&page, "kind: Role\n")?;
    site.apply("role.yaml", &role.replace("edgewright-jobs", &site.namespace))?;
    let commit = site.commit("version 1")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    ensure!(run["release"].is_u64(), "a run that passed has a release: {run}");
    let log = site.log(&run, "app")?;
    ensure_contains("the log of the job", &log, "[PipelineRun ew-")?;
    let image = site.server()?.get("/api/v1/images/app")?;
    ensure_contains("the image", &image.to_string(), "platform-build@7")?;

    stage.progress("a Pipeline whose task fails");
    site.write("images/app/service/Containerfile", "ARG BASE\nFROM ${BASE}\nRUN false\n")?;
    let commit = site.commit("a step that fails")?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    let failure = node(&run, "app")?["failure"].to_string();
    ensure_contains("the failure", &failure, "the Pipeline `platform-build` did not build the image")?;
    ensure_contains("the failure", &failure, "\"image\"")?;
    until("no PipelineRun is left", Duration::from_mins(3), || {
        Ok(site.kubectl(&["get", "pipelineruns", "--output", "name"])?.trim().is_empty())
    })?;
    site.end()
}
