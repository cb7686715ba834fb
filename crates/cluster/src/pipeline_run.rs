//! Tekton's PipelineRun: the parts of it that we write and read, and the one that builds a step.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::custom::{Custom, CustomKind};
use crate::settings::{ClusterSettings, PlatformBuild};
use crate::task_run::{TaskRunCondition, TaskRunResult, WAITING};

/// The result with the digest of what was built.
pub const DIGEST: &str = "digest";
/// The workspace with the order.
const ORDER: &str = "order";

/// A PipelineRun of `tekton.dev/v1`.
pub type PipelineRun = Custom<PipelineRunStatus>;

/// The status of a PipelineRun, in part.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PipelineRunStatus {
    /// `Succeeded` is the only one.
    pub conditions: Vec<TaskRunCondition>,
    /// The results of the Pipeline.
    pub results: Vec<TaskRunResult>,
}

impl CustomKind for PipelineRunStatus {
    const GROUP: &'static str = "tekton.dev";
    const KIND: &'static str = "PipelineRun";
    const PLURAL: &'static str = "pipelineruns";
}

impl PipelineRun {
    /// The condition `Succeeded`, once Tekton has seen it.
    pub(crate) fn succeeded(&self) -> Option<&TaskRunCondition> {
        self.status.as_ref()?.conditions.iter().find(|condition| condition.kind == "Succeeded")
    }

    /// The digest that it gives as its result.
    pub(crate) fn digest(&self) -> Option<&str> {
        let results = &self.status.as_ref()?.results;
        results.iter().find(|result| result.name == DIGEST)?.value.as_str().map(str::trim)
    }
}

/// The PipelineRun of a step. `metadata` is that of the attempt, `parameters` what the Pipeline is given.
pub(crate) fn pipeline_run(
    metadata: ObjectMeta,
    parameters: &[(&str, String)],
    within: std::time::Duration,
    (build, settings): (&PlatformBuild, &ClusterSettings),
) -> PipelineRun {
    let metadata = ObjectMeta { namespace: Some(settings.namespace.clone()), ..metadata };
    let parameters: Vec<Value> =
        parameters.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let mut spec = json!({
        "pipelineRef": { "name": build.name },
        "params": parameters,
        "workspaces": [{ "name": ORDER, "secret": { "secretName": metadata.name } }],
        "timeouts": { "pipeline": format!("{}s", (within + WAITING).as_secs()) },
    });
    if let Some(account) = &build.service_account {
        spec["taskRunTemplate"] = json!({ "serviceAccountName": account });
    }
    PipelineRun::new(metadata, spec)
}
