//! HTTP: each handler extracts its parameters, calls one view or one operation, and returns its result.

pub mod access;
mod audit;
mod devices;
mod enrol;
mod error;
mod events;
mod evidence;
mod exports;
mod hooks;
mod host;
mod images;
mod inventory;
mod query;
mod rebuilds;
pub mod registry;
mod rollouts;
mod runs;
mod server;
mod sources;
mod traffic;
mod users;
mod verdicts;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use edgewright_api::openapi;
use edgewright_api::routes::{Operation, ROUTES};
use edgewright_control::Control;
use edgewright_control::users::Users;
use edgewright_process::Clock;
use edgewright_registry::ExternalTraffic;
use futures::future::BoxFuture;

use crate::live::Shared;
use crate::metrics::Metrics;
use crate::views::Views;

pub(crate) use error::{oci_errors, panicked};

/// What the handlers need.
#[derive(Clone)]
pub struct ApiState {
    /// Documents for clients.
    pub views: Views,
    /// Operations.
    pub control: Control,
    /// Local users.
    pub users: Users,
    /// Time.
    pub clock: Clock,
    /// Settings that a reload changes.
    pub live: Shared,
    /// Counters and histograms.
    pub metrics: Metrics,
    /// Measures the registry.
    pub storage: Storage,
    /// Whether the server accepts work: false during start and shutdown.
    pub ready: Arc<AtomicBool>,
}

/// Measures the size of the registry's blobs in bytes, and what clients got of external registries.
pub type Storage = Arc<dyn Fn() -> BoxFuture<'static, (u64, ExternalTraffic)> + Send + Sync>;

impl ApiState {
    /// A state that is not ready yet.
    pub fn new(
        views: Views,
        (control, users): (Control, Users),
        (live, clock): (Shared, Clock),
        metrics: Metrics,
        storage: Storage,
    ) -> Self {
        let ready = Arc::new(AtomicBool::new(false));
        Self { views, control, users, clock, live, metrics, storage, ready }
    }
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState")
            .field("views", &self.views)
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

/// The routes of [`ROUTES`]. Nothing else is served: [`access::enforce`] rejects a route without a row in
/// that table.
pub fn router(state: ApiState) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.matched.unwrap_or(route.path), handler(route.operation));
    }
    router.fallback(async || error::no_route()).with_state(state)
}

fn handler(operation: Operation) -> MethodRouter<ApiState> {
    match operation {
        Operation::Index => get(server::index),
        Operation::Health => get(|| async { "ok\n" }),
        Operation::Ready => get(server::ready),
        Operation::Metrics => get(server::scrape),
        Operation::OpenApi => get(|| async { Json(openapi::document()) }),
        Operation::Status => get(server::status),
        Operation::Sources => get(sources::list),
        Operation::Poll => post(sources::poll),
        Operation::Update => post(sources::update),
        Operation::Runs => get(runs::list),
        Operation::Events => get(events::stream),
        Operation::Run => get(runs::show),
        Operation::Cancel => post(runs::cancel),
        Operation::Retry => post(runs::retry),
        Operation::Comment => get(runs::comment),
        Operation::Jobs => get(runs::jobs),
        Operation::Log => get(runs::log),
        Operation::Evidence => get(evidence::list),
        Operation::Piece => get(evidence::piece),
        Operation::Images => get(images::list),
        Operation::Image => get(images::show),
        Operation::Releases => get(images::releases),
        Operation::Channels => get(inventory::channels),
        Operation::ChangeChannel => post(inventory::change_channel),
        Operation::Rollouts => get(rollouts::list),
        Operation::Rollout => get(rollouts::show),
        Operation::OrderRollout => post(rollouts::order),
        Operation::RolloutDevices => get(rollouts::devices),
        Operation::Quarantine => get(rollouts::quarantine),
        Operation::ClearQuarantine => post(rollouts::clear),
        Operation::Sites => get(inventory::sites),
        Operation::Site => get(inventory::site),
        Operation::Targets => get(images::targets),
        Operation::PostVerdict => post(verdicts::post),
        Operation::StartRebuild => post(rebuilds::start),
        Operation::Rebuild => get(rebuilds::show),
        Operation::Export => post(exports::export),
        Operation::Hook => post(sources::hook),
        Operation::Audit => get(audit::list),
        Operation::Users => get(users::list),
        Operation::SetUser => post(users::set),
        Operation::RemoveUser => delete(users::remove),
        Operation::IssueToken => post(users::issue),
        Operation::RevokeToken => delete(users::revoke),
        Operation::Whoami => get(users::whoami),
        Operation::Login => get(users::login),
        Operation::PostDeviceReports => post(devices::post),
        Operation::DeviceReports => get(devices::list),
        Operation::Devices => get(devices::fleet),
        Operation::Device => get(devices::show),
        Operation::ChangeDevice => post(devices::change),
        Operation::RotateDevice => post(enrol::rotate),
        Operation::MakeEnrolment => post(enrol::make),
        Operation::Enrol => post(enrol::enrol),
    }
}
