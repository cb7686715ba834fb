//! A registry of its own for each test, behind a real listener.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::principal::Principal;
use edgewright_model::reference::{Reference, RepoName, Tag};
use edgewright_registry::{
    AccessRequest, AccessToken, Action, Authorizer, Credentials, Decision, Lookup, NoReservedTags, Open,
    Registry, RegistrySettings, Resolution, TagResolver, Target,
};
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

pub(crate) struct Server {
    pub(crate) registry: Registry,
    pub(crate) address: SocketAddr,
    client: Client,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::with(folder, Arc::new(NoReservedTags), Arc::new(Open::new(None))).await
    }

    pub(crate) async fn with(
        folder: &Path,
        resolver: Arc<dyn TagResolver>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Self {
        Self::serve(Registry::open(RegistrySettings::new(folder), resolver, authorizer).await.unwrap()).await
    }

    pub(crate) async fn serve(registry: Registry) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = registry.router();
        #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of its test")]
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { registry, address, client: Client::new(), task }
    }

    /// Ends like a crash, without a shutdown.
    pub(crate) fn abandon(self) {
        self.task.abort();
    }

    pub(crate) async fn close(self) {
        self.task.abort();
        self.registry.close().await;
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn status(&self, method: Method, path: &str) -> StatusCode {
        self.request(method, path).send().await.unwrap().status()
    }

    pub(crate) async fn begin(&self, name: &str) -> String {
        let answer = self.request(Method::POST, &format!("/v2/{name}/blobs/uploads/")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        header(&answer, "location")
    }

    pub(crate) async fn push_blob(&self, name: &str, bytes: impl Into<Vec<u8>>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let answer = self.request(Method::POST, &path).body(bytes).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        assert_eq!(header(&answer, "docker-content-digest"), digest.to_string());
        digest
    }

    pub(crate) async fn put_manifest(&self, name: &str, reference: &str, document: &Value) -> Response {
        let path = format!("/v2/{name}/manifests/{reference}");
        let media_type = document["mediaType"].as_str().unwrap_or(IMAGE).to_owned();
        let request = self.request(Method::PUT, &path).header("content-type", media_type);
        request.body(document.to_string()).send().await.unwrap()
    }

    /// As [`Self::push_image`], with a token.
    pub(crate) async fn push_image_as(&self, token: &str, name: &str, tag: &str, layer: &str) {
        for content in ["{}", layer] {
            let path = format!("/v2/{name}/blobs/uploads/?digest={}", Digest::of(content));
            let push = self.request(Method::POST, &path).bearer_auth(token).body(content.to_owned());
            assert_eq!(push.send().await.unwrap().status(), StatusCode::CREATED);
        }
        let put = self.request(Method::PUT, &format!("/v2/{name}/manifests/{tag}")).bearer_auth(token);
        let put = put.header("content-type", IMAGE).body(image(layer).to_string());
        assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
    }

    /// Pushes an image of one layer under a tag; gives its document and digest.
    pub(crate) async fn push_image(&self, name: &str, tag: &str, layer: &str) -> (Value, Digest) {
        self.push_blob(name, "{}").await;
        self.push_blob(name, layer).await;
        let document = image(layer);
        let answer = self.put_manifest(name, tag, &document).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        (document.clone(), Digest::of(document.to_string()))
    }
}

/// Two operators with a token each; all other clients may read. A push needs one of the tokens.
#[derive(Debug)]
pub(crate) struct TwoOperators;

impl Authorizer for TwoOperators {
    fn authorize<'a>(&'a self, request: AccessRequest<'a>) -> BoxFuture<'a, Decision> {
        let unknown = || Decision::Unauthenticated { reason: "the token is wrong".to_owned() };
        let principal = match Credentials::of(request.headers) {
            Credentials::Missing if request.action == Action::Ping => return ready(unknown()).boxed(),
            Credentials::Missing | Credentials::Anonymous => Principal::Anonymous,
            Credentials::Token(token) if token == AccessToken::new("one") => {
                Principal::Operator { name: "one" }
            }
            Credentials::Token(token) if token == AccessToken::new("two") => {
                Principal::Operator { name: "two" }
            }
            Credentials::Token(_) | Credentials::Unusable => return ready(unknown()).boxed(),
        };
        let decision = match request.action {
            Action::WriteReserved(_) => Decision::Denied { reason: "reserved".to_owned() },
            action if principal == Principal::Anonymous && !action.is_read() => unknown(),
            _ => Decision::Allow(principal),
        };
        ready(decision).boxed()
    }
}

/// Reserved tags: `stable` is a channel, in one repository or in all; `broken` cannot be resolved.
#[derive(Debug)]
pub(crate) struct Channels {
    repository: Option<&'static str>,
    target: Option<Digest>,
}

impl Channels {
    pub(crate) const fn everywhere(target: Option<Digest>) -> Self {
        Self { repository: None, target }
    }

    pub(crate) const fn in_repository(repository: &'static str, target: Digest) -> Self {
        Self { repository: Some(repository), target: Some(target) }
    }

    fn covers(&self, repository: &RepoName) -> bool {
        self.repository.is_none_or(|only| only == repository.as_str())
    }
}

impl TagResolver for Channels {
    fn resolve<'a>(
        &'a self,
        _: &'a Principal,
        repository: &'a RepoName,
        lookup: Lookup<'a>,
    ) -> BoxFuture<'a, Resolution> {
        let target = || self.target.clone().map(|digest| Target { repository: repository.clone(), digest });
        let resolution = match lookup {
            Lookup::Manifest(Reference::Tag(tag)) if self.covers(repository) => match tag.as_str() {
                "stable" => Resolution::Reserved(target()),
                "broken" => Resolution::Unavailable,
                _ => Resolution::Ordinary,
            },
            _ => Resolution::Ordinary,
        };
        ready(resolution).boxed()
    }

    fn tags<'a>(&'a self, _: &'a Principal, repository: &'a RepoName) -> BoxFuture<'a, Vec<Tag>> {
        let has_target = self.target.is_some() && self.covers(repository);
        ready(has_target.then(|| "stable".parse().unwrap()).into_iter().collect()).boxed()
    }
}

/// The virtual repository `device/self` has another target for each operator.
#[derive(Debug)]
pub(crate) struct Devices(pub(crate) BTreeMap<&'static str, Target>);

impl TagResolver for Devices {
    fn resolve<'a>(
        &'a self,
        principal: &'a Principal,
        repository: &'a RepoName,
        lookup: Lookup<'a>,
    ) -> BoxFuture<'a, Resolution> {
        let target = match principal {
            Principal::Operator { name } => self.0.get(name),
            _ => None,
        };
        let resolution = match lookup {
            _ if repository.as_str() != "device/self" => Resolution::Ordinary,
            Lookup::Manifest(Reference::Tag(tag)) if tag.as_str() == "current" => {
                Resolution::Reserved(target.cloned())
            }
            Lookup::Manifest(Reference::Tag(_)) => Resolution::Reserved(None),
            Lookup::Manifest(Reference::Digest(digest)) | Lookup::Blob(digest) => {
                Resolution::Reserved(target.map(|target| Target { digest: digest.clone(), ..target.clone() }))
            }
        };
        ready(resolution).boxed()
    }

    fn tags<'a>(&'a self, _: &'a Principal, repository: &'a RepoName) -> BoxFuture<'a, Vec<Tag>> {
        let is_virtual = repository.as_str() == "device/self";
        ready(is_virtual.then(|| "current".parse().unwrap()).into_iter().collect()).boxed()
    }
}

pub(crate) fn descriptor(media_type: &str, content: &str) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(content), "size": content.len()})
}

pub(crate) fn image(layer: &str) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor(CONFIG, "{}"),
        "layers": [descriptor(LAYER, layer)],
    })
}

pub(crate) fn header(answer: &Response, name: &str) -> String {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

pub(crate) async fn code(answer: Response) -> String {
    let body: Value = answer.json().await.unwrap();
    body["errors"][0]["code"].as_str().unwrap().to_owned()
}
