//! `serve`: follow sources until stopped.

use edgewright_job::BuildSecrets;
use edgewright_process::Clock;
use edgewright_server::settings::on_change::OnChange;
use edgewright_server::telemetry::{self, Format};
use edgewright_server::{Composition, DataFolder, ProcessTokens, Settings, StartError, WatchedFiles};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::executors::Executors;
use crate::args::{Global, LogFormat, ServeArgs};
use crate::exit::{End, Failure};
use crate::output;
use crate::settings::Environment;
use crate::systemd::{ServiceState, notify};

/// What `serve` logs by default.
const DEFAULT_FILTER: &str = "info";

/// Serves until a signal comes. A second one does not wait for jobs and responses to end.
pub(crate) async fn serve(args: &ServeArgs, global: &Global) -> Result<End, Failure> {
    start_logging(global, DEFAULT_FILTER)?;
    let settings = read(args, global)?;
    let environment = Environment::read();
    let mut files = WatchedFiles::new(environment.config_of_serve(args), &settings).await;
    let mut stop = Stop::listen()?;
    let mut reload = signal(SignalKind::hangup())
        .map_err(|error| Failure::unavailable("cannot handle signals", &error))?;
    let lock = DataFolder::new(&settings.data).lock()?;
    let executors = Executors::prepare(&settings, &lock).await?;
    let secrets = executors.secrets();
    let tokens = ProcessTokens::generate().map_err(StartError::Random)?;
    let make = |registry, tasks| executors.executor(registry, tasks);
    let composition = Composition::open(&settings, lock, make, tokens, Clock::system()).await?;
    composition.start()?;
    tracing::info!(
        server.url = composition.url(),
        server.local = %composition.local(),
        server.data = %settings.data.display(),
        sources = settings.sources.len(),
        "serving registry and API"
    );
    if settings.sources.is_empty() {
        tracing::warn!("no sources; name some with --source URL or in a settings file");
    }
    let manager = environment.service_manager();
    notify(manager.as_ref(), ServiceState::Ready);
    loop {
        tokio::select! {
            () = stop.next() => break,
            _ = reload.recv() => {}
            () = files.changed() => tracing::info!("files of the configuration changed"),
        }
        files.apply().await;
        if reload_settings(&composition, &secrets, (args, global), &mut files).await == Next::End {
            tracing::info!("ending, to be started again with the changed configuration");
            break;
        }
    }
    notify(manager.as_ref(), ServiceState::Stopping);
    tracing::info!("stopping; a second signal leaves at once");
    tokio::select! {
        () = composition.shutdown() => Ok(End::Good),
        () = stop.next() => Err(Failure::stopped("stopped before everything was closed; the next start cleans up")),
    }
}

fn read(args: &ServeArgs, global: &Global) -> Result<Settings, Failure> {
    let mut settings = Environment::read().serve(args, global.data.clone())?;
    settings.token_file = global.token_file.clone().or(settings.token_file);
    Ok(settings)
}

/// What the server does after a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Serve,
    End,
}

/// Reads the settings again. If they are invalid, the server keeps the ones that it has.
async fn reload_settings(
    composition: &Composition,
    secrets: &BuildSecrets,
    (args, global): (&ServeArgs, &Global),
    files: &mut WatchedFiles,
) -> Next {
    match apply(composition, secrets, (args, global), files).await {
        Ok(next) => next,
        Err(error) => {
            tracing::error!(%error, "configuration reload failed; keeping the previous configuration");
            Next::Serve
        }
    }
}

async fn apply(
    composition: &Composition,
    secrets: &BuildSecrets,
    (args, global): (&ServeArgs, &Global),
    files: &mut WatchedFiles,
) -> Result<Next, Failure> {
    let settings = read(args, global)?;
    // Also if it fails now: a file that is missing may come.
    files.watch(&settings).await;
    let reloaded = composition.reload(&settings).await?;
    let ends = settings.on_change == OnChange::Restart && !reloaded.restart.is_empty();
    secrets.set(settings.build_secrets);
    if reloaded.changes.is_empty() && reloaded.restart.is_empty() {
        tracing::info!("configuration reloaded; sources, sinks and targets are unchanged");
    }
    for change in reloaded.changes {
        tracing::info!(change, "configuration reloaded");
    }
    for setting in reloaded.restart {
        tracing::info!(change = format!("`{setting}` applies after a restart"), "configuration reloaded");
    }
    Ok(if ends { Next::End } else { Next::Serve })
}

/// Starts logging as the user asked.
pub(crate) fn start_logging(global: &Global, default: &str) -> Result<(), Failure> {
    let format = match global.log_format {
        LogFormat::Text => Format::Text { colour: output::is_coloured() },
        LogFormat::Json => Format::Json,
    };
    Ok(telemetry::start(global.log.as_deref().unwrap_or(default), format)?)
}

/// Signals that ask to stop: SIGINT and SIGTERM.
#[derive(Debug)]
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    asked: bool,
}

impl Stop {
    /// Replaces the default of these signals, which is to end the process at once.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let take = |kind| signal(kind).map_err(|error| Failure::unavailable("cannot handle signals", &error));
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
            asked: false,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.asked = true;
    }

    /// Whether one came, even if what it was meant to stop had already ended.
    pub(crate) const fn is_asked(&self) -> bool {
        self.asked
    }
}
