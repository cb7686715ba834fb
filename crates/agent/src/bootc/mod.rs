//! bootc as an updater: its command line and `bootc status --json`.
//!
//! bootc downloads by itself, with the system's container configuration (`/etc/ostree/auth.json`,
//! `registries.conf.d`); our mirrors and bandwidth limit do not apply. A staged image is kept from being
//! applied at the next shutdown by `--download-only`, until [`Updater::arm`]. Its boot entries have no
//! counter by default: this agent leaves an unhealthy image, but one that never starts needs a boot loader
//! that counts.

mod status;

use std::path::PathBuf;
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_oci::media::Descriptor;
use edgewright_process::{Command, CommandError};

use crate::updater::{BoxFuture, Deployments, Image, Progress, UpdateError, Updater};
use status::Host;

/// Time limit of a command that downloads nothing.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(10);
/// Time limit of a download.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_hours(12);
/// Maximum length of the status, in bytes.
const MAX_STATUS: usize = 4 * 1024 * 1024;
/// Where bootc keeps what it installed; there without a boot by bootc, too, so it proves nothing.
const NAME: &str = "bootc";

/// The adapter.
#[derive(Debug, Clone)]
pub struct Bootc {
    program: PathBuf,
}

impl Bootc {
    /// The adapter of a program: `bootc`, or its path.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// The adapter, if this device was booted by bootc.
    pub async fn detect() -> Option<Self> {
        let bootc = Self::new(NAME);
        bootc.host().await.ok().filter(|host| host.deployments().booted.is_some()).map(|_| bootc)
    }

    async fn host(&self) -> Result<Host, UpdateError> {
        let command = Command::new(&self.program).args(["status", "--json"]).stdout_limit(MAX_STATUS);
        let output = command.deadline(COMMAND_TIMEOUT).run().await.map_err(failed("`bootc status`"))?;
        Host::parse(&output.stdout).map_err(|error| UpdateError::Backend {
            what: "`bootc status --json`".to_owned(),
            problem: error.to_string(),
        })
    }

    async fn run(
        &self,
        arguments: &[&str],
        limit: Duration,
        progress: Option<&Progress>,
    ) -> Result<(), UpdateError> {
        let what = format!("`bootc {}`", arguments[0]);
        let mut command = Command::new(&self.program).args(arguments).deadline(limit);
        if let Some(progress) = progress {
            command = command.cancel(progress.cancel().clone());
        }
        command.run().await.map(drop).map_err(failed(&what))
    }

    async fn stage_image(&self, image: &Image, progress: &Progress) -> Result<(), UpdateError> {
        let known = self.host().await?.deployments();
        if known.booted.is_none() {
            let why = "`bootc status` reports no booted image".to_owned();
            return Err(UpdateError::Unsupported { updater: NAME, why });
        }
        if known.staged.is_some_and(|staged| image.is(&staged.digest)) {
            return Ok(());
        }
        let target =
            format!("{}/{}@{}", image.reference.registry, image.reference.repository, image.digest());
        progress.step("bootc downloads and deploys", 0, None);
        let arguments = ["switch", "--download-only", "--quiet", &target];
        match self.run(&arguments, DOWNLOAD_TIMEOUT, Some(progress)).await {
            Err(UpdateError::Command { source, .. }) if knows_no_option(&source) => {
                let why = "its `switch` has no --download-only: install a newer bootc".to_owned();
                return Err(UpdateError::Unsupported { updater: NAME, why });
            }
            done => done?,
        }
        let staged = self.host().await?.deployments().staged;
        if staged.is_some_and(|staged| image.is(&staged.digest)) {
            Ok(())
        } else {
            Err(UpdateError::NotStaged { digest: image.digest().clone() })
        }
    }

    async fn arm_digest(&self, digest: &Digest) -> Result<(), UpdateError> {
        let host = self.host().await?;
        let staged = host.deployments().staged.filter(|staged| staged.digest == *digest);
        let Some(staged) = staged else { return Err(UpdateError::NotStaged { digest: digest.clone() }) };
        if staged.is_next {
            return Ok(());
        }
        self.run(&["upgrade", "--from-downloaded"], COMMAND_TIMEOUT, None).await
    }

    async fn go_back(&self) -> Result<(), UpdateError> {
        let host = self.host().await?;
        // The command swaps the order: a second time would undo the first.
        if host.is_rollback_queued() {
            return Ok(());
        }
        if host.deployments().fallback.is_none() {
            return Err(UpdateError::NoFallback);
        }
        self.run(&["rollback"], COMMAND_TIMEOUT, None).await
    }
}

impl Updater for Bootc {
    fn name(&self) -> &'static str {
        NAME
    }

    fn status(&self) -> BoxFuture<'_, Result<Deployments, UpdateError>> {
        Box::pin(async { self.host().await.map(|host| host.deployments()) })
    }

    fn missing<'a>(&'a self, _: &'a Image) -> BoxFuture<'a, Result<Vec<Descriptor>, UpdateError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn stage<'a>(
        &'a self,
        image: &'a Image,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), UpdateError>> {
        Box::pin(self.stage_image(image, progress))
    }

    fn arm<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<(), UpdateError>> {
        Box::pin(self.arm_digest(digest))
    }

    fn bless(&self) -> BoxFuture<'_, Result<(), UpdateError>> {
        // What bootc booted stays the default.
        Box::pin(async { Ok(()) })
    }

    fn roll_back(&self) -> BoxFuture<'_, Result<(), UpdateError>> {
        Box::pin(self.go_back())
    }

    fn collect(&self) -> BoxFuture<'_, Result<Option<u64>, UpdateError>> {
        // bootc removes what it does not need whenever it deploys.
        Box::pin(async { Ok(None) })
    }
}

/// Whether a program rejected an option that it does not know.
fn knows_no_option(error: &CommandError) -> bool {
    error
        .stderr_tail()
        .iter()
        .any(|line| line.contains("unexpected argument") || line.contains("unrecognized"))
}

fn failed(what: &str) -> impl FnOnce(CommandError) -> UpdateError {
    let what = what.to_owned();
    move |source| UpdateError::Command { what, source }
}

#[cfg(test)]
mod tests;
