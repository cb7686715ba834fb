//! A server with a git repository and simulated jobs, whose changes are compared with the audit trail.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edgewright_api::access::Method;
use edgewright_api::routes::{Operation, ROUTES, Route};
use edgewright_job::{
    Admission, BoxFuture, Capacity, Demand, Executor, ExecutorError, Exported, Permit, SimulatedExecutor,
};
use edgewright_model::order::{JobRequest, ManifestRef};
use edgewright_model::outcome::{JobEvent, JobOutcome};
use edgewright_model::spec::Lane;
use edgewright_model::tools::ToolVersions;
use edgewright_model::verdict::LaneProfile;
use edgewright_process::{CancellationToken, Clock, Command};
use edgewright_server::{Composition, DataFolder, Options, ProcessTokens};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a test waits for what must happen: only a defect takes so long.
const PATIENCE: Duration = Duration::from_mins(5);
/// The secret of the source's webhook.
pub(crate) const HOOK_SECRET: &str = "a-secret-of-the-forge";

/// Simulated jobs, which can be exported, as those of Kubernetes can.
#[derive(Debug)]
struct Exporting(SimulatedExecutor);

impl Executor for Exporting {
    fn admit(&self, demand: Demand) -> BoxFuture<'_, Admission> {
        self.0.admit(demand)
    }

    fn run(
        &self,
        request: JobRequest,
        permit: Permit,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<JobOutcome, ExecutorError>> {
        self.0.run(request, permit, events, cancel)
    }

    fn lane_profile(&self, lane: Lane) -> Option<LaneProfile> {
        self.0.lane_profile(lane)
    }

    fn tools<'a>(
        &'a self,
        events: mpsc::Sender<JobEvent>,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, ToolVersions> {
        self.0.tools(events, cancel)
    }

    fn export<'a>(
        &'a self,
        _: JobRequest,
        _: &'a ManifestRef,
        _: bool,
    ) -> BoxFuture<'a, Result<Exported, ExecutorError>> {
        Box::pin(std::future::ready(Ok(Exported {
            objects: vec![json!({"kind": "Pod"})],
            ..Exported::default()
        })))
    }

    fn capacity(&self) -> Capacity {
        self.0.capacity()
    }
}

/// The server, its repository, and what was asked of it.
pub(crate) struct Plant {
    folder: tempfile::TempDir,
    composition: Composition,
    pub(crate) executor: SimulatedExecutor,
    client: reqwest::Client,
    url: String,
    operator: String,
    /// The requests so far: the operation, and the kind of change if it takes several.
    pub(crate) asked: BTreeSet<(&'static str, Option<String>)>,
}

impl Plant {
    pub(crate) async fn start(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (repository, secret) = (folder.path().join("plants"), folder.path().join("secret"));
        std::fs::write(&secret, HOOK_SECRET).unwrap();
        std::fs::create_dir(&repository).unwrap();
        git(&repository, &["init", "--quiet", "--initial-branch=main"]).await;
        let file = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[[source]]\nurl = \"{}\"\npoll = \"1s\"\nhook_secret_file = \"{}\"\n",
            repository.display(),
            secret.display()
        );
        let data = DataFolder::new(folder.path().join("data"));
        let settings = Options::parse(&file).unwrap().resolve(data.root(), NonZeroUsize::MIN).unwrap();
        let (lock, tokens) = (data.lock().unwrap(), ProcessTokens::generate().unwrap());
        let mut jobs = SimulatedExecutor::new();
        let opened = Composition::open(
            &settings,
            lock,
            |registry, _| {
                jobs = SimulatedExecutor::new().pushing(registry);
                Arc::new(Exporting(jobs.clone()))
            },
            tokens,
            Clock::system(),
        );
        let composition = opened.await.unwrap();
        let url = format!("http://{}", composition.local());
        let operator = std::fs::read_to_string(data.operator_token()).unwrap().trim().to_owned();
        let client = reqwest::Client::new();
        let asked = BTreeSet::new();
        let plant = Self { folder, composition, executor: jobs, client, url, operator, asked };
        plant.commit(files).await;
        plant.composition.start().unwrap();
        plant
    }

    /// Commits files.
    pub(crate) async fn commit(&self, files: &[(&str, &str)]) {
        let repository = self.folder.path().join("plants");
        for (path, text) in files {
            let path = repository.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        git(&repository, &["add", "--all"]).await;
        git(&repository, &["commit", "--quiet", "--message", "a change"]).await;
    }

    pub(crate) async fn close(self) {
        self.composition.shutdown().await;
    }

    /// A document of the API.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}{path}", self.url)).bearer_auth(&self.operator);
        request.send().await.unwrap().json().await.unwrap()
    }

    /// Asks for a document until something is in it.
    pub(crate) async fn until<T>(&self, path: &str, look: impl Fn(&Value) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let document = self.get(path).await;
            if let Some(found) = look(&document) {
                return found;
            }
            assert!(Instant::now() < deadline, "{path}: {document:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A request: it succeeds, and the trail has exactly these operations of it.
    pub(crate) async fn ask(
        &mut self,
        operation: Operation,
        names: &[(&str, &str)],
        body: Value,
        recorded: &[&str],
    ) -> Value {
        let operator = self.operator.clone();
        self.ask_as(&operator, operation, names, body, recorded).await
    }

    pub(crate) async fn ask_as(
        &mut self,
        token: &str,
        operation: Operation,
        names: &[(&str, &str)],
        body: Value,
        recorded: &[&str],
    ) -> Value {
        let route = ROUTES.iter().find(|route| route.operation == operation).unwrap();
        let path = names
            .iter()
            .fold(route.path.to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
        self.asked.insert((route.id, kind(route, &body)));
        self.send(token, route.method, &path, &body, recorded).await
    }

    /// A request to a path, whose records are as expected.
    pub(crate) async fn send(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: &Value,
        recorded: &[&str],
    ) -> Value {
        let request = self.client.request(method.name().parse().unwrap(), format!("{}{path}", self.url));
        let request = if body.is_null() { request } else { request.json(body) };
        let response = request.bearer_auth(token).send().await.unwrap();
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{} {path} {body}: {status} {text}", method.name());
        assert_eq!(self.recorded(&id).await, recorded, "{} {path} {body}", method.name());
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// As the operator, in the registry: its documents are manifests.
    pub(crate) async fn push(&self, method: Method, path: &str, body: String, recorded: &[&str]) -> String {
        let request = self.client.request(method.name().parse().unwrap(), format!("{}{path}", self.url));
        let request = request.header("content-type", "application/vnd.oci.image.manifest.v1+json").body(body);
        let response = request.bearer_auth(&self.operator).send().await.unwrap();
        assert!(response.status().is_success(), "{} {path}: {response:?}", method.name());
        let id = response.headers()["x-request-id"].to_str().unwrap();
        assert_eq!(self.recorded(id).await, recorded, "{} {path}", method.name());
        let location = response.headers().get("location").map(|value| value.to_str().unwrap());
        location.unwrap_or_default().trim_start_matches(&self.url).to_owned()
    }

    /// The operations that the trail has of a request.
    async fn recorded(&self, id: &str) -> Vec<String> {
        let trail = self.get("/api/v1/audit?limit=1000").await;
        assert!(trail["next"].is_null(), "the trail has one page in this test");
        let entries = trail["entries"].as_array().unwrap().iter();
        let of_request = entries.filter(|entry| entry["request"] == id);
        of_request.map(|entry| entry["operation"].as_str().unwrap().to_owned()).collect()
    }
}

/// The key whose value distinguishes the changes of a route, with its values.
pub(crate) fn kinds(route: &Route) -> Option<(String, Vec<String>)> {
    let document = edgewright_api::openapi::document();
    let schema = &document["components"]["schemas"][route.body?];
    let values = schema["oneOf"].as_array()?;
    let tag = |variant: &Value| {
        let properties = variant["properties"].as_object().unwrap();
        let mut tags = properties.iter().filter_map(|(key, schema)| {
            Some((key.clone(), schema["enum"].as_array()?.first()?.as_str()?.to_owned()))
        });
        tags.next().unwrap()
    };
    let key = tag(values.first().unwrap()).0;
    Some((key, values.iter().map(|variant| tag(variant).1).collect()))
}

fn kind(route: &Route, body: &Value) -> Option<String> {
    let (key, _) = kinds(route)?;
    Some(body[key].as_str().unwrap().to_owned())
}

async fn git(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("git").args(arguments.iter().copied()).cwd(folder);
    for (name, value) in [("NAME", "Test"), ("EMAIL", "test@example.org")] {
        command = command.env(format!("GIT_AUTHOR_{name}"), value);
        command = command.env(format!("GIT_COMMITTER_{name}"), value);
    }
    let command = command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.run().await.unwrap();
}
