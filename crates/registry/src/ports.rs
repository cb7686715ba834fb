//! Ports: what the registry asks of the program that composes it.

use std::fmt;

use axum::http::{Extensions, HeaderMap};
use edgewright_model::Digest;
use edgewright_model::principal::Principal;
use edgewright_model::reference::{Reference, RepoName, Tag};
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

/// What a name means, according to the resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// The name is reserved: clients read it, and only the resolver's owner moves it. `None`: it points to nothing yet.
    Reserved(Option<Target>),
    /// An ordinary name, kept by the registry.
    Ordinary,
    /// The resolver cannot answer now (it logs why): the client receives 503.
    Unavailable,
}

/// Where a reserved name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The repository that holds the content. It differs from the repository that was asked for where that one is
    /// virtual: then the registry serves the content of this one under the virtual name.
    pub repository: RepoName,
    /// The manifest or blob.
    pub digest: Digest,
}

/// What is asked of a [`TagResolver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// A manifest, by tag or digest.
    Manifest(&'a Reference),
    /// A blob. Resolvers of virtual repositories answer it, so that the blobs of a manifest can be pulled under the
    /// name that the manifest was pulled under.
    Blob(&'a Digest),
}

/// Answers reserved names: tags such as a source's channels, and whole virtual repositories. Asked at every use of a
/// name, so it should answer from memory.
///
/// A virtual repository is one for which the resolver answers every lookup with [`Resolution::Reserved`]. It may answer
/// different principals differently.
pub trait TagResolver: fmt::Debug + Send + Sync + 'static {
    /// What `lookup` means in `repository` for `principal`.
    fn resolve<'a>(
        &'a self,
        principal: &'a Principal,
        repository: &'a RepoName,
        lookup: Lookup<'a>,
    ) -> BoxFuture<'a, Resolution>;

    /// The reserved tags of a repository that point to something for `principal`, in any order.
    fn tags<'a>(&'a self, principal: &'a Principal, repository: &'a RepoName) -> BoxFuture<'a, Vec<Tag>>;
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

/// What a request wants to do. Each request asks for one action before anything else happens; the last three are asked
/// for in addition, when the request turns out to need them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Ask whether the registry is there (`GET /v2/`).
    Ping,
    /// Ask for a bearer token (`GET /v2/token`).
    Token,
    /// List repositories.
    Catalog,
    /// List the tags of a repository.
    ListTags(&'a RepoName),
    /// List what refers to a manifest.
    ListReferrers(&'a RepoName),
    /// Read a manifest.
    PullManifest(&'a RepoName, &'a Reference),
    /// Ask whether a blob is there.
    LookForBlob(&'a RepoName, &'a Digest),
    /// Read a blob.
    PullBlob(&'a RepoName, &'a Digest),
    /// Upload a blob, in any of its steps.
    PushBlob(&'a RepoName),
    /// Write a manifest.
    PushManifest(&'a RepoName),
    /// Delete a manifest or an ordinary tag.
    DeleteManifest(&'a RepoName),
    /// Take a blob out of a repository.
    DeleteBlob(&'a RepoName),
    /// In addition: set an ordinary tag.
    Tag(&'a RepoName),
    /// In addition: take a blob of another repository over. Refused, the client pushes the blob instead.
    MountFrom(&'a RepoName, &'a Digest),
    /// In addition: write or delete what only Edgewright itself may, manifests whose artifact type starts with
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

    /// Whether it changes nothing.
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

/// What an [`Authorizer`] decides from.
#[derive(Debug, Clone, Copy)]
pub struct AccessRequest<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// What the layers around the registry know of the request.
    pub extensions: &'a Extensions,
    /// What the request wants to do.
    pub action: Action<'a>,
    /// What the registry knows, for decisions that depend on content.
    pub contents: &'a dyn Contents,
}

/// What an [`Authorizer`] may ask about the content of the registry.
pub trait Contents: fmt::Debug + Send + Sync {
    /// Whether one of `manifests` in `repository` refers to `blob`. False where that cannot be found out.
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
        /// For people: what happened, and what to do next.
        reason: String,
    },
    /// 403: the principal is known, and the action is not permitted.
    Denied {
        /// For people: what happened, and what to do next.
        reason: String,
    },
}

/// Decides who may do what.
pub trait Authorizer: fmt::Debug + Send + Sync + 'static {
    /// Decides one action of one request.
    fn authorize<'a>(&'a self, request: AccessRequest<'a>) -> BoxFuture<'a, Decision>;
}
