//! The EventListener of Tekton Triggers, built from the Go module proxy and kept in the cache folder. It runs
//! as a process of this host, on the address that the cluster's network has here.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::world::{free_port, until};
use crate::cluster::Cluster;
use crate::command::Run;
use crate::{setup, workspace};

/// The module and its version.
const MODULE: &str = "github.com/tektoncd/triggers";
const VERSION: &str = "v0.34.0";
/// What an EventListener reads.
const OBJECTS: [&str; 10] = [
    "300-eventlistener.yaml",
    "300-trigger.yaml",
    "300-triggerbinding.yaml",
    "300-triggertemplate.yaml",
    "300-clustertriggerbinding.yaml",
    "300-clusterinterceptor.yaml",
    "300-interceptor.yaml",
    "config-feature-flags.yaml",
    "config-defaults-triggers.yaml",
    "config-logging.yaml",
];
/// An interceptor that is not there.
const INTERCEPTOR: &str = "\
apiVersion: triggers.tekton.dev/v1alpha1
kind: ClusterInterceptor
metadata: {name: cel, labels: {server/type: https}}
spec:
  clientConfig:
    caBundle: AUTHORITY
    service: {name: none, namespace: tekton-pipelines, path: cel, port: 8443}
";
/// How long it may take to start.
const START_LIMIT: Duration = Duration::from_mins(1);

/// Programs and objects of a version.
#[derive(Debug)]
pub(super) struct Triggers {
    folder: PathBuf,
}

impl Triggers {
    /// Builds them, if they are not kept.
    pub(super) fn ensure() -> anyhow::Result<Self> {
        let triggers = Self { folder: workspace::cache()?.join(format!("triggers-{VERSION}")) };
        if triggers.folder.is_dir() {
            return Ok(triggers);
        }
        let go = setup::go()?;
        let making = triggers.folder.with_extension("new");
        std::fs::remove_dir_all(&making).ok();
        std::fs::create_dir_all(making.join("objects"))?;
        println!("e2e: compiling {MODULE} {VERSION}, once");
        let go = || Run::new(&go).cwd(&making).env("GOFLAGS", "-mod=mod").env("GOWORK", "off");
        let found = go().args(["mod", "download", "-json", &format!("{MODULE}@{VERSION}")]).output()?;
        let found: Value = serde_json::from_str(&found).context("go printed no JSON")?;
        let module = Path::new(found["Dir"].as_str().context("go names the module's folder")?);
        // The versions of its own build; its checksum is of the public database.
        let own = std::fs::read_to_string(module.join("go.mod"))?;
        let own = own.replacen(&format!("module {MODULE}"), "module listener", 1);
        std::fs::write(making.join("go.mod"), format!("{own}\nrequire {MODULE} {VERSION}\n"))?;
        std::fs::write(making.join("go.sum"), std::fs::read(module.join("go.sum"))?)?;
        let package = format!("{MODULE}/cmd/eventlistenersink");
        go().args(["build", "-trimpath", "-ldflags", "-s -w", "-o", "eventlistenersink", &package])
            .output()?;
        for object in OBJECTS {
            let text = std::fs::read_to_string(module.join("config").join(object))?;
            std::fs::write(making.join("objects").join(object), text)?;
        }
        std::fs::rename(&making, &triggers.folder)?;
        Ok(triggers)
    }

    /// Installs the kinds of objects, and waits until they are served.
    pub(super) fn install(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let objects = self.folder.join("objects").display().to_string();
        cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "--filename", &objects])?;
        cluster.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd/eventlisteners.triggers.tekton.dev",
        ])?;
        cluster.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd/clusterinterceptors.triggers.tekton.dev",
        ])?;
        // The process waits for the certificates of interceptors. None is used.
        let path = "jsonpath={.clusters[0].cluster.certificate-authority-data}";
        let authority = cluster.kubectl(&["config", "view", "--raw", "--output", path])?;
        cluster.apply(&INTERCEPTOR.replace("AUTHORITY", authority.trim()))
    }

    /// Starts the process of an EventListener.
    pub(super) fn start(
        &self,
        cluster: &Cluster,
        (namespace, name): (&str, &str),
        log: &Path,
    ) -> anyhow::Result<Listener> {
        let host = cluster.host_address();
        let (port, metrics) = (free_port(host)?, free_port(host)?);
        let child = Run::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(self.folder.join("eventlistenersink"))
            .args(["--el-name", name, "--el-namespace", namespace, "--port", &port.to_string()])
            .arg("--kubeconfig")
            .arg(cluster.kubeconfig())
            .env("NAMESPACE", namespace)
            .env("NAME", name)
            .env("EL_EVENT", "disable")
            .env("SYSTEM_NAMESPACE", "tekton-pipelines")
            .env("METRICS_PROMETHEUS_PORT", metrics.to_string())
            .start_logged(log)?;
        let listener = Listener { child, url: format!("http://{host}:{port}") };
        let live = format!("{}/live", listener.url);
        until("the EventListener answers", START_LIMIT, || {
            Ok(Run::new("curl").args(["--silent", "--fail", "--noproxy", "*", &live]).succeeds())
        })
        .with_context(|| std::fs::read_to_string(log).unwrap_or_default())?;
        Ok(listener)
    }
}

/// A running EventListener; it ends with this value.
#[derive(Debug)]
pub(super) struct Listener {
    child: Child,
    pub(super) url: String,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
