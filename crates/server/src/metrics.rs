//! Metrics for Prometheus, in OpenMetrics text. Counters and histograms live here; gauges are read at every
//! scrape.
//!
//! Names follow Prometheus' conventions: prefix, base units (seconds, bytes), `_total` for counters. Labels
//! have few values: no digests, no commits, no run numbers. `docs/reference/metrics.md` is generated from
//! what is registered here.

mod gauges;
mod labels;
mod reference;
mod requests;

use std::collections::BTreeMap;
use std::time::Duration;

use edgewright_control::events::{RunEvent, RunEventKind};
use edgewright_model::outcome::Phase;
use edgewright_model::run::{NodeState, RunNumber};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use labels::{Cause, JobLabels, JobResult, PhaseLabels, RequestLabels};

pub use gauges::Snapshot;
pub(crate) use reference::reference;
pub use requests::count_registry;

/// The media type of [`Metrics::text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds: from a push of a small layer to a bootstrap over a slow connection.
const BUCKETS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 7200.0];

/// Counters and histograms. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    jobs: Family<JobLabels, Counter>,
    phases: Family<PhaseLabels, Histogram, fn() -> Histogram>,
    requests: Family<RequestLabels, Counter>,
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

/// The phase that each node is in, and since when.
type OpenPhases = BTreeMap<(RunNumber, String), (Phase, Instant)>;

impl Metrics {
    /// All metrics as OpenMetrics text.
    ///
    /// # Errors
    /// Never in practice: the text is written to memory.
    pub fn text(&self, snapshot: &Snapshot) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("edgewright");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The server's version", version);
        registry.register("jobs", "Jobs that ended, by result and cause of the failure", self.jobs.clone());
        registry.register_with_unit(
            "job_phase_duration",
            "Duration of the phases of jobs",
            Unit::Seconds,
            self.phases.clone(),
        );
        registry.register(
            "registry_requests",
            "Requests to the registry, by kind of object, method and HTTP status",
            self.requests.clone(),
        );
        gauges::register(&mut registry, snapshot);
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    /// Counts events of runs until their sender is closed. Events that arrive faster than they are counted
    /// are lost to the counters.
    pub async fn follow(self, mut events: Receiver<RunEvent>) {
        let mut open = OpenPhases::new();
        loop {
            match events.recv().await {
                Ok(event) => self.count(event, &mut open, Instant::now()),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn count(&self, event: RunEvent, open: &mut OpenPhases, now: Instant) {
        match event.kind {
            RunEventKind::Phase { node, phase, .. } => {
                if let Some((before, since)) = open.insert((event.run, node), (phase, now)) {
                    self.observe(before, now - since);
                }
            }
            RunEventKind::Node { node, state, failure, .. } => {
                if let Some((phase, since)) = open.remove(&(event.run, node)) {
                    self.observe(phase, now - since);
                }
                let result = match state {
                    NodeState::Passed => JobResult::Passed,
                    NodeState::Failed => JobResult::Failed,
                    NodeState::Waiting => JobResult::Retried,
                    _ => return,
                };
                let kind = Cause::from(failure.map(|failure| failure.kind));
                self.jobs.get_or_create(&JobLabels { result, kind }).inc();
            }
            RunEventKind::State(state) if state.is_terminal() => open.retain(|(run, _), _| *run != event.run),
            _ => {}
        }
    }

    fn observe(&self, phase: Phase, duration: Duration) {
        let labels = PhaseLabels { phase: phase.into() };
        self.phases.get_or_create(&labels).observe(duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use edgewright_model::outcome::{FailureKind, JobFailure};

    use super::labels::{RequestKind, RequestMethod};
    use super::*;

    fn counted() -> Metrics {
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
        let labels = RequestLabels { kind: RequestKind::Blob, method: RequestMethod::Get, status: 200 };
        metrics.requests.get_or_create(&labels).inc();
        metrics
    }

    #[test]
    fn events_and_requests_are_counted() {
        let text = counted().text(&reference::snapshot()).unwrap();
        for line in [
            "edgewright_jobs_total{result=\"passed\",kind=\"none\"} 1",
            "edgewright_jobs_total{result=\"retried\",kind=\"infrastructure\"} 1",
            "edgewright_jobs_total{result=\"failed\",kind=\"check\"} 1",
            "edgewright_job_phase_duration_seconds_sum{phase=\"build\"} 10.0",
            "edgewright_job_phase_duration_seconds_count{phase=\"test\"} 1",
            "edgewright_registry_requests_total{kind=\"blob\",method=\"get\",status=\"200\"} 1",
            "edgewright_runs{state=\"passed\"} 3",
            "edgewright_run_queue_length 1",
            "edgewright_source_poll_age_seconds{source=\"…\"} 12.5",
            "edgewright_database_commits_total 7",
            "edgewright_database_writes_total 30",
            "edgewright_registry_storage_bytes 5",
            "edgewright_registry_proxied_bytes_total 8",
            "edgewright_registry_redirects_total 9",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
