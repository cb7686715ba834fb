//! `cluster try`: a cluster of its own that does what clusters are for, and ends.

use std::path::PathBuf;
use std::process::Child;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use super::api::{Cluster, Options, wait};
use super::build::Parts;
use super::node::{HOST_NAME, Lifetime};
use super::place::Place;
use crate::command::Run;
use crate::demo::story::Story;
use crate::test::shown;
use crate::workspace;

/// The name of a registry in images, and the port of the real one on this host.
const REGISTRY: &str = "registry.edgewright.internal";
const PORT: u16 = 15099;
/// An image that every node has.
const BUSYBOX: &str = "localhost/busybox:1";

/// Needs the network of services, the name server, and a service of the host by its name.
const TASK: &str = r"
apiVersion: tekton.dev/v1
kind: TaskRun
metadata: {name: NAME, namespace: default}
spec:
  taskSpec:
    results: [{name: verdict, type: string}]
    steps:
    - name: first
      image: IMAGE
      script: |
        #!/bin/sh
        set -e
        nslookup kubernetes.default.svc.cluster.local
        wget -q -O /dev/null http://ADDRESS/v2/
        sleep SECONDS
        printf passed >$(results.verdict.path)
";

const MACHINE: &str = r#"
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: trial, namespace: default}
spec:
  terminationGracePeriodSeconds: 0
  domain:
    resources: {requests: {memory: 128Mi, cpu: 200m}}
    firmware:
      kernelBoot:
        kernelArgs: "console=ttyS0 panic=5 quiet"
        container:
          image: localhost/machine:1
          kernelPath: /boot/vmlinuz
          initrdPath: /boot/initrd.gz
          imagePullPolicy: IfNotPresent
    devices: {autoattachPodInterface: false, autoattachGraphicsDevice: false, logSerialConsole: true}
"#;

/// Starts a cluster, uses it, and ends it.
pub(super) fn run(has_kubevirt: bool) -> anyhow::Result<()> {
    let began = Instant::now();
    let folder = workspace::target().join("cluster-try");
    let place = Place::new(folder.to_str())?;
    let options = Options { place, has_kubevirt, lifetime: Lifetime::Process };
    let cluster = Cluster::start(&options)?;
    let registry = Registry::start(&cluster, &options.place)?;
    let mut story = Story::new();
    story.step("A TaskRun with an image of the node");
    start_task(&cluster, "loaded", BUSYBOX, 0)?;
    finish_task(&cluster, "loaded", &story)?;
    println!("cluster: a TaskRun had finished {} after the start", shown(began.elapsed()));
    story.step("A TaskRun with an image that the node pulls from a registry of this host");
    cluster.pull_from(REGISTRY, &format!("http://{HOST_NAME}:{PORT}"))?;
    start_task(&cluster, "pulled", &registry.push()?, 0)?;
    finish_task(&cluster, "pulled", &story)?;
    story.step("The API server is killed while a TaskRun is under way");
    start_task(&cluster, "killed", BUSYBOX, 10)?;
    wait("the step is running, or has failed", || {
        let phase = cluster.value(&["pod", "killed-pod"], "{.status.phase}")?;
        Ok(!matches!(phase.as_str(), "" | "Pending"))
    })?;
    cluster.kill_apiserver()?;
    ensure!(cluster.kubectl(&["get", "nodes"]).is_err(), "the API server answers after it was killed");
    cluster.restart_apiserver()?;
    finish_task(&cluster, "killed", &story)?;
    if has_kubevirt {
        story.step("A virtual machine");
        run_machine(&cluster, &story)?;
    }
    story.step("The end");
    drop(registry);
    drop(cluster);
    ensure!(!options.place.folder().exists(), "{} is still there", options.place.folder().display());
    println!("cluster: all worked in {}", shown(began.elapsed()));
    Ok(())
}

fn start_task(cluster: &Cluster, name: &str, image: &str, seconds: u32) -> anyhow::Result<()> {
    let address = format!("{HOST_NAME}:{PORT}");
    let yaml = TASK.replace("NAME", name).replace("IMAGE", image).replace("ADDRESS", &address);
    cluster.apply(&yaml.replace("SECONDS", &seconds.to_string()))
}

fn finish_task(cluster: &Cluster, name: &str, story: &Story) -> anyhow::Result<()> {
    let object = ["taskrun", name];
    wait("the TaskRun is complete", || Ok(!cluster.value(&object, "{.status.completionTime}")?.is_empty()))?;
    let verdict = cluster.value(&object, r#"{.status.results[?(@.name=="verdict")].value}"#)?;
    if verdict != "passed" {
        let why = cluster.value(&object, "{.status.conditions[0].message}")?;
        let log = cluster.kubectl(&["logs", &format!("{name}-pod"), "--all-containers"]).unwrap_or_default();
        bail!("the TaskRun {name} failed: {why}\n{log}");
    }
    story.progress(&format!("the TaskRun {name} succeeded"));
    Ok(())
}

fn run_machine(cluster: &Cluster, story: &Story) -> anyhow::Result<()> {
    cluster.apply(MACHINE)?;
    let object = ["vmi", "trial"];
    wait("the machine has ended", || {
        let phase = cluster.value(&object, "{.status.phase}")?;
        Ok(matches!(phase.as_str(), "Succeeded" | "Failed"))
    })?;
    let pod = ["logs", "--selector=kubevirt.io=virt-launcher", "--container=guest-console-log", "--tail=-1"];
    let log = cluster.kubectl(&pod)?;
    let line = log.lines().find(|line| line.contains("GUEST-UP"));
    let line = line.with_context(|| format!("the machine printed:\n{log}"))?;
    story.progress(&format!("the machine printed {}", line.trim()));
    Ok(())
}

/// A registry of this host, as another product's: it speaks HTTP at the address that the node reaches.
struct Registry {
    child: Child,
    archive: PathBuf,
    address: String,
}

impl Registry {
    fn start(cluster: &Cluster, place: &Place) -> anyhow::Result<Self> {
        let address = format!("{}:{PORT}", cluster.host_address());
        let settings = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            place.file("registry").display()
        );
        let file = place.file("registry.yml");
        std::fs::write(&file, settings)?;
        let run =
            Run::new("setpriv").args(["--pdeathsig", "KILL", "--", "docker-registry", "serve"]).arg(&file);
        let child = run.start_logged(&place.file("registry.log"))?;
        let archive = Parts::new()?.node.file("images.tar");
        let registry = Self { child, archive, address };
        wait("the registry answers", || {
            Ok(Run::new("curl").args(["--silent", "--fail", "--noproxy", "*"]).arg(registry.url()).succeeds())
        })?;
        Ok(registry)
    }

    fn url(&self) -> String {
        format!("http://{}/v2/", self.address)
    }

    /// Pushes an image. Its name for pods.
    fn push(&self) -> anyhow::Result<String> {
        Run::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
            .arg(format!("oci-archive:{}:{BUSYBOX}", self.archive.display()))
            .arg(format!("docker://{}/trial:1", self.address))
            .output()?;
        Ok(format!("{REGISTRY}/trial:1"))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
