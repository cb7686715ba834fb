//! All parts of a running server, started and stopped in order. `serve` and `run` share it.

mod accept;
mod connections;
mod error;
mod listen;
mod maintenance;
mod open_files;
mod reload;
mod stream;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edgewright_api::RegistryAddress;
use edgewright_control::context::OperationContext;
use edgewright_control::devices::{Devices, Names};
use edgewright_control::hosting::Hosting;
use edgewright_control::outbound::replicate::Copies;
use edgewright_control::releases::tags::ChannelTags;
use edgewright_control::rollouts::Rollouts;
use edgewright_control::users::Users;
use edgewright_control::{Control, ControlError, ControlSettings, Parts, SourceSettings};
use edgewright_job::{Executor, JobRegistry};
use edgewright_model::names::{CommitId, ImageName, SourceName};
use edgewright_model::order::RegistryAccess;
use edgewright_model::run::{RunNumber, Trigger};
use edgewright_model::verdict::lane_inputs;
use edgewright_process::{Clock, ProcessContext, Tasks};
use edgewright_registry::{Registry, RegistrySettings};
use edgewright_source::Git;
use edgewright_store::Store;
use edgewright_store::sources::SourceId;

use crate::folder::{DataFolder, FolderError, FolderLock, Holder};
use crate::http::access::{Gate, Known};
use crate::http::registry::RegistryGate;
use crate::live::{Live, Shared};
use crate::metrics::Metrics;
use crate::reserve::Reserve;
use crate::settings::{OldSpelling, Settings};
use crate::tls::Certificate;
use crate::tokens::ProcessTokens;
use crate::views::{Serving, Views};
use listen::Listeners;
use maintenance::RegistryMaintenance;

pub use error::StartError;
pub use reload::Reloaded;

/// How long jobs, responses and writes may take to end at shutdown before they are aborted.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

/// Everything that runs on one data folder.
#[derive(Debug)]
pub struct Composition {
    /// Control: sources, runs, releases.
    pub control: Control,
    /// Documents for clients.
    pub views: Views,
    users: Users,
    sources: Vec<(SourceSettings, SourceId)>,
    settings: Settings,
    live: Shared,
    metrics: Metrics,
    git: Git,
    clock: Clock,
    address: RegistryAddress,
    certificate: Option<Certificate>,
    local: SocketAddr,
    secure_local: Option<SocketAddr>,
    ready: Arc<AtomicBool>,
    tasks: Tasks,
    registry: Registry,
    store: Store,
    // Dropped last: no other process may open the folder before all is closed.
    lock: FolderLock,
}

impl Composition {
    /// Opens everything in the locked data folder and serves HTTP. No source is polled and no run starts
    /// before [`Composition::start`]. `executor` makes the executor, given the registry as its jobs reach it
    /// (as the settings name it, or else at this server's listening address) and the tasks that a shutdown
    /// ends.
    pub async fn open(
        settings: &Settings,
        lock: FolderLock,
        executor: impl FnOnce(JobRegistry, Tasks) -> Arc<dyn Executor>,
        tokens: ProcessTokens,
        clock: Clock,
    ) -> Result<Self, StartError> {
        warn_of_settings(settings);
        let (folder, tasks) = (DataFolder::new(&settings.data), Tasks::new());
        let listeners = Listeners::bind(settings).await?;
        let Listeners { local, secure_local, .. } = listeners;
        let address = registry_address(settings, secure_local.unwrap_or(local));
        let live = Shared::new(Live::read(settings, &address)?);
        let io = |source| FolderError::Io { root: settings.data.clone(), source };
        lock.announce(holder(settings, local, &address)).map_err(io)?;

        let store = Store::open(&folder.database()).await?;
        let users = Users::open(store.clone(), clock.clone()).await?;
        let (names, rollouts, copies) = fleet(&store, &clock);
        let devices = names.devices.clone();
        let known = Known { tokens: &tokens, devices, users: users.clone(), clock: clock.clone() };
        let gate = Gate::new(live.clone(), known, address.clone());
        let registry = open_registry(&folder, names.clone(), &gate).await?;
        let access = own_access(local, &tokens);
        let hosting = Hosting::new(&access, Some(registry.clone()))?;
        let executor = executor(job_registry(settings, &access, &tokens), tasks.clone());
        let git = Git::open(&folder.sources().join("home"), ProcessContext::new(tasks.token().clone()))?;
        let serving = Some(Serving { registry: address.clone(), live: live.clone() });
        let lane_inputs = lane_inputs(|lane| executor.lane_profile(lane));
        let views = Views::new(store.for_api(), folder, clock.clone(), serving, lane_inputs);
        let parts = Parts {
            store: store.clone(),
            hosting,
            rollouts,
            tags: names.tags,
            devices: names.devices,
            copies,
            executor,
            git: git.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
        };
        let control = Control::new(control_settings(settings), parts).await?;
        let composition = Self {
            sources: follow(&control, &settings.sources).await?,
            control,
            users,
            views,
            settings: settings.clone(),
            live,
            metrics: Metrics::default(),
            git,
            clock,
            address,
            certificate: listeners.certificate(),
            local,
            secure_local,
            ready: Arc::new(AtomicBool::new(false)),
            tasks,
            registry,
            store,
            lock,
        };
        composition.count_events();
        listeners.serve(&composition.router(gate), &composition.tasks, open_files::raise_limit());
        Ok(composition)
    }

    /// `HOST:PORT` of registry and API for clients.
    pub fn address(&self) -> &str {
        &self.address.host
    }

    /// The URL of registry and API for clients.
    pub fn url(&self) -> String {
        self.address.url()
    }

    /// The address of the plain HTTP listener, as clients on this machine reach it.
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Starts the reconcilers: they poll sources, resume open runs, send events and copy to targets.
    #[expect(clippy::result_large_err, reason = "called once, at start")]
    pub fn start(&self) -> Result<(), StartError> {
        self.control.start();
        let (registry, store, clock) = (self.registry.clone(), self.store.clone(), self.clock.clone());
        let reserve = Reserve::new(&self.settings.data);
        self.control.reconcile(Arc::new(RegistryMaintenance { registry, store, clock, reserve }));
        let live = self.live.now();
        self.control.notify(&live.sinks).map_err(StartError::Sinks)?;
        self.control.deliver(&live.targets)?;
        self.ready.store(true, Ordering::Release);
        tracing::info!(server.url = format!("http://{}", self.local), log.time_zone = "UTC", "listening");
        if let Some(local) = self.secure_local {
            tracing::info!(server.url = format!("https://{local}"), "listening with TLS");
        }
        Ok(())
    }

    /// Queues a run of the newest commit of a configured source's branch, even if that commit was run before.
    pub async fn queue(
        &self,
        context: &OperationContext,
        source: &SourceName,
        trigger: Trigger,
    ) -> Result<RunNumber, StartError> {
        let (id, branch, commit) = self.newest(source).await?;
        Ok(self.control.queue_run(context, id, &branch, &commit, trigger).await?)
    }

    /// Queues an update check of a configured source's newest commit, for some images or (if none is given)
    /// all.
    pub async fn queue_update(
        &self,
        context: &OperationContext,
        source: &SourceName,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, StartError> {
        let (id, branch, commit) = self.newest(source).await?;
        Ok(self.control.queue_update_check(context, id, &branch, &commit, images).await?)
    }

    /// The newest commit of a configured source's branch.
    async fn newest(&self, source: &SourceName) -> Result<(SourceId, String, CommitId), StartError> {
        let found = self.sources.iter().find(|(settings, _)| settings.name == *source);
        let Some((settings, id)) = found else { return Err(ControlError::UnknownSource.into()) };
        let refs = self.git.poll(&settings.remote).await?;
        let (branch, commit) = refs.branch(&settings.remote, settings.branch.as_deref())?;
        // Channels follow the default branch. Without a poller, nothing else records which one that is.
        let default = settings.branch.as_deref().or(refs.default_branch.as_deref());
        self.store.note_poll(*id, default, None, self.clock.now()).await?;
        Ok((*id, branch, commit))
    }

    /// Stops everything in order: no new work, jobs end, responses end, databases close, the lock is
    /// released.
    pub async fn shutdown(self) {
        self.ready.store(false, Ordering::Release);
        if let Err(stuck) = self.tasks.shutdown(SHUTDOWN_LIMIT).await {
            tracing::warn!(error = %stuck, "shutdown took too long; tasks were aborted");
        }
        self.registry.close().await;
        self.store.close().await;
        let reserve = Reserve::new(&self.settings.data);
        // It is only a reserve: a panic of it must not keep the lock.
        drop(tokio::task::spawn_blocking(move || reserve.set_aside_rest()).await);
        drop(self.lock);
    }
}

/// What channels, rollouts and devices are answered with.
fn fleet(store: &Store, clock: &Clock) -> (Names, Rollouts, Copies) {
    let (tags, copies) = (ChannelTags::default(), Copies::default());
    let rollouts = Rollouts::new(store.clone(), clock.clone(), tags.clone());
    let devices = Devices::new(store.clone(), clock.clone(), Arc::new(rollouts.clone()));
    let external = Arc::new(copies.clone());
    (Names { tags, devices, external }, rollouts, copies)
}

async fn open_registry(folder: &DataFolder, names: Names, gate: &Gate) -> Result<Registry, StartError> {
    let settings = RegistrySettings::new(folder.registry());
    Ok(Registry::open(settings, Arc::new(names), Arc::new(RegistryGate(gate.clone()))).await?)
}

/// Warns of old spellings, and of sources that may use no build secret: until there was more than one source,
/// none needed a grant.
fn warn_of_settings(settings: &Settings) {
    settings.old_spellings.iter().for_each(OldSpelling::warn);
    for name in settings.without_secrets() {
        tracing::warn!(
            source.name = %name,
            "the source may use no build secret; list those that it needs: `secrets = [\"ID\"]` in its [[source]]"
        );
    }
}

/// How clients reach the registry: as the settings name it, or else at a listener.
fn registry_address(settings: &Settings, listener: SocketAddr) -> RegistryAddress {
    let host = settings.address.clone().unwrap_or_else(|| listener.to_string());
    RegistryAddress { host, tls: settings.is_tls }
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

/// Control's settings: its defaults, except what the server's settings set.
fn control_settings(settings: &Settings) -> ControlSettings {
    let mut control = ControlSettings::new(settings.data.clone());
    control.watching = settings.updates.clone();
    control.keep = settings.keep.clone();
    control.job_within = settings.job_timeout.unwrap_or(control.job_within);
    control.lane_within = settings.lane_timeout.unwrap_or(control.lane_within);
    control.external_within = settings.external_timeout.unwrap_or(control.external_within);
    control
}

/// Control's own access to the registry.
fn own_access(local: SocketAddr, tokens: &ProcessTokens) -> RegistryAccess {
    let token = tokens.system.reveal().to_owned();
    RegistryAccess { url: format!("http://{local}"), token: Some(token) }
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

/// The registry as jobs reach it, with one token for each job.
fn job_registry(settings: &Settings, own: &RegistryAccess, tokens: &ProcessTokens) -> JobRegistry {
    let url = settings.job_registry.clone().unwrap_or_else(|| own.url.clone());
    JobRegistry { url, credentials: Arc::new(tokens.jobs.clone()) }
}
