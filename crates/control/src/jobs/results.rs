//! What a job made is pinned before it is recorded: a reference is never without its blobs.

use edgewright_model::Digest;
use edgewright_model::order::TrustDomain;
use edgewright_model::outcome::JobOutcome;
use edgewright_model::reference::RepoName;
use edgewright_store::runs::RunRow;

use super::Jobs;
use crate::{ControlError, pins};

impl Jobs {
    /// Holds the manifests, the evidence and the packages of a job.
    pub(crate) async fn hold(&self, run: &RunRow, outcome: &JobOutcome) -> Result<(), ControlError> {
        let builds = outcome
            .builds
            .iter()
            .map(|build| (build.manifest.repository.clone(), build.manifest.digest.clone()));
        // Evidence has no manifest before its verdict is published, at the run's end.
        let evidence = outcome.verdicts.iter().flat_map(|verdict| &verdict.evidence);
        let evidence = evidence.map(|piece| (piece.blob.repository.clone(), piece.blob.digest.clone()));
        let held: Vec<_> = builds.chain(evidence).collect();
        self.hosting.pin(&pins::results(run.number), &held).await?;
        self.hold_packages(run.domain(), outcome).await
    }

    /// Holds the packages that steps were made of, until retention finds that no release needs them.
    async fn hold_packages(&self, domain: TrustDomain, outcome: &JobOutcome) -> Result<(), ControlError> {
        for build in &outcome.builds {
            let Some(kept) = &build.kept else { continue };
            let held: Vec<(RepoName, Digest)> = kept
                .packages
                .iter()
                .map(|package| (kept.repository.clone(), package.digest.clone()))
                .collect();
            self.hosting.pin(&pins::packages(&build.key), &held).await?;
            self.store.keep_packages((&build.key, domain), kept, self.clock.now()).await?;
        }
        Ok(())
    }
}
