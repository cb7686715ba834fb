//! Users over HTTP: roles with scopes, tokens that end at once, and one record for every change.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

mod common;

use common::{Credentials, Served};
use edgewright_api::access::Method;
use edgewright_api::routes::ROUTES;
use edgewright_api::{AuditFilter, Client, TokenPost, UserPost};
use edgewright_model::audit::{Anchor, Verifier};
use reqwest::StatusCode;

/// The trail, oldest first, verified.
async fn trail(client: &Client) -> Vec<(String, String, String)> {
    let filter = AuditFilter { after: Some(0), limit: 1000, ..AuditFilter::default() };
    let entries = client.audit(&filter).await.unwrap().entries;
    let mut verifier = Verifier::new(Anchor::genesis(), None);
    for entry in &entries {
        entry.verify(&mut verifier).unwrap();
    }
    assert_eq!(verifier.finish().unwrap().1, entries.len() as u64);
    entries.into_iter().map(|row| (row.actor.to_string(), row.operation, row.object)).collect()
}

fn row(actor: &str, operation: &str, object: &str) -> (String, String, String) {
    (actor.to_owned(), operation.to_owned(), object.to_owned())
}

#[tokio::test]
async fn a_revoked_token_is_invalid_at_once_and_every_change_of_a_user_is_recorded_once() {
    let served = Served::start(false).await;
    let operator = served.client();
    let admin = served.client_with(&served.user("root", &["admin"]).await);
    let anna = || "anna".parse().unwrap();
    let grants = vec!["viewer".parse().unwrap()];
    admin.set_user(&UserPost { name: anna(), grants: grants.clone() }).await.unwrap();
    let post = TokenPost { valid: "1h".parse().unwrap() };
    let issued = admin.issue_token(&anna(), &post).await.unwrap();
    assert!(issued.token.starts_with("ewusr_") && issued.token.len() == "ewusr_".len() + 64);
    let client = served.client_with(&issued.token);
    let identity = client.whoami().await.unwrap();
    assert_eq!((identity.principal.to_string().as_str(), identity.grants), ("user:anna", grants));
    assert!(client.status().await.is_ok() && client.users().await.is_err());
    let listed = admin.users().await.unwrap();
    assert_eq!(listed[0].tokens.iter().map(|token| token.id).collect::<Vec<_>>(), [issued.id]);
    // Other roles apply from the next request on.
    let user = UserPost { name: anna(), grants: vec!["admin".parse().unwrap()] };
    admin.set_user(&user).await.unwrap();
    assert!(client.users().await.is_ok());
    admin.revoke_token(&anna(), issued.id).await.unwrap();
    assert!(client.whoami().await.is_err() && client.status().await.is_err());
    assert!(admin.revoke_token(&anna(), issued.id).await.is_err(), "there is no such token any more");
    let second = admin.issue_token(&anna(), &post).await.unwrap();
    admin.remove_user(&anna()).await.unwrap();
    assert!(served.client_with(&second.token).whoami().await.is_err());
    assert_eq!(
        trail(&operator).await,
        [
            row("operator:token", "user.set", "users/root"),
            row("operator:token", "user.token", "users/root"),
            row("user:root", "user.set", "users/anna"),
            row("user:root", "user.token", "users/anna"),
            row("user:root", "user.set", "users/anna"),
            row("user:root", "user.revoke", "users/anna"),
            row("user:root", "user.token", "users/anna"),
            row("user:root", "user.remove", "users/anna"),
        ]
    );
    served.close().await;
}

#[tokio::test]
async fn a_scope_limits_polls_pushes_and_pulls() {
    let served = Served::start(false).await;
    let plants = served.client_with(&served.user("anna", &["operator:source=plants"]).await);
    let tools = served.client_with(&served.user("otto", &["operator:source=tools"]).await);
    let source = "plants".parse().unwrap();
    assert!(plants.poll(&source).await.is_ok());
    let denied = tools.poll(&source).await.unwrap_err();
    assert_eq!(denied.class(), edgewright_model::error::ErrorClass::Denied, "{denied}");
    // In the registry, the first part of a repository is the source.
    served.push_image(Credentials::Operator, "plants/hmi/plant-a", "layer").await;
    for (grant, expected) in [
        ("viewer", StatusCode::OK),
        ("viewer:source=plants", StatusCode::OK),
        ("viewer:source=plants,image=hmi,site=plant-a", StatusCode::OK),
        ("viewer:site=plant-b", StatusCode::FORBIDDEN),
        ("viewer:source=tools", StatusCode::FORBIDDEN),
    ] {
        let token = served.user("eva", &[grant]).await;
        let pull = served.request(Method::Get, "/v2/plants/hmi/plant-a/manifests/v1").bearer_auth(&token);
        assert_eq!(pull.send().await.unwrap().status(), expected, "{grant}");
        let push = served.request(Method::Post, "/v2/plants/hmi/plant-a/blobs/uploads/").bearer_auth(&token);
        assert_eq!(push.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{grant}");
    }
    // A device's repository is where the device is, whatever its name looks like; nothing is known of this one.
    for (grant, expected) in [
        ("viewer", StatusCode::NOT_FOUND),
        ("viewer:source=*", StatusCode::FORBIDDEN),
        ("viewer:source=device,image=dev-1", StatusCode::FORBIDDEN),
        ("viewer:site=healthy", StatusCode::FORBIDDEN),
    ] {
        let token = served.user("eva", &[grant]).await;
        for repository in ["device/dev-1", "device/dev-1/healthy"] {
            let path = format!("/v2/{repository}/manifests/current");
            let pull = served.request(Method::Get, &path).bearer_auth(&token);
            assert_eq!(pull.send().await.unwrap().status(), expected, "{grant} {repository}");
        }
    }
    served.close().await;
}

/// Routes that change nothing which a record would be about.
const UNRECORDED: [(&str, &str); 3] = [
    ("poll", "only wakes a reconciler; what it finds is recorded by it"),
    ("hook", "as poll"),
    ("postDeviceReports", "reports are records themselves"),
];

#[tokio::test]
async fn a_request_that_fails_leaves_no_record_whichever_route_it_is() {
    let served = Served::start(true).await;
    let changing: Vec<_> = ROUTES.iter().filter(|route| route.method != Method::Get).collect();
    for (id, why) in UNRECORDED {
        assert!(changing.iter().any(|route| route.id == id), "{id}: {why}");
    }
    for route in changing {
        let path = [
            ("{name}", "missing"),
            ("{number}", "99"),
            ("{channel}", "missing"),
            ("{user}", "missing"),
            ("{token}", "99"),
            ("{device}", "x"),
            ("{forge}", "generic"),
            ("{source}", "missing"),
        ];
        let path =
            path.into_iter().fold(route.path.to_owned(), |path, (name, value)| path.replace(name, value));
        let response = served.request_as(Credentials::Operator, route.method, &path).json(&()).send().await;
        assert!(!response.unwrap().status().is_success(), "{}", route.id);
    }
    assert_eq!(trail(&served.client()).await, []);
    served.close().await;
}
