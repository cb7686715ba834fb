//! `e2e lanes`: lanes that update a device, in runs of a server.
//!
//! ```text
//!  version 1         nothing is released: `rollback` returns from a bad successor, the others are skipped
//!  1, another check  `rollback` again, with the disk of the first run
//!  version 2         `upgrade` from 1, `downgrade` to 1, `switch` from another role
//!  2, another check  the server is killed during `rollback`; the next one runs it again
//!  version 7         the channel `late` has version 1 and skips 2: that step is tested before it moves
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::cluster::world::until;
use super::life::Life;
use super::prepare;
use crate::demo::server::text;
use crate::demo::story::say;
use crate::test::shown;

/// The checks of the role.
const CHECKS: [&str; 3] = [
    "  - {id: agent, unit: edgewright-agent.service}\n",
    "  - {id: version, file: {path: /usr/lib/e2e/version}}\n",
    "  - {id: console, file: {path: /usr/lib/e2e/console}}\n",
];
/// A run with two installations and six boots by firmware without a processor's help: 12 minutes on two cores
/// with nothing else to do.
const LANES_LIMIT: Duration = Duration::from_mins(90);
/// The lanes that need a release.
const RELEASED: [&str; 3] = ["upgrade", "downgrade", "switch"];

/// How long lanes took whose disk was installed before, in seconds.
#[derive(Debug)]
pub(crate) struct LaneTimes {
    pub(crate) upgrade: f64,
    pub(crate) rollback: f64,
}

/// Runs the test.
pub(crate) fn lanes() -> anyhow::Result<()> {
    println!("Lanes that update a device. All files are below target/e2e; Ctrl-C ends it at any time.");
    let Some((story, world)) = prepare()? else { return Ok(()) };
    let began = Instant::now();
    let mut test = Life::begin(story, &world)?;
    let times = test.update_lanes(&RELEASED)?;
    test.survive_a_kill()?;
    test.step_over()?;
    test.story.step("Done");
    println!(
        "e2e: the lanes took {}; with an installed disk, `upgrade` {:.0} s and `rollback` {:.0} s",
        shown(began.elapsed()),
        times.upgrade,
        times.rollback
    );
    Ok(())
}

/// How long `upgrade` and `rollback` take; none where there is no firmware.
pub(crate) fn lane_times() -> anyhow::Result<Option<LaneTimes>> {
    let Some((story, world)) = prepare()? else { return Ok(None) };
    let mut test = Life::begin(story, &world)?;
    test.update_lanes(&RELEASED[..1]).map(Some)
}

impl Life<'_> {
    /// The lanes of three runs; `released` are those that need a release.
    fn update_lanes(&mut self, released: &[&str]) -> anyhow::Result<LaneTimes> {
        let all = [&["rollback"], released].concat();
        self.story.step("Version 1: nothing is released yet, so only `rollback` has something to do");
        let lanes = self.lanes_of(1, &CHECKS[..1], &all)?;
        ensure_lane(&lanes, "rollback", None)?;
        for lane in released {
            ensure_lane(&lanes, lane, Some("released yet"))?;
        }
        self.device.order(&["channel", "hold", "late", "--reason", "skips version 2"])?;
        self.story.step("Version 1 with one more check: `rollback` again, with the disk of the first run");
        let lanes = self.lanes_of(1, &CHECKS[..2], &["rollback"])?;
        let rollback = ensure_lane(&lanes, "rollback", None)?;
        self.story.step(&format!("Version 2: {}", released.join(", ")));
        let lanes = self.lanes_of(2, &CHECKS[..2], released)?;
        let times: Vec<f64> =
            released.iter().map(|lane| ensure_lane(&lanes, lane, None)).collect::<Result<_, _>>()?;
        let upgrade = times.first().copied().context("no lane needs a release")?;
        self.device.stop_server();
        Ok(LaneTimes { upgrade, rollback })
    }

    /// The server ends in the middle of a lane. Nothing stays, and the next server runs the lane to its end.
    fn survive_a_kill(&mut self) -> anyhow::Result<()> {
        self.story.step("Version 2 with one more check: the server is killed while `rollback` runs");
        let commit = self.commit(2, &CHECKS, &["rollback"])?;
        self.kill_server_during(&commit)?;
        self.device.build(&commit, LANES_LIMIT, &self.story)?;
        ensure_lane(&self.device.lanes()?, "rollback", None)?;
        self.device.stop_server();
        Ok(())
    }

    /// A channel that skips a version waits until that step is tested.
    fn step_over(&mut self) -> anyhow::Result<()> {
        self.story.step("Version 7: the channel `late` skips version 2, and moves when that step is tested");
        let lanes = self.lanes_of(7, &CHECKS, &["upgrade"])?;
        ensure_lane(&lanes, "upgrade", None)?;
        self.device.order(&["channel", "resume", "late"])?;
        let mut waited = String::new();
        until("the channel `late` moves", LANES_LIMIT, || {
            let channels = self.device.server()?.json(&["channels"])?;
            let of = |name| {
                let mut all = channels["channels"].as_array().into_iter().flatten();
                all.find(|channel| channel["name"] == name).with_context(|| format!("no channel {name}"))
            };
            let (late, stable) = (of("late")?, of("stable")?);
            let waits = text(&late["awaited_test"]);
            if !waits.is_empty() && waits != waited {
                say(waits);
                waits.clone_into(&mut waited);
            }
            Ok(late["release"] == stable["release"])
        })?;
        ensure!(waited.contains("which tests the update"), "the channel moved without a test: {waited}");
        say(&self.device.order(&["channels"])?);
        let runs = self.device.server()?.json(&["runs"])?;
        let mut tests =
            runs["runs"].as_array().into_iter().flatten().filter(|run| run["trigger"] == "update");
        let run = tests.next().context("no run tested the update")?;
        ensure!(run["state"] == "passed" && tests.next().is_none(), "one run should test it: {runs}");
        self.device.stop_server();
        Ok(())
    }

    /// Builds a version with these checks and lanes. Gives its verdicts.
    fn lanes_of(&mut self, version: u32, checks: &[&str], lanes: &[&str]) -> anyhow::Result<Value> {
        let commit = self.commit(version, checks, lanes)?;
        self.device.build(&commit, LANES_LIMIT, &self.story)?;
        self.device.lanes()
    }

    fn commit(&self, version: u32, checks: &[&str], lanes: &[&str]) -> anyhow::Result<String> {
        let switch = if lanes.contains(&"switch") { ", switch: {from: other}" } else { "" };
        let (checks, lanes) = (checks.concat(), lanes.join(", "));
        let test = format!("checks:\n{checks}test: {{lanes: [{lanes}]{switch}}}");
        self.world.tested_version(version, &test)
    }
}

/// A lane passed: with all of its checks, or with all of them skipped for this reason. Gives its seconds.
fn ensure_lane(lanes: &Value, name: &str, skipped: Option<&str>) -> anyhow::Result<f64> {
    let mut found = lanes.as_array().into_iter().flatten().filter(|lane| lane["lane"] == name);
    let lane = found.next().with_context(|| format!("there is no verdict of the lane `{name}`"))?;
    ensure!(lane["result"]["result"] == "passed", "the lane `{name}` should pass: {}", lane["result"]);
    for check in lane["checks"].as_array().into_iter().flatten() {
        let reason = text(&check["outcome"]["reason"]);
        let is_expected = skipped.map_or(check["outcome"]["outcome"] == "passed", |why| reason.contains(why));
        ensure!(is_expected, "unexpected check in the lane `{name}`: {check}");
    }
    let seconds = lane["duration_ms"].as_f64().context("the verdict has no duration")? / 1000.0;
    say(&format!(
        "{name}: passed in {seconds:.0} s{}",
        skipped.map(|why| format!(" ({why})")).unwrap_or_default()
    ));
    Ok(seconds)
}
