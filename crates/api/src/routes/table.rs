//! The table of routes: what the server serves, what the OpenAPI document lists, who may call what.

use super::{
    AUDIT, CHANNELS, EVENTS, HEALTH, IMAGES, INDEX, METRICS, OPENAPI, READY, REBUILDS, RELEASES, RUNS, SITES,
    SOURCES, STATUS, TARGETS, VERDICTS,
};
use crate::access::{Access, Method};

/// What a route does. The server has one handler for each, the OpenAPI document one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`INDEX`].
    Index,
    /// [`HEALTH`].
    Health,
    /// [`READY`].
    Ready,
    /// [`METRICS`].
    Metrics,
    /// [`OPENAPI`].
    OpenApi,
    /// [`STATUS`].
    Status,
    /// [`SOURCES`].
    Sources,
    /// [`super::poll`].
    Poll,
    /// [`super::update`].
    Update,
    /// [`RUNS`].
    Runs,
    /// [`EVENTS`].
    Events,
    /// [`super::run`].
    Run,
    /// [`super::cancel`].
    Cancel,
    /// [`super::retry`].
    Retry,
    /// [`super::comment`].
    Comment,
    /// [`super::log`].
    Log,
    /// [`IMAGES`].
    Images,
    /// [`super::image`].
    Image,
    /// [`RELEASES`].
    Releases,
    /// [`CHANNELS`].
    Channels,
    /// [`super::channel`].
    ChangeChannel,
    /// [`SITES`].
    Sites,
    /// [`super::site`].
    Site,
    /// [`TARGETS`].
    Targets,
    /// [`VERDICTS`].
    PostVerdict,
    /// [`REBUILDS`].
    StartRebuild,
    /// [`super::rebuild`].
    Rebuild,
    /// A forge reports that a repository moved.
    Hook,
    /// [`AUDIT`].
    Audit,
}

/// What a route answers when all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A document of this crate, by the name of its type.
    Document(&'static str),
    /// A list of them.
    List(&'static str),
    /// Text of a media type.
    Text(&'static str),
    /// Any JSON.
    Json,
}

/// A parameter of a path or query.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Whether it stands in the path; else in the query, where it may be left out.
    pub in_path: bool,
    /// Its JSON type: `string`, `integer` or `boolean`.
    pub kind: &'static str,
    /// What it means.
    pub about: &'static str,
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// What it does.
    pub operation: Operation,
    /// Its name in the OpenAPI document, unique.
    pub id: &'static str,
    /// The method; `GET` answers `HEAD`, too.
    pub method: Method,
    /// The path with `{parameters}`.
    pub path: &'static str,
    /// The path as the server's router matches it, where a parameter may contain `/`.
    pub matched: Option<&'static str>,
    /// One sentence.
    pub about: &'static str,
    /// Parameters, those of the path first.
    pub parameters: &'static [Parameter],
    /// The document of this crate that it is sent, by the name of its type.
    pub body: Option<&'static str>,
    /// What it answers.
    pub content: Content,
    /// Who may call it.
    pub access: Access,
}

const fn in_path(name: &'static str, kind: &'static str, about: &'static str) -> Parameter {
    Parameter { name, in_path: true, kind, about }
}

const fn in_query(name: &'static str, kind: &'static str, about: &'static str) -> Parameter {
    Parameter { name, in_path: false, kind, about }
}

const SOURCE: Parameter = in_query("source", "string", "only this source");
const ONE_SOURCE: Parameter = in_query("source", "string", "the source, where several have one of this name");
const LIMIT: Parameter = in_query("limit", "integer", "how many at most: 20, at most 1000");
const NUMBER: Parameter = in_path("number", "integer", "the run's number");

const fn get(
    operation: Operation,
    id: &'static str,
    path: &'static str,
    content: Content,
    parameters: &'static [Parameter],
    about: &'static str,
) -> Route {
    Route {
        operation,
        id,
        method: Method::Get,
        path,
        matched: None,
        about,
        parameters,
        body: None,
        content,
        access: Access::READ,
    }
}

const fn post(
    operation: Operation,
    id: &'static str,
    path: &'static str,
    content: Content,
    parameters: &'static [Parameter],
    about: &'static str,
) -> Route {
    Route {
        method: Method::Post,
        access: Access::OPERATE,
        ..get(operation, id, path, content, parameters, about)
    }
}

const TEXT: Content = Content::Text("text/plain");

/// Every route of the server, but those of the registry (`/v2/`), which the OCI distribution specification describes.
pub const ROUTES: &[Route] = &[
    Route {
        access: Access::PUBLIC,
        ..get(
            Operation::Index,
            "index",
            INDEX,
            TEXT,
            &[],
            "What this server is, and where to find status and API.",
        )
    },
    Route {
        access: Access::PUBLIC,
        ..get(Operation::Health, "health", HEALTH, TEXT, &[], "Whether the process lives.")
    },
    Route {
        access: Access::PUBLIC,
        ..get(
            Operation::Ready,
            "ready",
            READY,
            TEXT,
            &[],
            "Whether the server takes work: 503 before and after.",
        )
    },
    get(
        Operation::Metrics,
        "metrics",
        METRICS,
        Content::Text("application/openmetrics-text"),
        &[],
        "Metrics for Prometheus.",
    ),
    get(Operation::OpenApi, "openapi", OPENAPI, Content::Json, &[], "This document."),
    get(
        Operation::Status,
        "status",
        STATUS,
        Content::Document("ServerStatus"),
        &[],
        "How the server is doing.",
    ),
    get(Operation::Sources, "sources", SOURCES, Content::List("SourceView"), &[], "The sources, by name."),
    post(
        Operation::Poll,
        "poll",
        "/api/v1/sources/{name}/poll",
        Content::Document("PollAnswer"),
        &[in_path("name", "string", "the source's configured name")],
        "Poll a source now.",
    ),
    post(
        Operation::Update,
        "update",
        "/api/v1/sources/{name}/update",
        Content::Document("RunAnswer"),
        &[
            in_path("name", "string", "the source's configured name"),
            in_query("images", "string", "only these images, with commas between them"),
        ],
        "Resolve a source's locks anew, then build, test and release what moved.",
    ),
    get(Operation::Runs, "runs", RUNS, Content::List("RunSummary"), &[SOURCE, LIMIT], "Runs, newest first."),
    get(
        Operation::Events,
        "events",
        EVENTS,
        Content::Text("text/event-stream"),
        &[],
        "What happens in runs from now on, as server-sent events `run` whose data are RunMoved documents. A client that \
         lags behind is disconnected.",
    ),
    get(
        Operation::Run,
        "run",
        "/api/v1/runs/{number}",
        Content::Document("RunView"),
        &[NUMBER],
        "One run with its plan and what became of it.",
    ),
    post(
        Operation::Cancel,
        "cancel",
        "/api/v1/runs/{number}/cancel",
        Content::Document("RunAnswer"),
        &[NUMBER],
        "End an open run: its jobs end, what was recorded stays.",
    ),
    post(
        Operation::Retry,
        "retry",
        "/api/v1/runs/{number}/retry",
        Content::Document("RunAnswer"),
        &[NUMBER],
        "Queue a run's commit again: what failed is tried anew.",
    ),
    get(
        Operation::Comment,
        "comment",
        "/api/v1/runs/{number}/comment.md",
        Content::Text("text/markdown"),
        &[NUMBER],
        "A run's plan and verdicts as Markdown, for a comment on a pull request.",
    ),
    Route {
        matched: Some("/api/v1/runs/{number}/jobs/{*rest}"),
        ..get(
            Operation::Log,
            "log",
            "/api/v1/runs/{number}/jobs/{node}/log",
            TEXT,
            &[
                NUMBER,
                in_path("node", "string", "the node, such as hmi/plant-a; its `/` are not escaped"),
                in_query("follow", "boolean", "answer until the job ends"),
                in_query(
                    "from",
                    "integer",
                    "leave out so many bytes at the start: what a cut connection had brought",
                ),
            ],
            "A job's log.",
        )
    },
    get(
        Operation::Images,
        "images",
        IMAGES,
        Content::List("ImageSummary"),
        &[SOURCE],
        "The variants, by source and name.",
    ),
    Route {
        matched: Some("/api/v1/images/{*variant}"),
        ..get(
            Operation::Image,
            "image",
            "/api/v1/images/{variant}",
            Content::Document("ImageView"),
            &[
                in_path("variant", "string", "the variant, such as hmi/plant-a; its `/` are not escaped"),
                SOURCE,
            ],
            "One variant: why it was built, from what, its checks, how to pull it.",
        )
    },
    get(
        Operation::Releases,
        "releases",
        RELEASES,
        Content::List("ReleaseView"),
        &[SOURCE, LIMIT],
        "Releases, newest first.",
    ),
    get(
        Operation::Channels,
        "channels",
        CHANNELS,
        Content::List("ChannelView"),
        &[SOURCE],
        "The channels, by source and name.",
    ),
    Route {
        body: Some("ChannelPost"),
        ..post(
            Operation::ChangeChannel,
            "changeChannel",
            "/api/v1/channels/{channel}",
            Content::Document("ChannelView"),
            &[in_path("channel", "string", "the channel's name"), ONE_SOURCE],
            "Hold, resume, pin or unpin a channel, and move what follows from it.",
        )
    },
    get(
        Operation::Sites,
        "sites",
        SITES,
        Content::List("SiteSummary"),
        &[SOURCE],
        "The sites that default branches declare, by source and name.",
    ),
    get(
        Operation::Site,
        "site",
        "/api/v1/sites/{site}",
        Content::Document("SiteView"),
        &[in_path("site", "string", "the site's name"), ONE_SOURCE],
        "One site with its slots.",
    ),
    get(
        Operation::Targets,
        "targets",
        TARGETS,
        Content::List("TargetView"),
        &[],
        "What registries of others have of the channels, by target, source and channel.",
    ),
    Route {
        body: Some("VerdictPost"),
        ..post(
            Operation::PostVerdict,
            "postVerdict",
            VERDICTS,
            Content::Document("VerdictAnswer"),
            &[],
            "Say what another system found about a digest, in the lane `external`.",
        )
    },
    Route {
        body: Some("RebuildPost"),
        ..post(
            Operation::StartRebuild,
            "startRebuild",
            REBUILDS,
            Content::Document("RebuildStatus"),
            &[],
            "Build a digest again, without the mirror, and compare. One that is under way already is the same.",
        )
    },
    get(
        Operation::Rebuild,
        "rebuild",
        "/api/v1/rebuilds/{number}",
        Content::Document("RebuildStatus"),
        &[in_path("number", "integer", "the rebuild's number")],
        "Where a rebuild is, and what came of it: proved or refuted.",
    ),
    get(
        Operation::Audit,
        "audit",
        AUDIT,
        Content::Document("AuditPage"),
        &[
            in_query("actor", "string", "only what this principal did, such as operator:token"),
            in_query("operation", "string", "only this operation, such as run.cancel"),
            in_query("object", "string", "only this object, such as plants/channels/stable"),
            in_query("since", "string", "only what happened at or after this time (RFC 3339)"),
            LIMIT,
            in_query("cursor", "string", "the `next` of the page before"),
        ],
        "Who changed what, newest first.",
    ),
    Route {
        access: Access::SIGNED,
        ..post(
            Operation::Hook,
            "hook",
            "/hooks/{forge}/{source}",
            TEXT,
            &[
                in_path("forge", "string", "github, gitlab, gitea (Forgejo, too) or generic"),
                in_path("source", "string", "the source's configured name"),
            ],
            "A webhook: once its signature is verified, the source is polled now. Its content is not read.",
        )
    },
];

/// The route of a request, by the path that the server's router matched.
pub fn route(method: Method, matched: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.method == method && route.matched.unwrap_or(route.path) == matched)
}
