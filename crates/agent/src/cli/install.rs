//! `install`: progress goes to standard error, one line for each step.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use edgewright_model::error::{Chain, ErrorClass};
use edgewright_process::CancellationToken;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use super::args::InstallArgs;
use super::exit::Failure;
use crate::install::{self, DeviceSettings, InstallError, Order};
use crate::updater::{Progress, Step};

/// Bytes of the settings of a device.
const MAX_SETTINGS_BYTES: u64 = 32 << 20;

pub(super) async fn run(args: &InstallArgs, json: bool) -> Result<ExitCode, Failure> {
    let (order, _medium) = if args.medium {
        let (order, medium) = install::unattended().await?;
        (order, Some(medium))
    } else {
        (order(args).await?, None)
    };
    let last = Mutex::new(String::new());
    let progress = Progress::new(move |step| report(step, json, &last), CancellationToken::new());
    install::install(&order, &progress).await?;
    let mut out = std::io::stdout().lock();
    let _ = if json {
        writeln!(out, "{}", json!({"installed": order.disk}))
    } else {
        writeln!(out, "installed {}", order.disk.display())
    };
    Ok(ExitCode::SUCCESS)
}

/// The order that the arguments are.
async fn order(args: &InstallArgs) -> Result<Order, Failure> {
    let fault = |message: String| Failure::new(ErrorClass::UserFault, message, None);
    let device = match &args.device {
        None => DeviceSettings::default(),
        Some(path) => {
            let fault = |e: &dyn std::fmt::Display| fault(format!("cannot read {}: {e}", path.display()));
            serde_json::from_slice(&read(path).await.map_err(|e| fault(&e))?).map_err(|e| fault(&e))?
        }
    };
    let (Some(disk), Some(layout), Some(reference)) = (&args.disk, &args.layout, &args.reference) else {
        return Err(fault("--disk, --layout and --reference are needed".to_owned()));
    };
    Ok(Order { disk: disk.clone(), layout: layout.clone(), reference: reference.clone(), device })
}

/// Reads a file, or standard input for `-`.
async fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = match path.to_str() {
        Some("-") => tokio::io::stdin().take(MAX_SETTINGS_BYTES + 1).read_to_end(&mut bytes).await?,
        _ => tokio::fs::File::open(path).await?.take(MAX_SETTINGS_BYTES + 1).read_to_end(&mut bytes).await?,
    };
    if read as u64 > MAX_SETTINGS_BYTES {
        return Err(std::io::Error::other("it is too large"));
    }
    Ok(bytes)
}

/// A line for each new step; in JSON, one for each report.
fn report(step: Step<'_>, json: bool, last: &Mutex<String>) {
    let mut err = std::io::stderr().lock();
    if json {
        let _ = writeln!(err, "{}", json!({"step": step.what, "done": step.done, "total": step.total}));
        return;
    }
    let Ok(mut last) = last.lock() else { return };
    if *last != step.what {
        step.what.clone_into(&mut last);
        let _ = writeln!(err, "{}", step.what);
    }
}

impl From<InstallError> for Failure {
    fn from(error: InstallError) -> Self {
        let (class, hint) = match &error {
            InstallError::Update(error) => (error.class(), error.hint()),
            InstallError::Device(_) => {
                (ErrorClass::UserFault, Some("correct the settings of the device".to_owned()))
            }
            InstallError::Image { .. } => {
                (ErrorClass::UserFault, Some("add what is missing, and build the image again".to_owned()))
            }
            InstallError::Layout { .. } => {
                (ErrorClass::UserFault, Some("make the installer or the layout again".to_owned()))
            }
            InstallError::Command { source, .. } => {
                (ErrorClass::Unavailable, source.hint().map(str::to_owned))
            }
            InstallError::Disk { .. } => (ErrorClass::Conflict, Some("name an unused disk".to_owned())),
            InstallError::Io { .. } => (
                ErrorClass::Unavailable,
                Some("check the disk and the kernel's log, then install again".to_owned()),
            ),
            InstallError::Stopped(_) => (ErrorClass::Unavailable, Some("install again".to_owned())),
        };
        Self::new(class, Chain(&error).to_string(), hint)
    }
}
