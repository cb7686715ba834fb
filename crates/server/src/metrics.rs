//! Metrics for Prometheus, in OpenMetrics text. Counters and histograms live here; gauges are read when asked for.
//!
//! Names follow Prometheus' conventions: prefix, base units (seconds, bytes), `_total` for counters. Labels have few
//! values: no digests, no commits, no run numbers. docs/operating.md lists them all; a test compares.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use edgewright_control::events::{RunEvent, RunEventKind};
use edgewright_control::reconcile::ReconcilerStatus;
use edgewright_model::outcome::{FailureKind, Phase};
use edgewright_model::run::{NodeState, RunNumber};
use edgewright_store::WriterStats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

/// The media type of what [`Metrics::text`] gives.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds: from a push of a small layer to a bootstrap over a slow line.
const BUCKETS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 7200.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    result: &'static str,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    target: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    sink: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcilerLabels {
    reconciler: String,
}

/// What counts up. Clones share it.
#[derive(Debug, Clone)]
pub struct Metrics {
    jobs: Family<JobLabels, Counter>,
    phases: Family<PhaseLabels, Histogram, fn() -> Histogram>,
    requests: Family<RequestLabels, Counter>,
}

/// What is read when asked for.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// How many runs are in each state.
    pub runs: Vec<(String, u64)>,
    /// Runs that wait.
    pub queued: u64,
    /// Jobs that run.
    pub jobs: u64,
    /// Each source with the seconds since its last poll, and failed polls in a row.
    pub sources: Vec<(String, f64, u64)>,
    /// Each sink with what it was not told yet, and failed tries in a row.
    pub sinks: Vec<(String, u64, u64)>,
    /// Each target with the channels that it has not got yet, and the most failed tries in a row of one.
    pub targets: Vec<(String, u64, u64)>,
    /// How every reconciler is doing.
    pub reconcilers: Vec<ReconcilerStatus>,
    /// Commits of control's database, and the writes in them.
    pub database: WriterStats,
    /// What the registry's blobs take.
    pub storage_bytes: u64,
    /// Free on the data folder's disk.
    pub free_bytes: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            jobs: Family::default(),
            phases: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            requests: Family::default(),
        }
    }
}

impl Metrics {
    /// All metrics.
    ///
    /// # Errors
    /// Never in practice: the text is written to memory.
    pub fn text(&self, snapshot: &Snapshot) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("edgewright");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The server's version", version);
        registry.register("jobs", "Jobs that ended, by result and kind of failure", self.jobs.clone());
        registry.register_with_unit(
            "job_phase_duration",
            "How long phases of jobs took",
            Unit::Seconds,
            self.phases.clone(),
        );
        registry.register(
            "registry_requests",
            "Requests to the registry, by what they are about and their answer",
            self.requests.clone(),
        );
        gauges(&mut registry, snapshot);
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    /// Follows what happens in runs. Events that come faster than they are counted are lost to the counters.
    pub async fn follow(self, mut events: Receiver<RunEvent>) {
        let mut open: BTreeMap<(RunNumber, String), (Phase, Instant)> = BTreeMap::new();
        loop {
            match events.recv().await {
                Ok(event) => self.count(event, &mut open, Instant::now()),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn count(
        &self,
        event: RunEvent,
        open: &mut BTreeMap<(RunNumber, String), (Phase, Instant)>,
        now: Instant,
    ) {
        match event.kind {
            RunEventKind::Phase { node, phase, .. } => {
                if let Some((before, since)) = open.insert((event.run, node), (phase, now)) {
                    self.took(before, now - since);
                }
            }
            RunEventKind::Node { node, state, failure, .. } => {
                let ended = open.remove(&(event.run, node));
                if let Some((phase, since)) = ended {
                    self.took(phase, now - since);
                }
                let kind = failure.map_or("none", |failure| match failure.kind {
                    FailureKind::Image => "image",
                    FailureKind::Check => "check",
                    FailureKind::Infrastructure => "infrastructure",
                });
                let result = match state {
                    NodeState::Passed => "passed",
                    NodeState::Failed => "failed",
                    NodeState::Waiting => "retried",
                    _ => return,
                };
                self.jobs.get_or_create(&JobLabels { result, kind }).inc();
            }
            RunEventKind::State(state) if state.is_terminal() => open.retain(|(run, _), _| *run != event.run),
            _ => {}
        }
    }

    fn took(&self, phase: Phase, time: Duration) {
        let phase = match phase {
            Phase::Lock => "lock",
            Phase::Fetch => "fetch",
            Phase::Build => "build",
            Phase::Push => "push",
            Phase::Test => "test",
        };
        self.phases.get_or_create(&PhaseLabels { phase }).observe(time.as_secs_f64());
    }
}

fn gauges(registry: &mut Registry, snapshot: &Snapshot) {
    let runs = Family::<StateLabels, Gauge>::default();
    for (state, count) in &snapshot.runs {
        runs.get_or_create(&StateLabels { state: state.clone() }).set(signed(*count));
    }
    registry.register("runs", "Runs, by state", runs);
    registry.register("run_queue_length", "Runs that wait for their turn", gauge(snapshot.queued));
    registry.register("jobs_running", "Jobs that run now", gauge(snapshot.jobs));
    let age = Family::<SourceLabels, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    let failures = Family::<SourceLabels, Gauge>::default();
    for (source, seconds, failed) in &snapshot.sources {
        let labels = SourceLabels { source: source.clone() };
        age.get_or_create(&labels).set(*seconds);
        failures.get_or_create(&labels).set(signed(*failed));
    }
    registry.register_with_unit("source_poll_age", "Time since a source was asked last", Unit::Seconds, age);
    registry.register("source_poll_failures", "Failed polls of a source in a row", failures);
    let untold = Family::<SinkLabels, Gauge>::default();
    let failures = Family::<SinkLabels, Gauge>::default();
    for (sink, count, failed) in &snapshot.sinks {
        let labels = SinkLabels { sink: sink.clone() };
        untold.get_or_create(&labels).set(signed(*count));
        failures.get_or_create(&labels).set(signed(*failed));
    }
    registry.register("sink_backlog", "Events that a sink was not told yet", untold);
    registry.register("sink_failures", "Failed tries to tell a sink in a row", failures);
    let behind = Family::<TargetLabels, Gauge>::default();
    let failures = Family::<TargetLabels, Gauge>::default();
    for (target, count, failed) in &snapshot.targets {
        let labels = TargetLabels { target: target.clone() };
        behind.get_or_create(&labels).set(signed(*count));
        failures.get_or_create(&labels).set(signed(*failed));
    }
    registry.register("target_backlog", "Channels that a target has not got yet", behind);
    registry.register("target_failures", "Failed tries to copy a channel to a target in a row", failures);
    reconcilers(registry, &snapshot.reconcilers);
    let WriterStats { groups, writes } = snapshot.database;
    registry.register(
        "database_commits",
        "Commits of control's database, a wait for the disk each",
        counter(groups),
    );
    registry.register("database_writes", "Writes that these commits contain", counter(writes));
    registry.register_with_unit(
        "registry_storage",
        "What the registry's blobs take on the disk",
        Unit::Bytes,
        gauge(snapshot.storage_bytes),
    );
    registry.register_with_unit(
        "data_free",
        "Free on the data folder's disk",
        Unit::Bytes,
        gauge(snapshot.free_bytes),
    );
}

fn reconcilers(registry: &mut Registry, statuses: &[ReconcilerStatus]) {
    let failures = Family::<ReconcilerLabels, Gauge>::default();
    let success = Family::<ReconcilerLabels, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    for status in statuses {
        let labels = ReconcilerLabels { reconciler: status.name.clone() };
        failures.get_or_create(&labels).set(i64::from(status.failures));
        if let Some(succeeded) = status.succeeded {
            success.get_or_create(&labels).set(succeeded.as_duration().as_secs_f64());
        }
    }
    registry.register("reconciler_failures", "Failed passes of a reconciler in a row", failures);
    registry.register_with_unit(
        "reconciler_success_timestamp",
        "When a pass of a reconciler succeeded last, since 1970",
        Unit::Seconds,
        success,
    );
}

fn counter(value: u64) -> Counter {
    let counter = Counter::default();
    counter.inc_by(value);
    counter
}

fn gauge(value: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(signed(value));
    gauge
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Counts a request to the registry.
pub async fn count_registry(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let (kind, method) = (kind_of(request.uri().path()), method_of(request.method()));
    let response = next.run(request).await;
    let labels = RequestLabels { kind, method, status: response.status().as_u16() };
    metrics.requests.get_or_create(&labels).inc();
    response
}

/// What a registry's path is about; from the right, because repositories contain `/`.
fn kind_of(path: &str) -> &'static str {
    let parts: Vec<&str> = path.trim_end_matches('/').rsplit('/').take(3).collect();
    match parts.as_slice() {
        ["v2", ..] => "ping",
        ["_catalog", ..] => "catalog",
        ["list", "tags", ..] => "tags",
        ["uploads", "blobs", ..] | [_, "uploads", "blobs"] => "upload",
        [_, "manifests", ..] => "manifest",
        [_, "blobs", ..] => "blob",
        [_, "referrers", ..] => "referrers",
        _ => "other",
    }
}

fn method_of(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "PUT" => "put",
        "POST" => "post",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use edgewright_model::outcome::JobFailure;

    use super::*;

    const DOCS: &str = include_str!("../../../docs/operating.md");

    fn full() -> (Metrics, Snapshot) {
        let metrics = Metrics::default();
        let mut open = BTreeMap::new();
        let start = Instant::now();
        let run = RunNumber(1);
        let mut send = |kind, seconds| {
            metrics.count(RunEvent { run, kind }, &mut open, start + Duration::from_secs(seconds));
        };
        let node = || "hmi/plant-a".to_owned();
        let phase = |phase| RunEventKind::Phase { node: node(), phase, title: String::new() };
        let ended = |state, kind: Option<FailureKind>| RunEventKind::Node {
            node: node(),
            platform: "linux/amd64".parse().unwrap(),
            state,
            failure: kind.map(|kind| JobFailure {
                kind,
                phase: Phase::Build,
                message: String::new(),
                hint: None,
                output: Vec::new(),
            }),
        };
        send(phase(Phase::Build), 0);
        send(phase(Phase::Test), 10);
        send(ended(NodeState::Passed, None), 13);
        send(ended(NodeState::Waiting, Some(FailureKind::Infrastructure)), 14);
        send(ended(NodeState::Failed, Some(FailureKind::Check)), 15);
        let labels = RequestLabels { kind: "blob", method: "get", status: 200 };
        metrics.requests.get_or_create(&labels).inc();
        let snapshot = Snapshot {
            runs: vec![("passed".to_owned(), 3)],
            queued: 1,
            jobs: 2,
            reconcilers: vec![ReconcilerStatus {
                name: "runs".to_owned(),
                started: jiff::Timestamp::UNIX_EPOCH,
                cause: "start",
                is_running: false,
                result: None,
                succeeded: Some(jiff::Timestamp::constant(60, 0)),
                took: Duration::ZERO,
                failures: 2,
                next: None,
            }],
            sources: vec![("plants".to_owned(), 12.5, 0)],
            sinks: vec![("ops".to_owned(), 4, 1)],
            targets: vec![("harbor".to_owned(), 1, 2)],
            database: WriterStats { groups: 7, writes: 30 },
            storage_bytes: 5,
            free_bytes: 6,
        };
        (metrics, snapshot)
    }

    #[test]
    fn what_happened_is_counted() {
        let (metrics, snapshot) = full();
        let text = metrics.text(&snapshot).unwrap();
        for line in [
            "edgewright_jobs_total{result=\"passed\",kind=\"none\"} 1",
            "edgewright_jobs_total{result=\"retried\",kind=\"infrastructure\"} 1",
            "edgewright_jobs_total{result=\"failed\",kind=\"check\"} 1",
            "edgewright_job_phase_duration_seconds_sum{phase=\"build\"} 10.0",
            "edgewright_job_phase_duration_seconds_count{phase=\"test\"} 1",
            "edgewright_registry_requests_total{kind=\"blob\",method=\"get\",status=\"200\"} 1",
            "edgewright_runs{state=\"passed\"} 3",
            "edgewright_run_queue_length 1",
            "edgewright_source_poll_age_seconds{source=\"plants\"} 12.5",
            "edgewright_database_commits_total 7",
            "edgewright_database_writes_total 30",
            "edgewright_registry_storage_bytes 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn every_metric_is_documented_and_every_documented_one_exists() {
        let (metrics, snapshot) = full();
        let text = metrics.text(&snapshot).unwrap();
        let exposed = text.lines().filter_map(|line| {
            let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            Some(format!("{name}{suffix}"))
        });
        let documented =
            DOCS.lines().filter_map(|line| line.strip_prefix("| `edgewright_")?.split('`').next());
        let mut exposed: Vec<String> = exposed.collect();
        let mut documented: Vec<String> = documented.map(|name| format!("edgewright_{name}")).collect();
        exposed.sort();
        documented.sort();
        assert_eq!(exposed, documented);
    }

    #[test]
    fn requests_are_told_apart() {
        for (path, kind) in [
            ("/v2/", "ping"),
            ("/v2/_catalog", "catalog"),
            ("/v2/a/b/tags/list", "tags"),
            ("/v2/a/b/blobs/uploads/", "upload"),
            ("/v2/a/b/blobs/uploads/17", "upload"),
            ("/v2/a/b/blobs/sha256:00", "blob"),
            ("/v2/a/b/manifests/stable", "manifest"),
            ("/v2/a/b/referrers/sha256:00", "referrers"),
            ("/v2/a", "other"),
        ] {
            assert_eq!(kind_of(path), kind, "{path}");
        }
    }
}
