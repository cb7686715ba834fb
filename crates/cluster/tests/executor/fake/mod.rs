//! A small API server in this process: objects with watches, logs that are followed, garbage collection by
//! owner. What kubelet and Tekton would do is done by the test.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State as Extract};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) mod kubevirt;
pub(crate) mod lanes;
pub(crate) mod tekton;

pub(crate) const NAMESPACE: &str = "jobs";

/// An object in the server: kind as in URLs, and name.
type Key = (String, String);

/// The server. Clones share it.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

/// The server does not answer.
struct Away;

/// A version, a kind, what happened, and the object.
type Change = (u64, String, &'static str, Value);

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Key, Value>,
    history: Vec<Change>,
    logs: BTreeMap<String, Log>,
    requests: Vec<String>,
    errors: VecDeque<(String, u16, String, String)>,
    is_away: bool,
    groups: Vec<String>,
}

#[derive(Default, Clone)]
struct Log {
    text: String,
    is_over: bool,
    /// Each reading that reaches this byte breaks; once for each.
    breaks: Vec<usize>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { state: Mutex::default(), changed: watch::channel(0).0 }))
    }

    pub(crate) fn client(&self) -> kube::Client {
        let router = Router::new().fallback(answer).with_state(self.clone());
        kube::Client::new(router, NAMESPACE)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state());
        self.0.changed.send_modify(|count| *count += 1);
        done
    }

    /// Waits until `found` gives something.
    pub(crate) async fn until<T>(&self, found: impl Fn(&Self) -> Option<T>) -> T {
        let mut changes = self.0.changed.subscribe();
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            changes.changed().await.unwrap();
        }
    }

    /// Waits for an object.
    pub(crate) async fn object(&self, kind: &str, name: &str) -> Value {
        self.until(|fake| fake.get(kind, name)).await
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.state().objects.get(&(kind.to_owned(), name.to_owned())).cloned()
    }

    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        self.state().objects.keys().filter(|key| key.0 == kind).map(|key| key.1.clone()).collect()
    }

    /// Requests so far as `METHOD KIND`, watches and lists left out.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// Refuses the next request `METHOD KIND`.
    pub(crate) fn refuse(&self, request: &str, code: u16, reason: &str, message: &str) {
        let error = (request.to_owned(), code, reason.to_owned(), message.to_owned());
        self.change(|state| state.errors.push_back(error));
    }

    /// Answers every request with 503 from now on, or no more.
    pub(crate) fn set_away(&self, is_away: bool) {
        self.change(|state| state.is_away = is_away);
    }

    /// Has a group of objects.
    pub(crate) fn install(&self, group_version: &str) {
        self.change(|state| state.groups.push(group_version.to_owned()));
    }

    /// Creates or changes an object.
    pub(crate) fn apply(&self, kind: &str, mut object: Value) -> Value {
        self.change(|state| {
            state.version += 1;
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            let key = (kind.to_owned(), name);
            let event = if state.objects.contains_key(&key) {
                "MODIFIED"
            } else {
                object["metadata"]["uid"] = json!(format!("uid-{}", state.version));
                object["metadata"]["namespace"] = json!(NAMESPACE);
                "ADDED"
            };
            state.history.push((state.version, kind.to_owned(), event, object.clone()));
            state.objects.insert(key, object.clone());
            object
        })
    }

    /// Sets the status of an object that is there.
    pub(crate) fn set_status(&self, kind: &str, name: &str, status: Value) {
        let mut object = self.get(kind, name).unwrap();
        object["status"] = status;
        self.apply(kind, object);
    }

    /// Deletes an object and what it owns.
    pub(crate) fn delete(&self, kind: &str, name: &str) -> bool {
        let Some(object) = self.change(|state| {
            let object = state.objects.remove(&(kind.to_owned(), name.to_owned()))?;
            state.version += 1;
            state.history.push((state.version, kind.to_owned(), "DELETED", object.clone()));
            if let Some(log) = state.logs.get_mut(name).filter(|_| kind == "pods") {
                log.is_over = true;
            }
            Some(object)
        }) else {
            return false;
        };
        let uid = object["metadata"]["uid"].clone();
        let owned: Vec<Key> = self
            .state()
            .objects
            .iter()
            .filter_map(|(key, other)| {
                let owners = other["metadata"]["ownerReferences"].as_array()?;
                owners.iter().any(|owner| owner["uid"] == uid).then(|| key.clone())
            })
            .collect();
        for (kind, name) in owned {
            self.delete(&kind, &name);
        }
        true
    }

    /// Adds lines to the log of a Pod.
    pub(crate) fn write(&self, pod: &str, lines: &[String]) {
        self.change(|state| {
            let log = state.logs.entry(pod.to_owned()).or_default();
            for line in lines {
                log.text.push_str(line);
                log.text.push('\n');
            }
        });
    }

    /// The log of a Pod is complete.
    pub(crate) fn close(&self, pod: &str) {
        self.change(|state| state.logs.entry(pod.to_owned()).or_default().is_over = true);
    }

    /// Breaks the connection of the next reader of a log when it has read this many bytes.
    pub(crate) fn break_at(&self, pod: &str, byte: usize) {
        self.change(|state| state.logs.entry(pod.to_owned()).or_default().breaks.push(byte));
    }

    fn follow(&self, pod: String) -> Body {
        let changes = self.0.changed.subscribe();
        let reading = (self.clone(), pod, 0_usize, changes);
        Body::from_stream(stream::try_unfold(reading, async |(fake, pod, at, mut changes)| {
            loop {
                let log = fake.state().logs.get(&pod).cloned().unwrap_or_default();
                if let Some(index) = log.breaks.iter().position(|stop| at >= *stop) {
                    fake.state().logs.entry(pod.clone()).or_default().breaks.remove(index);
                    return Err(std::io::Error::other("the connection broke"));
                }
                let stop = log.breaks.iter().copied().min().unwrap_or(usize::MAX).min(log.text.len());
                if stop > at {
                    let bytes = Bytes::copy_from_slice(&log.text.as_bytes()[at..stop]);
                    return Ok(Some((bytes, (fake, pod, stop, changes))));
                }
                if log.is_over {
                    return Ok(None);
                }
                changes.changed().await.map_err(std::io::Error::other)?;
            }
        }))
    }

    fn watch(&self, kind: String, labels: Option<String>, from: u64) -> Body {
        let changes = self.0.changed.subscribe();
        let watching = (self.clone(), (kind, labels), from, changes);
        Body::from_stream(stream::unfold(watching, async |(fake, (kind, labels), seen, mut changes)| {
            loop {
                let next = fake.next(&kind, labels.as_deref(), seen).ok()?;
                if let Some((version, _, event, object)) = next {
                    let line = format!("{}\n", json!({ "type": event, "object": object }));
                    return Some((
                        Ok::<_, Infallible>(Bytes::from(line)),
                        (fake, (kind, labels), version, changes),
                    ));
                }
                changes.changed().await.ok()?;
            }
        }))
    }

    /// The change that follows one, if the server is not away.
    fn next(&self, kind: &str, labels: Option<&str>, seen: u64) -> Result<Option<Change>, Away> {
        let state = self.state();
        let is_next =
            |(version, of, _, object): &&Change| *version > seen && of == kind && matches(object, labels);
        if state.is_away { Err(Away) } else { Ok(state.history.iter().find(is_next).cloned()) }
    }

    fn list(&self, kind: &str, labels: Option<&str>) -> Value {
        let state = self.state();
        let of_kind = state.objects.iter().filter(|(key, object)| key.0 == kind && matches(object, labels));
        let items: Vec<&Value> = of_kind.map(|(_, object)| object).collect();
        json!({
            "apiVersion": "v1", "kind": "List",
            "metadata": { "resourceVersion": state.version.to_string() }, "items": items,
        })
    }
}

/// Whether an object has the label of a selector `KEY=VALUE`.
fn matches(object: &Value, selector: Option<&str>) -> bool {
    let Some((key, value)) = selector.and_then(|selector| selector.split_once('=')) else { return true };
    object["metadata"]["labels"][key] == *value
}

fn status(code: u16, reason: &str, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": message,
    });
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}

fn query(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.replace("%2F", "/").replace("%3D", "="))
        .next()
}

async fn create(fake: &Fake, kind: &str, body: Body) -> Response {
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let object: Value = serde_json::from_slice(&bytes).unwrap();
    if !object["apiVersion"].is_string() || !object["kind"].is_string() {
        return status(400, "BadRequest", "Object 'Kind' is missing");
    }
    let name = object["metadata"]["name"].as_str().unwrap();
    if fake.get(kind, name).is_some() {
        return status(409, "AlreadyExists", &format!("{kind} \"{name}\" already exists"));
    }
    if kind == "pods" {
        // The log of an earlier one of this name is gone.
        fake.change(|state| state.logs.remove(name));
    }
    (StatusCode::CREATED, Json(fake.apply(kind, object))).into_response()
}

async fn answer(Extract(fake): Extract<Fake>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let words: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
    let Some(at) = words.iter().position(|word| *word == "namespaces") else {
        let group = words[1..].join("/");
        let found = fake.state().groups.contains(&group);
        return if found {
            Json(json!({ "groupVersion": group, "resources": [] })).into_response()
        } else {
            status(404, "NotFound", "the server could not find the requested resource")
        };
    };
    let (kind, name, rest) = (words[at + 2], words.get(at + 3).copied(), words.get(at + 4));
    if fake.state().is_away {
        return status(503, "ServiceUnavailable", "the server is currently unable to handle the request");
    }
    let is_read = parts.method == Method::GET && name.is_none();
    if !is_read {
        let noted = match rest {
            Some(rest) => format!("{} {kind}/{rest}", parts.method),
            None => format!("{} {kind}", parts.method),
        };
        let refused = fake.change(|state| {
            if state.errors.front().is_some_and(|error| error.0 == noted) {
                return state.errors.pop_front();
            }
            state.requests.push(noted);
            None
        });
        if let Some((_, code, reason, message)) = refused {
            return status(code, &reason, &message);
        }
    }
    let labels = query(&parts.uri, "labelSelector");
    match (&parts.method, name, rest) {
        (&Method::GET, None, _) if query(&parts.uri, "watch").is_some() => {
            let from = query(&parts.uri, "resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
            fake.watch(kind.to_owned(), labels, from).into_response()
        }
        (&Method::GET, None, _) => Json(fake.list(kind, labels.as_deref())).into_response(),
        (&Method::GET, Some(name), Some(_)) => match fake.get("pods", name) {
            Some(_) => fake.follow(name.to_owned()).into_response(),
            None => status(404, "NotFound", &format!("pods \"{name}\" not found")),
        },
        (&Method::GET, Some(name), None) => match fake.get(kind, name) {
            Some(object) => Json(object).into_response(),
            None => status(404, "NotFound", &format!("{kind} \"{name}\" not found")),
        },
        (&Method::POST, ..) => create(&fake, kind, body).await,
        (&Method::DELETE, Some(name), _) if fake.delete(kind, name) => {
            Json(json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" }))
                .into_response()
        }
        (_, name, _) => status(404, "NotFound", &format!("{kind} {name:?} not found")),
    }
}
