//! The table of routes: the server, the OpenAPI document and the access table are made from it.

use super::kinds::{Content, Operation, Parameter, Route, delete, get, in_path, in_query, post};
use super::{
    AUDIT, CHANNELS, DEVICES, ENROL, ENROLMENTS, EVENTS, EXPORTS, HEALTH, IMAGES, INDEX, LOGIN, METRICS,
    OPENAPI, QUARANTINE, READY, REBUILDS, RELEASES, ROLLOUTS, RUNS, SITES, SOURCES, STATUS, TARGETS, USERS,
    VERDICTS, WHOAMI,
};
use crate::access::{Access, Method, Rule};

const SOURCE: Parameter = in_query("source", "string", "only this source");
const ONE_SOURCE: Parameter =
    in_query("source", "string", "the source; needed if several have one of this name");
const ONE_DEVICE: &str = "/api/v1/devices/{device}";
const DEVICE_REPORTS: &str = "/api/v1/devices/{device}/reports";
const DEVICE: Parameter = in_path("device", "string", "the device's id");
const ROLLOUT: &str = "/api/v1/rollouts/{rollout}";
const ROLLOUT_NAME: Parameter =
    in_path("rollout", "string", "the rollout's number, or its channel's name for the newest one");
const LIMIT: Parameter = in_query("limit", "integer", "maximum number: 20 by default, at most 1000");
const PAGE: Parameter = in_query("limit", "integer", "maximum number: 1000 by default and at most");
const CURSOR: Parameter = in_query(
    "cursor",
    "string",
    "the next page: follow the `Link` header with rel=\"next\" of the page before",
);
const RELEASE: Parameter = in_query("number", "integer", "only the release of this number");
const NUMBER: Parameter = in_path("number", "integer", "the run's number");
const NODE: Parameter = in_path("node", "string", "the node, such as hmi/plant-a, with unescaped `/`");

const USER: Parameter = in_path("user", "string", "the user's name");

const TEXT: Content = Content::Text("text/plain");

/// Every route of the server, but those of the registry (`/v2/`), which the OCI distribution specification
/// describes.
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
        ..get(Operation::Health, "health", HEALTH, TEXT, &[], "Whether the process runs.")
    },
    Route {
        access: Access::PUBLIC,
        ..get(
            Operation::Ready,
            "ready",
            READY,
            TEXT,
            &[],
            "Whether the server accepts work: 503 during start and shutdown.",
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
        "The status of the server.",
    ),
    get(
        Operation::Sources,
        "sources",
        SOURCES,
        Content::List("SourceView"),
        &[],
        "The sources, sorted by name.",
    ),
    post(
        Operation::Poll,
        "poll",
        "/api/v1/sources/{name}/poll",
        Content::Document("PollResponse"),
        &[in_path("name", "string", "the source's configured name")],
        "Poll a source now.",
    ),
    post(
        Operation::Update,
        "update",
        "/api/v1/sources/{name}/update",
        Content::Document("RunResponse"),
        &[
            in_path("name", "string", "the source's configured name"),
            in_query("images", "string", "only these images, separated by commas"),
        ],
        "Check a source for updates, then build, test and release what changed.",
    ),
    get(
        Operation::Runs,
        "runs",
        RUNS,
        Content::List("RunSummary"),
        &[SOURCE, LIMIT, CURSOR],
        "Runs, newest first.",
    ),
    get(
        Operation::Events,
        "events",
        EVENTS,
        Content::Text("text/event-stream"),
        &[],
        "Server-sent events `run`, with a RunStateChanged as data, for each change of a run's state. A slow client is \
         disconnected.",
    ),
    get(
        Operation::Run,
        "run",
        "/api/v1/runs/{number}",
        Content::Document("RunView"),
        &[NUMBER],
        "One run with its plan and results.",
    ),
    post(
        Operation::Cancel,
        "cancel",
        "/api/v1/runs/{number}/cancel",
        Content::Document("RunResponse"),
        &[NUMBER],
        "Cancel a run: its jobs end, recorded results are kept.",
    ),
    post(
        Operation::Retry,
        "retry",
        "/api/v1/runs/{number}/retry",
        Content::Document("RunResponse"),
        &[NUMBER],
        "Queue a run's commit again: what failed is retried.",
    ),
    get(
        Operation::Comment,
        "comment",
        "/api/v1/runs/{number}/comment.md",
        Content::Text("text/markdown"),
        &[NUMBER],
        "A run's plan and verdicts as Markdown, for a comment on a pull request.",
    ),
    get(
        Operation::Jobs,
        "jobs",
        "/api/v1/runs/{number}/jobs",
        Content::Document("RunJobs"),
        &[
            NUMBER,
            in_query("known", "integer", "number of jobs to skip: those that the client knows"),
            in_query("node", "string", "the jobs of this node only, started or not"),
        ],
        "The jobs of a run that were started, in this order, for followers of its logs.",
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
                NODE,
                in_query("follow", "boolean", "continue the response until the job ends"),
                in_query("from", "integer", "number of bytes to skip, for resuming after a lost connection"),
            ],
            "A job's log.",
        )
    },
    Route {
        matched: Some("/api/v1/runs/{number}/evidence/{*node}"),
        ..get(
            Operation::Evidence,
            "evidence",
            "/api/v1/runs/{number}/evidence/{node}",
            Content::List("EvidenceView"),
            &[NUMBER, NODE],
            "The evidence of a node's lanes: what explains their verdicts.",
        )
    },
    Route {
        matched: Some("/api/v1/runs/{number}/pieces/{name}/{*node}"),
        ..get(
            Operation::Piece,
            "piece",
            "/api/v1/runs/{number}/pieces/{name}/{node}",
            TEXT,
            &[
                NUMBER,
                in_path("name", "string", "the piece's name, such as journal"),
                NODE,
                in_query("lane", "string", "only of this lane"),
                in_query("platform", "string", "only of this platform"),
            ],
            "One piece of evidence, as an attachment of plain text: its content is that of the image under test.",
        )
    },
    get(
        Operation::Images,
        "images",
        IMAGES,
        Content::List("ImageSummary"),
        &[SOURCE, PAGE, CURSOR],
        "The variants, sorted by source and name.",
    ),
    Route {
        matched: Some("/api/v1/images/{*variant}"),
        ..get(
            Operation::Image,
            "image",
            "/api/v1/images/{variant}",
            Content::Document("ImageView"),
            &[in_path("variant", "string", "the variant, such as hmi/plant-a, with unescaped `/`"), SOURCE],
            "One variant with its builds, verdicts, provenance and pull commands.",
        )
    },
    get(
        Operation::Releases,
        "releases",
        RELEASES,
        Content::List("ReleaseView"),
        &[SOURCE, RELEASE, LIMIT, CURSOR],
        "Releases, newest first.",
    ),
    get(
        Operation::Channels,
        "channels",
        CHANNELS,
        Content::List("ChannelView"),
        &[SOURCE, PAGE, CURSOR],
        "The channels, sorted by source and name.",
    ),
    Route {
        body: Some("ChannelPost"),
        ..post(
            Operation::ChangeChannel,
            "changeChannel",
            "/api/v1/channels/{channel}",
            Content::Document("ChannelView"),
            &[in_path("channel", "string", "the channel's name"), ONE_SOURCE],
            "Hold, resume, pin, unpin, promote or roll back a channel; channels that depend on it move, too.",
        )
    },
    get(
        Operation::Rollouts,
        "rollouts",
        ROLLOUTS,
        Content::List("RolloutSummary"),
        &[SOURCE, LIMIT, CURSOR],
        "The rollouts, newest first.",
    ),
    get(
        Operation::Rollout,
        "rollout",
        ROLLOUT,
        Content::Document("RolloutView"),
        &[ROLLOUT_NAME, ONE_SOURCE],
        "A rollout as it is now.",
    ),
    Route {
        body: Some("RolloutPost"),
        access: Access::ORDER,
        ..post(
            Operation::OrderRollout,
            "orderRollout",
            ROLLOUT,
            Content::Document("RolloutView"),
            &[ROLLOUT_NAME, ONE_SOURCE],
            "Pause, resume, abort or approve a rollout, or make it urgent.",
        )
    },
    get(
        Operation::RolloutDevices,
        "rolloutDevices",
        "/api/v1/rollouts/{rollout}/devices",
        Content::List("RolloutDeviceView"),
        &[ROLLOUT_NAME, ONE_SOURCE, in_query("device", "string", "only this device")],
        "The devices of a rollout with the reason of each wait, sorted by stage and id.",
    ),
    get(
        Operation::Quarantine,
        "quarantine",
        QUARANTINE,
        Content::List("QuarantineView"),
        &[],
        "The quarantined digests, newest first.",
    ),
    Route {
        body: Some("QuarantinePost"),
        ..post(
            Operation::ClearQuarantine,
            "clearQuarantine",
            QUARANTINE,
            Content::List("QuarantineView"),
            &[],
            "End the quarantine of a digest. Returns what remains.",
        )
    },
    get(
        Operation::Sites,
        "sites",
        SITES,
        Content::List("SiteSummary"),
        &[SOURCE, PAGE, CURSOR],
        "The sites that default branches declare, sorted by source and name.",
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
        "The replication to external registries, sorted by target, source and channel.",
    ),
    Route {
        body: Some("VerdictPost"),
        ..post(
            Operation::PostVerdict,
            "postVerdict",
            VERDICTS,
            Content::Document("VerdictResponse"),
            &[],
            "Post the verdict of another system on a digest, for the lane `external`.",
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
            "Rebuild a digest without its mirror, and compare. If a rebuild of the digest is active, it is returned.",
        )
    },
    get(
        Operation::Rebuild,
        "rebuild",
        "/api/v1/rebuilds/{number}",
        Content::Document("RebuildStatus"),
        &[in_path("number", "integer", "the rebuild's number")],
        "One rebuild with its state and results.",
    ),
    Route {
        body: Some("ExportPost"),
        ..post(
            Operation::Export,
            "export",
            EXPORTS,
            Content::Document("ExportView"),
            &[],
            "The TaskRuns, Pods and Secrets that build a digest again and test it, if jobs run on Kubernetes.",
        )
    },
    get(
        Operation::Audit,
        "audit",
        AUDIT,
        Content::Document("AuditPage"),
        &[
            in_query("actor", "string", "only changes by this principal, such as operator:token"),
            in_query("operation", "string", "only this operation, such as run.cancel"),
            in_query("object", "string", "only this object, such as plants/channels/stable"),
            in_query("since", "string", "only changes at or after this time (RFC 3339)"),
            LIMIT,
            in_query("cursor", "string", "`next` of the previous page"),
            in_query("after", "integer", "only changes with higher numbers, oldest first, for exports"),
        ],
        "The audit trail, newest first. Each entry has the hash of the one before.",
    ),
    Route {
        access: Access::ADMINISTER,
        ..get(
            Operation::Users,
            "users",
            USERS,
            Content::List("UserView"),
            &[],
            "The local users, sorted by name, without their tokens.",
        )
    },
    Route {
        body: Some("UserPost"),
        access: Access::ADMINISTER,
        ..post(
            Operation::SetUser,
            "setUser",
            USERS,
            Content::Document("UserView"),
            &[],
            "Add a local user, or replace the roles of one.",
        )
    },
    delete(
        Operation::RemoveUser,
        "removeUser",
        "/api/v1/users/{user}",
        Content::Document("UserView"),
        &[USER],
        "Remove a local user; all tokens of the user are invalid at once.",
    ),
    Route {
        body: Some("TokenPost"),
        access: Access::ADMINISTER,
        ..post(
            Operation::IssueToken,
            "issueToken",
            "/api/v1/users/{user}/tokens",
            Content::Document("TokenResponse"),
            &[USER],
            "Issue a token of a local user. It is shown only in this response.",
        )
    },
    delete(
        Operation::RevokeToken,
        "revokeToken",
        "/api/v1/users/{user}/tokens/{token}",
        TEXT,
        &[USER, in_path("token", "integer", "the token's id")],
        "Revoke a token of a local user: it is invalid at once.",
    ),
    Route {
        access: Access { job: Rule::Denied, device: Rule::Denied, system: Rule::Denied, ..Access::PUBLIC },
        ..get(
            Operation::Whoami,
            "whoami",
            WHOAMI,
            Content::Document("Identity"),
            &[],
            "The principal of the request, with its roles.",
        )
    },
    Route {
        access: Access::PUBLIC,
        ..get(
            Operation::Login,
            "login",
            LOGIN,
            Content::Document("LoginView"),
            &[],
            "How users log in, if the server trusts an OpenID Connect provider.",
        )
    },
    Route {
        body: Some("DeviceReports"),
        access: Access::REPORT,
        ..post(
            Operation::PostDeviceReports,
            "postDeviceReports",
            DEVICE_REPORTS,
            Content::Document("DeviceReportsResponse"),
            &[DEVICE],
            "Send reports of a device, oldest first, at most 100. Those that the server has already change nothing. 409: \
             reports of 10,000 devices are kept, and all of them reported in the last 30 days.",
        )
    },
    get(
        Operation::DeviceReports,
        "deviceReports",
        DEVICE_REPORTS,
        Content::List("DeviceReportView"),
        &[
            DEVICE,
            LIMIT,
            in_query("cursor", "string", "the cursor of the `Link` header of the previous page"),
        ],
        "The reports of a device, newest first; the last 1000 are kept, up to 4 MiB.",
    ),
    get(
        Operation::Devices,
        "devices",
        DEVICES,
        Content::List("DeviceSummary"),
        &[SOURCE, PAGE, CURSOR],
        "The enrolled devices, sorted by id.",
    ),
    get(
        Operation::Device,
        "device",
        ONE_DEVICE,
        Content::Document("DeviceView"),
        &[DEVICE],
        "One device: what it is answered with and why, and what is known about its images.",
    ),
    Route {
        body: Some("DevicePost"),
        access: Access::ORDER,
        ..post(
            Operation::ChangeDevice,
            "changeDevice",
            ONE_DEVICE,
            Content::Document("DeviceView"),
            &[DEVICE],
            "Approve, hold, release, pin, unpin, revoke or retire a device. It holds for its next request.",
        )
    },
    Route {
        access: Access::OWN,
        ..post(
            Operation::RotateDevice,
            "rotateDevice",
            "/api/v1/devices/{device}/credential",
            Content::Document("DeviceIdentity"),
            &[DEVICE],
            "Give a device another credential. The one before stays valid for 24 hours.",
        )
    },
    Route {
        body: Some("EnrolmentPost"),
        ..post(
            Operation::MakeEnrolment,
            "makeEnrolment",
            ENROLMENTS,
            Content::Document("EnrolmentView"),
            &[],
            "Make a token by which a device enrols in a slot, or devices in the free slots of a site.",
        )
    },
    Route {
        body: Some("EnrolPost"),
        access: Access::ENROL,
        ..post(
            Operation::Enrol,
            "enrol",
            ENROL,
            Content::Document("DeviceIdentity"),
            &[],
            "Exchange an enrolment token for a device's id and credential. The token in the body is the proof.",
        )
    },
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
            "A webhook: triggers a poll of the source. The signature is verified, the payload is ignored.",
        )
    },
];

/// The route of a request, by the path that the server's router matched.
pub fn route(method: Method, matched: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.method == method && route.matched.unwrap_or(route.path) == matched)
}
