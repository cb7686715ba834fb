//! The machine in which the installer runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_guest::frame::Program;
use edgewright_process::Stream;
use edgewright_vm::config::{Access, Disk, DiskFormat};
use edgewright_vm::machine::{NoAnswer, Setup};
use edgewright_vm::{Acceleration, CachedImage, Hardware, Machine, Profile};

use crate::order::DiskOrder;
use crate::{ProvisionError, Workshop};

/// How long the guest may take until it answers, before scaling.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Memory of the machine: the installer holds one tree of an image at a time.
const MEMORY_MIB: u32 = 2048;
/// Bytes of the installer's messages that are kept.
const MAX_MESSAGE_BYTES: usize = 16_384;
const MEDIUM: &str = "medium";
const TARGET: &str = "target";

/// Finds the disks by their serial numbers, and installs. `$1` is the reference.
const SCRIPT: &str = r#"
set -eu
disk() {
    for block in /sys/block/vd*; do
        [ "$(cat "$block/serial" 2>/dev/null)" = "$1" ] && { echo "/dev/${block##*/}"; return; }
    done
    echo "the disk $1 is missing" >&2
    exit 1
}
medium=$(disk medium)
target=$(disk target)
mkdir -p /run/edgewright/medium
mount -t erofs -o ro "$medium" /run/edgewright/medium
exec edgewright-agent --json install --disk "$target" --layout /run/edgewright/medium --reference "$1" --device -
"#;

/// The disks of the machine.
#[derive(Debug)]
pub(crate) struct Disks<'a> {
    pub(crate) medium: PathBuf,
    pub(crate) target: &'a Path,
}

/// Runs the installer to its end.
pub(crate) async fn run(
    order: &DiskOrder,
    workshop: &Workshop<'_>,
    acceleration: &Acceleration,
    image: &CachedImage,
    disks: &Disks<'_>,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), ProvisionError> {
    let disk = |path: PathBuf, serial: &str, access| Disk {
        path,
        serial: serial.to_owned(),
        access,
        format: DiskFormat::Raw,
    };
    let hardware = Hardware {
        memory_mib: MEMORY_MIB,
        disks: vec![
            disk(disks.medium.clone(), MEDIUM, Access::Read),
            disk(disks.target.to_owned(), TARGET, Access::Write),
        ],
        ..Hardware::default()
    };
    let setup = Setup {
        image,
        profile: Profile::Direct,
        hardware,
        programs: workshop.programs,
        accelerator: acceleration.accelerator,
        keep: None,
    };
    let mut machine = Machine::launch(setup, workshop.context).await?;
    let cancel = workshop.context.processes.cancel().clone();
    let within = ANSWER_TIMEOUT.mul_f64(acceleration.factor.max(1.0));
    let done = tokio::select! {
        done = install(&mut machine, order, within, progress) => done,
        () = cancel.cancelled() => Err(ProvisionError::Cancelled),
    };
    machine.stop().await;
    done
}

async fn install(
    machine: &mut Machine,
    order: &DiskOrder,
    within: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), ProvisionError> {
    if let Err(found) = machine.answer(within).await {
        let problem = match found {
            NoAnswer::Stopped(stopped) => stopped.to_string(),
            NoAnswer::TimedOut => format!("it did not answer within {} s", within.as_secs()),
            NoAnswer::Channel(error) => return Err(error.into()),
        };
        let console = String::from_utf8_lossy(machine.console().await.text()).into_owned();
        return Err(ProvisionError::NoStart { problem, console });
    }
    let Some(channel) = machine.channel() else { return Err(ProvisionError::Cancelled) };
    let program = Program::new(["sh", "-c", SCRIPT, "install", order.reference.as_str()]);
    let mut messages = Messages::default();
    let mut on_output = |stream: Stream, bytes: &[u8]| {
        if stream == Stream::Stderr {
            messages.add(bytes, progress);
        }
    };
    let ended = tokio::select! {
        ended = channel.run(program, &order.device, &mut on_output) => ended?,
        stopped = machine.stopped() => {
            let console = String::from_utf8_lossy(machine.console().await.text()).into_owned();
            return Err(ProvisionError::Machine { problem: stopped.to_string(), console });
        }
    };
    match ended {
        0 => Ok(()),
        code => Err(ProvisionError::Installer(messages.error(code))),
    }
}

/// What the installer printed on standard error: documents of progress, and an error.
#[derive(Debug, Default)]
struct Messages {
    line: Vec<u8>,
    last: String,
    step: String,
}

impl Messages {
    fn add(&mut self, bytes: &[u8], progress: &(dyn Fn(&str) + Sync)) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                self.take(&line, progress);
            } else if self.line.len() < MAX_MESSAGE_BYTES {
                self.line.push(*byte);
            }
        }
    }

    fn take(&mut self, line: &str, progress: &(dyn Fn(&str) + Sync)) {
        let document: Option<serde_json::Value> = serde_json::from_str(line).ok();
        let text = |path: &str| document.as_ref()?.pointer(path)?.as_str().map(str::to_owned);
        if let Some(step) = text("/step") {
            if step != self.step {
                progress(&step);
                self.step = step;
            }
            return;
        }
        self.last = match (text("/error/message"), text("/error/hint")) {
            (Some(message), Some(hint)) => format!("{message}; {hint}"),
            (Some(message), None) => message,
            _ => line.to_owned(),
        };
    }

    fn error(&self, code: i32) -> String {
        let text = if self.last.is_empty() { "no message".to_owned() } else { self.last.clone() };
        format!("{text} (exit code {code})")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn steps_are_reported_once_and_the_error_is_kept() {
        let steps = Mutex::new(Vec::new());
        let progress = |step: &str| steps.lock().unwrap().push(step.to_owned());
        let mut messages = Messages::default();
        messages.add(b"{\"step\":\"a\",\"done\":1}\n{\"step\":\"a\",\"done\":2}\n{\"st", &progress);
        messages.add(b"ep\":\"b\"}\n{\"error\":{\"message\":\"no\",\"hint\":null}}\n", &progress);
        messages.add(&vec![b'x'; 100_000], &progress);
        assert_eq!(*steps.lock().unwrap(), ["a", "b"]);
        assert_eq!(messages.error(5), "no (exit code 5)");
        assert!(messages.line.len() <= MAX_MESSAGE_BYTES);
    }
}
