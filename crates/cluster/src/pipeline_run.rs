//! Tekton's PipelineRun: the parts of it that we write and read, and the one that builds a step.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::custom::custom_kind;
use crate::names::{PIPELINE_OF, SERVER};
use crate::settings::{BuildPipeline, ClusterSettings};
use crate::task_run::{API_VERSION, TaskRunCondition, TaskRunResult, WAITING};

/// The kind of PipelineRuns.
const KIND: &str = "PipelineRun";
/// The result with the digest of what was built.
pub const DIGEST: &str = "digest";
/// The workspace with the order.
const ORDER: &str = "order";

/// A PipelineRun of `tekton.dev/v1`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineRun {
    /// [`API_VERSION`].
    #[serde(default)]
    pub api_version: String,
    /// `PipelineRun`.
    #[serde(default)]
    pub kind: String,
    /// Name and labels.
    pub metadata: ObjectMeta,
    /// What it runs; only written.
    pub spec: Value,
    /// What became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<PipelineRunStatus>,
}

/// The status of a PipelineRun, in part.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PipelineRunStatus {
    /// `Succeeded` is the only one.
    pub conditions: Vec<TaskRunCondition>,
    /// The results of the Pipeline.
    pub results: Vec<TaskRunResult>,
}

custom_kind!(PipelineRun, "tekton.dev", "v1", KIND, "pipelineruns");

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
    mut metadata: ObjectMeta,
    parameters: &[(&str, String)],
    within: std::time::Duration,
    (build, settings): (&BuildPipeline, &ClusterSettings),
) -> PipelineRun {
    metadata.namespace = Some(settings.namespace.clone());
    if let Some(labels) = &mut metadata.labels
        && let Some(server) = labels.remove(SERVER)
    {
        labels.insert(PIPELINE_OF.to_owned(), server);
    }
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
    PipelineRun { api_version: API_VERSION.to_owned(), kind: KIND.to_owned(), metadata, spec, status: None }
}
