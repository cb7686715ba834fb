//! Argo CD, built from the Go module proxy and kept in the cache folder: its controller and its repository
//! server run as processes of this host, with a Redis of Debian and a git server of this host.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::world::{free_port, until};
use crate::cluster::{self, Cluster};
use crate::command::Run;
use crate::setup;

/// Its namespace.
pub(super) const NAMESPACE: &str = "argocd";
/// Where all of it listens. Nothing in the cluster calls it.
const LOOPBACK: &str = "127.0.0.1";
/// How long a program may take to start.
const START_LIMIT: Duration = Duration::from_mins(1);

/// What its installation has besides the kinds of objects.
const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: argocd}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-cm, namespace: argocd, labels: {app.kubernetes.io/part-of: argocd}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-rbac-cm, namespace: argocd, labels: {app.kubernetes.io/part-of: argocd}}
---
apiVersion: v1
kind: Secret
metadata: {name: argocd-secret, namespace: argocd, labels: {app.kubernetes.io/part-of: argocd}}
stringData: {server.secretkey: of-a-test-that-no-one-signs-in-to}
---
apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: default, namespace: argocd}
spec:
  sourceRepos: ["*"]
  destinations: [{namespace: "*", server: "*"}]
  clusterResourceWhitelist: [{group: "*", kind: "*"}]
"#;

/// Running programs; they end with this value.
#[derive(Debug)]
pub(super) struct ArgoCd {
    programs: PathBuf,
    /// Their files and logs.
    folder: PathBuf,
    kubeconfig: PathBuf,
    children: Vec<Child>,
}

impl ArgoCd {
    /// Installs its objects, whose kinds are known already, and starts its programs.
    pub(super) fn start(cluster: &Cluster, folder: &Path) -> anyhow::Result<Self> {
        let redis = setup::redis()?;
        let mut argo = Self {
            programs: cluster::argo_cd()?,
            folder: folder.to_owned(),
            kubeconfig: cluster.kubeconfig(),
            children: Vec::new(),
        };
        for name in ["home", "tmp"] {
            std::fs::create_dir_all(folder.join(name))?;
        }
        cluster.apply(OBJECTS)?;
        let [cache, repository] = [free_port(LOOPBACK)?, free_port(LOOPBACK)?];
        let cache_address = format!("{LOOPBACK}:{cache}");
        let port = cache.to_string();
        let run = Run::as_root("setpriv")?
            .args(["--pdeathsig", "KILL", "--", "env", "LC_ALL=C", "chroot"])
            .arg(redis);
        let run = run.args(["/usr/bin/redis-server", "--bind", LOOPBACK, "--port", &port]);
        argo.spawn("redis", run.args(["--save", "", "--appendonly", "no", "--dir", "/"]))?;
        argo.wait_for("redis", &cache_address)?;
        let repository_address = format!("{LOOPBACK}:{repository}");
        let metrics = free_port(LOOPBACK)?.to_string();
        let run = argo.program("argocd-repo-server").args(["--redis", &cache_address, "--disable-tls"]);
        let run = run.args(["--address", LOOPBACK, "--port", &repository.to_string()]);
        argo.spawn("repository", run.args(["--metrics-address", LOOPBACK, "--metrics-port", &metrics]))?;
        argo.wait_for("repository", &repository_address)?;
        let metrics = free_port(LOOPBACK)?.to_string();
        let run = argo.program("argocd-application-controller").args(["--redis", &cache_address]);
        let run = run.args(["--repo-server", &repository_address, "--repo-server-plaintext"]);
        let run = run.args(["--namespace", NAMESPACE, "--metrics-port", &metrics, "--kubeconfig"]);
        argo.spawn("controller", run.arg(cluster.kubeconfig()))?;
        Ok(argo)
    }

    /// Serves the repositories below a folder. Gives the URL of the folder.
    pub(super) fn serve_git(&mut self, folder: &Path) -> anyhow::Result<String> {
        let programs = Run::new("git").arg("--exec-path").output()?;
        let port = free_port(LOOPBACK)?.to_string();
        let address = format!("{LOOPBACK}:{port}");
        let run = Run::new("setpriv").args(["--pdeathsig", "KILL", "--"]);
        let run =
            run.arg(Path::new(programs.trim()).join("git-daemon")).args(["--export-all", "--reuseaddr"]);
        let run = run.arg(format!("--listen={LOOPBACK}")).arg(format!("--port={port}"));
        // It starts itself again for each client.
        let run = run.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", programs.trim()));
        self.spawn("git", run.arg(format!("--base-path={}", folder.display())).arg(folder))?;
        self.wait_for("git", &address)?;
        Ok(format!("git://{address}"))
    }

    /// One of its programs: they are one file, which looks at the name that it is called by.
    fn program(&self, name: &str) -> Run {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.programs.display());
        Run::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(self.programs.join("argocd"))
            .env("ARGOCD_BINARY_NAME", name)
            .env("ARGOCD_NAMESPACE", NAMESPACE)
            // It reaches the cluster by the kubeconfig, also what an Application calls the cluster it runs in.
            .env("ARGOCD_FAKE_IN_CLUSTER", "true")
            .env("KUBECONFIG", &self.kubeconfig)
            .env("ARGOCD_GPG_ENABLED", "false")
            .env("ARGOCD_RECONCILIATION_TIMEOUT", "10s")
            .env("ARGOCD_RECONCILIATION_JITTER", "0s")
            .env("ARGOCD_APPLICATION_CONTROLLER_PERSIST_RESOURCE_HEALTH", "true")
            .env("ARGOCD_ASK_PASS_SOCK", self.folder.join("ask-pass.sock"))
            .env("HOME", self.folder.join("home"))
            .env("TMPDIR", self.folder.join("tmp"))
            .env("PATH", path)
    }

    fn spawn(&mut self, name: &str, run: Run) -> anyhow::Result<()> {
        let child = run.start_logged(&self.folder.join(format!("{name}.log")))?;
        self.children.push(child);
        Ok(())
    }

    /// Waits until the program that was started last listens.
    fn wait_for(&mut self, name: &str, address: &str) -> anyhow::Result<()> {
        let child = self.children.last_mut().context("a program was started")?;
        let waited = until(&format!("{name} of Argo CD listens"), START_LIMIT, || {
            if let Some(status) = child.try_wait()? {
                bail!("it ended with {status}");
            }
            Ok(std::net::TcpStream::connect(address).is_ok())
        });
        waited.with_context(|| self.log(name))
    }

    /// The end of a program's output.
    pub(super) fn log(&self, name: &str) -> String {
        let log = std::fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for ArgoCd {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
