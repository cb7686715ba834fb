//! A `containerfile` step that the platform builds, by a Pipeline or by a strategy of Shipwright: order in,
//! digest out.
//!
//! ```text
//! PipelineRun or BuildRun + Secret (order.json, Containerfile, …) ══ their steps ══▶ push by digest
//!      └ digest ─▶ checked against the registry: platform, layers of the base, labels ─▶ StepBuild
//! ```
//!
//! What they do is their owner's. Checked is what later steps and lanes build on; that the new layers are
//! those of the Containerfile is not known (decisions 0029 and 0032).

mod check;
mod order;

use edgewright_job::{ExecutorError, JobCredential};
use edgewright_model::Digest;
use edgewright_model::order::{Base, ImageTask, JobOrder, JobRequest, ManifestRef, StepOrder, Task};
use edgewright_model::outcome::{FailureKind, JobEvent, JobFailure, JobOutcome, Phase, StepBuild};
use edgewright_oci::Client;
use edgewright_process::CancellationToken;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::claims::Claim;
use crate::cluster::Found;
use crate::executor::Inner;
use crate::job::{Attempted, REMOVED, repeat, unless_cancelled};
use crate::lane;
use crate::names::{OrderId, PIPELINE_OF, Part, SERVER};
use crate::platform::{Platform, Progress, Wanted};
use crate::settings::PlatformBuild;
use crate::task_run::WAITING;

/// Has the platform build the only step of a request.
pub(crate) async fn run(
    inner: &Inner,
    build: &PlatformBuild,
    request: JobRequest,
    (events, cancel): (&mpsc::Sender<JobEvent>, &CancellationToken),
) -> Result<JobOutcome, ExecutorError> {
    // The credential lives as long as the job.
    let (order, _credential) = inner.registry.order(request.clone());
    edgewright_job::require_tools(&order, &inner.tools(events, cancel).await?)?;
    let client = lane::client(order.registry.clone()).await?;
    let Some(step) = Step::of(&request.task) else { return Ok(JobOutcome::empty()) };
    let _ = events.try_send(JobEvent::Phase { phase: Phase::Build, title: step.order.title.clone() });
    let id = OrderId::of(&request, &inner.settings.server, &inner.settings.image);
    let building =
        Building { inner, build, request: &request, order: &order, step, client: &client, events, cancel };
    repeat(events, cancel, || Box::pin(building.once(&id))).await
}

/// The step, and what it starts from.
#[derive(Debug, Clone, Copy)]
struct Step<'a> {
    task: &'a ImageTask,
    order: &'a StepOrder,
    base: Option<&'a ManifestRef>,
}

impl<'a> Step<'a> {
    fn of(task: &'a Task) -> Option<Self> {
        let Task::Image(task) = task else { return None };
        let base = if let Base::Manifest(manifest) = &task.base { Some(manifest) } else { None };
        Some(Self { task, order: task.steps.first()?, base })
    }
}

struct Building<'a> {
    inner: &'a Inner,
    build: &'a PlatformBuild,
    request: &'a JobRequest,
    order: &'a JobOrder,
    step: Step<'a>,
    client: &'a Client,
    events: &'a mpsc::Sender<JobEvent>,
    cancel: &'a CancellationToken,
}

impl Building<'_> {
    /// One attempt, with what follows it.
    async fn once(&self, id: &OrderId) -> Result<Attempted<JobOutcome>, ExecutorError> {
        let claim = self.inner.claim(id, Part::Pipeline, self.cancel).await?;
        let attempted = unless_cancelled(self.cancel, self.attempt(&claim)).await;
        self.inner.settle(claim, attempted).await
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempted<JobOutcome>, ExecutorError> {
        let Some(platform) = &self.inner.cluster.platform else {
            return Ok(Attempted::Again("the objects of the platform are not watched".to_owned()));
        };
        let begun = Instant::now();
        let _adopted = match self.start(platform, claim).await? {
            Attempted::Done(adopted) => adopted,
            Attempted::Again(why) => return Ok(Attempted::Again(why)),
        };
        let Progress { condition, digest } =
            match self.ended(platform, &claim.attempt().name(), begun).await? {
                Attempted::Done(progress) => progress,
                Attempted::Again(why) => return Ok(Attempted::Again(why)),
            };
        if condition.status != "True" {
            return Ok(judge(self.build, &condition.reason, &condition.message));
        }
        let _ = self
            .events
            .try_send(JobEvent::Phase { phase: Phase::Push, title: "the platform's image".to_owned() });
        let checked = match digest.map(|digest| digest.parse::<Digest>()) {
            Some(Ok(digest)) => self.check(digest).await?,
            Some(Err(_)) => Err("its result is not a digest".to_owned()),
            None => Err("it has no result with the digest".to_owned()),
        };
        Ok(Attempted::Done(match checked {
            Ok((manifest, manifest_size, image_size)) => {
                let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                let StepOrder { key, tools, .. } = self.step.order.clone();
                let build =
                    StepBuild { key, manifest, manifest_size, image_size, duration_ms, tools, kept: None };
                JobOutcome { builds: vec![build], ..JobOutcome::empty() }
            }
            Err(why) => failed(FailureKind::Infrastructure, self.build, &why),
        }))
    }

    /// Makes the objects, or finds those of an earlier process: the owner, its Secret, and what starts then.
    async fn start(
        &self,
        platform: &Platform,
        claim: &Claim,
    ) -> Result<Attempted<Option<JobCredential>>, ExecutorError> {
        let (inner, settings) = (self.inner, &self.inner.settings);
        let kind = self.build.by.run_kind();
        let mut metadata = claim.attempt().meta(&settings.server, self.request);
        if let Some(labels) = &mut metadata.labels
            && let Some(server) = labels.remove(SERVER)
        {
            labels.insert(PIPELINE_OF.to_owned(), server);
        }
        let within = self.request.within.get();
        let wanted = Wanted { metadata, parameters: self.parameters(), within };
        let by = (self.build, settings);
        let doing = format!("create the {kind}");
        let created = inner.patiently(&doing, self.events, || Box::pin(platform.create(&wanted, by)));
        let (found, owner, is_new) = created.await?;
        if found.deletion_timestamp.is_some() {
            return Ok(Attempted::Again(format!("an earlier {kind} of this name is being removed")));
        }
        let name = owner.name.clone();
        let line = format!("[{kind} {name} in namespace {}]", settings.namespace);
        let _ = self.events.try_send(JobEvent::Log { line });
        let order = match self.send(&wanted, &owner, is_new).await? {
            Attempted::Done(order) => order,
            Attempted::Again(why) => return Ok(Attempted::Again(why)),
        };
        let begun =
            inner.patiently(&doing, self.events, || Box::pin(platform.begin(&wanted, owner.clone(), by)));
        begun.await?;
        Ok(Attempted::Done(order))
    }

    /// Makes the Secret with the order, or takes the one of an earlier process.
    async fn send(
        &self,
        wanted: &Wanted,
        owner: &OwnerReference,
        is_new: Found,
    ) -> Result<Attempted<Option<JobCredential>>, ExecutorError> {
        let (inner, name) = (self.inner, owner.name.clone());
        if is_new == Found::There {
            let secret =
                inner.patiently("read the order", self.events, || Box::pin(inner.cluster.secret(&name)));
            if let Some(secret) = secret.await? {
                let kind = self.build.by.run_kind();
                tracing::info!(job.id = %self.request.job, kind, name, "found a build of an earlier process");
                let token = secret
                    .data
                    .as_ref()
                    .and_then(|data| String::from_utf8(data.get("token")?.0.clone()).ok());
                let adopted = token.map(|token| inner.registry.credentials.adopt(self.request, &token));
                return Ok(Attempted::Done(adopted));
            }
        }
        let data = self.secret()?;
        let metadata = ObjectMeta {
            name: Some(name),
            owner_references: Some(vec![owner.clone()]),
            labels: wanted.metadata.labels.clone(),
            ..ObjectMeta::default()
        };
        let secret = Secret { metadata, immutable: Some(true), data: Some(data), ..Secret::default() };
        let cluster = &inner.cluster;
        let made =
            inner.patiently("create the order", self.events, || Box::pin(cluster.create_secret(&secret)));
        Ok(match made.await? {
            Found::New => Attempted::Done(None),
            Found::There => Attempted::Again("an earlier Secret of this name is being removed".to_owned()),
        })
    }

    /// Waits for the end, and shows what the platform reports until then.
    async fn ended(
        &self,
        platform: &Platform,
        name: &str,
        begun: Instant,
    ) -> Result<Attempted<Progress>, ExecutorError> {
        let until = begun + self.request.within.get() + WAITING;
        let mut changes = self.inner.cluster.changes();
        let (mut seen, mut shown) = (false, String::new());
        loop {
            changes.mark_unchanged();
            match platform.progress(name) {
                None if seen => return Ok(Attempted::Again(REMOVED.to_owned())),
                None => {}
                Some(progress) => {
                    seen = true;
                    let condition = &progress.condition;
                    if !condition.message.is_empty() && condition.message != shown {
                        let _ =
                            self.events.try_send(JobEvent::Log { line: format!("[{}]", condition.message) });
                        shown.clone_from(&condition.message);
                    }
                    if matches!(condition.status.as_str(), "True" | "False") {
                        return Ok(Attempted::Done(progress));
                    }
                }
            }
            match timeout_at(until, changes.changed()).await {
                Ok(Ok(())) => {}
                // The server is stopping: this job is dropped with it.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => {
                    return Err(ExecutorError::TimeLimit {
                        within: self.request.within,
                        phase: Some(Phase::Build),
                    });
                }
            }
        }
    }
}

/// What a PipelineRun or a BuildRun that did not succeed means.
fn judge(build: &PlatformBuild, reason: &str, message: &str) -> Attempted<JobOutcome> {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match reason {
        "Cancelled" | "CancelledRunFinally" | "StoppedRunFinally" | "BuildRunCanceled" => {
            Attempted::Again(format!("the {} was cancelled by another client", build.by.run_kind()))
        }
        // The node's end, and not the step's.
        "PodEvicted" | "TaskRunIsMissing" => Attempted::Again(format!("{reason}: {message}")),
        // A task or a step of it failed, which building again does not change.
        "Failed" | "StepFailed" => Attempted::Done(failed(FailureKind::Image, build, &message)),
        reason => {
            let why = format!("{reason}: {message}");
            Attempted::Done(failed(FailureKind::Infrastructure, build, &why))
        }
    }
}

fn failed(kind: FailureKind, build: &PlatformBuild, why: &str) -> JobOutcome {
    let (builder, run) = (build.by.kind(), build.by.run_kind());
    let failure = JobFailure {
        kind,
        phase: Phase::Build,
        message: format!("the {builder} `{}` did not build the image: {why}", build.name),
        hint: Some(format!("see the {run} that the job's log names")),
        output: Vec::new(),
    };
    JobOutcome { failure: Some(failure), ..JobOutcome::empty() }
}

fn platform(message: String, hint: Option<&str>) -> ExecutorError {
    ExecutorError::Platform { message, hint: hint.map(str::to_owned), output: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Builder;

    #[test]
    fn only_a_task_that_failed_is_the_images_fault() {
        let (name, revision) = ("build".to_owned(), "1".to_owned());
        let build = PlatformBuild { by: Builder::Strategy, name, revision, service_account: None };
        let kind = |reason| match judge(&build, reason, "Tasks Completed: 1 (Failed: 1)") {
            Attempted::Done(outcome) => Some(outcome.failure.unwrap().kind),
            Attempted::Again(_) => None,
        };
        assert_eq!(kind("Failed"), Some(FailureKind::Image));
        assert_eq!(kind("StepFailed"), Some(FailureKind::Image), "Tekton 1.12 through Shipwright 0.19");
        assert_eq!(kind("PipelineRunTimeout"), Some(FailureKind::Infrastructure));
        assert_eq!(kind("CouldntGetPipeline"), Some(FailureKind::Infrastructure));
        assert_eq!(kind("ClusterBuildStrategyNotFound"), Some(FailureKind::Infrastructure));
        assert_eq!(kind("StepOutOfMemory"), Some(FailureKind::Infrastructure));
        for reason in ["Cancelled", "BuildRunCanceled", "PodEvicted"] {
            assert_eq!(kind(reason), None, "{reason}");
        }
    }
}
