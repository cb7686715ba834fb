//! Machines that firmware starts, and devices that update themselves, on KubeVirt.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::machines::{VMIS, end, machines, with_machines};
use super::view::{ensure_contains, node};
use crate::demo::server::text;
use crate::e2e::cluster::base;
use crate::e2e::cluster::server::Signal;
use crate::e2e::cluster::site::Site;
use crate::e2e::cluster::stage::Stage;
use crate::e2e::cluster::world::until;

/// How long a run with an installation and three boots by firmware may take, emulated, on a machine with much
/// else to do.
const RUN_LIMIT: Duration = Duration::from_mins(40);
/// The roles: one that is a device, and one that firmware starts.
const DEVICE: &str = "device";
const FIRMWARE: &str = "firmware";
const UNTESTED: &str = "test: none";
const CHECKS: &str = "checks:
  - {id: agent, unit: edgewright-agent.service, timeout: 1m}
  - {id: version, file: {path: /usr/lib/e2e/version}, timeout: 10s}
";

/// Firmware, boot loader, the image's own initramfs and a disk; a check shows that it was so.
pub(super) fn firmware(stage: &Stage<'_>) -> anyhow::Result<()> {
    const ROLE: &str = "from: base
checks:
  - {id: boots, systemd: running, timeout: 30s}
  - {id: firmware, command: [test, -d, /sys/firmware/efi], timeout: 10s}
  - {id: disk, command: [grep, --quiet, \" / ext4 \", /proc/mounts], timeout: 10s}
test: {lanes: [vm], vm: {profile: uefi}}
";
    let mut site = site(stage)?;
    site.remove("images/device")?;
    site.write(&format!("images/{FIRMWARE}/image.yaml"), ROLE)?;
    let commit = site.commit("a machine that firmware starts")?;
    site.passed(&commit, RUN_LIMIT)?;
    ensure_passed(&site, FIRMWARE, &[("vm", "kubevirt-uefi")])?;
    end(site)
}

/// A device comes back from a bad successor; after its release, it updates to the next version, although the
/// server is killed meanwhile.
pub(super) fn device(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = site(stage)?;
    let commit = version(&site, 1, "upgrade, rollback")?;
    let run = site.passed(&commit, RUN_LIMIT)?;
    let lanes =
        ensure_passed(&site, DEVICE, &[("upgrade", "kubevirt-device"), ("rollback", "kubevirt-device")])?;
    let reason = lanes[0]["checks"][0]["outcome"]["reason"].to_string();
    ensure_contains("the reason of a skipped check", &reason, "released yet")?;
    let log = site.log(&run, DEVICE)?;
    ensure_contains("the log", &log, "was rolled back by the device")?;

    let commit = version(&site, 2, "upgrade")?;
    until("the device runs", RUN_LIMIT, || {
        let phases =
            ["get", VMIS, "--output", r"jsonpath={range .items[*]}{.metadata.name}={.status.phase} {end}"];
        let phases = machines(&site, &phases)?;
        Ok(phases.split(' ').any(|phase| phase.ends_with("-upgrade-1=Running")))
    })?;
    stage.progress("the server is killed");
    site.end_server(Signal::Kill)?;
    site.start()?;
    site.passed(&commit, RUN_LIMIT)?;
    ensure_passed(&site, DEVICE, &[("upgrade", "kubevirt-device")])?;
    let made = machines(&site, &["get", VMIS, "--output", "name"])?;
    ensure!(made.matches("-upgrade-").count() == 1 && made.contains("-upgrade-1"), "one machine: {made}");
    end(site)
}

/// A version with a unit that fails before the boot is complete: the device goes back, which is the image's
/// fault.
pub(super) fn broken(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut site = site(stage)?;
    let commit = version(&site, 1, "upgrade")?;
    site.passed(&commit, RUN_LIMIT)?;
    let commit = version(&site, 3, "upgrade")?;
    let run = site.ended(&commit, RUN_LIMIT)?;
    ensure!(text(&run["state"]) == "failed" && run["release"].is_null(), "no release: {run}");
    let verdict = &node(&run, DEVICE)?["verdicts"][0];
    ensure!(verdict["result"]["kind"] == "image", "it is the image's fault: {verdict}");
    let message = verdict["result"]["message"].to_string();
    ensure_contains("the failure", &message, "the device went back to the image before")?;
    end(site)
}

/// Commits a version of the device with these lanes.
fn version(site: &Site<'_>, version: u32, lanes: &str) -> anyhow::Result<String> {
    base::lay_version(site, version)?;
    let role = format!("from: base\nsteps:\n  - files: files\n{CHECKS}test: {{lanes: [{lanes}]}}\n");
    site.write("images/device/image.yaml", &role)?;
    site.commit(&format!("version {version}"))
}

/// The verdicts of an image: these lanes with these profiles, all of which passed.
fn ensure_passed(site: &Site<'_>, name: &str, lanes: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
    let image = site.server()?.get(&format!("/api/v1/images/{name}"))?;
    let verdicts = image["lanes"].as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for (lane, profile) in lanes {
        let verdict =
            verdicts.iter().find(|verdict| verdict["lane"] == *lane && verdict["is_current"] == true);
        let verdict =
            verdict.with_context(|| format!("there is no verdict of the lane `{lane}`: {image}"))?;
        ensure!(verdict["result"]["result"] == "passed", "the lane `{lane}` should pass: {verdict}");
        ensure!(verdict["profile"] == *profile, "the profile is {profile}: {verdict}");
        found.push(verdict.clone());
    }
    Ok(found)
}

/// A site with the images of devices, whose lanes are virtual machines.
fn site<'s>(stage: &'s Stage<'s>) -> anyhow::Result<Site<'s>> {
    let site = base::with_device(stage)?;
    site.replace("images/device/image.yaml", UNTESTED, "test: {lanes: [static]}")?;
    with_machines(site, &["jobs", "container", "vm", "devices"])
}
