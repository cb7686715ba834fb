//! A strategy of Shipwright builds a step, by its real controller: order in, digest out.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::ended::{BEGUN, slow_step};
use super::pipelines::{role_of_how_to, team::with_image};
use super::release::RUN_LIMIT;
use super::view::{ensure_contains, node};
use crate::demo::server::text;
use crate::e2e::cluster::server::Signal;
use crate::e2e::cluster::shipwright::Shipwright;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;
use crate::workspace;

/// The strategy.
const STRATEGY: &str = "deploy/examples/build-strategy.yaml";
/// The plain Containerfile of the source.
const CONTAINERFILE: &str = "images/app/service/Containerfile";

/// Builds, fails, cancels, and finds a build again.
pub(super) fn shipwright(stage: &Stage<'_>) -> anyhow::Result<()> {
    let log = stage.world.place.root.join("shipwright.log");
    let _controller = Shipwright::start(&stage.world.cluster, &log)?;
    let mut site = stage.site(|settings| {
        settings.text("cluster", "build_strategy", "platform-build");
        settings.text("cluster", "build_revision", "7");
    })?;
    let role = role_of_how_to("builds")?;
    site.apply("role.yaml", &role.replace("edgewright-jobs", &site.namespace))?;
    let commit = site.commit("version 1")?;
    no_strategy(&mut site, &commit)?;
    let strategy = std::fs::read_to_string(workspace::root().join(STRATEGY))?;
    site.apply("strategy.yaml", &with_image(&strategy, &stage.world.image))?;
    let played = play(stage, &mut site);
    played.with_context(|| std::fs::read_to_string(&log).map(|log| tail(&log)).unwrap_or_default())?;
    site.end()
}

/// The strategy is not there: that is no fault of the image.
fn no_strategy(site: &mut Site<'_>, commit: &str) -> anyhow::Result<()> {
    let run = site.ended(commit, RUN_LIMIT)?;
    let failure = node(&run, "app")?["failure"].to_string();
    ensure_contains("the failure", &failure, "\"infrastructure\"")?;
    ensure_contains("the failure", &failure, "the ClusterBuildStrategy `platform-build` did not build")
}

fn play(stage: &Stage<'_>, site: &mut Site<'_>) -> anyhow::Result<()> {
    stage.progress("a BuildRun, whose server is killed");
    let plain = std::fs::read_to_string(site.source().join(CONTAINERFILE))?;
    let earlier = builds(site)?;
    slow_step(site, 12)?;
    let commit = site.commit("a slow step")?;
    // After the pull of the base: the server is the registry.
    runs(site)?;
    site.end_server(Signal::Kill)?;
    site.start()?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    ensure!(run["release"].is_u64(), "a run that passed has a release: {run}");
    let log = site.log(&run, "app")?;
    ensure_contains("the log of the job", &log, "[BuildRun ew-")?;
    let made: Vec<String> = builds(site)?.into_iter().filter(|name| !earlier.contains(name)).collect();
    ensure!(made.len() == 1 && made[0].ends_with("-pipeline-1"), "one Build in all: {made:?}");
    let image = site.server()?.get("/api/v1/images/app")?;
    ensure_contains("the image", &image.to_string(), "shipwright/platform-build@7")?;

    stage.progress("a step that fails");
    site.write(CONTAINERFILE, "ARG BASE\nFROM ${BASE}\nRUN false\n")?;
    let commit = site.commit("a step that fails")?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    let failure = node(&run, "app")?["failure"].to_string();
    let wanted = "the ClusterBuildStrategy `platform-build` did not build the image";
    ensure_contains("the failure", &failure, wanted)?;
    ensure_contains("the failure", &failure, "\"image\"")?;

    stage.progress("a run that is cancelled");
    site.write(CONTAINERFILE, &plain)?;
    slow_step(site, 600)?;
    let commit = site.commit("a step that takes long")?;
    runs(site)?;
    let run = site.run_of(&commit)?.context("the run is there")?;
    site.server()?.ask("POST", &format!("/api/v1/runs/{}/cancel", run["number"]))?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    ensure!(text(&run["state"]) == "cancelled", "the run is cancelled: {run}");
    // What ended before the kill is not this server's: it would remove that after a quarter of an hour.
    let of_earlier = |name: &str| earlier.iter().any(|build| name.contains(build));
    until("no Build, BuildRun, TaskRun or Secret is left", Duration::from_mins(3), || {
        let kinds = "builds.shipwright.io,buildruns.shipwright.io,taskruns,secrets";
        Ok(names(site, kinds)?.iter().all(|name| of_earlier(name)))
    })
}

/// Waits until the slow step runs. Pods of earlier BuildRuns with such a step have ended.
fn runs(site: &Site<'_>) -> anyhow::Result<()> {
    until("the slow step of a BuildRun runs", RUN_LIMIT, || {
        let pods = ["get", "pods", "--field-selector=status.phase=Running", "--output", "name"];
        let pods = site.kubectl(&pods)?;
        let logs = |pod: &str| site.kubectl(&["logs", pod, "--container=step-build"]).unwrap_or_default();
        Ok(pods.lines().any(|pod| pod.contains("-pipeline-") && logs(pod).contains(BEGUN)))
    })
}

/// The names of all Builds.
fn builds(site: &Site<'_>) -> anyhow::Result<Vec<String>> {
    names(site, "builds.shipwright.io")
}

/// The names of all objects of some kinds: those that the platform makes have no label of a job.
fn names(site: &Site<'_>, kinds: &str) -> anyhow::Result<Vec<String>> {
    let names = site.kubectl(&["get", kinds, "--output", "jsonpath={.items[*].metadata.name}"])?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

/// Its last errors.
fn tail(log: &str) -> String {
    let errors = log.lines().filter(|line| line.contains("\"level\":\"error\"")).collect::<Vec<_>>();
    errors[errors.len().saturating_sub(5)..].join("\n")
}
