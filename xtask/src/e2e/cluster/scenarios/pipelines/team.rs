//! The namespace of another project, with our Tasks.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::super::release::RUN_LIMIT;
use crate::command::Run;
use crate::demo::server::text;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;
use crate::workspace;

/// How long a Pipeline without a build may take on a machine with much else to do.
pub(super) const LIMIT: Duration = Duration::from_mins(4);
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
pub(super) struct Team<'a> {
    pub(super) site: &'a Site<'a>,
    name: String,
    image: &'a str,
}

impl<'a> Team<'a> {
    /// One that is there.
    pub(super) fn of(stage: &'a Stage<'_>, site: &'a Site<'a>) -> Self {
        Self { site, name: format!("{}-team", site.namespace), image: &stage.world.image }
    }

    /// Makes the namespace with our Tasks, the examples, and the Secret that names the server.
    pub(super) fn new(stage: &'a Stage<'_>, site: &'a Site<'a>) -> anyhow::Result<Self> {
        let team = Self::of(stage, site);
        // As OpenShift Pipelines has it: otherwise Tekton's own containers are refused in such a namespace.
        let patch = r#"{"data": {"set-security-context": "true"}}"#;
        let flags =
            ["configmap", "feature-flags", "--namespace", "tekton-pipelines", "--type", "merge", "--patch"];
        site.cluster_command().arg("patch").args(flags).arg(patch).output()?;
        site.apply("team.yaml", &TEAM.replace("TEAM", &team.name))?;
        until("the namespace has its default service account", LIMIT, || {
            Ok(stage.world.api.object(&team.name, ("serviceaccounts", "default")).is_ok())
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
    pub(super) fn apply(&self, file: &str, yaml: &str) -> anyhow::Result<()> {
        ensure!(
            IMAGES.iter().any(|image| yaml.contains(image)) || !yaml.contains("image:"),
            "{file} has our image"
        );
        let path = self.site.folder.join(file);
        std::fs::write(&path, with_image(yaml, self.image))?;
        self.kubectl(&["apply", "--server-side", "--filename", &path.display().to_string()]).map(drop)
    }

    pub(super) fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.site.cluster_command().args(["--namespace", &self.name]).args(arguments).output()
    }

    /// Puts a clone of the source into the volume.
    pub(super) fn clone_source(&self) -> anyhow::Result<()> {
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
            let pod = self.site.object(("pods", "clone"))?;
            let phase = &pod["status"]["phase"];
            if phase == "Failed" {
                bail!("cannot fill the volume: {}", self.site.kubectl(&["logs", "clone"])?);
            }
            Ok(phase == "Succeeded")
        })
    }

    /// Starts a PipelineRun, and waits for its end. Gives its document.
    pub(super) fn run(&self, name: &str, spec: &Value) -> anyhow::Result<Value> {
        let run = serde_json::json!({
            "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": { "name": name }, "spec": spec,
        });
        self.apply(&format!("{name}.json"), &run.to_string())?;
        self.ended("pipelineruns", name, RUN_LIMIT)
    }

    fn ended(&self, kind: &str, name: &str, limit: Duration) -> anyhow::Result<Value> {
        let mut run = Value::Null;
        let waited = until(&format!("{kind} {name} has ended"), limit, || {
            run = self.site.world().api.object(&self.name, (kind, name))?;
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
    pub(super) fn succeeded(&self, run: &Value) -> anyhow::Result<()> {
        let condition = &run["status"]["conditions"][0];
        ensure!(condition["status"] == "True", "{condition:#}\n{}", self.logs());
        Ok(())
    }
}

pub(in crate::e2e::cluster::scenarios) fn with_image(yaml: &str, image: &str) -> String {
    let [tagged, bare] = IMAGES;
    yaml.replace(tagged, image).replace(bare, &format!("image: {image}\n"))
}

/// A result of a TaskRun or PipelineRun.
pub(super) fn result<'v>(run: &'v Value, name: &str) -> &'v str {
    let results = run["status"]["results"].as_array();
    results.into_iter().flatten().find(|result| result["name"] == name).map_or("", |it| text(&it["value"]))
}
