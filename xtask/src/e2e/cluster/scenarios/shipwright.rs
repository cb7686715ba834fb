//! A strategy of Shipwright builds a step, by its real controller: order in, digest out.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::ended::{slow_step};
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
    slow_step(site, 12)?;
    let commit = site.commit("a slow step")?;
    until("the BuildRun runs", RUN_LIMIT, || {
        let pods = site.kubectl(&["get", "pods", "--output", "jsonpath={.items[*].status.phase}"])?;
        Ok(!builds(site)?.is_empty() && pods.contains("Running"))
    })?;
    site.end_server(Signal::Kill)?;
    site.start()?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    ensure!(run["release"].is_u64(), "a run that passed has a release: {run}");
    let log = site.log(&run, "app")?;
    ensure_contains("the log of the job", &log, "[BuildRun ew-")?;
    let made = builds(site)?;
    ensure!(made.len() == 1 && made[0].ends_with("-pipeline-1"), "one Build in all: {made:?}");
    let image = site.server()?.get("/api/v1/images/app")?;
    ensure_contains("the image", &image.to_string(), "shipwright/platform-build@7")?;

    stage.progress("a step that fails");
    site.write(CONTAINERFILE, "ARG BASE\nFROM ${BASE}\nRUN false\n")?;
    let commit = site.commit("a step that fails")?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    let failure = node(&run, "app")?["failure"].to_string();
    let wanted = "the ClusterBuildStrategy `platform-build` did not build the image: buildah failed";
    ensure_contains("the failure", &failure, wanted)?;
    ensure_contains("the failure", &failure, "\"image\"")?;

    stage.progress("a run that is cancelled");
    site.write(CONTAINERFILE, &plain)?;
    slow_step(site, 600)?;
    let commit = site.commit("a step that takes long")?;
    until("the last BuildRun runs", RUN_LIMIT, || {
        let run = site.run_of(&commit)?.unwrap_or_default();
        Ok(site.log(&run, "app").is_ok_and(|log| log.contains("[BuildRun ew-"))
            && site.kubectl(&["get", "pods", "--output", "jsonpath={.items[*].status.phase}"])?.contains("Running"))
    })?;
    let run = site.run_of(&commit)?.context("the run is there")?;
    site.server()?.ask("POST", &format!("/api/v1/runs/{}/cancel", run["number"]))?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    ensure!(text(&run["state"]) == "cancelled", "the run is cancelled: {run}");
    until("no Build, BuildRun, TaskRun or Secret is left", Duration::from_mins(3), || {
        let kinds = "builds.shipwright.io,buildruns.shipwright.io,taskruns,secrets";
        Ok(site.kubectl(&["get", kinds, "--output", "name"])?.trim().is_empty())
    })
}

/// The names of all Builds.
fn builds(site: &Site<'_>) -> anyhow::Result<Vec<String>> {
    let names = site.kubectl(&["get", "builds.shipwright.io", "--output", "name"])?;
    Ok(names.lines().map(str::to_owned).collect())
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
