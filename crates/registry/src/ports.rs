//! Ports: the interfaces that the surrounding program implements.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap};
use bytes::Bytes;
use edgewright_model::Digest;
use edgewright_model::principal::Principal;
use edgewright_model::reference::{Reference, RepoName, Tag};
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use futures::stream::BoxStream;

/// The resolver's response for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// The name is reserved: clients can read it, and only the resolver's owner moves it. `None`: it has no
    /// target yet.
    Reserved(Option<Target>),
    /// An ordinary name, stored in the registry.
    Ordinary,
    /// The resolver is unavailable (it logs why): the client receives 503.
    Unavailable,
}

/// The target of a reserved name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The repository of the content. It differs from the requested repository if that one is virtual: then
    /// the registry serves the content of this one under the virtual name.
    pub repository: RepoName,
    /// The manifest or blob.
    pub digest: Digest,
}

/// A lookup of a [`TagResolver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// A manifest, by tag or digest.
    Manifest(&'a Reference),
    /// A blob. Resolvers of virtual repositories resolve it, so that the blobs of a manifest can be pulled
    /// under the name of the virtual repository.
    Blob(&'a Digest),
}

/// Resolves reserved names: tags such as a source's channels, and whole virtual repositories. It is called at
/// every use of a name, so it should respond from memory.
///
/// In a virtual repository the resolver gives [`Resolution::Reserved`] for every lookup. It may depend on the
/// principal.
pub trait TagResolver: fmt::Debug + Send + Sync + 'static {
    /// Resolves `lookup` in `repository` for `principal`.
    fn resolve<'a>(
        &'a self,
        principal: &'a Principal,
        repository: &'a RepoName,
        lookup: Lookup<'a>,
    ) -> BoxFuture<'a, Resolution>;

    /// The reserved tags of a repository that have a target for `principal`, in any order.
    fn tags<'a>(&'a self, principal: &'a Principal, repository: &'a RepoName) -> BoxFuture<'a, Vec<Tag>>;

    /// Where the blobs of virtual repositories are besides here; none: only here.
    fn external(&self) -> Option<&dyn External> {
        None
    }
}

/// External registries with copies of images that are here. `images` are the digests of manifests that refer
/// to a blob, and of indexes that refer to these.
pub trait External: fmt::Debug + Send + Sync {
    /// Whether there are any.
    fn is_used(&self) -> bool;

    /// Where clients read the blob themselves, with no credentials of this registry.
    fn redirect<'a>(&'a self, images: &'a [Digest], blob: &'a Digest) -> BoxFuture<'a, Redirection>;

    /// Where the blob is read if its file is lost here, in the order of preference.
    fn copies(&self, images: &[Digest]) -> Vec<Arc<dyn ExternalCopy>>;
}

/// Whether a client reads a blob elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirection {
    /// At this URL, where it was a short time ago.
    To(String),
    /// It should, but the external registry does not respond or does not give it to strangers: the client
    /// gets the copy that is here.
    Unavailable,
    /// No.
    None,
}

/// A repository of an external registry.
pub trait ExternalCopy: fmt::Debug + Send + Sync {
    /// The registry's host, for logs.
    fn host(&self) -> &str;

    /// Requests a part of a blob, which is not empty. The bytes are not verified.
    fn open<'a>(&'a self, blob: &'a Digest, part: Range<u64>) -> BoxFuture<'a, Result<CopyBytes, CopyError>>;
}

/// The bytes of a part as they come.
pub type CopyBytes = BoxStream<'static, Result<Bytes, CopyError>>;

/// Why an external registry does not send a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyError {
    /// It does not have it.
    Missing,
    /// It may have it. With the cause, for logs.
    Unavailable(String),
}

/// The resolver of a standalone registry: every name is ordinary.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoReservedTags;

impl TagResolver for NoReservedTags {
    fn resolve<'a>(&'a self, _: &'a Principal, _: &'a RepoName, _: Lookup<'a>) -> BoxFuture<'a, Resolution> {
        ready(Resolution::Ordinary).boxed()
    }

    fn tags<'a>(&'a self, _: &'a Principal, _: &'a RepoName) -> BoxFuture<'a, Vec<Tag>> {
        ready(Vec::new()).boxed()
    }
}

/// An action of a request. Each request is authorized for one action before anything else; the last three are
/// authorized in addition, when the request needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Ping the registry (`GET /v2/`).
    Ping,
    /// Ask for a bearer token (`GET /v2/token`).
    Token,
    /// List repositories.
    Catalog,
    /// List the tags of a repository.
    ListTags(&'a RepoName),
    /// List the referrers of a manifest.
    ListReferrers(&'a RepoName),
    /// Read a manifest.
    PullManifest(&'a RepoName, &'a Reference),
    /// Check whether a blob exists.
    LookForBlob(&'a RepoName, &'a Digest),
    /// Read a blob.
    PullBlob(&'a RepoName, &'a Digest),
    /// Upload a blob, in any of its steps.
    PushBlob(&'a RepoName),
    /// Write a manifest.
    PushManifest(&'a RepoName),
    /// Delete a manifest or an ordinary tag.
    DeleteManifest(&'a RepoName),
    /// Remove a blob from a repository.
    DeleteBlob(&'a RepoName),
    /// In addition: set an ordinary tag.
    Tag(&'a RepoName),
    /// In addition: mount a blob of another repository. If denied, the client pushes the blob instead.
    MountFrom(&'a RepoName, &'a Digest),
    /// In addition: write or delete an artifact of Edgewright, a manifest whose artifact type starts with
    /// `application/vnd.edgewright.`.
    WriteReserved(&'a RepoName),
}

impl<'a> Action<'a> {
    /// The repository that is read or written.
    pub const fn repository(&self) -> Option<&'a RepoName> {
        match *self {
            Self::Ping | Self::Token | Self::Catalog => None,
            Self::ListTags(name)
            | Self::ListReferrers(name)
            | Self::PullManifest(name, _)
            | Self::LookForBlob(name, _)
            | Self::PullBlob(name, _)
            | Self::PushBlob(name)
            | Self::PushManifest(name)
            | Self::DeleteManifest(name)
            | Self::DeleteBlob(name)
            | Self::Tag(name)
            | Self::MountFrom(name, _)
            | Self::WriteReserved(name) => Some(name),
        }
    }

    /// Whether it is read-only.
    pub const fn is_read(&self) -> bool {
        match self {
            Self::Ping
            | Self::Token
            | Self::Catalog
            | Self::ListTags(_)
            | Self::ListReferrers(_)
            | Self::PullManifest(..)
            | Self::LookForBlob(..)
            | Self::PullBlob(..)
            | Self::MountFrom(..) => true,
            Self::PushBlob(_)
            | Self::PushManifest(_)
            | Self::DeleteManifest(_)
            | Self::DeleteBlob(_)
            | Self::Tag(_)
            | Self::WriteReserved(_) => false,
        }
    }
}

/// The input of an [`Authorizer`].
#[derive(Debug, Clone, Copy)]
pub struct AccessRequest<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The request's extensions, set by the layers around the registry.
    pub extensions: &'a Extensions,
    /// The action to authorize.
    pub action: Action<'a>,
    /// The registry's content, for decisions that depend on it.
    pub contents: &'a dyn Contents,
}

/// Queries of an [`Authorizer`] about the content of the registry.
pub trait Contents: fmt::Debug + Send + Sync {
    /// Whether one of `manifests` in `repository` refers to `blob`. False if that cannot be determined.
    fn refers<'a>(
        &'a self,
        repository: &'a RepoName,
        manifests: &'a [Digest],
        blob: &'a Digest,
    ) -> BoxFuture<'a, bool>;
}

/// The decision of an [`Authorizer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Permitted, for this principal.
    Allow(Principal),
    /// 401: credentials are missing or wrong. The registry adds the challenge.
    Unauthenticated {
        /// What happened and what to do next, as text.
        reason: String,
    },
    /// 403: the principal is known, and the action is not permitted.
    Denied {
        /// What happened and what to do next, as text.
        reason: String,
    },
}

/// Decides who may do what.
pub trait Authorizer: fmt::Debug + Send + Sync + 'static {
    /// Decides one action of one request.
    fn authorize<'a>(&'a self, request: AccessRequest<'a>) -> BoxFuture<'a, Decision>;
}
