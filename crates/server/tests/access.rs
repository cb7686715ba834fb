//! The whole access table, tested over HTTP on a real server: every route with every principal.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

mod common;

use common::{Credentials, Served};
use edgewright_api::AuditFilter;
use edgewright_api::access::{Access, Method, REGISTRY_ROUTES, RegistryOperation, RegistryRoute, Rule};
use edgewright_api::routes::ROUTES;
use edgewright_control::access::{Operation as Done, may};
use edgewright_model::Digest;
use edgewright_model::order::JobId;
use edgewright_model::principal::{Principal, PrincipalKind};
use edgewright_model::role::{Grant, Permission, Role};
use reqwest::StatusCode;

/// The expected response, as far as access decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Served,
    Unauthenticated,
    Denied,
}

/// The response according to the table, given whether anonymous reading is on and whether a job's order
/// grants the request.
fn expected(of: Credentials, kind: PrincipalKind, access: Access, open: bool, granted: bool) -> Expected {
    // A webhook's secret is not a token, and a token is not a signature.
    if access == Access::SIGNED || kind == PrincipalKind::Hook {
        let is_proven = access == Access::SIGNED && kind == PrincipalKind::Hook;
        assert_eq!(access.rule(kind) == Rule::Allowed, is_proven);
        return if is_proven { Expected::Served } else { Expected::Unauthenticated };
    }
    let rejected =
        if kind == PrincipalKind::Anonymous { Expected::Unauthenticated } else { Expected::Denied };
    match access.rule(kind) {
        Rule::Allowed => Expected::Served,
        Rule::IfOpen if open => Expected::Served,
        Rule::Granted if granted => Expected::Served,
        Rule::Role(permission) => match of {
            Credentials::User(role) if role.has(permission) => Expected::Served,
            _ if open && access.anonymous == Rule::IfOpen => Expected::Served,
            _ => rejected,
        },
        Rule::RoleByOrder => match of {
            Credentials::User(role) if orders(role) => Expected::Served,
            _ => rejected,
        },
        // The device of this test is not enrolled.
        Rule::IfOpen | Rule::Own | Rule::Granted | Rule::Challenged | Rule::Denied => rejected,
    }
}

/// Whether a role gives some of the orders of a route that takes several.
const fn orders(role: Role) -> bool {
    role.has(Permission::Operate) || role.has(Permission::Approve)
}

fn seen(status: StatusCode) -> Expected {
    match status {
        StatusCode::UNAUTHORIZED => Expected::Unauthenticated,
        StatusCode::FORBIDDEN => Expected::Denied,
        // Any other status means that access was granted.
        _ => Expected::Served,
    }
}

/// A path whose parameters name objects that do not exist.
fn example(path: &str) -> String {
    let digest = Digest::of("missing").to_string();
    [
        ("{number}", "99"),
        ("{forge}", "generic"),
        ("{source}", "plants"),
        ("{name}/poll", "plants/poll"),
        ("{name}/update", "plants/update"),
        ("{node}", "hmi/plant-a"),
        ("{variant}", "hmi/plant-a"),
        ("{site}", "plant-a"),
        ("{channel}", "stable"),
        ("{device}", "press-1"),
        ("{user}", "missing"),
        ("{token}", "99"),
        ("{name}", common::OWN),
        ("{reference}", &digest),
        ("{digest}", &digest),
        ("{id}", "00000000-0000-0000-0000-000000000000"),
    ]
    .into_iter()
    .fold(path.to_owned(), |path, (name, value)| path.replace(name, value))
}

async fn walk(open: bool) {
    let mut served = Served::start(open).await;
    served.add_users().await;
    // Every role of users is a column of its own.
    let others = PrincipalKind::ALL.into_iter().filter(|kind| *kind != PrincipalKind::User);
    let others = others.map(|kind| (kind, Credentials::of(kind)));
    let users = Role::ALL.map(|role| (PrincipalKind::User, Credentials::User(role)));
    for (kind, of) in others.chain(users) {
        for route in ROUTES {
            let path = example(route.path);
            let response = served.ask(route.method, &path, of).await;
            let want = expected(of, kind, route.access, open, false);
            let status = response.status();
            assert_eq!(seen(status), want, "{of:?} {} {path}: {status}", route.method.name());
            if want != Expected::Served {
                let error: edgewright_api::ApiError = response.json().await.unwrap();
                assert!(error.hint.is_some(), "{kind} {path}: {error:?}");
            }
        }
        for route in REGISTRY_ROUTES.iter().filter(|route| route.when.is_none()) {
            let path = example(route.path);
            let response = served.ask(route.method, &path, of).await;
            // The path is in the repository of the job's order.
            let want = expected(of, kind, route.operation.access(), open, true);
            assert_eq!(
                seen(response.status()),
                want,
                "{of:?} {} {path}: {}",
                route.method.name(),
                response.status()
            );
            let challenge = response.headers().get("www-authenticate").is_some();
            assert_eq!(challenge, want == Expected::Unauthenticated, "{kind} {path}");
        }
    }
    served.close().await;
}

#[tokio::test]
async fn every_route_permits_the_principals_in_the_table() {
    walk(true).await;
}

#[tokio::test]
async fn without_anonymous_reading_only_public_routes_need_no_token() {
    walk(false).await;
}

#[tokio::test]
async fn routes_that_are_not_in_the_table_are_not_served() {
    let served = Served::start(true).await;
    let mut paths: Vec<(&str, Vec<Method>)> = Vec::new();
    let listed = ROUTES.iter().map(|route| (route.path, route.method));
    for (path, method) in listed.chain(REGISTRY_ROUTES.iter().map(|route| (route.path, route.method))) {
        match paths.iter_mut().find(|(known, _)| *known == path) {
            Some((_, methods)) => methods.push(method),
            None => paths.push((path, vec![method])),
        }
    }
    for (path, methods) in paths {
        for method in Method::ALL {
            // A HEAD is a GET without its body, except in the registry, whose table lists both.
            let is_head =
                method == Method::Head && methods.contains(&Method::Get) && !path.starts_with("/v2/");
            if methods.contains(&method) || is_head {
                continue;
            }
            let response = served.ask(method, &example(path), Credentials::Operator).await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{} {path}", method.name());
        }
    }
    for path in
        ["/x", "/api", "/api/v1", "/api/v2/status", "/hooks", "/hooks/generic", "/v3/", "/metrics/x", "/v2/x"]
    {
        for method in [Method::Get, Method::Post, Method::Delete] {
            let response = served.ask(method, path, Credentials::Operator).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{} {path}", method.name());
        }
    }
    served.close().await;
}

#[tokio::test]
async fn invalid_credentials_are_rejected_on_every_route() {
    let served = Served::start(true).await;
    let registry = REGISTRY_ROUTES.iter().filter(|route| route.when.is_none());
    let registry = registry.map(|route: &RegistryRoute| (route.method, route.path));
    let routes = ROUTES.iter().map(|route| (route.method, route.path)).chain(registry);
    for (method, path) in routes {
        let response = served.ask(method, &example(path), Credentials::Wrong).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{} {path}", method.name());
    }
    served.close().await;
}

#[tokio::test]
async fn neither_loopback_nor_headers_replace_a_token() {
    let served = Served::start(true).await;
    let path = "/api/v1/runs/1/cancel";
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("origin", "http://127.0.0.1"),
        ("host", "localhost"),
    ] {
        let request = served.request(Method::Post, path).header(name, value);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "{name}");
    }
    // A public DNS name that resolves to loopback: a web page that reads through a browser on this machine.
    for (host, status) in
        [("evil.example.com", 421), ("evil.example.com:80", 421), ("localhost:1", 200), ("[::1]:1", 200)]
    {
        let response =
            served.request(Method::Get, "/api/v1/status").header("host", host).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{host}");
    }
    let response = served.request(Method::Get, "/api/v1/status").send().await.unwrap();
    assert!(response.headers().get("x-request-id").is_some());
    served.close().await;
}

/// One principal of each kind that is known by a request, and a user of each role.
fn principals() -> [Principal; 9] {
    let user = |role| Principal::User { name: "x".into(), grants: [Grant::everywhere(role)].into() };
    [
        Principal::Anonymous,
        Principal::Operator { name: "token" },
        user(Role::Viewer),
        user(Role::Operator),
        user(Role::Approver),
        user(Role::Admin),
        Principal::Job { id: JobId(uuid::Uuid::nil()), grants: std::sync::Arc::default() },
        Principal::Hook { source: "plants".parse().unwrap() },
        Principal::Device { id: None },
    ]
}

#[test]
fn the_table_permits_only_operations_that_control_permits() {
    let source = "plants".parse().unwrap();
    for (id, operation) in [
        ("poll", Done::PollSource),
        ("hook", Done::PollSource),
        ("update", Done::UpdateLocks),
        ("cancel", Done::CancelRun),
        ("retry", Done::RetryRun),
        ("postVerdict", Done::PostVerdict),
        ("startRebuild", Done::Rebuild),
        ("postDeviceReports", Done::ReportDevice),
        ("setUser", Done::SetUser),
        ("removeUser", Done::RemoveUser),
        ("issueToken", Done::IssueToken),
        ("revokeToken", Done::RevokeToken),
        ("changeChannel", Done::Promote),
        ("clearQuarantine", Done::ClearQuarantine),
        ("makeEnrolment", Done::EnrolDevice),
        ("rotateDevice", Done::RotateDevice),
    ] {
        let route = ROUTES.iter().find(|route| route.id == id).unwrap();
        for principal in &principals() {
            let is_routed = match (route.access.rule(principal.kind()), principal) {
                (Rule::Role(permission), Principal::User { grants, .. }) => grants[0].role().has(permission),
                (rule, _) => rule == Rule::Allowed,
            };
            let is_permitted = may(principal, operation, Some(&source)).is_ok();
            assert!(!is_routed || is_permitted, "{id}: the table permits {principal}, control does not");
        }
        assert!(may(&Principal::Anonymous, operation, Some(&source)).is_err());
    }
}

#[test]
fn routes_with_several_orders_permit_principals_that_may_give_one_of_them() {
    let source = "plants".parse().unwrap();
    for (id, operations) in [
        ("orderRollout", [Done::PauseRollout, Done::ApproveRollout]),
        ("changeDevice", [Done::HoldDevice, Done::ApproveDevice]),
    ] {
        let route = ROUTES.iter().find(|route| route.id == id).unwrap();
        assert_eq!(route.access.user, Rule::RoleByOrder, "{id}");
        let may_any = |principal: &Principal| {
            operations.iter().any(|operation| may(principal, *operation, Some(&source)).is_ok())
        };
        for principal in &principals() {
            let is_routed = match principal {
                Principal::User { grants, .. } => orders(grants[0].role()),
                _ => route.access.rule(principal.kind()) == Rule::Allowed,
            };
            assert_eq!(is_routed, may_any(principal), "{id} {principal}");
        }
    }
}

#[tokio::test]
async fn changes_in_the_registry_by_the_operator_are_audited() {
    let served = Served::start(true).await;
    let digest = served.push_image(Credentials::Operator, "tools/report", "layer").await;
    // Pushes by a job are recorded with its run.
    assert_eq!(served.push_blob(Credentials::Job, common::OWN, "layer").await, 201);
    let path = format!("/v2/tools/report/manifests/{digest}");
    assert_eq!(served.ask(Method::Delete, &path, Credentials::Operator).await.status(), StatusCode::ACCEPTED);
    assert_eq!(
        served.ask(Method::Delete, &path, Credentials::Operator).await.status(),
        StatusCode::NOT_FOUND
    );
    let page = served.client().audit(&AuditFilter { limit: 10, ..AuditFilter::default() }).await.unwrap();
    let rows: Vec<_> = page.entries.iter().map(|row| (row.operation.as_str(), row.object.as_str())).collect();
    let by_digest = format!("tools/report@{digest}");
    assert_eq!(rows, [("registry.delete", by_digest.as_str()), ("registry.push", "tools/report:v1")]);
    let pushed = &page.entries[1];
    assert_eq!((pushed.actor.to_string().as_str(), pushed.request.is_some()), ("operator:token", true));
    assert_eq!(pushed.after, Some(serde_json::json!({ "digest": digest })));
    served.close().await;
}

#[tokio::test]
async fn a_job_has_the_permissions_of_its_order_until_its_end() {
    let mut served = Served::start(true).await;
    // The operator pushed a base with its blobs, and another image.
    let base = served.push_image(Credentials::Operator, common::BASE, "base layer").await;
    let other = served.push_image(Credentials::Operator, "plants/other", "other layer").await;
    served.grant_base(&base);
    let get = async |path: String| served.ask(Method::Get, &path, Credentials::Job).await.status().as_u16();
    assert_eq!(get(format!("/v2/{}/manifests/{base}", common::BASE)).await, 200);
    assert_eq!(get(format!("/v2/{}/blobs/{}", common::BASE, Digest::of("base layer"))).await, 200);
    for path in [
        format!("/v2/{}/manifests/v1", common::BASE),
        format!("/v2/{}/tags/list", common::BASE),
        format!("/v2/{}/blobs/{}", common::BASE, Digest::of("unrelated")),
        format!("/v2/plants/other/manifests/{other}"),
        format!("/v2/plants/other/blobs/{}", Digest::of("other layer")),
        "/v2/_catalog".to_owned(),
        "/api/v1/status".to_owned(),
    ] {
        assert_eq!(get(path.clone()).await, 403, "{path}");
    }

    // Its own repository: untagged, with the base's layer mounted.
    let mount = |from: &str, layer: &str| {
        format!("/v2/{}/blobs/uploads/?mount={}&from={from}", common::OWN, Digest::of(layer))
    };
    let post = async |path: String| served.ask(Method::Post, &path, Credentials::Job).await.status().as_u16();
    assert_eq!(post(mount(common::BASE, "base layer")).await, 201);
    assert_eq!(post(mount("plants/other", "other layer")).await, 202, "it has to push the layer instead");
    assert_eq!(served.push_blob(Credentials::Job, common::OWN, "{}").await, 201);
    assert_eq!(served.push_blob(Credentials::Job, common::BASE, "{}").await, 403);
    let image = common::image("base layer");
    let put = async |name: &str, reference: &str, document: &serde_json::Value| {
        served.put_manifest(Credentials::Job, name, reference, document).await
    };
    let digest = Digest::of(image.to_string()).to_string();
    assert_eq!(put(common::OWN, "v1", &image).await, 403, "no tags");
    assert_eq!(put(common::OWN, &format!("{digest}?tag=v1"), &image).await, 403);
    assert_eq!(put("plants/other", &digest, &image).await, 403);
    assert_eq!(put(common::OWN, &digest, &image).await, 201);
    let mut verdict = image.clone();
    verdict["artifactType"] = "application/vnd.edgewright.verdict.v1+json".into();
    assert_eq!(put(common::OWN, &Digest::of(verdict.to_string()).to_string(), &verdict).await, 403);
    let delete = served
        .ask(Method::Delete, &format!("/v2/{}/manifests/{digest}", common::OWN), Credentials::Job)
        .await;
    assert_eq!(delete.status(), StatusCode::FORBIDDEN);
    assert_eq!(RegistryOperation::WriteReserved.access().job, Rule::Denied);

    let token = served.end_job();
    let request = served.request(Method::Get, &format!("/v2/{}/manifests/{digest}", common::OWN));
    assert_eq!(request.bearer_auth(token).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    served.close().await;
}
