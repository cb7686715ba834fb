//! The demo's fleet: ten devices, which are skopeo, and a release that fails on them.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::puller::Puller;
use super::server::text;
use super::story::say;
use super::{Demo, RUN_LIMIT, ensure_state};

const DEVICES: usize = 10;
/// How many of them get a release first.
const CANARIES: usize = 3;
/// As many failures as stop a release among the first devices.
const FAILURES: usize = 2;
const SITE: &str = "sites/plant-c";
const CONFIGURATION: &str = "files/etc/plant/site.conf";
const POLICY: &str = "
channels:
  stable: {follows: default-branch, rollout: careful}
rollouts:
  careful:
    stages: [{name: canary, count: 3, soak: 1h}]
";
/// How long the server may take for what it does at once.
const LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(300);

impl Demo<'_> {
    /// Ends with a rollout that the gate stopped.
    pub(super) fn a_fleet(&mut self) -> anyhow::Result<()> {
        self.story
            .step("A commit declares ten devices at another site, and that releases reach them in stages");
        self.declare()?;
        let commit = self.source.commit("plant-c: ten gateways; rollouts in stages")?;
        say(POLICY);
        let run = self.server.wait_for_run(&commit, RUN_LIMIT, &self.story)?;
        ensure_state(&self.server, &run, "passed")?;

        self.story
            .step("The devices enrol; each asks for device/self:current, and reports that it is healthy");
        let enrol = |number| Puller::enrol(&self.server, &format!("plant-c/cell-{number}"));
        let devices: Vec<Puller> = (1..=DEVICES).map(enrol).collect::<Result<_, _>>()?;
        let old = devices[0].digest()?;
        for device in &devices {
            ensure!(device.digest()? == old, "all devices should have the image {old}");
            device.report("healthy", &old)?;
        }
        say(&self.server.cli(&["devices"]).answer()?);

        self.story.step("A release passes its tests; in the plant, two of its three canaries fail");
        let file = format!("{SITE}/{CONFIGURATION}");
        let commit =
            self.source.change(&file, "shift_change=07:00", "shift_change=06:45", "plant-c: shift")?;
        let run = self.server.wait_for_run(&commit, RUN_LIMIT, &self.story)?;
        ensure_state(&self.server, &run, "passed")?;
        let canaries = self.canaries(&devices, &old)?;
        for (device, new) in canaries.iter().take(FAILURES) {
            device.report("failed", new)?;
        }
        self.wait_for_the_stop()?;
        let with_new = offered(&devices, &old)?;
        ensure!(with_new.len() < canaries.len(), "devices that failed should have their image back");
        say(&self.server.cli(&["rollout", "show", "stable"]).answer()?);
        say("No further device is offered the release; those that failed are answered with what they had.");
        Ok(())
    }

    fn declare(&self) -> anyhow::Result<()> {
        let mut site = "id: s-c4d1\nlabels: {region: south}\nvars: {plc: 10.40.0.5}\nslots:\n".to_owned();
        for number in 1..=DEVICES {
            writeln!(site, "  - {{id: cell-{number}, image: gateway}}")?;
        }
        let write = |path: &str, text: &str| {
            let path = self.place.source.join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write(&format!("{SITE}/site.yaml"), &site)?;
        write(&format!("{SITE}/{CONFIGURATION}"), "shift_change=07:00\n")?;
        let root = std::fs::read_to_string(self.place.source.join("edgewright.yaml"))?;
        write("edgewright.yaml", &(root + POLICY))
    }

    fn canaries<'d>(&self, devices: &'d [Puller], old: &str) -> anyhow::Result<Vec<(&'d Puller, String)>> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let canaries = offered(devices, old)?;
            if canaries.len() == CANARIES {
                self.story.progress(&format!("{CANARIES} of {DEVICES} devices are offered the release"));
                return Ok(canaries);
            }
            if Instant::now() > deadline {
                bail!("{} devices are offered the release, not {CANARIES}", canaries.len());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn wait_for_the_stop(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let rollout: Value = self.server.json(&["rollout", "show", "stable"])?;
            if text(&rollout["state"]) == "stopped" {
                self.story.progress("the gate stopped the rollout");
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the gate should have stopped the rollout: {rollout}");
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// The devices that are answered with another image than this one, with its digest.
fn offered<'d>(devices: &'d [Puller], old: &str) -> anyhow::Result<Vec<(&'d Puller, String)>> {
    let answers: Vec<_> =
        devices.iter().map(|device| anyhow::Ok((device, device.digest()?))).collect::<Result<_, _>>()?;
    Ok(answers.into_iter().filter(|(_, digest)| digest != old).collect())
}
