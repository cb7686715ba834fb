//! The virtual machine with the device's disk, and what it prints on its second serial port.

use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::disk::Disk;
use super::world::World;
use crate::command::{Run, is_root};
use crate::demo::server::text;
use crate::demo::story::Story;

const PAUSE: Duration = Duration::from_millis(500);
/// Lines of a console that are shown when something fails.
const TAIL_LINES: usize = 40;
/// UEFI firmware in the tool image.
const FIRMWARE: &str = "usr/share/OVMF";
/// What lines of ours begin with; firmware prints on the port, too.
const MARK: &str = "E2E ";

/// A running device. It is killed when the value is dropped.
#[derive(Debug)]
pub(super) struct Machine {
    command: String,
    child: Child,
    console: PathBuf,
    lines: PathBuf,
    qemu: PathBuf,
    shown: usize,
    seen: Seen,
}

impl Machine {
    /// Whether the tool image has the firmware, which is for x86-64.
    pub(super) fn is_possible(world: &World) -> bool {
        world.tools.join("root").join(FIRMWARE).join("OVMF_CODE_4M.fd").is_file()
    }

    /// Switches the device on. It starts from the first disk that has a boot loader.
    pub(super) fn start(world: &World, accelerator: &str, disks: &[Disk<'_>]) -> anyhow::Result<Self> {
        let (root, folder) = (world.tools.join("root"), &world.place.root);
        let firmware = root.join(FIRMWARE);
        let variables = folder.join("variables.fd");
        std::fs::copy(firmware.join("OVMF_VARS_4M.fd"), &variables)?;
        let console = folder.join("console.log");
        let lines = folder.join("lines.log");
        let qemu = folder.join("qemu.log");
        for old in [&console, &lines] {
            // Nothing of an earlier machine is taken for what this one prints.
            if old.exists() {
                std::fs::remove_file(old)?;
            }
        }
        let libraries =
            ["usr/lib/x86_64-linux-gnu", "usr/lib"].map(|path| root.join(path).display().to_string());
        let drive = |path: &PathBuf, options: &str| format!("format=raw,{options},file={}", path.display());
        let accelerator = if accelerator == "kvm" { "kvm" } else { "tcg,thread=multi" };
        let disks = disks.iter().enumerate().flat_map(|(number, disk)| disk.arguments(number));
        let emulator = Run::new(root.join("lib64/ld-linux-x86-64.so.2"))
            .args(["--library-path", &libraries.join(":")])
            .arg(root.join("usr/bin/qemu-system-x86_64"))
            .args(["-accel", accelerator])
            .args(["-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "2048"])
            .args(["-nodefaults", "-display", "none", "-L"])
            .arg(root.join("usr/share/qemu"))
            .arg("-L")
            .arg(root.join("usr/share/seabios"))
            .args(["-drive", &drive(&firmware.join("OVMF_CODE_4M.fd"), "if=pflash,readonly=on")])
            .args(["-drive", &drive(&variables, "if=pflash")])
            .args(disks)
            .args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="])
            .args(["-serial", &format!("file:{}", console.display())])
            .args(["-serial", &format!("file:{}", lines.display())]);
        // It must not outlive us, however we end.
        let child = Run::as_root("setpriv")?
            .args(["--pdeathsig", "KILL", "--"])
            .args(emulator.words())
            .start_logged(&qemu)?;
        Ok(Self { command: emulator.line(), child, console, lines, qemu, shown: 0, seen: Seen::default() })
    }

    /// The command that starts it again.
    pub(super) fn command(&self) -> &str {
        &self.command
    }

    /// What the device printed last of each kind.
    pub(super) const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Waits until what it printed fulfils a condition. New lines are shown.
    pub(super) fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        story: &Story,
        is_true: impl Fn(&Seen) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            self.read(story)?;
            if is_true(&self.seen) {
                story.progress(what);
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("QEMU ended with {status} while the test waited for `{what}`");
            }
            if Instant::now() > deadline {
                bail!("not seen within {} minutes: {what}", limit.as_secs() / 60);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until the machine switches itself off.
    pub(super) fn wait_for_end(&mut self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("QEMU ended with {status}"),
                None => std::thread::sleep(PAUSE),
            }
        }
        bail!("the machine is not off after {} minutes", limit.as_secs() / 60);
    }

    fn read(&mut self, story: &Story) -> anyhow::Result<()> {
        let bytes = match std::fs::read(&self.lines) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            bytes => bytes.context("cannot read what the device printed")?,
        };
        let all = String::from_utf8_lossy(&bytes).replace('\r', "");
        // The last line may be incomplete.
        let complete = all.rfind('\n').map_or("", |end| &all[..end]);
        for line in complete.lines().skip(self.shown) {
            self.shown += 1;
            if let Some((kind, value)) = line.strip_prefix(MARK).and_then(|line| line.split_once(' ')) {
                story.progress(&self.seen.take(kind, value));
            }
        }
        Ok(())
    }

    /// The ends of everything that it printed.
    pub(super) fn tails(&self) -> String {
        let tail = |path: &PathBuf| {
            let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).replace('\r', "");
            let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
            let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
            format!("the end of {}:\n{tail}\n", path.display())
        };
        [&self.qemu, &self.console, &self.lines].map(tail).join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // As another user, this is sudo's process: it passes on this signal, but not SIGKILL.
        let signal = if is_root().unwrap_or_default() { "-KILL" } else { "-TERM" };
        if let Ok(kill) = Run::as_root("kill") {
            kill.arg(signal).arg(self.child.id().to_string()).succeeds();
        }
        self.child.wait().ok();
    }
}

/// The last line of each kind since the last boot, and the agent's status.
#[derive(Debug, Default)]
pub(super) struct Seen {
    lines: std::collections::BTreeMap<String, String>,
    status: Value,
}

impl Seen {
    /// Takes a line. Gives it as people read it.
    fn take(&mut self, kind: &str, value: &str) -> String {
        if kind == "boot" {
            *self = Self::default();
        }
        if kind != "status" {
            self.lines.insert(kind.to_owned(), value.to_owned());
            return format!("device: {kind} {value}");
        }
        self.status = serde_json::from_str(value).unwrap_or_default();
        if self.status.is_null() {
            return format!("device: {value}");
        }
        let booted = &self.status["deployments"]["booted"];
        let problem = self.status["problem"]["message"].as_str().map(|text| format!(", {text}"));
        format!(
            "device: {} on {} ({}){}",
            state(&self.status),
            text(&booted["digest"]),
            text(&booted["entry"]),
            problem.unwrap_or_default()
        )
    }

    /// The last value of a kind.
    pub(super) fn value(&self, kind: &str) -> Option<&str> {
        self.lines.get(kind).map(String::as_str)
    }

    /// Whether this digest runs, is good, and nothing is under way; by this boot entry, if one is given.
    pub(super) fn rests_on(&self, digest: &str, entry: Option<&str>) -> bool {
        let booted = &self.status["deployments"]["booted"];
        booted["digest"] == digest
            && booted["verity"] == true
            && booted["tries_left"].is_null()
            && entry.is_none_or(|entry| booted["entry"] == entry)
            && self.status["is_running"] == true
            && matches!(state(&self.status), "idle" | "confirmed" | "held_back")
    }

    /// The digest that the agent found running. Before it runs, its status is that of an earlier boot.
    pub(super) fn booted(&self) -> Option<&str> {
        let booted = &self.status["deployments"]["booted"]["digest"];
        booted.as_str().filter(|_| self.status["is_running"] == true)
    }

    /// Whether the device gets an update.
    pub(super) fn is_downloading(&self) -> bool {
        state(&self.status) == "downloading"
    }

    /// Whether the device goes down for an update, or was down for one.
    pub(super) fn is_rebooting(&self, version: u32) -> bool {
        let boot = self.value("boot").and_then(|boot| boot.split(' ').next());
        state(&self.status) == "rebooting" || boot == Some(&*version.to_string())
    }

    /// Whether this digest failed on the device.
    pub(super) fn has_refused(&self, digest: &str) -> bool {
        let failed = self.status["failed"].as_array();
        failed.is_some_and(|failed| failed.iter().any(|failed| failed["digest"] == digest))
    }
}

/// The name of the agent's state.
fn state(status: &Value) -> &str {
    text(&status["state"]["state"])
}
