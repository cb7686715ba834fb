//! Parameters of paths and queries.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use edgewright_api::{ApiError, routes};
use edgewright_model::error::Chain;
use edgewright_model::names::SourceName;
use serde::Deserialize;

use super::error::HttpError;

/// Parses a parameter of a path or query.
pub(super) fn parsed<T: std::str::FromStr<Err: std::error::Error + 'static>>(
    text: &str,
) -> Result<T, HttpError> {
    text.parse().map_err(|error: T::Err| ApiError::user_fault(Chain(&error).to_string()).into())
}

/// A query, with axum's error as a document.
pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, HttpError> {
    query.map(|Query(query)| query).map_err(|error| ApiError::user_fault(error.body_text()).into())
}

/// The query of every list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Selection {
    source: Option<String>,
    limit: Option<u32>,
}

/// The extractor of a [`Selection`].
pub(super) type SelectionQuery = Result<Query<Selection>, QueryRejection>;

impl Selection {
    /// Only this source.
    pub(super) fn source(&self) -> Result<Option<SourceName>, HttpError> {
        self.source.as_deref().map(parsed).transpose()
    }

    /// How many entries at most.
    pub(super) fn limit(&self) -> u32 {
        self.limit.unwrap_or(routes::DEFAULT_LIMIT).clamp(1, routes::LARGEST_LIMIT)
    }
}
