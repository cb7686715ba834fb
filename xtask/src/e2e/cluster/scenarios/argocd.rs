//! The Application of `deploy/examples` in a real Argo CD: from a commit to a server that runs, a changed
//! setting, drift, and the end.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::install::place::{JOBS, Place, SERVER};
use crate::cluster;
use crate::command::Run;
use crate::demo::source::Source;
use crate::e2e::cluster::argo::{ArgoCd, NAMESPACE};
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::{copy, until};
use crate::workspace;

/// How long a synchronisation may take, with a Pod that starts.
const SYNC_LIMIT: Duration = Duration::from_mins(4);
/// The Application.
const APPLICATION: &str = "deploy/examples/argo-cd.yaml";
/// Its repository, and its folder there.
const REPOSITORY: &str = "https://git.example.org/cluster.git";
const FOLDER: &str = "path: edgewright";
/// An object of the installation's own, which a later commit removes.
const EXTRA: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: edgewright-authorities, namespace: edgewright}
";
/// The finalizer by which the objects of an Application end with it.
const CASCADE: &str = r#"{"metadata": {"finalizers": ["resources-finalizer.argocd.argoproj.io"]}}"#;

/// Installs by a commit, changes by commits, and uninstalls.
pub(super) fn argocd(stage: &Stage<'_>) -> anyhow::Result<()> {
    let definitions = cluster::crds()?;
    for kind in ["applications", "appprojects"] {
        let file = definitions.join(format!("{}-crd.yaml", kind.trim_end_matches('s')));
        let file = file.to_str().context("paths of tests are text")?;
        stage.world.cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "--filename", file])?;
        let kind = format!("crd/{kind}.argoproj.io");
        stage.world.cluster.kubectl(&["wait", "--for=condition=Established", &kind, "--timeout=1m"])?;
    }
    let mut place = Place::new(stage)?;
    place.remove()?;
    let folder = place.folder.join("argocd");
    let mut argo = ArgoCd::start(&stage.world.cluster, &folder)?;
    let repositories = place.folder.join("repositories");
    let git = Git::new(&place, &repositories)?;
    let url = format!("{}/cluster.git", argo.serve_git(&repositories)?);
    let test = Test { stage, argo: &argo, git };
    test.install(&mut place, &url).with_context(|| test.situation(&place))?;
    test.change(&mut place).with_context(|| test.situation(&place))?;
    test.heal(&place).with_context(|| test.situation(&place))?;
    test.uninstall(&place).with_context(|| test.situation(&place))?;
    let [server, jobs] = [SERVER, JOBS];
    place.kubectl(&["delete", "namespace", server, jobs, NAMESPACE, "--ignore-not-found", "--timeout=5m"])?;
    place.clear()
}

/// The repository of the cluster's administrators.
struct Git {
    work: std::path::PathBuf,
    bare: std::path::PathBuf,
}

impl Git {
    fn new(place: &Place<'_>, repositories: &std::path::Path) -> anyhow::Result<Self> {
        let (work, bare) = (place.folder.join("cluster"), repositories.join("cluster.git"));
        for (folder, is_bare) in [(&work, false), (&bare, true)] {
            let init = Run::new("git").args(["init", "--quiet", "--initial-branch=main"]);
            if is_bare { init.arg("--bare").arg(folder).run()? } else { init.arg(folder).run()? }
        }
        Ok(Self { work, bare })
    }

    /// Commits the files of the installation as they are now, and pushes them.
    fn push(&self, place: &Place<'_>, message: &str, has_extra: bool) -> anyhow::Result<String> {
        let files = place.write()?;
        let file = files.join("kustomization.yaml");
        let text = std::fs::read_to_string(&file)?;
        if has_extra {
            std::fs::write(files.join("extra.yaml"), EXTRA)?;
            std::fs::write(&file, text.replace("volume.yaml]", "volume.yaml, extra.yaml]"))?;
        }
        copy(&place.folder.join("deploy"), &self.work.join("deploy"))?;
        let commit = Source::open(&self.work).commit(message)?;
        let push = Run::new("git").arg("-C").arg(&self.work).args(["push", "--quiet"]);
        push.arg(&self.bare).arg("main").run()?;
        Ok(commit)
    }
}

struct Test<'a> {
    stage: &'a Stage<'a>,
    argo: &'a ArgoCd,
    git: Git,
}

impl Test<'_> {
    fn application(&self) -> anyhow::Result<Value> {
        let get = ["get", "application", "edgewright", "--namespace", NAMESPACE, "--output", "json"];
        let text = self.stage.world.cluster.kubectl(&get)?;
        serde_json::from_str(&text).context("kubectl printed no JSON")
    }

    /// Waits until a commit is applied, and all is well.
    fn synced(&self, commit: &str) -> anyhow::Result<()> {
        until(&format!("the Application is synced to {commit}, and healthy"), SYNC_LIMIT, || {
            let status = &self.application()?["status"];
            Ok(status["sync"]["status"] == "Synced"
                && status["sync"]["revision"] == commit
                && status["health"]["status"] == "Healthy")
        })
    }

    /// Applies the Application, and waits for what it installs.
    fn install(&self, place: &mut Place<'_>, url: &str) -> anyhow::Result<()> {
        let commit = self.git.push(place, "install", true)?;
        let application = std::fs::read_to_string(workspace::root().join(APPLICATION))?;
        ensure!(application.contains(REPOSITORY) && application.contains(FOLDER), "{APPLICATION} has both");
        let application = application.replace(REPOSITORY, url).replace(FOLDER, "path: deploy/test");
        place.world.cluster.apply(&application)?;
        self.stage.progress("the Application is applied");
        until("the Ingress is there", SYNC_LIMIT, || {
            place.world.cluster.shows(
                &["ingress", "edgewright", "--namespace", SERVER],
                "{.metadata.name}",
                "edgewright",
            )
        })?;
        let health = |kind: &str| -> anyhow::Result<Value> {
            let application = self.application()?;
            let all = application["status"]["resources"].as_array().cloned().unwrap_or_default();
            let object = all.into_iter().find(|object| object["kind"] == kind);
            Ok(object.map(|object| object["health"]["status"].clone()).unwrap_or_default())
        };
        until("the Deployment is healthy", SYNC_LIMIT, || Ok(health("Deployment")? == "Healthy"))?;
        // What the controller of an Ingress does, of which the cluster has none.
        let whole = &self.application()?["status"]["health"]["status"];
        ensure!(*whole != "Healthy", "an Ingress without an address is not healthy");
        let address = r#"{"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}"#;
        place.server(&[
            "patch",
            "ingress",
            "edgewright",
            "--subresource=status",
            "--type=merge",
            "--patch",
            address,
        ])?;
        self.synced(&commit)?;
        place.rollout()?;
        self.stage.progress("it is Synced and Healthy");
        self.stays()
    }

    /// Nothing drifts: the objects in the cluster are those of the commit, with all that the API server adds.
    fn stays(&self) -> anyhow::Result<()> {
        let look = || -> anyhow::Result<(Value, Value)> {
            let status = &self.application()?["status"];
            ensure!(status["sync"]["status"] == "Synced", "the Application drifts: {}", status["resources"]);
            Ok((status["reconciledAt"].clone(), status["operationState"]["finishedAt"].clone()))
        };
        let (mut seen, operation) = look()?;
        for _ in 0..2 {
            let before = seen.clone();
            until("the Application is compared again", SYNC_LIMIT, || {
                seen = look()?.0;
                Ok(seen != before)
            })?;
        }
        ensure!(look()?.1 == operation, "the Application is synchronised again without a commit");
        Ok(())
    }

    /// A commit with another setting, and without an object.
    fn change(&self, place: &mut Place<'_>) -> anyhow::Result<()> {
        let pod = place.pod()?;
        let second = place.copy_source()?;
        let source = format!("\n[[source]]\nname = \"second\"\nurl = \"{second}\"\npublish = false\n");
        place.settings.push_str(&source);
        let commit = self.git.push(place, "a second source", false)?;
        self.synced(&commit)?;
        // The kubelet looks at a Pod that changed at once, and at others each minute.
        place.server(&["annotate", "pods", "--all", "--overwrite", "edgewright.dev/test=second"])?;
        until("the second source is followed", SYNC_LIMIT, || {
            Ok(place.document("api/v1/sources")?.to_string().contains("\"second\""))
        })?;
        ensure!(place.pod()? == pod, "the server is the one from before: {pod:?}");
        let extra = ["configmap", "edgewright-authorities", "--ignore-not-found", "--output", "name"];
        ensure!(place.server(&[&["get"], &extra[..]].concat())?.is_empty(), "what left git is pruned");
        self.stage.progress("a commit changed a setting, and one object is pruned");
        Ok(())
    }

    /// What another client changes is changed back.
    fn heal(&self, place: &Place<'_>) -> anyhow::Result<()> {
        place.server(&["scale", "deployment/edgewright", "--replicas=0"])?;
        place.jobs(&["delete", "role", "edgewright"])?;
        until("replicas and Role are as in git", SYNC_LIMIT, || {
            let cluster = &place.world.cluster;
            let scaled = ["deployment", "edgewright", "--namespace", SERVER];
            let role = ["role", "edgewright", "--namespace", JOBS];
            Ok(cluster.shows(&scaled, "{.spec.replicas}", "1")?
                && cluster.shows(&role, "{.metadata.name}", "edgewright")?)
        })?;
        place.rollout()?;
        self.stage.progress("what another client changed is as in git");
        Ok(())
    }

    /// The Application ends with all objects, but the data.
    fn uninstall(&self, place: &Place<'_>) -> anyhow::Result<()> {
        let own = ["--namespace", NAMESPACE, "application", "edgewright"];
        place.kubectl(&[&["patch"], &own[..], &["--type=merge", "--patch", CASCADE]].concat())?;
        place.kubectl(&[&["delete"], &own[..], &["--timeout=5m"]].concat())?;
        until("the namespace of jobs is gone", SYNC_LIMIT, || {
            Ok(place
                .kubectl(&["get", "namespace", JOBS, "--ignore-not-found", "--output", "name"])?
                .is_empty())
        })?;
        let kinds = "deployments,services,ingresses,networkpolicies,roles,rolebindings,pods";
        until("only the data is left", SYNC_LIMIT, || {
            Ok(place.server(&["get", kinds, "--output", "name"])?.trim().is_empty())
        })?;
        let volume = place.server(&["get", "pvc", "edgewright", "--output", "jsonpath={.status.phase}"])?;
        ensure!(volume == "Bound", "the volume with the data stays: {volume}");
        self.stage.progress("it is uninstalled, and the data is there");
        Ok(())
    }

    /// What is there, for errors.
    fn situation(&self, place: &Place<'_>) -> String {
        let status = self.application().map(|application| application["status"].clone()).unwrap_or_default();
        let logs = ["controller", "repository"].map(|name| self.argo.log(name)).join("\n");
        format!("{status:#}\n{logs}\n{}", place.situation())
    }
}
