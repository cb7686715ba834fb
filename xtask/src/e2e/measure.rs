//! What a device needs: memory and processor time of an agent with nothing to do, bytes of an update.

use std::time::Duration;

use anyhow::Context as _;

use super::disk::Disk;
use super::life::{Life, remove, shown_on_error};
use super::machine::Machine;
use super::world::Programs;
use super::{BOOT_LIMIT, prepare_with};

/// What a clock tick is on Linux, in seconds.
const TICK: f64 = 0.01;
/// Until the device has printed twice what its agent uses.
const IDLE_LIMIT: Duration = Duration::from_mins(15);

/// The figures of a device with the agent's release programs.
#[derive(Debug)]
pub(crate) struct DeviceFigures {
    /// Resident memory of an idle agent, in MiB.
    pub(crate) idle_mib: f64,
    /// Processor time of an idle agent that asks its registry every 10 s, in percent of a core.
    pub(crate) idle_cpu_percent: f64,
    /// Bytes of layers that an update received, per compressed byte of its changed layers.
    pub(crate) changed_layer_ratio: f64,
}

/// Installs version 1, lets it rest, and lets it take version 2. None where there is no firmware.
pub(crate) fn device_figures() -> anyhow::Result<Option<DeviceFigures>> {
    let Some((story, world)) = prepare_with(Programs::Released)? else { return Ok(None) };
    let mut life = Life::begin(story, &world)?;
    let disk = world.disk();
    let installed = life.install("raw", &disk)?;
    life.story.step("An idle agent");
    let mut machine = Machine::start(&world, &installed.accelerator, &[Disk::Kept(&disk)])?;
    let idle = rest(&life, &mut machine, &installed.digest);
    let (idle_mib, idle_cpu_percent) = shown_on_error(&machine, idle)?;
    life.story.step("One changed layer");
    let second = life.take_second(&mut machine);
    let second = shown_on_error(&machine, second)?;
    let changed = life.device.changed_bytes(&installed.digest, &second)?;
    let received = life.device.downloaded_bytes(&second)?;
    life.device.stop_server();
    drop(machine);
    remove(&[&disk])?;
    #[expect(clippy::cast_precision_loss, reason = "a few MB")]
    let changed_layer_ratio = received as f64 / changed as f64;
    Ok(Some(DeviceFigures { idle_mib, idle_cpu_percent, changed_layer_ratio }))
}

/// Memory, and processor time between two moments.
fn rest(life: &Life<'_>, machine: &mut Machine, digest: &str) -> anyhow::Result<(f64, f64)> {
    machine.wait("version 1 confirmed", BOOT_LIMIT, &life.story, |seen| seen.rests_on(digest, None))?;
    machine.wait("the agent is idle", IDLE_LIMIT, &life.story, |seen| seen.value("usage").is_some())?;
    let first = machine.seen().value("usage").unwrap_or_default().to_owned();
    let is_later = |usage: &str| usage != first;
    machine.wait("it still is", IDLE_LIMIT, &life.story, |seen| seen.value("usage").is_some_and(is_later))?;
    let second = machine.seen().value("usage").unwrap_or_default().to_owned();
    let [before, after] = [&first, &second].map(|usage| Usage::parse(usage));
    let (before, after) =
        before.zip(after).with_context(|| format!("unexpected usage: {first}; {second}"))?;
    let busy = (after.ticks - before.ticks) * TICK;
    Ok((after.rss_kib / 1024.0, 100.0 * busy / (after.uptime - before.uptime)))
}

/// What the device prints about its agent.
struct Usage {
    uptime: f64,
    rss_kib: f64,
    ticks: f64,
}

impl Usage {
    fn parse(text: &str) -> Option<Self> {
        let after = |name: &str| text.split_once(name)?.1.split_whitespace().next()?.parse().ok();
        Some(Self { uptime: after("uptime:")?, rss_kib: after("VmRSS:")?, ticks: after("ticks:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read() {
        let usage =
            Usage::parse("uptime: 81.20 VmRSS: 9808 kB RssAnon: 1 kB RssFile: 2 kB ticks: 45").unwrap();
        assert!((usage.uptime - 81.2).abs() < 1e-9 && (usage.ticks - 45.0).abs() < 1e-9);
        assert!((usage.rss_kib - 9808.0).abs() < 1e-9);
        assert!(Usage::parse("ticks: 1").is_none());
    }
}
