//! Virtual machines of KubeVirt.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::view::{ensure_contains, failure, node};
use crate::demo::server::text;
use crate::e2e::cluster::base;
use crate::e2e::cluster::server::Signal;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;

/// How long a run with a machine may take, emulated, on a machine with much else to do.
const RUN_LIMIT: Duration = Duration::from_mins(10);
/// The role under test.
const MACHINE: &str = "machine";
pub(super) const VMIS: &str = "virtualmachineinstances";

/// A real image with its own kernel and systemd passes; its order, its machine and its launcher are gone
/// after it.
pub(super) fn machine(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = site(stage)?;
    let commit = site.commit("a machine")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    ensure!(run["release"].is_u64(), "a run that passed has a release: {run}");
    ensure_one(&site)?;
    let list = site.server()?.get(&format!("/api/v1/runs/{}/evidence/{MACHINE}", run["number"]))?;
    let pieces = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> = pieces.iter().map(|piece| text(&piece["name"])).collect();
    for name in ["journal", "console", "runner"] {
        ensure!(names.contains(&name), "no evidence `{name}`: {names:?}");
    }
    end(site)
}

/// A check that fails in a machine: no release, and no other attempt.
pub(super) fn failing(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = site(stage)?;
    site.write("images/machine/files/etc/plant/version", "version=2\n")?;
    let commit = site.commit("a version that is not expected")?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    ensure!(text(&run["state"]) == "failed" && run["release"].is_null(), "no release: {run}");
    ensure_contains("the failure", &failure(node(&run, MACHINE)?), "version")?;
    ensure_one(&site)?;
    end(site)
}

/// A kernel that panics, because the image's init ends.
pub(super) fn panicking(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = site(stage)?;
    let message = init(&mut site, "echo the plant burns\nexit 3\n")?;
    ensure_contains("the failure", &message, "the kernel panicked: Attempted to kill init")?;
    end(site)
}

/// A machine that hangs: its check runner is stopped, and prints nothing any more.
pub(super) fn hung(stage: &Stage<'_>) -> anyhow::Result<()> {
    const STOP: &str = "for folder in /proc/[0-9]*; do
  grep --quiet --text machine-checks $folder/cmdline && kill -STOP ${folder#/proc/}
done
while :; do sleep 1; done
";
    let mut site = site(stage)?;
    let message = init(&mut site, STOP)?;
    // Where the node has no time for it, its kernel still prints that it starves.
    let ends = ["the machine gave no sign of life", "the machine did not start its system within"];
    ensure!(
        ends.iter().any(|end| message.contains(end)),
        "the failure should have one of {ends:?}: {message}"
    );
    end(site)
}

/// The server is killed while a machine runs, and started again: it finds the machine, and starts no other.
pub(super) fn killed(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = site(stage)?;
    let commit = site.commit("a machine")?;
    until("the machine runs", RUN_LIMIT, || {
        let phases = ["get", VMIS, "--output", "jsonpath={.items[*].status.phase}"];
        Ok(machines(&site, &phases)?.contains("Running"))
    })?;
    stage.progress("the server is killed");
    site.end_server(Signal::Kill)?;
    site.start()?;
    site.passed(&commit, RUN_LIMIT)?;
    ensure_one(&site)?;
    end(site)
}

/// Tests an image with this init; gives the failure, which is the image's.
fn init(site: &mut Site<'_>, script: &str) -> anyhow::Result<String> {
    site.write("images/machine/files/usr/sbin/init", &format!("#!/bin/sh\n{script}"))?;
    let step = r#"- files: {path: files, modes: {"usr/sbin/init": "0755"}}"#;
    site.replace("images/machine/image.yaml", "- files: files", step)?;
    let commit = site.commit("another init")?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    ensure!(text(&run["state"]) == "failed", "the run failed: {run}");
    let node = node(&run, MACHINE)?;
    ensure!(node["verdicts"][0]["result"]["kind"] == "image", "it is the image's fault: {node}");
    Ok(failure(node))
}

/// That there was one attempt. A machine that is slow to end is removed after its lane; its events stay.
fn ensure_one(site: &Site<'_>) -> anyhow::Result<()> {
    const STARTS: &str = "involvedObject.kind=VirtualMachineInstance,reason=SuccessfulCreate";
    let words = ["get", "events", "--field-selector", STARTS, "--output", "json"];
    let events: serde_json::Value = serde_json::from_str(&machines(site, &words)?)?;
    let events = events["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let started: BTreeSet<&str> = events.iter().map(|event| text(&event["involvedObject"]["name"])).collect();
    ensure!(started.len() == 1, "one machine: {started:?}");
    ensure!(started.iter().all(|name| name.ends_with("-vm-1")), "the first attempt: {started:?}");
    Ok(())
}

/// A site whose lanes are virtual machines.
fn site<'s>(stage: &'s Stage<'s>) -> anyhow::Result<Site<'s>> {
    with_machines(base::with_kernel(stage)?, &["jobs", "container", "vm"])
}

/// Starts the server of a site, with a namespace for its machines.
pub(super) fn with_machines<'s>(mut site: Site<'s>, runs: &[&str]) -> anyhow::Result<Site<'s>> {
    let namespace = namespace(&site);
    let settings = &mut site.settings;
    settings.set("cluster", "runs", serde_json::json!(runs));
    settings.text("cluster", "machine_namespace", &namespace).text("cluster", "machine_cpu", "100m");
    site.make_machine_namespace(&namespace)?;
    site.start()?;
    Ok(site)
}

fn namespace(site: &Site<'_>) -> String {
    format!("{}-vm", site.namespace)
}

/// `kubectl` as administrator, in the namespace of machines.
pub(super) fn machines(site: &Site<'_>, words: &[&str]) -> anyhow::Result<String> {
    site.cluster_command().args(["--namespace", &namespace(site)]).args(words).output()
}

/// Ends a site: nothing of it is left in either namespace.
pub(super) fn end(site: Site<'_>) -> anyhow::Result<()> {
    let get = ["get", &format!("{VMIS},pods,secrets"), "--output", "name"];
    until("nothing is left of the machines", RUN_LIMIT, || {
        Ok(machines(&site, &get).context("cannot list the machines")?.trim().is_empty())
    })?;
    site.end()
}
