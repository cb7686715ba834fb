//! Machines that were kept in the sandbox of their job: this command runs again inside, where it finds them.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::names::VariantName;
use edgewright_process::Command;
use edgewright_sandbox::SandboxError;
use edgewright_sandbox::kept::{self, KeptSandbox};

use super::shell::START_AGAIN;
use crate::exit::Failure;

/// The data folder in a sandbox: its work folder is `/work`.
const DATA: &str = "/";
/// How long the removal of what is in a sandbox may take; its processes are killed after that.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(30);

/// The kept sandboxes of a work folder; of one variant, if it is named.
pub(super) async fn list(
    work: &Path,
    variant: Option<&VariantName>,
) -> Result<Vec<KeptSandbox>, SandboxError> {
    let folder: PathBuf = work.join("sandboxes");
    let lost = folder.clone();
    let listed = tokio::task::spawn_blocking(move || kept::list(&folder)).await;
    let mut sandboxes =
        listed.map_err(std::io::Error::other).map_err(SandboxError::io("read", &lost)).flatten()?;
    if let Some(variant) = variant {
        let name = format!("/{variant}");
        sandboxes.retain(|sandbox| sandbox.label().ends_with(&name));
    }
    Ok(sandboxes)
}

/// Enters the machine in a sandbox, in place of this process. Returns only if that fails.
pub(super) fn enter(sandbox: &KeptSandbox, command: &[OsString]) -> Failure {
    if !sandbox.runs() {
        let message = format!("the machine of {} has ended", sandbox.label());
        return Failure::new(ErrorClass::Conflict, message).hint(START_AGAIN);
    }
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut arguments = arguments(sandbox, "--");
    arguments.extend_from_slice(command);
    let words = sandbox.entry(&arguments, is_terminal);
    let Some((program, arguments)) = words.split_first() else {
        return Failure::new(ErrorClass::Bug, "a kept sandbox has no runtime");
    };
    let error = edgewright_process::replace(program, arguments, &[]);
    Failure::unavailable("cannot start the runtime of the sandbox", &error).hint(START_AGAIN)
}

/// This command in a sandbox. Its work folder has machines of other variants, too.
fn arguments(sandbox: &KeptSandbox, last: &str) -> Vec<OsString> {
    let label = sandbox.label();
    let variant = label.split_once('/').map_or(label, |(_, variant)| variant);
    ["--data", DATA, "shell", variant, last].map(OsString::from).into()
}

/// Removes machines, then their sandboxes.
pub(super) async fn remove(sandboxes: &[KeptSandbox]) -> Result<(), Failure> {
    for sandbox in sandboxes {
        if sandbox.runs() {
            let words = sandbox.entry(&arguments(sandbox, "--rm"), false);
            if let Some((program, arguments)) = words.split_first() {
                // What it cannot remove ends with the sandbox.
                let command = Command::new(program).args(arguments).deadline(REMOVAL_TIMEOUT);
                if let Err(error) = command.run().await {
                    tracing::warn!(error = %Chain(&error), "cannot remove the files of a kept machine");
                }
            }
        }
        let sandbox = sandbox.clone();
        let removed = tokio::task::spawn_blocking(move || sandbox.remove()).await;
        removed.map_err(|error| Failure::unavailable("cannot remove a kept sandbox", &error))??;
    }
    Ok(())
}
