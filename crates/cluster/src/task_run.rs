//! Tekton's TaskRun: the parts of it that we write and read, and the one of a job.

use std::time::Duration;

use edgewright_model::order::{JOB_ENVIRONMENT, JobRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::custom::{Custom, CustomKind};
use crate::names::{Attempt, Part};
use crate::settings::{ClusterSettings, Resources};

/// Where the order is in a job's Pod.
pub const ORDER_FOLDER: &str = "/run/edgewright/order";
/// The key of the order in its Secret.
pub const ORDER_KEY: &str = "order.json.zst";
/// The work folder in a job's Pod.
const WORK: &str = "/work";
/// Where base images of earlier jobs are in a job's Pod.
const BASES: &str = "/bases";
/// The name of the only step; its container is `step-job`.
const STEP: &str = "job";
/// The container of the step.
pub const CONTAINER: &str = "step-job";
/// The result with the digest of the report.
pub const REPORT: &str = "report";
/// The result with the digest of the manifest that was built.
const DIGEST: &str = "digest";
/// How long a TaskRun may wait for a quota, a node and its image. Tekton's own limit covers this time, too.
pub(crate) const WAITING: Duration = Duration::from_hours(1);
/// The time that a job has after its order's limit, to report it and clean up.
pub(crate) const OVERTIME: Duration = Duration::from_mins(1);

/// The group and version of TaskRuns.
pub const API_VERSION: &str = "tekton.dev/v1";

/// A TaskRun of `tekton.dev/v1`.
pub type TaskRun = Custom<TaskRunStatus>;

/// The status of a TaskRun, in part.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskRunStatus {
    /// `Succeeded` is the only one.
    pub conditions: Vec<TaskRunCondition>,
    /// Its Pod, once there is one.
    pub pod_name: Option<String>,
    /// Its steps.
    pub steps: Vec<StepState>,
    /// What the steps wrote as results.
    pub results: Vec<TaskRunResult>,
}

/// A condition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskRunCondition {
    /// `Succeeded`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// A word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// The state of a step's container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StepState {
    /// The container's name.
    pub container: String,
    /// How it ended, if it did.
    pub terminated: Option<Terminated>,
}

/// How a container ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// Its exit code.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`.
    pub reason: Option<String>,
}

/// A result.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskRunResult {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

impl CustomKind for TaskRunStatus {
    const GROUP: &'static str = "tekton.dev";
    const KIND: &'static str = "TaskRun";
    const PLURAL: &'static str = "taskruns";
}

impl TaskRun {
    /// The condition `Succeeded`, once Tekton has seen it.
    pub(crate) fn succeeded(&self) -> Option<&TaskRunCondition> {
        self.status.as_ref()?.conditions.iter().find(|condition| condition.kind == "Succeeded")
    }

    /// The digest of the report that the job wrote, if it ended well.
    pub(crate) fn report(&self) -> Option<&str> {
        let results = &self.status.as_ref()?.results;
        results.iter().find(|result| result.name == REPORT)?.value.as_str().map(str::trim)
    }
}

/// The TaskRun of a job's steps.
pub(crate) fn task_run(
    attempt: &Attempt,
    request: &JobRequest,
    secrets: &[String],
    settings: &ClusterSettings,
) -> TaskRun {
    let mut metadata = attempt.meta(&settings.server, request);
    metadata.namespace = Some(settings.namespace.clone());
    let mut command = settings.command.clone();
    let order = format!("{ORDER_FOLDER}/{ORDER_KEY}");
    command.extend(["--order".to_owned(), order, "--report".to_owned(), format!("$(results.{REPORT}.path)")]);
    command.extend(["--digest".to_owned(), format!("$(results.{DIGEST}.path)")]);
    command.extend(["--work".to_owned(), WORK.to_owned()]);
    if attempt.part == Part::Machine {
        command.push("--machine".to_owned());
    }
    let (volumes, mounts, bases) = volumes(bases(attempt, request, settings));
    command.extend(bases);
    for id in secrets {
        command.extend(["--secret".to_owned(), format!("{id}={ORDER_FOLDER}/{}", secret_key(id))]);
    }
    let limit = request.within.get() + OVERTIME + WAITING;
    let mut spec = json!({
        "timeout": format!("{}s", limit.as_secs()),
        "podTemplate": {
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "imagePullSecrets": pull_secrets(settings),
        },
        "workspaces": [{ "name": "order", "secret": { "secretName": metadata.name } }],
        "taskSpec": {
            "workspaces": [{ "name": "order", "mountPath": ORDER_FOLDER, "readOnly": true }],
            "results": [
                { "name": REPORT, "type": "string", "description": "The digest of the job's report." },
                { "name": DIGEST, "type": "string", "description": "The digest of the image, if one was built." },
            ],
            "volumes": volumes,
            "steps": [{
                "name": STEP,
                "image": settings.image,
                "command": command,
                "env": [{ "name": JOB_ENVIRONMENT, "value": request.job.to_string() }],
                "volumeMounts": mounts,
                "computeResources": resources(&settings.job),
                // Steps mount and change roots; what the runtime filters stays filtered.
                "securityContext": {
                    "runAsUser": 0,
                    "capabilities": { "add": ["SYS_ADMIN"] },
                    "seccompProfile": { "type": "RuntimeDefault" },
                },
            }],
        },
    });
    if let Some(account) = &settings.service_account {
        spec["serviceAccountName"] = json!(account);
    }
    TaskRun::new(metadata, spec)
}

/// The volumes of a job, where they are mounted, and the arguments that name what need not be there.
fn volumes(bases: Option<String>) -> (Vec<Value>, Vec<Value>, Vec<String>) {
    let mut volumes = vec![json!({ "name": "work", "emptyDir": {} })];
    let mut mounts = vec![json!({ "name": "work", "mountPath": WORK })];
    let Some(bases) = bases else { return (volumes, mounts, Vec::new()) };
    volumes.push(json!({ "name": "bases", "hostPath": { "path": bases, "type": "DirectoryOrCreate" } }));
    mounts.push(json!({ "name": "bases", "mountPath": BASES }));
    (volumes, mounts, vec!["--bases".to_owned(), BASES.to_owned()])
}

/// The folder of its node in which the base of a job stays. Trust domains share none: a job could change what
/// another one builds on.
fn bases(attempt: &Attempt, request: &JobRequest, settings: &ClusterSettings) -> Option<String> {
    let ClusterSettings { node_cache, namespace, server, .. } = settings;
    let folder = node_cache.as_ref().filter(|_| attempt.part == Part::Job)?;
    Some(format!("{}/{namespace}/{server}/{}", folder.trim_end_matches('/'), request.domain.folder()))
}

/// The key of a build secret in the order's Secret: ids may have characters that keys have not.
pub(crate) fn secret_key(id: &str) -> String {
    format!("secret-{}", edgewright_model::Digest::of(id).short())
}

fn pull_secrets(settings: &ClusterSettings) -> Value {
    settings.pull_secrets.iter().map(|name| json!({ "name": name })).collect()
}

fn resources(resources: &Resources) -> Value {
    let Resources { cpu, memory, memory_limit } = resources;
    let mut value = json!({ "requests": { "cpu": cpu, "memory": memory } });
    if let Some(limit) = memory_limit {
        value["limits"] = json!({ "memory": limit });
    }
    value
}

#[cfg(test)]
mod tests {
    use edgewright_job::conformance::image_request;

    use super::*;
    use crate::names::OrderId;
    use crate::settings::tests::sample;

    #[test]
    fn the_task_run_of_a_job() {
        let request = image_request(1, "hmi/plant-a").unwrap();
        let order = OrderId::of(&request, "plant", "image");
        let attempt = Attempt { order, part: Part::Job, number: 2 };
        insta::assert_json_snapshot!(task_run(&attempt, &request, &["npm token".to_owned()], &sample()));
    }
}
