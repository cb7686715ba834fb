//! Update checks: runs that only check whether locks moved. Nothing is planned or built.

use std::collections::BTreeMap;

use edgewright_model::format::{self, Diagnostic};
use edgewright_model::names::ImageName;
use edgewright_model::outcome::JobFailure;
use edgewright_oci::COMPRESSOR_VERSION;
use edgewright_plan::{Locks as Chosen, lock_request};
use edgewright_store::runs::RunRow;
use tokio_util::sync::CancellationToken;

use super::Locks;
use super::resolve::Resolving;
use crate::ControlError;
use crate::jobs::RunScope;
use crate::settings::LockPolicy;
use crate::sources::SourceHandle;

/// What an update check came to.
#[derive(Debug)]
pub(crate) enum UpdateCheck {
    /// The commit's `edgewright.yaml` is broken or missing.
    Invalid(Vec<Diagnostic>),
    /// The locks were resolved.
    Done {
        /// The images whose lock could not be, and why.
        failures: BTreeMap<ImageName, JobFailure>,
        /// What was pushed, in words.
        pushed: Option<String>,
    },
}

impl Locks {
    /// Resolves the locks of the images that a run names, or of all. What moved becomes overlays, or is
    /// pushed as a commit where the source wants that and `commits` is set.
    ///
    /// # Errors
    /// The commit cannot be read, the locks cannot be pushed; the database; [`ControlError::Stopped`].
    pub(crate) async fn check_updates(
        &self,
        run: &RunRow,
        handle: &SourceHandle,
        commits: bool,
        cancel: &CancellationToken,
    ) -> Result<UpdateCheck, ControlError> {
        let tree = handle.mirror.read_tree(&run.commit).await?;
        let parsed = format::parse(&tree);
        let Some(definition) = parsed.definition else {
            return Ok(UpdateCheck::Invalid(parsed.diagnostics));
        };
        let policy = match &handle.settings.locks {
            // Only what trusted refs declare may be pushed.
            LockPolicy::Commit(policy) if commits && run.trusted => Some(policy),
            _ => None,
        };
        let effective = Chosen::choose(&definition, &self.overlays(run.domain()).await?, COMPRESSOR_VERSION);
        let asked = self.jobs.store.run_images(run.number).await?;
        let is_checked = |image: &ImageName| asked.is_empty() || asked.contains(image);
        let images: Vec<&ImageName> = definition
            .images
            .iter()
            .filter(|(image, spec)| is_checked(image) && !lock_request(spec, &definition.source).is_empty())
            .map(|(image, _)| image)
            .collect();
        let source = &definition.source.name;
        let resolving = Resolving {
            scope: RunScope {
                run: run.number,
                domain: run.domain(),
                source,
                mirror: &handle.mirror,
                secrets: &handle.settings.secrets,
                cancel,
            },
            definition: &definition,
            tree: &tree,
            effective: &effective,
            proposes: policy.is_some(),
        };
        let resolved = self.resolve(resolving, images.iter().copied()).await?;
        let pushed = match policy {
            Some(policy) => {
                // What the server keeps of its own goes to git as well: overlays are for until the committed
                // lock catches up.
                let mut wanted = self.overlays_of(run.domain(), &definition).await?;
                wanted.extend(resolved.proposed);
                wanted.retain(|image, _| images.contains(&image));
                self.commit(run, handle, policy, &wanted).await?
            }
            None => None,
        };
        Ok(UpdateCheck::Done { failures: resolved.failures, pushed })
    }
}
