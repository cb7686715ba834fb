//! The status of a server.

use edgewright_model::order::JobId;
use edgewright_model::outcome::Phase;
use edgewright_model::run::RunNumber;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::run::RunSummary;
use crate::schemas;
use crate::source::SourceView;
use crate::target::TargetView;

/// The status of a server, or of a data folder without one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatus {
    /// Version of Edgewright.
    pub version: String,
    /// Time at which the status was read.
    pub now: Timestamp,
    /// Process id of the server that uses the data folder; null if none runs.
    #[serde(alias = "server")]
    pub server_pid: Option<u32>,
    /// Address of the registry, such as `127.0.0.1:5080`; null if no server runs.
    pub registry: Option<String>,
    /// The data folder and its disk.
    pub data: DataFolder,
    /// Sources, sorted by name.
    pub sources: Vec<SourceView>,
    /// Receivers of events, sorted by name.
    #[serde(default)]
    pub sinks: Vec<SinkView>,
    /// Replication of channels to external registries.
    #[serde(default)]
    pub targets: Vec<TargetView>,
    /// Reconcilers of the running server, sorted by name; empty if none runs.
    #[serde(default)]
    pub reconcilers: Vec<ReconcilerView>,
    /// Runs in the state `queued`, oldest first.
    pub queue: Vec<RunSummary>,
    /// Runs in the states `preparing`, `running` and `releasing`.
    pub active: Vec<RunSummary>,
    /// Running jobs.
    pub jobs: Vec<RunningJob>,
    /// Machines started with `run --keep`. Only the command lists them, on the host where they run.
    #[serde(default)]
    pub kept: Vec<KeptMachine>,
}

/// A reconciler of the server: a loop that brings one part of the system to its desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReconcilerView {
    /// Name: `runs`, `source plants`, `target harbor`.
    pub name: String,
    /// Time at which the last pass started.
    pub started: Timestamp,
    /// Cause of the last pass: `start`, `period`, `retry`, or the name of an event.
    pub cause: String,
    /// Whether the last pass is still running.
    pub running: bool,
    /// What the last completed pass did, on one line; null if it had nothing to do or failed.
    pub done: Option<String>,
    /// Why the last completed pass failed; null if it succeeded.
    pub error: Option<String>,
    /// Time of the last successful pass; null before the first.
    pub succeeded: Option<Timestamp>,
    /// Duration of the last completed pass, in milliseconds.
    #[serde(alias = "took_ms")]
    pub duration_ms: u64,
    /// Number of passes that failed in a row.
    pub failures: u32,
    /// Latest time of the next pass; null while a pass is running.
    pub next: Option<Timestamp>,
}

/// A machine started with `run --keep`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptMachine {
    /// Repository of its image, such as `plant-os/hmi/plant-a`.
    pub repository: String,
    /// Id of its container.
    pub container: String,
    /// State of the container, as the container engine prints it: `running`, `exited`.
    pub state: String,
    /// Uptime, as the container engine prints it: `Up 2 minutes`.
    pub status: String,
}

/// A receiver of events, configured as `[[sink]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SinkView {
    /// Name in the settings.
    pub name: String,
    /// Number of events that are not delivered yet.
    #[serde(alias = "untold")]
    pub undelivered: u64,
    /// Number of deliveries that failed in a row.
    pub failures: u32,
    /// Why the last delivery failed, and what to do about it; null if it did not fail.
    pub error: Option<String>,
}

/// The data folder and its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DataFolder {
    /// Path on the server.
    pub path: String,
    /// Free space on the disk that the server may use, in bytes.
    pub free_bytes: u64,
    /// Size of the disk, in bytes.
    pub disk_bytes: u64,
    /// Compressed size of all builds, in bytes. Shared layers count for each image, so this is an upper
    /// bound.
    pub built_bytes: u64,
}

/// A running job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunningJob {
    /// Number of its run.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// Name of the node: a variant, or a prefix that variants share.
    pub node: String,
    /// Id of the job, also a label of its containers.
    #[schema(value_type = String)]
    pub job: JobId,
    /// Phase of the job; null before the first.
    #[schema(value_type = Option<schemas::Phase>)]
    pub phase: Option<Phase>,
    /// Time at which the job started.
    pub started: Timestamp,
}
