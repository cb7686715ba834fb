//! The device as the server sees it: releases, the disk, reports.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::world::World;
use crate::command::Run;
use crate::demo::server::{Server, text};
use crate::demo::story::{Story, say};
use crate::workspace;

/// The host as a guest of QEMU's user network sees it.
const HOST: &str = "10.0.2.2";
const NAME: &str = "press-1";
/// How long a report may be on its way: after a boot without a network, the agent tries again in pauses
/// that grow.
const REPORT_LIMIT: Duration = Duration::from_mins(10);
/// How long the installation may take, as `timeout` reads it: 3 minutes on two cores with nothing else to do.
const INSTALL_LIMIT: &str = "40m";
const PAUSE: Duration = Duration::from_secs(1);

/// What `edgewright disk` prints about the disk.
pub(super) struct Installed {
    /// The platform manifest.
    pub(super) digest: String,
    /// What runs virtual machines here: it was tried.
    pub(super) accelerator: String,
}

/// The server, and the one device that it has.
#[derive(Debug)]
pub(super) struct Device<'a> {
    world: &'a World,
    server: Option<Server<'a>>,
}

impl<'a> Device<'a> {
    /// No server runs until there is a commit.
    pub(super) const fn new(world: &'a World) -> Self {
        Self { world, server: None }
    }

    /// Ends the server. The next call that needs one starts it again.
    pub(super) fn stop_server(&mut self) {
        self.server = None;
    }

    pub(super) fn server(&mut self) -> anyhow::Result<&mut Server<'a>> {
        if self.server.is_none() {
            let world = self.world;
            self.server = Some(Server::start(world.place.program.clone(), &world.place, &world.tools)?);
        }
        self.server.as_mut().context("the server does not run")
    }

    /// The number of the server's process, or of sudo's.
    pub(super) fn server_process(&mut self) -> anyhow::Result<u32> {
        Ok(self.server()?.process())
    }

    /// The command that starts the server again.
    pub(super) fn server_command(&mut self) -> anyhow::Result<String> {
        Ok(self.server()?.command_line())
    }

    /// Waits until the server ends.
    pub(super) fn wait(&mut self) -> anyhow::Result<()> {
        self.server()?.wait()
    }

    /// Commands that show what happened.
    pub(super) fn suggestions(&mut self) -> anyhow::Result<String> {
        let edgewright = workspace::shown(&self.world.place.program);
        let url = self.server()?.url();
        Ok(format!(
            "{edgewright} release list --server {url}\n\
             {edgewright} image show device --server {url}        # why built, from what\n\
             curl {url}/api/v1/devices/{NAME}/reports             # what the device reported"
        ))
    }

    /// Waits until the run of a commit has passed.
    pub(super) fn build(&mut self, commit: &str, limit: Duration, story: &Story) -> anyhow::Result<()> {
        let server = self.server()?;
        let run = server.wait_for_run(commit, limit, story)?;
        let state = text(&run["state"]);
        if state == "passed" {
            return Ok(());
        }
        // The data folder does not outlive the next test.
        let shown = server.cli(&["run", "show", &run["number"].to_string()]).output().unwrap_or_default();
        bail!("the run of {commit} should pass and is `{state}`:\n{shown}")
    }

    /// Waits until a commit is released. Gives the digest of the device's image.
    pub(super) fn release(&mut self, commit: &str, limit: Duration, story: &Story) -> anyhow::Result<String> {
        self.build(commit, limit, story)?;
        let images = self.server()?.json(&["images"])?;
        let images = images["images"].as_array().context("`edgewright images --json` has no `images`")?;
        let image = images.iter().find(|image| image["variant"] == "device");
        let digest = image.context("the release has no variant `device`")?["digest"].as_str();
        self.platform_manifest(digest.context("the image has no digest")?)
    }

    /// Gives an order to the server. Returns what it printed.
    pub(super) fn order(&mut self, words: &[&str]) -> anyhow::Result<String> {
        self.server()?.operator(words)?.output()
    }

    /// The verdicts on the released image.
    pub(super) fn lanes(&mut self) -> anyhow::Result<Value> {
        Ok(self.server()?.json(&["image", "show", "device"])?["lanes"].take())
    }

    /// The digest of the manifest of an index that a device of this platform runs.
    fn platform_manifest(&mut self, index: &str) -> anyhow::Result<String> {
        let document = self.manifest(index)?;
        let found = document["manifests"].as_array().into_iter().flatten();
        let mut found = found.filter(|manifest| manifest["platform"]["architecture"] == "amd64");
        Ok(found.next().and_then(|manifest| manifest["digest"].as_str()).unwrap_or(index).to_owned())
    }

    /// A manifest or index of the device's image.
    fn manifest(&mut self, digest: &str) -> anyhow::Result<Value> {
        let url = format!("{}/v2/e2e/device/manifests/{digest}", self.server()?.url());
        let accept =
            "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
        let answer =
            Run::new("curl").args(["--silent", "--show-error", "--fail", "-H", accept, &url]).output()?;
        serde_json::from_str(&answer).with_context(|| format!("the manifest {digest}"))
    }

    /// Compressed bytes of the layers that the second image has and the first has not.
    pub(super) fn changed_bytes(&mut self, first: &str, second: &str) -> anyhow::Result<u64> {
        let [first, second] = [self.manifest(first)?, self.manifest(second)?];
        let layers = |manifest: &Value| manifest["layers"].as_array().cloned().unwrap_or_default();
        let had: Vec<Value> = layers(&first).into_iter().map(|layer| layer["digest"].clone()).collect();
        let changed = layers(&second).into_iter().filter(|layer| !had.contains(&layer["digest"]));
        changed.map(|layer| layer["size"].as_u64().context("a layer has no size")).sum()
    }

    /// Bytes of layers that the device has received for an image.
    pub(super) fn downloaded_bytes(&mut self, digest: &str) -> anyhow::Result<u64> {
        let report = self.reported("staged", digest)?;
        report["downloaded_bytes"].as_u64().context("the report has no bytes")
    }

    /// Makes the disk, or the stick, of a device.
    pub(super) fn install(
        &mut self,
        format: &str,
        output: &Path,
        story: &Story,
    ) -> anyhow::Result<Installed> {
        let world = self.world;
        let url = self.server()?.address.replace("127.0.0.1", HOST);
        let config = world.place.root.join("agent.toml");
        std::fs::write(
            &config,
            format!(
                "image = \"{url}/e2e/device:stable\"\nregistry = \"http://{url}\"\ninterval = \"10s\"\njitter = \"0\"\n\
                 [report]\nurl = \"http://{url}\"\ntoken_file = \"report-token\"\ndevice = \"{NAME}\"\n"
            ),
        )?;
        let token = world.place.data.join("report-token");
        let image = format!("{url}/e2e/device:stable");
        let words = ["device", "--hostname", NAME, "--follow", &image];
        let files = [("report-token", token)];
        self.disk((format, output), story, |run| of_device(run.args(words), &config, &files))
    }

    /// Makes the disk of a device that was enrolled, with the files of its identity.
    pub(super) fn install_slot(
        &mut self,
        slot: &str,
        identity: &Path,
        output: &Path,
        story: &Story,
    ) -> anyhow::Result<Installed> {
        let local = self.server()?.address.clone();
        let url = local.replace("127.0.0.1", HOST);
        // The machine reaches the server by another address than we do.
        for name in ["agent.toml", "auth.json"] {
            let path = identity.join(name);
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
            let often = if name == "agent.toml" { "interval = \"10s\"\njitter = \"0\"\n" } else { "" };
            std::fs::write(&path, often.to_owned() + &text.replace(&local, &url))?;
        }
        let image = format!("{url}/device/self:current");
        let words = ["--slot", slot, "--follow", &image];
        let (config, auth) = (identity.join("agent.toml"), identity.join("auth.json"));
        let files = [("device-token", identity.join("device-token"))];
        self.disk(("raw", output), story, |run| {
            of_device(run.args(words).arg("--auth-file").arg(auth), &config, &files)
        })
    }

    /// Makes a disk; `with_device` adds what the device is.
    fn disk(
        &mut self,
        (format, output): (&str, &Path),
        story: &Story,
        with_device: impl FnOnce(Run) -> Run,
    ) -> anyhow::Result<Installed> {
        let world = self.world;
        let address = self.server()?.url();
        // Two tries: a power cut during the first boot of an image is no fault of it.
        // As the server: they share a folder, and its token is readable only for root.
        let run = Run::as_root("timeout")?
            .args(["--kill-after=1m", INSTALL_LIMIT])
            .arg(&world.place.program)
            .args(["disk", "--json", "--size", "4GiB", "--boot-tries", "2"])
            .args(["--server", &address, "--format", format, "--output"])
            .arg(output)
            .arg("--tools")
            .arg(&world.tools)
            .arg("--data")
            .arg(&world.place.data);
        let answer = with_device(run).output_with_progress(&mut |line| story.progress(&step(line)))?;
        let document: Value = serde_json::from_str(&answer).context("`edgewright disk --json`")?;
        let value = |key: &str| text(&document[key]).to_owned();
        Ok(Installed { digest: value("digest"), accelerator: value("accelerator") })
    }

    /// Waits for a report about a digest. Gives it.
    pub(super) fn reported(&mut self, kind: &str, digest: &str) -> anyhow::Result<Value> {
        let url = format!("{}/api/v1/devices/{NAME}/reports?limit=100", self.server()?.url());
        let deadline = std::time::Instant::now() + REPORT_LIMIT;
        loop {
            let answer = Run::new("curl").args(["--silent", "--show-error", "--fail", &url]).output()?;
            let document: Value = serde_json::from_str(&answer).context("the reports of the device")?;
            let reports = document.as_array().cloned().unwrap_or_default();
            let mut reports = reports.iter().map(|stored| &stored["report"]);
            let is_it = |report: &&Value| report["kind"] == kind && report["digest"] == digest;
            if let Some(found) = reports.clone().find(is_it) {
                let reason =
                    found["message"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
                say(&format!("reported: {kind} {digest}{reason}"));
                return Ok(found.clone());
            }
            let kinds: Vec<&str> = reports.by_ref().map(|report| text(&report["kind"])).collect();
            ensure!(
                std::time::Instant::now() < deadline,
                "no report `{kind}` about {digest} arrived; there are: {}",
                kinds.join(", ")
            );
            std::thread::sleep(PAUSE);
        }
    }
}

/// What a device has for itself: the agent's configuration, and files beside it.
fn of_device(run: Run, config: &Path, files: &[(&str, PathBuf)]) -> Run {
    let run = run.arg("--agent-config").arg(config);
    files.iter().fold(run, |run, (name, file)| {
        run.args(["--file", &format!("/etc/edgewright/{name}={}", file.display())])
    })
}

/// The step in a line of `edgewright disk --json`.
fn step(line: &str) -> String {
    let document: Option<Value> = serde_json::from_str(line).ok();
    document
        .and_then(|document| Some(document["step"].as_str()?.to_owned()))
        .unwrap_or_else(|| line.to_owned())
}
