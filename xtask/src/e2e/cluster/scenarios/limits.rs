//! What a cluster does not give: an image, quota, access.

use std::time::Duration;

use anyhow::ensure;

use super::ended::{begin_slow_step, slow_step};
use super::release::{RUN_LIMIT, files_only};
use super::view::ensure_contains;
use crate::cluster::HOST_NAME;
use crate::demo::server::text;
use crate::e2e::cluster::site::ACCOUNT;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;

/// A digest that no registry has.
const UNKNOWN: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
/// What a run begins with: a Pod of our image that prints the versions of its programs.
const TOOLS: &str = "tools";
const QUOTA: &str = "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: full, namespace: NAMESPACE}\nspec: {hard: {pods: \"0\"}}\n";

/// Nodes cannot pull the image under test at first: the job waits, and then continues.
pub(super) fn late_image(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    let registry = format!("{}.edgewright.internal", stage.name);
    // The port of no service.
    stage.world.cluster.pull_from(&registry, &format!("http://{HOST_NAME}:9"))?;
    files_only(&site)?;
    let commit = site.commit("an image that cannot be pulled yet")?;
    until("the image cannot be pulled", RUN_LIMIT, || {
        let pods = site.objects("pods")?;
        let statuses = pods.iter().filter_map(|pod| pod["status"]["containerStatuses"].as_array()).flatten();
        let reasons: Vec<&str> = statuses.map(|status| text(&status["state"]["waiting"]["reason"])).collect();
        Ok(reasons.iter().any(|reason| reason.contains("Image")))
    })?;
    stage.progress("the registry is reachable");
    let (_, port) =
        site.url().rsplit_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap_or_default();
    stage.world.cluster.pull_from(&registry, &format!("http://{HOST_NAME}:{port}"))?;
    site.passed(&commit, RUN_LIMIT)?;
    site.end()
}

/// Our own image cannot be pulled: the operator sees which, and why.
pub(super) fn no_image(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|settings| {
        settings.text("cluster", "image", &format!("tools.edgewright.internal/edgewright@{UNKNOWN}"));
    })?;
    let commit = site.commit("a server with a wrong image")?;
    site.wait_for_log(&commit, (TOOLS, "[waits for its image: "), RUN_LIMIT)?;
    let run = site.run_of(&commit)?.ok_or_else(|| anyhow::anyhow!("the run is gone"))?;
    ensure_contains("the log", &site.log(&run, TOOLS)?, UNKNOWN)?;
    site.server()?.ask("POST", &format!("/api/v1/runs/{}/cancel", run["number"]))?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    ensure!(text(&run["state"]) == "cancelled", "the run is cancelled: {run}");
    site.end()
}

/// The namespace's quota is full: the job waits, the log has the reason, and it continues when there is room.
pub(super) fn quota(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    site.apply("quota.yaml", &QUOTA.replace("NAMESPACE", &site.namespace))?;
    until("the quota is in force", RUN_LIMIT, || {
        Ok(site.object(("resourcequotas", "full"))?["status"]["hard"]["pods"] == "0")
    })?;
    let commit = site.commit("a commit for a full namespace")?;
    site.wait_for_log(&commit, (TOOLS, "[waits for quota: "), RUN_LIMIT)?;
    stage.progress("there is room");
    site.kubectl(&["delete", "resourcequota", "full"])?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    ensure_contains("the log", &site.log(&run, TOOLS)?, "exceeded quota: full")?;
    site.end()
}

/// The server's token ends while a job runs. After a new one is written, the job continues.
pub(super) fn token(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    site.end_server(crate::e2e::cluster::server::Signal::Term)?;
    // A token lives for ten minutes at least; one that is bound to an object ends with it.
    site.kubectl(&["create", "secret", "generic", "lease"])?;
    let bound = ["create", "token", ACCOUNT, "--bound-object-kind=Secret", "--bound-object-name=lease"];
    std::fs::write(site.token(), site.kubectl(&bound)?.trim())?;
    site.start()?;
    slow_step(&site, 12)?;
    let commit = begin_slow_step(&site)?;
    stage.progress("the token ends");
    site.kubectl(&["delete", "secret", "lease"])?;
    // The API server believes a token for some seconds.
    until("the API server refuses the token", Duration::from_mins(2), || Ok(!site.has_access()))?;
    site.wait_for_log(&commit, ("app", "does not accept the credentials"), RUN_LIMIT)?;
    stage.progress("a new token is written");
    site.write_token()?;
    // It only waits: the file is read each minute.
    stage.rest();
    let run = site.passed(&commit, RUN_LIMIT)?;
    ensure!(run["release"].is_u64(), "a release: {run}");
    site.end()
}
