//! `bench cluster`: what a cluster costs.
//!
//! `overhead`: a job as a TaskRun and the same job in a sandbox of this host, in turn with a TaskRun by hand
//! that builds the same image; `tests`: eight images tested at once, and eight Pods with the same digests by
//! `kubectl`, which boot and look at one file; requests to the API server for each of these jobs, by its
//! audit log; `queue`: a run of 500 variants with eight jobs at once: how often a slot is free while variants
//! wait, and the memory of the server. Its first 200 jobs count, or those of five minutes.
//!
//! The server and the program in our image are optimised, as they are shipped: so is what they are compared
//! with.

mod by_hand;
mod overhead;
mod pods;
mod queue;

use std::time::Duration;

use anyhow::{bail, ensure};
use serde_json::Value;

use super::report::{self, Goal};
use crate::demo::server::text;
use crate::dist;
use crate::e2e::cluster::options::Options;
use crate::e2e::cluster::site::{ACCOUNT, Site};
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::World;

/// Images that are tested at once.
const AT_ONCE: usize = 8;
/// How long a run may take.
const RUN_LIMIT: Duration = Duration::from_mins(15);

/// A part: its name, and what it measures.
type Part = (&'static str, fn(&World) -> anyhow::Result<Vec<Goal>>);

const PARTS: [Part; 3] = [("overhead", overhead::measure), ("tests", at_once), ("queue", queue::measure)];

/// All parts.
pub(super) fn all() -> anyhow::Result<()> {
    run(&[])
}

/// Some parts; without names, all. `--dev` compiles without optimisation: to try a change of the bench.
pub(super) fn run(words: &[&str]) -> anyhow::Result<()> {
    let (options, names): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.starts_with('-'));
    let is_dev = match options[..] {
        [] => false,
        ["--dev"] => true,
        _ => bail!("unknown options of `bench cluster`: {}; the only one is --dev", options.join(" ")),
    };
    for name in &names {
        let known = PARTS.map(|(known, _)| known);
        ensure!(known.contains(name), "`bench cluster` has no part `{name}`; parts: {}", known.join(" "));
    }
    let compile = || dist::compile(is_dev);
    let world = World::start_with("bench-cluster", "cluster-bench", &Options::default(), compile)?;
    crate::e2e::cluster::ensure_base(&world)?;
    let mut goals = Vec::new();
    for (name, measure) in PARTS {
        if names.is_empty() || names.contains(&name) {
            goals.extend(measure(&world)?);
        }
    }
    report::write("cluster", &goals)
}

/// Eight tests at once: the ratio to Pods by hand, and requests for each job.
fn at_once(world: &World) -> anyhow::Result<Vec<Goal>> {
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
    Ok(vec![
        Goal { name: "cluster.eight_tests_ratio", value: took / by_hand, bound: 1.5 },
        Goal { name: "cluster.api_requests_per_job", value: requests, bound: 30.0 },
    ])
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
