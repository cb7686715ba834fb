//! How a server is doing.

use edgewright_model::order::JobId;
use edgewright_model::outcome::Phase;
use edgewright_model::run::RunNumber;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::run::RunSummary;
use crate::source::SourceView;
use crate::target::TargetView;

/// How a server, or a data folder without one, is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatus {
    /// Edgewright's version.
    pub version: String,
    /// When this was read.
    pub now: Timestamp,
    /// Process id of the server that holds the data folder; absent where none runs.
    pub server: Option<u32>,
    /// Address of the registry that clients pull from, such as `127.0.0.1:5080`; absent where no server runs.
    pub registry: Option<String>,
    /// Where everything is kept.
    pub data: DataFolder,
    /// The sources, by name.
    pub sources: Vec<SourceView>,
    /// Who is told of what happens, by name.
    #[serde(default)]
    pub sinks: Vec<SinkView>,
    /// What registries of others have of the channels.
    #[serde(default)]
    pub targets: Vec<TargetView>,
    /// The reconcilers of the running server, by name; empty where none runs.
    #[serde(default)]
    pub reconcilers: Vec<ReconcilerView>,
    /// Runs that wait, oldest first.
    pub queue: Vec<RunSummary>,
    /// Runs that are being worked on.
    pub active: Vec<RunSummary>,
    /// Jobs that run now.
    pub jobs: Vec<RunningJob>,
    /// Machines that `run --keep` left running. Only the command lists them, on the machine where they run.
    #[serde(default)]
    pub kept: Vec<KeptMachine>,
}

/// A part of the server that brings something to what it should be, again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReconcilerView {
    /// Its name: `runs`, `source plants`, `target harbor`.
    pub name: String,
    /// When its last pass started.
    pub started: Timestamp,
    /// Why: `start`, `period`, `retry`, or what woke it.
    pub cause: String,
    /// Whether that pass is still running.
    pub running: bool,
    /// What the last pass that ended did, in one line; absent where there was nothing to do, or it failed.
    pub done: Option<String>,
    /// Why the last pass that ended failed; absent where it succeeded.
    pub error: Option<String>,
    /// When a pass succeeded last.
    pub succeeded: Option<Timestamp>,
    /// How long the last pass that ended took, in milliseconds.
    pub took_ms: u64,
    /// Failed passes in a row.
    pub failures: u32,
    /// When the next pass starts at the latest; absent while one is running.
    pub next: Option<Timestamp>,
}

/// A machine that `run --keep` left running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptMachine {
    /// The repository of its image, such as `plant-os/hmi/plant-a`.
    pub repository: String,
    /// Its container.
    pub container: String,
    /// The container engine's word for its state: `running`, `exited`.
    pub state: String,
    /// Since when, in the engine's words: `Up 2 minutes`.
    pub status: String,
}

/// Somebody who is told of what happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SinkView {
    /// Its name, as configured.
    pub name: String,
    /// Events that it was not told yet.
    pub untold: u64,
    /// Failed tries in a row.
    pub failures: u32,
    /// Why the last one failed, and what to do about it.
    pub error: Option<String>,
}

/// The data folder and its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DataFolder {
    /// Its path on the server.
    pub path: String,
    /// Free for the server on that disk.
    pub free_bytes: u64,
    /// Size of that disk.
    pub disk_bytes: u64,
    /// Compressed length of everything ever built, layers that images share counted for each: an upper bound.
    pub built_bytes: u64,
}

/// A job that runs now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunningJob {
    /// Its run.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// The node: a variant, or a prefix that variants share.
    pub node: String,
    /// Its id, also the label of its containers.
    #[schema(value_type = String)]
    pub job: JobId,
    /// What it is doing.
    #[schema(value_type = Option<String>)]
    pub phase: Option<Phase>,
    /// When it started.
    pub started: Timestamp,
}
