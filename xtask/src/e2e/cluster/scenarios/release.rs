//! Commits that become releases, or do not.

use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use crate::demo::server::text;
use crate::e2e::cluster::stage::Stage;

/// How long a run may take on a machine with much else to do.
pub(super) const RUN_LIMIT: Duration = Duration::from_mins(6);

/// A commit becomes a release by a TaskRun and a Pod; a second one repeats nothing; a failing check makes
/// none.
pub(super) fn release(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = stage.site(|_| {})?;
    let commit = site.commit("version 1")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    ensure!(run["release"].is_u64(), "a run that passed has a release: {run}");
    let (task_runs, pods) = (site.names("taskruns")?, site.names("pods")?);
    ensure!(
        task_runs.len() == 1 && task_runs[0].ends_with("-job-1"),
        "one TaskRun for the steps: {task_runs:?}"
    );
    ensure!(pods.iter().filter(|name| name.ends_with("-container-1")).count() == 1, "one Pod: {pods:?}");
    let app = node(&run, "app")?;
    ensure!(app["verdicts"].as_array().is_some_and(|all| all.len() == 2), "two lanes: {app}");
    site.end()
}

/// A node of a run.
pub(super) fn node<'r>(run: &'r Value, name: &str) -> anyhow::Result<&'r Value> {
    let nodes = run["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = nodes.iter().find(|node| text(&node["node"]) == name);
    found.ok_or_else(|| anyhow::anyhow!("the run has no node {name}: {run}"))
}
