//! A Pipeline of the platform builds a step.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::role_of_how_to;
use super::team::with_image;
use crate::demo::server::text;
use crate::e2e::cluster::scenarios::ended::{BEGUN, slow_step};
use crate::e2e::cluster::scenarios::release::RUN_LIMIT;
use crate::e2e::cluster::scenarios::view::{ensure_contains, node};
use crate::e2e::cluster::server::Signal;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;
use crate::workspace;

/// How long objects of the platform may stay after the last job.
const LEFT_LIMIT: Duration = Duration::from_mins(3);
/// What a build of the platform has: all of it ends with the PipelineRun.
const KINDS: [&str; 4] = ["pipelineruns", "taskruns", "pods", "secrets"];

/// What buildah prints when it tries again to push.
const RETRY: &str = "retrying in";

/// A Pipeline of the platform builds a step: order in, digest out.
pub(in crate::e2e::cluster::scenarios) fn platform_build(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = site(stage)?;
    let commit = site.commit("version 1")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    ensure!(run["release"].is_u64(), "a run that passed has a release: {run}");
    let log = site.log(&run, "app")?;
    ensure_contains("the log of the job", &log, "[PipelineRun ew-")?;
    let image = site.server()?.get("/api/v1/images/app")?;
    ensure_contains("the image", &image.to_string(), "platform-build@7")?;

    stage.progress("a Pipeline whose task fails");
    site.write("images/app/service/Containerfile", "ARG BASE\nFROM ${BASE}\nRUN false\n")?;
    let commit = site.commit("a step that fails")?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    let failure = node(&run, "app")?["failure"].to_string();
    ensure_contains("the failure", &failure, "the Pipeline `platform-build` did not build the image")?;
    ensure_contains("the failure", &failure, "\"image\"")?;
    nothing_left(&mut site)?;
    site.end()
}

/// The server is killed while the Pipeline runs, and again when it pushes: it is found both times.
pub(in crate::e2e::cluster::scenarios) fn platform_killed(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = site(stage)?;
    slow_step(&site, 15)?;
    let commit = site.commit("a slow step")?;
    until("the Pipeline builds", RUN_LIMIT, || Ok(build_log(&site)?.contains(BEGUN)))
        .with_context(|| site.situation())?;
    let begun = runs(&site)?;
    ensure!(begun.len() == 1, "one PipelineRun: {begun:?}");
    stage.progress("the server is killed while the Pipeline runs");
    site.end_server(Signal::Kill)?;
    site.start()?;
    until("the server follows the Pipeline again", RUN_LIMIT, || Ok(found_again(&site)? == 1))
        .with_context(|| site.situation())?;
    let run = &site.object(("pipelineruns", &begun[0].0))?;
    ensure!(!run["status"]["completionTime"].is_string(), "the Pipeline still runs: {run:#}");
    stage.progress("the server is killed until the Pipeline has missed its registry");
    site.end_server(Signal::Kill)?;
    until("the Pipeline pushes again", RUN_LIMIT, || Ok(build_log(&site)?.contains(RETRY)))?;
    site.start()?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    ensure!(run["release"].is_u64(), "a run that passed has a release: {run}");
    ensure!(found_again(&site)? == 2, "two servers found it: {}", site.output()?);
    ensure!(runs(&site)? == begun, "the PipelineRun is the one from before: {:?}, {begun:?}", runs(&site)?);
    let built = site.all_names("taskruns")?.into_iter().filter(|name| name.starts_with(&begun[0].0)).count();
    ensure!(built == 1, "its task ran once: {:?}", site.all_names("taskruns")?);
    nothing_left(&mut site)?;
    site.end()
}

/// A site whose steps a Pipeline of the how-to builds.
fn site<'s>(stage: &'s Stage<'s>) -> anyhow::Result<Site<'s>> {
    let site = stage.site(|settings| {
        settings.text("cluster", "build_pipeline", "platform-build");
        settings.text("cluster", "build_revision", "7");
    })?;
    let pipeline =
        std::fs::read_to_string(workspace::root().join("deploy/tekton/examples/platform-build.yaml"))?;
    let path = site.folder.join("platform-build.yaml");
    std::fs::write(&path, with_image(&pipeline, &stage.world.image))?;
    site.kubectl(&["apply", "--server-side", "--filename", &path.display().to_string()])?;
    let role = role_of_how_to("pipelineruns")?;
    site.apply("role.yaml", &role.replace("edgewright-jobs", &site.namespace))?;
    Ok(site)
}

/// The PipelineRuns: names and identities.
fn runs(site: &Site<'_>) -> anyhow::Result<Vec<(String, String)>> {
    let runs = site.world().api.list(&site.namespace, "pipelineruns", "")?;
    let of = |run: &Value| ["name", "uid"].map(|key| text(&run["metadata"][key]).to_owned());
    Ok(runs.iter().map(of).map(|[name, uid]| (name, uid)).collect())
}

/// What the only PipelineRun's task has printed so far.
fn build_log(site: &Site<'_>) -> anyhow::Result<String> {
    let Some((run, _)) = runs(site)?.into_iter().next() else { return Ok(String::new()) };
    let pods = site.world().api.names(&site.namespace, "pods", &format!("tekton.dev/pipelineRun={run}"))?;
    let Some(pod) = pods.first() else { return Ok(String::new()) };
    let log = format!("/api/v1/namespaces/{}/pods/{pod}/log?container=step-build", site.namespace);
    // Before the container runs, there is no log.
    Ok(site.world().api.get(&log).unwrap_or_default())
}

/// How many servers of the site have found a PipelineRun of an earlier one.
fn found_again(site: &Site<'_>) -> anyhow::Result<usize> {
    Ok(site.output()?.matches("found a build of an earlier process").count())
}

/// Waits until nothing of a build is left, also of what the platform made.
fn nothing_left(site: &mut Site<'_>) -> anyhow::Result<()> {
    site.settled()?;
    let mut left = Vec::new();
    let waited = until("nothing of the platform's builds is left", LEFT_LIMIT, || {
        left.clear();
        for kind in KINDS {
            left.extend(site.all_names(kind)?);
        }
        Ok(left.is_empty())
    });
    waited.with_context(|| left.join("\n"))
}
