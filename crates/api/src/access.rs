//! Access control: one table for API, health, metrics, webhooks and the registry, by method, route and kind
//! of principal. The server enforces it, the OpenAPI document and the access reference are generated from it,
//! and a test covers all of it.
//!
//! A route without a row cannot be written: [`crate::routes::Route::access`] is a field of every route, and
//! [`RegistryOperation::access`] matches every operation.

use std::fmt::Write as _;

use edgewright_model::principal::PrincipalKind;
use edgewright_model::role::Permission;

use crate::routes::ROUTES;

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`, and `HEAD` unless there is a separate route for it.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 6] = [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// The name in HTTP.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// What one kind of principal may do on one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Permitted.
    Allowed,
    /// Permitted unless `[access] anonymous = false`.
    IfOpen,
    /// Permitted with a role that has this permission, in the scope of what is asked for.
    Role(Permission),
    /// Permitted with a role that operates or approves, by what is ordered.
    RoleByOrder,
    /// Permitted for what its order names ([`edgewright_model::grants::Grants`]).
    Granted,
    /// Permitted for a device's own offer, reports and credential.
    Own,
    /// Denied with a challenge, which makes clients send their credentials; permitted with credentials.
    Challenged,
    /// Denied.
    Denied,
}

impl Rule {
    /// The text in tables.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Allowed => "yes",
            Self::IfOpen => "unless switched off",
            Self::Role(_) => "with the role",
            Self::RoleByOrder => "with the role for the order",
            Self::Granted => "what its order names",
            Self::Own => "its own",
            Self::Challenged => "is asked for credentials",
            Self::Denied => "no",
        }
    }

    /// The name in the OpenAPI document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::IfOpen => "if_open",
            Self::Role(permission) => permission.role().name(),
            Self::RoleByOrder => "operator_or_approver",
            Self::Granted => "granted",
            Self::Own => "own",
            Self::Challenged => "challenged",
            Self::Denied => "denied",
        }
    }
}

/// A row of the table: the principals that may call one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Without credentials.
    pub anonymous: Rule,
    /// With the operator's token.
    pub operator: Rule,
    /// With a token of a user.
    pub user: Rule,
    /// With the token of a job that runs.
    pub job: Rule,
    /// With the proof of a webhook.
    pub hook: Rule,
    /// With the credential of a device, or the shared token for reports of devices.
    pub device: Rule,
    /// With the token of a part of the server itself.
    pub system: Rule,
}

impl Access {
    /// No principal: the base of the other rows.
    const CLOSED: Self = Self {
        anonymous: Rule::Denied,
        operator: Rule::Denied,
        user: Rule::Denied,
        job: Rule::Denied,
        hook: Rule::Denied,
        device: Rule::Denied,
        system: Rule::Denied,
    };
    /// Everyone, always: for load balancers.
    pub const PUBLIC: Self = Self {
        anonymous: Rule::Allowed,
        operator: Rule::Allowed,
        user: Rule::Allowed,
        job: Rule::Allowed,
        hook: Rule::Denied,
        device: Rule::Allowed,
        system: Rule::Allowed,
    };
    /// Reading.
    pub const READ: Self = Self {
        anonymous: Rule::IfOpen,
        operator: Rule::Allowed,
        user: Rule::Role(Permission::Read),
        ..Self::CLOSED
    };
    /// Changing something.
    pub const OPERATE: Self =
        Self { operator: Rule::Allowed, user: Rule::Role(Permission::Operate), ..Self::CLOSED };
    /// Orders of which some are approvals: control decides by the order.
    pub const ORDER: Self = Self { user: Rule::RoleByOrder, ..Self::OPERATE };
    /// Managing users.
    pub const ADMINISTER: Self =
        Self { operator: Rule::Allowed, user: Rule::Role(Permission::Administer), ..Self::CLOSED };
    /// Reports of devices.
    pub const REPORT: Self = Self { device: Rule::Allowed, ..Self::OPERATE };
    /// What a device does for itself, with its own credential.
    pub const OWN: Self = Self { device: Rule::Own, ..Self::OPERATE };
    /// Enrolment: the token in the body is the proof, so no other credentials are needed.
    pub const ENROL: Self =
        Self { anonymous: Rule::Allowed, user: Rule::Allowed, device: Rule::Allowed, ..Self::OPERATE };
    /// Webhooks.
    pub const SIGNED: Self = Self { hook: Rule::Allowed, ..Self::CLOSED };

    /// What a kind of principal may do.
    pub const fn rule(self, kind: PrincipalKind) -> Rule {
        match kind {
            PrincipalKind::Anonymous => self.anonymous,
            PrincipalKind::Operator => self.operator,
            PrincipalKind::User => self.user,
            PrincipalKind::Job => self.job,
            PrincipalKind::Hook => self.hook,
            PrincipalKind::Device => self.device,
            PrincipalKind::System => self.system,
        }
    }
}

/// An operation of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegistryOperation {
    /// Check that the registry exists.
    Ping,
    /// Request a bearer token.
    Token,
    /// List repositories.
    Catalog,
    /// List tags.
    ListTags,
    /// List the referrers of a manifest.
    ListReferrers,
    /// Read a manifest.
    PullManifest,
    /// Check that a blob exists.
    LookForBlob,
    /// Read a blob.
    PullBlob,
    /// Upload a blob.
    PushBlob,
    /// Write a manifest.
    PushManifest,
    /// Delete a manifest or a tag.
    DeleteManifest,
    /// Remove a blob from a repository.
    DeleteBlob,
    /// In addition: set a tag.
    Tag,
    /// In addition: mount a blob of another repository.
    MountFrom,
    /// In addition: write or delete Edgewright's own artifacts.
    WriteReserved,
}

impl RegistryOperation {
    /// Principals that may do it.
    pub const fn access(self) -> Access {
        const READ: Access =
            Access { job: Rule::Granted, device: Rule::Own, system: Rule::Allowed, ..Access::READ };
        const WRITE: Access = Access { job: Rule::Granted, system: Rule::Allowed, ..Access::OPERATE };
        match self {
            Self::Ping => Access {
                anonymous: Rule::Challenged,
                operator: Rule::Allowed,
                user: Rule::Allowed,
                job: Rule::Allowed,
                device: Rule::Allowed,
                system: Rule::Allowed,
                ..Access::CLOSED
            },
            Self::Token => Access { user: Rule::Allowed, job: Rule::Allowed, device: Rule::Allowed, ..READ },
            Self::Catalog => Access { job: Rule::Denied, device: Rule::Denied, ..READ },
            Self::ListTags
            | Self::ListReferrers
            | Self::PullManifest
            | Self::LookForBlob
            | Self::PullBlob => READ,
            Self::MountFrom => Access { device: Rule::Denied, ..READ },
            Self::PushBlob | Self::PushManifest => WRITE,
            Self::DeleteManifest | Self::DeleteBlob | Self::Tag => Access::OPERATE,
            Self::WriteReserved => Access { system: Rule::Allowed, ..Access::CLOSED },
        }
    }
}

/// A route of the registry.
#[derive(Debug, Clone, Copy)]
pub struct RegistryRoute {
    /// The method.
    pub method: Method,
    /// The path with `{parameters}`; a repository's `{name}` may contain `/`.
    pub path: &'static str,
    /// Operation.
    pub operation: RegistryOperation,
    /// When the row applies; it then applies in addition to the one of the same method and path.
    pub when: Option<&'static str>,
}

const fn registry(method: Method, path: &'static str, operation: RegistryOperation) -> RegistryRoute {
    RegistryRoute { method, path, operation, when: None }
}

const fn in_addition(
    method: Method,
    path: &'static str,
    operation: RegistryOperation,
    when: &'static str,
) -> RegistryRoute {
    RegistryRoute { method, path, operation, when: Some(when) }
}

const MANIFEST: &str = "/v2/{name}/manifests/{reference}";
const BLOB: &str = "/v2/{name}/blobs/{digest}";
const UPLOADS: &str = "/v2/{name}/blobs/uploads/";
const UPLOAD: &str = "/v2/{name}/blobs/uploads/{id}";
const OWN_ARTIFACT: &str = "vnd.edgewright.*";

/// Every route of the registry (distribution-spec 1.1).
pub const REGISTRY_ROUTES: &[RegistryRoute] = &[
    registry(Method::Get, "/v2/", RegistryOperation::Ping),
    registry(Method::Head, "/v2/", RegistryOperation::Ping),
    registry(Method::Get, "/v2/token", RegistryOperation::Token),
    registry(Method::Get, "/v2/_catalog", RegistryOperation::Catalog),
    registry(Method::Get, "/v2/{name}/tags/list", RegistryOperation::ListTags),
    registry(Method::Get, "/v2/{name}/referrers/{digest}", RegistryOperation::ListReferrers),
    registry(Method::Get, MANIFEST, RegistryOperation::PullManifest),
    registry(Method::Head, MANIFEST, RegistryOperation::PullManifest),
    registry(Method::Put, MANIFEST, RegistryOperation::PushManifest),
    in_addition(Method::Put, MANIFEST, RegistryOperation::Tag, "tag or ?tag="),
    in_addition(Method::Put, MANIFEST, RegistryOperation::WriteReserved, OWN_ARTIFACT),
    registry(Method::Delete, MANIFEST, RegistryOperation::DeleteManifest),
    in_addition(Method::Delete, MANIFEST, RegistryOperation::WriteReserved, OWN_ARTIFACT),
    registry(Method::Get, BLOB, RegistryOperation::PullBlob),
    registry(Method::Head, BLOB, RegistryOperation::LookForBlob),
    registry(Method::Delete, BLOB, RegistryOperation::DeleteBlob),
    registry(Method::Post, UPLOADS, RegistryOperation::PushBlob),
    in_addition(Method::Post, UPLOADS, RegistryOperation::MountFrom, "?mount=&from="),
    registry(Method::Get, UPLOAD, RegistryOperation::PushBlob),
    registry(Method::Patch, UPLOAD, RegistryOperation::PushBlob),
    registry(Method::Put, UPLOAD, RegistryOperation::PushBlob),
    registry(Method::Delete, UPLOAD, RegistryOperation::PushBlob),
];

/// The table as a page of Markdown; `cargo xtask generate` writes it to `docs/reference/access.md`.
pub fn document() -> String {
    let mut text = "\
# Access

Generated by `cargo xtask generate` from the table that the server enforces
(`crates/api/src/access.rs`).

| principal | is |
|---|---|
| anonymous | a client without credentials |
| operator | a client with the operator's token |
| user | a client with a token of a user: viewer, operator, approver or admin |
| job | a running job, with a token of its own |
| hook | a forge whose webhook is signed with the source's secret |
| device | an enrolled device, with its credential; others with the shared token for reports |
| system | the server itself |

| access | meaning |
|---|---|
| yes, no | always, never |
| open | unless `[access] anonymous = false` |
| challenged | as `open`, but a client that sends no credentials is asked for them first |
| viewer, operator, … | with a role that has the permission, in a scope that covers the request |
| operator, approver | by the order: approver for approvals, operator for all others |
| order | if the job's order names it |
| own | a device's own repository (`device/self`, `device/ID`) and credential |

| role | may |
|---|---|
| viewer | read |
| operator | read; change what is built, tested, released |
| approver | read; approve what another user ordered |
| admin | everything, users included |

Invalid credentials get status 401 on every route. Without credentials, a request that is not
permitted gets 401; with valid credentials that do not permit it, 403.
"
    .to_owned();
    text.push_str("\n## API, health, metrics, webhooks\n");
    header(&mut text);
    for route in ROUTES {
        row(&mut text, route.method, route.path, None, route.access);
    }
    text.push_str("\n## Registry\n\n");
    text.push_str("`{name}` is a repository and may contain `/`. Rows with a condition apply in addition.\n");
    header(&mut text);
    for route in REGISTRY_ROUTES {
        row(&mut text, route.method, route.path, route.when, route.operation.access());
    }
    text
}

fn header(text: &mut String) {
    let kinds: Vec<&str> = PrincipalKind::ALL.map(PrincipalKind::name).into();
    let rule = "---|".repeat(kinds.len());
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n| | | {} |\n|---|---|{rule}", kinds.join(" | "));
}

fn row(text: &mut String, method: Method, path: &str, when: Option<&str>, access: Access) {
    let when = when.map_or_else(String::new, |when| format!(" {when}"));
    let rules = PrincipalKind::ALL.map(|kind| match access.rule(kind) {
        Rule::Allowed => "yes",
        Rule::Denied => "no",
        Rule::IfOpen => "open",
        Rule::Challenged => "challenged",
        Rule::Role(permission) => permission.role().name(),
        Rule::RoleByOrder => "operator, approver",
        Rule::Granted => "order",
        Rule::Own => "own",
    });
    let rules = rules.join(" | ");
    let _ = writeln!(text, "| {} | `{path}`{when} | {rules} |", method.name());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that is not a read, by what it changes.
    fn changes(route: &RegistryRoute) -> bool {
        !matches!(route.method, Method::Get | Method::Head) && route.operation != RegistryOperation::MountFrom
    }

    #[test]
    fn nothing_is_changed_without_credentials() {
        // The token in its body is the credential.
        let is_proven = |route: &&crate::routes::Route| route.access == Access::ENROL;
        for route in ROUTES.iter().filter(|route| route.method != Method::Get && !is_proven(route)) {
            assert_eq!(route.access.anonymous, Rule::Denied, "{}", route.path);
        }
        for route in REGISTRY_ROUTES.iter().filter(|route| changes(route)) {
            assert_eq!(
                route.operation.access().anonymous,
                Rule::Denied,
                "{} {}",
                route.method.name(),
                route.path
            );
        }
    }

    #[test]
    fn jobs_reach_the_registry_alone_and_never_tag_or_delete() {
        for route in ROUTES {
            assert_ne!(route.access.job, Rule::Granted, "{}", route.path);
            assert!(route.access.job == Rule::Denied || route.access == Access::PUBLIC, "{}", route.path);
        }
        for operation in [
            RegistryOperation::Catalog,
            RegistryOperation::Tag,
            RegistryOperation::DeleteBlob,
            RegistryOperation::DeleteManifest,
            RegistryOperation::WriteReserved,
        ] {
            assert_eq!(operation.access().job, Rule::Denied, "{operation:?}");
        }
    }

    #[test]
    fn no_route_is_in_the_table_twice() {
        let mut seen = std::collections::HashSet::new();
        for route in ROUTES {
            assert!(seen.insert((route.method.name(), route.path)), "{}", route.path);
        }
        for route in REGISTRY_ROUTES.iter().filter(|route| route.when.is_none()) {
            assert!(seen.insert((route.method.name(), route.path)), "{}", route.path);
        }
        assert!(
            document().contains(
                "| DELETE | `/v2/{name}/blobs/{digest}` | no | yes | operator | no | no | no | no |"
            )
        );
    }
}
