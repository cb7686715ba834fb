//! The objects of a job, for people who create them by hand: the same TaskRun, Pods and Secrets as those of
//! the executor, under names and labels of their own, so that no server takes them for its jobs.

use std::collections::BTreeMap;

use edgewright_job::{ExecutorError, Exported, JobRegistry, exported_order};
use edgewright_lab::runner_order;
use edgewright_model::order::{JobRequest, LaneOrder, ManifestRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

use crate::lane::image::Start;
use crate::lane::{self, pod};
use crate::names::{Attempt, OrderId, Part};
use crate::order;
use crate::settings::{ClusterSettings, Place};
use crate::split::Split;
use crate::task_run::{secret_key, task_run};

/// The server's name in the labels of exported objects.
const SERVER: &str = "export";

/// The objects that run a job whose result, or what it tests, is `built`.
pub(crate) async fn export(
    settings: &ClusterSettings,
    registry: &JobRegistry,
    request: JobRequest,
    (built, with_token): (&ManifestRef, bool),
) -> Result<Exported, ExecutorError> {
    let settings = ClusterSettings { server: SERVER.to_owned(), ..settings.clone() };
    let split = Split::of(&request, |lane| Some((settings.lanes)(lane)?.0));
    let id = OrderId::of(&request, &settings.server, &settings.image);
    let mut exported = Exported::default();
    if split.has_job() {
        exported.add(job(&settings, registry, &split.job, (&id, with_token))?);
    }
    for order in &split.machines {
        if (settings.lanes)(order.lane).is_some_and(|(place, _)| place == Place::Pod) {
            exported.add(machine(&settings, registry, &request, (order, built)).await?);
        } else {
            exported.notes.push(format!("lane {} left out: it is no Pod", order.lane));
        }
    }
    Ok(exported)
}

/// The TaskRun of the steps, after its Secret.
fn job(
    settings: &ClusterSettings,
    registry: &JobRegistry,
    request: &JobRequest,
    (id, with_token): (&OrderId, bool),
) -> Result<Exported, ExecutorError> {
    let secrets: Vec<String> = settings.secrets.files(&request.task).into_keys().collect();
    let attempt = Attempt { order: id.clone(), part: Part::Job, number: 1 };
    let run = task_run(&attempt, request, &secrets, settings);
    let (order, credential) = exported_order(registry, request.clone(), with_token);
    let secret = order::secret(&run.metadata, None, &order, BTreeMap::new())?;
    let mut notes: Vec<String> = secrets
        .iter()
        .map(|id| format!("build secret `{id}` left out: add it to the Secret as `{}`", secret_key(id)))
        .collect();
    if !with_token {
        notes.push(
            "no token: the job can read from the registry what everyone can, and cannot push".to_owned(),
        );
    }
    Ok(Exported {
        objects: vec![object("v1", "Secret", &secret)?, value(&run)?],
        notes,
        credentials: vec![credential],
    })
}

/// The Pod of a lane, after its Secret.
async fn machine(
    settings: &ClusterSettings,
    registry: &JobRegistry,
    request: &JobRequest,
    (order, built): (&LaneOrder, &ManifestRef),
) -> Result<Exported, ExecutorError> {
    // Only used here: to read the image's config.
    let (access, _credential) = registry.order(request.clone());
    let start = Start::read(&lane::client(access.registry).await?, built).await?;
    let id = OrderId::of_lane(request, (order, built), &settings.server, &settings.image);
    let attempt = Attempt { order: id, part: Part::Lane(order.lane), number: 1 };
    let pod = pod::pod(&attempt, request, (built, &start), settings);
    let starts = Some(start.described().to_string());
    let checks = runner_order(order, (order.within.get(), 1.0), starts).map_err(ExecutorError::Order)?;
    let secret = pod::secret(&meta(&pod.metadata), None, checks);
    Ok(Exported {
        objects: vec![object("v1", "Secret", &secret)?, object("v1", "Pod", &pod)?],
        ..Exported::default()
    })
}

fn meta(of: &ObjectMeta) -> ObjectMeta {
    ObjectMeta { annotations: None, ..of.clone() }
}

fn object(version: &str, kind: &str, object: &impl Serialize) -> Result<Value, ExecutorError> {
    let mut value = value(object)?;
    value["apiVersion"] = version.into();
    value["kind"] = kind.into();
    Ok(value)
}

fn value(object: &impl Serialize) -> Result<Value, ExecutorError> {
    serde_json::to_value(object).map_err(ExecutorError::Order)
}

#[cfg(test)]
mod tests {
    use edgewright_job::conformance::image_request;
    use edgewright_model::Digest;
    use edgewright_model::order::Task;

    use super::*;
    use crate::settings::tests::sample;

    #[tokio::test]
    async fn an_exported_job_is_no_job_of_the_server_and_has_no_token() {
        let mut request = image_request(1, "hmi/plant-a").unwrap();
        let Task::Image(task) = &mut request.task else { panic!("it is an image's") };
        task.lanes.clear();
        let built = ManifestRef { repository: "plants/hmi".parse().unwrap(), digest: Digest::of("m") };
        let registry = JobRegistry {
            url: "http://images.example".to_owned(),
            credentials: std::sync::Arc::new(edgewright_job::FixedCredentials::new("s3cret".to_owned())),
        };
        let token = async |with_token| {
            let exported = export(&sample(), &registry, request.clone(), (&built, with_token)).await.unwrap();
            let [secret, run] = &exported.objects[..] else { panic!("{:?}", exported.objects) };
            assert_eq!((&secret["kind"], &run["kind"]), (&"Secret".into(), &"TaskRun".into()));
            assert_eq!(secret["metadata"]["name"], run["metadata"]["name"]);
            assert_eq!(run["metadata"]["labels"][crate::names::SERVER], SERVER);
            assert_eq!(secret["metadata"]["ownerReferences"], Value::Null);
            let secret = serde_json::from_value(secret.clone()).unwrap();
            (order::token(&secret), exported.notes.len())
        };
        assert_eq!(token(false).await, (None, 1));
        assert_eq!(token(true).await, (Some("s3cret".to_owned()), 0));
    }
}
