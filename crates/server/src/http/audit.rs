//! The audit trail.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use edgewright_api::{AuditFilter, AuditPage, routes};
use serde::Deserialize;

use super::ApiState;
use super::error::{HttpError, JsonResult};
use super::query::{parsed, query};

/// The query: all filters are optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filters {
    actor: Option<String>,
    operation: Option<String>,
    object: Option<String>,
    since: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
    after: Option<u64>,
}

impl Filters {
    fn parse(self) -> Result<AuditFilter, HttpError> {
        Ok(AuditFilter {
            actor: self.actor.as_deref().map(parsed).transpose()?,
            operation: self.operation,
            object: self.object,
            since: self.since.as_deref().map(parsed).transpose()?,
            limit: self.limit.unwrap_or(routes::DEFAULT_LIMIT),
            cursor: self.cursor,
            after: self.after,
        })
    }
}

pub(super) async fn list(
    State(state): State<ApiState>,
    filters: Result<Query<Filters>, QueryRejection>,
) -> JsonResult<AuditPage> {
    Ok(Json(state.views.audit(&query(filters)?.parse()?).await?))
}
