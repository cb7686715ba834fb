//! A run with far more variants than the cluster runs at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::pods::state;
use super::{AT_ONCE, variants};
use crate::bench::report::Goal;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::World;

/// Variants of the run.
const VARIANTS: usize = 500;
/// How many of them are looked at.
const ENOUGH: usize = 200;
/// How long is looked at the most, and waited for the first one.
const WINDOW: Duration = Duration::from_mins(5);
const PAUSE: Duration = Duration::from_millis(500);

pub(super) fn measure(world: &World) -> anyhow::Result<Vec<Goal>> {
    let stage = Stage::only(world, "queue");
    let site = stage.site(|settings| {
        settings.set("cluster", "parallel", AT_ONCE);
    })?;
    site.remove("images/app")?;
    variants(&site, VARIANTS, 0)?;
    let commit = site.commit("a queue")?;
    let (mut looks, mut idle, mut ended) = (0_u32, 0_u32, 0);
    let mut began = None;
    let waiting_since = Instant::now();
    while began.is_none_or(|began: Instant| began.elapsed() < WINDOW) && ended < ENOUGH {
        std::thread::sleep(PAUSE);
        ensure!(began.is_some() || waiting_since.elapsed() < WINDOW, "no variant of the queue runs");
        let Some(run) = site.run_of(&commit)? else { continue };
        let nodes = run["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let count = |wanted: &str| nodes.iter().filter(|node| state(node) == wanted).count();
        let (running, waiting) = (count("running"), count("waiting"));
        ended = count("passed");
        if count("failed") > 0 {
            bail!("a variant of the queue failed: {}", failed(nodes));
        }
        // It begins with the first eight.
        if began.is_none() && running == AT_ONCE {
            began = Some(Instant::now());
        }
        if began.is_some() && waiting > 0 {
            looks += 1;
            idle += u32::from(running < AT_ONCE);
        }
    }
    let server_mib = peak_mib(site.server()?.process())?;
    let run = site.run_of(&commit)?.context("the run is gone")?;
    site.server()?.ask("POST", &format!("/api/v1/runs/{}/cancel", run["number"]))?;
    stage.progress(&format!("{ended} of {VARIANTS} ended; {idle} of {looks} looks saw a free slot"));
    ensure!(looks > 0, "the queue was over before it was looked at");
    Ok(vec![
        // The share of looks at which a slot was free while variants waited.
        Goal { name: "cluster.idle_share", value: f64::from(idle) / f64::from(looks), bound: 0.02 },
        // The most memory that the server had: what a small Pod has.
        Goal { name: "cluster.server_500_open_mib", value: server_mib, bound: 256.0 },
    ])
}

fn failed(nodes: &[Value]) -> String {
    nodes.iter().find(|node| state(node) == "failed").map(ToString::to_string).unwrap_or_default()
}

/// The most memory that a process had.
fn peak_mib(process: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.context("the process has no VmHWM")? / 1024.0)
}
