//! The tool image of sandboxed jobs: made when the first job needs it, and tried before that job starts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgewright_model::order::{JobOrder, Task};
use edgewright_model::outcome::{JobEvent, Phase};
use edgewright_model::tools::{BOOTSTRAP_TOOLS, CONTAINERFILE_TOOLS, PIPELINE, ToolVersions, upstream};
use edgewright_process::{CancellationToken, Command, ProcessContext};
use edgewright_sandbox::host::Kernel;
use edgewright_sandbox::{Sandbox, SandboxError, ToolImage};
use edgewright_vm::Tools as VmTools;
use tokio::sync::{OnceCell, mpsc};

use crate::error::ExecutorError;

/// How long a program of the host may take to print its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);

/// Gives the sandboxes of a folder, with its tool image. Clones share them.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The tool image's folder.
    image: PathBuf,
    /// Where sandboxes keep their configuration.
    sandboxes: PathBuf,
    /// Set once a sandbox worked.
    tried: Arc<OnceCell<()>>,
}

impl Tools {
    /// The tool image in `image`; sandboxes keep their configuration in `sandboxes`.
    pub fn new(image: PathBuf, sandboxes: PathBuf) -> Self {
        Self { image, sandboxes, tried: Arc::default() }
    }

    /// Where sandboxes keep their configuration.
    pub(crate) fn sandboxes(&self) -> &Path {
        &self.sandboxes
    }

    /// The tool image as it is now; if it is missing, as for [`Tools::sandbox`].
    pub(crate) async fn image(
        &self,
        program: &Path,
        events: &mpsc::Sender<JobEvent>,
        cancel: &CancellationToken,
    ) -> Result<ToolImage, SandboxError> {
        match ToolImage::load(&self.image).await {
            Err(SandboxError::NoTools { .. } | SandboxError::OldTools { .. }) => {
                Ok(self.sandbox(program, events, cancel).await?.tools().clone())
            }
            other => other,
        }
    }

    /// Sandboxes with the tool image. The first call makes the image if it is missing, which takes a minute
    /// or two and is reported as events of its job, and starts `program` in a sandbox as a trial. After a
    /// failure, the next call tries again. Each call opens the image as it is now: an update replaces it.
    pub(crate) async fn sandbox(
        &self,
        program: &Path,
        events: &mpsc::Sender<JobEvent>,
        cancel: &CancellationToken,
    ) -> Result<Sandbox, SandboxError> {
        let make = async {
            let lost = |error: tokio::task::JoinError| Err(SandboxError::Trial { reason: error.to_string() });
            tokio::task::spawn_blocking(|| Kernel::read().require()).await.unwrap_or_else(lost)?;
            let processes = ProcessContext::new(cancel.clone());
            let mut is_new = true;
            let progress = |line: &str| {
                if std::mem::take(&mut is_new) {
                    tracing::info!(tools.folder = %self.image.display(), "making the tool image");
                    let title = "the tool image, once for this host".to_owned();
                    let _ = events.try_send(JobEvent::Phase { phase: Phase::Fetch, title });
                }
                // A slow reader misses lines.
                let _ = events.try_send(JobEvent::Log { line: line.to_owned() });
            };
            let tools = ToolImage::open_or_make(&self.image, &processes, progress).await?;
            let sandbox = Sandbox::new(tools, self.sandboxes.clone());
            let took = sandbox.try_out(program, &processes).await?;
            tracing::debug!(?took, "sandboxes work on this host");
            Ok(())
        };
        // It is large, and rarely needed.
        self.tried.get_or_try_init(|| Box::pin(make)).await?;
        Ok(Sandbox::new(ToolImage::load(&self.image).await?, self.sandboxes.clone()))
    }
}

/// QEMU and disk tools: those of a tool image, which are recent; without one, those of this system.
pub fn vm_tools(image: Option<&ToolImage>) -> VmTools {
    image.map_or_else(VmTools::here, |image| VmTools::of_image(image.root().to_owned(), image.loader()))
}

/// The programs that decide about the bytes of images.
fn programs() -> impl Iterator<Item = &'static str> {
    BOOTSTRAP_TOOLS.into_iter().chain(CONTAINERFILE_TOOLS).filter(|name| *name != PIPELINE)
}

/// The programs of a tool image that decide about the bytes of images. What its description does not name is
/// not known.
pub(crate) fn of_image(image: &ToolImage) -> ToolVersions {
    programs().filter_map(|name| Some((name, image.version(name)?))).collect()
}

/// The same programs of this host.
pub async fn of_host() -> ToolVersions {
    let mut versions = ToolVersions::default();
    for name in programs() {
        let asked = Command::new(name).arg("--version").deadline(VERSION_TIMEOUT).run().await;
        let version = asked.ok().and_then(|ended| number_in(ended.text().lines().next()?));
        versions.0.extend(version.map(|version| (name.to_owned(), version)));
    }
    versions
}

/// The version in the line that a program prints, without the revision of a distribution's package.
fn number_in(line: &str) -> Option<String> {
    let is_version = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    let word = line.split_whitespace().find(is_version)?;
    Some(upstream(word).trim_end_matches(['.', ',']).to_owned())
}

/// Requires the tools that an order was planned with.
///
/// # Errors
/// A step of the order was planned with other versions.
pub fn require(order: &JobOrder, versions: &ToolVersions) -> Result<(), ExecutorError> {
    let steps = if let Task::Image(task) = &order.task { task.steps.as_slice() } else { &[] };
    for step in steps {
        let names: Vec<&str> = step.tools.0.keys().map(String::as_str).collect();
        let changes = versions.of(&names).changes_since(&step.tools);
        if !changes.is_empty() {
            return Err(ExecutorError::ToolsChanged { changes });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_print() {
        let printed = [
            ("buildah version 1.28.2 (image-spec 1.1.0-rc2, runtime-spec 1.0.2-dev)", Some("1.28.2")),
            ("mmdebstrap 1.3.5-7", Some("1.3.5")),
            ("apt 2.6.1 (amd64)", Some("2.6.1")),
            ("Debian 'dpkg' package management program version 1.21.22 (amd64).", Some("1.21.22")),
            ("Debian 'dpkg' package management program version 1.21.22.", Some("1.21.22")),
            ("no version at all", None),
        ];
        for (line, version) in printed {
            assert_eq!(number_in(line).as_deref(), version, "{line}");
        }
    }

    #[test]
    fn a_step_runs_with_the_tools_of_its_key_only() {
        let mut order = crate::conformance::image_order(1, "hmi").unwrap();
        let versions = |buildah| ToolVersions::from_iter([("buildah", buildah), ("apt", "3.0.3")]);
        let with = |order: &mut JobOrder, tools: ToolVersions| {
            let Task::Image(task) = &mut order.task else { panic!("it is an image") };
            task.steps[0].tools = tools;
        };
        assert!(require(&order, &versions("1.39.3")).is_ok(), "its tools are not known");
        with(&mut order, versions("1.39.3").of(&["buildah"]));
        assert!(require(&order, &versions("1.39.3")).is_ok());
        let failure = require(&order, &versions("1.40.0")).unwrap_err().failure();
        let expected = "the tools changed after the run was planned (buildah 1.39.3 → 1.40.0)";
        assert_eq!(failure.message, expected);
        assert!(require(&order, &ToolVersions::default()).is_err());
    }
}
