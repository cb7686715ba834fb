//! Results of rebuilds.

use edgewright_api::{RebuildResult, RebuildStatus, RebuildStep, RebuildView};
use edgewright_model::run::RebuildNumber;
use edgewright_store::rebuilds::Rebuilt;

use super::{ViewError, Views};

impl Views {
    /// One rebuild.
    pub async fn rebuild(&self, number: RebuildNumber) -> Result<RebuildStatus, ViewError> {
        let row = self.store.rebuild(number).await?.ok_or_else(|| ViewError::NotFound {
            what: format!("rebuild {number} not found"),
            hint: "start one with `edgewright rebuild DIGEST`".to_owned(),
        })?;
        Ok(RebuildStatus {
            number,
            digest: row.digest,
            state: row.state,
            doing: row.doing,
            results: row.builds.into_iter().map(rebuilt).collect(),
            error: row.failure,
        })
    }
}

/// A rebuilt node as a document.
pub fn rebuilt(rebuilt: Rebuilt) -> RebuildView {
    let refuted = rebuilt.steps.iter().any(|step| !step.is_proved());
    RebuildView {
        run: rebuilt.run,
        node: rebuilt.node,
        platform: rebuilt.platform,
        result: match &rebuilt.failure {
            _ if refuted => RebuildResult::Refuted,
            Some(_) => RebuildResult::Failed,
            None => RebuildResult::Proved,
        },
        steps: rebuilt
            .steps
            .into_iter()
            .map(|step| RebuildStep {
                title: step.title,
                key: step.key,
                was: step.was,
                now: step.now,
                differences: step.differences,
            })
            .collect(),
        failure: rebuilt.failure,
    }
}
