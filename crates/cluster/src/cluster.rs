//! The API server: requests with time limits, and one watch for all jobs' objects of a kind.

use std::future::Future;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgewright_process::Tasks;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, reflector::Lookup};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::fault::Fault;
use crate::names::{PIPELINE_OF, SERVER};
use crate::platform::Platform;
use crate::settings::{Builder, ClusterSettings};
use crate::task_run::TaskRun;
use crate::vmi::Vmi;

/// The time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the first list of objects may take.
const FIRST_LIST: Duration = Duration::from_secs(20);

/// A namespace of a cluster. Clones share its watches.
#[derive(Clone)]
pub(crate) struct Namespace {
    pub(crate) pods: Kind<Pod>,
    pub(crate) secrets: Api<Secret>,
    changes: watch::Receiver<u64>,
}

/// What a server sees of a cluster: the namespace of its jobs, and that of its virtual machines.
#[derive(Clone)]
pub(crate) struct Cluster {
    jobs: Namespace,
    pub(crate) task_runs: Kind<TaskRun>,
    /// If the platform builds.
    pub(crate) platform: Option<Platform>,
    pub(crate) machines: Machines,
    client: Client,
}

/// The namespace of virtual machines.
#[derive(Clone)]
pub(crate) struct Machines {
    namespace: Namespace,
    pub(crate) vmis: Kind<Vmi>,
}

impl Deref for Cluster {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.jobs
    }
}

impl Deref for Machines {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace()).finish_non_exhaustive()
    }
}

/// One kind of objects: requests, and the objects of this server as last seen.
#[derive(Clone)]
pub(crate) struct Kind<K: Lookup<DynamicType = ()> + Clone + 'static> {
    pub(crate) api: Api<K>,
    seen: Store<K>,
    /// Why the watch does not work at present.
    away: Arc<Mutex<Option<Fault>>>,
}

impl Cluster {
    /// Watches the objects of the settings' server in its namespace, and its virtual machines in theirs,
    /// until the tasks are cancelled.
    pub(crate) fn start(client: Client, settings: &ClusterSettings, has_machines: bool) -> Self {
        let (server, tasks) = (&settings.server, &settings.tasks);
        let (sender, changes) = watch::channel(0);
        let sender = Arc::new(sender);
        let own = format!("{SERVER}={server}");
        let within = |namespace: &str| Namespace {
            pods: Kind::watch("Pods", (&client, namespace, &own), &sender, tasks),
            secrets: Api::namespaced(client.clone(), namespace),
            changes: changes.clone(),
        };
        let namespace = &settings.namespace;
        let task_runs = Kind::watch("TaskRuns", (&client, namespace, &own), &sender, tasks);
        let platform = settings.build.as_ref().map(|build| {
            let own = format!("{PIPELINE_OF}={server}");
            let within = (&client, namespace.as_str(), own.as_str());
            match build.by {
                Builder::Pipeline => {
                    Platform::Pipeline(Box::new(Kind::watch("PipelineRuns", within, &sender, tasks)))
                }
                Builder::Strategy => Platform::Strategy {
                    builds: Box::new(Kind::watch("Builds", within, &sender, tasks)),
                    runs: Box::new(Kind::watch("BuildRuns", within, &sender, tasks)),
                },
            }
        });
        let jobs = within(namespace);
        let machines = if has_machines {
            let other = &settings.machines.namespace;
            Machines {
                namespace: if other == namespace { jobs.clone() } else { within(other) },
                vmis: Kind::watch("virtual machines", (&client, other, &own), &sender, tasks),
            }
        } else {
            Machines { namespace: jobs.clone(), vmis: Kind::none(&client, namespace) }
        };
        Self { jobs, task_runs, platform, machines, client }
    }

    /// Why the cluster does not answer at present.
    pub(crate) fn away(&self) -> Option<Fault> {
        self.task_runs.away().or_else(|| self.pods.away())
    }

    /// Whether the cluster has this group and version of objects.
    pub(crate) async fn has(&self, group_version: &str) -> Result<bool, Fault> {
        let found = within(self.client.list_api_group_resources(group_version), false).await;
        match found {
            Ok(_) => Ok(true),
            Err(Fault::Missing) => Ok(false),
            Err(fault) => Err(fault),
        }
    }
}

impl Namespace {
    pub(crate) fn namespace(&self) -> &str {
        self.secrets.namespace().unwrap_or_default()
    }

    /// Is notified when an object of this server changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Creates a Secret; one of the same name is left as it is.
    pub(crate) async fn create_secret(&self, secret: &Secret) -> Result<Found, Fault> {
        match within(self.secrets.create(&PostParams::default(), secret), true).await {
            Ok(_) => Ok(Found::New),
            Err(Fault::Exists) => Ok(Found::There),
            Err(fault) => Err(fault),
        }
    }

    /// A Secret, if there is one.
    pub(crate) async fn secret(&self, name: &str) -> Result<Option<Secret>, Fault> {
        within(self.secrets.get_opt(name), false).await
    }

    /// The lines of a container's log, from its beginning to its end; or to the end of the connection.
    pub(crate) async fn log(
        &self,
        pod: &str,
        container: &str,
    ) -> Result<impl Stream<Item = std::io::Result<Vec<u8>>> + Send + use<>, Fault> {
        let parameters =
            LogParams { follow: true, container: Some(container.to_owned()), ..LogParams::default() };
        let reader = within(self.pods.api.log_stream(pod, &parameters), false).await?;
        Ok(crate::lines::lines(reader))
    }
}

impl<K> Kind<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static,
{
    fn watch(
        what: &str,
        (client, namespace, labels): (&Client, &str, &str),
        changed: &Arc<watch::Sender<u64>>,
        tasks: &Tasks,
    ) -> Self {
        let api: Api<K> = Api::namespaced(client.clone(), namespace);
        let (seen, writer) = reflector::store();
        let config = watcher::Config::default().labels(labels);
        let events = watcher::watcher(api.clone(), config).default_backoff().reflect(writer);
        let away = Arc::new(Mutex::new(None));
        let (changed, noted, stop) = (Arc::clone(changed), Arc::clone(&away), tasks.token().clone());
        let name = what.to_owned();
        tasks.spawn(format!("watch {what}"), async move {
            let mut events = std::pin::pin!(events.take_until(stop.cancelled_owned()));
            while let Some(event) = events.next().await {
                note(&noted, &name, &event);
                changed.send_modify(|count| *count = count.wrapping_add(1));
            }
        });
        Self { api, seen, away }
    }

    /// No objects, and no watch.
    fn none(client: &Client, namespace: &str) -> Self {
        let api = Api::namespaced(client.clone(), namespace);
        Self { api, seen: reflector::store().0, away: Arc::default() }
    }

    /// Waits for the first list of objects.
    pub(crate) async fn ready(&self) -> Result<(), Fault> {
        match tokio::time::timeout(FIRST_LIST, self.seen.wait_until_ready()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Fault::Away("the server is stopping".to_owned())),
            Err(_) => Err(self.away().unwrap_or_else(|| Fault::late(FIRST_LIST))),
        }
    }

    /// Why the watch does not work at present.
    pub(crate) fn away(&self) -> Option<Fault> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An object as last seen.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<K>> {
        self.seen.get(&ObjectRef::new(name).within(self.api.namespace().unwrap_or_default()))
    }

    /// All objects of this server as last seen.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.seen.state()
    }

    /// Creates an object; if there is one of the same name, gives that one.
    pub(crate) async fn create(&self, object: &K) -> Result<(K, Found), Fault> {
        match within(self.api.create(&PostParams::default(), object), true).await {
            Ok(created) => Ok((created, Found::New)),
            Err(Fault::Exists) => {
                let name = object.meta().name.as_deref().unwrap_or_default();
                Ok((within(self.api.get(name), false).await?, Found::There))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Deletes an object and what it owns, with this much time to end; one that is not there is done.
    pub(crate) async fn delete(&self, name: &str, grace: Option<Duration>) -> Result<(), Fault> {
        let mut parameters = DeleteParams::background();
        parameters.grace_period_seconds =
            grace.map(|grace| u32::try_from(grace.as_secs()).unwrap_or(u32::MAX));
        match within(self.api.delete(name, &parameters), false).await {
            Ok(_) | Err(Fault::Missing) => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}

/// Whether an object was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It was made.
    New,
    /// It was there.
    There,
}

fn note<K>(away: &Mutex<Option<Fault>>, what: &str, event: &watcher::Result<Event<K>>) {
    let now = match event {
        Ok(_) => None,
        Err(
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error),
        ) => Some(Fault::of(error, false)),
        Err(error) => Some(Fault::Away(error.to_string())),
    };
    let mut away = away.lock().unwrap_or_else(PoisonError::into_inner);
    match (&*away, &now) {
        (None, Some(fault)) => tracing::warn!(kind = what, ?fault, "cannot watch the cluster"),
        (Some(_), None) => tracing::info!(kind = what, "watching the cluster again"),
        _ => {}
    }
    *away = now;
}

/// A request within its limit.
pub(crate) async fn within<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
    creates: bool,
) -> Result<T, Fault> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(done) => done.map_err(|error| Fault::of(&error, creates)),
        Err(_) => Err(Fault::late(REQUEST_TIMEOUT)),
    }
}
