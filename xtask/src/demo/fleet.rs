//! The demo's fleet: ten devices, which are skopeo, and a release that fails on them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::server::text;
use super::story::say;
use super::{Demo, RUN_LIMIT, ensure_state};
use crate::command::Run;

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

/// A device.
struct Device {
    /// `ID:CREDENTIAL`.
    credentials: String,
    /// Its last answer.
    manifest: PathBuf,
}

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
        let devices: Vec<Device> =
            (1..=DEVICES).map(|number| self.enrol(number)).collect::<Result<_, _>>()?;
        let old = self.digest(&devices[0])?;
        for device in &devices {
            ensure!(self.digest(device)? == old, "all devices should have the image {old}");
            self.report(device, "healthy", &old)?;
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
            self.report(device, "failed", new)?;
        }
        self.wait_for_the_stop()?;
        let with_new = self.offered(&devices, &old)?;
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

    /// Enrols the device of a slot, as the operator, whose token only the server's user may read.
    fn enrol(&self, number: usize) -> anyhow::Result<Device> {
        let slot = format!("plant-c/cell-{number}");
        let command = Run::as_root(&self.place.program)?
            .args(["device", "enrol", &slot, "--json", "--server", &self.server.url(), "--token-file"])
            .arg(self.place.data.join("operator-token"))
            .arg("--out")
            .arg(self.place.root.join(format!("devices/cell-{number}")));
        let identity: Value = serde_json::from_str(&command.output()?)?;
        let (id, credential) = (text(&identity["device"]), text(&identity["credential"]));
        ensure!(!id.is_empty() && !credential.is_empty(), "no identity: {identity}");
        let manifest = self.place.root.join(format!("cell-{number}.manifest"));
        Ok(Device { credentials: format!("{id}:{credential}"), manifest })
    }

    /// A request of a device for a manifest.
    fn ask(&self, device: &Device, name: &str) -> Run {
        let reference = format!("docker://{}/device/{name}", self.server.address);
        let words = ["inspect", "--raw", "--tls-verify=false", "--creds", &device.credentials, &reference];
        Run::new("skopeo").args(words)
    }

    /// What a device is answered with now.
    fn digest(&self, device: &Device) -> anyhow::Result<String> {
        std::fs::write(&device.manifest, self.ask(device, "self:current").output()?)?;
        Ok(Run::new("skopeo").arg("manifest-digest").arg(&device.manifest).output()?.trim().to_owned())
    }

    fn report(&self, device: &Device, what: &str, digest: &str) -> anyhow::Result<()> {
        self.ask(device, &format!("self/{what}@{digest}")).output().map(drop)
    }

    /// The devices that are answered with another image than this one, with its digest.
    fn offered<'d>(&self, devices: &'d [Device], old: &str) -> anyhow::Result<Vec<(&'d Device, String)>> {
        let answers: Vec<_> = devices
            .iter()
            .map(|device| anyhow::Ok((device, self.digest(device)?)))
            .collect::<Result<_, _>>()?;
        Ok(answers.into_iter().filter(|(_, digest)| digest != old).collect())
    }

    fn canaries<'d>(&self, devices: &'d [Device], old: &str) -> anyhow::Result<Vec<(&'d Device, String)>> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let canaries = self.offered(devices, old)?;
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
