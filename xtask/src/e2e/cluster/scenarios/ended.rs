//! Jobs that the cluster, the kernel or an operator ends.

use std::time::Duration;

use anyhow::ensure;

use super::release::RUN_LIMIT;
use super::view::ensure_contains;
use crate::demo::server::text;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;

/// What a slow step prints when it begins.
pub(super) const BEGUN: &str = "the plant warms up";

/// Lets the only step of a TaskRun take this long.
pub(super) fn slow_step(site: &Site<'_>, seconds: u32) -> anyhow::Result<()> {
    // The words are not those of the command, which the log has, too.
    let command = format!("RUN echo the plant \"\"warms up && sleep {seconds}\n");
    site.replace("images/app/service/Containerfile", "RUN systemctl", &format!("{command}RUN systemctl"))
}

/// Commits, and waits until the slow step runs. Gives the commit.
pub(super) fn begin_slow_step(site: &Site<'_>) -> anyhow::Result<String> {
    let commit = site.commit("a slow step")?;
    site.wait_for_log(&commit, ("app", BEGUN), RUN_LIMIT)?;
    Ok(commit)
}

/// The Pod of a job is evicted: the job is tried again.
pub(super) fn evicted(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    slow_step(&site, 6)?;
    let commit = begin_slow_step(&site)?;
    let pods = site.names(["pods"])?;
    let pod = pods.iter().find(|name| name.ends_with("-job-1-pod"));
    let pod = pod.ok_or_else(|| anyhow::anyhow!("no Pod of the job: {pods:?}"))?;
    stage.progress(&format!("evicts {pod}"));
    evict(&site, pod)?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    let log = site.log(&run, "app")?;
    ensure_contains("the log", &log, "[attempt 1: the Pod was ended by the cluster")?;
    let names = site.names(["taskruns"])?;
    ensure!(names.iter().any(|name| name.ends_with("-job-2")), "a second attempt: {names:?}");
    site.end()
}

fn evict(site: &Site<'_>, pod: &str) -> anyhow::Result<()> {
    let eviction = serde_json::json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": pod, "namespace": site.namespace },
    });
    let file = site.folder.join("eviction.json");
    std::fs::write(&file, eviction.to_string())?;
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", site.namespace);
    site.kubectl(&["create", "--raw", &path, "--filename", &file.to_string_lossy()]).map(drop)
}

/// A run is cancelled while its step runs: nothing of it continues.
pub(super) fn cancelled(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    slow_step(&site, 600)?;
    let commit = begin_slow_step(&site)?;
    let run = site.run_of(&commit)?.ok_or_else(|| anyhow::anyhow!("the run is gone"))?;
    site.server()?.ask("POST", &format!("/api/v1/runs/{}/cancel", run["number"]))?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    ensure!(text(&run["state"]) == "cancelled", "the run is cancelled: {run}");
    until("the objects of the job are gone", Duration::from_mins(1), || {
        Ok(site.names(["taskruns", "pods"])?.iter().all(|name| !name.contains("-job-")))
    })?;
    site.end()
}
