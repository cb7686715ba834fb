//! A server on a data folder of its own, with credentials for every kind of principal.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod plant;
pub(crate) mod statements;
pub(crate) mod world;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use edgewright_api::access::Method;
use edgewright_model::Digest;
use edgewright_model::order::{JobId, Task};
use edgewright_model::principal::PrincipalKind;
use edgewright_model::role::Role;
use edgewright_process::Clock;
use edgewright_server::tokens::JobToken;
use edgewright_server::{Composition, DataFolder, Options, ProcessTokens};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

/// The repository of the job's results.
pub(crate) const OWN: &str = "plants/hmi/plant-a";
/// The repository of the job's base.
pub(crate) const BASE: &str = "plants/base";

const HOOK_SECRET: &str = "a-secret-of-the-forge";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// The credentials of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials {
    Anonymous,
    Operator,
    /// A user with one role, everywhere. Needs [`Served::add_users`].
    User(Role),
    Job,
    Hook,
    Device,
    System,
    Wrong,
}

impl Credentials {
    pub(crate) fn of(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::Anonymous => Self::Anonymous,
            PrincipalKind::Operator => Self::Operator,
            PrincipalKind::User => Self::User(Role::Operator),
            PrincipalKind::Job => Self::Job,
            PrincipalKind::Hook => Self::Hook,
            PrincipalKind::Device => Self::Device,
            PrincipalKind::System => Self::System,
        }
    }
}

/// A running server.
pub(crate) struct Served {
    folder: tempfile::TempDir,
    composition: Composition,
    tokens: ProcessTokens,
    client: Client,
    url: String,
    operator: String,
    report_token: String,
    users: BTreeMap<Role, String>,
    job: String,
    guard: Option<JobToken>,
}

impl Served {
    pub(crate) async fn start(open: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::start_with(folder, &data, open).await
    }

    /// A server whose data folder is in `place`, which outlives it.
    pub(crate) async fn start_in(place: &std::path::Path, open: bool) -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), &place.join("data"), open).await
    }

    async fn start_with(folder: tempfile::TempDir, data: &std::path::Path, open: bool) -> Self {
        let secret = folder.path().join("hook-secret");
        std::fs::write(&secret, HOOK_SECRET).unwrap();
        let remote = folder.path().join("plants.git");
        let file = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[access]\nanonymous = {open}\n[[source]]\nurl = \"{}\"\nhook_secret_file = \"{}\"",
            remote.display(),
            secret.display()
        );
        let data = DataFolder::new(data);
        let settings = Options::parse(&file).unwrap().resolve(data.root(), NonZeroUsize::MIN).unwrap();
        let (lock, tokens) = (data.lock().unwrap(), ProcessTokens::generate().unwrap());
        let executor = Arc::new(edgewright_job::SimulatedExecutor::new());
        let opened =
            Composition::open(&settings, lock, |_, _| executor, tokens.clone(), Clock::system()).await;
        let composition = opened.unwrap();
        let url = format!("http://{}", composition.local());
        let operator = std::fs::read_to_string(data.operator_token()).unwrap().trim().to_owned();
        let report_token = std::fs::read_to_string(data.report_token()).unwrap().trim().to_owned();
        let (job, guard) = job_token(&tokens, &json!({"kind": "scratch"}));
        Self {
            folder,
            composition,
            tokens,
            client: Client::new(),
            url,
            operator,
            report_token,
            users: BTreeMap::new(),
            job,
            guard: Some(guard),
        }
    }

    /// The listener's address.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.composition.local()
    }

    /// Adds a user for each role.
    pub(crate) async fn add_users(&mut self) {
        for role in Role::ALL {
            let token = self.user(role.name(), &[role.name()]).await;
            self.users.insert(role, token);
        }
    }

    /// Adds a user; returns a token.
    pub(crate) async fn user(&self, name: &str, grants: &[&str]) -> String {
        let (client, name) = (self.client(), name.parse().unwrap());
        let grants = grants.iter().map(|grant| grant.parse().unwrap()).collect();
        let user = client.set_user(&edgewright_api::UserPost { name, grants }).await.unwrap();
        let post = edgewright_api::TokenPost { valid: "1h".parse().unwrap() };
        client.issue_token(&user.name, &post).await.unwrap().token
    }

    pub(crate) fn operator_token(&self) -> &str {
        &self.operator
    }

    /// Gives the job a base.
    pub(crate) fn grant_base(&mut self, digest: &Digest) {
        let base = json!({"kind": "manifest", "repository": BASE, "digest": digest});
        let (job, guard) = job_token(&self.tokens, &base);
        (self.job, self.guard) = (job, Some(guard));
    }

    /// Ends the job; returns its former token.
    pub(crate) fn end_job(&mut self) -> String {
        self.guard = None;
        self.job.clone()
    }

    pub(crate) async fn close(self) {
        self.composition.shutdown().await;
    }

    /// A client with a token.
    pub(crate) fn client_with(&self, token: &str) -> edgewright_api::Client {
        edgewright_api::Client::new(&self.url).unwrap().with_token(Some(token.to_owned()))
    }

    /// The operator's client.
    pub(crate) fn client(&self) -> edgewright_api::Client {
        edgewright_api::Client::new(&self.url).unwrap().with_token(Some(self.operator.clone()))
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let method = method.name().parse().unwrap();
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) fn request_as(&self, credentials: Credentials, method: Method, path: &str) -> RequestBuilder {
        let request = self.request(method, path);
        match credentials {
            Credentials::Anonymous => request,
            Credentials::Operator => request.bearer_auth(&self.operator),
            Credentials::User(role) => request.bearer_auth(&self.users[&role]),
            Credentials::Job => request.bearer_auth(&self.job),
            Credentials::Hook => request.bearer_auth(HOOK_SECRET),
            Credentials::Device => request.bearer_auth(&self.report_token),
            Credentials::System => request.bearer_auth(self.tokens.system.reveal()),
            Credentials::Wrong => request.bearer_auth("ewop_wrong"),
        }
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, credentials: Credentials) -> Response {
        self.request_as(credentials, method, path).send().await.unwrap()
    }

    pub(crate) async fn push_blob(&self, credentials: Credentials, name: &str, content: &str) -> u16 {
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", Digest::of(content));
        let push = self.request_as(credentials, Method::Post, &path).body(content.to_owned());
        push.send().await.unwrap().status().as_u16()
    }

    pub(crate) async fn put_manifest(
        &self,
        credentials: Credentials,
        name: &str,
        reference: &str,
        document: &Value,
    ) -> u16 {
        let put = self.request_as(credentials, Method::Put, &format!("/v2/{name}/manifests/{reference}"));
        let put = put.header("content-type", IMAGE).body(document.to_string());
        put.send().await.unwrap().status().as_u16()
    }

    /// Pushes an image of one layer as `v1`; returns its digest.
    pub(crate) async fn push_image(&self, credentials: Credentials, name: &str, layer: &str) -> Digest {
        for content in ["{}", layer] {
            assert_eq!(self.push_blob(credentials, name, content).await, 201);
        }
        let document = image(layer);
        assert_eq!(self.put_manifest(credentials, name, "v1", &document).await, 201);
        Digest::of(document.to_string())
    }
}

fn job_token(tokens: &ProcessTokens, base: &Value) -> (String, JobToken) {
    let task: Task = serde_json::from_value(json!({
        "kind": "image", "node": "hmi/plant-a", "variant": "hmi/plant-a", "platform": "linux/amd64",
        "repository": OWN, "base": base, "steps": [], "epoch": "2026-01-01T00:00:00Z", "labels": {}, "lanes": [],
    }))
    .unwrap();
    let (secret, guard) = tokens.jobs.issue(JobId(uuid::Uuid::now_v7()), &task).unwrap();
    (secret.reveal().to_owned(), guard)
}

/// An image of one layer.
pub(crate) fn image(layer: &str) -> Value {
    let descriptor = |media_type: &str, content: &str| json!({"mediaType": media_type, "digest": Digest::of(content), "size": content.len()});
    json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor("application/vnd.oci.image.config.v1+json", "{}"),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer)],
    })
}
