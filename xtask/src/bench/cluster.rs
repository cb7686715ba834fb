//! `bench cluster`: what a cluster costs.
//!
//! (a) A job as a TaskRun and the same job in a sandbox of this host, interleaved; (b) eight images tested at
//! once, and eight Pods with the same digests by `kubectl`, which boot and look at one file; (c) requests to
//! the API server for each job of (b), by its audit log; (d) a run of 500 variants with eight jobs at once:
//! how often a slot is free while variants wait, and the memory of the server. Its first 200 jobs count, or
//! those of five minutes.
//!
//! The server is compiled without optimisation, so that what is ours in the numbers is an upper bound.

mod pods;
mod queue;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::report::{self, Goal, median};
use crate::demo::server::text;
use crate::e2e::cluster::options::Options;
use crate::e2e::cluster::site::{ACCOUNT, Site};
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::World;

/// Interleaved rounds of (a).
const ROUNDS: usize = 5;
/// Images that are tested at once.
const AT_ONCE: usize = 8;
/// How long a run may take.
const RUN_LIMIT: Duration = Duration::from_mins(15);

pub(super) fn run() -> anyhow::Result<()> {
    let world = World::start("bench-cluster", "cluster-bench", &Options::default())?;
    crate::e2e::cluster::ensure_base(&world)?;
    let overhead = overhead(&world)?;
    let (ratio, requests) = at_once(&world)?;
    let queue::Queue { idle_share, server_mib } = queue::measure(&world)?;
    report::write(
        "cluster",
        &[
            Goal { name: "cluster.task_run_overhead_s", value: overhead, bound: 8.0 },
            Goal { name: "cluster.eight_tests_ratio", value: ratio, bound: 1.5 },
            Goal { name: "cluster.api_requests_per_job", value: requests, bound: 30.0 },
            Goal { name: "cluster.idle_share", value: idle_share, bound: 0.02 },
            // What a small Pod of the server has.
            Goal { name: "cluster.server_500_open_mib", value: server_mib, bound: 256.0 },
        ],
    )
}

/// Seconds that a TaskRun takes longer than a sandbox of this host.
fn overhead(world: &World) -> anyhow::Result<f64> {
    let stage = Stage::only(world, "overhead");
    let mut there = stage.site_named("there", |_| {})?;
    let mut here = stage.site_named("here", |settings| settings.remove("cluster"))?;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (at_cluster, at_host) = (build(&mut there, round)?, build(&mut here, round)?);
        stage.progress(&format!("round {round}: TaskRun {at_cluster:.1} s, sandbox {at_host:.1} s"));
        // The first one pulls images and makes storages.
        if round > 0 {
            theirs.push(at_cluster);
            ours.push(at_host);
        }
    }
    Ok(median(&theirs) - median(&ours))
}

/// Builds a changed image. The seconds of its job.
fn build(site: &mut Site<'_>, round: usize) -> anyhow::Result<f64> {
    let image = "from: base\nsteps:\n  - containerfile: service/Containerfile\ntest: none\n";
    site.write("images/app/image.yaml", image)?;
    site.write(
        "images/app/service/Containerfile",
        &format!("ARG BASE\nFROM ${{BASE}}\nRUN echo {round} >/round\n"),
    )?;
    let commit = site.commit(&format!("round {round}"))?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    let nodes = run["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let app = nodes.iter().find(|node| text(&node["node"]) == "app").context("the run has no node app")?;
    Ok(app["duration_ms"].as_f64().context("the node has no duration")? / 1000.0)
}

/// Eight tests at once: the ratio to Pods by hand, and requests for each job.
fn at_once(world: &World) -> anyhow::Result<(f64, f64)> {
    let stage = Stage::only(world, "eight");
    let mut site = stage.site(|settings| {
        settings.set("cluster", "parallel", AT_ONCE);
    })?;
    site.remove("images/app")?;
    variants(&site, AT_ONCE, 0)?;
    // Nodes pull the base.
    let commit = site.commit("warm")?;
    site.passed(&commit, RUN_LIMIT)?;
    variants(&site, AT_ONCE, 1)?;
    let before = requests(&site)?;
    let commit = site.commit("eight")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    let took = seconds(&run)?;
    let digests: Vec<String> = digests(&run);
    ensure!(digests.len() == AT_ONCE, "{AT_ONCE} images were built: {run}");
    let by_hand = pods::by_hand(&site, &digests)?;
    stage.progress(&format!("eight tests in {took:.1} s, by hand in {by_hand:.1} s"));
    // Objects are removed after a minute: those requests count, too.
    site.settled()?;
    #[expect(clippy::cast_precision_loss, reason = "some hundred requests")]
    let requests = requests(&site)?.saturating_sub(before) as f64 / AT_ONCE as f64;
    Ok((took / by_hand, requests))
}

/// Images that differ in one file, each tested by its boot and that file.
fn variants(site: &Site<'_>, count: usize, version: u32) -> anyhow::Result<()> {
    let image = "from: base\nsteps:\n  - files: files\nchecks:\n  - {id: boots, systemd: running, timeout: 300s}\n  \
                 - {id: version, file: {path: /etc/plant/version, contains: \"version=\"}}\ntest: {lanes: [container]}\n";
    for number in 0..count {
        let folder = format!("images/app{number}");
        site.write(&format!("{folder}/image.yaml"), image)?;
        site.write(
            &format!("{folder}/files/etc/plant/version"),
            &format!("version={version} of {number}\n"),
        )?;
    }
    Ok(())
}

/// How long a run took, in seconds: its nodes know it to the millisecond.
fn seconds(run: &Value) -> anyhow::Result<f64> {
    let slowest =
        run["nodes"].as_array().into_iter().flatten().filter_map(|node| node["duration_ms"].as_f64());
    let slowest = slowest.fold(0.0, f64::max);
    ensure!(slowest > 0.0, "no node of the run has a duration: {run}");
    Ok(slowest / 1000.0)
}

fn digests(run: &Value) -> Vec<String> {
    let nodes = run["nodes"].as_array().into_iter().flatten();
    let built = nodes.filter(|node| text(&node["action"]) == "build");
    built.map(|node| format!("{}@{}", text(&node["variant"]), text(&node["digest"]))).collect()
}

/// Requests of the server's account so far.
fn requests(site: &Site<'_>) -> anyhow::Result<usize> {
    let account = format!("system:serviceaccount:{}:{ACCOUNT}", site.namespace);
    Ok(count(&site.audit_log()?, &account))
}

/// Requests of a user in an audit log: a watch has two events.
fn count(log: &str, user: &str) -> usize {
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ids = events.filter(|event| text(&event["user"]["username"]) == user);
    ids.map(|event| text(&event["auditID"]).to_owned()).collect::<std::collections::BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_user_are_counted_once_each() {
        let event =
            |id: &str, user: &str| format!("{{\"auditID\":\"{id}\",\"user\":{{\"username\":\"{user}\"}}}}\n");
        let log = event("1", "a") + &event("1", "a") + &event("2", "b") + &event("3", "a") + "cut off {";
        assert_eq!(count(&log, "a"), 2);
    }
}
