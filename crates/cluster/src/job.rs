//! A job's steps as a TaskRun, and what else of a job needs no machine. Attempts are repeated for reasons of
//! the infrastructure only.

use std::sync::Arc;
use std::time::Duration;

use edgewright_job::{BoxFuture, ExecutorError, JobCredential};
use edgewright_model::order::{JobOrder, JobRequest};
use edgewright_model::outcome::{JobEvent, JobOutcome};
use edgewright_process::{Backoff, CancellationToken, Ended};
use kube::ResourceExt as _;
use tokio::sync::mpsc;

use crate::claims::Claim;
use crate::cluster::Found;
use crate::executor::Inner;
use crate::follow::{Followed, Target, follow};
use crate::log::JobLog;
use crate::names::{OrderId, Part, owner};
use crate::order;
use crate::stage::{self, End, Stage, Wait};
use crate::task_run::{CONTAINER, OVERTIME, task_run};

/// How many attempts one job has.
const ATTEMPTS: u32 = 3;
/// Between two attempts.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(30));

/// Why an attempt ended whose objects are not there any more.
pub(crate) const REMOVED: &str = "its objects were removed by another client";

/// What an attempt gave.
pub(crate) enum Attempted<T> {
    /// A result.
    Done(T),
    /// The infrastructure did not run it to its end: why.
    Again(String),
}

/// The result of some work; cancelling ends it.
pub(crate) async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, ExecutorError>>,
) -> Result<T, ExecutorError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(ExecutorError::Cancelled),
        done = work => done,
    }
}

/// Attempts until one has a result.
pub(crate) async fn repeat<'a, T>(
    events: &mpsc::Sender<JobEvent>,
    cancel: &CancellationToken,
    mut attempt: impl FnMut() -> BoxFuture<'a, Result<Attempted<T>, ExecutorError>>,
) -> Result<T, ExecutorError> {
    for number in 1.. {
        let why = match attempt().await? {
            Attempted::Done(done) => return Ok(done),
            Attempted::Again(why) => why,
        };
        if number >= ATTEMPTS {
            return Err(ExecutorError::Platform {
                message: format!("the cluster ended {number} attempts, the last one: {why}"),
                hint: Some("see the events of the namespace: `kubectl get events`".to_owned()),
                output: Vec::new(),
            });
        }
        tracing::warn!(attempt = number, why, "an attempt was ended by the cluster, will retry");
        // A slow reader misses lines.
        let _ = events.try_send(JobEvent::Log { line: format!("[attempt {number}: {why}; trying again]") });
        tokio::select! {
            () = cancel.cancelled() => return Err(ExecutorError::Cancelled),
            () = tokio::time::sleep(AGAIN.pause(number)) => {}
        }
    }
    unreachable!("the last attempt returns")
}

/// One job.
pub(crate) struct Job<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) request: JobRequest,
    pub(crate) order: JobOrder,
    pub(crate) events: &'a mpsc::Sender<JobEvent>,
    pub(crate) cancel: &'a CancellationToken,
    /// The steps, or the machine of an image.
    pub(crate) part: Part,
}

impl Job<'_> {
    /// Runs it as TaskRuns. When it is cancelled, its objects are removed before this returns.
    pub(crate) async fn run(&self) -> Result<JobOutcome, ExecutorError> {
        let settings = &self.inner.settings;
        edgewright_job::require_tools(&self.order, &self.inner.tools(self.events, self.cancel).await?)?;
        let id = OrderId::of(&self.request, &settings.server, &settings.image);
        self.run_as(&id).await
    }

    /// Runs it as the TaskRuns of an order.
    pub(crate) async fn run_as(&self, id: &OrderId) -> Result<JobOutcome, ExecutorError> {
        repeat(self.events, self.cancel, || Box::pin(self.once(id))).await
    }

    /// One attempt, with what follows it.
    async fn once(&self, id: &OrderId) -> Result<Attempted<JobOutcome>, ExecutorError> {
        let claim = self.inner.claim(id, self.part, self.cancel).await?;
        let attempted = unless_cancelled(self.cancel, self.attempt(&claim)).await;
        self.inner.settle(claim, attempted).await
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempted<JobOutcome>, ExecutorError> {
        let name = claim.attempt().name();
        let adopted = match self.start(claim).await? {
            Attempted::Done(adopted) => adopted,
            Attempted::Again(why) => return Ok(Attempted::Again(why)),
        };
        let cluster = &self.inner.cluster;
        let stage = || {
            let run = cluster.task_runs.get(&name)?;
            let pod_name = run.status.as_ref().and_then(|status| status.pod_name.clone());
            let pod = cluster.pods.get(pod_name.as_deref().unwrap_or(&format!("{name}-pod")));
            Some(stage::of_task_run(&run, pod.as_deref()))
        };
        let on_wait = |wait: Option<&stage::Wait>| self.inner.waits.note(&name, wait);
        // An earlier process gave another token to what is found again: the end of that process is seen.
        let token = self.order.registry.token.clone().filter(|_| adopted.is_none());
        let log = JobLog::new(self.request.job, &self.inner.settings.log, self.events, &on_wait);
        let mut log = log.confirmed_by(token);
        let within = self.request.within.get() + OVERTIME;
        let target = Target { container: CONTAINER, stage: &stage, within, to_its_end: true };
        let followed = follow(cluster, &target, &mut log).await;
        self.inner.waits.note(&name, None);
        self.judge(&name, followed, log)
    }

    /// Makes the TaskRun and then its Secret, or finds those of an earlier process.
    async fn start(&self, claim: &Claim) -> Result<Attempted<Option<JobCredential>>, ExecutorError> {
        let (inner, settings) = (self.inner, &self.inner.settings);
        let files = settings.secrets.files(&self.request.task);
        let ids: Vec<String> = files.keys().cloned().collect();
        let wanted = task_run(claim.attempt(), &self.request, &ids, settings);
        let task_runs = &inner.cluster.task_runs;
        let created =
            inner.patiently("create the TaskRun", self.events, || Box::pin(task_runs.create(&wanted)));
        let (found, is_new) = created.await?;
        if found.metadata.deletion_timestamp.is_some() {
            return Ok(Attempted::Again("an earlier TaskRun of this name is being removed".to_owned()));
        }
        let name = found.name_any();
        if is_new == Found::There {
            let secret =
                inner.patiently("read the order", self.events, || Box::pin(inner.cluster.secret(&name)));
            if let Some(secret) = secret.await? {
                tracing::info!(job.id = %self.request.job, taskrun = name, "found a TaskRun of an earlier process");
                let token = order::token(&secret);
                let adopted = token.map(|token| inner.registry.credentials.adopt(&self.request, &token));
                return Ok(Attempted::Done(adopted));
            }
        }
        let secrets = order::read_secrets(files).await;
        let mut meta = wanted.metadata.clone();
        meta.name = Some(name);
        let secret = order::secret(&meta, Some(owner(&found)), &self.order, secrets)?;
        let cluster = &inner.cluster;
        let made =
            inner.patiently("create the order", self.events, || Box::pin(cluster.create_secret(&secret)));
        Ok(match made.await? {
            Found::New => Attempted::Done(None),
            Found::There => Attempted::Again("an earlier Secret of this name is being removed".to_owned()),
        })
    }

    fn judge(
        &self,
        name: &str,
        followed: Followed,
        log: JobLog<'_>,
    ) -> Result<Attempted<JobOutcome>, ExecutorError> {
        let within = self.request.within;
        let phase = log.heard.phase();
        let mut tail: Vec<String> = log.tail.iter().cloned().collect();
        // A process that the cluster ends reports that it was cancelled.
        if log.heard.has_failed() {
            match followed {
                Followed::Ended(End::Infrastructure(why)) => return Ok(Attempted::Again(why)),
                Followed::Gone => return Ok(Attempted::Again(REMOVED.to_owned())),
                _ => {}
            }
        }
        if log.heard.is_done() {
            let run = self.inner.cluster.task_runs.get(name);
            let written = run.as_ref().and_then(|run| run.report());
            let read = log.report.as_ref().map(ToString::to_string);
            if written.is_some_and(|written| Some(written) != read.as_deref()) {
                return Ok(Attempted::Again(
                    "the report in the log is not the one that was written".to_owned(),
                ));
            }
            let ended = (Ended::Code(0), tail);
            return log.heard.judge(Ok(ended), self.cancel, within).map(Attempted::Done);
        }
        let end = match followed {
            Followed::Ended(end) => end,
            // Nothing is expected of a log that is done only.
            Followed::Gone | Followed::Done => End::Infrastructure(REMOVED.to_owned()),
            Followed::NeverStarted(Some(wait @ Wait::Image(_))) => End::Infrastructure(wait.to_string()),
            Followed::NeverStarted(wait) => return Err(later("the job", wait.as_ref(), tail)),
            Followed::TooLong => End::TimeLimit,
        };
        let ended = match end {
            End::Infrastructure(why) => return Ok(Attempted::Again(why)),
            End::TimeLimit => return Err(ExecutorError::TimeLimit { within, phase }),
            End::Refused(message) => {
                return Err(ExecutorError::Platform {
                    message,
                    hint: Some("check the executor's image and the rights of its namespace".to_owned()),
                    output: tail,
                });
            }
            End::OutOfMemory => {
                tail.push("[the container reached its memory limit (OOMKilled)]".to_owned());
                Ended::Signal(9)
            }
            End::Process(ended) => ended,
        };
        log.heard.judge(Ok((ended, tail)), self.cancel, within).map(Attempted::Done)
    }
}

/// The stage of a Pod of our own, as last seen.
pub(crate) fn pod_stage(inner: &Inner, name: &str, container: &str) -> Option<Stage> {
    let pod: Arc<_> = inner.cluster.pods.get(name)?;
    Some(stage::of_pod(&pod, container))
}

/// The error of what did not start within [`crate::task_run::WAITING`].
pub(crate) fn later(what: &str, wait: Option<&Wait>, output: Vec<String>) -> ExecutorError {
    let why = wait.map_or_else(|| "the cluster gives no reason".to_owned(), ToString::to_string);
    ExecutorError::Platform {
        message: format!("{what} did not start within an hour: {why}"),
        hint: Some("see `kubectl describe` of the Pod, and the namespace's quota".to_owned()),
        output,
    }
}
