//! The audit trail.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use edgewright_api::{ApiError, AuditFilter, AuditPage, routes};
use serde::Deserialize;

use super::{Answer, ApiState, Refusal, parsed};

/// The query: every filter may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filters {
    actor: Option<String>,
    operation: Option<String>,
    object: Option<String>,
    since: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

impl Filters {
    fn parse(self) -> Result<AuditFilter, Refusal> {
        Ok(AuditFilter {
            actor: self.actor.as_deref().map(parsed).transpose()?,
            operation: self.operation,
            object: self.object,
            since: self.since.as_deref().map(parsed).transpose()?,
            limit: self.limit.unwrap_or(routes::DEFAULT_LIMIT),
            cursor: self.cursor,
        })
    }
}

pub(super) async fn list(
    State(state): State<ApiState>,
    query: Result<Query<Filters>, QueryRejection>,
) -> Answer<AuditPage> {
    let Query(filters) = query.map_err(|error| ApiError::user_fault(error.body_text()))?;
    Ok(Json(state.views.audit(&filters.parse()?).await?))
}
