//! The same image by hand: a TaskRun with one step, in which buildah builds a Containerfile and pushes it.
//!
//! Its settings are the best that work on this node: overlay storage on the node's disk, which keeps the
//! base, all layers, and what buildah knows of blobs in the registry, from one build to the next: it pulls
//! and pushes only what is new; no script (Tekton would add a container that writes it), no clone (the
//! Containerfile is a `ConfigMap`); `RUN` in a chroot, which is faster than a container.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::command::Run;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::world::World;

/// How long one may take.
const LIMIT: Duration = Duration::from_mins(10);
/// Where the node keeps its storage.
const STORAGE: &str = "/var/lib/by-hand";
/// The step's script. What it needs from the registry is there: nothing is asked for again.
const BUILD: &str = "buildah='buildah --storage-driver overlay'; \
    $buildah build --quiet --layers --isolation chroot --pull=missing --tls-verify=false \
    --build-arg BASE=\"$BASE\" --tag app /source && \
    $buildah push --quiet --tls-verify=false app \"docker://$TO\"";

/// Copies the base of a site, by its digest, to a registry that is not ours.
pub(super) fn push_base(world: &World, site: &Site<'_>, base: &str) -> anyhow::Result<()> {
    let from = site.url();
    let (_, from) = from.split_once("://").unwrap_or_default();
    Run::new("skopeo")
        .args(["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .arg(format!("docker://{from}/plant/base@{base}"))
        .arg(format!("docker://{}/by-hand/base:1", world.registry()))
        .run()
}

/// Builds one. Seconds from the request to the end of the TaskRun, as its watch reports it.
pub(super) fn build(
    world: &World,
    site: &Site<'_>,
    round: usize,
    containerfile: &str,
) -> anyhow::Result<f64> {
    let name = format!("by-hand-{round}");
    let files = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": site.namespace },
        "data": { "Containerfile": containerfile },
    });
    site.apply("by-hand-files.yaml", &files.to_string())?;
    let task_run = task_run(world, &site.namespace, &name).to_string();
    let began = Instant::now();
    site.apply("by-hand.yaml", &task_run)?;
    let limit = format!("--timeout={}s", LIMIT.as_secs());
    site.kubectl(&["wait", "taskrun", &name, "--for=jsonpath={.status.completionTime}", &limit])?;
    let took = began.elapsed().as_secs_f64();
    let succeeded = "--output=jsonpath={.status.conditions[0].status}";
    let status = site.kubectl(&["get", "taskrun", &name, succeeded])?;
    let log = || site.kubectl(&["logs", &format!("{name}-pod"), "--all-containers"]);
    ensure!(status == "True", "the TaskRun by hand failed:\n{}", log().unwrap_or_default());
    site.kubectl(&["delete", "taskrun", &name, "--wait=false"])?;
    Ok(took)
}

fn task_run(world: &World, namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "tekton.dev/v1", "kind": "TaskRun",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "podTemplate": { "automountServiceAccountToken": false, "enableServiceLinks": false },
            "taskSpec": {
                "volumes": [
                    { "name": "source", "configMap": { "name": name } },
                    { "name": "storage", "hostPath": { "path": STORAGE, "type": "DirectoryOrCreate" } },
                ],
                "steps": [{
                    "name": "build",
                    "image": world.image,
                    "command": ["/bin/sh", "-ec", BUILD],
                    "env": [
                        { "name": "BASE", "value": format!("{}/by-hand/base:1", world.registry()) },
                        { "name": "TO", "value": format!("{}/by-hand/app:{name}", world.registry()) },
                    ],
                    "volumeMounts": [
                        { "name": "source", "mountPath": "/source", "readOnly": true },
                        { "name": "storage", "mountPath": "/var/lib/containers" },
                    ],
                    "computeResources": { "requests": { "cpu": "100m", "memory": "256Mi" } },
                    "securityContext": {
                        "runAsUser": 0,
                        "capabilities": { "add": ["SYS_ADMIN"] },
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                }],
            },
        },
    })
}
