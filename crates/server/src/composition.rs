//! The running parts, put together and taken apart in order. `serve` and `run` share this.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::header;
use axum::serve::ListenerExt as _;
use axum::{Extension, middleware};
use edgewright_api::RegistryAddress;
use edgewright_control::audit::Audit;
use edgewright_control::context::OperationContext;
use edgewright_control::hosting::{Hosting, HostingError};
use edgewright_control::reconcile::{Outcome, Reconciler};
use edgewright_control::releases::tags::ChannelTags;
use edgewright_control::{Control, ControlError, ControlSettings, Parts, SourceSettings};
use edgewright_job::{Executor, JobRegistry};
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::names::{ImageName, SourceName};
use edgewright_model::order::RegistryAccess;
use edgewright_model::run::{RunNumber, Trigger};
use edgewright_model::verdict::lane_inputs;
use edgewright_process::{Clock, ProcessContext, Tasks};
use edgewright_registry::{Registry, RegistryError, RegistrySettings};
use edgewright_source::{Git, SourceError};
use edgewright_store::sources::SourceId;
use edgewright_store::{Store, StoreError};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::trace::TraceLayer;

use crate::folder::{DataFolder, FolderError, FolderLock, Holder};
use crate::http::access::{self, Enforcement, Gate, OverTls};
use crate::http::registry::RegistryGate;
use crate::http::{self, ApiState};
use crate::live::{Live, Shared};
use crate::metrics::{self, Metrics};
use crate::settings::{Settings, SettingsError};
use crate::tls::{Certificate, TlsListener};
use crate::tokens::ProcessTokens;
use crate::views::{Serving, Views};

/// How long jobs, answers and writes may take to end at shutdown before they are aborted.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);
/// How often the registry tidies up.
const MAINTENANCE_INTERVAL: Duration = Duration::from_hours(1);

/// Everything that runs on one data folder.
#[derive(Debug)]
pub struct Composition {
    /// Control: sources, runs, releases.
    pub control: Control,
    /// Reading.
    pub views: Views,
    sources: Vec<(SourceSettings, SourceId)>,
    settings: Settings,
    live: Shared,
    metrics: Metrics,
    git: Git,
    clock: Clock,
    address: RegistryAddress,
    certificate: Option<Certificate>,
    local: SocketAddr,
    ready: Arc<AtomicBool>,
    tasks: Tasks,
    registry: Registry,
    store: Store,
    // Dropped last: nobody else may open the folder before all is closed.
    lock: FolderLock,
}

/// Why the parts do not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The port.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No secret can be made.
    #[error("cannot read random bytes")]
    Random(#[source] getrandom::Error),
    /// Control's database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry.
    #[error("the registry does not start")]
    Registry(#[from] RegistryError),
    /// Control's way to the registry.
    #[error("the registry cannot be used")]
    Hosting(#[from] HostingError),
    /// Git.
    #[error("git cannot be used")]
    Git(#[from] SourceError),
    /// Control.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A secret of the settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A target cannot be spoken to.
    #[error("there is no client for the targets")]
    Targets(#[from] edgewright_control::outbound::replicate::ClientError),
    /// Sinks cannot be told.
    #[error("no HTTP client can be made for the sinks")]
    Sinks(#[source] reqwest::Error),
}

impl StartError {
    /// What kind of fault it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Folder(error) => error.class(),
            Self::Listen { source, .. } => match source.kind() {
                std::io::ErrorKind::AddrInUse => ErrorClass::Conflict,
                std::io::ErrorKind::PermissionDenied => ErrorClass::Denied,
                _ => ErrorClass::UserFault,
            },
            Self::Random(_) | Self::Hosting(_) | Self::Sinks(_) => ErrorClass::Unavailable,
            Self::Settings(error) => error.class(),
            Self::Targets(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Registry(error) => error.class(),
            Self::Git(error) => error.class(),
            Self::Control(error) => error.class(),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Folder(error) => Some(error.hint()),
            Self::Listen { .. } => {
                Some("choose another one with --listen ADDRESS:PORT; port 0 takes any free one".to_owned())
            }
            Self::Git(error) => error.hint().map(str::to_owned),
            Self::Settings(error) => error.hint().map(str::to_owned),
            Self::Store(error) => error.hint().map(str::to_owned),
            _ => None,
        }
    }
}

impl Composition {
    /// Opens everything in the locked data folder and answers HTTP. Nothing is polled or run before
    /// [`Composition::start`]. `executor` makes the executor, given the registry as its jobs reach it: as the settings
    /// name it, or else where this server listens.
    pub async fn open(
        settings: &Settings,
        lock: FolderLock,
        executor: impl FnOnce(JobRegistry) -> Arc<dyn Executor>,
        tokens: ProcessTokens,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let folder = DataFolder::new(&settings.data);
        let (listener, local) = listener(settings.listen).await?;
        let io = |source| FolderError::Io { root: settings.data.clone(), source };
        let secure = secure_listener(settings).await?;
        let own = secure.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
        let address = settings.address.clone().unwrap_or_else(|| reachable(own.unwrap_or(local)).to_string());
        let registry_address = RegistryAddress { host: address.clone(), tls: settings.is_tls };
        let live = Shared::new(Live::read(settings, &registry_address)?);
        lock.announce(holder(settings, reachable(local), &registry_address)).map_err(io)?;

        let tasks = Tasks::new();
        let store = Store::open(&folder.database()).await?;
        let tags = ChannelTags::default();
        let gate = Gate::new(live.clone(), &tokens, registry_address.clone());
        let registry_ports = (Arc::new(tags.clone()), Arc::new(RegistryGate(gate.clone())));
        let registry =
            Registry::open(RegistrySettings::new(folder.registry()), registry_ports.0, registry_ports.1)
                .await?;
        let access = own_access(local, &tokens);
        let hosting = Hosting::new(&access, Some(registry.clone()))?;
        let executor = executor(job_registry(settings, &access, &tokens));
        let git = Git::open(&folder.sources().join("home"), ProcessContext::new(tasks.token().clone()))?;
        let serving = Serving { registry: registry_address.clone(), live: live.clone() };
        let lane_inputs = lane_inputs(|lane| executor.lane_profile(lane));
        let views = Views::new(store.for_api(), folder, clock.clone(), Some(serving), lane_inputs);
        let parts = Parts {
            store: store.clone(),
            hosting,
            tags,
            executor,
            git: git.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
        };
        let control = Control::new(control_settings(settings), parts).await?;
        let sources = follow(&control, &settings.sources).await?;
        let ready = Arc::new(AtomicBool::new(false));
        let (settings, metrics) = (settings.clone(), Metrics::default());
        let composition = Self {
            control,
            views,
            sources,
            settings,
            live,
            metrics,
            git,
            clock,
            address: registry_address,
            certificate: secure.as_ref().map(|(_, certificate)| certificate.clone()),
            local: reachable(local),
            ready,
            tasks,
            registry,
            store,
            lock,
        };
        composition.answer(listener, secure, gate);
        Ok(composition)
    }

    /// `HOST:PORT` of registry and API for clients.
    pub fn address(&self) -> &str {
        &self.address.host
    }

    /// The same as an address of the web.
    pub fn url(&self) -> String {
        self.address.url()
    }

    /// Where it listens, as clients on this machine reach it.
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Starts the reconcilers: sources are polled, runs that are open go on, sinks are told, targets get their copies.
    #[expect(clippy::result_large_err, reason = "happens once, at start")]
    pub fn start(&self) -> Result<(), StartError> {
        self.control.start();
        let (registry, clock) = (self.registry.clone(), self.clock.clone());
        self.control.reconcile(Arc::new(RegistryMaintenance { registry, clock }));
        let live = self.live.now();
        self.control.notify(&live.sinks).map_err(StartError::Sinks)?;
        self.control.deliver(&live.targets)?;
        self.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes over other settings while running: sources, sinks, targets, secrets. Gives what changed, and what cannot change before
    /// a restart, as sentences. Nothing changes where a secret cannot be read.
    pub async fn reload(&self, settings: &Settings) -> Result<Vec<String>, StartError> {
        let live = Live::read(settings, &self.address)?;
        if let (Some(certificate), Some(tls)) = (&self.certificate, &settings.tls) {
            certificate.replace(tls.read().map_err(SettingsError::from)?);
        }
        let before = self.live.now();
        let mut said = Vec::new();
        for old in &before.sources {
            if !live.sources.iter().any(|source| source.name == old.name) {
                self.control.remove_source(&old.name);
                said.push(format!("source {} is not followed any more", old.name));
            }
        }
        for source in &live.sources {
            let old = before.sources.iter().find(|old| old.name == source.name);
            if old != Some(source) {
                let id = self.control.add_source(source.clone()).await?;
                self.control.start_source(id);
                let what = if old.is_some() { "has other settings" } else { "is followed" };
                said.push(format!("source {} {what}", source.name));
            }
        }
        if live.sinks != before.sinks {
            self.control.notify(&live.sinks).map_err(StartError::Sinks)?;
            said.push(format!("{} sinks are told", live.sinks.len()));
        }
        // Even where they are the same: whoever put something right in a target does not wait for the next try.
        self.control.deliver(&live.targets)?;
        if live.targets != before.targets {
            said.push(format!("{} targets get copies", live.targets.len()));
        }
        let own = &self.settings;
        for (name, same) in [
            ("server.listen", own.listen == settings.listen),
            ("server.data", own.data == settings.data),
            ("server.address", (&own.address, own.is_tls) == (&settings.address, settings.is_tls)),
            (
                "server.tls_listen",
                own.tls.as_ref().map(|tls| tls.listen) == settings.tls.as_ref().map(|tls| tls.listen),
            ),
            ("jobs.parallel", own.parallel == settings.parallel),
            ("jobs.registry", own.job_registry == settings.job_registry),
        ] {
            if !same {
                said.push(format!("`{name}` changes with the next start only"));
            }
        }
        let io = |source| FolderError::Io { root: own.data.clone(), source };
        self.lock.announce(holder(settings, self.local, &self.address)).map_err(io)?;
        self.live.replace(live);
        Ok(said)
    }

    /// Queues a run of the newest commit of a configured source's branch, whatever was decided before.
    pub async fn queue(
        &self,
        context: &OperationContext,
        source: &SourceName,
        trigger: Trigger,
    ) -> Result<RunNumber, StartError> {
        let found = self.sources.iter().find(|(settings, _)| settings.name == *source);
        let Some((settings, id)) = found else { return Err(ControlError::UnknownSource.into()) };
        let refs = self.git.poll(&settings.remote).await?;
        let (branch, commit) = refs.branch(&settings.remote, settings.branch.as_deref())?;
        self.note_default(*id, settings.branch.as_deref().or(refs.default_branch.as_deref())).await?;
        Ok(self.control.queue_run(context, *id, &branch, &commit, trigger).await?)
    }

    /// Queues a look at the locks of a configured source's newest commit, of some images or (none given) of all.
    pub async fn queue_update(
        &self,
        context: &OperationContext,
        source: &SourceName,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, StartError> {
        let found = self.sources.iter().find(|(settings, _)| settings.name == *source);
        let Some((settings, id)) = found else { return Err(ControlError::UnknownSource.into()) };
        let refs = self.git.poll(&settings.remote).await?;
        let (branch, commit) = refs.branch(&settings.remote, settings.branch.as_deref())?;
        self.note_default(*id, settings.branch.as_deref().or(refs.default_branch.as_deref())).await?;
        Ok(self.control.queue_update_check(context, *id, &branch, &commit, images).await?)
    }

    /// Without a poller nobody else says which branch is the default one, which channels follow.
    async fn note_default(&self, id: SourceId, branch: Option<&str>) -> Result<(), StartError> {
        Ok(self.store.note_poll(id, branch, None, self.clock.now()).await?)
    }

    /// Ends everything in order: no new work, jobs end, answers end, databases close, the lock is freed.
    pub async fn shutdown(self) {
        self.ready.store(false, Ordering::Release);
        if let Err(stuck) = self.tasks.shutdown(SHUTDOWN_LIMIT).await {
            tracing::warn!("{stuck}");
        }
        self.registry.close().await;
        self.store.close().await;
        drop(self.lock);
    }

    fn answer(&self, listener: TcpListener, secure: Option<(TcpListener, Certificate)>, gate: Gate) {
        let registry = self.registry.clone();
        let storage: http::Storage = Arc::new(move || {
            let registry = registry.clone();
            async move { registry.stored_bytes().await.unwrap_or(0) }.boxed()
        });
        let (views, control) = (self.views.clone(), self.control.clone());
        let mut state = ApiState::new(views, control, self.live.clone(), self.metrics.clone(), storage);
        state.ready = Arc::clone(&self.ready);
        let counted = self
            .registry
            .router()
            .layer(middleware::from_fn_with_state(self.metrics.clone(), metrics::count_registry));
        let audit = Audit::new(self.store.clone(), self.clock.clone());
        let enforcement = Enforcement { gate, audit };
        let app = http::router(state)
            .merge(counted)
            .layer(middleware::from_fn_with_state(enforcement, access::enforce))
            // What fails is logged where it is answered; that the server is not ready yet is no failure.
            .layer(TraceLayer::new_for_http().on_failure(()))
            // A panic is a defect of one request: it is answered, and others go on.
            .layer(CatchPanicLayer::custom(http::panicked))
            .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, header::COOKIE]));
        let (counting, events) = (self.metrics.clone(), self.control.events().subscribe());
        let stopping = self.tasks.token().clone();
        self.tasks.spawn("metrics", async move {
            tokio::select! {
                () = counting.follow(events) => {}
                () = stopping.cancelled() => {}
            }
        });
        if let Some((listener, certificate)) = secure {
            // `tap_io` because of its side effect: it makes the peer's address known to handlers.
            let listener =
                TlsListener::new(listener, certificate).tap_io(|stream| at_once(stream.get_ref().0));
            let app =
                app.clone().layer(Extension(OverTls)).into_make_service_with_connect_info::<SocketAddr>();
            let stopping = self.tasks.token().clone();
            self.tasks.spawn("https", async move {
                let served =
                    axum::serve(listener, app).with_graceful_shutdown(stopping.cancelled_owned()).await;
                if let Err(error) = served {
                    tracing::error!("the server stopped answering with TLS: {}", Chain(&error));
                }
            });
        }
        let stopping = self.tasks.token().clone();
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        self.tasks.spawn("http", async move {
            let listener = listener.tap_io(|stream| at_once(stream));
            let served = axum::serve(listener, app).with_graceful_shutdown(stopping.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::error!("the server stopped answering: {}", Chain(&error));
            }
        });
    }
}

/// Settles and expires what the registry left open.
struct RegistryMaintenance {
    registry: Registry,
    clock: Clock,
}

impl Reconciler for RegistryMaintenance {
    fn name(&self) -> String {
        "registry maintenance".to_owned()
    }

    fn period(&self) -> Duration {
        MAINTENANCE_INTERVAL
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let maintained = self.registry.maintenance(self.clock.now()).await;
            Ok(match maintained.map_err(HostingError::maintenance)?.expired_uploads {
                0 => Outcome::idle(),
                expired => Outcome::done(format!("removed {expired} abandoned uploads")),
            })
        }
        .boxed()
    }
}

/// What commands on this machine find in the lock file.
fn holder(settings: &Settings, local: SocketAddr, address: &RegistryAddress) -> Holder {
    Holder {
        address: Some(local.to_string()),
        registry: Some(address.clone()),
        token_file: Some(settings.operator_token_file()),
        ..Holder::default()
    }
}

/// The address by which this machine reaches a listener: one that listens everywhere is reached over loopback.
fn reachable(local: SocketAddr) -> SocketAddr {
    if local.ip().is_unspecified() {
        return SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), local.port());
    }
    local
}

/// Listens, and says where.
async fn listener(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

/// The listener for TLS with its certificate, where the settings name one.
async fn secure_listener(settings: &Settings) -> Result<Option<(TcpListener, Certificate)>, StartError> {
    let Some(tls) = &settings.tls else { return Ok(None) };
    let certificate = Certificate::new(tls.read().map_err(SettingsError::from)?);
    let (listener, _) = listener(tls.listen).await?;
    Ok(Some((listener, certificate)))
}

/// How control works, where the server's settings say.
fn control_settings(settings: &Settings) -> ControlSettings {
    let mut control = ControlSettings::new(settings.data.clone());
    control.watching = settings.watching.clone();
    control.keep = settings.keep.clone();
    control.job_within = settings.job_within.unwrap_or(control.job_within);
    control.lane_within = settings.lane_within.unwrap_or(control.lane_within);
    control.external_within = settings.external_within.unwrap_or(control.external_within);
    control
}

/// Control's own way to the registry.
fn own_access(local: SocketAddr, tokens: &ProcessTokens) -> RegistryAccess {
    let token = tokens.system.reveal().to_owned();
    RegistryAccess { url: format!("http://{}", reachable(local)), token: Some(token) }
}

async fn follow(
    control: &Control,
    sources: &[SourceSettings],
) -> Result<Vec<(SourceSettings, SourceId)>, ControlError> {
    let mut followed = Vec::new();
    for source in sources {
        followed.push((source.clone(), control.add_source(source.clone()).await?));
    }
    Ok(followed)
}

/// The registry as jobs reach it, each with a token of its own.
fn job_registry(settings: &Settings, own: &RegistryAccess, tokens: &ProcessTokens) -> JobRegistry {
    let url = settings.job_registry.clone().unwrap_or_else(|| own.url.clone());
    JobRegistry { url, credentials: Arc::new(tokens.jobs.clone()) }
}

/// Sends what is written as it is written: an answer whose last bytes wait for the digest of the others would wait for the
/// client's delayed acknowledgement, too, which takes 40 ms.
fn at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection stays slow");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_everywhere_are_reached_over_loopback() {
        let cases =
            [("0.0.0.0:5080", "127.0.0.1:5080"), ("[::]:1", "127.0.0.1:1"), ("10.0.0.1:2", "10.0.0.1:2")];
        for (local, expected) in cases {
            assert_eq!(reachable(local.parse().unwrap()).to_string(), expected);
        }
    }
}
