//! A `containerfile` step that a Pipeline of the platform builds: order in, digest out.
//!
//! ```text
//! PipelineRun + Secret (order.json, Containerfile, context.tar, …) ══ their tasks ══▶ push by digest
//!      └ result `digest` ─▶ checked against the registry: platform, layers of the base, labels ─▶ StepBuild
//! ```
//!
//! What the Pipeline does is its owner's. Checked is what later steps and lanes build on; that the new layers
//! are those of the Containerfile is not known (decision 0029).

mod check;
mod order;

use edgewright_job::{ExecutorError, JobCredential};
use edgewright_model::Digest;
use edgewright_model::order::{Base, ImageTask, JobOrder, JobRequest, ManifestRef, StepOrder, Task};
use edgewright_model::outcome::{FailureKind, JobEvent, JobFailure, JobOutcome, Phase, StepBuild};
use edgewright_oci::Client;
use edgewright_process::CancellationToken;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::claims::Claim;
use crate::cluster::{Found, Kind};
use crate::executor::Inner;
use crate::job::{Attempted, REMOVED, repeat, unless_cancelled};
use crate::lane;
use crate::names::{OrderId, Part, owner};
use crate::pipeline_run::{DIGEST, PipelineRun, pipeline_run};
use crate::settings::BuildPipeline;
use crate::task_run::WAITING;

/// Has the Pipeline build the only step of a request.
pub(crate) async fn run(
    inner: &Inner,
    build: &BuildPipeline,
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
    build: &'a BuildPipeline,
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
        let Some(kind) = &self.inner.cluster.pipeline_runs else {
            return Ok(Attempted::Again("PipelineRuns are not watched".to_owned()));
        };
        let begun = Instant::now();
        let _adopted = match self.start(kind, claim).await? {
            Attempted::Done(adopted) => adopted,
            Attempted::Again(why) => return Ok(Attempted::Again(why)),
        };
        let run = match self.ended(kind, &claim.attempt().name(), begun).await? {
            Attempted::Done(run) => run,
            Attempted::Again(why) => return Ok(Attempted::Again(why)),
        };
        let condition = run.succeeded().cloned().unwrap_or_default();
        if condition.status != "True" {
            return Ok(judge(&self.build.name, &condition.reason, &condition.message));
        }
        let _ = self
            .events
            .try_send(JobEvent::Phase { phase: Phase::Push, title: "the Pipeline's image".to_owned() });
        let checked = match run.digest().map(str::parse::<Digest>) {
            Some(Ok(digest)) => self.check(digest).await?,
            Some(Err(_)) => Err(format!("its result `{DIGEST}` is not a digest")),
            None => Err(format!("it has no result `{DIGEST}`")),
        };
        Ok(Attempted::Done(match checked {
            Ok((manifest, manifest_size, image_size)) => {
                let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                let StepOrder { key, tools, .. } = self.step.order.clone();
                let build =
                    StepBuild { key, manifest, manifest_size, image_size, duration_ms, tools, kept: None };
                JobOutcome { builds: vec![build], ..JobOutcome::empty() }
            }
            Err(why) => failed(FailureKind::Infrastructure, &self.build.name, &why),
        }))
    }

    /// Makes the PipelineRun and then its Secret, or finds those of an earlier process.
    async fn start(
        &self,
        kind: &Kind<PipelineRun>,
        claim: &Claim,
    ) -> Result<Attempted<Option<JobCredential>>, ExecutorError> {
        let (inner, settings) = (self.inner, &self.inner.settings);
        let meta = claim.attempt().meta(&settings.server, self.request);
        let within = self.request.within.get();
        let wanted = pipeline_run(meta, &self.parameters(), within, (self.build, settings));
        let created =
            inner.patiently("create the PipelineRun", self.events, || Box::pin(kind.create(&wanted)));
        let (found, is_new) = created.await?;
        if found.metadata.deletion_timestamp.is_some() {
            return Ok(Attempted::Again("an earlier PipelineRun of this name is being removed".to_owned()));
        }
        let name = found.name_any();
        let line = format!("[PipelineRun {name} in namespace {}]", settings.namespace);
        let _ = self.events.try_send(JobEvent::Log { line });
        if is_new == Found::There {
            let secret =
                inner.patiently("read the order", self.events, || Box::pin(inner.cluster.secret(&name)));
            if let Some(secret) = secret.await? {
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
            owner_references: Some(vec![owner(&found)]),
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

    /// Waits for the end of the PipelineRun, and shows what Tekton reports until then.
    async fn ended(
        &self,
        kind: &Kind<PipelineRun>,
        name: &str,
        begun: Instant,
    ) -> Result<Attempted<PipelineRun>, ExecutorError> {
        let until = begun + self.request.within.get() + WAITING;
        let mut changes = self.inner.cluster.changes();
        let (mut seen, mut shown) = (false, String::new());
        loop {
            changes.mark_unchanged();
            match kind.get(name) {
                None if seen => return Ok(Attempted::Again(REMOVED.to_owned())),
                None => {}
                Some(run) => {
                    seen = true;
                    let condition = run.succeeded().cloned().unwrap_or_default();
                    if !condition.message.is_empty() && condition.message != shown {
                        let _ =
                            self.events.try_send(JobEvent::Log { line: format!("[{}]", condition.message) });
                        shown.clone_from(&condition.message);
                    }
                    if matches!(condition.status.as_str(), "True" | "False") {
                        return Ok(Attempted::Done((*run).clone()));
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

/// What a PipelineRun that did not succeed means.
fn judge(pipeline: &str, reason: &str, message: &str) -> Attempted<JobOutcome> {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match reason {
        "Cancelled" | "CancelledRunFinally" | "StoppedRunFinally" => {
            Attempted::Again("the PipelineRun was cancelled by another client".to_owned())
        }
        // A task of it failed, which building again does not change.
        "Failed" => Attempted::Done(failed(FailureKind::Image, pipeline, &message)),
        reason => {
            let why = format!("{reason}: {message}");
            Attempted::Done(failed(FailureKind::Infrastructure, pipeline, &why))
        }
    }
}

fn failed(kind: FailureKind, pipeline: &str, why: &str) -> JobOutcome {
    let failure = JobFailure {
        kind,
        phase: Phase::Build,
        message: format!("the Pipeline `{pipeline}` did not build the image: {why}"),
        hint: Some("see the PipelineRun that the job's log names".to_owned()),
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

    #[test]
    fn only_a_task_that_failed_is_the_images_fault() {
        let kind = |reason| match judge("build", reason, "Tasks Completed: 1 (Failed: 1)") {
            Attempted::Done(outcome) => Some(outcome.failure.unwrap().kind),
            Attempted::Again(_) => None,
        };
        assert_eq!(kind("Failed"), Some(FailureKind::Image));
        assert_eq!(kind("PipelineRunTimeout"), Some(FailureKind::Infrastructure));
        assert_eq!(kind("CouldntGetPipeline"), Some(FailureKind::Infrastructure));
        assert_eq!(kind("Cancelled"), None);
    }
}
