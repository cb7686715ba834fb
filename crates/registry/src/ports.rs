//! Ports: what the registry asks of whoever composes it.

use std::fmt;

use axum::http::HeaderMap;
use edgewright_model::Digest;
use edgewright_model::reference::{RepoName, Tag};
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

/// What a tag means, by the resolver's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// The name is reserved: clients may read it, only the resolver's owner moves it. `None`: it points to nothing yet.
    Reserved(Option<Digest>),
    /// A client's own tag, kept by the registry.
    Ordinary,
    /// It cannot be said right now (logged by the resolver): the client is answered 503.
    Unavailable,
}

/// Answers reserved tags, such as a source's channels. Asked at every use of a tag: it should answer from memory.
pub trait TagResolver: fmt::Debug + Send + Sync + 'static {
    /// What `tag` means in `repository`.
    fn resolve<'a>(&'a self, repository: &'a RepoName, tag: &'a Tag) -> BoxFuture<'a, Resolution>;

    /// The reserved tags of a repository that point to something, in any order.
    fn tags<'a>(&'a self, repository: &'a RepoName) -> BoxFuture<'a, Vec<Tag>>;
}

/// The resolver of a registry that stands alone: every tag is ordinary.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoReservedTags;

impl TagResolver for NoReservedTags {
    fn resolve<'a>(&'a self, _: &'a RepoName, _: &'a Tag) -> BoxFuture<'a, Resolution> {
        ready(Resolution::Ordinary).boxed()
    }

    fn tags<'a>(&'a self, _: &'a RepoName) -> BoxFuture<'a, Vec<Tag>> {
        ready(Vec::new()).boxed()
    }
}

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask whether the registry is there (`GET /v2/`).
    Ping,
    /// List repositories.
    Catalog,
    /// Read from a repository.
    Pull,
    /// Write blobs, manifests and ordinary tags.
    Push,
    /// Delete blobs, manifests and ordinary tags.
    Delete,
    /// Write or delete what only Edgewright itself may: manifests whose artifact type starts with
    /// `application/vnd.edgewright.`. Asked in addition to [`Action::Push`] or [`Action::Delete`].
    PushReserved,
}

/// The answer of an [`Authorizer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// 401: who asks is not known, or the credentials are wrong.
    Unauthenticated {
        /// Value of `WWW-Authenticate`.
        challenge: String,
    },
    /// 403: who asks is known and may not.
    Denied {
        /// For the client, with what to do next.
        reason: String,
    },
}

/// Decides who may do what.
pub trait Authorizer: fmt::Debug + Send + Sync + 'static {
    /// Decides from the request's headers. `repository` is `None` for [`Action::Ping`] and [`Action::Catalog`].
    fn authorize<'a>(
        &'a self,
        headers: &'a HeaderMap,
        action: Action,
        repository: Option<&'a RepoName>,
    ) -> BoxFuture<'a, Decision>;
}
