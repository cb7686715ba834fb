//! What KubeVirt and the guest would do: the check runner runs in this process.

use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use edgewright_job::{JobRegistry, conformance};
use edgewright_model::Digest;
use edgewright_model::frame::Framer;
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::{JobEvent, JobOutcome, StepBuild};
use edgewright_model::reference::Reference;
use edgewright_model::spec::Lane;
use edgewright_model::tools::ToolVersions;
use edgewright_oci::Client;
use edgewright_oci::image::Image;
use edgewright_oci::media;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Fake, tekton};

const CONSOLE: &str = "guest-console-log";

/// What the TaskRun does that makes a machine: pushes one whose kernel has these arguments.
pub(crate) async fn make(fake: &Fake, registry: &JobRegistry, repository: &str, arguments: &str) -> Digest {
    let is_it = |name: &String| name.contains("-machine-");
    let name = fake.until(|fake| fake.names("taskruns").into_iter().find(is_it)).await;
    fake.object("secrets", &name).await;
    let pod = tekton::start(fake, &name);
    let access = registry.order(conformance::image_request(9, "hmi").unwrap()).0.registry;
    let client = Client::new(&access).unwrap();
    let mut image = Image::scratch(&"linux/amd64".parse().unwrap());
    image.add_labels(&[(edgewright_lab::remote::ARGUMENTS.to_owned(), arguments.to_owned())].into());
    let documents = image.documents(Timestamp::UNIX_EPOCH);
    let manifest = ManifestRef {
        repository: repository.parse().unwrap(),
        digest: documents.manifest_descriptor.digest.clone(),
    };
    client.push_blob_bytes(&manifest.repository, documents.config).await.unwrap();
    let reference = Reference::Digest(manifest.digest.clone());
    client
        .push_manifest(&manifest.repository, &reference, media::MANIFEST, documents.manifest)
        .await
        .unwrap();
    let digest = manifest.digest.clone();
    let build = StepBuild {
        key: digest.clone(),
        manifest,
        manifest_size: 1,
        image_size: 1,
        duration_ms: 1,
        tools: ToolVersions::default(),
        kept: None,
    };
    let outcome = JobOutcome { builds: vec![build], ..JobOutcome::empty() };
    let record = serde_json::to_string(&JobEvent::Outcome(outcome)).unwrap();
    fake.write(&pod, &Framer::default().lines(&record));
    tekton::end(fake, &name, 0, Some(Digest::of(&record).to_string()));
    digest
}

/// Waits for a machine, and gives it a launcher on a node.
pub(crate) async fn launch(fake: &Fake, attempt: u32) -> String {
    launch_for(fake, Lane::Vm, attempt).await
}

/// The same for the machine of a lane.
pub(crate) async fn launch_for(fake: &Fake, lane: Lane, attempt: u32) -> String {
    let suffix = format!("-{lane}-{attempt}");
    let is_it = |name: &String| name.ends_with(&suffix);
    let name = fake.until(|fake| fake.names("virtualmachineinstances").into_iter().find(is_it)).await;
    let vmi = fake.get("virtualmachineinstances", &name).unwrap();
    let owner = json!([{ "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": name, "uid": vmi["metadata"]["uid"] }]);
    let pod = launcher(&name);
    let metadata = json!({ "name": pod, "labels": vmi["metadata"]["labels"], "ownerReferences": owner });
    let spec = json!({ "nodeName": "node", "containers": [{ "name": "compute" }] });
    fake.apply("pods", json!({ "metadata": metadata, "spec": spec, "status": { "phase": "Pending" } }));
    fake.object("secrets", &name).await;
    set_state(fake, &name, &json!({ "running": { "startedAt": "2026-11-28T12:00:00Z" } }));
    fake.set_status("virtualmachineinstances", &name, json!({ "phase": "Running", "conditions": [] }));
    fake.write(&pod, &[edgewright_lab::remote::STARTING.to_owned()]);
    name
}

/// The name of a machine's launcher.
pub(crate) fn launcher(name: &str) -> String {
    format!("virt-launcher-{name}-x7k2q")
}

/// The guest boots and runs its checks.
pub(crate) async fn run(fake: &Fake, name: &str) {
    let secret = fake.get("secrets", name).unwrap();
    let file = secret["data"]["order.json"].as_str().unwrap();
    let file = base64::engine::general_purpose::STANDARD.decode(file).unwrap();
    // As on the disk that KubeVirt makes.
    let disk = [vec![0; 32 * 2048], file].concat();
    let order = edgewright_lab::remote::find(&disk).unwrap().0.to_vec();
    let console = tokio::task::spawn_blocking(move || checks(&order)).await.unwrap();
    fake.write(&launcher(name), &console.lines().map(str::to_owned).collect::<Vec<_>>());
}

fn checks(order: &[u8]) -> String {
    let (mut file, console) =
        (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    file.write_all(order).unwrap();
    let limits = edgewright_checks::machine::Limits { settling: Duration::ZERO, boot: Duration::ZERO };
    edgewright_checks::machine::run_in_machine(file.path(), limits, console.path()).unwrap();
    std::fs::read_to_string(console.path()).unwrap()
}

/// The machine powers itself off.
pub(crate) fn end(fake: &Fake, name: &str, phase: &str) {
    fake.close(&launcher(name));
    fake.set_status("virtualmachineinstances", name, json!({ "phase": phase, "conditions": [] }));
}

/// Evicts the launcher, as the kubelet of a node without memory does. The machine ends after that.
pub(crate) fn evict(fake: &Fake, name: &str) {
    let status = json!({ "phase": "Failed", "reason": "Evicted", "message": "disk pressure" });
    fake.set_status("pods", &launcher(name), status);
}

fn set_state(fake: &Fake, name: &str, state: &Value) {
    let container = |name: &str| json!({ "name": name, "state": state, "image": "", "imageID": "", "ready": true, "restartCount": 0 });
    let (console, compute) = (container(CONSOLE), container("compute"));
    let status =
        json!({ "phase": "Running", "initContainerStatuses": [console], "containerStatuses": [compute] });
    fake.set_status("pods", &launcher(name), status);
}
