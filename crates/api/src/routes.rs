//! The paths of the API, in one table for server, client and the OpenAPI document.
//!
//! Names of nodes and variants contain `/`. They are at the end of a path or before a fixed last segment, so
//! that they need no escaping: `/api/v1/runs/7/jobs/hmi/plant-a/log`.

mod kinds;
mod table;

use edgewright_model::names::DeviceId;
use edgewright_model::run::{RebuildNumber, RunNumber};

pub use kinds::{Content, Operation, Parameter, Route};
pub use table::{ROUTES, route};

/// A short text for people who open the server's address in a browser.
pub const INDEX: &str = "/";
/// Returns `ok` while the process runs.
pub const HEALTH: &str = "/healthz";
/// Returns 200 once the databases are open and sources are polled, 503 before and during shutdown.
pub const READY: &str = "/readyz";
/// Metrics in OpenMetrics text, for Prometheus.
pub const METRICS: &str = "/metrics";
/// The OpenAPI document.
pub const OPENAPI: &str = "/api/v1/openapi.json";
/// [`crate::ServerStatus`].
pub const STATUS: &str = "/api/v1/status";
/// All [`crate::SourceView`]s, by name.
pub const SOURCES: &str = "/api/v1/sources";
/// [`crate::RunSummary`]s, newest first. Query: `source`, `limit`, `cursor`.
pub const RUNS: &str = "/api/v1/runs";
/// [`crate::RunStateChanged`]s as they happen, as server-sent events.
pub const EVENTS: &str = "/api/v1/events";
/// [`crate::ImageSummary`]s, by source and variant. Query: `source`, `limit`, `cursor`.
pub const IMAGES: &str = "/api/v1/images";
/// [`crate::ReleaseView`]s, newest first. Query: `source`, `number`, `limit`, `cursor`.
pub const RELEASES: &str = "/api/v1/releases";
/// [`crate::ChannelView`]s, by source and name. Query: `source`, `limit`, `cursor`.
pub const CHANNELS: &str = "/api/v1/channels";

/// [`crate::RolloutSummary`]s, newest first. Query: `source`, `limit`, `cursor`.
pub const ROLLOUTS: &str = "/api/v1/rollouts";
/// `GET`: the [`crate::QuarantineView`]s, newest first. `POST`: a [`crate::QuarantinePost`]. Returns what
/// remains.
pub const QUARANTINE: &str = "/api/v1/quarantine";

/// [`crate::SiteSummary`]s, by source and name. Query: `source`, `limit`, `cursor`.
pub const SITES: &str = "/api/v1/sites";

/// [`crate::TargetView`]s, by target, source and channel.
pub const TARGETS: &str = "/api/v1/targets";

/// `POST`: a [`crate::VerdictPost`] of another system. Returns [`crate::VerdictResponse`].
pub const VERDICTS: &str = "/api/v1/verdicts";

/// `POST`: the objects of a job; the body is a [`crate::ExportPost`]. Returns [`crate::ExportView`].
pub const EXPORTS: &str = "/api/v1/exports";
/// `POST`: start a rebuild; the body is a [`crate::RebuildPost`]. Returns [`crate::RebuildStatus`].
pub const REBUILDS: &str = "/api/v1/rebuilds";

/// An [`crate::AuditPage`], newest first. Query: `actor`, `operation`, `object`, `since`, `limit`, `cursor`,
/// `after`.
pub const AUDIT: &str = "/api/v1/audit";

/// `POST`: a token for devices; the body is a [`crate::EnrolmentPost`]. Returns [`crate::EnrolmentView`].
pub const ENROLMENTS: &str = "/api/v1/enrolments";
/// `POST`: exchange a token; the body is a [`crate::EnrolPost`]. Returns [`crate::DeviceIdentity`].
pub const ENROL: &str = "/api/v1/enrol";
/// [`crate::DeviceSummary`]s, by id. Query: `source`, `limit`, `cursor`.
pub const DEVICES: &str = "/api/v1/devices";

/// [`crate::UserView`]s, by name. `POST`: add or change a user; the body is a [`crate::UserPost`].
pub const USERS: &str = "/api/v1/users";
/// The [`crate::Identity`] of the client.
pub const WHOAMI: &str = "/api/v1/whoami";
/// A [`crate::LoginView`]; 404 if the server trusts no provider.
pub const LOGIN: &str = "/api/v1/login";

/// Default of `limit`: the number of runs or releases in a page of a list.
pub const DEFAULT_LIMIT: u32 = 20;
/// Largest `limit`: the number of rows in a page of a list.
pub const LARGEST_LIMIT: u32 = 1000;

/// `POST`: poll this source now. Returns [`crate::PollResponse`].
pub fn poll(source: &str) -> String {
    format!("{SOURCES}/{source}/poll")
}

/// `POST`: check a source for updates: all images, or those that `images` names. Returns
/// [`crate::RunResponse`].
pub fn update(source: &str) -> String {
    format!("{SOURCES}/{source}/update")
}

/// `DELETE`: remove a user.
pub fn user(name: &str) -> String {
    format!("{USERS}/{name}")
}

/// `POST`: issue a token; the body is a [`crate::TokenPost`]. Returns [`crate::TokenResponse`].
pub fn user_tokens(name: &str) -> String {
    format!("{USERS}/{name}/tokens")
}

/// `DELETE`: revoke a token.
pub fn user_token(name: &str, id: i64) -> String {
    format!("{USERS}/{name}/tokens/{id}")
}

/// [`crate::RunView`].
pub fn run(number: RunNumber) -> String {
    format!("{RUNS}/{number}")
}

/// `POST`: cancel a run. Returns [`crate::RunResponse`].
pub fn cancel(number: RunNumber) -> String {
    format!("{RUNS}/{number}/cancel")
}

/// `POST`: queue the commit of a run again. Returns [`crate::RunResponse`] with the new run.
pub fn retry(number: RunNumber) -> String {
    format!("{RUNS}/{number}/retry")
}

/// A run's plan and verdicts as Markdown, for a comment on a pull request.
pub fn comment(number: RunNumber) -> String {
    format!("{RUNS}/{number}/comment.md")
}

/// [`crate::RunJobs`]. Query: `known`, `node`.
pub fn jobs(run: RunNumber) -> String {
    format!("{RUNS}/{run}/jobs")
}

/// A job's log as text; with `?follow=true` the response ends when the job does.
pub fn log(run: RunNumber, node: &str) -> String {
    format!("{RUNS}/{run}/jobs/{node}/log")
}

/// The [`crate::EvidenceView`]s of a node.
pub fn evidence(run: RunNumber, node: &str) -> String {
    format!("{RUNS}/{run}/evidence/{node}")
}

/// One piece of evidence as text. Query: `lane`, `platform`.
pub fn piece(run: RunNumber, name: &str, node: &str) -> String {
    format!("{RUNS}/{run}/pieces/{name}/{node}")
}

/// [`crate::ImageView`]. Query: `source`, needed if several sources have a variant of this name.
pub fn image(variant: &str) -> String {
    format!("{IMAGES}/{variant}")
}

/// [`crate::RebuildStatus`].
pub fn rebuild(number: RebuildNumber) -> String {
    format!("{REBUILDS}/{number}")
}

/// [`crate::SiteView`]. Query: `source`, needed if several sources have a site of this name.
pub fn site(name: &str) -> String {
    format!("{SITES}/{name}")
}

/// `POST`: change a channel; the body is a [`crate::ChannelPost`]. Returns [`crate::ChannelView`]. Query:
/// `source`, needed if several sources have a channel of this name.
pub fn channel(name: &str) -> String {
    format!("{CHANNELS}/{name}")
}

/// `GET`: [`crate::RolloutView`]. `POST`: a [`crate::RolloutPost`]. Returns [`crate::RolloutView`]. The name
/// is a number, or that of a channel: its newest rollout. Query: `source`, needed if several sources have a
/// channel of this name.
pub fn rollout(name: &str) -> String {
    format!("{ROLLOUTS}/{name}")
}

/// [`crate::RolloutDeviceView`]s of a rollout, by stage and id. Query: `source`, `device`.
pub fn rollout_devices(name: &str) -> String {
    format!("{ROLLOUTS}/{name}/devices")
}

/// [`crate::DeviceView`]. `POST`: change a device; the body is a [`crate::DevicePost`].
pub fn device(device: &DeviceId) -> String {
    format!("{DEVICES}/{device}")
}

/// `POST`: another credential for a device. Returns [`crate::DeviceIdentity`].
pub fn device_credential(device: &DeviceId) -> String {
    format!("{DEVICES}/{device}/credential")
}

/// `POST`: [`crate::DeviceReports`] of a device. Returns [`crate::DeviceReportsResponse`]. `GET`: its
/// [`crate::DeviceReportView`]s, newest first. Query: `limit`, `cursor`.
pub fn device_reports(device: &DeviceId) -> String {
    format!("{DEVICES}/{device}/reports")
}
