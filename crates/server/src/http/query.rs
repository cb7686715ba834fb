//! Parameters of paths and queries.

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use edgewright_api::ApiError;
use edgewright_model::error::Chain;
use edgewright_model::names::SourceName;
use edgewright_model::run::ReleaseNumber;
use serde::{Deserialize, Serialize};

use super::error::HttpError;
use crate::views::{Page, PageRequest};

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
    cursor: Option<String>,
    /// Only the release of this number.
    number: Option<u32>,
}

/// The extractor of a [`Selection`].
pub(super) type SelectionQuery = Result<Query<Selection>, QueryRejection>;

impl Selection {
    /// Only this source.
    pub(super) fn source(&self) -> Result<Option<SourceName>, HttpError> {
        self.source.as_deref().map(parsed).transpose()
    }

    /// Only the release of this number.
    pub(super) fn number(&self) -> Option<ReleaseNumber> {
        self.number.map(ReleaseNumber)
    }

    /// The size of the page, if the client gives one.
    pub(super) const fn limit(&self) -> Option<u32> {
        self.limit
    }

    /// The cursor, if the client gives one.
    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The page of the list; `default` is its size if the client gives none.
    pub(super) fn page(&self, default: u32) -> PageRequest {
        PageRequest::of_client(self.limit, default, self.cursor.clone())
    }

    /// A page of the list at `path` as a response: its rows, and a `Link` header (RFC 8288) to the next ones.
    pub(super) fn respond<T: Serialize>(&self, path: &str, page: &Page<T>) -> Response {
        let link = page.next.as_deref().and_then(|next| self.link(path, next));
        let mut response = Json(&page.rows).into_response();
        if let Some(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }

    fn link(&self, path: &str, next: &str) -> Option<HeaderValue> {
        // The host is not part of the header: it differs behind a proxy.
        let mut url = reqwest::Url::parse("http://localhost").ok()?;
        url.set_path(path);
        let mut pairs = url.query_pairs_mut();
        pairs.extend_pairs(self.source.iter().map(|source| ("source", source)));
        pairs.extend_pairs(self.limit.iter().map(|limit| ("limit", limit.to_string())));
        pairs.extend_pairs(self.number.iter().map(|number| ("number", number.to_string())));
        pairs.append_pair("cursor", next);
        drop(pairs);
        let query = url.query().unwrap_or_default();
        HeaderValue::from_str(&format!("<{path}?{query}>; rel=\"next\"")).ok()
    }
}
