//! Metrics that are read from the database and the disk at every scrape.

use std::sync::atomic::AtomicU64;

use edgewright_control::reconcile::ReconcilerStatus;
use edgewright_registry::ExternalTraffic;
use edgewright_store::WriterStats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{ReconcilerLabels, SinkLabels, SourceLabels, StateLabels, TargetLabels};

/// What is read at every scrape.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// How many runs are in each state.
    pub runs: Vec<(String, u64)>,
    /// Queued runs.
    pub queued: u64,
    /// Running jobs.
    pub jobs: u64,
    /// Each source with the seconds since its last poll, and failed polls in a row.
    pub sources: Vec<(String, f64, u64)>,
    /// Each sink with its undelivered events, and failed attempts in a row.
    pub sinks: Vec<(String, u64, u64)>,
    /// Each target with the channels that are not copied yet, and the largest number of failed attempts in a
    /// row of one channel.
    pub targets: Vec<(String, u64, u64)>,
    /// The state of every reconciler.
    pub reconcilers: Vec<ReconcilerStatus>,
    /// Commits of control's database, and the writes in them.
    pub database: WriterStats,
    /// Size of the registry's blobs in bytes.
    pub storage_bytes: u64,
    /// What devices got of external registries.
    pub external: ExternalTraffic,
    /// Free bytes on the data folder's disk.
    pub free_bytes: u64,
}

type Seconds = Gauge<f64, AtomicU64>;

/// Registers all of a snapshot.
pub(super) fn register(registry: &mut Registry, snapshot: &Snapshot) {
    runs(registry, snapshot);
    sources(registry, snapshot);
    outbound(registry, snapshot);
    reconcilers(registry, &snapshot.reconcilers);
    storage(registry, snapshot);
}

fn runs(registry: &mut Registry, snapshot: &Snapshot) {
    let states = snapshot.runs.iter().map(|(state, count)| (StateLabels { state: state.clone() }, *count));
    registry.register("runs", "Runs in each state", family(states));
    registry.register("run_queue_length", "Queued runs", gauge(snapshot.queued));
    registry.register("jobs_running", "Running jobs", gauge(snapshot.jobs));
}

fn sources(registry: &mut Registry, snapshot: &Snapshot) {
    let age = Family::<SourceLabels, Seconds>::default();
    for (source, seconds, _) in &snapshot.sources {
        age.get_or_create(&SourceLabels { source: source.clone() }).set(*seconds);
    }
    registry.register_with_unit(
        "source_poll_age",
        "Time since the last poll of a source",
        Unit::Seconds,
        age,
    );
    let failures = snapshot.sources.iter();
    let failures = failures.map(|(source, _, failed)| (SourceLabels { source: source.clone() }, *failed));
    registry.register("source_poll_failures", "Failed polls of a source in a row", family(failures));
}

fn outbound(registry: &mut Registry, snapshot: &Snapshot) {
    let sinks = |of: fn(&(String, u64, u64)) -> u64| {
        family(snapshot.sinks.iter().map(|row| (SinkLabels { sink: row.0.clone() }, of(row))))
    };
    registry.register("sink_backlog", "Events that are not delivered to a sink yet", sinks(|row| row.1));
    registry.register("sink_failures", "Failed deliveries to a sink in a row", sinks(|row| row.2));
    let targets = |of: fn(&(String, u64, u64)) -> u64| {
        family(snapshot.targets.iter().map(|row| (TargetLabels { target: row.0.clone() }, of(row))))
    };
    registry.register(
        "target_backlog",
        "Channels whose release is not copied to a target yet",
        targets(|row| row.1),
    );
    registry.register(
        "target_failures",
        "Failed copies to a target in a row, for the channel with the most",
        targets(|row| row.2),
    );
}

fn reconcilers(registry: &mut Registry, statuses: &[ReconcilerStatus]) {
    let labels = |status: &ReconcilerStatus| ReconcilerLabels { reconciler: status.name.clone() };
    let failures = statuses.iter().map(|status| (labels(status), u64::from(status.failures)));
    registry.register(
        "reconciler_failures",
        "Failed passes of a reconciler in a row; see `edgewright status --verbose`",
        family(failures),
    );
    let success = Family::<ReconcilerLabels, Seconds>::default();
    for status in statuses {
        if let Some(succeeded) = status.succeeded {
            success.get_or_create(&labels(status)).set(succeeded.as_duration().as_secs_f64());
        }
    }
    registry.register_with_unit(
        "reconciler_success_timestamp",
        "Time of the last successful pass of a reconciler, since 1970-01-01 UTC",
        Unit::Seconds,
        success,
    );
}

fn storage(registry: &mut Registry, snapshot: &Snapshot) {
    let WriterStats { groups, writes } = snapshot.database;
    registry.register(
        "database_commits",
        "Commits of control's database; each waits for the disk once",
        counter(groups),
    );
    registry.register(
        "database_writes",
        "Writes in these commits; more writes than commits means that they share the wait",
        counter(writes),
    );
    registry.register_with_unit(
        "registry_storage",
        "Size of the registry's blobs",
        Unit::Bytes,
        gauge(snapshot.storage_bytes),
    );
    let ExternalTraffic { proxied_bytes, redirects, failures } = snapshot.external;
    registry.register_with_unit(
        "registry_proxied",
        "What was read in external registries for devices",
        Unit::Bytes,
        counter(proxied_bytes),
    );
    registry.register(
        "registry_redirects",
        "Requests of devices that were redirected to external registries",
        counter(redirects),
    );
    registry.register(
        "registry_proxy_failures",
        "Reads of blobs in external registries that failed, such as for wrong content",
        counter(failures),
    );
    registry.register_with_unit(
        "data_free",
        "Free space on the data folder's disk",
        Unit::Bytes,
        gauge(snapshot.free_bytes),
    );
}

fn family<L>(values: impl Iterator<Item = (L, u64)>) -> Family<L, Gauge>
where
    L: Clone + std::hash::Hash + Eq + EncodeLabelSet,
{
    let family = Family::<L, Gauge>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(signed(value));
    }
    family
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
