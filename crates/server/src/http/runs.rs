//! Runs and their logs.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use edgewright_api::{RunResponse, routes};
use edgewright_control::context::OperationContext;
use edgewright_model::error::Chain;
use edgewright_model::run::RunNumber;
use edgewright_process::CancellationToken;
use serde::{Deserialize, Serialize};

use super::ApiState;
use super::error::{HttpError, JsonResult, no_route};
use super::query::{SelectionQuery, parsed, query};
use crate::views::{LogReader, ViewError};

pub(super) async fn list(
    State(state): State<ApiState>,
    selection: SelectionQuery,
) -> Result<Response, HttpError> {
    let selection = query(selection)?;
    let page = selection.page(routes::DEFAULT_LIMIT);
    let page = state.views.run_page(selection.source()?.as_ref(), &page).await?;
    Ok(selection.respond(routes::RUNS, &page))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Path(number): Path<String>,
) -> JsonResult<impl Serialize> {
    Ok(Json(state.views.run(parsed::<RunNumber>(&number)?).await?))
}

pub(super) async fn cancel(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(number): Path<String>,
) -> JsonResult<RunResponse> {
    let run: RunNumber = parsed(&number)?;
    state.control.cancel(&context, run).await?;
    tracing::info!(run.number = run.0, "cancel requested");
    Ok(Json(RunResponse { run }))
}

pub(super) async fn retry(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(number): Path<String>,
) -> JsonResult<RunResponse> {
    let before: RunNumber = parsed(&number)?;
    let run = state.control.retry(&context, before).await?;
    tracing::info!(run.number = run.0, run.retried = before.0, "retry queued");
    Ok(Json(RunResponse { run }))
}

pub(super) async fn comment(
    State(state): State<ApiState>,
    Path(number): Path<String>,
) -> Result<Response, HttpError> {
    let text = state.views.comment(parsed(&number)?).await?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], text).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct JobsQuery {
    known: u64,
    node: Option<String>,
}

pub(super) async fn jobs(
    State(state): State<ApiState>,
    Path(number): Path<String>,
    jobs_query: Result<Query<JobsQuery>, QueryRejection>,
) -> JsonResult<impl Serialize> {
    let JobsQuery { known, node } = query(jobs_query)?;
    Ok(Json(state.views.jobs(parsed(&number)?, node.as_deref(), known).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LogQuery {
    follow: bool,
    /// The bytes to skip.
    from: u64,
}

pub(super) async fn log(
    State(state): State<ApiState>,
    Path((number, rest)): Path<(String, String)>,
    log_query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response, HttpError> {
    let LogQuery { follow, from } = query(log_query)?;
    // Read from the right: the name of a node contains `/`.
    let node = rest.strip_suffix("/log").ok_or_else(no_route)?;
    let reader = state.views.log(parsed(&number)?, node, follow).await?.from(from);
    let following = (reader, state.control.stopping());
    let body = Body::from_stream(futures::stream::try_unfold(following, async |(mut reader, stopping)| {
        // At shutdown the response ends; clients resume behind what they have.
        let chunk = tokio::select! {
            chunk = LogReader::next(&mut reader) => chunk,
            () = CancellationToken::cancelled(&stopping) => Ok(None),
        };
        let chunk = chunk.inspect_err(|error| tracing::error!(error = %Chain(error), "cannot send a log"))?;
        Ok::<_, ViewError>(chunk.map(|chunk| (chunk, (reader, stopping))))
    }));
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}
