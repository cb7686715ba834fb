//! Devices, what operators change about them, and their reports.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::{Extension, Json};
use edgewright_api::device::MAX_REPORTS;
use edgewright_api::{
    ApiError, DevicePost, DeviceReport, DeviceReports, DeviceReportsResponse, DeviceView, routes,
};
use edgewright_control::ControlError;
use edgewright_control::context::OperationContext;
use edgewright_control::devices::{Change, DeviceEvent, Sighting};
use edgewright_model::names::DeviceId;
use edgewright_model::verdict::{CheckOutcome, CheckResult};
use edgewright_store::devices::NewDeviceReport;

use super::ApiState;
use super::error::{HttpError, JsonResult};
use super::inventory::checked;
use super::query::{Selection, SelectionQuery, parsed, query};
use crate::views;

/// Maximum length of the name of a stream of reports, in bytes.
const MAX_STREAM: usize = 64;

pub(super) async fn fleet(
    State(state): State<ApiState>,
    selection: SelectionQuery,
) -> Result<Response, HttpError> {
    let selection = query(selection)?;
    let (source, page) = (selection.source()?, selection.page(routes::LARGEST_LIMIT));
    let page = views::device_page(state.control.devices().list(), source.as_ref(), &page)?;
    Ok(selection.respond(routes::DEVICES, &page))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Path(device): Path<String>,
) -> JsonResult<DeviceView> {
    view(&state, &parsed(&device)?).await
}

async fn view(state: &ApiState, device: &DeviceId) -> JsonResult<DeviceView> {
    let devices = state.control.devices();
    let status = devices.status(device).ok_or_else(|| ControlError::NoDevice { device: device.clone() })?;
    Ok(Json(views::device(status, devices.facts(device).await?)))
}

pub(super) async fn change(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(device): Path<String>,
    body: Result<Json<DevicePost>, JsonRejection>,
) -> JsonResult<DeviceView> {
    let device: DeviceId = parsed(&device)?;
    let Json(post) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    let change = match post {
        DevicePost::Approve => Change::Approve,
        DevicePost::Hold { reason } => Change::Hold { reason: checked(reason)? },
        DevicePost::Release => Change::Release,
        DevicePost::Pin { release, reason } => Change::Pin { release, reason: checked(reason)? },
        DevicePost::Unpin => Change::Unpin,
        DevicePost::Revoke { reason } => Change::Revoke { reason: checked(reason)? },
        DevicePost::Retire { reason } => Change::Retire { reason: checked(reason)? },
    };
    state.control.devices().change(&context, &device, change).await?;
    view(&state, &device).await
}

pub(super) async fn post(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(device): Path<String>,
    body: Result<Json<DeviceReports>, JsonRejection>,
) -> JsonResult<DeviceReportsResponse> {
    let device: DeviceId = parsed(&device)?;
    let Json(DeviceReports { reports }) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    if reports.len() > MAX_REPORTS {
        let message = format!("{} reports in one request: at most {MAX_REPORTS} are accepted", reports.len());
        return Err(ApiError::user_fault(message).into());
    }
    let events = reports.iter().map(event).collect();
    let reports = reports.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
    let count = reports.len();
    let added = state.control.add_device_reports(&context, &device, reports, events).await?;
    tracing::debug!(device.id = %device, count, added, "reports received");
    Ok(Json(DeviceReportsResponse { added }))
}

/// The event of a report.
fn event(report: &DeviceReport) -> DeviceEvent {
    DeviceEvent {
        sighting: Sighting {
            stream: report.stream.clone(),
            sequence: report.sequence,
            boot: report.boot.clone(),
        },
        kind: report.kind.clone(),
        digest: report.digest.clone(),
        booted: report.booted.clone(),
        is_unhealthy: is_unhealthy(report),
    }
}

/// Whether a report is about health checks that failed, or did not run to their end: the device leaves the
/// image, or holds it back.
fn is_unhealthy(report: &DeviceReport) -> bool {
    let has_failed = |check: &CheckResult| matches!(check.outcome, CheckOutcome::Failed { .. });
    let leaves = matches!(report.state.as_deref(), Some("rolling_back" | "held_back"));
    report.kind == "health" && (leaves || report.checks.iter().any(has_failed))
}

fn row(report: DeviceReport) -> Result<NewDeviceReport, HttpError> {
    let is_name = (1..=MAX_STREAM).contains(&report.stream.len())
        && report.stream.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_name {
        let message = format!("invalid stream of a report: use 1 to {MAX_STREAM} letters, digits and `-`");
        return Err(ApiError::user_fault(message).into());
    }
    let document = serde_json::to_value(&report).map_err(|error| ApiError::user_fault(error.to_string()))?;
    Ok(NewDeviceReport { stream: report.stream, sequence: report.sequence, document })
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Path(device): Path<String>,
    selection: Result<Query<Selection>, QueryRejection>,
) -> Result<Response, HttpError> {
    let device: DeviceId = parsed(&device)?;
    let selection = query(selection)?;
    let page = state.views.device_reports(&device, selection.limit(), selection.cursor()).await?;
    Ok(selection.respond(&routes::device_reports(&device), &page))
}
