//! The executor against an API server in this process: it conforms; restarts, breaks, cancellation, and what
//! clusters do to jobs.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod fake;
mod lanes;
mod machines;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgewright_cluster::in_pod::seal;
use edgewright_cluster::{ClusterExecutor, ClusterSettings, JobTools, Machines, Place, Resources};
use edgewright_job::conformance::{self, admitted, image_request};
use edgewright_job::{
    Admission, BuildSecrets, Demand, EVENTS, Executor as _, ExecutorError, JobCredential, JobCredentials,
    JobRegistry, simulated_profile,
};
use edgewright_model::Digest;
use edgewright_model::frame::Framer;
use edgewright_model::order::{JobId, JobRequest, Task, check_set_digest};
use edgewright_model::outcome::{FailureKind, JobEvent, JobOutcome};
use edgewright_model::spec::Lane;
use edgewright_model::tools::ToolVersions;
use edgewright_model::verdict::LaneResult;
use edgewright_process::{CancellationToken, OwnedTask, Tasks};
use serde_json::json;
use tokio::sync::mpsc;

use self::fake::tekton::{self, Tekton};
use self::fake::{Fake, NAMESPACE};

/// An executor, as a process of the server has it.
struct Server {
    executor: ClusterExecutor,
    tasks: Tasks,
}

impl Server {
    fn start(fake: &Fake) -> Self {
        Self::with(fake, JobRegistry::anonymous("http://127.0.0.1:1"), |_| {})
    }

    /// Its lanes are Pods.
    fn testing_in_pods(fake: &Fake, registry: JobRegistry) -> Self {
        Self::with(fake, registry, |settings| settings.lanes = edgewright_cluster::kubernetes_lanes([]))
    }

    fn with(fake: &Fake, registry: JobRegistry, change: impl FnOnce(&mut ClusterSettings)) -> Self {
        let tasks = Tasks::new();
        let small = Resources { cpu: "100m".into(), memory: "64Mi".into(), memory_limit: None };
        let mut settings = ClusterSettings {
            server: "plant".into(),
            namespace: NAMESPACE.into(),
            slots: conformance::SLOTS,
            untrusted_slots: NonZeroUsize::MIN,
            image: "registry/edgewright@sha256:1".into(),
            command: vec!["/usr/bin/edgewright".into(), "job".into(), "pod".into()],
            install_runner: vec!["/usr/bin/edgewright".into(), "job".into(), "install-runner".into()],
            runner: Digest::of("runner"),
            service_account: None,
            pull_secrets: Vec::new(),
            node_cache: None,
            pull_from: "registry".into(),
            job: small.clone(),
            test: small,
            build: None,
            machines: Machines { namespace: NAMESPACE.into(), cpu: "100m".into() },
            tools: JobTools::Known(ToolVersions::default()),
            secrets: BuildSecrets::default(),
            native: None,
            // The job is simulated, and so are its machines.
            lanes: Arc::new(|_| Some((Place::Job, simulated_profile(1)))),
            log: Arc::new(|_, _| {}),
            tasks: tasks.clone(),
        };
        change(&mut settings);
        Self { executor: ClusterExecutor::new(fake.client(), settings, registry), tasks }
    }

    /// Runs a request in a task.
    async fn run(&self, request: JobRequest, cancel: &CancellationToken) -> Running {
        let permit = admitted(&self.executor).await;
        let (sender, events) = mpsc::channel(EVENTS);
        let (executor, cancel) = (self.executor.clone(), cancel.clone());
        let job = OwnedTask::spawn(async move { executor.run(request, permit, sender, cancel).await });
        Running { job, events }
    }

    /// Ends as a process that is killed does: nothing is cleaned up.
    fn kill(self) {
        self.tasks.token().cancel();
    }
}

struct Running {
    job: OwnedTask<Result<JobOutcome, ExecutorError>>,
    events: mpsc::Receiver<JobEvent>,
}

impl Running {
    async fn end(mut self) -> (Result<JobOutcome, ExecutorError>, Vec<String>) {
        let result = self.job.await.unwrap();
        let mut lines = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if let JobEvent::Log { line } = event {
                lines.push(line);
            }
        }
        (result, lines)
    }
}

/// The frames of a job that printed lines and reported a good outcome, and the digest of its report.
fn frames(lines: &[&str]) -> (Vec<String>, String) {
    let mut records: Vec<String> = lines
        .iter()
        .map(|line| serde_json::to_string(&JobEvent::Log { line: (*line).to_owned() }).unwrap())
        .collect();
    records.push(serde_json::to_string(&JobEvent::Outcome(JobOutcome::empty())).unwrap());
    let report = Digest::of(records.last().unwrap()).to_string();
    let mut framer = Framer::default();
    (records.iter().flat_map(|record| framer.lines(record)).collect(), report)
}

fn request(number: u128) -> JobRequest {
    image_request(number, "hmi/plant-a").unwrap()
}

/// Waits for the n-th TaskRun that has its order; gives its name.
async fn task_run(fake: &Fake, attempt: u32) -> String {
    let suffix = format!("-job-{attempt}");
    fake.until(|fake| {
        let found = fake.names("taskruns").into_iter().find(|name| name.ends_with(&suffix))?;
        fake.get("secrets", &found).map(|_| found)
    })
    .await
}

/// Runs a TaskRun to its good end.
fn succeed(fake: &Fake, name: &str, lines: &[&str]) {
    let pod = tekton::start(fake, name);
    let (frames, report) = frames(lines);
    fake.write(&pod, &frames);
    tekton::end(fake, name, 0, Some(report));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let kept = Mutex::new(Vec::new());
    conformance::suite(|behaviour| {
        let fake = Fake::new();
        let server = Server::start(&fake);
        let executor = Arc::new(server.executor.clone());
        kept.lock().unwrap().push((Tekton::start(&fake, behaviour), server));
        executor
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_job_takes_few_requests_and_its_objects_are_removed() {
    let fake = Fake::new();
    let server = Server::start(&fake);
    let job = server.run(request(1), &CancellationToken::new()).await;
    let name = task_run(&fake, 1).await;
    let secret = fake.get("secrets", &name).unwrap();
    assert_eq!(secret["metadata"]["ownerReferences"][0]["name"], name);
    assert_eq!(secret["immutable"], true);
    succeed(&fake, &name, &["one", "two"]);
    let (outcome, lines) = job.end().await;
    assert!(outcome.unwrap().failure.is_none());
    assert_eq!(lines, ["one", "two"]);
    assert_eq!(fake.requests(), ["POST taskruns", "POST secrets", "GET pods/log"]);
    fake.until(|fake| fake.names("taskruns").is_empty().then_some(())).await;
    assert!(fake.names("secrets").is_empty() && fake.names("pods").is_empty());
    // The same order again is work of its own.
    let again = server.run(request(2), &CancellationToken::new()).await;
    succeed(&fake, &task_run(&fake, 2).await, &[]);
    assert!(again.end().await.0.is_ok());
}

/// The kubelet never reports the end of the container. Time is simulated.
#[tokio::test(start_paused = true)]
async fn a_success_that_its_process_confirmed_is_returned_before_its_end_is_seen() {
    for is_confirmed in [true, false] {
        let fake = Fake::new();
        let credentials = Arc::new(Adopting::default());
        let registry = JobRegistry { url: "http://127.0.0.1:1".into(), credentials };
        let server = Server::with(&fake, registry, |_| {});
        let job = server.run(request(1), &CancellationToken::new()).await;
        let name = task_run(&fake, 1).await;
        let pod = tekton::start(&fake, &name);
        let token = format!("token of {}", request(1).job);
        let outcome = serde_json::to_string(&JobEvent::Outcome(JobOutcome::empty())).unwrap();
        let mut framer = Framer::default();
        let token = if is_confirmed { token } else { "a guess".to_owned() };
        let begun = tokio::time::Instant::now();
        let sealed = seal(&token, &Digest::of(&outcome));
        fake.write(&pod, &[framer.lines(&outcome), framer.lines(&sealed)].concat());
        fake.close(&pod);
        let (outcome, _) = job.end().await;
        assert!(outcome.unwrap().failure.is_none());
        assert_eq!(begun.elapsed() < Duration::from_secs(30), is_confirmed, "{:?}", begun.elapsed());
    }
}

#[derive(Debug, Clone, Default)]
struct Adopting(Arc<Mutex<Vec<String>>>);

impl JobCredentials for Adopting {
    fn issue(&self, request: &JobRequest) -> JobCredential {
        JobCredential::lasting(format!("token of {}", request.job))
    }

    fn adopt(&self, _request: &JobRequest, token: &str) -> JobCredential {
        self.0.lock().unwrap().push(token.to_owned());
        JobCredential::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_server_finds_its_jobs_again() {
    let fake = Fake::new();
    let adopting = Adopting::default();
    let registry =
        || JobRegistry { url: "http://127.0.0.1:1".into(), credentials: Arc::new(adopting.clone()) };
    let first = Server::with(&fake, registry(), |_| {});
    let job = first.run(request(1), &CancellationToken::new()).await;
    let name = task_run(&fake, 1).await;
    let pod = tekton::start(&fake, &name);
    let (frames, report) = frames(&["one", "two"]);
    fake.write(&pod, &frames[..1]);
    fake.until(|fake| fake.requests().contains(&"GET pods/log".to_owned()).then_some(())).await;
    first.kill();
    drop(job);
    // It ends while no server runs.
    fake.write(&pod, &frames[1..]);
    tekton::end(&fake, &name, 0, Some(report));
    let second = Server::with(&fake, registry(), |_| {});
    let mut again = request(1);
    again.job = JobId(uuid::Uuid::from_u128(2));
    let (outcome, lines) = second.run(again, &CancellationToken::new()).await.end().await;
    assert!(outcome.unwrap().failure.is_none());
    assert_eq!(lines, ["one", "two"], "the log is read from its beginning");
    assert_eq!(fake.names("taskruns"), [name], "nothing ran twice");
    assert_eq!(*adopting.0.lock().unwrap(), [format!("token of {}", JobId(uuid::Uuid::from_u128(1)))]);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_server_was_killed_before_its_order_was_written_starts() {
    let fake = Fake::new();
    let first = Server::start(&fake);
    fake.refuse("POST secrets", 503, "ServiceUnavailable", "etcd leader changed");
    let job = first.run(request(1), &CancellationToken::new()).await;
    let name = fake.until(|fake| fake.names("taskruns").pop()).await;
    first.kill();
    drop(job);
    assert!(fake.names("secrets").is_empty());
    let second = Server::start(&fake);
    let job = second.run(request(2), &CancellationToken::new()).await;
    assert_eq!(task_run(&fake, 1).await, name);
    succeed(&fake, &name, &[]);
    assert!(job.end().await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn events_arrive_once_though_the_connection_breaks() {
    let fake = Fake::new();
    let server = Server::start(&fake);
    let job = server.run(request(1), &CancellationToken::new()).await;
    let name = task_run(&fake, 1).await;
    let pod = format!("{name}-pod");
    let (frames, report) = frames(&["one", "two", "three"]);
    let first = frames[0].len() + 1;
    for byte in [first + 5, first, 2 * first + 3] {
        fake.break_at(&pod, byte);
    }
    tekton::start(&fake, &name);
    fake.write(&pod, &frames);
    let running = job.job;
    tokio::time::sleep(Duration::from_mins(1)).await;
    tekton::end(&fake, &name, 0, Some(report));
    let (outcome, lines) = Running { job: running, events: job.events }.end().await;
    assert!(outcome.is_ok());
    assert_eq!(lines, ["one", "two", "three"]);
    let readings = fake.requests().iter().filter(|request| *request == "GET pods/log").count();
    assert_eq!(readings, 4);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_leaves_nothing() {
    let fake = Fake::new();
    let server = Server::start(&fake);
    for has_started in [false, true] {
        let cancel = CancellationToken::new();
        let job = server.run(request(1), &cancel).await;
        let name = fake.until(|fake| fake.names("taskruns").pop()).await;
        if has_started {
            task_run(&fake, 2).await;
            tekton::start(&fake, &name);
        }
        cancel.cancel();
        assert!(matches!(job.end().await.0, Err(ExecutorError::Cancelled)));
        for kind in ["taskruns", "pods", "secrets"] {
            assert!(fake.names(kind).is_empty(), "{kind}");
        }
    }
    // A job that is dropped is removed in the background.
    let job = server.run(request(3), &CancellationToken::new()).await;
    fake.until(|fake| fake.names("taskruns").pop()).await;
    drop(job);
    fake.until(|fake| fake.names("taskruns").is_empty().then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_leaves_its_jobs_to_the_next_process() {
    let fake = Fake::new();
    let (server, cancel) = (Server::start(&fake), CancellationToken::new());
    let job = server.run(request(1), &cancel).await;
    let name = task_run(&fake, 1).await;
    server.kill();
    cancel.cancel();
    assert!(matches!(job.end().await.0, Err(ExecutorError::Cancelled)));
    assert_eq!(fake.names("taskruns"), [name]);
}

#[tokio::test(start_paused = true)]
async fn an_evicted_job_is_tried_again_and_not_for_ever() {
    let fake = Fake::new();
    let server = Server::start(&fake);
    let job = server.run(request(1), &CancellationToken::new()).await;
    let first = task_run(&fake, 1).await;
    let pod = tekton::start(&fake, &first);
    // Its process has the time to report that it was ended.
    let failure = ExecutorError::Cancelled.failure();
    let ended = JobOutcome { failure: Some(failure), ..JobOutcome::empty() };
    fake.write(&pod, &Framer::default().lines(&serde_json::to_string(&JobEvent::Outcome(ended)).unwrap()));
    tekton::evict(&fake, &first);
    succeed(&fake, &task_run(&fake, 2).await, &["second"]);
    let (outcome, lines) = job.end().await;
    assert!(outcome.is_ok());
    assert!(lines[0].contains("Evicted") && lines[0].contains("low on resource: memory"), "{lines:?}");
    assert_eq!(lines[1], "second");

    let job = server.run(image_request(2, "edge").unwrap(), &CancellationToken::new()).await;
    for attempt in 1..=3 {
        let id = fake.until(|fake| {
            let is =
                |name: &String| name.ends_with(&format!("-{attempt}")) && fake.get("secrets", name).is_some();
            let done = |name: &String| fake.get("pods", &format!("{name}-pod")).is_some();
            fake.names("taskruns").into_iter().find(|name| is(name) && !done(name))
        });
        let name = id.await;
        let message = "failed to pull image \"registry/edgewright\"";
        tekton::start(&fake, &name);
        let condition = tekton::condition("False", "TaskRunImagePullFailed", message);
        fake.set_status("taskruns", &name, json!({ "conditions": [condition] }));
    }
    let failure = job.end().await.0.unwrap_err().failure();
    assert_eq!(failure.kind, FailureKind::Infrastructure);
    assert!(
        failure.message.contains("3 attempts") && failure.message.contains("cannot be pulled"),
        "{failure:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_that_reaches_its_own_memory_limit_is_not_tried_again() {
    let fake = Fake::new();
    let server = Server::start(&fake);
    let job = server.run(request(1), &CancellationToken::new()).await;
    let name = task_run(&fake, 1).await;
    let pod = tekton::start(&fake, &name);
    fake.write(&pod, &["compiling".to_owned()]);
    fake.close(&pod);
    let ended = json!({ "exitCode": 137, "reason": "OOMKilled", "startedAt": "2026-11-28T12:00:00Z",
        "finishedAt": "2026-11-28T12:00:01Z" });
    let container = json!({ "name": "step-job", "state": { "terminated": ended }, "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "resources": { "limits": { "memory": "64Mi" } } });
    fake.set_status("pods", &pod, json!({ "phase": "Failed", "containerStatuses": [container] }));
    let condition = tekton::condition("False", "Failed", "\"step-job\" exited with code 137");
    fake.set_status("taskruns", &name, json!({ "podName": pod, "conditions": [condition] }));
    let failure = job.end().await.0.unwrap_err().failure();
    assert!(failure.hint.unwrap().contains("memory"));
    assert_eq!(failure.output, ["compiling", "[the container reached its memory limit (OOMKilled)]"]);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_not_the_one_in_the_log_is_not_believed() {
    let fake = Fake::new();
    let server = Server::start(&fake);
    let job = server.run(request(1), &CancellationToken::new()).await;
    let name = task_run(&fake, 1).await;
    let pod = tekton::start(&fake, &name);
    fake.write(&pod, &frames(&["forged"]).0);
    tekton::end(&fake, &name, 0, Some(Digest::of("another").to_string()));
    succeed(&fake, &task_run(&fake, 2).await, &["true"]);
    let (outcome, lines) = job.end().await;
    assert!(outcome.is_ok());
    assert!(lines.iter().any(|line| line.contains("is not the one that was written")), "{lines:?}");
}

async fn later(server: &Server, demand: Demand) -> Option<String> {
    match server.executor.admit(demand).await {
        Admission::Later { reason, .. } => Some(reason),
        Admission::Now(_) => None,
        Admission::Never(failure) => panic!("{failure:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_namespace_is_waited_for() {
    let fake = Fake::new();
    let server = Server::start(&fake);
    let full = "secrets \"ew\" is forbidden: exceeded quota: jobs, used: count/secrets=10";
    fake.refuse("POST taskruns", 403, "Forbidden", full);
    let job = server.run(request(1), &CancellationToken::new()).await;
    let name = task_run(&fake, 1).await;
    // The quota of Pods is Tekton's to meet.
    let message = "TaskRun Pod exceeded available resources: pods is forbidden: exceeded quota: jobs";
    let waiting = tekton::condition("Unknown", "ExceededResourceQuota", message);
    fake.set_status("taskruns", &name, json!({ "conditions": [waiting] }));
    let mut reason = None;
    while reason.is_none() {
        reason = later(&server, Demand::default()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let reason = reason.unwrap();
    assert!(reason.starts_with("an earlier job waits for quota: "), "{reason}");
    succeed(&fake, &name, &[]);
    let (outcome, lines) = job.end().await;
    assert!(outcome.is_ok());
    let waits = lines.iter().filter(|line| line.starts_with("[waits for quota: ")).count();
    assert_eq!(waits, 2, "{lines:?}");
    assert_eq!(later(&server, Demand::default()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_away_or_without_kubevirt_is_reported_as_such() {
    let fake = Fake::new();
    fake.set_away(true);
    let server = Server::start(&fake);
    let reason = later(&server, Demand::default()).await.unwrap();
    assert!(reason.contains("currently unable to handle the request"), "{reason}");
    fake.set_away(false);
    while later(&server, Demand::default()).await.is_some() {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let vm = || Demand { lanes: vec![Lane::Container, Lane::Vm], ..Demand::default() };
    let reason = later(&server, vm()).await.unwrap();
    assert_eq!(reason, "the lane `vm` needs KubeVirt, which is not installed");
    fake.install("kubevirt.io/v1");
    assert_eq!(later(&server, vm()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_through_an_outage_of_the_cluster() {
    let fake = Fake::new();
    let server = Server::start(&fake);
    let job = server.run(request(1), &CancellationToken::new()).await;
    let name = task_run(&fake, 1).await;
    let pod = tekton::start(&fake, &name);
    let (frames, report) = frames(&["one", "two"]);
    fake.break_at(&pod, 10);
    fake.set_away(true);
    fake.write(&pod, &frames);
    tekton::end(&fake, &name, 0, Some(report));
    tokio::time::sleep(Duration::from_mins(3)).await;
    fake.set_away(false);
    let (outcome, lines) = job.end().await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(lines, ["one", "two"]);
    assert_eq!(fake.names("taskruns"), [name]);
}

#[tokio::test(start_paused = true)]
async fn objects_of_no_job_are_removed_and_those_of_another_server_are_not() {
    let fake = Fake::new();
    let of = |name: &str, server: &str| {
        let labels = json!({ "edgewright.dev/server": server, "edgewright.dev/order": "x",
            "edgewright.dev/part": "job", "edgewright.dev/attempt": "1" });
        json!({ "apiVersion": "tekton.dev/v1", "kind": "TaskRun", "spec": {},
            "metadata": { "name": name, "labels": labels } })
    };
    fake.apply("taskruns", of("ew-x-job-1", "plant"));
    fake.apply("taskruns", of("ew-y-job-1", "other"));
    let _server = Server::start(&fake);
    tokio::time::sleep(Duration::from_mins(14)).await;
    assert_eq!(fake.names("taskruns").len(), 2, "a job may claim it");
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(fake.names("taskruns"), ["ew-y-job-1"]);
}

#[tokio::test(start_paused = true)]
async fn missing_rights_and_a_missing_tekton_end_the_job_with_what_to_do() {
    for (code, reason, message, hint) in [
        (403, "Forbidden", "taskruns.tekton.dev is forbidden: User \"x\" cannot create", "Role"),
        (404, "NotFound", "the server could not find the requested resource", "install Tekton"),
    ] {
        let fake = Fake::new();
        let server = Server::start(&fake);
        fake.refuse("POST taskruns", code, reason, message);
        let job = server.run(request(1), &CancellationToken::new()).await;
        let failure = job.end().await.0.unwrap_err().failure();
        assert_eq!(failure.message, format!("cannot create the TaskRun: {message}"));
        assert!(failure.hint.unwrap().contains(hint));
    }
}
