//! Whether the processor runs virtual machines here: tried, not assumed. `/dev/kvm` also exists where a
//! kernel does not start on it.
//!
//! A guest of 300 bytes (`trial/trial.S`) enters long mode, takes an exception and ends QEMU. It runs
//! emulated, and where there is a `/dev/kvm` on that, too, which must not be slower. The result is kept until
//! the host restarts. If a whole kernel does not start on it after all, [`Acceleration::give_up`] notes that.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edgewright_process::CommandError;
use serde::{Deserialize, Serialize};

use crate::folders::blocking;
use crate::tools::QEMU;
use crate::{Context, VmError};

const TRIAL: &[u8] = include_bytes!("../trial/trial.bin");
/// What QEMU ends with where the trial guest works: it writes 16 to the device for that.
const WORKS: i32 = 33;
/// The time limit of a trial: a slow host emulates it in seconds.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How much slower than emulation the trial may be on KVM: the start of QEMU varies.
const MARGIN: Duration = Duration::from_millis(1500);
/// The time from QEMU's start to the guest's first answer on hardware that is not busy.
const REFERENCE: Duration = Duration::from_millis(700);
/// The limits of factors on time limits.
const MIN_EMULATED_FACTOR: f64 = 6.0;
const MAX_FACTOR: f64 = 40.0;
/// The factor of emulation before anything was measured.
const EMULATED_FACTOR: f64 = 10.0;
/// The device of KVM.
const DEVICE: &str = "/dev/kvm";

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

impl Accelerator {
    /// Its name in verdicts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    pub(crate) const fn qemu(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }
}

/// What was found out about this host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acceleration {
    /// What to use.
    pub accelerator: Accelerator,
    /// The factor on time limits, from 1: how much slower machines start here than on hardware.
    pub factor: f64,
    /// Why KVM is not used.
    pub why: Option<String>,
    boot: String,
    #[serde(skip)]
    file: Option<PathBuf>,
}

impl Acceleration {
    /// Finds out what works here, or reads what an earlier call found out since the host started.
    ///
    /// # Errors
    /// QEMU is missing or starts nothing.
    pub async fn detect(folder: Option<&Path>, context: &Context) -> Result<Self, VmError> {
        let file = folder.map(|folder| folder.join("acceleration.json"));
        let boot = tokio::fs::read_to_string("/proc/sys/kernel/random/boot_id").await.unwrap_or_default();
        if let Some(file) = &file
            && let Ok(text) = tokio::fs::read(file).await
            && let Ok(known) = serde_json::from_slice::<Self>(&text)
            && known.boot == boot
        {
            return Ok(Self { file: Some(file.clone()), ..known });
        }
        let emulated = trial(Accelerator::Tcg, context).await?.map_err(VmError::Qemu)?;
        let why = why_not_kvm(emulated, context).await?;
        let (accelerator, factor) =
            if why.is_some() { (Accelerator::Tcg, EMULATED_FACTOR) } else { (Accelerator::Kvm, 1.0) };
        let found = Self { accelerator, factor, why, boot, file };
        found.save().await;
        Ok(found)
    }

    /// Notes how long a machine took to answer: time limits follow.
    pub async fn measured(&mut self, took: Duration) {
        let least = if self.accelerator == Accelerator::Tcg { MIN_EMULATED_FACTOR } else { 1.0 };
        let factor = (took.as_secs_f64() / REFERENCE.as_secs_f64()).clamp(least, MAX_FACTOR);
        // One slow start counts at once, a fast one only slowly: limits must not be too short.
        self.factor = if factor > self.factor { factor } else { self.factor.mul_add(0.75, factor * 0.25) };
        self.save().await;
    }

    /// Notes that a kernel does not start on KVM.
    pub async fn give_up(&mut self, why: String) {
        (self.accelerator, self.factor, self.why) = (Accelerator::Tcg, EMULATED_FACTOR, Some(why));
        self.save().await;
    }

    /// A result that cannot be kept is found out again.
    async fn save(&self) {
        let (Some(file), Ok(text)) = (self.file.clone(), serde_json::to_vec(self)) else { return };
        let written = blocking(move || {
            let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
            let write = || -> std::io::Result<()> {
                fs::create_dir_all(&folder)?;
                let new = tempfile::NamedTempFile::new_in(&folder)?;
                fs::write(new.path(), text)?;
                new.persist(&file)?;
                Ok(())
            };
            write().map_err(VmError::io("write", folder.clone()))
        });
        if let Err(error) = written.await {
            tracing::debug!(%error, "the result of the trial is not kept");
        }
    }
}

/// Why machines do not run on KVM here; none if they do.
async fn why_not_kvm(emulated: Duration, context: &Context) -> Result<Option<String>, VmError> {
    let opened = blocking(|| {
        Ok(fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(DEVICE)
            .map(drop)
            .map_err(|error| error.to_string()))
    });
    if let Err(error) = opened.await? {
        return Ok(Some(format!("{DEVICE}: {error}")));
    }
    Ok(match trial(Accelerator::Kvm, context).await? {
        Err(error) => Some(format!("a trial guest does not run on {DEVICE}: {error}")),
        Ok(took) if took > emulated * 2 + MARGIN => {
            let (took, emulated) = (took.as_secs_f64(), emulated.as_secs_f64());
            Some(format!("a trial guest took {took:.1} s on {DEVICE} and {emulated:.1} s emulated"))
        }
        Ok(_) => None,
    })
}

/// Runs the trial guest; gives the time that it took, or why it does not work.
async fn trial(accelerator: Accelerator, context: &Context) -> Result<Result<Duration, String>, VmError> {
    let file = tempfile::Builder::new().prefix("trial-").tempfile_in(&context.scratch);
    let file = file.map_err(VmError::io("create a file in", &context.scratch))?;
    tokio::fs::write(file.path(), TRIAL).await.map_err(VmError::io("write", file.path()))?;
    let mut command = context.tools.command(QEMU).context(&context.processes).deadline(TRIAL_TIMEOUT);
    for folder in context.tools.firmware() {
        command = command.arg("-L").arg(folder);
    }
    let start = Instant::now();
    let ended = command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-m", "64"])
        .args(["-accel", accelerator.name(), "-device", "isa-debug-exit,iobase=0x501,iosize=4", "-kernel"])
        .arg(file.path().as_os_str())
        .run_status()
        .await;
    match ended {
        Ok(finished) if finished.code() == Some(WORKS) => Ok(Ok(start.elapsed())),
        Ok(finished) => {
            let reason =
                finished.output.stderr_tail.last().cloned().unwrap_or_else(|| finished.ended.to_string());
            Ok(Err(reason))
        }
        Err(CommandError::Deadline { after, .. }) => Ok(Err(format!("it does not end within {after:?}"))),
        Err(error) => Err(VmError::command("start QEMU")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn limits_follow_slow_starts_at_once_and_fast_ones_slowly() {
        let mut found = Acceleration {
            accelerator: Accelerator::Tcg,
            factor: EMULATED_FACTOR,
            why: None,
            boot: String::new(),
            file: None,
        };
        found.measured(Duration::from_secs(14)).await;
        assert!((found.factor - 20.0).abs() < 0.01);
        found.measured(Duration::from_secs(1)).await;
        assert!((found.factor - 16.5).abs() < 0.01, "{}", found.factor);
        found.measured(Duration::from_secs(100_000)).await;
        assert!((found.factor - MAX_FACTOR).abs() < 0.01);
        found.give_up("it hangs".to_owned()).await;
        assert_eq!(found.accelerator, Accelerator::Tcg);
    }
}
