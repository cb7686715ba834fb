//! Reports of devices.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::{Extension, Json};
use edgewright_api::device::MAX_REPORTS;
use edgewright_api::{ApiError, DeviceReport, DeviceReports, DeviceReportsResponse, routes};
use edgewright_control::context::OperationContext;
use edgewright_model::names::DeviceId;
use edgewright_store::devices::NewDeviceReport;

use super::ApiState;
use super::error::{HttpError, JsonResult};
use super::query::{Selection, parsed, query};

/// Maximum length of the name of a stream of reports, in bytes.
const MAX_STREAM: usize = 64;

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
    let reports = reports.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
    let count = reports.len();
    let added = state.control.add_device_reports(&context, &device, reports).await?;
    tracing::debug!(device.id = %device, count, added, "reports received");
    Ok(Json(DeviceReportsResponse { added }))
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
