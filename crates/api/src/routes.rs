//! The paths of the API, in one place for server and client.
//!
//! Node and variant names contain `/` and stand at the end of a path or just before a fixed last word, so that
//! no escaping is needed: `/api/v1/runs/7/jobs/hmi/plant-a/log`.

use edgewright_model::run::RunNumber;

/// Answers `ok` while the process lives.
pub const HEALTH: &str = "/healthz";
/// Answers 200 once the databases are open and sources are polled, 503 before and during shutdown.
pub const READY: &str = "/readyz";
/// [`crate::ServerStatus`].
pub const STATUS: &str = "/api/v1/status";
/// All [`crate::SourceView`]s, by name.
pub const SOURCES: &str = "/api/v1/sources";
/// [`crate::RunSummary`]s, newest first. Query: `source`, `limit`.
pub const RUNS: &str = "/api/v1/runs";
/// [`crate::ImageSummary`]s, by source and variant. Query: `source`.
pub const IMAGES: &str = "/api/v1/images";
/// [`crate::ReleaseView`]s, newest first. Query: `source`, `limit`.
pub const RELEASES: &str = "/api/v1/releases";
/// [`crate::ChannelView`]s, by source and name. Query: `source`.
pub const CHANNELS: &str = "/api/v1/channels";

/// How many runs or releases a list holds where the caller does not say.
pub const DEFAULT_LIMIT: u32 = 20;
/// How many runs or releases a list holds at most.
pub const LARGEST_LIMIT: u32 = 1000;

/// `POST`: poll this source now. Answers [`crate::PollAnswer`].
pub fn poll(source: &str) -> String {
    format!("{SOURCES}/{source}/poll")
}

/// [`crate::RunView`].
pub fn run(number: RunNumber) -> String {
    format!("{RUNS}/{number}")
}

/// A job's log as text; with `?follow=true` the answer ends when the job does.
pub fn log(run: RunNumber, node: &str) -> String {
    format!("{RUNS}/{run}/jobs/{node}/log")
}

/// [`crate::ImageView`]. Query: `source`, where several sources have a variant of this name.
pub fn image(variant: &str) -> String {
    format!("{IMAGES}/{variant}")
}
