//! `e2e lanes`: lanes that update a device, in runs of a server: what is released is upgraded to the
//! candidate, the candidate comes back from a successor that fails, and goes back to what was released.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::Test;
use super::device::Device;
use super::machine::Machine;
use super::world::World;
use crate::demo::server::text;
use crate::demo::story::{Story, say};
use crate::test::shown;

/// The role's lanes and the check that runs in them.
const TESTED: &str = "checks:\n  - {id: agent, unit: edgewright-agent.service}\n  \
                      - {id: version, file: {path: /usr/lib/e2e/version}}\n\
                      test: {lanes: [upgrade, rollback, downgrade]}";
/// A run with an installation and nine boots by firmware without a processor's help: 12 minutes on two cores
/// with nothing else to do.
const LANES_LIMIT: Duration = Duration::from_mins(60);

/// Runs the test.
pub(crate) fn lanes() -> anyhow::Result<()> {
    let mut story = Story::new();
    println!("Lanes that update a device. All files are below target/e2e; Ctrl-C ends it at any time.");
    story.step("Programs, the edgewright command, the agent");
    let world = World::prepare()?;
    if !Machine::is_possible(&world) {
        println!("SKIPPED: e2e lanes: needs UEFI firmware for virtual machines in {}", world.tools.display());
        return Ok(());
    }
    let began = Instant::now();
    let mut test = Test { story, device: Device::new(&world), world: &world };
    test.bootstraps()?;
    test.story.step("Version 1: nothing is released yet, so only `rollback` has something to do");
    let first = world.tested_version(1, TESTED)?;
    test.device.build(&first, LANES_LIMIT, &test.story)?;
    let lanes = test.device.lanes()?;
    ensure_lane(&lanes, "rollback", None)?;
    for lane in ["upgrade", "downgrade"] {
        ensure_lane(&lanes, lane, Some("nothing is released yet"))?;
    }
    test.story.step("Version 2: from version 1, back to it, and back from a successor that fails");
    let second = world.tested_version(2, TESTED)?;
    test.device.build(&second, LANES_LIMIT, &test.story)?;
    let lanes = test.device.lanes()?;
    for lane in ["upgrade", "rollback", "downgrade"] {
        ensure_lane(&lanes, lane, None)?;
    }
    test.story.step("Done");
    println!("e2e: the lanes took {}", shown(began.elapsed()));
    Ok(())
}

/// A lane passed: with all of its checks, or with all of them skipped for this reason.
fn ensure_lane(lanes: &Value, name: &str, skipped: Option<&str>) -> anyhow::Result<()> {
    let mut found = lanes.as_array().into_iter().flatten().filter(|lane| lane["lane"] == name);
    let lane = found.next().with_context(|| format!("there is no verdict of the lane `{name}`"))?;
    ensure!(lane["result"]["result"] == "passed", "the lane `{name}` should pass: {}", lane["result"]);
    for check in lane["checks"].as_array().into_iter().flatten() {
        let reason = text(&check["outcome"]["reason"]);
        let is_expected = skipped.map_or(check["outcome"]["outcome"] == "passed", |why| reason.contains(why));
        ensure!(is_expected, "unexpected check in the lane `{name}`: {check}");
    }
    say(&format!("{name}: passed{}", skipped.map(|why| format!(" ({why})")).unwrap_or_default()));
    Ok(())
}
