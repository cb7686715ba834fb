//! The installation from `deploy/` as the how-to has it, from the first `kubectl apply` to the last `delete`.
//! What only an image, a volume and a host of the test differ in is patched ([`place`]).
//!
//! Network policies are applied, and not enforced by the test's network: that they name the right ports was
//! read, not run.

mod openshift;
pub(super) mod place;
mod volumes;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::release::RUN_LIMIT;
use super::view::{ensure_contains, node};
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;
use crate::workspace;
use place::{JOBS, Place, SERVER};

/// How long a rollout may take: a start, and the end of the server before.
const ROLLOUT: &str = "--timeout=5m";
/// How long a changed ConfigMap may take to arrive, and then to be applied.
const CHANGE_LIMIT: Duration = Duration::from_mins(4);
/// The page with the rights.
const HOW_TO: &str = "docs/how-to/install-on-kubernetes.md";

/// Installs, works, changes, upgrades, restores, and removes.
pub(super) fn install(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut place = Place::new(stage)?;
    place.remove()?;
    place.apply().context("cannot install")?;
    place.rollout()?;
    answers(&place)?;
    rights(&place)?;
    stage.progress("a commit becomes a release");
    let run = released(&place, "version 1")?;
    ensure!(run["counts"]["build"] == 1, "the application is built: {run}");
    settings(&mut place, stage)?;
    stage.progress("an upgrade");
    upgrade(&mut place, stage)?;
    stage.progress("backup and restore");
    restore(&mut place)?;
    stage.progress("the overlay for OpenShift");
    openshift::check(&place, stage)?;
    stage.progress("uninstallation");
    uninstall(&place)
}

/// The server is restricted, and answers through its Service.
fn answers(place: &Place<'_>) -> anyhow::Result<()> {
    let level = place.server(&["get", "namespace", SERVER, "--output", "json"])?;
    let level: Value = serde_json::from_str(&level)?;
    let level = &level["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    ensure!(level == "restricted", "the namespace of the server is {level}");
    for (path, wanted) in [("healthz", ""), ("readyz", ""), ("metrics", "edgewright_")] {
        ensure_contains(path, &place.ask(path)?, wanted)?;
    }
    // As jobs do, by the name of the Service. Without a token, the registry asks for one.
    let url = format!("http://edgewright.{SERVER}.svc:5080");
    let get = format!("wget -q -O - {url}/healthz; wget -S -O - {url}/v2/ 2>&1; true");
    let pod = ["--image=localhost/busybox:1", "--restart=Never", "--command", "--", "sh", "-c", &get];
    place.jobs(&[&["run", "trial"][..], &pod].concat())?;
    place.jobs(&["wait", "pod/trial", "--for=jsonpath={.status.phase}=Succeeded", ROLLOUT])?;
    let seen = place.jobs(&["logs", "trial"])?;
    place.jobs(&["delete", "pod", "trial"])?;
    ensure!(
        seen.starts_with("ok") && seen.contains("HTTP/1.1 401"),
        "the Service answers in the cluster: {seen}"
    );
    let doctor = place.in_server(&["edgewright", "doctor"])?;
    ensure_contains("`edgewright doctor`", &doctor, "all rights in the namespace edgewright-jobs")
}

/// The rights of the how-to's table are there, and others are not.
fn rights(place: &Place<'_>) -> anyhow::Result<()> {
    let page = std::fs::read_to_string(workspace::root().join(HOW_TO))?;
    let table = page.split_once("\n## Rights\n").context("the how-to has rights")?.1;
    let rows =
        table.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with('|'));
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for verb in cells[2].split(", ") {
            let resource = cells[1].trim_matches('`');
            ensure!(place.may(verb, resource, JOBS)?, "the server may not {verb} {resource}: {row}");
            ensure!(
                !place.may(verb, resource, SERVER)?,
                "the server may {verb} {resource} in its own namespace"
            );
            count += 1;
        }
    }
    ensure!(count == 13, "the table has 13 rights: {count}");
    let others = [
        ("create", "pods/exec"),
        ("create", "pods/attach"),
        ("create", "pods/portforward"),
        ("list", "secrets"),
        ("delete", "secrets"),
        ("create", "serviceaccounts/token"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("patch", "taskruns.tekton.dev"),
    ];
    for (verb, resource) in others {
        for namespace in [JOBS, SERVER, "default"] {
            ensure!(
                !place.may(verb, resource, namespace)?,
                "the server may {verb} {resource} in {namespace}"
            );
        }
    }
    Ok(())
}

/// Commits, and waits for the release.
fn released(place: &Place<'_>, message: &str) -> anyhow::Result<Value> {
    let commit = place.commit(message)?;
    let mut found = Value::Null;
    until("the run has passed", RUN_LIMIT, || {
        let runs = place.document("api/v1/runs")?;
        let is_it = |run: &&Value| run["commit"] == commit.as_str() && run["source"] == "plant";
        let run = runs.as_array().into_iter().flatten().find(is_it);
        found = run.cloned().unwrap_or_default();
        ensure!(found["state"] != "failed", "the run failed: {found}");
        Ok(found["state"] == "passed")
    })
    .with_context(|| place.situation())?;
    let run = place.document(&format!("api/v1/runs/{}", found["number"]))?;
    ensure!(run["release"].is_u64(), "the run has a release: {run}");
    let verdicts = node(&run, "app")?["verdicts"].as_array().map(Vec::len);
    ensure!(verdicts == Some(2), "two lanes have verdicts: {run}");
    Ok(run)
}

/// A change of the ConfigMap: with a source, while the server runs; with what needs it, by a restart.
fn settings(place: &mut Place<'_>, stage: &Stage<'_>) -> anyhow::Result<()> {
    let before = place.pod()?;
    stage.progress("settings that apply while the server runs");
    let second = place.copy_source()?;
    let source = format!("\n[[source]]\nname = \"second\"\nurl = \"{second}\"\npublish = false\n");
    place.settings.push_str(&source);
    place.apply()?;
    until("the second source is followed", CHANGE_LIMIT, || {
        let sources = place.document("api/v1/sources")?;
        Ok(sources.to_string().contains("\"second\""))
    })?;
    ensure!(place.pod()? == before, "the server is the one from before: {before:?}");
    stage.progress("settings that need a restart");
    place.settings.push_str("\n[keep]\nlogs = \"1d\"\n");
    place.apply()?;
    until("the container was restarted", CHANGE_LIMIT, || Ok(place.pod()?.1 == "1"))?;
    place.rollout()?;
    ensure!(place.pod()?.0 == before.0, "the Pod is the same");
    ensure_contains(
        "the log before",
        &place.server(&["logs", "deployment/edgewright", "--previous"])?,
        "to be started again",
    )
}

/// Another image, in one place: one server after the other, with the data from before.
fn upgrade(place: &mut Place<'_>, stage: &Stage<'_>) -> anyhow::Result<()> {
    let (pod, releases) = (place.pod()?.0, place.document("api/v1/releases")?);
    place.image = stage.world.other_image()?;
    place.apply()?;
    place.rollout()?;
    ensure!(place.pod()?.0 != pod, "the Deployment was recreated");
    let image =
        place.server(&["get", "pods", "--output", "jsonpath={.items[*].spec.containers[0].image}"])?;
    ensure!(image == place.image, "the server runs {}: {image}", place.image);
    ensure!(place.document("api/v1/releases")? == releases, "the releases are there");
    // Jobs run in the same image.
    place.write_source("images/app/files/etc/plant/version", "version=1\nshift=early\n")?;
    released(place, "another shift").map(drop)
}

/// A snapshot of a running server, and another volume made of it.
fn restore(place: &mut Place<'_>) -> anyhow::Result<()> {
    let releases = place.document("api/v1/releases")?;
    let digest = place.digest()?;
    place.snapshot()?;
    place.server(&["scale", "deployment/edgewright", "--replicas=0"])?;
    place.server(&[
        "wait",
        "pod",
        "--selector=app.kubernetes.io/name=edgewright",
        "--for=delete",
        ROLLOUT,
    ])?;
    place.server(&["delete", "pvc", "edgewright", ROLLOUT])?;
    place.restore_volume()?;
    place.server(&["scale", "deployment/edgewright", "--replicas=1"])?;
    place.rollout()?;
    ensure!(place.document("api/v1/releases")?.to_string().contains(&digest), "it was released: {releases}");
    let index = place.document(&format!("v2/plant/app/manifests/{digest}"))?;
    let manifest = index["manifests"][0]["digest"].as_str().context("the index is there")?;
    let manifest = place.document(&format!("v2/plant/app/manifests/{manifest}"))?;
    for layer in manifest["layers"].as_array().context("the manifest has layers")? {
        let layer = layer["digest"].as_str().context("a layer has a digest")?;
        place.in_server(&["test", "-s", &volumes::blob(layer)?]).context("a layer is missing")?;
    }
    // Channels move again with the newest commit's release, for which nothing is built.
    until("the channel has an image again", RUN_LIMIT, || {
        Ok(!place.document("v2/plant/app/manifests/stable")?.is_null())
    })?;
    let runs = place.document("api/v1/runs")?;
    let built = |run: &Value| run["source"] == "plant" && run["counts"]["build"] != 0;
    ensure!(!built(&runs[0]), "nothing is built: {runs}");
    Ok(())
}

/// Nothing of it is left.
fn uninstall(place: &Place<'_>) -> anyhow::Result<()> {
    place.delete()?;
    for namespace in [SERVER, JOBS] {
        let found =
            place.kubectl(&["get", "namespace", namespace, "--ignore-not-found", "--output", "name"])?;
        ensure!(found.trim().is_empty(), "{namespace} is still there");
    }
    let kinds = "clusterroles,clusterrolebindings,customresourcedefinitions,validatingwebhookconfigurations";
    let left = place.kubectl(&["get", kinds, "--output", "name"])?;
    ensure!(!left.contains("edgewright"), "objects of the whole cluster are left:\n{left}");
    place.clear()
}
