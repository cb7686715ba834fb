//! What a route is made of.

use crate::access::{Access, Method};

/// The operation of a route. The server has one handler for each, the OpenAPI document one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`super::INDEX`].
    Index,
    /// [`super::HEALTH`].
    Health,
    /// [`super::READY`].
    Ready,
    /// [`super::METRICS`].
    Metrics,
    /// [`super::OPENAPI`].
    OpenApi,
    /// [`super::STATUS`].
    Status,
    /// [`super::SOURCES`].
    Sources,
    /// [`super::poll`].
    Poll,
    /// [`super::update`].
    Update,
    /// [`super::RUNS`].
    Runs,
    /// [`super::EVENTS`].
    Events,
    /// [`super::run`].
    Run,
    /// [`super::cancel`].
    Cancel,
    /// [`super::retry`].
    Retry,
    /// [`super::comment`].
    Comment,
    /// [`super::jobs`].
    Jobs,
    /// [`super::log`].
    Log,
    /// [`super::evidence`].
    Evidence,
    /// [`super::piece`].
    Piece,
    /// [`super::IMAGES`].
    Images,
    /// [`super::image`].
    Image,
    /// [`super::RELEASES`].
    Releases,
    /// [`super::CHANNELS`].
    Channels,
    /// [`super::channel`].
    ChangeChannel,
    /// [`super::ROLLOUTS`].
    Rollouts,
    /// [`super::rollout`].
    Rollout,
    /// [`super::rollout`].
    OrderRollout,
    /// [`super::rollout_devices`].
    RolloutDevices,
    /// [`super::QUARANTINE`].
    Quarantine,
    /// [`super::QUARANTINE`].
    ClearQuarantine,
    /// [`super::SITES`].
    Sites,
    /// [`super::site`].
    Site,
    /// [`super::TARGETS`].
    Targets,
    /// [`super::VERDICTS`].
    PostVerdict,
    /// [`super::REBUILDS`].
    StartRebuild,
    /// [`super::rebuild`].
    Rebuild,
    /// [`super::EXPORTS`].
    Export,
    /// A forge reports that a repository changed.
    Hook,
    /// [`super::AUDIT`].
    Audit,
    /// [`super::USERS`].
    Users,
    /// [`super::USERS`].
    SetUser,
    /// [`super::user`].
    RemoveUser,
    /// [`super::user_tokens`].
    IssueToken,
    /// [`super::user_token`].
    RevokeToken,
    /// [`super::WHOAMI`].
    Whoami,
    /// [`super::LOGIN`].
    Login,
    /// [`super::device_reports`].
    PostDeviceReports,
    /// [`super::device_reports`].
    DeviceReports,
    /// [`super::DEVICES`].
    Devices,
    /// [`super::device`].
    Device,
    /// [`super::device`].
    ChangeDevice,
    /// [`super::device_credential`].
    RotateDevice,
    /// [`super::ENROLMENTS`].
    MakeEnrolment,
    /// [`super::ENROL`].
    Enrol,
}

/// The body of a successful response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A type of this crate, by its name.
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
    /// Name.
    pub name: &'static str,
    /// Whether it is in the path. Otherwise it is in the query, and optional.
    pub in_path: bool,
    /// Its JSON type: `string`, `integer` or `boolean`.
    pub kind: &'static str,
    /// Description.
    pub about: &'static str,
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Operation.
    pub operation: Operation,
    /// Unique name in the OpenAPI document.
    pub id: &'static str,
    /// Method; `GET` includes `HEAD`.
    pub method: Method,
    /// The path with `{parameters}`.
    pub path: &'static str,
    /// The path as the server's router matches it, where a parameter may contain `/`.
    pub matched: Option<&'static str>,
    /// Summary: one sentence.
    pub about: &'static str,
    /// Parameters, those of the path first.
    pub parameters: &'static [Parameter],
    /// The type of the request's body, by its name.
    pub body: Option<&'static str>,
    /// The body of the response.
    pub content: Content,
    /// Principals that may call it.
    pub access: Access,
}

/// A parameter of a path.
pub(super) const fn in_path(name: &'static str, kind: &'static str, about: &'static str) -> Parameter {
    Parameter { name, in_path: true, kind, about }
}

/// A parameter of a query.
pub(super) const fn in_query(name: &'static str, kind: &'static str, about: &'static str) -> Parameter {
    Parameter { name, in_path: false, kind, about }
}

/// A route that reads.
pub(super) const fn get(
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

/// A route that changes something.
pub(super) const fn post(
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

/// A route that removes something of users.
pub(super) const fn delete(
    operation: Operation,
    id: &'static str,
    path: &'static str,
    content: Content,
    parameters: &'static [Parameter],
    about: &'static str,
) -> Route {
    Route {
        method: Method::Delete,
        access: Access::ADMINISTER,
        ..get(operation, id, path, content, parameters, about)
    }
}
