//! Commit statuses against receivers that are as strict as the forges' documentation: path, header, words and
//! bounds.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod common;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use common::World;
use edgewright_control::outbound::notify::{Sink, SinkKind};
use serde_json::Value;

/// What a forge takes.
#[derive(Debug)]
struct Forge {
    kind: SinkKind,
    token: &'static str,
    /// How often it is out of order before it answers.
    outages: Mutex<u32>,
    /// `COMMIT STATE`.
    statuses: Mutex<Vec<String>>,
}

impl Forge {
    fn take(&self, commit: &str, headers: &HeaderMap, body: &Value) -> StatusCode {
        let mut outages = self.outages.lock().unwrap_or_else(PoisonError::into_inner);
        if *outages > 0 {
            *outages -= 1;
            return StatusCode::BAD_GATEWAY;
        }
        let gitlab = self.kind == SinkKind::Gitlab;
        let (header, value) = match self.kind {
            SinkKind::Gitlab => ("private-token", self.token.to_owned()),
            SinkKind::Gitea => ("authorization", format!("token {}", self.token)),
            _ => ("authorization", format!("Bearer {}", self.token)),
        };
        if headers.get(header).is_none_or(|sent| sent != value.as_str()) {
            return StatusCode::UNAUTHORIZED;
        }
        if !headers["content-type"].to_str().unwrap().starts_with("application/json")
            || headers.get("user-agent").is_none()
        {
            return StatusCode::FORBIDDEN;
        }
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        let known: &[&str] = if gitlab {
            &["pending", "running", "success", "failed", "canceled"]
        } else {
            &["error", "failure", "pending", "success"]
        };
        let context = text(if gitlab { "name" } else { "context" });
        let fits = known.contains(&text("state"))
            && commit.len() == 40
            && context == "edgewright/plants"
            && text("description").chars().count() <= 140
            && text("target_url").starts_with("https://edge.example/api/v1/runs/");
        if !fits {
            return StatusCode::UNPROCESSABLE_ENTITY;
        }
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        statuses.push(format!("{commit} {}", text("state")));
        StatusCode::CREATED
    }

    fn statuses(&self) -> Vec<String> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A forge that knows the repository `ops/plants`, at an address.
async fn start(kind: SinkKind, token: &'static str, outages: u32) -> (Arc<Forge>, String) {
    let forge = Forge { kind, token, outages: Mutex::new(outages), statuses: Mutex::default() };
    let forge = Arc::new(forge);
    // Axum decodes `ops%2Fplants` after it has matched.
    let path = match kind {
        SinkKind::Gitlab => "/api/projects/{project}/statuses/{commit}",
        _ => "/api/repos/ops/{project}/statuses/{commit}",
    };
    let take = |State(forge): State<Arc<Forge>>,
                Path((project, commit)): Path<(String, String)>,
                headers: HeaderMap,
                Json(body): Json<Value>| async move {
        match project.as_str() {
            "plants" | "ops/plants" => forge.take(&commit, &headers, &body),
            _ => StatusCode::NOT_FOUND,
        }
    };
    let router = Router::new().route(path, post(take)).with_state(Arc::clone(&forge));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of its test")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    (forge, url)
}

fn sink(kind: SinkKind, url: &str, token: &str) -> Sink {
    Sink {
        name: format!("{kind:?}"),
        kind,
        url: url.to_owned(),
        mode: edgewright_control::outbound::notify::EventMode::default(),
        types: Vec::new(),
        source: Some("plants".parse().unwrap()),
        repository: Some("ops/plants".to_owned()),
        token: Some(token.to_owned()),
        link: "https://edge.example".to_owned(),
    }
}

async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !look().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn every_forge_is_notified_of_a_run_even_after_an_outage() {
    let world = World::new().await;
    let kinds = [SinkKind::Github, SinkKind::Gitlab, SinkKind::Gitea];
    let mut forges = Vec::new();
    let mut sinks = Vec::new();
    for kind in kinds {
        let (forge, url) = start(kind, "glpat-0123456789abcdef", 1).await;
        sinks.push(sink(kind, &url, forge.token));
        forges.push(forge);
    }
    world.control.notify(&sinks).unwrap();
    until("the sinks", async || world.store.sinks().await.unwrap().len() == 3).await;
    let (run, _) = world.run().await;
    let commit = world.store.run(run).await.unwrap().unwrap().commit;
    for forge in forges {
        let words: &[&str] = match forge.kind {
            SinkKind::Gitlab => &["pending", "running", "success"],
            _ => &["pending", "pending", "success"],
        };
        let expected: Vec<String> = words.iter().map(|word| format!("{commit} {word}")).collect();
        until("the statuses", async || forge.statuses().len() >= expected.len()).await;
        assert_eq!(forge.statuses(), expected, "{:?}", forge.kind);
    }
}

#[tokio::test]
async fn a_wrong_token_is_reported_and_nothing_is_lost_until_it_is_corrected() {
    let world = World::new().await;
    let (forge, url) = start(SinkKind::Gitea, "right", 0).await;
    world.control.notify(&[sink(SinkKind::Gitea, &url, "wrong")]).unwrap();
    until("the sink", async || !world.store.sinks().await.unwrap().is_empty()).await;
    world.run().await;
    until("the rejection", async || world.store.sinks().await.unwrap()[0].failures > 0).await;
    let row = world.store.sinks().await.unwrap().remove(0);
    let error = row.error.unwrap();
    assert!(error.contains("401 Unauthorized") && error.contains("`token_file`"), "{error}");
    assert!(!error.contains("wrong") && forge.statuses().is_empty(), "{error}");

    world.control.notify(&[sink(SinkKind::Gitea, &url, "right")]).unwrap();
    until("the statuses", async || forge.statuses().len() == 3).await;
    let row = world.store.sinks().await.unwrap().remove(0);
    assert_eq!((row.failures, row.error), (0, None));
}
