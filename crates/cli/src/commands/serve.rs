//! `serve`: follow sources until stopped.

use edgewright_job::BuildSecrets;
use edgewright_process::Clock;
use edgewright_server::telemetry::{self, Format};
use edgewright_server::{Composition, DataFolder, ProcessTokens, Settings, StartError};
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
    let manager = Environment::read().service_manager();
    notify(manager.as_ref(), ServiceState::Ready);
    loop {
        tokio::select! {
            () = stop.next() => break,
            _ = reload.recv() => reload_settings(&composition, &secrets, args, global).await,
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

/// Reads the settings again. If they are invalid, the server keeps the ones that it has.
async fn reload_settings(
    composition: &Composition,
    secrets: &BuildSecrets,
    args: &ServeArgs,
    global: &Global,
) {
    let changes = match read(args, global) {
        Ok(settings) => {
            let changes = composition.reload(&settings).await.map_err(Failure::from);
            if changes.is_ok() {
                secrets.set(settings.build_secrets);
            }
            changes
        }
        Err(failure) => Err(failure),
    };
    match changes {
        Ok(changes) if changes.is_empty() => {
            tracing::info!("configuration reloaded; sources, sinks and targets are unchanged");
        }
        Ok(changes) => changes.iter().for_each(|change| tracing::info!(change, "configuration reloaded")),
        Err(error) => {
            tracing::error!(%error, "configuration reload failed; keeping the previous configuration");
        }
    }
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
