//! Lists: repositories, tags, referrers; each in pages.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use edgewright_model::Digest;
use edgewright_model::reference::{Reference, RepoName};
use serde_json::{Value, json};

use super::error::HttpError;
use super::{Call, HttpResult, value};
use crate::metadata::Page;
use crate::ports::Lookup;
use crate::request::percent_encode;

/// The default and largest number of names in a page.
const NAMES: usize = 10_000;
/// The number of referrers in a page: bounds the response.
const REFERRERS: usize = 1_000;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

impl Call<'_> {
    pub(super) async fn catalog(&self) -> HttpResult {
        let (page, limit) = self.page(NAMES)?;
        let mut names = self.inner.metadata.repositories(&page).await?;
        let has_more = cut(&mut names, limit);
        let next = next("/v2/_catalog", names.last().map(RepoName::as_str).filter(|_| has_more), limit, "");
        Ok(listed(&json!({"repositories": names}), next))
    }

    pub(super) async fn tags(&self, name: &RepoName) -> HttpResult {
        let (page, limit) = self.page(NAMES)?;
        let mut tags = self.inner.tags(self.principal, name, &page).await?;
        let has_more = cut(&mut tags, limit);
        let last = tags.last().map(edgewright_model::reference::Tag::as_str).filter(|_| has_more);
        let next = next(&format!("/v2/{name}/tags/list"), last, limit, "");
        Ok(listed(&json!({"name": name, "tags": tags}), next))
    }

    pub(super) async fn referrers(&self, name: &RepoName, subject: &Digest) -> HttpResult {
        let (page, limit) = self.page(REFERRERS)?;
        let artifact_type = self.query.get("artifactType");
        let reference = Reference::Digest(subject.clone());
        let home = self.inner.home(self.principal, name, Lookup::Manifest(&reference)).await?;
        let mut referrers = match &home {
            Some(home) => self.inner.metadata.referrers(home, subject, artifact_type, &page).await?,
            None => Vec::new(),
        };
        let has_more = cut(&mut referrers, limit);
        let last = referrers.last().map(|referrer| referrer.digest.to_string()).filter(|_| has_more);
        let filter = artifact_type.map(|text| format!("&artifactType={}", percent_encode(text)));
        let path = format!("/v2/{name}/referrers/{subject}");
        let next = next(&path, last.as_deref(), limit, &filter.unwrap_or_default());
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": referrers,
        });
        let mut response = listed(&index, next);
        let media_type = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        if artifact_type.is_some() {
            response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
        }
        Ok(response)
    }

    /// The page to read, which is one entry longer than the limit to find out whether there are more.
    fn page(&self, most: usize) -> Result<(Page, usize), HttpError> {
        let limit = match self.query.get("n") {
            None => most,
            Some(text) => {
                let number: usize = text
                    .parse()
                    .map_err(|_| HttpError::page_invalid("invalid `n`: expected a number from 0"))?;
                number.min(most)
            }
        };
        let after = self.query.get("last").unwrap_or_default().to_owned();
        Ok((Page { after, limit: limit + 1 }, limit))
    }
}

/// Cuts a list to its limit; gives whether there were more.
fn cut<T>(list: &mut Vec<T>, limit: usize) -> bool {
    let has_more = list.len() > limit;
    list.truncate(limit);
    has_more
}

fn next(path: &str, last: Option<&str>, limit: usize, more: &str) -> Option<HeaderValue> {
    let last = percent_encode(last?);
    Some(value(&format!("<{path}?n={limit}&last={last}{more}>; rel=\"next\"")))
}

fn listed(body: &Value, next: Option<HeaderValue>) -> Response {
    let mut response = Json(body).into_response();
    response.headers_mut().extend(next.map(|next| (header::LINK, next)));
    response
}
