//! Servers, and an API server, that end while jobs run.

use anyhow::ensure;

use super::ended::{begin_slow_step, slow_step};
use super::release::RUN_LIMIT;
use super::view::ensure_contains;
use crate::demo::server::text;
use crate::e2e::cluster::server::Signal;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;

/// The server is killed during a build, and during a test: nothing runs twice.
pub(super) fn killed(stage: &Stage<'_>) -> anyhow::Result<()> {
    ends(stage, Signal::Kill)
}

/// The server is stopped, as for an upgrade: the next one finds its jobs.
pub(super) fn stopped(stage: &Stage<'_>) -> anyhow::Result<()> {
    ends(stage, Signal::Term)
}

fn ends(stage: &Stage<'_>, signal: Signal) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    slow_step(&site, 8)?;
    let slow = "- {id: slow, command: [sleep, \"15\"], timeout: 60s}";
    site.replace("images/app/image.yaml", "checks:", &format!("checks:\n  {slow}"))?;
    let commit = begin_slow_step(&site)?;
    stage.progress("the server ends while a step runs");
    site.end_server(signal)?;
    site.start()?;
    until("the container under test runs", RUN_LIMIT, || is_tested(&site))?;
    ensure_contains("the server's output", &site.output()?, "found a TaskRun of an earlier process")?;
    stage.progress("the server ends while the image is tested");
    site.end_server(signal)?;
    site.start()?;
    site.passed(&commit, RUN_LIMIT)?;
    ensure_once(&site)?;
    // A server that stops stores what was built. So no job claims the TaskRun, and it is an orphan later.
    if signal == Signal::Term { site.end_but("-job-1") } else { site.end() }
}

/// One TaskRun and one Pod under test, each at its first attempt.
fn ensure_once(site: &Site<'_>) -> anyhow::Result<()> {
    let made = site.names(["taskruns", "pods"])?;
    let count = |ending: &str| made.iter().filter(|name| name.ends_with(ending)).count();
    let numbers = [count("-job-1"), count("-job-1-pod"), count("-container-1")];
    ensure!(numbers == [1, 1, 1] && made.len() == 3, "what ran: {made:?}");
    Ok(())
}

/// Whether the Pod with the image under test runs.
fn is_tested(site: &Site<'_>) -> anyhow::Result<bool> {
    let pods = site.objects("pods")?;
    Ok(pods.iter().any(|pod| {
        text(&pod["metadata"]["name"]).ends_with("-container-1") && text(&pod["status"]["phase"]) == "Running"
    }))
}

/// The API server is killed while a step runs: the job continues, and its end is found.
pub(super) fn api_server(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    slow_step(&site, 8)?;
    let commit = begin_slow_step(&site)?;
    stage.progress("the API server is killed");
    stage.world.cluster.kill_apiserver()?;
    until("the server notices", RUN_LIMIT, || Ok(site.output()?.contains("cannot watch the cluster")))?;
    stage.world.cluster.restart_apiserver()?;
    stage.progress("the API server answers again");
    site.passed(&commit, RUN_LIMIT)?;
    ensure_once(&site)?;
    site.end()
}
