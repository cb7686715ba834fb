//! A running cluster, as tests use it. It ends when the value is dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::build::Parts;
use super::node::components::{API_SERVER, CONTAINERD, ETCD, OTHERS, SOCKET};
use super::node::{self, Lifetime, Node};
use super::place::Place;
use super::{install, part, requirements};
use crate::command::Run;
use crate::demo::story::Story;
use crate::test::shown;

/// How long a component may take, on a machine with much else to do.
pub(super) const READY_LIMIT: Duration = Duration::from_mins(5);
const PAUSE: Duration = Duration::from_millis(200);
/// What a start may take on two cores with nothing else to do. More is a warning.
const BUDGET: Duration = Duration::from_secs(45);
const BUDGET_WITH_KUBEVIRT: Duration = Duration::from_mins(3);
/// A file of the state of a cluster that is complete.
const COMPLETE: &str = "complete";

/// What to start.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) place: Place,
    pub(crate) has_kubevirt: bool,
    pub(crate) lifetime: Lifetime,
}

/// Kubernetes with Tekton, and perhaps KubeVirt, on one node.
#[derive(Debug)]
pub(crate) struct Cluster {
    node: Node,
    ends_with_us: bool,
    /// No one else starts or ends a cluster here while we start it, or while it is ours.
    _lock: Option<File>,
}

impl Cluster {
    /// Starts a cluster, after removing what an earlier one left at the place. Makes the parts that are
    /// missing.
    pub(crate) fn start(options: &Options) -> anyhow::Result<Self> {
        let began = Instant::now();
        let mut story = Story::new();
        story.step("Requirements and parts");
        requirements::check(options.has_kubevirt)?;
        let parts = Parts::new()?;
        parts.ensure(options.has_kubevirt, false)?;
        let lock = lock(&options.place)?;
        node::remove(&options.place).context("cannot remove an earlier cluster")?;
        let made = began.elapsed();
        story.step("The node");
        let node = Node::start(&options.place, &parts, options.lifetime)?;
        let ends_with_us = options.lifetime == Lifetime::Process;
        let cluster = Self { node, ends_with_us, _lock: Some(lock) };
        story.step("Kubernetes");
        cluster.start_kubernetes(&parts, options, &story)?;
        story.step("Tekton");
        install::tekton::install(&cluster, &parts, &story)?;
        if options.has_kubevirt {
            story.step("KubeVirt");
            install::kubevirt::install(&cluster, &parts, &story)?;
        }
        // Made some time after its namespace: before that, no Pod can be created there.
        wait("the default namespace has its service account", || {
            cluster.shows(&["serviceaccount", "default"], "{.metadata.name}", "default")
        })?;
        std::fs::write(options.place.file(COMPLETE), "")?;
        let (took, budget) = (began.elapsed().saturating_sub(made), budget(options.has_kubevirt));
        println!("cluster: ready after {} of {}", shown(took), shown(budget));
        if took > budget {
            println!("warning: the cluster took longer than its budget to start");
        }
        Ok(cluster)
    }

    /// The cluster that runs at a place, to work with it. It is kept.
    pub(crate) fn attach(place: &Place) -> anyhow::Result<Self> {
        match Node::running(place)? {
            Some(node) if place.file(COMPLETE).exists() => {
                Ok(Self { node, ends_with_us: false, _lock: None })
            }
            Some(_) => bail!(
                "the cluster in {} is not complete: run `cargo xtask cluster up`",
                place.folder().display()
            ),
            None => bail!("no cluster runs in {}: run `cargo xtask cluster up`", place.folder().display()),
        }
    }

    fn start_kubernetes(&self, parts: &Parts, options: &Options, story: &Story) -> anyhow::Result<()> {
        let node = &self.node;
        for component in [ETCD, CONTAINERD, API_SERVER] {
            node.start_component(component)?;
        }
        self.wait_for_api_server()?;
        story.progress("the API server answers");
        for component in OTHERS {
            node.start_component(component)?;
        }
        node.wait_for(CONTAINERD, READY_LIMIT, || {
            Ok(node.run()?.args(["ctr", "--address", SOCKET, "version"]).succeeds())
        })?;
        let mut archives = vec![parts.node.file("images.tar"), parts.kubernetes.file("images.tar")];
        if options.has_kubevirt {
            archives.push(parts.kubevirt.file("images.tar"));
        }
        for archive in archives {
            self.load_image(&archive)?;
        }
        story.progress("images are loaded");
        let [.., kubelet, _, coredns] = OTHERS;
        node.wait_for(kubelet, READY_LIMIT, || {
            let condition = r#"{.status.conditions[?(@.type=="Ready")].status}"#;
            let query = self.command().args(["get", "node", "node", "--ignore-not-found", "-o"]);
            Ok(query.arg(format!("jsonpath={condition}")).output()? == "True")
        })?;
        node.wait_for(coredns, READY_LIMIT, || {
            Ok(node
                .run()?
                .args(["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8181/ready"])
                .succeeds())
        })?;
        story.progress("the node is ready");
        Ok(())
    }

    fn wait_for_api_server(&self) -> anyhow::Result<()> {
        let pki = self.node.place.exchange("pki");
        let address = format!("https://{}:6443/readyz", self.node.addresses.node);
        self.node.wait_for(API_SERVER, READY_LIMIT, || {
            let request = Run::new("curl").args([
                "--silent",
                "--fail",
                "--max-time",
                "5",
                "--noproxy",
                "*",
                "--cacert",
            ]);
            let request = request.arg(pki.join("ca.crt")).arg("--cert").arg(pki.join("admin.crt"));
            Ok(request.arg("--key").arg(pki.join("admin.key")).arg(&address).succeeds())
        })
    }

    /// The administrator's access. It works from this host.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.node.place.kubeconfig()
    }

    /// Where node and pods reach services of this host that listen on all addresses, or on this one.
    /// [`node::HOST_NAME`] is its name.
    pub(crate) fn host_address(&self) -> &str {
        &self.node.addresses.host
    }

    /// The node's address.
    pub(crate) fn node_address(&self) -> &str {
        &self.node.addresses.node
    }

    /// `kubectl` for this cluster. It keeps nothing in the user's home.
    pub(crate) fn command(&self) -> Run {
        let place = &self.node.place;
        Run::new(place.program("kubectl"))
            .env("KUBECONFIG", place.kubeconfig())
            .env("KUBECACHEDIR", place.file("kubectl-cache"))
    }

    /// What `kubectl` prints.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.command().args(arguments).output()
    }

    /// Creates or changes the objects of a YAML text.
    pub(crate) fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        let file = self.node.place.file("apply.yaml");
        std::fs::write(&file, yaml)?;
        self.apply_file(&file)
    }

    pub(super) fn apply_file(&self, file: &Path) -> anyhow::Result<()> {
        let apply = self.command().args(["apply", "--server-side", "--force-conflicts", "--filename"]);
        apply.arg(file).output().map(drop)
    }

    /// Whether a query's output is this; an object that does not exist has none.
    pub(crate) fn shows(&self, object: &[&str], path: &str, wanted: &str) -> anyhow::Result<bool> {
        Ok(self.value(object, path)? == wanted)
    }

    /// A value of an object by its JSON path; empty if there is none.
    pub(crate) fn value(&self, object: &[&str], path: &str) -> anyhow::Result<String> {
        let query = self.command().args(["get", "--ignore-not-found", "-o", &format!("jsonpath={path}")]);
        query.args(object).output()
    }

    /// Loads all images of an archive, of OCI's or docker's format, into the node.
    pub(crate) fn load_image(&self, archive: &Path) -> anyhow::Result<()> {
        let import = self.node.run()?.args(["ctr", "--address", SOCKET, "--namespace", "k8s.io"]);
        import
            .args(["images", "import", "-"])
            .stdin(archive)?
            .output()
            .map(drop)
            .with_context(|| format!("cannot load the images of {}", archive.display()))
    }

    /// Images with this registry's name, such as `registry.edgewright.internal`, are pulled from this
    /// address, such as `http://host.edgewright.internal:5000`, from now on.
    pub(crate) fn pull_from(&self, name: &str, address: &str) -> anyhow::Result<()> {
        let folder = self.node.place.exchange("registries").join(name);
        std::fs::create_dir_all(&folder)?;
        let text = format!(
            "server = \"{address}\"\n\n[host.\"{address}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        Ok(std::fs::write(folder.join("hosts.toml"), text)?)
    }

    /// A folder for a volume: on this host, and as the node finds it.
    pub(crate) fn volume(&self, name: &str) -> (PathBuf, String) {
        (self.node.place.exchange("volumes").join(name), format!("/node/volumes/{name}"))
    }

    /// What a program prints that runs on the node, as root.
    pub(crate) fn on_node(&self, command: &[&str]) -> anyhow::Result<String> {
        self.node.run()?.args(command).output()
    }

    /// Freezes all processes of a container, or lets them continue.
    pub(crate) fn freeze(&self, container: &str, is_frozen: bool) -> anyhow::Result<()> {
        let words = ["ctr", "--address", SOCKET, "--namespace", "k8s.io", "task"];
        let run = self.node.run()?.args(words).arg(if is_frozen { "pause" } else { "resume" });
        run.arg(container).output().map(drop)
    }

    /// The log with the requests of service accounts, for root.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.node.place.exchange("log/audit.log")
    }

    /// Kills the API server. Pods continue.
    pub(crate) fn kill_apiserver(&self) -> anyhow::Result<()> {
        self.node.kill_component(API_SERVER)
    }

    /// Starts the API server again, and waits until it answers.
    pub(crate) fn restart_apiserver(&self) -> anyhow::Result<()> {
        self.node.start_component(API_SERVER)?;
        self.wait_for_api_server()
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.ends_with_us
            && let Err(error) = node::remove(&self.node.place)
        {
            println!("warning: the cluster is not removed: {error:#}; run `cargo xtask cluster down`");
        }
    }
}

/// Waits for a condition of a cluster.
pub(crate) fn wait(what: &str, is_true: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_LIMIT;
    while !is_true()? {
        if Instant::now() > deadline {
            bail!("not seen after {} minutes: {what}", READY_LIMIT.as_secs() / 60);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Ends the cluster of a place, and removes everything of it. Whether there was one.
pub(super) fn down(place: &Place) -> anyhow::Result<()> {
    let _lock = lock(place)?;
    node::remove(place)
}

/// The lock of a place is beside it: the place is removed.
fn lock(place: &Place) -> anyhow::Result<File> {
    let folder = place.folder();
    std::fs::create_dir_all(folder.parent().context("the folder of a cluster has no parent")?)?;
    part::lock(&folder.with_extension("lock"))
}

fn budget(has_kubevirt: bool) -> Duration {
    if has_kubevirt { BUDGET_WITH_KUBEVIRT } else { BUDGET }
}
