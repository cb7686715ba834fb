//! One build: as a TaskRun of ours, in a sandbox of this host, and as a TaskRun by hand, in turn.

use anyhow::Context as _;
use serde_json::Value;

use super::{RUN_LIMIT, by_hand};
use crate::bench::report::{Goal, median};
use crate::demo::server::text;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::World;

/// Where the node keeps bases of our jobs; the builds by hand have a folder of this kind, too.
const NODE_CACHE: &str = "/var/cache/edgewright";
/// Rounds that count.
const ROUNDS: usize = 7;

pub(super) fn measure(world: &World) -> anyhow::Result<Vec<Goal>> {
    let stage = Stage::only(world, "overhead");
    let mut there = stage.site_named("there", |settings| {
        settings.text("cluster", "node_cache", NODE_CACHE);
    })?;
    let mut here = stage.site_named("here", |settings| settings.remove("cluster"))?;
    let (mut task_runs, mut sandboxes, mut by_hands) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let containerfile = format!("ARG BASE\nFROM ${{BASE}}\nRUN echo {round} >/round\n");
        let (at_cluster, run) = build(&mut there, round, &containerfile)?;
        let (at_host, _) = build(&mut here, round, &containerfile)?;
        if round == 0 {
            by_hand::push_base(world, &there, &base_of(&run)?)?;
        }
        let by_hand = by_hand::build(world, &there, round, &containerfile)?;
        stage.progress(&format!(
            "round {round}: TaskRun {at_cluster:.1} s, sandbox {at_host:.1} s, TaskRun by hand {by_hand:.1} s"
        ));
        // The first one pulls images and makes storages.
        if round > 0 {
            task_runs.push(at_cluster);
            sandboxes.push(at_host);
            by_hands.push(by_hand);
        }
    }
    let (task_run, sandbox, by_hand) = (median(&task_runs), median(&sandboxes), median(&by_hands));
    stage.progress(&format!(
        "TaskRun {task_run:.2} s, sandbox {sandbox:.2} s, TaskRun by hand {by_hand:.2} s"
    ));
    Ok(vec![
        Goal { name: "cluster.task_run_overhead_s", value: task_run - sandbox, bound: 8.0 },
        Goal { name: "cluster.rival_build_ratio", value: task_run / by_hand, bound: 1.0 },
    ])
}

/// Builds a changed image. The seconds of its job, and the run.
fn build(site: &mut Site<'_>, round: usize, containerfile: &str) -> anyhow::Result<(f64, Value)> {
    let image = "from: base\nsteps:\n  - containerfile: service/Containerfile\ntest: none\n";
    site.write("images/app/image.yaml", image)?;
    site.write("images/app/service/Containerfile", containerfile)?;
    let commit = site.commit(&format!("round {round}"))?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    let duration = node(&run, "app")?["duration_ms"].as_f64();
    Ok((duration.context("the node has no duration")? / 1000.0, run))
}

/// The digest of the base of a run.
fn base_of(run: &Value) -> anyhow::Result<String> {
    let digest = text(&node(run, "base")?["digest"]);
    anyhow::ensure!(!digest.is_empty(), "the node base has no digest: {run}");
    Ok(digest.to_owned())
}

fn node<'r>(run: &'r Value, name: &str) -> anyhow::Result<&'r Value> {
    let nodes = run["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = nodes.iter().find(|node| text(&node["node"]) == name);
    found.with_context(|| format!("the run has no node {name}"))
}
