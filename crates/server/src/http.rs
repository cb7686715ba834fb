//! The API over HTTP: handlers extract, call one view or one use-case, and map the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use edgewright_api::error::status_of;
use edgewright_api::{ApiError, PollAnswer, routes};
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::names::{SourceName, VariantName};
use edgewright_model::run::RunNumber;
use serde::{Deserialize, Serialize};

use crate::views::{LogReader, ViewError, Views};

/// Wakes the poller of a source; false where there is no such source.
pub type Wake = Arc<dyn Fn(&SourceName) -> bool + Send + Sync>;

/// What the handlers need.
#[derive(Clone)]
pub struct ApiState {
    /// Reading.
    pub views: Views,
    /// Waking a source's poller.
    pub wake: Wake,
    /// Whether the server takes work: false before it is up and once it shuts down.
    pub ready: Arc<AtomicBool>,
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState")
            .field("views", &self.views)
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

/// The routes of [`routes`].
pub fn router(state: ApiState) -> Router {
    Router::new()
        .route(routes::HEALTH, get(|| async { "ok\n" }))
        .route(routes::READY, get(ready))
        .route(routes::STATUS, get(status))
        .route(routes::SOURCES, get(sources))
        .route("/api/v1/sources/{name}/poll", post(poll))
        .route(routes::RUNS, get(runs))
        .route("/api/v1/runs/{number}", get(run))
        .route("/api/v1/runs/{number}/jobs/{*rest}", get(log))
        .route(routes::IMAGES, get(images))
        .route("/api/v1/images/{*variant}", get(image))
        .route(routes::RELEASES, get(releases))
        .route(routes::CHANNELS, get(channels))
        .route("/api/{*rest}", get(unknown).post(unknown))
        .with_state(state)
}

/// A refusal: [`ApiError`] with its status.
#[derive(Debug)]
struct Refusal(ApiError);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = status_of(self.0.code);
        if matches!(self.0.code, ErrorClass::Bug | ErrorClass::Unavailable) {
            tracing::error!(http.status = status, "a request failed: {}", self.0.message);
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.0)).into_response()
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<ViewError> for Refusal {
    fn from(error: ViewError) -> Self {
        Self(error.into())
    }
}

type Answer<T> = Result<Json<T>, Refusal>;

/// Parses a name from a path or query.
fn parsed<T: std::str::FromStr<Err: std::error::Error + 'static>>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error: T::Err| Refusal(ApiError::user_fault(Chain(&error).to_string())))
}

/// The query of every list.
#[derive(Debug, Default, Deserialize)]
struct Selection {
    source: Option<String>,
    limit: Option<u32>,
}

impl Selection {
    fn source(&self) -> Result<Option<SourceName>, Refusal> {
        self.source.as_deref().map(parsed).transpose()
    }

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(routes::DEFAULT_LIMIT).clamp(1, routes::LARGEST_LIMIT)
    }
}

/// A query, refused in our own words.
fn selection(
    query: Result<Query<Selection>, axum::extract::rejection::QueryRejection>,
) -> Result<Selection, Refusal> {
    query.map(|Query(selection)| selection).map_err(|error| Refusal(ApiError::user_fault(error.body_text())))
}

type SelectionQuery = Result<Query<Selection>, axum::extract::rejection::QueryRejection>;

async fn ready(State(state): State<ApiState>) -> Response {
    if state.ready.load(Ordering::Acquire) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn status(State(state): State<ApiState>) -> Answer<impl Serialize> {
    Ok(Json(state.views.status().await?))
}

async fn sources(State(state): State<ApiState>) -> Answer<impl Serialize> {
    Ok(Json(state.views.sources().await?))
}

async fn poll(State(state): State<ApiState>, Path(name): Path<String>) -> Answer<PollAnswer> {
    let source: SourceName = parsed(&name)?;
    if (state.wake)(&source) {
        return Ok(Json(PollAnswer { source }));
    }
    let message = format!("the server follows no source `{source}`");
    Err(ApiError::not_found(message, "`edgewright status` lists the sources").into())
}

async fn runs(State(state): State<ApiState>, query: SelectionQuery) -> Answer<impl Serialize> {
    let selection = selection(query)?;
    Ok(Json(state.views.runs(selection.source()?.as_ref(), selection.limit()).await?))
}

async fn run(State(state): State<ApiState>, Path(number): Path<String>) -> Answer<impl Serialize> {
    Ok(Json(state.views.run(parsed::<RunNumber>(&number)?).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Following {
    follow: bool,
}

async fn log(
    State(state): State<ApiState>,
    Path((number, rest)): Path<(String, String)>,
    query: Result<Query<Following>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(following) = query.map_err(|error| ApiError::user_fault(error.body_text()))?;
    // From the right: a node's name contains `/` itself.
    let node = rest.strip_suffix("/log").ok_or_else(not_there)?;
    let reader = state.views.log(parsed(&number)?, node, following.follow).await?;
    let body = Body::from_stream(futures::stream::try_unfold(reader, async |mut reader: LogReader| {
        let chunk = reader.next().await.inspect_err(|error| {
            tracing::error!("a log could not be sent: {}", Chain(error));
        })?;
        Ok::<_, ViewError>(chunk.map(|chunk| (chunk, reader)))
    }));
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

async fn images(State(state): State<ApiState>, query: SelectionQuery) -> Answer<impl Serialize> {
    Ok(Json(state.views.images(selection(query)?.source()?.as_ref()).await?))
}

async fn image(
    State(state): State<ApiState>,
    Path(variant): Path<String>,
    query: SelectionQuery,
) -> Answer<impl Serialize> {
    let variant: VariantName = parsed(&variant)?;
    Ok(Json(state.views.image(&variant, selection(query)?.source()?.as_ref()).await?))
}

async fn releases(State(state): State<ApiState>, query: SelectionQuery) -> Answer<impl Serialize> {
    let selection = selection(query)?;
    Ok(Json(state.views.releases(selection.source()?.as_ref(), selection.limit()).await?))
}

async fn channels(State(state): State<ApiState>, query: SelectionQuery) -> Answer<impl Serialize> {
    Ok(Json(state.views.channels(selection(query)?.source()?.as_ref()).await?))
}

fn not_there() -> Refusal {
    ApiError::not_found(
        "there is nothing at this address",
        "is the client of the same version as the server?",
    )
    .into()
}

async fn unknown() -> Refusal {
    not_there()
}
