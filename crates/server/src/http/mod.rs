//! HTTP: the handlers extract, call one view or one use-case, and map the answer.

pub mod access;
mod audit;
mod events;
mod hooks;
mod inventory;
mod rebuilds;
pub mod registry;
mod verdicts;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Json, Router};
use edgewright_api::error::status_of;
use edgewright_api::routes::{Operation, ROUTES};
use edgewright_api::{ApiError, PollResponse, RunResponse, openapi, routes};
use edgewright_control::context::OperationContext;
use edgewright_control::{Control, ControlError};
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::names::{ImageName, SourceName, VariantName};
use edgewright_model::run::RunNumber;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::live::Shared;
use crate::metrics::{self, Metrics};

use crate::views::{LogReader, ViewError, Views, reconciler};

/// What the handlers need.
#[derive(Clone)]
pub struct ApiState {
    /// Reading.
    pub views: Views,
    /// Operations.
    pub control: Control,
    /// Secrets, as they are now.
    pub live: Shared,
    /// What counts up.
    pub metrics: Metrics,
    /// The registry's blobs on the disk, in bytes.
    pub storage: Storage,
    /// Whether the server takes work: false before it is up and once it shuts down.
    pub ready: Arc<AtomicBool>,
}

/// Measures what the registry's blobs take, in bytes.
pub type Storage = Arc<dyn Fn() -> BoxFuture<'static, u64> + Send + Sync>;

impl ApiState {
    /// Not ready yet.
    pub fn new(views: Views, control: Control, live: Shared, metrics: Metrics, storage: Storage) -> Self {
        let ready = Arc::new(AtomicBool::new(false));
        Self { views, control, live, metrics, storage, ready }
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

/// The routes of [`ROUTES`]: what is in that table is served, and nothing else ([`access::enforce`] sees to it).
pub fn router(state: ApiState) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.matched.unwrap_or(route.path), handler(route.operation));
    }
    router.fallback(unknown).with_state(state)
}

fn handler(operation: Operation) -> MethodRouter<ApiState> {
    match operation {
        Operation::Health => get(|| async { "ok\n" }),
        Operation::Ready => get(ready),
        Operation::Metrics => get(scrape),
        Operation::OpenApi => get(|| async { Json(openapi::document()) }),
        Operation::Status => get(status),
        Operation::Sources => get(sources),
        Operation::Poll => post(poll),
        Operation::Update => post(update),
        Operation::Runs => get(runs),
        Operation::Events => get(events::stream),
        Operation::Run => get(run),
        Operation::Cancel => post(cancel),
        Operation::Retry => post(retry),
        Operation::Comment => get(comment),
        Operation::Log => get(log),
        Operation::Images => get(images),
        Operation::Image => get(image),
        Operation::Releases => get(releases),
        Operation::Channels => get(channels),
        Operation::ChangeChannel => post(inventory::change_channel),
        Operation::Sites => get(inventory::sites),
        Operation::Site => get(inventory::site),
        Operation::Targets => get(targets),
        Operation::PostVerdict => post(verdicts::post),
        Operation::StartRebuild => post(rebuilds::start),
        Operation::Rebuild => get(rebuilds::show),
        Operation::Hook => post(hook),
        Operation::Audit => get(audit::list),
    }
}

/// A refusal: [`ApiError`] with its status.
#[derive(Debug)]
struct Refusal {
    error: ApiError,
    /// Where it is not that of the error's class.
    status: Option<StatusCode>,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let of_class = StatusCode::from_u16(status_of(self.error.code));
        let status = self.status.or(of_class.ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if matches!(self.error.code, ErrorClass::Bug | ErrorClass::Unavailable) {
            tracing::error!(http.status = status.as_u16(), "a request failed: {}", self.error.message);
        }
        let mut response = (status, Json(self.error)).into_response();
        access::challenge(&mut response);
        response
    }
}

/// The answer to a request whose handler panicked. What the panic said may hold anything, and is in the log alone.
pub(crate) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    let message = "a defect of the server ended this request".to_owned();
    let hint = Some("see the server's log at this time".to_owned());
    Refusal::from(ApiError { code: ErrorClass::Bug, message, hint }).into_response()
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self { error, status: None }
    }
}

impl From<ViewError> for Refusal {
    fn from(error: ViewError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let hint = error.hint().map(str::to_owned);
        ApiError { code: error.class(), message: Chain(&error).to_string(), hint }.into()
    }
}

type Answer<T> = Result<Json<T>, Refusal>;

/// Parses a name from a path or query.
fn parsed<T: std::str::FromStr<Err: std::error::Error + 'static>>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error: T::Err| ApiError::user_fault(Chain(&error).to_string()).into())
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
    query.map(|Query(selection)| selection).map_err(|error| ApiError::user_fault(error.body_text()).into())
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
    let mut status = state.views.status().await?;
    status.reconcilers = state.control.reconcilers().into_iter().map(reconciler).collect();
    Ok(Json(status))
}

async fn sources(State(state): State<ApiState>) -> Answer<impl Serialize> {
    Ok(Json(state.views.sources().await?))
}

async fn poll(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(name): Path<String>,
) -> Answer<PollResponse> {
    let source: SourceName = parsed(&name)?;
    if state.control.wake_named(&context, &source)? {
        return Ok(Json(PollResponse { source }));
    }
    Err(no_source(&source))
}

/// The images that `update` is for; all without any.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Images {
    images: String,
}

async fn update(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(name): Path<String>,
    query: Result<Query<Images>, axum::extract::rejection::QueryRejection>,
) -> Answer<RunResponse> {
    let source: SourceName = parsed(&name)?;
    let Query(images) = query.map_err(|error| ApiError::user_fault(error.body_text()))?;
    let names = images.images.split(',').filter(|name| !name.is_empty());
    let images = names.map(parsed::<ImageName>).collect::<Result<_, _>>()?;
    let run = state.control.update_named(&context, &source, &images).await?;
    tracing::info!(run.number = run.0, source.name = %source, "locks are looked at");
    Ok(Json(RunResponse { run }))
}

async fn cancel(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(number): Path<String>,
) -> Answer<RunResponse> {
    let run: RunNumber = parsed(&number)?;
    state.control.cancel(&context, run).await?;
    tracing::info!(run.number = run.0, "a run is cancelled");
    Ok(Json(RunResponse { run }))
}

async fn retry(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(number): Path<String>,
) -> Answer<RunResponse> {
    let before: RunNumber = parsed(&number)?;
    let run = state.control.retry(&context, before).await?;
    tracing::info!(run.number = run.0, before = before.0, "a run is tried again");
    Ok(Json(RunResponse { run }))
}

async fn comment(State(state): State<ApiState>, Path(number): Path<String>) -> Result<Response, Refusal> {
    let text = state.views.comment(parsed(&number)?).await?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], text).into_response())
}

async fn scrape(State(state): State<ApiState>) -> Result<Response, Refusal> {
    let mut snapshot = state.views.snapshot(&state.live.now().sinks).await?;
    snapshot.reconcilers = state.control.reconcilers();
    snapshot.storage_bytes = (state.storage)().await;
    let text = state.metrics.text(&snapshot).map_err(|error| ApiError {
        code: ErrorClass::Bug,
        message: format!("metrics cannot be written: {error}"),
        hint: None,
    })?;
    Ok(([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response())
}

/// A webhook whose proof the gate has verified.
async fn hook(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path((_, source)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let source: SourceName = parsed(&source)?;
    if !state.control.wake_named(&context, &source)? {
        return Err(no_source(&source));
    }
    tracing::info!(source.name = %source, "a webhook asks for a poll");
    Ok((StatusCode::ACCEPTED, "the source is polled now\n").into_response())
}

fn no_source(source: &SourceName) -> Refusal {
    let message = format!("the server follows no source `{source}`");
    ApiError::not_found(message, "`edgewright status` lists the sources").into()
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
    /// How many bytes to leave out.
    from: u64,
}

async fn log(
    State(state): State<ApiState>,
    Path((number, rest)): Path<(String, String)>,
    query: Result<Query<Following>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(following) = query.map_err(|error| ApiError::user_fault(error.body_text()))?;
    // From the right: a node's name contains `/` itself.
    let node = rest.strip_suffix("/log").ok_or_else(not_there)?;
    let reader = state.views.log(parsed(&number)?, node, following.follow).await?.from(following.from);
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

async fn targets(State(state): State<ApiState>) -> Answer<impl Serialize> {
    Ok(Json(state.views.targets().await?))
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

/// 405; `allowed` lists the methods that the route has.
fn not_allowed(method: &Method, allowed: &str) -> Response {
    let message = format!("`{method}` is not supported here");
    let error = ApiError { code: ErrorClass::UserFault, message, hint: Some(SEE_ROUTES.to_owned()) };
    let mut response = (StatusCode::METHOD_NOT_ALLOWED, Json(error)).into_response();
    if let Ok(value) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// For those who write clients of their own.
const SEE_ROUTES: &str = "`/api/v1/openapi.json` lists the operations";

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_without_what_it_said() {
        let response = panicked(Box::new("a token: ewop_1234"));
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        let error: ApiError = serde_json::from_slice(&body).unwrap();
        assert_eq!(error.code, ErrorClass::Bug);
        assert!(!error.message.contains("ewop_"), "{}", error.message);
    }
}
