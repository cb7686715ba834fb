//! Shipwright's Build and BuildRun: the parts of them that we write and read, and those of a step.
//!
//! Shipwright fails a BuildRun whose Secret does not exist yet. So a Build is made first, which owns both:
//! Build, Secret, BuildRun.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::custom::{Custom, CustomKind};
use crate::platform::Wanted;
use crate::settings::{ClusterSettings, PlatformBuild};
use crate::task_run::{TaskRunCondition, WAITING};

/// The volume with the order, which the strategy lets a Build override.
const ORDER: &str = "order";
/// What a strategy gets by a system parameter of Shipwright.
const OUTPUT: [&str; 2] = ["image", "plain-http"];
/// The parameters that a strategy declares; the others are in the order only.
const PARAMETERS: [&str; 2] = ["base", "platform"];

/// The group and version of both.
pub const API_VERSION: &str = "shipwright.io/v1beta1";

/// A Build.
pub type Build = Custom<BuildStatus>;
/// A BuildRun.
pub type BuildRun = Custom<BuildRunStatus>;

/// The status of a Build; nothing of it is read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildStatus {}

/// The status of a BuildRun, in part.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildRunStatus {
    /// `Succeeded` is the only one.
    pub conditions: Vec<TaskRunCondition>,
    /// What was pushed.
    pub output: BuildRunOutput,
    /// Why the strategy's step failed, if it wrote that.
    pub failure_details: Option<FailureDetails>,
}

/// What was pushed, by the results of the strategy's steps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildRunOutput {
    /// The digest of the manifest; empty if no step wrote it.
    pub digest: String,
}

/// Why a step failed, in its own words.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureDetails {
    /// A sentence.
    pub message: String,
}

impl CustomKind for BuildStatus {
    const GROUP: &'static str = "shipwright.io";
    const KIND: &'static str = "Build";
    const PLURAL: &'static str = "builds";
    const VERSION: &'static str = "v1beta1";
}

impl CustomKind for BuildRunStatus {
    const GROUP: &'static str = "shipwright.io";
    const KIND: &'static str = "BuildRun";
    const PLURAL: &'static str = "buildruns";
    const VERSION: &'static str = "v1beta1";
}

impl BuildRun {
    /// The condition `Succeeded`, with the words of the step that failed.
    pub(crate) fn succeeded(&self) -> TaskRunCondition {
        let status = self.status.clone().unwrap_or_default();
        let found = status.conditions.into_iter().find(|condition| condition.kind == "Succeeded");
        let mut condition = found.unwrap_or_default();
        let words = status.failure_details.map(|details| details.message).unwrap_or_default();
        if condition.status == "False" && !words.is_empty() {
            condition.message = words;
        }
        condition
    }

    /// The digest of what was pushed.
    pub(crate) fn digest(&self) -> Option<String> {
        let digest = self.status.as_ref()?.output.digest.trim();
        (!digest.is_empty()).then(|| digest.to_owned())
    }
}

/// The Build of a step, which owns its Secret and its BuildRun.
pub(crate) fn build(
    wanted: &Wanted,
    metadata: ObjectMeta,
    (build, settings): (&PlatformBuild, &ClusterSettings),
) -> Build {
    let values = wanted.parameters.iter().filter(|(name, _)| PARAMETERS.contains(name));
    let values: Vec<Value> = values.map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let [image, insecure] = OUTPUT.map(|wanted_name| {
        let found = wanted.parameters.iter().find(|(name, _)| *name == wanted_name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    });
    let spec = json!({
        "strategy": { "name": build.name, "kind": "ClusterBuildStrategy" },
        "paramValues": values,
        "output": { "image": image, "insecure": insecure == "true" },
        "volumes": [{ "name": ORDER, "secret": { "secretName": metadata.name } }],
        "timeout": format!("{}s", (wanted.within + WAITING).as_secs()),
    });
    let metadata = ObjectMeta { namespace: Some(settings.namespace.clone()), ..metadata };
    Build::new(metadata, spec)
}

/// The BuildRun of a Build, once the order is there.
pub(crate) fn build_run(
    build: &PlatformBuild,
    (metadata, owner): (ObjectMeta, OwnerReference),
    settings: &ClusterSettings,
) -> BuildRun {
    let mut spec = json!({ "build": { "name": metadata.name } });
    if let Some(account) = &build.service_account {
        spec["serviceAccount"] = json!(account);
    }
    let metadata = ObjectMeta {
        namespace: Some(settings.namespace.clone()),
        owner_references: Some(vec![owner]),
        ..metadata
    };
    BuildRun::new(metadata, spec)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::Builder;
    use crate::settings::tests::sample;

    #[test]
    fn a_strategy_gets_the_repository_as_its_output_and_the_order_as_a_volume() {
        let wanted = Wanted {
            metadata: ObjectMeta { name: Some("ew-1".to_owned()), ..ObjectMeta::default() },
            parameters: vec![
                ("base", "r.example/os@sha256:1".to_owned()),
                ("image", "r.example/os".to_owned()),
                ("platform", "linux/amd64".to_owned()),
                ("node", "hmi".to_owned()),
                ("plain-http", "true".to_owned()),
            ],
            within: Duration::from_mins(1),
        };
        let strategy = PlatformBuild {
            by: Builder::Strategy,
            name: "hardened".to_owned(),
            revision: "1".to_owned(),
            service_account: Some("builder".to_owned()),
        };
        let made = build(&wanted, wanted.metadata.clone(), (&strategy, &sample()));
        assert_eq!(made.api_version, API_VERSION);
        assert_eq!(
            made.spec,
            json!({
                "strategy": { "name": "hardened", "kind": "ClusterBuildStrategy" },
                "paramValues": [
                    { "name": "base", "value": "r.example/os@sha256:1" },
                    { "name": "platform", "value": "linux/amd64" },
                ],
                "output": { "image": "r.example/os", "insecure": true },
                "volumes": [{ "name": "order", "secret": { "secretName": "ew-1" } }],
                "timeout": "3660s",
            })
        );
        let owner = OwnerReference { name: "ew-1".to_owned(), ..OwnerReference::default() };
        let run = build_run(&strategy, (wanted.metadata, owner.clone()), &sample());
        assert_eq!(run.metadata.owner_references, Some(vec![owner]), "it ends with its Build");
        assert_eq!(run.spec, json!({ "build": { "name": "ew-1" }, "serviceAccount": "builder" }));
    }

    #[test]
    fn the_words_of_the_failed_step_are_the_message() {
        let status = json!({
            "conditions": [{ "type": "Succeeded", "status": "False", "reason": "Failed", "message": "exit 1" }],
            "failureDetails": { "reason": "Lint", "message": "no user is set" },
            "output": { "size": 1 },
        });
        let status: BuildRunStatus = serde_json::from_value(status).unwrap();
        let run = BuildRun { status: Some(status), ..BuildRun::new(ObjectMeta::default(), Value::Null) };
        assert_eq!((run.succeeded().message.as_str(), run.digest()), ("no user is set", None));
    }
}
